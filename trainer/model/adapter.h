// PEFT adapter directories: adapter_config.json and adapter_model.safetensors, with the base model by its path.
//
// An adapter directory is read like the model that it makes of its base: rmj_model_config_read gives the base model's
// config and rmj_weights_load the merged weights, so that `rmjob-rank score` and evaluation take both kinds.
#ifndef RMJ_TRAINER_MODEL_ADAPTER_H
#define RMJ_TRAINER_MODEL_ADAPTER_H

#include "trainer/model/checkpoint_io.h"

// 1 when the directory holds adapter_config.json, and no model of its own.
int rmj_adapter_is(const char *directory);
// The base model's directory, malloc'ed: base_model_name_or_path as it stands. RMJ_DATA when it is not there.
RMJ_MUST_USE enum rmj_status rmj_adapter_base(const char *directory, char **base, struct rmj_error *err);
// Adds the directory's adapters to the base model's weights, in a layout without adapters, and sets the head. RMJ_DATA
// names file, key or tensor; what an adapter may ask for and is not computed here is refused by its key.
RMJ_MUST_USE enum rmj_status rmj_adapter_apply(const char *directory, const struct rmj_model_config *config,
                                               const struct rmj_layout *layout, float *weights, struct rmj_error *err);
// adapter_config.json and adapter_model.safetensors into `directory`.
RMJ_MUST_USE enum rmj_status rmj_adapter_write(const struct rmj_export_options *options, const char *directory,
                                               struct rmj_error *err);

#endif
