// `rmjob data show SPEC --rows 17`: rows of a spec's preference files as the model will see them: tokens, shared
// prefix, the position at which each side is scored.
#ifndef RMJ_TRAINER_DATA_SHOW_H
#define RMJ_TRAINER_DATA_SHOW_H

#include <stdio.h>

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"

// Rows of one range at most.
#define RMJ_SHOW_ROWS_MAX 1000u

struct rmj_data_show_options {
    const Rmjob__V1__JobSpec *spec; // its paths absolute
    // "17", "3-5", "file.jsonl:17", several with commas or spaces between. A number alone is a row of the first
    // training file; a file is one of data.train or data.heldout, by its name or the end of it.
    const char *rows;
    int colour; // terminal colours; 0: marks that plain text can show
    int json;   // one JSON value instead of text
};

// RMJ_INVALID: the list of rows, a file that the spec does not name, or a row past the end. RMJ_DATA: the model, its
// tokenizer or template, or a row that cannot be used (the others are shown); it names file and row.
RMJ_MUST_USE enum rmj_status rmj_data_show(const struct rmj_data_show_options *options, FILE *out,
                                           struct rmj_error *err);

#endif
