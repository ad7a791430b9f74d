// One safetensors file: its header read strictly, its tensors read as float32. For trainer/model, and for expected
// numbers in trainer/run/verify.c.
//
//   [ u64 header size | JSON header | tensor bytes, one after another without holes ]
#ifndef RMJ_TRAINER_MODEL_SAFETENSORS_H
#define RMJ_TRAINER_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define RMJ_SAFETENSORS_DIMENSIONS_MAX 8

// F64 is read by rmj_safetensors_read_double only: expected numbers have it, weights do not.
enum rmj_dtype { RMJ_DTYPE_F32, RMJ_DTYPE_BF16, RMJ_DTYPE_F16, RMJ_DTYPE_F64, RMJ_DTYPE_OTHER };

struct rmj_safetensor {
    char name[256];
    enum rmj_dtype dtype;
    uint32_t dimension_count;
    uint64_t shape[RMJ_SAFETENSORS_DIMENSIONS_MAX];
    uint64_t element_count;
    uint64_t begin; // in bytes after the header
    uint64_t end;
};

struct rmj_safetensors {
    char *path;
    int fd;
    uint64_t data_offset;
    struct rmj_safetensor *tensors; // in file order
    size_t tensor_count;
};

// RMJ_DATA: header size, JSON, duplicate names, dtype, shape, offsets outside the file, overlaps and holes.
RMJ_MUST_USE enum rmj_status rmj_safetensors_open(struct rmj_safetensors *file, const char *path,
                                                  struct rmj_error *err);
void rmj_safetensors_close(struct rmj_safetensors *file);
const struct rmj_safetensor *rmj_safetensors_find(const struct rmj_safetensors *file, const char *name);
// Reads a tensor of dtype F32, BF16 or F16 (both widened exactly). RMJ_DATA when a value is not finite.
RMJ_MUST_USE enum rmj_status rmj_safetensors_read(const struct rmj_safetensors *file,
                                                  const struct rmj_safetensor *tensor, float *out,
                                                  struct rmj_error *err);
// The same into double, of F64 too.
RMJ_MUST_USE enum rmj_status rmj_safetensors_read_double(const struct rmj_safetensors *file,
                                                         const struct rmj_safetensor *tensor, double *out,
                                                         struct rmj_error *err);

#endif
