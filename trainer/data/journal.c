#include "trainer/data/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/version.h"

#define FILE_NAME "journal"
#define MAGIC "RMJPREP1"
#define SIZE_MAX_BYTES ((size_t)256 << 20)
// A kill costs so much work at most; each write costs two syncs.
#define INTERVAL_MS_DEFAULT 5000

// Followed by the packed DataReport.
struct journal_head {
    char magic[8];
    struct rmj_digest identity;
    uint64_t file, rows;
    uint64_t token_count;
    uint32_t pair_count;
    uint32_t report_size;
    struct rmj_contract_sums sums;
    struct rmj_digest report_digest; // of the packed report and of this head with zeros here
};

static void add_files(struct rmj_sha256 *sha, const struct rmj_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        struct rmj_source_stamp stamp = rmj_sources_stamp(sources, i);
        const char *name = sources->files[i].name;
        rmj_sha256_update(sha, name, strlen(name) + 1);
        rmj_sha256_update(sha, &stamp, sizeof stamp);
    }
}

void rmj_journal_init(struct rmj_journal *journal, const struct rmj_journal_options *options)
{
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    rmj_sha256_update(&sha, RMJ_VERSION, sizeof RMJ_VERSION);
    rmj_sha256_update(&sha, options->spec->bytes, sizeof options->spec->bytes);
    rmj_sha256_update(&sha, options->companions->bytes, sizeof options->companions->bytes);
    rmj_sha256_update(&sha, options->benchmark->bytes, sizeof options->benchmark->bytes);
    add_files(&sha, options->train);
    add_files(&sha, options->heldout);
    *journal =
        (struct rmj_journal){.directory = options->directory,
                             .interval_ms = options->interval_ms > 0 ? options->interval_ms : INTERVAL_MS_DEFAULT,
                             .written_ms = rmj_clock_mono_ms()};
    rmj_sha256_final(&sha, &journal->identity);
}

static void digest_of(const struct journal_head *head, const void *report, struct rmj_digest *digest)
{
    struct journal_head copy = *head;
    struct rmj_sha256 sha;
    memset(&copy.report_digest, 0, sizeof copy.report_digest);
    rmj_sha256_init(&sha);
    rmj_sha256_update(&sha, &copy, sizeof copy);
    rmj_sha256_update(&sha, report, head->report_size);
    rmj_sha256_final(&sha, digest);
}

// 1 when the bytes are a whole journal of this work.
static int holds(const struct rmj_journal *journal, const struct rmj_buf *bytes, struct journal_head *head)
{
    struct rmj_digest digest;
    if (bytes->size < sizeof *head) {
        return 0;
    }
    memcpy(head, bytes->bytes, sizeof *head);
    if (memcmp(head->magic, MAGIC, sizeof head->magic) != 0 || bytes->size - sizeof *head != head->report_size ||
        !rmj_digest_equal(&head->identity, &journal->identity)) {
        return 0;
    }
    digest_of(head, bytes->bytes + sizeof *head, &digest);
    return rmj_digest_equal(&digest, &head->report_digest);
}

static enum rmj_status take_over(struct rmj_contract *contract, const struct journal_head *head, const char *packed,
                                 const char *directory, struct rmj_error *err)
{
    Rmjob__V1__DataReport *report = rmjob__v1__data_report__unpack(NULL, head->report_size, (const uint8_t *)packed);
    if (report == NULL) {
        return rmj_fail(err, RMJ_NOT_FOUND, "the journal's report cannot be read");
    }
    struct rmj_spool *spool = NULL;
    enum rmj_status status = rmj_spool_resume(&spool, directory, head->pair_count, head->token_count, err);
    if (status == RMJ_OK) {
        status = rmj_seen_fill(&contract->seen, spool, err);
    }
    if (status != RMJ_OK) {
        rmj_spool_close(spool);
        rmjob__v1__data_report__free_unpacked(report, NULL);
        return status;
    }
    contract->options.spool = spool;
    rmj_contract_restore(contract, report, &head->sums);
    return RMJ_OK;
}

enum rmj_status rmj_journal_resume(const struct rmj_journal *journal, struct rmj_contract *contract, size_t *file,
                                   uint64_t *rows, struct rmj_error *err)
{
    if (journal->directory == NULL) {
        return rmj_fail(err, RMJ_NOT_FOUND, "no journal is kept");
    }
    struct rmj_buf bytes;
    struct journal_head head;
    char *path = rmj_fs_join(journal->directory, FILE_NAME);
    rmj_buf_init(&bytes, SIZE_MAX_BYTES);
    enum rmj_status status = path == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path") : RMJ_OK;
    if (status == RMJ_OK && (rmj_fs_read(path, &bytes, NULL) != RMJ_OK || !holds(journal, &bytes, &head))) {
        status = rmj_fail(err, RMJ_NOT_FOUND, "there is no journal of this work");
    }
    if (status == RMJ_OK) {
        *file = head.file;
        *rows = head.rows;
        status = take_over(contract, &head, bytes.bytes + sizeof head, journal->directory, err);
    }
    rmj_buf_deinit(&bytes);
    free(path);
    return status;
}

static enum rmj_status write_now(const struct rmj_journal *journal, const struct rmj_contract *contract, size_t file,
                                 uint64_t rows, struct rmj_error *err)
{
    size_t size = rmjob__v1__data_report__get_packed_size(contract->report);
    struct journal_head head = {.identity = journal->identity,
                                .file = file,
                                .rows = rows,
                                .token_count = rmj_spool_token_count(contract->options.spool),
                                .pair_count = rmj_spool_pair_count(contract->options.spool),
                                .report_size = (uint32_t)size,
                                .sums = contract->sums};
    memcpy(head.magic, MAGIC, sizeof head.magic);
    char *path = rmj_fs_join(journal->directory, FILE_NAME), *bytes = malloc(sizeof head + size);
    if (path == NULL || bytes == NULL) {
        free(path);
        free(bytes);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a journal");
    }
    rmjob__v1__data_report__pack(contract->report, (uint8_t *)bytes + sizeof head);
    digest_of(&head, bytes + sizeof head, &head.report_digest);
    memcpy(bytes, &head, sizeof head);
    // What the journal speaks of must be on disk before the journal is.
    enum rmj_status status = rmj_spool_sync(contract->options.spool, err);
    if (status == RMJ_OK && contract->options.study != NULL) {
        status = rmj_study_sync(contract->options.study, err);
    }
    if (status == RMJ_OK) {
        status = rmj_fs_write(path, bytes, sizeof head + size, 0600, err);
    }
    free(path);
    free(bytes);
    return status;
}

enum rmj_status rmj_journal_write(struct rmj_journal *journal, const struct rmj_contract *contract, size_t file,
                                  uint64_t rows, struct rmj_error *err)
{
    int64_t now = rmj_clock_mono_ms();
    if (journal->directory == NULL || contract->findings->error_count > 0 ||
        now - journal->written_ms < journal->interval_ms) {
        return RMJ_OK;
    }
    RMJ_TRY(write_now(journal, contract, file, rows, err));
    journal->written_ms = rmj_clock_mono_ms(); // after the write, or a slow disk would do nothing else
    (void)rmj_fault_point("prepare");
    return RMJ_OK;
}
