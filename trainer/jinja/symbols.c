#include <string.h>

#include "trainer/jinja/scope_inside.h"

struct jinja_symbols *jinja_symbols_new(struct jinja_resolver *resolver, struct jinja_symbols *outer,
                                        struct jinja_frame_function *function)
{
    struct jinja_symbols *symbols = JINJA_NEW(resolver->state, struct jinja_symbols);
    symbols->outer = outer;
    symbols->level = outer ? outer->level + 1 : 0;
    symbols->function = function;
    return symbols;
}

static struct jinja_symbol *find_own(struct jinja_symbols *symbols, int name_id)
{
    for (size_t i = 0; i < symbols->count; i++) {
        if (symbols->items[i].name_id == name_id) {
            return &symbols->items[i];
        }
    }
    return NULL;
}

struct jinja_symbol *jinja_symbols_find(struct jinja_symbols *symbols, int name_id)
{
    for (; symbols; symbols = symbols->outer) {
        struct jinja_symbol *symbol = find_own(symbols, name_id);
        if (symbol) {
            return symbol;
        }
    }
    return NULL;
}

static struct jinja_ident *ident_of(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id)
{
    struct jinja_frame_function *function = symbols->function;
    for (size_t i = 0; i < function->ident_count; i++) {
        if (function->idents[i]->name_id == name_id && function->idents[i]->level == symbols->level) {
            return function->idents[i];
        }
    }
    struct jinja_ident *ident = JINJA_NEW(resolver->state, struct jinja_ident);
    *ident = (struct jinja_ident){name_id, symbols->level, function->function->slot_count++, function};
    function->idents = jinja_grow(resolver->state, function->idents, &function->ident_capacity,
                                  function->ident_count + 1, sizeof(*function->idents));
    function->idents[function->ident_count++] = ident;
    return ident;
}

static struct jinja_symbol *define(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id,
                                   enum jinja_action action, struct jinja_ident *outer)
{
    struct jinja_symbol *symbol = find_own(symbols, name_id);
    if (!symbol) {
        symbols->items = jinja_grow(resolver->state, symbols->items, &symbols->capacity, symbols->count + 1,
                                    sizeof(*symbols->items));
        symbol = &symbols->items[symbols->count++];
        *symbol = (struct jinja_symbol){.name_id = name_id};
    }
    symbol->ident = ident_of(resolver, symbols, name_id);
    symbol->action = action;
    symbol->outer = outer;
    return symbol;
}

void jinja_symbols_load(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id)
{
    if (!jinja_symbols_find(symbols, name_id)) {
        define(resolver, symbols, name_id, JINJA_ACT_GLOBAL, NULL);
    }
}

void jinja_symbols_store(struct jinja_resolver *resolver, struct jinja_symbols *symbols, int name_id)
{
    struct jinja_symbol *symbol = find_own(symbols, name_id);
    if (!symbol) {
        struct jinja_symbol *outer = jinja_symbols_find(symbols->outer, name_id);
        symbol = define(resolver, symbols, name_id, outer ? JINJA_ACT_ALIAS : JINJA_ACT_MISSING,
                        outer ? outer->ident : NULL);
    }
    symbol->is_stored = 1;
}

struct jinja_symbol *jinja_symbols_parameter(struct jinja_resolver *resolver, struct jinja_symbols *symbols,
                                             int name_id)
{
    struct jinja_symbol *symbol = define(resolver, symbols, name_id, JINJA_ACT_PARAMETER, NULL);
    symbol->is_stored = 1;
    return symbol;
}

struct jinja_symbols *jinja_symbols_copy(struct jinja_resolver *resolver, const struct jinja_symbols *symbols)
{
    struct jinja_symbols *copy = JINJA_NEW(resolver->state, struct jinja_symbols);
    *copy = *symbols;
    copy->items = NULL;
    copy->capacity = 0;
    copy->items = jinja_grow(resolver->state, NULL, &copy->capacity, symbols->count + 1, sizeof(*copy->items));
    if (symbols->count) {
        memcpy(copy->items, symbols->items, symbols->count * sizeof(*copy->items));
    }
    return copy;
}

void jinja_symbols_join(struct jinja_resolver *resolver, struct jinja_symbols *symbols,
                        struct jinja_symbols *const *branches, size_t count)
{
    // A name that only some branch sets may stay unset: then it is what it was outside.
    for (size_t k = 0; k < count; k++) {
        for (size_t i = 0; i < branches[k]->count; i++) {
            const struct jinja_symbol *learned = &branches[k]->items[i];
            struct jinja_symbol *own = find_own(symbols, learned->name_id);
            int was_stored = own && own->is_stored;
            if (!own) {
                own = define(resolver, symbols, learned->name_id, learned->action, learned->outer);
            }
            if (!learned->is_stored || was_stored) {
                continue;
            }
            struct jinja_symbol *outer = jinja_symbols_find(symbols->outer, learned->name_id);
            own->action = outer ? JINJA_ACT_ALIAS : JINJA_ACT_GLOBAL;
            own->outer = outer ? outer->ident : NULL;
            own->is_stored = 1;
        }
    }
}

struct jinja_place jinja_symbols_place(const struct jinja_frame_function *from, const struct jinja_ident *ident)
{
    struct jinja_place place = {.slot = ident->slot};
    for (; from != ident->function; from = from->outer) {
        place.up++;
    }
    return place;
}

void jinja_symbols_finish(struct jinja_resolver *resolver, const struct jinja_symbols *symbols,
                          struct jinja_scope *scope)
{
    scope->loads = jinja_take(resolver->state, (symbols->count + 1) * sizeof(*scope->loads));
    scope->clears = jinja_take(resolver->state, (symbols->count + 1) * sizeof(*scope->clears));
    for (size_t i = 0; i < symbols->count; i++) {
        const struct jinja_symbol *symbol = &symbols->items[i];
        scope->clears[scope->clear_count++] = symbol->ident->slot;
        struct jinja_load load = {.slot = symbol->ident->slot, .name_id = symbol->name_id};
        switch (symbol->action) {
        case JINJA_ACT_PARAMETER:
            continue;
        case JINJA_ACT_GLOBAL:
            load.kind = JINJA_LOAD_GLOBAL;
            break;
        case JINJA_ACT_MISSING:
            load.kind = JINJA_LOAD_MISSING;
            break;
        case JINJA_ACT_ALIAS:
            load.kind = JINJA_LOAD_ALIAS;
            load.outer = jinja_symbols_place(symbols->function, symbol->outer);
            break;
        }
        scope->loads[scope->load_count++] = load;
    }
}
