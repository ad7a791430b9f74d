// Llama with a scalar head, forward and backward, over the operations of kernels/ops.h.
//
//   x -> rmsnorm -> q k v -> rotary -> attention -> o -> (+ x) = mid -> rmsnorm -> gate up -> swiglu -> down -> (+ mid)
//
// Kept for backward, per layer: x, mid, both rstd, q, k, v (rotated), attention's output and row statistics, gate, up.
// Normalised rows and the swiglu product are computed again: no matrix product is. A model made for scoring alone keeps
// one layer's worth and overwrites it.
#include "trainer/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"
#include "kernels/ops.h"
#include "trainer/model/rope.h"

#define NO_TENSOR UINT32_MAX

struct linear {
    uint32_t weight, bias; // tensor indices; bias NO_TENSOR when there is none
};

struct layer {
    uint32_t input_norm, middle_norm;
    struct linear q, k, v, o, gate, up, down;
    // Activations.
    float *x;                   // [T, C]
    float *mid;                 // [T, C]
    float *rstd, *mid_rstd;     // [T]
    float *q_rows, *att;        // [T, H D]
    float *k_rows, *v_rows;     // [T, K D]
    float *row_stats;           // [T, H, 2]
    float *gate_rows, *up_rows; // [T, F]
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
    uint32_t final_norm;
    float *frequencies;     // [D / 2] of the rotated pairs
    float *cosines, *sines; // [T, D / 2]
    // owner thread
    struct layer *layers;
    float *x_last, *norm, *act; // [T, C], [T, C], [T, F]
    float *last_rstd;           // [T]
    float *final_rows;          // [T, C]
    struct rmj_span *spans;
    uint32_t *item_spans;
    // backward
    float *dx, *dnorm;  // [T, C]
    float *dq, *datt;   // [T, H D]
    float *dk, *dv;     // [T, K D]
    float *dgate, *dup; // [T, F]
    float *gradient;    // [largest tensor], or [T, C] for the embedding
    uint32_t *distinct; // [T]
};

// Counts when arena is NULL, takes otherwise, so that both always agree.
struct taker {
    struct rmj_arena *arena;
    size_t size;
};

static void *take(struct taker *t, size_t count, size_t element_size)
{
    t->size += rmj_arena_need(count * element_size);
    return t->arena != NULL ? rmj_arena_take(t->arena, count * element_size) : NULL;
}

static void *take_floats(struct taker *t, size_t rows, size_t columns)
{
    return take(t, rows * columns, sizeof(float));
}

static size_t query_width(const struct rmj_model_config *c)
{
    return (size_t)c->head_count * c->head_width;
}

static size_t key_width(const struct rmj_model_config *c)
{
    return (size_t)c->kv_head_count * c->head_width;
}

static void take_layer(struct taker *t, const struct rmj_model_config *c, size_t rows, struct layer *layer)
{
    layer->x = take_floats(t, rows, c->hidden_width);
    layer->mid = take_floats(t, rows, c->hidden_width);
    layer->rstd = take_floats(t, rows, 1);
    layer->mid_rstd = take_floats(t, rows, 1);
    layer->q_rows = take_floats(t, rows, query_width(c));
    layer->att = take_floats(t, rows, query_width(c));
    layer->k_rows = take_floats(t, rows, key_width(c));
    layer->v_rows = take_floats(t, rows, key_width(c));
    layer->row_stats = take_floats(t, rows, (size_t)c->head_count * 2);
    layer->gate_rows = take_floats(t, rows, c->feed_forward_width);
    layer->up_rows = take_floats(t, rows, c->feed_forward_width);
}

static size_t largest_gradient(const struct rmj_layout *layout, size_t rows)
{
    size_t largest = rows * layout->tensors[layout->embedding].shape[1];
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (i != layout->embedding && layout->tensors[i].element_count > largest) {
            largest = layout->tensors[i].element_count;
        }
    }
    return largest;
}

static void take_backward(struct taker *t, struct rmj_model *m)
{
    const struct rmj_model_config *c = &m->config;
    size_t rows = m->row_count;
    m->dx = take_floats(t, rows, c->hidden_width);
    m->dnorm = take_floats(t, rows, c->hidden_width);
    m->dq = take_floats(t, rows, query_width(c));
    m->datt = take_floats(t, rows, query_width(c));
    m->dk = take_floats(t, rows, key_width(c));
    m->dv = take_floats(t, rows, key_width(c));
    m->dgate = take_floats(t, rows, c->feed_forward_width);
    m->dup = take_floats(t, rows, c->feed_forward_width);
    m->gradient = take_floats(t, largest_gradient(m->layout, rows), 1);
    m->distinct = take(t, rows, sizeof *m->distinct);
}

static void take_all(struct taker *t, struct rmj_model *m)
{
    const struct rmj_model_config *c = &m->config;
    size_t rows = m->row_count;
    m->layers = take(t, c->layer_count, sizeof *m->layers);
    struct layer shared = {0};
    for (uint32_t i = 0; i < c->layer_count; i++) {
        if (m->training || i == 0) {
            take_layer(t, c, rows, &shared);
        }
        if (m->layers != NULL) {
            m->layers[i] = shared;
        }
    }
    m->frequencies = take_floats(t, 1, c->head_width / 2);
    m->cosines = take_floats(t, rows, c->head_width / 2);
    m->sines = take_floats(t, rows, c->head_width / 2);
    m->x_last = take_floats(t, rows, c->hidden_width);
    m->norm = take_floats(t, rows, c->hidden_width);
    m->act = take_floats(t, rows, c->feed_forward_width);
    m->last_rstd = take_floats(t, rows, 1);
    m->final_rows = take_floats(t, rows, c->hidden_width);
    m->spans = take(t, (size_t)m->item_count_max + m->branch_count_max, sizeof *m->spans);
    m->item_spans = take(t, (size_t)m->item_count_max + 1, sizeof *m->item_spans);
    if (m->training) {
        take_backward(t, m);
    }
}

static struct rmj_ops_limits ops_limits(const struct rmj_model_options *o)
{
    const struct rmj_model_config *c = o->config;
    uint32_t width = c->hidden_width;
    width = c->feed_forward_width > width ? c->feed_forward_width : width;
    width = query_width(c) > width ? (uint32_t)query_width(c) : width;
    return (struct rmj_ops_limits){.row_count = o->row_count,
                                   .width = width,
                                   .head_width = c->head_width,
                                   .vocabulary_size = o->layout->tensors[o->layout->embedding].shape[0]};
}

static struct rmj_model make_model(const struct rmj_model_options *o)
{
    return (struct rmj_model){.config = *o->config,
                              .layout = o->layout,
                              .weights = o->weights,
                              .row_count = o->row_count,
                              .item_count_max = o->item_count_max,
                              .branch_count_max = o->branch_count_max,
                              .training = o->training};
}

size_t rmj_model_memory(const struct rmj_model_options *options)
{
    struct rmj_model model = make_model(options);
    struct taker counter = {0};
    take_all(&counter, &model);
    struct rmj_ops_limits limits = ops_limits(options);
    size_t thread_count = options->pool != NULL ? rmj_pool_thread_count(options->pool) : 1;
    return counter.size + rmj_cpu_ops_memory(&limits, thread_count);
}

static uint32_t tensor_index(const struct rmj_layout *layout, const char *name)
{
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (strcmp(layout->tensors[i].name, name) == 0) {
            return i;
        }
    }
    return NO_TENSOR;
}

static uint32_t layer_tensor(const struct rmj_layout *layout, uint32_t layer, const char *part, const char *kind)
{
    char name[96];
    snprintf(name, sizeof name, "model.layers.%u.%s.%s", layer, part, kind);
    return tensor_index(layout, name);
}

static struct linear layer_linear(const struct rmj_layout *layout, uint32_t layer, const char *part)
{
    struct linear linear = {.weight = layer_tensor(layout, layer, part, "weight"),
                            .bias = layer_tensor(layout, layer, part, "bias")};
    RMJ_ASSERT(linear.weight != NO_TENSOR);
    return linear;
}

static void find_tensors(struct rmj_model *m)
{
    for (uint32_t i = 0; i < m->config.layer_count; i++) {
        struct layer *layer = &m->layers[i];
        layer->input_norm = layer_tensor(m->layout, i, "input_layernorm", "weight");
        layer->middle_norm = layer_tensor(m->layout, i, "post_attention_layernorm", "weight");
        layer->q = layer_linear(m->layout, i, "self_attn.q_proj");
        layer->k = layer_linear(m->layout, i, "self_attn.k_proj");
        layer->v = layer_linear(m->layout, i, "self_attn.v_proj");
        layer->o = layer_linear(m->layout, i, "self_attn.o_proj");
        layer->gate = layer_linear(m->layout, i, "mlp.gate_proj");
        layer->up = layer_linear(m->layout, i, "mlp.up_proj");
        layer->down = layer_linear(m->layout, i, "mlp.down_proj");
        RMJ_ASSERT(layer->input_norm != NO_TENSOR && layer->middle_norm != NO_TENSOR);
    }
    m->final_norm = tensor_index(m->layout, "model.norm.weight");
    RMJ_ASSERT(m->final_norm != NO_TENSOR);
}

static void fill_rotary_tables(struct rmj_model *m)
{
    rmj_rope_inverse_frequencies(m->frequencies, &m->config);
    struct rmj_rotary rotary = {.position_count = m->row_count,
                                .pair_count = m->config.head_width / 2,
                                .inverse_frequencies = m->frequencies,
                                .amplitude = 1};
    m->ops.rotary_tables(m->ops.context, m->cosines, m->sines, &rotary);
}

enum rmj_status rmj_model_create(struct rmj_model **out, const struct rmj_model_options *options, struct rmj_error *err)
{
    struct rmj_model *m = malloc(sizeof *m);
    if (m == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a model");
    }
    *m = make_model(options);
    struct taker counter = {0};
    take_all(&counter, m);
    struct rmj_ops_limits limits = ops_limits(options);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_arena_create(&m->arena, "activations", counter.size, err));
    RMJ_GO(rmj_cpu_ops_create(&m->ops, &limits, options->pool, err));
    struct taker taker = {.arena = &m->arena};
    take_all(&taker, m);
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

static float *weight(const struct rmj_model *m, uint32_t tensor)
{
    return m->weights + m->layout->tensors[tensor].offset;
}

// out[T, rows] = in[T, columns] weight^T + bias
static void linear_forward(struct rmj_model *m, const struct linear *linear, const float *in, float *out)
{
    const struct rmj_tensor *tensor = &m->layout->tensors[linear->weight];
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_TRANSPOSED,
                                                       .m = m->row_count,
                                                       .n = tensor->shape[0],
                                                       .k = tensor->shape[1],
                                                       .a = in,
                                                       .b = weight(m, linear->weight),
                                                       .c = out});
    if (linear->bias != NO_TENSOR) {
        m->ops.add_bias(m->ops.context, out, weight(m, linear->bias), m->row_count, tensor->shape[0]);
    }
}

// din[T, columns] (+)= dout[T, rows] weight
static void linear_backward_input(struct rmj_model *m, const struct linear *linear, const float *dout, float *din,
                                  int accumulate)
{
    const struct rmj_tensor *tensor = &m->layout->tensors[linear->weight];
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_NORMAL_NORMAL,
                                                       .m = m->row_count,
                                                       .n = tensor->shape[1],
                                                       .k = tensor->shape[0],
                                                       .a = dout,
                                                       .b = weight(m, linear->weight),
                                                       .c = din,
                                                       .accumulate = accumulate});
}

// Gradients of weight and bias, each to the sink as soon as it is whole.
static void linear_backward_weight(struct rmj_model *m, const struct linear *linear, const float *dout, const float *in,
                                   const struct rmj_gradient_sink *sink)
{
    const struct rmj_tensor *tensor = &m->layout->tensors[linear->weight];
    m->ops.matmul(m->ops.context, &(struct rmj_matmul){.transpose = RMJ_TRANSPOSED_NORMAL,
                                                       .m = tensor->shape[0],
                                                       .n = tensor->shape[1],
                                                       .k = m->row_count,
                                                       .a = dout,
                                                       .b = in,
                                                       .c = m->gradient});
    sink->take(sink->context, linear->weight, m->gradient, NULL, 0);
    if (linear->bias != NO_TENSOR) {
        m->ops.column_sum(m->ops.context, m->gradient, dout, m->row_count, tensor->shape[0]);
        sink->take(sink->context, linear->bias, m->gradient, NULL, 0);
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

static struct rmj_attention attention_of(const struct rmj_model *m, const struct rmj_pack *pack,
                                         const struct layer *layer)
{
    return (struct rmj_attention){.spans = m->spans,
                                  .item_spans = m->item_spans,
                                  .item_count = pack->item_count,
                                  .row_count = m->row_count,
                                  .used_row_count = pack->used_row_count,
                                  .head_count = m->config.head_count,
                                  .kv_head_count = m->config.kv_head_count,
                                  .head_width = m->config.head_width,
                                  .scale = (float)(1.0 / sqrt((double)m->config.head_width)),
                                  .q = layer->q_rows,
                                  .k = layer->k_rows,
                                  .v = layer->v_rows,
                                  .out = layer->att,
                                  .row_stats = layer->row_stats,
                                  .dout = m->datt,
                                  .dq = m->dq,
                                  .dk = m->dk,
                                  .dv = m->dv};
}

static void rotate(struct rmj_model *m, const struct rmj_pack *pack, float *x, uint32_t heads, int backward)
{
    m->ops.rotary(m->ops.context, x, pack->positions, m->cosines, m->sines, m->row_count, heads, m->config.head_width,
                  m->config.head_width, backward);
}

// A norm over rows of C, forward into m->norm and backward from m->dnorm onto m->dx.
static struct rmj_rmsnorm norm_of(const struct rmj_model *m, uint32_t tensor, const float *x, float *rstd)
{
    return (struct rmj_rmsnorm){.rows = m->row_count,
                                .columns = m->config.hidden_width,
                                .x = x,
                                .weight = weight(m, tensor),
                                .epsilon = m->config.norm_epsilon,
                                .rstd = rstd,
                                .out = m->norm,
                                .dout = m->dnorm,
                                .dx = m->dx,
                                .dweight = m->gradient,
                                .accumulate = 1};
}

static void layer_forward(struct rmj_model *m, const struct rmj_pack *pack, struct layer *layer, float *next)
{
    const struct rmj_model_config *c = &m->config;
    const struct rmj_ops *ops = &m->ops;
    uint32_t rows = m->row_count, width = c->hidden_width;
    size_t count = (size_t)rows * width;
    struct rmj_rmsnorm input_norm = norm_of(m, layer->input_norm, layer->x, layer->rstd);
    ops->rmsnorm_forward(ops->context, &input_norm);
    linear_forward(m, &layer->q, m->norm, layer->q_rows);
    linear_forward(m, &layer->k, m->norm, layer->k_rows);
    linear_forward(m, &layer->v, m->norm, layer->v_rows);
    rotate(m, pack, layer->q_rows, c->head_count, 0);
    rotate(m, pack, layer->k_rows, c->kv_head_count, 0);
    struct rmj_attention attention = attention_of(m, pack, layer);
    ops->attention_forward(ops->context, &attention);
    linear_forward(m, &layer->o, layer->att, layer->mid);
    ops->add(ops->context, layer->mid, layer->mid, layer->x, count);

    struct rmj_rmsnorm middle_norm = norm_of(m, layer->middle_norm, layer->mid, layer->mid_rstd);
    ops->rmsnorm_forward(ops->context, &middle_norm);
    linear_forward(m, &layer->gate, m->norm, layer->gate_rows);
    linear_forward(m, &layer->up, m->norm, layer->up_rows);
    ops->glu_forward(ops->context, RMJ_SILU, m->act, layer->gate_rows, layer->up_rows,
                     (size_t)rows * c->feed_forward_width);
    linear_forward(m, &layer->down, m->act, next);
    ops->add(ops->context, next, next, layer->mid, count);
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
    ops->gather(ops->context, m->layers[0].x, weight(m, m->layout->embedding), pack->tokens, rows, width);
    for (uint32_t i = 0; i < m->config.layer_count; i++) {
        float *next = i + 1 < m->config.layer_count ? m->layers[i + 1].x : m->x_last;
        layer_forward(m, pack, &m->layers[i], next);
    }
    struct rmj_rmsnorm final_norm = norm_of(m, m->final_norm, m->x_last, m->last_rstd);
    final_norm.out = m->final_rows;
    ops->rmsnorm_forward(ops->context, &final_norm);
    ops->head_forward(ops->context, scores, m->final_rows, weight(m, m->layout->head), pack->branch_last_rows,
                      pack->branch_total, width);
}

// dx: gradient by the layer's output, then by mid.
static void feed_forward_backward(struct rmj_model *m, const struct layer *layer, const struct rmj_gradient_sink *sink)
{
    const struct rmj_ops *ops = &m->ops;
    linear_backward_input(m, &layer->down, m->dx, m->dup, 0);
    ops->glu_backward(ops->context, RMJ_SILU, m->dgate, m->dup, m->act, m->dup, layer->gate_rows, layer->up_rows,
                      (size_t)m->row_count * m->config.feed_forward_width);
    linear_backward_weight(m, &layer->down, m->dx, m->act, sink);
    struct rmj_rmsnorm norm = norm_of(m, layer->middle_norm, layer->mid, layer->mid_rstd);
    ops->rmsnorm_again(ops->context, &norm);
    linear_backward_weight(m, &layer->up, m->dup, m->norm, sink);
    linear_backward_weight(m, &layer->gate, m->dgate, m->norm, sink);
    linear_backward_input(m, &layer->up, m->dup, m->dnorm, 0);
    linear_backward_input(m, &layer->gate, m->dgate, m->dnorm, 1);
    ops->rmsnorm_backward(ops->context, &norm);
    sink->take(sink->context, layer->middle_norm, m->gradient, NULL, 0);
}

// dx: gradient by mid, then by the layer's input.
static void attention_backward(struct rmj_model *m, const struct rmj_pack *pack, const struct layer *layer,
                               const struct rmj_gradient_sink *sink)
{
    const struct rmj_ops *ops = &m->ops;
    linear_backward_input(m, &layer->o, m->dx, m->datt, 0);
    linear_backward_weight(m, &layer->o, m->dx, layer->att, sink);
    struct rmj_attention attention = attention_of(m, pack, layer);
    ops->attention_backward(ops->context, &attention);
    rotate(m, pack, m->dq, m->config.head_count, 1);
    rotate(m, pack, m->dk, m->config.kv_head_count, 1);
    struct rmj_rmsnorm norm = norm_of(m, layer->input_norm, layer->x, layer->rstd);
    ops->rmsnorm_again(ops->context, &norm);
    linear_backward_weight(m, &layer->v, m->dv, m->norm, sink);
    linear_backward_weight(m, &layer->k, m->dk, m->norm, sink);
    linear_backward_weight(m, &layer->q, m->dq, m->norm, sink);
    linear_backward_input(m, &layer->q, m->dq, m->dnorm, 0);
    linear_backward_input(m, &layer->k, m->dk, m->dnorm, 1);
    linear_backward_input(m, &layer->v, m->dv, m->dnorm, 1);
    ops->rmsnorm_backward(ops->context, &norm);
    sink->take(sink->context, layer->input_norm, m->gradient, NULL, 0);
}

static void head_backward(struct rmj_model *m, const struct rmj_pack *pack, const float *score_gradients,
                          const struct rmj_gradient_sink *sink)
{
    const struct rmj_ops *ops = &m->ops;
    uint32_t rows = m->row_count, width = m->config.hidden_width;
    ops->head_backward(ops->context, m->dnorm, m->gradient, score_gradients, m->final_rows, weight(m, m->layout->head),
                       pack->branch_last_rows, pack->branch_total, rows, width);
    sink->take(sink->context, m->layout->head, m->gradient, NULL, 0);
    memset(m->dx, 0, (size_t)rows * width * sizeof *m->dx);
    struct rmj_rmsnorm norm = norm_of(m, m->final_norm, m->x_last, m->last_rstd);
    ops->rmsnorm_backward(ops->context, &norm);
    sink->take(sink->context, m->final_norm, m->gradient, NULL, 0);
}

void rmj_model_backward(struct rmj_model *m, const struct rmj_pack *pack, const float *score_gradients,
                        const struct rmj_gradient_sink *sink)
{
    RMJ_ASSERT(m->training);
    check_pack(m, pack);
    lay_spans(m, pack);
    head_backward(m, pack, score_gradients, sink);
    for (uint32_t i = m->config.layer_count; i-- > 0;) {
        feed_forward_backward(m, &m->layers[i], sink);
        attention_backward(m, pack, &m->layers[i], sink);
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
