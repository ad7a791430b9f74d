// Calls: of builtins, of macros, and of whatever else a template tries to call.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"

// Position of a parameter in "a,b,c"; -1 when there is none of this name.
static int parameter_index(const char *parameters, const struct jinja_string *name)
{
    int index = 0;
    for (const char *at = parameters; *at; index++) {
        size_t size = strcspn(at, ",");
        if (size == name->size && memcmp(at, name->bytes, size) == 0) {
            return index;
        }
        at += size + (at[size] == ',');
    }
    return -1;
}

static size_t parameter_count(const char *parameters)
{
    size_t count = *parameters != '\0';
    for (const char *at = parameters; *at; at++) {
        count += *at == ',';
    }
    return count;
}

static void bind_arguments(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_builtin *builtin = call->builtin;
    const char *parameters = builtin->parameters;
    int by_position_only = parameters[0] == '/';
    parameters += by_position_only;
    if (call->arguments.count > parameter_count(parameters)) {
        jinja_fail(state, "%s() takes at most %zu arguments (%zu given)", builtin->name, parameter_count(parameters),
                   call->arguments.count);
    }
    for (size_t i = 0; i < call->arguments.count; i++) {
        call->given[i] = call->arguments.items[i];
    }
    for (size_t i = 0; i < call->arguments.keyword_count; i++) {
        const struct jinja_keyword *keyword = &call->arguments.keywords[i];
        int index = parameter_index(parameters, keyword->name);
        if (by_position_only || index < 0) {
            jinja_fail(state, "%s() got an unexpected keyword argument '%s'", builtin->name, keyword->name->bytes);
        }
        if (call->given[index].kind != JINJA_MISSING) {
            jinja_fail(state, "%s() got multiple values for argument '%s'", builtin->name, keyword->name->bytes);
        }
        call->given[index] = keyword->value;
    }
    for (int i = 0; i < builtin->required; i++) {
        if (call->given[i].kind == JINJA_MISSING) {
            jinja_fail(state, "%s() misses an argument", builtin->name);
        }
    }
}

struct jinja_value jinja_run_builtin(struct jinja_state *state, const struct jinja_builtin *builtin,
                                     struct jinja_value self, const struct jinja_arguments *arguments)
{
    struct jinja_call call = {.builtin = builtin, .self = self, .arguments = *arguments};
    if (builtin->parameters[0] != '*') {
        bind_arguments(state, &call);
    }
    jinja_enter(state);
    struct jinja_value value = builtin->run(state, &call);
    jinja_exit(state);
    return value;
}

// Takes a keyword out of the arguments: its value, or JINJA_MISSING.
static struct jinja_value take_keyword(struct jinja_arguments *arguments, const struct jinja_string *name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        if (arguments->keywords[i].name->size == name->size &&
            memcmp(arguments->keywords[i].name->bytes, name->bytes, name->size) == 0) {
            struct jinja_value value = arguments->keywords[i].value;
            memmove(&arguments->keywords[i], &arguments->keywords[i + 1],
                    (arguments->keyword_count - i - 1) * sizeof(*arguments->keywords));
            arguments->keyword_count--;
            return value;
        }
    }
    return (struct jinja_value){0};
}

static void give_parameters(struct jinja_render *render, const struct jinja_node *node, struct jinja_arguments *rest)
{
    struct jinja_state *state = &render->state;
    size_t count = node->items.count, first_default = count - node->defaults.count;
    for (size_t i = 0; i < count; i++) {
        const struct jinja_node *parameter = node->items.items[i];
        struct jinja_value *slot = jinja_slot(render, parameter->place);
        *slot = i < rest->count ? rest->items[i] : take_keyword(rest, parameter->text);
    }
    jinja_scope_enter(render, &node->scope);
    for (size_t i = 0; i < count; i++) {
        const struct jinja_node *parameter = node->items.items[i];
        if (jinja_slot(render, parameter->place)->kind != JINJA_MISSING) {
            continue;
        }
        struct jinja_value value;
        if (i >= first_default) {
            value = jinja_evaluate(render, node->defaults.items[i - first_default]);
        } else {
            value = jinja_undefined_name(state, parameter->text);
        }
        *jinja_slot(render, parameter->place) = value;
    }
}

static struct jinja_value keywords_dict(struct jinja_state *state, const struct jinja_arguments *arguments)
{
    struct jinja_value dict = jinja_dict_new(state);
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        struct jinja_value name = {.kind = JINJA_STRING, .string = arguments->keywords[i].name};
        jinja_dict_set(state, dict.dict, name, arguments->keywords[i].value);
    }
    return dict;
}

// caller, kwargs and varargs, where the macro reads them; arguments that nothing takes are refused.
static void give_specials(struct jinja_render *render, const struct jinja_node *node, struct jinja_arguments *rest)
{
    static const struct jinja_string caller_name = {.bytes = "caller", .size = 6, .length = 6};
    struct jinja_state *state = &render->state;
    const struct jinja_function *function = node->function;
    struct jinja_value *slots = render->activation->slots;
    const char *name = node->text ? node->text->bytes : "caller";
    if (function->caller_slot >= 0) {
        struct jinja_value caller = take_keyword(rest, &caller_name);
        int is_given = caller.kind != JINJA_MISSING && caller.kind != JINJA_NONE;
        slots[function->caller_slot] = is_given ? caller : jinja_undefined_hint(state, "no caller defined");
    }
    if (function->kwargs_slot >= 0) {
        slots[function->kwargs_slot] = keywords_dict(state, rest);
    } else if (rest->keyword_count > 0) {
        jinja_fail(state, "macro '%s' takes no keyword argument '%s'", name, rest->keywords[0].name->bytes);
    }
    size_t extra = rest->count > node->items.count ? rest->count - node->items.count : 0;
    if (function->varargs_slot >= 0) {
        struct jinja_value varargs = jinja_tuple_new(state, extra);
        for (size_t i = 0; i < extra; i++) {
            varargs.list->items[i] = rest->items[node->items.count + i];
        }
        slots[function->varargs_slot] = varargs;
    } else if (extra > 0) {
        jinja_fail(state, "macro '%s' takes not more than %zu arguments", name, node->items.count);
    }
}

struct jinja_value jinja_call_macro(struct jinja_render *render, struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments)
{
    struct jinja_arguments rest = *arguments;
    struct jinja_activation *caller = render->activation;
    struct jinja_output output, *before;
    rest.keywords = jinja_take(&render->state, (rest.keyword_count + 1) * sizeof(*rest.keywords));
    if (rest.keyword_count > 0) {
        memcpy(rest.keywords, arguments->keywords, rest.keyword_count * sizeof(*rest.keywords));
    }
    jinja_enter(&render->state);
    render->activation = jinja_activation_new(render, macro->node->function, macro->outer);
    before = jinja_output_push(render, &output);
    give_parameters(render, macro->node, &rest);
    give_specials(render, macro->node, &rest);
    jinja_execute(render, &macro->node->body);
    render->activation = caller;
    jinja_exit(&render->state);
    return jinja_output_pop(render, before);
}

struct jinja_value jinja_call_value(struct jinja_render *render, struct jinja_value callee,
                                    const struct jinja_arguments *arguments)
{
    struct jinja_state *state = &render->state;
    switch (callee.kind) {
    case JINJA_MACRO:
        return jinja_call_macro(render, callee.macro, arguments);
    case JINJA_FUNCTION:
        return jinja_run_builtin(state, callee.function, (struct jinja_value){0}, arguments);
    case JINJA_METHOD:
        return jinja_run_builtin(state, callee.method->builtin, callee.method->self, arguments);
    case JINJA_LOOP:
        if (arguments->count != 1 || arguments->keyword_count != 0) {
            jinja_fail(state, "loop() takes one argument");
        }
        return jinja_loop_again(render, callee.loop, arguments->items[0]);
    case JINJA_JOINER:
        if (arguments->count + arguments->keyword_count > 0) {
            jinja_fail(state, "a joiner takes no arguments");
        }
        if (callee.joiner->is_used) {
            return callee.joiner->separator;
        }
        callee.joiner->is_used = 1;
        return jinja_text_borrow(state, "", 0);
    default:
        jinja_need_defined(state, callee);
        jinja_fail(state, "'%s' object is not callable", jinja_kind_name(callee.kind));
    }
}
