// Server and client over unix sockets and TCP: what a caller may rely on.
#include "tests/proto/rpc_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "proto/grpc/health/v1/health.pb-c.h"

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

int main(void)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
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
        cmocka_unit_test(many_threads_share_one_client),
    };
    return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
