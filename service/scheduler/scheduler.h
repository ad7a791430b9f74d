// The scheduler's core: one pure function over plain data. No I/O, no clock, no threads, no randomness; rmjobd's owner
// thread drives it, and tests/sim drives it through months of faults in seconds.
//
//   events in  ->  rmj_scheduler_step(state, event, now)  ->  actions out
//
// Life of a job:
//
//   PREPARING -> QUEUED -> LAUNCHING -> TRAINING -> EVALUATING -> GATING -> PUBLISHING -> SUCCEEDED
//        \____________\________\____________\___________\_______ any -> FAILED_* | CANCELLED
//
// Generations: a generation is one fixed membership. It starts when enough ranks are attached and ready (all wanted
// ones, or at least min_ranks once `join_wait_ms` passed), ends when a member is lost, wants to leave, or membership is
// to change, and the next one resumes at the newest step at which every page is in some member's memory or in a
// committed manifest.
//
// Everything the core must remember over a restart of rmjobd is in rmj_job_record; ACTION_PERSIST comes before any
// action that announces it. Ids, not pointers, cross this interface.
#ifndef RMJ_SERVICE_SCHEDULER_SCHEDULER_H
#define RMJ_SERVICE_SCHEDULER_SCHEDULER_H

#include <stddef.h>
#include <stdint.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/ranks.pb-c.h"

#define RMJ_ID_SIZE 40
#define RMJ_RANKS_MAX 64
#define RMJ_REASON_SIZE 512
#define RMJ_SNAPSHOTS_MAX 4
#define RMJ_MANIFESTS_MAX 16
#define RMJ_JOBS_MAX 4096    // jobs that have not ended; a SUBMITTED beyond them is not taken (the job stays unknown)
#define RMJ_PROJECTS_MAX 256 // projects with limits; as many as fit are limited
#define RMJ_PAGES_MAX (1 << 20)
#define RMJ_EXIT_ASKED_TO_LEAVE 10 // exit code of a rank that left because it was told to (LEAVE, SIGTERM)

// The durable part of a job, written to the database as one row. Plain data without pointers: write it whole (every
// field matters to a recovery), as one blob beside the columns that are searched.
struct rmj_job_record {
    char id[RMJ_ID_SIZE];
    char project[64];
    Rmjob__V1__JobState state;
    char reason[RMJ_REASON_SIZE];
    uint32_t min_ranks, max_ranks;
    uint32_t max_restarts;
    uint32_t restarts_charged; // restarts since the last new step that count against max_restarts (README: the budget)
    int64_t submitted_ms, deadline_ms;       // unix; deadline 0: none
    double rank_seconds_limit, rank_seconds; // 0: none
    int64_t rank_seconds_ms;                 // unix; rank_seconds is counted up to here
    uint32_t generation;                     // newest that was announced
    uint32_t step, step_count;               // newest committed step
    uint32_t page_count;
    char plan[65];
    uint32_t checkpoint_every_steps; // 0: decided by cost (auto)
    int checkpoint_off;
    uint32_t manifests_keep; // of the spec: committed manifests to keep; 0: RMJ_MANIFESTS_MAX
    uint32_t manifest_count; // committed manifests that are kept, newest last: what these name is never collected
    struct {
        uint32_t step;
        char digest[65];
        int bad; // did not verify
    } manifests[RMJ_MANIFESTS_MAX];
    char probe[65]; // device class, pinned by the first rank
    int evaluated;
    uint32_t launches_named; // rank processes named so far
    uint32_t world;          // ranks of generation `generation`
    uint32_t launch_count;   // rank processes that live, or are being started
    struct {
        char name[RMJ_ID_SIZE];
        uint32_t rank; // in generation `generation`; UINT32_MAX: not its member
    } launches[RMJ_RANKS_MAX];
};

// Events. Exactly the words of the real service; tests/sim makes the same ones.
//
// After a restart of rmjobd: LIMITS of every project, then RECOVERED of every job that has not ended, then the rest.
// A word about an unknown job, process, incarnation or generation is stale and does nothing (an ATTACHED is refused).
// What cannot come twice in the real service may come twice here; the second time does nothing.
enum rmj_event_kind {
    RMJ_EVENT_TICK,           // time passes
    RMJ_EVENT_SUBMITTED,      // job, record
    RMJ_EVENT_PREPARED,       // job: plan, page_count, step_count known
    RMJ_EVENT_PREPARE_FAILED, // job, state, reason
    RMJ_EVENT_LAUNCHED,       // job, launch: a rank process was started
    RMJ_EVENT_LAUNCH_FAILED,  // job, launch, reason: it was not. Every LAUNCH is answered by one of these two
    RMJ_EVENT_EXITED,         // job, launch: the process is gone; exit_code or signal; reason: its last error, "".
                              // Also the answer to a KILL of a process that nobody knows
    RMJ_EVENT_ATTACHED,       // job, rank_uid, incarnation, address, inventory, probe, running_generation/_rank
    RMJ_EVENT_READY,     // job, rank_uid, incarnation, generation left, inventory, leaving, has_suspect/suspect_rank;
                         // reason: its problem, ""; digest: a manifest that did not verify, ""
    RMJ_EVENT_DETACHED,  // job, rank_uid, incarnation: its newest stream broke
    RMJ_EVENT_HEARTBEAT, // job, rank_uid, generation, step
    RMJ_EVENT_STEP_COMMITTED,     // job, generation, step
    RMJ_EVENT_MANIFEST_COMMITTED, // job, generation, step, digest
    RMJ_EVENT_EVALUATED,          // job, generation: report is stored
    RMJ_EVENT_GATED,              // job, passed, reason
    RMJ_EVENT_PUBLISHED,          // job
    RMJ_EVENT_PUBLISH_FAILED,     // job, reason
    RMJ_EVENT_RANK_FAILED_JOB,    // job, generation, state, reason
    RMJ_EVENT_CANCEL,             // job, reason
    RMJ_EVENT_RESIZE,             // job, min_ranks, max_ranks (0: as it is)
    RMJ_EVENT_LIMITS,             // project, max_ranks, max_jobs (0: no limit)
    RMJ_EVENT_RECOVERED,          // job, record: after a restart of rmjobd, before anything else about it
};

struct rmj_inventory {
    uint32_t snapshot_count;
    struct {
        uint32_t step;
        uint8_t *pages; // bitmap of page_count bits, owned by the event until the step returns
        char digest[65];
    } snapshots[RMJ_SNAPSHOTS_MAX];
};

struct rmj_event {
    enum rmj_event_kind kind;
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE]; // names a started process; is the rank_uid of its supervisor
    char rank_uid[RMJ_ID_SIZE];
    uint32_t incarnation;
    char address[80];
    char probe[65];
    uint32_t generation, step;
    uint32_t running_generation, running_rank;
    struct rmj_inventory inventory;
    int leaving;
    int has_suspect;
    uint32_t suspect_rank;
    char digest[65]; // manifest
    int exit_code, signal;
    int passed;
    Rmjob__V1__JobState state;
    char reason[RMJ_REASON_SIZE];
    char project[64];
    uint32_t min_ranks, max_ranks, max_jobs;
    const struct rmj_job_record *record; // SUBMITTED and RECOVERED
    char plan[65];
    uint32_t page_count, step_count;
};

enum rmj_action_kind {
    RMJ_ACTION_PERSIST,        // write rmj_scheduler_job(job) before the actions after this one
    RMJ_ACTION_PREPARE,        // start the prepare task of `job`
    RMJ_ACTION_LAUNCH,         // start a rank process called `launch`
    RMJ_ACTION_KILL,           // kill -9 process `launch`, supervisor and child; EXITED follows in any case
    RMJ_ACTION_ASSIGN,         // tell rank_uid its place: assignment
    RMJ_ACTION_END_GENERATION, // tell rank_uid: generation, end_kind, reason
    RMJ_ACTION_LEAVE,          // tell rank_uid to end: reason, exit_code
    RMJ_ACTION_REFUSE,         // close rank_uid's stream: reason (wrong device class, stale)
    RMJ_ACTION_GATE,           // decide over the stored report
    RMJ_ACTION_PUBLISH,        // sign and publish
    RMJ_ACTION_NOTE,           // an event line for people: reason
    RMJ_ACTION_FINISHED,       // the job has ended and its processes are gone: release what it holds. The core forgets
                               // it with the next step call
};

struct rmj_assignment {
    uint32_t generation, rank, world;
    Rmjob__V1__Phase phase;
    Rmjob__V1__ResumeSource source;
    uint32_t step;
    char manifest[65];
    uint32_t checkpoint_every_steps; // 0: never
    // One a rank, in rank order; pages: bitmap of the resume step held in memory (MEMORY), else NULL. Owned by the
    // scheduler, valid until the next step call.
    struct {
        char rank_uid[RMJ_ID_SIZE];
        char address[80];
        const uint8_t *pages;
    } peers[RMJ_RANKS_MAX];
};

struct rmj_action {
    enum rmj_action_kind kind;
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE];
    char rank_uid[RMJ_ID_SIZE];
    uint32_t generation;
    Rmjob__V1__EndKind end_kind;
    int exit_code;
    char reason[RMJ_REASON_SIZE];
    const struct rmj_assignment *assignment; // ASSIGN
};

struct rmj_actions {
    struct rmj_action *items; // grows; owned by the caller's rmj_actions
    size_t count, capacity;
};
void rmj_actions_clear(struct rmj_actions *actions);
void rmj_actions_deinit(struct rmj_actions *actions);

struct rmj_scheduler_options {
    uint32_t rank_slots;          // rank processes this machine or cluster may hold at once
    int64_t join_wait_ms;         // how long a generation waits for more than min_ranks
    int64_t reattach_wait_ms;     // after a restart of rmjobd: how long known ranks may take to come back
    int64_t heartbeat_timeout_ms; // a rank silent for longer is taken for hung and killed
    int64_t ready_timeout_ms;     // survivors must be ready within this after a generation ended
    int64_t backoff_ms_max;       // between launches after failures
    uint64_t seed;                // of the names of launches
};

struct rmj_scheduler;
struct rmj_scheduler *rmj_scheduler_create(const struct rmj_scheduler_options *options);
void rmj_scheduler_destroy(struct rmj_scheduler *scheduler);
// now_ms: unix milliseconds, never falls. Appends to actions.
void rmj_scheduler_step(struct rmj_scheduler *scheduler, const struct rmj_event *event, int64_t now_ms,
                        struct rmj_actions *actions);
// NULL when unknown: never submitted here, or ended and forgotten.
const struct rmj_job_record *rmj_scheduler_job(const struct rmj_scheduler *scheduler, const char *job);
// Ranks attached to the current generation of the job, and wanted.
void rmj_scheduler_ranks(const struct rmj_scheduler *scheduler, const char *job, uint32_t *attached, uint32_t *wanted);
// Earliest time at which a TICK can change anything; INT64_MAX for never.
int64_t rmj_scheduler_next_tick_ms(const struct rmj_scheduler *scheduler);

#endif
