#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/sim/sim.h"

static int ended(Rmjob__V1__JobState state)
{
    return state >= RMJOB__V1__JOB_STATE__SUCCEEDED;
}

static void check_launch(struct sim *sim, int job, const struct rmj_action *action)
{
    uint32_t all = 0, of_project = 0;
    for (int i = 0; i < sim->process_count; i++) {
        const struct sim_process *process = &sim->processes[i];
        if (process->alive || process->pending) {
            all++;
            of_project += strcmp(sim->jobs[process->job].submitted.project, sim->jobs[job].submitted.project) == 0;
        }
    }
    if (all >= sim->options.rank_slots) {
        sim_fail(sim, "launch number %u over %u slots", all + 1, sim->options.rank_slots);
    }
    uint32_t limit = sim->limit_ranks[sim->jobs[job].submitted.project[0] - 'a'];
    if (limit && of_project >= limit) {
        sim_fail(sim, "launch number %u of a project over its limit %u", of_project + 1, limit);
    }
    const struct rmj_job_record *durable = &sim->jobs[job].durable;
    for (uint32_t i = 0; i < durable->launch_count; i++) {
        if (strcmp(durable->launches[i].name, action->launch) == 0) {
            if (sim_process_find(sim, action->launch) >= 0) {
                sim_fail(sim, "the name %s is used twice", action->launch);
            }
            return;
        }
    }
    sim_fail(sim, "launch %s was not made durable before it was asked for", action->launch);
}

static const struct sim_snapshot *find_snapshot(const struct sim_process *process, uint32_t step)
{
    for (int i = 0; i < 2; i++) {
        if (process->snapshots[i].used && process->snapshots[i].step == step) {
            return &process->snapshots[i];
        }
    }
    return NULL;
}

// What the assignment says is in memory is there, and all of it is somewhere.
static void check_memory(struct sim *sim, int job, const struct rmj_assignment *assignment)
{
    uint8_t found[SIM_PAGE_BYTES] = {0};
    for (uint32_t i = 0; i < assignment->world; i++) {
        const uint8_t *pages = assignment->peers[i].pages;
        const struct sim_process *process = &sim->processes[sim_process_find(sim, assignment->peers[i].rank_uid)];
        const struct sim_snapshot *snapshot = find_snapshot(process, assignment->step);
        for (uint32_t page = 0; pages && page < sim->jobs[job].page_count; page++) {
            uint8_t bit = (uint8_t)(1u << page % 8);
            if (!(pages[page / 8] & bit)) {
                continue;
            }
            found[page / 8] |= bit;
            if (process->alive && (!snapshot || !(snapshot->pages[page / 8] & bit))) {
                sim_fail(sim, "page %u of step %u is not in the memory of %s", page, assignment->step, process->name);
            }
        }
    }
    for (uint32_t page = 0; page < sim->jobs[job].page_count; page++) {
        if (!(found[page / 8] & (1u << page % 8))) {
            sim_fail(sim, "resume at step %u, but page %u is nowhere", assignment->step, page);
        }
    }
}

static void check_source(struct sim *sim, int job, const struct rmj_assignment *assignment)
{
    if (assignment->source == RMJOB__V1__RESUME_SOURCE__MEMORY) {
        check_memory(sim, job, assignment);
    } else if (assignment->source == RMJOB__V1__RESUME_SOURCE__FRESH) {
        if (assignment->step != 0) {
            sim_fail(sim, "the base model is step 0, not %u", assignment->step);
        }
    } else {
        for (uint32_t i = 0; i < sim->jobs[job].manifest_count; i++) {
            if (sim->jobs[job].manifests[i].step == assignment->step) {
                return;
            }
        }
        sim_fail(sim, "manifest of step %u was never written", assignment->step);
    }
}

static void begin_generation(struct sim *sim, int job, const struct rmj_assignment *assignment)
{
    struct sim_job *owner = &sim->jobs[job];
    if (assignment->generation <= owner->generation) {
        sim_fail(sim, "generation %u after %u", assignment->generation, owner->generation);
    }
    if (owner->durable.generation != assignment->generation) {
        sim_fail(sim, "generation %u announced, %u durable", assignment->generation, owner->durable.generation);
    }
    if (assignment->world < owner->durable.min_ranks || assignment->world > owner->durable.max_ranks) {
        sim_fail(sim, "%u ranks, %u to %u wanted", assignment->world, owner->durable.min_ranks,
                 owner->durable.max_ranks);
    }
    int evaluates = assignment->phase == RMJOB__V1__PHASE__EVALUATE;
    if (evaluates != (assignment->step == owner->step_count)) {
        sim_fail(sim, "phase %d at step %u of %u", assignment->phase, assignment->step, owner->step_count);
    }
    struct sim_generation *generation = calloc(1, sizeof *generation);
    RMJ_ASSERT(generation);
    *generation = (struct sim_generation){.job = job,
                                          .number = assignment->generation,
                                          .world = assignment->world,
                                          .step = assignment->step,
                                          .first_step = assignment->step,
                                          .every = assignment->checkpoint_every_steps,
                                          .source = assignment->source,
                                          .next = sim->generations};
    for (uint32_t i = 0; i < assignment->world; i++) {
        int index = sim_process_find(sim, assignment->peers[i].rank_uid);
        generation->members[i] = index;
        const struct sim_process *process = &sim->processes[index];
        if (process->running && process->alive) {
            sim_fail(sim, "%s is to join generation %u while it runs %u", process->name, assignment->generation,
                     process->running->number);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (generation->members[j] == index) {
                sim_fail(sim, "%s is twice in generation %u", process->name, assignment->generation);
            }
        }
    }
    sim->generations = generation;
    owner->generation = assignment->generation;
    check_source(sim, job, assignment);
}

static void check_assign(struct sim *sim, int job, const struct rmj_action *action)
{
    const struct rmj_assignment *assignment = action->assignment;
    struct sim_generation *newest = sim->generations;
    if (!newest || newest->job != job || newest->number != assignment->generation) {
        begin_generation(sim, job, assignment);
        newest = sim->generations;
    }
    int index = sim_process_find(sim, action->rank_uid);
    if (assignment->rank != newest->assigned++ || newest->members[assignment->rank] != index) {
        sim_fail(sim, "rank %u of generation %u is not the next one", assignment->rank, assignment->generation);
    }
}

void sim_check_action(struct sim *sim, int job, const struct rmj_action *action)
{
    if (job < 0) {
        sim_fail(sim, "an action about the unknown job %s", action->job);
        return;
    }
    const struct rmj_job_record *durable = &sim->jobs[job].durable;
    static const Rmjob__V1__JobState needs[] = {[RMJ_ACTION_PREPARE] = RMJOB__V1__JOB_STATE__PREPARING,
                                                [RMJ_ACTION_GATE] = RMJOB__V1__JOB_STATE__GATING,
                                                [RMJ_ACTION_PUBLISH] = RMJOB__V1__JOB_STATE__PUBLISHING};
    if ((size_t)action->kind < RMJ_COUNT(needs) && needs[action->kind] && durable->state != needs[action->kind]) {
        sim_fail(sim, "action %d while the durable state is %d", action->kind, durable->state);
    }
    if (action->kind == RMJ_ACTION_FINISHED && !ended(durable->state)) {
        sim_fail(sim, "finished before the end was durable");
    }
    if (action->kind == RMJ_ACTION_LAUNCH) {
        check_launch(sim, job, action);
    }
    if (action->kind == RMJ_ACTION_ASSIGN) {
        check_assign(sim, job, action);
    }
}

// After every event: what is durable is what the core knows, and nothing is worse than it was.
void sim_check_after(struct sim *sim, int job)
{
    struct sim_job *owner = &sim->jobs[job];
    const struct rmj_job_record *record =
        sim->scheduler ? rmj_scheduler_job(sim->scheduler, owner->submitted.id) : NULL;
    if (!record) {
        return;
    }
    struct rmj_job_record now = *record, durable = owner->durable;
    now.rank_seconds = durable.rank_seconds = 0;
    now.rank_seconds_ms = durable.rank_seconds_ms = 0;
    if (memcmp(&now, &durable, sizeof now) != 0) {
        sim_fail(sim, "%s: the durable record is behind (state %d, %d; generation %u, %u; step %u, %u)", now.id,
                 now.state, durable.state, now.generation, durable.generation, now.step, durable.step);
    }
    if (record->reason[0] == 0) {
        sim_fail(sim, "%s is in state %d without a reason", record->id, record->state);
    }
    if (record->step > owner->step_max) {
        sim_fail(sim, "%s: step %u recorded, %u made", record->id, record->step, owner->step_max);
    }
    if (ended(owner->ended) && record->state != owner->ended) {
        sim_fail(sim, "%s went from its end %d to %d", record->id, owner->ended, record->state);
    }
    owner->ended = ended(record->state) ? record->state : owner->ended;
    if (record->step > owner->step_seen) {
        owner->step_seen = record->step;
        owner->faults = 0;
    }
}

// Only the newest generation makes steps, one after the other from where it resumed.
void sim_check_commit(struct sim *sim, const struct sim_generation *generation)
{
    const struct sim_job *job = &sim->jobs[generation->job];
    if (generation->number != job->generation) {
        sim_fail(sim, "%s: generation %u makes step %u while %u is the newest", job->submitted.id, generation->number,
                 generation->step + 1, job->generation);
    }
    if (generation->step + 1 > job->step_count) {
        sim_fail(sim, "%s: step %u of %u", job->submitted.id, generation->step + 1, job->step_count);
    }
    if (generation->step > job->step_max) {
        sim_fail(sim, "%s: step %u comes after %u was the last", job->submitted.id, generation->step + 1,
                 job->step_max);
    }
}

static int failed_rightly(const struct sim_job *job, const char *reason)
{
    const struct rmj_job_record *spec = &job->submitted;
    if (strncmp(reason, "stopped after", 13) == 0) {
        return job->doomed || job->faults > spec->max_restarts;
    }
    return (strncmp(reason, "budget.deadline", 15) == 0 && spec->deadline_ms) ||
           (strncmp(reason, "budget.rank_hours", 17) == 0 && spec->rank_seconds_limit > 0) ||
           (job->publish_fails && job->gate_done);
}

void sim_check_end(struct sim *sim)
{
    for (int i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        const struct rmj_job_record *record = &job->durable;
        if (!job->finished) {
            sim_fail(sim, "%s does not end: state %d (%s), step %u of %u, generation %u, %u processes",
                     job->submitted.id, record->state, record->reason, record->step, job->step_count,
                     record->generation, record->launch_count);
            continue;
        }
        int right = record->state == RMJOB__V1__JOB_STATE__SUCCEEDED
                        ? job->published && job->gate_passes && job->evaluated && job->step_max == job->step_count &&
                              !job->doomed && !job->bad_data
                    : record->state == RMJOB__V1__JOB_STATE__FAILED_GATE           ? job->gate_done && !job->gate_passes
                    : record->state == RMJOB__V1__JOB_STATE__FAILED_DATA           ? job->bad_data
                    : record->state == RMJOB__V1__JOB_STATE__CANCELLED             ? job->cancelled
                    : record->state == RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE ? failed_rightly(job, record->reason)
                                                                                   : 0;
        if (!right) {
            sim_fail(sim, "%s ended in state %d (%s) after %u faults, which is not right", job->submitted.id,
                     record->state, record->reason, job->faults);
        }
        // Its ranks may be a little late to go, and time while rmjobd was away is known when they come back.
        if (record->rank_seconds_limit > 0 && job->rank_seconds > record->rank_seconds_limit + 400) {
            sim_fail(sim, "%s used %.0f rank-seconds of %.0f", job->submitted.id, job->rank_seconds,
                     record->rank_seconds_limit);
        }
    }
    for (int i = 0; i < sim->process_count; i++) {
        if (sim->processes[i].alive && sim->jobs[sim->processes[i].job].finished && !sim->failure[0]) {
            sim_fail(sim, "%s lives on after its job has ended", sim->processes[i].name);
        }
    }
}
