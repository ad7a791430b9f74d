#include "service/registry/publish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "proto/text/text_format.h"
#include "service/gate/gate.h"

#define KEY_SIZE 1024
#define DOCUMENT_SIZE_MAX ((size_t)16 << 20)

// A version in the making.
struct making {
    const struct rmj_publish_request *request;
    uint32_t version;
    char prefix[192]; // models/<name>/<version>
    struct rmj_artifact artifact;
};

static enum rmj_status key_of(char key[KEY_SIZE], const char *prefix, const char *path, struct rmj_error *err)
{
    int length = snprintf(key, KEY_SIZE, "%s/%s", prefix, path);
    return length > 0 && length < KEY_SIZE ? RMJ_OK : rmj_fail(err, RMJ_INVALID, "path %.80s... is too long", path);
}

// The one object that says what a version is; RMJ_NOT_FOUND when the number is free.
static enum rmj_status read_version(struct making *making, Rmjob__V1__ModelVersion **found, struct rmj_error *err)
{
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "models/%s/%u.json", making->request->name, making->version);
    struct rmj_buf text;
    rmj_buf_init(&text, DOCUMENT_SIZE_MAX);
    enum rmj_status status = rmj_store_get(making->request->store, key, &text, err);
    if (status == RMJ_OK) {
        struct rmj_text_result *result = rmj_text_result_create();
        status = rmj_json_parse(&rmjob__v1__model_version__descriptor, key, rmj_buf_text(&text), text.size,
                                (ProtobufCMessage **)found, result, err);
        rmj_text_result_destroy(result);
        status = status == RMJ_INVALID ? rmj_fail(err, RMJ_CORRUPT, "%s is not a version of a model", key) : status;
    }
    rmj_buf_deinit(&text);
    return status;
}

// Takes the number for this job, so that two publishers never write each other's files: *mine 0 when it is another's.
static enum rmj_status claim(struct making *making, int *mine, struct rmj_error *err)
{
    const char *job = making->request->report->job;
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "models/%s/claim/%u", making->request->name, making->version);
    enum rmj_status status = rmj_store_put(making->request->store, key, job, strlen(job), RMJ_PUT_IF_ABSENT, NULL, err);
    *mine = status == RMJ_OK;
    if (status != RMJ_CONFLICT) {
        return status;
    }
    struct rmj_buf owner;
    rmj_buf_init(&owner, KEY_SIZE);
    status = rmj_store_get(making->request->store, key, &owner, err);
    *mine = status == RMJ_OK && strcmp(rmj_buf_text(&owner), job) == 0;
    rmj_buf_deinit(&owner);
    return status;
}

// Moves on to this job's version (*found set) or to the first number that is free or claimed by this job.
static enum rmj_status find_number(struct making *making, Rmjob__V1__ModelVersion **found, struct rmj_error *err)
{
    for (; making->version <= RMJ_PUBLISH_VERSIONS_MAX; making->version++) {
        Rmjob__V1__ModelVersion *there = NULL;
        struct rmj_error absent = {0};
        enum rmj_status status = read_version(making, &there, &absent);
        if (status == RMJ_NOT_FOUND) {
            int mine = 0;
            RMJ_TRY(claim(making, &mine, err));
            if (mine) {
                return RMJ_OK;
            }
            continue;
        }
        if (status != RMJ_OK) {
            *err = absent;
            return status;
        }
        if (there->job != NULL && strcmp(there->job, making->request->report->job) == 0) {
            *found = there;
            return RMJ_OK;
        }
        rmjob__v1__model_version__free_unpacked(there, NULL);
    }
    return rmj_fail(err, RMJ_FULL, "model %s has no free version number", making->request->name);
}

static enum rmj_status stream_digest(struct rmj_store *store, const char *key, uint64_t size, struct rmj_digest *digest,
                                     struct rmj_error *err)
{
    enum { CHUNK = 1 << 20 };
    char *chunk = malloc(CHUNK);
    if (chunk == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to check %s", key);
    }
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    enum rmj_status status = RMJ_OK;
    for (uint64_t at = 0; at < size && status == RMJ_OK; at += CHUNK) {
        size_t part = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        status = rmj_store_get_range(store, key, at, chunk, part, err);
        if (status == RMJ_OK) {
            rmj_sha256_update(&sha, chunk, part);
        }
    }
    rmj_sha256_final(&sha, digest);
    free(chunk);
    return status;
}

// The object at `key` is the file that was evaluated, by size and digest.
static enum rmj_status check_object(struct rmj_store *store, const char *key, const Rmjob__V1__StagedFile *file,
                                    struct rmj_error *err)
{
    struct rmj_digest wanted, found;
    uint64_t size = 0;
    if (file->sha256 == NULL || !rmj_digest_from_hex(&wanted, file->sha256)) {
        return rmj_fail(err, RMJ_CORRUPT, "%s was delivered without a digest", key);
    }
    RMJ_TRY(rmj_store_head(store, key, &size, NULL, err));
    RMJ_TRY(stream_digest(store, key, size, &found, err));
    if (size != file->size || !rmj_digest_equal(&wanted, &found)) {
        return rmj_fail(err, RMJ_CORRUPT, "%s is not the file that was evaluated; nothing was published", key);
    }
    return RMJ_OK;
}

static int path_is_safe(const char *path)
{
    return path != NULL && path[0] != '\0' && path[0] != '/' && strstr(path, "..") == NULL &&
           strcmp(path, "model.sig") != 0;
}

// Copies first and checks the copy: what is published is what was looked at.
static enum rmj_status copy_staged(struct making *making, struct rmj_error *err)
{
    const Rmjob__V1__EvaluatedRequest *delivered = making->request->delivered;
    struct rmj_digest root, evaluated;
    for (size_t i = 0; i < delivered->n_files; i++) {
        const Rmjob__V1__StagedFile *file = delivered->files[i];
        char from[KEY_SIZE], to[KEY_SIZE];
        if (!path_is_safe(file->path)) {
            return rmj_fail(err, RMJ_CORRUPT, "a staged file has the path \"%s\"",
                            file->path == NULL ? "" : file->path);
        }
        RMJ_TRY(key_of(from, delivered->staged_prefix, file->path, err));
        RMJ_TRY(key_of(to, making->prefix, file->path, err));
        RMJ_TRY(rmj_store_copy(making->request->store, from, to, err));
        RMJ_TRY(check_object(making->request->store, to, file, err));
        struct rmj_digest digest;
        rmj_digest_from_hex(&digest, file->sha256);
        RMJ_TRY(rmj_artifact_add(&making->artifact, file->path, file->size, &digest, err));
    }
    rmj_artifact_root(&making->artifact, &root);
    const char *hex = making->request->report->evaluation->artifact_digest;
    if (hex == NULL || !rmj_digest_from_hex(&evaluated, hex) || !rmj_digest_equal(&root, &evaluated)) {
        return rmj_fail(err, RMJ_CORRUPT, "the staged files are not the directory that was evaluated (%s)",
                        hex == NULL ? "no digest" : hex);
    }
    return RMJ_OK;
}

static enum rmj_status put_document(struct making *making, const char *path, const struct rmj_buf *text, int listed,
                                    struct rmj_error *err)
{
    RMJ_TRY(rmj_buf_check(text, err));
    char key[KEY_SIZE];
    struct rmj_digest digest;
    rmj_sha256_of(text->bytes, text->size, &digest);
    RMJ_TRY(key_of(key, making->prefix, path, err));
    RMJ_TRY(rmj_store_put(making->request->store, key, text->bytes, text->size, RMJ_PUT_ANY, &digest, err));
    return listed ? rmj_artifact_add(&making->artifact, path, text->size, &digest, err) : RMJ_OK;
}

static enum rmj_status add_documents(struct making *making, struct rmj_error *err)
{
    const struct rmj_publish_request *request = making->request;
    struct rmj_buf text;
    rmj_buf_init(&text, DOCUMENT_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    rmj_model_card(request->report, request->name, making->version, &text);
    RMJ_GO(put_document(making, "README.md", &text, 1, err));
    rmj_buf_clear(&text);
    rmj_lineage_json(request->report, request->name, making->version, &text);
    RMJ_GO(put_document(making, "rmjob.json", &text, 1, err));
    rmj_buf_clear(&text);
    RMJ_GO(rmj_artifact_sign(&making->artifact, request->name, request->key, &text, err));
    RMJ_GO(put_document(making, "model.sig", &text, 0, err));
out:
    rmj_buf_deinit(&text);
    return status;
}

static char *duplicate(const char *text)
{
    char *copy = strdup(text);
    RMJ_ASSERT(copy != NULL);
    return copy;
}

static void describe_files(const struct making *making, Rmjob__V1__ModelVersion *version)
{
    version->n_files = making->artifact.file_count;
    version->files = calloc(version->n_files, sizeof *version->files);
    RMJ_ASSERT(version->files != NULL);
    for (size_t i = 0; i < version->n_files; i++) {
        Rmjob__V1__ArtifactFile *file = malloc(sizeof *file);
        char hex[RMJ_DIGEST_HEX_SIZE];
        RMJ_ASSERT(file != NULL);
        rmjob__v1__artifact_file__init(file);
        rmj_digest_hex(&making->artifact.files[i].digest, hex);
        file->path = duplicate(making->artifact.files[i].path);
        file->has_size = 1;
        file->size = making->artifact.files[i].size;
        file->sha256 = duplicate(hex);
        version->files[i] = file;
    }
}

static Rmjob__V1__ModelVersion *describe(const struct making *making)
{
    const struct rmj_publish_request *request = making->request;
    Rmjob__V1__ModelVersion *version = malloc(sizeof *version);
    RMJ_ASSERT(version != NULL);
    rmjob__v1__model_version__init(version);
    struct rmj_digest root;
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_artifact_root(&making->artifact, &root);
    rmj_digest_hex(&root, hex);
    version->name = duplicate(request->name);
    version->has_version = version->has_published_unix_ms = 1;
    version->version = making->version;
    version->job = duplicate(request->report->job);
    version->published_unix_ms = request->now_unix_ms;
    version->store = duplicate(request->store_url);
    version->prefix = duplicate(making->prefix);
    version->digest = duplicate(hex);
    version->verdict = (Rmjob__V1__GateVerdict *)rmj_message_copy(&request->report->verdict->base);
    describe_files(making, version);
    return version;
}

// The write that makes it visible. RMJ_CONFLICT: somebody else was faster.
static enum rmj_status commit(struct making *making, const Rmjob__V1__ModelVersion *version, struct rmj_error *err)
{
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "models/%s/%u.json", version->name, version->version);
    struct rmj_buf text;
    rmj_buf_init(&text, DOCUMENT_SIZE_MAX);
    rmj_json_print(&version->base, 1, &text);
    enum rmj_status status = rmj_buf_check(&text, err);
    if (status == RMJ_OK && rmj_fault_point("publish.commit")) {
        status = rmj_fail(err, RMJ_IO, "publishing failed (fault point publish.commit)");
    }
    if (status == RMJ_OK) {
        status = rmj_store_put(making->request->store, key, text.bytes, text.size, RMJ_PUT_IF_ABSENT, NULL, err);
    }
    rmj_buf_deinit(&text);
    return status;
}

// One attempt at one number.
static enum rmj_status make_version(struct making *making, Rmjob__V1__ModelVersion **version, struct rmj_error *err)
{
    Rmjob__V1__ModelVersion *made = NULL;
    enum rmj_status status = RMJ_OK;
    snprintf(making->prefix, sizeof making->prefix, "models/%s/%u", making->request->name, making->version);
    RMJ_GO(copy_staged(making, err));
    RMJ_GO(add_documents(making, err));
    made = describe(making);
    RMJ_GO(commit(making, made, err));
    *version = made;
    made = NULL;
out:
    rmj_artifact_deinit(&making->artifact);
    memset(&making->artifact, 0, sizeof making->artifact);
    if (made != NULL) {
        rmjob__v1__model_version__free_unpacked(made, NULL);
    }
    return status;
}

static enum rmj_status delete_one(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                  struct rmj_error *err)
{
    (void)size;
    (void)modified_unix_ms;
    return rmj_store_delete(context, key, err);
}

static enum rmj_status move_alias(const struct rmj_publish_request *request, uint32_t version, Rmjob__V1__Alias **out,
                                  struct rmj_error *err)
{
    Rmjob__V1__Alias *alias = malloc(sizeof *alias);
    RMJ_ASSERT(alias != NULL);
    rmjob__v1__alias__init(alias);
    char comment[128], key[KEY_SIZE];
    snprintf(comment, sizeof comment, "passed its gate in job %s", request->report->job);
    snprintf(key, sizeof key, "models/%s/alias/%s.json", request->name, request->alias);
    alias->name = duplicate(request->name);
    alias->alias = duplicate(request->alias);
    alias->actor = duplicate("rmjobd");
    alias->comment = duplicate(comment);
    alias->has_version = alias->has_unix_ms = 1;
    alias->version = version;
    alias->unix_ms = request->now_unix_ms;
    struct rmj_buf text;
    rmj_buf_init(&text, DOCUMENT_SIZE_MAX);
    rmj_json_print(&alias->base, 1, &text);
    enum rmj_status status = rmj_buf_check(&text, err);
    if (status == RMJ_OK) {
        status = rmj_store_put(request->store, key, text.bytes, text.size, RMJ_PUT_ANY, NULL, err);
    }
    rmj_buf_deinit(&text);
    if (status != RMJ_OK) {
        rmjob__v1__alias__free_unpacked(alias, NULL);
        alias = NULL;
    }
    *out = alias;
    return status;
}

enum rmj_status rmj_registry_publish(const struct rmj_publish_request *request, Rmjob__V1__ModelVersion **version_out,
                                     Rmjob__V1__Alias **alias, struct rmj_error *err)
{
    const Rmjob__V1__GateVerdict *verdict = request->report->verdict;
    if (verdict == NULL || !verdict->has_passed || !verdict->passed || request->report->evaluation == NULL) {
        return rmj_fail(err, RMJ_GATE, "job %s did not pass its gate; nothing is published", request->report->job);
    }
    struct making making = {.request = request, .version = request->version_hint == 0 ? 1 : request->version_hint};
    Rmjob__V1__ModelVersion *version = NULL;
    enum rmj_status status = RMJ_CONFLICT;
    while (status == RMJ_CONFLICT && version == NULL) {
        status = find_number(&making, &version, err);
        if (status == RMJ_OK && version == NULL) {
            status = make_version(&making, &version, err);
        }
    }
    if (status == RMJ_OK) {
        status = move_alias(request, version->version, alias, err);
    }
    if (status != RMJ_OK && version != NULL) {
        rmjob__v1__model_version__free_unpacked(version, NULL);
        version = NULL;
    }
    *version_out = version;
    return status;
}

enum rmj_status rmj_registry_unstage(struct rmj_store *store, const char *job, struct rmj_error *err)
{
    char prefix[128];
    snprintf(prefix, sizeof prefix, "staged/%s/", job);
    return rmj_store_list(store, prefix, delete_one, store, err);
}
