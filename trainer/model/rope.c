// Inverse frequencies follow the public implementation's roundings (float32 where it has float32), so that scores agree
// with it; the functions themselves are own and in double.
#include "trainer/model/rope.h"

#include <math.h>

#include "kernels/cpu/math.h"

#define PI 0x1.921fb54442d18p+1

// Llama 3.1's rule: wavelengths under original / high stay, those over original / low are stretched by factor, between
// them the two are mixed.
static double llama3_frequency(double frequency, const struct rmj_rope *r)
{
    double wavelength = 2 * PI / frequency;
    double original = r->original_position_count;
    if (wavelength < original / r->high_frequency_factor) {
        return frequency;
    }
    if (wavelength > original / r->low_frequency_factor) {
        return frequency / r->factor;
    }
    double mix =
        (original / wavelength - r->low_frequency_factor) / (r->high_frequency_factor - r->low_frequency_factor);
    return (1 - mix) * frequency / r->factor + mix * frequency;
}

// The pair (as a real number) that turns `rotations` times over the original length (Peng et al. 2023, eq. 14).
static double yarn_pair_of(double rotations, const struct rmj_rope *r, uint32_t rotary_width)
{
    double turns = r->original_position_count / (rotations * 2 * PI);
    return rotary_width * rmj_math_log(turns) / (2 * rmj_math_log(r->theta));
}

// Pairs that turn often keep their frequency, those that turn seldom are stretched, a ramp lies between (eq. 18).
static float yarn_frequency(const struct rmj_rope *r, uint32_t pair, uint32_t rotary_width)
{
    double low = yarn_pair_of(r->beta_fast, r, rotary_width), high = yarn_pair_of(r->beta_slow, r, rotary_width);
    low = fmax(r->truncate ? floor(low) : low, 0);
    high = fmin(r->truncate ? ceil(high) : high, rotary_width - 1);
    high += low == high ? 0.001 : 0;
    float ramp = ((float)pair - (float)low) / (float)(high - low);
    ramp = fminf(fmaxf(ramp, 0), 1);
    float kept = 1 - ramp;
    float wavelength = (float)rmj_math_exp((double)((float)(2 * pair) / (float)rotary_width) * rmj_math_log(r->theta));
    return 1 / ((float)r->factor * wavelength) * (1 - kept) + 1 / wavelength * kept;
}

static float longrope_frequency(const struct rmj_rope *r, uint32_t pair, uint32_t rotary_width)
{
    float exponent = (float)(2 * pair) / (float)rotary_width;
    return 1 / (r->short_factors[pair] * (float)rmj_math_exp((double)exponent * rmj_math_log(r->theta)));
}

static float inverse_frequency(const struct rmj_rope *r, uint32_t pair, uint32_t rotary_width)
{
    if (r->kind == RMJ_ROPE_YARN) {
        return yarn_frequency(r, pair, rotary_width);
    }
    if (r->kind == RMJ_ROPE_LONGROPE) {
        return longrope_frequency(r, pair, rotary_width);
    }
    double exponent = 2.0 * pair / rotary_width;
    double frequency = (double)(float)rmj_math_exp(-exponent * rmj_math_log(r->theta));
    if (r->kind == RMJ_ROPE_LINEAR) {
        frequency /= r->factor;
    } else if (r->kind == RMJ_ROPE_LLAMA3) {
        frequency = llama3_frequency(frequency, r);
    }
    return (float)frequency;
}

void rmj_rope_inverse_frequencies(float *frequencies, const struct rmj_rope *rope, uint32_t rotary_width)
{
    for (uint32_t i = 0; i < rotary_width / 2; i++) {
        frequencies[i] = inverse_frequency(rope, i, rotary_width);
    }
}

static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * rmj_math_log(factor) + 1;
}

double rmj_rope_yarn_attention_factor(double factor, double mscale, double mscale_all_dim)
{
    return mscale > 0 && mscale_all_dim > 0 ? yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all_dim)
                                            : yarn_scale(factor, 1);
}

double rmj_rope_longrope_attention_factor(double factor, uint32_t original_position_count)
{
    return factor <= 1 ? 1 : sqrt(1 + rmj_math_log(factor) / rmj_math_log(original_position_count));
}
