// train.lora and publish.form of a spec against the base model.
#ifndef RMJ_TRAINER_DATA_LORA_SPEC_H
#define RMJ_TRAINER_DATA_LORA_SPEC_H

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/findings.h"
#include "trainer/data/template.h"
#include "trainer/model/lora.h"

// The adapters of a spec, with the defaults that spec.proto documents; rank 0 without train.lora. RMJ_INVALID as
// rmj_lora_init.
RMJ_MUST_USE enum rmj_status rmj_lora_of_spec(struct rmj_lora *lora, const Rmjob__V1__JobSpec *spec,
                                              const struct rmj_model_config *config, struct rmj_error *err);
// 1 when the model is published as an adapter directory.
int rmj_publishes_adapter(const Rmjob__V1__JobSpec *spec);
// What is wrong with the two as findings; *lora is what the job trains.
RMJ_MUST_USE enum rmj_status rmj_lora_check(struct rmj_lora *lora, const Rmjob__V1__JobSpec *spec,
                                            const struct rmj_model_config *config, const struct rmj_renderer *renderer,
                                            struct rmj_findings *findings, struct rmj_error *err);

#endif
