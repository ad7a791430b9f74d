// Training data in S3 gives the plan that the same files on disk give (run by run_s3, with RMJOB_TEST_DATA_URL set).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/prepare.h"

#define ROW(a) "{\"chosen\":\"" a "\",\"rejected\":\"no\"}\n"

static char *directory, *model;
static struct rmj_store *objects, *plans;

static int set_up(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    directory = fixture_directory();
    model = fixture_model(directory, "model", 1, 0);
    char *root = rmj_fs_join(directory, "store");
    int good =
        rmj_store_open(&objects, getenv("RMJOB_TEST_DATA_URL"), 1, NULL, &err) == RMJ_OK &&
        rmj_store_open(&plans, root, 1, NULL, &err) == RMJ_OK &&
        rmj_store_put(objects, "set/part-1.jsonl", ROW("a"), sizeof ROW("a") - 1, RMJ_PUT_ANY, NULL, &err) == RMJ_OK &&
        rmj_store_put(objects, "set/part-2.jsonl", ROW("b"), sizeof ROW("b") - 1, RMJ_PUT_ANY, NULL, &err) == RMJ_OK &&
        rmj_store_put(objects, "set/deeper/part-3.jsonl", ROW("c"), sizeof ROW("c") - 1, RMJ_PUT_ANY, NULL, &err) ==
            RMJ_OK;
    free(root);
    if (!good) {
        fprintf(stderr, "%s\n", err.message);
    }
    return good ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_store_close(objects);
    rmj_store_close(plans);
    free(model);
    fixture_remove(directory);
    return 0;
}

static Rmjob__V1__PreparedRequest *prepare(const char *path)
{
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_error err = {0};
    if (rmj_prepare(spec, plans, "", &(struct rmj_prepare_options){0}, &result, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    fixture_spec_free(spec);
    return result;
}

static void a_pattern_stays_within_names(void **state)
{
    (void)state;
    char pattern[256];
    snprintf(pattern, sizeof pattern, "%s/set/*.jsonl", getenv("RMJOB_TEST_DATA_URL"));
    Rmjob__V1__PreparedRequest *remote = prepare(pattern);
    assert_int_equal(remote->data->n_files, 2);
    assert_non_null(strstr(remote->data->files[1]->path, "/set/part-2.jsonl"));
    char *local = fixture_write_text(directory, "both.jsonl", ROW("a") ROW("b"));
    Rmjob__V1__PreparedRequest *same = prepare(local);
    assert_string_equal(remote->plan->pairs_sum, same->plan->pairs_sum);
    rmjob__v1__prepared_request__free_unpacked(remote, NULL);
    rmjob__v1__prepared_request__free_unpacked(same, NULL);
    free(local);
}

static void absent_objects_are_refused_at_submit_and_in_preparation(void **state)
{
    (void)state;
    static const char *const names[] = {"set/none.jsonl", "set/none-*.jsonl"};
    for (int i = 0; i < 2; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", getenv("RMJOB_TEST_DATA_URL"), names[i]);
        Rmjob__V1__PreparedRequest *result = prepare(path);
        assert_null(result->plan);
        assert_true(fixture_has_finding(result->findings, result->n_findings, names[i]));
        rmjob__v1__prepared_request__free_unpacked(result, NULL);
        Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
        Rmjob__V1__ValidateResponse *reply = NULL;
        assert_int_equal(rmj_check_spec(spec, &reply, NULL), RMJ_OK);
        assert_true(fixture_has_finding(reply->findings, reply->n_findings, names[i]));
        rmjob__v1__validate_response__free_unpacked(reply, NULL);
        fixture_spec_free(spec);
    }
}

int main(void)
{
    if (getenv("RMJOB_TEST_DATA_URL") == NULL) {
        printf("SKIP: RMJOB_TEST_DATA_URL is not set (tests/trainer/data/run_s3 sets it)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_stays_within_names),
        cmocka_unit_test(absent_objects_are_refused_at_submit_and_in_preparation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
