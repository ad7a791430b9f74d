// Gemma 2: sandwich norms, scores of attention capped by tanh, a window in every second layer.
#include <math.h>

#include "trainer/model/families/gemma.h"

static const char *const keys[] = {RMJ_GEMMA_KEYS, "sliding_window_size", NULL};
static const struct rmj_neutral_key neutral[] = {{"use_bidirectional_attention", "false"}, {NULL, NULL}};

static enum rmj_status read_windows(const struct rmj_config_reader *r, uint32_t pattern,
                                    struct rmj_model_config *config)
{
    uint32_t window;
    int found;
    RMJ_TRY(rmj_config_read_window(r, 4096, &window));
    if (window == 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"sliding_window\" must be a number for family %s", r->path,
                        r->family->model_type);
    }
    RMJ_TRY(rmj_config_read_layer_types(r, window, "", config, &found));
    for (uint32_t i = 0; !found && i < config->layer_count; i++) {
        config->layers[i].window = (i + 1) % pattern != 0 ? window : 0;
    }
    return RMJ_OK;
}

enum rmj_status rmj_gemma_read(const struct rmj_config_reader *r, uint32_t pattern, struct rmj_model_config *config)
{
    double scalar;
    RMJ_TRY(rmj_config_check_activation(r, "hidden_activation", "gelu_pytorch_tanh"));
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "gelu_pytorch_tanh"));
    RMJ_TRY(rmj_config_read_flag(r, "attention_bias", &config->qkv_bias));
    config->output_bias = config->qkv_bias;
    RMJ_TRY(rmj_config_read_positive(r, r->root, "query_pre_attn_scalar", 256, &scalar));
    config->attention_scale = (float)(1.0 / sqrt(scalar));
    config->embedding_scale = (float)sqrt((double)config->hidden_width);
    config->norm_placement = RMJ_NORM_BOTH;
    config->norm_weight_offset = 1;
    config->activation = RMJ_GELU_TANH;
    return read_windows(r, pattern, config);
}

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_gemma_read(r, 2, config));
    if (!rmj_config_present(r, "attn_logit_softcapping")) {
        config->attention_softcap = 50;
    } else if (rmj_config_value(r->root, "attn_logit_softcapping") != NULL) {
        double cap;
        RMJ_TRY(rmj_config_read_positive(r, r->root, "attn_logit_softcapping", 0, &cap));
        config->attention_softcap = (float)cap;
    }
    // An older name beside sliding_window.
    uint32_t size, window = config->layers[0].window;
    RMJ_TRY(rmj_config_read_count(r, "sliding_window_size", 1u << 30, window > 0 ? window : 1, &size));
    if (window > 0 && size != window) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"sliding_window_size\" %u differs from \"sliding_window\" %u; keep one",
                        r->path, size, window);
    }
    return rmj_config_read_rope(r, config);
}

const struct rmj_family rmj_family_gemma2 = {.model_type = "gemma2",
                                             .causal = "Gemma2ForCausalLM",
                                             .classifier = "Gemma2ForSequenceClassification",
                                             .keys = keys,
                                             .neutral = neutral,
                                             .kv_head_count = 4,
                                             .head_width = 256,
                                             .position_count_max = 8192,
                                             .tied_embeddings = 1,
                                             .read = read};
