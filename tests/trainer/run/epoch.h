// One epoch in this process, without service, ranks or checkpoints: the plan as `prepare` makes it, the steps as a
// single rank does them. What it gives is the margin of every pair before it was learnt, as the data watch sees it.
#ifndef RMJ_TESTS_TRAINER_RUN_EPOCH_H
#define RMJ_TESTS_TRAINER_RUN_EPOCH_H

#include <stdint.h>

#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/plan.h"

struct epoch_step {
    const struct rmj_plan *plan;
    struct rmj_plan_step step;
    uint32_t number;      // from 1
    const float *margins; // [pair_count of the plan], NaN where not scored yet
};
// 0 goes on, else the epoch ends there.
typedef int (*epoch_fn)(void *context, const struct epoch_step *step);

// directory: for the plan object; it is made. Prints findings and exits when the spec or its data are not sound.
void epoch_run(const Rmjob__V1__JobSpec *spec, const char *directory, uint32_t thread_count, epoch_fn each,
               void *context);

#endif
