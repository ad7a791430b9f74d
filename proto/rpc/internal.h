// Inside of the server: one call's state and how its completion-queue tags, the worker threads and the handler share
// it.
//
//   request tag ──> known? ──no──> UNIMPLEMENTED
//        │ arms CLOSE and MESSAGE
//   message tag ──> worker: authorize, unpack, handler ──> reply | fail | send* finish
//   close tag ────> cancelled? ──> worker: on_cancel
//   send tag ─────> next queued message, or the status
//
// A call lives while it is referenced: by each outstanding tag, by each queued piece of work and by handles (dispatch
// and whoever called rmj_call_retain). The core's own call is let go as soon as no tag is out and nothing more will be
// sent, so handles may outlive the server.
#ifndef RMJ_PROTO_RPC_INTERNAL_H
#define RMJ_PROTO_RPC_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <stdatomic.h>

#include "proto/rpc/server.h"

enum {
    RMJ_RPC_QUEUE_MESSAGES_MAX = 1024,          // of one stream
    RMJ_RPC_QUEUE_BYTES_MAX = 32 * 1024 * 1024, // of one stream; one message always fits
    RMJ_RPC_CALLS_DEFAULT = 4096,               // of one server
    RMJ_RPC_CQ_COUNT = 2,
    RMJ_RPC_REQUESTS_OUTSTANDING = 4, // of one completion queue
    RMJ_RPC_WORKERS_DEFAULT = 8,
    RMJ_RPC_WORKERS_MAX = 256,
};

struct rmj_rpc_entry {
    char *full_name; // "/rmjob.v1.Jobs/Submit"
    const ProtobufCMessageDescriptor *request;
    int server_streaming;
    int client_streaming; // the handler is called for each message, and with request NULL at their end
    int open;             // no authorization
    rmj_rpc_handler_fn handler;
    void *context;
};

enum rmj_rpc_tag_kind { RMJ_TAG_REQUEST, RMJ_TAG_MESSAGE, RMJ_TAG_CLOSE, RMJ_TAG_SEND, RMJ_TAG_SHUTDOWN };

struct rmj_rpc_tag {
    enum rmj_rpc_tag_kind kind;
    struct rmj_call *call;
};

struct rmj_rpc_work {
    struct rmj_rpc_work *next;
    void (*run)(struct rmj_call *call);
    struct rmj_call *call;
};

struct rmj_rpc_work_list {
    struct rmj_rpc_work *first, *last;
};

struct rmj_call {
    // immutable once the request has arrived
    struct rmj_rpc_server *server;
    const struct rmj_rpc_entry *entry;
    grpc_completion_queue *cq;
    char *bearer;
    char *peer;
    struct rmj_rpc_tag request_tag, message_tag, close_tag, send_tag;

    atomic_int references;
    atomic_int handles;

    // under the server's lock
    struct rmj_call *previous, *next;
    int listed;
    // under the workers' lock
    struct rmj_rpc_work dispatch_work, cancel_work;

    // owner: the request tag, then the worker that dispatches
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *received;
    ProtobufCMessage *request;
    int authorized;

    pthread_mutex_t lock; // everything below
    grpc_call *core;      // NULL before the request and after the end
    int tags_out;
    int core_cancelled; // written by the core for the close tag
    int answered;       // the handler said its last word
    int cancelled;      // the client is gone, or the server stops
    int broken;         // the core reported the end: no more batches
    int status_wanted;  // a status waits behind the queue
    int status_sent;
    int initial_sent;
    int sending;
    grpc_byte_buffer *in_flight;
    grpc_byte_buffer **queue; // ring
    size_t queue_first, queue_count, queue_bytes;
    grpc_status_code code;
    grpc_slice text;
    grpc_metadata trailers[2];
    size_t trailer_count;
    void (*on_cancel)(void *context, struct rmj_call *call);
    void *on_cancel_context;
    int on_cancel_scheduled;
};

struct rmj_rpc_server {
    // immutable after the start
    struct rmj_rpc_entry *entries; // sorted by name
    size_t entry_count;
    char **service_names; // of methods, health and reflection; sorted
    size_t service_count;
    rmj_rpc_authorize_fn authorize;
    void *authorize_context;
    size_t call_count_max;
    char **addresses;
    int *address_locks; // descriptors that claim unix paths, else -1
    size_t address_count;
    grpc_server *core;
    grpc_completion_queue *cqs[RMJ_RPC_CQ_COUNT];
    pthread_t cq_threads[RMJ_RPC_CQ_COUNT];
    size_t cq_thread_count;
    pthread_t *workers;
    size_t worker_count;
    struct rmj_rpc_tag shutdown_tag;

    atomic_int references; // the owner and each call
    atomic_int stopping;

    pthread_mutex_t lock; // live list
    pthread_cond_t changed;
    struct rmj_call *live;
    size_t live_count;
    size_t open_count; // calls, awaited ones too, that still use the core
    int shutdown_done;

    pthread_mutex_t work_lock;
    pthread_cond_t work_ready;
    struct rmj_rpc_work_list cancels, dispatches; // cancels go first
    int workers_stop;
};

// call.c
// A call that waits for a request on `cq`; the request tag holds its one reference and handle. NULL: no memory.
struct rmj_call *rmj_rpc_call_create(struct rmj_rpc_server *server, grpc_completion_queue *cq);
void rmj_rpc_call_unref(struct rmj_call *call);
int rmj_rpc_call_try_ref(struct rmj_call *call);
// The completion of one of the call's tags. Called by completion-queue threads; never blocks.
void rmj_rpc_call_on_tag(struct rmj_rpc_tag *tag, int ok);
// Ends the call with this code; the handler, if it has not answered, learns by on_cancel.
void rmj_rpc_call_interrupt(struct rmj_call *call, const struct rmj_error *err);
// rmj_call_fail with a code of its own.
void rmj_rpc_call_finish_status(struct rmj_call *call, grpc_status_code code, const struct rmj_error *err,
                                const ProtobufCMessage *findings);

// dispatch.c: the worker threads, and what they do with a received message or a cancel.
int rmj_rpc_workers_start(struct rmj_rpc_server *server, size_t count);
void rmj_rpc_workers_stop(struct rmj_rpc_server *server);
// Takes over one reference to the call.
void rmj_rpc_work_push(struct rmj_rpc_server *server, struct rmj_rpc_work_list *list, struct rmj_rpc_work *work);
void rmj_rpc_dispatch(struct rmj_call *call);
void rmj_rpc_run_cancel(struct rmj_call *call);
// Asks for the next message of a client stream.
void rmj_rpc_call_receive(struct rmj_call *call);

// server.c
const struct rmj_rpc_entry *rmj_rpc_server_find(const struct rmj_rpc_server *server, const char *full_name);
void rmj_rpc_server_call_closed(struct rmj_rpc_server *server);
void rmj_rpc_server_unref(struct rmj_rpc_server *server);
int rmj_rpc_server_has_service(const struct rmj_rpc_server *server, const char *name);

// health.c, reflection.c
void rmj_rpc_health_check(void *context, struct rmj_call *call, const ProtobufCMessage *request);
void rmj_rpc_health_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request);
// Tells a Watch stream that the server stops serving; other calls are left alone.
void rmj_rpc_health_stopping(struct rmj_call *call);
void rmj_rpc_reflection_info(void *context, struct rmj_call *call, const ProtobufCMessage *request);

#endif
