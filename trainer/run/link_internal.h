// What the parts of the link share: link.c (threads and mailbox) and reports.c (queue and calls).
#ifndef RMJ_TRAINER_RUN_LINK_INTERNAL_H
#define RMJ_TRAINER_RUN_LINK_INTERNAL_H

#include <pthread.h>

#include "proto/rpc/client.h"
#include "trainer/run/link.h"

#define RMJ_REPORTS_MAX 64
#define RMJ_CALL_MS 5000 // deadline of one unary call

struct rmj_report {
    int is_manifest;
    union {
        struct rmj_step_report step;
        struct rmj_manifest_report manifest;
    } of;
};

struct rmj_snapshot_copy {
    uint32_t step;
    uint32_t range_count, range_capacity;
    struct {
        uint32_t first, count;
    } * ranges;
};

struct rmj_link {
    // Immutable after start.
    struct rmj_rpc_client *client;
    char *job, *rank_uid;
    uint32_t incarnation, supervisor_pid;
    char comm_address[96], probe[65];
    int abort_fd;
    pthread_t attach_thread, heartbeat_thread, report_thread;
    int started;

    // Locked.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int closing;
    int notice, notice_told;
    int refused;
    struct rmj_error refusal;
    int leave;
    uint32_t leave_exit_code;
    Rmjob__V1__Assignment *assignment; // newest not yet taken
    uint32_t ended;                    // newest generation that was ended by ABORT
    uint32_t stop_at_step;             // newest generation to stop AT_STEP
    uint32_t running, running_rank;    // 0: none
    struct rmj_rpc_stream *stream;     // for cancelling
    struct rmj_snapshot_copy snapshots[RMJ_SLOT_COUNT];
    struct rmj_report reports[RMJ_REPORTS_MAX];
    size_t report_first, report_count;
    int report_in_flight;
    char checkpoint_problem[RMJ_ERROR_MESSAGE_SIZE]; // "" while checkpoints reach the store

    struct rmj_progress progress;
};

// Snapshot messages of the inventory, all in one allocation each; free with rmj_link_free_snapshots. Lock held.
Rmjob__V1__Snapshot **rmj_link_snapshots(struct rmj_link *link, size_t *count);
void rmj_link_free_snapshots(Rmjob__V1__Snapshot **snapshots, size_t count);
void *rmj_link_report_main(void *context);
// Waits on `changed` for at most ms; lock held.
void rmj_link_cond_wait(struct rmj_link *link, int64_t ms);

#endif
