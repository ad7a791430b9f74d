// Computes what the expected file holds, in the way of a training step (step.c), and compares tensor by tensor.
//
// Gradients are read back out of the integer sums by one AdamW update without memory (beta1 = 0) on scratch: its first
// moment is the gradient that training would use.
#include "trainer/run/verify.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/model.h"
#include "trainer/model/safetensors.h"
#include "trainer/optim/optim.h"
#include "trainer/run/trainer.h"
#include "trainer/run/verify_internal.h"

// AdamW turns a gradient element near zero into a whole step, and what a model computes after one carries that through
// all layers. Measured on stories15M (three steps of 1e-3, against float64): parameters 2e-5 here and 2e-5 in torch's
// own float32, scores after them 3e-4 and 1e-4, the loss of step 2 2e-4 and 9e-5.
#define PARAMETER_SHARE 10
#define AFTER_STEP_SHARE 100
// A gradient this small against all of them together is zero but for rounding (a key bias without rotary positions: the
// softmax does not see it). transformers computes the softmax in float32 even where all else is float64, which leaves
// 2e-9 in such a gradient; ours leaves as much.
#define ROUNDING_SHARE 1e-7

struct verify {
    const struct rmj_verify_options *options;
    struct rmj_verify_result *result;
    struct rmj_model_config config;
    struct rmj_verify_batch batch;
    struct rmj_verify_packs packs;
    struct rmj_safetensors expected;
    struct rmj_layout *layout;
    struct rmj_pool *pool;
    struct rmj_model *model;
    struct rmj_sums *sums;
    float *weights;                // [weight_count]
    float *m, *v, *gradient;       // [element_count]
    int16_t *exponents, *observed; // [rmj_sums_exponent_count]
    float *scores;                 // [2 * pair_count], all chosen sides, then all rejected
    float *losses;                 // [pair_count]
    float *pack_scores, *pack_score_gradients, *pack_losses;
    double *theirs;            // [element_count of the largest expected tensor]
    double theirs_global_norm; // of all expected gradients together
    char *rounding;            // [tensor_count] 1: the gradient is zero within rounding
};

static struct rmj_verify_row *add_row(struct verify *v, enum rmj_verify_group group, double distance, double limit)
{
    struct rmj_verify_row *row = &v->result->rows[v->result->row_count++];
    *row = (struct rmj_verify_row){.group = group, .distance = distance, .limit = limit, .judged = 1};
    return row;
}

__attribute__((format(printf, 2, 3))) static void add_problem(struct verify *v, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(v->result->problems[v->result->problem_count++], RMJ_VERIFY_TEXT_SIZE, format, arguments);
    va_end(arguments);
}

// ||ours - theirs||, and ||theirs||.
static double difference(const float *ours, const double *theirs, uint64_t count, double *norm)
{
    double square = 0, difference_square = 0;
    for (uint64_t i = 0; i < count; i++) {
        double d = (double)ours[i] - theirs[i];
        difference_square += d * d;
        square += theirs[i] * theirs[i];
    }
    *norm = sqrt(square);
    return sqrt(difference_square);
}

// A share of `scale`; equal is 0 whatever the scale, and anything against nothing is infinite.
static double share(double value, double scale)
{
    return value == 0 ? 0 : value / scale;
}

static enum rmj_status compare_scores(struct verify *v, const char *name, double limit, int judged,
                                      struct rmj_error *err)
{
    const struct rmj_safetensor *found = rmj_safetensors_find(&v->expected, name);
    uint64_t count = 2 * (uint64_t)v->batch.pair_count;
    if (found == NULL) {
        return RMJ_OK;
    }
    if (found->dimension_count != 1 || found->element_count != count) {
        add_problem(v, "\"%s\" has %llu elements in %u dimensions; chosen and then rejected sides are [%llu]", name,
                    (unsigned long long)found->element_count, found->dimension_count, (unsigned long long)count);
        return RMJ_OK;
    }
    double norm;
    RMJ_TRY(rmj_safetensors_read_double(&v->expected, found, v->theirs, err));
    double distance = difference(v->scores, v->theirs, count, &norm);
    struct rmj_verify_row *row = add_row(v, RMJ_VERIFY_SCORES, share(distance, norm), limit);
    snprintf(row->name, sizeof row->name, "%s", name);
    row->judged = judged;
    return RMJ_OK;
}

// The tensor of the model that an expected one is about; NULL when a problem was added.
static const struct rmj_tensor *match(struct verify *v, const struct rmj_safetensor *found, const char *name)
{
    for (uint32_t i = 0; i < v->layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &v->layout->tensors[i];
        if (strcmp(tensor->name, name) != 0) {
            continue;
        }
        int same = found->dimension_count == tensor->dimension_count && found->element_count == tensor->element_count &&
                   found->shape[found->dimension_count - 1] == tensor->shape[1];
        if (!same) {
            add_problem(v, "\"%.120s\" has %llu elements in %u dimensions; in this model it has %u, [%u, %u]",
                        found->name, (unsigned long long)found->element_count, found->dimension_count,
                        tensor->dimension_count, tensor->shape[0], tensor->shape[1]);
        }
        return same ? tensor : NULL;
    }
    add_problem(v, "\"%.120s\": the model has no tensor of that name", found->name);
    return NULL;
}

static void compare_gradient(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor)
{
    double norm, distance = difference(v->gradient + tensor->offset, v->theirs, tensor->element_count, &norm);
    int rounding = norm <= ROUNDING_SHARE * v->theirs_global_norm;
    v->rounding[tensor - v->layout->tensors] = (char)rounding;
    struct rmj_verify_row *row = add_row(
        v, RMJ_VERIFY_GRADIENT, share(distance, rounding ? v->theirs_global_norm : norm), v->options->tolerance);
    snprintf(row->name, sizeof row->name, "%s%s", found->name, rounding ? " (zero; against all gradients)" : "");
}

// Where the gradient is zero but for rounding, AdamW makes steps of any size up to the learning rate out of it.
static void compare_parameter(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor)
{
    double norm, distance = difference(v->weights + tensor->offset, v->theirs, tensor->element_count, &norm);
    double limit = PARAMETER_SHARE * v->options->tolerance;
    int rounding = v->rounding[tensor - v->layout->tensors];
    if (rounding && norm > 0) {
        double moved = 2 * v->batch.step_count * v->batch.learning_rate * sqrt((double)tensor->element_count) / norm;
        limit = moved > limit ? moved : limit;
    }
    struct rmj_verify_row *row = add_row(v, RMJ_VERIFY_PARAMETER, share(distance, norm), limit);
    snprintf(row->name, sizeof row->name, "%s%s", found->name,
             rounding ? " (moved by a zero gradient's rounding)" : "");
}

// Every "grad.NAME" (after = 0), or every "afterN.NAME" of the batch's N.
static enum rmj_status compare_tensors(struct verify *v, int after, struct rmj_error *err)
{
    char prefix[32] = "grad.";
    if (after) {
        snprintf(prefix, sizeof prefix, "after%u.", v->batch.step_count);
    }
    size_t length = strlen(prefix);
    for (size_t i = 0; i < v->expected.tensor_count; i++) {
        const struct rmj_safetensor *found = &v->expected.tensors[i];
        const struct rmj_tensor *tensor =
            strncmp(found->name, prefix, length) == 0 ? match(v, found, found->name + length) : NULL;
        if (tensor == NULL) {
            continue;
        }
        RMJ_TRY(rmj_safetensors_read_double(&v->expected, found, v->theirs, err));
        if (after) {
            compare_parameter(v, found, tensor);
        } else {
            compare_gradient(v, found, tensor);
        }
    }
    return RMJ_OK;
}

static void compare_number(struct verify *v, enum rmj_verify_group group, const char *what, uint32_t step, double ours,
                           double theirs)
{
    double limit = v->options->tolerance * (step > 1 ? AFTER_STEP_SHARE : 1);
    struct rmj_verify_row *row = add_row(v, group, share(fabs(ours - theirs), fabs(theirs)), limit);
    snprintf(row->name, sizeof row->name, "%s of step %u", what, step);
}

// What the expected file holds besides what is compared, and what it should hold and does not.
static void check_names(struct verify *v, int head_apart)
{
    char scores_after[48], after[32];
    uint32_t steps = v->batch.step_count;
    snprintf(scores_after, sizeof scores_after, "scores_after_%u_steps", steps);
    snprintf(after, sizeof after, "after%u.", steps);
    for (size_t i = 0; i < v->expected.tensor_count; i++) {
        const char *name = v->expected.tensors[i].name;
        int known = strcmp(name, "scores") == 0 || strcmp(name, "scores_float32") == 0 ||
                    strncmp(name, "grad.", 5) == 0 || (head_apart && strcmp(name, "score.weight") == 0) ||
                    (steps > 0 && (strcmp(name, scores_after) == 0 || strncmp(name, after, strlen(after)) == 0));
        if (!known && (strncmp(name, "after", 5) == 0 || strncmp(name, "scores_after_", 13) == 0)) {
            add_problem(v, "\"%.120s\": the optimizer of the batch takes %u steps", name, steps);
        } else if (!known) {
            add_problem(v, "\"%.120s\" is not known; it is no score, gradient or parameter", name);
        }
    }
    if (rmj_safetensors_find(&v->expected, "scores") == NULL) {
        add_problem(v, "\"scores\" is missing in the expected file");
    }
    if (steps > 0 && rmj_safetensors_find(&v->expected, scores_after) == NULL) {
        rmj_verify_note(v->result, "the expected file has no %s", scores_after);
    }
    for (uint32_t i = 0; i < v->layout->tensor_count; i++) {
        for (int k = 0; k < (steps > 0 ? 2 : 1); k++) {
            char name[160];
            snprintf(name, sizeof name, "%s%s", k == 0 ? "grad." : after, v->layout->tensors[i].name);
            if (rmj_safetensors_find(&v->expected, name) == NULL) {
                rmj_verify_note(v->result, "the expected file has no %s; it is not compared", name);
            }
        }
    }
}

// Scores and losses of a pack go to their pairs' places.
static void keep(struct verify *v, const struct rmj_pack *pack)
{
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        v->scores[item->id] = v->pack_scores[item->first_branch];
        v->scores[v->batch.pair_count + item->id] = v->pack_scores[item->first_branch + 1];
        v->losses[item->id] = v->pack_losses[i];
    }
}

static void forward(struct verify *v, const struct rmj_pack *pack)
{
    rmj_model_forward(v->model, pack, v->pack_scores);
    rmj_bradley_terry(pack, v->pack_scores, v->pack_losses, v->pack_score_gradients);
    keep(v, pack);
}

static void run_pass(struct verify *v, const int16_t *exponents, int headroom)
{
    rmj_sums_begin(v->sums, exponents, headroom, v->packs.embedding_rows, v->packs.embedding_row_count);
    struct rmj_gradient_sink sink = rmj_sums_sink(v->sums);
    for (uint32_t i = 0; i < v->packs.pack_count; i++) {
        forward(v, &v->packs.packs[i]);
        rmj_model_backward(v->model, &v->packs.packs[i], v->pack_score_gradients, &sink);
    }
}

// Sums of one step, computed again under exact exponents when the first pass overflowed.
static enum rmj_status sum_gradients(struct verify *v, uint32_t step, struct rmj_error *err)
{
    size_t size = rmj_sums_exponent_count(v->sums) * sizeof *v->observed;
    run_pass(v, v->exponents, RMJ_HEADROOM_BITS);
    memcpy(v->observed, rmj_sums_observed(v->sums), size);
    if (!rmj_sums_not_finite(v->sums) && rmj_sums_overflowed(v->sums, v->observed)) {
        run_pass(v, v->observed, 0);
    }
    for (uint32_t i = 0; i < 2 * v->batch.pair_count; i++) {
        if (!isfinite(v->scores[i])) {
            return rmj_fail(err, RMJ_DATA, "step %u: the score of pairs[%u] is not finite", step,
                            i % v->batch.pair_count);
        }
    }
    return rmj_sums_not_finite(v->sums) ? rmj_fail(err, RMJ_DATA, "step %u: a gradient is not finite in float32", step)
                                        : RMJ_OK;
}

struct update {
    const struct verify *verify;
    struct rmj_adamw adamw;
    float *weights, *m, *v;
};

static void update_page(void *context, size_t page, size_t thread)
{
    const struct update *u = context;
    uint64_t at = u->verify->layout->pages[page].offset;
    (void)thread;
    rmj_adamw_page(u->verify->sums, (uint32_t)page, &u->adamw, u->weights + at, u->m + at, u->v + at);
}

// The mean gradient of the batch as the sums have it, into v->gradient.
static enum rmj_status read_gradient(struct verify *v, struct rmj_error *err)
{
    size_t count = v->layout->element_count;
    float *scratch = calloc(2 * count, sizeof *scratch);
    if (scratch == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for gradients of %zu elements", count);
    }
    struct update update = {v,
                            {.epsilon = 1, .gradient_scale = 1.0 / v->batch.pair_count, .step = 1},
                            scratch,
                            v->gradient,
                            scratch + count};
    rmj_pool_run(v->pool, v->layout->page_count, update_page, &update);
    free(scratch);
    return RMJ_OK;
}

static double mean_loss(const struct verify *v)
{
    double loss = 0;
    for (uint32_t i = 0; i < v->batch.pair_count; i++) {
        loss += (double)v->losses[i];
    }
    return loss / v->batch.pair_count;
}

static double gradient_norm(const struct verify *v)
{
    double square = 0;
    for (uint32_t page = 0; page < v->layout->page_count; page++) {
        square += rmj_sums_page_square(v->sums, page);
    }
    return sqrt(square) / v->batch.pair_count;
}

static enum rmj_status run_step(struct verify *v, uint32_t step, struct rmj_error *err)
{
    const struct rmj_verify_batch *b = &v->batch;
    RMJ_TRY(sum_gradients(v, step, err));
    double norm = gradient_norm(v);
    compare_number(v, RMJ_VERIFY_LOSS, "loss", step, mean_loss(v), b->losses[step - 1]);
    if (b->norms != NULL) {
        compare_number(v, RMJ_VERIFY_NORM, "gradient norm", step, norm, b->norms[step - 1]);
    }
    if (step == 1) {
        RMJ_TRY(compare_scores(v, "scores", v->options->tolerance, 1, err));
        RMJ_TRY(compare_scores(v, "scores_float32", v->options->tolerance, 0, err));
        RMJ_TRY(read_gradient(v, err));
        RMJ_TRY(compare_tensors(v, 0, err));
    }
    rmj_exponents_advance(v->exponents, v->observed, rmj_sums_exponent_count(v->sums));
    if (step > b->step_count) {
        return RMJ_OK; // no optimizer
    }
    double clip = b->clip > 0 ? b->clip / (norm + 1e-6) : 1; // as torch.nn.utils.clip_grad_norm_
    struct update update = {v,
                            {.learning_rate = b->learning_rate,
                             .beta1 = b->beta1,
                             .beta2 = b->beta2,
                             .epsilon = b->epsilon,
                             .weight_decay = b->weight_decay,
                             .gradient_scale = (clip < 1 ? clip : 1) / b->pair_count,
                             .step = step},
                            v->weights,
                            v->m,
                            v->v};
    rmj_pool_run(v->pool, v->layout->page_count, update_page, &update);
    return RMJ_OK;
}

static enum rmj_status run_steps(struct verify *v, struct rmj_error *err)
{
    uint32_t steps = v->batch.step_count;
    for (uint32_t step = 1; step <= (steps > 0 ? steps : 1); step++) {
        RMJ_TRY(run_step(v, step, err));
    }
    if (steps == 0) {
        return RMJ_OK;
    }
    RMJ_TRY(compare_tensors(v, 1, err));
    for (uint32_t i = 0; i < v->packs.pack_count; i++) {
        forward(v, &v->packs.packs[i]);
    }
    char name[48];
    snprintf(name, sizeof name, "scores_after_%u_steps", steps);
    return compare_scores(v, name, AFTER_STEP_SHARE * v->options->tolerance, 1, err);
}

// Room for every comparison, and the norm of all expected gradients.
static enum rmj_status measure_expected(struct verify *v, struct rmj_error *err)
{
    struct rmj_verify_result *r = v->result;
    uint64_t largest = 1;
    size_t rows = v->expected.tensor_count + 2 * (size_t)v->batch.step_count + 8;
    for (size_t i = 0; i < v->expected.tensor_count; i++) {
        const struct rmj_safetensor *tensor = &v->expected.tensors[i];
        largest = tensor->element_count > largest ? tensor->element_count : largest;
        if (tensor->dtype == RMJ_DTYPE_OTHER) {
            return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\": dtype must be F64, F32, BF16 or F16",
                            v->expected.path, tensor->name);
        }
    }
    r->rows = calloc(rows, sizeof *r->rows);
    r->problems = calloc(rows, sizeof *r->problems);
    v->rounding = calloc(v->layout->tensor_count, 1);
    v->theirs = malloc(largest * sizeof *v->theirs);
    if (r->rows == NULL || r->problems == NULL || v->rounding == NULL || v->theirs == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu comparisons", rows);
    }
    double square = 0;
    for (size_t i = 0; i < v->expected.tensor_count; i++) {
        const struct rmj_safetensor *tensor = &v->expected.tensors[i];
        if (strncmp(tensor->name, "grad.", 5) == 0) {
            RMJ_TRY(rmj_safetensors_read_double(&v->expected, tensor, v->theirs, err));
            for (uint64_t k = 0; k < tensor->element_count; k++) {
                square += v->theirs[k] * v->theirs[k];
            }
        }
    }
    v->theirs_global_norm = sqrt(square);
    return RMJ_OK;
}

// The head may stand apart from a model without one, as "score.weight" of the expected file.
static enum rmj_status load_weights(struct verify *v, struct rmj_error *err)
{
    const char *directory = v->options->directory;
    const struct rmj_tensor *head = &v->layout->tensors[v->layout->head];
    struct rmj_weights_options options = {
        .directory = directory, .config = &v->config, .layout = v->layout, .head_init = RMJ_HEAD_BASE};
    enum rmj_status status = rmj_model_head_check(directory, err);
    const struct rmj_safetensor *apart = rmj_safetensors_find(&v->expected, "score.weight");
    if (status == RMJ_DATA && apart == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s has no score.weight, and %s has none to take as head", directory,
                        v->expected.path);
    }
    if (status != RMJ_DATA) {
        RMJ_TRY(status);
        check_names(v, 0);
        return rmj_weights_load(&options, v->weights, err);
    }
    if (apart->dtype > RMJ_DTYPE_F16 || apart->element_count != head->element_count) {
        return rmj_fail(err, RMJ_DATA, "%s: \"score.weight\" must be [1, %u] in F32, BF16 or F16", v->expected.path,
                        head->shape[1]);
    }
    rmj_error_clear(err); // nothing is missing
    options.head_init = RMJ_HEAD_ZEROS;
    RMJ_TRY(rmj_weights_load(&options, v->weights, err));
    check_names(v, 1);
    rmj_verify_note(v->result, "the model has no score.weight; its head is taken from the expected file");
    return rmj_safetensors_read(&v->expected, apart, v->weights + head->offset, err);
}

static enum rmj_status allocate(struct verify *v, struct rmj_error *err)
{
    size_t count = v->layout->element_count, pairs = v->batch.pair_count;
    RMJ_TRY(rmj_sums_create(&v->sums,
                            &(struct rmj_sums_options){.layout = v->layout,
                                                       .pool = v->pool,
                                                       .packs_per_step_bound = rmj_verify_pack_bound(&v->packs),
                                                       .embedding_row_count_max = v->packs.embedding_row_count},
                            err));
    uint32_t exponents = rmj_sums_exponent_count(v->sums);
    v->weights = aligned_alloc(64, (v->layout->weight_count * sizeof *v->weights + 63) / 64 * 64);
    v->m = calloc(count, sizeof *v->m);
    v->v = calloc(count, sizeof *v->v);
    v->gradient = calloc(count, sizeof *v->gradient);
    v->exponents = calloc(exponents, sizeof *v->exponents);
    v->observed = calloc(exponents, sizeof *v->observed);
    v->scores = calloc(9 * pairs, sizeof *v->scores);
    if (v->weights == NULL || v->m == NULL || v->v == NULL || v->gradient == NULL || v->exponents == NULL ||
        v->observed == NULL || v->scores == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a model of %zu elements", count);
    }
    v->losses = v->scores + 2 * pairs;
    v->pack_scores = v->losses + pairs;
    v->pack_score_gradients = v->pack_scores + 2 * pairs;
    v->pack_losses = v->pack_score_gradients + 2 * pairs;
    for (uint32_t i = 0; i < exponents; i++) {
        v->exponents[i] = RMJ_EXPONENT_ZERO;
    }
    return rmj_model_create(&v->model,
                            &(struct rmj_model_options){.config = &v->config,
                                                        .layout = v->layout,
                                                        .weights = v->weights,
                                                        .pool = v->pool,
                                                        .row_count = v->packs.row_count,
                                                        .item_count_max = v->packs.item_count_max,
                                                        .branch_count_max = 2 * v->packs.item_count_max,
                                                        .training = 1},
                            err);
}

static void describe(const struct verify *v)
{
    struct rmj_verify_result *r = v->result;
    snprintf(r->architecture, sizeof r->architecture, "%s", v->config.architecture);
    r->parameter_count = rmj_model_parameter_count(&v->config);
    r->tensor_count = v->layout->tensor_count;
    r->pair_count = v->batch.pair_count;
    r->pack_count = v->packs.pack_count;
    r->row_count_of_pack = v->packs.row_count;
    r->step_count = v->batch.step_count;
    r->shared_prefix_count = v->packs.shared_prefix_count;
    r->token_count = v->batch.token_count;
    if (v->batch.longest > v->config.position_count_max) {
        rmj_verify_note(r, "the longest side has %u tokens, over the %u positions of config.json", v->batch.longest,
                        v->config.position_count_max);
    }
}

static enum rmj_status compare(struct verify *v, struct rmj_error *err)
{
    const struct rmj_verify_options *o = v->options;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = o->thread_count > 0 ? o->thread_count : (size_t)(cores < 1 ? 1 : cores);
    RMJ_TRY(rmj_model_config_read(&v->config, o->directory, err));
    RMJ_TRY(rmj_model_files_check(o->directory, &v->config, err));
    RMJ_TRY(rmj_verify_batch_read(&v->batch, o->batch, &v->config, v->result, err));
    RMJ_TRY(rmj_safetensors_open(&v->expected, o->expected, err));
    RMJ_TRY(rmj_layout_create(&v->layout, &v->config, v->config.vocabulary_size, err));
    RMJ_TRY(measure_expected(v, err));
    RMJ_TRY(rmj_verify_packs_create(&v->packs, &v->batch, &v->config, err));
    RMJ_TRY(rmj_pool_create(&v->pool, threads, rmj_cpu_thread_start, err));
    RMJ_TRY(allocate(v, err));
    RMJ_TRY(load_weights(v, err));
    describe(v);
    return run_steps(v, err);
}

static void verify_free(struct verify *v)
{
    rmj_model_destroy(v->model);
    rmj_sums_destroy(v->sums);
    rmj_pool_destroy(v->pool);
    rmj_layout_destroy(v->layout);
    rmj_verify_packs_destroy(&v->packs);
    rmj_verify_batch_free(&v->batch);
    rmj_safetensors_close(&v->expected);
    free(v->weights);
    free(v->m);
    free(v->v);
    free(v->gradient);
    free(v->exponents);
    free(v->observed);
    free(v->scores);
    free(v->theirs);
    free(v->rounding);
    free(v);
}

enum rmj_status rmj_verify(const struct rmj_verify_options *options, FILE *out, struct rmj_error *err)
{
    struct rmj_verify_result result = {.notes = calloc(RMJ_VERIFY_NOTES_MAX, RMJ_VERIFY_TEXT_SIZE)};
    struct verify *v = calloc(1, sizeof *v);
    enum rmj_status status = RMJ_OK;
    if (v == NULL || result.notes == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to compare");
    } else {
        v->options = options;
        v->result = &result;
        v->expected.fd = -1;
        status = compare(v, err);
    }
    if (status == RMJ_OK) {
        rmj_verify_print(options, &result, out);
        status = result.problem_count > 0 || rmj_verify_over_count(&result) > 0 ? RMJ_DATA : RMJ_OK;
    }
    if (v != NULL) {
        verify_free(v);
    }
    free(result.rows);
    free(result.problems);
    free(result.notes);
    return status;
}
