// Promises of the local launcher, with a shell script in the place of rmjob-rank.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "service/launch/launch.h"

#define PATIENCE_MS 20000

static char directory[64], program[96], log_path[96];
static struct rmj_launcher *launcher;

static const char script[] = "#!/bin/sh\n"
                             "case \"$1\" in\n"
                             "exit) exit \"$2\" ;;\n"
                             "env) env ;;\n"
                             "sleep) sleep 1000 & echo child $!; wait ;;\n"
                             "sum) echo '{}'; echo talk >&2 ;;\n"
                             "flood) head -c 9000000 /dev/zero; sleep 1000 ;;\n"
                             "data) echo 'rows.jsonl:3: the sides are equal' >&2; exit 6 ;;\n"
                             "hang) sleep 1000 ;;\n"
                             "esac\n";

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rmj-launch-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(program, sizeof program, "%s/rmjob-rank", directory);
    snprintf(log_path, sizeof log_path, "%s/a.log", directory);
    assert_int_equal(rmj_fs_write(program, script, strlen(script), 0700, NULL), RMJ_OK);
    return rmj_launcher_local_create(&launcher, program, NULL) == RMJ_OK ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    launcher->ops->destroy(launcher);
    return rmj_fs_remove_tree(directory, NULL) == RMJ_OK ? 0 : 1;
}

static struct rmj_process start(const char *launch, const char *verb, const char *more)
{
    const char *const arguments[] = {verb, more, NULL};
    struct rmj_launch_request request = {.arguments = arguments, .token = "secret-token", .log_path = log_path};
    struct rmj_process process = {0};
    struct rmj_error err = {0};
    snprintf(request.job, sizeof request.job, "rm-1");
    snprintf(request.launch, sizeof request.launch, "%s", launch);
    if (launcher->ops->start(launcher, &request, &process, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return process;
}

static struct rmj_launch_exit wait_exit(void)
{
    struct rmj_launch_exit exit;
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (launcher->ops->collect(launcher, &exit, 1) == 0) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(5);
    }
    return exit;
}

static void read_log(struct rmj_buf *text)
{
    rmj_buf_init(text, 1 << 20);
    assert_int_equal(rmj_fs_read(log_path, text, NULL), RMJ_OK);
}

static void exit_codes_and_signals_are_told_apart(void **state)
{
    (void)state;
    start("rank-1", "exit", "10");
    struct rmj_launch_exit exit = wait_exit();
    assert_string_equal(exit.launch, "rank-1");
    assert_string_equal(exit.job, "rm-1");
    assert_int_equal(exit.exit_code, RMJ_EXIT_ASKED_TO_LEAVE);
    assert_int_equal(exit.signal, 0);
    start("rank-2", "hang", NULL);
    assert_true(launcher->ops->has(launcher, "rank-2"));
    launcher->ops->kill(launcher, "rank-2", SIGKILL);
    exit = wait_exit();
    assert_int_equal(exit.signal, SIGKILL);
    assert_false(launcher->ops->has(launcher, "rank-2"));
}

static void an_exit_is_told_once_though_another_process_holds_its_watch(void **state)
{
    (void)state;
    start("rank-1", "hang", NULL);
    // As between fork and exec of a task that another thread starts just then.
    pid_t holder = fork();
    assert_true(holder >= 0);
    if (holder == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); // also when an assertion ends this test early
        pause();
        _exit(0);
    }
    launcher->ops->kill(launcher, "rank-1", SIGKILL);
    struct rmj_launch_exit exits[4];
    wait_exit();
    assert_int_equal(launcher->ops->collect(launcher, exits, RMJ_COUNT(exits)), 0);
    kill(holder, SIGKILL);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
}

static void a_rank_gets_its_token_and_nobody_elses(void **state)
{
    (void)state;
    struct rmj_buf text;
    setenv("RMJOB_TOKEN", "of-the-user", 1);
    setenv("AWS_ACCESS_KEY_ID", "key", 1);
    setenv("RMJOB_PARQUET_LIBRARY", "/opt/libduckdb.so", 1); // tasks read .parquet with it
    setenv("RMJOB_FAULT_ONCE", "file", 1);
    setenv("SOME_PASSWORD", "hidden", 1);
    start("rank-1", "env", NULL);
    wait_exit();
    read_log(&text);
    assert_non_null(strstr(rmj_buf_text(&text), "RMJOB_RANK_TOKEN=secret-token\n"));
    assert_non_null(strstr(rmj_buf_text(&text), "AWS_ACCESS_KEY_ID=key\n"));
    assert_non_null(strstr(rmj_buf_text(&text), "RMJOB_PARQUET_LIBRARY=/opt/libduckdb.so\n"));
    assert_non_null(strstr(rmj_buf_text(&text), "RMJOB_FAULT_ONCE=file\n"));
    assert_null(strstr(rmj_buf_text(&text), "of-the-user"));
    assert_null(strstr(rmj_buf_text(&text), "hidden"));
    rmj_buf_deinit(&text);
    unsetenv("RMJOB_TOKEN");
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("RMJOB_PARQUET_LIBRARY");
    unsetenv("RMJOB_FAULT_ONCE");
    unsetenv("SOME_PASSWORD");
}

static pid_t child_of_log(void)
{
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    int child = 0;
    while (child == 0) {
        struct rmj_buf text;
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(5);
        read_log(&text);
        if (sscanf(rmj_buf_text(&text), "child %d\n", &child) != 1) {
            child = 0;
        }
        rmj_buf_deinit(&text);
    }
    return child;
}

// Of a process that may be a zombie of init for a moment.
static void assert_ends(pid_t pid)
{
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    char path[40], line[256];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (;;) {
        FILE *file = fopen(path, "r");
        char *got = file == NULL ? NULL : fgets(line, sizeof line, file);
        if (file != NULL) {
            fclose(file);
        }
        if (got == NULL || strstr(line, ") Z ") != NULL) {
            return;
        }
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(5);
    }
}

static void children_end_with_their_supervisor(void **state)
{
    (void)state;
    struct rmj_process process = start("rank-1", "sleep", NULL);
    pid_t child = child_of_log();
    kill(process.pid, SIGKILL); // the supervisor alone
    wait_exit();
    assert_ends(child);
}

static void a_running_process_is_adopted_and_another_ones_pid_is_not(void **state)
{
    (void)state;
    struct rmj_process process = start("rank-1", "hang", NULL);
    struct rmj_launcher *second = NULL;
    struct rmj_error err = {0};
    assert_int_equal(rmj_launcher_local_create(&second, program, &err), RMJ_OK);
    struct rmj_process recycled = process;
    recycled.start_time += 1;
    assert_int_equal(second->ops->adopt(second, "rm-1", "rank-1", &recycled, &err), RMJ_NOT_FOUND);
    assert_int_equal(second->ops->adopt(second, "rm-1", "rank-1", &process, &err), RMJ_OK);
    assert_true(second->ops->has(second, "rank-1"));
    second->ops->kill(second, "rank-1", SIGKILL);
    struct rmj_launch_exit exit = wait_exit(); // by its parent
    assert_int_equal(exit.signal, SIGKILL);
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (second->ops->collect(second, &exit, 1) == 0) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(5);
    }
    assert_int_equal(exit.exit_code, RMJ_EXIT_UNKNOWN);
    assert_int_equal(second->ops->adopt(second, "rm-1", "rank-1", &process, &err), RMJ_NOT_FOUND);
    second->ops->destroy(second);
}

static void a_log_does_not_grow_without_bound(void **state)
{
    (void)state;
    start("rank-1", "flood", NULL);
    struct rmj_launch_exit exit;
    struct stat about = {0};
    char kept[128];
    snprintf(kept, sizeof kept, "%s.1", log_path);
    int64_t until = rmj_clock_mono_ms() + PATIENCE_MS;
    while (stat(kept, &about) != 0) {
        assert_true(rmj_clock_mono_ms() < until);
        launcher->ops->collect(launcher, &exit, 1);
        rmj_clock_sleep_ms(5);
    }
    assert_int_equal(stat(log_path, &about), 0);
    assert_true(about.st_size <= RMJ_LOG_FILE_SIZE_MAX);
    launcher->ops->kill(launcher, "rank-1", SIGKILL);
    wait_exit();
}

static void a_task_answers_or_its_failure_is_told(void **state)
{
    (void)state;
    struct rmj_buf out;
    struct rmj_error err = {0};
    rmj_buf_init(&out, 1000);
    const char *const sum[] = {"sum", NULL}, *const data[] = {"data", NULL}, *const hang[] = {"hang", NULL};
    const char *const crash[] = {"exit", "1", NULL};
    assert_int_equal(rmj_launch_wait_task(program, sum, PATIENCE_MS, &out, &err), RMJ_OK);
    assert_string_equal(rmj_buf_text(&out), "{}\n");
    assert_int_equal(rmj_launch_wait_task(program, data, PATIENCE_MS, &out, &err), RMJ_DATA);
    assert_string_equal(err.message, "rows.jsonl:3: the sides are equal");
    assert_int_equal(rmj_launch_wait_task(program, crash, PATIENCE_MS, &out, &err), RMJ_INTERNAL);
    assert_int_equal(rmj_launch_wait_task(program, hang, 50, &out, &err), RMJ_TIMEOUT);
    assert_int_equal(rmj_launch_wait_task("/nowhere/rmjob-rank", sum, 50, &out, &err), RMJ_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/rmjob-rank"));
    rmj_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(exit_codes_and_signals_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_exit_is_told_once_though_another_process_holds_its_watch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rank_gets_its_token_and_nobody_elses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(children_end_with_their_supervisor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_running_process_is_adopted_and_another_ones_pid_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_log_does_not_grow_without_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_task_answers_or_its_failure_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
