#include "trainer/data/lines_json.h"

#include <string.h>

// The next byte without taking it; -1 at the end.
static enum rmj_status peek(struct rmj_stored *stored, int *byte, struct rmj_error *err)
{
    if (stored->plain_at == stored->plain_count) {
        RMJ_TRY(rmj_stored_refill(stored, err));
    }
    *byte = stored->plain_count == 0 ? -1 : (unsigned char)stored->plain[stored->plain_at];
    return RMJ_OK;
}

static enum rmj_status skip_space(struct rmj_stored *stored, int *byte, struct rmj_error *err)
{
    RMJ_TRY(peek(stored, byte, err));
    while (*byte == ' ' || *byte == '\t' || *byte == '\n' || *byte == '\r') {
        stored->plain_at++;
        RMJ_TRY(peek(stored, byte, err));
    }
    return RMJ_OK;
}

static enum rmj_status refuse_one_object(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA,
                    "the file is one object, not a list of rows: write [{...}, {...}] (pandas: orient=\"records\"), or "
                    "one object a line into a .jsonl file");
}

static enum rmj_status cut_off(struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA, "the list is not closed: the file was not written whole");
}

// How far the bytes [0, count) belong to the element; depth, quoted and escaped go from piece to piece.
struct scan {
    int depth, quoted, escaped, done;
};

static size_t scan_piece(struct scan *scan, const char *bytes, size_t count)
{
    size_t i = 0;
    for (; i < count && !scan->done; i++) {
        char c = bytes[i];
        if (scan->quoted) {
            scan->quoted = scan->escaped || c != '"';
            scan->escaped = !scan->escaped && c == '\\';
        } else if (c == '"') {
            scan->quoted = 1;
        } else if (c == '{' || c == '[') {
            scan->depth++;
        } else if (c == '}' || c == ']') {
            scan->depth--;
        }
        scan->done = scan->depth == 0 && !scan->quoted;
    }
    return i;
}

// An element that begins with '{', '[' or '"'. Others (numbers, null) have no end of their own and are no rows: they
// are given as they stand, up to the next mark, for the row's own message.
static enum rmj_status read_element(const struct rmj_json_elements *elements, struct rmj_stored *stored,
                                    struct rmj_buf *element, struct rmj_error *err)
{
    int byte;
    RMJ_TRY(peek(stored, &byte, err));
    struct scan scan = {0};
    int bare = memchr("{[\"", byte, 3) == NULL;
    for (;;) {
        const char *bytes = stored->plain + stored->plain_at;
        size_t left = stored->plain_count - stored->plain_at, count;
        if (bare) {
            for (count = 0; count < left && memchr(",]} \t\r\n", bytes[count], 7) == NULL; count++) {
            }
            scan.done = count < left;
        } else {
            count = scan_piece(&scan, bytes, left);
        }
        if (element->size + count > element->size_max) {
            return !elements->listed && elements->count == 0
                       ? refuse_one_object(err)
                       : rmj_fail(err, RMJ_DATA, "the row has more than %zu bytes: cut it", element->size_max);
        }
        rmj_buf_append(element, bytes, count);
        RMJ_TRY(rmj_buf_check(element, err));
        stored->plain_at += count;
        if (scan.done) {
            return RMJ_OK;
        }
        RMJ_TRY(peek(stored, &byte, err));
        if (byte < 0) {
            return bare && !elements->listed ? RMJ_OK : cut_off(err);
        }
    }
}

static enum rmj_status begin(struct rmj_json_elements *elements, struct rmj_stored *stored, int *byte,
                             struct rmj_error *err)
{
    elements->began = 1;
    if (*byte == 0xef) {
        return rmj_fail(err, RMJ_DATA, "begins with a byte order mark: save the file as UTF-8 without one");
    }
    elements->listed = *byte == '[';
    if (!elements->listed) {
        return RMJ_OK;
    }
    stored->plain_at++;
    return skip_space(stored, byte, err);
}

enum rmj_status rmj_json_elements_next(struct rmj_json_elements *elements, struct rmj_stored *stored,
                                       struct rmj_buf *element, struct rmj_error *err)
{
    int byte, first = !elements->began;
    rmj_buf_clear(element);
    RMJ_TRY(skip_space(stored, &byte, err));
    if (first) {
        RMJ_TRY(begin(elements, stored, &byte, err));
    }
    if (elements->listed && byte == ']' && !elements->ended && (first || elements->count > 0)) {
        elements->ended = 1;
        stored->plain_at++;
        RMJ_TRY(skip_space(stored, &byte, err));
    }
    if (byte < 0) {
        return elements->listed && !elements->ended ? cut_off(err) : RMJ_OK;
    }
    if (elements->ended) {
        return rmj_fail(err, RMJ_DATA, "something follows the list: remove it");
    }
    if (elements->listed && !first) {
        if (byte != ',') {
            return rmj_fail(err, RMJ_DATA, "no comma between this row and the one before");
        }
        stored->plain_at++;
        RMJ_TRY(skip_space(stored, &byte, err));
        if (byte < 0) {
            return cut_off(err);
        }
    }
    if (byte == ',' || byte == ']' || byte == '}') {
        return rmj_fail(err, RMJ_DATA, "'%c' stands where a row should begin", byte);
    }
    RMJ_TRY(read_element(elements, stored, element, err));
    elements->count += elements->count < 2;
    if (!elements->listed && elements->count == 1 && element->bytes[0] == '{') {
        // Lines under another name have a second object; a table by columns has not.
        RMJ_TRY(skip_space(stored, &byte, err));
        return byte < 0 ? refuse_one_object(err) : RMJ_OK;
    }
    return RMJ_OK;
}
