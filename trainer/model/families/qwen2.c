// Qwen2 and Qwen2.5: Llama with biases on q, k and v, and windows in the upper layers if a file asks for them.
#include "trainer/model/families/qwen.h"

static const char *const keys[] = {"hidden_act", RMJ_QWEN_WINDOW_KEYS, NULL};

enum rmj_status rmj_qwen_read_windows(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    int used, found;
    uint32_t window = 0, first = 28;
    RMJ_TRY(rmj_config_read_flag(r, "use_sliding_window", &used));
    if (used) {
        RMJ_TRY(rmj_config_read_window(r, 4096, &window));
    }
    // 0 is a count of full layers too.
    const json_t *layers = rmj_config_value(r->root, "max_window_layers");
    if (!json_is_integer(layers) || json_integer_value(layers) != 0) {
        RMJ_TRY(rmj_config_read_count(r, "max_window_layers", 1u << 20, first, &first));
    } else {
        first = 0;
    }
    RMJ_TRY(rmj_config_read_layer_types(r, window, "\"use_sliding_window\" and \"sliding_window\" name no window",
                                        config, &found));
    for (uint32_t i = first; !found && i < config->layer_count; i++) {
        config->layers[i].window = window;
    }
    return RMJ_OK;
}

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    config->qkv_bias = 1;
    RMJ_TRY(rmj_qwen_read_windows(r, config));
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_qwen2 = {.model_type = "qwen2",
                                            .causal = "Qwen2ForCausalLM",
                                            .classifier = "Qwen2ForSequenceClassification",
                                            .keys = keys,
                                            .kv_head_count = 32,
                                            .position_count_max = 32768,
                                            .read = read};
