// The model as a whole on made-up weights: padding, placement, sharing, threads, every kind of parameter.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "tests/trainer/model/fixture.h"

#define PAIRS 4
#define TOKENS_MAX 40

struct rig {
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    float *weights;
    struct rmj_model *model;
    float *gradient; // flat, of the last backward
};

static const struct rmj_model_config shape = {
    .architecture = "LlamaForCausalLM",
    .family = "llama",
    .layer_count = 2,
    .hidden_width = 24,
    .head_count = 4,
    .kv_head_count = 2,
    .head_width = 8,
    .feed_forward_width = 36,
    .vocabulary_size = 50,
    .position_count_max = 64,
    .norm_epsilon = 1e-5f,
    .qkv_bias = 1,
    .output_bias = 1,
    .mlp_bias = 1,
    .embedding_scale = 1,
    .attention_scale = 0.35355339f,
    .rotary_width = 8,
    .ropes[0] = {.kind = RMJ_ROPE_LINEAR, .theta = 10000, .factor = 2, .attention_factor = 1}};

enum kind { BIASES, PLAIN, SANDWICH, AFTER, FUSED, KIND_COUNT };

// Shapes that between them have everything a family can ask for.
static struct rmj_model_config shape_of(enum kind kind)
{
    struct rmj_model_config config = shape;
    config.qkv_bias = config.output_bias = config.mlp_bias = kind == BIASES;
    config.kv_head_count = kind == PLAIN || kind == AFTER ? 4 : 2;
    if (kind == SANDWICH) { // Gemma
        config.norm_placement = RMJ_NORM_BOTH;
        config.norm_weight_offset = 1;
        config.qk_norm = RMJ_QK_NORM_HEAD;
        config.activation = RMJ_GELU_TANH;
        config.embedding_scale = 4.9f;
        config.attention_softcap = 1.5f;
        config.ropes[1] = config.ropes[0];
        config.ropes[1].theta = 100;
        config.layers[1] = (struct rmj_layer_config){.window = 6, .rope = 1};
    } else if (kind == AFTER) { // OLMo 2, with biases
        config.norm_placement = RMJ_NORM_AFTER;
        config.qk_norm = RMJ_QK_NORM_ROW;
        config.qkv_bias = config.output_bias = 1;
    } else if (kind == FUSED) { // Phi-3, and SmolLM3's layers without rotary positions
        config.fused_qkv = config.fused_gate_up = 1;
        config.rotary_width = 6;
        config.ropes[0].attention_factor = 1.25;
        config.layers[0].window = 9;
        config.layers[1].rope = RMJ_NO_ROPE;
    }
    return config;
}

static void rig_open(struct rig *rig, const struct rmj_model_config *config, uint32_t rows, size_t threads)
{
    *rig = (struct rig){.config = *config};
    assert_int_equal(rmj_layout_create(&rig->layout, config, config->vocabulary_size, NULL), RMJ_OK);
    assert_int_equal(rmj_pool_create(&rig->pool, threads, rmj_cpu_thread_start, NULL), RMJ_OK);
    rig->weights = calloc(rig->layout->element_count, sizeof(float));
    rig->gradient = calloc(rig->layout->element_count, sizeof(float));
    struct rmj_rng rng;
    rmj_rng_init(&rng, 21, 1);
    for (uint32_t t = 0; t < rig->layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig->layout->tensors[t];
        int norm = strstr(tensor->name, "norm") != NULL;
        for (uint64_t i = 0; i < tensor->element_count; i++) {
            rig->weights[tensor->offset + i] =
                (float)((norm ? 1 - config->norm_weight_offset : 0) + 0.25 * rmj_rng_normal(&rng));
        }
    }
    struct rmj_model_options options = {.config = config,
                                        .layout = rig->layout,
                                        .weights = rig->weights,
                                        .pool = rig->pool,
                                        .row_count = rows,
                                        .item_count_max = PAIRS,
                                        .branch_count_max = 2 * PAIRS,
                                        .training = 1};
    assert_int_equal(rmj_model_create(&rig->model, &options, NULL), RMJ_OK);
    assert_true(rmj_model_memory(&options) > (size_t)rows * 24 * 4 * 10);
}

static void rig_close(struct rig *rig)
{
    rmj_model_destroy(rig->model);
    rmj_pool_destroy(rig->pool);
    rmj_layout_destroy(rig->layout);
    free(rig->weights);
    free(rig->gradient);
}

static void keep(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows, uint32_t row_count)
{
    struct rig *rig = context;
    const struct rmj_tensor *t = &rig->layout->tensors[tensor];
    float *out = rig->gradient + t->offset;
    if (rows == NULL) {
        memcpy(out, gradient, t->element_count * sizeof *out);
        return;
    }
    memset(out, 0, t->element_count * sizeof *out);
    for (uint32_t r = 0; r < row_count; r++) {
        memcpy(out + (size_t)rows[r] * t->shape[1], gradient + (size_t)r * t->shape[1], t->shape[1] * sizeof *out);
    }
}

static double run(struct rig *rig, const struct owned_pack *pack, float *scores)
{
    float losses[PAIRS], grads[2 * PAIRS];
    struct rmj_gradient_sink sink = {.context = rig, .take = keep};
    rmj_model_forward(rig->model, &pack->pack, scores);
    rmj_bradley_terry(&pack->pack, scores, losses, grads);
    rmj_model_backward(rig->model, &pack->pack, grads, &sink);
    double loss = 0;
    for (uint32_t i = 0; i < pack->pack.item_count; i++) {
        loss += (double)losses[i];
    }
    return loss;
}

static int32_t token_store[PAIRS][2][TOKENS_MAX];

// Pairs with an empty prefix, a one-row branch, equal lengths and a long one.
static void draw_pairs(struct token_pair *pairs)
{
    static const size_t prefixes[PAIRS] = {0, 5, 12, 3}, own[PAIRS][2] = {{4, 9}, {1, 6}, {7, 7}, {30, 2}};
    struct rmj_rng rng;
    rmj_rng_init(&rng, 2, 2);
    for (size_t i = 0; i < PAIRS; i++) {
        for (size_t side = 0; side < 2; side++) {
            pairs[i].counts[side] = prefixes[i] + own[i][side];
            pairs[i].sides[side] = token_store[i][side];
            for (size_t t = 0; t < pairs[i].counts[side]; t++) {
                int32_t token = (int32_t)rmj_rng_below(&rng, 24) * 2 + (int32_t)side;
                token_store[i][side][t] = t < prefixes[i] && side == 1 ? token_store[i][0][t] : token;
            }
        }
        pairs[i].margin = i == 2 ? 0.5f : 0;
    }
}

static void every_parameter_s_gradient_is_the_slope_of_the_loss(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct rmj_model_config config = shape_of(kind);
        struct rig rig;
        struct token_pair pairs[PAIRS];
        struct owned_pack pack;
        draw_pairs(pairs);
        rig_open(&rig, &config, 128, 2);
        pack_build(&pack, pairs, PAIRS, 128, 49, 1);
        float scores[2 * PAIRS];
        run(&rig, &pack, scores);
        float *gradient = malloc(rig.layout->element_count * sizeof *gradient);
        memcpy(gradient, rig.gradient, rig.layout->element_count * sizeof *gradient);
        struct rmj_rng rng;
        rmj_rng_init(&rng, 3, 3);
        for (uint32_t t = 0; t < rig.layout->tensor_count; t++) {
            const struct rmj_tensor *tensor = &rig.layout->tensors[t];
            // Along a random direction the slope stands out of float32's noise.
            double slope = 0, high, low;
            float *w = rig.weights + tensor->offset;
            float *before = malloc(tensor->element_count * sizeof *before);
            float *direction = malloc(tensor->element_count * sizeof *direction);
            memcpy(before, w, tensor->element_count * sizeof *before);
            double length = 0;
            for (uint64_t i = 0; i < tensor->element_count; i++) {
                // Half noise, half the gradient's own sign: a direction with a slope worth measuring.
                float g = gradient[tensor->offset + i];
                direction[i] = (float)rmj_rng_normal(&rng) + (g > 0 ? 1.0f : g < 0 ? -1.0f : 0.0f);
                length += (double)direction[i] * (double)direction[i];
            }
            double step = 4e-3 / sqrt(length);
            for (uint64_t i = 0; i < tensor->element_count; i++) {
                slope += (double)gradient[tensor->offset + i] * (double)direction[i];
                w[i] = (float)((double)before[i] + step * (double)direction[i]);
            }
            high = run(&rig, &pack, scores);
            for (uint64_t i = 0; i < tensor->element_count; i++) {
                w[i] = (float)((double)before[i] - step * (double)direction[i]);
            }
            low = run(&rig, &pack, scores);
            memcpy(w, before, tensor->element_count * sizeof *before);
            double measured = (high - low) / (2 * step);
            if (fabs(measured - slope) > 5e-3 * fabs(slope) + 1e-3 * sqrt(length)) {
                fail_msg("kind %d, %s: slope %g, measured %g", (int)kind, tensor->name, slope, measured);
            }
            free(before);
            free(direction);
        }
        free(gradient);
        pack_free(&pack);
        rig_close(&rig);
    }
}

static double gradient_distance(const struct rig *a, const struct rig *b)
{
    double worst = 0;
    for (uint32_t t = 0; t < a->layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &a->layout->tensors[t];
        // A key's bias moves all scores of a row alike: its gradient is zero but for rounding.
        if (strstr(tensor->name, "k_proj.bias") == NULL) {
            worst = fmax(worst, relative_distance(a->gradient + tensor->offset, b->gradient + tensor->offset,
                                                  tensor->element_count));
        }
    }
    return worst;
}

static void padding_placement_and_sharing_change_rounding_at_most_of(const struct rmj_model_config *config)
{
    struct rig a, b;
    struct token_pair pairs[PAIRS], turned[PAIRS];
    struct owned_pack tight, loose;
    float scores[2 * PAIRS], others[2 * PAIRS];
    draw_pairs(pairs);
    size_t rows = 0;
    for (size_t i = 0; i < PAIRS; i++) {
        turned[i] = pairs[PAIRS - 1 - i];
        rows += pair_rows(&pairs[i], 1);
    }
    rig_open(&a, config, (uint32_t)rows, 1);
    rig_open(&b, config, 333, 1);
    pack_build(&tight, pairs, PAIRS, (uint32_t)rows, 49, 1);
    run(&a, &tight, scores);
    for (int share = 0; share < 2; share++) {
        pack_build(&loose, turned, PAIRS, 333, 49, share);
        run(&b, &loose, others);
        for (size_t i = 0; i < 2 * PAIRS; i++) {
            assert_true(fabsf(scores[i] - others[2 * (PAIRS - 1 - i / 2) + i % 2]) < 2e-6f);
        }
        assert_true(gradient_distance(&b, &a) < 5e-6);
        pack_free(&loose);
    }
    pack_free(&tight);
    rig_close(&a);
    rig_close(&b);
}

static void padding_placement_and_sharing_change_rounding_at_most(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct rmj_model_config config = shape_of(kind);
        padding_placement_and_sharing_change_rounding_at_most_of(&config);
    }
}

static void what_stands_in_the_padding_changes_no_bit_of(const struct rmj_model_config *config)
{
    struct rig rig;
    struct token_pair pairs[PAIRS];
    struct owned_pack pack;
    float scores[2 * PAIRS], others[2 * PAIRS];
    draw_pairs(pairs);
    rig_open(&rig, config, 200, 2);
    pack_build(&pack, pairs, PAIRS, 200, 49, 1);
    run(&rig, &pack, scores);
    float *gradient = malloc(rig.layout->element_count * sizeof *gradient);
    memcpy(gradient, rig.gradient, rig.layout->element_count * sizeof *gradient);
    for (uint64_t i = 49 * 24; i < 50 * 24; i++) {
        assert_true(gradient[rig.layout->tensors[rig.layout->embedding].offset + i] == 0); // the pad row's
    }
    for (uint32_t r = pack.pack.used_row_count; r < 200; r++) {
        pack.tokens[r] = (int32_t)(r % 50);
        pack.positions[r] = (int32_t)(r % 7);
    }
    run(&rig, &pack, others);
    assert_memory_equal(scores, others, sizeof scores);
    assert_memory_equal(gradient, rig.gradient, rig.layout->element_count * sizeof *gradient);
    free(gradient);
    pack_free(&pack);
    rig_close(&rig);
}

static void what_stands_in_the_padding_changes_no_bit(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct rmj_model_config config = shape_of(kind);
        what_stands_in_the_padding_changes_no_bit_of(&config);
    }
}

static void threads_change_no_bit_of_scores_or_gradients_of(const struct rmj_model_config *config)
{
    struct rig one;
    struct token_pair pairs[PAIRS];
    struct owned_pack pack;
    float scores[2 * PAIRS], others[2 * PAIRS];
    draw_pairs(pairs);
    pack_build(&pack, pairs, PAIRS, 300, 49, 1);
    rig_open(&one, config, 300, 1);
    run(&one, &pack, scores);
    for (size_t threads = 2; threads <= 3; threads++) {
        struct rig rig;
        rig_open(&rig, config, 300, threads);
        run(&rig, &pack, others);
        assert_memory_equal(scores, others, sizeof scores);
        assert_memory_equal(one.gradient, rig.gradient, one.layout->element_count * sizeof *one.gradient);
        rig_close(&rig);
    }
    rig_close(&one);
    pack_free(&pack);
}

static void threads_change_no_bit_of_scores_or_gradients(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct rmj_model_config config = shape_of(kind);
        threads_change_no_bit_of_scores_or_gradients_of(&config);
    }
}

static void a_model_for_scoring_alone_gives_the_same_scores_in_less_memory_of(const struct rmj_model_config *config)
{
    struct rig rig;
    struct token_pair pairs[PAIRS];
    struct owned_pack pack;
    float scores[2 * PAIRS], others[2 * PAIRS];
    draw_pairs(pairs);
    pack_build(&pack, pairs, PAIRS, 128, 49, 1);
    rig_open(&rig, config, 128, 1);
    run(&rig, &pack, scores);
    struct rmj_model_options options = {.config = &rig.config,
                                        .layout = rig.layout,
                                        .weights = rig.weights,
                                        .pool = rig.pool,
                                        .row_count = 128,
                                        .item_count_max = PAIRS,
                                        .branch_count_max = 2 * PAIRS};
    struct rmj_model *scorer;
    size_t small = rmj_model_memory(&options);
    assert_int_equal(rmj_model_create(&scorer, &options, NULL), RMJ_OK);
    rmj_model_forward(scorer, &pack.pack, others);
    assert_memory_equal(scores, others, sizeof scores);
    options.training = 1;
    assert_true(small < rmj_model_memory(&options));
    rmj_model_destroy(scorer);
    pack_free(&pack);
    rig_close(&rig);
}

static void a_model_for_scoring_alone_gives_the_same_scores_in_less_memory(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct rmj_model_config config = shape_of(kind);
        a_model_for_scoring_alone_gives_the_same_scores_in_less_memory_of(&config);
    }
}

static void bradley_terry_is_right_and_finite_at_any_distance(void **state)
{
    (void)state;
    const float distances[] = {0, 1e-8f, -1e-8f, 0.5f, -0.5f, 20, -20, 90, -90, 1e6f, -1e6f, 3e38f, -3e38f};
    for (size_t i = 0; i < RMJ_COUNT(distances); i++) {
        struct rmj_pack_item item = {.branch_count = 2, .margin = i == 3 ? 0.25f : 0};
        struct rmj_pack pack = {.items = &item, .item_count = 1, .branch_total = 2};
        float scores[2] = {distances[i], 0}, loss, grads[2];
        rmj_bradley_terry(&pack, scores, &loss, grads);
        double d = (double)distances[i] - (double)item.margin;
        double want = d > 0 ? log1p(exp(-d)) : -d + log1p(exp(d)), slope = -1 / (1 + exp(d));
        assert_true(fabs((double)loss - want) <= 1e-6 * fmax(want, 1e-30));
        assert_true(fabs((double)grads[0] - slope) <= 1e-6 * fabs(slope) + 1e-44);
        assert_true(grads[1] == -grads[0]);
    }
}

static void a_real_model_with_grouped_queries_loads_and_scores(void **state)
{
    (void)state;
    char *directory = fixture_path_or_null("models/stories260K");
    if (directory == NULL) {
        print_message("SKIP: models/stories260K is not in $RMJOB_DATA nor beside the source\n");
        skip();
    }
    struct bench b;
    bench_open(&b, &(struct bench_options){.directory = directory,
                                           .head_init = RMJ_HEAD_NORMAL,
                                           .row_count = 128,
                                           .thread_count = 2,
                                           .packs_per_step_bound = 1,
                                           .vocabulary_extra = 1});
    assert_int_equal(b.config.kv_head_count, 4);
    assert_int_equal(rmj_model_parameter_count(&b.config), 260032 + 64);
    struct token_pair pairs[PAIRS];
    struct owned_pack pack;
    draw_pairs(pairs);
    pack_build(&pack, pairs, PAIRS, 128, 512, 1);
    struct rmj_adamw adamw = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
    double first = 0, last = 0;
    for (adamw.step = 1; adamw.step <= 10; adamw.step++) {
        last = bench_step(&b, &pack, 1, pairs, PAIRS, &adamw, 1, NULL, 1).loss;
        first = adamw.step == 1 ? last : first;
    }
    assert_true(last < first / 2); // four pairs are learnt by heart
    pack_free(&pack);
    bench_close(&b);
    free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_s_gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(padding_placement_and_sharing_change_rounding_at_most),
        cmocka_unit_test(what_stands_in_the_padding_changes_no_bit),
        cmocka_unit_test(threads_change_no_bit_of_scores_or_gradients),
        cmocka_unit_test(a_model_for_scoring_alone_gives_the_same_scores_in_less_memory),
        cmocka_unit_test(bradley_terry_is_right_and_finite_at_any_distance),
        cmocka_unit_test(a_real_model_with_grouped_queries_loads_and_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
