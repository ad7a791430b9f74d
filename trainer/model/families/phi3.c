// Phi-3, Phi-3.5 and Phi-4 (mini, medium, 14B): Llama with q, k and v in one tensor and gate and up in another, a part
// of each head rotated, and longrope.
#include "trainer/model/families/families_list.h"

static const char *const keys[] = {"hidden_act", "sliding_window", NULL};
static const struct rmj_neutral_key neutral[] = {{"attention_bias", "false"}, {"mlp_bias", "false"},
                                                 {"full_attn_mod", "1"},      {"interpolate_factor", "1"},
                                                 {"layer_types", "null"},     {NULL, NULL}};

static enum rmj_status read(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t window;
    RMJ_TRY(rmj_config_check_activation(r, "hidden_act", "silu"));
    RMJ_TRY(rmj_config_read_window(r, 0, &window));
    for (uint32_t i = 0; i < config->layer_count; i++) {
        config->layers[i].window = window;
    }
    config->fused_qkv = 1;
    config->fused_gate_up = 1;
    RMJ_TRY(rmj_config_read_rope(r, config));
    if (config->ropes[0].kind != RMJ_ROPE_DEFAULT && config->ropes[0].kind != RMJ_ROPE_LONGROPE) {
        return rmj_fail(r->err, RMJ_DATA, "%s: the rope type of family phi3 must be default or longrope", r->path);
    }
    return RMJ_OK;
}

const struct rmj_family rmj_family_phi3 = {.model_type = "phi3",
                                           .causal = "Phi3ForCausalLM",
                                           .classifier = "Phi3ForSequenceClassification",
                                           .keys = keys,
                                           .neutral = neutral,
                                           .position_count_max = 4096,
                                           .original_position_count = 4096,
                                           .norm_epsilon = 1e-5,
                                           .partial_rotary = 1,
                                           .read = read};
