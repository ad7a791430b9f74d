// Writing one safetensors file: its header first, then the tensors' bytes in the same order. Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_SAFETENSORS_WRITE_H
#define RMJ_TRAINER_MODEL_SAFETENSORS_WRITE_H

#include "base/buf.h"
#include "trainer/model/layout.h"

#define RMJ_SAFETENSORS_HEADER_MAX ((size_t)100 * 1000 * 1000)

void rmj_safetensors_header_begin(struct rmj_buf *header);
// A float32 tensor of this shape under this name; *at is where its bytes begin, and then where they end.
void rmj_safetensors_header_add(struct rmj_buf *header, const char *name, const struct rmj_tensor *tensor,
                                uint64_t *at);
// Padded to 8 bytes with spaces, as the format's own library does.
void rmj_safetensors_header_end(struct rmj_buf *header);

#endif
