#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/sim/sim.h"

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->failure[0]) {
        return;
    }
    int size = snprintf(sim->failure, sizeof sim->failure, "at %" PRId64 " ms: ", sim->now_ms);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim->failure + size, sizeof sim->failure - (size_t)size, format, arguments);
    va_end(arguments);
}

uint32_t sim_below(struct sim *sim, uint32_t bound)
{
    return (uint32_t)rmj_rng_below(&sim->rng, bound);
}

int sim_chance(struct sim *sim, uint32_t percent)
{
    return sim_below(sim, 100) < percent;
}

static int is_before(const struct sim_item *a, const struct sim_item *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->sequence < b->sequence;
}

static void sift_up(struct sim *sim, size_t at)
{
    while (at > 0 && is_before(&sim->heap[at], &sim->heap[(at - 1) / 2])) {
        struct sim_item item = sim->heap[at];
        sim->heap[at] = sim->heap[(at - 1) / 2];
        sim->heap[(at - 1) / 2] = item;
        at = (at - 1) / 2;
    }
}

// The caller fills in the fields of the new item, so it stays in the last slot and finds its place with the next call.
struct sim_item *sim_later(struct sim *sim, int64_t delay_ms, void (*run)(struct sim *, struct sim_item *), int index)
{
    if (sim->unsifted != SIZE_MAX) {
        sift_up(sim, sim->unsifted);
    }
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity ? 2 * sim->heap_capacity : 256;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        RMJ_ASSERT(sim->heap);
    }
    sim->unsifted = sim->heap_count++;
    struct sim_item *item = &sim->heap[sim->unsifted];
    *item = (struct sim_item){.at_ms = sim->now_ms + delay_ms, .sequence = sim->sequence++, .run = run, .index = index};
    return item;
}

static struct sim_item take_first(struct sim *sim)
{
    if (sim->unsifted != SIZE_MAX) {
        sift_up(sim, sim->unsifted);
        sim->unsifted = SIZE_MAX;
    }
    struct sim_item first = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->heap_count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < sim->heap_count; child++) {
            least = is_before(&sim->heap[child], &sim->heap[least]) ? child : least;
        }
        if (least == at) {
            return first;
        }
        struct sim_item item = sim->heap[at];
        sim->heap[at] = sim->heap[least];
        sim->heap[least] = item;
        at = least;
    }
}

struct rmj_event *sim_event(enum rmj_event_kind kind, const struct sim *sim, int job)
{
    struct rmj_event *event = calloc(1, sizeof *event);
    RMJ_ASSERT(event);
    event->kind = kind;
    if (job >= 0) {
        memcpy(event->job, sim->jobs[job].submitted.id, sizeof event->job);
    }
    return event;
}

int sim_process_find(const struct sim *sim, const char *name)
{
    for (int i = sim->process_count - 1; i >= 0; i--) {
        if (strcmp(sim->processes[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int find_job(const struct sim *sim, const char *id)
{
    for (int i = 0; i < sim->job_count; i++) {
        if (strcmp(sim->jobs[i].submitted.id, id) == 0) {
            return i;
        }
    }
    return -1;
}

static void free_event(struct rmj_event *event)
{
    for (uint32_t i = 0; event && i < event->inventory.snapshot_count; i++) {
        free(event->inventory.snapshots[i].pages);
    }
    free(event);
}

// The rest of what rmjobd does for a job: tasks whose answer is lost when rmjobd dies, and asked for again after it.
static void answer(struct sim *sim, struct sim_item *item)
{
    if (!sim->scheduler || sim->epoch != item->id) {
        return;
    }
    struct sim_job *job = &sim->jobs[item->index];
    struct rmj_event *event = sim_event((enum rmj_event_kind)item->number, sim, item->index);
    switch (event->kind) {
    case RMJ_EVENT_PREPARED:
        event->page_count = job->page_count;
        event->step_count = job->step_count;
        snprintf(event->plan, sizeof event->plan, "plan-%d", item->index);
        break;
    case RMJ_EVENT_GATED:
        event->passed = job->gate_passes;
        job->gate_done = 1;
        break;
    case RMJ_EVENT_PUBLISHED:
        if (job->publish_fails) {
            event->kind = RMJ_EVENT_PUBLISH_FAILED;
        } else {
            job->published = 1;
        }
        break;
    default:
        break;
    }
    sim_core(sim, event);
}

static void ask(struct sim *sim, int job, enum rmj_event_kind kind)
{
    struct sim_item *item = sim_later(sim, 20 + sim_below(sim, 200), answer, job);
    item->number = kind;
    item->id = sim->epoch;
}

static void launched(struct sim *sim, struct sim_item *item)
{
    struct sim_process *process = &sim->processes[item->index];
    if (!process->pending) {
        return; // killed before it began
    }
    process->pending = 0;
    struct sim_job *job = &sim->jobs[process->job];
    int fails = sim->now_ms < sim->faults_end_ms && sim_chance(sim, 5);
    struct rmj_event *event = sim_event(fails ? RMJ_EVENT_LAUNCH_FAILED : RMJ_EVENT_LAUNCHED, sim, process->job);
    memcpy(event->launch, process->name, sizeof event->launch);
    if (fails) {
        job->faults++;
        snprintf(event->reason, sizeof event->reason, "no such machine");
    } else {
        process->alive = 1;
        process->alive_since_ms = sim->now_ms;
        process->odd_probe = job->durable.probe[0] && sim->now_ms < sim->faults_end_ms && sim_chance(sim, 3);
        job->faults += (uint32_t)process->odd_probe;
        sim_child_start(sim, item->index);
    }
    if (sim->scheduler && sim->epoch == item->id) {
        sim_core(sim, event);
    } else {
        free_event(event);
    }
}

static void launch(struct sim *sim, int job, const char *name)
{
    if (sim->process_count == sim->process_capacity) {
        sim->process_capacity = sim->process_capacity ? 2 * sim->process_capacity : 64;
        sim->processes = realloc(sim->processes, (size_t)sim->process_capacity * sizeof *sim->processes);
        RMJ_ASSERT(sim->processes);
    }
    int index = sim->process_count++;
    sim->processes[index] = (struct sim_process){.job = job, .pending = 1};
    snprintf(sim->processes[index].name, RMJ_ID_SIZE, "%s", name);
    int slow = sim->now_ms < sim->faults_end_ms && sim_chance(sim, 5);
    int64_t delay_ms = slow ? 5000 + sim_below(sim, 30000) : 5 + sim_below(sim, 80);
    sim_later(sim, delay_ms, launched, index)->id = sim->epoch;
}

static void exited_unknown(struct sim *sim, struct sim_item *item)
{
    if (sim->scheduler && sim->epoch == item->id) {
        struct rmj_event *event = item->event;
        item->event = NULL;
        sim_core(sim, event);
    }
}

static void kill_process(struct sim *sim, int job, const char *name)
{
    int index = sim_process_find(sim, name);
    if (index >= 0 && sim->processes[index].alive) {
        sim_process_gone(sim, index, 0, 9);
        return;
    }
    if (index >= 0) {
        sim->processes[index].pending = 0;
    }
    struct rmj_event *event = sim_event(RMJ_EVENT_EXITED, sim, job);
    snprintf(event->launch, sizeof event->launch, "%s", name);
    event->signal = 9;
    struct sim_item *item = sim_later(sim, 1 + sim_below(sim, 20), exited_unknown, job);
    item->event = event;
    item->id = sim->epoch;
}

static void perform(struct sim *sim, const struct rmj_action *action)
{
    int job = find_job(sim, action->job);
    if (sim->verbose) {
        static const char *const names[] = {"PERSIST", "PREPARE", "LAUNCH", "KILL",    "ASSIGN", "END",
                                            "LEAVE",   "REFUSE",  "GATE",   "PUBLISH", "NOTE",   "FINISHED"};
        fprintf(stderr, "%8" PRId64 "   %s %s %s%s g%u %s\n", sim->now_ms, action->job, names[action->kind],
                action->launch, action->rank_uid, action->generation, action->reason);
    }
    sim_check_action(sim, job, action);
    switch (action->kind) {
    case RMJ_ACTION_PERSIST:
        sim->jobs[job].durable = *rmj_scheduler_job(sim->scheduler, action->job);
        sim->jobs[job].is_durable = 1;
        break;
    case RMJ_ACTION_PREPARE:
        ask(sim, job, RMJ_EVENT_PREPARED);
        break;
    case RMJ_ACTION_LAUNCH:
        launch(sim, job, action->launch);
        break;
    case RMJ_ACTION_KILL:
        kill_process(sim, job, action->launch);
        break;
    case RMJ_ACTION_GATE:
        ask(sim, job, RMJ_EVENT_GATED);
        break;
    case RMJ_ACTION_PUBLISH:
        ask(sim, job, RMJ_EVENT_PUBLISHED);
        break;
    case RMJ_ACTION_FINISHED:
        sim->jobs[job].finished = 1;
        break;
    case RMJ_ACTION_NOTE:
        break;
    default:
        sim_word(sim, sim_process_find(sim, action->rank_uid), action);
    }
}

static void tick(struct sim *sim, struct sim_item *item)
{
    (void)item;
    if (item->at_ms == sim->tick_ms) {
        sim->tick_ms = INT64_MAX;
        sim_core(sim, sim_event(RMJ_EVENT_TICK, sim, -1));
    }
}

static void set_tick(struct sim *sim)
{
    int64_t next_ms = rmj_scheduler_next_tick_ms(sim->scheduler);
    next_ms = next_ms <= sim->now_ms ? sim->now_ms + 1 : next_ms;
    if (next_ms < sim->tick_ms) {
        sim->tick_ms = next_ms;
        sim_later(sim, next_ms - sim->now_ms, tick, 0);
    }
}

void sim_core(struct sim *sim, struct rmj_event *event)
{
    if (!sim->scheduler) {
        free_event(event);
        return;
    }
    sim->events++;
    if (sim->verbose) {
        fprintf(stderr, "%8" PRId64 " %s event %d %s%s i%u g%u s%u %s\n", sim->now_ms, event->job, event->kind,
                event->launch, event->rank_uid, event->incarnation, event->generation, event->step, event->reason);
    }
    rmj_scheduler_step(sim->scheduler, event, sim->now_ms, &sim->actions);
    int job = find_job(sim, event->job);
    free_event(event);
    for (size_t i = 0; i < sim->actions.count && !sim->failure[0]; i++) {
        if (sim->crash_after >= 0 && sim->crash_after-- == 0) {
            rmj_actions_clear(&sim->actions);
            sim_rmjobd_kill(sim);
            return;
        }
        perform(sim, &sim->actions.items[i]);
    }
    rmj_actions_clear(&sim->actions);
    if (job >= 0) {
        sim_check_after(sim, job);
    }
    set_tick(sim);
}

static void tell_limits(struct sim *sim)
{
    for (int i = 0; i < 2; i++) {
        struct rmj_event *event = sim_event(RMJ_EVENT_LIMITS, sim, -1);
        snprintf(event->project, sizeof event->project, "%c", 'a' + i);
        event->max_ranks = sim->limit_ranks[i];
        event->max_jobs = sim->limit_jobs[i];
        sim_core(sim, event);
    }
}

void sim_rmjobd_start(struct sim *sim)
{
    sim->epoch++;
    sim->options.seed = sim->seed + sim->epoch;
    sim->scheduler = rmj_scheduler_create(&sim->options);
    sim->crash_after = -1;
    sim->tick_ms = INT64_MAX;
    tell_limits(sim);
    for (int i = 0; i < sim->job_count && sim->scheduler; i++) {
        if (sim->jobs[i].is_durable && !sim->jobs[i].finished) {
            struct rmj_event *event = sim_event(RMJ_EVENT_RECOVERED, sim, i);
            struct rmj_job_record durable = sim->jobs[i].durable;
            event->record = &durable;
            sim_core(sim, event);
        }
    }
    for (int i = 0; i < sim->process_count; i++) {
        if (sim->processes[i].alive && sim->processes[i].child && !sim->processes[i].hung) {
            sim_later(sim, 1 + sim_below(sim, 500), sim_attach, i)->id = sim->processes[i].child_id;
        }
    }
}

static void start_again(struct sim *sim, struct sim_item *item)
{
    (void)item;
    sim_rmjobd_start(sim);
}

void sim_rmjobd_kill(struct sim *sim)
{
    if (!sim->scheduler) {
        return;
    }
    if (sim->verbose) {
        fprintf(stderr, "%8" PRId64 " rmjobd dies\n", sim->now_ms);
    }
    rmj_scheduler_destroy(sim->scheduler);
    sim->scheduler = NULL;
    for (int i = 0; i < sim->process_count; i++) {
        sim->processes[i].connection = 0;
    }
    for (int i = 0; i < sim->job_count; i++) {
        sim->jobs[i].faults++; // words were lost: ranks may blame each other
    }
    sim_later(sim, 10 + sim_below(sim, 5000), start_again, 0);
}

static int all_ended(const struct sim *sim)
{
    for (int i = 0; i < sim->job_count; i++) {
        if (!sim->jobs[i].finished) {
            return 0;
        }
    }
    return 1;
}

#define SIM_LIVENESS_MS (2 * 3600 * 1000)

int sim_run(struct sim *sim)
{
    int limits_lifted = 0;
    while (sim->heap_count > 0 && !sim->failure[0] && !all_ended(sim)) {
        struct sim_item item = take_first(sim);
        sim->now_ms = item.at_ms;
        if (sim->now_ms > sim->faults_end_ms && !limits_lifted && sim->scheduler) {
            limits_lifted = 1;
            memset(sim->limit_ranks, 0, sizeof sim->limit_ranks);
            memset(sim->limit_jobs, 0, sizeof sim->limit_jobs);
            tell_limits(sim);
            sim_core(sim, sim_event(RMJ_EVENT_TICK, sim, -1));
        }
        item.run(sim, &item);
        free_event(item.event);
        if (sim->now_ms > sim->faults_end_ms + SIM_LIVENESS_MS) {
            break;
        }
    }
    sim_check_end(sim);
    return !sim->failure[0];
}

void sim_deinit(struct sim *sim)
{
    for (size_t i = 0; i < sim->heap_count; i++) {
        free_event(sim->heap[i].event);
    }
    while (sim->generations) {
        struct sim_generation *next = sim->generations->next;
        free(sim->generations);
        sim->generations = next;
    }
    rmj_scheduler_destroy(sim->scheduler);
    rmj_actions_deinit(&sim->actions);
    free(sim->heap);
    free(sim->processes);
}
