// After a restart of rmjobd. The record names the processes that lived and their ranks in the newest generation; the
// ranks trained on meanwhile. Each has until recover_ms to attach again. When all members of the generation are back
// and still run it, it simply goes on; when one has left it or does not come, the generation is over.
#include <string.h>

#include "service/scheduler/state.h"

void rmj_recovery_begin(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    uint32_t count = job->record.launch_count;
    job->record.launch_count = 0;
    if (count > RMJ_RANKS_MAX) {
        count = RMJ_RANKS_MAX; // not one of ours; never read past the array
    }
    for (uint32_t i = 0; i < count; i++) {
        char name[RMJ_ID_SIZE];
        uint32_t rank = job->record.launches[i].rank;
        memcpy(name, job->record.launches[i].name, sizeof name);
        name[sizeof name - 1] = 0;
        struct rmj_launch *launch = rmj_launch_add(job, name);
        job->record.launches[i].rank = rank;
        launch->order = rank;
        launch->started = launch->away = launch->unseen = 1;
        launch->since_ms = job->record.rank_seconds_ms; // its time is counted up to there
        launch->member = rank != RMJ_NO_RANK && rmj_job_active(job);
    }
    job->dirty = 0;
    job->fruitless = job->record.restarts_charged;
    if (!rmj_job_active(job)) {
        // They were being told to end when rmjobd went.
        rmj_launches_dismiss(scheduler, job, RMJ_EXIT_ASKED_TO_LEAVE, "the job no longer trains");
        return;
    }
    job->grant = count < job->record.max_ranks ? count : job->record.max_ranks; // the queue gives it the rest
    job->recover_ms = scheduler->now_ms + scheduler->options.reattach_wait_ms;
    uint32_t members = 0;
    for (uint32_t i = 0; i < count; i++) {
        members += (uint32_t)job->launches[i].member;
    }
    // A member whose process is gone was taken out of the record: that generation was ending when rmjobd went.
    job->generation_state = members == 0                   ? RMJ_GENERATION_NONE
                            : members == job->record.world ? RMJ_GENERATION_RUNNING
                                                           : RMJ_GENERATION_ENDING;
    job->end_kind = RMJOB__V1__END_KIND__ABORT;
    job->ended_ms = job->generation_state == RMJ_GENERATION_ENDING ? scheduler->now_ms : 0;
}

int rmj_recovery_attached(struct rmj_scheduler *scheduler, struct rmj_job *job, struct rmj_launch *launch,
                          const struct rmj_event *event)
{
    launch->unseen = 0;
    if (launch->since_ms && scheduler->now_ms > launch->since_ms) {
        job->record.rank_seconds += (double)(scheduler->now_ms - launch->since_ms) / 1000;
    }
    if (!launch->member) {
        return 0;
    }
    int runs = event->running_generation == job->record.generation && event->running_rank == launch->order;
    if (runs && job->generation_state == RMJ_GENERATION_RUNNING) {
        return 1;
    }
    launch->member = 0;
    rmj_generation_end(scheduler, job, RMJOB__V1__END_KIND__ABORT,
                       "a rank left the generation while the service was away");
    return 0;
}

void rmj_recovery_settle(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (!job->recover_ms) {
        return;
    }
    uint32_t unseen = 0;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        unseen += job->launches[i].unseen && !job->launches[i].dismissed;
    }
    if (unseen && scheduler->now_ms < job->recover_ms) {
        return;
    }
    job->recover_ms = 0;
    scheduler->queue_dirty = 1;
    for (uint32_t i = 0; i < job->record.launch_count; i++) {
        struct rmj_launch *launch = &job->launches[i];
        if (launch->unseen && !launch->dismissed) {
            // Not charged: that rmjobd was away is not the job's fault.
            rmj_generation_lost(scheduler, job, launch, "a rank did not come back after the service was restarted");
            rmj_launch_kill(scheduler, job, launch);
        }
    }
}
