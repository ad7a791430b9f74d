// The pairs of a batch as packs, by the rules that a plan follows: a common prefix once, first-fit by falling length.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/packer.h"
#include "trainer/run/verify_internal.h"

#define STEP_ROWS_CAP 4096u
#define PACKS_MAX 2048u // of one step: what the integer sums hold
#define PACK_ROWS_MAX (1u << 18)

static uint32_t prefix_of(const struct rmj_verify_pair *pair)
{
    return rmj_pack_common_prefix(pair->sides[0], pair->counts[0], pair->sides[1], pair->counts[1]);
}

static uint32_t rows_of(const struct rmj_verify_pair *pair)
{
    return pair->counts[0] + pair->counts[1] - prefix_of(pair);
}

// One allocation for everything a set of packs points to.
struct pieces {
    int32_t *tokens, *positions;                // [pack_count * row_count]
    struct rmj_pack_item *items;                // [pair_count]
    uint32_t *branch_counts, *branch_last_rows; // [2 * pair_count]
    int32_t *scratch;                           // [row_count]
};

static enum rmj_status cut_memory(struct rmj_verify_packs *packs, const struct rmj_verify_batch *batch,
                                  struct pieces *pieces, struct rmj_error *err)
{
    size_t rows = (size_t)packs->pack_count * packs->row_count, pairs = batch->pair_count;
    size_t items = pairs * sizeof(struct rmj_pack_item);
    size_t size = items + sizeof(int32_t) * (2 * rows + 4 * pairs + packs->row_count);
    char *at = packs->memory = calloc(1, size);
    packs->packs = calloc(packs->pack_count, sizeof *packs->packs);
    if (packs->memory == NULL || packs->packs == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %u packs of %u rows", packs->pack_count, packs->row_count);
    }
    pieces->items = (struct rmj_pack_item *)(void *)at;
    pieces->tokens = (int32_t *)(void *)(at + items);
    pieces->positions = pieces->tokens + rows;
    pieces->branch_counts = (uint32_t *)(pieces->positions + rows);
    pieces->branch_last_rows = pieces->branch_counts + 2 * pairs;
    pieces->scratch = (int32_t *)(pieces->branch_last_rows + 2 * pairs);
    return RMJ_OK;
}

static void add_pair(struct rmj_verify_packs *packs, struct rmj_pack *pack, const struct rmj_pack_memory *memory,
                     const struct rmj_verify_batch *batch, uint32_t index, int32_t *tokens)
{
    const struct rmj_verify_pair *pair = &batch->pairs[index];
    uint32_t prefix = prefix_of(pair);
    uint32_t counts[2] = {pair->counts[0] - prefix, pair->counts[1] - prefix};
    memcpy(tokens, pair->sides[0], pair->counts[0] * sizeof *tokens);
    memcpy(tokens + pair->counts[0], pair->sides[1] + prefix, counts[1] * sizeof *tokens);
    rmj_pack_add(pack, memory,
                 &(struct rmj_pack_source){.id = index,
                                           .margin = pair->margin,
                                           .prefix_count = prefix,
                                           .branch_count = 2,
                                           .branch_counts = counts,
                                           .tokens = tokens});
    packs->shared_prefix_count += prefix > 0;
}

static enum rmj_status fill(struct rmj_verify_packs *packs, const struct rmj_verify_batch *batch, const uint32_t *order,
                            const uint32_t *item_counts, int32_t pad, struct rmj_error *err)
{
    struct pieces pieces = {0};
    RMJ_TRY(cut_memory(packs, batch, &pieces, err));
    size_t done = 0;
    for (uint32_t p = 0; p < packs->pack_count; p++) {
        size_t row = (size_t)p * packs->row_count;
        struct rmj_pack_memory memory = {pieces.tokens + row, pieces.positions + row, pieces.items + done,
                                         pieces.branch_counts + 2 * done, pieces.branch_last_rows + 2 * done};
        rmj_pack_begin(&packs->packs[p], &memory, packs->row_count, pad);
        for (uint32_t i = 0; i < item_counts[p]; i++) {
            add_pair(packs, &packs->packs[p], &memory, batch, order[done + i], pieces.scratch);
        }
        done += item_counts[p];
        packs->item_count_max = item_counts[p] > packs->item_count_max ? item_counts[p] : packs->item_count_max;
    }
    return RMJ_OK;
}

static enum rmj_status list_rows(struct rmj_verify_packs *packs, const struct rmj_verify_batch *batch,
                                 uint32_t vocabulary_size, struct rmj_error *err)
{
    char *seen = calloc(vocabulary_size, 1);
    packs->embedding_rows = calloc(vocabulary_size, sizeof *packs->embedding_rows);
    if (seen == NULL || packs->embedding_rows == NULL) {
        free(seen);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a vocabulary of %u", vocabulary_size);
    }
    for (uint32_t p = 0; p < batch->pair_count; p++) {
        for (int side = 0; side < 2; side++) {
            for (uint32_t i = 0; i < batch->pairs[p].counts[side]; i++) {
                seen[batch->pairs[p].sides[side][i]] = 1;
            }
        }
    }
    for (uint32_t token = 0; token < vocabulary_size; token++) {
        if (seen[token]) {
            packs->embedding_rows[packs->embedding_row_count++] = token;
        }
    }
    free(seen);
    return RMJ_OK;
}

enum rmj_status rmj_verify_packs_create(struct rmj_verify_packs *packs, const struct rmj_verify_batch *batch,
                                        const struct rmj_model_config *config, struct rmj_error *err)
{
    *packs = (struct rmj_verify_packs){0};
    uint32_t count = batch->pair_count;
    uint32_t *rows = calloc(3 * (size_t)count, sizeof *rows);
    if (rows == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %u pairs", count);
    }
    uint32_t *order = rows + count, *item_counts = order + count, longest = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = rows_of(&batch->pairs[i]);
        longest = rows[i] > longest ? rows[i] : longest;
        total += rows[i];
    }
    enum rmj_status status = RMJ_OK;
    int32_t pad =
        config->pad_token >= 0 && (uint32_t)config->pad_token < config->vocabulary_size ? config->pad_token : 0;
    uint64_t row_count = rmj_pack_row_count(longest, total, STEP_ROWS_CAP);
    if (row_count > PACK_ROWS_MAX) {
        status = rmj_fail(err, RMJ_DATA, "a pair of %u tokens is over what a pack holds, %u", longest, PACK_ROWS_MAX);
        goto out;
    }
    packs->row_count = (uint32_t)row_count;
    RMJ_GO(rmj_pack_first_fit(rows, count, packs->row_count, order, item_counts, &packs->pack_count, err));
    if (packs->pack_count > PACKS_MAX) {
        status = rmj_fail(err, RMJ_DATA, "the batch needs %u packs of %u rows; a step holds %u", packs->pack_count,
                          packs->row_count, PACKS_MAX);
        goto out;
    }
    RMJ_GO(fill(packs, batch, order, item_counts, pad, err));
    RMJ_GO(list_rows(packs, batch, config->vocabulary_size, err));
out:
    free(rows);
    return status;
}

uint32_t rmj_verify_pack_bound(const struct rmj_verify_packs *packs)
{
    uint32_t bound = 1;
    while (bound < packs->pack_count) {
        bound *= 2;
    }
    return bound;
}

void rmj_verify_packs_destroy(struct rmj_verify_packs *packs)
{
    free(packs->packs);
    free(packs->memory);
    free(packs->embedding_rows);
}
