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
    float scale;      // of q k^T; 1 / sqrt(D) where the model says nothing
    float softcap;    // 0: none; else a score becomes softcap * tanh(score / softcap) before the softmax
    uint32_t window;  // 0: none; else a query at position p sees keys at positions over p - window. A row's position is
                      // its number in its span, after the prefix_count rows of the span's prefix
    const float *q;   // [T, H, D], rotated
    const float *k;   // [T, K, D], rotated
    const float *v;   // [T, K, D]
    float *out;       // [T, H, D]
    float *row_stats; // [T, H, 2] maximum and 1 / sum of each softmax, for backward
    const float *dout; // backward only, as all below: [T, H, D]
    float *dq, *dk, *dv;
};

struct rmj_rotary {
    uint32_t position_count;
    uint32_t pair_count;              // rotated pairs of a head: half its rotary width, at most D / 2
    const float *inverse_frequencies; // [pair_count]
    float amplitude;                  // of cosines and sines; 1 where the model says nothing
};

// Root mean square normalisation of rows (Zhang and Sennrich 2019, eq. 4): out = x * rstd * (weight + weight_offset),
// rstd = 1 / sqrt(mean(x^2) + epsilon). Rows may be heads: [T * H, D].
struct rmj_rmsnorm {
    uint32_t rows, columns;
    const float *x;      // [rows, columns]
    const float *weight; // [columns]
    float weight_offset; // 0, or 1 where a model stores weights around zero (Gemma)
    float epsilon;
    float *rstd;       // [rows], written by forward, read by the others
    float *out;        // forward and again: [rows, columns]
    const float *dout; // backward only, as all below: [rows, columns]
    float *dx;         // may be dout when accumulate is 0
    float *dweight;    // [columns]
    int accumulate;    // 0: dx = gradient, 1: dx += gradient
};

enum rmj_activation {
    RMJ_SILU,      // x / (1 + e^-x)
    RMJ_GELU_TANH, // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016, section 2)
};

// Largest shapes that will be asked for: sizes of the backend's own scratch.
struct rmj_ops_limits {
    uint32_t row_count;  // T
    uint32_t width;      // widest row of T: column_sum has at most T rows of it, rmsnorm at most T x width elements
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

    // x[i] *= factor
    void (*scale)(void *context, float *x, float factor, size_t count);

    void (*rmsnorm_forward)(void *context, const struct rmj_rmsnorm *norm);
    // dx (+)= gradient by x; dweight = gradient by weight.
    void (*rmsnorm_backward)(void *context, const struct rmj_rmsnorm *norm);
    // The normalised rows again, from x and rstd.
    void (*rmsnorm_again)(void *context, const struct rmj_rmsnorm *norm);

    // Rotates the two halves of the first rotary_width columns of each head by position (Su et al. 2021, in the
    // half-split order of Llama's Hugging Face files), in place; the rest of a head stays. backward applies the
    // transpose: it rotates back, times the amplitude. cosines, sines: [position_count, rotary_width / 2] from
    // rotary_tables.
    void (*rotary_tables)(void *context, float *cosines, float *sines, const struct rmj_rotary *rotary);
    void (*rotary)(void *context, float *x, const int32_t *positions, const float *cosines, const float *sines,
                   uint32_t rows, uint32_t heads, uint32_t head_width, uint32_t rotary_width, int backward);

    // softmax(cap(scale q k^T)) v over the spans; backward recomputes the probabilities.
    void (*attention_forward)(void *context, const struct rmj_attention *attention);
    void (*attention_backward)(void *context, const struct rmj_attention *attention);

    // out = activation(gate) * up (Shazeer 2020, eq. 5).
    void (*glu_forward)(void *context, enum rmj_activation activation, float *out, const float *gate, const float *up,
                        size_t count);
    // dgate, dup from dout; `out` (may be NULL) gets the forward value again. dgate or dup may be dout.
    void (*glu_backward)(void *context, enum rmj_activation activation, float *dgate, float *dup, float *out,
                         const float *dout, const float *gate, const float *up, size_t count);

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
