// The gate: pure functions from raw scores to a report, and from a report and thresholds to a verdict. No I/O, no
// clock.
#ifndef RMJ_SERVICE_GATE_GATE_H
#define RMJ_SERVICE_GATE_GATE_H

#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"

// The six categories in the order of every table.
struct rmj_category {
    const char *key;    // "precise_if"
    const char *subset; // "Precise IF", as in the benchmark
    int is_ties;
};
#define RMJ_CATEGORY_COUNT 6
extern const struct rmj_category rmj_categories[RMJ_CATEGORY_COUNT];

// RewardBench 2's own scoring, exactly (reference and edge cases: service/gate/README.md). Credit of one best-of-n row.
double rmj_rb2_row_credit(const double *scores, size_t count);
struct rmj_rb2_ties_row {
    const char *id; // "tied:N" or "ref:N"
    size_t correct_count, count;
    const double *scores;
};
// *score NaN when undefined (no complete pair). RMJ_DATA, naming the prompt, where the benchmark's own code raises.
RMJ_MUST_USE enum rmj_status rmj_rb2_ties(const struct rmj_rb2_ties_row *rows, size_t count, double *score,
                                          struct rmj_error *err);

// Everything the report says about scores; digests are the caller's to fill in. Made with protobuf-c's allocator.
RMJ_MUST_USE enum rmj_status rmj_report_from_rows(const Rmjob__V1__ScoredRows *rows, Rmjob__V1__EvalReport **report,
                                                  struct rmj_error *err);
// RewardBench 2's own score files (eval-set-scores, flat or nested; NaN and Infinity accepted) and its metrics file
// (eval-set): RMJ_DATA names what is wrong.
RMJ_MUST_USE enum rmj_status rmj_report_from_rb2_file(const char *text, size_t size, const char *file,
                                                      Rmjob__V1__EvalReport **report, struct rmj_error *err);

// The thresholds in force: the spec's, or the policy's where the spec is silent. Findings (added to `reply`): under the
// policy's floor, over 1, at or under chance for the five accuracy categories, missing.
void rmj_gate_check_spec(const Rmjob__V1__GateSpec *gate, const Rmjob__V1__GateSpec *floors,
                         Rmjob__V1__ValidateResponse *reply);
// previous: the report of the model the alias serves now, NULL when there is none. floors may be NULL.
Rmjob__V1__GateVerdict *rmj_gate_decide(const Rmjob__V1__EvalReport *report, const Rmjob__V1__GateSpec *gate,
                                        const Rmjob__V1__GateSpec *floors, const Rmjob__V1__EvalReport *previous);

// For people: the table of DESIGN section 12 ("GATE FAILED ..." or "GATE PASSED ..."), and the whole report.
void rmj_gate_print(const Rmjob__V1__GateVerdict *verdict, const char *model, const char *job, int colour,
                    struct rmj_buf *out);
void rmj_report_print(const Rmjob__V1__JobReport *report, int colour, struct rmj_buf *out);
// `{"categories":{"factuality":{"score":x},...}}`; absent categories left out, undefined scores null.
void rmj_report_categories_json(const Rmjob__V1__EvalReport *report, struct rmj_buf *out);
// README.md of the artifact, and rmjob.json (lineage, data digests, report).
void rmj_model_card(const Rmjob__V1__JobReport *report, const char *name, uint32_t version, struct rmj_buf *out);
void rmj_lineage_json(const Rmjob__V1__JobReport *report, const char *name, uint32_t version, struct rmj_buf *out);

#endif
