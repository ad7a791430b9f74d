#include "tests/service/api/daemon.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "proto/text/text_format.h"
#include "service/jobs/db.h"

char daemon_directory[64], daemon_state[80], daemon_bin[80], daemon_address[112], daemon_token_file[96];
pid_t daemon_pid;
struct rmj_rpc_client *daemon_client;

// check: sound unless the spec names /models/bad. prepare: runs until it is killed, or a minute (one that was started
// just before a kill of rmjobd is in no row, and found by nobody here). Ranks cannot start, and say why.
static const char script[] =
    "#!/bin/sh\n"
    "case \"$1\" in\n"
    "check) if grep -q /models/bad \"$3\"; then\n"
    "  echo '{\"findings\":[{\"field\":\"base_model\",\"message\":\"/models/bad: no config.json\","
    "\"exit_code\":6}]}'\n"
    " else echo '{\"pinned\":{\"pairs\":\"10\",\"memory_bytes\":\"1000\"}}'; fi ;;\n"
    "prepare) echo \"token $RMJOB_RANK_TOKEN\"; exec sleep 60 ;;\n"
    "*) echo 't level=error part=rank event=first reason=old'\n"
    " echo 't level=error part=rank event=cannot_start job=j reason=\"cannot make directory /gone\"'\n"
    " echo 't level=info part=rank event=ended'; exit 11 ;;\n"
    "esac\n";

// Starts rmjobd; 0 when it ended before it was ready. complaint: what it said on standard error then.
int daemon_start(const char *fault, const char *const *more, char *complaint, size_t complaint_size)
{
    int out[2], error[2];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(error), 0);
    daemon_pid = fork();
    assert_true(daemon_pid >= 0);
    if (daemon_pid == 0) {
        const char *arguments[16] = {"rmjobd", "--state", daemon_state, "--slots", "2", "--grace", "1s"};
        for (size_t i = 0; more != NULL && more[i] != NULL; i++) {
            arguments[7 + i] = more[i];
        }
        setenv("RMJOB_BIN", daemon_bin, 1);
        if (fault != NULL) {
            setenv("RMJOB_FAULT", fault, 1);
        }
        char *path = getenv("RMJOBD");
        dup2(out[1], STDOUT_FILENO);
        dup2(error[1], STDERR_FILENO);
        close(out[0]);
        close(error[0]);
        execv(path, (char *const *)(uintptr_t)arguments);
        _exit(99);
    }
    close(out[1]);
    close(error[1]);
    char line[512] = "";
    ssize_t got = read(out[0], line, sizeof line - 1);
    int ready = got > 0 && strstr(line, "ready") != NULL;
    if (!ready && complaint != NULL) {
        size_t size = 0;
        ssize_t part;
        while (size + 1 < complaint_size && (part = read(error[0], complaint + size, complaint_size - size - 1)) > 0) {
            size += (size_t)part;
        }
        complaint[size] = '\0';
    }
    close(out[0]);
    if (ready) {
        close(error[0]); // its log is read by nobody from here on: rmj_log does not mind
        assert_int_equal(rmj_rpc_client_create(&daemon_client, daemon_address, NULL, NULL), RMJ_OK);
    } else {
        close(error[0]);
        waitpid(daemon_pid, NULL, 0);
        daemon_pid = 0;
    }
    return ready;
}

void daemon_stop(int signal)
{
    rmj_rpc_client_destroy(daemon_client);
    daemon_client = NULL;
    if (daemon_pid != 0) {
        int code = 0;
        kill(daemon_pid, signal);
        assert_int_equal(waitpid(daemon_pid, &code, 0), daemon_pid);
        daemon_pid = 0;
        // A regular stop is a clean one: sanitizers say so in the exit code.
        assert_true(signal != SIGTERM || (WIFEXITED(code) && WEXITSTATUS(code) == 0));
    }
}

int daemon_set_up(void **unused)
{
    (void)unused;
    char rank[96];
    snprintf(daemon_directory, sizeof daemon_directory, "/tmp/rmj-svc-XXXXXX");
    assert_non_null(mkdtemp(daemon_directory));
    snprintf(daemon_state, sizeof daemon_state, "%s/state", daemon_directory);
    snprintf(daemon_bin, sizeof daemon_bin, "%s/bin", daemon_directory);
    snprintf(rank, sizeof rank, "%s/rmjob-rank", daemon_bin);
    snprintf(daemon_token_file, sizeof daemon_token_file, "%s/token", daemon_directory);
    snprintf(daemon_address, sizeof daemon_address, "unix:%s/rmjobd.sock", daemon_state);
    assert_int_equal(mkdir(daemon_bin, 0700), 0);
    assert_int_equal(rmj_fs_write(rank, script, strlen(script), 0700, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_write(daemon_token_file, "0123456789abcdef\n", 17, 0600, NULL), RMJ_OK);
    return 0;
}

// Whatever was started for the jobs of this state directory.
void daemon_end_launches(void)
{
    char path[96];
    struct rmj_db *db = NULL;
    struct rmj_launch_row *rows = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/rmjobd.db", daemon_state);
    if (rmj_db_open(&db, path, NULL) == RMJ_OK && rmj_db_launches(db, &rows, &count, NULL) == RMJ_OK) {
        for (size_t i = 0; i < count; i++) {
            kill(-rows[i].pid, SIGKILL);
        }
        free(rows);
    }
    rmj_db_close(db);
}

int daemon_tear_down(void **unused)
{
    (void)unused;
    daemon_stop(SIGTERM);
    daemon_end_launches();
    return rmj_fs_remove_tree(daemon_directory, NULL) == RMJ_OK ? 0 : 1;
}

Rmjob__V1__JobSpec *daemon_spec(const char *base_model)
{
    char text[1024];
    struct rmj_text_result *result = rmj_text_result_create();
    Rmjob__V1__JobSpec *spec = NULL;
    struct rmj_error err = {0};
    snprintf(text, sizeof text,
             "{\"api_version\":\"rmjob/v1\",\"name\":\"a-job\",\"base_model\":\"%s\","
             "\"policy_model\":{\"family\":\"llama\",\"parameters\":8000000000},"
             "\"data\":{\"train\":[{\"path\":\"/data/train.jsonl\"}]},"
             "\"evaluate\":{\"rewardbench2\":\"/data/rb2.jsonl\"},\"gate\":{\"rewardbench2\":{\"ties\":0.5}},"
             "\"budget\":{\"max_restarts\":0},\"publish\":{\"name\":\"support-rm\"}}",
             base_model);
    if (rmj_json_parse(&rmjob__v1__job_spec__descriptor, "spec", text, strlen(text), (ProtobufCMessage **)&spec, result,
                       &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    rmj_text_result_destroy(result);
    return spec;
}

enum rmj_status daemon_call(const char *method, const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *descriptor, void *reply, struct rmj_error *err)
{
    return rmj_rpc_call(daemon_client, method, request, descriptor, DAEMON_CALL_MS, (ProtobufCMessage **)reply, NULL,
                        err);
}

enum rmj_status daemon_submit(const char *request_id, const char *base_model, char job[RMJ_ID_SIZE], int *existing,
                              struct rmj_error *err)
{
    Rmjob__V1__SubmitRequest request = RMJOB__V1__SUBMIT_REQUEST__INIT;
    Rmjob__V1__SubmitResponse *reply = NULL;
    request.spec = daemon_spec(base_model);
    request.request_id = (char *)(uintptr_t)request_id;
    enum rmj_status status =
        daemon_call("/rmjob.v1.Jobs/Submit", &request.base, &rmjob__v1__submit_response__descriptor, &reply, err);
    if (status == RMJ_OK) {
        snprintf(job, RMJ_ID_SIZE, "%s", reply->job);
        *existing = reply->existing;
        rmjob__v1__submit_response__free_unpacked(reply, NULL);
    }
    rmjob__v1__job_spec__free_unpacked(request.spec, NULL);
    return status;
}

size_t daemon_job_count(void)
{
    Rmjob__V1__ListJobsRequest request = RMJOB__V1__LIST_JOBS_REQUEST__INIT;
    Rmjob__V1__ListJobsResponse *reply = NULL;
    struct rmj_error err = {0};
    if (daemon_call("/rmjob.v1.Jobs/List", &request.base, &rmjob__v1__list_jobs_response__descriptor, &reply, &err) !=
        RMJ_OK) {
        fail_msg("%s", err.message);
    }
    size_t count = reply->n_jobs;
    rmjob__v1__list_jobs_response__free_unpacked(reply, NULL);
    return count;
}

Rmjob__V1__JobState daemon_state_of(char *job)
{
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    Rmjob__V1__Job *reply = NULL;
    request.job = job;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor, &reply, NULL),
                     RMJ_OK);
    Rmjob__V1__JobState found = reply->state;
    assert_non_null(reply->reason);
    rmjob__v1__job__free_unpacked(reply, NULL);
    return found;
}

void daemon_token_of(const char *job, char token[RMJ_DB_TOKEN_SIZE])
{
    char path[200];
    int64_t until = rmj_clock_mono_ms() + DAEMON_PATIENCE_MS;
    snprintf(path, sizeof path, "%s/jobs/%s/logs/%s-prepare-1.log", daemon_state, job, job);
    for (;;) {
        struct rmj_buf text;
        rmj_buf_init(&text, 4096);
        int found = rmj_fs_read(path, &text, NULL) == RMJ_OK && sscanf(rmj_buf_text(&text), "token %64s", token) == 1 &&
                    strlen(token) == RMJ_DB_TOKEN_SIZE - 1;
        rmj_buf_deinit(&text);
        if (found) {
            return;
        }
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(10);
    }
}

pid_t daemon_prepare_pid(void)
{
    char path[96];
    struct rmj_db *db = NULL;
    struct rmj_launch_row *rows = NULL;
    size_t count = 0;
    int64_t until = rmj_clock_mono_ms() + DAEMON_PATIENCE_MS;
    snprintf(path, sizeof path, "%s/rmjobd.db", daemon_state);
    while (count == 0) {
        assert_true(rmj_clock_mono_ms() < until);
        assert_int_equal(rmj_db_open(&db, path, NULL), RMJ_OK);
        free(rows);
        rows = NULL;
        assert_int_equal(rmj_db_launches(db, &rows, &count, NULL), RMJ_OK);
        rmj_db_close(db);
        rmj_clock_sleep_ms(10);
    }
    pid_t pid = count == 1 ? rows[0].pid : 0;
    free(rows);
    return pid;
}

void daemon_await_another_prepare(pid_t former)
{
    int64_t until = rmj_clock_mono_ms() + DAEMON_PATIENCE_MS;
    for (pid_t pid = former; pid == former || pid == 0; pid = daemon_prepare_pid()) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(10);
    }
}

struct rmj_rpc_stream *daemon_watch(char *job)
{
    Rmjob__V1__WatchRequest request = RMJOB__V1__WATCH_REQUEST__INIT;
    struct rmj_rpc_stream *stream = NULL;
    request.job = job;
    assert_int_equal(rmj_rpc_stream_open(&stream, daemon_client, "/rmjob.v1.Jobs/Watch", &request.base,
                                         &rmjob__v1__event__descriptor, DAEMON_CALL_MS, NULL),
                     RMJ_OK);
    return stream;
}

// Calls in the name of the job's prepare task.
void daemon_say(char *job, const char *method, const ProtobufCMessage *request)
{
    char token[RMJ_DB_TOKEN_SIZE];
    struct rmj_rpc_client *task = NULL;
    ProtobufCMessage *reply = NULL;
    daemon_token_of(job, token);
    assert_int_equal(rmj_rpc_client_create(&task, daemon_address, token, NULL), RMJ_OK);
    assert_int_equal(
        rmj_rpc_call(task, method, request, &rmjob__v1__ack__descriptor, DAEMON_CALL_MS, &reply, NULL, NULL), RMJ_OK);
    protobuf_c_message_free_unpacked(reply, NULL);
    rmj_rpc_client_destroy(task);
}

// With a plan or a finding.
void daemon_say_prepared(char *job, Rmjob__V1__Finding *finding)
{
    char digest[] = "d";
    Rmjob__V1__PreparedRequest request = RMJOB__V1__PREPARED_REQUEST__INIT;
    Rmjob__V1__PlanSummary plan = RMJOB__V1__PLAN_SUMMARY__INIT;
    plan.digest = digest;
    plan.has_pages = plan.has_steps = 1;
    plan.pages = plan.steps = 4;
    request.job = job;
    request.plan = finding == NULL ? &plan : NULL;
    request.findings = &finding;
    request.n_findings = finding != NULL;
    daemon_say(job, "/rmjob.v1.Ranks/Prepared", &request.base);
}
