// What a job reads beside weights and rows, by digest: prepare pins it in the plan, and ranks compare.
#ifndef RMJ_TRAINER_DATA_PINS_H
#define RMJ_TRAINER_DATA_PINS_H

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/plan.h"

// SHA-256 over what training reads beside weights and rows: the base model's small files, and what data.tokenizer and
// data.chat_template name. Ranks compare it with the plan's companions_digest.
RMJ_MUST_USE enum rmj_status rmj_pins_companions(const Rmjob__V1__JobSpec *spec, struct rmj_digest *digest,
                                                 struct rmj_error *err);
// Compares the benchmark and the held-out files that the spec names with the plan's pins. RMJ_DATA names what changed
// or is gone since the job was prepared.
RMJ_MUST_USE enum rmj_status rmj_pins_check_evaluation(const Rmjob__V1__JobSpec *spec, const struct rmj_plan_info *info,
                                                       struct rmj_error *err);

#endif
