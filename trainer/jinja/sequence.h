// What the filters on sequences share: paths into items ("function.name"), sorting, generators.
#ifndef RMJ_TRAINER_JINJA_SEQUENCE_H
#define RMJ_TRAINER_JINJA_SEQUENCE_H

#include "trainer/jinja/writer.h"

struct jinja_path {
    struct jinja_value *parts;
    size_t count;
};

struct jinja_path jinja_path_of(struct jinja_state *state, struct jinja_value attribute);
// otherwise: for undefined parts; may be NULL.
struct jinja_value jinja_path_get(struct jinja_state *state, const struct jinja_path *path, struct jinja_value item,
                                  const struct jinja_value *otherwise);

// One or more paths ("age,name") that make the key of an item.
struct jinja_paths {
    struct jinja_path *items;
    size_t count;
    int is_sensitive; // to upper and lower case
    const struct jinja_value *otherwise;
};

struct jinja_paths jinja_paths_of(struct jinja_state *state, struct jinja_value attribute, int may_be_many,
                                  int is_sensitive);
struct jinja_value jinja_paths_key(struct jinja_state *state, const struct jinja_paths *paths, struct jinja_value item,
                                   int is_list_key);

struct jinja_value jinja_join(struct jinja_state *state, const struct jinja_string *separator,
                              const struct jinja_list *texts);
struct jinja_value jinja_generator_of(struct jinja_state *state, struct jinja_list *items);
// A generator that runs `compute` on a copy of `call` when it is first read.
struct jinja_value jinja_generator_later(struct jinja_state *state, const struct jinja_call *call,
                                         void (*compute)(struct jinja_state *, struct jinja_generator *));

#endif
