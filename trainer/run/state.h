// The small replicated state: equal on every rank after every step, part of every snapshot and checkpoint.
#ifndef RMJ_TRAINER_RUN_STATE_H
#define RMJ_TRAINER_RUN_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "storage/digest.h"
#include "trainer/data/plan.h"
#include "trainer/run/monitor.h"

// Followed in memory and in the store by the data watch's part, monitor_bytes, and the exponents, int16
// [exponent_count].
struct rmj_state {
    char magic[8];
    uint32_t step; // optimizer steps done
    uint32_t exponent_count;
    uint64_t pairs_consumed;
    struct rmj_digest consumed_sum; // modulo 2^256, little-endian
    struct rmj_digest chain;        // SHA-256 over (chain, step, first pair, pair count, sum of the step)
    uint64_t monitor_bytes;
};
_Static_assert(sizeof(struct rmj_state) == 8 + 8 + 8 + 64 + 8, "state layout is stored");

size_t rmj_state_bytes(uint32_t exponent_count, size_t monitor_bytes);
int16_t *rmj_state_exponents(struct rmj_state *state);
struct rmj_monitor_state *rmj_state_monitor(struct rmj_state *state);
void rmj_state_init(struct rmj_state *state, uint32_t exponent_count, size_t monitor_bytes);
// 1 when the bytes are a state of `step` with as many exponents and as large a watch.
int rmj_state_is_sound(const struct rmj_state *state, uint32_t step, uint32_t exponent_count, size_t monitor_bytes);
// Adds b to a modulo 2^256.
void rmj_digest_add(struct rmj_digest *a, const struct rmj_digest *b);
// What the consumed-pairs proof compares with: hashed once per plan, so that a step hashes (and allocates) nothing.
struct rmj_proof_step {
    struct rmj_digest sum;   // of the step's pairs, modulo 2^256
    struct rmj_digest chain; // up to this step
};
struct rmj_proof {
    struct rmj_digest *pairs;     // [pair_count]
    struct rmj_proof_step *steps; // [step_count + 1], by 1-based step
};
void rmj_proof_fill(struct rmj_proof *proof, const struct rmj_plan *plan);
// Takes a step into the state, after the vote has shown that exactly its pairs were computed.
void rmj_state_consume(struct rmj_state *state, const struct rmj_plan_step *plan_step,
                       const struct rmj_proof_step *proof);

#endif
