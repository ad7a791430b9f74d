#include "trainer/data/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define BUFFER_SIZE ((size_t)1 << 20)
#define RECORDS_AT_ONCE 4096u

// A file that grows at its end through a buffer, and is read anywhere.
struct tape {
    int fd;
    uint64_t written; // in the file
    char *buffer;     // what comes after it
    size_t buffered;
};

struct rmj_spool {
    struct tape pairs, tokens;
    uint32_t pair_count;
    uint64_t token_count;
};

static uint32_t rows_of(const struct rmj_plan_pair *pair)
{
    return pair->prefix_count + pair->chosen_count + pair->rejected_count;
}

static enum rmj_status io_failed(struct rmj_error *err, const char *what)
{
    int code = errno;
    return rmj_error_set(err, __FILE__, __LINE__, code == ENOSPC ? RMJ_FULL : RMJ_IO, "errno", code,
                         "cannot %s the prepared pairs, make room where TMPDIR points", what);
}

static enum rmj_status write_all(struct tape *tape, const char *bytes, size_t size, struct rmj_error *err)
{
    while (size > 0) {
        ssize_t count = pwrite(tape->fd, bytes, size, (off_t)tape->written);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return io_failed(err, "write");
        }
        tape->written += (size_t)count;
        bytes += count;
        size -= (size_t)count;
    }
    return RMJ_OK;
}

static enum rmj_status tape_flush(struct tape *tape, struct rmj_error *err)
{
    RMJ_TRY(write_all(tape, tape->buffer, tape->buffered, err));
    tape->buffered = 0;
    return RMJ_OK;
}

static enum rmj_status tape_add(struct tape *tape, const void *bytes, size_t size, struct rmj_error *err)
{
    if (size > BUFFER_SIZE - tape->buffered) {
        RMJ_TRY(tape_flush(tape, err));
    }
    if (size > BUFFER_SIZE) {
        return write_all(tape, bytes, size, err);
    }
    memcpy(tape->buffer + tape->buffered, bytes, size);
    tape->buffered += size;
    return RMJ_OK;
}

static enum rmj_status tape_read(struct tape *tape, uint64_t offset, void *bytes, size_t size, struct rmj_error *err)
{
    if (offset >= tape->written) {
        RMJ_ASSERT(offset - tape->written + size <= tape->buffered);
        memcpy(bytes, tape->buffer + (offset - tape->written), size);
        return RMJ_OK;
    }
    if (offset + size > tape->written) {
        RMJ_TRY(tape_flush(tape, err));
    }
    for (char *at = bytes; size > 0;) {
        ssize_t count = pread(tape->fd, at, size, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            errno = count == 0 ? EIO : errno;
            return io_failed(err, "read");
        }
        at += count;
        offset += (size_t)count;
        size -= (size_t)count;
    }
    return RMJ_OK;
}

static enum rmj_status tape_open(struct tape *tape, const char *directory, const char *name, int flags,
                                 struct rmj_error *err)
{
    tape->buffer = malloc(BUFFER_SIZE);
    if (tape->buffer == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a buffer");
    }
    if (directory == NULL) {
        tape->fd = memfd_create(name, MFD_CLOEXEC);
    } else {
        char *path = rmj_fs_join(directory, name);
        tape->fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
        free(path);
    }
    return tape->fd < 0 ? io_failed(err, "open") : RMJ_OK;
}

static enum rmj_status spool_open(struct rmj_spool **out, const char *directory, int flags, struct rmj_error *err)
{
    struct rmj_spool *spool = calloc(1, sizeof *spool);
    if (spool == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for pairs");
    }
    spool->pairs.fd = spool->tokens.fd = -1;
    enum rmj_status status = tape_open(&spool->pairs, directory, "pairs", flags, err);
    if (status == RMJ_OK) {
        status = tape_open(&spool->tokens, directory, "tokens", flags, err);
    }
    if (status != RMJ_OK) {
        rmj_spool_close(spool);
        return status;
    }
    *out = spool;
    return RMJ_OK;
}

enum rmj_status rmj_spool_create(struct rmj_spool **spool, const char *directory, struct rmj_error *err)
{
    *spool = NULL;
    return spool_open(spool, directory, O_CREAT | O_TRUNC, err);
}

static int cut(struct tape *tape, uint64_t size)
{
    struct stat status;
    tape->written = size;
    return fstat(tape->fd, &status) == 0 && (uint64_t)status.st_size >= size && ftruncate(tape->fd, (off_t)size) == 0;
}

enum rmj_status rmj_spool_resume(struct rmj_spool **spool, const char *directory, uint32_t pair_count,
                                 uint64_t token_count, struct rmj_error *err)
{
    *spool = NULL;
    RMJ_TRY(spool_open(spool, directory, 0, err));
    (*spool)->pair_count = pair_count;
    (*spool)->token_count = token_count;
    if (cut(&(*spool)->pairs, (uint64_t)pair_count * sizeof(struct rmj_spool_record)) &&
        cut(&(*spool)->tokens, token_count * sizeof(int32_t))) {
        return RMJ_OK;
    }
    rmj_spool_close(*spool);
    *spool = NULL;
    return rmj_fail(err, RMJ_NOT_FOUND, "the pairs that were prepared before are not whole");
}

void rmj_spool_close(struct rmj_spool *spool)
{
    if (spool == NULL) {
        return;
    }
    struct tape *tapes[] = {&spool->pairs, &spool->tokens};
    for (size_t i = 0; i < RMJ_COUNT(tapes); i++) {
        free(tapes[i]->buffer);
        if (tapes[i]->fd >= 0) {
            close(tapes[i]->fd);
        }
    }
    free(spool);
}

uint32_t rmj_spool_pair_count(const struct rmj_spool *spool)
{
    return spool->pair_count;
}

uint64_t rmj_spool_token_count(const struct rmj_spool *spool)
{
    return spool->token_count;
}

enum rmj_status rmj_spool_add(struct rmj_spool *spool, const struct rmj_plan_pair *pair,
                              const uint8_t key[RMJ_DIGEST_SIZE], const int32_t *tokens, struct rmj_error *err)
{
    uint32_t rows = rows_of(pair);
    if (spool->pair_count == UINT32_MAX - 1 || spool->token_count + rows > RMJ_PLAN_SECTION_SIZE_MAX / sizeof *tokens) {
        return rmj_fail(err, RMJ_DATA, "more pairs than a plan holds: cut the data set");
    }
    struct rmj_spool_record record = {.pair = *pair, .first_token = spool->token_count};
    memcpy(record.key, key, sizeof record.key);
    RMJ_TRY(tape_add(&spool->tokens, tokens, rows * sizeof *tokens, err));
    RMJ_TRY(tape_add(&spool->pairs, &record, sizeof record, err));
    spool->token_count += rows;
    spool->pair_count++;
    return RMJ_OK;
}

enum rmj_status rmj_spool_sync(struct rmj_spool *spool, struct rmj_error *err)
{
    RMJ_TRY(tape_flush(&spool->pairs, err));
    RMJ_TRY(tape_flush(&spool->tokens, err));
    return fdatasync(spool->pairs.fd) == 0 && fdatasync(spool->tokens.fd) == 0 ? RMJ_OK : io_failed(err, "write");
}

enum rmj_status rmj_spool_records(struct rmj_spool *spool, uint32_t first, uint32_t count,
                                  struct rmj_spool_record *records, struct rmj_error *err)
{
    RMJ_ASSERT(first <= spool->pair_count && count <= spool->pair_count - first);
    return tape_read(&spool->pairs, (uint64_t)first * sizeof *records, records, count * sizeof *records, err);
}

enum rmj_status rmj_spool_tokens(struct rmj_spool *spool, const struct rmj_spool_record *record, int32_t *tokens,
                                 struct rmj_error *err)
{
    return tape_read(&spool->tokens, record->first_token * sizeof *tokens, tokens,
                     rows_of(&record->pair) * sizeof *tokens, err);
}

enum rmj_status rmj_spool_each(struct rmj_spool *spool, rmj_spool_fn each, void *context, struct rmj_error *err)
{
    struct rmj_spool_record *records = malloc(RECORDS_AT_ONCE * sizeof *records);
    enum rmj_status status =
        records == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory to read pairs") : tape_flush(&spool->pairs, err);
    for (uint32_t first = 0; status == RMJ_OK && first < spool->pair_count; first += RECORDS_AT_ONCE) {
        uint32_t left = spool->pair_count - first, count = left < RECORDS_AT_ONCE ? left : RECORDS_AT_ONCE;
        status = rmj_spool_records(spool, first, count, records, err);
        for (uint32_t i = 0; status == RMJ_OK && i < count; i++) {
            status = each(context, first + i, &records[i], err);
        }
    }
    free(records);
    return status;
}
