// What is worth knowing about a preference set beyond the contract: near duplicates, contradictions, the length rule,
// languages and lengths per source, and what it shares with held-out rows and the benchmark. Fed pair by pair in
// reading order; the result is the same for any number of threads and any bound on memory.
//
// The costly part, a sketch of the texts, is a pure function and is made by any thread; taking a pair is cheap and in
// order. Memory is bounded: memory_bytes_max, whatever the number of pairs; what does not fit lies in unlinked files.
//
// Exact: contradictions, swapped sides, the length rule, histograms, equal prompts, and shared 13-word grams while the
// references' grams fit a third of the memory (then a sample of the grams, the same on both sides; the report says
// which part). Estimated: near duplicates. Two pairs are near duplicates when the Jaccard similarity of their 3-word
// grams is 0.8 or more both for the prompts and for the answers; it is estimated from 32 minimum hashes each (Broder
// 1997; standard error 0.07 at 0.8), between pairs that agree in at least one of 8 bands of 4 hashes of the whole
// (which misses 1 in 70 at 0.8 and 1 in 5,000 at 0.9).
//
// A word is a run of letters and digits of the folded text (as rmj_prompt_key folds); in scripts without spaces between
// words, Chinese for instance, each character is one.
#ifndef RMJ_TRAINER_DATA_STUDY_H
#define RMJ_TRAINER_DATA_STUDY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/report.pb-c.h"

#define RMJ_SKETCH_HASHES 32u
#define RMJ_SKETCH_BANDS 8u

// Kinds of rows that training must not contain.
enum rmj_reference_kind {
    RMJ_REFERENCE_BENCHMARK, // "rewardbench2"
    RMJ_REFERENCE_HELDOUT,   // "heldout"
    RMJ_REFERENCE_KINDS
};

// The reference that shares most with a pair's prompt.
struct rmj_sketch_overlap {
    uint32_t reference; // its number from 1; 0: none
    uint32_t grams;     // 13-word grams that both have
    uint32_t equal;     // 1: the prompts are equal when folded
};

// What a pair's texts say, reduced to a fixed size without pointers. Filled by rmj_sketch_make.
struct rmj_sketch {
    uint64_t prompt_key;               // of the folded prompt; 0 when there is none
    uint64_t chosen_key, rejected_key; // of the folded answers
    struct rmj_sketch_overlap overlaps[RMJ_REFERENCE_KINDS];
    uint32_t gram_count; // 13-word grams of the prompt
    uint32_t chosen_characters, rejected_characters;
    uint32_t language;                // index into rmj_study_language_name
    uint32_t bands[RMJ_SKETCH_BANDS]; // of the minimum hashes of prompt and answers together
    uint8_t prompt_marks[RMJ_SKETCH_HASHES], answer_marks[RMJ_SKETCH_HASHES]; // a byte of each minimum hash
};
_Static_assert(sizeof(struct rmj_sketch) == 160, "a sketch has no padding: it is written to a file as it is");

struct rmj_study;
struct rmj_sketch_texts {
    const char *prompt, *chosen, *rejected; // UTF-8; the sides without the prompt where that can be told
    size_t prompt_size, chosen_size, rejected_size;
    const struct rmj_study *study; // whose references are looked for; NULL for none
};
// Safe in any thread once the study has all its references.
void rmj_sketch_make(struct rmj_sketch *sketch, const struct rmj_sketch_texts *texts);
// "English", "Chinese", ..., "other" (a language that is not in the table, or too little text), "none" (no words).
const char *rmj_study_language_name(uint32_t language);

struct rmj_study_options {
    const char *temporary_directory; // where what does not fit in memory goes; NULL: anonymous memory
    size_t memory_bytes_max;         // 0: 128 MiB; at least 1 MiB
    // Goes on with the pairs that a killed process had taken (rmj_study_sync), cut to this many: references and sources
    // are given again, in the same order. 0: begins anew. Needs a directory.
    uint32_t resume_pair_count;
};
// RMJ_NOT_FOUND when there is not so much to go on with.
RMJ_MUST_USE enum rmj_status rmj_study_create(struct rmj_study **study, const struct rmj_study_options *options,
                                              struct rmj_error *err);
void rmj_study_destroy(struct rmj_study *study); // the files of its pairs stay, for a resume
// Before the first pair: rows that training must not contain; only the prompt of the texts is used. kind:
// "rewardbench2" or "heldout"; id: as the report names it.
RMJ_MUST_USE enum rmj_status rmj_study_add_reference(struct rmj_study *study, const char *kind, const char *id,
                                                     const struct rmj_sketch_texts *texts, struct rmj_error *err);
// Following pairs are of this source (a spec's name for it, else the file's). A name that was there before is the same
// source.
RMJ_MUST_USE enum rmj_status rmj_study_begin_source(struct rmj_study *study, const char *name, struct rmj_error *err);
struct rmj_study_pair {
    const struct rmj_sketch *sketch;
    const char *path; // of the file
    uint64_t row;     // from 1
    uint32_t chosen_tokens, rejected_tokens;
};
RMJ_MUST_USE enum rmj_status rmj_study_take(struct rmj_study *study, const struct rmj_study_pair *pair,
                                            struct rmj_error *err);
// Every pair taken so far is on disk when this returns.
RMJ_MUST_USE enum rmj_status rmj_study_sync(struct rmj_study *study, struct rmj_error *err);
uint32_t rmj_study_pair_count(const struct rmj_study *study);
// Adds what was found to the report (sources, near duplicates, contradictions, overlaps, issues by row). Once.
RMJ_MUST_USE enum rmj_status rmj_study_finish(struct rmj_study *study, Rmjob__V1__DataReport *report,
                                              struct rmj_error *err);

#endif
