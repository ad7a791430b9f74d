// Small AVX2 helpers shared by the CPU kernels. Private to kernels/cpu; included only by files built with -mavx2 -mfma.
#ifndef RMJ_KERNELS_CPU_VECTOR_H
#define RMJ_KERNELS_CPU_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

// x = n log(2) + r, and (e^r - 1 - r) / r^2, of which both functions below are made.
static inline __m256 rmj_vector_exp_reduce(__m256 x, __m256 *n, __m256 *r)
{
    *n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    *r = _mm256_fnmadd_ps(*n, _mm256_set1_ps(0x1.62e400p-1f), x);
    *r = _mm256_fnmadd_ps(*n, _mm256_set1_ps(0x1.7f7d1cp-20f), *r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, *r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, *r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, *r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, *r, _mm256_set1_ps(1.0f / 6));
    return _mm256_fmadd_ps(p, *r, _mm256_set1_ps(0.5f));
}

// exp(x) for x <= 88.3 by 2^n e^r, |r| <= log(2)/2, polynomial of degree 6 (Remez-like coefficients of the Taylor
// kind). Relative error under 2e-7 (tests/kernels checks it over the range); under -87.3 the result is 0.
static inline __m256 rmj_vector_exp(__m256 x)
{
    __m256 n, r, p = rmj_vector_exp_reduce(x, &n, &r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    // Clamped so that the exponent field stays a number; lanes below are zeroed, lanes above are infinite.
    __m256 clamped = _mm256_min_ps(_mm256_max_ps(n, _mm256_set1_ps(-126)), _mm256_set1_ps(128));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(clamped), _mm256_set1_epi32(127)), 23);
    __m256 result = _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_LT_OQ), result);
}

// tanh(x) = sign(x) m / (m + 2) with m = e^2|x| - 1 = 2^n (e^r - 1) + (2^n - 1), by the exponential's reduction:
// nothing cancels, so that small values are as precise as large ones. Relative error under 4e-7 (tests/kernels).
static inline __m256 rmj_vector_tanh(__m256 x)
{
    __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f)), one = _mm256_set1_ps(1);
    // From 10 on the result is 1; this order of operands lets a NaN through.
    __m256 y = _mm256_min_ps(_mm256_set1_ps(10), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x));
    y = _mm256_add_ps(y, y);
    __m256 n, r, p = rmj_vector_exp_reduce(y, &n, &r);
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r);
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    __m256 power = _mm256_castsi256_ps(exponent);
    __m256 m = _mm256_fmadd_ps(power, p, _mm256_sub_ps(power, one));
    return _mm256_or_ps(_mm256_div_ps(m, _mm256_add_ps(m, _mm256_set1_ps(2))), sign);
}

// Mask of the first `count` lanes, count <= 8, for the tail of a row.
static inline __m256i rmj_vector_mask(size_t count)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - count));
}

// Sum of the eight lanes in one fixed order.
static inline float rmj_vector_sum(__m256 x)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#pragma GCC pop_options

#endif
