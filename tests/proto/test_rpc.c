// Server and client over unix sockets and TCP: what a caller may rely on, including deaths and stalls.
//
// Called with "--watch ADDRESS" this program is a client process that opens a stream, prints a line for its first
// message and reads on until it is killed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "proto/grpc/health/v1/health.pb-c.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/client.h"
#include "proto/rpc/server.h"

extern char **environ;
static const char *program;

enum { PATIENCE_MS = 30000 };

// ---- a server with the methods the tests need ----

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

static void wait_for(atomic_int *value, int wanted)
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

static enum rmj_status start_server(struct fixture *f, const char *address, int with_authorize,
                                    struct rmj_rpc_server **server, struct rmj_error *err)
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

static void setup_at(struct fixture *f, const char *address, int with_authorize)
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

static void teardown(struct fixture *f)
{
    rmj_rpc_client_destroy(f->client);
    rmj_rpc_server_stop(f->server, 1000);
    char path[128];
    snprintf(path, sizeof path, "%s/socket", f->directory);
    assert_int_not_equal(access(path, F_OK), 0); // a stopped server leaves no socket
    assert_int_equal(rmdir(f->directory), 0);
}

static enum rmj_status get(struct rmj_rpc_client *client, char *job, int64_t deadline_ms, Rmjob__V1__Job **reply,
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

static struct rmj_rpc_stream *watch(struct rmj_rpc_client *client, char *job, int64_t deadline_ms)
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

static void expect_event(struct rmj_rpc_stream *stream, uint64_t number)
{
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_OK);
    assert_non_null(message);
    assert_int_equal(((Rmjob__V1__Event *)message)->sequence, number);
    protobuf_c_message_free_unpacked(message, NULL);
}

// ---- promises ----

static void a_unary_call_comes_back(void **state)
{
    (void)state;
    const char *addresses[] = {NULL, "127.0.0.1:0"};
    for (size_t i = 0; i < RMJ_COUNT(addresses); i++) {
        struct fixture f;
        setup_at(&f, addresses[i], 0);
        struct rmj_error err = {0};
        Rmjob__V1__Job *job = NULL;
        for (int n = 0; n < 20; n++) {
            assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &job, NULL, &err), RMJ_OK);
            assert_string_equal(job->id, "rm-1");
            assert_int_equal(strncmp(job->reason, i == 0 ? "unix:" : "ipv4:", 5), 0);
            protobuf_c_message_free_unpacked(&job->base, NULL);
        }
        teardown(&f);
    }
}

static void every_status_and_message_survives(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    for (int s = RMJ_OK + 1; s < RMJ_STATUS_COUNT; s++) {
        char job[200];
        snprintf(job, sizeof job, "fail:%d:spec.yaml:3: 100%% of \"%s\" \xc3\xa9 \xff \x01\n is wrong", s,
                 rmj_status_name((enum rmj_status)s));
        struct rmj_error err = {0};
        Rmjob__V1__Job *reply = NULL;
        ProtobufCMessage *findings = NULL;
        assert_int_equal(get(f.client, job, PATIENCE_MS, &reply, &findings, &err), s);
        assert_null(reply);
        assert_int_equal(err.status, s);
        assert_string_equal(err.message, strchr(job + 5, ':') + 1);
        assert_string_equal(err.origin, "grpc");
        if (s == RMJ_INVALID) {
            assert_non_null(findings);
            assert_string_equal(((Rmjob__V1__ValidateResponse *)findings)->findings[0]->field, "train.epochs");
            protobuf_c_message_free_unpacked(findings, NULL);
        } else {
            assert_null(findings);
        }
    }
    teardown(&f);
}

static void a_long_message_survives(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    char job[RMJ_ERROR_MESSAGE_SIZE + 16];
    int prefix = snprintf(job, sizeof job, "fail:%d:", RMJ_DATA);
    memset(job + prefix, 0xfe, RMJ_ERROR_MESSAGE_SIZE - 1);
    job[prefix + RMJ_ERROR_MESSAGE_SIZE - 1] = '\0';
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, job, PATIENCE_MS, &reply, NULL, &err), RMJ_DATA);
    assert_string_equal(err.message, job + prefix);
    teardown(&f);
}

static void an_unknown_method_is_refused_at_once(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    struct rmj_error err = {0};
    ProtobufCMessage *reply = NULL;
    // Without a deadline: were it not answered, this test would hang.
    assert_int_equal(
        rmj_rpc_call(f.client, "/rmjob.v1.Jobs/Fly", &request.base, &rmjob__v1__job__descriptor, 0, &reply, NULL, &err),
        RMJ_INVALID);
    assert_int_equal(err.origin_code, 12);
    assert_non_null(strstr(err.message, "/rmjob.v1.Jobs/Fly"));
    teardown(&f);
}

static void garbage_for_a_request_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    // Field 1 of the event is a number where the method wants a string.
    Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
    event.has_sequence = 1;
    struct rmj_error err = {0};
    ProtobufCMessage *reply = NULL;
    assert_int_equal(rmj_rpc_call(f.client, "/rmjob.v1.Jobs/Get", &event.base, &rmjob__v1__job__descriptor, PATIENCE_MS,
                                  &reply, NULL, &err),
                     RMJ_INVALID);
    assert_non_null(strstr(err.message, "GetJobRequest"));
    teardown(&f);
}

static void a_big_message_passes_and_a_bigger_one_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    size_t size = 8 * 1024 * 1024;
    char *text = malloc(4 * size);
    memset(text, 'a', 4 * size - 1);
    text[size] = '\0';
    assert_int_equal(get(f.client, text, PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
    assert_string_equal(reply->id, text);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    text[size] = 'a';
    text[4 * size - 1] = '\0';
    assert_int_equal(get(f.client, text, PATIENCE_MS, &reply, NULL, &err), RMJ_FULL);
    assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    free(text);
    teardown(&f);
}

static void a_handler_that_forgets_to_answer_ends_the_call(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "silence", 0, &reply, NULL, &err), RMJ_INTERNAL);
    assert_non_null(strstr(err.message, "gave no answer"));
    teardown(&f);
}

static void *answer_later(void *argument)
{
    struct fixture *f = argument;
    struct rmj_call *call = NULL;
    while ((call = atomic_load(&f->kept)) == NULL) {
        rmj_clock_sleep_ms(1);
    }
    Rmjob__V1__Job job = RMJOB__V1__JOB__INIT;
    job.id = "answered later";
    rmj_call_reply(call, &job.base);
    rmj_call_release(call);
    return NULL;
}

static void a_handler_may_answer_later_from_another_thread(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_later, &f), 0);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "later", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
    assert_string_equal(reply->id, "answered later");
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    pthread_join(thread, NULL);
    teardown(&f);
}

static void a_deadline_ends_the_wait(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "later", 100, &reply, NULL, &err), RMJ_TIMEOUT);
    struct rmj_call *call = atomic_load(&f.kept);
    assert_non_null(call);
    // The server sees the deadline too; answering a dead call is harmless.
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (!rmj_call_cancelled(call)) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(2);
    }
    Rmjob__V1__Job job = RMJOB__V1__JOB__INIT;
    rmj_call_reply(call, &job.base);
    rmj_call_release(call);
    teardown(&f);
}

static void no_server_is_unreachable(void **state)
{
    (void)state;
    struct rmj_rpc_client *client = NULL;
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    const char *addresses[] = {"unix:/tmp/rmjob-rpc-nobody/socket", "127.0.0.1:1"};
    for (size_t i = 0; i < RMJ_COUNT(addresses); i++) {
        assert_int_equal(rmj_rpc_client_create(&client, addresses[i], NULL, &err), RMJ_OK);
        assert_int_equal(get(client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_UNREACHABLE);
        assert_non_null(strstr(err.message, addresses[i]));
        rmj_rpc_client_destroy(client);
    }
}

static void bad_addresses_are_refused(void **state)
{
    (void)state;
    const char *addresses[] = {"", "unix:", "localhost", "localhost:", ":80", "localhost:0", "localhost:65536", "a:1x"};
    for (size_t i = 0; i < RMJ_COUNT(addresses); i++) {
        struct rmj_rpc_client *client = NULL;
        struct rmj_error err = {0};
        assert_int_equal(rmj_rpc_client_create(&client, addresses[i], NULL, &err), RMJ_INVALID);
        assert_null(client);
    }
    struct fixture f = {0};
    struct rmj_error err = {0};
    struct rmj_rpc_server *server = NULL;
    assert_int_equal(start_server(&f, "192.0.2.1:7443", 0, &server, &err), RMJ_INVALID);
    assert_int_equal(start_server(&f, "unix:/nowhere/at/all/socket", 0, &server, &err), RMJ_INVALID);
}

static void a_stream_ends_regularly_after_its_messages(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_rpc_stream *stream = watch(f.client, "count:500", PATIENCE_MS);
    for (uint64_t i = 1; i <= 500; i++) {
        expect_event(stream, i);
    }
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_OK);
    assert_null(message);
    rmj_rpc_stream_close(stream);
    teardown(&f);
}

static void a_wait_without_message_says_again_and_goes_on(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_rpc_stream *stream = watch(f.client, "hold", 0);
    expect_event(stream, 1);
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, 20, &message, &err), RMJ_AGAIN);
    rmj_rpc_stream_cancel(stream);
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_CANCELLED);
    rmj_rpc_stream_close(stream);
    wait_for(&f.cancels, 1);
    teardown(&f);
}

static void closing_a_stream_cancels_it_once(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    for (int i = 1; i <= 20; i++) {
        struct rmj_rpc_stream *stream = watch(f.client, "hold", 0);
        expect_event(stream, 1);
        rmj_rpc_stream_close(stream);
        wait_for(&f.cancels, i);
    }
    assert_int_equal(atomic_load(&f.cancels), 20);
    teardown(&f);
}

static void a_slow_reader_fills_a_bounded_queue(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_rpc_stream *stream = watch(f.client, "flood", 0);
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (!atomic_load(&f.full_seen)) { // nothing is read meanwhile
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(2);
    }
    // What was queued still arrives, and then the reason.
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    int received = 0;
    enum rmj_status status;
    while ((status = rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err)) == RMJ_OK) {
        assert_non_null(message);
        protobuf_c_message_free_unpacked(message, NULL);
        received++;
    }
    assert_int_equal(status, RMJ_FULL);
    assert_string_equal(err.message, "the reader is too slow");
    assert_int_equal(received, atomic_load(&f.sent) - 1); // all but the refused one
    rmj_rpc_stream_close(stream);
    teardown(&f);
}

static void more_calls_than_the_bound_are_told_to_try_again(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_rpc_stream *streams[300];
    for (size_t i = 0; i < RMJ_COUNT(streams); i++) {
        streams[i] = watch(f.client, "hold", 0);
        expect_event(streams[i], 1);
    }
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_AGAIN);
    assert_string_equal(err.message, "the server is busy with 300 calls; try again");
    for (size_t i = 0; i < RMJ_COUNT(streams); i++) {
        rmj_rpc_stream_close(streams[i]);
    }
    wait_for(&f.cancels, 300);
    teardown(&f);
}

static void unauthorised_callers_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 1);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    const char *tokens[] = {NULL, "wrong"};
    for (size_t i = 0; i < RMJ_COUNT(tokens); i++) {
        struct rmj_rpc_client *client = NULL;
        assert_int_equal(rmj_rpc_client_create(&client, f.address, tokens[i], &err), RMJ_OK);
        assert_int_equal(get(client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_DENIED);
        assert_int_equal(err.origin_code, 16);
        assert_string_equal(err.message, "no valid token; run rmjob login");
        struct rmj_rpc_stream *stream = watch(client, "hold", 0);
        ProtobufCMessage *message = NULL;
        assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_DENIED);
        rmj_rpc_stream_close(stream);
        // Health needs no token.
        Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
        assert_int_equal(rmj_rpc_call(client, "/grpc.health.v1.Health/Check", &check.base,
                                      &grpc__health__v1__health_check_response__descriptor, PATIENCE_MS, &message, NULL,
                                      &err),
                         RMJ_OK);
        protobuf_c_message_free_unpacked(message, NULL);
        rmj_rpc_client_destroy(client);
    }
    assert_int_equal(atomic_load(&f.handled), 1);
    struct rmj_rpc_client *client = NULL;
    assert_int_equal(rmj_rpc_client_create(&client, f.address, "two\nlines", &err), RMJ_INVALID);
    teardown(&f);
}

static void health_follows_the_server(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    char *names[] = {"", "rmjob.v1.Jobs"};
    for (size_t i = 0; i < RMJ_COUNT(names); i++) {
        check.service = names[i];
        assert_int_equal(rmj_rpc_call(f.client, "/grpc.health.v1.Health/Check", &check.base,
                                      &grpc__health__v1__health_check_response__descriptor, PATIENCE_MS, &message, NULL,
                                      &err),
                         RMJ_OK);
        assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 1);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    check.service = "rmjob.v1.Nobody";
    assert_int_equal(rmj_rpc_call(f.client, "/grpc.health.v1.Health/Check", &check.base,
                                  &grpc__health__v1__health_check_response__descriptor, PATIENCE_MS, &message, NULL,
                                  &err),
                     RMJ_NOT_FOUND);
    check.service = "";
    struct rmj_rpc_stream *stream = NULL;
    assert_int_equal(rmj_rpc_stream_open(&stream, f.client, "/grpc.health.v1.Health/Watch", &check.base,
                                         &grpc__health__v1__health_check_response__descriptor, 0, &err),
                     RMJ_OK);
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_OK);
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 1);
    protobuf_c_message_free_unpacked(message, NULL);
    rmj_rpc_server_stop(f.server, 5000);
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_OK);
    assert_int_equal(((Grpc__Health__V1__HealthCheckResponse *)message)->status, 2);
    protobuf_c_message_free_unpacked(message, NULL);
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_UNREACHABLE);
    rmj_rpc_stream_close(stream);
    f.server = NULL;
    teardown(&f);
}

static void stopping_ends_live_streams_and_unanswered_calls(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_rpc_stream *stream = watch(f.client, "hold", 0);
    expect_event(stream, 1);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "later", 50, &reply, NULL, &err), RMJ_TIMEOUT);
    rmj_rpc_server_stop(f.server, 200);
    f.server = NULL;
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, PATIENCE_MS, &message, &err), RMJ_UNREACHABLE);
    assert_string_equal(err.message, "the service is stopping");
    rmj_rpc_stream_close(stream);
    assert_int_equal(atomic_load(&f.cancels), 1);
    // A handle outlives its server.
    struct rmj_call *call = atomic_load(&f.kept);
    assert_true(rmj_call_cancelled(call));
    assert_non_null(rmj_call_peer(call));
    rmj_call_release(call);
    assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_UNREACHABLE);
    teardown(&f);
}

static void a_client_reconnects_to_a_restarted_server(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    struct rmj_error err = {0};
    Rmjob__V1__Job *reply = NULL;
    assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    rmj_rpc_server_stop(f.server, 100);
    assert_int_equal(start_server(&f, f.address, 0, &f.server, &err), RMJ_OK);
    enum rmj_status status;
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while ((status = get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err)) == RMJ_UNREACHABLE) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(20);
    }
    assert_int_equal(status, RMJ_OK);
    protobuf_c_message_free_unpacked(&reply->base, NULL);
    teardown(&f);
}

static void an_address_in_use_is_a_conflict(void **state)
{
    (void)state;
    const char *addresses[] = {NULL, "127.0.0.1:0"};
    for (size_t i = 0; i < RMJ_COUNT(addresses); i++) {
        struct fixture f;
        setup_at(&f, addresses[i], 0);
        struct rmj_rpc_server *second = NULL;
        struct rmj_error err = {0};
        assert_int_equal(start_server(&f, f.address, 0, &second, &err), RMJ_CONFLICT);
        assert_null(second);
        char owner[64];
        snprintf(owner, sizeof owner, "in use by process %d", (int)getpid());
        assert_non_null(strstr(err.message, owner));
        // The first one is unharmed.
        Rmjob__V1__Job *reply = NULL;
        assert_int_equal(get(f.client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
        protobuf_c_message_free_unpacked(&reply->base, NULL);
        teardown(&f);
    }
}

static void a_dead_servers_socket_is_replaced_and_a_file_is_not(void **state)
{
    (void)state;
    char directory[] = "/tmp/rmjob-rpc-XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s/socket", directory);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&name, sizeof name), 0);
    close(dead);
    char address[128];
    snprintf(address, sizeof address, "unix:%s", name.sun_path);
    struct fixture f = {0};
    struct rmj_rpc_server *server = NULL;
    struct rmj_error err = {0};
    assert_int_equal(start_server(&f, address, 0, &server, &err), RMJ_OK);
    struct stat info;
    assert_int_equal(stat(name.sun_path, &info), 0);
    assert_int_equal(info.st_mode & 0077, 0); // nobody else may connect
    rmj_rpc_server_stop(server, 0);
    FILE *file = fopen(name.sun_path, "w");
    fclose(file);
    assert_int_equal(start_server(&f, address, 0, &server, &err), RMJ_INVALID);
    assert_non_null(strstr(err.message, "not a socket"));
    assert_int_equal(unlink(name.sun_path), 0);
    assert_int_equal(rmdir(directory), 0);
}

// ---- other processes ----

static int watch_process(const char *address)
{
    struct rmj_rpc_client *client = NULL;
    struct rmj_rpc_stream *stream = NULL;
    struct rmj_error err = {0};
    Rmjob__V1__WatchRequest request = RMJOB__V1__WATCH_REQUEST__INIT;
    request.job = "hold";
    if (rmj_rpc_client_create(&client, address, NULL, &err) != RMJ_OK ||
        rmj_rpc_stream_open(&stream, client, "/rmjob.v1.Jobs/Watch", &request.base, &rmjob__v1__event__descriptor, 0,
                            &err) != RMJ_OK) {
        return 1;
    }
    ProtobufCMessage *message = NULL;
    while (rmj_rpc_stream_next(stream, -1, &message, &err) == RMJ_OK && message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
        if (write(STDOUT_FILENO, "1\n", 2) != 2) {
            return 1;
        }
    }
    return 1;
}

// A client process whose stream has received its first message.
static pid_t start_watcher(const char *address)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    char *arguments[] = {(char *)(uintptr_t)program, "--watch", (char *)(uintptr_t)address, NULL};
    pid_t pid = 0;
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    char line[2];
    assert_int_equal(read(ends[0], line, 2), 2);
    close(ends[0]);
    return pid;
}

static void a_killed_client_process_is_seen(const char *address)
{
    struct fixture f;
    setup_at(&f, address, 0);
    for (int i = 1; i <= 3; i++) {
        pid_t pid = start_watcher(f.address);
        assert_int_equal(atomic_load(&f.cancels), i - 1);
        int64_t killed_ms = rmj_clock_mono_ms();
        assert_int_equal(kill(pid, SIGKILL), 0);
        wait_for(&f.cancels, i);
        printf("killed client seen after %lld ms\n", (long long)(rmj_clock_mono_ms() - killed_ms));
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    teardown(&f);
}

static void a_killed_client_process_is_seen_on_a_unix_socket(void **state)
{
    (void)state;
    a_killed_client_process_is_seen(NULL);
}

static void a_killed_client_process_is_seen_on_tcp(void **state)
{
    (void)state;
    a_killed_client_process_is_seen("127.0.0.1:0");
}

// Only the keepalive can see it: the kernel goes on acknowledging for a stopped process.
static void a_stopped_client_process_is_seen_on_tcp(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, "127.0.0.1:0", 0);
    pid_t pid = start_watcher(f.address);
    int64_t stopped_ms = rmj_clock_mono_ms();
    assert_int_equal(kill(pid, SIGSTOP), 0);
    wait_for(&f.cancels, 1);
    printf("stopped client seen after %lld ms\n", (long long)(rmj_clock_mono_ms() - stopped_ms));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    teardown(&f);
}

// A quiet stream must not be mistaken for a dead one.
static void a_quiet_stream_lives_past_the_keepalive(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, "127.0.0.1:0", 0);
    struct rmj_rpc_stream *stream = watch(f.client, "hold", 0);
    expect_event(stream, 1);
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, 12000, &message, &err), RMJ_AGAIN);
    assert_int_equal(atomic_load(&f.cancels), 0);
    rmj_rpc_stream_close(stream);
    teardown(&f);
}

static void *hammer(void *argument)
{
    struct fixture *f = argument;
    for (int i = 0; i < 50; i++) {
        struct rmj_error err = {0};
        Rmjob__V1__Job *reply = NULL;
        assert_int_equal(get(f->client, "rm-1", PATIENCE_MS, &reply, NULL, &err), RMJ_OK);
        protobuf_c_message_free_unpacked(&reply->base, NULL);
        struct rmj_rpc_stream *stream = watch(f->client, i % 2 == 0 ? "hold" : "count:5", 0);
        expect_event(stream, 1);
        rmj_rpc_stream_close(stream);
    }
    return NULL;
}

static void many_threads_share_one_client(void **state)
{
    (void)state;
    struct fixture f;
    setup_at(&f, NULL, 0);
    pthread_t threads[8];
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &f), 0);
    }
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    wait_for(&f.cancels, 8 * 25);
    teardown(&f);
}

int main(int argc, char **argv)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    program = argv[0];
    if (argc == 3 && strcmp(argv[1], "--watch") == 0) {
        return watch_process(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unary_call_comes_back),
        cmocka_unit_test(every_status_and_message_survives),
        cmocka_unit_test(a_long_message_survives),
        cmocka_unit_test(an_unknown_method_is_refused_at_once),
        cmocka_unit_test(garbage_for_a_request_is_refused),
        cmocka_unit_test(a_big_message_passes_and_a_bigger_one_is_refused),
        cmocka_unit_test(a_handler_that_forgets_to_answer_ends_the_call),
        cmocka_unit_test(a_handler_may_answer_later_from_another_thread),
        cmocka_unit_test(a_deadline_ends_the_wait),
        cmocka_unit_test(no_server_is_unreachable),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(a_stream_ends_regularly_after_its_messages),
        cmocka_unit_test(a_wait_without_message_says_again_and_goes_on),
        cmocka_unit_test(closing_a_stream_cancels_it_once),
        cmocka_unit_test(a_slow_reader_fills_a_bounded_queue),
        cmocka_unit_test(more_calls_than_the_bound_are_told_to_try_again),
        cmocka_unit_test(unauthorised_callers_are_refused),
        cmocka_unit_test(health_follows_the_server),
        cmocka_unit_test(stopping_ends_live_streams_and_unanswered_calls),
        cmocka_unit_test(a_client_reconnects_to_a_restarted_server),
        cmocka_unit_test(an_address_in_use_is_a_conflict),
        cmocka_unit_test(a_dead_servers_socket_is_replaced_and_a_file_is_not),
        cmocka_unit_test(a_killed_client_process_is_seen_on_a_unix_socket),
        cmocka_unit_test(a_killed_client_process_is_seen_on_tcp),
        cmocka_unit_test(a_stopped_client_process_is_seen_on_tcp),
        cmocka_unit_test(a_quiet_stream_lives_past_the_keepalive),
        cmocka_unit_test(many_threads_share_one_client),
    };
    return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
