// A model's shape, read from config.json; and the Hugging Face directory it comes from.
#ifndef RMJ_TRAINER_MODEL_CONFIG_H
#define RMJ_TRAINER_MODEL_CONFIG_H

#include <stdint.h>

#include "base/status.h"

enum rmj_rope_kind { RMJ_ROPE_DEFAULT, RMJ_ROPE_LINEAR, RMJ_ROPE_LLAMA3 };

struct rmj_model_config {
    char architecture[64]; // "LlamaForCausalLM", ...
    char family[32];       // "llama"
    uint32_t layer_count;
    uint32_t hidden_width;       // C
    uint32_t head_count;         // H
    uint32_t kv_head_count;      // K
    uint32_t head_width;         // D
    uint32_t feed_forward_width; // F
    uint32_t vocabulary_size;    // V, as in the base model's files
    uint32_t position_count_max;
    float norm_epsilon;
    int tied_embeddings;
    int attention_bias;
    int mlp_bias;
    enum rmj_rope_kind rope_kind;
    double rope_theta;
    double rope_factor;
    double rope_low_frequency_factor;
    double rope_high_frequency_factor;
    uint32_t rope_original_position_count;
    int32_t bos_token, eos_token, pad_token; // -1 when absent
};

// Reads directory/config.json. RMJ_DATA names the file, the key and the mend; anything the config asks for that is not
// computed here is refused by its key.
RMJ_MUST_USE enum rmj_status rmj_model_config_read(struct rmj_model_config *config, const char *directory,
                                                   struct rmj_error *err);
// Parameters of the reward model: body and head, without a language-model head.
uint64_t rmj_model_parameter_count(const struct rmj_model_config *config);

#endif
