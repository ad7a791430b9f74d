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
#include "trainer/data/seen.h"
#include "trainer/data/spool.h"

// Examples in the report: of each kind, so that a frequent one does not hide the others.
#define RMJ_ISSUES_PER_KIND_MAX 12u

struct rmj_contract_options {
    uint32_t max_length;
    int over_length; // Rmjob__V1__OverLength
    int use_margin;
    int32_t bos; // -1 for none; truncation keeps it
    int refuse_duplicates;
    const struct rmj_benchmark *benchmark; // NULL: contamination is not looked for
    struct rmj_spool *spool;               // where accepted pairs go; the caller's
    struct rmj_study *study;               // gets every accepted pair; NULL for none
};

// Sums behind the report's means. Kept in the journal as they are.
struct rmj_contract_sums {
    uint64_t chosen_tokens, rejected_tokens, prefix_tokens, chosen_longer;
    uint64_t special_rows, unused_margins;
    uint32_t issue_counts[8]; // by kind, examples given
};

struct rmj_contract {
    struct rmj_contract_options options;
    struct rmj_findings *findings;
    Rmjob__V1__DataReport *report;
    struct rmj_seen seen; // pairs of the spool by content
    int32_t *tokens;      // one pair, as it is laid out
    size_t token_room;
    uint8_t (*prompt_keys)[RMJ_PROMPT_KEY_SIZE]; // of the benchmark, sorted
    size_t prompt_key_count;
    struct rmj_contract_sums sums;
    // The file that is being read.
    const char *file_name, *file_field;
    uint32_t rejected_index, rejected_count; // of the pair that is taken
    Rmjob__V1__DataFileReport *file;
};

// 1 when both sides begin with a BOS; a template may write none.
size_t rmj_contract_begins_with_bos(const struct rmj_contract_options *options, const struct rmj_example *example);
// 1 when the pair is not over the length, or can be cut: *cut tokens that both sides share, right after the BOS.
int rmj_contract_fit(const struct rmj_contract_options *options, const struct rmj_example *example, size_t *cut);

void rmj_contract_init(struct rmj_contract *contract, const struct rmj_contract_options *options,
                       struct rmj_findings *findings);
void rmj_contract_deinit(struct rmj_contract *contract);
// Goes on where a killed preparation was: report (taken over), sums; the spool and the seen pairs are in place.
void rmj_contract_restore(struct rmj_contract *contract, Rmjob__V1__DataReport *report,
                          const struct rmj_contract_sums *sums);
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
