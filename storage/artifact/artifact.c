#include "storage/artifact/artifact.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "storage/artifact/artifact_internal.h"

void rmj_artifact_deinit(struct rmj_artifact *artifact)
{
    if (artifact == NULL) {
        return;
    }
    for (size_t i = 0; i < artifact->file_count; i++) {
        free(artifact->files[i].path);
    }
    free(artifact->files);
    *artifact = (struct rmj_artifact){0};
}

const char *artifact_path_fault(const char *path)
{
    size_t size = strlen(path);
    if (size == 0 || size > ARTIFACT_PATH_SIZE_MAX || rmj_text_utf8_valid(path, size) != size) {
        return "is empty, over 512 bytes or not UTF-8";
    }
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.')) {
            return "leaves the artifact or has an empty part";
        }
        at += length;
        if (*at == '\0') {
            break;
        }
    }
    for (const char *at = path; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f || *at == '\\') {
            return "has a control character or a backslash";
        }
    }
    return strcmp(path, ARTIFACT_SIGNATURE_NAME) == 0 ? "is the signature's own name" : NULL;
}

int artifact_path_compare(const char *a, const char *b)
{
    // Component by component: as if '/' came before every other byte.
    for (;; a++, b++) {
        if (*a != *b) {
            int rank_a = *a == '\0' ? -2 : *a == '/' ? -1 : (unsigned char)*a;
            int rank_b = *b == '\0' ? -2 : *b == '/' ? -1 : (unsigned char)*b;
            return rank_a < rank_b ? -1 : 1;
        }
        if (*a == '\0') {
            return 0;
        }
    }
}

enum rmj_status rmj_artifact_add(struct rmj_artifact *artifact, const char *path, uint64_t size,
                                 const struct rmj_digest *digest, struct rmj_error *err)
{
    const char *fault = artifact_path_fault(path);
    if (fault != NULL) {
        return rmj_fail(err, RMJ_INVALID, "artifact path \"%.200s\" %s", path, fault);
    }
    if (artifact->file_count >= ARTIFACT_FILE_COUNT_MAX) {
        return rmj_fail(err, RMJ_FULL, "an artifact has at most %d files", ARTIFACT_FILE_COUNT_MAX);
    }
    size_t at = artifact->file_count;
    while (at > 0 && artifact_path_compare(path, artifact->files[at - 1].path) < 0) {
        at--;
    }
    if (at > 0 && strcmp(path, artifact->files[at - 1].path) == 0) {
        return rmj_fail(err, RMJ_CONFLICT, "%s is in the artifact twice", path);
    }
    struct rmj_artifact_file *files = realloc(artifact->files, (artifact->file_count + 1) * sizeof *files);
    char *copy = strdup(path);
    RMJ_ASSERT(files != NULL && copy != NULL);
    memmove(files + at + 1, files + at, (artifact->file_count - at) * sizeof *files);
    files[at] = (struct rmj_artifact_file){.path = copy, .size = size, .digest = *digest};
    artifact->files = files;
    artifact->file_count++;
    return RMJ_OK;
}

struct scan {
    struct rmj_artifact *artifact;
    const char *directory;
};

static enum rmj_status scan_file(void *context, const char *relative_path, uint64_t size, struct rmj_error *err)
{
    struct scan *scan = context;
    if (strcmp(relative_path, ARTIFACT_SIGNATURE_NAME) == 0) {
        return RMJ_OK;
    }
    char *path = rmj_fs_join(scan->directory, relative_path);
    struct rmj_digest digest;
    enum rmj_status status = rmj_sha256_of_file(path, &digest, &size, err);
    free(path);
    return status == RMJ_OK ? rmj_artifact_add(scan->artifact, relative_path, size, &digest, err) : status;
}

enum rmj_status rmj_artifact_scan(struct rmj_artifact *artifact, const char *directory, struct rmj_error *err)
{
    *artifact = (struct rmj_artifact){0};
    struct scan scan = {.artifact = artifact, .directory = directory};
    enum rmj_status status = rmj_fs_walk(directory, scan_file, &scan, err);
    if (status != RMJ_OK) {
        rmj_artifact_deinit(artifact);
    }
    return status;
}

void rmj_artifact_root(const struct rmj_artifact *artifact, struct rmj_digest *root)
{
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    for (size_t i = 0; i < artifact->file_count; i++) {
        rmj_sha256_update(&sha, artifact->files[i].digest.bytes, RMJ_DIGEST_SIZE);
    }
    rmj_sha256_final(&sha, root);
}
