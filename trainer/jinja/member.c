// a.name, a[key], a[start:stop:step].
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"

static struct jinja_value method_of(struct jinja_state *state, struct jinja_value self,
                                    const struct jinja_builtin *builtin)
{
    struct jinja_method *method = JINJA_NEW(state, struct jinja_method);
    method->self = self;
    method->builtin = builtin;
    return (struct jinja_value){.kind = JINJA_METHOD, .method = method};
}

static const struct jinja_builtin *find_method(enum jinja_kind kind, const struct jinja_string *name)
{
    const struct jinja_builtin *found;
    switch (kind) {
    case JINJA_STRING:
        found = jinja_find_in(jinja_text_methods, name->bytes, name->size);
        return found ? found : jinja_find_in(jinja_text_cut_methods, name->bytes, name->size);
    case JINJA_DICT:
        return jinja_find_in(jinja_dict_methods, name->bytes, name->size);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return jinja_find_in(jinja_list_methods, name->bytes, name->size);
    case JINJA_LOOP:
        return jinja_find_in(jinja_loop_methods, name->bytes, name->size);
    case JINJA_CYCLER:
        return jinja_find_in(jinja_cycler_methods, name->bytes, name->size);
    default:
        return NULL;
    }
}

// Methods that would change a list or a mapping: the field's sandbox keeps them back.
static int is_unsafe(enum jinja_kind kind, const struct jinja_string *name)
{
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const of_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                          "sort",   "extend", "remove", NULL};
    const char *const *names = kind == JINJA_DICT ? of_dict : kind == JINJA_LIST ? of_list : NULL;
    for (; names && *names; names++) {
        if (strlen(*names) == name->size && memcmp(*names, name->bytes, name->size) == 0) {
            return 1;
        }
    }
    return 0;
}

static struct jinja_value macro_member(struct jinja_state *state, const struct jinja_macro *macro,
                                       const struct jinja_string *name, int *found)
{
    const struct jinja_node *node = macro->node;
    *found = 1;
    if (strcmp(name->bytes, "name") == 0) {
        return node->text ? (struct jinja_value){.kind = JINJA_STRING, .string = node->text} : jinja_none();
    }
    if (strcmp(name->bytes, "caller") == 0) {
        return jinja_bool(node->function->caller_slot != -1);
    }
    if (strcmp(name->bytes, "catch_kwargs") == 0) {
        return jinja_bool(node->function->kwargs_slot >= 0);
    }
    if (strcmp(name->bytes, "catch_varargs") == 0) {
        return jinja_bool(node->function->varargs_slot >= 0);
    }
    if (strcmp(name->bytes, "arguments") == 0) {
        struct jinja_value names = jinja_tuple_new(state, node->items.count);
        for (size_t i = 0; i < node->items.count; i++) {
            names.list->items[i] = (struct jinja_value){.kind = JINJA_STRING, .string = node->items.items[i]->text};
        }
        return names;
    }
    *found = 0;
    return jinja_none();
}

// What Python's getattr would find; 0 when nothing.
static int attribute(struct jinja_state *state, struct jinja_value owner, const struct jinja_string *name,
                     struct jinja_value *value)
{
    int found = 0;
    if (owner.kind == JINJA_NAMESPACE) {
        return jinja_dict_get_text(state, owner.dict, name, value);
    }
    if (owner.kind == JINJA_TUPLE && owner.list->is_group) {
        int is_key = name->size == 7 && memcmp(name->bytes, "grouper", 7) == 0;
        if (is_key || (name->size == 4 && memcmp(name->bytes, "list", 4) == 0)) {
            *value = owner.list->items[!is_key];
            return 1;
        }
    }
    if (owner.kind == JINJA_LOOP || owner.kind == JINJA_MACRO || owner.kind == JINJA_CYCLER) {
        name = jinja_text(state, name->bytes, name->size).string; // ends with a NUL
    }
    if (owner.kind == JINJA_LOOP) {
        *value = jinja_loop_member(jinja_render_of(state), owner, name->bytes, &found);
    } else if (owner.kind == JINJA_MACRO) {
        *value = macro_member(state, owner.macro, name, &found);
    } else if (owner.kind == JINJA_CYCLER && strcmp(name->bytes, "current") == 0) {
        *value = owner.cycler->items.items[owner.cycler->position];
        return 1;
    }
    if (found) {
        return 1;
    }
    const struct jinja_builtin *builtin = find_method(owner.kind, name);
    if (builtin) {
        *value = method_of(state, owner, builtin);
        return 1;
    }
    if (is_unsafe(owner.kind, name)) {
        *value = jinja_undefined_member(state, owner, (struct jinja_value){.kind = JINJA_STRING, .string = name});
        value->undefined->is_unsafe = 1;
        return 1;
    }
    return 0;
}

struct jinja_value jinja_member(struct jinja_state *state, struct jinja_value owner, const struct jinja_string *name)
{
    struct jinja_value value;
    jinja_need_defined(state, owner);
    if (attribute(state, owner, name, &value)) {
        return value;
    }
    if (owner.kind == JINJA_DICT && jinja_dict_get_text(state, owner.dict, name, &value)) {
        return value;
    }
    return jinja_undefined_member(state, owner, (struct jinja_value){.kind = JINJA_STRING, .string = name});
}

static struct jinja_value text_at(struct jinja_state *state, const struct jinja_string *string, size_t index)
{
    const char *at = string->bytes + jinja_utf8_offset(string, index);
    return jinja_text_borrow(state, at, rmj_utf8_size((unsigned char)*at));
}

// An item by position: of texts, lists, tuples and ranges.
static int at_index(struct jinja_state *state, struct jinja_value owner, int64_t index, struct jinja_value *value)
{
    int64_t length;
    if (owner.kind != JINJA_STRING && owner.kind != JINJA_LIST && owner.kind != JINJA_TUPLE &&
        owner.kind != JINJA_RANGE) {
        return 0;
    }
    if (!jinja_length(state, owner, &length)) {
        return 0;
    }
    index += index < 0 ? length : 0;
    if (index < 0 || index >= length) {
        return 0;
    }
    if (owner.kind == JINJA_STRING) {
        *value = text_at(state, owner.string, (size_t)index);
    } else if (owner.kind == JINJA_RANGE) {
        *value = jinja_int(owner.range->start + index * owner.range->step);
    } else {
        *value = owner.list->items[index];
    }
    return 1;
}

static int is_hashable(struct jinja_state *state, struct jinja_value key)
{
    int is_all = key.kind != JINJA_LIST && key.kind != JINJA_DICT && key.kind != JINJA_VIEW;
    jinja_enter(state);
    for (size_t i = 0; key.kind == JINJA_TUPLE && i < key.list->count && is_all; i++) {
        is_all = is_hashable(state, key.list->items[i]);
    }
    jinja_exit(state);
    return is_all;
}

struct jinja_value jinja_item(struct jinja_state *state, struct jinja_value owner, struct jinja_value key)
{
    struct jinja_value value;
    jinja_need_defined(state, owner);
    if (owner.kind == JINJA_DICT && is_hashable(state, key) && jinja_dict_get(state, owner.dict, key, &value)) {
        return value;
    }
    if (jinja_is_integral(key) && at_index(state, owner, jinja_integer_of(key), &value)) {
        return value;
    }
    if (key.kind == JINJA_STRING && attribute(state, owner, key.string, &value)) {
        return value;
    }
    return jinja_undefined_member(state, owner, key);
}

// Python's slice.indices: from, step and number of items.
struct cut {
    int64_t from, step, count;
};

static int64_t clamp(int64_t index, int64_t low, int64_t high)
{
    return index < low ? low : index > high ? high : index;
}

static int64_t bound_of(struct jinja_state *state, struct jinja_value part, int64_t length, int64_t otherwise,
                        int is_forward)
{
    if (part.kind == JINJA_NONE) {
        return otherwise;
    }
    if (!jinja_is_integral(part)) {
        jinja_fail(state, "slice indices must be integers or None, not %s", jinja_kind_name(part.kind));
    }
    int64_t index = jinja_integer_of(part);
    if (index < 0 && index >= -length) {
        index += length;
    } else if (index < 0) {
        index = -1;
    }
    return is_forward ? clamp(index, 0, length) : clamp(index, -1, length - 1);
}

static struct cut cut_of(struct jinja_state *state, const struct jinja_value parts[3], int64_t length)
{
    struct cut cut = {.step = 1};
    if (parts[2].kind != JINJA_NONE) {
        if (!jinja_is_integral(parts[2])) {
            jinja_fail(state, "slice indices must be integers or None, not %s", jinja_kind_name(parts[2].kind));
        }
        cut.step = clamp(jinja_integer_of(parts[2]), -length - 1, length + 1);
        if (cut.step == 0) {
            jinja_fail(state, "slice step cannot be zero");
        }
    }
    int is_forward = cut.step > 0;
    cut.from = bound_of(state, parts[0], length, is_forward ? 0 : length - 1, is_forward);
    int64_t to = bound_of(state, parts[1], length, is_forward ? length : -1, is_forward);
    if (is_forward && to > cut.from) {
        cut.count = (to - cut.from - 1) / cut.step + 1;
    } else if (!is_forward && to < cut.from) {
        cut.count = (cut.from - to - 1) / -cut.step + 1;
    }
    return cut;
}

static struct jinja_value slice_text(struct jinja_state *state, const struct jinja_string *string, struct cut cut)
{
    if (cut.count == 0) {
        return jinja_text_borrow(state, "", 0);
    }
    if (cut.step == 1) {
        size_t from = jinja_utf8_offset(string, (size_t)cut.from);
        return jinja_text_borrow(state, string->bytes + from,
                                 jinja_utf8_offset(string, (size_t)(cut.from + cut.count)) - from);
    }
    size_t *offsets = jinja_take(state, (string->length + 1) * sizeof(*offsets));
    for (size_t i = 0, at = 0; i < string->length; i++) {
        offsets[i] = at;
        at += rmj_utf8_size((unsigned char)string->bytes[at]);
    }
    offsets[string->length] = string->size;
    char *bytes = jinja_take(state, string->size + 1), *out = bytes;
    for (int64_t i = 0; i < cut.count; i++) {
        int64_t index = cut.from + i * cut.step;
        size_t size = offsets[index + 1] - offsets[index];
        memcpy(out, string->bytes + offsets[index], size);
        out += size;
    }
    return jinja_text_borrow(state, bytes, (size_t)(out - bytes));
}

struct jinja_value jinja_slice(struct jinja_state *state, struct jinja_value owner, const struct jinja_value parts[3])
{
    int64_t length = 0;
    jinja_need_defined(state, owner);
    if ((owner.kind != JINJA_STRING && owner.kind != JINJA_LIST && owner.kind != JINJA_TUPLE &&
         owner.kind != JINJA_RANGE) ||
        !jinja_length(state, owner, &length)) {
        jinja_fail(state, "'%s' object cannot be sliced", jinja_kind_name(owner.kind));
    }
    struct cut cut = cut_of(state, parts, length);
    jinja_charge(state, (uint64_t)length);
    if (owner.kind == JINJA_STRING) {
        return slice_text(state, owner.string, cut);
    }
    if (owner.kind == JINJA_RANGE) {
        struct jinja_range *range = JINJA_NEW(state, struct jinja_range);
        range->start = owner.range->start + cut.from * owner.range->step;
        range->step = owner.range->step * cut.step;
        range->count = (size_t)cut.count;
        range->stop = range->start + (int64_t)range->count * range->step;
        return (struct jinja_value){.kind = JINJA_RANGE, .range = range};
    }
    struct jinja_value list = jinja_tuple_new(state, (size_t)cut.count);
    list.kind = owner.kind;
    for (int64_t i = 0; i < cut.count; i++) {
        list.list->items[i] = owner.list->items[cut.from + i * cut.step];
    }
    return list;
}
