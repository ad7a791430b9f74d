// The pairs of a study: taken in order, kept as records in a file, so that memory does not grow with them and a killed
// preparation can go on.
//
//   study-pairs   struct rmj_study_record, one a pair
//   study-names   of files and sources in the order they were first met: 'p' or 's', the text, a NUL
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "trainer/data/study_internal.h"

#define MEMORY_BYTES_DEFAULT ((size_t)128 << 20)
#define MEMORY_BYTES_LEAST ((size_t)1 << 20)
#define RECORDS_AT_ONCE 512u
#define NAMES_BYTES_MAX ((size_t)64 << 20)

static enum rmj_status no_memory(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the study of the data");
}

static enum rmj_status open_file(int *fd, const char *directory, const char *name, int resume, struct rmj_error *err)
{
    if (directory == NULL) {
        return rmj_study_temporary(fd, NULL, err);
    }
    char *path = rmj_fs_join(directory, name);
    *fd = open(path, O_RDWR | O_CLOEXEC | (resume ? 0 : O_CREAT | O_TRUNC), 0600);
    int code = errno;
    enum rmj_status status =
        *fd >= 0 ? RMJ_OK
                 : rmj_fail_errno(err, rmj_fs_errno_status(code), "cannot open %s for the study of the data", path);
    free(path);
    return status;
}

// Index of a name; added when it is new.
static enum rmj_status find_name(struct rmj_names *names, const char *text, uint32_t *index, int *is_new,
                                 struct rmj_error *err)
{
    *is_new = 0;
    for (*index = 0; *index < names->count; ++*index) {
        if (strcmp(names->texts[*index], text) == 0) {
            return RMJ_OK;
        }
    }
    if (names->count == names->room) {
        uint32_t room = names->room == 0 ? 16 : 2 * names->room;
        char **texts = realloc(names->texts, room * sizeof *texts);
        if (texts == NULL) {
            return no_memory(err);
        }
        names->texts = texts;
        names->room = room;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return no_memory(err);
    }
    names->texts[names->count++] = copy;
    *is_new = 1;
    return RMJ_OK;
}

static enum rmj_status use_name(struct rmj_study *study, char kind, const char *text, uint32_t *used,
                                struct rmj_error *err)
{
    struct rmj_names *names = kind == 'p' ? &study->paths : &study->sources;
    int is_new;
    if (names->count > 0 && *used < names->count && strcmp(names->texts[*used], text) == 0) {
        return RMJ_OK;
    }
    RMJ_TRY(find_name(names, text, used, &is_new, err));
    if (is_new) {
        size_t size = strlen(text) + 1;
        RMJ_TRY(rmj_study_write(study->names_fd, &kind, 1, study->names_size, err));
        RMJ_TRY(rmj_study_write(study->names_fd, text, size, study->names_size + 1, err));
        study->names_size += 1 + size;
    }
    return RMJ_OK;
}

static enum rmj_status read_names(struct rmj_study *study, struct rmj_error *err)
{
    off_t size = lseek(study->names_fd, 0, SEEK_END);
    if (size <= 0 || (size_t)size > NAMES_BYTES_MAX) {
        return rmj_fail(err, RMJ_NOT_FOUND, "the names of a former study of the data are not there");
    }
    char *bytes = malloc((size_t)size + 1);
    if (bytes == NULL) {
        return no_memory(err);
    }
    bytes[size] = '\0';
    enum rmj_status status = rmj_study_read(study->names_fd, bytes, (size_t)size, 0, err);
    size_t at = 0;
    while (status == RMJ_OK && at < (size_t)size) {
        size_t length = strlen(bytes + at);
        if (at + length == (size_t)size) {
            break; // cut while it was written: no pair of this name was synced
        }
        uint32_t index;
        int is_new;
        status = length == 0 ? RMJ_OK
                             : find_name(bytes[at] == 'p' ? &study->paths : &study->sources, bytes + at + 1, &index,
                                         &is_new, err);
        at += length + 1;
    }
    study->names_size = at;
    free(bytes);
    return status;
}

static enum rmj_status resume(struct rmj_study *study, uint32_t pair_count, struct rmj_error *err)
{
    off_t size = lseek(study->pairs_fd, 0, SEEK_END), wanted = (off_t)pair_count * (off_t)sizeof *study->buffer;
    if (size < wanted || ftruncate(study->pairs_fd, wanted) != 0) {
        return rmj_fail(err, RMJ_NOT_FOUND, "a former study of the data holds fewer than %u pairs", pair_count);
    }
    RMJ_TRY(read_names(study, err));
    study->pair_count = pair_count;
    return RMJ_OK;
}

enum rmj_status rmj_study_create(struct rmj_study **out, const struct rmj_study_options *options, struct rmj_error *err)
{
    struct rmj_study *study = calloc(1, sizeof *study);
    enum rmj_status status = RMJ_OK;
    const char *directory = options->temporary_directory;
    int resumed = options->resume_pair_count > 0;
    *out = NULL;
    RMJ_ASSERT(!resumed || directory != NULL);
    if (study == NULL) {
        return no_memory(err);
    }
    study->pairs_fd = study->names_fd = -1;
    study->buffer = malloc(RECORDS_AT_ONCE * sizeof *study->buffer);
    study->directory = directory == NULL ? NULL : strdup(directory);
    if (study->buffer == NULL || (directory != NULL && study->directory == NULL)) {
        status = no_memory(err);
        goto out;
    }
    study->memory_bytes = options->memory_bytes_max == 0 ? MEMORY_BYTES_DEFAULT : options->memory_bytes_max;
    if (study->memory_bytes < MEMORY_BYTES_LEAST) {
        study->memory_bytes = MEMORY_BYTES_LEAST;
    }
    study->references.bytes_max = study->memory_bytes / 3;
    RMJ_GO(open_file(&study->pairs_fd, directory, "study-pairs", resumed, err));
    RMJ_GO(open_file(&study->names_fd, directory, "study-names", resumed, err));
    if (resumed) {
        RMJ_GO(resume(study, options->resume_pair_count, err));
    }
out:
    if (status != RMJ_OK) {
        rmj_study_destroy(study);
        return status;
    }
    *out = study;
    return RMJ_OK;
}

static void names_deinit(struct rmj_names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        free(names->texts[i]);
    }
    free(names->texts);
}

void rmj_study_destroy(struct rmj_study *study)
{
    if (study == NULL) {
        return;
    }
    rmj_references_deinit(&study->references);
    names_deinit(&study->paths);
    names_deinit(&study->sources);
    if (study->pairs_fd >= 0) {
        (void)close(study->pairs_fd);
    }
    if (study->names_fd >= 0) {
        (void)close(study->names_fd);
    }
    free(study->directory);
    free(study->buffer);
    free(study);
}

enum rmj_status rmj_study_add_reference(struct rmj_study *study, const char *kind, const char *id,
                                        const struct rmj_sketch_texts *texts, struct rmj_error *err)
{
    int benchmark = strcmp(kind, "rewardbench2") == 0;
    RMJ_ASSERT(benchmark || strcmp(kind, "heldout") == 0);
    return rmj_references_add(&study->references, benchmark ? RMJ_REFERENCE_BENCHMARK : RMJ_REFERENCE_HELDOUT, id,
                              texts->prompt, texts->prompt_size, err);
}

enum rmj_status rmj_study_begin_source(struct rmj_study *study, const char *name, struct rmj_error *err)
{
    return use_name(study, 's', name, &study->source, err);
}

static enum rmj_status flush(struct rmj_study *study, struct rmj_error *err)
{
    uint64_t offset = (uint64_t)(study->pair_count - study->buffered) * sizeof *study->buffer;
    RMJ_TRY(rmj_study_write(study->pairs_fd, study->buffer, study->buffered * sizeof *study->buffer, offset, err));
    study->buffered = 0;
    return RMJ_OK;
}

enum rmj_status rmj_study_take(struct rmj_study *study, const struct rmj_study_pair *pair, struct rmj_error *err)
{
    RMJ_ASSERT(study->sources.count > 0);
    if (study->pair_count == UINT32_MAX) {
        return rmj_fail(err, RMJ_FULL, "more than %u pairs; split the set", UINT32_MAX - 1);
    }
    RMJ_TRY(use_name(study, 'p', pair->path, &study->path, err));
    if (study->buffered == RECORDS_AT_ONCE) {
        RMJ_TRY(flush(study, err));
    }
    study->buffer[study->buffered++] = (struct rmj_study_record){
        .sketch = *pair->sketch,
        .row = pair->row,
        .path = study->path,
        .source = study->source,
        .chosen_tokens = pair->chosen_tokens,
        .rejected_tokens = pair->rejected_tokens,
    };
    study->pair_count++;
    return RMJ_OK;
}

enum rmj_status rmj_study_sync(struct rmj_study *study, struct rmj_error *err)
{
    RMJ_TRY(flush(study, err));
    if (fdatasync(study->names_fd) != 0 || fdatasync(study->pairs_fd) != 0) {
        return rmj_fail_errno(err, RMJ_IO, "cannot write the study of the data to disk");
    }
    return RMJ_OK;
}

uint32_t rmj_study_pair_count(const struct rmj_study *study)
{
    return study->pair_count;
}

// A record of a damaged file must not lead outside of what is in memory.
static enum rmj_status check(const struct rmj_study *study, const struct rmj_study_record *record,
                             struct rmj_error *err)
{
    int whole = record->path < study->paths.count && record->source < study->sources.count &&
                record->sketch.language < rmj_language_count();
    for (unsigned kind = 0; kind < RMJ_REFERENCE_KINDS; kind++) {
        whole = whole && record->sketch.overlaps[kind].reference <= study->references.count;
    }
    return whole ? RMJ_OK
                 : rmj_fail(err, RMJ_CORRUPT, "the study's file is damaged, or was made with other held-out rows");
}

enum rmj_status rmj_study_record(struct rmj_study *study, uint32_t index, struct rmj_study_record *record,
                                 struct rmj_error *err)
{
    RMJ_ASSERT(index < study->pair_count && study->buffered == 0);
    RMJ_TRY(rmj_study_read(study->pairs_fd, record, sizeof *record, (uint64_t)index * sizeof *record, err));
    return check(study, record, err);
}

enum rmj_status rmj_study_each(struct rmj_study *study, rmj_study_fn each, void *context, struct rmj_error *err)
{
    RMJ_TRY(flush(study, err));
    for (uint64_t first = 0; first < study->pair_count; first += RECORDS_AT_ONCE) {
        uint64_t left = study->pair_count - first, count = left < RECORDS_AT_ONCE ? left : RECORDS_AT_ONCE;
        RMJ_TRY(rmj_study_read(study->pairs_fd, study->buffer, count * sizeof *study->buffer,
                               first * sizeof *study->buffer, err));
        for (uint64_t i = 0; i < count; i++) {
            RMJ_TRY(check(study, &study->buffer[i], err));
            RMJ_TRY(each(context, (uint32_t)(first + i), &study->buffer[i], err));
        }
    }
    return RMJ_OK;
}
