// Who owns which page and who computes which pack: longest processing time first, ties by index. Functions of their
// arguments alone, so that every rank comes to the same answer without a word.
#ifndef RMJ_TRAINER_RUN_SHARE_H
#define RMJ_TRAINER_RUN_SHARE_H

#include <stdint.h>

// owners[i] in [0, world) for every i; the heaviest first, each to the rank with the least so far (the lowest such).
// order: scratch [count]. world at most 64.
void rmj_share(const double *costs, uint32_t count, uint32_t world, uint32_t *order, uint32_t *owners);

#endif
