// jansson decides what is JSON and decodes strings, but keeps no positions of values. So a text that it has accepted is
// walked once more here; the walk needs no error handling of its own, since the text is known to be well formed.
#include <jansson.h>
#include <string.h>

#include "proto/text/node.h"

struct walker {
    const char *text, *end, *at;
    int line, column;
    struct rmj_node_pool *pool;
    struct rmj_text_result *result;
};

static void step(struct walker *walker)
{
    char c = *walker->at++;
    if (c == '\n') {
        walker->line++;
        walker->column = 1;
    } else if (walker->at == walker->end || ((unsigned char)*walker->at & 0xc0) != 0x80) {
        walker->column++;
    }
}

static void skip_space(struct walker *walker)
{
    while (walker->at < walker->end && strchr(" \t\r\n", *walker->at) != NULL && *walker->at != '\0') {
        step(walker);
    }
}

static struct rmj_node *walk_scalar(struct walker *walker)
{
    struct rmj_node *node = rmj_node_make(walker->pool, RMJ_NODE_SCALAR, walker->line, walker->column);
    const char *start = walker->at;
    node->quoted = *start == '"';
    do {
        if (node->quoted && *walker->at == '\\') {
            step(walker);
        }
        step(walker);
    } while (walker->at < walker->end &&
             (node->quoted ? *walker->at != '"' : strchr(",]} \t\r\n", *walker->at) == NULL));
    if (!node->quoted) {
        node->size = (size_t)(walker->at - start);
        node->text = rmj_node_text(walker->pool, start, node->size);
        return node;
    }
    step(walker); // the closing quote
    json_t *decoded = json_loadb(start, (size_t)(walker->at - start), JSON_DECODE_ANY, NULL);
    RMJ_ASSERT(json_is_string(decoded));
    node->size = json_string_length(decoded);
    node->text = rmj_node_text(walker->pool, json_string_value(decoded), node->size);
    json_decref(decoded);
    return node;
}

static struct rmj_node *walk(struct walker *walker, int depth);

static struct rmj_node *walk_group(struct walker *walker, int depth)
{
    int is_map = *walker->at == '{';
    char close = is_map ? '}' : ']';
    struct rmj_node *group =
        rmj_node_make(walker->pool, is_map ? RMJ_NODE_MAP : RMJ_NODE_LIST, walker->line, walker->column);
    step(walker);
    skip_space(walker);
    while (*walker->at != close) {
        RMJ_ASSERT(walker->at < walker->end);
        struct rmj_node *key = NULL;
        if (is_map) {
            key = walk_scalar(walker);
            skip_space(walker);
            step(walker); // the colon
            skip_space(walker);
        }
        struct rmj_node *value = walk(walker, depth + 1);
        if (value == NULL) {
            return NULL;
        }
        if (key != NULL) {
            value->name = key->text;
            value->name_line = key->line;
            value->name_column = key->column;
        }
        rmj_node_add(group, value);
        skip_space(walker);
        if (*walker->at == ',') {
            step(walker);
            skip_space(walker);
        }
    }
    step(walker);
    return group;
}

static struct rmj_node *walk(struct walker *walker, int depth)
{
    if (depth > RMJ_TEXT_DEPTH_MAX) {
        rmj_text_report(walker->result, walker->line, walker->column, "", "nested deeper than %d levels",
                        RMJ_TEXT_DEPTH_MAX);
        return NULL;
    }
    return *walker->at == '{' || *walker->at == '[' ? walk_group(walker, depth) : walk_scalar(walker);
}

// jansson takes a NUL after a number for nothing; no text of a spec may hold one.
static int holds_nul(const char *text, size_t size, struct rmj_text_result *result)
{
    const char *nul = memchr(text, '\0', size);
    if (nul == NULL) {
        return 0;
    }
    int line = 1, column = 1;
    for (const char *at = text; at < nul; at++) {
        line += *at == '\n';
        column = *at == '\n' ? 1 : column + (((unsigned char)*at & 0xc0) != 0x80);
    }
    rmj_text_report(result, line, column, "", "not JSON: a NUL byte: remove it");
    return 1;
}

struct rmj_node *rmj_json_read(const char *text, size_t size, struct rmj_node_pool *pool,
                               struct rmj_text_result *result)
{
    json_error_t error;
    if (holds_nul(text, size, result)) {
        return NULL;
    }
    // As real: whole numbers up to 2^64 are read by the builder, jansson's own stop at 2^63.
    json_t *valid = json_loadb(text, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    if (valid == NULL) {
        int line = error.line < 1 ? 1 : error.line;
        int column = error.column < 1 ? 1 : error.column;
        rmj_text_report(result, line, column, "", size == 0 ? "the file is empty" : "not JSON: %s", error.text);
        return NULL;
    }
    json_decref(valid);
    struct walker walker = {
        .text = text, .end = text + size, .at = text, .line = 1, .column = 1, .pool = pool, .result = result};
    skip_space(&walker);
    return walk(&walker, 1);
}
