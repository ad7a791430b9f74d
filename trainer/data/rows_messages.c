// Messages of conversations, in whichever way a file writes them.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/rows_internal.h"

static const char human_turn[] = "\n\nHuman:";
static const char assistant_turn[] = "\n\nAssistant:";

// ShareGPT's names of roles. function_call is an assistant's turn whose value is the call.
static const struct {
    const char *from, *role;
} sharegpt_roles[] = {
    {"human", "user"},       {"user", "user"}, {"gpt", "assistant"},    {"assistant", "assistant"},
    {"system", "system"},    {"tool", "tool"}, {"observation", "tool"}, {"function_response", "tool"},
    {"function_call", NULL},
};

void rmj_messages_append_text(json_t *out, const char *role, const char *content, size_t size)
{
    json_t *message = json_object();
    RMJ_ASSERT(message != NULL);
    json_object_set_new(message, "role", json_string(role));
    json_object_set_new(message, "content", json_stringn(content, size));
    json_array_append_new(out, message);
}

static enum rmj_status check_parts(const json_t *parts, const char *column, size_t index, struct rmj_error *err)
{
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(json_object_get(part, "text"))) {
            return rmj_fail(err, RMJ_DATA,
                            "%s[%zu].content[%zu] is not {\"type\": \"text\", \"text\": ...}: images, video and sound "
                            "are not read",
                            column, index, i);
        }
    }
    return RMJ_OK;
}

static enum rmj_status append_message(json_t *out, json_t *message, const char *column, size_t index,
                                      struct rmj_error *err)
{
    const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    int has_content = json_is_string(content) || json_is_array(content) ||
                      ((content == NULL || json_is_null(content)) && json_array_size(calls) > 0);
    if (!json_is_string(role) || !has_content) {
        return rmj_fail(err, RMJ_DATA, "%s[%zu] is %s; a message is {\"role\": text, \"content\": text}", column, index,
                        json_is_object(message) ? "an object without role and content as texts"
                                                : rmj_json_type_name(message));
    }
    RMJ_TRY(check_parts(content, column, index, err));
    json_t *copy = json_object(), *value;
    const char *key;
    RMJ_ASSERT(copy != NULL);
    json_object_foreach(message, key, value)
    {
        if (!json_is_null(value)) {
            json_object_set(copy, key, value);
        }
    }
    json_array_append_new(out, copy);
    return RMJ_OK;
}

// A call as ShareGPT writes it: JSON text of {"name": ..., "arguments": {...}}, or of a list of them.
static enum rmj_status append_call(json_t *out, const json_t *value, const char *column, size_t index,
                                   struct rmj_error *err)
{
    json_t *parsed = json_loadb(json_string_value(value), json_string_length(value), JSON_REJECT_DUPLICATES, NULL);
    json_t *list = json_is_object(parsed) ? json_pack("[O]", parsed) : json_incref(parsed);
    json_t *calls = json_array(), *call;
    size_t i;
    enum rmj_status status = RMJ_OK;
    RMJ_ASSERT(calls != NULL);
    json_array_foreach(list, i, call)
    {
        json_t *arguments = json_object_get(call, "arguments");
        if (!json_is_string(json_object_get(call, "name")) || arguments == NULL) {
            break;
        }
        json_array_append_new(calls, json_pack("{s:s,s:{s:O,s:O}}", "type", "function", "function", "name",
                                               json_object_get(call, "name"), "arguments", arguments));
    }
    if (json_array_size(calls) == 0 || json_array_size(calls) != json_array_size(list)) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s[%zu]: the value of a function_call must be JSON of {\"name\": text, \"arguments\": ...}",
                          column, index);
        goto out;
    }
    json_array_append_new(out, json_pack("{s:s,s:s,s:O}", "role", "assistant", "content", "", "tool_calls", calls));
out:
    json_decref(calls);
    json_decref(list);
    json_decref(parsed);
    return status;
}

static enum rmj_status append_sharegpt(json_t *out, json_t *message, const char *column, size_t index,
                                       struct rmj_error *err)
{
    const json_t *from = json_object_get(message, "from"), *value = json_object_get(message, "value");
    if (!json_is_string(from) || !json_is_string(value)) {
        return rmj_fail(err, RMJ_DATA, "%s[%zu] is %s; a message is {\"from\": text, \"value\": text}", column, index,
                        json_is_object(message) ? "an object without from and value as texts"
                                                : rmj_json_type_name(message));
    }
    for (size_t i = 0; i < RMJ_COUNT(sharegpt_roles); i++) {
        if (strcmp(json_string_value(from), sharegpt_roles[i].from) == 0) {
            if (sharegpt_roles[i].role == NULL) {
                return append_call(out, value, column, index, err);
            }
            rmj_messages_append_text(out, sharegpt_roles[i].role, json_string_value(value), json_string_length(value));
            return RMJ_OK;
        }
    }
    return rmj_fail(err, RMJ_DATA,
                    "%s[%zu]: from '%.40s': it is human, gpt, system, function_call, observation or tool", column,
                    index, json_string_value(from));
}

enum rmj_status rmj_messages_append(json_t *out, json_t *value, const char *column, int sharegpt, struct rmj_error *err)
{
    if (!json_is_array(value) && !json_is_object(value)) {
        return rmj_fail(err, RMJ_DATA, "%s is %s; it must be a list of messages", column, rmj_json_type_name(value));
    }
    size_t count = json_is_object(value) ? 1 : json_array_size(value);
    for (size_t i = 0; i < count; i++) {
        json_t *message = json_is_object(value) ? value : json_array_get(value, i);
        RMJ_TRY(sharegpt ? append_sharegpt(out, message, column, i, err)
                         : append_message(out, message, column, i, err));
    }
    return RMJ_OK;
}

int rmj_text_has_turns(const char *text, size_t size)
{
    return size >= sizeof human_turn - 1 && memcmp(text, human_turn, sizeof human_turn - 1) == 0;
}

// Where the next mark begins at or after `at`; size when there is none.
static size_t next_turn(const char *text, size_t size, size_t at)
{
    for (; at < size; at++) {
        const char *found = memchr(text + at, '\n', size - at);
        if (found == NULL) {
            return size;
        }
        at = (size_t)(found - text);
        size_t left = size - at;
        if ((left >= sizeof human_turn - 1 && memcmp(found, human_turn, sizeof human_turn - 1) == 0) ||
            (left >= sizeof assistant_turn - 1 && memcmp(found, assistant_turn, sizeof assistant_turn - 1) == 0)) {
            return at;
        }
    }
    return size;
}

enum rmj_status rmj_messages_append_turns(json_t *out, const char *text, size_t size, struct rmj_error *err)
{
    if (!rmj_text_has_turns(text, size)) {
        return rmj_fail(err, RMJ_DATA, "the text does not begin with \"\\n\\nHuman: \"");
    }
    int human = 0;
    size_t turn = 0;
    for (size_t at = 0; at < size; turn++) {
        human = rmj_text_has_turns(text + at, size - at);
        size_t begin = at + (human ? sizeof human_turn : sizeof assistant_turn) - 1;
        if (begin == size || text[begin] != ' ') {
            return rmj_fail(
                err, RMJ_DATA,
                "turn %zu has no space after \"%s\": add it, or set form: text to use the text as it stands", turn + 1,
                human ? "Human:" : "Assistant:");
        }
        size_t end = next_turn(text, size, begin);
        rmj_messages_append_text(out, human ? "user" : "assistant", text + begin + 1, end - begin - 1);
        at = end;
    }
    if (human) {
        return rmj_fail(err, RMJ_DATA, "the last of %zu turns is Human's: there is no answer to judge", turn);
    }
    return RMJ_OK;
}

char *rmj_message_text(const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    if (json_is_string(content)) {
        return strdup(json_string_value(content));
    }
    struct rmj_buf text;
    size_t i;
    json_t *part;
    rmj_buf_init(&text, SIZE_MAX / 2);
    json_array_foreach(content, i, part)
    {
        rmj_buf_puts(&text, json_string_value(json_object_get(part, "text")));
    }
    return rmj_buf_detach(&text);
}

void rmj_messages_prompt(struct rmj_buf *out, const json_t *messages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        char *text = rmj_message_text(message);
        if (strcmp(role, "user") == 0 || strcmp(role, "human") == 0) {
            rmj_buf_printf(out, "%s ", human_turn);
        } else if (strcmp(role, "assistant") == 0 || strcmp(role, "gpt") == 0) {
            rmj_buf_printf(out, "%s ", assistant_turn);
        } else if (i > 0) {
            rmj_buf_puts(out, "\n\n");
        }
        rmj_buf_puts(out, text == NULL ? "" : text);
        free(text);
    }
}

size_t rmj_messages_prompt_count(const json_t *messages)
{
    size_t count = json_array_size(messages);
    for (size_t i = count; i > 0; i--) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, i - 1), "role"));
        if (strcmp(role, "assistant") == 0 || strcmp(role, "gpt") == 0) {
            return i - 1;
        }
    }
    return count == 0 ? 0 : count - 1;
}

int rmj_messages_end_empty(const json_t *messages)
{
    size_t count = json_array_size(messages);
    const json_t *last = count == 0 ? NULL : json_array_get(messages, count - 1);
    if (json_array_size(json_object_get(last, "tool_calls")) > 0) {
        return 0;
    }
    char *text = rmj_message_text(last);
    int empty = text == NULL || strspn(text, " \n") == strlen(text);
    free(text);
    return empty;
}
