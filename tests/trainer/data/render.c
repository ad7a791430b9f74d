// Prints what training makes of conversations, for comparison with the exported template under Jinja and transformers
// (tests/peers/template_equal.py).
//
//   rmjob-test-render template                        the chat template
//   rmjob-test-render encode MODEL < messages.jsonl   a line for each list of messages: {"text": ..., "ids": [...]}
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/template.h"

static enum rmj_status encode_line(const struct rmj_renderer *renderer, const char *line, struct rmj_error *err)
{
    json_t *messages = json_loads(line, 0, NULL), *message, *ids = json_array();
    struct rmj_buf text, scratch;
    struct rmj_tokens tokens = {0};
    size_t i;
    uint32_t special;
    enum rmj_status status = RMJ_OK;
    rmj_buf_init(&text, 1 << 20);
    rmj_buf_init(&scratch, 1 << 21);
    json_array_foreach(messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        RMJ_GO(rmj_render_message(&text, i, json_string_value(json_object_get(message, "role")),
                                  json_string_value(content), json_string_length(content), err));
    }
    RMJ_GO(rmj_renderer_encode(renderer, rmj_buf_text(&text), text.size, &scratch, &tokens, &special, err));
    for (size_t j = 0; j < tokens.count; j++) {
        json_array_append_new(ids, json_integer(tokens.ids[j]));
    }
    json_t *line_out = json_pack("{s:s%,s:O}", "text", scratch.bytes, scratch.size, "ids", ids);
    char *out = json_dumps(line_out, JSON_COMPACT);
    puts(out);
    free(out);
    json_decref(line_out);
out:
    json_decref(messages);
    json_decref(ids);
    rmj_buf_deinit(&text);
    rmj_buf_deinit(&scratch);
    rmj_tokens_deinit(&tokens);
    return status;
}

static enum rmj_status encode_all(const char *model, struct rmj_error *err)
{
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_renderer renderer = {0};
    struct rmj_model_config config;
    char *line = NULL;
    size_t room = 0;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_model_config_read(&config, model, err));
    RMJ_GO(rmj_tokenizer_open(&tokenizer, model, err));
    RMJ_GO(rmj_renderer_init(&renderer, tokenizer, model, &config, err));
    while (getline(&line, &room, stdin) > 0) {
        RMJ_GO(encode_line(&renderer, line, err));
    }
out:
    free(line);
    rmj_renderer_deinit(&renderer);
    rmj_tokenizer_close(tokenizer);
    return status;
}

int main(int argc, char **argv)
{
    struct rmj_error err = {0};
    if (argc == 2 && strcmp(argv[1], "template") == 0) {
        fputs(rmj_default_chat_template(), stdout);
        return 0;
    }
    if (argc != 3 || strcmp(argv[1], "encode") != 0) {
        fputs("usage: rmjob-test-render template | encode MODEL < messages.jsonl\n", stderr);
        return 2;
    }
    if (encode_all(argv[2], &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    return 0;
}
