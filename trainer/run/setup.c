// What is laid out before the first step, and per generation: a step itself allocates nothing.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/lora_spec.h"
#include "trainer/run/share.h"
#include "trainer/run/trainer.h"

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void count_pairs(struct rmj_trainer *trainer)
{
    trainer->pairs_max = 1;
    for (uint32_t step = 1; step <= trainer->info->step_count; step++) {
        struct rmj_plan_step plan_step;
        rmj_plan_step(trainer->plan, step, &plan_step);
        trainer->pairs_max = larger(trainer->pairs_max, plan_step.pair_count);
    }
}

// Takes one array of the job's arena, or only counts it (arena NULL).
static void *take(struct rmj_arena *arena, size_t *total, size_t size)
{
    *total += rmj_arena_need(size);
    return arena == NULL ? NULL : rmj_arena_take(arena, size);
}

static size_t lay_out(struct rmj_trainer *trainer, struct rmj_arena *arena)
{
    const struct rmj_plan_info *info = trainer->info;
    uint32_t shares = larger(info->pack_count_max, trainer->layout->page_count);
    size_t total = 0;
    trainer->weights = take(arena, &total, trainer->layout->weight_count * sizeof(float));
    trainer->state = take(arena, &total, trainer->state_size);
    trainer->observed = take(arena, &total, (trainer->exponent_count + 1u) * sizeof(int16_t));
    trainer->costs = take(arena, &total, shares * sizeof(double));
    trainer->order = take(arena, &total, shares * sizeof(uint32_t));
    trainer->pack_owners = take(arena, &total, info->pack_count_max * sizeof(uint32_t));
    trainer->page_owners = take(arena, &total, trainer->layout->page_count * sizeof(uint32_t));
    trainer->branch_scores = take(arena, &total, info->branch_count_max * sizeof(float));
    trainer->score_gradients = take(arena, &total, info->branch_count_max * sizeof(float));
    trainer->pack_losses = take(arena, &total, info->item_count_max * sizeof(float));
    trainer->pair_scores = take(arena, &total, 2 * (size_t)trainer->pairs_max * sizeof(float));
    trainer->pair_losses = take(arena, &total, trainer->pairs_max * sizeof(float));
    trainer->pair_margins = take(arena, &total, info->pair_count * sizeof(float));
    trainer->proof.pairs = take(arena, &total, info->pair_count * sizeof(struct rmj_digest));
    trainer->proof.steps = take(arena, &total, (info->step_count + 1u) * sizeof(struct rmj_proof_step));
    trainer->squares = take(arena, &total, trainer->layout->page_count * sizeof(double));
    trainer->uploader.digests = take(arena, &total, trainer->layout->page_count * sizeof(struct rmj_digest));
    return total;
}

static enum rmj_status make_model(struct rmj_trainer *trainer, struct rmj_error *err)
{
    const struct rmj_plan_info *info = trainer->info;
    struct rmj_sums_options sums = {.layout = trainer->layout,
                                    .pool = trainer->pool,
                                    .packs_per_step_bound = info->packs_per_step_bound,
                                    .embedding_row_count_max = info->embedding_row_count_max};
    RMJ_TRY(rmj_sums_create(&trainer->sums, &sums, err));
    trainer->exponent_count = rmj_sums_exponent_count(trainer->sums);
    RMJ_TRY(rmj_monitor_of_plan(&trainer->monitor, trainer->plan, err));
    trainer->state_size = rmj_state_bytes(trainer->exponent_count, rmj_monitor_state_bytes(&trainer->monitor));
    RMJ_TRY(rmj_arena_create(&trainer->arena, "trainer", lay_out(trainer, NULL), err));
    lay_out(trainer, &trainer->arena);
    for (uint64_t i = 0; i < info->pair_count; i++) {
        trainer->pair_margins[i] = NAN; // not known
    }
    rmj_proof_fill(&trainer->proof, trainer->plan);
    struct rmj_model_options model = {.config = &trainer->config,
                                      .layout = trainer->layout,
                                      .weights = trainer->weights,
                                      .pool = trainer->pool,
                                      .row_count = info->row_count,
                                      .item_count_max = info->item_count_max,
                                      .branch_count_max = info->branch_count_max,
                                      .training = 1};
    return rmj_model_create(&trainer->model, &model, err);
}

enum rmj_status rmj_trainer_setup(struct rmj_trainer *trainer, const char *plan, struct rmj_error *err)
{
    if (trainer->plan != NULL && strcmp(plan, trainer->plan_digest) == 0) {
        return RMJ_OK;
    }
    rmj_trainer_teardown(trainer);
    RMJ_TRY(rmj_plan_open(&trainer->plan, trainer->checkpoint_store, trainer->prefix, plan, err));
    trainer->info = rmj_plan_info(trainer->plan);
    uint32_t vocabulary = trainer->config.vocabulary_size + (trainer->info->vocabulary_grows ? 1u : 0u);
    struct rmj_lora lora;
    RMJ_TRY(rmj_lora_of_spec(&lora, trainer->spec, &trainer->config, err));
    RMJ_TRY(rmj_layout_create_lora(&trainer->layout, &trainer->config, vocabulary, &lora, err));
    count_pairs(trainer);
    RMJ_TRY(make_model(trainer, err));
    memcpy(trainer->plan_digest, plan, RMJ_DIGEST_HEX_SIZE - 1); // last: only a whole set-up is kept
    return RMJ_OK;
}

void rmj_trainer_teardown(struct rmj_trainer *trainer)
{
    rmj_model_destroy(trainer->model);
    rmj_sums_destroy(trainer->sums);
    rmj_monitor_destroy(&trainer->monitor);
    rmj_layout_destroy(trainer->layout);
    if (trainer->arena.start != NULL) {
        rmj_arena_destroy(&trainer->arena);
    }
    if (trainer->plan != NULL) {
        rmj_plan_close(trainer->plan);
    }
    trainer->model = NULL;
    trainer->sums = NULL;
    trainer->layout = NULL;
    trainer->plan = NULL;
    trainer->arena = (struct rmj_arena){0};
    trainer->has_frozen = 0;
    memset(trainer->plan_digest, 0, sizeof trainer->plan_digest);
}

static size_t lay_out_generation(struct rmj_trainer *trainer, struct rmj_arena *arena)
{
    struct rmj_generation *gen = &trainer->generation;
    const struct rmj_layout *layout = trainer->layout;
    uint32_t pages = layout->page_count;
    size_t total = 0;
    gen->own_pages = take(arena, &total, pages * sizeof(uint32_t));
    gen->m = take(arena, &total, pages * sizeof(float *));
    gen->v = take(arena, &total, pages * sizeof(float *));
    gen->own_count = 0;
    for (uint32_t page = 0; page < pages; page++) {
        if (trainer->page_owners[page] == gen->rank) {
            float *m = take(arena, &total, layout->pages[page].element_count * sizeof(float));
            float *v = take(arena, &total, layout->pages[page].element_count * sizeof(float));
            if (arena != NULL) {
                gen->m[page] = m;
                gen->v[page] = v;
                gen->own_pages[gen->own_count] = page;
            }
            gen->own_count++;
        }
    }
    size_t staging = gen->world > 1 ? gen->world * gen->page_bytes_max : 0;
    gen->staging_out = take(arena, &total, staging);
    gen->staging_in = take(arena, &total, staging);
    gen->blob = take(arena, &total, gen->blob_size);
    gen->blobs = take(arena, &total, gen->world * gen->blob_size);
    gen->votes = take(arena, &total, gen->world * sizeof(struct rmj_vote));
    gen->all_digests = take(arena, &total, (size_t)gen->world * pages * sizeof(struct rmj_digest));
    return total;
}

enum rmj_status rmj_generation_arena(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    const struct rmj_layout *layout = trainer->layout;
    uint64_t owned = 0;
    gen->page_bytes_max = 0;
    for (uint32_t page = 0; page < layout->page_count; page++) {
        size_t bytes = layout->pages[page].element_count * sizeof(int64_t); // the widest sums there are
        gen->page_bytes_max = bytes > gen->page_bytes_max ? bytes : gen->page_bytes_max;
        trainer->costs[page] = (double)layout->pages[page].element_count;
    }
    rmj_share(trainer->costs, layout->page_count, gen->world, trainer->order, trainer->page_owners);
    gen->blob_size = layout->page_count * sizeof(double) + 3 * (size_t)trainer->pairs_max * sizeof(float);
    gen->blob_size = (gen->blob_size + 7) / 8 * 8;
    RMJ_TRY(rmj_arena_create(&gen->arena, "generation", lay_out_generation(trainer, NULL), err));
    lay_out_generation(trainer, &gen->arena);
    for (uint32_t i = 0; i < gen->own_count; i++) {
        owned += layout->pages[gen->own_pages[i]].element_count * 2 * sizeof(float);
    }
    atomic_store(&rmj_link_progress(trainer->link)->owned_bytes, owned);
    return RMJ_OK;
}
