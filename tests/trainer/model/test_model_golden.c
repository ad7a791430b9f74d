// golden/* (one tiny model of each architecture, made by transformers in float64): scores, loss, every gradient, and
// the parameters after three steps, with packs, prefix sharing and the integer sums in the path. Each test runs for
// each.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "tests/trainer/model/fixture.h"
#include "trainer/model/safetensors.h"

#define PAIR_COUNT_MAX 16

struct golden {
    char *directory;
    json_t *batch;
    struct token_pair pairs[PAIR_COUNT_MAX];
    size_t pair_count;
    uint32_t row_count; // of a pack
    struct rmj_safetensors expected;
};

#define PACKS 3
static const size_t pack_pairs[PACKS] = {3, 2, 3};

static int32_t *read_ids(const json_t *list, size_t *count)
{
    *count = json_array_size(list);
    int32_t *ids = calloc(*count, sizeof *ids);
    for (size_t i = 0; i < *count; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return ids;
}

static void golden_open(struct golden *g, void *const *state)
{
    struct rmj_error err = {0};
    char name[64];
    snprintf(name, sizeof name, "golden/%s", (const char *)*state);
    *g = (struct golden){.directory = strchr(*state, '/') != NULL ? strdup(*state) : fixture_path(name)};
    char *path = rmj_fs_join(g->directory, "batch.json");
    g->batch = json_load_file(path, 0, NULL);
    assert_non_null(g->batch);
    free(path);
    const json_t *pairs = json_object_get(g->batch, "pairs");
    g->pair_count = json_array_size(pairs);
    assert_true(g->pair_count <= PAIR_COUNT_MAX);
    for (size_t i = 0; i < g->pair_count; i++) {
        const json_t *pair = json_array_get(pairs, i);
        g->pairs[i].sides[0] = read_ids(json_object_get(pair, "chosen_ids"), &g->pairs[i].counts[0]);
        g->pairs[i].sides[1] = read_ids(json_object_get(pair, "rejected_ids"), &g->pairs[i].counts[1]);
        g->pairs[i].margin = (float)json_number_value(json_object_get(pair, "margin"));
    }
    g->row_count = 512;
    for (size_t i = 0, at = 0; i < PACKS; i++) {
        size_t rows = 0;
        for (size_t j = 0; j < pack_pairs[i]; j++, at++) {
            rows += pair_rows(&g->pairs[at], 0);
        }
        g->row_count = rows > g->row_count ? (uint32_t)rows : g->row_count;
    }
    path = rmj_fs_join(g->directory, "expected.safetensors");
    assert_int_equal(rmj_safetensors_open(&g->expected, path, &err), RMJ_OK);
    free(path);
}

static void golden_close(struct golden *g)
{
    for (size_t i = 0; i < g->pair_count; i++) {
        free((void *)g->pairs[i].sides[0]);
        free((void *)g->pairs[i].sides[1]);
    }
    json_decref(g->batch);
    rmj_safetensors_close(&g->expected);
    free(g->directory);
}

// A tensor of the expected file by prefix and name; free() it.
static float *expect(const struct golden *g, const char *prefix, const struct rmj_tensor *tensor)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    const struct rmj_safetensor *found = rmj_safetensors_find(&g->expected, name);
    assert_non_null(found);
    assert_int_equal(found->element_count, tensor->element_count);
    float *values = calloc(tensor->element_count, sizeof *values);
    assert_int_equal(rmj_safetensors_read(&g->expected, found, values, NULL), RMJ_OK);
    return values;
}

// Expected scores are float64, which the reader of weights does not read.
static void expected_scores(const struct golden *g, const char *name, double *out)
{
    const struct rmj_safetensor *found = rmj_safetensors_find(&g->expected, name);
    FILE *file = fopen(g->expected.path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)(g->expected.data_offset + found->begin), SEEK_SET), 0);
    assert_int_equal(fread(out, sizeof *out, found->element_count, file), found->element_count);
    fclose(file);
}

static size_t build_packs(const struct golden *g, struct owned_pack *packs, int share)
{
    size_t at = 0;
    for (size_t i = 0; i < PACKS; i++) {
        pack_build(&packs[i], g->pairs + at, pack_pairs[i], g->row_count, 199, share);
        at += pack_pairs[i];
    }
    assert_int_equal(at, g->pair_count);
    return PACKS;
}

static const struct bench_options options = {.head_init = RMJ_HEAD_BASE, .thread_count = 2, .packs_per_step_bound = 4};

static void bench_of(struct bench *bench, const struct golden *g)
{
    struct bench_options o = options;
    o.directory = g->directory;
    o.row_count = g->row_count;
    bench_open(bench, &o);
}

static void scores_and_loss_equal_the_golden_model(void **state)
{
    struct golden g;
    struct bench b;
    struct owned_pack packs[PACKS];
    golden_open(&g, state);
    bench_of(&b, &g);
    double expected[2 * PAIR_COUNT_MAX], loss = 0, difference = 0, norm = 0;
    expected_scores(&g, "scores", expected);
    size_t count = build_packs(&g, packs, 1), at = 0;
    for (size_t i = 0; i < count; i++) {
        float scores[2 * PAIR_COUNT_MAX], losses[PAIR_COUNT_MAX], grads[2 * PAIR_COUNT_MAX];
        rmj_model_forward(b.model, &packs[i].pack, scores);
        rmj_bradley_terry(&packs[i].pack, scores, losses, grads);
        for (uint32_t j = 0; j < packs[i].pack.branch_total; j++, at++) {
            // The file lists all chosen sides, then all rejected.
            double want = expected[at % 2 * g.pair_count + at / 2];
            difference += ((double)scores[j] - want) * ((double)scores[j] - want);
            norm += want * want;
        }
        for (uint32_t j = 0; j < packs[i].pack.item_count; j++) {
            loss += (double)losses[j] / (double)g.pair_count;
        }
        pack_free(&packs[i]);
    }
    double want = json_real_value(json_array_get(json_object_get(g.batch, "losses"), 0));
    printf("scores %.2e loss %.2e\n", sqrt(difference / norm), fabs(loss - want) / want);
    assert_true(sqrt(difference / norm) < 1e-5);
    assert_true(fabs(loss - want) / want < 1e-5);
    bench_close(&b);
    golden_close(&g);
}

struct collector {
    const struct rmj_layout *layout;
    double *sums; // [element_count]
};

static void collect(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows, uint32_t row_count)
{
    struct collector *c = context;
    const struct rmj_tensor *t = &c->layout->tensors[tensor];
    double *sums = c->sums + t->offset;
    for (uint64_t i = 0; rows == NULL && i < t->element_count; i++) {
        sums[i] += (double)gradient[i];
    }
    for (uint32_t r = 0; r < row_count; r++) {
        for (uint32_t i = 0; i < t->shape[1]; i++) {
            sums[(size_t)rows[r] * t->shape[1] + i] += (double)gradient[(size_t)r * t->shape[1] + i];
        }
    }
}

static void gradients_are_golden(void *const *state, int share)
{
    struct golden g;
    struct bench b;
    struct owned_pack packs[PACKS];
    golden_open(&g, state);
    bench_of(&b, &g);
    struct collector c = {.layout = b.layout, .sums = calloc(b.layout->element_count, sizeof(double))};
    struct rmj_gradient_sink sink = {.context = &c, .take = collect};
    size_t count = build_packs(&g, packs, share);
    for (size_t i = 0; i < count; i++) {
        float scores[2 * PAIR_COUNT_MAX], losses[PAIR_COUNT_MAX], grads[2 * PAIR_COUNT_MAX];
        rmj_model_forward(b.model, &packs[i].pack, scores);
        rmj_bradley_terry(&packs[i].pack, scores, losses, grads);
        rmj_model_backward(b.model, &packs[i].pack, grads, &sink);
        pack_free(&packs[i]);
    }
    double worst = 0;
    for (uint32_t t = 0; t < b.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &b.layout->tensors[t];
        float *want = expect(&g, "grad.", tensor), *got = calloc(tensor->element_count, sizeof *got);
        for (uint64_t i = 0; i < tensor->element_count; i++) {
            got[i] = (float)(c.sums[tensor->offset + i] / (double)g.pair_count);
        }
        double distance = relative_distance(got, want, tensor->element_count);
        worst = distance > worst ? distance : worst;
        if (distance > 1e-5) {
            print_error("%s: %.2e\n", tensor->name, distance);
        }
        free(want);
        free(got);
    }
    printf("worst gradient %.2e\n", worst);
    assert_true(worst <= 1e-5);
    free(c.sums);
    bench_close(&b);
    golden_close(&g);
}

static void every_gradient_equals_the_golden_model_with_shared_prefixes(void **state)
{
    gradients_are_golden(state, 1);
}

static void every_gradient_equals_the_golden_model_without_sharing(void **state)
{
    gradients_are_golden(state, 0);
}

static void parameters_after_three_steps_equal_the_golden_model(void **state)
{
    struct golden g;
    struct bench b;
    struct owned_pack packs[PACKS];
    golden_open(&g, state);
    bench_of(&b, &g);
    size_t count = build_packs(&g, packs, 1);
    struct rmj_adamw adamw = {
        .learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.01};
    for (uint32_t step = 1; step <= 3; step++) {
        adamw.step = step;
        struct step_result result = bench_step(&b, packs, count, g.pairs, g.pair_count, &adamw, 1.0, NULL, 1);
        double loss = json_real_value(json_array_get(json_object_get(g.batch, "losses"), step - 1));
        double norm = json_real_value(json_array_get(json_object_get(g.batch, "grad_norms"), step - 1));
        printf("step %u loss %.8f (%.8f) norm %.6f (%.6f)\n", step, result.loss, loss, result.norm, norm);
        assert_true(fabs(result.loss - loss) / loss < 1e-5 * step * step);
        assert_true(fabs(result.norm - norm) / norm < 1e-4);
    }
    double worst = 0;
    for (uint32_t t = 0; t < b.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &b.layout->tensors[t];
        float *want = expect(&g, "after3.", tensor);
        double distance = relative_distance(b.w + tensor->offset, want, tensor->element_count);
        worst = distance > worst ? distance : worst;
        if (distance > 1e-4) {
            print_error("%s: %.2e\n", tensor->name, distance);
        }
        free(want);
    }
    printf("worst parameter %.2e\n", worst);
    assert_true(worst <= 1e-4);
    assert_int_equal(b.second_passes, 1); // the first step only
    for (size_t i = 0; i < count; i++) {
        pack_free(&packs[i]);
    }
    bench_close(&b);
    golden_close(&g);
}

// Three steps with the packs on 1 to 5 simulated ranks of 1 to 3 threads.
static void ranks_and_threads_change_no_bit_of_the_parameters(void **state)
{
    static const uint32_t places[][3] = {{0, 0, 0}, {0, 1, 0}, {2, 0, 1}, {3, 3, 0}, {4, 2, 0}};
    struct golden g;
    float *reference = NULL;
    golden_open(&g, state);
    for (uint32_t i = 0; i < RMJ_COUNT(places); i++) {
        struct bench b;
        struct owned_pack packs[PACKS];
        struct bench_options o = options;
        o.directory = g.directory;
        o.row_count = g.row_count;
        o.thread_count = 1 + i % 3;
        bench_open(&b, &o);
        size_t count = build_packs(&g, packs, 1);
        struct rmj_adamw adamw = {
            .learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .weight_decay = 0.01};
        for (adamw.step = 1; adamw.step <= 3; adamw.step++) {
            bench_step(&b, packs, count, g.pairs, g.pair_count, &adamw, 1.0, places[i], i + 1);
        }
        size_t size = b.layout->element_count * sizeof(float);
        if (reference == NULL) {
            reference = malloc(size);
            memcpy(reference, b.w, size);
        }
        assert_memory_equal(reference, b.w, size);
        for (size_t p = 0; p < count; p++) {
            pack_free(&packs[p]);
        }
        bench_close(&b);
    }
    free(reference);
    golden_close(&g);
}

static const struct {
    const char *name;
    CMUnitTestFunction run;
} promises[] = {
    {"scores and loss equal the golden model", scores_and_loss_equal_the_golden_model},
    {"every gradient equals the golden model with shared prefixes",
     every_gradient_equals_the_golden_model_with_shared_prefixes},
    {"every gradient equals the golden model without sharing", every_gradient_equals_the_golden_model_without_sharing},
    {"ranks and threads change no bit of the parameters", ranks_and_threads_change_no_bit_of_the_parameters},
    {"parameters after three steps equal the golden model", parameters_after_three_steps_equal_the_golden_model},
};

static void add_tests(struct CMUnitTest *tests, char *family)
{
    for (size_t i = 0; i < RMJ_COUNT(promises); i++) {
        char *name = NULL;
        assert_true(asprintf(&name, "%s: %s", family, promises[i].name) > 0);
        tests[i] = (struct CMUnitTest){.name = name, .test_func = promises[i].run, .initial_state = family};
    }
}

int main(int argc, char **argv)
{
    static char known[][16] = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2"};
    enum { FAMILIES_MAX = 64, EACH = RMJ_COUNT(promises) };
    static struct CMUnitTest tests[FAMILIES_MAX * EACH];
    size_t count = argc > 1 ? (size_t)argc - 1 : RMJ_COUNT(known);
    RMJ_ASSERT(count <= FAMILIES_MAX);
    for (size_t i = 0; i < count; i++) {
        add_tests(&tests[i * EACH], argc > 1 ? argv[i + 1] : known[i]);
    }
    int failed = _cmocka_run_group_tests("golden models", tests, count * EACH, NULL, NULL);
    for (size_t i = 0; i < count * EACH; i++) {
        free((void *)tests[i].name);
    }
    return failed;
}
