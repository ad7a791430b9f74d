// Filters on lists, mappings and whatever can be read in order.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/lex.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/sequence.h"
#include "trainer/jinja/unicode.h"

static struct jinja_value run_first(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value item;
    struct jinja_iterator iterator = jinja_iterate(state, call->self);
    return jinja_next(state, &iterator, &item) ? item
                                               : jinja_undefined_hint(state, "no first item, sequence was empty");
}

static struct jinja_value run_last(struct jinja_state *state, struct jinja_call *call)
{
    if (call->self.kind == JINJA_GENERATOR || call->self.kind == JINJA_LOOP) {
        jinja_fail(state, "'%s' object is not reversible", jinja_kind_name(call->self.kind));
    }
    struct jinja_value list = jinja_list_of(state, call->self);
    return list.list->count > 0 ? list.list->items[list.list->count - 1]
                                : jinja_undefined_hint(state, "no last item, sequence was empty");
}

static struct jinja_value run_length(struct jinja_state *state, struct jinja_call *call)
{
    int64_t length;
    if (call->self.kind == JINJA_LOOP) {
        return jinja_int(jinja_loop_length(jinja_render_of(state), call->self.loop));
    }
    if (!jinja_length(state, call->self, &length)) {
        jinja_fail(state, "object of type '%s' has no len()", jinja_kind_name(call->self.kind));
    }
    return jinja_int(length);
}

static struct jinja_value run_list(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_list_of(state, call->self);
}

static struct jinja_value run_join(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value items = jinja_list_of(state, call->self);
    if (call->given[1].kind != JINJA_MISSING && call->given[1].kind != JINJA_NONE) {
        struct jinja_path path = jinja_path_of(state, call->given[1]);
        for (size_t i = 0; i < items.list->count; i++) {
            items.list->items[i] = jinja_path_get(state, &path, items.list->items[i], NULL);
        }
    }
    struct jinja_value separator =
        call->given[0].kind == JINJA_MISSING ? jinja_text_borrow(state, "", 0) : jinja_str(state, call->given[0]);
    for (size_t i = 0; i < items.list->count; i++) {
        items.list->items[i] = jinja_str(state, items.list->items[i]);
    }
    return jinja_join(state, separator.string, items.list);
}

static struct jinja_value run_default(struct jinja_state *state, struct jinja_call *call)
{
    int takes_false = jinja_is_true(state, call->given[1]);
    if (call->self.kind == JINJA_UNDEFINED || (takes_false && !jinja_is_true(state, call->self))) {
        return call->given[0].kind == JINJA_MISSING ? jinja_text_borrow(state, "", 0) : call->given[0];
    }
    return call->self;
}

static struct jinja_value run_attr(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *name = jinja_need_text(state, call->given[0], "attr");
    jinja_need_defined(state, call->self);
    struct jinja_value value = {0}, bare = call->self;
    if (call->self.kind == JINJA_DICT) { // entries are no attributes
        bare = jinja_dict_new(state);
        value = jinja_member(state, bare, name);
        if (value.kind == JINJA_METHOD) {
            value.method->self = call->self;
        }
        return value;
    }
    return jinja_member(state, bare, name);
}

// Pairs of key and item for what sorts; key_of is NULL where the item itself is the key.
static struct jinja_value keyed(struct jinja_state *state, struct jinja_value source, const struct jinja_paths *paths,
                                int is_list_key)
{
    struct jinja_value pairs = jinja_list_new(state), item;
    struct jinja_iterator iterator = jinja_iterate(state, source);
    while (jinja_next(state, &iterator, &item)) {
        struct jinja_value key = jinja_paths_key(state, paths, item, is_list_key);
        jinja_list_append(state, pairs.list, jinja_pair(state, key, item));
    }
    return pairs;
}

static struct jinja_value second_parts(struct jinja_state *state, struct jinja_value pairs)
{
    struct jinja_value list = jinja_tuple_new(state, pairs.list->count);
    list.kind = JINJA_LIST;
    for (size_t i = 0; i < pairs.list->count; i++) {
        list.list->items[i] = pairs.list->items[i].list->items[1];
    }
    return list;
}

static struct jinja_value run_sort(struct jinja_state *state, struct jinja_call *call)
{
    int is_descending = jinja_is_true(state, call->given[0]), is_sensitive = jinja_is_true(state, call->given[1]);
    struct jinja_paths paths = jinja_paths_of(state, call->given[2], 1, is_sensitive);
    struct jinja_value pairs = keyed(state, call->self, &paths, 1);
    jinja_sort(state, pairs.list->items, pairs.list->count, is_descending);
    return second_parts(state, pairs);
}

static struct jinja_value extreme(struct jinja_state *state, struct jinja_call *call, int sign, const char *op)
{
    int is_sensitive = jinja_is_true(state, call->given[0]);
    struct jinja_paths paths = jinja_paths_of(state, call->given[1], 0, is_sensitive);
    struct jinja_value pairs = keyed(state, call->self, &paths, 0);
    if (pairs.list->count == 0) {
        return jinja_undefined_hint(state, "no aggregated item, sequence was empty");
    }
    struct jinja_value best = pairs.list->items[0];
    for (size_t i = 1; i < pairs.list->count; i++) {
        struct jinja_value pair = pairs.list->items[i];
        int order = jinja_compare(state, pair.list->items[0], best.list->items[0], op);
        if (order != 2 && order * sign > 0) {
            best = pair;
        }
    }
    return best.list->items[1];
}

static struct jinja_value run_min(struct jinja_state *state, struct jinja_call *call)
{
    return extreme(state, call, -1, "<");
}

static struct jinja_value run_max(struct jinja_state *state, struct jinja_call *call)
{
    return extreme(state, call, 1, ">");
}

static struct jinja_value run_sum(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value total = call->given[1].kind == JINJA_MISSING ? jinja_int(0) : call->given[1], item;
    int has_path = call->given[0].kind != JINJA_MISSING && call->given[0].kind != JINJA_NONE;
    struct jinja_path path = has_path ? jinja_path_of(state, call->given[0]) : (struct jinja_path){0};
    if (total.kind == JINJA_STRING) {
        jinja_fail(state, "sum() can't sum strings");
    }
    struct jinja_iterator iterator = jinja_iterate(state, call->self);
    while (jinja_next(state, &iterator, &item)) {
        item = has_path ? jinja_path_get(state, &path, item, NULL) : item;
        total = jinja_binary(state, JINJA_T_ADD, total, item);
    }
    return total;
}

static struct jinja_value run_dictsort(struct jinja_state *state, struct jinja_call *call)
{
    int is_sensitive = jinja_is_true(state, call->given[0]), is_descending = jinja_is_true(state, call->given[2]);
    int64_t position = 0;
    if (call->given[1].kind != JINJA_MISSING) {
        const struct jinja_string *by = jinja_need_text(state, call->given[1], "dictsort");
        position = by->size == 5 && memcmp(by->bytes, "value", 5) == 0;
        if (!position && !(by->size == 3 && memcmp(by->bytes, "key", 3) == 0)) {
            jinja_fail(state, "dictsort sorts by either 'key' or 'value'");
        }
    }
    if (call->self.kind != JINJA_DICT) {
        jinja_need_defined(state, call->self);
        jinja_fail(state, "dictsort needs a mapping, not %s", jinja_kind_name(call->self.kind));
    }
    struct jinja_view view = {.kind = JINJA_VIEW_ITEMS, .dict = call->self.dict};
    struct jinja_paths paths = jinja_paths_of(state, jinja_int(position), 0, is_sensitive);
    struct jinja_value pairs = keyed(state, (struct jinja_value){.kind = JINJA_VIEW, .view = &view}, &paths, 0);
    jinja_sort(state, pairs.list->items, pairs.list->count, is_descending);
    return second_parts(state, pairs);
}

static struct jinja_value group_of(struct jinja_state *state, struct jinja_value key, struct jinja_value list)
{
    struct jinja_value group = jinja_pair(state, key, list);
    group.list->is_group = 1;
    return group;
}

static struct jinja_value run_groupby(struct jinja_state *state, struct jinja_call *call)
{
    int is_sensitive = jinja_is_true(state, call->given[2]);
    struct jinja_value otherwise = call->given[1];
    struct jinja_paths paths = jinja_paths_of(state, call->given[0], 0, is_sensitive);
    paths.otherwise = otherwise.kind == JINJA_MISSING || otherwise.kind == JINJA_NONE ? NULL : &otherwise;
    struct jinja_value pairs = keyed(state, call->self, &paths, 0), groups = jinja_list_new(state);
    jinja_sort(state, pairs.list->items, pairs.list->count, 0);
    struct jinja_value key = {0}, members = {0};
    for (size_t i = 0; i < pairs.list->count; i++) {
        const struct jinja_value *pair = pairs.list->items[i].list->items;
        if (i == 0 || !jinja_equal(state, key, pair[0])) {
            key = pair[0];
            members = jinja_list_new(state);
            paths.is_sensitive = 1; // what is shown is the first member's own
            struct jinja_value shown = jinja_paths_key(state, &paths, pair[1], 0);
            paths.is_sensitive = is_sensitive;
            jinja_list_append(state, groups.list, group_of(state, shown, members));
        }
        jinja_list_append(state, members.list, pair[1]);
    }
    return groups;
}

static struct jinja_value run_reverse(struct jinja_state *state, struct jinja_call *call)
{
    if (call->self.kind == JINJA_STRING) {
        struct jinja_value parts[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
        return jinja_slice(state, call->self, parts);
    }
    struct jinja_value list = jinja_list_of(state, call->self);
    for (size_t i = 0; i < list.list->count / 2; i++) {
        struct jinja_value other = list.list->items[list.list->count - 1 - i];
        list.list->items[list.list->count - 1 - i] = list.list->items[i];
        list.list->items[i] = other;
    }
    if (call->self.kind == JINJA_GENERATOR) {
        return list;
    }
    return jinja_generator_of(state, list.list);
}

const struct jinja_builtin jinja_sequence_filters[] = {
    {"first", "", 0, run_first},
    {"last", "", 0, run_last},
    {"length", "", 0, run_length},
    {"count", "", 0, run_length},
    {"list", "", 0, run_list},
    {"join", "d,attribute", 0, run_join},
    {"default", "default_value,boolean", 0, run_default},
    {"d", "default_value,boolean", 0, run_default},
    {"attr", "name", 1, run_attr},
    {"sort", "reverse,case_sensitive,attribute", 0, run_sort},
    {"min", "case_sensitive,attribute", 0, run_min},
    {"max", "case_sensitive,attribute", 0, run_max},
    {"sum", "attribute,start", 0, run_sum},
    {"dictsort", "case_sensitive,by,reverse", 0, run_dictsort},
    {"groupby", "attribute,default,case_sensitive", 1, run_groupby},
    {"reverse", "", 0, run_reverse},
    {NULL, NULL, 0, NULL},
};
