// The scan for rows that disagree (promise P6): labels that are swapped in a range of rows, or in a whole file, also
// under a shuffled order, where every step looks much like the one before.
//
// Every pair is scored before it is learnt. Each file is cut into blocks of rows. In windows of 64 pairs or one step,
// the direction in which the model is going is taken from the pairs outside a run of blocks, and the margins of the
// run's pairs are added up with that direction as weight. Right labels agree: the sum rises. Labels without meaning
// give sums about zero, whatever their spread. Swapped ones give a sum that falls, also when they are half of all rows
// and the model turns with each batch. A model that has learnt nothing has no direction: early steps weigh little.
//
// Null hypothesis: in a window, the signs of the run's margins are chance given the others, or the signs of the others
// are chance given the run's. With d the direction, s the run's sum and v its sum of squares, E exp(-l d s - l^2 n / 2)
// <= 1 for each l, with n = d^2 v in the first case and n = s^2 in the second. That makes a supermartingale, and the
// normal mixture of those (Robbins, Ann. Math. Stat. 41, 1970, p. 1402) bounds the sum over all windows at once. Both
// bounds must be broken; over the runs it is Bonferroni. A job of such data alarms with probability 2^-20 at most,
// whatever the sizes of its margins, with a variance or without. Data that agree are further away from an alarm:
// test_run_scan simulates all three.
#ifndef RMJ_TRAINER_RUN_SCAN_H
#define RMJ_TRAINER_RUN_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct rmj_scan;

struct rmj_scan_place {
    uint64_t row; // of the file, from 1
    uint32_t file;
};

struct rmj_scan_options {
    const struct rmj_scan_place *places; // [pair_count] in the order of training; copied
    uint64_t pair_count;
    uint32_t file_count;
    const uint64_t *step_firsts; // [step_count + 1] first pair of each step, and the pair count; copied
    uint32_t step_count;
};
RMJ_MUST_USE enum rmj_status rmj_scan_create(struct rmj_scan **scan, const struct rmj_scan_options *options,
                                             struct rmj_error *err);
void rmj_scan_destroy(struct rmj_scan *scan);

// Size of the replicated part, at most 64 KiB, a multiple of 8; begins as zeros, aligned to 8.
size_t rmj_scan_state_bytes(const struct rmj_scan *scan);
// Takes a 1-based step. margins: [pair_count] of the whole order. Returns the run that disagrees most if one does
// beyond chance at the end of a window, else -1. Allocates nothing; the same on every rank.
int64_t rmj_scan_step(struct rmj_scan *scan, void *state, uint32_t step, const float *margins);

// The run that disagrees most if one does with a chance of 2^-7 at most, else -1: whom to name when the labels as a
// whole have been found to carry no signal.
int64_t rmj_scan_suspect(const struct rmj_scan *scan, const void *state);

// What can be told of a run: the rows, by the single pairs where their margins are known (not NaN), else by its blocks.
struct rmj_scan_finding {
    struct rmj_scan_place first, last;
    uint64_t pairs, other_pairs; // with known margins, in steps with a direction
    double margin, other_margin; // mean, in the direction of the other rows
    double share;                // of the rows
};
RMJ_MUST_USE enum rmj_status rmj_scan_pinpoint(const struct rmj_scan *scan, uint32_t run, uint32_t step,
                                               const float *margins, struct rmj_scan_finding *finding,
                                               struct rmj_error *err);

#endif
