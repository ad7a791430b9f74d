// Inside of the client: the channel, and how one call's end becomes an error.
#ifndef RMJ_PROTO_RPC_CLIENT_INTERNAL_H
#define RMJ_PROTO_RPC_CLIENT_INTERNAL_H

#include <grpc/grpc.h>

#include "proto/rpc/client.h"

struct rmj_rpc_client {
    grpc_channel *channel;
    char *address;
    char *authorization; // "Bearer ...", or NULL
};

// How a call ended, as the core reports it.
struct rmj_rpc_end {
    grpc_metadata_array trailers;
    grpc_status_code code;
    grpc_slice text;
};
void rmj_rpc_end_init(struct rmj_rpc_end *end);
void rmj_rpc_end_deinit(struct rmj_rpc_end *end);
// RMJ_OK for a regular end. *findings may be NULL.
RMJ_MUST_USE enum rmj_status rmj_rpc_end_status(const struct rmj_rpc_end *end, const struct rmj_rpc_client *client,
                                                const char *method, ProtobufCMessage **findings, struct rmj_error *err);

// deadline_ms <= 0: none.
grpc_call *rmj_rpc_client_begin(struct rmj_rpc_client *client, grpc_completion_queue *cq, const char *method,
                                int64_t deadline_ms);
// Initial metadata, the request and the half-close; metadata must live until the batch is through.
size_t rmj_rpc_client_send_ops(const struct rmj_rpc_client *client, grpc_op *ops, grpc_metadata *metadata,
                               grpc_byte_buffer *request);
void rmj_rpc_cq_close(grpc_completion_queue *cq);

#endif
