// Which characters stand next to each other inside some token. A merge makes a token, so no merge ever reaches across
// two characters that are in no token together: a text without pre-tokenizer (SentencePiece style), or a long word of a
// byte-level one (Chinese), may be cut there into short pieces, with the same ids as merging it whole.
//
// A byte-level token may hold a part of a character: its last bytes, where the token starts, or its first, where it
// ends. Such pairs of parts are in the same set, a part of up to four bytes as one number; and a small table says for
// the bytes that meet whether there is any, which is rare: the whole characters are looked up at once, parts seldom.
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

// The bytes of a character or of a part of one, as a number. No two differ by zeros at the end alone: NUL is a
// character by itself, and no byte of another one.
static uint32_t part_of(const char *text, size_t size)
{
    uint32_t part = 0;
    for (size_t i = 0; i < size; i++) {
        part |= (uint32_t)(uint8_t)text[i] << (24 - 8 * i);
    }
    return part;
}

static bool continues(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

static uint32_t meeting_of(char left_end, char right_start)
{
    return (uint32_t)(uint8_t)left_end << 8 | (uint8_t)right_start;
}

bool rmj_joins_has_bytes(const struct rmj_vocab *vocab, const char *at, size_t left_size, size_t right_size)
{
    if (rmj_joins_has(vocab, part_of(at - left_size, left_size), part_of(at, right_size))) {
        return true;
    }
    uint32_t meeting = meeting_of(at[-1], at[0]);
    if ((vocab->part_joins[meeting / 64] >> (meeting % 64) & 1) == 0) {
        return false;
    }
    for (size_t left = 1; left <= left_size; left++) {
        for (size_t right = 1; right <= right_size; right++) {
            if (rmj_joins_has(vocab, part_of(at - left, left), part_of(at, right))) {
                return true;
            }
        }
    }
    return false;
}

static enum rmj_status add(struct rmj_vocab *vocab, uint64_t key, uint64_t *count, struct rmj_error *err)
{
    insert(vocab, key, count);
    return 4 * *count > vocab->join_mask ? grow(vocab, err) : RMJ_OK;
}

static enum rmj_status add_characters(struct rmj_vocab *vocab, struct rmj_span token, uint64_t *count,
                                      struct rmj_error *err)
{
    size_t offset = 0;
    uint32_t left = token.size == 0 ? 0 : rmj_rune_next(token.text, token.size, &offset);
    while (offset < token.size) {
        uint32_t right = rmj_rune_next(token.text, token.size, &offset);
        RMJ_TRY(add(vocab, key_of(left, right), count, err));
        left = right;
    }
    return RMJ_OK;
}

// What stands on both sides of every byte of the token that may start a character.
static enum rmj_status add_bytes(struct rmj_vocab *vocab, struct rmj_span token, uint64_t *count, struct rmj_error *err)
{
    for (size_t at = 1; at < token.size; at++) {
        if (continues(token.text[at])) {
            continue;
        }
        size_t left = 1;
        while (left < at && continues(token.text[at - left])) {
            left++;
        }
        size_t right = 1;
        while (at + right < token.size && continues(token.text[at + right])) {
            right++;
        }
        if (left > 4 || right > 4) { // of no character
            continue;
        }
        RMJ_TRY(add(vocab, key_of(part_of(token.text + at - left, left), part_of(token.text + at, right)), count, err));
        char first = token.text[at - left];
        if (continues(first) || left < rmj_utf8_size((unsigned char)first) ||
            right < rmj_utf8_size((unsigned char)token.text[at])) {
            uint32_t meeting = meeting_of(token.text[at - 1], token.text[at]);
            vocab->part_joins[meeting / 64] |= UINT64_C(1) << (meeting % 64);
        }
    }
    return RMJ_OK;
}

enum rmj_status rmj_joins_build(struct rmj_vocab *vocab, struct rmj_error *err)
{
    // A byte that is no token may vanish or become unk, and its neighbours meet.
    for (size_t byte = 0; vocab->byte_level && byte < 256; byte++) {
        vocab->can_cut = vocab->can_cut && vocab->byte_level_ids[byte] >= 0;
    }
    if (!vocab->can_cut) {
        return RMJ_OK;
    }
    uint64_t count = 0;
    RMJ_TRY(allocate(vocab, 1024, err));
    for (uint32_t id = 0; id < vocab->id_end; id++) {
        RMJ_TRY(vocab->byte_level ? add_bytes(vocab, vocab->bytes[id], &count, err)
                                  : add_characters(vocab, vocab->texts[id], &count, err));
    }
    return RMJ_OK;
}
