// Inside of rmj_sums, shared by sums.c (adding) and pages.c (sending, updating). Private to trainer/optim.
#ifndef RMJ_TRAINER_OPTIM_SUMS_INTERNAL_H
#define RMJ_TRAINER_OPTIM_SUMS_INTERNAL_H

#include "base/arena.h"
#include "kernels/cpu/block.h"
#include "trainer/optim/optim.h"

// P is at most 2^11: more packs a step leave fewer than 14 bits to a value under the usual headroom.
#define RMJ_PACK_BITS_MAX 11u

struct rmj_sum_block {
    uint32_t tensor;
    uint32_t exponent; // index
    size_t sum;        // first element in `body` or `wide`
};

struct rmj_sums {
    // immutable after create
    const struct rmj_layout *layout;
    struct rmj_pool *pool;
    struct rmj_arena arena;
    int pack_bits; // log2 P
    uint32_t row_count_max, row_width;
    uint32_t exponent_count;
    uint32_t cut_count_max;
    struct rmj_sum_block *blocks; // of the whole layout; the embedding's are unused
    uint32_t *tensor_exponents;   // [tensor_count] first exponent of each tensor
    size_t body_count, wide_count;
    // owner thread, and its pool while it waits
    int32_t *body;
    int64_t *wide;
    int64_t *rows;        // [row_count, row_width]
    uint32_t *row_tokens; // [row_count] ascending
    uint32_t row_count;
    uint32_t *row_targets; // [row_count_max] scratch: where a pack's rows go
    int16_t *exponents;    // of this pass, headroom included: |v| < 2^e fits
    int16_t *observed;
    struct rmj_block_extent *cut_extents; // [cut_count_max] scratch of one tensor
    int not_finite;
};

double rmj_power_of_two(int exponent);
// A sum is value * 2^shift, in `bits` + 1 bits (31 or 63).
int rmj_sums_shift(const struct rmj_sums *sums, uint32_t exponent, int bits);

#endif
