#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/page_format.h"

#define GAIN_PERCENT_MIN 2

// ---- sizes ---------------------------------------------------------------------------------------------------------

uint64_t page_section_chunk_count(uint64_t size, uint32_t kind)
{
    uint64_t pieces = size / PAGE_PIECE_SIZE_BYTES + (size % PAGE_PIECE_SIZE_BYTES != 0);
    return kind == PAGE_FLOAT32 ? pieces * PAGE_PLANE_COUNT : pieces;
}

uint32_t page_section_chunk_size(uint64_t size, uint32_t kind, uint64_t index)
{
    uint64_t piece = kind == PAGE_FLOAT32 ? index / PAGE_PLANE_COUNT : index;
    uint64_t left = size - piece * PAGE_PIECE_SIZE_BYTES;
    uint64_t here = left < PAGE_PIECE_SIZE_BYTES ? left : PAGE_PIECE_SIZE_BYTES;
    return (uint32_t)(kind == PAGE_FLOAT32 ? here / PAGE_PLANE_COUNT : here);
}

static uint64_t tables_size(uint64_t section_count, uint64_t chunk_count)
{
    return section_count * sizeof(struct page_section) + chunk_count * sizeof(struct page_chunk);
}

uint64_t page_encoded_size_max(uint64_t raw_size)
{
    // Chunks never grow; every section may end in an unfilled piece.
    uint64_t chunk_count = (raw_size / PAGE_PIECE_SIZE_BYTES + RMJ_PAGE_SECTION_COUNT_MAX) * PAGE_PLANE_COUNT;
    return sizeof(struct page_header) + tables_size(RMJ_PAGE_SECTION_COUNT_MAX, chunk_count) + raw_size;
}

void rmj_page_digest(const struct rmj_page_section *sections, size_t count, struct rmj_digest *digest)
{
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    for (size_t i = 0; i < count; i++) {
        rmj_sha256_update(&sha, sections[i].bytes, sections[i].size);
    }
    rmj_sha256_final(&sha, digest);
}

uint64_t page_header_checksum(const struct page_header *header, const void *tables, size_t size)
{
    struct page_header blank = *header;
    blank.checksum = 0;
    return XXH3_64bits_withSeed(tables, size, XXH3_64bits(&blank, sizeof blank));
}

// ---- planes --------------------------------------------------------------------------------------------------------

static void split_planes(const uint8_t *raw, size_t float_count, uint8_t *planes)
{
    for (size_t i = 0; i < float_count; i++) {
        uint32_t bits;
        memcpy(&bits, raw + 4 * i, sizeof bits);
        bits = bits << 1 | bits >> 31;
        planes[i] = (uint8_t)bits;
        planes[float_count + i] = (uint8_t)(bits >> 8);
        planes[2 * float_count + i] = (uint8_t)(bits >> 16);
        planes[3 * float_count + i] = (uint8_t)(bits >> 24);
    }
}

static void merge_planes(const uint8_t *planes, size_t float_count, uint8_t *raw)
{
    for (size_t i = 0; i < float_count; i++) {
        uint32_t bits = (uint32_t)planes[i] | (uint32_t)planes[float_count + i] << 8 |
                        (uint32_t)planes[2 * float_count + i] << 16 | (uint32_t)planes[3 * float_count + i] << 24;
        bits = bits >> 1 | bits << 31;
        memcpy(raw + 4 * i, &bits, sizeof bits);
    }
}

// ---- encode --------------------------------------------------------------------------------------------------------

struct encoder {
    ZSTD_CCtx *zstd;
    int level;
    uint8_t *planes;     // PAGE_PIECE_SIZE_BYTES
    uint8_t *compressed; // ZSTD_compressBound(PAGE_PIECE_SIZE_BYTES)
    size_t compressed_size_max;
    struct page_chunk *chunks;
    size_t chunk_count;
    uint64_t offset;
    struct rmj_buf *out;
};

static int gains(size_t compressed, size_t raw)
{
    return !ZSTD_isError(compressed) && compressed + raw * GAIN_PERCENT_MIN / 100 < raw;
}

// Compressed size when compressing gains enough, else 0.
static size_t try_compress(struct encoder *encoder, const uint8_t *raw, size_t size)
{
    size_t compressed =
        ZSTD_compressCCtx(encoder->zstd, encoder->compressed, encoder->compressed_size_max, raw, size, encoder->level);
    return gains(compressed, size) ? compressed : 0;
}

static void encode_chunk(struct encoder *encoder, const uint8_t *raw, size_t size)
{
    size_t compressed = try_compress(encoder, raw, size);
    const uint8_t *stored = compressed > 0 ? encoder->compressed : raw;
    size_t stored_size = compressed > 0 ? compressed : size;
    rmj_buf_append(encoder->out, stored, stored_size);
    encoder->chunks[encoder->chunk_count++] = (struct page_chunk){
        .offset = encoder->offset,
        .stored_size = (uint32_t)stored_size,
        .raw_size = (uint32_t)size,
        .method = compressed > 0 ? PAGE_ZSTD : PAGE_STORED,
        .checksum = XXH3_64bits(stored, stored_size),
    };
    encoder->offset += stored_size;
}

static void encode_section(struct encoder *encoder, const struct rmj_page_section *section)
{
    const uint8_t *raw = section->bytes;
    for (size_t at = 0; at < section->size; at += PAGE_PIECE_SIZE_BYTES) {
        size_t left = section->size - at;
        size_t size = left < PAGE_PIECE_SIZE_BYTES ? left : PAGE_PIECE_SIZE_BYTES;
        if (!section->is_float32) {
            encode_chunk(encoder, raw + at, size);
            continue;
        }
        size_t float_count = size / 4;
        split_planes(raw + at, float_count, encoder->planes);
        for (size_t plane = 0; plane < PAGE_PLANE_COUNT; plane++) {
            encode_chunk(encoder, encoder->planes + plane * float_count, float_count);
        }
    }
}

static enum rmj_status encoder_init(struct encoder *encoder, size_t chunk_count, struct rmj_error *err)
{
    encoder->zstd = ZSTD_createCCtx();
    encoder->planes = malloc(PAGE_PIECE_SIZE_BYTES);
    encoder->compressed_size_max = ZSTD_compressBound(PAGE_PIECE_SIZE_BYTES);
    encoder->compressed = malloc(encoder->compressed_size_max);
    encoder->chunks = calloc(chunk_count + 1, sizeof *encoder->chunks);
    if (encoder->zstd == NULL || encoder->planes == NULL || encoder->compressed == NULL || encoder->chunks == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to encode a page");
    }
    return RMJ_OK;
}

static void encoder_deinit(struct encoder *encoder)
{
    ZSTD_freeCCtx(encoder->zstd);
    free(encoder->planes);
    free(encoder->compressed);
    free(encoder->chunks);
}

enum rmj_status rmj_page_encode(const struct rmj_page_section *sections, size_t count, int level, struct rmj_buf *out,
                                struct rmj_error *err)
{
    RMJ_ASSERT(count <= RMJ_PAGE_SECTION_COUNT_MAX);
    struct page_header header = {.magic = PAGE_MAGIC, .version = PAGE_VERSION, .section_count = (uint32_t)count};
    struct page_section table[RMJ_PAGE_SECTION_COUNT_MAX] = {{0}};
    uint64_t chunk_count = 0;
    for (size_t i = 0; i < count; i++) {
        RMJ_ASSERT(!sections[i].is_float32 || sections[i].size % 4 == 0);
        uint32_t kind = sections[i].is_float32 ? PAGE_FLOAT32 : PAGE_BYTES;
        table[i] = (struct page_section){.size = sections[i].size, .kind = kind, .chunk_first = (uint32_t)chunk_count};
        chunk_count += page_section_chunk_count(sections[i].size, kind);
        header.raw_size += sections[i].size;
    }
    if (header.raw_size > PAGE_RAW_SIZE_MAX) {
        return rmj_fail(err, RMJ_FULL, "a page of %llu bytes is over 4 GiB", (unsigned long long)header.raw_size);
    }
    header.chunk_count = (uint32_t)chunk_count;
    header.header_size = (uint32_t)(sizeof header + tables_size(count, chunk_count));

    struct encoder encoder = {.level = level, .offset = header.header_size, .out = out};
    size_t start = out->size;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(encoder_init(&encoder, chunk_count, err));
    rmj_buf_extend(out, header.header_size);
    for (size_t i = 0; i < count; i++) {
        encode_section(&encoder, &sections[i]);
    }
    RMJ_GO(rmj_buf_check(out, err));
    RMJ_ASSERT(encoder.chunk_count == chunk_count);

    header.encoded_size = encoder.offset;
    char *tables = out->bytes + start + sizeof header;
    memcpy(tables, table, count * sizeof table[0]);
    memcpy(tables + count * sizeof table[0], encoder.chunks, chunk_count * sizeof encoder.chunks[0]);
    header.checksum = page_header_checksum(&header, tables, header.header_size - sizeof header);
    memcpy(out->bytes + start, &header, sizeof header);
out:
    encoder_deinit(&encoder);
    return status;
}

// ---- decode --------------------------------------------------------------------------------------------------------

struct decoder {
    const uint8_t *encoded;
    struct page_header header;
    struct page_section sections[RMJ_PAGE_SECTION_COUNT_MAX];
    const uint8_t *chunks; // page_chunk[], unaligned
    ZSTD_DCtx *zstd;
    uint8_t *planes; // PAGE_PIECE_SIZE_BYTES
};

enum rmj_status page_header_check(const struct page_header *header, uint64_t raw_size, uint64_t stored_size,
                                  struct rmj_error *err)
{
    if (memcmp(header->magic, PAGE_MAGIC, sizeof header->magic) != 0) {
        return rmj_fail(err, RMJ_CORRUPT, "not a page: it does not begin with " PAGE_MAGIC);
    }
    if (header->version != PAGE_VERSION) {
        return rmj_fail(err, RMJ_CORRUPT, "page format %u is not known, only %d", header->version, PAGE_VERSION);
    }
    if (header->raw_size != raw_size) {
        return rmj_fail(err, RMJ_CORRUPT, "the page holds %llu raw bytes, %llu were expected",
                        (unsigned long long)header->raw_size, (unsigned long long)raw_size);
    }
    if (header->encoded_size != stored_size) {
        return rmj_fail(err, RMJ_CORRUPT, "the page says it has %llu bytes, there are %llu",
                        (unsigned long long)header->encoded_size, (unsigned long long)stored_size);
    }
    if (header->section_count > RMJ_PAGE_SECTION_COUNT_MAX || header->reserved != 0 ||
        header->header_size != sizeof *header + tables_size(header->section_count, header->chunk_count) ||
        header->header_size > header->encoded_size) {
        return rmj_fail(err, RMJ_CORRUPT, "the page's header contradicts itself");
    }
    return RMJ_OK;
}

static struct page_chunk chunk_at(const struct decoder *decoder, uint64_t index)
{
    struct page_chunk chunk;
    memcpy(&chunk, decoder->chunks + index * sizeof chunk, sizeof chunk);
    return chunk;
}

static enum rmj_status check_sections(const struct decoder *decoder, struct rmj_error *err)
{
    uint64_t raw_size = 0;
    uint64_t chunk_count = 0;
    for (uint32_t i = 0; i < decoder->header.section_count; i++) {
        const struct page_section *section = &decoder->sections[i];
        if (section->kind > PAGE_FLOAT32 || section->size > decoder->header.raw_size - raw_size ||
            (section->kind == PAGE_FLOAT32 && section->size % 4 != 0) || section->chunk_first != chunk_count) {
            return rmj_fail(err, RMJ_CORRUPT, "section %u of the page contradicts its header", i);
        }
        raw_size += section->size;
        chunk_count += page_section_chunk_count(section->size, section->kind);
    }
    if (raw_size != decoder->header.raw_size || chunk_count != decoder->header.chunk_count) {
        return rmj_fail(err, RMJ_CORRUPT, "the page's sections do not add up to its header");
    }
    return RMJ_OK;
}

// Every chunk lies behind the one before, and the last ends with the object.
static enum rmj_status check_chunks(const struct decoder *decoder, struct rmj_error *err)
{
    uint64_t offset = decoder->header.header_size;
    uint64_t index = 0;
    for (uint32_t i = 0; i < decoder->header.section_count; i++) {
        const struct page_section *section = &decoder->sections[i];
        uint64_t count = page_section_chunk_count(section->size, section->kind);
        for (uint64_t k = 0; k < count; k++, index++) {
            struct page_chunk chunk = chunk_at(decoder, index);
            int sized = chunk.method == PAGE_STORED ? chunk.stored_size == chunk.raw_size
                                                    : chunk.method == PAGE_ZSTD && chunk.stored_size < chunk.raw_size;
            if (chunk.offset != offset || !sized || chunk.reserved != 0 ||
                chunk.raw_size != page_section_chunk_size(section->size, section->kind, k) ||
                chunk.stored_size > decoder->header.encoded_size - offset) {
                return rmj_fail(err, RMJ_CORRUPT, "chunk %llu of the page contradicts its header",
                                (unsigned long long)index);
            }
            offset += chunk.stored_size;
        }
    }
    return offset == decoder->header.encoded_size
               ? RMJ_OK
               : rmj_fail(err, RMJ_CORRUPT, "the page has bytes that belong to no chunk");
}

static enum rmj_status decode_chunk(struct decoder *decoder, uint64_t index, uint8_t *raw, struct rmj_error *err)
{
    struct page_chunk chunk = chunk_at(decoder, index);
    const uint8_t *stored = decoder->encoded + chunk.offset;
    if (XXH3_64bits(stored, chunk.stored_size) != chunk.checksum) {
        return rmj_fail(err, RMJ_CORRUPT, "chunk %llu of the page is damaged: its checksum does not hold",
                        (unsigned long long)index);
    }
    if (chunk.method == PAGE_STORED) {
        memcpy(raw, stored, chunk.raw_size);
        return RMJ_OK;
    }
    size_t got = ZSTD_decompressDCtx(decoder->zstd, raw, chunk.raw_size, stored, chunk.stored_size);
    if (ZSTD_isError(got) || got != chunk.raw_size) {
        return rmj_fail(err, RMJ_CORRUPT, "chunk %llu of the page does not decompress to its %u bytes",
                        (unsigned long long)index, chunk.raw_size);
    }
    return RMJ_OK;
}

static enum rmj_status decode_section(struct decoder *decoder, const struct page_section *section, uint8_t *raw,
                                      struct rmj_error *err)
{
    uint64_t index = section->chunk_first;
    for (uint64_t at = 0; at < section->size; at += PAGE_PIECE_SIZE_BYTES) {
        if (section->kind == PAGE_BYTES) {
            RMJ_TRY(decode_chunk(decoder, index++, raw + at, err));
            continue;
        }
        uint64_t left = section->size - at;
        size_t float_count = (size_t)(left < PAGE_PIECE_SIZE_BYTES ? left : PAGE_PIECE_SIZE_BYTES) / 4;
        for (size_t plane = 0; plane < PAGE_PLANE_COUNT; plane++) {
            RMJ_TRY(decode_chunk(decoder, index++, decoder->planes + plane * float_count, err));
        }
        merge_planes(decoder->planes, float_count, raw + at);
    }
    return RMJ_OK;
}

static enum rmj_status read_tables(struct decoder *decoder, size_t encoded_size, size_t raw_size, struct rmj_error *err)
{
    if (encoded_size < sizeof decoder->header) {
        return rmj_fail(err, RMJ_CORRUPT, "not a page: %zu bytes are less than its header", encoded_size);
    }
    memcpy(&decoder->header, decoder->encoded, sizeof decoder->header);
    RMJ_TRY(page_header_check(&decoder->header, raw_size, encoded_size, err));
    const uint8_t *tables = decoder->encoded + sizeof decoder->header;
    size_t size = decoder->header.header_size - sizeof decoder->header;
    if (page_header_checksum(&decoder->header, tables, size) != decoder->header.checksum) {
        return rmj_fail(err, RMJ_CORRUPT, "the page's header is damaged: its checksum does not hold");
    }
    size_t sections_size = decoder->header.section_count * sizeof decoder->sections[0];
    memcpy(decoder->sections, tables, sections_size);
    decoder->chunks = tables + sections_size;
    RMJ_TRY(check_sections(decoder, err));
    return check_chunks(decoder, err);
}

enum rmj_status rmj_page_decode(const void *encoded, size_t encoded_size, void *raw, size_t raw_size,
                                const struct rmj_digest *digest, struct rmj_error *err)
{
    struct decoder decoder = {.encoded = encoded};
    RMJ_TRY(read_tables(&decoder, encoded_size, raw_size, err));
    enum rmj_status status = RMJ_OK;
    decoder.zstd = ZSTD_createDCtx();
    decoder.planes = malloc(PAGE_PIECE_SIZE_BYTES);
    if (decoder.zstd == NULL || decoder.planes == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to decode a page");
        goto out;
    }
    uint8_t *at = raw;
    for (uint32_t i = 0; i < decoder.header.section_count; i++) {
        RMJ_GO(decode_section(&decoder, &decoder.sections[i], at, err));
        at += decoder.sections[i].size;
    }
    struct rmj_digest found;
    rmj_sha256_of(raw, raw_size, &found);
    if (!rmj_digest_equal(&found, digest)) {
        char want[RMJ_DIGEST_HEX_SIZE], have[RMJ_DIGEST_HEX_SIZE];
        rmj_digest_hex(digest, want);
        rmj_digest_hex(&found, have);
        status = rmj_fail(err, RMJ_CORRUPT, "the page decodes to other bytes: SHA-256 %s, not %s", have, want);
    }
out:
    ZSTD_freeDCtx(decoder.zstd);
    free(decoder.planes);
    return status;
}
