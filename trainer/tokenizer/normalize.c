// Normalizers: what is done to a text before it is split.
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "trainer/tokenizer/internal.h"

#define NFC_OPTIONS (UTF8PROC_STABLE | UTF8PROC_COMPOSE)

struct unicode_form {
    const char *type;
    int options;
};

static const struct unicode_form UNICODE_FORMS[] = {
    {"NFC", NFC_OPTIONS},
    {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
    {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
    {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
};

static const struct {
    const char *type;
    enum rmj_normalizer_kind kind;
} PLAIN[] = {
    {"Lowercase", RMJ_NORMALIZE_LOWERCASE}, {"StripAccents", RMJ_NORMALIZE_STRIP_ACCENTS}, {"Nmt", RMJ_NORMALIZE_NMT}};

static enum rmj_status read_content(struct rmj_normalizer *step, const json_t *part, const char *where, const char *key,
                                    struct rmj_error *err)
{
    struct rmj_span text;
    RMJ_TRY(rmj_json_text(part, where, key, &text, err));
    step->content = rmj_span_copy(text);
    step->content_size = text.size;
    return step->content == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "%s: no memory", where) : RMJ_OK;
}

enum rmj_status rmj_normalizer_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                   struct rmj_error *err)
{
    if (tokenizer->normalizer_count == RMJ_TOKENIZER_STEP_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "normalizer has more than %d parts", RMJ_TOKENIZER_STEP_COUNT_MAX);
    }
    struct rmj_normalizer *step = &tokenizer->normalizers[tokenizer->normalizer_count++];
    for (size_t i = 0; i < RMJ_COUNT(UNICODE_FORMS); i++) {
        if (strcmp(type, UNICODE_FORMS[i].type) == 0) {
            step->kind = RMJ_NORMALIZE_UNICODE;
            step->unicode_options = UNICODE_FORMS[i].options;
            return RMJ_OK;
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(PLAIN); i++) {
        if (strcmp(type, PLAIN[i].type) == 0) {
            step->kind = PLAIN[i].kind;
            return RMJ_OK;
        }
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = RMJ_NORMALIZE_STRIP;
        RMJ_TRY(rmj_json_bool(part, "normalizer Strip", "strip_left", true, &step->strip_left, err));
        return rmj_json_bool(part, "normalizer Strip", "strip_right", true, &step->strip_right, err);
    }
    if (strcmp(type, "Prepend") == 0) {
        step->kind = RMJ_NORMALIZE_PREPEND;
        return read_content(step, part, "normalizer Prepend", "prepend", err);
    }
    if (strcmp(type, "Replace") == 0) {
        step->kind = RMJ_NORMALIZE_REPLACE;
        RMJ_TRY(rmj_regex_read(&step->pattern, json_object_get(part, "pattern"), "normalizer Replace", err));
        return read_content(step, part, "normalizer Replace", "content", err);
    }
    if (strcmp(type, "Precompiled") == 0) {
        step->kind = RMJ_NORMALIZE_PRECOMPILED;
        return rmj_charsmap_read(&step->charsmap, part, err);
    }
    return rmj_fail(err, RMJ_DATA,
                    "normalizer %.40s is not supported; supported are NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, "
                    "Nmt, Strip, Prepend, Replace, Precompiled and Sequence",
                    type);
}

static bool is_ascii(struct rmj_span text)
{
    unsigned char seen = 0;
    for (size_t i = 0; i < text.size; i++) {
        seen |= (unsigned char)text.text[i];
    }
    return seen < 0x80;
}

// Characters of which a text is its own NFC, whatever their order: none composes with another, none is a mark, and none
// has a canonical decomposition (Unicode Standard Annex 15, section 9: NFC_Quick_Check is Yes, and so it stays).
// Ranges, so that quotation marks, kana, ideographs and syllables cost nothing; what is left out is only slower.
static bool is_composed(struct rmj_span text)
{
    static const uint32_t ranges[][2] = {{0, 0x2ff},       {0x2010, 0x2027}, {0x2030, 0x205e}, {0x20a0, 0x20bf},
                                         {0x3001, 0x3029}, {0x3041, 0x3096}, {0x309d, 0x30ff}, {0x3400, 0x4db5},
                                         {0x4e00, 0x9fd5}, {0xac00, 0xd7a3}, {0xff01, 0xff60}, {0x1f300, 0x1f6d2}};
    size_t offset = 0;
    while (offset < text.size) {
        if ((unsigned char)text.text[offset] < 0x80) {
            offset++;
            continue;
        }
        uint32_t rune = rmj_rune_next(text.text, text.size, &offset);
        size_t i = 0;
        while (i < RMJ_COUNT(ranges) && (rune < ranges[i][0] || rune > ranges[i][1])) {
            i++;
        }
        if (i == RMJ_COUNT(ranges)) {
            return false;
        }
    }
    return true;
}

static enum rmj_status map_unicode(const struct rmj_normalizer *step, struct rmj_span text, struct rmj_buf *out,
                                   struct rmj_error *err)
{
    if (text.size == 0) {
        return RMJ_OK;
    }
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text.text, (utf8proc_ssize_t)text.size, &mapped,
                                         (utf8proc_option_t)step->unicode_options);
    if (size < 0) {
        return rmj_fail_origin(err, size == UTF8PROC_ERROR_NOMEM ? RMJ_NO_MEMORY : RMJ_DATA, "utf8proc", (int)size,
                               "normalizing a text failed: %s", utf8proc_errmsg(size));
    }
    rmj_buf_append(out, mapped, (size_t)size);
    free(mapped);
    return rmj_buf_check(out, err);
}

// What lies between opaque characters is normalized by itself: to the public tables they are starters that neither
// decompose nor compose, and nothing moves or joins across such a one.
static enum rmj_status apply_unicode(const struct rmj_normalizer *step, struct rmj_span text, struct rmj_buf *out,
                                     struct rmj_error *err)
{
    size_t done = 0;
    size_t offset = 0;
    while (offset < text.size) {
        size_t start = offset;
        if (rmj_unicode_is_opaque(rmj_rune_next(text.text, text.size, &offset))) {
            RMJ_TRY(map_unicode(step, (struct rmj_span){text.text + done, start - done}, out, err));
            rmj_buf_append(out, text.text + start, offset - start);
            done = offset;
        }
    }
    return map_unicode(step, (struct rmj_span){text.text + done, text.size - done}, out, err);
}

static void apply_lowercase(struct rmj_span text, struct rmj_buf *out)
{
    size_t offset = 0;
    while (offset < text.size) {
        uint32_t rune = rmj_rune_next(text.text, text.size, &offset);
        char bytes[4];
        if (rune == 0x130) { // the one letter whose lower case is two characters (SpecialCasing.txt)
            rmj_buf_puts(out, "i\xcc\x87");
            continue;
        }
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)rune);
        rmj_buf_append(out, bytes, rmj_utf8_write(bytes, lower == rune ? rmj_unicode_younger_lower(rune) : lower));
    }
}

static uint32_t without_marks(uint32_t rune)
{
    return rmj_unicode_is_mark(rune) ? 0 : rune;
}

// The table of SentencePiece's nmt rules, as the public implementation has it. NUL stays there, too.
static uint32_t nmt(uint32_t rune)
{
    if ((rune >= 1 && rune <= 8) || rune == 0xb || (rune >= 0xe && rune <= 0x1f) || rune == 0x7f || rune == 0x8f ||
        rune == 0x9f) {
        return 0;
    }
    bool space = rune == 9 || rune == 0xa || rune == 0xc || rune == 0xd || rune == 0x1680 ||
                 (rune >= 0x200b && rune <= 0x200f) || rune == 0x2028 || rune == 0x2029 || rune == 0x2581 ||
                 rune == 0xfeff || rune == 0xfffd;
    return space ? ' ' : rune;
}

// Every character as `map` has it; those that it makes 0 are left out. Returns whether the first one was.
static bool apply_map(uint32_t (*map)(uint32_t), struct rmj_span text, struct rmj_buf *out)
{
    bool first_left_out = false;
    size_t offset = 0;
    while (offset < text.size) {
        bool first = offset == 0;
        uint32_t rune = rmj_rune_next(text.text, text.size, &offset);
        uint32_t mapped = map(rune);
        char bytes[4];
        if (mapped != 0 || rune == 0) {
            rmj_buf_append(out, bytes, rmj_utf8_write(bytes, mapped));
        } else {
            first_left_out = first_left_out || first;
        }
    }
    return first_left_out;
}

enum rmj_status rmj_replace(const struct rmj_regex *pattern, struct rmj_span content,
                            struct rmj_tokenizer_scratch *scratch, struct rmj_span text, struct rmj_buf *out,
                            struct rmj_error *err)
{
    struct rmj_regex_walk walk = {.last_end = SIZE_MAX};
    size_t done = 0;
    size_t start;
    size_t end;
    int found;
    while ((found = rmj_regex_next(pattern, scratch, text, &walk, &start, &end, err)) > 0) {
        rmj_buf_append(out, text.text + done, start - done);
        rmj_buf_append(out, content.text, content.size);
        done = end;
    }
    if (found < 0) {
        return RMJ_DATA;
    }
    rmj_buf_append(out, text.text + done, text.size - done);
    return rmj_buf_check(out, err);
}

static bool begins_with_match(const struct rmj_regex *pattern, struct rmj_tokenizer_scratch *scratch,
                              struct rmj_span text)
{
    size_t start = 0;
    size_t end = 0;
    return rmj_regex_find(pattern, scratch, text, 0, &start, &end, NULL) > 0 && start == 0 && end > 0;
}

static enum rmj_status apply(const struct rmj_normalizer *step, struct rmj_tokenizer_scratch *scratch,
                             struct rmj_span *text, struct rmj_buf *out, bool *at_start, struct rmj_error *err)
{
    rmj_buf_clear(out);
    switch (step->kind) {
    case RMJ_NORMALIZE_UNICODE:
        if (is_ascii(*text) || (step->unicode_options == NFC_OPTIONS && is_composed(*text))) {
            return RMJ_OK;
        }
        RMJ_TRY(apply_unicode(step, *text, out, err));
        break;
    case RMJ_NORMALIZE_LOWERCASE:
        apply_lowercase(*text, out);
        break;
    case RMJ_NORMALIZE_STRIP_ACCENTS:
        *at_start = !apply_map(without_marks, *text, out) && *at_start;
        break;
    case RMJ_NORMALIZE_NMT:
        *at_start = !apply_map(nmt, *text, out) && *at_start;
        break;
    case RMJ_NORMALIZE_PRECOMPILED:
        rmj_charsmap_apply(&step->charsmap, *text, out);
        break;
    case RMJ_NORMALIZE_STRIP: {
        size_t left = step->strip_left ? rmj_space_prefix(text->text, text->size) : 0;
        *text = (struct rmj_span){text->text + left, text->size - left};
        text->size -= step->strip_right ? rmj_space_suffix(text->text, text->size) : 0;
        *at_start = *at_start && left == 0;
        return RMJ_OK;
    }
    case RMJ_NORMALIZE_PREPEND:
        if (text->size == 0) {
            return RMJ_OK;
        }
        rmj_buf_append(out, step->content, step->content_size);
        rmj_buf_append(out, text->text, text->size);
        break;
    case RMJ_NORMALIZE_REPLACE:
        if (step->content_size == 0 && begins_with_match(&step->pattern, scratch, *text)) {
            *at_start = false;
        }
        RMJ_TRY(rmj_replace(&step->pattern, (struct rmj_span){step->content, step->content_size}, scratch, *text, out,
                            err));
        break;
    }
    *text = (struct rmj_span){rmj_buf_text(out), out->size};
    return rmj_buf_check(out, err);
}

enum rmj_status rmj_normalize(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_scratch *scratch,
                              struct rmj_span text, struct rmj_span *result, bool *at_start, struct rmj_error *err)
{
    // Two buffers take turns: a step reads one and fills the other.
    size_t turn = 0;
    for (size_t i = 0; i < tokenizer->normalizer_count; i++) {
        struct rmj_buf *out = &scratch->normalized[turn];
        RMJ_TRY(apply(&tokenizer->normalizers[i], scratch, &text, out, at_start, err));
        turn ^= text.text == out->bytes;
    }
    *result = text;
    return RMJ_OK;
}
