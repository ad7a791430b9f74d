// Columns of a row under our names, whatever the file calls them; and what becomes of those that are not read.
#include <stddef.h>
#include <string.h>

#include "trainer/data/rows_internal.h"

#define FOUND_SIZE_MAX 200u

static const struct {
    const char *name;
    size_t offset; // in Columns; 0 for a column that always has this name
} known[RMJ_COLUMN_COUNT] = {
    [RMJ_COLUMN_PROMPT] = {"prompt", offsetof(Rmjob__V1__Columns, prompt)},
    [RMJ_COLUMN_CHOSEN] = {"chosen", offsetof(Rmjob__V1__Columns, chosen)},
    [RMJ_COLUMN_REJECTED] = {"rejected", offsetof(Rmjob__V1__Columns, rejected)},
    [RMJ_COLUMN_MARGIN] = {"margin", offsetof(Rmjob__V1__Columns, margin)},
    [RMJ_COLUMN_TOOLS] = {"tools", offsetof(Rmjob__V1__Columns, tools)},
    [RMJ_COLUMN_TEMPLATE_KWARGS] = {"chat_template_kwargs", offsetof(Rmjob__V1__Columns, chat_template_kwargs)},
    [RMJ_COLUMN_SYSTEM] = {"system", offsetof(Rmjob__V1__Columns, system)},
    [RMJ_COLUMN_INSTRUCTION] = {"instruction", offsetof(Rmjob__V1__Columns, instruction)},
    [RMJ_COLUMN_INPUT] = {"input", offsetof(Rmjob__V1__Columns, input)},
    [RMJ_COLUMN_LABEL] = {"label", offsetof(Rmjob__V1__Columns, label)},
    [RMJ_COLUMN_CONVERSATIONS] = {"conversations", 0},
    [RMJ_COLUMN_HISTORY] = {"history", 0},
    [RMJ_COLUMN_OUTPUT] = {"output", 0},
    [RMJ_COLUMN_OUTPUT_1] = {"output_1", 0},
    [RMJ_COLUMN_OUTPUT_2] = {"output_2", 0},
    [RMJ_COLUMN_CHOSEN_IDS] = {"chosen_ids", 0},
    [RMJ_COLUMN_REJECTED_IDS] = {"rejected_ids", 0},
    [RMJ_COLUMN_CHOSEN_INPUT_IDS] = {"chosen_input_ids", 0},
    [RMJ_COLUMN_REJECTED_INPUT_IDS] = {"rejected_input_ids", 0},
    [RMJ_COLUMN_CHOSEN_ATTENTION_MASK] = {"chosen_attention_mask", 0},
    [RMJ_COLUMN_REJECTED_ATTENTION_MASK] = {"rejected_attention_mask", 0},
};

// Never read, and part of what the sides mean.
static const char *const media[] = {"images", "image", "videos", "video", "audios", "audio"};
// What a prompt is called in other files: leaving it aside would train on answers to nothing.
static const char *const prompts[] = {"prompt",      "conversations", "conversation", "messages",
                                      "instruction", "input",         "question",     "query",
                                      "user_prompt", "context",       "history",      "problem"};

const char *rmj_json_type_name(const json_t *value)
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

static void list_columns(struct rmj_buf *out, json_t *root)
{
    const char *key;
    json_t *value;
    rmj_buf_init(out, FOUND_SIZE_MAX);
    json_object_foreach(root, key, value)
    {
        rmj_buf_printf(out, "%s%.40s", out->size > 0 ? ", " : "", key);
    }
    if (out->size == 0) {
        rmj_buf_puts(out, "no columns");
    }
}

enum rmj_status rmj_row_columns_find(struct rmj_row_columns *columns, json_t *root, const Rmjob__V1__Columns *map,
                                     struct rmj_error *err)
{
    *columns = (struct rmj_row_columns){.root = root};
    for (int i = 0; i < RMJ_COLUMN_COUNT; i++) {
        const char *name = NULL;
        if (map != NULL && known[i].offset != 0) {
            memcpy(&name, (const char *)map + known[i].offset, sizeof name);
        }
        columns->mapped[i] = name != NULL;
        columns->names[i] = name == NULL ? known[i].name : name;
        json_t *value = json_object_get(root, columns->names[i]);
        if (name != NULL && value == NULL) {
            struct rmj_buf found;
            list_columns(&found, root);
            enum rmj_status status = rmj_fail(err, RMJ_DATA, "no column '%.60s', which columns.%s names; found: %s",
                                              name, known[i].name, rmj_buf_text(&found));
            rmj_buf_deinit(&found);
            return status;
        }
        columns->values[i] = json_is_null(value) ? NULL : value;
    }
    return RMJ_OK;
}

json_t *rmj_row_columns_take(struct rmj_row_columns *columns, enum rmj_column column)
{
    columns->used[column] = 1;
    return columns->values[column];
}

enum rmj_status rmj_row_columns_need(struct rmj_row_columns *columns, enum rmj_column column, json_t **value,
                                     struct rmj_error *err)
{
    *value = rmj_row_columns_take(columns, column);
    if (*value != NULL) {
        return RMJ_OK;
    }
    if (json_object_get(columns->root, columns->names[column]) != NULL) {
        return rmj_fail(err, RMJ_DATA, "%s is null", columns->names[column]);
    }
    struct rmj_buf found;
    list_columns(&found, columns->root);
    enum rmj_status status =
        rmj_fail(err, RMJ_DATA, "no column '%.60s'; found: %s", columns->names[column], rmj_buf_text(&found));
    rmj_buf_deinit(&found);
    return status;
}

static int says_nothing(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static int is_one_of(const char *name, const char *const *list, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(name, list[i]) != 0) {
        i++;
    }
    return i < count;
}

// One column that nothing was read from.
static enum rmj_status leave_aside(const struct rmj_row_columns *columns, const struct rmj_row *row, const char *key,
                                   int automatic, int prompt_seen, struct rmj_error *err)
{
    int known_as = 0;
    while (known_as < RMJ_COLUMN_COUNT && strcmp(columns->names[known_as], key) != 0) {
        known_as++;
    }
    if (known_as < RMJ_COLUMN_COUNT && columns->mapped[known_as]) {
        return rmj_fail(err, RMJ_DATA, "columns.%s names '%.60s', but a row of the form %s has no use for it",
                        known[known_as].name, key, rmj_row_form_name(row->form, row->prompt_apart));
    }
    if (is_one_of(key, media, RMJ_COUNT(media))) {
        return rmj_fail(err, RMJ_DATA, "column '%s': rows with images, video or sound are not read: leave them out",
                        key);
    }
    if (known_as == RMJ_COLUMN_TOOLS || known_as == RMJ_COLUMN_TEMPLATE_KWARGS || known_as == RMJ_COLUMN_SYSTEM) {
        return rmj_fail(err, RMJ_DATA,
                        "column '%s' is for a chat template, and rows of the form %s are used without one: write "
                        "conversations, or remove it",
                        key, rmj_row_form_name(row->form, row->prompt_apart));
    }
    if (row->kind == RMJ_ROW_IDS && (strcmp(key, "prompt_ids") == 0 || strcmp(key, "prompt_input_ids") == 0)) {
        return rmj_fail(err, RMJ_DATA, "column '%s': the ids of a side must be whole, prompt first", key);
    }
    if (automatic && known_as >= RMJ_COLUMN_CHOSEN_IDS && known_as <= RMJ_COLUMN_REJECTED_INPUT_IDS) {
        return rmj_fail(err, RMJ_DATA, "column '%s' stands without its other side: remove it, or set the form", key);
    }
    if (!prompt_seen && is_one_of(key, prompts, RMJ_COUNT(prompts))) {
        return rmj_fail(err, RMJ_DATA,
                        "the sides show no prompt, and column '%s' would be left aside: set columns.prompt to it, or "
                        "the form that reads it, or remove it",
                        key);
    }
    return RMJ_OK;
}

enum rmj_status rmj_row_columns_finish(const struct rmj_row_columns *columns, struct rmj_row *row, int automatic,
                                       int prompt_seen, struct rmj_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(columns->root, key, value)
    {
        int used = 0;
        for (int i = 0; i < RMJ_COLUMN_COUNT; i++) {
            used |= columns->used[i] && strcmp(columns->names[i], key) == 0;
        }
        if (used) {
            continue;
        }
        if (!says_nothing(value)) {
            RMJ_TRY(leave_aside(columns, row, key, automatic, prompt_seen, err));
        }
        rmj_buf_printf(&row->ignored, "%s%s", row->ignored.size > 0 ? "\n" : "", key);
    }
    return RMJ_OK;
}
