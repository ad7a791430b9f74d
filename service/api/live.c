// What is known of a running job beyond the scheduler's record: its event numbers, progress, and the lines that people
// read about losses.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "service/api/internal.h"

#define LINE_SIZE 1024

struct live_job *live_find(struct rmj_service *service, const char *job)
{
    for (size_t i = 0; i < service->job_count; i++) {
        if (strcmp(service->jobs[i]->id, job) == 0) {
            return service->jobs[i];
        }
    }
    return NULL;
}

static void load(struct rmj_service *service, struct live_job *live)
{
    struct rmj_error err = {0};
    ProtobufCMessage *progress = NULL;
    struct rmj_job_record record;
    rmjob__v1__progress__init(&live->progress);
    if (rmj_db_last_sequence(service->db, live->id, &live->sequence, &err) != RMJ_OK ||
        rmj_db_part(service->db, live->id, RMJ_JOB_PROGRESS, &progress, &err) != RMJ_OK) {
        // A job that is being submitted has nothing there yet.
        return;
    }
    if (rmj_db_record(service->db, live->id, &record, &err) == RMJ_OK) {
        live->state = record.state;
        live->told_generation = record.generation;
    }
    if (progress != NULL) {
        // Scalars only: a shallow copy is a whole one.
        live->progress = *(Rmjob__V1__Progress *)progress;
        live->progress.base.n_unknown_fields = 0;
        live->progress.base.unknown_fields = NULL;
        live->pairs_before = live->progress.pairs_consumed;
        protobuf_c_message_free_unpacked(progress, NULL);
    }
}

struct live_job *live_get(struct rmj_service *service, const char *job)
{
    struct live_job *live = live_find(service, job);
    if (live != NULL) {
        return live;
    }
    if (service->job_count == service->job_capacity) {
        service->job_capacity = service->job_capacity == 0 ? 16 : service->job_capacity * 2;
        service->jobs = realloc(service->jobs, service->job_capacity * sizeof(struct live_job *));
        RMJ_ASSERT(service->jobs != NULL);
    }
    live = calloc(1, sizeof *live);
    RMJ_ASSERT(live != NULL);
    snprintf(live->id, sizeof live->id, "%s", job);
    load(service, live);
    service->jobs[service->job_count++] = live;
    return live;
}

void live_forget(struct rmj_service *service, const char *job)
{
    for (size_t i = 0; i < service->job_count; i++) {
        if (strcmp(service->jobs[i]->id, job) == 0) {
            free(service->jobs[i]);
            service->jobs[i] = service->jobs[--service->job_count];
            return;
        }
    }
}

void live_tell(struct rmj_service *service, struct live_job *live, Rmjob__V1__EventKind kind, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
    event.has_sequence = event.has_unix_ms = event.has_kind = event.has_state = 1;
    event.sequence = ++live->sequence;
    event.unix_ms = rmj_clock_unix_ms();
    event.kind = kind;
    event.state = live->state;
    event.text = line;
    if (kind != RMJOB__V1__EVENT_KIND__NOTE) {
        event.progress = &live->progress;
    }
    rmj_batch_event(service->batch, live->id, &event);
}

static void update_ranks(struct rmj_service *service, struct live_job *live, const struct rmj_job_record *record)
{
    Rmjob__V1__Progress *progress = &live->progress;
    progress->has_generation = progress->has_ranks = progress->has_ranks_wanted = 1;
    progress->has_steps = progress->has_step = 1;
    progress->generation = record->generation;
    rmj_scheduler_ranks(service->scheduler, record->id, &progress->ranks, &progress->ranks_wanted);
    progress->steps = record->step_count;
    progress->step = record->step;
    progress->has_rank_seconds = progress->has_restarts_charged = 1;
    progress->rank_seconds = record->rank_seconds;
    progress->restarts_charged = record->restarts_charged;
    live->progress_dirty = 1;
}

void live_persist(struct rmj_service *service, const struct rmj_job_record *record)
{
    struct live_job *live = live_get(service, record->id);
    int final = rmj_job_state_final(record->state);
    rmj_batch_record(service->batch, record, final ? rmj_clock_unix_ms() : 0);
    update_ranks(service, live, record);
    if (live->state == record->state) {
        return;
    }
    live->state = record->state;
    live->progress_written_ms = 0;
    char reason[RMJ_REASON_SIZE];
    rmj_log(RMJ_LOG_INFO, "rmjobd", "event=state job=%s state=%s reason=\"%s\"", record->id,
            rmj_job_state_name(record->state), rmj_log_quote(reason, sizeof reason, record->reason));
    live_tell(service, live, RMJOB__V1__EVENT_KIND__STATE, "%s: %s", rmj_job_state_name(record->state), record->reason);
}

void live_note(struct rmj_service *service, const char *job, const char *reason)
{
    struct live_job *live = live_get(service, job);
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, job);
    if (record != NULL && strcmp(record->reason, reason) == 0) {
        return; // the state's own reason: told as STATE or GENERATION
    }
    snprintf(live->trouble, sizeof live->trouble, "%s", reason);
    if (live->trouble_ms == 0) {
        live->trouble_ms = rmj_clock_mono_ms();
    }
    live_tell(service, live, RMJOB__V1__EVENT_KIND__NOTE, "%s", reason);
}

void live_generation(struct rmj_service *service, const char *job, const struct rmj_assignment *assignment)
{
    static const char *const sources[] = {"the base model", "memory", "a checkpoint"};
    struct live_job *live = live_get(service, job);
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, job);
    if (record == NULL || assignment->generation <= live->told_generation) {
        return;
    }
    live->told_generation = assignment->generation;
    live->resume_generation = assignment->generation;
    live->resume_step = assignment->step;
    live->lost_step = record->step;
    update_ranks(service, live, record);
    live_tell(service, live, RMJOB__V1__EVENT_KIND__GENERATION, "generation %u: %u rank%s, %s from step %u (%s)",
              assignment->generation, assignment->world, assignment->world == 1 ? "" : "s",
              assignment->phase == RMJOB__V1__PHASE__EVALUATE ? "evaluating" : "training", assignment->step,
              sources[(size_t)assignment->source % RMJ_COUNT(sources)]);
}

// "rank process x was lost; going on after 0.8 s, 4 steps replayed; not charged". The scheduler's note is the first
// and the last part.
static void tell_recovery(struct rmj_service *service, struct live_job *live)
{
    uint32_t replayed = live->lost_step > live->resume_step ? live->lost_step - live->resume_step : 0;
    live->progress.has_replayed_steps = 1;
    live->progress.replayed_steps += replayed;
    // The first generation goes on after nothing: what was said before it was the queue's.
    if (live->trouble_ms != 0 && live->resume_generation > 1) {
        const char *rest = strchr(live->trouble, ';');
        int head = rest == NULL ? (int)strlen(live->trouble) : (int)(rest - live->trouble);
        live_tell(service, live, RMJOB__V1__EVENT_KIND__RANK, "%.*s; going on after %.1f s, %u step%s replayed%s", head,
                  live->trouble, (double)(rmj_clock_mono_ms() - live->trouble_ms) / 1000, replayed,
                  replayed == 1 ? "" : "s", rest == NULL ? "" : rest);
    }
    live->trouble_ms = 0;
    live->trouble[0] = '\0';
    live->resume_generation = 0;
}

static void take_measures(struct live_job *live, const Rmjob__V1__StepRequest *step)
{
    Rmjob__V1__Progress *p = &live->progress;
    p->has_loss = p->has_margin = p->has_accuracy = p->has_grad_norm = p->has_learning_rate = 1;
    p->loss = step->loss;
    p->margin = step->margin;
    p->accuracy = step->accuracy;
    p->grad_norm = step->grad_norm;
    p->learning_rate = step->learning_rate;
    live->step_seconds += step->seconds;
    live->stall_seconds += step->stall_seconds;
    if (step->seconds > 0) {
        p->has_tokens_per_second = p->has_pairs_per_second = p->has_stall_share = 1;
        p->tokens_per_second = (double)step->tokens / step->seconds;
        p->pairs_per_second = step->pairs_consumed > live->pairs_before
                                  ? (double)(step->pairs_consumed - live->pairs_before) / step->seconds
                                  : p->pairs_per_second;
        p->stall_share = live->stall_seconds / live->step_seconds;
    }
    live->pairs_before = step->pairs_consumed;
    p->has_pairs_consumed = 1;
    p->pairs_consumed = step->pairs_consumed;
}

void live_step(struct rmj_service *service, const Rmjob__V1__StepRequest *step, int known)
{
    struct live_job *live = live_get(service, step->job);
    const struct rmj_job_record *record = rmj_scheduler_job(service->scheduler, step->job);
    if (record == NULL || step->generation != record->generation) {
        return;
    }
    if (live->resume_generation != 0 && step->generation >= live->resume_generation) {
        tell_recovery(service, live);
    }
    take_measures(live, step);
    update_ranks(service, live, record);
    live->progress.step = step->step; // the scheduler hears of it next
    live_tell(service, live, RMJOB__V1__EVENT_KIND__STEP, "step %u/%u%s  loss %.4f  margin %.3f  accuracy %.3f",
              step->step, record->step_count, known ? " (replayed)" : "", step->loss, step->margin, step->accuracy);
}

void live_manifest(struct rmj_service *service, const Rmjob__V1__ManifestRequest *manifest)
{
    struct live_job *live = live_get(service, manifest->job);
    live->progress.has_checkpoint_step = live->progress.has_checkpoint_unix_ms = 1;
    live->progress.checkpoint_step = manifest->step;
    live->progress.checkpoint_unix_ms = rmj_clock_unix_ms();
    live->progress_dirty = 1;
    live->checkpoints_fail = 0; // a next problem is told again
    live_tell(service, live, RMJOB__V1__EVENT_KIND__CHECKPOINT, "checkpoint %u committed, %.1f MB of %.1f MB in %.2f s",
              manifest->step, (double)manifest->bytes_stored / 1e6, (double)manifest->bytes_raw / 1e6,
              manifest->seconds);
}

void live_preparing(struct rmj_service *service, const Rmjob__V1__PreparingRequest *preparing)
{
    struct live_job *live = live_get(service, preparing->job);
    if (preparing->resumed && live->prepare_told != live->prepare_attempts) {
        live->prepare_told = live->prepare_attempts;
        live_tell(service, live, RMJOB__V1__EVENT_KIND__NOTE,
                  "a preparation that was stopped is gone on with, at row %llu", (unsigned long long)preparing->rows);
    }
    live->progress.has_prepared_rows = live->progress.has_prepared_file = live->progress.has_prepared_files = 1;
    live->progress.prepared_rows = preparing->rows;
    live->progress.prepared_file = preparing->file;
    live->progress.prepared_files = preparing->files;
    live->progress_dirty = 1;
    live_tell(service, live, RMJOB__V1__EVENT_KIND__EVAL,
              preparing->writing ? "read %llu rows of %u files; writing the plan" : "read %llu rows, file %u of %u",
              (unsigned long long)preparing->rows, preparing->writing ? preparing->files : preparing->file,
              preparing->files);
}

void live_warn(struct rmj_service *service, const Rmjob__V1__WarnJobRequest *warned)
{
    live_tell(service, live_get(service, warned->job), RMJOB__V1__EVENT_KIND__NOTE, "data watch: %s",
              warned->reason == NULL ? "?" : warned->reason);
}

// Training goes on without checkpoints, but a person should know what a loss would cost.
static void tell_checkpoint_problem(struct rmj_service *service, struct live_job *live, const char *problem)
{
    if (live->checkpoints_fail || rmj_job_state_final(live->state)) {
        return;
    }
    live->checkpoints_fail = 1;
    live_tell(service, live, RMJOB__V1__EVENT_KIND__NOTE,
              "checkpoints do not reach the store: %s; training goes on, the newest checkpoint is of step %u", problem,
              live->progress.checkpoint_step);
}

void live_heartbeat(struct rmj_service *service, const Rmjob__V1__HeartbeatRequest *beat)
{
    struct live_job *live = live_find(service, beat->job);
    if (live != NULL && beat->checkpoint_problem != NULL && *beat->checkpoint_problem != '\0') {
        tell_checkpoint_problem(service, live, beat->checkpoint_problem);
    }
    if (live == NULL || live->state != RMJOB__V1__JOB_STATE__EVALUATING || beat->eval_total == 0 ||
        beat->eval_done <= live->progress.eval_done) {
        return;
    }
    live->progress.has_eval_done = live->progress.has_eval_total = 1;
    live->progress.eval_done = beat->eval_done;
    live->progress.eval_total = beat->eval_total;
    live->progress_dirty = 1;
    int64_t mono = rmj_clock_mono_ms();
    if (mono - live->eval_told_ms >= 1000 || beat->eval_done == beat->eval_total) {
        live->eval_told_ms = mono;
        live_tell(service, live, RMJOB__V1__EVENT_KIND__EVAL, "evaluated %u of %u packs", beat->eval_done,
                  beat->eval_total);
    }
}

void live_flush(struct rmj_service *service)
{
    int64_t mono = rmj_clock_mono_ms();
    for (size_t i = 0; i < service->job_count; i++) {
        struct live_job *live = service->jobs[i];
        // A job that was never written has no row to update.
        if (live->progress_dirty && live->sequence > 0 && mono - live->progress_written_ms >= PROGRESS_MS) {
            rmj_batch_part(service->batch, live->id, RMJ_JOB_PROGRESS, &live->progress.base);
            live->progress_dirty = 0;
            live->progress_written_ms = mono;
        }
    }
}
