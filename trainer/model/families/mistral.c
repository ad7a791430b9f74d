// Mistral (7B, Nemo, Small): Llama with one sliding window for every layer, or none.
#include "trainer/model/families/families_list.h"

static const char *const keys[] = {"hidden_act", "sliding_window", NULL};
// The public implementation ignores layer_types here; a file that has them means another architecture.
static const struct rmj_neutral_key neutral[] = {{"attention_bias", "false"},
                                                 {"mlp_bias", "false"},
                                                 {"layer_types", "null"},
                                                 {"use_sliding_window", "false"},
                                                 {NULL, NULL}};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t window;
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_window(r, 4096, &window));
    for (uint32_t i = 0; i < config->layer_count; i++) {
        config->layers[i].window = window;
    }
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_mistral = {.model_type = "mistral",
                                              .causal = "MistralForCausalLM",
                                              .classifier = "MistralForSequenceClassification",
                                              .keys = keys,
                                              .neutral = neutral,
                                              .kv_head_count = 8,
                                              .position_count_max = 4096 * 32,
                                              .read = read};
