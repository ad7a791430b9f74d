#include "storage/object/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Finds "<name>", "<name attributes>" or "<name/>". Returns what follows the tag; *empty for the last form.
static const char *find_open(struct xml_span span, const char *name, int *empty)
{
    size_t length = strlen(name);
    const char *end = span.at + span.size;
    for (const char *at = span.at; at < end; at++) {
        at = memchr(at, '<', (size_t)(end - at));
        if (at == NULL || (size_t)(end - at) < length + 2) {
            return NULL;
        }
        char next = at[1 + length];
        if (memcmp(at + 1, name, length) != 0 || (next != '>' && next != ' ' && next != '/')) {
            continue;
        }
        const char *close = memchr(at, '>', (size_t)(end - at));
        if (close == NULL) {
            return NULL;
        }
        *empty = close[-1] == '/';
        return close + 1;
    }
    return NULL;
}

int xml_next(struct xml_span *rest, const char *name, struct xml_span *element)
{
    char closing[64];
    int closing_size = snprintf(closing, sizeof closing, "</%s>", name);
    int empty = 0;
    const char *end = rest->at + rest->size;
    const char *start = find_open(*rest, name, &empty);
    if (start == NULL || closing_size < 0 || (size_t)closing_size >= sizeof closing) {
        return 0;
    }
    const char *stop = empty ? start : memmem(start, (size_t)(end - start), closing, (size_t)closing_size);
    if (stop == NULL) {
        return 0;
    }
    *element = (struct xml_span){.at = start, .size = (size_t)(stop - start)};
    const char *behind = empty ? start : stop + closing_size;
    *rest = (struct xml_span){.at = behind, .size = (size_t)(end - behind)};
    return 1;
}

// Writes a code point as UTF-8; 0 for what is none.
static size_t put_utf8(unsigned long code, char out[4])
{
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return 0;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[size] | code);
    return size;
}

// Decodes "&...;" at the start of a span. *used: bytes of the entity. 0 when it is none that XML defines.
static size_t decode_entity(const char *at, size_t left, char out[4], size_t *used)
{
    static const struct {
        const char *text;
        char value;
    } named[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        size_t length = strlen(named[i].text);
        if (left >= length && memcmp(at, named[i].text, length) == 0) {
            *used = length;
            out[0] = named[i].value;
            return 1;
        }
    }
    char digits[12] = {0};
    const char *semicolon = memchr(at, ';', left < sizeof digits ? left : sizeof digits);
    if (left < 4 || at[1] != '#' || semicolon == NULL) {
        return 0;
    }
    memcpy(digits, at + 2, (size_t)(semicolon - at) - 2);
    char *stop;
    unsigned long code = digits[0] == 'x' ? strtoul(digits + 1, &stop, 16) : strtoul(digits, &stop, 10);
    *used = (size_t)(semicolon - at) + 1;
    return *stop == '\0' ? put_utf8(code, out) : 0;
}

int xml_text(struct xml_span span, const char *name, char *out, size_t size)
{
    struct xml_span element;
    if (!xml_next(&span, name, &element)) {
        return 0;
    }
    size_t length = 0;
    for (size_t i = 0; i < element.size;) {
        char bytes[4] = {element.at[i]};
        size_t used = 1;
        size_t count = 1;
        if (element.at[i] == '&') {
            count = decode_entity(element.at + i, element.size - i, bytes, &used);
        }
        if (count == 0 || length + count >= size) {
            return 0;
        }
        memcpy(out + length, bytes, count);
        length += count;
        i += used;
    }
    out[length] = '\0';
    return 1;
}

int64_t xml_time_ms(const char *text)
{
    struct tm parts = {0};
    int milliseconds = 0;
    int count = sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3d", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
                       &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &milliseconds);
    if (count < 6) {
        return 0;
    }
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    return (int64_t)timegm(&parts) * 1000 + milliseconds;
}
