// Statements.
#include <string.h>

#include "trainer/jinja/parse.h"

static void parse_until(struct jinja_parser *parser, struct jinja_body *body, const char *const *ends, int tag_line);

// What follows a tag's head: an optional colon, the end of the tag, statements up to one of `ends` (which is left to
// read, without its "{%").
static void parse_body(struct jinja_parser *parser, struct jinja_body *body, const char *const *ends, int line)
{
    jinja_parse_skip(parser, JINJA_T_COLON);
    jinja_parse_expect(parser, JINJA_T_BLOCK_END);
    parse_until(parser, body, ends, line);
}

#define ENDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void mark_stored(struct jinja_parser *parser, struct jinja_node *target)
{
    if (target->kind == JINJA_N_NAME) {
        target->is_stored = 1;
    } else if (target->kind == JINJA_N_TUPLE) {
        for (size_t i = 0; i < target->items.count; i++) {
            mark_stored(parser, target->items.items[i]);
        }
    } else if (target->kind != JINJA_N_NAMESPACE_REF) {
        jinja_parse_fail(parser, target->line, "cannot assign to this");
    }
}

static struct jinja_node *parse_target(struct jinja_parser *parser, int flags, const char *stop)
{
    struct jinja_node *target = jinja_parse_tuple(parser, JINJA_TUPLE_SIMPLE | flags, stop);
    mark_stored(parser, target);
    return target;
}

static struct jinja_node *parse_name_target(struct jinja_parser *parser)
{
    const struct jinja_token *token = jinja_parse_expect(parser, JINJA_T_NAME);
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_NAME, token->line);
    parser->state->line = token->line;
    node->name_id = jinja_name_id(parser->state, parser->names, token->text);
    node->text = token->text;
    node->is_stored = 1;
    return node;
}

static struct jinja_node *parse_set(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_SET, line);
    node->a = parse_target(parser, JINJA_TUPLE_NAMESPACE, NULL);
    if (jinja_parse_skip(parser, JINJA_T_ASSIGN)) {
        node->b = jinja_parse_tuple(parser, 0, NULL);
        return node;
    }
    node->kind = JINJA_N_SET_BLOCK;
    node->c = jinja_parse_filters(parser, NULL, 0);
    parse_body(parser, &node->body, ENDS("endset"), line);
    parser->at++;
    return node;
}

static struct jinja_node *parse_for(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_FOR, line);
    const struct jinja_token *target = parser->at;
    node->a = parse_target(parser, 0, "in");
    parser->at = (struct jinja_token *)target;
    node->d = parse_target(parser, 0, "in");
    jinja_parse_expect_name(parser, "in");
    node->b = jinja_parse_tuple(parser, JINJA_TUPLE_NO_CONDITION, "recursive");
    node->c = jinja_parse_skip_name(parser, "if") ? jinja_parse_expression(parser, 1) : NULL;
    node->is_recursive = jinja_parse_skip_name(parser, "recursive");
    int outer_depth = parser->loop_depth;
    parser->loop_depth++;
    parse_body(parser, &node->body, ENDS("endfor", "else"), line);
    parser->loop_depth = node->is_recursive ? 0 : outer_depth; // what stands after else is outside this loop
    if (jinja_parse_is_name(parser->at++, "else")) {
        parse_body(parser, &node->else_body, ENDS("endfor"), line);
        parser->at++;
    }
    parser->loop_depth = outer_depth;
    return node;
}

static struct jinja_node *parse_if(struct jinja_parser *parser, int line)
{
    struct jinja_node *first = jinja_parse_new(parser, JINJA_N_IF, line), *node = first;
    for (;;) {
        node->a = jinja_parse_tuple(parser, JINJA_TUPLE_NO_CONDITION, NULL);
        parse_body(parser, &node->body, ENDS("elif", "else", "endif"), line);
        const struct jinja_token *end = parser->at++;
        if (jinja_parse_is_name(end, "elif")) { // items: the further branches
            node = jinja_parse_new(parser, JINJA_N_IF, end->line);
            jinja_parse_append(parser, &first->items, node);
            continue;
        }
        if (jinja_parse_is_name(end, "else")) {
            parse_body(parser, &first->else_body, ENDS("endif"), line);
            parser->at++;
        }
        return first;
    }
}

static struct jinja_node *parse_with(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_WITH, line);
    while (parser->at->kind != JINJA_T_BLOCK_END) {
        if (node->items.count > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
        }
        jinja_parse_append(parser, &node->items, parse_target(parser, 0, NULL));
        jinja_parse_expect(parser, JINJA_T_ASSIGN);
        jinja_parse_append(parser, &node->items, jinja_parse_expression(parser, 1));
    }
    parse_body(parser, &node->body, ENDS("endwith"), line);
    parser->at++;
    return node;
}

// A macro is a function of its own: break and continue do not reach out of it.
static void parse_function_body(struct jinja_parser *parser, struct jinja_node *node, const char *end, int line)
{
    int outer_depth = parser->loop_depth;
    parser->loop_depth = 0;
    node->function = JINJA_NEW(parser->state, struct jinja_function);
    parse_body(parser, &node->body, ENDS(end), line);
    parser->at++;
    parser->loop_depth = outer_depth;
}

static void parse_signature(struct jinja_parser *parser, struct jinja_node *node)
{
    jinja_parse_expect(parser, JINJA_T_LPAREN);
    while (parser->at->kind != JINJA_T_RPAREN) {
        if (node->items.count > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
        }
        struct jinja_node *parameter = parse_name_target(parser);
        for (size_t i = 0; i < node->items.count; i++) {
            if (node->items.items[i]->name_id == parameter->name_id) {
                jinja_parse_fail(parser, parameter->line, "the parameter %s stands twice", parameter->text->bytes);
            }
        }
        jinja_parse_append(parser, &node->items, parameter);
        if (jinja_parse_skip(parser, JINJA_T_ASSIGN)) {
            jinja_parse_append(parser, &node->defaults, jinja_parse_expression(parser, 1));
        } else if (node->defaults.count > 0) {
            jinja_parse_fail(parser, parameter->line, "a parameter without a default follows one with a default");
        }
    }
    parser->at++;
}

static struct jinja_node *parse_macro(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_MACRO, line);
    struct jinja_node *name = parse_name_target(parser);
    node->name_id = name->name_id;
    node->text = name->text;
    parse_signature(parser, node);
    parse_function_body(parser, node, "endmacro", line);
    return node;
}

static struct jinja_node *parse_call_block(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_CALL_BLOCK, line);
    if (parser->at->kind == JINJA_T_LPAREN) {
        parse_signature(parser, node);
    }
    node->a = jinja_parse_expression(parser, 1);
    if (node->a->kind != JINJA_N_CALL) {
        jinja_parse_fail(parser, line, "a call block needs a call");
    }
    parse_function_body(parser, node, "endcall", line);
    return node;
}

static struct jinja_node *parse_generation(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_GENERATION, line);
    parse_function_body(parser, node, "endgeneration", line);
    return node;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_FILTER_BLOCK, line);
    node->a = jinja_parse_filters(parser, NULL, 1);
    parse_body(parser, &node->body, ENDS("endfilter"), line);
    parser->at++;
    return node;
}

static struct jinja_node *parse_print(struct jinja_parser *parser, int line)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_OUTPUT, line);
    while (parser->at->kind != JINJA_T_BLOCK_END) {
        if (node->items.count > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
        }
        jinja_parse_append(parser, &node->items, jinja_parse_expression(parser, 1));
    }
    return node;
}

static struct jinja_node *parse_loop_control(struct jinja_parser *parser, int line)
{
    int is_break = jinja_parse_is_name(parser->at - 1, "break");
    if (parser->loop_depth == 0) {
        jinja_parse_fail(parser, line, "%s outside of a loop", is_break ? "break" : "continue");
    }
    return jinja_parse_new(parser, is_break ? JINJA_N_BREAK : JINJA_N_CONTINUE, line);
}

static const struct {
    const char *name;
    struct jinja_node *(*parse)(struct jinja_parser *parser, int line); // NULL: known, but not supported
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"print", parse_print},
    {"break", parse_loop_control},
    {"continue", parse_loop_control},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"extends", NULL},
    {"block", NULL},
    {"autoescape", NULL},
    {"do", NULL},
    {"trans", NULL},
    {"debug", NULL},
};

static struct jinja_node *parse_statement(struct jinja_parser *parser, const char *const *ends, int tag_line)
{
    const struct jinja_token *token = parser->at;
    if (token->kind != JINJA_T_NAME) {
        jinja_parse_fail(parser, token->line, "expected the name of a tag");
    }
    for (size_t i = 0; i < RMJ_COUNT(statements); i++) {
        if (!jinja_parse_is_name(token, statements[i].name)) {
            continue;
        }
        if (!statements[i].parse) {
            jinja_parse_fail(parser, token->line, "the tag '%s' is not supported", statements[i].name);
        }
        parser->at++;
        return statements[i].parse(parser, token->line);
    }
    if (ends) {
        jinja_parse_fail(parser, token->line, "unknown tag '%s'; the tag of line %d waits for '%s'", token->text->bytes,
                         tag_line, ends[0]);
    }
    jinja_parse_fail(parser, token->line, "unknown tag '%s'", token->text->bytes);
}

static void append_output(struct jinja_parser *parser, struct jinja_body *body)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_OUTPUT, parser->at->line);
    parser->at++;
    jinja_parse_append(parser, &node->items, jinja_parse_tuple(parser, 0, NULL));
    jinja_parse_expect(parser, JINJA_T_PRINT_END);
    jinja_parse_append(parser, body, node);
}

static int is_end(const struct jinja_parser *parser, const char *const *ends)
{
    for (; ends && *ends; ends++) {
        if (jinja_parse_is_name(parser->at, *ends)) {
            return 1;
        }
    }
    return 0;
}

static void parse_until(struct jinja_parser *parser, struct jinja_body *body, const char *const *ends, int tag_line)
{
    jinja_enter(parser->state);
    while (parser->at->kind != JINJA_T_END) {
        struct jinja_node *node;
        switch (parser->at->kind) {
        case JINJA_T_DATA:
            node = jinja_parse_new(parser, JINJA_N_TEXT, parser->at->line);
            node->text = parser->at++->text;
            jinja_parse_append(parser, body, node);
            break;
        case JINJA_T_PRINT_BEGIN:
            append_output(parser, body);
            break;
        default:
            jinja_parse_expect(parser, JINJA_T_BLOCK_BEGIN);
            if (is_end(parser, ends)) {
                jinja_exit(parser->state);
                return;
            }
            jinja_parse_append(parser, body, parse_statement(parser, ends, tag_line));
            jinja_parse_expect(parser, JINJA_T_BLOCK_END);
        }
    }
    if (ends) {
        jinja_parse_fail(parser, parser->at->line, "the template ends; the tag of line %d waits for '%s'", tag_line,
                         ends[0]);
    }
    jinja_exit(parser->state);
}

void jinja_parse(struct jinja_state *state, struct jinja_names *names, struct jinja_tokens *tokens,
                 struct jinja_body *body)
{
    struct jinja_parser parser = {.state = state, .names = names, .at = tokens->items};
    parse_until(&parser, body, NULL, 0);
}
