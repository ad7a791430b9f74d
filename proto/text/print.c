#include <string.h>
#include <strings.h>

#include "proto/text/node.h"

static void new_line(struct rmj_buf *out, int indent)
{
    rmj_buf_printf(out, "\n%*s", 2 * indent, "");
}

static const void *element(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, size_t index)
{
    const char *array = *(char *const *)rmj_field_member(message, field);
    return array + index * rmj_field_element_size(field->type);
}

static size_t element_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return *(const size_t *)rmj_field_quantifier(message, field);
}

// ---- JSON; pretty < 0: one line, else the current indentation ----

static void json_message(const ProtobufCMessage *message, int pretty, struct rmj_buf *out);

static void json_value(const ProtobufCFieldDescriptor *field, const void *member, int pretty, struct rmj_buf *out)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        json_message(*(ProtobufCMessage *const *)member, pretty, out);
    } else {
        rmj_text_print_scalar(out, field, member);
    }
}

static void json_list(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, int pretty,
                      struct rmj_buf *out)
{
    // Lists of numbers and words stay on one line.
    int spread = pretty >= 0 && field->type == PROTOBUF_C_TYPE_MESSAGE;
    rmj_buf_putc(out, '[');
    for (size_t i = 0; i < element_count(message, field); i++) {
        if (i > 0) {
            rmj_buf_puts(out, spread ? "," : ", ");
        }
        if (spread) {
            new_line(out, pretty + 1);
        }
        json_value(field, element(message, field, i), spread ? pretty + 1 : -1, out);
    }
    if (spread) {
        new_line(out, pretty);
    }
    rmj_buf_putc(out, ']');
}

static void json_message(const ProtobufCMessage *message, int pretty, struct rmj_buf *out)
{
    int first = 1;
    int deeper = pretty < 0 ? -1 : pretty + 1;
    rmj_buf_putc(out, '{');
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!rmj_field_present(message, field)) {
            continue;
        }
        if (!first) {
            rmj_buf_puts(out, pretty < 0 ? ", " : ",");
        }
        if (pretty >= 0) {
            new_line(out, deeper);
        }
        first = 0;
        rmj_buf_printf(out, "\"%s\": ", field->name);
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            json_list(message, field, deeper, out);
        } else {
            json_value(field, rmj_field_member(message, field), deeper, out);
        }
    }
    if (!first && pretty >= 0) {
        new_line(out, pretty);
    }
    rmj_buf_putc(out, '}');
}

void rmj_json_print(const ProtobufCMessage *message, int pretty, struct rmj_buf *out)
{
    json_message(message, pretty ? 0 : -1, out);
}

// ---- YAML ----

// Text that every YAML reader takes for the same text without quotes.
static int is_plain_text(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    // YAML 1.1 readers take these for something else.
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"};
    for (size_t i = 0; i < RMJ_COUNT(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return 0;
        }
    }
    return strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/", text[0]) != NULL && text[0] != '\0' &&
           text[strspn(text, plain)] == '\0';
}

static void yaml_scalar(const ProtobufCFieldDescriptor *field, const void *member, struct rmj_buf *out)
{
    const ProtobufCEnumValue *value = NULL;
    const char *text = NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        text = *(char *const *)member;
    } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
        value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)member);
        text = value == NULL ? NULL : value->name;
    }
    if (text != NULL && is_plain_text(text)) {
        rmj_buf_puts(out, text);
    } else {
        rmj_text_print_scalar(out, field, member);
    }
}

static int is_empty(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        if (rmj_field_present(message, &message->descriptor->fields[i])) {
            return 0;
        }
    }
    return 1;
}

static void yaml_fields(const ProtobufCMessage *message, int indent, int in_line, struct rmj_buf *out);

static void yaml_list(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, int indent,
                      struct rmj_buf *out)
{
    size_t count = element_count(message, field);
    if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
        rmj_buf_puts(out, " [");
        for (size_t i = 0; i < count; i++) {
            rmj_buf_puts(out, i > 0 ? ", " : "");
            yaml_scalar(field, element(message, field, i), out);
        }
        rmj_buf_puts(out, "]\n");
        return;
    }
    rmj_buf_putc(out, '\n');
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *item = *(ProtobufCMessage *const *)element(message, field, i);
        rmj_buf_printf(out, "%*s- ", 2 * indent, "");
        if (is_empty(item)) {
            rmj_buf_puts(out, "{}\n");
        } else {
            yaml_fields(item, indent + 1, 1, out);
        }
    }
}

// in_line: the first field continues a "- ".
static void yaml_fields(const ProtobufCMessage *message, int indent, int in_line, struct rmj_buf *out)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (!rmj_field_present(message, field)) {
            continue;
        }
        rmj_buf_printf(out, "%*s%s:", in_line ? 0 : 2 * indent, "", field->name);
        in_line = 0;
        const void *member = rmj_field_member(message, field);
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            yaml_list(message, field, indent + 1, out);
        } else if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            rmj_buf_putc(out, ' ');
            yaml_scalar(field, member, out);
            rmj_buf_putc(out, '\n');
        } else if (is_empty(*(ProtobufCMessage *const *)member)) {
            rmj_buf_puts(out, " {}\n");
        } else {
            rmj_buf_putc(out, '\n');
            yaml_fields(*(ProtobufCMessage *const *)member, indent + 1, 0, out);
        }
    }
}

void rmj_yaml_print(const ProtobufCMessage *message, struct rmj_buf *out)
{
    if (is_empty(message)) {
        rmj_buf_puts(out, "{}\n");
    } else {
        yaml_fields(message, 0, 0, out);
    }
}
