#include "base/arena.h"

#include <errno.h>
#include <sys/mman.h>

#define ALIGNMENT 64u
#define HUGE_PAGE_SIZE_BYTES (2u << 20)

enum rmj_status rmj_arena_create(struct rmj_arena *arena, const char *name, size_t size, struct rmj_error *err)
{
    size_t mapped = (size + HUGE_PAGE_SIZE_BYTES - 1) / HUGE_PAGE_SIZE_BYTES * HUGE_PAGE_SIZE_BYTES;
    *arena = (struct rmj_arena){.name = name};
    if (mapped == 0) {
        return RMJ_OK;
    }
    void *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return rmj_fail_errno(err, RMJ_NO_MEMORY, "no %zu MiB for %s", mapped >> 20, name);
    }
    // A hint only: without huge pages it works all the same.
    (void)madvise(start, mapped, MADV_HUGEPAGE);
    arena->start = start;
    arena->size = mapped;
    return RMJ_OK;
}

void rmj_arena_destroy(struct rmj_arena *arena)
{
    if (arena != NULL && arena->start != NULL) {
        munmap(arena->start, arena->size);
        *arena = (struct rmj_arena){0};
    }
}

size_t rmj_arena_need(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void *rmj_arena_take(struct rmj_arena *arena, size_t size)
{
    size_t need = rmj_arena_need(size);
    RMJ_ASSERT(need <= arena->size - arena->used);
    void *taken = arena->start + arena->used;
    arena->used += need;
    return taken;
}
