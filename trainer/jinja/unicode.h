// Text by code points, as Python sees it: what is a space, a letter case, a printable character.
#ifndef RMJ_TRAINER_JINJA_UNICODE_H
#define RMJ_TRAINER_JINJA_UNICODE_H

#include "base/utf8.h"
#include "trainer/jinja/value.h"

size_t jinja_utf8_length(const char *bytes, size_t size);
// Byte offset of a code point.
size_t jinja_utf8_offset(const struct jinja_string *string, size_t index);

int jinja_is_space(uint32_t code);       // str.isspace, and \s
int jinja_is_word(uint32_t code);        // \w
int jinja_is_line_end(uint32_t code);    // str.splitlines
int jinja_is_printable(uint32_t code);   // str.isprintable
int jinja_is_cased_upper(uint32_t code); // upper or title case letter
int jinja_is_cased_lower(uint32_t code);
int jinja_is_alpha(uint32_t code);
int jinja_is_digit(uint32_t code);

enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_SWAP };
struct jinja_value jinja_change_case(struct jinja_state *state, const struct jinja_string *text, enum jinja_case how);

#endif
