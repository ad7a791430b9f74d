// Ids back to text, as the public decoders do it: a chain over a list of token texts, joined at the end.
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "trainer/tokenizer/internal.h"

#define REPLACEMENT_CHARACTER "\xef\xbf\xbd"

static enum rmj_status read_replace(struct rmj_decoder *step, const json_t *part, struct rmj_error *err)
{
    struct rmj_span content;
    step->kind = RMJ_DECODE_REPLACE;
    RMJ_TRY(rmj_regex_read(&step->pattern, json_object_get(part, "pattern"), "decoder Replace", err));
    RMJ_TRY(rmj_json_text(part, "decoder Replace", "content", &content, err));
    step->content = rmj_span_copy(content);
    step->content_size = content.size;
    return step->content == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a decoder") : RMJ_OK;
}

static enum rmj_status read_character(struct rmj_decoder *step, const json_t *part, const char *where, const char *key,
                                      struct rmj_error *err)
{
    struct rmj_span text;
    RMJ_TRY(rmj_json_text(part, where, key, &text, err));
    size_t first = 0;
    if (text.size == 0 || (rmj_rune_next(text.text, text.size, &first), first != text.size)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" has to be one character", where, key);
    }
    step->content = rmj_span_copy(text);
    step->content_size = text.size;
    return step->content == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for a decoder") : RMJ_OK;
}

static enum rmj_status read_strip(struct rmj_decoder *step, const json_t *part, struct rmj_error *err)
{
    uint64_t start = 0;
    uint64_t stop = 0;
    step->kind = RMJ_DECODE_STRIP;
    RMJ_TRY(read_character(step, part, "decoder Strip", "content", err));
    RMJ_TRY(rmj_json_count(part, "decoder Strip", "start", RMJ_TOKENIZER_TOKEN_SIZE_MAX, &start, err));
    RMJ_TRY(rmj_json_count(part, "decoder Strip", "stop", RMJ_TOKENIZER_TOKEN_SIZE_MAX, &stop, err));
    step->strip_start = (size_t)start;
    step->strip_stop = (size_t)stop;
    return RMJ_OK;
}

static enum rmj_status read_metaspace(struct rmj_decoder *step, const json_t *part, struct rmj_error *err)
{
    step->kind = RMJ_DECODE_METASPACE;
    RMJ_TRY(read_character(step, part, "decoder Metaspace", "replacement", err));
    RMJ_TRY(rmj_json_bool(part, "decoder Metaspace", "add_prefix_space", true, &step->drop_first, err));
    const json_t *scheme = json_object_get(part, "prepend_scheme");
    if (json_is_string(scheme)) {
        step->drop_first = strcmp(json_string_value(scheme), "never") != 0;
    }
    return RMJ_OK;
}

enum rmj_status rmj_decoder_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                struct rmj_error *err)
{
    if (tokenizer->decoder_count == RMJ_TOKENIZER_STEP_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "decoder has more than %d parts", RMJ_TOKENIZER_STEP_COUNT_MAX);
    }
    struct rmj_decoder *step = &tokenizer->decoders[tokenizer->decoder_count++];
    static const struct {
        const char *type;
        enum rmj_decoder_kind kind;
    } plain[] = {
        {"ByteLevel", RMJ_DECODE_BYTE_LEVEL}, {"ByteFallback", RMJ_DECODE_BYTE_FALLBACK}, {"Fuse", RMJ_DECODE_FUSE}};
    for (size_t i = 0; i < RMJ_COUNT(plain); i++) {
        if (strcmp(type, plain[i].type) == 0) {
            step->kind = plain[i].kind;
            return RMJ_OK;
        }
    }
    if (strcmp(type, "Replace") == 0) {
        return read_replace(step, part, err);
    }
    if (strcmp(type, "Strip") == 0) {
        return read_strip(step, part, err);
    }
    if (strcmp(type, "Metaspace") == 0) {
        return read_metaspace(step, part, err);
    }
    return rmj_fail(err, RMJ_DATA,
                    "decoder %.40s is not supported; supported are ByteLevel, ByteFallback, Fuse, Replace, Strip, "
                    "Metaspace and Sequence",
                    type);
}

// Token texts one after the other, and where each ends.
struct pieces {
    struct rmj_buf text;
    struct rmj_buf ends; // size_t each
};

static void pieces_init(struct pieces *pieces)
{
    rmj_buf_init(&pieces->text, RMJ_TOKENIZER_WORK_SIZE_MAX);
    rmj_buf_init(&pieces->ends, RMJ_TOKENIZER_WORK_SIZE_MAX);
}

static void pieces_deinit(struct pieces *pieces)
{
    rmj_buf_deinit(&pieces->text);
    rmj_buf_deinit(&pieces->ends);
}

static void end_piece(struct pieces *pieces)
{
    rmj_buf_append(&pieces->ends, &pieces->text.size, sizeof(size_t));
}

static size_t piece_count(const struct pieces *pieces)
{
    return pieces->ends.size / sizeof(size_t);
}

static struct rmj_span piece_at(const struct pieces *pieces, size_t index)
{
    size_t bounds[2] = {0, 0};
    if (index > 0) {
        memcpy(&bounds[0], pieces->ends.bytes + (index - 1) * sizeof(size_t), sizeof(size_t));
    }
    memcpy(&bounds[1], pieces->ends.bytes + index * sizeof(size_t), sizeof(size_t));
    return (struct rmj_span){rmj_buf_text(&pieces->text) + bounds[0], bounds[1] - bounds[0]};
}

// How many bytes at `at` make up one broken character: the longest start of a valid one, at least one byte (Unicode
// 15.0, section 3.9, substitution of maximal subparts).
static size_t broken_size(const unsigned char *s, size_t size)
{
    size_t length = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 1;
    size_t have = 1;
    while (have < length && have < size) {
        unsigned char low = have > 1 ? 0x80 : s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
        unsigned char high = have > 1 ? 0xbf : s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
        if (s[have] < low || s[have] > high) {
            break;
        }
        have++;
    }
    return have;
}

static void append_lossy(struct rmj_buf *out, const char *bytes, size_t size)
{
    size_t at = 0;
    while (at < size) {
        size_t valid = rmj_text_utf8_valid(bytes + at, size - at);
        rmj_buf_append(out, bytes + at, valid);
        at += valid;
        if (at < size) {
            rmj_buf_puts(out, REPLACEMENT_CHARACTER);
            at += broken_size((const unsigned char *)bytes + at, size - at);
        }
    }
}

static void decode_byte_level(const struct pieces *in, struct pieces *out)
{
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, RMJ_TOKENIZER_WORK_SIZE_MAX);
    for (size_t i = 0; i < piece_count(in); i++) {
        struct rmj_span token = piece_at(in, i);
        size_t before = bytes.size;
        size_t offset = 0;
        while (offset < token.size) {
            int byte = rmj_rune_byte(rmj_rune_next(token.text, token.size, &offset));
            if (byte < 0) { // one character outside the alphabet: the token stands for itself
                bytes.size = before;
                rmj_buf_append(&bytes, token.text, token.size);
                break;
            }
            rmj_buf_putc(&bytes, (char)byte);
        }
    }
    append_lossy(&out->text, rmj_buf_text(&bytes), bytes.size);
    out->text.failed |= bytes.failed;
    end_piece(out);
    rmj_buf_deinit(&bytes);
}

// <0x41> is the byte 0x41, -1 for any other token.
static int fallback_byte(struct rmj_span token)
{
    uint8_t byte;
    char hex[3] = {0};
    if (token.size != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>') {
        return -1;
    }
    memcpy(hex, token.text + 3, 2);
    return rmj_text_unhex(&byte, 1, hex) ? byte : -1;
}

// A run of byte tokens is text when it is valid together, else one replacement character for each.
static void end_bytes(struct rmj_buf *bytes, struct pieces *out)
{
    if (bytes->size == 0) {
        return;
    }
    if (rmj_text_utf8_valid(bytes->bytes, bytes->size) == bytes->size) {
        rmj_buf_append(&out->text, bytes->bytes, bytes->size);
        end_piece(out);
    } else {
        for (size_t i = 0; i < bytes->size; i++) {
            rmj_buf_puts(&out->text, REPLACEMENT_CHARACTER);
            end_piece(out);
        }
    }
    rmj_buf_clear(bytes);
}

static void decode_byte_fallback(const struct pieces *in, struct pieces *out)
{
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, RMJ_TOKENIZER_WORK_SIZE_MAX);
    for (size_t i = 0; i < piece_count(in); i++) {
        struct rmj_span token = piece_at(in, i);
        int byte = fallback_byte(token);
        if (byte >= 0) {
            rmj_buf_putc(&bytes, (char)byte);
            continue;
        }
        end_bytes(&bytes, out);
        rmj_buf_append(&out->text, token.text, token.size);
        end_piece(out);
    }
    end_bytes(&bytes, out);
    out->text.failed |= bytes.failed;
    rmj_buf_deinit(&bytes);
}

static struct rmj_span strip(const struct rmj_decoder *step, struct rmj_span token)
{
    size_t width = step->content_size;
    for (size_t i = 0; i < step->strip_start && token.size >= width && memcmp(token.text, step->content, width) == 0;
         i++) {
        token = (struct rmj_span){token.text + width, token.size - width};
    }
    for (size_t i = 0; i < step->strip_stop && token.size >= width &&
                       memcmp(token.text + token.size - width, step->content, width) == 0;
         i++) {
        token.size -= width;
    }
    return token;
}

static void metaspace(const struct rmj_decoder *step, struct rmj_span token, bool first, struct rmj_buf *out)
{
    const char *mark;
    while ((mark = memmem(token.text, token.size, step->content, step->content_size)) != NULL) {
        size_t before = (size_t)(mark - token.text);
        rmj_buf_append(out, token.text, before);
        if (!first || !step->drop_first) {
            rmj_buf_putc(out, ' ');
        }
        token = (struct rmj_span){mark + step->content_size, token.size - before - step->content_size};
    }
    rmj_buf_append(out, token.text, token.size);
}

static enum rmj_status decode_each(const struct rmj_decoder *step, struct rmj_tokenizer_scratch *scratch,
                                   const struct pieces *in, struct pieces *out)
{
    for (size_t i = 0; i < piece_count(in); i++) {
        struct rmj_span token = piece_at(in, i);
        if (step->kind == RMJ_DECODE_REPLACE) {
            struct rmj_span content = {step->content, step->content_size};
            RMJ_TRY(rmj_replace(&step->pattern, content, scratch, token, &out->text, NULL));
        } else if (step->kind == RMJ_DECODE_METASPACE) {
            metaspace(step, token, i == 0, &out->text);
        } else {
            token = step->kind == RMJ_DECODE_STRIP ? strip(step, token) : token;
            rmj_buf_append(&out->text, token.text, token.size);
        }
        if (step->kind != RMJ_DECODE_FUSE) {
            end_piece(out);
        }
    }
    if (step->kind == RMJ_DECODE_FUSE) {
        end_piece(out);
    }
    return RMJ_OK;
}

static enum rmj_status decode_step(const struct rmj_decoder *step, struct rmj_tokenizer_scratch *scratch,
                                   const struct pieces *in, struct pieces *out)
{
    rmj_buf_clear(&out->text);
    rmj_buf_clear(&out->ends);
    enum rmj_status status = RMJ_OK;
    if (step->kind == RMJ_DECODE_BYTE_LEVEL) {
        decode_byte_level(in, out);
    } else if (step->kind == RMJ_DECODE_BYTE_FALLBACK) {
        decode_byte_fallback(in, out);
    } else {
        status = decode_each(step, scratch, in, out);
    }
    return out->text.failed || out->ends.failed ? RMJ_FULL : status;
}

static struct rmj_span token_text(const struct rmj_tokenizer *tokenizer, int32_t id)
{
    const struct rmj_added_token *added = rmj_added_by_id(&tokenizer->added, id);
    if (added != NULL) {
        return added->decoded;
    }
    return id >= 0 && (uint32_t)id < tokenizer->vocab.id_end ? tokenizer->vocab.texts[id] : (struct rmj_span){0};
}

// Ids that are no token are left out.
static void read_tokens(const struct rmj_tokenizer *tokenizer, const int32_t *ids, size_t count, struct pieces *out)
{
    bool joined = tokenizer->decoder_count > 0; // without decoders the tokens stand apart
    for (size_t i = 0; i < count; i++) {
        struct rmj_span text = token_text(tokenizer, ids[i]);
        if (text.text == NULL) {
            continue;
        }
        if (!joined && piece_count(out) > 0) {
            rmj_buf_putc(&out->text, ' ');
        }
        rmj_buf_append(&out->text, text.text, text.size);
        end_piece(out);
    }
}

char *rmj_tokenizer_decode(const struct rmj_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    struct rmj_tokenizer_scratch *scratch = rmj_scratch_take(tokenizer);
    if (scratch == NULL) {
        return NULL;
    }
    struct pieces pieces[2];
    pieces_init(&pieces[0]);
    pieces_init(&pieces[1]);
    read_tokens(tokenizer, ids, count, &pieces[0]);
    enum rmj_status status = pieces[0].text.failed || pieces[0].ends.failed ? RMJ_FULL : RMJ_OK;
    size_t turn = 0;
    for (size_t i = 0; status == RMJ_OK && i < tokenizer->decoder_count; i++) {
        status = decode_step(&tokenizer->decoders[i], scratch, &pieces[turn], &pieces[1 - turn]);
        turn = 1 - turn;
    }
    rmj_scratch_put(tokenizer, scratch);
    char *text = status == RMJ_OK ? rmj_buf_detach(&pieces[turn].text) : NULL;
    pieces_deinit(&pieces[0]);
    pieces_deinit(&pieces[1]);
    return text;
}
