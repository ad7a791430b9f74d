#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/scheduler/scheduler.h"
#include "tests/service/scheduler/script.h"

#define JOBS_MAX 4

struct scene {
    struct rmj_scheduler_options options;
    struct rmj_scheduler *scheduler;
    struct rmj_actions actions;
    int64_t now_ms;
    char names[26][RMJ_ID_SIZE]; // of A, B, C, ...
    int name_count;
    struct rmj_job_record durable[JOBS_MAX];
    char seen[2048]; // actions of the line
    const char *line;
};

static const char *option(const char *words, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *at = strstr(words, name); at; at = strstr(at + 1, name)) {
        if (at > words && at[-1] == ' ' && at[length] == '=') {
            snprintf(out, size, "%.*s", (int)strcspn(at + length + 1, " "), at + length + 1);
            return out;
        }
    }
    return NULL;
}

static uint32_t number(const char *words, const char *name, uint32_t otherwise)
{
    char text[32];
    return option(words, name, text, sizeof text) ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static char letter_of(const struct scene *scene, const char *name)
{
    for (int i = 0; i < scene->name_count; i++) {
        if (strcmp(scene->names[i], name) == 0) {
            return (char)('A' + i);
        }
    }
    return '?';
}

static void see(struct scene *scene, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void see(struct scene *scene, const char *format, ...)
{
    size_t used = strlen(scene->seen);
    used += (size_t)snprintf(scene->seen + used, sizeof scene->seen - used, "%s", used ? "; " : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(scene->seen + used, sizeof scene->seen - used, format, arguments);
    va_end(arguments);
}

static void see_assignment(struct scene *scene, const struct rmj_action *action)
{
    static const char *const sources[] = {"FRESH", "MEMORY", "MANIFEST"};
    const struct rmj_assignment *assignment = action->assignment;
    see(scene, "ASSIGN %c g%u %u/%u %s %s %u", letter_of(scene, action->rank_uid), assignment->generation,
        assignment->rank, assignment->world, assignment->phase == RMJOB__V1__PHASE__EVALUATE ? "EVALUATE" : "TRAIN",
        sources[assignment->source], assignment->step);
    assert_string_equal(assignment->peers[assignment->rank].rank_uid, action->rank_uid);
    int index = action->job[0] - '1';
    assert_int_equal(scene->durable[index].generation, assignment->generation); // durable before announced
}

static void see_action(struct scene *scene, const struct rmj_action *action)
{
    char rank = letter_of(scene, action->rank_uid), launch = letter_of(scene, action->launch);
    switch (action->kind) {
    case RMJ_ACTION_PERSIST:
        scene->durable[action->job[0] - '1'] = *rmj_scheduler_job(scene->scheduler, action->job);
        break;
    case RMJ_ACTION_NOTE:
        assert_true(action->reason[0]);
        break;
    case RMJ_ACTION_LAUNCH:
        assert_true(scene->name_count < 26);
        memcpy(scene->names[scene->name_count++], action->launch, RMJ_ID_SIZE);
        see(scene, "LAUNCH %c", 'A' + scene->name_count - 1);
        break;
    case RMJ_ACTION_KILL:
        see(scene, "KILL %c", launch);
        break;
    case RMJ_ACTION_ASSIGN:
        see_assignment(scene, action);
        break;
    case RMJ_ACTION_END_GENERATION:
        see(scene, "END %c g%u %s", rank, action->generation,
            action->end_kind == RMJOB__V1__END_KIND__ABORT ? "ABORT" : "AT_STEP");
        break;
    case RMJ_ACTION_LEAVE:
        see(scene, "LEAVE %c %d", rank, action->exit_code);
        break;
    case RMJ_ACTION_REFUSE:
        assert_true(action->reason[0]);
        see(scene, "REFUSE %c", rank);
        break;
    default:
        see(scene, "%s",
            action->kind == RMJ_ACTION_PREPARE   ? "PREPARE"
            : action->kind == RMJ_ACTION_GATE    ? "GATE"
            : action->kind == RMJ_ACTION_PUBLISH ? "PUBLISH"
                                                 : "FINISHED");
        break;
    }
}

static void step(struct scene *scene, const struct rmj_event *event)
{
    rmj_scheduler_step(scene->scheduler, event, scene->now_ms, &scene->actions);
    for (size_t i = 0; i < scene->actions.count; i++) {
        see_action(scene, &scene->actions.items[i]);
    }
    rmj_actions_clear(&scene->actions);
}

static void pass_time(struct scene *scene, int64_t ms)
{
    int64_t until_ms = scene->now_ms + ms;
    while (rmj_scheduler_next_tick_ms(scene->scheduler) <= until_ms) {
        int64_t tick_ms = rmj_scheduler_next_tick_ms(scene->scheduler);
        scene->now_ms = tick_ms > scene->now_ms ? tick_ms : scene->now_ms;
        struct rmj_event event = {.kind = RMJ_EVENT_TICK};
        step(scene, &event);
    }
    scene->now_ms = until_ms;
}

// "5:f,4:3": step 5 with the pages of mask 0xf, step 4 with those of 0x3.
static void fill_inventory(const char *words, struct rmj_inventory *inventory, uint8_t masks[RMJ_SNAPSHOTS_MAX])
{
    char text[64];
    const char *at = option(words, "snap", text, sizeof text);
    while (at && *at && inventory->snapshot_count < RMJ_SNAPSHOTS_MAX) {
        char *end;
        uint32_t n = inventory->snapshot_count++;
        inventory->snapshots[n].step = (uint32_t)strtoul(at, &end, 10);
        masks[n] = (uint8_t)strtoul(end + 1, &end, 16);
        inventory->snapshots[n].pages = &masks[n];
        at = *end == ',' ? end + 1 : end;
    }
}

static void do_submit(struct scene *scene, const char *words, struct rmj_event *event)
{
    static struct rmj_job_record record;
    memset(&record, 0, sizeof record);
    snprintf(record.id, sizeof record.id, "%s", event->job);
    snprintf(record.project, sizeof record.project, "%s", event->project);
    record.min_ranks = number(words, "min", 1);
    record.max_ranks = number(words, "max", 1);
    record.checkpoint_every_steps = number(words, "every", 0);
    record.checkpoint_off = strstr(words, " off") != NULL;
    record.max_restarts = number(words, "restarts", 10);
    record.submitted_ms = scene->now_ms;
    record.deadline_ms = number(words, "deadline", 0) ? scene->now_ms + number(words, "deadline", 0) : 0;
    record.rank_seconds_limit = number(words, "seconds", 0);
    event->record = &record;
}

static void do_restart(struct scene *scene)
{
    rmj_scheduler_destroy(scene->scheduler);
    scene->options.seed++;
    scene->scheduler = rmj_scheduler_create(&scene->options);
    for (int i = 0; i < JOBS_MAX; i++) {
        if (scene->durable[i].id[0]) {
            struct rmj_job_record record = scene->durable[i];
            struct rmj_event event = {.kind = RMJ_EVENT_RECOVERED, .record = &record};
            memcpy(event.job, record.id, sizeof event.job);
            step(scene, &event);
        }
    }
}

static void check_state(struct scene *scene, const char *words)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(words, " "), words);
    const struct rmj_job_record *record = &scene->durable[0];
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&rmjob__v1__job_state__descriptor, (int)record->state);
    const char *text = words + strcspn(words, " ");
    if (strcmp(value->name, wanted) != 0 || !strstr(record->reason, *text ? text + 1 : text)) {
        fail_msg("%s: the state is %s (%s)", scene->line, value->name, record->reason);
    }
}

static const struct {
    const char *word;
    enum rmj_event_kind kind;
} kinds[] = {
    {"submit", RMJ_EVENT_SUBMITTED},
    {"prepared", RMJ_EVENT_PREPARED},
    {"prepare_failed", RMJ_EVENT_PREPARE_FAILED},
    {"launched", RMJ_EVENT_LAUNCHED},
    {"launch_failed", RMJ_EVENT_LAUNCH_FAILED},
    {"exit", RMJ_EVENT_EXITED},
    {"attach", RMJ_EVENT_ATTACHED},
    {"ready", RMJ_EVENT_READY},
    {"detach", RMJ_EVENT_DETACHED},
    {"beat", RMJ_EVENT_HEARTBEAT},
    {"step", RMJ_EVENT_STEP_COMMITTED},
    {"manifest", RMJ_EVENT_MANIFEST_COMMITTED},
    {"evaluated", RMJ_EVENT_EVALUATED},
    {"gated", RMJ_EVENT_GATED},
    {"published", RMJ_EVENT_PUBLISHED},
    {"publish_failed", RMJ_EVENT_PUBLISH_FAILED},
    {"fail", RMJ_EVENT_RANK_FAILED_JOB},
    {"cancel", RMJ_EVENT_CANCEL},
    {"resize", RMJ_EVENT_RESIZE},
    {"limits", RMJ_EVENT_LIMITS},
    {"tick", RMJ_EVENT_TICK},
};

// "verb [A] [g1] [5] options": the plain words behind the verb.
static void read_words(const struct scene *scene, const char *words, struct rmj_event *event)
{
    char text[65];
    for (const char *at = strchr(words, ' '); at; at = strchr(at + 1, ' ')) {
        if (at[1] >= 'A' && at[1] <= 'Z' && (at[2] == ' ' || !at[2])) {
            int index = at[1] - 'A';
            snprintf(event->rank_uid, sizeof event->rank_uid, "%s",
                     index < scene->name_count ? scene->names[index] : "?");
            memcpy(event->launch, event->rank_uid, sizeof event->launch);
        } else if (at[1] == 'g' && at[2] >= '0' && at[2] <= '9') {
            event->generation = (uint32_t)strtoul(at + 2, NULL, 10);
        } else if (at[1] >= '0' && at[1] <= '9') {
            event->step = (uint32_t)strtoul(at + 1, NULL, 10);
        }
    }
    snprintf(event->job, sizeof event->job, "%u", number(words, "job", 1));
    if (!option(words, "project", event->project, sizeof event->project)) {
        event->project[0] = 'a';
    }
    event->incarnation = number(words, "inc", 1);
    event->exit_code = (int)number(words, "code", 0);
    event->signal = (int)number(words, "signal", 0);
    event->page_count = number(words, "pages", 4);
    event->step_count = number(words, "steps", 10);
    event->min_ranks = number(words, "min", 0);
    event->max_ranks = number(words, "max", number(words, "ranks", 0));
    event->max_jobs = number(words, "jobs", 0);
    event->leaving = strstr(words, " leaving") != NULL;
    event->has_suspect = strstr(words, " suspect") != NULL;
    event->passed = strstr(words, " no") == NULL;
    snprintf(event->probe, sizeof event->probe, "%s", option(words, "probe", text, sizeof text) ? text : "x");
    if (option(words, "run", text, sizeof text)) {
        char *end;
        event->running_generation = (uint32_t)strtoul(text, &end, 10);
        event->running_rank = (uint32_t)strtoul(end + 1, NULL, 10);
    }
}

static void do_event(struct scene *scene, const char *words)
{
    char text[65];
    uint8_t masks[RMJ_SNAPSHOTS_MAX];
    struct rmj_event event = {.kind = RMJ_EVENT_TICK};
    size_t length = strcspn(words, " "), known = 0;
    for (; known < sizeof kinds / sizeof *kinds; known++) {
        if (strlen(kinds[known].word) == length && strncmp(kinds[known].word, words, length) == 0) {
            break;
        }
    }
    assert_true(known < sizeof kinds / sizeof *kinds);
    event.kind = kinds[known].kind;
    read_words(scene, words, &event);
    fill_inventory(words, &event.inventory, masks);
    if (event.kind == RMJ_EVENT_SUBMITTED) {
        do_submit(scene, words, &event);
    } else if (event.kind == RMJ_EVENT_MANIFEST_COMMITTED) {
        snprintf(event.digest, sizeof event.digest, "m%u", event.step);
        if (option(words, "digest", text, sizeof text)) {
            snprintf(event.digest, sizeof event.digest, "%s", text);
        }
    } else if (event.kind == RMJ_EVENT_EXITED) {
        if (option(words, "error", text, sizeof text)) {
            snprintf(event.reason, sizeof event.reason, "%s", text);
        }
    } else if (event.kind == RMJ_EVENT_READY) {
        if (option(words, "problem", text, sizeof text)) {
            snprintf(event.reason, sizeof event.reason, "%s", text);
        }
        if (option(words, "bad", text, sizeof text)) {
            snprintf(event.digest, sizeof event.digest, "%s", text);
        }
    } else if (event.kind == RMJ_EVENT_RANK_FAILED_JOB || event.kind == RMJ_EVENT_PREPARE_FAILED) {
        event.state = RMJOB__V1__JOB_STATE__FAILED_DATA;
        snprintf(event.reason, sizeof event.reason, "row 7 is bad");
    }
    step(scene, &event);
}

static void run_line(struct scene *scene, const char *line)
{
    char words[256];
    const char *expected = strchr(line, '=');
    while (expected && expected[-1] != ' ') {
        expected = strchr(expected + 1, '=');
    }
    size_t size = expected ? (size_t)(expected - line) : strlen(line);
    assert_true(size < sizeof words);
    memcpy(words, line, size);
    words[size] = 0;
    for (size_t end = strlen(words); end > 0 && words[end - 1] == ' ';) {
        words[--end] = 0;
    }
    expected = expected ? expected + 1 + strspn(expected + 1, " ") : "";
    scene->line = line;
    scene->seen[0] = 0;
    char *rest;
    pass_time(scene, strtol(words + 1, &rest, 10));
    rest += strspn(rest, " ");
    if (strncmp(rest, "state ", 6) == 0) {
        check_state(scene, rest + 6);
    } else if (strncmp(rest, "restart", 7) == 0) {
        do_restart(scene);
    } else {
        do_event(scene, rest);
    }
    if (strcmp(scene->seen, expected) != 0) {
        fail_msg("line   %s\n  wanted %s\n  got    %s", line, expected, scene->seen);
    }
}

void script_run(unsigned slots, const char *const *lines)
{
    static struct scene scene;
    memset(&scene, 0, sizeof scene);
    scene.options = (struct rmj_scheduler_options){.rank_slots = slots,
                                                   .join_wait_ms = 1000,
                                                   .reattach_wait_ms = 2000,
                                                   .heartbeat_timeout_ms = 5000,
                                                   .ready_timeout_ms = 1500,
                                                   .backoff_ms_max = 8000};
    scene.now_ms = 1000000;
    scene.scheduler = rmj_scheduler_create(&scene.options);
    for (int i = 0; lines[i]; i++) {
        run_line(&scene, lines[i]);
    }
    rmj_scheduler_destroy(scene.scheduler);
    rmj_actions_deinit(&scene.actions);
}
