// Methods of mappings, lists, tuples and cyclers.
#include <string.h>

#include "trainer/jinja/builtin.h"

static struct jinja_value view_of(struct jinja_state *state, struct jinja_call *call, enum jinja_view_kind kind)
{
    struct jinja_view *view = JINJA_NEW(state, struct jinja_view);
    view->kind = kind;
    view->dict = call->self.dict;
    return (struct jinja_value){.kind = JINJA_VIEW, .view = view};
}

static struct jinja_value run_keys(struct jinja_state *state, struct jinja_call *call)
{
    return view_of(state, call, JINJA_VIEW_KEYS);
}

static struct jinja_value run_values(struct jinja_state *state, struct jinja_call *call)
{
    return view_of(state, call, JINJA_VIEW_VALUES);
}

static struct jinja_value run_items(struct jinja_state *state, struct jinja_call *call)
{
    return view_of(state, call, JINJA_VIEW_ITEMS);
}

static struct jinja_value run_get(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value value;
    if (jinja_dict_get(state, call->self.dict, call->given[0], &value)) {
        return value;
    }
    return call->given[1].kind == JINJA_MISSING ? jinja_none() : call->given[1];
}

static struct jinja_value run_dict_copy(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value copy = jinja_dict_new(state);
    jinja_dict_merge(state, copy.dict, call->self.dict);
    return copy;
}

static struct jinja_value run_list_count(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value item;
    struct jinja_iterator iterator = jinja_iterate(state, call->self);
    int64_t count = 0;
    while (jinja_next(state, &iterator, &item)) {
        count += jinja_equal(state, item, call->given[0]);
    }
    return jinja_int(count);
}

static struct jinja_value run_list_index(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value list = jinja_list_of(state, call->self);
    int64_t length = (int64_t)list.list->count, bounds[2] = {0, length};
    for (int i = 0; i < 2; i++) {
        if (call->given[1 + i].kind != JINJA_MISSING) {
            int64_t bound = jinja_need_int(state, call->given[1 + i], "index");
            bounds[i] = bound < 0 ? (bound < -length ? 0 : bound + length) : bound;
        }
    }
    for (int64_t i = bounds[0]; i < bounds[1] && i < length; i++) {
        if (jinja_equal(state, list.list->items[i], call->given[0])) {
            return jinja_int(i);
        }
    }
    jinja_fail(state, "the value is not in the list");
}

static struct jinja_value run_list_copy(struct jinja_state *state, struct jinja_call *call)
{
    if (call->self.kind != JINJA_LIST) {
        jinja_fail(state, "'%s' object has no copy method", jinja_kind_name(call->self.kind));
    }
    return jinja_list_of(state, call->self);
}

static struct jinja_value run_cycler_next(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    struct jinja_cycler *cycler = call->self.cycler;
    struct jinja_value item = cycler->items.items[cycler->position];
    cycler->position = (cycler->position + 1) % cycler->items.count;
    return item;
}

static struct jinja_value run_cycler_reset(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    call->self.cycler->position = 0;
    return jinja_none();
}

const struct jinja_builtin jinja_dict_methods[] = {
    {"keys", "", 0, run_keys},           {"values", "", 0, run_values},  {"items", "", 0, run_items},
    {"get", "/key,default", 1, run_get}, {"copy", "", 0, run_dict_copy}, {NULL, NULL, 0, NULL},
};

const struct jinja_builtin jinja_list_methods[] = {
    {"count", "/value", 1, run_list_count},
    {"index", "/value,start,stop", 1, run_list_index},
    {"copy", "", 0, run_list_copy},
    {NULL, NULL, 0, NULL},
};

const struct jinja_builtin jinja_cycler_methods[] = {
    {"next", "", 0, run_cycler_next}, {"reset", "", 0, run_cycler_reset}, {NULL, NULL, 0, NULL}};
