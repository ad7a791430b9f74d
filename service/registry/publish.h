// From a staged directory and its raw scores to a published version.
//
//   gate:     raw scores (by digest) -> report -> verdict
//   publish:  models/<name>/claim/<version>                  the number is this job's (if absent)
//             staged/<job>/... -> models/<name>/<version>/...  + README.md rmjob.json model.sig
//             -> models/<name>/<version>.json                  the one write that makes it visible (if absent)
//             -> models/<name>/alias/<alias>.json
//
// Every step may be cut by kill -9 and done again: files are written before the version object, a version object that
// names this job is this job's success, a number that another job has claimed means the next number. A claim alone
// shows nothing to anybody; the worst it leaves is a gap in the numbers.
//
// No database, no threads: stores and messages come in, messages go out.
#ifndef RMJ_SERVICE_REGISTRY_PUBLISH_H
#define RMJ_SERVICE_REGISTRY_PUBLISH_H

#include "base/status.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "proto/rmjob/v1/registry.pb-c.h"
#include "proto/rmjob/v1/report.pb-c.h"
#include "storage/artifact/artifact.h"
#include "storage/object/store.h"

// Where the ranks leave the raw scores: jobs/<job>/rows/<sha256> in the checkpoint store.
#define RMJ_ROWS_SIZE_MAX ((size_t)256 << 20)
#define RMJ_PUBLISH_VERSIONS_MAX 1000000u

// Reads the ScoredRows that delivered->report names, checks them against their digest. RMJ_CORRUPT, RMJ_NOT_FOUND.
RMJ_MUST_USE enum rmj_status rmj_registry_rows(struct rmj_store *checkpoints, const char *job,
                                               const Rmjob__V1__EvaluatedRequest *delivered,
                                               Rmjob__V1__ScoredRows **rows, struct rmj_error *err);

struct rmj_gate_request {
    struct rmj_store *checkpoints;
    const char *job;
    const Rmjob__V1__EvaluatedRequest *delivered;
    const Rmjob__V1__GateSpec *gate;       // of the spec; may be NULL
    const Rmjob__V1__GateSpec *floors;     // of the project; may be NULL
    const Rmjob__V1__EvalReport *previous; // of what the alias serves now; may be NULL
};
// *report: made from the rows, with the digests the ranks delivered. Free both with protobuf_c_message_free_unpacked.
RMJ_MUST_USE enum rmj_status rmj_registry_gate(const struct rmj_gate_request *request, Rmjob__V1__EvalReport **report,
                                               Rmjob__V1__GateVerdict **verdict, struct rmj_error *err);

struct rmj_publish_request {
    struct rmj_store *store;
    const char *store_url;
    const Rmjob__V1__JobReport *report; // whole: job, spec, data, plan, evaluation, verdict, consumed
    const Rmjob__V1__EvaluatedRequest *delivered;
    const struct rmj_signing_key *key;
    const char *name, *alias;
    uint32_t version_hint; // where to look for a free number first; 0: 1
    int64_t now_unix_ms;
};
// RMJ_CORRUPT when a staged file is not what was evaluated.
RMJ_MUST_USE enum rmj_status rmj_registry_publish(const struct rmj_publish_request *request,
                                                  Rmjob__V1__ModelVersion **version, Rmjob__V1__Alias **alias,
                                                  struct rmj_error *err);
// Deletes every object below the staged prefix of a job. Absent is success.
RMJ_MUST_USE enum rmj_status rmj_registry_unstage(struct rmj_store *store, const char *job, struct rmj_error *err);

// A parsed reference: name, name@alias or name@version. RMJ_INVALID says what is wrong with it.
struct rmj_model_reference {
    char name[64];
    char alias[64];   // "" when none
    uint32_t version; // 0 when none
};
RMJ_MUST_USE enum rmj_status rmj_model_reference_parse(const char *text, struct rmj_model_reference *reference,
                                                       struct rmj_error *err);
// A letter, then letters, digits, '-', '_' or '.', at most 63 characters: names of jobs, projects, models, aliases.
int rmj_name_valid(const char *name);

#endif
