// What the check of a spec and the whole-set preparation share: the spec's values with their defaults, the base model,
// and what the job will need in memory.
#ifndef RMJ_TRAINER_DATA_INPUTS_H
#define RMJ_TRAINER_DATA_INPUTS_H

#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "storage/digest.h"
#include "trainer/data/findings.h"
#include "trainer/data/rendering.h"
#include "trainer/model/config.h"
#include "trainer/model/lora.h"

#define RMJ_MAX_LENGTH_DEFAULT 1024u
#define RMJ_MAX_LENGTH_LEAST 8u
// Two sides of a pair must fit RMJ_PLAN_ROW_COUNT_MAX.
#define RMJ_MAX_LENGTH_MOST (1u << 20)
#define RMJ_BATCH_PAIRS_DEFAULT 128u
#define RMJ_BATCH_PAIRS_MAX 1000000u

struct rmj_inputs {
    const Rmjob__V1__JobSpec *spec;
    struct rmj_model_config config;
    struct rmj_rendering rendering;
    uint32_t max_length;
    uint32_t global_batch_pairs;
    uint32_t min_ranks, max_ranks;
    int over_length;
    int use_margin;
    int refuse_duplicates;
    struct rmj_lora lora;  // rank 0: none
    const char *benchmark; // path, NULL for none
    int usable;            // the base model, its tokenizer and the lengths are all right
};

// Opens the base model and checks everything of the spec that needs it. What is wrong becomes findings.
RMJ_MUST_USE enum rmj_status rmj_inputs_open(struct rmj_inputs *inputs, const Rmjob__V1__JobSpec *spec,
                                             struct rmj_findings *findings, struct rmj_error *err);
void rmj_inputs_close(struct rmj_inputs *inputs);

// SHA-256 of the packed message.
void rmj_spec_digest(const Rmjob__V1__JobSpec *spec, struct rmj_digest *digest);

// Shape of a plan, as far as memory depends on it.
struct rmj_plan_shape {
    uint32_t row_count, packs_per_step_bound, embedding_row_count_max, item_count_max, branch_count_max;
    int vocabulary_grows;
    uint64_t packs, tokens;
};
struct rmj_needs {
    uint64_t parameters;
    uint64_t memory_bytes; // peak of one rank at min_ranks
    uint32_t pages;
};
RMJ_MUST_USE enum rmj_status rmj_inputs_needs(const struct rmj_inputs *inputs, const struct rmj_plan_shape *shape,
                                              struct rmj_needs *needs, struct rmj_error *err);
// An error finding when the estimate is over resources.memory.
void rmj_inputs_check_memory(const struct rmj_inputs *inputs, uint64_t memory_bytes, struct rmj_findings *findings);

#endif
