// The gate: RewardBench 2's own numbers, its own files, and the decision.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "service/gate/gate.h"
#include "tests/support/data.h"

static json_t *golden(void)
{
    char *path = rmj_test_data("rb2/golden_scoring.json");
    if (path == NULL) {
        return NULL;
    }
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    free(path);
    return root;
}

static double number_of(const json_t *text)
{
    return strtod(json_string_value(text), NULL);
}

static size_t read_scores(const json_t *list, double *scores, size_t max)
{
    size_t count = json_array_size(list);
    assert_true(count <= max);
    for (size_t i = 0; i < count; i++) {
        scores[i] = number_of(json_array_get(list, i));
    }
    return count;
}

static void best_of_n_credits_equal_the_benchmarks(void **state)
{
    (void)state;
    json_t *root = golden();
    if (root == NULL) {
        print_message("SKIP: no golden scoring cases\n");
        skip();
    }
    json_t *cases = json_object_get(root, "best_of_n");
    assert_true(json_array_size(cases) >= 13);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *entry = json_array_get(cases, i);
        double scores[64];
        size_t count = read_scores(json_object_get(entry, "scores"), scores, 64);
        double expected = json_number_value(json_object_get(entry, "flat"));
        assert_true(fabs(rmj_rb2_row_credit(scores, count) - expected) <= 1e-12);
    }
    json_decref(root);
}

static void ties_scores_equal_the_benchmarks_edge_cases_included(void **state)
{
    (void)state;
    json_t *root = golden();
    if (root == NULL) {
        print_message("SKIP: no golden scoring cases\n");
        skip();
    }
    json_t *cases = json_object_get(root, "ties");
    assert_true(json_array_size(cases) >= 22);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *entry = json_array_get(cases, i);
        const char *expected = json_string_value(json_object_get(entry, "overall"));
        json_t *list = json_object_get(entry, "rows");
        size_t count = json_array_size(list);
        struct rmj_rb2_ties_row *rows = calloc(count, sizeof *rows);
        for (size_t r = 0; r < count; r++) {
            json_t *row = json_array_get(list, r);
            double *scores = calloc(128, sizeof *scores);
            rows[r] = (struct rmj_rb2_ties_row){
                .id = json_string_value(json_object_get(row, "id")),
                .correct_count = (size_t)json_integer_value(json_object_get(row, "num_correct")),
                .count = read_scores(json_object_get(row, "scores"), scores, 128),
                .scores = scores,
            };
        }
        double score = -7;
        struct rmj_error err = {0};
        enum rmj_status status = rmj_rb2_ties(rows, count, &score, &err);
        print_message("%s: %s\n", json_string_value(json_object_get(entry, "name")), expected);
        if (strncmp(expected, "EXC", 3) == 0) {
            // Where the benchmark's own code raises, the input is refused and the prompt named.
            assert_int_equal(status, RMJ_DATA);
            assert_non_null(strstr(err.message, rows[0].id));
        } else if (strcmp(expected, "nan") == 0) {
            assert_int_equal(status, RMJ_OK);
            assert_true(isnan(score));
        } else {
            assert_int_equal(status, RMJ_OK);
            assert_true(fabs(score - strtod(expected, NULL)) <= 1e-12);
        }
        for (size_t r = 0; r < count; r++) {
            free((double *)rows[r].scores);
        }
        free(rows);
    }
    json_decref(root);
}

static Rmjob__V1__EvalReport *report_of(const char *text)
{
    Rmjob__V1__EvalReport *report = NULL;
    struct rmj_error err = {0};
    enum rmj_status status = rmj_report_from_rb2_file(text, strlen(text), "scores.json", &report, &err);
    if (status != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return report;
}

static void assert_categories(const char *text, const char *expected)
{
    Rmjob__V1__EvalReport *report = report_of(text);
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_report_categories_json(report, &out);
    assert_string_equal(rmj_buf_text(&out), expected);
    rmj_buf_deinit(&out);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
}

static void score_files_are_read_as_the_benchmark_writes_them(void **state)
{
    (void)state;
    // Nested and flat scores, NaN and Infinity bare, ids as numbers, a string that only looks like NaN.
    assert_categories("{\"id\":[\"0\",\"1\"],\"subset\":[\"Math\",\"Math\"],\"num_correct\":[1,1],"
                      "\"scores\":[[[2.0],[1.0],[0.0],[-1]],[[NaN],[1.0],[0.0],[0.0]]],\"model\":\"NaN, Infinity\"}",
                      "{\"categories\":{\"math\":{\"score\":0.5}}}");
    assert_categories("{\"id\":[7],\"subset\":[\"Safety\"],\"scores\":[[Infinity,Infinity,-Infinity,0]]}",
                      "{\"categories\":{\"safety\":{\"score\":0.5}}}");
    // Generative: no scores, results as they are.
    assert_categories(
        "{\"id\":[\"a\",\"b\"],\"subset\":[\"Focus\",\"Focus\"],\"scores\":[null,null],\"results\":[1,0.25]}",
        "{\"categories\":{\"focus\":{\"score\":0.625}}}");
    // No complete pair of Ties prompts: undefined, so null.
    assert_categories("{\"id\":[\"ref:1\"],\"subset\":[\"Ties\"],\"num_correct\":[1],\"scores\":[[9.0,2.0,1.0]]}",
                      "{\"categories\":{\"ties\":{\"score\":null}}}");
    // The file with one number a subset.
    assert_categories("{\"Factuality\":0.75,\"Precise IF\":0.5,\"model\":\"x\"}",
                      "{\"categories\":{\"factuality\":{\"score\":0.75},\"precise_if\":{\"score\":0.5}}}");
}

static void wrong_score_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{", "not JSON"},
        {"[]", "one JSON object"},
        {"{}", "neither a report"},
        {"{\"id\":[],\"subset\":[]}", "neither 'scores' nor 'results'"},
        {"{\"id\":[\"1\"],\"subset\":[\"Math\",\"Math\"],\"scores\":[[1],[2]]}", "lists of one length"},
        {"{\"id\":[\"1\"],\"subset\":[\"Math\"],\"scores\":[[\"x\"]]}", "prompt '1': score 1 is not a number"},
        {"{\"id\":[\"1\"],\"subset\":[\"Math\"],\"scores\":[[]]}", "prompt '1'"},
        {"{\"id\":[\"1\"],\"subset\":[\"Maths\"],\"scores\":[[1,2]]}", "none of the six subsets"},
        {"{\"id\":[\"tied:0\"],\"subset\":[\"Ties\"],\"num_correct\":[3],\"scores\":[[1,2,3]]}",
         "'tied:0': no wrong answer"},
        {"{\"id\":[\"5\"],\"subset\":[\"Ties\"],\"num_correct\":[1],\"scores\":[[1,2,3]]}", "neither tied:N nor ref:N"},
        {"{\"id\":[\"tied:1\",\"ref:1\"],\"subset\":[\"Ties\",\"Ties\"],\"num_correct\":[1,1],\"scores\":[[1,2],[1,2]]"
         "}",
         "'tied:1': one correct answer only"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        Rmjob__V1__EvalReport *report = NULL;
        struct rmj_error err = {0};
        enum rmj_status status =
            rmj_report_from_rb2_file(cases[i].text, strlen(cases[i].text), "scores.json", &report, &err);
        print_message("%s\n", err.message);
        assert_int_equal(status, RMJ_DATA);
        assert_null(report);
        assert_non_null(strstr(err.message, cases[i].message));
        assert_int_equal(rmj_status_exit_code(status), 6);
    }
}

// A report with one accuracy for the five categories and one Ties score.
static Rmjob__V1__ScoredRows *rows_with(size_t rows_per_category, size_t right_per_category)
{
    Rmjob__V1__ScoredRows *rows = calloc(1, sizeof *rows);
    rmjob__v1__scored_rows__init(rows);
    size_t ties_pairs = 20, heldout_pairs = 40;
    rows->rows = calloc(5 * rows_per_category + 2 * ties_pairs, sizeof *rows->rows);
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        size_t count = rmj_categories[c].is_ties ? 2 * ties_pairs : rows_per_category;
        for (size_t i = 0; i < count; i++) {
            Rmjob__V1__ScoredRow *row = calloc(1, sizeof *row);
            rmjob__v1__scored_row__init(row);
            char id[32];
            snprintf(id, sizeof id, rmj_categories[c].is_ties ? i % 2 ? "ref:%zu" : "tied:%zu" : "%zu",
                     rmj_categories[c].is_ties ? i / 2 : i);
            row->id = strdup(id);
            row->subset = strdup(rmj_categories[c].subset);
            row->has_num_correct = 1;
            row->num_correct = rmj_categories[c].is_ties && i % 2 == 0 ? 2 : 1;
            row->n_scores = 4;
            row->scores = calloc(4, sizeof *row->scores);
            row->scores[0] = rmj_categories[c].is_ties || i < right_per_category ? 4 : -4;
            row->scores[1] = row->num_correct == 2 ? 3.5f : -1;
            row->scores[2] = -2;
            row->scores[3] = -3;
            rows->rows[rows->n_rows++] = row;
        }
    }
    rows->n_heldout = 2 * heldout_pairs;
    rows->heldout = calloc(rows->n_heldout, sizeof *rows->heldout);
    for (size_t i = 0; i < heldout_pairs; i++) {
        rows->heldout[2 * i] = 1.0f + 0.01f * (float)i;
        rows->heldout[2 * i + 1] = i % 4 == 0 ? 2 : 0;
    }
    return rows;
}

static Rmjob__V1__EvalReport *report_with(size_t rows_per_category, size_t right_per_category)
{
    Rmjob__V1__ScoredRows *rows = rows_with(rows_per_category, right_per_category);
    Rmjob__V1__EvalReport *report = NULL;
    struct rmj_error err = {0};
    assert_int_equal(rmj_report_from_rows(rows, &report, &err), RMJ_OK);
    rmjob__v1__scored_rows__free_unpacked(rows, NULL);
    return report;
}

static Rmjob__V1__CategoryThresholds thresholds(double accuracy)
{
    Rmjob__V1__CategoryThresholds t = RMJOB__V1__CATEGORY_THRESHOLDS__INIT;
    t.has_factuality = t.has_precise_if = t.has_math = t.has_safety = t.has_focus = t.has_ties = 1;
    t.factuality = t.precise_if = t.math = t.safety = t.focus = accuracy;
    t.ties = 0.5;
    return t;
}

static void every_threshold_must_hold(void **state)
{
    (void)state;
    Rmjob__V1__EvalReport *report = report_with(100, 70);
    Rmjob__V1__CategoryThresholds t = thresholds(0.60);
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &t;
    Rmjob__V1__GateVerdict *verdict = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_true(verdict->passed);
    assert_int_equal(verdict->n_checks, 6);
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);

    t.math = 0.71;
    verdict = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_false(verdict->passed);
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_gate_print(verdict, "support-rm", "rm-7f3a2", 0, &out);
    print_message("%s", rmj_buf_text(&out));
    assert_non_null(strstr(rmj_buf_text(&out), "GATE FAILED support-rm (rm-7f3a2): 1 of 6 checks; nothing published"));
    rmj_buf_deinit(&out);
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
}

static void lower95_asks_more_than_point(void **state)
{
    (void)state;
    Rmjob__V1__EvalReport *report = report_with(100, 65);
    Rmjob__V1__CategoryThresholds t = thresholds(0.60);
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &t;
    Rmjob__V1__GateVerdict *point = rmj_gate_decide(report, &gate, NULL, NULL);
    gate.has_decision = 1;
    gate.decision = RMJOB__V1__GATE_DECISION__lower95;
    Rmjob__V1__GateVerdict *lower = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_true(point->passed);
    assert_string_equal(point->checks[0]->note, "uncertain");
    assert_false(lower->passed);
    rmjob__v1__gate_verdict__free_unpacked(point, NULL);
    rmjob__v1__gate_verdict__free_unpacked(lower, NULL);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
}

static void floors_heldout_spread_and_regression_count_too(void **state)
{
    (void)state;
    Rmjob__V1__EvalReport *report = report_with(100, 70);
    Rmjob__V1__EvalReport *previous = report_with(100, 80);
    Rmjob__V1__CategoryThresholds low = thresholds(0.30), high = thresholds(0.75);
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT, floors = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &low;
    floors.rewardbench2 = &high;
    Rmjob__V1__GateVerdict *verdict = rmj_gate_decide(report, &gate, &floors, NULL);
    assert_false(verdict->passed); // the floor holds although the spec asks less
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);

    floors.rewardbench2 = NULL;
    gate.has_max_regression = gate.has_heldout_accuracy_min = gate.has_score_std_min = 1;
    gate.max_regression = 0.02;
    gate.heldout_accuracy_min = 0.6;
    gate.score_std_min = 0.05;
    verdict = rmj_gate_decide(report, &gate, NULL, previous);
    assert_false(verdict->passed);
    size_t failed = 0;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        failed += !verdict->checks[i]->passed;
        assert_true(verdict->checks[i]->passed || strncmp(verdict->checks[i]->name, "max_regression.", 15) == 0);
    }
    assert_int_equal(failed, 5);
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);

    verdict = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_true(verdict->passed);
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
    rmjob__v1__eval_report__free_unpacked(previous, NULL);
}

static void undefined_absent_and_undecided_never_pass(void **state)
{
    (void)state;
    Rmjob__V1__EvalReport *report =
        report_of("{\"id\":[\"ref:1\"],\"subset\":[\"Ties\"],\"num_correct\":[1],\"scores\":[[9.0,2.0,1.0]]}");
    Rmjob__V1__CategoryThresholds t = thresholds(0.3);
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &t;
    Rmjob__V1__GateVerdict *verdict = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_false(verdict->passed);
    assert_string_equal(verdict->checks[0]->note, "not measured");
    assert_string_equal(verdict->checks[5]->note, "undefined");
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
    verdict = rmj_gate_decide(report, NULL, NULL, NULL);
    assert_false(verdict->passed);
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
}

static void factuality_at_chance_names_the_pattern(void **state)
{
    (void)state;
    Rmjob__V1__EvalReport *report = report_of("{\"Factuality\":0.24,\"Precise IF\":0.5,\"Math\":0.6,\"Safety\":0.9,"
                                              "\"Focus\":0.7,\"Ties\":0.6}");
    Rmjob__V1__CategoryThresholds t = thresholds(0.45);
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &t;
    Rmjob__V1__GateVerdict *verdict = rmj_gate_decide(report, &gate, NULL, NULL);
    assert_false(verdict->passed);
    assert_string_equal(verdict->checks[0]->note, "not above chance (25 %)");
    assert_string_equal(verdict->pattern, "safety passes while factuality is at chance: tone, not truth");
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
}

static void thresholds_are_checked_at_submit(void **state)
{
    (void)state;
    Rmjob__V1__CategoryThresholds t = thresholds(0.5), floor = thresholds(0.4);
    t.math = 0.3;   // under the floor
    t.safety = 60;  // percent written for a share
    t.focus = 0.25; // chance
    t.has_factuality = 0;
    t.ties = 0.1; // no chance level, but under the floor
    Rmjob__V1__GateSpec gate = RMJOB__V1__GATE_SPEC__INIT, floors = RMJOB__V1__GATE_SPEC__INIT;
    gate.rewardbench2 = &t;
    floors.rewardbench2 = &floor;
    gate.has_heldout_accuracy_min = 1;
    gate.heldout_accuracy_min = 1.5;
    Rmjob__V1__ValidateResponse *reply = calloc(1, sizeof *reply);
    rmjob__v1__validate_response__init(reply);
    rmj_gate_check_spec(&gate, &floors, reply);
    static const char *const expected[] = {"math is 0.3, under the project's floor of 0.4", "safety is 60; a threshold",
                                           "focus is 0.25, at or under chance", "ties is 0.1, under",
                                           "heldout_accuracy_min is 1.5"};
    assert_int_equal(reply->n_findings, RMJ_COUNT(expected));
    for (size_t i = 0; i < RMJ_COUNT(expected); i++) {
        print_message("%s\n", reply->findings[i]->message);
        assert_non_null(strstr(reply->findings[i]->message, expected[i]));
    }
    rmjob__v1__validate_response__free_unpacked(reply, NULL);

    reply = calloc(1, sizeof *reply);
    rmjob__v1__validate_response__init(reply);
    rmj_gate_check_spec(NULL, NULL, reply);
    assert_int_equal(reply->n_findings, 6); // nothing set anywhere
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
}

static void the_card_says_that_margins_were_in_the_loss(void **state)
{
    (void)state;
    Rmjob__V1__JobReport report = RMJOB__V1__JOB_REPORT__INIT;
    Rmjob__V1__PlanSummary plan = RMJOB__V1__PLAN_SUMMARY__INIT;
    report.plan = &plan;
    for (int margins = 0; margins < 2; margins++) {
        struct rmj_buf out;
        plan.has_use_margin = plan.use_margin = margins;
        rmj_buf_init(&out, SIZE_MAX);
        rmj_model_card(&report, "m", 1, &out);
        assert_int_equal(strstr(rmj_buf_text(&out), "less each pair's own margin") != NULL, margins);
        rmj_buf_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_of_n_credits_equal_the_benchmarks),
        cmocka_unit_test(ties_scores_equal_the_benchmarks_edge_cases_included),
        cmocka_unit_test(score_files_are_read_as_the_benchmark_writes_them),
        cmocka_unit_test(wrong_score_files_are_refused_by_name),
        cmocka_unit_test(every_threshold_must_hold),
        cmocka_unit_test(lower95_asks_more_than_point),
        cmocka_unit_test(floors_heldout_spread_and_regression_count_too),
        cmocka_unit_test(undefined_absent_and_undecided_never_pass),
        cmocka_unit_test(factuality_at_chance_names_the_pattern),
        cmocka_unit_test(thresholds_are_checked_at_submit),
        cmocka_unit_test(the_card_says_that_margins_were_in_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
