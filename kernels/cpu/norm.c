// RMSNorm. Sums of a row run in double over eight lanes: the rows are short and the precision is free.
#include <math.h>
#include <string.h>

#include "kernels/cpu/context.h"

#define LANES 8u

struct norm_work {
    struct rmj_cpu *cpu;
    const struct rmj_rmsnorm *norm;
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

// The factor is weight + weight_offset, in float32 as the public implementations have it. With offset 0 it is the
// weight itself.
static void apply_row(const struct rmj_rmsnorm *n, size_t row)
{
    const float *x = n->x + row * n->columns;
    float *out = n->out + row * n->columns, rstd = n->rstd[row], offset = n->weight_offset;
    for (size_t c = 0; c < n->columns; c++) {
        out[c] = x[c] * rstd * (n->weight[c] + offset);
    }
}

static void forward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    const struct rmj_rmsnorm *n = w->norm;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, n->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        const float *x = n->x + r * n->columns;
        double mean = row_dot(x, x, n->columns) / (double)n->columns;
        n->rstd[r] = (float)(1.0 / sqrt(mean + (double)n->epsilon));
        apply_row(n, r);
    }
}

void rmj_cpu_rmsnorm_forward(void *context, const struct rmj_rmsnorm *norm)
{
    struct rmj_cpu *cpu = context;
    struct norm_work w = {.cpu = cpu, .norm = norm};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(norm->rows, RMJ_CPU_ROWS), forward_cut, &w);
}

static void again_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->norm->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        apply_row(w->norm, r);
    }
}

void rmj_cpu_rmsnorm_again(void *context, const struct rmj_rmsnorm *norm)
{
    struct rmj_cpu *cpu = context;
    struct norm_work w = {.cpu = cpu, .norm = norm};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(norm->rows, RMJ_CPU_ROWS), again_cut, &w);
}

// With n = x rstd and g = dout factor: gradient by x = rstd (g - n mean(g n)), by weight = sum over rows of dout n.
// Returns mean(g n) and adds the row's share of the weight's gradient.
static float gradient_sums(const struct rmj_rmsnorm *norm, size_t row, float *restrict dweight)
{
    size_t columns = norm->columns, c = 0;
    const float *x = norm->x + row * columns, *dout = norm->dout + row * columns;
    float rstd = norm->rstd[row], offset = norm->weight_offset;
    double lanes[LANES] = {0};
    for (; c + LANES <= columns; c += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            float n = x[c + l] * rstd;
            dweight[c + l] += dout[c + l] * n;
            lanes[l] += (double)(dout[c + l] * (norm->weight[c + l] + offset)) * (double)n;
        }
    }
    for (; c < columns; c++) {
        float n = x[c] * rstd;
        dweight[c] += dout[c] * n;
        lanes[c % LANES] += (double)(dout[c] * (norm->weight[c] + offset)) * (double)n;
    }
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    return (float)(sum / (double)columns);
}

static void backward_row(const struct rmj_rmsnorm *norm, size_t row, float *dweight)
{
    float mean = gradient_sums(norm, row, dweight), rstd = norm->rstd[row], offset = norm->weight_offset;
    const float *x = norm->x + row * norm->columns, *dout = norm->dout + row * norm->columns;
    float *dx = norm->dx + row * norm->columns;
    if (norm->accumulate) {
        for (size_t c = 0; c < norm->columns; c++) {
            dx[c] += rstd * (dout[c] * (norm->weight[c] + offset) - x[c] * rstd * mean);
        }
        return;
    }
#pragma GCC ivdep // dx may be dout: element by element, nothing is read after it was written
    for (size_t c = 0; c < norm->columns; c++) {
        dx[c] = rstd * (dout[c] * (norm->weight[c] + offset) - x[c] * rstd * mean);
    }
}

static void backward_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct norm_work *w = context;
    size_t columns = w->norm->columns, end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->norm->rows);
    float *partial = w->cpu->partials + index * columns;
    memset(partial, 0, columns * sizeof(float));
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        backward_row(w->norm, r, partial);
    }
}

void rmj_cpu_rmsnorm_backward(void *context, const struct rmj_rmsnorm *norm)
{
    struct rmj_cpu *cpu = context;
    size_t cuts = rmj_cpu_cuts(norm->rows, RMJ_CPU_ROWS);
    RMJ_ASSERT(cuts * norm->columns <= cpu->partial_count);
    struct norm_work w = {.cpu = cpu, .norm = norm};
    rmj_pool_run(cpu->pool, cuts, backward_cut, &w);
    rmj_cpu_sum_partials(cpu, norm->dweight, cuts, norm->columns);
}
