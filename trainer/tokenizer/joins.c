// Which characters stand next to each other inside some token. A merge makes a token, so no merge ever reaches across
// two characters that are in no token together: a text without pre-tokenizer (SentencePiece style) may be cut there
// into short pieces, with the same ids as merging it whole.
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

static uint64_t key_of(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

static uint64_t slot_of(uint64_t key)
{
    return (key * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
}

bool rmj_joins_has(const struct rmj_vocab *vocab, uint32_t left, uint32_t right)
{
    uint64_t key = key_of(left, right);
    uint64_t slot = slot_of(key) & vocab->join_mask;
    while (vocab->joins[slot] != UINT64_MAX && vocab->joins[slot] != key) {
        slot = (slot + 1) & vocab->join_mask;
    }
    return vocab->joins[slot] == key;
}

static enum rmj_status allocate(struct rmj_vocab *vocab, uint64_t size, struct rmj_error *err)
{
    vocab->joins = malloc(size * sizeof *vocab->joins);
    if (vocab->joins == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the vocabulary's character pairs");
    }
    memset(vocab->joins, 0xff, size * sizeof *vocab->joins);
    vocab->join_mask = size - 1;
    return RMJ_OK;
}

static void insert(struct rmj_vocab *vocab, uint64_t key, uint64_t *count)
{
    uint64_t slot = slot_of(key) & vocab->join_mask;
    while (vocab->joins[slot] != UINT64_MAX && vocab->joins[slot] != key) {
        slot = (slot + 1) & vocab->join_mask;
    }
    *count += vocab->joins[slot] == UINT64_MAX;
    vocab->joins[slot] = key;
}

static enum rmj_status grow(struct rmj_vocab *vocab, struct rmj_error *err)
{
    uint64_t *old = vocab->joins;
    uint64_t old_size = vocab->join_mask + 1;
    enum rmj_status status = allocate(vocab, 2 * old_size, err);
    uint64_t count = 0;
    for (uint64_t i = 0; status == RMJ_OK && i < old_size; i++) {
        if (old[i] != UINT64_MAX) {
            insert(vocab, old[i], &count);
        }
    }
    free(old);
    return status;
}

enum rmj_status rmj_joins_build(struct rmj_vocab *vocab, struct rmj_error *err)
{
    // Byte-level words are short already.
    if (vocab->byte_level || !vocab->can_cut) {
        vocab->can_cut = false;
        return RMJ_OK;
    }
    uint64_t count = 0;
    RMJ_TRY(allocate(vocab, 1024, err));
    for (uint32_t id = 0; id < vocab->id_end; id++) {
        struct rmj_span token = vocab->texts[id];
        size_t offset = 0;
        uint32_t left = token.size == 0 ? 0 : rmj_rune_next(token.text, token.size, &offset);
        while (offset < token.size) {
            uint32_t right = rmj_rune_next(token.text, token.size, &offset);
            insert(vocab, key_of(left, right), &count);
            left = right;
            if (4 * count > vocab->join_mask) {
                RMJ_TRY(grow(vocab, err));
            }
        }
    }
    return RMJ_OK;
}
