// The scan for disagreeing rows on simulated margins, by seed: quiet whatever the data's difficulty and spread, awake
// on swapped labels, and right about which rows they are.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "trainer/run/scan.h"

enum { FILES_MAX = 8, QUIET_RUNS = 400, SEEN_RUNS = 25 };

// What a simulated data set is like.
struct data {
    const char *name;
    uint64_t rows[FILES_MAX]; // of each file, up to the first 0
    double right[FILES_MAX];  // share of pairs that a learnt model scores right; 0 means 0.9
    uint32_t batch;
    double learnt_by; // pairs after which two thirds are learnt
    int turns;        // 1: no direction is learnt for good; the model goes with the last batches
    int heavy;        // margins with tails like 1 / x^2, without a variance
    int in_order;
    // Rows with swapped labels.
    uint32_t bad_file;
    uint64_t bad_first, bad_last;
    double bad_share; // each label swapped with this probability, everywhere
};

struct simulation {
    struct rmj_scan_place *places;
    uint64_t *step_firsts;
    float *margins;
    uint64_t pair_count;
    uint32_t file_count, step_count;
};

static void lay_out(struct simulation *simulation, const struct data *data, struct rmj_rng *rng)
{
    *simulation = (struct simulation){0};
    while (simulation->file_count < FILES_MAX && data->rows[simulation->file_count] > 0) {
        simulation->pair_count += data->rows[simulation->file_count++];
    }
    uint64_t count = simulation->pair_count, at = 0;
    simulation->step_count = (uint32_t)((count + data->batch - 1) / data->batch);
    struct rmj_scan_place *given = malloc(count * sizeof *given);
    uint32_t *order = malloc(count * sizeof *order);
    simulation->places = malloc(count * sizeof *simulation->places);
    simulation->margins = malloc(count * sizeof *simulation->margins);
    simulation->step_firsts = malloc((simulation->step_count + 1u) * sizeof *simulation->step_firsts);
    for (uint32_t file = 0; file < simulation->file_count; file++) {
        for (uint64_t row = 1; row <= data->rows[file]; row++) {
            order[at] = (uint32_t)at;
            given[at++] = (struct rmj_scan_place){.file = file, .row = row};
        }
    }
    if (!data->in_order) {
        rmj_rng_shuffle(rng, order, count);
    }
    for (uint64_t i = 0; i < count; i++) {
        simulation->places[i] = given[order[i]];
        simulation->margins[i] = NAN;
    }
    for (uint32_t step = 0; step <= simulation->step_count; step++) {
        uint64_t first = (uint64_t)step * data->batch;
        simulation->step_firsts[step] = first < count ? first : count;
    }
    free(given);
    free(order);
}

static int is_swapped(const struct data *data, const struct rmj_scan_place *place, struct rmj_rng *rng)
{
    int in_range = data->bad_last > 0 && place->file == data->bad_file && place->row >= data->bad_first &&
                   place->row <= data->bad_last;
    return in_range || (data->bad_share > 0 && rmj_rng_uniform(rng) < data->bad_share);
}

// Margins of a whole run: strength grows with what was learnt; a label that is swapped changes the sign.
static void simulate(struct simulation *simulation, const struct data *data, struct rmj_rng *rng)
{
    double direction = 0;
    for (uint32_t step = 0; step < simulation->step_count; step++) {
        double consumed = (double)simulation->step_firsts[step];
        double strength = 1 - exp(-consumed / data->learnt_by);
        direction = 0.7 * direction + rmj_rng_normal(rng);
        for (uint64_t i = simulation->step_firsts[step]; i < simulation->step_firsts[step + 1]; i++) {
            const struct rmj_scan_place *place = &simulation->places[i];
            double share = data->right[place->file] > 0 ? data->right[place->file] : 0.9;
            // Right with probability 1/2 before anything is learnt.
            double right = 0.5 + (share - 0.5) * (data->turns ? 1 : strength);
            double sign = rmj_rng_uniform(rng) < right ? 1 : -1;
            double size = data->heavy ? 1 / (0.001 + rmj_rng_uniform(rng)) : fabs(rmj_rng_normal(rng));
            sign *= data->turns && direction < 0 ? -1 : 1;
            sign *= is_swapped(data, place, rng) ? -1 : 1;
            simulation->margins[i] = (float)(sign * size * (0.05 + strength));
        }
    }
}

static void release(struct simulation *simulation)
{
    free(simulation->places);
    free(simulation->step_firsts);
    free(simulation->margins);
}

static struct rmj_scan *make_scan(const struct simulation *simulation)
{
    struct rmj_scan_options options = {.places = simulation->places,
                                       .pair_count = simulation->pair_count,
                                       .file_count = simulation->file_count,
                                       .step_firsts = simulation->step_firsts,
                                       .step_count = simulation->step_count};
    struct rmj_scan *scan;
    assert_int_equal(rmj_scan_create(&scan, &options, NULL), RMJ_OK);
    return scan;
}

// Step of the first alarm, or 0.
static uint32_t watch(struct rmj_scan *scan, void *state, uint32_t steps, const float *margins, uint32_t *run)
{
    for (uint32_t step = 1; step <= steps; step++) {
        int64_t found = rmj_scan_step(scan, state, step, margins);
        if (found >= 0) {
            *run = (uint32_t)found;
            return step;
        }
    }
    return 0;
}

static uint32_t try_data(const struct data *data, uint64_t seed, struct rmj_scan_finding *finding)
{
    struct rmj_rng rng;
    struct simulation simulation;
    uint32_t run = 0;
    rmj_rng_init(&rng, seed, 0);
    lay_out(&simulation, data, &rng);
    simulate(&simulation, data, &rng);
    struct rmj_scan *scan = make_scan(&simulation);
    assert_true(rmj_scan_state_bytes(scan) <= 65536);
    void *state = calloc(1, rmj_scan_state_bytes(scan));
    uint32_t step = watch(scan, state, simulation.step_count, simulation.margins, &run);
    if (step > 0) {
        assert_int_equal(rmj_scan_pinpoint(scan, run, step, simulation.margins, finding, NULL), RMJ_OK);
    }
    free(state);
    rmj_scan_destroy(scan);
    release(&simulation);
    return step;
}

static const struct data quiet_data[] = {
    {.name = "healthy", .rows = {3000}, .batch = 32, .learnt_by = 600},
    {.name = "healthy, in order", .rows = {3000}, .batch = 32, .learnt_by = 600, .in_order = 1},
    {.name = "healthy, one pair a step", .rows = {1200}, .batch = 1, .learnt_by = 300},
    {.name = "a plateau from the start", .rows = {1500, 1500}, .batch = 64, .learnt_by = 1},
    {.name = "hard: 55 % right", .rows = {6000}, .right = {0.55}, .batch = 64, .learnt_by = 600},
    {.name = "hard, the model turns", .rows = {3000}, .right = {0.6}, .batch = 32, .learnt_by = 600, .turns = 1},
    {.name = "heavy tails", .rows = {1500, 1500}, .right = {0.7, 0.6}, .batch = 32, .learnt_by = 600, .heavy = 1},
    {.name = "sources of 95, 75, 60 and 50 %",
     .rows = {1000, 1000, 1000, 1000},
     .right = {0.95, 0.75, 0.6, 0.5},
     .batch = 32,
     .learnt_by = 600},
    {.name = "a heavy source of 50 %",
     .rows = {2000, 2000},
     .right = {0.9, 0.5},
     .batch = 32,
     .learnt_by = 300,
     .heavy = 1},
    {.name = "shuffled labels", .rows = {3000}, .batch = 32, .learnt_by = 600, .bad_share = 0.5},
    {.name = "shuffled, the model turns", .rows = {3000}, .batch = 32, .learnt_by = 600, .turns = 1, .bad_share = 0.5},
    {.name = "a fifth swapped all over", .rows = {3000}, .batch = 32, .learnt_by = 600, .bad_share = 0.2},
};

static void data_of_any_difficulty_raise_no_alarm(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(quiet_data); i++) {
        int alarms = 0;
        for (uint64_t seed = 1; seed <= QUIET_RUNS; seed++) {
            struct rmj_scan_finding finding;
            alarms += try_data(&quiet_data[i], seed, &finding) > 0;
        }
        printf("%-32s %d alarms in %d runs\n", quiet_data[i].name, alarms, QUIET_RUNS);
        assert_int_equal(alarms, 0);
    }
}

static const struct data swapped_data[] = {
    {.name = "from row 1801 of 3000 on",
     .rows = {3000},
     .batch = 32,
     .learnt_by = 600,
     .bad_first = 1801,
     .bad_last = 3000},
    {.name = "the first 900 of 3000", .rows = {3000}, .batch = 32, .learnt_by = 600, .bad_first = 1, .bad_last = 900},
    {.name = "rows 1201-1800 of 3000",
     .rows = {3000},
     .batch = 64,
     .learnt_by = 600,
     .bad_first = 1201,
     .bad_last = 1800},
    {.name = "one file of three",
     .rows = {1000, 1000, 1000},
     .batch = 32,
     .learnt_by = 600,
     .bad_file = 1,
     .bad_first = 1,
     .bad_last = 1000},
    {.name = "a range in one file of three",
     .rows = {2000, 2000, 2000},
     .batch = 32,
     .learnt_by = 600,
     .bad_file = 2,
     .bad_first = 501,
     .bad_last = 1200},
    {.name = "a hard set: 70 % right",
     .rows = {20000},
     .right = {0.7},
     .batch = 128,
     .learnt_by = 2000,
     .bad_first = 5001,
     .bad_last = 9000},
    {.name = "heavy tails",
     .rows = {4000},
     .batch = 32,
     .learnt_by = 600,
     .heavy = 1,
     .bad_first = 2001,
     .bad_last = 3000},
    {.name = "from the middle on, it turns",
     .rows = {3000},
     .batch = 32,
     .learnt_by = 600,
     .turns = 1,
     .bad_first = 1501,
     .bad_last = 3000},
    {.name = "four pairs a step", .rows = {2000}, .batch = 4, .learnt_by = 400, .bad_first = 1401, .bad_last = 2000},
};

static void expect_rows(const struct data *data)
{
    uint32_t latest = 0, steps = 0;
    double worst = 1;
    for (uint64_t seed = 1; seed <= SEEN_RUNS; seed++) {
        struct rmj_scan_finding finding;
        uint32_t step = try_data(data, seed, &finding);
        assert_true(step > 0);
        assert_int_equal(finding.first.file, data->bad_file);
        assert_int_equal(finding.last.file, data->bad_file);
        double shared = (double)(finding.last.row < data->bad_last ? finding.last.row : data->bad_last) -
                        (double)(finding.first.row > data->bad_first ? finding.first.row : data->bad_first) + 1;
        double either = (double)(finding.last.row > data->bad_last ? finding.last.row : data->bad_last) -
                        (double)(finding.first.row < data->bad_first ? finding.first.row : data->bad_first) + 1;
        worst = shared / either < worst ? shared / either : worst;
        assert_true(finding.margin < 0 && finding.other_margin > 0);
        latest = step > latest ? step : latest;
        steps = (uint32_t)((data->rows[0] + data->rows[1] + data->rows[2] + data->batch - 1) / data->batch);
    }
    printf("%-32s seen by step %u of %u, rows right to %.0f %%\n", data->name, latest, steps, 100 * worst);
    assert_true(worst >= 0.75);
}

static void swapped_rows_are_seen_and_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(swapped_data); i++) {
        expect_rows(&swapped_data[i]);
    }
}

// A rank that comes back has the state, but not the margins of the steps before.
static void the_state_is_all_that_a_new_rank_needs(void **unused)
{
    (void)unused;
    const struct data *data = &swapped_data[2];
    struct rmj_rng rng;
    struct simulation simulation;
    uint32_t run[2] = {0};
    rmj_rng_init(&rng, 3, 0);
    lay_out(&simulation, data, &rng);
    simulate(&simulation, data, &rng);
    struct rmj_scan *one = make_scan(&simulation), *two = make_scan(&simulation);
    size_t size = rmj_scan_state_bytes(one);
    void *whole = calloc(1, size), *split = calloc(1, size);
    uint32_t step = watch(one, whole, simulation.step_count, simulation.margins, &run[0]);
    assert_true(step > 2);
    assert_int_equal(watch(one, split, step - 1, simulation.margins, &run[1]), 0);
    for (uint64_t i = 0; i < simulation.step_firsts[step - 1]; i++) {
        simulation.margins[i] = NAN;
    }
    assert_int_equal(rmj_scan_step(two, split, step, simulation.margins), run[0]);
    assert_memory_equal(whole, split, size);
    struct rmj_scan_finding finding;
    assert_int_equal(rmj_scan_pinpoint(two, run[0], step, simulation.margins, &finding, NULL), RMJ_OK);
    assert_true(finding.first.row <= data->bad_last && finding.last.row >= data->bad_first);
    rmj_scan_destroy(one);
    rmj_scan_destroy(two);
    free(whole);
    free(split);
    release(&simulation);
}

// 3,000 files of three rows: blocks and runs keep to their bound, every file lies in one of them.
static void many_files_share_the_blocks(void **unused)
{
    (void)unused;
    enum { FILES = 3000, COUNT = 3 * FILES, BATCH = 100 };
    struct simulation simulation = {.pair_count = COUNT, .file_count = FILES, .step_count = COUNT / BATCH};
    simulation.places = calloc(COUNT, sizeof *simulation.places);
    simulation.margins = calloc(COUNT, sizeof *simulation.margins);
    simulation.step_firsts = calloc(COUNT / BATCH + 1, sizeof *simulation.step_firsts);
    for (uint32_t i = 0; i < COUNT; i++) {
        simulation.places[i] = (struct rmj_scan_place){.file = i % FILES, .row = 1 + i / FILES};
        simulation.margins[i] = i % 4 == 0 ? -1 : 1;
    }
    for (uint32_t step = 0; step <= COUNT / BATCH; step++) {
        simulation.step_firsts[step] = (uint64_t)step * BATCH;
    }
    struct rmj_scan *scan = make_scan(&simulation);
    size_t size = rmj_scan_state_bytes(scan);
    uint32_t run = 0;
    assert_true(size > 0 && size <= 65536);
    void *state = calloc(1, size);
    assert_int_equal(watch(scan, state, simulation.step_count, simulation.margins, &run), 0);
    free(state);
    rmj_scan_destroy(scan);
    release(&simulation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_of_any_difficulty_raise_no_alarm),
        cmocka_unit_test(swapped_rows_are_seen_and_named),
        cmocka_unit_test(the_state_is_all_that_a_new_rank_needs),
        cmocka_unit_test(many_files_share_the_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
