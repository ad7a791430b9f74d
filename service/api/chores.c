// Work with stores, on one thread of its own so that the owner never waits for a network: gate, publish, clean-up,
// collection of old checkpoints. Results go back to the owner as messages; nothing is written to the database here.
//
// Every chore may be cut anywhere and done again: after a restart the scheduler asks for it once more.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/api/internal.h"
#include "service/gate/gate.h"
#include "service/registry/publish.h"
#include "storage/checkpoint/checkpoint.h"

#define PUBLISH_ATTEMPTS_MAX 6
#define BACKOFF_MS_MIN 500
#define BACKOFF_MS_MAX 30000

struct chore {
    enum chore_kind kind;
    char job[RMJ_ID_SIZE];
    uint32_t attempts;
    int64_t not_before_ms; // mono
};

struct chores {
    struct rmj_service *service;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct chore items[CHORES_MAX]; // locked
    size_t count;                   // locked
    int stopping;                   // locked
};

// What a chore brings back. Owned by the message.
struct outcome {
    char job[RMJ_ID_SIZE];
    int passed;
    char reason[RMJ_REASON_SIZE];
    Rmjob__V1__EvalReport *report;
    Rmjob__V1__GateVerdict *verdict;
    Rmjob__V1__ModelVersion *version;
    Rmjob__V1__Alias *alias;
};

static void outcome_free(void *pointer)
{
    struct outcome *outcome = pointer;
    ProtobufCMessage *const messages[] = {(ProtobufCMessage *)outcome->report, (ProtobufCMessage *)outcome->verdict,
                                          (ProtobufCMessage *)outcome->version, (ProtobufCMessage *)outcome->alias};
    for (size_t i = 0; i < RMJ_COUNT(messages); i++) {
        if (messages[i] != NULL) {
            protobuf_c_message_free_unpacked(messages[i], NULL);
        }
    }
    free(outcome);
}

static void post_outcome(struct rmj_service *service, struct outcome *outcome,
                         void (*run)(struct rmj_service *, struct message *))
{
    struct message *message = message_make(run, NULL, NULL);
    message->extra = outcome;
    message->free_extra = outcome_free;
    service_post(service, message);
}

static struct outcome *outcome_make(const char *job)
{
    struct outcome *outcome = calloc(1, sizeof *outcome);
    RMJ_ASSERT(outcome != NULL);
    snprintf(outcome->job, sizeof outcome->job, "%s", job);
    return outcome;
}

static enum rmj_status open_store(struct rmj_store **store, const char *url, int writable, struct rmj_error *err)
{
    struct rmj_store_options options = {.deadline_ms = STORE_DEADLINE_MS};
    return rmj_store_open(store, url, writable, &options, err);
}

// Worth trying again: the store, not what is in it.
static int may_pass(enum rmj_status status)
{
    return status == RMJ_AGAIN || status == RMJ_TIMEOUT || status == RMJ_UNREACHABLE || status == RMJ_IO ||
           status == RMJ_FULL || status == RMJ_NO_MEMORY;
}

// Ranks know files; what the spec calls them, the data report knows.
static void name_sources(Rmjob__V1__JobReport *report)
{
    for (size_t i = 0; report->training != NULL && i < report->training->n_sources; i++) {
        Rmjob__V1__StreamSource *source = report->training->sources[i];
        for (size_t k = 0; report->data != NULL && k < report->data->n_files; k++) {
            const Rmjob__V1__DataFileReport *file = report->data->files[k];
            if (file->name != NULL && strcmp(file->path, source->path) == 0) {
                free(source->name);
                source->name = strdup(file->name);
            }
        }
    }
}

enum rmj_status report_load(struct rmj_service *service, const char *job, Rmjob__V1__JobReport **report_out,
                            struct rmj_error *err)
{
    Rmjob__V1__JobReport *report = malloc(sizeof *report);
    RMJ_ASSERT(report != NULL);
    rmjob__v1__job_report__init(report);
    Rmjob__V1__EvaluatedRequest *staged = NULL;
    enum rmj_status status = RMJ_OK;
    report->job = strdup(job);
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_SPEC, (ProtobufCMessage **)&report->spec, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_DATA, (ProtobufCMessage **)&report->data, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_PLAN, (ProtobufCMessage **)&report->plan, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_REPORT, (ProtobufCMessage **)&report->evaluation, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_VERDICT, (ProtobufCMessage **)&report->verdict, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_STAGED, (ProtobufCMessage **)&staged, err));
    if (staged != NULL) {
        report->consumed = staged->consumed;
        staged->consumed = NULL;
        report->training = staged->training;
        staged->training = NULL;
        name_sources(report);
        rmjob__v1__evaluated_request__free_unpacked(staged, NULL);
    }
    *report_out = report;
out:
    if (status != RMJ_OK) {
        rmjob__v1__job_report__free_unpacked(report, NULL);
    }
    return status;
}

// ---- gate ----

// The report of the model that the alias serves now; NULL when there is none.
static enum rmj_status load_previous(struct rmj_service *service, const Rmjob__V1__JobSpec *spec,
                                     Rmjob__V1__EvalReport **previous, struct rmj_error *err)
{
    uint32_t number = 0;
    Rmjob__V1__ModelVersion *version = NULL;
    struct rmj_error absent = {0};
    *previous = NULL;
    enum rmj_status status = rmj_db_alias(service->db, spec->publish->name, spec->publish->alias, &number, &absent);
    if (status == RMJ_OK) {
        status = rmj_db_version(service->db, spec->publish->name, number, &version, &absent);
    }
    if (status == RMJ_OK) {
        status = rmj_db_part(service->db, version->job, RMJ_JOB_REPORT, (ProtobufCMessage **)previous, &absent);
        rmjob__v1__model_version__free_unpacked(version, NULL);
    }
    if (status != RMJ_OK && status != RMJ_NOT_FOUND) {
        *err = absent;
        return status;
    }
    return RMJ_OK;
}

static enum rmj_status decide(struct rmj_service *service, const char *job, struct outcome *outcome,
                              struct rmj_error *err)
{
    struct rmj_job_places places = {0};
    Rmjob__V1__JobSpec *spec = NULL;
    Rmjob__V1__EvaluatedRequest *delivered = NULL;
    Rmjob__V1__Policy *policy = NULL;
    Rmjob__V1__EvalReport *previous = NULL;
    struct rmj_store *store = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_db_places(service->db, job, &places, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_SPEC, (ProtobufCMessage **)&spec, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_STAGED, (ProtobufCMessage **)&delivered, err));
    if (spec == NULL || delivered == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "job %s has no evaluation to judge", job);
        goto out;
    }
    RMJ_GO(policy_of(service, spec->project, &policy, err));
    RMJ_GO(load_previous(service, spec, &previous, err));
    RMJ_GO(open_store(&store, places.checkpoint_store, 0, err));
    struct rmj_gate_request request = {.checkpoints = store,
                                       .job = job,
                                       .delivered = delivered,
                                       .gate = spec->gate,
                                       .floors = policy->floors,
                                       .previous = previous};
    status = rmj_registry_gate(&request, &outcome->report, &outcome->verdict, err);
out:
    rmj_store_close(store);
    ProtobufCMessage *const used[] = {(ProtobufCMessage *)spec, (ProtobufCMessage *)delivered,
                                      (ProtobufCMessage *)policy, (ProtobufCMessage *)previous};
    for (size_t i = 0; i < RMJ_COUNT(used); i++) {
        if (used[i] != NULL) {
            protobuf_c_message_free_unpacked(used[i], NULL);
        }
    }
    return status;
}

static size_t failed_checks(const Rmjob__V1__GateVerdict *verdict)
{
    size_t failed = 0;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        failed += !verdict->checks[i]->passed;
    }
    return failed;
}

static void run_gated(struct rmj_service *service, struct message *message)
{
    struct outcome *outcome = message->extra;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, outcome->job);
    if (record == NULL || record->state != RMJOB__V1__JOB_STATE__GATING) {
        return;
    }
    if (outcome->report != NULL) {
        rmj_batch_part(service->batch, outcome->job, RMJ_JOB_REPORT, &outcome->report->base);
        rmj_batch_part(service->batch, outcome->job, RMJ_JOB_VERDICT, &outcome->verdict->base);
    }
    struct rmj_event event = owner_event_of(RMJ_EVENT_GATED, outcome->job);
    event.passed = outcome->passed;
    snprintf(event.reason, sizeof event.reason, "%s", outcome->reason);
    owner_event(service, &event);
}

static enum rmj_status do_gate(struct rmj_service *service, struct chore *chore)
{
    struct outcome *outcome = outcome_make(chore->job);
    struct rmj_error err = {0};
    enum rmj_status status = decide(service, chore->job, outcome, &err);
    if (may_pass(status)) {
        // An outage of the store decides nothing: tried until it is over, or the job is cancelled or past its deadline.
        rmj_log(RMJ_LOG_WARN, "rmjobd", "event=gate_waits job=%s attempt=%u reason=\"%s\"", chore->job,
                chore->attempts + 1, err.message);
        outcome_free(outcome);
        return status;
    }
    if (status != RMJ_OK) {
        snprintf(outcome->reason, sizeof outcome->reason, "the gate cannot decide, so nothing was published: %.420s",
                 err.message);
    } else {
        size_t failed = failed_checks(outcome->verdict);
        outcome->passed = outcome->verdict->has_passed && outcome->verdict->passed;
        size_t count = outcome->verdict->n_checks;
        if (outcome->passed) {
            snprintf(outcome->reason, sizeof outcome->reason, "the gate passed all %zu checks; signing and publishing",
                     count);
        } else {
            snprintf(outcome->reason, sizeof outcome->reason,
                     "the gate failed %zu of %zu checks; nothing was published; see rmjob report %s", failed, count,
                     chore->job);
        }
    }
    post_outcome(service, outcome, run_gated);
    return RMJ_OK;
}

// ---- publish ----

static enum rmj_status publish(struct rmj_service *service, const char *job, struct outcome *outcome,
                               struct rmj_error *err)
{
    struct rmj_job_places places = {0};
    Rmjob__V1__JobReport *report = NULL;
    Rmjob__V1__EvaluatedRequest *delivered = NULL;
    Rmjob__V1__ModelVersion *newest = NULL;
    struct rmj_store *store = NULL;
    struct rmj_error none = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_db_places(service->db, job, &places, err));
    RMJ_GO(report_load(service, job, &report, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_STAGED, (ProtobufCMessage **)&delivered, err));
    if (report->spec == NULL || delivered == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "job %s has nothing to publish", job);
        goto out;
    }
    RMJ_GO(open_store(&store, places.publish_store, 1, err));
    struct rmj_publish_request request = {.store = store,
                                          .store_url = places.publish_store,
                                          .report = report,
                                          .delivered = delivered,
                                          .key = service->key,
                                          .name = report->spec->publish->name,
                                          .alias = report->spec->publish->alias,
                                          .now_unix_ms = rmj_clock_unix_ms()};
    // Where the index ends; a version of this job that is not in it yet is that number or later.
    if (rmj_db_version(service->db, request.name, 0, &newest, &none) == RMJ_OK && newest != NULL &&
        newest->store != NULL && strcmp(newest->store, places.publish_store) == 0) {
        request.version_hint = newest->version;
    }
    status = rmj_registry_publish(&request, &outcome->version, &outcome->alias, err);
out:
    rmj_store_close(store);
    ProtobufCMessage *const used[] = {(ProtobufCMessage *)report, (ProtobufCMessage *)delivered,
                                      (ProtobufCMessage *)newest};
    for (size_t i = 0; i < RMJ_COUNT(used); i++) {
        if (used[i] != NULL) {
            protobuf_c_message_free_unpacked(used[i], NULL);
        }
    }
    return status;
}

static void run_published(struct rmj_service *service, struct message *message)
{
    struct outcome *outcome = message->extra;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, outcome->job);
    if (record == NULL || record->state != RMJOB__V1__JOB_STATE__PUBLISHING) {
        return;
    }
    struct rmj_event event =
        owner_event_of(outcome->version == NULL ? RMJ_EVENT_PUBLISH_FAILED : RMJ_EVENT_PUBLISHED, outcome->job);
    if (outcome->version != NULL) {
        char kept[RMJ_PLACE_SIZE];
        rmj_db_place_keep(service->db, outcome->version->store, kept);
        free(outcome->version->store);
        outcome->version->store = strdup(kept);
        rmj_batch_version(service->batch, outcome->version);
        rmj_batch_alias(service->batch, outcome->alias);
        rmj_batch_published(service->batch, outcome->job, outcome->version->name, outcome->version->version);
    }
    snprintf(event.reason, sizeof event.reason, "%s", outcome->reason);
    owner_event(service, &event);
}

static enum rmj_status do_publish(struct rmj_service *service, struct chore *chore)
{
    struct outcome *outcome = outcome_make(chore->job);
    struct rmj_error err = {0};
    enum rmj_status status = publish(service, chore->job, outcome, &err);
    if (may_pass(status) && chore->attempts + 1 < PUBLISH_ATTEMPTS_MAX) {
        rmj_log(RMJ_LOG_WARN, "rmjobd", "event=publish_waits job=%s attempt=%u reason=\"%s\"", chore->job,
                chore->attempts + 1, err.message);
        outcome_free(outcome);
        return status;
    }
    if (status == RMJ_OK) {
        snprintf(outcome->reason, sizeof outcome->reason, "published as %s version %u, alias %s",
                 outcome->version->name, outcome->version->version, outcome->alias->alias);
    } else {
        snprintf(outcome->reason, sizeof outcome->reason, "publishing failed: %.440s", err.message);
    }
    post_outcome(service, outcome, run_published);
    return RMJ_OK;
}

// ---- clean-up ----

static void run_cleaned(struct rmj_service *service, struct message *message)
{
    rmj_batch_cleaned(service->batch, ((struct outcome *)message->extra)->job);
}

// Checkpoints but the newest of a job, then the pages that none of them names.
static enum rmj_status collect(struct rmj_service *service, const char *job, const struct rmj_job_places *places,
                               int64_t grace_ms, struct rmj_error *err)
{
    Rmjob__V1__JobSpec *spec = NULL;
    struct rmj_store *store = NULL;
    char prefix[RMJ_ID_SIZE + 8];
    uint64_t removed = 0;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_SPEC, (ProtobufCMessage **)&spec, err));
    RMJ_GO(open_store(&store, places->checkpoint_store, 1, err));
    snprintf(prefix, sizeof prefix, "jobs/%s", job);
    // One more than is asked for while it runs: a manifest that was committed but not told of yet must not push out one
    // that the scheduler may still name.
    uint32_t keep = spec->checkpoint->keep + (rmj_job_state_final(places->state) ? 0 : 1);
    RMJ_GO(rmj_checkpoint_collect(store, prefix, keep, grace_ms, &removed, err));
    if (removed > 0) {
        rmj_log(RMJ_LOG_INFO, "rmjobd", "event=checkpoints_collected job=%s objects=%llu", job,
                (unsigned long long)removed);
    }
out:
    rmj_store_close(store);
    if (spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
    }
    return status;
}

static enum rmj_status unstage(const struct rmj_job_places *places, const char *job, struct rmj_error *err)
{
    struct rmj_store *store = NULL;
    enum rmj_status status = open_store(&store, places->publish_store, 1, err);
    status = status == RMJ_OK ? rmj_registry_unstage(store, job, err) : status;
    rmj_store_close(store);
    return status;
}

static void tell_failure(const char *what, const char *job, const struct rmj_error *err)
{
    char reason[RMJ_ERROR_MESSAGE_SIZE];
    rmj_log(RMJ_LOG_WARN, "rmjobd", "event=%s job=%s reason=\"%s\"", what, job,
            rmj_log_quote(reason, sizeof reason, err->message));
}

// What a job that has ended leaves: staged files go (those of a failed gate stay, unpublished, for whoever wants to see
// why), and so do checkpoints over checkpoint.keep, at once, since nobody writes any more.
static enum rmj_status do_clean(struct rmj_service *service, struct chore *chore)
{
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    enum rmj_status status = rmj_db_places(service->db, chore->job, &places, &err);
    if (status == RMJ_OK && !places.cleaned && places.state != RMJOB__V1__JOB_STATE__FAILED_GATE) {
        status = unstage(&places, chore->job, &err);
    }
    if (status == RMJ_OK && !places.cleaned) {
        status = collect(service, chore->job, &places, 0, &err);
    }
    if (status == RMJ_OK) {
        post_outcome(service, outcome_make(chore->job), run_cleaned);
        return RMJ_OK;
    }
    tell_failure("clean_up_failed", chore->job, &err);
    return may_pass(status) && chore->attempts + 1 < PUBLISH_ATTEMPTS_MAX ? status : RMJ_OK;
}

static enum rmj_status do_collect(struct rmj_service *service, const struct chore *chore)
{
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    enum rmj_status status = rmj_db_places(service->db, chore->job, &places, &err);
    if (status == RMJ_OK && !rmj_job_state_final(places.state)) {
        status = collect(service, chore->job, &places, COLLECT_GRACE_MS, &err);
    }
    if (status != RMJ_OK) {
        tell_failure("collection_failed", chore->job, &err); // the next round makes up for it
    }
    return RMJ_OK;
}

// ---- the thread ----

static enum rmj_status run_chore(struct rmj_service *service, struct chore *chore)
{
    switch (chore->kind) {
    case CHORE_GATE:
        return do_gate(service, chore);
    case CHORE_PUBLISH:
        return do_publish(service, chore);
    case CHORE_CLEAN:
        return do_clean(service, chore);
    case CHORE_COLLECT:
        break;
    }
    return do_collect(service, chore);
}

static void wait_until(struct chores *chores, int64_t mono_ms)
{
    if (mono_ms == INT64_MAX) {
        pthread_cond_wait(&chores->changed, &chores->lock);
        return;
    }
    struct timespec until = {.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};
    pthread_cond_timedwait(&chores->changed, &chores->lock, &until);
}

// Index of the next chore that is due, or chores->count; *wake_ms: when to look again.
static size_t next_due(const struct chores *chores, int64_t *wake_ms)
{
    int64_t mono = rmj_clock_mono_ms();
    *wake_ms = INT64_MAX;
    for (size_t i = 0; i < chores->count; i++) {
        if (chores->items[i].not_before_ms <= mono) {
            return i;
        }
        *wake_ms = chores->items[i].not_before_ms < *wake_ms ? chores->items[i].not_before_ms : *wake_ms;
    }
    return chores->count;
}

static void put_back(struct chores *chores, struct chore chore)
{
    int64_t pause = BACKOFF_MS_MIN << (chore.attempts < 6 ? chore.attempts : 6);
    chore.attempts++;
    chore.not_before_ms = rmj_clock_mono_ms() + (pause < BACKOFF_MS_MAX ? pause : BACKOFF_MS_MAX);
    if (chores->count < CHORES_MAX) {
        chores->items[chores->count++] = chore;
    }
}

static void *chores_main(void *context)
{
    struct chores *chores = context;
    pthread_mutex_lock(&chores->lock);
    while (!chores->stopping) {
        int64_t wake_ms;
        size_t index = next_due(chores, &wake_ms);
        if (index == chores->count) {
            wait_until(chores, wake_ms);
            continue;
        }
        struct chore chore = chores->items[index];
        memmove(&chores->items[index], &chores->items[index + 1], (--chores->count - index) * sizeof chores->items[0]);
        pthread_mutex_unlock(&chores->lock);
        enum rmj_status status = run_chore(chores->service, &chore);
        pthread_mutex_lock(&chores->lock);
        if (status != RMJ_OK) {
            put_back(chores, chore);
        }
    }
    pthread_mutex_unlock(&chores->lock);
    return NULL;
}

void chores_add(struct rmj_service *service, enum chore_kind kind, const char *job)
{
    struct chores *chores = service->chores;
    pthread_mutex_lock(&chores->lock);
    int there = 0;
    for (size_t i = 0; i < chores->count; i++) {
        there |= chores->items[i].kind == kind && strcmp(chores->items[i].job, job) == 0;
    }
    // A collection that finds no room comes round again; the others are at most four a job.
    if (!there && (chores->count < CHORES_MAX / 2 || (kind != CHORE_COLLECT && chores->count < CHORES_MAX))) {
        struct chore *chore = &chores->items[chores->count++];
        memset(chore, 0, sizeof *chore);
        chore->kind = kind;
        snprintf(chore->job, sizeof chore->job, "%s", job);
        pthread_cond_signal(&chores->changed);
    } else if (!there && kind != CHORE_COLLECT) {
        rmj_log(RMJ_LOG_ERROR, "rmjobd", "event=chore_lost job=%s kind=%d", job, (int)kind);
    }
    pthread_mutex_unlock(&chores->lock);
}

enum rmj_status chores_start(struct rmj_service *service, struct rmj_error *err)
{
    struct chores *chores = calloc(1, sizeof *chores);
    if (chores == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the thread of chores");
    }
    chores->service = service;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&chores->lock, NULL);
    pthread_cond_init(&chores->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int code = pthread_create(&chores->thread, NULL, chores_main, chores);
    if (code != 0) {
        free(chores);
        return rmj_fail_origin(err, RMJ_IO, "errno", code, "cannot start a thread: %s", strerror(code));
    }
    service->chores = chores;
    return RMJ_OK;
}

int chores_stop(struct rmj_service *service, int64_t grace_ms)
{
    struct chores *chores = service->chores;
    if (chores == NULL) {
        return 1;
    }
    pthread_mutex_lock(&chores->lock);
    chores->stopping = 1;
    pthread_cond_broadcast(&chores->changed);
    pthread_mutex_unlock(&chores->lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (grace_ms + 999) / 1000;
    if (pthread_timedjoin_np(chores->thread, NULL, &until) != 0) {
        return 0;
    }
    pthread_mutex_destroy(&chores->lock);
    pthread_cond_destroy(&chores->changed);
    free(chores);
    service->chores = NULL;
    return 1;
}
