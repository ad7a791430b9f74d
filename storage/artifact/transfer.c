#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "storage/artifact/artifact_internal.h"

enum rmj_status rmj_artifact_upload(struct rmj_store *store, const char *prefix, const char *directory,
                                    const struct rmj_artifact *artifact, struct rmj_error *err)
{
    for (size_t i = 0; i < artifact->file_count; i++) {
        const struct rmj_artifact_file *file = &artifact->files[i];
        char *key = rmj_fs_join(prefix, file->path);
        char *path = rmj_fs_join(directory, file->path);
        enum rmj_status status = rmj_store_put_file(store, key, path, RMJ_PUT_ANY, &file->digest, err);
        free(key);
        free(path);
        RMJ_TRY(status);
    }
    return RMJ_OK;
}

// ---- download ------------------------------------------------------------------------------------------------------

static enum rmj_status check_absent_or_empty(const char *directory, struct rmj_error *err)
{
    DIR *found = opendir(directory);
    if (found == NULL) {
        if (errno == ENOENT) {
            return RMJ_OK;
        }
        return errno == ENOTDIR ? rmj_fail(err, RMJ_CONFLICT, "%s is there and is not a directory", directory)
                                : rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", directory);
    }
    size_t count = 0;
    while (readdir(found) != NULL) {
        count++;
    }
    closedir(found);
    return count <= 2 ? RMJ_OK
                      : rmj_fail(err, RMJ_CONFLICT, "%s is there and not empty; name a new directory", directory);
}

static enum rmj_status sync_path(const char *path, struct rmj_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0;
    enum rmj_status status = failed ? rmj_fail_errno(err, RMJ_IO, "cannot write %s", path) : RMJ_OK;
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

// Makes the directories of a file of the artifact below `directory`.
static enum rmj_status make_parent(const char *directory, const char *file_path, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, file_path);
    *strrchr(path, '/') = '\0';
    enum rmj_status status = rmj_fs_make_directories(path, 0777, err);
    free(path);
    return status;
}

static enum rmj_status download_file(struct rmj_store *store, const char *prefix, const char *directory,
                                     const struct rmj_artifact_file *file, struct rmj_error *err)
{
    RMJ_TRY(make_parent(directory, file->path, err));
    char *key = rmj_fs_join(prefix, file->path);
    char *path = rmj_fs_join(directory, file->path);
    struct rmj_digest digest;
    uint64_t size = 0;
    enum rmj_status status = rmj_store_get_file(store, key, path, &digest, &size, err);
    if (status == RMJ_OK && (size != file->size || !rmj_digest_equal(&digest, &file->digest))) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s in the store is not the artifact's: its size or SHA-256 differs", key);
    }
    free(key);
    free(path);
    return status;
}

// The signature is not in the artifact's list: it signs the list. Checked before anybody can see the directory.
static enum rmj_status download_signature(struct rmj_store *store, const char *prefix, const char *directory,
                                          const char *pem, struct rmj_error *err)
{
    char *key = rmj_fs_join(prefix, ARTIFACT_SIGNATURE_NAME);
    char *path = rmj_fs_join(directory, ARTIFACT_SIGNATURE_NAME);
    struct rmj_digest digest;
    uint64_t size = 0;
    enum rmj_status status = rmj_store_get_file(store, key, path, &digest, &size, err);
    if (status == RMJ_NOT_FOUND) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s is not there: the artifact is not signed", key);
    }
    if (status == RMJ_OK) {
        status = rmj_artifact_verify(directory, pem, err);
    }
    free(key);
    free(path);
    return status;
}

enum rmj_status rmj_artifact_download(struct rmj_store *store, const char *prefix, const struct rmj_artifact *artifact,
                                      const char *directory, const char *pem, struct rmj_error *err)
{
    // A trailing slash would put the neighbour inside.
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/') {
        length--;
    }
    char id[16];
    rmj_text_make_id(id, sizeof id, "part-", 8);
    char *target = strndup(directory, length);
    size_t size = length + sizeof id + 2;
    char *neighbour = malloc(size);
    RMJ_ASSERT(target != NULL && neighbour != NULL);
    snprintf(neighbour, size, "%s.%s", target, id);

    enum rmj_status status = RMJ_OK;
    RMJ_GO(check_absent_or_empty(target, err));
    RMJ_GO(rmj_fs_make_directories(neighbour, 0777, err));
    for (size_t i = 0; i < artifact->file_count; i++) {
        RMJ_GO(download_file(store, prefix, neighbour, &artifact->files[i], err));
    }
    if (pem != NULL) {
        RMJ_GO(download_signature(store, prefix, neighbour, pem, err));
    }
    RMJ_GO(sync_path(neighbour, err));
    if (rename(neighbour, target) != 0) {
        status = rmj_fail_errno(err, errno == ENOTEMPTY ? RMJ_CONFLICT : rmj_fs_errno_status(errno),
                                "cannot move the download to %s", target);
    }
out:
    if (status != RMJ_OK && rmj_fs_remove_tree(neighbour, NULL) != RMJ_OK) {
        rmj_context(err, "%s could not be removed", neighbour);
    }
    free(neighbour);
    free(target);
    return status;
}
