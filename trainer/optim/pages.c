// Pages of the sums: sent, added, measured, and turned into an AdamW update.
#include <math.h>
#include <string.h>

#include "trainer/optim/sums_internal.h"

static int is_embedding_page(const struct rmj_sums *s, uint32_t page)
{
    const struct rmj_tensor *embedding = &s->layout->tensors[s->layout->embedding];
    return !embedding->frozen && s->layout->pages[page].offset < embedding->element_count;
}

// Rows of the step inside an embedding page: [*first, return) of row_tokens.
static uint32_t page_rows(const struct rmj_sums *s, uint32_t page, uint32_t *first)
{
    const struct rmj_page *p = &s->layout->pages[page];
    uint64_t start = p->offset / s->row_width, end = (p->offset + p->element_count) / s->row_width;
    uint32_t at = 0;
    while (at < s->row_count && s->row_tokens[at] < start) {
        at++;
    }
    *first = at;
    while (at < s->row_count && s->row_tokens[at] < end) {
        at++;
    }
    return at;
}

struct block_range {
    uint32_t first, end;
};

static struct block_range page_blocks(const struct rmj_sums *s, uint32_t page)
{
    const struct rmj_page *p = &s->layout->pages[page];
    return (struct block_range){.first = (uint32_t)(p->offset / RMJ_BLOCK_ELEMENTS),
                                .end = (uint32_t)((p->offset + p->element_count) / RMJ_BLOCK_ELEMENTS)};
}

static int is_body(const struct rmj_sums *s, const struct rmj_sum_block *block)
{
    return s->layout->tensors[block->tensor].sum_kind == RMJ_SUM_BODY;
}

static size_t block_bytes(const struct rmj_sums *s, const struct rmj_sum_block *block)
{
    return RMJ_BLOCK_ELEMENTS * (is_body(s, block) ? sizeof(int32_t) : sizeof(int64_t));
}

size_t rmj_sums_page_bytes(const struct rmj_sums *s, uint32_t page)
{
    if (is_embedding_page(s, page)) {
        uint32_t first, end = page_rows(s, page, &first);
        return (size_t)(end - first) * s->row_width * sizeof(int64_t);
    }
    struct block_range range = page_blocks(s, page);
    size_t size = 0;
    for (uint32_t b = range.first; b < range.end; b++) {
        size += block_bytes(s, &s->blocks[b]);
    }
    return size;
}

void rmj_sums_page_export(const struct rmj_sums *s, uint32_t page, void *bytes)
{
    if (is_embedding_page(s, page)) {
        uint32_t first;
        page_rows(s, page, &first);
        memcpy(bytes, s->rows + (size_t)first * s->row_width, rmj_sums_page_bytes(s, page));
        return;
    }
    struct block_range range = page_blocks(s, page);
    char *out = bytes;
    for (uint32_t b = range.first; b < range.end; b++) {
        const struct rmj_sum_block *block = &s->blocks[b];
        size_t size = block_bytes(s, block);
        memcpy(out, is_body(s, block) ? (const void *)(s->body + block->sum) : (const void *)(s->wide + block->sum),
               size);
        out += size;
    }
}

// Sums cannot wrap (README.md, rule 1), so the addition is exact. The bytes may have any alignment.
static void add_int32(int32_t *sum, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int32_t value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)value);
    }
}

static void add_int64(int64_t *sum, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        memcpy(&value, bytes + i * sizeof value, sizeof value);
        sum[i] = (int64_t)((uint64_t)sum[i] + (uint64_t)value);
    }
}

void rmj_sums_page_add(struct rmj_sums *s, uint32_t page, const void *bytes)
{
    if (is_embedding_page(s, page)) {
        uint32_t first, end = page_rows(s, page, &first);
        add_int64(s->rows + (size_t)first * s->row_width, bytes, (size_t)(end - first) * s->row_width);
        return;
    }
    struct block_range range = page_blocks(s, page);
    const char *in = bytes;
    for (uint32_t b = range.first; b < range.end; b++) {
        const struct rmj_sum_block *block = &s->blocks[b];
        if (is_body(s, block)) {
            add_int32(s->body + block->sum, in, RMJ_BLOCK_ELEMENTS);
        } else {
            add_int64(s->wide + block->sum, in, RMJ_BLOCK_ELEMENTS);
        }
        in += block_bytes(s, block);
    }
}

// What an integer of the exponent's blocks stands for; 0 where nothing was ever seen.
static double unit(const struct rmj_sums *s, uint32_t exponent, int bits)
{
    return s->exponents[exponent] == RMJ_EXPONENT_ZERO ? 0 : rmj_power_of_two(-rmj_sums_shift(s, exponent, bits));
}

double rmj_sums_page_square(const struct rmj_sums *s, uint32_t page)
{
    if (is_embedding_page(s, page)) {
        uint32_t first, end = page_rows(s, page, &first);
        return rmj_block_square_int64(s->rows + (size_t)first * s->row_width, (size_t)(end - first) * s->row_width,
                                      unit(s, s->exponent_count - 1, 63));
    }
    struct block_range range = page_blocks(s, page);
    double sum = 0;
    for (uint32_t b = range.first; b < range.end; b++) {
        const struct rmj_sum_block *block = &s->blocks[b];
        if (is_body(s, block)) {
            sum += rmj_block_square_int32(s->body + block->sum, RMJ_BLOCK_ELEMENTS, unit(s, block->exponent, 31));
        } else {
            sum += rmj_block_square_int64(s->wide + block->sum, RMJ_BLOCK_ELEMENTS, unit(s, block->exponent, 63));
        }
    }
    return sum;
}

static double power(double base, uint32_t exponent)
{
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        result *= (exponent & 1) != 0 ? base : 1;
        base *= base;
    }
    return result;
}

static struct rmj_block_adamw block_adamw(const struct rmj_adamw *a)
{
    return (struct rmj_block_adamw){.decay = (float)(1 - a->learning_rate * a->weight_decay),
                                    .beta2 = (float)a->beta2,
                                    .one_minus_beta1 = (float)(1 - a->beta1),
                                    .one_minus_beta2 = (float)(1 - a->beta2),
                                    .step_size = (float)(a->learning_rate / (1 - power(a->beta1, a->step))),
                                    .root_correction = (float)sqrt(1 - power(a->beta2, a->step)),
                                    .epsilon = (float)a->epsilon};
}

// Rows that do not occur in the step have no gradient but decay and go on moving by their moments like all others.
static void update_rows(const struct rmj_sums *s, uint32_t page, const struct rmj_block_adamw *adamw, double scale,
                        float *w, float *m, float *v)
{
    const struct rmj_page *p = &s->layout->pages[page];
    uint64_t first_row = p->offset / s->row_width, row_end = s->layout->tensors[s->layout->embedding].shape[0];
    uint64_t end = (p->offset + p->element_count) / s->row_width;
    end = end < row_end ? end : row_end; // the last page ends in padding
    uint32_t at;
    page_rows(s, page, &at);
    for (uint64_t row = first_row; row < end; row++) {
        size_t offset = (size_t)(row - first_row) * s->row_width;
        const int64_t *sum = NULL;
        if (at < s->row_count && s->row_tokens[at] == row) {
            sum = s->rows + (size_t)at++ * s->row_width;
        }
        rmj_block_adamw_int64(adamw, sum, scale, w + offset, m + offset, v + offset, s->row_width);
    }
}

void rmj_adamw_page(const struct rmj_sums *s, uint32_t page, const struct rmj_adamw *options, float *w, float *m,
                    float *v)
{
    struct rmj_block_adamw adamw = block_adamw(options);
    if (is_embedding_page(s, page)) {
        update_rows(s, page, &adamw, unit(s, s->exponent_count - 1, 63) * options->gradient_scale, w, m, v);
        return;
    }
    struct block_range range = page_blocks(s, page);
    for (uint32_t b = range.first; b < range.end; b++) {
        const struct rmj_sum_block *block = &s->blocks[b];
        size_t at = (size_t)(b - range.first) * RMJ_BLOCK_ELEMENTS;
        double scale = unit(s, block->exponent, is_body(s, block) ? 31 : 63) * options->gradient_scale;
        if (is_body(s, block)) {
            rmj_block_adamw_int32(&adamw, s->body + block->sum, scale, w + at, m + at, v + at, RMJ_BLOCK_ELEMENTS);
        } else {
            rmj_block_adamw_int64(&adamw, s->wide + block->sum, scale, w + at, m + at, v + at, RMJ_BLOCK_ELEMENTS);
        }
    }
}
