// `rmjob model verify`: a model's scores, loss, gradients and parameters after some steps, computed as training does
// (packs with shared prefixes, integer sums, AdamW by pages), against what another program computed for the same pairs.
//
// batch.json holds pairs of token ids with margins, the loss and gradient norm of every step, and the optimizer;
// expected.safetensors holds "scores" (chosen sides, then rejected), "grad.NAME" of the first step before clipping,
// "afterN.NAME" and "scores_after_N_steps" for N steps. See README.md.
#ifndef RMJ_TRAINER_RUN_VERIFY_H
#define RMJ_TRAINER_RUN_VERIFY_H

#include <stddef.h>
#include <stdio.h>

#include "base/status.h"

#define RMJ_VERIFY_TOLERANCE 1e-5

struct rmj_verify_options {
    const char *directory, *batch, *expected;
    double tolerance;    // of scores, first loss and gradients; ten times that for parameters after the steps, a
                         // hundred times for the scores and losses that follow from them
    size_t thread_count; // 0: one a core; the result does not depend on it
    int all;             // print every comparison
    int json, colour;
};

// Prints the comparison. RMJ_DATA with an empty message: printed, but not equal. Other failures say what is wrong.
RMJ_MUST_USE enum rmj_status rmj_verify(const struct rmj_verify_options *options, FILE *out, struct rmj_error *err);

#endif
