// Pre-tokenizers: how a normalized text is split into words. Each is one struct rmj_pretokenizer; a piece runs through
// all of them in turn and what comes out of the last is a word for the model.
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

// The pattern of GPT-2's encoder.py.
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define PATTERN_SIZE_MAX ((size_t)1 << 14) // of those made here

// \w of Rust's regex; naming \p{L} brings the letters that PCRE2 does not know yet.
#define WORD_CHARACTERS "\\p{Alphabetic}\\p{L}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"

static const char *const BEHAVIORS[] = {
    [RMJ_SPLIT_ISOLATED] = "Isolated",
    [RMJ_SPLIT_REMOVED] = "Removed",
    [RMJ_SPLIT_CONTIGUOUS] = "Contiguous",
    [RMJ_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [RMJ_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
};

static enum rmj_status read_behavior(const json_t *part, const char *where, enum rmj_split_behavior *behavior,
                                     struct rmj_error *err)
{
    struct rmj_span name;
    RMJ_TRY(rmj_json_text(part, where, "behavior", &name, err));
    for (size_t i = 0; i < RMJ_COUNT(BEHAVIORS); i++) {
        if (strcmp(name.text, BEHAVIORS[i]) == 0) {
            *behavior = (enum rmj_split_behavior)i;
            return RMJ_OK;
        }
    }
    return rmj_fail(err, RMJ_DATA,
                    "%s: behavior %.40s is unknown; known are Isolated, Removed, Contiguous, MergedWithPrevious and "
                    "MergedWithNext",
                    where, name.text);
}

static enum rmj_status set_replacement(struct rmj_pretokenizer *step, struct rmj_span text, struct rmj_error *err)
{
    step->replacement = rmj_span_copy(text);
    step->replacement_size = text.size;
    return step->replacement == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a pre_tokenizer") : RMJ_OK;
}

static enum rmj_status set_pattern(struct rmj_pretokenizer *step, const char *pattern, enum rmj_split_behavior behavior,
                                   struct rmj_error *err)
{
    step->split = true;
    step->behavior = behavior;
    return rmj_regex_compile(&step->pattern, pattern, strlen(pattern), "pre_tokenizer", err);
}

static enum rmj_status read_split(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step, const json_t *part,
                                  struct rmj_error *err)
{
    (void)tokenizer;
    step->split = true;
    RMJ_TRY(rmj_regex_read(&step->pattern, json_object_get(part, "pattern"), "pre_tokenizer Split", err));
    RMJ_TRY(rmj_json_bool(part, "pre_tokenizer Split", "invert", false, &step->invert, err));
    return read_behavior(part, "pre_tokenizer Split", &step->behavior, err);
}

static enum rmj_status read_byte_level(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step,
                                       const json_t *part, struct rmj_error *err)
{
    bool prefix = false;
    bool regex = false;
    RMJ_TRY(rmj_json_bool(part, "pre_tokenizer ByteLevel", "add_prefix_space", true, &prefix, err));
    RMJ_TRY(rmj_json_bool(part, "pre_tokenizer ByteLevel", "use_regex", true, &regex, err));
    tokenizer->vocab.byte_level = true;
    step->prepend = prefix ? RMJ_PREPEND_ALWAYS : RMJ_PREPEND_NEVER;
    RMJ_TRY(set_replacement(step, (struct rmj_span){" ", 1}, err));
    return regex ? set_pattern(step, GPT2_PATTERN, RMJ_SPLIT_ISOLATED, err) : RMJ_OK;
}

static enum rmj_status read_metaspace(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step,
                                      const json_t *part, struct rmj_error *err)
{
    (void)tokenizer;
    const char *where = "pre_tokenizer Metaspace";
    struct rmj_span mark;
    RMJ_TRY(rmj_json_text(part, where, "replacement", &mark, err));
    size_t first = 0;
    if (mark.size == 0 || (rmj_rune_next(mark.text, mark.size, &first), first != mark.size)) {
        return rmj_fail(err, RMJ_DATA, "%s: replacement has to be one character", where);
    }
    RMJ_TRY(set_replacement(step, mark, err));
    step->replace_spaces = true;
    bool add_prefix = true;
    RMJ_TRY(rmj_json_bool(part, where, "add_prefix_space", true, &add_prefix, err));
    step->prepend = add_prefix ? RMJ_PREPEND_ALWAYS : RMJ_PREPEND_NEVER;
    const json_t *scheme = json_object_get(part, "prepend_scheme");
    if (scheme != NULL && !json_is_null(scheme)) {
        struct rmj_span name;
        RMJ_TRY(rmj_json_text(part, where, "prepend_scheme", &name, err));
        const char *const names[] = {"never", "first", "always"};
        size_t at = 0;
        while (at < RMJ_COUNT(names) && strcmp(name.text, names[at]) != 0) {
            at++;
        }
        if (at == RMJ_COUNT(names)) {
            return rmj_fail(err, RMJ_DATA, "%s: prepend_scheme has to be never, first or always", where);
        }
        if (!add_prefix && at != RMJ_PREPEND_NEVER) {
            return rmj_fail(err, RMJ_DATA, "%s: add_prefix_space false and prepend_scheme %s disagree", where,
                            names[at]);
        }
        step->prepend = (enum rmj_prepend)at;
    }
    RMJ_TRY(rmj_json_bool(part, where, "split", true, &step->split, err));
    step->behavior = RMJ_SPLIT_MERGED_WITH_NEXT;
    step->pattern.literal_size = mark.size;
    step->pattern.literal = rmj_span_copy(mark);
    return step->pattern.literal == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "%s: no memory", where) : RMJ_OK;
}

static enum rmj_status read_digits(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step, const json_t *part,
                                   struct rmj_error *err)
{
    (void)tokenizer;
    bool individual = false;
    RMJ_TRY(rmj_json_bool(part, "pre_tokenizer Digits", "individual_digits", false, &individual, err));
    // Rust's is_numeric has a newer Unicode than the patterns.
    return set_pattern(step, "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]",
                       individual ? RMJ_SPLIT_ISOLATED : RMJ_SPLIT_CONTIGUOUS, err);
}

static enum rmj_status read_punctuation(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step,
                                        const json_t *part, struct rmj_error *err)
{
    (void)tokenizer;
    struct rmj_buf pattern;
    rmj_buf_init(&pattern, PATTERN_SIZE_MAX);
    rmj_buf_puts(&pattern, "(?![");
    rmj_unicode_later_punctuation(&pattern);
    rmj_buf_puts(&pattern, "])[\\p{P}!-/:-@\\[-`{-~\\x{166d}\\x{111c9}]"); // the last two were punctuation once
    enum rmj_status status = set_pattern(step, rmj_buf_text(&pattern), RMJ_SPLIT_ISOLATED, err);
    rmj_buf_deinit(&pattern);
    RMJ_TRY(status);
    if (json_object_get(part, "behavior") == NULL) {
        return RMJ_OK;
    }
    return read_behavior(part, "pre_tokenizer Punctuation", &step->behavior, err);
}

static enum rmj_status read_whitespace(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step,
                                       const json_t *part, struct rmj_error *err)
{
    (void)tokenizer;
    (void)part;
    step->invert = true;
    return set_pattern(step, "[" WORD_CHARACTERS "]+|[^" WORD_CHARACTERS "\\s]+", RMJ_SPLIT_REMOVED, err);
}

static enum rmj_status read_whitespace_split(struct rmj_tokenizer *tokenizer, struct rmj_pretokenizer *step,
                                             const json_t *part, struct rmj_error *err)
{
    (void)tokenizer;
    (void)part;
    return set_pattern(step, "\\s", RMJ_SPLIT_REMOVED, err);
}

static const struct {
    const char *type;
    enum rmj_status (*read)(struct rmj_tokenizer *, struct rmj_pretokenizer *, const json_t *, struct rmj_error *);
} KINDS[] = {
    {"ByteLevel", read_byte_level},
    {"Split", read_split},
    {"Metaspace", read_metaspace},
    {"Digits", read_digits},
    {"Punctuation", read_punctuation},
    {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_whitespace_split},
};

enum rmj_status rmj_pretokenizer_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                     struct rmj_error *err)
{
    if (tokenizer->pretokenizer_count == RMJ_TOKENIZER_STEP_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "pre_tokenizer has more than %d parts", RMJ_TOKENIZER_STEP_COUNT_MAX);
    }
    if (tokenizer->vocab.byte_level) {
        return rmj_fail(err, RMJ_DATA, "pre_tokenizer %.40s comes after ByteLevel, which has to be the last part",
                        type);
    }
    struct rmj_pretokenizer *step = &tokenizer->pretokenizers[tokenizer->pretokenizer_count++];
    for (size_t i = 0; i < RMJ_COUNT(KINDS); i++) {
        if (strcmp(type, KINDS[i].type) == 0) {
            return KINDS[i].read(tokenizer, step, part, err);
        }
    }
    return rmj_fail(err, RMJ_DATA,
                    "pre_tokenizer %.40s is not supported; supported are ByteLevel, Split, Metaspace, Digits, "
                    "Punctuation, Whitespace, WhitespaceSplit and Sequence",
                    type);
}

// The pieces of one split on their way to the next stage: the last one waits while a neighbour may still join it.
struct splitter {
    const struct rmj_tokenizer *tokenizer;
    struct rmj_tokenizer_scratch *scratch;
    struct rmj_tokens *tokens;
    size_t stage; // of the next pre-tokenizer
    struct rmj_span text;
    bool text_at_start;
    enum rmj_split_behavior behavior;
    bool waiting;
    bool waiting_match;
    size_t waiting_start;
    size_t waiting_end;
};

static enum rmj_status emit(struct splitter *s, size_t start, size_t end, struct rmj_error *err)
{
    if (start == end) {
        return RMJ_OK;
    }
    return rmj_pretokenize(s->tokenizer, s->scratch, s->stage, (struct rmj_span){s->text.text + start, end - start},
                           s->text_at_start && start == 0, s->tokens, err);
}

static enum rmj_status flush(struct splitter *s, struct rmj_error *err)
{
    if (!s->waiting) {
        return RMJ_OK;
    }
    s->waiting = false;
    return emit(s, s->waiting_start, s->waiting_end, err);
}

static bool joins(const struct splitter *s, bool match)
{
    switch (s->behavior) {
    case RMJ_SPLIT_CONTIGUOUS:
        return match == s->waiting_match;
    case RMJ_SPLIT_MERGED_WITH_PREVIOUS:
        return match && !s->waiting_match;
    case RMJ_SPLIT_MERGED_WITH_NEXT:
        return !match && s->waiting_match;
    default:
        return false;
    }
}

static enum rmj_status segment(struct splitter *s, size_t start, size_t end, bool match, struct rmj_error *err)
{
    if (s->behavior == RMJ_SPLIT_ISOLATED || s->behavior == RMJ_SPLIT_REMOVED) {
        return match && s->behavior == RMJ_SPLIT_REMOVED ? RMJ_OK : emit(s, start, end, err);
    }
    if (s->waiting && joins(s, match)) {
        s->waiting_end = end;
        s->waiting_match = match;
        return RMJ_OK;
    }
    RMJ_TRY(flush(s, err));
    s->waiting = true;
    s->waiting_match = match;
    s->waiting_start = start;
    s->waiting_end = end;
    return RMJ_OK;
}

static enum rmj_status split(struct splitter *s, const struct rmj_pretokenizer *step, struct rmj_error *err)
{
    struct rmj_regex_walk walk = {.last_end = SIZE_MAX};
    size_t done = 0;
    size_t start;
    size_t end;
    int found;
    while ((found = rmj_regex_next(&step->pattern, s->scratch, s->text, &walk, &start, &end, err)) > 0) {
        if (done != start) {
            RMJ_TRY(segment(s, done, start, step->invert, err));
        }
        RMJ_TRY(segment(s, start, end, !step->invert, err));
        done = end;
    }
    if (found < 0) {
        return RMJ_DATA;
    }
    if (done != s->text.size) {
        RMJ_TRY(segment(s, done, s->text.size, step->invert, err));
    }
    return flush(s, err);
}

static bool starts_with(struct rmj_span text, const char *prefix, size_t size)
{
    return text.size >= size && memcmp(text.text, prefix, size) == 0;
}

// Spaces replaced and the mark put in front, when the step does that and the piece needs it.
static enum rmj_status rewrite(const struct rmj_pretokenizer *step, struct rmj_buf *out, struct rmj_span *text,
                               bool at_start, struct rmj_error *err)
{
    const char *mark = step->replacement;
    bool prepend = step->prepend == RMJ_PREPEND_ALWAYS || (step->prepend == RMJ_PREPEND_FIRST && at_start);
    prepend = prepend && !starts_with(*text, mark, step->replacement_size) &&
              !(step->replace_spaces && starts_with(*text, " ", 1));
    if (!prepend && !(step->replace_spaces && memchr(text->text, ' ', text->size) != NULL)) {
        return RMJ_OK;
    }
    rmj_buf_clear(out);
    if (prepend) {
        rmj_buf_append(out, mark, step->replacement_size);
    }
    size_t done = 0;
    const char *space;
    while (step->replace_spaces && (space = memchr(text->text + done, ' ', text->size - done)) != NULL) {
        size_t at = (size_t)(space - text->text);
        rmj_buf_append(out, text->text + done, at - done);
        rmj_buf_append(out, mark, step->replacement_size);
        done = at + 1;
    }
    rmj_buf_append(out, text->text + done, text->size - done);
    *text = (struct rmj_span){rmj_buf_text(out), out->size};
    return rmj_buf_check(out, err);
}

enum rmj_status rmj_pretokenize(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                                size_t stage, struct rmj_span text, bool at_start, struct rmj_tokens *tokens,
                                struct rmj_error *err)
{
    if (text.size == 0) {
        return RMJ_OK;
    }
    if (stage == tokenizer->pretokenizer_count) {
        return rmj_word_encode(&tokenizer->vocab, &scratch->word, text, tokens, err);
    }
    const struct rmj_pretokenizer *step = &tokenizer->pretokenizers[stage];
    if (step->replacement != NULL) {
        RMJ_TRY(rewrite(step, &scratch->stages[stage], &text, at_start, err));
    }
    if (!step->split) {
        return rmj_pretokenize(tokenizer, scratch, stage + 1, text, at_start, tokens, err);
    }
    struct splitter s = {.tokenizer = tokenizer,
                         .scratch = scratch,
                         .tokens = tokens,
                         .stage = stage + 1,
                         .text = text,
                         .text_at_start = at_start,
                         .behavior = step->behavior};
    return split(&s, step, err);
}
