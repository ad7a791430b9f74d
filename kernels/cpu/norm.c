// RMSNorm. Sums of a row run in double over eight lanes: the rows are short and the precision is free.
#include <math.h>
#include <string.h>

#include "kernels/cpu/context.h"

#define LANES 8u

struct norm_work {
    struct rmj_cpu *cpu;
    float *out, *rstd_out;
    const float *x, *weight, *dout, *rstd;
    float epsilon;
    size_t rows, columns;
};

// Sum of a[i] b[i].
static double row_dot(const float *a, const float *b, size_t count)
{
    double lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            lanes[l] += (double)a[i + l] * (double)b[i + l];
        }
    }
    for (; i < count; i++) {
        lanes[i % LANES] += (double)a[i] * (double)b[i];
    }
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

static void apply_row(float *out, const float *x, float rstd, const float *weight, size_t columns)
{
    for (size_t c = 0; c < columns; c++) {
        out[c] = x[c] * rstd * weight[c];
    }
}

static void forward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        const float *x = w->x + r * w->columns;
        double mean = row_dot(x, x, w->columns) / (double)w->columns;
        float rstd = (float)(1.0 / sqrt(mean + (double)w->epsilon));
        w->rstd_out[r] = rstd;
        apply_row(w->out + r * w->columns, x, rstd, w->weight, w->columns);
    }
}

void rmj_cpu_rmsnorm_forward(void *context, float *out, float *rstd, const float *x, const float *weight, float epsilon,
                             uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    struct norm_work w = {.cpu = cpu,
                          .out = out,
                          .rstd_out = rstd,
                          .x = x,
                          .weight = weight,
                          .epsilon = epsilon,
                          .rows = rows,
                          .columns = columns};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), forward_cut, &w);
}

static void again_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        apply_row(w->out + r * w->columns, w->x + r * w->columns, w->rstd[r], w->weight, w->columns);
    }
}

void rmj_cpu_rmsnorm_again(void *context, float *out, const float *x, const float *rstd, const float *weight,
                           uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    struct norm_work w = {
        .cpu = cpu, .out = out, .x = x, .rstd = rstd, .weight = weight, .rows = rows, .columns = columns};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), again_cut, &w);
}

// With n = x rstd and g = dout weight: dx += rstd (g - n mean(g n)), dweight = sum over rows of dout n.
static void backward_row(float *dx, float *dweight, const float *dout, const float *x, float rstd, const float *weight,
                         size_t columns)
{
    double lanes[LANES] = {0};
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            float n = x[c + l] * rstd;
            dweight[c + l] += dout[c + l] * n;
            lanes[l] += (double)(dout[c + l] * weight[c + l]) * (double)n;
        }
    }
    for (; c < columns; c++) {
        float n = x[c] * rstd;
        dweight[c] += dout[c] * n;
        lanes[c % LANES] += (double)(dout[c] * weight[c]) * (double)n;
    }
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    float mean = (float)(sum / (double)columns);
    for (c = 0; c < columns; c++) {
        dx[c] += rstd * (dout[c] * weight[c] - x[c] * rstd * mean);
    }
}

static void backward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    float *partial = w->cpu->partials + index * w->columns;
    memset(partial, 0, w->columns * sizeof(float));
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        size_t at = r * w->columns;
        backward_row(w->out + at, partial, w->dout + at, w->x + at, w->rstd[r], w->weight, w->columns);
    }
}

void rmj_cpu_rmsnorm_backward(void *context, float *dx, float *dweight, const float *dout, const float *x,
                              const float *rstd, const float *weight, uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    RMJ_ASSERT(rows <= cpu->limits.row_count && columns <= cpu->limits.width);
    struct norm_work w = {
        .cpu = cpu, .out = dx, .x = x, .rstd = rstd, .weight = weight, .dout = dout, .rows = rows, .columns = columns};
    size_t cuts = rmj_cpu_cuts(rows, RMJ_CPU_ROWS);
    rmj_pool_run(cpu->pool, cuts, backward_cut, &w);
    rmj_cpu_sum_partials(cpu, dweight, cuts, columns);
}
