// The task that prepares a job's data: a directory of its own, so that a killed one is gone on with, and progress.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "trainer/data/prepare.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/link.h"
#include "trainer/run/tasks.h"
#include "trainer/run/work.h"

// Another process may prepare this job still: one that was started right before rmjobd was killed is in no list. It is
// waited for, and what it leaves is gone on with.
#define OTHER_MS ((int64_t)12 * 3600 * 1000)
#define PROGRESS_MS 1000
#define PROGRESS_CALL_MS 300

// What goes to the service when the work could not be done at all: one finding that says why.
static enum rmj_status report_failure(struct rmj_link *link, const char *job, const struct rmj_error *cause,
                                      struct rmj_error *err)
{
    Rmjob__V1__PreparedRequest request = RMJOB__V1__PREPARED_REQUEST__INIT;
    Rmjob__V1__Finding finding = RMJOB__V1__FINDING__INIT;
    Rmjob__V1__Finding *findings[] = {&finding};
    finding.message = (char *)(uintptr_t)cause->message;
    finding.has_exit_code = 1;
    finding.exit_code = (uint32_t)rmj_status_exit_code(cause->status);
    request.job = (char *)(uintptr_t)job;
    request.findings = findings;
    request.n_findings = 1;
    return rmj_link_call(link, "/rmjob.v1.Ranks/Prepared", &request.base, RMJ_SERVICE_GONE_MS, err);
}

struct telling {
    struct rmj_link *link;
    const char *job;
    int64_t told_ms;
    int writing;
};

static void tell(void *context, const struct rmj_prepare_progress *progress)
{
    struct telling *telling = context;
    int64_t now = rmj_clock_mono_ms();
    if (now - telling->told_ms < PROGRESS_MS && progress->writing == telling->writing) {
        return;
    }
    telling->told_ms = now;
    telling->writing = progress->writing;
    Rmjob__V1__PreparingRequest request = RMJOB__V1__PREPARING_REQUEST__INIT;
    request.job = (char *)(uintptr_t)telling->job;
    request.has_rows = request.has_file = request.has_files = request.has_writing = request.has_resumed = 1;
    request.rows = progress->rows;
    request.file = (uint32_t)progress->file + 1;
    request.files = (uint32_t)progress->file_count;
    request.writing = progress->writing;
    request.resumed = progress->resumed;
    // Worth no waiting: the next one makes up for it.
    if (rmj_link_call(telling->link, "/rmjob.v1.Ranks/Preparing", &request.base, PROGRESS_CALL_MS, NULL) != RMJ_OK) {
        telling->told_ms += PROGRESS_CALL_MS;
    }
}

static enum rmj_status prepare_in(struct telling *telling, const Rmjob__V1__TaskSpec *task, struct rmj_store *store,
                                  Rmjob__V1__PreparedRequest **result, struct rmj_error *err)
{
    char path[4096];
    int fd = rmj_work_hold(task->job_uid, path, sizeof path, OTHER_MS, err);
    if (fd < 0) {
        return err->status;
    }
    struct rmj_prepare_options options = {.directory = path, .progress = tell, .context = telling};
    enum rmj_status status = rmj_prepare(task->spec, store, task->job_uid, &options, result, err);
    if (rmj_fs_remove_tree(path, NULL) != RMJ_OK) {
        rmj_log(RMJ_LOG_WARN, "rank", "event=left_behind directory=\"%s\"", path);
    }
    close(fd);
    return status;
}

static enum rmj_status prepare(struct rmj_link *link, const char *job, struct rmj_error *err)
{
    Rmjob__V1__TaskSpec *task = NULL;
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_store *store = NULL;
    struct telling telling = {.link = link, .job = job, .told_ms = rmj_clock_mono_ms()};
    RMJ_TRY(rmj_link_task(link, &task, err));
    enum rmj_status status =
        task->spec == NULL || task->checkpoint_store == NULL || task->job_uid == NULL
            ? rmj_fail(err, RMJ_INTERNAL, "the service gave job %s without spec, store or uid", job)
            : rmj_store_open(&store, task->checkpoint_store, 1, NULL, err);
    if (status == RMJ_OK) {
        status = prepare_in(&telling, task, store, &result, err);
    }
    if (status != RMJ_OK) {
        struct rmj_error cause = *err;
        if (report_failure(link, job, &cause, err) == RMJ_OK) {
            *err = cause;
        }
    } else {
        free(result->job);
        result->job = strdup(job);
        status = rmj_link_call(link, "/rmjob.v1.Ranks/Prepared", &result->base, RMJ_SERVICE_GONE_MS, err);
    }
    if (result != NULL) {
        protobuf_c_message_free_unpacked(&result->base, NULL);
    }
    rmj_store_close(store);
    protobuf_c_message_free_unpacked(&task->base, NULL);
    return status;
}

int rmj_task_prepare(const char *server, const char *job)
{
    struct rmj_error err = {0};
    struct rmj_link *link = NULL;
    struct rmj_link_options options = {
        .server = server, .token = getenv("RMJOB_RANK_TOKEN"), .job = job, .rank_uid = "prepare"};
    enum rmj_status status = rmj_link_create(&link, &options, &err);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL); // what is done is in the journal: a task ends at once when told to
    if (status == RMJ_OK) {
        status = prepare(link, job, &err);
    }
    rmj_link_destroy(link);
    if (status != RMJ_OK) {
        fprintf(stderr, "rmjob-rank: %s\n", err.message);
    }
    return status == RMJ_OK ? RMJ_RANK_FINISHED : rmj_status_exit_code(err.status);
}
