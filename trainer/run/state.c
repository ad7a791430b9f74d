#include "trainer/run/state.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "base/status.h"
#include "trainer/optim/optim.h"

static const char state_magic[8] = "rmjstat1";

// One context for the chain, so that a step allocates nothing. Used by the training thread alone.
static EVP_MD_CTX *chain_context;
static EVP_MD *chain_md;
static pthread_once_t chain_once = PTHREAD_ONCE_INIT;

static void make_chain_context(void)
{
    chain_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    chain_context = EVP_MD_CTX_new();
    RMJ_ASSERT(chain_md != NULL && chain_context != NULL);
}

static void chain_hash(const void *bytes, size_t size, struct rmj_digest *digest)
{
    unsigned digest_size = RMJ_DIGEST_SIZE;
    pthread_once(&chain_once, make_chain_context);
    RMJ_ASSERT(EVP_DigestInit_ex2(chain_context, chain_md, NULL) == 1 &&
               EVP_DigestUpdate(chain_context, bytes, size) == 1 &&
               EVP_DigestFinal_ex(chain_context, digest->bytes, &digest_size) == 1);
}

size_t rmj_state_bytes(uint32_t exponent_count)
{
    return sizeof(struct rmj_state) + exponent_count * sizeof(int16_t);
}

int16_t *rmj_state_exponents(struct rmj_state *state)
{
    return (int16_t *)(state + 1);
}

void rmj_state_init(struct rmj_state *state, uint32_t exponent_count)
{
    memset(state, 0, sizeof *state);
    memcpy(state->magic, state_magic, sizeof state_magic);
    state->exponent_count = exponent_count;
    for (uint32_t i = 0; i < exponent_count; i++) {
        rmj_state_exponents(state)[i] = RMJ_EXPONENT_ZERO;
    }
}

int rmj_state_is_sound(const struct rmj_state *state, uint32_t step, uint32_t exponent_count)
{
    return memcmp(state->magic, state_magic, sizeof state_magic) == 0 && state->step == step &&
           state->exponent_count == exponent_count;
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

void rmj_state_step_sum(const struct rmj_plan *plan, const struct rmj_plan_step *step, struct rmj_digest *sum)
{
    memset(sum, 0, sizeof *sum);
    for (uint64_t pair = step->first_pair; pair < step->first_pair + step->pair_count; pair++) {
        struct rmj_digest digest;
        rmj_plan_pair_digest(plan, pair, &digest);
        rmj_digest_add(sum, &digest);
    }
}

void rmj_state_consume(struct rmj_state *state, const struct rmj_plan_step *plan_step, const struct rmj_digest *sum)
{
    struct {
        struct rmj_digest chain;
        uint64_t step, first_pair, pair_count;
        struct rmj_digest sum;
    } link = {state->chain, state->step, plan_step->first_pair, plan_step->pair_count, *sum};
    chain_hash(&link, sizeof link, &state->chain);
    rmj_digest_add(&state->consumed_sum, sum);
    state->pairs_consumed += plan_step->pair_count;
}
