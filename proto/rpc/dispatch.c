#include "proto/rpc/internal.h"

#include <grpc/byte_buffer.h>
#include <stdlib.h>

#include "proto/rpc/status_map.h"
#include "proto/rpc/wire.h"

static struct rmj_rpc_work *take(struct rmj_rpc_work_list *list)
{
    struct rmj_rpc_work *work = list->first;
    if (work != NULL) {
        list->first = work->next;
        work->next = NULL;
    }
    return work;
}

void rmj_rpc_work_push(struct rmj_rpc_server *server, struct rmj_rpc_work_list *list, struct rmj_rpc_work *work)
{
    pthread_mutex_lock(&server->work_lock);
    work->next = NULL;
    *(list->first == NULL ? &list->first : &list->last->next) = work;
    list->last = work;
    pthread_cond_signal(&server->work_ready);
    pthread_mutex_unlock(&server->work_lock);
}

static void *worker_main(void *argument)
{
    struct rmj_rpc_server *server = argument;
    pthread_mutex_lock(&server->work_lock);
    for (;;) {
        struct rmj_rpc_work *work = take(&server->cancels);
        if (work == NULL) {
            work = take(&server->dispatches);
        }
        if (work != NULL) {
            pthread_mutex_unlock(&server->work_lock);
            work->run(work->call);
            pthread_mutex_lock(&server->work_lock);
        } else if (server->workers_stop) {
            break;
        } else {
            pthread_cond_wait(&server->work_ready, &server->work_lock);
        }
    }
    pthread_mutex_unlock(&server->work_lock);
    return NULL;
}

int rmj_rpc_workers_start(struct rmj_rpc_server *server, size_t count)
{
    server->workers = calloc(count, sizeof *server->workers);
    while (server->workers != NULL && server->worker_count < count) {
        if (pthread_create(&server->workers[server->worker_count], NULL, worker_main, server) != 0) {
            return 0;
        }
        server->worker_count++;
    }
    return server->workers != NULL;
}

void rmj_rpc_workers_stop(struct rmj_rpc_server *server)
{
    pthread_mutex_lock(&server->work_lock);
    server->workers_stop = 1;
    pthread_cond_broadcast(&server->work_ready);
    pthread_mutex_unlock(&server->work_lock);
    for (size_t i = 0; i < server->worker_count; i++) {
        pthread_join(server->workers[i], NULL);
    }
    free(server->workers);
    server->workers = NULL;
}

// 1 when the call may go on; else it has been answered.
static int authorize(struct rmj_call *call)
{
    const struct rmj_rpc_server *server = call->server;
    if (call->authorized || call->entry->open || server->authorize == NULL) {
        return 1;
    }
    struct rmj_error err = {0};
    enum rmj_status status =
        server->authorize(server->authorize_context, call->entry->full_name, call->bearer, call->peer, &err);
    if (status == RMJ_OK) {
        call->authorized = 1;
        return 1;
    }
    if (err.status == RMJ_OK) {
        (void)rmj_fail(&err, status, "%s: not allowed", call->entry->full_name);
    }
    rmj_rpc_call_finish_status(call, status == RMJ_DENIED ? GRPC_STATUS_UNAUTHENTICATED : rmj_rpc_code_of(err.status),
                               &err, NULL);
    return 0;
}

static int unpack(struct rmj_call *call)
{
    struct rmj_error err = {0};
    if (call->received == NULL) {
        (void)rmj_fail(&err, RMJ_INVALID, "%s: the call carries no request", call->entry->full_name);
    } else {
        call->request = rmj_rpc_unpack(call->entry->request, call->received);
        grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
        if (call->request == NULL) {
            (void)rmj_fail(&err, RMJ_INVALID, "%s: the request is not a %s message", call->entry->full_name,
                           call->entry->request->name);
        }
    }
    if (call->request == NULL) {
        rmj_call_fail(call, &err, NULL);
    }
    return call->request != NULL;
}

// Nobody waits for an answer, or there is one already.
static int is_over(struct rmj_call *call)
{
    pthread_mutex_lock(&call->lock);
    int over = call->cancelled || call->answered;
    pthread_mutex_unlock(&call->lock);
    return over;
}

void rmj_rpc_dispatch(struct rmj_call *call)
{
    const struct rmj_rpc_entry *entry = call->entry;
    int goes_on = 0;
    if (!is_over(call) && authorize(call)) {
        if (entry->client_streaming && call->received == NULL) {
            entry->handler(entry->context, call, NULL);
        } else if (unpack(call)) {
            entry->handler(entry->context, call, call->request);
            goes_on = entry->client_streaming;
        }
    }
    if (call->request != NULL) {
        protobuf_c_message_free_unpacked(call->request, NULL);
        call->request = NULL;
    }
    if (goes_on) {
        rmj_rpc_call_receive(call);
    } else {
        rmj_call_release(call);
    }
    rmj_rpc_call_unref(call);
}

void rmj_rpc_run_cancel(struct rmj_call *call)
{
    pthread_mutex_lock(&call->lock);
    void (*function)(void *, struct rmj_call *) = call->answered ? NULL : call->on_cancel;
    void *context = call->on_cancel_context;
    pthread_mutex_unlock(&call->lock);
    if (function != NULL) {
        function(context, call);
    }
    rmj_rpc_call_unref(call);
}
