// Characters: UTF-8, white space, and the byte alphabet of byte-level vocabularies.
#include "trainer/tokenizer/internal.h"

uint32_t rmj_rune_next(const char *text, size_t size, size_t *offset)
{
    const char *at = text + *offset;
    size_t length = rmj_utf8_size((unsigned char)*at);
    RMJ_ASSERT(length <= size - *offset);
    *offset += length;
    return rmj_utf8_read(at);
}

// The White_Space property of the Unicode Character Database (PropList.txt); it has been stable since Unicode 6.3.
bool rmj_rune_is_space(uint32_t rune)
{
    return (rune >= 9 && rune <= 13) || rune == 0x20 || rune == 0x85 || rune == 0xa0 || rune == 0x1680 ||
           (rune >= 0x2000 && rune <= 0x200a) || rune == 0x2028 || rune == 0x2029 || rune == 0x202f || rune == 0x205f ||
           rune == 0x3000;
}

size_t rmj_space_prefix(const char *text, size_t size)
{
    size_t end = 0;
    while (end < size) {
        size_t next = end;
        if (!rmj_rune_is_space(rmj_rune_next(text, size, &next))) {
            break;
        }
        end = next;
    }
    return end;
}

size_t rmj_space_suffix(const char *text, size_t size)
{
    size_t start = size;
    while (start > 0) {
        size_t previous = start - 1;
        while (previous > 0 && ((unsigned char)text[previous] & 0xc0) == 0x80) {
            previous--;
        }
        size_t after = previous;
        if (!rmj_rune_is_space(rmj_rune_next(text, size, &after))) {
            break;
        }
        start = previous;
    }
    return size - start;
}

// GPT-2's encoder.py, bytes_to_unicode: printable Latin-1 bytes stand for themselves, the 68 others for U+0100 onwards.
static bool stands_for_itself(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

uint32_t rmj_byte_rune(uint8_t byte)
{
    if (stands_for_itself(byte)) {
        return byte;
    }
    // In order: 0x00..0x20 (33), 0x7f..0xa0 (34), 0xad.
    return byte <= 0x20 ? 0x100u + byte : byte <= 0xa0 ? 0x121u + (byte - 0x7fu) : 0x143u;
}

int rmj_rune_byte(uint32_t rune)
{
    if (rune < 0x100) {
        return stands_for_itself(rune) ? (int)rune : -1;
    }
    if (rune <= 0x120) {
        return (int)(rune - 0x100);
    }
    if (rune <= 0x142) {
        return (int)(rune - 0x121 + 0x7f);
    }
    return rune == 0x143 ? 0xad : -1;
}
