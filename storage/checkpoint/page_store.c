#include <stdio.h>

#include "base/clock.h"
#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/keys.h"
#include "storage/checkpoint/page_format.h"

#define PAGE_LEVEL 1

enum rmj_status checkpoint_key(char *key, const char *prefix, const char *folder, const char *name,
                               struct rmj_error *err)
{
    int length = snprintf(key, CHECKPOINT_KEY_SIZE, "%s%s%s/%s", prefix, prefix[0] == '\0' ? "" : "/", folder, name);
    if (length < 0 || length >= CHECKPOINT_KEY_SIZE) {
        return rmj_fail(err, RMJ_INVALID, "checkpoint prefix \"%.100s...\" is too long", prefix);
    }
    return RMJ_OK;
}

static enum rmj_status page_key(char *key, const char *prefix, const struct rmj_digest *digest, struct rmj_error *err)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(digest, hex);
    return checkpoint_key(key, prefix, "page", hex, err);
}

// RMJ_OK when an object with the size and header of this page is there; RMJ_NOT_FOUND or RMJ_CORRUPT when it has to go
// up.
static enum rmj_status find_page(struct rmj_store *store, const char *key, uint64_t raw_size, uint64_t *stored_size,
                                 int64_t *modified_unix_ms, struct rmj_error *err)
{
    RMJ_TRY(rmj_store_head(store, key, stored_size, modified_unix_ms, err));
    struct page_header header;
    if (*stored_size < sizeof header) {
        return rmj_fail(err, RMJ_CORRUPT, "%s is shorter than a page's header", key);
    }
    RMJ_TRY(rmj_store_get_range(store, key, 0, &header, sizeof header, err));
    return page_header_check(&header, raw_size, *stored_size, err);
}

enum rmj_status rmj_page_put(struct rmj_store *store, const char *prefix, const struct rmj_page_section *sections,
                             size_t count, const struct rmj_digest *digest, uint64_t *stored_size, int *sent,
                             struct rmj_error *err)
{
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(page_key(key, prefix, digest, err));
    uint64_t raw_size = 0;
    for (size_t i = 0; i < count; i++) {
        raw_size += sections[i].size;
    }
    *sent = 0;
    int64_t modified_unix_ms;
    enum rmj_status found = find_page(store, key, raw_size, stored_size, &modified_unix_ms, err);
    if (found == RMJ_OK) {
        // An old page that no manifest names may be about to be collected: copied onto itself it is young again.
        int is_old = rmj_clock_unix_ms() - modified_unix_ms > RMJ_PAGE_REFRESH_AGE_MS;
        return is_old ? rmj_store_copy(store, key, key, err) : RMJ_OK;
    }
    if (found != RMJ_NOT_FOUND && found != RMJ_CORRUPT) {
        return found;
    }
    rmj_error_clear(err);
    struct rmj_buf encoded;
    rmj_buf_init(&encoded, (size_t)page_encoded_size_max(raw_size));
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_page_encode(sections, count, PAGE_LEVEL, &encoded, err));
    // Replaces a damaged object of that name; a whole one of another writer has equal content.
    RMJ_GO(rmj_store_put(store, key, encoded.bytes, encoded.size, RMJ_PUT_ANY, NULL, err));
    *stored_size = encoded.size;
    *sent = 1;
out:
    rmj_buf_deinit(&encoded);
    return status;
}

enum rmj_status rmj_page_get(struct rmj_store *store, const char *prefix, const struct rmj_digest *digest, void *raw,
                             size_t raw_size, struct rmj_error *err)
{
    char key[CHECKPOINT_KEY_SIZE];
    RMJ_TRY(page_key(key, prefix, digest, err));
    struct rmj_buf encoded;
    rmj_buf_init(&encoded, (size_t)page_encoded_size_max(raw_size));
    enum rmj_status status = rmj_store_get(store, key, &encoded, err);
    if (status == RMJ_FULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s is larger than any page of %zu raw bytes", key, raw_size);
    } else if (status == RMJ_OK) {
        status = rmj_page_decode(encoded.bytes, encoded.size, raw, raw_size, digest, err);
        if (status != RMJ_OK) {
            rmj_context(err, "%s", key);
        }
    }
    rmj_buf_deinit(&encoded);
    return status;
}
