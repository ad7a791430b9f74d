// Matrix products: oneDNN's sgemm, one thread a call, over fixed tiles of the output that the pool shares out. A tile's
// bits depend on its shape and inputs alone, so they are the same for any number of threads.
#include <omp.h>

#include "kernels/cpu/context.h"

// Small enough that two threads share the products of a 1,280-row pack evenly, large enough that packing the inputs of
// a tile stays a small part of its work. Chosen, not tuned.
#define TILE_ROWS 128u
#define TILE_COLUMNS 1024u

void rmj_cpu_one_thread(void)
{
    omp_set_num_threads(1);
}

void rmj_cpu_sgemm(char transpose_a, char transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                   size_t a_stride, const float *b, size_t b_stride, float beta, float *c, size_t c_stride)
{
    dnnl_status_t status = dnnl_sgemm(transpose_a, transpose_b, (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, alpha, a,
                                      (dnnl_dim_t)a_stride, b, (dnnl_dim_t)b_stride, beta, c, (dnnl_dim_t)c_stride);
    RMJ_ASSERT(status == dnnl_success);
}

struct tiles {
    const struct rmj_matmul *matmul;
    size_t row_step, column_step;
    size_t column_cuts;
};

static void run_tile(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct tiles *tiles = context;
    const struct rmj_matmul *mm = tiles->matmul;
    size_t i = index / tiles->column_cuts, j = index % tiles->column_cuts;
    size_t row = i * tiles->row_step, column = j * tiles->column_step;
    size_t m = rmj_cpu_cut_end(i, tiles->row_step, mm->m) - row;
    size_t n = rmj_cpu_cut_end(j, tiles->column_step, mm->n) - column;
    int a_transposed = mm->transpose == RMJ_TRANSPOSED_NORMAL;
    int b_transposed = mm->transpose == RMJ_NORMAL_TRANSPOSED;
    const float *a = mm->a + (a_transposed ? row : row * mm->k);
    const float *b = mm->b + (b_transposed ? column * mm->k : column);
    rmj_cpu_one_thread();
    rmj_cpu_sgemm(a_transposed ? 'T' : 'N', b_transposed ? 'T' : 'N', m, n, mm->k, 1, a, a_transposed ? mm->m : mm->k,
                  b, b_transposed ? mm->k : mm->n, mm->accumulate ? 1 : 0, mm->c + row * mm->n + column, mm->n);
}

void rmj_cpu_matmul(void *context, const struct rmj_matmul *matmul)
{
    struct rmj_cpu *cpu = context;
    struct tiles tiles = {.matmul = matmul, .row_step = TILE_ROWS, .column_step = TILE_COLUMNS};
    tiles.column_cuts = rmj_cpu_cuts(matmul->n, TILE_COLUMNS);
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(matmul->m, TILE_ROWS) * tiles.column_cuts, run_tile, &tiles);
}
