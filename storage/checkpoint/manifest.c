#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/keys.h"

#define STEP_DIGITS 8
#define STEP_COUNT_MAX 100000000u // what eight digits hold

static enum rmj_status manifest_key(char *key, const char *prefix, uint32_t step, struct rmj_error *err)
{
    char name[32];
    if (step >= STEP_COUNT_MAX) {
        return rmj_fail(err, RMJ_INVALID, "step %u is over the eight digits of a manifest's name", step);
    }
    snprintf(name, sizeof name, "%08u.json", step);
    return checkpoint_key(key, prefix, "manifest", name, err);
}

// ---- commit --------------------------------------------------------------------------------------------------------

// Names the first thing in which two manifests of one step differ.
static void first_difference(const struct rmj_manifest *ours, const struct rmj_manifest *theirs, char *out, size_t size)
{
    const struct {
        const char *name;
        const char *ours;
        const char *theirs;
    } texts[] = {
        {"job", ours->job_uid, theirs->job_uid},
        {"spec", ours->spec, theirs->spec},
        {"plan", ours->plan, theirs->plan},
        {"consumed sum", ours->consumed_sum, theirs->consumed_sum},
        {"consumed chain", ours->consumed_chain, theirs->consumed_chain},
    };
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        if (strcmp(texts[i].ours, texts[i].theirs) != 0) {
            snprintf(out, size, "%s is %s here and %s there", texts[i].name, texts[i].ours, texts[i].theirs);
            return;
        }
    }
    if (ours->pairs_consumed != theirs->pairs_consumed) {
        snprintf(out, size, "pairs consumed are %" PRIu64 " here and %" PRIu64 " there", ours->pairs_consumed,
                 theirs->pairs_consumed);
        return;
    }
    if (ours->page_count != theirs->page_count) {
        snprintf(out, size, "there are %zu pages here and %zu there", ours->page_count, theirs->page_count);
        return;
    }
    char here[RMJ_DIGEST_HEX_SIZE], there[RMJ_DIGEST_HEX_SIZE];
    for (size_t i = 0; i < ours->page_count; i++) {
        if (!rmj_digest_equal(&ours->pages[i].digest, &theirs->pages[i].digest)) {
            rmj_digest_hex(&ours->pages[i].digest, here);
            rmj_digest_hex(&theirs->pages[i].digest, there);
            snprintf(out, size, "page %zu is %s here and %s there", i, here, there);
            return;
        }
        if (ours->pages[i].raw_size != theirs->pages[i].raw_size) {
            snprintf(out, size, "page %zu has another size", i);
            return;
        }
    }
    rmj_digest_hex(&ours->state, here);
    rmj_digest_hex(&theirs->state, there);
    snprintf(out, size, "trainer state is %s here and %s there", here, there);
}

static enum rmj_status compare_committed(struct rmj_store *store, const char *key, const struct rmj_manifest *ours,
                                         const struct rmj_buf *bytes, struct rmj_error *err)
{
    struct rmj_buf found;
    rmj_buf_init(&found, MANIFEST_SIZE_BYTES_MAX);
    struct rmj_manifest theirs = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_store_get(store, key, &found, err));
    if (found.size == bytes->size && memcmp(found.bytes, bytes->bytes, found.size) == 0) {
        goto out;
    }
    status = rmj_manifest_decode(&theirs, rmj_buf_text(&found), found.size, err);
    if (status != RMJ_OK) {
        rmj_context(err, "%s is committed already and cannot be read", key);
        goto out;
    }
    char difference[256];
    first_difference(ours, &theirs, difference, sizeof difference);
    status = rmj_fail(err, RMJ_CONFLICT, "determinism violation at step %u: %s was committed with other content: %s",
                      ours->step, key, difference);
out:
    rmj_manifest_deinit(&theirs);
    rmj_buf_deinit(&found);
    return status;
}

enum rmj_status rmj_manifest_commit(struct rmj_store *store, const char *prefix, const struct rmj_manifest *manifest,
                                    struct rmj_digest *digest, struct rmj_error *err)
{
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(manifest_key(key, prefix, manifest->step, err));
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, MANIFEST_SIZE_BYTES_MAX);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_manifest_encode(manifest, &bytes, err));
    rmj_sha256_of(bytes.bytes, bytes.size, digest);
    status = rmj_store_put(store, key, bytes.bytes, bytes.size, RMJ_PUT_IF_ABSENT, digest, err);
    if (status == RMJ_CONFLICT) {
        rmj_error_clear(err);
        status = compare_committed(store, key, manifest, &bytes, err);
    }
out:
    rmj_buf_deinit(&bytes);
    return status;
}

enum rmj_status rmj_manifest_read(struct rmj_store *store, const char *prefix, uint32_t step,
                                  struct rmj_manifest *manifest, struct rmj_digest *digest, struct rmj_error *err)
{
    *manifest = (struct rmj_manifest){0};
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(manifest_key(key, prefix, step, err));
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, MANIFEST_SIZE_BYTES_MAX);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_store_get(store, key, &bytes, err));
    status = rmj_manifest_decode(manifest, rmj_buf_text(&bytes), bytes.size, err);
    if (status == RMJ_OK && manifest->step != step) {
        status = rmj_fail(err, RMJ_CORRUPT, "the manifest is of step %u", manifest->step);
        rmj_manifest_deinit(manifest);
    }
    if (status != RMJ_OK) {
        rmj_context(err, "%s", key);
        goto out;
    }
    if (digest != NULL) {
        rmj_sha256_of(bytes.bytes, bytes.size, digest);
    }
out:
    rmj_buf_deinit(&bytes);
    return status;
}

// ---- list ----------------------------------------------------------------------------------------------------------

struct step_list {
    size_t prefix_size;
    uint32_t *steps;
    size_t count;
    size_t room;
};

static enum rmj_status add_step(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                struct rmj_error *err)
{
    (void)size;
    (void)modified_unix_ms;
    struct step_list *list = context;
    const char *name = key + list->prefix_size;
    if (strspn(name, "0123456789") != STEP_DIGITS || strcmp(name + STEP_DIGITS, ".json") != 0) {
        return RMJ_OK; // not a manifest
    }
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 64 : 2 * list->room;
        uint32_t *steps = realloc(list->steps, room * sizeof *steps);
        if (steps == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory to list manifests");
        }
        list->steps = steps;
        list->room = room;
    }
    list->steps[list->count++] = (uint32_t)strtoul(name, NULL, 10);
    return RMJ_OK;
}

enum rmj_status rmj_manifest_list(struct rmj_store *store, const char *prefix, uint32_t **steps, size_t *count,
                                  struct rmj_error *err)
{
    *steps = NULL;
    *count = 0;
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(checkpoint_key(key, prefix, "manifest", "", err));
    struct step_list list = {.prefix_size = strlen(key)};
    // Keys come sorted, and eight digits sort as their numbers do.
    enum rmj_status status = rmj_store_list(store, key, add_step, &list, err);
    if (status != RMJ_OK) {
        free(list.steps);
        return status;
    }
    *steps = list.steps;
    *count = list.count;
    return RMJ_OK;
}
