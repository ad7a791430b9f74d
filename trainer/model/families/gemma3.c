// Gemma 3's language model: Gemma 2 with norms of q and k in place of the soft cap, windows in all layers but every
// sixth, and a rotary base for each of the two kinds of layers. The wrapper that also takes images is refused by name.
#include "trainer/model/families/gemma.h"

static const char *const keys[] = {RMJ_GEMMA_KEYS, "rope_local_base_freq", "sliding_window_pattern",
                                   "_sliding_window_pattern", NULL};
static const struct rmj_neutral_key neutral[] = {
    // The public implementation reads this key and leaves it out of attention.
    {"attn_logit_softcapping", "null"},
    {"use_bidirectional_attention", "false"},
    {NULL, NULL}};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t pattern, saved;
    RMJ_TRY(rmj_config_read_count(r, "sliding_window_pattern", RMJ_LAYER_COUNT_MAX, 6, &pattern));
    RMJ_TRY(rmj_config_read_count(r, "_sliding_window_pattern", RMJ_LAYER_COUNT_MAX, pattern, &saved));
    if (saved != pattern && rmj_config_value(r->root, "layer_types") == NULL) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"_sliding_window_pattern\" %u needs \"layer_types\" beside it", r->path,
                        saved);
    }
    RMJ_TRY(rmj_gemma_read(r, pattern, config));
    config->qk_norm = RMJ_QK_NORM_HEAD;
    return rmj_config_read_rope_by_layer_type(r, 1e6, 1e4, config);
}

const struct rmj_family rmj_family_gemma3 = {.model_type = "gemma3_text",
                                             .causal = "Gemma3ForCausalLM",
                                             .classifier = "Gemma3TextForSequenceClassification",
                                             .keys = keys,
                                             .neutral = neutral,
                                             .kv_head_count = 4,
                                             .head_width = 256,
                                             .position_count_max = 131072,
                                             .tied_embeddings = 1,
                                             .read = read};
