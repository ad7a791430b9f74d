// Pages and manifests in a store: what is committed is whole, what differs is named, what is named is never collected.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rng.h"
#include "storage/checkpoint/checkpoint.h"

#define PREFIX "jobs/j1"
#define FLOAT_COUNT 5000
#define MUTATION_COUNT 20000
#define SEED 11

static char directory[64];
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

static int open_store(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rmjob-checkpoint-XXXXXX");
    return mkdtemp(directory) == NULL || rmj_store_open(&store, directory, 1, NULL, NULL) != RMJ_OK;
}

static int close_store(void **state)
{
    (void)state;
    rmj_store_close(store);
    return rmj_fs_remove_tree(directory, NULL) != RMJ_OK;
}

// ---- pages ---------------------------------------------------------------------------------------------------------

struct page {
    float values[FLOAT_COUNT];
    struct rmj_page_section section;
    struct rmj_digest digest;
};

static void make_page(struct page *page, uint64_t seed)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < FLOAT_COUNT; i++) {
        page->values[i] = (float)rmj_rng_normal(&rng);
    }
    page->section = (struct rmj_page_section){page->values, sizeof page->values, 1};
    rmj_page_digest(&page->section, 1, &page->digest);
}

static int put_page(const struct page *page)
{
    uint64_t stored_size = 0;
    int sent = -1;
    assert_status(RMJ_OK, rmj_page_put(store, PREFIX, &page->section, 1, &page->digest, &stored_size, &sent, err));
    assert_true(stored_size > 0);
    return sent;
}

static void assert_page_is_whole(const struct page *page)
{
    float raw[FLOAT_COUNT];
    assert_status(RMJ_OK, rmj_page_get(store, PREFIX, &page->digest, raw, sizeof raw, err));
    assert_memory_equal(raw, page->values, sizeof raw);
}

static void page_path(const struct page *page, char *path, size_t size)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(&page->digest, hex);
    snprintf(path, size, "%s/" PREFIX "/page/%s", directory, hex);
}

static void set_age(const char *path, time_t age_s)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void a_page_is_sent_once(void **state)
{
    (void)state;
    struct page page;
    make_page(&page, 1);
    assert_int_equal(put_page(&page), 1);
    assert_int_equal(put_page(&page), 0);
    assert_page_is_whole(&page);
}

static void a_damaged_page_is_sent_again(void **state)
{
    (void)state;
    struct page page;
    make_page(&page, 2);
    put_page(&page);
    char path[300];
    page_path(&page, path, sizeof path);
    const char *damages[] = {"", "short", "RMJPAGE and then sixty bytes that are no header of any page at all, really"};
    for (size_t i = 0; i < RMJ_COUNT(damages); i++) {
        assert_status(RMJ_OK, rmj_fs_write(path, damages[i], strlen(damages[i]), 0644, err));
        float raw[FLOAT_COUNT];
        assert_status(RMJ_CORRUPT, rmj_page_get(store, PREFIX, &page.digest, raw, sizeof raw, err));
        assert_int_equal(put_page(&page), 1);
        assert_page_is_whole(&page);
    }
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(put_page(&page), 1);
    assert_page_is_whole(&page);
}

static void a_page_of_another_size_is_corrupt(void **state)
{
    (void)state;
    struct page page;
    make_page(&page, 3);
    put_page(&page);
    float raw[8];
    assert_status(RMJ_CORRUPT, rmj_page_get(store, PREFIX, &page.digest, raw, sizeof raw, err));
    page.digest.bytes[0] ^= 1;
    assert_status(RMJ_NOT_FOUND, rmj_page_get(store, PREFIX, &page.digest, raw, sizeof raw, err));
}

static void an_old_page_that_is_put_again_becomes_young(void **state)
{
    (void)state;
    struct page page;
    make_page(&page, 4);
    put_page(&page);
    char path[300];
    page_path(&page, path, sizeof path);
    set_age(path, 7200);
    assert_int_equal(put_page(&page), 0);
    uint64_t removed;
    assert_status(RMJ_OK, rmj_checkpoint_collect(store, PREFIX, 5, 3600 * 1000, &removed, err));
    assert_page_is_whole(&page);
}

// ---- manifests -----------------------------------------------------------------------------------------------------

static void fill_manifest(struct rmj_manifest *manifest, uint32_t step, const struct page *pages, size_t count)
{
    *manifest = (struct rmj_manifest){.step = step, .pairs_consumed = 9007199254740993u, .state_size = 3};
    snprintf(manifest->job_uid, sizeof manifest->job_uid, "rm-7f3a2-\xc3\xbc\"\\");
    memset(manifest->plan, 'a', 64);
    memset(manifest->spec, 'b', 64);
    memset(manifest->consumed_sum, 'c', 64);
    memset(manifest->consumed_chain, 'd', 64);
    rmj_sha256_of("abc", 3, &manifest->state);
    manifest->page_count = count;
    manifest->pages = calloc(count + 1, sizeof *manifest->pages);
    for (size_t i = 0; i < count; i++) {
        manifest->pages[i] = (struct rmj_manifest_page){pages[i].digest, sizeof pages[i].values};
    }
}

static struct rmj_buf encode(const struct rmj_manifest *manifest)
{
    struct rmj_buf out;
    rmj_buf_init(&out, 1u << 20);
    assert_status(RMJ_OK, rmj_manifest_encode(manifest, &out, err));
    return out;
}

static void a_manifest_comes_back_as_it_was(void **state)
{
    (void)state;
    struct page pages[2];
    make_page(&pages[0], 5);
    make_page(&pages[1], 6);
    struct rmj_manifest manifest, back;
    fill_manifest(&manifest, 10, pages, 2);
    struct rmj_digest committed, read;
    assert_status(RMJ_OK, rmj_manifest_commit(store, PREFIX, &manifest, &committed, err));
    assert_status(RMJ_OK, rmj_manifest_read(store, PREFIX, 10, &back, &read, err));
    assert_true(rmj_digest_equal(&committed, &read));
    assert_int_equal(back.pairs_consumed, 9007199254740993u); // not a double
    assert_string_equal(back.job_uid, manifest.job_uid);
    struct rmj_buf a = encode(&manifest);
    struct rmj_buf b = encode(&back);
    assert_string_equal(a.bytes, b.bytes);
    rmj_buf_deinit(&a);
    rmj_buf_deinit(&b);
    rmj_manifest_deinit(&manifest);
    rmj_manifest_deinit(&back);
}

static void an_equal_commit_is_success_and_a_different_one_is_named(void **state)
{
    (void)state;
    struct page pages[3];
    for (size_t i = 0; i < 3; i++) {
        make_page(&pages[i], 20 + i);
    }
    struct rmj_manifest manifest;
    struct rmj_digest digest;
    struct rmj_error err = {0};
    fill_manifest(&manifest, 20, pages, 2);
    assert_int_equal(rmj_manifest_commit(store, PREFIX, &manifest, &digest, &err), RMJ_OK);
    assert_int_equal(rmj_manifest_commit(store, PREFIX, &manifest, &digest, &err), RMJ_OK);
    manifest.pages[1].digest = pages[2].digest;
    assert_int_equal(rmj_manifest_commit(store, PREFIX, &manifest, &digest, &err), RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "determinism violation at step 20"));
    assert_non_null(strstr(err.message, "page 1 is"));
    manifest.pages[1].digest = pages[1].digest;
    manifest.consumed_chain[0] = '0';
    assert_int_equal(rmj_manifest_commit(store, PREFIX, &manifest, &digest, &err), RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "consumed chain"));
    manifest.consumed_chain[0] = 'd';
    manifest.state.bytes[0] ^= 1;
    assert_int_equal(rmj_manifest_commit(store, PREFIX, &manifest, &digest, &err), RMJ_CONFLICT);
    assert_non_null(strstr(err.message, "trainer state"));
    rmj_manifest_deinit(&manifest);
}

static void manifests_are_listed_by_step(void **state)
{
    (void)state;
    const uint32_t steps_put[] = {100, 7, 99999999, 12};
    for (size_t i = 0; i < RMJ_COUNT(steps_put); i++) {
        struct rmj_manifest manifest;
        struct rmj_digest digest;
        fill_manifest(&manifest, steps_put[i], NULL, 0);
        assert_status(RMJ_OK, rmj_manifest_commit(store, "jobs/list", &manifest, &digest, err));
        manifest.step = 100000000;
        assert_status(RMJ_INVALID, rmj_manifest_commit(store, "jobs/list", &manifest, &digest, err));
        rmj_manifest_deinit(&manifest);
    }
    assert_status(RMJ_OK, rmj_store_put(store, "jobs/list/manifest/notes.txt", "x", 1, RMJ_PUT_ANY, NULL, err));
    uint32_t *steps;
    size_t count;
    assert_status(RMJ_OK, rmj_manifest_list(store, "jobs/list", &steps, &count, err));
    assert_int_equal(count, 4);
    assert_memory_equal(steps, ((uint32_t[]){7, 12, 100, 99999999}), 4 * sizeof *steps);
    free(steps);
    assert_status(RMJ_OK, rmj_manifest_list(store, "jobs/none", &steps, &count, err));
    assert_int_equal(count, 0);
    free(steps);
    struct rmj_manifest none;
    assert_status(RMJ_NOT_FOUND, rmj_manifest_read(store, "jobs/list", 8, &none, NULL, err));
}

static void a_manifest_that_is_not_canonical_is_corrupt(void **state)
{
    (void)state;
    struct rmj_manifest manifest, out;
    fill_manifest(&manifest, 30, NULL, 0);
    struct rmj_buf good = encode(&manifest);
    static const struct {
        const char *from;
        const char *to;
        const char *says;
    } cases[] = {
        {"\"step\":30", "\"step\": 30", "canonical"},
        {"\"step\":30", "\"step\":30.0", "not an integer"},
        {"\"step\":30", "\"step\":-1", "not in 0.."},
        {"\"step\":30", "\"step\":4294967296", "not in 0.."},
        {"\"step\":30", "\"step\":30,\"steq\":1", "canonical"},
        {"\"step\":30", "\"step\":30,\"step\":30", "not JSON"},
        {"\"step\":30", "\"stop\":30", "\"step\" is missing"},
        {"checkpoint.v1", "checkpoint.v2", "not known"},
        {"\"pages\":[]", "\"pages\":{}", "\"pages\""},
        {"\"pages\":[]", "\"pages\":[7]", "page 0"},
        {"\"plan\":\"a", "\"plan\":\"A", "lower-case hex"},
        {"\"plan\":\"a", "\"plan\":\"aa", "over 64"},
        {"9007199254740993", "99999999999999999999", "not JSON"},
        {"{\"consumedChain\"", "[\"consumedChain\"", "not JSON"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char *at = strstr(good.bytes, cases[i].from);
        assert_non_null(at);
        struct rmj_buf bad;
        rmj_buf_init(&bad, 1u << 20);
        rmj_buf_append(&bad, good.bytes, (size_t)(at - good.bytes));
        rmj_buf_puts(&bad, cases[i].to);
        rmj_buf_puts(&bad, at + strlen(cases[i].from));
        struct rmj_error err = {0};
        assert_int_equal(rmj_manifest_decode(&out, bad.bytes, bad.size, &err), RMJ_CORRUPT);
        if (strstr(err.message, cases[i].says) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
        }
        rmj_buf_deinit(&bad);
    }
    rmj_buf_deinit(&good);
    rmj_manifest_deinit(&manifest);
}

static void no_mutation_of_a_manifest_is_taken_for_another_spelling(void **state)
{
    (void)state;
    struct page page;
    make_page(&page, 31);
    struct rmj_manifest manifest;
    fill_manifest(&manifest, 31, &page, 1);
    struct rmj_buf good = encode(&manifest);
    struct rmj_rng rng;
    rmj_rng_init(&rng, SEED, 0);
    print_message("seed %d\n", SEED);
    for (size_t i = 0; i < MUTATION_COUNT; i++) {
        size_t size = rmj_rng_below(&rng, 10) == 0 ? rmj_rng_below(&rng, good.size) : good.size;
        char *bytes = malloc(size + 1);
        memcpy(bytes, good.bytes, size);
        for (uint64_t k = rmj_rng_below(&rng, 4); k > 0 && size > 0; k--) {
            static const char likely[] = "{}[]\",:0123456789abcdef\\ue.-\x00\xff";
            bytes[rmj_rng_below(&rng, size)] = likely[rmj_rng_below(&rng, sizeof likely)];
        }
        struct rmj_manifest out;
        if (rmj_manifest_decode(&out, bytes, size, NULL) == RMJ_OK) {
            struct rmj_buf again = encode(&out);
            assert_int_equal(again.size, size);
            assert_memory_equal(again.bytes, bytes, size);
            rmj_buf_deinit(&again);
            rmj_manifest_deinit(&out);
        }
        free(bytes);
    }
    rmj_buf_deinit(&good);
    rmj_manifest_deinit(&manifest);
}

// ---- collection ----------------------------------------------------------------------------------------------------

static void put_checkpoint(uint32_t step, const struct page *page, time_t age_s)
{
    struct rmj_manifest manifest;
    struct rmj_digest digest;
    put_page(page);
    fill_manifest(&manifest, step, page, 1);
    char hex[RMJ_DIGEST_HEX_SIZE], key[200], path[300];
    rmj_sha256_of(&step, sizeof step, &manifest.state);
    rmj_digest_hex(&manifest.state, hex);
    snprintf(key, sizeof key, PREFIX "/state/%s", hex);
    assert_status(RMJ_OK, rmj_store_put(store, key, &step, sizeof step, RMJ_PUT_ANY, NULL, err));
    assert_status(RMJ_OK, rmj_manifest_commit(store, PREFIX, &manifest, &digest, err));
    page_path(page, path, sizeof path);
    set_age(path, age_s);
    snprintf(path, sizeof path, "%s/%s", directory, key);
    set_age(path, age_s);
    rmj_manifest_deinit(&manifest);
}

static enum rmj_status count_one(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                 struct rmj_error *err)
{
    (void)key;
    (void)size;
    (void)modified_unix_ms;
    (void)err;
    ++*(size_t *)context;
    return RMJ_OK;
}

static size_t count_objects(const char *prefix)
{
    size_t count = 0;
    assert_status(RMJ_OK, rmj_store_list(store, prefix, count_one, &count, err));
    return count;
}

static void reset_prefix(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/" PREFIX, directory);
    assert_status(RMJ_OK, rmj_fs_remove_tree(path, err));
}

static void what_a_manifest_names_is_never_collected(void **state)
{
    (void)state;
    reset_prefix();
    struct page pages[5];
    for (uint32_t i = 0; i < 5; i++) {
        make_page(&pages[i], 40 + i);
        put_checkpoint(i, &pages[i], 7200);
    }
    put_checkpoint(5, &pages[0], 7200); // an old page that a new checkpoint shares
    uint64_t removed;
    assert_status(RMJ_OK, rmj_checkpoint_collect(store, PREFIX, 2, 3600 * 1000, &removed, err));
    assert_int_equal(removed, 4 + 3 + 4); // manifests 0-3, pages 1-3, states 0-3
    assert_int_equal(count_objects(PREFIX "/manifest/"), 2);
    assert_int_equal(count_objects(PREFIX "/page/"), 2);
    assert_int_equal(count_objects(PREFIX "/state/"), 2);
    assert_page_is_whole(&pages[0]);
    assert_page_is_whole(&pages[4]);
    assert_status(RMJ_OK, rmj_checkpoint_collect(store, PREFIX, 2, 3600 * 1000, &removed, err));
    assert_int_equal(removed, 0);
}

static void young_objects_are_left_for_the_manifest_to_come(void **state)
{
    (void)state;
    reset_prefix();
    struct page committed, pending, abandoned;
    make_page(&committed, 50);
    make_page(&pending, 51);
    make_page(&abandoned, 52);
    put_checkpoint(1, &committed, 7200);
    put_page(&pending);
    put_page(&abandoned);
    char path[300];
    page_path(&abandoned, path, sizeof path);
    set_age(path, 7200);
    uint64_t removed;
    assert_status(RMJ_OK, rmj_checkpoint_collect(store, PREFIX, 1, 3600 * 1000, &removed, err));
    assert_int_equal(removed, 1);
    assert_page_is_whole(&pending);
    assert_page_is_whole(&committed);
}

static void an_unreadable_manifest_stops_the_collection(void **state)
{
    (void)state;
    reset_prefix();
    struct page pages[3];
    for (uint32_t i = 0; i < 3; i++) {
        make_page(&pages[i], 60 + i);
        put_checkpoint(i, &pages[i], 7200);
    }
    char path[300];
    snprintf(path, sizeof path, "%s/" PREFIX "/manifest/00000002.json", directory);
    assert_status(RMJ_OK, rmj_fs_write(path, "{", 1, 0644, err));
    uint64_t removed;
    assert_status(RMJ_CORRUPT, rmj_checkpoint_collect(store, PREFIX, 1, 3600 * 1000, &removed, err));
    assert_int_equal(removed, 0);
    assert_int_equal(count_objects(PREFIX "/manifest/"), 3);
    assert_int_equal(count_objects(PREFIX "/page/"), 3);
}

// ---- kill -9 -------------------------------------------------------------------------------------------------------

static const char *self;

// The life of a checkpoint in a child that is killed somewhere.
static int child_main(const char *child_directory)
{
    struct rmj_store *child_store;
    if (rmj_store_open(&child_store, child_directory, 1, NULL, NULL) != RMJ_OK) {
        return 2;
    }
    store = child_store;
    snprintf(directory, sizeof directory, "%s", child_directory);
    struct page page;
    for (uint32_t step = 0; step < 4; step++) {
        uint64_t removed;
        make_page(&page, 70 + step);
        put_checkpoint(step, &page, 7200);
        assert_status(RMJ_OK, rmj_checkpoint_collect(store, PREFIX, 1, 3600 * 1000, &removed, err));
    }
    rmj_store_close(child_store);
    return 0;
}

static void assert_every_visible_checkpoint_is_whole(void)
{
    uint32_t *steps;
    size_t count;
    assert_status(RMJ_OK, rmj_manifest_list(store, PREFIX, &steps, &count, err));
    for (size_t i = 0; i < count; i++) {
        struct rmj_manifest manifest;
        assert_status(RMJ_OK, rmj_manifest_read(store, PREFIX, steps[i], &manifest, NULL, err));
        float raw[FLOAT_COUNT];
        for (size_t k = 0; k < manifest.page_count; k++) {
            assert_status(RMJ_OK, rmj_page_get(store, PREFIX, &manifest.pages[k].digest, raw, sizeof raw, err));
        }
        char hex[RMJ_DIGEST_HEX_SIZE], key[200];
        rmj_digest_hex(&manifest.state, hex);
        snprintf(key, sizeof key, PREFIX "/state/%s", hex);
        assert_status(RMJ_OK, rmj_store_head(store, key, NULL, NULL, err));
        rmj_manifest_deinit(&manifest);
    }
    free(steps);
}

// Kills a child at the n-th passing of a point; 1 while there is an n-th.
static int kill_child_at(const char *point, int n)
{
    pid_t child = fork();
    if (child == 0) {
        char fault[80];
        snprintf(fault, sizeof fault, "%s@%d=kill", point, n);
        setenv("RMJOB_FAULT", fault, 1);
        setenv("RMJOB_LOG", "error", 1);
        execl(self, self, directory, (char *)NULL);
        _exit(99);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return 0;
    }
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return 1;
}

static void a_kill_at_every_store_request_leaves_only_whole_checkpoints(void **state)
{
    (void)state;
    const char *points[] = {
        "store.put",   "store.put.before_visible", "store.put.visible", "store.get", "store.head", "store.list",
        "store.delete"};
    int kill_count = 0;
    for (size_t i = 0; i < RMJ_COUNT(points); i++) {
        reset_prefix();
        int n = 1;
        for (; kill_child_at(points[i], n); n++, kill_count++) {
            assert_every_visible_checkpoint_is_whole();
            if (n % 3 == 0) {
                reset_prefix(); // else each goes on over what the one before left
            }
        }
        assert_true(n > 1);
        assert_every_visible_checkpoint_is_whole();
    }
    print_message("%d kills\n", kill_count);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2) {
        return child_main(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_sent_once),
        cmocka_unit_test(a_damaged_page_is_sent_again),
        cmocka_unit_test(a_page_of_another_size_is_corrupt),
        cmocka_unit_test(an_old_page_that_is_put_again_becomes_young),
        cmocka_unit_test(a_manifest_comes_back_as_it_was),
        cmocka_unit_test(an_equal_commit_is_success_and_a_different_one_is_named),
        cmocka_unit_test(manifests_are_listed_by_step),
        cmocka_unit_test(a_manifest_that_is_not_canonical_is_corrupt),
        cmocka_unit_test(no_mutation_of_a_manifest_is_taken_for_another_spelling),
        cmocka_unit_test(what_a_manifest_names_is_never_collected),
        cmocka_unit_test(young_objects_are_left_for_the_manifest_to_come),
        cmocka_unit_test(an_unreadable_manifest_stops_the_collection),
        cmocka_unit_test(a_kill_at_every_store_request_leaves_only_whole_checkpoints),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
