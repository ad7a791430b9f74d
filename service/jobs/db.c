// Opening, schema and the one transaction.
//
// A schema change adds one entry to `migrations`; entries are never edited once released.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/fs.h"
#include "service/jobs/db_internal.h"

#define BUSY_TIMEOUT_MS 5000
// Kept small: rmjobd has to stay under 32 MB.
#define CACHE_KIB 512

static const char *const migrations[RMJ_DB_SCHEMA_VERSION] = {
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " state INTEGER NOT NULL, reason TEXT NOT NULL, submitted_ms INTEGER NOT NULL, rank_seconds REAL NOT NULL,"
    " restarts_charged INTEGER NOT NULL, record BLOB NOT NULL, finished_ms INTEGER NOT NULL DEFAULT 0,"
    " spec_digest TEXT NOT NULL, rank_token TEXT NOT NULL, checkpoint_store TEXT NOT NULL,"
    " publish_store TEXT NOT NULL, cleaned INTEGER NOT NULL DEFAULT 0, published_name TEXT, published_version INTEGER,"
    " part_spec BLOB, part_plan BLOB, part_data BLOB, part_staged BLOB, part_report BLOB, part_verdict BLOB,"
    " part_progress BLOB, part_explain BLOB) STRICT;"
    "CREATE INDEX jobs_state ON jobs(state);"
    "CREATE TABLE requests (request_id TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs(id)) STRICT;"
    "CREATE TABLE events (job TEXT NOT NULL REFERENCES jobs(id), sequence INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " body BLOB NOT NULL, PRIMARY KEY (job, sequence)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX events_kind ON events(job, kind, sequence);"
    "CREATE TABLE steps (job TEXT NOT NULL REFERENCES jobs(id), step INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (job, step)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE launches (launch TEXT PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs(id), pid INTEGER NOT NULL,"
    " start_time INTEGER NOT NULL, is_task INTEGER NOT NULL) STRICT;"
    "CREATE TABLE policies (project TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;"
    "CREATE TABLE versions (name TEXT NOT NULL, version INTEGER NOT NULL, job TEXT NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (name, version)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE aliases (name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (name, alias), FOREIGN KEY (name, version) REFERENCES versions(name, version)) STRICT,"
    " WITHOUT ROWID;",
};

static const char *const write_sql[W_COUNT] = {
    [W_NEW_JOB] = "INSERT INTO jobs (id, project, state, reason, submitted_ms, rank_seconds, restarts_charged, record,"
                  " spec_digest, rank_token, checkpoint_store, publish_store, part_spec, part_plan)"
                  " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [W_NEW_REQUEST] = "INSERT INTO requests (request_id, job) VALUES (?,?)",
    [W_RECORD] = "UPDATE jobs SET project=?2, state=?3, reason=?4, submitted_ms=?5, rank_seconds=?6,"
                 " restarts_charged=?7, record=?8, finished_ms=?9 WHERE id=?1",
    [W_PART + RMJ_JOB_SPEC] = "UPDATE jobs SET part_spec=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_PLAN] = "UPDATE jobs SET part_plan=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_DATA] = "UPDATE jobs SET part_data=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_STAGED] = "UPDATE jobs SET part_staged=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_REPORT] = "UPDATE jobs SET part_report=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_VERDICT] = "UPDATE jobs SET part_verdict=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_PROGRESS] = "UPDATE jobs SET part_progress=?2 WHERE id=?1",
    [W_PART + RMJ_JOB_EXPLAIN] = "UPDATE jobs SET part_explain=?2 WHERE id=?1",
    [W_PUBLISHED] = "UPDATE jobs SET published_name=?2, published_version=?3 WHERE id=?1",
    [W_CLEANED] = "UPDATE jobs SET cleaned=1 WHERE id=?1",
    [W_EVENT] = "INSERT INTO events (job, sequence, kind, body) VALUES (?,?,?,?)",
    [W_TRIM_EVENTS] = "DELETE FROM events WHERE job=?1 AND kind=?2 AND sequence <= (SELECT sequence FROM events"
                      " WHERE job=?1 AND kind=?2 ORDER BY sequence DESC LIMIT 1 OFFSET ?3)",
    [W_STEP] = "INSERT INTO steps (job, step, body) VALUES (?,?,?) ON CONFLICT DO NOTHING",
    [W_LAUNCH] = "INSERT INTO launches (launch, job, pid, start_time, is_task) VALUES (?,?,?,?,?)"
                 " ON CONFLICT(launch) DO UPDATE SET pid=excluded.pid, start_time=excluded.start_time",
    [W_LAUNCH_GONE] = "DELETE FROM launches WHERE launch=?",
    [W_POLICY] = "INSERT INTO policies (project, body) VALUES (?,?)"
                 " ON CONFLICT(project) DO UPDATE SET body=excluded.body",
    [W_VERSION] = "INSERT INTO versions (name, version, job, body) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
    [W_ALIAS] = "INSERT INTO aliases (name, alias, version, body) VALUES (?,?,?,?)"
                " ON CONFLICT(name, alias) DO UPDATE SET version=excluded.version, body=excluded.body",
};

#define JOB_COLUMNS                                                                                                    \
    "id, state, reason, submitted_ms, finished_ms, spec_digest, published_name, published_version, part_spec,"         \
    " part_progress, part_plan, part_verdict, part_explain, rank_seconds, restarts_charged"

static const char *const read_sql[R_COUNT] = {
    [R_JOB] = "SELECT " JOB_COLUMNS " FROM jobs WHERE id=?",
    [R_JOBS] = "SELECT " JOB_COLUMNS " FROM jobs WHERE ?1='' OR project=?1 ORDER BY number DESC LIMIT ?2",
    [R_RECORD] = "SELECT record FROM jobs WHERE id=?",
    [R_RECORDS] = "SELECT record FROM jobs WHERE ?1=0 OR state<8 ORDER BY number",
    [R_PART + RMJ_JOB_SPEC] = "SELECT part_spec FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_PLAN] = "SELECT part_plan FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_DATA] = "SELECT part_data FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_STAGED] = "SELECT part_staged FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_REPORT] = "SELECT part_report FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_VERDICT] = "SELECT part_verdict FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_PROGRESS] = "SELECT part_progress FROM jobs WHERE id=?",
    [R_PART + RMJ_JOB_EXPLAIN] = "SELECT part_explain FROM jobs WHERE id=?",
    [R_PLACES] = "SELECT rank_token, checkpoint_store, publish_store, cleaned, state FROM jobs WHERE id=?",
    [R_UNCLEANED] = "SELECT id FROM jobs WHERE state>=8 AND cleaned=0 ORDER BY number LIMIT ?",
    [R_REQUEST] = "SELECT job FROM requests WHERE request_id=?",
    [R_LAST_SEQUENCE] = "SELECT coalesce(max(sequence), 0) FROM events WHERE job=?",
    [R_EVENTS] = "SELECT body FROM events WHERE job=? AND sequence>? ORDER BY sequence LIMIT ?",
    [R_STEP] = "SELECT body FROM steps WHERE job=? AND step=?",
    [R_LAUNCHES] = "SELECT launch, job, pid, start_time, is_task FROM launches ORDER BY launch",
    [R_POLICY] = "SELECT body FROM policies WHERE project=?",
    [R_POLICIES] = "SELECT body FROM policies ORDER BY project",
    [R_VERSIONS] = "SELECT body FROM versions WHERE ?1='' OR name=?1 ORDER BY name, version",
    [R_VERSION] = "SELECT body FROM versions WHERE name=? AND version=?",
    [R_NEWEST_VERSION] = "SELECT body FROM versions WHERE name=? ORDER BY version DESC LIMIT 1",
    [R_ALIASES] = "SELECT body FROM aliases WHERE ?1='' OR name=?1 ORDER BY name, alias",
    [R_ALIAS] = "SELECT version FROM aliases WHERE name=? AND alias=?",
};
_Static_assert(RMJOB__V1__JOB_STATE__SUCCEEDED == 8, "states from 8 on are final: R_RECORDS");

enum rmj_status db_fail(sqlite3 *handle, int code, const char *what, struct rmj_error *err)
{
    static const struct {
        int code;
        enum rmj_status status;
        const char *mend;
    } classes[] = {
        {SQLITE_FULL, RMJ_FULL, "; the disk is full: make room, nothing was changed"},
        {SQLITE_CONSTRAINT, RMJ_CONFLICT, ""},
        {SQLITE_CORRUPT, RMJ_CORRUPT, "; restore the file from a backup"},
        {SQLITE_NOTADB, RMJ_CORRUPT, "; move the file away"},
        {SQLITE_READONLY, RMJ_DENIED, "; rmjobd must be able to write it"},
        {SQLITE_CANTOPEN, RMJ_DENIED, "; rmjobd must be able to open it"},
        {SQLITE_PERM, RMJ_DENIED, ""},
        {SQLITE_NOMEM, RMJ_NO_MEMORY, ""},
        {SQLITE_BUSY, RMJ_AGAIN, "; another program holds it"},
    };
    const char *words = handle == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(handle);
    for (size_t i = 0; i < RMJ_COUNT(classes); i++) {
        if ((code & 0xff) == classes[i].code) {
            return rmj_fail_origin(err, classes[i].status, "sqlite", code, "database: %s: %s%s", what, words,
                                   classes[i].mend);
        }
    }
    return rmj_fail_origin(err, RMJ_IO, "sqlite", code, "database: %s: %s", what, words);
}

static enum rmj_status execute(sqlite3 *handle, const char *sql, struct rmj_error *err)
{
    int code = sqlite3_exec(handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? RMJ_OK : db_fail(handle, code, "prepare the file", err);
}

static enum rmj_status open_handle(sqlite3 **handle, const char *path, struct rmj_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int code = sqlite3_open_v2(path, handle, flags, NULL);
    if (code != SQLITE_OK) {
        return db_fail(*handle, code, path, err);
    }
    sqlite3_extended_result_codes(*handle, 1);
    sqlite3_busy_timeout(*handle, BUSY_TIMEOUT_MS);
    char sql[160];
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-%d",
             CACHE_KIB);
    return execute(*handle, sql, err);
}

static enum rmj_status schema_version(sqlite3 *handle, int *version, struct rmj_error *err)
{
    RMJ_TRY(execute(handle, "CREATE TABLE IF NOT EXISTS schema (version INTEGER NOT NULL) STRICT", err));
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(handle, "SELECT coalesce(max(version), 0) FROM schema", -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
        *version = sqlite3_column_int(statement, 0);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? RMJ_OK : db_fail(handle, code, "read the schema's version", err);
}

static enum rmj_status migrate(sqlite3 *handle, const char *path, struct rmj_error *err)
{
    int version = 0;
    RMJ_TRY(schema_version(handle, &version, err));
    if (version > RMJ_DB_SCHEMA_VERSION) {
        return rmj_fail(err, RMJ_CONFLICT,
                        "%s has schema version %d, this rmjobd knows up to %d; run the newer rmjobd, or another "
                        "--state directory",
                        path, version, RMJ_DB_SCHEMA_VERSION);
    }
    for (; version < RMJ_DB_SCHEMA_VERSION; version++) {
        char done[80];
        snprintf(done, sizeof done, "INSERT INTO schema (version) VALUES (%d)", version + 1);
        RMJ_TRY(execute(handle, "BEGIN IMMEDIATE", err));
        enum rmj_status status = execute(handle, migrations[version], err);
        if (status == RMJ_OK) {
            status = execute(handle, done, err);
        }
        if (status == RMJ_OK && rmj_fault_point("db.write")) {
            status = rmj_fail(err, RMJ_IO, "database: the write failed (fault point db.write)");
        }
        if (status == RMJ_OK) {
            status = execute(handle, "COMMIT", err);
        }
        if (status != RMJ_OK) {
            sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
            return status;
        }
    }
    return RMJ_OK;
}

static enum rmj_status prepare_all(sqlite3 *handle, const char *const *sql, size_t count, sqlite3_stmt **statements,
                                   struct rmj_error *err)
{
    for (size_t i = 0; i < count; i++) {
        RMJ_ASSERT(sql[i] != NULL);
        int code = sqlite3_prepare_v3(handle, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &statements[i], NULL);
        if (code != SQLITE_OK) {
            return db_fail(handle, code, sql[i], err);
        }
    }
    return RMJ_OK;
}

enum rmj_status rmj_db_open(struct rmj_db **db_out, const char *path, struct rmj_error *err)
{
    struct rmj_db *db = calloc(1, sizeof *db);
    if (db == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the database");
    }
    const char *slash = strrchr(path, '/');
    db->directory = slash == NULL ? strdup("./") : strndup(path, (size_t)(slash - path) + 1);
    RMJ_ASSERT(db->directory != NULL);
    pthread_mutex_init(&db->write_lock, NULL);
    pthread_mutex_init(&db->read_lock, NULL);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(open_handle(&db->writer, path, err));
    chmod(path, 0600);
    RMJ_GO(migrate(db->writer, path, err));
    RMJ_GO(open_handle(&db->reader, path, err));
    RMJ_GO(prepare_all(db->writer, write_sql, W_COUNT, db->writes, err));
    RMJ_GO(prepare_all(db->reader, read_sql, R_COUNT, db->reads, err));
    *db_out = db;
out:
    if (status != RMJ_OK) {
        rmj_db_close(db);
    }
    return status;
}

void rmj_db_close(struct rmj_db *db)
{
    if (db == NULL) {
        return;
    }
    for (size_t i = 0; i < W_COUNT; i++) {
        sqlite3_finalize(db->writes[i]);
    }
    for (size_t i = 0; i < R_COUNT; i++) {
        sqlite3_finalize(db->reads[i]);
    }
    sqlite3_close(db->reader);
    sqlite3_close(db->writer);
    pthread_mutex_destroy(&db->write_lock);
    pthread_mutex_destroy(&db->read_lock);
    free(db->directory);
    free(db);
}

void rmj_db_place_keep(const struct rmj_db *db, const char *place, char *kept)
{
    size_t length = strlen(db->directory);
    int below = strncmp(place, db->directory, length) == 0;
    snprintf(kept, RMJ_PLACE_SIZE, "%s%s", below ? DB_OWN_PLACE : "", below ? place + length : place);
}

static int bind(sqlite3_stmt *statement, int index, const struct value *value)
{
    switch (value->kind) {
    case VALUE_INT:
        return sqlite3_bind_int64(statement, index, value->integer);
    case VALUE_REAL:
        return sqlite3_bind_double(statement, index, value->real);
    case VALUE_TEXT:
        return sqlite3_bind_text64(statement, index, value->bytes, value->size, SQLITE_STATIC, SQLITE_UTF8);
    case VALUE_BLOB:
        return sqlite3_bind_blob64(statement, index, value->size == 0 ? "" : value->bytes, value->size, SQLITE_STATIC);
    case VALUE_NULL:
        break;
    }
    return sqlite3_bind_null(statement, index);
}

static enum rmj_status apply_one(struct rmj_db *db, const struct write *write, struct rmj_error *err)
{
    sqlite3_stmt *statement = db->writes[write->statement];
    int code = SQLITE_OK;
    for (size_t i = 0; i < write->value_count && code == SQLITE_OK; i++) {
        code = bind(statement, (int)i + 1, &write->values[i]);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    enum rmj_status status = code == SQLITE_DONE ? RMJ_OK : db_fail(db->writer, code, "write", err);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return status;
}

static enum rmj_status apply_locked(struct rmj_db *db, const struct rmj_batch *batch, struct rmj_error *err)
{
    int code = sqlite3_exec(db->writer, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        return db_fail(db->writer, code, "begin", err);
    }
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < batch->count && status == RMJ_OK; i++) {
        status = apply_one(db, &batch->items[i], err);
    }
    if (status == RMJ_OK && rmj_fault_point("db.write")) {
        status = rmj_fail(err, RMJ_IO, "database: the write failed (fault point db.write)");
    }
    if (status == RMJ_OK) {
        code = sqlite3_exec(db->writer, "COMMIT", NULL, NULL, NULL);
        status = code == SQLITE_OK ? RMJ_OK : db_fail(db->writer, code, "commit", err);
    }
    if (status != RMJ_OK && !sqlite3_get_autocommit(db->writer)) {
        sqlite3_exec(db->writer, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

enum rmj_status rmj_db_apply(struct rmj_db *db, const struct rmj_batch *batch, struct rmj_error *err)
{
    if (batch->count == 0) {
        return RMJ_OK;
    }
    pthread_mutex_lock(&db->write_lock);
    enum rmj_status status = apply_locked(db, batch, err);
    pthread_mutex_unlock(&db->write_lock);
    if (status == RMJ_OK) {
        // Only a kill is of interest here: what is committed stays committed.
        (void)rmj_fault_point("db.committed");
    }
    return status;
}
