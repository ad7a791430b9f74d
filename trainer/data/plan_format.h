// The plan object's bytes, and how they are made. Little-endian.
//
//   [ header 416 bytes | paths | pairs | tokens | steps | packs | items ]
//
// Each section is one zstd frame (level 3) right after the one before. Raw contents:
//   paths   file_count NUL-terminated texts, as the spec (or the glob it holds) names them
//   pairs   struct rmj_plan_pair, in the plan's order
//   tokens  int32, pair after pair: common prefix, rest of chosen, rest of rejected
//   steps   struct rmj_plan_step_record
//   packs   uint32, items of each pack, step after step
//   items   uint32, pair numbers pack after pack
//
// Nothing in it depends on time, threads or machine: equal inputs give equal bytes, so its SHA-256 names it.
#ifndef RMJ_TRAINER_DATA_PLAN_FORMAT_H
#define RMJ_TRAINER_DATA_PLAN_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "storage/digest.h"
#include "trainer/data/plan.h"

#define RMJ_PLAN_MAGIC "RMJPLAN1"
#define RMJ_PLAN_VERSION 2u
#define RMJ_PLAN_OBJECT_SIZE_MAX ((size_t)16 << 30)
#define RMJ_PLAN_SECTION_SIZE_MAX ((uint64_t)32 << 30)
#define RMJ_PLAN_ROW_COUNT_MAX (1u << 22)
#define RMJ_PLAN_VOCABULARY_SIZE_MAX (1u << 22) // as of config.json: every step's index is as long
#define RMJ_PLAN_PACKS_PER_STEP_MAX 2048u
#define RMJ_PLAN_STEP_ROWS_CAP 16384u

enum {
    RMJ_PLAN_PATHS,
    RMJ_PLAN_PAIRS,
    RMJ_PLAN_TOKENS,
    RMJ_PLAN_STEPS,
    RMJ_PLAN_PACKS,
    RMJ_PLAN_ITEMS,
    RMJ_PLAN_SECTION_COUNT
};

struct rmj_plan_section {
    uint64_t offset;
    uint64_t stored_size;
    uint64_t size;
};

struct rmj_plan_header {
    char magic[8];
    uint32_t version;
    uint32_t header_size;
    uint64_t pair_count;
    uint64_t pack_count;
    uint32_t step_count;
    uint32_t row_count;
    uint32_t packs_per_step_bound;
    uint32_t pack_count_max;
    uint32_t embedding_row_count_max;
    uint32_t item_count_max;
    uint32_t branch_count_max;
    uint32_t vocabulary_size; // of the base model
    uint32_t file_count;
    uint32_t attention_divisor; // attended positions that cost as much as one row
    int32_t pad_token;
    uint32_t vocabulary_grows;
    uint8_t pairs_sum[RMJ_DIGEST_SIZE];
    uint8_t spec_digest[RMJ_DIGEST_SIZE];
    uint8_t base_digest[RMJ_DIGEST_SIZE];       // of the base model's files
    uint8_t companions_digest[RMJ_DIGEST_SIZE]; // of those beside the weights
    uint8_t benchmark_digest[RMJ_DIGEST_SIZE];  // zero when there is none
    uint8_t heldout_digest[RMJ_DIGEST_SIZE];
    struct rmj_plan_section sections[RMJ_PLAN_SECTION_COUNT];
};

struct rmj_plan_pair {
    uint64_t row;        // of the file, from 1
    uint64_t lineage_id; // of the whole pair, before a prompt was cut: rmj_lineage_pair_id
    uint32_t file;
    uint32_t prefix_count;
    uint32_t chosen_count; // after the prefix
    uint32_t rejected_count;
    float margin;
    uint32_t zero;
};

struct rmj_plan_step_record {
    uint64_t first_pair;
    uint32_t pair_count;
    uint32_t pack_count;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the plan is written as it lies in memory");
_Static_assert(sizeof(struct rmj_plan_section) == 24, "layout of a plan section");
_Static_assert(sizeof(struct rmj_plan_header) == 416, "layout of the plan header");
_Static_assert(offsetof(struct rmj_plan_header, pairs_sum) == 80, "layout of the plan header");
_Static_assert(offsetof(struct rmj_plan_header, sections) == 272, "layout of the plan header");
_Static_assert(sizeof(struct rmj_plan_pair) == 40, "layout of a plan pair");
_Static_assert(sizeof(struct rmj_plan_step_record) == 16, "layout of a plan step");

// Everything a plan is made of. Pairs stand in the spool in reading order; `order` says which comes when.
struct rmj_spool;
struct rmj_plan_input {
    struct rmj_spool *spool;
    const uint32_t *order; // [pairs of the spool]
    const char *const *paths;
    uint32_t file_count;
    uint32_t global_batch_pairs;
    uint32_t vocabulary_size;
    uint32_t attention_divisor;
    int32_t pad_token;
    int vocabulary_grows;
    struct rmj_digest spec_digest, base_digest, companions_digest, benchmark_digest, heldout_digest;
};

// Writes the object into the empty file `fd`; header and digest are its own. Memory is a few numbers a pair, not the
// tokens. RMJ_DATA when a step needs more packs than the sums can hold.
RMJ_MUST_USE enum rmj_status rmj_plan_write(const struct rmj_plan_input *input, int fd, struct rmj_plan_header *header,
                                            struct rmj_digest *digest, struct rmj_error *err);
// A plan from the bytes of an object. RMJ_CORRUPT for anything that does not hold together, whatever the bytes are.
RMJ_MUST_USE enum rmj_status rmj_plan_parse(struct rmj_plan **plan, const void *bytes, size_t size,
                                            struct rmj_error *err);
// The digest of a pair from its laid-out tokens: SHA-256 over chosen length, rejected length (uint32), margin (float32
// bits), the ids of the whole chosen side and of the whole rejected side (int32).
void rmj_plan_digest_pair(const struct rmj_plan_pair *pair, const int32_t *tokens, struct rmj_digest *digest);

#endif
