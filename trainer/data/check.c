// The check of a spec's inputs at submit: everything that can be said without reading weights or whole data sets.
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "base/text.h"
#include "trainer/data/contract.h"
#include "trainer/data/inputs.h"
#include "trainer/data/lineage.h"
#include "trainer/data/packer.h"
#include "trainer/data/prepare_internal.h"

#define SAMPLE_ROWS 200u
#define SAMPLE_BENCHMARK_ROWS 8u
// Files of one list that are sampled; of the others, and of s3:// objects, only that they are there.
#define SAMPLE_FILES_MAX 32u
// Tokens at each end of the row that is shown.
#define SHOWN_TOKENS 16u
#define PACKS_PER_STEP_EXPECTED 32u

static char *hex_text(const struct rmj_digest *digest)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(digest, hex);
    return strdup(hex);
}

static enum rmj_status check_benchmark(const struct rmj_inputs *inputs, struct rmj_benchmark *benchmark,
                                       struct rmj_findings *findings, Rmjob__V1__PlanSummary *pinned,
                                       struct rmj_error *err)
{
    static const char field[] = "evaluate.rewardbench2";
    if (inputs->benchmark == NULL) {
        return RMJ_OK;
    }
    struct rmj_error own = {0};
    enum rmj_status status = rmj_benchmark_read(benchmark, inputs->benchmark, 1, field, findings, &own);
    if (status != RMJ_OK) {
        status = rmj_findings_take(findings, field, rmj_prepare_exit_code(own.status), &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
        return status;
    }
    pinned->benchmark_digest = hex_text(&benchmark->digest);
    pinned->has_benchmark_rows = 1;
    pinned->benchmark_rows = benchmark->count;
    return RMJ_OK;
}

// 1 in *sample when the file's first rows are to be read.
static enum rmj_status probe(const struct rmj_sources *sources, size_t index, struct rmj_findings *findings,
                             int *sample, struct rmj_error *err)
{
    struct rmj_error own = {0};
    enum rmj_status status = rmj_sources_probe(sources, index, sample, &own);
    *sample = *sample && status == RMJ_OK && index < SAMPLE_FILES_MAX;
    if (status != RMJ_OK) {
        status = rmj_findings_take(findings, sources->files[index].field, rmj_prepare_exit_code(own.status), &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
    }
    return status;
}

// Reads a file's first rows into the contract, and shows the first pair.
struct sampling {
    struct rmj_contract *contract;
    const struct rmj_renderer *renderer;
    char *row; // of ValidateResponse
};

// The first and last tokens of the chosen side: template, marks and the scored position can be read off.
static void show_row(struct sampling *sampling, const struct rmj_example *example)
{
    const struct rmj_tokens *side = &example->chosen;
    size_t end = side->count < SHOWN_TOKENS ? side->count : SHOWN_TOKENS;
    size_t last = side->count - end < SHOWN_TOKENS ? end : side->count - SHOWN_TOKENS;
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_buf_printf(&out, "%s:%llu chosen, %zu tokens: ", sampling->contract->file_name,
                   (unsigned long long)example->row, side->count);
    rmj_renderer_show(sampling->renderer, side->ids, end, &out);
    rmj_buf_puts(&out, last > end ? " ... " : last < side->count ? " " : "");
    rmj_renderer_show(sampling->renderer, side->ids + last, side->count - last, &out);
    if (!out.failed && rmj_text_utf8_valid(rmj_buf_text(&out), out.size) == out.size) {
        sampling->row = rmj_buf_detach(&out);
    }
    rmj_buf_deinit(&out);
}

static enum rmj_status take_sample(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct sampling *sampling = context;
    if (sampling->row == NULL && example->status == RMJ_OK) {
        show_row(sampling, example);
    }
    return rmj_contract_take(sampling->contract, example, err);
}

static enum rmj_status sample_train(const struct rmj_inputs *inputs, struct rmj_pool *pool,
                                    struct rmj_contract *contract, struct rmj_findings *findings, char **row,
                                    struct rmj_error *err)
{
    struct sampling sampling = {.contract = contract, .renderer = &inputs->rendering.renderer};
    const Rmjob__V1__DataSpec *data = inputs->spec->data;
    struct rmj_sources sources = {0};
    enum rmj_status status = RMJ_OK;
    if (data == NULL || data->n_train == 0) {
        rmj_findings_error(findings, "data.train", RMJ_EXIT_SPEC, "data.train names no file");
        return RMJ_OK;
    }
    rmj_prepare_add_sources(&sources, data->train, data->n_train, "data.train", findings);
    for (size_t i = 0; i < sources.count; i++) {
        int sample;
        RMJ_GO(probe(&sources, i, findings, &sample, err));
        if (!sample) {
            continue;
        }
        rmj_contract_begin_file(contract, sources.files[i].name, sources.files[i].field);
        rmj_prepare_name_file(contract->file, &sources.files[i]);
        RMJ_GO(rmj_prepare_read_file(&(struct rmj_prepare_read){.sources = &sources,
                                                                .index = i,
                                                                .renderer = &inputs->rendering.renderer,
                                                                .pool = pool,
                                                                .row_limit = SAMPLE_ROWS,
                                                                .each = take_sample,
                                                                .context = &sampling,
                                                                .findings = findings},
                                     err));
    }
    rmj_contract_finish(contract);
    if (rmj_spool_pair_count(contract->options.spool) == 0 && contract->report->rows > 0 &&
        findings->error_count == 0) {
        rmj_findings_warn(findings, "data.train",
                          "no pair of the %llu sampled rows is left: %llu over data.max_length, %llu with equal sides, "
                          "%llu duplicates",
                          (unsigned long long)contract->report->rows,
                          (unsigned long long)contract->report->dropped_over_length,
                          (unsigned long long)contract->report->dropped_identical_sides,
                          (unsigned long long)contract->report->dropped_duplicate);
    }
out:
    *row = sampling.row;
    rmj_sources_deinit(&sources);
    return status;
}

static enum rmj_status sample_heldout(const struct rmj_inputs *inputs, struct rmj_pool *pool,
                                      struct rmj_findings *findings, struct rmj_error *err)
{
    const Rmjob__V1__DataSpec *data = inputs->spec->data;
    struct rmj_sources sources = {0};
    enum rmj_status status = RMJ_OK;
    if (data == NULL || data->n_heldout == 0) {
        return RMJ_OK;
    }
    rmj_prepare_add_sources(&sources, data->heldout, data->n_heldout, "data.heldout", findings);
    for (size_t i = 0; i < sources.count; i++) {
        struct rmj_prepare_heldout heldout = {.findings = findings, .field = sources.files[i].field};
        int sample;
        RMJ_GO(probe(&sources, i, findings, &sample, err));
        if (!sample) {
            continue;
        }
        RMJ_GO(rmj_prepare_read_file(&(struct rmj_prepare_read){.sources = &sources,
                                                                .index = i,
                                                                .renderer = &inputs->rendering.renderer,
                                                                .pool = pool,
                                                                .row_limit = SAMPLE_ROWS,
                                                                .each = rmj_prepare_check_heldout,
                                                                .context = &heldout,
                                                                .findings = findings},
                                     err));
    }
out:
    rmj_sources_deinit(&sources);
    return status;
}

// Memory from the sample's mean lengths; the plan will say it exactly.
static enum rmj_status estimate(const struct rmj_inputs *inputs, const struct rmj_contract *contract,
                                struct rmj_findings *findings, Rmjob__V1__PlanSummary *pinned, struct rmj_error *err)
{
    uint64_t pairs = rmj_spool_pair_count(contract->options.spool);
    uint64_t tokens = rmj_spool_token_count(contract->options.spool);
    uint64_t mean = pairs == 0 ? inputs->max_length : (tokens + pairs - 1) / pairs;
    uint64_t longest =
        pairs == 0 ? 2 * (uint64_t)inputs->max_length : 2 * (uint64_t)contract->report->longest_side_tokens;
    uint64_t rows = rmj_pack_row_count(longest, mean * inputs->global_batch_pairs, RMJ_PLAN_STEP_ROWS_CAP);
    uint64_t step_rows = mean * inputs->global_batch_pairs;
    uint32_t items = inputs->global_batch_pairs < rows / 2 ? inputs->global_batch_pairs : (uint32_t)rows / 2;
    struct rmj_plan_shape shape = {
        .row_count = (uint32_t)rows,
        .packs_per_step_bound = PACKS_PER_STEP_EXPECTED,
        .embedding_row_count_max =
            step_rows < inputs->config.vocabulary_size ? (uint32_t)step_rows : inputs->config.vocabulary_size,
        .item_count_max = items,
        .branch_count_max = 2 * items,
        .vocabulary_grows = inputs->rendering.renderer.vocabulary_grows,
    };
    struct rmj_needs needs;
    RMJ_TRY(rmj_inputs_needs(inputs, &shape, &needs, err));
    pinned->has_parameters = pinned->has_pages = pinned->has_memory_bytes = 1;
    pinned->parameters = needs.parameters;
    pinned->pages = needs.pages;
    pinned->memory_bytes = needs.memory_bytes;
    rmj_inputs_check_memory(inputs, needs.memory_bytes, findings);
    return RMJ_OK;
}

struct checking {
    struct rmj_inputs inputs;
    struct rmj_findings findings;
    struct rmj_benchmark benchmark;
    struct rmj_spool *spool;
    struct rmj_contract contract;
    struct rmj_pool *pool;
    Rmjob__V1__PlanSummary *pinned;
    char *sample_row;
};

static enum rmj_status check(struct checking *checking, const Rmjob__V1__JobSpec *spec, struct rmj_error *err)
{
    struct rmj_inputs *inputs = &checking->inputs;
    RMJ_TRY(rmj_inputs_open(inputs, spec, &checking->findings, err));
    RMJ_TRY(check_benchmark(inputs, &checking->benchmark, &checking->findings, checking->pinned, err));
    struct rmj_contract_options options = {
        .max_length = inputs->max_length,
        .over_length = inputs->over_length,
        .use_margin = inputs->use_margin,
        .bos = inputs->rendering.renderer.bos,
        .refuse_duplicates = inputs->refuse_duplicates,
        .benchmark = checking->benchmark.count > 0 ? &checking->benchmark : NULL,
        .spool = checking->spool,
    };
    rmj_contract_init(&checking->contract, &options, &checking->findings);
    if (!inputs->usable) {
        return RMJ_OK;
    }
    rmj_prepare_say_rendering(checking->pinned, inputs);
    RMJ_TRY(rmj_benchmark_check_rows(&checking->benchmark, SAMPLE_BENCHMARK_ROWS, &inputs->rendering.renderer,
                                     "evaluate.rewardbench2", &checking->findings, err));
    RMJ_TRY(sample_train(inputs, checking->pool, &checking->contract, &checking->findings, &checking->sample_row, err));
    RMJ_TRY(rmj_lineage_check(spec->base_model, &checking->contract, "sampled pairs", err));
    RMJ_TRY(sample_heldout(inputs, checking->pool, &checking->findings, err));
    return estimate(inputs, &checking->contract, &checking->findings, checking->pinned, err);
}

enum rmj_status rmj_check_spec(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse **reply,
                               struct rmj_error *err)
{
    struct checking checking = {.pinned = malloc(sizeof *checking.pinned)};
    Rmjob__V1__ValidateResponse *message = malloc(sizeof *message);
    RMJ_ASSERT(checking.pinned != NULL && message != NULL);
    rmjob__v1__plan_summary__init(checking.pinned);
    rmj_findings_init(&checking.findings);
    *reply = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_pool_create(&checking.pool, 1, NULL, err));
    RMJ_GO(rmj_spool_create(&checking.spool, NULL, err));
    RMJ_GO(check(&checking, spec, err));
    rmjob__v1__validate_response__init(message);
    rmj_findings_detach(&checking.findings, &message->findings, &message->n_findings);
    message->pinned = checking.pinned;
    message->sample = checking.contract.report;
    message->sample_row = checking.sample_row;
    checking.sample_row = NULL;
    checking.pinned = NULL;
    checking.contract.report = NULL;
    *reply = message;
    message = NULL;
out:
    free(message);
    free(checking.sample_row);
    if (checking.pinned != NULL) {
        rmjob__v1__plan_summary__free_unpacked(checking.pinned, NULL);
    }
    rmj_contract_deinit(&checking.contract);
    rmj_spool_close(checking.spool);
    rmj_benchmark_deinit(&checking.benchmark);
    rmj_findings_deinit(&checking.findings);
    rmj_inputs_close(&checking.inputs);
    rmj_pool_destroy(checking.pool);
    return status;
}
