// Seeded randomness with the same numbers on every machine: integers by xoshiro256**, normals by a logarithm of our
// own, so that no libm variant can change a bit.
#ifndef RMJ_BASE_RNG_H
#define RMJ_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rmj_rng {
    uint64_t state[4];
};

// stream tells apart the uses of one seed: shuffle, head, bootstrap, ...
void rmj_rng_init(struct rmj_rng *rng, uint64_t seed, uint64_t stream);
uint64_t rmj_rng_next(struct rmj_rng *rng);
// Uniform in [0, bound), without bias. bound > 0.
uint64_t rmj_rng_below(struct rmj_rng *rng, uint64_t bound);
// Uniform in [0, 1), 53 bits.
double rmj_rng_uniform(struct rmj_rng *rng);
// Standard normal (Marsaglia's polar method).
double rmj_rng_normal(struct rmj_rng *rng);
// Fisher-Yates over `count` indices.
void rmj_rng_shuffle(struct rmj_rng *rng, uint32_t *indices, size_t count);
// Random bytes from the operating system, for ids and secrets; never for results.
int rmj_random_bytes(void *bytes, size_t size);

#ifdef __cplusplus
}
#endif
#endif
