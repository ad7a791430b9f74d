// A directory as an object store.
//
//   <root>/<key>                  an object: a regular file that nobody ever writes in place
//   <root>/.rmj-tmp/<random>      being written; not an object
//
//   put:  write .rmj-tmp/x -> fsync -> link (if absent) or rename (any) to the key -> fsync its directory
//
// link(2) and rename(2) are atomic, so an object is visible whole or not at all, and of many that create one key
// exactly one wins. Paths are walked one component at a time without following symbolic links, so no key leaves root.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/text.h"
#include "storage/object/store_internal.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
#define TEMPORARY_NAME_SIZE 24

struct local_store {
    struct rmj_store base;
    char *root;
    int root_fd;
    int temporary_fd; // of .rmj-tmp; -1 when opened for reading only
};

static struct local_store *local_of(struct rmj_store *store)
{
    return (struct local_store *)store;
}

static enum rmj_status fail_path(struct rmj_error *err, const struct local_store *local, const char *verb,
                                 const char *key)
{
    int code = errno;
    if (code == ENOTDIR || code == ELOOP) {
        return rmj_fail_origin(err, RMJ_INVALID, "errno", code,
                               "cannot %s %s/%s: a part of the key is an object or a symbolic link", verb, local->root,
                               key);
    }
    errno = code;
    return rmj_fail_errno(err, rmj_fs_errno_status(code), "cannot %s %s/%s", verb, local->root, key);
}

// Opens the directory that holds the key's last component, made with its parents when `create`. -1 and errno.
static int open_parent(const struct local_store *local, const char *key, int create, const char **name)
{
    int fd = fcntl(local->root_fd, F_DUPFD_CLOEXEC, 0);
    const char *at = key;
    for (const char *slash = strchr(at, '/'); fd >= 0 && slash != NULL; slash = strchr(at, '/')) {
        char component[STORE_NAME_SIZE_MAX + 1];
        size_t length = (size_t)(slash - at);
        RMJ_ASSERT(length < sizeof component);
        memcpy(component, at, length);
        component[length] = '\0';
        int next = openat(fd, component, DIRECTORY_FLAGS);
        if (next < 0 && errno == ENOENT && create) {
            if (mkdirat(fd, component, 0777) == 0) {
                fsync(fd);
            }
            next = openat(fd, component, DIRECTORY_FLAGS);
        }
        int code = errno;
        close(fd);
        errno = code;
        fd = next;
        at = slash + 1;
    }
    *name = at;
    return fd;
}

// Opens an object for reading. *size when not NULL.
static enum rmj_status open_object(const struct local_store *local, const char *key, int *fd, struct stat *info,
                                   struct rmj_error *err)
{
    const char *name;
    int parent = open_parent(local, key, 0, &name);
    *fd = parent < 0 ? -1 : openat(parent, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int code = errno;
    if (parent >= 0) {
        close(parent);
    }
    if (*fd >= 0 && (fstat(*fd, info) != 0 || !S_ISREG(info->st_mode))) {
        close(*fd);
        *fd = -1;
        code = ENOENT; // a directory is no object
    }
    if (*fd < 0) {
        errno = code == ENOTDIR ? ENOENT : code;
        return fail_path(err, local, "read", key);
    }
    return RMJ_OK;
}

// ---- put -----------------------------------------------------------------------------------------------------------

static enum rmj_status write_source(const struct local_store *local, int fd, const struct store_put *put,
                                    struct rmj_error *err)
{
    const struct store_source *source = put->source;
    uint8_t *scratch = source->bytes == NULL ? malloc(STORE_PIECE_SIZE_BYTES) : NULL;
    RMJ_ASSERT(source->bytes != NULL || scratch != NULL);
    struct rmj_sha256 sha;
    if (put->digest != NULL) {
        rmj_sha256_init(&sha);
    }
    enum rmj_status status = RMJ_OK;
    for (uint64_t offset = 0; offset < source->size && status == RMJ_OK;) {
        uint64_t left = source->size - offset;
        size_t size = left < STORE_PIECE_SIZE_BYTES ? (size_t)left : STORE_PIECE_SIZE_BYTES;
        const uint8_t *piece = source->bytes == NULL ? scratch : source->bytes + offset;
        if (source->bytes == NULL) {
            status = store_source_read(source, offset, scratch, size, err);
        }
        if (put->digest != NULL && status == RMJ_OK) {
            rmj_sha256_update(&sha, piece, size);
        }
        for (size_t done = 0; done < size && status == RMJ_OK;) {
            ssize_t wrote = write(fd, piece + done, size - done);
            if (wrote < 0 && errno != EINTR) {
                status = fail_path(err, local, "write", put->key);
            }
            done += wrote > 0 ? (size_t)wrote : 0;
        }
        offset += size;
    }
    if (put->digest != NULL) {
        struct rmj_digest found;
        rmj_sha256_final(&sha, &found);
        status = status == RMJ_OK ? store_check_digest(put, &found, err) : status;
    }
    free(scratch);
    return status;
}

// 0 or errno. EEXIST when the key is there and must not be.
static int make_visible(const struct local_store *local, const char *temporary, int parent, const char *name,
                        enum rmj_put_condition condition)
{
    if (condition == RMJ_PUT_ANY) {
        return renameat(local->temporary_fd, temporary, parent, name) == 0 ? 0 : errno;
    }
    if (linkat(local->temporary_fd, temporary, parent, name, 0) == 0) {
        unlinkat(local->temporary_fd, temporary, 0);
        return 0;
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK) {
        return errno;
    }
    // A file system without hard links.
    return renameat2(local->temporary_fd, temporary, parent, name, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

static enum rmj_status publish(const struct local_store *local, const char *temporary, const struct store_put *put,
                               struct rmj_error *err)
{
    const char *name;
    int parent = open_parent(local, put->key, 1, &name);
    if (parent < 0) {
        return fail_path(err, local, "write", put->key);
    }
    enum rmj_status status = RMJ_OK;
    int code = make_visible(local, temporary, parent, name, put->condition);
    if (code == EEXIST && put->condition == RMJ_PUT_IF_ABSENT) {
        // Who loses may rely on what won as if it were its own: so it has to be as durable.
        fsync(parent);
        status = rmj_fail(err, RMJ_CONFLICT, "%s/%s exists already", local->root, put->key);
    } else if (code == EISDIR || code == EEXIST || code == ENOTEMPTY) {
        status =
            rmj_fail(err, RMJ_INVALID, "cannot write %s/%s: objects are stored below that key", local->root, put->key);
    } else if (code != 0) {
        errno = code;
        status = fail_path(err, local, "write", put->key);
    } else if (fsync(parent) != 0) {
        status = fail_path(err, local, "write", put->key);
    }
    close(parent);
    return status;
}

static enum rmj_status local_put(struct rmj_store *store, const struct store_put *put, struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    char temporary[TEMPORARY_NAME_SIZE];
    rmj_text_make_id(temporary, sizeof temporary, "put-", 16);
    int fd = openat(local->temporary_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return fail_path(err, local, "write", put->key);
    }
    enum rmj_status status = write_source(local, fd, put, err);
    if (status == RMJ_OK && fsync(fd) != 0) {
        status = fail_path(err, local, "write", put->key);
    }
    if (close(fd) != 0 && status == RMJ_OK) {
        status = fail_path(err, local, "write", put->key);
    }
    if (status == RMJ_OK && rmj_fault_point("store.put.before_visible")) {
        status = rmj_fail(err, RMJ_IO, "put of %s in %s: injected fault", put->key, local->root);
    }
    if (status == RMJ_OK) {
        status = publish(local, temporary, put, err);
    }
    if (status != RMJ_OK) {
        unlinkat(local->temporary_fd, temporary, 0);
    }
    return status;
}

// ---- get -----------------------------------------------------------------------------------------------------------

static enum rmj_status read_exactly(const struct local_store *local, int fd, const char *key, uint64_t offset,
                                    void *bytes, size_t size, struct rmj_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, (char *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_path(err, local, "read", key);
        }
        if (got == 0) {
            return rmj_fail(err, RMJ_CORRUPT, "%s/%s ends at byte %llu, %llu were asked for", local->root, key,
                            (unsigned long long)(offset + done), (unsigned long long)(offset + size));
        }
        done += (size_t)got;
    }
    return RMJ_OK;
}

static enum rmj_status local_get(struct rmj_store *store, const char *key, struct rmj_buf *out, struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    int fd;
    struct stat info;
    RMJ_TRY(open_object(local, key, &fd, &info, err));
    enum rmj_status status = RMJ_OK;
    size_t size = (size_t)info.st_size;
    size_t before = out->size;
    char *at = rmj_buf_extend(out, size);
    if (at == NULL) {
        status = rmj_fail(err, RMJ_FULL, "%s/%s has %zu bytes, more than the %zu expected", local->root, key, size,
                          out->size_max - before);
    } else {
        status = read_exactly(local, fd, key, 0, at, size, err);
    }
    if (status != RMJ_OK && at != NULL) {
        out->size = before;
        out->bytes[before] = '\0';
    }
    close(fd);
    return status;
}

static enum rmj_status local_get_range(struct rmj_store *store, const char *key, uint64_t offset, void *bytes,
                                       size_t size, struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    int fd;
    struct stat info;
    RMJ_TRY(open_object(local, key, &fd, &info, err));
    enum rmj_status status = read_exactly(local, fd, key, offset, bytes, size, err);
    close(fd);
    return status;
}

static enum rmj_status local_stream(struct rmj_store *store, const char *key, store_piece_fn piece, void *context,
                                    struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    int fd;
    struct stat info;
    RMJ_TRY(open_object(local, key, &fd, &info, err));
    uint8_t *scratch = malloc(STORE_PIECE_SIZE_BYTES);
    RMJ_ASSERT(scratch != NULL);
    enum rmj_status status = RMJ_OK;
    uint64_t total = (uint64_t)info.st_size;
    for (uint64_t offset = 0; offset < total;) {
        uint64_t left = total - offset;
        size_t size = left < STORE_PIECE_SIZE_BYTES ? (size_t)left : STORE_PIECE_SIZE_BYTES;
        RMJ_GO(read_exactly(local, fd, key, offset, scratch, size, err));
        RMJ_GO(piece(context, scratch, size, err));
        offset += size;
    }
out:
    free(scratch);
    close(fd);
    return status;
}

static int64_t modified_ms(const struct stat *info)
{
    return (int64_t)info->st_mtim.tv_sec * 1000 + info->st_mtim.tv_nsec / 1000000;
}

static enum rmj_status local_head(struct rmj_store *store, const char *key, uint64_t *size, int64_t *modified_unix_ms,
                                  struct rmj_error *err)
{
    int fd;
    struct stat info;
    RMJ_TRY(open_object(local_of(store), key, &fd, &info, err));
    close(fd);
    *size = (uint64_t)info.st_size;
    *modified_unix_ms = modified_ms(&info);
    return RMJ_OK;
}

static enum rmj_status local_remove(struct rmj_store *store, const char *key, struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    const char *name;
    int parent = open_parent(local, key, 0, &name);
    if (parent < 0) {
        return errno == ENOENT || errno == ENOTDIR ? RMJ_OK : fail_path(err, local, "delete", key);
    }
    enum rmj_status status = RMJ_OK;
    if (unlinkat(parent, name, 0) == 0) {
        fsync(parent);
    } else if (errno != ENOENT && errno != EISDIR) {
        status = fail_path(err, local, "delete", key);
    }
    close(parent);
    return status;
}

static enum rmj_status local_copy(struct rmj_store *store, const char *from_key, const char *to_key,
                                  struct rmj_error *err)
{
    // Bytes are copied, not linked: two keys never share a file, so damage to one leaves the other.
    int fd;
    struct stat info;
    RMJ_TRY(open_object(local_of(store), from_key, &fd, &info, err));
    struct store_source source = {.fd = fd, .size = (uint64_t)info.st_size, .name = from_key};
    struct store_put put = {.key = to_key, .source = &source, .condition = RMJ_PUT_ANY};
    enum rmj_status status = local_put(store, &put, err);
    close(fd);
    return status;
}

// ---- list ----------------------------------------------------------------------------------------------------------

struct listing {
    const struct local_store *local;
    const char *prefix;
    size_t prefix_size;
    rmj_store_each_fn each;
    void *context;
};

// Names of a directory, a '/' after those of directories: sorted like that, a walk visits keys in the order of bytes.
struct names {
    char **items;
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int is_directory(int parent, const struct dirent *entry)
{
    if (entry->d_type != DT_UNKNOWN) {
        return entry->d_type == DT_DIR;
    }
    struct stat info;
    return fstatat(parent, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

// Reads the names below fd (which it closes). 0 or errno.
static int read_names(int fd, struct names *names)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        int code = errno;
        close(fd);
        return code;
    }
    size_t room = 0;
    errno = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, STORE_RESERVED_NAME) == 0) {
            continue;
        }
        if (names->count == room) {
            room = room == 0 ? 64 : 2 * room;
            names->items = realloc(names->items, room * sizeof *names->items);
            RMJ_ASSERT(names->items != NULL);
        }
        size_t size = strlen(name) + 2;
        char *item = malloc(size);
        RMJ_ASSERT(item != NULL);
        snprintf(item, size, "%s%s", name, is_directory(dirfd(directory), entry) ? "/" : "");
        names->items[names->count++] = item;
        errno = 0;
    }
    int code = errno;
    closedir(directory);
    if (names->count > 0) {
        qsort(names->items, names->count, sizeof *names->items, compare_names);
    }
    return code;
}

static void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
}

// 1 when keys that begin with `key` (a directory's ends in '/') can begin with the prefix.
static int meets_prefix(const struct listing *listing, const char *key, int is_folder)
{
    size_t size = strlen(key);
    size_t common = size < listing->prefix_size ? size : listing->prefix_size;
    return memcmp(key, listing->prefix, common) == 0 && (is_folder || size >= listing->prefix_size);
}

static enum rmj_status list_directory(const struct listing *listing, int parent, const char *name, const char *folder,
                                      struct rmj_error *err);

static enum rmj_status list_entry(const struct listing *listing, int parent, const char *folder, const char *item,
                                  struct rmj_error *err)
{
    char key[STORE_KEY_SIZE_MAX + 2];
    size_t length = strlen(item);
    int is_folder = item[length - 1] == '/';
    if ((size_t)snprintf(key, sizeof key, "%s%s", folder, item) >= sizeof key ||
        !meets_prefix(listing, key, is_folder)) {
        return RMJ_OK; // longer than any key: nothing of ours
    }
    if (is_folder) {
        char name[STORE_NAME_SIZE_MAX + 1];
        memcpy(name, item, length - 1);
        name[length - 1] = '\0';
        return list_directory(listing, parent, name, key, err);
    }
    struct stat info;
    if (fstatat(parent, item, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? RMJ_OK : fail_path(err, listing->local, "list", key);
    }
    if (!S_ISREG(info.st_mode)) {
        return RMJ_OK;
    }
    return listing->each(listing->context, key, (uint64_t)info.st_size, modified_ms(&info), err);
}

static enum rmj_status list_directory(const struct listing *listing, int parent, const char *name, const char *folder,
                                      struct rmj_error *err)
{
    // Opened twice: reading the names uses one descriptor up, looking at them needs another.
    int fd = openat(parent, name, DIRECTORY_FLAGS);
    int at = fd < 0 ? -1 : openat(parent, name, DIRECTORY_FLAGS);
    struct names names = {0};
    int code = fd < 0 ? errno : read_names(fd, &names);
    enum rmj_status status = RMJ_OK;
    if (code != 0 && code != ENOENT) {
        errno = code;
        status = fail_path(err, listing->local, "list", folder);
    } else if (fd >= 0 && at < 0) {
        status = fail_path(err, listing->local, "list", folder);
    }
    for (size_t i = 0; i < names.count && status == RMJ_OK; i++) {
        status = list_entry(listing, at, folder, names.items[i], err);
    }
    if (at >= 0) {
        close(at);
    }
    names_deinit(&names);
    return status;
}

static enum rmj_status local_list(struct rmj_store *store, const char *prefix, rmj_store_each_fn each, void *context,
                                  struct rmj_error *err)
{
    struct local_store *local = local_of(store);
    struct listing listing = {
        .local = local, .prefix = prefix, .prefix_size = strlen(prefix), .each = each, .context = context};
    return list_directory(&listing, local->root_fd, ".", "", err);
}

// ---- open ----------------------------------------------------------------------------------------------------------

static void local_close(struct rmj_store *store)
{
    struct local_store *local = local_of(store);
    if (local->root_fd >= 0) {
        close(local->root_fd);
    }
    if (local->temporary_fd >= 0) {
        close(local->temporary_fd);
    }
    free(local->root);
    free(local);
}

static const struct store_ops local_ops = {
    .close = local_close,
    .put = local_put,
    .get = local_get,
    .get_range = local_get_range,
    .stream = local_stream,
    .head = local_head,
    .remove = local_remove,
    .copy = local_copy,
    .list = local_list,
};

static void collect_temporaries(int temporary_fd)
{
    struct names names = {0};
    int fd = openat(temporary_fd, ".", DIRECTORY_FLAGS);
    if (fd < 0 || read_names(fd, &names) != 0) {
        names_deinit(&names);
        return;
    }
    time_t now = time(NULL);
    for (size_t i = 0; i < names.count; i++) {
        struct stat info;
        if (fstatat(temporary_fd, names.items[i], &info, AT_SYMLINK_NOFOLLOW) == 0 &&
            now - info.st_mtime > STORE_TEMPORARY_AGE_S_MAX) {
            unlinkat(temporary_fd, names.items[i], 0);
        }
    }
    names_deinit(&names);
}

static enum rmj_status open_for_writing(struct local_store *local, struct rmj_error *err)
{
    if (mkdirat(local->root_fd, STORE_RESERVED_NAME, 0777) != 0 && errno != EEXIST) {
        return fail_path(err, local, "write", STORE_RESERVED_NAME);
    }
    local->temporary_fd = openat(local->root_fd, STORE_RESERVED_NAME, DIRECTORY_FLAGS);
    if (local->temporary_fd < 0) {
        return fail_path(err, local, "write", STORE_RESERVED_NAME);
    }
    collect_temporaries(local->temporary_fd);
    char probe[TEMPORARY_NAME_SIZE];
    rmj_text_make_id(probe, sizeof probe, "probe-", 16);
    int fd = openat(local->temporary_fd, probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return fail_path(err, local, "write", STORE_RESERVED_NAME);
    }
    enum rmj_status status = RMJ_OK;
    if (write(fd, probe, sizeof probe) != (ssize_t)sizeof probe) {
        status = fail_path(err, local, "write", STORE_RESERVED_NAME);
    }
    close(fd);
    unlinkat(local->temporary_fd, probe, 0);
    return status;
}

enum rmj_status store_local_open(struct rmj_store **store, const char *path, int writable, struct rmj_error *err)
{
    if (writable) {
        RMJ_TRY(rmj_fs_make_directories(path, 0777, err));
    }
    struct local_store *local = calloc(1, sizeof *local);
    RMJ_ASSERT(local != NULL);
    *local = (struct local_store){.base.ops = &local_ops, .root = strdup(path), .temporary_fd = -1};
    RMJ_ASSERT(local->root != NULL);
    local->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum rmj_status status = RMJ_OK;
    if (local->root_fd < 0) {
        status = errno == ENOTDIR ? rmj_fail_errno(err, RMJ_INVALID, "store %s is not a directory", path)
                                  : rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open store %s", path);
    } else if (writable) {
        status = open_for_writing(local, err);
    }
    if (status != RMJ_OK) {
        local_close(&local->base);
        return status;
    }
    *store = &local->base;
    return RMJ_OK;
}
