// The flat parameter space and its cut into pages; a function of the model's shape alone.
//
// Tensors lie one after another, group by group (embedding; layer 0; ...; final norm and head), each starting at a
// multiple of RMJ_BLOCK_ELEMENTS, so that a block of the integer sums is inside one tensor. Pages are consecutive cuts
// that never cross a group; in the embedding group they hold whole rows. Padding elements are zero for ever.
#ifndef RMJ_TRAINER_MODEL_LAYOUT_H
#define RMJ_TRAINER_MODEL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/model/config.h"

#define RMJ_BLOCK_ELEMENTS 1024u

enum rmj_sum_kind {
    RMJ_SUM_BODY,      // int32, one exponent a block
    RMJ_SUM_EMBEDDING, // int64, rows that occur, one exponent a tensor
    RMJ_SUM_WIDE,      // int64, one exponent a tensor: head, norms, biases
};

struct rmj_tensor {
    char name[96];            // Hugging Face name: "model.layers.0.self_attn.q_proj.weight"
    uint32_t shape[2];        // [rows, columns]; vectors are [1, n]
    uint32_t dimension_count; // as in the file: 1 or 2
    uint64_t element_count;
    uint64_t offset; // in elements
    enum rmj_sum_kind sum_kind;
    int frozen; // 1: read from the base model and never trained; its offset is after element_count
};

struct rmj_page {
    uint64_t offset; // in elements
    uint64_t element_count;
};

struct rmj_layout {
    struct rmj_tensor *tensors;
    uint32_t tensor_count;
    uint32_t embedding; // index of the embedding, of the head
    uint32_t head;
    uint64_t element_count; // with padding
    struct rmj_page *pages;
    uint32_t page_count;
};

// vocabulary_size: the base model's, plus one when the plan adds a pad row.
RMJ_MUST_USE enum rmj_status rmj_layout_create(struct rmj_layout **layout, const struct rmj_model_config *config,
                                               uint32_t vocabulary_size, struct rmj_error *err);
void rmj_layout_destroy(struct rmj_layout *layout);

#endif
