// Plain loops that the compiler vectorises (-O3 -mavx2); -ffp-contract=off keeps them the same bits either way.
#include "kernels/cpu/block.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/vector.h"

#define LANES 8u
// AdamW works on a few elements at a time so that the gradient stays in cache.
#define PIECE 256u

struct rmj_block_extent rmj_block_extent(const float *x, size_t count)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
    const __m256 infinity = _mm256_set1_ps(HUGE_VALF);
    for (size_t i = 0; i < count; i += 8) {
        __m256i mask = rmj_vector_mask(count - i < 8 ? count - i : 8);
        __m256 magnitude = _mm256_andnot_ps(sign, _mm256_maskload_ps(x + i, mask));
        // maxps returns its second operand when the first is not a number.
        most = _mm256_max_ps(magnitude, most);
        odd = _mm256_or_ps(odd, _mm256_cmp_ps(magnitude, infinity, _CMP_NLT_UQ));
    }
    float lanes[8], result = 0;
    _mm256_storeu_ps(lanes, most);
    for (size_t l = 0; l < 8; l++) {
        result = lanes[l] > result ? lanes[l] : result;
    }
    return (struct rmj_block_extent){.magnitude = result, .finite = _mm256_movemask_ps(odd) == 0};
}

void rmj_block_add_int32(int32_t *sum, const float *x, size_t count, float scale, int32_t limit)
{
    // The limit is 2^b - 1. As a float it rounds up to 2^b when b is over 24, so the bound is applied twice: as a float
    // for what conversion could not hold (2^31 converts to the smallest integer), as an integer for exactness.
    const __m256 times = _mm256_set1_ps(scale), bound = _mm256_set1_ps(0x1.fffffep+30f);
    const __m256 low = _mm256_sub_ps(_mm256_setzero_ps(), bound);
    const __m256i most = _mm256_set1_epi32(limit), least = _mm256_set1_epi32(-limit);
    for (size_t i = 0; i < count; i += 8) {
        __m256i mask = rmj_vector_mask(count - i < 8 ? count - i : 8);
        __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + i, mask), times);
        __m256 number = _mm256_and_ps(scaled, _mm256_cmp_ps(scaled, scaled, _CMP_ORD_Q));
        __m256i rounded = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(number, bound), low));
        rounded = _mm256_max_epi32(_mm256_min_epi32(rounded, most), least);
        __m256i before = _mm256_maskload_epi32(sum + i, mask);
        _mm256_maskstore_epi32(sum + i, mask, _mm256_add_epi32(before, rounded));
    }
}

void rmj_block_add_int64(int64_t *sum, const float *x, size_t count, double scale, double limit)
{
    for (size_t i = 0; i < count; i++) {
        double scaled = (double)x[i] * scale;
        if (fabs(scaled) < limit) {
            sum[i] += (int64_t)rint(scaled);
        }
    }
}

static double fold(const double lanes[LANES])
{
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

double rmj_block_square_int32(const int32_t *x, size_t count, double scale)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < count; i++) {
        double value = (double)x[i] * scale;
        lanes[i % LANES] += value * value;
    }
    return fold(lanes);
}

double rmj_block_square_int64(const int64_t *x, size_t count, double scale)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < count; i++) {
        double value = (double)x[i] * scale;
        lanes[i % LANES] += value * value;
    }
    return fold(lanes);
}

static void adamw_piece(const struct rmj_block_adamw *a, const float *restrict g, float *restrict w, float *restrict m,
                        float *restrict v, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        m[i] = m[i] + (g[i] - m[i]) * a->one_minus_beta1;
        v[i] = v[i] * a->beta2 + a->one_minus_beta2 * g[i] * g[i];
        float denominator = sqrtf(v[i]) / a->root_correction + a->epsilon;
        w[i] = w[i] * a->decay - a->step_size * (m[i] / denominator);
    }
}

void rmj_block_adamw_int32(const struct rmj_block_adamw *adamw, const int32_t *sum, double scale, float *w, float *m,
                           float *v, size_t count)
{
    float g[PIECE];
    memset(g, 0, sizeof g);
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        for (size_t i = 0; sum != NULL && i < n; i++) {
            g[i] = (float)((double)sum[at + i] * scale);
        }
        adamw_piece(adamw, g, w + at, m + at, v + at, n);
    }
}

void rmj_block_adamw_int64(const struct rmj_block_adamw *adamw, const int64_t *sum, double scale, float *w, float *m,
                           float *v, size_t count)
{
    float g[PIECE];
    memset(g, 0, sizeof g);
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        for (size_t i = 0; sum != NULL && i < n; i++) {
            g[i] = (float)((double)sum[at + i] * scale);
        }
        adamw_piece(adamw, g, w + at, m + at, v + at, n);
    }
}
