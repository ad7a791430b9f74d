// A bump allocator over one mapping. The trainer lays its arenas out before step 1 and allocates nothing in a step.
#ifndef RMJ_BASE_ARENA_H
#define RMJ_BASE_ARENA_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rmj_arena {
    char *start;
    size_t size;
    size_t used;
    const char *name;
};

// Maps `size` bytes (zeroed, 2 MiB aligned, huge pages asked for). Errors: RMJ_NO_MEMORY.
RMJ_MUST_USE enum rmj_status rmj_arena_create(struct rmj_arena *arena, const char *name, size_t size,
                                              struct rmj_error *err);
void rmj_arena_destroy(struct rmj_arena *arena);
// 64-byte aligned, zeroed on first use. Asserts that it fits: sizes are counted before the arena is made.
void *rmj_arena_take(struct rmj_arena *arena, size_t size);
// Bytes that rmj_arena_take(size) uses up.
size_t rmj_arena_need(size_t size);

#ifdef __cplusplus
}
#endif
#endif
