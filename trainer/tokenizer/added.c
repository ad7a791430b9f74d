// Added tokens: texts that become one id wherever they stand, before the model sees anything.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

#define ADDED_COUNT_MAX ((size_t)1 << 17)

static uint32_t find_child(const struct rmj_trie *trie, uint32_t node, uint8_t byte)
{
    uint32_t child = trie->nodes[node].child;
    while (child != 0 && trie->nodes[child].byte != byte) {
        child = trie->nodes[child].sibling;
    }
    return child;
}

static enum rmj_status trie_node(struct rmj_trie *trie, struct rmj_trie_node node, struct rmj_error *err)
{
    if (trie->count == trie->capacity) {
        uint32_t capacity = trie->capacity == 0 ? 256 : 2 * trie->capacity;
        struct rmj_trie_node *nodes = realloc(trie->nodes, capacity * sizeof *nodes);
        if (nodes == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens");
        }
        trie->nodes = nodes;
        trie->capacity = capacity;
    }
    trie->nodes[trie->count++] = node;
    return RMJ_OK;
}

// Of two tokens with the same text the first stays, as the public implementation's matcher has it.
static enum rmj_status trie_insert(struct rmj_trie *trie, struct rmj_span text, int32_t id, struct rmj_error *err)
{
    if (trie->count == 0) {
        RMJ_TRY(trie_node(trie, (struct rmj_trie_node){.id = -1}, err));
    }
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = (uint8_t)text.text[i];
        uint32_t child = find_child(trie, node, byte);
        if (child == 0) {
            child = trie->count;
            RMJ_TRY(trie_node(trie, (struct rmj_trie_node){.sibling = trie->nodes[node].child, .id = -1, .byte = byte},
                              err));
            trie->nodes[node].child = child;
        }
        if (i == 0) {
            trie->roots[byte] = child;
        }
        node = child;
    }
    if (trie->nodes[node].id < 0) {
        trie->nodes[node].id = id;
    }
    return RMJ_OK;
}

// The leftmost match at or after `from`, the longest of those that start there.
static int32_t trie_find(const struct rmj_trie *trie, struct rmj_span text, size_t from, size_t *start, size_t *end)
{
    for (size_t at = from; trie->count > 0 && at < text.size; at++) {
        uint32_t node = trie->roots[(uint8_t)text.text[at]];
        int32_t id = -1;
        for (size_t i = at + 1; node != 0; i++) {
            if (trie->nodes[node].id >= 0) {
                id = trie->nodes[node].id;
                *end = i;
            }
            node = i < text.size ? find_child(trie, node, (uint8_t)text.text[i]) : 0;
        }
        if (id >= 0) {
            *start = at;
            return id;
        }
    }
    return -1;
}

// Whether `text` is one character of a word (\w of the public implementation's own patterns).
static int is_word(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                   struct rmj_error *err)
{
    size_t start;
    size_t end;
    return rmj_regex_find(&tokenizer->word_character, scratch, text, 0, &start, &end, err);
}

// 1 when no character of a word touches text[start, end), 0 when one does, -1 on failure.
static int stands_alone(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                        struct rmj_span text, size_t start, size_t end, struct rmj_error *err)
{
    if (start > 0) {
        size_t before = start - 1;
        while (before > 0 && ((unsigned char)text.text[before] & 0xc0) == 0x80) {
            before--;
        }
        int word = is_word(tokenizer, scratch, (struct rmj_span){text.text + before, start - before}, err);
        if (word != 0) {
            return word < 0 ? -1 : 0;
        }
    }
    if (end < text.size) {
        size_t after = end;
        rmj_rune_next(text.text, text.size, &after);
        int word = is_word(tokenizer, scratch, (struct rmj_span){text.text + end, after - end}, err);
        return word < 0 ? -1 : !word;
    }
    return 1;
}

enum rmj_status rmj_added_find(const struct rmj_tokenizer *tokenizer, const struct rmj_trie *trie,
                               struct rmj_tokenizer_scratch *scratch, struct rmj_span text, size_t from, size_t covered,
                               struct rmj_added_match *match, struct rmj_error *err)
{
    size_t start = 0;
    size_t end = 0;
    match->id = -1;
    int32_t id;
    while ((id = trie_find(trie, text, from, &start, &end)) >= 0) {
        const struct rmj_added_token *token = rmj_added_by_id(&tokenizer->added, id);
        int alone = token->single_word ? stands_alone(tokenizer, scratch, text, start, end, err) : 1;
        if (alone < 0) {
            return RMJ_DATA;
        }
        from = end;
        if (alone > 0) {
            *match = (struct rmj_added_match){.id = id, .start = start, .end = end, .resume = end};
            if (token->lstrip) {
                // Not into what the token before took.
                size_t stripped = start - rmj_space_suffix(text.text, start);
                match->start = stripped > covered ? stripped : covered;
            }
            if (token->rstrip) {
                match->end += rmj_space_prefix(text.text + end, text.size - end);
            }
            return RMJ_OK;
        }
    }
    return RMJ_OK;
}

const struct rmj_added_token *rmj_added_by_id(const struct rmj_added *added, int32_t id)
{
    if (id < 0 || (uint32_t)id >= added->id_end || added->by_id[id] < 0) {
        return NULL;
    }
    return &added->tokens[added->by_id[id]];
}

int32_t rmj_added_by_content(const struct rmj_added *added, const char *content, size_t size)
{
    for (size_t i = 0; i < added->count; i++) {
        const struct rmj_span *at = &added->tokens[i].content;
        if (at->size == size && memcmp(at->text, content, size) == 0) {
            return added->tokens[i].id;
        }
    }
    return -1;
}

static enum rmj_status read_token(struct rmj_added_token *token, const json_t *object, size_t index,
                                  struct rmj_error *err)
{
    char where[40];
    snprintf(where, sizeof where, "added_tokens[%zu]", index);
    struct rmj_span content;
    uint64_t id = 0;
    RMJ_TRY(rmj_json_text(object, where, "content", &content, err));
    RMJ_TRY(rmj_json_count(object, where, "id", RMJ_TOKENIZER_TOKEN_COUNT_MAX - 1, &id, err));
    if (content.size == 0 || content.size > RMJ_TOKENIZER_TOKEN_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s: content has %zu bytes; it has to have 1 to %zu", where, content.size,
                        RMJ_TOKENIZER_TOKEN_SIZE_MAX);
    }
    token->id = (int32_t)id;
    RMJ_TRY(rmj_json_bool(object, where, "single_word", false, &token->single_word, err));
    RMJ_TRY(rmj_json_bool(object, where, "lstrip", false, &token->lstrip, err));
    RMJ_TRY(rmj_json_bool(object, where, "rstrip", false, &token->rstrip, err));
    RMJ_TRY(rmj_json_bool(object, where, "special", false, &token->special, err));
    RMJ_TRY(rmj_json_bool(object, where, "normalized", !token->special, &token->normalized, err));
    token->content.text = rmj_span_copy(content);
    token->content.size = content.size;
    return token->content.text == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens") : RMJ_OK;
}

// The public reader keeps a token's id when the vocabulary has it and counts on otherwise, whatever the file says. A
// file that says something else would give other ids here than there, so it is refused.
static enum rmj_status check_id(const struct rmj_vocab *vocab, const struct rmj_added_token *token, int32_t *next_id,
                                struct rmj_error *err)
{
    const char *content = token->content.text;
    int32_t known = rmj_text_map_find(&vocab->map, content, token->content.size);
    int32_t wanted = known >= 0 ? known : *next_id;
    if (token->id != wanted) {
        return rmj_fail(err, RMJ_DATA,
                        "added token \"%.60s\" has id %" PRId32 ", but %s gives it %" PRId32
                        "; save the tokenizer again with the public library",
                        content, token->id, known >= 0 ? "model.vocab" : "counting on from the vocabulary", wanted);
    }
    if (known < 0) {
        if ((uint32_t)token->id < vocab->id_end && vocab->texts[token->id].text != NULL) {
            return rmj_fail(err, RMJ_DATA, "added token \"%.60s\" and token \"%.*s\" have the same id %" PRId32,
                            content, (int)(vocab->texts[token->id].size < 60 ? vocab->texts[token->id].size : 60),
                            vocab->texts[token->id].text, token->id);
        }
        (*next_id)++;
    } else if (known >= *next_id) {
        *next_id = known + 1;
    }
    return RMJ_OK;
}

static enum rmj_status index_tokens(struct rmj_added *added, struct rmj_error *err)
{
    for (size_t i = 0; i < added->count; i++) {
        uint32_t end = (uint32_t)added->tokens[i].id + 1;
        added->id_end = end > added->id_end ? end : added->id_end;
    }
    added->by_id = malloc(((size_t)added->id_end + 1) * sizeof *added->by_id);
    if (added->by_id == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens");
    }
    memset(added->by_id, 0xff, ((size_t)added->id_end + 1) * sizeof *added->by_id);
    for (size_t i = 0; i < added->count; i++) {
        struct rmj_added_token *token = &added->tokens[i];
        if (added->by_id[token->id] >= 0) {
            return rmj_fail(err, RMJ_DATA, "added tokens \"%.60s\" and \"%.60s\" have the same id %" PRId32,
                            added->tokens[added->by_id[token->id]].content.text, token->content.text, token->id);
        }
        added->by_id[token->id] = (int32_t)i;
    }
    return RMJ_OK;
}

static enum rmj_status insert_token(struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                    struct rmj_added_token *token, struct rmj_error *err)
{
    struct rmj_added *added = &tokenizer->added;
    struct rmj_span text = token->content;
    bool at_start = true;
    if (token->normalized) {
        RMJ_TRY(rmj_normalize(tokenizer, scratch, token->content, &text, &at_start, err));
    }
    token->decoded = (struct rmj_span){rmj_span_copy(text), text.size};
    if (token->decoded.text == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens");
    }
    if (text.size == 0) {
        return rmj_fail(err, RMJ_DATA,
                        "added token \"%.60s\" is empty after normalization; set its \"normalized\" to false",
                        token->content.text);
    }
    return trie_insert(token->normalized ? &added->normalized : &added->plain, text, token->id, err);
}

static enum rmj_status read_list(struct rmj_tokenizer *tokenizer, const json_t *list, struct rmj_error *err)
{
    struct rmj_added *added = &tokenizer->added;
    size_t count = json_array_size(list);
    added->tokens = calloc(count + 1, sizeof *added->tokens);
    if (added->tokens == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens");
    }
    int32_t next_id = (int32_t)tokenizer->vocab.count;
    for (size_t i = 0; i < count; i++) {
        struct rmj_added_token *token = &added->tokens[i];
        added->count = i + 1; // before reading, so that a half-read one is freed
        RMJ_TRY(read_token(token, json_array_get(list, i), i, err));
        RMJ_TRY(check_id(&tokenizer->vocab, token, &next_id, err));
    }
    return index_tokens(added, err);
}

enum rmj_status rmj_added_load(struct rmj_tokenizer *tokenizer, const json_t *list, struct rmj_error *err)
{
    struct rmj_added *added = &tokenizer->added;
    if (list != NULL && !json_is_null(list) && (!json_is_array(list) || json_array_size(list) > ADDED_COUNT_MAX)) {
        return rmj_fail(err, RMJ_DATA, "added_tokens has to be a list of at most %zu tokens", ADDED_COUNT_MAX);
    }
    RMJ_TRY(read_list(tokenizer, list, err));
    struct rmj_tokenizer_scratch *scratch = rmj_scratch_create();
    enum rmj_status status = scratch == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for added tokens") : RMJ_OK;
    // Special ones first: that is whose id counts when two have the same text after normalization.
    for (int special = 1; special >= 0; special--) {
        for (size_t i = 0; status == RMJ_OK && i < added->count; i++) {
            if (added->tokens[i].special == (special == 1)) {
                status = insert_token(tokenizer, scratch, &added->tokens[i], err);
            }
        }
    }
    rmj_scratch_destroy(scratch);
    return status;
}

void rmj_added_deinit(struct rmj_added *added)
{
    for (size_t i = 0; i < added->count; i++) {
        free((char *)added->tokens[i].content.text);
        free((char *)added->tokens[i].decoded.text);
    }
    free(added->tokens);
    free(added->by_id);
    free(added->plain.nodes);
    free(added->normalized.nodes);
}
