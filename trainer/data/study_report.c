// What was found, as the report says it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/study_internal.h"

// Sides by length: 1, 2, 4, ... tokens; the last bucket takes what is longer.
#define LENGTH_BUCKETS 22u
#define SWAPPED_BETWEEN_MAX 256u
#define DETAIL_SIZE 512u
#define ISSUE_KINDS 4u
// A long file name is cut in a detail, never the row behind it.
#define PLACE_FORMAT "%.300s:%llu"

struct tally {
    uint64_t pairs, chosen_tokens, rejected_tokens;
    uint64_t longer, equal, longer_characters, equal_characters;
    uint64_t chosen[LENGTH_BUCKETS], rejected[LENGTH_BUCKETS];
    uint64_t overlaps[RMJ_REFERENCE_KINDS];
    uint64_t *languages; // [rmj_language_count()]
};

struct tallies {
    struct tally *sources; // [source_count], and their sum behind them
    uint64_t *languages;
    uint32_t source_count;
    uint64_t same_prompt[RMJ_REFERENCE_KINDS];
    struct rmj_study_examples overlap_examples[RMJ_REFERENCE_KINDS];
};

void rmj_study_example_add(struct rmj_study_examples *examples, const struct rmj_study_example *example)
{
    uint32_t at = examples->count;
    while (at > 0 && examples->list[at - 1].index > example->index) {
        at--;
    }
    if (at == RMJ_EXAMPLES_PER_KIND) {
        return;
    }
    uint32_t kept = examples->count < RMJ_EXAMPLES_PER_KIND ? examples->count : RMJ_EXAMPLES_PER_KIND - 1;
    memmove(examples->list + at + 1, examples->list + at, (kept - at) * sizeof *examples->list);
    examples->list[at] = *example;
    examples->count = kept + 1;
}

static enum rmj_status no_memory(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the report of the data");
}

static enum rmj_status tallies_init(struct tallies *tallies, uint32_t source_count, struct rmj_error *err)
{
    uint32_t languages = rmj_language_count();
    *tallies = (struct tallies){.source_count = source_count};
    tallies->sources = calloc(source_count + 1, sizeof *tallies->sources);
    tallies->languages = calloc((size_t)(source_count + 1) * languages, sizeof *tallies->languages);
    if (tallies->sources == NULL || tallies->languages == NULL) {
        return no_memory(err);
    }
    for (uint32_t i = 0; i <= source_count; i++) {
        tallies->sources[i].languages = tallies->languages + (size_t)i * languages;
    }
    return RMJ_OK;
}

static void tallies_deinit(struct tallies *tallies)
{
    free(tallies->sources);
    free(tallies->languages);
}

static uint32_t bucket_of(uint32_t tokens)
{
    uint32_t bucket = 0;
    while (bucket + 1 < LENGTH_BUCKETS && ((uint32_t)1 << bucket) < tokens) {
        bucket++;
    }
    return bucket;
}

static void add_pair(struct tally *tally, const struct rmj_study_record *record)
{
    const struct rmj_sketch *sketch = &record->sketch;
    tally->pairs++;
    tally->chosen_tokens += record->chosen_tokens;
    tally->rejected_tokens += record->rejected_tokens;
    tally->longer += record->chosen_tokens > record->rejected_tokens;
    tally->equal += record->chosen_tokens == record->rejected_tokens;
    tally->longer_characters += sketch->chosen_characters > sketch->rejected_characters;
    tally->equal_characters += sketch->chosen_characters == sketch->rejected_characters;
    tally->chosen[bucket_of(record->chosen_tokens)]++;
    tally->rejected[bucket_of(record->rejected_tokens)]++;
    tally->languages[sketch->language]++;
    for (unsigned kind = 0; kind < RMJ_REFERENCE_KINDS; kind++) {
        tally->overlaps[kind] += sketch->overlaps[kind].reference != 0;
    }
}

static enum rmj_status tally(void *context, uint32_t index, const struct rmj_study_record *record,
                             struct rmj_error *err)
{
    struct tallies *tallies = context;
    (void)err;
    add_pair(&tallies->sources[record->source], record);
    add_pair(&tallies->sources[tallies->source_count], record);
    for (unsigned kind = 0; kind < RMJ_REFERENCE_KINDS; kind++) {
        if (record->sketch.overlaps[kind].reference != 0) {
            struct rmj_study_example example = {.index = index};
            tallies->same_prompt[kind] += record->sketch.overlaps[kind].equal;
            rmj_study_example_add(&tallies->overlap_examples[kind], &example);
        }
    }
    return RMJ_OK;
}

static double share(uint64_t count, uint64_t all)
{
    return all == 0 ? 0 : (double)count / (double)all;
}

static double rule_accuracy(uint64_t longer, uint64_t equal, uint64_t all)
{
    return all == 0 ? 0.5 : ((double)longer + 0.5 * (double)equal) / (double)all;
}

#define SET(message, field, value) ((message)->has_##field = 1, (message)->field = (value))

static enum rmj_status fill_languages(Rmjob__V1__DataSourceReport *source, const struct tally *tally,
                                      struct rmj_error *err)
{
    uint32_t count = rmj_language_count();
    source->languages = calloc(count, sizeof *source->languages);
    uint8_t *done = calloc(count, 1);
    enum rmj_status status = source->languages == NULL || done == NULL ? no_memory(err) : RMJ_OK;
    for (uint32_t n = 0; status == RMJ_OK && n < count; n++) {
        uint32_t best = count;
        for (uint32_t i = 0; i < count; i++) {
            if (!done[i] && tally->languages[i] > 0 &&
                (best == count || tally->languages[i] > tally->languages[best])) {
                best = i;
            }
        }
        if (best == count) {
            break;
        }
        done[best] = 1;
        Rmjob__V1__DataLanguage *language = malloc(sizeof *language);
        char *name = strdup(rmj_study_language_name(best));
        if (language == NULL || name == NULL) {
            free(language);
            free(name);
            status = no_memory(err);
            break;
        }
        rmjob__v1__data_language__init(language);
        language->language = name;
        SET(language, pairs, tally->languages[best]);
        source->languages[source->n_languages++] = language;
    }
    free(done);
    return status;
}

static enum rmj_status fill_lengths(Rmjob__V1__DataSourceReport *source, const struct tally *tally,
                                    struct rmj_error *err)
{
    uint32_t first = 0, end = LENGTH_BUCKETS;
    while (first < LENGTH_BUCKETS && tally->chosen[first] + tally->rejected[first] == 0) {
        first++;
    }
    while (end > first && tally->chosen[end - 1] + tally->rejected[end - 1] == 0) {
        end--;
    }
    source->lengths = calloc(end - first + 1, sizeof *source->lengths);
    if (source->lengths == NULL) {
        return no_memory(err);
    }
    for (uint32_t i = first; i < end; i++) {
        Rmjob__V1__DataLengthBucket *bucket = malloc(sizeof *bucket);
        if (bucket == NULL) {
            return no_memory(err);
        }
        rmjob__v1__data_length_bucket__init(bucket);
        SET(bucket, up_to_tokens, (uint64_t)1 << i);
        SET(bucket, chosen, tally->chosen[i]);
        SET(bucket, rejected, tally->rejected[i]);
        source->lengths[source->n_lengths++] = bucket;
    }
    return RMJ_OK;
}

static enum rmj_status add_source(Rmjob__V1__DataReport *report, const struct rmj_study *study,
                                  const struct tallies *tallies, const struct rmj_study_findings *findings,
                                  uint32_t index, struct rmj_error *err)
{
    const struct tally *of = &tallies->sources[index];
    Rmjob__V1__DataSourceReport *source = malloc(sizeof *source);
    if (source == NULL) {
        return no_memory(err);
    }
    rmjob__v1__data_source_report__init(source);
    report->sources[report->n_sources++] = source;
    source->name = strdup(study->sources.texts[index]);
    SET(source, pairs, of->pairs);
    SET(source, chosen_longer_share, share(of->longer, of->pairs));
    SET(source, length_rule_accuracy, rule_accuracy(of->longer, of->equal, of->pairs));
    SET(source, chosen_longer_share_characters, share(of->longer_characters, of->pairs));
    SET(source, length_rule_accuracy_characters, rule_accuracy(of->longer_characters, of->equal_characters, of->pairs));
    SET(source, mean_chosen_tokens, share(of->chosen_tokens, of->pairs));
    SET(source, mean_rejected_tokens, share(of->rejected_tokens, of->pairs));
    SET(source, near_duplicates, findings->near_by_source[index]);
    SET(source, contradictions, findings->contradictions_by_source[index]);
    SET(source, heldout_overlap, of->overlaps[RMJ_REFERENCE_HELDOUT]);
    SET(source, benchmark_overlap, of->overlaps[RMJ_REFERENCE_BENCHMARK]);
    RMJ_TRY(source->name != NULL ? RMJ_OK : no_memory(err));
    RMJ_TRY(fill_languages(source, of, err));
    return fill_lengths(source, of, err);
}

static void fill_totals(Rmjob__V1__DataReport *report, const struct rmj_study *study, const struct tallies *tallies,
                        const struct rmj_study_findings *findings)
{
    const struct tally *all = &tallies->sources[tallies->source_count];
    SET(report, near_duplicates, findings->near);
    SET(report, near_duplicate_share, share(findings->near, all->pairs));
    SET(report, contradictions, findings->contradictions);
    SET(report, mixed_answers, findings->mixed);
    SET(report, swapped_across_sources, findings->swapped_across);
    SET(report, length_rule_accuracy, rule_accuracy(all->longer, all->equal, all->pairs));
    SET(report, length_rule_accuracy_characters,
        rule_accuracy(all->longer_characters, all->equal_characters, all->pairs));
    SET(report, chosen_longer_share_characters, share(all->longer_characters, all->pairs));
    if (findings->not_compared > 0) {
        SET(report, pairs_not_compared, findings->not_compared);
    }
    int has[RMJ_REFERENCE_KINDS] = {0};
    for (uint32_t i = 0; i < study->references.count; i++) {
        has[study->references.kinds[i]] = 1;
    }
    // Without such rows nothing was looked for, which is not the same as nothing found.
    if (has[RMJ_REFERENCE_HELDOUT]) {
        SET(report, heldout_overlap, all->overlaps[RMJ_REFERENCE_HELDOUT]);
        SET(report, heldout_overlap_share, share(all->overlaps[RMJ_REFERENCE_HELDOUT], all->pairs));
        SET(report, heldout_same_prompt, tallies->same_prompt[RMJ_REFERENCE_HELDOUT]);
    }
    if (has[RMJ_REFERENCE_BENCHMARK]) {
        SET(report, benchmark_overlap, all->overlaps[RMJ_REFERENCE_BENCHMARK]);
        SET(report, benchmark_overlap_share, share(all->overlaps[RMJ_REFERENCE_BENCHMARK], all->pairs));
        SET(report, benchmark_same_prompt, tallies->same_prompt[RMJ_REFERENCE_BENCHMARK]);
    }
    if (study->references.count > 0) {
        SET(report, gram_sample, 1.0 / (double)((uint64_t)1 << study->references.sample_shift));
    }
}

static enum rmj_status add_swapped(Rmjob__V1__DataReport *report, const struct rmj_study *study,
                                   const uint64_t *sources, uint64_t pairs, struct rmj_error *err)
{
    if (report->n_swapped_between == SWAPPED_BETWEEN_MAX) {
        return RMJ_OK;
    }
    Rmjob__V1__DataSwappedSources *swapped = malloc(sizeof *swapped);
    if (swapped == NULL) {
        return no_memory(err);
    }
    rmjob__v1__data_swapped_sources__init(swapped);
    report->swapped_between[report->n_swapped_between++] = swapped;
    swapped->source = strdup(study->sources.texts[sources[0]]);
    swapped->other = strdup(study->sources.texts[sources[1]]);
    SET(swapped, pairs, pairs);
    return swapped->source != NULL && swapped->other != NULL ? RMJ_OK : no_memory(err);
}

static enum rmj_status fill_swapped(Rmjob__V1__DataReport *report, const struct rmj_study *study,
                                    struct rmj_sort *between, struct rmj_error *err)
{
    report->swapped_between = calloc(SWAPPED_BETWEEN_MAX, sizeof *report->swapped_between);
    if (report->swapped_between == NULL) {
        return no_memory(err);
    }
    uint64_t before[2] = {0}, count = 0;
    for (;;) {
        const uint64_t *words;
        RMJ_TRY(rmj_sort_next(between, &words, err));
        if (count > 0 && (words == NULL || words[0] != before[0] || words[1] != before[1])) {
            RMJ_TRY(add_swapped(report, study, before, count, err));
            count = 0;
        }
        if (words == NULL) {
            return RMJ_OK;
        }
        memcpy(before, words, sizeof before);
        count++;
    }
}

static enum rmj_status add_issue(Rmjob__V1__DataReport *report, const struct rmj_study *study,
                                 const struct rmj_study_record *record, const char *kind, const char *detail,
                                 struct rmj_error *err)
{
    Rmjob__V1__DataIssue *issue = malloc(sizeof *issue);
    if (issue == NULL) {
        return no_memory(err);
    }
    rmjob__v1__data_issue__init(issue);
    report->issues[report->n_issues++] = issue;
    issue->kind = strdup(kind);
    issue->path = strdup(study->paths.texts[record->path]);
    issue->detail = strdup(detail);
    SET(issue, row, record->row);
    return issue->kind != NULL && issue->path != NULL && issue->detail != NULL ? RMJ_OK : no_memory(err);
}

// Sentences about a pair and another one, by kind.
static void tell_near(char *detail, const struct rmj_study_example *example, const char *place)
{
    snprintf(detail, DETAIL_SIZE, "nearly repeats %s (about %u %% alike)", place, example->what);
}

static void tell_contradiction(char *detail, const struct rmj_study_example *example, const char *place)
{
    snprintf(detail, DETAIL_SIZE,
             example->what ? "%s prefers the same two answers the other way round"
                           : "closes a circle of preferences that goes on at %s",
             place);
}

static enum rmj_status add_issues(Rmjob__V1__DataReport *report, struct rmj_study *study, const char *kind,
                                  const struct rmj_study_examples *examples,
                                  void (*tell)(char *, const struct rmj_study_example *, const char *),
                                  struct rmj_error *err)
{
    for (uint32_t i = 0; i < examples->count; i++) {
        struct rmj_study_record record, other;
        char place[DETAIL_SIZE - 80], detail[DETAIL_SIZE];
        RMJ_TRY(rmj_study_record(study, examples->list[i].index, &record, err));
        RMJ_TRY(rmj_study_record(study, examples->list[i].other, &other, err));
        snprintf(place, sizeof place, PLACE_FORMAT, study->paths.texts[other.path], (unsigned long long)other.row);
        tell(detail, &examples->list[i], place);
        RMJ_TRY(add_issue(report, study, &record, kind, detail, err));
    }
    return RMJ_OK;
}

static enum rmj_status add_overlap_issues(Rmjob__V1__DataReport *report, struct rmj_study *study,
                                          const struct tallies *tallies, unsigned kind, const char *name,
                                          struct rmj_error *err)
{
    static const char *const of[] = {
        [RMJ_REFERENCE_BENCHMARK] = "RewardBench 2 row", [RMJ_REFERENCE_HELDOUT] = "held-out row"};
    const struct rmj_study_examples *examples = &tallies->overlap_examples[kind];
    for (uint32_t i = 0; i < examples->count; i++) {
        struct rmj_study_record record;
        char detail[DETAIL_SIZE];
        RMJ_TRY(rmj_study_record(study, examples->list[i].index, &record, err));
        const struct rmj_sketch_overlap *overlap = &record.sketch.overlaps[kind];
        const char *id = study->references.ids[overlap->reference - 1];
        if (overlap->equal) {
            snprintf(detail, sizeof detail, "the prompt is that of %s %.300s", of[kind], id);
        } else {
            snprintf(detail, sizeof detail, "the prompt shares %s%u of its %u 13-word grams with %s %.300s",
                     study->references.sample_shift > 0 ? "at least " : "", overlap->grams, record.sketch.gram_count,
                     of[kind], id);
        }
        RMJ_TRY(add_issue(report, study, &record, name, detail, err));
    }
    return RMJ_OK;
}

static enum rmj_status fill_report(Rmjob__V1__DataReport *report, struct rmj_study *study,
                                   const struct tallies *tallies, const struct rmj_study_findings *findings,
                                   struct rmj_error *err)
{
    size_t issues = report->n_issues + (size_t)ISSUE_KINDS * RMJ_EXAMPLES_PER_KIND;
    Rmjob__V1__DataIssue **list = realloc(report->issues, issues * sizeof *list);
    report->issues = list == NULL ? report->issues : list;
    report->sources = calloc(study->sources.count + 1, sizeof *report->sources);
    if (list == NULL || report->sources == NULL) {
        return no_memory(err);
    }
    fill_totals(report, study, tallies, findings);
    for (uint32_t i = 0; i < study->sources.count; i++) {
        RMJ_TRY(add_source(report, study, tallies, findings, i, err));
    }
    RMJ_TRY(fill_swapped(report, study, findings->swapped, err));
    RMJ_TRY(add_issues(report, study, "near_duplicate", &findings->near_examples, tell_near, err));
    RMJ_TRY(add_issues(report, study, "contradiction", &findings->contradiction_examples, tell_contradiction, err));
    RMJ_TRY(add_overlap_issues(report, study, tallies, RMJ_REFERENCE_HELDOUT, "heldout_overlap", err));
    return add_overlap_issues(report, study, tallies, RMJ_REFERENCE_BENCHMARK, "benchmark_overlap", err);
}

enum rmj_status rmj_study_finish(struct rmj_study *study, Rmjob__V1__DataReport *report, struct rmj_error *err)
{
    RMJ_ASSERT(report->n_sources == 0 && report->n_swapped_between == 0);
    struct tallies tallies;
    struct rmj_study_findings findings = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(tallies_init(&tallies, study->sources.count, err));
    findings.near_by_source = calloc(study->sources.count + 1, sizeof *findings.near_by_source);
    findings.contradictions_by_source = calloc(study->sources.count + 1, sizeof *findings.contradictions_by_source);
    if (findings.near_by_source == NULL || findings.contradictions_by_source == NULL) {
        status = no_memory(err);
        goto out;
    }
    RMJ_GO(rmj_sort_create(&findings.swapped, 2, study->directory, study->memory_bytes / 16, err));
    RMJ_GO(rmj_study_each(study, tally, &tallies, err));
    RMJ_GO(rmj_study_find_near(study, &findings, err));
    RMJ_GO(rmj_study_find_contradictions(study, &findings, err));
    RMJ_GO(fill_report(report, study, &tallies, &findings, err));
out:
    tallies_deinit(&tallies);
    free(findings.near_by_source);
    free(findings.contradictions_by_source);
    rmj_sort_destroy(findings.swapped);
    return status;
}
