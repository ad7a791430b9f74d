// Where a generation takes its state from.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/scheduler/resume.h"

#define NEVER UINT32_MAX
#define NO_MEMORY                                                                                                      \
    {                                                                                                                  \
        NEVER,                                                                                                         \
        {                                                                                                              \
            0, 0                                                                                                       \
        }                                                                                                              \
    }
#define NO_MANIFEST                                                                                                    \
    {                                                                                                                  \
        NEVER, 0                                                                                                       \
    }

// Two ranks, nine pages (so that the bitmap has a ragged end), one snapshot each; two manifests.
static const struct row {
    const char *promise;
    struct {
        uint32_t step; // NEVER: no snapshot
        uint8_t pages[2];
    } memory[2];
    struct {
        uint32_t step;
        int bad;
    } manifests[2];
    Rmjob__V1__ResumeSource source;
    uint32_t step;
} rows[] = {
    {"nothing anywhere: the base model",
     {NO_MEMORY, NO_MEMORY},
     {NO_MANIFEST, NO_MANIFEST},
     RMJOB__V1__RESUME_SOURCE__FRESH,
     0},
    {"the newest manifest", {NO_MEMORY, NO_MEMORY}, {{4, 0}, {8, 0}}, RMJOB__V1__RESUME_SOURCE__MANIFEST, 8},
    {"a bad one falls back", {NO_MEMORY, NO_MEMORY}, {{4, 0}, {8, 1}}, RMJOB__V1__RESUME_SOURCE__MANIFEST, 4},
    {"both bad: the base model", {NO_MEMORY, NO_MEMORY}, {{4, 1}, {8, 1}}, RMJOB__V1__RESUME_SOURCE__FRESH, 0},
    {"whole memory that is newer",
     {{9, {0x0f, 0}}, {9, {0xf0, 1}}},
     {{4, 0}, {8, 0}},
     RMJOB__V1__RESUME_SOURCE__MEMORY,
     9},
    {"memory of the same step is nearer",
     {{8, {0xff, 1}}, NO_MEMORY},
     {{4, 0}, {8, 0}},
     RMJOB__V1__RESUME_SOURCE__MEMORY,
     8},
    {"older memory is not taken", {{7, {0xff, 1}}, NO_MEMORY}, {{4, 0}, {8, 0}}, RMJOB__V1__RESUME_SOURCE__MANIFEST, 8},
    {"the last page is missing", {{9, {0xff, 0}}, NO_MEMORY}, {{4, 0}, {8, 0}}, RMJOB__V1__RESUME_SOURCE__MANIFEST, 8},
    {"pages of different steps do not add up",
     {{9, {0x0f, 0}}, {10, {0xf0, 1}}},
     {{4, 0}, {8, 0}},
     RMJOB__V1__RESUME_SOURCE__MANIFEST,
     8},
    {"memory alone, of step 0",
     {{0, {0xff, 1}}, NO_MEMORY},
     {NO_MANIFEST, NO_MANIFEST},
     RMJOB__V1__RESUME_SOURCE__MEMORY,
     0},
    {"bits past the last page mean nothing",
     {{9, {0xff, 0xfe}}, NO_MEMORY},
     {NO_MANIFEST, NO_MANIFEST},
     RMJOB__V1__RESUME_SOURCE__FRESH,
     0},
};

static void check_row(void **state)
{
    struct row row = *(const struct row *)*state;
    struct rmj_job_record record = {.page_count = 9, .step_count = 20};
    struct rmj_inventory inventories[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        if (row.memory[i].step != NEVER) {
            inventories[i].snapshot_count = 1;
            inventories[i].snapshots[0].step = row.memory[i].step;
            inventories[i].snapshots[0].pages = row.memory[i].pages;
        }
        if (row.manifests[i].step != NEVER) {
            uint32_t n = record.manifest_count++;
            record.manifests[n].step = row.manifests[i].step;
            record.manifests[n].bad = row.manifests[i].bad;
            snprintf(record.manifests[n].digest, sizeof record.manifests[n].digest, "m%u", row.manifests[i].step);
        }
    }
    struct rmj_resume resume =
        rmj_resume_choose(&record, (const struct rmj_inventory *const[]){&inventories[0], &inventories[1]}, 2);
    assert_int_equal(resume.source, row.source);
    assert_int_equal(resume.step, row.step);
    char digest[65] = "";
    if (row.source == RMJOB__V1__RESUME_SOURCE__MANIFEST) {
        snprintf(digest, sizeof digest, "m%u", row.step);
    }
    assert_string_equal(resume.manifest, digest);
}

int main(void)
{
    struct CMUnitTest tests[sizeof rows / sizeof *rows];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tests[i] = (struct CMUnitTest){
            .name = rows[i].promise, .test_func = check_row, .initial_state = (void *)(uintptr_t)&rows[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
