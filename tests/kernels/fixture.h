// What the tests of the operations share: a table to test, drawn inputs, distances and central differences.
#ifndef RMJ_TESTS_KERNELS_FIXTURE_H
#define RMJ_TESTS_KERNELS_FIXTURE_H

#include <stddef.h>

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

#define LIMIT_ROWS 512u // of the table
#define LIMIT_WIDTH 1024u
#define STEP 1e-5 // of the central differences, in double

extern struct rmj_ops ops;
extern struct rmj_rng rng; // seeded anew by open_ops

void open_ops(size_t threads);
void close_ops(void);

// Standard normal numbers, aligned to 64 bytes.
float *draw(size_t count);
float *copy(const float *x, size_t count);
double *widen(const float *x, size_t count);

// Fails when ||got - want|| is over tolerance * ||want||.
void assert_near(const float *got, const double *want, size_t count, double tolerance);

// The loss of all gradient tests is sum(out * dout); evaluate gives it in double for the inputs as they stand. Central
// differences by some of the input's elements are compared with `got`.
typedef double (*evaluate_fn)(void *context);
void assert_gradient(const float *got, double *input, size_t count, evaluate_fn evaluate, void *context,
                     double tolerance);

#endif
