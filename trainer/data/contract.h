// The data contract over a whole set (DESIGN section 5): what is kept, what is dropped and counted, what is reported.
// Rows go in in file order; pairs, laid out for the plan, and a data report come out.
#ifndef RMJ_TRAINER_DATA_CONTRACT_H
#define RMJ_TRAINER_DATA_CONTRACT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "trainer/data/benchmark.h"
#include "trainer/data/examples.h"
#include "trainer/data/findings.h"
#include "trainer/data/plan_format.h"

// Examples in the report: of each kind, so that a frequent one does not hide the others.
#define RMJ_ISSUES_PER_KIND_MAX 12u

struct rmj_contract_options {
    uint32_t max_length;
    int over_length; // Rmjob__V1__OverLength
    int use_margin;
    int32_t bos;                           // -1 for none; truncation keeps it
    const struct rmj_benchmark *benchmark; // NULL: contamination is not looked for
};

struct rmj_contract {
    struct rmj_contract_options options;
    struct rmj_findings *findings;
    Rmjob__V1__DataReport *report;
    // Accepted pairs in reading order, rows in `tokens`.
    struct rmj_plan_pair *pairs;
    uint64_t *first_tokens;
    uint32_t pair_count;
    size_t pair_room;
    int32_t *tokens;
    size_t token_count, token_room;
    // Content keys of accepted pairs, and an open-addressing table of pair numbers + 1 by key.
    uint8_t (*keys)[RMJ_DIGEST_SIZE];
    uint32_t *table;
    size_t table_size;
    uint8_t (*prompt_keys)[RMJ_PROMPT_KEY_SIZE]; // of the benchmark, sorted
    size_t prompt_key_count;
    // Sums behind the report's means.
    uint64_t chosen_tokens, rejected_tokens, prefix_tokens, chosen_longer;
    uint64_t special_rows, unused_margins;
    uint32_t issue_counts[8]; // by kind, examples given
    // The file that is being read.
    const char *file_name, *file_field;
    Rmjob__V1__DataFileReport *file;
};

void rmj_contract_init(struct rmj_contract *contract, const struct rmj_contract_options *options,
                       struct rmj_findings *findings);
void rmj_contract_deinit(struct rmj_contract *contract);
// Following rows are of this file. The names are copied.
void rmj_contract_begin_file(struct rmj_contract *contract, const char *name, const char *field);
// An rmj_example_fn; context is the contract. Fails only where the set does not fit a plan.
RMJ_MUST_USE enum rmj_status rmj_contract_take(void *contract, const struct rmj_example *example,
                                               struct rmj_error *err);
// Sums, means and warnings. Names of the files as the plan needs them: report->files[i]->path.
void rmj_contract_finish(struct rmj_contract *contract);
// Of a whole set, after the finish: an error when more than half of its rows (of 16 at least) repeat earlier ones.
void rmj_contract_check_duplicates(const struct rmj_contract *contract);

#endif
