#include "trainer/data/examples.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/data/lines.h"

#define BATCH_ROWS 256u
// A batch is closed early when its lines reach this.
#define BATCH_BYTES ((size_t)16 << 20)

struct worker {
    struct rmj_row row;
    struct rmj_buf text, scratch;
};

struct slot {
    struct rmj_buf line;
    int ended;
    struct rmj_example example;
};

struct batch {
    const struct rmj_examples_options *options;
    struct slot slots[BATCH_ROWS];
    size_t count;
    struct worker *workers; // one a thread
};

static enum rmj_status encode_side(struct worker *worker, const struct rmj_renderer *renderer,
                                   const struct rmj_row_side *side, struct rmj_tokens *tokens, uint32_t *special,
                                   struct rmj_error *err)
{
    const struct rmj_buf *text = &side->text;
    if (worker->row.kind == RMJ_ROW_MESSAGES) {
        size_t i;
        json_t *message;
        rmj_buf_clear(&worker->text);
        json_array_foreach(side->messages, i, message)
        {
            const json_t *content = json_object_get(message, "content");
            RMJ_TRY(rmj_render_message(&worker->text, i, json_string_value(json_object_get(message, "role")),
                                       json_string_value(content), json_string_length(content), err));
        }
        text = &worker->text;
    }
    return rmj_renderer_encode(renderer, rmj_buf_text(text), text->size, &worker->scratch, tokens, special, err);
}

static enum rmj_status make_example(struct batch *batch, struct slot *slot, struct worker *worker)
{
    struct rmj_example *example = &slot->example;
    const struct rmj_renderer *renderer = batch->options->renderer;
    struct rmj_row *row = &worker->row;
    uint32_t chosen_special = 0, rejected_special = 0;
    RMJ_TRY(rmj_row_parse(row, &batch->options->format, rmj_buf_text(&slot->line), slot->line.size, slot->ended,
                          &example->err));
    RMJ_TRY(encode_side(worker, renderer, &row->chosen, &example->chosen, &chosen_special, &example->err));
    RMJ_TRY(encode_side(worker, renderer, &row->rejected[0], &example->rejected, &rejected_special, &example->err));
    example->margin = row->margin;
    example->has_margin = row->has_margin;
    example->empty_side = row->chosen.empty || row->rejected[0].empty;
    example->special_count = chosen_special + rejected_special;
    example->has_prompt_key = rmj_prompt_key(rmj_buf_text(&row->prompt), row->prompt.size, example->prompt_key);
    return RMJ_OK;
}

static void work(void *context, size_t index, size_t thread)
{
    struct batch *batch = context;
    struct slot *slot = &batch->slots[index];
    struct rmj_example *example = &slot->example;
    rmj_error_clear(&example->err);
    example->status = make_example(batch, slot, &batch->workers[thread]);
    if (example->status != RMJ_OK) {
        (void)rmj_context(&example->err, "%s:%llu", batch->options->name, (unsigned long long)example->row);
    }
}

static enum rmj_status read_batch(struct batch *batch, struct rmj_lines *lines, int *at_end, struct rmj_error *err)
{
    size_t bytes = 0;
    batch->count = 0;
    while (batch->count < BATCH_ROWS && bytes < BATCH_BYTES) {
        if (batch->options->row_limit > 0 && rmj_lines_row(lines) >= batch->options->row_limit) {
            *at_end = 1;
            return RMJ_OK;
        }
        struct slot *slot = &batch->slots[batch->count];
        const char *line;
        size_t size;
        RMJ_TRY(rmj_lines_next(lines, &line, &size, &slot->ended, err));
        if (line == NULL) {
            *at_end = 1;
            return RMJ_OK;
        }
        if (rmj_lines_row(lines) <= batch->options->skip_rows) {
            continue;
        }
        rmj_buf_clear(&slot->line);
        rmj_buf_append(&slot->line, line, size);
        RMJ_TRY(rmj_buf_check(&slot->line, err));
        slot->example.row = rmj_lines_row(lines);
        batch->count++;
        bytes += size;
    }
    return RMJ_OK;
}

static struct batch *batch_create(const struct rmj_examples_options *options)
{
    struct batch *batch = calloc(1, sizeof *batch);
    size_t threads = rmj_pool_thread_count(options->pool);
    RMJ_ASSERT(batch != NULL);
    batch->options = options;
    batch->workers = calloc(threads, sizeof *batch->workers);
    RMJ_ASSERT(batch->workers != NULL);
    for (size_t i = 0; i < threads; i++) {
        rmj_row_init(&batch->workers[i].row);
        rmj_buf_init(&batch->workers[i].text, 3 * RMJ_LINE_SIZE_MAX);
        rmj_buf_init(&batch->workers[i].scratch, 3 * RMJ_LINE_SIZE_MAX);
    }
    for (size_t i = 0; i < BATCH_ROWS; i++) {
        rmj_buf_init(&batch->slots[i].line, RMJ_LINE_SIZE_MAX);
    }
    return batch;
}

static void batch_destroy(struct batch *batch)
{
    for (size_t i = 0; i < rmj_pool_thread_count(batch->options->pool); i++) {
        rmj_row_deinit(&batch->workers[i].row);
        rmj_buf_deinit(&batch->workers[i].text);
        rmj_buf_deinit(&batch->workers[i].scratch);
    }
    for (size_t i = 0; i < BATCH_ROWS; i++) {
        rmj_buf_deinit(&batch->slots[i].line);
        rmj_tokens_deinit(&batch->slots[i].example.chosen);
        rmj_tokens_deinit(&batch->slots[i].example.rejected);
    }
    free(batch->workers);
    free(batch);
}

enum rmj_status rmj_examples_read(const struct rmj_examples_options *options, rmj_example_fn each, void *context,
                                  struct rmj_digest *digest, struct rmj_error *err)
{
    struct rmj_lines *lines = NULL;
    RMJ_TRY(rmj_lines_open(&lines, options->path, options->name, err));
    struct batch *batch = batch_create(options);
    enum rmj_status status = RMJ_OK;
    int at_end = 0;
    while (!at_end) {
        // Rows before a break in the stream are handed over first.
        struct rmj_error stream_err = {0};
        enum rmj_status stream = read_batch(batch, lines, &at_end, &stream_err);
        rmj_pool_run(options->pool, batch->count, work, batch);
        for (size_t i = 0; i < batch->count; i++) {
            RMJ_GO(each(context, &batch->slots[i].example, err));
        }
        if (stream != RMJ_OK) {
            status = stream;
            if (err != NULL) {
                *err = stream_err;
            }
            goto out;
        }
    }
    if (rmj_lines_row(lines) == 0) {
        status = rmj_fail(err, RMJ_DATA, "%s: the file is empty: write one pair a line", options->name);
        goto out;
    }
    if (digest != NULL) {
        RMJ_ASSERT(options->row_limit == 0);
        rmj_lines_digest(lines, digest);
    }
out:
    batch_destroy(batch);
    rmj_lines_close(lines);
    return status;
}
