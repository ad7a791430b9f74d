// + - * / // % ** as Python has them, on integers of 64 bits.
#include <math.h>
#include <string.h>

#include "trainer/jinja/lex.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/writer.h"

__attribute__((noreturn)) static void fail_types(struct jinja_state *state, int op, struct jinja_value a,
                                                 struct jinja_value b)
{
    jinja_need_defined(state, a);
    jinja_need_defined(state, b);
    jinja_fail(state, "unsupported operand type(s) for %s: '%s' and '%s'",
               jinja_token_kind_text((enum jinja_token_kind)op), jinja_kind_name(a.kind), jinja_kind_name(b.kind));
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    int64_t quotient = a / b;
    return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t integer_power(struct jinja_state *state, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    int is_over = 0;
    while (exponent > 0 && !is_over) {
        if (exponent & 1) {
            is_over |= __builtin_mul_overflow(result, base, &result);
        }
        exponent >>= 1;
        if (exponent > 0) {
            is_over |= __builtin_mul_overflow(base, base, &base);
        }
    }
    if (is_over) {
        jinja_fail(state, "integer out of range");
    }
    return result;
}

static struct jinja_value on_integers(struct jinja_state *state, int op, int64_t a, int64_t b)
{
    int64_t result = 0;
    int is_over = 0;
    if ((op == JINJA_T_DIV || op == JINJA_T_FLOORDIV || op == JINJA_T_MOD) && b == 0) {
        jinja_fail(state, "division by zero");
    }
    switch (op) {
    case JINJA_T_ADD:
        is_over = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_T_SUB:
        is_over = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_T_MUL:
        is_over = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_T_DIV:
        return jinja_float((double)a / (double)b);
    case JINJA_T_FLOORDIV:
        is_over = a == INT64_MIN && b == -1;
        result = is_over ? 0 : floor_divide(a, b);
        break;
    case JINJA_T_MOD:
        result = b == -1 ? 0 : a - floor_divide(a, b) * b;
        break;
    default:
        if (b >= 0) {
            return jinja_int(integer_power(state, a, b));
        }
        if (a == 0) {
            jinja_fail(state, "0.0 cannot be raised to a negative power");
        }
        if (b == INT64_MIN) {
            jinja_fail(state, "integer out of range");
        }
        return jinja_float(1.0 / (double)integer_power(state, a, -b));
    }
    if (is_over) {
        jinja_fail(state, "integer out of range");
    }
    return jinja_int(result);
}

// Python's float modulo: the sign of the divisor.
static double real_modulo(double a, double b)
{
    double result = fmod(a, b);
    if (result != 0 && (b < 0) != (result < 0)) {
        result += b;
    }
    return result == 0 ? copysign(0.0, b) : result;
}

static double real_floor_divide(double a, double b)
{
    double modulo = fmod(a, b), quotient = (a - modulo) / b;
    if (modulo != 0 && (b < 0) != (modulo < 0)) {
        quotient -= 1.0;
    }
    if (quotient == 0) {
        return copysign(0.0, a / b);
    }
    double floored = floor(quotient);
    return quotient - floored > 0.5 ? floored + 1.0 : floored;
}

static struct jinja_value on_reals(struct jinja_state *state, int op, double a, double b)
{
    if ((op == JINJA_T_DIV || op == JINJA_T_FLOORDIV || op == JINJA_T_MOD) && b == 0) {
        jinja_fail(state, "float division by zero");
    }
    switch (op) {
    case JINJA_T_ADD:
        return jinja_float(a + b);
    case JINJA_T_SUB:
        return jinja_float(a - b);
    case JINJA_T_MUL:
        return jinja_float(a * b);
    case JINJA_T_DIV:
        return jinja_float(a / b);
    case JINJA_T_FLOORDIV:
        return jinja_float(real_floor_divide(a, b));
    case JINJA_T_MOD:
        return jinja_float(real_modulo(a, b));
    default: // its last digit is the C library's, not the field's
        jinja_fail(state, "powers of floats are not supported");
    }
}

static struct jinja_value join_texts(struct jinja_state *state, struct jinja_value a, struct jinja_value b)
{
    int is_markup = a.string->is_markup || b.string->is_markup;
    if (is_markup) { // the part that is not escaped yet is escaped now
        a = jinja_escape(state, a);
        b = jinja_escape(state, b);
    }
    size_t size = a.string->size + b.string->size;
    char *bytes = jinja_take(state, size + 1);
    memcpy(bytes, a.string->bytes, a.string->size);
    memcpy(bytes + a.string->size, b.string->bytes, b.string->size);
    jinja_charge(state, size);
    struct jinja_value joined = jinja_text_borrow(state, bytes, size);
    ((struct jinja_string *)joined.string)->is_markup = is_markup;
    return joined;
}

static struct jinja_value join_lists(struct jinja_state *state, struct jinja_value a, struct jinja_value b)
{
    struct jinja_value joined = jinja_tuple_new(state, a.list->count + b.list->count);
    joined.kind = a.kind;
    for (size_t i = 0; i < joined.list->count; i++) {
        joined.list->items[i] = i < a.list->count ? a.list->items[i] : b.list->items[i - a.list->count];
    }
    jinja_charge(state, joined.list->count);
    return joined;
}

static struct jinja_value repeat(struct jinja_state *state, struct jinja_value what, int64_t times)
{
    size_t count = times < 0 ? 0 : (size_t)times;
    size_t size = what.kind == JINJA_STRING ? what.string->size : what.list->count;
    size_t limit = state->memory_max / (what.kind == JINJA_STRING ? 1 : sizeof(struct jinja_value));
    if (size > 0 && count > limit / size) {
        jinja_fail(state, "a repetition needs more than %zu bytes of memory", state->memory_max);
    }
    count = size ? count : 0;
    jinja_charge(state, size * count);
    if (what.kind == JINJA_STRING) {
        char *bytes = jinja_take(state, size * count + 1);
        for (size_t i = 0; i < count; i++) {
            memcpy(bytes + i * size, what.string->bytes, size);
        }
        struct jinja_value text = jinja_text_borrow(state, bytes, size * count);
        ((struct jinja_string *)text.string)->is_markup = what.string->is_markup;
        return text;
    }
    struct jinja_value list = jinja_tuple_new(state, size * count);
    list.kind = what.kind;
    for (size_t i = 0; i < size * count; i++) {
        list.list->items[i] = what.list->items[i % size];
    }
    return list;
}

static int is_sequence(struct jinja_value value)
{
    return value.kind == JINJA_STRING || value.kind == JINJA_LIST || value.kind == JINJA_TUPLE;
}

struct jinja_value jinja_binary(struct jinja_state *state, int op, struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_integral(a) && jinja_is_integral(b)) {
        return on_integers(state, op, jinja_integer_of(a), jinja_integer_of(b));
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        return on_reals(state, op, jinja_real_of(a), jinja_real_of(b));
    }
    if (op == JINJA_T_MOD && a.kind == JINJA_STRING) {
        return jinja_percent(state, a.string, b);
    }
    if (op == JINJA_T_ADD && is_sequence(a) && a.kind == b.kind) {
        return a.kind == JINJA_STRING ? join_texts(state, a, b) : join_lists(state, a, b);
    }
    if (op == JINJA_T_MUL && is_sequence(a) && jinja_is_integral(b)) {
        return repeat(state, a, jinja_integer_of(b));
    }
    if (op == JINJA_T_MUL && is_sequence(b) && jinja_is_integral(a)) {
        return repeat(state, b, jinja_integer_of(a));
    }
    fail_types(state, op, a, b);
}
