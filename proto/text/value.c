#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/text/node.h"

void *rmj_field_member(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return (char *)(uintptr_t)message + field->offset;
}

void *rmj_field_quantifier(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return (char *)(uintptr_t)message + field->quantifier_offset;
}

size_t rmj_field_element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 8;
    }
}

int rmj_field_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const void *member = rmj_field_member(message, field);
    const void *quantifier = rmj_field_quantifier(message, field);
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        return *(const uint32_t *)quantifier == field->id;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return *(const size_t *)quantifier > 0;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return *(void *const *)member != NULL;
    }
    return field->label != PROTOBUF_C_LABEL_OPTIONAL || *(const protobuf_c_boolean *)quantifier;
}

const char *rmj_text_number(char out[40], double value, int is_float)
{
    if (isnan(value)) {
        return strcpy(out, "NaN");
    }
    if (isinf(value)) {
        return strcpy(out, value > 0 ? "Infinity" : "-Infinity");
    }
    // The shortest of the precisions that reads back equal; the last one always does.
    int last = is_float ? 9 : 17;
    for (int precision = is_float ? 6 : 15; precision <= last; precision++) {
        snprintf(out, 40, "%.*g", precision, value);
        if (is_float ? strtof(out, NULL) == (float)value : strtod(out, NULL) == value) {
            break;
        }
    }
    return out;
}

static int is_raw(unsigned code)
{
    // Of the characters that YAML does not allow as they are, JSON forbids only the first 32.
    return code >= 0x20 && code != '"' && code != '\\' && code != 0x7f && !(code >= 0x80 && code < 0xa0) &&
           code != 0x2028 && code != 0x2029 && code != 0xfeff && code != 0xfffe && code != 0xffff;
}

static unsigned decode(const unsigned char *bytes, size_t size)
{
    unsigned code = size == 1 ? bytes[0] : bytes[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        code = code << 6 | (bytes[i] & 0x3f);
    }
    return code;
}

void rmj_text_quote(struct rmj_buf *out, const char *text, size_t size)
{
    rmj_buf_putc(out, '"');
    for (size_t i = 0; i < size;) {
        unsigned char lead = (unsigned char)text[i];
        size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (length > size - i || rmj_text_utf8_valid(text + i, length) != length) {
            rmj_buf_puts(out, "\xef\xbf\xbd");
            i++;
            continue;
        }
        unsigned code = decode((const unsigned char *)text + i, length);
        if (is_raw(code)) {
            rmj_buf_append(out, text + i, length);
        } else if (code == '"' || code == '\\') {
            rmj_buf_printf(out, "\\%c", (int)code);
        } else if (code == '\n' || code == '\t') {
            rmj_buf_puts(out, code == '\n' ? "\\n" : "\\t");
        } else {
            rmj_buf_printf(out, "\\u%04x", code);
        }
        i += length;
    }
    rmj_buf_putc(out, '"');
}

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void rmj_base64_print(struct rmj_buf *out, const unsigned char *bytes, size_t size)
{
    rmj_buf_putc(out, '"');
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i < 3 ? size - i : 3;
        unsigned group = (unsigned)bytes[i] << 16;
        group |= left > 1 ? (unsigned)bytes[i + 1] << 8 : 0;
        group |= left > 2 ? bytes[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            rmj_buf_putc(out, k <= left ? base64_digits[group >> (18 - 6 * k) & 63] : '=');
        }
    }
    rmj_buf_putc(out, '"');
}

ptrdiff_t rmj_base64_parse(unsigned char *out, const char *text, size_t size)
{
    if (size % 4 != 0) {
        return -1;
    }
    size_t padding = 0;
    while (padding < 2 && padding < size && text[size - 1 - padding] == '=') {
        padding++;
    }
    unsigned group = 0;
    ptrdiff_t written = 0;
    for (size_t i = 0; i < size; i++) {
        const char *digit = i >= size - padding ? base64_digits : memchr(base64_digits, text[i], 64);
        if (digit == NULL) {
            return -1;
        }
        group = group << 6 | (unsigned)(digit - base64_digits);
        if (i % 4 == 3) {
            out[written++] = (unsigned char)(group >> 16);
            out[written++] = (unsigned char)(group >> 8);
            out[written++] = (unsigned char)group;
            group = 0;
        }
    }
    return written - (ptrdiff_t)padding;
}

static void print_number(struct rmj_buf *out, double value, int is_float)
{
    char text[40];
    rmj_text_number(text, value, is_float);
    rmj_buf_printf(out, isfinite(value) ? "%s" : "\"%s\"", text);
}

static void print_enum(struct rmj_buf *out, const ProtobufCFieldDescriptor *field, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(field->descriptor, value);
    if (known != NULL) {
        rmj_buf_printf(out, "\"%s\"", known->name);
    } else { // of a newer peer
        rmj_buf_printf(out, "%d", value);
    }
}

void rmj_text_print_scalar(struct rmj_buf *out, const ProtobufCFieldDescriptor *field, const void *member)
{
    const ProtobufCBinaryData *bytes;
    const char *text;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        rmj_buf_printf(out, "%d", *(const int32_t *)member);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        rmj_buf_printf(out, "%u", *(const uint32_t *)member);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        rmj_buf_printf(out, "%lld", (long long)*(const int64_t *)member);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        rmj_buf_printf(out, "%llu", (unsigned long long)*(const uint64_t *)member);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        print_number(out, *(const float *)member, 1);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        print_number(out, *(const double *)member, 0);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        rmj_buf_puts(out, *(const protobuf_c_boolean *)member ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        print_enum(out, field, *(const int *)member);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        bytes = member;
        rmj_base64_print(out, bytes->data, bytes->len);
        break;
    default:
        RMJ_ASSERT(field->type == PROTOBUF_C_TYPE_STRING);
        text = *(char *const *)member;
        rmj_text_quote(out, text, strlen(text));
        break;
    }
}

ProtobufCMessage *rmj_message_copy(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    unsigned char *bytes = rmj_text_allocate(size, 1);
    protobuf_c_message_pack(message, bytes);
    ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
    RMJ_ASSERT(copy != NULL);
    free(bytes);
    return copy;
}
