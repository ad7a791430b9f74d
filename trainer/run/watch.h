// The margin watch (promise P6): every pair is scored before it is learnt, so in one epoch the step margins are an
// unbiased test of the model on unseen data. A one-sided CUSUM (Page, Biometrika 41, 1954) on standardised step
// margins, against a slow average of them, finds a fall; a plateau or noise does not move it.
//
// The state is part of the replicated training state: equal on every rank, checkpointed, rolled back with the weights.
#ifndef RMJ_TRAINER_RUN_WATCH_H
#define RMJ_TRAINER_RUN_WATCH_H

#include <stdint.h>

struct rmj_watch {
    double level;     // slow average of step margins
    double recent;    // fast average
    double peak;      // highest level so far
    double variance;  // of a step margin, from successive differences
    double previous;  // last step margin
    double sum;       // the CUSUM
    double from;      // level when the sum began to rise, for the message
    uint32_t steps;   // seen so far
    uint32_t rise_at; // step count at which the sum left zero
};

// Counts of the second half of the pairs, scored before they were learnt: what the labels are worth.
struct rmj_signal {
    uint64_t pairs;
    uint64_t right_twice; // twice the pairs whose chosen side scored higher; equal scores count once
};
void rmj_signal_take(struct rmj_signal *signal, const float *margins, uint32_t pair_count);
// 1 when, at the end of the epoch, the labels carry no signal: of at least 800 pairs no more are right than chance
// gives (under two standard errors over a half), and 55 % can be ruled out (2.33 standard errors). Labels without
// meaning get through with probability 2.3 % (6 % at 1,500 pairs, 20 % at 1,000, 31 % at 800), labels that are right 55
// % of the time are refused with 1 % at most, 0.02 % from 3,000 pairs on.
int rmj_signal_is_absent(const struct rmj_signal *signal);

// One step: mean and variance of its pairs' margins. 1 when the watch alarms.
int rmj_watch_step(struct rmj_watch *watch, double mean, double variance, uint32_t pair_count);

#endif
