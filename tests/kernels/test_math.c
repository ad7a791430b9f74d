// Elementary functions, scalar in double and vectorised in float32, against the C library's over their whole range.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/vector.h"

static void elementary_functions_are_as_precise_as_they_claim(void **state)
{
    (void)state;
    struct rmj_rng rng;
    rmj_rng_init(&rng, 9, 9);
    for (int i = 0; i < 200000; i++) {
        double x = (rmj_rng_uniform(&rng) - 0.5) * 1400;
        assert_true(fabs(rmj_math_exp(x) / exp(x) - 1) < 1e-15);
        double y = exp(x);
        assert_true(fabs(rmj_math_log(y) - log(y)) <= 1e-15 * fmax(1, fabs(log(y))));
        double small = exp(-60 * rmj_rng_uniform(&rng));
        assert_true(fabs(rmj_math_log1p(small) / log1p(small) - 1) < 2e-15);
        double angle = (rmj_rng_uniform(&rng) - 0.5) * 1e6;
        assert_true(fabs(rmj_math_sin(angle) - sin(angle)) < 1e-12);
        assert_true(fabs(rmj_math_cos(angle) - cos(angle)) < 1e-12);
    }
    assert_true(rmj_math_exp(-800) == 0 && isinf(rmj_math_exp(800)) && isnan(rmj_math_exp(NAN)));
    assert_true(rmj_math_exp(0) == 1 && rmj_math_log(1) == 0 && rmj_math_log1p(0) == 0 && rmj_math_cos(0) == 1);
}

__attribute__((target("avx2,fma"))) static void vector_exp(const float *x, float *out)
{
    _mm256_storeu_ps(out, rmj_vector_exp(_mm256_loadu_ps(x)));
}

__attribute__((target("avx2,fma"))) static void vector_tanh(const float *x, float *out)
{
    _mm256_storeu_ps(out, rmj_vector_tanh(_mm256_loadu_ps(x)));
}

// Greatest relative error over floats of both signs whose bits lie `step` apart, up to `end` in size.
static double worst_error(void (*function)(const float *, float *), double (*reference)(double), float end,
                          uint32_t step)
{
    uint32_t last;
    memcpy(&last, &end, sizeof last);
    double worst = 0;
    for (uint32_t bits = 0x00800000; bits < last - 4 * step; bits += 4 * step) {
        float x[8], out[8];
        for (uint32_t l = 0; l < 4; l++) {
            uint32_t at = bits + l * step;
            memcpy(&x[2 * l], &at, sizeof at);
            x[2 * l + 1] = -x[2 * l];
        }
        function(x, out);
        for (size_t l = 0; l < 8; l++) {
            worst = fmax(worst, fabs((double)out[l] / reference((double)x[l]) - 1));
        }
    }
    return worst;
}

static void vectorised_functions_are_as_precise_as_they_claim(void **state)
{
    (void)state;
    assert_true(worst_error(vector_exp, exp, 87.2f, 1009) < 2e-7);
    assert_true(worst_error(vector_tanh, tanh, 1e30f, 1009) < 4e-7);
}

static void vectorised_functions_keep_their_ends(void **state)
{
    (void)state;
    const float x[8] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 1e38f, -1e38f};
    float out[8];
    vector_tanh(x, out);
    assert_true(out[0] == 0 && !signbit(out[0]) && out[1] == 0 && signbit(out[1]));
    assert_true(out[2] == 1 && out[3] == -1 && isnan(out[4]) && out[6] == 1 && out[7] == -1);
    assert_true(out[5] == 1e-40f);
    vector_exp(x, out);
    assert_true(out[0] == 1 && out[1] == 1 && out[3] == 0 && isnan(out[4]) && out[5] == 1 && out[7] == 0);
}

int main(void)
{
    struct rmj_error err = {0};
    if (rmj_cpu_check(&err) != RMJ_OK) {
        print_message("SKIP: %s\n", err.message);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementary_functions_are_as_precise_as_they_claim),
        cmocka_unit_test(vectorised_functions_are_as_precise_as_they_claim),
        cmocka_unit_test(vectorised_functions_keep_their_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
