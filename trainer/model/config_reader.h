// Reading keys of config.json, for config.c and the families. Private to trainer/model.
//
// An explicit null counts as an absent key, but for rmj_config_present. Every function fails with RMJ_DATA, naming file
// and key.
#ifndef RMJ_TRAINER_MODEL_CONFIG_READER_H
#define RMJ_TRAINER_MODEL_CONFIG_READER_H

#include <jansson.h>

#include "trainer/model/config.h"

struct rmj_family;

struct rmj_config_reader {
    json_t *root;
    const char *path;
    const struct rmj_family *family;
    struct rmj_error *err;
};

const json_t *rmj_config_value(const json_t *object, const char *key);
// 1 when the key is there, null or not: some defaults differ between "absent" and "none".
int rmj_config_present(const struct rmj_config_reader *r, const char *key);
// A whole number from 1 to max; fallback 0 means that the key must be there.
RMJ_MUST_USE enum rmj_status rmj_config_read_count(const struct rmj_config_reader *r, const char *key, uint32_t max,
                                                   uint32_t fallback, uint32_t *out);
RMJ_MUST_USE enum rmj_status rmj_config_read_flag(const struct rmj_config_reader *r, const char *key, int *out);
// One id; of a list (some models end a turn with several) the first; -1 when there is none.
RMJ_MUST_USE enum rmj_status rmj_config_read_token(const struct rmj_config_reader *r, const char *key, int32_t *out);
// A number over zero of `object`, also as a float32; fallback 0 means that the key must be there.
RMJ_MUST_USE enum rmj_status rmj_config_read_positive(const struct rmj_config_reader *r, const json_t *object,
                                                      const char *key, double fallback, double *out);
// Accepts one name of an activation under `key`, or its absence.
RMJ_MUST_USE enum rmj_status rmj_config_check_activation(const struct rmj_config_reader *r, const char *key,
                                                         const char *name);

// Rotary positions for all layers, from rope_theta, rope_scaling and rope_parameters; in config_rope.c, as the next.
RMJ_MUST_USE enum rmj_status rmj_config_read_rope(const struct rmj_config_reader *r, struct rmj_model_config *config);
// Two tables, for full (ropes[0]) and for windowed layers (ropes[1]): rope_parameters by layer type, or rope_theta with
// rope_scaling and rope_local_base_freq.
RMJ_MUST_USE enum rmj_status rmj_config_read_rope_by_layer_type(const struct rmj_config_reader *r, double full_theta,
                                                                double window_theta, struct rmj_model_config *config);

// Sets layers[i].window to `window` where layer_types says "sliding_attention". *found is 0 when there is no such key.
// window 0: no layer may be of that type, `why` says what is missing for it.
RMJ_MUST_USE enum rmj_status rmj_config_read_layer_types(const struct rmj_config_reader *r, uint32_t window,
                                                         const char *why, struct rmj_model_config *config, int *found);
// sliding_window: 0 when it is null; `fallback` when it is absent.
RMJ_MUST_USE enum rmj_status rmj_config_read_window(const struct rmj_config_reader *r, uint32_t fallback,
                                                    uint32_t *window);

#endif
