#include "trainer/jinja/value.h"

#include <math.h>
#include <string.h>

#include "trainer/jinja/unicode.h"

struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_bool(int boolean)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .boolean = boolean != 0};
}

struct jinja_value jinja_int(int64_t integer)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = integer};
}

struct jinja_value jinja_float(double real)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = real};
}

struct jinja_value jinja_text_borrow(struct jinja_state *state, const char *bytes, size_t size)
{
    struct jinja_string *string = JINJA_NEW(state, struct jinja_string);
    string->bytes = bytes;
    string->size = size;
    string->length = jinja_utf8_length(bytes, size);
    return (struct jinja_value){.kind = JINJA_STRING, .string = string};
}

struct jinja_value jinja_text(struct jinja_state *state, const char *bytes, size_t size)
{
    char *copy = jinja_take(state, size + 1);
    if (size) {
        memcpy(copy, bytes, size);
    }
    return jinja_text_borrow(state, copy, size);
}

static struct jinja_value undefined_of(struct jinja_state *state, struct jinja_undefined undefined)
{
    struct jinja_undefined *made = JINJA_NEW(state, struct jinja_undefined);
    *made = undefined;
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .undefined = made};
}

struct jinja_value jinja_undefined_hint(struct jinja_state *state, const char *hint)
{
    return undefined_of(state, (struct jinja_undefined){.hint = hint});
}

struct jinja_value jinja_undefined_name(struct jinja_state *state, const struct jinja_string *name)
{
    return undefined_of(state, (struct jinja_undefined){.owner = JINJA_MISSING, .name = name});
}

struct jinja_value jinja_undefined_member(struct jinja_state *state, struct jinja_value owner, struct jinja_value name)
{
    struct jinja_undefined undefined = {.owner = owner.kind};
    if (name.kind == JINJA_STRING) {
        undefined.name = name.string;
    } else if (jinja_is_integral(name)) {
        undefined.index = jinja_integer_of(name);
    } else {
        undefined.hint = "a key that is not there";
    }
    return undefined_of(state, undefined);
}

struct jinja_value jinja_list_new(struct jinja_state *state)
{
    return (struct jinja_value){.kind = JINJA_LIST, .list = JINJA_NEW(state, struct jinja_list)};
}

struct jinja_value jinja_tuple_new(struct jinja_state *state, size_t count)
{
    struct jinja_list *list = JINJA_NEW(state, struct jinja_list);
    list->items = jinja_grow(state, NULL, &list->capacity, count, sizeof(*list->items));
    list->count = count;
    return (struct jinja_value){.kind = JINJA_TUPLE, .list = list};
}

struct jinja_value jinja_pair(struct jinja_state *state, struct jinja_value first, struct jinja_value second)
{
    struct jinja_value pair = jinja_tuple_new(state, 2);
    pair.list->items[0] = first;
    pair.list->items[1] = second;
    return pair;
}

void jinja_list_append(struct jinja_state *state, struct jinja_list *list, struct jinja_value value)
{
    list->items = jinja_grow(state, list->items, &list->capacity, list->count + 1, sizeof(*list->items));
    list->items[list->count++] = value;
}

const char *jinja_kind_name(enum jinja_kind kind)
{
    static const char *const names[JINJA_KIND_COUNT] = {[JINJA_MISSING] = "nothing",
                                                        [JINJA_UNDEFINED] = "Undefined",
                                                        [JINJA_NONE] = "NoneType",
                                                        [JINJA_BOOL] = "bool",
                                                        [JINJA_INT] = "int",
                                                        [JINJA_FLOAT] = "float",
                                                        [JINJA_STRING] = "str",
                                                        [JINJA_LIST] = "list",
                                                        [JINJA_TUPLE] = "tuple",
                                                        [JINJA_DICT] = "dict",
                                                        [JINJA_RANGE] = "range",
                                                        [JINJA_VIEW] = "dict view",
                                                        [JINJA_GENERATOR] = "generator",
                                                        [JINJA_NAMESPACE] = "namespace",
                                                        [JINJA_MACRO] = "macro",
                                                        [JINJA_LOOP] = "loop",
                                                        [JINJA_FUNCTION] = "function",
                                                        [JINJA_METHOD] = "method",
                                                        [JINJA_CYCLER] = "cycler",
                                                        [JINJA_JOINER] = "joiner"};
    return names[kind];
}

void jinja_fail_undefined(struct jinja_state *state, const struct jinja_undefined *undefined)
{
    const struct jinja_string *name = undefined->name;
    int shown = name ? (int)(name->size > 200 ? 200 : name->size) : 0;
    if (undefined->hint) {
        jinja_fail(state, "%s", undefined->hint);
    } else if (undefined->is_unsafe) {
        jinja_fail(state, "access to attribute '%.*s' of '%s' object is unsafe", shown, name->bytes,
                   jinja_kind_name(undefined->owner));
    } else if (undefined->owner == JINJA_MISSING) {
        jinja_fail(state, "'%.*s' is undefined", shown, name->bytes);
    }
    const char *owner = undefined->owner == JINJA_NONE ? "None" : jinja_kind_name(undefined->owner);
    const char *object = undefined->owner == JINJA_NONE ? "" : " object";
    if (name) {
        jinja_fail(state, "'%s%s' has no attribute '%.*s'", owner, object, shown, name->bytes);
    }
    jinja_fail(state, "%s%s has no element %lld", owner, object, (long long)undefined->index);
}

void jinja_need_defined(struct jinja_state *state, struct jinja_value value)
{
    if (value.kind == JINJA_UNDEFINED) {
        jinja_fail_undefined(state, value.undefined);
    }
}

int jinja_is_integral(struct jinja_value value)
{
    return value.kind == JINJA_BOOL || value.kind == JINJA_INT;
}

int jinja_is_number(struct jinja_value value)
{
    return jinja_is_integral(value) || value.kind == JINJA_FLOAT;
}

int64_t jinja_integer_of(struct jinja_value value)
{
    return value.kind == JINJA_BOOL ? value.boolean : value.integer;
}

double jinja_real_of(struct jinja_value value)
{
    return value.kind == JINJA_FLOAT ? value.real : (double)jinja_integer_of(value);
}

int64_t jinja_need_int(struct jinja_state *state, struct jinja_value value, const char *what)
{
    jinja_need_defined(state, value);
    if (!jinja_is_integral(value)) {
        jinja_fail(state, "%s needs an integer, not %s", what, jinja_kind_name(value.kind));
    }
    return jinja_integer_of(value);
}

const struct jinja_string *jinja_need_text(struct jinja_state *state, struct jinja_value value, const char *what)
{
    jinja_need_defined(state, value);
    if (value.kind != JINJA_STRING) {
        jinja_fail(state, "%s needs a str, not %s", what, jinja_kind_name(value.kind));
    }
    return value.string;
}
