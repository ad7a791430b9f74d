// Every CPU operation but attention and rotary against a double-precision reference written here, gradients against
// central differences of that reference, and the same bits for any number of threads.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/block.h"
#include "tests/kernels/fixture.h"

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
    double offset, *x, *weight;
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
            double factor = n->weight[c] + n->offset;
            loss += n->x[r * n->columns + c] * rstd * factor * (double)n->dout[r * n->columns + c];
        }
    }
    return loss;
}

// Onto what is in dx, and in dout's own place.
static void gradients_land_where_they_are_told(struct rmj_rmsnorm norm, const float *dx)
{
    size_t count = (size_t)norm.rows * norm.columns;
    float *before = draw(count), *sum = copy(before, count), *place = copy(norm.dout, count);
    norm.dx = sum;
    norm.accumulate = 1;
    ops.rmsnorm_backward(ops.context, &norm);
    for (size_t i = 0; i < count; i++) {
        assert_true(sum[i] == before[i] + dx[i]);
    }
    norm.dx = place;
    norm.dout = place;
    norm.accumulate = 0;
    ops.rmsnorm_backward(ops.context, &norm);
    assert_memory_equal(place, dx, count * sizeof *place);
    free(before);
    free(sum);
    free(place);
}

static void norm_of(uint32_t rows, uint32_t columns, float offset)
{
    size_t count = (size_t)rows * columns;
    float *x = draw(count), *weight = draw(columns), *dout = draw(count), *out = draw(count), *again = draw(count);
    float *rstd = draw(rows), *dx = draw(count), *dweight = draw(columns);
    struct norm_case n = {rows, columns, (double)offset, widen(x, count), widen(weight, columns), dout};
    struct rmj_rmsnorm norm = {.rows = rows,
                               .columns = columns,
                               .x = x,
                               .weight = weight,
                               .weight_offset = offset,
                               .epsilon = 1e-5f,
                               .rstd = rstd,
                               .out = out,
                               .dout = dout,
                               .dx = dx,
                               .dweight = dweight};
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
    gradients_land_where_they_are_told(norm, dx);
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

static void rmsnorm_and_its_gradients_are_right(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t sizes[][2] = {{1, 3}, {1, 48}, {67, 13}, {33, 288}, {1201, 6}};
    for (size_t s = 0; s < RMJ_COUNT(sizes); s++) {
        norm_of(sizes[s][0], sizes[s][1], 0);
        norm_of(sizes[s][0], sizes[s][1], 1);
    }
    close_ops();
}

// Rows of heads are many more than rows of the pack: all splits of T x width elements have room for their sums.
static void rmsnorm_takes_the_rows_of_every_head(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t widths[] = {1, 3, 31, 64, 100, LIMIT_WIDTH};
    for (size_t i = 0; i < RMJ_COUNT(widths); i++) {
        uint32_t columns = widths[i], rows = LIMIT_ROWS * LIMIT_WIDTH / columns;
        size_t count = (size_t)rows * columns;
        float *x = draw(count), *weight = draw(columns), *rstd = draw(rows), *dweight = draw(columns);
        double *want = calloc(columns, sizeof *want);
        struct rmj_rmsnorm norm = {.rows = rows,
                                   .columns = columns,
                                   .x = x,
                                   .weight = weight,
                                   .epsilon = 1e-6f,
                                   .rstd = rstd,
                                   .out = draw(count),
                                   .dout = x,
                                   .dx = draw(count),
                                   .dweight = dweight};
        ops.rmsnorm_forward(ops.context, &norm);
        ops.rmsnorm_backward(ops.context, &norm);
        for (size_t j = 0; j < count; j++) {
            want[j % columns] += (double)x[j] * (double)x[j] * (double)rstd[j / columns];
        }
        assert_near(dweight, want, columns, 3e-6);
        free(x);
        free(weight);
        free(rstd);
        free(dweight);
        free(norm.out);
        free(norm.dx);
        free(want);
    }
    close_ops();
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

// The tanh form as sigmoid, so that the reference itself loses nothing at the lower end.
static double gelu_tanh(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static void glu_of(enum rmj_activation activation, double (*reference)(double), size_t count)
{
    float *gate = draw(count), *up = draw(count), *dout = draw(count), *out = draw(count), *again = draw(count);
    float *dgate = draw(count), *dup = draw(count), *other = copy(dout, count);
    for (size_t i = 0; i < count; i++) {
        gate[i] *= i % 7 == 0 ? 40 : 2;
    }
    ops.glu_forward(ops.context, activation, out, gate, up, count);
    double *want = malloc(count * sizeof *want), *want_gate = malloc(count * sizeof *want);
    double *want_up = malloc(count * sizeof *want);
    for (size_t i = 0; i < count; i++) {
        double g = (double)gate[i], u = (double)up[i], d = (double)dout[i];
        want[i] = reference(g) * u;
        want_gate[i] = d * u * (reference(g + STEP) - reference(g - STEP)) / (2 * STEP);
        want_up[i] = d * reference(g);
    }
    assert_near(out, want, count, 1e-6);
    ops.glu_backward(ops.context, activation, dgate, dup, again, dout, gate, up, count);
    assert_memory_equal(out, again, count * sizeof *out);
    assert_near(dgate, want_gate, count, 1e-6);
    assert_near(dup, want_up, count, 1e-6);
    ops.glu_backward(ops.context, activation, other, again, NULL, other, gate, up, count); // dgate in dout's place
    assert_memory_equal(other, dgate, count * sizeof *other);
    ops.glu_backward(ops.context, activation, other, dout, NULL, dout, gate, up, count); // dup in dout's place
    assert_memory_equal(dout, dup, count * sizeof *other);
    free(gate);
    free(up);
    free(dout);
    free(out);
    free(again);
    free(dgate);
    free(dup);
    free(other);
    free(want);
    free(want_gate);
    free(want_up);
}

static void gated_units_and_their_gradients_are_right_from_end_to_end_of_the_range(void **state)
{
    (void)state;
    open_ops(2);
    for (size_t count = 1; count < 20000; count = count * 3 + 1) {
        glu_of(RMJ_SILU, silu, count);
        glu_of(RMJ_GELU_TANH, gelu_tanh, count);
    }
    static const enum rmj_activation all[] = {RMJ_SILU, RMJ_GELU_TANH};
    float extreme[] = {-1e30f, -100, 100, 1e30f, 1e13f, NAN}, ones[] = {1, 1, 1, 1, 1, 1}, out[6], dgate[6], dup[6];
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        ops.glu_forward(ops.context, all[i], out, extreme, ones, 6);
        assert_true(fabsf(out[0]) < 1e-6f && fabsf(out[1]) < 1e-6f && out[2] == 100 && out[3] == 1e30f);
        assert_true(out[4] == 1e13f && isnan(out[5]));
        ops.glu_backward(ops.context, all[i], dgate, dup, NULL, ones, extreme, ones, 6);
        assert_true(fabsf(dgate[0]) < 1e-6f && fabsf(dgate[1]) < 1e-6f && dgate[2] == 1 && dgate[3] == 1);
        assert_true(dgate[4] == 1 && isnan(dgate[5]) && isnan(dup[5]));
    }
    close_ops();
}

static void gelu_keeps_its_precision_where_it_is_small(void **state)
{
    (void)state;
    open_ops(1);
    enum { COUNT = 9001 };
    float *gate = draw(COUNT), *ones = draw(COUNT), *out = draw(COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        gate[i] = (float)i / -1000;
        ones[i] = 1;
    }
    ops.glu_forward(ops.context, RMJ_GELU_TANH, out, gate, ones, COUNT);
    for (size_t i = 1; i < COUNT; i++) {
        // A float32 argument of the exponential near -70 is itself no better than this.
        assert_true(fabs((double)out[i] / gelu_tanh((double)gate[i]) - 1) < 1e-5);
    }
    free(gate);
    free(ones);
    free(out);
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

static void biases_sums_of_columns_and_elementwise_operations_are_right(void **state)
{
    (void)state;
    open_ops(2);
    enum { ROWS = 431, WIDTH = 37 };
    float *x = draw(ROWS * WIDTH), *bias = draw(WIDTH), *sum = draw(WIDTH), *other = draw(ROWS * WIDTH);
    double want[WIDTH] = {0};
    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        want[i % WIDTH] += (double)x[i];
    }
    ops.column_sum(ops.context, sum, x, ROWS, WIDTH);
    assert_near(sum, want, WIDTH, 1e-6);
    float *biased = copy(x, ROWS * WIDTH), *added = copy(other, ROWS * WIDTH), *scaled = copy(x, ROWS * WIDTH);
    ops.add_bias(ops.context, biased, bias, ROWS, WIDTH);
    ops.add(ops.context, added, added, x, ROWS * WIDTH);
    ops.scale(ops.context, scaled, 22.627417f, ROWS * WIDTH);
    for (size_t i = 0; i < ROWS * WIDTH; i++) {
        assert_true(biased[i] == x[i] + bias[i % WIDTH]);
        assert_true(added[i] == other[i] + x[i]);
        assert_true(scaled[i] == x[i] * 22.627417f);
    }
    free(x);
    free(bias);
    free(sum);
    free(other);
    free(biased);
    free(added);
    free(scaled);
    close_ops();
}

// All operations that cut work, one after another; returns their outputs in one array.
static float *run_everything(size_t threads, size_t *count)
{
    enum { ROWS = 300, WIDTH = 288, HEADS = 6, D = 48 };
    size_t n = ROWS * WIDTH;
    open_ops(threads);
    float *all = calloc(12 * n, sizeof *all), *x = draw(n), *w = draw(WIDTH * WIDTH), *g = draw(n),
          *stats = draw(HEADS * ROWS);
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
    for (uint32_t i = 0; i < 2; i++) { // rows, then heads
        struct rmj_rmsnorm norm = {.rows = i == 0 ? ROWS : ROWS * HEADS,
                                   .columns = i == 0 ? WIDTH : D,
                                   .x = x,
                                   .weight = w,
                                   .weight_offset = (float)i,
                                   .epsilon = 1e-5f,
                                   .rstd = stats,
                                   .out = all + (3 + 2 * i) * n,
                                   .dout = g,
                                   .dx = all + (3 + 2 * i) * n,
                                   .dweight = all + (4 + 2 * i) * n,
                                   .accumulate = 1};
        ops.rmsnorm_forward(ops.context, &norm);
        ops.rmsnorm_backward(ops.context, &norm);
    }
    ops.scatter(ops.context, all + 7 * n, distinct, x, tokens, ROWS, WIDTH);
    ops.glu_forward(ops.context, RMJ_GELU_TANH, all + 8 * n, x, g, n);
    ops.glu_backward(ops.context, RMJ_GELU_TANH, all + 9 * n, all + 10 * n, NULL, all + 8 * n, x, g, n);
    memcpy(all + 11 * n, x, n * sizeof *all);
    ops.scale(ops.context, all + 11 * n, 1.7f, n);
    free(x);
    free(w);
    free(g);
    free(stats);
    close_ops();
    *count = 12 * n;
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
        cmocka_unit_test(rmsnorm_takes_the_rows_of_every_head),
        cmocka_unit_test(gated_units_and_their_gradients_are_right_from_end_to_end_of_the_range),
        cmocka_unit_test(gelu_keeps_its_precision_where_it_is_small),
        cmocka_unit_test(rows_are_gathered_and_their_gradients_scattered_by_token),
        cmocka_unit_test(the_head_reads_and_moves_only_the_scored_rows),
        cmocka_unit_test(biases_sums_of_columns_and_elementwise_operations_are_right),
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(rounding_to_integers_is_to_nearest_even_and_held_within_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
