// Filters that make numbers.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/lex.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"

static struct jinja_value run_abs(struct jinja_state *state, struct jinja_call *call)
{
    jinja_need_defined(state, call->self);
    if (call->self.kind == JINJA_FLOAT) {
        return jinja_float(fabs(call->self.real));
    }
    int64_t integer = jinja_need_int(state, call->self, "abs");
    if (integer == INT64_MIN) {
        jinja_fail(state, "integer out of range");
    }
    return jinja_int(integer < 0 ? -integer : integer);
}

// The text without white space around it and without its underscores, which must stand between digits. 0: no number.
static int clean_number(const struct jinja_string *text, char *out, size_t size)
{
    size_t from = 0, to = text->size, count = 0;
    while (from < to && jinja_is_space(rmj_utf8_read(text->bytes + from))) {
        from += rmj_utf8_size((unsigned char)text->bytes[from]);
    }
    while (to > from && (unsigned char)text->bytes[to - 1] < 0x80 &&
           jinja_is_space((unsigned char)text->bytes[to - 1])) {
        to--;
    }
    for (size_t i = from; i < to; i++) {
        char c = text->bytes[i];
        if (c == '_') {
            int is_between = i > from && i + 1 < to && text->bytes[i - 1] != '_' && text->bytes[i + 1] != '_' &&
                             strchr("0123456789abcdefABCDEF", text->bytes[i - 1]) &&
                             strchr("0123456789abcdefABCDEF", text->bytes[i + 1]);
            if (!is_between) {
                return 0;
            }
            continue;
        }
        if (count + 1 >= size || c == '\0' || (unsigned char)c >= 0x80 || c == ' ') {
            return 0;
        }
        out[count++] = c;
    }
    out[count] = '\0';
    return count > 0;
}

// Python's float(text). 0: not a number.
static int parse_real(const struct jinja_string *text, double *real)
{
    char clean[400], *end;
    if (!clean_number(text, clean, sizeof(clean))) {
        return 0;
    }
    const char *digits = clean + (clean[0] == '-' || clean[0] == '+');
    if (digits[0] == '0' && (digits[1] | 32) == 'x') {
        return 0;
    }
    if (strchr(digits, '(')) {
        return 0; // strtod reads nan(...)
    }
    *real = strtod(clean, &end);
    return *end == '\0';
}

// Python's int(text, base). 0: not a number.
static int parse_integer(struct jinja_state *state, const struct jinja_string *text, int base, int64_t *integer)
{
    char clean[200], *end;
    if (!clean_number(text, clean, sizeof(clean)) || base < 0 || base == 1 || base > 36) {
        return 0;
    }
    char *digits = clean + (clean[0] == '-' || clean[0] == '+');
    char letter = digits[0] == '0' ? (char)(digits[1] | 32) : 0;
    int prefixed = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (prefixed && (base == prefixed || base == 0)) {
        base = prefixed;
        memmove(digits, digits + 2, strlen(digits + 2) + 1);
    } else if (base == 0) {
        base = 10;
    }
    if (digits[0] == '-' || digits[0] == '+' || digits[0] == '\0' || (digits[0] == '0' && (digits[1] | 32) == 'x')) {
        return 0;
    }
    errno = 0;
    *integer = strtoll(clean, &end, base);
    if (errno == ERANGE) {
        jinja_fail(state, "integer out of range");
    }
    return *end == '\0';
}

static int real_to_integer(double real, int64_t *integer)
{
    if (!(real > -9223372036854775808.0 && real < 9223372036854775808.0)) {
        return 0;
    }
    *integer = (int64_t)real;
    return 1;
}

static struct jinja_value run_int(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value otherwise = call->given[0].kind == JINJA_MISSING ? jinja_int(0) : call->given[0];
    int64_t base = call->given[1].kind == JINJA_MISSING ? 10 : jinja_need_int(state, call->given[1], "int");
    int64_t integer;
    double real = 0;
    jinja_need_defined(state, call->self);
    if (jinja_is_integral(call->self)) {
        return jinja_int(jinja_integer_of(call->self));
    }
    if (call->self.kind == JINJA_STRING) {
        if (parse_integer(state, call->self.string, base > 36 ? -1 : (int)base, &integer)) {
            return jinja_int(integer);
        }
        if (!parse_real(call->self.string, &real) || isinf(real) || isnan(real)) {
            return otherwise;
        }
    } else if (call->self.kind == JINJA_FLOAT) {
        real = call->self.real;
        if (isnan(real)) {
            return otherwise;
        }
    } else {
        return otherwise;
    }
    if (!real_to_integer(real, &integer)) {
        jinja_fail(state, "integer out of range");
    }
    return jinja_int(integer);
}

static struct jinja_value run_float(struct jinja_state *state, struct jinja_call *call)
{
    double real;
    jinja_need_defined(state, call->self);
    if (jinja_is_number(call->self)) {
        return jinja_float(jinja_real_of(call->self));
    }
    if (call->self.kind == JINJA_STRING && parse_real(call->self.string, &real)) {
        return jinja_float(real);
    }
    return call->given[0].kind == JINJA_MISSING ? jinja_float(0) : call->given[0];
}

// Half to even, on the digits of the number itself.
static struct jinja_value round_number(struct jinja_state *state, struct jinja_value value, int64_t precision)
{
    char text[400];
    if (jinja_is_integral(value)) {
        int64_t integer = jinja_integer_of(value), unit = 1;
        if (precision >= 0) {
            return jinja_int(integer);
        }
        for (int64_t i = precision; i < 0 && unit <= INT64_MAX / 10; i++) {
            unit *= 10;
        }
        if (precision < -18) {
            return jinja_int(0);
        }
        int64_t rest = (integer % unit + unit) % unit, low = integer - rest;
        int is_up = rest > unit - rest || (rest == unit - rest && (low / unit) % 2 != 0);
        return jinja_int(is_up ? low + unit : low);
    }
    if (precision > 300 || isinf(value.real) || isnan(value.real)) {
        return value;
    }
    if (precision < 0) {
        jinja_fail(state, "rounding a float to tens or hundreds is not supported");
    }
    snprintf(text, sizeof(text), "%.*f", (int)precision, fabs(value.real) < 1e22 ? value.real : 0.0);
    return fabs(value.real) < 1e22 ? jinja_float(strtod(text, NULL)) : value;
}

static struct jinja_value run_round(struct jinja_state *state, struct jinja_call *call)
{
    struct jinja_value value = call->self;
    int64_t precision = call->given[0].kind == JINJA_MISSING ? 0 : jinja_need_int(state, call->given[0], "round");
    const char *method = "common";
    if (call->given[1].kind != JINJA_MISSING) {
        const struct jinja_string *name = jinja_need_text(state, call->given[1], "round");
        method = jinja_text(state, name->bytes, name->size).string->bytes;
    }
    int is_ceil = strcmp(method, "ceil") == 0, is_floor = strcmp(method, "floor") == 0;
    if (!is_ceil && !is_floor && strcmp(method, "common") != 0) {
        jinja_fail(state, "the method of round is common, ceil or floor");
    }
    jinja_need_defined(state, value);
    if (!jinja_is_number(value)) {
        jinja_fail(state, "round needs a number, not %s", jinja_kind_name(value.kind));
    }
    if (!is_ceil && !is_floor) {
        return round_number(state, value, precision);
    }
    struct jinja_value unit = jinja_binary(state, JINJA_T_POW, jinja_int(10), jinja_int(precision));
    struct jinja_value scaled = jinja_binary(state, JINJA_T_MUL, value, unit);
    double whole = is_ceil ? ceil(jinja_real_of(scaled)) : floor(jinja_real_of(scaled));
    return jinja_binary(state, JINJA_T_DIV, jinja_float(whole), unit);
}

const struct jinja_builtin jinja_number_filters[] = {
    {"abs", "", 0, run_abs},
    {"int", "default,base", 0, run_int},
    {"float", "default", 0, run_float},
    {"round", "precision,method", 0, run_round},
    {NULL, NULL, 0, NULL},
};
