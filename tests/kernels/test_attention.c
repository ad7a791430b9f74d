// Attention and rotary positions against a double-precision reference written here, which is held against central
// differences of itself: every shape of item, with windows, caps and scales, and the same bits for any number of
// threads.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kernels/fixture.h"

#define SPANS_MAX 16

// Arguments of one attention, and the same in double with what the reference makes of them.
struct attention_case {
    struct rmj_attention at;
    struct rmj_span spans[SPANS_MAX];
    uint32_t item_spans[8];
    size_t queries, keys; // elements of q, of k
    float *dout_rows;
    double *q, *k, *v, *dout;
    double *out, *dq, *dk, *dv;
    int gradients; // 0: only `out` is wanted
};

// Position of a row of the item among the keys of a span, or -1 when the span does not see it at all.
static int64_t key_position(const struct rmj_span *span, uint32_t row)
{
    if (row >= span->prefix_row && row < span->prefix_row + span->prefix_count) {
        return row - span->prefix_row;
    }
    return row >= span->first_row ? (int64_t)span->prefix_count + row - span->first_row : -1;
}

// The rule of a pack and of a window, written a second time.
static int sees(const struct rmj_attention *at, const struct rmj_span *span, uint32_t row, uint32_t other)
{
    int64_t query = key_position(span, row), key = key_position(span, other);
    return key >= 0 && key <= query && (at->window == 0 || key > query - (int64_t)at->window);
}

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void add_times(double *out, double factor, const double *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] += factor * x[i];
    }
}

// Output of one query row of one head, and its share of all gradients.
static void reference_row(struct attention_case *a, const struct rmj_span *span, uint32_t row, size_t head)
{
    const struct rmj_attention *at = &a->at;
    size_t width = at->head_width, kv_head = head / (at->head_count / at->kv_head_count), count = 0;
    size_t query = (row * at->head_count + head) * width, keys[LIMIT_ROWS];
    double weights[LIMIT_ROWS], slopes[LIMIT_ROWS], sum = 0, delta = 0, cap = (double)at->softcap;
    for (uint32_t other = 0; other < at->used_row_count; other++) {
        if (!sees(at, span, row, other)) {
            continue;
        }
        keys[count] = (other * at->kv_head_count + kv_head) * width;
        double score = (double)at->scale * dot(a->q + query, a->k + keys[count], width);
        double t = cap != 0 ? tanh(score / cap) : 0;
        weights[count] = exp(cap != 0 ? cap * t : score);
        slopes[count] = (1 - t * t) * (double)at->scale;
        sum += weights[count++];
    }
    for (size_t i = 0; i < count; i++) {
        weights[i] /= sum;
        add_times(a->out + query, weights[i], a->v + keys[i], width);
    }
    for (size_t i = 0; i < count && a->gradients; i++) {
        add_times(a->dv + keys[i], weights[i], a->dout + query, width);
        delta += weights[i] * dot(a->dout + query, a->v + keys[i], width);
    }
    for (size_t i = 0; i < count && a->gradients; i++) {
        double slope = weights[i] * (dot(a->dout + query, a->v + keys[i], width) - delta) * slopes[i];
        add_times(a->dq + query, slope, a->k + keys[i], width);
        add_times(a->dk + keys[i], slope, a->q + query, width);
    }
}

static void evaluate_all(struct attention_case *a)
{
    memset(a->out, 0, a->queries * sizeof *a->out);
    memset(a->dq, 0, a->queries * sizeof *a->dq);
    memset(a->dk, 0, a->keys * sizeof *a->dk);
    memset(a->dv, 0, a->keys * sizeof *a->dv);
    for (uint32_t s = 0; s < a->item_spans[a->at.item_count]; s++) {
        const struct rmj_span *span = &a->spans[s];
        for (uint32_t row = span->first_row; row < span->first_row + span->count; row++) {
            for (size_t head = 0; head < a->at.head_count; head++) {
                reference_row(a, span, row, head);
            }
        }
    }
}

static void evaluate(struct attention_case *a)
{
    a->gradients = 1;
    evaluate_all(a);
}

static double evaluate_loss(void *context)
{
    struct attention_case *a = context;
    a->gradients = 0;
    evaluate_all(a);
    return dot(a->out, a->dout, a->queries);
}

// Items of (prefix, branches...), and five rows that belong to none.
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
    assert_true(span <= SPANS_MAX && row + 5 <= LIMIT_ROWS);
    a->item_spans[count] = span;
    a->at.item_count = count;
    a->at.used_row_count = row;
    a->at.row_count = row + 5;
}

static struct attention_case *open_case(const uint32_t (*items)[4], uint32_t item_count, const uint32_t *heads)
{
    struct attention_case *a = calloc(1, sizeof *a);
    lay_items(a, items, item_count);
    size_t rows = a->at.row_count, width = heads[2];
    a->queries = rows * heads[0] * width;
    a->keys = rows * heads[1] * width;
    a->dout_rows = draw(a->queries);
    size_t used = a->at.used_row_count * heads[0] * width;
    memset(a->dout_rows + used, 0, (a->queries - used) * sizeof(float));
    a->at.spans = a->spans;
    a->at.item_spans = a->item_spans;
    a->at.head_count = heads[0];
    a->at.kv_head_count = heads[1];
    a->at.head_width = heads[2];
    a->at.scale = (float)(1 / sqrt((double)width));
    a->at.q = draw(a->queries);
    a->at.k = draw(a->keys);
    a->at.v = draw(a->keys);
    a->at.out = draw(a->queries);
    a->at.row_stats = draw(rows * heads[0] * 2);
    a->at.dout = a->dout_rows;
    a->at.dq = draw(a->queries);
    a->at.dk = draw(a->keys);
    a->at.dv = draw(a->keys);
    a->q = widen(a->at.q, a->queries);
    a->k = widen(a->at.k, a->keys);
    a->v = widen(a->at.v, a->keys);
    a->dout = widen(a->at.dout, a->queries);
    a->out = calloc(a->queries, sizeof(double));
    a->dq = calloc(a->queries, sizeof(double));
    a->dk = calloc(a->keys, sizeof(double));
    a->dv = calloc(a->keys, sizeof(double));
    return a;
}

static void close_case(struct attention_case *a)
{
    free((void *)(uintptr_t)a->at.q);
    free((void *)(uintptr_t)a->at.k);
    free((void *)(uintptr_t)a->at.v);
    free(a->at.out);
    free(a->at.row_stats);
    free(a->dout_rows);
    free(a->at.dq);
    free(a->at.dk);
    free(a->at.dv);
    free(a->q);
    free(a->k);
    free(a->v);
    free(a->dout);
    free(a->out);
    free(a->dq);
    free(a->dk);
    free(a->dv);
    free(a);
}

static void compute(struct attention_case *a)
{
    ops.attention_forward(ops.context, &a->at);
    ops.attention_backward(ops.context, &a->at);
}

static void assert_zero_after(const float *x, size_t used, size_t count)
{
    for (size_t i = used; i < count; i++) {
        assert_true(x[i] == 0);
    }
}

static void assert_right(struct attention_case *a)
{
    const struct rmj_attention *at = &a->at;
    compute(a);
    evaluate(a);
    assert_near(at->out, a->out, a->queries, 2e-6);
    assert_near(at->dv, a->dv, a->keys, 2e-6);
    // A row that sees only itself has no gradient through its score: none at all, since AdamW makes steps of roundings.
    double scores_norm = dot(a->dq, a->dq, a->queries) + dot(a->dk, a->dk, a->keys);
    if (scores_norm > 1e-20) {
        assert_near(at->dq, a->dq, a->queries, 5e-6);
        assert_near(at->dk, a->dk, a->keys, 5e-6);
    } else {
        assert_zero_after(at->dq, 0, a->queries);
        assert_zero_after(at->dk, 0, a->keys);
    }
    size_t used = (size_t)at->used_row_count * at->head_width;
    assert_zero_after(at->out, used * at->head_count, a->queries);
    assert_zero_after(at->dq, used * at->head_count, a->queries);
    assert_zero_after(at->dk, used * at->kv_head_count, a->keys);
    assert_zero_after(at->dv, used * at->kv_head_count, a->keys);
}

// Prefixes empty, of one row, longer than a tile; branches of one row and more.
static const uint32_t small_items[][4] = {{0, 1}, {3, 1, 1}, {0, 4, 2, 5}, {9, 2, 7}, {1, 1, 6, 1}};
static const uint32_t long_items[][4] = {{70, 3, 66}, {0, 150}};
static const uint32_t groups[][3] = {{1, 1, 2}, {2, 1, 10}, {6, 2, 6}, {4, 4, 12}, {8, 1, 4}, {2, 2, 83}, {3, 1, 256}};
static const float softcaps[] = {0, 0.8f, 50};

static void attention_is_right_for_every_shape_window_and_cap(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t windows[] = {0, 1, 2, 3, 7, 11, 1000};
    for (size_t g = 0; g < RMJ_COUNT(groups); g++) {
        struct attention_case *a = open_case(small_items, RMJ_COUNT(small_items), groups[g]);
        for (size_t w = 0; w < RMJ_COUNT(windows); w++) {
            for (size_t c = 0; c < RMJ_COUNT(softcaps); c++) {
                a->at.window = windows[w];
                a->at.softcap = softcaps[c];
                a->at.scale = c == 1 ? 0.9f : (float)(1 / sqrt(groups[g][2]));
                assert_right(a);
            }
        }
        close_case(a);
    }
    close_ops();
}

static void windows_cross_tiles_prefixes_and_branches(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t windows[] = {0, 1, 3, 63, 64, 65, 70, 71, 100, 136, 149, 150, 151};
    static const uint32_t heads[] = {2, 1, 6};
    struct attention_case *a = open_case(long_items, RMJ_COUNT(long_items), heads);
    for (size_t w = 0; w < RMJ_COUNT(windows); w++) {
        a->at.window = windows[w];
        a->at.softcap = w % 2 == 0 ? 0 : 2;
        assert_right(a);
    }
    close_case(a);
    close_ops();
}

static void gradients_are_those_of_central_differences(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t windows[] = {0, 2, 4};
    static const uint32_t heads[][3] = {{6, 2, 6}, {4, 1, 3}, {1, 1, 10}};
    for (size_t h = 0; h < RMJ_COUNT(heads); h++) {
        struct attention_case *a = open_case(small_items, RMJ_COUNT(small_items), heads[h]);
        for (size_t i = 0; i < RMJ_COUNT(windows) * RMJ_COUNT(softcaps); i++) {
            a->at.window = windows[i / RMJ_COUNT(softcaps)];
            a->at.softcap = softcaps[i % RMJ_COUNT(softcaps)];
            a->at.scale = 0.7f;
            compute(a);
            size_t used = (size_t)a->at.used_row_count * heads[h][2];
            assert_gradient(a->at.dq, a->q, used * heads[h][0], evaluate_loss, a, 1e-5);
            assert_gradient(a->at.dk, a->k, used * heads[h][1], evaluate_loss, a, 1e-5);
            assert_gradient(a->at.dv, a->v, used * heads[h][1], evaluate_loss, a, 1e-5);
        }
        close_case(a);
    }
    close_ops();
}

static void a_window_longer_than_every_sequence_changes_no_bit(void **state)
{
    (void)state;
    open_ops(2);
    struct attention_case *a = open_case(long_items, RMJ_COUNT(long_items), groups[2]);
    compute(a);
    float *out = copy(a->at.out, a->queries), *dq = copy(a->at.dq, a->queries);
    float *dk = copy(a->at.dk, a->keys), *dv = copy(a->at.dv, a->keys);
    static const uint32_t windows[] = {150, 151, 4096, UINT32_MAX};
    for (size_t w = 0; w < RMJ_COUNT(windows); w++) {
        a->at.window = windows[w];
        compute(a);
        assert_memory_equal(out, a->at.out, a->queries * sizeof *out);
        assert_memory_equal(dq, a->at.dq, a->queries * sizeof *dq);
        assert_memory_equal(dk, a->at.dk, a->keys * sizeof *dk);
        assert_memory_equal(dv, a->at.dv, a->keys * sizeof *dv);
    }
    free(out);
    free(dq);
    free(dk);
    free(dv);
    close_case(a);
    close_ops();
}

// What is not read costs nothing: keys and values of rows 0 to 59 are no numbers, and the tiles whose windows begin
// after them are whole.
static void rows_before_every_window_of_a_tile_are_not_read(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t items[][4] = {{70, 130, 3}};
    static const uint32_t heads[] = {1, 1, 8};
    struct attention_case *a = open_case(items, 1, heads);
    a->at.window = 5;
    float *k = copy(a->at.k, a->keys), *v = copy(a->at.v, a->keys);
    const float *k_before = a->at.k, *v_before = a->at.v;
    evaluate(a);
    for (size_t i = 0; i < 60 * 8; i++) {
        k[i] = v[i] = NAN;
    }
    a->at.k = k;
    a->at.v = v;
    compute(a);
    size_t first = 70 * 8, count = (130 + 3) * 8; // all branches: their windows begin at row 66 or later
    assert_near(a->at.out + first, a->out + first, count, 2e-6);
    assert_near(a->at.dq + first, a->dq + first, count, 5e-6);
    assert_near(a->at.dv + first, a->dv + first, count, 2e-6);
    assert_true(isnan(a->at.out[0]));
    free(k);
    free(v);
    a->at.k = k_before;
    a->at.v = v_before;
    close_case(a);
    close_ops();
}

static void scores_far_over_the_cap_stay_under_it(void **state)
{
    (void)state;
    open_ops(2);
    struct attention_case *a = open_case(small_items, RMJ_COUNT(small_items), groups[2]);
    a->at.softcap = 3;
    a->at.scale = 100;
    compute(a);
    evaluate(a);
    assert_near(a->at.out, a->out, a->queries, 2e-5); // scores of some hundred are only so precise in float32
    for (size_t i = 0; i < (size_t)a->at.used_row_count * a->at.head_count; i++) {
        assert_true(fabsf(a->at.row_stats[2 * i]) <= 3);
    }
    for (size_t i = 0; i < a->queries; i++) {
        assert_true(isfinite(a->at.dq[i]));
    }
    close_case(a);
    close_ops();
}

// Outputs of all variants, one after another.
static float *run_variants(size_t threads, size_t *count)
{
    open_ops(threads);
    static const uint32_t windows[] = {0, 1, 40, 67};
    static const uint32_t heads[] = {6, 2, 11};
    struct attention_case *a = open_case(long_items, RMJ_COUNT(long_items), heads);
    size_t each = 2 * (a->queries + a->keys), used = 0;
    float *all = calloc(each * RMJ_COUNT(windows) * RMJ_COUNT(softcaps), sizeof *all);
    for (size_t i = 0; i < RMJ_COUNT(windows) * RMJ_COUNT(softcaps); i++) {
        a->at.window = windows[i / RMJ_COUNT(softcaps)];
        a->at.softcap = softcaps[i % RMJ_COUNT(softcaps)];
        compute(a);
        memcpy(all + used, a->at.out, a->queries * sizeof *all);
        memcpy(all + used + a->queries, a->at.dq, a->queries * sizeof *all);
        memcpy(all + used + 2 * a->queries, a->at.dk, a->keys * sizeof *all);
        memcpy(all + used + 2 * a->queries + a->keys, a->at.dv, a->keys * sizeof *all);
        used += each;
    }
    close_case(a);
    close_ops();
    *count = used;
    return all;
}

static void bits_of_every_variant_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    size_t count;
    float *one = run_variants(1, &count);
    for (size_t threads = 2; threads <= 3; threads++) {
        float *other = run_variants(threads, &count);
        assert_memory_equal(one, other, count * sizeof *one);
        free(other);
    }
    free(one);
}

static void rotary_of(uint32_t width, uint32_t rotary_width, float amplitude)
{
    enum { POSITIONS = 400, ROWS = 45, HEADS = 3 };
    size_t pairs = rotary_width / 2, count = (size_t)ROWS * HEADS * width;
    float *frequencies = draw(pairs + 1), *cosines = draw(POSITIONS * pairs + 1), *sines = draw(POSITIONS * pairs + 1);
    for (size_t i = 0; i < pairs; i++) {
        frequencies[i] = (float)pow(10000, -(double)i / (double)pairs);
    }
    struct rmj_rotary rotary = {.position_count = POSITIONS,
                                .pair_count = (uint32_t)pairs,
                                .inverse_frequencies = frequencies,
                                .amplitude = amplitude};
    ops.rotary_tables(ops.context, cosines, sines, &rotary);
    int32_t positions[ROWS];
    for (size_t r = 0; r < ROWS; r++) {
        positions[r] = (int32_t)rmj_rng_below(&rng, POSITIONS);
    }
    float *x = draw(count), *before = copy(x, count), *y = draw(count), *y_before = copy(y, count);
    ops.rotary(ops.context, x, positions, cosines, sines, ROWS, HEADS, width, rotary_width, 0);
    for (size_t h = 0; h < ROWS * HEADS; h++) {
        const float *was = before + h * width, *is = x + h * width;
        for (size_t i = 0; i < pairs; i++) {
            double angle = (double)((float)positions[h / HEADS] * frequencies[i]);
            double c = cos(angle) * (double)amplitude, s = sin(angle) * (double)amplitude;
            assert_true(fabs((double)is[i] - ((double)was[i] * c - (double)was[i + pairs] * s)) < 2e-6);
            assert_true(fabs((double)is[i + pairs] - ((double)was[i + pairs] * c + (double)was[i] * s)) < 2e-6);
        }
        assert_memory_equal(is + rotary_width, was + rotary_width, (width - rotary_width) * sizeof *is);
    }
    ops.rotary(ops.context, y, positions, cosines, sines, ROWS, HEADS, width, rotary_width, 1);
    double forward = 0, backward = 0; // the transpose: <rotated x, y> = <x, y rotated back>
    for (size_t i = 0; i < count; i++) {
        forward += (double)x[i] * (double)y_before[i];
        backward += (double)before[i] * (double)y[i];
    }
    assert_true(fabs(forward - backward) < 1e-5 * sqrt((double)count));
    ops.rotary(ops.context, x, positions, cosines, sines, ROWS, HEADS, width, rotary_width, 1);
    for (size_t i = 0; i < count; i++) {
        float square = i % width < rotary_width ? amplitude * amplitude : 1;
        assert_true(fabsf(x[i] - before[i] * square) < 4e-6f);
    }
    free(frequencies);
    free(cosines);
    free(sines);
    free(x);
    free(before);
    free(y);
    free(y_before);
}

static void rotary_turns_the_rotated_part_by_position_and_back(void **state)
{
    (void)state;
    open_ops(2);
    static const uint32_t widths[][2] = {{2, 2}, {16, 16}, {20, 12}, {80, 32}, {10, 2}, {6, 0}};
    for (size_t i = 0; i < RMJ_COUNT(widths); i++) {
        rotary_of(widths[i][0], widths[i][1], 1);
        rotary_of(widths[i][0], widths[i][1], 1.25f);
    }
    close_ops();
}

int main(void)
{
    struct rmj_error err = {0};
    if (rmj_cpu_check(&err) != RMJ_OK) {
        print_message("SKIP: %s\n", err.message);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_right_for_every_shape_window_and_cap),
        cmocka_unit_test(windows_cross_tiles_prefixes_and_branches),
        cmocka_unit_test(gradients_are_those_of_central_differences),
        cmocka_unit_test(a_window_longer_than_every_sequence_changes_no_bit),
        cmocka_unit_test(rows_before_every_window_of_a_tile_are_not_read),
        cmocka_unit_test(scores_far_over_the_cap_stay_under_it),
        cmocka_unit_test(bits_of_every_variant_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(rotary_turns_the_rotated_part_by_position_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
