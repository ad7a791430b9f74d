#include "trainer/data/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/lineage.h"
#include "trainer/data/packer.h"

#define SIDE_KEY_SIZE (RMJ_DIGEST_SIZE / 2)
// More duplicates than half of the rows are no data set; of a handful of rows nothing is said.
#define DUPLICATES_ROWS_MIN 16u
// A share of near duplicates that people are told of: nearly a second epoch for them.
#define NEAR_DUPLICATES_TOLD 0.05

enum kind {
    IDENTICAL_SIDES,
    DUPLICATE,
    SWAPPED,
    OVER_LENGTH,
    TRUNCATED,
    CONTAMINATION,
    SPECIAL_IN_TEXT,
    EMPTY_SIDE,
};
static const char *const kind_names[] = {
    [IDENTICAL_SIDES] = "identical_sides", [DUPLICATE] = "duplicate",   [SWAPPED] = "swapped",
    [OVER_LENGTH] = "over_length",         [TRUNCATED] = "truncated",   [CONTAMINATION] = "contamination",
    [SPECIAL_IN_TEXT] = "special_in_text", [EMPTY_SIDE] = "empty_side",
};
_Static_assert(RMJ_COUNT(kind_names) == RMJ_COUNT(((struct rmj_contract *)0)->sums.issue_counts),
               "a count for every kind");

static int by_prompt_key(const void *a, const void *b)
{
    return memcmp(a, b, RMJ_PROMPT_KEY_SIZE);
}

void rmj_contract_init(struct rmj_contract *contract, const struct rmj_contract_options *options,
                       struct rmj_findings *findings)
{
    *contract = (struct rmj_contract){.options = *options, .findings = findings};
    contract->report = malloc(sizeof *contract->report);
    RMJ_ASSERT(contract->report != NULL);
    rmj_seen_init(&contract->seen);
    rmjob__v1__data_report__init(contract->report);
    contract->report->issues =
        calloc(RMJ_COUNT(kind_names) * RMJ_ISSUES_PER_KIND_MAX, sizeof *contract->report->issues);
    contract->report->files = calloc(1, sizeof *contract->report->files);
    const struct rmj_benchmark *benchmark = options->benchmark;
    if (benchmark != NULL) {
        contract->prompt_keys = malloc((benchmark->count + 1) * sizeof *contract->prompt_keys);
        RMJ_ASSERT(contract->prompt_keys != NULL);
        for (size_t i = 0; i < benchmark->count; i++) {
            const char *prompt = benchmark->rows[i].prompt;
            contract->prompt_key_count +=
                (size_t)rmj_prompt_key(prompt, strlen(prompt), contract->prompt_keys[contract->prompt_key_count]);
        }
        qsort(contract->prompt_keys, contract->prompt_key_count, sizeof *contract->prompt_keys, by_prompt_key);
    }
}

void rmj_contract_deinit(struct rmj_contract *contract)
{
    if (contract->report != NULL) {
        rmjob__v1__data_report__free_unpacked(contract->report, NULL);
    }
    rmj_seen_deinit(&contract->seen);
    free(contract->tokens);
    free(contract->prompt_keys);
    *contract = (struct rmj_contract){0};
}

void rmj_contract_restore(struct rmj_contract *contract, Rmjob__V1__DataReport *report,
                          const struct rmj_contract_sums *sums)
{
    Rmjob__V1__DataReport *old = contract->report;
    // Room for as many examples as a new report has.
    report->issues = realloc(report->issues, RMJ_COUNT(kind_names) * RMJ_ISSUES_PER_KIND_MAX * sizeof *report->issues);
    RMJ_ASSERT(report->issues != NULL && report->n_issues <= RMJ_COUNT(kind_names) * RMJ_ISSUES_PER_KIND_MAX);
    contract->report = report;
    contract->sums = *sums;
    if (report->n_files > 0) {
        contract->file = report->files[report->n_files - 1];
        contract->file_name = contract->file->path;
    }
    rmjob__v1__data_report__free_unpacked(old, NULL);
}

void rmj_contract_begin_file(struct rmj_contract *contract, const char *name, const char *field)
{
    Rmjob__V1__DataReport *report = contract->report;
    Rmjob__V1__DataFileReport *file = malloc(sizeof *file);
    report->files = realloc(report->files, (report->n_files + 1) * sizeof *report->files);
    RMJ_ASSERT(file != NULL && report->files != NULL);
    rmjob__v1__data_file_report__init(file);
    file->path = strdup(name);
    file->has_rows = file->has_accepted = file->has_dropped_over_length = file->has_truncated = 1;
    file->has_dropped_duplicate = file->has_dropped_identical_sides = 1;
    report->files[report->n_files++] = file;
    // From the start: what is not marked as there is lost when the journal packs the report.
    report->has_swapped = report->has_longest_side_tokens = 1;
    report->has_contaminated = contract->options.benchmark != NULL;
    contract->file = file;
    contract->file_name = file->path;
    contract->file_field = field;
}

static void note(struct rmj_contract *contract, enum kind kind, uint64_t row, const char *detail)
{
    Rmjob__V1__DataReport *report = contract->report;
    if (contract->sums.issue_counts[kind] == RMJ_ISSUES_PER_KIND_MAX) {
        return;
    }
    contract->sums.issue_counts[kind]++;
    Rmjob__V1__DataIssue *issue = malloc(sizeof *issue);
    RMJ_ASSERT(issue != NULL);
    rmjob__v1__data_issue__init(issue);
    issue->kind = strdup(kind_names[kind]);
    issue->path = strdup(contract->file_name);
    issue->has_row = 1;
    issue->row = row;
    if (contract->rejected_count > 1) {
        RMJ_ASSERT(asprintf(&issue->detail, "%s (rejected answer %u of %u)", detail, contract->rejected_index + 1,
                            contract->rejected_count) > 0);
    } else {
        issue->detail = strdup(detail);
    }
    report->issues[report->n_issues++] = issue;
}

static int equal_sides(const struct rmj_example *example)
{
    return example->chosen.count == example->rejected.count &&
           memcmp(example->chosen.ids, example->rejected.ids, example->chosen.count * sizeof(int32_t)) == 0;
}

size_t rmj_contract_begins_with_bos(const struct rmj_contract_options *options, const struct rmj_example *example)
{
    int32_t bos = options->bos;
    return bos >= 0 && example->chosen.ids[0] == bos && example->rejected.ids[0] == bos;
}

static size_t longer_side(const struct rmj_example *example)
{
    return example->chosen.count > example->rejected.count ? example->chosen.count : example->rejected.count;
}

int rmj_contract_fit(const struct rmj_contract_options *options, const struct rmj_example *example, size_t *cut)
{
    size_t longest = longer_side(example), max = options->max_length;
    *cut = 0;
    if (longest <= max) {
        return 1;
    }
    if (options->over_length == RMJOB__V1__OVER_LENGTH__truncate_prompt) {
        size_t marks = rmj_contract_begins_with_bos(options, example);
        size_t shared = rmj_pack_common_prefix(example->chosen.ids, example->chosen.count, example->rejected.ids,
                                               example->rejected.count);
        if (shared >= marks && longest - max <= shared - marks) {
            *cut = longest - max;
            return 1;
        }
    }
    return 0;
}

// 1 when the pair goes on.
static int fit_length(struct rmj_contract *contract, const struct rmj_example *example, size_t *cut)
{
    char detail[120];
    int fits = rmj_contract_fit(&contract->options, example, cut);
    if (fits && *cut == 0) {
        return 1;
    }
    snprintf(detail, sizeof detail, "chosen has %zu tokens, rejected %zu, max_length is %u", example->chosen.count,
             example->rejected.count, contract->options.max_length);
    if (fits) {
        contract->file->truncated++;
        note(contract, TRUNCATED, example->row, detail);
        return 1;
    }
    contract->file->dropped_over_length++;
    note(contract, OVER_LENGTH, example->row, detail);
    if (contract->options.over_length == RMJOB__V1__OVER_LENGTH__error) {
        rmj_findings_error(contract->findings, contract->file_field, RMJ_EXIT_DATA, "%s:%llu: %s", contract->file_name,
                           (unsigned long long)example->row, detail);
    }
    return 0;
}

static void side_key(uint8_t *key, const int32_t *ids, size_t count)
{
    struct rmj_digest digest;
    rmj_sha256_of(ids, count * sizeof *ids, &digest);
    memcpy(key, digest.bytes, SIDE_KEY_SIZE);
}

static enum rmj_status found_at(struct rmj_contract *contract, uint32_t pair, char *text, size_t size, const char *what,
                                struct rmj_error *err)
{
    struct rmj_spool_record found;
    RMJ_TRY(rmj_spool_records(contract->options.spool, pair, 1, &found, err));
    snprintf(text, size, "%s %s:%llu", what, contract->report->files[found.pair.file]->path,
             (unsigned long long)found.pair.row);
    return RMJ_OK;
}

static enum rmj_status drop_duplicate(struct rmj_contract *contract, uint64_t row, uint32_t pair, struct rmj_error *err)
{
    char detail[400];
    RMJ_TRY(found_at(contract, pair, detail, sizeof detail, "the same pair as", err));
    contract->file->dropped_duplicate++;
    note(contract, DUPLICATE, row, detail);
    if (contract->options.refuse_duplicates) {
        rmj_findings_error(contract->findings, contract->file_field, RMJ_EXIT_DATA,
                           "%s:%llu: %s, a second epoch; remove it, or set data.duplicates: drop_duplicates",
                           contract->file_name, (unsigned long long)row, detail);
    }
    return RMJ_OK;
}

// 1 in *before when the same pair was accepted before. A swapped one is counted and goes on.
static enum rmj_status look_back(struct rmj_contract *contract, uint64_t row, const uint8_t key[RMJ_DIGEST_SIZE],
                                 int *before, struct rmj_error *err)
{
    struct rmj_spool *spool = contract->options.spool;
    uint8_t swapped[RMJ_DIGEST_SIZE];
    uint32_t found;
    char detail[400];
    RMJ_TRY(rmj_seen_find(&contract->seen, spool, key, &found, err));
    *before = found != 0;
    if (found != 0) {
        return drop_duplicate(contract, row, found - 1, err);
    }
    memcpy(swapped, key + SIDE_KEY_SIZE, SIDE_KEY_SIZE);
    memcpy(swapped + SIDE_KEY_SIZE, key, SIDE_KEY_SIZE);
    RMJ_TRY(rmj_seen_find(&contract->seen, spool, swapped, &found, err));
    if (found != 0) {
        RMJ_TRY(found_at(contract, found - 1, detail, sizeof detail, "chosen and rejected exchanged against", err));
        contract->report->swapped++;
        note(contract, SWAPPED, row, detail);
    }
    return RMJ_OK;
}

static enum rmj_status make_room(struct rmj_contract *contract, size_t rows, struct rmj_error *err)
{
    if (rows > contract->token_room) {
        int32_t *tokens = realloc(contract->tokens, 2 * rows * sizeof *tokens);
        if (tokens == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu tokens", 2 * rows);
        }
        contract->tokens = tokens;
        contract->token_room = 2 * rows;
    }
    return RMJ_OK;
}

// A side's tokens without the `cut` ones after the BOS; returns their end.
static int32_t *lay_side(int32_t *at, const struct rmj_tokens *side, size_t marks, size_t cut)
{
    size_t head = cut > 0 ? marks : side->count;
    memcpy(at, side->ids, head * sizeof *at);
    if (cut > 0) {
        memcpy(at + head, side->ids + marks + cut, (side->count - marks - cut) * sizeof *at);
    }
    return at + (side->count - cut);
}

static void count_accepted(struct rmj_contract *contract, const struct rmj_plan_pair *pair)
{
    Rmjob__V1__DataReport *report = contract->report;
    uint32_t chosen = pair->prefix_count + pair->chosen_count, rejected = pair->prefix_count + pair->rejected_count;
    uint32_t longest = chosen > rejected ? chosen : rejected;
    contract->file->accepted++;
    contract->sums.chosen_tokens += chosen;
    contract->sums.rejected_tokens += rejected;
    contract->sums.prefix_tokens += pair->prefix_count;
    contract->sums.chosen_longer += chosen > rejected;
    if (longest > report->longest_side_tokens) {
        report->longest_side_tokens = longest;
    }
}

static void look_for_benchmark(struct rmj_contract *contract, const struct rmj_example *example)
{
    if (example->has_prompt_key && contract->prompt_key_count > 0 &&
        bsearch(example->prompt_key, contract->prompt_keys, contract->prompt_key_count, sizeof *contract->prompt_keys,
                by_prompt_key) != NULL) {
        contract->report->contaminated++;
        note(contract, CONTAMINATION, example->row, "the prompt is also in RewardBench 2");
    }
}

static enum rmj_status accept(struct rmj_contract *contract, const struct rmj_example *example, size_t cut,
                              struct rmj_error *err)
{
    size_t marks = rmj_contract_begins_with_bos(&contract->options, example);
    size_t chosen = example->chosen.count - cut, rejected = example->rejected.count - cut;
    uint32_t prefix = rmj_pack_common_prefix(example->chosen.ids, example->chosen.count, example->rejected.ids,
                                             example->rejected.count) -
                      (uint32_t)cut;
    RMJ_TRY(make_room(contract, chosen + rejected, err));
    // The whole sides first: their keys are taken from here, then the pair is laid out in their place.
    int32_t *second = lay_side(contract->tokens, &example->chosen, marks, cut);
    (void)lay_side(second, &example->rejected, marks, cut);
    uint8_t key[RMJ_DIGEST_SIZE];
    int before;
    side_key(key, contract->tokens, chosen);
    side_key(key + SIDE_KEY_SIZE, second, rejected);
    RMJ_TRY(look_back(contract, example->row, key, &before, err));
    if (before) {
        return RMJ_OK;
    }
    memmove(second, second + prefix, (rejected - prefix) * sizeof *second);
    struct rmj_plan_pair pair = {
        .row = example->row,
        .lineage_id = rmj_lineage_pair_id(&example->chosen, &example->rejected),
        .file = (uint32_t)contract->report->n_files - 1,
        .prefix_count = prefix,
        .chosen_count = (uint32_t)chosen - prefix,
        .rejected_count = (uint32_t)rejected - prefix,
        .margin = contract->options.use_margin ? example->margin : 0,
    };
    RMJ_TRY(rmj_spool_add(contract->options.spool, &pair, key, contract->tokens, err));
    RMJ_TRY(rmj_seen_add(&contract->seen, contract->options.spool, key, err));
    if (contract->options.study != NULL) {
        RMJ_TRY(rmj_study_take(contract->options.study,
                               &(struct rmj_study_pair){.sketch = &example->sketch,
                                                        .path = contract->file_name,
                                                        .row = example->row,
                                                        .chosen_tokens = (uint32_t)chosen,
                                                        .rejected_tokens = (uint32_t)rejected},
                               err));
    }
    count_accepted(contract, &pair);
    look_for_benchmark(contract, example);
    return RMJ_OK;
}

enum rmj_status rmj_contract_take(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct rmj_contract *contract = context;
    contract->file->rows += example->rejected_index == 0;
    contract->rejected_index = example->rejected_index;
    contract->rejected_count = example->rejected_count;
    if (example->status != RMJ_OK) {
        if (example->status != RMJ_DATA && example->status != RMJ_FULL) {
            if (err != NULL) {
                *err = example->err;
            }
            return example->status;
        }
        rmj_findings_error(contract->findings, contract->file_field, RMJ_EXIT_DATA, "%s", example->err.message);
        return RMJ_OK;
    }
    if (contract->options.use_margin && !example->has_margin) {
        rmj_findings_error(contract->findings, contract->file_field, RMJ_EXIT_DATA,
                           "%s:%llu: no margin; train.use_margin needs a number in every row", contract->file_name,
                           (unsigned long long)example->row);
        return RMJ_OK;
    }
    contract->sums.unused_margins += !contract->options.use_margin && example->has_margin;
    if (example->special_count > 0) {
        char detail[80];
        snprintf(detail, sizeof detail, "%u special tokens inside the text", example->special_count);
        contract->sums.special_rows++;
        note(contract, SPECIAL_IN_TEXT, example->row, detail);
    }
    if (example->empty_side) {
        note(contract, EMPTY_SIDE, example->row, "a side's last turn is empty");
    }
    if (equal_sides(example)) {
        contract->file->dropped_identical_sides++;
        note(contract, IDENTICAL_SIDES, example->row, "chosen and rejected are the same");
        return RMJ_OK;
    }
    size_t cut;
    return fit_length(contract, example, &cut) ? accept(contract, example, cut, err) : RMJ_OK;
}

static void sum_files(Rmjob__V1__DataReport *report)
{
    for (size_t i = 0; i < report->n_files; i++) {
        const Rmjob__V1__DataFileReport *file = report->files[i];
        report->rows += file->rows;
        report->pairs += file->accepted;
        report->dropped_over_length += file->dropped_over_length;
        report->truncated += file->truncated;
        report->dropped_duplicate += file->dropped_duplicate;
        report->dropped_identical_sides += file->dropped_identical_sides;
    }
    report->has_rows = report->has_pairs = report->has_dropped_over_length = report->has_truncated = 1;
    report->has_dropped_duplicate = report->has_dropped_identical_sides = 1;
}

static void warn(const struct rmj_contract *contract)
{
    const Rmjob__V1__DataReport *report = contract->report;
    struct rmj_findings *findings = contract->findings;
    if (contract->sums.special_rows > 0) {
        rmj_findings_warn(findings, "data.train", "%llu rows hold special tokens inside their text (special_in_text)",
                          (unsigned long long)contract->sums.special_rows);
    }
    if (contract->sums.unused_margins > 0) {
        rmj_findings_error(findings, "train.use_margin", RMJ_EXIT_DATA,
                           "%llu rows have a margin, which would change the loss: set train.use_margin: true to train "
                           "with it, or leave the column out",
                           (unsigned long long)contract->sums.unused_margins);
    }
    if (report->contaminated > 0) {
        rmj_findings_warn(findings, "data.train", "%llu pairs have a prompt of RewardBench 2 (contamination)",
                          (unsigned long long)report->contaminated);
    }
    if (report->heldout_overlap > 0) {
        rmj_findings_warn(findings, "data.heldout",
                          "%llu training pairs share text with held-out rows (%llu the whole prompt): the held-out "
                          "accuracy will flatter",
                          (unsigned long long)report->heldout_overlap, (unsigned long long)report->heldout_same_prompt);
    }
    if (report->near_duplicate_share > NEAR_DUPLICATES_TOLD) {
        rmj_findings_warn(findings, "data.train", "%llu pairs (%.0f %%) nearly repeat an earlier one (near_duplicates)",
                          (unsigned long long)report->near_duplicates, 100 * report->near_duplicate_share);
    }
    if (report->swapped > 0) {
        rmj_findings_warn(findings, "data.train", "%llu pairs occur again with their sides exchanged (swapped)",
                          (unsigned long long)report->swapped);
    }
}

void rmj_contract_finish(struct rmj_contract *contract)
{
    Rmjob__V1__DataReport *report = contract->report;
    sum_files(report);
    double pairs = rmj_spool_pair_count(contract->options.spool);
    if (pairs > 0) {
        report->has_mean_chosen_tokens = report->has_mean_rejected_tokens = report->has_chosen_longer_share = 1;
        report->has_mean_shared_prefix_tokens = report->has_shared_token_share = 1;
        report->mean_chosen_tokens = (double)contract->sums.chosen_tokens / pairs;
        report->mean_rejected_tokens = (double)contract->sums.rejected_tokens / pairs;
        report->chosen_longer_share = (double)contract->sums.chosen_longer / pairs;
        report->mean_shared_prefix_tokens = (double)contract->sums.prefix_tokens / pairs;
        report->shared_token_share = (double)contract->sums.prefix_tokens /
                                     (double)(contract->sums.chosen_tokens + contract->sums.rejected_tokens);
    }
    warn(contract);
}

void rmj_contract_check_duplicates(const struct rmj_contract *contract)
{
    const Rmjob__V1__DataReport *report = contract->report;
    if (report->rows < DUPLICATES_ROWS_MIN || report->dropped_duplicate * 2 <= report->rows) {
        return;
    }
    const Rmjob__V1__DataIssue *first = NULL;
    for (size_t i = 0; i < report->n_issues && first == NULL; i++) {
        first = strcmp(report->issues[i]->kind, kind_names[DUPLICATE]) == 0 ? report->issues[i] : NULL;
    }
    RMJ_ASSERT(first != NULL);
    rmj_findings_error(contract->findings, "data.train", RMJ_EXIT_DATA,
                       "%llu of %llu rows repeat an earlier row, the first at %s:%llu, %s; a repeated pair would be a "
                       "second epoch: write the file again, each pair once",
                       (unsigned long long)report->dropped_duplicate, (unsigned long long)report->rows, first->path,
                       (unsigned long long)first->row, first->detail);
}
