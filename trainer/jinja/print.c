// str() and repr(), as Python prints its values.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"
#include "trainer/jinja/writer.h"

void jinja_put(struct jinja_writer *writer, const char *bytes, size_t size)
{
    jinja_charge(writer->state, size);
    writer->bytes = jinja_grow(writer->state, writer->bytes, &writer->capacity, writer->size + size + 1, 1);
    memcpy(writer->bytes + writer->size, bytes, size);
    writer->size += size;
}

void jinja_puts(struct jinja_writer *writer, const char *text)
{
    jinja_put(writer, text, strlen(text));
}

struct jinja_value jinja_written(struct jinja_writer *writer)
{
    return jinja_text_borrow(writer->state, writer->bytes ? writer->bytes : "", writer->size);
}

// Fewest digits that read back as the same number, and the power of ten of the first of them.
static size_t shortest_digits(double real, char digits[24], int *exponent)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, real);
        if (strtod(text, NULL) == real) {
            break;
        }
    }
    size_t count = 0;
    const char *at = text;
    for (; *at && *at != 'e'; at++) {
        if (*at >= '0' && *at <= '9') {
            digits[count++] = *at;
        }
    }
    *exponent = atoi(at + 1);
    digits[count] = '\0';
    return count;
}

size_t jinja_real_text(double real, char *out)
{
    if (isnan(real)) {
        return (size_t)sprintf(out, "nan");
    }
    if (isinf(real)) {
        return (size_t)sprintf(out, "%sinf", real < 0 ? "-" : "");
    }
    char digits[24], *at = out;
    int exponent;
    size_t count = shortest_digits(fabs(real), digits, &exponent);
    if (signbit(real)) {
        *at++ = '-';
    }
    if (exponent < -4 || exponent >= 16) {
        at += sprintf(at, "%c%s%.*se%c%02d", digits[0], count > 1 ? "." : "", (int)count - 1, digits + 1,
                      exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        at += sprintf(at, "0.%.*s%s", -exponent - 1, "0000", digits);
    } else if ((size_t)exponent + 1 >= count) {
        at += sprintf(at, "%s%.*s.0", digits, (int)((size_t)exponent + 1 - count), "0000000000000000");
    } else {
        at += sprintf(at, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    }
    return (size_t)(at - out);
}

static void put_escaped(struct jinja_writer *writer, uint32_t code)
{
    char text[16];
    const char *plain = code == '\n' ? "\\n" : code == '\r' ? "\\r" : code == '\t' ? "\\t" : NULL;
    if (plain) {
        jinja_puts(writer, plain);
        return;
    }
    snprintf(text, sizeof(text), code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
    jinja_puts(writer, text);
}

static void put_quoted(struct jinja_writer *writer, const struct jinja_string *string)
{
    int has_single = memchr(string->bytes, '\'', string->size) != NULL;
    int has_double = memchr(string->bytes, '"', string->size) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    jinja_put(writer, &quote, 1);
    for (size_t i = 0; i < string->size;) {
        size_t size = rmj_utf8_size((unsigned char)string->bytes[i]);
        uint32_t code = rmj_utf8_read(string->bytes + i);
        if (code == '\\' || code == (uint32_t)quote) {
            jinja_puts(writer, "\\");
            jinja_put(writer, string->bytes + i, 1);
        } else if (jinja_is_printable(code)) {
            jinja_put(writer, string->bytes + i, size);
        } else {
            put_escaped(writer, code);
        }
        i += size;
    }
    jinja_put(writer, &quote, 1);
}

static void put_repr(struct jinja_writer *writer, struct jinja_value value);

static void put_items(struct jinja_writer *writer, const char *open, const struct jinja_list *list, const char *close)
{
    jinja_puts(writer, open);
    for (size_t i = 0; i < list->count; i++) {
        jinja_puts(writer, i ? ", " : "");
        put_repr(writer, list->items[i]);
    }
    jinja_puts(writer, close);
}

static void put_dict(struct jinja_writer *writer, const struct jinja_dict *dict)
{
    jinja_puts(writer, "{");
    for (size_t i = 0; i < dict->count; i++) {
        jinja_puts(writer, i ? ", " : "");
        put_repr(writer, dict->keys[i]);
        jinja_puts(writer, ": ");
        put_repr(writer, dict->values[i]);
    }
    jinja_puts(writer, "}");
}

static void put_view(struct jinja_writer *writer, struct jinja_value value)
{
    static const char *const opens[] = {"dict_keys([", "dict_values([", "dict_items(["};
    struct jinja_value items = jinja_list_of(writer->state, value);
    put_items(writer, opens[value.view->kind], items.list, "])");
}

static void put_range(struct jinja_writer *writer, const struct jinja_range *range)
{
    char text[80];
    snprintf(text, sizeof(text), range->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
             (long long)range->start, (long long)range->stop, (long long)range->step);
    jinja_puts(writer, text);
}

static void put_number(struct jinja_writer *writer, struct jinja_value value)
{
    char text[64];
    if (value.kind == JINJA_FLOAT) {
        text[jinja_real_text(value.real, text)] = '\0';
    } else {
        snprintf(text, sizeof(text), "%lld", (long long)value.integer);
    }
    jinja_puts(writer, text);
}

static void put_loop(struct jinja_writer *writer, struct jinja_loop *loop)
{
    char text[64];
    snprintf(text, sizeof(text), "<LoopContext %lld/%lld>", (long long)loop->index0 + 1,
             (long long)jinja_loop_length(jinja_render_of(writer->state), loop));
    jinja_puts(writer, text);
}

static void put_inside(struct jinja_writer *writer, struct jinja_value value)
{
    switch (value.kind) {
    case JINJA_UNDEFINED:
        jinja_puts(writer, "Undefined");
        return;
    case JINJA_NONE:
        jinja_puts(writer, "None");
        return;
    case JINJA_BOOL:
        jinja_puts(writer, value.boolean ? "True" : "False");
        return;
    case JINJA_INT:
    case JINJA_FLOAT:
        put_number(writer, value);
        return;
    case JINJA_STRING:
        jinja_puts(writer, value.string->is_markup ? "Markup(" : "");
        put_quoted(writer, value.string);
        jinja_puts(writer, value.string->is_markup ? ")" : "");
        return;
    case JINJA_LIST:
        put_items(writer, "[", value.list, "]");
        return;
    case JINJA_TUPLE:
        put_items(writer, "(", value.list, value.list->count == 1 ? ",)" : ")");
        return;
    case JINJA_DICT:
        put_dict(writer, value.dict);
        return;
    case JINJA_VIEW:
        put_view(writer, value);
        return;
    case JINJA_RANGE:
        put_range(writer, value.range);
        return;
    case JINJA_NAMESPACE:
        jinja_puts(writer, "<Namespace ");
        put_dict(writer, value.dict);
        jinja_puts(writer, ">");
        return;
    case JINJA_MACRO:
        jinja_puts(writer, "<Macro ");
        if (value.macro->node->text) {
            put_quoted(writer, value.macro->node->text);
        } else {
            jinja_puts(writer, "anonymous");
        }
        jinja_puts(writer, ">");
        return;
    case JINJA_LOOP:
        put_loop(writer, value.loop);
        return;
    default: // Python prints an address here
        jinja_fail(writer->state, "a %s cannot be printed; it must be called or made a list first",
                   jinja_kind_name(value.kind));
    }
}

static void put_repr(struct jinja_writer *writer, struct jinja_value value)
{
    jinja_enter(writer->state);
    put_inside(writer, value);
    jinja_exit(writer->state);
}

struct jinja_value jinja_repr(struct jinja_state *state, struct jinja_value value)
{
    struct jinja_writer writer = {.state = state};
    put_repr(&writer, value);
    return jinja_written(&writer);
}

struct jinja_value jinja_str(struct jinja_state *state, struct jinja_value value)
{
    if (value.kind == JINJA_STRING) {
        return value;
    }
    if (value.kind == JINJA_UNDEFINED) {
        return jinja_text_borrow(state, "", 0);
    }
    return jinja_repr(state, value);
}
