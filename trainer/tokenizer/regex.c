// Patterns of tokenizer.json. They are written for Oniguruma; PCRE2 agrees once \s and \w are spelled as properties.
#include "trainer/tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

#define PATTERN_SIZE_MAX ((size_t)1 << 20)

// PCRE2's \s also takes U+180E, and its \w misses marks and letter-like symbols; the public implementation's do not.
static const char *const SPACE_SET = "\\p{White_Space}";
static const char *const WORD_SET = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

static void put_word_set(struct rmj_buf *out)
{
    rmj_buf_puts(out, WORD_SET);
    rmj_unicode_younger("w", out);
}

// \p{L} and the like with the characters that PCRE2 does not know yet. Returns the size of what it read, 0 when the
// escape at `text` is no general category.
static size_t rewrite_category(struct rmj_buf *out, const char *text, size_t size, bool in_class)
{
    bool negated = text[1] == 'P';
    const char *end = size > 3 && text[2] == '{' ? memchr(text, '}', size < 6 ? size : 6) : NULL;
    if (end == NULL || end - text < 4 || strchr("LMNPS", text[3]) == NULL || (negated && in_class)) {
        return 0;
    }
    char category[3] = {0};
    memcpy(category, text + 3, (size_t)(end - text) - 3);
    if (!in_class) {
        rmj_buf_puts(out, negated ? "[^" : "[");
    }
    rmj_buf_printf(out, "\\p{%s}", category);
    rmj_unicode_younger(category, out);
    if (!in_class) {
        rmj_buf_putc(out, ']');
    }
    return (size_t)(end - text) + 1;
}

static enum rmj_status rewrite_escape(struct rmj_buf *out, char letter, bool in_class, const char *where,
                                      struct rmj_error *err)
{
    switch (letter) {
    case 's':
        rmj_buf_puts(out, SPACE_SET);
        return RMJ_OK;
    case 'S':
        rmj_buf_puts(out, "\\P{White_Space}");
        return RMJ_OK;
    case 'w':
        rmj_buf_puts(out, in_class ? "" : "[");
        put_word_set(out);
        rmj_buf_puts(out, in_class ? "" : "]");
        return RMJ_OK;
    case 'W':
        if (!in_class) {
            rmj_buf_puts(out, "[^");
            put_word_set(out);
            rmj_buf_putc(out, ']');
            return RMJ_OK;
        }
        break;
    case 'h': // a hex digit there, horizontal space here
    case 'H':
    case 'b': // \b and \B follow \w
    case 'B':
        if (in_class && letter == 'b') {
            rmj_buf_puts(out, "\\b");
            return RMJ_OK;
        }
        break;
    default:
        rmj_buf_putc(out, '\\');
        rmj_buf_putc(out, letter);
        return RMJ_OK;
    }
    return rmj_fail(err, RMJ_DATA, "%s: regular expression uses \\%c%s, which is not supported", where, letter,
                    in_class ? " inside [ ]" : "");
}

// Oniguruma has sets inside sets and intersections; PCRE2 would read both as plain characters and match other text.
static enum rmj_status rewrite(struct rmj_buf *out, const char *pattern, size_t size, const char *where,
                               struct rmj_error *err)
{
    bool in_class = false;
    size_t class_start = 0;
    for (size_t i = 0; i < size; i++) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < size) {
            size_t taken = pattern[i + 1] == 'p' || pattern[i + 1] == 'P'
                               ? rewrite_category(out, pattern + i, size - i, in_class)
                               : 0;
            if (taken > 0) {
                i += taken - 1;
                continue;
            }
            RMJ_TRY(rewrite_escape(out, pattern[++i], in_class, where, err));
            continue;
        }
        if (in_class && c == '[' && i + 1 < size && pattern[i + 1] == ':') {
            const char *end = memmem(pattern + i, size - i, ":]", 2);
            if (end != NULL) {
                size_t length = (size_t)(end - (pattern + i)) + 2;
                rmj_buf_append(out, pattern + i, length);
                i += length - 1;
                continue;
            }
        }
        if (in_class && (c == '[' || (c == '&' && i + 1 < size && pattern[i + 1] == '&'))) {
            return rmj_fail(err, RMJ_DATA, "%s: regular expression uses %s inside [ ], which is not supported", where,
                            c == '[' ? "a set" : "&&");
        }
        if (!in_class && c == '[') {
            in_class = true;
            class_start = i + (i + 1 < size && pattern[i + 1] == '^' ? 2 : 1);
        } else if (in_class && c == ']' && i != class_start) {
            in_class = false;
        }
        rmj_buf_putc(out, c);
    }
    return rmj_buf_check(out, err);
}

enum rmj_status rmj_regex_compile(struct rmj_regex *regex, const char *pattern, size_t size, const char *where,
                                  struct rmj_error *err)
{
    struct rmj_buf out;
    rmj_buf_init(&out, PATTERN_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rewrite(&out, pattern, size, where, err));
    int code = 0;
    PCRE2_SIZE offset = 0;
    // Oniguruma's default syntax anchors ^ and $ at lines.
    regex->code = pcre2_compile((PCRE2_SPTR)rmj_buf_text(&out), out.size, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                &code, &offset, NULL);
    if (regex->code == NULL) {
        PCRE2_UCHAR text[200];
        pcre2_get_error_message(code, text, sizeof text);
        status = rmj_fail_origin(err, RMJ_DATA, "pcre2", code, "%s: regular expression does not compile: %s", where,
                                 (const char *)text);
        goto out;
    }
    // Without a just-in-time compiler on this machine the pattern is interpreted; the matches are the same.
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
out:
    rmj_buf_deinit(&out);
    return status;
}

enum rmj_status rmj_regex_read(struct rmj_regex *regex, const json_t *object, const char *where, struct rmj_error *err)
{
    const json_t *literal = json_object_get(object, "String");
    const json_t *pattern = json_object_get(object, "Regex");
    if (json_is_string(pattern)) {
        return rmj_regex_compile(regex, json_string_value(pattern), json_string_length(pattern), where, err);
    }
    if (!json_is_string(literal)) {
        return rmj_fail(err, RMJ_DATA, "%s: pattern has to be {\"String\": ...} or {\"Regex\": ...}", where);
    }
    if (json_string_length(literal) == 0) {
        return rmj_fail(err, RMJ_DATA, "%s: pattern is an empty text", where);
    }
    regex->literal_size = json_string_length(literal);
    regex->literal = rmj_span_copy((struct rmj_span){json_string_value(literal), regex->literal_size});
    return regex->literal == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "%s: no memory for a pattern", where) : RMJ_OK;
}

void rmj_regex_deinit(struct rmj_regex *regex)
{
    pcre2_code_free(regex->code);
    free(regex->literal);
    *regex = (struct rmj_regex){0};
}

int rmj_regex_find(const struct rmj_regex *regex, struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                   size_t from, size_t *start, size_t *end, struct rmj_error *err)
{
    if (from > text.size) {
        return 0;
    }
    if (regex->literal != NULL) {
        const char *found = memmem(text.text + from, text.size - from, regex->literal, regex->literal_size);
        if (found == NULL) {
            return 0;
        }
        *start = (size_t)(found - text.text);
        *end = *start + regex->literal_size;
        return 1;
    }
    int found = pcre2_match(regex->code, (PCRE2_SPTR)text.text, text.size, from, PCRE2_NO_UTF_CHECK, scratch->match,
                            scratch->match_context);
    if (found == PCRE2_ERROR_NOMATCH) {
        return 0;
    }
    if (found < 0) {
        PCRE2_UCHAR message[200];
        pcre2_get_error_message(found, message, sizeof message);
        rmj_fail_origin(err, RMJ_DATA, "pcre2", found,
                        "the tokenizer's regular expression gave up at byte %zu of a text of %zu: %s", from, text.size,
                        (const char *)message);
        return -1;
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->match);
    // \K can put the start behind the end; such a match is an empty one.
    *end = bounds[1];
    *start = bounds[0] < bounds[1] ? bounds[0] : bounds[1];
    if (*start < from) {
        *start = from;
        *end = *end < from ? from : *end;
    }
    return 1;
}

int rmj_regex_next(const struct rmj_regex *regex, struct rmj_tokenizer_scratch *scratch, struct rmj_span text,
                   struct rmj_regex_walk *walk, size_t *start, size_t *end, struct rmj_error *err)
{
    int found;
    while ((found = rmj_regex_find(regex, scratch, text, walk->from, start, end, err)) > 0) {
        walk->from = *end;
        if (*start != *end || *end != walk->last_end) {
            walk->last_end = *end;
            break;
        }
        if (*end == text.size) {
            return 0;
        }
        rmj_rune_next(text.text, text.size, &walk->from);
    }
    return found;
}
