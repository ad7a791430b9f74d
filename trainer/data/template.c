#include "trainer/data/template.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

#define TOKENIZER_SIZE_MAX ((size_t)256 << 20)

static const char human_mark[] = "\n\nHuman: ";
static const char assistant_mark[] = "\n\nAssistant: ";

const char *rmj_default_chat_template(void)
{
    return "{{ bos_token }}{% for message in messages %}"
           "{% if message['role'] == 'system' %}"
           "{% if not loop.first %}{{ raise_exception('a system message must be the first') }}{% endif %}"
           "{{ message['content'] }}"
           "{% elif message['role'] in ['user', 'human'] %}{{ '\\n\\nHuman: ' + message['content'] }}"
           "{% elif message['role'] in ['assistant', 'gpt'] %}{{ '\\n\\nAssistant: ' + message['content'] }}"
           "{% else %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
           "{% endfor %}{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% else %}{{ eos_token }}{% endif %}";
}

enum rmj_status rmj_render_message(struct rmj_buf *out, size_t index, const char *role, const char *content,
                                   size_t content_size, struct rmj_error *err)
{
    if (strcmp(role, "user") == 0 || strcmp(role, "human") == 0) {
        rmj_buf_puts(out, human_mark);
    } else if (strcmp(role, "assistant") == 0 || strcmp(role, "gpt") == 0) {
        rmj_buf_puts(out, assistant_mark);
    } else if (strcmp(role, "system") != 0) {
        return rmj_fail(err, RMJ_DATA, "role '%.40s': roles are system, user (human) and assistant (gpt)", role);
    } else if (index != 0) {
        return rmj_fail(err, RMJ_DATA, "message %zu is a system message; only the first may be one", index + 1);
    }
    rmj_buf_append(out, content, content_size);
    return rmj_buf_check(out, err);
}

// The text of a token, if the tokenizer finds the token again by it.
static char *token_text(const struct rmj_tokenizer *tokenizer, int32_t id)
{
    char *text = rmj_tokenizer_decode(tokenizer, &id, 1);
    if (text != NULL && rmj_tokenizer_token_id(tokenizer, text) != id) {
        free(text);
        text = NULL;
    }
    return text;
}

// Marks the special tokens that tokenizer.json lists as added_tokens.
static enum rmj_status mark_special(struct rmj_renderer *renderer, const char *directory, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, "tokenizer.json");
    struct rmj_buf text;
    rmj_buf_init(&text, TOKENIZER_SIZE_MAX);
    json_t *added = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_fs_read(path, &text, err));
    // Only the list is parsed: vocabularies run to many megabytes, and the tokenizer has checked the rest already.
    const char *key = strstr(rmj_buf_text(&text), "\"added_tokens\"");
    const char *list = key == NULL ? NULL : strchr(key, '[');
    if (list != NULL) {
        added = json_loadb(list, text.size - (size_t)(list - text.bytes), JSON_DISABLE_EOF_CHECK, NULL);
    }
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        json_int_t id = json_integer_value(json_object_get(token, "id"));
        if (json_is_true(json_object_get(token, "special")) && id >= 0 && id < renderer->vocabulary_size) {
            renderer->special[id] = 1;
        }
    }
out:
    json_decref(added);
    rmj_buf_deinit(&text);
    free(path);
    return status;
}

// The tokenizer's own pad token where it can never end a sequence; else a new one.
static void choose_pad(struct rmj_renderer *renderer)
{
    int32_t pad = rmj_tokenizer_pad(renderer->tokenizer);
    int own = pad >= 0 && pad < (int32_t)renderer->vocabulary_size && pad != renderer->eos && pad != renderer->bos;
    // A new token counts on from the tokenizer's: a row of the embedding that no token uses, or one more.
    renderer->pad = own ? pad : (int32_t)rmj_tokenizer_size(renderer->tokenizer);
    renderer->vocabulary_grows = renderer->pad == (int32_t)renderer->vocabulary_size;
}

static enum rmj_status check_template(const struct rmj_tokenizer *tokenizer, const char *directory,
                                      struct rmj_error *err)
{
    const char *own = rmj_tokenizer_chat_template(tokenizer);
    if (own != NULL && strcmp(own, rmj_default_chat_template()) != 0) {
        return rmj_fail(err, RMJ_DATA,
                        "%s has a chat template of its own: such models come with a later version; take the base model "
                        "without a template",
                        directory);
    }
    return RMJ_OK;
}

enum rmj_status rmj_renderer_init(struct rmj_renderer *renderer, const struct rmj_tokenizer *tokenizer,
                                  const char *directory, const struct rmj_model_config *config, struct rmj_error *err)
{
    *renderer = (struct rmj_renderer){
        .tokenizer = tokenizer,
        .bos = rmj_tokenizer_bos(tokenizer),
        .eos = rmj_tokenizer_eos(tokenizer),
        .vocabulary_size = config->vocabulary_size,
    };
    uint32_t size = rmj_tokenizer_size(tokenizer);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(check_template(tokenizer, directory, err));
    if (renderer->eos < 0) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s: the tokenizer cannot mark the end of a sequence: name an eos_token in "
                          "tokenizer_config.json",
                          directory);
        goto out;
    }
    if (size > config->vocabulary_size) {
        status =
            rmj_fail(err, RMJ_DATA,
                     "%s: the tokenizer has ids up to %u, the model's embedding %u rows: they are not of one model",
                     directory, size - 1, config->vocabulary_size);
        goto out;
    }
    if (renderer->eos >= (int32_t)size || renderer->bos >= (int32_t)size) {
        status = rmj_fail(err, RMJ_DATA, "%s: bos or eos token %d is not in tokenizer.json", directory,
                          renderer->eos >= (int32_t)size ? renderer->eos : renderer->bos);
        goto out;
    }
    renderer->bos_text = renderer->bos < 0 ? strdup("") : token_text(tokenizer, renderer->bos);
    renderer->eos_text = token_text(tokenizer, renderer->eos);
    if (renderer->bos_text == NULL || renderer->eos_text == NULL) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s: the %s token %d is not found again by its text: mark it special in "
                          "tokenizer.json",
                          directory, renderer->bos_text == NULL ? "bos" : "eos",
                          renderer->bos_text == NULL ? renderer->bos : renderer->eos);
        goto out;
    }
    renderer->special = calloc(config->vocabulary_size, 1);
    RMJ_ASSERT(renderer->special != NULL);
    RMJ_GO(mark_special(renderer, directory, err));
    renderer->special[renderer->eos] = 1;
    choose_pad(renderer);
out:
    if (status != RMJ_OK) {
        rmj_renderer_deinit(renderer);
    }
    return status;
}

void rmj_renderer_deinit(struct rmj_renderer *renderer)
{
    free(renderer->bos_text);
    free(renderer->eos_text);
    free(renderer->special);
    *renderer = (struct rmj_renderer){0};
}

static enum rmj_status verify(const struct rmj_renderer *renderer, const struct rmj_tokens *tokens,
                              uint32_t *special_count, struct rmj_error *err)
{
    size_t count = tokens->count, bos_count = 0;
    if (count < 1 || tokens->ids[count - 1] != renderer->eos) {
        return rmj_fail(err, RMJ_DATA,
                        "the sequence does not end in %s: the tokenizer does not keep it apart from text",
                        renderer->eos_text);
    }
    uint32_t special = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t id = tokens->ids[i];
        if (id < 0 || id >= (int32_t)renderer->vocabulary_size) {
            return rmj_fail(err, RMJ_DATA, "token %d is outside the model's vocabulary of %u", id,
                            renderer->vocabulary_size);
        }
        bos_count += id == renderer->bos && i + 1 < count;
        special += renderer->special[id] && i + 1 < count && !(i == 0 && id == renderer->bos);
    }
    if (renderer->bos >= 0 && (tokens->ids[0] != renderer->bos || bos_count != 1)) {
        return rmj_fail(err, RMJ_DATA, "the text holds %s, which begins a sequence and is added here: remove it",
                        renderer->bos_text);
    }
    *special_count = special;
    return RMJ_OK;
}

enum rmj_status rmj_renderer_encode(const struct rmj_renderer *renderer, const char *text, size_t size,
                                    struct rmj_buf *scratch, struct rmj_tokens *tokens, uint32_t *special_count,
                                    struct rmj_error *err)
{
    rmj_buf_clear(scratch);
    rmj_buf_puts(scratch, renderer->bos_text);
    rmj_buf_append(scratch, text, size);
    rmj_buf_puts(scratch, renderer->eos_text);
    RMJ_TRY(rmj_buf_check(scratch, err));
    tokens->count = 0;
    RMJ_TRY(rmj_tokenizer_encode(renderer->tokenizer, scratch->bytes, scratch->size, tokens, err));
    return verify(renderer, tokens, special_count, err);
}
