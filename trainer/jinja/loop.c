#include "trainer/jinja/loop.h"

#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"

// The next item that the loop's condition lets through.
static int fetch(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value *item)
{
    const struct jinja_node *node = loop->statement;
    while (jinja_next(&render->state, &loop->iterator, item)) {
        if (!node->c) {
            return 1;
        }
        struct jinja_activation *before = render->activation;
        render->activation = loop->test_activation;
        jinja_scope_enter(render, &node->test_scope);
        jinja_assign(render, node->d, *item);
        int is_wanted = jinja_is_true(&render->state, jinja_evaluate(render, node->c));
        render->activation = before;
        if (is_wanted) {
            return 1;
        }
    }
    return 0;
}

static int read_ahead(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value *item)
{
    if (loop->ahead_position < loop->ahead.count) {
        *item = loop->ahead.items[loop->ahead_position++];
        return 1;
    }
    return fetch(render, loop, item);
}

int jinja_loop_next(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value *item)
{
    if (loop->after.kind != JINJA_MISSING) {
        *item = loop->after;
        loop->after = (struct jinja_value){0};
    } else if (!read_ahead(render, loop, item)) {
        return 0;
    }
    loop->index0++;
    loop->before = loop->current;
    loop->current = *item;
    return 1;
}

static int peek(struct jinja_render *render, struct jinja_loop *loop)
{
    struct jinja_value item;
    if (loop->after.kind == JINJA_MISSING && read_ahead(render, loop, &item)) {
        loop->after = item;
    }
    return loop->after.kind != JINJA_MISSING;
}

int64_t jinja_loop_length(struct jinja_render *render, struct jinja_loop *loop)
{
    if (loop->length >= 0) {
        return loop->length;
    }
    if (!loop->statement->c && jinja_length(&render->state, loop->iterator.source, &loop->length)) {
        return loop->length;
    }
    struct jinja_value item;
    while (fetch(render, loop, &item)) {
        jinja_list_append(&render->state, &loop->ahead, item);
    }
    int64_t ahead = (int64_t)(loop->ahead.count - loop->ahead_position);
    loop->length = loop->index0 + 1 + ahead + (loop->after.kind != JINJA_MISSING);
    return loop->length;
}

struct jinja_value jinja_loop_member(struct jinja_render *render, struct jinja_value self, const char *name, int *found)
{
    struct jinja_loop *loop = self.loop;
    struct jinja_state *state = &render->state;
    *found = 1;
    if (strcmp(name, "index0") == 0) {
        return jinja_int(loop->index0);
    } else if (strcmp(name, "index") == 0) {
        return jinja_int(loop->index0 + 1);
    } else if (strcmp(name, "first") == 0) {
        return jinja_bool(loop->index0 == 0);
    } else if (strcmp(name, "last") == 0) {
        return jinja_bool(!peek(render, loop));
    } else if (strcmp(name, "length") == 0) {
        return jinja_int(jinja_loop_length(render, loop));
    } else if (strcmp(name, "revindex") == 0) {
        return jinja_int(jinja_loop_length(render, loop) - loop->index0);
    } else if (strcmp(name, "revindex0") == 0) {
        return jinja_int(jinja_loop_length(render, loop) - loop->index0 - 1);
    } else if (strcmp(name, "previtem") == 0) {
        return loop->index0 == 0 ? jinja_undefined_hint(state, "there is no previous item") : loop->before;
    } else if (strcmp(name, "nextitem") == 0) {
        return peek(render, loop) ? loop->after : jinja_undefined_hint(state, "there is no next item");
    } else if (strcmp(name, "depth") == 0) {
        return jinja_int(loop->depth0 + 1);
    } else if (strcmp(name, "depth0") == 0) {
        return jinja_int(loop->depth0);
    }
    *found = 0;
    return jinja_none();
}

static struct jinja_value run_cycle(struct jinja_state *state, struct jinja_call *call)
{
    if (call->arguments.count == 0 || call->arguments.keyword_count > 0) {
        jinja_fail(state, "no items for cycling given");
    }
    return call->arguments.items[(size_t)call->self.loop->index0 % call->arguments.count];
}

static struct jinja_value run_changed(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_loop *loop = call->self.loop;
    struct jinja_value value = jinja_tuple_new(state, call->arguments.count);
    if (call->arguments.keyword_count > 0) {
        jinja_fail(state, "loop.changed() takes no keyword arguments");
    }
    for (size_t i = 0; i < call->arguments.count; i++) {
        value.list->items[i] = call->arguments.items[i];
    }
    if (loop->last_changed.kind != JINJA_MISSING && jinja_equal(state, loop->last_changed, value)) {
        return jinja_bool(0);
    }
    loop->last_changed = value;
    return jinja_bool(1);
}

const struct jinja_builtin jinja_loop_methods[] = {
    {"cycle", "*", 0, run_cycle}, {"changed", "*", 0, run_changed}, {NULL, NULL, 0, NULL}};
