// A template as a tree. Names are resolved to places before it is rendered (scope.h); rendering never changes it.
#ifndef RMJ_TRAINER_JINJA_AST_H
#define RMJ_TRAINER_JINJA_AST_H

#include "trainer/jinja/value.h"

enum jinja_node_kind {
    // expressions
    JINJA_N_CONST,     // value
    JINJA_N_NAME,      // name_id, place
    JINJA_N_TUPLE,     // items
    JINJA_N_LIST,      // items
    JINJA_N_DICT,      // items: key, value, key, value, ...
    JINJA_N_CONDITION, // a if b else c (may be NULL)
    JINJA_N_AND,
    JINJA_N_OR,
    JINJA_N_NOT,
    JINJA_N_NEGATIVE,
    JINJA_N_POSITIVE,
    JINJA_N_BINARY,  // a operator b
    JINJA_N_CONCAT,  // items
    JINJA_N_COMPARE, // a, then items with operators[i] before each
    JINJA_N_MEMBER,  // a.text
    JINJA_N_ITEM,    // a[b]
    JINJA_N_SLICE,   // a[items[0]:items[1]:items[2]], each may be NULL
    JINJA_N_CALL,    // a(arguments)
    JINJA_N_FILTER,  // a | builtin(arguments); a is NULL in a filter block: the block's text
    JINJA_N_TEST,    // a is builtin(arguments)
    // statements
    JINJA_N_OUTPUT,       // items, printed
    JINJA_N_TEXT,         // value, printed as it is
    JINJA_N_IF,           // a: condition, body, else_body
    JINJA_N_FOR,          // a: target, b: source, c: condition or NULL, body, else_body
    JINJA_N_SET,          // a: target, b: value
    JINJA_N_SET_BLOCK,    // a: target, c: filter or NULL, body
    JINJA_N_MACRO,        // text: name, place, items: parameters, defaults, body
    JINJA_N_CALL_BLOCK,   // a: the call; items: parameters, defaults, body
    JINJA_N_FILTER_BLOCK, // a: the filters, body
    JINJA_N_WITH,         // items: target, value, target, value, ...; body
    JINJA_N_GENERATION,   // body
    JINJA_N_BREAK,
    JINJA_N_CONTINUE,
    JINJA_N_NAMESPACE_REF // target ns.text; name_id, place
};

// A variable: `up` activations out, then its slot.
struct jinja_place {
    int up, slot;
};

struct jinja_body {
    struct jinja_node **items;
    size_t count, capacity;
};

enum jinja_load_kind { JINJA_LOAD_GLOBAL, JINJA_LOAD_ALIAS, JINJA_LOAD_MISSING };

// What happens to a variable when its scope is entered.
struct jinja_load {
    enum jinja_load_kind kind;
    int slot;
    int name_id;              // JINJA_LOAD_GLOBAL
    struct jinja_place outer; // JINJA_LOAD_ALIAS
};

struct jinja_scope {
    struct jinja_load *loads;
    size_t load_count;
    int *clears; // slots that are missing again once the scope is left
    size_t clear_count;
};

struct jinja_node_keyword {
    const struct jinja_string *name;
    struct jinja_node *value;
};

struct jinja_node_arguments {
    struct jinja_body items;
    struct jinja_node_keyword *keywords;
    size_t keyword_count, keyword_capacity;
    struct jinja_node *star, *star_star;
};

// A function of its own: a macro, a call or generation block's body, a recursive loop, a loop's condition.
struct jinja_function {
    int slot_count;
    int caller_slot, kwargs_slot, varargs_slot; // -1: not asked for
};

struct jinja_node {
    enum jinja_node_kind kind;
    int line;
    int op;                                     // token of BINARY
    int name_id;                                // NAME, NAMESPACE_REF, MACRO
    int is_stored;                              // NAME: written, not read
    int is_recursive, is_extended, uses_caller; // FOR, FOR, -
    int loop_slot;                              // FOR that is extended
    struct jinja_place place;
    const struct jinja_string *text;
    struct jinja_value value;
    const struct jinja_builtin *builtin; // FILTER, TEST
    struct jinja_node *a, *b, *c, *d;    // d: FOR's target once more, for its condition
    struct jinja_body items;
    int *operators;
    struct jinja_body defaults;
    struct jinja_body body, else_body;
    struct jinja_node_arguments *arguments;
    struct jinja_scope scope, else_scope, test_scope;
    struct jinja_function *function, *test_function;
};

// Operators of COMPARE that are no tokens; the others are jinja_token_kind.
#define JINJA_COMPARE_IN 1000
#define JINJA_COMPARE_NOT_IN 1001

// Names of one template; ids count from 0.
struct jinja_names {
    struct jinja_value index; // dict: name to id
    const struct jinja_string **items;
    size_t count, capacity;
};

struct jinja {
    struct jinja_state state;
    struct jinja_names names;
    struct jinja_body body;
    struct jinja_scope scope;
    struct jinja_function function;
    unsigned char *is_read; // free names, by id
    int *read_line;         // where first
};

int jinja_name_id(struct jinja_state *state, struct jinja_names *names, const struct jinja_string *name);

#endif
