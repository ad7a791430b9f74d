// Tensors one after another, pages cut by the shape alone; the drawing is in layout.h.
#include "trainer/model/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A page has between 16Ki and 4Mi elements, and a model at least 64 of them when it is large enough: fine enough to
// share among ranks, coarse enough for a short manifest.
#define PAGE_ELEMENTS_MIN ((uint64_t)1 << 14)
#define PAGE_ELEMENTS_MAX ((uint64_t)1 << 22)
#define PAGES_WANTED 64

#define LAYER_TENSORS_MAX 34

struct builder {
    struct rmj_layout *layout;
    uint64_t *group_ends; // [layer_count + 2]
    uint32_t group_count;
    uint64_t
        frozen_count; // elements; offsets of frozen tensors count from the end of the trained ones until place_frozen
};

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

static void add(struct builder *b, const char *name, uint32_t rows, uint32_t columns, enum rmj_sum_kind kind)
{
    struct rmj_layout *layout = b->layout;
    struct rmj_tensor *tensor = &layout->tensors[layout->tensor_count++];
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    int is_head = strcmp(name, "score.weight") == 0, is_adapter = strstr(name, ".lora_") != NULL;
    tensor->shape[0] = rows;
    tensor->shape[1] = columns;
    tensor->dimension_count = kind == RMJ_SUM_WIDE && !is_head && !is_adapter ? 1 : 2;
    tensor->element_count = (uint64_t)rows * columns;
    tensor->sum_kind = kind;
    tensor->is_adapter = is_adapter;
    tensor->adapter = RMJ_NO_ADAPTER;
    tensor->frozen = layout->lora.rank > 0 && !is_head && !is_adapter;
    uint64_t *end = tensor->frozen ? &b->frozen_count : &layout->element_count;
    tensor->offset = *end;
    *end += round_up(tensor->element_count, RMJ_BLOCK_ELEMENTS);
}

// Frozen tensors behind the trained ones.
static void place_frozen(struct builder *b)
{
    struct rmj_layout *layout = b->layout;
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        layout->tensors[i].offset += layout->tensors[i].frozen ? layout->element_count : 0;
    }
    layout->weight_count = layout->element_count + b->frozen_count;
}

static void end_group(struct builder *b)
{
    b->group_ends[b->group_count++] = b->layout->element_count;
}

static void add_linear(struct builder *b, const char *prefix, const char *name, uint32_t rows, uint32_t columns,
                       int bias)
{
    char full[96];
    uint32_t matrix = b->layout->tensor_count;
    snprintf(full, sizeof full, "%s.%s.weight", prefix, name);
    add(b, full, rows, columns, RMJ_SUM_BODY);
    if (bias) {
        snprintf(full, sizeof full, "%s.%s.bias", prefix, name);
        add(b, full, 1, rows, RMJ_SUM_WIDE);
    }
    if (rmj_lora_is_target(&b->layout->lora, name)) {
        b->layout->tensors[matrix].adapter = b->layout->tensor_count;
        snprintf(full, sizeof full, "%s.%s.lora_A.weight", prefix, name);
        add(b, full, b->layout->lora.rank, columns, RMJ_SUM_WIDE);
        snprintf(full, sizeof full, "%s.%s.lora_B.weight", prefix, name);
        add(b, full, rows, b->layout->lora.rank, RMJ_SUM_WIDE);
    }
}

static void add_norm(struct builder *b, const char *prefix, const char *name, uint32_t width)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s.weight", prefix, name);
    add(b, full, 1, width, RMJ_SUM_WIDE);
}

static void add_attention(struct builder *b, const struct rmj_model_config *config, const char *prefix)
{
    uint32_t c = config->hidden_width, d = config->head_width;
    uint32_t q = config->head_count * d, kv = config->kv_head_count * d;
    if (config->fused_qkv) {
        add_linear(b, prefix, "self_attn.qkv_proj", q + 2 * kv, c, config->qkv_bias);
    } else {
        add_linear(b, prefix, "self_attn.q_proj", q, c, config->qkv_bias);
        add_linear(b, prefix, "self_attn.k_proj", kv, c, config->qkv_bias);
        add_linear(b, prefix, "self_attn.v_proj", kv, c, config->qkv_bias);
    }
    if (config->qk_norm != RMJ_QK_NORM_NONE) {
        add_norm(b, prefix, "self_attn.q_norm", config->qk_norm == RMJ_QK_NORM_HEAD ? d : q);
        add_norm(b, prefix, "self_attn.k_norm", config->qk_norm == RMJ_QK_NORM_HEAD ? d : kv);
    }
    add_linear(b, prefix, "self_attn.o_proj", c, q, config->output_bias);
}

static void add_feed_forward(struct builder *b, const struct rmj_model_config *config, const char *prefix)
{
    uint32_t c = config->hidden_width, f = config->feed_forward_width;
    if (config->fused_gate_up) {
        add_linear(b, prefix, "mlp.gate_up_proj", 2 * f, c, config->mlp_bias);
    } else {
        add_linear(b, prefix, "mlp.gate_proj", f, c, config->mlp_bias);
        add_linear(b, prefix, "mlp.up_proj", f, c, config->mlp_bias);
    }
    add_linear(b, prefix, "mlp.down_proj", c, f, config->mlp_bias);
}

static void add_layer(struct builder *b, const struct rmj_model_config *config, uint32_t layer)
{
    char prefix[48];
    snprintf(prefix, sizeof prefix, "model.layers.%u", layer);
    uint32_t c = config->hidden_width;
    if (config->norm_placement != RMJ_NORM_AFTER) {
        add_norm(b, prefix, "input_layernorm", c);
    }
    add_attention(b, config, prefix);
    add_norm(b, prefix, "post_attention_layernorm", c);
    if (config->norm_placement == RMJ_NORM_BOTH) {
        add_norm(b, prefix, "pre_feedforward_layernorm", c);
    }
    add_feed_forward(b, config, prefix);
    if (config->norm_placement != RMJ_NORM_BEFORE) {
        add_norm(b, prefix, "post_feedforward_layernorm", c);
    }
    end_group(b);
}

static uint64_t page_elements(uint64_t element_count)
{
    uint64_t size = PAGE_ELEMENTS_MIN;
    while (size < PAGE_ELEMENTS_MAX && element_count / (2 * size) >= PAGES_WANTED) {
        size *= 2;
    }
    return size;
}

// Cuts [start, end) every `step` elements; counts only when pages is NULL.
static uint32_t cut(struct rmj_page *pages, uint64_t start, uint64_t end, uint64_t step, uint64_t last_cut)
{
    uint32_t count = 0;
    for (uint64_t at = start; at < end; count++) {
        uint64_t next = at + step < last_cut ? at + step : end;
        if (pages != NULL) {
            pages[count] = (struct rmj_page){.offset = at, .element_count = next - at};
        }
        at = next;
    }
    return count;
}

static uint32_t cut_pages(const struct builder *b, struct rmj_page *pages)
{
    const struct rmj_layout *layout = b->layout;
    uint64_t size = page_elements(layout->element_count);
    const struct rmj_tensor *embedding = &layout->tensors[layout->embedding];
    uint64_t rows = size / embedding->shape[1] > 0 ? size / embedding->shape[1] : 1;
    // The embedding's last page takes its padding, so the last cut is before the last whole row's end. Its group is
    // empty where it is frozen.
    uint32_t count = cut(pages, 0, b->group_ends[0], rows * embedding->shape[1], embedding->element_count);
    for (uint32_t g = 1; g < b->group_count; g++) {
        uint64_t end = b->group_ends[g];
        count += cut(pages != NULL ? pages + count : NULL, b->group_ends[g - 1], end, size, end);
    }
    return count;
}

enum rmj_status rmj_layout_create(struct rmj_layout **out, const struct rmj_model_config *config,
                                  uint32_t vocabulary_size, struct rmj_error *err)
{
    return rmj_layout_create_lora(out, config, vocabulary_size, &(struct rmj_lora){0}, err);
}

enum rmj_status rmj_layout_create_lora(struct rmj_layout **out, const struct rmj_model_config *config,
                                       uint32_t vocabulary_size, const struct rmj_lora *lora, struct rmj_error *err)
{
    RMJ_ASSERT(vocabulary_size >= config->vocabulary_size);
    struct rmj_layout *layout = calloc(1, sizeof *layout);
    size_t tensor_count_max = (size_t)config->layer_count * LAYER_TENSORS_MAX + 3;
    struct builder b = {.layout = layout, .group_ends = calloc(config->layer_count + 2, sizeof *b.group_ends)};
    if (layout == NULL || b.group_ends == NULL ||
        (layout->tensors = calloc(tensor_count_max, sizeof *layout->tensors)) == NULL) {
        free(b.group_ends);
        rmj_layout_destroy(layout);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the layout of %u layers", config->layer_count);
    }
    layout->lora = *lora;
    add(&b, "model.embed_tokens.weight", vocabulary_size, config->hidden_width, RMJ_SUM_EMBEDDING);
    end_group(&b);
    for (uint32_t layer = 0; layer < config->layer_count; layer++) {
        add_layer(&b, config, layer);
    }
    add(&b, "model.norm.weight", 1, config->hidden_width, RMJ_SUM_WIDE);
    layout->head = layout->tensor_count;
    add(&b, "score.weight", 1, config->hidden_width, RMJ_SUM_WIDE);
    end_group(&b);
    place_frozen(&b);

    layout->page_count = cut_pages(&b, NULL);
    layout->pages = calloc(layout->page_count, sizeof *layout->pages);
    if (layout->pages != NULL) {
        cut_pages(&b, layout->pages);
    }
    free(b.group_ends);
    if (layout->pages == NULL) {
        rmj_layout_destroy(layout);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the pages of %u layers", config->layer_count);
    }
    *out = layout;
    return RMJ_OK;
}

void rmj_layout_destroy(struct rmj_layout *layout)
{
    if (layout == NULL) {
        return;
    }
    free(layout->tensors);
    free(layout->pages);
    free(layout);
}
