// Takes events in, finds the job they are about, turns them into facts, and lets the rules settle.
#include "service/scheduler/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "service/scheduler/state.h"

void *rmj_scheduler_allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    RMJ_ASSERT(memory);
    return memory;
}

void *rmj_scheduler_scratch(struct rmj_scheduler *scheduler, size_t size)
{
    if (scheduler->scratch_count == scheduler->scratch_capacity) {
        scheduler->scratch_capacity = scheduler->scratch_capacity ? 2 * scheduler->scratch_capacity : 16;
        scheduler->scratch = realloc(scheduler->scratch, scheduler->scratch_capacity * sizeof *scheduler->scratch);
        RMJ_ASSERT(scheduler->scratch);
    }
    return scheduler->scratch[scheduler->scratch_count++] = rmj_scheduler_allocate(size);
}

static void free_scratch(struct rmj_scheduler *scheduler)
{
    for (size_t i = 0; i < scheduler->scratch_count; i++) {
        free(scheduler->scratch[i]);
    }
    scheduler->scratch_count = 0;
}

static void destroy_job(struct rmj_job *job)
{
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        rmj_inventory_clear(&job->launches[i].inventory);
    }
    free(job->launches);
    free(job);
}

struct rmj_scheduler *rmj_scheduler_create(const struct rmj_scheduler_options *options)
{
    struct rmj_scheduler *scheduler = rmj_scheduler_allocate(sizeof *scheduler);
    scheduler->options = *options;
    return scheduler;
}

void rmj_scheduler_destroy(struct rmj_scheduler *scheduler)
{
    if (!scheduler) {
        return;
    }
    for (size_t i = 0; i < scheduler->job_count; i++) {
        destroy_job(scheduler->jobs[i]);
    }
    free_scratch(scheduler);
    free(scheduler->scratch);
    free(scheduler->jobs);
    free(scheduler);
}

static struct rmj_job *find_job(const struct rmj_scheduler *scheduler, const char *id)
{
    for (size_t i = 0; i < scheduler->job_count; i++) {
        if (strcmp(scheduler->jobs[i]->record.id, id) == 0) {
            return scheduler->jobs[i];
        }
    }
    return NULL;
}

static int is_older(const struct rmj_job *a, const struct rmj_job *b)
{
    if (a->record.submitted_ms != b->record.submitted_ms) {
        return a->record.submitted_ms < b->record.submitted_ms;
    }
    return strcmp(a->record.id, b->record.id) < 0;
}

static struct rmj_job *add_job(struct rmj_scheduler *scheduler, const struct rmj_job_record *record)
{
    if (scheduler->job_count == RMJ_JOBS_MAX) {
        return NULL;
    }
    if (scheduler->job_count == scheduler->job_capacity) {
        scheduler->job_capacity = scheduler->job_capacity ? 2 * scheduler->job_capacity : 16;
        scheduler->jobs = realloc(scheduler->jobs, scheduler->job_capacity * sizeof(struct rmj_job *));
        RMJ_ASSERT(scheduler->jobs);
    }
    struct rmj_job *job = rmj_scheduler_allocate(sizeof *job);
    job->record = *record;
    job->persisted_ms = scheduler->now_ms;
    if (job->record.max_ranks < 1 || job->record.max_ranks > RMJ_RANKS_MAX) {
        job->record.max_ranks = job->record.max_ranks ? RMJ_RANKS_MAX : 1;
    }
    if (job->record.min_ranks < 1 || job->record.min_ranks > job->record.max_ranks) {
        job->record.min_ranks = job->record.min_ranks ? job->record.max_ranks : 1;
    }
    size_t at = scheduler->job_count++;
    for (; at > 0 && is_older(job, scheduler->jobs[at - 1]); at--) {
        scheduler->jobs[at] = scheduler->jobs[at - 1];
    }
    scheduler->jobs[at] = job;
    return job;
}

static void drop_forgotten(struct rmj_scheduler *scheduler)
{
    size_t kept = 0;
    for (size_t i = 0; i < scheduler->job_count; i++) {
        if (scheduler->jobs[i]->forgotten) {
            destroy_job(scheduler->jobs[i]);
        } else {
            scheduler->jobs[kept++] = scheduler->jobs[i];
        }
    }
    scheduler->job_count = kept;
}

static void on_submitted(struct rmj_scheduler *scheduler, const struct rmj_event *event)
{
    struct rmj_job *job = add_job(scheduler, event->record);
    if (!job) {
        return;
    }
    job->record.launch_count = 0;
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__PREPARING, "reading and checking the data");
    rmj_act(scheduler, job, RMJ_ACTION_PREPARE);
    rmj_job_settle(scheduler, job);
}

static void on_recovered(struct rmj_scheduler *scheduler, const struct rmj_event *event)
{
    static const enum rmj_action_kind again[] = {
        [RMJOB__V1__JOB_STATE__PREPARING] = RMJ_ACTION_PREPARE,
        [RMJOB__V1__JOB_STATE__GATING] = RMJ_ACTION_GATE,
        [RMJOB__V1__JOB_STATE__PUBLISHING] = RMJ_ACTION_PUBLISH,
    };
    struct rmj_job *job = add_job(scheduler, event->record);
    if (!job) {
        return;
    }
    rmj_recovery_begin(scheduler, job);
    job->record.rank_seconds_ms = scheduler->now_ms;
    Rmjob__V1__JobState state = job->record.state;
    if ((size_t)state < RMJ_COUNT(again) && again[state] != RMJ_ACTION_PERSIST) {
        rmj_act(scheduler, job, again[state]);
    }
    // It settles with the first TICK: until every job is recovered nobody knows which slots are taken.
    scheduler->queue_dirty = 1;
    job->wake_ms = scheduler->now_ms;
}

static void on_prepared(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    if (job->record.state != RMJOB__V1__JOB_STATE__PREPARING) {
        return;
    }
    if (event->page_count == 0 || event->page_count > RMJ_PAGES_MAX || event->step_count == 0) {
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INTERNAL,
                     "the plan has %u pages and %u steps; pages are 1 to %d, steps at least 1", event->page_count,
                     event->step_count, RMJ_PAGES_MAX);
        return;
    }
    job->record.page_count = event->page_count;
    job->record.step_count = event->step_count;
    snprintf(job->record.plan, sizeof job->record.plan, "%s", event->plan);
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__QUEUED, "the data is in order; waits for rank slots");
    scheduler->queue_dirty = 1;
}

static Rmjob__V1__JobState failure_of(Rmjob__V1__JobState state)
{
    int names_failure = state >= RMJOB__V1__JOB_STATE__FAILED_GATE && state <= RMJOB__V1__JOB_STATE__FAILED_INTERNAL;
    return names_failure ? state : RMJOB__V1__JOB_STATE__FAILED_INTERNAL;
}

static const char *reason_of(const struct rmj_event *event, const char *otherwise)
{
    return event->reason[0] ? event->reason : otherwise;
}

static void on_cancel(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    if (job->record.state == RMJOB__V1__JOB_STATE__PUBLISHING) {
        rmj_act_note(scheduler, job, "too late to cancel: the gate passed and the model is being published");
        return;
    }
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__CANCELLED, "cancelled: %s",
                 reason_of(event, "no reason was given"));
}

// Words about the job itself; it has not ended.
static void on_job_word(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    Rmjob__V1__JobState state = job->record.state;
    switch (event->kind) {
    case RMJ_EVENT_PREPARED:
        on_prepared(scheduler, job, event);
        break;
    case RMJ_EVENT_PREPARE_FAILED:
        if (state == RMJOB__V1__JOB_STATE__PREPARING) {
            rmj_job_move(scheduler, job, failure_of(event->state), "%s",
                         reason_of(event, "the prepare task failed without a word; see its log"));
        }
        break;
    case RMJ_EVENT_GATED:
        if (state != RMJOB__V1__JOB_STATE__GATING) {
            break;
        }
        if (event->passed) {
            rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__PUBLISHING, "%s",
                         reason_of(event, "the gate passed; signing and publishing"));
            rmj_act(scheduler, job, RMJ_ACTION_PUBLISH);
        } else {
            rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_GATE, "%s",
                         reason_of(event, "the gate failed; nothing was published; see the report"));
        }
        break;
    case RMJ_EVENT_PUBLISHED:
        if (state == RMJOB__V1__JOB_STATE__PUBLISHING) {
            rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__SUCCEEDED, "%s", reason_of(event, "published"));
        }
        break;
    case RMJ_EVENT_PUBLISH_FAILED:
        if (state == RMJOB__V1__JOB_STATE__PUBLISHING) {
            rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE, "%s",
                         reason_of(event, "publishing failed; see the log of the service"));
        }
        break;
    case RMJ_EVENT_CANCEL:
        on_cancel(scheduler, job, event);
        break;
    case RMJ_EVENT_RESIZE:
        rmj_job_resize(scheduler, job, event->min_ranks, event->max_ranks);
        break;
    default:
        break;
    }
}

// Words from a generation. A manifest of an older one is as good as a new one: same bits.
static void on_generation_word(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    int newest = event->generation == job->record.generation && event->generation > 0;
    if (!rmj_job_active(job) || event->generation > job->record.generation || event->generation == 0) {
        return;
    }
    switch (event->kind) {
    case RMJ_EVENT_STEP_COMMITTED:
        if (newest) {
            rmj_job_step_committed(job, event->step);
            if (event->step == job->record.step_count && job->record.state == RMJOB__V1__JOB_STATE__TRAINING) {
                rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__EVALUATING,
                             "all %u steps are done; exporting and evaluating", job->record.step_count);
            }
        }
        break;
    case RMJ_EVENT_MANIFEST_COMMITTED:
        rmj_job_manifest_committed(scheduler, job, event);
        break;
    case RMJ_EVENT_EVALUATED:
        if (newest && job->record.state != RMJOB__V1__JOB_STATE__LAUNCHING) {
            rmj_job_evaluated(scheduler, job);
        }
        break;
    case RMJ_EVENT_RANK_FAILED_JOB:
        if (newest) {
            rmj_job_move(scheduler, job, failure_of(event->state), "%s",
                         reason_of(event, "a rank stopped the job without a word; see its log"));
        }
        break;
    default:
        break;
    }
}

// Words about a process, or from one.
static void on_process_word(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    int by_launch =
        event->kind == RMJ_EVENT_LAUNCHED || event->kind == RMJ_EVENT_LAUNCH_FAILED || event->kind == RMJ_EVENT_EXITED;
    struct rmj_launch *launch = rmj_launch_find(job, by_launch ? event->launch : event->rank_uid);
    if (!launch) {
        return;
    }
    switch (event->kind) {
    case RMJ_EVENT_LAUNCHED:
        if (!launch->started) {
            launch->started = 1;
            launch->since_ms = launch->dismissed ? launch->since_ms : scheduler->now_ms;
        }
        break;
    case RMJ_EVENT_LAUNCH_FAILED:
        if (!launch->started) {
            rmj_launch_failed(scheduler, job, launch, event->reason);
        }
        break;
    case RMJ_EVENT_EXITED:
        rmj_launch_exited(scheduler, job, launch, event);
        break;
    case RMJ_EVENT_READY:
        if (rmj_job_active(job)) {
            rmj_generation_ready(scheduler, job, launch, event);
        }
        break;
    case RMJ_EVENT_DETACHED:
        if (launch->attached && event->incarnation == launch->incarnation && !launch->dismissed) {
            rmj_incident(scheduler, job, launch->epoch, RMJ_INCIDENT_UNCLEAR, "the trainer of rank process %s was lost",
                         launch->name);
            rmj_generation_lost(scheduler, job, launch, job->trouble);
        } else if (event->incarnation == launch->incarnation) {
            launch->attached = 0;
        }
        break;
    case RMJ_EVENT_HEARTBEAT:
        if (event->generation == job->record.generation) {
            launch->heard_ms = scheduler->now_ms;
        }
        break;
    default:
        break;
    }
}

static void on_attached(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    if (!job || !rmj_job_active(job)) {
        rmj_act_refuse(scheduler, event->job, event->rank_uid, "job %s has no use for ranks: %s", event->job,
                       job ? job->record.reason : "it is unknown here, or has ended");
        return;
    }
    rmj_generation_attached(scheduler, job, event);
}

static void dispatch(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    if (event->kind == RMJ_EVENT_ATTACHED) {
        on_attached(scheduler, job, event);
    } else if (event->kind == RMJ_EVENT_SUBMITTED && !job) {
        on_submitted(scheduler, event);
    } else if (event->kind == RMJ_EVENT_RECOVERED && !job) {
        on_recovered(scheduler, event);
    } else if (job) {
        on_process_word(scheduler, job, event);
        if (!rmj_job_ended(job)) {
            on_job_word(scheduler, job, event);
        }
        if (!rmj_job_ended(job)) {
            on_generation_word(scheduler, job, event);
        }
    }
}

void rmj_scheduler_step(struct rmj_scheduler *scheduler, const struct rmj_event *event, int64_t now_ms,
                        struct rmj_actions *actions)
{
    free_scratch(scheduler);
    drop_forgotten(scheduler);
    scheduler->now_ms = now_ms > scheduler->now_ms ? now_ms : scheduler->now_ms;
    scheduler->actions = actions;
    if (event->kind == RMJ_EVENT_LIMITS) {
        rmj_queue_limits(scheduler, event->project, event->max_ranks, event->max_jobs);
        return;
    }
    struct rmj_job *job = find_job(scheduler, event->job);
    if (job) {
        rmj_job_account(scheduler, job);
    }
    dispatch(scheduler, job, event);
    if (job) {
        rmj_job_settle(scheduler, job);
    }
    for (size_t i = 0; event->kind == RMJ_EVENT_TICK && i < scheduler->job_count; i++) {
        if (scheduler->jobs[i]->wake_ms <= scheduler->now_ms) {
            rmj_job_settle(scheduler, scheduler->jobs[i]);
        }
    }
    // All of RECOVERED are told before slots are given away.
    if (event->kind != RMJ_EVENT_RECOVERED) {
        rmj_queue_pass(scheduler);
    }
    scheduler->actions = NULL;
}

const struct rmj_job_record *rmj_scheduler_job(const struct rmj_scheduler *scheduler, const char *job)
{
    const struct rmj_job *found = find_job(scheduler, job);
    return found ? &found->record : NULL;
}

void rmj_scheduler_ranks(const struct rmj_scheduler *scheduler, const char *job, uint32_t *attached, uint32_t *wanted)
{
    const struct rmj_job *found = find_job(scheduler, job);
    *attached = found ? rmj_generation_members(found) : 0;
    *wanted = !found ? 0 : rmj_job_active(found) ? found->grant : found->record.max_ranks;
}

int64_t rmj_scheduler_next_tick_ms(const struct rmj_scheduler *scheduler)
{
    if (scheduler->queue_dirty) {
        return scheduler->now_ms;
    }
    int64_t wake_ms = INT64_MAX;
    for (size_t i = 0; i < scheduler->job_count; i++) {
        if (!scheduler->jobs[i]->forgotten && scheduler->jobs[i]->wake_ms < wake_ms) {
            wake_ms = scheduler->jobs[i]->wake_ms;
        }
    }
    return wake_ms;
}
