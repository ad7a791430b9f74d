// Shared by the whole-set stage and the check of a spec; and what tests call to fix the number of threads.
#ifndef RMJ_TRAINER_DATA_PREPARE_INTERNAL_H
#define RMJ_TRAINER_DATA_PREPARE_INTERNAL_H

#include "trainer/data/examples.h"
#include "trainer/data/findings.h"
#include "trainer/data/inputs.h"
#include "trainer/data/prepare.h"
#include "trainer/data/sources.h"

// resources.threads, else the machine's cores, at most 16.
size_t rmj_prepare_thread_count(const Rmjob__V1__JobSpec *spec);
// What template, date, pad token and loss it will be, for people, and the template's digest.
void rmj_prepare_say_rendering(Rmjob__V1__PlanSummary *summary, const struct rmj_inputs *inputs);
// Exit class of a failed read.
unsigned rmj_prepare_exit_code(enum rmj_status status);
// Files of a list of the spec; name is "data.train" or "data.heldout". What cannot be listed becomes a finding.
void rmj_prepare_add_sources(struct rmj_sources *sources, Rmjob__V1__DataSource *const *list, size_t count,
                             const char *name, struct rmj_findings *findings);
// The name of the file's source goes to the report.
void rmj_prepare_name_file(Rmjob__V1__DataFileReport *report, const struct rmj_source_file *file);
// Fetches and reads one file; what is wrong with it as a whole becomes a finding under its field.
struct rmj_prepare_read {
    struct rmj_sources *sources;
    size_t index;
    const struct rmj_renderer *renderer;
    struct rmj_pool *pool;
    uint64_t row_limit, skip_rows; // these and study, keep_prompts as of struct rmj_examples_options
    const struct rmj_study *study;
    int keep_prompts;
    rmj_example_fn each;
    void *context;
    struct rmj_digest *digest; // may be NULL
    struct rmj_findings *findings;
};
RMJ_MUST_USE enum rmj_status rmj_prepare_read_file(const struct rmj_prepare_read *read, struct rmj_error *err);

// An rmj_example_fn: rows that cannot be used become findings.
struct rmj_prepare_heldout {
    struct rmj_findings *findings;
    const char *field;
    uint64_t rows;
};
RMJ_MUST_USE enum rmj_status rmj_prepare_check_heldout(void *heldout, const struct rmj_example *example,
                                                       struct rmj_error *err);

#endif
