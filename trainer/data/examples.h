// Reads preference files into tokens: rows are parsed, rendered and tokenized by a pool, and handed over in row order,
// so that what comes out does not depend on how many threads there are.
#ifndef RMJ_TRAINER_DATA_EXAMPLES_H
#define RMJ_TRAINER_DATA_EXAMPLES_H

#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "storage/digest.h"
#include "trainer/data/rows.h"
#include "trainer/data/study.h"
#include "trainer/data/template.h"

// One pair: of a row with several rejected sides, one of its pairs; in their order, right after each other. Everything
// in it is valid during the call that hands it over.
struct rmj_example {
    uint64_t row;                       // from 1
    uint32_t rejected_index;            // which rejected side of the row, from 0
    uint32_t rejected_count;            // of the row; 1 for a row that cannot be used
    enum rmj_status status;             // RMJ_OK, or why the row cannot be used: see err
    struct rmj_error err;               // "file:row: ..."
    struct rmj_tokens chosen, rejected; // whole sequences
    float margin;
    int has_margin;
    int empty_side;
    uint32_t special_count; // special tokens inside what both sides hold
    int has_prompt_key;
    uint8_t prompt_key[RMJ_PROMPT_KEY_SIZE];
    struct rmj_sketch sketch;     // with options.study
    const struct rmj_buf *prompt; // with options.keep_prompts
};

struct rmj_examples_options {
    const char *path;             // where the file lies
    const char *name;             // what messages call it
    struct rmj_row_format format; // how rows are read
    const struct rmj_renderer *renderer;
    struct rmj_pool *pool;
    uint64_t row_limit;            // stop after this row; 0: read all
    uint64_t skip_rows;            // so many at the start are read for the digest and not handed over
    const struct rmj_study *study; // sketches are made against its references; NULL: none are made
    int keep_prompts;
};

typedef enum rmj_status (*rmj_example_fn)(void *context, const struct rmj_example *example, struct rmj_error *err);

// RMJ_DATA when the file as a whole cannot be read on (no rows, a broken stream, a line over the bound), or the first
// failure of `each`. digest (of the stored bytes; NULL when not wanted) needs row_limit 0.
RMJ_MUST_USE enum rmj_status rmj_examples_read(const struct rmj_examples_options *options, rmj_example_fn each,
                                               void *context, struct rmj_digest *digest, struct rmj_error *err);

#endif
