// A gRPC client over the C core: blocking unary calls and server streams of protobuf-c messages.
// Threads: a client may be used from any thread; a stream from one at a time, but cancel from any.
#ifndef RMJ_PROTO_RPC_CLIENT_H
#define RMJ_PROTO_RPC_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "base/status.h"

struct rmj_rpc_client;
struct rmj_rpc_stream;

// address: "unix:/path" or "host:port". bearer may be NULL. Does not connect yet.
RMJ_MUST_USE enum rmj_status rmj_rpc_client_create(struct rmj_rpc_client **client, const char *address,
                                                   const char *bearer, struct rmj_error *err);
void rmj_rpc_client_destroy(struct rmj_rpc_client *client);

// method: "/rmjob.v1.Jobs/Submit". *reply: made by protobuf-c, free with protobuf_c_message_free_unpacked.
// *findings (may be NULL): the packed ValidateResponse of a refusal, else untouched.
// The server's rmj_status and message come back; RMJ_UNREACHABLE when there is no server, RMJ_TIMEOUT on the deadline.
RMJ_MUST_USE enum rmj_status rmj_rpc_call(struct rmj_rpc_client *client, const char *method,
                                          const ProtobufCMessage *request,
                                          const ProtobufCMessageDescriptor *reply_descriptor, int64_t deadline_ms,
                                          ProtobufCMessage **reply, ProtobufCMessage **findings, struct rmj_error *err);

// deadline_ms 0: none.
RMJ_MUST_USE enum rmj_status rmj_rpc_stream_open(struct rmj_rpc_stream **stream, struct rmj_rpc_client *client,
                                                 const char *method, const ProtobufCMessage *request,
                                                 const ProtobufCMessageDescriptor *reply_descriptor,
                                                 int64_t deadline_ms, struct rmj_error *err);
// Next message; *message NULL with RMJ_OK at the regular end. wait_ms < 0: no limit; RMJ_AGAIN when none came in time.
RMJ_MUST_USE enum rmj_status rmj_rpc_stream_next(struct rmj_rpc_stream *stream, int64_t wait_ms,
                                                 ProtobufCMessage **message, struct rmj_error *err);
void rmj_rpc_stream_cancel(struct rmj_rpc_stream *stream);
void rmj_rpc_stream_close(struct rmj_rpc_stream *stream); // cancels when it has not ended

#endif
