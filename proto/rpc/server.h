// A gRPC server over the C core: unary and server-streaming methods of protobuf-c messages, health and reflection.
//
// Threads: completion-queue threads only parse and dispatch; handlers run on a pool of worker threads. A handler must
// answer its call exactly once (rmj_call_reply, rmj_call_fail, or rmj_call_finish for streams); it may do so later and
// from another thread. Calls are reference counted: a handler that keeps the call beyond its return takes a reference.
#ifndef RMJ_PROTO_RPC_SERVER_H
#define RMJ_PROTO_RPC_SERVER_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct rmj_rpc_server;
struct rmj_call;

// request is valid until the handler returns, unless taken with rmj_call_take_request.
typedef void (*rmj_rpc_handler_fn)(void *context, struct rmj_call *call, const ProtobufCMessage *request);

struct rmj_rpc_method {
    const char *service; // "rmjob.v1.Jobs"
    const char *method;  // "Submit"
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    int server_streaming;
    rmj_rpc_handler_fn handler;
    void *context;
};

// Decides whether a call may go on. bearer: the token of "authorization: Bearer ...", NULL when there is none; peer:
// "unix:..." or "ipv4:...". RMJ_DENIED refuses (UNAUTHENTICATED). Health is always open; reflection is not.
typedef enum rmj_status (*rmj_rpc_authorize_fn)(void *context, const char *full_method, const char *bearer,
                                                const char *peer, struct rmj_error *err);

struct rmj_rpc_server_options {
    const char *const *addresses; // "unix:/path", "127.0.0.1:7443", port 0 picks one
    size_t address_count;
    const struct rmj_rpc_method *methods; // copied
    size_t method_count;
    rmj_rpc_authorize_fn authorize; // NULL: everyone
    void *authorize_context;
    size_t worker_count;   // 0: 8
    size_t call_count_max; // calls at one time, streams included; more are answered RMJ_AGAIN; 0: 4,096
};

// Block SIGTERM and SIGINT in the calling thread before the first rmj_rpc call of the process, so that gRPC's threads
// inherit the mask. Errors: RMJ_CONFLICT (address in use, says by what when known), RMJ_INVALID, RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_rpc_server_start(struct rmj_rpc_server **server,
                                                  const struct rmj_rpc_server_options *options, struct rmj_error *err);
// Address actually bound, with its port.
const char *rmj_rpc_server_address(const struct rmj_rpc_server *server, size_t index);
// Stops accepting, ends streams with "the service is stopping" (RMJ_UNREACHABLE for the client; their on_cancel is
// called), waits grace_ms for unary calls, cancels what is left, joins all threads. Handlers must return by themselves.
// Handles that are still held stay valid, and dead. NULL is accepted.
void rmj_rpc_server_stop(struct rmj_rpc_server *server, int64_t grace_ms);

// Unary answers. Either ends the call.
void rmj_call_reply(struct rmj_call *call, const ProtobufCMessage *response);
// Maps the status to a gRPC code, sends err's message as details, and, when findings are given, their bytes as trailer
// "rmjob-findings-bin" (a packed ValidateResponse). The client gets the same rmj_status back.
void rmj_call_fail(struct rmj_call *call, const struct rmj_error *err, const ProtobufCMessage *findings);

// Streams. send queues a message (copied); RMJ_FULL when the receiver is too slow and the bounded queue is full,
// RMJ_CANCELLED when the client is gone. finish ends it: err NULL is OK.
enum rmj_status rmj_call_send(struct rmj_call *call, const ProtobufCMessage *message);
void rmj_call_finish(struct rmj_call *call, const struct rmj_error *err);
// 1 once the client cancelled, its deadline passed or its connection broke.
int rmj_call_cancelled(const struct rmj_call *call);
// Called once from a worker when the call becomes cancelled or its connection breaks (at once when it is so already),
// unless the call has been answered by then. The call still needs no answer; a retained one needs its release.
void rmj_call_on_cancel(struct rmj_call *call, void (*function)(void *context, struct rmj_call *call), void *context);
struct rmj_call *rmj_call_retain(struct rmj_call *call);
void rmj_call_release(struct rmj_call *call);
// The request is the caller's from now on (protobuf_c_message_free_unpacked). Only from within the handler.
ProtobufCMessage *rmj_call_take_request(struct rmj_call *call);
const char *rmj_call_bearer(const struct rmj_call *call); // NULL when there is none
const char *rmj_call_peer(const struct rmj_call *call);

#endif
