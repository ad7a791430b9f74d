// Inverse frequencies of rotary positions against their formulas in double.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/model/rope.h"

static void llama3_stretches_long_wavelengths_and_mixes_those_between(void **state)
{
    (void)state;
    enum { WIDTH = 16 };
    struct rmj_rope rope = {.kind = RMJ_ROPE_LLAMA3,
                            .theta = 500000,
                            .factor = 8,
                            .low_frequency_factor = 1,
                            .high_frequency_factor = 4,
                            .original_position_count = 64};
    float frequencies[WIDTH / 2];
    rmj_rope_inverse_frequencies(frequencies, &rope, WIDTH);
    double pi = acos(-1);
    for (uint32_t i = 0; i < WIDTH / 2; i++) {
        double frequency = pow(500000, -2.0 * i / WIDTH), wavelength = 2 * pi / frequency;
        if (wavelength > 64) {
            frequency /= 8;
        } else if (wavelength > 16) {
            double mix = (64 / wavelength - 1) / 3;
            frequency = (1 - mix) * frequency / 8 + mix * frequency;
        }
        assert_true(fabs((double)frequencies[i] / frequency - 1) < 2e-7);
    }
}

static void linear_divides_every_frequency_and_default_leaves_them(void **state)
{
    (void)state;
    struct rmj_rope rope = {.kind = RMJ_ROPE_DEFAULT, .theta = 10000};
    float plain[5], stretched[5];
    rmj_rope_inverse_frequencies(plain, &rope, 10);
    rope.kind = RMJ_ROPE_LINEAR;
    rope.factor = 3;
    rmj_rope_inverse_frequencies(stretched, &rope, 10);
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(fabs((double)plain[i] / pow(10000, -0.2 * i) - 1) < 1e-7);
        assert_true(stretched[i] == (float)((double)plain[i] / 3));
    }
}

// Frequencies and factors that transformers 5.23 computes (heads of 16).
static void stretched_kinds_equal_the_public_implementation(void **state)
{
    (void)state;
    static const struct {
        struct rmj_rope rope;
        float frequencies[8];
    } cases[] = {
        {{.kind = RMJ_ROPE_YARN,
          .theta = 1e4,
          .factor = 4,
          .beta_fast = 32,
          .beta_slow = 1,
          .truncate = 1,
          .original_position_count = 64},
         {1, 0.237170815f, 0.049999997f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f,
          7.90569466e-05f}},
        {{.kind = RMJ_ROPE_YARN,
          .theta = 5e5,
          .factor = 40,
          .beta_fast = 16,
          .beta_slow = 2,
          .original_position_count = 32},
         {1, 0.00484806858f, 0.000940150756f, 0.000182316624f, 3.53553369e-05f, 6.85620444e-06f, 1.32957393e-06f,
          2.57834614e-07f}},
        {{.kind = RMJ_ROPE_YARN,
          .theta = 1e4,
          .factor = 0.5,
          .beta_fast = 32,
          .beta_slow = 1,
          .truncate = 1,
          .original_position_count = 4096},
         {1, 0.316227764f, 0.100000001f, 0.0395284742f, 0.0149999997f, 0.00553398626f, 0.00200000009f,
          0.000632455572f}},
        {{.kind = RMJ_ROPE_LONGROPE,
          .theta = 1e4,
          .factor = 4,
          .short_factors = {1.0f, 1.1f, 1.3f, 1.6f, 2.0f, 2.5f, 3.1f, 3.8f},
          .original_position_count = 128},
         {1, 0.287479758f, 0.0769230798f, 0.0197642352f, 0.00499999989f, 0.00126491114f, 0.000322580658f,
          8.32178412e-05f}},
        {{.kind = RMJ_ROPE_DYNAMIC, .theta = 1e4, .factor = 1.7, .original_position_count = 256},
         {1, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f, 0.00316227786f, 0.00100000005f,
          0.000316227786f}},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        float frequencies[8];
        rmj_rope_inverse_frequencies(frequencies, &cases[i].rope, 16);
        for (size_t pair = 0; pair < 8; pair++) {
            double want = (double)cases[i].frequencies[pair];
            assert_true(fabs((double)frequencies[pair] - want) <= 1.2e-7 * want);
        }
    }
    assert_true(fabs(rmj_rope_yarn_attention_factor(4, 0, 0) - 1.138629436111989) < 1e-15);
    assert_true(fabs(rmj_rope_yarn_attention_factor(40, 1.2, 0.7) - 1.1465910125110204) < 1e-15);
    assert_true(rmj_rope_yarn_attention_factor(0.5, 1.2, 0.7) == 1);
    assert_true(fabs(rmj_rope_longrope_attention_factor(4, 128) - 1.1338934190276817) < 1e-15);
    assert_true(rmj_rope_longrope_attention_factor(1, 128) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_stretches_long_wavelengths_and_mixes_those_between),
        cmocka_unit_test(linear_divides_every_frequency_and_default_leaves_them),
        cmocka_unit_test(stretched_kinds_equal_the_public_implementation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
