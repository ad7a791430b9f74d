// The rmjob-rank modes that are no rank: check a spec, prepare a job, score texts. Each returns an exit code.
#ifndef RMJ_TRAINER_RUN_TASKS_H
#define RMJ_TRAINER_RUN_TASKS_H

#include <protobuf-c/protobuf-c.h>

#include "base/status.h"

// A JobSpec in JSON; protobuf_c_message_free_unpacked it.
RMJ_MUST_USE enum rmj_status rmj_task_read_spec(const char *file, ProtobufCMessage **spec, struct rmj_error *err);

// Prints the ValidateResponse of the spec (JSON) as JSON. 0 also when it has findings: they are the result.
int rmj_task_check(const char *spec_file);
// Fetches the job's work, prepares it, and reports Prepared.
int rmj_task_prepare(const char *server, const char *job);
// Scores JSON lines from stdin ({"text": ...} or {"messages": [...]}) with a model directory; one score a line.
int rmj_task_score(const char *model_directory);

#endif
