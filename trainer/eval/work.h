// The work of an evaluation before it is packed: every benchmark row and held-out pair as tokens.
#ifndef RMJ_TRAINER_EVAL_WORK_H
#define RMJ_TRAINER_EVAL_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/benchmark.h"
#include "trainer/data/template.h"
#include "trainer/eval/eval.h"
#include "trainer/model/config.h"
#include "trainer/tokenizer/tokenizer.h"

// Sequences up to this length are never cut, if the model has the positions: the reference harness' own default.
#define RMJ_EVAL_LENGTH_LEAST 2048u
// T of an evaluation, unless one sequence is longer.
#define RMJ_EVAL_ROWS_CAP 4096u

// One item of a pack: consecutive branches of the work, behind one shared prefix.
struct rmj_eval_unit {
    uint32_t row_count;
    uint32_t prefix_count;
    uint32_t first_branch, branch_count;
    uint64_t first_token;
};

struct rmj_eval_work {
    struct rmj_model_config config;
    struct rmj_tokenizer *tokenizer;
    struct rmj_renderer renderer;
    struct rmj_benchmark benchmark;
    uint32_t max_length;
    uint32_t truncated_count; // sequences that were cut
    struct rmj_eval_unit *units;
    uint32_t unit_count, unit_room;
    // In the order of rows and completions; lengths are those behind the unit's prefix.
    uint32_t *branch_counts;
    uint32_t branch_total, branch_room;
    int32_t *tokens;
    size_t token_count, token_room;
    struct rmj_tokens *sequences; // scratch: of one row
    uint32_t sequence_count, sequence_room;
    struct rmj_render_memory memory;
};

// data.max_length, at least RMJ_EVAL_LENGTH_LEAST; the model's positions bound it further.
uint32_t rmj_eval_max_length(const Rmjob__V1__JobSpec *spec);
RMJ_MUST_USE enum rmj_status rmj_eval_work_open(struct rmj_eval_work *work, const char *model_directory,
                                                uint32_t max_length, struct rmj_error *err);
void rmj_eval_work_close(struct rmj_eval_work *work);
// The benchmark and the held-out files of a spec.
RMJ_MUST_USE enum rmj_status rmj_eval_work_add_spec(struct rmj_eval_work *work, const Rmjob__V1__JobSpec *spec,
                                                    struct rmj_error *err);
// One sequence with a branch of its own and no prefix.
RMJ_MUST_USE enum rmj_status rmj_eval_work_add_input(struct rmj_eval_work *work, const struct rmj_eval_input *input,
                                                     struct rmj_error *err);

#endif
