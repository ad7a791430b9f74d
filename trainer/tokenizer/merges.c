// Merge rules: a pair of ids to its rank and the id that it becomes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

// Fibonacci hashing: the high bits of the product are the well-mixed ones.
static uint64_t slot_of(uint64_t pair)
{
    return (pair * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
}

const struct rmj_merge *rmj_vocab_merge(const struct rmj_vocab *vocab, int32_t left, int32_t right)
{
    uint64_t pair = pair_of(left, right);
    for (uint64_t slot = slot_of(pair) & vocab->merge_mask;; slot = (slot + 1) & vocab->merge_mask) {
        const struct rmj_merge *merge = &vocab->merges[slot];
        if (merge->pair == pair) {
            return merge;
        }
        if (merge->pair == UINT64_MAX) {
            return NULL;
        }
    }
}

// "a b" or ["a", "b"].
static enum rmj_status read_sides(const json_t *rule, size_t rank, struct rmj_span sides[2], struct rmj_error *err)
{
    if (json_is_array(rule) && json_array_size(rule) == 2 && json_is_string(json_array_get(rule, 0)) &&
        json_is_string(json_array_get(rule, 1))) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *side = json_array_get(rule, i);
            sides[i] = (struct rmj_span){json_string_value(side), json_string_length(side)};
        }
        return RMJ_OK;
    }
    if (json_is_string(rule)) {
        const char *text = json_string_value(rule);
        size_t size = json_string_length(rule);
        const char *space = memchr(text, ' ', size);
        if (space != NULL && memchr(space + 1, ' ', size - (size_t)(space + 1 - text)) == NULL) {
            sides[0] = (struct rmj_span){text, (size_t)(space - text)};
            sides[1] = (struct rmj_span){space + 1, size - sides[0].size - 1};
            return RMJ_OK;
        }
    }
    return rmj_fail(err, RMJ_DATA, "model.merges[%zu] has to be \"left right\" or [\"left\", \"right\"]", rank);
}

static enum rmj_status read_rule(const struct rmj_vocab *vocab, const json_t *rule, size_t rank, int32_t ids[3],
                                 struct rmj_error *err)
{
    struct rmj_span texts[3] = {0};
    RMJ_TRY(read_sides(rule, rank, texts, err));
    char joined[2 * RMJ_TOKENIZER_TOKEN_SIZE_MAX];
    if (texts[0].size > RMJ_TOKENIZER_TOKEN_SIZE_MAX || texts[1].size > RMJ_TOKENIZER_TOKEN_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "model.merges[%zu] names a token over %zu bytes", rank,
                        RMJ_TOKENIZER_TOKEN_SIZE_MAX);
    }
    memcpy(joined, texts[0].text, texts[0].size);
    memcpy(joined + texts[0].size, texts[1].text, texts[1].size);
    texts[2] = (struct rmj_span){joined, texts[0].size + texts[1].size};
    for (size_t i = 0; i < 3; i++) {
        ids[i] = rmj_text_map_find(&vocab->map, texts[i].text, texts[i].size);
        if (ids[i] < 0) {
            return rmj_fail(err, RMJ_DATA, "model.merges[%zu] names \"%.*s\", which is not in model.vocab", rank,
                            (int)(texts[i].size < 60 ? texts[i].size : 60), texts[i].text);
        }
    }
    if (texts[0].size == 0 || texts[1].size == 0) {
        return rmj_fail(err, RMJ_DATA, "model.merges[%zu] has an empty side, so it would never end", rank);
    }
    return RMJ_OK;
}

static bool starts_unsafely(const struct rmj_vocab *vocab, int32_t left)
{
    if (left == vocab->unk_id) {
        return true;
    }
    struct rmj_span text = vocab->texts[left];
    return vocab->byte_fallback && text.size == 6 && memcmp(text.text, "<0x", 3) == 0;
}

enum rmj_status rmj_merges_load(struct rmj_vocab *vocab, const json_t *merges, struct rmj_error *err)
{
    size_t count = json_array_size(merges);
    if (!json_is_array(merges) || count > RMJ_TOKENIZER_MERGE_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "model.merges has to be a list of at most %zu rules",
                        RMJ_TOKENIZER_MERGE_COUNT_MAX);
    }
    uint64_t size = 16;
    while (size < 2 * count) {
        size *= 2;
    }
    vocab->merges = malloc(size * sizeof *vocab->merges);
    if (vocab->merges == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu merges", count);
    }
    memset(vocab->merges, 0xff, size * sizeof *vocab->merges);
    vocab->merge_mask = size - 1;
    vocab->can_cut = true;
    for (size_t rank = 0; rank < count; rank++) {
        int32_t ids[3];
        RMJ_TRY(read_rule(vocab, json_array_get(merges, rank), rank, ids, err));
        uint64_t pair = pair_of(ids[0], ids[1]);
        uint64_t slot = slot_of(pair) & vocab->merge_mask;
        while (vocab->merges[slot].pair != UINT64_MAX && vocab->merges[slot].pair != pair) {
            slot = (slot + 1) & vocab->merge_mask;
        }
        // A rule given twice counts with its last rank, as in the public implementation.
        vocab->merges[slot] = (struct rmj_merge){pair, (uint32_t)rank, ids[2]};
        vocab->can_cut = vocab->can_cut && !starts_unsafely(vocab, ids[0]);
    }
    return RMJ_OK;
}
