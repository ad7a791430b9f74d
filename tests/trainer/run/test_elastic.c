// Promises P1, P3 and P7 on real rank processes: whatever the number of ranks, whoever is killed and whenever, the last
// manifest, the artifact and the consumed-pairs proof are the same bytes. A tiny model is made on the spot.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/rng.h"
#include "fake_coordinator.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/prepare.h"

extern char **environ;

enum { PATIENCE_MS = 60000, PAIRS = 100, RANKS_MAX = 8 };

struct world {
    char *directory;
    Rmjob__V1__JobSpec *spec;
    char *reference_manifest, *reference_artifact, *reference_sum, *reference_rows;
};
static struct world world;

// Better answers hold the letter z more often: something to learn.
static void make_rows(struct rmj_buf *out, uint64_t seed)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 9);
    for (int i = 0; i < PAIRS; i++) {
        char texts[2][40];
        for (int side = 0; side < 2; side++) {
            size_t length = 4 + rmj_rng_below(&rng, 24);
            for (size_t k = 0; k < length; k++) {
                texts[side][k] = side == 0 && rmj_rng_below(&rng, 3) == 0 ? 'z' : (char)('a' + rmj_rng_below(&rng, 25));
            }
            texts[side][length] = '\0';
        }
        rmj_buf_printf(
            out,
            "{\"chosen\":\"\\n\\nHuman: question %d\\n\\nAssistant: %s\",\"rejected\":\"\\n\\nHuman: question "
            "%d\\n\\nAssistant: %s\"}\n",
            i, texts[0], i, texts[1]);
    }
}

static void make_benchmark(struct rmj_buf *out)
{
    static const char *const subsets[] = {"Factuality", "Precise IF", "Math", "Safety", "Focus"};
    for (size_t i = 0; i < RMJ_COUNT(subsets); i++) {
        rmj_buf_printf(
            out,
            "{\"id\":\"%zu\",\"prompt\":\"what is %zu\",\"chosen\":[\"zzz\"],\"rejected\":[\"a\",\"b\",\"c\"],"
            "\"num_correct\":1,\"num_incorrect\":3,\"subset\":\"%s\"}\n",
            i, i, subsets[i]);
    }
    for (int i = 0; i < 2; i++) {
        rmj_buf_printf(
            out,
            "{\"id\":\"%s:0\",\"prompt\":\"name a colour\",\"chosen\":[\"zed\"%s],\"rejected\":[\"a\",\"b\"],"
            "\"num_correct\":%d,\"num_incorrect\":2,\"subset\":\"Ties\"}\n",
            i == 0 ? "ref" : "tied", i == 0 ? "" : ",\"zee\"", i + 1);
    }
}

static char *write_rows(const char *name, uint64_t seed)
{
    struct rmj_buf rows;
    rmj_buf_init(&rows, 1 << 20);
    if (seed == 0) {
        make_benchmark(&rows);
    } else {
        make_rows(&rows, seed);
    }
    char *path = fixture_write_text(world.directory, name, rmj_buf_text(&rows));
    rmj_buf_deinit(&rows);
    return path;
}

// The fixture's model has more rows than its tokenizer has tokens; an exported pad token needs them equal.
static void fill_vocabulary(const char *model)
{
    struct rmj_buf text, filled;
    char *path = rmj_fs_join(model, "tokenizer.json");
    rmj_buf_init(&text, 1 << 20);
    rmj_buf_init(&filled, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &text, NULL), RMJ_OK);
    const char *end = strstr(rmj_buf_text(&text), "},\"merges\"");
    assert_non_null(end);
    rmj_buf_append(&filled, text.bytes, (size_t)(end - text.bytes));
    for (unsigned id = 286; id < FIXTURE_VOCABULARY; id++) {
        rmj_buf_printf(&filled, ",\"<spare%u>\":%u", id, id);
    }
    rmj_buf_puts(&filled, end);
    assert_int_equal(rmj_fs_write(path, filled.bytes, filled.size, 0600, NULL), RMJ_OK);
    rmj_buf_deinit(&text);
    rmj_buf_deinit(&filled);
    free(path);
}

static int make_world(void **state)
{
    (void)state;
    world.directory = fixture_directory();
    char *model = fixture_model(world.directory, "model", 3, 0);
    fill_vocabulary(model);
    char *train = write_rows("train.jsonl", 1), *heldout = write_rows("heldout.jsonl", 2);
    char *benchmark = write_rows("rb2.jsonl", 0);
    world.spec = fixture_spec(model, train);
    fixture_set_heldout(world.spec, heldout);
    fixture_set_benchmark(world.spec, benchmark);
    world.spec->train->has_learning_rate = 1;
    world.spec->train->learning_rate = 1e-3;
    free(model);
    free(train);
    free(heldout);
    free(benchmark);
    return 0;
}

static int drop_world(void **state)
{
    (void)state;
    fixture_spec_free(world.spec);
    fixture_remove(world.directory);
    free(world.reference_manifest);
    free(world.reference_artifact);
    free(world.reference_sum);
    free(world.reference_rows);
    return 0;
}

// ---- one job on real processes ----

struct job {
    char name[40], address[200], checkpoints[200], published[200], once[200], uid[40];
    char plan[65];
    struct fake *fake;
    pid_t ranks[RANKS_MAX];
    uint32_t started;
    char extra[2][400]; // more environment, "" for none
};

static void job_open(struct job *job, const char *name, uint32_t wanted, uint32_t every)
{
    struct rmj_error err = {0};
    struct rmj_store *store = NULL;
    Rmjob__V1__PreparedRequest *prepared = NULL;
    memset(job, 0, sizeof *job);
    snprintf(job->name, sizeof job->name, "%s", name);
    snprintf(job->uid, sizeof job->uid, "job"); // part of the manifest: the same in every schedule
    snprintf(job->checkpoints, sizeof job->checkpoints, "%s/%s-ckpt", world.directory, name);
    snprintf(job->published, sizeof job->published, "%s/%s-pub", world.directory, name);
    snprintf(job->address, sizeof job->address, "unix:%s/%s.sock", world.directory, name);
    snprintf(job->once, sizeof job->once, "%s/%s-once", world.directory, name);
    if (rmj_store_open(&store, job->checkpoints, 1, NULL, &err) != RMJ_OK ||
        rmj_prepare(world.spec, store, job->uid, &(struct rmj_prepare_options){0}, &prepared, &err) != RMJ_OK ||
        prepared->plan == NULL) {
        for (size_t i = 0; prepared != NULL && i < prepared->n_findings; i++) {
            fprintf(stderr, "%s: %s\n", prepared->findings[i]->field, prepared->findings[i]->message);
        }
        fail_msg("prepare: %s", err.message);
    }
    snprintf(job->plan, sizeof job->plan, "%s", prepared->plan->digest);
    struct fake_options options = {.address = job->address,
                                   .spec = world.spec,
                                   .checkpoint_store = job->checkpoints,
                                   .publish_store = job->published,
                                   .job_uid = job->uid,
                                   .plan = job->plan,
                                   .page_count = prepared->plan->pages,
                                   .checkpoint_every = every,
                                   .wanted = wanted};
    job->fake = fake_start(&options);
    protobuf_c_message_free_unpacked(&prepared->base, NULL);
    rmj_store_close(store);
}

static void start_rank(struct job *job, const char *fault)
{
    char program[300], uid[16], set[100], once[220];
    const char *bin = getenv("RMJOB_BIN");
    snprintf(program, sizeof program, "%s/rmjob-rank", bin == NULL ? "build/dev/bin" : bin);
    snprintf(uid, sizeof uid, "rank-%u", job->started);
    snprintf(set, sizeof set, "RMJOB_FAULT=%s", fault == NULL ? "" : fault);
    snprintf(once, sizeof once, "RMJOB_FAULT_ONCE=%s", job->once);
    char *arguments[] = {"rmjob-rank", "--server", job->address, "--job", "job", "--rank-uid", uid, NULL};
    char *environment[64] = {set, "RMJOB_RANK_TOKEN=token"};
    size_t count = 2;
    if (job->once[0] != '\0') {
        environment[count++] = once;
    }
    for (size_t i = 0; i < RMJ_COUNT(job->extra); i++) {
        if (job->extra[i][0] != '\0') {
            environment[count++] = job->extra[i];
        }
    }
    for (char **e = environ; *e != NULL && count < 63; e++) {
        if (strncmp(*e, "RMJOB_FAULT", 11) != 0) {
            environment[count++] = *e;
        }
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setpgroup(&attributes, 0); // kill-group reaches supervisor and trainer, not the test
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    assert_int_equal(posix_spawn(&job->ranks[job->started], program, NULL, &attributes, arguments, environment), 0);
    posix_spawnattr_destroy(&attributes);
    job->started++;
}

// All get the fault, since no process knows which rank it will be; it fires once in all.
static void start_ranks(struct job *job, uint32_t count, const char *fault)
{
    for (uint32_t i = 0; i < count; i++) {
        start_rank(job, fault);
    }
}

// Replaces rank processes that are gone altogether, as a launcher would.
static void relaunch_dead(struct job *job)
{
    for (uint32_t i = 0, count = job->started; i < count; i++) {
        int status;
        if (job->ranks[i] > 0 && waitpid(job->ranks[i], &status, WNOHANG) == job->ranks[i]) {
            job->ranks[i] = 0;
            if (job->started < RANKS_MAX) {
                start_rank(job, NULL);
            }
        }
    }
}

static struct fake_view wait_until(struct job *job, uint32_t step)
{
    struct fake_view view;
    int64_t deadline = rmj_clock_mono_ms() + PATIENCE_MS;
    for (;;) {
        fake_view(job->fake, &view);
        if (view.evaluated || view.failed || (step > 0 && view.step >= step)) {
            return view;
        }
        relaunch_dead(job);
        if (rmj_clock_mono_ms() > deadline) {
            fail_msg("%s: generation %u stands at step %u with %u ranks", job->name, view.generation, view.step,
                     view.attached);
        }
        rmj_clock_sleep_ms(5);
    }
}

// All ranks end by themselves; the exit code of the last one.
static int job_close(struct job *job)
{
    int64_t deadline = rmj_clock_mono_ms() + PATIENCE_MS;
    int code = -1;
    for (uint32_t i = 0; i < job->started; i++) {
        int status = 0;
        while (job->ranks[i] > 0 && waitpid(job->ranks[i], &status, WNOHANG) == 0) {
            if (rmj_clock_mono_ms() > deadline) {
                kill(-job->ranks[i], SIGKILL);
                fail_msg("%s: rank %u does not end", job->name, i);
            }
            rmj_clock_sleep_ms(5);
        }
        code = job->ranks[i] > 0 ? WEXITSTATUS(status) : code;
    }
    fake_stop(job->fake);
    return code;
}

static void expect_same(char **reference, const char *got)
{
    if (*reference == NULL) {
        *reference = strdup(got);
    }
    assert_string_equal(got, *reference);
}

static void expect_reference(const struct fake_view *view)
{
    assert_int_equal(view->failed, 0);
    assert_int_equal(view->evaluated, 1);
    assert_int_equal(view->pairs, PAIRS);
    expect_same(&world.reference_manifest, view->manifest);
    expect_same(&world.reference_artifact, view->artifact);
    expect_same(&world.reference_sum, view->chain);
    expect_same(&world.reference_rows, view->rows);
}

static void run_schedule(const char *name, uint32_t ranks, const char *fault)
{
    struct job job;
    job_open(&job, name, ranks, 3);
    start_ranks(&job, ranks, fault);
    struct fake_view view = wait_until(&job, 0);
    assert_int_equal(job_close(&job), 0);
    expect_reference(&view);
    if (fault != NULL) {
        assert_true(rmj_fs_exists(job.once)); // it did fire
    }
    printf("%-22s %u ranks  generations %u  steps %u  resumes: %u memory %u manifest\n", name, ranks, view.generation,
           view.steps_reported, view.memory_resumes, view.manifest_resumes);
}

// ---- promises ----

static void weights_do_not_depend_on_the_number_of_ranks(void **state)
{
    (void)state;
    run_schedule("one", 1, NULL);
    run_schedule("two", 2, NULL);
    run_schedule("three", 3, NULL);
    run_schedule("five", 5, NULL);
}

static void weights_do_not_depend_on_who_is_killed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *fault;
        uint32_t ranks;
    } schedules[] = {
        {"backward", "backward@5=kill", 2},
        {"reduce", "reduce@4=kill", 3},
        {"vote", "vote@6=kill", 2},
        {"update", "update@5=kill", 3},
        {"upload", "upload@2=kill", 2},
        {"commit", "commit@1=kill", 2},
        {"export", "export@1=kill", 2},
        {"evaluate", "evaluate@1=kill", 3},
        {"backward-both", "backward@9=kill-group", 2},
        {"vote-both", "vote@5=kill-group", 3},
        {"update-both", "update@7=kill-group", 2},
        {"alone", "update@6=kill", 1},
        {"alone-both", "reduce@8=kill-group", 1},
    };
    for (size_t i = 0; i < RMJ_COUNT(schedules); i++) {
        run_schedule(schedules[i].name, schedules[i].ranks, schedules[i].fault);
    }
}

static void weights_do_not_depend_on_resizes(void **state)
{
    (void)state;
    struct job job;
    job_open(&job, "resize", 1, 3);
    start_ranks(&job, 3, NULL);
    wait_until(&job, 2);
    fake_set_wanted(job.fake, 3);
    wait_until(&job, 5);
    fake_set_wanted(job.fake, 2);
    struct fake_view view = wait_until(&job, 0);
    assert_int_equal(job_close(&job), 0);
    expect_reference(&view);
}

static void training_goes_on_while_the_service_restarts(void **state)
{
    (void)state;
    struct job job;
    job_open(&job, "restart", 2, 3);
    start_ranks(&job, 2, NULL);
    wait_until(&job, 2);
    fake_restart(job.fake);
    struct fake_view view = wait_until(&job, 0);
    assert_int_equal(job_close(&job), 0);
    expect_reference(&view);
}

static void a_rank_told_to_go_hands_over_first(void **state)
{
    (void)state;
    struct job job;
    job_open(&job, "notice", 2, 0);
    start_ranks(&job, 2, "backward@8=stall:300");
    wait_until(&job, 2);
    kill(job.ranks[0], SIGTERM);
    struct fake_view view = wait_until(&job, 0); // the launcher starts another in its place
    job_close(&job);
    expect_reference(&view);
    assert_true(view.leavers >= 1 || view.generation == 1);
}

static enum rmj_status cut_file(void *context, const char *relative_path, uint64_t size, struct rmj_error *err)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", (const char *)context, relative_path);
    (void)err;
    assert_int_equal(truncate(path, (off_t)(size / 2)), 0);
    return RMJ_OK;
}

static void a_damaged_checkpoint_is_reported_and_gone_past(void **state)
{
    (void)state;
    struct job job;
    char pages[300];
    job_open(&job, "damaged", 1, 2);
    job.once[0] = '\0';
    start_rank(&job, "backward@5+=stall:100");
    struct fake_view view;
    int64_t deadline = rmj_clock_mono_ms() + PATIENCE_MS;
    do {
        fake_view(job.fake, &view);
        rmj_clock_sleep_ms(5);
        assert_true(rmj_clock_mono_ms() < deadline && !view.evaluated);
    } while (view.manifest_step < 2);
    kill(-job.ranks[0], SIGKILL);
    snprintf(pages, sizeof pages, "%s/job/page", job.checkpoints);
    assert_int_equal(rmj_fs_walk(pages, cut_file, pages, NULL), RMJ_OK);
    view = wait_until(&job, 0);
    assert_int_equal(job_close(&job), 0);
    assert_int_equal(view.bad_manifests, 1);
    expect_reference(&view);
}

static void numbers_that_overflow_fail_the_job_with_their_rows(void **state)
{
    (void)state;
    struct job job;
    world.spec->train->learning_rate = 1e30;
    job_open(&job, "overflow", 2, 0);
    start_ranks(&job, 2, NULL);
    struct fake_view view = wait_until(&job, 0);
    world.spec->train->learning_rate = 1e-3;
    assert_int_equal(job_close(&job), 11);
    assert_int_equal(view.failed, 1);
    assert_non_null(strstr(view.reason, "not a number"));
    assert_non_null(strstr(view.reason, "train.jsonl row"));
}

// One byte of the base model's weights, flipped; the same again puts it back.
static void flip_a_weight(void)
{
    char *path = rmj_fs_join(world.spec->base_model, "model.safetensors");
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, 64 << 20);
    assert_int_equal(rmj_fs_read(path, &bytes, NULL), RMJ_OK);
    bytes.bytes[bytes.size - 4] ^= 1; // low bits of the last weight: still a finite number
    assert_int_equal(rmj_fs_write(path, bytes.bytes, bytes.size, 0644, NULL), RMJ_OK);
    rmj_buf_deinit(&bytes);
    free(path);
}

static void a_base_model_that_changed_since_it_was_pinned_is_not_trained_on(void **state)
{
    (void)state;
    struct job job;
    job_open(&job, "changed", 2, 0);
    flip_a_weight();
    start_ranks(&job, 2, NULL);
    struct fake_view view = wait_until(&job, 0);
    flip_a_weight();
    assert_int_equal(job_close(&job), 11);
    assert_int_equal(view.failed, 1);
    assert_non_null(strstr(view.reason, "changed after the job was prepared"));
}

static void a_benchmark_that_changed_since_it_was_pinned_is_not_scored(void **state)
{
    (void)state;
    struct job job;
    job_open(&job, "benchmark", 1, 0);
    struct rmj_buf good;
    rmj_buf_init(&good, 64 << 20);
    assert_int_equal(rmj_fs_read(world.spec->evaluate->rewardbench2, &good, NULL), RMJ_OK);
    // A blank at the end of the last row: the same rows, other bytes.
    rmj_buf_puts(&good, " \n");
    assert_int_equal(rmj_fs_write(world.spec->evaluate->rewardbench2, good.bytes, good.size, 0644, NULL), RMJ_OK);
    start_ranks(&job, 1, NULL);
    struct fake_view view = wait_until(&job, 0);
    assert_int_equal(rmj_fs_write(world.spec->evaluate->rewardbench2, good.bytes, good.size - 2, 0644, NULL), RMJ_OK);
    rmj_buf_deinit(&good);
    assert_int_equal(job_close(&job), 11);
    assert_int_equal(view.failed, 1);
    assert_non_null(strstr(view.reason, "changed after the job was prepared"));
}

static uint64_t owned_bytes(const char *name, uint32_t ranks)
{
    struct job job;
    uint64_t most = 0;
    job_open(&job, name, ranks, 0);
    start_ranks(&job, ranks, "backward@3=stall:1800"); // long enough for heartbeats
    for (;;) {
        struct fake_view view;
        fake_view(job.fake, &view);
        most = view.owned_bytes_max > most ? view.owned_bytes_max : most;
        if (view.evaluated || view.failed) {
            break;
        }
        rmj_clock_sleep_ms(20);
    }
    assert_int_equal(job_close(&job), 0);
    return most;
}

static void optimizer_state_lives_only_at_its_owner(void **state)
{
    (void)state;
    uint64_t alone = owned_bytes("owned-1", 1), shared = owned_bytes("owned-3", 3);
    printf("optimizer bytes of the fullest rank: %llu alone, %llu of three\n", (unsigned long long)alone,
           (unsigned long long)shared);
    assert_true(alone > 0 && shared > 0 && shared < alone);
}

#ifdef ALLOC_COUNT
static void a_step_allocates_nothing(void **state)
{
    (void)state;
    struct job job;
    struct rmj_buf text;
    char path[300];
    world.spec->train->global_batch_pairs = 2;
    snprintf(path, sizeof path, "%s/allocations", world.directory);
    job_open(&job, "allocations", 2, 0);
    snprintf(job.extra[0], sizeof job.extra[0], "LD_PRELOAD=%s", ALLOC_COUNT);
    snprintf(job.extra[1], sizeof job.extra[1], "RMJOB_ALLOC_FILE=%s", path);
    start_ranks(&job, 2, NULL);
    unsigned long steps = wait_until(&job, 0).steps_reported;
    world.spec->train->global_batch_pairs = 8;
    assert_int_equal(job_close(&job), 0);
    rmj_buf_init(&text, 4096);
    assert_int_equal(rmj_fs_read(path, &text, NULL), RMJ_OK);
    char *next = text.bytes;
    for (int rank = 0; rank < 2; rank++) {
        // Six collectives a step, each polled at least once; the first steps may still grow the inventory.
        unsigned long polls = strtoul(next, &next, 10);
        printf("longest series of polls without an allocation: %lu in %lu steps\n", polls, steps);
        assert_true(steps >= 50 && polls >= (steps - 5) * 6);
    }
    rmj_buf_deinit(&text);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_do_not_depend_on_the_number_of_ranks),
        cmocka_unit_test(weights_do_not_depend_on_who_is_killed),
        cmocka_unit_test(weights_do_not_depend_on_resizes),
        cmocka_unit_test(training_goes_on_while_the_service_restarts),
        cmocka_unit_test(a_rank_told_to_go_hands_over_first),
        cmocka_unit_test(a_damaged_checkpoint_is_reported_and_gone_past),
        cmocka_unit_test(numbers_that_overflow_fail_the_job_with_their_rows),
        cmocka_unit_test(a_base_model_that_changed_since_it_was_pinned_is_not_trained_on),
        cmocka_unit_test(a_benchmark_that_changed_since_it_was_pinned_is_not_scored),
        cmocka_unit_test(optimizer_state_lives_only_at_its_owner),
#ifdef ALLOC_COUNT
        cmocka_unit_test(a_step_allocates_nothing),
#endif
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}
