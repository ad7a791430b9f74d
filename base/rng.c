// xoshiro256** by Blackman and Vigna (https://prng.di.unimi.it, public domain); splitmix64 spreads the seed.
#include "base/rng.h"

#include <math.h>
#include <sys/random.h>

#include "base/status.h"

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

void rmj_rng_init(struct rmj_rng *rng, uint64_t seed, uint64_t stream)
{
    uint64_t x = stream;
    uint64_t mixed = splitmix64(&x) ^ seed;
    for (int i = 0; i < 4; i++) {
        rng->state[i] = splitmix64(&mixed);
    }
}

uint64_t rmj_rng_next(struct rmj_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rmj_rng_below(struct rmj_rng *rng, uint64_t bound)
{
    RMJ_ASSERT(bound > 0);
    // Numbers under 2^64 mod bound would favour small results.
    uint64_t threshold = (0 - bound) % bound;
    uint64_t x;
    do {
        x = rmj_rng_next(rng);
    } while (x < threshold);
    return x % bound;
}

double rmj_rng_uniform(struct rmj_rng *rng)
{
    return (double)(rmj_rng_next(rng) >> 11) * 0x1.0p-53;
}

// Natural logarithm of x in (0, 1]: x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
// Basic operations only, so the bits do not depend on libm. Relative error under 1e-14.
static double portable_log(double x)
{
    int exponent;
    double m = frexp(x, &exponent);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        exponent--;
    }
    double t = (m - 1) / (m + 1);
    double t2 = t * t;
    double sum = 0;
    for (int k = 25; k >= 1; k -= 2) {
        sum = sum * t2 + 1.0 / k;
    }
    return 2 * t * sum + exponent * 0x1.62e42fefa39efp-1;
}

double rmj_rng_normal(struct rmj_rng *rng)
{
    double u, v, s;
    do {
        u = 2 * rmj_rng_uniform(rng) - 1;
        v = 2 * rmj_rng_uniform(rng) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return u * sqrt(-2 * portable_log(s) / s);
}

void rmj_rng_shuffle(struct rmj_rng *rng, uint32_t *indices, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = rmj_rng_below(rng, i);
        uint32_t other = indices[i - 1];
        indices[i - 1] = indices[j];
        indices[j] = other;
    }
}

int rmj_random_bytes(void *bytes, size_t size)
{
    char *at = bytes;
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0) {
            return 0;
        }
        at += got;
        size -= (size_t)got;
    }
    return 1;
}
