// Truth, equality, order and membership, as Python has them.
#include <math.h>
#include <string.h>

#include "trainer/jinja/value.h"

int jinja_is_true(struct jinja_state *state, struct jinja_value value)
{
    int64_t length;
    switch (value.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return 0;
    case JINJA_BOOL:
        return value.boolean;
    case JINJA_INT:
        return value.integer != 0;
    case JINJA_FLOAT:
        return value.real != 0;
    default:
        return jinja_length(state, value, &length) ? length != 0 : 1;
    }
}

static int equal_lists(struct jinja_state *state, const struct jinja_list *a, const struct jinja_list *b)
{
    if (a->count != b->count) {
        return 0;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (!jinja_equal(state, a->items[i], b->items[i])) {
            return 0;
        }
    }
    return 1;
}

static int equal_dicts(struct jinja_state *state, const struct jinja_dict *a, const struct jinja_dict *b)
{
    if (a->count != b->count) {
        return 0;
    }
    for (size_t i = 0; i < a->count; i++) {
        struct jinja_value other;
        if (!jinja_dict_get(state, b, a->keys[i], &other) || !jinja_equal(state, a->values[i], other)) {
            return 0;
        }
    }
    return 1;
}

static int equal_ranges(const struct jinja_range *a, const struct jinja_range *b)
{
    return a->count == b->count && (a->count == 0 || a->start == b->start) && (a->count < 2 || a->step == b->step);
}

// An int and a double, exactly.
static int compare_mixed(int64_t integer, double real)
{
    if (isnan(real)) {
        return 2;
    }
    if (real >= 9223372036854775808.0) {
        return -1;
    }
    if (real < -9223372036854775808.0) {
        return 1;
    }
    int64_t whole = (int64_t)real;
    if (integer != whole) {
        return integer < whole ? -1 : 1;
    }
    double fraction = real - (double)whole;
    return fraction > 0 ? -1 : fraction < 0 ? 1 : 0;
}

static int compare_numbers(struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_FLOAT && b.kind == JINJA_FLOAT) {
        return isnan(a.real) || isnan(b.real) ? 2 : a.real < b.real ? -1 : a.real > b.real;
    }
    if (b.kind == JINJA_FLOAT) {
        return compare_mixed(jinja_integer_of(a), b.real);
    }
    if (a.kind == JINJA_FLOAT) {
        int order = compare_mixed(jinja_integer_of(b), a.real);
        return order == 2 ? 2 : -order;
    }
    int64_t x = jinja_integer_of(a), y = jinja_integer_of(b);
    return x < y ? -1 : x > y;
}

int jinja_same(struct jinja_value a, struct jinja_value b)
{
    if (a.kind != b.kind) {
        return 0;
    }
    switch (a.kind) {
    case JINJA_NONE:
        return 1;
    case JINJA_BOOL:
        return a.boolean == b.boolean;
    case JINJA_INT:
        return a.integer == b.integer;
    case JINJA_FLOAT:
        return a.real == b.real;
    case JINJA_STRING:
        return a.string == b.string ||
               (a.string->size == b.string->size && memcmp(a.string->bytes, b.string->bytes, a.string->size) == 0);
    default:
        return a.list == b.list;
    }
}

static int equal_inside(struct jinja_state *state, struct jinja_value a, struct jinja_value b)
{
    switch (a.kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        return equal_lists(state, a.list, b.list);
    case JINJA_DICT:
        return equal_dicts(state, a.dict, b.dict);
    case JINJA_RANGE:
        return equal_ranges(a.range, b.range);
    case JINJA_UNDEFINED:
        return 1;
    case JINJA_METHOD:
        return a.method->builtin == b.method->builtin && jinja_same(a.method->self, b.method->self);
    default:
        return jinja_same(a, b);
    }
}

int jinja_equal(struct jinja_state *state, struct jinja_value a, struct jinja_value b)
{
    jinja_charge(state, a.kind == JINJA_STRING ? a.string->size : 0);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        return compare_numbers(a, b) == 0;
    }
    if (a.kind != b.kind) {
        return 0;
    }
    jinja_enter(state);
    int equal = equal_inside(state, a, b);
    jinja_exit(state);
    return equal;
}

static int compare_texts(const struct jinja_string *a, const struct jinja_string *b)
{
    size_t size = a->size < b->size ? a->size : b->size;
    int order = size ? memcmp(a->bytes, b->bytes, size) : 0; // UTF-8 sorts as its code points do
    order = order ? order : a->size < b->size ? -1 : a->size > b->size;
    return order < 0 ? -1 : order > 0;
}

int jinja_compare(struct jinja_state *state, struct jinja_value a, struct jinja_value b, const char *operator_text)
{
    jinja_charge(state, a.kind == JINJA_STRING ? a.string->size : 0);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        return compare_numbers(a, b);
    }
    jinja_need_defined(state, a);
    jinja_need_defined(state, b);
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        return compare_texts(a.string, b.string);
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        jinja_enter(state);
        int order = 0;
        size_t i = 0;
        for (; !order && i < a.list->count && i < b.list->count; i++) {
            if (!jinja_equal(state, a.list->items[i], b.list->items[i])) {
                order = jinja_compare(state, a.list->items[i], b.list->items[i], operator_text);
                break;
            }
        }
        jinja_exit(state);
        return order ? order : a.list->count < b.list->count ? -1 : a.list->count > b.list->count;
    }
    jinja_fail(state, "'%s' not supported between instances of '%s' and '%s'", operator_text, jinja_kind_name(a.kind),
               jinja_kind_name(b.kind));
}

int jinja_contains(struct jinja_state *state, struct jinja_value container, struct jinja_value item)
{
    if (container.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING) {
            jinja_fail(state, "'in <string>' requires string as left operand, not %s", jinja_kind_name(item.kind));
        }
        jinja_charge(state, container.string->size);
        return memmem(container.string->bytes, container.string->size, item.string->bytes, item.string->size) != NULL;
    }
    struct jinja_value found;
    if (container.kind == JINJA_DICT) {
        return jinja_dict_get(state, container.dict, item, &found);
    }
    if (container.kind == JINJA_VIEW && container.view->kind == JINJA_VIEW_KEYS) {
        return jinja_dict_get(state, container.view->dict, item, &found);
    }
    if (!jinja_is_iterable(container)) {
        jinja_fail(state, "argument of type '%s' is not iterable", jinja_kind_name(container.kind));
    }
    struct jinja_iterator iterator = jinja_iterate(state, container);
    while (jinja_next(state, &iterator, &found)) {
        if (jinja_equal(state, found, item)) {
            return 1;
        }
    }
    return 0;
}
