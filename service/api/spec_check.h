// Everything about a spec that can be judged without reading a model or data: presence, ranges, names, places.
#ifndef RMJ_SERVICE_API_SPEC_CHECK_H
#define RMJ_SERVICE_API_SPEC_CHECK_H

#include "base/status.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"

// Adds every finding at once, with dotted field paths; the line numbers are the client's to add.
void rmj_spec_check(const Rmjob__V1__JobSpec *spec, const Rmjob__V1__Policy *policy,
                    Rmjob__V1__ValidateResponse *reply);
// 1 when an error (not only warnings) is among them.
int rmj_findings_refuse(const Rmjob__V1__ValidateResponse *reply);
// field and message are copied. exit_code: 2 spec, 6 data, 7 infrastructure.
void rmj_finding_add(Rmjob__V1__ValidateResponse *reply, const char *field, uint32_t exit_code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

struct rmj_spec_defaults {
    const char *checkpoint_store, *publish_store;
    uint32_t core_count;
};
// Writes the defaults that spec.proto's comments promise into the spec, so that what is pinned says everything. The
// gate is left as written: a silent threshold is the policy's. Call with a spec that was checked.
void rmj_spec_fill_defaults(Rmjob__V1__JobSpec *spec, const struct rmj_spec_defaults *defaults);

// Stores can be opened and written. A local directory that is not there yet is judged by its nearest parent, so that
// nothing is made for a spec that is refused in the end.
void rmj_spec_check_stores(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply);

// What a project without a policy of its own gets: just over chance (0.26) for the five accuracy categories, none for
// Ties, which has no chance level and must therefore be given by every spec.
Rmjob__V1__Policy *rmj_policy_default(const char *project);
// Floors in range, over chance, names. Findings are under "floors." and the like.
void rmj_policy_check(const Rmjob__V1__Policy *policy, Rmjob__V1__ValidateResponse *reply);

#endif
