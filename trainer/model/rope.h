// Frequencies of rotary positions, by the kind that a model's config names.
#ifndef RMJ_TRAINER_MODEL_ROPE_H
#define RMJ_TRAINER_MODEL_ROPE_H

#include "trainer/model/config.h"

// frequencies: [D / 2] inverse frequencies of a head's rotated pairs, for struct rmj_rotary.
void rmj_rope_inverse_frequencies(float *frequencies, const struct rmj_model_config *config);

#endif
