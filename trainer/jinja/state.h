// What one compilation or one rendering holds: its memory, its counters, and the way out. Memory is a chain of chunks
// that is given back as a whole, so a failure anywhere inside leaves by one jump and nothing leaks.
#ifndef RMJ_TRAINER_JINJA_STATE_H
#define RMJ_TRAINER_JINJA_STATE_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// Bounds of this folder; those of one template and one text are in jinja.h.
#define JINJA_PARSE_DEPTH_MAX 400   // statements and expressions inside each other
#define JINJA_CHAIN_MAX 200         // filters, items, operators in a row
#define JINJA_RENDER_DEPTH_MAX 1500 // expressions, statements and macro calls inside each other
#define JINJA_VALUE_DEPTH_MAX 100   // lists and mappings inside each other
#define JINJA_NAME_COUNT_MAX 2048   // different names in one template
#define JINJA_RANGE_MAX 100000      // items of range(), as in the field's sandbox
#define JINJA_COMPILE_MEMORY_MAX ((size_t)1 << 30)
#define JINJA_RENDER_MEMORY_MAX ((size_t)512 << 20)
#define JINJA_STEP_COUNT_DEFAULT 10000000

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t size, used;
    max_align_t bytes[];
};

struct jinja_state {
    jmp_buf leave;
    enum rmj_status status; // set before the jump
    struct rmj_error *err;
    const char *name; // of the template, for messages
    int line;         // where the reader or the rendering stands
    struct jinja_chunk *chunks;
    size_t memory_used, memory_max;
    uint64_t step_count, step_count_max;
    int depth, depth_max;
};

// Zeroed, 16-byte aligned, lives until jinja_release.
void *jinja_take(struct jinja_state *state, size_t size);
#define JINJA_NEW(state, type) ((type *)jinja_take((state), sizeof(type)))
// Room for `needed` elements in an array that grows; the old one stays behind in the chain.
void *jinja_grow(struct jinja_state *state, void *array, size_t *capacity, size_t needed, size_t element_size);
void jinja_release(struct jinja_state *state);

// Leaves with RMJ_DATA "name:line: message".
__attribute__((noreturn, format(printf, 2, 3))) void jinja_fail(struct jinja_state *state, const char *format, ...);
// The same for any length of text, which is cut where the error's own buffer ends.
__attribute__((noreturn)) void jinja_fail_text(struct jinja_state *state, const char *text, size_t size);
// Counts work that is not one step: `amount` bytes or items touched.
void jinja_charge(struct jinja_state *state, uint64_t amount);
// Bracket whatever calls itself.
void jinja_enter(struct jinja_state *state);
void jinja_exit(struct jinja_state *state);

#endif
