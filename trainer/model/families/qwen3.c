// Qwen3: Llama with norms over each head of q and k, and a head width of its own.
#include "trainer/model/families/qwen.h"

static const char *const keys[] = {"hidden_act", "attention_bias", RMJ_QWEN_WINDOW_KEYS, NULL};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_flag(r, "attention_bias", &config->qkv_bias));
    config->output_bias = config->qkv_bias;
    config->qk_norm = RMJ_QK_NORM_HEAD;
    RMJ_TRY(rmj_qwen_read_windows(r, config));
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_qwen3 = {.model_type = "qwen3",
                                            .causal = "Qwen3ForCausalLM",
                                            .classifier = "Qwen3ForSequenceClassification",
                                            .keys = keys,
                                            .kv_head_count = 32,
                                            .head_width = 128,
                                            .position_count_max = 32768,
                                            .read = read};
