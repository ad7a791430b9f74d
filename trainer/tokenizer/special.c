// Beginning, end and padding, and the chat template: from the small files that lie next to tokenizer.json.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/tokenizer/internal.h"

#define TEMPLATE_SIZE_MAX ((size_t)1 << 20)

struct special {
    const char *token_key;
    const char *id_key;
    int32_t *id;
};

// NULL in *document when the file is absent.
static enum rmj_status load_optional(const char *directory, const char *name, size_t flags, json_t **document,
                                     struct rmj_error *err)
{
    *document = NULL;
    char *path = rmj_fs_join(directory, name);
    if (path == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    enum rmj_status status = RMJ_OK;
    if (rmj_fs_exists(path)) {
        status = rmj_json_load(path, flags, document, err);
    }
    free(path);
    return status;
}

// A token named by its content: "</s>" or {"content": "</s>"}.
static enum rmj_status read_token(const struct rmj_tokenizer *tokenizer, const json_t *document, const char *file,
                                  const struct special *special, struct rmj_error *err)
{
    const json_t *value = json_object_get(document, special->token_key);
    if (*special->id >= 0 || value == NULL || json_is_null(value)) {
        return RMJ_OK;
    }
    const json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    if (!json_is_string(content)) {
        return rmj_fail(err, RMJ_DATA, "%s: %s has to be a text or an object with a \"content\"", file,
                        special->token_key);
    }
    *special->id = rmj_tokenizer_token_id(tokenizer, json_string_value(content));
    if (*special->id < 0) {
        return rmj_fail(err, RMJ_DATA, "%s: %s \"%.60s\" is not in tokenizer.json; add it there or name another", file,
                        special->token_key, json_string_value(content));
    }
    return RMJ_OK;
}

// A token named by its id, or by the first of several. Negative means none, as old Llama files have it.
static enum rmj_status read_id(const struct rmj_tokenizer *tokenizer, const json_t *document,
                               const struct special *special, struct rmj_error *err)
{
    const json_t *value = json_object_get(document, special->id_key);
    value = json_is_array(value) ? json_array_get(value, 0) : value;
    if (*special->id >= 0 || value == NULL || json_is_null(value)) {
        return RMJ_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) >= (json_int_t)rmj_tokenizer_size(tokenizer)) {
        return rmj_fail(err, RMJ_DATA, "config.json: %s has to be an id below the tokenizer's %" PRIu32,
                        special->id_key, rmj_tokenizer_size(tokenizer));
    }
    *special->id = json_integer_value(value) < 0 ? -1 : (int32_t)json_integer_value(value);
    return RMJ_OK;
}

static enum rmj_status set_template(struct rmj_tokenizer *tokenizer, const json_t *text, struct rmj_error *err)
{
    if (json_string_length(text) > TEMPLATE_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "tokenizer_config.json: chat_template is over %zu bytes", TEMPLATE_SIZE_MAX);
    }
    tokenizer->chat_template = rmj_span_copy((struct rmj_span){json_string_value(text), json_string_length(text)});
    return tokenizer->chat_template == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a chat template") : RMJ_OK;
}

// One template, or a list of named ones of which "default" counts.
static enum rmj_status read_template(struct rmj_tokenizer *tokenizer, const json_t *config, struct rmj_error *err)
{
    const json_t *value = json_object_get(config, "chat_template");
    if (value == NULL || json_is_null(value)) {
        return RMJ_OK;
    }
    if (json_is_string(value)) {
        return set_template(tokenizer, value, err);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const json_t *name = json_object_get(entry, "name");
        const json_t *text = json_object_get(entry, "template");
        if (json_is_string(name) && json_is_string(text) && strcmp(json_string_value(name), "default") == 0) {
            return set_template(tokenizer, text, err);
        }
    }
    return rmj_fail(
        err, RMJ_DATA,
        "tokenizer_config.json: chat_template has to be a text or a list with a template named \"default\"");
}

// chat_template.jinja, where newer models keep it, counts over tokenizer_config.json.
static enum rmj_status read_template_file(struct rmj_tokenizer *tokenizer, const char *directory, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, "chat_template.jinja");
    if (path == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    struct rmj_buf text;
    rmj_buf_init(&text, TEMPLATE_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    if (rmj_fs_exists(path)) {
        RMJ_GO(rmj_fs_read(path, &text, err));
        free(tokenizer->chat_template);
        tokenizer->chat_template = rmj_span_copy((struct rmj_span){rmj_buf_text(&text), text.size});
        if (tokenizer->chat_template == NULL) {
            status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a chat template");
        }
    }
out:
    rmj_buf_deinit(&text);
    free(path);
    return status;
}

enum rmj_status rmj_special_load(struct rmj_tokenizer *tokenizer, const char *directory, struct rmj_error *err)
{
    const struct special specials[] = {{"bos_token", "bos_token_id", &tokenizer->bos_id},
                                       {"eos_token", "eos_token_id", &tokenizer->eos_id},
                                       {"pad_token", "pad_token_id", &tokenizer->pad_id}};
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "config.json"};
    json_t *documents[3] = {0};
    enum rmj_status status = RMJ_OK;
    // Only config.json's numbers are read. The others may hold a model_max_length of 1e30, which no integer takes.
    for (size_t i = 0; i < 3; i++) {
        RMJ_GO(load_optional(directory, names[i], i < 2 ? JSON_DECODE_INT_AS_REAL : 0, &documents[i], err));
    }
    for (size_t i = 0; i < RMJ_COUNT(specials); i++) {
        RMJ_GO(read_token(tokenizer, documents[0], names[0], &specials[i], err));
        RMJ_GO(read_token(tokenizer, documents[1], names[1], &specials[i], err));
        RMJ_GO(read_id(tokenizer, documents[2], &specials[i], err));
    }
    RMJ_GO(read_template(tokenizer, documents[0], err));
    RMJ_GO(read_template_file(tokenizer, directory, err));
out:
    for (size_t i = 0; i < 3; i++) {
        json_decref(documents[i]);
    }
    return status;
}
