#include "trainer/data/inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/pool.h"
#include "base/text.h"
#include "storage/digest.h"
#include "trainer/data/lora_spec.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/layout.h"
#include "trainer/model/model.h"
#include "trainer/optim/optim.h"

// Complete snapshots a rank holds at once: the one being replaced, the newest, and the one a peer may still need
// (reference/exact-elastic-training.md, "Steps, losses of ranks").
#define SNAPSHOT_SLOTS 3u
// Weights, first and second moment, in float32.
#define STATE_BYTES_PER_ELEMENT 12u

static void fill_defaults(struct rmj_inputs *inputs, const Rmjob__V1__JobSpec *spec)
{
    const Rmjob__V1__DataSpec *data = spec->data;
    const Rmjob__V1__TrainSpec *train = spec->train;
    const Rmjob__V1__ElasticSpec *elastic = spec->elastic;
    inputs->spec = spec;
    inputs->max_length = data != NULL && data->has_max_length ? data->max_length : RMJ_MAX_LENGTH_DEFAULT;
    inputs->over_length =
        data != NULL && data->has_over_length ? (int)data->over_length : (int)RMJOB__V1__OVER_LENGTH__drop;
    inputs->refuse_duplicates =
        data != NULL && data->has_duplicates && data->duplicates == RMJOB__V1__DUPLICATES__refuse_duplicates;
    inputs->use_margin = train != NULL && train->has_use_margin && train->use_margin;
    inputs->global_batch_pairs =
        train != NULL && train->has_global_batch_pairs ? train->global_batch_pairs : RMJ_BATCH_PAIRS_DEFAULT;
    inputs->min_ranks = elastic != NULL && elastic->has_min_ranks && elastic->min_ranks > 0 ? elastic->min_ranks : 1;
    inputs->max_ranks = elastic != NULL && elastic->has_max_ranks && elastic->max_ranks > 0 ? elastic->max_ranks : 1;
    if (spec->evaluate != NULL && spec->evaluate->rewardbench2 != NULL && spec->evaluate->rewardbench2[0] != '\0') {
        inputs->benchmark = spec->evaluate->rewardbench2;
    }
}

static void check_numbers(struct rmj_inputs *inputs, struct rmj_findings *findings)
{
    const Rmjob__V1__DataSpec *data = inputs->spec->data;
    const struct rmj_model_config *config = &inputs->config;
    uint32_t positions = config->position_count_max, longest = config->length_max;
    if (positions > RMJ_MAX_LENGTH_MOST) {
        positions = RMJ_MAX_LENGTH_MOST;
    }
    int given = data != NULL && data->has_max_length;
    if (given && data->max_length < RMJ_MAX_LENGTH_LEAST) {
        rmj_findings_error(findings, "data.max_length", RMJ_EXIT_SPEC, "data.max_length is %u; the least is %u",
                           data->max_length, RMJ_MAX_LENGTH_LEAST);
        inputs->usable = 0;
    } else if (given && longest > 0 && longest <= positions && data->max_length > longest) {
        rmj_findings_error(
            findings, "data.max_length", RMJ_EXIT_SPEC,
            "data.max_length is %u, but over %u (%s of the base model's config.json) its rotary positions "
            "change with the length of a batch, which is not computed: set it to %u or less",
            data->max_length, longest, config->length_max_key, longest);
        inputs->usable = 0;
    } else if (given && data->max_length > positions) {
        rmj_findings_error(findings, "data.max_length", RMJ_EXIT_SPEC,
                           "data.max_length is %u, but the base model has %u positions: set it to %u or less",
                           data->max_length, positions, positions);
        inputs->usable = 0;
    } else if (!given && longest > 0 && longest <= positions && inputs->max_length > longest) {
        rmj_findings_warn(
            findings, "data.max_length",
            "the longest side here is %u, %s of the base model's config.json: its rotary positions change "
            "over it",
            longest, config->length_max_key);
        inputs->max_length = longest;
    } else if (!given && inputs->max_length > positions) {
        rmj_findings_warn(findings, "data.max_length", "the base model has %u positions: that is the longest side here",
                          positions);
        inputs->max_length = positions;
    }
    if (inputs->global_batch_pairs == 0 || inputs->global_batch_pairs > RMJ_BATCH_PAIRS_MAX) {
        rmj_findings_error(findings, "train.global_batch_pairs", RMJ_EXIT_SPEC,
                           "train.global_batch_pairs is %u; it must be 1 to %u", inputs->global_batch_pairs,
                           RMJ_BATCH_PAIRS_MAX);
        inputs->usable = 0;
    }
}

static void check_device(const Rmjob__V1__JobSpec *spec, struct rmj_findings *findings)
{
    if (spec->train != NULL && spec->train->has_precision && spec->train->precision == RMJOB__V1__PRECISION__bf16) {
        rmj_findings_error(findings, "train.precision", RMJ_EXIT_SPEC,
                           "bf16 comes with a later version; set train.precision: float32");
    }
    if (spec->resources != NULL && spec->resources->has_device && spec->resources->device == RMJOB__V1__DEVICE__cuda) {
        rmj_findings_error(findings, "resources.device", RMJ_EXIT_SPEC,
                           "cuda comes with a later version; set resources.device: cpu");
    }
}

// A failed read of a model directory as a finding.
static enum rmj_status model_finding(struct rmj_findings *findings, const char *field, struct rmj_error *own,
                                     struct rmj_error *err)
{
    unsigned code = own->status == RMJ_NOT_FOUND || own->status == RMJ_INVALID ? RMJ_EXIT_SPEC : RMJ_EXIT_DATA;
    enum rmj_status status = rmj_findings_take(findings, field, code, own);
    if (status != RMJ_OK && err != NULL) {
        *err = *own;
    }
    return status;
}

static int local_directory(const char *path, const char *field, struct rmj_findings *findings)
{
    if (strncmp(path, "s3://", 5) == 0) {
        rmj_findings_error(findings, field, RMJ_EXIT_SPEC,
                           "%s: models are read from a local directory; s3:// comes with a later version", path);
        return 0;
    }
    if (!rmj_fs_exists(path)) {
        rmj_findings_error(findings, field, RMJ_EXIT_SPEC, "%s does not exist", path);
        return 0;
    }
    return 1;
}

static enum rmj_status open_base(struct rmj_inputs *inputs, struct rmj_findings *findings, struct rmj_error *err)
{
    const char *path = inputs->spec->base_model, *field = "base_model";
    const Rmjob__V1__TrainSpec *train = inputs->spec->train;
    struct rmj_error own = {0};
    if (path == NULL || path[0] == '\0') {
        rmj_findings_error(findings, field, RMJ_EXIT_SPEC, "base_model is missing: name a Hugging Face directory");
        return RMJ_OK;
    }
    if (!local_directory(path, field, findings)) {
        return RMJ_OK;
    }
    if (rmj_model_config_read(&inputs->config, path, &own) != RMJ_OK ||
        rmj_model_files_check(path, &inputs->config, &own) != RMJ_OK) {
        return model_finding(findings, field, &own, err);
    }
    const Rmjob__V1__DataSpec *data = inputs->spec->data;
    if (data != NULL && data->tokenizer != NULL && data->tokenizer[0] != '\0' &&
        !local_directory(data->tokenizer, "data.tokenizer", findings)) {
        return RMJ_OK;
    }
    if (rmj_rendering_open(&inputs->rendering, inputs->spec, &inputs->config, &field, &own) != RMJ_OK) {
        return model_finding(findings, field, &own, err);
    }
    inputs->usable = 1;
    int has_head = rmj_model_head_check(path, &own) == RMJ_OK;
    if (train != NULL && train->has_head_init && train->head_init == RMJOB__V1__HEAD_INIT__base) {
        return has_head ? RMJ_OK : model_finding(findings, "train.head_init", &own, err);
    }
    if (has_head) {
        rmj_findings_warn(findings, "train.head_init",
                          "the base model has a head, and a new one is made; set train.head_init: base to keep it");
    }
    return RMJ_OK;
}

// What is worth knowing of the template and the tokenizer before anything is read with them.
static void check_rendering(const struct rmj_inputs *inputs, struct rmj_findings *findings)
{
    const Rmjob__V1__DataSpec *data = inputs->spec->data;
    const struct rmj_renderer *renderer = &inputs->rendering.renderer;
    if (data != NULL && data->template_date != NULL && data->template_date[0] != '\0' && renderer->date[0] == '\0') {
        rmj_findings_warn(findings, "data.template_date", "the chat template prints no date: nothing depends on it");
    }
}

static enum rmj_status check_policy(const struct rmj_inputs *inputs, struct rmj_findings *findings,
                                    struct rmj_error *err)
{
    const Rmjob__V1__PolicyModel *policy = inputs->spec->policy_model;
    if (policy == NULL || !inputs->usable) {
        return RMJ_OK;
    }
    char family[sizeof inputs->config.family];
    snprintf(family, sizeof family, "%s", policy->family == NULL ? "" : policy->family);
    uint64_t parameters = policy->has_parameters ? policy->parameters : 0;
    if (policy->path != NULL && policy->path[0] != '\0') {
        struct rmj_model_config config;
        struct rmj_error own = {0};
        if (!local_directory(policy->path, "policy_model.path", findings)) {
            return RMJ_OK;
        }
        if (rmj_model_config_read(&config, policy->path, &own) != RMJ_OK) {
            return model_finding(findings, "policy_model.path", &own, err);
        }
        snprintf(family, sizeof family, "%s", config.family);
        parameters = rmj_model_parameter_count(&config);
    }
    if (family[0] != '\0' && strcmp(family, inputs->config.family) != 0) {
        rmj_findings_error(findings, "policy_model", RMJ_EXIT_SPEC,
                           "the policy model is of family %s, the base model of family %s: a reward model must be of "
                           "its policy's family",
                           family, inputs->config.family);
    }
    uint64_t own = rmj_model_parameter_count(&inputs->config);
    if (parameters > 0 && own > parameters) {
        rmj_findings_error(findings, "policy_model", RMJ_EXIT_SPEC,
                           "the reward model has %llu parameters, its policy %llu: it must not be larger",
                           (unsigned long long)own, (unsigned long long)parameters);
    }
    return RMJ_OK;
}

enum rmj_status rmj_inputs_open(struct rmj_inputs *inputs, const Rmjob__V1__JobSpec *spec,
                                struct rmj_findings *findings, struct rmj_error *err)
{
    *inputs = (struct rmj_inputs){0};
    fill_defaults(inputs, spec);
    check_device(spec, findings);
    enum rmj_status status = open_base(inputs, findings, err);
    if (status == RMJ_OK) {
        status = check_policy(inputs, findings, err);
    }
    if (status == RMJ_OK && inputs->usable) {
        check_numbers(inputs, findings);
        check_rendering(inputs, findings);
        status = rmj_lora_check(&inputs->lora, spec, &inputs->config, &inputs->rendering.renderer, findings, err);
    }
    if (status != RMJ_OK) {
        rmj_inputs_close(inputs);
    }
    return status;
}

void rmj_inputs_close(struct rmj_inputs *inputs)
{
    rmj_rendering_close(&inputs->rendering);
    *inputs = (struct rmj_inputs){0};
}

void rmj_spec_digest(const Rmjob__V1__JobSpec *spec, struct rmj_digest *digest)
{
    size_t size = rmjob__v1__job_spec__get_packed_size(spec);
    uint8_t *bytes = malloc(size + 1);
    RMJ_ASSERT(bytes != NULL);
    rmjob__v1__job_spec__pack(spec, bytes);
    rmj_sha256_of(bytes, size, digest);
    free(bytes);
}

enum rmj_status rmj_inputs_needs(const struct rmj_inputs *inputs, const struct rmj_plan_shape *shape,
                                 struct rmj_needs *needs, struct rmj_error *err)
{
    struct rmj_layout *layout = NULL;
    struct rmj_pool *pool = NULL;
    enum rmj_status status = RMJ_OK;
    uint32_t vocabulary = inputs->config.vocabulary_size + (uint32_t)(shape->vocabulary_grows != 0);
    RMJ_GO(rmj_layout_create_lora(&layout, &inputs->config, vocabulary, &inputs->lora, err));
    RMJ_GO(rmj_pool_create(&pool, 1, NULL, err));
    struct rmj_model_options model = {
        .config = &inputs->config,
        .layout = layout,
        .pool = pool,
        .row_count = shape->row_count,
        .item_count_max = shape->item_count_max,
        .branch_count_max = shape->branch_count_max,
        .training = 1,
    };
    struct rmj_sums_options sums = {
        .layout = layout,
        .pool = pool,
        .packs_per_step_bound = shape->packs_per_step_bound,
        .embedding_row_count_max = shape->embedding_row_count_max,
    };
    uint64_t elements = layout->element_count;
    uint64_t owned = (elements + inputs->min_ranks - 1) / inputs->min_ranks;
    uint64_t weights = layout->weight_count * sizeof(float), moments = owned * 2 * sizeof(float);
    uint64_t snapshots = SNAPSHOT_SLOTS * owned * STATE_BYTES_PER_ELEMENT;
    uint64_t plan = shape->packs * shape->row_count * 2 * sizeof(int32_t) + shape->tokens * sizeof(int32_t);
    *needs = (struct rmj_needs){
        .parameters = rmj_model_parameter_count(&inputs->config),
        .pages = layout->page_count,
        .memory_bytes = weights + moments + snapshots + plan + rmj_model_memory(&model) + rmj_sums_memory(&sums),
    };
    if (shape->vocabulary_grows) {
        needs->parameters += inputs->config.hidden_width;
    }
out:
    rmj_layout_destroy(layout);
    rmj_pool_destroy(pool);
    return status;
}

void rmj_inputs_check_memory(const struct rmj_inputs *inputs, uint64_t memory_bytes, struct rmj_findings *findings)
{
    const Rmjob__V1__ResourceSpec *resources = inputs->spec->resources;
    uint64_t limit;
    if (resources == NULL || resources->memory == NULL || resources->memory[0] == '\0') {
        return;
    }
    if (!rmj_text_parse_bytes(resources->memory, &limit)) {
        rmj_findings_error(findings, "resources.memory", RMJ_EXIT_SPEC,
                           "resources.memory is '%.40s'; write a size like 8Gi or 512Mi", resources->memory);
    } else if (memory_bytes > limit) {
        rmj_findings_error(findings, "resources.memory", RMJ_EXIT_SPEC,
                           "one rank needs %.2f GiB at %u ranks, resources.memory is %s: raise it, or lower "
                           "data.max_length",
                           (double)memory_bytes / 0x1p30, inputs->min_ranks, resources->memory);
    }
}
