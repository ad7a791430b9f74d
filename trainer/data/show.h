// `rmjob data show SPEC --rows 17`: rows of a spec's preference files as the model will see them: tokens, shared prefix,
// the position at which each side is scored.
#ifndef RMJ_TRAINER_DATA_SHOW_H
#define RMJ_TRAINER_DATA_SHOW_H

#include <stdio.h>

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"

struct rmj_data_show_options {
    const Rmjob__V1__JobSpec *spec; // its paths absolute
    const char *rows;               // "17", "3,5,9", "10-20"; with several sources "NAME:17" too
    int colour;                     // terminal colours; 0: marks that plain text can show
    int json;                       // one JSON value instead of text
};

// RMJ_INVALID: the list of rows, or a row past the end. RMJ_DATA: the model, its tokenizer or template, or a row that
// cannot be read; it names file and row.
RMJ_MUST_USE enum rmj_status rmj_data_show(const struct rmj_data_show_options *options, FILE *out,
                                           struct rmj_error *err);

#endif
