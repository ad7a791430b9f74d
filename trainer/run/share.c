#include "trainer/run/share.h"

#include "base/status.h"

#define WORLD_MAX 64

static int heavier(const double *costs, uint32_t a, uint32_t b)
{
    return costs[a] > costs[b] || (costs[a] == costs[b] && a < b);
}

static void sift(const double *costs, uint32_t *order, uint32_t from, uint32_t count)
{
    for (uint32_t at = from;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) {
            return;
        }
        if (child + 1 < count && heavier(costs, order[child], order[child + 1])) {
            child++;
        }
        if (!heavier(costs, order[at], order[child])) {
            return;
        }
        uint32_t swap = order[at];
        order[at] = order[child];
        order[child] = swap;
        at = child;
    }
}

// Heap sort, heaviest first: in place, and the order is total, so it needs no stability.
static void sort_heaviest_first(const double *costs, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    for (uint32_t i = count / 2; i-- > 0;) {
        sift(costs, order, i, count);
    }
    for (uint32_t end = count; end-- > 1;) {
        uint32_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift(costs, order, 0, end);
    }
}

void rmj_share(const double *costs, uint32_t count, uint32_t world, uint32_t *order, uint32_t *owners)
{
    double loads[WORLD_MAX] = {0};
    RMJ_ASSERT(world >= 1 && world <= WORLD_MAX);
    sort_heaviest_first(costs, order, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t least = 0;
        for (uint32_t rank = 1; rank < world; rank++) {
            if (loads[rank] < loads[least]) {
                least = rank;
            }
        }
        owners[order[i]] = least;
        loads[least] += costs[order[i]];
    }
}
