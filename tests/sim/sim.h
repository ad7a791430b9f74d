// A world for the scheduler's core: virtual time, rank processes with their memory, a launcher, a store, a database,
// and an rmjobd that can be killed between any two of its actions. Everything follows from one seed.
//
//   world.c   time, rmjobd and its database, launcher, the words between them
//   ranks.c   supervisors and trainer children: attach, train, snapshot, vote, evaluate, leave
//   faults.c  what goes wrong, and how often
//   checks.c  what must hold at every event, and at the end
#ifndef RMJ_TESTS_SIM_SIM_H
#define RMJ_TESTS_SIM_SIM_H

#include "base/rng.h"
#include "service/scheduler/scheduler.h"

#define SIM_PAGE_BYTES 8 // bitmaps: up to 64 pages
#define SIM_JOBS_MAX 128

struct sim;

struct sim_snapshot {
    int used;
    uint32_t step;
    uint8_t pages[SIM_PAGE_BYTES];
};

struct sim_generation {
    int job;
    uint32_t number, world, step, first_step;
    uint32_t every; // steps between manifests, 0: never
    int members[RMJ_RANKS_MAX];
    uint32_t assigned, joined, committed; // counts of members
    uint64_t joined_ids[RMJ_RANKS_MAX];   // children that joined
    int broken, started;
    Rmjob__V1__ResumeSource source;
    struct sim_generation *next;
};

struct sim_process {
    char name[RMJ_ID_SIZE];
    int job;
    int pending, alive; // being launched; the supervisor lives
    int exit_code, signal;
    int child, hung, leaving;
    uint64_t child_id;
    uint32_t incarnation;
    uint64_t connection; // epoch of the rmjobd it is attached to, 0: none
    int odd_probe;
    uint32_t last_generation;
    int at_step;                    // told to stop after the step
    struct sim_generation *running; // NULL: idle
    uint32_t rank;
    struct sim_snapshot snapshots[2]; // kept by the supervisor; newest first
    int64_t words_ms;                 // a stream keeps its order
    int64_t alive_since_ms;
};

struct sim_manifest {
    uint32_t step;
    int damaged;
};

struct sim_job {
    struct rmj_job_record submitted, durable;
    int is_durable, submitted_yet, finished;
    uint32_t page_count, step_count;
    struct sim_manifest manifests[512];
    uint32_t manifest_count;
    uint32_t generation; // newest announced
    uint32_t step_max;   // furthest step that was really committed
    uint32_t step_seen;  // newest step that the core knows of
    uint32_t faults;     // accidents made for it since then
    int evaluated, gate_passes, gate_done, published, publish_fails;
    int doomed;   // its trainers crash at once, every time
    int bad_data; // a rank will stop it
    int cancelled;
    double rank_seconds; // really used
    Rmjob__V1__JobState ended;
};

struct sim_item {
    int64_t at_ms;
    uint64_t sequence;
    void (*run)(struct sim *sim, struct sim_item *item);
    int index; // process or job
    uint64_t id, id2;
    void *pointer;
    uint32_t number;
    struct rmj_event *event; // owned
};

struct sim {
    uint64_t seed;
    struct rmj_rng rng;
    int64_t now_ms, faults_end_ms, tick_ms;
    struct sim_item *heap;
    size_t heap_count, heap_capacity;
    size_t unsifted; // index of the newest item, SIZE_MAX: none
    uint64_t sequence, child_ids, events;
    struct rmj_scheduler_options options;
    struct rmj_scheduler *scheduler; // NULL: rmjobd is down
    uint64_t epoch;                  // of rmjobd, grows with each start
    int crash_after;                 // actions until rmjobd dies in the middle of a list, -1: not
    struct rmj_actions actions;
    struct sim_job jobs[SIM_JOBS_MAX];
    int job_count;
    struct sim_process *processes;
    int process_count, process_capacity;
    struct sim_generation *generations;
    uint32_t limit_ranks[2], limit_jobs[2]; // of projects "a" and "b"
    int fault_mean_ms;
    int verbose;
    char failure[512]; // "" while all is well
};

// world.c
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint32_t sim_below(struct sim *sim, uint32_t bound);
int sim_chance(struct sim *sim, uint32_t percent);
struct sim_item *sim_later(struct sim *sim, int64_t delay_ms, void (*run)(struct sim *, struct sim_item *), int index);
struct rmj_event *sim_event(enum rmj_event_kind kind, const struct sim *sim, int job);
void sim_core(struct sim *sim, struct rmj_event *event); // to the core now, if rmjobd is up; frees the event
void sim_rmjobd_start(struct sim *sim);
void sim_rmjobd_kill(struct sim *sim);
int sim_process_find(const struct sim *sim, const char *name);
int sim_run(struct sim *sim); // 1 when all held
void sim_deinit(struct sim *sim);

// ranks.c
void sim_child_start(struct sim *sim, int process);
void sim_child_lost(struct sim *sim, int process);
void sim_process_gone(struct sim *sim, int process, int exit_code, int signal);
void sim_word(struct sim *sim, int process, const struct rmj_action *action);
void sim_attach(struct sim *sim, struct sim_item *item);
void sim_ready(struct sim *sim, int process, const char *problem, const char *digest);
void sim_preempt(struct sim *sim, int process);

// faults.c
void sim_setup(struct sim *sim, uint64_t seed);
void sim_fault(struct sim *sim, struct sim_item *item);

// checks.c
void sim_check_action(struct sim *sim, int job, const struct rmj_action *action);
void sim_check_after(struct sim *sim, int job);
void sim_check_commit(struct sim *sim, const struct sim_generation *generation);
void sim_check_end(struct sim *sim);

#endif
