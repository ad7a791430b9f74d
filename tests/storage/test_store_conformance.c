// What every object store promises, run against a directory and against any S3 server:
//
//   test_store_conformance                                     a temporary directory
//   RMJOB_TEST_STORE_URL=s3://bucket/prefix test_store_conformance   (with AWS_* set)
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/rng.h"
#include "base/text.h"
#include "storage/object/s3_internal.h"
#include "storage/object/store.h"

#define MIB (1u << 20)

static char url[512];       // of this run's own folder
static char directory[256]; // for files
static int is_s3;
static const char *self;
static struct rmj_store *store;

#define assert_status(expected, call)                                                                                  \
    do {                                                                                                               \
        struct rmj_error err_ = {0};                                                                                   \
        struct rmj_error *err = &err_;                                                                                 \
        enum rmj_status got_ = (call);                                                                                 \
        if (got_ != (expected)) {                                                                                      \
            fail_msg("%s: %s, not %s: %s", #call, rmj_status_name(got_), rmj_status_name(expected), err_.message);     \
        }                                                                                                              \
    } while (0)

static char *random_bytes(size_t size, uint64_t seed)
{
    char *bytes = malloc(size + 8);
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 1);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = rmj_rng_next(&rng);
        memcpy(bytes + i, &word, 8);
    }
    return bytes;
}

static void put_text(const char *key, const char *text)
{
    assert_status(RMJ_OK, rmj_store_put(store, key, text, strlen(text), RMJ_PUT_ANY, NULL, err));
}

static void assert_object_is(const char *key, const void *bytes, size_t size)
{
    struct rmj_buf out;
    rmj_buf_init(&out, 64 * MIB);
    assert_status(RMJ_OK, rmj_store_get(store, key, &out, err));
    assert_int_equal(out.size, size);
    assert_int_equal(size == 0 ? 0 : memcmp(out.bytes, bytes, size), 0);
    rmj_buf_deinit(&out);
}

// ---- whole objects -------------------------------------------------------------------------------------------------

static void what_was_put_is_got(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4095, 4096, MIB + 3};
    for (size_t i = 0; i < RMJ_COUNT(sizes); i++) {
        char key[64];
        snprintf(key, sizeof key, "whole/size-%zu", sizes[i]);
        char *bytes = random_bytes(sizes[i], i);
        struct rmj_digest digest;
        rmj_sha256_of(bytes, sizes[i], &digest);
        assert_status(RMJ_OK, rmj_store_put(store, key, bytes, sizes[i], RMJ_PUT_ANY, &digest, err));
        assert_object_is(key, bytes, sizes[i]);
        uint64_t size = 99;
        int64_t modified = 0;
        assert_status(RMJ_OK, rmj_store_head(store, key, &size, &modified, err));
        assert_int_equal(size, sizes[i]);
        assert_true(llabs(modified - rmj_clock_unix_ms()) < 600000);
        free(bytes);
    }
}

static void a_put_replaces(void **state)
{
    (void)state;
    put_text("replace", "first and longer");
    put_text("replace", "second");
    assert_object_is("replace", "second", 6);
}

static void get_appends_and_respects_its_bound(void **state)
{
    (void)state;
    put_text("bound", "0123456789");
    struct rmj_buf out;
    rmj_buf_init(&out, 16);
    rmj_buf_puts(&out, "head:");
    assert_status(RMJ_OK, rmj_store_get(store, "bound", &out, err));
    assert_string_equal(rmj_buf_text(&out), "head:0123456789");
    assert_status(RMJ_FULL, rmj_store_get(store, "bound", &out, err));
    assert_int_equal(out.size, 15);
    rmj_buf_deinit(&out);
}

static void an_absent_object_is_not_found(void **state)
{
    (void)state;
    struct rmj_buf out;
    rmj_buf_init(&out, 100);
    char bytes[4], path[300];
    uint64_t size;
    struct rmj_digest digest;
    snprintf(path, sizeof path, "%s/absent", directory);
    assert_status(RMJ_NOT_FOUND, rmj_store_get(store, "absent/x", &out, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "absent/x", &size, NULL, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_get_range(store, "absent/x", 0, bytes, 4, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_get_file(store, "absent/x", path, &digest, &size, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_copy(store, "absent/x", "absent/y", err));
    assert_false(rmj_fs_exists(path));
    assert_status(RMJ_OK, rmj_store_delete(store, "absent/x", err));
    rmj_buf_deinit(&out);
}

static void a_deleted_object_is_gone(void **state)
{
    (void)state;
    put_text("gone/x", "x");
    assert_status(RMJ_OK, rmj_store_delete(store, "gone/x", err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "gone/x", NULL, NULL, err));
}

static void bytes_that_are_not_the_digest_s_are_refused(void **state)
{
    (void)state;
    struct rmj_digest digest;
    rmj_sha256_of("other", 5, &digest);
    assert_status(RMJ_CORRUPT, rmj_store_put(store, "lie", "these", 5, RMJ_PUT_ANY, &digest, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "lie", NULL, NULL, err));
}

static void bad_keys_are_refused(void **state)
{
    (void)state;
    char long_key[1000];
    memset(long_key, 'a', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    const char *keys[] = {"",   "/a",   "a/",       "a//b",   "../a",       "a/../b",       "a/./b",
                          "..", "a\nb", "\xff\xfe", long_key, ".rmj-tmp/x", "a/.rmj-tmp/b", "\xed\xa0\x80/x"};
    for (size_t i = 0; i < RMJ_COUNT(keys); i++) {
        assert_status(RMJ_INVALID, rmj_store_put(store, keys[i], "x", 1, RMJ_PUT_ANY, NULL, err));
        assert_status(RMJ_INVALID, rmj_store_head(store, keys[i], NULL, NULL, err));
        assert_status(RMJ_INVALID, rmj_store_delete(store, keys[i], err));
    }
}

static void a_store_opened_for_reading_refuses_changes(void **state)
{
    (void)state;
    put_text("readable", "x");
    struct rmj_store *reader;
    assert_status(RMJ_OK, rmj_store_open(&reader, url, 0, NULL, err));
    assert_status(RMJ_DENIED, rmj_store_put(reader, "readable", "y", 1, RMJ_PUT_ANY, NULL, err));
    assert_status(RMJ_DENIED, rmj_store_delete(reader, "readable", err));
    assert_status(RMJ_DENIED, rmj_store_copy(reader, "readable", "b", err));
    assert_status(RMJ_OK, rmj_store_head(reader, "readable", NULL, NULL, err));
    rmj_store_close(reader);
}

// ---- ranges, files, parts ------------------------------------------------------------------------------------------

static void ranges_are_exact(void **state)
{
    (void)state;
    put_text("range", "0123456789");
    char bytes[16];
    assert_status(RMJ_OK, rmj_store_get_range(store, "range", 0, bytes, 10, err));
    assert_memory_equal(bytes, "0123456789", 10);
    assert_status(RMJ_OK, rmj_store_get_range(store, "range", 9, bytes, 1, err));
    assert_int_equal(bytes[0], '9');
    assert_status(RMJ_OK, rmj_store_get_range(store, "range", 3, bytes, 4, err));
    assert_memory_equal(bytes, "3456", 4);
    assert_status(RMJ_OK, rmj_store_get_range(store, "range", 5, bytes, 0, err));
    assert_status(RMJ_CORRUPT, rmj_store_get_range(store, "range", 5, bytes, 6, err));
    assert_status(RMJ_CORRUPT, rmj_store_get_range(store, "range", 10, bytes, 1, err));
    assert_status(RMJ_CORRUPT, rmj_store_get_range(store, "range", UINT64_MAX - 2, bytes, 1, err));
}

static void assert_file_is(const char *path, const char *bytes, size_t size)
{
    struct rmj_buf got;
    rmj_buf_init(&got, 64 * MIB);
    assert_status(RMJ_OK, rmj_fs_read(path, &got, err));
    assert_int_equal(got.size, size);
    assert_int_equal(memcmp(got.bytes, bytes, size), 0);
    rmj_buf_deinit(&got);
}

static void large_objects_travel_in_parts(void **state)
{
    (void)state;
    size_t size = 17 * MIB + 13;
    char *bytes = random_bytes(size, 42);
    char from[300], to[300];
    snprintf(from, sizeof from, "%s/large.from", directory);
    snprintf(to, sizeof to, "%s/large.to", directory);
    assert_status(RMJ_OK, rmj_fs_write(from, bytes, size, 0600, err));
    struct rmj_digest digest, found;
    uint64_t found_size;
    rmj_sha256_of(bytes, size, &digest);
    assert_status(RMJ_OK, rmj_store_put_file(store, "large/file", from, RMJ_PUT_IF_ABSENT, &digest, err));
    assert_status(RMJ_CONFLICT, rmj_store_put_file(store, "large/file", from, RMJ_PUT_IF_ABSENT, NULL, err));
    assert_status(RMJ_OK, rmj_store_get_file(store, "large/file", to, &found, &found_size, err));
    assert_true(rmj_digest_equal(&digest, &found));
    assert_int_equal(found_size, size);
    assert_file_is(to, bytes, size);
    assert_status(RMJ_OK, rmj_store_put(store, "large/memory", bytes, size, RMJ_PUT_ANY, NULL, err));
    assert_object_is("large/memory", bytes, size);
    assert_status(RMJ_OK, rmj_store_copy(store, "large/memory", "large/copy", err));
    assert_object_is("large/copy", bytes, size);
    rmj_sha256_of("", 0, &digest);
    assert_status(RMJ_CORRUPT, rmj_store_put(store, "large/lie", bytes, size, RMJ_PUT_ANY, &digest, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "large/lie", NULL, NULL, err));
    free(bytes);
}

static void an_object_too_large_for_one_copy_is_copied_in_parts(void **state)
{
    (void)state;
    if (!is_s3) {
        skip();
    }
    // What the store does over 5 GiB, here with parts of 5 MiB.
    size_t size = 11 * MIB + 5;
    char *bytes = random_bytes(size, 43);
    assert_status(RMJ_OK, rmj_store_put(store, "parts/from +", bytes, size, RMJ_PUT_ANY, NULL, err));
    assert_status(RMJ_OK, s3_copy_parts(s3_of(store), "parts/from +", "parts/to", size, 5 * MIB, err));
    assert_object_is("parts/to", bytes, size);
    assert_status(RMJ_NOT_FOUND, s3_copy_parts(s3_of(store), "parts/absent", "parts/none", size, 5 * MIB, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "parts/none", NULL, NULL, err));
    free(bytes);
}

static void a_copy_onto_itself_makes_young(void **state)
{
    (void)state;
    put_text("young", "same bytes");
    int64_t before, after;
    assert_status(RMJ_OK, rmj_store_head(store, "young", NULL, &before, err));
    rmj_clock_sleep_ms(1100);
    assert_status(RMJ_OK, rmj_store_copy(store, "young", "young", err));
    assert_status(RMJ_OK, rmj_store_head(store, "young", NULL, &after, err));
    assert_true(after > before);
    assert_object_is("young", "same bytes", 10);
}

// ---- conditional creation ------------------------------------------------------------------------------------------

static void only_the_first_creation_succeeds(void **state)
{
    (void)state;
    assert_status(RMJ_OK, rmj_store_put(store, "once", "a", 1, RMJ_PUT_IF_ABSENT, NULL, err));
    assert_status(RMJ_CONFLICT, rmj_store_put(store, "once", "b", 1, RMJ_PUT_IF_ABSENT, NULL, err));
    assert_status(RMJ_CONFLICT, rmj_store_put(store, "once", "a", 1, RMJ_PUT_IF_ABSENT, NULL, err));
    assert_object_is("once", "a", 1);
}

#define RACER_COUNT 16

struct racer {
    const char *key;
    char *bytes;
    size_t size;
    pthread_barrier_t *start;
    enum rmj_status status;
};

static void *race(void *context)
{
    struct racer *racer = context;
    pthread_barrier_wait(racer->start);
    racer->status = rmj_store_put(store, racer->key, racer->bytes, racer->size, RMJ_PUT_IF_ABSENT, NULL, NULL);
    return NULL;
}

static void run_race(const char *key, size_t size, size_t count)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)count);
    struct racer racers[RACER_COUNT];
    pthread_t threads[RACER_COUNT];
    for (size_t i = 0; i < count; i++) {
        racers[i] = (struct racer){.key = key, .bytes = random_bytes(size, 100 + i), .size = size, .start = &start};
        pthread_create(&threads[i], NULL, race, &racers[i]);
    }
    size_t winner_count = 0;
    size_t winner = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (racers[i].status == RMJ_OK) {
            winner = i;
            winner_count++;
        } else {
            assert_int_equal(racers[i].status, RMJ_CONFLICT);
        }
    }
    assert_int_equal(winner_count, 1);
    assert_object_is(key, racers[winner].bytes, size);
    for (size_t i = 0; i < count; i++) {
        free(racers[i].bytes);
    }
    pthread_barrier_destroy(&start);
}

static void of_sixteen_racing_threads_one_creates(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char key[32];
        snprintf(key, sizeof key, "race/threads-%d", i);
        run_race(key, 1000, RACER_COUNT);
    }
}

static void of_racing_uploads_in_parts_one_creates(void **state)
{
    (void)state;
    run_race("race/parts", 9 * MIB, 4);
}

static pid_t start_child(const char *mode, const char *key, const char *text, const char *fault)
{
    pid_t child = fork();
    if (child == 0) {
        if (fault != NULL) {
            setenv("RMJOB_FAULT", fault, 1);
        }
        execl(self, self, mode, url, key, text, (char *)NULL);
        _exit(99);
    }
    assert_true(child > 0);
    return child;
}

static void of_racing_processes_one_creates(void **state)
{
    (void)state;
    pid_t children[8];
    for (size_t i = 0; i < RMJ_COUNT(children); i++) {
        char text[16];
        snprintf(text, sizeof text, "child-%zu", i);
        children[i] = start_child("child-put", "race/processes", text, NULL);
    }
    size_t winner_count = 0;
    char winner[16] = "";
    for (size_t i = 0; i < RMJ_COUNT(children); i++) {
        int status;
        waitpid(children[i], &status, 0);
        assert_true(WIFEXITED(status));
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == RMJ_CONFLICT);
        if (WEXITSTATUS(status) == 0) {
            winner_count++;
            snprintf(winner, sizeof winner, "child-%zu", i);
        }
    }
    assert_int_equal(winner_count, 1);
    assert_object_is("race/processes", winner, strlen(winner));
}

static void a_writer_killed_before_the_object_appears_leaves_nothing(void **state)
{
    (void)state;
    int status;
    waitpid(start_child("child-put", "killed/before", "x", "store.put.before_visible@1=kill"), &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "killed/before", NULL, NULL, err));
    waitpid(start_child("child-put", "killed/after", "whole", "store.put.visible@1=kill"), &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_object_is("killed/after", "whole", 5);
    waitpid(start_child("child-put", "killed/error", "x", "store.put@1=error"), &status, 0);
    assert_int_equal(WEXITSTATUS(status), RMJ_IO);
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "killed/error", NULL, NULL, err));
}

// ---- listings ------------------------------------------------------------------------------------------------------

struct seen {
    char (*keys)[300];
    size_t count;
    size_t count_max;
    uint64_t size;
    size_t stop_at;
};

static enum rmj_status see(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                           struct rmj_error *err)
{
    struct seen *seen = context;
    assert_true(llabs(modified_unix_ms - rmj_clock_unix_ms()) < 600000);
    assert_true(seen->count < seen->count_max);
    snprintf(seen->keys[seen->count++], 300, "%s", key);
    seen->size += size;
    return seen->count == seen->stop_at ? rmj_fail(err, RMJ_CANCELLED, "enough") : RMJ_OK;
}

static struct seen list(const char *prefix, size_t count_max)
{
    struct seen seen = {.keys = calloc(count_max, 300), .count_max = count_max};
    assert_status(RMJ_OK, rmj_store_list(store, prefix, see, &seen, err));
    return seen;
}

static void odd_keys_are_kept_and_listed(void **state)
{
    (void)state;
    // In the order of bytes.
    const char *keys[] = {"odd/a b",
                          "odd/a#?",
                          "odd/a%2Fb",
                          "odd/a&b=<c>\"'",
                          "odd/a+b",
                          "odd/a-b",
                          "odd/a.b",
                          "odd/a/b",
                          "odd/a:b@c",
                          "odd/a;b,c",
                          "odd/ab",
                          "odd/a~b",
                          "odd/gr\xc3\xb6\xc3\x9f"
                          "e",
                          "odd/\xe6\xa8\xa1\xe5\x9e\x8b",
                          "odd/\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < RMJ_COUNT(keys); i++) {
        put_text(keys[i], keys[i]);
    }
    for (size_t i = 0; i < RMJ_COUNT(keys); i++) {
        assert_object_is(keys[i], keys[i], strlen(keys[i]));
        char copy[100];
        snprintf(copy, sizeof copy, "odd-copy/%s", keys[i]);
        assert_status(RMJ_OK, rmj_store_copy(store, keys[i], copy, err));
        assert_object_is(copy, keys[i], strlen(keys[i]));
    }
    struct seen seen = list("odd/", 100);
    assert_int_equal(seen.count, RMJ_COUNT(keys));
    for (size_t i = 0; i < RMJ_COUNT(keys); i++) {
        assert_string_equal(seen.keys[i], keys[i]);
    }
    free(seen.keys);
}

static void a_prefix_is_a_prefix_of_the_key(void **state)
{
    (void)state;
    put_text("fix/job1/a", "1");
    put_text("fix/job1/b/c", "22");
    put_text("fix/job10/a", "333");
    put_text("fix/job2", "4444");
    const struct {
        const char *prefix;
        size_t count;
        uint64_t size;
    } cases[] = {{"fix/job1/", 2, 3}, {"fix/job1", 3, 6}, {"fix/", 4, 10},    {"fix/job1/b", 1, 2},
                 {"fix/job3", 0, 0},  {"fi", 4, 10},      {"nothing/", 0, 0}, {"fix/job2", 1, 4}};
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct seen seen = list(cases[i].prefix, 10);
        assert_int_equal(seen.count, cases[i].count);
        assert_int_equal(seen.size, cases[i].size);
        free(seen.keys);
    }
}

#define MANY_COUNT 1103
#define PUTTER_COUNT 8

static void *put_many(void *context)
{
    for (size_t i = (size_t)(uintptr_t)context; i < MANY_COUNT; i += PUTTER_COUNT) {
        char key[64];
        snprintf(key, sizeof key, "many/%04zu", i);
        if (rmj_store_put(store, key, "x", 1, RMJ_PUT_ANY, NULL, NULL) != RMJ_OK) {
            return "failed";
        }
    }
    return NULL;
}

static void listings_go_on_past_a_thousand_keys(void **state)
{
    (void)state;
    pthread_t threads[PUTTER_COUNT];
    for (uintptr_t i = 0; i < PUTTER_COUNT; i++) {
        pthread_create(&threads[i], NULL, put_many, (void *)i);
    }
    for (size_t i = 0; i < PUTTER_COUNT; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    struct seen seen = list("many/", 2000);
    assert_int_equal(seen.count, MANY_COUNT);
    for (size_t i = 0; i < MANY_COUNT; i++) {
        char key[64];
        snprintf(key, sizeof key, "many/%04zu", i);
        assert_string_equal(seen.keys[i], key);
    }
    seen.count = 0;
    seen.stop_at = 3;
    assert_status(RMJ_CANCELLED, rmj_store_list(store, "many/", see, &seen, err));
    assert_int_equal(seen.count, 3);
    free(seen.keys);
}

// ---- opening -------------------------------------------------------------------------------------------------------

static void bad_urls_are_refused(void **state)
{
    (void)state;
    struct rmj_store *none;
    assert_status(RMJ_INVALID, rmj_store_open(&none, "", 1, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, "ftp://host/x", 1, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, "s3://", 1, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, "s3://a b/c", 1, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, "s3://bucket/a/../b", 1, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, "file://host/x", 1, NULL, err));
    assert_null(none);
}

static void s3_needs_a_bucket_and_credentials(void **state)
{
    (void)state;
    if (!is_s3) {
        skip();
    }
    struct rmj_store *none;
    assert_status(RMJ_NOT_FOUND, rmj_store_open(&none, "s3://rmjob-no-such-bucket", 1, NULL, err));
    char *secret = strdup(getenv("AWS_SECRET_ACCESS_KEY"));
    char *key = strdup(getenv("AWS_ACCESS_KEY_ID"));
    setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-value", 1);
    struct rmj_error denied = {0};
    assert_int_equal(rmj_store_open(&none, url, 1, NULL, &denied), RMJ_DENIED);
    assert_non_null(strstr(denied.message, "AWS_SECRET_ACCESS_KEY is not the secret"));
    assert_null(strstr(denied.message, "planted-secret-value"));
    setenv("AWS_ACCESS_KEY_ID", "nobody", 1);
    assert_status(RMJ_DENIED, rmj_store_open(&none, url, 1, NULL, err));
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_status(RMJ_DENIED, rmj_store_open(&none, url, 1, NULL, err));
    setenv("AWS_ACCESS_KEY_ID", key, 1);
    setenv("AWS_SECRET_ACCESS_KEY", secret, 1);
    free(key);
    free(secret);
}

// ---- what only a directory can be made to do -----------------------------------------------------------------------

static void need_directory(void)
{
    if (is_s3) {
        skip();
    }
}

static void a_directory_store_follows_no_symbolic_link(void **state)
{
    (void)state;
    need_directory();
    char outside[300], link_path[600];
    snprintf(outside, sizeof outside, "%s/outside", directory);
    snprintf(link_path, sizeof link_path, "%s/link", url);
    assert_int_equal(mkdir(outside, 0700), 0);
    assert_int_equal(symlink(outside, link_path), 0);
    assert_status(RMJ_INVALID, rmj_store_put(store, "link/x", "x", 1, RMJ_PUT_ANY, NULL, err));
    assert_status(RMJ_INVALID, rmj_store_head(store, "link", NULL, NULL, err));
    struct seen seen = list("link", 10);
    assert_int_equal(seen.count, 0);
    free(seen.keys);
    assert_int_equal(rmdir(outside), 0); // nothing went there
    unlink(link_path);
}

static void an_object_and_a_folder_of_one_name_are_refused(void **state)
{
    (void)state;
    need_directory();
    put_text("both", "x");
    assert_status(RMJ_INVALID, rmj_store_put(store, "both/y", "y", 1, RMJ_PUT_ANY, NULL, err));
    put_text("folder/y", "y");
    assert_status(RMJ_INVALID, rmj_store_put(store, "folder", "x", 1, RMJ_PUT_ANY, NULL, err));
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "folder", NULL, NULL, err));
}

static void left_over_temporaries_are_invisible_and_go_when_old(void **state)
{
    (void)state;
    need_directory();
    char fresh[600], old[600];
    snprintf(fresh, sizeof fresh, "%s/.rmj-tmp/put-fresh", url);
    snprintf(old, sizeof old, "%s/.rmj-tmp/put-old", url);
    assert_status(RMJ_OK, rmj_fs_write(fresh, "half", 4, 0600, err));
    assert_status(RMJ_OK, rmj_fs_write(old, "half", 4, 0600, err));
    struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(utimensat(AT_FDCWD, old, times, 0), 0);
    struct seen seen = list("", 3000);
    for (size_t i = 0; i < seen.count; i++) {
        assert_null(strstr(seen.keys[i], ".rmj-tmp"));
    }
    free(seen.keys);
    struct rmj_store *again;
    assert_status(RMJ_OK, rmj_store_open(&again, url, 1, NULL, err));
    rmj_store_close(again);
    assert_false(rmj_fs_exists(old));
    assert_true(rmj_fs_exists(fresh));
}

// Runs `body` in a child, which may change its limits or user. Returns its exit status.
static int in_child(int (*body)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        _exit(body());
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

static int put_over_the_limit(void)
{
    struct rlimit limit = {.rlim_cur = 1 * MIB, .rlim_max = 1 * MIB};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    char *bytes = random_bytes(3 * MIB, 1);
    int status = (int)rmj_store_put(store, "full", bytes, 3 * MIB, RMJ_PUT_ANY, NULL, NULL);
    free(bytes);
    return status;
}

static void a_full_disk_is_full_and_leaves_nothing(void **state)
{
    (void)state;
    need_directory();
    assert_int_equal(in_child(put_over_the_limit), RMJ_FULL);
    assert_status(RMJ_NOT_FOUND, rmj_store_head(store, "full", NULL, NULL, err));
}

static int open_as_nobody(void)
{
    struct rmj_store *none;
    if (getuid() == 0 && setuid(65534) != 0) {
        return 99;
    }
    char closed[600];
    snprintf(closed, sizeof closed, "%s/closed", directory);
    return (int)rmj_store_open(&none, closed, 1, NULL, NULL);
}

static void a_directory_without_permission_is_denied(void **state)
{
    (void)state;
    need_directory();
    char closed[600];
    snprintf(closed, sizeof closed, "%s/closed", directory);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(mkdir(closed, 0555), 0);
    assert_int_equal(in_child(open_as_nobody), RMJ_DENIED);
}

static void a_missing_directory_is_not_found_for_reading(void **state)
{
    (void)state;
    struct rmj_store *none;
    char path[600];
    snprintf(path, sizeof path, "%s/missing", directory);
    assert_status(RMJ_NOT_FOUND, rmj_store_open(&none, path, 0, NULL, err));
    assert_status(RMJ_OK, rmj_fs_write(path, "x", 1, 0600, err));
    assert_status(RMJ_INVALID, rmj_store_open(&none, path, 0, NULL, err));
}

// ---- main ----------------------------------------------------------------------------------------------------------

static int child_put(char **arguments)
{
    struct rmj_store *child_store;
    if (rmj_store_open(&child_store, arguments[0], 1, NULL, NULL) != RMJ_OK) {
        return 98;
    }
    int status = (int)rmj_store_put(child_store, arguments[1], arguments[2], strlen(arguments[2]), RMJ_PUT_IF_ABSENT,
                                    NULL, NULL);
    rmj_store_close(child_store);
    return status;
}

static int open_store(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    if (rmj_store_open(&store, url, 1, NULL, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static enum rmj_status delete_each(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                   struct rmj_error *err)
{
    (void)context;
    (void)size;
    (void)modified_unix_ms;
    return rmj_store_delete(store, key, err);
}

static int close_store(void **state)
{
    (void)state;
    enum rmj_status status = rmj_store_list(store, "", delete_each, NULL, NULL);
    rmj_store_close(store);
    return status == RMJ_OK && rmj_fs_remove_tree(directory, NULL) == RMJ_OK ? 0 : -1;
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 5 && strcmp(argv[1], "child-put") == 0) {
        return child_put(argv + 2);
    }
    const char *given = argc == 2 ? argv[1] : getenv("RMJOB_TEST_STORE_URL");
    snprintf(directory, sizeof directory, "/tmp/rmjob-store-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return 1;
    }
    is_s3 = given != NULL && strncmp(given, "s3://", 5) == 0;
    char id[20];
    rmj_text_make_id(id, sizeof id, "run-", 8);
    snprintf(url, sizeof url, "%s/%s", given == NULL ? directory : given, id);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_got),
        cmocka_unit_test(a_put_replaces),
        cmocka_unit_test(get_appends_and_respects_its_bound),
        cmocka_unit_test(an_absent_object_is_not_found),
        cmocka_unit_test(a_deleted_object_is_gone),
        cmocka_unit_test(bytes_that_are_not_the_digest_s_are_refused),
        cmocka_unit_test(bad_keys_are_refused),
        cmocka_unit_test(a_store_opened_for_reading_refuses_changes),
        cmocka_unit_test(ranges_are_exact),
        cmocka_unit_test(large_objects_travel_in_parts),
        cmocka_unit_test(an_object_too_large_for_one_copy_is_copied_in_parts),
        cmocka_unit_test(a_copy_onto_itself_makes_young),
        cmocka_unit_test(only_the_first_creation_succeeds),
        cmocka_unit_test(of_sixteen_racing_threads_one_creates),
        cmocka_unit_test(of_racing_uploads_in_parts_one_creates),
        cmocka_unit_test(of_racing_processes_one_creates),
        cmocka_unit_test(a_writer_killed_before_the_object_appears_leaves_nothing),
        cmocka_unit_test(odd_keys_are_kept_and_listed),
        cmocka_unit_test(a_prefix_is_a_prefix_of_the_key),
        cmocka_unit_test(listings_go_on_past_a_thousand_keys),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(s3_needs_a_bucket_and_credentials),
        cmocka_unit_test(a_directory_store_follows_no_symbolic_link),
        cmocka_unit_test(an_object_and_a_folder_of_one_name_are_refused),
        cmocka_unit_test(left_over_temporaries_are_invisible_and_go_when_old),
        cmocka_unit_test(a_full_disk_is_full_and_leaves_nothing),
        cmocka_unit_test(a_directory_without_permission_is_denied),
        cmocka_unit_test(a_missing_directory_is_not_found_for_reading),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
