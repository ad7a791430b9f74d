// Shared by study*.c only.
#ifndef RMJ_TRAINER_DATA_STUDY_INTERNAL_H
#define RMJ_TRAINER_DATA_STUDY_INTERNAL_H

#include "trainer/data/study.h"
#include "trainer/data/study_sort.h"

// Words of a contamination gram, as in the overlap study of GPT-3 (Brown et al. 2020, appendix C).
#define RMJ_OVERLAP_WORDS 13u
// Words of a gram of the minimum hashes.
#define RMJ_SHINGLE_WORDS 3u
// A gram in the prompts of more references than this is boilerplate and no sign of contamination (the same appendix).
#define RMJ_BOILERPLATE_PROMPTS 10u
#define RMJ_EXAMPLES_PER_KIND 12u

// A text as it is compared: NFKC, case folded, runs of white space as one space.
struct rmj_folded {
    char *bytes; // owned
    size_t size;
};
void rmj_fold(struct rmj_folded *folded, const char *text, size_t size);
void rmj_folded_deinit(struct rmj_folded *folded);
// The next word at or after *at: 1 and [*start, *start + *length), 0 at the end. *at is then behind the word.
int rmj_next_word(const struct rmj_folded *text, size_t *at, size_t *start, size_t *length);

// study_language.c
#define RMJ_LANGUAGE_NONE 0u // no words
uint32_t rmj_language_of(const struct rmj_folded *text);
uint32_t rmj_language_count(void);
int rmj_language_is_known(uint32_t language);

// study_references.c: 13-word grams and whole prompts of the references.
struct rmj_reference_entry {
    uint64_t key : 56;    // of the gram or prompt
    uint64_t count : 8;   // prompts that hold it, bounded; 0: the place is empty
    uint32_t first, last; // references that hold it, from 1
};
_Static_assert(sizeof(struct rmj_reference_entry) == 16, "memory of the references");
struct rmj_references {
    struct rmj_reference_entry *entries;
    size_t size, used, bytes_max;
    unsigned sample_shift; // grams whose hash has so many zero bits at its end are kept
    char **ids;            // [count]
    uint8_t *kinds;        // [count]
    uint32_t count, room;
};
void rmj_references_deinit(struct rmj_references *references);
RMJ_MUST_USE enum rmj_status rmj_references_add(struct rmj_references *references, enum rmj_reference_kind kind,
                                                const char *id, const char *prompt, size_t prompt_size,
                                                struct rmj_error *err);
// Fills sketch->overlaps and gram_count.
void rmj_references_look(const struct rmj_references *references, const struct rmj_folded *prompt,
                         struct rmj_sketch *sketch);

// study.c
struct rmj_study_record {
    struct rmj_sketch sketch;
    uint64_t row;
    uint32_t path, source; // indices of names
    uint32_t chosen_tokens, rejected_tokens;
};
_Static_assert(sizeof(struct rmj_study_record) == 184, "layout of a studied pair");

struct rmj_names {
    char **texts;
    uint32_t count, room;
};
struct rmj_study {
    struct rmj_references references;
    char *directory;
    size_t memory_bytes;
    int pairs_fd, names_fd;
    uint64_t names_size;
    struct rmj_names paths, sources;
    uint32_t path, source; // in use
    struct rmj_study_record *buffer;
    uint32_t buffered;
    uint32_t pair_count; // buffered ones included
};
// Calls each with every record in the order they were taken, until it fails.
typedef enum rmj_status (*rmj_study_fn)(void *context, uint32_t index, const struct rmj_study_record *record,
                                        struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_study_each(struct rmj_study *study, rmj_study_fn each, void *context,
                                            struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_study_record(struct rmj_study *study, uint32_t index, struct rmj_study_record *record,
                                              struct rmj_error *err);

// Something found at a pair, with the pair that it is about.
struct rmj_study_example {
    uint32_t index, other;
    uint32_t what; // near: similarity in percent; contradictions: 1 when the other is the exact opposite
};
// The first ones by index.
struct rmj_study_examples {
    struct rmj_study_example list[RMJ_EXAMPLES_PER_KIND];
    uint32_t count;
};
void rmj_study_example_add(struct rmj_study_examples *examples, const struct rmj_study_example *example);

struct rmj_study_findings {
    uint64_t near, contradictions, mixed, swapped_across, not_compared;
    uint64_t *near_by_source, *contradictions_by_source; // [source_count]
    struct rmj_study_examples near_examples, contradiction_examples;
    struct rmj_sort *swapped; // (source, other source), one a pair
};
// study_near.c, study_contradict.c
RMJ_MUST_USE enum rmj_status rmj_study_find_near(struct rmj_study *study, struct rmj_study_findings *findings,
                                                 struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_study_find_contradictions(struct rmj_study *study, struct rmj_study_findings *findings,
                                                           struct rmj_error *err);

static inline uint64_t rmj_study_mix(uint64_t x)
{
    // The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// A gram's hash: of word_count word hashes in a ring whose newest is at `newest`.
static inline uint64_t rmj_gram_of(const uint64_t *ring, uint32_t ring_size, uint32_t newest, uint32_t word_count)
{
    uint64_t hash = word_count;
    for (uint32_t i = 0; i < word_count; i++) {
        hash = ((hash << 7 | hash >> 57) ^ ring[(newest + ring_size - i) % ring_size]) * 0x9e3779b97f4a7c15u;
    }
    return rmj_study_mix(hash);
}

#endif
