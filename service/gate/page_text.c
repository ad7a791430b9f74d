#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "service/gate/page_internal.h"

#define NO_TEXT "&#xfffd;"

// Characters that turn the direction of what follows, by which a name can be made to look like another: U+202A to
// U+202E, U+2066 to U+2069, U+200E, U+200F.
static int is_direction(const unsigned char *bytes, size_t size)
{
    return size >= 3 && bytes[0] == 0xe2 &&
           ((bytes[1] == 0x80 && (bytes[2] == 0x8e || bytes[2] == 0x8f || (bytes[2] >= 0xaa && bytes[2] <= 0xae))) ||
            (bytes[1] == 0x81 && bytes[2] >= 0xa6 && bytes[2] <= 0xa9));
}

static void put_byte(struct rmj_buf *out, unsigned char c)
{
    switch (c) {
    case '&':
        rmj_buf_puts(out, "&amp;");
        return;
    case '<':
        rmj_buf_puts(out, "&lt;");
        return;
    case '>':
        rmj_buf_puts(out, "&gt;");
        return;
    case '"':
        rmj_buf_puts(out, "&quot;");
        return;
    case '\'':
        rmj_buf_puts(out, "&#39;");
        return;
    default:
        if (c == 0x7f || (c < 0x20 && c != '\n' && c != '\t')) {
            rmj_buf_puts(out, NO_TEXT);
        } else {
            rmj_buf_putc(out, (char)c);
        }
    }
}

void rmj_page_text(struct rmj_buf *out, const char *text)
{
    size_t size = text == NULL ? 0 : strlen(text);
    while (size > 0) {
        size_t valid = rmj_text_utf8_valid(text, size);
        for (size_t i = 0; i < valid;) {
            const unsigned char *at = (const unsigned char *)text + i;
            // U+0080 to U+009F are control characters too.
            size_t left = valid - i, other = is_direction(at, left)                       ? 3
                                             : left >= 2 && at[0] == 0xc2 && at[1] < 0xa0 ? 2
                                                                                          : 0;
            if (other > 0) {
                rmj_buf_puts(out, NO_TEXT);
                i += other;
            } else {
                put_byte(out, *at);
                i++;
            }
        }
        text += valid;
        size -= valid;
        if (size > 0) {
            rmj_buf_puts(out, NO_TEXT);
            text++;
            size--;
        }
    }
}

void rmj_page_count(struct rmj_buf *out, uint64_t count)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    for (int i = 0; i < length; i++) {
        rmj_buf_printf(out, "%s%c", i > 0 && (length - i) % 3 == 0 ? "," : "", digits[i]);
    }
}

void rmj_page_percent(struct rmj_buf *out, double share)
{
    if (isfinite(share)) {
        rmj_buf_printf(out, "%.1f %%", 100 * share);
    } else {
        rmj_buf_puts(out, "-");
    }
}

void rmj_page_count_cell(struct rmj_buf *out, uint64_t count)
{
    rmj_buf_puts(out, "<td class=\"n\">");
    rmj_page_count(out, count);
    rmj_buf_puts(out, "</td>");
}

void rmj_page_percent_cell(struct rmj_buf *out, int has, double share)
{
    rmj_buf_puts(out, "<td class=\"n\">");
    rmj_page_percent(out, has ? share : NAN);
    rmj_buf_puts(out, "</td>");
}

void rmj_page_text_cell(struct rmj_buf *out, const char *text)
{
    rmj_buf_puts(out, "<td>");
    rmj_page_text(out, text);
    rmj_buf_puts(out, "</td>");
}
