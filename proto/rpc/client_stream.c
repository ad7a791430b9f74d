#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc/client_internal.h"
#include "proto/rpc/wire.h"

enum stream_tag { TAG_SENT = 1, TAG_HEADERS, TAG_STATUS, TAG_MESSAGE };

struct rmj_rpc_stream {
    struct rmj_rpc_client *client; // outlives the stream
    char *method;
    const ProtobufCMessageDescriptor *reply_descriptor;
    grpc_completion_queue *cq;
    grpc_call *call;
    grpc_metadata metadata;
    grpc_metadata_array headers;
    grpc_byte_buffer *sent, *received;
    struct rmj_rpc_end end;
    int receiving; // a RECV_MESSAGE is out
    int drained;   // the last message has been received
    int ended;     // the status is here
};

static void start(struct rmj_rpc_stream *stream, const grpc_op *ops, size_t count, enum stream_tag tag)
{
    grpc_call_error error = grpc_call_start_batch(stream->call, ops, count, (void *)(uintptr_t)tag, NULL);
    RMJ_ASSERT(error == GRPC_CALL_OK);
}

static void start_stream(struct rmj_rpc_stream *stream)
{
    grpc_op ops[3];
    start(stream, ops, rmj_rpc_client_send_ops(stream->client, ops, &stream->metadata, stream->sent), TAG_SENT);
    grpc_op headers = {.op = GRPC_OP_RECV_INITIAL_METADATA};
    headers.data.recv_initial_metadata.recv_initial_metadata = &stream->headers;
    start(stream, &headers, 1, TAG_HEADERS);
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status.data.recv_status_on_client.trailing_metadata = &stream->end.trailers;
    status.data.recv_status_on_client.status = &stream->end.code;
    status.data.recv_status_on_client.status_details = &stream->end.text;
    start(stream, &status, 1, TAG_STATUS);
}

enum rmj_status rmj_rpc_stream_open(struct rmj_rpc_stream **result, struct rmj_rpc_client *client, const char *method,
                                    const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply_descriptor,
                                    int64_t deadline_ms, struct rmj_error *err)
{
    *result = NULL;
    struct rmj_rpc_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL || (stream->method = strdup(method)) == NULL) {
        free(stream);
        return rmj_fail(err, RMJ_NO_MEMORY, "out of memory");
    }
    stream->client = client;
    stream->reply_descriptor = reply_descriptor;
    stream->cq = grpc_completion_queue_create_for_next(NULL);
    stream->call = rmj_rpc_client_begin(client, stream->cq, method, deadline_ms);
    stream->sent = rmj_rpc_pack(request);
    grpc_metadata_array_init(&stream->headers);
    rmj_rpc_end_init(&stream->end);
    start_stream(stream);
    *result = stream;
    return RMJ_OK;
}

static void receive(struct rmj_rpc_stream *stream)
{
    if (!stream->receiving && !stream->drained) {
        grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
        op.data.recv_message.recv_message = &stream->received;
        stream->receiving = 1;
        start(stream, &op, 1, TAG_MESSAGE);
    }
}

static void on_event(struct rmj_rpc_stream *stream, const grpc_event *event)
{
    switch ((enum stream_tag)(uintptr_t)event->tag) {
    case TAG_SENT: // a failure shows in the status
    case TAG_HEADERS:
        break;
    case TAG_STATUS:
        stream->ended = 1;
        break;
    case TAG_MESSAGE:
        stream->receiving = 0;
        stream->drained = stream->received == NULL;
        break;
    }
}

static enum rmj_status take_message(struct rmj_rpc_stream *stream, ProtobufCMessage **message, struct rmj_error *err)
{
    *message = rmj_rpc_unpack(stream->reply_descriptor, stream->received);
    grpc_byte_buffer_destroy(stream->received);
    stream->received = NULL;
    if (*message == NULL) {
        return rmj_fail(err, RMJ_INTERNAL, "%s: a message of %s is not a %s", stream->method, stream->client->address,
                        stream->reply_descriptor->name);
    }
    return RMJ_OK;
}

enum rmj_status rmj_rpc_stream_next(struct rmj_rpc_stream *stream, int64_t wait_ms, ProtobufCMessage **message,
                                    struct rmj_error *err)
{
    *message = NULL;
    gpr_timespec until = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (wait_ms >= 0) {
        until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(wait_ms, GPR_TIMESPAN));
    }
    receive(stream);
    while (stream->receiving || !stream->ended) {
        grpc_event event = grpc_completion_queue_next(stream->cq, until, NULL);
        if (event.type != GRPC_OP_COMPLETE) {
            return rmj_fail(err, RMJ_AGAIN, "%s: nothing came within %lld ms", stream->method, (long long)wait_ms);
        }
        on_event(stream, &event);
        // The core writes `received` before it hands out the tag; only the tag says that it is ours.
        if (!stream->receiving && stream->received != NULL) {
            return take_message(stream, message, err);
        }
    }
    return rmj_rpc_end_status(&stream->end, stream->client, stream->method, NULL, err);
}

void rmj_rpc_stream_cancel(struct rmj_rpc_stream *stream)
{
    (void)grpc_call_cancel(stream->call, NULL); // it fails only for arguments that are not these
}

void rmj_rpc_stream_close(struct rmj_rpc_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (!stream->ended) {
        rmj_rpc_stream_cancel(stream);
    }
    rmj_rpc_cq_close(stream->cq);
    grpc_call_unref(stream->call);
    if (stream->received != NULL) {
        grpc_byte_buffer_destroy(stream->received);
    }
    grpc_byte_buffer_destroy(stream->sent);
    grpc_metadata_array_destroy(&stream->headers);
    rmj_rpc_end_deinit(&stream->end);
    free(stream->method);
    free(stream);
}
