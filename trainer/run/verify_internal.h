// What the files of `rmjob model verify` say, and the table of comparisons. Private to trainer/run/verify*.c.
#ifndef RMJ_TRAINER_RUN_VERIFY_INTERNAL_H
#define RMJ_TRAINER_RUN_VERIFY_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "trainer/data/pack.h"
#include "trainer/model/config.h"
#include "trainer/run/verify.h"

#define RMJ_VERIFY_BATCH_SIZE_MAX (256u << 20)
#define RMJ_VERIFY_PAIRS_MAX 100000u
#define RMJ_VERIFY_LENGTH_MAX (1u << 17) // tokens of a side
#define RMJ_VERIFY_STEPS_MAX 1000u
#define RMJ_VERIFY_NOTES_MAX 64u
#define RMJ_VERIFY_TEXT_SIZE 320

struct rmj_verify_pair {
    int32_t *sides[2]; // chosen, rejected
    uint32_t counts[2];
    float margin;
};

// batch.json.
struct rmj_verify_batch {
    struct rmj_verify_pair *pairs;
    uint32_t pair_count;
    uint32_t step_count; // 0: no optimizer, so one pass and no update
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double clip;          // 0: none
    double *losses;       // [step_count, at least 1], of each step before its update
    double *norms;        // the same of the mean gradient before clipping; NULL: not given
    uint32_t longest;     // tokens of the longest side
    uint64_t token_count; // of all sides
};

enum rmj_verify_group {
    RMJ_VERIFY_SCORES,
    RMJ_VERIFY_LOSS,
    RMJ_VERIFY_NORM,
    RMJ_VERIFY_GRADIENT,
    RMJ_VERIFY_PARAMETER,
    RMJ_VERIFY_GROUP_COUNT
};

struct rmj_verify_row {
    char name[RMJ_VERIFY_TEXT_SIZE]; // as in the expected file, or "loss of step 2"
    char remark[96];                 // what is special about the comparison; empty: nothing
    enum rmj_verify_group group;
    double distance; // ||ours - theirs|| / ||theirs||
    double limit;
    int judged; // 0: shown only
};

// Everything that was found: comparisons, what cannot be compared (each is a failure), and what is said besides.
struct rmj_verify_result {
    struct rmj_verify_row *rows;
    size_t row_count;
    char (*problems)[RMJ_VERIFY_TEXT_SIZE];
    size_t problem_count;
    char (*notes)[RMJ_VERIFY_TEXT_SIZE];
    size_t note_count, note_total;
    // of the model and the batch, for the head of the report
    char architecture[64];
    uint64_t parameter_count;
    uint32_t tensor_count, pair_count, pack_count, row_count_of_pack, step_count, shared_prefix_count;
    uint64_t token_count;
};

// verify_files.c
void rmj_verify_note(struct rmj_verify_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));
// RMJ_DATA names the file, the key and the mend. Ids are checked against the config's vocabulary and lengths.
RMJ_MUST_USE enum rmj_status rmj_verify_batch_read(struct rmj_verify_batch *batch, const char *path,
                                                   const struct rmj_model_config *config,
                                                   struct rmj_verify_result *result, struct rmj_error *err);
void rmj_verify_batch_free(struct rmj_verify_batch *batch);
int rmj_verify_same_sides(const struct rmj_verify_pair *pair);

// verify_packs.c: the pairs laid out as training does, shared prefixes once, first-fit by length.
struct rmj_verify_packs {
    struct rmj_pack *packs;
    uint32_t pack_count, row_count, item_count_max;
    uint32_t shared_prefix_count; // pairs that have one
    uint32_t *embedding_rows;     // distinct tokens, ascending
    uint32_t embedding_row_count;
    void *memory;
};
RMJ_MUST_USE enum rmj_status rmj_verify_packs_create(struct rmj_verify_packs *packs,
                                                     const struct rmj_verify_batch *batch,
                                                     const struct rmj_model_config *config, struct rmj_error *err);
// A power of two that is at least pack_count, for the integer sums.
uint32_t rmj_verify_pack_bound(const struct rmj_verify_packs *packs);
void rmj_verify_packs_destroy(struct rmj_verify_packs *packs);

// verify_print.c
void rmj_verify_print(const struct rmj_verify_options *options, const struct rmj_verify_result *result, FILE *out);
// Comparisons over their limit.
size_t rmj_verify_over_count(const struct rmj_verify_result *result);

#endif
