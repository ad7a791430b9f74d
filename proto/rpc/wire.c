#include "proto/rpc/wire.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"

void rmj_rpc_args_add(struct rmj_rpc_args *args, const char *key, int value)
{
    RMJ_ASSERT(args->count < RMJ_RPC_ARGS_MAX);
    // The core does not write to keys.
    union {
        const char *given;
        char *taken;
    } name = {.given = key};
    args->args[args->count++] = (grpc_arg){.type = GRPC_ARG_INTEGER, .key = name.taken, .value.integer = value};
}

void rmj_rpc_args_common(struct rmj_rpc_args *args)
{
    rmj_rpc_args_add(args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RMJ_RPC_MESSAGE_BYTES_MAX);
    rmj_rpc_args_add(args, GRPC_ARG_MAX_METADATA_SIZE, RMJ_RPC_METADATA_BYTES_MAX);
    rmj_rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIME_MS, RMJ_RPC_KEEPALIVE_TIME_MS);
    rmj_rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RMJ_RPC_KEEPALIVE_TIMEOUT_MS);
    rmj_rpc_args_add(args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    rmj_rpc_args_add(args, GRPC_ARG_HTTP2_MIN_SENT_PING_INTERVAL_WITHOUT_DATA_MS, RMJ_RPC_PING_INTERVAL_MIN_MS);
    rmj_rpc_args_add(args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, RMJ_RPC_PING_INTERVAL_MIN_MS);
}

// Failures reach callers as statuses, so the core's own lines are for whoever debugs the transport.
static void core_log(gpr_log_func_args *args)
{
    char text[512];
    rmj_log(RMJ_LOG_DEBUG, "grpc", "text=\"%s\" file=%s line=%d", rmj_log_quote(text, sizeof text, args->message),
            args->file, args->line);
}

// Nobody polls a channel between calls but the core's own backup poller, which looks every 5 s: a handshake that no
// call waits for would take that long, and so would a rank to find a service that came back. The core reads this at
// its first start only; the environment is the one way to say it.
static void set_backup_poll_interval(void)
{
    char interval[16];
    snprintf(interval, sizeof interval, "%d", RMJ_RPC_BACKUP_POLL_MS);
    setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", interval, 0);
}

void rmj_rpc_core_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_backup_poll_interval);
    gpr_set_log_function(core_log);
    grpc_init();
}

grpc_slice rmj_rpc_pack_slice(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    size_t written = protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    RMJ_ASSERT(written == GRPC_SLICE_LENGTH(slice));
    return slice;
}

grpc_byte_buffer *rmj_rpc_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = rmj_rpc_pack_slice(message);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

ProtobufCMessage *rmj_rpc_unpack(const ProtobufCMessageDescriptor *descriptor, grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, buffer)) {
        return NULL;
    }
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, NULL, GRPC_SLICE_LENGTH(slice), GRPC_SLICE_START_PTR(slice));
    grpc_slice_unref(slice);
    return message;
}

char *rmj_rpc_slice_text(grpc_slice slice)
{
    char *text = strndup((const char *)GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
    RMJ_ASSERT(text != NULL);
    return text;
}
