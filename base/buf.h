// A growable byte buffer with a maximum, and text formatting into it.
#ifndef RMJ_BASE_BUF_H
#define RMJ_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// Embeddable. `bytes` is always followed by a NUL once anything was appended, so text can be read as a C string.
// Appending past size_max, or when memory runs out, sets `failed`; later appends are ignored, so a caller may check
// once at the end.
struct rmj_buf {
    char *bytes;
    size_t size;
    size_t capacity;
    size_t size_max;
    int failed;
};

// size_max: most bytes it will ever hold.
void rmj_buf_init(struct rmj_buf *buf, size_t size_max);
void rmj_buf_deinit(struct rmj_buf *buf);
void rmj_buf_clear(struct rmj_buf *buf);
void rmj_buf_append(struct rmj_buf *buf, const void *bytes, size_t size);
void rmj_buf_puts(struct rmj_buf *buf, const char *text);
void rmj_buf_putc(struct rmj_buf *buf, char c);
void rmj_buf_printf(struct rmj_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Room for `size` more bytes, uninitialised and counted in; NULL when failed. For read(2) and compressors.
char *rmj_buf_extend(struct rmj_buf *buf, size_t size);
// RMJ_OK, or RMJ_FULL when an append did not fit.
RMJ_MUST_USE enum rmj_status rmj_buf_check(const struct rmj_buf *buf, struct rmj_error *err);
// Hands the bytes over (free() them); the buffer is empty afterwards. "" never comes back as NULL unless failed.
char *rmj_buf_detach(struct rmj_buf *buf);
const char *rmj_buf_text(const struct rmj_buf *buf);

#ifdef __cplusplus
}
#endif
#endif
