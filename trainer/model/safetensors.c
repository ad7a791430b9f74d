#include "trainer/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

// The format's own limit is 100 MB; 5 GB of the smallest tensors we know need under 1 MB.
#define HEADER_SIZE_MAX ((uint64_t)100 * 1000 * 1000)
#define TENSOR_COUNT_MAX 100000u
#define READ_SIZE ((size_t)1 << 20)

static const struct {
    const char *name;
    enum rmj_dtype dtype;
    uint64_t size;
} dtypes[] = {
    {"F32", RMJ_DTYPE_F32, 4},    {"BF16", RMJ_DTYPE_BF16, 2},     {"F16", RMJ_DTYPE_F16, 2},
    {"F64", RMJ_DTYPE_F64, 8},    {"I64", RMJ_DTYPE_OTHER, 8},     {"U64", RMJ_DTYPE_OTHER, 8},
    {"I32", RMJ_DTYPE_OTHER, 4},  {"U32", RMJ_DTYPE_OTHER, 4},     {"I16", RMJ_DTYPE_OTHER, 2},
    {"U16", RMJ_DTYPE_OTHER, 2},  {"I8", RMJ_DTYPE_OTHER, 1},      {"U8", RMJ_DTYPE_OTHER, 1},
    {"BOOL", RMJ_DTYPE_OTHER, 1}, {"F8_E4M3", RMJ_DTYPE_OTHER, 1}, {"F8_E5M2", RMJ_DTYPE_OTHER, 1},
};

static enum rmj_status read_at(const struct rmj_safetensors *file, uint64_t offset, void *bytes, size_t size,
                               struct rmj_error *err)
{
    char *at = bytes;
    while (size > 0) {
        ssize_t got = pread(file->fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return rmj_fail_errno(err, RMJ_IO, "%s: cannot read", file->path);
        }
        if (got == 0) {
            return rmj_fail(err, RMJ_DATA, "%s: the file ends early, at byte %llu; copy it again", file->path,
                            (unsigned long long)offset);
        }
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return RMJ_OK;
}

static enum rmj_status bad_tensor(const struct rmj_safetensors *file, const char *name, const char *what,
                                  struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\": %s", file->path, name, what);
}

static int read_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return 0;
    }
    *out = (uint64_t)json_integer_value(value);
    return 1;
}

// Shape and element count; 0 when it is no shape or its product does not fit.
static int read_shape(const json_t *shape, struct rmj_safetensor *tensor)
{
    if (!json_is_array(shape) || json_array_size(shape) > RMJ_SAFETENSORS_DIMENSIONS_MAX) {
        return 0;
    }
    tensor->dimension_count = (uint32_t)json_array_size(shape);
    tensor->element_count = 1;
    for (uint32_t i = 0; i < tensor->dimension_count; i++) {
        if (!read_size(json_array_get(shape, i), &tensor->shape[i]) ||
            __builtin_mul_overflow(tensor->element_count, tensor->shape[i], &tensor->element_count) ||
            tensor->element_count > (UINT64_MAX >> 4)) {
            return 0;
        }
    }
    return 1;
}

static enum rmj_status read_entry(const struct rmj_safetensors *file, const char *name, const json_t *entry,
                                  uint64_t data_size, struct rmj_safetensor *tensor, struct rmj_error *err)
{
    if (strlen(name) >= sizeof tensor->name) {
        return bad_tensor(file, name, "the name is longer than 255 bytes", err);
    }
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint64_t element_size = 0;
    for (size_t i = 0; dtype != NULL && i < RMJ_COUNT(dtypes); i++) {
        if (strcmp(dtype, dtypes[i].name) == 0) {
            tensor->dtype = dtypes[i].dtype;
            element_size = dtypes[i].size;
        }
    }
    if (element_size == 0) {
        return bad_tensor(file, name, "the dtype is not known; F32, BF16 and F16 are read", err);
    }
    if (!read_shape(json_object_get(entry, "shape"), tensor)) {
        return bad_tensor(file, name, "the shape is not a list of at most 8 sizes", err);
    }
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &tensor->begin) ||
        !read_size(json_array_get(offsets, 1), &tensor->end) || tensor->end < tensor->begin) {
        return bad_tensor(file, name, "data_offsets is not [begin, end]", err);
    }
    if (tensor->end > data_size) {
        return bad_tensor(file, name, "its bytes lie past the end of the file; the file is cut short or lies", err);
    }
    if (tensor->end - tensor->begin != tensor->element_count * element_size) {
        return bad_tensor(file, name, "data_offsets do not span what dtype and shape need", err);
    }
    return RMJ_OK;
}

static int compare_begin(const void *a, const void *b)
{
    const struct rmj_safetensor *x = a, *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

static enum rmj_status check_order(struct rmj_safetensors *file, uint64_t data_size, struct rmj_error *err)
{
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, compare_begin);
    uint64_t at = 0;
    for (size_t i = 0; i < file->tensor_count; i++) {
        const struct rmj_safetensor *tensor = &file->tensors[i];
        if (tensor->begin != at) {
            return bad_tensor(file, tensor->name,
                              tensor->begin < at ? "its bytes overlap another tensor's" : "there is a hole before it",
                              err);
        }
        at = tensor->end;
    }
    if (at != data_size) {
        return rmj_fail(err, RMJ_DATA, "%s: %llu bytes after the last tensor belong to none", file->path,
                        (unsigned long long)(data_size - at));
    }
    return RMJ_OK;
}

static enum rmj_status read_entries(struct rmj_safetensors *file, json_t *root, uint64_t data_size,
                                    struct rmj_error *err)
{
    size_t count = json_object_size(root);
    if (count > TENSOR_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s: %zu tensors; at most %u are read", file->path, count, TENSOR_COUNT_MAX);
    }
    file->tensors = calloc(count + 1, sizeof *file->tensors);
    if (file->tensors == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu tensor entries", count);
    }
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0) {
            RMJ_TRY(read_entry(file, name, entry, data_size, &file->tensors[file->tensor_count], err));
            file->tensor_count++;
        }
    }
    return check_order(file, data_size, err);
}

static enum rmj_status read_header(struct rmj_safetensors *file, uint64_t file_size, struct rmj_error *err)
{
    uint8_t prefix[8];
    if (file_size < sizeof prefix) {
        return rmj_fail(err, RMJ_DATA, "%s: %llu bytes are no safetensors file; copy it again", file->path,
                        (unsigned long long)file_size);
    }
    RMJ_TRY(read_at(file, 0, prefix, sizeof prefix, err));
    uint64_t size = 0;
    for (int i = 7; i >= 0; i--) {
        size = size << 8 | prefix[i];
    }
    if (size < 2 || size > HEADER_SIZE_MAX || size > file_size - 8) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: the header claims %llu bytes of a file of %llu; it is cut short or no safetensors file",
                        file->path, (unsigned long long)size, (unsigned long long)file_size);
    }
    char *text = malloc(size);
    if (text == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a header of %llu bytes", (unsigned long long)size);
    }
    enum rmj_status status = RMJ_OK;
    json_t *root = NULL;
    RMJ_GO(read_at(file, 8, text, size, err));
    json_error_t where;
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(root)) {
        status = rmj_fail(err, RMJ_DATA, "%s: the header is not a JSON object of distinct names: %s", file->path,
                          root == NULL ? where.text : "another value");
        goto out;
    }
    file->data_offset = 8 + size;
    RMJ_GO(read_entries(file, root, file_size - file->data_offset, err));
out:
    json_decref(root);
    free(text);
    return status;
}

enum rmj_status rmj_safetensors_open(struct rmj_safetensors *file, const char *path, struct rmj_error *err)
{
    *file = (struct rmj_safetensors){.fd = -1, .path = strdup(path)};
    if (file->path == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    enum rmj_status status = RMJ_OK;
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "%s: cannot open", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = rmj_fail(err, RMJ_DATA, "%s: not a regular file", path);
    } else {
        status = read_header(file, (uint64_t)info.st_size, err);
    }
    if (status != RMJ_OK) {
        rmj_safetensors_close(file);
    }
    return status;
}

void rmj_safetensors_close(struct rmj_safetensors *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file->tensors);
    free(file->path);
    *file = (struct rmj_safetensors){.fd = -1};
}

const struct rmj_safetensor *rmj_safetensors_find(const struct rmj_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->tensor_count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) {
            return &file->tensors[i];
        }
    }
    return NULL;
}

// IEEE half to float32, exactly: subnormals are renormalised, infinity and not-a-number keep their class.
static uint32_t widen_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0x1f) {
        return sign | 0x7f800000 | fraction << 13;
    }
    if (exponent == 0) {
        if (fraction == 0) {
            return sign;
        }
        exponent = 1;
        while ((fraction & 0x400) == 0) {
            fraction <<= 1;
            exponent--; // wraps below 0 on purpose; the sum below is modulo 2^32
        }
        fraction &= 0x3ff;
    }
    return sign | (exponent + 112) << 23 | fraction << 13;
}

static void widen(enum rmj_dtype dtype, const uint8_t *bytes, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        uint16_t half;
        if (dtype == RMJ_DTYPE_F32) {
            memcpy(&bits, bytes + 4 * i, 4);
        } else {
            memcpy(&half, bytes + 2 * i, 2);
            bits = dtype == RMJ_DTYPE_BF16 ? (uint32_t)half << 16 : widen_half(half);
        }
        memcpy(&out[i], &bits, 4);
    }
}

static enum rmj_status check_finite(const struct rmj_safetensors *file, const struct rmj_safetensor *tensor,
                                    const float *values, size_t count, uint64_t first, struct rmj_error *err)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], 4);
        if ((bits & 0x7f800000) == 0x7f800000) {
            return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\": element %llu is %s; the model is damaged",
                            file->path, tensor->name, (unsigned long long)(first + i),
                            (bits & 0x7fffff) != 0 ? "not a number" : "infinite");
        }
    }
    return RMJ_OK;
}

enum rmj_status rmj_safetensors_read(const struct rmj_safetensors *file, const struct rmj_safetensor *tensor,
                                     float *out, struct rmj_error *err)
{
    RMJ_ASSERT(tensor->dtype < RMJ_DTYPE_F64);
    size_t element_size = tensor->dtype == RMJ_DTYPE_F32 ? 4 : 2;
    uint8_t *bytes = malloc(READ_SIZE);
    if (bytes == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a read buffer");
    }
    enum rmj_status status = RMJ_OK;
    for (uint64_t at = 0; at < tensor->element_count;) {
        size_t count = READ_SIZE / element_size;
        if (count > tensor->element_count - at) {
            count = (size_t)(tensor->element_count - at);
        }
        uint64_t offset = file->data_offset + tensor->begin + at * element_size;
        RMJ_GO(read_at(file, offset, bytes, count * element_size, err));
        widen(tensor->dtype, bytes, count, out + at);
        RMJ_GO(check_finite(file, tensor, out + at, count, at, err));
        at += count;
    }
out:
    free(bytes);
    return status;
}

static enum rmj_status read_f64(const struct rmj_safetensors *file, const struct rmj_safetensor *tensor, double *out,
                                struct rmj_error *err)
{
    RMJ_TRY(read_at(file, file->data_offset + tensor->begin, out, (size_t)tensor->element_count * sizeof *out, err));
    for (uint64_t i = 0; i < tensor->element_count; i++) {
        uint64_t bits;
        memcpy(&bits, &out[i], sizeof bits);
        if ((bits >> 52 & 0x7ff) == 0x7ff) {
            return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\": element %llu is not finite", file->path,
                            tensor->name, (unsigned long long)i);
        }
    }
    return RMJ_OK;
}

enum rmj_status rmj_safetensors_read_double(const struct rmj_safetensors *file, const struct rmj_safetensor *tensor,
                                            double *out, struct rmj_error *err)
{
    if (tensor->dtype == RMJ_DTYPE_F64) {
        return read_f64(file, tensor, out, err);
    }
    float *values = malloc((size_t)tensor->element_count * sizeof *values + 1);
    if (values == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for tensor \"%.100s\"", tensor->name);
    }
    enum rmj_status status = rmj_safetensors_read(file, tensor, values, err);
    for (uint64_t i = 0; status == RMJ_OK && i < tensor->element_count; i++) {
        out[i] = (double)values[i];
    }
    free(values);
    return status;
}
