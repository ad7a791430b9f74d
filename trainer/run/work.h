// A supervisor's directory for temporary files (exports, staged models). A supervisor that is killed cannot remove its
// own, so each one, when it starts, removes those that nobody holds any more.
#ifndef RMJ_TRAINER_RUN_WORK_H
#define RMJ_TRAINER_RUN_WORK_H

#include <stddef.h>

// Makes one below $TMPDIR (or /tmp) and holds it by a lock for the life of the process. 0 with errno on failure.
int rmj_work_make(char *path, size_t size);

#endif
