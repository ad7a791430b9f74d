// Attention over spans. A span's query rows are taken in tiles; a tile's keys are the span's prefix and its own rows up
// to the tile's end, less those that the window hides from every row of the tile: their scores are never computed.
// Scores live in a per-thread [tile, keys] matrix, so nothing of size T x T is ever stored; backward computes them
// again from the saved maximum and reciprocal sum of each row.
//
//   key position    0 ... first_key ...... position ... position + count - 1
//   tile row 0        hidden [begin ...... end)                                  begin: where the window starts
//   tile row 1        hidden   [begin ........ end)                              end:   after the row itself
//
// Units that the pool shares out do not share output: (item, head) forward; (item, key/value head) backward, where a
// unit walks its item's spans in order, so that the gradients of a prefix's keys are summed in one order.
#include <math.h>
#include <string.h>

#include "kernels/cpu/context.h"
#include "kernels/cpu/vector.h"

struct attention_work {
    struct rmj_cpu *cpu;
    const struct rmj_attention *at;
    size_t unit_count; // units after these clear the rows that belong to no span
};

// One tile: query rows [row, row + count) of a span, and its keys in one or two runs of rows (a first branch follows
// its prefix, so the two are one run).
struct tile {
    size_t row, count, head;
    size_t position;  // of the first query row; a prefix's keys come before its branch's
    size_t first_key; // position of the first key
    size_t keys;
    size_t run_count;
    struct {
        size_t first_row, count;
    } runs[2];
};

// First of the keys that a query at `position` sees.
static size_t window_start(const struct rmj_attention *at, size_t position)
{
    return at->window != 0 && position + 1 > at->window ? position + 1 - at->window : 0;
}

static void add_run(struct tile *tile, size_t first_row, size_t count)
{
    tile->runs[tile->run_count].first_row = first_row;
    tile->runs[tile->run_count++].count = count;
}

static struct tile make_tile(const struct rmj_attention *at, const struct rmj_span *span, size_t index, size_t head)
{
    size_t start = index * RMJ_CPU_QUERY_ROWS, end = rmj_cpu_cut_end(index, RMJ_CPU_QUERY_ROWS, span->count);
    size_t prefix = span->prefix_count;
    struct tile tile = {.row = span->first_row + start, .count = end - start, .head = head, .position = prefix + start};
    tile.first_key = window_start(at, tile.position);
    tile.keys = prefix + end - tile.first_key;
    if (tile.first_key >= prefix) {
        add_run(&tile, span->first_row + (tile.first_key - prefix), tile.keys);
    } else if (span->prefix_row + prefix == span->first_row) {
        add_run(&tile, span->prefix_row + tile.first_key, tile.keys);
    } else {
        add_run(&tile, span->prefix_row + tile.first_key, prefix - tile.first_key);
        add_run(&tile, span->first_row, end);
    }
    return tile;
}

// Columns [begin, end) of the tile are what its row i sees.
struct range {
    size_t begin, end;
};

static struct range row_range(const struct rmj_attention *at, const struct tile *tile, size_t i)
{
    size_t position = tile->position + i;
    size_t start = window_start(at, position);
    return (struct range){start - tile->first_key, position + 1 - tile->first_key};
}

static size_t query_offset(const struct rmj_attention *at, size_t row, size_t head)
{
    return (row * at->head_count + head) * at->head_width;
}

static size_t key_offset(const struct rmj_attention *at, size_t row, size_t head)
{
    size_t group = at->head_count / at->kv_head_count;
    return (row * at->kv_head_count + head / group) * at->head_width;
}

// out[count, keys] = scale * rows rows^T: queries by keys, or output gradients by values.
static void rows_by_keys(const struct rmj_attention *at, const struct tile *tile, const float *queries,
                         const float *keys, float scale, float *out)
{
    size_t q_stride = (size_t)at->head_count * at->head_width, k_stride = (size_t)at->kv_head_count * at->head_width;
    size_t column = 0;
    for (size_t i = 0; i < tile->run_count; i++) {
        rmj_cpu_sgemm('N', 'T', tile->count, tile->runs[i].count, at->head_width, scale,
                      queries + query_offset(at, tile->row, tile->head), q_stride,
                      keys + key_offset(at, tile->runs[i].first_row, tile->head), k_stride, 0, out + column,
                      tile->keys);
        column += tile->runs[i].count;
    }
}

// out[count, D] = weights[count, keys] values: the output, or gradients by query.
static void weigh_keys(const struct rmj_attention *at, const struct tile *tile, const float *weights,
                       const float *values, float *out)
{
    size_t q_stride = (size_t)at->head_count * at->head_width, k_stride = (size_t)at->kv_head_count * at->head_width;
    size_t column = 0;
    for (size_t i = 0; i < tile->run_count; i++) {
        rmj_cpu_sgemm('N', 'N', tile->count, at->head_width, tile->runs[i].count, 1, weights + column, tile->keys,
                      values + key_offset(at, tile->runs[i].first_row, tile->head), k_stride, i > 0 ? 1 : 0,
                      out + query_offset(at, tile->row, tile->head), q_stride);
        column += tile->runs[i].count;
    }
}

// out[keys, D] += weights^T rows: gradients by key or value.
static void weigh_rows(const struct rmj_attention *at, const struct tile *tile, const float *weights, const float *rows,
                       float *out)
{
    size_t q_stride = (size_t)at->head_count * at->head_width, k_stride = (size_t)at->kv_head_count * at->head_width;
    size_t column = 0;
    for (size_t i = 0; i < tile->run_count; i++) {
        rmj_cpu_sgemm('T', 'N', tile->runs[i].count, at->head_width, tile->count, 1, weights + column, tile->keys,
                      rows + query_offset(at, tile->row, tile->head), q_stride, 1,
                      out + key_offset(at, tile->runs[i].first_row, tile->head), k_stride);
        column += tile->runs[i].count;
    }
}

static float row_maximum(const float *row, size_t count)
{
    __m256 most = _mm256_set1_ps(-HUGE_VALF);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        most = _mm256_max_ps(most, _mm256_loadu_ps(row + i));
    }
    float lanes[8];
    _mm256_storeu_ps(lanes, most);
    float result = lanes[0];
    for (size_t l = 1; l < 8; l++) {
        result = lanes[l] > result ? lanes[l] : result;
    }
    for (; i < count; i++) {
        result = row[i] > result ? row[i] : result;
    }
    return result;
}

// row = cap * tanh(row / cap) (Gemma Team 2024, section 2: logit soft-capping).
static void cap_row(float *row, size_t count, float cap)
{
    __m256 caps = _mm256_set1_ps(cap);
    for (size_t i = 0; i < count; i += 8) {
        __m256i mask = rmj_vector_mask(count - i < 8 ? count - i : 8);
        __m256 t = rmj_vector_tanh(_mm256_div_ps(_mm256_maskload_ps(row + i, mask), caps));
        _mm256_maskstore_ps(row + i, mask, _mm256_mul_ps(caps, t));
    }
}

// row = exp(row - maximum) * factor; returns the sum.
static float exponentiate(float *row, size_t count, float maximum, float factor)
{
    __m256 sum = _mm256_setzero_ps(), shift = _mm256_set1_ps(maximum), times = _mm256_set1_ps(factor);
    for (size_t i = 0; i < count; i += 8) {
        __m256i mask = rmj_vector_mask(count - i < 8 ? count - i : 8);
        __m256 e = rmj_vector_exp(_mm256_sub_ps(_mm256_maskload_ps(row + i, mask), shift));
        e = _mm256_and_ps(_mm256_mul_ps(e, times), _mm256_castsi256_ps(mask));
        _mm256_maskstore_ps(row + i, mask, e);
        sum = _mm256_add_ps(sum, e);
    }
    return rmj_vector_sum(sum);
}

static void scale_row(float *row, size_t count, float factor)
{
    for (size_t i = 0; i < count; i++) {
        row[i] *= factor;
    }
}

// What a row does not see weighs nothing in the products.
static void clear_unseen(float *row, struct range seen, size_t keys)
{
    memset(row, 0, seen.begin * sizeof *row);
    memset(row + seen.end, 0, (keys - seen.end) * sizeof *row);
}

static void softmax_tile(const struct rmj_attention *at, const struct tile *tile, float *scores)
{
    for (size_t i = 0; i < tile->count; i++) {
        float *row = scores + i * tile->keys;
        float *stats = at->row_stats + ((tile->row + i) * at->head_count + tile->head) * 2;
        struct range seen = row_range(at, tile, i);
        size_t count = seen.end - seen.begin;
        if (at->softcap != 0) {
            cap_row(row + seen.begin, count, at->softcap);
        }
        stats[0] = row_maximum(row + seen.begin, count);
        stats[1] = 1.0f / exponentiate(row + seen.begin, count, stats[0], 1.0f);
        scale_row(row + seen.begin, count, stats[1]);
        clear_unseen(row, seen, tile->keys);
    }
}

// Rows after the last item belong to no span; whatever would read them must find zeros.
static void clear_unused(const struct rmj_attention *at, float *x, size_t heads)
{
    size_t width = heads * at->head_width;
    memset(x + at->used_row_count * width, 0, (at->row_count - at->used_row_count) * width * sizeof *x);
}

static size_t tile_count(const struct rmj_span *span)
{
    return rmj_cpu_cuts(span->count, RMJ_CPU_QUERY_ROWS);
}

static void forward_unit(void *context, size_t index, size_t thread)
{
    const struct attention_work *w = context;
    const struct rmj_attention *at = w->at;
    if (index == w->unit_count) {
        clear_unused(at, at->out, at->head_count);
        return;
    }
    rmj_cpu_one_thread();
    size_t item = index / at->head_count, head = index % at->head_count;
    float *scores = w->cpu->scores[thread];
    for (uint32_t s = at->item_spans[item]; s < at->item_spans[item + 1]; s++) {
        for (size_t t = 0; t < tile_count(&at->spans[s]); t++) {
            struct tile tile = make_tile(at, &at->spans[s], t, head);
            rows_by_keys(at, &tile, at->q, at->k, at->scale, scores);
            softmax_tile(at, &tile, scores);
            weigh_keys(at, &tile, scores, at->v, at->out);
        }
    }
}

void rmj_cpu_attention_forward(void *context, const struct rmj_attention *attention)
{
    struct attention_work w = {.cpu = context, .at = attention};
    RMJ_ASSERT(attention->row_count <= w.cpu->limits.row_count);
    w.unit_count = (size_t)attention->item_count * attention->head_count;
    rmj_pool_run(w.cpu->pool, w.unit_count + 1, forward_unit, &w);
}

static float row_dot(const float *a, const float *b, size_t count)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < count; i += 8) {
        __m256i mask = rmj_vector_mask(count - i < 8 ? count - i : 8);
        sum = _mm256_fmadd_ps(_mm256_maskload_ps(a + i, mask), _mm256_maskload_ps(b + i, mask), sum);
    }
    return rmj_vector_sum(sum);
}

// With p the probabilities and dp = dout v^T: ds = p (dp - delta) scale, delta = sum(p dp). `weights` holds the scores
// and becomes p, `grads` holds dp and becomes ds. rowsum(dout out) is the same delta (Dao et al. 2022, algorithm 4),
// but with other roundings than dp's: a row's ds would add up to zero less closely, and what is left is all that a bias
// of the keys is not blind to.
static void gradient_row(float *restrict weights, float *restrict grads, size_t count, const float *stats, float scale)
{
    exponentiate(weights, count, stats[0], stats[1]);
    float delta = row_dot(weights, grads, count);
    for (size_t j = 0; j < count; j++) {
        grads[j] = weights[j] * (grads[j] - delta) * scale;
    }
}

// p of the capped scores cap t, t = tanh(score / cap); 0 in lanes that the mask leaves out.
static __m256 capped_weight(__m256 t, const float *stats, float cap, __m256i mask)
{
    __m256 e = rmj_vector_exp(_mm256_sub_ps(_mm256_mul_ps(_mm256_set1_ps(cap), t), _mm256_set1_ps(stats[0])));
    return _mm256_and_ps(_mm256_mul_ps(e, _mm256_set1_ps(stats[1])), _mm256_castsi256_ps(mask));
}

// The same through the cap: d (cap t) / d score = 1 - t^2. Two walks, since delta comes before any ds.
static void capped_gradient_row(float *restrict weights, float *restrict grads, size_t count, const float *stats,
                                const struct rmj_attention *at)
{
    __m256 caps = _mm256_set1_ps(at->softcap), one = _mm256_set1_ps(1), scales = _mm256_set1_ps(at->scale);
    __m256 sum = _mm256_setzero_ps();
    for (size_t j = 0; j < count; j += 8) {
        __m256i mask = rmj_vector_mask(count - j < 8 ? count - j : 8);
        __m256 t = rmj_vector_tanh(_mm256_div_ps(_mm256_maskload_ps(weights + j, mask), caps));
        __m256 p = capped_weight(t, stats, at->softcap, mask);
        sum = _mm256_fmadd_ps(p, _mm256_maskload_ps(grads + j, mask), sum);
        _mm256_maskstore_ps(weights + j, mask, t);
    }
    __m256 delta = _mm256_set1_ps(rmj_vector_sum(sum));
    for (size_t j = 0; j < count; j += 8) {
        __m256i mask = rmj_vector_mask(count - j < 8 ? count - j : 8);
        __m256 t = _mm256_maskload_ps(weights + j, mask);
        __m256 p = capped_weight(t, stats, at->softcap, mask);
        __m256 ds = _mm256_mul_ps(p, _mm256_sub_ps(_mm256_maskload_ps(grads + j, mask), delta));
        ds = _mm256_mul_ps(_mm256_mul_ps(ds, scales), _mm256_fnmadd_ps(t, t, one));
        _mm256_maskstore_ps(weights + j, mask, p);
        _mm256_maskstore_ps(grads + j, mask, ds);
    }
}

static void gradient_tile(const struct rmj_attention *at, const struct tile *tile, float *p, float *dp)
{
    for (size_t i = 0; i < tile->count; i++) {
        const float *stats = at->row_stats + ((tile->row + i) * at->head_count + tile->head) * 2;
        float *weights = p + i * tile->keys, *grads = dp + i * tile->keys;
        struct range seen = row_range(at, tile, i);
        size_t count = seen.end - seen.begin;
        if (at->softcap != 0) {
            capped_gradient_row(weights + seen.begin, grads + seen.begin, count, stats, at);
        } else {
            gradient_row(weights + seen.begin, grads + seen.begin, count, stats, at->scale);
        }
        clear_unseen(weights, seen, tile->keys);
        clear_unseen(grads, seen, tile->keys);
    }
}

static void backward_tile(const struct attention_work *w, const struct tile *tile, size_t thread)
{
    const struct rmj_attention *at = w->at;
    float *p = w->cpu->scores[thread], *ds = w->cpu->score_grads[thread];
    rows_by_keys(at, tile, at->q, at->k, at->scale, p);
    rows_by_keys(at, tile, at->dout, at->v, 1, ds);
    gradient_tile(at, tile, p, ds);
    weigh_keys(at, tile, ds, at->k, at->dq);
    weigh_rows(at, tile, ds, at->q, at->dk);
    weigh_rows(at, tile, p, at->dout, at->dv);
}

static void clear_key_gradients(const struct rmj_attention *at, size_t item, size_t head)
{
    const struct rmj_span *first = &at->spans[at->item_spans[item]], *last = &at->spans[at->item_spans[item + 1] - 1];
    for (size_t row = first->first_row; row < (size_t)last->first_row + last->count; row++) {
        memset(at->dk + key_offset(at, row, head), 0, at->head_width * sizeof *at->dk);
        memset(at->dv + key_offset(at, row, head), 0, at->head_width * sizeof *at->dv);
    }
}

static void backward_unit(void *context, size_t index, size_t thread)
{
    const struct attention_work *w = context;
    const struct rmj_attention *at = w->at;
    if (index == w->unit_count) {
        clear_unused(at, at->dq, at->head_count);
        clear_unused(at, at->dk, at->kv_head_count);
        clear_unused(at, at->dv, at->kv_head_count);
        return;
    }
    rmj_cpu_one_thread();
    size_t group = at->head_count / at->kv_head_count;
    size_t item = index / at->kv_head_count, first_head = index % at->kv_head_count * group;
    clear_key_gradients(at, item, first_head);
    for (uint32_t s = at->item_spans[item]; s < at->item_spans[item + 1]; s++) {
        for (size_t head = first_head; head < first_head + group; head++) {
            for (size_t t = 0; t < tile_count(&at->spans[s]); t++) {
                struct tile tile = make_tile(at, &at->spans[s], t, head);
                backward_tile(w, &tile, thread);
            }
        }
    }
}

void rmj_cpu_attention_backward(void *context, const struct rmj_attention *attention)
{
    struct attention_work w = {.cpu = context, .at = attention};
    RMJ_ASSERT(attention->row_count <= w.cpu->limits.row_count);
    w.unit_count = (size_t)attention->item_count * attention->kv_head_count;
    rmj_pool_run(w.cpu->pool, w.unit_count + 1, backward_unit, &w);
}
