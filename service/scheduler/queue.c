// Who gets how many rank slots. Oldest first (submitted_ms, then id); priority is age.
//
// A job holds its grant, or its living processes where those are more. A queued job starts when min_ranks fit into the
// free slots and into its project's limits, and gets as much as fits up to max_ranks. When the oldest does not fit for
// want of slots, no younger one starts or grows before it: big jobs do not starve. One that its project's limits
// hold back holds back nobody of another project. What is left grows running jobs, oldest first.
#include <stdio.h>
#include <string.h>

#include "service/scheduler/state.h"

static struct rmj_project *find_project(struct rmj_scheduler *scheduler, const char *name)
{
    for (size_t i = 0; i < scheduler->project_count; i++) {
        if (strcmp(scheduler->projects[i].name, name) == 0) {
            return &scheduler->projects[i];
        }
    }
    return NULL;
}

void rmj_queue_limits(struct rmj_scheduler *scheduler, const char *project, uint32_t max_ranks, uint32_t max_jobs)
{
    struct rmj_project *known = find_project(scheduler, project);
    if (!known) {
        if (scheduler->project_count == RMJ_PROJECTS_MAX) {
            return;
        }
        known = &scheduler->projects[scheduler->project_count++];
        snprintf(known->name, sizeof known->name, "%s", project);
    }
    known->max_ranks = max_ranks;
    known->max_jobs = max_jobs;
    scheduler->queue_dirty = 1;
}

static uint32_t held(const struct rmj_job *job)
{
    uint32_t live = rmj_launches_live(job);
    return rmj_job_active(job) && job->grant > live ? job->grant : live;
}

struct use {
    uint32_t ranks, project_ranks, project_jobs;
};

static struct use count_use(const struct rmj_scheduler *scheduler, const struct rmj_job *of,
                            uint32_t (*count)(const struct rmj_job *))
{
    struct use use = {0};
    for (size_t i = 0; i < scheduler->job_count; i++) {
        const struct rmj_job *job = scheduler->jobs[i];
        uint32_t ranks = count(job);
        use.ranks += ranks;
        if (strcmp(job->record.project, of->record.project) == 0) {
            use.project_ranks += ranks;
            use.project_jobs += (uint32_t)rmj_job_active(job);
        }
    }
    return use;
}

static uint32_t room(uint32_t limit, uint32_t used)
{
    return used < limit ? limit - used : 0;
}

int rmj_queue_may_launch(const struct rmj_scheduler *scheduler, const struct rmj_job *job)
{
    struct use live = count_use(scheduler, job, rmj_launches_live);
    const struct rmj_project *project = find_project((struct rmj_scheduler *)scheduler, job->record.project);
    return live.ranks < scheduler->options.rank_slots &&
           !(project && project->max_ranks && live.project_ranks >= project->max_ranks);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void wait_with(struct rmj_scheduler *scheduler, struct rmj_job *job, const char *reason)
{
    if (strcmp(job->record.reason, reason) != 0) {
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__QUEUED, "%s", reason);
    }
}

// 1 when the job must be waited for: nothing younger may start.
static int admit(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    uint32_t slots = scheduler->options.rank_slots, min_ranks = job->record.min_ranks;
    if (min_ranks > slots) {
        rmj_job_move(
            scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE,
            "elastic.min_ranks is %u but this service has %u rank slots; lower min_ranks or give it more slots",
            min_ranks, slots);
        return 0;
    }
    struct use use = count_use(scheduler, job, held);
    const struct rmj_project *project = find_project(scheduler, job->record.project);
    uint32_t project_room = project && project->max_ranks ? room(project->max_ranks, use.project_ranks) : UINT32_MAX;
    char reason[RMJ_REASON_SIZE];
    if (project && project->max_jobs && use.project_jobs >= project->max_jobs) {
        snprintf(reason, sizeof reason, "waits for another job of project %s to end: its limit is %u at once",
                 job->record.project, project->max_jobs);
        wait_with(scheduler, job, reason);
        return 0;
    }
    if (project_room < min_ranks) {
        snprintf(reason, sizeof reason, "waits for %u ranks of project %s, whose limit is %u", min_ranks,
                 job->record.project, project->max_ranks);
        wait_with(scheduler, job, reason);
        return 0;
    }
    uint32_t free_slots = room(slots, use.ranks);
    if (free_slots < min_ranks) {
        snprintf(reason, sizeof reason, "waits for %u of the %u rank slots to be free", min_ranks, slots);
        wait_with(scheduler, job, reason);
        return 1;
    }
    job->grant = smaller(job->record.max_ranks, smaller(free_slots, project_room));
    rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__LAUNCHING, "starting %u rank processes", job->grant);
    rmj_job_settle(scheduler, job);
    return 0;
}

static void grow(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    struct use use = count_use(scheduler, job, held);
    const struct rmj_project *project = find_project(scheduler, job->record.project);
    uint32_t project_room = project && project->max_ranks ? room(project->max_ranks, use.project_ranks) : UINT32_MAX;
    // Living processes above the grant are counted in `use` already.
    uint32_t more = smaller(room(scheduler->options.rank_slots, use.ranks), project_room);
    uint32_t grant = smaller(job->record.max_ranks, held(job) + smaller(more, RMJ_RANKS_MAX));
    if (grant > job->grant) {
        job->grant = grant;
        rmj_job_settle(scheduler, job);
    }
}

// min_ranks was raised over what the job can hold (or rmjobd came back with fewer slots). Two such jobs would wait for
// each other's slots for ever, so once its generation is over it gives its own back and waits in the queue.
static void take_back(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (rmj_job_active(job) && job->grant < job->record.min_ranks && !job->recover_ms &&
        job->generation_state == RMJ_GENERATION_NONE) {
        job->grant = 0;
        rmj_job_move(scheduler, job, RMJOB__V1__JOB_STATE__QUEUED, "waits for %u rank slots", job->record.min_ranks);
        rmj_job_settle(scheduler, job);
    }
}

// Settling a job can end it and free slots again: another pass follows then. Each pass but the last ends, starts or
// grows a job, so few are needed; the bound is for peace of mind, the next event goes on.
#define PASSES_MAX 64

void rmj_queue_pass(struct rmj_scheduler *scheduler)
{
    for (int pass = 0; scheduler->queue_dirty && pass < PASSES_MAX; pass++) {
        scheduler->queue_dirty = 0;
        int blocked = 0;
        for (size_t i = 0; i < scheduler->job_count && !blocked; i++) {
            if (scheduler->jobs[i]->record.state == RMJOB__V1__JOB_STATE__QUEUED) {
                blocked = admit(scheduler, scheduler->jobs[i]);
                rmj_job_settle(scheduler, scheduler->jobs[i]);
            }
        }
        for (size_t i = 0; i < scheduler->job_count && !blocked; i++) {
            struct rmj_job *job = scheduler->jobs[i];
            if (rmj_job_active(job)) {
                if (job->grant < job->record.max_ranks) {
                    grow(scheduler, job);
                }
            }
        }
        for (size_t i = 0; i < scheduler->job_count; i++) {
            take_back(scheduler, scheduler->jobs[i]);
        }
        // A slot that another job's process held is free: whoever has the grant for it may launch now.
        for (size_t i = 0; i < scheduler->job_count; i++) {
            struct rmj_job *job = scheduler->jobs[i];
            if (rmj_job_active(job) && job->record.launch_count < job->grant) {
                rmj_job_settle(scheduler, job);
            }
        }
    }
}
