#include "trainer/jinja/scope.h"

#include <string.h>

#include "trainer/jinja/scope_inside.h"

struct frame {
    struct jinja_resolver *resolver;
    struct jinja_symbols *symbols;
    struct jinja_frame_function *function;
};

typedef void (*visit_function)(void *context, struct jinja_node *node);

static void each_of(const struct jinja_body *body, visit_function visit, void *context)
{
    for (size_t i = 0; i < body->count; i++) {
        if (body->items[i]) {
            visit(context, body->items[i]);
        }
    }
}

static void each_if(struct jinja_node *node, visit_function visit, void *context)
{
    if (node) {
        visit(context, node);
    }
}

static void each_argument(const struct jinja_node *node, visit_function visit, void *context)
{
    if (node->arguments) {
        each_of(&node->arguments->items, visit, context);
        for (size_t i = 0; i < node->arguments->keyword_count; i++) {
            visit(context, node->arguments->keywords[i].value);
        }
        each_if(node->arguments->star, visit, context);
        each_if(node->arguments->star_star, visit, context);
    }
}

// All children of a node, in the order that decides whether a special name is read before it is written.
static void each_child(struct jinja_node *node, visit_function visit, void *context)
{
    if (node->kind == JINJA_N_CONDITION) {
        visit(context, node->b);
        visit(context, node->a);
        each_if(node->c, visit, context);
        return;
    }
    if (node->kind == JINJA_N_FILTER_BLOCK) {
        each_of(&node->body, visit, context);
        visit(context, node->a);
        return;
    }
    each_if(node->a, visit, context);
    each_if(node->b, visit, context);
    if (node->kind == JINJA_N_SET_BLOCK) {
        each_if(node->c, visit, context);
    }
    if (node->kind != JINJA_N_IF) {
        each_of(&node->items, visit, context);
    }
    each_argument(node, visit, context);
    each_of(&node->defaults, visit, context);
    each_of(&node->body, visit, context);
    if (node->kind == JINJA_N_IF) {
        each_of(&node->items, visit, context);
    }
    each_of(&node->else_body, visit, context);
    if (node->kind == JINJA_N_FOR) {
        each_if(node->c, visit, context);
    }
}

// Is a special name ("loop", "caller", ...) read in a body before anything there is called so?
struct search {
    struct jinja_state *state;
    int name_id;
    int is_found, is_written;
};

static void search_visit(void *context, struct jinja_node *node)
{
    struct search *search = context;
    if (search->is_found || search->is_written) {
        return;
    }
    if (node->kind == JINJA_N_NAME && node->name_id == search->name_id) {
        search->is_found = !node->is_stored;
        search->is_written = node->is_stored;
        return;
    }
    jinja_enter(search->state);
    each_child(node, search_visit, search);
    jinja_exit(search->state);
}

static int special_id(struct jinja_resolver *resolver, const char *name)
{
    struct jinja_value text = jinja_text_borrow(resolver->state, name, strlen(name));
    return jinja_name_id(resolver->state, &resolver->jinja->names, text.string);
}

static int is_undeclared(struct jinja_resolver *resolver, const struct jinja_body *body, int name_id)
{
    struct search search = {.state = resolver->state, .name_id = name_id};
    each_of(body, search_visit, &search);
    return search.is_found;
}

// First walk over a scope: which names does it hold? It stops where an inner scope begins.
static void learn(void *context, struct jinja_node *node);

static void learn_if(struct frame *frame, struct jinja_node *node)
{
    struct jinja_symbols *before = frame->symbols, *branches[3];
    const struct jinja_body *bodies[3] = {&node->body, &node->items, &node->else_body};
    learn(frame, node->a);
    for (size_t i = 0; i < 3; i++) {
        branches[i] = frame->symbols = jinja_symbols_copy(frame->resolver, before);
        each_of(bodies[i], learn, frame);
    }
    frame->symbols = before;
    jinja_symbols_join(frame->resolver, before, branches, 3);
}

static void learn_inside(struct frame *frame, struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_NAME:
        if (node->is_stored) {
            jinja_symbols_store(frame->resolver, frame->symbols, node->name_id);
            return;
        }
        jinja_symbols_load(frame->resolver, frame->symbols, node->name_id);
        return;
    case JINJA_N_NAMESPACE_REF:
        jinja_symbols_load(frame->resolver, frame->symbols, node->name_id);
        return;
    case JINJA_N_IF:
        learn_if(frame, node);
        return;
    case JINJA_N_MACRO:
        jinja_symbols_store(frame->resolver, frame->symbols, node->name_id);
        return;
    case JINJA_N_SET:
        learn(frame, node->b);
        learn(frame, node->a);
        return;
    case JINJA_N_FOR:
        learn(frame, node->b);
        return;
    case JINJA_N_CALL_BLOCK:
    case JINJA_N_FILTER_BLOCK:
    case JINJA_N_SET_BLOCK:
        learn(frame, node->a);
        return;
    case JINJA_N_WITH:
        for (size_t i = 1; i < node->items.count; i += 2) {
            learn(frame, node->items.items[i]);
        }
        return;
    case JINJA_N_GENERATION:
        return;
    default:
        each_child(node, learn, frame);
    }
}

static void learn(void *context, struct jinja_node *node)
{
    struct frame *frame = context;
    jinja_enter(frame->resolver->state);
    learn_inside(frame, node);
    jinja_exit(frame->resolver->state);
}

static void learn_parameters(struct frame *frame, struct jinja_node *target)
{
    if (target->kind == JINJA_N_NAME) {
        jinja_symbols_parameter(frame->resolver, frame->symbols, target->name_id);
    }
    for (size_t i = 0; target->kind == JINJA_N_TUPLE && i < target->items.count; i++) {
        learn_parameters(frame, target->items.items[i]);
    }
}

static struct frame inner_frame(const struct frame *outer, struct jinja_function *function)
{
    struct frame frame = *outer;
    if (function) {
        frame.function = JINJA_NEW(outer->resolver->state, struct jinja_frame_function);
        frame.function->outer = outer->function;
        frame.function->function = function;
        function->caller_slot = function->kwargs_slot = function->varargs_slot = -1;
    }
    frame.symbols = jinja_symbols_new(outer->resolver, outer->symbols, frame.function);
    return frame;
}

// Second walk: names become places, inner scopes are worked through.
static void bind(void *context, struct jinja_node *node);

static void bind_name(struct frame *frame, struct jinja_node *node)
{
    struct jinja_symbol *symbol = jinja_symbols_find(frame->symbols, node->name_id);
    if (!symbol) { // a filter of a block set reads names that nothing else does
        jinja_symbols_load(frame->resolver, frame->symbols, node->name_id);
        symbol = jinja_symbols_find(frame->symbols, node->name_id);
    }
    node->place = jinja_symbols_place(frame->function, symbol->ident);
    if (!node->is_stored && symbol->action != JINJA_ACT_PARAMETER) {
        struct jinja *jinja = frame->resolver->jinja;
        if (!jinja->is_read[node->name_id]) {
            jinja->read_line[node->name_id] = node->line;
        }
        jinja->is_read[node->name_id] = 1;
    }
}

static void refuse_loop_target(void *context, struct jinja_node *node)
{
    struct search *search = context;
    if (node->kind == JINJA_N_NAME && node->is_stored && node->name_id == search->name_id) {
        search->state->line = node->line;
        jinja_fail(search->state, "cannot assign to the special variable loop inside a for loop");
    }
    if (node->kind == JINJA_N_MACRO || node->kind == JINJA_N_CALL_BLOCK || node->kind == JINJA_N_WITH) {
        return; // their parameters may be called so; what is in them was or will be looked at by their own loops
    }
    jinja_enter(search->state);
    each_child(node, refuse_loop_target, search);
    jinja_exit(search->state);
}

static void bind_for(struct frame *frame, struct jinja_node *node)
{
    struct jinja_resolver *resolver = frame->resolver;
    int loop_id = special_id(resolver, "loop");
    struct search search = {.state = resolver->state, .name_id = loop_id};
    refuse_loop_target(&search, node);
    if (node->is_recursive) {
        node->function = JINJA_NEW(resolver->state, struct jinja_function);
    }
    struct frame body = inner_frame(frame, node->function);
    struct frame otherwise = body;
    otherwise.symbols = jinja_symbols_new(resolver, frame->symbols, body.function);
    node->is_extended = node->is_recursive || is_undeclared(resolver, &node->body, loop_id);
    if (node->is_extended) {
        node->loop_slot = jinja_symbols_parameter(resolver, body.symbols, loop_id)->ident->slot;
    }
    learn_parameters(&body, node->a);
    each_of(&node->body, learn, &body);
    each_of(&node->else_body, learn, &otherwise);
    bind(frame, node->b);
    if (node->c) {
        node->test_function = JINJA_NEW(resolver->state, struct jinja_function);
        struct frame test = inner_frame(frame, node->test_function);
        learn_parameters(&test, node->d);
        learn(&test, node->c);
        bind(&test, node->d);
        bind(&test, node->c);
        jinja_symbols_finish(resolver, test.symbols, &node->test_scope);
    }
    bind(&body, node->a);
    each_of(&node->body, bind, &body);
    each_of(&node->else_body, bind, &otherwise);
    jinja_symbols_finish(resolver, body.symbols, &node->scope);
    jinja_symbols_finish(resolver, otherwise.symbols, &node->else_scope);
}

static int special_slot(struct frame *frame, const struct jinja_node *node, const char *name)
{
    int id = special_id(frame->resolver, name);
    if (!is_undeclared(frame->resolver, &node->body, id)) {
        return -1;
    }
    for (size_t i = 0; i < node->items.count; i++) {
        if (node->items.items[i]->name_id != id) {
            continue;
        }
        if (strcmp(name, "caller") == 0 && i + node->defaults.count < node->items.count) {
            frame->resolver->state->line = node->line;
            jinja_fail(frame->resolver->state, "the special parameter caller needs a default");
        }
        return -2; // an ordinary parameter
    }
    return jinja_symbols_parameter(frame->resolver, frame->symbols, id)->ident->slot;
}

// A macro, or the body of a call or generation block.
static void bind_function(struct frame *frame, struct jinja_node *node)
{
    struct frame body = inner_frame(frame, node->function);
    for (size_t i = 0; i < node->items.count; i++) {
        learn_parameters(&body, node->items.items[i]);
    }
    each_of(&node->defaults, learn, &body);
    each_of(&node->body, learn, &body);
    node->function->caller_slot = special_slot(&body, node, "caller");
    node->function->kwargs_slot = special_slot(&body, node, "kwargs");
    node->function->varargs_slot = special_slot(&body, node, "varargs");
    each_of(&node->items, bind, &body);
    each_of(&node->defaults, bind, &body);
    each_of(&node->body, bind, &body);
    jinja_symbols_finish(frame->resolver, body.symbols, &node->scope);
}

static void bind_block(struct frame *frame, struct jinja_node *node)
{
    struct frame body = inner_frame(frame, NULL);
    each_of(&node->body, learn, &body);
    struct jinja_node *filter = node->kind == JINJA_N_SET_BLOCK ? node->c : node->a;
    each_if(filter, learn, &body);
    each_of(&node->body, bind, &body);
    each_if(filter, bind, &body);
    if (node->kind == JINJA_N_SET_BLOCK) {
        bind(frame, node->a);
    }
    jinja_symbols_finish(frame->resolver, body.symbols, &node->scope);
}

static void bind_with(struct frame *frame, struct jinja_node *node)
{
    struct frame body = inner_frame(frame, NULL);
    for (size_t i = 0; i < node->items.count; i += 2) {
        learn_parameters(&body, node->items.items[i]);
    }
    each_of(&node->body, learn, &body);
    for (size_t i = 0; i < node->items.count; i += 2) {
        bind(&body, node->items.items[i]);
        bind(frame, node->items.items[i + 1]);
    }
    each_of(&node->body, bind, &body);
    jinja_symbols_finish(frame->resolver, body.symbols, &node->scope);
}

static void bind_inside(struct frame *frame, struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_NAME:
    case JINJA_N_NAMESPACE_REF:
        bind_name(frame, node);
        return;
    case JINJA_N_FOR:
        bind_for(frame, node);
        return;
    case JINJA_N_MACRO:
        node->is_stored = 1;
        bind_name(frame, node);
        bind_function(frame, node);
        return;
    case JINJA_N_CALL_BLOCK:
        bind(frame, node->a);
        bind_function(frame, node);
        return;
    case JINJA_N_GENERATION:
        bind_function(frame, node);
        return;
    case JINJA_N_SET_BLOCK:
    case JINJA_N_FILTER_BLOCK:
        bind_block(frame, node);
        return;
    case JINJA_N_WITH:
        bind_with(frame, node);
        return;
    default:
        each_child(node, bind, frame);
    }
}

static void bind(void *context, struct jinja_node *node)
{
    struct frame *frame = context;
    jinja_enter(frame->resolver->state);
    bind_inside(frame, node);
    jinja_exit(frame->resolver->state);
}

void jinja_resolve(struct jinja *jinja)
{
    struct jinja_resolver resolver = {.state = &jinja->state, .jinja = jinja};
    jinja->is_read = jinja_take(&jinja->state, JINJA_NAME_COUNT_MAX);
    jinja->read_line = jinja_take(&jinja->state, JINJA_NAME_COUNT_MAX * sizeof(*jinja->read_line));
    struct jinja_frame_function function = {.function = &jinja->function};
    struct frame frame = {.resolver = &resolver, .function = &function};
    frame.symbols = jinja_symbols_new(&resolver, NULL, &function);
    each_of(&jinja->body, learn, &frame);
    each_of(&jinja->body, bind, &frame);
    jinja_symbols_finish(&resolver, frame.symbols, &jinja->scope);
}
