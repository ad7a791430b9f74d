// One posix_spawn for all: new session, clean signal mask, an environment of named variables only.
#ifndef RMJ_SERVICE_LAUNCH_SPAWN_H
#define RMJ_SERVICE_LAUNCH_SPAWN_H

#include <sys/types.h>

#include "base/status.h"

struct spawn_request {
    const char *program;
    const char *const *arguments; // after the program's name, NULL-terminated
    const char *token;            // NULL: none
    int output_fd, error_fd;
};
// fork() is no choice here: gRPC's threads do not survive one.
RMJ_MUST_USE enum rmj_status spawn(const struct spawn_request *request, pid_t *pid, struct rmj_error *err);
// A file descriptor that becomes readable when the process ends; -1 with errno.
int spawn_pidfd(pid_t pid);
// Start time of a process, /proc/<pid>/stat field 22; 0 when there is none.
unsigned long long spawn_start_time(pid_t pid);

#endif
