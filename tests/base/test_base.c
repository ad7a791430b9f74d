// base: what everything stands on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/text.h"

static enum rmj_status fails(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_NOT_FOUND, "no such page %d", 7);
}

static void context_keeps_the_cause(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    assert_int_equal(fails(&err), RMJ_NOT_FOUND);
    assert_int_equal(rmj_context(&err, "rank %d", 3), RMJ_NOT_FOUND);
    assert_string_equal(err.message, "rank 3: no such page 7");
    assert_int_equal(err.status, RMJ_NOT_FOUND);
    assert_int_equal(fails(NULL), RMJ_NOT_FOUND);
    // A new error may quote the old one.
    (void)rmj_fail(&err, RMJ_DATA, "gone: %s", err.message);
    assert_string_equal(err.message, "gone: rank 3: no such page 7");
}

static void buffers_stop_at_their_bound(void **state)
{
    (void)state;
    struct rmj_buf buf;
    rmj_buf_init(&buf, 10);
    rmj_buf_printf(&buf, "%s", "12345");
    assert_int_equal(rmj_buf_check(&buf, NULL), RMJ_OK);
    rmj_buf_puts(&buf, "678901");
    rmj_buf_puts(&buf, "x");
    assert_int_equal(rmj_buf_check(&buf, NULL), RMJ_FULL);
    assert_string_equal(rmj_buf_text(&buf), "12345");
    rmj_buf_deinit(&buf);
}

static void randomness_is_the_same_on_every_machine(void **state)
{
    (void)state;
    struct rmj_rng rng;
    rmj_rng_init(&rng, 7, 1);
    // Made by this code; the test holds that they never change.
    uint64_t first = rmj_rng_next(&rng);
    struct rmj_rng again;
    rmj_rng_init(&again, 7, 1);
    assert_true(first == rmj_rng_next(&again));
    rmj_rng_init(&again, 7, 2);
    assert_true(first != rmj_rng_next(&again));
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; i++) {
        double x = rmj_rng_normal(&rng);
        sum += x;
        squares += x * x;
    }
    assert_true(sum / 100000 < 0.02 && sum / 100000 > -0.02);
    assert_true(squares / 100000 < 1.02 && squares / 100000 > 0.98);
    size_t counts[5] = {0};
    for (int i = 0; i < 50000; i++) {
        counts[rmj_rng_below(&rng, 5)]++;
    }
    for (int i = 0; i < 5; i++) {
        assert_true(counts[i] > 9500 && counts[i] < 10500);
    }
}

static void shuffles_keep_every_index_once(void **state)
{
    (void)state;
    uint32_t indices[1000];
    unsigned char seen[1000] = {0};
    for (uint32_t i = 0; i < 1000; i++) {
        indices[i] = i;
    }
    struct rmj_rng rng;
    rmj_rng_init(&rng, 3, 0);
    rmj_rng_shuffle(&rng, indices, 1000);
    size_t moved = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(seen[indices[i]]++, 0);
        moved += indices[i] != i;
    }
    assert_true(moved > 950);
}

static void quantities_and_durations_are_read_whole(void **state)
{
    (void)state;
    uint64_t bytes;
    assert_true(rmj_text_parse_bytes("64Gi", &bytes) && bytes == 64ull << 30);
    assert_true(rmj_text_parse_bytes("1.5M", &bytes) && bytes == 1500000);
    assert_false(rmj_text_parse_bytes("64GiB", &bytes));
    assert_false(rmj_text_parse_bytes("-1", &bytes));
    assert_false(rmj_text_parse_bytes("", &bytes));
    int64_t ms;
    assert_true(rmj_text_parse_duration("1h30m", &ms) && ms == 5400000);
    assert_true(rmj_text_parse_duration("500ms", &ms) && ms == 500);
    assert_false(rmj_text_parse_duration("30m1h", &ms));
    assert_false(rmj_text_parse_duration("24", &ms));
    assert_false(rmj_text_parse_duration("h", &ms));
}

static void the_nearest_name_is_near(void **state)
{
    (void)state;
    static const char *const names[] = {"learning_rate", "epochs", "seed"};
    assert_string_equal(rmj_text_nearest("learnin_rate", names, 3), "learning_rate");
    assert_string_equal(rmj_text_nearest("epoch", names, 3), "epochs");
    assert_null(rmj_text_nearest("banana", names, 3));
}

static void utf8_is_checked_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t valid;
    } cases[] = {
        {"plain", 5},        {"gr\xc3\xbc\xc3\x9f", 6}, {"\xf0\x9f\x98\x80", 4}, {"\xc0\xaf", 0},
        {"\xed\xa0\x80", 0}, {"a\xe2\x82", 1},          {"\xf4\x90\x80\x80", 0}, {"ok\xff", 2},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        assert_int_equal(rmj_text_utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
    }
}

static void secrets_compare_whole(void **state)
{
    (void)state;
    assert_true(rmj_text_equal_secret("abc", "abc"));
    assert_false(rmj_text_equal_secret("abc", "abd"));
    assert_false(rmj_text_equal_secret("abc", "abcabc"));
    assert_false(rmj_text_equal_secret("abc", ""));
    assert_true(rmj_text_equal_secret("", ""));
}

static void hex_goes_there_and_back(void **state)
{
    (void)state;
    unsigned char bytes[4] = {0, 15, 240, 255}, back[4];
    char hex[9];
    rmj_text_hex(hex, bytes, sizeof bytes);
    assert_string_equal(hex, "000ff0ff");
    assert_true(rmj_text_unhex(back, 4, hex));
    assert_memory_equal(bytes, back, 4);
    assert_false(rmj_text_unhex(back, 4, "000ff0f"));
    assert_false(rmj_text_unhex(back, 4, "000ff0ff0"));
}

static void mark(void *context, size_t index, size_t thread)
{
    (void)thread;
    __atomic_fetch_add(&((int *)context)[index], 1, __ATOMIC_RELAXED);
}

static void a_pool_runs_every_index_once(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 4; threads++) {
        struct rmj_pool *pool;
        assert_int_equal(rmj_pool_create(&pool, threads, NULL, NULL), RMJ_OK);
        for (int round = 0; round < 200; round++) {
            int counts[97] = {0};
            rmj_pool_run(pool, 97, mark, counts);
            for (int i = 0; i < 97; i++) {
                assert_int_equal(counts[i], 1);
            }
        }
        rmj_pool_destroy(pool);
    }
}

static enum rmj_status collect_path(void *context, const char *path, uint64_t size, struct rmj_error *err)
{
    (void)size;
    (void)err;
    rmj_buf_printf(context, "%s ", path);
    return RMJ_OK;
}

static void files_are_whole_or_absent(void **state)
{
    (void)state;
    char root[] = "/tmp/rmj-base-XXXXXX";
    assert_non_null(mkdtemp(root));
    char *deep = rmj_fs_join(root, "a/b/c");
    assert_int_equal(rmj_fs_make_directories(deep, 0755, NULL), RMJ_OK);
    char *file = rmj_fs_join(deep, "x");
    assert_int_equal(rmj_fs_write(file, "hello", 5, 0600, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_write(file, "bye", 3, 0600, NULL), RMJ_OK);
    struct stat info;
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    struct rmj_buf out;
    rmj_buf_init(&out, 3);
    assert_int_equal(rmj_fs_read(file, &out, NULL), RMJ_OK);
    assert_string_equal(rmj_buf_text(&out), "bye");
    rmj_buf_deinit(&out);
    rmj_buf_init(&out, 2);
    struct rmj_error err = {0};
    assert_int_equal(rmj_fs_read(file, &out, &err), RMJ_FULL);
    rmj_buf_deinit(&out);
    rmj_buf_init(&out, 100);
    assert_int_equal(rmj_fs_walk(root, collect_path, &out, NULL), RMJ_OK);
    assert_string_equal(rmj_buf_text(&out), "a/b/c/x ");
    rmj_buf_deinit(&out);
    assert_int_equal(rmj_fs_remove_tree(root, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_read(file, &out, &err), RMJ_NOT_FOUND);
    assert_int_equal(rmj_fs_remove_tree(root, NULL), RMJ_OK);
    free(file);
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_keeps_the_cause),
        cmocka_unit_test(buffers_stop_at_their_bound),
        cmocka_unit_test(randomness_is_the_same_on_every_machine),
        cmocka_unit_test(shuffles_keep_every_index_once),
        cmocka_unit_test(quantities_and_durations_are_read_whole),
        cmocka_unit_test(the_nearest_name_is_near),
        cmocka_unit_test(utf8_is_checked_strictly),
        cmocka_unit_test(secrets_compare_whole),
        cmocka_unit_test(hex_goes_there_and_back),
        cmocka_unit_test(a_pool_runs_every_index_once),
        cmocka_unit_test(files_are_whole_or_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
