#include "proto/rpc/internal.h"

#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc/status_map.h"
#include "proto/rpc/wire.h"

struct rmj_call *rmj_rpc_call_create(struct rmj_rpc_server *server, grpc_completion_queue *cq)
{
    struct rmj_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    call->server = server;
    call->cq = cq;
    call->request_tag = (struct rmj_rpc_tag){RMJ_TAG_REQUEST, call};
    call->message_tag = (struct rmj_rpc_tag){RMJ_TAG_MESSAGE, call};
    call->close_tag = (struct rmj_rpc_tag){RMJ_TAG_CLOSE, call};
    call->send_tag = (struct rmj_rpc_tag){RMJ_TAG_SEND, call};
    call->dispatch_work = (struct rmj_rpc_work){.run = rmj_rpc_dispatch, .call = call};
    call->cancel_work = (struct rmj_rpc_work){.run = rmj_rpc_run_cancel, .call = call};
    atomic_init(&call->references, 1);
    atomic_init(&call->handles, 1);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    call->text = grpc_empty_slice();
    pthread_mutex_init(&call->lock, NULL);
    atomic_fetch_add(&server->references, 1);
    return call;
}

static void call_destroy(struct rmj_call *call)
{
    struct rmj_rpc_server *server = call->server;
    RMJ_ASSERT(call->core == NULL && call->queue_count == 0 && call->in_flight == NULL);
    pthread_mutex_lock(&server->lock);
    if (call->listed) {
        *(call->previous == NULL ? &server->live : &call->previous->next) = call->next;
        if (call->next != NULL) {
            call->next->previous = call->previous;
        }
        server->live_count--;
        pthread_cond_broadcast(&server->changed);
    }
    pthread_mutex_unlock(&server->lock);
    if (call->request != NULL) {
        protobuf_c_message_free_unpacked(call->request, NULL);
    }
    if (call->received != NULL) {
        grpc_byte_buffer_destroy(call->received);
    }
    for (size_t i = 0; i < call->trailer_count; i++) {
        grpc_slice_unref(call->trailers[i].value);
    }
    grpc_slice_unref(call->text);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    pthread_mutex_destroy(&call->lock);
    free(call->queue);
    free(call->bearer);
    free(call->peer);
    free(call);
    rmj_rpc_server_unref(server);
}

static void call_ref(struct rmj_call *call)
{
    atomic_fetch_add(&call->references, 1);
}

void rmj_rpc_call_unref(struct rmj_call *call)
{
    if (atomic_fetch_sub(&call->references, 1) == 1) {
        call_destroy(call);
    }
}

int rmj_rpc_call_try_ref(struct rmj_call *call)
{
    int seen = atomic_load(&call->references);
    while (seen > 0) {
        if (atomic_compare_exchange_weak(&call->references, &seen, seen + 1)) {
            return 1;
        }
    }
    return 0;
}

// ---- sending; everything here is under call->lock ----

static void queue_clear(struct rmj_call *call)
{
    while (call->queue_count > 0) {
        grpc_byte_buffer_destroy(call->queue[call->queue_first]);
        call->queue_first = (call->queue_first + 1) % RMJ_RPC_QUEUE_MESSAGES_MAX;
        call->queue_count--;
    }
    call->queue_bytes = 0;
}

static grpc_byte_buffer *queue_take(struct rmj_call *call)
{
    grpc_byte_buffer *buffer = call->queue[call->queue_first];
    call->queue_first = (call->queue_first + 1) % RMJ_RPC_QUEUE_MESSAGES_MAX;
    call->queue_count--;
    call->queue_bytes -= grpc_byte_buffer_length(buffer);
    return buffer;
}

static int queue_has_room(const struct rmj_call *call, size_t size)
{
    return call->queue_count == 0 ||
           (call->queue_count < RMJ_RPC_QUEUE_MESSAGES_MAX && size <= RMJ_RPC_QUEUE_BYTES_MAX - call->queue_bytes);
}

// Takes the buffer over.
static enum rmj_status queue_put(struct rmj_call *call, grpc_byte_buffer *buffer)
{
    size_t size = grpc_byte_buffer_length(buffer);
    if (call->queue == NULL) {
        call->queue = calloc(RMJ_RPC_QUEUE_MESSAGES_MAX, sizeof(grpc_byte_buffer *));
    }
    if (call->queue == NULL || !queue_has_room(call, size)) {
        grpc_byte_buffer_destroy(buffer);
        return call->queue == NULL ? RMJ_NO_MEMORY : RMJ_FULL;
    }
    call->queue[(call->queue_first + call->queue_count) % RMJ_RPC_QUEUE_MESSAGES_MAX] = buffer;
    call->queue_count++;
    call->queue_bytes += size;
    return RMJ_OK;
}

static void start_batch(struct rmj_call *call, const grpc_op *ops, size_t count, struct rmj_rpc_tag *tag)
{
    call_ref(call);
    call->tags_out++;
    grpc_call_error error = grpc_call_start_batch(call->core, ops, count, tag, NULL);
    RMJ_ASSERT(error == GRPC_CALL_OK);
}

// At most one send batch is out; its completion comes back here. That is the back-pressure.
static void pump(struct rmj_call *call)
{
    if (call->core == NULL || call->broken || call->sending || call->status_sent ||
        (call->queue_count == 0 && !call->status_wanted)) {
        return;
    }
    grpc_op ops[3] = {0};
    size_t count = 0;
    if (!call->initial_sent) {
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->initial_sent = 1;
    }
    if (call->queue_count > 0) {
        call->in_flight = queue_take(call);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = call->in_flight;
    }
    if (call->status_wanted && call->queue_count == 0) {
        ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        ops[count].data.send_status_from_server.status = call->code;
        ops[count].data.send_status_from_server.status_details = &call->text;
        ops[count].data.send_status_from_server.trailing_metadata = call->trailers;
        ops[count++].data.send_status_from_server.trailing_metadata_count = call->trailer_count;
        call->status_sent = 1;
    }
    call->sending = 1;
    start_batch(call, ops, count, &call->send_tag);
}

static void let_core_go(struct rmj_call *call)
{
    if (call->core != NULL && call->tags_out == 0 && (call->status_sent || call->broken)) {
        grpc_call_unref(call->core);
        call->core = NULL;
        rmj_rpc_server_call_closed(call->server);
    }
}

static void set_status(struct rmj_call *call, grpc_status_code code, const struct rmj_error *err,
                       const ProtobufCMessage *findings)
{
    call->status_wanted = 1;
    call->code = code;
    if (err == NULL) {
        return;
    }
    call->text = grpc_slice_from_copied_string(err->message);
    call->trailers[call->trailer_count++] = (grpc_metadata){
        .key = grpc_slice_from_static_string(RMJ_RPC_STATUS_TRAILER),
        .value = grpc_slice_from_static_string(rmj_status_name(err->status)),
    };
    // Over the metadata limit the whole answer would be lost: then the message alone must do.
    if (findings != NULL && protobuf_c_message_get_packed_size(findings) <= RMJ_RPC_METADATA_BYTES_MAX / 2) {
        call->trailers[call->trailer_count++] = (grpc_metadata){
            .key = grpc_slice_from_static_string(RMJ_RPC_FINDINGS_TRAILER),
            .value = rmj_rpc_pack_slice(findings),
        };
    }
}

static void schedule_cancel(struct rmj_call *call)
{
    if (call->cancelled && !call->answered && call->on_cancel != NULL && !call->on_cancel_scheduled) {
        call->on_cancel_scheduled = 1;
        call_ref(call);
        rmj_rpc_work_push(call->server, &call->server->cancels, &call->cancel_work);
    }
}

// ---- tags ----

static void read_metadata(struct rmj_call *call)
{
    static const char prefix[] = "Bearer ";
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *entry = &call->metadata.metadata[i];
        if (call->bearer == NULL && grpc_slice_str_cmp(entry->key, "authorization") == 0 &&
            GRPC_SLICE_LENGTH(entry->value) > sizeof prefix - 1 &&
            strncasecmp((const char *)GRPC_SLICE_START_PTR(entry->value), prefix, sizeof prefix - 1) == 0) {
            grpc_slice token = grpc_slice_sub(entry->value, sizeof prefix - 1, GRPC_SLICE_LENGTH(entry->value));
            call->bearer = rmj_rpc_slice_text(token);
            grpc_slice_unref(token);
        }
    }
    char *peer = grpc_call_get_peer(call->core);
    call->peer = strdup(peer == NULL ? "unknown" : peer);
    gpr_free(peer);
    RMJ_ASSERT(call->peer != NULL);
}

// 0 when the server already holds as many calls as it may.
static int list_call(struct rmj_call *call)
{
    struct rmj_rpc_server *server = call->server;
    pthread_mutex_lock(&server->lock);
    call->next = server->live;
    if (call->next != NULL) {
        call->next->previous = call;
    }
    server->live = call;
    call->listed = 1;
    int fits = ++server->live_count <= server->call_count_max;
    pthread_mutex_unlock(&server->lock);
    return fits;
}

static void on_request(struct rmj_call *call, int ok)
{
    if (!ok) { // the server stops
        rmj_rpc_server_call_closed(call->server);
        rmj_rpc_call_unref(call);
        return;
    }
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    close.data.recv_close_on_server.cancelled = &call->core_cancelled;
    pthread_mutex_lock(&call->lock);
    read_metadata(call);
    start_batch(call, &close, 1, &call->close_tag);
    pthread_mutex_unlock(&call->lock);

    int fits = list_call(call);
    char *name = rmj_rpc_slice_text(call->details.method);
    call->entry = rmj_rpc_server_find(call->server, name);
    struct rmj_error err = {0};
    if (atomic_load(&call->server->stopping)) {
        (void)rmj_fail(&err, RMJ_UNREACHABLE, "the service is stopping");
        rmj_call_fail(call, &err, NULL);
    } else if (call->entry == NULL) {
        (void)rmj_fail(&err, RMJ_INVALID, "this server has no method %.200s; client and server may differ in version",
                       name);
        rmj_rpc_call_finish_status(call, GRPC_STATUS_UNIMPLEMENTED, &err, NULL);
    } else if (!fits) {
        (void)rmj_fail(&err, RMJ_AGAIN, "the server is busy with %zu calls; try again", call->server->call_count_max);
        rmj_call_fail(call, &err, NULL);
    }
    free(name);
    if (err.status == RMJ_OK) {
        rmj_rpc_call_receive(call); // the handle goes on to dispatch
    } else {
        rmj_call_release(call);
    }
}

void rmj_rpc_call_receive(struct rmj_call *call)
{
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE};
    receive.data.recv_message.recv_message = &call->received;
    pthread_mutex_lock(&call->lock);
    int started = call->core != NULL && !call->broken && !call->status_sent;
    if (started) {
        start_batch(call, &receive, 1, &call->message_tag);
    }
    pthread_mutex_unlock(&call->lock);
    if (!started) {
        rmj_call_release(call);
    }
}

static void on_close(struct rmj_call *call)
{
    if (call->core_cancelled) {
        call->cancelled = 1;
        call->broken = 1;
        queue_clear(call);
        schedule_cancel(call);
    }
}

static void on_sent(struct rmj_call *call, int ok)
{
    call->sending = 0;
    grpc_byte_buffer_destroy(call->in_flight);
    call->in_flight = NULL;
    if (!ok) { // the close tag tells why
        call->broken = 1;
        queue_clear(call);
    }
    pump(call);
}

void rmj_rpc_call_on_tag(struct rmj_rpc_tag *tag, int ok)
{
    struct rmj_call *call = tag->call;
    if (tag->kind == RMJ_TAG_REQUEST) {
        on_request(call, ok);
        return;
    }
    pthread_mutex_lock(&call->lock);
    call->tags_out--;
    if (tag->kind == RMJ_TAG_CLOSE) {
        on_close(call);
    } else if (tag->kind == RMJ_TAG_SEND) {
        on_sent(call, ok);
    } else {
        call_ref(call);
        rmj_rpc_work_push(call->server, &call->server->dispatches, &call->dispatch_work);
    }
    let_core_go(call);
    pthread_mutex_unlock(&call->lock);
    rmj_rpc_call_unref(call);
}

void rmj_rpc_call_interrupt(struct rmj_call *call, const struct rmj_error *err)
{
    pthread_mutex_lock(&call->lock);
    if (!call->answered && !call->cancelled) {
        call->cancelled = 1;
        if (!call->status_wanted) {
            set_status(call, rmj_rpc_code_of(err->status), err, NULL);
        }
        schedule_cancel(call);
        pump(call);
    }
    pthread_mutex_unlock(&call->lock);
}

// ---- what handlers call ----

void rmj_call_reply(struct rmj_call *call, const ProtobufCMessage *response)
{
    grpc_byte_buffer *buffer = rmj_rpc_pack(response);
    pthread_mutex_lock(&call->lock);
    RMJ_ASSERT(!call->answered);
    call->answered = 1;
    if (call->cancelled || call->broken) {
        grpc_byte_buffer_destroy(buffer);
    } else if (queue_put(call, buffer) == RMJ_OK) {
        set_status(call, GRPC_STATUS_OK, NULL, NULL);
    } else {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_NO_MEMORY, "out of memory for the answer");
        set_status(call, rmj_rpc_code_of(err.status), &err, NULL);
    }
    pump(call);
    pthread_mutex_unlock(&call->lock);
}

void rmj_rpc_call_finish_status(struct rmj_call *call, grpc_status_code code, const struct rmj_error *err,
                                const ProtobufCMessage *findings)
{
    pthread_mutex_lock(&call->lock);
    RMJ_ASSERT(!call->answered);
    call->answered = 1;
    if (!call->cancelled && !call->broken) {
        set_status(call, code, err, findings);
        pump(call);
    }
    pthread_mutex_unlock(&call->lock);
}

void rmj_call_fail(struct rmj_call *call, const struct rmj_error *err, const ProtobufCMessage *findings)
{
    RMJ_ASSERT(err->status != RMJ_OK);
    rmj_rpc_call_finish_status(call, rmj_rpc_code_of(err->status), err, findings);
}

void rmj_call_finish(struct rmj_call *call, const struct rmj_error *err)
{
    if (err == NULL) {
        rmj_rpc_call_finish_status(call, GRPC_STATUS_OK, NULL, NULL);
    } else {
        rmj_call_fail(call, err, NULL);
    }
}

enum rmj_status rmj_call_send(struct rmj_call *call, const ProtobufCMessage *message)
{
    grpc_byte_buffer *buffer = rmj_rpc_pack(message);
    pthread_mutex_lock(&call->lock);
    enum rmj_status status = RMJ_CANCELLED;
    if (call->cancelled || call->broken || call->answered) {
        grpc_byte_buffer_destroy(buffer);
    } else {
        status = queue_put(call, buffer);
        pump(call);
    }
    pthread_mutex_unlock(&call->lock);
    return status;
}

int rmj_call_cancelled(const struct rmj_call *call)
{
    // The lock is not part of what the caller sees of a call.
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&call->lock;
    pthread_mutex_lock(lock);
    int cancelled = call->cancelled;
    pthread_mutex_unlock(lock);
    return cancelled;
}

void rmj_call_on_cancel(struct rmj_call *call, void (*function)(void *context, struct rmj_call *call), void *context)
{
    pthread_mutex_lock(&call->lock);
    RMJ_ASSERT(call->on_cancel == NULL);
    call->on_cancel = function;
    call->on_cancel_context = context;
    schedule_cancel(call);
    pthread_mutex_unlock(&call->lock);
}

struct rmj_call *rmj_call_retain(struct rmj_call *call)
{
    atomic_fetch_add(&call->handles, 1);
    call_ref(call);
    return call;
}

void rmj_call_release(struct rmj_call *call)
{
    if (atomic_fetch_sub(&call->handles, 1) == 1) {
        pthread_mutex_lock(&call->lock);
        if (!call->answered && !call->cancelled && !call->broken) {
            struct rmj_error err = {0};
            (void)rmj_fail(&err, RMJ_INTERNAL, "%s: the handler gave no answer",
                           call->entry == NULL ? "call" : call->entry->full_name);
            call->answered = 1;
            set_status(call, rmj_rpc_code_of(err.status), &err, NULL);
            pump(call);
        }
        pthread_mutex_unlock(&call->lock);
    }
    rmj_rpc_call_unref(call);
}

ProtobufCMessage *rmj_call_take_request(struct rmj_call *call)
{
    ProtobufCMessage *request = call->request;
    call->request = NULL;
    return request;
}

const char *rmj_call_bearer(const struct rmj_call *call)
{
    return call->bearer;
}

const char *rmj_call_peer(const struct rmj_call *call)
{
    return call->peer;
}
