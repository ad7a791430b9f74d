// Laying items out in packs of one shape: which item goes into which pack, and the rows of one pack. Training plans and
// evaluation share it.
#ifndef RMJ_TRAINER_DATA_PACKER_H
#define RMJ_TRAINER_DATA_PACKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/data/pack.h"

#define RMJ_PACK_ROW_MULTIPLE 256u

// T of a set of items: the longest item, or a sixteenth of what is computed at once up to row_count_cap, whichever is
// more, rounded up to 256 (reference/exact-elastic-training.md, "Packs").
uint64_t rmj_pack_row_count(uint64_t longest_item, uint64_t rows_at_once, uint64_t row_count_cap);

// First-fit decreasing: items by falling row count, equal ones by index, each into the first pack with room. A function
// of its arguments alone. order [count]: item indices pack after pack; item_counts [count]: items of each pack. Every
// row count must be at most row_count.
RMJ_MUST_USE enum rmj_status rmj_pack_first_fit(const uint32_t *row_counts, uint32_t count, uint32_t row_count,
                                                uint32_t *order, uint32_t *item_counts, uint32_t *pack_count,
                                                struct rmj_error *err);

// Rows of the common prefix of two sequences, at most one less than the shorter: a branch has at least one row.
uint32_t rmj_pack_common_prefix(const int32_t *a, size_t a_count, const int32_t *b, size_t b_count);

// An item to be laid out: `tokens` holds the prefix, then the branches one after another.
struct rmj_pack_source {
    uint32_t id;
    float margin;
    uint32_t prefix_count;
    uint32_t branch_count;
    const uint32_t *branch_counts;
    const int32_t *tokens;
};

// Memory of one pack: tokens and positions [row_count], items [item room], branches [branch room].
struct rmj_pack_memory {
    int32_t *tokens;
    int32_t *positions;
    struct rmj_pack_item *items;
    uint32_t *branch_counts;
    uint32_t *branch_last_rows;
};

// Begins an empty pack: every row is padding. The view in `pack` stays valid while items are added.
void rmj_pack_begin(struct rmj_pack *pack, const struct rmj_pack_memory *memory, uint32_t row_count, int32_t pad_token);
// Asserts that the item fits.
void rmj_pack_add(struct rmj_pack *pack, const struct rmj_pack_memory *memory, const struct rmj_pack_source *source);

#endif
