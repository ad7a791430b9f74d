#include "trainer/run/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/slots.h"
#include "trainer/run/work.h"

#define CRASHES_MAX 3 // more within CRASH_WINDOW_MS: give up
#define CRASH_WINDOW_MS 10000
#define NOTICE_KILL_MS 12000 // a trainer that outlives its notice by this is killed

extern char **environ;

struct supervisor {
    const struct rmj_supervisor_options *options;
    int slot_fds[RMJ_SLOT_COUNT];
    char work[512];
    unsigned incarnation;
    pid_t child;
    int64_t crashes[CRASHES_MAX + 1]; // newest last
    int64_t notice_at;                // 0: none
};

static int make_slots(struct supervisor *supervisor)
{
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "rmjob-slot-%d", i);
        supervisor->slot_fds[i] = memfd_create(name, MFD_CLOEXEC);
        if (supervisor->slot_fds[i] < 0) {
            return 0;
        }
    }
    return 1;
}

// The child inherits the slots and a mask with SIGTERM and SIGINT blocked: it takes them when it can.
static int spawn_trainer(struct supervisor *supervisor)
{
    const struct rmj_supervisor_options *options = supervisor->options;
    char incarnation[16], slots[64], pid[16];
    snprintf(incarnation, sizeof incarnation, "%u", ++supervisor->incarnation);
    snprintf(slots, sizeof slots, "%d,%d,%d", supervisor->slot_fds[0], supervisor->slot_fds[1],
             supervisor->slot_fds[2]);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    const char *arguments[] = {
        "rmjob-rank",      "--trainer",      "--server",  options->server, "--job", options->job,   "--rank-uid",
        options->rank_uid, "--incarnation",  incarnation, "--slots",       slots,   "--supervisor", pid,
        "--work",          supervisor->work, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        posix_spawn_file_actions_adddup2(&files, supervisor->slot_fds[i], supervisor->slot_fds[i]);
    }
    posix_spawnattr_setsigmask(&attributes, &mask);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int code = posix_spawn(&supervisor->child, "/proc/self/exe", &files, &attributes,
                           (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (code != 0) {
        rmj_log(RMJ_LOG_ERROR, "rank", "event=spawn_failed reason=\"%s\"", strerror(code));
    }
    return code == 0;
}

static int is_final(int status)
{
    if (!WIFEXITED(status)) {
        return 0;
    }
    int code = WEXITSTATUS(status);
    return code == RMJ_RANK_FINISHED || code == RMJ_RANK_USAGE || (code >= RMJ_RANK_LEFT && code <= RMJ_RANK_NO_MEMORY);
}

// 1 when the trainer died too often in too short a time.
static int is_crash_loop(struct supervisor *supervisor)
{
    memmove(supervisor->crashes, supervisor->crashes + 1, CRASHES_MAX * sizeof supervisor->crashes[0]);
    supervisor->crashes[CRASHES_MAX] = rmj_clock_mono_ms();
    return supervisor->crashes[0] != 0 && supervisor->crashes[CRASHES_MAX] - supervisor->crashes[0] < CRASH_WINDOW_MS;
}

// The exit code, or -1 when a new trainer runs.
static int child_ended(struct supervisor *supervisor, int status)
{
    if (is_final(status)) {
        return WEXITSTATUS(status);
    }
    rmj_log(RMJ_LOG_WARN, "rank", "event=trainer_died job=%s rank_uid=%s incarnation=%u signal=%d code=%d",
            supervisor->options->job, supervisor->options->rank_uid, supervisor->incarnation,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    if (supervisor->notice_at != 0) {
        return RMJ_RANK_LEFT;
    }
    if (is_crash_loop(supervisor)) {
        return RMJ_RANK_CRASH_LOOP;
    }
    return spawn_trainer(supervisor) ? -1 : RMJ_RANK_INTERNAL;
}

static int watch(struct supervisor *supervisor, const sigset_t *signals)
{
    struct timespec pause = {1, 0};
    for (;;) {
        int got = sigtimedwait(signals, NULL, &pause);
        if (got == SIGTERM || got == SIGINT) {
            supervisor->notice_at = supervisor->notice_at == 0 ? rmj_clock_mono_ms() : supervisor->notice_at;
            kill(supervisor->child, SIGTERM);
        }
        int status;
        if (waitpid(supervisor->child, &status, WNOHANG) == supervisor->child) {
            int code = child_ended(supervisor, status);
            if (code >= 0) {
                return code;
            }
        }
        if (supervisor->notice_at != 0 && rmj_clock_mono_ms() - supervisor->notice_at > NOTICE_KILL_MS) {
            kill(supervisor->child, SIGKILL);
        }
    }
}

int rmj_supervisor_main(const struct rmj_supervisor_options *options)
{
    struct supervisor supervisor = {.options = options};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (!make_slots(&supervisor) || !rmj_work_make(supervisor.work, sizeof supervisor.work)) {
        rmj_log(RMJ_LOG_ERROR, "rank", "event=cannot_start reason=\"no memory or no temporary directory: %s\"",
                strerror(errno));
        return RMJ_RANK_INTERNAL;
    }
    int code = spawn_trainer(&supervisor) ? watch(&supervisor, &signals) : RMJ_RANK_INTERNAL;
    if (rmj_fs_remove_tree(supervisor.work, NULL) != RMJ_OK) {
        rmj_log(RMJ_LOG_WARN, "rank", "event=left_behind directory=\"%s\"", supervisor.work);
    }
    return code;
}
