// Every CPU operation against a double-precision reference written here, gradients against central differences of that
// reference, and the same bits for any number of threads.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/cpu/block.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

#define STEP 1e-5 // of the central differences, in double
#define SAMPLES 40

static struct rmj_pool *pool;
static struct rmj_ops ops;
static struct rmj_rng rng;

static void open_ops(size_t threads)
{
    struct rmj_ops_limits limits = {.row_count = 512, .width = 1024, .head_width = 128, .vocabulary_size = 1000};
    assert_int_equal(rmj_pool_create(&pool, threads, threads == 2 ? rmj_cpu_thread_start : NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_cpu_ops_create(&ops, &limits, pool, NULL), RMJ_OK);
    rmj_rng_init(&rng, 1, 2);
}

static void close_ops(void)
{
    ops.destroy(ops.context);
    rmj_pool_destroy(pool);
}

static float *draw(size_t count)
{
    float *x = aligned_alloc(64, (count * sizeof *x + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)rmj_rng_normal(&rng);
    }
    return x;
}

static void assert_near(const float *got, const double *want, size_t count, double tolerance)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm))) {
        fail_msg("relative distance %.2e over %.2e", sqrt(error / norm), tolerance);
    }
}

// The loss of all gradient tests is sum(out * dout); evaluate gives it in double for the inputs as they stand.
typedef double (*evaluate_fn)(void *context);

static void assert_gradient(const float *got, double *input, size_t count, evaluate_fn evaluate, void *context,
                            double tolerance)
{
    double error = 0, norm = 0;
    for (int s = 0; s < SAMPLES; s++) {
        size_t i = rmj_rng_below(&rng, count);
        double before = input[i];
        input[i] = before + STEP;
        double high = evaluate(context);
        input[i] = before - STEP;
        double low = evaluate(context);
        input[i] = before;
        double slope = (high - low) / (2 * STEP);
        error += ((double)got[i] - slope) * ((double)got[i] - slope);
        norm += slope * slope;
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm) + 1e-7)) {
        fail_msg("gradient is off by %.2e relative", sqrt(error / norm));
    }
}

static double *widen(const float *x, size_t count)
{
    double *wide = malloc(count * sizeof *wide);
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)x[i];
    }
    return wide;
}

static void matrix_products_of_odd_sizes_are_right(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {129, 33, 65}, {257, 1030, 17}, {130, 48, 300}};
    for (size_t s = 0; s < RMJ_COUNT(sizes); s++) {
        uint32_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
        for (int kind = 0; kind < 6; kind++) {
            enum rmj_transpose transpose = (enum rmj_transpose)(kind % 3);
            float *a = draw((size_t)m * k), *b = draw((size_t)n * k), *c = draw((size_t)m * n);
            double *want = widen(c, (size_t)m * n);
            for (size_t i = 0; i < m; i++) {
                for (size_t j = 0; j < n; j++) {
                    double sum = kind >= 3 ? want[i * n + j] : 0;
                    for (size_t l = 0; l < k; l++) {
                        double x = (double)a[transpose == RMJ_TRANSPOSED_NORMAL ? l * m + i : i * k + l];
                        double y = (double)b[transpose == RMJ_NORMAL_TRANSPOSED ? j * k + l : l * n + j];
                        sum += x * y;
                    }
                    want[i * n + j] = sum;
                }
            }
            ops.matmul(
                ops.context,
                &(struct rmj_matmul){
                    .transpose = transpose, .m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .accumulate = kind >= 3});
            assert_near(c, want, (size_t)m * n, 2e-6);
            free(a);
            free(b);
            free(c);
            free(want);
        }
    }
    close_ops();
}

struct norm_case {
    size_t rows, columns;
    double *x, *weight;
    const float *dout;
};

static double evaluate_norm(void *context)
{
    const struct norm_case *n = context;
    double loss = 0;
    for (size_t r = 0; r < n->rows; r++) {
        double square = 0;
        for (size_t c = 0; c < n->columns; c++) {
            square += n->x[r * n->columns + c] * n->x[r * n->columns + c];
        }
        double rstd = 1 / sqrt(square / (double)n->columns + 1e-5);
        for (size_t c = 0; c < n->columns; c++) {
            loss += n->x[r * n->columns + c] * rstd * n->weight[c] * (double)n->dout[r * n->columns + c];
        }
    }
    return loss;
}

static void rmsnorm_and_its_gradients_are_right(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t sizes[][2] = {{1, 3}, {1, 48}, {67, 13}, {33, 288}};
    for (size_t s = 0; s < RMJ_COUNT(sizes); s++) {
        uint32_t rows = sizes[s][0], columns = sizes[s][1];
        size_t count = (size_t)rows * columns;
        float *x = draw(count), *weight = draw(columns), *dout = draw(count), *out = draw(count), *again = draw(count);
        float *rstd = draw(rows), *dx = calloc(count, sizeof *dx), *dweight = draw(columns);
        struct norm_case n = {rows, columns, widen(x, count), widen(weight, columns), dout};
        struct rmj_rmsnorm norm = {.rows = rows,
                                   .columns = columns,
                                   .x = x,
                                   .weight = weight,
                                   .epsilon = 1e-5f,
                                   .rstd = rstd,
                                   .out = out,
                                   .dout = dout,
                                   .dx = dx,
                                   .dweight = dweight,
                                   .accumulate = 1};
        ops.rmsnorm_forward(ops.context, &norm);
        double loss = 0;
        for (size_t i = 0; i < count; i++) {
            loss += (double)out[i] * (double)dout[i];
        }
        assert_true(fabs(loss - evaluate_norm(&n)) < 1e-5 * fmax(1, sqrt((double)count)));
        norm.out = again;
        ops.rmsnorm_again(ops.context, &norm);
        assert_memory_equal(out, again, count * sizeof *out);
        ops.rmsnorm_backward(ops.context, &norm);
        assert_gradient(dx, n.x, count, evaluate_norm, &n, 1e-5);
        assert_gradient(dweight, n.weight, columns, evaluate_norm, &n, 1e-5);
        float *before = draw(count), *sum = malloc(count * sizeof *sum);
        memcpy(sum, before, count * sizeof *sum);
        norm.dx = sum;
        ops.rmsnorm_backward(ops.context, &norm);
        for (size_t i = 0; i < count; i++) {
            assert_true(fabsf(sum[i] - before[i] - dx[i]) < 1e-5f * (1 + fabsf(before[i])));
        }
        free(before);
        free(sum);
        free(x);
        free(weight);
        free(dout);
        free(out);
        free(again);
        free(rstd);
        free(dx);
        free(dweight);
        free(n.x);
        free(n.weight);
    }
    close_ops();
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void swiglu_and_its_gradients_are_right_from_end_to_end_of_the_range(void **state)
{
    (void)state;
    open_ops(2);
    for (size_t count = 1; count < 20000; count = count * 3 + 1) {
        float *gate = draw(count), *up = draw(count), *dout = draw(count), *out = draw(count), *again = draw(count);
        float *dgate = draw(count);
        for (size_t i = 0; i < count; i++) {
            gate[i] *= i % 7 == 0 ? 40 : 2;
        }
        ops.glu_forward(ops.context, RMJ_SILU, out, gate, up, count);
        double *want = malloc(count * sizeof *want), *want_gate = malloc(count * sizeof *want);
        double *want_up = malloc(count * sizeof *want);
        for (size_t i = 0; i < count; i++) {
            double g = (double)gate[i], u = (double)up[i], d = (double)dout[i];
            want[i] = silu(g) * u;
            want_gate[i] = d * u * (silu(g + STEP) - silu(g - STEP)) / (2 * STEP);
            want_up[i] = d * silu(g);
        }
        assert_near(out, want, count, 1e-6);
        ops.glu_backward(ops.context, RMJ_SILU, dgate, dout, again, dout, gate, up, count); // dup in dout's place
        assert_memory_equal(out, again, count * sizeof *out);
        assert_near(dgate, want_gate, count, 1e-6);
        assert_near(dout, want_up, count, 1e-6);
        free(gate);
        free(up);
        free(dout);
        free(out);
        free(again);
        free(dgate);
        free(want);
        free(want_gate);
        free(want_up);
    }
    float extreme[4] = {-1e30f, -100, 100, 1e30f}, ones[4] = {1, 1, 1, 1}, out[4];
    ops.glu_forward(ops.context, RMJ_SILU, out, extreme, ones, 4);
    assert_true(fabsf(out[0]) < 1e-6f && fabsf(out[1]) < 1e-6f && out[2] == 100 && out[3] == 1e30f);
    close_ops();
}

// --- attention ---

struct attention_case {
    struct rmj_span spans[16];
    uint32_t item_spans[8];
    uint32_t item_count, rows, used_rows, heads, kv_heads, width;
    double *q, *k, *v;
    const float *dout;
    double *out; // [rows, heads, width]
};

// The rule of a pack, written a second time: which rows a row of a span sees.
static int sees(const struct rmj_span *span, uint32_t row, uint32_t other)
{
    return (other >= span->prefix_row && other < span->prefix_row + span->prefix_count) ||
           (other >= span->first_row && other <= row);
}

static void reference_row(const struct attention_case *a, const struct rmj_span *span, uint32_t row, uint32_t head)
{
    uint32_t kv_head = head / (a->heads / a->kv_heads);
    const double *q = a->q + ((size_t)row * a->heads + head) * a->width;
    double *out = a->out + ((size_t)row * a->heads + head) * a->width;
    double sum = 0, weights[512];
    for (uint32_t other = 0; other < a->used_rows; other++) {
        const double *k = a->k + ((size_t)other * a->kv_heads + kv_head) * a->width;
        double score = 0;
        for (uint32_t i = 0; i < a->width; i++) {
            score += q[i] * k[i];
        }
        weights[other] = sees(span, row, other) ? exp(score / sqrt(a->width)) : 0;
        sum += weights[other];
    }
    for (uint32_t i = 0; i < a->width; i++) {
        out[i] = 0;
        for (uint32_t other = 0; other < a->used_rows; other++) {
            out[i] += weights[other] / sum * a->v[((size_t)other * a->kv_heads + kv_head) * a->width + i];
        }
    }
}

static double evaluate_attention(void *context)
{
    struct attention_case *a = context;
    memset(a->out, 0, (size_t)a->rows * a->heads * a->width * sizeof *a->out);
    for (uint32_t s = 0; s < a->item_spans[a->item_count]; s++) {
        const struct rmj_span *span = &a->spans[s];
        for (uint32_t row = span->first_row; row < span->first_row + span->count; row++) {
            for (uint32_t head = 0; head < a->heads; head++) {
                reference_row(a, span, row, head);
            }
        }
    }
    double loss = 0;
    for (size_t i = 0; i < (size_t)a->rows * a->heads * a->width; i++) {
        loss += a->out[i] * (double)a->dout[i];
    }
    return loss;
}

// Items of (prefix, branches...): prefixes empty, of one row, longer than a tile; branches of one row and more.
static void lay_items(struct attention_case *a, const uint32_t (*items)[4], uint32_t count)
{
    uint32_t row = 0, span = 0;
    for (uint32_t i = 0; i < count; i++) {
        a->item_spans[i] = span;
        uint32_t prefix_row = row, prefix = items[i][0];
        if (prefix > 0) {
            a->spans[span++] = (struct rmj_span){.first_row = row, .count = prefix};
            row += prefix;
        }
        for (uint32_t b = 1; b < 4 && items[i][b] > 0; b++) {
            a->spans[span++] = (struct rmj_span){
                .first_row = row, .count = items[i][b], .prefix_row = prefix_row, .prefix_count = prefix};
            row += items[i][b];
        }
    }
    a->item_spans[count] = span;
    a->item_count = count;
    a->used_rows = row;
    a->rows = row + 5;
}

static void attention_of_heads(uint32_t heads, uint32_t kv_heads, uint32_t width, const uint32_t (*items)[4],
                               uint32_t item_count)
{
    struct attention_case a = {.heads = heads, .kv_heads = kv_heads, .width = width};
    lay_items(&a, items, item_count);
    size_t queries = (size_t)a.rows * heads * width, keys = (size_t)a.rows * kv_heads * width;
    float *q = draw(queries), *k = draw(keys), *v = draw(keys), *out = draw(queries), *dout = draw(queries);
    float *dq = draw(queries), *dk = draw(keys), *dv = draw(keys), *stats = draw((size_t)a.rows * heads * 2);
    size_t used = (size_t)a.used_rows * width;
    memset(dout + used * heads, 0, (queries - used * heads) * sizeof *dout);
    a.q = widen(q, queries);
    a.k = widen(k, keys);
    a.v = widen(v, keys);
    a.dout = dout;
    a.out = malloc(queries * sizeof *a.out);
    struct rmj_attention at = {.spans = a.spans,
                               .item_spans = a.item_spans,
                               .item_count = a.item_count,
                               .row_count = a.rows,
                               .used_row_count = a.used_rows,
                               .head_count = heads,
                               .kv_head_count = kv_heads,
                               .head_width = width,
                               .scale = (float)(1 / sqrt(width)),
                               .q = q,
                               .k = k,
                               .v = v,
                               .out = out,
                               .row_stats = stats,
                               .dout = dout,
                               .dq = dq,
                               .dk = dk,
                               .dv = dv};
    ops.attention_forward(ops.context, &at);
    evaluate_attention(&a);
    assert_near(out, a.out, queries, 2e-6);
    ops.attention_backward(ops.context, &at);
    assert_gradient(dq, a.q, used * heads, evaluate_attention, &a, 1e-5);
    assert_gradient(dk, a.k, used * kv_heads, evaluate_attention, &a, 1e-5);
    assert_gradient(dv, a.v, used * kv_heads, evaluate_attention, &a, 1e-5);
    for (size_t i = used * heads; i < queries; i++) {
        assert_true(out[i] == 0 && dq[i] == 0);
    }
    for (size_t i = used * kv_heads; i < keys; i++) {
        assert_true(dk[i] == 0 && dv[i] == 0);
    }
    free(q);
    free(k);
    free(v);
    free(out);
    free(dout);
    free(dq);
    free(dk);
    free(dv);
    free(stats);
    free(a.q);
    free(a.k);
    free(a.v);
    free(a.out);
}

static void attention_and_its_gradients_are_right_for_every_shape_of_item(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t items[][4] = {{0, 1}, {3, 1, 1}, {0, 4, 2, 5}, {9, 2, 7}, {1, 1, 6, 1}};
    static const uint32_t groups[][3] = {{1, 1, 2}, {2, 1, 10}, {6, 2, 6}, {4, 4, 12}, {8, 1, 4}};
    for (size_t i = 0; i < RMJ_COUNT(groups); i++) {
        attention_of_heads(groups[i][0], groups[i][1], groups[i][2], items, RMJ_COUNT(items));
    }
    static const uint32_t long_items[][4] = {{70, 3, 66}};
    attention_of_heads(2, 1, 6, long_items, 1);
    close_ops();
}

static void rotary_turns_by_position_and_back(void **state)
{
    (void)state;
    open_ops(2);
    enum { POSITIONS = 400, WIDTH = 16, ROWS = 45, HEADS = 3 };
    float frequencies[WIDTH / 2];
    for (uint32_t i = 0; i < WIDTH / 2; i++) {
        frequencies[i] = (float)pow(10000, -2.0 * i / WIDTH);
    }
    struct rmj_rotary rotary = {
        .position_count = POSITIONS, .pair_count = WIDTH / 2, .inverse_frequencies = frequencies, .amplitude = 1};
    float *cosines = draw(POSITIONS * WIDTH / 2), *sines = draw(POSITIONS * WIDTH / 2);
    ops.rotary_tables(ops.context, cosines, sines, &rotary);
    for (uint32_t i = 0; i < WIDTH / 2; i++) {
        for (uint32_t p = 0; p < POSITIONS; p += 7) {
            double angle = (double)((float)p * frequencies[i]);
            assert_true(fabs((double)cosines[p * WIDTH / 2 + i] - cos(angle)) < 1e-7);
            assert_true(fabs((double)sines[p * WIDTH / 2 + i] - sin(angle)) < 1e-7);
        }
    }
    int32_t positions[ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        positions[r] = (int32_t)rmj_rng_below(&rng, POSITIONS);
    }
    float *x = draw(ROWS * HEADS * WIDTH), *before = malloc(ROWS * HEADS * WIDTH * sizeof *before);
    memcpy(before, x, ROWS * HEADS * WIDTH * sizeof *x);
    ops.rotary(ops.context, x, positions, cosines, sines, ROWS, HEADS, WIDTH, WIDTH, 0);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < WIDTH / 2; i++) {
            const float *was = before + (r * HEADS + 1) * WIDTH, *is = x + (r * HEADS + 1) * WIDTH;
            double c = (double)cosines[(size_t)positions[r] * WIDTH / 2 + i];
            double s = (double)sines[(size_t)positions[r] * WIDTH / 2 + i];
            assert_true(fabs((double)is[i] - ((double)was[i] * c - (double)was[i + WIDTH / 2] * s)) < 1e-6);
            assert_true(fabs((double)is[i + WIDTH / 2] - ((double)was[i + WIDTH / 2] * c + (double)was[i] * s)) < 1e-6);
        }
    }
    ops.rotary(ops.context, x, positions, cosines, sines, ROWS, HEADS, WIDTH, WIDTH, 1);
    for (size_t i = 0; i < ROWS * HEADS * WIDTH; i++) {
        assert_true(fabsf(x[i] - before[i]) < 2e-6f);
    }
    free(x);
    free(before);
    free(cosines);
    free(sines);
    close_ops();
}

static void rows_are_gathered_and_their_gradients_scattered_by_token(void **state)
{
    (void)state;
    open_ops(2);
    enum { ROWS = 77, WIDTH = 19, TOKENS = 12 };
    int32_t tokens[ROWS];
    uint32_t distinct[ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        tokens[r] = 83 * (int32_t)rmj_rng_below(&rng, TOKENS);
    }
    float *table = draw(1000 * WIDTH), *x = draw(ROWS * WIDTH), *out = draw(ROWS * WIDTH);
    ops.gather(ops.context, out, table, tokens, ROWS, WIDTH);
    for (size_t r = 0; r < ROWS; r++) {
        assert_memory_equal(out + r * WIDTH, table + (size_t)tokens[r] * WIDTH, WIDTH * sizeof *out);
    }
    uint32_t count = ops.scatter(ops.context, out, distinct, x, tokens, ROWS, WIDTH);
    double seen = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(i == 0 || distinct[i] > distinct[i - 1]);
        double want[WIDTH] = {0};
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t c = 0; tokens[r] == (int32_t)distinct[i] && c < WIDTH; c++) {
                want[c] += (double)x[r * WIDTH + c];
                seen += 1.0 / WIDTH;
            }
        }
        assert_near(out + i * WIDTH, want, WIDTH, 1e-6);
    }
    assert_true(fabs(seen - ROWS) < 1e-9);
    free(table);
    free(x);
    free(out);
    close_ops();
}

static void the_head_reads_and_moves_only_the_scored_rows(void **state)
{
    (void)state;
    open_ops(2);
    enum { ROWS = 30, WIDTH = 21 };
    const uint32_t rows[] = {3, 17, 29};
    float *x = draw(ROWS * WIDTH), *head = draw(WIDTH), *dx = draw(ROWS * WIDTH), *dhead = draw(WIDTH);
    float scores[3], dscores[] = {0.5f, -2, 1};
    ops.head_forward(ops.context, scores, x, head, rows, 3, WIDTH);
    ops.head_backward(ops.context, dx, dhead, dscores, x, head, rows, 3, ROWS, WIDTH);
    double want_head[WIDTH] = {0}, want_x[ROWS * WIDTH] = {0}, want_scores[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        for (size_t c = 0; c < WIDTH; c++) {
            want_scores[i] += (double)x[rows[i] * WIDTH + c] * (double)head[c];
            want_head[c] += (double)dscores[i] * (double)x[rows[i] * WIDTH + c];
            want_x[rows[i] * WIDTH + c] += (double)dscores[i] * (double)head[c];
        }
    }
    assert_near(scores, want_scores, 3, 1e-6);
    assert_near(dhead, want_head, WIDTH, 1e-6);
    assert_near(dx, want_x, ROWS * WIDTH, 1e-6);
    free(x);
    free(head);
    free(dx);
    free(dhead);
    close_ops();
}

static void biases_and_sums_of_columns_are_right(void **state)
{
    (void)state;
    open_ops(2);
    enum { ROWS = 131, WIDTH = 37 };
    float *x = draw(ROWS * WIDTH), *bias = draw(WIDTH), *sum = draw(WIDTH), *other = draw(ROWS * WIDTH);
    double want[WIDTH] = {0};
    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        want[i % WIDTH] += (double)x[i];
    }
    ops.column_sum(ops.context, sum, x, ROWS, WIDTH);
    assert_near(sum, want, WIDTH, 1e-6);
    float *biased = malloc(ROWS * WIDTH * sizeof *biased);
    memcpy(biased, x, ROWS * WIDTH * sizeof *biased);
    ops.add_bias(ops.context, biased, bias, ROWS, WIDTH);
    ops.add(ops.context, other, other, x, ROWS * WIDTH);
    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        assert_true(biased[i] == x[i] + bias[i % WIDTH]);
    }
    free(x);
    free(bias);
    free(sum);
    free(other);
    free(biased);
    close_ops();
}

static void elementary_functions_are_as_precise_as_they_claim(void **state)
{
    (void)state;
    rmj_rng_init(&rng, 9, 9);
    for (int i = 0; i < 200000; i++) {
        double x = (rmj_rng_uniform(&rng) - 0.5) * 1400;
        assert_true(fabs(rmj_math_exp(x) / exp(x) - 1) < 1e-15);
        double y = exp(x);
        assert_true(fabs(rmj_math_log(y) - log(y)) <= 1e-15 * fmax(1, fabs(log(y))));
        double small = exp(-60 * rmj_rng_uniform(&rng));
        assert_true(fabs(rmj_math_log1p(small) / log1p(small) - 1) < 2e-15);
        double angle = (rmj_rng_uniform(&rng) - 0.5) * 1e6;
        assert_true(fabs(rmj_math_sin(angle) - sin(angle)) < 1e-12);
        assert_true(fabs(rmj_math_cos(angle) - cos(angle)) < 1e-12);
    }
    assert_true(rmj_math_exp(-800) == 0 && isinf(rmj_math_exp(800)) && isnan(rmj_math_exp(NAN)));
    assert_true(rmj_math_exp(0) == 1 && rmj_math_log(1) == 0 && rmj_math_log1p(0) == 0 && rmj_math_cos(0) == 1);
}

// All operations that cut work, one after another; returns their outputs in one array.
static float *run_everything(size_t threads, size_t *count)
{
    enum { ROWS = 300, WIDTH = 288, HEADS = 6, D = 48 };
    size_t n = ROWS * WIDTH;
    open_ops(threads);
    static const uint32_t items[][4] = {{40, 30, 25}, {0, 61, 1}, {66, 20, 40}};
    struct attention_case a = {0};
    lay_items(&a, items, 3);
    assert_true(a.used_rows <= ROWS);
    float *all = calloc(10 * n, sizeof *all), *x = draw(n), *w = draw(WIDTH * WIDTH), *g = draw(n),
          *stats = draw(2 * n);
    int32_t tokens[ROWS];
    uint32_t distinct[ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        tokens[r] = (int32_t)rmj_rng_below(&rng, 90);
    }
    for (int t = 0; t < 2; t++) {
        ops.matmul(ops.context, &(struct rmj_matmul){.transpose = (enum rmj_transpose)t,
                                                     .m = ROWS,
                                                     .n = WIDTH,
                                                     .k = WIDTH,
                                                     .a = x,
                                                     .b = w,
                                                     .c = all + (size_t)t * n});
    }
    ops.matmul(
        ops.context,
        &(struct rmj_matmul){
            .transpose = RMJ_TRANSPOSED_NORMAL, .m = WIDTH, .n = WIDTH, .k = ROWS, .a = x, .b = g, .c = all + 2 * n});
    float *q = all, *k = all + n, *v = x;
    struct rmj_attention at = {.spans = a.spans,
                               .item_spans = a.item_spans,
                               .item_count = 3,
                               .row_count = ROWS,
                               .used_row_count = a.used_rows,
                               .head_count = HEADS,
                               .kv_head_count = HEADS,
                               .head_width = D,
                               .scale = (float)(1 / sqrt(D)),
                               .q = q,
                               .k = k,
                               .v = v,
                               .out = all + 3 * n,
                               .row_stats = stats,
                               .dout = g,
                               .dq = all + 4 * n,
                               .dk = all + 5 * n,
                               .dv = all + 6 * n};
    ops.attention_forward(ops.context, &at);
    ops.attention_backward(ops.context, &at);
    struct rmj_rmsnorm norm = {.rows = ROWS,
                               .columns = WIDTH,
                               .x = x,
                               .weight = w,
                               .epsilon = 1e-5f,
                               .rstd = stats,
                               .out = all + 7 * n,
                               .dout = g,
                               .dx = all + 7 * n,
                               .dweight = all + 8 * n,
                               .accumulate = 1};
    ops.rmsnorm_forward(ops.context, &norm);
    ops.rmsnorm_backward(ops.context, &norm);
    ops.scatter(ops.context, all + 9 * n, distinct, x, tokens, ROWS, WIDTH);
    free(x);
    free(w);
    free(g);
    free(stats);
    close_ops();
    *count = 10 * n;
    return all;
}

static void bits_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    size_t count;
    float *one = run_everything(1, &count);
    for (size_t threads = 2; threads <= 4; threads++) {
        float *other = run_everything(threads, &count);
        assert_memory_equal(one, other, count * sizeof *one);
        free(other);
    }
    free(one);
}

static void rounding_to_integers_is_to_nearest_even_and_held_within_the_limit(void **state)
{
    (void)state;
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, 3.0e9f, -3.0e9f, NAN, INFINITY, 7};
    const int32_t want[] = {0, 2, 2, 0, -2, 0, 1000, -1000, 0, 1000, 7};
    int32_t sum[RMJ_COUNT(x)] = {0};
    rmj_block_add_int32(sum, x, RMJ_COUNT(x), 1, 1000);
    assert_memory_equal(sum, want, sizeof want);
    const int64_t wide_want[] = {0, 2, 2, 0, -2, 0, 0, 0, 0, 0, 7};
    int64_t wide[RMJ_COUNT(x)] = {0};
    rmj_block_add_int64(wide, x, RMJ_COUNT(x), 1, 1000);
    assert_memory_equal(wide, wide_want, sizeof wide_want);
    struct rmj_block_extent extent = rmj_block_extent(x, 8);
    assert_true(extent.finite && extent.magnitude == 3.0e9f);
    assert_false(rmj_block_extent(x, RMJ_COUNT(x)).finite);
}

int main(void)
{
    struct rmj_error err = {0};
    if (rmj_cpu_check(&err) != RMJ_OK) {
        print_message("SKIP: %s\n", err.message);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrix_products_of_odd_sizes_are_right),
        cmocka_unit_test(rmsnorm_and_its_gradients_are_right),
        cmocka_unit_test(swiglu_and_its_gradients_are_right_from_end_to_end_of_the_range),
        cmocka_unit_test(attention_and_its_gradients_are_right_for_every_shape_of_item),
        cmocka_unit_test(rotary_turns_by_position_and_back),
        cmocka_unit_test(rows_are_gathered_and_their_gradients_scattered_by_token),
        cmocka_unit_test(the_head_reads_and_moves_only_the_scored_rows),
        cmocka_unit_test(biases_and_sums_of_columns_are_right),
        cmocka_unit_test(elementary_functions_are_as_precise_as_they_claim),
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(rounding_to_integers_is_to_nearest_even_and_held_within_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
