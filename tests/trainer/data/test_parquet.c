// Parquet files in the places of other data files; the library is optional (scripts/parquet), so all of it may be
// skipped. What pyarrow writes is compared in tests/peers/parquet_equal.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/rng.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/benchmark.h"
#include "trainer/data/lines.h"
#include "trainer/data/parquet.h"

#define SEED 20261125u

static char *directory, *folder;

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    folder = rmj_fs_join(getenv("RMJOB_SOURCE"), "tests/trainer/data/parquet");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(folder);
    fixture_remove(directory);
    return 0;
}

static enum rmj_status read_rows(const char *path, uint64_t *rows, struct rmj_digest *digest, struct rmj_error *err)
{
    struct rmj_lines *lines = NULL;
    const char *line;
    size_t size;
    int ended;
    *rows = 0;
    RMJ_TRY(rmj_lines_open(&lines, path, path, err));
    enum rmj_status status;
    while ((status = rmj_lines_next(lines, &line, &size, &ended, err)) == RMJ_OK && line != NULL) {
        assert_int_equal(rmj_lines_row(lines), ++*rows);
        assert_true(line[0] == '{' && line[size - 1] == '}');
    }
    if (status == RMJ_OK) {
        rmj_lines_digest(lines, digest);
    }
    rmj_lines_close(lines);
    return status;
}

static void rows_come_in_order_with_the_digest_of_the_file(void **state)
{
    (void)state;
    char *path = rmj_fs_join(folder, "pairs.parquet");
    struct rmj_buf bytes;
    struct rmj_digest digest, expected;
    struct rmj_error err = {0};
    uint64_t rows;
    rmj_buf_init(&bytes, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &bytes, NULL), RMJ_OK);
    rmj_sha256_of(bytes.bytes, bytes.size, &expected);
    assert_int_equal(read_rows(path, &rows, &digest, &err), RMJ_OK);
    assert_int_equal(rows, 40);
    assert_memory_equal(digest.bytes, expected.bytes, sizeof expected.bytes);
    rmj_buf_deinit(&bytes);
    free(path);
}

static void the_benchmark_is_read_as_it_is_published(void **state)
{
    (void)state;
    char *path = rmj_fs_join(folder, "rb2.parquet");
    struct rmj_benchmark benchmark;
    struct rmj_findings findings;
    struct rmj_error err = {0};
    rmj_findings_init(&findings);
    assert_int_equal(rmj_benchmark_read(&benchmark, path, 1, "evaluate.rewardbench2", &findings, &err), RMJ_OK);
    assert_int_equal(findings.error_count, 0);
    assert_int_equal(benchmark.count, 7);
    assert_int_equal(benchmark.subset_rows[5], 2);
    assert_string_equal(benchmark.rows[5].id, "tied:0");
    assert_int_equal(benchmark.rows[5].correct_count, 2);
    assert_string_equal(benchmark.rows[5].completions[4], "z");
    rmj_benchmark_deinit(&benchmark);
    rmj_findings_deinit(&findings);
    free(path);
}

static void damaged_files_are_refused_or_read(void **state)
{
    (void)state;
    char *path = rmj_fs_join(folder, "pairs.parquet");
    struct rmj_buf good;
    struct rmj_rng rng;
    int refused = 0;
    printf("seed %u\n", SEED);
    rmj_rng_init(&rng, SEED, 0);
    rmj_buf_init(&good, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &good, NULL), RMJ_OK);
    char *copy = malloc(good.size);
    for (int round = 0; round < 150; round++) {
        size_t size = round % 5 == 0 ? rmj_rng_below(&rng, good.size) : good.size;
        memcpy(copy, good.bytes, good.size);
        for (uint64_t flips = 1 + rmj_rng_below(&rng, 3); flips > 0 && size == good.size; flips--) {
            copy[rmj_rng_below(&rng, size)] ^= (char)(1 << rmj_rng_below(&rng, 8));
        }
        char *bad = fixture_write(directory, "bad.parquet", copy, size);
        struct rmj_error err = {0};
        struct rmj_digest digest;
        uint64_t rows;
        enum rmj_status status = read_rows(bad, &rows, &digest, &err);
        assert_true(status == RMJ_OK || (status == RMJ_DATA && strstr(err.message, "bad.parquet") != NULL));
        refused += status != RMJ_OK;
        free(bad);
    }
    assert_true(refused > 50);
    free(copy);
    rmj_buf_deinit(&good);
    free(path);
}

int main(void)
{
    struct rmj_error err = {0};
    if (rmj_parquet_check(&err) != RMJ_OK) {
        printf("SKIP: %s\n", err.message);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_in_order_with_the_digest_of_the_file),
        cmocka_unit_test(the_benchmark_is_read_as_it_is_published),
        cmocka_unit_test(damaged_files_are_refused_or_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
