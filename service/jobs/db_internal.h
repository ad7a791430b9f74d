// What db.c, batch.c and read.c share.
#ifndef RMJ_SERVICE_JOBS_DB_INTERNAL_H
#define RMJ_SERVICE_JOBS_DB_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "service/jobs/db.h"

// Prepared when the file is opened; tables of SQL text in db.c, by these numbers.
enum write_statement {
    W_NEW_JOB,
    W_NEW_REQUEST,
    W_RECORD,
    W_PART, // RMJ_JOB_PART_COUNT statements from here
    W_PART_LAST = W_PART + RMJ_JOB_PART_COUNT - 1,
    W_PUBLISHED,
    W_CLEANED,
    W_EVENT,
    W_TRIM_EVENTS,
    W_STEP,
    W_LAUNCH,
    W_LAUNCH_GONE,
    W_POLICY,
    W_VERSION,
    W_ALIAS,
    W_COUNT
};

enum read_statement {
    R_JOB,
    R_JOBS,
    R_RECORD,
    R_RECORDS,
    R_PART,
    R_PART_LAST = R_PART + RMJ_JOB_PART_COUNT - 1,
    R_PLACES,
    R_UNCLEANED,
    R_REQUEST,
    R_LAST_SEQUENCE,
    R_EVENTS,
    R_STEP,
    R_LAUNCHES,
    R_POLICY,
    R_POLICIES,
    R_VERSIONS,
    R_VERSION,
    R_NEWEST_VERSION,
    R_ALIASES,
    R_ALIAS,
    R_COUNT
};

struct rmj_db {
    char *directory; // that the file is in, with a '/' behind it; immutable
    pthread_mutex_t write_lock;
    sqlite3 *writer;               // write_lock
    sqlite3_stmt *writes[W_COUNT]; // write_lock
    pthread_mutex_t read_lock;
    sqlite3 *reader;              // read_lock
    sqlite3_stmt *reads[R_COUNT]; // read_lock
};

enum value_kind { VALUE_NULL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_BLOB };
struct value {
    enum value_kind kind;
    int64_t integer;
    double real;
    void *bytes; // TEXT and BLOB; owned by the batch
    size_t size;
};

#define WRITE_VALUES_MAX 32
struct write {
    enum write_statement statement;
    size_t value_count;
    struct value *values;
};

struct rmj_batch {
    struct write *items;
    size_t count, capacity;
};

// What stands for the folder of the database in a place. No place of a spec begins with it: those are whole paths or
// URLs.
#define DB_OWN_PLACE "state:"

// Status class of an SQLite result, with SQLite's own words.
enum rmj_status db_fail(sqlite3 *handle, int code, const char *what, struct rmj_error *err);
extern const ProtobufCMessageDescriptor *const rmj_job_part_descriptors[RMJ_JOB_PART_COUNT];
// The step without what may differ when it is replayed: generation, times, passes. Shallow.
void db_step_facts(const Rmjob__V1__StepRequest *step, Rmjob__V1__StepRequest *facts);
// A packed message in protobuf_c's memory; *size of it. Never NULL.
void *db_pack(const ProtobufCMessage *message, size_t *size);

#endif
