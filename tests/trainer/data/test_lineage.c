// One epoch across jobs: what a model and its ancestors were trained on is refused, pair by pair; the rest is taken.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/lineage.h"
#include "trainer/data/prepare_internal.h"
#include "trainer/model/checkpoint_io.h"

#define HEADER_SIZE sizeof(struct rmj_lineage_header)

static char *directory;
static struct rmj_store *store;

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    char *path = rmj_fs_join(directory, "store");
    enum rmj_status status = rmj_store_open(&store, path, 1, NULL, NULL);
    free(path);
    return status == RMJ_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_store_close(store);
    fixture_remove(directory);
    return 0;
}

// Rows [from, to) of an endless set of different pairs; free it.
static char *rows(int from, int to, const char *extra)
{
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 20);
    for (int i = from; i < to; i++) {
        rmj_buf_printf(&text, "{\"chosen\":\"\\n\\nHuman: number %d\\n\\nAssistant: yes\",", i);
        rmj_buf_printf(&text, "\"rejected\":\"\\n\\nHuman: number %d\\n\\nAssistant: no\"%s}\n", i, extra);
    }
    char *path = fixture_write_text(directory, "train.jsonl", rmj_buf_text(&text));
    rmj_buf_deinit(&text);
    return path;
}

static Rmjob__V1__PreparedRequest *prepare(const Rmjob__V1__JobSpec *spec)
{
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_error err = {0};
    if (rmj_prepare(spec, store, "job", &(struct rmj_prepare_options){.thread_count = 1}, &result, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(result->plan == NULL, fixture_error_count(result->findings, result->n_findings) > 0);
    return result;
}

static Rmjob__V1__PreparedRequest *prepare_rows(const char *base, int from, int to)
{
    char *path = rows(from, to, "");
    Rmjob__V1__JobSpec *spec = fixture_spec(base, path);
    Rmjob__V1__PreparedRequest *result = prepare(spec);
    fixture_spec_free(spec);
    free(path);
    return result;
}

static void expect_refusal(const char *base, int from, int to, const char *message)
{
    Rmjob__V1__PreparedRequest *result = prepare_rows(base, from, to);
    assert_null(result->plan);
    assert_true(fixture_has_finding(result->findings, result->n_findings, message));
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
}

// What the job that makes `child` from `base` with these rows leaves beside the weights.
static void train_on(const char *base, const char *child, int from, int to)
{
    struct rmj_plan *plan;
    Rmjob__V1__PreparedRequest *result = prepare_rows(base, from, to);
    assert_non_null(result->plan);
    assert_int_equal(rmj_plan_open(&plan, store, "job", result->plan->digest, NULL), RMJ_OK);
    assert_int_equal(rmj_lineage_write(plan, base, child, NULL), RMJ_OK);
    rmj_plan_close(plan);
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
}

static uint64_t lineage_count(const char *model)
{
    struct rmj_lineage lineage;
    assert_int_equal(rmj_lineage_open(&lineage, model, NULL), RMJ_OK);
    uint64_t count = lineage.count;
    for (uint64_t i = 0; i < count; i++) {
        assert_true(rmj_lineage_has(&lineage, lineage.ids[i]));
        assert_true(i == 0 || lineage.ids[i - 1] < lineage.ids[i]);
    }
    rmj_lineage_deinit(&lineage);
    return count;
}

static void every_pair_of_every_ancestor_is_refused(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "base", 1, 0), *first = fixture_model(directory, "first", 1, 0);
    char *second = fixture_model(directory, "second", 1, 0);
    assert_int_equal(lineage_count(base), 0);
    train_on(base, first, 0, 30);
    assert_int_equal(lineage_count(first), 30);
    train_on(first, second, 30, 50);
    assert_int_equal(lineage_count(second), 50);
    expect_refusal(first, 0, 30, "30 of 30 pairs are in the lineage of the base model; reward models see a pair once");
    expect_refusal(first, 15, 60, "15 of 45 pairs are in the lineage");
    expect_refusal(first, 29, 60, "train.jsonl:1; leave them out or start from another base");
    expect_refusal(second, 0, 30, "30 of 30 pairs are in the lineage");
    expect_refusal(second, 49, 60, "1 of 11 pairs are in the lineage");
    Rmjob__V1__PreparedRequest *disjoint = prepare_rows(second, 50, 60);
    assert_non_null(disjoint->plan);
    rmjob__v1__prepared_request__free_unpacked(disjoint, NULL);
    free(base);
    free(first);
    free(second);
}

static void the_first_seen_row_is_named(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "row-base", 1, 0), *child = fixture_model(directory, "row-child", 1, 0);
    train_on(base, child, 20, 30);
    expect_refusal(child, 4, 30, "10 of 26 pairs");
    expect_refusal(child, 4, 30, "train.jsonl:17; leave them out");
    free(base);
    free(child);
}

static void a_pair_is_the_same_however_it_is_cut_or_weighted(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "cut-base", 1, 0), *child = fixture_model(directory, "cut-child", 1, 0);
    train_on(base, child, 0, 10);
    char *path = rows(0, 10, ",\"margin\":0.5");
    Rmjob__V1__JobSpec *spec = fixture_spec(child, path);
    spec->train->has_use_margin = spec->train->use_margin = 1;
    Rmjob__V1__PreparedRequest *result = prepare(spec);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "10 of 10 pairs"));
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
    spec->train->has_use_margin = 0;
    spec->data->has_max_length = spec->data->has_over_length = 1;
    spec->data->max_length = 24;
    spec->data->over_length = RMJOB__V1__OVER_LENGTH__truncate_prompt;
    result = prepare(spec);
    assert_int_equal(result->data->truncated, 10);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "10 of 10 pairs"));
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
    fixture_spec_free(spec);
    free(path);
    free(base);
    free(child);
}

static void a_seen_pair_of_the_sample_is_refused_at_submit(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "at-base", 1, 0), *child = fixture_model(directory, "at-child", 1, 0);
    train_on(base, child, 0, 10);
    char *path = rows(9, 20, "");
    Rmjob__V1__JobSpec *spec = fixture_spec(child, path);
    Rmjob__V1__ValidateResponse *reply = NULL;
    assert_int_equal(rmj_check_spec(spec, &reply, NULL), RMJ_OK);
    assert_true(fixture_has_finding(reply->findings, reply->n_findings, "1 of 11 sampled pairs are in the lineage"));
    assert_int_equal(fixture_error_count(reply->findings, reply->n_findings), 1);
    assert_int_equal(reply->findings[0]->exit_code, RMJ_EXIT_DATA);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
    free(path);
    free(base);
    free(child);
}

static void the_same_plan_and_base_give_the_same_bytes_and_pin(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "same-base", 1, 0), *child = fixture_model(directory, "same-child", 1, 0);
    char *path = rmj_fs_join(child, RMJ_LINEAGE_FILE);
    struct rmj_digest pins[3], files[2];
    uint64_t size;
    assert_int_equal(rmj_model_files_digest(child, RMJ_MODEL_COMPANIONS, &pins[0], NULL), RMJ_OK);
    for (int i = 0; i < 2; i++) {
        train_on(base, child, 0, 100);
        assert_int_equal(rmj_sha256_of_file(path, &files[i], &size, NULL), RMJ_OK);
        assert_int_equal(size, HEADER_SIZE + 100 * sizeof(uint64_t));
        assert_int_equal(rmj_model_files_digest(child, RMJ_MODEL_COMPANIONS, &pins[1 + i], NULL), RMJ_OK);
    }
    assert_true(rmj_digest_equal(&files[0], &files[1]));
    assert_false(rmj_digest_equal(&pins[0], &pins[1])); // the file is among what every rank must find
    assert_true(rmj_digest_equal(&pins[1], &pins[2]));
    free(path);
    free(base);
    free(child);
}

static void expect_damage(const char *model, const void *bytes, size_t size, const char *message)
{
    struct rmj_lineage lineage;
    struct rmj_error err = {0};
    free(fixture_write(model, RMJ_LINEAGE_FILE, bytes, size));
    assert_int_equal(rmj_lineage_open(&lineage, model, &err), RMJ_DATA);
    assert_non_null(strstr(err.message, RMJ_LINEAGE_FILE));
    if (strstr(err.message, message) == NULL) {
        fail_msg("%s", err.message);
    }
    rmj_lineage_deinit(&lineage);
}

static void damage_is_named(void **state)
{
    (void)state;
    char *model = fixture_model(directory, "damaged", 1, 0);
    struct {
        struct rmj_lineage_header header;
        uint64_t ids[3];
    } file = {.header = {.magic = RMJ_LINEAGE_MAGIC, .version = 1, .count = 3}, .ids = {1, 2, 3}}, bad;
    free(fixture_write(model, RMJ_LINEAGE_FILE, &file, sizeof file));
    assert_int_equal(lineage_count(model), 3);
    for (size_t size = 0; size < sizeof file; size++) {
        expect_damage(model, &file, size, size < HEADER_SIZE ? "shorter than its header" : "its size is not");
    }
    char longer[sizeof file + 1] = {0};
    memcpy(longer, &file, sizeof file);
    expect_damage(model, longer, sizeof longer, "its size is not");
    bad = file;
    bad.header.magic[7] = '2';
    expect_damage(model, &bad, sizeof bad, "not a list of pairs");
    bad = file;
    bad.header.zero = 1;
    expect_damage(model, &bad, sizeof bad, "not a list of pairs");
    bad = file;
    bad.header.version = 2;
    expect_damage(model, &bad, sizeof bad, "has version 2; this build reads 1");
    bad = file;
    bad.header.count = UINT64_MAX / 8 + 1 + 3; // 8 times this is 24 again
    expect_damage(model, &bad, sizeof bad, "its size is not");
    bad = file;
    bad.ids[1] = 3;
    expect_damage(model, &bad, sizeof bad, "do not ascend");
    expect_refusal(model, 0, 3, "rmjob-pairs.bin is damaged: its pairs do not ascend");
    free(model);
}

static void a_model_of_ours_without_its_pairs_is_refused(void **state)
{
    (void)state;
    char *model = fixture_model(directory, "bare", 1, 0);
    free(fixture_write_text(model, "rmjob.json", "{}"));
    expect_refusal(model, 0, 3, "but not rmjob-pairs.bin, which says what pairs the model was trained on");
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_every_ancestor_is_refused),
        cmocka_unit_test(the_first_seen_row_is_named),
        cmocka_unit_test(a_pair_is_the_same_however_it_is_cut_or_weighted),
        cmocka_unit_test(a_seen_pair_of_the_sample_is_refused_at_submit),
        cmocka_unit_test(the_same_plan_and_base_give_the_same_bytes_and_pin),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(a_model_of_ours_without_its_pairs_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
