#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

static void submit(struct sim *sim, struct sim_item *item)
{
    struct sim_job *job = &sim->jobs[item->index];
    if (job->is_durable) {
        return;
    }
    int index = item->index;
    if (sim->scheduler) {
        job->submitted.submitted_ms = sim->now_ms;
        if (job->submitted.deadline_ms) {
            job->submitted.deadline_ms = sim->now_ms + 60000;
        }
        struct rmj_event *event = sim_event(RMJ_EVENT_SUBMITTED, sim, index);
        event->record = &job->submitted;
        sim_core(sim, event);
    }
    if (!job->is_durable) {
        sim_later(sim, 500, submit, index); // the client tries again
    }
}

static void setup_job(struct sim *sim, int index, uint32_t ranks)
{
    struct sim_job *job = &sim->jobs[index];
    struct rmj_job_record *record = &job->submitted;
    snprintf(record->id, sizeof record->id, "rm-%03d", index);
    snprintf(record->project, sizeof record->project, "%c", 'a' + (int)sim_below(sim, 2));
    record->max_ranks = 1 + sim_below(sim, ranks);
    record->min_ranks = 1 + sim_below(sim, record->max_ranks);
    record->max_restarts = 6 + sim_below(sim, 10);
    record->checkpoint_off = sim_chance(sim, 10);
    record->checkpoint_every_steps = sim_chance(sim, 50) ? 1 + sim_below(sim, 5) : 0;
    record->manifests_keep = sim_below(sim, 4);
    record->deadline_ms = sim_chance(sim, 4);
    record->rank_seconds_limit = sim_chance(sim, 4) ? 20 + sim_below(sim, 200) : 0;
    job->page_count = 1 + sim_below(sim, 64);
    job->step_count = 1 + sim_below(sim, 60);
    job->gate_passes = sim_chance(sim, 90);
    job->publish_fails = sim_chance(sim, 3);
    job->doomed = sim_chance(sim, 3);
    job->bad_data = !job->doomed && sim_chance(sim, 3);
    sim_later(sim, sim_below(sim, 20000), submit, index);
}

void sim_setup(struct sim *sim, uint64_t seed)
{
    memset(sim, 0, sizeof *sim);
    sim->unsifted = SIZE_MAX;
    sim->seed = seed;
    rmj_rng_init(&sim->rng, seed, 0);
    sim->now_ms = 1000000;
    int large = seed % 100 == 0; // thousands of ranks
    sim->options = (struct rmj_scheduler_options){.rank_slots = large ? 2000 : 2 + sim_below(sim, 20),
                                                  .join_wait_ms = 2000,
                                                  .reattach_wait_ms = 3000,
                                                  .heartbeat_timeout_ms = 5000,
                                                  .ready_timeout_ms = 2000,
                                                  .backoff_ms_max = 10000};
    sim->faults_end_ms = sim->now_ms + 10000 + sim_below(sim, 60000);
    sim->fault_mean_ms = large ? 100 : 100 << sim_below(sim, 6);
    for (int i = 0; i < 2; i++) {
        sim->limit_ranks[i] = sim_chance(sim, 30) ? 1 + sim_below(sim, sim->options.rank_slots) : 0;
        sim->limit_jobs[i] = sim_chance(sim, 30) ? 1 + sim_below(sim, 3) : 0;
    }
    sim_rmjobd_start(sim);
    sim->job_count = large ? 60 : 1 + (int)sim_below(sim, 6);
    uint32_t ranks = large ? 64 : sim->options.rank_slots;
    for (int i = 0; i < sim->job_count; i++) {
        setup_job(sim, i, ranks);
    }
    sim_later(sim, sim_below(sim, 5000), sim_fault, 0);
}

static int pick_alive(struct sim *sim)
{
    for (int tries = 0; tries < 20 && sim->process_count > 0; tries++) {
        int newest = sim->process_count < 300 ? sim->process_count : 300;
        int index = sim->process_count - 1 - (int)sim_below(sim, (uint32_t)newest);
        if (sim->processes[index].alive) {
            return index;
        }
    }
    return -1;
}

enum fault {
    KILL_CHILD,
    KILL_SUPERVISOR,
    KILL_SEVERAL,
    KILL_ALL,
    HANG,
    PREEMPT,
    RMJOBD_NOW,
    RMJOBD_BETWEEN,
    RESIZE,
    CANCEL,
    LIMITS,
    STALE,
    FAULT_COUNT
};

static const uint8_t weights[FAULT_COUNT] = {
    [KILL_CHILD] = 25, [KILL_SUPERVISOR] = 15, [KILL_SEVERAL] = 8, [KILL_ALL] = 3, [HANG] = 8,   [PREEMPT] = 10,
    [RMJOBD_NOW] = 4,  [RMJOBD_BETWEEN] = 5,   [RESIZE] = 12,      [CANCEL] = 1,   [LIMITS] = 3, [STALE] = 6};

static void kill_share(struct sim *sim, int job, uint32_t percent)
{
    sim->jobs[job].faults++;
    for (int i = 0; i < sim->process_count; i++) {
        if (sim->processes[i].alive && sim->processes[i].job == job && sim_chance(sim, percent)) {
            if (sim_chance(sim, 50)) {
                sim_child_lost(sim, i);
            } else {
                sim_process_gone(sim, i, 0, 9);
            }
        }
    }
}

static void resize(struct sim *sim, int job)
{
    struct rmj_event *event = sim_event(RMJ_EVENT_RESIZE, sim, job);
    event->max_ranks =
        1 + sim_below(sim, sim->options.rank_slots < RMJ_RANKS_MAX ? sim->options.rank_slots : RMJ_RANKS_MAX);
    event->min_ranks = sim_below(sim, event->max_ranks + 1);
    sim_core(sim, event);
}

// Words out of nowhere: none of them may change anything that matters.
static void stale_word(struct sim *sim, int job, int process)
{
    static const enum rmj_event_kind kinds[] = {
        RMJ_EVENT_READY,           RMJ_EVENT_DETACHED,  RMJ_EVENT_STEP_COMMITTED, RMJ_EVENT_EVALUATED,
        RMJ_EVENT_RANK_FAILED_JOB, RMJ_EVENT_PUBLISHED, RMJ_EVENT_GATED,          RMJ_EVENT_MANIFEST_COMMITTED,
        RMJ_EVENT_ATTACHED,        RMJ_EVENT_EXITED};
    struct rmj_event *event = sim_event(kinds[sim_below(sim, sizeof kinds / sizeof *kinds)], sim, job);
    const struct sim_job *of = &sim->jobs[job];
    event->generation = of->generation ? sim_below(sim, of->generation) : 7; // older, or not yet
    event->step = sim_below(sim, of->step_count + 5);
    event->passed = 1;
    snprintf(event->rank_uid, sizeof event->rank_uid, "%s", process >= 0 ? sim->processes[process].name : "nobody");
    snprintf(event->launch, sizeof event->launch, "nobody");
    event->incarnation = 0; // of a child that is long gone
    event->state = RMJOB__V1__JOB_STATE__FAILED_INTERNAL;
    if (event->kind == RMJ_EVENT_GATED || event->kind == RMJ_EVENT_PUBLISHED) {
        event->kind = of->durable.state < RMJOB__V1__JOB_STATE__GATING ? event->kind : RMJ_EVENT_DETACHED;
    }
    sim_core(sim, event);
}

static void on_process(struct sim *sim, enum fault fault, int process)
{
    struct sim_job *job = &sim->jobs[sim->processes[process].job];
    switch (fault) {
    case KILL_CHILD:
        job->faults++;
        sim_child_lost(sim, process);
        break;
    case KILL_SUPERVISOR:
        job->faults++;
        sim_process_gone(sim, process, sim_chance(sim, 30) ? 1 : 0, 9);
        break;
    case KILL_SEVERAL:
        kill_share(sim, sim->processes[process].job, 40);
        break;
    case KILL_ALL:
        kill_share(sim, sim->processes[process].job, 100);
        break;
    case HANG:
        job->faults++;
        sim->processes[process].hung = 1;
        break;
    default:
        sim_preempt(sim, process);
        break;
    }
}

static void on_service(struct sim *sim, enum fault fault, int job)
{
    switch (fault) {
    case RMJOBD_NOW:
        sim_rmjobd_kill(sim);
        break;
    case RMJOBD_BETWEEN:
        sim->crash_after = (int)sim_below(sim, 6);
        break;
    case RESIZE:
        resize(sim, job);
        break;
    case CANCEL:
        if (sim->scheduler && sim->jobs[job].is_durable) {
            sim->jobs[job].cancelled = 1;
            sim_core(sim, sim_event(RMJ_EVENT_CANCEL, sim, job));
        }
        break;
    case LIMITS: {
        struct rmj_event *event = sim_event(RMJ_EVENT_LIMITS, sim, -1);
        int project = (int)sim_below(sim, 2);
        snprintf(event->project, sizeof event->project, "%c", 'a' + project);
        event->max_ranks = sim_below(sim, sim->options.rank_slots);
        event->max_jobs = sim_below(sim, 4);
        if (sim->scheduler) {
            sim->limit_ranks[project] = event->max_ranks;
            sim->limit_jobs[project] = event->max_jobs;
        }
        sim_core(sim, event);
        break;
    }
    default:
        stale_word(sim, job, pick_alive(sim));
        break;
    }
}

void sim_fault(struct sim *sim, struct sim_item *item)
{
    (void)item;
    if (sim->now_ms >= sim->faults_end_ms) {
        return;
    }
    sim_later(sim, 1 + sim_below(sim, 2 * (uint32_t)sim->fault_mean_ms), sim_fault, 0);
    uint32_t total = 0;
    for (int i = 0; i < FAULT_COUNT; i++) {
        total += weights[i];
    }
    uint32_t at = sim_below(sim, total);
    enum fault fault = 0;
    while (at >= weights[fault]) {
        at -= weights[fault++];
    }
    int process = pick_alive(sim);
    if (fault <= PREEMPT) {
        if (process >= 0) {
            on_process(sim, fault, process);
        }
    } else {
        on_service(sim, fault, (int)sim_below(sim, (uint32_t)sim->job_count));
    }
}
