// rmjob.v1.Ranks: what rank processes and tasks say. Every call must carry the token of the job it speaks of.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "service/api/internal.h"

// Fails the call and returns 0 when it is not a rank of that job. An unknown job and a wrong token look alike.
static int allowed(struct rmj_service *service, struct rmj_call *call, const char *job)
{
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    const char *bearer = rmj_call_bearer(call);
    enum rmj_status status = rmj_db_places(service->db, job == NULL ? "" : job, &places, &err);
    if (status != RMJ_OK && status != RMJ_NOT_FOUND) {
        rmj_call_fail(call, &err, NULL);
        return 0;
    }
    if (status == RMJ_NOT_FOUND || bearer == NULL || !rmj_text_equal_secret(bearer, places.rank_token)) {
        call_fail(call, RMJ_DENIED, "this token is not one of job %.40s", job == NULL ? "(none)" : job);
        return 0;
    }
    return 1;
}

void on_get_task(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const Rmjob__V1__TaskRequest *task = (const Rmjob__V1__TaskRequest *)request;
    if (!allowed(service, call, task->job)) {
        return;
    }
    // Weights are a function of the build too (P3): a rank of another version would mix two in one job.
    const char *version = task->version == NULL ? "an unnamed version" : task->version;
    if (strcmp(version, RMJ_VERSION) != 0) {
        call_fail(call, RMJ_DENIED, "this rank is rmjob %s, the service %s; use one version for both", version,
                  RMJ_VERSION);
        return;
    }
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    ProtobufCMessage *spec = NULL;
    enum rmj_status status = rmj_db_places(service->db, task->job, &places, &err);
    if (status == RMJ_OK) {
        status = rmj_db_part(service->db, task->job, RMJ_JOB_SPEC, &spec, &err);
    }
    if (status != RMJ_OK || spec == NULL) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    Rmjob__V1__TaskSpec reply = RMJOB__V1__TASK_SPEC__INIT;
    reply.spec = (Rmjob__V1__JobSpec *)spec;
    reply.checkpoint_store = places.checkpoint_store;
    reply.publish_store = places.publish_store;
    // Names the job in stores, and is the prefix of all it writes to the checkpoint store.
    char uid[RMJ_ID_SIZE + 8];
    snprintf(uid, sizeof uid, "jobs/%s", task->job);
    reply.job_uid = uid;
    rmj_call_reply(call, &reply.base);
    protobuf_c_message_free_unpacked(spec, NULL);
}

// ---- prepare ----

static const Rmjob__V1__Finding *first_error(const Rmjob__V1__PreparedRequest *prepared)
{
    for (size_t i = 0; i < prepared->n_findings; i++) {
        if (!prepared->findings[i]->has_warning || !prepared->findings[i]->warning) {
            return prepared->findings[i];
        }
    }
    return NULL;
}

static void keep_findings(struct rmj_service *service, const Rmjob__V1__PreparedRequest *prepared)
{
    Rmjob__V1__ValidateResponse explanation = RMJOB__V1__VALIDATE_RESPONSE__INIT;
    explanation.n_findings = prepared->n_findings;
    explanation.findings = prepared->findings;
    rmj_batch_part(service->batch, prepared->job, RMJ_JOB_EXPLAIN, &explanation.base);
}

// A finding about a field is one about the inputs. One without says that the work could not be done: a store that was
// there at submit and is not now has no other exit code than a file that is missing, but it is not the data's fault.
static Rmjob__V1__JobState failure_of(const Rmjob__V1__Finding *error)
{
    uint32_t code = error == NULL || !error->has_exit_code ? 0 : error->exit_code;
    int of_inputs = error != NULL && error->field != NULL && error->field[0] != '\0';
    if (code == 6 || (of_inputs && code != 7)) {
        return RMJOB__V1__JOB_STATE__FAILED_DATA;
    }
    return code == 1 ? RMJOB__V1__JOB_STATE__FAILED_INTERNAL : RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE;
}

static void run_preparing(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__PreparingRequest *preparing = (const Rmjob__V1__PreparingRequest *)message->request;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, preparing->job);
    if (record != NULL && record->state == RMJOB__V1__JOB_STATE__PREPARING) {
        live_preparing(service, preparing);
    }
}

// What the whole set showed and does not refuse it.
static void tell_warnings(struct rmj_service *service, const Rmjob__V1__PreparedRequest *prepared)
{
    for (size_t i = 0; i < prepared->n_findings; i++) {
        const Rmjob__V1__Finding *finding = prepared->findings[i];
        if (finding->warning && finding->message != NULL) {
            live_tell(service, live_get(service, prepared->job), RMJOB__V1__EVENT_KIND__NOTE, "warning: %s: %s",
                      finding->field == NULL ? "data" : finding->field, finding->message);
        }
    }
}

static void run_prepared(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__PreparedRequest *prepared = (const Rmjob__V1__PreparedRequest *)message->request;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, prepared->job);
    owner_ack(service, message->call);
    if (record == NULL || record->state != RMJOB__V1__JOB_STATE__PREPARING) {
        return; // said before
    }
    const Rmjob__V1__Finding *error = first_error(prepared);
    struct rmj_event event =
        owner_event_of(error == NULL ? RMJ_EVENT_PREPARED : RMJ_EVENT_PREPARE_FAILED, prepared->job);
    if (prepared->data != NULL) {
        rmj_batch_part(service->batch, prepared->job, RMJ_JOB_DATA, &prepared->data->base);
    }
    if (error != NULL || prepared->plan == NULL || prepared->plan->digest == NULL) {
        keep_findings(service, prepared);
        event.kind = RMJ_EVENT_PREPARE_FAILED;
        event.state = failure_of(error);
        snprintf(event.reason, sizeof event.reason, "%.500s",
                 error == NULL || error->message == NULL ? "the prepare task brought no plan" : error->message);
    } else {
        rmj_batch_part(service->batch, prepared->job, RMJ_JOB_PLAN, &prepared->plan->base);
        snprintf(event.plan, sizeof event.plan, "%s", prepared->plan->digest);
        event.page_count = prepared->plan->pages;
        event.step_count = prepared->plan->steps;
        struct live_job *live = live_get(service, prepared->job);
        live->progress.has_pairs = live->progress.has_steps = 1;
        live->progress.pairs = prepared->plan->pairs;
        live->progress.steps = prepared->plan->steps;
        live->progress_dirty = 1;
        tell_warnings(service, prepared);
    }
    owner_event(service, &event);
}

// ---- streams ----

struct stream *stream_find(struct rmj_service *service, const char *rank_uid)
{
    for (size_t i = 0; i < service->stream_count; i++) {
        if (strcmp(service->streams[i].rank_uid, rank_uid) == 0) {
            return &service->streams[i];
        }
    }
    return NULL;
}

static void stream_drop(struct rmj_service *service, struct stream *stream)
{
    rmj_call_release(stream->call);
    *stream = service->streams[--service->stream_count];
}

static void tell_detached(struct rmj_service *service, const struct stream *stream)
{
    struct rmj_event event = owner_event_of(RMJ_EVENT_DETACHED, stream->job);
    snprintf(event.rank_uid, sizeof event.rank_uid, "%s", stream->rank_uid);
    event.incarnation = stream->incarnation;
    owner_later(service, &event);
}

void stream_close(struct rmj_service *service, struct stream *stream, enum rmj_status status, const char *reason)
{
    struct rmj_error err = {0};
    (void)rmj_fail(&err, status, "%s", reason);
    rmj_call_finish(stream->call, &err);
    if (status != RMJ_DENIED) {
        tell_detached(service, stream);
    }
    stream_drop(service, stream);
}

void streams_close_all(struct rmj_service *service)
{
    while (service->stream_count > 0) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_AGAIN, "the service is stopping; it will be back");
        rmj_call_finish(service->streams[0].call, &err);
        stream_drop(service, &service->streams[0]);
    }
}

void streams_ping(struct rmj_service *service)
{
    int64_t mono = rmj_clock_mono_ms();
    if (mono - service->pinged_ms < PING_MS) {
        return;
    }
    service->pinged_ms = mono;
    Rmjob__V1__Directive ping = RMJOB__V1__DIRECTIVE__INIT;
    ping.kind_case = RMJOB__V1__DIRECTIVE__KIND_PING;
    ping.ping = 1;
    for (size_t i = 0; i < service->stream_count; i++) {
        if (rmj_call_send(service->streams[i].call, &ping.base) == RMJ_FULL) {
            stream_close(service, &service->streams[i--], RMJ_AGAIN, "the rank does not read what it is told");
        }
    }
}

static void run_broken(struct rmj_service *service, struct message *message)
{
    for (size_t i = 0; i < service->stream_count; i++) {
        if (service->streams[i].call == message->call) {
            struct rmj_event event = owner_event_of(RMJ_EVENT_DETACHED, service->streams[i].job);
            snprintf(event.rank_uid, sizeof event.rank_uid, "%s", service->streams[i].rank_uid);
            event.incarnation = service->streams[i].incarnation;
            stream_drop(service, &service->streams[i]);
            owner_event(service, &event);
            return;
        }
    }
}

static void on_broken(void *context, struct rmj_call *call)
{
    service_post(context, message_make(run_broken, call, NULL));
}

// Bitmaps of the inventory, freed by the caller with inventory_free.
static void inventory_take(struct rmj_inventory *inventory, Rmjob__V1__Snapshot *const *snapshots, size_t count,
                           uint32_t page_count)
{
    memset(inventory, 0, sizeof *inventory);
    for (size_t i = 0; i < count && inventory->snapshot_count < RMJ_SNAPSHOTS_MAX && page_count > 0; i++) {
        uint32_t n = inventory->snapshot_count++;
        uint8_t *pages = calloc((page_count + 7) / 8, 1);
        RMJ_ASSERT(pages != NULL);
        for (size_t r = 0; r < snapshots[i]->n_pages; r++) {
            const Rmjob__V1__PageRange *range = snapshots[i]->pages[r];
            uint64_t end = (uint64_t)range->first + range->count;
            for (uint64_t page = range->first; page < end && page < page_count; page++) {
                pages[page / 8] |= (uint8_t)(1u << (page % 8));
            }
        }
        inventory->snapshots[n].step = snapshots[i]->step;
        inventory->snapshots[n].pages = pages;
        snprintf(inventory->snapshots[n].digest, sizeof inventory->snapshots[n].digest, "%s",
                 snapshots[i]->digest == NULL ? "" : snapshots[i]->digest);
    }
}

static void inventory_free(struct rmj_inventory *inventory)
{
    for (uint32_t i = 0; i < inventory->snapshot_count; i++) {
        free(inventory->snapshots[i].pages);
    }
}

static uint32_t page_count_of(struct rmj_service *service, const char *job)
{
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, job);
    return record == NULL ? 0 : record->page_count;
}

static void copy_word(char *out, size_t size, const char *word)
{
    snprintf(out, size, "%s", word == NULL ? "" : word);
}

// A process that was started just before rmjobd was killed is in no row yet: it is watched from now on.
static void adopt_attached(struct rmj_service *service, const Rmjob__V1__AttachRequest *attach)
{
    struct rmj_process process = {.pid = (int32_t)attach->supervisor_pid};
    struct rmj_error err = {0};
    if (!attach->has_supervisor_pid || attach->supervisor_pid == 0 ||
        service->launcher->ops->has(service->launcher, attach->rank_uid)) {
        return;
    }
    process.start_time = rmj_process_start_time(process.pid);
    if (process.start_time == 0 ||
        service->launcher->ops->adopt(service->launcher, attach->job, attach->rank_uid, &process, &err) != RMJ_OK) {
        return;
    }
    struct rmj_launch_row row = {.pid = process.pid, .start_time = process.start_time};
    copy_word(row.job, sizeof row.job, attach->job);
    copy_word(row.launch, sizeof row.launch, attach->rank_uid);
    rmj_batch_launch(service->batch, &row);
}

static void run_attach(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__AttachRequest *attach = (const Rmjob__V1__AttachRequest *)message->request;
    struct stream *old = stream_find(service, attach->rank_uid);
    if (old != NULL) {
        // Its newer stream is what counts; the scheduler is told of that one only.
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_CANCELLED, "this rank has attached again");
        rmj_call_finish(old->call, &err);
        stream_drop(service, old);
    }
    if (service->stream_count == STREAMS_MAX) {
        call_fail(message->call, RMJ_AGAIN, "%d ranks are attached already", STREAMS_MAX);
        return;
    }
    struct stream *stream = &service->streams[service->stream_count++];
    memset(stream, 0, sizeof *stream);
    copy_word(stream->job, sizeof stream->job, attach->job);
    copy_word(stream->rank_uid, sizeof stream->rank_uid, attach->rank_uid);
    stream->incarnation = attach->incarnation;
    stream->call = rmj_call_retain(message->call);
    if (rmj_scheduler_job(service->scheduler, attach->job) != NULL) {
        adopt_attached(service, attach);
    }
    struct rmj_event event = owner_event_of(RMJ_EVENT_ATTACHED, attach->job);
    copy_word(event.rank_uid, sizeof event.rank_uid, attach->rank_uid);
    copy_word(event.address, sizeof event.address, attach->comm_address);
    copy_word(event.probe, sizeof event.probe, attach->probe);
    event.incarnation = attach->incarnation;
    event.running_generation = attach->running_generation;
    event.running_rank = attach->running_rank;
    event.step = attach->running_step;
    inventory_take(&event.inventory, attach->snapshots, attach->n_snapshots, page_count_of(service, attach->job));
    owner_event(service, &event);
    inventory_free(&event.inventory);
}

void on_attach(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const Rmjob__V1__AttachRequest *attach = (const Rmjob__V1__AttachRequest *)request;
    if (!allowed(service, call, attach->job)) {
        return;
    }
    if (attach->rank_uid == NULL || strlen(attach->rank_uid) >= RMJ_ID_SIZE || attach->rank_uid[0] == '\0') {
        call_fail(call, RMJ_INVALID, "attach needs the rank_uid that the process was started with");
        return;
    }
    if (service_post(service, message_make(run_attach, call, request))) {
        rmj_call_on_cancel(call, on_broken, service);
    }
}

// ---- words from a generation ----

static void run_ready(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__ReadyRequest *ready = (const Rmjob__V1__ReadyRequest *)message->request;
    struct rmj_event event = owner_event_of(RMJ_EVENT_READY, ready->job);
    copy_word(event.rank_uid, sizeof event.rank_uid, ready->rank_uid);
    copy_word(event.digest, sizeof event.digest, ready->bad_manifest);
    snprintf(event.reason, sizeof event.reason, "%.500s", ready->problem == NULL ? "" : ready->problem);
    event.incarnation = ready->incarnation;
    event.generation = ready->generation;
    event.leaving = ready->has_leaving && ready->leaving;
    event.has_suspect = ready->has_has_suspect && ready->has_suspect;
    event.suspect_rank = ready->suspect_rank;
    inventory_take(&event.inventory, ready->snapshots, ready->n_snapshots, page_count_of(service, ready->job));
    owner_event(service, &event);
    inventory_free(&event.inventory);
    owner_ack(service, message->call);
}

static void run_heartbeat(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__HeartbeatRequest *beat = (const Rmjob__V1__HeartbeatRequest *)message->request;
    struct rmj_event event = owner_event_of(RMJ_EVENT_HEARTBEAT, beat->job);
    copy_word(event.rank_uid, sizeof event.rank_uid, beat->rank_uid);
    event.incarnation = beat->incarnation;
    event.generation = beat->generation;
    event.step = beat->step;
    owner_event(service, &event);
    live_heartbeat(service, beat);
}

static void fail_job(struct rmj_service *service, const char *job, uint32_t generation, Rmjob__V1__JobState state,
                     const char *reason)
{
    struct rmj_event event = owner_event_of(RMJ_EVENT_RANK_FAILED_JOB, job);
    event.generation = generation;
    event.state = state;
    snprintf(event.reason, sizeof event.reason, "%.500s", reason);
    owner_event(service, &event);
}

static void run_step(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__StepRequest *step = (const Rmjob__V1__StepRequest *)message->request;
    struct rmj_error err = {0};
    int known = 0;
    enum rmj_status status = rmj_db_check_step(service->db, step, &known, &err);
    if (status == RMJ_CONFLICT) {
        fail_job(service, step->job, step->generation, RMJOB__V1__JOB_STATE__FAILED_INTERNAL, err.message);
        return;
    }
    struct rmj_event event = owner_event_of(RMJ_EVENT_STEP_COMMITTED, step->job);
    event.generation = step->generation;
    event.step = step->step;
    rmj_batch_step(service->batch, step->job, step);
    live_step(service, step, known);
    owner_event(service, &event);
}

static void run_manifest(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__ManifestRequest *manifest = (const Rmjob__V1__ManifestRequest *)message->request;
    struct rmj_event event = owner_event_of(RMJ_EVENT_MANIFEST_COMMITTED, manifest->job);
    event.generation = manifest->generation;
    event.step = manifest->step;
    copy_word(event.digest, sizeof event.digest, manifest->digest);
    if (rmj_scheduler_job(service->scheduler, manifest->job) != NULL) {
        live_manifest(service, manifest);
    }
    owner_event(service, &event);
    owner_ack(service, message->call);
}

static void run_evaluated(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__EvaluatedRequest *evaluated = (const Rmjob__V1__EvaluatedRequest *)message->request;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, evaluated->job);
    owner_ack(service, message->call);
    if (record == NULL || record->evaluated || evaluated->generation != record->generation) {
        return; // stale, or said before: the first one counts
    }
    rmj_batch_part(service->batch, evaluated->job, RMJ_JOB_STAGED, message->request);
    struct rmj_event event = owner_event_of(RMJ_EVENT_EVALUATED, evaluated->job);
    event.generation = evaluated->generation;
    owner_event(service, &event);
}

static void keep_explanation(struct rmj_service *service, const char *job, char *const *text, size_t text_count)
{
    Rmjob__V1__ValidateResponse explanation = RMJOB__V1__VALIDATE_RESPONSE__INIT;
    Rmjob__V1__Finding lines[16];
    Rmjob__V1__Finding *pointers[RMJ_COUNT(lines)];
    size_t count = text_count < RMJ_COUNT(lines) ? text_count : RMJ_COUNT(lines);
    for (size_t i = 0; i < count; i++) {
        rmjob__v1__finding__init(&lines[i]);
        lines[i].message = text[i];
        pointers[i] = &lines[i];
    }
    explanation.n_findings = count;
    explanation.findings = pointers;
    rmj_batch_part(service->batch, job, RMJ_JOB_EXPLAIN, &explanation.base);
}

static void run_fail_job(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__FailJobRequest *failed = (const Rmjob__V1__FailJobRequest *)message->request;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, failed->job);
    owner_ack(service, message->call);
    if (record == NULL || rmj_job_state_final(record->state) ||
        (failed->generation != 0 && failed->generation != record->generation)) {
        return; // generation 0: a rank that could not start, in whatever generation the others are
    }
    keep_explanation(service, failed->job, failed->explanation, failed->n_explanation);
    if (failed->training != NULL) {
        Rmjob__V1__EvaluatedRequest measured = RMJOB__V1__EVALUATED_REQUEST__INIT; // all that there will be of it
        measured.job = failed->job;
        measured.training = failed->training;
        rmj_batch_part(service->batch, failed->job, RMJ_JOB_STAGED, &measured.base);
    }
    fail_job(service, failed->job, record->generation, failed->state,
             failed->reason == NULL ? "a rank stopped the job without a word; see its log" : failed->reason);
}

static void run_warn_job(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__WarnJobRequest *warned = (const Rmjob__V1__WarnJobRequest *)message->request;
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, warned->job);
    if (record != NULL && !rmj_job_state_final(record->state) && warned->generation == record->generation) {
        keep_explanation(service, warned->job, warned->explanation, warned->n_explanation);
        live_warn(service, warned);
    }
    owner_ack(service, message->call);
}

// A word that the rank waits to have written.
static void post_durable(void *context, struct rmj_call *call, const ProtobufCMessage *request, const char *job,
                         void (*run)(struct rmj_service *, struct message *))
{
    if (allowed(context, call, job)) {
        service_post(context, message_make(run, call, request));
    }
}

// A word that is worth no waiting: the next one makes up for it.
static void post_loose(void *context, struct rmj_call *call, const ProtobufCMessage *request, const char *job,
                       void (*run)(struct rmj_service *, struct message *))
{
    if (allowed(context, call, job) && service_post(context, message_make(run, NULL, request))) {
        Rmjob__V1__Ack ack = RMJOB__V1__ACK__INIT;
        rmj_call_reply(call, &ack.base);
    }
}

void on_prepared(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__PreparedRequest *)request)->job, run_prepared);
}

void on_preparing(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_loose(context, call, request, ((const Rmjob__V1__PreparingRequest *)request)->job, run_preparing);
}

void on_ready(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__ReadyRequest *)request)->job, run_ready);
}

void on_heartbeat(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_loose(context, call, request, ((const Rmjob__V1__HeartbeatRequest *)request)->job, run_heartbeat);
}

void on_step(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_loose(context, call, request, ((const Rmjob__V1__StepRequest *)request)->job, run_step);
}

void on_manifest(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__ManifestRequest *)request)->job, run_manifest);
}

void on_evaluated(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__EvaluatedRequest *)request)->job, run_evaluated);
}

void on_warn_job(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__WarnJobRequest *)request)->job, run_warn_job);
}

void on_fail_job(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    post_durable(context, call, request, ((const Rmjob__V1__FailJobRequest *)request)->job, run_fail_job);
}
