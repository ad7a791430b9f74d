#include "trainer/data/examples.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/data/lines.h"

#define BATCH_ROWS 256u
// A batch is closed early when its lines reach this.
#define BATCH_BYTES ((size_t)16 << 20)
// A slot keeps its room for the next batch up to this: a few long rows must not leave all slots long.
#define SLOT_BYTES_KEPT (BATCH_BYTES / BATCH_ROWS)

struct worker {
    struct rmj_row row;
    struct rmj_buf chosen_answer, rejected_answer;
    struct rmj_render_memory memory;
};

struct side {
    struct rmj_tokens tokens;
    uint32_t special_count;
    int empty;
    struct rmj_sketch sketch; // of a rejected side, with the chosen one
};

struct slot {
    struct rmj_buf line;
    int ended;
    struct side chosen;
    struct side *rejected; // [rejected_room]
    uint32_t rejected_room;
    struct rmj_buf prompt;
    struct rmj_example example; // what all pairs of the row share
};

struct batch {
    const struct rmj_examples_options *options;
    struct rmj_row_format format;
    struct slot slots[BATCH_ROWS];
    size_t count;
    struct worker *workers; // one a thread
};

static enum rmj_status encode_side(const struct rmj_renderer *renderer, struct worker *worker,
                                   const struct rmj_row_side *from, struct side *side, struct rmj_error *err)
{
    struct rmj_row *row = &worker->row;
    side->empty = from->empty;
    switch (row->kind) {
    case RMJ_ROW_MESSAGES:
        return rmj_renderer_encode_messages(renderer, from->messages, row->tools, row->template_kwargs, &worker->memory,
                                            &side->tokens, &side->special_count, err);
    case RMJ_ROW_IDS:
        return rmj_renderer_encode_ids(renderer, from->ids, from->id_count, &side->tokens, &side->special_count, err);
    case RMJ_ROW_TEXT:
        break;
    }
    return rmj_renderer_encode_text(renderer, rmj_buf_text(&from->text), from->text.size, &worker->memory,
                                    &side->tokens, &side->special_count, err);
}

static void make_sides(struct slot *slot, uint32_t count)
{
    if (count > slot->rejected_room) {
        slot->rejected = realloc(slot->rejected, count * sizeof *slot->rejected);
        RMJ_ASSERT(slot->rejected != NULL);
        memset(slot->rejected + slot->rejected_room, 0, (count - slot->rejected_room) * sizeof *slot->rejected);
        slot->rejected_room = count;
    }
}

// What the study looks at: the texts of a pair without what both sides share.
static void sketch_row(const struct batch *batch, struct slot *slot, struct worker *worker)
{
    const struct rmj_row *row = &worker->row;
    rmj_row_answer(row, &row->chosen, &worker->chosen_answer);
    for (uint32_t i = 0; i < row->rejected_count; i++) {
        rmj_row_answer(row, &row->rejected[i], &worker->rejected_answer);
        rmj_sketch_make(&slot->rejected[i].sketch,
                        &(struct rmj_sketch_texts){.prompt = rmj_buf_text(&row->prompt),
                                                   .prompt_size = row->prompt.size,
                                                   .chosen = rmj_buf_text(&worker->chosen_answer),
                                                   .chosen_size = worker->chosen_answer.size,
                                                   .rejected = rmj_buf_text(&worker->rejected_answer),
                                                   .rejected_size = worker->rejected_answer.size,
                                                   .study = batch->options->study});
    }
}

static enum rmj_status encode_row(struct batch *batch, struct slot *slot, struct worker *worker)
{
    struct rmj_example *example = &slot->example;
    const struct rmj_renderer *renderer = batch->options->renderer;
    struct rmj_row *row = &worker->row;
    RMJ_TRY(rmj_row_parse(row, &batch->format, rmj_buf_text(&slot->line), slot->line.size, slot->ended, &example->err));
    make_sides(slot, row->rejected_count);
    RMJ_TRY(encode_side(renderer, worker, &row->chosen, &slot->chosen, &example->err));
    for (uint32_t i = 0; i < row->rejected_count; i++) {
        enum rmj_status status = encode_side(renderer, worker, &row->rejected[i], &slot->rejected[i], &example->err);
        if (status != RMJ_OK) {
            return row->rejected_count == 1 ? status : rmj_context(&example->err, "rejected answer %u", i + 1);
        }
    }
    example->rejected_count = row->rejected_count;
    example->margin = row->margin;
    example->has_margin = row->has_margin;
    example->has_prompt_key = rmj_prompt_key(rmj_buf_text(&row->prompt), row->prompt.size, example->prompt_key);
    if (batch->options->study != NULL) {
        sketch_row(batch, slot, worker);
    }
    if (batch->options->keep_prompts) {
        rmj_buf_clear(&slot->prompt);
        rmj_buf_append(&slot->prompt, row->prompt.bytes, row->prompt.size);
        example->prompt = &slot->prompt;
    }
    return RMJ_OK;
}

static void work(void *context, size_t index, size_t thread)
{
    struct batch *batch = context;
    struct slot *slot = &batch->slots[index];
    struct rmj_example *example = &slot->example;
    rmj_error_clear(&example->err);
    example->rejected_count = 1;
    example->status = encode_row(batch, slot, &batch->workers[thread]);
    if (example->status != RMJ_OK) {
        example->rejected_count = 1;
        (void)rmj_context(&example->err, "%s:%llu", batch->options->name, (unsigned long long)example->row);
    }
}

static enum rmj_status hand_over(struct slot *slot, rmj_example_fn each, void *context, struct rmj_error *err)
{
    for (uint32_t i = 0; i < slot->example.rejected_count; i++) {
        struct rmj_example pair = slot->example;
        pair.rejected_index = i;
        if (pair.status == RMJ_OK) {
            pair.chosen = slot->chosen.tokens;
            pair.rejected = slot->rejected[i].tokens;
            pair.sketch = slot->rejected[i].sketch;
            pair.special_count = slot->chosen.special_count + slot->rejected[i].special_count;
            pair.empty_side = slot->chosen.empty || slot->rejected[i].empty;
        }
        RMJ_TRY(each(context, &pair, err));
    }
    return RMJ_OK;
}

static void slot_release(struct slot *slot)
{
    rmj_buf_deinit(&slot->line);
    rmj_buf_deinit(&slot->prompt);
    rmj_tokens_deinit(&slot->chosen.tokens);
    for (uint32_t j = 0; j < slot->rejected_room; j++) {
        rmj_tokens_deinit(&slot->rejected[j].tokens);
    }
    free(slot->rejected);
}

static void slot_init(struct slot *slot)
{
    memset(slot, 0, sizeof *slot);
    rmj_buf_init(&slot->line, RMJ_LINE_SIZE_MAX);
    rmj_buf_init(&slot->prompt, 2 * RMJ_LINE_SIZE_MAX);
}

// What a row takes goes by its line's size.
static void make_line_room(struct slot *slot)
{
    if (slot->line.capacity > SLOT_BYTES_KEPT) {
        slot_release(slot);
        slot_init(slot);
    }
    rmj_buf_clear(&slot->line);
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
        int ended;
        RMJ_TRY(rmj_lines_next(lines, &line, &size, &ended, err));
        if (line == NULL) {
            *at_end = 1;
            return RMJ_OK;
        }
        if (rmj_lines_row(lines) <= batch->options->skip_rows) {
            continue;
        }
        make_line_room(slot);
        slot->ended = ended;
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
    batch->format = options->format;
    batch->format.model_has_template = options->renderer->template_origin != RMJ_TEMPLATE_DEFAULT;
    batch->workers = calloc(threads, sizeof *batch->workers);
    RMJ_ASSERT(batch->workers != NULL);
    for (size_t i = 0; i < threads; i++) {
        rmj_row_init(&batch->workers[i].row);
        rmj_buf_init(&batch->workers[i].chosen_answer, 2 * RMJ_LINE_SIZE_MAX);
        rmj_buf_init(&batch->workers[i].rejected_answer, 2 * RMJ_LINE_SIZE_MAX);
        rmj_render_memory_init(&batch->workers[i].memory);
    }
    for (size_t i = 0; i < BATCH_ROWS; i++) {
        slot_init(&batch->slots[i]);
    }
    return batch;
}

static void batch_destroy(struct batch *batch)
{
    for (size_t i = 0; i < rmj_pool_thread_count(batch->options->pool); i++) {
        rmj_row_deinit(&batch->workers[i].row);
        rmj_buf_deinit(&batch->workers[i].chosen_answer);
        rmj_buf_deinit(&batch->workers[i].rejected_answer);
        rmj_render_memory_deinit(&batch->workers[i].memory);
    }
    for (size_t i = 0; i < BATCH_ROWS; i++) {
        slot_release(&batch->slots[i]);
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
            RMJ_GO(hand_over(&batch->slots[i], each, context, err));
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
