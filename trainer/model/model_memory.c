// What a model keeps, laid out in one arena. The same walk counts and lays, so that both always agree.
#include "trainer/model/model_internal.h"

// Counts when arena is NULL, takes otherwise.
struct taker {
    struct rmj_arena *arena;
    size_t size;
};

static void *take(struct taker *t, size_t count, size_t element_size)
{
    t->size += rmj_arena_need(count * element_size);
    return t->arena != NULL ? rmj_arena_take(t->arena, count * element_size) : NULL;
}

static float *take_floats(struct taker *t, size_t rows, size_t columns)
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

static void take_qk_norms(struct taker *t, const struct rmj_model_config *c, size_t rows, struct rmj_layer *layer)
{
    int by_head = c->qk_norm == RMJ_QK_NORM_HEAD;
    layer->q_unnormed = take_floats(t, rows, query_width(c));
    layer->k_unnormed = take_floats(t, rows, key_width(c));
    layer->q_norm.rstd = take_floats(t, rows, by_head ? c->head_count : 1);
    layer->k_norm.rstd = take_floats(t, rows, by_head ? c->kv_head_count : 1);
}

static void take_layer(struct taker *t, const struct rmj_model_config *c, size_t rows, struct rmj_layer *layer)
{
    layer->x = take_floats(t, rows, c->hidden_width);
    layer->mid = take_floats(t, rows, c->hidden_width);
    if (c->norm_placement != RMJ_NORM_AFTER) {
        layer->attention_in.rstd = take_floats(t, rows, 1);
        layer->feed_forward_in.rstd = take_floats(t, rows, 1);
    }
    if (c->norm_placement != RMJ_NORM_BEFORE) {
        layer->attention_out.rstd = take_floats(t, rows, 1);
        layer->feed_forward_out.rstd = take_floats(t, rows, 1);
        layer->attention_rows = take_floats(t, rows, c->hidden_width);
        layer->feed_forward_rows = take_floats(t, rows, c->hidden_width);
    }
    if (c->qk_norm != RMJ_QK_NORM_NONE) {
        take_qk_norms(t, c, rows, layer);
    }
    layer->q_rows = take_floats(t, rows, query_width(c));
    layer->attended = take_floats(t, rows, query_width(c));
    layer->k_rows = take_floats(t, rows, key_width(c));
    layer->v_rows = take_floats(t, rows, key_width(c));
    layer->row_stats = take_floats(t, rows, (size_t)c->head_count * 2);
    layer->gate_rows = take_floats(t, rows, c->feed_forward_width);
    layer->up_rows = take_floats(t, rows, c->feed_forward_width);
}

// A frozen matrix has no gradient; a frozen norm's is computed and left.
static size_t largest_gradient(const struct rmj_layout *layout, size_t rows)
{
    const struct rmj_tensor *embedding = &layout->tensors[layout->embedding];
    size_t largest = embedding->frozen ? 0 : rows * embedding->shape[1];
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &layout->tensors[i];
        if (i != layout->embedding && (!tensor->frozen || tensor->dimension_count == 1) &&
            tensor->element_count > largest) {
            largest = tensor->element_count;
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
    m->dbranch = c->norm_placement != RMJ_NORM_BEFORE ? take_floats(t, rows, c->hidden_width) : NULL;
    m->dq = take_floats(t, rows, query_width(c));
    m->datt = take_floats(t, rows, query_width(c));
    m->dk = take_floats(t, rows, key_width(c));
    m->dv = take_floats(t, rows, key_width(c));
    m->dgate = take_floats(t, rows, c->feed_forward_width);
    m->dup = take_floats(t, rows, c->feed_forward_width);
    m->gradient = take_floats(t, largest_gradient(m->layout, rows), 1);
    m->distinct = take(t, rows, sizeof *m->distinct);
}

static void take_rotary(struct taker *t, struct rmj_model *m)
{
    const struct rmj_model_config *c = &m->config;
    size_t pairs = c->rotary_width / 2;
    m->frequencies = take_floats(t, 1, pairs);
    for (uint8_t rope = 0; rope < RMJ_COUNT(c->ropes); rope++) {
        for (uint32_t i = 0; i < c->layer_count; i++) {
            if (c->layers[i].rope == rope) {
                m->cosines[rope] = take_floats(t, m->row_count, pairs);
                m->sines[rope] = take_floats(t, m->row_count, pairs);
                break;
            }
        }
    }
}

static void take_all(struct taker *t, struct rmj_model *m)
{
    const struct rmj_model_config *c = &m->config;
    size_t rows = m->row_count;
    m->layers = take(t, c->layer_count, sizeof *m->layers);
    struct rmj_layer shared = {0};
    for (uint32_t i = 0; i < c->layer_count; i++) {
        if (m->training || i == 0) {
            take_layer(t, c, rows, &shared);
        }
        if (m->layers != NULL) {
            m->layers[i] = shared;
        }
    }
    take_rotary(t, m);
    m->x_last = take_floats(t, rows, c->hidden_width);
    m->norm = take_floats(t, rows, c->hidden_width);
    m->act = take_floats(t, rows, c->feed_forward_width);
    m->final_norm.rstd = take_floats(t, rows, 1);
    m->final_rows = take_floats(t, rows, c->hidden_width);
    m->spans = take(t, (size_t)m->item_count_max + m->branch_count_max, sizeof *m->spans);
    m->item_spans = take(t, (size_t)m->item_count_max + 1, sizeof *m->item_spans);
    size_t rank = m->layout->lora.rank;
    m->lowered = rank > 0 ? take_floats(t, rows, rank) : NULL;
    if (m->training) {
        m->dlowered = rank > 0 ? take_floats(t, rows, rank) : NULL;
        take_backward(t, m);
    }
}

size_t rmj_model_arena_size(struct rmj_model *m)
{
    struct taker counter = {0};
    take_all(&counter, m);
    return counter.size;
}

void rmj_model_arena_lay(struct rmj_model *m)
{
    struct taker taker = {.arena = &m->arena};
    take_all(&taker, m);
}
