// What the CPU operations share. Private to kernels/cpu.
#ifndef RMJ_KERNELS_CPU_CONTEXT_H
#define RMJ_KERNELS_CPU_CONTEXT_H

#include <dnnl.h>

#include "base/arena.h"
#include "base/pool.h"
#include "kernels/ops.h"

// Fixed cuts. They decide bits (partial sums are per cut), so they are part of the device class.
#define RMJ_CPU_ROWS 32u                // rows of a cut of row-wise work
#define RMJ_CPU_ELEMENTS ((size_t)8192) // elements of a cut of element-wise work
#define RMJ_CPU_QUERY_ROWS 64u          // query rows of an attention tile

struct rmj_cpu {
    struct rmj_pool *pool;
    struct rmj_ops_limits limits;
    struct rmj_arena arena;
    float *partials; // [partial_count] per-cut column sums, [cuts, columns]
    size_t partial_count;
    float **scores;      // per thread: [RMJ_CPU_QUERY_ROWS, T]
    float **score_grads; // per thread: [RMJ_CPU_QUERY_ROWS, T]
    uint32_t *first_use; // [V] scatter: where a token's rows begin
    uint32_t *order;     // [T] scatter: rows by token
    uint32_t *starts;    // [T + 1] scatter: first entry of each distinct token
};

// Keeps oneDNN in this thread to this thread; cheap, so every unit of work says it.
void rmj_cpu_one_thread(void);
// oneDNN's product in one thread. c = alpha * op(a) op(b) + beta * c, row-major.
void rmj_cpu_sgemm(char transpose_a, char transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                   size_t a_stride, const float *b, size_t b_stride, float beta, float *c, size_t c_stride);

static inline size_t rmj_cpu_cuts(size_t count, size_t step)
{
    return (count + step - 1) / step;
}
// First index after cut i.
static inline size_t rmj_cpu_cut_end(size_t index, size_t step, size_t count)
{
    size_t end = (index + 1) * step;
    return end < count ? end : count;
}

// out[c] = partials summed over cuts in order.
void rmj_cpu_sum_partials(struct rmj_cpu *cpu, float *out, size_t cuts, size_t columns);

void rmj_cpu_matmul(void *context, const struct rmj_matmul *matmul);
void rmj_cpu_column_sum(void *context, float *out, const float *x, uint32_t rows, uint32_t columns);
void rmj_cpu_add_bias(void *context, float *x, const float *bias, uint32_t rows, uint32_t columns);
void rmj_cpu_add(void *context, float *out, const float *a, const float *b, size_t count);
void rmj_cpu_scale(void *context, float *x, float factor, size_t count);
void rmj_cpu_rmsnorm_forward(void *context, const struct rmj_rmsnorm *norm);
void rmj_cpu_rmsnorm_backward(void *context, const struct rmj_rmsnorm *norm);
void rmj_cpu_rmsnorm_again(void *context, const struct rmj_rmsnorm *norm);
void rmj_cpu_rotary_tables(void *context, float *cosines, float *sines, const struct rmj_rotary *rotary);
void rmj_cpu_rotary(void *context, float *x, const int32_t *positions, const float *cosines, const float *sines,
                    uint32_t rows, uint32_t heads, uint32_t head_width, uint32_t rotary_width, int backward);
void rmj_cpu_attention_forward(void *context, const struct rmj_attention *attention);
void rmj_cpu_attention_backward(void *context, const struct rmj_attention *attention);
void rmj_cpu_glu_forward(void *context, enum rmj_activation activation, float *out, const float *gate, const float *up,
                         size_t count);
void rmj_cpu_glu_backward(void *context, enum rmj_activation activation, float *dgate, float *dup, float *out,
                          const float *dout, const float *gate, const float *up, size_t count);
void rmj_cpu_gather(void *context, float *out, const float *table, const int32_t *tokens, uint32_t rows,
                    uint32_t columns);
uint32_t rmj_cpu_scatter(void *context, float *out, uint32_t *distinct, const float *x, const int32_t *tokens,
                         uint32_t rows, uint32_t columns);
void rmj_cpu_head_forward(void *context, float *out, const float *x, const float *head, const uint32_t *rows,
                          uint32_t count, uint32_t columns);
void rmj_cpu_head_backward(void *context, float *dx, float *dhead, const float *dout, const float *x, const float *head,
                           const uint32_t *rows, uint32_t count, uint32_t row_count, uint32_t columns);

#endif
