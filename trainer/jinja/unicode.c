#include "trainer/jinja/unicode.h"

#include <string.h>
#include <utf8proc.h>

size_t jinja_utf8_length(const char *bytes, size_t size)
{
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        length += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    }
    return length;
}

size_t jinja_utf8_offset(const struct jinja_string *string, size_t index)
{
    if (string->length == string->size || index >= string->length) {
        return index >= string->length ? string->size : index;
    }
    size_t offset = 0;
    for (size_t i = 0; i < index; i++) {
        offset += rmj_utf8_size((unsigned char)string->bytes[offset]);
    }
    return offset;
}

int jinja_is_space(uint32_t code)
{
    if (code < 0x80) {
        return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x1F);
    }
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

int jinja_is_line_end(uint32_t code)
{
    return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

int jinja_is_alpha(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

int jinja_is_digit(uint32_t code)
{
    return code < 0x80 ? code >= '0' && code <= '9' : utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_ND;
}

int jinja_is_word(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return code == '_' || jinja_is_alpha(code) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

int jinja_is_printable(uint32_t code)
{
    if (code < 0x7F) {
        return code >= 0x20;
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

int jinja_is_cased_upper(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT;
}

int jinja_is_cased_lower(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA;
}

// Letters whose other case is more than one letter (Unicode SpecialCasing, the unconditional ones that occur in text).
static size_t special_upper(uint32_t code, int is_title, uint32_t out[3])
{
    switch (code) {
    case 0xDF:
        out[0] = 'S';
        out[1] = is_title ? 's' : 'S';
        return 2;
    case 0x149:
        out[0] = 0x2BC;
        out[1] = 'N';
        return 2;
    case 0xFB00:
    case 0xFB01:
    case 0xFB02:
        out[0] = 'F';
        out[1] = (code == 0xFB00 ? 'F' : code == 0xFB01 ? 'I' : 'L') + (is_title ? 32u : 0u);
        return 2;
    default:
        return 0;
    }
}

static size_t mapped(uint32_t code, enum jinja_case how, uint32_t out[3])
{
    if (how == JINJA_LOWER) {
        if (code == 0x130) {
            out[0] = 'i';
            out[1] = 0x307;
            return 2;
        }
        out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        return 1;
    }
    size_t count = special_upper(code, how == JINJA_TITLE, out);
    if (count) {
        return count;
    }
    out[0] = how == JINJA_TITLE ? (uint32_t)utf8proc_totitle((utf8proc_int32_t)code)
                                : (uint32_t)utf8proc_toupper((utf8proc_int32_t)code);
    return 1;
}

// What happens to a letter at this place; sigma at the end of a word has a form of its own.
static enum jinja_case case_of(enum jinja_case how, uint32_t code, int is_first, int after_letter)
{
    switch (how) {
    case JINJA_CAPITALIZE:
        return is_first ? JINJA_TITLE : JINJA_LOWER;
    case JINJA_TITLE:
        return after_letter ? JINJA_LOWER : JINJA_TITLE;
    case JINJA_SWAP:
        return jinja_is_cased_upper(code) ? JINJA_LOWER : JINJA_UPPER;
    default:
        return how;
    }
}

static int is_final_sigma(const struct jinja_string *text, size_t offset, int after_letter)
{
    size_t next = offset + 2; // U+03A3 takes two bytes
    return after_letter && (next >= text->size || !jinja_is_alpha(rmj_utf8_read(text->bytes + next)));
}

struct jinja_value jinja_change_case(struct jinja_state *state, const struct jinja_string *text, enum jinja_case how)
{
    jinja_charge(state, text->size);
    char *bytes = jinja_take(state, text->size * 4 + 4);
    size_t size = 0;
    int after_letter = 0;
    for (size_t i = 0; i < text->size;) {
        uint32_t code = rmj_utf8_read(text->bytes + i), out[3];
        enum jinja_case here = case_of(how, code, i == 0, after_letter);
        size_t count = mapped(code, here, out);
        if (code == 0x3A3 && here == JINJA_LOWER && is_final_sigma(text, i, after_letter)) {
            out[0] = 0x3C2;
        }
        for (size_t k = 0; k < count; k++) {
            size += rmj_utf8_write(bytes + size, out[k]);
        }
        after_letter = jinja_is_cased_upper(code) || jinja_is_cased_lower(code);
        i += rmj_utf8_size((unsigned char)text->bytes[i]);
    }
    return jinja_text_borrow(state, bytes, size);
}
