// The task that prepares a job's data: a directory of its own, so that a killed one is gone on with, and progress.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "trainer/data/prepare.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/link.h"
#include "trainer/run/tasks.h"

#define PREFIX "rmjob-prepare-"
// A killed preparation is begun again within seconds; what nobody came back for in a day goes.
#define ABANDONED_SECONDS 86400
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

static int is_abandoned(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int abandoned = fd >= 0 && fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
                    time(NULL) - status.st_mtime > ABANDONED_SECONDS && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return abandoned;
}

static void sweep(const char *base)
{
    DIR *directory = opendir(base);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char path[4096];
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            snprintf(path, sizeof path, "%s/%s", base, entry->d_name) < (int)sizeof path && is_abandoned(path) &&
            rmj_fs_remove_tree(path, NULL) != RMJ_OK) {
            rmj_log(RMJ_LOG_WARN, "rank", "event=left_behind directory=\"%s\"", path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

// The job's directory, held by a lock for the life of the process; its descriptor, or -1 with what is wrong.
static int open_directory(const char *job_uid, char *path, size_t size, struct rmj_error *err)
{
    const char *base = getenv("TMPDIR");
    base = base == NULL || base[0] == '\0' ? "/tmp" : base;
    sweep(base);
    int length = snprintf(path, size, "%s/" PREFIX "%s", base, job_uid);
    for (size_t i = strlen(base) + strlen(PREFIX) + 1; length < (int)size && path[i] != '\0'; i++) {
        path[i] = path[i] == '/' ? '-' : path[i]; // a uid is a prefix in the store
    }
    if (length >= (int)size || (mkdir(path, 0700) != 0 && errno != EEXIST)) {
        (void)rmj_fail(err, RMJ_IO, "cannot make %s: %s; set TMPDIR to a directory with room", path, strerror(errno));
        return -1;
    }
    struct stat status;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_uid != geteuid()) {
        (void)rmj_fail(err, RMJ_DENIED, "%s is not a directory of this user; remove it", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)rmj_fail(err, RMJ_AGAIN, "another process prepares this job in %s", path);
    } else {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
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
    int fd = open_directory(task->job_uid, path, sizeof path, err);
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
