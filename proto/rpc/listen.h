// Addresses of a server: what is wrong with one, who has it already, and the claim on a unix path.
#ifndef RMJ_PROTO_RPC_LISTEN_H
#define RMJ_PROTO_RPC_LISTEN_H

#include <stddef.h>

#include "base/status.h"

// Path of "unix:/path", else NULL.
const char *rmj_rpc_unix_path(const char *address);
// RMJ_INVALID unless it is unix:PATH (short enough for a socket) or HOST:PORT.
RMJ_MUST_USE enum rmj_status rmj_rpc_address_check(const char *address, int port_zero_allowed, struct rmj_error *err);

// gRPC replaces a socket file without asking and says nothing about why a port cannot be had, so both are looked at
// first. Unix: a living server is RMJ_CONFLICT, a dead one's file is removed, and *lock is a descriptor that claims
// the path until it is closed. TCP: *lock is -1. Errors: RMJ_CONFLICT, RMJ_INVALID, RMJ_DENIED, RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_rpc_listen_claim(const char *address, int *lock, struct rmj_error *err);

#endif
