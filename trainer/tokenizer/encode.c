// Text to ids: added tokens are cut out, what lies between is normalized, split and encoded.
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "trainer/tokenizer/internal.h"

void rmj_tokens_deinit(struct rmj_tokens *tokens)
{
    if (tokens != NULL) {
        free(tokens->ids);
        *tokens = (struct rmj_tokens){0};
    }
}

enum rmj_status rmj_tokens_append(struct rmj_tokens *tokens, const int32_t *ids, size_t count, struct rmj_error *err)
{
    if (count > tokens->capacity - tokens->count) {
        size_t capacity = tokens->capacity < 256 ? 256 : tokens->capacity;
        while (capacity - tokens->count < count) {
            capacity *= 2;
        }
        int32_t *grown = realloc(tokens->ids, capacity * sizeof *grown);
        if (grown == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu tokens", capacity);
        }
        tokens->ids = grown;
        tokens->capacity = capacity;
    }
    if (count > 0) {
        memcpy(tokens->ids + tokens->count, ids, count * sizeof *ids);
        tokens->count += count;
    }
    return RMJ_OK;
}

struct rmj_tokenizer_scratch *rmj_scratch_create(void)
{
    struct rmj_tokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < RMJ_COUNT(scratch->normalized); i++) {
        rmj_buf_init(&scratch->normalized[i], RMJ_TOKENIZER_WORK_SIZE_MAX);
    }
    for (size_t i = 0; i < RMJ_COUNT(scratch->stages); i++) {
        rmj_buf_init(&scratch->stages[i], RMJ_TOKENIZER_WORK_SIZE_MAX);
    }
    rmj_buf_init(&scratch->word.characters, RMJ_TOKENIZER_WORK_SIZE_MAX);
    scratch->word.cache = calloc(RMJ_WORD_CACHE_COUNT, sizeof *scratch->word.cache);
    scratch->match = pcre2_match_data_create(1, NULL);
    scratch->match_context = pcre2_match_context_create(NULL);
    scratch->jit_stack = pcre2_jit_stack_create((size_t)32 << 10, RMJ_TOKENIZER_JIT_STACK_MAX, NULL);
    if (scratch->word.cache == NULL || scratch->match == NULL || scratch->match_context == NULL) {
        rmj_scratch_destroy(scratch);
        return NULL;
    }
    pcre2_set_match_limit(scratch->match_context, RMJ_TOKENIZER_REGEX_MATCH_MAX);
    if (scratch->jit_stack != NULL) { // NULL where there is no just-in-time compiler
        pcre2_jit_stack_assign(scratch->match_context, NULL, scratch->jit_stack);
    }
    return scratch;
}

void rmj_scratch_destroy(struct rmj_tokenizer_scratch *scratch)
{
    if (scratch == NULL) {
        return;
    }
    rmj_word_scratch_deinit(&scratch->word);
    for (size_t i = 0; i < RMJ_COUNT(scratch->normalized); i++) {
        rmj_buf_deinit(&scratch->normalized[i]);
    }
    for (size_t i = 0; i < RMJ_COUNT(scratch->stages); i++) {
        rmj_buf_deinit(&scratch->stages[i]);
    }
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->match_context);
    pcre2_jit_stack_free(scratch->jit_stack);
    free(scratch);
}

struct rmj_tokenizer_scratch *rmj_scratch_take(const struct rmj_tokenizer *tokenizer)
{
    // The pool is the one part of an open tokenizer that changes; callers see the rest, which does not.
    struct rmj_tokenizer *pool = (struct rmj_tokenizer *)tokenizer;
    pthread_mutex_lock(&pool->lock);
    struct rmj_tokenizer_scratch *scratch = pool->idle;
    if (scratch != NULL) {
        pool->idle = scratch->next;
        pool->idle_count--;
    }
    pthread_mutex_unlock(&pool->lock);
    return scratch != NULL ? scratch : rmj_scratch_create();
}

void rmj_scratch_put(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch)
{
    struct rmj_tokenizer *pool = (struct rmj_tokenizer *)tokenizer;
    pthread_mutex_lock(&pool->lock);
    if (pool->idle_count < RMJ_TOKENIZER_SCRATCH_KEPT_MAX) {
        scratch->next = pool->idle;
        pool->idle = scratch;
        pool->idle_count++;
        scratch = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    rmj_scratch_destroy(scratch);
}

typedef enum rmj_status (*between_fn)(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                      struct rmj_span text, bool at_start, struct rmj_tokens *tokens,
                                      struct rmj_error *err);

// Appends the ids of added tokens in `text` and hands what lies between to `between`.
static enum rmj_status cut_added(const struct rmj_tokenizer *tokenizer, const struct rmj_trie *trie,
                                 struct rmj_tokenizer_scratch *scratch, struct rmj_span text, bool at_start,
                                 between_fn between, struct rmj_tokens *tokens, struct rmj_error *err)
{
    size_t done = 0;
    size_t from = 0;
    for (;;) {
        struct rmj_added_match match;
        RMJ_TRY(rmj_added_find(tokenizer, trie, scratch, text, from, done, &match, err));
        if (match.id < 0) {
            break;
        }
        if (done < match.start) {
            RMJ_TRY(between(tokenizer, scratch, (struct rmj_span){text.text + done, match.start - done},
                            at_start && done == 0, tokens, err));
        }
        RMJ_TRY(rmj_tokens_append(tokens, &match.id, 1, err));
        done = match.end;
        from = match.resume;
    }
    if (done == text.size) {
        return RMJ_OK;
    }
    return between(tokenizer, scratch, (struct rmj_span){text.text + done, text.size - done}, at_start && done == 0,
                   tokens, err);
}

static enum rmj_status encode_normalized(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                         struct rmj_span text, bool at_start, struct rmj_tokens *tokens,
                                         struct rmj_error *err)
{
    return rmj_pretokenize(tokenizer, scratch, 0, text, at_start, tokens, err);
}

static enum rmj_status encode_plain(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                    struct rmj_span text, bool at_start, struct rmj_tokens *tokens,
                                    struct rmj_error *err)
{
    RMJ_TRY(rmj_normalize(tokenizer, scratch, text, &text, &at_start, err));
    return cut_added(tokenizer, &tokenizer->added.normalized, scratch, text, at_start, encode_normalized, tokens, err);
}

enum rmj_status rmj_tokenizer_encode(const struct rmj_tokenizer *tokenizer, const char *text, size_t size,
                                     struct rmj_tokens *tokens, struct rmj_error *err)
{
    if (size > RMJ_TOKENIZER_TEXT_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "text has %zu bytes, the most is %zu", size, RMJ_TOKENIZER_TEXT_SIZE_MAX);
    }
    size_t valid = size == 0 ? 0 : rmj_text_utf8_valid(text, size);
    if (valid != size) {
        return rmj_fail(err, RMJ_DATA, "text is not UTF-8 at byte %zu", valid);
    }
    struct rmj_tokenizer_scratch *scratch = rmj_scratch_take(tokenizer);
    if (scratch == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to tokenize a text");
    }
    size_t count = tokens->count;
    enum rmj_status status = cut_added(tokenizer, &tokenizer->added.plain, scratch, (struct rmj_span){text, size}, true,
                                       encode_plain, tokens, err);
    if (status != RMJ_OK) {
        tokens->count = count;
    }
    rmj_scratch_put(tokenizer, scratch);
    return status;
}
