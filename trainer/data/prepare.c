// The whole-set stage: files -> contract -> order -> plan object.
#include "trainer/data/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/pool.h"
#include "base/rng.h"
#include "trainer/data/contract.h"
#include "trainer/data/inputs.h"
#include "trainer/data/journal.h"
#include "trainer/data/lineage.h"
#include "trainer/data/lines.h"
#include "trainer/data/pins.h"
#include "trainer/data/prepare_internal.h"
#include "trainer/data/sources.h"
#include "trainer/model/checkpoint_io.h"

// The stream of the shuffle among the uses of train.seed ("shuffle" in ASCII).
#define SHUFFLE_STREAM 0x73687566666c65u
#define THREADS_MAX 16
#define PACKS_PER_RANK_WANTED 2u

size_t rmj_prepare_thread_count(const Rmjob__V1__JobSpec *spec)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    if (spec->resources != NULL && spec->resources->has_threads && spec->resources->threads > 0) {
        count = (long)spec->resources->threads;
    }
    return count < 1 ? 1 : count > THREADS_MAX ? THREADS_MAX : (size_t)count;
}

void rmj_prepare_add_sources(struct rmj_sources *sources, Rmjob__V1__DataSource *const *list, size_t count,
                             const char *name, struct rmj_findings *findings)
{
    for (size_t i = 0; i < count; i++) {
        char field[64];
        snprintf(field, sizeof field, "%s[%zu].path", name, i);
        struct rmj_error err = {0};
        if (list[i]->path == NULL || list[i]->path[0] == '\0') {
            rmj_findings_error(findings, field, RMJ_EXIT_SPEC, "%s is missing", field);
        } else if (!rmj_lines_name_check(list[i]->path, &err)) {
            rmj_findings_error(findings, field, RMJ_EXIT_SPEC, "%s", err.message);
        } else if (rmj_sources_add_source(sources, list[i], field, &err) != RMJ_OK) {
            rmj_findings_error(findings, field, rmj_prepare_exit_code(err.status), "%s", err.message);
        }
    }
}

void rmj_prepare_name_file(Rmjob__V1__DataFileReport *report, const struct rmj_source_file *file)
{
    report->name = file->label == NULL ? NULL : strdup(file->label);
}

unsigned rmj_prepare_exit_code(enum rmj_status status)
{
    switch (status) {
    case RMJ_INVALID:
    case RMJ_NOT_FOUND:
    case RMJ_DENIED:
        return RMJ_EXIT_SPEC;
    case RMJ_UNREACHABLE:
    case RMJ_TIMEOUT:
    case RMJ_AGAIN:
    case RMJ_IO:
        return RMJ_EXIT_INFRASTRUCTURE;
    default:
        return RMJ_EXIT_DATA;
    }
}

// The form of the file by its first row, and a warning that names the columns which nothing reads. A file that cannot
// be read says so when it is read.
static void settle_format(const struct rmj_source_file *file, struct rmj_row_format *format,
                          struct rmj_findings *findings)
{
    struct rmj_lines *lines = NULL;
    struct rmj_buf ignored;
    const char *line = NULL;
    size_t size;
    int ended;
    rmj_buf_init(&ignored, RMJ_LINE_SIZE_MAX);
    if (rmj_lines_open(&lines, file->path, file->name, NULL) == RMJ_OK &&
        rmj_lines_next(lines, &line, &size, &ended, NULL) == RMJ_OK && line != NULL) {
        rmj_row_format_settle(format, line, size, ended, 1, &ignored);
    }
    if (ignored.size > 0 && findings != NULL) {
        rmj_findings_warn(findings, file->field, "%s: columns that are not read: %s", file->name,
                          rmj_buf_text(&ignored));
    }
    rmj_buf_deinit(&ignored);
    rmj_lines_close(lines);
}

enum rmj_status rmj_prepare_read_file(const struct rmj_prepare_read *read, struct rmj_error *err)
{
    struct rmj_sources *sources = read->sources;
    const struct rmj_source_file *file = &sources->files[read->index];
    struct rmj_error own = {0};
    enum rmj_status status = rmj_sources_fetch(sources, read->index, &own);
    if (status == RMJ_OK) {
        struct rmj_row_format format = file->format;
        format.model_has_template = read->renderer->template_origin != RMJ_TEMPLATE_DEFAULT;
        // Of several files of a source, the first one's columns are told.
        int told = read->index > 0 && strcmp(sources->files[read->index - 1].field, file->field) == 0;
        settle_format(file, &format, told ? NULL : read->findings);
        struct rmj_examples_options options = {.path = file->path,
                                               .name = file->name,
                                               .format = format,
                                               .renderer = read->renderer,
                                               .pool = read->pool,
                                               .row_limit = read->row_limit,
                                               .skip_rows = read->skip_rows,
                                               .study = read->study,
                                               .keep_prompts = read->keep_prompts};
        status = rmj_examples_read(&options, read->each, read->context, read->digest, &own);
    }
    rmj_sources_release(sources, read->index);
    if (status != RMJ_OK) {
        status = rmj_findings_take(read->findings, file->field, rmj_prepare_exit_code(own.status), &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
    }
    return status;
}

// SHA-256 over the digests of files, in order.
static void combine_digests(const Rmjob__V1__DataReport *report, char hex[RMJ_DIGEST_HEX_SIZE])
{
    struct rmj_sha256 sha;
    struct rmj_digest digest;
    rmj_sha256_init(&sha);
    for (size_t i = 0; i < report->n_files; i++) {
        if (report->files[i]->sha256 != NULL && rmj_digest_from_hex(&digest, report->files[i]->sha256)) {
            rmj_sha256_update(&sha, digest.bytes, sizeof digest.bytes);
        }
    }
    rmj_sha256_final(&sha, &digest);
    rmj_digest_hex(&digest, hex);
}

// Everything one preparation holds.
struct preparation {
    const Rmjob__V1__JobSpec *spec;
    const struct rmj_prepare_options *options;
    struct rmj_prepare_progress progress;
    struct rmj_journal journal;
    struct rmj_spool *spool;
    struct rmj_study *study;
    uint64_t last_row; // of the file that is being read
    struct rmj_plan_header header;
    struct rmj_inputs inputs;
    struct rmj_sources heldout;
    struct rmj_findings findings;
    struct rmj_benchmark benchmark;
    struct rmj_contract contract;
    struct rmj_pool *pool;
    Rmjob__V1__PlanSummary *summary;
    struct rmj_digest base_digest, companions_digest;
};

static char *hex_text(const struct rmj_digest *digest)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(digest, hex);
    return strdup(hex);
}

void rmj_prepare_say_rendering(Rmjob__V1__PlanSummary *summary, const struct rmj_inputs *inputs)
{
    const struct rmj_renderer *renderer = &inputs->rendering.renderer;
    const char *text = rmj_renderer_template(renderer);
    struct rmj_digest digest;
    struct rmj_buf pad;
    rmj_buf_init(&pad, 4096);
    rmj_sha256_of(text, strlen(text), &digest);
    rmj_renderer_describe_pad(renderer, &pad);
    summary->template_digest = hex_text(&digest);
    summary->template_origin = strdup(rmj_template_origin_text(renderer->template_origin));
    summary->template_date = renderer->date[0] == '\0' ? NULL : strdup(renderer->date);
    summary->pad_token = strdup(rmj_buf_text(&pad));
    summary->has_use_margin = 1;
    summary->use_margin = inputs->use_margin;
    rmj_buf_deinit(&pad);
}

static enum rmj_status read_benchmark(struct preparation *preparation, struct rmj_error *err)
{
    if (preparation->inputs.benchmark == NULL) {
        return RMJ_OK;
    }
    static const char field[] = "evaluate.rewardbench2";
    struct rmj_error own = {0};
    enum rmj_status status = rmj_benchmark_read(&preparation->benchmark, preparation->inputs.benchmark, 1, field,
                                                &preparation->findings, &own);
    if (status != RMJ_OK) {
        status = rmj_findings_take(&preparation->findings, field, rmj_prepare_exit_code(own.status), &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
        return status;
    }
    preparation->summary->benchmark_digest = hex_text(&preparation->benchmark.digest);
    preparation->summary->has_benchmark_rows = 1;
    preparation->summary->benchmark_rows = preparation->benchmark.count;
    return RMJ_OK;
}

static void tell_progress(struct preparation *preparation)
{
    if (preparation->options->progress != NULL) {
        preparation->options->progress(preparation->options->context, &preparation->progress);
    }
}

// An rmj_example_fn. A row may hold several pairs, so what was done is made safe when the next row begins.
static enum rmj_status take_row(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct preparation *preparation = context;
    if (example->row != preparation->last_row) {
        RMJ_TRY(rmj_journal_write(&preparation->journal, &preparation->contract, preparation->progress.file,
                                  preparation->last_row, err));
        preparation->last_row = example->row;
        preparation->progress.rows++;
        tell_progress(preparation);
    }
    return rmj_contract_take(&preparation->contract, example, err);
}

enum rmj_status rmj_prepare_check_heldout(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct rmj_prepare_heldout *heldout = context;
    heldout->rows++;
    if (example->status == RMJ_OK) {
        return RMJ_OK;
    }
    enum rmj_status status = rmj_findings_take(heldout->findings, heldout->field, RMJ_EXIT_DATA, &example->err);
    if (status != RMJ_OK && err != NULL) {
        *err = example->err;
    }
    return status;
}

// Held-out rows are checked, and their prompts are what training rows must not hold.
struct heldout {
    struct rmj_prepare_heldout check;
    struct rmj_study *study;
    const char *name;
};

static enum rmj_status take_heldout(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct heldout *heldout = context;
    RMJ_TRY(rmj_prepare_check_heldout(&heldout->check, example, err));
    if (example->status != RMJ_OK || example->prompt == NULL || example->rejected_index > 0) {
        return RMJ_OK;
    }
    char id[512];
    snprintf(id, sizeof id, "%.480s:%llu", heldout->name, (unsigned long long)example->row);
    struct rmj_sketch_texts texts = {.prompt = rmj_buf_text(example->prompt), .prompt_size = example->prompt->size};
    return rmj_study_add_reference(heldout->study, "heldout", id, &texts, err);
}

static enum rmj_status read_heldout(struct preparation *preparation, struct rmj_error *err)
{
    struct rmj_sources *sources = &preparation->heldout;
    struct rmj_sha256 sha;
    struct rmj_digest digest = {0};
    enum rmj_status status = RMJ_OK;
    if (preparation->spec->data->n_heldout == 0) {
        return RMJ_OK;
    }
    rmj_sha256_init(&sha);
    for (size_t i = 0; i < sources->count; i++) {
        struct heldout heldout = {.check = {.findings = &preparation->findings, .field = sources->files[i].field},
                                  .study = preparation->study,
                                  .name = sources->files[i].name};
        RMJ_GO(rmj_prepare_read_file(&(struct rmj_prepare_read){.sources = sources,
                                                                .index = i,
                                                                .renderer = &preparation->inputs.rendering.renderer,
                                                                .pool = preparation->pool,
                                                                .keep_prompts = 1,
                                                                .each = take_heldout,
                                                                .context = &heldout,
                                                                .digest = &digest,
                                                                .findings = &preparation->findings},
                                     err));
        rmj_sha256_update(&sha, digest.bytes, sizeof digest.bytes);
    }
out:
    rmj_sha256_final(&sha, &digest);
    if (status == RMJ_OK) {
        preparation->summary->heldout_digest = hex_text(&digest);
    }
    return status;
}

// The study's references: prompts of the benchmark here, of held-out rows as they are read.
static enum rmj_status begin_study(struct preparation *preparation, uint32_t resume_pair_count, struct rmj_error *err)
{
    struct rmj_study_options options = {.temporary_directory = preparation->options->directory,
                                        .memory_bytes_max = preparation->options->study_bytes_max,
                                        .resume_pair_count = resume_pair_count};
    RMJ_TRY(rmj_study_create(&preparation->study, &options, err));
    preparation->contract.options.study = preparation->study;
    for (size_t i = 0; i < preparation->benchmark.count; i++) {
        const struct rmj_benchmark_row *row = &preparation->benchmark.rows[i];
        struct rmj_sketch_texts texts = {.prompt = row->prompt, .prompt_size = strlen(row->prompt)};
        RMJ_TRY(rmj_study_add_reference(preparation->study, "rewardbench2", row->id, &texts, err));
    }
    return read_heldout(preparation, err);
}

static const char *source_name(const struct rmj_source_file *file)
{
    return file->label != NULL ? file->label : file->name;
}

// The spool, the study and the journal; where a killed preparation was, when there was one.
static enum rmj_status begin_reading(struct preparation *preparation, const struct rmj_sources *sources,
                                     size_t *first_file, uint64_t *skip_rows, struct rmj_error *err)
{
    const char *directory = preparation->options->directory;
    struct rmj_digest spec;
    struct rmj_error own = {0};
    *first_file = 0;
    *skip_rows = 0;
    rmj_spec_digest(preparation->spec, &spec);
    const Rmjob__V1__DataSpec *data = preparation->spec->data;
    rmj_prepare_add_sources(&preparation->heldout, data->heldout, data->n_heldout, "data.heldout",
                            &preparation->findings);
    rmj_journal_init(&preparation->journal,
                     &(struct rmj_journal_options){.directory = directory,
                                                   .spec = &spec,
                                                   .companions = &preparation->companions_digest,
                                                   .benchmark = &preparation->benchmark.digest,
                                                   .train = sources,
                                                   .heldout = &preparation->heldout,
                                                   .interval_ms = preparation->options->journal_ms});
    enum rmj_status status =
        rmj_journal_resume(&preparation->journal, &preparation->contract, first_file, skip_rows, &own);
    if (status == RMJ_OK) {
        preparation->spool = preparation->contract.options.spool;
        preparation->progress.resumed = 1;
        const Rmjob__V1__DataReport *report = preparation->contract.report;
        for (size_t i = 0; i < report->n_files; i++) {
            preparation->progress.rows += report->files[i]->rows;
        }
        if (*first_file < sources->count) {
            preparation->contract.file_field = sources->files[*first_file].field;
        }
        RMJ_TRY(begin_study(preparation, rmj_spool_pair_count(preparation->spool), err));
        for (size_t i = 0; i <= *first_file && i < sources->count; i++) {
            RMJ_TRY(rmj_study_begin_source(preparation->study, source_name(&sources->files[i]), err));
        }
        return RMJ_OK;
    }
    if (status != RMJ_NOT_FOUND) {
        if (err != NULL) {
            *err = own;
        }
        return status;
    }
    RMJ_TRY(rmj_spool_create(&preparation->spool, directory, err));
    preparation->contract.options.spool = preparation->spool;
    return begin_study(preparation, 0, err);
}

static enum rmj_status read_train_file(struct preparation *preparation, struct rmj_sources *sources, size_t index,
                                       uint64_t skip_rows, int begun, struct rmj_error *err)
{
    struct rmj_digest digest = {0};
    size_t errors = preparation->findings.error_count;
    const struct rmj_source_file *file = &sources->files[index];
    if (!begun) {
        rmj_contract_begin_file(&preparation->contract, file->name, file->field);
        rmj_prepare_name_file(preparation->contract.file, file);
        RMJ_TRY(rmj_study_begin_source(preparation->study, source_name(file), err));
    }
    preparation->progress.file = index;
    preparation->last_row = skip_rows;
    RMJ_TRY(rmj_prepare_read_file(&(struct rmj_prepare_read){.sources = sources,
                                                             .index = index,
                                                             .renderer = &preparation->inputs.rendering.renderer,
                                                             .pool = preparation->pool,
                                                             .skip_rows = skip_rows,
                                                             .study = preparation->study,
                                                             .each = take_row,
                                                             .context = preparation,
                                                             .digest = &digest,
                                                             .findings = &preparation->findings},
                                  err));
    if (preparation->findings.error_count == errors) {
        free(preparation->contract.file->sha256);
        preparation->contract.file->sha256 = hex_text(&digest);
    }
    return RMJ_OK;
}

static void judge_count(struct preparation *preparation)
{
    const Rmjob__V1__DataReport *report = preparation->contract.report;
    uint32_t batch = preparation->inputs.global_batch_pairs, count = rmj_spool_pair_count(preparation->spool);
    if (count < batch) {
        rmj_findings_warn(&preparation->findings, "train.global_batch_pairs",
                          "the %u pairs are fewer than one batch of %u: one step is all the training there is", count,
                          batch);
    }
    if (count == 0 && preparation->findings.error_count == 0) {
        rmj_findings_error(&preparation->findings, "data.train", RMJ_EXIT_DATA,
                           "no pair is left of %llu rows: %llu over length, %llu with equal sides, %llu duplicates",
                           (unsigned long long)report->rows, (unsigned long long)report->dropped_over_length,
                           (unsigned long long)report->dropped_identical_sides,
                           (unsigned long long)report->dropped_duplicate);
    }
}

static enum rmj_status read_train(struct preparation *preparation, struct rmj_error *err)
{
    const Rmjob__V1__DataSpec *data = preparation->spec->data;
    struct rmj_sources sources = {0};
    size_t first_file;
    uint64_t skip_rows;
    enum rmj_status status = RMJ_OK;
    if (data == NULL || data->n_train == 0) {
        rmj_findings_error(&preparation->findings, "data.train", RMJ_EXIT_SPEC, "data.train names no file");
        return RMJ_OK;
    }
    rmj_prepare_add_sources(&sources, data->train, data->n_train, "data.train", &preparation->findings);
    preparation->progress.file_count = sources.count;
    RMJ_GO(begin_reading(preparation, &sources, &first_file, &skip_rows, err));
    for (size_t i = first_file; i < sources.count; i++) {
        int begun = preparation->progress.resumed && i == first_file;
        RMJ_GO(read_train_file(preparation, &sources, i, begun ? skip_rows : 0, begun, err));
    }
    RMJ_GO(rmj_study_finish(preparation->study, preparation->contract.report, err));
    rmj_contract_finish(&preparation->contract);
    rmj_contract_check_duplicates(&preparation->contract);
    judge_count(preparation);
out:
    // Released last: findings were given the field names by then.
    rmj_sources_deinit(&sources);
    preparation->contract.file_field = NULL;
    return status;
}

static uint32_t *make_order(const struct preparation *preparation)
{
    uint32_t count = rmj_spool_pair_count(preparation->spool);
    uint32_t *order = malloc(count * sizeof *order);
    RMJ_ASSERT(order != NULL);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = i;
    }
    const Rmjob__V1__DataSpec *data = preparation->spec->data;
    if (!data->has_order || data->order == RMJOB__V1__DATA_ORDER__shuffled) {
        const Rmjob__V1__TrainSpec *train = preparation->spec->train;
        struct rmj_rng rng;
        rmj_rng_init(&rng, train != NULL && train->has_seed ? train->seed : 0, SHUFFLE_STREAM);
        rmj_rng_shuffle(&rng, order, count);
    }
    return order;
}

static enum rmj_status write_plan(struct preparation *preparation, int fd, struct rmj_digest *digest,
                                  struct rmj_error *err)
{
    const struct rmj_contract *contract = &preparation->contract;
    const struct rmj_renderer *renderer = &preparation->inputs.rendering.renderer;
    const char **paths = malloc(contract->report->n_files * sizeof *paths);
    uint32_t *order = make_order(preparation);
    RMJ_ASSERT(paths != NULL);
    for (size_t i = 0; i < contract->report->n_files; i++) {
        paths[i] = contract->report->files[i]->path;
    }
    struct rmj_plan_input input = {
        .spool = preparation->spool,
        .order = order,
        .paths = paths,
        .file_count = (uint32_t)contract->report->n_files,
        .global_batch_pairs = preparation->inputs.global_batch_pairs,
        .vocabulary_size = renderer->vocabulary_size,
        // A row costs about 24 C^2 multiplications a layer, an attended position 4 C.
        .attention_divisor = 6 * preparation->inputs.config.hidden_width,
        .pad_token = renderer->pad,
        .vocabulary_grows = renderer->vocabulary_grows,
        .base_digest = preparation->base_digest,
        .companions_digest = preparation->companions_digest,
    };
    const Rmjob__V1__PlanSummary *summary = preparation->summary;
    if (summary->benchmark_digest != NULL) {
        RMJ_ASSERT(rmj_digest_from_hex(&input.benchmark_digest, summary->benchmark_digest));
    }
    if (summary->heldout_digest != NULL) {
        RMJ_ASSERT(rmj_digest_from_hex(&input.heldout_digest, summary->heldout_digest));
    }
    rmj_spec_digest(preparation->spec, &input.spec_digest);
    enum rmj_status status = rmj_plan_write(&input, fd, &preparation->header, digest, err);
    free(order);
    free(paths);
    return status;
}

static enum rmj_status summarize(struct preparation *preparation, const struct rmj_digest *object,
                                 struct rmj_error *err)
{
    Rmjob__V1__PlanSummary *summary = preparation->summary;
    const struct rmj_plan_header header = preparation->header;
    uint64_t tokens = header.sections[RMJ_PLAN_TOKENS].size / sizeof(int32_t);
    struct rmj_plan_shape shape = {
        .row_count = header.row_count,
        .packs_per_step_bound = header.packs_per_step_bound,
        .embedding_row_count_max = header.embedding_row_count_max,
        .item_count_max = header.item_count_max,
        .branch_count_max = header.branch_count_max,
        .vocabulary_grows = (int)header.vocabulary_grows,
        .packs = header.pack_count,
        .tokens = tokens,
    };
    struct rmj_needs needs;
    RMJ_TRY(rmj_inputs_needs(&preparation->inputs, &shape, &needs, err));
    struct rmj_digest digest;
    memcpy(digest.bytes, header.pairs_sum, sizeof digest.bytes);
    summary->pairs_sum = hex_text(&digest);
    summary->digest = hex_text(object);
    summary->has_pairs = summary->has_steps = summary->has_pack_tokens = summary->has_packs_per_step_bound = 1;
    summary->has_packs = summary->has_fill = summary->has_pages = summary->has_parameters = 1;
    summary->has_memory_bytes = 1;
    summary->pairs = header.pair_count;
    summary->steps = header.step_count;
    summary->pack_tokens = header.row_count;
    summary->packs_per_step_bound = header.packs_per_step_bound;
    summary->packs = header.pack_count;
    summary->fill = (double)tokens / ((double)header.pack_count * header.row_count);
    summary->pages = needs.pages;
    summary->parameters = needs.parameters;
    summary->memory_bytes = needs.memory_bytes;
    rmj_inputs_check_memory(&preparation->inputs, needs.memory_bytes, &preparation->findings);
    if (header.pack_count_max < PACKS_PER_RANK_WANTED * preparation->inputs.max_ranks) {
        rmj_findings_warn(&preparation->findings, "elastic.max_ranks",
                          "a step has at most %u packs of %u tokens, too few for %u ranks to share evenly",
                          header.pack_count_max, header.row_count, preparation->inputs.max_ranks);
    }
    return RMJ_OK;
}

static enum rmj_status store_plan(const struct preparation *preparation, struct rmj_store *store, const char *prefix,
                                  const char *path, const struct rmj_digest *digest, struct rmj_error *err)
{
    struct rmj_buf key;
    rmj_buf_init(&key, 4096);
    size_t length = strlen(prefix);
    rmj_buf_printf(&key, "%s%splan/%s", prefix, length > 0 && prefix[length - 1] != '/' ? "/" : "",
                   preparation->summary->digest);
    enum rmj_status status = rmj_buf_check(&key, err);
    if (status == RMJ_OK) {
        // Named by content: putting it again is harmless, and mends a damaged one.
        status = rmj_store_put_file(store, key.bytes, path, RMJ_PUT_ANY, digest, err);
    }
    rmj_buf_deinit(&key);
    return status;
}

// An empty file for the plan, and a path by which this process can open it.
static int open_plan_file(const struct preparation *preparation, char *path, size_t size)
{
    const char *directory = preparation->options->directory;
    int fd;
    if (directory == NULL) {
        fd = memfd_create("plan", MFD_CLOEXEC);
        snprintf(path, size, "/proc/self/fd/%d", fd);
        return fd;
    }
    snprintf(path, size, "%s/plan", directory);
    return open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static enum rmj_status make_plan(struct preparation *preparation, struct rmj_store *store, const char *prefix,
                                 struct rmj_error *err)
{
    char path[4096];
    struct rmj_digest digest;
    struct rmj_error own = {0};
    int fd = open_plan_file(preparation, path, sizeof path);
    if (fd < 0) {
        return rmj_fail(err, RMJ_IO, "cannot make %s: %s", path, strerror(errno));
    }
    preparation->progress.writing = 1;
    tell_progress(preparation);
    // The table of seen pairs is not needed any more, and the writer needs room.
    rmj_seen_deinit(&preparation->contract.seen);
    enum rmj_status status = write_plan(preparation, fd, &digest, &own);
    if (status != RMJ_OK) {
        status = rmj_findings_take(&preparation->findings, "train.global_batch_pairs", RMJ_EXIT_DATA, &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
        goto out;
    }
    RMJ_GO(summarize(preparation, &digest, err));
    if (preparation->findings.error_count == 0) {
        RMJ_GO(store_plan(preparation, store, prefix, path, &digest, err));
    }
out:
    close(fd);
    return status;
}

static enum rmj_status pin(struct preparation *preparation, struct rmj_error *err)
{
    Rmjob__V1__PlanSummary *summary = preparation->summary;
    char hex[RMJ_DIGEST_HEX_SIZE];
    const char *base = preparation->spec->base_model;
    RMJ_TRY(rmj_model_files_digest(base, RMJ_MODEL_WHOLE, &preparation->base_digest, err));
    summary->base_digest = hex_text(&preparation->base_digest);
    rmj_prepare_say_rendering(summary, &preparation->inputs);
    combine_digests(preparation->contract.report, hex);
    summary->data_digest = strdup(hex);
    return RMJ_OK;
}

static enum rmj_status prepare(struct preparation *preparation, struct rmj_store *store, const char *prefix,
                               struct rmj_error *err)
{
    const struct rmj_inputs *inputs = &preparation->inputs;
    RMJ_TRY(rmj_inputs_open(&preparation->inputs, preparation->spec, &preparation->findings, err));
    RMJ_TRY(read_benchmark(preparation, err));
    struct rmj_contract_options options = {
        .max_length = inputs->max_length,
        .over_length = inputs->over_length,
        .use_margin = inputs->use_margin,
        .bos = inputs->rendering.renderer.bos,
        .refuse_duplicates = inputs->refuse_duplicates,
        .benchmark = preparation->benchmark.count > 0 ? &preparation->benchmark : NULL,
    };
    rmj_contract_init(&preparation->contract, &options, &preparation->findings);
    if (!inputs->usable) {
        return RMJ_OK;
    }
    RMJ_TRY(rmj_pins_companions(preparation->spec, &preparation->companions_digest, err));
    RMJ_TRY(rmj_benchmark_check_rows(&preparation->benchmark, SIZE_MAX, &inputs->rendering.renderer,
                                     "evaluate.rewardbench2", &preparation->findings, err));
    RMJ_TRY(read_train(preparation, err));
    if (preparation->spool != NULL) {
        RMJ_TRY(rmj_lineage_check(preparation->spec->base_model, &preparation->contract, "pairs", err));
    }
    if (preparation->findings.error_count > 0) {
        return RMJ_OK;
    }
    RMJ_TRY(pin(preparation, err));
    return make_plan(preparation, store, prefix, err);
}

enum rmj_status rmj_prepare(const Rmjob__V1__JobSpec *spec, struct rmj_store *store, const char *prefix,
                            const struct rmj_prepare_options *options, Rmjob__V1__PreparedRequest **result,
                            struct rmj_error *err)
{
    struct preparation preparation = {.spec = spec, .options = options, .summary = malloc(sizeof *preparation.summary)};
    Rmjob__V1__PreparedRequest *message = malloc(sizeof *message);
    RMJ_ASSERT(message != NULL && preparation.summary != NULL);
    rmjob__v1__plan_summary__init(preparation.summary);
    rmj_findings_init(&preparation.findings);
    *result = NULL;
    size_t threads = options->thread_count > 0 ? options->thread_count : rmj_prepare_thread_count(spec);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_pool_create(&preparation.pool, threads, NULL, err));
    RMJ_GO(prepare(&preparation, store, prefix, err));
    rmjob__v1__prepared_request__init(message);
    int good = preparation.findings.error_count == 0;
    rmj_findings_detach(&preparation.findings, &message->findings, &message->n_findings);
    message->data = preparation.contract.report;
    preparation.contract.report = NULL;
    if (good) {
        message->plan = preparation.summary;
        preparation.summary = NULL;
    }
    *result = message;
    message = NULL;
out:
    free(message);
    if (preparation.summary != NULL) {
        rmjob__v1__plan_summary__free_unpacked(preparation.summary, NULL);
    }
    rmj_contract_deinit(&preparation.contract);
    rmj_spool_close(preparation.spool);
    rmj_study_destroy(preparation.study);
    rmj_benchmark_deinit(&preparation.benchmark);
    rmj_sources_deinit(&preparation.heldout);
    rmj_findings_deinit(&preparation.findings);
    rmj_inputs_close(&preparation.inputs);
    rmj_pool_destroy(preparation.pool);
    return status;
}
