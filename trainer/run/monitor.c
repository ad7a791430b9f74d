#include "trainer/run/monitor.h"

#include <stdlib.h>
#include <string.h>

enum rmj_status rmj_monitor_create(struct rmj_monitor *monitor, const struct rmj_scan_options *options,
                                   struct rmj_error *err)
{
    *monitor = (struct rmj_monitor){
        .file_count = options->file_count, .step_count = options->step_count, .pair_count = options->pair_count};
    uint32_t sources = rmj_stream_source_count(options->file_count);
    uint16_t *blocks = malloc(options->pair_count * sizeof *blocks);
    uint64_t *rows = calloc(sources, sizeof *rows);
    monitor->blocks = blocks;
    monitor->source_rows = rows;
    if (blocks == NULL || rows == NULL) {
        rmj_monitor_destroy(monitor);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the sources of %llu pairs",
                        (unsigned long long)options->pair_count);
    }
    for (uint64_t i = 0; i < options->pair_count; i++) {
        uint32_t source = rmj_stream_source(options->file_count, options->places[i].file);
        rows[source] = options->places[i].row > rows[source] ? options->places[i].row : rows[source];
    }
    for (uint64_t i = 0; i < options->pair_count; i++) {
        uint32_t source = rmj_stream_source(options->file_count, options->places[i].file);
        blocks[i] = (uint16_t)(source * RMJ_STREAM_BLOCKS + rmj_stream_block(options->places[i].row, rows[source]));
    }
    enum rmj_status status = rmj_scan_create(&monitor->scan, options, err);
    if (status != RMJ_OK) {
        rmj_monitor_destroy(monitor);
    }
    return status;
}

enum rmj_status rmj_monitor_of_plan(struct rmj_monitor *monitor, const struct rmj_plan *plan, struct rmj_error *err)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    struct rmj_scan_place *places = malloc(info->pair_count * sizeof *places);
    uint64_t *step_firsts = malloc((info->step_count + 1u) * sizeof *step_firsts);
    enum rmj_status status = RMJ_OK;
    if (places == NULL || step_firsts == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for the places of %llu pairs",
                          (unsigned long long)info->pair_count);
        goto out;
    }
    for (uint64_t i = 0; i < info->pair_count; i++) {
        const char *path;
        rmj_plan_pair_source(plan, i, &path, &places[i].row);
        places[i].file = rmj_plan_pair_file(plan, i);
    }
    for (uint32_t step = 1; step <= info->step_count; step++) {
        struct rmj_plan_step plan_step;
        rmj_plan_step(plan, step, &plan_step);
        step_firsts[step - 1] = plan_step.first_pair;
    }
    step_firsts[info->step_count] = info->pair_count;
    status = rmj_monitor_create(monitor,
                                &(struct rmj_scan_options){.places = places,
                                                           .pair_count = info->pair_count,
                                                           .file_count = info->file_count,
                                                           .step_firsts = step_firsts,
                                                           .step_count = info->step_count},
                                err);
out:
    free(places);
    free(step_firsts);
    return status;
}

void rmj_monitor_destroy(struct rmj_monitor *monitor)
{
    rmj_scan_destroy(monitor->scan);
    free((void *)(uintptr_t)monitor->blocks);
    free((void *)(uintptr_t)monitor->source_rows);
    *monitor = (struct rmj_monitor){0};
}

size_t rmj_monitor_state_bytes(const struct rmj_monitor *monitor)
{
    return sizeof(struct rmj_monitor_state) + rmj_scan_state_bytes(monitor->scan) +
           rmj_stream_bytes(monitor->file_count) + rmj_stream_blocks_bytes(monitor->file_count);
}

void *rmj_monitor_scan_state(struct rmj_monitor_state *state)
{
    return state + 1;
}

struct rmj_stream_cell *rmj_monitor_cells(const struct rmj_monitor *monitor, struct rmj_monitor_state *state)
{
    return (struct rmj_stream_cell *)(void *)((char *)(state + 1) + rmj_scan_state_bytes(monitor->scan));
}

struct rmj_stream_block *rmj_monitor_blocks(const struct rmj_monitor *monitor, struct rmj_monitor_state *state)
{
    return (struct rmj_stream_block *)(void *)((char *)rmj_monitor_cells(monitor, state) +
                                               rmj_stream_bytes(monitor->file_count));
}

uint32_t rmj_monitor_source(const struct rmj_monitor *monitor, uint64_t pair)
{
    return monitor->blocks[pair] / RMJ_STREAM_BLOCKS;
}

static void take_pairs(const struct rmj_monitor *monitor, struct rmj_monitor_state *state,
                       const struct rmj_monitor_step *step)
{
    struct rmj_stream_cell *cells = rmj_monitor_cells(monitor, state);
    struct rmj_stream_block *blocks = rmj_monitor_blocks(monitor, state);
    uint32_t window = rmj_stream_window(step->step, monitor->step_count);
    for (uint64_t i = step->first_pair; i < step->first_pair + step->pair_count; i++) {
        uint32_t source = rmj_monitor_source(monitor, i);
        rmj_stream_take(&cells[(size_t)source * RMJ_STREAM_WINDOWS + window], step->margins[i]);
        if (window > 0) { // a model learns its direction in the first
            blocks[monitor->blocks[i]].pairs++;
            blocks[monitor->blocks[i]].right_twice += step->margins[i] > 0 ? 2 : step->margins[i] == 0 ? 1 : 0;
        }
    }
    if (step->first_pair >= monitor->pair_count / 2) {
        rmj_signal_take(&state->signal, step->margins + step->first_pair, step->pair_count);
    }
}

static int ends_window(const struct rmj_monitor *monitor, uint32_t step)
{
    return step == monitor->step_count ||
           rmj_stream_window(step + 1, monitor->step_count) != rmj_stream_window(step, monitor->step_count);
}

static int source_falls(const struct rmj_monitor *monitor, struct rmj_monitor_state *state, uint32_t step)
{
    struct rmj_stream_fall fall;
    if (!ends_window(monitor, step) ||
        !rmj_stream_falls(rmj_monitor_cells(monitor, state), rmj_stream_source_count(monitor->file_count),
                          rmj_stream_window(step, monitor->step_count) + 1, &fall)) {
        return 0;
    }
    state->fall_source = fall.source;
    state->fall_split = fall.split;
    state->fall_end = fall.end;
    state->fall_others_hold = (uint32_t)fall.others_hold;
    return 1;
}

static int range_disagrees(const struct rmj_monitor *monitor, struct rmj_monitor_state *state, uint32_t step)
{
    struct rmj_stream_range range;
    if (!ends_window(monitor, step) ||
        !rmj_stream_range(rmj_monitor_blocks(monitor, state), rmj_stream_source_count(monitor->file_count), &range)) {
        return 0;
    }
    state->fall_source = range.source;
    state->fall_split = range.first;
    state->fall_end = range.end;
    return 1;
}

void rmj_monitor_step(const struct rmj_monitor *monitor, struct rmj_monitor_state *state,
                      const struct rmj_monitor_step *step)
{
    int fall = rmj_watch_step(&state->watch, step->margin, step->variance, step->pair_count);
    int64_t run = rmj_scan_step(monitor->scan, rmj_monitor_scan_state(state), step->step, step->margins);
    take_pairs(monitor, state, step);
    if (state->alarm != RMJ_ALARM_NONE) {
        return;
    }
    // The scan names rows and comes first; then the source; a fall is told where neither names anything.
    if (run >= 0) {
        state->alarm = RMJ_ALARM_DISAGREEMENT;
        state->alarm_run = (uint32_t)run;
    } else if (range_disagrees(monitor, state, step->step)) {
        state->alarm = RMJ_ALARM_RANGE;
    } else if (source_falls(monitor, state, step->step)) {
        state->alarm = RMJ_ALARM_SOURCE;
    } else if (fall) {
        state->alarm = RMJ_ALARM_FALL;
    } else if (step->step == monitor->step_count && rmj_signal_is_absent(&state->signal)) {
        state->alarm = RMJ_ALARM_NO_SIGNAL;
    }
    state->alarm_step = state->alarm != RMJ_ALARM_NONE ? step->step : 0;
}
