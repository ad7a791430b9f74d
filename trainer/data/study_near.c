// Near duplicates: pairs that agree in a band are compared by their minimum hashes, band by band, so that only one
// band's numbers are sorted at a time.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/study_internal.h"

// A pair is compared with so many unlike ones of its band at most: a band that many unlike pairs share (all of one
// boilerplate) would take a square of comparisons.
#define LEADERS_MAX 8u
// Marks of 32 that must be equal: 26 / 32 = 0.8125 is the first share of 0.8 or more.
#define EQUAL_MARKS_MIN 26u

// Pairs of a band that resemble none before them.
struct leaders {
    struct rmj_study_record records[LEADERS_MAX];
    uint32_t indices[LEADERS_MAX];
    uint32_t count;
};

static uint32_t equal_marks(const uint8_t *a, const uint8_t *b)
{
    uint32_t equal = 0;
    for (uint32_t i = 0; i < RMJ_SKETCH_HASHES; i++) {
        equal += a[i] == b[i];
    }
    return equal;
}

// In percent, of the less alike part; 0 when they are not near duplicates.
static uint32_t similarity(const struct rmj_sketch *a, const struct rmj_sketch *b)
{
    uint32_t prompt = equal_marks(a->prompt_marks, b->prompt_marks);
    uint32_t answers = equal_marks(a->answer_marks, b->answer_marks);
    uint32_t least = prompt < answers ? prompt : answers;
    return least < EQUAL_MARKS_MIN ? 0 : least * 100 / RMJ_SKETCH_HASHES;
}

// A match: the later pair, the earlier one, how alike they are.
static enum rmj_status add_match(struct rmj_sort *matches, uint32_t index, uint32_t earlier, uint32_t percent,
                                 struct rmj_error *err)
{
    uint64_t words[2] = {(uint64_t)index << 32 | earlier, percent};
    return rmj_sort_add(matches, words, err);
}

static enum rmj_status compare(struct rmj_study *study, struct leaders *leaders, uint32_t index,
                               struct rmj_sort *matches, struct rmj_error *err)
{
    struct rmj_study_record record;
    RMJ_TRY(rmj_study_record(study, index, &record, err));
    for (uint32_t i = 0; i < leaders->count; i++) {
        uint32_t percent = similarity(&record.sketch, &leaders->records[i].sketch);
        if (percent > 0) {
            return add_match(matches, index, leaders->indices[i], percent, err);
        }
    }
    if (leaders->count < LEADERS_MAX) {
        leaders->records[leaders->count] = record;
        leaders->indices[leaders->count++] = index;
    }
    return RMJ_OK;
}

// Pairs with equal bands come one after the other, in their order.
static enum rmj_status compare_groups(struct rmj_study *study, struct rmj_sort *band, struct rmj_sort *matches,
                                      struct leaders *leaders, struct rmj_error *err)
{
    uint64_t before = 0;
    uint32_t members = 0;
    for (;;) {
        const uint64_t *word;
        RMJ_TRY(rmj_sort_next(band, &word, err));
        if (word == NULL) {
            return RMJ_OK;
        }
        if (members > 0 && *word >> 32 == before >> 32) {
            if (members == 1) {
                leaders->count = 0;
                RMJ_TRY(compare(study, leaders, (uint32_t)before, matches, err));
            }
            RMJ_TRY(compare(study, leaders, (uint32_t)*word, matches, err));
            members++;
        } else {
            members = 1;
        }
        before = *word;
    }
}

struct feed {
    struct rmj_sort *band;
    uint32_t number;
};

static enum rmj_status feed_band(void *context, uint32_t index, const struct rmj_study_record *record,
                                 struct rmj_error *err)
{
    struct feed *feed = context;
    uint64_t word = (uint64_t)record->sketch.bands[feed->number] << 32 | index;
    return rmj_sort_add(feed->band, &word, err);
}

static enum rmj_status count_matches(struct rmj_study *study, struct rmj_sort *matches,
                                     struct rmj_study_findings *findings, struct rmj_error *err)
{
    uint64_t before = UINT64_MAX;
    for (;;) {
        const uint64_t *words;
        struct rmj_study_record record;
        RMJ_TRY(rmj_sort_next(matches, &words, err));
        if (words == NULL) {
            return RMJ_OK;
        }
        if (words[0] >> 32 == before) {
            continue; // found by another band too; the earliest other comes first
        }
        before = words[0] >> 32;
        RMJ_TRY(rmj_study_record(study, (uint32_t)before, &record, err));
        findings->near++;
        findings->near_by_source[record.source]++;
        struct rmj_study_example example = {
            .index = (uint32_t)before, .other = (uint32_t)words[0], .what = (uint32_t)words[1]};
        rmj_study_example_add(&findings->near_examples, &example);
    }
}

enum rmj_status rmj_study_find_near(struct rmj_study *study, struct rmj_study_findings *findings, struct rmj_error *err)
{
    struct rmj_sort *band = NULL, *matches = NULL;
    struct leaders *leaders = malloc(sizeof *leaders);
    enum rmj_status status = leaders != NULL ? RMJ_OK : rmj_fail(err, RMJ_NO_MEMORY, "no memory for the study");
    if (status != RMJ_OK) {
        goto out;
    }
    // The C library's sort takes as much again.
    RMJ_GO(rmj_sort_create(&band, 1, study->directory, study->memory_bytes / 4, err));
    RMJ_GO(rmj_sort_create(&matches, 2, study->directory, study->memory_bytes / 8, err));
    for (uint32_t number = 0; number < RMJ_SKETCH_BANDS; number++) {
        struct feed feed = {.band = band, .number = number};
        rmj_sort_clear(band);
        RMJ_GO(rmj_study_each(study, feed_band, &feed, err));
        RMJ_GO(compare_groups(study, band, matches, leaders, err));
    }
    RMJ_GO(count_matches(study, matches, findings, err));
out:
    rmj_sort_destroy(band);
    rmj_sort_destroy(matches);
    free(leaders);
    return status;
}
