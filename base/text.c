#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define WORD_LENGTH_MAX 64

void rmj_text_hex(char *out, const void *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *in = bytes;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 15];
    }
    out[2 * size] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

int rmj_text_unhex(void *bytes, size_t size, const char *hex)
{
    unsigned char *out = bytes;
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(hex[2 * i]);
        int low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);
        if (low < 0) {
            return 0;
        }
        out[i] = (unsigned char)(high << 4 | low);
    }
    return hex[2 * size] == '\0';
}

int rmj_text_parse_bytes(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {
        {"", 1},
        {"k", 1000},
        {"K", 1000},
        {"M", 1000000},
        {"G", 1000000000},
        {"T", 1000000000000},
        {"Ki", 1ull << 10},
        {"Mi", 1ull << 20},
        {"Gi", 1ull << 30},
        {"Ti", 1ull << 40},
    };
    if (*text < '0' || *text > '9') {
        return 0;
    }
    char *end;
    double number = strtod(text, &end);
    for (size_t i = 0; i < RMJ_COUNT(units); i++) {
        if (strcmp(end, units[i].suffix) == 0) {
            double value = number * (double)units[i].factor;
            if (!(value >= 0 && value < 9e18)) {
                return 0;
            }
            *bytes = (uint64_t)value;
            return 1;
        }
    }
    return 0;
}

int rmj_text_parse_duration(const char *text, int64_t *duration_ms)
{
    int64_t total = 0;
    int64_t last_unit = INT64_MAX;
    if (*text == '\0') {
        return 0;
    }
    while (*text != '\0') {
        if (*text < '0' || *text > '9') {
            return 0;
        }
        char *end;
        unsigned long long number = strtoull(text, &end, 10);
        int64_t unit = strncmp(end, "ms", 2) == 0 ? 1
                       : *end == 's'              ? 1000
                       : *end == 'm'              ? 60000
                       : *end == 'h'              ? 3600000
                       : *end == 'd'              ? 86400000
                                                  : 0;
        if (unit == 0 || unit >= last_unit || number > 1000000) {
            return 0;
        }
        total += (int64_t)number * unit;
        last_unit = unit;
        text = end + (unit == 1 ? 2 : 1);
    }
    *duration_ms = total;
    return 1;
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    size_t row[WORD_LENGTH_MAX + 1];
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
        }
    }
    return row[n];
}

const char *rmj_text_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t length = strlen(word);
    size_t best = length / 3 + 2;
    const char *nearest = NULL;
    for (size_t i = 0; i < count && length <= WORD_LENGTH_MAX; i++) {
        if (strlen(candidates[i]) > WORD_LENGTH_MAX) {
            continue;
        }
        size_t distance = edit_distance(word, candidates[i]);
        if (distance < best && distance < strlen(candidates[i])) {
            best = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}

size_t rmj_text_utf8_valid(const char *bytes, size_t size)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t i = 0;
    while (i < size) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 9;
        if (more == 9 || more >= size - i) {
            return i;
        }
        for (size_t k = 1; k <= more; k++) {
            if ((s[i + k] & 0xc0) != 0x80) {
                return i;
            }
        }
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) || (c == 0xf0 && s[i + 1] < 0x90) ||
            (c == 0xf4 && s[i + 1] > 0x8f)) {
            return i;
        }
        i += more + 1;
    }
    return i;
}

void rmj_text_make_id(char *out, size_t size, const char *prefix, size_t digits)
{
    unsigned char bytes[16];
    RMJ_ASSERT(digits <= 2 * sizeof bytes && strlen(prefix) + digits < size);
    RMJ_ASSERT(rmj_random_bytes(bytes, sizeof bytes));
    char hex[2 * sizeof bytes + 1];
    rmj_text_hex(hex, bytes, sizeof bytes);
    snprintf(out, size, "%s%.*s", prefix, (int)digits, hex);
}

int rmj_text_equal_secret(const char *a, const char *b)
{
    size_t length_a = strlen(a);
    size_t length_b = strlen(b);
    unsigned char differs = length_a != length_b;
    for (size_t i = 0; i < length_a; i++) {
        differs |= (unsigned char)(a[i] ^ (length_b == 0 ? 1 : b[i % length_b]));
    }
    return differs == 0;
}
