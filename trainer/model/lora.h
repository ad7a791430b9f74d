// Low-rank adapters (Hu et al. 2021): y = x W^T + b + alpha/r (x A^T) B^T, with W and b frozen.
//
// Every matrix of attention and MLP whose last name is a target gets A [r, in] and B [out, r]; a matrix that holds
// several layers (Phi's qkv_proj) gets one adapter over all of it, as peft does. The head is trained as ever;
// embedding, norms and biases are not. A starts uniform within 1/sqrt(in) (peft's kaiming_uniform with a = sqrt(5)) and
// B at zero, so the first scores are the base model's, bit for bit. There is no dropout.
#ifndef RMJ_TRAINER_MODEL_LORA_H
#define RMJ_TRAINER_MODEL_LORA_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/model/config.h"

#define RMJ_LORA_RANK_MAX 1024u
#define RMJ_LORA_RANK_DEFAULT 16u
#define RMJ_LORA_ALPHA_DEFAULT 32.0

struct rmj_layout;

struct rmj_lora {
    uint32_t rank; // r; 0: no adapters, every parameter is trained
    double alpha;
    uint32_t targets; // bit i: the i-th of the names that rmj_lora_module knows
};

// The targets by name; no name: every matrix of attention and MLP that the family has. RMJ_INVALID for a rank or alpha
// out of range and for a name that the family does not have, with those it has and the nearest one.
RMJ_MUST_USE enum rmj_status rmj_lora_init(struct rmj_lora *lora, const struct rmj_model_config *config, uint32_t rank,
                                           double alpha, const char *const *names, size_t name_count,
                                           struct rmj_error *err);
// Names by index, "q_proj" first; NULL after the last.
const char *rmj_lora_module(uint32_t index);
// 1 when the matrix PREFIX.NAME ("self_attn.q_proj") is a target.
int rmj_lora_is_target(const struct rmj_lora *lora, const char *name);

// Start values of every A and B of the layout, from the seed alone, with a stream of their own.
void rmj_lora_fill(const struct rmj_layout *layout, uint64_t seed, float *weights);
struct rmj_lora_matrix {
    uint32_t row_count, column_count, rank;
    double scale; // alpha/r
    const float *weight, *a, *b;
};
// W + alpha/r B A, which may be W in place: the sum over k of B A in double, k ascending, times alpha/r, added to W,
// and rounded once. RMJ_DATA when an element is too large for float32.
RMJ_MUST_USE enum rmj_status rmj_lora_merge(const struct rmj_lora_matrix *matrix, float *out, struct rmj_error *err);

#endif
