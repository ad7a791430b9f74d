// States of a job and why it is in them; limits of time and cost; what committed words mean.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "service/scheduler/state.h"

int rmj_job_ended(const struct rmj_job *job)
{
    return job->record.state >= RMJOB__V1__JOB_STATE__SUCCEEDED;
}

int rmj_job_active(const struct rmj_job *job)
{
    return job->record.state == RMJOB__V1__JOB_STATE__LAUNCHING ||
           job->record.state == RMJOB__V1__JOB_STATE__TRAINING || job->record.state == RMJOB__V1__JOB_STATE__EVALUATING;
}

void rmj_job_move(struct rmj_scheduler *scheduler, struct rmj_job *job, Rmjob__V1__JobState state, const char *format,
                  ...)
{
    RMJ_ASSERT(!rmj_job_ended(job));
    int was_active = rmj_job_active(job);
    char reason[RMJ_REASON_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    job->record.state = state;
    memcpy(job->record.reason, reason, sizeof reason);
    job->dirty = 1;
    rmj_act_note(scheduler, job, "%s", reason);
    if (!rmj_job_active(job)) {
        rmj_launches_dismiss(scheduler, job, rmj_job_ended(job) ? RMJ_EXIT_ASKED_TO_LEAVE : 0, reason);
    }
    if (was_active != rmj_job_active(job)) {
        scheduler->queue_dirty = 1;
    }
}

void rmj_job_step_committed(struct rmj_job *job, uint32_t step)
{
    if (step <= job->record.step || step > job->record.step_count) {
        return; // a replay, or no step of this plan
    }
    job->record.step = step;
    job->dirty = 1;
    rmj_incident_progress(job);
}

// Two manifests of one step with different content: the promise of the same bits is broken, and no copy may be trusted.
static void disagree(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INTERNAL,
                 "determinism violation: checkpoint %u was committed as %.12s and as %.12s; keep both and report this",
                 event->step, job->record.manifests[job->record.manifest_count - 1].digest, event->digest);
}

void rmj_job_manifest_committed(struct rmj_scheduler *scheduler, struct rmj_job *job, const struct rmj_event *event)
{
    struct rmj_job_record *record = &job->record;
    if (event->step > record->step_count || !event->digest[0]) {
        return;
    }
    uint32_t at = record->manifest_count;
    while (at > 0 && record->manifests[at - 1].step > event->step) {
        at--;
    }
    if (at > 0 && record->manifests[at - 1].step == event->step) {
        if (strcmp(record->manifests[at - 1].digest, event->digest) != 0) {
            disagree(scheduler, job, event);
        } else if (record->manifests[at - 1].bad && event->generation == record->generation) {
            record->manifests[at - 1].bad = 0; // put again, whole
            job->dirty = 1;
        }
        return;
    }
    uint32_t keep = record->manifests_keep && record->manifests_keep < RMJ_MANIFESTS_MAX ? record->manifests_keep
                                                                                         : RMJ_MANIFESTS_MAX;
    if (record->manifest_count >= keep) {
        if (at == 0) {
            return; // older than all that are kept
        }
        uint32_t drop = record->manifest_count - keep + 1;
        memmove(&record->manifests[0], &record->manifests[drop],
                (record->manifest_count - drop) * sizeof record->manifests[0]);
        record->manifest_count -= drop;
        at = at > drop ? at - drop : 0;
    }
    memmove(&record->manifests[at + 1], &record->manifests[at],
            (record->manifest_count - at) * sizeof record->manifests[0]);
    memset(&record->manifests[at], 0, sizeof record->manifests[0]);
    record->manifests[at].step = event->step;
    snprintf(record->manifests[at].digest, sizeof record->manifests[at].digest, "%s", event->digest);
    record->manifest_count++;
    job->dirty = 1;
    rmj_job_step_committed(job, event->step);
}

void rmj_job_evaluated(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    job->record.step = job->record.step_count;
    job->record.evaluated = 1;
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__GATING, "evaluated; the gate decides");
    rmj_act(scheduler, job, RMJ_ACTION_GATE);
}

void rmj_job_resize(struct rmj_scheduler *scheduler, struct rmj_job *job, uint32_t min_ranks, uint32_t max_ranks)
{
    uint32_t max = max_ranks ? max_ranks : job->record.max_ranks;
    uint32_t min = min_ranks ? min_ranks : job->record.min_ranks < max ? job->record.min_ranks : max;
    if (min > max || max > RMJ_RANKS_MAX || min > scheduler->options.rank_slots) {
        rmj_act_note(scheduler, job, "resize to %u-%u ranks not done: %s", min, max,
                     min > max             ? "min_ranks is over max_ranks"
                     : max > RMJ_RANKS_MAX ? "too many ranks"
                                           : "min_ranks is over the slots of this service");
        return;
    }
    job->record.min_ranks = min;
    job->record.max_ranks = max;
    job->grant = job->grant < max ? job->grant : max;
    job->dirty = 1;
    scheduler->queue_dirty = 1;
    rmj_act_note(scheduler, job, "resized to %u-%u ranks", min, max);
}

static uint32_t counted_ranks(const struct rmj_job *job)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        count += job->launches[i].started && !job->launches[i].unseen;
    }
    return count;
}

void rmj_job_account(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    int64_t since_ms = job->record.rank_seconds_ms;
    if (since_ms && scheduler->now_ms > since_ms) {
        job->record.rank_seconds += counted_ranks(job) * ((double)(scheduler->now_ms - since_ms) / 1000);
    }
    job->record.rank_seconds_ms = scheduler->now_ms;
}

static int is_limited(const struct rmj_job *job)
{
    return job->record.state < RMJOB__V1__JOB_STATE__GATING; // what is left after that costs no ranks
}

static void check_limits(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    const struct rmj_job_record *record = &job->record;
    if (!is_limited(job)) {
        return;
    }
    if (record->deadline_ms && scheduler->now_ms >= record->deadline_ms) {
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE,
                     "budget.deadline passed at step %u of %u; raise it, or give the job more ranks", record->step,
                     record->step_count);
    } else if (record->rank_seconds_limit > 0 && record->rank_seconds >= record->rank_seconds_limit) {
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE,
                     "budget.rank_hours is used up (%.3f) at step %u of %u; raise it and submit again",
                     record->rank_seconds / 3600, record->step, record->step_count);
    }
}

void rmj_job_settle(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    rmj_job_account(scheduler, job);
    check_limits(scheduler, job);
    rmj_launches_timeouts(scheduler, job);
    if (rmj_job_active(job)) {
        rmj_recovery_settle(scheduler, job);
        rmj_generation_settle_end(job);
        rmj_launches_trim(scheduler, job);
        rmj_launches_fill(scheduler, job);
        rmj_generation_start_if_due(scheduler, job);
    }
    if (rmj_job_active(job)) {
        rmj_generation_resize_if_due(scheduler, job);
    }
    if (counted_ranks(job) && scheduler->now_ms >= job->persisted_ms + RMJ_ACCOUNT_PERSIST_MS) {
        job->dirty = 1;
    }
    if (rmj_job_ended(job) && job->record.launch_count == 0 && !job->forgotten) {
        job->forgotten = 1;
        rmj_act(scheduler, job, RMJ_ACTION_FINISHED);
    }
    rmj_flush(scheduler, job);
    job->wake_ms = rmj_job_wake_ms(scheduler, job);
}

static void sooner(int64_t *wake_ms, int64_t at_ms)
{
    *wake_ms = at_ms < *wake_ms ? at_ms : *wake_ms;
}

int64_t rmj_job_wake_ms(const struct rmj_scheduler *scheduler, const struct rmj_job *job)
{
    int64_t wake_ms = INT64_MAX;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        sooner(&wake_ms, rmj_launch_wake_ms(scheduler, job, &job->launches[i]));
    }
    if (rmj_job_active(job)) {
        sooner(&wake_ms, rmj_generation_wake_ms(scheduler, job));
        if (job->recover_ms) {
            sooner(&wake_ms, job->recover_ms);
        }
    }
    if (is_limited(job) && job->record.deadline_ms) {
        sooner(&wake_ms, job->record.deadline_ms);
    }
    uint32_t ranks = counted_ranks(job);
    if (ranks) {
        sooner(&wake_ms, job->persisted_ms + RMJ_ACCOUNT_PERSIST_MS);
    }
    if (ranks && is_limited(job) && job->record.rank_seconds_limit > 0) {
        double left_ms = (job->record.rank_seconds_limit - job->record.rank_seconds) * 1000 / ranks;
        if (left_ms < 1e15) {
            sooner(&wake_ms, scheduler->now_ms + (left_ms > 0 ? (int64_t)left_ms + 1 : 0));
        }
    }
    return wake_ms;
}
