// Statements to text.
#include <string.h>

#include "trainer/jinja/render.h"

void jinja_write(struct jinja_render *render, const char *bytes, size_t size)
{
    struct jinja_output *output = render->output;
    jinja_charge(&render->state, size);
    if (output->target) {
        if (output->target->size - render->output_start + size > RMJ_JINJA_OUTPUT_SIZE_MAX) {
            jinja_fail(&render->state, "the text is longer than %zu bytes", RMJ_JINJA_OUTPUT_SIZE_MAX);
        }
        rmj_buf_append(output->target, bytes, size);
        if (output->target->failed) {
            jinja_fail(&render->state, "the text does not fit its buffer of %zu bytes", output->target->size_max);
        }
        return;
    }
    output->bytes = jinja_grow(&render->state, output->bytes, &output->capacity, output->size + size + 1, 1);
    memcpy(output->bytes + output->size, bytes, size);
    output->size += size;
}

struct jinja_output *jinja_output_push(struct jinja_render *render, struct jinja_output *output)
{
    struct jinja_output *before = render->output;
    *output = (struct jinja_output){0};
    render->output = output;
    return before;
}

struct jinja_value jinja_output_pop(struct jinja_render *render, struct jinja_output *before)
{
    struct jinja_output *output = render->output;
    render->output = before;
    return jinja_text_borrow(&render->state, output->bytes ? output->bytes : "", output->size);
}

struct jinja_activation *jinja_activation_new(struct jinja_render *render, const struct jinja_function *function,
                                              struct jinja_activation *outer)
{
    struct jinja_activation *activation = JINJA_NEW(&render->state, struct jinja_activation);
    activation->outer = outer;
    activation->slots = jinja_take(&render->state, (size_t)(function->slot_count + 1) * sizeof(*activation->slots));
    return activation;
}

void jinja_scope_enter(struct jinja_render *render, const struct jinja_scope *scope)
{
    for (size_t i = 0; i < scope->load_count; i++) {
        const struct jinja_load *load = &scope->loads[i];
        struct jinja_value *slot = &render->activation->slots[load->slot];
        switch (load->kind) {
        case JINJA_LOAD_GLOBAL:
            *slot = render->globals[load->name_id];
            break;
        case JINJA_LOAD_ALIAS:
            *slot = *jinja_slot(render, load->outer);
            break;
        case JINJA_LOAD_MISSING:
            *slot = (struct jinja_value){0};
            break;
        }
    }
}

void jinja_scope_leave(struct jinja_render *render, const struct jinja_scope *scope)
{
    for (size_t i = 0; i < scope->clear_count; i++) {
        render->activation->slots[scope->clears[i]] = (struct jinja_value){0};
    }
}

static void unpack(struct jinja_render *render, const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_state *state = &render->state;
    if (!jinja_is_iterable(value)) {
        jinja_fail(state, "cannot unpack non-iterable %s object", jinja_kind_name(value.kind));
    }
    struct jinja_value items = jinja_list_of(state, value);
    if (items.list->count != target->items.count) {
        jinja_fail(state, "%s values to unpack (expected %zu, got %zu)",
                   items.list->count > target->items.count ? "too many" : "not enough", target->items.count,
                   items.list->count);
    }
    for (size_t i = 0; i < items.list->count; i++) {
        jinja_assign(render, target->items.items[i], items.list->items[i]);
    }
}

void jinja_assign(struct jinja_render *render, const struct jinja_node *target, struct jinja_value value)
{
    if (target->kind == JINJA_N_NAME) {
        *jinja_slot(render, target->place) = value;
    } else if (target->kind == JINJA_N_TUPLE) {
        unpack(render, target, value);
    } else {
        struct jinja_value owner = *jinja_slot(render, target->place);
        struct jinja_value name = {.kind = JINJA_STRING, .string = target->text};
        if (target->text->size > 0 && target->text->bytes[0] == '_') {
            jinja_fail(&render->state, "a namespace cannot hold attributes that start with an underscore: %s",
                       target->text->bytes);
        }
        jinja_dict_set(&render->state, owner.dict, name, value);
    }
}

// Only a namespace has attributes to set; asked before the value is evaluated.
static void check_namespaces(struct jinja_render *render, const struct jinja_node *target)
{
    if (target->kind == JINJA_N_NAMESPACE_REF && jinja_slot(render, target->place)->kind != JINJA_NAMESPACE) {
        jinja_fail(&render->state, "cannot assign attribute on non-namespace object");
    }
    for (size_t i = 0; target->kind == JINJA_N_TUPLE && i < target->items.count; i++) {
        check_namespaces(render, target->items.items[i]);
    }
}

static void write_value(struct jinja_render *render, struct jinja_value value)
{
    if (value.kind != JINJA_STRING) {
        value = jinja_str(&render->state, value);
    }
    jinja_write(render, value.string->bytes, value.string->size);
}

static enum jinja_flow execute_if(struct jinja_render *render, const struct jinja_node *node)
{
    if (jinja_is_true(&render->state, jinja_evaluate(render, node->a))) {
        return jinja_execute(render, &node->body);
    }
    for (size_t i = 0; i < node->items.count; i++) {
        const struct jinja_node *branch = node->items.items[i];
        if (jinja_is_true(&render->state, jinja_evaluate(render, branch->a))) {
            return jinja_execute(render, &branch->body);
        }
    }
    return jinja_execute(render, &node->else_body);
}

// The turns of a loop, in the current activation.
static enum jinja_flow run_loop(struct jinja_render *render, const struct jinja_node *node, struct jinja_loop *loop)
{
    struct jinja_value item;
    enum jinja_flow flow = JINJA_FLOW_ON;
    int is_empty = 1;
    while (flow != JINJA_FLOW_BREAK && jinja_loop_next(render, loop, &item)) {
        render->state.line = node->line;
        jinja_assign(render, node->a, item);
        if (node->is_extended) {
            render->activation->slots[node->loop_slot] = (struct jinja_value){.kind = JINJA_LOOP, .loop = loop};
        }
        jinja_scope_enter(render, &node->scope);
        flow = jinja_execute(render, &node->body);
        is_empty &= flow != JINJA_FLOW_ON;
    }
    jinja_scope_leave(render, &node->scope);
    // The other branch is taken when no turn got to its end: also when the first was broken off or skipped.
    if (node->else_body.count == 0 || !is_empty) {
        return JINJA_FLOW_ON;
    }
    jinja_scope_enter(render, &node->else_scope);
    flow = jinja_execute(render, &node->else_body);
    jinja_scope_leave(render, &node->else_scope);
    return flow;
}

static void loop_init(struct jinja_render *render, const struct jinja_node *node, struct jinja_loop *loop,
                      struct jinja_value source)
{
    *loop = (struct jinja_loop){.statement = node, .index0 = -1, .length = -1};
    loop->iterator = jinja_iterate(&render->state, source);
    if (node->c) {
        loop->test_activation = jinja_activation_new(render, node->test_function, render->activation);
    }
}

static enum jinja_flow execute_for(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value source = jinja_evaluate(render, node->b);
    struct jinja_loop *loop = JINJA_NEW(&render->state, struct jinja_loop);
    loop_init(render, node, loop, source);
    if (!node->is_recursive) {
        return run_loop(render, node, loop);
    }
    struct jinja_activation *outer = render->activation;
    loop->recursive_in = outer;
    render->activation = jinja_activation_new(render, node->function, outer);
    run_loop(render, node, loop);
    render->activation = outer;
    return JINJA_FLOW_ON;
}

struct jinja_value jinja_loop_again(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value source)
{
    const struct jinja_node *node = loop->statement;
    if (!loop->recursive_in) {
        jinja_fail(&render->state, "the loop must have the 'recursive' marker to be called recursively");
    }
    struct jinja_activation *caller = render->activation;
    struct jinja_output output, *before = jinja_output_push(render, &output);
    struct jinja_loop *inner = JINJA_NEW(&render->state, struct jinja_loop);
    render->activation = loop->recursive_in;
    loop_init(render, node, inner, source);
    inner->depth0 = loop->depth0 + 1;
    inner->recursive_in = loop->recursive_in;
    render->activation = jinja_activation_new(render, node->function, loop->recursive_in);
    run_loop(render, node, inner);
    render->activation = caller;
    return jinja_output_pop(render, before);
}

static enum jinja_flow execute_block(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_output output, *before = jinja_output_push(render, &output);
    jinja_scope_enter(render, &node->scope);
    enum jinja_flow flow = jinja_execute(render, &node->body);
    struct jinja_value text = jinja_output_pop(render, before);
    if (flow != JINJA_FLOW_ON) {
        return flow; // broken off inside: nothing is written or set
    }
    render->state.line = node->line;
    if (node->kind == JINJA_N_SET_BLOCK) {
        check_namespaces(render, node->a);
        jinja_assign(render, node->a, jinja_evaluate_filter(render, node->c, text));
    } else {
        struct jinja_value filtered = jinja_evaluate_filter(render, node->a, text);
        if (filtered.kind != JINJA_STRING) {
            jinja_fail(&render->state, "the filter of a filter block gives %s, not str",
                       jinja_kind_name(filtered.kind));
        }
        jinja_write(render, filtered.string->bytes, filtered.string->size);
    }
    jinja_scope_leave(render, &node->scope);
    return JINJA_FLOW_ON;
}

static enum jinja_flow execute_with(struct jinja_render *render, const struct jinja_node *node)
{
    jinja_scope_enter(render, &node->scope);
    for (size_t i = 0; i + 1 < node->items.count; i += 2) {
        jinja_assign(render, node->items.items[i], jinja_evaluate(render, node->items.items[i + 1]));
    }
    enum jinja_flow flow = jinja_execute(render, &node->body);
    jinja_scope_leave(render, &node->scope);
    return flow;
}

static struct jinja_value macro_of(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_macro *macro = JINJA_NEW(&render->state, struct jinja_macro);
    macro->node = node;
    macro->outer = render->activation;
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static void execute_call_block(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_value result = jinja_call_block(render, node->a, macro_of(render, node));
    if (result.kind != JINJA_STRING) {
        jinja_fail(&render->state, "a call block calls for text, not %s", jinja_kind_name(result.kind));
    }
    jinja_write(render, result.string->bytes, result.string->size);
}

static void execute_generation(struct jinja_render *render, const struct jinja_node *node)
{
    struct jinja_macro macro = {.node = node, .outer = render->activation};
    struct jinja_arguments none = {0};
    struct jinja_value text = jinja_call_macro(render, &macro, &none);
    render->spans = jinja_grow(&render->state, render->spans, &render->span_capacity, render->span_count + 1,
                               sizeof(*render->spans));
    size_t begin = render->target->size - render->output_start;
    render->spans[render->span_count++] = (struct rmj_jinja_span){begin, begin + text.string->size};
    jinja_write(render, text.string->bytes, text.string->size);
}

static enum jinja_flow execute_one(struct jinja_render *render, const struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_TEXT:
        jinja_write(render, node->text->bytes, node->text->size);
        return JINJA_FLOW_ON;
    case JINJA_N_OUTPUT:
        for (size_t i = 0; i < node->items.count; i++) {
            write_value(render, jinja_evaluate(render, node->items.items[i]));
        }
        return JINJA_FLOW_ON;
    case JINJA_N_IF:
        return execute_if(render, node);
    case JINJA_N_FOR:
        return execute_for(render, node);
    case JINJA_N_SET:
        check_namespaces(render, node->a);
        jinja_assign(render, node->a, jinja_evaluate(render, node->b));
        return JINJA_FLOW_ON;
    case JINJA_N_SET_BLOCK:
    case JINJA_N_FILTER_BLOCK:
        return execute_block(render, node);
    case JINJA_N_MACRO:
        *jinja_slot(render, node->place) = macro_of(render, node);
        return JINJA_FLOW_ON;
    case JINJA_N_CALL_BLOCK:
        execute_call_block(render, node);
        return JINJA_FLOW_ON;
    case JINJA_N_WITH:
        return execute_with(render, node);
    case JINJA_N_GENERATION:
        execute_generation(render, node);
        return JINJA_FLOW_ON;
    case JINJA_N_BREAK:
        return JINJA_FLOW_BREAK;
    case JINJA_N_CONTINUE:
        return JINJA_FLOW_CONTINUE;
    default:
        jinja_fail(&render->state, "this is no statement");
    }
}

enum jinja_flow jinja_execute(struct jinja_render *render, const struct jinja_body *body)
{
    enum jinja_flow flow = JINJA_FLOW_ON;
    jinja_enter(&render->state);
    for (size_t i = 0; i < body->count && flow == JINJA_FLOW_ON; i++) {
        jinja_charge(&render->state, 0);
        render->state.line = body->items[i]->line;
        flow = execute_one(render, body->items[i]);
    }
    jinja_exit(&render->state);
    return flow;
}
