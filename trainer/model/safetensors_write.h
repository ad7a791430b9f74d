// Writing one safetensors file: its header first, then the tensors' bytes in the same order. Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_SAFETENSORS_WRITE_H
#define RMJ_TRAINER_MODEL_SAFETENSORS_WRITE_H

#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"
#include "trainer/model/layout.h"

#define RMJ_SAFETENSORS_HEADER_MAX ((size_t)100 * 1000 * 1000)

void rmj_safetensors_header_begin(struct rmj_buf *header);
// A float32 tensor of this shape under this name; *at is where its bytes begin, and then where they end.
void rmj_safetensors_header_add(struct rmj_buf *header, const char *name, const struct rmj_tensor *tensor,
                                uint64_t *at);
// Padded to 8 bytes with spaces, as the format's own library does.
void rmj_safetensors_header_end(struct rmj_buf *header);

// A new file with its header; the caller writes the tensors. NULL in *file when it could not be opened. *good: 0 once
// something was not written.
RMJ_MUST_USE enum rmj_status rmj_safetensors_file_begin(FILE **file, const char *path, const struct rmj_buf *header,
                                                        int *good, struct rmj_error *err);
// On disk and closed. status: of what came before, which counts over this.
RMJ_MUST_USE enum rmj_status rmj_safetensors_file_end(FILE *file, const char *path, int good, enum rmj_status status,
                                                      struct rmj_error *err);

#endif
