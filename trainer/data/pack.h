// Packs: the unit of computation. Every pack of a plan has the same number of token rows T (tail padded), so that every
// matrix product has one shape and a pack gives the same bits on any rank.
//
// A pack holds items. An item is one shared prefix and its branches, laid out in rows
//
//   [ prefix (P rows) | branch 0 (b0 rows) | branch 1 (b1 rows) | ... ]
//
// A prefix row attends to the prefix up to itself; a branch row attends to the whole prefix and to its own branch up to
// itself; nothing attends across branches or items. Positions of a branch restart at P. Each branch is scored at its
// last row. A preference pair is an item with two branches (chosen, rejected); a best-of-n row has n; a lone text has
// one branch and an empty prefix. Every branch has at least one row.
#ifndef RMJ_TRAINER_DATA_PACK_H
#define RMJ_TRAINER_DATA_PACK_H

#include <stdint.h>

struct rmj_pack_item {
    uint32_t id; // number of the pair in the plan's order, or of the benchmark row
    uint32_t first_row;
    uint32_t prefix_count; // P, may be 0
    uint32_t first_branch; // index into branch_counts, and of its score
    uint32_t branch_count;
    float margin; // of the pair, 0 when none is used
};

// Read-only view; the memory belongs to the plan or to whoever built it.
struct rmj_pack {
    uint32_t row_count;       // T
    uint32_t used_row_count;  // rows before the padding
    const int32_t *tokens;    // [T], padding rows hold the pad token
    const int32_t *positions; // [T], padding rows hold 0
    const struct rmj_pack_item *items;
    uint32_t item_count;
    const uint32_t *branch_counts;    // rows of each branch, items in order
    const uint32_t *branch_last_rows; // [branch_total] row in [0, T) at which the branch is scored
    uint32_t branch_total;
};

#endif
