// The families that families.c lists. Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_FAMILIES_FAMILIES_LIST_H
#define RMJ_TRAINER_MODEL_FAMILIES_FAMILIES_LIST_H

#include "trainer/model/families.h"

extern const struct rmj_family rmj_family_llama, rmj_family_mistral, rmj_family_qwen2, rmj_family_qwen3,
    rmj_family_gemma2, rmj_family_gemma3, rmj_family_olmo2, rmj_family_phi3, rmj_family_smollm3;

#endif
