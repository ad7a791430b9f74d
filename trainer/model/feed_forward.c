// The second half of a layer: the gated feed-forward.
#include "trainer/model/model_internal.h"

void rmj_feed_forward_forward(struct rmj_model *m, struct rmj_layer *layer, float *next)
{
    const struct rmj_model_config *c = &m->config;
    const float *in = layer->mid;
    if (layer->feed_forward_in.weight != RMJ_NO_TENSOR) {
        rmj_model_norm_forward(m, &layer->feed_forward_in, layer->mid, m->norm, m->row_count, c->hidden_width);
        in = m->norm;
    }
    rmj_linear_forward(m, &layer->gate_up[0], in, layer->gate_rows);
    rmj_linear_forward(m, &layer->gate_up[1], in, layer->up_rows);
    m->ops.glu_forward(m->ops.context, c->activation, m->act, layer->gate_rows, layer->up_rows,
                       (size_t)m->row_count * c->feed_forward_width);
    if (layer->feed_forward_out.weight != RMJ_NO_TENSOR) {
        rmj_linear_forward(m, &layer->down, m->act, layer->feed_forward_rows);
        rmj_model_norm_forward(m, &layer->feed_forward_out, layer->feed_forward_rows, next, m->row_count,
                               c->hidden_width);
    } else {
        rmj_linear_forward(m, &layer->down, m->act, next);
    }
    m->ops.add(m->ops.context, next, next, layer->mid, (size_t)m->row_count * c->hidden_width);
}

void rmj_feed_forward_backward(struct rmj_model *m, const struct rmj_layer *layer, const struct rmj_gradient_sink *sink)
{
    const struct rmj_model_config *c = &m->config;
    const float *dbranch = m->dx;
    if (layer->feed_forward_out.weight != RMJ_NO_TENSOR) {
        rmj_model_norm_backward(m, &layer->feed_forward_out, layer->feed_forward_rows, m->dx, m->dbranch, 0,
                                m->row_count, c->hidden_width, sink);
        dbranch = m->dbranch;
    }
    rmj_linear_backward_input(m, &layer->down, dbranch, m->dup, 0);
    m->ops.glu_backward(m->ops.context, c->activation, m->dgate, m->dup, m->act, m->dup, layer->gate_rows,
                        layer->up_rows, (size_t)m->row_count * c->feed_forward_width);
    rmj_linear_backward_weights(m, &layer->down, &dbranch, 1, m->act, sink);

    int normed = layer->feed_forward_in.weight != RMJ_NO_TENSOR;
    const float *in = layer->mid, *const douts[] = {m->dgate, m->dup};
    float *din = m->dx;
    if (normed) {
        rmj_model_norm_again(m, &layer->feed_forward_in, layer->mid, m->norm, m->row_count, c->hidden_width);
        in = m->norm;
        din = m->dnorm;
    }
    rmj_linear_backward_weights(m, layer->gate_up, douts, 2, in, sink);
    // Up before gate, as the first version had it: the order of the two sums is part of the bits.
    rmj_linear_backward_input(m, &layer->gate_up[1], m->dup, din, !normed);
    rmj_linear_backward_input(m, &layer->gate_up[0], m->dgate, din, 1);
    if (normed) {
        rmj_model_norm_backward(m, &layer->feed_forward_in, layer->mid, m->dnorm, m->dx, 1, m->row_count,
                                c->hidden_width, sink);
    }
}
