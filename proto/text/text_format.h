// YAML and JSON to protobuf-c messages and back, by the descriptors alone: there is no other list of fields.
//
// Errors carry file, line and column, and "did you mean"; several are found in one go. Names are accepted as in the
// .proto (base_model) and in lowerCamelCase (baseModel); output uses the .proto's. A string given for a message whose
// field 1 is a string called `path` sets that path. Duplicate keys, unknown keys, wrong types, numbers out of range and
// not-whole numbers for integers are errors, and so is null: an absent field is left out. A plain number given for a
// text field is its text. YAML anchors, aliases, merge keys, tags and multiple documents are refused by name. Details
// and bounds: README.md.
#ifndef RMJ_PROTO_TEXT_TEXT_FORMAT_H
#define RMJ_PROTO_TEXT_TEXT_FORMAT_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

struct rmj_text_error {
    int line, column; // 1-based
    char field[128];  // dotted path, for instance train.epochs
    char message[320];
};

// All findings of one parse, bounded; also remembers where each field of the input stood, so that later checks can
// name file, line and column too.
struct rmj_text_result;
struct rmj_text_result *rmj_text_result_create(void);
void rmj_text_result_destroy(struct rmj_text_result *result);
size_t rmj_text_error_count(const struct rmj_text_result *result);
const struct rmj_text_error *rmj_text_error_at(const struct rmj_text_result *result, size_t index);
// Position of a field ("train.epochs", "data.train[0].path"), or of its nearest parent that was given; 0 when unknown.
int rmj_text_position(const struct rmj_text_result *result, const char *field, int *line, int *column);

// *message is made by protobuf-c (free with protobuf_c_message_free_unpacked) and is NULL on failure. On RMJ_INVALID
// the result (may be NULL; cleared first) has at least one error, and err the first with file:line:column in front.
RMJ_MUST_USE enum rmj_status rmj_yaml_parse(const ProtobufCMessageDescriptor *descriptor, const char *file,
                                            const char *text, size_t size, ProtobufCMessage **message,
                                            struct rmj_text_result *result, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_json_parse(const ProtobufCMessageDescriptor *descriptor, const char *file,
                                            const char *text, size_t size, ProtobufCMessage **message,
                                            struct rmj_text_result *result, struct rmj_error *err);
// Fields in the .proto's order, absent ones left out. pretty: two-space indentation, else one line. Doubles print so
// that they read back equal; not-a-number and infinities as the strings "NaN", "Infinity", "-Infinity"; bytes in
// base64. JSON ends without a new line, YAML with one.
void rmj_json_print(const ProtobufCMessage *message, int pretty, struct rmj_buf *out);
void rmj_yaml_print(const ProtobufCMessage *message, struct rmj_buf *out);

// The comment of a field in the .proto, by dotted path from JobSpec ("train.epochs", "gate"), with its type, its values
// when it is an enumeration, and its children when it is a message; "" is the whole spec. RMJ_NOT_FOUND says "did you
// mean".
RMJ_MUST_USE enum rmj_status rmj_spec_explain(const char *field, struct rmj_buf *out, struct rmj_error *err);

// Deep copy through the wire format. Never NULL.
ProtobufCMessage *rmj_message_copy(const ProtobufCMessage *message);

#endif
