// Compiling and rendering: sets the state up, and catches what leaves it.
#include "trainer/jinja/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "trainer/jinja/builtin.h"
#include "trainer/jinja/parse.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/scope.h"

struct rmj_jinja {
    struct jinja inside;
};

int jinja_name_id(struct jinja_state *state, struct jinja_names *names, const struct jinja_string *name)
{
    struct jinja_value id;
    if (names->index.kind == JINJA_MISSING) {
        names->index = jinja_dict_new(state);
    }
    if (jinja_dict_get_text(state, names->index.dict, name, &id)) {
        return (int)id.integer;
    }
    if (names->count == JINJA_NAME_COUNT_MAX) {
        jinja_fail(state, "more than %d different names", JINJA_NAME_COUNT_MAX);
    }
    jinja_dict_set(state, names->index.dict, (struct jinja_value){.kind = JINJA_STRING, .string = name},
                   jinja_int((int64_t)names->count));
    names->items = jinja_grow(state, names->items, &names->capacity, names->count + 1, sizeof(*names->items));
    names->items[names->count] = name;
    return (int)names->count++;
}

static void refuse_names(struct jinja *jinja)
{
    static const char *const refused[] = {"lipsum", "self", "super"};
    for (size_t i = 0; i < RMJ_COUNT(refused); i++) {
        struct jinja_value id;
        struct jinja_value name = jinja_text_borrow(&jinja->state, refused[i], strlen(refused[i]));
        if (jinja->names.index.kind != JINJA_MISSING &&
            jinja_dict_get(&jinja->state, jinja->names.index.dict, name, &id) && jinja->is_read[id.integer]) {
            jinja->state.line = jinja->read_line[id.integer];
            jinja_fail(&jinja->state, "'%s' is not supported", refused[i]);
        }
    }
}

static enum rmj_status compile(struct jinja *jinja, const char *source, size_t size)
{
    struct jinja_state *state = &jinja->state;
    if (setjmp(state->leave) != 0) {
        return state->status;
    }
    struct jinja_tokens tokens = {0};
    jinja_lex(state, source, size, &tokens);
    jinja_parse(state, &jinja->names, &tokens, &jinja->body);
    state->depth_max = JINJA_RENDER_DEPTH_MAX;
    jinja_resolve(jinja);
    refuse_names(jinja);
    state->line = 0;
    return RMJ_OK;
}

enum rmj_status rmj_jinja_compile(struct rmj_jinja **jinja, const char *name, const char *source, size_t size,
                                  struct rmj_error *err)
{
    *jinja = NULL;
    if (size > RMJ_JINJA_SOURCE_SIZE_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s: %zu bytes is more than a template may have (%zu)", name, size,
                        RMJ_JINJA_SOURCE_SIZE_MAX);
    }
    size_t valid = rmj_text_utf8_valid(source, size);
    if (valid < size) {
        return rmj_fail(err, RMJ_DATA, "%s: byte %zu is not UTF-8", name, valid);
    }
    struct rmj_jinja *made = calloc(1, sizeof(*made));
    char *kept_name = strdup(name);
    if (!made || !kept_name) {
        free(made);
        free(kept_name);
        return rmj_fail(err, RMJ_NO_MEMORY, "%s: out of memory", name);
    }
    made->inside.state = (struct jinja_state){.err = err,
                                              .name = kept_name,
                                              .memory_max = JINJA_COMPILE_MEMORY_MAX,
                                              .step_count_max = UINT64_MAX,
                                              .depth_max = JINJA_PARSE_DEPTH_MAX};
    enum rmj_status status = compile(&made->inside, source, size);
    made->inside.state.err = NULL;
    if (status != RMJ_OK) {
        rmj_jinja_free(made);
        return status;
    }
    *jinja = made;
    return RMJ_OK;
}

void rmj_jinja_free(struct rmj_jinja *jinja)
{
    if (jinja) {
        jinja_release(&jinja->inside.state);
        free((char *)jinja->inside.state.name);
        free(jinja);
    }
}

int rmj_jinja_reads(const struct rmj_jinja *jinja, const char *variable)
{
    const struct jinja *inside = &jinja->inside;
    size_t size = strlen(variable);
    for (size_t i = 0; i < inside->names.count; i++) {
        const struct jinja_string *name = inside->names.items[i];
        if (inside->is_read[i] && name->size == size && memcmp(name->bytes, variable, size) == 0) {
            return 1;
        }
    }
    return 0;
}

int rmj_jinja_uses_date(const struct rmj_jinja *jinja)
{
    return rmj_jinja_reads(jinja, "strftime_now");
}

// JSON to values. Texts are borrowed: the input outlives the rendering.
static struct jinja_value value_of(struct jinja_state *state, const json_t *json)
{
    struct jinja_value value;
    const char *key;
    json_t *member;
    size_t size, i;
    jinja_enter(state);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value = jinja_dict_new(state);
        json_object_keylen_foreach((json_t *)json, key, size, member)
        {
            jinja_dict_set(state, value.dict, jinja_text_borrow(state, key, size), value_of(state, member));
        }
        break;
    case JSON_ARRAY:
        value = jinja_tuple_new(state, json_array_size(json));
        value.kind = JINJA_LIST;
        json_array_foreach((json_t *)json, i, member)
        {
            value.list->items[i] = value_of(state, member);
        }
        break;
    case JSON_STRING:
        value = jinja_text_borrow(state, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        value = jinja_int(json_integer_value(json));
        break;
    case JSON_REAL:
        value = jinja_float(json_real_value(json));
        break;
    case JSON_NULL:
        value = jinja_none();
        break;
    default:
        value = jinja_bool(json_is_true(json));
    }
    jinja_exit(state);
    return value;
}

// What the template's free names stand for.
static void set_globals(struct jinja_render *render)
{
    const struct jinja_names *names = &render->jinja->names;
    render->globals = jinja_take(&render->state, (names->count + 1) * sizeof(*render->globals));
    for (size_t i = 0; i < names->count; i++) {
        const struct jinja_string *name = names->items[i];
        const json_t *given = json_object_getn(render->input->variables, name->bytes, name->size);
        const struct jinja_builtin *function = jinja_find_function(name->bytes, name->size);
        if (given) {
            render->globals[i] = value_of(&render->state, given);
        } else if (function) {
            render->globals[i] = (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
        }
    }
}

static enum rmj_status run(struct jinja_render *render)
{
    if (setjmp(render->state.leave) != 0) {
        return render->state.status;
    }
    struct jinja_output output = {.target = render->target};
    render->output = &output;
    set_globals(render);
    render->activation = jinja_activation_new(render, &render->jinja->function, NULL);
    jinja_scope_enter(render, &render->jinja->scope);
    jinja_execute(render, &render->jinja->body);
    return RMJ_OK;
}

static enum rmj_status copy_spans(const struct jinja_render *render, struct rmj_jinja_span **spans, size_t *span_count,
                                  struct rmj_error *err)
{
    *span_count = render->span_count;
    *spans = malloc((render->span_count + 1) * sizeof(**spans));
    if (!*spans) {
        return rmj_fail(err, RMJ_NO_MEMORY, "%s: out of memory", render->state.name);
    }
    for (size_t i = 0; i < render->span_count; i++) {
        struct rmj_jinja_span span = render->spans[i];
        size_t size = render->target->size - render->output_start; // a block in a text that was dropped has no place
        span.begin = span.begin < size ? span.begin : size;
        span.end = span.end < size ? span.end : size;
        (*spans)[i] = span;
    }
    return RMJ_OK;
}

enum rmj_status rmj_jinja_render(const struct rmj_jinja *jinja, const struct rmj_jinja_input *input,
                                 struct rmj_buf *out, struct rmj_jinja_span **spans, size_t *span_count,
                                 struct rmj_error *err)
{
    struct jinja_render render = {.jinja = &jinja->inside, .input = input, .target = out, .output_start = out->size};
    render.state.err = err;
    render.state.name = jinja->inside.state.name;
    render.state.memory_max = JINJA_RENDER_MEMORY_MAX;
    render.state.depth_max = JINJA_RENDER_DEPTH_MAX;
    render.state.step_count_max = input->step_count_max ? input->step_count_max : JINJA_STEP_COUNT_DEFAULT;
    if (spans) {
        *spans = NULL;
        *span_count = 0;
    }
    enum rmj_status status = run(&render);
    if (status == RMJ_OK && spans) {
        status = copy_spans(&render, spans, span_count, err);
    }
    jinja_release(&render.state);
    if (status != RMJ_OK && out->size > render.output_start) {
        out->size = render.output_start; // nothing of a text that failed
        out->bytes[out->size] = '\0';
    }
    return status;
}
