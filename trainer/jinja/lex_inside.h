// Between lex.c, which finds the tags, and lex_inside.c, which reads what is in them.
#ifndef RMJ_TRAINER_JINJA_LEX_INSIDE_H
#define RMJ_TRAINER_JINJA_LEX_INSIDE_H

#include "trainer/jinja/lex.h"

#define JINJA_BRACKET_MAX 200 // ( [ { inside each other

struct jinja_lexer {
    struct jinja_state *state;
    struct jinja_tokens *tokens;
    const char *source; // a NUL follows
    size_t size, at;
    int line_starting; // the last match ended a line
    char brackets[JINJA_BRACKET_MAX];
    size_t bracket_count;
};

struct jinja_token *jinja_lex_add(struct jinja_lexer *lexer, enum jinja_token_kind kind);
void jinja_lex_advance(struct jinja_lexer *lexer, size_t to);
void jinja_lex_pass(struct jinja_lexer *lexer, size_t to);
int jinja_lex_starts(const struct jinja_lexer *lexer, size_t at, const char *text);
size_t jinja_lex_skip_space(const struct jinja_lexer *lexer, size_t at);
// One token, or white space, at lexer->at.
void jinja_lex_inside(struct jinja_lexer *lexer);

#endif
