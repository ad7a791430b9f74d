// The trainer's side of rmjob.v1.Ranks: one Attach stream, heartbeats, reports, and a mailbox in which directives wait
// for the training thread. Training never waits for the service: it may be killed and come back meanwhile.
//
//   attach thread     opens the stream again and again, puts directives into the mailbox, fires the abort descriptor
//   heartbeat thread  every RMJ_HEARTBEAT_MS; also takes SIGTERM (blocked everywhere else)
//   report thread     sends what rank 0 has to tell, from a bounded queue
#ifndef RMJ_TRAINER_RUN_LINK_H
#define RMJ_TRAINER_RUN_LINK_H

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "trainer/run/slots.h"

#define RMJ_HEARTBEAT_MS 500
#define RMJ_SERVICE_GONE_MS (15 * 60 * 1000)
#define RMJ_NOTICE_MS 10000 // after SIGTERM a trainer is gone within this

struct rmj_link;

struct rmj_link_options {
    const char *server, *token, *job, *rank_uid;
    uint32_t incarnation;
    uint32_t supervisor_pid;
};
// Blocks SIGTERM and SIGINT in the calling thread. Connects lazily.
RMJ_MUST_USE enum rmj_status rmj_link_create(struct rmj_link **link, const struct rmj_link_options *options,
                                             struct rmj_error *err);
// Ends the threads.
void rmj_link_destroy(struct rmj_link *link);
// The job's work; free with protobuf_c_message_free_unpacked. Retries while the service cannot be reached.
RMJ_MUST_USE enum rmj_status rmj_link_task(struct rmj_link *link, Rmjob__V1__TaskSpec **task, struct rmj_error *err);
// Attaches and starts the threads.
RMJ_MUST_USE enum rmj_status rmj_link_start(struct rmj_link *link, const char *comm_address, const char *probe,
                                            struct rmj_error *err);

// What a re-attach tells of this rank's memory: copies the inventory of the complete slots.
void rmj_link_inventory(struct rmj_link *link, const struct rmj_slots *slots);
// Told with every heartbeat until it is "" again.
void rmj_link_checkpoint_problem(struct rmj_link *link, const char *problem);

enum rmj_directive_kind {
    RMJ_DIRECTIVE_NONE,    // nothing within the time
    RMJ_DIRECTIVE_ASSIGN,  // assignment: taken over by the caller, free with protobuf_c_message_free_unpacked
    RMJ_DIRECTIVE_END,     // the generation given to rmj_link_wait has ended
    RMJ_DIRECTIVE_LEAVE,   // exit_code
    RMJ_DIRECTIVE_NOTICE,  // SIGTERM (told once)
    RMJ_DIRECTIVE_REFUSED, // the service does not want this rank: reason in err
};
struct rmj_directive {
    enum rmj_directive_kind kind;
    Rmjob__V1__Assignment *assignment;
    uint32_t exit_code;
    struct rmj_error err;
};
// Between generations: the next thing to do. generation: the one whose end is still unanswered, 0 for none.
void rmj_link_wait(struct rmj_link *link, uint32_t generation, int64_t wait_ms, struct rmj_directive *directive);

// A generation begins and ends for this rank. begin returns 0 when it has been overtaken already. The abort descriptor
// becomes readable when the generation is to be aborted.
int rmj_link_begin(struct rmj_link *link, uint32_t generation, uint32_t rank);
void rmj_link_end(struct rmj_link *link);
int rmj_link_abort_fd(const struct rmj_link *link);
int rmj_link_aborted(struct rmj_link *link);     // of the running generation
int rmj_link_stop_wanted(struct rmj_link *link); // AT_STEP or notice
int rmj_link_notice(struct rmj_link *link);      // SIGTERM was received

struct rmj_ready {
    uint32_t generation;
    const char *problem; // NULL when it stopped as told
    int suspect;         // -1 for none
    const char *bad_manifest;
    int leaving;
};
// Tells that this rank waits for the next generation. Tries until told otherwise (assignment, leave) or bound_ms
// passed.
void rmj_link_ready(struct rmj_link *link, const struct rmj_ready *ready, int64_t bound_ms);
// A unary call with retries while the service cannot be reached, up to bound_ms or until the generation is aborted.
RMJ_MUST_USE enum rmj_status rmj_link_call(struct rmj_link *link, const char *method, const ProtobufCMessage *request,
                                           int64_t bound_ms, struct rmj_error *err);
void rmj_link_fail_job(struct rmj_link *link, uint32_t generation, Rmjob__V1__JobState state, const char *reason,
                       const char *const *explanation, size_t explanation_count);
// The same with FAILED_DATA, and what was measured until then; a warning ends nothing.
void rmj_link_fail_data(struct rmj_link *link, uint32_t generation, const char *reason, const char *const *explanation,
                        size_t explanation_count, const Rmjob__V1__TrainingReport *training);
void rmj_link_warn_job(struct rmj_link *link, uint32_t generation, const char *reason, const char *const *explanation,
                       size_t explanation_count);

// Reports of rank 0, copied into the queue. A step's report gives way when the queue is full, a manifest's never does.
struct rmj_step_report {
    uint32_t generation, step;
    double loss, margin, accuracy, grad_norm, learning_rate, seconds, stall_seconds;
    uint64_t pairs_consumed, tokens;
    int second_pass;
    char consumed_sum[65], chain[65];
};
void rmj_link_report_step(struct rmj_link *link, const struct rmj_step_report *report);
struct rmj_manifest_report {
    uint32_t generation, step;
    char digest[65];
    uint64_t bytes_stored, bytes_raw;
    double seconds;
};
void rmj_link_report_manifest(struct rmj_link *link, const struct rmj_manifest_report *report);
// Waits until the queue is empty, at most bound_ms, or until the generation is aborted.
void rmj_link_flush(struct rmj_link *link, int64_t bound_ms);

// For heartbeats; written by the training thread, plain stores.
struct rmj_progress {
    atomic_uint step, pack, eval_done, eval_total;
    atomic_ullong collective, owned_bytes, stall_us;
};
struct rmj_progress *rmj_link_progress(struct rmj_link *link);

#endif
