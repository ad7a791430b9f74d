// RewardBench 2 in its own row format (reference/rewardbench2.md, section 1).
#ifndef RMJ_TRAINER_DATA_BENCHMARK_H
#define RMJ_TRAINER_DATA_BENCHMARK_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"
#include "trainer/data/findings.h"
#include "trainer/data/rows.h"
#include "trainer/data/template.h"

#define RMJ_BENCHMARK_ROWS_MAX 1000000u
#define RMJ_BENCHMARK_COMPLETIONS_MAX 1024u
#define RMJ_SUBSET_COUNT 6

struct rmj_benchmark_row {
    char *id, *subset, *prompt;
    char **completions; // correct ones first
    uint32_t correct_count, completion_count;
};

struct rmj_benchmark {
    struct rmj_benchmark_row *rows;
    size_t count;
    uint32_t subset_rows[RMJ_SUBSET_COUNT];
    struct rmj_digest digest; // of the file as stored
};

// Reads and checks every row. Broken rows become findings under `field` (findings NULL: the first is returned as
// RMJ_DATA). With `complete`, the six subsets must be there and every tied:N must have its ref:N.
RMJ_MUST_USE enum rmj_status rmj_benchmark_read(struct rmj_benchmark *benchmark, const char *path, int complete,
                                                const char *field, struct rmj_findings *findings,
                                                struct rmj_error *err);
void rmj_benchmark_deinit(struct rmj_benchmark *benchmark);

// A completion as the conversation [user: prompt, assistant: completion].
RMJ_MUST_USE enum rmj_status rmj_benchmark_encode(const struct rmj_benchmark_row *row, uint32_t completion,
                                                  const struct rmj_renderer *renderer, struct rmj_render_memory *memory,
                                                  struct rmj_tokens *tokens, struct rmj_error *err);
// Encodes the first `count` rows: the first that the template refuses becomes a finding, before anything is trained.
RMJ_MUST_USE enum rmj_status rmj_benchmark_check_rows(const struct rmj_benchmark *benchmark, size_t count,
                                                      const struct rmj_renderer *renderer, const char *field,
                                                      struct rmj_findings *findings, struct rmj_error *err);

#endif
