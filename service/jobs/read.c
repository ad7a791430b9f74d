// Reading. Every function takes the reader's lock for as long as its statement runs, and copies out.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/jobs/db_internal.h"

#define JOBS_LIMIT_MAX 1000

const ProtobufCMessageDescriptor *const rmj_job_part_descriptors[RMJ_JOB_PART_COUNT] = {
    [RMJ_JOB_SPEC] = &rmjob__v1__job_spec__descriptor,
    [RMJ_JOB_PLAN] = &rmjob__v1__plan_summary__descriptor,
    [RMJ_JOB_DATA] = &rmjob__v1__data_report__descriptor,
    [RMJ_JOB_STAGED] = &rmjob__v1__evaluated_request__descriptor,
    [RMJ_JOB_REPORT] = &rmjob__v1__eval_report__descriptor,
    [RMJ_JOB_VERDICT] = &rmjob__v1__gate_verdict__descriptor,
    [RMJ_JOB_PROGRESS] = &rmjob__v1__progress__descriptor,
    [RMJ_JOB_EXPLAIN] = &rmjob__v1__validate_response__descriptor,
};

int rmj_job_state_final(Rmjob__V1__JobState state)
{
    return state >= RMJOB__V1__JOB_STATE__SUCCEEDED;
}

const char *rmj_job_state_name(Rmjob__V1__JobState state)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(&rmjob__v1__job_state__descriptor, state);
    return value == NULL ? "UNKNOWN" : value->name;
}

static sqlite3_stmt *begin(struct rmj_db *db, int statement)
{
    pthread_mutex_lock(&db->read_lock);
    return db->reads[statement];
}

static void end(struct rmj_db *db, sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    pthread_mutex_unlock(&db->read_lock);
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text == NULL ? "" : text, -1, SQLITE_TRANSIENT);
}

// RMJ_OK for a row, RMJ_NOT_FOUND for none.
static enum rmj_status next(struct rmj_db *db, sqlite3_stmt *statement, struct rmj_error *err)
{
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        return RMJ_OK;
    }
    return code == SQLITE_DONE ? RMJ_NOT_FOUND : db_fail(db->reader, code, "read", err);
}

static const char *column_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    return text == NULL ? "" : (const char *)text;
}

static void copy_text(char *out, size_t size, sqlite3_stmt *statement, int column)
{
    const char *text = column_text(statement, column);
    size_t length = strlen(text);
    length = length < size ? length : size - 1;
    memcpy(out, text, length);
    out[length] = '\0';
}

static char *duplicate(const char *text)
{
    char *copy = strdup(text);
    RMJ_ASSERT(copy != NULL);
    return copy;
}

static enum rmj_status unpack(sqlite3_stmt *statement, int column, const ProtobufCMessageDescriptor *descriptor,
                              ProtobufCMessage **message, struct rmj_error *err)
{
    *message = NULL;
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) {
        return RMJ_OK;
    }
    const void *bytes = sqlite3_column_blob(statement, column);
    size_t size = (size_t)sqlite3_column_bytes(statement, column);
    *message = protobuf_c_message_unpack(descriptor, NULL, size, bytes == NULL ? (const uint8_t *)"" : bytes);
    if (*message == NULL) {
        return rmj_fail(err, RMJ_CORRUPT, "database: a stored %s cannot be read; restore the file from a backup",
                        descriptor->short_name);
    }
    return RMJ_OK;
}

static void take_explanation(Rmjob__V1__Job *job, Rmjob__V1__ValidateResponse *explanation)
{
    if (explanation == NULL || explanation->n_findings == 0) {
        return;
    }
    job->explanation = calloc(explanation->n_findings, sizeof *job->explanation);
    RMJ_ASSERT(job->explanation != NULL);
    for (size_t i = 0; i < explanation->n_findings; i++) {
        const char *line = explanation->findings[i]->message;
        job->explanation[job->n_explanation++] = duplicate(line == NULL ? "" : line);
    }
}

static enum rmj_status fill_parts(sqlite3_stmt *row, Rmjob__V1__Job *job, struct rmj_error *err)
{
    ProtobufCMessage *explanation = NULL;
    RMJ_TRY(unpack(row, 8, &rmjob__v1__job_spec__descriptor, (ProtobufCMessage **)&job->spec, err));
    RMJ_TRY(unpack(row, 9, &rmjob__v1__progress__descriptor, (ProtobufCMessage **)&job->progress, err));
    RMJ_TRY(unpack(row, 10, &rmjob__v1__plan_summary__descriptor, (ProtobufCMessage **)&job->plan, err));
    RMJ_TRY(unpack(row, 11, &rmjob__v1__gate_verdict__descriptor, (ProtobufCMessage **)&job->verdict, err));
    RMJ_TRY(unpack(row, 12, &rmjob__v1__validate_response__descriptor, &explanation, err));
    take_explanation(job, (Rmjob__V1__ValidateResponse *)explanation);
    if (explanation != NULL) {
        protobuf_c_message_free_unpacked(explanation, NULL);
    }
    if (job->progress != NULL) {
        job->progress->has_rank_seconds = job->progress->has_restarts_charged = 1;
        job->progress->rank_seconds = sqlite3_column_double(row, 13);
        job->progress->restarts_charged = (uint32_t)sqlite3_column_int64(row, 14);
    }
    return RMJ_OK;
}

static enum rmj_status take_job(sqlite3_stmt *row, Rmjob__V1__Job **job_out, struct rmj_error *err)
{
    Rmjob__V1__Job *job = malloc(sizeof *job);
    RMJ_ASSERT(job != NULL);
    rmjob__v1__job__init(job);
    job->id = duplicate(column_text(row, 0));
    job->has_state = job->has_submitted_unix_ms = 1;
    job->state = (Rmjob__V1__JobState)sqlite3_column_int(row, 1);
    job->reason = duplicate(column_text(row, 2));
    job->submitted_unix_ms = sqlite3_column_int64(row, 3);
    job->finished_unix_ms = sqlite3_column_int64(row, 4);
    job->has_finished_unix_ms = job->finished_unix_ms != 0;
    job->spec_digest = duplicate(column_text(row, 5));
    if (sqlite3_column_type(row, 6) != SQLITE_NULL) {
        job->published_name = duplicate(column_text(row, 6));
        job->has_published_version = 1;
        job->published_version = (uint32_t)sqlite3_column_int64(row, 7);
    }
    enum rmj_status status = fill_parts(row, job, err);
    if (status != RMJ_OK) {
        rmjob__v1__job__free_unpacked(job, NULL);
        job = NULL;
    }
    *job_out = job;
    return status;
}

static enum rmj_status no_job(enum rmj_status status, const char *job, struct rmj_error *err)
{
    return status == RMJ_NOT_FOUND ? rmj_fail(err, RMJ_NOT_FOUND, "there is no job %s; see rmjob list", job) : status;
}

enum rmj_status rmj_db_job(struct rmj_db *db, const char *id, Rmjob__V1__Job **job, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_JOB);
    bind_text(statement, 1, id);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        status = take_job(statement, job, err);
    }
    end(db, statement);
    return no_job(status, id, err);
}

enum rmj_status rmj_db_jobs(struct rmj_db *db, const char *project, uint32_t limit,
                            Rmjob__V1__ListJobsResponse **jobs_out, struct rmj_error *err)
{
    limit = limit == 0 || limit > JOBS_LIMIT_MAX ? JOBS_LIMIT_MAX : limit;
    Rmjob__V1__ListJobsResponse *jobs = malloc(sizeof *jobs);
    RMJ_ASSERT(jobs != NULL);
    rmjob__v1__list_jobs_response__init(jobs);
    sqlite3_stmt *statement = begin(db, R_JOBS);
    bind_text(statement, 1, project);
    sqlite3_bind_int64(statement, 2, limit);
    enum rmj_status status;
    size_t capacity = 0;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        if (jobs->n_jobs == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            jobs->jobs = realloc(jobs->jobs, capacity * sizeof *jobs->jobs);
            RMJ_ASSERT(jobs->jobs != NULL);
        }
        status = take_job(statement, &jobs->jobs[jobs->n_jobs], err);
        if (status != RMJ_OK) {
            break;
        }
        jobs->n_jobs++;
    }
    end(db, statement);
    if (status != RMJ_NOT_FOUND) {
        rmjob__v1__list_jobs_response__free_unpacked(jobs, NULL);
        return status;
    }
    *jobs_out = jobs;
    return RMJ_OK;
}

static enum rmj_status take_record(sqlite3_stmt *row, struct rmj_job_record *record, struct rmj_error *err)
{
    const void *bytes = sqlite3_column_blob(row, 0);
    if (bytes == NULL || (size_t)sqlite3_column_bytes(row, 0) != sizeof *record) {
        return rmj_fail(err, RMJ_CONFLICT,
                        "database: a job's record was written by another build of rmjobd; run that one "
                        "until its jobs have ended, or another --state directory");
    }
    memcpy(record, bytes, sizeof *record);
    return RMJ_OK;
}

enum rmj_status rmj_db_record(struct rmj_db *db, const char *id, struct rmj_job_record *record, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_RECORD);
    bind_text(statement, 1, id);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        status = take_record(statement, record, err);
    }
    end(db, statement);
    return no_job(status, id, err);
}

enum rmj_status rmj_db_records(struct rmj_db *db, int unfinished_only, struct rmj_job_record **records_out,
                               size_t *count, struct rmj_error *err)
{
    struct rmj_job_record *records = NULL;
    size_t capacity = 0;
    *count = 0;
    sqlite3_stmt *statement = begin(db, R_RECORDS);
    sqlite3_bind_int(statement, 1, unfinished_only);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            records = realloc(records, capacity * sizeof *records);
            RMJ_ASSERT(records != NULL);
        }
        status = take_record(statement, &records[*count], err);
        if (status != RMJ_OK) {
            break;
        }
        (*count)++;
    }
    end(db, statement);
    if (status != RMJ_NOT_FOUND) {
        free(records);
        return status;
    }
    *records_out = records;
    return RMJ_OK;
}

enum rmj_status rmj_db_part(struct rmj_db *db, const char *job, enum rmj_job_part part, ProtobufCMessage **message,
                            struct rmj_error *err)
{
    *message = NULL;
    sqlite3_stmt *statement = begin(db, R_PART + (int)part);
    bind_text(statement, 1, job);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        status = unpack(statement, 0, rmj_job_part_descriptors[part], message, err);
    }
    end(db, statement);
    return no_job(status, job, err);
}

// The place as it is now; what is too long for `out` cannot have been written.
static void whole_place(const struct rmj_db *db, const char *kept, char out[RMJ_PLACE_SIZE])
{
    int own = strncmp(kept, DB_OWN_PLACE, strlen(DB_OWN_PLACE)) == 0;
    snprintf(out, RMJ_PLACE_SIZE, "%s%s", own ? db->directory : "", own ? kept + strlen(DB_OWN_PLACE) : kept);
}

enum rmj_status rmj_db_places(struct rmj_db *db, const char *job, struct rmj_job_places *places, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_PLACES);
    bind_text(statement, 1, job);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        copy_text(places->rank_token, sizeof places->rank_token, statement, 0);
        char kept[RMJ_PLACE_SIZE];
        copy_text(kept, sizeof kept, statement, 1);
        whole_place(db, kept, places->checkpoint_store);
        copy_text(kept, sizeof kept, statement, 2);
        whole_place(db, kept, places->publish_store);
        places->cleaned = sqlite3_column_int(statement, 3);
        places->state = (Rmjob__V1__JobState)sqlite3_column_int(statement, 4);
    }
    end(db, statement);
    return no_job(status, job, err);
}

enum rmj_status rmj_db_uncleaned(struct rmj_db *db, uint32_t limit, char (**jobs)[RMJ_ID_SIZE], size_t *count,
                                 struct rmj_error *err)
{
    char(*ids)[RMJ_ID_SIZE] = calloc(limit, sizeof *ids);
    RMJ_ASSERT(ids != NULL);
    *count = 0;
    sqlite3_stmt *statement = begin(db, R_UNCLEANED);
    sqlite3_bind_int64(statement, 1, limit);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK && *count < limit) {
        copy_text(ids[(*count)++], sizeof ids[0], statement, 0);
    }
    end(db, statement);
    if (status != RMJ_NOT_FOUND && status != RMJ_OK) {
        free(ids);
        return status;
    }
    *jobs = ids;
    return RMJ_OK;
}

enum rmj_status rmj_db_request(struct rmj_db *db, const char *request_id, char job[RMJ_ID_SIZE], struct rmj_error *err)
{
    job[0] = '\0';
    sqlite3_stmt *statement = begin(db, R_REQUEST);
    bind_text(statement, 1, request_id);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        copy_text(job, RMJ_ID_SIZE, statement, 0);
    }
    end(db, statement);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

enum rmj_status rmj_db_last_sequence(struct rmj_db *db, const char *job, uint64_t *sequence, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_LAST_SEQUENCE);
    bind_text(statement, 1, job);
    enum rmj_status status = next(db, statement, err);
    *sequence = status == RMJ_OK ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    end(db, statement);
    return status;
}

enum rmj_status rmj_db_events(struct rmj_db *db, const char *job, uint64_t after_sequence, uint32_t limit,
                              rmj_db_event_fn each, void *context, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_EVENTS);
    bind_text(statement, 1, job);
    sqlite3_bind_int64(statement, 2, (int64_t)after_sequence);
    sqlite3_bind_int64(statement, 3, limit);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        ProtobufCMessage *event = NULL;
        status = unpack(statement, 0, &rmjob__v1__event__descriptor, &event, err);
        if (status == RMJ_OK && event != NULL) {
            status = each(context, (Rmjob__V1__Event *)event, err);
            protobuf_c_message_free_unpacked(event, NULL);
        }
        if (status != RMJ_OK) {
            break;
        }
    }
    end(db, statement);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

static enum rmj_status differs(const Rmjob__V1__StepRequest *now, const Rmjob__V1__StepRequest *before,
                               struct rmj_error *err)
{
    return rmj_fail(err, RMJ_CONFLICT,
                    "determinism violation: step %u was replayed with other numbers: loss %.17g was %.17g, margin "
                    "%.17g was %.17g, gradient norm %.17g was %.17g",
                    now->step, now->loss, before->loss, now->margin, before->margin, now->grad_norm, before->grad_norm);
}

enum rmj_status rmj_db_check_step(struct rmj_db *db, const Rmjob__V1__StepRequest *step, int *known,
                                  struct rmj_error *err)
{
    *known = 0;
    Rmjob__V1__StepRequest facts;
    db_step_facts(step, &facts);
    size_t size = 0;
    void *bytes = db_pack(&facts.base, &size);
    sqlite3_stmt *statement = begin(db, R_STEP);
    bind_text(statement, 1, step->job);
    sqlite3_bind_int64(statement, 2, step->step);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        *known = 1;
        ProtobufCMessage *before = NULL;
        size_t before_size = (size_t)sqlite3_column_bytes(statement, 0);
        if (before_size != size || memcmp(sqlite3_column_blob(statement, 0), bytes, size) != 0) {
            status = unpack(statement, 0, &rmjob__v1__step_request__descriptor, &before, err);
            status = status == RMJ_OK ? differs(step, (Rmjob__V1__StepRequest *)before, err) : status;
        }
        if (before != NULL) {
            protobuf_c_message_free_unpacked(before, NULL);
        }
    }
    end(db, statement);
    free(bytes);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

enum rmj_status rmj_db_launches(struct rmj_db *db, struct rmj_launch_row **rows_out, size_t *count,
                                struct rmj_error *err)
{
    struct rmj_launch_row *rows = NULL;
    size_t capacity = 0;
    *count = 0;
    sqlite3_stmt *statement = begin(db, R_LAUNCHES);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        if (*count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            rows = realloc(rows, capacity * sizeof *rows);
            RMJ_ASSERT(rows != NULL);
        }
        struct rmj_launch_row *row = &rows[(*count)++];
        copy_text(row->launch, sizeof row->launch, statement, 0);
        copy_text(row->job, sizeof row->job, statement, 1);
        row->pid = sqlite3_column_int(statement, 2);
        row->start_time = (uint64_t)sqlite3_column_int64(statement, 3);
        row->is_task = sqlite3_column_int(statement, 4);
    }
    end(db, statement);
    if (status != RMJ_NOT_FOUND) {
        free(rows);
        return status;
    }
    *rows_out = rows;
    return RMJ_OK;
}

enum rmj_status rmj_db_policy(struct rmj_db *db, const char *project, Rmjob__V1__Policy **policy, struct rmj_error *err)
{
    *policy = NULL;
    sqlite3_stmt *statement = begin(db, R_POLICY);
    bind_text(statement, 1, project);
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        status = unpack(statement, 0, &rmjob__v1__policy__descriptor, (ProtobufCMessage **)policy, err);
    }
    end(db, statement);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

enum rmj_status rmj_db_policies(struct rmj_db *db,
                                enum rmj_status (*each)(void *context, const Rmjob__V1__Policy *policy), void *context,
                                struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_POLICIES);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        ProtobufCMessage *policy = NULL;
        status = unpack(statement, 0, &rmjob__v1__policy__descriptor, &policy, err);
        if (status == RMJ_OK && policy != NULL) {
            status = each(context, (Rmjob__V1__Policy *)policy);
            protobuf_c_message_free_unpacked(policy, NULL);
        }
        if (status != RMJ_OK) {
            break;
        }
    }
    end(db, statement);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

static Rmjob__V1__Model *model_called(Rmjob__V1__ListModelsResponse *models, const char *name)
{
    for (size_t i = 0; i < models->n_models; i++) {
        if (strcmp(models->models[i]->name, name) == 0) {
            return models->models[i];
        }
    }
    models->models = realloc(models->models, (models->n_models + 1) * sizeof *models->models);
    Rmjob__V1__Model *model = malloc(sizeof *model);
    RMJ_ASSERT(models->models != NULL && model != NULL);
    rmjob__v1__model__init(model);
    model->name = duplicate(name);
    models->models[models->n_models++] = model;
    return model;
}

static void place_version(const struct rmj_db *db, Rmjob__V1__ModelVersion *version)
{
    char whole[RMJ_PLACE_SIZE];
    if (version != NULL && version->store != NULL) {
        whole_place(db, version->store, whole);
        free(version->store);
        version->store = duplicate(whole);
    }
}

static void take_version(const struct rmj_db *db, Rmjob__V1__ListModelsResponse *models, ProtobufCMessage *message)
{
    Rmjob__V1__ModelVersion *version = (Rmjob__V1__ModelVersion *)message;
    place_version(db, version);
    Rmjob__V1__Model *model = model_called(models, version->name);
    model->versions = realloc(model->versions, (model->n_versions + 1) * sizeof *model->versions);
    RMJ_ASSERT(model->versions != NULL);
    model->versions[model->n_versions++] = version;
}

static void take_alias(const struct rmj_db *db, Rmjob__V1__ListModelsResponse *models, ProtobufCMessage *message)
{
    (void)db;
    Rmjob__V1__Alias *alias = (Rmjob__V1__Alias *)message;
    Rmjob__V1__Model *model = model_called(models, alias->name);
    model->aliases = realloc(model->aliases, (model->n_aliases + 1) * sizeof *model->aliases);
    RMJ_ASSERT(model->aliases != NULL);
    model->aliases[model->n_aliases++] = alias;
}

static enum rmj_status read_models(struct rmj_db *db, enum read_statement which, const char *name,
                                   const ProtobufCMessageDescriptor *descriptor,
                                   void (*take)(const struct rmj_db *db, Rmjob__V1__ListModelsResponse *models,
                                                ProtobufCMessage *message),
                                   Rmjob__V1__ListModelsResponse *models, struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, which);
    bind_text(statement, 1, name);
    enum rmj_status status;
    while ((status = next(db, statement, err)) == RMJ_OK) {
        ProtobufCMessage *message = NULL;
        status = unpack(statement, 0, descriptor, &message, err);
        if (status != RMJ_OK || message == NULL) {
            break;
        }
        take(db, models, message);
    }
    end(db, statement);
    return status == RMJ_NOT_FOUND ? RMJ_OK : status;
}

enum rmj_status rmj_db_models(struct rmj_db *db, const char *name, Rmjob__V1__ListModelsResponse **models_out,
                              struct rmj_error *err)
{
    Rmjob__V1__ListModelsResponse *models = malloc(sizeof *models);
    RMJ_ASSERT(models != NULL);
    rmjob__v1__list_models_response__init(models);
    enum rmj_status status =
        read_models(db, R_VERSIONS, name, &rmjob__v1__model_version__descriptor, take_version, models, err);
    if (status == RMJ_OK) {
        status = read_models(db, R_ALIASES, name, &rmjob__v1__alias__descriptor, take_alias, models, err);
    }
    if (status != RMJ_OK) {
        rmjob__v1__list_models_response__free_unpacked(models, NULL);
        return status;
    }
    *models_out = models;
    return RMJ_OK;
}

enum rmj_status rmj_db_version(struct rmj_db *db, const char *name, uint32_t version, Rmjob__V1__ModelVersion **found,
                               struct rmj_error *err)
{
    *found = NULL;
    sqlite3_stmt *statement = begin(db, version == 0 ? R_NEWEST_VERSION : R_VERSION);
    bind_text(statement, 1, name);
    if (version != 0) {
        sqlite3_bind_int64(statement, 2, version);
    }
    enum rmj_status status = next(db, statement, err);
    if (status == RMJ_OK) {
        status = unpack(statement, 0, &rmjob__v1__model_version__descriptor, (ProtobufCMessage **)found, err);
        place_version(db, *found);
    }
    end(db, statement);
    if (status == RMJ_NOT_FOUND && version == 0) {
        return rmj_fail(err, RMJ_NOT_FOUND, "there is no published model %s; see rmjob models", name);
    }
    return status == RMJ_NOT_FOUND
               ? rmj_fail(err, RMJ_NOT_FOUND, "model %s has no version %u; see rmjob models", name, version)
               : status;
}

enum rmj_status rmj_db_alias(struct rmj_db *db, const char *name, const char *alias, uint32_t *version,
                             struct rmj_error *err)
{
    sqlite3_stmt *statement = begin(db, R_ALIAS);
    bind_text(statement, 1, name);
    bind_text(statement, 2, alias);
    enum rmj_status status = next(db, statement, err);
    *version = status == RMJ_OK ? (uint32_t)sqlite3_column_int64(statement, 0) : 0;
    end(db, statement);
    return status == RMJ_NOT_FOUND
               ? rmj_fail(err, RMJ_NOT_FOUND, "model %s has no alias %s; see rmjob models", name, alias)
               : status;
}
