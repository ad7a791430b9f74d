// rmj_status on the wire: a gRPC code for everyone, and the exact name in the trailer "rmjob-status" for our own
// client.
#ifndef RMJ_PROTO_RPC_STATUS_MAP_H
#define RMJ_PROTO_RPC_STATUS_MAP_H

#include <grpc/status.h>
#include <stddef.h>

#include "base/status.h"

#define RMJ_RPC_STATUS_TRAILER "rmjob-status"
#define RMJ_RPC_FINDINGS_TRAILER "rmjob-findings-bin"

grpc_status_code rmj_rpc_code_of(enum rmj_status status);
// name: the trailer's value, not terminated, NULL when the server sent none (not rmjobd, or the core answered).
enum rmj_status rmj_rpc_status_of(grpc_status_code code, const char *name, size_t name_size);
// "NOT_FOUND"; "code" for an unknown one.
const char *rmj_rpc_code_name(grpc_status_code code);

#endif
