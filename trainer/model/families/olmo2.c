// OLMo 2: norms after each half of a layer in place of before it, and over whole rows of q and k.
#include "trainer/model/families/families_list.h"

static const char *const keys[] = {"hidden_act", "attention_bias", NULL};
static const struct rmj_neutral_key neutral[] = {
    {"clip_qkv", "null"}, {"sliding_window", "null"}, {"layer_types", "null"}, {NULL, NULL}};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_flag(r, "attention_bias", &config->qkv_bias));
    config->output_bias = config->qkv_bias;
    config->norm_placement = RMJ_NORM_AFTER;
    config->qk_norm = RMJ_QK_NORM_ROW;
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_olmo2 = {.model_type = "olmo2",
                                            .causal = "Olmo2ForCausalLM",
                                            .classifier = "Olmo2ForSequenceClassification",
                                            .keys = keys,
                                            .neutral = neutral,
                                            .norm_epsilon = 1e-5,
                                            .read = read};
