#include "trainer/jinja/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE_MIN ((size_t)16 << 10)
// Bytes or items that cost as much as one step.
#define CHARGE_UNIT 64

void *jinja_take(struct jinja_state *state, size_t size)
{
    if (size > state->memory_max) {
        jinja_fail(state, "needs more than %zu bytes of memory", state->memory_max);
    }
    size = (size + 15) & ~(size_t)15;
    struct jinja_chunk *chunk = state->chunks;
    if (!chunk || chunk->size - chunk->used < size) {
        size_t wanted = chunk ? chunk->size * 2 : CHUNK_SIZE_MIN;
        if (wanted > (size_t)1 << 20) {
            wanted = (size_t)1 << 20;
        }
        if (wanted < size) {
            wanted = size;
        }
        if (state->memory_used + wanted > state->memory_max) {
            jinja_fail(state, "needs more than %zu bytes of memory", state->memory_max);
        }
        struct jinja_chunk *added = malloc(sizeof(*added) + wanted);
        if (!added) {
            jinja_fail(state, "out of memory");
        }
        added->next = chunk;
        added->size = wanted;
        added->used = 0;
        state->memory_used += wanted;
        state->chunks = added;
        chunk = added;
    }
    char *at = (char *)chunk->bytes + chunk->used;
    chunk->used += size;
    memset(at, 0, size);
    return at;
}

void *jinja_grow(struct jinja_state *state, void *array, size_t *capacity, size_t needed, size_t element_size)
{
    if (needed <= *capacity) {
        return array;
    }
    size_t wanted = *capacity ? *capacity * 2 : 8;
    if (wanted < needed) {
        wanted = needed;
    }
    if (wanted > state->memory_max / element_size) {
        jinja_fail(state, "needs more than %zu bytes of memory", state->memory_max);
    }
    void *grown = jinja_take(state, wanted * element_size);
    if (*capacity) {
        memcpy(grown, array, *capacity * element_size);
    }
    *capacity = wanted;
    return grown;
}

void jinja_release(struct jinja_state *state)
{
    while (state->chunks) {
        struct jinja_chunk *next = state->chunks->next;
        free(state->chunks);
        state->chunks = next;
    }
}

void jinja_fail(struct jinja_state *state, const char *format, ...)
{
    char message[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    jinja_fail_text(state, message, strlen(message));
}

void jinja_fail_text(struct jinja_state *state, const char *text, size_t size)
{
    int shown = size > RMJ_ERROR_MESSAGE_SIZE ? RMJ_ERROR_MESSAGE_SIZE : (int)size;
    state->status = rmj_fail(state->err, RMJ_DATA, "%s:%d: %.*s", state->name, state->line, shown, text);
    longjmp(state->leave, 1);
}

void jinja_charge(struct jinja_state *state, uint64_t amount)
{
    state->step_count += 1 + amount / CHARGE_UNIT;
    if (state->step_count > state->step_count_max) {
        jinja_fail(state, "gave up after %llu steps", (unsigned long long)state->step_count_max);
    }
}

void jinja_enter(struct jinja_state *state)
{
    if (++state->depth > state->depth_max) {
        jinja_fail(state, "nested more than %d deep", state->depth_max);
    }
}

void jinja_exit(struct jinja_state *state)
{
    --state->depth;
}
