// Methods of text that cut it: strip, split, splitlines, partition.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/unicode.h"

// Is the character at `at` one of `chars`, or, without chars, white space?
static int is_stripped(const char *at, const struct jinja_string *chars)
{
    if (!chars) {
        return jinja_is_space(rmj_utf8_read(at));
    }
    size_t size = rmj_utf8_size((unsigned char)*at);
    for (size_t i = 0; i < chars->size; i += rmj_utf8_size((unsigned char)chars->bytes[i])) {
        if (rmj_utf8_size((unsigned char)chars->bytes[i]) == size && memcmp(chars->bytes + i, at, size) == 0) {
            return 1;
        }
    }
    return 0;
}

static size_t before(const char *bytes, size_t at)
{
    do {
        at--;
    } while (((unsigned char)bytes[at] & 0xC0) == 0x80);
    return at;
}

static struct jinja_value run_strip(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    const struct jinja_string *chars = call->given[0].kind == JINJA_MISSING || call->given[0].kind == JINJA_NONE
                                           ? NULL
                                           : jinja_need_text(state, call->given[0], call->builtin->name);
    size_t from = 0, to = text->size;
    jinja_charge(state, text->size);
    while (call->builtin->name[0] != 'r' && from < to && is_stripped(text->bytes + from, chars)) {
        from += rmj_utf8_size((unsigned char)text->bytes[from]);
    }
    while (call->builtin->name[0] != 'l' && to > from && is_stripped(text->bytes + before(text->bytes, to), chars)) {
        to = before(text->bytes, to);
    }
    return from == 0 && to == text->size ? call->self : jinja_text_borrow(state, text->bytes + from, to - from);
}

static void append_part(struct jinja_state *state, struct jinja_list *list, const char *from, const char *to)
{
    jinja_list_append(state, list, jinja_text_borrow(state, from, (size_t)(to - from)));
}

static void reverse(struct jinja_list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        struct jinja_value other = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = other;
    }
}

static void split_at_space(struct jinja_state *state, const struct jinja_string *text, int64_t left,
                           struct jinja_list *list)
{
    size_t at = 0;
    for (;;) {
        while (at < text->size && jinja_is_space(rmj_utf8_read(text->bytes + at))) {
            at += rmj_utf8_size((unsigned char)text->bytes[at]);
        }
        if (at >= text->size) {
            return;
        }
        size_t end = at;
        if (left == 0) {
            append_part(state, list, text->bytes + at, text->bytes + text->size);
            return;
        }
        while (end < text->size && !jinja_is_space(rmj_utf8_read(text->bytes + end))) {
            end += rmj_utf8_size((unsigned char)text->bytes[end]);
        }
        append_part(state, list, text->bytes + at, text->bytes + end);
        at = end;
        left -= left > 0;
    }
}

static void rsplit_at_space(struct jinja_state *state, const struct jinja_string *text, int64_t left,
                            struct jinja_list *list)
{
    size_t end = text->size;
    for (;;) {
        while (end > 0 && jinja_is_space(rmj_utf8_read(text->bytes + before(text->bytes, end)))) {
            end = before(text->bytes, end);
        }
        if (end == 0) {
            return;
        }
        size_t at = end;
        while (left != 0 && at > 0 && !jinja_is_space(rmj_utf8_read(text->bytes + before(text->bytes, at)))) {
            at = before(text->bytes, at);
        }
        append_part(state, list, text->bytes + (left == 0 ? 0 : at), text->bytes + end);
        if (left == 0) {
            return;
        }
        end = at;
        left -= left > 0;
    }
}

static void split_at(struct jinja_state *state, const struct jinja_string *text, const struct jinja_string *separator,
                     int64_t left, struct jinja_list *list)
{
    const char *at = text->bytes, *end = text->bytes + text->size;
    while (left != 0) {
        const char *found = memmem(at, (size_t)(end - at), separator->bytes, separator->size);
        if (!found) {
            break;
        }
        append_part(state, list, at, found);
        at = found + separator->size;
        left -= left > 0;
    }
    append_part(state, list, at, end);
}

// Last occurrence in [from, to), or NULL.
static const char *find_last(const char *from, const char *to, const struct jinja_string *part)
{
    if ((size_t)(to - from) < part->size) {
        return NULL;
    }
    for (const char *at = to - part->size; at >= from; at--) {
        if (memcmp(at, part->bytes, part->size) == 0) {
            return at;
        }
    }
    return NULL;
}

static void rsplit_at(struct jinja_state *state, const struct jinja_string *text, const struct jinja_string *separator,
                      int64_t left, struct jinja_list *list)
{
    const char *end = text->bytes + text->size;
    while (left != 0) {
        const char *found = find_last(text->bytes, end, separator);
        if (!found) {
            break;
        }
        append_part(state, list, found + separator->size, end);
        end = found;
        left -= left > 0;
    }
    append_part(state, list, text->bytes, end);
}

static struct jinja_value run_split(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string, *separator = NULL;
    int is_right = call->builtin->name[0] == 'r';
    int64_t left = call->given[1].kind == JINJA_MISSING ? -1 : jinja_need_int(state, call->given[1], "split");
    struct jinja_value list = jinja_list_new(state);
    if (call->given[0].kind != JINJA_MISSING && call->given[0].kind != JINJA_NONE) {
        separator = jinja_need_text(state, call->given[0], "split");
        if (separator->size == 0) {
            jinja_fail(state, "empty separator");
        }
    }
    jinja_charge(state, text->size);
    left = left < 0 ? -1 : left;
    if (!separator && is_right) {
        rsplit_at_space(state, text, left, list.list);
    } else if (!separator) {
        split_at_space(state, text, left, list.list);
    } else if (is_right) {
        rsplit_at(state, text, separator, left, list.list);
    } else {
        split_at(state, text, separator, left, list.list);
    }
    if (is_right) {
        reverse(list.list);
    }
    return list;
}

static struct jinja_value run_splitlines(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    int keeps_ends = jinja_is_true(state, call->given[0]);
    struct jinja_value list = jinja_list_new(state);
    size_t line = 0;
    jinja_charge(state, text->size);
    for (size_t i = 0; i < text->size;) {
        uint32_t code = rmj_utf8_read(text->bytes + i);
        size_t end = i;
        i += rmj_utf8_size((unsigned char)text->bytes[i]);
        if (!jinja_is_line_end(code)) {
            continue;
        }
        i += code == '\r' && i < text->size && text->bytes[i] == '\n';
        append_part(state, list.list, text->bytes + line, text->bytes + (keeps_ends ? i : end));
        line = i;
    }
    if (line < text->size) {
        append_part(state, list.list, text->bytes + line, text->bytes + text->size);
    }
    return list;
}

static struct jinja_value run_partition(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = call->self.string;
    const struct jinja_string *part = jinja_need_text(state, call->given[0], "partition");
    int is_right = call->builtin->name[0] == 'r';
    const char *end = text->bytes + text->size;
    if (part->size == 0) {
        jinja_fail(state, "empty separator");
    }
    jinja_charge(state, text->size);
    const char *found =
        is_right ? find_last(text->bytes, end, part) : memmem(text->bytes, text->size, part->bytes, part->size);
    struct jinja_value parts = jinja_tuple_new(state, 3), empty = jinja_text_borrow(state, "", 0);
    parts.list->items[0] = parts.list->items[1] = parts.list->items[2] = empty;
    if (!found) {
        parts.list->items[is_right ? 2 : 0] = call->self;
        return parts;
    }
    parts.list->items[0] = jinja_text_borrow(state, text->bytes, (size_t)(found - text->bytes));
    parts.list->items[1] = call->given[0];
    parts.list->items[2] = jinja_text_borrow(state, found + part->size, (size_t)(end - found) - part->size);
    return parts;
}

const struct jinja_builtin jinja_text_cut_methods[] = {
    {"strip", "/chars", 0, run_strip},
    {"lstrip", "/chars", 0, run_strip},
    {"rstrip", "/chars", 0, run_strip},
    {"split", "sep,maxsplit", 0, run_split},
    {"rsplit", "sep,maxsplit", 0, run_split},
    {"splitlines", "keepends", 0, run_splitlines},
    {"partition", "/sep", 1, run_partition},
    {"rpartition", "/sep", 1, run_partition},
    {NULL, NULL, 0, NULL},
};
