#include "trainer/data/study_sort.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"

// Least that is read of a run at once.
#define READ_BYTES_MIN ((size_t)4096)

struct run {
    uint64_t offset, end; // of what is not yet read, in the file
    uint64_t *words;      // what is read and not yet handed out
    size_t at, count;     // in words
};

struct rmj_sort {
    size_t words; // of a record
    const char *directory;
    uint64_t *memory; // [room] words: records to be sorted, then what is read of the runs
    size_t room, used;
    int fd; // -1: no run was written
    uint64_t written;
    struct run *runs; // [run_count]; one in memory alone when fd is -1
    size_t run_count, run_room, run_words;
    int reading;
};

static enum rmj_status io_failed(struct rmj_error *err, const char *what)
{
    int code = errno;
    return rmj_error_set(err, __FILE__, __LINE__, code == ENOSPC ? RMJ_FULL : RMJ_IO, "errno", code,
                         "cannot %s the study of the data, make room where TMPDIR points", what);
}

enum rmj_status rmj_study_temporary(int *fd, const char *directory, struct rmj_error *err)
{
    if (directory == NULL) {
        *fd = memfd_create("rmjob-study", MFD_CLOEXEC);
        return *fd >= 0 ? RMJ_OK : io_failed(err, "keep");
    }
    char *path = rmj_fs_join(directory, "study-XXXXXX");
    *fd = mkostemp(path, O_CLOEXEC);
    enum rmj_status status = *fd >= 0 ? RMJ_OK : io_failed(err, "keep");
    if (*fd >= 0) {
        (void)unlink(path);
    }
    free(path);
    return status;
}

enum rmj_status rmj_study_write(int fd, const void *bytes, size_t size, uint64_t offset, struct rmj_error *err)
{
    for (const char *from = bytes; size > 0;) {
        ssize_t count = pwrite(fd, from, size, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return io_failed(err, "write");
        }
        from += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return RMJ_OK;
}

enum rmj_status rmj_study_read(int fd, void *bytes, size_t size, uint64_t offset, struct rmj_error *err)
{
    for (char *into = bytes; size > 0;) {
        ssize_t count = pread(fd, into, size, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count == 0) {
            return rmj_fail(err, RMJ_CORRUPT, "the study's file is shorter than what was written to it");
        }
        if (count < 0) {
            return io_failed(err, "read");
        }
        into += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return RMJ_OK;
}

enum rmj_status rmj_sort_create(struct rmj_sort **out, size_t word_count, const char *directory, size_t memory_bytes,
                                struct rmj_error *err)
{
    RMJ_ASSERT(word_count >= 1 && word_count <= RMJ_SORT_WORDS_MAX);
    struct rmj_sort *sort = calloc(1, sizeof *sort);
    *out = sort;
    if (sort == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to sort the study of the data");
    }
    size_t record_bytes = word_count * sizeof(uint64_t);
    size_t records = memory_bytes / record_bytes;
    // Whole records, and in a run's part too.
    sort->room =
        (records < 2 * READ_BYTES_MIN / record_bytes ? 2 * READ_BYTES_MIN / record_bytes : records) * word_count;
    sort->words = word_count;
    sort->directory = directory;
    sort->fd = -1;
    // Not zeroed, so that what is never used is never resident.
    sort->memory = malloc(sort->room * sizeof(uint64_t));
    if (sort->memory == NULL) {
        rmj_sort_destroy(sort);
        *out = NULL;
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to sort the study of the data");
    }
    return RMJ_OK;
}

void rmj_sort_clear(struct rmj_sort *sort)
{
    if (sort->fd >= 0) {
        (void)close(sort->fd);
    }
    sort->fd = -1;
    sort->written = 0;
    sort->used = sort->run_count = 0;
    sort->reading = 0;
}

void rmj_sort_destroy(struct rmj_sort *sort)
{
    if (sort == NULL) {
        return;
    }
    rmj_sort_clear(sort);
    free(sort->memory);
    free(sort->runs);
    free(sort);
}

static int order(const uint64_t *a, const uint64_t *b, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
    }
    return 0;
}

static int order_one(const void *a, const void *b)
{
    return order(a, b, 1);
}

static int order_two(const void *a, const void *b)
{
    return order(a, b, 2);
}

static int order_three(const void *a, const void *b)
{
    return order(a, b, 3);
}

static int order_four(const void *a, const void *b)
{
    return order(a, b, 4);
}

static enum rmj_status close_run(struct rmj_sort *sort, struct rmj_error *err)
{
    static int (*const orders[])(const void *, const void *) = {order_one, order_two, order_three, order_four};
    qsort(sort->memory, sort->used / sort->words, sort->words * sizeof(uint64_t), orders[sort->words - 1]);
    if (sort->run_count == sort->run_room) {
        size_t room = sort->run_room == 0 ? 16 : 2 * sort->run_room;
        struct run *runs = realloc(sort->runs, room * sizeof *runs);
        if (runs == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu runs of the study of the data", room);
        }
        sort->runs = runs;
        sort->run_room = room;
    }
    sort->runs[sort->run_count++] = (struct run){.words = sort->memory, .count = sort->used};
    return RMJ_OK;
}

static enum rmj_status write_run(struct rmj_sort *sort, struct rmj_error *err)
{
    RMJ_TRY(close_run(sort, err));
    if (sort->fd < 0) {
        RMJ_TRY(rmj_study_temporary(&sort->fd, sort->directory, err));
    }
    size_t bytes = sort->used * sizeof(uint64_t);
    RMJ_TRY(rmj_study_write(sort->fd, sort->memory, bytes, sort->written, err));
    sort->runs[sort->run_count - 1] = (struct run){.offset = sort->written, .end = sort->written + bytes};
    sort->written += bytes;
    sort->used = 0;
    return RMJ_OK;
}

enum rmj_status rmj_sort_add(struct rmj_sort *sort, const uint64_t *record, struct rmj_error *err)
{
    RMJ_ASSERT(!sort->reading);
    if (sort->used + sort->words > sort->room) {
        RMJ_TRY(write_run(sort, err));
    }
    memcpy(sort->memory + sort->used, record, sort->words * sizeof *record);
    sort->used += sort->words;
    return RMJ_OK;
}

static enum rmj_status refill(struct rmj_sort *sort, struct run *run, struct rmj_error *err)
{
    uint64_t left = (run->end - run->offset) / sizeof(uint64_t);
    run->at = 0;
    run->count = left < sort->run_words ? (size_t)left : sort->run_words;
    RMJ_TRY(rmj_study_read(sort->fd, run->words, run->count * sizeof(uint64_t), run->offset, err));
    run->offset += run->count * sizeof(uint64_t);
    return RMJ_OK;
}

static enum rmj_status start_reading(struct rmj_sort *sort, struct rmj_error *err)
{
    sort->reading = 1;
    if (sort->fd < 0) {
        return close_run(sort, err);
    }
    if (sort->used > 0) {
        RMJ_TRY(write_run(sort, err));
    }
    // The memory is cut among the runs. So many that a part would be tiny get more memory instead: 4 KiB a run.
    size_t part = sort->room / sort->run_count, least = READ_BYTES_MIN / sizeof(uint64_t);
    if (part < least) {
        free(sort->memory);
        sort->room = sort->run_count * least;
        sort->memory = malloc(sort->room * sizeof(uint64_t));
        if (sort->memory == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory to merge %zu runs of the study", sort->run_count);
        }
        part = least;
    }
    sort->run_words = part - part % sort->words;
    for (size_t i = 0; i < sort->run_count; i++) {
        sort->runs[i].words = sort->memory + i * sort->run_words;
        RMJ_TRY(refill(sort, &sort->runs[i], err));
    }
    return RMJ_OK;
}

// The runs as a heap: the one with the least record first.
static void sift(struct rmj_sort *sort, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < sort->run_count; child++) {
            const struct run *a = &sort->runs[child], *b = &sort->runs[least];
            if (order(a->words + a->at, b->words + b->at, sort->words) < 0) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        struct run swap = sort->runs[at];
        sort->runs[at] = sort->runs[least];
        sort->runs[least] = swap;
        at = least;
    }
}

// Behind the record that was handed out.
static enum rmj_status advance(struct rmj_sort *sort, struct rmj_error *err)
{
    struct run *run = &sort->runs[0];
    run->at += sort->words;
    if (run->at == run->count) {
        if (run->offset == run->end) {
            *run = sort->runs[--sort->run_count];
        } else {
            RMJ_TRY(refill(sort, run, err));
        }
    }
    sift(sort, 0);
    return RMJ_OK;
}

enum rmj_status rmj_sort_next(struct rmj_sort *sort, const uint64_t **record, struct rmj_error *err)
{
    if (!sort->reading) {
        RMJ_TRY(start_reading(sort, err));
        sort->run_count = sort->runs[0].count == 0 ? 0 : sort->run_count;
        for (size_t i = sort->run_count / 2; i-- > 0;) {
            sift(sort, i);
        }
    } else if (sort->run_count > 0) {
        RMJ_TRY(advance(sort, err));
    }
    *record = sort->run_count == 0 ? NULL : sort->runs[0].words + sort->runs[0].at;
    return RMJ_OK;
}
