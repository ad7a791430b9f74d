// Accepted pairs on their way into a plan: records and tokens in two files, so that a set of any size needs no memory.
// Written in reading order, read in any order. Not safe for threads.
//
//   pairs   struct rmj_spool_record, one a pair
//   tokens  int32, pair after pair: common prefix, rest of chosen, rest of rejected
#ifndef RMJ_TRAINER_DATA_SPOOL_H
#define RMJ_TRAINER_DATA_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/data/plan_format.h"

struct rmj_spool;

struct rmj_spool_record {
    struct rmj_plan_pair pair;
    uint64_t first_token;
    uint8_t key[RMJ_DIGEST_SIZE]; // of the content: half a digest of each side
};
_Static_assert(sizeof(struct rmj_spool_record) == 80, "layout of a spooled pair");

// directory: where the files are made, or found again by `rmj_spool_resume`; NULL keeps them in anonymous memory.
RMJ_MUST_USE enum rmj_status rmj_spool_create(struct rmj_spool **spool, const char *directory, struct rmj_error *err);
// The files of a killed process, cut to what it knew to be whole. RMJ_NOT_FOUND when they do not hold so much.
RMJ_MUST_USE enum rmj_status rmj_spool_resume(struct rmj_spool **spool, const char *directory, uint32_t pair_count,
                                              uint64_t token_count, struct rmj_error *err);
void rmj_spool_close(struct rmj_spool *spool); // the files stay

uint32_t rmj_spool_pair_count(const struct rmj_spool *spool);
uint64_t rmj_spool_token_count(const struct rmj_spool *spool);
// tokens: prefix_count + chosen_count + rejected_count of them.
RMJ_MUST_USE enum rmj_status rmj_spool_add(struct rmj_spool *spool, const struct rmj_plan_pair *pair,
                                           const uint8_t key[RMJ_DIGEST_SIZE], const int32_t *tokens,
                                           struct rmj_error *err);
// Everything added so far is on disk when this returns.
RMJ_MUST_USE enum rmj_status rmj_spool_sync(struct rmj_spool *spool, struct rmj_error *err);

// Records [first, first + count).
RMJ_MUST_USE enum rmj_status rmj_spool_records(struct rmj_spool *spool, uint32_t first, uint32_t count,
                                               struct rmj_spool_record *records, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_spool_tokens(struct rmj_spool *spool, const struct rmj_spool_record *record,
                                              int32_t *tokens, struct rmj_error *err);

// Calls each with every record in reading order, until it fails.
typedef enum rmj_status (*rmj_spool_fn)(void *context, uint32_t index, const struct rmj_spool_record *record,
                                        struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_spool_each(struct rmj_spool *spool, rmj_spool_fn each, void *context,
                                            struct rmj_error *err);

#endif
