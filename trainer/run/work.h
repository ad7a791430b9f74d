// Directories for temporary files: a supervisor's (exports, staged models), which is of no use to another process, and
// a preparation's, which the next one goes on with. Who is killed cannot remove its own, so each one, when it starts,
// removes those of its kind that nobody holds any more.
#ifndef RMJ_TRAINER_RUN_WORK_H
#define RMJ_TRAINER_RUN_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// Makes one below $TMPDIR (or /tmp) and holds it by a lock for the life of the process. 0 with errno on failure.
int rmj_work_make(char *path, size_t size);
// The preparation's directory of a job, made or found again, held as long as the descriptor that is returned is open.
// Waits while another process holds it. -1 with RMJ_AGAIN after wait_ms, or with what is wrong.
int rmj_work_hold(const char *job_uid, char *path, size_t size, int64_t wait_ms, struct rmj_error *err);

#endif
