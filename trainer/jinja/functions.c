// What a template calls by name: range, dict, namespace, cycler, joiner, raise_exception, strftime_now.
#include <locale.h>
#include <string.h>
#include <time.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/writer.h"

const struct jinja_builtin *jinja_find_in(const struct jinja_builtin *table, const char *name, size_t size)
{
    for (; table->name; table++) {
        if (strlen(table->name) == size && memcmp(table->name, name, size) == 0) {
            return table;
        }
    }
    return NULL;
}

const struct jinja_builtin *jinja_find_filter(const char *name, size_t size)
{
    const struct jinja_builtin *const tables[] = {jinja_text_filters, jinja_sequence_filters, jinja_number_filters,
                                                  jinja_lazy_filters};
    for (size_t i = 0; i < RMJ_COUNT(tables); i++) {
        const struct jinja_builtin *found = jinja_find_in(tables[i], name, size);
        if (found) {
            return found;
        }
    }
    return NULL;
}

const struct jinja_builtin *jinja_find_test(const char *name, size_t size)
{
    return jinja_find_in(jinja_tests, name, size);
}

const struct jinja_builtin *jinja_find_function(const char *name, size_t size)
{
    return jinja_find_in(jinja_functions, name, size);
}

const struct jinja_string *jinja_unknown_builtin(const struct jinja_node *filter, const char **kind)
{
    static const struct {
        const char *name;
        size_t position;
        int is_filter;
    } takers[] = {{"map", 0, 1}, {"select", 0, 0}, {"reject", 0, 0}, {"selectattr", 1, 0}, {"rejectattr", 1, 0}};
    for (size_t i = 0; filter->arguments && i < RMJ_COUNT(takers); i++) {
        if (strcmp(filter->builtin->name, takers[i].name) != 0 ||
            filter->arguments->items.count <= takers[i].position) {
            continue;
        }
        const struct jinja_node *name = filter->arguments->items.items[takers[i].position];
        if (name->kind != JINJA_N_CONST || name->value.kind != JINJA_STRING) {
            continue;
        }
        const struct jinja_string *text = name->value.string;
        *kind = takers[i].is_filter ? "filter" : "test";
        if (takers[i].is_filter ? !jinja_find_filter(text->bytes, text->size)
                                : !jinja_find_test(text->bytes, text->size)) {
            return text;
        }
    }
    return NULL;
}

static struct jinja_value run_range(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_range *range = JINJA_NEW(state, struct jinja_range);
    int64_t first = jinja_need_int(state, call->given[0], "range");
    range->stop = first;
    range->step = 1;
    if (call->given[1].kind != JINJA_MISSING) {
        range->start = first;
        range->stop = jinja_need_int(state, call->given[1], "range");
    }
    if (call->given[2].kind != JINJA_MISSING) {
        range->step = jinja_need_int(state, call->given[2], "range");
    }
    if (range->step == 0) {
        jinja_fail(state, "range() arg 3 must not be zero");
    }
    uint64_t distance = 0, step = range->step > 0 ? (uint64_t)range->step : 0 - (uint64_t)range->step;
    if (range->step > 0 && range->stop > range->start) {
        distance = (uint64_t)range->stop - (uint64_t)range->start;
    } else if (range->step < 0 && range->stop < range->start) {
        distance = (uint64_t)range->start - (uint64_t)range->stop;
    }
    range->count = distance ? (distance - 1) / step + 1 : 0;
    if (range->count > JINJA_RANGE_MAX) {
        jinja_fail(state, "range too big: ranges of more than %d items are not allowed", JINJA_RANGE_MAX);
    }
    return (struct jinja_value){.kind = JINJA_RANGE, .range = range};
}

// dict(mapping or pairs, name=value, ...)
static struct jinja_value build_dict(struct jinja_state *state, const struct jinja_call *call)
{
    struct jinja_value dict = jinja_dict_new(state), item;
    if (call->arguments.count > 1) {
        jinja_fail(state, "%s expected at most 1 argument, got %zu", call->builtin->name, call->arguments.count);
    }
    if (call->arguments.count == 1 &&
        (call->arguments.items[0].kind == JINJA_DICT || call->arguments.items[0].kind == JINJA_NAMESPACE)) {
        if (call->arguments.items[0].kind == JINJA_NAMESPACE) {
            jinja_fail(state, "'namespace' object is not iterable");
        }
        jinja_dict_merge(state, dict.dict, call->arguments.items[0].dict);
    } else if (call->arguments.count == 1) {
        jinja_need_defined(state, call->arguments.items[0]);
        struct jinja_iterator iterator = jinja_iterate(state, call->arguments.items[0]);
        while (jinja_next(state, &iterator, &item)) {
            struct jinja_value pair = jinja_list_of(state, item);
            if (pair.list->count != 2) {
                jinja_fail(state, "%s() needs pairs, not %zu values", call->builtin->name, pair.list->count);
            }
            jinja_dict_set(state, dict.dict, pair.list->items[0], pair.list->items[1]);
        }
    }
    for (size_t i = 0; i < call->arguments.keyword_count; i++) {
        struct jinja_value name = {.kind = JINJA_STRING, .string = call->arguments.keywords[i].name};
        jinja_dict_set(state, dict.dict, name, call->arguments.keywords[i].value);
    }
    return dict;
}

static struct jinja_value run_dict(struct jinja_state *state, struct jinja_call *call)
{
    return build_dict(state, call);
}

static struct jinja_value run_namespace(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value made = build_dict(state, call);
    for (size_t i = 0; i < made.dict->count; i++) {
        struct jinja_value key = made.dict->keys[i];
        if (key.kind == JINJA_STRING && key.string->size > 0 && key.string->bytes[0] == '_') {
            jinja_fail(state, "a namespace cannot hold attributes that start with an underscore");
        }
    }
    made.kind = JINJA_NAMESPACE;
    return made;
}

static struct jinja_value run_cycler(struct jinja_state *state, struct jinja_call *call)
{
    if (call->arguments.count == 0 || call->arguments.keyword_count > 0) {
        jinja_fail(state, "cycler needs at least one item");
    }
    struct jinja_cycler *cycler = JINJA_NEW(state, struct jinja_cycler);
    for (size_t i = 0; i < call->arguments.count; i++) {
        jinja_list_append(state, &cycler->items, call->arguments.items[i]);
    }
    return (struct jinja_value){.kind = JINJA_CYCLER, .cycler = cycler};
}

static struct jinja_value run_joiner(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_joiner *joiner = JINJA_NEW(state, struct jinja_joiner);
    joiner->separator = call->given[0].kind == JINJA_MISSING ? jinja_text_borrow(state, ", ", 2) : call->given[0];
    return (struct jinja_value){.kind = JINJA_JOINER, .joiner = joiner};
}

static struct jinja_value run_raise_exception(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *why = jinja_str(state, call->given[0]).string;
    jinja_fail_text(state, why->bytes, why->size);
}

static struct jinja_value run_strftime_now(struct jinja_state *state, struct jinja_call *call)
{
    const struct rmj_jinja_input *input = jinja_render_of(state)->input;
    const struct jinja_string *format = jinja_need_text(state, call->given[0], "strftime_now");
    if (input->year == 0) {
        jinja_fail(state, "the template prints today's date, so a date must be given");
    }
    struct tm day = {.tm_year = input->year - 1900, .tm_mon = input->month - 1, .tm_mday = input->day};
    day.tm_isdst = 0;
    timegm(&day); // fills in the day of the week and of the year
    size_t size = format->size * 64 + 64;
    if (size > 65536) {
        jinja_fail(state, "the format of strftime_now is too long");
    }
    char *text = jinja_take(state, size);
    const struct jinja_string *terminated = jinja_text(state, format->bytes, format->size).string;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) {
        jinja_fail(state, "out of memory");
    }
    size_t written = strftime_l(text, size, terminated->bytes, &day, plain);
    freelocale(plain);
    return jinja_text_borrow(state, text, written);
}

const struct jinja_builtin jinja_functions[] = {
    {"range", "/start,stop,step", 1, run_range},
    {"dict", "*", 0, run_dict},
    {"namespace", "*", 0, run_namespace},
    {"cycler", "*", 0, run_cycler},
    {"joiner", "sep", 0, run_joiner},
    {"raise_exception", "message", 1, run_raise_exception},
    {"strftime_now", "format", 1, run_strftime_now},
    {NULL, NULL, 0, NULL},
};
