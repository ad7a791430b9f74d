#include "trainer/model/linear.h"

#include <stdio.h>
#include <string.h>

#include "trainer/model/model_internal.h"

static uint32_t tensor_index(const struct rmj_layout *layout, const char *prefix, const char *name, const char *kind)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s.%s", prefix, name, kind);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (strcmp(layout->tensors[i].name, full) == 0) {
            return i;
        }
    }
    return RMJ_NO_TENSOR;
}

struct rmj_linear rmj_linear_find(const struct rmj_layout *layout, const char *prefix, const char *name)
{
    struct rmj_linear linear = {.weight = tensor_index(layout, prefix, name, "weight"),
                                .bias = tensor_index(layout, prefix, name, "bias")};
    RMJ_ASSERT(linear.weight != RMJ_NO_TENSOR);
    uint32_t adapter = layout->tensors[linear.weight].adapter;
    linear.adapter = adapter != RMJ_NO_ADAPTER ? adapter : RMJ_NO_TENSOR;
    linear.row_count = layout->tensors[linear.weight].shape[0];
    return linear;
}

static uint32_t columns_of(const struct rmj_model *m, const struct rmj_linear *linear)
{
    return m->layout->tensors[linear->weight].shape[1];
}

static float *rows_of(const struct rmj_model *m, const struct rmj_linear *linear, float *tensor)
{
    return tensor + (size_t)linear->first_row * columns_of(m, linear);
}

// The layer's rows of B.
static float *adapter_rows_of(const struct rmj_model *m, const struct rmj_linear *linear, float *tensor)
{
    return tensor + (size_t)linear->first_row * m->layout->lora.rank;
}

// lowered[T, r] = alpha/r in A^T
static void lower(struct rmj_model *m, const struct rmj_linear *linear, const float *in)
{
    uint32_t rank = m->layout->lora.rank;
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_TRANSPOSED,
                                                       .m = m->row_count,
                                                       .n = rank,
                                                       .k = columns_of(m, linear),
                                                       .a = in,
                                                       .b = rmj_model_weight(m, linear->adapter),
                                                       .c = m->lowered});
    m->ops.scale(m->ops.context, m->lowered, m->adapter_scale, (size_t)m->row_count * rank);
}

// dlowered[T, r] (+)= dout B: the gradient by in A^T, without its factor alpha/r.
static void lower_gradient(struct rmj_model *m, const struct rmj_linear *linear, const float *dout, int accumulate)
{
    float *b = rmj_model_weight(m, linear->adapter + 1);
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_NORMAL,
                                                       .m = m->row_count,
                                                       .n = m->layout->lora.rank,
                                                       .k = linear->row_count,
                                                       .a = dout,
                                                       .b = adapter_rows_of(m, linear, b),
                                                       .c = m->dlowered,
                                                       .accumulate = accumulate});
}

static void scale_gradient(struct rmj_model *m)
{
    m->ops.scale(m->ops.context, m->dlowered, m->adapter_scale, (size_t)m->row_count * m->layout->lora.rank);
}

void rmj_linear_forward(struct rmj_model *m, const struct rmj_linear *linear, const float *in, float *out)
{
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_TRANSPOSED,
                                                       .m = m->row_count,
                                                       .n = linear->row_count,
                                                       .k = columns_of(m, linear),
                                                       .a = in,
                                                       .b = rows_of(m, linear, rmj_model_weight(m, linear->weight)),
                                                       .c = out});
    if (linear->bias != RMJ_NO_TENSOR) {
        m->ops.add_bias(m->ops.context, out, rmj_model_weight(m, linear->bias), m->row_count, linear->row_count);
    }
    if (linear->adapter != RMJ_NO_TENSOR) {
        float *b = rmj_model_weight(m, linear->adapter + 1);
        lower(m, linear, in);
        m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_TRANSPOSED,
                                                           .m = m->row_count,
                                                           .n = linear->row_count,
                                                           .k = m->layout->lora.rank,
                                                           .a = m->lowered,
                                                           .b = adapter_rows_of(m, linear, b),
                                                           .c = out,
                                                           .accumulate = 1});
    }
}

void rmj_linear_backward_input(struct rmj_model *m, const struct rmj_linear *linear, const float *dout, float *din,
                               int accumulate)
{
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_NORMAL,
                                                       .m = m->row_count,
                                                       .n = columns_of(m, linear),
                                                       .k = linear->row_count,
                                                       .a = dout,
                                                       .b = rows_of(m, linear, rmj_model_weight(m, linear->weight)),
                                                       .c = din,
                                                       .accumulate = accumulate});
    if (linear->adapter != RMJ_NO_TENSOR) {
        lower_gradient(m, linear, dout, 0);
        scale_gradient(m);
        m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_NORMAL,
                                                           .m = m->row_count,
                                                           .n = columns_of(m, linear),
                                                           .k = m->layout->lora.rank,
                                                           .a = m->dlowered,
                                                           .b = rmj_model_weight(m, linear->adapter),
                                                           .c = din,
                                                           .accumulate = 1});
    }
}

// m->gradient[rows, columns] = dout^T in
static void outer(struct rmj_model *m, uint32_t rows, const float *dout, uint32_t columns, const float *in, float *out)
{
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_TRANSPOSED_NORMAL,
                                                       .m = rows,
                                                       .n = columns,
                                                       .k = m->row_count,
                                                       .a = dout,
                                                       .b = in,
                                                       .c = out});
}

// Layers [first, end) are the rows of one tensor.
static void backward_matrix(struct rmj_model *m, const struct rmj_linear *linears, const float *const *douts,
                            uint32_t first, uint32_t end, const float *in, const struct rmj_gradient_sink *sink)
{
    // A bias's gradient would overwrite the weight's.
    RMJ_ASSERT(end - first == 1 || linears[first].bias == RMJ_NO_TENSOR);
    for (uint32_t i = end; i-- > first;) {
        outer(m, linears[i].row_count, douts[i], columns_of(m, &linears[i]), in, rows_of(m, &linears[i], m->gradient));
    }
    const struct rmj_linear *linear = &linears[first];
    sink->take(sink->context, linear->weight, m->gradient, NULL, 0);
    if (linear->bias != RMJ_NO_TENSOR) {
        m->ops.column_sum(m->ops.context, m->gradient, douts[first], m->row_count, linear->row_count);
        sink->take(sink->context, linear->bias, m->gradient, NULL, 0);
    }
}

// B first, from what A made of the input; then A, from what B makes of the gradient by all the layers' outputs.
static void backward_adapter(struct rmj_model *m, const struct rmj_linear *linears, const float *const *douts,
                             uint32_t first, uint32_t end, const float *in, const struct rmj_gradient_sink *sink)
{
    const struct rmj_linear *linear = &linears[first];
    uint32_t rank = m->layout->lora.rank;
    lower(m, linear, in);
    for (uint32_t i = end; i-- > first;) {
        outer(m, linears[i].row_count, douts[i], rank, m->lowered, adapter_rows_of(m, &linears[i], m->gradient));
        lower_gradient(m, &linears[i], douts[i], i + 1 < end);
    }
    sink->take(sink->context, linear->adapter + 1, m->gradient, NULL, 0);
    scale_gradient(m);
    outer(m, rank, m->dlowered, columns_of(m, linear), in, m->gradient);
    sink->take(sink->context, linear->adapter, m->gradient, NULL, 0);
}

void rmj_linear_backward_weights(struct rmj_model *m, const struct rmj_linear *linears, const float *const *douts,
                                 uint32_t count, const float *in, const struct rmj_gradient_sink *sink)
{
    for (uint32_t end = count; end > 0;) {
        uint32_t first = end - 1;
        while (first > 0 && linears[first - 1].weight == linears[end - 1].weight) {
            first--;
        }
        if (!m->layout->tensors[linears[first].weight].frozen) {
            backward_matrix(m, linears, douts, first, end, in, sink);
        } else if (linears[first].adapter != RMJ_NO_TENSOR) {
            backward_adapter(m, linears, douts, first, end, in, sink);
        }
        end = first;
    }
}
