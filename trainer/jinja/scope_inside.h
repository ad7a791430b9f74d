// Between scope.c, which walks the tree, and symbols.c, which keeps what is known of a scope.
#ifndef RMJ_TRAINER_JINJA_SCOPE_INSIDE_H
#define RMJ_TRAINER_JINJA_SCOPE_INSIDE_H

#include "trainer/jinja/ast.h"

// A function while its slots are given out. Two scopes of one function at one level share the slot of a name.
struct jinja_frame_function {
    struct jinja_frame_function *outer;
    struct jinja_function *function;
    struct jinja_ident **idents;
    size_t ident_count, ident_capacity;
};

// A variable: a name at a level of a function.
struct jinja_ident {
    int name_id, level, slot;
    struct jinja_frame_function *function;
};

enum jinja_action { JINJA_ACT_PARAMETER, JINJA_ACT_GLOBAL, JINJA_ACT_ALIAS, JINJA_ACT_MISSING };

struct jinja_symbol {
    int name_id;
    struct jinja_ident *ident;
    int is_stored;
    enum jinja_action action;
    struct jinja_ident *outer; // JINJA_ACT_ALIAS
};

// What a scope knows: its own names. Read on in `outer` for the others.
struct jinja_symbols {
    struct jinja_symbols *outer;
    int level;
    struct jinja_frame_function *function;
    struct jinja_symbol *items;
    size_t count, capacity;
};

struct jinja_resolver {
    struct jinja_state *state;
    struct jinja *jinja;
};

struct jinja_symbols *jinja_symbols_new(struct jinja_resolver *resolver, struct jinja_symbols *outer,
                                        struct jinja_frame_function *function);
struct jinja_symbol *jinja_symbols_find(struct jinja_symbols *symbols, int name_id); // outwards
void jinja_symbols_load(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id);
void jinja_symbols_store(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id);
struct jinja_symbol *jinja_symbols_parameter(struct jinja_resolver *resolver, struct jinja_symbols *symbols,
                                             int name_id);
struct jinja_symbols *jinja_symbols_copy(struct jinja_resolver *resolver, const struct jinja_symbols *symbols);
// Takes in what the branches of an if have learned.
void jinja_symbols_join(struct jinja_resolver *resolver, struct jinja_symbols *symbols,
                        struct jinja_symbols *const *branches, size_t count);
// What entering and leaving the scope does.
void jinja_symbols_finish(struct jinja_resolver *resolver, const struct jinja_symbols *symbols,
                          struct jinja_scope *scope);
// Place of a variable seen from a function.
struct jinja_place jinja_symbols_place(const struct jinja_frame_function *from, const struct jinja_ident *ident);

#endif
