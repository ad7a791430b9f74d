#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rmj_buf_init(struct rmj_buf *buf, size_t size_max)
{
    *buf = (struct rmj_buf){.size_max = size_max};
}

void rmj_buf_deinit(struct rmj_buf *buf)
{
    if (buf != NULL) {
        free(buf->bytes);
        *buf = (struct rmj_buf){0};
    }
}

void rmj_buf_clear(struct rmj_buf *buf)
{
    buf->size = 0;
    buf->failed = 0;
    if (buf->bytes != NULL) {
        buf->bytes[0] = '\0';
    }
}

static int reserve(struct rmj_buf *buf, size_t more)
{
    if (buf->failed || more > buf->size_max - buf->size) {
        buf->failed = 1;
        return 0;
    }
    size_t need = buf->size + more + 1;
    if (need <= buf->capacity) {
        return 1;
    }
    size_t capacity = buf->capacity < 64 ? 64 : buf->capacity;
    while (capacity < need) {
        capacity += capacity / 2;
    }
    char *bytes = realloc(buf->bytes, capacity);
    if (bytes == NULL) {
        buf->failed = 1;
        return 0;
    }
    buf->bytes = bytes;
    buf->capacity = capacity;
    return 1;
}

char *rmj_buf_extend(struct rmj_buf *buf, size_t size)
{
    if (!reserve(buf, size)) {
        return NULL;
    }
    char *start = buf->bytes + buf->size;
    buf->size += size;
    buf->bytes[buf->size] = '\0';
    return start;
}

void rmj_buf_append(struct rmj_buf *buf, const void *bytes, size_t size)
{
    char *start = rmj_buf_extend(buf, size);
    if (start != NULL && size > 0) {
        memcpy(start, bytes, size);
    }
}

void rmj_buf_puts(struct rmj_buf *buf, const char *text)
{
    rmj_buf_append(buf, text, strlen(text));
}

void rmj_buf_putc(struct rmj_buf *buf, char c)
{
    rmj_buf_append(buf, &c, 1);
}

void rmj_buf_printf(struct rmj_buf *buf, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *start = length < 0 ? NULL : rmj_buf_extend(buf, (size_t)length);
    if (start != NULL) {
        vsnprintf(start, (size_t)length + 1, format, again);
    }
    va_end(again);
}

enum rmj_status rmj_buf_check(const struct rmj_buf *buf, struct rmj_error *err)
{
    if (buf->failed) {
        return rmj_fail(err, RMJ_FULL, "more than %zu bytes do not fit", buf->size_max);
    }
    return RMJ_OK;
}

char *rmj_buf_detach(struct rmj_buf *buf)
{
    if (buf->failed || !reserve(buf, 0)) {
        rmj_buf_deinit(buf);
        return NULL;
    }
    char *bytes = buf->bytes;
    bytes[buf->size] = '\0';
    buf->bytes = NULL;
    buf->size = buf->capacity = 0;
    return bytes;
}

const char *rmj_buf_text(const struct rmj_buf *buf)
{
    return buf->bytes == NULL ? "" : buf->bytes;
}
