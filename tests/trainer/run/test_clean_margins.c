// Twenty clean epochs of stories15M on real pairs, made once by keep_margins.py, as the data watch saw them: real
// labels are noisy (accuracy 0.55 to 0.61) and must not be stopped; the same margins with the sides of some rows
// exchanged are what a swapped source looks like to a model that has learnt from elsewhere, and must be stopped when
// there is evidence.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/fs.h"
#include "trainer/run/monitor.h"

#define EPOCHS 20u

struct epoch {
    uint32_t seed, pair_count, batch, step_count;
    struct rmj_scan_place *places;
    float *margins;
    uint64_t *step_firsts;
};

static struct epoch epochs[EPOCHS];

static uint32_t take_u32(const char **at)
{
    uint32_t value;
    memcpy(&value, *at, sizeof value);
    *at += sizeof value;
    return value;
}

static void read_epoch(struct epoch *epoch, const char **at)
{
    epoch->seed = take_u32(at);
    epoch->pair_count = take_u32(at);
    epoch->batch = take_u32(at);
    epoch->step_count = (epoch->pair_count + epoch->batch - 1) / epoch->batch;
    epoch->places = calloc(epoch->pair_count, sizeof *epoch->places);
    epoch->margins = calloc(epoch->pair_count, sizeof *epoch->margins);
    epoch->step_firsts = calloc(epoch->step_count + 1, sizeof *epoch->step_firsts);
    for (uint32_t i = 0; i < epoch->pair_count; i++) {
        uint16_t row;
        int16_t margin;
        memcpy(&row, *at, sizeof row);
        memcpy(&margin, *at + sizeof row, sizeof margin);
        *at += sizeof row + sizeof margin;
        epoch->places[i].row = row;
        epoch->margins[i] = (float)margin / 1024;
    }
    for (uint32_t step = 0; step <= epoch->step_count; step++) {
        uint64_t first = (uint64_t)step * epoch->batch;
        epoch->step_firsts[step] = first < epoch->pair_count ? first : epoch->pair_count;
    }
}

static int read_all(void **state)
{
    (void)state;
    struct rmj_buf bytes;
    char *path = NULL;
    const char *source = getenv("RMJOB_SOURCE");
    rmj_buf_init(&bytes, (size_t)1 << 20);
    if (asprintf(&path, "%s/tests/trainer/run/clean_margins.bin", source == NULL ? "." : source) < 0 ||
        rmj_fs_read(path, &bytes, NULL) != RMJ_OK) {
        return -1;
    }
    const char *at = bytes.bytes;
    assert_int_equal(take_u32(&at), EPOCHS);
    for (uint32_t i = 0; i < EPOCHS; i++) {
        read_epoch(&epochs[i], &at);
    }
    assert_ptr_equal(at, bytes.bytes + bytes.size);
    rmj_buf_deinit(&bytes);
    free(path);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        free(epochs[i].places);
        free(epochs[i].margins);
        free(epochs[i].step_firsts);
    }
    return 0;
}

// Runs the watch over an epoch; the alarm, and the step at which it came.
static enum rmj_alarm watch(const struct epoch *epoch, uint32_t file_count, uint32_t *step_of_alarm)
{
    struct rmj_monitor monitor;
    struct rmj_scan_options options = {.places = epoch->places,
                                       .pair_count = epoch->pair_count,
                                       .file_count = file_count,
                                       .step_firsts = epoch->step_firsts,
                                       .step_count = epoch->step_count};
    assert_int_equal(rmj_monitor_create(&monitor, &options, NULL), RMJ_OK);
    struct rmj_monitor_state *state = calloc(1, rmj_monitor_state_bytes(&monitor));
    for (uint32_t step = 1; step <= epoch->step_count; step++) {
        uint64_t first = epoch->step_firsts[step - 1], end = epoch->step_firsts[step];
        double sum = 0, square = 0, count = (double)(end - first);
        for (uint64_t i = first; i < end; i++) {
            sum += (double)epoch->margins[i];
            square += (double)epoch->margins[i] * (double)epoch->margins[i];
        }
        rmj_monitor_step(&monitor, state,
                         &(struct rmj_monitor_step){.step = step,
                                                    .first_pair = first,
                                                    .pair_count = (uint32_t)(end - first),
                                                    .margin = sum / count,
                                                    .variance = fmax(0, square / count - sum / count * (sum / count)),
                                                    .margins = epoch->margins});
    }
    enum rmj_alarm alarm = (enum rmj_alarm)state->alarm;
    *step_of_alarm = state->alarm_step;
    free(state);
    rmj_monitor_destroy(&monitor);
    return alarm;
}

static void no_clean_epoch_is_stopped(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        uint32_t step, right = 0;
        for (uint32_t k = 0; k < epochs[i].pair_count; k++) {
            right += epochs[i].margins[k] > 0;
        }
        printf("seed %2u accuracy %.3f\n", epochs[i].seed, (double)right / epochs[i].pair_count);
        assert_int_equal(watch(&epochs[i], 1, &step), RMJ_ALARM_NONE);
    }
}

static void nor_when_the_rows_are_called_two_sources(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        uint32_t step;
        for (uint32_t k = 0; k < epochs[i].pair_count; k++) {
            epochs[i].places[k].file = epochs[i].places[k].row > 1100;
        }
        assert_int_equal(watch(&epochs[i], 2, &step), RMJ_ALARM_NONE);
        for (uint32_t k = 0; k < epochs[i].pair_count; k++) {
            epochs[i].places[k].file = 0;
        }
    }
}

// Evidence: the pairs of the range were right too often by so many standard errors to be wrong labels.
static void swapped_rows_are_stopped_once_the_evidence_is_there(void **state)
{
    (void)state;
    uint32_t stopped = 0, with_evidence = 0;
    for (uint32_t i = 0; i < EPOCHS; i++) {
        struct epoch *epoch = &epochs[i];
        double right = 0, count = 0;
        uint32_t step;
        for (uint32_t k = 0; k < epoch->pair_count; k++) {
            if (epoch->places[k].row > 1200) {
                right += epoch->margins[k] > 0;
                count++;
                epoch->margins[k] = -epoch->margins[k];
            }
        }
        double errors = (right / count - 0.5) / sqrt(0.25 / count);
        enum rmj_alarm alarm = watch(epoch, 1, &step);
        with_evidence += errors >= 5;
        stopped += alarm != RMJ_ALARM_NONE;
        // One and a half more for what the first window and the edges of the blocks leave out.
        assert_true(alarm != RMJ_ALARM_NONE || errors < 6.5);
        printf("seed %2u evidence %.1f standard errors: alarm %d at step %u\n", epoch->seed, errors, (int)alarm, step);
        for (uint32_t k = 0; k < epoch->pair_count; k++) {
            epoch->margins[k] = epoch->places[k].row > 1200 ? -epoch->margins[k] : epoch->margins[k];
        }
    }
    printf("%u of %u stopped, %u with five standard errors\n", stopped, EPOCHS, with_evidence);
    assert_true(stopped > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_clean_epoch_is_stopped),
        cmocka_unit_test(nor_when_the_rows_are_called_two_sources),
        cmocka_unit_test(swapped_rows_are_stopped_once_the_evidence_is_there),
    };
    return cmocka_run_group_tests_name("clean_margins", tests, read_all, free_all);
}
