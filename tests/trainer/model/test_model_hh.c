// golden/hh_stories15M.json (made by transformers): sixteen optimizer steps of a real model on real pairs in file
// order, through our tokenizer, packs, integer sums and AdamW; then scores of held-out pairs.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/trainer/model/fixture.h"
#include "trainer/tokenizer/tokenizer.h"

#define ROW_COUNT 1024
#define STEP_PAIRS 8
#define PACKS_MAX STEP_PAIRS
#define LINES_MAX 2400

struct hh {
    json_t *golden;
    json_t *rows[LINES_MAX];
    size_t row_count;
    struct rmj_tokenizer *tokenizer;
    char *model;
};

static void hh_open(struct hh *hh)
{
    *hh = (struct hh){.model = fixture_path("models/stories15M")};
    char *golden = fixture_path("golden/hh_stories15M.json");
    char *data = fixture_path("preferences/harmless-base-test.jsonl.gz"), *command = NULL;
    hh->golden = json_load_file(golden, 0, NULL);
    assert_non_null(hh->golden);
    assert_true(asprintf(&command, "gzip -dc '%s'", data) > 0);
    FILE *lines = popen(command, "r");
    assert_non_null(lines);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, lines) > 0) {
        assert_true(hh->row_count < LINES_MAX);
        hh->rows[hh->row_count++] = json_loads(line, 0, NULL);
    }
    assert_int_equal(pclose(lines), 0);
    assert_int_equal(rmj_tokenizer_open(&hh->tokenizer, hh->model, NULL), RMJ_OK);
    free(line);
    free(command);
    free(data);
    free(golden);
}

static void hh_close(struct hh *hh)
{
    for (size_t i = 0; i < hh->row_count; i++) {
        json_decref(hh->rows[i]);
    }
    json_decref(hh->golden);
    rmj_tokenizer_close(hh->tokenizer);
    free(hh->model);
}

static struct token_pair encode_row(const struct hh *hh, size_t row)
{
    static const char *const sides[] = {"chosen", "rejected"};
    struct token_pair pair = {0};
    for (size_t side = 0; side < 2; side++) {
        const char *text = json_string_value(json_object_get(hh->rows[row], sides[side]));
        assert_non_null(text);
        struct rmj_tokens tokens = {0};
        assert_int_equal(rmj_tokenizer_encode(hh->tokenizer, text, strlen(text), &tokens, NULL), RMJ_OK);
        int32_t *ids = calloc(tokens.count + 2, sizeof *ids);
        ids[0] = 1;
        memcpy(ids + 1, tokens.ids, tokens.count * sizeof *ids);
        ids[tokens.count + 1] = 2;
        pair.sides[side] = ids;
        pair.counts[side] = tokens.count + 2;
        rmj_tokens_deinit(&tokens);
    }
    return pair;
}

static void free_pairs(struct token_pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free((void *)pairs[i].sides[0]);
        free((void *)pairs[i].sides[1]);
    }
}

// First pairs that fit, pack by pack; returns the number of packs.
static size_t build_packs(struct owned_pack *packs, const struct token_pair *pairs, size_t count)
{
    size_t pack_count = 0;
    for (size_t first = 0; first < count;) {
        size_t rows = 0, end = first;
        while (end < count && rows + pair_rows(&pairs[end], 1) <= ROW_COUNT) {
            rows += pair_rows(&pairs[end++], 1);
        }
        pack_build(&packs[pack_count++], pairs + first, end - first, ROW_COUNT, 0, 1);
        first = end;
    }
    return pack_count;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void check_step(const json_t *want, const struct step_result *got)
{
    double norm = number(want, "grad_norm");
    printf("step %2d loss %+.1e margin %+.1e norm %+.1e\n", (int)number(want, "step"), got->loss - number(want, "loss"),
           got->margin - number(want, "margin"), (got->norm - norm) / norm);
    assert_true(fabs(got->loss - number(want, "loss")) < 1e-4);
    assert_true(fabs(got->margin - number(want, "margin")) < 1e-4);
    assert_true(fabs(got->norm - norm) / norm < 1e-3);
    assert_true(got->accuracy == number(want, "accuracy"));
}

static void check_heldout(const struct hh *hh, struct bench *b)
{
    const json_t *rows = json_object_get(hh->golden, "heldout_rows");
    const json_t *scores = json_object_get(hh->golden, "heldout_scores");
    double worst = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct token_pair pair = encode_row(hh, (size_t)json_integer_value(json_array_get(rows, i)));
        struct owned_pack pack;
        float got[2];
        pack_build(&pack, &pair, 1, ROW_COUNT, 0, 1);
        rmj_model_forward(b->model, &pack.pack, got);
        for (size_t side = 0; side < 2; side++) {
            double want = json_number_value(json_array_get(json_array_get(scores, i), side));
            worst = fmax(worst, fabs((double)got[side] - want));
        }
        pack_free(&pack);
        free_pairs(&pair, 1);
    }
    printf("held-out scores, worst difference %.1e\n", worst);
    assert_true(worst < 1e-3);
}

static void sixteen_steps_on_real_pairs_follow_the_reference(void **state)
{
    (void)state;
    struct hh hh;
    struct bench b;
    hh_open(&hh);
    bench_open(&b, &(struct bench_options){.directory = hh.model,
                                           .head_init = RMJ_HEAD_ZEROS,
                                           .row_count = ROW_COUNT,
                                           .thread_count = 2,
                                           .packs_per_step_bound = PACKS_MAX});
    const json_t *rows = json_object_get(hh.golden, "rows_used"), *steps = json_object_get(hh.golden, "steps");
    struct rmj_adamw adamw = {.learning_rate = 1e-4, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
    for (uint32_t step = 1; step <= json_array_size(steps); step++) {
        struct token_pair pairs[STEP_PAIRS];
        struct owned_pack packs[PACKS_MAX];
        for (size_t i = 0; i < STEP_PAIRS; i++) {
            size_t at = (step - 1) * STEP_PAIRS + i;
            pairs[i] = encode_row(&hh, (size_t)json_integer_value(json_array_get(rows, at)));
            const json_t *counts = json_array_get(json_object_get(hh.golden, "token_counts"), at);
            assert_int_equal(pairs[i].counts[0], json_integer_value(json_array_get(counts, 0)));
            assert_int_equal(pairs[i].counts[1], json_integer_value(json_array_get(counts, 1)));
        }
        size_t pack_count = build_packs(packs, pairs, STEP_PAIRS);
        adamw.step = step;
        struct step_result result = bench_step(&b, packs, pack_count, pairs, STEP_PAIRS, &adamw, 1.0, NULL, 1);
        check_step(json_array_get(steps, step - 1), &result);
        for (size_t i = 0; i < pack_count; i++) {
            pack_free(&packs[i]);
        }
        free_pairs(pairs, STEP_PAIRS);
    }
    printf("steps computed twice: %u\n", b.second_passes);
    // A zero head: the body's gradients are zero in step 1 and appear in step 2. After that, few may repeat.
    assert_true(b.second_passes >= 2 && b.second_passes <= 6);
    check_heldout(&hh, &b);
    bench_close(&b);
    hh_close(&hh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sixteen_steps_on_real_pairs_follow_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
