#include "trainer/data/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/lineage.h"
#include "trainer/data/packer.h"

#define TABLE_SIZE_FIRST 1024u
#define SIDE_KEY_SIZE (RMJ_DIGEST_SIZE / 2)
// More duplicates than half of the rows are no data set; of a handful of rows nothing is said.
#define DUPLICATES_ROWS_MIN 16u
#define TOKEN_COUNT_MAX (RMJ_PLAN_SECTION_SIZE_MAX / sizeof(int32_t))

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
_Static_assert(RMJ_COUNT(kind_names) == RMJ_COUNT(((struct rmj_contract *)0)->issue_counts), "a count for every kind");

static int by_prompt_key(const void *a, const void *b)
{
    return memcmp(a, b, RMJ_PROMPT_KEY_SIZE);
}

void rmj_contract_init(struct rmj_contract *contract, const struct rmj_contract_options *options,
                       struct rmj_findings *findings)
{
    *contract = (struct rmj_contract){.options = *options, .findings = findings};
    contract->report = malloc(sizeof *contract->report);
    contract->table_size = TABLE_SIZE_FIRST;
    contract->table = calloc(contract->table_size, sizeof *contract->table);
    RMJ_ASSERT(contract->report != NULL && contract->table != NULL);
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
    free(contract->pairs);
    free(contract->first_tokens);
    free(contract->tokens);
    free(contract->keys);
    free(contract->table);
    free(contract->prompt_keys);
    *contract = (struct rmj_contract){0};
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
    contract->file = file;
    contract->file_name = file->path;
    contract->file_field = field;
}

static void note(struct rmj_contract *contract, enum kind kind, uint64_t row, const char *detail)
{
    Rmjob__V1__DataReport *report = contract->report;
    if (contract->issue_counts[kind] == RMJ_ISSUES_PER_KIND_MAX) {
        return;
    }
    contract->issue_counts[kind]++;
    Rmjob__V1__DataIssue *issue = malloc(sizeof *issue);
    RMJ_ASSERT(issue != NULL);
    rmjob__v1__data_issue__init(issue);
    issue->kind = strdup(kind_names[kind]);
    issue->path = strdup(contract->file_name);
    issue->has_row = 1;
    issue->row = row;
    issue->detail = strdup(detail);
    report->issues[report->n_issues++] = issue;
}

static int equal_sides(const struct rmj_example *example)
{
    return example->chosen.count == example->rejected.count &&
           memcmp(example->chosen.ids, example->rejected.ids, example->chosen.count * sizeof(int32_t)) == 0;
}

// 1 when the pair goes on. Truncation removes tokens that both sides share, right after the BOS.
static int fit_length(struct rmj_contract *contract, const struct rmj_example *example, size_t *cut)
{
    size_t chosen = example->chosen.count, rejected = example->rejected.count;
    size_t longest = chosen > rejected ? chosen : rejected, max = contract->options.max_length;
    char detail[120];
    *cut = 0;
    if (longest <= max) {
        return 1;
    }
    snprintf(detail, sizeof detail, "chosen has %zu tokens, rejected %zu, max_length is %zu", chosen, rejected, max);
    if (contract->options.over_length == RMJOB__V1__OVER_LENGTH__truncate_prompt) {
        size_t marks = contract->options.bos >= 0;
        size_t shared = rmj_pack_common_prefix(example->chosen.ids, chosen, example->rejected.ids, rejected);
        if (shared >= marks && longest - max <= shared - marks) {
            *cut = longest - max;
            contract->file->truncated++;
            note(contract, TRUNCATED, example->row, detail);
            return 1;
        }
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

static size_t table_place(const struct rmj_contract *contract, const uint8_t key[RMJ_DIGEST_SIZE])
{
    uint64_t hash;
    memcpy(&hash, key, sizeof hash);
    size_t at = hash & (contract->table_size - 1);
    while (contract->table[at] != 0 && memcmp(contract->keys[contract->table[at] - 1], key, RMJ_DIGEST_SIZE) != 0) {
        at = (at + 1) & (contract->table_size - 1);
    }
    return at;
}

static void grow_table(struct rmj_contract *contract)
{
    free(contract->table);
    contract->table_size *= 2;
    contract->table = calloc(contract->table_size, sizeof *contract->table);
    RMJ_ASSERT(contract->table != NULL);
    for (uint32_t i = 0; i < contract->pair_count; i++) {
        contract->table[table_place(contract, contract->keys[i])] = i + 1;
    }
}

static const char *found_at(struct rmj_contract *contract, uint32_t pair, char *text, size_t size, const char *what)
{
    const struct rmj_plan_pair *found = &contract->pairs[pair];
    snprintf(text, size, "%s %s:%llu", what, contract->report->files[found->file]->path,
             (unsigned long long)found->row);
    return text;
}

// 1 when the same pair was accepted before. A swapped one is counted and goes on.
static int seen_before(struct rmj_contract *contract, uint64_t row, const uint8_t key[RMJ_DIGEST_SIZE])
{
    char detail[400];
    uint32_t found = contract->table[table_place(contract, key)];
    if (found != 0) {
        contract->file->dropped_duplicate++;
        note(contract, DUPLICATE, row, found_at(contract, found - 1, detail, sizeof detail, "the same pair as"));
        return 1;
    }
    uint8_t swapped[RMJ_DIGEST_SIZE];
    memcpy(swapped, key + SIDE_KEY_SIZE, SIDE_KEY_SIZE);
    memcpy(swapped + SIDE_KEY_SIZE, key, SIDE_KEY_SIZE);
    found = contract->table[table_place(contract, swapped)];
    if (found != 0) {
        contract->report->swapped++;
        note(contract, SWAPPED, row,
             found_at(contract, found - 1, detail, sizeof detail, "chosen and rejected exchanged against"));
    }
    return 0;
}

static enum rmj_status make_room(struct rmj_contract *contract, size_t rows, struct rmj_error *err)
{
    if (contract->pair_count == UINT32_MAX - 1 || contract->token_count + rows > TOKEN_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "more pairs than a plan holds: cut the data set");
    }
    if (contract->pair_count == contract->pair_room) {
        size_t room = contract->pair_room == 0 ? 1024 : contract->pair_room + contract->pair_room / 2;
        contract->pairs = realloc(contract->pairs, room * sizeof *contract->pairs);
        contract->first_tokens = realloc(contract->first_tokens, room * sizeof *contract->first_tokens);
        contract->keys = realloc(contract->keys, room * sizeof *contract->keys);
        RMJ_ASSERT(contract->pairs != NULL && contract->first_tokens != NULL && contract->keys != NULL);
        contract->pair_room = room;
    }
    if (contract->token_count + rows > contract->token_room) {
        size_t room = contract->token_count + rows + contract->token_room / 2 + 65536;
        int32_t *tokens = realloc(contract->tokens, room * sizeof *tokens);
        if (tokens == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu tokens", room);
        }
        contract->tokens = tokens;
        contract->token_room = room;
    }
    return RMJ_OK;
}

// Appends a side's tokens [from, end).
static void append_tokens(struct rmj_contract *contract, const struct rmj_tokens *side, size_t from, size_t end)
{
    memcpy(contract->tokens + contract->token_count, side->ids + from, (end - from) * sizeof(int32_t));
    contract->token_count += end - from;
}

static void count_accepted(struct rmj_contract *contract, const struct rmj_plan_pair *pair)
{
    Rmjob__V1__DataReport *report = contract->report;
    uint32_t chosen = pair->prefix_count + pair->chosen_count, rejected = pair->prefix_count + pair->rejected_count;
    uint32_t longest = chosen > rejected ? chosen : rejected;
    contract->file->accepted++;
    contract->chosen_tokens += chosen;
    contract->rejected_tokens += rejected;
    contract->prefix_tokens += pair->prefix_count;
    contract->chosen_longer += chosen > rejected;
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
    size_t marks = contract->options.bos >= 0;
    size_t chosen = example->chosen.count - cut, rejected = example->rejected.count - cut;
    uint32_t prefix = rmj_pack_common_prefix(example->chosen.ids, example->chosen.count, example->rejected.ids,
                                             example->rejected.count) -
                      (uint32_t)cut;
    RMJ_TRY(make_room(contract, chosen + rejected, err));
    size_t first = contract->token_count;
    // The whole sides first: their keys are taken from here, then the pair is laid out in their place.
    append_tokens(contract, &example->chosen, 0, marks * (cut > 0));
    append_tokens(contract, &example->chosen, cut > 0 ? marks + cut : 0, example->chosen.count);
    size_t second = contract->token_count;
    append_tokens(contract, &example->rejected, 0, marks * (cut > 0));
    append_tokens(contract, &example->rejected, cut > 0 ? marks + cut : 0, example->rejected.count);
    uint8_t key[RMJ_DIGEST_SIZE];
    side_key(key, contract->tokens + first, chosen);
    side_key(key + SIDE_KEY_SIZE, contract->tokens + second, rejected);
    if (seen_before(contract, example->row, key)) {
        contract->token_count = first;
        return RMJ_OK;
    }
    memmove(contract->tokens + second, contract->tokens + second + prefix, (rejected - prefix) * sizeof(int32_t));
    contract->token_count -= prefix;
    uint32_t pair = contract->pair_count++;
    contract->pairs[pair] = (struct rmj_plan_pair){
        .row = example->row,
        .lineage_id = rmj_lineage_pair_id(&example->chosen, &example->rejected),
        .file = (uint32_t)contract->report->n_files - 1,
        .prefix_count = prefix,
        .chosen_count = (uint32_t)chosen - prefix,
        .rejected_count = (uint32_t)rejected - prefix,
        .margin = contract->options.use_margin ? example->margin : 0,
    };
    contract->first_tokens[pair] = first;
    memcpy(contract->keys[pair], key, sizeof key);
    if ((size_t)contract->pair_count * 2 > contract->table_size) {
        grow_table(contract);
    } else {
        contract->table[table_place(contract, key)] = pair + 1;
    }
    count_accepted(contract, &contract->pairs[pair]);
    look_for_benchmark(contract, example);
    return RMJ_OK;
}

enum rmj_status rmj_contract_take(void *context, const struct rmj_example *example, struct rmj_error *err)
{
    struct rmj_contract *contract = context;
    contract->file->rows++;
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
    contract->unused_margins += !contract->options.use_margin && example->has_margin;
    if (example->special_count > 0) {
        char detail[80];
        snprintf(detail, sizeof detail, "%u special tokens inside the text", example->special_count);
        contract->special_rows++;
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
    report->has_dropped_duplicate = report->has_dropped_identical_sides = report->has_swapped = 1;
}

static void warn(const struct rmj_contract *contract)
{
    const Rmjob__V1__DataReport *report = contract->report;
    struct rmj_findings *findings = contract->findings;
    if (contract->special_rows > 0) {
        rmj_findings_warn(findings, "data.train", "%llu rows hold special tokens inside their text (special_in_text)",
                          (unsigned long long)contract->special_rows);
    }
    if (contract->unused_margins > 0) {
        rmj_findings_error(findings, "train.use_margin", RMJ_EXIT_DATA,
                           "%llu rows have a margin, which would change the loss: set train.use_margin: true to train "
                           "with it, or leave the column out",
                           (unsigned long long)contract->unused_margins);
    }
    if (report->contaminated > 0) {
        rmj_findings_warn(findings, "data.train", "%llu pairs have a prompt of RewardBench 2 (contamination)",
                          (unsigned long long)report->contaminated);
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
    report->has_contaminated = contract->options.benchmark != NULL;
    report->has_longest_side_tokens = 1;
    double pairs = contract->pair_count;
    if (contract->pair_count > 0) {
        report->has_mean_chosen_tokens = report->has_mean_rejected_tokens = report->has_chosen_longer_share = 1;
        report->has_mean_shared_prefix_tokens = report->has_shared_token_share = 1;
        report->mean_chosen_tokens = (double)contract->chosen_tokens / pairs;
        report->mean_rejected_tokens = (double)contract->rejected_tokens / pairs;
        report->chosen_longer_share = (double)contract->chosen_longer / pairs;
        report->mean_shared_prefix_tokens = (double)contract->prefix_tokens / pairs;
        report->shared_token_share =
            (double)contract->prefix_tokens / (double)(contract->chosen_tokens + contract->rejected_tokens);
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
