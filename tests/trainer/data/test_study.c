// The study of a preference set: what is planted is found, counted exactly and named by row; in clean text nothing is
// found; neither threads, nor memory, nor a kill in between change what is said.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <zlib.h>

#include "base/pool.h"
#include "base/rng.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "tests/support/data.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/study.h"

#define PAIRS_MAX 4096u

// A set in memory.
struct pair {
    char *prompt, *chosen, *rejected;
    const char *source, *path;
    uint64_t row;
};
struct set {
    struct pair *pairs;
    uint32_t count;
    struct pair references[8]; // prompt; source is the kind, path the id
    uint32_t reference_count;
};

static void set_init(struct set *set)
{
    *set = (struct set){.pairs = calloc(PAIRS_MAX, sizeof(struct pair))};
    assert_non_null(set->pairs);
}

static void add(struct set *set, const char *source, const char *prompt, const char *chosen, const char *rejected)
{
    struct pair *pair = &set->pairs[set->count++];
    assert_true(set->count <= PAIRS_MAX);
    *pair = (struct pair){.prompt = strdup(prompt), .chosen = strdup(chosen), .rejected = strdup(rejected)};
    pair->source = pair->path = source;
    pair->row = set->count;
}

static void refer(struct set *set, const char *kind, const char *id, const char *prompt)
{
    set->references[set->reference_count++] = (struct pair){.prompt = strdup(prompt), .source = kind, .path = id};
}

static void set_deinit(struct set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        free(set->pairs[i].prompt);
        free(set->pairs[i].chosen);
        free(set->pairs[i].rejected);
    }
    for (uint32_t i = 0; i < set->reference_count; i++) {
        free(set->references[i].prompt);
    }
    free(set->pairs);
}

// How it is run; every way must say the same.
struct way {
    size_t threads, memory_bytes;
    const char *directory;
    uint32_t stop_after; // kill and resume after so many pairs; 0: go through
};

struct work {
    const struct set *set;
    const struct rmj_study *study;
    struct rmj_sketch *sketches;
};

static void make(void *context, size_t index, size_t thread)
{
    struct work *work = context;
    const struct pair *pair = &work->set->pairs[index];
    (void)thread;
    rmj_sketch_make(&work->sketches[index], &(struct rmj_sketch_texts){.prompt = pair->prompt,
                                                                       .prompt_size = strlen(pair->prompt),
                                                                       .chosen = pair->chosen,
                                                                       .chosen_size = strlen(pair->chosen),
                                                                       .rejected = pair->rejected,
                                                                       .rejected_size = strlen(pair->rejected),
                                                                       .study = work->study});
}

static uint32_t words_of(const char *text)
{
    uint32_t words = 0;
    for (int inside = 0; *text != '\0'; text++) {
        words += !inside && *text != ' ';
        inside = *text != ' ';
    }
    return words;
}

static void open_study(struct rmj_study **study, const struct set *set, const struct way *way, uint32_t resumed)
{
    struct rmj_error err = {0};
    struct rmj_study_options options = {
        .temporary_directory = way->directory, .memory_bytes_max = way->memory_bytes, .resume_pair_count = resumed};
    assert_int_equal(rmj_study_create(study, &options, &err), RMJ_OK);
    for (uint32_t i = 0; i < set->reference_count; i++) {
        const struct pair *reference = &set->references[i];
        struct rmj_sketch_texts texts = {.prompt = reference->prompt, .prompt_size = strlen(reference->prompt)};
        assert_int_equal(rmj_study_add_reference(*study, reference->source, reference->path, &texts, &err), RMJ_OK);
    }
}

static void take(struct rmj_study *study, const struct set *set, const struct rmj_sketch *sketches, uint32_t first,
                 uint32_t end)
{
    struct rmj_error err = {0};
    for (uint32_t i = first; i < end; i++) {
        const struct pair *pair = &set->pairs[i];
        struct rmj_study_pair taken = {.sketch = &sketches[i],
                                       .path = pair->path,
                                       .row = pair->row,
                                       .chosen_tokens = words_of(pair->chosen),
                                       .rejected_tokens = words_of(pair->rejected)};
        assert_int_equal(rmj_study_begin_source(study, pair->source, &err), RMJ_OK);
        assert_int_equal(rmj_study_take(study, &taken, &err), RMJ_OK);
    }
}

static Rmjob__V1__DataReport *study_of(const struct set *set, const struct way *way)
{
    struct rmj_study *study;
    struct rmj_pool *pool;
    struct rmj_error err = {0};
    Rmjob__V1__DataReport *report = malloc(sizeof *report);
    struct work work = {.set = set, .sketches = calloc(set->count + 1, sizeof *work.sketches)};
    open_study(&study, set, way, 0);
    work.study = study;
    assert_int_equal(rmj_pool_create(&pool, way->threads == 0 ? 1 : way->threads, NULL, &err), RMJ_OK);
    rmj_pool_run(pool, set->count, make, &work);
    rmj_pool_destroy(pool);
    if (way->stop_after > 0) {
        take(study, set, work.sketches, 0, way->stop_after);
        assert_int_equal(rmj_study_sync(study, &err), RMJ_OK);
        // More, which no journal speaks of.
        take(study, set, work.sketches, way->stop_after, set->count);
        rmj_study_destroy(study);
        open_study(&study, set, way, way->stop_after);
        assert_int_equal(rmj_study_pair_count(study), way->stop_after);
    }
    take(study, set, work.sketches, way->stop_after, set->count);
    rmjob__v1__data_report__init(report);
    assert_int_equal(rmj_study_finish(study, report, &err), RMJ_OK);
    rmj_study_destroy(study);
    free(work.sketches);
    return report;
}

static void free_report(Rmjob__V1__DataReport *report)
{
    rmjob__v1__data_report__free_unpacked(report, NULL);
}

static uint32_t issues_of(const Rmjob__V1__DataReport *report, const char *kind)
{
    uint32_t count = 0;
    for (size_t i = 0; i < report->n_issues; i++) {
        count += strcmp(report->issues[i]->kind, kind) == 0;
    }
    return count;
}

static void assert_issue(const Rmjob__V1__DataReport *report, const char *kind, uint64_t row, const char *detail)
{
    for (size_t i = 0; i < report->n_issues; i++) {
        const Rmjob__V1__DataIssue *issue = report->issues[i];
        if (strcmp(issue->kind, kind) == 0 && issue->row == row && strstr(issue->detail, detail) != NULL) {
            return;
        }
    }
    for (size_t i = 0; i < report->n_issues; i++) {
        print_message("%s %s:%d %s\n", report->issues[i]->kind, report->issues[i]->path, (int)report->issues[i]->row,
                      report->issues[i]->detail);
    }
    fail_msg("no %s of row %d with '%s'", kind, (int)row, detail);
}

// Words by a seed: as many different ones as a language has.
static char *prose(struct rmj_rng *rng, uint32_t words)
{
    char *text = malloc((size_t)words * 12 + 1);
    size_t used = 0;
    for (uint32_t i = 0; i < words; i++) {
        used += (size_t)sprintf(text + used, "%sw%u", i > 0 ? " " : "", (unsigned)rmj_rng_below(rng, 20000));
    }
    text[used] = '\0';
    return text;
}

static void add_clean(struct set *set, struct rmj_rng *rng, const char *source, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char *prompt = prose(rng, 20 + (uint32_t)rmj_rng_below(rng, 60));
        char *chosen = prose(rng, 30 + (uint32_t)rmj_rng_below(rng, 90));
        char *rejected = prose(rng, 30 + (uint32_t)rmj_rng_below(rng, 90));
        add(set, source, prompt, chosen, rejected);
        free(prompt);
        free(chosen);
        free(rejected);
    }
}

// The pair again with one word of each text exchanged, in capitals and with other white space.
static void add_near(struct set *set, uint32_t index)
{
    const struct pair *pair = &set->pairs[index];
    char *texts[3] = {strdup(pair->prompt), strdup(pair->chosen), strdup(pair->rejected)};
    for (size_t t = 0; t < 3; t++) {
        char *last = strrchr(texts[t], ' ');
        memcpy(last + 1, "x", 2);
        for (char *c = texts[t]; *c != '\0'; c++) {
            *c = (char)(*c == 'w' ? 'W' : *c);
        }
        *strchr(texts[t], ' ') = '\n';
    }
    add(set, pair->source, texts[0], texts[1], texts[2]);
    for (size_t t = 0; t < 3; t++) {
        free(texts[t]);
    }
}

static void nothing_is_found_in_clean_text(void **state)
{
    (void)state;
    struct set set;
    struct rmj_rng rng;
    set_init(&set);
    rmj_rng_init(&rng, 1, 1);
    add_clean(&set, &rng, "a.jsonl", 1500);
    add_clean(&set, &rng, "b.jsonl", 500);
    for (uint32_t i = 0; i < 8; i++) {
        char *prompt = prose(&rng, 50);
        refer(&set, i % 2 ? "heldout" : "rewardbench2", "r", prompt);
        free(prompt);
    }
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->near_duplicates, 0);
    assert_int_equal(report->contradictions, 0);
    assert_int_equal(report->mixed_answers, 0);
    assert_int_equal(report->swapped_across_sources, 0);
    assert_int_equal(report->heldout_overlap, 0);
    assert_int_equal(report->benchmark_overlap, 0);
    assert_true(report->gram_sample == 1);
    assert_int_equal(report->n_issues, 0);
    assert_int_equal(report->n_sources, 2);
    assert_int_equal(report->sources[0]->pairs, 1500);
    assert_int_equal(report->sources[1]->pairs, 500);
    free_report(report);
    set_deinit(&set);
}

static void near_duplicates_are_counted_and_named(void **state)
{
    (void)state;
    struct set set;
    struct rmj_rng rng;
    set_init(&set);
    rmj_rng_init(&rng, 2, 1);
    for (uint32_t i = 0; i < 1000; i++) {
        char *prompt = prose(&rng, 60), *chosen = prose(&rng, 120), *rejected = prose(&rng, 120);
        add(&set, "a.jsonl", prompt, chosen, rejected);
        // Another pair of answers to the same prompt is no copy, nor are equal answers to another prompt.
        if (i < 100) {
            char *other = prose(&rng, 100);
            add(&set, "a.jsonl", prompt, other, rejected);
            add(&set, "a.jsonl", other, chosen, rejected);
            free(other);
        }
        free(prompt);
        free(chosen);
        free(rejected);
    }
    uint32_t clean = set.count;
    for (uint32_t i = 0; i < 37; i++) {
        add_near(&set, 7 * i);
    }
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->near_duplicates, 37);
    assert_true(report->near_duplicate_share == 37.0 / set.count);
    assert_int_equal(report->sources[0]->near_duplicates, 37);
    assert_int_equal(issues_of(report, "near_duplicate"), 12);
    assert_issue(report, "near_duplicate", clean + 1, "nearly repeats a.jsonl:1 (");
    assert_issue(report, "near_duplicate", clean + 12, "nearly repeats a.jsonl:78 (");
    free_report(report);
    set_deinit(&set);
}

static void circles_are_contradictions_and_rankings_are_not(void **state)
{
    (void)state;
    struct set set;
    set_init(&set);
    // A ranking of four, all six pairs: nothing wrong with it.
    const char *ranking[] = {"best", "good", "fair", "poor"};
    for (int i = 0; i < 4; i++) {
        for (int k = i + 1; k < 4; k++) {
            add(&set, "a", "rank these", ranking[i], ranking[k]);
        }
    }
    // Rows 7 and 8: the same two answers the other way round, in other case and white space.
    add(&set, "a", "which one?", "This  one", "that one");
    add(&set, "b", "Which One?", "THAT ONE", "this one\n");
    // Rows 9 to 11: a circle of three.
    add(&set, "a", "circle", "one", "two");
    add(&set, "b", "circle", "two", "three");
    add(&set, "b", "circle", "three", "one");
    // Row 12 leads into the circle and is not on it; 13 is the same answers to another prompt.
    add(&set, "a", "circle", "zero", "one");
    add(&set, "a", "another circle", "two", "one");
    // Without a prompt: an opposite is seen, a circle is not.
    add(&set, "a", "", "left", "right");
    add(&set, "a", "", "right", "left");
    // The same answer twice, when folded.
    add(&set, "a", "same", "Yes", "yes");
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->contradictions, 7);
    // Of the ranking all but (best, poor): best is never rejected, poor never chosen.
    assert_int_equal(report->mixed_answers, 5 + 2 + 3 + 1 + 2);
    assert_int_equal(report->swapped_across_sources, 2);
    assert_int_equal(report->n_swapped_between, 2);
    assert_string_equal(report->swapped_between[0]->source, "a");
    assert_string_equal(report->swapped_between[0]->other, "b");
    assert_int_equal(report->swapped_between[0]->pairs, 1);
    assert_string_equal(report->swapped_between[1]->source, "b");
    assert_int_equal(report->sources[0]->contradictions, 4);
    assert_int_equal(report->sources[1]->contradictions, 3);
    assert_int_equal(issues_of(report, "contradiction"), 7);
    assert_issue(report, "contradiction", 7, "b:8 prefers the same two answers the other way round");
    assert_issue(report, "contradiction", 8, "a:7 prefers");
    assert_issue(report, "contradiction", 9, "closes a circle of preferences that goes on at b:10");
    assert_issue(report, "contradiction", 11, "goes on at a:9");
    assert_issue(report, "contradiction", 14, "a:15 prefers");
    free_report(report);
    set_deinit(&set);
}

static void an_opposite_is_counted_once_a_source_however_often_it_stands_there(void **state)
{
    (void)state;
    struct set set;
    set_init(&set);
    const char *const sources[] = {"a", "b", "c", "b", "c", "b"};
    for (size_t i = 0; i < RMJ_COUNT(sources); i++) {
        add(&set, sources[i], "p", i == 0 ? "left" : "right", i == 0 ? "right" : "left");
    }
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->contradictions, 6);
    assert_int_equal(report->swapped_across_sources, 6);
    assert_int_equal(report->n_swapped_between, 4);
    const uint64_t pairs[] = {1, 1, 3, 2}; // a-b, a-c, b-a, c-a
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(report->swapped_between[i]->pairs, pairs[i]);
    }
    free_report(report);
    set_deinit(&set);
}

static const char passage[] =
    "Describe in a few plain sentences how the tides come about, why there are two of them a day, and what the sun has "
    "to do with it all in spring";

static void shared_grams_and_equal_prompts_are_contamination(void **state)
{
    (void)state;
    struct set set;
    struct rmj_rng rng;
    char text[1024];
    set_init(&set);
    rmj_rng_init(&rng, 3, 1);
    add_clean(&set, &rng, "a", 200);
    refer(&set, "rewardbench2", "569", passage);
    refer(&set, "heldout", "held.jsonl:4", "How old is the moon?");
    refer(&set, "heldout", "held.jsonl:9", "怎样用简单的语言向一个六岁的孩子解释潮汐是怎样形成的以及太阳的作用");
    // 201: twelve words of it are not enough; 202: thirteen are; 203: the whole of it inside another prompt.
    add(&set, "a", "please describe in a few plain sentences how the tides come about, why", "c", "r");
    add(&set, "a", "please DESCRIBE in a few plain sentences -- how the tides come about why there", "c", "r");
    snprintf(text, sizeof text, "Be brief.\n\n%s", passage);
    add(&set, "a", text, "c", "r");
    // 204 and 205: equal prompts, one too short for a gram, one as a dialogue.
    add(&set, "a", "how old is THE moon?", "c", "r");
    snprintf(text, sizeof text, "\n\nHuman: %s\n\nAssistant:", passage);
    add(&set, "a", text, "c", "r");
    // 206: Chinese has no spaces; each character counts.
    add(&set, "a", "请问:怎样用简单的语言向一个六岁的孩子解释潮汐", "c", "r");
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->benchmark_overlap, 3);
    assert_int_equal(report->benchmark_same_prompt, 1);
    assert_int_equal(report->heldout_overlap, 2);
    assert_int_equal(report->heldout_same_prompt, 1);
    assert_int_equal(report->sources[0]->benchmark_overlap, 3);
    assert_int_equal(report->sources[0]->heldout_overlap, 2);
    assert_true(report->benchmark_overlap_share == 3.0 / 206);
    assert_issue(report, "benchmark_overlap", 202, "shares 1 of its 2 13-word grams with RewardBench 2 row 569");
    assert_issue(report, "benchmark_overlap", 203, "shares 19 of its 21 13-word grams");
    assert_issue(report, "benchmark_overlap", 205, "the prompt is that of RewardBench 2 row 569");
    assert_issue(report, "heldout_overlap", 204, "the prompt is that of held-out row held.jsonl:4");
    assert_issue(report, "heldout_overlap", 206, "with held-out row held.jsonl:9");
    free_report(report);
    set_deinit(&set);
}

static void more_references_than_memory_are_sampled_and_equal_prompts_still_found(void **state)
{
    (void)state;
    struct rmj_study *study;
    struct rmj_error err = {0};
    struct rmj_rng rng;
    uint32_t overlapping = 0, equal = 0;
    rmj_rng_init(&rng, 4, 1);
    assert_int_equal(rmj_study_create(&study, &(struct rmj_study_options){.memory_bytes_max = 1}, &err), RMJ_OK);
    for (int pass = 0; pass < 2; pass++) {
        rmj_rng_init(&rng, 4, 1);
        for (int i = 0; i < 400; i++) {
            char *prompt = prose(&rng, 200);
            struct rmj_sketch_texts texts = {
                .prompt = prompt, .prompt_size = strlen(prompt), .chosen = "", .rejected = "", .study = study};
            struct rmj_sketch sketch;
            if (pass == 0) {
                assert_int_equal(rmj_study_add_reference(study, "rewardbench2", "x", &texts, &err), RMJ_OK);
            } else {
                rmj_sketch_make(&sketch, &texts);
                equal += sketch.overlaps[RMJ_REFERENCE_BENCHMARK].equal;
                texts.prompt_size = (size_t)(strrchr(prompt, ' ') - prompt);
                rmj_sketch_make(&sketch, &texts);
                overlapping += sketch.overlaps[RMJ_REFERENCE_BENCHMARK].reference != 0;
            }
            free(prompt);
        }
    }
    Rmjob__V1__DataReport *report = malloc(sizeof *report);
    rmjob__v1__data_report__init(report);
    assert_int_equal(rmj_study_finish(study, report, &err), RMJ_OK);
    assert_true(report->gram_sample < 1 && report->gram_sample >= 1.0 / 16);
    assert_int_equal(equal, 400);
    assert_true(overlapping >= 390);
    free_report(report);
    rmj_study_destroy(study);
}

static void the_length_rule_and_histograms_are_counted_by_source(void **state)
{
    (void)state;
    struct set set;
    set_init(&set);
    add(&set, "long", "p1", "one two three", "one");
    add(&set, "long", "p2", "one two three four five", "one two");
    add(&set, "long", "p3", "one two", "eleven12345 x2");
    add(&set, "short", "p4", "one", "one two three four five six seven eight nine");
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    const Rmjob__V1__DataSourceReport *longer = report->sources[0], *shorter = report->sources[1];
    assert_true(longer->chosen_longer_share == 2.0 / 3 && longer->length_rule_accuracy == 2.5 / 3);
    assert_true(longer->length_rule_accuracy_characters == 2.0 / 3);
    assert_true(shorter->length_rule_accuracy == 0 && report->length_rule_accuracy == 2.5 / 4);
    assert_true(longer->mean_chosen_tokens == 10.0 / 3 && shorter->mean_rejected_tokens == 9);
    // 1: one; 2: two words; 4: three or four; 8: five to eight.
    assert_int_equal(longer->n_lengths, 4);
    assert_int_equal(longer->lengths[0]->up_to_tokens, 1);
    assert_int_equal(longer->lengths[0]->rejected, 1);
    assert_int_equal(longer->lengths[1]->chosen, 1);
    assert_int_equal(longer->lengths[1]->rejected, 2);
    assert_int_equal(longer->lengths[2]->chosen, 1);
    assert_int_equal(longer->lengths[3]->up_to_tokens, 8);
    assert_int_equal(longer->lengths[3]->chosen, 1);
    assert_int_equal(shorter->n_lengths, 5);
    assert_int_equal(shorter->lengths[4]->rejected, 1);
    assert_false(report->has_heldout_overlap || report->has_benchmark_overlap);
    free_report(report);
    set_deinit(&set);
}

static void plant(struct set *set)
{
    struct rmj_rng rng;
    set_init(set);
    rmj_rng_init(&rng, 5, 1);
    add_clean(set, &rng, "a.jsonl", 900);
    add_clean(set, &rng, "b.jsonl", 900);
    for (uint32_t i = 0; i < 60; i++) {
        add_near(set, 3 * i + 1);
        const struct pair pair = set->pairs[5 * i];
        add(set, i % 2 ? "a.jsonl" : "c.jsonl", pair.prompt, pair.rejected, pair.chosen);
    }
    refer(set, "heldout", "h:1", set->pairs[17].prompt);
    refer(set, "rewardbench2", "b:1", set->pairs[18].prompt);
    refer(set, "rewardbench2", "b:2", passage);
}

static void assert_equal_reports(const Rmjob__V1__DataReport *a, const Rmjob__V1__DataReport *b)
{
    size_t size = rmjob__v1__data_report__get_packed_size(a);
    assert_int_equal(rmjob__v1__data_report__get_packed_size(b), size);
    uint8_t *bytes = malloc(2 * size);
    rmjob__v1__data_report__pack(a, bytes);
    rmjob__v1__data_report__pack(b, bytes + size);
    assert_memory_equal(bytes, bytes + size, size);
    free(bytes);
}

static void threads_memory_and_a_kill_change_nothing(void **state)
{
    (void)state;
    struct set set;
    char *directory = fixture_directory();
    plant(&set);
    Rmjob__V1__DataReport *expected = study_of(&set, &(struct way){0});
    assert_true(expected->near_duplicates > 50 && expected->contradictions == 120);
    const struct way ways[] = {
        {.threads = 3},
        {.memory_bytes = 1}, // the least, so that sorted runs are written
        {.directory = directory, .threads = 2},
        {.directory = directory, .memory_bytes = 1, .stop_after = 1},
        {.directory = directory, .stop_after = 1234},
        {.directory = directory, .stop_after = set.count},
    };
    for (size_t i = 0; i < RMJ_COUNT(ways); i++) {
        Rmjob__V1__DataReport *report = study_of(&set, &ways[i]);
        assert_equal_reports(expected, report);
        free_report(report);
    }
    free_report(expected);
    set_deinit(&set);
    fixture_remove(directory);
}

static void the_order_of_the_rows_changes_no_count(void **state)
{
    (void)state;
    struct set set;
    struct rmj_rng rng;
    plant(&set);
    Rmjob__V1__DataReport *expected = study_of(&set, &(struct way){0});
    rmj_rng_init(&rng, 6, 1);
    for (uint32_t i = set.count - 1; i > 0; i--) {
        uint32_t k = (uint32_t)rmj_rng_below(&rng, i + 1);
        struct pair swap = set.pairs[i];
        set.pairs[i] = set.pairs[k];
        set.pairs[k] = swap;
    }
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->near_duplicates, expected->near_duplicates);
    assert_int_equal(report->contradictions, expected->contradictions);
    assert_int_equal(report->mixed_answers, expected->mixed_answers);
    assert_int_equal(report->swapped_across_sources, expected->swapped_across_sources);
    assert_int_equal(report->heldout_overlap, expected->heldout_overlap);
    assert_int_equal(report->benchmark_overlap, expected->benchmark_overlap);
    assert_true(report->length_rule_accuracy == expected->length_rule_accuracy);
    free_report(report);
    free_report(expected);
    set_deinit(&set);
}

static void nothing_to_go_on_with_is_not_found(void **state)
{
    (void)state;
    struct rmj_study *study;
    struct rmj_error err = {0};
    char *directory = fixture_directory();
    struct rmj_study_options options = {.temporary_directory = directory, .resume_pair_count = 3};
    assert_int_equal(rmj_study_create(&study, &options, &err), RMJ_NOT_FOUND);
    assert_null(study);
    options.resume_pair_count = 0;
    assert_int_equal(rmj_study_create(&study, &options, &err), RMJ_OK);
    assert_int_equal(rmj_study_sync(study, &err), RMJ_OK);
    rmj_study_destroy(study);
    options.resume_pair_count = 3;
    assert_int_equal(rmj_study_create(&study, &options, &err), RMJ_NOT_FOUND);
    options.temporary_directory = "/nowhere/at/all";
    options.resume_pair_count = 0;
    assert_int_equal(rmj_study_create(&study, &options, &err), RMJ_NOT_FOUND);
    fixture_remove(directory);
}

static void an_empty_set_has_an_empty_report(void **state)
{
    (void)state;
    struct set set;
    set_init(&set);
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(report->near_duplicates, 0);
    assert_int_equal(report->n_sources, 0);
    assert_true(report->near_duplicate_share == 0);
    free_report(report);
    set_deinit(&set);
}

static void hostile_texts_are_studied_like_any_other(void **state)
{
    (void)state;
    struct set set;
    size_t huge_size = (size_t)8 << 20;
    char *letters = malloc(huge_size + 1), *chinese = malloc(huge_size + 1), *spaces = malloc(huge_size + 1);
    memset(letters, 'a', huge_size);
    memset(spaces, ' ', huge_size);
    letters[huge_size] = spaces[huge_size] = '\0';
    huge_size -= huge_size % 3;
    for (size_t i = 0; i < huge_size; i += 3) {
        memcpy(chinese + i, i % 2 ? "好" : "的", 3);
    }
    chinese[huge_size] = '\0';
    set_init(&set);
    refer(&set, "heldout", "h", chinese);
    add(&set, "s", "", "", "");
    add(&set, "s", letters, spaces, letters);
    add(&set, "s", chinese, "🎉🎉🎉", "👩‍👩‍👧‍👦");
    add(&set, "s", "\xff\xfe\xc3(", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80");
    add(&set, "s", "e\xcc\x81\xcc\x81\xcc\x81", "\xe2\x80\x8b", "\x01\x02\x7f");
    add(&set, "s", "ﷺ", "ﬃ", "Ⅷ");
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){.threads = 2});
    assert_int_equal(report->sources[0]->pairs, 6);
    assert_int_equal(report->heldout_overlap, 1);
    assert_int_equal(report->near_duplicates, 0);
    free_report(report);
    set_deinit(&set);
    free(letters);
    free(chinese);
    free(spaces);
}

// Text behind the last "\n\nAssistant:" is the answer, as in hh.
static void add_dialogue(struct set *set, const char *source, const char *chosen, const char *rejected)
{
    size_t shared = 0, cut = 0;
    for (; chosen[shared] != '\0' && chosen[shared] == rejected[shared]; shared++) {
        if (strncmp(chosen + shared, "\n\nAssistant:", 12) == 0 &&
            strncmp(rejected + shared, chosen + shared, 12) == 0) {
            cut = shared + 12;
        }
    }
    char *prompt = strndup(chosen, cut);
    add(set, source, prompt, chosen + cut, rejected + cut);
    free(prompt);
}

static int read_real(struct set *set)
{
    char *hh = rmj_test_data("preferences/harmless-base-test.jsonl.gz"),
         *demo = rmj_test_data("preferences/dpo_en_demo.json");
    char *line = malloc(1 << 20);
    int found = hh != NULL && demo != NULL;
    if (found) {
        gzFile file = gzopen(hh, "rb");
        while (gzgets(file, line, 1 << 20) != NULL) {
            json_t *row = json_loads(line, 0, NULL);
            add_dialogue(set, "harmless-base", json_string_value(json_object_get(row, "chosen")),
                         json_string_value(json_object_get(row, "rejected")));
            json_decref(row);
        }
        gzclose(file);
        json_t *rows = json_load_file(demo, 0, NULL), *row;
        size_t i;
        json_array_foreach(rows, i, row)
        {
            const json_t *turns = json_object_get(row, "conversations");
            const json_t *last = json_array_get(turns, json_array_size(turns) - 1);
            add(set, "dpo_en_demo", json_string_value(json_object_get(last, "value")),
                json_string_value(json_object_get(json_object_get(row, "chosen"), "value")),
                json_string_value(json_object_get(json_object_get(row, "rejected"), "value")));
            set->pairs[set->count - 1].row = i + 1;
        }
        json_decref(rows);
    }
    free(line);
    free(hh);
    free(demo);
    return found;
}

static void real_sets_are_what_they_are_known_to_be(void **state)
{
    (void)state;
    struct set set;
    set_init(&set);
    if (!read_real(&set)) {
        print_message("SKIP: no real preference sets\n");
        set_deinit(&set);
        skip();
    }
    refer(&set, "heldout", "row", set.pairs[2400].prompt);
    Rmjob__V1__DataReport *report = study_of(&set, &(struct way){0});
    assert_int_equal(set.count, 2612);
    assert_string_equal(report->sources[0]->languages[0]->language, "English");
    assert_true(report->sources[0]->languages[0]->pairs > 2200);
    // By a full comparison of all sets of grams, and a count of lengths, in Python: five pairs of the second set stand
    // in it twice and no others are alike by 0.6; the longer answer wins in 1,025 pairs and 11 ties of 2,312, in 131
    // and 1 of 300.
    assert_int_equal(report->near_duplicates, 5);
    assert_int_equal(report->sources[1]->near_duplicates, 5);
    assert_issue(report, "near_duplicate", 158, "nearly repeats dpo_en_demo:14 (about 100 % alike)");
    assert_int_equal(report->contradictions, 0);
    assert_true(report->sources[0]->length_rule_accuracy_characters == 1030.5 / 2312);
    assert_true(report->sources[1]->length_rule_accuracy_characters == 131.5 / 300);
    assert_string_equal(report->sources[1]->languages[0]->language, "English");
    assert_int_equal(report->sources[1]->languages[0]->pairs, 297);
    assert_int_equal(report->heldout_same_prompt, 1);
    free_report(report);
    set_deinit(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_in_clean_text),
        cmocka_unit_test(near_duplicates_are_counted_and_named),
        cmocka_unit_test(circles_are_contradictions_and_rankings_are_not),
        cmocka_unit_test(an_opposite_is_counted_once_a_source_however_often_it_stands_there),
        cmocka_unit_test(shared_grams_and_equal_prompts_are_contamination),
        cmocka_unit_test(more_references_than_memory_are_sampled_and_equal_prompts_still_found),
        cmocka_unit_test(the_length_rule_and_histograms_are_counted_by_source),
        cmocka_unit_test(threads_memory_and_a_kill_change_nothing),
        cmocka_unit_test(the_order_of_the_rows_changes_no_count),
        cmocka_unit_test(nothing_to_go_on_with_is_not_found),
        cmocka_unit_test(an_empty_set_has_an_empty_report),
        cmocka_unit_test(hostile_texts_are_studied_like_any_other),
        cmocka_unit_test(real_sets_are_what_they_are_known_to_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
