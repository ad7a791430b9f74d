// Shared by the model's and the optimizer's tests: the folder of real data, packs built from token pairs, safetensors
// of expected values.
#ifndef RMJ_TESTS_TRAINER_MODEL_FIXTURE_H
#define RMJ_TESTS_TRAINER_MODEL_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "trainer/data/pack.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/model.h"
#include "trainer/optim/optim.h"

// $RMJOB_DATA/name or $RMJOB_SOURCE/../shared/data/name; free() it. Prints SKIP and exits 77 when it is not there.
char *fixture_path(const char *name);
char *fixture_path_or_null(const char *name);

struct token_pair {
    const int32_t *sides[2]; // chosen, rejected
    size_t counts[2];
    float margin;
};
struct owned_pack {
    struct rmj_pack pack;
    int32_t *tokens, *positions;
    struct rmj_pack_item *items;
    uint32_t *branch_counts, *branch_last_rows;
};
// Lays pairs out, the common prefix (capped at the shorter side less one) once. share 0: no prefix is shared.
void pack_build(struct owned_pack *out, const struct token_pair *pairs, size_t count, uint32_t row_count,
                int32_t pad_token, int share);
void pack_free(struct owned_pack *pack);
// Rows that a pair needs.
size_t pair_rows(const struct token_pair *pair, int share);

// Distinct tokens of several pairs, ascending; returns their number. rows: [vocabulary_size]
uint32_t distinct_tokens(const struct token_pair *pairs, size_t count, uint32_t *rows, uint32_t vocabulary_size);

// ||a - b|| / ||b||
double relative_distance(const float *a, const float *b, size_t count);

// A model with its parameters, ready for steps.
struct bench {
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    float *w, *m, *v;
    struct rmj_model *model;
    struct rmj_sums *sums;
    int16_t *exponents;
    uint32_t second_passes; // steps that were computed again
};
struct bench_options {
    const char *directory;
    enum rmj_head_init head_init;
    uint32_t row_count, thread_count, packs_per_step_bound, vocabulary_extra;
    struct rmj_lora lora; // rank 0: none
};
void bench_open(struct bench *bench, const struct bench_options *options);
void bench_close(struct bench *bench);

struct step_result {
    double loss, margin, accuracy, norm;
};
// One optimizer step over packs, by the rules: pass, verdict, second pass, clip, update. rank_of (may be NULL) places
// pack i on one of rank_count simulated ranks, whose sums are added page by page.
struct step_result bench_step(struct bench *bench, const struct owned_pack *packs, size_t pack_count,
                              const struct token_pair *pairs, size_t pair_count, const struct rmj_adamw *adamw,
                              double clip, const uint32_t *rank_of, uint32_t rank_count);

#endif
