#include "trainer/data/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "trainer/data/lines_json.h"
#include "trainer/data/lines_stored.h"
#include "trainer/data/parquet.h"

#define HASH_CHUNK_SIZE_BYTES ((size_t)256 << 10)

enum layout { LAYOUT_NONE, LAYOUT_LINES, LAYOUT_ELEMENTS, LAYOUT_PARQUET };

static const struct {
    const char *ending;
    enum layout layout;
} endings[] = {
    {".jsonl", LAYOUT_LINES},     {".jsonl.gz", LAYOUT_LINES},   {".jsonl.zst", LAYOUT_LINES},
    {".json", LAYOUT_ELEMENTS},   {".json.gz", LAYOUT_ELEMENTS}, {".json.zst", LAYOUT_ELEMENTS},
    {".parquet", LAYOUT_PARQUET},
};

struct rmj_lines {
    int fd;
    enum layout layout;
    char *name;
    uint64_t row;
    struct rmj_stored stored;
    struct rmj_json_elements elements;
    struct rmj_parquet *parquet;
    struct rmj_digest parquet_digest; // once at_end
    int at_end;
    struct rmj_buf line;
};

static enum layout layout_of(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < RMJ_COUNT(endings); i++) {
        size_t ending = strlen(endings[i].ending);
        if (length > ending && strcmp(name + length - ending, endings[i].ending) == 0) {
            return endings[i].layout;
        }
    }
    return LAYOUT_NONE;
}

int rmj_lines_name_check(const char *name, struct rmj_error *err)
{
    enum layout layout = layout_of(name);
    if (layout == LAYOUT_NONE) {
        (void)rmj_fail(err, RMJ_INVALID,
                       "%s: a data file's name ends in .jsonl, .json (either with .gz or .zst after it) or .parquet",
                       name);
    } else if (layout == LAYOUT_PARQUET && rmj_parquet_check(err) != RMJ_OK) {
        (void)rmj_context(err, "%s", name);
        return 0;
    }
    return layout != LAYOUT_NONE;
}

static enum rmj_status open_file(struct rmj_lines *lines, const char *path, struct rmj_error *err)
{
    struct stat info;
    lines->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe without a writer would wait for ever
    if (lines->fd < 0 || fstat(lines->fd, &info) != 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", lines->name);
    }
    if (!S_ISREG(info.st_mode)) {
        return rmj_fail(err, RMJ_DATA, "%s: not a file", lines->name);
    }
    enum rmj_status status = lines->layout == LAYOUT_PARQUET
                                 ? rmj_parquet_open(&lines->parquet, lines->fd, err)
                                 : rmj_stored_init(&lines->stored, lines->fd, lines->name, err);
    return status == RMJ_OK ? RMJ_OK : rmj_context(err, "%s", lines->name);
}

enum rmj_status rmj_lines_open(struct rmj_lines **out, const char *path, const char *name, struct rmj_error *err)
{
    *out = NULL;
    if (!rmj_lines_name_check(name, err)) {
        return RMJ_INVALID;
    }
    struct rmj_lines *lines = calloc(1, sizeof *lines);
    RMJ_ASSERT(lines != NULL);
    lines->fd = -1;
    lines->layout = layout_of(name);
    lines->name = strdup(name);
    RMJ_ASSERT(lines->name != NULL);
    rmj_buf_init(&lines->line, RMJ_LINE_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(open_file(lines, path, err));
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
    rmj_parquet_close(lines->parquet);
    rmj_stored_deinit(&lines->stored);
    if (lines->fd >= 0) {
        close(lines->fd);
    }
    rmj_buf_deinit(&lines->line);
    free(lines->name);
    free(lines);
}

static enum rmj_status too_long(uint64_t size, struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA, "the row has %llu bytes; at most %zu are read: cut it", (unsigned long long)size,
                    RMJ_LINE_SIZE_MAX);
}

// Reads on to the line's end, for its size.
static enum rmj_status line_too_long(struct rmj_stored *stored, uint64_t size, struct rmj_error *err)
{
    for (;;) {
        RMJ_TRY(rmj_stored_refill(stored, err));
        const char *end = memchr(stored->plain, '\n', stored->plain_count);
        size += end == NULL ? stored->plain_count : (size_t)(end - stored->plain);
        if (end != NULL || stored->plain_count == 0) {
            return too_long(size, err);
        }
    }
}

static enum rmj_status next_line(struct rmj_lines *lines, int *ended, int *at_end, struct rmj_error *err)
{
    struct rmj_stored *stored = &lines->stored;
    for (;;) {
        if (stored->plain_at == stored->plain_count) {
            RMJ_TRY(rmj_stored_refill(stored, err));
            if (stored->plain_count == 0) {
                *at_end = lines->line.size == 0;
                *ended = 0;
                return RMJ_OK;
            }
        }
        const char *start = stored->plain + stored->plain_at;
        size_t left = stored->plain_count - stored->plain_at;
        const char *end = memchr(start, '\n', left);
        size_t count = end == NULL ? left : (size_t)(end - start);
        if (lines->line.size + count > RMJ_LINE_SIZE_MAX) {
            return end == NULL ? line_too_long(stored, lines->line.size + count, err)
                               : too_long(lines->line.size + count, err);
        }
        rmj_buf_append(&lines->line, start, count);
        if (lines->line.failed) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a row");
        }
        stored->plain_at += count + (end != NULL);
        if (end != NULL) {
            return RMJ_OK;
        }
    }
}

// The Parquet reader reads pieces here and there, so the file is hashed on its own, after the last row.
static enum rmj_status hash_file(struct rmj_lines *lines, struct rmj_error *err)
{
    struct rmj_sha256 sha;
    char *bytes = malloc(HASH_CHUNK_SIZE_BYTES);
    RMJ_ASSERT(bytes != NULL);
    rmj_sha256_init(&sha);
    ssize_t got;
    off_t at = 0;
    do {
        got = pread(lines->fd, bytes, HASH_CHUNK_SIZE_BYTES, at);
        if (got > 0) {
            rmj_sha256_update(&sha, bytes, (size_t)got);
            at += got;
        }
    } while (got > 0 || (got < 0 && errno == EINTR));
    int code = errno;
    rmj_sha256_final(&sha, &lines->parquet_digest);
    free(bytes);
    errno = code;
    return got == 0 ? RMJ_OK : rmj_fail_errno(err, rmj_fs_errno_status(code), "cannot read");
}

static enum rmj_status next_parquet(struct rmj_lines *lines, int *at_end, struct rmj_error *err)
{
    RMJ_TRY(rmj_parquet_next(lines->parquet, &lines->line, at_end, err));
    if (lines->line.failed) {
        return rmj_fail(err, RMJ_DATA, "the row has more than %zu bytes as JSON: cut it", RMJ_LINE_SIZE_MAX);
    }
    return *at_end ? hash_file(lines, err) : RMJ_OK;
}

enum rmj_status rmj_lines_next(struct rmj_lines *lines, const char **line, size_t *size, int *ended,
                               struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    rmj_buf_clear(&lines->line);
    *line = NULL;
    *size = 0;
    *ended = 1;
    if (lines->at_end) {
        return RMJ_OK;
    }
    switch (lines->layout) {
    case LAYOUT_PARQUET:
        status = next_parquet(lines, &lines->at_end, err);
        break;
    case LAYOUT_ELEMENTS:
        status = rmj_json_elements_next(&lines->elements, &lines->stored, &lines->line, err);
        lines->at_end = lines->line.size == 0;
        break;
    default:
        status = next_line(lines, ended, &lines->at_end, err);
    }
    if (status != RMJ_OK) {
        return rmj_context(err, "%s:%llu", lines->name, (unsigned long long)lines->row + 1);
    }
    if (lines->at_end) {
        return RMJ_OK;
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
    if (lines->layout == LAYOUT_PARQUET) {
        RMJ_ASSERT(lines->at_end);
        *digest = lines->parquet_digest;
    } else {
        rmj_stored_digest(&lines->stored, digest);
    }
}
