// Whole JSON files of a model directory. Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_JSON_FILE_H
#define RMJ_TRAINER_MODEL_JSON_FILE_H

#include <jansson.h>

#include "base/status.h"

// directory/name as an object; json_decref it. RMJ_DATA with file, line and column when it is none.
RMJ_MUST_USE enum rmj_status rmj_json_file_read(const char *directory, const char *name, json_t **root,
                                                struct rmj_error *err);
// Members in the object's own order, two spaces, UTF-8.
RMJ_MUST_USE enum rmj_status rmj_json_write(const char *directory, const char *name, const json_t *root,
                                            struct rmj_error *err);

#endif
