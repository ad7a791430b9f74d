// Expressions.
#include "trainer/jinja/parse.h"

#include <stdio.h>
#include <string.h>

#include "trainer/jinja/builtin.h"

struct jinja_node *jinja_parse_new(struct jinja_parser *parser, enum jinja_node_kind kind, int line)
{
    struct jinja_node *node = JINJA_NEW(parser->state, struct jinja_node);
    node->kind = kind;
    node->line = line;
    return node;
}

void jinja_parse_append(struct jinja_parser *parser, struct jinja_body *body, struct jinja_node *node)
{
    body->items = jinja_grow(parser->state, body->items, &body->capacity, body->count + 1, sizeof(*body->items));
    body->items[body->count++] = node;
}

void jinja_parse_fail(struct jinja_parser *parser, int line, const char *format, ...)
{
    char message[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    parser->state->line = line;
    jinja_fail(parser->state, "%s", message);
}

int jinja_parse_is_name(const struct jinja_token *token, const char *name)
{
    return token->kind == JINJA_T_NAME && token->text->size == strlen(name) &&
           memcmp(token->text->bytes, name, token->text->size) == 0;
}

static const char *token_text(const struct jinja_token *token)
{
    return token->kind == JINJA_T_NAME && token->text->size < 100 ? token->text->bytes
                                                                  : jinja_token_kind_text(token->kind);
}

int jinja_parse_skip(struct jinja_parser *parser, enum jinja_token_kind kind)
{
    int found = parser->at->kind == kind;
    parser->at += found;
    return found;
}

int jinja_parse_skip_name(struct jinja_parser *parser, const char *name)
{
    int found = jinja_parse_is_name(parser->at, name);
    parser->at += found;
    return found;
}

const struct jinja_token *jinja_parse_expect(struct jinja_parser *parser, enum jinja_token_kind kind)
{
    if (parser->at->kind != kind) {
        jinja_parse_fail(parser, parser->at->line, "expected '%s', got '%s'", jinja_token_kind_text(kind),
                         token_text(parser->at));
    }
    return parser->at++;
}

void jinja_parse_expect_name(struct jinja_parser *parser, const char *name)
{
    if (!jinja_parse_skip_name(parser, name)) {
        jinja_parse_fail(parser, parser->at->line, "expected '%s', got '%s'", name, token_text(parser->at));
    }
}

static struct jinja_node *parse_or(struct jinja_parser *parser);
static struct jinja_node *parse_unary(struct jinja_parser *parser, int with_filters);

static struct jinja_node *binary(struct jinja_parser *parser, enum jinja_node_kind kind, int line,
                                 struct jinja_node *left, struct jinja_node *right)
{
    struct jinja_node *node = jinja_parse_new(parser, kind, line);
    node->a = left;
    node->b = right;
    return node;
}

static struct jinja_node *parse_condition(struct jinja_parser *parser)
{
    struct jinja_node *value = parse_or(parser);
    while (jinja_parse_is_name(parser->at, "if")) {
        struct jinja_node *node = jinja_parse_new(parser, JINJA_N_CONDITION, parser->at->line);
        parser->at++;
        node->a = value;
        node->b = parse_or(parser);
        node->c = jinja_parse_skip_name(parser, "else") ? jinja_parse_expression(parser, 1) : NULL;
        value = node;
    }
    return value;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *parser, int with_condition)
{
    jinja_enter(parser->state);
    struct jinja_node *node = with_condition ? parse_condition(parser) : parse_or(parser);
    jinja_exit(parser->state);
    return node;
}

static struct jinja_node *parse_not(struct jinja_parser *parser);

static struct jinja_node *parse_and(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_not(parser);
    while (jinja_parse_is_name(parser->at, "and")) {
        int line = parser->at++->line;
        left = binary(parser, JINJA_N_AND, line, left, parse_not(parser));
    }
    return left;
}

static struct jinja_node *parse_or(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_and(parser);
    while (jinja_parse_is_name(parser->at, "or")) {
        int line = parser->at++->line;
        left = binary(parser, JINJA_N_OR, line, left, parse_and(parser));
    }
    return left;
}

static struct jinja_node *parse_concat(struct jinja_parser *parser);

static struct jinja_node *parse_sum(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_concat(parser);
    while (parser->at->kind == JINJA_T_ADD || parser->at->kind == JINJA_T_SUB) {
        const struct jinja_token *token = parser->at++;
        left = binary(parser, JINJA_N_BINARY, token->line, left, parse_concat(parser));
        left->op = token->kind;
    }
    return left;
}

// The comparison that stands here, 0 for none.
static int comparison(struct jinja_parser *parser)
{
    switch (parser->at->kind) {
    case JINJA_T_EQ:
    case JINJA_T_NE:
    case JINJA_T_LT:
    case JINJA_T_LE:
    case JINJA_T_GT:
    case JINJA_T_GE:
        return (int)parser->at++->kind;
    default:
        break;
    }
    if (jinja_parse_skip_name(parser, "in")) {
        return JINJA_COMPARE_IN;
    }
    if (jinja_parse_is_name(parser->at, "not") && jinja_parse_is_name(parser->at + 1, "in")) {
        parser->at += 2;
        return JINJA_COMPARE_NOT_IN;
    }
    return 0;
}

static struct jinja_node *parse_compare(struct jinja_parser *parser)
{
    int line = parser->at->line;
    struct jinja_node *first = parse_sum(parser), *node = NULL;
    size_t capacity = 0;
    for (int op = comparison(parser); op; op = comparison(parser)) {
        if (!node) {
            node = jinja_parse_new(parser, JINJA_N_COMPARE, line);
            node->a = first;
        }
        size_t count = node->items.count + 1;
        node->operators = jinja_grow(parser->state, node->operators, &capacity, count, sizeof(*node->operators));
        node->operators[count - 1] = op;
        jinja_parse_append(parser, &node->items, parse_sum(parser));
    }
    return node ? node : first;
}

static struct jinja_node *parse_not(struct jinja_parser *parser)
{
    if (!jinja_parse_is_name(parser->at, "not")) {
        return parse_compare(parser);
    }
    jinja_enter(parser->state);
    int line = parser->at++->line;
    struct jinja_node *node = binary(parser, JINJA_N_NOT, line, parse_not(parser), NULL);
    jinja_exit(parser->state);
    return node;
}

static struct jinja_node *parse_power(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_unary(parser, 1);
    while (parser->at->kind == JINJA_T_POW) {
        int line = parser->at++->line;
        left = binary(parser, JINJA_N_BINARY, line, left, parse_unary(parser, 1));
        left->op = JINJA_T_POW;
    }
    return left;
}

static struct jinja_node *parse_product(struct jinja_parser *parser)
{
    struct jinja_node *left = parse_power(parser);
    while (parser->at->kind == JINJA_T_MUL || parser->at->kind == JINJA_T_DIV || parser->at->kind == JINJA_T_FLOORDIV ||
           parser->at->kind == JINJA_T_MOD) {
        const struct jinja_token *token = parser->at++;
        left = binary(parser, JINJA_N_BINARY, token->line, left, parse_power(parser));
        left->op = token->kind;
    }
    return left;
}

static struct jinja_node *parse_concat(struct jinja_parser *parser)
{
    int line = parser->at->line;
    struct jinja_node *first = parse_product(parser), *node = NULL;
    while (jinja_parse_skip(parser, JINJA_T_TILDE)) {
        if (!node) {
            node = jinja_parse_new(parser, JINJA_N_CONCAT, line);
            jinja_parse_append(parser, &node->items, first);
        }
        jinja_parse_append(parser, &node->items, parse_product(parser));
    }
    return node ? node : first;
}

static struct jinja_node *constant(struct jinja_parser *parser, int line, struct jinja_value value)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_CONST, line);
    node->value = value;
    return node;
}

static struct jinja_node *parse_name(struct jinja_parser *parser, int with_namespace)
{
    static const struct {
        const char *name;
        struct jinja_value value;
    } constants[] = {{"true", {.kind = JINJA_BOOL, .boolean = 1}},
                     {"True", {.kind = JINJA_BOOL, .boolean = 1}},
                     {"false", {.kind = JINJA_BOOL}},
                     {"False", {.kind = JINJA_BOOL}},
                     {"none", {.kind = JINJA_NONE}},
                     {"None", {.kind = JINJA_NONE}}};
    const struct jinja_token *token = parser->at++;
    for (size_t i = 0; i < RMJ_COUNT(constants); i++) {
        if (jinja_parse_is_name(token, constants[i].name)) {
            return constant(parser, token->line, constants[i].value);
        }
    }
    parser->state->line = token->line;
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_NAME, token->line);
    node->name_id = jinja_name_id(parser->state, parser->names, token->text);
    if (with_namespace && jinja_parse_skip(parser, JINJA_T_DOT)) {
        node->kind = JINJA_N_NAMESPACE_REF;
        node->text = jinja_parse_expect(parser, JINJA_T_NAME)->text;
    }
    return node;
}

// Strings that stand side by side are one.
static struct jinja_node *parse_string(struct jinja_parser *parser)
{
    const struct jinja_token *first = parser->at;
    size_t size = 0;
    for (; parser->at->kind == JINJA_T_STRING; parser->at++) {
        size += parser->at->text->size;
    }
    char *bytes = jinja_take(parser->state, size + 1), *out = bytes;
    for (const struct jinja_token *token = first; token < parser->at; token++) {
        memcpy(out, token->text->bytes, token->text->size);
        out += token->text->size;
    }
    return constant(parser, first->line, jinja_text_borrow(parser->state, bytes, size));
}

static struct jinja_node *parse_list(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_LIST, parser->at++->line);
    while (parser->at->kind != JINJA_T_RBRACKET) {
        if (node->items.count > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
            if (parser->at->kind == JINJA_T_RBRACKET) {
                break;
            }
        }
        jinja_parse_append(parser, &node->items, jinja_parse_expression(parser, 1));
    }
    parser->at++;
    return node;
}

static struct jinja_node *parse_dict(struct jinja_parser *parser)
{
    struct jinja_node *node = jinja_parse_new(parser, JINJA_N_DICT, parser->at++->line);
    while (parser->at->kind != JINJA_T_RBRACE) {
        if (node->items.count > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
            if (parser->at->kind == JINJA_T_RBRACE) {
                break;
            }
        }
        jinja_parse_append(parser, &node->items, jinja_parse_expression(parser, 1));
        jinja_parse_expect(parser, JINJA_T_COLON);
        jinja_parse_append(parser, &node->items, jinja_parse_expression(parser, 1));
    }
    parser->at++;
    return node;
}

static struct jinja_node *parse_primary(struct jinja_parser *parser, int with_namespace)
{
    const struct jinja_token *token = parser->at;
    struct jinja_node *node;
    switch (token->kind) {
    case JINJA_T_NAME:
        return parse_name(parser, with_namespace);
    case JINJA_T_STRING:
        return parse_string(parser);
    case JINJA_T_INTEGER:
        parser->at++;
        return constant(parser, token->line, jinja_int(token->integer));
    case JINJA_T_FLOAT:
        parser->at++;
        return constant(parser, token->line, jinja_float(token->real));
    case JINJA_T_LPAREN:
        parser->at++;
        node = jinja_parse_tuple(parser, JINJA_TUPLE_PARENTHESES, NULL);
        jinja_parse_expect(parser, JINJA_T_RPAREN);
        return node;
    case JINJA_T_LBRACKET:
        return parse_list(parser);
    case JINJA_T_LBRACE:
        return parse_dict(parser);
    default:
        jinja_parse_fail(parser, token->line, "unexpected '%s'", token_text(token));
    }
}

static int ends_tuple(const struct jinja_parser *parser, const char *stop)
{
    enum jinja_token_kind kind = parser->at->kind;
    return kind == JINJA_T_PRINT_END || kind == JINJA_T_BLOCK_END || kind == JINJA_T_RPAREN ||
           (stop && jinja_parse_is_name(parser->at, stop));
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *parser, int flags, const char *stop)
{
    struct jinja_node *tuple = jinja_parse_new(parser, JINJA_N_TUPLE, parser->at->line);
    int is_tuple = 0;
    jinja_enter(parser->state);
    while (!ends_tuple(parser, stop)) {
        struct jinja_node *item = flags & JINJA_TUPLE_SIMPLE
                                      ? parse_primary(parser, flags & JINJA_TUPLE_NAMESPACE)
                                      : jinja_parse_expression(parser, !(flags & JINJA_TUPLE_NO_CONDITION));
        jinja_parse_append(parser, &tuple->items, item);
        if (!jinja_parse_skip(parser, JINJA_T_COMMA)) {
            break;
        }
        is_tuple = 1;
    }
    jinja_exit(parser->state);
    if (!is_tuple && tuple->items.count == 1) {
        return tuple->items.items[0];
    }
    if (!is_tuple && !(flags & JINJA_TUPLE_PARENTHESES)) {
        jinja_parse_fail(parser, parser->at->line, "expected an expression, got '%s'", token_text(parser->at));
    }
    return tuple;
}

static void parse_keyword(struct jinja_parser *parser, struct jinja_node_arguments *arguments)
{
    const struct jinja_string *name = parser->at->text;
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (arguments->keywords[i].name->size == name->size &&
            memcmp(arguments->keywords[i].name->bytes, name->bytes, name->size) == 0) {
            jinja_parse_fail(parser, parser->at->line, "the argument %s is given twice", name->bytes);
        }
    }
    parser->at += 2;
    arguments->keywords = jinja_grow(parser->state, arguments->keywords, &arguments->keyword_capacity,
                                     arguments->keyword_count + 1, sizeof(*arguments->keywords));
    struct jinja_node_keyword *keyword = &arguments->keywords[arguments->keyword_count++];
    keyword->name = name;
    keyword->value = jinja_parse_expression(parser, 1);
}

static struct jinja_node_arguments *parse_arguments(struct jinja_parser *parser)
{
    struct jinja_node_arguments *arguments = JINJA_NEW(parser->state, struct jinja_node_arguments);
    int line = jinja_parse_expect(parser, JINJA_T_LPAREN)->line, in_order = 1;
    for (size_t i = 0; parser->at->kind != JINJA_T_RPAREN; i++) {
        if (i > 0) {
            jinja_parse_expect(parser, JINJA_T_COMMA);
            if (parser->at->kind == JINJA_T_RPAREN) {
                break;
            }
        }
        if (jinja_parse_skip(parser, JINJA_T_MUL)) {
            in_order = !arguments->star && !arguments->star_star;
            arguments->star = jinja_parse_expression(parser, 1);
        } else if (jinja_parse_skip(parser, JINJA_T_POW)) {
            in_order = !arguments->star_star;
            arguments->star_star = jinja_parse_expression(parser, 1);
        } else if (parser->at->kind == JINJA_T_NAME && parser->at[1].kind == JINJA_T_ASSIGN) {
            in_order = !arguments->star_star;
            parse_keyword(parser, arguments);
        } else {
            in_order = !arguments->star && !arguments->star_star && arguments->keyword_count == 0;
            jinja_parse_append(parser, &arguments->items, jinja_parse_expression(parser, 1));
        }
        if (!in_order) {
            jinja_parse_fail(parser, line, "the arguments of a call are out of order");
        }
    }
    parser->at++;
    return arguments;
}

// One part between brackets: an expression or a slice of `node`.
static struct jinja_node *parse_subscript(struct jinja_parser *parser, struct jinja_node *node, int line)
{
    struct jinja_node *parts[3] = {0};
    int is_slice = 0;
    if (parser->at->kind != JINJA_T_COLON) {
        parts[0] = jinja_parse_expression(parser, 1);
    }
    for (int i = 1; i < 3 && jinja_parse_skip(parser, JINJA_T_COLON); i++) {
        is_slice = 1;
        if (parser->at->kind != JINJA_T_COLON && parser->at->kind != JINJA_T_RBRACKET &&
            parser->at->kind != JINJA_T_COMMA) {
            parts[i] = jinja_parse_expression(parser, 1);
        }
    }
    if (!is_slice) {
        return binary(parser, JINJA_N_ITEM, line, node, parts[0]);
    }
    struct jinja_node *slice = binary(parser, JINJA_N_SLICE, line, node, NULL);
    for (int i = 0; i < 3; i++) {
        jinja_parse_append(parser, &slice->items, parts[i]);
    }
    return slice;
}

static struct jinja_node *parse_brackets(struct jinja_parser *parser, struct jinja_node *node)
{
    int line = parser->at++->line;
    if (parser->at->kind == JINJA_T_RBRACKET) {
        jinja_parse_fail(parser, line, "expected an expression between [ and ]");
    }
    struct jinja_node *item = parse_subscript(parser, node, line);
    if (parser->at->kind == JINJA_T_COMMA) { // a[b, c]: the key is a tuple
        struct jinja_node *tuple = jinja_parse_new(parser, JINJA_N_TUPLE, line);
        jinja_parse_append(parser, &tuple->items, item->b);
        while (item->kind == JINJA_N_ITEM && jinja_parse_skip(parser, JINJA_T_COMMA)) {
            jinja_parse_append(parser, &tuple->items, jinja_parse_expression(parser, 1));
        }
        item->b = tuple;
    }
    jinja_parse_expect(parser, JINJA_T_RBRACKET);
    return item;
}

static struct jinja_node *parse_member(struct jinja_parser *parser, struct jinja_node *node)
{
    int line = parser->at++->line;
    const struct jinja_token *token = parser->at++;
    if (token->kind == JINJA_T_INTEGER) {
        return binary(parser, JINJA_N_ITEM, line, node, constant(parser, token->line, jinja_int(token->integer)));
    }
    if (token->kind != JINJA_T_NAME) {
        jinja_parse_fail(parser, token->line, "expected a name or number after '.'");
    }
    struct jinja_node *member = binary(parser, JINJA_N_MEMBER, line, node, NULL);
    member->text = token->text;
    return member;
}

static struct jinja_node *parse_call(struct jinja_parser *parser, struct jinja_node *node)
{
    struct jinja_node *call = binary(parser, JINJA_N_CALL, parser->at->line, node, NULL);
    call->arguments = parse_arguments(parser);
    return call;
}

// Every link of a chain is one level deeper to evaluate, so chains are bounded too.
static void count_link(struct jinja_parser *parser, int *links)
{
    if (++*links > JINJA_CHAIN_MAX) {
        jinja_parse_fail(parser, parser->at->line, "more than %d calls, filters or items in a row", JINJA_CHAIN_MAX);
    }
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node, int *links)
{
    for (;; count_link(parser, links)) {
        if (parser->at->kind == JINJA_T_DOT) {
            node = parse_member(parser, node);
        } else if (parser->at->kind == JINJA_T_LBRACKET) {
            node = parse_brackets(parser, node);
        } else if (parser->at->kind == JINJA_T_LPAREN) {
            node = parse_call(parser, node);
        } else {
            return node;
        }
    }
}

// Names with dots name nothing here, but are read whole so that the message can say them.
static const struct jinja_string *parse_dotted(struct jinja_parser *parser)
{
    const struct jinja_string *name = jinja_parse_expect(parser, JINJA_T_NAME)->text;
    if (parser->at->kind == JINJA_T_DOT) {
        jinja_parse_fail(parser, parser->at->line, "filters and tests with a dot in their name (%s.) are not supported",
                         name->bytes);
    }
    return name;
}

struct jinja_node *jinja_parse_filters(struct jinja_parser *parser, struct jinja_node *node, int is_block)
{
    int links = 0;
    while (is_block || jinja_parse_skip(parser, JINJA_T_PIPE)) {
        is_block = 0;
        int line = parser->at->line;
        const struct jinja_string *name = parse_dotted(parser);
        node = binary(parser, JINJA_N_FILTER, line, node, NULL);
        node->text = name;
        node->builtin = jinja_find_filter(name->bytes, name->size);
        if (!node->builtin) {
            jinja_parse_fail(parser, line, "filter '%s' is not supported", name->bytes);
        }
        if (parser->at->kind == JINJA_T_LPAREN) {
            node->arguments = parse_arguments(parser);
        }
        const char *kind = NULL;
        const struct jinja_string *unknown = jinja_unknown_builtin(node, &kind);
        if (unknown) {
            jinja_parse_fail(parser, line, "%s '%s' is not supported", kind, unknown->bytes);
        }
        count_link(parser, &links);
    }
    return node;
}

static int starts_argument(const struct jinja_token *token)
{
    switch (token->kind) {
    case JINJA_T_NAME:
        return !jinja_parse_is_name(token, "else") && !jinja_parse_is_name(token, "or") &&
               !jinja_parse_is_name(token, "and");
    case JINJA_T_STRING:
    case JINJA_T_INTEGER:
    case JINJA_T_FLOAT:
    case JINJA_T_LBRACKET:
    case JINJA_T_LBRACE:
        return 1;
    default:
        return 0;
    }
}

static struct jinja_node *parse_test(struct jinja_parser *parser, struct jinja_node *node, int *links)
{
    int line = parser->at++->line;
    int is_negated = jinja_parse_skip_name(parser, "not");
    const struct jinja_string *name = parse_dotted(parser);
    node = binary(parser, JINJA_N_TEST, line, node, NULL);
    node->text = name;
    node->builtin = jinja_find_test(name->bytes, name->size);
    if (!node->builtin) {
        jinja_parse_fail(parser, line, "test '%s' is not supported", name->bytes);
    }
    if (parser->at->kind == JINJA_T_LPAREN) {
        node->arguments = parse_arguments(parser);
    } else if (starts_argument(parser->at)) {
        if (jinja_parse_is_name(parser->at, "is")) {
            jinja_parse_fail(parser, parser->at->line, "tests cannot be chained with 'is'");
        }
        node->arguments = JINJA_NEW(parser->state, struct jinja_node_arguments);
        struct jinja_node *argument = parse_postfix(parser, parse_primary(parser, 0), links);
        jinja_parse_append(parser, &node->arguments->items, argument);
    }
    return is_negated ? binary(parser, JINJA_N_NOT, line, node, NULL) : node;
}

static struct jinja_node *parse_unary(struct jinja_parser *parser, int with_filters)
{
    struct jinja_node *node;
    int line = parser->at->line, links = 0;
    jinja_enter(parser->state);
    if (jinja_parse_skip(parser, JINJA_T_SUB)) {
        node = binary(parser, JINJA_N_NEGATIVE, line, parse_unary(parser, 0), NULL);
    } else if (jinja_parse_skip(parser, JINJA_T_ADD)) {
        node = binary(parser, JINJA_N_POSITIVE, line, parse_unary(parser, 0), NULL);
    } else {
        node = parse_primary(parser, 0);
    }
    node = parse_postfix(parser, node, &links);
    for (; with_filters; count_link(parser, &links)) {
        if (parser->at->kind == JINJA_T_PIPE) {
            node = jinja_parse_filters(parser, node, 0);
        } else if (jinja_parse_is_name(parser->at, "is")) {
            node = parse_test(parser, node, &links);
        } else if (parser->at->kind == JINJA_T_LPAREN) {
            node = parse_call(parser, node);
        } else {
            break;
        }
    }
    jinja_exit(parser->state);
    return node;
}
