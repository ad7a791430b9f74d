// What an evaluation reads, by digest: prepare pins it in the plan, and ranks compare before they score.
#ifndef RMJ_TRAINER_DATA_PINS_H
#define RMJ_TRAINER_DATA_PINS_H

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/plan.h"

// Compares the benchmark and the held-out files that the spec names with the plan's pins. RMJ_DATA names what changed
// or is gone since the job was prepared.
RMJ_MUST_USE enum rmj_status rmj_pins_check_evaluation(const Rmjob__V1__JobSpec *spec, const struct rmj_plan_info *info,
                                                       struct rmj_error *err);

#endif
