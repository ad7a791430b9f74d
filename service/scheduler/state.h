// What the core holds in memory, and the parts it is made of. Private to this folder.
//
// Every event goes the same way: its handler (scheduler.c) changes plain facts about a job, then rmj_job_settle applies
// the rules to those facts until nothing more follows:
//
//   limits of the job -> time-outs -> end of the generation -> trim -> launches -> start of a generation -> growth
//
// and the queue hands out slots when any became free. Rules look only at facts, so it does not matter in which order
// the words about one accident arrive.
#ifndef RMJ_SERVICE_SCHEDULER_STATE_H
#define RMJ_SERVICE_SCHEDULER_STATE_H

#include "service/scheduler/resume.h"
#include "service/scheduler/scheduler.h"

// A trainer child that died is back, with the pages its supervisor kept, well within this.
#define RMJ_CHILD_GRACE_MS 300
// A started process attaches within this: it reads the model and runs the probe pack first.
#define RMJ_ATTACH_WAIT_MS 300000
// KILL is repeated after this, and the process forgotten after RMJ_KILLS_MAX of them.
#define RMJ_KILL_WAIT_MS 10000
#define RMJ_KILLS_MAX 3
#define RMJ_BACKOFF_MS_MIN 250
// While ranks run, their time is written at least this often.
#define RMJ_ACCOUNT_PERSIST_MS 60000

#define RMJ_NO_RANK UINT32_MAX

// One rank process: a supervisor and, while attached, its trainer child.
struct rmj_launch {
    char name[RMJ_ID_SIZE];
    int started;          // LAUNCHED was seen
    int attached;         // a child's stream is open
    int away;             // a child was lost and the supervisor may bring the next one (or: not seen since a recovery)
    int ready;            // the child is in no generation and waits; `inventory` is its own
    int member;           // in the job's newest generation, and has not left it
    int leaving;          // wants to go (SIGTERM)
    int dismissed;        // told to LEAVE, or killed by us: how it ends is no news
    int unseen;           // known from the record only, since a recovery
    uint32_t order;       // rank in the newest generation it was in, RMJ_NO_RANK: none
    uint32_t incarnation; // newest child seen
    uint32_t epoch;       // incidents counted when it last began something
    uint32_t kill_count;
    int64_t since_ms; // of what it waits for: start, attach, LEAVE, KILL
    int64_t heard_ms; // last word
    char address[80];
    struct rmj_inventory inventory; // pages are owned
};

enum rmj_generation_state {
    RMJ_GENERATION_NONE,
    RMJ_GENERATION_RUNNING,
    RMJ_GENERATION_ENDING, // members were told to stop; each becomes ready or is lost
};

// What the newest accident is known to be. Later words about the same accident can only make it worse.
enum rmj_incident_kind {
    RMJ_INCIDENT_NONE,
    RMJ_INCIDENT_UNCLEAR,    // a stream broke, a peer is suspected
    RMJ_INCIDENT_PREEMPTION, // somebody was asked to leave: never charged
    RMJ_INCIDENT_FAULT,
};

struct rmj_project {
    char name[64];
    uint32_t max_ranks, max_jobs; // 0: no limit
};

struct rmj_job {
    struct rmj_job_record record;
    int dirty;                   // the record differs from what was persisted
    int forgotten;               // FINISHED was said
    uint32_t grant;              // rank processes it may hold now
    struct rmj_launch *launches; // [record.launch_count], same order as record.launches
    enum rmj_generation_state generation_state;
    Rmjob__V1__EndKind end_kind;
    int64_t ended_ms;      // the generation: when members were last told something that they must follow at once
    int64_t waiting_ms;    // first generation: since when somebody is ready; 0: nobody
    int64_t not_before_ms; // back-off: nothing is launched and no generation starts before
    int64_t recover_ms;    // until when known ranks may come back after a restart of rmjobd; 0: no recovery
    // The budget of restarts (incidents.c).
    uint32_t incidents, fruitless;
    int progressed;         // a new step since the last incident
    int incident_fruitless; // the current one came without a new step since the one before
    int incident_charged;
    enum rmj_incident_kind incident_kind;
    char trouble[256]; // what happened last, for reasons
    int64_t persisted_ms;
    int64_t wake_ms;
};

struct rmj_scheduler {
    struct rmj_scheduler_options options;
    struct rmj_job **jobs; // oldest first: (submitted_ms, id)
    size_t job_count, job_capacity;
    struct rmj_project projects[RMJ_PROJECTS_MAX];
    size_t project_count;
    int queue_dirty;
    // Of the step call in progress.
    int64_t now_ms;
    struct rmj_actions *actions;
    // What assignments point at, freed by the next step call.
    void **scratch;
    size_t scratch_count, scratch_capacity;
};

// scheduler.c
void *rmj_scheduler_allocate(size_t size); // zeroed; asserts that memory is there
void *rmj_scheduler_scratch(struct rmj_scheduler *scheduler, size_t size);

// actions.c. Every action about a job whose record changed is preceded by its PERSIST.
struct rmj_action *rmj_act(struct rmj_scheduler *scheduler, struct rmj_job *job, enum rmj_action_kind kind);
void rmj_act_note(struct rmj_scheduler *scheduler, struct rmj_job *job, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void rmj_act_refuse(struct rmj_scheduler *scheduler, const char *job, const char *rank_uid, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void rmj_flush(struct rmj_scheduler *scheduler, struct rmj_job *job); // PERSIST when the record changed

// lifecycle.c
int rmj_job_ended(const struct rmj_job *job);
int rmj_job_active(const struct rmj_job *job); // holds ranks: LAUNCHING, TRAINING, EVALUATING
void rmj_job_move(struct rmj_scheduler *scheduler, struct rmj_job *job, Rmjob__V1__JobState state, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
void rmj_job_settle(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_job_step_committed(struct rmj_job *job, uint32_t step);
void rmj_job_manifest_committed(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event);
void rmj_job_evaluated(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_job_account(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_job_resize(struct rmj_scheduler *scheduler, struct rmj_job *job, uint32_t min_ranks, uint32_t max_ranks);
// Earliest time at which the rules would do something without a word from outside.
int64_t rmj_job_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job);

// incidents.c
void rmj_incident(struct rmj_scheduler *scheduler, struct rmj_job *job, uint32_t epoch, enum rmj_incident_kind kind,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));
void rmj_incident_resolve(struct rmj_scheduler *scheduler, struct rmj_job *job); // nothing more is to be learnt
void rmj_incident_progress(struct rmj_job *job);
// For reasons: how much of the budget is used and by what, with its own "; " in front; "" when nothing is.
const char *rmj_incident_words(const struct rmj_job *job, char words[RMJ_REASON_SIZE]);

// launches.c
struct rmj_launch *rmj_launch_find(const struct rmj_job *job, const char *name);
struct rmj_launch *rmj_launch_add(struct rmj_job *job, const char *name);
void rmj_launch_remove(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch);
void rmj_launch_exited(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                       const struct rmj_event *event);
void rmj_launch_failed(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                       const char *reason);
void rmj_launch_kill(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch);
void rmj_launch_leave(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch, int exit_code,
                      const char *reason);
void rmj_launches_dismiss(struct rmj_scheduler *scheduler, struct rmj_job *job, int exit_code, const char *reason);
void rmj_launches_timeouts(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_launches_trim(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_launches_fill(struct rmj_scheduler *scheduler, struct rmj_job *job);
int64_t rmj_launch_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job,
                           const struct rmj_launch *launch);
int rmj_launch_pending(const struct rmj_scheduler *scheduler, const struct rmj_job *job,
                       const struct rmj_launch *launch);  // worth a short wait: it brings its pages back
uint32_t rmj_launches_staying(const struct rmj_job *job); // neither leaving nor dismissed
uint32_t rmj_launches_live(const struct rmj_job *job);
void rmj_inventory_copy(struct rmj_inventory *to, const struct rmj_inventory *from, uint32_t page_count,
                        uint32_t step_count);
void rmj_inventory_clear(struct rmj_inventory *inventory);

// generations.c
void rmj_generation_attached(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event);
void rmj_generation_ready(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                          const struct rmj_event *event);
// The child of a launch is gone, whatever became of its supervisor.
void rmj_generation_lost(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                         const char *reason);
void rmj_generation_end(struct rmj_scheduler *scheduler, struct rmj_job *job, Rmjob__V1__EndKind kind,
                        const char *reason);
void rmj_generation_settle_end(struct rmj_job *job);
void rmj_generation_start_if_due(struct rmj_scheduler *scheduler, struct rmj_job *job);
void rmj_generation_resize_if_due(struct rmj_scheduler *scheduler, struct rmj_job *job);
int64_t rmj_generation_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job);
uint32_t rmj_generation_members(const struct rmj_job *job); // of the running generation that have not left it

// queue.c
void rmj_queue_pass(struct rmj_scheduler *scheduler); // grants slots to queued and running jobs
int rmj_queue_may_launch(const struct rmj_scheduler *scheduler, const struct rmj_job *job);
void rmj_queue_limits(struct rmj_scheduler *scheduler, const char *project, uint32_t max_ranks, uint32_t max_jobs);

// recovery.c
void rmj_recovery_begin(struct rmj_scheduler *scheduler, struct rmj_job *job);
// A rank known from the record (or adopted) attached again; 1 when it still runs the newest generation as before.
int rmj_recovery_attached(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                          const struct rmj_event *event);
void rmj_recovery_settle(struct rmj_scheduler *scheduler, struct rmj_job *job);

#endif
