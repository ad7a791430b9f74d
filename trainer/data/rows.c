#include "trainer/data/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/text.h"
#include "storage/digest.h"
#include "trainer/data/lines.h"
#include "trainer/data/rows_internal.h"

#define TEXT_SIZE_MAX (2 * RMJ_LINE_SIZE_MAX)

void rmj_row_init(struct rmj_row *row)
{
    *row = (struct rmj_row){0};
    rmj_buf_init(&row->chosen.text, TEXT_SIZE_MAX);
    rmj_buf_init(&row->prompt, TEXT_SIZE_MAX);
    rmj_buf_init(&row->ignored, RMJ_LINE_SIZE_MAX);
}

static void side_clear(struct rmj_row_side *side)
{
    rmj_buf_clear(&side->text);
    json_decref(side->messages);
    side->messages = NULL;
    side->id_count = 0;
    side->empty = 0;
}

static void row_clear(struct rmj_row *row)
{
    side_clear(&row->chosen);
    for (uint32_t i = 0; i < row->rejected_count; i++) {
        side_clear(&row->rejected[i]);
    }
    row->rejected_count = 0;
    json_decref(row->tools);
    json_decref(row->template_kwargs);
    row->tools = row->template_kwargs = NULL;
    rmj_buf_clear(&row->prompt);
    rmj_buf_clear(&row->ignored);
    row->has_margin = row->prompt_apart = 0;
    row->margin = 0;
}

void rmj_row_deinit(struct rmj_row *row)
{
    row_clear(row);
    for (uint32_t i = 0; i < row->rejected_room; i++) {
        rmj_buf_deinit(&row->rejected[i].text);
        free(row->rejected[i].ids);
    }
    free(row->rejected);
    rmj_buf_deinit(&row->chosen.text);
    free(row->chosen.ids);
    rmj_buf_deinit(&row->prompt);
    rmj_buf_deinit(&row->ignored);
    *row = (struct rmj_row){0};
}

const char *rmj_row_form_name(Rmjob__V1__DataForm form, int prompt_apart)
{
    switch (form) {
    case RMJOB__V1__DATA_FORM__text:
        return prompt_apart ? "text, prompt apart" : "text";
    case RMJOB__V1__DATA_FORM__hh:
        return prompt_apart ? "hh, prompt apart" : "hh";
    case RMJOB__V1__DATA_FORM__messages:
        return prompt_apart ? "messages, prompt apart" : "messages";
    case RMJOB__V1__DATA_FORM__sharegpt:
        return prompt_apart ? "sharegpt, prompt apart" : "sharegpt";
    case RMJOB__V1__DATA_FORM__alpaca:
        return "alpaca";
    case RMJOB__V1__DATA_FORM__best_of_n:
        return prompt_apart ? "best_of_n, prompt apart" : "best_of_n";
    case RMJOB__V1__DATA_FORM__token_ids:
        return "token_ids";
    default:
        return "automatic";
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
    size_t blank = 0;
    while (blank < size && strchr(" \t\r", line[blank]) != NULL) {
        blank++;
    }
    if (blank == size) {
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
        enum rmj_status status = rmj_fail(
            err, RMJ_DATA, "%s, not an object: write {\"chosen\": ..., \"rejected\": ...}", rmj_json_type_name(root));
        json_decref(root);
        return status;
    }
    *object = root;
    return RMJ_OK;
}

static enum rmj_status read_margin(struct rmj_row *row, struct rmj_row_columns *columns, struct rmj_error *err)
{
    const json_t *margin = rmj_row_columns_take(columns, RMJ_COLUMN_MARGIN);
    if (margin == NULL) {
        return RMJ_OK;
    }
    if (!json_is_number(margin)) {
        return rmj_fail(err, RMJ_DATA, "%s is %s; it must be a number", columns->names[RMJ_COLUMN_MARGIN],
                        rmj_json_type_name(margin));
    }
    row->margin = (float)json_number_value(margin);
    if (!isfinite(row->margin)) {
        return rmj_fail(err, RMJ_DATA, "margin %g is too large for float32", json_number_value(margin));
    }
    row->has_margin = 1;
    return RMJ_OK;
}

// JSON text of a list or an object, as some files write what has no fixed columns, or the value itself.
static json_t *value_or_parsed(json_t *value)
{
    return json_is_string(value) ? json_loadb(json_string_value(value), json_string_length(value), 0, NULL)
                                 : json_incref(value);
}

static enum rmj_status read_tools(struct rmj_row *row, struct rmj_row_columns *columns, struct rmj_error *err)
{
    json_t *value = rmj_row_columns_take(columns, RMJ_COLUMN_TOOLS), *tool;
    if (value == NULL) {
        return RMJ_OK;
    }
    row->tools = value_or_parsed(value);
    size_t i;
    int right = json_is_array(row->tools);
    json_array_foreach(row->tools, i, tool)
    {
        right = right && json_is_object(tool);
    }
    return right ? RMJ_OK
                 : rmj_fail(err, RMJ_DATA, "%s must be a list of objects, or the JSON text of one",
                            columns->names[RMJ_COLUMN_TOOLS]);
}

static enum rmj_status read_template_kwargs(struct rmj_row *row, struct rmj_row_columns *columns, struct rmj_error *err)
{
    json_t *value = rmj_row_columns_take(columns, RMJ_COLUMN_TEMPLATE_KWARGS);
    if (value == NULL) {
        return RMJ_OK;
    }
    row->template_kwargs = value_or_parsed(value);
    return json_is_object(row->template_kwargs)
               ? RMJ_OK
               : rmj_fail(err, RMJ_DATA, "%s must be an object, or the JSON text of one",
                          columns->names[RMJ_COLUMN_TEMPLATE_KWARGS]);
}

static enum rmj_status check_settled(const struct rmj_row_format *format, Rmjob__V1__DataForm form, int prompt_apart,
                                     struct rmj_error *err)
{
    if (format->settled_row == 0 || (form == format->settled_form && prompt_apart == format->settled_prompt_apart)) {
        return RMJ_OK;
    }
    return rmj_fail(err, RMJ_DATA, "reads as %s, row %llu as %s: a file has one form; set the form, or split the file",
                    rmj_row_form_name(form, prompt_apart), (unsigned long long)format->settled_row,
                    rmj_row_form_name(format->settled_form, format->settled_prompt_apart));
}

enum rmj_status rmj_row_parse(struct rmj_row *row, const struct rmj_row_format *format, const char *line, size_t size,
                              int ended, struct rmj_error *err)
{
    json_t *root = NULL;
    struct rmj_row_columns columns;
    int prompt_seen = 0, automatic = format->form == RMJOB__V1__DATA_FORM__automatic;
    enum rmj_status status = RMJ_OK;
    row_clear(row);
    RMJ_GO(rmj_row_json(&root, line, size, ended, err));
    RMJ_GO(rmj_row_columns_find(&columns, root, format->columns, err));
    row->form = format->form;
    if (automatic) {
        RMJ_GO(rmj_row_detect(&columns, format, &row->form, err));
        RMJ_GO(check_settled(format, row->form, format->settled_prompt_apart, err));
    }
    RMJ_GO(read_margin(row, &columns, err));
    RMJ_GO(rmj_row_read_form(row, &columns, format, &prompt_seen, err));
    RMJ_GO(check_settled(format, row->form, row->prompt_apart, err));
    if (row->kind == RMJ_ROW_MESSAGES) {
        RMJ_GO(read_tools(row, &columns, err));
        RMJ_GO(read_template_kwargs(row, &columns, err));
    }
    RMJ_GO(rmj_row_columns_finish(&columns, row, automatic, prompt_seen, err));
    if (row->prompt.failed || row->ignored.failed) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a row of %zu bytes", size);
    }
out:
    json_decref(root);
    return status;
}

void rmj_row_format_settle(struct rmj_row_format *format, const char *line, size_t size, int ended, uint64_t number,
                           struct rmj_buf *ignored)
{
    struct rmj_row row;
    rmj_row_init(&row);
    format->settled_row = 0;
    if (rmj_row_parse(&row, format, line, size, ended, NULL) == RMJ_OK) {
        format->settled_row = number;
        format->settled_form = row.form;
        format->settled_prompt_apart = row.prompt_apart;
        for (const char *name = rmj_buf_text(&row.ignored); *name != '\0';) {
            size_t length = strcspn(name, "\n");
            rmj_buf_printf(ignored, "%s%.*s", ignored->size > 0 ? ", " : "", (int)length, name);
            name += length + (name[length] == '\n');
        }
    }
    rmj_row_deinit(&row);
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
