// Llama 1 to 3.x, and the many models in its form (SmolLM 1 and 2, TinyLlama, Yi, DeepSeek's distillations): every
// other family is told by what differs from it.
#include "trainer/model/families/families_list.h"

static const char *const keys[] = {"hidden_act", "attention_bias", "mlp_bias", NULL};
static const struct rmj_neutral_key neutral[] = {
    {"sliding_window", "null"}, {"layer_types", "null"}, {"use_sliding_window", "false"}, {NULL, NULL}};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_flag(r, "attention_bias", &config->qkv_bias));
    config->output_bias = config->qkv_bias;
    RMJ_TRY(rmj_config_read_flag(r, "mlp_bias", &config->mlp_bias));
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_llama = {.model_type = "llama",
                                            .causal = "LlamaForCausalLM",
                                            .classifier = "LlamaForSequenceClassification",
                                            .keys = keys,
                                            .neutral = neutral,
                                            .read = read};
