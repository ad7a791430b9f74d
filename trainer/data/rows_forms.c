// The forms in which preference rows come, one reader each (README.md has the table of columns).
#include <stdio.h>
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

// The prompt of a conversation: `prompt`, or ShareGPT's `conversations`.
static json_t *take_prompt(struct reading *reading, const char **name)
{
    struct rmj_row_columns *columns = reading->columns;
    enum rmj_column column =
        columns->values[RMJ_COLUMN_PROMPT] == NULL && columns->values[RMJ_COLUMN_CONVERSATIONS] != NULL
            ? RMJ_COLUMN_CONVERSATIONS
            : RMJ_COLUMN_PROMPT;
    *name = columns->names[column];
    return rmj_row_columns_take(columns, column);
}

// Messages of the prompt go to the head. Some sets repeat, in a text column, the question that both conversations hold.
static enum rmj_status read_prompt_messages(struct reading *reading, int sharegpt, struct rmj_error *err)
{
    const char *name;
    json_t *prompt = take_prompt(reading, &name);
    if (json_is_string(prompt)) {
        int held = holds_prompt(reading->chosen, prompt);
        for (uint32_t i = 0; i < reading->rejected_count; i++) {
            held = held && holds_prompt(reading->rejected[i], prompt);
        }
        return held || json_string_length(prompt) == 0
                   ? RMJ_OK
                   : rmj_fail(err, RMJ_DATA,
                              "%s is text, but chosen is a list of messages, and not every side holds that text as a "
                              "message of the user: write prompt and sides alike",
                              name);
    }
    return prompt == NULL ? RMJ_OK : rmj_messages_append(reading->head, prompt, name, sharegpt, err);
}

static enum rmj_status read_conversations(struct reading *reading, int sharegpt, struct rmj_error *err)
{
    RMJ_TRY(need_sides(reading, err));
    const json_t *chosen = reading->chosen, *rejected = reading->rejected[0];
    RMJ_TRY(check_type(reading, RMJ_COLUMN_CHOSEN, chosen, json_is_array(chosen) || json_is_object(chosen),
                       "a list of messages", err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_REJECTED, rejected, json_is_array(rejected) || json_is_object(rejected),
                       "a list of messages like chosen", err));
    RMJ_TRY(read_prompt_messages(reading, sharegpt, err));
    return finish_messages(reading, sharegpt, err);
}

static enum rmj_status read_messages(struct reading *reading, struct rmj_error *err)
{
    return read_conversations(reading, 0, err);
}

static enum rmj_status read_sharegpt(struct reading *reading, struct rmj_error *err)
{
    return read_conversations(reading, 1, err);
}

// Which of two columns a label means: the number at the end of its name, or the name. -1 for neither.
static int labelled(const json_t *label, const char *const names[2])
{
    char text[24];
    const char *word = json_string_value(label);
    if (json_is_integer(label)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(label));
        word = text;
    }
    for (int i = 0; word != NULL && i < 2; i++) {
        size_t length = strlen(names[i]), begin = length;
        while (begin > 0 && names[i][begin - 1] >= '0' && names[i][begin - 1] <= '9') {
            begin--;
        }
        if (strcmp(word, names[i]) == 0 || (begin < length && strcmp(word, names[i] + begin) == 0)) {
            return i;
        }
    }
    return -1;
}

// chosen and rejected; or two outputs of which a label, or else the order of a list, says the better one.
static enum rmj_status read_outputs(struct reading *reading, struct rmj_error *err)
{
    struct rmj_row_columns *columns = reading->columns;
    const char *names[2] = {"0", "1"};
    json_t *outputs[2], *list = columns->values[RMJ_COLUMN_OUTPUT];
    int sides = columns->values[RMJ_COLUMN_CHOSEN] != NULL || columns->mapped[RMJ_COLUMN_CHOSEN];
    int needs_label = columns->mapped[RMJ_COLUMN_LABEL];
    if (sides || (list == NULL && columns->values[RMJ_COLUMN_OUTPUT_1] == NULL)) {
        RMJ_TRY(need_sides(reading, err));
        names[0] = columns->names[RMJ_COLUMN_CHOSEN], names[1] = columns->names[RMJ_COLUMN_REJECTED];
        outputs[0] = reading->chosen, outputs[1] = reading->rejected[0];
    } else if (list != NULL) {
        (void)rmj_row_columns_take(columns, RMJ_COLUMN_OUTPUT);
        RMJ_TRY(check_type(reading, RMJ_COLUMN_OUTPUT, list, json_array_size(list) == 2, "a list of two texts", err));
        outputs[0] = json_array_get(list, 0), outputs[1] = json_array_get(list, 1);
        needs_label = columns->values[RMJ_COLUMN_LABEL] != NULL;
    } else {
        RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_OUTPUT_1, &outputs[0], err));
        RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_OUTPUT_2, &outputs[1], err));
        names[0] = "output_1", names[1] = "output_2";
        needs_label = 1;
    }
    int better = 0;
    if (needs_label) {
        json_t *label;
        RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_LABEL, &label, err));
        better = labelled(label, names);
        if (better < 0) {
            return rmj_fail(err, RMJ_DATA, "%s says neither '%s' nor '%s', nor the number at the end of one of them",
                            columns->names[RMJ_COLUMN_LABEL], names[0], names[1]);
        }
    }
    for (int i = 0; i < 2; i++) {
        if (!json_is_string(outputs[i])) {
            return rmj_fail(err, RMJ_DATA, "%s is %s; an output must be text", names[i],
                            rmj_json_type_name(outputs[i]));
        }
    }
    reading->chosen = outputs[better];
    reading->rejected[0] = outputs[!better];
    reading->rejected_count = 1;
    return RMJ_OK;
}

// Earlier turns: a list of [question, answer].
static enum rmj_status read_history(struct reading *reading, struct rmj_error *err)
{
    json_t *history = rmj_row_columns_take(reading->columns, RMJ_COLUMN_HISTORY), *turn;
    size_t i;
    RMJ_TRY(check_type(reading, RMJ_COLUMN_HISTORY, history, history == NULL || json_is_array(history),
                       "a list of [question, answer]", err));
    json_array_foreach(history, i, turn)
    {
        const json_t *question = json_array_get(turn, 0), *answer = json_array_get(turn, 1);
        if (json_array_size(turn) != 2 || !json_is_string(question) || !json_is_string(answer)) {
            return rmj_fail(err, RMJ_DATA, "history[%zu] is not [question, answer]", i);
        }
        rmj_messages_append_text(reading->head, "user", json_string_value(question), json_string_length(question));
        rmj_messages_append_text(reading->head, "assistant", json_string_value(answer), json_string_length(answer));
    }
    return RMJ_OK;
}

static enum rmj_status read_alpaca(struct reading *reading, struct rmj_error *err)
{
    json_t *instruction = rmj_row_columns_take(reading->columns, RMJ_COLUMN_INSTRUCTION);
    json_t *input = rmj_row_columns_take(reading->columns, RMJ_COLUMN_INPUT);
    RMJ_TRY(check_type(reading, RMJ_COLUMN_INSTRUCTION, instruction, instruction == NULL || json_is_string(instruction),
                       "text", err));
    RMJ_TRY(check_type(reading, RMJ_COLUMN_INPUT, input, input == NULL || json_is_string(input), "text", err));
    RMJ_TRY(read_outputs(reading, err));
    RMJ_TRY(read_history(reading, err));
    struct rmj_buf question;
    rmj_buf_init(&question, reading->row->prompt.size_max);
    rmj_buf_append(&question, json_string_value(instruction), json_string_length(instruction));
    if (question.size > 0 && json_string_length(input) > 0) {
        rmj_buf_putc(&question, '\n');
    }
    rmj_buf_append(&question, json_string_value(input), json_string_length(input));
    rmj_messages_append_text(reading->head, "user", rmj_buf_text(&question), question.size);
    size_t size = question.size;
    rmj_buf_deinit(&question);
    return size > 0
               ? finish_messages(reading, 0, err)
               : rmj_fail(err, RMJ_DATA, "no text in '%s' and '%s': there is no question",
                          reading->columns->names[RMJ_COLUMN_INSTRUCTION], reading->columns->names[RMJ_COLUMN_INPUT]);
}

static enum rmj_status take_answers(struct reading *reading, struct rmj_error *err)
{
    json_t *list;
    RMJ_TRY(need_sides(reading, err));
    list = reading->rejected[0];
    if (json_is_array(reading->chosen) && !json_is_object(json_array_get(reading->chosen, 0))) {
        if (json_array_size(reading->chosen) != 1) {
            return rmj_fail(err, RMJ_DATA, "chosen has %zu answers; a row takes one: write a row for each",
                            json_array_size(reading->chosen));
        }
        reading->chosen = json_array_get(reading->chosen, 0);
    }
    RMJ_TRY(check_type(reading, RMJ_COLUMN_REJECTED, list, json_is_array(list), "a list of answers", err));
    if (json_array_size(list) == 0 || json_array_size(list) > RMJ_ROW_REJECTED_MAX) {
        return rmj_fail(err, RMJ_DATA, "rejected has %zu answers; a row takes 1 to %u", json_array_size(list),
                        RMJ_ROW_REJECTED_MAX);
    }
    reading->rejected_count = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < reading->rejected_count; i++) {
        json_t *answer = reading->rejected[i] = json_array_get(list, i);
        int right =
            json_is_string(reading->chosen) ? json_is_string(answer) : json_is_array(answer) || json_is_object(answer);
        if (!right) {
            return rmj_fail(err, RMJ_DATA, "rejected[%u] is %s, chosen %s: write all answers alike", i,
                            rmj_json_type_name(answer), rmj_json_type_name(reading->chosen));
        }
    }
    return json_is_string(reading->chosen) || json_is_array(reading->chosen) || json_is_object(reading->chosen)
               ? RMJ_OK
               : rmj_fail(err, RMJ_DATA, "chosen is %s; it must be an answer", rmj_json_type_name(reading->chosen));
}

static int all_have_turns(const struct reading *reading)
{
    int turns = 1;
    for (uint32_t i = 0; i <= reading->rejected_count; i++) {
        const struct rmj_buf *text = &side_of(reading, i)->text;
        turns = turns && rmj_text_has_turns(rmj_buf_text(text), text->size);
    }
    return turns;
}

// Answers that are messages make conversations. Answers that are texts do so too when there is a prompt, which the user
// says; without one, or with one that is "\n\nHuman:" text, they are whole texts.
static enum rmj_status read_best_of_n(struct reading *reading, struct rmj_error *err)
{
    RMJ_TRY(take_answers(reading, err));
    const char *name;
    const json_t *chosen = reading->chosen;
    json_t *prompt = take_prompt(reading, &name);
    const json_t *first = json_array_size(prompt) > 0 ? json_array_get(prompt, 0)
                          : json_is_array(chosen)     ? json_array_get(chosen, 0)
                                                      : chosen;
    int sharegpt = json_object_get(first, "from") != NULL;
    if (!json_is_string(chosen)) {
        RMJ_TRY(read_prompt_messages(reading, sharegpt, err));
        return finish_messages(reading, sharegpt, err);
    }
    size_t size = json_string_length(prompt);
    if (json_is_array(prompt)) {
        RMJ_TRY(rmj_messages_append(reading->head, prompt, name, sharegpt, err));
    } else if (prompt != NULL && !json_is_string(prompt)) {
        return rmj_fail(err, RMJ_DATA, "%s is %s; it must be text or a list of messages", name,
                        rmj_json_type_name(prompt));
    } else if (size == 0 || rmj_text_has_turns(json_string_value(prompt), size)) {
        RMJ_TRY(finish_texts(reading, prompt, err));
        return reading->format->model_has_template && all_have_turns(reading) ? turns_of_texts(reading, err) : RMJ_OK;
    } else {
        rmj_messages_append_text(reading->head, "user", json_string_value(prompt), size);
    }
    return finish_messages(reading, sharegpt, err);
}

static enum rmj_status read_token_ids(struct reading *reading, struct rmj_error *err)
{
    const json_t *prompt = reading->columns->values[RMJ_COLUMN_PROMPT];
    struct rmj_row *row = reading->row;
    row->kind = RMJ_ROW_IDS;
    if (json_is_string(prompt)) {
        (void)rmj_row_columns_take(reading->columns, RMJ_COLUMN_PROMPT);
        rmj_buf_append(&row->prompt, json_string_value(prompt), json_string_length(prompt));
    }
    reading->prompt_seen = 1; // inside the ids
    make_rejected(row, 1);
    return rmj_row_read_ids(row, reading->columns, err);
}

enum rmj_status rmj_row_read_form(struct rmj_row *row, struct rmj_row_columns *columns,
                                  const struct rmj_row_format *format, int *prompt_seen, struct rmj_error *err)
{
    static enum rmj_status (*const readers[])(struct reading *, struct rmj_error *) = {
        [RMJOB__V1__DATA_FORM__text] = read_text,           [RMJOB__V1__DATA_FORM__hh] = read_hh,
        [RMJOB__V1__DATA_FORM__messages] = read_messages,   [RMJOB__V1__DATA_FORM__sharegpt] = read_sharegpt,
        [RMJOB__V1__DATA_FORM__alpaca] = read_alpaca,       [RMJOB__V1__DATA_FORM__best_of_n] = read_best_of_n,
        [RMJOB__V1__DATA_FORM__token_ids] = read_token_ids,
    };
    struct reading reading = {.row = row, .columns = columns, .format = format, .head = json_array()};
    RMJ_ASSERT(reading.head != NULL && row->form < RMJ_COUNT(readers) && readers[row->form] != NULL);
    enum rmj_status status = readers[row->form](&reading, err);
    *prompt_seen = reading.prompt_seen;
    json_decref(reading.head);
    return status;
}
