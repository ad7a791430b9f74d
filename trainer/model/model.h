// The reward model: a decoder with one scalar head, over the packs of trainer/data/pack.h.
//
// Letters: T rows of a pack, C hidden width, H heads, K key/value heads, D head width, F feed-forward width, V
// vocabulary, L layers, B branches of a pack.
#ifndef RMJ_TRAINER_MODEL_MODEL_H
#define RMJ_TRAINER_MODEL_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "trainer/data/pack.h"
#include "trainer/model/config.h"
#include "trainer/model/layout.h"

struct rmj_model;

struct rmj_model_options {
    const struct rmj_model_config *config; // copied
    const struct rmj_layout *layout;       // must outlive the model
    float *weights;                        // flat [layout->weight_count], read by forward; owned by the caller
    struct rmj_pool *pool;
    uint32_t row_count; // T
    uint32_t item_count_max;
    uint32_t branch_count_max;
    int training; // 0: forward only, less memory
};

// Bytes of activations and scratch that rmj_model_create will map. For an estimate `weights` and `pool` may be NULL
// (one thread is counted; each further one adds 2 x 64 x T x 4 bytes).
size_t rmj_model_memory(const struct rmj_model_options *options);
RMJ_MUST_USE enum rmj_status rmj_model_create(struct rmj_model **model, const struct rmj_model_options *options,
                                              struct rmj_error *err);
void rmj_model_destroy(struct rmj_model *model);

// Raw scores of every branch, [pack->branch_total] float32. Allocates nothing.
void rmj_model_forward(struct rmj_model *model, const struct rmj_pack *pack, float *scores);

// Where gradients go, one tensor at a time, in a fixed order; `gradient` is scratch that is valid during the call only.
// Frozen tensors are not among them. Dense tensors: [tensor->element_count] float32, this pack's whole gradient,
// unnormalised. The embedding: `rows` lists the row_count distinct tokens of the pack, ascending, and gradient is
// [row_count, C].
struct rmj_gradient_sink {
    void *context;
    void (*take)(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows, uint32_t row_count);
};
// After forward of the same pack. score_gradients: d(sum of losses)/d(score), [branch_total]. Allocates nothing.
void rmj_model_backward(struct rmj_model *model, const struct rmj_pack *pack, const float *score_gradients,
                        const struct rmj_gradient_sink *sink);

// Bradley-Terry over a pack of pairs: loss_i = -log sigmoid(chosen - rejected - margin), one number an item, and the
// unnormalised gradient of their sum by score.
void rmj_bradley_terry(const struct rmj_pack *pack, const float *scores, float *losses, float *score_gradients);

#endif
