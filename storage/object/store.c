#include "storage/object/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/text.h"
#include "storage/object/store_internal.h"

// ---- keys ----------------------------------------------------------------------------------------------------------

static int component_is(const char *at, size_t length, const char *name)
{
    return length == strlen(name) && memcmp(at, name, length) == 0;
}

int store_key_is_reserved(const char *key)
{
    while (*key != '\0') {
        size_t length = strcspn(key, "/");
        if (component_is(key, length, STORE_RESERVED_NAME)) {
            return 1;
        }
        key += length + (key[length] == '/');
    }
    return 0;
}

static const char *component_fault(const char *at, size_t length)
{
    if (length == 0) {
        return "has an empty part";
    }
    if (length > STORE_NAME_SIZE_MAX) {
        return "has a part of over 255 bytes";
    }
    if (component_is(at, length, ".") || component_is(at, length, "..")) {
        return "has a part \".\" or \"..\"";
    }
    if (component_is(at, length, STORE_RESERVED_NAME)) {
        return "has the reserved part " STORE_RESERVED_NAME;
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)at[i] < 0x20 || at[i] == 0x7f) {
            return "has a control character";
        }
    }
    return NULL;
}

const char *store_key_fault(const char *key, int is_prefix)
{
    size_t size = strlen(key);
    if (size > STORE_KEY_SIZE_MAX) {
        return "is over 900 bytes";
    }
    if (rmj_text_utf8_valid(key, size) != size) {
        return "is not UTF-8";
    }
    if (is_prefix && size == 0) {
        return NULL;
    }
    for (const char *at = key;;) {
        size_t length = strcspn(at, "/");
        if (!(is_prefix && at > key && *at == '\0')) {
            const char *fault = component_fault(at, length);
            if (fault != NULL) {
                return fault;
            }
        }
        at += length;
        if (*at == '\0') {
            return NULL;
        }
        at++;
    }
}

static enum rmj_status check_key(const char *key, struct rmj_error *err)
{
    const char *fault = store_key_fault(key, 0);
    return fault == NULL ? RMJ_OK : rmj_fail(err, RMJ_INVALID, "object key \"%.160s\" %s", key, fault);
}

// ---- sources -------------------------------------------------------------------------------------------------------

enum rmj_status store_source_read(const struct store_source *source, uint64_t offset, void *bytes, size_t size,
                                  struct rmj_error *err)
{
    RMJ_ASSERT(offset <= source->size && size <= source->size - offset);
    if (source->bytes != NULL) {
        memcpy(bytes, source->bytes + offset, size);
        return RMJ_OK;
    }
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(source->fd, (char *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot read %s", source->name);
        }
        if (got == 0) {
            return rmj_fail(err, RMJ_CORRUPT, "%s became shorter while it was read", source->name);
        }
        done += (size_t)got;
    }
    return RMJ_OK;
}

enum rmj_status store_check_digest(const struct store_put *put, const struct rmj_digest *found, struct rmj_error *err)
{
    if (put->digest == NULL || rmj_digest_equal(put->digest, found)) {
        return RMJ_OK;
    }
    char want[RMJ_DIGEST_HEX_SIZE], have[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(put->digest, want);
    rmj_digest_hex(found, have);
    return rmj_fail(err, RMJ_CORRUPT, "%s: the bytes to store have SHA-256 %s, not %s; nothing was stored", put->key,
                    have, want);
}

// ---- open and close ------------------------------------------------------------------------------------------------

static const char *scheme_end(const char *url)
{
    size_t length = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return length > 0 && strncmp(url + length, "://", 3) == 0 ? url + length : NULL;
}

enum rmj_status rmj_store_open(struct rmj_store **store, const char *url, int writable,
                               const struct rmj_store_options *options, struct rmj_error *err)
{
    *store = NULL;
    struct rmj_store_options filled = options == NULL ? (struct rmj_store_options){0} : *options;
    filled.deadline_ms = filled.deadline_ms > 0 ? filled.deadline_ms : STORE_DEADLINE_MS_DEFAULT;
    filled.retry_max = filled.retry_max > 0 ? filled.retry_max : STORE_RETRY_MAX_DEFAULT;
    filled.part_size = filled.part_size > 0 ? filled.part_size : STORE_PART_SIZE_DEFAULT;

    enum rmj_status status;
    if (rmj_fault_point("store.open")) {
        return rmj_fail(err, RMJ_IO, "cannot open store %s: injected fault", url);
    }
    if (url[0] == '\0') {
        return rmj_fail(err, RMJ_INVALID, "the store's URL is empty; give a directory or s3://bucket/prefix");
    }
    if (strncmp(url, "s3://", 5) == 0) {
        status = store_s3_open(store, url + 5, writable, &filled, err);
    } else if (strncmp(url, "file:///", 8) == 0) {
        status = store_local_open(store, url + 7, writable, err);
    } else if (scheme_end(url) == NULL) {
        status = store_local_open(store, url, writable, err);
    } else {
        status =
            rmj_fail(err, RMJ_INVALID, "no store of the kind %.*s://; give a directory, file:///path or s3://bucket",
                     (int)(scheme_end(url) - url), url);
    }
    if (status != RMJ_OK) {
        return status;
    }
    (*store)->options = filled;
    (*store)->writable = writable;
    (*store)->url = strdup(url);
    RMJ_ASSERT((*store)->url != NULL);
    return RMJ_OK;
}

void rmj_store_close(struct rmj_store *store)
{
    if (store != NULL) {
        free(store->url);
        store->ops->close(store);
    }
}

const char *rmj_store_url(const struct rmj_store *store)
{
    return store->url;
}

// ---- put -----------------------------------------------------------------------------------------------------------

static enum rmj_status injected(struct rmj_store *store, const char *point, const char *key, struct rmj_error *err)
{
    if (!rmj_fault_point(point)) {
        return RMJ_OK;
    }
    return rmj_fail(err, RMJ_IO, "%s of %s in %s: injected fault", point, key, store->url);
}

static enum rmj_status check_writable(const struct rmj_store *store, struct rmj_error *err)
{
    return store->writable ? RMJ_OK : rmj_fail(err, RMJ_DENIED, "store %s was opened for reading only", store->url);
}

static enum rmj_status put_source(struct rmj_store *store, const struct store_put *put, struct rmj_error *err)
{
    RMJ_TRY(check_writable(store, err));
    RMJ_TRY(injected(store, "store.put", put->key, err));
    RMJ_TRY(store->ops->put(store, put, err));
    return injected(store, "store.put.visible", put->key, err);
}

enum rmj_status rmj_store_put(struct rmj_store *store, const char *key, const void *bytes, size_t size,
                              enum rmj_put_condition condition, const struct rmj_digest *digest, struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    struct store_source source = {.bytes = size > 0 ? bytes : (const void *)"", .fd = -1, .size = size};
    struct store_put put = {.key = key, .source = &source, .condition = condition, .digest = digest};
    return put_source(store, &put, err);
}

enum rmj_status rmj_store_put_file(struct rmj_store *store, const char *key, const char *path,
                                   enum rmj_put_condition condition, const struct rmj_digest *digest,
                                   struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", path);
    }
    struct stat info;
    enum rmj_status status = RMJ_OK;
    if (fstat(fd, &info) != 0) {
        status = rmj_fail_errno(err, RMJ_IO, "cannot look at %s", path);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        status = rmj_fail(err, RMJ_INVALID, "%s is not a regular file", path);
        goto out;
    }
    struct store_source source = {.fd = fd, .size = (uint64_t)info.st_size, .name = path};
    struct store_put put = {.key = key, .source = &source, .condition = condition, .digest = digest};
    status = put_source(store, &put, err);
out:
    close(fd);
    return status;
}

// ---- get -----------------------------------------------------------------------------------------------------------

enum rmj_status rmj_store_get(struct rmj_store *store, const char *key, struct rmj_buf *out, struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    RMJ_TRY(injected(store, "store.get", key, err));
    return store->ops->get(store, key, out, err);
}

enum rmj_status rmj_store_get_range(struct rmj_store *store, const char *key, uint64_t offset, void *bytes, size_t size,
                                    struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    RMJ_TRY(injected(store, "store.get", key, err));
    if (size == 0) {
        return RMJ_OK;
    }
    if (offset > INT64_MAX - size) {
        return rmj_fail(err, RMJ_CORRUPT, "%s in %s: no object has a byte %llu", key, store->url,
                        (unsigned long long)offset);
    }
    return store->ops->get_range(store, key, offset, bytes, size, err);
}

struct to_file {
    int fd;
    const char *path;
    uint64_t size;
    struct rmj_sha256 sha;
};

static enum rmj_status piece_to_file(void *context, const void *bytes, size_t size, struct rmj_error *err)
{
    struct to_file *file = context;
    rmj_sha256_update(&file->sha, bytes, size);
    file->size += size;
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(file->fd, (const char *)bytes + done, size - done);
        if (wrote < 0 && errno != EINTR) {
            return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", file->path);
        }
        done += wrote > 0 ? (size_t)wrote : 0;
    }
    return RMJ_OK;
}

static void sync_parent(const char *path)
{
    char *copy = strdup(path);
    RMJ_ASSERT(copy != NULL);
    char *slash = strrchr(copy, '/');
    const char *parent = slash == NULL ? "." : slash == copy ? "/" : copy;
    if (slash != NULL && slash != copy) {
        *slash = '\0';
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

enum rmj_status rmj_store_get_file(struct rmj_store *store, const char *key, const char *path,
                                   struct rmj_digest *digest, uint64_t *size, struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    RMJ_TRY(injected(store, "store.get", key, err));
    size_t name_size = strlen(path) + sizeof ".tmpXXXXXX";
    char *temporary = malloc(name_size);
    RMJ_ASSERT(temporary != NULL);
    snprintf(temporary, name_size, "%s.tmpXXXXXX", path);
    struct to_file file = {.fd = mkostemp(temporary, O_CLOEXEC), .path = path};
    if (file.fd < 0) {
        enum rmj_status failed = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
        free(temporary);
        return failed;
    }
    rmj_sha256_init(&file.sha);
    enum rmj_status status = store->ops->stream(store, key, piece_to_file, &file, err);
    struct rmj_digest found;
    rmj_sha256_final(&file.sha, &found);
    if (status == RMJ_OK && (fchmod(file.fd, 0644) != 0 || fsync(file.fd) != 0)) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    close(file.fd);
    if (status == RMJ_OK && rename(temporary, path) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    if (status != RMJ_OK) {
        unlink(temporary);
    } else {
        sync_parent(path);
        *digest = found;
        *size = file.size;
    }
    free(temporary);
    return status;
}

// ---- the rest ------------------------------------------------------------------------------------------------------

enum rmj_status rmj_store_head(struct rmj_store *store, const char *key, uint64_t *size, int64_t *modified_unix_ms,
                               struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    RMJ_TRY(injected(store, "store.head", key, err));
    uint64_t size_found;
    int64_t modified_found;
    RMJ_TRY(store->ops->head(store, key, &size_found, &modified_found, err));
    if (size != NULL) {
        *size = size_found;
    }
    if (modified_unix_ms != NULL) {
        *modified_unix_ms = modified_found;
    }
    return RMJ_OK;
}

enum rmj_status rmj_store_delete(struct rmj_store *store, const char *key, struct rmj_error *err)
{
    RMJ_TRY(check_key(key, err));
    RMJ_TRY(check_writable(store, err));
    RMJ_TRY(injected(store, "store.delete", key, err));
    return store->ops->remove(store, key, err);
}

enum rmj_status rmj_store_copy(struct rmj_store *store, const char *from_key, const char *to_key, struct rmj_error *err)
{
    RMJ_TRY(check_key(from_key, err));
    RMJ_TRY(check_key(to_key, err));
    RMJ_TRY(check_writable(store, err));
    RMJ_TRY(injected(store, "store.copy", to_key, err));
    return store->ops->copy(store, from_key, to_key, err);
}

enum rmj_status rmj_store_list(struct rmj_store *store, const char *prefix, rmj_store_each_fn each, void *context,
                               struct rmj_error *err)
{
    const char *fault = store_key_fault(prefix, 1);
    if (fault != NULL) {
        return rmj_fail(err, RMJ_INVALID, "listing prefix \"%.160s\" %s", prefix, fault);
    }
    RMJ_TRY(injected(store, "store.list", prefix, err));
    return store->ops->list(store, prefix, each, context, err);
}
