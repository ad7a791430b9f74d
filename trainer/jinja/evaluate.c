// Expressions to values.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/lex.h"
#include "trainer/jinja/render.h"

struct jinja_render *jinja_render_of(struct jinja_state *state)
{
    _Static_assert(offsetof(struct jinja_render, state) == 0, "a state is the start of its rendering");
    return (struct jinja_render *)state;
}

struct jinja_value *jinja_slot(struct jinja_render *render, struct jinja_place place)
{
    struct jinja_activation *activation = render->activation;
    for (int i = 0; i < place.up; i++) {
        activation = activation->outer;
    }
    return &activation->slots[place.slot];
}

static struct jinja_value evaluate_name(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value value = *jinja_slot(render, node->place);
    if (value.kind == JINJA_MISSING) {
        return jinja_undefined_name(&render->state, render->jinja->names.items[node->name_id]);
    }
    return value;
}

static struct jinja_value evaluate_items(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value list = jinja_tuple_new(&render->state, node->items.count);
    list.kind = node->kind == JINJA_N_TUPLE ? JINJA_TUPLE : JINJA_LIST;
    for (size_t i = 0; i < node->items.count; i++) {
        list.list->items[i] = jinja_evaluate(render, node->items.items[i]);
    }
    return list;
}

static struct jinja_value evaluate_dict(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value dict = jinja_dict_new(&render->state);
    for (size_t i = 0; i + 1 < node->items.count; i += 2) {
        struct jinja_value key = jinja_evaluate(render, node->items.items[i]);
        jinja_dict_set(&render->state, dict.dict, key, jinja_evaluate(render, node->items.items[i + 1]));
    }
    return dict;
}

static struct jinja_value evaluate_condition(struct jinja_render *render, const struct jinja_node *node)
{
    if (jinja_is_true(&render->state, jinja_evaluate(render, node->b))) {
        return jinja_evaluate(render, node->a);
    }
    if (node->c) {
        return jinja_evaluate(render, node->c);
    }
    return jinja_undefined_hint(&render->state, "the inline if-expression was false and has no else");
}

static struct jinja_value evaluate_concat(struct jinja_render *render, const struct jinja_node *node)
{
    size_t count = node->items.count, size = 0;
    struct jinja_value texts[8], *parts = texts;
    if (count > RMJ_COUNT(texts)) {
        parts = jinja_take(&render->state, count * sizeof(*parts));
    }
    for (size_t i = 0; i < count; i++) {
        parts[i] = jinja_str(&render->state, jinja_evaluate(render, node->items.items[i]));
        size += parts[i].string->size;
    }
    char *bytes = jinja_take(&render->state, size + 1), *out = bytes;
    for (size_t i = 0; i < count; i++) {
        memcpy(out, parts[i].string->bytes, parts[i].string->size);
        out += parts[i].string->size;
    }
    return jinja_text_borrow(&render->state, bytes, size);
}

static int compare_one(struct jinja_render *render, int op, struct jinja_value a, struct jinja_value b)
{
    struct jinja_state *state = &render->state;
    int order;
    switch (op) {
    case JINJA_T_EQ:
        return jinja_equal(state, a, b);
    case JINJA_T_NE:
        return !jinja_equal(state, a, b);
    case JINJA_COMPARE_IN:
        return jinja_contains(state, b, a);
    case JINJA_COMPARE_NOT_IN:
        return !jinja_contains(state, b, a);
    default:
        order = jinja_compare(state, a, b, jinja_token_kind_text((enum jinja_token_kind)op));
        return order != 2 && (op == JINJA_T_LT   ? order < 0
                              : op == JINJA_T_LE ? order <= 0
                              : op == JINJA_T_GT ? order > 0
                                                 : order >= 0);
    }
}

static struct jinja_value evaluate_compare(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(render, node->a);
    for (size_t i = 0; i < node->items.count; i++) {
        struct jinja_value right = jinja_evaluate(render, node->items.items[i]);
        if (!compare_one(render, node->operators[i], left, right)) {
            return jinja_bool(0);
        }
        left = right;
    }
    return jinja_bool(1);
}

static struct jinja_value evaluate_slice(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value owner = jinja_evaluate(render, node->a), parts[3];
    for (size_t i = 0; i < 3; i++) {
        parts[i] = node->items.items[i] ? jinja_evaluate(render, node->items.items[i]) : jinja_none();
    }
    return jinja_slice(&render->state, owner, parts);
}

static void add_keyword(struct jinja_render *render, struct jinja_arguments *arguments, size_t *capacity,
                        const struct jinja_string *name, struct jinja_value value)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (arguments->keywords[i].name->size == name->size &&
            memcmp(arguments->keywords[i].name->bytes, name->bytes, name->size) == 0) {
            jinja_fail(&render->state, "got multiple values for keyword argument '%s'", name->bytes);
        }
    }
    arguments->keywords = jinja_grow(&render->state, arguments->keywords, capacity, arguments->keyword_count + 1,
                                     sizeof(*arguments->keywords));
    arguments->keywords[arguments->keyword_count++] = (struct jinja_keyword){name, value};
}

static void evaluate_stars(struct jinja_render *render, const struct jinja_node_arguments *from,
                           struct jinja_arguments *arguments, size_t *capacity)
{
    struct jinja_state *state = &render->state;
    if (from->star) {
        struct jinja_list all = {.items = arguments->items, .count = arguments->count, .capacity = arguments->count};
        struct jinja_iterator iterator = jinja_iterate(state, jinja_evaluate(render, from->star));
        struct jinja_value item;
        while (jinja_next(state, &iterator, &item)) {
            jinja_list_append(state, &all, item);
        }
        arguments->items = all.items;
        arguments->count = all.count;
    }
    if (from->star_star) {
        struct jinja_value dict = jinja_evaluate(render, from->star_star);
        if (dict.kind != JINJA_DICT) {
            jinja_need_defined(state, dict);
            jinja_fail(state, "the argument after ** must be a mapping, not %s", jinja_kind_name(dict.kind));
        }
        for (size_t i = 0; i < dict.dict->count; i++) {
            const struct jinja_string *name = jinja_need_text(state, dict.dict->keys[i], "a keyword");
            name = jinja_text(state, name->bytes, name->size).string; // ends with a NUL
            add_keyword(render, arguments, capacity, name, dict.dict->values[i]);
        }
    }
}

static struct jinja_arguments evaluate_arguments(struct jinja_render *render, const struct jinja_node_arguments *from)
{
    struct jinja_arguments arguments = {0};
    size_t capacity = 0;
    if (!from) {
        return arguments;
    }
    if (from->items.count > 0) {
        arguments.items = jinja_take(&render->state, from->items.count * sizeof(*arguments.items));
        arguments.count = from->items.count;
    }
    for (size_t i = 0; i < arguments.count; i++) {
        arguments.items[i] = jinja_evaluate(render, from->items.items[i]);
    }
    for (size_t i = 0; i < from->keyword_count; i++) {
        struct jinja_value value = jinja_evaluate(render, from->keywords[i].value);
        add_keyword(render, &arguments, &capacity, from->keywords[i].name, value);
    }
    evaluate_stars(render, from, &arguments, &capacity);
    return arguments;
}

static struct jinja_value evaluate_call(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value callee = jinja_evaluate(render, node->a);
    struct jinja_arguments arguments = evaluate_arguments(render, node->arguments);
    render->state.line = node->line;
    return jinja_call_value(render, callee, &arguments);
}

struct jinja_value jinja_call_block(struct jinja_render *render, const struct jinja_node *call,
                                    struct jinja_value caller)
{
    static const struct jinja_string name = {.bytes = "caller", .size = 6, .length = 6};
    struct jinja_value callee = jinja_evaluate(render, call->a);
    struct jinja_arguments arguments = evaluate_arguments(render, call->arguments);
    size_t capacity = arguments.keyword_count;
    add_keyword(render, &arguments, &capacity, &name, caller);
    return jinja_call_value(render, callee, &arguments);
}

struct jinja_value jinja_evaluate_filter(struct jinja_render *render, const struct jinja_node *filter,
                                         struct jinja_value text)
{
    if (!filter) {
        return text;
    }
    struct jinja_value self = filter->kind != JINJA_N_FILTER ? jinja_evaluate(render, filter)
                              : filter->a                    ? jinja_evaluate_filter(render, filter->a, text)
                                                             : text;
    if (filter->kind != JINJA_N_FILTER) {
        return self;
    }
    struct jinja_arguments arguments = evaluate_arguments(render, filter->arguments);
    render->state.line = filter->line;
    return jinja_run_builtin(&render->state, filter->builtin, self, &arguments);
}

static struct jinja_value evaluate_test(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value self = jinja_evaluate(render, node->a);
    struct jinja_arguments arguments = evaluate_arguments(render, node->arguments);
    render->state.line = node->line;
    return jinja_run_builtin(&render->state, node->builtin, self, &arguments);
}

static struct jinja_value evaluate_sign(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value value = jinja_evaluate(render, node->a);
    int is_negative = node->kind == JINJA_N_NEGATIVE;
    jinja_need_defined(&render->state, value);
    if (value.kind == JINJA_FLOAT) {
        return jinja_float(is_negative ? -value.real : value.real);
    }
    if (!jinja_is_integral(value)) {
        jinja_fail(&render->state, "bad operand type for unary %c: '%s'", is_negative ? '-' : '+',
                   jinja_kind_name(value.kind));
    }
    int64_t integer = jinja_integer_of(value);
    if (is_negative && integer == INT64_MIN) {
        jinja_fail(&render->state, "integer out of range");
    }
    return jinja_int(is_negative ? -integer : integer);
}

static struct jinja_value evaluate_inside(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value left;
    switch (node->kind) {
    case JINJA_N_CONST:
        return node->value;
    case JINJA_N_NAME:
        return evaluate_name(render, node);
    case JINJA_N_TUPLE:
    case JINJA_N_LIST:
        return evaluate_items(render, node);
    case JINJA_N_DICT:
        return evaluate_dict(render, node);
    case JINJA_N_CONDITION:
        return evaluate_condition(render, node);
    case JINJA_N_AND:
        left = jinja_evaluate(render, node->a);
        return jinja_is_true(&render->state, left) ? jinja_evaluate(render, node->b) : left;
    case JINJA_N_OR:
        left = jinja_evaluate(render, node->a);
        return jinja_is_true(&render->state, left) ? left : jinja_evaluate(render, node->b);
    case JINJA_N_NOT:
        return jinja_bool(!jinja_is_true(&render->state, jinja_evaluate(render, node->a)));
    case JINJA_N_NEGATIVE:
    case JINJA_N_POSITIVE:
        return evaluate_sign(render, node);
    case JINJA_N_BINARY:
        left = jinja_evaluate(render, node->a);
        return jinja_binary(&render->state, node->op, left, jinja_evaluate(render, node->b));
    case JINJA_N_CONCAT:
        return evaluate_concat(render, node);
    case JINJA_N_COMPARE:
        return evaluate_compare(render, node);
    case JINJA_N_MEMBER:
        return jinja_member(&render->state, jinja_evaluate(render, node->a), node->text);
    case JINJA_N_ITEM:
        left = jinja_evaluate(render, node->a);
        return jinja_item(&render->state, left, jinja_evaluate(render, node->b));
    case JINJA_N_SLICE:
        return evaluate_slice(render, node);
    case JINJA_N_CALL:
        return evaluate_call(render, node);
    case JINJA_N_FILTER:
        return jinja_evaluate_filter(render, node, (struct jinja_value){0});
    case JINJA_N_TEST:
        return evaluate_test(render, node);
    default:
        jinja_fail(&render->state, "this is no expression");
    }
}

struct jinja_value jinja_evaluate(struct jinja_render *render, const struct jinja_node *node)
{
    jinja_enter(&render->state);
    jinja_charge(&render->state, 0);
    render->state.line = node->line;
    struct jinja_value value = evaluate_inside(render, node);
    render->state.line = node->line;
    jinja_exit(&render->state);
    return value;
}
