// Inverse frequencies follow the public implementation's roundings (float32 where it has float32), so that scores agree
// with it; the functions themselves are own and in double.
#include "trainer/model/rope.h"

#include "kernels/cpu/math.h"

#define PI 0x1.921fb54442d18p+1

// Llama 3.1's rule: wavelengths under original / high stay, those over original / low are stretched by factor, between
// them the two are mixed.
static double llama3_frequency(double frequency, const struct rmj_model_config *c)
{
    double wavelength = 2 * PI / frequency;
    double original = c->rope_original_position_count;
    if (wavelength < original / c->rope_high_frequency_factor) {
        return frequency;
    }
    if (wavelength > original / c->rope_low_frequency_factor) {
        return frequency / c->rope_factor;
    }
    double mix = (original / wavelength - c->rope_low_frequency_factor) /
                 (c->rope_high_frequency_factor - c->rope_low_frequency_factor);
    return (1 - mix) * frequency / c->rope_factor + mix * frequency;
}

static float inverse_frequency(const struct rmj_model_config *c, uint32_t pair)
{
    double exponent = 2.0 * pair / c->head_width;
    double frequency = (double)(float)rmj_math_exp(-exponent * rmj_math_log(c->rope_theta));
    if (c->rope_kind == RMJ_ROPE_LINEAR) {
        frequency /= c->rope_factor;
    } else if (c->rope_kind == RMJ_ROPE_LLAMA3) {
        frequency = llama3_frequency(frequency, c);
    }
    return (float)frequency;
}

void rmj_rope_inverse_frequencies(float *frequencies, const struct rmj_model_config *config)
{
    for (uint32_t i = 0; i < config->head_width / 2; i++) {
        frequencies[i] = inverse_frequency(config, i);
    }
}
