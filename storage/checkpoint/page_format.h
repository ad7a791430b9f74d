// Layout of an encoded page. Numbers are little-endian; the structs below are the bytes on disk.
//
//   +----------------------+ 0
//   | page_header          |
//   +----------------------+ 56
//   | page_section [n]     |   in order of the raw bytes
//   +----------------------+
//   | page_chunk [m]       |   in order of the bytes that follow
//   +----------------------+ header_size
//   | chunk 0 | chunk 1 .. |   without gaps, to encoded_size
//   +----------------------+ encoded_size
//
// A section is cut into pieces of 256 KiB raw, the last one shorter. A piece of a byte section is one chunk. A piece of
// a float32 section is four chunks of a quarter each, its byte planes: every float is rotated left by one bit, so that
// the sign becomes the lowest bit and the exponent a byte of its own; plane k holds byte k of each, plane 3 the
// exponents. Exponents compress, mantissas hardly do.
//
// A reader that wants raw bytes [a, b) of a section finds its chunks in the table and fetches only their range.
#ifndef RMJ_STORAGE_CHECKPOINT_PAGE_FORMAT_H
#define RMJ_STORAGE_CHECKPOINT_PAGE_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/checkpoint/checkpoint.h"

#define PAGE_MAGIC "RMJPAGE"
#define PAGE_VERSION 1
#define PAGE_PIECE_SIZE_BYTES (256u << 10)
#define PAGE_PLANE_COUNT 4
#define PAGE_PLANE_SIZE_BYTES (PAGE_PIECE_SIZE_BYTES / PAGE_PLANE_COUNT)
#define PAGE_RAW_SIZE_MAX (1ull << 32)

struct page_header {
    char magic[8];
    uint32_t version;
    uint32_t section_count;
    uint32_t chunk_count;
    uint32_t header_size;  // bytes before the first chunk
    uint64_t raw_size;     // of all sections
    uint64_t encoded_size; // of the whole object
    uint64_t reserved;     // 0
    uint64_t checksum;     // XXH3 of the header with this field 0, and of both tables
};
_Static_assert(sizeof(struct page_header) == 56, "disk layout");
_Static_assert(offsetof(struct page_header, checksum) == 48, "disk layout");

enum page_kind { PAGE_BYTES = 0, PAGE_FLOAT32 = 1 };

struct page_section {
    uint64_t size; // raw
    uint32_t kind;
    uint32_t chunk_first;
};
_Static_assert(sizeof(struct page_section) == 16, "disk layout");

enum page_method { PAGE_STORED = 0, PAGE_ZSTD = 1 };

struct page_chunk {
    uint64_t offset; // in the object
    uint32_t stored_size;
    uint32_t raw_size;
    uint32_t method;
    uint32_t reserved; // 0
    uint64_t checksum; // XXH3 of the stored bytes
};
_Static_assert(sizeof(struct page_chunk) == 32, "disk layout");

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pages are written as they lie in memory");

// Chunks of a section of that size and kind.
uint64_t page_section_chunk_count(uint64_t size, uint32_t kind);
// Raw size of chunk `index` of a section.
uint32_t page_section_chunk_size(uint64_t size, uint32_t kind, uint64_t index);
// Checksum of a header and the tables behind it: nothing of them is trusted before it held.
uint64_t page_header_checksum(const struct page_header *header, const void *tables, size_t size);
// Most bytes that a page of raw_size can be encoded in.
uint64_t page_encoded_size_max(uint64_t raw_size);
// Checks what can be told from the first bytes of an object of `stored_size`. RMJ_CORRUPT with the reason.
enum rmj_status page_header_check(const struct page_header *header, uint64_t raw_size, uint64_t stored_size,
                                  struct rmj_error *err);

#endif
