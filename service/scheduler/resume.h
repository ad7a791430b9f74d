// Where a generation takes its state from: the newest step at which every page exists. A pure function.
#ifndef RMJ_SERVICE_SCHEDULER_RESUME_H
#define RMJ_SERVICE_SCHEDULER_RESUME_H

#include "service/scheduler/scheduler.h"

struct rmj_resume {
    Rmjob__V1__ResumeSource source;
    uint32_t step;
    char manifest[65]; // MANIFEST only, else ""
};

// inventories: of the ranks that will be in the generation. Memory wins over a manifest of the same step: it is nearer.
// Manifests that did not verify are passed over, so a bad one falls back to the one before, and at last to the base
// model.
struct rmj_resume rmj_resume_choose(const struct rmj_job_record *record, const struct rmj_inventory *const *inventories,
                                    size_t count);
// The pages that an inventory holds of a step, or NULL.
const uint8_t *rmj_resume_pages(const struct rmj_inventory *inventory, uint32_t step);

#endif
