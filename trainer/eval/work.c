#include "trainer/eval/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "trainer/data/examples.h"
#include "trainer/data/lines.h"
#include "trainer/data/packer.h"
#include "trainer/data/sources.h"

#define TOKEN_COUNT_MAX ((size_t)1 << 31)

uint32_t rmj_eval_max_length(const Rmjob__V1__JobSpec *spec)
{
    uint32_t length = spec->data != NULL && spec->data->has_max_length ? spec->data->max_length : 0;
    return length > RMJ_EVAL_LENGTH_LEAST ? length : RMJ_EVAL_LENGTH_LEAST;
}

enum rmj_status rmj_eval_work_open(struct rmj_eval_work *work, const char *model_directory, uint32_t max_length,
                                   struct rmj_error *err)
{
    *work = (struct rmj_eval_work){.max_length = max_length};
    rmj_render_memory_init(&work->memory);
    RMJ_TRY(rmj_model_config_read(&work->config, model_directory, err));
    RMJ_TRY(rmj_tokenizer_open(&work->tokenizer, model_directory, err));
    struct rmj_renderer_options options = {
        .tokenizer = work->tokenizer, .config = &work->config, .directory = model_directory};
    RMJ_TRY(rmj_renderer_init(&work->renderer, &options, err));
    if (work->max_length > work->config.position_count_max) {
        work->max_length = work->config.position_count_max;
    }
    if (work->config.length_max > 0 && work->max_length > work->config.length_max) {
        work->max_length = work->config.length_max;
    }
    return RMJ_OK;
}

void rmj_eval_work_close(struct rmj_eval_work *work)
{
    rmj_benchmark_deinit(&work->benchmark);
    rmj_renderer_deinit(&work->renderer);
    rmj_tokenizer_close(work->tokenizer);
    for (uint32_t i = 0; i < work->sequence_room; i++) {
        rmj_tokens_deinit(&work->sequences[i]);
    }
    free(work->sequences);
    free(work->units);
    free(work->branch_counts);
    free(work->tokens);
    rmj_render_memory_deinit(&work->memory);
    *work = (struct rmj_eval_work){0};
}

static struct rmj_tokens *next_sequence(struct rmj_eval_work *work)
{
    if (work->sequence_count == work->sequence_room) {
        uint32_t room = work->sequence_room + 16;
        work->sequences = realloc(work->sequences, room * sizeof *work->sequences);
        RMJ_ASSERT(work->sequences != NULL);
        memset(work->sequences + work->sequence_room, 0, 16 * sizeof *work->sequences);
        work->sequence_room = room;
    }
    return &work->sequences[work->sequence_count++];
}

// The end of a sequence that is too long is lost, its EOS too, as in the reference harness (trainer/eval/README.md).
static void cut_at_end(struct rmj_eval_work *work, struct rmj_tokens *sequence)
{
    if (sequence->count > work->max_length) {
        sequence->count = work->max_length;
        work->truncated_count++;
    }
}

static enum rmj_status add_conversation(struct rmj_eval_work *work, json_t *messages, struct rmj_error *err)
{
    struct rmj_tokens *sequence = next_sequence(work);
    uint32_t special;
    RMJ_TRY(
        rmj_renderer_encode_messages(&work->renderer, messages, NULL, NULL, &work->memory, sequence, &special, err));
    cut_at_end(work, sequence);
    return RMJ_OK;
}

static enum rmj_status make_room(struct rmj_eval_work *work, size_t tokens, uint32_t branches, struct rmj_error *err)
{
    if (work->token_count + tokens > TOKEN_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "the evaluation has more than %zu tokens: cut the held-out set",
                        TOKEN_COUNT_MAX);
    }
    if (work->token_count + tokens > work->token_room) {
        work->token_room = work->token_count + tokens + work->token_room / 2 + 65536;
        work->tokens = realloc(work->tokens, work->token_room * sizeof *work->tokens);
    }
    if (work->branch_total + branches > work->branch_room) {
        work->branch_room = work->branch_total + branches + work->branch_room / 2 + 256;
        work->branch_counts = realloc(work->branch_counts, work->branch_room * sizeof *work->branch_counts);
    }
    if (work->unit_count == work->unit_room) {
        work->unit_room += work->unit_room / 2 + 64;
        work->units = realloc(work->units, work->unit_room * sizeof *work->units);
    }
    if (work->tokens == NULL || work->branch_counts == NULL || work->units == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for an evaluation of %zu tokens", work->token_count + tokens);
    }
    return RMJ_OK;
}

// Sequences [first, first + count) of the row as one unit.
static enum rmj_status add_unit(struct rmj_eval_work *work, uint32_t first, uint32_t count, uint32_t prefix,
                                struct rmj_error *err)
{
    size_t rows = prefix;
    for (uint32_t i = first; i < first + count; i++) {
        rows += work->sequences[i].count - prefix;
    }
    RMJ_TRY(make_room(work, rows, count, err));
    work->units[work->unit_count++] = (struct rmj_eval_unit){
        .row_count = (uint32_t)rows,
        .prefix_count = prefix,
        .first_branch = work->branch_total,
        .branch_count = count,
        .first_token = work->token_count,
    };
    memcpy(work->tokens + work->token_count, work->sequences[first].ids, prefix * sizeof(int32_t));
    work->token_count += prefix;
    for (uint32_t i = first; i < first + count; i++) {
        uint32_t rest = (uint32_t)work->sequences[i].count - prefix;
        memcpy(work->tokens + work->token_count, work->sequences[i].ids + prefix, rest * sizeof(int32_t));
        work->token_count += rest;
        work->branch_counts[work->branch_total++] = rest;
    }
    return RMJ_OK;
}

// The row's sequences as units of at most RMJ_EVAL_ROWS_CAP rows, where one sequence alone is not longer.
static enum rmj_status add_row(struct rmj_eval_work *work, struct rmj_error *err)
{
    uint32_t prefix = UINT32_MAX;
    const struct rmj_tokens *first = &work->sequences[0];
    for (uint32_t i = 0; i < work->sequence_count; i++) {
        const struct rmj_tokens *sequence = &work->sequences[i];
        uint32_t shared = i == 0 ? (uint32_t)first->count - 1
                                 : rmj_pack_common_prefix(first->ids, first->count, sequence->ids, sequence->count);
        prefix = shared < prefix ? shared : prefix;
    }
    if (work->sequence_count == 1) {
        prefix = 0;
    }
    for (uint32_t start = 0; start < work->sequence_count;) {
        uint64_t rows = work->sequences[start].count;
        uint32_t end = start + 1;
        while (end < work->sequence_count && rows + work->sequences[end].count - prefix <= RMJ_EVAL_ROWS_CAP) {
            rows += work->sequences[end++].count - prefix;
        }
        RMJ_TRY(add_unit(work, start, end - start, prefix, err));
        start = end;
    }
    work->sequence_count = 0;
    return RMJ_OK;
}

enum rmj_status rmj_eval_work_add_input(struct rmj_eval_work *work, const struct rmj_eval_input *input,
                                        struct rmj_error *err)
{
    uint32_t special;
    if (input->messages != NULL) {
        RMJ_TRY(add_conversation(work, input->messages, err));
        return add_row(work, err);
    }
    struct rmj_tokens *sequence = next_sequence(work);
    RMJ_TRY(rmj_renderer_encode_text(&work->renderer, input->text, strlen(input->text), &work->memory, sequence,
                                     &special, err));
    cut_at_end(work, sequence);
    return add_row(work, err);
}

static enum rmj_status add_benchmark_row(struct rmj_eval_work *work, const struct rmj_benchmark_row *row,
                                         struct rmj_error *err)
{
    for (uint32_t i = 0; i < row->completion_count; i++) {
        struct rmj_tokens *sequence = next_sequence(work);
        RMJ_TRY(rmj_benchmark_encode(row, i, &work->renderer, &work->memory, sequence, err));
        cut_at_end(work, sequence);
    }
    return add_row(work, err);
}

static enum rmj_status add_benchmark(struct rmj_eval_work *work, const char *path, struct rmj_error *err)
{
    RMJ_TRY(rmj_benchmark_read(&work->benchmark, path, 0, NULL, NULL, err));
    for (size_t i = 0; i < work->benchmark.count; i++) {
        enum rmj_status status = add_benchmark_row(work, &work->benchmark.rows[i], err);
        if (status != RMJ_OK) {
            return rmj_context(err, "%s", path);
        }
    }
    return RMJ_OK;
}

static enum rmj_status add_pair(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct rmj_eval_work *work = context;
    const struct rmj_tokens *sides[] = {&example->chosen, &example->rejected};
    if (example->status != RMJ_OK) {
        if (err != NULL) {
            *err = example->err;
        }
        return example->status;
    }
    for (int i = 0; i < 2; i++) {
        struct rmj_tokens *sequence = next_sequence(work);
        if (sequence->capacity < sides[i]->count) {
            sequence->ids = realloc(sequence->ids, sides[i]->count * sizeof *sequence->ids);
            RMJ_ASSERT(sequence->ids != NULL);
            sequence->capacity = sides[i]->count;
        }
        memcpy(sequence->ids, sides[i]->ids, sides[i]->count * sizeof *sequence->ids);
        sequence->count = sides[i]->count;
        cut_at_end(work, sequence);
    }
    return add_row(work, err);
}

static enum rmj_status add_heldout(struct rmj_eval_work *work, const Rmjob__V1__DataSpec *data, struct rmj_error *err)
{
    struct rmj_sources sources = {0};
    struct rmj_pool *pool = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_pool_create(&pool, 1, NULL, err));
    for (size_t i = 0; i < data->n_heldout; i++) {
        RMJ_GO(rmj_sources_add_source(&sources, data->heldout[i], "data.heldout", err));
    }
    for (size_t i = 0; i < sources.count; i++) {
        RMJ_GO(rmj_sources_fetch(&sources, i, err));
        struct rmj_examples_options options = {.path = sources.files[i].path,
                                               .name = sources.files[i].name,
                                               .format = sources.files[i].format,
                                               .renderer = &work->renderer,
                                               .pool = pool};
        RMJ_GO(rmj_examples_read(&options, add_pair, work, NULL, err));
        rmj_sources_release(&sources, i);
    }
out:
    rmj_pool_destroy(pool);
    rmj_sources_deinit(&sources);
    return status;
}

enum rmj_status rmj_eval_work_add_spec(struct rmj_eval_work *work, const Rmjob__V1__JobSpec *spec,
                                       struct rmj_error *err)
{
    if (spec->evaluate != NULL && spec->evaluate->rewardbench2 != NULL && spec->evaluate->rewardbench2[0] != '\0') {
        RMJ_TRY(add_benchmark(work, spec->evaluate->rewardbench2, err));
    }
    return spec->data == NULL || spec->data->n_heldout == 0 ? RMJ_OK : add_heldout(work, spec->data, err);
}
