#include "tests/trainer/run/epoch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "trainer/data/prepare.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/model.h"
#include "trainer/optim/optim.h"
#include "trainer/run/settings.h"

#define HEADROOM_BITS 6

struct epoch {
    struct rmj_settings settings;
    struct rmj_model_config config;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    struct rmj_model *model;
    struct rmj_sums *sums;
    struct rmj_plan *plan;
    const struct rmj_plan_info *info;
    float *w, *m, *v, *margins, *scores, *losses, *gradients;
    int16_t *exponents, *observed;
};

static void must(enum rmj_status status, const struct rmj_error *err)
{
    if (status != RMJ_OK) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    RMJ_ASSERT(memory != NULL);
    return memory;
}

static void make_plan(struct epoch *e, const Rmjob__V1__JobSpec *spec, const char *directory, uint32_t threads)
{
    struct rmj_error err = {0};
    struct rmj_store *store;
    Rmjob__V1__PreparedRequest *result;
    must(rmj_store_open(&store, directory, 1, NULL, &err), &err);
    must(rmj_prepare(spec, store, "epoch", &(struct rmj_prepare_options){.thread_count = threads}, &result, &err),
         &err);
    for (size_t i = 0; i < result->n_findings; i++) {
        fprintf(stderr, "%s: %s\n", result->findings[i]->field, result->findings[i]->message);
    }
    if (result->plan == NULL) {
        exit(1);
    }
    must(rmj_plan_open(&e->plan, store, "epoch", result->plan->digest, &err), &err);
    e->info = rmj_plan_info(e->plan);
    protobuf_c_message_free_unpacked(&result->base, NULL);
    rmj_store_close(store);
}

static void make_model(struct epoch *e, const Rmjob__V1__JobSpec *spec)
{
    struct rmj_error err = {0};
    const struct rmj_plan_info *info = e->info;
    must(rmj_model_config_read(&e->config, spec->base_model, &err), &err);
    uint32_t vocabulary = e->config.vocabulary_size + (info->vocabulary_grows ? 1u : 0u);
    must(rmj_layout_create(&e->layout, &e->config, vocabulary, &err), &err);
    e->w = zeroed(e->layout->element_count, sizeof(float));
    e->m = zeroed(e->layout->element_count, sizeof(float));
    e->v = zeroed(e->layout->element_count, sizeof(float));
    struct rmj_weights_options weights = {.directory = spec->base_model,
                                          .config = &e->config,
                                          .layout = e->layout,
                                          .head_init = e->settings.head_init,
                                          .seed = e->settings.seed};
    must(rmj_weights_load(&weights, e->w, &err), &err);
    struct rmj_sums_options sums = {.layout = e->layout,
                                    .pool = e->pool,
                                    .packs_per_step_bound = info->packs_per_step_bound,
                                    .embedding_row_count_max = info->embedding_row_count_max};
    must(rmj_sums_create(&e->sums, &sums, &err), &err);
    struct rmj_model_options model = {.config = &e->config,
                                      .layout = e->layout,
                                      .weights = e->w,
                                      .pool = e->pool,
                                      .row_count = info->row_count,
                                      .item_count_max = info->item_count_max,
                                      .branch_count_max = info->branch_count_max,
                                      .training = 1};
    must(rmj_model_create(&e->model, &model, &err), &err);
    e->margins = zeroed(info->pair_count, sizeof(float));
    for (uint64_t i = 0; i < info->pair_count; i++) {
        e->margins[i] = NAN;
    }
    e->scores = zeroed(info->branch_count_max, sizeof(float));
    e->gradients = zeroed(info->branch_count_max, sizeof(float));
    e->losses = zeroed(info->item_count_max, sizeof(float));
    uint32_t exponents = rmj_sums_exponent_count(e->sums);
    e->exponents = zeroed(exponents, sizeof(int16_t));
    e->observed = zeroed(exponents, sizeof(int16_t));
    for (uint32_t i = 0; i < exponents; i++) {
        e->exponents[i] = RMJ_EXPONENT_ZERO;
    }
}

static void run_pass(struct epoch *e, const struct epoch_step *s, const int16_t *exponents, int headroom)
{
    rmj_sums_begin(e->sums, exponents, headroom, s->step.embedding_rows, s->step.embedding_row_count);
    struct rmj_gradient_sink sink = rmj_sums_sink(e->sums);
    for (uint32_t index = 0; index < s->step.pack_count; index++) {
        struct rmj_pack pack;
        rmj_plan_pack(e->plan, s->number, index, &pack);
        rmj_model_forward(e->model, &pack, e->scores);
        rmj_bradley_terry(&pack, e->scores, e->losses, e->gradients);
        for (uint32_t i = 0; i < pack.item_count; i++) {
            const struct rmj_pack_item *item = &pack.items[i];
            e->margins[item->id] =
                (float)((double)e->scores[item->first_branch] - (double)e->scores[item->first_branch + 1]);
        }
        rmj_model_backward(e->model, &pack, e->gradients, &sink);
    }
    memcpy(e->observed, rmj_sums_observed(e->sums), rmj_sums_exponent_count(e->sums) * sizeof(int16_t));
}

static void run_step(struct epoch *e, const struct epoch_step *s)
{
    const struct rmj_settings *set = &e->settings;
    run_pass(e, s, e->exponents, HEADROOM_BITS);
    if (rmj_sums_overflowed(e->sums, e->observed)) {
        run_pass(e, s, e->observed, 0);
    }
    rmj_exponents_advance(e->exponents, e->observed, rmj_sums_exponent_count(e->sums));
    double square = 0;
    for (uint32_t page = 0; page < e->layout->page_count; page++) {
        square += rmj_sums_page_square(e->sums, page);
    }
    double norm = sqrt(square) / s->step.pair_count;
    double clip = set->max_grad_norm > 0 ? set->max_grad_norm / (norm + 1e-6) : 1;
    struct rmj_adamw adamw = {.learning_rate = rmj_learning_rate(set->schedule, set->learning_rate, set->warmup_ratio,
                                                                 set->end_ratio, s->number, e->info->step_count),
                              .beta1 = set->beta1,
                              .beta2 = set->beta2,
                              .epsilon = set->epsilon,
                              .weight_decay = set->weight_decay,
                              .gradient_scale = (clip < 1 ? clip : 1) / s->step.pair_count,
                              .step = s->number};
    for (uint32_t page = 0; page < e->layout->page_count; page++) {
        uint64_t at = e->layout->pages[page].offset;
        rmj_adamw_page(e->sums, page, &adamw, e->w + at, e->m + at, e->v + at);
    }
}

void epoch_run(const Rmjob__V1__JobSpec *spec, const char *directory, uint32_t thread_count, epoch_fn each,
               void *context)
{
    struct epoch e = {0};
    struct rmj_error err = {0};
    rmj_settings_read(&e.settings, spec);
    must(rmj_pool_create(&e.pool, thread_count, NULL, &err), &err);
    make_plan(&e, spec, directory, thread_count);
    make_model(&e, spec);
    int stop = 0;
    for (uint32_t number = 1; number <= e.info->step_count && !stop; number++) {
        struct epoch_step step = {.plan = e.plan, .number = number, .margins = e.margins};
        rmj_plan_step(e.plan, number, &step.step);
        run_step(&e, &step);
        stop = each(context, &step);
    }
    rmj_model_destroy(e.model);
    rmj_sums_destroy(e.sums);
    rmj_layout_destroy(e.layout);
    rmj_plan_close(e.plan);
    rmj_pool_destroy(e.pool);
    void *memory[] = {e.w, e.m, e.v, e.margins, e.scores, e.losses, e.gradients, e.exponents, e.observed};
    for (size_t i = 0; i < RMJ_COUNT(memory); i++) {
        free(memory[i]);
    }
}
