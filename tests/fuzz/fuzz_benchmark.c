// A RewardBench 2 file of any bytes: rows that the evaluation can count on, or what is wrong with it. The first byte
// says whether the whole benchmark is asked for, and whether broken rows are collected or end the reading.
#include "tests/fuzz/fuzz.h"
#include "trainer/data/benchmark.h"

static void check_rows(const struct rmj_benchmark *benchmark)
{
    size_t total = 0;
    for (size_t i = 0; i < RMJ_SUBSET_COUNT; i++) {
        total += benchmark->subset_rows[i];
    }
    RMJ_ASSERT(total == benchmark->count);
    for (size_t i = 0; i < benchmark->count; i++) {
        const struct rmj_benchmark_row *row = &benchmark->rows[i];
        RMJ_ASSERT(row->id != NULL && row->subset != NULL && row->prompt != NULL);
        RMJ_ASSERT(row->correct_count > 0 && row->correct_count < row->completion_count);
        RMJ_ASSERT(row->completion_count <= RMJ_BENCHMARK_COMPLETIONS_MAX);
        for (uint32_t j = 0; j < row->completion_count; j++) {
            RMJ_ASSERT(strlen(row->completions[j]) <= UINT32_MAX);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *directory;
    directory = directory != NULL ? directory : fuzz_directory();
    if (size == 0) {
        return 0;
    }
    char path[2 * FUZZ_PATH_SIZE];
    struct rmj_benchmark benchmark = {0};
    struct rmj_findings findings;
    struct rmj_error err = {0};
    int collect = bytes[0] >> 1 & 1;
    snprintf(path, sizeof path, "%s/b.jsonl", directory);
    fuzz_write(directory, "b.jsonl", bytes + 1, size - 1);
    rmj_findings_init(&findings);
    enum rmj_status status =
        rmj_benchmark_read(&benchmark, path, bytes[0] & 1, "evaluate.rewardbench2", collect ? &findings : NULL, &err);
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    if (status == RMJ_OK && findings.error_count == 0) {
        check_rows(&benchmark);
    }
    rmj_benchmark_deinit(&benchmark);
    rmj_findings_deinit(&findings);
    return 0;
}
