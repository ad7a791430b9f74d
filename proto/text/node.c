#include "proto/text/node.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct rmj_node_block {
    struct rmj_node_block *next;
    size_t size, used;
    _Alignas(16) char bytes[];
};

enum { BLOCK_BYTES = 32 * 1024 };

void *rmj_text_allocate(size_t count, size_t size)
{
    void *memory = calloc(count == 0 ? 1 : count, size);
    RMJ_ASSERT(memory != NULL);
    return memory;
}

void *rmj_node_take(struct rmj_node_pool *pool, size_t size)
{
    size = (size + 15) / 16 * 16;
    struct rmj_node_block *block = pool->blocks;
    if (block == NULL || size > block->size - block->used) {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        block = rmj_text_allocate(1, sizeof *block + room);
        block->size = room;
        block->next = pool->blocks;
        pool->blocks = block;
    }
    void *memory = block->bytes + block->used;
    block->used += size;
    return memory;
}

struct rmj_node *rmj_node_make(struct rmj_node_pool *pool, enum rmj_node_kind kind, int line, int column)
{
    struct rmj_node *node = rmj_node_take(pool, sizeof *node);
    node->kind = kind;
    node->line = line;
    node->column = column;
    return node;
}

char *rmj_node_text(struct rmj_node_pool *pool, const char *text, size_t size)
{
    char *copy = rmj_node_take(pool, size + 1);
    if (size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

void rmj_node_add(struct rmj_node *parent, struct rmj_node *child)
{
    *(parent->first == NULL ? &parent->first : &parent->last->next) = child;
    parent->last = child;
    parent->count++;
}

void rmj_node_pool_free(struct rmj_node_pool *pool)
{
    while (pool->blocks != NULL) {
        struct rmj_node_block *next = pool->blocks->next;
        free(pool->blocks);
        pool->blocks = next;
    }
}

// ---- what a plain scalar is: YAML 1.2, section 10.3.2 ----

static int is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return 1;
        }
    }
    return 0;
}

static const char *skip_digits(const char *text, const char *digits)
{
    return text + strspn(text, digits);
}

static int is_integer(const char *text)
{
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
        const char *end = skip_digits(text + 2, text[1] == 'x' ? "0123456789abcdefABCDEF" : "01234567");
        return end > text + 2 && *end == '\0';
    }
    text += *text == '+' || *text == '-';
    const char *end = skip_digits(text, "0123456789");
    return end > text && *end == '\0';
}

static int is_float(const char *text)
{
    static const char *const special[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nan[] = {".nan", ".NaN", ".NAN", NULL};
    if (is_one_of(text, nan)) {
        return 1;
    }
    text += *text == '+' || *text == '-';
    if (is_one_of(text, special)) {
        return 1;
    }
    const char *whole = skip_digits(text, "0123456789");
    const char *end = *whole == '.' ? skip_digits(whole + 1, "0123456789") : whole;
    if (whole == text && end <= whole + 1) {
        return 0; // no digit at all
    }
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1;
        exponent += *exponent == '+' || *exponent == '-';
        end = skip_digits(exponent, "0123456789");
        if (end == exponent) {
            return 0;
        }
    }
    return *end == '\0';
}

enum rmj_scalar rmj_scalar_classify(const struct rmj_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    if (node->quoted || strlen(node->text) != node->size) {
        return RMJ_SCALAR_TEXT;
    }
    if (is_one_of(node->text, nulls)) {
        return RMJ_SCALAR_NULL;
    }
    if (is_one_of(node->text, bools)) {
        return RMJ_SCALAR_BOOL;
    }
    if (is_integer(node->text)) {
        return RMJ_SCALAR_INTEGER;
    }
    return is_float(node->text) ? RMJ_SCALAR_FLOAT : RMJ_SCALAR_TEXT;
}
