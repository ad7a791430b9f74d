// The memory of rmjobd: one SQLite file (WAL, synchronous=FULL) with jobs, events, rank processes, step metrics,
// policies and the registry's index.
//
// There is one way to write: a batch of writes is put together in memory and applied as one transaction. Either all of
// it is on disk when rmj_db_apply returns RMJ_OK, or none of it is. The batch is left as it was, so that a caller may
// try again once the disk has room. Whoever announces something applies it first.
//
// Threads: any; writers and readers have a connection and a lock each, so a reader never waits for a disk flush.
#ifndef RMJ_SERVICE_JOBS_DB_H
#define RMJ_SERVICE_JOBS_DB_H

#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "proto/rmjob/v1/registry.pb-c.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "service/scheduler/scheduler.h"

// Bumped with the tables; an older file is migrated step by step, a newer one is refused.
#define RMJ_DB_SCHEMA_VERSION 1
// Events of progress (STEP; EVAL: preparation, evaluation) kept of each kind for each job; others are kept for ever.
#define RMJ_DB_PROGRESS_EVENTS_MAX 512
#define RMJ_DB_TOKEN_SIZE 65
// Of a store's path or URL. A spec holds at most 1000 bytes; a state directory less, as its socket's path must fit.
#define RMJ_PLACE_SIZE 1280
#define RMJ_DB_BATCH_MAX 4096

struct rmj_db;
struct rmj_batch;

// Makes the file (mode 0600) or checks and migrates it. Errors: RMJ_CONFLICT (schema of a newer rmjob), RMJ_CORRUPT,
// RMJ_DENIED, RMJ_FULL, RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_db_open(struct rmj_db **db, const char *path, struct rmj_error *err);
void rmj_db_close(struct rmj_db *db);

// ---- writing ----

struct rmj_batch *rmj_batch_create(void);
void rmj_batch_destroy(struct rmj_batch *batch);
void rmj_batch_clear(struct rmj_batch *batch);
size_t rmj_batch_count(const struct rmj_batch *batch);
// Applies all writes in one transaction. Fault points: db.write before the commit, db.committed after it. Errors:
// RMJ_CONFLICT (a row of that name exists), RMJ_FULL (disk), RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_db_apply(struct rmj_db *db, const struct rmj_batch *batch, struct rmj_error *err);

// What a job is born with.
struct rmj_new_job {
    const struct rmj_job_record *record;
    const Rmjob__V1__JobSpec *spec; // pinned, defaults filled in
    const char *spec_digest;
    const char *request_id; // NULL: none
    const char *rank_token;
    const char *checkpoint_store, *publish_store;
    const Rmjob__V1__PlanSummary *pinned; // NULL: none
};
void rmj_batch_new_job(struct rmj_batch *batch, const struct rmj_new_job *job);
// The scheduler's record, as a whole. finished_ms: 0 while the job goes on.
void rmj_batch_record(struct rmj_batch *batch, const struct rmj_job_record *record, int64_t finished_ms);

// Messages kept beside a job.
enum rmj_job_part {
    RMJ_JOB_SPEC,     // JobSpec
    RMJ_JOB_PLAN,     // PlanSummary
    RMJ_JOB_DATA,     // DataReport
    RMJ_JOB_STAGED,   // EvaluatedRequest: what the ranks delivered
    RMJ_JOB_REPORT,   // EvalReport made from the raw scores
    RMJ_JOB_VERDICT,  // GateVerdict
    RMJ_JOB_PROGRESS, // Progress
    RMJ_JOB_EXPLAIN,  // ValidateResponse: one finding a line of the explanation
    RMJ_JOB_PART_COUNT
};
void rmj_batch_part(struct rmj_batch *batch, const char *job, enum rmj_job_part part, const ProtobufCMessage *message);
void rmj_batch_published(struct rmj_batch *batch, const char *job, const char *name, uint32_t version);
// The staged objects of the job are gone (or never were).
void rmj_batch_cleaned(struct rmj_batch *batch, const char *job);
// event->sequence must be set; old STEP events go.
void rmj_batch_event(struct rmj_batch *batch, const char *job, const Rmjob__V1__Event *event);
// A committed step; the first one stays.
void rmj_batch_step(struct rmj_batch *batch, const char *job, const Rmjob__V1__StepRequest *step);

// A process that was started for a job. start_time: /proc/<pid>/stat, field 22.
struct rmj_launch_row {
    char job[RMJ_ID_SIZE];
    char launch[RMJ_ID_SIZE];
    int32_t pid;
    uint64_t start_time;
    int is_task; // prepare, not a rank
};
void rmj_batch_launch(struct rmj_batch *batch, const struct rmj_launch_row *row);
void rmj_batch_launch_gone(struct rmj_batch *batch, const char *launch);

void rmj_batch_policy(struct rmj_batch *batch, const Rmjob__V1__Policy *policy);
// Index of the registry; the store's version object is the truth. Written again: the same.
void rmj_batch_version(struct rmj_batch *batch, const Rmjob__V1__ModelVersion *version);
void rmj_batch_alias(struct rmj_batch *batch, const Rmjob__V1__Alias *alias);

// Stores below the folder that the database is in are written relative to it ("state:artifacts"), so that the folder
// can be moved as one. Whoever writes a place passes it through this; whatever is read here is whole again. kept: at
// least RMJ_PLACE_SIZE.
void rmj_db_place_keep(const struct rmj_db *db, const char *place, char *kept);

// ---- reading ----

// RMJ_NOT_FOUND names the job. *job: free with rmjob__v1__job__free_unpacked.
RMJ_MUST_USE enum rmj_status rmj_db_job(struct rmj_db *db, const char *id, Rmjob__V1__Job **job, struct rmj_error *err);
// Newest first; project NULL or "": all.
RMJ_MUST_USE enum rmj_status rmj_db_jobs(struct rmj_db *db, const char *project, uint32_t limit,
                                         Rmjob__V1__ListJobsResponse **jobs, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_db_record(struct rmj_db *db, const char *id, struct rmj_job_record *record,
                                           struct rmj_error *err);
// Records of every job, oldest first; free() *records. unfinished_only: without those in a final state.
RMJ_MUST_USE enum rmj_status rmj_db_records(struct rmj_db *db, int unfinished_only, struct rmj_job_record **records,
                                            size_t *count, struct rmj_error *err);
// *message NULL when the part is not there yet; RMJ_NOT_FOUND when the job is not.
RMJ_MUST_USE enum rmj_status rmj_db_part(struct rmj_db *db, const char *job, enum rmj_job_part part,
                                         ProtobufCMessage **message, struct rmj_error *err);
struct rmj_job_places {
    char rank_token[RMJ_DB_TOKEN_SIZE];
    char checkpoint_store[RMJ_PLACE_SIZE], publish_store[RMJ_PLACE_SIZE];
    int cleaned;
    Rmjob__V1__JobState state;
};
RMJ_MUST_USE enum rmj_status rmj_db_places(struct rmj_db *db, const char *job, struct rmj_job_places *places,
                                           struct rmj_error *err);
// Ids of jobs that ended and whose staged objects are not known to be gone; free() *jobs.
RMJ_MUST_USE enum rmj_status rmj_db_uncleaned(struct rmj_db *db, uint32_t limit, char (**jobs)[RMJ_ID_SIZE],
                                              size_t *count, struct rmj_error *err);
// Job of a request id; "" when it is new.
RMJ_MUST_USE enum rmj_status rmj_db_request(struct rmj_db *db, const char *request_id, char job[RMJ_ID_SIZE],
                                            struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_db_last_sequence(struct rmj_db *db, const char *job, uint64_t *sequence,
                                                  struct rmj_error *err);
typedef enum rmj_status (*rmj_db_event_fn)(void *context, const Rmjob__V1__Event *event, struct rmj_error *err);
// At most `limit` events after a number, in order.
RMJ_MUST_USE enum rmj_status rmj_db_events(struct rmj_db *db, const char *job, uint64_t after_sequence, uint32_t limit,
                                           rmj_db_event_fn each, void *context, struct rmj_error *err);
// RMJ_CONFLICT when the step was committed before with other numbers: a determinism violation, named in err.
// *known: 1 when it was committed before, equal.
RMJ_MUST_USE enum rmj_status rmj_db_check_step(struct rmj_db *db, const Rmjob__V1__StepRequest *step, int *known,
                                               struct rmj_error *err);
// Processes not known to be gone; free() *rows.
RMJ_MUST_USE enum rmj_status rmj_db_launches(struct rmj_db *db, struct rmj_launch_row **rows, size_t *count,
                                             struct rmj_error *err);
// *policy NULL when the project has none.
RMJ_MUST_USE enum rmj_status rmj_db_policy(struct rmj_db *db, const char *project, Rmjob__V1__Policy **policy,
                                           struct rmj_error *err);
// Every stored policy, for the scheduler's limits after a restart.
RMJ_MUST_USE enum rmj_status rmj_db_policies(struct rmj_db *db,
                                             enum rmj_status (*each)(void *context, const Rmjob__V1__Policy *policy),
                                             void *context, struct rmj_error *err);
// name NULL or "": every model.
RMJ_MUST_USE enum rmj_status rmj_db_models(struct rmj_db *db, const char *name, Rmjob__V1__ListModelsResponse **models,
                                           struct rmj_error *err);
// Of name: the version, or the newest when version is 0. RMJ_NOT_FOUND.
RMJ_MUST_USE enum rmj_status rmj_db_version(struct rmj_db *db, const char *name, uint32_t version,
                                            Rmjob__V1__ModelVersion **found, struct rmj_error *err);
// RMJ_NOT_FOUND.
RMJ_MUST_USE enum rmj_status rmj_db_alias(struct rmj_db *db, const char *name, const char *alias, uint32_t *version,
                                          struct rmj_error *err);
// 1 for the states that a job never leaves.
int rmj_job_state_final(Rmjob__V1__JobState state);
// "TRAINING".
const char *rmj_job_state_name(Rmjob__V1__JobState state);

#endif
