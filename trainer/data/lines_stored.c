#include "trainer/data/lines_stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/fs.h"

#define CHUNK_SIZE_BYTES ((size_t)256 << 10)
// Largest window of a zstd stream (128 MiB): what `zstd` itself accepts without being asked.
#define ZSTD_WINDOW_LOG_MAX 27
#define GZIP_WINDOW_BITS (15 + 16)

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD };

struct rmj_unpacker {
    int fd;
    enum packing packing;
    struct rmj_sha256 sha;
    int sha_open;
    int at_end;     // of the stored file
    int stream_end; // between two compressed members: the file may end here
    z_stream gzip;
    ZSTD_DStream *zstd;
    unsigned char *stored; // CHUNK_SIZE_BYTES
    size_t stored_at, stored_count;
};

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

enum rmj_status rmj_stored_init(struct rmj_stored *stored, int fd, const char *name, struct rmj_error *err)
{
    struct rmj_unpacker *unpacker = calloc(1, sizeof *unpacker);
    RMJ_ASSERT(unpacker != NULL);
    *stored = (struct rmj_stored){.plain = malloc(CHUNK_SIZE_BYTES), .unpacker = unpacker};
    unpacker->fd = fd;
    unpacker->packing = ends_with(name, ".gz") ? PACKING_GZIP : ends_with(name, ".zst") ? PACKING_ZSTD : PACKING_NONE;
    unpacker->stored = malloc(CHUNK_SIZE_BYTES);
    unpacker->stream_end = 1;
    rmj_sha256_init(&unpacker->sha);
    unpacker->sha_open = 1;
    if (stored->plain == NULL || unpacker->stored == NULL ||
        (unpacker->packing == PACKING_GZIP && inflateInit2(&unpacker->gzip, GZIP_WINDOW_BITS) != Z_OK) ||
        (unpacker->packing == PACKING_ZSTD && (unpacker->zstd = ZSTD_createDStream()) == NULL)) {
        rmj_stored_deinit(stored);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to read it");
    }
    if (unpacker->zstd != NULL) {
        ZSTD_DCtx_setParameter(unpacker->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    }
    return RMJ_OK;
}

void rmj_stored_deinit(struct rmj_stored *stored)
{
    struct rmj_unpacker *unpacker = stored->unpacker;
    if (unpacker == NULL) {
        return;
    }
    struct rmj_digest digest;
    if (unpacker->sha_open) {
        rmj_sha256_final(&unpacker->sha, &digest);
    }
    if (unpacker->packing == PACKING_GZIP) {
        inflateEnd(&unpacker->gzip);
    }
    ZSTD_freeDStream(unpacker->zstd);
    free(unpacker->stored);
    free(unpacker);
    free(stored->plain);
    *stored = (struct rmj_stored){0};
}

static enum rmj_status read_stored(struct rmj_unpacker *unpacker, void *bytes, size_t *count, struct rmj_error *err)
{
    ssize_t got;
    do {
        got = read(unpacker->fd, bytes, CHUNK_SIZE_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot read");
    }
    rmj_sha256_update(&unpacker->sha, bytes, (size_t)got);
    unpacker->at_end = got == 0;
    *count = (size_t)got;
    return RMJ_OK;
}

// One call of the decompressor over what is stored; may give nothing.
static enum rmj_status unpack_some(struct rmj_stored *stored, struct rmj_error *err)
{
    struct rmj_unpacker *unpacker = stored->unpacker;
    if (unpacker->packing == PACKING_GZIP) {
        z_stream *z = &unpacker->gzip;
        if (unpacker->stream_end && z->total_in > 0 && inflateReset(z) != Z_OK) {
            return rmj_fail(err, RMJ_DATA, "cannot begin the next gzip member");
        }
        z->next_in = unpacker->stored + unpacker->stored_at;
        z->avail_in = (uInt)(unpacker->stored_count - unpacker->stored_at);
        z->next_out = (unsigned char *)stored->plain;
        z->avail_out = (uInt)CHUNK_SIZE_BYTES;
        int code = inflate(z, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
            return rmj_fail(err, RMJ_DATA, "the gzip stream is broken from here on: write the file again");
        }
        unpacker->stored_at = unpacker->stored_count - z->avail_in;
        stored->plain_count = CHUNK_SIZE_BYTES - z->avail_out;
        unpacker->stream_end = code == Z_STREAM_END;
        return RMJ_OK;
    }
    ZSTD_inBuffer in = {unpacker->stored, unpacker->stored_count, unpacker->stored_at};
    ZSTD_outBuffer room = {stored->plain, CHUNK_SIZE_BYTES, 0};
    size_t left = ZSTD_decompressStream(unpacker->zstd, &room, &in);
    if (ZSTD_isError(left)) {
        return rmj_fail(err, RMJ_DATA, "the zstd stream is broken from here on: write the file again");
    }
    unpacker->stored_at = in.pos;
    stored->plain_count = room.pos;
    unpacker->stream_end = left == 0;
    return RMJ_OK;
}

enum rmj_status rmj_stored_refill(struct rmj_stored *stored, struct rmj_error *err)
{
    struct rmj_unpacker *unpacker = stored->unpacker;
    stored->plain_at = stored->plain_count = 0;
    if (unpacker->packing == PACKING_NONE) {
        return unpacker->at_end ? RMJ_OK : read_stored(unpacker, stored->plain, &stored->plain_count, err);
    }
    for (;;) {
        // A full output chunk may leave bytes inside the decompressor, so it is asked again before more is read.
        if (unpacker->stored_at < unpacker->stored_count || !unpacker->stream_end) {
            size_t at = unpacker->stored_at;
            RMJ_TRY(unpack_some(stored, err));
            if (stored->plain_count > 0) {
                return RMJ_OK;
            }
            if (unpacker->stored_at != at && unpacker->stored_at < unpacker->stored_count) {
                continue;
            }
        }
        if (unpacker->at_end) {
            return unpacker->stream_end
                       ? RMJ_OK
                       : rmj_fail(err, RMJ_DATA,
                                  "the compressed stream ends too early: the file was not written whole");
        }
        unpacker->stored_at = 0;
        RMJ_TRY(read_stored(unpacker, unpacker->stored, &unpacker->stored_count, err));
    }
}

void rmj_stored_digest(struct rmj_stored *stored, struct rmj_digest *digest)
{
    RMJ_ASSERT(stored->unpacker->sha_open);
    rmj_sha256_final(&stored->unpacker->sha, digest);
    stored->unpacker->sha_open = 0;
}
