// A rendering: where values live, and evaluation.
#ifndef RMJ_TRAINER_JINJA_RENDER_H
#define RMJ_TRAINER_JINJA_RENDER_H

#include "base/buf.h"
#include "trainer/jinja/ast.h"
#include "trainer/jinja/jinja.h"
#include "trainer/jinja/loop.h"

// Variables of one call of a function.
struct jinja_activation {
    struct jinja_activation *outer; // of the function around it
    struct jinja_value *slots;
};

// Text while it is put together. Only the outermost one is the caller's buffer.
struct jinja_output {
    char *bytes;
    size_t size, capacity;
    struct rmj_buf *target; // the caller's buffer, or NULL
};

// state comes first: a pointer to it is a pointer to the rendering.
struct jinja_render {
    struct jinja_state state;
    const struct jinja *jinja;
    const struct rmj_jinja_input *input;
    struct jinja_value *globals; // by name id; JINJA_MISSING: undefined
    struct jinja_activation *activation;
    struct jinja_output *output;
    struct rmj_buf *target; // the caller's
    size_t output_start;    // its size before
    struct rmj_jinja_span *spans;
    size_t span_count, span_capacity;
};

// A macro, or the `caller` of a call block.
struct jinja_macro {
    const struct jinja_node *node;
    struct jinja_activation *outer;
};

struct jinja_render *jinja_render_of(struct jinja_state *state);

void jinja_write(struct jinja_render *render, const char *bytes, size_t size);
// Starts a text of its own; returns what was written to until then.
struct jinja_output *jinja_output_push(struct jinja_render *render, struct jinja_output *output);
struct jinja_value jinja_output_pop(struct jinja_render *render, struct jinja_output *before);

struct jinja_value jinja_evaluate(struct jinja_render *render, const struct jinja_node *node);
// filter: with a NULL innermost value, which `text` stands for.
struct jinja_value jinja_evaluate_filter(struct jinja_render *render, const struct jinja_node *filter,
                                         struct jinja_value text);
void jinja_assign(struct jinja_render *render, const struct jinja_node *target, struct jinja_value value);
struct jinja_value *jinja_slot(struct jinja_render *render, struct jinja_place place);

enum jinja_flow { JINJA_FLOW_ON, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };
enum jinja_flow jinja_execute(struct jinja_render *render, const struct jinja_body *body);
void jinja_scope_enter(struct jinja_render *render, const struct jinja_scope *scope);
void jinja_scope_leave(struct jinja_render *render, const struct jinja_scope *scope);
struct jinja_activation *jinja_activation_new(struct jinja_render *render, const struct jinja_function *function,
                                              struct jinja_activation *outer);

// Calls any value.
struct jinja_value jinja_call_value(struct jinja_render *render, struct jinja_value callee,
                                    const struct jinja_arguments *arguments);
struct jinja_value jinja_call_macro(struct jinja_render *render, struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments);
// The call of a call block, which hands `caller` over.
struct jinja_value jinja_call_block(struct jinja_render *render, const struct jinja_node *call,
                                    struct jinja_value caller);
// Renders the body of a recursive loop for another source.
struct jinja_value jinja_loop_again(struct jinja_render *render, struct jinja_loop *loop, struct jinja_value source);

// a.name, a[key] and a[start:stop:step], as the field's sandbox allows them.
struct jinja_value jinja_member(struct jinja_state *state, struct jinja_value owner, const struct jinja_string *name);
struct jinja_value jinja_item(struct jinja_state *state, struct jinja_value owner, struct jinja_value key);
struct jinja_value jinja_slice(struct jinja_state *state, struct jinja_value owner, const struct jinja_value parts[3]);

struct jinja_value jinja_binary(struct jinja_state *state, int op, struct jinja_value a, struct jinja_value b);

// str() and repr().
struct jinja_value jinja_str(struct jinja_state *state, struct jinja_value value);
struct jinja_value jinja_repr(struct jinja_state *state, struct jinja_value value);
// "1.5", "1e+16", "inf": at most 32 bytes.
size_t jinja_real_text(double real, char *out);

#endif
