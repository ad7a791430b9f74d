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
    linear.row_count = layout->tensors[linear.weight].shape[0];
    return linear;
}

static float *rows_of(const struct rmj_model *m, const struct rmj_linear *linear, float *tensor)
{
    return tensor + (size_t)linear->first_row * m->layout->tensors[linear->weight].shape[1];
}

void rmj_linear_forward(struct rmj_model *m, const struct rmj_linear *linear, const float *in, float *out)
{
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_TRANSPOSED,
                                                       .m = m->row_count,
                                                       .n = linear->row_count,
                                                       .k = m->layout->tensors[linear->weight].shape[1],
                                                       .a = in,
                                                       .b = rows_of(m, linear, rmj_model_weight(m, linear->weight)),
                                                       .c = out});
    if (linear->bias != RMJ_NO_TENSOR) {
        m->ops.add_bias(m->ops.context, out, rmj_model_weight(m, linear->bias), m->row_count, linear->row_count);
    }
}

void rmj_linear_backward_input(struct rmj_model *m, const struct rmj_linear *linear, const float *dout, float *din,
                               int accumulate)
{
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_NORMAL,
                                                       .m = m->row_count,
                                                       .n = m->layout->tensors[linear->weight].shape[1],
                                                       .k = linear->row_count,
                                                       .a = dout,
                                                       .b = rows_of(m, linear, rmj_model_weight(m, linear->weight)),
                                                       .c = din,
                                                       .accumulate = accumulate});
}

void rmj_linear_backward_weights(struct rmj_model *m, const struct rmj_linear *linears, const float *const *douts,
                                 uint32_t count, const float *in, const struct rmj_gradient_sink *sink)
{
    for (uint32_t i = count; i-- > 0;) {
        const struct rmj_linear *linear = &linears[i];
        m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_TRANSPOSED_NORMAL,
                                                           .m = linear->row_count,
                                                           .n = m->layout->tensors[linear->weight].shape[1],
                                                           .k = m->row_count,
                                                           .a = douts[i],
                                                           .b = in,
                                                           .c = rows_of(m, linear, m->gradient)});
        if (i > 0 && linears[i - 1].weight == linear->weight) {
            RMJ_ASSERT(linear->bias == RMJ_NO_TENSOR); // its gradient would overwrite the weight's
            continue;
        }
        sink->take(sink->context, linear->weight, m->gradient, NULL, 0);
        if (linear->bias != RMJ_NO_TENSOR) {
            m->ops.column_sum(m->ops.context, m->gradient, douts[i], m->row_count, linear->row_count);
            sink->take(sink->context, linear->bias, m->gradient, NULL, 0);
        }
    }
}
