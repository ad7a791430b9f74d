// tojson.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"
#include "trainer/jinja/writer.h"

struct json {
    struct jinja_writer writer;
    int is_ascii, is_sorted;
    const struct jinja_string *indent; // NULL: all on one line
    const struct jinja_string *item_separator, *key_separator;
};

static void put_json_text(struct json *json, const struct jinja_string *string)
{
    struct jinja_writer *writer = &json->writer;
    char text[24];
    jinja_put(writer, "\"", 1);
    for (size_t i = 0; i < string->size;) {
        size_t size = rmj_utf8_size((unsigned char)string->bytes[i]);
        uint32_t code = rmj_utf8_read(string->bytes + i);
        static const char plain[] = "\"\"\\\\\nn\rr\tt\ff\bb";
        const char *escape = code < 0x80 ? strchr(plain, (int)code) : NULL;
        while (escape && (escape - plain) % 2) {
            escape = strchr(escape + 1, (int)code);
        }
        if (code != 0 && escape && *escape) {
            jinja_put(writer, (char[]){'\\', escape[1]}, 2);
        } else if (code < 0x20 || (json->is_ascii && code > 0x7E && code < 0x10000)) {
            snprintf(text, sizeof(text), "\\u%04x", code);
            jinja_puts(writer, text);
        } else if (json->is_ascii && code >= 0x10000) {
            uint32_t rest = code - 0x10000;
            snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xD800 | rest >> 10, 0xDC00 | (rest & 0x3FF));
            jinja_puts(writer, text);
        } else {
            jinja_put(writer, string->bytes + i, size);
        }
        i += size;
    }
    jinja_put(writer, "\"", 1);
}

static void put_newline(struct json *json, int level)
{
    if (json->indent) {
        jinja_put(&json->writer, "\n", 1);
        for (int i = 0; i < level; i++) {
            jinja_put(&json->writer, json->indent->bytes, json->indent->size);
        }
    }
}

static void put_json(struct json *json, struct jinja_value value, int level);

static void put_scalar(struct json *json, struct jinja_value value)
{
    char text[64];
    switch (value.kind) {
    case JINJA_NONE:
        jinja_puts(&json->writer, "null");
        return;
    case JINJA_BOOL:
        jinja_puts(&json->writer, value.boolean ? "true" : "false");
        return;
    case JINJA_INT:
        snprintf(text, sizeof(text), "%lld", (long long)value.integer);
        jinja_puts(&json->writer, text);
        return;
    case JINJA_FLOAT:
        if (isnan(value.real) || isinf(value.real)) {
            jinja_puts(&json->writer, isnan(value.real) ? "NaN" : value.real < 0 ? "-Infinity" : "Infinity");
            return;
        }
        jinja_put(&json->writer, text, jinja_real_text(value.real, text));
        return;
    default:
        jinja_fail(json->writer.state, "object of type %s is not JSON serializable", jinja_kind_name(value.kind));
    }
}

static void put_key(struct json *json, struct jinja_value key)
{
    if (key.kind == JINJA_STRING) {
        put_json_text(json, key.string);
        return;
    }
    if (key.kind != JINJA_NONE && !jinja_is_number(key)) {
        jinja_fail(json->writer.state, "keys must be str, int, float, bool or None, not %s", jinja_kind_name(key.kind));
    }
    jinja_put(&json->writer, "\"", 1);
    put_scalar(json, key);
    jinja_put(&json->writer, "\"", 1);
}

static void put_json_list(struct json *json, const struct jinja_list *list, int level)
{
    jinja_put(&json->writer, "[", 1);
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0) {
            jinja_put(&json->writer, json->item_separator->bytes, json->item_separator->size);
        }
        put_newline(json, level + 1);
        put_json(json, list->items[i], level + 1);
    }
    if (list->count > 0) {
        put_newline(json, level);
    }
    jinja_put(&json->writer, "]", 1);
}

// Positions of a mapping's entries in the order of their keys.
static size_t *sorted_keys(struct jinja_state *state, const struct jinja_dict *dict)
{
    size_t *order = jinja_take(state, (dict->count + 1) * sizeof(*order));
    struct jinja_value keys = jinja_list_new(state);
    for (size_t i = 0; i < dict->count; i++) {
        jinja_list_append(state, keys.list, jinja_pair(state, dict->keys[i], jinja_int((int64_t)i)));
    }
    jinja_sort(state, keys.list->items, keys.list->count, 0);
    for (size_t i = 0; i < dict->count; i++) {
        order[i] = (size_t)keys.list->items[i].list->items[1].integer;
    }
    return order;
}

static void put_json_dict(struct json *json, const struct jinja_dict *dict, int level)
{
    const size_t *order = json->is_sorted ? sorted_keys(json->writer.state, dict) : NULL;
    jinja_put(&json->writer, "{", 1);
    for (size_t i = 0; i < dict->count; i++) {
        size_t at = order ? order[i] : i;
        if (i > 0) {
            jinja_put(&json->writer, json->item_separator->bytes, json->item_separator->size);
        }
        put_newline(json, level + 1);
        put_key(json, dict->keys[at]);
        jinja_put(&json->writer, json->key_separator->bytes, json->key_separator->size);
        put_json(json, dict->values[at], level + 1);
    }
    if (dict->count > 0) {
        put_newline(json, level);
    }
    jinja_put(&json->writer, "}", 1);
}

static void put_json(struct json *json, struct jinja_value value, int level)
{
    jinja_enter(json->writer.state);
    switch (value.kind) {
    case JINJA_STRING:
        put_json_text(json, value.string);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        put_json_list(json, value.list, level);
        break;
    case JINJA_DICT:
        put_json_dict(json, value.dict, level);
        break;
    default:
        put_scalar(json, value);
    }
    jinja_exit(json->writer.state);
}

static const struct jinja_string *indent_of(struct jinja_state *state, struct jinja_value value)
{
    if (value.kind == JINJA_MISSING || value.kind == JINJA_NONE) {
        return NULL;
    }
    if (value.kind == JINJA_STRING) {
        return value.string;
    }
    int64_t width = jinja_need_int(state, value, "indent");
    width = width < 0 ? 0 : width;
    if (width > 1000) {
        jinja_fail(state, "an indent of %lld is too wide", (long long)width);
    }
    char *blanks = jinja_take(state, (size_t)width + 1);
    memset(blanks, ' ', (size_t)width);
    return jinja_text_borrow(state, blanks, (size_t)width).string;
}

struct jinja_value jinja_to_json(struct jinja_state *state, struct jinja_call *call)
{
    const struct jinja_value *given = call->given; // ensure_ascii, indent, separators, sort_keys
    struct json json = {.writer.state = state};
    json.is_ascii = jinja_is_true(state, given[0]);
    json.indent = indent_of(state, given[1]);
    json.is_sorted = jinja_is_true(state, given[3]);
    if (given[2].kind == JINJA_MISSING || given[2].kind == JINJA_NONE) {
        json.item_separator =
            json.indent ? jinja_text_borrow(state, ",", 1).string : jinja_text_borrow(state, ", ", 2).string;
        json.key_separator = jinja_text_borrow(state, ": ", 2).string;
    } else {
        struct jinja_value both = jinja_list_of(state, given[2]);
        if (both.list->count != 2) {
            jinja_fail(state, "separators are two texts, not %zu", both.list->count);
        }
        json.item_separator = jinja_need_text(state, both.list->items[0], "separators");
        json.key_separator = jinja_need_text(state, both.list->items[1], "separators");
    }
    jinja_need_defined(state, call->self);
    put_json(&json, call->self, 0);
    return jinja_written(&json.writer);
}
