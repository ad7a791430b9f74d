// Prints what training makes of conversations, texts and files, for comparison with the field's own code (tests/peers).
//
//   rmjob-test-render template                            the default chat template
//   rmjob-test-render encode MODEL [options] < lines      a line for each: {"text": ..., "ids": [...]} or {"error":
//   ...} rmjob-test-render rows MODEL FILE [options]           a line for each pair: {"row", "rejected", "chosen_ids",
//                                                         "rejected_ids"} or {"row", "error"}
//   rmjob-test-render export MODEL OUT [options]          writes the tokenizer's files of an export into OUT (which is
//                                                         there); prints {"template", "pad_token", "pad_id", "grows"}
//
// A line of `encode` is a list of messages, {"messages", "tools", "kwargs"} or {"text"}. Options: --template FILE,
// --tokenizer DIRECTORY, --date YYYY-MM-DD.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/examples.h"
#include "trainer/data/rendering.h"
#include "trainer/model/export_tokenizer.h"

struct opened {
    struct rmj_model_config config;
    struct rmj_rendering rendering;
};

static void print(json_t *line)
{
    char *out = json_dumps(line, JSON_COMPACT);
    RMJ_ASSERT(out != NULL);
    puts(out);
    free(out);
    json_decref(line);
}

static json_t *ids_of(const struct rmj_tokens *tokens)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < tokens->count; i++) {
        json_array_append_new(ids, json_integer(tokens->ids[i]));
    }
    return ids;
}

static void encode_line(const struct rmj_renderer *renderer, const char *line)
{
    json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL);
    json_t *messages = json_is_array(root) ? root : json_object_get(root, "messages");
    json_t *text = json_object_get(root, "text");
    struct rmj_render_memory memory;
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    uint32_t special;
    rmj_render_memory_init(&memory);
    enum rmj_status status =
        text != NULL ? rmj_renderer_encode_text(renderer, json_string_value(text), json_string_length(text), &memory,
                                                &tokens, &special, &err)
                     : rmj_renderer_encode_messages(renderer, messages, json_object_get(root, "tools"),
                                                    json_object_get(root, "kwargs"), &memory, &tokens, &special, &err);
    print(status == RMJ_OK
              ? json_pack("{s:s%,s:o}", "text", rmj_buf_text(&memory.text), memory.text.size, "ids", ids_of(&tokens))
              : json_pack("{s:s}", "error", err.message));
    rmj_render_memory_deinit(&memory);
    rmj_tokens_deinit(&tokens);
    json_decref(root);
}

static void encode_all(const struct rmj_renderer *renderer)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        encode_line(renderer, line);
    }
    free(line);
}

static enum rmj_status print_pair(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    (void)context;
    (void)err;
    json_int_t row = (json_int_t)example->row, rejected = (json_int_t)example->rejected_index;
    print(example->status == RMJ_OK ? json_pack("{s:I,s:I,s:o,s:o}", "row", row, "rejected", rejected, "chosen_ids",
                                                ids_of(&example->chosen), "rejected_ids", ids_of(&example->rejected))
                                    : json_pack("{s:I,s:s}", "row", row, "error", example->err.message));
    return RMJ_OK;
}

static enum rmj_status rows(const struct rmj_renderer *renderer, const char *path, struct rmj_error *err)
{
    struct rmj_pool *pool;
    RMJ_TRY(rmj_pool_create(&pool, 1, NULL, err));
    struct rmj_examples_options options = {.path = path, .name = path, .renderer = renderer, .pool = pool};
    enum rmj_status status = rmj_examples_read(&options, print_pair, NULL, NULL, err);
    rmj_pool_destroy(pool);
    return status;
}

static enum rmj_status export(const struct opened *opened, const char *model, const char *out, struct rmj_error *err) {
    const struct rmj_renderer *renderer = &opened->rendering.renderer;
    struct rmj_export_options options =
        {
            .base_directory = model,
            .tokenizer_directory = opened->rendering.directory,
            .directory = out,
            .config = &opened->config,
            .bos_token = renderer->bos,
            .eos_token = renderer->eos,
            .pad_token = renderer->pad,
            .pad_text = renderer->pad_text,
            .vocabulary_grows = renderer->vocabulary_grows,
            .chat_template = rmj_renderer_template(renderer),
        };
    RMJ_TRY(rmj_export_tokenizer(&options, out, err));
    print(json_pack("{s:s,s:s,s:i,s:i}", "template", rmj_renderer_template(renderer), "pad_token", renderer->pad_text,
                    "pad_id", renderer->pad, "grows", renderer->vocabulary_grows));
    return RMJ_OK;
}

static int usage(void)
{
    fputs("usage: rmjob-test-render template | encode MODEL | rows MODEL FILE | export MODEL OUT [--template FILE] "
          "[--tokenizer DIRECTORY] [--date DATE]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct opened opened;
    struct rmj_error err = {0};
    Rmjob__V1__JobSpec spec = RMJOB__V1__JOB_SPEC__INIT;
    Rmjob__V1__DataSpec data = RMJOB__V1__DATA_SPEC__INIT;
    if (argc == 2 && strcmp(argv[1], "template") == 0) {
        fputs(rmj_default_chat_template(), stdout);
        return 0;
    }
    int is_rows = argc > 3 && strcmp(argv[1], "rows") == 0, is_export = argc > 3 && strcmp(argv[1], "export") == 0;
    if (argc < 3 || (!is_rows && !is_export && strcmp(argv[1], "encode") != 0)) {
        return usage();
    }
    spec.base_model = argv[2];
    spec.data = &data;
    for (int i = 3 + (is_rows || is_export); i < argc; i += 2) {
        char **value = strcmp(argv[i], "--template") == 0    ? &data.chat_template
                       : strcmp(argv[i], "--tokenizer") == 0 ? &data.tokenizer
                       : strcmp(argv[i], "--date") == 0      ? &data.template_date
                                                             : NULL;
        if (value == NULL || i + 1 == argc) {
            return usage();
        }
        *value = argv[i + 1];
    }
    const char *field = "base_model";
    if (rmj_model_config_read(&opened.config, argv[2], &err) != RMJ_OK ||
        rmj_rendering_open(&opened.rendering, &spec, &opened.config, &field, &err) != RMJ_OK) {
        fprintf(stderr, "%s: %s\n", field, err.message);
        return 1;
    }
    const struct rmj_renderer *renderer = &opened.rendering.renderer;
    int failed = 0;
    if (is_rows) {
        failed = rows(renderer, argv[3], &err) != RMJ_OK;
    } else if (is_export) {
        failed = export(&opened, argv[2], argv[3], &err) != RMJ_OK;
    } else {
        encode_all(renderer);
    }
    rmj_rendering_close(&opened.rendering);
    if (failed) {
        fprintf(stderr, "%s\n", err.message);
    }
    return failed;
}
