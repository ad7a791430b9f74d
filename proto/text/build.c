// Nodes to a message, by the message's descriptor. Goes on after a problem, so that one run names them all.
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/text/node.h"
#include "proto/text/refusals.h"

enum { NAMES_MAX = 64, FOUND_MAX = 80 };

struct builder {
    struct rmj_text_result *result;
    int is_json;
};

// ---- words for messages ----

// "3", "the text \"abc\"", "a list": what stands there.
static const char *describe(char out[FOUND_MAX], const struct rmj_node *node)
{
    if (node->kind != RMJ_NODE_SCALAR) {
        return node->kind == RMJ_NODE_LIST ? "a list" : "a mapping";
    }
    char text[49]; // cut between characters
    size_t size = node->size < sizeof text - 1 ? node->size : sizeof text - 1;
    size = rmj_text_utf8_valid(node->text, size);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)node->text[i];
        text[i] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    text[size] = '\0';
    const char *dots = size < node->size ? "..." : "";
    if (rmj_scalar_classify(node) == RMJ_SCALAR_TEXT) {
        snprintf(out, FOUND_MAX, "the text \"%s%s\"", text, dots);
    } else {
        snprintf(out, FOUND_MAX, "%s%s", text, dots);
    }
    return out;
}

static void report_type(struct builder *builder, const struct rmj_node *node, const char *path, const char *wanted)
{
    char found[FOUND_MAX];
    enum rmj_scalar scalar = node->kind == RMJ_NODE_SCALAR ? rmj_scalar_classify(node) : RMJ_SCALAR_TEXT;
    if (node->kind == RMJ_NODE_SCALAR && scalar == RMJ_SCALAR_NULL) {
        rmj_text_report(builder->result, node->line, node->column, path,
                        "%s has no value; give it %s or leave the line out", path[0] == '\0' ? "the file" : path,
                        wanted);
        return;
    }
    // A number in quotes, where a number is wanted.
    struct rmj_node bare = *node;
    bare.quoted = 0;
    const char *mend = "";
    if (node->kind == RMJ_NODE_SCALAR && node->quoted && scalar == RMJ_SCALAR_TEXT && node->text[0] != '\0' &&
        rmj_scalar_classify(&bare) != RMJ_SCALAR_TEXT && rmj_scalar_classify(&bare) != RMJ_SCALAR_NULL) {
        mend = "; take the quotes off";
    }
    rmj_text_report(builder->result, node->line, node->column, path, "%s is %s; it wants %s%s",
                    path[0] == '\0' ? "the file" : path, describe(found, node), wanted, mend);
}

static void append_path(char out[RMJ_TEXT_PATH_MAX], const char *path, const char *name)
{
    snprintf(out, RMJ_TEXT_PATH_MAX, "%s%s%s", path, path[0] == '\0' ? "" : ".", name);
}

// ---- names ----

static int equals_camel(const char *name, const char *given)
{
    for (; *name != '\0'; name++) {
        char c = *name;
        if (c == '_' && name[1] != '\0') {
            c = (char)toupper((unsigned char)*++name);
        }
        if (*given++ != c) {
            return 0;
        }
    }
    return *given == '\0';
}

const ProtobufCFieldDescriptor *rmj_field_find(const ProtobufCMessageDescriptor *descriptor, const char *name)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (strcmp(descriptor->fields[i].name, name) == 0 || equals_camel(descriptor->fields[i].name, name)) {
            return &descriptor->fields[i];
        }
    }
    return NULL;
}

static void list_names(char *out, size_t size, const char *const *names, size_t count)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
}

static size_t field_names(const ProtobufCMessageDescriptor *descriptor, const char *names[NAMES_MAX])
{
    size_t count = 0;
    for (unsigned i = 0; i < descriptor->n_fields && count < NAMES_MAX; i++) {
        names[count++] = descriptor->fields[i].name;
    }
    return count;
}

static void report_unknown(struct builder *builder, const ProtobufCMessageDescriptor *descriptor,
                           const struct rmj_node *node, const char *path)
{
    const char *names[NAMES_MAX];
    size_t count = field_names(descriptor, names);
    const char *nearest = rmj_text_nearest(node->name, names, count);
    char full[RMJ_TEXT_PATH_MAX];
    char name[61];
    snprintf(name, sizeof name, "%s", node->name);
    name[rmj_text_utf8_valid(name, strlen(name))] = '\0';
    append_path(full, path, name);
    const char *refusal = rmj_text_refusal(node->name, node->text);
    if (refusal != NULL) {
        rmj_text_report(builder->result, node->name_line, node->name_column, full, "unknown field %s: %s", full,
                        refusal);
        return;
    }
    if (nearest != NULL) {
        rmj_text_report(builder->result, node->name_line, node->name_column, full, "unknown field %s; did you mean %s",
                        full, nearest);
        return;
    }
    char all[200];
    list_names(all, sizeof all, names, count);
    rmj_text_report(builder->result, node->name_line, node->name_column, full, "unknown field %s; %s has %s", full,
                    path[0] == '\0' ? descriptor->short_name : path, all);
}

// ---- scalars ----

static int whole_number(const struct rmj_node *node, int *negative, uint64_t *magnitude)
{
    const char *text = node->text;
    *negative = *text == '-';
    text += *text == '-' || *text == '+';
    int base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
        base = text[1] == 'x' ? 16 : 8;
        text += 2;
    }
    errno = 0;
    *magnitude = strtoull(text, NULL, base);
    return errno == 0;
}

// 1.28e2 is a whole number too.
static int whole_float(const struct rmj_node *node, int *negative, uint64_t *magnitude)
{
    double value = strtod(node->text, NULL);
    if (!(fabs(value) < 9007199254740992.0) || value != floor(value)) {
        return 0;
    }
    *negative = value < 0;
    *magnitude = (uint64_t)fabs(value);
    return 1;
}

struct integer_range {
    ProtobufCType type;
    uint64_t negative_max, positive_max;
    const char *wanted;
};

static const struct integer_range integer_ranges[] = {
    {PROTOBUF_C_TYPE_INT32, 1u << 31, INT32_MAX, "a whole number from -2147483648 to 2147483647"},
    {PROTOBUF_C_TYPE_SINT32, 1u << 31, INT32_MAX, "a whole number from -2147483648 to 2147483647"},
    {PROTOBUF_C_TYPE_SFIXED32, 1u << 31, INT32_MAX, "a whole number from -2147483648 to 2147483647"},
    {PROTOBUF_C_TYPE_UINT32, 0, UINT32_MAX, "a whole number from 0 to 4294967295"},
    {PROTOBUF_C_TYPE_FIXED32, 0, UINT32_MAX, "a whole number from 0 to 4294967295"},
    {PROTOBUF_C_TYPE_INT64, (uint64_t)1 << 63, INT64_MAX, "a whole number of 64 bits"},
    {PROTOBUF_C_TYPE_SINT64, (uint64_t)1 << 63, INT64_MAX, "a whole number of 64 bits"},
    {PROTOBUF_C_TYPE_SFIXED64, (uint64_t)1 << 63, INT64_MAX, "a whole number of 64 bits"},
    {PROTOBUF_C_TYPE_UINT64, 0, UINT64_MAX, "a whole number from 0 to 18446744073709551615"},
    {PROTOBUF_C_TYPE_FIXED64, 0, UINT64_MAX, "a whole number from 0 to 18446744073709551615"},
};

static const struct integer_range *integer_range_of(ProtobufCType type)
{
    for (size_t i = 0; i < RMJ_COUNT(integer_ranges); i++) {
        if (integer_ranges[i].type == type) {
            return &integer_ranges[i];
        }
    }
    return NULL;
}

static int build_integer(struct builder *builder, const struct integer_range *range, const struct rmj_node *node,
                         const char *path, void *out)
{
    struct rmj_node bare = *node;
    // JSON made by protobuf's own printers has 64-bit numbers in quotes.
    bare.quoted = node->quoted && !(builder->is_json && rmj_field_element_size(range->type) == 8);
    enum rmj_scalar scalar = rmj_scalar_classify(&bare);
    int negative = 0;
    uint64_t magnitude = 0;
    int whole = scalar == RMJ_SCALAR_INTEGER ? whole_number(node, &negative, &magnitude)
                                             : scalar == RMJ_SCALAR_FLOAT && whole_float(node, &negative, &magnitude);
    if (!whole || magnitude > (negative ? range->negative_max : range->positive_max)) {
        report_type(builder, node, path, range->wanted);
        return 0;
    }
    uint64_t value = negative ? 0 - magnitude : magnitude;
    if (rmj_field_element_size(range->type) == 4) {
        uint32_t narrow = (uint32_t)value;
        memcpy(out, &narrow, sizeof narrow);
    } else {
        memcpy(out, &value, sizeof value);
    }
    return 1;
}

// The words that stand for what digits cannot say, as our printer and protobuf's write them, or as YAML does.
static int special_number(const char *text, double *value)
{
    static const struct {
        const char *text;
        double value;
    } specials[] = {
        {"NaN", NAN},         {".nan", NAN},          {".NaN", NAN},
        {".NAN", NAN},        {"Infinity", INFINITY}, {"-Infinity", -INFINITY},
        {".inf", INFINITY},   {".Inf", INFINITY},     {".INF", INFINITY},
        {"+.inf", INFINITY},  {"-.inf", -INFINITY},   {"-.Inf", -INFINITY},
        {"-.INF", -INFINITY},
    };
    for (size_t i = 0; i < RMJ_COUNT(specials); i++) {
        if (strcmp(text, specials[i].text) == 0) {
            *value = specials[i].value;
            return 1;
        }
    }
    return 0;
}

static int build_number(struct builder *builder, int is_float, const struct rmj_node *node, const char *path, void *out)
{
    enum rmj_scalar scalar = rmj_scalar_classify(node);
    double value = 0;
    if (special_number(node->text, &value)) {
        scalar = RMJ_SCALAR_FLOAT;
    } else if (scalar == RMJ_SCALAR_INTEGER &&
               (strncmp(node->text, "0x", 2) == 0 || strncmp(node->text, "0o", 2) == 0)) {
        int negative;
        uint64_t magnitude;
        scalar = whole_number(node, &negative, &magnitude) ? RMJ_SCALAR_INTEGER : RMJ_SCALAR_TEXT;
        value = (double)magnitude;
    } else if (scalar == RMJ_SCALAR_INTEGER || scalar == RMJ_SCALAR_FLOAT) {
        value = strtod(node->text, NULL);
        float narrow = strtof(node->text, NULL);
        if (isinf(value) || (is_float && isinf(narrow))) {
            report_type(builder, node, path, "a number that is not too large to be held");
            return 0;
        }
        if (is_float) {
            memcpy(out, &narrow, sizeof narrow); // rounded once, from the text
            return 1;
        }
    }
    if (scalar != RMJ_SCALAR_INTEGER && scalar != RMJ_SCALAR_FLOAT) {
        report_type(builder, node, path, "a number");
        return 0;
    }
    float narrow = (float)value;
    memcpy(out, is_float ? (const void *)&narrow : (const void *)&value, is_float ? sizeof narrow : sizeof value);
    return 1;
}

static int build_bool(struct builder *builder, const struct rmj_node *node, const char *path, void *out)
{
    if (rmj_scalar_classify(node) != RMJ_SCALAR_BOOL) {
        report_type(builder, node, path, "true or false");
        return 0;
    }
    protobuf_c_boolean value = node->text[0] == 't' || node->text[0] == 'T';
    memcpy(out, &value, sizeof value);
    return 1;
}

static int build_string(struct builder *builder, const struct rmj_node *node, const char *path, void *out)
{
    enum rmj_scalar scalar = rmj_scalar_classify(node);
    if (strlen(node->text) != node->size) {
        rmj_text_report(builder->result, node->line, node->column, path, "%s holds a NUL character", path);
        return 0;
    }
    // A number is taken as its text (interval: 20); true and null are more likely a mistake.
    if (scalar == RMJ_SCALAR_NULL || scalar == RMJ_SCALAR_BOOL) {
        report_type(builder, node, path, scalar == RMJ_SCALAR_NULL ? "a text" : "a text; put it in quotes");
        return 0;
    }
    char *copy = strdup(node->text);
    RMJ_ASSERT(copy != NULL);
    memcpy(out, &copy, sizeof copy);
    return 1;
}

static int build_bytes(struct builder *builder, const struct rmj_node *node, const char *path, void *out)
{
    ProtobufCBinaryData bytes = {.data = rmj_text_allocate(node->size, 1)};
    ptrdiff_t size = rmj_base64_parse(bytes.data, node->text, node->size);
    if (size < 0 || rmj_scalar_classify(node) == RMJ_SCALAR_NULL) {
        free(bytes.data);
        report_type(builder, node, path, "bytes in base64");
        return 0;
    }
    bytes.len = (size_t)size;
    memcpy(out, &bytes, sizeof bytes);
    return 1;
}

static int build_enum(struct builder *builder, const ProtobufCEnumDescriptor *descriptor, const struct rmj_node *node,
                      const char *path, void *out)
{
    const ProtobufCEnumValue *value =
        strlen(node->text) == node->size ? protobuf_c_enum_descriptor_get_value_by_name(descriptor, node->text) : NULL;
    if (value != NULL) {
        int number = value->value;
        memcpy(out, &number, sizeof number);
        return 1;
    }
    const char *names[NAMES_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < descriptor->n_values && count < NAMES_MAX; i++) {
        names[count++] = descriptor->values[i].name;
    }
    char all[180];
    list_names(all, sizeof all, names, count);
    const char *nearest = rmj_text_nearest(node->text, names, count);
    char wanted[260];
    snprintf(wanted, sizeof wanted, "one of %s%s%s", all, nearest == NULL ? "" : "; did you mean ",
             nearest == NULL ? "" : nearest);
    report_type(builder, node, path, wanted);
    return 0;
}

static const char *wanted_of(const ProtobufCFieldDescriptor *field)
{
    const struct integer_range *range = integer_range_of(field->type);
    if (range != NULL) {
        return range->wanted;
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return "true or false";
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return "a number";
    case PROTOBUF_C_TYPE_BYTES:
        return "bytes in base64";
    case PROTOBUF_C_TYPE_ENUM:
        return "one word";
    default:
        return "a text";
    }
}

// ---- messages ----

static ProtobufCMessage *build_message(struct builder *builder, const ProtobufCMessageDescriptor *descriptor,
                                       const struct rmj_node *node, const char *path);

// One value of a field into `out`, which is zero and stays so on failure. Submessages are always made.
static int build_value(struct builder *builder, const ProtobufCFieldDescriptor *field, const struct rmj_node *node,
                       const char *path, void *out)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *message = build_message(builder, field->descriptor, node, path);
        memcpy(out, &message, sizeof message);
        return 1;
    }
    if (node->kind == RMJ_NODE_REFUSED) {
        return 0;
    }
    if (node->kind != RMJ_NODE_SCALAR) {
        report_type(builder, node, path, wanted_of(field));
        return 0;
    }
    const struct integer_range *range = integer_range_of(field->type);
    if (range != NULL) {
        return build_integer(builder, range, node, path, out);
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return build_bool(builder, node, path, out);
    case PROTOBUF_C_TYPE_STRING:
        return build_string(builder, node, path, out);
    case PROTOBUF_C_TYPE_BYTES:
        return build_bytes(builder, node, path, out);
    case PROTOBUF_C_TYPE_ENUM:
        return build_enum(builder, field->descriptor, node, path, out);
    default:
        return build_number(builder, field->type == PROTOBUF_C_TYPE_FLOAT, node, path, out);
    }
}

static void build_list(struct builder *builder, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       const struct rmj_node *node, const char *path)
{
    if (node->kind != RMJ_NODE_LIST) {
        report_type(builder, node, path, "a list");
        return;
    }
    if (node->count == 0) {
        return;
    }
    size_t size = rmj_field_element_size(field->type);
    char *array = rmj_text_allocate(node->count, size);
    size_t index = 0;
    for (const struct rmj_node *child = node->first; child != NULL; child = child->next, index++) {
        char item[RMJ_TEXT_PATH_MAX];
        snprintf(item, sizeof item, "%.200s[%zu]", path, index);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            rmj_text_remember(builder->result, item, child->line, child->column);
        }
        build_value(builder, field, child, item, array + index * size);
    }
    memcpy(rmj_field_member(message, field), &array, sizeof array);
    memcpy(rmj_field_quantifier(message, field), &index, sizeof index);
}

static void build_single(struct builder *builder, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                         const struct rmj_node *node, const char *path)
{
    int made = build_value(builder, field, node, path, rmj_field_member(message, field));
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t which = made ? field->id : 0;
        memcpy(rmj_field_quantifier(message, field), &which, sizeof which);
    } else if (made && field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_STRING &&
               field->type != PROTOBUF_C_TYPE_MESSAGE) {
        protobuf_c_boolean has = 1;
        memcpy(rmj_field_quantifier(message, field), &has, sizeof has);
    }
}

// The entry that gave this field, or its oneof, before. NULL when there is none.
static const struct rmj_node *given_before(const ProtobufCMessageDescriptor *descriptor,
                                           const ProtobufCFieldDescriptor *field, const struct rmj_node *const *given)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *other = &descriptor->fields[i];
        int shared = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && (other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                     other->quantifier_offset == field->quantifier_offset;
        if (given[i] != NULL && (other == field || shared)) {
            return given[i];
        }
    }
    return NULL;
}

static void build_entry(struct builder *builder, ProtobufCMessage *message, const struct rmj_node *node,
                        const char *path, const struct rmj_node **given)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const ProtobufCFieldDescriptor *field = rmj_field_find(descriptor, node->name);
    if (field == NULL) {
        report_unknown(builder, descriptor, node, path);
        return;
    }
    char full[RMJ_TEXT_PATH_MAX];
    append_path(full, path, field->name);
    const struct rmj_node *before = given_before(descriptor, field, given);
    if (before != NULL && rmj_field_find(descriptor, before->name) == field) {
        rmj_text_report(builder->result, node->name_line, node->name_column, full,
                        "%s is given twice; the first is on line %d", full, before->name_line);
        return;
    }
    if (before != NULL) {
        rmj_text_report(builder->result, node->name_line, node->name_column, full,
                        "%s and %s are both given; only one of them may be", before->name, field->name);
        return;
    }
    given[field - descriptor->fields] = node;
    int is_scalar = node->kind == RMJ_NODE_SCALAR;
    rmj_text_remember(builder->result, full, is_scalar ? node->line : node->name_line,
                      is_scalar ? node->column : node->name_column);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        build_list(builder, message, field, node, full);
    } else {
        build_single(builder, message, field, node, full);
    }
}

// "path" when a bare text may stand for the whole message.
static const ProtobufCFieldDescriptor *short_form(const ProtobufCMessageDescriptor *descriptor)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(descriptor, 1);
    return field != NULL && field->type == PROTOBUF_C_TYPE_STRING && field->label == PROTOBUF_C_LABEL_OPTIONAL &&
                   strcmp(field->name, "path") == 0
               ? field
               : NULL;
}

static ProtobufCMessage *build_message(struct builder *builder, const ProtobufCMessageDescriptor *descriptor,
                                       const struct rmj_node *node, const char *path)
{
    ProtobufCMessage *message = rmj_text_allocate(1, descriptor->sizeof_message);
    descriptor->message_init(message);
    const ProtobufCFieldDescriptor *bare = short_form(descriptor);
    if (node->kind == RMJ_NODE_MAP) {
        const struct rmj_node **given = rmj_text_allocate(descriptor->n_fields, sizeof(struct rmj_node *));
        for (const struct rmj_node *child = node->first; child != NULL; child = child->next) {
            if (child->kind != RMJ_NODE_REFUSED) {
                build_entry(builder, message, child, path, given);
            }
        }
        free(given);
    } else if (node->kind == RMJ_NODE_SCALAR && bare != NULL && rmj_scalar_classify(node) == RMJ_SCALAR_TEXT) {
        char full[RMJ_TEXT_PATH_MAX];
        append_path(full, path, bare->name);
        rmj_text_remember(builder->result, full, node->line, node->column);
        build_single(builder, message, bare, node, full);
    } else if (node->kind != RMJ_NODE_REFUSED) {
        const char *names[NAMES_MAX];
        char all[160];
        char wanted[220];
        list_names(all, sizeof all, names, field_names(descriptor, names));
        snprintf(wanted, sizeof wanted, "%sthe fields %s", bare != NULL ? "a path, or " : "", all);
        report_type(builder, node, path, wanted);
    }
    return message;
}

ProtobufCMessage *rmj_text_build(const ProtobufCMessageDescriptor *descriptor, const struct rmj_node *root, int is_json,
                                 struct rmj_text_result *result)
{
    struct builder builder = {.result = result, .is_json = is_json};
    return build_message(&builder, descriptor, root, "");
}
