#include "trainer/model/export_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/model/json_file.h"

#define COPY_SIZE_MAX ((size_t)256 << 20)

// Names for an added pad token, the first that the vocabulary does not hold.
static const char *const pad_names[] = {"<|rmjob_pad|>", "<|pad|>", "<pad>", "[PAD]"};

// Text of a token id, NULL when the tokenizer has none.
static const char *token_text(const json_t *tokenizer, int32_t id)
{
    const json_t *added = json_object_get(tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i);
        if (json_integer_value(json_object_get(entry, "id")) == id) {
            return json_string_value(json_object_get(entry, "content"));
        }
    }
    json_t *vocabulary = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    const char *text;
    json_t *value;
    json_object_foreach(vocabulary, text, value)
    {
        if (json_integer_value(value) == id) {
            return text;
        }
    }
    return NULL;
}

static int has_token(const json_t *tokenizer, const char *text)
{
    const json_t *added = json_object_get(tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const char *content = json_string_value(json_object_get(json_array_get(added, i), "content"));
        if (content != NULL && strcmp(content, text) == 0) {
            return 1;
        }
    }
    return json_object_get(json_object_get(json_object_get(tokenizer, "model"), "vocab"), text) != NULL;
}

static enum rmj_status add_pad_token(json_t *tokenizer, int32_t id, struct rmj_error *err)
{
    json_t *added = json_object_get(tokenizer, "added_tokens");
    if (added == NULL) {
        added = json_array();
        json_object_set_new(tokenizer, "added_tokens", added);
    }
    for (size_t i = 0; i < RMJ_COUNT(pad_names); i++) {
        if (!has_token(tokenizer, pad_names[i])) {
            json_array_append_new(added,
                                  json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", pad_names[i],
                                            "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
            return RMJ_OK;
        }
    }
    return rmj_fail(err, RMJ_DATA, "the tokenizer holds every name known for an added pad token (%s, ...)",
                    pad_names[0]);
}

static enum rmj_status copy_file(const char *from, const char *to, const char *name, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, COPY_SIZE_MAX);
    char *source = rmj_fs_join(from, name), *target = rmj_fs_join(to, name);
    RMJ_GO(rmj_fs_read(source, &bytes, err));
    RMJ_GO(rmj_fs_write(target, rmj_buf_text(&bytes), bytes.size, 0644, err));
out:
    rmj_buf_deinit(&bytes);
    free(source);
    free(target);
    return status;
}

// directory/name when it is there, an empty object otherwise.
static enum rmj_status read_or_empty(const char *directory, const char *name, json_t **root, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, name);
    int there = path != NULL && rmj_fs_exists(path);
    free(path);
    if (there) {
        return rmj_json_file_read(directory, name, root, err);
    }
    *root = json_object();
    return RMJ_OK;
}

// A key that the base model's file sets stays as it is there, unless it must be ours.
static void set_token(json_t *object, const char *key, const char *text, int overwrite)
{
    const json_t *own = json_object_get(object, key);
    if (text != NULL && (overwrite || own == NULL || json_is_null(own))) {
        json_object_set_new(object, key, json_string(text));
    }
}

static enum rmj_status write_special_tokens(const struct rmj_export_options *o, const char *directory, const char *name,
                                            const json_t *tokenizer, struct rmj_error *err)
{
    json_t *root;
    RMJ_TRY(read_or_empty(o->base_directory, name, &root, err));
    int is_config = strcmp(name, "tokenizer_config.json") == 0;
    if (is_config && json_object_get(root, "tokenizer_class") == NULL) {
        json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
        json_object_set_new(root, "clean_up_tokenization_spaces", json_false());
    }
    set_token(root, "bos_token", token_text(tokenizer, o->config->bos_token), 0);
    set_token(root, "eos_token", token_text(tokenizer, o->config->eos_token), 0);
    set_token(root, "pad_token", token_text(tokenizer, o->pad_token), 1);
    json_t *decoder = json_object_get(root, "added_tokens_decoder");
    char id[16];
    snprintf(id, sizeof id, "%d", o->pad_token);
    if (is_config && decoder != NULL && json_object_get(decoder, id) == NULL) {
        json_object_set_new(decoder, id,
                            json_pack("{s:s,s:b,s:b,s:b,s:b,s:b}", "content", token_text(tokenizer, o->pad_token),
                                      "lstrip", 0, "normalized", 0, "rstrip", 0, "single_word", 0, "special", 1));
    }
    if (is_config && o->chat_template != NULL) {
        json_object_set_new(root, "chat_template", json_string(o->chat_template));
    }
    enum rmj_status status = rmj_json_write(directory, name, root, err);
    json_decref(root);
    return status;
}

static enum rmj_status write_template(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    static const char name[] = "chat_template.jinja";
    char *own = rmj_fs_join(o->base_directory, name), *path = rmj_fs_join(directory, name);
    enum rmj_status status = RMJ_OK;
    if (o->chat_template != NULL) {
        status = rmj_fs_write(path, o->chat_template, strlen(o->chat_template), 0644, err);
    } else if (rmj_fs_exists(own)) {
        status = copy_file(o->base_directory, directory, name, err);
    }
    free(own);
    free(path);
    return status;
}

enum rmj_status rmj_export_tokenizer(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    json_t *tokenizer;
    RMJ_TRY(rmj_json_file_read(o->base_directory, "tokenizer.json", &tokenizer, err));
    // Where the embedding has rows that no token uses, the added token takes the first of them and nothing grows.
    if (o->vocabulary_grows || token_text(tokenizer, o->pad_token) == NULL) {
        RMJ_GO(add_pad_token(tokenizer, o->pad_token, err));
        RMJ_GO(rmj_json_write(directory, "tokenizer.json", tokenizer, err));
    } else {
        RMJ_GO(copy_file(o->base_directory, directory, "tokenizer.json", err));
    }
    RMJ_GO(write_special_tokens(o, directory, "tokenizer_config.json", tokenizer, err));
    RMJ_GO(write_special_tokens(o, directory, "special_tokens_map.json", tokenizer, err));
    RMJ_GO(write_template(o, directory, err));
out:
    json_decref(tokenizer);
    return status;
}
