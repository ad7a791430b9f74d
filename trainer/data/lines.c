#include "trainer/data/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/fs.h"

#define CHUNK_SIZE_BYTES ((size_t)256 << 10)
// Largest window of a zstd stream (128 MiB): what `zstd` itself accepts without being asked.
#define ZSTD_WINDOW_LOG_MAX 27
#define GZIP_WINDOW_BITS (15 + 16)

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD };

struct rmj_lines {
    int fd;
    enum packing packing;
    char *name;
    struct rmj_sha256 sha;
    int sha_open;
    uint64_t row;
    int at_end;     // of the stored file
    int stream_end; // between two compressed members: the file may end here
    z_stream gzip;
    ZSTD_DStream *zstd;
    unsigned char *stored; // CHUNK_SIZE_BYTES
    size_t stored_at, stored_count;
    char *plain; // CHUNK_SIZE_BYTES
    size_t plain_at, plain_count;
    struct rmj_buf line;
};

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

int rmj_lines_name_check(const char *name, struct rmj_error *err)
{
    if (ends_with(name, ".jsonl") || ends_with(name, ".jsonl.gz") || ends_with(name, ".jsonl.zst")) {
        return 1;
    }
    if (ends_with(name, ".parquet")) {
        (void)rmj_fail(err, RMJ_INVALID, "%s: parquet comes with a later version: convert it to .jsonl", name);
    } else if (ends_with(name, ".json")) {
        (void)rmj_fail(err, RMJ_INVALID, "%s: a JSON array is not read: write one object a line into a .jsonl file",
                       name);
    } else {
        (void)rmj_fail(err, RMJ_INVALID, "%s: not a .jsonl, .jsonl.gz or .jsonl.zst file by its name", name);
    }
    return 0;
}

enum rmj_status rmj_lines_open(struct rmj_lines **out, const char *path, const char *name, struct rmj_error *err)
{
    *out = NULL;
    if (!rmj_lines_name_check(name, err)) {
        return RMJ_INVALID;
    }
    struct rmj_lines *lines = calloc(1, sizeof *lines);
    RMJ_ASSERT(lines != NULL);
    lines->packing = ends_with(name, ".gz") ? PACKING_GZIP : ends_with(name, ".zst") ? PACKING_ZSTD : PACKING_NONE;
    lines->name = strdup(name);
    lines->stored = malloc(CHUNK_SIZE_BYTES);
    lines->plain = malloc(CHUNK_SIZE_BYTES);
    lines->stream_end = 1;
    rmj_buf_init(&lines->line, RMJ_LINE_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    lines->fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (lines->fd < 0 || fstat(lines->fd, &info) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", name);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        status = rmj_fail(err, RMJ_DATA, "%s: not a file", name);
        goto out;
    }
    if (lines->name == NULL || lines->stored == NULL || lines->plain == NULL ||
        (lines->packing == PACKING_GZIP && inflateInit2(&lines->gzip, GZIP_WINDOW_BITS) != Z_OK) ||
        (lines->packing == PACKING_ZSTD && (lines->zstd = ZSTD_createDStream()) == NULL)) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to read %s", name);
        goto out;
    }
    if (lines->zstd != NULL) {
        ZSTD_DCtx_setParameter(lines->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    }
    rmj_sha256_init(&lines->sha);
    lines->sha_open = 1;
    *out = lines;
    lines = NULL;
out:
    rmj_lines_close(lines);
    return status;
}

void rmj_lines_close(struct rmj_lines *lines)
{
    if (lines == NULL) {
        return;
    }
    struct rmj_digest digest;
    if (lines->sha_open) {
        rmj_sha256_final(&lines->sha, &digest);
    }
    if (lines->packing == PACKING_GZIP) {
        inflateEnd(&lines->gzip);
    }
    ZSTD_freeDStream(lines->zstd);
    if (lines->fd >= 0) {
        close(lines->fd);
    }
    rmj_buf_deinit(&lines->line);
    free(lines->name);
    free(lines->stored);
    free(lines->plain);
    free(lines);
}

static enum rmj_status read_stored(struct rmj_lines *lines, void *bytes, size_t *count, struct rmj_error *err)
{
    ssize_t got;
    do {
        got = read(lines->fd, bytes, CHUNK_SIZE_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot read %s", lines->name);
    }
    rmj_sha256_update(&lines->sha, bytes, (size_t)got);
    lines->at_end = got == 0;
    *count = (size_t)got;
    return RMJ_OK;
}

static enum rmj_status broken(struct rmj_lines *lines, const char *what, struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA, "%s:%llu: %s", lines->name, (unsigned long long)lines->row + 1, what);
}

// One call of the decompressor over what is stored; may give nothing.
static enum rmj_status inflate_some(struct rmj_lines *lines, struct rmj_error *err)
{
    if (lines->packing == PACKING_GZIP) {
        z_stream *z = &lines->gzip;
        if (lines->stream_end && z->total_in > 0 && inflateReset(z) != Z_OK) {
            return broken(lines, "cannot begin the next gzip member", err);
        }
        z->next_in = lines->stored + lines->stored_at;
        z->avail_in = (uInt)(lines->stored_count - lines->stored_at);
        z->next_out = (unsigned char *)lines->plain;
        z->avail_out = (uInt)CHUNK_SIZE_BYTES;
        int code = inflate(z, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
            return broken(lines, "the gzip stream is broken from here on: write the file again", err);
        }
        lines->stored_at = lines->stored_count - z->avail_in;
        lines->plain_count = CHUNK_SIZE_BYTES - z->avail_out;
        lines->stream_end = code == Z_STREAM_END;
        return RMJ_OK;
    }
    ZSTD_inBuffer in = {lines->stored, lines->stored_count, lines->stored_at};
    ZSTD_outBuffer room = {lines->plain, CHUNK_SIZE_BYTES, 0};
    size_t left = ZSTD_decompressStream(lines->zstd, &room, &in);
    if (ZSTD_isError(left)) {
        return broken(lines, "the zstd stream is broken from here on: write the file again", err);
    }
    lines->stored_at = in.pos;
    lines->plain_count = room.pos;
    lines->stream_end = left == 0;
    return RMJ_OK;
}

// Fills the plain chunk; plain_count 0 afterwards means the end.
static enum rmj_status refill(struct rmj_lines *lines, struct rmj_error *err)
{
    lines->plain_at = lines->plain_count = 0;
    if (lines->packing == PACKING_NONE) {
        return lines->at_end ? RMJ_OK : read_stored(lines, lines->plain, &lines->plain_count, err);
    }
    for (;;) {
        // A full output chunk may leave bytes inside the decompressor, so it is asked again before more is read.
        if (lines->stored_at < lines->stored_count || !lines->stream_end) {
            size_t at = lines->stored_at;
            RMJ_TRY(inflate_some(lines, err));
            if (lines->plain_count > 0) {
                return RMJ_OK;
            }
            if (lines->stored_at != at && lines->stored_at < lines->stored_count) {
                continue;
            }
        }
        if (lines->at_end) {
            return lines->stream_end
                       ? RMJ_OK
                       : broken(lines, "the compressed stream ends too early: the file was not written whole", err);
        }
        lines->stored_at = 0;
        RMJ_TRY(read_stored(lines, lines->stored, &lines->stored_count, err));
    }
}

static enum rmj_status line_too_long(struct rmj_lines *lines, uint64_t size, struct rmj_error *err)
{
    for (;;) {
        RMJ_TRY(refill(lines, err));
        const char *end = memchr(lines->plain, '\n', lines->plain_count);
        size += end == NULL ? lines->plain_count : (size_t)(end - lines->plain);
        if (end != NULL || lines->plain_count == 0) {
            break;
        }
    }
    return rmj_fail(err, RMJ_DATA, "%s:%llu: the row has %llu bytes; at most %zu are read: cut it", lines->name,
                    (unsigned long long)lines->row + 1, (unsigned long long)size, RMJ_LINE_SIZE_MAX);
}

enum rmj_status rmj_lines_next(struct rmj_lines *lines, const char **line, size_t *size, int *ended,
                               struct rmj_error *err)
{
    rmj_buf_clear(&lines->line);
    *line = NULL;
    *size = 0;
    *ended = 1;
    for (;;) {
        if (lines->plain_at == lines->plain_count) {
            RMJ_TRY(refill(lines, err));
            if (lines->plain_count == 0) {
                if (lines->line.size == 0) {
                    return RMJ_OK;
                }
                *ended = 0;
                break;
            }
        }
        const char *start = lines->plain + lines->plain_at;
        size_t left = lines->plain_count - lines->plain_at;
        const char *end = memchr(start, '\n', left);
        size_t count = end == NULL ? left : (size_t)(end - start);
        if (lines->line.size + count > RMJ_LINE_SIZE_MAX) {
            return end == NULL ? line_too_long(lines, lines->line.size + count, err)
                               : rmj_fail(err, RMJ_DATA, "%s:%llu: the row has %zu bytes; at most %zu are read: cut it",
                                          lines->name, (unsigned long long)lines->row + 1, lines->line.size + count,
                                          RMJ_LINE_SIZE_MAX);
        }
        rmj_buf_append(&lines->line, start, count);
        if (lines->line.failed) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a row of %s", lines->name);
        }
        lines->plain_at += count + (end != NULL);
        if (end != NULL) {
            break;
        }
    }
    lines->row++;
    *line = rmj_buf_text(&lines->line);
    *size = lines->line.size;
    return RMJ_OK;
}

uint64_t rmj_lines_row(const struct rmj_lines *lines)
{
    return lines->row;
}

void rmj_lines_digest(struct rmj_lines *lines, struct rmj_digest *digest)
{
    RMJ_ASSERT(lines->sha_open);
    rmj_sha256_final(&lines->sha, digest);
    lines->sha_open = 0;
}
