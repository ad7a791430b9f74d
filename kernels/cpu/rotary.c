// Rotary positions. The tables follow the public implementation's roundings (angles are float32 there), so that scores
// agree with it; the functions themselves are own and in double.
#include "kernels/cpu/context.h"
#include "kernels/cpu/math.h"

void rmj_cpu_rotary_tables(void *context, float *cosines, float *sines, const struct rmj_rotary *rotary)
{
    (void)context;
    size_t pairs = rotary->pair_count;
    for (size_t i = 0; i < pairs; i++) {
        for (uint32_t p = 0; p < rotary->position_count; p++) {
            float angle = (float)p * rotary->inverse_frequencies[i];
            cosines[p * pairs + i] = (float)rmj_math_cos((double)angle) * rotary->amplitude;
            sines[p * pairs + i] = (float)rmj_math_sin((double)angle) * rotary->amplitude;
        }
    }
}

struct rotary_work {
    float *x;
    const int32_t *positions;
    const float *cosines, *sines;
    size_t rows, heads, head_width, pairs;
    float sign; // of the sines: -1 rotates back
};

static void rotary_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct rotary_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows), pairs = w->pairs;
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        const float *restrict cosines = w->cosines + (size_t)w->positions[r] * pairs;
        const float *restrict sines = w->sines + (size_t)w->positions[r] * pairs;
        for (size_t h = 0; h < w->heads; h++) {
            float *restrict low = w->x + (r * w->heads + h) * w->head_width;
            float *restrict high = low + pairs;
            for (size_t i = 0; i < pairs; i++) {
                float a = low[i], b = high[i], s = w->sign * sines[i];
                low[i] = a * cosines[i] - b * s;
                high[i] = b * cosines[i] + a * s;
            }
        }
    }
}

void rmj_cpu_rotary(void *context, float *x, const int32_t *positions, const float *cosines, const float *sines,
                    uint32_t rows, uint32_t heads, uint32_t head_width, uint32_t rotary_width, int backward)
{
    struct rmj_cpu *cpu = context;
    RMJ_ASSERT(rotary_width <= head_width && rotary_width % 2 == 0);
    struct rotary_work w = {.x = x,
                            .positions = positions,
                            .cosines = cosines,
                            .sines = sines,
                            .rows = rows,
                            .heads = heads,
                            .head_width = head_width,
                            .pairs = rotary_width / 2,
                            .sign = backward ? -1.0f : 1.0f};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), rotary_cut, &w);
}
