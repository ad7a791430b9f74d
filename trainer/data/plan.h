// The plan: everything about a job that is a pure function of spec, data and base model. `prepare` makes it, the
// checkpoint store keeps it under its digest, every rank reads the same one.
#ifndef RMJ_TRAINER_DATA_PLAN_H
#define RMJ_TRAINER_DATA_PLAN_H

#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"
#include "storage/object/store.h"
#include "trainer/data/pack.h"

struct rmj_plan;

struct rmj_plan_info {
    uint64_t pair_count;
    uint32_t file_count;
    uint32_t step_count;
    uint32_t row_count;               // T of every pack
    uint32_t packs_per_step_bound;    // P, a power of two
    uint32_t pack_count_max;          // most packs of any step
    uint32_t embedding_row_count_max; // most distinct tokens of any step (U)
    uint32_t item_count_max;          // of a pack
    uint32_t branch_count_max;        // of a pack
    int32_t pad_token;
    int vocabulary_grows;                // 1 when the pad token is a new row after the base model's vocabulary
    struct rmj_digest pairs_sum;         // sum modulo 2^256 of all pair digests, little-endian bytes
    struct rmj_digest base_digest;       // rmj_model_files_digest of the base model, whole: what every rank must find
    struct rmj_digest companions_digest; // and of its files beside the weights
    struct rmj_digest benchmark_digest;  // of what the evaluation reads; trainer/data/pins.h
    struct rmj_digest heldout_digest;
    char spec_digest[RMJ_DIGEST_HEX_SIZE]; // SHA-256 of the packed JobSpec message
};

// Fetches and verifies the plan object plan/<hex> below prefix. Errors: RMJ_NOT_FOUND, RMJ_CORRUPT.
RMJ_MUST_USE enum rmj_status rmj_plan_open(struct rmj_plan **plan, struct rmj_store *store, const char *prefix,
                                           const char *digest_hex, struct rmj_error *err);
void rmj_plan_close(struct rmj_plan *plan);
const struct rmj_plan_info *rmj_plan_info(const struct rmj_plan *plan);

// One optimizer step, 1-based: consecutive pairs [first_pair, first_pair + pair_count) of the order.
struct rmj_plan_step {
    uint64_t first_pair;
    uint32_t pair_count;
    uint64_t token_count; // real rows, prefix once
    uint32_t pack_count;
    const uint32_t *embedding_rows; // [embedding_row_count] distinct tokens of the step, ascending
    uint32_t embedding_row_count;
};
void rmj_plan_step(const struct rmj_plan *plan, uint32_t step, struct rmj_plan_step *out);
// Pack `index` of a step. Valid until the plan is closed. Threads: any.
void rmj_plan_pack(const struct rmj_plan *plan, uint32_t step, uint32_t index, struct rmj_pack *out);
// Cost of a pack for placing it on ranks (relative units).
double rmj_plan_pack_cost(const struct rmj_plan *plan, uint32_t step, uint32_t index);
// SHA-256 of a pair's content, what the consumed-pairs proof adds up.
void rmj_plan_pair_digest(const struct rmj_plan *plan, uint64_t pair, struct rmj_digest *digest);
// What the lineage knows the pair by; trainer/data/lineage.h.
uint64_t rmj_plan_pair_lineage_id(const struct rmj_plan *plan, uint64_t pair);
// sum += digest modulo 2^256, little-endian bytes: any order gives the same sum.
void rmj_pairs_sum_add(struct rmj_digest *sum, const struct rmj_digest *digest);
// Where a pair came from, for messages: file and 1-based row.
void rmj_plan_pair_source(const struct rmj_plan *plan, uint64_t pair, const char **path, uint64_t *row);
// The same by number: file below info's file_count, and its name.
uint32_t rmj_plan_pair_file(const struct rmj_plan *plan, uint64_t pair);
const char *rmj_plan_file_path(const struct rmj_plan *plan, uint32_t file);

#endif
