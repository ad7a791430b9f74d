// protobuf-c messages to gRPC byte buffers and back, and the settings that server and client channels share.
#ifndef RMJ_PROTO_RPC_WIRE_H
#define RMJ_PROTO_RPC_WIRE_H

#include <grpc/grpc.h>
#include <protobuf-c/protobuf-c.h>

enum {
    RMJ_RPC_MESSAGE_BYTES_MAX = 16 * 1024 * 1024,
    RMJ_RPC_METADATA_BYTES_MAX = 256 * 1024, // findings travel in a trailer
    // A peer that is stopped, or gone without a word, is seen within the sum of these two.
    RMJ_RPC_KEEPALIVE_TIME_MS = 4000,
    RMJ_RPC_KEEPALIVE_TIMEOUT_MS = 4000,
    RMJ_RPC_PING_INTERVAL_MIN_MS = 1000,
    RMJ_RPC_RECONNECT_MIN_MS = 100,
    RMJ_RPC_RECONNECT_MAX_MS = 1000,
    RMJ_RPC_CONNECT_TIMEOUT_MS = 5000,
    RMJ_RPC_BACKUP_POLL_MS = 100,
};

enum { RMJ_RPC_ARGS_MAX = 20 };
struct rmj_rpc_args {
    grpc_arg args[RMJ_RPC_ARGS_MAX];
    size_t count;
};
void rmj_rpc_args_add(struct rmj_rpc_args *args, const char *key, int value);
// Limits and keepalive, the same on both sides: a client never pings more often than the server bears.
void rmj_rpc_args_common(struct rmj_rpc_args *args);

// Starts the core on first use and gives its log lines to rmj_log. Pairs with grpc_shutdown_blocking.
void rmj_rpc_core_init(void);

// Packs straight into the slice that the core sends.
grpc_slice rmj_rpc_pack_slice(const ProtobufCMessage *message);
grpc_byte_buffer *rmj_rpc_pack(const ProtobufCMessage *message);
// NULL when the bytes are no such message.
ProtobufCMessage *rmj_rpc_unpack(const ProtobufCMessageDescriptor *descriptor, grpc_byte_buffer *buffer);

// Copy of a slice as a C string; stops at a NUL inside. Never NULL: memory for a header is asserted.
char *rmj_rpc_slice_text(grpc_slice slice);

#endif
