#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/gate/gate.h"
#include "service/registry/publish.h"

enum rmj_status rmj_registry_rows(struct rmj_store *checkpoints, const char *job,
                                  const Rmjob__V1__EvaluatedRequest *delivered, Rmjob__V1__ScoredRows **rows,
                                  struct rmj_error *err)
{
    const char *hex = delivered->report == NULL ? NULL : delivered->report->rows_digest;
    struct rmj_digest wanted, found;
    if (hex == NULL || !rmj_digest_from_hex(&wanted, hex)) {
        return rmj_fail(err, RMJ_CORRUPT, "the evaluation of %s names no scores", job);
    }
    char key[192];
    snprintf(key, sizeof key, "jobs/%s/rows/%s", job, hex);
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, RMJ_ROWS_SIZE_MAX);
    enum rmj_status status = rmj_store_get(checkpoints, key, &bytes, err);
    if (status == RMJ_OK) {
        rmj_sha256_of(bytes.bytes, bytes.size, &found);
        *rows = rmj_digest_equal(&wanted, &found)
                    ? rmjob__v1__scored_rows__unpack(NULL, bytes.size, (const uint8_t *)rmj_buf_text(&bytes))
                    : NULL;
        if (*rows == NULL) {
            status = rmj_fail(err, RMJ_CORRUPT, "the scores at %s are not those that were evaluated", key);
        }
    }
    rmj_buf_deinit(&bytes);
    return status;
}

static void take_text(char **to, const char *from)
{
    free(*to);
    *to = from == NULL ? NULL : strdup(from);
}

enum rmj_status rmj_registry_gate(const struct rmj_gate_request *request, Rmjob__V1__EvalReport **report_out,
                                  Rmjob__V1__GateVerdict **verdict, struct rmj_error *err)
{
    Rmjob__V1__ScoredRows *rows = NULL;
    Rmjob__V1__EvalReport *report = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_registry_rows(request->checkpoints, request->job, request->delivered, &rows, err));
    RMJ_GO(rmj_report_from_rows(rows, &report, err));
    const Rmjob__V1__EvalReport *delivered = request->delivered->report;
    take_text(&report->artifact_digest, delivered->artifact_digest);
    take_text(&report->rows_digest, delivered->rows_digest);
    take_text(&report->benchmark_digest, delivered->benchmark_digest);
    take_text(&report->heldout_digest, delivered->heldout_digest);
    *verdict = rmj_gate_decide(report, request->gate, request->floors, request->previous);
    *report_out = report;
    report = NULL;
out:
    if (rows != NULL) {
        rmjob__v1__scored_rows__free_unpacked(rows, NULL);
    }
    if (report != NULL) {
        rmjob__v1__eval_report__free_unpacked(report, NULL);
    }
    return status;
}
