// Evaluation: the same work on every rank, scores back in the order of rows and completions, and the real rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/prepare.h"
#include "trainer/data/template.h"
#include "trainer/eval/eval.h"
#include "trainer/model/checkpoint_io.h"

static char *directory, *model, *benchmark, *heldout;
static struct rmj_pool *pool;

static void write_benchmark(void)
{
    static const char *const subsets[] = {"Factuality", "Precise IF", "Math", "Safety", "Focus"};
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 22);
    for (int i = 0; i < 25; i++) {
        rmj_buf_printf(
            &out,
            "{\"id\":\"%d\",\"prompt\":\"question %d\",\"chosen\":[\"answer %d\"],\"rejected\":[\"b%d\",\"c\","
            "\"d%d e\"],\"num_correct\":1,\"subset\":\"%s\"}\n",
            i, i, i, i, i * i, subsets[i % 5]);
    }
    // Thirty completions of one prompt, too many for one unit of 4,096 rows.
    rmj_buf_puts(&out, "{\"id\":\"tied:0\",\"prompt\":\"many\",\"chosen\":[\"a\",\"b\"],\"rejected\":[");
    for (int i = 0; i < 30; i++) {
        rmj_buf_printf(&out, "%s\"%d%0*d\"", i == 0 ? "" : ",", i, 300, 0);
    }
    rmj_buf_puts(&out, "],\"num_correct\":2,\"subset\":\"Ties\"}\n");
    rmj_buf_puts(&out, "{\"id\":\"ref:0\",\"prompt\":\"few\",\"chosen\":[\"a\"],\"rejected\":[\"b\"],\"num_correct\":1,"
                       "\"subset\":\"Ties\"}\n");
    benchmark = fixture_write(directory, "rb2.jsonl", out.bytes, out.size);
    rmj_buf_clear(&out);
    for (int i = 0; i < 40; i++) {
        rmj_buf_printf(&out, "{\"prompt\":\"p%d\",\"chosen\":\" yes %d\",\"rejected\":\" no\"}\n", i, i);
    }
    rmj_buf_printf(&out, "{\"prompt\":\"\",\"chosen\":\"%0800d\",\"rejected\":\"short\"}\n",
                   0); // over the model's 512 positions
    heldout = fixture_write(directory, "heldout.jsonl", out.bytes, out.size);
    rmj_buf_deinit(&out);
}

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    model = fixture_model(directory, "model", 3, 1);
    write_benchmark();
    return rmj_pool_create(&pool, 2, NULL, NULL) == RMJ_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_pool_destroy(pool);
    free(model);
    free(benchmark);
    free(heldout);
    fixture_remove(directory);
    return 0;
}

static struct rmj_eval *open_eval(const char *directory_of_model, const char *rb2, const char *pairs)
{
    Rmjob__V1__JobSpec *spec = fixture_spec(directory_of_model, "unused.jsonl");
    struct rmj_eval *eval = NULL;
    struct rmj_error err = {0};
    if (rb2 != NULL) {
        fixture_set_benchmark(spec, rb2);
    }
    if (pairs != NULL) {
        fixture_set_heldout(spec, pairs);
    }
    if (rmj_eval_open(&eval, spec, directory_of_model, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    fixture_spec_free(spec);
    return eval;
}

static float *run_all(struct rmj_eval *eval, uint32_t world)
{
    uint32_t count = rmj_eval_score_count(eval);
    float *scores = malloc(count * sizeof *scores);
    struct rmj_error err = {0};
    for (uint32_t i = 0; i < count; i++) {
        scores[i] = NAN;
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        if (rmj_eval_run(eval, pool, rank, world, scores, NULL, NULL, &err) != RMJ_OK) {
            fail_msg("%s", err.message);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_true(isfinite(scores[i]));
    }
    return scores;
}

static void any_number_of_ranks_gives_the_same_scores(void **state)
{
    (void)state;
    struct rmj_eval *eval = open_eval(model, benchmark, heldout);
    uint32_t count = rmj_eval_score_count(eval), next = 0;
    assert_int_equal(count, 25 * 4 + 32 + 2 + 41 * 2);
    for (uint32_t pack = 0; pack < rmj_eval_pack_count(eval); pack++) {
        uint32_t first, size;
        rmj_eval_pack_scores(eval, pack, &first, &size);
        assert_int_equal(first, next);
        next += size;
    }
    assert_int_equal(next, count);
    assert_int_equal(rmj_eval_truncated_count(eval), 1);
    float *one = run_all(eval, 1);
    for (uint32_t world = 2; world <= 5; world++) {
        float *many = run_all(eval, world);
        assert_memory_equal(one, many, count * sizeof *one);
        free(many);
    }
    free(one);
    rmj_eval_close(eval);
}

static void scores_come_back_in_the_order_of_rows(void **state)
{
    (void)state;
    struct rmj_eval *eval = open_eval(model, benchmark, heldout);
    float *scores = run_all(eval, 1);
    Rmjob__V1__ScoredRows *rows = rmj_eval_rows(eval, scores);
    assert_int_equal(rows->n_rows, 27);
    assert_int_equal(rows->n_heldout, 82);
    assert_string_equal(rows->rows[25]->id, "tied:0");
    assert_int_equal(rows->rows[25]->num_correct, 2);
    assert_int_equal(rows->rows[25]->n_scores, 32);
    static const char *const texts[] = {
        "\n\nHuman: question 7\n\nAssistant: answer 7",
        "\n\nHuman: question 7\n\nAssistant: b7",
        "\n\nHuman: question 7\n\nAssistant: c",
        "\n\nHuman: question 7\n\nAssistant: d49 e",
        "p3 yes 3",
        "p3 no",
        "\n\nHuman: many\n\nAssistant: b",
    };
    struct rmj_eval_input inputs[RMJ_COUNT(texts)] = {0};
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        inputs[i].text = texts[i];
    }
    float alone[RMJ_COUNT(texts)];
    struct rmj_error err = {0};
    if (rmj_eval_score_inputs(model, inputs, RMJ_COUNT(texts), pool, alone, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    const float packed[] = {rows->rows[7]->scores[0], rows->rows[7]->scores[1], rows->rows[7]->scores[2],
                            rows->rows[7]->scores[3], rows->heldout[6],         rows->heldout[7],
                            rows->rows[25]->scores[1]};
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        // Alone and behind a shared prefix: rounding differs, the score does not.
        assert_true(fabsf(alone[i] - packed[i]) < 1e-5f);
        assert_true(i == 0 || fabsf(packed[i] - packed[i - 1]) > 1e-4f);
    }
    rmjob__v1__scored_rows__free_unpacked(rows, NULL);
    free(scores);
    rmj_eval_close(eval);
}

static int stop_at_once(void *context, uint32_t done)
{
    *(uint32_t *)context = done;
    return 1;
}

static void progress_can_cancel(void **state)
{
    (void)state;
    struct rmj_eval *eval = open_eval(model, benchmark, NULL);
    float *scores = malloc(rmj_eval_score_count(eval) * sizeof *scores);
    uint32_t done = 0;
    assert_int_equal(rmj_eval_run(eval, pool, 0, 1, scores, stop_at_once, &done, NULL), RMJ_CANCELLED);
    assert_int_equal(done, 1);
    free(scores);
    rmj_eval_close(eval);
}

static void a_broken_row_is_named(void **state)
{
    (void)state;
    char *bad =
        fixture_write_text(directory, "bad.jsonl", "{\"chosen\":\"a\",\"rejected\":\"b\"}\n{\"chosen\":\"a\"}\n");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, "unused.jsonl");
    struct rmj_eval *eval = NULL;
    struct rmj_error err = {0};
    fixture_set_heldout(spec, bad);
    assert_int_equal(rmj_eval_open(&eval, spec, model, &err), RMJ_DATA);
    assert_null(eval);
    assert_non_null(strstr(err.message, "bad.jsonl:2: no column 'rejected'"));
    fixture_spec_free(spec);
    free(bad);
}

static void the_real_rows_are_scored(void **state)
{
    (void)state;
    char *data = fixture_data();
    if (data == NULL) {
        skip();
    }
    char *rb2 = rmj_fs_join(data, "rb2/reward_bench_2_sample_25.jsonl");
    struct rmj_eval *eval = open_eval(model, rb2, NULL);
    float *scores = run_all(eval, 2);
    Rmjob__V1__ScoredRows *rows = rmj_eval_rows(eval, scores);
    assert_int_equal(rows->n_rows, 25);
    for (size_t i = 0; i < rows->n_rows; i++) {
        assert_true(rows->rows[i]->n_scores > rows->rows[i]->num_correct);
    }
    printf("%u completions in %u packs, %u cut\n", rmj_eval_score_count(eval), rmj_eval_pack_count(eval),
           rmj_eval_truncated_count(eval));
    rmjob__v1__scored_rows__free_unpacked(rows, NULL);
    free(scores);
    rmj_eval_close(eval);
    free(rb2);
    free(data);
}

// A base model without a pad token, exported with the grown vocabulary and our template, as training does.
// spare: embedding rows that no token uses; the pad token takes the first of them.
static char *export_model(const char *name, unsigned spare)
{
    unsigned rows = FIXTURE_VOCABULARY + spare;
    char *base = fixture_model_with_rows(directory, "base", 5, 0, rows), *exported = rmj_fs_join(directory, name);
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_error err = {0};
    assert_int_equal(rmj_model_config_read(&config, base, &err), RMJ_OK);
    assert_int_equal(rmj_layout_create(&layout, &config, rows + (spare == 0), &err), RMJ_OK);
    float *weights = calloc(layout->element_count, sizeof *weights);
    struct rmj_weights_options load = {.directory = base, .config = &config, .layout = layout, .seed = 1};
    assert_int_equal(rmj_weights_load(&load, weights, &err), RMJ_OK);
    struct rmj_export_options options = {
        .base_directory = base,
        .directory = exported,
        .config = &config,
        .layout = layout,
        .weights = weights,
        .pad_token = FIXTURE_VOCABULARY,
        .vocabulary_grows = spare == 0,
        .chat_template = rmj_default_chat_template(),
    };
    if (rmj_model_export(&options, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    free(weights);
    rmj_layout_destroy(layout);
    free(base);
    return exported;
}

static void check_exported(const char *name, unsigned spare)
{
    char *exported = export_model(name, spare);
    struct rmj_eval *eval = open_eval(exported, benchmark, heldout);
    free(run_all(eval, 2));
    rmj_eval_close(eval);
    struct rmj_model_config config;
    struct rmj_tokenizer *tokenizer;
    struct rmj_renderer renderer;
    struct rmj_error err = {0};
    assert_int_equal(rmj_model_config_read(&config, exported, &err), RMJ_OK);
    assert_int_equal(rmj_tokenizer_open(&tokenizer, exported, &err), RMJ_OK);
    struct rmj_renderer_options options = {.tokenizer = tokenizer, .config = &config, .directory = exported};
    assert_int_equal(rmj_renderer_init(&renderer, &options, &err), RMJ_OK);
    assert_int_equal(renderer.pad, FIXTURE_VOCABULARY); // the row that was added, now the model's own
    assert_int_equal(renderer.vocabulary_grows, 0);
    rmj_renderer_deinit(&renderer);
    rmj_tokenizer_close(tokenizer);
    char *again = fixture_write_text(directory, "again.jsonl", "{\"chosen\":\"yes\",\"rejected\":\"no\"}\n");
    Rmjob__V1__JobSpec *spec = fixture_spec(exported, again);
    spec->train->has_head_init = 1;
    spec->train->head_init = RMJOB__V1__HEAD_INIT__base;
    Rmjob__V1__ValidateResponse *reply = NULL;
    assert_int_equal(rmj_check_spec(spec, &reply, &err), RMJ_OK);
    for (size_t i = 0; i < reply->n_findings; i++) {
        if (!reply->findings[i]->warning) {
            fail_msg("%s", reply->findings[i]->message);
        }
    }
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
    free(again);
    free(exported);
}

static void an_exported_model_is_scored_and_is_a_base_again(void **state)
{
    (void)state;
    check_exported("exported", 0);
    check_exported("exported-spare", 34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks_gives_the_same_scores),
        cmocka_unit_test(scores_come_back_in_the_order_of_rows),
        cmocka_unit_test(progress_can_cancel),
        cmocka_unit_test(a_broken_row_is_named),
        cmocka_unit_test(an_exported_model_is_scored_and_is_a_base_again),
        cmocka_unit_test(the_real_rows_are_scored),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
