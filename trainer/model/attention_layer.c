// The first half of a layer: attention over the spans of a pack.
#include "trainer/model/model_internal.h"

static struct rmj_attention attention_of(const struct rmj_model *m, const struct rmj_pack *pack,
                                         const struct rmj_layer *layer)
{
    return (struct rmj_attention){.spans = m->spans,
                                  .item_spans = m->item_spans,
                                  .item_count = pack->item_count,
                                  .row_count = m->row_count,
                                  .used_row_count = pack->used_row_count,
                                  .head_count = m->config.head_count,
                                  .kv_head_count = m->config.kv_head_count,
                                  .head_width = m->config.head_width,
                                  .scale = m->config.attention_scale,
                                  .softcap = m->config.attention_softcap,
                                  .window = layer->window,
                                  .q = layer->q_rows,
                                  .k = layer->k_rows,
                                  .v = layer->v_rows,
                                  .out = layer->attended,
                                  .row_stats = layer->row_stats,
                                  .dout = m->datt,
                                  .dq = m->dq,
                                  .dk = m->dk,
                                  .dv = m->dv};
}

static void rotate(struct rmj_model *m, const struct rmj_pack *pack, const struct rmj_layer *layer, float *x,
                   uint32_t heads, int backward)
{
    if (layer->rope != RMJ_NO_ROPE) {
        m->ops.rotary(m->ops.context, x, pack->positions, m->cosines[layer->rope], m->sines[layer->rope], m->row_count,
                      heads, m->config.head_width, m->config.rotary_width, backward);
    }
}

// Rows and columns of the norm over q or k: a head each, or a row of T each.
static size_t qk_norm_rows(const struct rmj_model *m, uint32_t heads)
{
    return m->config.qk_norm == RMJ_QK_NORM_HEAD ? (size_t)m->row_count * heads : m->row_count;
}

static uint32_t qk_norm_columns(const struct rmj_model *m, uint32_t heads)
{
    return m->config.qk_norm == RMJ_QK_NORM_HEAD ? m->config.head_width : heads * m->config.head_width;
}

// q or k: the linear layer, its norm if the family has one, its rotation.
static void project(struct rmj_model *m, const struct rmj_pack *pack, const struct rmj_layer *layer,
                    const struct rmj_linear *linear, const struct rmj_norm *norm, const float *in, float *unnormed,
                    float *rows, uint32_t heads)
{
    rmj_linear_forward(m, linear, in, norm->weight != RMJ_NO_TENSOR ? unnormed : rows);
    if (norm->weight != RMJ_NO_TENSOR) {
        rmj_model_norm_forward(m, norm, unnormed, rows, qk_norm_rows(m, heads), qk_norm_columns(m, heads));
    }
    rotate(m, pack, layer, rows, heads, 0);
}

void rmj_attention_layer_forward(struct rmj_model *m, const struct rmj_pack *pack, struct rmj_layer *layer)
{
    const struct rmj_model_config *c = &m->config;
    const float *in = layer->x;
    if (layer->attention_in.weight != RMJ_NO_TENSOR) {
        rmj_model_norm_forward(m, &layer->attention_in, layer->x, m->norm, m->row_count, c->hidden_width);
        in = m->norm;
    }
    project(m, pack, layer, &layer->qkv[0], &layer->q_norm, in, layer->q_unnormed, layer->q_rows, c->head_count);
    project(m, pack, layer, &layer->qkv[1], &layer->k_norm, in, layer->k_unnormed, layer->k_rows, c->kv_head_count);
    rmj_linear_forward(m, &layer->qkv[2], in, layer->v_rows);
    struct rmj_attention attention = attention_of(m, pack, layer);
    m->ops.attention_forward(m->ops.context, &attention);
    if (layer->attention_out.weight != RMJ_NO_TENSOR) {
        rmj_linear_forward(m, &layer->o, layer->attended, layer->attention_rows);
        rmj_model_norm_forward(m, &layer->attention_out, layer->attention_rows, layer->mid, m->row_count,
                               c->hidden_width);
    } else {
        rmj_linear_forward(m, &layer->o, layer->attended, layer->mid);
    }
    m->ops.add(m->ops.context, layer->mid, layer->mid, layer->x, (size_t)m->row_count * c->hidden_width);
}

// Gradient by q or k as attention saw it, to that by the linear layer's output, in place.
static void unproject(struct rmj_model *m, const struct rmj_pack *pack, const struct rmj_layer *layer,
                      const struct rmj_norm *norm, const float *unnormed, float *dout, uint32_t heads,
                      const struct rmj_gradient_sink *sink)
{
    rotate(m, pack, layer, dout, heads, 1);
    if (norm->weight != RMJ_NO_TENSOR) {
        rmj_model_norm_backward(m, norm, unnormed, dout, dout, 0, qk_norm_rows(m, heads), qk_norm_columns(m, heads),
                                sink);
    }
}

void rmj_attention_layer_backward(struct rmj_model *m, const struct rmj_pack *pack, const struct rmj_layer *layer,
                                  const struct rmj_gradient_sink *sink)
{
    const struct rmj_model_config *c = &m->config;
    const float *dbranch = m->dx;
    if (layer->attention_out.weight != RMJ_NO_TENSOR) {
        rmj_model_norm_backward(m, &layer->attention_out, layer->attention_rows, m->dx, m->dbranch, 0, m->row_count,
                                c->hidden_width, sink);
        dbranch = m->dbranch;
    }
    rmj_linear_backward_input(m, &layer->o, dbranch, m->datt, 0);
    rmj_linear_backward_weights(m, &layer->o, &dbranch, 1, layer->attended, sink);
    struct rmj_attention attention = attention_of(m, pack, layer);
    m->ops.attention_backward(m->ops.context, &attention);
    unproject(m, pack, layer, &layer->q_norm, layer->q_unnormed, m->dq, c->head_count, sink);
    unproject(m, pack, layer, &layer->k_norm, layer->k_unnormed, m->dk, c->kv_head_count, sink);

    int normed = layer->attention_in.weight != RMJ_NO_TENSOR;
    const float *in = layer->x, *const douts[] = {m->dq, m->dk, m->dv};
    float *din = m->dx;
    if (normed) {
        rmj_model_norm_again(m, &layer->attention_in, layer->x, m->norm, m->row_count, c->hidden_width);
        in = m->norm;
        din = m->dnorm;
    }
    rmj_linear_backward_weights(m, layer->qkv, douts, 3, in, sink);
    for (size_t i = 0; i < RMJ_COUNT(douts); i++) {
        rmj_linear_backward_input(m, &layer->qkv[i], douts[i], din, !normed || i > 0);
    }
    if (normed) {
        rmj_model_norm_backward(m, &layer->attention_in, layer->x, m->dnorm, m->dx, 1, m->row_count, c->hidden_width,
                                sink);
    }
}
