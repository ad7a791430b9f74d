// One epoch across jobs: every pair that a model or one of its ancestors was trained on travels with the model, and a
// base model that has seen a pair of the job's is refused.
//
// rmjob-pairs.bin, beside the weights, little-endian:
//
//   [ magic "RMJPAIR1" | version uint32 | zero uint32 | count uint64 | count pair ids, uint64, ascending, each once ]
//
// A pair id is the first 8 bytes, read as little-endian, of SHA-256 over: tokens of chosen, tokens of rejected (uint32
// each), token ids of the whole chosen side, of the whole rejected side (int32). Whole is BOS to EOS before
// data.max_length cuts anything; the margin is left out: a pair is the same one however it is cut or weighted. Two
// different pairs share an id by accident once in 2^64 comparisons: 10^-7 for a million new pairs on a million old.
//
// The file holds nothing but the plan's and the base model's file's ids, so any schedule writes the same bytes.
#ifndef RMJ_TRAINER_DATA_LINEAGE_H
#define RMJ_TRAINER_DATA_LINEAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "trainer/data/plan.h"
#include "trainer/data/template.h"

#define RMJ_LINEAGE_FILE "rmjob-pairs.bin"
#define RMJ_LINEAGE_MAGIC "RMJPAIR1"
#define RMJ_LINEAGE_VERSION 1u
// 2 GiB of ids: a hundred times the largest preference set.
#define RMJ_LINEAGE_PAIR_COUNT_MAX ((uint64_t)1 << 28)

struct rmj_lineage_header {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    uint64_t count;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ids are written as they lie in memory");
_Static_assert(sizeof(struct rmj_lineage_header) == 24, "layout of the lineage header");
_Static_assert(offsetof(struct rmj_lineage_header, version) == 8, "layout of the lineage header");
_Static_assert(offsetof(struct rmj_lineage_header, count) == 16, "layout of the lineage header");
_Static_assert(sizeof(struct rmj_lineage_header) % sizeof(uint64_t) == 0, "ids are read in place");

// Pairs a model has seen.
struct rmj_lineage {
    struct rmj_buf bytes;
    const uint64_t *ids; // [count], inside bytes
    uint64_t count;
};

uint64_t rmj_lineage_pair_id(const struct rmj_tokens *chosen, const struct rmj_tokens *rejected);
// Reads directory/rmjob-pairs.bin; a model of other origin has none and has seen nothing. RMJ_DATA names a damaged
// file, and a model of ours (rmjob.json) without one. Deinit in either case.
RMJ_MUST_USE enum rmj_status rmj_lineage_open(struct rmj_lineage *lineage, const char *directory,
                                              struct rmj_error *err);
void rmj_lineage_deinit(struct rmj_lineage *lineage);
int rmj_lineage_has(const struct rmj_lineage *lineage, uint64_t id);

// One error finding when pairs of the contract are in the base model's lineage: how many, and where the first one
// stands. `what` names the pairs: "pairs", or "sampled pairs". Fails only where the inputs are not at fault.
struct rmj_contract;
RMJ_MUST_USE enum rmj_status rmj_lineage_check(const char *base, const struct rmj_contract *contract, const char *what,
                                               struct rmj_error *err);
// Writes directory/rmjob-pairs.bin: the base model's pairs and the plan's.
RMJ_MUST_USE enum rmj_status rmj_lineage_write(const struct rmj_plan *plan, const char *base, const char *directory,
                                               struct rmj_error *err);

#endif
