// The 2,312 real pairs of harmless-base-test against what the public tokenizer and trainer made of them
// (data/golden/hh_stories15M.json).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/plan.h"
#include "trainer/data/prepare_internal.h"

static char *directory, *model, *train;
static json_t *golden;
static struct rmj_store *store;
static Rmjob__V1__PreparedRequest *result;
static struct rmj_plan *plan;

static char *in_data(const char *data, const char *name)
{
    return rmj_fs_join(data, name);
}

static int set_up(void **state)
{
    (void)state;
    char *data = fixture_data();
    struct rmj_error err = {0};
    directory = fixture_directory();
    model = in_data(data, "models/stories15M");
    train = in_data(data, "preferences/harmless-base-test.jsonl.gz");
    char *path = in_data(data, "golden/hh_stories15M.json"), *root = rmj_fs_join(directory, "store");
    golden = json_load_file(path, 0, NULL);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
    spec->data->has_order = 1;
    spec->data->order = RMJOB__V1__DATA_ORDER__as_given;
    int good = golden != NULL && rmj_store_open(&store, root, 1, NULL, &err) == RMJ_OK &&
               rmj_prepare(spec, store, "", &(struct rmj_prepare_options){0}, &result, &err) == RMJ_OK &&
               result->plan != NULL && rmj_plan_open(&plan, store, "", result->plan->digest, &err) == RMJ_OK;
    if (!good) {
        fprintf(stderr, "%s\n", err.message);
    }
    fixture_spec_free(spec);
    free(path);
    free(root);
    free(data);
    return good ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_plan_close(plan);
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
    rmj_store_close(store);
    json_decref(golden);
    free(model);
    free(train);
    fixture_remove(directory);
    return 0;
}

static void the_same_pairs_are_kept(void **state)
{
    (void)state;
    const Rmjob__V1__DataReport *report = result->data;
    json_int_t kept = json_integer_value(json_object_get(golden, "rows_kept"));
    assert_int_equal(report->rows, 2312);
    // The golden file leaves out long and identical pairs only; exact duplicates are ours to drop.
    assert_int_equal(report->pairs + report->dropped_duplicate, kept);
    assert_int_equal(report->pairs, result->plan->pairs);
    printf("pairs %llu, duplicates %llu, identical %llu, over length %llu, swapped %llu, prefix share %.3f\n",
           (unsigned long long)report->pairs, (unsigned long long)report->dropped_duplicate,
           (unsigned long long)report->dropped_identical_sides, (unsigned long long)report->dropped_over_length,
           (unsigned long long)report->swapped, report->shared_token_share);
    printf("T %u, packs %llu, bound %u, fill %.3f, memory %.1f MiB, plan %s\n", result->plan->pack_tokens,
           (unsigned long long)result->plan->packs, result->plan->packs_per_step_bound, result->plan->fill,
           (double)result->plan->memory_bytes / 1048576.0, result->plan->digest);
}

static void side_counts(uint64_t pair, uint32_t *chosen, uint32_t *rejected)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    for (uint32_t number = 1; number <= info->step_count; number++) {
        struct rmj_plan_step step;
        rmj_plan_step(plan, number, &step);
        if (pair < step.first_pair || pair >= step.first_pair + step.pair_count) {
            continue;
        }
        for (uint32_t index = 0; index < step.pack_count; index++) {
            struct rmj_pack pack;
            rmj_plan_pack(plan, number, index, &pack);
            for (uint32_t i = 0; i < pack.item_count; i++) {
                if (pack.items[i].id == pair) {
                    uint32_t branch = pack.items[i].first_branch, prefix = pack.items[i].prefix_count;
                    *chosen = prefix + pack.branch_counts[branch];
                    *rejected = prefix + pack.branch_counts[branch + 1];
                    assert_int_equal(pack.tokens[pack.branch_last_rows[branch]], 2);
                    assert_int_equal(pack.tokens[pack.branch_last_rows[branch + 1]], 2);
                }
            }
        }
    }
}

static void every_pair_has_the_golden_token_counts(void **state)
{
    (void)state;
    const json_t *rows = json_object_get(golden, "rows_used"), *counts = json_object_get(golden, "token_counts");
    size_t compared = json_array_size(counts);
    uint64_t pair = 0;
    assert_true(compared >= 128);
    for (size_t i = 0; i < compared; i++) {
        json_int_t golden_row = json_integer_value(json_array_get(rows, i)) + 1;
        const char *path;
        uint64_t row;
        rmj_plan_pair_source(plan, pair, &path, &row);
        if ((json_int_t)row != golden_row) {
            continue; // a duplicate of an earlier row
        }
        uint32_t chosen = 0, rejected = 0;
        side_counts(pair++, &chosen, &rejected);
        const json_t *expected = json_array_get(counts, i);
        assert_int_equal(chosen, json_integer_value(json_array_get(expected, 0)));
        assert_int_equal(rejected, json_integer_value(json_array_get(expected, 1)));
    }
    assert_true(pair + result->data->dropped_duplicate >= compared);
}

static void the_first_pair_has_the_golden_tokens(void **state)
{
    (void)state;
    const json_t *ids = json_object_get(json_object_get(golden, "first_pair"), "chosen_ids");
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    struct rmj_plan_step step;
    rmj_plan_step(plan, 1, &step);
    assert_true(info->step_count > 0);
    for (uint32_t index = 0; index < step.pack_count; index++) {
        struct rmj_pack pack;
        rmj_plan_pack(plan, 1, index, &pack);
        for (uint32_t i = 0; i < pack.item_count; i++) {
            for (size_t t = 0; pack.items[i].id == 0 && t < json_array_size(ids); t++) {
                assert_int_equal(pack.tokens[pack.items[i].first_row + t], json_integer_value(json_array_get(ids, t)));
            }
        }
    }
}

static void the_rows_with_an_empty_last_turn_are_named(void **state)
{
    (void)state;
    size_t empty = 0;
    for (size_t i = 0; i < result->data->n_issues; i++) {
        empty += strcmp(result->data->issues[i]->kind, "empty_side") == 0;
    }
    assert_int_equal(empty, 4);
}

int main(void)
{
    char *data = fixture_data();
    if (data == NULL) {
        return 77;
    }
    free(data);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_pairs_are_kept),
        cmocka_unit_test(every_pair_has_the_golden_token_counts),
        cmocka_unit_test(the_first_pair_has_the_golden_tokens),
        cmocka_unit_test(the_rows_with_an_empty_last_turn_are_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
