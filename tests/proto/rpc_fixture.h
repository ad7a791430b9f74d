// A server with a few methods for the tests of rpc, a client of it, and how tests wait.
//
// Get answers with the job's id; "fail:STATUS:TEXT" fails so, "silence" forgets to answer, "later" keeps the call.
// Watch: "count:N" sends N events and ends, "hold" sends one and stays, "flood" sends until the queue is full.
#ifndef RMJ_TESTS_PROTO_RPC_FIXTURE_H
#define RMJ_TESTS_PROTO_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/client.h"
#include "proto/rpc/server.h"

enum { PATIENCE_MS = 30000 };

struct fixture {
    char directory[64];
    char address[96];
    struct rmj_rpc_server *server;
    struct rmj_rpc_client *client;
    atomic_int cancels;
    atomic_int handled;
    atomic_int full_seen;
    atomic_int sent;
    _Atomic(struct rmj_call *) kept;
};

void wait_for(atomic_int *value, int wanted);
enum rmj_status start_server(struct fixture *f, const char *address, int with_authorize, struct rmj_rpc_server **server,
                             struct rmj_error *err);
void setup_at(struct fixture *f, const char *address, int with_authorize);
void teardown(struct fixture *f);
enum rmj_status get(struct rmj_rpc_client *client, char *job, int64_t deadline_ms, Rmjob__V1__Job **reply,
                    ProtobufCMessage **findings, struct rmj_error *err);
struct rmj_rpc_stream *watch(struct rmj_rpc_client *client, char *job, int64_t deadline_ms);
void expect_event(struct rmj_rpc_stream *stream, uint64_t number);

#endif
