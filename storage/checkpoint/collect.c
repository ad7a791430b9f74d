// Collection in two phases: first old manifests, then what no manifest left names. In this order a kill between the two
// leaves garbage, never a manifest whose pages are gone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/keys.h"

// Digests that kept manifests name, sorted.
struct live_set {
    struct rmj_digest *digests;
    size_t count;
    size_t room;
};

// Keys to delete.
struct doomed {
    const struct live_set *live;
    size_t prefix_size;
    int64_t older_than_unix_ms;
    char **keys;
    size_t count;
    size_t room;
};

static enum rmj_status live_add(struct live_set *live, const struct rmj_digest *digest, struct rmj_error *err)
{
    if (live->count == live->room) {
        size_t room = live->room == 0 ? 256 : 2 * live->room;
        struct rmj_digest *digests = realloc(live->digests, room * sizeof *digests);
        if (digests == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory to collect checkpoints");
        }
        live->digests = digests;
        live->room = room;
    }
    live->digests[live->count++] = *digest;
    return RMJ_OK;
}

static int compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct rmj_digest));
}

static int is_live(const struct live_set *live, const struct rmj_digest *digest)
{
    return live->count > 0 &&
           bsearch(digest, live->digests, live->count, sizeof *live->digests, compare_digests) != NULL;
}

static enum rmj_status live_read(struct live_set *live, struct rmj_store *store, const char *prefix, uint32_t step,
                                 struct rmj_error *err)
{
    struct rmj_manifest manifest;
    enum rmj_status status = rmj_manifest_read(store, prefix, step, &manifest, NULL, err);
    if (status != RMJ_OK) {
        rmj_context(err, "nothing was collected below %s, for a kept manifest cannot be read", prefix);
        return status;
    }
    status = live_add(live, &manifest.state, err);
    for (size_t i = 0; i < manifest.page_count && status == RMJ_OK; i++) {
        status = live_add(live, &manifest.pages[i].digest, err);
    }
    rmj_manifest_deinit(&manifest);
    return status;
}

// Reads the manifests steps[first..count).
static enum rmj_status live_read_all(struct live_set *live, struct rmj_store *store, const char *prefix,
                                     const uint32_t *steps, size_t first, size_t count, struct rmj_error *err)
{
    live->count = 0;
    for (size_t i = first; i < count; i++) {
        RMJ_TRY(live_read(live, store, prefix, steps[i], err));
    }
    if (live->count > 0) {
        qsort(live->digests, live->count, sizeof *live->digests, compare_digests);
    }
    return RMJ_OK;
}

static enum rmj_status doom(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                            struct rmj_error *err)
{
    (void)size;
    struct doomed *doomed = context;
    struct rmj_digest digest;
    if (modified_unix_ms > doomed->older_than_unix_ms || !rmj_digest_from_hex(&digest, key + doomed->prefix_size) ||
        is_live(doomed->live, &digest)) {
        return RMJ_OK;
    }
    if (doomed->count == doomed->room) {
        size_t room = doomed->room == 0 ? 256 : 2 * doomed->room;
        char **keys = realloc(doomed->keys, room * sizeof *keys);
        if (keys == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory to collect checkpoints");
        }
        doomed->keys = keys;
        doomed->room = room;
    }
    char *copy = strdup(key);
    if (copy == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to collect checkpoints");
    }
    doomed->keys[doomed->count++] = copy;
    return RMJ_OK;
}

// A writer that met the page after it was listed has made it young again.
static enum rmj_status delete_if_still_old(struct rmj_store *store, const char *key, int64_t older_than_unix_ms,
                                           uint64_t *removed, struct rmj_error *err)
{
    int64_t modified_unix_ms;
    enum rmj_status status = rmj_store_head(store, key, NULL, &modified_unix_ms, err);
    if (status == RMJ_NOT_FOUND) {
        rmj_error_clear(err);
        return RMJ_OK;
    }
    RMJ_TRY(status);
    if (modified_unix_ms <= older_than_unix_ms) {
        RMJ_TRY(rmj_store_delete(store, key, err));
        (*removed)++;
    }
    return RMJ_OK;
}

static enum rmj_status collect_folder(struct rmj_store *store, const char *prefix, const char *folder,
                                      const struct live_set *live, int64_t older_than_unix_ms, uint64_t *removed,
                                      struct rmj_error *err)
{
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(checkpoint_key(key, prefix, folder, "", err));
    struct doomed doomed = {.live = live, .prefix_size = strlen(key), .older_than_unix_ms = older_than_unix_ms};
    enum rmj_status status = rmj_store_list(store, key, doom, &doomed, err);
    for (size_t i = 0; i < doomed.count; i++) {
        if (status == RMJ_OK) {
            status = delete_if_still_old(store, doomed.keys[i], older_than_unix_ms, removed, err);
        }
        free(doomed.keys[i]);
    }
    free(doomed.keys);
    return status;
}

static enum rmj_status delete_manifests(struct rmj_store *store, const char *prefix, const uint32_t *steps,
                                        size_t count, uint64_t *removed, struct rmj_error *err)
{
    for (size_t i = 0; i < count; i++) {
        char name[32], key[CHECKPOINT_KEY_SIZE];
        snprintf(name, sizeof name, "%08u.json", steps[i]);
        RMJ_TRY(checkpoint_key(key, prefix, "manifest", name, err));
        RMJ_TRY(rmj_store_delete(store, key, err));
        (*removed)++;
    }
    return RMJ_OK;
}

enum rmj_status rmj_checkpoint_collect(struct rmj_store *store, const char *prefix, uint32_t keep, int64_t grace_ms,
                                       uint64_t *removed, struct rmj_error *err)
{
    *removed = 0;
    int64_t older_than_unix_ms = rmj_clock_unix_ms() - grace_ms;
    uint32_t *steps = NULL;
    size_t count = 0;
    struct live_set live = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_manifest_list(store, prefix, &steps, &count, err));
    size_t first_kept = count > keep ? count - keep : 0;
    // Read before anything goes: if a kept manifest is damaged, an older one may be what a job resumes from.
    RMJ_GO(live_read_all(&live, store, prefix, steps, first_kept, count, err));
    RMJ_GO(delete_manifests(store, prefix, steps, first_kept, removed, err));
    // Once more, for a manifest that was committed meanwhile.
    free(steps);
    steps = NULL;
    RMJ_GO(rmj_manifest_list(store, prefix, &steps, &count, err));
    RMJ_GO(live_read_all(&live, store, prefix, steps, 0, count, err));
    RMJ_GO(collect_folder(store, prefix, "page", &live, older_than_unix_ms, removed, err));
    RMJ_GO(collect_folder(store, prefix, "state", &live, older_than_unix_ms, removed, err));
out:
    free(steps);
    free(live.digests);
    return status;
}
