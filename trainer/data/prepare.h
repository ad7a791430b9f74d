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

// Reads the whole set, applies the contract, and stores the plan (plan/<digest> below prefix of the store). result:
// plan, data report and findings; with an error among the findings there is no plan.
RMJ_MUST_USE enum rmj_status rmj_prepare(const Rmjob__V1__JobSpec *spec, struct rmj_store *store, const char *prefix,
                                         Rmjob__V1__PreparedRequest **result, struct rmj_error *err);

#endif
