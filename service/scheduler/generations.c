// Membership: who attaches, when a generation starts, how it ends.
//
//   NONE --start--> RUNNING --END_GENERATION--> ENDING --every member ready or lost--> NONE
//
// ABORT: a member is gone, or left on its own account; the others must be ready within ready_timeout_ms.
// AT_STEP: membership is to change; everyone stops after the same committed step. No time is set for the step itself
// (heartbeats tell a hang), only for the stragglers once the first member is ready.
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "service/scheduler/state.h"

static struct rmj_launch *known_launch(struct rmj_scheduler *scheduler, struct rmj_job *job,
                                       const struct rmj_event *event)
{
    struct rmj_launch *launch = rmj_launch_find(job, event->rank_uid);
    if (launch) {
        return launch;
    }
    // A record written before its launch was announced names every process, so this one is of another life.
    rmj_act_refuse(scheduler, job->record.id, event->rank_uid, "rank process %s is not one of job %s's",
                   event->rank_uid, job->record.id);
    return NULL;
}

// 1 when the rank's device class is the job's.
static int check_probe(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                       const struct rmj_event *event)
{
    if (!job->record.probe[0]) {
        snprintf(job->record.probe, sizeof job->record.probe, "%s", event->probe);
        job->dirty = 1;
    }
    if (strcmp(job->record.probe, event->probe) == 0) {
        return 1;
    }
    rmj_act_refuse(scheduler, job->record.id, launch->name,
                   "device class %.16s of this rank is not %.16s, which the job was pinned to by its first rank: it "
                   "would not give the same bits",
                   event->probe, job->record.probe);
    rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT,
                 "rank process %s has device class %.16s, the job is pinned to %.16s; place its ranks on one kind of "
                 "machine",
                 launch->name, event->probe, job->record.probe);
    if (!launch->dismissed) {
        rmj_launch_kill(scheduler, job, launch);
    }
    return 0;
}

void rmj_generation_attached(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    struct rmj_launch *launch = known_launch(scheduler, job, event);
    if (!launch) {
        return;
    }
    if (launch->dismissed || event->incarnation < launch->incarnation) {
        rmj_act_refuse(scheduler, job->record.id, launch->name,
                       launch->dismissed ? "rank process %s was told to end" : "rank process %s has a newer trainer",
                       launch->name);
        return;
    }
    if (launch->attached && event->incarnation == launch->incarnation) {
        return; // the same word again
    }
    if (launch->incarnation && event->incarnation > launch->incarnation && !launch->unseen) {
        rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_FAULT,
                     "the trainer of rank process %s died and was started again", launch->name);
        rmj_generation_lost(scheduler, job, launch, job->trouble);
        if (rmj_job_ended(job)) {
            return;
        }
    }
    if (!check_probe(scheduler, job, launch, event)) {
        return;
    }
    launch->started = launch->attached = 1;
    launch->away = 0;
    launch->incarnation = event->incarnation;
    launch->epoch = job->incidents;
    launch->heard_ms = scheduler->now_ms;
    snprintf(launch->address, sizeof launch->address, "%s", event->address);
    rmj_inventory_copy(&launch->inventory, &event->inventory, job->record.page_count, job->record.step_count);
    if (launch->unseen && rmj_recovery_attached(scheduler, job, launch, event)) {
        return;
    }
    launch->since_ms = scheduler->now_ms;
    launch->ready = event->running_generation == 0;
    if (!launch->ready) {
        struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_END_GENERATION);
        snprintf(action->rank_uid, sizeof action->rank_uid, "%s", launch->name);
        action->generation = event->running_generation;
        action->end_kind = RMJOB__V1__END_KIND__ABORT;
        snprintf(action->reason, sizeof action->reason, "generation %u is over", event->running_generation);
    }
}

static void mark_bad_manifest(struct rmj_scheduler *scheduler, struct rmj_job *job, const char *digest)
{
    for (uint32_t i = 0; i < job->record.manifest_count; i++) {
        if (!job->record.manifests[i].bad && strcmp(job->record.manifests[i].digest, digest) == 0) {
            job->record.manifests[i].bad = 1;
            job->dirty = 1;
            rmj_act_note(scheduler, job, "checkpoint %u (%.12s) does not verify; going back to the one before",
                         job->record.manifests[i].step, digest);
        }
    }
}

static void leaves(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch)
{
    if (launch->dismissed) {
        return;
    }
    launch->leaving = 1;
    rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_PREEMPTION, "rank process %s was asked to leave",
                 launch->name);
    int attached = launch->attached;
    rmj_generation_lost(scheduler, job, launch, job->trouble);
    launch->attached = attached;
    launch->away = 0;
    rmj_launch_leave(scheduler, job, launch, RMJ_EXIT_ASKED_TO_LEAVE, "handed over");
}

void rmj_generation_ready(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                          const struct rmj_event *event)
{
    if (!launch->attached || event->incarnation != launch->incarnation || launch->dismissed) {
        return;
    }
    if (event->leaving) {
        leaves(scheduler, job, launch);
        return;
    }
    if (launch->ready || (launch->member && event->generation != job->record.generation)) {
        return;
    }
    if (event->digest[0]) {
        mark_bad_manifest(scheduler, job, event->digest);
    } else if (launch->member && event->reason[0] && job->ended_ms == 0) {
        // Once members were told to abort, their problems are only its echo. A suspected peer is not yet a fault.
        rmj_incident(scheduler, job, launch->epoch, event->has_suspect ? RMJ_INCIDENT_UNCLEAR : RMJ_INCIDENT_FAULT,
                     "rank %u (%s): %.150s", launch->order, launch->name, event->reason);
        if (rmj_job_ended(job)) {
            return;
        }
    }
    int was_member = launch->member;
    launch->member = 0;
    launch->ready = 1;
    launch->since_ms = launch->heard_ms = scheduler->now_ms;
    rmj_inventory_copy(&launch->inventory, &event->inventory, job->record.page_count, job->record.step_count);
    if (!was_member) {
        return;
    }
    if (job->generation_state == RMJ_GENERATION_RUNNING || event->reason[0] || event->digest[0]) {
        rmj_generation_end(scheduler, job, RMJOB__V1__END_KIND__ABORT, "a rank left the generation");
    } else if (job->ended_ms == 0) {
        job->ended_ms = scheduler->now_ms;
    }
}

void rmj_generation_lost(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                         const char *reason)
{
    int was_member = launch->member;
    launch->member = launch->attached = launch->ready = 0;
    launch->away = launch->started && !launch->dismissed;
    launch->since_ms = scheduler->now_ms;
    rmj_inventory_clear(&launch->inventory);
    if (was_member) {
        rmj_generation_end(scheduler, job, RMJOB__V1__END_KIND__ABORT, reason);
    }
}

void rmj_generation_end(struct rmj_scheduler *scheduler, struct rmj_job *job, Rmjob__V1__EndKind kind,
                        const char *reason)
{
    int escalates = job->generation_state == RMJ_GENERATION_ENDING && job->end_kind == RMJOB__V1__END_KIND__AT_STEP &&
                    kind == RMJOB__V1__END_KIND__ABORT;
    if (job->generation_state != RMJ_GENERATION_RUNNING && !escalates) {
        return;
    }
    job->generation_state = RMJ_GENERATION_ENDING;
    job->end_kind = kind;
    job->ended_ms = kind == RMJOB__V1__END_KIND__ABORT ? scheduler->now_ms : 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        const struct rmj_launch *launch = &job->launches[i];
        if (launch->member && launch->attached) {
            struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_END_GENERATION);
            snprintf(action->rank_uid, sizeof action->rank_uid, "%s", launch->name);
            action->generation = job->record.generation;
            action->end_kind = kind;
            snprintf(action->reason, sizeof action->reason, "%s", reason);
        }
    }
}

uint32_t rmj_generation_members(const struct rmj_job *job)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        count += (uint32_t)job->launches[i].member;
    }
    return job->generation_state == RMJ_GENERATION_RUNNING ? count : 0;
}

void rmj_generation_settle_end(struct rmj_job *job)
{
    if (job->generation_state != RMJ_GENERATION_ENDING) {
        return;
    }
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        if (job->launches[i].member) {
            return;
        }
    }
    job->generation_state = RMJ_GENERATION_NONE;
}

struct candidates {
    struct rmj_launch *items[RMJ_RANKS_MAX]; // by rank in the generation before, newcomers last
    uint32_t count;
    int pending; // somebody is worth a short wait
    int attached;
};

static struct candidates gather(const struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    struct candidates found = {.count = 0};
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        struct rmj_launch *launch = &job->launches[i];
        found.pending |= rmj_launch_pending(scheduler, job, launch);
        found.attached |= launch->attached && !launch->dismissed;
        if (!launch->ready || launch->dismissed) {
            continue;
        }
        uint32_t at = found.count++;
        while (at > 0 && found.items[at - 1]->order > launch->order) {
            found.items[at] = found.items[at - 1];
            at--;
        }
        found.items[at] = launch;
    }
    return found;
}

// Every `checkpoint_every_steps` of the spec; auto: twenty manifests over a job. A manifest costs no training time
// beyond its copy, and a loss replays at most a twentieth of the job, less where the survivors' memory is enough.
static uint32_t checkpoint_every(const struct rmj_job_record *record)
{
    if (record->checkpoint_off) {
        return 0;
    }
    if (record->checkpoint_every_steps) {
        return record->checkpoint_every_steps;
    }
    return record->step_count >= 20 ? record->step_count / 20 : 1;
}

static void announce(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct candidates *found,
                     const struct rmj_resume *resume)
{
    size_t bitmap_size = (job->record.page_count + 7) / 8;
    struct rmj_assignment *first = NULL;
    for (uint32_t rank = 0; rank < found->count; rank++) {
        struct rmj_assignment *assignment = rmj_scheduler_scratch(scheduler, sizeof *assignment);
        if (first) {
            *assignment = *first; // the same for all but the rank; the pages are shared
        } else {
            first = assignment;
            assignment->generation = job->record.generation;
            assignment->world = found->count;
            assignment->phase =
                resume->step == job->record.step_count ? RMJOB__V1__PHASE__EVALUATE : RMJOB__V1__PHASE__TRAIN;
            assignment->source = resume->source;
            assignment->step = resume->step;
            assignment->checkpoint_every_steps = checkpoint_every(&job->record);
            snprintf(assignment->manifest, sizeof assignment->manifest, "%s", resume->manifest);
            for (uint32_t i = 0; i < found->count; i++) {
                const struct rmj_launch *peer = found->items[i];
                const uint8_t *pages = resume->source == RMJOB__V1__RESUME_SOURCE__MEMORY
                                           ? rmj_resume_pages(&peer->inventory, resume->step)
                                           : NULL;
                if (pages) {
                    uint8_t *copy = rmj_scheduler_scratch(scheduler, bitmap_size);
                    memcpy(copy, pages, bitmap_size);
                    assignment->peers[i].pages = copy;
                }
                memcpy(assignment->peers[i].rank_uid, peer->name, RMJ_ID_SIZE);
                memcpy(assignment->peers[i].address, peer->address, sizeof peer->address);
            }
        }
        assignment->rank = rank;
        struct rmj_action *action = rmj_act(scheduler, job, RMJ_ACTION_ASSIGN);
        snprintf(action->rank_uid, sizeof action->rank_uid, "%s", found->items[rank]->name);
        action->generation = job->record.generation;
        action->assignment = assignment;
    }
}

static void start(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct candidates *found)
{
    const struct rmj_inventory *inventories[RMJ_RANKS_MAX];
    for (uint32_t i = 0; i < found->count; i++) {
        inventories[i] = &found->items[i]->inventory;
    }
    struct rmj_resume resume = rmj_resume_choose(&job->record, inventories, found->count);
    job->record.generation++;
    job->record.world = found->count;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        job->launches[i].order = job->record.launches[i].rank = RMJ_NO_RANK;
    }
    for (uint32_t rank = 0; rank < found->count; rank++) {
        struct rmj_launch *launch = found->items[rank];
        launch->order = job->record.launches[launch - job->launches].rank = rank;
        launch->member = 1;
        launch->ready = 0;
        launch->heard_ms = scheduler->now_ms;
        launch->epoch = job->incidents;
    }
    job->generation_state = RMJ_GENERATION_RUNNING;
    job->ended_ms = 0;
    job->waiting_ms = 0;
    job->dirty = 1;
    const char *from = resume.source == RMJOB__V1__RESUME_SOURCE__MEMORY     ? "the ranks' memory"
                       : resume.source == RMJOB__V1__RESUME_SOURCE__MANIFEST ? "a checkpoint"
                                                                             : "the base model";
    // A training job's new steps soon take such words back; while it is evaluated nothing else says how it goes.
    char words[RMJ_REASON_SIZE];
    int evaluates = resume.step == job->record.step_count;
    rmj_job_move(scheduler, job, evaluates ? RMJOB__V1__JOB_STATE__EVALUATING : RMJOB__V1__JOB_STATE__TRAINING,
                 "generation %u: %u of %u ranks, %s from step %u of %u, out of %s%s", job->record.generation,
                 found->count, job->grant, evaluates ? "evaluating" : "training", resume.step, job->record.step_count,
                 from, evaluates ? rmj_incident_words(job, words) : "");
    announce(scheduler, job, found, &resume);
    for (uint32_t i = 0; i < found->count; i++) {
        rmj_inventory_clear(&found->items[i]->inventory); // old from the first step on
    }
}

void rmj_generation_start_if_due(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (job->generation_state != RMJ_GENERATION_NONE || job->recover_ms) {
        return;
    }
    struct candidates found = gather(scheduler, job);
    job->waiting_ms = found.count == 0 ? 0 : job->waiting_ms ? job->waiting_ms : scheduler->now_ms;
    if (found.count == 0 && !found.pending && !found.attached && job->record.state != RMJOB__V1__JOB_STATE__LAUNCHING) {
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__LAUNCHING,
                     "every rank was lost (last: %s); starting %u again, from the newest checkpoint", job->trouble,
                     job->grant);
    }
    if (job->grant < job->record.min_ranks) {
        scheduler->queue_dirty = 1; // the queue finds the slots, or takes the job back
        return;
    }
    if (scheduler->now_ms < job->not_before_ms || found.count == 0) {
        return;
    }
    if (found.count < job->grant) {
        int joining = job->record.state == RMJOB__V1__JOB_STATE__LAUNCHING;
        int waits = joining && scheduler->now_ms < job->waiting_ms + scheduler->options.join_wait_ms;
        if (found.pending || waits || found.count < job->record.min_ranks) {
            return;
        }
    }
    rmj_incident_resolve(scheduler, job);
    if (!rmj_job_ended(job)) {
        start(scheduler, job, &found);
    }
}

static uint32_t waiting_count(const struct rmj_job *job)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        count += job->launches[i].ready && !job->launches[i].dismissed;
    }
    return count;
}

// Only while training: an evaluation keeps its membership, it is short and would start again.
void rmj_generation_resize_if_due(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (job->generation_state != RMJ_GENERATION_RUNNING || job->record.state != RMJOB__V1__JOB_STATE__TRAINING ||
        job->recover_ms) {
        return;
    }
    uint32_t members = rmj_generation_members(job);
    uint32_t waiting = waiting_count(job);
    job->waiting_ms = waiting == 0 ? 0 : job->waiting_ms ? job->waiting_ms : scheduler->now_ms;
    if (members > job->grant) {
        rmj_generation_end(scheduler, job, RMJOB__V1__END_KIND__AT_STEP, "the job is to go on with fewer ranks");
    } else if (waiting && members < job->grant) {
        int all_here = members + waiting >= rmj_launches_staying(job);
        if (all_here || scheduler->now_ms >= job->waiting_ms + scheduler->options.join_wait_ms) {
            rmj_generation_end(scheduler, job, RMJOB__V1__END_KIND__AT_STEP, "more ranks are here");
        }
    }
}

int64_t rmj_generation_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job)
{
    int64_t wake_ms = INT64_MAX;
    if (job->waiting_ms) {
        int64_t join_ms = job->waiting_ms + scheduler->options.join_wait_ms;
        wake_ms = join_ms > scheduler->now_ms ? join_ms : wake_ms;
    }
    if (job->not_before_ms > scheduler->now_ms && job->not_before_ms < wake_ms) {
        wake_ms = job->not_before_ms;
    }
    return wake_ms;
}
