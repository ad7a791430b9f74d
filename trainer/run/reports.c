// Calls to the service: the queue of rank 0's reports, readiness, and the inventory they carry.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "trainer/run/link_internal.h"

#define RETRY_MS_MIN 20
#define RETRY_MS_MAX 500

static int is_away(enum rmj_status status)
{
    return status == RMJ_UNREACHABLE || status == RMJ_TIMEOUT || status == RMJ_AGAIN || status == RMJ_CANCELLED;
}

static enum rmj_status call_once(struct rmj_link *link, const char *method, const ProtobufCMessage *request,
                                 int64_t deadline_ms, struct rmj_error *err)
{
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_rpc_call(link->client, method, request, &rmjob__v1__ack__descriptor, deadline_ms, &reply, NULL, err));
    protobuf_c_message_free_unpacked(reply, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_link_call(struct rmj_link *link, const char *method, const ProtobufCMessage *request,
                              int64_t bound_ms, struct rmj_error *err)
{
    int64_t deadline = rmj_clock_mono_ms() + bound_ms;
    for (int64_t pause = RETRY_MS_MIN;; pause = pause < RETRY_MS_MAX ? pause * 2 : RETRY_MS_MAX) {
        enum rmj_status status = call_once(link, method, request, bound_ms < RMJ_CALL_MS ? bound_ms : RMJ_CALL_MS, err);
        if (!is_away(status) || rmj_clock_mono_ms() + pause > deadline || rmj_link_aborted(link)) {
            return status;
        }
        rmj_clock_sleep_ms(pause);
    }
}

enum rmj_status rmj_link_task(struct rmj_link *link, Rmjob__V1__TaskSpec **task, struct rmj_error *err)
{
    Rmjob__V1__TaskRequest request = RMJOB__V1__TASK_REQUEST__INIT;
    request.job = link->job;
    request.task = link->rank_uid;
    request.version = RMJ_VERSION;
    int64_t deadline = rmj_clock_mono_ms() + RMJ_SERVICE_GONE_MS;
    for (;;) {
        ProtobufCMessage *reply = NULL;
        enum rmj_status status = rmj_rpc_call(link->client, "/rmjob.v1.Ranks/GetTask", &request.base,
                                              &rmjob__v1__task_spec__descriptor, RMJ_CALL_MS, &reply, NULL, err);
        if (status == RMJ_OK) {
            *task = (Rmjob__V1__TaskSpec *)reply;
            return RMJ_OK;
        }
        if (!is_away(status) || rmj_clock_mono_ms() > deadline) {
            return rmj_context(err, "asking for the work of job %s", link->job);
        }
        rmj_clock_sleep_ms(RETRY_MS_MAX / 2);
    }
}

// Pages of a slot as runs; grows the copy's memory only when a slot has more runs than ever.
static void copy_snapshot(struct rmj_snapshot_copy *copy, const struct rmj_slot *slot)
{
    const struct rmj_slot_header *header = slot->bytes == NULL ? NULL : rmj_slot_header(slot);
    copy->range_count = 0;
    if (header == NULL) {
        return;
    }
    if (copy->range_capacity < header->page_count) {
        void *grown = realloc(copy->ranges, header->page_count * sizeof *copy->ranges);
        if (grown == NULL) {
            return; // a snapshot that is not told of is not used
        }
        copy->ranges = grown;
        copy->range_capacity = header->page_count;
    }
    copy->step = header->step;
    const struct rmj_slot_page *table = rmj_slot_pages(slot);
    for (uint32_t i = 0; i < header->page_count; i++) {
        uint32_t n = copy->range_count;
        if (n > 0 && copy->ranges[n - 1].first + copy->ranges[n - 1].count == table[i].page) {
            copy->ranges[n - 1].count++;
        } else {
            copy->ranges[n].first = table[i].page;
            copy->ranges[n].count = 1;
            copy->range_count++;
        }
    }
}

void rmj_link_inventory(struct rmj_link *link, const struct rmj_slots *slots)
{
    pthread_mutex_lock(&link->lock);
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        copy_snapshot(&link->snapshots[i], &slots->slots[i]);
    }
    pthread_mutex_unlock(&link->lock);
}

// Slots of one step are one snapshot to the service; pages held twice are told twice, which is harmless.
Rmjob__V1__Snapshot **rmj_link_snapshots(struct rmj_link *link, size_t *count)
{
    *count = 0;
    Rmjob__V1__Snapshot **out = calloc(RMJ_SLOT_COUNT, sizeof(Rmjob__V1__Snapshot *));
    for (int i = 0; out != NULL && i < RMJ_SLOT_COUNT; i++) {
        const struct rmj_snapshot_copy *copy = &link->snapshots[i];
        int seen = copy->range_count == 0;
        size_t ranges = 0;
        for (int k = 0; k < RMJ_SLOT_COUNT; k++) {
            int same = link->snapshots[k].range_count > 0 && link->snapshots[k].step == copy->step;
            ranges += same ? link->snapshots[k].range_count : 0;
            seen = seen || (same && k < i);
        }
        size_t size = sizeof(Rmjob__V1__Snapshot) + ranges * (sizeof(Rmjob__V1__PageRange) + sizeof(void *));
        char *block = seen ? NULL : calloc(1, size);
        if (block == NULL) {
            continue;
        }
        Rmjob__V1__Snapshot *snapshot = (Rmjob__V1__Snapshot *)block;
        rmjob__v1__snapshot__init(snapshot);
        snapshot->has_step = 1;
        snapshot->step = copy->step;
        snapshot->pages = (Rmjob__V1__PageRange **)(block + sizeof *snapshot);
        Rmjob__V1__PageRange *range = (Rmjob__V1__PageRange *)(snapshot->pages + ranges);
        for (int k = i; k < RMJ_SLOT_COUNT; k++) {
            const struct rmj_snapshot_copy *from = &link->snapshots[k];
            for (uint32_t r = 0; from->step == copy->step && r < from->range_count; r++, range++) {
                rmjob__v1__page_range__init(range);
                range->has_first = range->has_count = 1;
                range->first = from->ranges[r].first;
                range->count = from->ranges[r].count;
                snapshot->pages[snapshot->n_pages++] = range;
            }
        }
        out[(*count)++] = snapshot;
    }
    return out;
}

void rmj_link_free_snapshots(Rmjob__V1__Snapshot **snapshots, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(snapshots[i]);
    }
    free(snapshots);
}

void rmj_link_ready(struct rmj_link *link, const struct rmj_ready *ready, int64_t bound_ms)
{
    Rmjob__V1__ReadyRequest request = RMJOB__V1__READY_REQUEST__INIT;
    request.job = link->job;
    request.rank_uid = link->rank_uid;
    request.has_incarnation = request.has_generation = request.has_leaving = 1;
    request.incarnation = link->incarnation;
    request.generation = ready->generation;
    request.leaving = ready->leaving;
    request.problem = (char *)(uintptr_t)ready->problem;
    request.bad_manifest = (char *)(uintptr_t)ready->bad_manifest;
    if (ready->suspect >= 0) {
        request.has_has_suspect = request.has_suspect_rank = 1;
        request.has_suspect = 1;
        request.suspect_rank = (uint32_t)ready->suspect;
    }
    int64_t deadline = rmj_clock_mono_ms() + bound_ms;
    for (;;) {
        struct rmj_error err = {0};
        pthread_mutex_lock(&link->lock);
        int overtaken = link->leave || link->refused ||
                        (link->assignment != NULL && link->assignment->generation > ready->generation);
        request.snapshots = rmj_link_snapshots(link, &request.n_snapshots);
        pthread_mutex_unlock(&link->lock);
        enum rmj_status status = overtaken ? RMJ_OK
                                           : call_once(link, "/rmjob.v1.Ranks/Ready", &request.base,
                                                       bound_ms < 1000 ? bound_ms : 1000, &err);
        rmj_link_free_snapshots(request.snapshots, request.n_snapshots);
        if (!is_away(status) || rmj_clock_mono_ms() > deadline) {
            if (status != RMJ_OK) {
                rmj_log(RMJ_LOG_WARN, "rank", "event=ready_failed generation=%u reason=\"%s\"", ready->generation,
                        err.message);
            }
            return;
        }
        rmj_clock_sleep_ms(RETRY_MS_MIN * 5);
    }
}

static void fail_job(struct rmj_link *link, uint32_t generation, Rmjob__V1__JobState state, const char *reason,
                     const char *const *explanation, size_t explanation_count,
                     const Rmjob__V1__TrainingReport *training)
{
    Rmjob__V1__FailJobRequest request = RMJOB__V1__FAIL_JOB_REQUEST__INIT;
    struct rmj_error err = {0};
    request.job = link->job;
    request.rank_uid = link->rank_uid;
    request.has_generation = request.has_state = 1;
    request.generation = generation;
    request.state = state;
    request.reason = (char *)(uintptr_t)reason;
    request.explanation = (char **)(uintptr_t)explanation;
    request.n_explanation = explanation_count;
    request.training = (Rmjob__V1__TrainingReport *)(uintptr_t)training;
    if (rmj_link_call(link, "/rmjob.v1.Ranks/FailJob", &request.base, RMJ_SERVICE_GONE_MS, &err) != RMJ_OK) {
        rmj_log(RMJ_LOG_ERROR, "rank", "event=fail_job_not_told reason=\"%s\" because=\"%s\"", reason, err.message);
    }
}

void rmj_link_fail_job(struct rmj_link *link, uint32_t generation, Rmjob__V1__JobState state, const char *reason,
                       const char *const *explanation, size_t explanation_count)
{
    fail_job(link, generation, state, reason, explanation, explanation_count, NULL);
}

void rmj_link_fail_data(struct rmj_link *link, uint32_t generation, const char *reason, const char *const *explanation,
                        size_t explanation_count, const Rmjob__V1__TrainingReport *training)
{
    fail_job(link, generation, RMJOB__V1__JOB_STATE__FAILED_DATA, reason, explanation, explanation_count, training);
}

void rmj_link_warn_job(struct rmj_link *link, uint32_t generation, const char *reason, const char *const *explanation,
                       size_t explanation_count)
{
    Rmjob__V1__WarnJobRequest request = RMJOB__V1__WARN_JOB_REQUEST__INIT;
    struct rmj_error err = {0};
    request.job = link->job;
    request.has_generation = 1;
    request.generation = generation;
    request.reason = (char *)(uintptr_t)reason;
    request.explanation = (char **)(uintptr_t)explanation;
    request.n_explanation = explanation_count;
    // A warning is worth no waiting: it is in the report again.
    if (rmj_link_call(link, "/rmjob.v1.Ranks/WarnJob", &request.base, RMJ_CALL_MS, &err) != RMJ_OK) {
        rmj_log(RMJ_LOG_WARN, "rank", "event=warning_not_told reason=\"%s\" because=\"%s\"", reason, err.message);
    }
}

static void push(struct rmj_link *link, const struct rmj_report *report)
{
    pthread_mutex_lock(&link->lock);
    // The last places are kept for manifests: they are few, and the service must learn of each.
    size_t limit = report->is_manifest ? RMJ_REPORTS_MAX : RMJ_REPORTS_MAX - 8;
    if (link->report_count < limit) {
        link->reports[(link->report_first + link->report_count++) % RMJ_REPORTS_MAX] = *report;
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->lock);
}

void rmj_link_report_step(struct rmj_link *link, const struct rmj_step_report *step)
{
    struct rmj_report report = {.is_manifest = 0};
    report.of.step = *step;
    push(link, &report);
}

void rmj_link_report_manifest(struct rmj_link *link, const struct rmj_manifest_report *manifest)
{
    struct rmj_report report = {.is_manifest = 1};
    report.of.manifest = *manifest;
    push(link, &report);
}

void rmj_link_flush(struct rmj_link *link, int64_t bound_ms)
{
    int64_t deadline = rmj_clock_mono_ms() + bound_ms;
    pthread_mutex_lock(&link->lock);
    while (link->report_count > 0 || link->report_in_flight) {
        int64_t left = deadline - rmj_clock_mono_ms();
        if (left <= 0 || rmj_link_aborted(link)) {
            break;
        }
        rmj_link_cond_wait(link, left < RETRY_MS_MAX ? left : RETRY_MS_MAX);
    }
    pthread_mutex_unlock(&link->lock);
}

static enum rmj_status send_step(struct rmj_link *link, struct rmj_step_report *report, struct rmj_error *err)
{
    Rmjob__V1__StepRequest request = RMJOB__V1__STEP_REQUEST__INIT;
    Rmjob__V1__ConsumedProof proof = RMJOB__V1__CONSUMED_PROOF__INIT;
    request.job = link->job;
    request.has_generation = request.has_step = request.has_loss = request.has_margin = request.has_accuracy = 1;
    request.has_grad_norm = request.has_learning_rate = request.has_pairs_consumed = request.has_tokens = 1;
    request.has_seconds = request.has_stall_seconds = request.has_second_pass = 1;
    request.generation = report->generation;
    request.step = report->step;
    request.loss = report->loss;
    request.margin = report->margin;
    request.accuracy = report->accuracy;
    request.grad_norm = report->grad_norm;
    request.learning_rate = report->learning_rate;
    request.pairs_consumed = report->pairs_consumed;
    request.tokens = report->tokens;
    request.seconds = report->seconds;
    request.stall_seconds = report->stall_seconds;
    request.second_pass = report->second_pass;
    proof.has_pairs = proof.has_steps = 1;
    proof.pairs = report->pairs_consumed;
    proof.steps = report->step;
    proof.pairs_sum = report->consumed_sum;
    proof.chain = report->chain;
    request.consumed = &proof;
    return call_once(link, "/rmjob.v1.Ranks/StepCommitted", &request.base, RMJ_CALL_MS, err);
}

static enum rmj_status send_manifest(struct rmj_link *link, struct rmj_manifest_report *report, struct rmj_error *err)
{
    Rmjob__V1__ManifestRequest request = RMJOB__V1__MANIFEST_REQUEST__INIT;
    request.job = link->job;
    request.has_generation = request.has_step = request.has_bytes_stored = request.has_bytes_raw = 1;
    request.has_seconds = 1;
    request.generation = report->generation;
    request.step = report->step;
    request.digest = report->digest;
    request.bytes_stored = report->bytes_stored;
    request.bytes_raw = report->bytes_raw;
    request.seconds = report->seconds;
    return call_once(link, "/rmjob.v1.Ranks/ManifestCommitted", &request.base, RMJ_CALL_MS, err);
}

void *rmj_link_report_main(void *context)
{
    struct rmj_link *link = context;
    int64_t pause = RETRY_MS_MIN;
    pthread_mutex_lock(&link->lock);
    while (!link->closing) {
        if (link->report_count == 0) {
            rmj_link_cond_wait(link, 1000);
            continue;
        }
        struct rmj_report report = link->reports[link->report_first];
        link->report_in_flight = 1;
        pthread_mutex_unlock(&link->lock);
        struct rmj_error err = {0};
        enum rmj_status status = report.is_manifest ? send_manifest(link, &report.of.manifest, &err)
                                                    : send_step(link, &report.of.step, &err);
        pthread_mutex_lock(&link->lock);
        link->report_in_flight = 0;
        // In order, and kept while the service is away: it must hear of manifests, and of steps once each.
        if (is_away(status) && !link->closing) {
            rmj_link_cond_wait(link, pause);
            pause = pause < RETRY_MS_MAX ? pause * 2 : RETRY_MS_MAX;
        } else {
            link->report_first = (link->report_first + 1) % RMJ_REPORTS_MAX;
            link->report_count--;
            pause = RETRY_MS_MIN;
            pthread_cond_broadcast(&link->changed);
        }
    }
    pthread_mutex_unlock(&link->lock);
    return NULL;
}
