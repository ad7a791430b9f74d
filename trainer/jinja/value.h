// Values of a template while it renders: what Python calls str, int, list, dict, Undefined, a bound method, and so on.
#ifndef RMJ_TRAINER_JINJA_VALUE_H
#define RMJ_TRAINER_JINJA_VALUE_H

#include "trainer/jinja/state.h"

enum jinja_kind {
    JINJA_MISSING = 0, // an argument that was not given, a variable that was never set; never seen by a template
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_RANGE,
    JINJA_VIEW,      // dict.keys(), dict.values(), dict.items()
    JINJA_GENERATOR, // what map, select, items and others give: read once, computed when first read
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_LOOP,
    JINJA_FUNCTION, // range, dict, raise_exception, ...
    JINJA_METHOD,   // text.strip, mapping.items, loop.cycle, ...
    JINJA_CYCLER,
    JINJA_JOINER,
    JINJA_KIND_COUNT
};

struct jinja_string {
    const char *bytes; // valid UTF-8
    size_t size;
    size_t length; // code points
    int is_markup; // passed through |escape or |safe
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        int boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        struct jinja_list *list; // tuples too
        struct jinja_dict *dict; // namespaces too
        struct jinja_range *range;
        struct jinja_view *view;
        struct jinja_generator *generator;
        struct jinja_undefined *undefined;
        struct jinja_macro *macro;
        struct jinja_loop *loop;
        const struct jinja_builtin *function;
        struct jinja_method *method;
        struct jinja_cycler *cycler;
        struct jinja_joiner *joiner;
    };
};

// is_group: a result of groupby, whose two items have names.
struct jinja_list {
    struct jinja_value *items;
    size_t count, capacity;
    int is_group;
};

// Keeps the order of insertion. slots: open addressing over positions plus one, only once there are many entries.
struct jinja_dict {
    struct jinja_value *keys, *values;
    size_t count, capacity, value_capacity;
    uint32_t *slots;
    size_t slot_count;
};

struct jinja_range {
    int64_t start, stop, step;
    size_t count;
};

enum jinja_view_kind { JINJA_VIEW_KEYS, JINJA_VIEW_VALUES, JINJA_VIEW_ITEMS };

struct jinja_view {
    enum jinja_view_kind kind;
    struct jinja_dict *dict;
};

// compute fills `items`; NULL once done.
struct jinja_generator {
    void (*compute)(struct jinja_state *state, struct jinja_generator *generator);
    struct jinja_call *call;
    struct jinja_list items;
    size_t position;
};

// Why a value is undefined, told when it is used.
struct jinja_undefined {
    const char *hint;                // the whole message, or NULL for one made of the rest
    enum jinja_kind owner;           // JINJA_MISSING: a name that is not set
    const struct jinja_string *name; // may be NULL
    int64_t index;                   // when name is NULL
    int is_unsafe;                   // an attribute that the sandbox keeps back
};

struct jinja_method {
    struct jinja_value self;
    const struct jinja_builtin *builtin;
};

struct jinja_cycler {
    struct jinja_list items;
    size_t position;
};

struct jinja_joiner {
    struct jinja_value separator;
    int is_used;
};

struct jinja_keyword {
    const struct jinja_string *name;
    struct jinja_value value;
};

struct jinja_arguments {
    struct jinja_value *items;
    size_t count;
    struct jinja_keyword *keywords;
    size_t keyword_count;
};

#define JINJA_PARAMETER_MAX 6

// A call of a builtin: `arguments` as written, and bound to its parameters in `given` (JINJA_MISSING where left out).
struct jinja_call {
    const struct jinja_builtin *builtin;
    struct jinja_value self;
    struct jinja_arguments arguments;
    struct jinja_value given[JINJA_PARAMETER_MAX];
};

// parameters: names with commas between; "*" takes whatever is written and binds nothing; one that starts with "/"
// takes no keyword arguments, as most of Python's own methods.
struct jinja_builtin {
    const char *name;
    const char *parameters;
    int required;
    struct jinja_value (*run)(struct jinja_state *state, struct jinja_call *call);
};

// Making values.
struct jinja_value jinja_none(void);
struct jinja_value jinja_bool(int boolean);
struct jinja_value jinja_int(int64_t integer);
struct jinja_value jinja_float(double real);
// Copies the bytes, which are valid UTF-8.
struct jinja_value jinja_text(struct jinja_state *state, const char *bytes, size_t size);
// Borrows them.
struct jinja_value jinja_text_borrow(struct jinja_state *state, const char *bytes, size_t size);
struct jinja_value jinja_undefined_hint(struct jinja_state *state, const char *hint);
struct jinja_value jinja_undefined_name(struct jinja_state *state, const struct jinja_string *name);
struct jinja_value jinja_undefined_member(struct jinja_state *state, struct jinja_value owner, struct jinja_value name);
struct jinja_value jinja_list_new(struct jinja_state *state);
struct jinja_value jinja_tuple_new(struct jinja_state *state, size_t count);
struct jinja_value jinja_pair(struct jinja_state *state, struct jinja_value first, struct jinja_value second);
void jinja_list_append(struct jinja_state *state, struct jinja_list *list, struct jinja_value value);
struct jinja_value jinja_dict_new(struct jinja_state *state);
// Fails for keys that cannot be hashed.
void jinja_dict_set(struct jinja_state *state, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);
// 1 when found.
int jinja_dict_get(struct jinja_state *state, const struct jinja_dict *dict, struct jinja_value key,
                   struct jinja_value *value);
int jinja_dict_get_text(struct jinja_state *state, const struct jinja_dict *dict, const struct jinja_string *key,
                        struct jinja_value *value);
void jinja_dict_merge(struct jinja_state *state, struct jinja_dict *into, const struct jinja_dict *from);

// Asking values.
const char *jinja_kind_name(enum jinja_kind kind); // "str", "dict", "NoneType", ...
__attribute__((noreturn)) void jinja_fail_undefined(struct jinja_state *state, const struct jinja_undefined *undefined);
// Fails when the value is undefined.
void jinja_need_defined(struct jinja_state *state, struct jinja_value value);
int jinja_is_true(struct jinja_state *state, struct jinja_value value);
int jinja_is_number(struct jinja_value value);      // bool, int, float
int jinja_is_integral(struct jinja_value value);    // bool, int
int64_t jinja_integer_of(struct jinja_value value); // of a bool or an int
double jinja_real_of(struct jinja_value value);     // of a bool, an int or a float
int jinja_equal(struct jinja_state *state, struct jinja_value a, struct jinja_value b);
int jinja_same(struct jinja_value a, struct jinja_value b); // Python's `is`
// <0, 0, >0; 2 for NaN. operator_text is for the message when the two have no order.
int jinja_compare(struct jinja_state *state, struct jinja_value a, struct jinja_value b, const char *operator_text);
int jinja_contains(struct jinja_state *state, struct jinja_value container, struct jinja_value item);
int jinja_length(struct jinja_state *state, struct jinja_value value, int64_t *length); // 0: has none
uint64_t jinja_hash(struct jinja_state *state, struct jinja_value value);

// Reading values in order.
struct jinja_iterator {
    struct jinja_value source;
    size_t position; // items, or bytes of a text
};
// Fails when it cannot be iterated.
struct jinja_iterator jinja_iterate(struct jinja_state *state, struct jinja_value source);
int jinja_next(struct jinja_state *state, struct jinja_iterator *iterator, struct jinja_value *item);
int jinja_is_iterable(struct jinja_value value);
// A new list of all items.
struct jinja_value jinja_list_of(struct jinja_state *state, struct jinja_value source);

// Value: int arguments of builtins.
int64_t jinja_need_int(struct jinja_state *state, struct jinja_value value, const char *what);
const struct jinja_string *jinja_need_text(struct jinja_state *state, struct jinja_value value, const char *what);

#endif
