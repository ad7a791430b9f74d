// Byte pair encoding of one word, and the cache that words of any model go through.
//
// Always the same rule (Sennrich et al. 2016, section 3.2): of all neighbouring pairs merge the one of lowest rank, the
// leftmost of equals, until none is left. Short words are scanned; long ones keep their pairs in a heap, O(n log n).
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/tokenizer/internal.h"

#define SCAN_COUNT_MAX 48u // symbols; above it the heap wins

static enum rmj_status out_of_memory(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_NO_MEMORY, "no memory to tokenize a text");
}

bool rmj_reserve(void **array, size_t *capacity, size_t count, size_t element_size)
{
    if (count <= *capacity) {
        return true;
    }
    size_t wanted = *capacity < 64 ? 64 : *capacity;
    while (wanted < count) {
        wanted *= 2;
    }
    void *grown = realloc(*array, wanted * element_size);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *capacity = wanted;
    return true;
}

// Characters without a token wait here, so that neighbours can become one unk.
struct pending_unk {
    bool waiting;
};

static void push_id(struct rmj_word_scratch *scratch, int32_t id)
{
    scratch->ids[scratch->id_count++] = id;
}

// A character that is no token: its byte tokens, else unk, else nothing. The byte tokens go in front of an unk that
// still waits, which is the public implementation's order.
static void push_unknown(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span character,
                         struct pending_unk *unk)
{
    bool all = vocab->byte_fallback;
    for (size_t i = 0; all && i < character.size; i++) {
        all = vocab->byte_fallback_ids[(uint8_t)character.text[i]] >= 0;
    }
    if (all) {
        for (size_t i = 0; i < character.size; i++) {
            push_id(scratch, vocab->byte_fallback_ids[(uint8_t)character.text[i]]);
        }
        return;
    }
    if (vocab->unk_id < 0) {
        return;
    }
    if (unk->waiting && !vocab->fuse_unk) {
        push_id(scratch, vocab->unk_id);
    }
    unk->waiting = true;
}

static void push_known(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, int32_t id,
                       struct pending_unk *unk)
{
    if (unk->waiting) {
        push_id(scratch, vocab->unk_id);
        unk->waiting = false;
    }
    push_id(scratch, id);
}

// The characters of the word as ids; at most one id a byte (two under ByteLevel, where a byte may fall back to the two
// bytes of its character).
static void read_symbols(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word)
{
    struct pending_unk unk = {false};
    scratch->id_count = 0;
    size_t offset = 0;
    while (offset < word.size) {
        size_t start = offset;
        char mapped[4];
        struct rmj_span character = {word.text + start, 0};
        int32_t id;
        if (vocab->byte_level) {
            uint8_t byte = (uint8_t)word.text[offset++];
            id = vocab->byte_level_ids[byte];
            character = (struct rmj_span){mapped, id >= 0 ? 0 : rmj_utf8_write(mapped, rmj_byte_rune(byte))};
        } else {
            id = rmj_vocab_rune_id(vocab, rmj_rune_next(word.text, word.size, &offset));
            character.size = offset - start;
        }
        if (id >= 0) {
            push_known(vocab, scratch, id, &unk);
        } else {
            push_unknown(vocab, scratch, character, &unk);
        }
    }
    if (unk.waiting) {
        push_id(scratch, vocab->unk_id);
    }
}

static void rank_pair(const struct rmj_vocab *vocab, int32_t left, int32_t right, uint32_t *rank, int32_t *merged)
{
    const struct rmj_merge *merge = rmj_vocab_merge(vocab, left, right);
    *rank = merge == NULL ? RMJ_TOKENIZER_NO_MERGE : merge->rank;
    *merged = merge == NULL ? -1 : merge->id;
}

static void merge_by_scan(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch)
{
    uint32_t ranks[SCAN_COUNT_MAX];
    int32_t merged[SCAN_COUNT_MAX];
    int32_t *ids = scratch->ids;
    size_t count = scratch->id_count;
    for (size_t i = 0; i + 1 < count; i++) {
        rank_pair(vocab, ids[i], ids[i + 1], &ranks[i], &merged[i]);
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == RMJ_TOKENIZER_NO_MERGE) {
            break;
        }
        ids[best] = merged[best];
        size_t behind = count - best - 2; // symbols after the pair
        memmove(&ids[best + 1], &ids[best + 2], behind * sizeof *ids);
        memmove(&ranks[best], &ranks[best + 1], behind * sizeof *ranks);
        memmove(&merged[best], &merged[best + 1], behind * sizeof *merged);
        count--;
        if (best > 0) {
            rank_pair(vocab, ids[best - 1], ids[best], &ranks[best - 1], &merged[best - 1]);
        }
        if (best + 1 < count) {
            rank_pair(vocab, ids[best], ids[best + 1], &ranks[best], &merged[best]);
        }
    }
    scratch->id_count = count;
}

static void heap_push(struct rmj_word_scratch *scratch, uint64_t entry)
{
    size_t at = scratch->heap_count++;
    while (at > 0 && scratch->heap[(at - 1) / 2] > entry) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = entry;
}

static uint64_t heap_pop(struct rmj_word_scratch *scratch)
{
    uint64_t *heap = scratch->heap;
    uint64_t top = heap[0];
    uint64_t last = heap[--scratch->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= scratch->heap_count) {
            break;
        }
        child += child + 1 < scratch->heap_count && heap[child + 1] < heap[child];
        if (heap[child] >= last) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void rank_symbol(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, uint32_t at)
{
    struct rmj_symbol *symbol = &scratch->symbols[at];
    symbol->rank = RMJ_TOKENIZER_NO_MERGE;
    if (symbol->next != UINT32_MAX) {
        rank_pair(vocab, symbol->id, scratch->symbols[symbol->next].id, &symbol->rank, &symbol->merged_id);
    }
    if (symbol->rank != RMJ_TOKENIZER_NO_MERGE) {
        heap_push(scratch, (uint64_t)symbol->rank << 32 | at);
    }
}

static void merge_symbol(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, uint32_t at)
{
    struct rmj_symbol *left = &scratch->symbols[at];
    struct rmj_symbol *right = &scratch->symbols[left->next];
    left->id = left->merged_id;
    left->next = right->next;
    right->id = -1;
    right->rank = RMJ_TOKENIZER_NO_MERGE;
    if (left->next != UINT32_MAX) {
        scratch->symbols[left->next].previous = at;
    }
    if (left->previous != UINT32_MAX) {
        rank_symbol(vocab, scratch, left->previous);
    }
    rank_symbol(vocab, scratch, at);
}

static enum rmj_status merge_by_heap(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                     struct rmj_error *err)
{
    size_t count = scratch->id_count;
    // Each symbol enters the heap once at the start, and each of at most count - 1 merges adds two entries.
    if (!rmj_reserve((void **)&scratch->symbols, &scratch->symbol_capacity, count, sizeof *scratch->symbols) ||
        !rmj_reserve((void **)&scratch->heap, &scratch->heap_capacity, 3 * count, sizeof *scratch->heap)) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        scratch->symbols[i] = (struct rmj_symbol){.id = scratch->ids[i],
                                                  .previous = i == 0 ? UINT32_MAX : (uint32_t)i - 1,
                                                  .next = i + 1 == count ? UINT32_MAX : (uint32_t)i + 1};
    }
    scratch->heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        rank_symbol(vocab, scratch, (uint32_t)i);
    }
    while (scratch->heap_count > 0) {
        uint64_t entry = heap_pop(scratch);
        uint32_t at = (uint32_t)entry;
        // An entry whose rank is no longer the symbol's own is left over from before a merge nearby.
        if (scratch->symbols[at].rank == (uint32_t)(entry >> 32)) {
            merge_symbol(vocab, scratch, at);
        }
    }
    scratch->id_count = 0;
    for (uint32_t at = 0; at != UINT32_MAX; at = scratch->symbols[at].next) {
        push_id(scratch, scratch->symbols[at].id);
    }
    return RMJ_OK;
}

static enum rmj_status merge_word(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word,
                                  struct rmj_error *err)
{
    if (vocab->unigram.edges != NULL) {
        return rmj_unigram_word(vocab, scratch, word, err);
    }
    if (!rmj_reserve((void **)&scratch->ids, &scratch->id_capacity, 2 * word.size + 1, sizeof *scratch->ids)) {
        return out_of_memory(err);
    }
    read_symbols(vocab, scratch, word);
    if (scratch->id_count > SCAN_COUNT_MAX) {
        return merge_by_heap(vocab, scratch, err);
    }
    merge_by_scan(vocab, scratch);
    return RMJ_OK;
}

// Where a word's ids are remembered; NULL when it is too long for that. Direct-mapped, so bounded; a scratch belongs to
// one tokenizer.
static struct rmj_cached_word *cache_of(struct rmj_word_scratch *scratch, struct rmj_span word)
{
    return word.size > RMJ_WORD_CACHE_TEXT_MAX
               ? NULL
               : &scratch->cache[XXH3_64bits(word.text, word.size) & (RMJ_WORD_CACHE_COUNT - 1)];
}

static bool remembers(const struct rmj_cached_word *cached, struct rmj_span word)
{
    return cached != NULL && cached->size == word.size && memcmp(cached->text, word.text, word.size) == 0;
}

static void remember(struct rmj_cached_word *cached, struct rmj_span word, const int32_t *ids, size_t count)
{
    if (cached != NULL && count <= RMJ_WORD_CACHE_ID_MAX) {
        cached->size = (uint8_t)word.size;
        cached->count = (uint8_t)count;
        memcpy(cached->text, word.text, word.size);
        memcpy(cached->ids, ids, count * sizeof *ids);
    }
}

// A piece through the cache: same piece, same ids.
static enum rmj_status encode_piece(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                    struct rmj_span piece, struct rmj_tokens *tokens, struct rmj_error *err)
{
    if (piece.size == 0) {
        return RMJ_OK;
    }
    struct rmj_cached_word *cached = cache_of(scratch, piece);
    if (remembers(cached, piece)) {
        return rmj_tokens_append(tokens, cached->ids, cached->count, err);
    }
    RMJ_TRY(merge_word(vocab, scratch, piece, err));
    remember(cached, piece, scratch->ids, scratch->id_count);
    return rmj_tokens_append(tokens, scratch->ids, scratch->id_count, err);
}

// Pieces between characters that never join (joins.c). In front of a character without a token nothing is cut, so
// that unks still meet and fuse; nor behind one that may vanish.
static enum rmj_status encode_cut(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word,
                                  struct rmj_tokens *tokens, struct rmj_error *err)
{
    size_t start = 0;
    size_t offset = 0;
    uint32_t left = rmj_rune_next(word.text, word.size, &offset);
    bool left_stays = !vocab->vanishes || rmj_vocab_rune_id(vocab, left) >= 0;
    while (offset < word.size) {
        size_t at = offset;
        uint32_t right = rmj_rune_next(word.text, word.size, &offset);
        bool right_known = rmj_vocab_rune_id(vocab, right) >= 0;
        if (left_stays && right_known && !rmj_joins_has(vocab, left, right)) {
            RMJ_TRY(encode_piece(vocab, scratch, (struct rmj_span){word.text + start, at - start}, tokens, err));
            start = at;
        }
        left = right;
        left_stays = !vocab->vanishes || right_known;
    }
    return encode_piece(vocab, scratch, (struct rmj_span){word.text + start, word.size - start}, tokens, err);
}

static enum rmj_status encode_cut_bytes(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                        struct rmj_span word, struct rmj_tokens *tokens, struct rmj_error *err)
{
    size_t start = 0;
    size_t left = rmj_utf8_size((unsigned char)word.text[0]);
    for (size_t at = left; at < word.size;) {
        size_t right = rmj_utf8_size((unsigned char)word.text[at]);
        RMJ_ASSERT(right <= word.size - at);
        if (!rmj_joins_has_bytes(vocab, word.text + at, left, right)) {
            RMJ_TRY(encode_piece(vocab, scratch, (struct rmj_span){word.text + start, at - start}, tokens, err));
            start = at;
        }
        left = right;
        at += right;
    }
    return encode_piece(vocab, scratch, (struct rmj_span){word.text + start, word.size - start}, tokens, err);
}

// A byte-level word is known as a whole more often than not; the others are cut.
static enum rmj_status encode_byte_word(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch,
                                        struct rmj_span word, struct rmj_tokens *tokens, struct rmj_error *err)
{
    struct rmj_cached_word *cached = cache_of(scratch, word);
    if (remembers(cached, word)) {
        return rmj_tokens_append(tokens, cached->ids, cached->count, err);
    }
    size_t count = tokens->count;
    RMJ_TRY(encode_cut_bytes(vocab, scratch, word, tokens, err));
    remember(cached, word, tokens->ids + count, tokens->count - count);
    return RMJ_OK;
}

enum rmj_status rmj_word_encode(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word,
                                struct rmj_tokens *tokens, struct rmj_error *err)
{
    if (word.size == 0) {
        return RMJ_OK;
    }
    if (vocab->ignore_merges) {
        const struct rmj_text_map *map = vocab->byte_level ? &vocab->byte_map : &vocab->map;
        int32_t id = word.size <= RMJ_TOKENIZER_TOKEN_SIZE_MAX ? rmj_text_map_find(map, word.text, word.size) : -1;
        if (id >= 0) {
            return rmj_tokens_append(tokens, &id, 1, err);
        }
    }
    return !vocab->can_cut     ? encode_piece(vocab, scratch, word, tokens, err)
           : vocab->byte_level ? encode_byte_word(vocab, scratch, word, tokens, err)
                               : encode_cut(vocab, scratch, word, tokens, err);
}

void rmj_word_scratch_deinit(struct rmj_word_scratch *scratch)
{
    free(scratch->ids);
    free(scratch->symbols);
    free(scratch->heap);
    free(scratch->path);
    rmj_buf_deinit(&scratch->characters);
    free(scratch->cache);
}
