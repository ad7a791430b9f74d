// Rank processes of a job: asked for, started, attached, away (child lost, supervisor alive), dismissed, gone.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "service/scheduler/state.h"

struct rmj_launch *rmj_launch_find(const struct rmj_job *job, const char *name)
{
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        if (strcmp(job->launches[i].name, name) == 0) {
            return &job->launches[i];
        }
    }
    return NULL;
}

struct rmj_launch *rmj_launch_add(struct rmj_job *job, const char *name)
{
    RMJ_ASSERT(job->record.launch_count < RMJ_RANKS_MAX);
    if (!job->launches) {
        job->launches = rmj_scheduler_allocate(RMJ_RANKS_MAX * sizeof *job->launches);
    }
    uint32_t index = job->record.launch_count++;
    struct rmj_launch *launch = &job->launches[index];
    memset(launch, 0, sizeof *launch);
    launch->order = RMJ_NO_RANK;
    launch->epoch = job->incidents;
    snprintf(launch->name, sizeof launch->name, "%s", name);
    snprintf(job->record.launches[index].name, sizeof job->record.launches[index].name, "%s", name);
    job->record.launches[index].rank = RMJ_NO_RANK;
    job->dirty = 1;
    return launch;
}

void rmj_launch_remove(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch)
{
    rmj_inventory_clear(&launch->inventory);
    uint32_t index = (uint32_t)(launch - job->launches);
    uint32_t after = --job->record.launch_count - index;
    memmove(launch, launch + 1, after * sizeof *launch);
    memmove(&job->record.launches[index], &job->record.launches[index + 1], after * sizeof job->record.launches[0]);
    memset(&job->launches[job->record.launch_count], 0, sizeof *launch); // its pages moved with it
    job->dirty = 1;
    scheduler->queue_dirty = 1;
}

void rmj_inventory_clear(struct rmj_inventory *inventory)
{
    for (uint32_t i = 0; i < inventory->snapshot_count; i++) {
        free(inventory->snapshots[i].pages);
    }
    memset(inventory, 0, sizeof *inventory);
}

// Snapshots past the bounds are left out: they cannot be resumed from.
void rmj_inventory_copy(struct rmj_inventory *to, const struct rmj_inventory *from, uint32_t page_count,
                        uint32_t step_count)
{
    rmj_inventory_clear(to);
    size_t size = (page_count + 7) / 8;
    for (uint32_t i = 0; i < from->snapshot_count && i < RMJ_SNAPSHOTS_MAX; i++) {
        if (!from->snapshots[i].pages || from->snapshots[i].step > step_count) {
            continue;
        }
        uint32_t n = to->snapshot_count++;
        to->snapshots[n].step = from->snapshots[i].step;
        snprintf(to->snapshots[n].digest, sizeof to->snapshots[n].digest, "%s", from->snapshots[i].digest);
        to->snapshots[n].pages = rmj_scheduler_allocate(size);
        memcpy(to->snapshots[n].pages, from->snapshots[i].pages, size);
    }
}

void rmj_launch_exited(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                       const struct rmj_event *event)
{
    int is_news = !launch->dismissed && !launch->leaving;
    launch->dismissed = 1; // nothing more is told to it
    if (is_news) {
        if (event->exit_code == RMJ_EXIT_ASKED_TO_LEAVE && event->signal == 0) {
            rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_PREEMPTION, "rank process %s was asked to leave",
                         launch->name);
        } else if (event->signal) {
            rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT, "rank process %s was killed by signal %d",
                         launch->name, event->signal);
        } else {
            rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT,
                         "rank process %s ended with exit code %d%s%.160s", launch->name, event->exit_code,
                         event->reason[0] ? ": " : "", event->reason);
        }
    }
    rmj_generation_lost(scheduler, job, launch, job->trouble);
    rmj_launch_remove(scheduler, job, launch);
}

void rmj_launch_failed(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                       const char *reason)
{
    int is_news = !launch->dismissed;
    launch->dismissed = 1;
    if (is_news) {
        rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT, "a rank process could not be started: %.150s",
                     reason[0] ? reason : "no reason was given");
    }
    rmj_launch_remove(scheduler, job, launch);
}

void rmj_launch_kill(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch)
{
    launch->dismissed = 1;
    launch->attached = launch->ready = launch->away = 0;
    launch->kill_count++;
    launch->since_ms = scheduler->now_ms;
    struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_KILL);
    snprintf(action->launch, sizeof action->launch, "%s", launch->name);
}

// Asks an attached rank to end; one that is not there to be asked is killed.
void rmj_launch_leave(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch, int exit_code,
                      const char *reason)
{
    if (!launch->attached) {
        rmj_launch_kill(scheduler, job, launch);
        return;
    }
    launch->dismissed = 1;
    launch->ready = 0;
    launch->since_ms = scheduler->now_ms;
    struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_LEAVE);
    snprintf(action->rank_uid, sizeof action->rank_uid, "%s", launch->name);
    snprintf(action->reason, sizeof action->reason, "%s", reason);
    action->exit_code = exit_code;
}

void rmj_launches_dismiss(struct rmj_scheduler *scheduler, struct rmj_job *job, int exit_code, const char *reason)
{
    job->generation_state = RMJ_GENERATION_NONE;
    job->recover_ms = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        job->launches[i].member = 0;
        if (!job->launches[i].dismissed) {
            rmj_launch_leave(scheduler, job, &job->launches[i], exit_code, reason);
        }
    }
}

uint32_t rmj_launches_staying(const struct rmj_job *job)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        count += !job->launches[i].dismissed;
    }
    return count;
}

uint32_t rmj_launches_live(const struct rmj_job *job)
{
    return job->record.launch_count;
}

int rmj_launch_pending(const struct rmj_scheduler *scheduler, const struct rmj_job *job,
                       const struct rmj_launch *launch)
{
    if (launch->dismissed || launch->attached) {
        return 0;
    }
    return launch->unseen ? job->recover_ms != 0
                          : launch->away && scheduler->now_ms < launch->since_ms + RMJ_CHILD_GRACE_MS;
}

// When the launch is given up, and why; INT64_MAX: it may take its time.
static int64_t patience_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job,
                           const struct rmj_launch *launch, const char **why)
{
    const struct rmj_scheduler_options *options = &scheduler->options;
    *why = NULL;
    if (launch->kill_count) {
        return launch->since_ms + RMJ_KILL_WAIT_MS;
    }
    if (launch->dismissed) {
        return launch->since_ms + options->ready_timeout_ms;
    }
    if (launch->unseen) {
        return INT64_MAX; // recovery.c
    }
    if (!launch->attached) {
        *why = "did not attach in time";
        return launch->started ? launch->since_ms + RMJ_ATTACH_WAIT_MS : INT64_MAX;
    }
    if (launch->ready) {
        return INT64_MAX;
    }
    if (!launch->member) {
        *why = "did not leave an old generation in time";
        return launch->since_ms + options->ready_timeout_ms;
    }
    if (job->generation_state == RMJ_GENERATION_ENDING && job->ended_ms) {
        *why = "did not leave the generation in time";
        return job->ended_ms + options->ready_timeout_ms;
    }
    *why = "is silent";
    return launch->heard_ms + options->heartbeat_timeout_ms;
}

void rmj_launches_timeouts(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    for (uint32_t i = job->record.launch_count; i-- > 0;) {
        struct rmj_launch *launch = &job->launches[i];
        const char *why;
        if (scheduler->now_ms < patience_ms(scheduler, job, launch, &why)) {
            continue;
        }
        if (launch->kill_count >= RMJ_KILLS_MAX) {
            rmj_launch_remove(scheduler, job, launch);
            continue;
        }
        if (why) {
            rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT,
                         "rank process %s %s; taken for hung and killed", launch->name, why);
            if (rmj_job_ended(job)) {
                return; // which dismissed them all
            }
        }
        rmj_generation_lost(scheduler, job, launch, job->trouble);
        rmj_launch_kill(scheduler, job, launch);
    }
}

int64_t rmj_launch_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job,
                           const struct rmj_launch *launch)
{
    const char *why;
    int64_t wake_ms = patience_ms(scheduler, job, launch, &why);
    if (rmj_launch_pending(scheduler, job, launch)) {
        int64_t grace_ms = launch->unseen ? job->recover_ms : launch->since_ms + RMJ_CHILD_GRACE_MS;
        wake_ms = grace_ms < wake_ms ? grace_ms : wake_ms;
    }
    return wake_ms;
}

// The one to go first: those that do not attach yet, then waiting ones, then members from the highest rank down.
static uint64_t expendable(const struct rmj_launch *launch, uint32_t index)
{
    uint64_t class = launch->member ? 0 : launch->ready ? 1 : launch->attached ? 2 : launch->away ? 3 : 4;
    return class << 48 | (uint64_t)(launch->order == RMJ_NO_RANK ? 0xffff : launch->order) << 16 | index;
}

// Members of a running generation are not taken out here: the generation ends at a step first (generations.c).
void rmj_launches_trim(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    while (rmj_launches_staying(job) > job->grant) {
        struct rmj_launch *worst = NULL;
        for (uint32_t i = 0; i < job->record.launch_count; i++) {
            struct rmj_launch *launch = &job->launches[i];
            // Of a generation that is ending, all are ready first: the highest ranks go, not the fastest.
            int ending = job->generation_state == RMJ_GENERATION_ENDING && launch->order != RMJ_NO_RANK;
            if (launch->dismissed || launch->member || ending) {
                continue;
            }
            if (!worst || expendable(launch, i) > expendable(worst, (uint32_t)(worst - job->launches))) {
                worst = launch;
            }
        }
        if (!worst) {
            return;
        }
        char reason[RMJ_REASON_SIZE];
        snprintf(reason, sizeof reason, "the job goes on with %u ranks", job->grant);
        rmj_launch_leave(scheduler, job, worst, RMJ_EXIT_ASKED_TO_LEAVE, reason);
    }
}

// Names must not repeat over a restart of rmjobd either, so the time goes in beside the counter (splitmix64's mixing).
static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static void make_name(const struct rmj_scheduler *scheduler, struct rmj_job *job, char name[RMJ_ID_SIZE])
{
    uint64_t hash = mix(scheduler->options.seed ^ mix((uint64_t)scheduler->now_ms));
    for (const char *c = job->record.id; *c; c++) {
        hash = mix(hash ^ (uint8_t)*c);
    }
    job->record.launches_named++;
    snprintf(name, RMJ_ID_SIZE, "rank-%u-%08" PRIx32, job->record.launches_named,
             (uint32_t)mix(hash ^ job->record.launches_named));
}

void rmj_launches_fill(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    // Evaluation does not change its membership, so a newcomer would only wait.
    int closed =
        job->record.state == RMJOB__V1__JOB_STATE__EVALUATING && job->generation_state == RMJ_GENERATION_RUNNING;
    if (closed || job->recover_ms || scheduler->now_ms < job->not_before_ms) {
        return;
    }
    while (job->record.launch_count < job->grant && rmj_queue_may_launch(scheduler, job)) {
        char name[RMJ_ID_SIZE];
        make_name(scheduler, job, name);
        struct rmj_launch *launch = rmj_launch_add(job, name);
        launch->since_ms = scheduler->now_ms;
        struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_LAUNCH);
        snprintf(action->launch, sizeof action->launch, "%s", name);
    }
}
