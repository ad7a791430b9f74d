// The forms in which preference rows come, one reader each (README.md has the table of columns).
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/rows_internal.h"

static const char assistant_turn[] = "\n\nAssistant:";

struct reading {
    struct rmj_row *row;
    struct rmj_row_columns *columns;
    const struct rmj_row_format *format;
    int prompt_seen;
    // What stands before the answers, and the answers as found.
    json_t *head; // MESSAGES: array; owned
    json_t *chosen;
    json_t *rejected[RMJ_ROW_REJECTED_MAX];
    uint32_t rejected_count;
};

static enum rmj_status check_type(const struct reading *reading, enum rmj_column column, const json_t *value, int right,
                                  const char *wanted, struct rmj_error *err)
{
    return right ? RMJ_OK
                 : rmj_fail(err, RMJ_DATA, "%s is %s; it must be %s", reading->columns->names[column],
                            rmj_json_type_name(value), wanted);
}

static enum rmj_status need_sides(struct reading *reading, struct rmj_error *err)
{
    RMJ_TRY(rmj_row_columns_need(reading->columns, RMJ_COLUMN_CHOSEN, &reading->chosen, err));
    reading->rejected_count = 1;
    return rmj_row_columns_need(reading->columns, RMJ_COLUMN_REJECTED, &reading->rejected[0], err);
}

static struct rmj_row_side *side_of(const struct reading *reading, uint32_t index)
{
    return index == 0 ? &reading->row->chosen : &reading->row->rejected[index - 1];
}

static json_t *answer_of(const struct reading *reading, uint32_t index)
{
    return index == 0 ? reading->chosen : reading->rejected[index - 1];
}

static void make_rejected(struct rmj_row *row, uint32_t count)
{
    while (row->rejected_room < count) {
        row->rejected = realloc(row->rejected, (row->rejected_room + 1) * sizeof *row->rejected);
        RMJ_ASSERT(row->rejected != NULL);
        row->rejected[row->rejected_room] = (struct rmj_row_side){0};
        rmj_buf_init(&row->rejected[row->rejected_room++].text, row->chosen.text.size_max);
    }
    row->rejected_count = count;
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

static int says_something(const json_t *value)
{
    return json_is_string(value) ? json_string_length(value) > 0 : json_is_object(value) || json_array_size(value) > 0;
}

static enum rmj_status check_not_all_empty(const struct reading *reading, struct rmj_error *err)
{
    for (uint32_t i = 0; i <= reading->rejected_count; i++) {
        if (says_something(answer_of(reading, i))) {
            return RMJ_OK;
        }
    }
    return rmj_fail(err, RMJ_DATA, "chosen and rejected are both empty: remove the row");
}

// Sides of prompt and answer as one text each.
static enum rmj_status finish_texts(struct reading *reading, const json_t *prompt, struct rmj_error *err)
{
    struct rmj_row *row = reading->row;
    RMJ_TRY(check_not_all_empty(reading, err));
    row->kind = RMJ_ROW_TEXT;
    row->prompt_apart = prompt != NULL;
    make_rejected(row, reading->rejected_count);
    for (uint32_t i = 0; i <= reading->rejected_count; i++) {
        struct rmj_row_side *side = side_of(reading, i);
        const json_t *answer = answer_of(reading, i);
        rmj_buf_append(&side->text, json_string_value(prompt), json_string_length(prompt));
        rmj_buf_append(&side->text, json_string_value(answer), json_string_length(answer));
        side->empty = json_string_length(answer) == 0 || ends_in_turn(&side->text);
        RMJ_TRY(rmj_buf_check(&side->text, err));
    }
    const struct rmj_buf *chosen = &row->chosen.text;
    rmj_buf_append(&row->prompt, chosen->bytes,
                   json_string_length(prompt) > 0 ? json_string_length(prompt) : implicit_prompt_size(chosen));
    reading->prompt_seen =
        row->prompt.size > 0 || (chosen->size > 0 && rmj_text_has_turns(chosen->bytes, chosen->size));
    return RMJ_OK;
}

// Finished texts become conversations of their turns.
static enum rmj_status turns_of_texts(struct reading *reading, struct rmj_error *err)
{
    struct rmj_row *row = reading->row;
    row->kind = RMJ_ROW_MESSAGES;
    for (uint32_t i = 0; i <= reading->rejected_count; i++) {
        struct rmj_row_side *side = side_of(reading, i);
        side->messages = json_copy(reading->head);
        RMJ_ASSERT(side->messages != NULL);
        if (rmj_messages_append_turns(side->messages, rmj_buf_text(&side->text), side->text.size, err) != RMJ_OK) {
            return rmj_context(err, "%s", reading->columns->names[i == 0 ? RMJ_COLUMN_CHOSEN : RMJ_COLUMN_REJECTED]);
        }
        side->empty = rmj_messages_end_empty(side->messages);
        rmj_buf_clear(&side->text);
    }
    return RMJ_OK;
}

// The system column's message, if the conversation does not begin with one.
static enum rmj_status put_system(struct reading *reading, json_t *messages, struct rmj_error *err)
{
    const json_t *system = rmj_row_columns_take(reading->columns, RMJ_COLUMN_SYSTEM);
    const char *name = reading->columns->names[RMJ_COLUMN_SYSTEM];
    if (system == NULL) {
        return RMJ_OK;
    }
    RMJ_TRY(check_type(reading, RMJ_COLUMN_SYSTEM, system, json_is_string(system), "text", err));
    const json_t *first = json_array_get(messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    if (json_string_length(system) == 0) {
        return RMJ_OK;
    }
    if (role != NULL && strcmp(role, "system") == 0) {
        char *text = rmj_message_text(first);
        int equal = text != NULL && strcmp(text, json_string_value(system)) == 0;
        free(text);
        return equal ? RMJ_OK
                     : rmj_fail(err, RMJ_DATA, "column '%s' and the first message are two system messages: keep one",
                                name);
    }
    json_t *list = json_array();
    RMJ_ASSERT(list != NULL);
    rmj_messages_append_text(list, "system", json_string_value(system), json_string_length(system));
    json_array_insert(messages, 0, json_array_get(list, 0));
    json_decref(list);
    return RMJ_OK;
}

// Sides of the head's messages and an answer: a list of messages, one message, or a text that the assistant says.
static enum rmj_status finish_messages(struct reading *reading, int sharegpt, struct rmj_error *err)
{
    struct rmj_row *row = reading->row;
    RMJ_TRY(check_not_all_empty(reading, err));
    row->kind = RMJ_ROW_MESSAGES;
    row->prompt_apart |= json_array_size(reading->head) > 0;
    make_rejected(row, reading->rejected_count);
    if (json_array_size(reading->head) > 0) {
        RMJ_TRY(put_system(reading, reading->head, err));
    }
    size_t head_count = json_array_size(reading->head);
    for (uint32_t i = 0; i <= reading->rejected_count; i++) {
        struct rmj_row_side *side = side_of(reading, i);
        json_t *answer = answer_of(reading, i);
        side->messages = json_copy(reading->head);
        RMJ_ASSERT(side->messages != NULL);
        if (json_is_string(answer)) {
            rmj_messages_append_text(side->messages, "assistant", json_string_value(answer),
                                     json_string_length(answer));
        } else {
            const char *name = reading->columns->names[i == 0 ? RMJ_COLUMN_CHOSEN : RMJ_COLUMN_REJECTED];
            RMJ_TRY(rmj_messages_append(side->messages, answer, name, sharegpt, err));
        }
        side->empty = json_array_size(side->messages) == head_count || rmj_messages_end_empty(side->messages);
        if (head_count == 0) {
            RMJ_TRY(put_system(reading, side->messages, err));
        }
    }
    size_t prompt_count = head_count > 0 ? head_count : rmj_messages_prompt_count(row->chosen.messages);
    rmj_messages_prompt(&row->prompt, row->chosen.messages, prompt_count);
    reading->prompt_seen = prompt_count > 0;
    return RMJ_OK;
}

static enum rmj_status read_text(struct reading *reading, struct rmj_error *err)
{
    json_t *prompt = rmj_row_columns_take(reading->columns, RMJ_COLUMN_PROMPT);
    RMJ_TRY(need_sides(reading, err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_CHOSEN, reading->chosen, json_is_string(reading->chosen), "text", err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_REJECTED, reading->rejected[0], json_is_string(reading->rejected[0]),
                       "text like chosen", err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_PROMPT, prompt, prompt == NULL || json_is_string(prompt), "text like chosen",
                       err));
    return finish_texts(reading, prompt, err);
}

static enum rmj_status read_hh(struct reading *reading, struct rmj_error *err)
{
    RMJ_TRY(read_text(reading, err));
    RMJ_TRY(put_system(reading, reading->head, err));
    return turns_of_texts(reading, err);
}

// 1 when a message before the last one of the side is the user's and says just this text.
static int holds_prompt(const json_t *side, const json_t *prompt)
{
    size_t i, count = json_array_size(side);
    json_t *message;
    json_array_foreach(side, i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (i + 1 < count && role != NULL && strcmp(role, "user") == 0 &&
            json_equal(json_object_get(message, "content"), prompt)) {
            return 1;
        }
    }
    return 0;
}

static enum rmj_status read_messages(struct reading *reading, struct rmj_error *err)
{
    json_t *prompt = rmj_row_columns_take(reading->columns, RMJ_COLUMN_PROMPT);
    static const char wanted[] = "a list of messages";
    RMJ_TRY(need_sides(reading, err));
    const json_t *chosen = reading->chosen, *rejected = reading->rejected[0];
    RMJ_TRY(
        check_type(reading, RMJ_COLUMN_CHOSEN, chosen, json_is_array(chosen) || json_is_object(chosen), wanted, err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_REJECTED, rejected, json_is_array(rejected) || json_is_object(rejected),
                       "a list of messages like chosen", err));
    if (json_is_string(prompt)) {
        // Some sets repeat the question of both conversations in a column of its own.
        if (json_string_length(prompt) > 0 && !(holds_prompt(chosen, prompt) && holds_prompt(rejected, prompt))) {
            return rmj_fail(err, RMJ_DATA,
                            "%s is text, chosen a list of messages, and not both sides hold it as a message of the "
                            "user: write prompt and sides alike",
                            reading->columns->names[RMJ_COLUMN_PROMPT]);
        }
    } else if (prompt != NULL) {
        RMJ_TRY(check_type(reading, RMJ_COLUMN_PROMPT, prompt, json_is_array(prompt), wanted, err));
        RMJ_TRY(rmj_messages_append(reading->head, prompt, reading->columns->names[RMJ_COLUMN_PROMPT], 0, err));
    }
    return finish_messages(reading, 0, err);
}

enum rmj_status rmj_row_detect(struct rmj_row_columns *columns, const struct rmj_row_format *format,
                               Rmjob__V1__DataForm *form, struct rmj_error *err)
{
    json_t *prompt = columns->values[RMJ_COLUMN_PROMPT], *chosen, *rejected;
    RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_CHOSEN, &chosen, err));
    RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_REJECTED, &rejected, err));
    if (!json_is_string(chosen)) {
        *form = RMJOB__V1__DATA_FORM__messages;
        return RMJ_OK;
    }
    const json_t *begins[] = {json_string_length(prompt) > 0 ? prompt : chosen,
                              json_string_length(prompt) > 0 ? prompt : rejected};
    int turns = format->model_has_template;
    for (int i = 0; i < 2; i++) {
        turns = turns && json_is_string(begins[i]) &&
                rmj_text_has_turns(json_string_value(begins[i]), json_string_length(begins[i]));
    }
    *form = turns ? RMJOB__V1__DATA_FORM__hh : RMJOB__V1__DATA_FORM__text;
    return RMJ_OK;
}

enum rmj_status rmj_row_read_form(struct rmj_row *row, struct rmj_row_columns *columns,
                                  const struct rmj_row_format *format, int *prompt_seen, struct rmj_error *err)
{
    static enum rmj_status (*const readers[])(struct reading *, struct rmj_error *) = {
        [RMJOB__V1__DATA_FORM__text] = read_text,
        [RMJOB__V1__DATA_FORM__hh] = read_hh,
        [RMJOB__V1__DATA_FORM__messages] = read_messages,
    };
    struct reading reading = {.row = row, .columns = columns, .format = format, .head = json_array()};
    RMJ_ASSERT(reading.head != NULL && row->form < RMJ_COUNT(readers) && readers[row->form] != NULL);
    enum rmj_status status = readers[row->form](&reading, err);
    *prompt_seen = reading.prompt_seen;
    json_decref(reading.head);
    return status;
}
