#include "trainer/model/families.h"

#include <stdio.h>
#include <string.h>

#include "trainer/model/families/families_list.h"

static const struct rmj_family *const families[] = {
    &rmj_family_llama,  &rmj_family_mistral, &rmj_family_qwen2, &rmj_family_qwen3,   &rmj_family_gemma2,
    &rmj_family_gemma3, &rmj_family_olmo2,   &rmj_family_phi3,  &rmj_family_smollm3,
};

const struct rmj_family *rmj_family_of_architecture(const char *architecture)
{
    for (size_t i = 0; i < RMJ_COUNT(families); i++) {
        if (strcmp(families[i]->causal, architecture) == 0 || strcmp(families[i]->classifier, architecture) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const struct rmj_family *rmj_family_of_type(const char *model_type)
{
    for (size_t i = 0; i < RMJ_COUNT(families); i++) {
        if (strcmp(families[i]->model_type, model_type) == 0) {
            return families[i];
        }
    }
    return NULL;
}

void rmj_family_list(char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < RMJ_COUNT(families) && at < size; i++) {
        at += (size_t)snprintf(out + at, size - at, "%s%s", i > 0 ? ", " : "", families[i]->causal);
    }
}
