// Exit codes of rmjob-rank, read by whoever launched it. The supervisor passes its trainer's code on; anything else (a
// signal, an unlisted code) makes it start the trainer again.
#ifndef RMJ_TRAINER_RUN_EXIT_CODES_H
#define RMJ_TRAINER_RUN_EXIT_CODES_H

enum rmj_rank_exit {
    RMJ_RANK_FINISHED = 0,      // told to leave after the job's end
    RMJ_RANK_INTERNAL = 1,      // a fault of ours; the trainer is started again
    RMJ_RANK_USAGE = 2,         // wrong arguments
    RMJ_RANK_LEFT = 10,         // asked to leave by SIGTERM, or told to leave early
    RMJ_RANK_DATA = 11,         // model, data or plan cannot be used; the same again would fail again
    RMJ_RANK_REFUSED = 12,      // the service refused this rank: device class, token, unknown job
    RMJ_RANK_SERVICE_GONE = 13, // the service could not be reached for RMJ_SERVICE_GONE_MS
    RMJ_RANK_CRASH_LOOP = 14,   // the trainer died too often in too short a time
    RMJ_RANK_NO_MEMORY = 15,    // not enough memory for the job's arenas
};

#endif
