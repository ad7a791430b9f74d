#include "tests/kernels/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SAMPLES 40

static struct rmj_pool *pool;
struct rmj_ops ops;
struct rmj_rng rng;

void open_ops(size_t threads)
{
    struct rmj_ops_limits limits = {
        .row_count = LIMIT_ROWS, .width = LIMIT_WIDTH, .head_width = 256, .vocabulary_size = 1000};
    assert_int_equal(rmj_pool_create(&pool, threads, threads == 2 ? rmj_cpu_thread_start : NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_cpu_ops_create(&ops, &limits, pool, NULL), RMJ_OK);
    rmj_rng_init(&rng, 1, 2);
}

void close_ops(void)
{
    ops.destroy(ops.context);
    rmj_pool_destroy(pool);
}

static float *take(size_t count)
{
    float *x = aligned_alloc(64, (count * sizeof *x + 63) / 64 * 64);
    assert_non_null(x);
    return x;
}

float *draw(size_t count)
{
    float *x = take(count);
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)rmj_rng_normal(&rng);
    }
    return x;
}

float *copy(const float *x, size_t count)
{
    float *same = take(count);
    memcpy(same, x, count * sizeof *same);
    return same;
}

double *widen(const float *x, size_t count)
{
    double *wide = malloc(count * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++) {
        wide[i] = (double)x[i];
    }
    return wide;
}

void assert_near(const float *got, const double *want, size_t count, double tolerance)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm))) {
        fail_msg("relative distance %.2e over %.2e", sqrt(error / norm), tolerance);
    }
}

void assert_gradient(const float *got, double *input, size_t count, evaluate_fn evaluate, void *context,
                     double tolerance)
{
    double error = 0, norm = 0;
    for (int s = 0; s < SAMPLES; s++) {
        size_t i = rmj_rng_below(&rng, count);
        double before = input[i];
        input[i] = before + STEP;
        double high = evaluate(context);
        input[i] = before - STEP;
        double low = evaluate(context);
        input[i] = before;
        double slope = (high - low) / (2 * STEP);
        error += ((double)got[i] - slope) * ((double)got[i] - slope);
        norm += slope * slope;
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm) + 1e-7)) {
        fail_msg("gradient is off by %.2e relative", sqrt(error / norm));
    }
}
