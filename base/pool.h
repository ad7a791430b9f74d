// A fixed team of threads that runs the same loop body over indices. Work is cut by index, never by thread, so results
// do not depend on how many threads there are.
#ifndef RMJ_BASE_POOL_H
#define RMJ_BASE_POOL_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rmj_pool;

// thread_count >= 1, the calling thread included. on_start (may be NULL) runs once in each thread, the caller's too.
RMJ_MUST_USE enum rmj_status rmj_pool_create(struct rmj_pool **pool, size_t thread_count, void (*on_start)(void),
                                             struct rmj_error *err);
void rmj_pool_destroy(struct rmj_pool *pool);
size_t rmj_pool_thread_count(const struct rmj_pool *pool);
// Runs body(context, i, thread) for every i in [0, count) and returns when all are done. Indices are handed out in
// order, one at a time. thread < rmj_pool_thread_count, for per-thread scratch. One caller at a time; not reentrant.
void rmj_pool_run(struct rmj_pool *pool, size_t count, void (*body)(void *context, size_t index, size_t thread),
                  void *context);

#ifdef __cplusplus
}
#endif
#endif
