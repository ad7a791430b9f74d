// SmolLM3: Llama whose every fourth layer has no rotary positions, and, if a file asks for it, a window in those
// layers.
#include "trainer/model/families/families_list.h"

static const char *const keys[] = {
    "hidden_act",         "attention_bias", "mlp_bias",          "no_rope_layers", "no_rope_layer_interval",
    "use_sliding_window", "sliding_window", "max_window_layers", "layer_types",    NULL};

// no_rope_layers says 1 for a layer with rotary positions, 0 for one without.
static enum rmj_status read_rope_layers(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t interval;
    RMJ_TRY(rmj_config_read_count(r, "no_rope_layer_interval", 1u << 20, 4, &interval));
    const json_t *list = rmj_config_value(r->root, "no_rope_layers");
    if (list != NULL && (!json_is_array(list) || json_array_size(list) < config->layer_count)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"no_rope_layers\" must list a 0 or 1 for each of %u layers", r->path,
                        config->layer_count);
    }
    for (uint32_t i = 0; i < config->layer_count; i++) {
        const json_t *value = json_array_get(list, i);
        int rotated = value != NULL ? json_integer_value(value) == 1 : (i + 1) % interval != 0;
        if (value != NULL && (!json_is_integer(value) || (!rotated && json_integer_value(value) != 0))) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"no_rope_layers\": layer %u must be 0 or 1", r->path, i);
        }
        config->layers[i].rope = rotated ? 0 : RMJ_NO_ROPE;
    }
    return RMJ_OK;
}

static enum rmj_status read_windows(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    int used, found;
    uint32_t window = 0;
    RMJ_TRY(rmj_config_read_flag(r, "use_sliding_window", &used));
    if (used) {
        RMJ_TRY(rmj_config_read_window(r, 0, &window));
    }
    RMJ_TRY(rmj_config_read_layer_types(r, window, "\"use_sliding_window\" and \"sliding_window\" name no window",
                                        config, &found));
    for (uint32_t i = 0; !found && i < config->layer_count; i++) {
        config->layers[i].window = config->layers[i].rope == RMJ_NO_ROPE ? window : 0;
    }
    return RMJ_OK;
}

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_flag(r, "attention_bias", &config->qkv_bias));
    config->output_bias = config->qkv_bias;
    RMJ_TRY(rmj_config_read_flag(r, "mlp_bias", &config->mlp_bias));
    RMJ_TRY(read_rope_layers(r, config));
    RMJ_TRY(read_windows(r, config));
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_smollm3 = {.model_type = "smollm3",
                                              .causal = "SmolLM3ForCausalLM",
                                              .classifier = "SmolLM3ForSequenceClassification",
                                              .keys = keys,
                                              .kv_head_count = 4,
                                              .position_count_max = 32768,
                                              .rope_theta = 2e6,
                                              .tied_embeddings = 1,
                                              .read = read};
