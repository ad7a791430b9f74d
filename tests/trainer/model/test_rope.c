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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_stretches_long_wavelengths_and_mixes_those_between),
        cmocka_unit_test(linear_divides_every_frequency_and_default_leaves_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
