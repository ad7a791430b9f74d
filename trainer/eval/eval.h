// Scoring of an exported model: RewardBench 2 rows and held-out pairs, through the same packs as training, sharded over
// the ranks of a generation. Only raw scores are made here; what they mean is service/gate's.
#ifndef RMJ_TRAINER_EVAL_EVAL_H
#define RMJ_TRAINER_EVAL_EVAL_H

#include <jansson.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"

struct rmj_eval; // the work list: every row and pair, tokenized and packed; equal on every rank

// model_directory: the exported artifact (its own tokenizer and template are used). Paths come from the spec.
RMJ_MUST_USE enum rmj_status rmj_eval_open(struct rmj_eval **eval, const Rmjob__V1__JobSpec *spec,
                                           const char *model_directory, struct rmj_error *err);
void rmj_eval_close(struct rmj_eval *eval);
uint32_t rmj_eval_pack_count(const struct rmj_eval *eval);
// Scores of a whole evaluation, in work order.
uint32_t rmj_eval_score_count(const struct rmj_eval *eval);
// Sequences over the evaluation's length (data.max_length, at least 2,048, at most the model's positions) that lost
// their end.
uint32_t rmj_eval_truncated_count(const struct rmj_eval *eval);
// Where the scores of a pack go: [*first, *first + *count) of the whole.
void rmj_eval_pack_scores(const struct rmj_eval *eval, uint32_t pack, uint32_t *first, uint32_t *count);
// Loads the exported weights and scores packs `rank`, `rank + world`, ... into scores [score_count]; others are left
// alone. progress may be NULL: called after each pack with packs done; a non-zero return cancels (RMJ_CANCELLED).
RMJ_MUST_USE enum rmj_status rmj_eval_run(struct rmj_eval *eval, struct rmj_pool *pool, uint32_t rank, uint32_t world,
                                          float *scores, int (*progress)(void *context, uint32_t done), void *context,
                                          struct rmj_error *err);
// The message that goes to the store, from the complete scores.
Rmjob__V1__ScoredRows *rmj_eval_rows(const struct rmj_eval *eval, const float *scores);

// One sequence to score: a conversation, rendered with the directory's template, or a text.
struct rmj_eval_input {
    const char *text;
    json_t *messages; // NULL for a text
};
// Scores with a model directory, for `rmjob-rank score` and tests.
RMJ_MUST_USE enum rmj_status rmj_eval_score_inputs(const char *model_directory, const struct rmj_eval_input *inputs,
                                                   size_t count, struct rmj_pool *pool, float *scores,
                                                   struct rmj_error *err);

#endif
