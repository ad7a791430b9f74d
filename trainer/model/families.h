// The families of models: one row of families.c and one file below families/ each. How to add one: families/README.md.
#ifndef RMJ_TRAINER_MODEL_FAMILIES_H
#define RMJ_TRAINER_MODEL_FAMILIES_H

#include <stddef.h>

#include "trainer/model/config_reader.h"

// A key that is accepted at one value only, written as JSON; null is always accepted, and "null" accepts nothing else.
struct rmj_neutral_key {
    const char *key, *value;
};

struct rmj_family {
    const char *model_type; // config.json's, and the name of the family everywhere
    const char *causal;     // architectures that are understood
    const char *classifier;
    const char *const *keys;               // read by `read` beside the common ones; NULL-terminated
    const struct rmj_neutral_key *neutral; // ended by a NULL key; may be NULL
    // What the public implementation takes where config.json has no such key; 0: its own default, in config.c.
    uint32_t kv_head_count, head_width, position_count_max, original_position_count;
    double norm_epsilon, rope_theta;
    int tied_embeddings;
    int partial_rotary; // partial_rotary_factor may be under 1
    // Fills what differs from Llama; the common keys are in config already.
    enum rmj_status (*read)(const struct rmj_config_reader *reader, struct rmj_model_config *config);
};

// By architecture name; NULL when there is none.
const struct rmj_family *rmj_family_of_architecture(const char *architecture);
const struct rmj_family *rmj_family_of_type(const char *model_type);
// "LlamaForCausalLM, MistralForCausalLM, ..." for messages; `out` is always terminated.
void rmj_family_list(char *out, size_t size);

#endif
