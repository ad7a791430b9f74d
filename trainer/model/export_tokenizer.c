#include "trainer/model/export_tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/model/json_file.h"

#define COPY_SIZE_MAX ((size_t)256 << 20)

// Names for an added pad token that the options do not name, the first that the vocabulary does not hold.
static const char *const pad_names[] = {"<|rmjob_pad|>", "<|pad|>", "<pad>", "[PAD]"};

static const char *tokenizer_directory(const struct rmj_export_options *o)
{
    return o->tokenizer_directory != NULL ? o->tokenizer_directory : o->base_directory;
}

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
    // Unigram: [[text, score], ...]
    return id < 0 ? NULL : json_string_value(json_array_get(json_array_get(vocabulary, (size_t)id), 0));
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

// text: NULL for the first name that is free.
static enum rmj_status add_pad_token(json_t *tokenizer, int32_t id, const char *text, struct rmj_error *err)
{
    json_t *added = json_object_get(tokenizer, "added_tokens");
    if (added == NULL) {
        added = json_array();
        json_object_set_new(tokenizer, "added_tokens", added);
    }
    for (size_t i = 0; i < RMJ_COUNT(pad_names) && text == NULL; i++) {
        text = has_token(tokenizer, pad_names[i]) ? NULL : pad_names[i];
    }
    if (text == NULL) {
        return rmj_fail(err, RMJ_DATA, "the tokenizer holds every name known for an added pad token (%s, ...)",
                        pad_names[0]);
    }
    json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", text, "single_word", 0,
                                           "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    return RMJ_OK;
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

// Numbers that were read as reals because one integer of the file was too big for any (a model_max_length of 1e30).
static void restore_integers(json_t *value)
{
    size_t i;
    const char *key;
    json_t *inner;
    void *next;
    json_array_foreach(value, i, inner)
    {
        double number = json_real_value(inner);
        if (json_is_real(inner) && number < 0x1p53 && number > -0x1p53 && number == (double)(json_int_t)number) {
            json_array_set_new(value, i, json_integer((json_int_t)number));
        } else {
            restore_integers(inner);
        }
    }
    json_object_foreach_safe(value, next, key, inner)
    {
        double number = json_real_value(inner);
        if (json_is_real(inner) && number < 0x1p53 && number > -0x1p53 && number == (double)(json_int_t)number) {
            json_object_set_new(value, key, json_integer((json_int_t)number));
        } else {
            restore_integers(inner);
        }
    }
}

// directory/name when it is there, an empty object otherwise.
static enum rmj_status read_or_empty(const char *directory, const char *name, json_t **root, struct rmj_error *err)
{
    struct rmj_buf text;
    char *path = rmj_fs_join(directory, name);
    json_error_t where;
    enum rmj_status status = RMJ_OK;
    *root = NULL;
    rmj_buf_init(&text, COPY_SIZE_MAX);
    if (!rmj_fs_exists(path)) {
        *root = json_object();
        goto out;
    }
    RMJ_GO(rmj_fs_read(path, &text, err));
    *root = json_loadb(rmj_buf_text(&text), text.size, JSON_ALLOW_NUL, &where);
    if (*root == NULL && json_error_code(&where) == json_error_numeric_overflow) {
        *root = json_loadb(rmj_buf_text(&text), text.size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &where);
        restore_integers(*root);
    }
    if (!json_is_object(*root)) {
        status = rmj_fail(err, RMJ_DATA, "%s: not a JSON object", path);
        json_decref(*root);
        *root = NULL;
    }
out:
    rmj_buf_deinit(&text);
    free(path);
    return status;
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
    RMJ_TRY(read_or_empty(tokenizer_directory(o), name, &root, err));
    int is_config = strcmp(name, "tokenizer_config.json") == 0;
    if (is_config && json_object_get(root, "tokenizer_class") == NULL) {
        json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
        json_object_set_new(root, "clean_up_tokenization_spaces", json_false());
    }
    int named = o->tokenizer_directory != NULL;
    // Null says that there is none, whatever config.json has.
    if (json_object_get(root, "bos_token") == NULL) {
        set_token(root, "bos_token", token_text(tokenizer, named ? o->bos_token : o->config->bos_token), 0);
    }
    set_token(root, "eos_token", token_text(tokenizer, named ? o->eos_token : o->config->eos_token), 0);
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
    char *own = rmj_fs_join(tokenizer_directory(o), name), *path = rmj_fs_join(directory, name);
    enum rmj_status status = RMJ_OK;
    if (o->chat_template != NULL) {
        status = rmj_fs_write(path, o->chat_template, strlen(o->chat_template), 0644, err);
    } else if (rmj_fs_exists(own)) {
        status = copy_file(tokenizer_directory(o), directory, name, err);
    }
    free(own);
    free(path);
    return status;
}

enum rmj_status rmj_export_tokenizer(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    json_t *tokenizer;
    RMJ_TRY(rmj_json_file_read(tokenizer_directory(o), "tokenizer.json", &tokenizer, err));
    // Where the embedding has rows that no token uses, the added token takes the first of them and nothing grows.
    if (o->vocabulary_grows || token_text(tokenizer, o->pad_token) == NULL) {
        RMJ_GO(add_pad_token(tokenizer, o->pad_token, o->pad_text, err));
        RMJ_GO(rmj_json_write(directory, "tokenizer.json", tokenizer, err));
    } else {
        RMJ_GO(copy_file(tokenizer_directory(o), directory, "tokenizer.json", err));
    }
    RMJ_GO(write_special_tokens(o, directory, "tokenizer_config.json", tokenizer, err));
    RMJ_GO(write_special_tokens(o, directory, "special_tokens_map.json", tokenizer, err));
    RMJ_GO(write_template(o, directory, err));
out:
    json_decref(tokenizer);
    return status;
}
