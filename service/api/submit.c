// Jobs.Submit and Jobs.Validate. Everything that can refuse a spec comes before anything is kept: own checks, then
// `rmjob-rank check` (model, tokenizer, a sample of the data), then the stores, then one transaction, then the answer.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"
#include "service/api/internal.h"
#include "service/api/spec_check.h"

#define CHECK_REPLY_SIZE_MAX ((size_t)4 << 20)
#define ID_ATTEMPTS_MAX 32
#define REQUEST_ID_LENGTH_MAX 128

// A spec that has passed; travels to the owner as the message's extra.
struct submission {
    char request_id[REQUEST_ID_LENGTH_MAX + 1];
    Rmjob__V1__JobSpec *spec;
    Rmjob__V1__ValidateResponse *checked;
    char digest[RMJ_DIGEST_HEX_SIZE];
};

static void submission_free(void *pointer)
{
    struct submission *submission = pointer;
    if (submission->spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(submission->spec, NULL);
    }
    if (submission->checked != NULL) {
        rmjob__v1__validate_response__free_unpacked(submission->checked, NULL);
    }
    free(submission);
}

// The spec as a file in <state>/tmp, which is emptied whenever rmjobd starts.
static enum rmj_status spec_file(const struct rmj_service *service, const Rmjob__V1__JobSpec *spec, char *path,
                                 size_t path_size, struct rmj_error *err)
{
    struct rmj_buf text;
    char name[32];
    rmj_text_make_id(name, sizeof name, "spec-", 16);
    snprintf(path, path_size, "%s/tmp/%s.json", service->state_directory, name);
    rmj_buf_init(&text, CHECK_REPLY_SIZE_MAX);
    rmj_json_print(&spec->base, 0, &text);
    enum rmj_status status = rmj_buf_check(&text, err);
    int fd = status == RMJ_OK ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (status == RMJ_OK && (fd < 0 || write(fd, text.bytes, text.size) != (ssize_t)text.size)) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write %s", path);
    }
    if (fd >= 0) {
        close(fd);
    }
    rmj_buf_deinit(&text);
    return status;
}

static enum rmj_status run_check(struct rmj_service *service, const Rmjob__V1__JobSpec *spec,
                                 Rmjob__V1__ValidateResponse **reply, struct rmj_error *err)
{
    char path[4200];
    enum rmj_status status = spec_file(service, spec, path, sizeof path, err);
    const char *const arguments[] = {"check", "--spec", path, NULL};
    struct rmj_buf out;
    rmj_buf_init(&out, CHECK_REPLY_SIZE_MAX);
    if (status == RMJ_OK) {
        status = rmj_launch_wait_task(service->rank_program, arguments, service->check_deadline_ms, &out, err);
    }
    unlink(path);
    if (status == RMJ_OK) {
        struct rmj_text_result *result = rmj_text_result_create();
        status = rmj_json_parse(&rmjob__v1__validate_response__descriptor, "rmjob-rank check", rmj_buf_text(&out),
                                out.size, (ProtobufCMessage **)reply, result, err);
        rmj_text_result_destroy(result);
        status = status == RMJ_INVALID
                     ? rmj_fail(err, RMJ_INTERNAL, "rmjob-rank check answered in another language: %s", err->message)
                     : status;
    }
    rmj_buf_deinit(&out);
    return status;
}

static void move_findings(Rmjob__V1__ValidateResponse *to, Rmjob__V1__ValidateResponse *from)
{
    to->findings = realloc(to->findings, (to->n_findings + from->n_findings + 1) * sizeof *to->findings);
    RMJ_ASSERT(to->findings != NULL);
    for (size_t i = 0; i < from->n_findings; i++) {
        to->findings[to->n_findings++] = from->findings[i];
    }
    from->n_findings = 0;
}

static void check_memory(const Rmjob__V1__JobSpec *spec, const Rmjob__V1__PlanSummary *pinned,
                         Rmjob__V1__ValidateResponse *reply)
{
    uint64_t limit = 0;
    if (spec->resources->memory != NULL && pinned != NULL && pinned->has_memory_bytes &&
        rmj_text_parse_bytes(spec->resources->memory, &limit) && pinned->memory_bytes > limit) {
        rmj_finding_add(
            reply, "resources.memory", 2,
            "resources.memory is %s, and one rank needs %.1f MiB at elastic.min_ranks; give it more, or more "
            "ranks",
            spec->resources->memory, (double)pinned->memory_bytes / 1048576);
    }
}

static Rmjob__V1__ValidateResponse *new_reply(void)
{
    Rmjob__V1__ValidateResponse *reply = malloc(sizeof *reply);
    RMJ_ASSERT(reply != NULL);
    rmjob__v1__validate_response__init(reply);
    return reply;
}

static void fill_defaults(const struct rmj_service *service, Rmjob__V1__JobSpec *spec)
{
    struct rmj_spec_defaults defaults = {.checkpoint_store = service->checkpoint_store,
                                         .publish_store = service->publish_store,
                                         .core_count = service->core_count};
    rmj_spec_fill_defaults(spec, &defaults);
}

// All of it. *reply holds the findings; spec is filled with defaults when it returns RMJ_OK and refuses nothing.
static enum rmj_status check(struct rmj_service *service, Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply,
                             struct rmj_error *err)
{
    Rmjob__V1__Policy *policy = NULL;
    Rmjob__V1__ValidateResponse *inputs = NULL;
    const char *project = spec->project == NULL || *spec->project == '\0' ? "default" : spec->project;
    RMJ_TRY(policy_of(service, project, &policy, err));
    rmj_spec_check(spec, policy, reply);
    enum rmj_status status = RMJ_OK;
    if (!rmj_findings_refuse(reply)) {
        fill_defaults(service, spec);
        if (policy->has_max_ranks && policy->max_ranks > 0 && spec->elastic->min_ranks > policy->max_ranks) {
            rmj_finding_add(reply, "elastic.min_ranks", 2,
                            "elastic.min_ranks is %u, and project %s may hold %u ranks; it would never start",
                            spec->elastic->min_ranks, project, policy->max_ranks);
        }
        if (spec->elastic->min_ranks > service->slots) {
            rmj_finding_add(reply, "elastic.min_ranks", 2,
                            "elastic.min_ranks is %u, and this service has %u rank slots; it would never start",
                            spec->elastic->min_ranks, service->slots);
        }
        status = run_check(service, spec, &inputs, err);
    }
    if (inputs != NULL) {
        move_findings(reply, inputs);
        reply->pinned = inputs->pinned;
        reply->sample = inputs->sample;
        reply->sample_row = inputs->sample_row;
        inputs->pinned = NULL;
        inputs->sample = NULL;
        inputs->sample_row = NULL;
        check_memory(spec, reply->pinned, reply);
        rmj_spec_check_stores(spec, reply);
        rmjob__v1__validate_response__free_unpacked(inputs, NULL);
    }
    rmjob__v1__policy__free_unpacked(policy, NULL);
    return status;
}

// Refuses with every finding; the class of the worst one decides the exit code of the command line.
static void refuse(struct rmj_call *call, const Rmjob__V1__ValidateResponse *reply)
{
    struct rmj_error err = {0};
    enum rmj_status status = RMJ_INVALID;
    const Rmjob__V1__Finding *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < reply->n_findings; i++) {
        const Rmjob__V1__Finding *finding = reply->findings[i];
        if (finding->has_warning && finding->warning) {
            continue;
        }
        first = first == NULL ? finding : first;
        count++;
    }
    if (first->has_exit_code && first->exit_code == 6) {
        status = RMJ_DATA;
    }
    (void)rmj_fail(&err, status, "%s%s", first->message, count > 1 ? " (and more)" : "");
    rmj_call_fail(call, &err, &reply->base);
}

void on_validate(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    const Rmjob__V1__JobSpec *given = ((const Rmjob__V1__ValidateRequest *)request)->spec;
    if (given == NULL) {
        call_fail(call, RMJ_INVALID, "the request holds no spec");
        return;
    }
    Rmjob__V1__JobSpec *spec = (Rmjob__V1__JobSpec *)rmj_message_copy(&given->base);
    Rmjob__V1__ValidateResponse *reply = new_reply();
    struct rmj_error err = {0};
    if (check(context, spec, reply, &err) == RMJ_OK) {
        rmj_call_reply(call, &reply->base);
    } else {
        rmj_call_fail(call, &err, NULL);
    }
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

static void answer(struct rmj_service *service, struct rmj_call *call, const char *job, int existing,
                   const Rmjob__V1__ValidateResponse *checked)
{
    Rmjob__V1__SubmitResponse reply = RMJOB__V1__SUBMIT_RESPONSE__INIT;
    ProtobufCMessage *pinned = NULL;
    struct rmj_error err = {0};
    char id[RMJ_ID_SIZE];
    snprintf(id, sizeof id, "%s", job);
    reply.job = id;
    reply.has_existing = 1;
    reply.existing = existing;
    if (checked != NULL) {
        reply.pinned = checked->pinned;
        reply.findings = checked->findings;
        reply.n_findings = checked->n_findings;
    } else if (rmj_db_part(service->db, job, RMJ_JOB_PLAN, &pinned, &err) == RMJ_OK) {
        reply.pinned = (Rmjob__V1__PlanSummary *)pinned;
    }
    if (reply.pinned != NULL && reply.pinned->has_memory_bytes) {
        reply.has_memory_bytes = 1;
        reply.memory_bytes = reply.pinned->memory_bytes;
    }
    rmj_call_reply(call, &reply.base);
    if (pinned != NULL) {
        protobuf_c_message_free_unpacked(pinned, NULL);
    }
}

static void first_record(struct rmj_job_record *record, const struct submission *submission)
{
    const Rmjob__V1__JobSpec *spec = submission->spec;
    const char *interval = spec->checkpoint->interval;
    int64_t deadline = 0;
    memset(record, 0, sizeof *record);
    snprintf(record->project, sizeof record->project, "%s", spec->project);
    record->state = RMJOB__V1__JOB_STATE__PREPARING;
    snprintf(record->reason, sizeof record->reason, "reading and checking the data");
    record->min_ranks = spec->elastic->min_ranks;
    record->max_ranks = spec->elastic->max_ranks;
    record->max_restarts = spec->budget->max_restarts;
    record->submitted_ms = rmj_clock_unix_ms();
    if (spec->budget->deadline != NULL && rmj_text_parse_duration(spec->budget->deadline, &deadline)) {
        record->deadline_ms = record->submitted_ms + deadline;
    }
    record->rank_seconds_limit = spec->budget->has_rank_hours ? spec->budget->rank_hours * 3600 : 0;
    record->checkpoint_off = strcmp(interval, "off") == 0;
    record->checkpoint_every_steps = (uint32_t)strtoul(interval, NULL, 10); // auto and off: 0
    record->manifests_keep = spec->checkpoint->keep;
}

static void make_token(char token[RMJ_DB_TOKEN_SIZE])
{
    unsigned char secret[(RMJ_DB_TOKEN_SIZE - 1) / 2];
    RMJ_ASSERT(rmj_random_bytes(secret, sizeof secret));
    rmj_text_hex(token, secret, sizeof secret);
}

// Writes the job and its first event in one transaction of their own: a submission that cannot be written is refused,
// and the scheduler never hears of it.
static enum rmj_status keep(struct rmj_service *service, const struct submission *submission,
                            struct rmj_job_record *record, struct rmj_error *err)
{
    char token[RMJ_DB_TOKEN_SIZE], checkpoint_store[RMJ_PLACE_SIZE], publish_store[RMJ_PLACE_SIZE];
    make_token(token);
    rmj_db_place_keep(service->db, submission->spec->checkpoint->store, checkpoint_store);
    rmj_db_place_keep(service->db, submission->spec->publish->store, publish_store);
    struct rmj_new_job job = {.record = record,
                              .spec = submission->spec,
                              .spec_digest = submission->digest,
                              .request_id = submission->request_id[0] == '\0' ? NULL : submission->request_id,
                              .rank_token = token,
                              .checkpoint_store = checkpoint_store,
                              .publish_store = publish_store,
                              .pinned = submission->checked->pinned};
    struct rmj_batch *batch = rmj_batch_create();
    enum rmj_status status = RMJ_CONFLICT;
    for (int attempt = 0; attempt < ID_ATTEMPTS_MAX && status == RMJ_CONFLICT; attempt++) {
        rmj_text_make_id(record->id, sizeof record->id, "rm-", 5);
        Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
        event.has_sequence = event.has_unix_ms = event.has_kind = event.has_state = 1;
        event.sequence = 1;
        event.unix_ms = record->submitted_ms;
        event.kind = RMJOB__V1__EVENT_KIND__STATE;
        event.state = record->state;
        char text[RMJ_REASON_SIZE + 32];
        snprintf(text, sizeof text, "%s: %s", rmj_job_state_name(record->state), record->reason);
        event.text = text;
        rmj_batch_clear(batch);
        rmj_batch_new_job(batch, &job);
        rmj_batch_event(batch, record->id, &event);
        rmj_error_clear(err);
        status = rmj_db_apply(service->db, batch, err);
    }
    rmj_batch_destroy(batch);
    return status;
}

static void digest_spec(const Rmjob__V1__JobSpec *spec, char hex[RMJ_DIGEST_HEX_SIZE])
{
    size_t size = rmjob__v1__job_spec__get_packed_size(spec);
    uint8_t *bytes = malloc(size + 1);
    struct rmj_digest digest;
    RMJ_ASSERT(bytes != NULL);
    rmjob__v1__job_spec__pack(spec, bytes);
    rmj_sha256_of(bytes, size, &digest);
    rmj_digest_hex(&digest, hex);
    free(bytes);
}

// A request id that was seen before: the same spec again gets its job, another one is a mistake to tell.
static void answer_existing(struct rmj_service *service, struct rmj_call *call, const char *job,
                            const Rmjob__V1__JobSpec *given)
{
    ProtobufCMessage *known = NULL;
    struct rmj_error err = {0};
    char ours[RMJ_DIGEST_HEX_SIZE], theirs[RMJ_DIGEST_HEX_SIZE];
    if (rmj_db_part(service->db, job, RMJ_JOB_SPEC, &known, &err) != RMJ_OK || known == NULL) {
        answer(service, call, job, 1, NULL);
        return;
    }
    Rmjob__V1__JobSpec *filled = (Rmjob__V1__JobSpec *)rmj_message_copy(&given->base);
    fill_defaults(service, filled);
    digest_spec((Rmjob__V1__JobSpec *)known, ours);
    digest_spec(filled, theirs);
    if (strcmp(ours, theirs) == 0) {
        answer(service, call, job, 1, NULL);
    } else {
        call_fail(call, RMJ_CONFLICT,
                  "this request id submitted %s with another spec; a new spec needs a new request id", job);
    }
    rmjob__v1__job_spec__free_unpacked(filled, NULL);
    protobuf_c_message_free_unpacked(known, NULL);
}

static void run_submit(struct rmj_service *service, struct message *message)
{
    struct submission *submission = message->extra;
    struct rmj_error err = {0};
    char existing[RMJ_ID_SIZE] = "";
    struct rmj_job_record record;
    enum rmj_status status = RMJ_OK;
    if (submission->request_id[0] != '\0') {
        status = rmj_db_request(service->db, submission->request_id, existing, &err);
    }
    if (status == RMJ_OK && existing[0] != '\0') {
        answer_existing(service, message->call, existing, submission->spec);
        return;
    }
    if (status == RMJ_OK && service->job_count >= RMJ_JOBS_MAX) {
        status = rmj_fail(&err, RMJ_FULL, "%d jobs have not ended yet; submit when some have", RMJ_JOBS_MAX);
    }
    if (status == RMJ_OK) {
        first_record(&record, submission);
        status = keep(service, submission, &record, &err);
    }
    if (status != RMJ_OK) {
        (void)rmj_context(&err, "the job was not accepted");
        rmj_call_fail(message->call, &err, NULL);
        return;
    }
    live_get(service, record.id);
    struct rmj_event event = owner_event_of(RMJ_EVENT_SUBMITTED, record.id);
    event.record = &record;
    owner_event(service, &event);
    rmj_log(RMJ_LOG_INFO, "rmjobd", "event=submitted job=%s name=%s project=%s", record.id, submission->spec->name,
            record.project);
    answer(service, message->call, record.id, 0, submission->checked);
}

void on_submit(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    const Rmjob__V1__SubmitRequest *submit = (const Rmjob__V1__SubmitRequest *)request;
    struct rmj_error err = {0};
    char existing[RMJ_ID_SIZE] = "";
    const char *request_id = submit->request_id == NULL ? "" : submit->request_id;
    if (submit->spec == NULL || strlen(request_id) > REQUEST_ID_LENGTH_MAX) {
        call_fail(call, RMJ_INVALID, submit->spec == NULL ? "the request holds no spec" : "request_id is too long");
        return;
    }
    if (*request_id != '\0' && rmj_db_request(service->db, request_id, existing, &err) == RMJ_OK &&
        existing[0] != '\0') {
        answer_existing(service, call, existing, submit->spec);
        return;
    }
    struct submission *submission = calloc(1, sizeof *submission);
    RMJ_ASSERT(submission != NULL);
    snprintf(submission->request_id, sizeof submission->request_id, "%s", request_id);
    submission->spec = (Rmjob__V1__JobSpec *)rmj_message_copy(&submit->spec->base);
    submission->checked = new_reply();
    enum rmj_status status = check(service, submission->spec, submission->checked, &err);
    if (status != RMJ_OK || rmj_findings_refuse(submission->checked)) {
        if (status != RMJ_OK) {
            rmj_call_fail(call, &err, NULL);
        } else {
            refuse(call, submission->checked);
        }
        submission_free(submission);
        return;
    }
    if (service_refuses(service, call)) {
        submission_free(submission);
        return;
    }
    digest_spec(submission->spec, submission->digest);
    struct message *message = message_make(run_submit, call, NULL);
    message->extra = submission;
    message->free_extra = submission_free;
    service_post(service, message);
}
