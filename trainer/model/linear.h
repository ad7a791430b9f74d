// Linear layers of a model: a weight's rows, or a run of them where a family keeps several layers in one tensor.
// Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_LINEAR_H
#define RMJ_TRAINER_MODEL_LINEAR_H

#include <stdint.h>

struct rmj_model;
struct rmj_layout;
struct rmj_gradient_sink;

struct rmj_linear {
    uint32_t weight;               // tensor index
    uint32_t bias;                 // tensor index, RMJ_NO_TENSOR when there is none
    uint32_t adapter;              // tensor index of A, with B after it; RMJ_NO_TENSOR when there is none (lora.h)
    uint32_t first_row, row_count; // of the weight: all of it, or one layer of a fused tensor
};

// The linear layer of the tensors PREFIX.NAME.weight and, if there is one, PREFIX.NAME.bias.
struct rmj_linear rmj_linear_find(const struct rmj_layout *layout, const char *prefix, const char *name);
// out[T, rows] = in[T, columns] weight^T + bias, and what the adapter adds
void rmj_linear_forward(struct rmj_model *m, const struct rmj_linear *linear, const float *in, float *out);
// din[T, columns] (+)= dout[T, rows] weight, and by way of the adapter
void rmj_linear_backward_input(struct rmj_model *m, const struct rmj_linear *linear, const float *dout, float *din,
                               int accumulate);
// Gradients of what is trained, weights and biases or adapters, of layers with one input, last layer first, each tensor
// to the sink as soon as it is whole and once: layers of a fused tensor stand next to each other.
void rmj_linear_backward_weights(struct rmj_model *m, const struct rmj_linear *linears, const float *const *douts,
                                 uint32_t count, const float *in, const struct rmj_gradient_sink *sink);

#endif
