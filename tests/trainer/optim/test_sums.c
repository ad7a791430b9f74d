// The integer sums and AdamW: order and ranks change no bit, overflow is found and mended, nothing wraps.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "trainer/optim/optim.h"

#define PACKS 7
#define RANKS_MAX 5
#define ROWS 23

struct rig {
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    struct rmj_sums *sums;
    uint32_t rows[ROWS];
    float *gradients[PACKS]; // flat; the embedding's part is [ROWS, C] at its offset
    int16_t *exponents;
    uint32_t exponent_count;
};

static const struct rmj_model_config tiny = {.architecture = "LlamaForCausalLM",
                                             .family = "llama",
                                             .layer_count = 2,
                                             .hidden_width = 40,
                                             .head_count = 4,
                                             .kv_head_count = 2,
                                             .head_width = 10,
                                             .feed_forward_width = 70,
                                             .vocabulary_size = 900,
                                             .qkv_bias = 1,
                                             .output_bias = 1,
                                             .mlp_bias = 1};

static void rig_open(struct rig *rig, uint32_t bound, size_t threads)
{
    *rig = (struct rig){.config = tiny};
    assert_int_equal(rmj_layout_create(&rig->layout, &tiny, tiny.vocabulary_size, NULL), RMJ_OK);
    assert_int_equal(rmj_pool_create(&rig->pool, threads, NULL, NULL), RMJ_OK);
    struct rmj_sums_options options = {
        .layout = rig->layout, .pool = rig->pool, .packs_per_step_bound = bound, .embedding_row_count_max = ROWS};
    assert_int_equal(rmj_sums_create(&rig->sums, &options, NULL), RMJ_OK);
    rig->exponent_count = rmj_sums_exponent_count(rig->sums);
    rig->exponents = calloc(rig->exponent_count, sizeof *rig->exponents);
    for (uint32_t i = 0; i < rig->exponent_count; i++) {
        rig->exponents[i] = RMJ_EXPONENT_ZERO;
    }
    struct rmj_rng rng;
    rmj_rng_init(&rng, 11, 1);
    for (uint32_t i = 0; i < ROWS; i++) {
        rig->rows[i] = i * 39 + (uint32_t)rmj_rng_below(&rng, 39);
    }
    for (size_t p = 0; p < PACKS; p++) {
        rig->gradients[p] = calloc(rig->layout->element_count, sizeof(float));
        for (uint64_t i = 0; i < rig->layout->element_count; i++) {
            // Magnitudes over many octaves, as gradients have.
            double size = pow(2, -20 * rmj_rng_uniform(&rng));
            rig->gradients[p][i] = (float)(size * rmj_rng_normal(&rng));
        }
    }
}

static void rig_close(struct rig *rig)
{
    for (size_t p = 0; p < PACKS; p++) {
        free(rig->gradients[p]);
    }
    free(rig->exponents);
    rmj_sums_destroy(rig->sums);
    rmj_pool_destroy(rig->pool);
    rmj_layout_destroy(rig->layout);
}

static void send_pack(struct rig *rig, size_t pack)
{
    struct rmj_gradient_sink sink = rmj_sums_sink(rig->sums);
    for (uint32_t t = 0; t < rig->layout->tensor_count; t++) {
        const float *gradient = rig->gradients[pack] + rig->layout->tensors[t].offset;
        int embedding = t == rig->layout->embedding;
        sink.take(sink.context, t, gradient, embedding ? rig->rows : NULL, embedding ? ROWS : 0);
    }
}

// A pass over all packs on `rank_count` simulated ranks; pack p on rank_of[p], in the order given. The sums end up
// whole in rig->sums. Returns whether it overflowed; observed gets the maximum over ranks.
static int run_pass(struct rig *rig, const int16_t *exponents, int headroom, const size_t *order, const size_t *rank_of,
                    size_t rank_count, int16_t *observed)
{
    char **sent = calloc(rank_count * rig->layout->page_count, sizeof *sent);
    int16_t *used = malloc(rig->exponent_count * sizeof *used); // observed may be the same array
    memcpy(used, exponents, rig->exponent_count * sizeof *used);
    for (uint32_t i = 0; i < rig->exponent_count; i++) {
        observed[i] = RMJ_EXPONENT_ZERO;
    }
    for (size_t rank = 0; rank < rank_count; rank++) {
        rmj_sums_begin(rig->sums, used, headroom, rig->rows, ROWS);
        for (size_t i = 0; i < PACKS; i++) {
            if (rank_of[order[i]] == rank) {
                send_pack(rig, order[i]);
            }
        }
        for (uint32_t i = 0; i < rig->exponent_count; i++) {
            int16_t seen = rmj_sums_observed(rig->sums)[i];
            observed[i] = seen > observed[i] ? seen : observed[i];
        }
        for (uint32_t p = 0; p < rig->layout->page_count && rank + 1 < rank_count; p++) {
            sent[rank * rig->layout->page_count + p] = malloc(rmj_sums_page_bytes(rig->sums, p) + 1);
            rmj_sums_page_export(rig->sums, p, sent[rank * rig->layout->page_count + p]);
        }
    }
    for (size_t i = 0; i < (rank_count - 1) * rig->layout->page_count; i++) {
        rmj_sums_page_add(rig->sums, (uint32_t)(i % rig->layout->page_count), sent[i]);
        free(sent[i]);
    }
    free(sent);
    free(used);
    return rmj_sums_overflowed(rig->sums, observed);
}

static const size_t natural[PACKS] = {0, 1, 2, 3, 4, 5, 6};
static const size_t alone[PACKS] = {0};

// All pages' sums in one string of bytes; free() it.
static char *snapshot(const struct rig *rig, size_t *size)
{
    *size = 0;
    for (uint32_t p = 0; p < rig->layout->page_count; p++) {
        *size += rmj_sums_page_bytes(rig->sums, p);
    }
    char *bytes = malloc(*size), *at = bytes;
    for (uint32_t p = 0; p < rig->layout->page_count; p++) {
        rmj_sums_page_export(rig->sums, p, at);
        at += rmj_sums_page_bytes(rig->sums, p);
    }
    return bytes;
}

static void no_distribution_of_packs_over_ranks_changes_a_bit(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    int16_t *exact = calloc(rig.exponent_count, sizeof *exact), *observed = calloc(rig.exponent_count, sizeof *exact);
    assert_true(run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact)); // all sentinels: nothing fits
    assert_false(run_pass(&rig, exact, 0, natural, alone, 1, observed));
    assert_memory_equal(exact, observed, rig.exponent_count * sizeof *exact);
    size_t size, other_size;
    char *reference = snapshot(&rig, &size);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 5, 2);
    for (int trial = 0; trial < 40; trial++) {
        size_t rank_count = 1 + (size_t)trial % RANKS_MAX, rank_of[PACKS], order[PACKS];
        uint32_t shuffled[PACKS];
        for (size_t p = 0; p < PACKS; p++) {
            rank_of[p] = rmj_rng_below(&rng, rank_count);
            shuffled[p] = (uint32_t)p;
        }
        rmj_rng_shuffle(&rng, shuffled, PACKS);
        for (size_t p = 0; p < PACKS; p++) {
            order[p] = shuffled[p];
        }
        assert_false(run_pass(&rig, exact, 0, order, rank_of, rank_count, observed));
        assert_memory_equal(exact, observed, rig.exponent_count * sizeof *exact);
        char *bytes = snapshot(&rig, &other_size);
        assert_int_equal(size, other_size);
        assert_memory_equal(reference, bytes, size);
        free(bytes);
    }
    free(reference);
    free(exact);
    free(observed);
    rig_close(&rig);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    char *reference = NULL;
    size_t size = 0;
    for (size_t threads = 1; threads <= 3; threads++) {
        struct rig rig;
        rig_open(&rig, 8, threads);
        int16_t *exact = calloc(rig.exponent_count, sizeof *exact);
        run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact);
        assert_false(run_pass(&rig, exact, 0, natural, alone, 1, exact));
        char *bytes = snapshot(&rig, &size);
        if (reference != NULL) {
            assert_memory_equal(reference, bytes, size);
            free(bytes);
        } else {
            reference = bytes;
        }
        free(exact);
        rig_close(&rig);
    }
    free(reference);
}

// With AdamW made to show the gradient (beta1 0, m = g), each element of the sums against a sum in double.
static void sums_are_near_the_true_sums(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    int16_t *exact = calloc(rig.exponent_count, sizeof *exact);
    run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact);
    assert_false(run_pass(&rig, exact, 0, natural, alone, 1, exact));
    uint64_t n = rig.layout->element_count;
    float *w = calloc(n, sizeof *w), *m = calloc(n, sizeof *m), *v = calloc(n, sizeof *v);
    struct rmj_adamw show = {
        .learning_rate = 0, .beta1 = 0, .beta2 = 0.5, .epsilon = 1, .gradient_scale = 0.25, .step = 1};
    double square = 0;
    for (uint32_t p = 0; p < rig.layout->page_count; p++) {
        uint64_t at = rig.layout->pages[p].offset;
        rmj_adamw_page(rig.sums, p, &show, w + at, m + at, v + at);
        square += rmj_sums_page_square(rig.sums, p);
    }
    double true_square = 0;
    for (uint32_t t = 0; t < rig.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig.layout->tensors[t];
        int embedding = t == rig.layout->embedding;
        uint64_t count = embedding ? (uint64_t)ROWS * tensor->shape[1] : tensor->element_count;
        double error = 0, norm = 0;
        for (uint64_t i = 0; i < count; i++) {
            double sum = 0;
            for (size_t p = 0; p < PACKS; p++) {
                sum += (double)rig.gradients[p][tensor->offset + i];
            }
            uint64_t at =
                embedding ? (uint64_t)rig.rows[i / tensor->shape[1]] * tensor->shape[1] + i % tensor->shape[1] : i;
            double got = (double)m[tensor->offset + at] * 4;
            error += (got - sum) * (got - sum);
            norm += sum * sum;
        }
        true_square += norm;
        assert_true(sqrt(error / norm) < 1e-6);
    }
    assert_true(fabs(square / true_square - 1) < 1e-6);
    free(w);
    free(m);
    free(v);
    free(exact);
    rig_close(&rig);
}

static void growth_within_the_headroom_needs_no_second_pass_and_growth_over_it_does(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    int16_t *exact = calloc(rig.exponent_count, sizeof *exact), *observed = calloc(rig.exponent_count, sizeof *exact);
    run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact);
    for (int growth = 6; growth <= 7; growth++) {
        struct rig grown;
        rig_open(&grown, 8, 1);
        for (size_t p = 0; p < PACKS; p++) {
            for (uint64_t i = 0; i < grown.layout->element_count; i++) {
                grown.gradients[p][i] = ldexpf(grown.gradients[p][i], growth);
            }
        }
        assert_int_equal(run_pass(&grown, exact, 6, natural, alone, 1, observed), growth > 6);
        assert_int_equal(observed[0], exact[0] + growth);
        rig_close(&grown);
    }
    free(exact);
    free(observed);
    rig_close(&rig);
}

static void the_largest_values_of_all_packs_do_not_wrap(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 11; bits++) {
        struct rig rig;
        rig_open(&rig, 1u << bits, 1);
        int16_t *exponents = calloc(rig.exponent_count, sizeof *exponents);
        uint64_t n = rig.layout->element_count;
        for (uint64_t i = 0; i < n; i++) {
            rig.gradients[0][i] = i % 2 == 0 ? nextafterf(1, 0) : -nextafterf(1, 0); // exponent 0, as large as it gets
        }
        rmj_sums_begin(rig.sums, exponents, 0, rig.rows, ROWS);
        for (uint32_t p = 0; p < 1u << bits; p++) {
            send_pack(&rig, 0);
        }
        assert_false(rmj_sums_overflowed(rig.sums, rmj_sums_observed(rig.sums)));
        float *w = calloc(n, sizeof *w), *m = calloc(n, sizeof *m), *v = calloc(n, sizeof *v);
        struct rmj_adamw show = {
            .learning_rate = 0, .beta1 = 0, .beta2 = 0.5, .epsilon = 1, .gradient_scale = 1, .step = 1};
        const struct rmj_tensor *last = &rig.layout->tensors[rig.layout->tensor_count - 2];
        for (uint32_t p = 0; p < rig.layout->page_count; p++) {
            uint64_t at = rig.layout->pages[p].offset;
            rmj_adamw_page(rig.sums, p, &show, w + at, m + at, v + at);
        }
        for (uint64_t i = 0; i < last->element_count; i++) {
            double sum = (double)(1u << bits) * (i % 2 == 0 ? 1 : -1);
            assert_true(fabs((double)m[last->offset + i] / sum - 1) < 1e-6);
        }
        const struct rmj_tensor *body = &rig.layout->tensors[2];
        assert_int_equal(body->sum_kind, RMJ_SUM_BODY);
        for (uint64_t i = 0; i < body->element_count; i++) {
            double sum = (double)(1u << bits) * (i % 2 == 0 ? 1 : -1);
            assert_true(fabs((double)m[body->offset + i] / sum - 1) < 2e-6);
        }
        free(w);
        free(m);
        free(v);
        free(exponents);
        rig_close(&rig);
    }
}

static void not_a_number_and_infinity_are_flagged_wherever_they_are(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (uint32_t t = 0; t < rig.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &rig.layout->tensors[t];
        uint64_t count = t == rig.layout->embedding ? (uint64_t)ROWS * tensor->shape[1] : tensor->element_count;
        float *at = &rig.gradients[0][tensor->offset + count - 1 - t % 9], before = *at;
        rmj_sums_begin(rig.sums, rig.exponents, 6, rig.rows, ROWS);
        send_pack(&rig, 0);
        assert_false(rmj_sums_not_finite(rig.sums));
        *at = bad[t % 4];
        send_pack(&rig, 0);
        assert_true(rmj_sums_not_finite(rig.sums));
        *at = before;
    }
    rig_close(&rig);
}

static void an_all_zero_block_keeps_its_sentinel_and_its_first_value_is_an_overflow(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    int16_t *exact = calloc(rig.exponent_count, sizeof *exact), *observed = calloc(rig.exponent_count, sizeof *exact);
    const struct rmj_tensor *body = &rig.layout->tensors[1 + 1];
    for (size_t p = 0; p < PACKS; p++) {
        memset(rig.gradients[p] + body->offset, 0, body->element_count * sizeof(float));
    }
    run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact);
    assert_int_equal(exact[0], RMJ_EXPONENT_ZERO);
    assert_false(run_pass(&rig, exact, 0, natural, alone, 1, observed));
    rmj_exponents_advance(rig.exponents, observed, rig.exponent_count);
    assert_int_equal(rig.exponents[0], RMJ_EXPONENT_ZERO);
    assert_false(run_pass(&rig, rig.exponents, 6, natural, alone, 1, observed));
    rig.gradients[3][body->offset + 5] = 1e-30f;
    assert_true(run_pass(&rig, rig.exponents, 6, natural, alone, 1, observed));
    free(exact);
    free(observed);
    rig_close(&rig);
}

static void exponents_follow_growth_at_once_and_fall_by_one(void **state)
{
    (void)state;
    int16_t exponents[] = {5, 5, 5, RMJ_EXPONENT_ZERO, 5, -90};
    const int16_t observed[] = {9, 5, 1, -3, RMJ_EXPONENT_ZERO, RMJ_EXPONENT_ZERO};
    rmj_exponents_advance(exponents, observed, 6);
    const int16_t want[] = {9, 5, 4, -3, 4, -90};
    assert_memory_equal(exponents, want, sizeof want);
}

static double reference_adamw(const struct rmj_adamw *a, double g, double *w, double *m, double *v)
{
    *m = a->beta1 * *m + (1 - a->beta1) * g;
    *v = a->beta2 * *v + (1 - a->beta2) * g * g;
    double m_hat = *m / (1 - pow(a->beta1, a->step)), v_hat = *v / (1 - pow(a->beta2, a->step));
    *w = *w * (1 - a->learning_rate * a->weight_decay) - a->learning_rate * m_hat / (sqrt(v_hat) + a->epsilon);
    return *w;
}

static void adamw_follows_its_equations_and_moves_rows_that_do_not_occur(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 8, 1);
    int16_t *exact = calloc(rig.exponent_count, sizeof *exact);
    run_pass(&rig, rig.exponents, 6, natural, alone, 1, exact);
    assert_false(run_pass(&rig, exact, 0, natural, alone, 1, exact));
    const struct rmj_layout *layout = rig.layout;
    uint64_t n = layout->element_count;
    float *w = calloc(n, sizeof *w), *m = calloc(n, sizeof *m), *v = calloc(n, sizeof *v);
    double *g = calloc(n, sizeof *g);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 4, 4);
    for (uint32_t t = 0; t < layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &layout->tensors[t];
        int embedding = t == layout->embedding;
        for (uint64_t i = 0; i < tensor->element_count; i++) {
            w[tensor->offset + i] = (float)rmj_rng_normal(&rng);
            m[tensor->offset + i] = (float)rmj_rng_normal(&rng);
            v[tensor->offset + i] = (float)rmj_rng_uniform(&rng);
        }
        for (uint64_t i = 0; i < (embedding ? (uint64_t)ROWS * tensor->shape[1] : tensor->element_count); i++) {
            uint64_t at =
                embedding ? (uint64_t)rig.rows[i / tensor->shape[1]] * tensor->shape[1] + i % tensor->shape[1] : i;
            for (size_t p = 0; p < PACKS; p++) {
                g[tensor->offset + at] += (double)rig.gradients[p][tensor->offset + i] / 3;
            }
        }
    }
    float *w0 = malloc(n * sizeof *w), *m0 = malloc(n * sizeof *m), *v0 = malloc(n * sizeof *v);
    memcpy(w0, w, n * sizeof *w);
    memcpy(m0, m, n * sizeof *m);
    memcpy(v0, v, n * sizeof *v);
    struct rmj_adamw adamw = {.learning_rate = 1e-2,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .epsilon = 1e-8,
                              .weight_decay = 0.1,
                              .gradient_scale = 1.0 / 3,
                              .step = 17};
    for (uint32_t p = 0; p < layout->page_count; p++) {
        uint64_t at = layout->pages[p].offset;
        rmj_adamw_page(rig.sums, p, &adamw, w + at, m + at, v + at);
    }
    char *used = calloc(n, 1);
    double moved = 0, parameters = 0;
    for (uint32_t t = 0; t < layout->tensor_count; t++) {
        memset(used + layout->tensors[t].offset, 1, layout->tensors[t].element_count);
    }
    for (uint64_t i = 0; i < n; i++) {
        double rw = (double)w0[i], rm = (double)m0[i], rv = (double)v0[i];
        if (!used[i]) {
            assert_true(w[i] == 0 && m[i] == 0 && v[i] == 0); // padding
            continue;
        }
        reference_adamw(&adamw, g[i], &rw, &rm, &rv);
        assert_true(fabs((double)w[i] - rw) < 2e-6 * fmax(1, fabs(rw)));
        assert_true(fabs((double)m[i] - rm) < 2e-6 * fmax(1, fabs(rm)));
        moved += w[i] != w0[i];
        parameters++;
    }
    assert_true(moved > parameters * 0.999);
    free(used);
    free(w0);
    free(m0);
    free(v0);
    free(w);
    free(m);
    free(v);
    free(g);
    free(exact);
    rig_close(&rig);
}

static void learning_rates_warm_up_and_fall_as_their_names_say(void **state)
{
    (void)state;
    assert_true(rmj_learning_rate(RMJ_SCHEDULE_CONSTANT, 2, 0, 0, 1, 10) == 2);
    assert_true(fabs(rmj_learning_rate(RMJ_SCHEDULE_CONSTANT, 2, 0.2, 0, 1, 10) - 2.0 / 3) < 1e-12);
    assert_true(fabs(rmj_learning_rate(RMJ_SCHEDULE_CONSTANT, 2, 0.2, 0, 2, 10) - 4.0 / 3) < 1e-12);
    assert_true(rmj_learning_rate(RMJ_SCHEDULE_LINEAR, 2, 0.2, 0.1, 3, 10) == 2);
    assert_true(fabs(rmj_learning_rate(RMJ_SCHEDULE_LINEAR, 1, 0, 0.5, 6, 10) - 0.75) < 1e-12);
    for (uint32_t step = 1; step <= 50; step++) {
        double want = 0.1 + 0.9 * 0.5 * (1 + cos(acos(-1) * (step - 1) / 50.0));
        assert_true(fabs(rmj_learning_rate(RMJ_SCHEDULE_COSINE, 1, 0, 0.1, step, 50) - want) < 1e-12);
    }
    assert_true(isfinite(rmj_learning_rate(RMJ_SCHEDULE_COSINE, 1, 1, 0, 4, 4)));
}

static void pages_cover_the_space_once_and_never_cross_a_group(void **state)
{
    (void)state;
    struct rmj_model_config config = tiny;
    config.hidden_width = 288;
    config.feed_forward_width = 768;
    config.vocabulary_size = 32001;
    struct rmj_layout *layout;
    assert_int_equal(rmj_layout_create(&layout, &config, 32002, NULL), RMJ_OK);
    uint64_t at = 0;
    for (uint32_t p = 0; p < layout->page_count; p++) {
        const struct rmj_page *page = &layout->pages[p];
        assert_int_equal(page->offset, at);
        at += page->element_count;
        int embedding = page->offset < layout->tensors[layout->embedding].element_count;
        assert_int_equal(page->offset % (embedding ? 288 : RMJ_BLOCK_ELEMENTS), 0);
        for (uint32_t t = 0; t < layout->tensor_count; t++) {
            const char *name = layout->tensors[t].name;
            int starts_group = strstr(name, "input_layernorm") != NULL || strcmp(name, "model.norm.weight") == 0;
            if (starts_group) {
                assert_true(layout->tensors[t].offset <= page->offset || layout->tensors[t].offset >= at);
            }
        }
    }
    assert_int_equal(at, layout->element_count);
    assert_true(layout->page_count > 16);
    rmj_layout_destroy(layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_distribution_of_packs_over_ranks_changes_a_bit),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(sums_are_near_the_true_sums),
        cmocka_unit_test(growth_within_the_headroom_needs_no_second_pass_and_growth_over_it_does),
        cmocka_unit_test(the_largest_values_of_all_packs_do_not_wrap),
        cmocka_unit_test(not_a_number_and_infinity_are_flagged_wherever_they_are),
        cmocka_unit_test(an_all_zero_block_keeps_its_sentinel_and_its_first_value_is_an_overflow),
        cmocka_unit_test(exponents_follow_growth_at_once_and_fall_by_one),
        cmocka_unit_test(adamw_follows_its_equations_and_moves_rows_that_do_not_occur),
        cmocka_unit_test(learning_rates_warm_up_and_fall_as_their_names_say),
        cmocka_unit_test(pages_cover_the_space_once_and_never_cross_a_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
