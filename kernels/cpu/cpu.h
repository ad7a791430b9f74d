// The CPU backend: float32, matrix products by oneDNN, everything else in own loops. Needs AVX2 and FMA.
#ifndef RMJ_KERNELS_CPU_CPU_H
#define RMJ_KERNELS_CPU_CPU_H

#include "base/pool.h"
#include "base/status.h"
#include "kernels/ops.h"

// RMJ_DEVICE, naming what is missing, on a CPU without AVX2 and FMA. Also caps oneDNN's instruction set, so call it
// before anything else uses oneDNN; rmj_cpu_ops_create calls it.
RMJ_MUST_USE enum rmj_status rmj_cpu_check(struct rmj_error *err);
// For rmj_pool_create's on_start: keeps oneDNN to one thread in each thread of the pool. Optional: every product sets
// it again, so a pool made without it works too.
void rmj_cpu_thread_start(void);

// Bytes of scratch that rmj_cpu_ops_create maps.
size_t rmj_cpu_ops_memory(const struct rmj_ops_limits *limits, size_t thread_count);
// Fills `ops`; ops->destroy(ops->context) when done. The pool must outlive it.
RMJ_MUST_USE enum rmj_status rmj_cpu_ops_create(struct rmj_ops *ops, const struct rmj_ops_limits *limits,
                                                struct rmj_pool *pool, struct rmj_error *err);

#endif
