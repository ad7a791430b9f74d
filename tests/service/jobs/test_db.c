// Promises of the database: whole batches or nothing, whatever kills the process; nothing forgotten once applied.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/fs.h"
#include "service/jobs/db.h"

static char directory[64];
static char path[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rmj-db-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/rmjobd.db", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmj_fs_remove_tree(directory, NULL) == RMJ_OK ? 0 : 1;
}

static struct rmj_db *open_db(void)
{
    struct rmj_db *db = NULL;
    struct rmj_error err = {0};
    if (rmj_db_open(&db, path, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return db;
}

static struct rmj_job_record record_of(const char *id)
{
    struct rmj_job_record record;
    memset(&record, 0, sizeof record);
    snprintf(record.id, sizeof record.id, "%s", id);
    snprintf(record.project, sizeof record.project, "align");
    snprintf(record.reason, sizeof record.reason, "reading the data");
    record.state = RMJOB__V1__JOB_STATE__PREPARING;
    record.min_ranks = 1;
    record.max_ranks = 4;
    return record;
}

static void add_job(struct rmj_batch *batch, struct rmj_job_record *record, const char *request_id)
{
    Rmjob__V1__JobSpec spec = RMJOB__V1__JOB_SPEC__INIT;
    char name[] = "a-job";
    spec.name = name;
    struct rmj_new_job job = {.record = record,
                              .spec = &spec,
                              .spec_digest = "ab",
                              .request_id = request_id,
                              .rank_token = "token",
                              .checkpoint_store = "/c",
                              .publish_store = "/p"};
    rmj_batch_new_job(batch, &job);
}

static void add_event(struct rmj_batch *batch, const char *job, uint64_t sequence, Rmjob__V1__EventKind kind)
{
    Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
    event.has_sequence = event.has_kind = 1;
    event.sequence = sequence;
    event.kind = kind;
    rmj_batch_event(batch, job, &event);
}

static void apply(struct rmj_db *db, struct rmj_batch *batch)
{
    struct rmj_error err = {0};
    if (rmj_db_apply(db, batch, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    rmj_batch_clear(batch);
}

static void what_is_applied_is_read_back_after_a_restart(void **state)
{
    (void)state;
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    struct rmj_job_record record = record_of("rm-1"), found;
    add_job(batch, &record, "request-1");
    record.state = RMJOB__V1__JOB_STATE__TRAINING;
    record.manifest_count = 1;
    record.manifests[0].step = 40;
    record.launch_count = 2;
    snprintf(record.launches[1].name, sizeof record.launches[1].name, "rank-2");
    rmj_batch_record(batch, &record, 0);
    apply(db, batch);
    rmj_db_close(db);
    db = open_db();
    struct rmj_error err = {0};
    assert_int_equal(rmj_db_record(db, "rm-1", &found, &err), RMJ_OK);
    assert_memory_equal(&found, &record, sizeof record);
    char job[RMJ_ID_SIZE];
    assert_int_equal(rmj_db_request(db, "request-1", job, &err), RMJ_OK);
    assert_string_equal(job, "rm-1");
    assert_int_equal(rmj_db_request(db, "request-2", job, &err), RMJ_OK);
    assert_string_equal(job, "");
    assert_int_equal(rmj_db_record(db, "rm-2", &found, &err), RMJ_NOT_FOUND);
    assert_non_null(strstr(err.message, "there is no job rm-2"));
    rmj_batch_destroy(batch);
    rmj_db_close(db);
}

static void a_batch_with_one_bad_write_changes_nothing(void **state)
{
    (void)state;
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    struct rmj_job_record record = record_of("rm-1"), found;
    add_job(batch, &record, "request-1");
    apply(db, batch);
    struct rmj_job_record other = record_of("rm-2");
    add_job(batch, &other, "request-2");
    add_job(batch, &record, "request-3"); // exists
    struct rmj_error err = {0};
    assert_int_equal(rmj_db_apply(db, batch, &err), RMJ_CONFLICT);
    assert_int_equal(rmj_db_record(db, "rm-2", &found, &err), RMJ_NOT_FOUND);
    rmj_batch_clear(batch);
    // A request id belongs to one job.
    struct rmj_job_record third = record_of("rm-3");
    add_job(batch, &third, "request-1");
    assert_int_equal(rmj_db_apply(db, batch, &err), RMJ_CONFLICT);
    rmj_batch_destroy(batch);
    rmj_db_close(db);
}

static enum rmj_status count_event(void *context, const Rmjob__V1__Event *event, struct rmj_error *err)
{
    (void)err;
    uint64_t *last = context;
    assert_true(event->sequence > *last);
    *last = event->sequence;
    return RMJ_OK;
}

static void expect_bounded(const char *job, Rmjob__V1__EventKind kind)
{
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    struct rmj_job_record record = record_of(job);
    add_job(batch, &record, NULL);
    add_event(batch, job, 1, RMJOB__V1__EVENT_KIND__STATE);
    for (uint64_t i = 2; i < 2 + RMJ_DB_PROGRESS_EVENTS_MAX + 100; i++) {
        add_event(batch, job, i, kind);
    }
    apply(db, batch);
    uint64_t last = 0;
    struct rmj_error err = {0};
    assert_int_equal(rmj_db_events(db, job, 0, 1, count_event, &last, &err), RMJ_OK);
    assert_int_equal(last, 1);
    assert_int_equal(rmj_db_events(db, job, 1, 1, count_event, &last, &err), RMJ_OK);
    assert_int_equal(last, 102); // the first hundred are gone
    uint64_t newest = 0;
    assert_int_equal(rmj_db_last_sequence(db, job, &newest, &err), RMJ_OK);
    assert_int_equal(newest, RMJ_DB_PROGRESS_EVENTS_MAX + 101);
    rmj_batch_destroy(batch);
    rmj_db_close(db);
}

static void events_of_progress_are_bounded_and_others_stay(void **state)
{
    (void)state;
    expect_bounded("rm-1", RMJOB__V1__EVENT_KIND__STEP);
    expect_bounded("rm-2", RMJOB__V1__EVENT_KIND__EVAL); // one a second of a preparation that may take hours
}

static void a_replayed_step_with_other_bits_is_a_violation(void **state)
{
    (void)state;
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    struct rmj_job_record record = record_of("rm-1");
    char job[] = "rm-1";
    Rmjob__V1__StepRequest step = RMJOB__V1__STEP_REQUEST__INIT;
    step.job = job;
    step.has_step = step.has_loss = step.has_generation = step.has_seconds = 1;
    step.step = 7;
    step.loss = 0.1;
    step.generation = 1;
    step.seconds = 2;
    add_job(batch, &record, NULL);
    rmj_batch_step(batch, "rm-1", &step);
    apply(db, batch);
    int known = 0;
    struct rmj_error err = {0};
    step.generation = 2; // the generation and the time may differ
    step.seconds = 3;
    assert_int_equal(rmj_db_check_step(db, &step, &known, &err), RMJ_OK);
    assert_int_equal(known, 1);
    step.loss = 0.1 + 1e-17 * 2;
    step.loss = step.loss == 0.1 ? 0.10000000000000002 : step.loss;
    assert_int_equal(rmj_db_check_step(db, &step, &known, &err), RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "determinism violation: step 7"));
    step.step = 8;
    assert_int_equal(rmj_db_check_step(db, &step, &known, &err), RMJ_OK);
    assert_int_equal(known, 0);
    rmj_batch_destroy(batch);
    rmj_db_close(db);
}

static void a_newer_schema_is_refused(void **state)
{
    (void)state;
    rmj_db_close(open_db());
    // Written with SQLite itself, as a newer rmjobd would.
    struct rmj_db *db = NULL;
    struct rmj_error err = {0};
    sqlite3 *handle = NULL;
    assert_int_equal(sqlite3_open(path, &handle), 0);
    assert_int_equal(sqlite3_exec(handle, "INSERT INTO schema VALUES (99)", NULL, NULL, NULL), 0);
    sqlite3_close(handle);
    assert_int_equal(rmj_db_open(&db, path, &err), RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "schema version 99"));
}

static void a_file_that_is_no_database_is_refused(void **state)
{
    (void)state;
    struct rmj_db *db = NULL;
    struct rmj_error err = {0};
    char garbage[4096];
    memset(garbage, 'x', sizeof garbage);
    assert_int_equal(rmj_fs_write(path, garbage, sizeof garbage, 0600, &err), RMJ_OK);
    assert_int_equal(rmj_db_open(&db, path, &err), RMJ_CORRUPT);
}

// The child: one job a batch, each with an event, a request id, a step and a record; writes down what was announced.
static void write_jobs(int announce_fd)
{
    struct rmj_db *db = NULL;
    struct rmj_error err = {0};
    if (rmj_db_open(&db, path, &err) != RMJ_OK) {
        _exit(9);
    }
    struct rmj_batch *batch = rmj_batch_create();
    for (int i = 0; i < 4; i++) {
        char id[RMJ_ID_SIZE], request[32];
        snprintf(id, sizeof id, "rm-%d", i);
        snprintf(request, sizeof request, "request-%d", i);
        char known[RMJ_ID_SIZE];
        if (rmj_db_request(db, request, known, &err) != RMJ_OK) {
            _exit(9);
        }
        if (known[0] != '\0') {
            continue;
        }
        struct rmj_job_record record = record_of(id);
        add_job(batch, &record, request);
        add_event(batch, id, 1, RMJOB__V1__EVENT_KIND__STATE);
        record.state = RMJOB__V1__JOB_STATE__QUEUED;
        rmj_batch_record(batch, &record, 0);
        if (rmj_db_apply(db, batch, &err) != RMJ_OK) {
            _exit(9);
        }
        rmj_batch_clear(batch);
        char word = (char)('0' + i);
        if (write(announce_fd, &word, 1) != 1) {
            _exit(9);
        }
    }
    _exit(0);
}

// Runs the child with a fault; returns 1 when it ended by itself. Announced jobs are marked.
static int run_child(const char *fault, int announced[4])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        // A program of its own: fault points read their setting once a process.
        char number[16];
        setenv("RMJOB_FAULT", fault, 1);
        snprintf(number, sizeof number, "%d", fds[1]);
        execl("/proc/self/exe", "test_db", path, number, (char *)NULL);
        _exit(9);
    }
    close(fds[1]);
    char word;
    while (read(fds[0], &word, 1) == 1) {
        announced[word - '0'] = 1;
    }
    close(fds[0]);
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code) ? WEXITSTATUS(code) == 0 : WTERMSIG(code) == SIGKILL);
    return WIFEXITED(code);
}

static void check_whole(const int announced[4])
{
    struct rmj_db *db = open_db();
    for (int i = 0; i < 4; i++) {
        struct rmj_error err = {0};
        struct rmj_job_record record;
        char id[RMJ_ID_SIZE], request[32], job[RMJ_ID_SIZE];
        uint64_t sequence = 0;
        snprintf(id, sizeof id, "rm-%d", i);
        snprintf(request, sizeof request, "request-%d", i);
        int there = rmj_db_record(db, id, &record, &err) == RMJ_OK;
        assert_true(there || !announced[i]); // announced means durable
        assert_int_equal(rmj_db_request(db, request, job, &err), RMJ_OK);
        assert_int_equal(rmj_db_last_sequence(db, id, &sequence, &err), RMJ_OK);
        // All of a batch or nothing of it.
        assert_string_equal(job, there ? id : "");
        assert_int_equal(sequence, there ? 1 : 0);
        if (there) {
            assert_int_equal(record.state, RMJOB__V1__JOB_STATE__QUEUED);
        }
    }
    rmj_db_close(db);
}

static void kill_9_at_every_write_leaves_whole_batches(void **state)
{
    (void)state;
    static const char *const points[] = {"db.write", "db.committed"};
    for (size_t p = 0; p < RMJ_COUNT(points); p++) {
        int ended = 0, kills = 0;
        for (int at = 1; !ended; at++) {
            assert_int_equal(rmj_fs_remove_tree(directory, NULL), RMJ_OK);
            assert_int_equal(rmj_fs_make_directories(directory, 0700, NULL), RMJ_OK);
            char fault[64];
            snprintf(fault, sizeof fault, "%s@%d=kill", points[p], at);
            int announced[4] = {0};
            ended = run_child(fault, announced);
            kills += !ended;
            check_whole(announced);
            // Started again without a fault it finishes.
            assert_true(run_child("none@1=kill", announced));
            for (int i = 0; i < 4; i++) {
                announced[i] = 1;
            }
            check_whole(announced);
            assert_true(at < 20);
        }
        assert_true(kills >= 4);
    }
}

static void places_inside_move_with_the_folder_and_others_stay(void **state)
{
    (void)state;
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    struct rmj_job_record record = record_of("rm-1");
    Rmjob__V1__JobSpec spec = RMJOB__V1__JOB_SPEC__INIT;
    Rmjob__V1__ModelVersion version = RMJOB__V1__MODEL_VERSION__INIT;
    char inside[80], moved[80], kept[RMJ_PLACE_SIZE], name[] = "support-rm", outside[] = "s3://bucket/artifacts";
    snprintf(inside, sizeof inside, "%s/artifacts", directory);
    rmj_db_place_keep(db, outside, kept);
    assert_string_equal(kept, outside);
    rmj_db_place_keep(db, inside, kept);
    struct rmj_new_job job = {.record = &record,
                              .spec = &spec,
                              .spec_digest = "ab",
                              .rank_token = "token",
                              .checkpoint_store = outside,
                              .publish_store = kept};
    rmj_batch_new_job(batch, &job);
    version.name = version.job = name;
    version.has_version = version.version = 1;
    version.store = kept;
    rmj_batch_version(batch, &version);
    apply(db, batch);
    rmj_batch_destroy(batch);
    for (int moves = 0; moves < 2; moves++) {
        struct rmj_job_places places = {0};
        Rmjob__V1__ModelVersion *found = NULL;
        Rmjob__V1__ListModelsResponse *models = NULL;
        assert_int_equal(rmj_db_places(db, "rm-1", &places, NULL), RMJ_OK);
        assert_string_equal(places.checkpoint_store, outside);
        assert_string_equal(places.publish_store, inside);
        assert_int_equal(rmj_db_version(db, name, 1, &found, NULL), RMJ_OK);
        assert_string_equal(found->store, inside);
        rmjob__v1__model_version__free_unpacked(found, NULL);
        assert_int_equal(rmj_db_models(db, NULL, &models, NULL), RMJ_OK);
        assert_string_equal(models->models[0]->versions[0]->store, inside);
        rmjob__v1__list_models_response__free_unpacked(models, NULL);
        rmj_db_close(db);
        snprintf(moved, sizeof moved, "%s-moved", directory);
        if (moves == 0) {
            assert_int_equal(rename(directory, moved), 0);
            memcpy(directory, moved, strlen(moved) + 1);
            snprintf(path, sizeof path, "%s/rmjobd.db", directory);
            snprintf(inside, sizeof inside, "%s/artifacts", directory);
            db = open_db();
        }
    }
}

static void models_and_aliases_are_listed_and_resolved(void **state)
{
    (void)state;
    struct rmj_db *db = open_db();
    struct rmj_batch *batch = rmj_batch_create();
    char name[] = "support-rm", job[] = "rm-1", candidate[] = "candidate";
    Rmjob__V1__ModelVersion version = RMJOB__V1__MODEL_VERSION__INIT;
    version.name = name;
    version.job = job;
    version.has_version = 1;
    Rmjob__V1__Alias alias = RMJOB__V1__ALIAS__INIT;
    alias.name = name;
    alias.alias = candidate;
    alias.has_version = 1;
    for (version.version = 1; version.version <= 2; version.version++) {
        alias.version = version.version;
        rmj_batch_version(batch, &version);
        rmj_batch_alias(batch, &alias);
        apply(db, batch);
    }
    struct rmj_error err = {0};
    Rmjob__V1__ModelVersion *found = NULL;
    Rmjob__V1__ListModelsResponse *models = NULL;
    uint32_t number = 0;
    assert_int_equal(rmj_db_version(db, name, 0, &found, &err), RMJ_OK);
    assert_int_equal(found->version, 2);
    rmjob__v1__model_version__free_unpacked(found, NULL);
    assert_int_equal(rmj_db_alias(db, name, candidate, &number, &err), RMJ_OK);
    assert_int_equal(number, 2);
    assert_int_equal(rmj_db_version(db, name, 3, &found, &err), RMJ_NOT_FOUND);
    assert_int_equal(rmj_db_models(db, NULL, &models, &err), RMJ_OK);
    assert_int_equal(models->n_models, 1);
    assert_int_equal(models->models[0]->n_versions, 2);
    assert_int_equal(models->models[0]->n_aliases, 1);
    rmjob__v1__list_models_response__free_unpacked(models, NULL);
    // An alias of a version that does not exist cannot be written.
    alias.version = 9;
    rmj_batch_alias(batch, &alias);
    assert_int_equal(rmj_db_apply(db, batch, &err), RMJ_CONFLICT);
    rmj_batch_destroy(batch);
    rmj_db_close(db);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        snprintf(path, sizeof path, "%s", argv[1]);
        write_jobs(atoi(argv[2]));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_applied_is_read_back_after_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_with_one_bad_write_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(events_of_progress_are_bounded_and_others_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replayed_step_with_other_bits_is_a_violation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_schema_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_database_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kill_9_at_every_write_leaves_whole_batches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_inside_move_with_the_folder_and_others_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(models_and_aliases_are_listed_and_resolved, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
