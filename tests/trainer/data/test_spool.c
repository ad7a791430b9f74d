// Pairs on their way into a plan: what goes in comes out, duplicates are found whatever the number, a preparation that
// is killed goes on where it was and ends in the same plan.
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/rng.h"
#include "proto/text/text_format.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/prepare.h"
#include "trainer/data/seen.h"
#include "trainer/data/spool.h"

#define PAIRS 5000u

static char *directory;

static uint32_t rows_of_pair(uint32_t i)
{
    return 2 + i % 300;
}

static void make_pair(uint32_t i, struct rmj_plan_pair *pair, uint8_t key[RMJ_DIGEST_SIZE], int32_t *tokens)
{
    struct rmj_digest digest;
    rmj_sha256_of(&i, sizeof i, &digest);
    memcpy(key, digest.bytes, sizeof digest.bytes);
    *pair = (struct rmj_plan_pair){.row = i + 1, .chosen_count = 1, .rejected_count = rows_of_pair(i) - 1};
    for (uint32_t row = 0; row < rows_of_pair(i); row++) {
        tokens[row] = (int32_t)(i * 7 + row);
    }
}

static void fill(struct rmj_spool *spool, struct rmj_seen *seen, uint32_t first, uint32_t end)
{
    int32_t tokens[512];
    for (uint32_t i = first; i < end; i++) {
        struct rmj_plan_pair pair;
        uint8_t key[RMJ_DIGEST_SIZE];
        uint32_t found;
        make_pair(i, &pair, key, tokens);
        assert_int_equal(rmj_seen_find(seen, spool, key, &found, NULL), RMJ_OK);
        assert_int_equal(found, 0);
        assert_int_equal(rmj_spool_add(spool, &pair, key, tokens, NULL), RMJ_OK);
        assert_int_equal(rmj_seen_add(seen, spool, key, NULL), RMJ_OK);
    }
}

static void check_all(struct rmj_spool *spool, const struct rmj_seen *seen)
{
    int32_t want[512], got[512];
    struct rmj_rng rng;
    rmj_rng_init(&rng, 5, 0);
    for (uint32_t n = 0; n < PAIRS; n++) {
        uint32_t i = (uint32_t)rmj_rng_below(&rng, PAIRS), found;
        struct rmj_plan_pair pair;
        struct rmj_spool_record record;
        uint8_t key[RMJ_DIGEST_SIZE];
        make_pair(i, &pair, key, want);
        assert_int_equal(rmj_spool_records(spool, i, 1, &record, NULL), RMJ_OK);
        assert_memory_equal(&record.pair, &pair, sizeof pair);
        assert_int_equal(rmj_spool_tokens(spool, &record, got, NULL), RMJ_OK);
        assert_memory_equal(got, want, rows_of_pair(i) * sizeof *want);
        assert_int_equal(rmj_seen_find(seen, spool, key, &found, NULL), RMJ_OK);
        assert_int_equal(found, i + 1);
    }
}

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    struct rmj_spool *spool;
    struct rmj_seen seen;
    rmj_seen_init(&seen);
    assert_int_equal(rmj_spool_create(&spool, NULL, NULL), RMJ_OK);
    fill(spool, &seen, 0, PAIRS);
    check_all(spool, &seen);
    rmj_seen_deinit(&seen);
    rmj_spool_close(spool);
}

static void a_spool_is_found_again_cut_to_what_was_whole(void **state)
{
    (void)state;
    struct rmj_spool *spool;
    struct rmj_seen seen;
    rmj_seen_init(&seen);
    assert_int_equal(rmj_spool_create(&spool, directory, NULL), RMJ_OK);
    fill(spool, &seen, 0, 3000);
    assert_int_equal(rmj_spool_sync(spool, NULL), RMJ_OK);
    uint64_t tokens = rmj_spool_token_count(spool);
    fill(spool, &seen, 3000, 4000); // lost with the process
    rmj_spool_close(spool);
    assert_int_equal(rmj_spool_resume(&spool, directory, 3000, tokens + 100000000, NULL), RMJ_NOT_FOUND);
    assert_int_equal(rmj_spool_resume(&spool, directory, 3000, tokens, NULL), RMJ_OK);
    assert_int_equal(rmj_seen_fill(&seen, spool, NULL), RMJ_OK);
    fill(spool, &seen, 3000, PAIRS);
    check_all(spool, &seen);
    rmj_seen_deinit(&seen);
    rmj_spool_close(spool);
}

// ---- whole preparations ----

static char *write_pairs(const char *where)
{
    struct rmj_buf text;
    rmj_buf_init(&text, (size_t)8 << 20);
    for (int i = 0; i < 4000; i++) {
        // Every tenth is a duplicate of the one before, so that what was seen must be known again.
        int n = i % 10 == 9 ? i - 1 : i;
        // Every tenth, too, is the one before with its sides exchanged; the first row is the longest.
        const char *longest = i == 0 ? " and much more is said of it than of any other one" : "";
        int exchanged = i % 10 == 5;
        n = exchanged ? i - 1 : n;
        rmj_buf_printf(&text, "{\"chosen\":\"question %d %s%s\",\"rejected\":\"question %d %s\"}\n", n,
                       exchanged ? "no" : "yes", longest, n, exchanged ? "yes" : "no");
    }
    char *path = fixture_write_text(where, "many.jsonl", rmj_buf_text(&text));
    rmj_buf_deinit(&text);
    return path;
}

struct run {
    const Rmjob__V1__JobSpec *spec;
    struct rmj_store *store;
    const char *directory;
    int64_t journal_ms;  // each write is four syncs, which are slow on a busy disk
    uint64_t first_rows; // of the first progress that was told
    int resumed;
};

static void note_progress(void *context, const struct rmj_prepare_progress *progress)
{
    struct run *run = context;
    run->first_rows = run->first_rows == 0 ? progress->rows : run->first_rows;
    run->resumed = progress->resumed;
}

static Rmjob__V1__PreparedRequest *prepare_once(struct run *run)
{
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_error err = {0};
    struct rmj_prepare_options options = {.directory = run->directory,
                                          .thread_count = 2,
                                          .journal_ms = run->journal_ms,
                                          .progress = note_progress,
                                          .context = run};
    if (rmj_prepare(run->spec, run->store, "job", &options, &result, &err) != RMJ_OK) {
        printf("%s\n", err.message);
        fail();
    }
    return result;
}

// Prepares until it is killed, in a child.
static void prepare_and_die(struct run *run, const char *store_path, const char *death)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("RMJOB_FAULT", death, 1); // read once a process, so this one has met no fault point yet
        assert_int_equal(rmj_store_open(&run->store, store_path, 1, NULL, NULL), RMJ_OK);
        (void)prepare_once(run);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); // else nothing was tested
}

static void expect_equal(const ProtobufCMessage *message, const ProtobufCMessage *expected)
{
    struct rmj_buf a, b;
    rmj_buf_init(&a, (size_t)16 << 20);
    rmj_buf_init(&b, (size_t)16 << 20);
    rmj_json_print(message, 1, &a);
    rmj_json_print(expected, 1, &b);
    assert_string_equal(rmj_buf_text(&a), rmj_buf_text(&b));
    rmj_buf_deinit(&a);
    rmj_buf_deinit(&b);
}

static void a_killed_preparation_goes_on_and_makes_the_same_plan(void **state)
{
    (void)state;
    char *model = fixture_model(directory, "model", 1, 0), *path = write_pairs(directory);
    char *work = rmj_fs_join(directory, "work"), *store_path = rmj_fs_join(directory, "store");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    struct run run = {.spec = spec, .journal_ms = 1};
    assert_int_equal(rmj_fs_make_directories(work, 0700, NULL), RMJ_OK);
    run.directory = work;
    static const char *const deaths[] = {"prepare@12=kill", "prepare@1=kill", "prepare@5=kill"};
    for (size_t i = 0; i < RMJ_COUNT(deaths); i++) {
        prepare_and_die(&run, store_path, deaths[i]);
    }
    run.first_rows = 0;
    run.journal_ms = 10;
    assert_int_equal(rmj_store_open(&run.store, store_path, 1, NULL, NULL), RMJ_OK);
    Rmjob__V1__PreparedRequest *again = prepare_once(&run);
    assert_true(run.resumed);
    assert_true(run.first_rows > 1);
    assert_non_null(again->plan);
    struct run calm_run = {.spec = spec, .store = run.store};
    Rmjob__V1__PreparedRequest *calm = prepare_once(&calm_run);
    assert_non_null(calm->plan);
    assert_string_equal(again->plan->digest, calm->plan->digest);
    assert_string_equal(again->plan->data_digest, calm->plan->data_digest);
    assert_int_equal(again->data->rows, 4000);
    assert_int_equal(again->data->dropped_duplicate, 400);
    expect_equal(&again->data->base, &calm->data->base);
    // Another file under the same name is no work to go on with.
    free(fixture_write_text(directory, "many.jsonl", "{\"chosen\":\"a\",\"rejected\":\"b\"}\n"));
    Rmjob__V1__PreparedRequest *other = prepare_once(&run);
    assert_false(run.resumed);
    assert_int_equal(other->data->rows, 1);
    protobuf_c_message_free_unpacked(&calm->base, NULL);
    protobuf_c_message_free_unpacked(&again->base, NULL);
    protobuf_c_message_free_unpacked(&other->base, NULL);
    rmj_store_close(run.store);
    fixture_spec_free(spec);
    free(model);
    free(path);
    free(work);
    free(store_path);
}

static void other_heldout_rows_are_no_work_to_go_on_with(void **state)
{
    (void)state;
    char *model = fixture_model(directory, "model-h", 1, 0), *path = write_pairs(directory);
    char *heldout = fixture_write_text(directory, "heldout.jsonl", "{\"chosen\":\"c\",\"rejected\":\"d\"}\n");
    char *work = rmj_fs_join(directory, "work-h"), *store_path = rmj_fs_join(directory, "store");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    struct run run = {.spec = spec, .directory = work, .journal_ms = 10};
    fixture_set_heldout(spec, heldout);
    assert_int_equal(rmj_fs_make_directories(work, 0700, NULL), RMJ_OK);
    assert_int_equal(rmj_store_open(&run.store, store_path, 1, NULL, NULL), RMJ_OK);
    static const int resumed[] = {0, 1, 0}; // the journal stays where it is
    for (size_t i = 0; i < RMJ_COUNT(resumed); i++) {
        if (i == 2) {
            free(fixture_write_text(directory, "heldout.jsonl", "{\"chosen\":\"b c\",\"rejected\":\"d\"}\n"));
        }
        Rmjob__V1__PreparedRequest *result = prepare_once(&run);
        assert_int_equal(run.resumed, resumed[i]);
        assert_int_equal(result->data->rows, 4000);
        protobuf_c_message_free_unpacked(&result->base, NULL);
    }
    rmj_store_close(run.store);
    fixture_spec_free(spec);
    char *const all[] = {model, path, heldout, work, store_path};
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        free(all[i]);
    }
}

static void a_full_disk_is_not_the_datas_fault(void **state)
{
    (void)state;
    char *model = fixture_model(directory, "model-f", 1, 0), *path = write_pairs(directory);
    char *work = rmj_fs_join(directory, "work-f"), *store_path = rmj_fs_join(directory, "store");
    char *full = rmj_fs_join(work, "study-pairs");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_store *store = NULL;
    struct rmj_error err = {0};
    struct rmj_prepare_options options = {.directory = work, .thread_count = 1, .journal_ms = 100000};
    assert_int_equal(rmj_fs_make_directories(work, 0700, NULL), RMJ_OK);
    assert_int_equal(symlink("/dev/full", full), 0);
    assert_int_equal(rmj_store_open(&store, store_path, 1, NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_prepare(spec, store, "job", &options, &result, &err), RMJ_FULL);
    assert_null(result);
    assert_string_equal(err.message, "cannot write the study of the data, make room where TMPDIR points: No space left "
                                     "on device");
    rmj_store_close(store);
    fixture_spec_free(spec);
    char *const all[] = {model, path, work, store_path, full};
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        free(all[i]);
    }
}

struct heap {
    size_t first, most;
};

static void note_heap(void *context, const struct rmj_prepare_progress *progress)
{
    struct heap *heap = context;
    struct mallinfo2 info = mallinfo2(); // zeros where a sanitizer has the heap
    size_t used = info.uordblks + info.hblkhd;
    heap->first = heap->first == 0 ? used : heap->first;
    heap->most = !progress->writing && used > heap->most ? used : heap->most;
}

static void long_rows_here_and_there_take_no_memory_for_all(void **state)
{
    (void)state;
    struct rmj_buf text;
    rmj_buf_init(&text, (size_t)64 << 20);
    char *longest = malloc(150001);
    memset(longest, 'a', 150000);
    longest[150000] = '\0';
    for (int i = 0; i < 60 * 257; i++) { // rows are read by 256, so each long one is at another place
        rmj_buf_printf(&text, "{\"chosen\":\"%s b %d\",\"rejected\":\"c\"}\n", i % 257 == 0 ? longest : "", i);
    }
    char *model = fixture_model(directory, "model-l", 1, 0);
    char *path = fixture_write_text(directory, "long.jsonl", rmj_buf_text(&text));
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_store *store = NULL;
    struct heap heap = {0};
    struct rmj_prepare_options options = {.thread_count = 1, .progress = note_heap, .context = &heap};
    char *store_path = rmj_fs_join(directory, "store");
    rmj_buf_deinit(&text);
    assert_int_equal(rmj_store_open(&store, store_path, 1, NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_prepare(spec, store, "job", &options, &result, NULL), RMJ_OK);
    printf("heap %zu at first, at most %zu\n", heap.first, heap.most);
    assert_int_equal(result->data->rows, 60 * 257);
    assert_true(heap.most < heap.first + ((size_t)24 << 20));
    protobuf_c_message_free_unpacked(&result->base, NULL);
    rmj_store_close(store);
    fixture_spec_free(spec);
    char *const all[] = {model, path, store_path, longest};
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        free(all[i]);
    }
}

static int make_directory(void **state)
{
    (void)state;
    directory = fixture_directory();
    return directory == NULL;
}

static int remove_directory(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(a_spool_is_found_again_cut_to_what_was_whole),
        cmocka_unit_test(a_killed_preparation_goes_on_and_makes_the_same_plan),
        cmocka_unit_test(other_heldout_rows_are_no_work_to_go_on_with),
        cmocka_unit_test(a_full_disk_is_not_the_datas_fault),
        cmocka_unit_test(long_rows_here_and_there_take_no_memory_for_all),
    };
    return cmocka_run_group_tests_name("spool", tests, make_directory, remove_directory);
}
