// The form of a row by its columns: the first rule of the table in README.md that fits.
#include <string.h>

#include "trainer/data/rows_internal.h"

static int holds(const struct rmj_row_columns *columns, enum rmj_column column)
{
    return columns->values[column] != NULL;
}

static int begins_with(const json_t *list, int is_type(const json_t *))
{
    return json_array_size(list) > 0 && is_type(json_array_get(list, 0));
}

static int is_text(const json_t *value)
{
    return json_is_string(value);
}

static int is_list(const json_t *value)
{
    return json_is_array(value);
}

static int is_number(const json_t *value)
{
    return json_is_integer(value);
}

static int is_from_message(const json_t *value)
{
    const json_t *message = json_is_array(value) ? json_array_get(value, 0) : value;
    return json_object_get(message, "from") != NULL;
}

static int is_turns(const json_t *value)
{
    return json_is_string(value) && rmj_text_has_turns(json_string_value(value), json_string_length(value));
}

enum rmj_status rmj_row_detect(struct rmj_row_columns *columns, const struct rmj_row_format *format,
                               Rmjob__V1__DataForm *form, struct rmj_error *err)
{
    const json_t *prompt = columns->values[RMJ_COLUMN_PROMPT], *chosen = columns->values[RMJ_COLUMN_CHOSEN];
    const json_t *rejected = columns->values[RMJ_COLUMN_REJECTED];
    const json_t *conversations = columns->values[RMJ_COLUMN_CONVERSATIONS];
    int ids = (holds(columns, RMJ_COLUMN_CHOSEN_IDS) && holds(columns, RMJ_COLUMN_REJECTED_IDS)) ||
              (holds(columns, RMJ_COLUMN_CHOSEN_INPUT_IDS) && holds(columns, RMJ_COLUMN_REJECTED_INPUT_IDS));
    int question = prompt == NULL && conversations == NULL &&
                   (holds(columns, RMJ_COLUMN_INSTRUCTION) || holds(columns, RMJ_COLUMN_INPUT));
    int outputs = holds(columns, RMJ_COLUMN_OUTPUT) || holds(columns, RMJ_COLUMN_OUTPUT_1);
    if (ids || begins_with(chosen, is_number)) {
        *form = RMJOB__V1__DATA_FORM__token_ids;
    } else if (begins_with(chosen, is_text) || begins_with(rejected, is_text) || begins_with(rejected, is_list)) {
        *form = RMJOB__V1__DATA_FORM__best_of_n;
    } else if (question && (json_is_string(chosen) || (chosen == NULL && outputs))) {
        *form = RMJOB__V1__DATA_FORM__alpaca;
    } else if (chosen == NULL || rejected == NULL) {
        json_t *value;
        RMJ_TRY(rmj_row_columns_need(columns, RMJ_COLUMN_CHOSEN, &value, err));
        return rmj_row_columns_need(columns, RMJ_COLUMN_REJECTED, &value, err);
    } else if (!json_is_string(chosen) && !json_is_array(chosen) && !json_is_object(chosen)) {
        return rmj_fail(err, RMJ_DATA, "%s is %s; it must be text or a list of messages",
                        columns->names[RMJ_COLUMN_CHOSEN], rmj_json_type_name(chosen));
    } else if (!json_is_string(chosen)) {
        int from = is_from_message(conversations) || is_from_message(prompt) || is_from_message(chosen);
        *form = from ? RMJOB__V1__DATA_FORM__sharegpt : RMJOB__V1__DATA_FORM__messages;
    } else {
        int turns = json_string_length(prompt) > 0 ? is_turns(prompt) : is_turns(chosen) && is_turns(rejected);
        *form = turns && format->model_has_template ? RMJOB__V1__DATA_FORM__hh : RMJOB__V1__DATA_FORM__text;
    }
    return RMJ_OK;
}
