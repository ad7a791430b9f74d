// Starting, watching and ending the processes of jobs. One interface for every engine; local.c is the embedded default:
// processes of this machine.
//
// Processes outlive rmjobd. After a restart they are adopted by (pid, start time), so that a recycled pid is never
// taken for a rank; what was not running any more is reported as gone.
//
// Threads: the owner thread only, but rmj_launch_wait_task may be called from any.
#ifndef RMJ_SERVICE_LAUNCH_LAUNCH_H
#define RMJ_SERVICE_LAUNCH_LAUNCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "service/scheduler/scheduler.h"

#define RMJ_LAUNCHES_MAX 256
// A log file is moved to <file>.1 when it is over this; both together are the most a process keeps.
#define RMJ_LOG_FILE_SIZE_MAX (8u << 20)
// Exit code reported for an adopted process, whose real one went to somebody else.
#define RMJ_EXIT_UNKNOWN (-1)

struct rmj_launch_request {
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE];
    const char *const *arguments; // after the program's name, NULL-terminated
    const char *token;            // goes into RMJOB_RANK_TOKEN
    const char *log_path;         // standard output and error are appended here
};

// How the engine finds a process again.
struct rmj_process {
    int32_t pid;
    uint64_t start_time; // clock ticks since boot, /proc/<pid>/stat field 22
};

struct rmj_launch_exit {
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE];
    int exit_code; // RMJ_EXIT_UNKNOWN for adopted ones
    int signal;    // 0 when it exited by itself
    char reason[RMJ_REASON_SIZE];
};

struct rmj_launcher;
struct rmj_launcher_ops {
    enum rmj_status (*start)(struct rmj_launcher *launcher, const struct rmj_launch_request *request,
                             struct rmj_process *process, struct rmj_error *err);
    // RMJ_NOT_FOUND when it is gone.
    enum rmj_status (*adopt)(struct rmj_launcher *launcher, const char *job, const char *launch,
                             const struct rmj_process *process, struct rmj_error *err);
    // The process and all its children. Unknown launches are ignored.
    void (*kill)(struct rmj_launcher *launcher, const char *launch, int signal);
    // 1 while the process is watched: started or adopted, and its exit not collected yet.
    int (*has)(struct rmj_launcher *launcher, const char *launch);
    // Readable (poll) when an exit can be collected.
    int (*wake_fd)(const struct rmj_launcher *launcher);
    // Collects up to `max` exits. Also keeps log files within their bound.
    size_t (*collect)(struct rmj_launcher *launcher, struct rmj_launch_exit *exits, size_t max);
    void (*destroy)(struct rmj_launcher *launcher);
};
// First member of every engine.
struct rmj_launcher {
    const struct rmj_launcher_ops *ops;
};

// Local processes. program: path of rmjob-rank. Nothing is killed by destroy.
RMJ_MUST_USE enum rmj_status rmj_launcher_local_create(struct rmj_launcher **launcher, const char *program,
                                                       struct rmj_error *err);
// $RMJOB_BIN/rmjob-rank, else beside this process' own program; free() *path. RMJ_NOT_FOUND names where it was looked
// for.
RMJ_MUST_USE enum rmj_status rmj_launcher_find_rank(char **path, struct rmj_error *err);

// Start time of a process of this machine, 0 when there is none.
uint64_t rmj_process_start_time(int32_t pid);

// Runs a short task to its end and takes its standard output (bounded by out->size_max). RMJ_TIMEOUT when it is not
// done in time (it is killed then), RMJ_INTERNAL when it fails, with the end of its standard error. Any thread.
RMJ_MUST_USE enum rmj_status rmj_launch_wait_task(const char *program, const char *const *arguments,
                                                  int64_t deadline_ms, struct rmj_buf *out, struct rmj_error *err);

#endif
