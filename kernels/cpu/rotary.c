// Rotary positions. The tables follow the public implementation's roundings (inverse frequencies and angles are
// float32 there), so that scores agree with it; the functions themselves are own and in double.
#include "kernels/cpu/context.h"
#include "kernels/cpu/math.h"

#define PI 0x1.921fb54442d18p+1

// Llama 3.1's rule: wavelengths under original / high stay, those over original / low are stretched by factor, between
// them the two are mixed.
static double llama3_frequency(double frequency, const struct rmj_rotary *rotary)
{
    double wavelength = 2 * PI / frequency;
    double original = rotary->original_position_count;
    if (wavelength < original / rotary->high_frequency_factor) {
        return frequency;
    }
    if (wavelength > original / rotary->low_frequency_factor) {
        return frequency / rotary->factor;
    }
    double mix = (original / wavelength - rotary->low_frequency_factor) /
                 (rotary->high_frequency_factor - rotary->low_frequency_factor);
    return (1 - mix) * frequency / rotary->factor + mix * frequency;
}

static float inverse_frequency(const struct rmj_rotary *rotary, uint32_t pair)
{
    double exponent = 2.0 * pair / rotary->head_width;
    double frequency = (double)(float)rmj_math_exp(-exponent * rmj_math_log(rotary->theta));
    if (rotary->kind == RMJ_ROTARY_LINEAR) {
        frequency /= rotary->factor;
    } else if (rotary->kind == RMJ_ROTARY_LLAMA3) {
        frequency = llama3_frequency(frequency, rotary);
    }
    return (float)frequency;
}

void rmj_cpu_rotary_tables(void *context, float *cosines, float *sines, const struct rmj_rotary *rotary)
{
    (void)context;
    uint32_t half = rotary->head_width / 2;
    for (uint32_t i = 0; i < half; i++) {
        float frequency = inverse_frequency(rotary, i);
        for (uint32_t p = 0; p < rotary->position_count; p++) {
            float angle = (float)p * frequency;
            cosines[(size_t)p * half + i] = (float)rmj_math_cos((double)angle);
            sines[(size_t)p * half + i] = (float)rmj_math_sin((double)angle);
        }
    }
}

struct rotary_work {
    float *x;
    const int32_t *positions;
    const float *cosines, *sines;
    size_t rows, heads, head_width;
    float sign; // of the sines: -1 rotates back
};

static void rotary_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct rotary_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows), half = w->head_width / 2;
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        const float *restrict cosines = w->cosines + (size_t)w->positions[r] * half;
        const float *restrict sines = w->sines + (size_t)w->positions[r] * half;
        for (size_t h = 0; h < w->heads; h++) {
            float *restrict low = w->x + (r * w->heads + h) * w->head_width;
            float *restrict high = low + half;
            for (size_t i = 0; i < half; i++) {
                float a = low[i], b = high[i], s = w->sign * sines[i];
                low[i] = a * cosines[i] - b * s;
                high[i] = b * cosines[i] + a * s;
            }
        }
    }
}

void rmj_cpu_rotary(void *context, float *x, const int32_t *positions, const float *cosines, const float *sines,
                    uint32_t rows, uint32_t heads, uint32_t head_width, int backward)
{
    struct rmj_cpu *cpu = context;
    struct rotary_work w = {.x = x,
                            .positions = positions,
                            .cosines = cosines,
                            .sines = sines,
                            .rows = rows,
                            .heads = heads,
                            .head_width = head_width,
                            .sign = backward ? -1.0f : 1.0f};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), rotary_cut, &w);
}
