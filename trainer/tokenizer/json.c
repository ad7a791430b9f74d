// Reading JSON with messages that name the part.
#include "trainer/tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum rmj_status rmj_json_text(const json_t *object, const char *where, const char *key, struct rmj_span *text,
                              struct rmj_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" is %s; it has to be a text", where, key,
                        value == NULL ? "missing" : "not a text");
    }
    *text = (struct rmj_span){json_string_value(value), json_string_length(value)};
    return RMJ_OK;
}

enum rmj_status rmj_json_bool(const json_t *object, const char *where, const char *key, bool fallback, bool *value,
                              struct rmj_error *err)
{
    const json_t *found = json_object_get(object, key);
    if (found == NULL || json_is_null(found)) {
        *value = fallback;
        return RMJ_OK;
    }
    if (!json_is_boolean(found)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" has to be true or false", where, key);
    }
    *value = json_is_true(found);
    return RMJ_OK;
}

enum rmj_status rmj_json_count(const json_t *object, const char *where, const char *key, uint64_t max, uint64_t *value,
                               struct rmj_error *err)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_integer(found) || json_integer_value(found) < 0 || (uint64_t)json_integer_value(found) > max) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" has to be a whole number from 0 to %llu", where, key,
                        (unsigned long long)max);
    }
    *value = (uint64_t)json_integer_value(found);
    return RMJ_OK;
}

char *rmj_span_copy(struct rmj_span span)
{
    char *copy = malloc(span.size + 1);
    if (copy != NULL) {
        memcpy(copy, span.text, span.size);
        copy[span.size] = '\0';
    }
    return copy;
}

enum rmj_status rmj_json_chain(struct rmj_tokenizer *tokenizer, const json_t *value, const char *where,
                               const char *list_key, rmj_part_fn each, struct rmj_error *err)
{
    if (value == NULL || json_is_null(value)) {
        return RMJ_OK;
    }
    const json_t *type = json_object_get(value, "type");
    if (!json_is_string(type)) {
        return rmj_fail(err, RMJ_DATA, "%s has no type; it has to be an object with a \"type\"", where);
    }
    if (strcmp(json_string_value(type), "Sequence") != 0) {
        return each(tokenizer, value, json_string_value(type), err);
    }
    const json_t *list = json_object_get(value, list_key);
    if (!json_is_array(list)) {
        return rmj_fail(err, RMJ_DATA, "%s Sequence: \"%s\" has to be a list", where, list_key);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        RMJ_TRY(rmj_json_chain(tokenizer, json_array_get(list, i), where, list_key, each, err));
    }
    return RMJ_OK;
}

enum rmj_status rmj_tokenizer_json_parse(struct rmj_span bytes, size_t flags, const char *path, json_t **document,
                                         struct rmj_error *err)
{
    json_error_t cause;
    *document = json_loadb(bytes.text, bytes.size, flags | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &cause);
    if (*document == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s:%d:%d: not valid JSON: %s; fetch the file again", path, cause.line,
                        cause.column, cause.text);
    }
    if (!json_is_object(*document)) {
        json_decref(*document);
        *document = NULL;
        return rmj_fail(err, RMJ_DATA, "%s: has to be a JSON object; fetch the file again", path);
    }
    return RMJ_OK;
}

enum rmj_status rmj_json_load(const char *path, size_t flags, json_t **document, struct rmj_error *err)
{
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, RMJ_TOKENIZER_FILE_SIZE_MAX);
    enum rmj_status status = rmj_fs_read(path, &bytes, err);
    if (status == RMJ_OK) {
        status =
            rmj_tokenizer_json_parse((struct rmj_span){rmj_buf_text(&bytes), bytes.size}, flags, path, document, err);
    }
    rmj_buf_deinit(&bytes);
    return status;
}
