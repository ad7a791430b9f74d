// Adapters: what they compute, what is trained and what is not, pages and sums, merging, and the PEFT directory.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"
#include "tests/trainer/model/fixture.h"
#include "trainer/model/adapter.h"

#define PAIRS 3
#define ROWS 96
#define PAD 49

static struct rmj_model_config shape_of(int fused)
{
    struct rmj_model_config config = {
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
        .qkv_bias = !fused,
        .fused_qkv = fused,
        .fused_gate_up = fused,
        .embedding_scale = 1,
        .attention_scale = 0.35355339f,
        .rotary_width = 8,
        .ropes[0] = {.kind = RMJ_ROPE_DEFAULT, .theta = 10000, .factor = 1, .attention_factor = 1}};
    return config;
}

static struct rmj_lora lora_of(const struct rmj_model_config *config, uint32_t rank)
{
    struct rmj_lora lora;
    assert_int_equal(rmj_lora_init(&lora, config, rank, 2.0 * rank, NULL, 0, NULL), RMJ_OK);
    return lora;
}

struct rig {
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    struct rmj_model *model;
    float *weights, *gradient; // [weight_count]
    uint32_t *taken;           // [tensor_count] how often the sink had it
};

static void rig_open(struct rig *rig, const struct rmj_model_config *config, const struct rmj_lora *lora)
{
    *rig = (struct rig){.config = *config};
    assert_int_equal(rmj_layout_create_lora(&rig->layout, config, config->vocabulary_size, lora, NULL), RMJ_OK);
    assert_int_equal(rmj_pool_create(&rig->pool, 2, rmj_cpu_thread_start, NULL), RMJ_OK);
    rig->weights = calloc(rig->layout->weight_count, sizeof(float));
    rig->gradient = calloc(rig->layout->weight_count, sizeof(float));
    rig->taken = calloc(rig->layout->tensor_count, sizeof *rig->taken);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 21, 1);
    for (uint32_t t = 0; t < rig->layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig->layout->tensors[t];
        int norm = strstr(tensor->name, "norm") != NULL;
        for (uint64_t i = 0; !tensor->is_adapter && i < tensor->element_count; i++) {
            rig->weights[tensor->offset + i] = (float)((norm ? 1 : 0) + 0.25 * rmj_rng_normal(&rng));
        }
    }
    rmj_lora_fill(rig->layout, 5, rig->weights);
    struct rmj_model_options options = {.config = config,
                                        .layout = rig->layout,
                                        .weights = rig->weights,
                                        .pool = rig->pool,
                                        .row_count = ROWS,
                                        .item_count_max = PAIRS,
                                        .branch_count_max = 2 * PAIRS,
                                        .training = 1};
    assert_int_equal(rmj_model_create(&rig->model, &options, NULL), RMJ_OK);
}

static void rig_close(struct rig *rig)
{
    rmj_model_destroy(rig->model);
    rmj_pool_destroy(rig->pool);
    rmj_layout_destroy(rig->layout);
    free(rig->weights);
    free(rig->gradient);
    free(rig->taken);
}

// B as training would have left it.
static void move_adapters(struct rig *rig)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, 4, 4);
    for (uint32_t t = 0; t < rig->layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig->layout->tensors[t];
        for (uint64_t i = 0; tensor->is_adapter && strstr(tensor->name, "lora_B") && i < tensor->element_count; i++) {
            rig->weights[tensor->offset + i] = (float)(0.1 * rmj_rng_normal(&rng));
        }
    }
}

static void keep(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows, uint32_t row_count)
{
    struct rig *rig = context;
    const struct rmj_tensor *t = &rig->layout->tensors[tensor];
    (void)row_count;
    rig->taken[tensor]++;
    if (rows == NULL) {
        memcpy(rig->gradient + t->offset, gradient, t->element_count * sizeof *gradient);
    }
}

static double run(struct rig *rig, const struct owned_pack *pack, float *scores)
{
    float losses[PAIRS], grads[2 * PAIRS];
    struct rmj_gradient_sink sink = {.context = rig, .take = keep};
    rmj_model_forward(rig->model, &pack->pack, scores);
    rmj_bradley_terry(&pack->pack, scores, losses, grads);
    rmj_model_backward(rig->model, &pack->pack, grads, &sink);
    return (double)losses[0] + (double)losses[1] + (double)losses[2];
}

static int32_t token_store[PAIRS][2][24];

static void make_pack(struct owned_pack *pack, struct token_pair *pairs)
{
    static const size_t prefixes[PAIRS] = {0, 5, 9}, own[PAIRS][2] = {{4, 9}, {1, 6}, {7, 7}};
    struct rmj_rng rng;
    rmj_rng_init(&rng, 2, 2);
    for (size_t i = 0; i < PAIRS; i++) {
        for (size_t side = 0; side < 2; side++) {
            pairs[i] = (struct token_pair){.sides = {token_store[i][0], token_store[i][1]},
                                           .counts = {prefixes[i] + own[i][0], prefixes[i] + own[i][1]}};
            for (size_t t = 0; t < pairs[i].counts[side]; t++) {
                int32_t token = (int32_t)rmj_rng_below(&rng, 24) * 2 + (int32_t)side;
                token_store[i][side][t] = t < prefixes[i] && side == 1 ? token_store[i][0][t] : token;
            }
        }
    }
    pack_build(pack, pairs, PAIRS, ROWS, PAD, 1);
}

// The weights of `rig` with its adapters merged, in `plain`'s layout.
static void merge_into(struct rig *plain, const struct rig *rig)
{
    uint32_t at = 0;
    for (uint32_t t = 0; t < rig->layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig->layout->tensors[t];
        if (tensor->is_adapter) {
            continue;
        }
        float *out = plain->weights + plain->layout->tensors[at++].offset;
        memcpy(out, rig->weights + tensor->offset, tensor->element_count * sizeof *out);
        if (tensor->adapter != RMJ_NO_ADAPTER) {
            const struct rmj_tensor *a = &rig->layout->tensors[tensor->adapter], *b = a + 1;
            struct rmj_lora_matrix matrix = {.row_count = tensor->shape[0],
                                             .column_count = tensor->shape[1],
                                             .rank = rig->layout->lora.rank,
                                             .scale = rig->layout->lora.alpha / rig->layout->lora.rank,
                                             .weight = out,
                                             .a = rig->weights + a->offset,
                                             .b = rig->weights + b->offset};
            assert_int_equal(rmj_lora_merge(&matrix, out, NULL), RMJ_OK);
        }
    }
}

static void the_layout_pages_what_is_trained_and_puts_the_rest_behind(void **state)
{
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        struct rmj_model_config config = shape_of(fused);
        struct rmj_lora lora = lora_of(&config, 3);
        struct rmj_layout *layout, *plain;
        assert_int_equal(rmj_layout_create_lora(&layout, &config, 50, &lora, NULL), RMJ_OK);
        assert_int_equal(rmj_layout_create(&plain, &config, 50, NULL), RMJ_OK);
        assert_true(plain->weight_count == plain->element_count);
        uint64_t trained = 0, all = 0, paged = 0;
        uint32_t adapters = 0;
        for (uint32_t t = 0; t < layout->tensor_count; t++) {
            const struct rmj_tensor *tensor = &layout->tensors[t];
            uint64_t padded = (tensor->element_count + 1023) / 1024 * 1024;
            assert_true(tensor->frozen == (!tensor->is_adapter && t != layout->head));
            assert_true(tensor->offset + padded <= (tensor->frozen ? layout->weight_count : layout->element_count));
            assert_true(!tensor->frozen || tensor->offset >= layout->element_count);
            trained += tensor->frozen ? 0 : padded;
            all += padded;
            adapters += (uint32_t)tensor->is_adapter;
        }
        assert_int_equal(adapters, 2 * 2 * (fused ? 4 : 7));
        assert_true(trained == layout->element_count && all == layout->weight_count);
        for (uint32_t p = 0; p < layout->page_count; p++) {
            assert_true(layout->pages[p].offset == paged);
            paged += layout->pages[p].element_count;
        }
        assert_true(paged == layout->element_count);
        rmj_layout_destroy(layout);
        rmj_layout_destroy(plain);
    }
}

static void an_unknown_module_is_refused_with_those_there_are(void **state)
{
    (void)state;
    struct rmj_model_config plain = shape_of(0), fused = shape_of(1);
    struct rmj_lora lora;
    struct rmj_error err = {0};
    assert_int_equal(rmj_lora_init(&lora, &plain, 8, 16, (const char *const[]){"v_proj", "q_porj"}, 2, &err),
                     RMJ_INVALID);
    assert_non_null(strstr(err.message, "did you mean q_proj"));
    assert_non_null(strstr(err.message, "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"));
    assert_int_equal(rmj_lora_init(&lora, &plain, 8, 16, (const char *const[]){"qkv_proj"}, 1, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &fused, 8, 16, (const char *const[]){"qkv_proj"}, 1, &err), RMJ_OK);
    assert_int_equal(rmj_lora_init(&lora, &fused, 8, 16, (const char *const[]){"q_proj"}, 1, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &plain, 8, 16, (const char *const[]){"lm_head"}, 1, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &plain, 0, 16, NULL, 0, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &plain, 1025, 16, NULL, 0, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &plain, 8, 0, NULL, 0, &err), RMJ_INVALID);
    assert_int_equal(rmj_lora_init(&lora, &plain, 8, NAN, NULL, 0, &err), RMJ_INVALID);
}

static void new_adapters_change_no_bit_of_a_score(void **state)
{
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        struct rmj_model_config config = shape_of(fused);
        struct rmj_lora lora = lora_of(&config, 5);
        struct rig plain, adapted;
        struct owned_pack pack;
        struct token_pair pairs[PAIRS];
        float a[2 * PAIRS], b[2 * PAIRS];
        rig_open(&plain, &config, &(struct rmj_lora){0});
        rig_open(&adapted, &config, &lora);
        make_pack(&pack, pairs);
        run(&plain, &pack, a);
        run(&adapted, &pack, b);
        assert_memory_equal(a, b, sizeof a);
        // A starts within 1/sqrt(in), on both sides of zero, B at zero.
        for (uint32_t t = 0; t < adapted.layout->tensor_count; t++) {
            const struct rmj_tensor *tensor = &adapted.layout->tensors[t];
            double sum = 0, bound = 1 / sqrt((double)tensor->shape[1]), most = 0;
            for (uint64_t i = 0; tensor->is_adapter && i < tensor->element_count; i++) {
                double value = (double)adapted.weights[tensor->offset + i];
                sum += value;
                most = fmax(most, fabs(value));
            }
            if (strstr(tensor->name, "lora_A") != NULL) {
                assert_true(most <= bound && most > 0.9 * bound &&
                            fabs(sum) < bound * (double)tensor->element_count / 4);
            } else if (tensor->is_adapter) {
                assert_true(most == 0);
            }
        }
        pack_free(&pack);
        rig_close(&plain);
        rig_close(&adapted);
    }
}

static void merged_weights_give_the_same_scores(void **state)
{
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        struct rmj_model_config config = shape_of(fused);
        struct rmj_lora lora = lora_of(&config, 5);
        struct rig plain, adapted;
        struct owned_pack pack;
        struct token_pair pairs[PAIRS];
        float a[2 * PAIRS], b[2 * PAIRS], before[2 * PAIRS];
        rig_open(&plain, &config, &(struct rmj_lora){0});
        rig_open(&adapted, &config, &lora);
        make_pack(&pack, pairs);
        run(&adapted, &pack, before);
        move_adapters(&adapted);
        merge_into(&plain, &adapted);
        run(&plain, &pack, a);
        run(&adapted, &pack, b);
        assert_true(relative_distance(before, b, 2 * PAIRS) > 1e-2);
        assert_true(relative_distance(a, b, 2 * PAIRS) < 1e-5);
        pack_free(&pack);
        rig_close(&plain);
        rig_close(&adapted);
    }
}

// dB = s dW A^T and dA = s B^T dW in double, from the gradient dW that a model without adapters has at the merged
// weights.
static void expect_gradients(const struct rig *plain, uint32_t plain_tensor, const struct rig *adapted, uint32_t tensor)
{
    const struct rmj_tensor *t = &adapted->layout->tensors[tensor];
    const struct rmj_tensor *a = &adapted->layout->tensors[t->adapter], *b = a + 1;
    const float *dw = plain->gradient + plain->layout->tensors[plain_tensor].offset;
    double scale = adapted->layout->lora.alpha / adapted->layout->lora.rank;
    uint32_t rows = t->shape[0], columns = t->shape[1], rank = a->shape[0];
    float *da = calloc(a->element_count, sizeof *da), *db = calloc(b->element_count, sizeof *db);
    for (uint32_t k = 0; k < rank; k++) {
        for (uint32_t c = 0; c < columns; c++) {
            double sum = 0;
            for (uint32_t r = 0; r < rows; r++) {
                sum += (double)adapted->weights[b->offset + r * rank + k] * (double)dw[r * columns + c];
            }
            da[k * columns + c] = (float)(scale * sum);
        }
        for (uint32_t r = 0; r < rows; r++) {
            double sum = 0;
            for (uint32_t c = 0; c < columns; c++) {
                sum += (double)dw[r * columns + c] * (double)adapted->weights[a->offset + k * columns + c];
            }
            db[r * rank + k] = (float)(scale * sum);
        }
    }
    double of_a = relative_distance(adapted->gradient + a->offset, da, a->element_count);
    double of_b = relative_distance(adapted->gradient + b->offset, db, b->element_count);
    if (of_a > 1e-5 || of_b > 1e-5) {
        fail_msg("%s: gradients of A and B are off by %g and %g", t->name, of_a, of_b);
    }
    free(da);
    free(db);
}

static void gradients_of_a_and_b_follow_from_that_of_the_whole_matrix(void **state)
{
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        struct rmj_model_config config = shape_of(fused);
        struct rmj_lora lora = lora_of(&config, 5);
        struct rig plain, adapted;
        struct owned_pack pack;
        struct token_pair pairs[PAIRS];
        float scores[2 * PAIRS];
        rig_open(&plain, &config, &(struct rmj_lora){0});
        rig_open(&adapted, &config, &lora);
        make_pack(&pack, pairs);
        move_adapters(&adapted);
        merge_into(&plain, &adapted);
        run(&plain, &pack, scores);
        run(&adapted, &pack, scores);
        uint32_t at = 0;
        for (uint32_t t = 0; t < adapted.layout->tensor_count; t++) {
            const struct rmj_tensor *tensor = &adapted.layout->tensors[t];
            assert_int_equal(adapted.taken[t], !tensor->frozen); // what is trained once, what is frozen never
            if (tensor->adapter != RMJ_NO_ADAPTER) {
                expect_gradients(&plain, at, &adapted, t);
            }
            at += !tensor->is_adapter;
        }
        const struct rmj_tensor *head = &adapted.layout->tensors[adapted.layout->head];
        const struct rmj_tensor *plain_head = &plain.layout->tensors[plain.layout->head];
        assert_true(relative_distance(adapted.gradient + head->offset, plain.gradient + plain_head->offset, 24) < 1e-5);
        pack_free(&pack);
        rig_close(&plain);
        rig_close(&adapted);
    }
}

static void gradients_of_a_and_b_are_the_slope_of_the_loss(void **state)
{
    (void)state;
    struct rmj_model_config config = shape_of(0);
    struct rmj_lora lora = lora_of(&config, 5);
    struct rig rig;
    struct owned_pack pack;
    struct token_pair pairs[PAIRS];
    float scores[2 * PAIRS];
    rig_open(&rig, &config, &lora);
    make_pack(&pack, pairs);
    move_adapters(&rig);
    run(&rig, &pack, scores);
    float *gradient = malloc(rig.layout->element_count * sizeof *gradient);
    memcpy(gradient, rig.gradient, rig.layout->element_count * sizeof *gradient);
    for (uint32_t t = 0; t < rig.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig.layout->tensors[t];
        if (tensor->frozen) {
            continue;
        }
        // Along the gradient's signs the slope stands out of float32's noise.
        float *w = rig.weights + tensor->offset, *before = malloc(tensor->element_count * sizeof *before);
        double slope = 0, step = 4e-3 / sqrt((double)tensor->element_count), loss[2];
        memcpy(before, w, tensor->element_count * sizeof *before);
        for (int side = 0; side < 2; side++) {
            slope = 0;
            for (uint64_t i = 0; i < tensor->element_count; i++) {
                double g = (double)gradient[tensor->offset + i];
                w[i] = (float)((double)before[i] + (side == 0 ? step : -step) * (g > 0 ? 1 : -1));
                slope += fabs(g);
            }
            loss[side] = run(&rig, &pack, scores);
        }
        memcpy(w, before, tensor->element_count * sizeof *before);
        double measured = (loss[0] - loss[1]) / (2 * step);
        if (fabs(measured - slope) > 5e-3 * slope + 1e-3 * sqrt((double)tensor->element_count)) {
            fail_msg("%s: slope %g, measured %g", tensor->name, slope, measured);
        }
        free(before);
    }
    free(gradient);
    pack_free(&pack);
    rig_close(&rig);
}

// Steps with the real sums and AdamW, packs on one rank or three: the same bits, frozen weights untouched, learning.
static void steps_on_any_ranks_give_the_same_bits_and_touch_nothing_frozen(void **state)
{
    (void)state;
    char *directory = fixture_path("models/stories260K");
    struct bench benches[2];
    float *start = NULL;
    double first = 0, last = 0;
    for (int b = 0; b < 2; b++) {
        struct bench_options options = {.directory = directory,
                                        .head_init = RMJ_HEAD_NORMAL,
                                        .row_count = ROWS,
                                        .thread_count = b == 0 ? 1 : 2,
                                        .packs_per_step_bound = 4,
                                        .lora = {.rank = 4, .alpha = 8, .targets = (1u << 9) - 1}};
        bench_open(&benches[b], &options);
        struct bench *bench = &benches[b];
        if (b == 0) {
            start = malloc(bench->layout->weight_count * sizeof *start);
            memcpy(start, bench->w, bench->layout->weight_count * sizeof *start);
        }
        struct owned_pack packs[3];
        struct token_pair pairs[PAIRS], order[PAIRS];
        make_pack(&packs[0], pairs);
        pack_free(&packs[0]);
        const uint32_t ranks[] = {2, 0, 1};
        for (size_t i = 0; i < 3; i++) {
            order[i] = pairs[i];
            pack_build(&packs[i], &pairs[i], 1, ROWS, 1, 1);
        }
        struct rmj_adamw adamw = {.learning_rate = 5e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
        for (adamw.step = 1; adamw.step <= 12; adamw.step++) {
            last = bench_step(bench, packs, 3, order, PAIRS, &adamw, 1, b == 0 ? NULL : ranks, b == 0 ? 1 : 3).loss;
            first = adamw.step == 1 ? last : first;
        }
        assert_true(last < first / 2);
        for (size_t i = 0; i < 3; i++) {
            pack_free(&packs[i]);
        }
    }
    const struct rmj_layout *layout = benches[0].layout;
    assert_memory_equal(benches[0].w, benches[1].w, layout->weight_count * sizeof(float));
    assert_memory_equal(benches[0].w + layout->element_count, start + layout->element_count,
                        (layout->weight_count - layout->element_count) * sizeof(float));
    assert_memory_not_equal(benches[0].w, start, layout->element_count * sizeof(float));
    assert_true(layout->element_count * 4 < layout->weight_count);
    bench_close(&benches[0]);
    bench_close(&benches[1]);
    free(start);
    free(directory);
}

// The base's config.json with the smallest tokenizer that an export takes.
static void make_companions(const char *base, const char *directory)
{
    static const char tokenizer[] = "{\"added_tokens\":[{\"id\":0,\"content\":\"<pad>\"}],\"model\":{\"vocab\":{}}}";
    struct rmj_buf text;
    char *from = rmj_fs_join(base, "config.json"), *to = rmj_fs_join(directory, "config.json");
    char *path = rmj_fs_join(directory, "tokenizer.json");
    rmj_buf_init(&text, 1 << 20);
    assert_int_equal(rmj_fs_make_directories(directory, 0755, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_write(path, tokenizer, strlen(tokenizer), 0644, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_read(from, &text, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_write(to, rmj_buf_text(&text), text.size, 0644, NULL), RMJ_OK);
    rmj_buf_deinit(&text);
    free(from);
    free(to);
    free(path);
}

static char *base, root[64], merged[96], adapter[96];

// Both forms of one trained model below `root`.
static void export_both(void)
{
    char companions[96];
    base = fixture_path("models/stories260K");
    snprintf(root, sizeof root, "/tmp/rmjob-lora-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(adapter, sizeof adapter, "%s/adapter", root);
    snprintf(merged, sizeof merged, "%s/merged", root);
    snprintf(companions, sizeof companions, "%s/base", root);
    make_companions(base, companions);
    struct bench bench;
    struct bench_options options = {.directory = base,
                                    .head_init = RMJ_HEAD_NORMAL,
                                    .row_count = ROWS,
                                    .thread_count = 1,
                                    .packs_per_step_bound = 1,
                                    .lora = {.rank = 3, .alpha = 4.5, .targets = 1u | 1u << 4 | 1u << 8}};
    bench_open(&bench, &options);
    for (uint32_t t = 0; t < bench.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &bench.layout->tensors[t];
        for (uint64_t i = 0; tensor->is_adapter && i < tensor->element_count; i++) {
            bench.w[tensor->offset + i] += (float)(i % 17) * 1e-3f;
        }
    }
    struct rmj_export_options export = {.base_directory = companions,
                                        .directory = merged,
                                        .config = &bench.config,
                                        .layout = bench.layout,
                                        .weights = bench.w,
                                        .pad_token = 0};
    assert_int_equal(rmj_model_export(&export, NULL), RMJ_OK);
    export.directory = adapter;
    export.adapter_base = base;
    assert_int_equal(rmj_model_export(&export, NULL), RMJ_OK);
    bench_close(&bench);
}

static enum rmj_status read_weights(const char *directory, float **weights, struct rmj_error *err)
{
    struct rmj_model_config config;
    struct rmj_layout *layout;
    *weights = NULL;
    RMJ_TRY(rmj_model_config_read(&config, directory, err));
    RMJ_TRY(rmj_layout_create(&layout, &config, config.vocabulary_size, err));
    *weights = malloc(layout->weight_count * sizeof **weights);
    struct rmj_weights_options load = {
        .directory = directory, .config = &config, .layout = layout, .head_init = RMJ_HEAD_BASE};
    enum rmj_status status = rmj_weights_load(&load, *weights, err);
    rmj_layout_destroy(layout);
    return status;
}

static void an_adapter_directory_is_read_as_the_merged_model(void **state)
{
    (void)state;
    struct rmj_model_config config;
    struct rmj_error err = {0};
    float *of_merged, *of_adapter, *of_base;
    export_both();
    assert_true(rmj_adapter_is(adapter) && !rmj_adapter_is(merged));
    assert_int_equal(read_weights(merged, &of_merged, &err), RMJ_OK);
    assert_int_equal(read_weights(adapter, &of_adapter, &err), RMJ_OK);
    assert_int_equal(rmj_model_config_read(&config, base, &err), RMJ_OK);
    size_t size = rmj_model_parameter_count(&config) * sizeof(float);
    assert_memory_equal(of_merged, of_adapter, size);
    assert_int_equal(read_weights(base, &of_base, &err), RMJ_DATA); // which has no head
    assert_memory_not_equal(of_merged, of_base, size);
    assert_int_equal(rmj_model_files_check(adapter, &config, &err), RMJ_DATA); // none to begin a job with
    assert_non_null(strstr(err.message, "PEFT adapter"));
    free(of_merged);
    free(of_adapter);
    free(of_base);
    free(base);
    assert_int_equal(rmj_fs_remove_tree(root, &err), RMJ_OK);
}

static void what_an_adapter_asks_for_and_is_not_computed_is_refused_by_its_key(void **state)
{
    (void)state;
    static const char *const wrong[][3] = {
        {"\"use_rslora\": false", "\"use_rslora\": true", "use_rslora"},
        {"\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"", "init_lora_weights"},
        {"\"bias\": \"none\"", "\"bias\": \"all\"", "bias"},
        {"\"peft_type\": \"LORA\"", "\"peft_type\": \"LOHA\"", "LOHA"},
        {"\"r\": 3", "\"r\": 4", "another shape"},
        {"\"r\": 3", "\"r\": 0", "rank is 0"},
        {"\"o_proj\"", "\"v_proj\"", "missing"},
        {"\"score\"", "\"embed_tokens\"", "modules_to_save"},
        {"/stories260K", "/storiesNone", "base_model_name_or_path"}};
    export_both();
    char *path = rmj_fs_join(adapter, "adapter_config.json");
    struct rmj_buf good;
    rmj_buf_init(&good, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &good, NULL), RMJ_OK);
    for (size_t i = 0; i < RMJ_COUNT(wrong); i++) {
        const char *text = rmj_buf_text(&good), *at = strstr(text, wrong[i][0]);
        struct rmj_error err = {0};
        struct rmj_buf bad;
        float *weights;
        assert_non_null(at);
        rmj_buf_init(&bad, 1 << 20);
        rmj_buf_append(&bad, text, (size_t)(at - text));
        rmj_buf_puts(&bad, wrong[i][1]);
        rmj_buf_puts(&bad, at + strlen(wrong[i][0]));
        assert_int_equal(rmj_fs_write(path, rmj_buf_text(&bad), bad.size, 0644, NULL), RMJ_OK);
        assert_int_equal(read_weights(adapter, &weights, &err), RMJ_DATA);
        if (strstr(err.message, wrong[i][2]) == NULL) {
            fail_msg("%s: %s", wrong[i][2], err.message);
        }
        free(weights);
        rmj_buf_deinit(&bad);
    }
    rmj_buf_deinit(&good);
    free(path);
    free(base);
    assert_int_equal(rmj_fs_remove_tree(root, NULL), RMJ_OK);
}

// Finite in the file, infinite once merged; found by tests/fuzz/fuzz_weights.c.
static void a_merge_beyond_float32_is_refused(void **state)
{
    (void)state;
    const float a[2] = {1, 1e30f}, b[1] = {1e20f};
    float weight[2] = {1, 1};
    struct rmj_error err = {0};
    struct rmj_lora_matrix matrix = {
        .row_count = 1, .column_count = 2, .rank = 1, .scale = 1e-3, .weight = weight, .a = a, .b = b};
    assert_int_equal(rmj_lora_merge(&matrix, weight, &err), RMJ_DATA);
    assert_string_equal(err.message, "element [0, 1] is not finite with its adapter merged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_pages_what_is_trained_and_puts_the_rest_behind),
        cmocka_unit_test(an_unknown_module_is_refused_with_those_there_are),
        cmocka_unit_test(new_adapters_change_no_bit_of_a_score),
        cmocka_unit_test(merged_weights_give_the_same_scores),
        cmocka_unit_test(gradients_of_a_and_b_follow_from_that_of_the_whole_matrix),
        cmocka_unit_test(gradients_of_a_and_b_are_the_slope_of_the_loss),
        cmocka_unit_test(steps_on_any_ranks_give_the_same_bits_and_touch_nothing_frozen),
        cmocka_unit_test(a_merge_beyond_float32_is_refused),
        cmocka_unit_test(an_adapter_directory_is_read_as_the_merged_model),
        cmocka_unit_test(what_an_adapter_asks_for_and_is_not_computed_is_refused_by_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
