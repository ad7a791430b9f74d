// Ranks as processes of this machine: a session each, watched by a pidfd in one epoll set.
//
// A rank is a supervisor with a trainer child in the same session. When the supervisor ends, whatever is left of its
// group is killed while its pid is still held by the zombie, so that the number cannot have been given away.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "service/launch/launch.h"
#include "service/launch/spawn.h"

struct process {
    int used;
    int is_child; // else adopted
    int pidfd;
    struct rmj_process id;
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE];
    char *log_path; // NULL for adopted ones
};

struct local {
    struct rmj_launcher base;
    char *program;
    int epoll_fd;
    struct process processes[RMJ_LAUNCHES_MAX];
};

static struct local *local_of(struct rmj_launcher *launcher)
{
    return (struct local *)launcher;
}

static struct process *find(struct local *local, const char *launch)
{
    for (size_t i = 0; i < RMJ_LAUNCHES_MAX; i++) {
        if (local->processes[i].used && strcmp(local->processes[i].launch, launch) == 0) {
            return &local->processes[i];
        }
    }
    return NULL;
}

static struct process *take_slot(struct local *local, const char *job, const char *launch)
{
    for (size_t i = 0; i < RMJ_LAUNCHES_MAX; i++) {
        struct process *process = &local->processes[i];
        if (!process->used) {
            memset(process, 0, sizeof *process);
            process->used = 1;
            snprintf(process->job, sizeof process->job, "%s", job);
            snprintf(process->launch, sizeof process->launch, "%s", launch);
            return process;
        }
    }
    return NULL;
}

static void release(struct local *local, struct process *process)
{
    if (process->pidfd >= 0) {
        // Closing is not enough: a child that another thread forked and that has not called exec yet holds the pidfd
        // too, and the process would be reported once more, in a slot that is free or another's by then.
        (void)epoll_ctl(local->epoll_fd, EPOLL_CTL_DEL, process->pidfd, NULL);
        close(process->pidfd);
    }
    free(process->log_path);
    process->log_path = NULL;
    process->used = 0;
}

static enum rmj_status watch(struct local *local, struct process *process, struct rmj_error *err)
{
    process->pidfd = spawn_pidfd(process->id.pid);
    if (process->pidfd < 0) {
        return rmj_fail_errno(err, errno == ESRCH ? RMJ_NOT_FOUND : RMJ_IO, "process %d cannot be watched",
                              (int)process->id.pid);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};
    if (epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, process->pidfd, &event) != 0) {
        return rmj_fail_errno(err, RMJ_IO, "process %d cannot be watched", (int)process->id.pid);
    }
    return RMJ_OK;
}

static enum rmj_status start(struct rmj_launcher *launcher, const struct rmj_launch_request *request,
                             struct rmj_process *id, struct rmj_error *err)
{
    struct local *local = local_of(launcher);
    struct process *process = take_slot(local, request->job, request->launch);
    if (process == NULL) {
        return rmj_fail(err, RMJ_FULL, "%d processes run already; more are not started", RMJ_LAUNCHES_MAX);
    }
    process->pidfd = -1;
    enum rmj_status status = RMJ_OK;
    pid_t pid = 0;
    int fd = open(request->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open log %s", request->log_path);
        goto out;
    }
    struct spawn_request how = {.program = local->program,
                                .arguments = request->arguments,
                                .token = request->token,
                                .output_fd = fd,
                                .error_fd = fd};
    RMJ_GO(spawn(&how, &pid, err));
    process->is_child = 1;
    process->id = (struct rmj_process){.pid = pid, .start_time = spawn_start_time(pid)};
    process->log_path = strdup(request->log_path);
    *id = process->id;
    status = watch(local, process, err);
    if (status != RMJ_OK) {
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
out:
    if (fd >= 0) {
        close(fd);
    }
    if (status != RMJ_OK) {
        release(local, process);
    }
    return status;
}

static enum rmj_status adopt(struct rmj_launcher *launcher, const char *job, const char *launch,
                             const struct rmj_process *id, struct rmj_error *err)
{
    struct local *local = local_of(launcher);
    struct process *process = take_slot(local, job, launch);
    if (process == NULL) {
        return rmj_fail(err, RMJ_FULL, "%d processes run already", RMJ_LAUNCHES_MAX);
    }
    process->id = *id;
    enum rmj_status status = watch(local, process, err);
    // The pidfd first, then the start time: what it names cannot change in between.
    if (status == RMJ_OK && spawn_start_time(id->pid) != id->start_time) {
        status = rmj_fail(err, RMJ_NOT_FOUND, "process %d is another one now", (int)id->pid);
    }
    if (status != RMJ_OK) {
        release(local, process);
    }
    return status;
}

static void kill_launch(struct rmj_launcher *launcher, const char *launch, int signal)
{
    struct process *process = find(local_of(launcher), launch);
    // An adopted pid may have been recycled since: its start time says so.
    if (process != NULL && (process->is_child || spawn_start_time(process->id.pid) == process->id.start_time)) {
        kill(-process->id.pid, signal);
    }
}

static int has(struct rmj_launcher *launcher, const char *launch)
{
    return find(local_of(launcher), launch) != NULL;
}

static int wake_fd(const struct rmj_launcher *launcher)
{
    return ((const struct local *)launcher)->epoll_fd;
}

// What an exit means, for people. Codes: trainer/run/exit_codes.h, which the service may not include.
static void describe(struct rmj_launch_exit *exit)
{
    static const struct {
        int code;
        const char *words;
    } known[] = {
        {0, "ended"},
        {1, "failed by a fault of its own (exit code 1; see its log)"},
        {2, "did not understand its arguments (exit code 2): rmjob-rank and rmjobd are of different versions"},
        {RMJ_EXIT_ASKED_TO_LEAVE, "left as it was asked to"},
        {11, "cannot use its model, data or plan"},
        {12, "was refused by the service"},
        {13, "lost the service"},
        {14, "had its trainer die too often in too short a time"},
        {15, "has not enough memory"},
        {RMJ_EXIT_UNKNOWN, "is gone (exit code unknown: it was started before rmjobd restarted)"},
    };
    const char *signal_note = exit->signal == SIGKILL ? " (kill -9, or out of memory)" : "";
    if (exit->signal != 0) {
        snprintf(exit->reason, sizeof exit->reason, "killed by signal %d%s", exit->signal, signal_note);
        return;
    }
    snprintf(exit->reason, sizeof exit->reason, "exit code %d", exit->exit_code);
    for (size_t i = 0; i < RMJ_COUNT(known); i++) {
        if (known[i].code == exit->exit_code) {
            snprintf(exit->reason, sizeof exit->reason, "%s", known[i].words);
        }
    }
}

static void reap(struct local *local, struct process *process, struct rmj_launch_exit *exit)
{
    memset(exit, 0, sizeof *exit);
    memcpy(exit->job, process->job, sizeof exit->job);
    memcpy(exit->launch, process->launch, sizeof exit->launch);
    exit->exit_code = RMJ_EXIT_UNKNOWN;
    int code = 0;
    if (process->is_child) {
        kill(-process->id.pid, SIGKILL);
        if (waitpid(process->id.pid, &code, 0) == process->id.pid) {
            exit->exit_code = WIFEXITED(code) ? WEXITSTATUS(code) : 0;
            exit->signal = WIFSIGNALED(code) ? WTERMSIG(code) : 0;
        }
    }
    describe(exit);
    release(local, process);
}

// copy and truncate: the process keeps appending to the file it has open.
static void bound_log(const struct process *process)
{
    struct stat about;
    if (process->log_path == NULL || stat(process->log_path, &about) != 0 || about.st_size <= RMJ_LOG_FILE_SIZE_MAX) {
        return;
    }
    char kept[4096];
    int length = snprintf(kept, sizeof kept, "%s.1", process->log_path);
    int from = open(process->log_path, O_RDONLY | O_CLOEXEC);
    int to =
        length > 0 && (size_t)length < sizeof kept ? open(kept, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    // In the kernel: the service has no memory to spare for logs.
    while (from >= 0 && to >= 0 && copy_file_range(from, NULL, to, NULL, RMJ_LOG_FILE_SIZE_MAX, 0) > 0) {
    }
    if (from >= 0) {
        close(from);
    }
    if (to >= 0) {
        close(to);
    }
    // Whatever became of the copy, the disk is not filled.
    if (truncate(process->log_path, 0) != 0) {
        rmj_log(RMJ_LOG_WARN, "launch", "event=log_not_truncated launch=%s errno=%d", process->launch, errno);
    }
}

static size_t collect(struct rmj_launcher *launcher, struct rmj_launch_exit *exits, size_t max)
{
    struct local *local = local_of(launcher);
    struct epoll_event events[32];
    size_t count = 0;
    while (count < max) {
        size_t room = max - count < RMJ_COUNT(events) ? max - count : RMJ_COUNT(events);
        int ready = epoll_wait(local->epoll_fd, events, (int)room, 0);
        if (ready <= 0) {
            break;
        }
        for (int i = 0; i < ready; i++) {
            struct process *process = events[i].data.ptr;
            if (process->used) {
                reap(local, process, &exits[count++]);
            }
        }
    }
    for (size_t i = 0; i < RMJ_LAUNCHES_MAX; i++) {
        if (local->processes[i].used) {
            bound_log(&local->processes[i]);
        }
    }
    return count;
}

static void destroy(struct rmj_launcher *launcher)
{
    struct local *local = local_of(launcher);
    for (size_t i = 0; i < RMJ_LAUNCHES_MAX; i++) {
        if (local->processes[i].used) {
            release(local, &local->processes[i]);
        }
    }
    close(local->epoll_fd);
    free(local->program);
    free(local);
}

static const struct rmj_launcher_ops local_ops = {.start = start,
                                                  .adopt = adopt,
                                                  .kill = kill_launch,
                                                  .has = has,
                                                  .wake_fd = wake_fd,
                                                  .collect = collect,
                                                  .destroy = destroy};

enum rmj_status rmj_launcher_local_create(struct rmj_launcher **launcher, const char *program, struct rmj_error *err)
{
    struct local *local = calloc(1, sizeof *local);
    char *copy = strdup(program);
    if (local == NULL || copy == NULL) {
        free(local);
        free(copy);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the launcher");
    }
    local->base.ops = &local_ops;
    local->program = copy;
    local->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (local->epoll_fd < 0) {
        enum rmj_status status = rmj_fail_errno(err, RMJ_IO, "cannot watch processes");
        free(copy);
        free(local);
        return status;
    }
    *launcher = &local->base;
    return RMJ_OK;
}

uint64_t rmj_process_start_time(int32_t pid)
{
    return spawn_start_time(pid);
}

enum rmj_status rmj_launcher_find_rank(char **path, struct rmj_error *err)
{
    char *found = rmj_fs_program("RMJOB_BIN", "rmjob-rank");
    if (access(found, X_OK) != 0) {
        enum rmj_status status = rmj_fail_errno(
            err, RMJ_NOT_FOUND, "%s cannot be run; set RMJOB_BIN to the folder that holds rmjob-rank", found);
        free(found);
        return status;
    }
    *path = found;
    return RMJ_OK;
}
