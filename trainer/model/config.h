// A model's shape, read from config.json; and the Hugging Face directory it comes from.
#ifndef RMJ_TRAINER_MODEL_CONFIG_H
#define RMJ_TRAINER_MODEL_CONFIG_H

#include <stdint.h>

#include "base/status.h"
#include "kernels/ops.h"

#define RMJ_LAYER_COUNT_MAX 256u
#define RMJ_HEAD_WIDTH_MAX 1024u
#define RMJ_NO_ROPE 255u

enum rmj_norm_placement {
    RMJ_NORM_BEFORE, // Llama: x + f(norm(x))
    RMJ_NORM_AFTER,  // OLMo 2: x + norm(f(x))
    RMJ_NORM_BOTH,   // Gemma 2: x + norm(f(norm(x)))
};

enum rmj_qk_norm {
    RMJ_QK_NORM_NONE,
    RMJ_QK_NORM_HEAD, // Qwen3, Gemma 3: over the D numbers of each head
    RMJ_QK_NORM_ROW,  // OLMo 2: over a row's H D or K D numbers
};

enum rmj_rope_kind {
    RMJ_ROPE_DEFAULT,
    RMJ_ROPE_LINEAR,
    RMJ_ROPE_LLAMA3,
    RMJ_ROPE_YARN,
    RMJ_ROPE_DYNAMIC,  // the default's frequencies up to the original length, refused above it
    RMJ_ROPE_LONGROPE, // the short factors up to the original length, refused above it
};

// One table of rotary positions; trainer/model/rope.h computes it.
struct rmj_rope {
    enum rmj_rope_kind kind;
    double theta;
    double factor;
    double low_frequency_factor, high_frequency_factor; // llama3
    double beta_fast, beta_slow;                        // yarn
    int truncate;                                       // yarn: the ramp's ends are whole pairs
    double attention_factor;                            // yarn, longrope: of cosines and sines; 1 otherwise
    uint32_t original_position_count;                   // llama3, yarn, dynamic, longrope
    float short_factors[RMJ_HEAD_WIDTH_MAX / 2];        // longrope, one a pair
};

struct rmj_layer_config {
    uint32_t window; // keys a query sees, itself included; 0: all before it
    uint8_t rope;    // index of ropes, or RMJ_NO_ROPE (SmolLM3)
};

struct rmj_model_config {
    char architecture[64]; // "LlamaForCausalLM", ...
    char family[32];       // config.json's model_type: "llama", "gemma3_text", ...
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
    int qkv_bias, output_bias, mlp_bias;
    int fused_qkv;     // Phi-3: q, k and v are one tensor, as in the files
    int fused_gate_up; // Phi-3: gate and up are one tensor
    enum rmj_norm_placement norm_placement;
    enum rmj_qk_norm qk_norm;
    float norm_weight_offset; // a norm multiplies by weight + this: 1 for Gemma, 0 otherwise
    enum rmj_activation activation;
    float embedding_scale;   // Gemma: sqrt(C); 1 otherwise
    float attention_scale;   // of q k^T
    float attention_softcap; // 0: none
    uint32_t rotary_width;   // rotated numbers of a head, at most D
    struct rmj_rope ropes[2];
    struct rmj_layer_config layers[RMJ_LAYER_COUNT_MAX];
    // The longest sequence this config can be computed for (dynamic and longrope change with the length above it), and
    // the key of config.json that says so; 0 and NULL where there is no such bound.
    uint32_t length_max;
    const char *length_max_key;
    int32_t bos_token, eos_token, pad_token; // -1 when absent
};

// Reads directory/config.json; of an adapter directory (adapter.h) its base model's. RMJ_DATA names the file, the key
// and the mend; anything the config asks for that is not computed here is refused by its key.
RMJ_MUST_USE enum rmj_status rmj_model_config_read(struct rmj_model_config *config, const char *directory,
                                                   struct rmj_error *err);
// The architecture that a reward model of this family is published as: "LlamaForSequenceClassification".
const char *rmj_model_classifier_name(const struct rmj_model_config *config);
// Parameters of the reward model: body and head, without a language-model head.
uint64_t rmj_model_parameter_count(const struct rmj_model_config *config);

#endif
