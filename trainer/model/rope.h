// Frequencies of rotary positions, by the kind that a model's config names.
#ifndef RMJ_TRAINER_MODEL_ROPE_H
#define RMJ_TRAINER_MODEL_ROPE_H

#include "trainer/model/config.h"

// frequencies: [rotary_width / 2] inverse frequencies of a head's rotated pairs, for struct rmj_rotary.
void rmj_rope_inverse_frequencies(float *frequencies, const struct rmj_rope *rope, uint32_t rotary_width);

// The factor of cosines and sines that a config does not name: yarn's (Peng et al. 2023, eq. 22) with the two scales
// that DeepSeek's configs add (0: not given), and longrope's (Ding et al. 2024, section 3.3).
double rmj_rope_yarn_attention_factor(double factor, double mscale, double mscale_all_dim);
double rmj_rope_longrope_attention_factor(double factor, uint32_t original_position_count);

#endif
