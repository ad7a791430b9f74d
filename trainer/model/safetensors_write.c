#include "trainer/model/safetensors_write.h"

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
