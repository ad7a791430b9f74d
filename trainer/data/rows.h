// One row of a preference file, in any of the field's forms, as one canonical thing: a chosen side and one or more
// rejected ones, as texts, as conversations or as token ids. README.md has the table of forms.
#ifndef RMJ_TRAINER_DATA_ROWS_H
#define RMJ_TRAINER_DATA_ROWS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"

#define RMJ_PROMPT_KEY_SIZE 16
#define RMJ_ROW_REJECTED_MAX 64u // rejected sides of one row

enum rmj_row_kind {
    RMJ_ROW_TEXT,     // sides are whole texts, prompt first; no chat template is applied (TRL's standard form)
    RMJ_ROW_MESSAGES, // sides are whole conversations, prompt first; the model's chat template is applied
    RMJ_ROW_IDS,      // sides are token ids, used as they are
};

struct rmj_row_side {
    struct rmj_buf text; // TEXT
    json_t *messages;    // MESSAGES: array of objects, {"role": ..., "content": ...} and what else was found; owned
    int32_t *ids;        // IDS
    size_t id_count, id_room;
    int empty; // the last turn, or the text after the prompt, is empty
};

// Reused between rows.
struct rmj_row {
    enum rmj_row_kind kind;
    Rmjob__V1__DataForm form; // that it was read as; never automatic
    int prompt_apart;         // the prompt stood in a column of its own
    struct rmj_row_side chosen;
    struct rmj_row_side *rejected; // [rejected_count]; (chosen, rejected[i]) is one pair each
    uint32_t rejected_count, rejected_room;
    json_t *tools;           // NULL or an array, given to the template; owned
    json_t *template_kwargs; // NULL or an object: extra variables of the template; owned
    struct rmj_buf prompt;   // the text that all sides answer, as far as it can be told: for keys and contamination
    struct rmj_buf ignored;  // names of columns that were left aside, one a line
    int has_margin;
    float margin; // of every pair of the row
};

// How to read the rows of a source. Immutable; shared by threads.
struct rmj_row_format {
    Rmjob__V1__DataForm form;          // automatic: by the columns of each row
    const Rmjob__V1__Columns *columns; // the file's names of our columns; NULL: our own
    // Under automatic, text of "\n\nHuman:" turns is a conversation when the model has a chat template of its own, so
    // that training and evaluation look alike; else it stays text, since the default template writes just these marks.
    int model_has_template;
    // By rmj_row_format_settle: what the file's first row is read as. A row that is read otherwise is RMJ_DATA.
    uint64_t settled_row; // 0: not settled
    Rmjob__V1__DataForm settled_form;
    int settled_prompt_apart;
};

void rmj_row_init(struct rmj_row *row);
void rmj_row_deinit(struct rmj_row *row);
// ended: the line had its newline. RMJ_DATA says what was found and the mend; the caller puts file and row in front.
RMJ_MUST_USE enum rmj_status rmj_row_parse(struct rmj_row *row, const struct rmj_row_format *format, const char *line,
                                           size_t size, int ended, struct rmj_error *err);
// Fixes the form of a file by a row of it (the first, row 1); nothing when that row cannot be parsed. ignored: gets the
// names of the row's columns that are left aside, for a message.
void rmj_row_format_settle(struct rmj_row_format *format, const char *line, size_t size, int ended, uint64_t row,
                           struct rmj_buf *ignored);
// Name of a row's form, for instance "text, prompt apart": a file keeps to the one of its first row.
const char *rmj_row_form_name(Rmjob__V1__DataForm form, int prompt_apart);

// Replaces `out` by what a side answers, without the prompt: the rest of a text, the last turn's text of a
// conversation; nothing for token ids.
void rmj_row_answer(const struct rmj_row *row, const struct rmj_row_side *side, struct rmj_buf *out);

// Checks a line as every row of every file must be (UTF-8, no NUL, not empty) and reads the JSON object in it.
RMJ_MUST_USE enum rmj_status rmj_row_json(json_t **object, const char *line, size_t size, int ended,
                                          struct rmj_error *err);

// A key that is equal for equal prompts whatever their case, width and white space, and whether or not they stand
// between "\n\nHuman:" and "\n\nAssistant:". 0 for an empty prompt.
int rmj_prompt_key(const char *prompt, size_t size, uint8_t key[RMJ_PROMPT_KEY_SIZE]);

#endif
