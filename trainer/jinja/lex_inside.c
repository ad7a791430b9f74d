// Names, numbers, strings and operators.
#include "trainer/jinja/lex_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/jinja/unicode.h"

static int is_digit_of(char c, int base)
{
    if (base == 16) {
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
    }
    return c >= '0' && c < '0' + base;
}

// End of digits with single underscores between them; `from` when there are none.
static size_t digits_end(const struct jinja_lexer *lexer, size_t from, int base)
{
    const char *s = lexer->source;
    size_t at = from;
    while (is_digit_of(s[at], base) || (at > from && s[at] == '_' && is_digit_of(s[at + 1], base))) {
        at++;
    }
    return at;
}

static size_t copy_digits(const struct jinja_lexer *lexer, size_t end, char *out, size_t size)
{
    size_t count = 0;
    for (size_t i = lexer->at; i < end; i++) {
        if (lexer->source[i] != '_') {
            if (count + 1 >= size) {
                jinja_fail(lexer->state, "a number is too long");
            }
            out[count++] = lexer->source[i];
        }
    }
    out[count] = '\0';
    return count;
}

static int lex_float(struct jinja_lexer *lexer)
{
    const char *s = lexer->source;
    size_t whole = digits_end(lexer, lexer->at, 10), end = whole;
    if (whole == lexer->at || (lexer->at > 0 && s[lexer->at - 1] == '.')) {
        return 0;
    }
    if (s[end] == '.') {
        size_t fraction = digits_end(lexer, end + 1, 10);
        end = fraction > end + 1 ? fraction : end;
    }
    if ((s[end] | 32) == 'e') {
        size_t exponent = end + 1 + (s[end + 1] == '+' || s[end + 1] == '-');
        size_t exponent_end = digits_end(lexer, exponent, 10);
        end = exponent_end > exponent ? exponent_end : end;
    }
    if (end == whole) {
        return 0;
    }
    char text[400];
    copy_digits(lexer, end, text, sizeof(text));
    jinja_lex_add(lexer, JINJA_T_FLOAT)->real = strtod(text, NULL);
    jinja_lex_pass(lexer, end);
    return 1;
}

static int lex_integer(struct jinja_lexer *lexer)
{
    const char *s = lexer->source + lexer->at;
    size_t end;
    int base = 10;
    if (s[0] == '0' && strchr("xXoObB", s[1]) && s[1]) {
        base = (s[1] | 32) == 'x' ? 16 : (s[1] | 32) == 'o' ? 8 : 2;
        size_t from = lexer->at + 2 + (s[2] == '_');
        end = digits_end(lexer, from, base);
        if (end == from) {
            base = 10;
        }
    }
    if (base == 10) {
        end = s[0] == '0' ? digits_end(lexer, lexer->at, 1) : digits_end(lexer, lexer->at, 10);
    }
    if (end == lexer->at) {
        return 0;
    }
    char text[100];
    copy_digits(lexer, end, text, sizeof(text));
    errno = 0;
    long long value = strtoll(base == 10 ? text : text + 2, NULL, base);
    if (errno == ERANGE) {
        jinja_fail(lexer->state, "the integer %s is out of range", text);
    }
    jinja_lex_add(lexer, JINJA_T_INTEGER)->integer = value;
    jinja_lex_pass(lexer, end);
    return 1;
}

static int lex_name(struct jinja_lexer *lexer)
{
    size_t end = lexer->at;
    while (end < lexer->size && jinja_is_word(rmj_utf8_read(lexer->source + end))) {
        end += rmj_utf8_size((unsigned char)lexer->source[end]);
    }
    if (end == lexer->at) {
        return 0;
    }
    uint32_t first = rmj_utf8_read(lexer->source + lexer->at);
    if (first != '_' && !jinja_is_alpha(first)) {
        jinja_fail(lexer->state, "invalid character in identifier");
    }
    struct jinja_token *token = jinja_lex_add(lexer, JINJA_T_NAME);
    token->text = jinja_text(lexer->state, lexer->source + lexer->at, end - lexer->at).string;
    jinja_lex_pass(lexer, end);
    return 1;
}

// `count` hex digits after a backslash and its letter.
static uint32_t read_hex(struct jinja_lexer *lexer, size_t *at, size_t end, size_t count)
{
    uint32_t code = 0;
    for (size_t i = 0; i < count; i++, (*at)++) {
        char c = lexer->source[*at];
        if (*at >= end || !is_digit_of(c, 16)) {
            jinja_fail(lexer->state, "truncated \\x, \\u or \\U escape in a string");
        }
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        jinja_fail(lexer->state, "the escape of U+%04X in a string is no character", code);
    }
    return code;
}

// One escape; *at stands behind the backslash.
static size_t unescape(struct jinja_lexer *lexer, size_t *at, size_t end, char *out)
{
    static const char plain[] = "n\nr\rt\ta\ab\bf\fv\v\\\\''\"\"";
    char c = lexer->source[(*at)++];
    for (const char *p = plain; *p; p += 2) {
        if (*p == c) {
            *out = p[1];
            return 1;
        }
    }
    if (c == '\n') {
        return 0;
    }
    if (c >= '0' && c <= '7') {
        uint32_t code = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *at < end && is_digit_of(lexer->source[*at], 8); i++) {
            code = code << 3 | (uint32_t)(lexer->source[(*at)++] - '0');
        }
        return rmj_utf8_write(out, code);
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        return rmj_utf8_write(out, read_hex(lexer, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8));
    }
    if (c == 'N') {
        jinja_fail(lexer->state, "\\N{name} escapes are not supported");
    }
    out[0] = '\\'; // Python keeps what it does not know
    out[1] = c;
    return 2;
}

static int lex_string(struct jinja_lexer *lexer)
{
    char quote = lexer->source[lexer->at];
    if (quote != '"' && quote != '\'') {
        return 0;
    }
    size_t end = lexer->at + 1;
    while (end < lexer->size && lexer->source[end] != quote) {
        end += lexer->source[end] == '\\' ? 2 : 1;
    }
    if (end >= lexer->size) {
        jinja_fail(lexer->state, "a string does not end");
    }
    char *bytes = jinja_take(lexer->state, (end - lexer->at) * 2 + 4);
    size_t size = 0;
    for (size_t at = lexer->at + 1; at < end;) {
        char c = lexer->source[at++];
        if (c == '\\') {
            size += unescape(lexer, &at, end, bytes + size);
        } else {
            bytes[size++] = c;
        }
    }
    jinja_lex_add(lexer, JINJA_T_STRING)->text = jinja_text_borrow(lexer->state, bytes, size).string;
    jinja_lex_pass(lexer, end + 1);
    return 1;
}

static void balance(struct jinja_lexer *lexer, enum jinja_token_kind kind)
{
    if (kind == JINJA_T_LPAREN || kind == JINJA_T_LBRACKET || kind == JINJA_T_LBRACE) {
        if (lexer->bracket_count == JINJA_BRACKET_MAX) {
            jinja_fail(lexer->state, "brackets nested more than %d deep", JINJA_BRACKET_MAX);
        }
        lexer->brackets[lexer->bracket_count++] = (char)(kind + 1);
    } else if (kind == JINJA_T_RPAREN || kind == JINJA_T_RBRACKET || kind == JINJA_T_RBRACE) {
        if (lexer->bracket_count == 0) {
            jinja_fail(lexer->state, "unexpected '%s'", jinja_token_kind_text(kind));
        }
        char expected = lexer->brackets[--lexer->bracket_count];
        if (expected != (char)kind) {
            jinja_fail(lexer->state, "unexpected '%s', expected '%s'", jinja_token_kind_text(kind),
                       jinja_token_kind_text((enum jinja_token_kind)expected));
        }
    }
}

static int lex_operator(struct jinja_lexer *lexer)
{
    for (int kind = JINJA_T_POW; kind < JINJA_T_KIND_COUNT; kind++) { // the longer ones come first
        const char *text = jinja_token_kind_text((enum jinja_token_kind)kind);
        if (jinja_lex_starts(lexer, lexer->at, text)) {
            balance(lexer, (enum jinja_token_kind)kind);
            jinja_lex_add(lexer, (enum jinja_token_kind)kind);
            jinja_lex_pass(lexer, lexer->at + strlen(text));
            return 1;
        }
    }
    return 0;
}

void jinja_lex_inside(struct jinja_lexer *lexer)
{
    size_t after = jinja_lex_skip_space(lexer, lexer->at);
    if (after > lexer->at) {
        jinja_lex_pass(lexer, after);
        return;
    }
    if (!lex_float(lexer) && !lex_integer(lexer) && !lex_name(lexer) && !lex_string(lexer) && !lex_operator(lexer)) {
        size_t size = rmj_utf8_size((unsigned char)lexer->source[lexer->at]);
        jinja_fail(lexer->state, "unexpected character '%.*s'", (int)size, lexer->source + lexer->at);
    }
}
