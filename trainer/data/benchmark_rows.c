// Benchmark rows through the renderer.
#include <string.h>

#include "trainer/data/benchmark.h"

enum rmj_status rmj_benchmark_encode(const struct rmj_benchmark_row *row, uint32_t completion,
                                     const struct rmj_renderer *renderer, struct rmj_render_memory *memory,
                                     struct rmj_tokens *tokens, struct rmj_error *err)
{
    uint32_t special;
    json_t *messages = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", row->prompt, "role", "assistant",
                                 "content", row->completions[completion]);
    RMJ_ASSERT(messages != NULL);
    enum rmj_status status =
        rmj_renderer_encode_messages(renderer, messages, NULL, NULL, memory, tokens, &special, err);
    json_decref(messages);
    return status == RMJ_OK ? RMJ_OK : rmj_context(err, "row %s, completion %u", row->id, completion + 1);
}

enum rmj_status rmj_benchmark_check_rows(const struct rmj_benchmark *benchmark, size_t count,
                                         const struct rmj_renderer *renderer, const char *field,
                                         struct rmj_findings *findings, struct rmj_error *err)
{
    struct rmj_render_memory memory;
    struct rmj_tokens tokens = {0};
    struct rmj_error own = {0};
    enum rmj_status status = RMJ_OK;
    rmj_render_memory_init(&memory);
    for (size_t i = 0; status == RMJ_OK && i < benchmark->count && i < count; i++) {
        for (uint32_t j = 0; status == RMJ_OK && j < benchmark->rows[i].completion_count; j++) {
            status = rmj_benchmark_encode(&benchmark->rows[i], j, renderer, &memory, &tokens, &own);
        }
    }
    rmj_tokens_deinit(&tokens);
    rmj_render_memory_deinit(&memory);
    if (status != RMJ_OK) {
        status = rmj_findings_take(findings, field, RMJ_EXIT_DATA, &own);
        if (status != RMJ_OK && err != NULL) {
            *err = own;
        }
    }
    return status;
}
