#include "service/scheduler/resume.h"

#include <stdio.h>

const uint8_t *rmj_resume_pages(const struct rmj_inventory *inventory, uint32_t step)
{
    for (uint32_t i = 0; i < inventory->snapshot_count; i++) {
        if (inventory->snapshots[i].step == step) {
            return inventory->snapshots[i].pages;
        }
    }
    return NULL;
}

// 1 when every page of `step` is in some rank's memory.
static int is_whole(const struct rmj_inventory *const *inventories, size_t count, uint32_t step, uint32_t page_count)
{
    for (uint32_t first = 0; first < page_count; first += 8) {
        unsigned held = 0;
        unsigned wanted = page_count - first >= 8 ? 0xffu : (1u << (page_count - first)) - 1;
        for (size_t i = 0; i < count; i++) {
            const uint8_t *pages = rmj_resume_pages(inventories[i], step);
            held |= pages ? pages[first / 8] : 0u;
        }
        if ((held & wanted) != wanted) {
            return 0;
        }
    }
    return page_count > 0;
}

struct rmj_resume rmj_resume_choose(const struct rmj_job_record *record, const struct rmj_inventory *const *inventories,
                                    size_t count)
{
    struct rmj_resume resume = {.source = RMJOB__V1__RESUME_SOURCE__FRESH};
    for (uint32_t i = 0; i < record->manifest_count; i++) {
        if (!record->manifests[i].bad && record->manifests[i].step >= resume.step) {
            resume.source = RMJOB__V1__RESUME_SOURCE__MANIFEST;
            resume.step = record->manifests[i].step;
            snprintf(resume.manifest, sizeof resume.manifest, "%s", record->manifests[i].digest);
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (uint32_t s = 0; s < inventories[i]->snapshot_count; s++) {
            uint32_t step = inventories[i]->snapshots[s].step;
            int newer =
                step > resume.step || (step == resume.step && resume.source != RMJOB__V1__RESUME_SOURCE__MEMORY);
            if (newer && is_whole(inventories, count, step, record->page_count)) {
                resume.source = RMJOB__V1__RESUME_SOURCE__MEMORY;
                resume.step = step;
                resume.manifest[0] = 0;
            }
        }
    }
    return resume;
}
