#include "trainer/data/rows.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/text.h"
#include "storage/digest.h"
#include "trainer/data/lines.h"
#include "trainer/data/template.h"

static const char assistant_turn[] = "\n\nAssistant:";

// Columns that would change what is trained on if they were left aside.
static const char *const refused_columns[] = {
    "tools", "images", "chosen_ids", "rejected_ids", "chosen_input_ids", "rejected_input_ids", "chat_template_kwargs"};

void rmj_row_init(struct rmj_row *row)
{
    *row = (struct rmj_row){0};
    rmj_buf_init(&row->chosen, 2 * RMJ_LINE_SIZE_MAX);
    rmj_buf_init(&row->rejected, 2 * RMJ_LINE_SIZE_MAX);
    rmj_buf_init(&row->prompt, 2 * RMJ_LINE_SIZE_MAX);
}

void rmj_row_deinit(struct rmj_row *row)
{
    rmj_buf_deinit(&row->chosen);
    rmj_buf_deinit(&row->rejected);
    rmj_buf_deinit(&row->prompt);
}

static const char *type_name(const json_t *value)
{
    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

static enum rmj_status refuse_json(const json_error_t *error, int ended, struct rmj_error *err)
{
    if (json_error_code(error) == json_error_null_character) {
        return rmj_fail(err, RMJ_DATA, "a text holds a NUL character (\\u0000): remove it");
    }
    if (!ended) {
        return rmj_fail(err, RMJ_DATA, "the last line is cut off: the file was not written whole");
    }
    return rmj_fail(err, RMJ_DATA, "column %d: not JSON: %s", error->column, error->text);
}

enum rmj_status rmj_row_json(json_t **object, const char *line, size_t size, int ended, struct rmj_error *err)
{
    *object = NULL;
    size_t valid = rmj_text_utf8_valid(line, size);
    if (valid < size) {
        return rmj_fail(err, RMJ_DATA, "byte %zu (0x%02x) is not UTF-8: save the file as UTF-8", valid + 1,
                        (unsigned char)line[valid]);
    }
    const char *nul = memchr(line, '\0', size);
    if (nul != NULL) {
        return rmj_fail(err, RMJ_DATA, "byte %zu is NUL: remove it", (size_t)(nul - line) + 1);
    }
    if (strspn(line, " \t\r") >= size) {
        return rmj_fail(err, RMJ_DATA, "an empty line: remove it");
    }
    if (size >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        return rmj_fail(err, RMJ_DATA, "begins with a byte order mark: save the file as UTF-8 without one");
    }
    json_error_t error;
    json_t *root = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (root == NULL) {
        return refuse_json(&error, ended, err);
    }
    if (!json_is_object(root)) {
        enum rmj_status status =
            rmj_fail(err, RMJ_DATA, "%s, not an object: write {\"chosen\": ..., \"rejected\": ...}", type_name(root));
        json_decref(root);
        return status;
    }
    *object = root;
    return RMJ_OK;
}

static enum rmj_status missing_column(const json_t *root, const char *name, struct rmj_error *err)
{
    struct rmj_buf found;
    rmj_buf_init(&found, 200);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        rmj_buf_printf(&found, "%s%.40s", found.size > 0 ? ", " : "", key);
    }
    enum rmj_status status = rmj_fail(err, RMJ_DATA, "no column '%s'; found: %s", name,
                                      found.size == 0 ? "no columns" : rmj_buf_text(&found));
    rmj_buf_deinit(&found);
    return status;
}

// Appends messages; *index counts the messages of the conversation so far.
static enum rmj_status append_messages(struct rmj_buf *out, const json_t *list, const char *column, size_t *index,
                                       struct rmj_error *err)
{
    size_t i;
    json_t *message;
    json_array_foreach(list, i, message)
    {
        const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
        if (!json_is_string(role) || !json_is_string(content)) {
            return rmj_fail(err, RMJ_DATA, "%s[%zu] is %s; a message is {\"role\": text, \"content\": text}", column, i,
                            json_is_object(message) ? "an object without role and content as texts"
                                                    : type_name(message));
        }
        const char *key;
        json_t *value;
        json_object_foreach(message, key, value)
        {
            if (value != role && value != content && !json_is_null(value)) {
                return rmj_fail(err, RMJ_DATA, "%s[%zu].%.40s: messages have role and content only", column, i, key);
            }
        }
        enum rmj_status status = rmj_render_message(out, (*index)++, json_string_value(role),
                                                    json_string_value(content), json_string_length(content), err);
        if (status != RMJ_OK) {
            return rmj_context(err, "%s[%zu]", column, i);
        }
    }
    return RMJ_OK;
}

static enum rmj_status check_columns(const json_t *root, struct rmj_error *err)
{
    for (size_t i = 0; i < RMJ_COUNT(refused_columns); i++) {
        const json_t *value = json_object_get(root, refused_columns[i]);
        if (value != NULL && !json_is_null(value)) {
            return rmj_fail(err, RMJ_DATA, "column '%s' is not supported: remove it", refused_columns[i]);
        }
    }
    const json_t *chosen = json_object_get(root, "chosen"), *rejected = json_object_get(root, "rejected");
    const json_t *prompt = json_object_get(root, "prompt");
    if (chosen == NULL || rejected == NULL) {
        return missing_column(root, chosen == NULL ? "chosen" : "rejected", err);
    }
    const char *names[] = {"chosen", "rejected", "prompt"};
    const json_t *values[] = {chosen, rejected, prompt};
    for (size_t i = 0; i < 2 + (size_t)(prompt != NULL && !json_is_null(prompt)); i++) {
        if (!json_is_string(values[i]) && !json_is_array(values[i])) {
            return rmj_fail(err, RMJ_DATA, "%s is %s; it must be text or a list of messages", names[i],
                            type_name(values[i]));
        }
        if (json_typeof(values[i]) != json_typeof(chosen)) {
            return rmj_fail(err, RMJ_DATA, "chosen is %s but %s is %s: write both alike", type_name(chosen), names[i],
                            type_name(values[i]));
        }
    }
    return RMJ_OK;
}

static enum rmj_status read_margin(struct rmj_row *row, const json_t *root, struct rmj_error *err)
{
    const json_t *margin = json_object_get(root, "margin");
    row->has_margin = 0;
    row->margin = 0;
    if (margin == NULL || json_is_null(margin)) {
        return RMJ_OK;
    }
    if (!json_is_number(margin)) {
        return rmj_fail(err, RMJ_DATA, "margin is %s; it must be a number", type_name(margin));
    }
    row->margin = (float)json_number_value(margin);
    if (!isfinite(row->margin)) {
        return rmj_fail(err, RMJ_DATA, "margin %g is too large for float32", json_number_value(margin));
    }
    row->has_margin = 1;
    return RMJ_OK;
}

static int ends_in_turn(const struct rmj_buf *text)
{
    size_t size = text->size, mark = sizeof assistant_turn - 1;
    while (size > 0 && (text->bytes[size - 1] == ' ' || text->bytes[size - 1] == '\n')) {
        size--;
    }
    return size >= mark && memcmp(text->bytes + size - mark, assistant_turn, mark) == 0;
}

// The prompt of a text without a prompt column: what stands before its last answer.
static size_t implicit_prompt_size(const struct rmj_buf *text)
{
    size_t mark = sizeof assistant_turn - 1;
    for (size_t at = text->size; at >= mark; at--) {
        if (memcmp(text->bytes + at - mark, assistant_turn, mark) == 0) {
            return at - mark;
        }
    }
    return 0;
}

static enum rmj_status read_texts(struct rmj_row *row, const json_t *prompt, const json_t *chosen,
                                  const json_t *rejected)
{
    rmj_buf_append(&row->prompt, json_string_value(prompt), json_string_length(prompt));
    rmj_buf_append(&row->chosen, row->prompt.bytes, row->prompt.size);
    rmj_buf_append(&row->chosen, json_string_value(chosen), json_string_length(chosen));
    rmj_buf_append(&row->rejected, row->prompt.bytes, row->prompt.size);
    rmj_buf_append(&row->rejected, json_string_value(rejected), json_string_length(rejected));
    row->empty_side = json_string_length(chosen) == 0 || json_string_length(rejected) == 0 ||
                      ends_in_turn(&row->chosen) || ends_in_turn(&row->rejected);
    if (row->prompt.size == 0) {
        rmj_buf_append(&row->prompt, row->chosen.bytes, implicit_prompt_size(&row->chosen));
    }
    return RMJ_OK;
}

static enum rmj_status read_conversations(struct rmj_row *row, const json_t *prompt, const json_t *chosen,
                                          const json_t *rejected, struct rmj_error *err)
{
    size_t prompt_messages = 0;
    RMJ_TRY(append_messages(&row->prompt, prompt, "prompt", &prompt_messages, err));
    size_t index = prompt_messages;
    rmj_buf_append(&row->chosen, row->prompt.bytes, row->prompt.size);
    RMJ_TRY(append_messages(&row->chosen, chosen, "chosen", &index, err));
    index = prompt_messages;
    rmj_buf_append(&row->rejected, row->prompt.bytes, row->prompt.size);
    RMJ_TRY(append_messages(&row->rejected, rejected, "rejected", &index, err));
    row->empty_side = json_array_size(chosen) == 0 || json_array_size(rejected) == 0 || ends_in_turn(&row->chosen) ||
                      ends_in_turn(&row->rejected);
    if (prompt_messages == 0) {
        rmj_buf_append(&row->prompt, row->chosen.bytes, implicit_prompt_size(&row->chosen));
    }
    return RMJ_OK;
}

enum rmj_status rmj_row_parse(struct rmj_row *row, const char *line, size_t size, int ended, struct rmj_error *err)
{
    json_t *root = NULL;
    rmj_buf_clear(&row->chosen);
    rmj_buf_clear(&row->rejected);
    rmj_buf_clear(&row->prompt);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_row_json(&root, line, size, ended, err));
    RMJ_GO(check_columns(root, err));
    RMJ_GO(read_margin(row, root, err));
    const json_t *chosen = json_object_get(root, "chosen"), *rejected = json_object_get(root, "rejected");
    const json_t *prompt = json_object_get(root, "prompt");
    int text = json_is_string(chosen);
    if (text ? json_string_length(chosen) + json_string_length(rejected) == 0
             : json_array_size(chosen) + json_array_size(rejected) == 0) {
        status = rmj_fail(err, RMJ_DATA, "chosen and rejected are both empty: remove the row");
        goto out;
    }
    RMJ_GO(text ? read_texts(row, prompt, chosen, rejected) : read_conversations(row, prompt, chosen, rejected, err));
    if (row->chosen.failed || row->rejected.failed || row->prompt.failed) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a row of %zu bytes", size);
    }
out:
    json_decref(root);
    return status;
}

static void strip(const char **text, size_t *size)
{
    while (*size > 0 && strchr(" \t\r\n", (*text)[0]) != NULL) {
        ++*text;
        --*size;
    }
    while (*size > 0 && strchr(" \t\r\n", (*text)[*size - 1]) != NULL) {
        --*size;
    }
}

int rmj_prompt_key(const char *prompt, size_t size, uint8_t key[RMJ_PROMPT_KEY_SIZE])
{
    static const char human[] = "Human:", assistant[] = "\n\nAssistant:";
    strip(&prompt, &size);
    if (size >= sizeof human - 1 && memcmp(prompt, human, sizeof human - 1) == 0) {
        prompt += sizeof human - 1;
        size -= sizeof human - 1;
    }
    if (size >= sizeof assistant - 1 &&
        memcmp(prompt + size - (sizeof assistant - 1), assistant, sizeof assistant - 1) == 0) {
        size -= sizeof assistant - 1;
    }
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)prompt, (utf8proc_ssize_t)size, &folded,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
    // Runs of white space count as one space.
    size_t count = 0;
    int space = 0;
    for (utf8proc_ssize_t i = 0; i < length; i++) {
        if (strchr(" \t\r\n", folded[i]) != NULL) {
            space = count > 0;
            continue;
        }
        if (space) {
            folded[count++] = ' ';
            space = 0;
        }
        folded[count++] = folded[i];
    }
    struct rmj_digest digest;
    if (count > 0) {
        rmj_sha256_of(folded, count, &digest);
        memcpy(key, digest.bytes, RMJ_PROMPT_KEY_SIZE);
    }
    free(folded);
    return count > 0;
}
