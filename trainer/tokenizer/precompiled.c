// The normalizer Precompiled: SentencePiece's character map, in base64.
//
//   u32 size of the tree in bytes | tree: u32 units of a double array (Aoe 1989, as packed by Darts-clone) | texts,
//   each ended by a NUL; a leaf of the tree holds where in the texts its replacement begins
//
// The map is asked for whole grapheme clusters first, and answers with the shortest key that begins the cluster; that
// is how the public implementation reads it, and models were trained with it.
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/text.h"
#include "trainer/tokenizer/internal.h"

#define CLUSTER_SIZE_MAX 5u // bytes; longer clusters go character by character

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c == '\0' ? NULL : strchr(digits, c);
    return found == NULL ? -1 : (int)(found - digits);
}

// Base64 with padding (RFC 4648, section 4), strictly. Returns the size, -1 when the text is none.
static ptrdiff_t decode_base64(uint8_t *out, struct rmj_span text)
{
    size_t padding = text.size >= 2 && text.text[text.size - 1] == '=' ? 1 + (text.text[text.size - 2] == '=') : 0;
    size_t size = 0;
    if (text.size % 4 != 0) {
        return -1;
    }
    for (size_t i = 0; i < text.size; i += 4) {
        uint32_t bits = 0;
        size_t have = text.size - i == 4 ? 4 - padding : 4;
        for (size_t k = 0; k < 4; k++) {
            int digit = k < have ? digit_of(text.text[i + k]) : 0;
            if (digit < 0) {
                return -1;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        for (size_t k = 0; k + 1 < have; k++) {
            out[size++] = (uint8_t)(bits >> (16 - 8 * k));
        }
    }
    return (ptrdiff_t)size;
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t unit_at(const struct rmj_charsmap *map, size_t index)
{
    return read_u32(map->bytes + sizeof(uint32_t) * (1 + index));
}

enum rmj_status rmj_charsmap_read(struct rmj_charsmap *map, const json_t *part, struct rmj_error *err)
{
    const char *where = "normalizer Precompiled";
    struct rmj_span text;
    RMJ_TRY(rmj_json_text(part, where, "precompiled_charsmap", &text, err));
    map->bytes = malloc(text.size / 4 * 3 + 4);
    if (map->bytes == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "%s: no memory", where);
    }
    ptrdiff_t size = decode_base64(map->bytes, text);
    map->unit_count = size < 8 ? 0 : read_u32(map->bytes) / sizeof(uint32_t);
    size_t head = sizeof(uint32_t) * (1 + map->unit_count);
    if (size < 8 || map->unit_count == 0 || head > (size_t)size) {
        return rmj_fail(err, RMJ_DATA, "%s: precompiled_charsmap is cut short or not base64; fetch the file again",
                        where);
    }
    map->texts = (struct rmj_span){(const char *)map->bytes + head, (size_t)size - head};
    if (rmj_text_utf8_valid(map->texts.text, map->texts.size) != map->texts.size) {
        return rmj_fail(err, RMJ_DATA, "%s: precompiled_charsmap holds texts that are not UTF-8", where);
    }
    return RMJ_OK;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

// The replacement of the shortest key that `text` begins with; NULL text when there is none.
static struct rmj_span look_up(const struct rmj_charsmap *map, struct rmj_span text)
{
    const struct rmj_span none = {0};
    size_t at = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < text.size && text.text[i] != '\0'; i++) {
        at ^= (uint8_t)text.text[i];
        if (at >= map->unit_count) {
            return none;
        }
        uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xff)) != (uint8_t)text.text[i]) {
            return none;
        }
        at ^= offset_of(unit);
        if ((unit >> 8 & 1) != 0) {
            size_t start = at < map->unit_count ? unit_at(map, at) & ~(1u << 31) : map->texts.size;
            // A start inside a character can only come from a damaged map.
            if (start >= map->texts.size || ((uint8_t)map->texts.text[start] & 0xc0) == 0x80) {
                return none;
            }
            return (struct rmj_span){map->texts.text + start,
                                     strnlen(map->texts.text + start, map->texts.size - start)};
        }
    }
    return none;
}

// The end of the grapheme cluster at `start`.
static size_t cluster_end(struct rmj_span text, size_t start)
{
    utf8proc_int32_t state = 0;
    size_t end = start;
    uint32_t left = rmj_unicode_as_cluster(rmj_rune_next(text.text, text.size, &end));
    while (end < text.size) {
        size_t next = end;
        uint32_t right = rmj_unicode_as_cluster(rmj_rune_next(text.text, text.size, &next));
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)left, (utf8proc_int32_t)right, &state)) {
            break;
        }
        left = right;
        end = next;
    }
    return end;
}

void rmj_charsmap_apply(const struct rmj_charsmap *map, struct rmj_span text, struct rmj_buf *out)
{
    size_t start = 0;
    while (start < text.size) {
        size_t end = cluster_end(text, start);
        struct rmj_span found = {0};
        if (end - start <= CLUSTER_SIZE_MAX) {
            found = look_up(map, (struct rmj_span){text.text + start, end - start});
        }
        if (found.text != NULL) {
            rmj_buf_append(out, found.text, found.size);
            start = end;
        }
        while (start < end) {
            size_t next = start;
            rmj_rune_next(text.text, text.size, &next);
            struct rmj_span character = {text.text + start, next - start};
            found = look_up(map, character);
            found = found.text == NULL ? character : found;
            rmj_buf_append(out, found.text, found.size);
            start = next;
        }
    }
}
