// "%s" % values and "{}".format(values).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"
#include "trainer/jinja/writer.h"

// Widest field and most digits that a format may ask for.
#define WIDTH_MAX 10000
#define PRECISION_MAX 300

struct spec {
    const char *fill; // one code point
    size_t fill_size;
    char align; // < > ^ =, or 0
    char sign;  // + or blank, or 0
    int is_alternate, has_comma;
    int64_t width, precision; // -1: not given
    char type;                // 0: not given
};

static void put_fill(struct jinja_writer *writer, const struct spec *spec, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        jinja_put(writer, spec->fill, spec->fill_size);
    }
}

// sign_size: bytes at the front that stay there when padded inside.
static void put_padded(struct jinja_writer *writer, const struct spec *spec, const char *text, size_t size,
                       size_t sign_size)
{
    int64_t missing = spec->width - (int64_t)jinja_utf8_length(text, size);
    missing = missing > 0 ? missing : 0;
    int64_t before = spec->align == '>' ? missing : spec->align == '^' ? missing / 2 : 0;
    if (spec->align == '=') {
        jinja_put(writer, text, sign_size);
        put_fill(writer, spec, missing);
        jinja_put(writer, text + sign_size, size - sign_size);
        return;
    }
    put_fill(writer, spec, before);
    jinja_put(writer, text, size);
    put_fill(writer, spec, missing - before);
}

static void put_text(struct jinja_writer *writer, const struct spec *spec, const struct jinja_string *text)
{
    size_t size = spec->precision >= 0 && spec->precision < (int64_t)text->length
                      ? jinja_utf8_offset(text, (size_t)spec->precision)
                      : text->size;
    put_padded(writer, spec, text->bytes, size, 0);
}

// Digits of an integer in a base, with its sign before it.
static size_t integer_digits(int64_t integer, int base, int is_upper, int with_comma, char *out)
{
    char digits[100];
    size_t count = 0, places = 0;
    uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
    do {
        if (with_comma && places > 0 && places % 3 == 0) {
            digits[count++] = ',';
        }
        digits[count++] = (is_upper ? "0123456789ABCDEF" : "0123456789abcdef")[rest % (uint64_t)base];
        rest /= (uint64_t)base;
        places++;
    } while (rest > 0);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}

static void put_integer(struct jinja_writer *writer, const struct spec *spec, int64_t integer)
{
    char text[160];
    size_t size = 0, sign_size;
    char type = spec->type ? spec->type : 'd';
    int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    if (integer < 0 || spec->sign) {
        text[size++] = integer < 0 ? '-' : spec->sign;
    }
    if (spec->is_alternate && base != 10) {
        text[size++] = '0';
        text[size++] = type;
    }
    sign_size = size;
    size_t digits = integer_digits(integer, base, type == 'X', spec->has_comma, text + size);
    for (int64_t i = (int64_t)digits; i < spec->precision && size < sizeof(text) - 100; i++) {
        memmove(text + sign_size + 1, text + sign_size, digits + (size - sign_size));
        text[sign_size] = '0';
        size++;
    }
    put_padded(writer, spec, text, size + digits, sign_size);
}

static void put_real(struct jinja_writer *writer, const struct spec *spec, double real)
{
    char text[800], format[16], grouped[1000];
    char type = spec->type ? spec->type : 'g';
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (type == '%') {
        real *= 100;
    }
    snprintf(format, sizeof(format), "%%%s.*%c", spec->is_alternate ? "#" : "", type == '%' ? 'f' : type);
    size_t size = 0, sign_size;
    if (signbit(real) || spec->sign) {
        grouped[size++] = signbit(real) ? '-' : spec->sign;
    }
    sign_size = size;
    if (spec->type == 0 && spec->precision < 0) {
        text[jinja_real_text(fabs(real), text)] = '\0';
    } else {
        snprintf(text, sizeof(text), format, precision, fabs(real));
    }
    size_t whole = strspn(text, "0123456789");
    for (size_t i = 0; text[i]; i++) {
        if (spec->has_comma && i > 0 && i < whole && (whole - i) % 3 == 0) {
            grouped[size++] = ',';
        }
        grouped[size++] = text[i];
    }
    if (type == '%') {
        grouped[size++] = '%';
    }
    put_padded(writer, spec, grouped, size, sign_size);
}

// Python's int() of a number, for %d.
static int64_t whole_of(struct jinja_state *state, struct jinja_value value)
{
    jinja_need_defined(state, value);
    if (jinja_is_integral(value)) {
        return jinja_integer_of(value);
    }
    if (value.kind != JINJA_FLOAT || !(fabs(value.real) < 9.2e18)) {
        jinja_fail(state, "a number is required, not %s", jinja_kind_name(value.kind));
    }
    return (int64_t)value.real;
}

static void put_character(struct jinja_writer *writer, const struct spec *spec, struct jinja_value value)
{
    char bytes[4];
    if (value.kind == JINJA_STRING && value.string->length == 1) {
        put_padded(writer, spec, value.string->bytes, value.string->size, 0);
        return;
    }
    int64_t code = jinja_need_int(writer->state, value, "%c");
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        jinja_fail(writer->state, "%%c needs a character");
    }
    put_padded(writer, spec, bytes, rmj_utf8_write(bytes, (uint32_t)code), 0);
}

// What a % format takes its values from.
struct values {
    struct jinja_state *state;
    struct jinja_value source;
    size_t position;
    int is_used;
};

static struct jinja_value next_value(struct values *values)
{
    if (values->source.kind == JINJA_TUPLE) {
        if (values->position >= values->source.list->count) {
            jinja_fail(values->state, "not enough arguments for format string");
        }
        return values->source.list->items[values->position++];
    }
    if (values->is_used) {
        jinja_fail(values->state, "not enough arguments for format string");
    }
    values->is_used = 1;
    return values->source;
}

static const char *read_flags(const char *at, const char *end, struct spec *spec)
{
    spec->align = '>';
    for (; at < end && strchr("-+ #0", *at) && *at; at++) {
        if (*at == '-') {
            spec->align = '<';
        } else if (*at == '+' || (*at == ' ' && !spec->sign)) {
            spec->sign = *at;
        } else if (*at == '#') {
            spec->is_alternate = 1;
        } else if (*at == '0') {
            spec->fill = "0";
        }
    }
    return at;
}

static const char *read_count(struct jinja_state *state, const char *at, const char *end, int64_t *count, int64_t max)
{
    for (*count = 0; at < end && *at >= '0' && *at <= '9'; at++) {
        *count = *count * 10 + (*at - '0');
        if (*count > max) {
            jinja_fail(state, "a format asks for more than %lld characters", (long long)max);
        }
    }
    return at;
}

static void put_converted(struct jinja_writer *writer, struct spec *spec, struct jinja_value value)
{
    switch (spec->type) {
    case 's':
        spec->fill = " ";
        put_text(writer, spec, jinja_str(writer->state, value).string);
        return;
    case 'r':
        spec->fill = " ";
        put_text(writer, spec, jinja_repr(writer->state, value).string);
        return;
    case 'c':
        spec->fill = " ";
        put_character(writer, spec, value);
        return;
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        if (spec->type != 'd' && spec->type != 'i' && spec->type != 'u' && !jinja_is_integral(value)) {
            jinja_need_defined(writer->state, value);
            jinja_fail(writer->state, "%%%c format: an integer is required, not %s", spec->type,
                       jinja_kind_name(value.kind));
        }
        spec->align = spec->fill[0] == '0' && spec->align == '>' ? '=' : spec->align;
        spec->fill = spec->align == '<' ? " " : spec->fill;
        put_integer(writer, spec, whole_of(writer->state, value));
        return;
    default:
        jinja_need_defined(writer->state, value);
        if (!jinja_is_number(value)) {
            jinja_fail(writer->state, "must be real number, not %s", jinja_kind_name(value.kind));
        }
        spec->align = spec->fill[0] == '0' && spec->align == '>' ? '=' : spec->align;
        spec->fill = spec->align == '<' ? " " : spec->fill;
        put_real(writer, spec, jinja_real_of(value));
    }
}

// One conversion; `at` stands behind the "%".
static const char *put_conversion(struct jinja_writer *writer, const char *at, const char *end, struct values *values)
{
    struct jinja_state *state = writer->state;
    struct spec spec = {.fill = " ", .fill_size = 1, .width = 0, .precision = -1};
    struct jinja_value value = {0}, named = {0};
    if (at < end && *at == '(') {
        const char *close = memchr(at, ')', (size_t)(end - at));
        if (!close || values->source.kind != JINJA_DICT) {
            jinja_fail(state, close ? "format requires a mapping" : "incomplete format key");
        }
        struct jinja_value key = jinja_text_borrow(state, at + 1, (size_t)(close - at) - 1);
        if (!jinja_dict_get(state, values->source.dict, key, &named)) {
            jinja_fail(state, "a key of the format is not in the mapping");
        }
        values->is_used = 1;
        at = close + 1;
    }
    at = read_flags(at, end, &spec);
    at = read_count(state, at, end, &spec.width, WIDTH_MAX);
    if (at < end && *at == '.') {
        at = read_count(state, at + 1, end, &spec.precision, PRECISION_MAX);
    }
    while (at < end && (*at == 'l' || *at == 'h' || *at == 'L')) {
        at++;
    }
    if (at >= end || *at == '\0' || !strchr("srcdiuxXoeEfFgG%", *at)) {
        jinja_fail(state, at >= end ? "incomplete format" : "unsupported format character");
    }
    spec.type = *at;
    if (*at == '%') {
        jinja_put(writer, "%", 1);
        return at + 1;
    }
    value = named.kind != JINJA_MISSING ? named : next_value(values);
    put_converted(writer, &spec, value);
    return at + 1;
}

struct jinja_value jinja_percent(struct jinja_state *state, const struct jinja_string *format,
                                 struct jinja_value source)
{
    struct jinja_writer writer = {.state = state};
    struct values values = {.state = state, .source = source};
    const char *at = format->bytes, *end = format->bytes + format->size;
    while (at < end) {
        const char *percent = memchr(at, '%', (size_t)(end - at));
        const char *stop = percent ? percent : end;
        jinja_put(&writer, at, (size_t)(stop - at));
        at = percent ? put_conversion(&writer, percent + 1, end, &values) : end;
    }
    // What Python can subscript counts as a mapping, which need not be used up.
    int is_mapping = source.kind == JINJA_DICT || source.kind == JINJA_LIST || source.kind == JINJA_RANGE ||
                     source.kind == JINJA_UNDEFINED;
    int is_left = source.kind == JINJA_TUPLE ? values.position < source.list->count : !is_mapping && !values.is_used;
    if (is_left) {
        jinja_fail(state, "not all arguments converted during string formatting");
    }
    return jinja_written(&writer);
}

// The rest of a replacement field's path: ".name" and "[key]".
static struct jinja_value follow(struct jinja_state *state, struct jinja_value value, const char *at, const char *end)
{
    while (at < end) {
        const char *stop;
        if (*at == '.') {
            for (stop = at + 1; stop < end && *stop != '.' && *stop != '[';) {
                stop++;
            }
            value = jinja_member(state, value, jinja_text(state, at + 1, (size_t)(stop - at) - 1).string);
            at = stop;
            continue;
        }
        stop = *at == '[' ? memchr(at, ']', (size_t)(end - at)) : NULL;
        if (!stop) {
            jinja_fail(state, "a replacement field of a format cannot be read");
        }
        int64_t index;
        const char *digits = read_count(state, at + 1, stop, &index, INT32_MAX);
        struct jinja_value key = digits == stop && stop > at + 1
                                     ? jinja_int(index)
                                     : jinja_text_borrow(state, at + 1, (size_t)(stop - at) - 1);
        value = jinja_item(state, value, key);
        at = stop + 1;
    }
    return value;
}

static struct jinja_value field_value(struct jinja_state *state, const struct jinja_call *call, const char *at,
                                      const char *end, int64_t *automatic)
{
    const char *stop = at;
    while (stop < end && *stop != '.' && *stop != '[') {
        stop++;
    }
    int64_t index = 0;
    int is_number = read_count(state, at, stop, &index, INT32_MAX) == stop;
    if (is_number) {
        if ((stop == at) != (*automatic >= 0) && *automatic != 0) {
            jinja_fail(state, "a format cannot switch between automatic and manual field numbering");
        }
        index = stop == at ? (*automatic)++ : index;
        *automatic = stop == at ? *automatic : -1;
        if (index >= (int64_t)call->arguments.count) {
            jinja_fail(state, "replacement index %lld out of range", (long long)index);
        }
        return follow(state, call->arguments.items[index], stop, end);
    }
    for (size_t i = 0; i < call->arguments.keyword_count; i++) {
        const struct jinja_keyword *keyword = &call->arguments.keywords[i];
        if (keyword->name->size == (size_t)(stop - at) && memcmp(keyword->name->bytes, at, keyword->name->size) == 0) {
            return follow(state, keyword->value, stop, end);
        }
    }
    jinja_fail(state, "a name of the format is not among the arguments");
}

// [[fill]align][sign][#][0][width][,][.precision][type]
static struct spec read_spec(struct jinja_state *state, const char *at, const char *end)
{
    struct spec spec = {.fill = " ", .fill_size = 1, .width = 0, .precision = -1};
    size_t first = at < end ? rmj_utf8_size((unsigned char)*at) : 0;
    if (at < end && at + first < end && at[first] && strchr("<>^=", at[first])) {
        spec.fill = at;
        spec.fill_size = first;
        spec.align = at[first];
        at += first + 1;
    } else if (at < end && *at && strchr("<>^=", *at)) {
        spec.align = *at++;
    }
    if (at < end && *at && strchr("+- ", *at)) {
        spec.sign = *at == '-' ? 0 : *at;
        at++;
    }
    if (at < end && *at == '#') {
        spec.is_alternate = 1;
        at++;
    }
    if (at < end && *at == '0') {
        if (!spec.align) {
            spec.align = '=';
            spec.fill = "0";
        }
        at++;
    }
    at = read_count(state, at, end, &spec.width, WIDTH_MAX);
    if (at < end && *at == ',') {
        spec.has_comma = 1;
        at++;
    }
    if (at < end && *at == '.') {
        const char *digits = ++at;
        at = read_count(state, at, end, &spec.precision, PRECISION_MAX);
        if (at == digits) {
            jinja_fail(state, "format specifier missing precision");
        }
    }
    if (at < end && *at && strchr("sdxXobeEfFgG%", *at)) {
        spec.type = *at++;
    }
    if (at < end) {
        jinja_fail(state, "invalid format specifier");
    }
    return spec;
}

static void put_field(struct jinja_writer *writer, struct spec spec, struct jinja_value value)
{
    struct jinja_state *state = writer->state;
    if (value.kind == JINJA_INT && (!spec.type || strchr("dxXob", spec.type))) {
        spec.align = spec.align ? spec.align : '>';
        if (spec.precision >= 0) {
            jinja_fail(state, "precision not allowed in integer format specifier");
        }
        put_integer(writer, &spec, value.integer);
    } else if (jinja_is_number(value) && spec.type && strchr("eEfFgG%", spec.type)) {
        spec.align = spec.align ? spec.align : '>';
        put_real(writer, &spec, jinja_real_of(value));
    } else if (value.kind == JINJA_FLOAT && !spec.type && spec.precision < 0) {
        spec.align = spec.align ? spec.align : '>';
        put_real(writer, &spec, value.real);
    } else if (value.kind == JINJA_STRING && (!spec.type || spec.type == 's') && spec.align != '=' && !spec.sign &&
               !spec.has_comma) {
        spec.align = spec.align ? spec.align : '<';
        put_text(writer, &spec, value.string);
    } else {
        jinja_fail(state, "this format of %s is not supported", jinja_kind_name(value.kind));
    }
}

// One replacement field, without its braces.
static void put_replacement(struct jinja_writer *writer, const struct jinja_call *call, const char *at, const char *end,
                            int64_t *automatic)
{
    struct jinja_state *state = writer->state;
    const char *colon = memchr(at, ':', (size_t)(end - at)), *stop = colon ? colon : end;
    const char *mark = memchr(at, '!', (size_t)(stop - at));
    struct jinja_value value = field_value(state, call, at, mark ? mark : stop, automatic);
    if (mark) {
        char conversion = stop - mark == 2 ? mark[1] : 0;
        if (conversion != 'r' && conversion != 's') {
            jinja_fail(state, "this conversion of a format is not supported");
        }
        value = conversion == 'r' ? jinja_repr(state, value) : jinja_str(state, value);
    }
    if (!colon || colon + 1 == end) {
        const struct jinja_string *text = jinja_str(state, value).string;
        jinja_put(writer, text->bytes, text->size);
        return;
    }
    put_field(writer, read_spec(state, colon + 1, end), value);
}

struct jinja_value jinja_format(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_writer writer = {.state = state};
    const char *at = call->self.string->bytes, *end = at + call->self.string->size;
    int64_t automatic = 0;
    while (at < end) {
        if ((*at == '{' || *at == '}') && at + 1 < end && at[1] == *at) {
            jinja_put(&writer, at, 1);
            at += 2;
        } else if (*at == '{') {
            const char *close = memchr(at, '}', (size_t)(end - at));
            if (!close || memchr(at + 1, '{', (size_t)(close - at) - 1)) {
                jinja_fail(state, "a replacement field of a format does not end, or holds another");
            }
            put_replacement(&writer, call, at + 1, close, &automatic);
            at = close + 1;
        } else if (*at == '}') {
            jinja_fail(state, "single '}' encountered in format string");
        } else {
            jinja_put(&writer, at++, 1);
        }
    }
    return jinja_written(&writer);
}
