// Seconds of attention over one long sequence, plain, with windows and with a soft cap: bench_attention [threads]
// [rows].
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

#define HEADS 16u
#define KV_HEADS 8u
#define WIDTH 128u
#define REPEATS 5

static float *draw(struct rmj_rng *rng, size_t count)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; x != NULL && i < count; i++) {
        x[i] = (float)rmj_rng_normal(rng);
    }
    return x;
}

// Least seconds of forward and backward; *plain gets or gives the case that others are compared with.
static void measure(const struct rmj_ops *ops, const char *name, const struct rmj_attention *at, double *plain)
{
    double least = HUGE_VAL;
    for (int i = 0; i < REPEATS; i++) {
        double start = rmj_clock_mono_seconds();
        ops->attention_forward(ops->context, at);
        ops->attention_backward(ops->context, at);
        least = fmin(least, rmj_clock_mono_seconds() - start);
    }
    *plain = *plain == 0 ? least : *plain;
    printf("%-12s %8.4f s %6.2f\n", name, least, least / *plain);
}

static void measure_variants(const struct rmj_ops *ops, struct rmj_attention at)
{
    double plain = 0;
    measure(ops, "plain", &at, &plain);
    for (at.window = 2048; at.window >= 64; at.window /= 2) {
        char name[32];
        snprintf(name, sizeof name, "window %u", at.window);
        measure(ops, name, &at, &plain);
    }
    at.window = 0;
    at.softcap = 50;
    measure(ops, "softcap 50", &at, &plain);
}

int main(int argc, char **argv)
{
    size_t threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 2;
    uint32_t rows = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2560;
    struct rmj_ops_limits limits = {
        .row_count = rows, .width = HEADS * WIDTH, .head_width = WIDTH, .vocabulary_size = 1};
    struct rmj_pool *pool;
    struct rmj_ops ops;
    struct rmj_error err = {0};
    if (rows == 0 || rmj_pool_create(&pool, threads, rmj_cpu_thread_start, &err) != RMJ_OK ||
        rmj_cpu_ops_create(&ops, &limits, pool, &err) != RMJ_OK) {
        fprintf(stderr, "usage: bench_attention [threads] [rows]; %s\n", err.message);
        return 2;
    }
    struct rmj_rng rng;
    rmj_rng_init(&rng, 1, 1);
    size_t queries = (size_t)rows * HEADS * WIDTH, keys = (size_t)rows * KV_HEADS * WIDTH;
    const struct rmj_span span = {.count = rows};
    const uint32_t item_spans[] = {0, 1};
    struct rmj_attention at = {.spans = &span,
                               .item_spans = item_spans,
                               .item_count = 1,
                               .row_count = rows,
                               .used_row_count = rows,
                               .head_count = HEADS,
                               .kv_head_count = KV_HEADS,
                               .head_width = WIDTH,
                               .scale = (float)(1 / sqrt(WIDTH)),
                               .q = draw(&rng, queries),
                               .k = draw(&rng, keys),
                               .v = draw(&rng, keys),
                               .out = draw(&rng, queries),
                               .row_stats = draw(&rng, (size_t)rows * HEADS * 2),
                               .dout = draw(&rng, queries),
                               .dq = draw(&rng, queries),
                               .dk = draw(&rng, keys),
                               .dv = draw(&rng, keys)};
    measure_variants(&ops, at); // the buffers go with the process
    ops.destroy(ops.context);
    rmj_pool_destroy(pool);
    return 0;
}
