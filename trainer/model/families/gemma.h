// What Gemma 2 and Gemma 3 have in common. Private to trainer/model/families.
#ifndef RMJ_TRAINER_MODEL_FAMILIES_GEMMA_H
#define RMJ_TRAINER_MODEL_FAMILIES_GEMMA_H

#include "trainer/model/families/families_list.h"

// The keys that rmj_gemma_read reads. hidden_act is an older name beside hidden_activation.
#define RMJ_GEMMA_KEYS                                                                                                 \
    "hidden_activation", "hidden_act", "attention_bias", "query_pre_attn_scalar", "attn_logit_softcapping",            \
        "sliding_window", "layer_types"

// Norms around both halves of a layer that multiply by 1 + weight, scaled embeddings, gelu, the scale of attention; and
// windows: layer_types, or in all layers but every `pattern`th.
RMJ_MUST_USE enum rmj_status rmj_gemma_read(const struct rmj_config_reader *r, uint32_t pattern,
                                            struct rmj_model_config *config);

#endif
