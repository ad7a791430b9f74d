// Client processes that die, stop or fall silent, and how soon the server knows.
//
// Called with "--watch ADDRESS" this program is a client process that opens a stream, prints a line for its first
// message and reads on until it is killed.
#include "tests/proto/rpc_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

extern char **environ;
static const char *program;

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
        cmocka_unit_test(a_killed_client_process_is_seen_on_a_unix_socket),
        cmocka_unit_test(a_killed_client_process_is_seen_on_tcp),
        cmocka_unit_test(a_stopped_client_process_is_seen_on_tcp),
        cmocka_unit_test(a_quiet_stream_lives_past_the_keepalive),
    };
    return cmocka_run_group_tests_name("rpc death", tests, NULL, NULL);
}
