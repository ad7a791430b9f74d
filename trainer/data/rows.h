// One row of a preference file: a JSON object with chosen and rejected, as texts or as conversations.
#ifndef RMJ_TRAINER_DATA_ROWS_H
#define RMJ_TRAINER_DATA_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define RMJ_PROMPT_KEY_SIZE 16

// Reused between rows.
struct rmj_row {
    struct rmj_buf chosen, rejected; // whole text of a side, prompt first
    struct rmj_buf prompt;           // text that both answer, as far as it can be told from the answers
    int empty_side;                  // a side whose last turn is empty
    int has_margin;
    float margin;
};
void rmj_row_init(struct rmj_row *row);
void rmj_row_deinit(struct rmj_row *row);
// ended: the line had its newline. RMJ_DATA says what was found and the mend; the caller puts file and row in front.
RMJ_MUST_USE enum rmj_status rmj_row_parse(struct rmj_row *row, const char *line, size_t size, int ended,
                                           struct rmj_error *err);

// Checks a line as every row of every file must be (UTF-8, no NUL, not empty) and reads the JSON object in it.
struct json_t;
RMJ_MUST_USE enum rmj_status rmj_row_json(struct json_t **object, const char *line, size_t size, int ended,
                                          struct rmj_error *err);

// A key that is equal for equal prompts whatever their case, width and white space, and whether or not they stand
// between "\n\nHuman:" and "\n\nAssistant:". 0 for an empty prompt.
int rmj_prompt_key(const char *prompt, size_t size, uint8_t key[RMJ_PROMPT_KEY_SIZE]);

#endif
