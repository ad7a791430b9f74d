#include "trainer/model/safetensors_write.h"

#include <errno.h>
#include <unistd.h>

#include "base/fs.h"

void rmj_safetensors_header_begin(struct rmj_buf *header)
{
    char size_bytes[8] = {0};
    rmj_buf_append(header, size_bytes, sizeof size_bytes);
    rmj_buf_puts(header, "{\"__metadata__\":{\"format\":\"pt\"}");
}

void rmj_safetensors_header_add(struct rmj_buf *header, const char *name, const struct rmj_tensor *tensor, uint64_t *at)
{
    uint64_t end = *at + tensor->element_count * sizeof(float);
    rmj_buf_printf(header, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    if (tensor->dimension_count == 2) {
        rmj_buf_printf(header, "%u,", tensor->shape[0]);
    }
    rmj_buf_printf(header, "%u],\"data_offsets\":[%llu,%llu]}", tensor->shape[1], (unsigned long long)*at,
                   (unsigned long long)end);
    *at = end;
}

void rmj_safetensors_header_end(struct rmj_buf *header)
{
    rmj_buf_putc(header, '}');
    while (header->size % 8 != 0) {
        rmj_buf_putc(header, ' ');
    }
    for (int i = 0; !header->failed && i < 8; i++) {
        header->bytes[i] = (char)((uint64_t)(header->size - 8) >> (8 * i));
    }
}

enum rmj_status rmj_safetensors_file_begin(FILE **file, const char *path, const struct rmj_buf *header, int *good,
                                           struct rmj_error *err)
{
    *file = NULL;
    RMJ_TRY(rmj_buf_check(header, err));
    *file = fopen(path, "wbe");
    *good = *file != NULL && fwrite(header->bytes, 1, header->size, *file) == header->size;
    return RMJ_OK;
}

static enum rmj_status cannot_write(const char *path, struct rmj_error *err)
{
    return rmj_fail_errno(err, rmj_fs_errno_status(errno), "%s: cannot write", path);
}

enum rmj_status rmj_safetensors_file_end(FILE *file, const char *path, int good, enum rmj_status status,
                                         struct rmj_error *err)
{
    if (status == RMJ_OK && !(good && fflush(file) == 0 && fsync(fileno(file)) == 0)) {
        status = cannot_write(path, err);
    }
    if (file != NULL && fclose(file) != 0 && status == RMJ_OK) {
        status = cannot_write(path, err);
    }
    return status;
}
