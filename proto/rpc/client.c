#include "proto/rpc/client.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/client_internal.h"
#include "proto/rpc/listen.h"
#include "proto/rpc/status_map.h"
#include "proto/rpc/wire.h"

static grpc_channel *create_channel(const char *address)
{
    struct rmj_rpc_args args = {0};
    rmj_rpc_args_common(&args);
    rmj_rpc_args_add(&args, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    rmj_rpc_args_add(&args, GRPC_ARG_ENABLE_RETRIES, 0);
    rmj_rpc_args_add(&args, GRPC_ARG_ENABLE_HTTP_PROXY, 0); // the service is never behind the machine's web proxy
    rmj_rpc_args_add(&args, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    rmj_rpc_args_add(&args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RMJ_RPC_RECONNECT_MIN_MS);
    rmj_rpc_args_add(&args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RMJ_RPC_RECONNECT_MAX_MS);
    rmj_rpc_args_add(&args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, RMJ_RPC_CONNECT_TIMEOUT_MS);
    grpc_channel_args channel_args = {.num_args = args.count, .args = args.args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(address, credentials, &channel_args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

static int is_header_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x21 || *text > 0x7e) {
            return 0;
        }
    }
    return 1;
}

enum rmj_status rmj_rpc_client_create(struct rmj_rpc_client **result, const char *address, const char *bearer,
                                      struct rmj_error *err)
{
    *result = NULL;
    RMJ_TRY(rmj_rpc_address_check(address, 0, err));
    if (bearer != NULL && (bearer[0] == '\0' || !is_header_text(bearer))) {
        return rmj_fail(err, RMJ_INVALID, "the token is empty or holds characters that a header cannot carry");
    }
    struct rmj_rpc_client *client = calloc(1, sizeof *client);
    if (client == NULL || (client->address = strdup(address)) == NULL ||
        (bearer != NULL && asprintf(&client->authorization, "Bearer %s", bearer) < 0)) {
        if (client != NULL) {
            free(client->address);
        }
        free(client);
        return rmj_fail(err, RMJ_NO_MEMORY, "out of memory");
    }
    rmj_rpc_core_init();
    client->channel = create_channel(address);
    *result = client;
    return RMJ_OK;
}

void rmj_rpc_client_destroy(struct rmj_rpc_client *client)
{
    if (client == NULL) {
        return;
    }
    grpc_channel_destroy(client->channel);
    grpc_shutdown_blocking();
    free(client->address);
    free(client->authorization);
    free(client);
}

// ---- how a call ended ----

void rmj_rpc_end_init(struct rmj_rpc_end *end)
{
    *end = (struct rmj_rpc_end){.code = GRPC_STATUS_UNKNOWN, .text = grpc_empty_slice()};
    grpc_metadata_array_init(&end->trailers);
}

void rmj_rpc_end_deinit(struct rmj_rpc_end *end)
{
    grpc_metadata_array_destroy(&end->trailers);
    grpc_slice_unref(end->text);
}

static const grpc_slice *find_trailer(const struct rmj_rpc_end *end, const char *key)
{
    for (size_t i = 0; i < end->trailers.count; i++) {
        if (grpc_slice_str_cmp(end->trailers.metadata[i].key, key) == 0) {
            return &end->trailers.metadata[i].value;
        }
    }
    return NULL;
}

// The core's own words ("failed to connect to all addresses; last error: ...") help less than what to look at.
static enum rmj_status say_unanswered(const struct rmj_rpc_end *end, enum rmj_status status,
                                      const struct rmj_rpc_client *client, const char *method, struct rmj_error *err)
{
    char *text = rmj_rpc_slice_text(end->text);
    const char *name = rmj_rpc_code_name(end->code);
    if (status == RMJ_UNREACHABLE) {
        rmj_fail_origin(err, status, "grpc", end->code, "cannot reach rmjobd at %s; is it running? (%.300s)",
                        client->address, text);
    } else if (status == RMJ_TIMEOUT) {
        rmj_fail_origin(err, status, "grpc", end->code, "%s: no answer from %s in time", method, client->address);
    } else if (status == RMJ_CANCELLED) {
        rmj_fail_origin(err, status, "grpc", end->code, "%s: cancelled", method);
    } else {
        rmj_fail_origin(err, status, "grpc", end->code, "%s at %s: %s: %.500s", method, client->address, name, text);
    }
    free(text);
    return status;
}

enum rmj_status rmj_rpc_end_status(const struct rmj_rpc_end *end, const struct rmj_rpc_client *client,
                                   const char *method, ProtobufCMessage **findings, struct rmj_error *err)
{
    if (end->code == GRPC_STATUS_OK) {
        return RMJ_OK;
    }
    const grpc_slice *name = find_trailer(end, RMJ_RPC_STATUS_TRAILER);
    enum rmj_status status = name == NULL ? rmj_rpc_status_of(end->code, NULL, 0)
                                          : rmj_rpc_status_of(end->code, (const char *)GRPC_SLICE_START_PTR(*name),
                                                              GRPC_SLICE_LENGTH(*name));
    if (name == NULL) {
        return say_unanswered(end, status, client, method, err);
    }
    const grpc_slice *bytes = find_trailer(end, RMJ_RPC_FINDINGS_TRAILER);
    if (findings != NULL && bytes != NULL) {
        *findings = protobuf_c_message_unpack(&rmjob__v1__validate_response__descriptor, NULL,
                                              GRPC_SLICE_LENGTH(*bytes), GRPC_SLICE_START_PTR(*bytes));
    }
    // The server's whole sentence, as it was set where the cause was met.
    char *text = rmj_rpc_slice_text(end->text);
    rmj_fail_origin(err, status, "grpc", end->code, "%s", text);
    free(text);
    return status;
}

// ---- unary calls ----

grpc_call *rmj_rpc_client_begin(struct rmj_rpc_client *client, grpc_completion_queue *cq, const char *method,
                                int64_t deadline_ms)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (deadline_ms > 0) {
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(deadline_ms, GPR_TIMESPAN));
    }
    grpc_slice name = grpc_slice_from_copied_string(method);
    grpc_call *call =
        grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, cq, name, NULL, deadline, NULL);
    grpc_slice_unref(name);
    return call;
}

size_t rmj_rpc_client_send_ops(const struct rmj_rpc_client *client, grpc_op *ops, grpc_metadata *metadata,
                               grpc_byte_buffer *request)
{
    ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    if (client->authorization != NULL) {
        *metadata = (grpc_metadata){
            .key = grpc_slice_from_static_string("authorization"),
            .value = grpc_slice_from_static_string(client->authorization),
        };
        ops[0].data.send_initial_metadata.count = 1;
        ops[0].data.send_initial_metadata.metadata = metadata;
    }
    ops[1] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
    ops[1].data.send_message.send_message = request;
    ops[2] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    return 3;
}

void rmj_rpc_cq_close(grpc_completion_queue *cq)
{
    grpc_completion_queue_shutdown(cq);
    while (grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(cq);
}

enum rmj_status rmj_rpc_call(struct rmj_rpc_client *client, const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *reply_descriptor, int64_t deadline_ms,
                             ProtobufCMessage **reply, ProtobufCMessage **findings, struct rmj_error *err)
{
    *reply = NULL;
    grpc_completion_queue *cq = grpc_completion_queue_create_for_next(NULL);
    grpc_call *call = rmj_rpc_client_begin(client, cq, method, deadline_ms);
    grpc_byte_buffer *sent = rmj_rpc_pack(request);
    grpc_byte_buffer *received = NULL;
    grpc_metadata_array headers;
    grpc_metadata_array_init(&headers);
    struct rmj_rpc_end end;
    rmj_rpc_end_init(&end);

    grpc_op ops[6];
    grpc_metadata metadata;
    size_t count = rmj_rpc_client_send_ops(client, ops, &metadata, sent);
    ops[count] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
    ops[count++].data.recv_initial_metadata.recv_initial_metadata = &headers;
    ops[count] = (grpc_op){.op = GRPC_OP_RECV_MESSAGE};
    ops[count++].data.recv_message.recv_message = &received;
    ops[count] = (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    ops[count].data.recv_status_on_client.trailing_metadata = &end.trailers;
    ops[count].data.recv_status_on_client.status = &end.code;
    ops[count++].data.recv_status_on_client.status_details = &end.text;
    grpc_call_error started = grpc_call_start_batch(call, ops, count, &end, NULL);
    RMJ_ASSERT(started == GRPC_CALL_OK);
    // The call's own deadline, or the keepalive, ends the wait.
    grpc_event event = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    RMJ_ASSERT(event.type == GRPC_OP_COMPLETE);

    enum rmj_status status = rmj_rpc_end_status(&end, client, method, findings, err);
    if (status == RMJ_OK) {
        *reply = received == NULL ? NULL : rmj_rpc_unpack(reply_descriptor, received);
        if (*reply == NULL) {
            status = rmj_fail(err, RMJ_INTERNAL, "%s: the answer of %s is not a %s message", method, client->address,
                              reply_descriptor->name);
        }
    }
    if (received != NULL) {
        grpc_byte_buffer_destroy(received);
    }
    grpc_byte_buffer_destroy(sent);
    grpc_metadata_array_destroy(&headers);
    rmj_rpc_end_deinit(&end);
    grpc_call_unref(call);
    rmj_rpc_cq_close(cq);
    return status;
}
