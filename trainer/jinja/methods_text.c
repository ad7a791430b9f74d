// Methods of text that look at it, change its case, pad or replace; those that cut it are in methods_cut.c.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/sequence.h"
#include "trainer/jinja/unicode.h"
#include "trainer/jinja/writer.h"

static struct jinja_value run_upper(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, call->self.string, JINJA_UPPER);
}

static struct jinja_value run_lower(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, call->self.string, JINJA_LOWER);
}

static struct jinja_value run_capitalize(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, call->self.string, JINJA_CAPITALIZE);
}

static struct jinja_value run_title(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, call->self.string, JINJA_TITLE);
}

static struct jinja_value run_swapcase(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, call->self.string, JINJA_SWAP);
}

// Python's start and end arguments: the bytes that they leave. 0: nothing is left, not even an empty text.
static int window(struct jinja_state *state, struct jinja_call *call, size_t *from, size_t *to)
{
    const struct jinja_string *text = call->self.string;
    int64_t length = (int64_t)text->length, bounds[2] = {0, length};
    for (int i = 0; i < 2; i++) {
        struct jinja_value given = call->given[1 + i];
        if (given.kind == JINJA_MISSING || given.kind == JINJA_NONE) {
            continue;
        }
        int64_t bound = jinja_need_int(state, given, call->builtin->name);
        if (bound < 0) {
            bound = bound < -length ? 0 : bound + length;
        }
        bounds[i] = bound;
    }
    bounds[1] = bounds[1] > length ? length : bounds[1];
    if (bounds[0] > bounds[1]) {
        return 0;
    }
    *from = jinja_utf8_offset(text, (size_t)bounds[0]);
    *to = jinja_utf8_offset(text, (size_t)bounds[1]);
    return 1;
}

static const struct jinja_string *argument_text(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_need_text(state, call->given[0], call->builtin->name);
}

// First or last occurrence as a code point index; -1 when there is none.
static int64_t find(struct jinja_state *state, struct jinja_call *call, int is_last)
{
    const struct jinja_string *text = call->self.string, *part = argument_text(state, call);
    size_t from, to;
    jinja_charge(state, text->size);
    if (!window(state, call, &from, &to) || part->size > to - from) {
        return -1;
    }
    const char *found = NULL;
    if (!is_last) {
        found = memmem(text->bytes + from, to - from, part->bytes, part->size);
    } else {
        for (size_t at = to - part->size + 1; !found && at-- > from;) {
            int is_start = at == text->size || ((unsigned char)text->bytes[at] & 0xC0) != 0x80;
            found = is_start && memcmp(text->bytes + at, part->bytes, part->size) == 0 ? text->bytes + at : NULL;
        }
    }
    return found ? (int64_t)jinja_utf8_length(text->bytes, (size_t)(found - text->bytes)) : -1;
}

static struct jinja_value run_find(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_int(find(state, call, call->builtin->name[0] == 'r'));
}

static struct jinja_value run_index(struct jinja_state *state, struct jinja_call *call)
{
    int64_t index = find(state, call, call->builtin->name[0] == 'r');
    if (index < 0) {
        jinja_fail(state, "substring not found");
    }
    return jinja_int(index);
}

static struct jinja_value run_count(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string, *part = argument_text(state, call);
    size_t from, to;
    int64_t count = 0;
    jinja_charge(state, text->size);
    if (!window(state, call, &from, &to)) {
        return jinja_int(0);
    }
    if (part->size == 0) {
        return jinja_int((int64_t)jinja_utf8_length(text->bytes + from, to - from) + 1);
    }
    const char *at = text->bytes + from, *end = text->bytes + to;
    while ((at = memmem(at, (size_t)(end - at), part->bytes, part->size)) != NULL) {
        count++;
        at += part->size;
    }
    return jinja_int(count);
}

static int has_edge(const struct jinja_string *text, size_t from, size_t to, const struct jinja_string *edge,
                    int is_end)
{
    return edge->size <= to - from &&
           memcmp(text->bytes + (is_end ? to - edge->size : from), edge->bytes, edge->size) == 0;
}

static struct jinja_value run_edge(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    int is_end = call->builtin->name[0] == 'e', found = 0;
    size_t from = 0, to = 0;
    int is_inside = window(state, call, &from, &to);
    if (call->given[0].kind != JINJA_TUPLE) {
        const struct jinja_string *edge = argument_text(state, call);
        return jinja_bool(is_inside && has_edge(text, from, to, edge, is_end));
    }
    for (size_t i = 0; i < call->given[0].list->count && !found; i++) {
        const struct jinja_string *edge = jinja_need_text(state, call->given[0].list->items[i], call->builtin->name);
        found = is_inside && has_edge(text, from, to, edge, is_end);
    }
    return jinja_bool(found);
}

static struct jinja_value run_removeedge(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string, *edge = argument_text(state, call);
    int is_end = strcmp(call->builtin->name, "removesuffix") == 0;
    if (edge->size == 0 || !has_edge(text, 0, text->size, edge, is_end)) {
        return call->self;
    }
    return jinja_text_borrow(state, text->bytes + (is_end ? 0 : edge->size), text->size - edge->size);
}

static struct jinja_value run_replace(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    const struct jinja_string *old = jinja_need_text(state, call->given[0], "replace");
    const struct jinja_string *new = jinja_need_text(state, call->given[1], "replace");
    int64_t left = call->given[2].kind == JINJA_MISSING ? -1 : jinja_need_int(state, call->given[2], "replace");
    struct jinja_writer writer = {.state = state};
    const char *at = text->bytes, *end = text->bytes + text->size;
    if (old->size == 0) { // between all characters
        for (; left != 0; left -= left > 0) {
            jinja_put(&writer, new->bytes, new->size);
            if (at == end) {
                break;
            }
            size_t size = rmj_utf8_size((unsigned char)*at);
            jinja_put(&writer, at, size);
            at += size;
        }
    }
    while (old->size > 0 && left != 0) {
        const char *found = memmem(at, (size_t)(end - at), old->bytes, old->size);
        if (!found) {
            break;
        }
        jinja_put(&writer, at, (size_t)(found - at));
        jinja_put(&writer, new->bytes, new->size);
        at = found + old->size;
        left -= left > 0;
    }
    jinja_put(&writer, at, (size_t)(end - at));
    return jinja_written(&writer);
}

static struct jinja_value run_join(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value items = jinja_list_of(state, call->given[0]);
    for (size_t i = 0; i < items.list->count; i++) {
        (void)jinja_need_text(state, items.list->items[i], "join");
    }
    return jinja_join(state, call->self.string, items.list);
}

// Pads to a width with one character; left: how many of the missing ones go before.
static struct jinja_value pad(struct jinja_state *state, struct jinja_call *call, const char *fill, size_t fill_size)
{
    const struct jinja_string *text = call->self.string;
    int64_t width = jinja_need_int(state, call->given[0], call->builtin->name);
    if (width <= (int64_t)text->length) {
        return call->self;
    }
    int64_t missing = width - (int64_t)text->length, before = 0;
    if (call->builtin->name[0] == 'r') {
        before = missing;
    } else if (call->builtin->name[0] == 'c') {
        before = missing / 2 + (missing & width & 1);
    }
    struct jinja_writer writer = {.state = state};
    for (int64_t i = 0; i < missing; i++) {
        if (i == before) {
            jinja_put(&writer, text->bytes, text->size);
        }
        jinja_put(&writer, fill, fill_size);
    }
    if (before == missing) {
        jinja_put(&writer, text->bytes, text->size);
    }
    return jinja_written(&writer);
}

static struct jinja_value run_pad(struct jinja_state *state, struct jinja_call *call)
{
    if (call->given[1].kind == JINJA_MISSING) {
        return pad(state, call, " ", 1);
    }
    const struct jinja_string *fill = jinja_need_text(state, call->given[1], call->builtin->name);
    if (fill->length != 1) {
        jinja_fail(state, "the fill character must be exactly one character long");
    }
    return pad(state, call, fill->bytes, fill->size);
}

static struct jinja_value run_zfill(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    int64_t width = jinja_need_int(state, call->given[0], "zfill");
    int has_sign = text->size > 0 && (text->bytes[0] == '-' || text->bytes[0] == '+');
    struct jinja_writer writer = {.state = state};
    jinja_put(&writer, text->bytes, (size_t)has_sign);
    for (int64_t i = (int64_t)text->length; i < width; i++) {
        jinja_put(&writer, "0", 1);
    }
    jinja_put(&writer, text->bytes + has_sign, text->size - (size_t)has_sign);
    return jinja_written(&writer);
}

static int is_alnum(uint32_t code)
{
    return jinja_is_word(code) && code != '_';
}

static int is_numeric(uint32_t code)
{
    return is_alnum(code) && !jinja_is_alpha(code);
}

static struct jinja_value run_all(struct jinja_state *state, struct jinja_call *call)
{
    static const struct {
        const char *name;
        int (*is_one)(uint32_t code);
    } kinds[] = {{"isspace", jinja_is_space},        {"isalpha", jinja_is_alpha}, {"isdigit", jinja_is_digit},
                 {"isdecimal", jinja_is_digit},      {"isnumeric", is_numeric},   {"isalnum", is_alnum},
                 {"isprintable", jinja_is_printable}};
    const struct jinja_string *text = call->self.string;
    int is_all = text->size > 0 || strcmp(call->builtin->name, "isprintable") == 0;
    jinja_charge(state, text->size);
    for (size_t k = 0; k < RMJ_COUNT(kinds); k++) {
        if (strcmp(kinds[k].name, call->builtin->name) != 0) {
            continue;
        }
        for (size_t i = 0; i < text->size && is_all; i += rmj_utf8_size((unsigned char)text->bytes[i])) {
            is_all = kinds[k].is_one(rmj_utf8_read(text->bytes + i));
        }
    }
    return jinja_bool(is_all);
}

static struct jinja_value run_cased(struct jinja_state *state, struct jinja_call *call)
{
    const char *test = strcmp(call->builtin->name, "isupper") == 0 ? "upper" : "lower";
    return jinja_find_test(test, 5)->run(state, call);
}

static struct jinja_value run_isascii(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.string->length == call->self.string->size);
}

const struct jinja_builtin jinja_text_methods[] = {
    {"upper", "", 0, run_upper},
    {"lower", "", 0, run_lower},
    {"casefold", "", 0, run_lower},
    {"capitalize", "", 0, run_capitalize},
    {"title", "", 0, run_title},
    {"swapcase", "", 0, run_swapcase},
    {"find", "/sub,start,end", 1, run_find},
    {"rfind", "/sub,start,end", 1, run_find},
    {"index", "/sub,start,end", 1, run_index},
    {"rindex", "/sub,start,end", 1, run_index},
    {"count", "/sub,start,end", 1, run_count},
    {"startswith", "/prefix,start,end", 1, run_edge},
    {"endswith", "/suffix,start,end", 1, run_edge},
    {"removeprefix", "/prefix", 1, run_removeedge},
    {"removesuffix", "/suffix", 1, run_removeedge},
    {"replace", "/old,new,count", 2, run_replace},
    {"join", "/iterable", 1, run_join},
    {"center", "/width,fillchar", 1, run_pad},
    {"ljust", "/width,fillchar", 1, run_pad},
    {"rjust", "/width,fillchar", 1, run_pad},
    {"zfill", "/width", 1, run_zfill},
    {"isspace", "", 0, run_all},
    {"isalpha", "", 0, run_all},
    {"isdigit", "", 0, run_all},
    {"isdecimal", "", 0, run_all},
    {"isnumeric", "", 0, run_all},
    {"isalnum", "", 0, run_all},
    {"isprintable", "", 0, run_all},
    {"isupper", "", 0, run_cased},
    {"islower", "", 0, run_cased},
    {"isascii", "", 0, run_isascii},
    {"format", "*", 0, jinja_format},
    {NULL, NULL, 0, NULL},
};
