// The rules are Jinja's with trim_blocks and lstrip_blocks: a newline after a block tag goes away, and so do blanks
// between the start of a line and a block tag; "-" at a tag's edge takes all white space there, "+" keeps all.
#include "trainer/jinja/lex.h"

#include <string.h>

#include "trainer/jinja/lex_inside.h"
#include "trainer/jinja/unicode.h"

const char *jinja_token_kind_text(enum jinja_token_kind kind)
{
    static const char *const texts[JINJA_T_KIND_COUNT] = {
        [JINJA_T_END] = "end of template",
        [JINJA_T_DATA] = "template text",
        [JINJA_T_BLOCK_BEGIN] = "begin of statement block",
        [JINJA_T_BLOCK_END] = "end of statement block",
        [JINJA_T_PRINT_BEGIN] = "begin of print statement",
        [JINJA_T_PRINT_END] = "end of print statement",
        [JINJA_T_NAME] = "name",
        [JINJA_T_STRING] = "string",
        [JINJA_T_INTEGER] = "integer",
        [JINJA_T_FLOAT] = "float",
        [JINJA_T_POW] = "**",
        [JINJA_T_FLOORDIV] = "//",
        [JINJA_T_EQ] = "==",
        [JINJA_T_NE] = "!=",
        [JINJA_T_GE] = ">=",
        [JINJA_T_LE] = "<=",
        [JINJA_T_ADD] = "+",
        [JINJA_T_SUB] = "-",
        [JINJA_T_MUL] = "*",
        [JINJA_T_DIV] = "/",
        [JINJA_T_MOD] = "%",
        [JINJA_T_TILDE] = "~",
        [JINJA_T_LBRACKET] = "[",
        [JINJA_T_RBRACKET] = "]",
        [JINJA_T_LPAREN] = "(",
        [JINJA_T_RPAREN] = ")",
        [JINJA_T_LBRACE] = "{",
        [JINJA_T_RBRACE] = "}",
        [JINJA_T_GT] = ">",
        [JINJA_T_LT] = "<",
        [JINJA_T_ASSIGN] = "=",
        [JINJA_T_DOT] = ".",
        [JINJA_T_COLON] = ":",
        [JINJA_T_PIPE] = "|",
        [JINJA_T_COMMA] = ",",
        [JINJA_T_SEMICOLON] = ";",
    };
    return texts[kind];
}

struct jinja_token *jinja_lex_add(struct jinja_lexer *lexer, enum jinja_token_kind kind)
{
    struct jinja_tokens *tokens = lexer->tokens;
    tokens->items =
        jinja_grow(lexer->state, tokens->items, &tokens->capacity, tokens->count + 1, sizeof(*tokens->items));
    struct jinja_token *token = &tokens->items[tokens->count++];
    *token = (struct jinja_token){.kind = kind, .line = lexer->state->line};
    return token;
}

void jinja_lex_advance(struct jinja_lexer *lexer, size_t to)
{
    for (; lexer->at < to; lexer->at++) {
        lexer->state->line += lexer->source[lexer->at] == '\n';
    }
}

int jinja_lex_starts(const struct jinja_lexer *lexer, size_t at, const char *text)
{
    size_t size = strlen(text);
    return lexer->size - at >= size && memcmp(lexer->source + at, text, size) == 0;
}

size_t jinja_lex_skip_space(const struct jinja_lexer *lexer, size_t at)
{
    while (at < lexer->size && jinja_is_space(rmj_utf8_read(lexer->source + at))) {
        at += rmj_utf8_size((unsigned char)lexer->source[at]);
    }
    return at;
}

// End of text[from, to) without the white space at its end.
static size_t trim_end(const struct jinja_lexer *lexer, size_t from, size_t to)
{
    while (to > from) {
        size_t last = to - 1;
        while (last > from && ((unsigned char)lexer->source[last] & 0xC0) == 0x80) {
            last--;
        }
        if (!jinja_is_space(rmj_utf8_read(lexer->source + last))) {
            break;
        }
        to = last;
    }
    return to;
}

// Emits the text [lexer->at, to) that stands before a tag with `sign` at its start.
static void add_data(struct jinja_lexer *lexer, size_t to, char sign, int is_print)
{
    size_t from = lexer->at, end = to;
    if (sign == '-') {
        end = trim_end(lexer, from, to);
    } else if (sign != '+' && !is_print) {
        const char *newline = to > from ? memrchr(lexer->source + from, '\n', to - from) : NULL;
        size_t line_start = newline ? (size_t)(newline - lexer->source) + 1 : from;
        if ((newline || lexer->line_starting) && trim_end(lexer, line_start, to) == line_start) {
            end = line_start;
        }
    }
    if (end > from) {
        struct jinja_token *token = jinja_lex_add(lexer, JINJA_T_DATA);
        token->text = jinja_text(lexer->state, lexer->source + from, end - from).string;
    }
    jinja_lex_advance(lexer, to);
}

// Remembers whether the last match ended a line, and moves on.
void jinja_lex_pass(struct jinja_lexer *lexer, size_t to)
{
    lexer->line_starting = to > lexer->at && lexer->source[to - 1] == '\n';
    jinja_lex_advance(lexer, to);
}

// Where a block or comment that closes with `close` at `at` ends: 0 when it does not close here. A newline after it
// goes.
static size_t closes(const struct jinja_lexer *lexer, size_t at, const char *close)
{
    char sign = lexer->source[at];
    if ((sign == '+' || sign == '-') && jinja_lex_starts(lexer, at + 1, close)) {
        return sign == '-' ? jinja_lex_skip_space(lexer, at + 3) : at + 3;
    }
    if (!jinja_lex_starts(lexer, at, close)) {
        return 0;
    }
    return at + 2 < lexer->size && lexer->source[at + 2] == '\n' ? at + 3 : at + 2;
}

static void lex_comment(struct jinja_lexer *lexer)
{
    for (size_t at = lexer->at; at < lexer->size; at++) {
        size_t end = closes(lexer, at, "#}");
        if (end) {
            jinja_lex_pass(lexer, end);
            return;
        }
    }
    jinja_fail(lexer->state, "missing end of comment tag");
}

static char sign_at(const struct jinja_lexer *lexer, size_t at)
{
    char sign = at < lexer->size ? lexer->source[at] : 0;
    return sign == '-' || sign == '+' ? sign : 0;
}

// `{% raw %}` starts here: its end; 0 when it does not.
static size_t raw_begin(const struct jinja_lexer *lexer, size_t at)
{
    at += 2;
    at += sign_at(lexer, at) != 0;
    at = jinja_lex_skip_space(lexer, at);
    if (!jinja_lex_starts(lexer, at, "raw")) {
        return 0;
    }
    at = jinja_lex_skip_space(lexer, at + 3);
    if (jinja_lex_starts(lexer, at, "-%}")) {
        return jinja_lex_skip_space(lexer, at + 3);
    }
    return jinja_lex_starts(lexer, at, "%}") ? at + 2 : 0;
}

static void lex_raw(struct jinja_lexer *lexer)
{
    for (size_t at = lexer->at; at < lexer->size; at++) {
        if (!jinja_lex_starts(lexer, at, "{%")) {
            continue;
        }
        char sign = sign_at(lexer, at + 2);
        size_t inside = jinja_lex_skip_space(lexer, at + 2 + (sign != 0));
        if (!jinja_lex_starts(lexer, inside, "endraw")) {
            continue;
        }
        inside = jinja_lex_skip_space(lexer, inside + 6);
        size_t end = inside < lexer->size ? closes(lexer, inside, "%}") : 0;
        if (end) {
            add_data(lexer, at, sign, 0);
            jinja_lex_pass(lexer, end);
            return;
        }
    }
    jinja_fail(lexer->state, "missing end of raw directive");
}

// The inside of `{{ }}` or `{% %}`, with its end.
static void lex_tag(struct jinja_lexer *lexer, int is_print)
{
    lexer->bracket_count = 0;
    while (lexer->at < lexer->size) {
        if (lexer->bracket_count == 0) {
            size_t end = 0;
            if (!is_print) {
                end = closes(lexer, lexer->at, "%}");
            } else if (jinja_lex_starts(lexer, lexer->at, "-}}")) {
                end = jinja_lex_skip_space(lexer, lexer->at + 3);
            } else if (jinja_lex_starts(lexer, lexer->at, "}}")) {
                end = lexer->at + 2;
            }
            if (end) {
                jinja_lex_add(lexer, is_print ? JINJA_T_PRINT_END : JINJA_T_BLOCK_END);
                jinja_lex_pass(lexer, end);
                return;
            }
        }
        jinja_lex_inside(lexer);
    }
}

// The next tag at or after `at`, or the end.
static size_t next_tag(const struct jinja_lexer *lexer, size_t at)
{
    while (at + 1 < lexer->size) {
        const char *brace = memchr(lexer->source + at, '{', lexer->size - at - 1);
        if (!brace) {
            break;
        }
        at = (size_t)(brace - lexer->source);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') {
            return at;
        }
        at++;
    }
    return lexer->size;
}

static void lex_root(struct jinja_lexer *lexer)
{
    lexer->line_starting = 1;
    while (lexer->at < lexer->size) {
        size_t tag = next_tag(lexer, lexer->at);
        if (tag == lexer->size) {
            add_data(lexer, tag, '+', 1);
            return;
        }
        char opener = lexer->source[tag + 1], sign = sign_at(lexer, tag + 2);
        size_t raw = opener == '%' ? raw_begin(lexer, tag) : 0;
        add_data(lexer, tag, sign, opener == '{');
        if (!raw && opener != '#') {
            jinja_lex_add(lexer, opener == '{' ? JINJA_T_PRINT_BEGIN : JINJA_T_BLOCK_BEGIN);
        }
        jinja_lex_pass(lexer, raw ? raw : tag + 2 + (sign != 0));
        if (raw) {
            lex_raw(lexer);
        } else if (opener == '#') {
            lex_comment(lexer);
        } else {
            lex_tag(lexer, opener == '{');
        }
    }
}

// "\r\n" and "\r" are newlines; one at the very end of the template is not part of it.
static size_t normalize(char *into, const char *source, size_t size)
{
    size_t out = 0;
    for (size_t i = 0; i < size; i++) {
        if (source[i] == '\r') {
            into[out++] = '\n';
            i += i + 1 < size && source[i + 1] == '\n';
        } else {
            into[out++] = source[i];
        }
    }
    return out > 0 && into[out - 1] == '\n' ? out - 1 : out;
}

void jinja_lex(struct jinja_state *state, const char *source, size_t size, struct jinja_tokens *tokens)
{
    char *text = jinja_take(state, size + 4); // NULs behind it: a look ahead stays inside
    struct jinja_lexer lexer = {.state = state, .tokens = tokens, .source = text};
    lexer.size = normalize(text, source, size);
    text[lexer.size] = '\0';
    state->line = 1;
    lex_root(&lexer);
    jinja_lex_add(&lexer, JINJA_T_END);
}
