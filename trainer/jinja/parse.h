// Tokens to a tree, with Jinja's grammar and its precedences.
#ifndef RMJ_TRAINER_JINJA_PARSE_H
#define RMJ_TRAINER_JINJA_PARSE_H

#include "trainer/jinja/ast.h"
#include "trainer/jinja/lex.h"

struct jinja_parser {
    struct jinja_state *state;
    struct jinja_names *names;
    struct jinja_token *at;
    int loop_depth; // for break and continue
};

void jinja_parse(struct jinja_state *state, struct jinja_names *names, struct jinja_tokens *tokens,
                 struct jinja_body *body);

// Between parse.c and parse_statement.c.
struct jinja_node *jinja_parse_new(struct jinja_parser *parser, enum jinja_node_kind kind, int line);
void jinja_parse_append(struct jinja_parser *parser, struct jinja_body *body, struct jinja_node *node);
int jinja_parse_is_name(const struct jinja_token *token, const char *name);
int jinja_parse_skip(struct jinja_parser *parser, enum jinja_token_kind kind);
int jinja_parse_skip_name(struct jinja_parser *parser, const char *name);
const struct jinja_token *jinja_parse_expect(struct jinja_parser *parser, enum jinja_token_kind kind);
void jinja_parse_expect_name(struct jinja_parser *parser, const char *name);
__attribute__((noreturn, format(printf, 3, 4))) void jinja_parse_fail(struct jinja_parser *parser, int line,
                                                                      const char *format, ...);
struct jinja_node *jinja_parse_expression(struct jinja_parser *parser, int with_condition);

enum jinja_tuple_flags {
    JINJA_TUPLE_SIMPLE = 1,       // names and literals only
    JINJA_TUPLE_NO_CONDITION = 2, // no `a if b else c`
    JINJA_TUPLE_PARENTHESES = 4,  // may be empty
    JINJA_TUPLE_NAMESPACE = 8     // `ns.name` counts as a name
};
// stop: a name that ends the tuple as well ("in"), or NULL.
struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, int flags, const char *stop);
// Filters after "|", or, when `is_block`, of {% filter %}, where the first has no bar.
struct jinja_node *jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *node, int is_block);

#endif
