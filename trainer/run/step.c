// One optimizer step. No weight changes before the vote; README.md walks through it.
//
//   packs -> integer sums -> exponents (MAX) -> [second pass] -> sums to owners -> squares, scores to all
//         -> fence of the last snapshot -> VOTE -> AdamW on own pages -> weights to all -> snapshot
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "trainer/run/collective.h"
#include "trainer/run/share.h"
#include "trainer/run/trainer.h"

struct step {
    uint32_t number;
    struct rmj_plan_step plan;
    int second_pass;
    int bad_pack; // of mine that gave not-a-number or infinity, or -1
    double norm;  // of the mean gradient
    double loss, margin, margin_variance, accuracy, learning_rate;
    const struct rmj_proof_step *proof; // what the plan says of this step
};

// Scores and losses of a pack go to their pairs' places.
static void keep_scores(struct rmj_trainer *trainer, const struct step *step, const struct rmj_pack *pack)
{
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        uint64_t at = item->id - step->plan.first_pair;
        RMJ_ASSERT(at < step->plan.pair_count && item->branch_count == 2);
        trainer->pair_scores[2 * at] = trainer->branch_scores[item->first_branch];
        trainer->pair_scores[2 * at + 1] = trainer->branch_scores[item->first_branch + 1];
        trainer->pair_losses[at] = trainer->pack_losses[i];
    }
}

static int scores_are_finite(const struct rmj_trainer *trainer, const struct rmj_pack *pack)
{
    for (uint32_t i = 0; i < pack->branch_total; i++) {
        if (!isfinite(trainer->branch_scores[i])) {
            return 0;
        }
    }
    return 1;
}

static void compute_pack(struct rmj_trainer *trainer, struct step *step, uint32_t index,
                         const struct rmj_gradient_sink *sink)
{
    struct rmj_pack pack;
    double began = rmj_clock_mono_seconds();
    rmj_plan_pack(trainer->plan, step->number, index, &pack);
    rmj_model_forward(trainer->model, &pack, trainer->branch_scores);
    rmj_bradley_terry(&pack, trainer->branch_scores, trainer->pack_losses, trainer->score_gradients);
    keep_scores(trainer, step, &pack);
    (void)rmj_fault_point("backward");
    rmj_model_backward(trainer->model, &pack, trainer->score_gradients, sink);
    if (step->bad_pack < 0 && (rmj_sums_not_finite(trainer->sums) || !scores_are_finite(trainer, &pack))) {
        step->bad_pack = (int)index;
    }
    double seconds = rmj_clock_mono_seconds() - began;
    trainer->pack_seconds = seconds > trainer->pack_seconds ? seconds : trainer->pack_seconds;
}

// All of this rank's packs, then the exponents that all ranks saw.
static enum rmj_status run_pass(struct rmj_trainer *trainer, struct step *step, const int16_t *exponents, int headroom,
                                struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_progress *progress = rmj_link_progress(trainer->link);
    rmj_sums_begin(trainer->sums, exponents, headroom, step->plan.embedding_rows, step->plan.embedding_row_count);
    struct rmj_gradient_sink sink = rmj_sums_sink(trainer->sums);
    for (uint32_t index = 0; index < step->plan.pack_count; index++) {
        if (trainer->pack_owners[index] != gen->rank) {
            continue;
        }
        if (rmj_link_aborted(trainer->link)) {
            return rmj_fail(err, RMJ_CANCELLED, "generation %u ended", gen->number);
        }
        atomic_store(&progress->pack, index);
        compute_pack(trainer, step, index, &sink);
    }
    memcpy(trainer->observed, rmj_sums_observed(trainer->sums), trainer->exponent_count * sizeof(int16_t));
    trainer->observed[trainer->exponent_count] = step->bad_pack >= 0;
    rmj_collective_note(trainer);
    return rmj_comm_all_max_i16(gen->comm, trainer->observed, trainer->exponent_count + 1u, err);
}

static enum rmj_status compute(struct rmj_trainer *trainer, struct step *step, struct rmj_error *err)
{
    for (uint32_t i = 0; i < step->plan.pack_count; i++) {
        trainer->costs[i] = rmj_plan_pack_cost(trainer->plan, step->number, i);
    }
    rmj_share(trainer->costs, step->plan.pack_count, trainer->generation.world, trainer->order, trainer->pack_owners);
    step->bad_pack = -1;
    RMJ_TRY(run_pass(trainer, step, rmj_state_exponents(trainer->state), RMJ_HEADROOM_BITS, err));
    if (!trainer->observed[trainer->exponent_count] && rmj_sums_overflowed(trainer->sums, trainer->observed)) {
        step->second_pass = 1;
        RMJ_TRY(run_pass(trainer, step, trainer->observed, 0, err));
    }
    if (trainer->observed[trainer->exponent_count]) {
        // Known to everyone now; the rank that computed the pack tells which.
        if (step->bad_pack >= 0) {
            rmj_fail_not_finite(trainer, step->number, (uint32_t)step->bad_pack);
        }
        trainer->generation.failed = 1;
    }
    return RMJ_OK;
}

static void square_page(void *context, size_t index, size_t thread)
{
    struct rmj_trainer *trainer = context;
    uint32_t page = trainer->generation.own_pages[index];
    (void)thread;
    trainer->squares[page] = rmj_sums_page_square(trainer->sums, page);
}

// Blob of a rank: squares [pages] double, scores [2 * pairs], losses [pairs].
static void fill_blob(struct rmj_trainer *trainer, char *blob)
{
    size_t squares = trainer->layout->page_count * sizeof(double);
    size_t scores = 2 * (size_t)trainer->pairs_max * sizeof(float);
    memcpy(blob, trainer->squares, squares);
    memcpy(blob + squares, trainer->pair_scores, scores);
    memcpy(blob + squares + scores, trainer->pair_losses, trainer->pairs_max * sizeof(float));
}

// Each page's square from its owner, each pair's score and loss from the rank that computed it.
static void read_blobs(struct rmj_trainer *trainer, const struct step *step)
{
    const struct rmj_generation *gen = &trainer->generation;
    size_t squares = trainer->layout->page_count * sizeof(double);
    size_t scores = 2 * (size_t)trainer->pairs_max * sizeof(float);
    for (uint32_t page = 0; page < trainer->layout->page_count; page++) {
        const char *blob = gen->blobs + trainer->page_owners[page] * gen->blob_size;
        memcpy(&trainer->squares[page], blob + page * sizeof(double), sizeof(double));
    }
    for (uint32_t index = 0; index < step->plan.pack_count; index++) {
        const char *blob = gen->blobs + trainer->pack_owners[index] * gen->blob_size + squares;
        struct rmj_pack pack;
        rmj_plan_pack(trainer->plan, step->number, index, &pack);
        for (uint32_t i = 0; i < pack.item_count; i++) {
            uint64_t at = pack.items[i].id - step->plan.first_pair;
            memcpy(&trainer->pair_scores[2 * at], blob + 2 * at * sizeof(float), 2 * sizeof(float));
            memcpy(&trainer->pair_losses[at], blob + scores + at * sizeof(float), sizeof(float));
        }
    }
}

static enum rmj_status gather(struct rmj_trainer *trainer, struct step *step, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    rmj_pool_run(trainer->pool, gen->own_count, square_page, trainer);
    fill_blob(trainer, gen->blob);
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_all_gather(gen->comm, gen->blob, gen->blob_size, gen->blobs, err));
    read_blobs(trainer, step);
    double square = 0;
    for (uint32_t page = 0; page < trainer->layout->page_count; page++) {
        square += trainer->squares[page];
    }
    step->norm = sqrt(square) / step->plan.pair_count;
    return RMJ_OK;
}

// In double and in pair order, so that every rank and every world has the same numbers.
static void measure(struct rmj_trainer *trainer, struct step *step)
{
    double loss = 0, margin = 0, square = 0, right = 0;
    uint32_t count = step->plan.pair_count;
    for (uint32_t i = 0; i < count; i++) {
        double m = (double)trainer->pair_scores[2 * i] - (double)trainer->pair_scores[2 * i + 1];
        trainer->pair_margins[step->plan.first_pair + i] = (float)m;
        loss += (double)trainer->pair_losses[i];
        margin += m;
        square += m * m;
        right += m > 0;
    }
    step->loss = loss / count;
    step->margin = margin / count;
    step->accuracy = right / count;
    double variance = square / count - step->margin * step->margin;
    step->margin_variance = variance > 0 ? variance : 0;
}

// Pairs that this rank computed, for the proof.
static void count_own(struct rmj_trainer *trainer, const struct step *step, struct rmj_vote *vote)
{
    for (uint32_t index = 0; index < step->plan.pack_count; index++) {
        if (trainer->pack_owners[index] != trainer->generation.rank) {
            continue;
        }
        struct rmj_pack pack;
        rmj_plan_pack(trainer->plan, step->number, index, &pack);
        for (uint32_t i = 0; i < pack.item_count; i++) {
            rmj_digest_add(&vote->sum, &trainer->proof.pairs[pack.items[i].id]);
        }
        vote->pair_count += pack.item_count;
    }
}

static enum rmj_status check_votes(struct rmj_trainer *trainer, struct step *step, uint32_t *any, uint32_t *all,
                                   struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_digest sum = {{0}};
    uint64_t pairs = 0;
    *any = 0;
    *all = ~0u;
    gen->everywhere = gen->votes[0].newest;
    for (uint32_t rank = 0; rank < gen->world; rank++) {
        const struct rmj_vote *vote = &gen->votes[rank];
        if (vote->step != step->number) {
            return rmj_fail(err, RMJ_INTERNAL, "rank %u votes on step %u while this rank is at step %u", rank,
                            vote->step, step->number);
        }
        rmj_digest_add(&sum, &vote->sum);
        pairs += vote->pair_count;
        *any |= vote->flags;
        *all &= vote->flags;
        gen->everywhere = vote->newest < gen->everywhere ? vote->newest : gen->everywhere;
    }
    if (pairs != step->plan.pair_count || !rmj_digest_equal(&sum, &step->proof->sum)) {
        return rmj_fail(err, RMJ_INTERNAL, "step %u consumed %llu pairs that are not the plan's %u", step->number,
                        (unsigned long long)pairs, step->plan.pair_count);
    }
    return RMJ_OK;
}

static enum rmj_status vote(struct rmj_trainer *trainer, struct step *step, uint32_t *any, uint32_t *all,
                            struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_vote own = {.step = step->number, .newest = trainer->copier.step};
    own.flags = (rmj_link_stop_wanted(trainer->link) ? RMJ_VOTE_STOP : 0u) |
                (rmj_link_notice(trainer->link) ? RMJ_VOTE_LEAVE : 0u) | rmj_checkpoint_vote_flags(trainer);
    count_own(trainer, step, &own);
    (void)rmj_fault_point("vote");
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_all_gather(gen->comm, &own, sizeof own, gen->votes, err));
    return check_votes(trainer, step, any, all, err);
}

struct update {
    struct rmj_trainer *trainer;
    struct rmj_adamw adamw;
};

static void update_page(void *context, size_t index, size_t thread)
{
    struct update *update = context;
    struct rmj_trainer *trainer = update->trainer;
    uint32_t page = trainer->generation.own_pages[index];
    (void)thread;
    rmj_adamw_page(trainer->sums, page, &update->adamw, trainer->weights + trainer->layout->pages[page].offset,
                   trainer->generation.m[page], trainer->generation.v[page]);
}

static enum rmj_status update(struct rmj_trainer *trainer, struct step *step, struct rmj_error *err)
{
    const struct rmj_settings *s = &trainer->settings;
    // Clipping as torch.nn.utils.clip_grad_norm_: factor max / (norm + 1e-6), at most 1.
    double clip = s->max_grad_norm > 0 ? s->max_grad_norm / (step->norm + 1e-6) : 1;
    step->learning_rate = rmj_learning_rate(s->schedule, s->learning_rate, s->warmup_ratio, s->end_ratio, step->number,
                                            trainer->info->step_count);
    struct update update = {trainer,
                            {.learning_rate = step->learning_rate,
                             .beta1 = s->beta1,
                             .beta2 = s->beta2,
                             .epsilon = s->epsilon,
                             .weight_decay = s->weight_decay,
                             .gradient_scale = (clip < 1 ? clip : 1) / step->plan.pair_count,
                             .step = step->number}};
    rmj_pool_run(trainer->pool, trainer->generation.own_count, update_page, &update);
    (void)rmj_fault_point("update");
    return rmj_exchange_weights(trainer, err);
}

static void watch(struct rmj_trainer *trainer, const struct step *step)
{
    rmj_monitor_step(&trainer->monitor, rmj_state_monitor(trainer->state),
                     &(struct rmj_monitor_step){.step = step->number,
                                                .first_pair = step->plan.first_pair,
                                                .pair_count = step->plan.pair_count,
                                                .margin = step->margin,
                                                .variance = step->margin_variance,
                                                .margins = trainer->pair_margins});
}

// The step is done everywhere: the replicated state moves on.
static void advance(struct rmj_trainer *trainer, const struct step *step)
{
    struct rmj_state *state = trainer->state;
    rmj_exponents_advance(rmj_state_exponents(state), trainer->observed, trainer->exponent_count);
    state->step = step->number;
    rmj_state_consume(state, &step->plan, step->proof);
    atomic_store(&rmj_link_progress(trainer->link)->step, step->number);
    watch(trainer, step);
}

static void report(struct rmj_trainer *trainer, const struct step *step, double seconds)
{
    const struct rmj_state *state = trainer->state;
    struct rmj_step_report report = {.generation = trainer->generation.number,
                                     .step = step->number,
                                     .loss = step->loss,
                                     .margin = step->margin,
                                     .accuracy = step->accuracy,
                                     .grad_norm = step->norm,
                                     .learning_rate = step->learning_rate,
                                     .seconds = seconds,
                                     .stall_seconds = trainer->stall_seconds,
                                     .pairs_consumed = state->pairs_consumed,
                                     .tokens = step->plan.token_count,
                                     .second_pass = step->second_pass};
    rmj_digest_hex(&state->consumed_sum, report.consumed_sum);
    rmj_digest_hex(&state->chain, report.chain);
    if (trainer->generation.rank == 0) {
        rmj_link_report_step(trainer->link, &report);
    }
    rmj_log(RMJ_LOG_DEBUG, "rank", "event=step job=%s generation=%u rank=%u step=%u loss=%.6f margin=%.6f norm=%.6f",
            trainer->options->job, trainer->generation.number, trainer->generation.rank, step->number, step->loss,
            step->margin, step->norm);
}

static void set_deadline(struct rmj_trainer *trainer, const struct step *step)
{
    // Twice what the slowest share could take, both passes: a rank over that hangs.
    double ms = trainer->pack_seconds * step->plan.pack_count * 4 * 1000;
    rmj_comm_set_deadline(trainer->generation.comm, RMJ_COLLECTIVE_MS_MIN + (int64_t)ms);
}

static enum rmj_status commit(struct rmj_trainer *trainer, struct step *step, double began, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    uint32_t any, all;
    rmj_snapshot_fence(trainer);
    RMJ_TRY(vote(trainer, step, &any, &all, err));
    RMJ_TRY(update(trainer, step, err));
    advance(trainer, step);
    gen->stop = (any & RMJ_VOTE_STOP) != 0;
    gen->leaving = (any & RMJ_VOTE_LEAVE) != 0;
    RMJ_TRY(rmj_checkpoint_settle(trainer, any, all, err));
    if (gen->checkpoint_step == 0 && (gen->votes[0].flags & RMJ_VOTE_CHECKPOINT)) {
        gen->checkpoint_step = step->number;
    }
    RMJ_TRY(rmj_snapshot_begin(trainer, err));
    if (gen->checkpoint_step == step->number) {
        rmj_checkpoint_start(trainer);
    }
    report(trainer, step, rmj_clock_mono_seconds() - began);
    return RMJ_OK;
}

enum rmj_status rmj_step(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct step step = {.number = trainer->state->step + 1};
    double began = rmj_clock_mono_seconds();
    trainer->stall_seconds = 0;
    rmj_plan_step(trainer->plan, step.number, &step.plan);
    step.proof = &trainer->proof.steps[step.number];
    set_deadline(trainer, &step);
    RMJ_TRY(compute(trainer, &step, err));
    if (trainer->generation.failed) {
        return RMJ_OK;
    }
    RMJ_TRY(rmj_exchange_sums(trainer, err));
    RMJ_TRY(gather(trainer, &step, err));
    measure(trainer, &step);
    RMJ_TRY(commit(trainer, &step, began, err));
    if (rmj_checkpoint_violated(trainer)) {
        trainer->generation.failed = 1;
    }
    return RMJ_OK;
}
