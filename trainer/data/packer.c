#include "trainer/data/packer.h"

#include <stdlib.h>
#include <string.h>

#define PACKS_WANTED 16u

uint64_t rmj_pack_row_count(uint64_t longest_item, uint64_t rows_at_once, uint64_t row_count_cap)
{
    uint64_t share = (rows_at_once + PACKS_WANTED - 1) / PACKS_WANTED;
    if (share > row_count_cap) {
        share = row_count_cap;
    }
    uint64_t rows = longest_item > share ? longest_item : share;
    return (rows + RMJ_PACK_ROW_MULTIPLE - 1) / RMJ_PACK_ROW_MULTIPLE * RMJ_PACK_ROW_MULTIPLE;
}

static int by_falling_rows(const void *a, const void *b, void *context)
{
    const uint32_t *row_counts = context;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (row_counts[i] != row_counts[j]) {
        return row_counts[i] > row_counts[j] ? -1 : 1;
    }
    return i < j ? -1 : i > j;
}

enum rmj_status rmj_pack_first_fit(const uint32_t *row_counts, uint32_t count, uint32_t row_count, uint32_t *order,
                                   uint32_t *item_counts, uint32_t *pack_count, struct rmj_error *err)
{
    *pack_count = 0;
    if (count == 0) {
        return RMJ_OK;
    }
    // One block: items by falling rows, the pack of each, the rows used and the next place of each pack.
    uint32_t *scratch = calloc((size_t)count * 4, sizeof *scratch);
    if (scratch == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to pack %u items", count);
    }
    uint32_t *sorted = scratch, *pack_of = scratch + count, *used = scratch + 2 * (size_t)count,
             *next = scratch + 3 * (size_t)count;
    for (uint32_t i = 0; i < count; i++) {
        RMJ_ASSERT(row_counts[i] <= row_count);
        sorted[i] = i;
        item_counts[i] = 0;
    }
    qsort_r(sorted, count, sizeof *sorted, by_falling_rows, (void *)(uintptr_t)row_counts);
    uint32_t packs = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t rows = row_counts[sorted[i]], pack = 0;
        while (pack < packs && used[pack] + rows > row_count) {
            pack++;
        }
        packs += pack == packs;
        used[pack] += rows;
        item_counts[pack]++;
        pack_of[i] = pack;
    }
    for (uint32_t pack = 1; pack < packs; pack++) {
        next[pack] = next[pack - 1] + item_counts[pack - 1];
    }
    for (uint32_t i = 0; i < count; i++) {
        order[next[pack_of[i]]++] = sorted[i];
    }
    *pack_count = packs;
    free(scratch);
    return RMJ_OK;
}

uint32_t rmj_pack_common_prefix(const int32_t *a, size_t a_count, const int32_t *b, size_t b_count)
{
    size_t shorter = a_count < b_count ? a_count : b_count;
    size_t count = 0;
    while (count + 1 < shorter && a[count] == b[count]) {
        count++;
    }
    return (uint32_t)count;
}

void rmj_pack_begin(struct rmj_pack *pack, const struct rmj_pack_memory *memory, uint32_t row_count, int32_t pad_token)
{
    for (uint32_t row = 0; row < row_count; row++) {
        memory->tokens[row] = pad_token;
    }
    memset(memory->positions, 0, row_count * sizeof *memory->positions);
    *pack = (struct rmj_pack){
        .row_count = row_count,
        .tokens = memory->tokens,
        .positions = memory->positions,
        .items = memory->items,
        .branch_counts = memory->branch_counts,
        .branch_last_rows = memory->branch_last_rows,
    };
}

void rmj_pack_add(struct rmj_pack *pack, const struct rmj_pack_memory *memory, const struct rmj_pack_source *source)
{
    uint32_t row = pack->used_row_count;
    memory->items[pack->item_count++] = (struct rmj_pack_item){
        .id = source->id,
        .first_row = row,
        .prefix_count = source->prefix_count,
        .first_branch = pack->branch_total,
        .branch_count = source->branch_count,
        .margin = source->margin,
    };
    RMJ_ASSERT(source->prefix_count <= pack->row_count - row);
    for (uint32_t i = 0; i < source->prefix_count; i++) {
        memory->positions[row + i] = (int32_t)i;
    }
    row += source->prefix_count;
    for (uint32_t branch = 0; branch < source->branch_count; branch++) {
        uint32_t rows = source->branch_counts[branch];
        RMJ_ASSERT(rows > 0 && rows <= pack->row_count - row);
        for (uint32_t i = 0; i < rows; i++) {
            memory->positions[row + i] = (int32_t)(source->prefix_count + i);
        }
        row += rows;
        memory->branch_counts[pack->branch_total] = rows;
        memory->branch_last_rows[pack->branch_total++] = row - 1;
    }
    memcpy(memory->tokens + pack->used_row_count, source->tokens,
           (row - pack->used_row_count) * sizeof *source->tokens);
    pack->used_row_count = row;
}
