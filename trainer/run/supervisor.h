// The supervisor: holds the snapshot slots in its memory, keeps one trainer child running, and does nothing else, so
// that there is little in it that can die.
#ifndef RMJ_TRAINER_RUN_SUPERVISOR_H
#define RMJ_TRAINER_RUN_SUPERVISOR_H

struct rmj_supervisor_options {
    const char *server, *job, *rank_uid;
};
// Returns the exit code (trainer/run/exit_codes.h).
int rmj_supervisor_main(const struct rmj_supervisor_options *options);

#endif
