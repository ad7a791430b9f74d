// Operations on blocks of the integer gradient sums and of the optimizer state. Single-threaded, elementwise or in one
// fixed order; trainer/optim shares blocks out over its pool. The rules are in trainer/optim/README.md.
#ifndef RMJ_KERNELS_CPU_BLOCK_H
#define RMJ_KERNELS_CPU_BLOCK_H

#include <stddef.h>
#include <stdint.h>

// Largest magnitude and whether all are finite. Not-a-number does not enter the maximum.
struct rmj_block_extent {
    float magnitude;
    int finite;
};
struct rmj_block_extent rmj_block_extent(const float *x, size_t count);

// sum[i] += round(x[i] * scale), to nearest, ties to even, held within [-limit, limit]. scale: a power of two.
// Not-a-number counts as zero. The caller's bound on scale and number of additions keeps sums from wrapping.
void rmj_block_add_int32(int32_t *sum, const float *x, size_t count, float scale, int32_t limit);
// The same in 64 bits, scaled in double; values of magnitude `limit` and over count as zero (their pass is void).
void rmj_block_add_int64(int64_t *sum, const float *x, size_t count, double scale, double limit);

// Sum of (x[i] * scale)^2 in double, over eight lanes that are folded in one order.
double rmj_block_square_int32(const int32_t *x, size_t count, double scale);
double rmj_block_square_int64(const int64_t *x, size_t count, double scale);

// One step of AdamW (Loshchilov and Hutter 2019, algorithm 2) in float32, in the order of torch's.
struct rmj_block_adamw {
    float decay;        // 1 - learning rate * weight decay
    float beta1, beta2; // and their complements, rounded from double
    float one_minus_beta1, one_minus_beta2;
    float step_size;       // learning rate / (1 - beta1^t)
    float root_correction; // sqrt(1 - beta2^t)
    float epsilon;
};
// The gradient of element i is sum[i] * scale; sum NULL: zero.
void rmj_block_adamw_int32(const struct rmj_block_adamw *adamw, const int32_t *sum, double scale, float *w, float *m,
                           float *v, size_t count);
void rmj_block_adamw_int64(const struct rmj_block_adamw *adamw, const int64_t *sum, double scale, float *w, float *m,
                           float *v, size_t count);

#endif
