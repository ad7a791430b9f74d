// rmjob.v1.Jobs but for Submit, Watch and Logs. Reads come from the database, in the worker's thread; whatever changes
// something goes to the owner.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/version.h"
#include "service/api/internal.h"
#include "service/api/spec_check.h"
#include "service/gate/gate.h"
#include "service/registry/publish.h"

#define FAILURES_MAX 1000

void on_get(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const char *id = ((const Rmjob__V1__GetJobRequest *)request)->job;
    Rmjob__V1__Job *job = NULL;
    struct rmj_error err = {0};
    if (rmj_db_job(service->db, id == NULL ? "" : id, &job, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &job->base);
    rmjob__v1__job__free_unpacked(job, NULL);
}

void on_list(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const Rmjob__V1__ListJobsRequest *list = (const Rmjob__V1__ListJobsRequest *)request;
    Rmjob__V1__ListJobsResponse *jobs = NULL;
    struct rmj_error err = {0};
    if (rmj_db_jobs(service->db, list->project, list->limit, &jobs, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &jobs->base);
    rmjob__v1__list_jobs_response__free_unpacked(jobs, NULL);
}

// The record of a job that can still be changed; fails the call otherwise.
static const struct rmj_job_record *open_job(struct rmj_service *service, struct rmj_call *call, const char *id)
{
    const struct rmj_job_record *record = id == NULL ? NULL : rmj_scheduler_job(service->scheduler, id);
    if (record != NULL && !rmj_job_state_final(record->state)) {
        return record;
    }
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    if (rmj_db_places(service->db, id == NULL ? "" : id, &places, &err) == RMJ_OK) {
        (void)rmj_fail(&err, RMJ_CONFLICT, "job %s has ended already: %s", id, rmj_job_state_name(places.state));
    }
    rmj_call_fail(call, &err, NULL);
    return NULL;
}

static void run_cancel(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__CancelRequest *cancel = (const Rmjob__V1__CancelRequest *)message->request;
    if (open_job(service, message->call, cancel->job) == NULL) {
        return;
    }
    struct rmj_event event = owner_event_of(RMJ_EVENT_CANCEL, cancel->job);
    snprintf(event.reason, sizeof event.reason, "%.400s",
             cancel->reason == NULL || *cancel->reason == '\0' ? "asked for by the user" : cancel->reason);
    owner_event(service, &event);
    owner_reply(service, message->call, cancel->job, NULL);
}

void on_cancel(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    if (!service_refuses(context, call)) {
        service_post(context, message_make(run_cancel, call, request));
    }
}

static void run_resize(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__ResizeRequest *resize = (const Rmjob__V1__ResizeRequest *)message->request;
    const struct rmj_job_record *record = open_job(service, message->call, resize->job);
    if (record == NULL) {
        return;
    }
    uint32_t max = resize->has_max_ranks ? resize->max_ranks : record->max_ranks;
    uint32_t min = resize->has_min_ranks ? resize->min_ranks : record->min_ranks < max ? record->min_ranks : max;
    if (max < 1 || max > RMJ_RANKS_MAX || min < 1 || min > max) {
        call_fail(message->call, RMJ_INVALID, "ranks from %u to %u cannot be; 1 <= min <= max <= %d", min, max,
                  RMJ_RANKS_MAX);
        return;
    }
    if (min > service->slots) {
        call_fail(message->call, RMJ_INVALID, "min_ranks is %u, and this service has %u rank slots", min,
                  service->slots);
        return;
    }
    Rmjob__V1__Policy *policy = NULL;
    struct rmj_error err = {0};
    if (policy_of(service, record->project, &policy, &err) != RMJ_OK) {
        rmj_call_fail(message->call, &err, NULL);
        return;
    }
    uint32_t limit = policy->has_max_ranks && policy->max_ranks > 0 ? policy->max_ranks : RMJ_RANKS_MAX;
    rmjob__v1__policy__free_unpacked(policy, NULL);
    if (max > limit) {
        call_fail(message->call, RMJ_INVALID, "max_ranks is %u, and project %s may hold %u", max, record->project,
                  limit);
        return;
    }
    struct rmj_event event = owner_event_of(RMJ_EVENT_RESIZE, resize->job);
    event.min_ranks = min;
    event.max_ranks = max;
    owner_event(service, &event);
    owner_reply(service, message->call, resize->job, NULL);
}

void on_resize(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    if (!service_refuses(context, call)) {
        service_post(context, message_make(run_resize, call, request));
    }
}

// ---- reports ----

static const char *subset_of(const char *category)
{
    for (size_t i = 0; i < RMJ_CATEGORY_COUNT; i++) {
        if (strcmp(rmj_categories[i].key, category) == 0) {
            return rmj_categories[i].subset;
        }
    }
    return NULL;
}

static double credit_of(const Rmjob__V1__ScoredRow *row)
{
    double scores[64];
    size_t count = row->n_scores < RMJ_COUNT(scores) ? row->n_scores : RMJ_COUNT(scores);
    for (size_t i = 0; i < count; i++) {
        scores[i] = row->scores[i];
    }
    return count == 0 ? 0 : rmj_rb2_row_credit(scores, count);
}

// Ties rows have no credit of their own: one fails when an incorrect answer scores as high as the worst correct one.
static int row_failed(const Rmjob__V1__ScoredRow *row, int is_ties)
{
    if (!is_ties) {
        return !(credit_of(row) >= 1);
    }
    float worst = 0, best = 0;
    uint32_t correct = row->num_correct < row->n_scores ? row->num_correct : (uint32_t)row->n_scores;
    for (size_t i = 0; i < row->n_scores; i++) {
        float score = row->scores[i];
        worst = i < correct && (i == 0 || score < worst) ? score : worst;
        best = i >= correct && (i == correct || score > best) ? score : best;
    }
    return correct < row->n_scores && !(worst > best);
}

static void add_failure(Rmjob__V1__GetReportResponse *reply, const Rmjob__V1__ScoredRow *row)
{
    Rmjob__V1__FailedRow *failed = malloc(sizeof *failed);
    reply->failures = realloc(reply->failures, (reply->n_failures + 1) * sizeof *reply->failures);
    RMJ_ASSERT(failed != NULL && reply->failures != NULL);
    rmjob__v1__failed_row__init(failed);
    failed->id = strdup(row->id == NULL ? "" : row->id);
    failed->has_num_correct = 1;
    failed->num_correct = row->num_correct;
    failed->scores = malloc(row->n_scores * sizeof *failed->scores + 1);
    RMJ_ASSERT(failed->scores != NULL);
    memcpy(failed->scores, row->scores, row->n_scores * sizeof *failed->scores);
    failed->n_scores = row->n_scores;
    reply->failures[reply->n_failures++] = failed;
}

static enum rmj_status load_failures(struct rmj_service *service, const char *job, const char *category,
                                     Rmjob__V1__GetReportResponse *reply, struct rmj_error *err)
{
    const char *subset = subset_of(category);
    if (subset == NULL) {
        return rmj_fail(err, RMJ_INVALID,
                        "there is no category %.40s; they are factuality, precise_if, math, safety, focus, ties",
                        category);
    }
    struct rmj_job_places places = {0};
    Rmjob__V1__EvaluatedRequest *delivered = NULL;
    Rmjob__V1__ScoredRows *rows = NULL;
    struct rmj_store *store = NULL;
    struct rmj_store_options options = {.deadline_ms = STORE_DEADLINE_MS};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_db_places(service->db, job, &places, err));
    RMJ_GO(rmj_db_part(service->db, job, RMJ_JOB_STAGED, (ProtobufCMessage **)&delivered, err));
    if (delivered == NULL || delivered->report == NULL) {
        status = rmj_fail(err, RMJ_NOT_FOUND, "job %s was not evaluated", job);
        goto out;
    }
    RMJ_GO(rmj_store_open(&store, places.checkpoint_store, 0, &options, err));
    RMJ_GO(rmj_registry_rows(store, job, delivered, &rows, err));
    for (size_t i = 0; i < rows->n_rows && reply->n_failures < FAILURES_MAX; i++) {
        const char *of = rows->rows[i]->subset;
        if (of != NULL && strcmp(of, subset) == 0 && row_failed(rows->rows[i], strcmp(category, "ties") == 0)) {
            add_failure(reply, rows->rows[i]);
        }
    }
out:
    rmj_store_close(store);
    if (delivered != NULL) {
        rmjob__v1__evaluated_request__free_unpacked(delivered, NULL);
    }
    if (rows != NULL) {
        rmjob__v1__scored_rows__free_unpacked(rows, NULL);
    }
    return status;
}

void on_get_report(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const Rmjob__V1__GetReportRequest *get = (const Rmjob__V1__GetReportRequest *)request;
    const char *job = get->job == NULL ? "" : get->job;
    Rmjob__V1__GetReportResponse *reply = malloc(sizeof *reply);
    RMJ_ASSERT(reply != NULL);
    rmjob__v1__get_report_response__init(reply);
    struct rmj_error err = {0};
    enum rmj_status status = report_load(service, job, &reply->report, &err);
    if (status == RMJ_OK && get->failures_category != NULL && *get->failures_category != '\0') {
        status = load_failures(service, job, get->failures_category, reply, &err);
    }
    if (status == RMJ_OK) {
        rmj_call_reply(call, &reply->base);
    } else {
        rmj_call_fail(call, &err, NULL);
    }
    rmjob__v1__get_report_response__free_unpacked(reply, NULL);
}

// ---- policies ----

enum rmj_status policy_of(struct rmj_service *service, const char *project, Rmjob__V1__Policy **policy,
                          struct rmj_error *err)
{
    RMJ_TRY(rmj_db_policy(service->db, project, policy, err));
    if (*policy == NULL) {
        *policy = rmj_policy_default(project);
    }
    return RMJ_OK;
}

void on_get_policy(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    const char *project = ((const Rmjob__V1__GetPolicyRequest *)request)->project;
    Rmjob__V1__Policy *policy = NULL;
    struct rmj_error err = {0};
    project = project == NULL || *project == '\0' ? "default" : project;
    if (!rmj_name_valid(project)) {
        call_fail(call, RMJ_INVALID, "%.80s is no name of a project", project);
    } else if (policy_of(context, project, &policy, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
    } else {
        rmj_call_reply(call, &policy->base);
        rmjob__v1__policy__free_unpacked(policy, NULL);
    }
}

static void run_set_policy(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__Policy *policy = ((const Rmjob__V1__SetPolicyRequest *)message->request)->policy;
    rmj_batch_policy(service->batch, policy);
    struct rmj_event event = owner_event_of(RMJ_EVENT_LIMITS, "");
    snprintf(event.project, sizeof event.project, "%s", policy->project);
    event.max_ranks = policy->max_ranks;
    event.max_jobs = policy->max_jobs;
    owner_event(service, &event);
    owner_reply(service, message->call, NULL, rmj_message_copy(&policy->base));
}

void on_set_policy(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    const Rmjob__V1__Policy *policy = ((const Rmjob__V1__SetPolicyRequest *)request)->policy;
    if (policy == NULL) {
        call_fail(call, RMJ_INVALID, "the request holds no policy");
        return;
    }
    Rmjob__V1__ValidateResponse *findings = malloc(sizeof *findings);
    RMJ_ASSERT(findings != NULL);
    rmjob__v1__validate_response__init(findings);
    rmj_policy_check(policy, findings);
    if (findings->n_findings > 0) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_INVALID, "%s", findings->findings[0]->message);
        rmj_call_fail(call, &err, &findings->base);
    } else if (!service_refuses(context, call)) {
        service_post(context, message_make(run_set_policy, call, request));
    }
    rmjob__v1__validate_response__free_unpacked(findings, NULL);
}

// ---- the service itself ----

void on_server_info(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    // The part of a version that says whether two sides can speak: the protocol of 0.x releases is in the second
    // number.
    const char *client = ((const Rmjob__V1__ServerInfoRequest *)request)->client_version;
    size_t major_minor = strrchr(RMJ_VERSION, '.') - RMJ_VERSION + 1u;
    if (client != NULL && *client != '\0' && strncmp(client, RMJ_VERSION, major_minor) != 0) {
        call_fail(call, RMJ_INVALID,
                  "the client is version %.40s, this service is %s (protocol %d); use the same version on both sides",
                  client, RMJ_VERSION, RMJ_PROTOCOL);
        return;
    }
    // Not from the owner: clients ask this first, and are to read on while the owner waits for room on a full disk.
    struct rmj_service *service = context;
    Rmjob__V1__ServerInfo info = RMJOB__V1__SERVER_INFO__INIT;
    char version[] = RMJ_VERSION;
    info.version = version;
    info.has_protocol = info.has_jobs_running = 1;
    info.protocol = RMJ_PROTOCOL;
    info.signing_key_pem = service->key_pem;
    info.state_directory = service->state_directory;
    pthread_mutex_lock(&service->queue_lock);
    info.jobs_running = service->jobs_running;
    pthread_mutex_unlock(&service->queue_lock);
    rmj_call_reply(call, &info.base);
}
