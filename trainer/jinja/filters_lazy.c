// Filters that give their items one by one, when they are asked for.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/sequence.h"

// A filter or test that is named by a value.
static const struct jinja_builtin *find_named(struct jinja_state *state, struct jinja_value name, int is_filter)
{
    const struct jinja_string *text = jinja_need_text(state, name, is_filter ? "map" : "select");
    const struct jinja_builtin *found =
        is_filter ? jinja_find_filter(text->bytes, text->size) : jinja_find_test(text->bytes, text->size);
    if (!found) {
        jinja_fail(state, "no %s named '%.*s'", is_filter ? "filter" : "test",
                   (int)(text->size > 100 ? 100 : text->size), text->bytes);
    }
    return found;
}

// The arguments behind the first `count`.
static struct jinja_arguments behind(const struct jinja_arguments *arguments, size_t count)
{
    struct jinja_arguments rest = *arguments;
    rest.items += count;
    rest.count -= count;
    return rest;
}

static const struct jinja_value *find_keyword(const struct jinja_arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (strcmp(arguments->keywords[i].name->bytes, name) == 0) {
            return &arguments->keywords[i].value;
        }
    }
    return NULL;
}

static void compute_map(struct jinja_state *state, struct jinja_generator *generator)
{
    const struct jinja_arguments *arguments = &generator->call->arguments;
    const struct jinja_value *attribute = arguments->count == 0 ? find_keyword(arguments, "attribute") : NULL;
    const struct jinja_value *otherwise = find_keyword(arguments, "default");
    struct jinja_value item;
    if (!jinja_is_true(state, generator->call->self)) {
        return;
    }
    if (attribute) {
        if (arguments->keyword_count != 1 + (size_t)(otherwise != NULL)) {
            jinja_fail(state, "map got an unexpected keyword argument");
        }
        otherwise = otherwise && otherwise->kind != JINJA_NONE ? otherwise : NULL;
        struct jinja_path path = jinja_path_of(state, *attribute);
        struct jinja_iterator iterator = jinja_iterate(state, generator->call->self);
        while (jinja_next(state, &iterator, &item)) {
            jinja_list_append(state, &generator->items, jinja_path_get(state, &path, item, otherwise));
        }
        return;
    }
    if (arguments->count == 0) {
        jinja_fail(state, "map requires a filter argument");
    }
    struct jinja_arguments rest = behind(arguments, 1);
    struct jinja_iterator iterator = jinja_iterate(state, generator->call->self);
    while (jinja_next(state, &iterator, &item)) {
        const struct jinja_builtin *filter = find_named(state, arguments->items[0], 1);
        jinja_list_append(state, &generator->items, jinja_run_builtin(state, filter, item, &rest));
    }
}

static void compute_select(struct jinja_state *state, struct jinja_generator *generator)
{
    const struct jinja_arguments *arguments = &generator->call->arguments;
    const char *name = generator->call->builtin->name;
    int is_attribute = strstr(name, "attr") != NULL, wanted = name[0] == 's';
    struct jinja_path path = {0};
    struct jinja_value item;
    if (!jinja_is_true(state, generator->call->self)) {
        return;
    }
    if (is_attribute) {
        if (arguments->count == 0) {
            jinja_fail(state, "missing parameter for attribute name");
        }
        path = jinja_path_of(state, arguments->items[0]);
    }
    size_t position = (size_t)is_attribute;
    int has_test = arguments->count > position;
    struct jinja_arguments rest = has_test ? behind(arguments, position + 1) : (struct jinja_arguments){0};
    struct jinja_iterator iterator = jinja_iterate(state, generator->call->self);
    while (jinja_next(state, &iterator, &item)) {
        struct jinja_value asked = jinja_path_get(state, &path, item, NULL);
        if (has_test) {
            const struct jinja_builtin *test = find_named(state, arguments->items[position], 0);
            asked = jinja_run_builtin(state, test, asked, &rest);
        }
        if (jinja_is_true(state, asked) == wanted) {
            jinja_list_append(state, &generator->items, item);
        }
    }
}

static void compute_items(struct jinja_state *state, struct jinja_generator *generator)
{
    struct jinja_value self = generator->call->self;
    if (self.kind == JINJA_UNDEFINED) {
        return;
    }
    if (self.kind != JINJA_DICT) {
        jinja_fail(state, "can only get item pairs from a mapping");
    }
    for (size_t i = 0; i < self.dict->count; i++) {
        jinja_list_append(state, &generator->items, jinja_pair(state, self.dict->keys[i], self.dict->values[i]));
    }
}

static void compute_unique(struct jinja_state *state, struct jinja_generator *generator)
{
    const struct jinja_call *call = generator->call;
    int is_sensitive = jinja_is_true(state, call->given[0]);
    struct jinja_paths paths = jinja_paths_of(state, call->given[1], 0, is_sensitive);
    struct jinja_value seen = jinja_dict_new(state), item, found;
    struct jinja_iterator iterator = jinja_iterate(state, call->self);
    while (jinja_next(state, &iterator, &item)) {
        struct jinja_value key = jinja_paths_key(state, &paths, item, 0);
        if (!jinja_dict_get(state, seen.dict, key, &found)) {
            jinja_dict_set(state, seen.dict, key, jinja_none());
            jinja_list_append(state, &generator->items, item);
        }
    }
}

static void compute_batch(struct jinja_state *state, struct jinja_generator *generator)
{
    const struct jinja_call *call = generator->call;
    struct jinja_value batch = jinja_list_new(state), item, fill = call->given[1];
    struct jinja_iterator iterator = jinja_iterate(state, call->self);
    jinja_need_defined(state, call->given[0]);
    while (jinja_next(state, &iterator, &item)) {
        if (jinja_equal(state, jinja_int((int64_t)batch.list->count), call->given[0])) {
            jinja_list_append(state, &generator->items, batch);
            batch = jinja_list_new(state);
        }
        jinja_list_append(state, batch.list, item);
    }
    if (batch.list->count == 0) {
        return;
    }
    if (fill.kind != JINJA_MISSING && fill.kind != JINJA_NONE) {
        int64_t wanted = jinja_need_int(state, call->given[0], "batch");
        while ((int64_t)batch.list->count < wanted) {
            jinja_charge(state, 0);
            jinja_list_append(state, batch.list, fill);
        }
    }
    jinja_list_append(state, &generator->items, batch);
}

static void compute_slice(struct jinja_state *state, struct jinja_generator *generator)
{
    const struct jinja_call *call = generator->call;
    struct jinja_value all = jinja_list_of(state, call->self), fill = call->given[1];
    int64_t slices = jinja_need_int(state, call->given[0], "slice"), length = (int64_t)all.list->count;
    if (slices == 0) {
        jinja_fail(state, "integer division or modulo by zero");
    }
    for (int64_t i = 0, from = 0; i < slices; i++) {
        struct jinja_value slice = jinja_list_new(state);
        int64_t count = length / slices + (i < length % slices);
        jinja_charge(state, 0);
        for (int64_t k = 0; k < count; k++) {
            jinja_list_append(state, slice.list, all.list->items[from++]);
        }
        if (fill.kind != JINJA_MISSING && fill.kind != JINJA_NONE && i >= length % slices) {
            jinja_list_append(state, slice.list, fill);
        }
        jinja_list_append(state, &generator->items, slice);
    }
}

static struct jinja_value run_map(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_map);
}

static struct jinja_value run_select(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_select);
}

static struct jinja_value run_items(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_items);
}

static struct jinja_value run_unique(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_unique);
}

static struct jinja_value run_batch(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_batch);
}

static struct jinja_value run_slice(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_generator_later(state, call, compute_slice);
}

const struct jinja_builtin jinja_lazy_filters[] = {
    {"map", "*", 0, run_map},
    {"select", "*", 0, run_select},
    {"reject", "*", 0, run_select},
    {"selectattr", "*", 0, run_select},
    {"rejectattr", "*", 0, run_select},
    {"items", "", 0, run_items},
    {"unique", "case_sensitive,attribute", 0, run_unique},
    {"batch", "linecount,fill_with", 1, run_batch},
    {"slice", "slices,fill_with", 1, run_slice},
    {NULL, NULL, 0, NULL},
};
