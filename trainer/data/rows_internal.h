// Between the parts of the row reader: columns by our names, messages in one shape, and the forms.
#ifndef RMJ_TRAINER_DATA_ROWS_INTERNAL_H
#define RMJ_TRAINER_DATA_ROWS_INTERNAL_H

#include "trainer/data/rows.h"

enum rmj_column {
    RMJ_COLUMN_PROMPT,
    RMJ_COLUMN_CHOSEN,
    RMJ_COLUMN_REJECTED,
    RMJ_COLUMN_MARGIN,
    RMJ_COLUMN_TOOLS,
    RMJ_COLUMN_TEMPLATE_KWARGS,
    RMJ_COLUMN_SYSTEM,
    RMJ_COLUMN_INSTRUCTION,
    RMJ_COLUMN_INPUT,
    RMJ_COLUMN_LABEL,
    RMJ_COLUMN_MAPPED_COUNT, // those before can be named otherwise by a spec
    RMJ_COLUMN_CONVERSATIONS = RMJ_COLUMN_MAPPED_COUNT,
    RMJ_COLUMN_HISTORY,
    RMJ_COLUMN_OUTPUT,
    RMJ_COLUMN_OUTPUT_1,
    RMJ_COLUMN_OUTPUT_2,
    RMJ_COLUMN_CHOSEN_IDS,
    RMJ_COLUMN_REJECTED_IDS,
    RMJ_COLUMN_CHOSEN_INPUT_IDS,
    RMJ_COLUMN_REJECTED_INPUT_IDS,
    RMJ_COLUMN_CHOSEN_ATTENTION_MASK,
    RMJ_COLUMN_REJECTED_ATTENTION_MASK,
    RMJ_COLUMN_COUNT
};

// The columns of one row. Values are borrowed from root; null counts as absent.
struct rmj_row_columns {
    json_t *root;
    json_t *values[RMJ_COLUMN_COUNT];
    const char *names[RMJ_COLUMN_COUNT]; // in this file
    int mapped[RMJ_COLUMN_COUNT];        // named by the spec
    int used[RMJ_COLUMN_COUNT];
};
// A column that the spec names and the row does not have is RMJ_DATA, naming both.
RMJ_MUST_USE enum rmj_status rmj_row_columns_find(struct rmj_row_columns *columns, json_t *root,
                                                  const Rmjob__V1__Columns *map, struct rmj_error *err);
// The value, now counted as used; NULL when absent.
json_t *rmj_row_columns_take(struct rmj_row_columns *columns, enum rmj_column column);
// The same; absent is RMJ_DATA, saying what was found.
RMJ_MUST_USE enum rmj_status rmj_row_columns_need(struct rmj_row_columns *columns, enum rmj_column column,
                                                  json_t **value, struct rmj_error *err);
// After the form was read: RMJ_DATA for a column that would change what is trained on and was left aside; the names of
// others go to row->ignored. prompt_seen: the sides have a prompt that can be told.
RMJ_MUST_USE enum rmj_status rmj_row_columns_finish(const struct rmj_row_columns *columns, struct rmj_row *row,
                                                    int automatic, int prompt_seen, struct rmj_error *err);
// "text", "a list", ... for messages.
const char *rmj_json_type_name(const json_t *value);

// Appends to `out` the messages of a list, or the one of an object: keys with null are left out, what else stands
// beside role and content is kept. sharegpt: from and value, and roles by their usual names.
RMJ_MUST_USE enum rmj_status rmj_messages_append(json_t *out, json_t *value, const char *column, int sharegpt,
                                                 struct rmj_error *err);
// Appends {"role": role, "content": content}.
void rmj_messages_append_text(json_t *out, const char *role, const char *content, size_t size);
// The turns of "\n\nHuman: ...\n\nAssistant: ..." text. Putting the marks back gives exactly the text; what would not
// is RMJ_DATA.
RMJ_MUST_USE enum rmj_status rmj_messages_append_turns(json_t *out, const char *text, size_t size,
                                                       struct rmj_error *err);
// 1 when the text begins with "\n\nHuman:".
int rmj_text_has_turns(const char *text, size_t size);
// Appends the text of the first `count` messages, with the default template's marks.
void rmj_messages_prompt(struct rmj_buf *out, const json_t *messages, size_t count);
// Messages before the last answer.
size_t rmj_messages_prompt_count(const json_t *messages);
// Content of a message as text: of a list of parts, joined. free() it; NULL when there is none.
char *rmj_message_text(const json_t *message);
// 1 when the last message says nothing.
int rmj_messages_end_empty(const json_t *messages);

// The form of a row by its columns.
RMJ_MUST_USE enum rmj_status rmj_row_detect(struct rmj_row_columns *columns, const struct rmj_row_format *format,
                                            Rmjob__V1__DataForm *form, struct rmj_error *err);
// Sides of token ids. The row has one rejected side.
RMJ_MUST_USE enum rmj_status rmj_row_read_ids(struct rmj_row *row, struct rmj_row_columns *columns,
                                              struct rmj_error *err);
// Fills the sides of an empty row; *prompt_seen as above.
RMJ_MUST_USE enum rmj_status rmj_row_read_form(struct rmj_row *row, struct rmj_row_columns *columns,
                                               const struct rmj_row_format *format, int *prompt_seen,
                                               struct rmj_error *err);

#endif
