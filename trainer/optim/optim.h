// Order-independent gradient sums and AdamW by pages. The rules and their measurements are in
// trainer/optim/README.md; in short: a pack's gradient is rounded to integers under exponents that all ranks share and
// summed as integers, so that any rank may take any pack in any order; a step whose sums overflowed is computed again
// under exact exponents; no weight changes before the verdict.
#ifndef RMJ_TRAINER_OPTIM_OPTIM_H
#define RMJ_TRAINER_OPTIM_OPTIM_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "trainer/model/layout.h"
#include "trainer/model/model.h"

// Exponents of one step: a block of the body has one, every other tensor has one. A value v of a block with exponent e
// obeys |v| < 2^e. RMJ_EXPONENT_ZERO: all zero so far.
#define RMJ_EXPONENT_ZERO INT16_MIN

struct rmj_sums;

struct rmj_sums_options {
    const struct rmj_layout *layout;
    struct rmj_pool *pool;
    uint32_t packs_per_step_bound;    // P, a power of two, at most 2,048
    uint32_t embedding_row_count_max; // U; not used where the embedding is frozen
};

size_t rmj_sums_memory(const struct rmj_sums_options *options);
RMJ_MUST_USE enum rmj_status rmj_sums_create(struct rmj_sums **sums, const struct rmj_sums_options *options,
                                             struct rmj_error *err);
void rmj_sums_destroy(struct rmj_sums *sums);

// Number of exponents: one a body block, in the layout's order; one a wide tensor, in the layout's order; the
// embedding's last, where it is trained. A function of the layout, so the vector is training state that any rank can
// read.
uint32_t rmj_sums_exponent_count(const struct rmj_sums *sums);

// Begins a pass: zeroes the sums, sets the scales. headroom_bits: 6 for a first pass under exponents carried over from
// the step before, 0 for a second pass under exact ones. embedding_rows: of the step, from the plan; not used where the
// embedding is frozen.
void rmj_sums_begin(struct rmj_sums *sums, const int16_t *exponents, int headroom_bits, const uint32_t *embedding_rows,
                    uint32_t embedding_row_count);
// The sink that adds one pack's gradient. Sets the overflow and not-finite flags as it goes.
struct rmj_gradient_sink rmj_sums_sink(struct rmj_sums *sums);
// Exponents observed by this rank in this pass, [exponent_count]; to be MAX-reduced over ranks. A pass always finishes.
const int16_t *rmj_sums_observed(const struct rmj_sums *sums);
int rmj_sums_not_finite(const struct rmj_sums *sums);
// After the MAX reduction: 1 when some block's observed exponent is over what the pass's scale could hold.
int rmj_sums_overflowed(const struct rmj_sums *sums, const int16_t *observed);
// Exponents for the next step: max(observed, previous - 1).
void rmj_exponents_advance(int16_t *exponents, const int16_t *observed, uint32_t count);

// A page's sums as integers. Dense pages: int32 or int64 an element in page order, by tensor kind; an embedding page:
// int64, only the rows of the step inside the page. rmj_sums_page_bytes is the same on every rank for a step. `export`
// writes them for sending; `add` adds another rank's.
size_t rmj_sums_page_bytes(const struct rmj_sums *sums, uint32_t page);
void rmj_sums_page_export(const struct rmj_sums *sums, uint32_t page, void *bytes);
void rmj_sums_page_add(struct rmj_sums *sums, uint32_t page, const void *bytes);
// Sum of squares of the page's reduced gradient, in double, in a fixed order.
double rmj_sums_page_square(const struct rmj_sums *sums, uint32_t page);

struct rmj_adamw {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double gradient_scale; // 1/pairs times the clipping factor
    uint32_t step;         // 1-based, for the bias corrections
};
// One page: w, m, v are the page's [element_count] float32. Threads: different pages at once.
void rmj_adamw_page(const struct rmj_sums *sums, uint32_t page, const struct rmj_adamw *adamw, float *w, float *m,
                    float *v);

// Learning rate of a 1-based step: over the first w = ceil(warmup_ratio x steps) steps it rises linearly (step s has
// peak x s / (w + 1)), then stays, or falls from peak towards peak x end_ratio, which step_count + 1 would have.
enum rmj_schedule { RMJ_SCHEDULE_CONSTANT, RMJ_SCHEDULE_LINEAR, RMJ_SCHEDULE_COSINE };
double rmj_learning_rate(enum rmj_schedule schedule, double peak, double warmup_ratio, double end_ratio, uint32_t step,
                         uint32_t step_count);

#endif
