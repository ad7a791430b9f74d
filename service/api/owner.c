// The owner thread's turn:
//
//   take messages, exits, timers -> scheduler steps, writes into the batch, effects into a list
//   -> one transaction -> effects in order (directives, processes, replies) -> watchers
//
// Nothing is announced before the transaction: a kill -9 between any two lines loses words, never facts.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/api/internal.h"

struct rmj_event owner_event_of(enum rmj_event_kind kind, const char *job)
{
    struct rmj_event event;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    snprintf(event.job, sizeof event.job, "%s", job == NULL ? "" : job);
    return event;
}

static int64_t now(struct rmj_service *service)
{
    int64_t ms = rmj_clock_unix_ms();
    service->now_ms = ms > service->now_ms ? ms : service->now_ms;
    return service->now_ms;
}

void owner_event(struct rmj_service *service, const struct rmj_event *event)
{
    rmj_actions_clear(&service->actions);
    rmj_scheduler_step(service->scheduler, event, now(service), &service->actions);
    // At once: records and assignments are the scheduler's, and good until its next step only.
    for (size_t i = 0; i < service->actions.count; i++) {
        effects_translate(service, &service->actions.items[i]);
    }
}

void owner_later(struct rmj_service *service, const struct rmj_event *event)
{
    if (service->later_count == service->later_capacity) {
        service->later_capacity = service->later_capacity == 0 ? 16 : service->later_capacity * 2;
        service->later = realloc(service->later, service->later_capacity * sizeof *service->later);
        RMJ_ASSERT(service->later != NULL);
    }
    service->later[service->later_count++] = *event;
}

struct effect *owner_effect(struct rmj_service *service, enum effect_kind kind, const char *job)
{
    if (service->effect_count == service->effect_capacity) {
        service->effect_capacity = service->effect_capacity == 0 ? 16 : service->effect_capacity * 2;
        service->effects = realloc(service->effects, service->effect_capacity * sizeof *service->effects);
        RMJ_ASSERT(service->effects != NULL);
    }
    struct effect *effect = &service->effects[service->effect_count++];
    memset(effect, 0, sizeof *effect);
    effect->kind = kind;
    snprintf(effect->job, sizeof effect->job, "%s", job == NULL ? "" : job);
    return effect;
}

void owner_reply(struct rmj_service *service, struct rmj_call *call, const char *job, ProtobufCMessage *message)
{
    struct effect *effect = owner_effect(service, EFFECT_REPLY, job);
    effect->call = rmj_call_retain(call);
    effect->message = message;
}

void owner_fail(struct rmj_service *service, struct rmj_call *call, const struct rmj_error *err)
{
    struct effect *effect = owner_effect(service, EFFECT_FAIL, NULL);
    effect->call = rmj_call_retain(call);
    effect->err = *err;
}

void owner_ack(struct rmj_service *service, struct rmj_call *call)
{
    Rmjob__V1__Ack *ack = malloc(sizeof *ack);
    RMJ_ASSERT(ack != NULL);
    rmjob__v1__ack__init(ack);
    owner_reply(service, call, NULL, &ack->base);
}

static int stop_wanted(struct rmj_service *service)
{
    struct pollfd fd = {.fd = service->stop_fd, .events = POLLIN};
    if (service->stop_fd >= 0 && poll(&fd, 1, 0) == 1) {
        return 1;
    }
    pthread_mutex_lock(&service->queue_lock);
    int wanted = service->stop_wanted;
    pthread_mutex_unlock(&service->queue_lock);
    return wanted;
}

static void set_unwritten(struct rmj_service *service, const struct rmj_error *err)
{
    pthread_mutex_lock(&service->queue_lock);
    service->unwritten = *err;
    pthread_mutex_unlock(&service->queue_lock);
}

int service_refuses(struct rmj_service *service, struct rmj_call *call)
{
    pthread_mutex_lock(&service->queue_lock);
    struct rmj_error err = service->unwritten;
    pthread_mutex_unlock(&service->queue_lock);
    if (err.status == RMJ_OK) {
        return 0;
    }
    (void)rmj_context(&err, "nothing was changed: the service cannot write its state in %s", service->state_directory);
    rmj_call_fail(call, &err, NULL);
    return 1;
}

// A full disk is waited out: nothing was written, nothing was said, and ranks train on meanwhile.
enum rmj_status owner_commit(struct rmj_service *service, struct rmj_error *err)
{
    enum rmj_status status;
    for (int attempt = 0;; attempt++) {
        rmj_error_clear(err);
        status = rmj_db_apply(service->db, service->batch, err);
        int mends = status == RMJ_FULL || status == RMJ_IO || status == RMJ_AGAIN || status == RMJ_DENIED;
        if (!mends || stop_wanted(service)) {
            break;
        }
        set_unwritten(service, err);
        if (attempt % 20 == 0) {
            char words[512];
            rmj_log(RMJ_LOG_ERROR, "rmjobd", "event=state_not_written attempt=%d reason=\"%s\"", attempt + 1,
                    rmj_log_quote(words, sizeof words, err->message));
        }
        rmj_clock_sleep_ms(RETRY_WRITE_MS);
    }
    struct rmj_error none = {0};
    set_unwritten(service, &none);
    rmj_batch_clear(service->batch);
    return status;
}

static int turn_timeout(struct rmj_service *service)
{
    int64_t timeout = TURN_MS_MAX;
    int64_t tick = rmj_scheduler_next_tick_ms(service->scheduler);
    if (tick != INT64_MAX && tick - rmj_clock_unix_ms() < timeout) {
        timeout = tick - rmj_clock_unix_ms();
    }
    if (service->follower_count > 0 && timeout > FOLLOW_MS) {
        timeout = FOLLOW_MS;
    }
    if (watchers_behind(service) && timeout > SLOW_STREAM_MS) {
        timeout = SLOW_STREAM_MS;
    }
    return service->later_count > 0 || timeout < 0 ? 0 : (int)timeout;
}

static void wait_for_work(struct rmj_service *service)
{
    struct pollfd fds[3] = {
        {.fd = service->wake_fd, .events = POLLIN},
        {.fd = service->launcher->ops->wake_fd(service->launcher), .events = POLLIN},
        {.fd = service->stop_fd, .events = POLLIN},
    };
    int ready = poll(fds, 3, turn_timeout(service));
    if (ready > 0 && fds[0].revents != 0) {
        uint64_t count;
        ssize_t got = read(service->wake_fd, &count, sizeof count);
        (void)got; // the queue itself says what there is
    }
}

static void take_words(struct rmj_service *service)
{
    struct rmj_event *later = service->later;
    size_t later_count = service->later_count;
    service->later = NULL;
    service->later_count = service->later_capacity = 0;
    for (size_t i = 0; i < later_count; i++) {
        owner_event(service, &later[i]);
    }
    free(later);
    processes_collect(service);
    for (int taken = 0; taken < MESSAGES_PER_TURN && rmj_batch_count(service->batch) < BATCH_FULL; taken++) {
        struct message *message = service_take_messages(service, 1);
        if (message == NULL) {
            break;
        }
        message->run(service, message);
        message_free(message);
    }
    if (rmj_scheduler_next_tick_ms(service->scheduler) <= rmj_clock_unix_ms()) {
        struct rmj_event tick = owner_event_of(RMJ_EVENT_TICK, "");
        owner_event(service, &tick);
    }
}

static void collect_checkpoints(struct rmj_service *service)
{
    int64_t mono = rmj_clock_mono_ms();
    if (mono - service->collected_ms < COLLECT_MS) {
        return;
    }
    service->collected_ms = mono;
    for (size_t i = 0; i < service->job_count; i++) {
        const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, service->jobs[i]->id);
        if (record != NULL && record->manifest_count > 0) {
            chores_add(service, CHORE_COLLECT, record->id);
        }
    }
}

static void count_jobs(struct rmj_service *service)
{
    uint32_t running = 0;
    for (size_t i = 0; i < service->job_count; i++) {
        running += !rmj_job_state_final(service->jobs[i]->state);
    }
    pthread_mutex_lock(&service->queue_lock);
    service->jobs_running = running;
    pthread_mutex_unlock(&service->queue_lock);
}

static enum rmj_status turn(struct rmj_service *service, struct rmj_error *err)
{
    take_words(service);
    live_flush(service);
    int wrote = rmj_batch_count(service->batch) > 0;
    enum rmj_status status = owner_commit(service, err);
    if (status != RMJ_OK) {
        effects_clear(service);
        return status;
    }
    count_jobs(service);
    effects_run(service);
    streams_ping(service);
    watchers_pump(service, wrote);
    followers_pump(service);
    collect_checkpoints(service);
    return RMJ_OK;
}

enum rmj_status rmj_service_run(struct rmj_service *service, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    while (status == RMJ_OK && !stop_wanted(service)) {
        status = turn(service, err);
        if (status == RMJ_OK) {
            wait_for_work(service);
        }
    }
    if (status == RMJ_OK) {
        // What is in the queue already is still done and answered.
        status = turn(service, err);
    }
    if (status != RMJ_OK && stop_wanted(service)) {
        rmj_log(RMJ_LOG_WARN, "rmjobd", "event=stopped_unwritten reason=\"%s\"", err->message);
        status = RMJ_OK;
    }
    return status;
}
