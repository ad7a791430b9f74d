// The model part of tokenizer.json: tokens by id, ids by text, characters and bytes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/tokenizer/internal.h"

enum rmj_status rmj_text_map_init(struct rmj_text_map *map, const struct rmj_span *texts, uint32_t count,
                                  struct rmj_error *err)
{
    uint32_t size = 16;
    while (size < 2 * count) {
        size *= 2;
    }
    map->slots = malloc(size * sizeof *map->slots);
    if (map->slots == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", count);
    }
    memset(map->slots, 0xff, size * sizeof *map->slots);
    map->mask = size - 1;
    map->texts = texts;
    return RMJ_OK;
}

static uint32_t map_slot(const struct rmj_text_map *map, const char *text, size_t size)
{
    uint32_t slot = (uint32_t)XXH3_64bits(text, size) & map->mask;
    while (map->slots[slot] >= 0) {
        const struct rmj_span *at = &map->texts[map->slots[slot]];
        if (at->size == size && memcmp(at->text, text, size) == 0) {
            break;
        }
        slot = (slot + 1) & map->mask;
    }
    return slot;
}

void rmj_text_map_put(struct rmj_text_map *map, int32_t id)
{
    map->slots[map_slot(map, map->texts[id].text, map->texts[id].size)] = id;
}

int32_t rmj_text_map_find(const struct rmj_text_map *map, const char *text, size_t size)
{
    return map->slots == NULL ? -1 : map->slots[map_slot(map, text, size)];
}

// Sizes of everything, and every id and text in range.
static enum rmj_status measure(struct rmj_vocab *vocab, const json_t *object, size_t *text_size, struct rmj_error *err)
{
    const char *key;
    json_t *value;
    int64_t id_max = -1;
    *text_size = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) >= RMJ_TOKENIZER_TOKEN_COUNT_MAX) {
            return rmj_fail(err, RMJ_DATA, "model.vocab: id of token \"%.60s\" has to be a whole number from 0 to %u",
                            key, RMJ_TOKENIZER_TOKEN_COUNT_MAX - 1);
        }
        size_t size = strlen(key);
        if (size > RMJ_TOKENIZER_TOKEN_SIZE_MAX) {
            return rmj_fail(err, RMJ_DATA, "model.vocab: token \"%.60s...\" has %zu bytes, the most is %zu", key, size,
                            RMJ_TOKENIZER_TOKEN_SIZE_MAX);
        }
        *text_size += size;
        id_max = json_integer_value(value) > id_max ? json_integer_value(value) : id_max;
    }
    vocab->id_end = (uint32_t)(id_max + 1);
    vocab->count = (uint32_t)json_object_size(object);
    return RMJ_OK;
}

static enum rmj_status read_tokens(struct rmj_vocab *vocab, const json_t *object, size_t *text_size,
                                   struct rmj_error *err)
{
    RMJ_TRY(measure(vocab, object, text_size, err));
    vocab->texts = calloc((size_t)vocab->id_end + 1, sizeof *vocab->texts);
    vocab->bytes = calloc((size_t)vocab->id_end + 1, sizeof *vocab->bytes);
    vocab->text_block = malloc(2 * *text_size + 1); // the bytes form is never longer than the text
    if (vocab->texts == NULL || vocab->bytes == NULL || vocab->text_block == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a vocabulary of %" PRIu32 " tokens", vocab->count);
    }
    RMJ_TRY(rmj_text_map_init(&vocab->map, vocab->texts, vocab->count, err));
    const char *key;
    json_t *value;
    char *put = vocab->text_block;
    json_object_foreach((json_t *)object, key, value)
    {
        int32_t id = (int32_t)json_integer_value(value);
        struct rmj_span *token = &vocab->texts[id];
        if (token->text != NULL) {
            return rmj_fail(err, RMJ_DATA, "model.vocab: tokens \"%.*s\" and \"%.60s\" have the same id %" PRId32,
                            (int)(token->size < 60 ? token->size : 60), token->text, key, id);
        }
        size_t size = strlen(key);
        memcpy(put, key, size);
        *token = (struct rmj_span){put, size};
        put += size;
        rmj_text_map_put(&vocab->map, id);
    }
    return RMJ_OK;
}

// The bytes that a token stands for under ByteLevel; tokens with other characters can never be met in a text.
static enum rmj_status read_byte_forms(struct rmj_vocab *vocab, char *put, struct rmj_error *err)
{
    RMJ_TRY(rmj_text_map_init(&vocab->byte_map, vocab->bytes, vocab->count, err));
    for (uint32_t id = 0; id < vocab->id_end; id++) {
        struct rmj_span token = vocab->texts[id];
        char *start = put;
        size_t offset = 0;
        bool whole = token.text != NULL;
        while (whole && offset < token.size) {
            int byte = rmj_rune_byte(rmj_rune_next(token.text, token.size, &offset));
            whole = byte >= 0;
            if (whole) {
                *put++ = (char)byte;
            }
        }
        if (!whole) {
            put = start;
            continue;
        }
        vocab->bytes[id] = (struct rmj_span){start, (size_t)(put - start)};
        rmj_text_map_put(&vocab->byte_map, (int32_t)id);
    }
    return RMJ_OK;
}

static enum rmj_status read_characters(struct rmj_vocab *vocab, struct rmj_error *err)
{
    for (uint32_t id = 0; id < vocab->id_end; id++) {
        struct rmj_span token = vocab->texts[id];
        size_t offset = 0;
        if (token.size == 0 || token.size > 4) {
            continue;
        }
        uint32_t rune = rmj_rune_next(token.text, token.size, &offset);
        if (offset != token.size) {
            continue;
        }
        int32_t **page = &vocab->rune_pages[rune / 256];
        if (*page == NULL) {
            *page = malloc(256 * sizeof **page);
            if (*page == NULL) {
                return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the characters of the vocabulary");
            }
            memset(*page, 0xff, 256 * sizeof **page);
        }
        (*page)[rune % 256] = (int32_t)id;
    }
    vocab->vanishes = false;
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        vocab->byte_fallback_ids[byte] = rmj_text_map_find(&vocab->map, name, strlen(name));
        vocab->vanishes = vocab->vanishes || vocab->byte_fallback_ids[byte] < 0;
        vocab->byte_level_ids[byte] = rmj_vocab_rune_id(vocab, rmj_byte_rune((uint8_t)byte));
    }
    return RMJ_OK;
}

int32_t rmj_vocab_rune_id(const struct rmj_vocab *vocab, uint32_t rune)
{
    const int32_t *page = vocab->rune_pages[rune / 256];
    return page == NULL ? -1 : page[rune % 256];
}

static enum rmj_status refuse_affix(const json_t *model, const char *key, struct rmj_error *err)
{
    const json_t *value = json_object_get(model, key);
    if (value == NULL || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0)) {
        return RMJ_OK;
    }
    return rmj_fail(err, RMJ_DATA, "model.%s is not supported yet; use a byte-level or SentencePiece-style BPE", key);
}

static enum rmj_status read_options(struct rmj_vocab *vocab, const json_t *model, struct rmj_error *err)
{
    RMJ_TRY(refuse_affix(model, "continuing_subword_prefix", err));
    RMJ_TRY(refuse_affix(model, "end_of_word_suffix", err));
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout != NULL && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0)) {
        return rmj_fail(err, RMJ_DATA, "model.dropout makes ids random; set it to null");
    }
    RMJ_TRY(rmj_json_bool(model, "model", "byte_fallback", false, &vocab->byte_fallback, err));
    RMJ_TRY(rmj_json_bool(model, "model", "fuse_unk", false, &vocab->fuse_unk, err));
    RMJ_TRY(rmj_json_bool(model, "model", "ignore_merges", false, &vocab->ignore_merges, err));
    vocab->vanishes = vocab->vanishes || !vocab->byte_fallback;
    vocab->unk_id = -1;
    const json_t *unk = json_object_get(model, "unk_token");
    if (unk != NULL && !json_is_null(unk)) {
        struct rmj_span text;
        RMJ_TRY(rmj_json_text(model, "model", "unk_token", &text, err));
        vocab->vanishes = false;
        vocab->unk_id = rmj_text_map_find(&vocab->map, text.text, text.size);
        if (vocab->unk_id < 0) {
            return rmj_fail(err, RMJ_DATA, "model.unk_token \"%.60s\" is not in model.vocab", text.text);
        }
    }
    return RMJ_OK;
}

enum model { MODEL_BPE, MODEL_UNIGRAM };

static enum rmj_status read_type(const json_t *model, enum model *kind, struct rmj_error *err)
{
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model) || (type != NULL && !json_is_string(type))) {
        return rmj_fail(err, RMJ_DATA, "\"model\" is missing or has no type; fetch the file again");
    }
    // Files of early versions name no type: only BPE has merges, and only Unigram a list of tokens.
    const char *name = type != NULL                                     ? json_string_value(type)
                       : json_object_get(model, "merges") != NULL       ? "BPE"
                       : json_is_array(json_object_get(model, "vocab")) ? "Unigram"
                                                                        : "unknown";
    *kind = strcmp(name, "Unigram") == 0 ? MODEL_UNIGRAM : MODEL_BPE;
    if (*kind == MODEL_BPE && strcmp(name, "BPE") != 0) {
        return rmj_fail(err, RMJ_DATA,
                        "model type %.40s is not supported; use a model whose tokenizer is BPE or Unigram (Llama, "
                        "Mistral, Qwen, Gemma, OLMo, GPT-2, T5, XLM-R)",
                        name);
    }
    return RMJ_OK;
}

static enum rmj_status load_bpe(struct rmj_vocab *vocab, const json_t *model, struct rmj_error *err)
{
    const json_t *object = json_object_get(model, "vocab");
    if (!json_is_object(object) || json_object_size(object) == 0) {
        return rmj_fail(err, RMJ_DATA, "model.vocab has to be an object of tokens and ids, and not empty");
    }
    size_t text_size = 0;
    RMJ_TRY(read_tokens(vocab, object, &text_size, err));
    if (vocab->byte_level) {
        RMJ_TRY(read_byte_forms(vocab, vocab->text_block + text_size, err));
    }
    RMJ_TRY(read_characters(vocab, err));
    RMJ_TRY(read_options(vocab, model, err));
    RMJ_TRY(rmj_merges_load(vocab, json_object_get(model, "merges"), err));
    return rmj_joins_build(vocab, err);
}

enum rmj_status rmj_vocab_load(struct rmj_tokenizer *tokenizer, const json_t *model, struct rmj_error *err)
{
    enum model kind = MODEL_BPE;
    RMJ_TRY(read_type(model, &kind, err));
    if (kind == MODEL_BPE) {
        return load_bpe(&tokenizer->vocab, model, err);
    }
    RMJ_TRY(rmj_unigram_load(&tokenizer->vocab, model, err));
    return read_characters(&tokenizer->vocab, err);
}

void rmj_vocab_deinit(struct rmj_vocab *vocab)
{
    free(vocab->texts);
    free(vocab->bytes);
    free(vocab->text_block);
    free(vocab->map.slots);
    free(vocab->byte_map.slots);
    free(vocab->merges);
    free(vocab->joins);
    free(vocab->unigram.scores);
    free(vocab->unigram.edges);
    for (size_t i = 0; i < RMJ_COUNT(vocab->rune_pages); i++) {
        free(vocab->rune_pages[i]);
    }
}
