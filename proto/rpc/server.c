#include "proto/rpc/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/grpc/health/v1/health.pb-c.h"
#include "proto/grpc/reflection/v1/reflection.pb-c.h"
#include "proto/rpc/internal.h"
#include "proto/rpc/listen.h"
#include "proto/rpc/wire.h"

// ---- methods ----

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct rmj_rpc_entry *)a)->full_name, ((const struct rmj_rpc_entry *)b)->full_name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const struct rmj_rpc_entry *rmj_rpc_server_find(const struct rmj_rpc_server *server, const char *full_name)
{
    size_t low = 0;
    size_t high = server->entry_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(full_name, server->entries[middle].full_name);
        if (order == 0) {
            return &server->entries[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

int rmj_rpc_server_has_service(const struct rmj_rpc_server *server, const char *name)
{
    for (size_t i = 0; i < server->service_count; i++) {
        if (strcmp(server->service_names[i], name) == 0) {
            return 1;
        }
    }
    return 0;
}

static enum rmj_status add_method(struct rmj_rpc_server *server, const struct rmj_rpc_method *method,
                                  int client_streaming, int open)
{
    struct rmj_rpc_entry *entry = &server->entries[server->entry_count];
    if (asprintf(&entry->full_name, "/%s/%s", method->service, method->method) < 0) {
        entry->full_name = NULL;
        return RMJ_NO_MEMORY;
    }
    server->entry_count++;
    entry->request = method->request;
    entry->server_streaming = method->server_streaming;
    entry->client_streaming = client_streaming;
    entry->open = open;
    entry->handler = method->handler;
    entry->context = method->context;
    if (!rmj_rpc_server_has_service(server, method->service)) {
        char *name = strdup(method->service);
        if (name == NULL) {
            return RMJ_NO_MEMORY;
        }
        server->service_names[server->service_count++] = name;
    }
    return RMJ_OK;
}

static enum rmj_status add_methods(struct rmj_rpc_server *server, const struct rmj_rpc_server_options *options)
{
    const struct rmj_rpc_method own[] = {
        {.service = "grpc.health.v1.Health",
         .method = "Check",
         .request = &grpc__health__v1__health_check_request__descriptor,
         .handler = rmj_rpc_health_check,
         .context = server},
        {.service = "grpc.health.v1.Health",
         .method = "Watch",
         .request = &grpc__health__v1__health_check_request__descriptor,
         .server_streaming = 1,
         .handler = rmj_rpc_health_watch,
         .context = server},
        {.service = "grpc.reflection.v1.ServerReflection",
         .method = "ServerReflectionInfo",
         .request = &grpc__reflection__v1__server_reflection_request__descriptor,
         .server_streaming = 1,
         .handler = rmj_rpc_reflection_info,
         .context = server},
        {.service = "grpc.reflection.v1alpha.ServerReflection",
         .method = "ServerReflectionInfo",
         .request = &grpc__reflection__v1__server_reflection_request__descriptor,
         .server_streaming = 1,
         .handler = rmj_rpc_reflection_info,
         .context = server},
    };
    size_t count = options->method_count + RMJ_COUNT(own);
    server->entries = calloc(count, sizeof *server->entries);
    server->service_names = calloc(count, sizeof *server->service_names);
    if (server->entries == NULL || server->service_names == NULL) {
        return RMJ_NO_MEMORY;
    }
    for (size_t i = 0; i < options->method_count; i++) {
        RMJ_TRY(add_method(server, &options->methods[i], 0, 0));
    }
    for (size_t i = 0; i < RMJ_COUNT(own); i++) {
        int health = strcmp(own[i].service, "grpc.health.v1.Health") == 0;
        RMJ_TRY(add_method(server, &own[i], !health, health));
    }
    qsort(server->entries, server->entry_count, sizeof *server->entries, compare_entries);
    qsort(server->service_names, server->service_count, sizeof *server->service_names, compare_names);
    for (size_t i = 1; i < server->entry_count; i++) {
        RMJ_ASSERT(strcmp(server->entries[i - 1].full_name, server->entries[i].full_name) != 0);
    }
    return RMJ_OK;
}

// ---- completion-queue threads ----

static int request_next(struct rmj_rpc_server *server, grpc_completion_queue *cq)
{
    struct rmj_call *call = rmj_rpc_call_create(server, cq);
    if (call == NULL) {
        return 0;
    }
    pthread_mutex_lock(&server->lock);
    server->open_count++;
    pthread_mutex_unlock(&server->lock);
    grpc_call_error error = grpc_server_request_call(server->core, &call->core, &call->details, &call->metadata, cq, cq,
                                                     &call->request_tag);
    if (error != GRPC_CALL_OK) {
        rmj_rpc_server_call_closed(server);
        rmj_rpc_call_unref(call);
    }
    return error == GRPC_CALL_OK;
}

void rmj_rpc_server_call_closed(struct rmj_rpc_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->open_count--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void on_shutdown_done(struct rmj_rpc_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->shutdown_done = 1;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

struct cq_thread {
    struct rmj_rpc_server *server;
    grpc_completion_queue *cq;
};

static void *cq_main(void *argument)
{
    struct cq_thread me = *(struct cq_thread *)argument;
    free(argument);
    for (;;) {
        grpc_event event = grpc_completion_queue_next(me.cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        struct rmj_rpc_tag *tag = event.tag;
        if (tag->kind == RMJ_TAG_SHUTDOWN) {
            on_shutdown_done(me.server);
            continue;
        }
        // A request that came is replaced before it is handled, so that one is always outstanding.
        if (tag->kind == RMJ_TAG_REQUEST && event.success && !atomic_load(&me.server->stopping)) {
            (void)request_next(me.server, me.cq);
        }
        rmj_rpc_call_on_tag(tag, event.success);
    }
}

static int start_cq_threads(struct rmj_rpc_server *server)
{
    for (size_t i = 0; i < RMJ_RPC_CQ_COUNT; i++) {
        for (size_t k = 0; k < RMJ_RPC_REQUESTS_OUTSTANDING; k++) {
            if (!request_next(server, server->cqs[i])) {
                return 0;
            }
        }
        struct cq_thread *argument = malloc(sizeof *argument);
        if (argument == NULL) {
            return 0;
        }
        *argument = (struct cq_thread){server, server->cqs[i]};
        if (pthread_create(&server->cq_threads[i], NULL, cq_main, argument) != 0) {
            free(argument);
            return 0;
        }
        server->cq_thread_count++;
    }
    return 1;
}

// ---- start ----

static void create_core(struct rmj_rpc_server *server)
{
    struct rmj_rpc_args args = {0};
    rmj_rpc_args_common(&args);
    rmj_rpc_args_add(&args, GRPC_ARG_ALLOW_REUSEPORT, 0);
    rmj_rpc_args_add(&args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    grpc_channel_args channel_args = {.num_args = args.count, .args = args.args};
    server->core = grpc_server_create(&channel_args, NULL);
    for (size_t i = 0; i < RMJ_RPC_CQ_COUNT; i++) {
        server->cqs[i] = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->core, server->cqs[i], NULL);
    }
}

static enum rmj_status bind_address(struct rmj_rpc_server *server, size_t index, const char *address,
                                    struct rmj_error *err)
{
    RMJ_TRY(rmj_rpc_address_check(address, 1, err));
    RMJ_TRY(rmj_rpc_listen_claim(address, &server->address_locks[index], err));
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    // Only the owner may connect to a socket file; the mask is set for the moment in which the file is made.
    mode_t mask = umask(0177);
    int port = grpc_server_add_http2_port(server->core, address, credentials);
    umask(mask);
    grpc_server_credentials_release(credentials);
    if (port == 0) {
        return rmj_fail(err, RMJ_IO, "%s: cannot listen (RMJOB_LOG=grpc=debug shows gRPC's reason)", address);
    }
    int size = rmj_rpc_unix_path(address) != NULL ? asprintf(&server->addresses[index], "%s", address)
                                                  : asprintf(&server->addresses[index], "%.*s:%d",
                                                             (int)(strrchr(address, ':') - address), address, port);
    if (size < 0) {
        server->addresses[index] = NULL;
        return rmj_fail(err, RMJ_NO_MEMORY, "out of memory");
    }
    return RMJ_OK;
}

static enum rmj_status bind_addresses(struct rmj_rpc_server *server, const struct rmj_rpc_server_options *options,
                                      struct rmj_error *err)
{
    if (options->address_count == 0) {
        return rmj_fail(err, RMJ_INVALID, "a server needs at least one address");
    }
    server->addresses = calloc(options->address_count, sizeof *server->addresses);
    server->address_locks = calloc(options->address_count, sizeof *server->address_locks);
    if (server->addresses == NULL || server->address_locks == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < options->address_count; i++) {
        server->address_locks[i] = -1;
        server->address_count++;
        RMJ_TRY(bind_address(server, i, options->addresses[i], err));
    }
    return RMJ_OK;
}

static struct rmj_rpc_server *server_create(void)
{
    struct rmj_rpc_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return NULL;
    }
    server->shutdown_tag.kind = RMJ_TAG_SHUTDOWN;
    atomic_init(&server->references, 1);
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->work_lock, NULL);
    pthread_cond_init(&server->work_ready, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return server;
}

enum rmj_status rmj_rpc_server_start(struct rmj_rpc_server **result, const struct rmj_rpc_server_options *options,
                                     struct rmj_error *err)
{
    *result = NULL;
    struct rmj_rpc_server *server = server_create();
    if (server == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "out of memory");
    }
    rmj_rpc_core_init();
    create_core(server);
    server->call_count_max = options->call_count_max == 0 ? RMJ_RPC_CALLS_DEFAULT : options->call_count_max;
    server->authorize = options->authorize;
    server->authorize_context = options->authorize_context;
    enum rmj_status status = add_methods(server, options);
    if (status != RMJ_OK) {
        (void)rmj_fail(err, status, "out of memory");
    } else {
        status = bind_addresses(server, options, err);
    }
    if (status == RMJ_OK) {
        size_t workers = options->worker_count == 0 ? RMJ_RPC_WORKERS_DEFAULT : options->worker_count;
        RMJ_ASSERT(workers <= RMJ_RPC_WORKERS_MAX);
        grpc_server_start(server->core);
        if (!rmj_rpc_workers_start(server, workers) || !start_cq_threads(server)) {
            status = rmj_fail(err, RMJ_NO_MEMORY, "cannot start the server's threads");
        }
    }
    if (status != RMJ_OK) {
        rmj_rpc_server_stop(server, 0);
        return status;
    }
    *result = server;
    return RMJ_OK;
}

const char *rmj_rpc_server_address(const struct rmj_rpc_server *server, size_t index)
{
    RMJ_ASSERT(index < server->address_count);
    return server->addresses[index];
}

// ---- stop ----

// References to all live calls; the caller gives them back. NULL when there are none.
static struct rmj_call **collect_live(struct rmj_rpc_server *server, size_t *count)
{
    pthread_mutex_lock(&server->lock);
    struct rmj_call **calls = calloc(server->live_count + 1, sizeof(struct rmj_call *));
    RMJ_ASSERT(calls != NULL);
    *count = 0;
    for (struct rmj_call *call = server->live; call != NULL; call = call->next) {
        if (rmj_rpc_call_try_ref(call)) {
            calls[(*count)++] = call;
        }
    }
    pthread_mutex_unlock(&server->lock);
    return calls;
}

static void end_streams(struct rmj_rpc_server *server)
{
    struct rmj_error err = {0};
    (void)rmj_fail(&err, RMJ_UNREACHABLE, "the service is stopping");
    size_t count;
    struct rmj_call **calls = collect_live(server, &count);
    for (size_t i = 0; i < count; i++) {
        if (calls[i]->entry != NULL && calls[i]->entry->server_streaming) {
            rmj_rpc_health_stopping(calls[i]);
            rmj_rpc_call_interrupt(calls[i], &err);
        }
        rmj_rpc_call_unref(calls[i]);
    }
    free(calls);
}

// 1 when the shutdown is through (for_calls 0) or no call uses the core any more (1) within the time.
static int wait_for(struct rmj_rpc_server *server, int for_calls, int64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&server->lock);
    int waited = 0;
    while (waited == 0 && (for_calls ? server->open_count > 0 : !server->shutdown_done)) {
        waited = pthread_cond_timedwait(&server->changed, &server->lock, &until);
    }
    pthread_mutex_unlock(&server->lock);
    return waited == 0;
}

// The start failed before these queues had their threads: what is in them comes out here. Each up to `until`.
static void drain_unowned(struct rmj_rpc_server *server, gpr_timespec until)
{
    for (size_t i = server->cq_thread_count; i < RMJ_RPC_CQ_COUNT; i++) {
        grpc_event event;
        while ((event = grpc_completion_queue_next(server->cqs[i], until, NULL)).type == GRPC_OP_COMPLETE) {
            struct rmj_rpc_tag *tag = event.tag;
            if (tag->kind == RMJ_TAG_SHUTDOWN) {
                on_shutdown_done(server);
            } else {
                rmj_rpc_call_on_tag(tag, event.success);
            }
        }
    }
}

static void stop_core(struct rmj_rpc_server *server, int64_t grace_ms)
{
    atomic_store(&server->stopping, 1);
    grpc_server_shutdown_and_notify(server->core, server->cqs[0], &server->shutdown_tag);
    end_streams(server);
    if (server->cq_thread_count > 0) {
        (void)wait_for(server, 0, grace_ms < 0 ? 0 : grace_ms);
    }
    // Every tag comes back once its call is cancelled; only then may the queues go. A call that was on its way in
    // while the others were cancelled is caught by the next round.
    do {
        grpc_server_cancel_all_calls(server->core);
        drain_unowned(server, gpr_now(GPR_CLOCK_MONOTONIC));
    } while (!wait_for(server, 1, 100));
    rmj_rpc_workers_stop(server);
    for (size_t i = 0; i < RMJ_RPC_CQ_COUNT; i++) {
        grpc_completion_queue_shutdown(server->cqs[i]);
    }
    drain_unowned(server, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    for (size_t i = 0; i < server->cq_thread_count; i++) {
        pthread_join(server->cq_threads[i], NULL);
    }
    grpc_server_destroy(server->core);
    for (size_t i = 0; i < RMJ_RPC_CQ_COUNT; i++) {
        grpc_completion_queue_destroy(server->cqs[i]);
    }
}

void rmj_rpc_server_stop(struct rmj_rpc_server *server, int64_t grace_ms)
{
    if (server == NULL) {
        return;
    }
    stop_core(server, grace_ms);
    for (size_t i = 0; i < server->address_count; i++) {
        if (server->address_locks[i] >= 0) {
            (void)unlink(rmj_rpc_unix_path(server->addresses[i]));
            close(server->address_locks[i]);
            server->address_locks[i] = -1;
        }
    }
    grpc_shutdown_blocking();
    rmj_rpc_server_unref(server);
}

void rmj_rpc_server_unref(struct rmj_rpc_server *server)
{
    if (atomic_fetch_sub(&server->references, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < server->entry_count; i++) {
        free(server->entries[i].full_name);
    }
    for (size_t i = 0; i < server->service_count; i++) {
        free(server->service_names[i]);
    }
    for (size_t i = 0; i < server->address_count; i++) {
        free(server->addresses[i]);
    }
    free(server->entries);
    free(server->service_names);
    free(server->addresses);
    free(server->address_locks);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->work_lock);
    pthread_cond_destroy(&server->work_ready);
    free(server);
}
