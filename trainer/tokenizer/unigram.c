// Unigram: of all ways to cut a word into tokens the one of the highest sum of scores (Kudo 2018, section 3.2), found
// by one pass from left to right (Viterbi). Ties are decided by the order of additions, so scores are added, and read
// from the file, exactly as the public implementation does it.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

#define UNKNOWN_PENALTY 10.0 // below the lowest score of any token
#define PIECE_SIZE_MAX 1024u // a pass looks at so many bytes behind every character
#define NODE_COUNT_MAX ((uint32_t)1 << 24)
#define NO_START UINT32_MAX

static double power_of_ten(int exponent)
{
    char text[16];
    snprintf(text, sizeof text, "1e%d", exponent);
    return strtod(text, NULL);
}

// The public reader takes a number's digits as an integer and scales it by a power of ten, two roundings instead of
// one: every eighth score is one unit in the last place away from the nearest double. Writers give the fewest digits
// that name a double, so the digits can be had again from the value.
static double public_score(double value)
{
    char text[40];
    int precision = 14;
    do {
        snprintf(text, sizeof text, "%.*e", precision, fabs(value));
        precision++;
    } while (precision < 17 && strtod(text, NULL) != fabs(value));
    char *mark = strchr(text, 'e');
    int exponent = atoi(mark + 1);
    uint64_t digits = 0;
    int digit_count = 0;
    while (mark[-1] == '0') {
        mark--;
    }
    for (const char *c = text; c < mark; c++) {
        if (*c != '.') {
            digits = 10 * digits + (uint64_t)(*c - '0');
            digit_count++;
        }
    }
    exponent -= digit_count - 1;
    double scaled = (double)digits;
    while (exponent < -308 && scaled != 0) {
        scaled /= 1e308;
        exponent += 308;
    }
    scaled = exponent < 0 ? scaled / power_of_ten(-exponent) : scaled * power_of_ten(exponent);
    return value < 0 ? -scaled : scaled;
}

// ["▁the", -3.2]
static enum rmj_status read_piece(const json_t *entry, size_t id, struct rmj_span *text, double *score,
                                  struct rmj_error *err)
{
    const json_t *name = json_array_get(entry, 0);
    const json_t *number = json_array_get(entry, 1);
    if (json_array_size(entry) != 2 || !json_is_string(name) || !json_is_number(number)) {
        return rmj_fail(err, RMJ_DATA, "model.vocab[%zu] has to be [\"token\", score]", id);
    }
    *text = (struct rmj_span){json_string_value(name), json_string_length(name)};
    if (text->size > PIECE_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "model.vocab[%zu] has %zu bytes, the most is %u", id, text->size,
                        PIECE_SIZE_MAX);
    }
    *score = json_is_real(number) ? public_score(json_real_value(number)) : (double)json_integer_value(number);
    return RMJ_OK;
}

static size_t text_size(const json_t *list)
{
    size_t size = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        size += json_string_length(json_array_get(json_array_get(list, i), 0));
    }
    return size;
}

static enum rmj_status read_pieces(struct rmj_vocab *vocab, const json_t *list, struct rmj_error *err)
{
    vocab->count = vocab->id_end = (uint32_t)json_array_size(list);
    vocab->texts = calloc((size_t)vocab->count + 1, sizeof *vocab->texts);
    vocab->unigram.scores = malloc(vocab->count * sizeof *vocab->unigram.scores);
    vocab->text_block = malloc(text_size(list) + 1);
    if (vocab->texts == NULL || vocab->unigram.scores == NULL || vocab->text_block == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", vocab->count);
    }
    RMJ_TRY(rmj_text_map_init(&vocab->map, vocab->texts, vocab->count, err));
    char *put = vocab->text_block;
    for (uint32_t id = 0; id < vocab->count; id++) {
        struct rmj_span text = {0};
        RMJ_TRY(read_piece(json_array_get(list, id), id, &text, &vocab->unigram.scores[id], err));
        memcpy(put, text.text, text.size);
        vocab->texts[id] = (struct rmj_span){put, text.size};
        put += text.size;
        rmj_text_map_put(&vocab->map, (int32_t)id); // of two with the same text the later counts
    }
    return RMJ_OK;
}

static uint64_t edge_slot(const struct rmj_unigram *unigram, uint64_t key)
{
    uint64_t slot = (key * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & unigram->edge_mask;
    while (unigram->edges[slot].child != 0 && unigram->edges[slot].key != key) {
        slot = (slot + 1) & unigram->edge_mask;
    }
    return slot;
}

static enum rmj_status allocate_edges(struct rmj_unigram *unigram, uint64_t size, struct rmj_error *err)
{
    unigram->edges = calloc(size, sizeof *unigram->edges);
    unigram->edge_mask = size - 1;
    return unigram->edges == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a vocabulary") : RMJ_OK;
}

static enum rmj_status grow_edges(struct rmj_unigram *unigram, struct rmj_error *err)
{
    struct rmj_edge *old = unigram->edges;
    uint64_t old_size = unigram->edge_mask + 1;
    enum rmj_status status = allocate_edges(unigram, 2 * old_size, err);
    for (uint64_t i = 0; status == RMJ_OK && i < old_size; i++) {
        if (old[i].child != 0) {
            unigram->edges[edge_slot(unigram, old[i].key)] = old[i];
        }
    }
    free(old);
    return status;
}

// Node 0 is the root. Ends of tokens are marked by the ids of the nodes.
static enum rmj_status insert_piece(struct rmj_vocab *vocab, int32_t id, uint32_t *node_count, struct rmj_error *err)
{
    struct rmj_unigram *unigram = &vocab->unigram;
    uint32_t node = 0;
    for (size_t i = 0; i < vocab->texts[id].size; i++) {
        uint64_t key = (uint64_t)node << 8 | (uint8_t)vocab->texts[id].text[i];
        uint64_t slot = edge_slot(unigram, key);
        if (unigram->edges[slot].child == 0) {
            if (*node_count == NODE_COUNT_MAX) {
                return rmj_fail(err, RMJ_DATA, "model.vocab is larger than any tokenizer's");
            }
            unigram->edges[slot] = (struct rmj_edge){.key = key, .child = (*node_count)++, .id = -1};
            if (*node_count > unigram->edge_mask / 2) {
                RMJ_TRY(grow_edges(unigram, err));
                slot = edge_slot(unigram, key);
            }
        }
        node = unigram->edges[slot].child;
        if (i + 1 == vocab->texts[id].size) {
            unigram->edges[slot].id = id;
        }
    }
    return RMJ_OK;
}

static enum rmj_status index_pieces(struct rmj_vocab *vocab, struct rmj_error *err)
{
    uint32_t node_count = 1;
    RMJ_TRY(allocate_edges(&vocab->unigram, 1024, err));
    vocab->unigram.unknown_score = INFINITY;
    for (uint32_t id = 0; id < vocab->count; id++) {
        RMJ_TRY(insert_piece(vocab, (int32_t)id, &node_count, err));
        double score = vocab->unigram.scores[id];
        vocab->unigram.unknown_score = score < vocab->unigram.unknown_score ? score : vocab->unigram.unknown_score;
    }
    vocab->unigram.unknown_score -= UNKNOWN_PENALTY;
    return RMJ_OK;
}

enum rmj_status rmj_unigram_load(struct rmj_vocab *vocab, const json_t *model, struct rmj_error *err)
{
    const json_t *list = json_object_get(model, "vocab");
    size_t count = json_array_size(list);
    if (count == 0 || count > RMJ_TOKENIZER_TOKEN_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "model.vocab has to be a list of 1 to %u tokens and scores",
                        RMJ_TOKENIZER_TOKEN_COUNT_MAX);
    }
    RMJ_TRY(read_pieces(vocab, list, err));
    RMJ_TRY(index_pieces(vocab, err));
    RMJ_TRY(rmj_json_bool(model, "model", "byte_fallback", false, &vocab->byte_fallback, err));
    const json_t *unk = json_object_get(model, "unk_id");
    vocab->unk_id = -1;
    if (unk != NULL && !json_is_null(unk)) {
        uint64_t id = 0;
        RMJ_TRY(rmj_json_count(model, "model", "unk_id", count - 1, &id, err));
        vocab->unk_id = (int32_t)id;
    }
    return RMJ_OK;
}

static void reach(struct rmj_path *path, double score, uint32_t start, int32_t id)
{
    if (path->start == NO_START || score > path->score) {
        path->score = score;
        path->start = start;
        path->id = id;
    }
}

// path[end]: the best way to get there.
static enum rmj_status find_paths(const struct rmj_vocab *vocab, struct rmj_path *path, struct rmj_span word,
                                  struct rmj_error *err)
{
    for (size_t i = 0; i <= word.size; i++) {
        path[i] = (struct rmj_path){.start = NO_START};
    }
    const struct rmj_unigram *unigram = &vocab->unigram;
    size_t next = 0;
    for (size_t start = 0; start < word.size; start = next) {
        double here = path[start].score;
        bool known = false;
        uint32_t node = 0;
        rmj_rune_next(word.text, word.size, &next);
        for (size_t end = start; end < word.size;) {
            const struct rmj_edge *edge =
                &unigram->edges[edge_slot(unigram, (uint64_t)node << 8 | (uint8_t)word.text[end++])];
            if (edge->child == 0) {
                break;
            }
            node = edge->child;
            if (edge->id >= 0) {
                reach(&path[end], unigram->scores[edge->id] + here, (uint32_t)start, edge->id);
                known = known || end == next;
            }
        }
        if (!known) {
            reach(&path[next], unigram->unknown_score + here, (uint32_t)start, vocab->unk_id);
            if (path[next].id < 0) {
                return rmj_fail(err, RMJ_DATA,
                                "text has a character without a token at byte %zu of a word, and model.unk_id is null",
                                start);
            }
        }
    }
    return RMJ_OK;
}

// Neighbouring unknowns are one, which may by chance be a token after all, or falls back to its bytes.
static void push_unknowns(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span run)
{
    int32_t id = rmj_text_map_find(&vocab->map, run.text, run.size);
    bool all = id < 0 && vocab->byte_fallback;
    for (size_t i = 0; all && i < run.size; i++) {
        all = vocab->byte_fallback_ids[(uint8_t)run.text[i]] >= 0;
    }
    if (!all) {
        scratch->ids[scratch->id_count++] = id >= 0 ? id : vocab->unk_id;
        return;
    }
    for (size_t i = 0; i < run.size; i++) {
        scratch->ids[scratch->id_count++] = vocab->byte_fallback_ids[(uint8_t)run.text[i]];
    }
}

static void push_path(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word)
{
    struct rmj_path *path = scratch->path;
    for (size_t end = word.size; end > 0; end = path[end].start) {
        path[path[end].start].next = (uint32_t)end;
    }
    scratch->id_count = 0;
    size_t run = 0; // where the unknowns before `at` begin
    for (size_t at = 0; at < word.size; at = path[at].next) {
        size_t end = path[at].next;
        if (path[end].id == vocab->unk_id) {
            if (end < word.size && path[path[end].next].id == vocab->unk_id) {
                continue;
            }
            push_unknowns(vocab, scratch, (struct rmj_span){word.text + run, end - run});
        } else {
            scratch->ids[scratch->id_count++] = path[end].id;
        }
        run = end;
    }
}

// Under ByteLevel the model sees every byte as the character that stands for it.
static struct rmj_span byte_characters(struct rmj_buf *out, struct rmj_span word)
{
    rmj_buf_clear(out);
    for (size_t i = 0; i < word.size; i++) {
        char bytes[4];
        rmj_buf_append(out, bytes, rmj_utf8_write(bytes, rmj_byte_rune((uint8_t)word.text[i])));
    }
    return (struct rmj_span){rmj_buf_text(out), out->size};
}

enum rmj_status rmj_unigram_word(const struct rmj_vocab *vocab, struct rmj_word_scratch *scratch, struct rmj_span word,
                                 struct rmj_error *err)
{
    if (vocab->byte_level) {
        word = byte_characters(&scratch->characters, word);
        RMJ_TRY(rmj_buf_check(&scratch->characters, err));
    }
    if (!rmj_reserve((void **)&scratch->ids, &scratch->id_capacity, word.size + 1, sizeof *scratch->ids) ||
        !rmj_reserve((void **)&scratch->path, &scratch->path_capacity, word.size + 1, sizeof *scratch->path)) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to tokenize a text");
    }
    RMJ_TRY(find_paths(vocab, scratch->path, word, err));
    push_path(vocab, scratch, word);
    return RMJ_OK;
}
