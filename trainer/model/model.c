// The passes over a pack, and what a model is made of; the drawing is in model_internal.h.
#include "trainer/model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"
#include "trainer/model/model_internal.h"
#include "trainer/model/rope.h"

static struct rmj_ops_limits ops_limits(const struct rmj_model_options *o)
{
    const struct rmj_model_config *c = o->config;
    uint32_t width = c->hidden_width;
    width = c->feed_forward_width > width ? c->feed_forward_width : width;
    uint32_t queries = c->head_count * c->head_width;
    width = queries > width ? queries : width;
    return (struct rmj_ops_limits){.row_count = o->row_count,
                                   .width = width,
                                   .head_width = c->head_width,
                                   .vocabulary_size = o->layout->tensors[o->layout->embedding].shape[0]};
}

static struct rmj_model make_model(const struct rmj_model_options *o)
{
    uint32_t rank = o->layout->lora.rank;
    return (struct rmj_model){.config = *o->config,
                              .layout = o->layout,
                              .weights = o->weights,
                              .row_count = o->row_count,
                              .item_count_max = o->item_count_max,
                              .branch_count_max = o->branch_count_max,
                              .training = o->training,
                              .adapter_scale = rank > 0 ? (float)(o->layout->lora.alpha / rank) : 0};
}

size_t rmj_model_memory(const struct rmj_model_options *options)
{
    struct rmj_model model = make_model(options);
    struct rmj_ops_limits limits = ops_limits(options);
    size_t thread_count = options->pool != NULL ? rmj_pool_thread_count(options->pool) : 1;
    return rmj_model_arena_size(&model) + rmj_cpu_ops_memory(&limits, thread_count);
}

static uint32_t find_tensor(const struct rmj_layout *layout, const char *name)
{
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (strcmp(layout->tensors[i].name, name) == 0) {
            return i;
        }
    }
    return RMJ_NO_TENSOR;
}

static uint32_t find_norm(const struct rmj_layout *layout, const char *prefix, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s.weight", prefix, name);
    return find_tensor(layout, full);
}

// `count` layers in one fused tensor, one after another.
static void cut_linear(const struct rmj_layout *layout, const char *prefix, const char *name, const uint32_t *rows,
                       uint32_t count, struct rmj_linear *out)
{
    struct rmj_linear whole = rmj_linear_find(layout, prefix, name);
    uint32_t first = 0;
    for (uint32_t i = 0; i < count; i++) {
        out[i] = whole;
        out[i].first_row = first;
        out[i].row_count = rows[i];
        first += rows[i];
    }
    RMJ_ASSERT(first == whole.row_count);
}

static void find_linears(const struct rmj_model *m, const char *prefix, struct rmj_layer *layer)
{
    const struct rmj_model_config *c = &m->config;
    uint32_t q = c->head_count * c->head_width, kv = c->kv_head_count * c->head_width;
    if (c->fused_qkv) {
        cut_linear(m->layout, prefix, "self_attn.qkv_proj", (const uint32_t[]){q, kv, kv}, 3, layer->qkv);
    } else {
        layer->qkv[0] = rmj_linear_find(m->layout, prefix, "self_attn.q_proj");
        layer->qkv[1] = rmj_linear_find(m->layout, prefix, "self_attn.k_proj");
        layer->qkv[2] = rmj_linear_find(m->layout, prefix, "self_attn.v_proj");
    }
    layer->o = rmj_linear_find(m->layout, prefix, "self_attn.o_proj");
    uint32_t f = c->feed_forward_width;
    if (c->fused_gate_up) {
        cut_linear(m->layout, prefix, "mlp.gate_up_proj", (const uint32_t[]){f, f}, 2, layer->gate_up);
    } else {
        layer->gate_up[0] = rmj_linear_find(m->layout, prefix, "mlp.gate_proj");
        layer->gate_up[1] = rmj_linear_find(m->layout, prefix, "mlp.up_proj");
    }
    layer->down = rmj_linear_find(m->layout, prefix, "mlp.down_proj");
}

// post_attention_layernorm is before the feed-forward in Llama, and after attention where that is normed.
static void find_norms(const struct rmj_model *m, const char *prefix, struct rmj_layer *layer)
{
    const struct rmj_layout *layout = m->layout;
    uint32_t post_attention = find_norm(layout, prefix, "post_attention_layernorm");
    int before = m->config.norm_placement == RMJ_NORM_BEFORE;
    layer->attention_in.weight = find_norm(layout, prefix, "input_layernorm");
    layer->attention_out.weight = before ? RMJ_NO_TENSOR : post_attention;
    layer->feed_forward_in.weight = before ? post_attention : find_norm(layout, prefix, "pre_feedforward_layernorm");
    layer->feed_forward_out.weight = find_norm(layout, prefix, "post_feedforward_layernorm");
    layer->q_norm.weight = find_norm(layout, prefix, "self_attn.q_norm");
    layer->k_norm.weight = find_norm(layout, prefix, "self_attn.k_norm");
    RMJ_ASSERT(post_attention != RMJ_NO_TENSOR);
}

static void find_tensors(struct rmj_model *m)
{
    for (uint32_t i = 0; i < m->config.layer_count; i++) {
        char prefix[48];
        snprintf(prefix, sizeof prefix, "model.layers.%u", i);
        find_linears(m, prefix, &m->layers[i]);
        find_norms(m, prefix, &m->layers[i]);
        m->layers[i].window = m->config.layers[i].window;
        m->layers[i].rope = m->config.layers[i].rope;
    }
    m->final_norm.weight = find_tensor(m->layout, "model.norm.weight");
    RMJ_ASSERT(m->final_norm.weight != RMJ_NO_TENSOR);
}

static void fill_rotary_tables(struct rmj_model *m)
{
    const struct rmj_model_config *c = &m->config;
    for (size_t i = 0; i < RMJ_COUNT(c->ropes); i++) {
        if (m->cosines[i] != NULL) {
            rmj_rope_inverse_frequencies(m->frequencies, &c->ropes[i], c->rotary_width);
            struct rmj_rotary rotary = {.position_count = m->row_count,
                                        .pair_count = c->rotary_width / 2,
                                        .inverse_frequencies = m->frequencies,
                                        .amplitude = (float)c->ropes[i].attention_factor};
            m->ops.rotary_tables(m->ops.context, m->cosines[i], m->sines[i], &rotary);
        }
    }
}

enum rmj_status rmj_model_create(struct rmj_model **out, const struct rmj_model_options *options, struct rmj_error *err)
{
    RMJ_ASSERT(options->config->length_max == 0 || options->config->length_max_key != NULL);
    struct rmj_model *m = malloc(sizeof *m);
    if (m == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a model");
    }
    *m = make_model(options);
    struct rmj_ops_limits limits = ops_limits(options);
    size_t size = rmj_model_arena_size(m);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_arena_create(&m->arena, "activations", size, err));
    RMJ_GO(rmj_cpu_ops_create(&m->ops, &limits, options->pool, err));
    rmj_model_arena_lay(m);
    RMJ_ASSERT(m->arena.used == size);
    find_tensors(m);
    fill_rotary_tables(m);
    *out = m;
out:
    if (status != RMJ_OK) {
        rmj_model_destroy(m);
    }
    return status;
}

void rmj_model_destroy(struct rmj_model *m)
{
    if (m == NULL) {
        return;
    }
    if (m->ops.destroy != NULL) {
        m->ops.destroy(m->ops.context);
    }
    rmj_arena_destroy(&m->arena);
    free(m);
}

float *rmj_model_weight(const struct rmj_model *m, uint32_t tensor)
{
    return m->weights + m->layout->tensors[tensor].offset;
}

static struct rmj_rmsnorm norm_of(const struct rmj_model *m, const struct rmj_norm *norm, const float *x, size_t rows,
                                  uint32_t columns)
{
    return (struct rmj_rmsnorm){.rows = (uint32_t)rows,
                                .columns = columns,
                                .x = x,
                                .weight = rmj_model_weight(m, norm->weight),
                                .weight_offset = m->config.norm_weight_offset,
                                .epsilon = m->config.norm_epsilon,
                                .rstd = norm->rstd};
}

void rmj_model_norm_forward(struct rmj_model *m, const struct rmj_norm *norm, const float *x, float *out, size_t rows,
                            uint32_t columns)
{
    struct rmj_rmsnorm operation = norm_of(m, norm, x, rows, columns);
    operation.out = out;
    m->ops.rmsnorm_forward(m->ops.context, &operation);
}

void rmj_model_norm_again(struct rmj_model *m, const struct rmj_norm *norm, const float *x, float *out, size_t rows,
                          uint32_t columns)
{
    struct rmj_rmsnorm operation = norm_of(m, norm, x, rows, columns);
    operation.out = out;
    m->ops.rmsnorm_again(m->ops.context, &operation);
}

void rmj_model_norm_backward(struct rmj_model *m, const struct rmj_norm *norm, const float *x, const float *dout,
                             float *dx, int accumulate, size_t rows, uint32_t columns,
                             const struct rmj_gradient_sink *sink)
{
    struct rmj_rmsnorm operation = norm_of(m, norm, x, rows, columns);
    operation.dout = dout;
    operation.dx = dx;
    operation.dweight = m->gradient;
    operation.accumulate = accumulate;
    m->ops.rmsnorm_backward(m->ops.context, &operation);
    if (!m->layout->tensors[norm->weight].frozen) {
        sink->take(sink->context, norm->weight, m->gradient, NULL, 0);
    }
}

// Spans of a pack: an item's prefix, then its branches.
static void lay_spans(struct rmj_model *m, const struct rmj_pack *pack)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        m->item_spans[i] = count;
        uint32_t row = item->first_row;
        if (item->prefix_count > 0) {
            m->spans[count++] = (struct rmj_span){.first_row = row, .count = item->prefix_count};
        }
        row += item->prefix_count;
        for (uint32_t b = 0; b < item->branch_count; b++) {
            uint32_t rows = pack->branch_counts[item->first_branch + b];
            m->spans[count++] = (struct rmj_span){
                .first_row = row, .count = rows, .prefix_row = item->first_row, .prefix_count = item->prefix_count};
            row += rows;
        }
    }
    m->item_spans[pack->item_count] = count;
}

static void check_pack(const struct rmj_model *m, const struct rmj_pack *pack)
{
    RMJ_ASSERT(pack->row_count == m->row_count && pack->used_row_count <= pack->row_count);
    RMJ_ASSERT(pack->item_count <= m->item_count_max && pack->branch_total <= m->branch_count_max);
    uint32_t vocabulary_size = m->layout->tensors[m->layout->embedding].shape[0];
    for (uint32_t r = 0; r < pack->row_count; r++) {
        RMJ_ASSERT((uint32_t)pack->tokens[r] < vocabulary_size && (uint32_t)pack->positions[r] < m->row_count);
    }
}

void rmj_model_forward(struct rmj_model *m, const struct rmj_pack *pack, float *scores)
{
    check_pack(m, pack);
    const struct rmj_ops *ops = &m->ops;
    uint32_t rows = m->row_count, width = m->config.hidden_width;
    lay_spans(m, pack);
    ops->gather(ops->context, m->layers[0].x, rmj_model_weight(m, m->layout->embedding), pack->tokens, rows, width);
    if (m->config.embedding_scale != 1) {
        ops->scale(ops->context, m->layers[0].x, m->config.embedding_scale, (size_t)rows * width);
    }
    for (uint32_t i = 0; i < m->config.layer_count; i++) {
        rmj_attention_layer_forward(m, pack, &m->layers[i]);
        rmj_feed_forward_forward(m, &m->layers[i], i + 1 < m->config.layer_count ? m->layers[i + 1].x : m->x_last);
    }
    rmj_model_norm_forward(m, &m->final_norm, m->x_last, m->final_rows, rows, width);
    ops->head_forward(ops->context, scores, m->final_rows, rmj_model_weight(m, m->layout->head), pack->branch_last_rows,
                      pack->branch_total, width);
}

// Leaves the gradient by the last layer's output in dx.
static void head_backward(struct rmj_model *m, const struct rmj_pack *pack, const float *score_gradients,
                          const struct rmj_gradient_sink *sink)
{
    const struct rmj_ops *ops = &m->ops;
    uint32_t rows = m->row_count, width = m->config.hidden_width;
    ops->head_backward(ops->context, m->dnorm, m->gradient, score_gradients, m->final_rows,
                       rmj_model_weight(m, m->layout->head), pack->branch_last_rows, pack->branch_total, rows, width);
    sink->take(sink->context, m->layout->head, m->gradient, NULL, 0);
    memset(m->dx, 0, (size_t)rows * width * sizeof *m->dx);
    rmj_model_norm_backward(m, &m->final_norm, m->x_last, m->dnorm, m->dx, 1, rows, width, sink);
}

void rmj_model_backward(struct rmj_model *m, const struct rmj_pack *pack, const float *score_gradients,
                        const struct rmj_gradient_sink *sink)
{
    RMJ_ASSERT(m->training);
    check_pack(m, pack);
    lay_spans(m, pack);
    head_backward(m, pack, score_gradients, sink);
    for (uint32_t i = m->config.layer_count; i-- > 0;) {
        rmj_feed_forward_backward(m, &m->layers[i], sink);
        rmj_attention_layer_backward(m, pack, &m->layers[i], sink);
    }
    if (m->layout->tensors[m->layout->embedding].frozen) {
        return;
    }
    if (m->config.embedding_scale != 1) {
        m->ops.scale(m->ops.context, m->dx, m->config.embedding_scale, (size_t)m->row_count * m->config.hidden_width);
    }
    uint32_t count = m->ops.scatter(m->ops.context, m->gradient, m->distinct, m->dx, pack->tokens, pack->used_row_count,
                                    m->config.hidden_width);
    sink->take(sink->context, m->layout->embedding, m->gradient, m->distinct, count);
}

// With d = chosen - rejected - margin: -log sigmoid(d) = log(1 + e^-d), written so that no exponential overflows.
void rmj_bradley_terry(const struct rmj_pack *pack, const float *scores, float *losses, float *score_gradients)
{
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        RMJ_ASSERT(item->branch_count == 2);
        uint32_t chosen = item->first_branch, rejected = item->first_branch + 1;
        double d = (double)scores[chosen] - (double)scores[rejected] - (double)item->margin;
        double e = rmj_math_exp(d >= 0 ? -d : d);
        double loss = rmj_math_log1p(e) + (d >= 0 ? 0 : -d);
        double slope = d >= 0 ? -e / (1 + e) : -1 / (1 + e); // -sigmoid(-d)
        losses[i] = (float)loss;
        score_gradients[chosen] = (float)slope;
        score_gradients[rejected] = (float)-slope;
    }
}
