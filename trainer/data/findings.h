// Findings about a job's inputs, collected for one reply. Bounded: what is over the bound is counted in a last line.
#ifndef RMJ_TRAINER_DATA_FINDINGS_H
#define RMJ_TRAINER_DATA_FINDINGS_H

#include <stddef.h>

#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"

#define RMJ_FINDINGS_MAX 50u
#define RMJ_EXIT_SPEC 2u
#define RMJ_EXIT_DATA 6u
#define RMJ_EXIT_INFRASTRUCTURE 7u

struct rmj_findings {
    Rmjob__V1__Finding **items; // protobuf-c's allocator, room for RMJ_FINDINGS_MAX + 1
    size_t count;
    size_t left_out;
    size_t error_count; // left-out ones included
};

void rmj_findings_init(struct rmj_findings *findings);
void rmj_findings_deinit(struct rmj_findings *findings);
// field: dotted path in the spec.
void rmj_findings_error(struct rmj_findings *findings, const char *field, unsigned exit_code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void rmj_findings_warn(struct rmj_findings *findings, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A failed call as a finding, where it is one about the inputs; returns RMJ_OK then, else err's status unchanged
// (no memory, a full disk, an unreachable store, ...).
RMJ_MUST_USE enum rmj_status rmj_findings_take(struct rmj_findings *findings, const char *field, unsigned exit_code,
                                               const struct rmj_error *err);
// Hands the list over to a message.
void rmj_findings_detach(struct rmj_findings *findings, Rmjob__V1__Finding ***items, size_t *count);

#endif
