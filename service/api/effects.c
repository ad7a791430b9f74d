// Carrying out what the scheduler decided, and what processes do by themselves.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "service/api/internal.h"

#define SECRET_SIZE 32
#define EXITS_PER_TURN 32
#define LOG_TAIL_SIZE 4096
#define PREPARE_TAIL_SIZE 400

// ---- from actions to effects ----

static void add_ranges(Rmjob__V1__Peer *peer, const uint8_t *pages, uint32_t page_count)
{
    uint32_t page = 0;
    while (pages != NULL && page < page_count) {
        if ((pages[page / 8] >> (page % 8) & 1) == 0) {
            page++;
            continue;
        }
        Rmjob__V1__PageRange *range = malloc(sizeof *range);
        peer->pages = realloc(peer->pages, (peer->n_pages + 1) * sizeof *peer->pages);
        RMJ_ASSERT(range != NULL && peer->pages != NULL);
        rmjob__v1__page_range__init(range);
        range->has_first = range->has_count = 1;
        range->first = page;
        while (page < page_count && (pages[page / 8] >> (page % 8) & 1) != 0) {
            page++;
        }
        range->count = page - range->first;
        peer->pages[peer->n_pages++] = range;
    }
}

static void add_peers(Rmjob__V1__Assignment *to, const struct rmj_assignment *from, uint32_t page_count)
{
    to->peers = calloc(from->world, sizeof *to->peers);
    RMJ_ASSERT(to->peers != NULL);
    for (uint32_t i = 0; i < from->world; i++) {
        Rmjob__V1__Peer *peer = malloc(sizeof *peer);
        RMJ_ASSERT(peer != NULL);
        rmjob__v1__peer__init(peer);
        peer->rank_uid = strdup(from->peers[i].rank_uid);
        peer->comm_address = strdup(from->peers[i].address);
        add_ranges(peer, from->peers[i].pages, page_count);
        to->peers[to->n_peers++] = peer;
    }
}

// One secret a generation, derived from the job's token: equal for all ranks, unknown to other jobs, and the same after
// a restart of rmjobd.
static void add_secret(struct rmj_service *service, Rmjob__V1__Assignment *assignment, const char *job)
{
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    if (rmj_db_places(service->db, job, &places, &err) != RMJ_OK) {
        return;
    }
    char text[RMJ_DB_TOKEN_SIZE + 32];
    int length = snprintf(text, sizeof text, "%s generation %u", places.rank_token, assignment->generation);
    struct rmj_digest digest;
    rmj_sha256_of(text, (size_t)length, &digest);
    assignment->secret.data = malloc(SECRET_SIZE);
    RMJ_ASSERT(assignment->secret.data != NULL);
    memcpy(assignment->secret.data, digest.bytes, SECRET_SIZE);
    assignment->secret.len = SECRET_SIZE;
    assignment->has_secret = 1;
}

static Rmjob__V1__Directive *new_directive(void)
{
    Rmjob__V1__Directive *directive = malloc(sizeof *directive);
    RMJ_ASSERT(directive != NULL);
    rmjob__v1__directive__init(directive);
    return directive;
}

static void translate_assign(struct rmj_service *service, const struct rmj_action *action)
{
    const struct rmj_assignment *from = action->assignment;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, action->job);
    Rmjob__V1__Directive *directive = new_directive();
    Rmjob__V1__Assignment *to = malloc(sizeof *to);
    RMJ_ASSERT(to != NULL && record != NULL);
    rmjob__v1__assignment__init(to);
    to->has_generation = to->has_rank = to->has_phase = to->has_source = to->has_step = 1;
    to->generation = from->generation;
    to->rank = from->rank;
    to->phase = from->phase;
    to->source = from->source;
    to->step = from->step;
    to->manifest = from->manifest[0] == '\0' ? NULL : strdup(from->manifest);
    to->plan = strdup(record->plan);
    to->has_checkpoint_every_steps = 1;
    to->checkpoint_every_steps = from->checkpoint_every_steps;
    add_peers(to, from, record->page_count);
    add_secret(service, to, action->job);
    directive->kind_case = RMJOB__V1__DIRECTIVE__KIND_ASSIGNMENT;
    directive->assignment = to;
    live_generation(service, action->job, from);
    struct effect *effect = owner_effect(service, EFFECT_DIRECTIVE, action->job);
    snprintf(effect->target, sizeof effect->target, "%s", action->rank_uid);
    effect->message = &directive->base;
}

static void translate_end(struct rmj_service *service, const struct rmj_action *action)
{
    Rmjob__V1__Directive *directive = new_directive();
    Rmjob__V1__EndGeneration *end = malloc(sizeof *end);
    RMJ_ASSERT(end != NULL);
    rmjob__v1__end_generation__init(end);
    end->has_generation = end->has_kind = 1;
    end->generation = action->generation;
    end->kind = action->end_kind;
    end->reason = strdup(action->reason);
    directive->kind_case = RMJOB__V1__DIRECTIVE__KIND_END_GENERATION;
    directive->end_generation = end;
    struct effect *effect = owner_effect(service, EFFECT_DIRECTIVE, action->job);
    snprintf(effect->target, sizeof effect->target, "%s", action->rank_uid);
    effect->message = &directive->base;
}

static void translate_leave(struct rmj_service *service, const struct rmj_action *action)
{
    Rmjob__V1__Directive *directive = new_directive();
    Rmjob__V1__Leave *leave = malloc(sizeof *leave);
    RMJ_ASSERT(leave != NULL);
    rmjob__v1__leave__init(leave);
    leave->reason = strdup(action->reason);
    leave->has_exit_code = 1;
    leave->exit_code = (uint32_t)action->exit_code;
    directive->kind_case = RMJOB__V1__DIRECTIVE__KIND_LEAVE;
    directive->leave = leave;
    struct effect *effect = owner_effect(service, EFFECT_DIRECTIVE, action->job);
    snprintf(effect->target, sizeof effect->target, "%s", action->rank_uid);
    effect->message = &directive->base;
}

static void translate_process(struct rmj_service *service, const struct rmj_action *action, enum effect_kind kind)
{
    struct effect *effect = owner_effect(service, kind, action->job);
    snprintf(effect->target, sizeof effect->target, "%s", kind == EFFECT_REFUSE ? action->rank_uid : action->launch);
    if (kind == EFFECT_REFUSE) {
        (void)rmj_fail(&effect->err, RMJ_DENIED, "%s", action->reason);
    }
}

void effects_translate(struct rmj_service *service, const struct rmj_action *action)
{
    switch (action->kind) {
    case RMJ_ACTION_PERSIST: {
        const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, action->job);
        RMJ_ASSERT(record != NULL);
        live_persist(service, record);
        break;
    }
    case RMJ_ACTION_PREPARE:
        owner_effect(service, EFFECT_PREPARE, action->job);
        break;
    case RMJ_ACTION_LAUNCH:
        translate_process(service, action, EFFECT_LAUNCH);
        break;
    case RMJ_ACTION_KILL:
        translate_process(service, action, EFFECT_KILL);
        break;
    case RMJ_ACTION_REFUSE:
        translate_process(service, action, EFFECT_REFUSE);
        break;
    case RMJ_ACTION_ASSIGN:
        translate_assign(service, action);
        break;
    case RMJ_ACTION_END_GENERATION:
        translate_end(service, action);
        break;
    case RMJ_ACTION_LEAVE:
        translate_leave(service, action);
        break;
    case RMJ_ACTION_GATE:
        owner_effect(service, EFFECT_CHORE, action->job)->chore = CHORE_GATE;
        break;
    case RMJ_ACTION_PUBLISH:
        owner_effect(service, EFFECT_CHORE, action->job)->chore = CHORE_PUBLISH;
        break;
    case RMJ_ACTION_NOTE:
        live_note(service, action->job, action->reason);
        break;
    case RMJ_ACTION_FINISHED:
        owner_effect(service, EFFECT_FINISHED, action->job);
        break;
    }
}

// ---- processes ----

static void job_directory(const struct rmj_service *service, const char *job, char *path, size_t size)
{
    snprintf(path, size, "%s/jobs/%s/logs", service->state_directory, job);
}

static enum rmj_status start_process(struct rmj_service *service, const char *job, const char *launch, int is_task,
                                     struct rmj_error *err)
{
    char directory[4096], log_path[4200];
    struct rmj_job_places places = {0};
    struct rmj_process process = {0};
    job_directory(service, job, directory, sizeof directory);
    snprintf(log_path, sizeof log_path, "%s/%s.log", directory, launch);
    RMJ_TRY(rmj_db_places(service->db, job, &places, err));
    RMJ_TRY(rmj_fs_make_directories(directory, 0700, err));
    const char *const prepare[] = {"prepare", "--server", service->socket_address, "--job", job, NULL};
    const char *const run[] = {"--server", service->socket_address, "--job", job, "--rank-uid", launch, NULL};
    struct rmj_launch_request request = {
        .arguments = is_task ? prepare : run, .token = places.rank_token, .log_path = log_path};
    snprintf(request.job, sizeof request.job, "%s", job);
    snprintf(request.launch, sizeof request.launch, "%s", launch);
    RMJ_TRY(service->launcher->ops->start(service->launcher, &request, &process, err));
    struct rmj_launch_row row = {.pid = process.pid, .start_time = process.start_time, .is_task = is_task};
    snprintf(row.job, sizeof row.job, "%s", job);
    snprintf(row.launch, sizeof row.launch, "%s", launch);
    rmj_batch_launch(service->batch, &row);
    return RMJ_OK;
}

static void do_launch(struct rmj_service *service, const struct effect *effect)
{
    struct rmj_error err = {0};
    enum rmj_status status = start_process(service, effect->job, effect->target, 0, &err);
    struct rmj_event event =
        owner_event_of(status == RMJ_OK ? RMJ_EVENT_LAUNCHED : RMJ_EVENT_LAUNCH_FAILED, effect->job);
    snprintf(event.launch, sizeof event.launch, "%s", effect->target);
    snprintf(event.reason, sizeof event.reason, "%.500s", err.message);
    owner_later(service, &event);
}

static void prepare_failed(struct rmj_service *service, const char *job, Rmjob__V1__JobState state, const char *reason)
{
    struct rmj_event event = owner_event_of(RMJ_EVENT_PREPARE_FAILED, job);
    event.state = state;
    snprintf(event.reason, sizeof event.reason, "%.500s", reason);
    owner_later(service, &event);
}

static void do_prepare(struct rmj_service *service, const struct effect *effect)
{
    struct live_job *live = live_get(service, effect->job);
    if (live->preparing) {
        return; // adopted after a restart
    }
    char name[RMJ_ID_SIZE];
    struct rmj_error err = {0};
    live->prepare_attempts++;
    snprintf(name, sizeof name, "%.24s-prepare-%u", effect->job, live->prepare_attempts);
    if (start_process(service, effect->job, name, 1, &err) == RMJ_OK) {
        live->preparing = 1;
    } else {
        prepare_failed(service, effect->job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE, err.message);
    }
}

static void do_kill(struct rmj_service *service, const struct effect *effect)
{
    service->launcher->ops->kill(service->launcher, effect->target, SIGKILL);
    if (!service->launcher->ops->has(service->launcher, effect->target)) {
        struct rmj_event event = owner_event_of(RMJ_EVENT_EXITED, effect->job);
        snprintf(event.launch, sizeof event.launch, "%s", effect->target);
        event.exit_code = RMJ_EXIT_UNKNOWN;
        owner_later(service, &event);
    }
}

// The end of a process' log.
static void log_tail(const struct rmj_service *service, const char *job, const char *launch, char *out, size_t size)
{
    char directory[4096], path[4200];
    job_directory(service, job, directory, sizeof directory);
    snprintf(path, sizeof path, "%s/%s.log", directory, launch);
    out[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fseek(file, -(long)(size - 1), SEEK_END) != 0) {
        rewind(file);
    }
    size_t got = fread(out, 1, size - 1, file);
    fclose(file);
    out[got] = '\0';
}

// The last error that a process logged, "" when there is none. People look for the cause in the job's reason, not in
// the logs of ranks.
static void last_error(const struct rmj_service *service, const struct rmj_launch_exit *ended, char *out, size_t size)
{
    char tail[LOG_TAIL_SIZE];
    out[0] = '\0';
    log_tail(service, ended->job, ended->launch, tail, sizeof tail);
    for (char *line = tail, *end; *line != '\0'; line = end) {
        size_t length = strcspn(line, "\n");
        end = line + length + (line[length] == '\n');
        line[length] = '\0';
        const char *reason = strstr(line, " level=error ") == NULL ? NULL : strstr(line, " reason=");
        if (reason != NULL) {
            reason += strlen(" reason=");
            size_t quoted = *reason == '"';
            length = strlen(reason + quoted);
            length -= quoted && length > 0 && reason[length] == '"';
            snprintf(out, size, "%.*s", (int)length, reason + quoted);
        }
    }
}

static void prepare_ended(struct rmj_service *service, const struct rmj_launch_exit *ended)
{
    struct live_job *live = live_get(service, ended->job);
    live->preparing = 0;
    if (live->state != RMJOB__V1__JOB_STATE__PREPARING) {
        return; // it reported
    }
    int may_pass = ended->signal != 0 || ended->exit_code == RMJ_EXIT_UNKNOWN || ended->exit_code == 4;
    if (may_pass && live->prepare_attempts < PREPARE_ATTEMPTS_MAX) {
        struct effect again = {.kind = EFFECT_PREPARE};
        snprintf(again.job, sizeof again.job, "%s", ended->job);
        do_prepare(service, &again);
        return;
    }
    char tail[PREPARE_TAIL_SIZE], reason[RMJ_REASON_SIZE];
    log_tail(service, ended->job, ended->launch, tail, sizeof tail);
    for (char *newline = tail; (newline = strchr(newline, '\n')) != NULL;) {
        *newline = ' ';
    }
    snprintf(reason, sizeof reason, "the prepare task %.60s%s%.380s", ended->reason, tail[0] == '\0' ? "" : ": ", tail);
    prepare_failed(service, ended->job,
                   ended->exit_code == 6               ? RMJOB__V1__JOB_STATE__FAILED_DATA
                   : may_pass || ended->exit_code == 7 ? RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE
                                                       : RMJOB__V1__JOB_STATE__FAILED_INTERNAL,
                   reason);
}

void processes_collect(struct rmj_service *service)
{
    struct rmj_launch_exit exits[EXITS_PER_TURN];
    size_t count = service->launcher->ops->collect(service->launcher, exits, EXITS_PER_TURN);
    for (size_t i = 0; i < count; i++) {
        rmj_log(RMJ_LOG_INFO, "rmjobd", "event=exited job=%s launch=%s exit_code=%d signal=%d", exits[i].job,
                exits[i].launch, exits[i].exit_code, exits[i].signal);
        rmj_batch_launch_gone(service->batch, exits[i].launch);
        if (strstr(exits[i].launch, "-prepare-") != NULL) {
            prepare_ended(service, &exits[i]);
            continue;
        }
        struct rmj_event event = owner_event_of(RMJ_EVENT_EXITED, exits[i].job);
        memcpy(event.launch, exits[i].launch, sizeof event.launch);
        event.exit_code = exits[i].exit_code;
        event.signal = exits[i].signal;
        if (exits[i].exit_code > 0 && exits[i].exit_code != RMJ_EXIT_ASKED_TO_LEAVE) {
            last_error(service, &exits[i], event.reason, sizeof event.reason);
        }
        owner_event(service, &event);
    }
}

static void adopt_one(struct rmj_service *service, const struct rmj_launch_row *row)
{
    struct rmj_error err = {0};
    struct rmj_process process = {.pid = row->pid, .start_time = row->start_time};
    enum rmj_status status = service->launcher->ops->adopt(service->launcher, row->job, row->launch, &process, &err);
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, row->job);
    rmj_log(RMJ_LOG_INFO, "rmjobd", "event=%s job=%s launch=%s pid=%d", status == RMJ_OK ? "adopted" : "gone", row->job,
            row->launch, row->pid);
    if (status == RMJ_OK && record == NULL) {
        service->launcher->ops->kill(service->launcher, row->launch, SIGKILL); // its job has ended
    } else if (status == RMJ_OK && row->is_task) {
        live_get(service, row->job)->preparing = 1;
    } else if (status != RMJ_OK) {
        rmj_batch_launch_gone(service->batch, row->launch);
        struct rmj_event event = owner_event_of(RMJ_EVENT_EXITED, row->job);
        snprintf(event.launch, sizeof event.launch, "%s", row->launch);
        event.exit_code = RMJ_EXIT_UNKNOWN;
        owner_later(service, &event);
    }
}

enum rmj_status processes_adopt(struct rmj_service *service, struct rmj_error *err)
{
    struct rmj_launch_row *rows = NULL;
    size_t count = 0;
    RMJ_TRY(rmj_db_launches(service->db, &rows, &count, err));
    for (size_t i = 0; i < count; i++) {
        adopt_one(service, &rows[i]);
    }
    free(rows);
    return RMJ_OK;
}

// ---- running ----

static void do_directive(struct rmj_service *service, const struct effect *effect)
{
    struct stream *stream = stream_find(service, effect->target);
    if (stream != NULL && rmj_call_send(stream->call, effect->message) == RMJ_FULL) {
        stream_close(service, stream, RMJ_AGAIN, "the rank does not read what it is told");
    }
}

static void do_reply(struct rmj_service *service, const struct effect *effect)
{
    if (effect->message != NULL) {
        rmj_call_reply(effect->call, effect->message);
        return;
    }
    Rmjob__V1__Job *job = NULL;
    struct rmj_error err = {0};
    if (rmj_db_job(service->db, effect->job, &job, &err) == RMJ_OK) {
        rmj_call_reply(effect->call, &job->base);
        rmjob__v1__job__free_unpacked(job, NULL);
    } else {
        rmj_call_fail(effect->call, &err, NULL);
    }
}

static void do_finished(struct rmj_service *service, const struct effect *effect)
{
    chores_add(service, CHORE_CLEAN, effect->job);
    live_forget(service, effect->job);
}

static void run_effect(struct rmj_service *service, const struct effect *effect)
{
    struct stream *stream;
    switch (effect->kind) {
    case EFFECT_DIRECTIVE:
        do_directive(service, effect);
        break;
    case EFFECT_LAUNCH:
        do_launch(service, effect);
        break;
    case EFFECT_PREPARE:
        do_prepare(service, effect);
        break;
    case EFFECT_KILL:
        do_kill(service, effect);
        break;
    case EFFECT_REFUSE:
        stream = stream_find(service, effect->target);
        if (stream != NULL) {
            stream_close(service, stream, RMJ_DENIED, effect->err.message);
        }
        break;
    case EFFECT_CHORE:
        chores_add(service, effect->chore, effect->job);
        break;
    case EFFECT_FINISHED:
        do_finished(service, effect);
        break;
    case EFFECT_REPLY:
        do_reply(service, effect);
        break;
    case EFFECT_FAIL:
        rmj_call_fail(effect->call, &effect->err, NULL);
        break;
    }
}

static void free_effect(struct effect *effect)
{
    if (effect->message != NULL) {
        protobuf_c_message_free_unpacked(effect->message, NULL);
    }
    if (effect->call != NULL) {
        rmj_call_release(effect->call);
    }
}

void effects_run(struct rmj_service *service)
{
    for (size_t i = 0; i < service->effect_count; i++) {
        run_effect(service, &service->effects[i]);
        free_effect(&service->effects[i]);
    }
    service->effect_count = 0;
}

// The writes did not come about: nobody is told, and whoever waits is told that.
void effects_clear(struct rmj_service *service)
{
    for (size_t i = 0; i < service->effect_count; i++) {
        if (service->effects[i].call != NULL) {
            call_fail(service->effects[i].call, RMJ_AGAIN, "the service is stopping and its state cannot be written");
        }
        free_effect(&service->effects[i]);
    }
    service->effect_count = 0;
}
