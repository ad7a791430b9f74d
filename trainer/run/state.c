#include "trainer/run/state.h"

#include <string.h>

#include "trainer/optim/optim.h"

static const char state_magic[8] = "rmjstat3";

size_t rmj_state_bytes(uint32_t exponent_count, size_t monitor_bytes)
{
    return sizeof(struct rmj_state) + monitor_bytes + exponent_count * sizeof(int16_t);
}

struct rmj_monitor_state *rmj_state_monitor(struct rmj_state *state)
{
    return (struct rmj_monitor_state *)(void *)(state + 1);
}

int16_t *rmj_state_exponents(struct rmj_state *state)
{
    return (int16_t *)(void *)((char *)(state + 1) + state->monitor_bytes);
}

void rmj_state_init(struct rmj_state *state, uint32_t exponent_count, size_t monitor_bytes)
{
    memset(state, 0, rmj_state_bytes(0, monitor_bytes));
    memcpy(state->magic, state_magic, sizeof state_magic);
    state->exponent_count = exponent_count;
    state->monitor_bytes = monitor_bytes;
    for (uint32_t i = 0; i < exponent_count; i++) {
        rmj_state_exponents(state)[i] = RMJ_EXPONENT_ZERO;
    }
}

int rmj_state_is_sound(const struct rmj_state *state, uint32_t step, uint32_t exponent_count, size_t monitor_bytes)
{
    return memcmp(state->magic, state_magic, sizeof state_magic) == 0 && state->step == step &&
           state->exponent_count == exponent_count && state->monitor_bytes == monitor_bytes;
}

void rmj_digest_add(struct rmj_digest *a, const struct rmj_digest *b)
{
    unsigned carry = 0;
    for (size_t i = 0; i < RMJ_DIGEST_SIZE; i++) {
        carry += (unsigned)a->bytes[i] + b->bytes[i];
        a->bytes[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

void rmj_proof_fill(struct rmj_proof *proof, const struct rmj_plan *plan)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    for (uint64_t pair = 0; pair < info->pair_count; pair++) {
        rmj_plan_pair_digest(plan, pair, &proof->pairs[pair]);
    }
    memset(&proof->steps[0], 0, sizeof proof->steps[0]);
    for (uint32_t number = 1; number <= info->step_count; number++) {
        struct rmj_plan_step step;
        struct rmj_proof_step *to = &proof->steps[number];
        rmj_plan_step(plan, number, &step);
        memset(&to->sum, 0, sizeof to->sum);
        for (uint64_t pair = step.first_pair; pair < step.first_pair + step.pair_count; pair++) {
            rmj_digest_add(&to->sum, &proof->pairs[pair]);
        }
        struct {
            struct rmj_digest chain;
            uint64_t step, first_pair, pair_count;
            struct rmj_digest sum;
        } link = {proof->steps[number - 1].chain, number, step.first_pair, step.pair_count, to->sum};
        rmj_sha256_of(&link, sizeof link, &to->chain);
    }
}

void rmj_state_consume(struct rmj_state *state, const struct rmj_plan_step *plan_step,
                       const struct rmj_proof_step *proof)
{
    rmj_digest_add(&state->consumed_sum, &proof->sum);
    state->chain = proof->chain;
    state->pairs_consumed += plan_step->pair_count;
}
