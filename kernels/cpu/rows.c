// Row-wise and element-wise operations. The inner loops are plain C that the compiler vectorises (this file is built
// with -O3 -mavx2); sums run over eight lanes and are folded in one order.
#include <string.h>

#include "kernels/cpu/context.h"

struct column_work {
    struct rmj_cpu *cpu;
    float *out;
    const float *x;
    const float *bias;
    size_t rows, columns, cuts;
};

// Columns of one cut of rmj_cpu_sum_partials.
#define PARTIAL_COLUMNS 256u

static void sum_partials_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct column_work *w = context;
    size_t start = index * PARTIAL_COLUMNS, end = rmj_cpu_cut_end(index, PARTIAL_COLUMNS, w->columns);
    memset(w->out + start, 0, (end - start) * sizeof(float));
    for (size_t cut = 0; cut < w->cuts; cut++) {
        const float *partial = w->cpu->partials + cut * w->columns;
        for (size_t c = start; c < end; c++) {
            w->out[c] += partial[c];
        }
    }
}

void rmj_cpu_sum_partials(struct rmj_cpu *cpu, float *out, size_t cuts, size_t columns)
{
    struct column_work w = {.cpu = cpu, .out = out, .columns = columns, .cuts = cuts};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(columns, PARTIAL_COLUMNS), sum_partials_cut, &w);
}

static void column_sum_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct column_work *w = context;
    float *partial = w->cpu->partials + index * w->columns;
    memset(partial, 0, w->columns * sizeof(float));
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        const float *row = w->x + r * w->columns;
        for (size_t c = 0; c < w->columns; c++) {
            partial[c] += row[c];
        }
    }
}

void rmj_cpu_column_sum(void *context, float *out, const float *x, uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    RMJ_ASSERT(rmj_cpu_cuts(rows, RMJ_CPU_ROWS) * columns <= cpu->partial_count);
    struct column_work w = {.cpu = cpu, .x = x, .rows = rows, .columns = columns};
    size_t cuts = rmj_cpu_cuts(rows, RMJ_CPU_ROWS);
    rmj_pool_run(cpu->pool, cuts, column_sum_cut, &w);
    rmj_cpu_sum_partials(cpu, out, cuts, columns);
}

static void add_bias_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct column_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        float *row = w->out + r * w->columns;
        for (size_t c = 0; c < w->columns; c++) {
            row[c] += w->bias[c];
        }
    }
}

void rmj_cpu_add_bias(void *context, float *x, const float *bias, uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    struct column_work w = {.cpu = cpu, .out = x, .bias = bias, .rows = rows, .columns = columns};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), add_bias_cut, &w);
}

struct element_work {
    float *out;
    const float *a, *b;
    float factor;
    size_t count;
};

static void add_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct element_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ELEMENTS, w->count);
    for (size_t i = index * RMJ_CPU_ELEMENTS; i < end; i++) {
        w->out[i] = w->a[i] + w->b[i];
    }
}

void rmj_cpu_add(void *context, float *out, const float *a, const float *b, size_t count)
{
    struct rmj_cpu *cpu = context;
    struct element_work w = {.out = out, .a = a, .b = b, .count = count};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(count, RMJ_CPU_ELEMENTS), add_cut, &w);
}

static void scale_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct element_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ELEMENTS, w->count);
    for (size_t i = index * RMJ_CPU_ELEMENTS; i < end; i++) {
        w->out[i] *= w->factor;
    }
}

void rmj_cpu_scale(void *context, float *x, float factor, size_t count)
{
    struct rmj_cpu *cpu = context;
    struct element_work w = {.out = x, .factor = factor, .count = count};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(count, RMJ_CPU_ELEMENTS), scale_cut, &w);
}
