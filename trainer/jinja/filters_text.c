// Filters that make text.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"
#include "trainer/jinja/writer.h"

static const struct jinja_string *self_text(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_str(state, call->self).string;
}

static struct jinja_value run_upper(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, self_text(state, call), JINJA_UPPER);
}

static struct jinja_value run_lower(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, self_text(state, call), JINJA_LOWER);
}

static struct jinja_value run_capitalize(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_change_case(state, self_text(state, call), JINJA_CAPITALIZE);
}

// Words begin after white space and -({[< here, unlike in the method of the same name.
static struct jinja_value run_title(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = self_text(state, call);
    struct jinja_writer writer = {.state = state};
    for (size_t i = 0; i < text->size;) {
        size_t end = i;
        int is_break = 0;
        while (end < text->size) {
            uint32_t code = rmj_utf8_read(text->bytes + end);
            is_break = jinja_is_space(code) || (code < 0x80 && code && strchr("-({[<", (int)code));
            if (is_break && end > i) {
                break;
            }
            end += rmj_utf8_size((unsigned char)text->bytes[end]);
            if (is_break) {
                break;
            }
        }
        const struct jinja_string *word = jinja_text_borrow(state, text->bytes + i, end - i).string;
        size_t first = rmj_utf8_size((unsigned char)word->bytes[0]);
        const struct jinja_string *head = jinja_text_borrow(state, word->bytes, first).string;
        const struct jinja_string *tail = jinja_text_borrow(state, word->bytes + first, word->size - first).string;
        head = jinja_change_case(state, head, JINJA_UPPER).string;
        tail = jinja_change_case(state, tail, JINJA_LOWER).string;
        jinja_put(&writer, head->bytes, head->size);
        jinja_put(&writer, tail->bytes, tail->size);
        i = end;
    }
    return jinja_written(&writer);
}

// The other filters that are methods of text: the method, on str(value).
static struct jinja_value as_method(struct jinja_state *state, struct jinja_call *call, const char *name)
{
    const struct jinja_builtin *method = jinja_find_in(jinja_text_methods, name, strlen(name));
    if (!method) {
        method = jinja_find_in(jinja_text_cut_methods, name, strlen(name));
    }
    RMJ_ASSERT(method != NULL);
    call->self = jinja_str(state, call->self);
    return method->run(state, call);
}

static struct jinja_value run_trim(struct jinja_state *state, struct jinja_call *call)
{
    return as_method(state, call, "strip");
}

static struct jinja_value run_replace(struct jinja_state *state, struct jinja_call *call)
{
    call->given[0] = jinja_str(state, call->given[0]);
    call->given[1] = jinja_str(state, call->given[1]);
    if (call->given[2].kind == JINJA_NONE) {
        call->given[2].kind = JINJA_MISSING;
    }
    return as_method(state, call, "replace");
}

static struct jinja_value run_center(struct jinja_state *state, struct jinja_call *call)
{
    if (call->given[0].kind == JINJA_MISSING) {
        call->given[0] = jinja_int(80);
    }
    return as_method(state, call, "center");
}

static struct jinja_value run_string(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_str(state, call->self);
}

static struct jinja_value run_indent(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = jinja_need_text(state, call->self, "indent"), *indent;
    int is_first = jinja_is_true(state, call->given[1]), with_blank = jinja_is_true(state, call->given[2]);
    if (call->given[0].kind == JINJA_STRING) {
        indent = call->given[0].string;
    } else {
        int64_t width = call->given[0].kind == JINJA_MISSING ? 4 : jinja_need_int(state, call->given[0], "indent");
        width = width < 0 ? 0 : width;
        char *blanks = jinja_take(state, (size_t)width + 1);
        memset(blanks, ' ', (size_t)width);
        indent = jinja_text_borrow(state, blanks, (size_t)width).string;
    }
    // Lines end as str.splitlines sees it, after one more newline.
    struct jinja_writer writer = {.state = state};
    size_t line = 0;
    int is_any = 0;
    for (size_t i = 0; i <= text->size;) {
        uint32_t code = i < text->size ? rmj_utf8_read(text->bytes + i) : '\n';
        size_t size = i < text->size ? rmj_utf8_size((unsigned char)text->bytes[i]) : 1;
        if (!jinja_is_line_end(code)) {
            i += size;
            continue;
        }
        if (is_any) {
            jinja_put(&writer, "\n", 1);
        }
        if (is_any ? with_blank || i > line : is_first) {
            jinja_put(&writer, indent->bytes, indent->size);
        }
        jinja_put(&writer, text->bytes + line, i - line);
        is_any = 1;
        i += size + (code == '\r' && i + 1 < text->size && text->bytes[i + 1] == '\n');
        i += code == '\r' && i == text->size; // the newline that is put behind belongs to it
        line = i;
    }
    return jinja_written(&writer);
}

static struct jinja_value run_wordcount(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = self_text(state, call);
    int64_t count = 0;
    int in_word = 0;
    jinja_charge(state, text->size);
    for (size_t i = 0; i < text->size; i += rmj_utf8_size((unsigned char)text->bytes[i])) {
        int is_word = jinja_is_word(rmj_utf8_read(text->bytes + i));
        count += is_word && !in_word;
        in_word = is_word;
    }
    return jinja_int(count);
}

static struct jinja_value run_truncate(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value *given = call->given; // length, killwords, end, leeway
    int64_t length = given[0].kind == JINJA_MISSING ? 255 : jinja_need_int(state, given[0], "truncate"), has;
    const struct jinja_string *end = given[2].kind == JINJA_MISSING ? jinja_text_borrow(state, "...", 3).string
                                                                    : jinja_need_text(state, given[2], "truncate");
    int64_t leeway =
        given[3].kind == JINJA_MISSING || given[3].kind == JINJA_NONE ? 5 : jinja_need_int(state, given[3], "truncate");
    if (length < (int64_t)end->length || leeway < 0) {
        jinja_fail(state, "truncate needs a length of at least its end and a leeway of at least 0");
    }
    if (length > INT32_MAX || leeway > INT32_MAX || (jinja_length(state, call->self, &has) && has <= length + leeway)) {
        return call->self; // whatever it is
    }
    const struct jinja_string *text = jinja_need_text(state, call->self, "truncate");
    size_t size = jinja_utf8_offset(text, (size_t)length - end->length);
    if (!jinja_is_true(state, given[1])) {
        const char *blank = size ? memrchr(text->bytes, ' ', size) : NULL;
        size = blank ? (size_t)(blank - text->bytes) : size;
    }
    struct jinja_writer writer = {.state = state};
    jinja_put(&writer, text->bytes, size);
    jinja_put(&writer, end->bytes, end->size);
    return jinja_written(&writer);
}

struct jinja_value jinja_escape(struct jinja_state *state, struct jinja_value value)
{
    struct jinja_value text = jinja_str(state, value);
    if (text.string->is_markup) {
        return text;
    }
    struct jinja_writer writer = {.state = state};
    for (size_t i = 0; i < text.string->size; i++) {
        char c = text.string->bytes[i];
        const char *escaped = c == '&'    ? "&amp;"
                              : c == '<'  ? "&lt;"
                              : c == '>'  ? "&gt;"
                              : c == '\'' ? "&#39;"
                              : c == '"'  ? "&#34;"
                                          : NULL;
        if (escaped) {
            jinja_puts(&writer, escaped);
        } else {
            jinja_put(&writer, &c, 1);
        }
    }
    struct jinja_value result = jinja_written(&writer);
    ((struct jinja_string *)result.string)->is_markup = 1; // made here, seen by nobody yet
    return result;
}

static struct jinja_value run_escape(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_escape(state, call->self);
}

static struct jinja_value run_forceescape(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = self_text(state, call);
    return jinja_escape(state, jinja_text_borrow(state, text->bytes, text->size));
}

static struct jinja_value run_safe(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *text = self_text(state, call);
    struct jinja_value result = jinja_text_borrow(state, text->bytes, text->size);
    ((struct jinja_string *)result.string)->is_markup = 1;
    return result;
}

static void put_url(struct jinja_writer *writer, const struct jinja_string *text, int is_query)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text->size; i++) {
        unsigned char c = (unsigned char)text->bytes[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_.-~", c)) ||
            (c == '/' && !is_query)) {
            jinja_put(writer, (const char *)&c, 1);
        } else if (c == ' ' && is_query) {
            jinja_put(writer, "+", 1);
        } else {
            jinja_put(writer, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
        }
    }
}

static struct jinja_value run_urlencode(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_writer writer = {.state = state};
    if (call->self.kind == JINJA_STRING || !jinja_is_iterable(call->self)) {
        put_url(&writer, self_text(state, call), 0);
        return jinja_written(&writer);
    }
    struct jinja_view view = {.kind = JINJA_VIEW_ITEMS, .dict = call->self.dict};
    struct jinja_value source = call->self, item;
    if (source.kind == JINJA_DICT) {
        source = (struct jinja_value){.kind = JINJA_VIEW, .view = &view};
    }
    struct jinja_iterator iterator = jinja_iterate(state, source);
    while (jinja_next(state, &iterator, &item)) {
        struct jinja_value pair = jinja_list_of(state, item);
        if (pair.list->count != 2) {
            jinja_fail(state, "urlencode needs pairs");
        }
        jinja_puts(&writer, writer.size ? "&" : "");
        put_url(&writer, jinja_str(state, pair.list->items[0]).string, 1);
        jinja_puts(&writer, "=");
        put_url(&writer, jinja_str(state, pair.list->items[1]).string, 1);
    }
    return jinja_written(&writer);
}

static struct jinja_value run_format(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_string *format = self_text(state, call);
    if (call->arguments.count > 0 && call->arguments.keyword_count > 0) {
        jinja_fail(state, "format cannot take positional and keyword arguments at the same time");
    }
    if (call->arguments.keyword_count > 0) {
        struct jinja_value dict = jinja_dict_new(state);
        for (size_t i = 0; i < call->arguments.keyword_count; i++) {
            struct jinja_value name = {.kind = JINJA_STRING, .string = call->arguments.keywords[i].name};
            jinja_dict_set(state, dict.dict, name, call->arguments.keywords[i].value);
        }
        return jinja_percent(state, format, dict);
    }
    struct jinja_value values = jinja_tuple_new(state, call->arguments.count);
    for (size_t i = 0; i < call->arguments.count; i++) {
        values.list->items[i] = call->arguments.items[i];
    }
    return jinja_percent(state, format, values);
}

const struct jinja_builtin jinja_text_filters[] = {
    {"upper", "", 0, run_upper},
    {"lower", "", 0, run_lower},
    {"capitalize", "", 0, run_capitalize},
    {"title", "", 0, run_title},
    {"trim", "chars", 0, run_trim},
    {"replace", "old,new,count", 2, run_replace},
    {"center", "width", 0, run_center},
    {"string", "", 0, run_string},
    {"indent", "width,first,blank", 0, run_indent},
    {"wordcount", "", 0, run_wordcount},
    {"truncate", "length,killwords,end,leeway", 0, run_truncate},
    {"e", "", 0, run_escape},
    {"escape", "", 0, run_escape},
    {"forceescape", "", 0, run_forceescape},
    {"safe", "", 0, run_safe},
    {"urlencode", "", 0, run_urlencode},
    {"format", "*", 0, run_format},
    {"tojson", "ensure_ascii,indent,separators,sort_keys", 0, jinja_to_json},
    {NULL, NULL, 0, NULL},
};
