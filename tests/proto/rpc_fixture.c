#include "tests/proto/rpc_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

void wait_for(atomic_int *value, int wanted)
{
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(value) < wanted) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(2);
    }
}

static void handle_get(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct fixture *f = context;
    const Rmjob__V1__GetJobRequest *get = (const Rmjob__V1__GetJobRequest *)request;
    atomic_fetch_add(&f->handled, 1);
    struct rmj_error err = {0};
    if (get->job != NULL && strncmp(get->job, "fail:", 5) == 0) {
        int status = atoi(get->job + 5);
        const char *text = strchr(get->job + 5, ':') + 1;
        (void)rmj_fail(&err, (enum rmj_status)status, "%s", text);
        Rmjob__V1__Finding finding = RMJOB__V1__FINDING__INIT;
        finding.field = "train.epochs";
        finding.message = "only 1";
        Rmjob__V1__Finding *findings[] = {&finding};
        Rmjob__V1__ValidateResponse response = RMJOB__V1__VALIDATE_RESPONSE__INIT;
        response.n_findings = 1;
        response.findings = findings;
        rmj_call_fail(call, &err, status == RMJ_INVALID ? &response.base : NULL);
        return;
    }
    if (get->job != NULL && strcmp(get->job, "silence") == 0) {
        return;
    }
    if (get->job != NULL && strcmp(get->job, "later") == 0) {
        atomic_store(&f->kept, rmj_call_retain(call));
        return;
    }
    Rmjob__V1__Job job = RMJOB__V1__JOB__INIT;
    job.id = get->job;
    job.reason = (char *)(uintptr_t)rmj_call_peer(call);
    rmj_call_reply(call, &job.base);
}

static void send_event(struct rmj_call *call, uint64_t number, char *text)
{
    Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
    event.has_sequence = 1;
    event.sequence = number;
    event.text = text;
    (void)rmj_call_send(call, &event.base);
}

static void on_cancel(void *context, struct rmj_call *call)
{
    struct fixture *f = context;
    assert_true(rmj_call_cancelled(call));
    rmj_call_release(call);
    atomic_fetch_add(&f->cancels, 1);
}

// "count:N" sends N events and ends; "hold" sends one and stays; "flood" sends until the queue is full.
static void handle_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct fixture *f = context;
    const Rmjob__V1__WatchRequest *watch = (const Rmjob__V1__WatchRequest *)request;
    atomic_fetch_add(&f->handled, 1);
    if (strncmp(watch->job, "count:", 6) == 0) {
        int count = atoi(watch->job + 6);
        for (int i = 1; i <= count; i++) {
            send_event(call, (uint64_t)i, "event");
        }
        rmj_call_finish(call, NULL);
        return;
    }
    if (strcmp(watch->job, "flood") == 0) {
        char *text = calloc(1, 64 * 1024);
        memset(text, 'x', 64 * 1024 - 1);
        Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
        event.text = text;
        enum rmj_status status = RMJ_OK;
        while (status == RMJ_OK && atomic_load(&f->sent) < 100000) {
            status = rmj_call_send(call, &event.base);
            atomic_fetch_add(&f->sent, 1);
        }
        atomic_store(&f->full_seen, status == RMJ_FULL);
        free(text);
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_FULL, "the reader is too slow");
        rmj_call_finish(call, &err);
        return;
    }
    send_event(call, 1, "first");
    rmj_call_retain(call);
    rmj_call_on_cancel(call, on_cancel, f);
}

static enum rmj_status authorize(void *context, const char *full_method, const char *bearer, const char *peer,
                                 struct rmj_error *err)
{
    (void)context;
    (void)full_method;
    assert_non_null(peer);
    if (bearer == NULL || strcmp(bearer, "right") != 0) {
        return rmj_fail(err, RMJ_DENIED, "no valid token; run rmjob login");
    }
    return RMJ_OK;
}

enum rmj_status start_server(struct fixture *f, const char *address, int with_authorize, struct rmj_rpc_server **server,
                             struct rmj_error *err)
{
    const struct rmj_rpc_method methods[] = {
        {.service = "rmjob.v1.Jobs",
         .method = "Get",
         .request = &rmjob__v1__get_job_request__descriptor,
         .response = &rmjob__v1__job__descriptor,
         .handler = handle_get,
         .context = f},
        {.service = "rmjob.v1.Jobs",
         .method = "Watch",
         .request = &rmjob__v1__watch_request__descriptor,
         .response = &rmjob__v1__event__descriptor,
         .server_streaming = 1,
         .handler = handle_watch,
         .context = f},
    };
    const struct rmj_rpc_server_options options = {
        .addresses = &address,
        .address_count = 1,
        .methods = methods,
        .method_count = RMJ_COUNT(methods),
        .authorize = with_authorize ? authorize : NULL,
        .worker_count = 4,
        .call_count_max = 300,
    };
    return rmj_rpc_server_start(server, &options, err);
}

void setup_at(struct fixture *f, const char *address, int with_authorize)
{
    memset(f, 0, sizeof *f);
    snprintf(f->directory, sizeof f->directory, "/tmp/rmjob-rpc-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    char path[96];
    snprintf(path, sizeof path, "unix:%s/socket", f->directory);
    struct rmj_error err = {0};
    if (start_server(f, address == NULL ? path : address, with_authorize, &f->server, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    snprintf(f->address, sizeof f->address, "%s", rmj_rpc_server_address(f->server, 0));
    assert_int_equal(rmj_rpc_client_create(&f->client, f->address, with_authorize ? "right" : NULL, &err), RMJ_OK);
}

void teardown(struct fixture *f)
{
    rmj_rpc_client_destroy(f->client);
    rmj_rpc_server_stop(f->server, 1000);
    char path[128];
    snprintf(path, sizeof path, "%s/socket", f->directory);
    assert_int_not_equal(access(path, F_OK), 0); // a stopped server leaves no socket
    assert_int_equal(rmdir(f->directory), 0);
}

enum rmj_status get(struct rmj_rpc_client *client, char *job, int64_t deadline_ms, Rmjob__V1__Job **reply,
                    ProtobufCMessage **findings, struct rmj_error *err)
{
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = job;
    ProtobufCMessage *message = NULL;
    enum rmj_status status = rmj_rpc_call(client, "/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor,
                                          deadline_ms, &message, findings, err);
    *reply = (Rmjob__V1__Job *)message;
    return status;
}

struct rmj_rpc_stream *watch(struct rmj_rpc_client *client, char *job, int64_t deadline_ms)
{
    Rmjob__V1__WatchRequest request = RMJOB__V1__WATCH_REQUEST__INIT;
    request.job = job;
    struct rmj_rpc_stream *stream = NULL;
    struct rmj_error err = {0};
    assert_int_equal(rmj_rpc_stream_open(&stream, client, "/rmjob.v1.Jobs/Watch", &request.base,
                                         &rmjob__v1__event__descriptor, deadline_ms, &err),
                     RMJ_OK);
    return stream;
}

void expect_event(struct rmj_rpc_stream *stream, uint64_t number)
{
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_OK);
    assert_non_null(message);
    assert_int_equal(((Rmjob__V1__Event *)message)->sequence, number);
    protobuf_c_message_free_unpacked(message, NULL);
}
