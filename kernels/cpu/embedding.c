// The two ends of the model: rows of the embedding, and the scalar head at the last rows of the branches.
#include <string.h>

#include "kernels/cpu/context.h"

struct embedding_work {
    const struct rmj_cpu *cpu;
    float *out;
    const float *x;
    const int32_t *tokens;
    size_t rows, columns;
};

static void gather_cut(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct embedding_work *w = context;
    size_t end = rmj_cpu_cut_end(index, RMJ_CPU_ROWS, w->rows);
    for (size_t r = index * RMJ_CPU_ROWS; r < end; r++) {
        memcpy(w->out + r * w->columns, w->x + (size_t)w->tokens[r] * w->columns, w->columns * sizeof(float));
    }
}

void rmj_cpu_gather(void *context, float *out, const float *table, const int32_t *tokens, uint32_t rows,
                    uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    struct embedding_work w = {.out = out, .x = table, .tokens = tokens, .rows = rows, .columns = columns};
    rmj_pool_run(cpu->pool, rmj_cpu_cuts(rows, RMJ_CPU_ROWS), gather_cut, &w);
}

static void scatter_token(void *context, size_t index, size_t thread)
{
    (void)thread;
    const struct embedding_work *w = context;
    float *restrict out = w->out + index * w->columns;
    const uint32_t *starts = w->cpu->starts;
    memcpy(out, w->x + (size_t)w->cpu->order[starts[index]] * w->columns, w->columns * sizeof(float));
    for (uint32_t i = starts[index] + 1; i < starts[index + 1]; i++) {
        const float *restrict row = w->x + (size_t)w->cpu->order[i] * w->columns;
        for (size_t c = 0; c < w->columns; c++) {
            out[c] += row[c];
        }
    }
}

// A counting sort of the rows by token: stable, so a token's rows stay in row order.
uint32_t rmj_cpu_scatter(void *context, float *out, uint32_t *distinct, const float *x, const int32_t *tokens,
                         uint32_t rows, uint32_t columns)
{
    struct rmj_cpu *cpu = context;
    uint32_t vocabulary_size = cpu->limits.vocabulary_size, count = 0, at = 0;
    RMJ_ASSERT(rows <= cpu->limits.row_count);
    memset(cpu->first_use, 0, vocabulary_size * sizeof *cpu->first_use);
    for (uint32_t r = 0; r < rows; r++) {
        cpu->first_use[tokens[r]]++;
    }
    for (uint32_t token = 0; token < vocabulary_size; token++) {
        uint32_t uses = cpu->first_use[token];
        if (uses > 0) {
            distinct[count] = token;
            cpu->starts[count++] = at;
            cpu->first_use[token] = at;
            at += uses;
        }
    }
    cpu->starts[count] = at;
    for (uint32_t r = 0; r < rows; r++) {
        cpu->order[cpu->first_use[tokens[r]]++] = r;
    }
    struct embedding_work w = {.cpu = cpu, .out = out, .x = x, .columns = columns};
    rmj_pool_run(cpu->pool, count, scatter_token, &w);
    return count;
}

void rmj_cpu_head_forward(void *context, float *out, const float *x, const float *head, const uint32_t *rows,
                          uint32_t count, uint32_t columns)
{
    (void)context;
    for (uint32_t i = 0; i < count; i++) {
        const float *row = x + (size_t)rows[i] * columns;
        double sum = 0;
        for (uint32_t c = 0; c < columns; c++) {
            sum += (double)row[c] * (double)head[c];
        }
        out[i] = (float)sum;
    }
}

void rmj_cpu_head_backward(void *context, float *dx, float *dhead, const float *dout, const float *x, const float *head,
                           const uint32_t *rows, uint32_t count, uint32_t row_count, uint32_t columns)
{
    (void)context;
    memset(dx, 0, (size_t)row_count * columns * sizeof(float));
    memset(dhead, 0, columns * sizeof(float));
    for (uint32_t i = 0; i < count; i++) {
        const float *row = x + (size_t)rows[i] * columns;
        float *drow = dx + (size_t)rows[i] * columns;
        for (uint32_t c = 0; c < columns; c++) {
            drow[c] += dout[i] * head[c];
            dhead[c] += dout[i] * row[c];
        }
    }
}
