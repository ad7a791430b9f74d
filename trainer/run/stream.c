#include "trainer/run/stream.h"

#include <math.h>

#include "base/statistics.h"
#include "kernels/cpu/math.h"

// Five standard errors, and as much more as looking at several sources asks for. Measured by test_run_stream: no alarm
// in 6,000 epochs of rising accuracy (every healthy one), under one in 2,000 where it neither rises nor falls.
#define FALL_ERRORS 5.0
#define FALL_LEAST 0.05
#define PAIRS_MIN 128u
// The others hold when they fell by less than half as much.
#define OTHERS_SHARE 0.5
// Rows the other way round: so far under a half, while the others are so far over it.
#define RANGE_ERRORS 5.0
#define RANGE_OTHERS_ERRORS 3.0

static const struct rmj_stream_cell *cell_of(const struct rmj_stream_cell *cells, uint32_t source, uint32_t window)
{
    return &cells[(size_t)source * RMJ_STREAM_WINDOWS + window];
}

uint32_t rmj_stream_source_count(uint32_t file_count)
{
    return file_count < RMJ_STREAM_SOURCES_MAX ? file_count : RMJ_STREAM_SOURCES_MAX;
}

uint32_t rmj_stream_source(uint32_t file_count, uint32_t file)
{
    uint32_t count = rmj_stream_source_count(file_count);
    return count == file_count ? file : (uint32_t)((uint64_t)file * count / file_count);
}

size_t rmj_stream_bytes(uint32_t file_count)
{
    return rmj_stream_source_count(file_count) * RMJ_STREAM_WINDOWS * sizeof(struct rmj_stream_cell);
}

uint32_t rmj_stream_window(uint32_t step, uint32_t step_count)
{
    return (uint32_t)((uint64_t)(step - 1) * RMJ_STREAM_WINDOWS / step_count);
}

void rmj_stream_window_steps(uint32_t window, uint32_t step_count, uint32_t *first, uint32_t *last)
{
    *first = (uint32_t)(((uint64_t)window * step_count + RMJ_STREAM_WINDOWS - 1) / RMJ_STREAM_WINDOWS) + 1;
    *last = (uint32_t)(((uint64_t)(window + 1) * step_count + RMJ_STREAM_WINDOWS - 1) / RMJ_STREAM_WINDOWS);
}

void rmj_stream_take(struct rmj_stream_cell *cell, float margin)
{
    cell->pairs++;
    cell->right_twice += margin > 0 ? 2 : margin == 0 ? 1 : 0;
    cell->margin += (double)margin;
    cell->square += (double)margin * (double)margin;
}

static void add_cells(struct rmj_stream_cell *sum, const struct rmj_stream_cell *cells, uint32_t source, uint32_t first,
                      uint32_t end)
{
    for (uint32_t window = first; window < end; window++) {
        const struct rmj_stream_cell *cell = cell_of(cells, source, window);
        sum->pairs += cell->pairs;
        sum->right_twice += cell->right_twice;
        sum->margin += cell->margin;
        sum->square += cell->square;
    }
}

static double accuracy_of(const struct rmj_stream_cell *cell)
{
    return (double)cell->right_twice / 2 / (double)cell->pairs;
}

struct rmj_stream_estimate rmj_stream_estimate(const struct rmj_stream_cell *cells, uint32_t source, uint32_t first,
                                               uint32_t end)
{
    struct rmj_stream_cell sum = {0};
    add_cells(&sum, cells, source, first, end);
    struct rmj_stream_estimate estimate = {.pairs = sum.pairs};
    if (sum.pairs == 0) {
        return estimate;
    }
    double n = (double)sum.pairs, p = accuracy_of(&sum);
    double variance = sum.square / n - (sum.margin / n) * (sum.margin / n);
    estimate.accuracy = p;
    rmj_wilson(p, n, &estimate.low, &estimate.high);
    // Rounding must not put the estimate itself outside.
    estimate.low = fmin(estimate.low, p);
    estimate.high = fmax(estimate.high, p);
    estimate.margin = sum.margin / n;
    estimate.margin_error = sqrt((variance > 0 ? variance : 0) / n);
    return estimate;
}

// count times the divergence of accuracy p from q, in nats.
static double divergence(double count, double p, double q)
{
    double right = p > 0 ? p * (rmj_math_log(p) - rmj_math_log(q)) : 0;
    double wrong = p < 1 ? (1 - p) * (rmj_math_log(1 - p) - rmj_math_log(1 - q)) : 0;
    return count * (right + wrong);
}

// Standard errors by which accuracy fell from `before` to `after`: the signed root of the likelihood ratio against one
// common accuracy, which keeps its normal tail also where few pairs are wrong. 0 when it did not fall.
static double fall_of(const struct rmj_stream_cell *before, const struct rmj_stream_cell *after, double *size)
{
    *size = 0;
    if (before->pairs < PAIRS_MIN || after->pairs < PAIRS_MIN) {
        return 0;
    }
    double n = (double)before->pairs, m = (double)after->pairs;
    double common = (double)(before->right_twice + after->right_twice) / 2 / (n + m);
    *size = accuracy_of(before) - accuracy_of(after);
    if (*size <= 0) {
        return 0;
    }
    double ratio = divergence(n, accuracy_of(before), common) + divergence(m, accuracy_of(after), common);
    return sqrt(2 * (ratio > 0 ? ratio : 0));
}

static int others_hold(const struct rmj_stream_cell *cells, uint32_t source_count, const struct rmj_stream_fall *fall)
{
    struct rmj_stream_cell before = {0}, after = {0};
    for (uint32_t other = 0; other < source_count; other++) {
        if (other != fall->source) {
            add_cells(&before, cells, other, fall->from, fall->split);
            add_cells(&after, cells, other, fall->split, fall->end);
        }
    }
    double size;
    (void)fall_of(&before, &after, &size);
    return before.pairs >= PAIRS_MIN && after.pairs >= PAIRS_MIN && size < OTHERS_SHARE * fall->size;
}

int rmj_stream_falls(const struct rmj_stream_cell *cells, uint32_t source_count, uint32_t end,
                     struct rmj_stream_fall *fall)
{
    *fall = (struct rmj_stream_fall){.from = 1, .end = end};
    double least = sqrt(FALL_ERRORS * FALL_ERRORS + 2 * rmj_math_log(source_count));
    for (uint32_t source = 0; source < source_count; source++) {
        for (uint32_t split = 2; split < end; split++) {
            struct rmj_stream_cell before = {0}, after = {0};
            double size;
            add_cells(&before, cells, source, 1, split);
            add_cells(&after, cells, source, split, end);
            double errors = fall_of(&before, &after, &size);
            if (errors >= least && size >= FALL_LEAST && errors > fall->errors) {
                fall->errors = errors;
                fall->size = size;
                fall->source = source;
                fall->split = split;
            }
        }
    }
    if (fall->errors > 0) {
        fall->others_hold = others_hold(cells, source_count, fall);
    }
    return fall->errors > 0;
}

size_t rmj_stream_blocks_bytes(uint32_t file_count)
{
    return rmj_stream_source_count(file_count) * RMJ_STREAM_BLOCKS * sizeof(struct rmj_stream_block);
}

uint32_t rmj_stream_block(uint64_t row, uint64_t row_count)
{
    return row > row_count ? RMJ_STREAM_BLOCKS - 1 : (uint32_t)((row - 1) * RMJ_STREAM_BLOCKS / row_count);
}

// Standard errors over a half; under it they are negative.
static double errors_of(uint64_t pairs, uint64_t right_twice)
{
    double n = (double)pairs;
    return pairs == 0 ? 0 : ((double)right_twice - n) / sqrt(n);
}

int rmj_stream_range(const struct rmj_stream_block *blocks, uint32_t source_count, struct rmj_stream_range *range)
{
    struct rmj_stream_block all = {0};
    *range = (struct rmj_stream_range){0};
    for (uint32_t i = 0; i < source_count * RMJ_STREAM_BLOCKS; i++) {
        all.pairs += blocks[i].pairs;
        all.right_twice += blocks[i].right_twice;
    }
    for (uint32_t i = 0; i < source_count * RMJ_STREAM_BLOCKS; i++) {
        uint32_t source = i / RMJ_STREAM_BLOCKS, first = i % RMJ_STREAM_BLOCKS;
        struct rmj_stream_block run = {0};
        for (uint32_t last = first; last < RMJ_STREAM_BLOCKS; last++) {
            run.pairs += blocks[source * RMJ_STREAM_BLOCKS + last].pairs;
            run.right_twice += blocks[source * RMJ_STREAM_BLOCKS + last].right_twice;
            uint64_t pairs = all.pairs - run.pairs, right_twice = all.right_twice - run.right_twice;
            double errors = -errors_of(run.pairs, run.right_twice);
            if (run.pairs < PAIRS_MIN || errors < RANGE_ERRORS || errors <= range->errors ||
                errors_of(pairs, right_twice) < RANGE_OTHERS_ERRORS) {
                continue;
            }
            *range = (struct rmj_stream_range){.source = source,
                                               .first = first,
                                               .end = last + 1,
                                               .errors = errors,
                                               .pairs = run.pairs,
                                               .other_pairs = pairs,
                                               .accuracy = (double)run.right_twice / 2 / (double)run.pairs,
                                               .other_accuracy = (double)right_twice / 2 / (double)pairs};
        }
    }
    return range->errors > 0;
}

struct rmj_stream_range rmj_stream_range_of(const struct rmj_stream_block *blocks, uint32_t source_count,
                                            uint32_t source, uint32_t first, uint32_t end)
{
    struct rmj_stream_block run = {0}, others = {0};
    for (uint32_t i = 0; i < source_count * RMJ_STREAM_BLOCKS; i++) {
        uint32_t block = i % RMJ_STREAM_BLOCKS;
        int inside = i / RMJ_STREAM_BLOCKS == source && block >= first && block < end;
        struct rmj_stream_block *sum = inside ? &run : &others;
        sum->pairs += blocks[i].pairs;
        sum->right_twice += blocks[i].right_twice;
    }
    return (struct rmj_stream_range){.source = source,
                                     .first = first,
                                     .end = end,
                                     .errors = -errors_of(run.pairs, run.right_twice),
                                     .pairs = run.pairs,
                                     .other_pairs = others.pairs,
                                     .accuracy = run.pairs == 0 ? 0 : (double)run.right_twice / 2 / (double)run.pairs,
                                     .other_accuracy =
                                         others.pairs == 0 ? 0 : (double)others.right_twice / 2 / (double)others.pairs};
}
