// Integer gradient sums; the rules are in README.md.
//
//   blocks of the layout, 1,024 elements each, embedding left out:   int32 (body) or int64 (norms, biases, head)
//   rows of the embedding that occur in the step, listed by the plan: int64 [U, C]
//   exponents: one a body block, in block order; then one a wide tensor, in tensor order; the embedding's is the last
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "trainer/optim/sums_internal.h"

// Values under 2^-90 are rounded under the exponent -90: their scale stays a normal float32, and nothing that small
// moves a weight.
#define EXPONENT_MIN (-90)
#define ROWS_PER_CUT 16u

static uint32_t block_count(const struct rmj_tensor *tensor)
{
    return (uint32_t)((tensor->element_count + RMJ_BLOCK_ELEMENTS - 1) / RMJ_BLOCK_ELEMENTS);
}

// Counts of what the layout needs.
struct shape {
    uint32_t body_blocks, wide_blocks, wide_tensors, blocks;
};

static struct shape shape_of(const struct rmj_layout *layout)
{
    struct shape shape = {0};
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &layout->tensors[i];
        if (tensor->frozen) {
            continue;
        }
        if (tensor->sum_kind == RMJ_SUM_BODY) {
            shape.body_blocks += block_count(tensor);
        } else if (tensor->sum_kind == RMJ_SUM_WIDE) {
            shape.wide_blocks += block_count(tensor);
            shape.wide_tensors++;
        }
    }
    shape.blocks = (uint32_t)(layout->element_count / RMJ_BLOCK_ELEMENTS);
    return shape;
}

static void take_all(struct rmj_sums *s, struct rmj_arena *arena, size_t *size)
{
    struct shape shape = shape_of(s->layout);
    const struct {
        void **at;
        size_t size;
    } parts[] = {
        {(void **)&s->blocks, shape.blocks * sizeof *s->blocks},
        {(void **)&s->tensor_exponents, s->layout->tensor_count * sizeof *s->tensor_exponents},
        {(void **)&s->body, (size_t)shape.body_blocks * RMJ_BLOCK_ELEMENTS * sizeof *s->body},
        {(void **)&s->wide, (size_t)shape.wide_blocks * RMJ_BLOCK_ELEMENTS * sizeof *s->wide},
        {(void **)&s->rows, (size_t)s->row_count_max * s->row_width * sizeof *s->rows},
        {(void **)&s->row_tokens, (size_t)s->row_count_max * sizeof *s->row_tokens},
        {(void **)&s->row_targets, (size_t)s->row_count_max * sizeof *s->row_targets},
        {(void **)&s->exponents, s->exponent_count * sizeof *s->exponents},
        {(void **)&s->observed, s->exponent_count * sizeof *s->observed},
        {(void **)&s->cut_extents, s->cut_count_max * sizeof *s->cut_extents},
    };
    for (size_t i = 0; i < RMJ_COUNT(parts); i++) {
        *size += rmj_arena_need(parts[i].size);
        if (arena != NULL) {
            *parts[i].at = rmj_arena_take(arena, parts[i].size);
        }
    }
}

static struct rmj_sums make_sums(const struct rmj_sums_options *o)
{
    struct shape shape = shape_of(o->layout);
    uint32_t bits = 0;
    while ((1u << bits) < o->packs_per_step_bound) {
        bits++;
    }
    RMJ_ASSERT(o->packs_per_step_bound == 1u << bits && bits <= RMJ_PACK_BITS_MAX);
    // Cuts of one tensor, or of the embedding's rows in one pack.
    const struct rmj_tensor *embedding = &o->layout->tensors[o->layout->embedding];
    uint32_t row_count_max = embedding->frozen ? 0 : o->embedding_row_count_max;
    uint32_t cut_count_max = row_count_max / ROWS_PER_CUT + 1;
    for (uint32_t i = 0; i < o->layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &o->layout->tensors[i];
        uint32_t blocks = i != o->layout->embedding && !tensor->frozen ? block_count(tensor) : 0;
        cut_count_max = blocks > cut_count_max ? blocks : cut_count_max;
    }
    return (struct rmj_sums){.layout = o->layout,
                             .pool = o->pool,
                             .pack_bits = (int)bits,
                             .row_count_max = row_count_max,
                             .row_width = embedding->shape[1],
                             .exponent_count = shape.body_blocks + shape.wide_tensors + (embedding->frozen ? 0 : 1),
                             .cut_count_max = cut_count_max};
}

size_t rmj_sums_memory(const struct rmj_sums_options *options)
{
    struct rmj_sums sums = make_sums(options);
    size_t size = 0;
    take_all(&sums, NULL, &size);
    return size;
}

static void fill_blocks(struct rmj_sums *s)
{
    const struct rmj_layout *layout = s->layout;
    uint32_t body = 0, wide = 0, wide_tensor = shape_of(layout).body_blocks;
    for (uint32_t t = 0; t < layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &layout->tensors[t];
        if (tensor->frozen) {
            continue;
        }
        uint32_t first = (uint32_t)(tensor->offset / RMJ_BLOCK_ELEMENTS);
        RMJ_ASSERT(tensor->offset % RMJ_BLOCK_ELEMENTS == 0);
        s->tensor_exponents[t] = tensor->sum_kind == RMJ_SUM_BODY   ? body
                                 : tensor->sum_kind == RMJ_SUM_WIDE ? wide_tensor++
                                                                    : s->exponent_count - 1;
        for (uint32_t b = 0; b < block_count(tensor); b++) {
            struct rmj_sum_block *block = &s->blocks[first + b];
            block->tensor = t;
            block->exponent = s->tensor_exponents[t] + (tensor->sum_kind == RMJ_SUM_BODY ? b : 0);
            if (tensor->sum_kind == RMJ_SUM_BODY) {
                block->sum = (size_t)body++ * RMJ_BLOCK_ELEMENTS;
            } else if (tensor->sum_kind == RMJ_SUM_WIDE) {
                block->sum = (size_t)wide++ * RMJ_BLOCK_ELEMENTS;
            }
        }
    }
    s->body_count = (size_t)body * RMJ_BLOCK_ELEMENTS;
    s->wide_count = (size_t)wide * RMJ_BLOCK_ELEMENTS;
}

enum rmj_status rmj_sums_create(struct rmj_sums **out, const struct rmj_sums_options *options, struct rmj_error *err)
{
    RMJ_TRY(rmj_cpu_check(err));
    struct rmj_sums *s = malloc(sizeof *s);
    if (s == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for gradient sums");
    }
    *s = make_sums(options);
    enum rmj_status status = rmj_arena_create(&s->arena, "gradient sums", rmj_sums_memory(options), err);
    if (status != RMJ_OK) {
        free(s);
        return status;
    }
    size_t size = 0;
    take_all(s, &s->arena, &size);
    fill_blocks(s);
    *out = s;
    return RMJ_OK;
}

void rmj_sums_destroy(struct rmj_sums *s)
{
    if (s == NULL) {
        return;
    }
    rmj_arena_destroy(&s->arena);
    free(s);
}

uint32_t rmj_sums_exponent_count(const struct rmj_sums *s)
{
    return s->exponent_count;
}

static void zero_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    struct rmj_sums *s = context;
    size_t step = (size_t)RMJ_BLOCK_ELEMENTS * 64;
    size_t start = index * step, end = start + step < s->body_count ? start + step : s->body_count;
    memset(s->body + start, 0, (end - start) * sizeof *s->body);
}

void rmj_sums_begin(struct rmj_sums *s, const int16_t *exponents, int headroom_bits, const uint32_t *embedding_rows,
                    uint32_t embedding_row_count)
{
    if (s->layout->tensors[s->layout->embedding].frozen) {
        embedding_row_count = 0;
    }
    RMJ_ASSERT(embedding_row_count <= s->row_count_max);
    size_t step = (size_t)RMJ_BLOCK_ELEMENTS * 64;
    rmj_pool_run(s->pool, (s->body_count + step - 1) / step, zero_cut, s);
    memset(s->wide, 0, s->wide_count * sizeof *s->wide);
    memset(s->rows, 0, (size_t)embedding_row_count * s->row_width * sizeof *s->rows);
    memcpy(s->row_tokens, embedding_rows, embedding_row_count * sizeof *s->row_tokens);
    s->row_count = embedding_row_count;
    s->not_finite = 0;
    for (uint32_t i = 0; i < s->exponent_count; i++) {
        s->exponents[i] = RMJ_EXPONENT_ZERO;
        if (exponents[i] != RMJ_EXPONENT_ZERO) {
            int held = exponents[i] > EXPONENT_MIN ? exponents[i] : EXPONENT_MIN;
            s->exponents[i] = (int16_t)(held + headroom_bits);
        }
        s->observed[i] = RMJ_EXPONENT_ZERO;
    }
}

double rmj_power_of_two(int exponent)
{
    RMJ_ASSERT(exponent > -1023 && exponent < 1024);
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

int rmj_sums_shift(const struct rmj_sums *s, uint32_t exponent, int bits)
{
    return bits - s->pack_bits - s->exponents[exponent];
}

// The smallest e with magnitude < 2^e, from the bits of a non-negative finite float.
static int16_t exponent_of(float magnitude)
{
    uint32_t bits;
    memcpy(&bits, &magnitude, sizeof bits);
    if (bits == 0) {
        return RMJ_EXPONENT_ZERO;
    }
    int exponent = (int)(bits >> 23) - 126; // of a normal number; a subnormal's is under the floor anyway
    return (int16_t)(exponent > EXPONENT_MIN ? exponent : EXPONENT_MIN);
}

static void observe(struct rmj_sums *s, uint32_t exponent, int16_t seen)
{
    if (seen > s->observed[exponent]) {
        s->observed[exponent] = seen;
    }
}

struct adding {
    struct rmj_sums *s;
    const struct rmj_tensor *tensor;
    const float *gradient;
    uint32_t first_block;
    uint32_t row_count;
};

static size_t cut_size(size_t index, size_t step, size_t count)
{
    return (index + 1) * step < count ? step : count - index * step;
}

static void add_body_block(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct adding *a = context;
    struct rmj_sums *s = a->s;
    const struct rmj_sum_block *block = &s->blocks[a->first_block + index];
    const float *x = a->gradient + index * RMJ_BLOCK_ELEMENTS;
    size_t count = cut_size(index, RMJ_BLOCK_ELEMENTS, a->tensor->element_count);
    s->cut_extents[index] = rmj_block_extent(x, count);
    if (s->exponents[block->exponent] != RMJ_EXPONENT_ZERO) {
        float scale = (float)rmj_power_of_two(rmj_sums_shift(s, block->exponent, 31));
        int32_t limit = (int32_t)((1u << (31 - s->pack_bits)) - 1);
        rmj_block_add_int32(s->body + block->sum, x, count, scale, limit);
    }
}

static void add_int64(struct rmj_sums *s, uint32_t exponent, int64_t *sum, const float *x, size_t count)
{
    if (s->exponents[exponent] != RMJ_EXPONENT_ZERO) {
        rmj_block_add_int64(sum, x, count, rmj_power_of_two(rmj_sums_shift(s, exponent, 63)),
                            rmj_power_of_two(63 - s->pack_bits));
    }
}

static void add_wide_block(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct adding *a = context;
    struct rmj_sums *s = a->s;
    const struct rmj_sum_block *block = &s->blocks[a->first_block + index];
    const float *x = a->gradient + index * RMJ_BLOCK_ELEMENTS;
    size_t count = cut_size(index, RMJ_BLOCK_ELEMENTS, a->tensor->element_count);
    s->cut_extents[index] = rmj_block_extent(x, count);
    add_int64(s, block->exponent, s->wide + block->sum, x, count);
}

static void add_rows_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct adding *a = context;
    struct rmj_sums *s = a->s;
    size_t first = index * ROWS_PER_CUT, count = cut_size(index, ROWS_PER_CUT, a->row_count), width = s->row_width;
    s->cut_extents[index] = rmj_block_extent(a->gradient + first * width, count * width);
    for (size_t r = first; r < first + count; r++) {
        add_int64(s, s->exponent_count - 1, s->rows + s->row_targets[r] * width, a->gradient + r * width, width);
    }
}

// Both lists ascend, so one walk finds every row of the pack among the step's.
static void find_targets(struct rmj_sums *s, const uint32_t *rows, uint32_t row_count)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        while (at < s->row_count && s->row_tokens[at] < rows[i]) {
            at++;
        }
        RMJ_ASSERT(at < s->row_count && s->row_tokens[at] == rows[i]);
        s->row_targets[i] = at;
    }
}

static void take_gradient(void *context, uint32_t tensor_index, const float *gradient, const uint32_t *rows,
                          uint32_t row_count)
{
    struct rmj_sums *s = context;
    const struct rmj_tensor *tensor = &s->layout->tensors[tensor_index];
    RMJ_ASSERT(!tensor->frozen);
    struct adding adding = {.s = s,
                            .tensor = tensor,
                            .gradient = gradient,
                            .first_block = (uint32_t)(tensor->offset / RMJ_BLOCK_ELEMENTS),
                            .row_count = row_count};
    size_t cuts = block_count(tensor);
    if (tensor->sum_kind == RMJ_SUM_EMBEDDING) {
        find_targets(s, rows, row_count);
        cuts = (row_count + ROWS_PER_CUT - 1) / ROWS_PER_CUT;
        rmj_pool_run(s->pool, cuts, add_rows_cut, &adding);
    } else {
        rmj_pool_run(s->pool, cuts, tensor->sum_kind == RMJ_SUM_BODY ? add_body_block : add_wide_block, &adding);
    }
    uint32_t step = tensor->sum_kind == RMJ_SUM_BODY ? 1 : 0;
    for (size_t i = 0; i < cuts; i++) {
        observe(s, s->tensor_exponents[tensor_index] + step * (uint32_t)i, exponent_of(s->cut_extents[i].magnitude));
        s->not_finite |= !s->cut_extents[i].finite;
    }
}

struct rmj_gradient_sink rmj_sums_sink(struct rmj_sums *s)
{
    return (struct rmj_gradient_sink){.context = s, .take = take_gradient};
}

const int16_t *rmj_sums_observed(const struct rmj_sums *s)
{
    return s->observed;
}

int rmj_sums_not_finite(const struct rmj_sums *s)
{
    return s->not_finite;
}

int rmj_sums_overflowed(const struct rmj_sums *s, const int16_t *observed)
{
    // RMJ_EXPONENT_ZERO is the smallest value, so a block that was all zero is over as soon as anything is seen in it.
    for (uint32_t i = 0; i < s->exponent_count; i++) {
        if (observed[i] > s->exponents[i]) {
            return 1;
        }
    }
    return 0;
}

void rmj_exponents_advance(int16_t *exponents, const int16_t *observed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int16_t decayed = exponents[i] > EXPONENT_MIN ? (int16_t)(exponents[i] - 1) : exponents[i];
        exponents[i] = observed[i] > decayed ? observed[i] : decayed;
    }
}
