#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/sim/sim.h"

// Words of ranks to rmjobd. A stream's words live and die with the connection; the unary calls that must arrive are
// tried again while the child lives. Some come twice, seconds later.

static struct rmj_event *copy_event(const struct rmj_event *event)
{
    struct rmj_event *copy = malloc(sizeof *copy);
    RMJ_ASSERT(copy);
    *copy = *event;
    for (uint32_t i = 0; i < copy->inventory.snapshot_count; i++) {
        copy->inventory.snapshots[i].pages = malloc(SIM_PAGE_BYTES);
        RMJ_ASSERT(copy->inventory.snapshots[i].pages);
        memcpy(copy->inventory.snapshots[i].pages, event->inventory.snapshots[i].pages, SIM_PAGE_BYTES);
    }
    return copy;
}

static void deliver(struct sim *sim, struct sim_item *item)
{
    struct rmj_event *event = item->event;
    item->event = NULL;
    int index = item->index;
    uint64_t id = item->id;
    int must_arrive = event->kind == RMJ_EVENT_STEP_COMMITTED || event->kind == RMJ_EVENT_MANIFEST_COMMITTED ||
                      event->kind == RMJ_EVENT_EVALUATED || event->kind == RMJ_EVENT_RANK_FAILED_JOB;
    if (!must_arrive && item->id2 && item->id2 != sim->epoch) {
        event->kind = RMJ_EVENT_HEARTBEAT; // its stream broke; nothing worth hearing
        event->generation = 0;
    }
    struct rmj_event *kept = must_arrive ? copy_event(event) : NULL;
    sim_core(sim, event);
    // Answered only once its actions are done: without an answer it is said again.
    if (kept && !sim->scheduler && sim->processes[index].child && sim->processes[index].child_id == id) {
        struct sim_item *again = sim_later(sim, 100, deliver, index);
        again->event = kept;
        again->id = id;
    } else {
        free(kept);
    }
}

static void send(struct sim *sim, int index, struct rmj_event *event, int may_repeat)
{
    const struct sim_process *process = &sim->processes[index];
    memcpy(event->rank_uid, process->name, sizeof event->rank_uid);
    memcpy(event->launch, process->name, sizeof event->launch);
    event->incarnation = event->incarnation ? event->incarnation : process->incarnation;
    if (may_repeat && sim->now_ms < sim->faults_end_ms && sim_chance(sim, 5)) {
        struct sim_item *item = sim_later(sim, 1 + sim_below(sim, 5000), deliver, index);
        item->event = copy_event(event);
        item->id = process->child_id;
    }
    struct sim_item *item = sim_later(sim, sim_below(sim, 4), deliver, index);
    item->event = event;
    item->id = process->child_id;
    item->id2 = process->connection;
}

static void fill_inventory(const struct sim_process *process, struct rmj_inventory *inventory)
{
    for (int i = 0; i < 2; i++) {
        if (process->snapshots[i].used) {
            uint32_t n = inventory->snapshot_count++;
            inventory->snapshots[n].step = process->snapshots[i].step;
            inventory->snapshots[n].pages = malloc(SIM_PAGE_BYTES);
            RMJ_ASSERT(inventory->snapshots[n].pages);
            memcpy(inventory->snapshots[n].pages, process->snapshots[i].pages, SIM_PAGE_BYTES);
        }
    }
}

static void peer_lost(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (process->child && !process->hung && process->child_id == item->id && process->running == item->pointer) {
        sim_ready(sim, item->index, "peer lost", "");
    }
}

// One member no longer takes part: the others' collectives fail, at once or at their deadline.
static void break_generation(struct sim *sim, struct sim_generation *generation, int64_t after_ms)
{
    if (!generation || generation->broken) {
        return;
    }
    generation->broken = 1;
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        int index = generation->members[rank];
        if (index >= 0 && sim->processes[index].running == generation) {
            struct sim_item *item = sim_later(sim, after_ms + 1 + sim_below(sim, 20), peer_lost, index);
            item->id = sim->processes[index].child_id;
            item->pointer = generation;
        }
    }
}

void sim_ready(struct sim *sim, int index, const char *problem, const char *digest)
{
    struct sim_process *process = &sim->processes[index];
    struct sim_generation *generation = process->running;
    process->running = NULL;
    process->at_step = 0;
    struct rmj_event *event = sim_event(RMJ_EVENT_READY, sim, process->job);
    event->generation = process->last_generation;
    event->leaving = process->leaving;
    snprintf(event->reason, sizeof event->reason, "%s", problem);
    snprintf(event->digest, sizeof event->digest, "%s", digest);
    event->has_suspect = problem[0] && !digest[0];
    fill_inventory(process, &event->inventory);
    if (process->connection) {
        send(sim, index, event, 1);
    } else { // it says so with its next Attach
        for (uint32_t i = 0; i < event->inventory.snapshot_count; i++) {
            free(event->inventory.snapshots[i].pages);
        }
        free(event);
    }
    break_generation(sim, generation, 0);
}

void sim_attach(struct sim *sim, struct sim_item *item)
{
    int index = item->index;
    struct sim_process *process = &sim->processes[index];
    if (!process->alive || !process->child || process->child_id != item->id || process->hung || process->connection) {
        return;
    }
    if (!sim->scheduler) {
        uint64_t id = item->id;
        sim_later(sim, 50 + sim_below(sim, 150), sim_attach, index)->id = id;
        return;
    }
    process->connection = sim->epoch;
    struct rmj_event *event = sim_event(RMJ_EVENT_ATTACHED, sim, process->job);
    memcpy(event->rank_uid, process->name, sizeof event->rank_uid);
    event->incarnation = process->incarnation;
    snprintf(event->address, sizeof event->address, "10.0.0.1:%d", index);
    snprintf(event->probe, sizeof event->probe, "%s", process->odd_probe ? "another" : "probe");
    event->running_generation = process->running ? process->running->number : 0;
    event->running_rank = process->rank;
    fill_inventory(process, &event->inventory);
    sim_core(sim, event);
}

static void heartbeat(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (!process->child || process->child_id != item->id || process->hung) {
        return;
    }
    uint64_t id = item->id;
    if (process->running && process->connection) {
        struct rmj_event *event = sim_event(RMJ_EVENT_HEARTBEAT, sim, process->job);
        event->generation = process->running->number;
        event->step = process->running->step;
        send(sim, item->index, event, 1);
    }
    sim_later(sim, 1000, heartbeat, item->index)->id = id;
}

void sim_child_start(struct sim *sim, int index)
{
    struct sim_process *process = &sim->processes[index];
    process->child = 1;
    process->hung = 0;
    process->child_id = ++sim->child_ids;
    process->incarnation++;
    sim_later(sim, 5 + sim_below(sim, 100), sim_attach, index)->id = process->child_id;
    sim_later(sim, 1000, heartbeat, index)->id = process->child_id;
}

static void child_again(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (process->alive && !process->child && process->child_id == item->id) {
        sim_child_start(sim, item->index);
    }
}

// The child is gone, its supervisor maybe too.
static void drop_child(struct sim *sim, int index)
{
    struct sim_process *process = &sim->processes[index];
    struct sim_generation *generation = process->running;
    process->child = process->at_step = 0;
    process->running = NULL;
    if (process->connection && sim->scheduler) {
        struct rmj_event *event = sim_event(RMJ_EVENT_DETACHED, sim, process->job);
        send(sim, index, event, 0);
    }
    process->connection = 0;
    break_generation(sim, generation, 0);
}

void sim_child_lost(struct sim *sim, int index)
{
    struct sim_process *process = &sim->processes[index];
    if (!process->alive || !process->child) {
        return;
    }
    drop_child(sim, index);
    int64_t delay_ms = sim_chance(sim, 10) ? 500 + sim_below(sim, 3000) : 5 + sim_below(sim, 50);
    sim_later(sim, delay_ms, child_again, index)->id = sim->processes[index].child_id;
}

static void tell_exit(struct sim *sim, struct sim_item *item)
{
    struct rmj_event *event = item->event;
    item->event = NULL;
    sim_core(sim, event);
}

void sim_process_gone(struct sim *sim, int index, int exit_code, int signal)
{
    struct sim_process *process = &sim->processes[index];
    if (!process->alive) {
        return;
    }
    process->alive = 0;
    sim->jobs[process->job].rank_seconds += (double)(sim->now_ms - process->alive_since_ms) / 1000;
    if (process->child) {
        drop_child(sim, index);
    }
    memset(process->snapshots, 0, sizeof process->snapshots);
    struct rmj_event *event = sim_event(RMJ_EVENT_EXITED, sim, process->job);
    memcpy(event->launch, process->name, sizeof event->launch);
    event->exit_code = exit_code;
    event->signal = signal;
    sim_later(sim, 1 + sim_below(sim, 50), tell_exit, index)->event = event;
}

static void go_away(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (process->alive && process->child_id == item->id && !process->hung) {
        sim_process_gone(sim, item->index, (int)item->number, 0);
    }
}

void sim_preempt(struct sim *sim, int index)
{
    struct sim_process *process = &sim->processes[index];
    if (!process->alive || !process->child || process->hung || process->leaving) {
        return;
    }
    process->leaving = 1;
    if (process->connection && sim_chance(sim, 70)) {
        sim_ready(sim, index, "", "");
    }
    struct sim_item *item = sim_later(sim, sim_below(sim, 1000), go_away, index);
    item->id = sim->processes[index].child_id;
    item->number = RMJ_EXIT_ASKED_TO_LEAVE;
}

// A generation at work.

static int owns(const struct sim_generation *generation, uint32_t rank, uint32_t page)
{
    return page % generation->world == rank;
}

static void add_snapshot(const struct sim *sim, struct sim_process *process, const struct sim_generation *generation,
                         uint32_t step)
{
    while (process->snapshots[0].used && process->snapshots[0].step > step) {
        process->snapshots[0] = process->snapshots[1];
        process->snapshots[1].used = 0;
    }
    if (!process->snapshots[0].used || process->snapshots[0].step < step) {
        process->snapshots[1] = process->snapshots[0];
        memset(&process->snapshots[0], 0, sizeof process->snapshots[0]);
        process->snapshots[0].used = 1;
        process->snapshots[0].step = step;
    }
    for (uint32_t page = 0; page < sim->jobs[process->job].page_count; page++) {
        if (owns(generation, process->rank, page)) {
            process->snapshots[0].pages[page / 8] |= (uint8_t)(1u << page % 8);
        }
    }
}

static int takes_part(const struct sim *sim, const struct sim_generation *generation, uint32_t rank)
{
    const struct sim_process *process = &sim->processes[generation->members[rank]];
    return process->alive && process->child && process->running == generation &&
           process->child_id == generation->joined_ids[rank];
}

static void commit(struct sim *sim, struct sim_item *item);
static void evaluated(struct sim *sim, struct sim_item *item);

static void vote(struct sim *sim, struct sim_item *item)
{
    struct sim_generation *generation = item->pointer;
    if (generation->broken) {
        return;
    }
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        if (sim->processes[generation->members[rank]].hung) {
            break_generation(sim, generation, 2000); // the others' deadline
            return;
        }
    }
    const struct sim_job *job = &sim->jobs[generation->job];
    if (job->bad_data && generation->step + 1 >= job->step_count / 2) { // seen before the step is committed
        struct rmj_event *event = sim_event(RMJ_EVENT_RANK_FAILED_JOB, sim, generation->job);
        event->generation = generation->number;
        event->state = RMJOB__V1__JOB_STATE__FAILED_DATA;
        snprintf(event->reason, sizeof event->reason, "the margin fell");
        send(sim, generation->members[0], event, 1);
        return;
    }
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        struct sim_item *next = sim_later(sim, sim_below(sim, 4), commit, generation->members[rank]);
        next->pointer = generation;
        next->number = rank;
    }
}

static void stop_at_step(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (process->child && process->child_id == item->id && process->running == item->pointer && !process->hung) {
        struct sim_generation *generation = process->running;
        generation->broken = 1; // a normal end: nobody complains
        sim_ready(sim, item->index, "", "");
    }
}

static void manifest_written(struct sim *sim, struct sim_item *item)
{
    struct sim_generation *generation = item->pointer;
    struct sim_job *job = &sim->jobs[generation->job];
    int writer = generation->members[0];
    // Every member uploads its own pages out of its supervisor's memory; rank 0 writes the manifest.
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        const struct sim_process *process = &sim->processes[generation->members[rank]];
        if (!process->alive || process->child_id != generation->joined_ids[rank] || process->hung || !process->child) {
            return;
        }
    }
    uint32_t at = 0;
    while (at < job->manifest_count && job->manifests[at].step != item->number) {
        at++;
    }
    if (at == job->manifest_count && at < RMJ_COUNT(job->manifests)) {
        job->manifest_count++;
    }
    int damaged = sim->now_ms < sim->faults_end_ms && sim_chance(sim, 10);
    job->faults += (uint32_t)damaged;
    job->manifests[at].step = item->number;
    job->manifests[at].damaged = damaged;
    struct rmj_event *event = sim_event(RMJ_EVENT_MANIFEST_COMMITTED, sim, generation->job);
    event->generation = generation->number;
    event->step = item->number;
    snprintf(event->digest, sizeof event->digest, "manifest-%u", item->number);
    send(sim, writer, event, 1);
}

static void after_step(struct sim *sim, struct sim_generation *generation)
{
    const struct sim_job *job = &sim->jobs[generation->job];
    int last = generation->step == job->step_count;
    if (generation->every && (last || generation->step % generation->every == 0)) {
        struct sim_item *item = sim_later(sim, 20 + sim_below(sim, 300), manifest_written, 0);
        item->pointer = generation;
        item->number = generation->step;
    }
    int stops = 0;
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        stops |= sim->processes[generation->members[rank]].at_step;
    }
    if (last) {
        sim_later(sim, 100 + sim_below(sim, 800), evaluated, 0)->pointer = generation;
    } else if (stops) {
        for (uint32_t rank = 0; rank < generation->world; rank++) {
            int index = generation->members[rank];
            struct sim_item *item = sim_later(sim, sim_below(sim, 20), stop_at_step, index);
            item->id = sim->processes[index].child_id;
            item->pointer = generation;
        }
    } else {
        sim_later(sim, 100 + sim_below(sim, 300), vote, 0)->pointer = generation;
    }
}

static void commit(struct sim *sim, struct sim_item *item)
{
    struct sim_generation *generation = item->pointer;
    struct sim_job *job = &sim->jobs[generation->job];
    struct sim_process *process = &sim->processes[item->index];
    if (!takes_part(sim, generation, item->number) || process->hung) {
        break_generation(sim, generation, process->hung ? 2000 : 0);
        return;
    }
    if (generation->committed++ == 0) {
        sim_check_commit(sim, generation);
        job->step_max = generation->step + 1 > job->step_max ? generation->step + 1 : job->step_max;
    }
    add_snapshot(sim, process, generation, generation->step + 1);
    if (item->number == 0) {
        struct rmj_event *event = sim_event(RMJ_EVENT_STEP_COMMITTED, sim, generation->job);
        event->generation = generation->number;
        event->step = generation->step + 1;
        send(sim, item->index, event, 1);
    }
    if (generation->committed == generation->world) {
        generation->committed = 0;
        generation->step++;
        after_step(sim, generation);
    }
}

static void evaluated(struct sim *sim, struct sim_item *item)
{
    struct sim_generation *generation = item->pointer;
    for (uint32_t rank = 0; rank < generation->world; rank++) {
        if (!takes_part(sim, generation, rank) || sim->processes[generation->members[rank]].hung) {
            break_generation(sim, generation, 2000);
            return;
        }
    }
    sim->jobs[generation->job].evaluated = 1;
    struct rmj_event *event = sim_event(RMJ_EVENT_EVALUATED, sim, generation->job);
    event->generation = generation->number;
    send(sim, generation->members[0], event, 1);
}

static void nobody_came(struct sim *sim, struct sim_item *item)
{
    struct sim_generation *generation = item->pointer;
    if (!generation->started) {
        break_generation(sim, generation, 0);
    }
}

static void loaded(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    struct sim_generation *generation = item->pointer;
    if (!process->child || process->child_id != item->id || process->running != generation || process->hung) {
        return;
    }
    struct sim_job *job = &sim->jobs[generation->job];
    if (job->doomed) {
        job->faults++;
        sim_child_lost(sim, item->index);
        return;
    }
    if (generation->source == RMJOB__V1__RESUME_SOURCE__MANIFEST) {
        for (uint32_t i = 0; i < job->manifest_count; i++) {
            if (job->manifests[i].step == generation->first_step && job->manifests[i].damaged) {
                char digest[65];
                snprintf(digest, sizeof digest, "manifest-%u", generation->first_step);
                sim_ready(sim, item->index, "does not verify", digest);
                return;
            }
        }
    }
    add_snapshot(sim, process, generation, generation->first_step);
    generation->joined_ids[process->rank] = process->child_id;
    if (++generation->joined == generation->world && !generation->broken) {
        generation->started = 1;
        int evaluates = generation->first_step == job->step_count;
        sim_later(sim, 100 + sim_below(sim, 300), evaluates ? evaluated : vote, 0)->pointer = generation;
    } else {
        sim_later(sim, 3000, nobody_came, 0)->pointer = generation;
    }
}

// Words of rmjobd to a rank.

static void word(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    struct rmj_event *said = item->event; // carries the word: kind, generation, exit code
    if (!process->alive || !process->child || process->child_id != item->id || process->hung ||
        process->connection != item->id2) {
        return;
    }
    switch ((enum rmj_action_kind)item->number) {
    case RMJ_ACTION_ASSIGN:
        if (process->running) {
            sim_fail(sim, "%s is assigned to generation %u while it runs %u", process->name, said->generation,
                     process->running->number);
            return;
        }
        process->running = item->pointer;
        process->rank = said->running_rank;
        process->last_generation = said->generation;
        struct sim_item *load = sim_later(sim, 5 + sim_below(sim, 60), loaded, item->index);
        load->id = item->id;
        load->pointer = item->pointer;
        break;
    case RMJ_ACTION_END_GENERATION:
        if (!process->running || process->running->number != said->generation) {
            break;
        }
        if (said->passed) {
            process->at_step = 1;
        } else {
            sim_ready(sim, item->index, "", "");
        }
        break;
    default: // LEAVE, REFUSE
        sim_process_gone(sim, item->index, said->exit_code, 0);
        break;
    }
}

void sim_word(struct sim *sim, int index, const struct rmj_action *action)
{
    if (index < 0) {
        return;
    }
    struct sim_process *process = &sim->processes[index];
    struct rmj_event *said = sim_event(RMJ_EVENT_TICK, sim, -1);
    said->generation = action->generation;
    said->exit_code = action->kind == RMJ_ACTION_REFUSE ? 7 : action->exit_code;
    said->passed = action->end_kind == RMJOB__V1__END_KIND__AT_STEP;
    said->running_rank = action->assignment ? action->assignment->rank : 0;
    int64_t at_ms = sim->now_ms + sim_below(sim, 4);
    process->words_ms = at_ms > process->words_ms ? at_ms : process->words_ms;
    struct sim_item *item = sim_later(sim, process->words_ms - sim->now_ms, word, index);
    item->event = said;
    item->number = action->kind;
    item->id = process->child_id;
    item->id2 = process->connection;
    if (action->kind == RMJ_ACTION_ASSIGN) {
        item->pointer = sim->generations; // made by the check of this very action
    }
}
