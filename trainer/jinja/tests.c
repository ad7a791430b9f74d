// What stands after `is`.
#include <string.h>

#include "trainer/jinja/builtin.h"
#include "trainer/jinja/lex.h"
#include "trainer/jinja/render.h"
#include "trainer/jinja/unicode.h"

static struct jinja_value run_defined(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind != JINJA_UNDEFINED);
}

static struct jinja_value run_undefined(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_UNDEFINED);
}

static struct jinja_value run_none(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_NONE);
}

static struct jinja_value run_boolean(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_BOOL);
}

static struct jinja_value run_true(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_BOOL && call->self.boolean);
}

static struct jinja_value run_false(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_BOOL && !call->self.boolean);
}

static struct jinja_value run_integer(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_INT);
}

static struct jinja_value run_float(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_FLOAT);
}

static struct jinja_value run_number(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(jinja_is_number(call->self));
}

static struct jinja_value run_string(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_STRING);
}

static struct jinja_value run_mapping(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_DICT);
}

static struct jinja_value run_sequence(struct jinja_state *state, struct jinja_call *call)
{
    int64_t length; // an undefined value counts, as it does for the field's engine
    return jinja_bool(call->self.kind != JINJA_VIEW && jinja_length(state, call->self, &length));
}

static struct jinja_value run_iterable(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(jinja_is_iterable(call->self));
}

static struct jinja_value run_callable(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    enum jinja_kind kind = call->self.kind;
    return jinja_bool(kind == JINJA_UNDEFINED || kind == JINJA_MACRO || kind == JINJA_LOOP || kind == JINJA_FUNCTION ||
                      kind == JINJA_METHOD || kind == JINJA_JOINER);
}

static struct jinja_value run_escaped(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_STRING && call->self.string->is_markup);
}

static struct jinja_value run_sameas(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(jinja_same(call->self, call->given[0]));
}

static struct jinja_value remainder_is(struct jinja_state *state, struct jinja_value value, struct jinja_value divisor,
                                       int64_t wanted)
{
    struct jinja_value rest = jinja_binary(state, JINJA_T_MOD, value, divisor);
    return jinja_bool(jinja_equal(state, rest, jinja_int(wanted)));
}

static struct jinja_value run_odd(struct jinja_state *state, struct jinja_call *call)
{
    return remainder_is(state, call->self, jinja_int(2), 1);
}

static struct jinja_value run_even(struct jinja_state *state, struct jinja_call *call)
{
    return remainder_is(state, call->self, jinja_int(2), 0);
}

static struct jinja_value run_divisibleby(struct jinja_state *state, struct jinja_call *call)
{
    return remainder_is(state, call->self, call->given[0], 0);
}

// 1 when there are cased letters and none of them is of the other case.
static int all_cased(struct jinja_state *state, struct jinja_value value, int (*is_wanted)(uint32_t),
                     int (*is_other)(uint32_t))
{
    const struct jinja_string *text = jinja_str(state, value).string;
    int found = 0;
    for (size_t i = 0; i < text->size; i += rmj_utf8_size((unsigned char)text->bytes[i])) {
        uint32_t code = rmj_utf8_read(text->bytes + i);
        if (is_other(code)) {
            return 0;
        }
        found |= is_wanted(code);
    }
    return found;
}

static struct jinja_value run_lower(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(all_cased(state, call->self, jinja_is_cased_lower, jinja_is_cased_upper));
}

static struct jinja_value run_upper(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(all_cased(state, call->self, jinja_is_cased_upper, jinja_is_cased_lower));
}

static struct jinja_value run_in(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(jinja_contains(state, call->given[0], call->self));
}

static struct jinja_value run_eq(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(jinja_equal(state, call->self, call->given[0]));
}

static struct jinja_value run_ne(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(!jinja_equal(state, call->self, call->given[0]));
}

static struct jinja_value run_gt(struct jinja_state *state, struct jinja_call *call)
{
    int order = jinja_compare(state, call->self, call->given[0], ">");
    return jinja_bool(order != 2 && order > 0);
}

static struct jinja_value run_ge(struct jinja_state *state, struct jinja_call *call)
{
    int order = jinja_compare(state, call->self, call->given[0], ">=");
    return jinja_bool(order != 2 && order >= 0);
}

static struct jinja_value run_lt(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(jinja_compare(state, call->self, call->given[0], "<") < 0);
}

static struct jinja_value run_le(struct jinja_state *state, struct jinja_call *call)
{
    return jinja_bool(jinja_compare(state, call->self, call->given[0], "<=") <= 0);
}

static struct jinja_value run_filter(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_STRING &&
                      jinja_find_filter(call->self.string->bytes, call->self.string->size) != NULL);
}

static struct jinja_value run_test(struct jinja_state *state, struct jinja_call *call)
{
    (void)state;
    return jinja_bool(call->self.kind == JINJA_STRING &&
                      jinja_find_test(call->self.string->bytes, call->self.string->size) != NULL);
}

const struct jinja_builtin jinja_tests[] = {
    {"defined", "", 0, run_defined},
    {"undefined", "", 0, run_undefined},
    {"none", "", 0, run_none},
    {"boolean", "", 0, run_boolean},
    {"true", "", 0, run_true},
    {"false", "", 0, run_false},
    {"integer", "", 0, run_integer},
    {"float", "", 0, run_float},
    {"number", "", 0, run_number},
    {"string", "", 0, run_string},
    {"mapping", "", 0, run_mapping},
    {"sequence", "", 0, run_sequence},
    {"iterable", "", 0, run_iterable},
    {"callable", "", 0, run_callable},
    {"escaped", "", 0, run_escaped},
    {"sameas", "other", 1, run_sameas},
    {"odd", "", 0, run_odd},
    {"even", "", 0, run_even},
    {"divisibleby", "num", 1, run_divisibleby},
    {"lower", "", 0, run_lower},
    {"upper", "", 0, run_upper},
    {"in", "seq", 1, run_in},
    {"eq", "/b", 1, run_eq},
    {"equalto", "/b", 1, run_eq},
    {"==", "/b", 1, run_eq},
    {"ne", "/b", 1, run_ne},
    {"!=", "/b", 1, run_ne},
    {"gt", "/b", 1, run_gt},
    {"greaterthan", "/b", 1, run_gt},
    {">", "/b", 1, run_gt},
    {"ge", "/b", 1, run_ge},
    {">=", "/b", 1, run_ge},
    {"lt", "/b", 1, run_lt},
    {"lessthan", "/b", 1, run_lt},
    {"<", "/b", 1, run_lt},
    {"le", "/b", 1, run_le},
    {"<=", "/b", 1, run_le},
    {"filter", "", 0, run_filter},
    {"test", "", 0, run_test},
    {NULL, NULL, 0, NULL},
};
