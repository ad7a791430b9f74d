// The flat parameter space and its cut into pages; a function of the model's shape alone.
//
// Tensors lie one after another, group by group (embedding; layer 0; ...; final norm and head), each starting at a
// multiple of RMJ_BLOCK_ELEMENTS, so that a block of the integer sums is inside one tensor. Pages are consecutive cuts
// that never cross a group; in the embedding group they hold whole rows. Padding elements are zero for ever.
//
//   [ trained: element_count elements, in pages ][ frozen: the rest, up to weight_count ]
//
// With adapters (lora.h) only they and the head are trained: they alone are paged, summed, checkpointed and sent. What
// is frozen lies behind them, and every rank reads it from the base model. Without adapters nothing is frozen.
#ifndef RMJ_TRAINER_MODEL_LAYOUT_H
#define RMJ_TRAINER_MODEL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/model/config.h"
#include "trainer/model/lora.h"

#define RMJ_BLOCK_ELEMENTS 1024u

enum rmj_sum_kind {
    RMJ_SUM_BODY,      // int32, one exponent a block
    RMJ_SUM_EMBEDDING, // int64, rows that occur, one exponent a tensor
    RMJ_SUM_WIDE,      // int64, one exponent a tensor: head, norms, biases, adapters
};

#define RMJ_NO_ADAPTER 0u

struct rmj_tensor {
    char name[96];            // Hugging Face name: "model.layers.0.self_attn.q_proj.weight"
    uint32_t shape[2];        // [rows, columns]; vectors are [1, n]
    uint32_t dimension_count; // as in the file: 1 or 2
    uint64_t element_count;
    uint64_t offset; // in elements
    enum rmj_sum_kind sum_kind;
    int frozen;       // 1: read from the base model and never trained; its offset is after the trained elements
    int is_adapter;   // 1: A or B of an adapter; no base model has it
    uint32_t adapter; // index of this matrix's A, with B after it; RMJ_NO_ADAPTER: none
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
    uint64_t element_count; // trained ones, with padding: what the pages cover
    uint64_t weight_count;  // all, with padding: what an array of weights must hold
    struct rmj_lora lora;   // rank 0: none
    struct rmj_page *pages;
    uint32_t page_count;
};

// vocabulary_size: the base model's, plus one when the plan adds a pad row.
RMJ_MUST_USE enum rmj_status rmj_layout_create(struct rmj_layout **layout, const struct rmj_model_config *config,
                                               uint32_t vocabulary_size, struct rmj_error *err);
// The same with adapters: tensors stand in the same order, A and B after their matrix.
RMJ_MUST_USE enum rmj_status rmj_layout_create_lora(struct rmj_layout **layout, const struct rmj_model_config *config,
                                                    uint32_t vocabulary_size, const struct rmj_lora *lora,
                                                    struct rmj_error *err);
void rmj_layout_destroy(struct rmj_layout *layout);

#endif
