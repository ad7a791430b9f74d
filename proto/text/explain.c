// The comments of spec.proto, out of the embedded descriptor set.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/descriptor_view.pb-c.h"
#include "proto/descriptors.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "proto/text/node.h"

enum {
    // Field numbers of google.protobuf.FileDescriptorProto, DescriptorProto and EnumDescriptorProto in a path.
    PATH_MESSAGE = 4,
    PATH_ENUM = 5,
    PATH_FIELD = 2,
    PATH_VALUE = 2,
    CHILDREN_MAX = 64,
};

static Rmjob__View__FileView *open_spec(void)
{
    Rmjob__View__FileSet *set = rmjob__view__file_set__unpack(NULL, rmj_descriptors_size, rmj_descriptors);
    RMJ_ASSERT(set != NULL); // made by protoc at build time
    Rmjob__View__FileView *spec = NULL;
    for (size_t i = 0; i < set->n_file && spec == NULL; i++) {
        Rmjob__View__FileView *file = rmjob__view__file_view__unpack(NULL, set->file[i].len, set->file[i].data);
        RMJ_ASSERT(file != NULL);
        if (strcmp(file->name, "rmjob/v1/spec.proto") == 0) {
            spec = file;
        } else {
            rmjob__view__file_view__free_unpacked(file, NULL);
        }
    }
    rmjob__view__file_set__free_unpacked(set, NULL);
    RMJ_ASSERT(spec != NULL);
    return spec;
}

// count: 2 for a message or enumeration itself, 4 for a field or value of it.
static const char *comment_at(const Rmjob__View__FileView *file, int kind, size_t outer, int member, size_t inner,
                              size_t count)
{
    const int32_t path[4] = {kind, (int32_t)outer, member, (int32_t)inner};
    for (size_t i = 0; i < file->source_code_info->n_location; i++) {
        const Rmjob__View__Location *location = file->source_code_info->location[i];
        if (location->n_path == count && memcmp(location->path, path, count * sizeof *path) == 0) {
            return location->leading_comments == NULL ? "" : location->leading_comments;
        }
    }
    return "";
}

static const char *field_comment(const Rmjob__View__FileView *file, const char *message, const char *field)
{
    for (size_t i = 0; i < file->n_message_type; i++) {
        const Rmjob__View__MessageView *view = file->message_type[i];
        for (size_t k = 0; strcmp(view->name, message) == 0 && k < view->n_field; k++) {
            if (strcmp(view->field[k]->name, field) == 0) {
                return comment_at(file, PATH_MESSAGE, i, PATH_FIELD, k, 4);
            }
        }
    }
    return "";
}

static const char *message_comment(const Rmjob__View__FileView *file, const char *message)
{
    for (size_t i = 0; i < file->n_message_type; i++) {
        if (strcmp(file->message_type[i]->name, message) == 0) {
            return comment_at(file, PATH_MESSAGE, i, 0, 0, 2);
        }
    }
    return "";
}

static const char *value_comment(const Rmjob__View__FileView *file, const char *enumeration, const char *value)
{
    for (size_t i = 0; i < file->n_enum_type; i++) {
        const Rmjob__View__EnumView *view = file->enum_type[i];
        for (size_t k = 0; strcmp(view->name, enumeration) == 0 && k < view->n_value; k++) {
            if (strcmp(view->value[k]->name, value) == 0) {
                return comment_at(file, PATH_ENUM, i, PATH_VALUE, k, 4);
            }
        }
    }
    return "";
}

static const char *type_name(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BOOL:
        return "true or false";
    case PROTOBUF_C_TYPE_STRING:
        return "text";
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return "number";
    case PROTOBUF_C_TYPE_ENUM:
        return "one of";
    case PROTOBUF_C_TYPE_MESSAGE:
        return "fields";
    case PROTOBUF_C_TYPE_BYTES:
        return "bytes in base64";
    default:
        return "whole number";
    }
}

static void print_type(struct rmj_buf *out, const ProtobufCFieldDescriptor *field)
{
    rmj_buf_printf(out, "%s%s", field->label == PROTOBUF_C_LABEL_REPEATED ? "list of " : "", type_name(field->type));
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        const ProtobufCEnumDescriptor *values = field->descriptor;
        for (unsigned i = 0; i < values->n_values; i++) {
            rmj_buf_printf(out, "%s %s", i == 0 ? "" : ",", values->values[i].name);
        }
    }
}

// Every line of a comment, indented. Comments come with one space in front and a newline at the end.
static void print_comment(struct rmj_buf *out, const char *comment, int indent)
{
    while (*comment != '\0') {
        size_t size = strcspn(comment, "\n");
        size_t skip = *comment == ' ' ? 1 : 0;
        rmj_buf_printf(out, "%*s%.*s\n", indent, "", (int)(size - skip), comment + skip);
        comment += size + (comment[size] == '\n');
    }
}

static void print_children(struct rmj_buf *out, const Rmjob__View__FileView *file,
                           const ProtobufCMessageDescriptor *message)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        rmj_buf_printf(out, "\n  %s: ", field->name);
        print_type(out, field);
        rmj_buf_putc(out, '\n');
        print_comment(out, field_comment(file, message->short_name, field->name), 4);
    }
}

static void print_values(struct rmj_buf *out, const Rmjob__View__FileView *file, const ProtobufCEnumDescriptor *values)
{
    for (unsigned i = 0; i < values->n_values; i++) {
        const char *comment = value_comment(file, values->short_name, values->values[i].name);
        rmj_buf_printf(out, "\n  %s\n", values->values[i].name);
        print_comment(out, comment, 4);
    }
}

// Path of a field of this very name anywhere below: who forgets where a field stands remembers its name.
static int find_elsewhere(const ProtobufCMessageDescriptor *message, const char *prefix, const char *name, char *path,
                          size_t size)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        char own[160];
        snprintf(own, sizeof own, "%s%s%s", prefix, *prefix == '\0' ? "" : ".", field->name);
        if (strcmp(field->name, name) == 0) {
            snprintf(path, size, "%s", own);
            return 1;
        }
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && find_elsewhere(field->descriptor, own, name, path, size)) {
            return 1;
        }
    }
    return 0;
}

static enum rmj_status not_found(const ProtobufCMessageDescriptor *message, const char *field, const char *part,
                                 struct rmj_error *err)
{
    const char *names[CHILDREN_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < message->n_fields && count < CHILDREN_MAX; i++) {
        names[count++] = message->fields[i].name;
    }
    char path[160];
    if (find_elsewhere(&rmjob__v1__job_spec__descriptor, "", part, path, sizeof path)) {
        return rmj_fail(err, RMJ_NOT_FOUND, "%.200s: %s has no field %.60s; did you mean %s", field,
                        message->short_name, part, path);
    }
    const char *nearest = rmj_text_nearest(part, names, count);
    if (nearest != NULL) {
        size_t prefix = (size_t)(strlen(field) < 200 ? strlen(field) : 200);
        return rmj_fail(err, RMJ_NOT_FOUND, "%.*s: %s has no field %.60s; did you mean %s", (int)prefix, field,
                        message->short_name, part, nearest);
    }
    return rmj_fail(err, RMJ_NOT_FOUND, "%.200s: %s has no field %.60s; `rmjob spec explain` lists them", field,
                    message->short_name, part);
}

// Walks "data.train[0].path" down to its field. *found is NULL for the spec itself.
static enum rmj_status find(const char *field, const ProtobufCMessageDescriptor **parent,
                            const ProtobufCFieldDescriptor **found, struct rmj_error *err)
{
    const ProtobufCMessageDescriptor *message = &rmjob__v1__job_spec__descriptor;
    *found = NULL;
    for (const char *at = field; *at != '\0';) {
        size_t size = strcspn(at, ".");
        char part[64];
        if (message == NULL || size >= sizeof part) {
            return rmj_fail(err, RMJ_NOT_FOUND, "%.200s: %s has no fields of its own", field,
                            *found == NULL ? "it" : (*found)->name);
        }
        memcpy(part, at, size);
        part[size] = '\0';
        part[strcspn(part, "[")] = '\0';
        *parent = message;
        *found = rmj_field_find(message, part);
        if (*found == NULL) {
            return not_found(message, field, part, err);
        }
        message = (*found)->type == PROTOBUF_C_TYPE_MESSAGE ? (*found)->descriptor : NULL;
        at += size + (at[size] == '.');
    }
    return RMJ_OK;
}

enum rmj_status rmj_spec_explain(const char *field, struct rmj_buf *out, struct rmj_error *err)
{
    const ProtobufCMessageDescriptor *parent = NULL;
    const ProtobufCFieldDescriptor *found = NULL;
    RMJ_TRY(find(field, &parent, &found, err));
    Rmjob__View__FileView *file = open_spec();
    if (found == NULL) {
        print_comment(out, message_comment(file, "JobSpec"), 0);
        print_children(out, file, &rmjob__v1__job_spec__descriptor);
    } else {
        rmj_buf_printf(out, "%s: ", field);
        print_type(out, found);
        rmj_buf_putc(out, '\n');
        print_comment(out, field_comment(file, parent->short_name, found->name), 2);
        if (found->type == PROTOBUF_C_TYPE_MESSAGE) {
            print_children(out, file, found->descriptor);
        } else if (found->type == PROTOBUF_C_TYPE_ENUM) {
            print_values(out, file, found->descriptor);
        }
    }
    rmjob__view__file_view__free_unpacked(file, NULL);
    return rmj_buf_check(out, err);
}
