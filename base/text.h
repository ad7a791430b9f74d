// Small text: hex, quantities, durations, UTF-8, and the nearest name for "did you mean".
#ifndef RMJ_BASE_TEXT_H
#define RMJ_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// Lower-case hex of `size` bytes; out has 2 * size + 1 characters.
void rmj_text_hex(char *out, const void *bytes, size_t size);
// 1 when `hex` is exactly 2 * size hex digits.
int rmj_text_unhex(void *bytes, size_t size, const char *hex);
// "64Gi", "512Mi", "1000000", "2G": bytes. 0 when it is none.
int rmj_text_parse_bytes(const char *text, uint64_t *bytes);
// "24h", "90m", "30s", "500ms", "1h30m": milliseconds. 0 when it is none.
int rmj_text_parse_duration(const char *text, int64_t *duration_ms);
// The candidate nearest to `word` by edit distance, or NULL when none is near enough to be meant.
const char *rmj_text_nearest(const char *word, const char *const *candidates, size_t count);
// Length of the valid UTF-8 prefix (no surrogates, no overlong forms, at most U+10FFFF).
size_t rmj_text_utf8_valid(const char *bytes, size_t size);
// A new random id: prefix, then `digits` hex digits; out must hold them and a NUL.
void rmj_text_make_id(char *out, size_t size, const char *prefix, size_t digits);
// Compares without telling by its time where they differ.
int rmj_text_equal_secret(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
