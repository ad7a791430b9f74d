#include "trainer/data/lineage.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "storage/digest.h"
#include "trainer/data/contract.h"

#define FILE_SIZE_MAX (sizeof(struct rmj_lineage_header) + RMJ_LINEAGE_PAIR_COUNT_MAX * sizeof(uint64_t))

uint64_t rmj_lineage_pair_id(const struct rmj_tokens *chosen, const struct rmj_tokens *rejected)
{
    uint32_t counts[2] = {(uint32_t)chosen->count, (uint32_t)rejected->count};
    struct rmj_sha256 sha;
    struct rmj_digest digest;
    uint64_t id;
    rmj_sha256_init(&sha);
    rmj_sha256_update(&sha, counts, sizeof counts);
    rmj_sha256_update(&sha, chosen->ids, chosen->count * sizeof *chosen->ids);
    rmj_sha256_update(&sha, rejected->ids, rejected->count * sizeof *rejected->ids);
    rmj_sha256_final(&sha, &digest);
    memcpy(&id, digest.bytes, sizeof id);
    return id;
}

static enum rmj_status damaged(struct rmj_error *err, const char *path, const char *what)
{
    return rmj_fail(err, RMJ_DATA, "%s is damaged: %s: take the base model's directory as it was pulled", path, what);
}

static enum rmj_status parse(struct rmj_lineage *lineage, const char *path, struct rmj_error *err)
{
    struct rmj_lineage_header header;
    if (lineage->bytes.size < sizeof header) {
        return damaged(err, path, "shorter than its header");
    }
    memcpy(&header, lineage->bytes.bytes, sizeof header);
    if (memcmp(header.magic, RMJ_LINEAGE_MAGIC, sizeof header.magic) != 0 || header.zero != 0) {
        return damaged(err, path, "not a list of pairs");
    }
    if (header.version != RMJ_LINEAGE_VERSION) {
        return rmj_fail(err, RMJ_DATA, "%s has version %u; this build reads %u", path, header.version,
                        RMJ_LINEAGE_VERSION);
    }
    if (header.count > RMJ_LINEAGE_PAIR_COUNT_MAX ||
        lineage->bytes.size != sizeof header + header.count * sizeof *lineage->ids) {
        return damaged(err, path, "its size is not that of its pairs");
    }
    const uint64_t *ids = (const void *)(lineage->bytes.bytes + sizeof header);
    for (uint64_t i = 1; i < header.count; i++) {
        if (ids[i - 1] >= ids[i]) {
            return damaged(err, path, "its pairs do not ascend");
        }
    }
    lineage->ids = ids;
    lineage->count = header.count;
    return RMJ_OK;
}

enum rmj_status rmj_lineage_open(struct rmj_lineage *lineage, const char *directory, struct rmj_error *err)
{
    *lineage = (struct rmj_lineage){0};
    rmj_buf_init(&lineage->bytes, FILE_SIZE_MAX);
    char *path = rmj_fs_join(directory, RMJ_LINEAGE_FILE), *card = rmj_fs_join(directory, "rmjob.json");
    enum rmj_status status = RMJ_OK;
    if (path == NULL || card == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    } else if (rmj_fs_exists(path)) {
        RMJ_GO(rmj_fs_read(path, &lineage->bytes, err));
        RMJ_GO(parse(lineage, path, err));
    } else if (rmj_fs_exists(card)) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s is there, but not %s, which says what pairs the model was trained on: take the directory "
                          "as it was pulled",
                          card, RMJ_LINEAGE_FILE);
    }
out:
    free(path);
    free(card);
    return status;
}

void rmj_lineage_deinit(struct rmj_lineage *lineage)
{
    rmj_buf_deinit(&lineage->bytes);
    *lineage = (struct rmj_lineage){0};
}

static int by_id(const void *a, const void *b)
{
    uint64_t first, second;
    memcpy(&first, a, sizeof first);
    memcpy(&second, b, sizeof second);
    return (first > second) - (first < second);
}

int rmj_lineage_has(const struct rmj_lineage *lineage, uint64_t id)
{
    return lineage->count > 0 && bsearch(&id, lineage->ids, lineage->count, sizeof *lineage->ids, by_id) != NULL;
}

struct looking_up {
    const struct rmj_lineage *lineage;
    struct rmj_plan_pair first;
    uint32_t seen;
};

static enum rmj_status look_up_pair(void *context, uint32_t index, const struct rmj_spool_record *record,
                                    struct rmj_error *err)
{
    struct looking_up *looking = context;
    (void)index, (void)err;
    if (rmj_lineage_has(looking->lineage, record->pair.lineage_id)) {
        looking->first = looking->seen == 0 ? record->pair : looking->first;
        looking->seen++;
    }
    return RMJ_OK;
}

static enum rmj_status look_up(const struct rmj_lineage *lineage, const struct rmj_contract *contract, const char *what,
                               struct rmj_error *err)
{
    struct looking_up looking = {.lineage = lineage};
    uint32_t count = rmj_spool_pair_count(contract->options.spool);
    if (lineage->count > 0) {
        RMJ_TRY(rmj_spool_each(contract->options.spool, look_up_pair, &looking, err));
        contract->report->has_lineage_overlap = 1;
        contract->report->lineage_overlap = looking.seen;
    }
    if (looking.seen > 0) {
        rmj_findings_error(contract->findings, "data.train", RMJ_EXIT_DATA,
                           "%u of %u %s are in the lineage of the base model; reward models see a pair once: first "
                           "%s:%llu; leave them out or start from another base",
                           looking.seen, count, what, contract->report->files[looking.first.file]->path,
                           (unsigned long long)looking.first.row);
    }
    if (lineage->count + count > RMJ_LINEAGE_PAIR_COUNT_MAX) {
        rmj_findings_error(
            contract->findings, "data.train", RMJ_EXIT_DATA,
            "the base model was trained on %llu pairs; with %u more its lineage is over %llu: start from "
            "another base",
            (unsigned long long)lineage->count, count, (unsigned long long)RMJ_LINEAGE_PAIR_COUNT_MAX);
    }
    return RMJ_OK;
}

enum rmj_status rmj_lineage_check(const char *base, const struct rmj_contract *contract, const char *what,
                                  struct rmj_error *err)
{
    struct rmj_lineage lineage;
    struct rmj_error own = {0};
    enum rmj_status status = rmj_lineage_open(&lineage, base, &own);
    if (status == RMJ_OK) {
        status = look_up(&lineage, contract, what, err);
    } else {
        status = rmj_findings_take(contract->findings, "base_model", RMJ_EXIT_DATA, &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
    }
    rmj_lineage_deinit(&lineage);
    return status;
}

// Ascending, each once; returns how many are left.
static uint64_t sort_unique(uint64_t *ids, uint64_t count)
{
    uint64_t kept = 0;
    qsort(ids, count, sizeof *ids, by_id);
    for (uint64_t i = 0; i < count; i++) {
        if (kept == 0 || ids[kept - 1] != ids[i]) {
            ids[kept++] = ids[i];
        }
    }
    return kept;
}

enum rmj_status rmj_lineage_write(const struct rmj_plan *plan, const char *base, const char *directory,
                                  struct rmj_error *err)
{
    struct rmj_lineage lineage;
    struct rmj_lineage_header header = {.version = RMJ_LINEAGE_VERSION};
    uint64_t own = rmj_plan_info(plan)->pair_count;
    char *bytes = NULL, *path = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_lineage_open(&lineage, base, err));
    if (lineage.count + own > RMJ_LINEAGE_PAIR_COUNT_MAX) { // the file was changed after the job was prepared
        status = rmj_fail(err, RMJ_DATA, "a lineage of %llu pairs is over %llu",
                          (unsigned long long)(lineage.count + own), (unsigned long long)RMJ_LINEAGE_PAIR_COUNT_MAX);
        goto out;
    }
    path = rmj_fs_join(directory, RMJ_LINEAGE_FILE);
    bytes = malloc(sizeof header + (lineage.count + own) * sizeof(uint64_t));
    if (path == NULL || bytes == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a lineage of %llu pairs",
                          (unsigned long long)(lineage.count + own));
        goto out;
    }
    uint64_t *ids = (void *)(bytes + sizeof header);
    for (uint64_t i = 0; i < own; i++) {
        ids[i] = rmj_plan_pair_lineage_id(plan, i);
    }
    if (lineage.count > 0) {
        memcpy(ids + own, lineage.ids, lineage.count * sizeof *ids);
    }
    memcpy(header.magic, RMJ_LINEAGE_MAGIC, sizeof header.magic);
    header.count = sort_unique(ids, lineage.count + own);
    memcpy(bytes, &header, sizeof header);
    RMJ_GO(rmj_fs_write(path, bytes, sizeof header + header.count * sizeof *ids, 0644, err));
out:
    free(bytes);
    free(path);
    rmj_lineage_deinit(&lineage);
    return status;
}
