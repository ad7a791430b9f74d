// The work list of an evaluation and its scoring.
//
//   benchmark rows, then held-out pairs  ->  units (a shared prefix and its branches)  ->  packs  ->  scores in pack
//   order  ->  rmj_eval_rows puts them back in the order of rows and completions
//
// A row with many long completions is cut into several units, each with the prefix again, so that T stays small.
#include "trainer/eval/eval.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/data/packer.h"
#include "trainer/eval/work.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/layout.h"
#include "trainer/model/model.h"

struct rmj_eval {
    char *model_directory;
    struct rmj_eval_work work;
    struct rmj_model_config config;
    uint32_t row_count; // T
    uint32_t pack_count, item_count_max, branch_count_max;
    uint32_t *order;        // units, pack after pack
    uint32_t *item_counts;  // units of each pack
    uint32_t *first_units;  // of each pack, in order
    uint32_t *first_scores; // of each pack, and the total
    int32_t pad_token;
};

static enum rmj_status pack_units(struct rmj_eval *eval, struct rmj_error *err)
{
    const struct rmj_eval_work *work = &eval->work;
    uint64_t rows = 0, longest = 0;
    uint32_t *row_counts = malloc((work->unit_count + 1) * sizeof *row_counts);
    eval->order = malloc((work->unit_count + 1) * sizeof *eval->order);
    eval->item_counts = malloc((work->unit_count + 1) * sizeof *eval->item_counts);
    eval->first_units = malloc((work->unit_count + 1) * sizeof *eval->first_units);
    eval->first_scores = malloc((work->unit_count + 1) * sizeof *eval->first_scores);
    RMJ_ASSERT(row_counts != NULL && eval->order != NULL && eval->item_counts != NULL && eval->first_units != NULL &&
               eval->first_scores != NULL);
    for (uint32_t i = 0; i < work->unit_count; i++) {
        row_counts[i] = work->units[i].row_count;
        rows += row_counts[i];
        longest = row_counts[i] > longest ? row_counts[i] : longest;
    }
    eval->row_count = (uint32_t)rmj_pack_row_count(longest, rows, RMJ_EVAL_ROWS_CAP);
    enum rmj_status status = rmj_pack_first_fit(row_counts, work->unit_count, eval->row_count, eval->order,
                                                eval->item_counts, &eval->pack_count, err);
    uint32_t unit = 0, score = 0;
    for (uint32_t pack = 0; status == RMJ_OK && pack < eval->pack_count; pack++) {
        uint32_t branches = 0;
        eval->first_units[pack] = unit;
        eval->first_scores[pack] = score;
        for (uint32_t i = 0; i < eval->item_counts[pack]; i++) {
            branches += work->units[eval->order[unit++]].branch_count;
        }
        score += branches;
        eval->item_count_max =
            eval->item_counts[pack] > eval->item_count_max ? eval->item_counts[pack] : eval->item_count_max;
        eval->branch_count_max = branches > eval->branch_count_max ? branches : eval->branch_count_max;
    }
    eval->first_scores[eval->pack_count] = score;
    free(row_counts);
    return status;
}

static enum rmj_status finish_open(struct rmj_eval *eval, const char *model_directory, struct rmj_error *err)
{
    eval->model_directory = strdup(model_directory);
    RMJ_ASSERT(eval->model_directory != NULL);
    // Padding rows are masked, so any row of the embedding does where the model has no pad token of its own.
    eval->pad_token = eval->work.renderer.vocabulary_grows ? eval->work.renderer.eos : eval->work.renderer.pad;
    eval->config = eval->work.config;
    return pack_units(eval, err);
}

enum rmj_status rmj_eval_open(struct rmj_eval **out, const Rmjob__V1__JobSpec *spec, const char *model_directory,
                              struct rmj_error *err)
{
    *out = NULL;
    struct rmj_eval *eval = calloc(1, sizeof *eval);
    RMJ_ASSERT(eval != NULL);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_eval_work_open(&eval->work, model_directory, rmj_eval_max_length(spec), err));
    RMJ_GO(rmj_eval_work_add_spec(&eval->work, spec, err));
    RMJ_GO(finish_open(eval, model_directory, err));
    *out = eval;
    eval = NULL;
out:
    rmj_eval_close(eval);
    return status;
}

void rmj_eval_close(struct rmj_eval *eval)
{
    if (eval == NULL) {
        return;
    }
    rmj_eval_work_close(&eval->work);
    free(eval->model_directory);
    free(eval->order);
    free(eval->item_counts);
    free(eval->first_units);
    free(eval->first_scores);
    free(eval);
}

uint32_t rmj_eval_pack_count(const struct rmj_eval *eval)
{
    return eval->pack_count;
}

uint32_t rmj_eval_score_count(const struct rmj_eval *eval)
{
    return eval->first_scores[eval->pack_count];
}

uint32_t rmj_eval_truncated_count(const struct rmj_eval *eval)
{
    return eval->work.truncated_count;
}

void rmj_eval_pack_scores(const struct rmj_eval *eval, uint32_t pack, uint32_t *first, uint32_t *count)
{
    RMJ_ASSERT(pack < eval->pack_count);
    *first = eval->first_scores[pack];
    *count = eval->first_scores[pack + 1] - *first;
}

// What scoring holds: the model and one pack's memory.
struct scoring {
    struct rmj_layout *layout;
    float *weights;
    struct rmj_model *model;
    struct rmj_pack_memory memory;
};

static void scoring_deinit(struct scoring *scoring)
{
    rmj_model_destroy(scoring->model);
    free(scoring->weights);
    rmj_layout_destroy(scoring->layout);
    free(scoring->memory.tokens);
    free(scoring->memory.positions);
    free(scoring->memory.items);
    free(scoring->memory.branch_counts);
    free(scoring->memory.branch_last_rows);
}

static enum rmj_status scoring_init(struct scoring *scoring, const struct rmj_eval *eval, struct rmj_pool *pool,
                                    struct rmj_error *err)
{
    RMJ_TRY(rmj_layout_create(&scoring->layout, &eval->config, eval->config.vocabulary_size, err));
    size_t size = scoring->layout->element_count * sizeof(float);
    // 64-byte aligned as in training, so that the same kernels run.
    scoring->weights = aligned_alloc(64, (size + 63) / 64 * 64);
    scoring->memory = (struct rmj_pack_memory){
        .tokens = malloc(eval->row_count * sizeof(int32_t)),
        .positions = malloc(eval->row_count * sizeof(int32_t)),
        .items = malloc(eval->item_count_max * sizeof(struct rmj_pack_item)),
        .branch_counts = malloc(eval->branch_count_max * sizeof(uint32_t)),
        .branch_last_rows = malloc(eval->branch_count_max * sizeof(uint32_t)),
    };
    if (scoring->weights == NULL || scoring->memory.tokens == NULL || scoring->memory.positions == NULL ||
        scoring->memory.items == NULL || scoring->memory.branch_counts == NULL ||
        scoring->memory.branch_last_rows == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to score %s: %zu bytes of weights", eval->model_directory, size);
    }
    memset(scoring->weights, 0, size);
    struct rmj_weights_options weights = {
        .directory = eval->model_directory,
        .config = &eval->config,
        .layout = scoring->layout,
        .head_init = RMJ_HEAD_BASE,
    };
    RMJ_TRY(rmj_weights_load(&weights, scoring->weights, err));
    struct rmj_model_options model = {
        .config = &eval->config,
        .layout = scoring->layout,
        .weights = scoring->weights,
        .pool = pool,
        .row_count = eval->row_count,
        .item_count_max = eval->item_count_max,
        .branch_count_max = eval->branch_count_max,
    };
    return rmj_model_create(&scoring->model, &model, err);
}

static void lay_out(const struct rmj_eval *eval, uint32_t index, const struct rmj_pack_memory *memory,
                    struct rmj_pack *pack)
{
    const struct rmj_eval_work *work = &eval->work;
    rmj_pack_begin(pack, memory, eval->row_count, eval->pad_token);
    for (uint32_t i = 0; i < eval->item_counts[index]; i++) {
        uint32_t number = eval->order[eval->first_units[index] + i];
        const struct rmj_eval_unit *unit = &work->units[number];
        struct rmj_pack_source source = {
            .id = number,
            .prefix_count = unit->prefix_count,
            .branch_count = unit->branch_count,
            .branch_counts = work->branch_counts + unit->first_branch,
            .tokens = work->tokens + unit->first_token,
        };
        rmj_pack_add(pack, memory, &source);
    }
}

enum rmj_status rmj_eval_run(struct rmj_eval *eval, struct rmj_pool *pool, uint32_t rank, uint32_t world, float *scores,
                             int (*progress)(void *context, uint32_t done), void *context, struct rmj_error *err)
{
    RMJ_ASSERT(world > 0 && rank < world);
    struct scoring scoring = {0};
    enum rmj_status status = RMJ_OK;
    uint32_t done = 0;
    if (rank >= eval->pack_count) {
        return RMJ_OK;
    }
    RMJ_GO(scoring_init(&scoring, eval, pool, err));
    for (uint32_t index = rank; index < eval->pack_count; index += world) {
        struct rmj_pack pack;
        lay_out(eval, index, &scoring.memory, &pack);
        rmj_model_forward(scoring.model, &pack, scores + eval->first_scores[index]);
        done++;
        if (progress != NULL && progress(context, done) != 0) {
            status = rmj_fail(err, RMJ_CANCELLED, "evaluation was cancelled after %u packs", done);
            goto out;
        }
    }
out:
    scoring_deinit(&scoring);
    return status;
}

// Where each branch, in the order of rows and completions, finds its score.
static uint32_t *places_of_branches(const struct rmj_eval *eval)
{
    const struct rmj_eval_work *work = &eval->work;
    uint32_t *places = malloc((work->branch_total + 1) * sizeof *places);
    RMJ_ASSERT(places != NULL);
    uint32_t score = 0;
    for (uint32_t i = 0; i < work->unit_count; i++) {
        const struct rmj_eval_unit *unit = &work->units[eval->order[i]];
        for (uint32_t branch = 0; branch < unit->branch_count; branch++) {
            places[unit->first_branch + branch] = score++;
        }
    }
    return places;
}

Rmjob__V1__ScoredRows *rmj_eval_rows(const struct rmj_eval *eval, const float *scores)
{
    const struct rmj_benchmark *benchmark = &eval->work.benchmark;
    Rmjob__V1__ScoredRows *message = malloc(sizeof *message);
    RMJ_ASSERT(message != NULL);
    rmjob__v1__scored_rows__init(message);
    uint32_t *places = places_of_branches(eval), branch = 0;
    message->n_rows = benchmark->count;
    message->rows = calloc(benchmark->count + 1, sizeof *message->rows);
    RMJ_ASSERT(message->rows != NULL);
    for (size_t i = 0; i < benchmark->count; i++) {
        const struct rmj_benchmark_row *row = &benchmark->rows[i];
        Rmjob__V1__ScoredRow *scored = malloc(sizeof *scored);
        RMJ_ASSERT(scored != NULL);
        rmjob__v1__scored_row__init(scored);
        scored->id = strdup(row->id);
        scored->subset = strdup(row->subset);
        scored->has_num_correct = 1;
        scored->num_correct = row->correct_count;
        scored->n_scores = row->completion_count;
        scored->scores = malloc(row->completion_count * sizeof *scored->scores);
        RMJ_ASSERT(scored->scores != NULL);
        for (uint32_t j = 0; j < row->completion_count; j++) {
            scored->scores[j] = scores[places[branch++]];
        }
        message->rows[i] = scored;
    }
    message->n_heldout = eval->work.branch_total - branch;
    message->heldout = malloc((message->n_heldout + 1) * sizeof *message->heldout);
    RMJ_ASSERT(message->heldout != NULL);
    for (size_t i = 0; i < message->n_heldout; i++) {
        message->heldout[i] = scores[places[branch++]];
    }
    free(places);
    return message;
}

enum rmj_status rmj_eval_score_inputs(const char *model_directory, const struct rmj_eval_input *inputs, size_t count,
                                      struct rmj_pool *pool, float *scores, struct rmj_error *err)
{
    struct rmj_eval *eval = calloc(1, sizeof *eval);
    float *in_order = malloc((count + 1) * sizeof *in_order);
    uint32_t *places = NULL;
    RMJ_ASSERT(eval != NULL && in_order != NULL);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_eval_work_open(&eval->work, model_directory, RMJ_EVAL_LENGTH_LEAST, err));
    for (size_t i = 0; i < count; i++) {
        RMJ_GO(rmj_eval_work_add_input(&eval->work, &inputs[i], err));
    }
    RMJ_GO(finish_open(eval, model_directory, err));
    RMJ_GO(rmj_eval_run(eval, pool, 0, 1, in_order, NULL, NULL, err));
    places = places_of_branches(eval);
    for (size_t i = 0; i < count; i++) {
        scores[i] = in_order[places[i]];
    }
out:
    free(places);
    free(in_order);
    rmj_eval_close(eval);
    return status;
}
