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
// The loss of a pair that was learnt, and its gradient, are as good as zero: numbers after the first step are held to
// no more than this share of the largest one before them.
#define FALLEN_SHARE 1e-3
// A tensor whose gradient is smaller than this share of all of them together is held against that share: 1e-5 of it is
// 1e-8 of the whole gradient, under what float32 can hold. A key bias without rotary positions is the extreme (the
// softmax does not see it): zero, but for the 2e-9 that transformers' own float32 softmax leaves there.
#define SMALL_SHARE 1e-3
// A gradient under this is none: what double precision leaves of one that cancels.
#define NO_GRADIENT 1e-10
// AdamW divides a gradient by its own size. An element whose first gradient is under this share of the tensor's usual
// one (or of SMALL_SHARE's, over all elements) is moved by its rounding: anywhere up to the longest steps. Measured on
// fresh models of all families, whose biases are nothing but such steps: 2e-4 of the parameter in torch's float32 and
// here.
#define UNSETTLED_SHARE 1e-2

struct verify {
    const struct rmj_verify_options *options;
    struct rmj_verify_result *result;
    struct rmj_model_config config;
    struct rmj_verify_batch batch;
    struct rmj_verify_packs packs;
    struct rmj_safetensors expected;
    char after[32]; // "after3.", the prefix of parameters after the steps
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
    double *moved;             // [tensor_count] ||their parameters after the steps - those before||
    char *unsettled;           // [element_count] 1: AdamW's steps follow the rounding of this gradient
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

// The tensor of the model that an expected one is about; NULL when there is none, which is a problem to `say`.
static const struct rmj_tensor *match(struct verify *v, const struct rmj_safetensor *found, const char *name, int say)
{
    for (uint32_t i = 0; i < v->layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &v->layout->tensors[i];
        if (strcmp(tensor->name, name) != 0) {
            continue;
        }
        int same = found->dimension_count == tensor->dimension_count && found->element_count == tensor->element_count &&
                   found->shape[found->dimension_count - 1] == tensor->shape[1];
        if (!same && say) {
            add_problem(v, "\"%.120s\" has %llu elements in %u dimensions; in this model it has %u, [%u, %u]",
                        found->name, (unsigned long long)found->element_count, found->dimension_count,
                        tensor->dimension_count, tensor->shape[0], tensor->shape[1]);
        }
        return same ? tensor : NULL;
    }
    if (say) {
        add_problem(v, "\"%.120s\": the model has no tensor of that name", found->name);
    }
    return NULL;
}

// An element that has no gradient on either side, such as the row of a token that does not occur, is settled; not so
// where nothing has one, since doubles' roundings then come and go.
static void mark_unsettled(struct verify *v, const struct rmj_tensor *tensor, double norm, double least)
{
    const float *ours = v->gradient + tensor->offset;
    uint64_t occurring = 0;
    for (uint64_t i = 0; i < tensor->element_count; i++) {
        occurring += v->theirs[i] != 0;
    }
    double usual = norm / sqrt((double)(occurring > 0 ? occurring : 1));
    double small = least / sqrt((double)tensor->element_count);
    int nothing = v->theirs_global_norm <= NO_GRADIENT;
    double bound = UNSETTLED_SHARE * (usual > small ? usual : small);
    for (uint64_t i = 0; i < tensor->element_count; i++) {
        v->unsettled[tensor->offset + i] =
            fabs(v->theirs[i]) <= bound && (nothing || v->theirs[i] != 0 || ours[i] != 0);
    }
}

static void compare_gradient(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor)
{
    double norm, distance = difference(v->gradient + tensor->offset, v->theirs, tensor->element_count, &norm);
    double least = fmax(SMALL_SHARE * v->theirs_global_norm, NO_GRADIENT);
    struct rmj_verify_row *row =
        add_row(v, RMJ_VERIFY_GRADIENT, share(distance, norm > least ? norm : least), v->options->tolerance);
    snprintf(row->name, sizeof row->name, "%s", found->name);
    snprintf(row->remark, sizeof row->remark, "%s", norm > least ? "" : "small; against a thousandth of all gradients");
    mark_unsettled(v, tensor, norm, least);
}

// The distance without unsettled elements, as long as AdamW can have moved them apart; and how many those are.
static double settled_distance(const struct verify *v, const struct rmj_tensor *tensor, double distance,
                               uint64_t *left_out)
{
    double steps = v->batch.step_count; // a step is at most sqrt(steps) learning rates long
    double reach = 2 * v->batch.learning_rate * steps * sqrt(steps);
    double square = 0;
    *left_out = 0;
    for (uint64_t i = 0; i < tensor->element_count; i++) {
        double d = fabs((double)v->weights[tensor->offset + i] - v->theirs[i]);
        int out = v->unsettled[tensor->offset + i] && d <= reach;
        *left_out += (uint64_t)out;
        square += out ? 0 : d * d;
    }
    return *left_out > 0 ? sqrt(square) : distance;
}

// What is all step (a bias that began at zero) is held as what follows from steps is: its gradients were, from the
// second on.
static void compare_parameter(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor)
{
    double norm, distance = difference(v->weights + tensor->offset, v->theirs, tensor->element_count, &norm);
    double moved = norm > 0 ? v->moved[tensor - v->layout->tensors] / norm : 0;
    double limit = fmax(PARAMETER_SHARE, AFTER_STEP_SHARE * fmin(moved, 1)) * v->options->tolerance;
    uint64_t left_out = 0;
    if (!(share(distance, norm) <= limit)) {
        distance = settled_distance(v, tensor, distance, &left_out);
    }
    struct rmj_verify_row *row = add_row(v, RMJ_VERIFY_PARAMETER, share(distance, norm), limit);
    snprintf(row->name, sizeof row->name, "%s", found->name);
    if (left_out > 0) {
        snprintf(row->remark, sizeof row->remark, "without %llu of %llu elements that follow a gradient's rounding",
                 (unsigned long long)left_out, (unsigned long long)tensor->element_count);
    }
}

static void measure_move(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor)
{
    (void)found;
    double norm;
    v->moved[tensor - v->layout->tensors] =
        difference(v->weights + tensor->offset, v->theirs, tensor->element_count, &norm);
}

typedef void visit_fn(struct verify *v, const struct rmj_safetensor *found, const struct rmj_tensor *tensor);

// Every tensor of the expected file whose name is the prefix and then a parameter's.
static enum rmj_status each_tensor(struct verify *v, const char *prefix, visit_fn *visit, struct rmj_error *err)
{
    int say = visit != measure_move; // compare_parameter goes over the same ones
    size_t length = strlen(prefix);
    for (size_t i = 0; i < v->expected.tensor_count; i++) {
        const struct rmj_safetensor *found = &v->expected.tensors[i];
        const struct rmj_tensor *tensor =
            strncmp(found->name, prefix, length) == 0 ? match(v, found, found->name + length, say) : NULL;
        if (tensor == NULL) {
            continue;
        }
        RMJ_TRY(rmj_safetensors_read_double(&v->expected, found, v->theirs, err));
        visit(v, found, tensor);
    }
    return RMJ_OK;
}

static void compare_number(struct verify *v, enum rmj_verify_group group, const char *what, uint32_t step, double ours,
                           const double *series)
{
    double limit = v->options->tolerance * (step > 1 ? AFTER_STEP_SHARE : 1);
    double theirs = series[step - 1], scale = fmax(fabs(theirs), NO_GRADIENT);
    for (uint32_t i = 0; i + 1 < step; i++) {
        scale = fmax(scale, FALLEN_SHARE * fabs(series[i]));
    }
    struct rmj_verify_row *row = add_row(v, group, share(fabs(ours - theirs), scale), limit);
    snprintf(row->name, sizeof row->name, "%s of step %u", what, step);
}

// What the expected file holds besides what is compared, and what it should hold and does not.
static void check_names(struct verify *v, int head_apart)
{
    char scores_after[48];
    const char *after = v->after;
    uint32_t steps = v->batch.step_count;
    snprintf(scores_after, sizeof scores_after, "scores_after_%u_steps", steps);
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

// The gradients of two identical sides cancel. Computed apart they cancel exactly, as branches of one prefix but for
// rounding, which AdamW would make whole steps of. (Training never sees such a pair: it is dropped from the data.)
static void clear_identical(struct verify *v, const struct rmj_pack *pack)
{
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        if (rmj_verify_same_sides(&v->batch.pairs[item->id])) {
            v->pack_score_gradients[item->first_branch] = 0;
            v->pack_score_gradients[item->first_branch + 1] = 0;
        }
    }
}

static void forward(struct verify *v, const struct rmj_pack *pack)
{
    rmj_model_forward(v->model, pack, v->pack_scores);
    rmj_bradley_terry(pack, v->pack_scores, v->pack_losses, v->pack_score_gradients);
    clear_identical(v, pack);
    keep(v, pack);
}

// transformers' embedding has no gradient in the row of the pad token, wherever that stands.
struct sink_without_pad {
    struct rmj_gradient_sink sink;
    const struct verify *verify;
};

static void take_without_pad(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows,
                             uint32_t row_count)
{
    const struct sink_without_pad *s = context;
    const struct rmj_layout *layout = s->verify->layout;
    uint32_t at = 0;
    if (tensor == layout->embedding) {
        while (at < row_count && (int64_t)rows[at] != s->verify->config.pad_token) {
            at++;
        }
    }
    if (tensor != layout->embedding || at == row_count) {
        s->sink.take(s->sink.context, tensor, gradient, rows, row_count);
        return;
    }
    const float *rest = gradient + (size_t)(at + 1) * layout->tensors[tensor].shape[1];
    s->sink.take(s->sink.context, tensor, gradient, rows, at);
    s->sink.take(s->sink.context, tensor, rest, rows + at + 1, row_count - at - 1);
}

static void run_pass(struct verify *v, const int16_t *exponents, int headroom)
{
    rmj_sums_begin(v->sums, exponents, headroom, v->packs.embedding_rows, v->packs.embedding_row_count);
    struct sink_without_pad without = {rmj_sums_sink(v->sums), v};
    struct rmj_gradient_sink sink = {.context = &without, .take = take_without_pad};
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
    compare_number(v, RMJ_VERIFY_LOSS, "loss", step, mean_loss(v), b->losses);
    if (b->norms != NULL) {
        compare_number(v, RMJ_VERIFY_NORM, "gradient norm", step, norm, b->norms);
    }
    if (step == 1) {
        RMJ_TRY(compare_scores(v, "scores", v->options->tolerance, 1, err));
        RMJ_TRY(compare_scores(v, "scores_float32", v->options->tolerance, 0, err));
        RMJ_TRY(read_gradient(v, err));
        RMJ_TRY(each_tensor(v, "grad.", compare_gradient, err));
        RMJ_TRY(each_tensor(v, v->after, measure_move, err));
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
    RMJ_TRY(each_tensor(v, v->after, compare_parameter, err));
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
    v->unsettled = calloc(v->layout->element_count, 1);
    v->moved = calloc(v->layout->tensor_count, sizeof *v->moved);
    v->theirs = malloc(largest * sizeof *v->theirs);
    if (r->rows == NULL || r->problems == NULL || v->unsettled == NULL || v->moved == NULL || v->theirs == NULL) {
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
    snprintf(v->after, sizeof v->after, "after%u.", v->batch.step_count);
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
    free(v->unsettled);
    free(v->moved);
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
