// Promises of rmjobd as a whole, over its real socket, with a shell script in the place of rmjob-rank: submit is
// idempotent and leaves nothing when it refuses, one rmjobd a directory, tokens, restart with re-adoption, kill -9 at
// every database write.
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
#include "base/version.h"
#include "proto/rpc/client.h"
#include "proto/text/text_format.h"
#include "service/jobs/db.h"
#include "tests/service/api/daemon.h"

static void submit_is_idempotent_and_durable(void **unused)
{
    (void)unused;
    char first[RMJ_ID_SIZE], again[RMJ_ID_SIZE], after[RMJ_ID_SIZE];
    int existing = 0;
    struct rmj_error err = {0};
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    if (daemon_submit("request-1", "/models/base", first, &existing, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    assert_false(existing);
    assert_int_equal(daemon_submit("request-1", "/models/base", again, &existing, &err), RMJ_OK);
    assert_true(existing);
    assert_string_equal(first, again);
    daemon_stop(SIGKILL);
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", after, &existing, &err), RMJ_OK);
    assert_true(existing);
    assert_string_equal(first, after);
    assert_int_equal(daemon_job_count(), 1);
    assert_int_equal(daemon_state_of(first), RMJOB__V1__JOB_STATE__PREPARING);
}

static void a_refused_spec_leaves_nothing(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE], path[128];
    int existing = 0;
    struct rmj_error err = {0};
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "relative", job, &existing, &err), RMJ_INVALID);
    assert_non_null(strstr(err.message, "base_model is \"relative\""));
    assert_int_equal(daemon_submit("request-1", "/models/bad", job, &existing, &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "no config.json"));
    assert_int_equal(daemon_job_count(), 0);
    static const char *const absent[] = {"checkpoints", "artifacts"};
    for (size_t i = 0; i < RMJ_COUNT(absent); i++) {
        snprintf(path, sizeof path, "%s/%s", daemon_state, absent[i]);
        assert_false(rmj_fs_exists(path));
    }
    snprintf(path, sizeof path, "%s/jobs", daemon_state);
    assert_int_equal(rmdir(path), 0); // empty
    assert_int_equal(mkdir(path, 0700), 0);
    // The same request, mended, is taken.
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, &err), RMJ_OK);
    assert_false(existing);
}

static void a_second_rmjobd_is_refused_and_names_the_first(void **unused)
{
    (void)unused;
    char complaint[1024], pid[32];
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    pid_t first = daemon_pid;
    struct rmj_rpc_client *first_client = daemon_client;
    assert_false(daemon_start(NULL, NULL, complaint, sizeof complaint));
    snprintf(pid, sizeof pid, "pid %d", (int)first);
    assert_non_null(strstr(complaint, "another rmjobd"));
    assert_non_null(strstr(complaint, pid));
    daemon_pid = first;
    daemon_client = first_client;
    assert_int_equal(daemon_job_count(), 0); // the first is well
}

static void a_network_address_needs_a_token(void **unused)
{
    (void)unused;
    char complaint[1024];
    const char *const open[] = {"--listen", "127.0.0.1:0", NULL};
    assert_false(daemon_start(NULL, open, complaint, sizeof complaint));
    assert_non_null(strstr(complaint, "--token-file"));
    const char *const closed[] = {"--listen", "127.0.0.1:0", "--token-file", daemon_token_file, NULL};
    assert_true(daemon_start(NULL, closed, NULL, 0));
    // The port is in the card.
    struct rmj_buf card;
    char path[128], network[64];
    rmj_buf_init(&card, 4096);
    snprintf(path, sizeof path, "%s/rmjobd.json", daemon_state);
    assert_int_equal(rmj_fs_read(path, &card, NULL), RMJ_OK);
    const char *at = strstr(rmj_buf_text(&card), "127.0.0.1:");
    assert_non_null(at);
    snprintf(network, sizeof network, "%.*s", (int)strcspn(at, "\""), at);
    rmj_buf_deinit(&card);
    static const struct {
        const char *token;
        enum rmj_status status;
    } cases[] = {{NULL, RMJ_DENIED}, {"0123456789abcdeX", RMJ_DENIED}, {"0123456789abcdef", RMJ_OK}};
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct rmj_rpc_client *remote = NULL;
        Rmjob__V1__ListJobsRequest request = RMJOB__V1__LIST_JOBS_REQUEST__INIT;
        ProtobufCMessage *reply = NULL;
        struct rmj_error err = {0};
        assert_int_equal(rmj_rpc_client_create(&remote, network, cases[i].token, NULL), RMJ_OK);
        assert_int_equal(rmj_rpc_call(remote, "/rmjob.v1.Jobs/List", &request.base,
                                      &rmjob__v1__list_jobs_response__descriptor, DAEMON_CALL_MS, &reply, NULL, &err),
                         cases[i].status);
        if (reply != NULL) {
            protobuf_c_message_free_unpacked(reply, NULL);
        }
        rmj_rpc_client_destroy(remote);
    }
    // The state directory and the socket are their owner's alone.
    struct stat about;
    assert_int_equal(stat(daemon_state, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0700);
    assert_int_equal(stat(daemon_address + 5, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
}

// What the script wrote into its log: the token of the job, once it runs.
static enum rmj_status get_task(const char *bearer, char *job)
{
    struct rmj_rpc_client *rank = NULL;
    Rmjob__V1__TaskRequest request = RMJOB__V1__TASK_REQUEST__INIT;
    request.version = RMJ_VERSION;
    ProtobufCMessage *reply = NULL;
    request.job = job;
    assert_int_equal(rmj_rpc_client_create(&rank, daemon_address, bearer, NULL), RMJ_OK);
    enum rmj_status status = rmj_rpc_call(rank, "/rmjob.v1.Ranks/GetTask", &request.base,
                                          &rmjob__v1__task_spec__descriptor, DAEMON_CALL_MS, &reply, NULL, NULL);
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    rmj_rpc_client_destroy(rank);
    return status;
}

static void a_rank_speaks_for_its_own_job_only(void **unused)
{
    (void)unused;
    char first[RMJ_ID_SIZE], second[RMJ_ID_SIZE], unknown[] = "rm-none";
    char first_token[RMJ_DB_TOKEN_SIZE], second_token[RMJ_DB_TOKEN_SIZE];
    int existing;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", first, &existing, NULL), RMJ_OK);
    assert_int_equal(daemon_submit("request-2", "/models/base", second, &existing, NULL), RMJ_OK);
    daemon_token_of(first, first_token);
    daemon_token_of(second, second_token);
    assert_string_not_equal(first_token, second_token);
    assert_int_equal(get_task(first_token, first), RMJ_OK);
    assert_int_equal(get_task(second_token, first), RMJ_DENIED);
    assert_int_equal(get_task(first_token, second), RMJ_DENIED);
    assert_int_equal(get_task(NULL, first), RMJ_DENIED);
    assert_int_equal(get_task(first_token, unknown), RMJ_DENIED);
}

static void processes_outlive_rmjobd_and_are_adopted(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE];
    int existing;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, NULL), RMJ_OK);
    pid_t pid = daemon_prepare_pid();
    assert_true(pid > 0);
    daemon_stop(SIGKILL);
    assert_int_equal(kill(pid, 0), 0);
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_state_of(job), RMJOB__V1__JOB_STATE__PREPARING);
    assert_int_equal(daemon_prepare_pid(), pid); // no second one was started
    daemon_stop(SIGTERM);
    assert_int_equal(kill(pid, 0), 0); // a stop leaves it running too
    // One that dies while rmjobd is away is started again.
    kill(-pid, SIGKILL);
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    daemon_await_another_prepare(pid);
}

static void watch_replays_and_ends_with_the_job(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE];
    int existing;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, NULL), RMJ_OK);
    struct rmj_rpc_stream *stream = daemon_watch(job);
    Rmjob__V1__Event *event = NULL;
    assert_int_equal(rmj_rpc_stream_next(stream, DAEMON_CALL_MS, (ProtobufCMessage **)&event, NULL), RMJ_OK);
    assert_int_equal(event->sequence, 1);
    assert_int_equal(event->state, RMJOB__V1__JOB_STATE__PREPARING);
    rmjob__v1__event__free_unpacked(event, NULL);
    Rmjob__V1__CancelRequest cancel = RMJOB__V1__CANCEL_REQUEST__INIT;
    Rmjob__V1__Job *reply = NULL;
    char why[] = "not needed any more";
    cancel.job = job;
    cancel.reason = why;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/Cancel", &cancel.base, &rmjob__v1__job__descriptor, &reply, NULL),
                     RMJ_OK);
    assert_int_equal(reply->state, RMJOB__V1__JOB_STATE__CANCELLED);
    assert_non_null(strstr(reply->reason, why));
    rmjob__v1__job__free_unpacked(reply, NULL);
    uint64_t last = 1;
    Rmjob__V1__JobState ended = RMJOB__V1__JOB_STATE__PREPARING;
    while (rmj_rpc_stream_next(stream, DAEMON_CALL_MS, (ProtobufCMessage **)&event, NULL) == RMJ_OK && event != NULL) {
        assert_true(event->sequence > last);
        last = event->sequence;
        ended = event->state;
        rmjob__v1__event__free_unpacked(event, NULL);
    }
    assert_int_equal(ended, RMJOB__V1__JOB_STATE__CANCELLED);
    rmj_rpc_stream_close(stream);
    struct rmj_error err = {0};
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/Cancel", &cancel.base, &rmjob__v1__job__descriptor, &reply, &err),
                     RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "has ended already: CANCELLED"));
}

static void logs_end_and_hold_every_file_of_a_job_with_many_processes(void **unused)
{
    (void)unused;
    enum { FILES = 40, SIZE = 50000 };
    char job[RMJ_ID_SIZE], path[200], *bytes = malloc(SIZE);
    int existing;
    size_t got = 0, names = 0;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, NULL), RMJ_OK);
    assert_true(daemon_prepare_pid() > 0); // the folder of logs is there
    memset(bytes, '.', SIZE);
    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/jobs/%s/logs/rank-%d-0.log", daemon_state, job, i);
        assert_int_equal(rmj_fs_write(path, bytes, SIZE, 0600, NULL), RMJ_OK);
    }
    free(bytes);
    Rmjob__V1__LogsRequest request = RMJOB__V1__LOGS_REQUEST__INIT;
    struct rmj_rpc_stream *stream = NULL;
    Rmjob__V1__LogChunk *chunk = NULL;
    char last[RMJ_ID_SIZE] = "";
    request.job = job;
    assert_int_equal(rmj_rpc_stream_open(&stream, daemon_client, "/rmjob.v1.Jobs/Logs", &request.base,
                                         &rmjob__v1__log_chunk__descriptor, DAEMON_CALL_MS, NULL),
                     RMJ_OK);
    enum rmj_status status;
    while ((status = rmj_rpc_stream_next(stream, DAEMON_CALL_MS, (ProtobufCMessage **)&chunk, NULL)) == RMJ_OK &&
           chunk != NULL) {
        if (strncmp(chunk->rank, "rank-", 5) == 0) {
            got += chunk->data.len;
            names += strcmp(chunk->rank, last) != 0;
            snprintf(last, sizeof last, "%s", chunk->rank);
        }
        rmjob__v1__log_chunk__free_unpacked(chunk, NULL);
    }
    rmj_rpc_stream_close(stream);
    assert_int_equal(status, RMJ_OK); // the regular end, without being asked to follow
    assert_int_equal(names, FILES);
    assert_int_equal(got, (size_t)FILES * SIZE);
}

static void more_ranks_than_slots_are_refused_at_submit_and_at_resize(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE];
    int existing;
    struct rmj_error err = {0};
    assert_true(daemon_start(NULL, NULL, NULL, 0)); // with two slots
    Rmjob__V1__SubmitRequest request = RMJOB__V1__SUBMIT_REQUEST__INIT;
    Rmjob__V1__ElasticSpec elastic = RMJOB__V1__ELASTIC_SPEC__INIT;
    ProtobufCMessage *reply = NULL;
    elastic.has_min_ranks = elastic.has_max_ranks = 1;
    elastic.min_ranks = 3;
    elastic.max_ranks = 4;
    request.spec = daemon_spec("/models/base");
    request.spec->elastic = &elastic;
    assert_int_equal(
        daemon_call("/rmjob.v1.Jobs/Submit", &request.base, &rmjob__v1__submit_response__descriptor, &reply, &err),
        RMJ_INVALID);
    assert_non_null(strstr(err.message, "elastic.min_ranks is 3, and this service has 2 rank slots"));
    request.spec->elastic = NULL;
    rmjob__v1__job_spec__free_unpacked(request.spec, NULL);
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, &err), RMJ_OK);
    Rmjob__V1__ResizeRequest resize = RMJOB__V1__RESIZE_REQUEST__INIT;
    resize.job = job;
    resize.has_min_ranks = resize.has_max_ranks = 1;
    resize.min_ranks = resize.max_ranks = 3;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/Resize", &resize.base, &rmjob__v1__job__descriptor, &reply, &err),
                     RMJ_INVALID);
    assert_non_null(strstr(err.message, "this service has 2 rank slots"));
}

static void say_preparing(char *job, uint64_t rows, int resumed)
{
    Rmjob__V1__PreparingRequest request = RMJOB__V1__PREPARING_REQUEST__INIT;
    request.job = job;
    request.has_rows = request.has_file = request.has_files = request.has_resumed = 1;
    request.rows = rows;
    request.file = request.files = 1;
    request.resumed = resumed;
    daemon_say(job, "/rmjob.v1.Ranks/Preparing", &request.base);
}

static void a_preparation_that_is_gone_on_with_is_told_once(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE];
    int existing;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, NULL), RMJ_OK);
    say_preparing(job, 10, 0);
    pid_t pid = daemon_prepare_pid();
    kill(-pid, SIGKILL);
    daemon_await_another_prepare(pid);
    say_preparing(job, 7, 1);
    say_preparing(job, 8, 1);
    struct rmj_rpc_stream *stream = daemon_watch(job);
    size_t told = 0;
    for (int at_end = 0; !at_end;) {
        Rmjob__V1__Event *event = NULL;
        assert_int_equal(rmj_rpc_stream_next(stream, DAEMON_CALL_MS, (ProtobufCMessage **)&event, NULL), RMJ_OK);
        told += strcmp(event->text, "a preparation that was stopped is gone on with, at row 7") == 0;
        at_end = strcmp(event->text, "read 8 rows, file 1 of 1") == 0;
        rmjob__v1__event__free_unpacked(event, NULL);
    }
    assert_int_equal(told, 1);
    rmj_rpc_stream_close(stream);
}

static void a_prepare_that_could_not_work_is_no_failure_of_the_data(void **unused)
{
    (void)unused;
    static char field[] = "data.train[0].path", message[] = "cannot make directory /gone";
    static const struct {
        char *field;
        uint32_t exit_code;
        Rmjob__V1__JobState state;
    } cases[] = {
        {NULL, 2, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE},  {NULL, 7, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE},
        {NULL, 1, RMJOB__V1__JOB_STATE__FAILED_INTERNAL},        {NULL, 6, RMJOB__V1__JOB_STATE__FAILED_DATA},
        {field, 2, RMJOB__V1__JOB_STATE__FAILED_DATA},           {field, 6, RMJOB__V1__JOB_STATE__FAILED_DATA},
        {field, 7, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE},
    };
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char job[RMJ_ID_SIZE];
        int existing;
        Rmjob__V1__Finding finding = RMJOB__V1__FINDING__INIT;
        finding.field = cases[i].field;
        finding.message = message;
        finding.has_exit_code = 1;
        finding.exit_code = cases[i].exit_code;
        assert_int_equal(daemon_submit(NULL, "/models/base", job, &existing, NULL), RMJ_OK);
        daemon_say_prepared(job, &finding);
        assert_int_equal(daemon_state_of(job), cases[i].state);
    }
}

static void the_last_error_of_a_rank_is_in_the_reason_of_its_job(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE];
    int existing;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, NULL), RMJ_OK);
    daemon_say_prepared(job, NULL);
    int64_t until = rmj_clock_mono_ms() + DAEMON_PATIENCE_MS;
    while (daemon_state_of(job) != RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE) {
        assert_true(rmj_clock_mono_ms() < until);
        rmj_clock_sleep_ms(10);
    }
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    Rmjob__V1__Job *reply = NULL;
    request.job = job;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor, &reply, NULL),
                     RMJ_OK);
    assert_non_null(strstr(reply->reason, "exit code 11: cannot make directory /gone;"));
    rmjob__v1__job__free_unpacked(reply, NULL);
}

static void while_the_state_cannot_be_written_reads_go_on_and_changes_are_refused_by_name(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE], again[RMJ_ID_SIZE];
    int existing;
    struct rmj_error err = {0};
    // The layout and the first submission are written, nothing after them.
    assert_true(daemon_start("db.write@3+=error", NULL, NULL, 0));
    if (daemon_submit("request-1", "/models/base", job, &existing, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    Rmjob__V1__CancelRequest cancel = RMJOB__V1__CANCEL_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    cancel.job = job;
    // At first the owner may not have met it yet, and then takes a cancel that it cannot answer: a short wait.
    enum rmj_status status = RMJ_TIMEOUT;
    for (int64_t until = rmj_clock_mono_ms() + DAEMON_PATIENCE_MS; status == RMJ_TIMEOUT;) {
        assert_true(rmj_clock_mono_ms() < until);
        status = rmj_rpc_call(daemon_client, "/rmjob.v1.Jobs/Cancel", &cancel.base, &rmjob__v1__job__descriptor, 500,
                              &reply, NULL, &err);
    }
    assert_int_equal(rmj_status_exit_code(status), 7);
    assert_non_null(strstr(err.message, "nothing was changed: the service cannot write its state in"));
    assert_int_equal(rmj_status_exit_code(daemon_submit("request-2", "/models/base", again, &existing, &err)), 7);
    assert_non_null(strstr(err.message, "cannot write its state"));
    Rmjob__V1__ServerInfoRequest ask = RMJOB__V1__SERVER_INFO_REQUEST__INIT;
    assert_int_equal(
        daemon_call("/rmjob.v1.Jobs/GetServerInfo", &ask.base, &rmjob__v1__server_info__descriptor, &reply, &err),
        RMJ_OK);
    protobuf_c_message_free_unpacked(reply, NULL);
    assert_int_equal(daemon_job_count(), 1);
    assert_int_equal(daemon_state_of(job), RMJOB__V1__JOB_STATE__PREPARING);
}

static void another_version_is_refused_with_both_named(void **unused)
{
    (void)unused;
    Rmjob__V1__ServerInfoRequest request = RMJOB__V1__SERVER_INFO_REQUEST__INIT;
    Rmjob__V1__ServerInfo *info = NULL;
    struct rmj_error err = {0};
    char other[] = "9.9.0", same[] = RMJ_VERSION;
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    request.client_version = other;
    assert_int_equal(
        daemon_call("/rmjob.v1.Jobs/GetServerInfo", &request.base, &rmjob__v1__server_info__descriptor, &info, &err),
        RMJ_INVALID);
    assert_non_null(strstr(err.message, "9.9.0"));
    assert_non_null(strstr(err.message, RMJ_VERSION));
    request.client_version = same;
    assert_int_equal(
        daemon_call("/rmjob.v1.Jobs/GetServerInfo", &request.base, &rmjob__v1__server_info__descriptor, &info, &err),
        RMJ_OK);
    assert_int_equal(info->protocol, RMJ_PROTOCOL);
    assert_non_null(strstr(info->signing_key_pem, "BEGIN PUBLIC KEY"));
    rmjob__v1__server_info__free_unpacked(info, NULL);
}

static void policies_are_kept_and_bind(void **unused)
{
    (void)unused;
    char job[RMJ_ID_SIZE], project[] = "default";
    int existing;
    struct rmj_error err = {0};
    assert_true(daemon_start(NULL, NULL, NULL, 0));
    Rmjob__V1__GetPolicyRequest get = RMJOB__V1__GET_POLICY_REQUEST__INIT;
    Rmjob__V1__SetPolicyRequest set = RMJOB__V1__SET_POLICY_REQUEST__INIT;
    Rmjob__V1__Policy *reply = NULL;
    get.project = project;
    assert_int_equal(
        daemon_call("/rmjob.v1.Jobs/GetPolicy", &get.base, &rmjob__v1__policy__descriptor, &set.policy, &err), RMJ_OK);
    assert_true(set.policy->floors->rewardbench2->math > 0.25);
    set.policy->floors->rewardbench2->has_ties = 1;
    set.policy->floors->rewardbench2->ties = 0.9;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/SetPolicy", &set.base, &rmjob__v1__policy__descriptor, &reply, &err),
                     RMJ_OK);
    rmjob__v1__policy__free_unpacked(reply, NULL);
    assert_int_equal(daemon_submit("request-1", "/models/base", job, &existing, &err), RMJ_INVALID);
    assert_non_null(strstr(err.message, "ties"));
    set.policy->floors->rewardbench2->math = 0.2;
    assert_int_equal(daemon_call("/rmjob.v1.Jobs/SetPolicy", &set.base, &rmjob__v1__policy__descriptor, &reply, &err),
                     RMJ_INVALID);
    assert_non_null(strstr(err.message, "not above chance"));
    rmjob__v1__policy__free_unpacked(set.policy, NULL);
}

static void kill_9_at_every_database_write_loses_no_answered_job(void **unused)
{
    (void)unused;
    static const char *const points[] = {"db.write", "db.committed"};
    for (size_t p = 0; p < RMJ_COUNT(points); p++) {
        int kills = 0;
        for (int at = 1, survived = 0; !survived; at++) {
            char fault[64], job[RMJ_ID_SIZE] = "", again[RMJ_ID_SIZE];
            int existing = 0, answered = 0;
            snprintf(fault, sizeof fault, "%s@%d=kill", points[p], at);
            assert_int_equal(rmj_fs_remove_tree(daemon_state, NULL), RMJ_OK);
            if (daemon_start(fault, NULL, NULL, 0)) {
                answered = daemon_submit("request-1", "/models/base", job, &existing, NULL) == RMJ_OK;
                if (answered) {
                    Rmjob__V1__CancelRequest cancel = RMJOB__V1__CANCEL_REQUEST__INIT;
                    Rmjob__V1__Job *reply = NULL;
                    cancel.job = job;
                    survived = daemon_call("/rmjob.v1.Jobs/Cancel", &cancel.base, &rmjob__v1__job__descriptor, &reply,
                                           NULL) == RMJ_OK;
                    if (reply != NULL) {
                        rmjob__v1__job__free_unpacked(reply, NULL);
                    }
                }
                daemon_stop(SIGKILL);
            }
            kills += !survived;
            assert_true(daemon_start(NULL, NULL, NULL, 0));
            struct rmj_error err = {0};
            if (daemon_submit("request-1", "/models/base", again, &existing, &err) != RMJ_OK) {
                fail_msg("%s: %s", fault, err.message);
            }
            if (answered) {
                assert_true(existing);
                assert_string_equal(again, job);
            }
            if (survived) {
                assert_int_equal(daemon_state_of(again), RMJOB__V1__JOB_STATE__CANCELLED);
            }
            assert_int_equal(daemon_job_count(), 1);
            daemon_stop(SIGKILL);
            daemon_end_launches();
            assert_true(at < 40);
        }
        assert_true(kills >= 2); // the submission and the cancellation at least; others may share a turn
    }
}

static char *program(void)
{
    const char *folder = getenv("RMJOB_BIN");
    return rmj_fs_join(folder == NULL ? "build/dev/bin" : folder, "rmjobd");
}

int main(void)
{
    char *path = program();
    if (access(path, X_OK) != 0) {
        printf("SKIP: %s is not built\n", path);
        free(path);
        return 77;
    }
    setenv("RMJOBD", path, 1);
    free(path);
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(submit_is_idempotent_and_durable, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_refused_spec_leaves_nothing, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_second_rmjobd_is_refused_and_names_the_first, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_network_address_needs_a_token, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_rank_speaks_for_its_own_job_only, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(processes_outlive_rmjobd_and_are_adopted, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(watch_replays_and_ends_with_the_job, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(logs_end_and_hold_every_file_of_a_job_with_many_processes, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(more_ranks_than_slots_are_refused_at_submit_and_at_resize, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_preparation_that_is_gone_on_with_is_told_once, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(a_prepare_that_could_not_work_is_no_failure_of_the_data, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(the_last_error_of_a_rank_is_in_the_reason_of_its_job, daemon_set_up,
                                        daemon_tear_down),
        cmocka_unit_test_setup_teardown(while_the_state_cannot_be_written_reads_go_on_and_changes_are_refused_by_name,
                                        daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(another_version_is_refused_with_both_named, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(policies_are_kept_and_bind, daemon_set_up, daemon_tear_down),
        cmocka_unit_test_setup_teardown(kill_9_at_every_database_write_loses_no_answered_job, daemon_set_up,
                                        daemon_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
