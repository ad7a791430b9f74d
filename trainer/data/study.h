// What is worth knowing about a preference set beyond the contract: near duplicates, contradictions, the length rule,
// languages and lengths per source, and what it shares with held-out rows and the benchmark. Fed pair by pair in reading
// order; the result is the same for any number of threads.
//
// The costly part, a sketch of the texts, is a pure function and is made by any thread; taking a pair is cheap and in
// order. Memory is bounded: memory_bytes_max, whatever the number of pairs.
#ifndef RMJ_TRAINER_DATA_STUDY_H
#define RMJ_TRAINER_DATA_STUDY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/rmjob/v1/report.pb-c.h"

// What a pair's texts say, reduced to a fixed size (minimum hashes of word n-grams of prompt and of both sides, script
// and language guess, lengths). Filled by rmj_sketch_make.
#define RMJ_SKETCH_HASHES 16u
#define RMJ_SKETCH_GRAMS_MAX 64u
struct rmj_sketch {
    uint64_t prompt_key;                    // of the folded prompt; 0 when there is none
    uint64_t chosen_key, rejected_key;      // of the folded answers
    uint64_t hashes[RMJ_SKETCH_HASHES];     // minimum hashes of the whole chosen conversation
    uint64_t grams[RMJ_SKETCH_GRAMS_MAX];   // bounded sample (smallest hashes) of the prompt's 13-word grams: contamination
    uint32_t gram_count;
    uint32_t chosen_characters, rejected_characters; // of the answers
    uint8_t language;                       // index into rmj_study_language_name
};
struct rmj_sketch_texts {
    const char *prompt, *chosen, *rejected; // UTF-8; the sides without the prompt where that can be told
    size_t prompt_size, chosen_size, rejected_size;
};
void rmj_sketch_make(struct rmj_sketch *sketch, const struct rmj_sketch_texts *texts);

struct rmj_study;
struct rmj_study_options {
    const char *temporary_directory; // where what does not fit in memory goes
    size_t memory_bytes_max;
};
RMJ_MUST_USE enum rmj_status rmj_study_create(struct rmj_study **study, const struct rmj_study_options *options,
                                              struct rmj_error *err);
void rmj_study_destroy(struct rmj_study *study);
// Before the first pair: rows that training must not contain. kind: "rewardbench2" or "heldout"; id: as the report names it.
RMJ_MUST_USE enum rmj_status rmj_study_add_reference(struct rmj_study *study, const char *kind, const char *id,
                                                     const struct rmj_sketch_texts *texts, struct rmj_error *err);
// Following pairs are of this source (a spec's name for it, else the file's).
RMJ_MUST_USE enum rmj_status rmj_study_begin_source(struct rmj_study *study, const char *name, struct rmj_error *err);
struct rmj_study_pair {
    const struct rmj_sketch *sketch;
    const char *path; // of the file
    uint64_t row;     // from 1
    uint32_t chosen_tokens, rejected_tokens;
};
RMJ_MUST_USE enum rmj_status rmj_study_take(struct rmj_study *study, const struct rmj_study_pair *pair,
                                            struct rmj_error *err);
// Adds what was found to the report (sources, near duplicates, contradictions, overlaps, issues by row).
RMJ_MUST_USE enum rmj_status rmj_study_finish(struct rmj_study *study, Rmjob__V1__DataReport *report,
                                              struct rmj_error *err);

#endif
