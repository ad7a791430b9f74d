// Every tensor operation of the trainer, as a table that a backend fills: kernels/cpu now, an accelerator beside it.
//
// Letters: T rows of a pack, C hidden width, H heads, K key/value heads, D head width, F feed-forward width, V
// vocabulary. Matrices are row-major float32 without gaps, unless a stride is given. Sizes are fixed at creation
// (struct rmj_ops_limits); no operation allocates. Every result is a function of the arguments alone: work is cut by
// shape, never by the number of threads, and every sum has one order. One caller at a time per table.
#ifndef RMJ_KERNELS_OPS_H
#define RMJ_KERNELS_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum rmj_transpose {
    RMJ_NORMAL_NORMAL,     // c[m, n] = a[m, k]   b[k, n]      gradient by input
    RMJ_NORMAL_TRANSPOSED, // c[m, n] = a[m, k]   b[n, k]^T    a linear layer
    RMJ_TRANSPOSED_NORMAL, // c[m, n] = a[k, m]^T b[k, n]      gradient by weight
};

struct rmj_matmul {
    enum rmj_transpose transpose;
    uint32_t m, n, k;
    const float *a;
    const float *b;
    float *c;
    int accumulate; // 0: c = product, 1: c += product
};

// A run of rows with one attention rule: `count` query rows from `first_row` see all `prefix_count` rows from
// `prefix_row` and their own run up to themselves. A pack's item is one span for its prefix (prefix_count 0) and one
// for each branch. Spans of an item follow each other, rows and all.
struct rmj_span {
    uint32_t first_row, count;
    uint32_t prefix_row, prefix_count;
};

struct rmj_attention {
    const struct rmj_span *spans;
    const uint32_t *item_spans; // [item_count + 1] first span of each item
    uint32_t item_count;
    uint32_t row_count;      // T
    uint32_t used_row_count; // rows after it belong to no span: their outputs and gradients are zero
    uint32_t head_count, kv_head_count, head_width;
    const float *q;    // [T, H, D], rotated
    const float *k;    // [T, K, D], rotated
    const float *v;    // [T, K, D]
    float *out;        // [T, H, D]
    float *row_stats;  // [T, H, 2] maximum and 1 / sum of each softmax, for backward
    const float *dout; // backward only, as all below: [T, H, D]
    float *dq, *dk, *dv;
};

struct rmj_rotary {
    uint32_t position_count;
    uint32_t head_width;
    double theta;
    enum { RMJ_ROTARY_DEFAULT, RMJ_ROTARY_LINEAR, RMJ_ROTARY_LLAMA3 } kind;
    double factor, low_frequency_factor, high_frequency_factor;
    uint32_t original_position_count;
};

// Largest shapes that will be asked for: sizes of the backend's own scratch.
struct rmj_ops_limits {
    uint32_t row_count;  // T
    uint32_t width;      // widest vector of rmsnorm, column_sum
    uint32_t head_width; // D
    uint32_t vocabulary_size;
};

struct rmj_ops {
    void *context;
    void (*destroy)(void *context);

    void (*matmul)(void *context, const struct rmj_matmul *matmul);
    // out[c] = sum over rows of x[r, c]: the gradient of a bias.
    void (*column_sum)(void *context, float *out, const float *x, uint32_t rows, uint32_t columns);
    // x[r, c] += bias[c]
    void (*add_bias)(void *context, float *x, const float *bias, uint32_t rows, uint32_t columns);
    // out[i] = a[i] + b[i]; out may be either.
    void (*add)(void *context, float *out, const float *a, const float *b, size_t count);

    // out = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + epsilon) (Zhang and Sennrich 2019, eq. 4). rstd [rows].
    void (*rmsnorm_forward)(void *context, float *out, float *rstd, const float *x, const float *weight, float epsilon,
                            uint32_t rows, uint32_t columns);
    // dx += gradient by x; dweight = gradient by weight.
    void (*rmsnorm_backward)(void *context, float *dx, float *dweight, const float *dout, const float *x,
                             const float *rstd, const float *weight, uint32_t rows, uint32_t columns);
    // The normalised rows again, from x and rstd.
    void (*rmsnorm_again)(void *context, float *out, const float *x, const float *rstd, const float *weight,
                          uint32_t rows, uint32_t columns);

    // Rotates the two halves of each head by position (Su et al. 2021, in the half-split order of Llama's Hugging Face
    // files), in place; backward rotates back. cosines, sines: [position_count, D / 2] from rotary_tables.
    void (*rotary_tables)(void *context, float *cosines, float *sines, const struct rmj_rotary *rotary);
    void (*rotary)(void *context, float *x, const int32_t *positions, const float *cosines, const float *sines,
                   uint32_t rows, uint32_t heads, uint32_t head_width, int backward);

    // softmax(q k^T / sqrt(D)) v over the spans; backward recomputes the probabilities.
    void (*attention_forward)(void *context, const struct rmj_attention *attention);
    void (*attention_backward)(void *context, const struct rmj_attention *attention);

    // out = silu(gate) * up (Shazeer 2020, eq. 5).
    void (*swiglu_forward)(void *context, float *out, const float *gate, const float *up, size_t count);
    // dgate, dup from dout; `out` (may be NULL) gets the forward value again. dgate or dup may be dout.
    void (*swiglu_backward)(void *context, float *dgate, float *dup, float *out, const float *dout, const float *gate,
                            const float *up, size_t count);

    // out[r] = table[tokens[r]]
    void (*gather)(void *context, float *out, const float *table, const int32_t *tokens, uint32_t rows,
                   uint32_t columns);
    // The transpose: out[i] = sum over the rows with tokens[r] == distinct[i] of x[r], in row order. distinct gets the
    // tokens that occur, ascending; returns how many.
    uint32_t (*scatter)(void *context, float *out, uint32_t *distinct, const float *x, const int32_t *tokens,
                        uint32_t rows, uint32_t columns);
    // out[i] = x[rows[i]] . head; the scalar head.
    void (*head_forward)(void *context, float *out, const float *x, const float *head, const uint32_t *rows,
                         uint32_t count, uint32_t columns);
    // dx (zeroed first, [T, columns]) and dhead from dout [count].
    void (*head_backward)(void *context, float *dx, float *dhead, const float *dout, const float *x, const float *head,
                          const uint32_t *rows, uint32_t count, uint32_t row_count, uint32_t columns);
};

#endif
