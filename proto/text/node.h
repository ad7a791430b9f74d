// Inside of the text formats: a document as a tree of nodes with positions, the same for YAML and JSON.
//
//   text ──yaml_read.c──┐
//                       ├──> nodes ──build.c──> message
//   text ──json_read.c──┘      └── problems and positions ──> rmj_text_result
#ifndef RMJ_PROTO_TEXT_NODE_H
#define RMJ_PROTO_TEXT_NODE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "proto/text/text_format.h"

enum {
    RMJ_TEXT_ERRORS_MAX = 50,
    RMJ_TEXT_POSITIONS_MAX = 65536,
    RMJ_TEXT_DEPTH_MAX = 32,
    RMJ_TEXT_YAML_BYTES_MAX = 1024 * 1024,
    RMJ_TEXT_JSON_BYTES_MAX = 16 * 1024 * 1024, // reports are longer than specs
    RMJ_TEXT_PATH_MAX = 256,
};

enum rmj_node_kind {
    RMJ_NODE_SCALAR,
    RMJ_NODE_LIST,
    RMJ_NODE_MAP,
    RMJ_NODE_REFUSED, // was reported already
};

// What a scalar is by YAML 1.2's core schema; JSON's literals are a subset of it.
enum rmj_scalar { RMJ_SCALAR_NULL, RMJ_SCALAR_BOOL, RMJ_SCALAR_INTEGER, RMJ_SCALAR_FLOAT, RMJ_SCALAR_TEXT };

struct rmj_node {
    enum rmj_node_kind kind;
    int line, column; // of the value
    char *text;       // scalars
    size_t size;
    int quoted;
    char *name; // in a map
    int name_line, name_column;
    struct rmj_node *first, *last, *next;
    size_t count;
};

// Memory of one tree, freed at once.
struct rmj_node_pool {
    struct rmj_node_block *blocks;
};
void *rmj_node_take(struct rmj_node_pool *pool, size_t size); // zeroed; never NULL
struct rmj_node *rmj_node_make(struct rmj_node_pool *pool, enum rmj_node_kind kind, int line, int column);
char *rmj_node_text(struct rmj_node_pool *pool, const char *text, size_t size);
void rmj_node_add(struct rmj_node *parent, struct rmj_node *child);
void rmj_node_pool_free(struct rmj_node_pool *pool);

enum rmj_scalar rmj_scalar_classify(const struct rmj_node *node);

// Both return NULL after reporting why there is no tree.
struct rmj_node *rmj_yaml_read(const char *text, size_t size, struct rmj_node_pool *pool,
                               struct rmj_text_result *result);
struct rmj_node *rmj_json_read(const char *text, size_t size, struct rmj_node_pool *pool,
                               struct rmj_text_result *result);

// Never NULL; check the result's errors.
ProtobufCMessage *rmj_text_build(const ProtobufCMessageDescriptor *descriptor, const struct rmj_node *root, int is_json,
                                 struct rmj_text_result *result);

void rmj_text_report(struct rmj_text_result *result, int line, int column, const char *field, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void rmj_text_remember(struct rmj_text_result *result, const char *field, int line, int column);
void rmj_text_result_clear(struct rmj_text_result *result);
void rmj_text_result_sort(struct rmj_text_result *result);
// Line and column of a byte; columns count characters.
void rmj_text_locate(const char *text, size_t offset, int *line, int *column);

// By the .proto's name or its lowerCamelCase; NULL when there is none.
const ProtobufCFieldDescriptor *rmj_field_find(const ProtobufCMessageDescriptor *descriptor, const char *name);

// protobuf-c's field access, by descriptor.
void *rmj_field_member(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
void *rmj_field_quantifier(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
size_t rmj_field_element_size(ProtobufCType type);
int rmj_field_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);

// "NaN", "Infinity", "-Infinity", or digits that read back equal. is_float: a 32-bit value.
const char *rmj_text_number(char out[40], double value, int is_float);
// JSON's quoting, which YAML reads too. Bytes that are not UTF-8 become U+FFFD.
void rmj_text_quote(struct rmj_buf *out, const char *text, size_t size);
void rmj_base64_print(struct rmj_buf *out, const unsigned char *bytes, size_t size);
// Bytes written to out (room for size / 4 * 3), or -1.
ptrdiff_t rmj_base64_parse(unsigned char *out, const char *text, size_t size);
// A scalar value at `member` as JSON.
void rmj_text_print_scalar(struct rmj_buf *out, const ProtobufCFieldDescriptor *field, const void *member);

// malloc that asserts: what a parse needs is bounded by its input.
void *rmj_text_allocate(size_t count, size_t size);

#endif
