// The variable `loop` inside a for statement.
#ifndef RMJ_TRAINER_JINJA_LOOP_H
#define RMJ_TRAINER_JINJA_LOOP_H

#include "trainer/jinja/value.h"

struct jinja_render;
struct jinja_node;
struct jinja_activation;

struct jinja_loop {
    struct jinja_iterator iterator;
    int64_t index0; // -1 before the first item
    int depth0;
    struct jinja_value current, before;
    struct jinja_value after; // read ahead; JINJA_MISSING when not
    struct jinja_list ahead;  // read ahead by loop.length
    size_t ahead_position;
    int64_t length; // -1: not known yet
    struct jinja_value last_changed;
    // The condition of `for x in y if ...`, which is asked item by item, and where it is evaluated.
    const struct jinja_node *statement;
    struct jinja_activation *test_activation;
    // Where a recursive loop was defined; NULL for others.
    struct jinja_activation *recursive_in;
};

// 0 at the end.
int jinja_loop_next(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value *item);
struct jinja_value jinja_loop_member(struct jinja_render *render, struct jinja_value self, const char *name,
                                     int *found);
int64_t jinja_loop_length(struct jinja_render *render, struct jinja_loop *loop);

#endif
