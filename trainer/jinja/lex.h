// Source to tokens: text, tags and what is in them, with Jinja's control of white space already applied.
#ifndef RMJ_TRAINER_JINJA_LEX_H
#define RMJ_TRAINER_JINJA_LEX_H

#include "trainer/jinja/value.h"

enum jinja_token_kind {
    JINJA_T_END = 0,
    JINJA_T_DATA,
    JINJA_T_BLOCK_BEGIN,
    JINJA_T_BLOCK_END,
    JINJA_T_PRINT_BEGIN,
    JINJA_T_PRINT_END,
    JINJA_T_NAME,
    JINJA_T_STRING,
    JINJA_T_INTEGER,
    JINJA_T_FLOAT,
    JINJA_T_POW, // from here on: operators
    JINJA_T_FLOORDIV,
    JINJA_T_EQ,
    JINJA_T_NE,
    JINJA_T_GE,
    JINJA_T_LE,
    JINJA_T_ADD,
    JINJA_T_SUB,
    JINJA_T_MUL,
    JINJA_T_DIV,
    JINJA_T_MOD,
    JINJA_T_TILDE,
    JINJA_T_LBRACKET,
    JINJA_T_RBRACKET,
    JINJA_T_LPAREN,
    JINJA_T_RPAREN,
    JINJA_T_LBRACE,
    JINJA_T_RBRACE,
    JINJA_T_GT,
    JINJA_T_LT,
    JINJA_T_ASSIGN,
    JINJA_T_DOT,
    JINJA_T_COLON,
    JINJA_T_PIPE,
    JINJA_T_COMMA,
    JINJA_T_SEMICOLON,
    JINJA_T_KIND_COUNT
};

// text: of data, names and strings (unescaped).
struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    union {
        const struct jinja_string *text;
        int64_t integer;
        double real;
    };
};

struct jinja_tokens {
    struct jinja_token *items; // ends with JINJA_T_END
    size_t count, capacity;
};

// source: valid UTF-8.
void jinja_lex(struct jinja_state *state, const char *source, size_t size, struct jinja_tokens *tokens);
// How messages call a token: 'end of print statement', '+', a name.
const char *jinja_token_kind_text(enum jinja_token_kind kind);

#endif
