// The text that a side adds to what both sides share.
#include <string.h>

#include "trainer/data/rows.h"

// A message's content: a text, or parts of which those of type text have one.
static void append_content(const json_t *content, struct rmj_buf *out)
{
    if (json_is_string(content)) {
        rmj_buf_append(out, json_string_value(content), json_string_length(content));
    }
    size_t i;
    json_t *part;
    json_array_foreach(content, i, part)
    {
        const json_t *text = json_object_get(part, "text");
        if (json_is_string(text)) {
            rmj_buf_append(out, json_string_value(text), json_string_length(text));
        }
    }
}

void rmj_row_answer(const struct rmj_row *row, const struct rmj_row_side *side, struct rmj_buf *out)
{
    rmj_buf_clear(out);
    if (row->kind == RMJ_ROW_MESSAGES) {
        size_t count = json_array_size(side->messages);
        if (count > 0) {
            append_content(json_object_get(json_array_get(side->messages, count - 1), "content"), out);
        }
    } else if (row->kind == RMJ_ROW_TEXT) {
        size_t shared = row->prompt.size;
        int begins = side->text.size >= shared && memcmp(side->text.bytes, row->prompt.bytes, shared) == 0;
        size_t skip = begins ? shared : 0;
        rmj_buf_append(out, side->text.bytes + skip, side->text.size - skip);
    }
}
