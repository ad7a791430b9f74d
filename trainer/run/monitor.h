// The data watch as one thing (promise P6): the fall of the margin (watch.h), rows that disagree (scan.h), labels
// without signal (watch.h), and sources that fall (stream.h). Fed with the margins of each step, before the step is
// learnt; what it holds between steps is part of the replicated training state.
#ifndef RMJ_TRAINER_RUN_MONITOR_H
#define RMJ_TRAINER_RUN_MONITOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/data/plan.h"
#include "trainer/run/scan.h"
#include "trainer/run/stream.h"
#include "trainer/run/watch.h"

// What was found; the first finding stays, so that whoever comes back at this step knows of it.
enum rmj_alarm {
    RMJ_ALARM_NONE,
    RMJ_ALARM_FALL,         // the margin fell
    RMJ_ALARM_DISAGREEMENT, // rows score the other way round than the rest
    RMJ_ALARM_SOURCE,       // a source's accuracy fell; the others', if any, did or did not
    RMJ_ALARM_NO_SIGNAL,    // at the end: right no more often than chance
    RMJ_ALARM_RANGE,        // a range of rows is right less often than chance, all others more often
};

// Followed in memory and in the store by the scan's part, the stream's cells and its blocks.
struct rmj_monitor_state {
    struct rmj_watch watch;
    struct rmj_signal signal;
    uint32_t alarm;     // enum rmj_alarm
    uint32_t alarm_run; // of the scan, for a disagreement
    uint32_t alarm_step;
    uint32_t fall_source, fall_split, fall_end, fall_others_hold; // RMJ_ALARM_RANGE: source, first block, end
    uint32_t unused;
};
_Static_assert(sizeof(struct rmj_monitor_state) == 64 + 16 + 32, "state layout is stored");

struct rmj_monitor {
    struct rmj_scan *scan;
    const uint16_t *blocks;      // [pair_count] of its source: number over all
    const uint64_t *source_rows; // last row of each source
    uint32_t file_count, step_count;
    uint64_t pair_count;
};

// From the plan, or from the places themselves (options of the scan; file of each pair).
RMJ_MUST_USE enum rmj_status rmj_monitor_create(struct rmj_monitor *monitor, const struct rmj_scan_options *options,
                                                struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_monitor_of_plan(struct rmj_monitor *monitor, const struct rmj_plan *plan,
                                                 struct rmj_error *err);
void rmj_monitor_destroy(struct rmj_monitor *monitor);

size_t rmj_monitor_state_bytes(const struct rmj_monitor *monitor); // a multiple of 8; begins as zeros, aligned to 8
void *rmj_monitor_scan_state(struct rmj_monitor_state *state);
struct rmj_stream_cell *rmj_monitor_cells(const struct rmj_monitor *monitor, struct rmj_monitor_state *state);
struct rmj_stream_block *rmj_monitor_blocks(const struct rmj_monitor *monitor, struct rmj_monitor_state *state);

// Source of a pair, by its number in the order of training.
uint32_t rmj_monitor_source(const struct rmj_monitor *monitor, uint64_t pair);

struct rmj_monitor_step {
    uint32_t step; // from 1
    uint64_t first_pair;
    uint32_t pair_count;
    double margin, variance; // of the step's margins
    const float *margins;    // [pair_count] of the whole order
};
// Takes a step. Allocates nothing; the same on every rank.
void rmj_monitor_step(const struct rmj_monitor *monitor, struct rmj_monitor_state *state,
                      const struct rmj_monitor_step *step);

#endif
