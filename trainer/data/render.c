// One sequence of a row as ids, and what is verified of it.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/lines.h"
#include "trainer/data/template.h"
#include "trainer/jinja/jinja.h"

#define TEXT_SIZE_MAX (RMJ_JINJA_OUTPUT_SIZE_MAX)
#define SHOWN_BEFORE 3u
#define SHOWN_MAX 12u

void rmj_render_memory_init(struct rmj_render_memory *memory)
{
    rmj_buf_init(&memory->text, TEXT_SIZE_MAX);
}

void rmj_render_memory_deinit(struct rmj_render_memory *memory)
{
    rmj_buf_deinit(&memory->text);
}

void rmj_renderer_show(const struct rmj_renderer *renderer, const int32_t *ids, size_t count, struct rmj_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        char *text = rmj_tokenizer_decode(renderer->tokenizer, &ids[i], 1);
        rmj_buf_puts(out, i > 0 ? " [" : "[");
        for (const char *c = text == NULL ? "" : text; *c != '\0'; c++) {
            if (*c == '\n') {
                rmj_buf_puts(out, "\\n");
            } else {
                rmj_buf_putc(out, *c);
            }
        }
        rmj_buf_putc(out, ']');
        free(text);
    }
}

// The tokens around the one at fault: "... [<s>] [<s>] [hi] ...".
static void show_around(const struct rmj_renderer *renderer, const struct rmj_tokens *tokens, size_t at,
                        struct rmj_buf *out)
{
    size_t first = at < SHOWN_BEFORE ? 0 : at - SHOWN_BEFORE;
    size_t count = tokens->count - first > SHOWN_MAX ? SHOWN_MAX : tokens->count - first;
    rmj_buf_puts(out, first > 0 ? "... " : "");
    rmj_renderer_show(renderer, tokens->ids + first, count, out);
    rmj_buf_puts(out, first + count < tokens->count ? " ..." : "");
}

static enum rmj_status refuse(const struct rmj_renderer *renderer, const struct rmj_tokens *tokens, size_t at,
                              struct rmj_error *err, const char *what, const char *token, const char *mend)
{
    struct rmj_buf shown;
    rmj_buf_init(&shown, RMJ_ERROR_MESSAGE_SIZE);
    show_around(renderer, tokens, at, &shown);
    enum rmj_status status =
        rmj_fail(err, RMJ_DATA, "%s %s at token %zu: %s; %s", what, token, at + 1, rmj_buf_text(&shown), mend);
    rmj_buf_deinit(&shown);
    return status;
}

// What must hold of every sequence. bos_inside: the template wrote it (or it is EOS too), so that only a doubled one at
// the beginning is refused.
static enum rmj_status verify(const struct rmj_renderer *renderer, const struct rmj_tokens *tokens, int bos_inside,
                              struct rmj_error *err)
{
    if (tokens->count == 0) {
        return rmj_fail(err, RMJ_DATA, "the side has no tokens: there is nothing to score");
    }
    for (size_t i = 0; i < tokens->count; i++) {
        int32_t id = tokens->ids[i];
        if (id < 0 || id >= (int32_t)renderer->vocabulary_size + renderer->vocabulary_grows) {
            return rmj_fail(err, RMJ_DATA, "token %d is outside the model's vocabulary of %u", id,
                            renderer->vocabulary_size);
        }
        if (id == renderer->pad) {
            return refuse(renderer, tokens, i, err, "the row holds the pad token", renderer->pad_text,
                          "it would not be scored: remove it");
        }
        if (renderer->bos < 0 || id != renderer->bos || i == 0) {
            continue;
        }
        if (i == 1 && tokens->ids[0] == renderer->bos && tokens->count > 2) {
            return refuse(renderer, tokens, i, err, "the sequence begins twice, with a second", renderer->bos_text,
                          "the text has its own, or the template writes two: leave one");
        }
        if (!bos_inside) {
            return refuse(renderer, tokens, i, err, "the text holds", renderer->bos_text,
                          "it begins a sequence and is added here: remove it");
        }
    }
    return RMJ_OK;
}

static int begins_with(const char *text, size_t size, const char *start)
{
    size_t length = strlen(start);
    return length > 0 && size >= length && memcmp(text, start, length) == 0;
}

static int ends_with(const char *text, size_t size, const char *end)
{
    size_t length = strlen(end);
    return length > 0 && size >= length && memcmp(text + size - length, end, length) == 0;
}

static void append_ids(struct rmj_tokens *tokens, const int32_t *ids, size_t count)
{
    if (tokens->count + count > tokens->capacity) {
        tokens->capacity = tokens->count + count + tokens->capacity / 2;
        tokens->ids = realloc(tokens->ids, tokens->capacity * sizeof *tokens->ids);
        RMJ_ASSERT(tokens->ids != NULL);
    }
    if (count > 0) {
        memcpy(tokens->ids + tokens->count, ids, count * sizeof *ids);
    }
    tokens->count += count;
}

static uint32_t count_special(const struct rmj_renderer *renderer, const struct rmj_tokens *tokens)
{
    uint32_t special = 0;
    for (size_t i = 0; i + 1 < tokens->count; i++) {
        int32_t id = tokens->ids[i];
        special += id < (int32_t)renderer->vocabulary_size && renderer->special[id] && !(i == 0 && id == renderer->bos);
    }
    return special;
}

enum rmj_status rmj_renderer_encode_text(const struct rmj_renderer *renderer, const char *text, size_t size,
                                         struct rmj_render_memory *memory, struct rmj_tokens *tokens,
                                         uint32_t *special_count, struct rmj_error *err)
{
    struct rmj_buf *out = &memory->text;
    struct rmj_tokenizer_marks marks;
    rmj_tokenizer_marks(renderer->tokenizer, &marks);
    int begun = begins_with(text, size, renderer->bos_text);
    int marked = marks.before_count > 0 && !begun;
    // Without a template and without a post-processor the default template's BOS stands here too, so that texts and
    // conversations look alike.
    int written = !begun && marks.before_count == 0 && renderer->template_origin == RMJ_TEMPLATE_DEFAULT;
    int ended = marks.after_count > 0 && marks.after[marks.after_count - 1] == renderer->eos;
    rmj_buf_clear(out);
    rmj_buf_puts(out, written ? renderer->bos_text : "");
    rmj_buf_append(out, text, size);
    rmj_buf_puts(out, ended || ends_with(text, size, renderer->eos_text) ? "" : renderer->eos_text);
    RMJ_TRY(rmj_buf_check(out, err));
    tokens->count = 0;
    append_ids(tokens, marks.before, marked ? marks.before_count : 0);
    RMJ_TRY(rmj_tokenizer_encode(renderer->tokenizer, rmj_buf_text(out), out->size, tokens, err));
    if (ended && !ends_with(text, size, renderer->eos_text)) {
        append_ids(tokens, marks.after, marks.after_count);
    }
    RMJ_TRY(verify(renderer, tokens, renderer->bos == renderer->eos, err));
    if (tokens->ids[tokens->count - 1] != renderer->eos) {
        return rmj_fail(err, RMJ_DATA,
                        "the sequence does not end in %s: the tokenizer does not keep it apart from text",
                        renderer->eos_text);
    }
    *special_count = count_special(renderer, tokens);
    return RMJ_OK;
}

enum rmj_status rmj_renderer_encode_ids(const struct rmj_renderer *renderer, const int32_t *ids, size_t count,
                                        struct rmj_tokens *tokens, uint32_t *special_count, struct rmj_error *err)
{
    tokens->count = 0;
    append_ids(tokens, ids, count);
    *special_count = 0; // whoever made the ids knows what stands in them
    return verify(renderer, tokens, 1, err);
}

// The special tokens of a text: those that the tokenizer would take for marks of its own.
static uint32_t special_in_text(const struct rmj_renderer *renderer, const char *text, size_t size)
{
    uint32_t count = 0;
    for (size_t at = 0; at < size; at++) {
        size_t low = 0, high = renderer->special_count;
        while (low < high) { // the first that begins with this character
            size_t middle = (low + high) / 2;
            if ((unsigned char)renderer->special_texts[middle][0] < (unsigned char)text[at]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for (; low < renderer->special_count && renderer->special_texts[low][0] == text[at]; low++) {
            if (begins_with(text + at, size - at, renderer->special_texts[low])) {
                count++;
                break;
            }
        }
    }
    return count;
}

// The special tokens in whatever texts a message holds, and whether BOS is among them.
static uint32_t special_in_value(const struct rmj_renderer *renderer, const json_t *value, int *bos)
{
    uint32_t count = 0;
    size_t i;
    const char *key;
    json_t *inner;
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        *bos |= renderer->bos >= 0 && strstr(text, renderer->bos_text) != NULL;
        return special_in_text(renderer, text, json_string_length(value));
    }
    json_array_foreach(value, i, inner)
    {
        count += special_in_value(renderer, inner, bos);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, inner)
    {
        count += special_in_value(renderer, inner, bos);
    }
    return count;
}

// A message as transformers hands it to a template: members that are null are left out, and reasoning is there under
// its old and its new name. `message` itself where nothing changes; the caller owns the result.
static json_t *normalize_message(json_t *message)
{
    static const char *const reasoning_names[] = {"reasoning_content", "thinking", "reasoning"};
    const char *key;
    json_t *value, *reasoning = NULL;
    int nulls = 0;
    json_object_foreach(message, key, value)
    {
        nulls |= json_is_null(value);
    }
    for (size_t i = 0; i < RMJ_COUNT(reasoning_names) && reasoning == NULL; i++) {
        value = json_object_get(message, reasoning_names[i]);
        reasoning = json_is_null(value) ? NULL : value;
    }
    if (!nulls && reasoning == NULL) {
        return json_incref(message);
    }
    json_t *copy = json_object();
    if (reasoning != NULL) {
        json_object_set(copy, "thinking", reasoning);
    }
    json_object_foreach(message, key, value)
    {
        if (!json_is_null(value)) {
            json_object_set(copy, key, value);
        }
    }
    if (reasoning != NULL) {
        json_object_set(copy, "reasoning_content", reasoning);
    }
    return copy;
}

// Variables of apply_chat_template that say how to render, not what.
static enum rmj_status check_kwargs(const json_t *kwargs, struct rmj_error *err)
{
    static const char *const refused[] = {"messages",
                                          "conversation",
                                          "chat_template",
                                          "tools",
                                          "tokenize",
                                          "continue_final_message",
                                          "return_dict",
                                          "padding",
                                          "truncation",
                                          "max_length",
                                          "return_tensors",
                                          "tokenizer_kwargs",
                                          "return_assistant_tokens_mask",
                                          "sanitize_control_tokens"};
    for (size_t i = 0; i < RMJ_COUNT(refused); i++) {
        if (json_object_get(kwargs, refused[i]) != NULL) {
            return rmj_fail(err, RMJ_DATA, "chat_template_kwargs.%s is not a variable of the template: remove it",
                            refused[i]);
        }
    }
    return RMJ_OK;
}

static enum rmj_status make_variables(const struct rmj_renderer *renderer, json_t *messages, json_t *tools,
                                      json_t *kwargs, json_t **variables, struct rmj_error *err)
{
    size_t i;
    json_t *message, *normalized;
    RMJ_TRY(check_kwargs(kwargs, err));
    normalized = json_array();
    RMJ_ASSERT(normalized != NULL);
    json_array_foreach(messages, i, message)
    {
        if (!json_is_object(message)) {
            json_decref(normalized);
            return rmj_fail(err, RMJ_DATA, "message %zu is no object with role and content", i + 1);
        }
        json_array_append_new(normalized, normalize_message(message));
    }
    *variables = json_copy(renderer->variables);
    RMJ_ASSERT(*variables != NULL);
    json_object_set_new(*variables, "messages", normalized);
    if (tools != NULL) {
        json_object_set(*variables, "tools", tools);
    } else {
        json_object_set_new(*variables, "tools", json_null());
    }
    if (kwargs != NULL) {
        json_object_update(*variables, kwargs);
    }
    return RMJ_OK;
}

enum rmj_status rmj_renderer_encode_messages(const struct rmj_renderer *renderer, json_t *messages, json_t *tools,
                                             json_t *kwargs, struct rmj_render_memory *memory,
                                             struct rmj_tokens *tokens, uint32_t *special_count, struct rmj_error *err)
{
    json_t *variables = NULL;
    int bos = 0;
    enum rmj_status status = RMJ_OK;
    tokens->count = 0;
    rmj_buf_clear(&memory->text);
    if (json_array_size(messages) == 0) {
        return rmj_fail(err, RMJ_DATA, "a conversation without messages: there is nothing to render");
    }
    if (tools != NULL && renderer->tools_template) {
        return rmj_fail(err, RMJ_DATA,
                        "the tokenizer has a template named tool_use for rows with tools: name the one to use in "
                        "data.chat_template");
    }
    RMJ_GO(make_variables(renderer, messages, tools, kwargs, &variables, err));
    struct rmj_jinja_input input = {.variables = variables};
    RMJ_GO(rmj_jinja_render(renderer->jinja, &input, &memory->text, NULL, NULL, err));
    RMJ_GO(rmj_tokenizer_encode(renderer->tokenizer, rmj_buf_text(&memory->text), memory->text.size, tokens, err));
    *special_count = special_in_value(renderer, messages, &bos) + special_in_value(renderer, tools, &bos);
    // A BOS inside is the template's own, one before each turn, or the row's.
    RMJ_GO(verify(renderer, tokens, !bos || renderer->bos == renderer->eos, err));
out:
    json_decref(variables);
    return status;
}
