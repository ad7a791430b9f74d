// The CPU-only stages before any rank is placed: the check of a spec's inputs at submit, and the whole-set data
// contract that ends in a plan.
#ifndef RMJ_TRAINER_DATA_PREPARE_H
#define RMJ_TRAINER_DATA_PREPARE_H

#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "storage/object/store.h"

// Findings, plan summary and data report are made with protobuf-c's allocator; free with
// protobuf_c_message_free_unpacked. A check that finds errors returns RMJ_OK with findings; anything else that goes
// wrong (no memory, an unreachable store) is an error.

// Base model, policy model, tokenizer, template, benchmark and a sample of the data (first rows of every file). Never
// reads weights or whole data sets, so it is done within a second. reply: findings, pinned, sample.
RMJ_MUST_USE enum rmj_status rmj_check_spec(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse **reply,
                                            struct rmj_error *err);

struct rmj_prepare_progress {
    uint64_t rows; // read so far
    size_t file, file_count;
    int writing; // 1: everything is read, the plan is being written
    int resumed; // 1: a killed preparation was gone on with
};
struct rmj_prepare_options {
    // Where accepted pairs and the plan lie until the plan is stored: about twice the size of its tokens. What a killed
    // preparation of the same work left there is gone on with. NULL: in memory.
    const char *directory;
    size_t thread_count;    // 0: resources.threads, else the machine's cores. The result does not depend on it.
    size_t study_bytes_max; // memory of the study of the set; 0: 128 MiB
    int64_t journal_ms;     // how often the work so far is made safe; 0: every five seconds
    void (*progress)(void *context, const struct rmj_prepare_progress *progress); // between rows; may be NULL
    void *context;
};
// Reads the whole set, applies the contract, and stores the plan (plan/<digest> below prefix of the store). result:
// plan, data report and findings; with an error among the findings there is no plan. Memory does not grow with the
// tokens: some forty bytes a pair, and the model's tokenizer.
RMJ_MUST_USE enum rmj_status rmj_prepare(const Rmjob__V1__JobSpec *spec, struct rmj_store *store, const char *prefix,
                                         const struct rmj_prepare_options *options, Rmjob__V1__PreparedRequest **result,
                                         struct rmj_error *err);

#endif
