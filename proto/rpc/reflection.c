#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/descriptor_view.pb-c.h"
#include "proto/descriptors.h"
#include "proto/grpc/reflection/v1/reflection.pb-c.h"
#include "proto/rpc/internal.h"

enum { FILES_MAX = 32 };

// The embedded set, and a view of each file. Parsed for each request: tools ask a few times, and nothing is kept.
struct file_set {
    Rmjob__View__FileSet *set;
    Rmjob__View__FileView *files[FILES_MAX];
    int chosen[FILES_MAX];
};

static int open_set(struct file_set *all)
{
    *all = (struct file_set){0};
    all->set = rmjob__view__file_set__unpack(NULL, rmj_descriptors_size, rmj_descriptors);
    if (all->set == NULL) {
        return 0;
    }
    RMJ_ASSERT(all->set->n_file <= FILES_MAX);
    for (size_t i = 0; i < all->set->n_file; i++) {
        all->files[i] = rmjob__view__file_view__unpack(NULL, all->set->file[i].len, all->set->file[i].data);
        RMJ_ASSERT(all->files[i] != NULL); // made by protoc at build time
    }
    return 1;
}

static void close_set(struct file_set *all)
{
    for (size_t i = 0; all->set != NULL && i < all->set->n_file; i++) {
        rmjob__view__file_view__free_unpacked(all->files[i], NULL);
    }
    rmjob__view__file_set__free_unpacked(all->set, NULL);
}

// Rest of `symbol` after "name." or "" when it is the name itself; NULL when it is neither.
static const char *after(const char *symbol, const char *name)
{
    size_t size = strlen(name);
    if (strncmp(symbol, name, size) != 0) {
        return NULL;
    }
    return symbol[size] == '.' ? symbol + size + 1 : symbol[size] == '\0' ? symbol + size : NULL;
}

static int named_holds(Rmjob__View__Named *const *list, size_t count, const char *rest)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i]->name, rest) == 0) {
            return 1;
        }
    }
    return *rest == '\0';
}

static int enum_holds(Rmjob__View__EnumView *const *list, size_t count, const char *symbol)
{
    for (size_t i = 0; i < count; i++) {
        const char *rest = after(symbol, list[i]->name);
        // Values are siblings of their enumeration, by protobuf's rule.
        if ((rest != NULL && *rest == '\0') ||
            (*symbol != '\0' && named_holds(list[i]->value, list[i]->n_value, symbol))) {
            return 1;
        }
    }
    return 0;
}

static int message_holds(const Rmjob__View__MessageView *message, const char *symbol)
{
    const char *rest = after(symbol, message->name);
    if (rest == NULL) {
        return 0;
    }
    for (size_t i = 0; i < message->n_nested_type; i++) {
        if (message_holds(message->nested_type[i], rest)) {
            return 1;
        }
    }
    return named_holds(message->field, message->n_field, rest) ||
           enum_holds(message->enum_type, message->n_enum_type, rest);
}

static int file_holds(const Rmjob__View__FileView *file, const char *symbol)
{
    const char *rest = after(symbol, file->package);
    if (rest == NULL || *rest == '\0') {
        return 0;
    }
    for (size_t i = 0; i < file->n_message_type; i++) {
        if (message_holds(file->message_type[i], rest)) {
            return 1;
        }
    }
    for (size_t i = 0; i < file->n_service; i++) {
        const char *method = after(rest, file->service[i]->name);
        if (method != NULL && named_holds(file->service[i]->method, file->service[i]->n_method, method)) {
            return 1;
        }
    }
    return enum_holds(file->enum_type, file->n_enum_type, rest);
}

// The file and everything it imports, so that the client need not ask again.
static void choose(struct file_set *all, const char *name)
{
    for (size_t i = 0; i < all->set->n_file; i++) {
        if (!all->chosen[i] && strcmp(all->files[i]->name, name) == 0) {
            all->chosen[i] = 1;
            for (size_t k = 0; k < all->files[i]->n_dependency; k++) {
                choose(all, all->files[i]->dependency[k]);
            }
        }
    }
}

static void send_error(struct rmj_call *call, Grpc__Reflection__V1__ServerReflectionResponse *response,
                       grpc_status_code code, const char *what, const char *name)
{
    char text[256];
    snprintf(text, sizeof text, "%s %.180s", what, name);
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    error.error_code = (int)code;
    error.error_message = text;
    response->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response->error_response = &error;
    (void)rmj_call_send(call, &response->base); // a slow or lost client is the stream's matter
}

static void send_files(struct rmj_call *call, Grpc__Reflection__V1__ServerReflectionResponse *response,
                       const char *file_name, const char *symbol)
{
    struct file_set all;
    if (!open_set(&all)) {
        send_error(call, response, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for", "descriptors");
        return;
    }
    for (size_t i = 0; i < all.set->n_file; i++) {
        if (file_name != NULL ? strcmp(all.files[i]->name, file_name) == 0 : file_holds(all.files[i], symbol)) {
            choose(&all, all.files[i]->name);
        }
    }
    ProtobufCBinaryData bytes[FILES_MAX];
    Grpc__Reflection__V1__FileDescriptorResponse files = GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    files.file_descriptor_proto = bytes;
    // Imports last: clients take the first file as the answer.
    for (size_t i = all.set->n_file; i-- > 0;) {
        if (all.chosen[i]) {
            bytes[files.n_file_descriptor_proto++] = all.set->file[i];
        }
    }
    if (files.n_file_descriptor_proto == 0) {
        send_error(call, response, GRPC_STATUS_NOT_FOUND, "this server does not know",
                   file_name != NULL ? file_name : symbol);
    } else {
        response->message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
        response->file_descriptor_response = &files;
        (void)rmj_call_send(call, &response->base);
    }
    close_set(&all);
}

static void send_services(const struct rmj_rpc_server *server, struct rmj_call *call,
                          Grpc__Reflection__V1__ServerReflectionResponse *response)
{
    Grpc__Reflection__V1__ServiceResponse *services = calloc(server->service_count, sizeof *services);
    Grpc__Reflection__V1__ServiceResponse **pointers =
        calloc(server->service_count, sizeof(Grpc__Reflection__V1__ServiceResponse *));
    if (services == NULL || pointers == NULL) {
        send_error(call, response, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for", "services");
    } else {
        for (size_t i = 0; i < server->service_count; i++) {
            grpc__reflection__v1__service_response__init(&services[i]);
            services[i].name = server->service_names[i];
            pointers[i] = &services[i];
        }
        Grpc__Reflection__V1__ListServiceResponse list = GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
        list.n_service = server->service_count;
        list.service = pointers;
        response->message_response_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
        response->list_services_response = &list;
        (void)rmj_call_send(call, &response->base);
    }
    free(services);
    free(pointers);
}

void rmj_rpc_reflection_info(void *context, struct rmj_call *call, const ProtobufCMessage *message)
{
    if (message == NULL) {
        rmj_call_finish(call, NULL);
        return;
    }
    Grpc__Reflection__V1__ServerReflectionRequest *request =
        (Grpc__Reflection__V1__ServerReflectionRequest *)(uintptr_t)message;
    Grpc__Reflection__V1__ServerReflectionResponse response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = request;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        send_files(call, &response, request->file_by_filename, NULL);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        send_files(call, &response, NULL, request->file_containing_symbol);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        send_services(context, call, &response);
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        send_error(call, &response, GRPC_STATUS_NOT_FOUND, "no message has", "extensions");
        break;
    default:
        send_error(call, &response, GRPC_STATUS_INVALID_ARGUMENT, "the request names", "nothing to look up");
        break;
    }
}
