// What a preparation has done so far, written now and then beside its spool, so that one that was killed goes on where
// it was. A journal speaks for one spec, one base model's tokenizer, one version, and files that have not changed
// since.
#ifndef RMJ_TRAINER_DATA_JOURNAL_H
#define RMJ_TRAINER_DATA_JOURNAL_H

#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"
#include "trainer/data/contract.h"
#include "trainer/data/sources.h"

struct rmj_journal {
    const char *directory;      // NULL: none is kept
    struct rmj_digest identity; // of everything that must be the same
    int64_t interval_ms;
    int64_t written_ms; // when it was last written
};

// What must be the same for a journal to be of the same work: a study's records name held-out rows and prompts of the
// benchmark by their numbers, so these count too.
struct rmj_journal_options {
    const char *directory; // NULL: none is kept
    const struct rmj_digest *spec, *companions, *benchmark;
    const struct rmj_sources *train, *heldout; // by their sizes and times
    int64_t interval_ms;                       // 0 for the usual one
};
void rmj_journal_init(struct rmj_journal *journal, const struct rmj_journal_options *options);
// Where a former run of the same work was: files before *file are done, and *rows rows of it. Fills the contract's
// report, sums and seen pairs, and makes the spool; RMJ_NOT_FOUND when there is nothing to go on with.
RMJ_MUST_USE enum rmj_status rmj_journal_resume(const struct rmj_journal *journal, struct rmj_contract *contract,
                                                size_t *file, uint64_t *rows, struct rmj_error *err);
// Called between rows: writes every few seconds. Nothing is written once an error was found.
RMJ_MUST_USE enum rmj_status rmj_journal_write(struct rmj_journal *journal, const struct rmj_contract *contract,
                                               size_t file, uint64_t rows, struct rmj_error *err);

#endif
