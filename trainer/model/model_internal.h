// A model's parts, shared by the files that make its passes. Private to trainer/model.
//
//   x -> [norm] -> q k v -> [norms of q, k] -> rotary -> attention -> o -> [norm] -> + x = mid
//   mid -> [norm] -> gate, up -> activation(gate) * up -> down -> [norm] -> + mid = the next layer's x
//
// Norms in brackets are where the family puts them (enum rmj_norm_placement). Kept for backward, per layer: x, mid,
// every rstd, q, k, v (rotated), attention's output and row statistics, gate, up; where a norm follows o, down, q or k,
// also what went into it. Normalised rows and the product with the activation are computed again: no matrix product is.
// A model made for scoring alone keeps one layer's worth and overwrites it.
#ifndef RMJ_TRAINER_MODEL_MODEL_INTERNAL_H
#define RMJ_TRAINER_MODEL_MODEL_INTERNAL_H

#include "base/arena.h"
#include "kernels/ops.h"
#include "trainer/model/linear.h"
#include "trainer/model/model.h"

#define RMJ_NO_TENSOR UINT32_MAX

struct rmj_norm {
    uint32_t weight; // tensor index, RMJ_NO_TENSOR: there is none here
    float *rstd;     // one a row
};

struct rmj_layer {
    uint32_t window; // of its attention, 0: none
    uint8_t rope;    // which rotary table, or RMJ_NO_ROPE
    struct rmj_linear qkv[3], o, gate_up[2], down;
    struct rmj_norm attention_in, attention_out, feed_forward_in, feed_forward_out, q_norm, k_norm;
    // Activations.
    float *x;                       // [T, C]
    float *mid;                     // [T, C]
    float *q_rows, *attended;       // [T, H D]
    float *k_rows, *v_rows;         // [T, K D]
    float *row_stats;               // [T, H, 2]
    float *gate_rows, *up_rows;     // [T, F]
    float *attention_rows;          // [T, C] what attention_out normalises
    float *feed_forward_rows;       // [T, C] what feed_forward_out normalises
    float *q_unnormed, *k_unnormed; // [T, H D], [T, K D] what q_norm and k_norm normalise
};

struct rmj_model {
    // immutable after create
    struct rmj_model_config config;
    const struct rmj_layout *layout;
    float *weights;
    struct rmj_ops ops;
    struct rmj_arena arena;
    uint32_t row_count, item_count_max, branch_count_max;
    int training;
    float adapter_scale;          // alpha/r
    float *frequencies;           // [rotary width / 2] scratch of create
    float *cosines[2], *sines[2]; // [T, rotary width / 2], one for each of the config's ropes
    // owner thread
    struct rmj_layer *layers;
    struct rmj_norm final_norm;
    float *x_last, *norm, *act; // [T, C], [T, C], [T, F]
    float *final_rows;          // [T, C]
    struct rmj_span *spans;
    uint32_t *item_spans;
    float *lowered, *dlowered; // [T, r] of the adapter at work
    // backward
    float *dx, *dnorm;  // [T, C]
    float *dbranch;     // [T, C] gradient by what a norm at the end of a branch normalises
    float *dq, *datt;   // [T, H D]
    float *dk, *dv;     // [T, K D]
    float *dgate, *dup; // [T, F]
    float *gradient;    // [largest trained tensor], or [T, C] for the embedding
    uint32_t *distinct; // [T]
};

// model_memory.c: bytes of the arena, and its parts laid out in it.
size_t rmj_model_arena_size(struct rmj_model *m);
void rmj_model_arena_lay(struct rmj_model *m);

float *rmj_model_weight(const struct rmj_model *m, uint32_t tensor);
// out = norm of x, [rows, columns]; keeps the rstd.
void rmj_model_norm_forward(struct rmj_model *m, const struct rmj_norm *norm, const float *x, float *out, size_t rows,
                            uint32_t columns);
// out = norm of x again, from the rstd.
void rmj_model_norm_again(struct rmj_model *m, const struct rmj_norm *norm, const float *x, float *out, size_t rows,
                          uint32_t columns);
// dx = gradient by x, or += when `accumulate`; the gradient by the weight goes to the sink.
void rmj_model_norm_backward(struct rmj_model *m, const struct rmj_norm *norm, const float *x, const float *dout,
                             float *dx, int accumulate, size_t rows, uint32_t columns,
                             const struct rmj_gradient_sink *sink);

// attention_layer.c: x to mid, and m->dx from the gradient by mid to the gradient by x.
void rmj_attention_layer_forward(struct rmj_model *m, const struct rmj_pack *pack, struct rmj_layer *layer);
void rmj_attention_layer_backward(struct rmj_model *m, const struct rmj_pack *pack, const struct rmj_layer *layer,
                                  const struct rmj_gradient_sink *sink);
// feed_forward.c: mid to next, and m->dx from the gradient by next to the gradient by mid.
void rmj_feed_forward_forward(struct rmj_model *m, struct rmj_layer *layer, float *next);
void rmj_feed_forward_backward(struct rmj_model *m, const struct rmj_layer *layer,
                               const struct rmj_gradient_sink *sink);

#endif
