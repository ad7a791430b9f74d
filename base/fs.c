#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK_SIZE_BYTES (1u << 18)
#define OPEN_FILE_COUNT_MAX 16

enum rmj_status rmj_fs_errno_status(int code)
{
    switch (code) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
        return RMJ_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return RMJ_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return RMJ_FULL;
    case EEXIST:
        return RMJ_CONFLICT;
    case ENOMEM:
        return RMJ_NO_MEMORY;
    default:
        return RMJ_IO;
    }
}

int rmj_fs_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

char *rmj_fs_join(const char *directory, const char *name)
{
    size_t length = strlen(directory);
    int slash = length > 0 && directory[length - 1] != '/';
    size_t size = length + strlen(name) + 2;
    char *path = malloc(size);
    RMJ_ASSERT(path != NULL);
    snprintf(path, size, "%s%s%s", directory, slash ? "/" : "", name);
    return path;
}

char *rmj_fs_program(const char *variable, const char *name)
{
    const char *folder = getenv(variable);
    char own[4096];
    if (folder == NULL || *folder == '\0') {
        ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
        own[length > 0 ? length : 0] = '\0';
        char *slash = strrchr(own, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        folder = own;
    }
    return rmj_fs_join(folder, name);
}

enum rmj_status rmj_fs_read(const char *path, struct rmj_buf *out, struct rmj_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", path);
    }
    enum rmj_status status = RMJ_OK;
    for (;;) {
        size_t room = out->size_max - out->size;
        size_t want = room < READ_CHUNK_SIZE_BYTES ? room + 1 : READ_CHUNK_SIZE_BYTES;
        char chunk[4096];
        char *at = want <= room ? rmj_buf_extend(out, want) : chunk;
        if (at == NULL) {
            status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to read %s", path);
            break;
        }
        ssize_t got = read(fd, at, at == chunk ? sizeof chunk : want);
        if (at != chunk) {
            out->size -= want - (got > 0 ? (size_t)got : 0);
            out->bytes[out->size] = '\0';
        } else if (got > 0) {
            if ((size_t)got > room) {
                status = rmj_fail(err, RMJ_FULL, "%s is over %zu bytes", path, out->size_max);
                break;
            }
            rmj_buf_append(out, chunk, (size_t)got);
        }
        if (got == 0) {
            break;
        }
        if (got < 0 && errno != EINTR) {
            status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot read %s", path);
            break;
        }
    }
    close(fd);
    return status;
}

static enum rmj_status write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return rmj_fs_errno_status(errno);
        }
        bytes += written;
        size -= (size_t)written;
    }
    return RMJ_OK;
}

static void sync_directory_of(const char *path)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : (size_t)(slash - path);
    if (length >= sizeof directory) {
        return;
    }
    memcpy(directory, path, length);
    directory[length] = '\0';
    int fd = open(slash == NULL ? "." : length == 0 ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

enum rmj_status rmj_fs_write(const char *path, const void *bytes, size_t size, unsigned mode, struct rmj_error *err)
{
    size_t name_size = strlen(path) + 16;
    char *temporary = malloc(name_size);
    RMJ_ASSERT(temporary != NULL);
    snprintf(temporary, name_size, "%s.tmpXXXXXX", path);
    enum rmj_status status = RMJ_OK;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
        goto out;
    }
    if (fchmod(fd, mode) != 0 || write_all(fd, bytes, size) != RMJ_OK || fsync(fd) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    if (close(fd) != 0 && status == RMJ_OK) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    if (status == RMJ_OK && rename(temporary, path) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    if (status != RMJ_OK) {
        unlink(temporary);
        goto out;
    }
    sync_directory_of(path);
out:
    free(temporary);
    return status;
}

enum rmj_status rmj_fs_make_directories(const char *path, unsigned mode, struct rmj_error *err)
{
    char *copy = strdup(path);
    RMJ_ASSERT(copy != NULL);
    enum rmj_status status = RMJ_OK;
    for (char *at = copy + 1; status == RMJ_OK; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        char end = *at;
        *at = '\0';
        if (mkdir(copy, mode) != 0 && errno != EEXIST) {
            status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot make directory %s", copy);
        }
        *at = end;
        if (end == '\0') {
            break;
        }
    }
    free(copy);
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

enum rmj_status rmj_fs_remove_tree(const char *path, struct rmj_error *err)
{
    if (nftw(path, remove_entry, OPEN_FILE_COUNT_MAX, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot remove %s", path);
    }
    return RMJ_OK;
}

static enum rmj_status walk_below(const char *root, const char *prefix, rmj_fs_each_fn each, void *context,
                                  struct rmj_error *err)
{
    char *directory = prefix[0] == '\0' ? strdup(root) : rmj_fs_join(root, prefix);
    struct dirent **entries = NULL;
    int count = scandir(directory, &entries, NULL, alphasort);
    enum rmj_status status = RMJ_OK;
    if (count < 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot list %s", directory);
    }
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (status == RMJ_OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char *relative = prefix[0] == '\0' ? strdup(name) : rmj_fs_join(prefix, name);
            char *path = rmj_fs_join(root, relative);
            struct stat info;
            if (lstat(path, &info) != 0) {
                status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot look at %s", path);
            } else if (S_ISDIR(info.st_mode)) {
                status = walk_below(root, relative, each, context, err);
            } else if (S_ISREG(info.st_mode)) {
                status = each(context, relative, (uint64_t)info.st_size, err);
            } else {
                status = rmj_fail(err, RMJ_INVALID, "%s is neither a regular file nor a directory", path);
            }
            free(path);
            free(relative);
        }
        free(entries[i]);
    }
    free(entries);
    free(directory);
    return status;
}

enum rmj_status rmj_fs_walk(const char *root, rmj_fs_each_fn each, void *context, struct rmj_error *err)
{
    return walk_below(root, "", each, context, err);
}
