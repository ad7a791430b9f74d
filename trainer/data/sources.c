#include "trainer/data/sources.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/text.h"
#include "storage/object/store.h"

static const char s3_scheme[] = "s3://";
static const char file_scheme[] = "file://";

static int is_s3(const char *path)
{
    return strncmp(path, s3_scheme, sizeof s3_scheme - 1) == 0;
}

// A pattern in which only '*' is special.
static char *only_stars(const char *path)
{
    char *pattern = malloc(2 * strlen(path) + 1), *at = pattern;
    RMJ_ASSERT(pattern != NULL);
    for (; *path != '\0'; path++) {
        if (*path == '?' || *path == '[' || *path == '\\') {
            *at++ = '\\';
        }
        *at++ = *path;
    }
    *at = '\0';
    return pattern;
}

static void free_file(struct rmj_source_file *file)
{
    free(file->name);
    free(file->path);
    free(file->field);
    free(file->label);
}

// The same file among those there: an object by its name, a local file wherever its names lead.
static const struct rmj_source_file *find_twin(const struct rmj_sources *sources, const struct rmj_source_file *file)
{
    for (size_t i = 0; i < sources->count; i++) {
        const struct rmj_source_file *other = &sources->files[i];
        int same = file->inode == 0 ? strcmp(file->name, other->name) == 0
                                    : file->inode == other->inode && file->device == other->device;
        if (same) {
            return other;
        }
    }
    return NULL;
}

static enum rmj_status append(struct rmj_sources *sources, const char *name, const char *path, const char *field,
                              struct rmj_error *err)
{
    if (sources->count == RMJ_SOURCE_FILES_MAX) {
        return rmj_fail(err, RMJ_INVALID, "more than %u files: join some", RMJ_SOURCE_FILES_MAX);
    }
    if (rmj_text_utf8_valid(name, strlen(name)) < strlen(name)) {
        return rmj_fail(err, RMJ_INVALID, "the name of a file is not UTF-8: rename it");
    }
    for (const char *at = name; *at != '\0'; at++) { // reports print it on terminals
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            return rmj_fail(err, RMJ_INVALID, "the name of a file holds a control character: rename it");
        }
    }
    struct rmj_source_file file = {
        .name = strdup(name), .path = path == NULL ? NULL : strdup(path), .field = strdup(field)};
    struct stat info;
    if (path != NULL && stat(path, &info) == 0) {
        file.device = info.st_dev;
        file.inode = info.st_ino;
    }
    const struct rmj_source_file *twin = find_twin(sources, &file);
    if (twin != NULL) {
        enum rmj_status status = rmj_fail(err, RMJ_INVALID,
                                          "%s is also a file of %s%s%s: each pair is read once, and a second time "
                                          "would be a second epoch",
                                          name, twin->field, strcmp(name, twin->name) == 0 ? "" : ", as ",
                                          strcmp(name, twin->name) == 0 ? "" : twin->name);
        free_file(&file);
        return status;
    }
    struct rmj_source_file *files = realloc(sources->files, (sources->count + 1) * sizeof *files);
    RMJ_ASSERT(files != NULL);
    sources->files = files;
    files[sources->count++] = file;
    return RMJ_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct rmj_source_file *)a)->name, ((const struct rmj_source_file *)b)->name);
}

static enum rmj_status add_local(struct rmj_sources *sources, const char *path, const char *field,
                                 struct rmj_error *err)
{
    if (strchr(path, '*') == NULL) {
        return append(sources, path, path, field, err);
    }
    char *pattern = only_stars(path);
    glob_t found = {0};
    enum rmj_status status = RMJ_OK;
    int code = glob(pattern, 0, NULL, &found);
    if (code == GLOB_NOMATCH) {
        status = rmj_fail(err, RMJ_NOT_FOUND, "no file matches %s", path);
    } else if (code != 0) {
        status = rmj_fail(err, RMJ_IO, "cannot list the files of %s", path);
    }
    for (size_t i = 0; status == RMJ_OK && i < found.gl_pathc; i++) {
        status = append(sources, found.gl_pathv[i], found.gl_pathv[i], field, err);
    }
    globfree(&found);
    free(pattern);
    return status;
}

// "s3://bucket/a/b*.jsonl" as store URL "s3://bucket" and key "a/b*.jsonl".
static enum rmj_status split_s3(const char *path, char **url, const char **key, struct rmj_error *err)
{
    const char *slash = strchr(path + sizeof s3_scheme - 1, '/');
    if (slash == NULL || slash[1] == '\0' || slash == path + sizeof s3_scheme - 1) {
        return rmj_fail(err, RMJ_INVALID, "%s names no object: write s3://bucket/name", path);
    }
    *url = strndup(path, (size_t)(slash - path));
    *key = slash + 1;
    return RMJ_OK;
}

struct listing {
    struct rmj_sources *sources;
    const char *url, *pattern, *field;
};

static enum rmj_status add_listed(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                  struct rmj_error *err)
{
    struct listing *listing = context;
    if (fnmatch(listing->pattern, key, FNM_PATHNAME) != 0) {
        return RMJ_OK;
    }
    size_t length = strlen(listing->url) + strlen(key) + 2;
    char *name = malloc(length);
    RMJ_ASSERT(name != NULL);
    snprintf(name, length, "%s/%s", listing->url, key);
    enum rmj_status status = append(listing->sources, name, NULL, listing->field, err);
    if (status == RMJ_OK) {
        struct rmj_source_file *file = &listing->sources->files[listing->sources->count - 1];
        file->object_size = size;
        file->object_unix_ms = modified_unix_ms;
    }
    free(name);
    return status;
}

static enum rmj_status add_s3(struct rmj_sources *sources, const char *path, const char *field, struct rmj_error *err)
{
    char *url = NULL, *pattern = NULL, *prefix = NULL;
    const char *key = NULL;
    struct rmj_store *store = NULL;
    enum rmj_status status = RMJ_OK;
    size_t before = sources->count;
    RMJ_GO(split_s3(path, &url, &key, err));
    const char *star = strchr(key, '*');
    if (star == NULL) {
        status = append(sources, path, NULL, field, err);
        goto out;
    }
    pattern = only_stars(key);
    prefix = strndup(key, (size_t)(star - key));
    RMJ_GO(rmj_store_open(&store, url, 0, NULL, err));
    struct listing listing = {.sources = sources, .url = url, .pattern = pattern, .field = field};
    RMJ_GO(rmj_store_list(store, prefix, add_listed, &listing, err));
    if (sources->count == before) {
        status = rmj_fail(err, RMJ_NOT_FOUND, "no object matches %s", path);
    }
out:
    rmj_store_close(store);
    free(url);
    free(pattern);
    free(prefix);
    return status;
}

enum rmj_status rmj_sources_add(struct rmj_sources *sources, const char *path, const char *field, struct rmj_error *err)
{
    size_t before = sources->count;
    if (strncmp(path, file_scheme, sizeof file_scheme - 1) == 0) {
        path += sizeof file_scheme - 1;
    }
    RMJ_TRY(is_s3(path) ? add_s3(sources, path, field, err) : add_local(sources, path, field, err));
    qsort(sources->files + before, sources->count - before, sizeof *sources->files, by_name);
    return RMJ_OK;
}

enum rmj_status rmj_sources_add_source(struct rmj_sources *sources, const Rmjob__V1__DataSource *source,
                                       const char *field, struct rmj_error *err)
{
    size_t before = sources->count;
    RMJ_TRY(rmj_sources_add(sources, source->path == NULL ? "" : source->path, field, err));
    for (size_t i = before; i < sources->count; i++) {
        struct rmj_source_file *file = &sources->files[i];
        file->label = source->name == NULL || source->name[0] == '\0' ? NULL : strdup(source->name);
        file->format = (struct rmj_row_format){
            .form = source->has_form ? source->form : RMJOB__V1__DATA_FORM__automatic, .columns = source->columns};
    }
    return RMJ_OK;
}

static enum rmj_status make_directory(struct rmj_sources *sources, struct rmj_error *err)
{
    if (sources->directory != NULL) {
        return RMJ_OK;
    }
    const char *base = getenv("TMPDIR");
    char *directory = rmj_fs_join(base == NULL || base[0] == '\0' ? "/tmp" : base, "rmjob-data-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        enum rmj_status status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot make %s", directory);
        free(directory);
        return status;
    }
    sources->directory = directory;
    return RMJ_OK;
}

enum rmj_status rmj_sources_fetch(struct rmj_sources *sources, size_t index, struct rmj_error *err)
{
    struct rmj_source_file *file = &sources->files[index];
    if (file->path != NULL) {
        return RMJ_OK;
    }
    char name[32], *url = NULL, *path = NULL;
    const char *key = NULL;
    struct rmj_store *store = NULL;
    struct rmj_digest digest;
    uint64_t size;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(make_directory(sources, err));
    snprintf(name, sizeof name, "%zu", index);
    path = rmj_fs_join(sources->directory, name);
    RMJ_GO(split_s3(file->name, &url, &key, err));
    RMJ_GO(rmj_store_open(&store, url, 0, NULL, err));
    RMJ_GO(rmj_store_get_file(store, key, path, &digest, &size, err));
    file->path = path;
    file->temporary = 1;
    path = NULL;
out:
    rmj_store_close(store);
    free(url);
    free(path);
    return status;
}

static enum rmj_status ask_store(const struct rmj_source_file *file, uint64_t *size, int64_t *modified_unix_ms,
                                 struct rmj_error *err)
{
    char *url = NULL;
    const char *key = NULL;
    struct rmj_store *store = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(split_s3(file->name, &url, &key, err));
    RMJ_GO(rmj_store_open(&store, url, 0, NULL, err));
    RMJ_GO(rmj_store_head(store, key, size, modified_unix_ms, err));
out:
    rmj_store_close(store);
    free(url);
    return status;
}

enum rmj_status rmj_sources_probe(const struct rmj_sources *sources, size_t index, int *local, struct rmj_error *err)
{
    const struct rmj_source_file *file = &sources->files[index];
    uint64_t size;
    int64_t modified_unix_ms;
    *local = file->path != NULL;
    if (*local) {
        return access(file->path, R_OK) == 0
                   ? RMJ_OK
                   : rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", file->name);
    }
    return ask_store(file, &size, &modified_unix_ms, err);
}

struct rmj_source_stamp rmj_sources_stamp(const struct rmj_sources *sources, size_t index)
{
    const struct rmj_source_file *file = &sources->files[index];
    struct rmj_source_stamp stamp = {0};
    struct stat status;
    if (file->path != NULL && stat(file->path, &status) == 0) {
        stamp = (struct rmj_source_stamp){status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                                          (int64_t)status.st_ino};
    } else if (file->path == NULL) {
        uint64_t size = file->object_size;
        int64_t modified_unix_ms = file->object_unix_ms;
        if (modified_unix_ms != 0 || ask_store(file, &size, &modified_unix_ms, NULL) == RMJ_OK) {
            stamp = (struct rmj_source_stamp){(int64_t)size, modified_unix_ms / 1000, modified_unix_ms % 1000, 0};
        }
    }
    return stamp;
}

void rmj_sources_release(struct rmj_sources *sources, size_t index)
{
    struct rmj_source_file *file = &sources->files[index];
    if (file->temporary) {
        unlink(file->path);
        free(file->path);
        file->path = NULL;
        file->temporary = 0;
    }
}

void rmj_sources_deinit(struct rmj_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        rmj_sources_release(sources, i);
        free_file(&sources->files[i]);
    }
    free(sources->files);
    if (sources->directory != NULL) {
        rmdir(sources->directory);
        free(sources->directory);
    }
    *sources = (struct rmj_sources){0};
}
