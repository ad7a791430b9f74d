// The tokens of a renderer: BOS, EOS, the special ones, the pad token, and what the template is told of them.
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/data/template_internal.h"

#define TOKENIZER_SIZE_MAX ((size_t)256 << 20)
#define ENDS_MAX 32u

// Names for an added pad token, the first that the tokenizer does not know.
static const char *const pad_names[] = {"<|rmjob_pad|>", "<|pad|>", "<pad>", "[PAD]"};
// What transformers hands to a template, where the tokenizer names it.
static const char *const token_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

struct sources {
    json_t *tokenizer_config, *special_tokens_map, *config, *generation_config;
    int32_t ends[ENDS_MAX]; // ids that end a sequence, of every list of them
    size_t end_count;
};

// NULL in *document when the file is absent. Numbers are read as reals: a model_max_length of 1e30 is no integer.
static enum rmj_status load_optional(const char *directory, const char *name, json_t **document, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, name);
    struct rmj_buf text;
    rmj_buf_init(&text, TOKENIZER_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    *document = NULL;
    if (rmj_fs_exists(path)) {
        json_error_t where;
        RMJ_GO(rmj_fs_read(path, &text, err));
        *document = json_loadb(rmj_buf_text(&text), text.size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &where);
        if (!json_is_object(*document)) {
            status = rmj_fail(err, RMJ_DATA, "%s:%d: not a JSON object%s%s", path, *document == NULL ? where.line : 1,
                              *document == NULL ? ": " : "", *document == NULL ? where.text : "");
        }
    }
out:
    rmj_buf_deinit(&text);
    free(path);
    return status;
}

static void add_end(struct sources *sources, const json_t *value)
{
    if (json_is_number(value) && json_number_value(value) >= 0 && json_number_value(value) < INT32_MAX &&
        sources->end_count < ENDS_MAX) {
        sources->ends[sources->end_count++] = (int32_t)json_number_value(value);
    }
}

static enum rmj_status load(struct sources *sources, const char *directory, struct rmj_error *err)
{
    RMJ_TRY(load_optional(directory, "tokenizer_config.json", &sources->tokenizer_config, err));
    RMJ_TRY(load_optional(directory, "special_tokens_map.json", &sources->special_tokens_map, err));
    RMJ_TRY(load_optional(directory, "config.json", &sources->config, err));
    RMJ_TRY(load_optional(directory, "generation_config.json", &sources->generation_config, err));
    const json_t *const documents[] = {sources->config, sources->generation_config};
    for (size_t i = 0; i < RMJ_COUNT(documents); i++) {
        const json_t *ids = json_object_get(documents[i], "eos_token_id");
        add_end(sources, ids);
        for (size_t j = 0; j < json_array_size(ids); j++) {
            add_end(sources, json_array_get(ids, j));
        }
    }
    return RMJ_OK;
}

static void unload(struct sources *sources)
{
    json_decref(sources->tokenizer_config);
    json_decref(sources->special_tokens_map);
    json_decref(sources->config);
    json_decref(sources->generation_config);
}

// The text of a token as the tokenizer's files name it, NULL where they do not.
static const char *named_token(const struct sources *sources, const char *name)
{
    const json_t *const documents[] = {sources->tokenizer_config, sources->special_tokens_map};
    for (size_t i = 0; i < RMJ_COUNT(documents); i++) {
        const json_t *value = json_object_get(documents[i], name);
        const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
        if (json_is_string(text)) {
            return json_string_value(text);
        }
    }
    return NULL;
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

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_special(struct rmj_renderer *renderer, int32_t id, const char *text)
{
    if (id < 0 || id >= (int32_t)renderer->vocabulary_size || renderer->special[id] || text[0] == '\0') {
        return;
    }
    renderer->special[id] = 1;
    renderer->special_texts[renderer->special_count] = strdup(text);
    RMJ_ASSERT(renderer->special_texts[renderer->special_count] != NULL);
    renderer->special_count++;
}

// Marks the special tokens that tokenizer.json lists as added_tokens, and BOS and EOS.
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
    renderer->special = calloc(renderer->vocabulary_size, 1);
    renderer->special_texts = calloc(json_array_size(added) + 2, sizeof *renderer->special_texts);
    RMJ_ASSERT(renderer->special != NULL && renderer->special_texts != NULL);
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        json_int_t id = json_integer_value(json_object_get(token, "id"));
        if (json_is_true(json_object_get(token, "special")) && content != NULL && id >= 0 && id < INT32_MAX) {
            add_special(renderer, (int32_t)id, content);
        }
    }
    add_special(renderer, renderer->bos, renderer->bos_text);
    add_special(renderer, renderer->eos, renderer->eos_text);
    qsort(renderer->special_texts, renderer->special_count, sizeof *renderer->special_texts, by_text);
out:
    json_decref(added);
    rmj_buf_deinit(&text);
    free(path);
    return status;
}

// Why a tokenizer's own pad token cannot be used, or NULL. A scorer takes the score at the last token that is not pad,
// so it must be a token that nothing writes.
static const char *pad_fault(const struct rmj_renderer *renderer, const struct sources *sources, int32_t pad,
                             const char *text)
{
    if (pad == renderer->eos) {
        return "it is the EOS token";
    }
    if (pad == renderer->bos) {
        return "it is the BOS token";
    }
    for (size_t i = 0; i < sources->end_count; i++) {
        if (sources->ends[i] == pad) {
            return "eos_token_id lists it as one that ends a sequence";
        }
    }
    const char *unknown = named_token(sources, "unk_token");
    if (unknown != NULL && strcmp(unknown, text) == 0) {
        return "it is the unknown token, which stands inside sequences";
    }
    if (!renderer->special[pad]) {
        return "it is not a special token, so that text can hold it";
    }
    if (strstr(renderer->template_text, text) != NULL) {
        return "the chat template writes it";
    }
    return NULL;
}

// The tokenizer's own pad token where it can never be part of a sequence; else a new one.
static enum rmj_status choose_pad(struct rmj_renderer *renderer, const struct sources *sources, struct rmj_error *err)
{
    int32_t pad = rmj_tokenizer_pad(renderer->tokenizer);
    int there = pad >= 0 && pad < (int32_t)renderer->vocabulary_size;
    if (there) {
        renderer->pad_text = token_text(renderer->tokenizer, pad);
        renderer->pad_refused = renderer->pad_text == NULL ? "the tokenizer does not find it by its text"
                                                           : pad_fault(renderer, sources, pad, renderer->pad_text);
    }
    if (there && renderer->pad_refused == NULL) {
        renderer->pad = pad;
        renderer->pad_origin = RMJ_PAD_OWN;
        return RMJ_OK;
    }
    free(renderer->pad_text);
    renderer->pad_text = NULL;
    for (size_t i = 0; i < RMJ_COUNT(pad_names) && renderer->pad_text == NULL; i++) {
        if (rmj_tokenizer_token_id(renderer->tokenizer, pad_names[i]) < 0) {
            renderer->pad_text = strdup(pad_names[i]);
        }
    }
    if (renderer->pad_text == NULL) {
        return rmj_fail(err, RMJ_DATA, "the tokenizer holds every name known for an added pad token (%s, ...)",
                        pad_names[0]);
    }
    // A new token counts on from the tokenizer's: a row of the embedding that no token uses, or one more.
    renderer->pad = (int32_t)rmj_tokenizer_size(renderer->tokenizer);
    renderer->vocabulary_grows = renderer->pad == (int32_t)renderer->vocabulary_size;
    renderer->pad_origin = renderer->vocabulary_grows ? RMJ_PAD_GROWN : RMJ_PAD_SPARE;
    return RMJ_OK;
}

// What the template sees of the tokenizer, as it will see it in the exported directory.
static void make_variables(struct rmj_renderer *renderer, const struct sources *sources)
{
    renderer->variables = json_object();
    RMJ_ASSERT(renderer->variables != NULL);
    for (size_t i = 0; i < RMJ_COUNT(token_names); i++) {
        const char *text = named_token(sources, token_names[i]);
        if (i == 0) {
            text = renderer->bos < 0 ? NULL : renderer->bos_text;
        } else if (i == 1) {
            text = renderer->eos_text;
        } else if (strcmp(token_names[i], "pad_token") == 0) {
            text = renderer->pad_text;
        }
        if (text != NULL) {
            json_object_set_new(renderer->variables, token_names[i], json_string(text));
        }
    }
    json_object_set_new(renderer->variables, "documents", json_null());
    json_object_set_new(renderer->variables, "add_generation_prompt", json_false());
    const json_t *templates = json_object_get(sources->tokenizer_config, "chat_template");
    for (size_t i = 0; renderer->template_origin == RMJ_TEMPLATE_MODEL && i < json_array_size(templates); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(templates, i), "name"));
        renderer->tools_template |= name != NULL && strcmp(name, "tool_use") == 0;
    }
}

static enum rmj_status check_ids(const struct rmj_renderer *renderer, const char *directory, struct rmj_error *err)
{
    uint32_t size = rmj_tokenizer_size(renderer->tokenizer);
    if (renderer->eos < 0) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: the tokenizer cannot mark the end of a sequence: name an eos_token in "
                        "tokenizer_config.json",
                        directory);
    }
    if (size > renderer->vocabulary_size) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: the tokenizer has ids up to %u, the model's embedding %u rows: they are not of one model",
                        directory, size - 1, renderer->vocabulary_size);
    }
    if (renderer->eos >= (int32_t)size || renderer->bos >= (int32_t)size) {
        return rmj_fail(err, RMJ_DATA, "%s: bos or eos token %d is not in tokenizer.json", directory,
                        renderer->eos >= (int32_t)size ? renderer->eos : renderer->bos);
    }
    return RMJ_OK;
}

enum rmj_status rmj_renderer_read_tokens(struct rmj_renderer *renderer, const struct rmj_renderer_options *options,
                                         struct rmj_error *err)
{
    const char *directory = options->directory;
    struct sources sources = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(load(&sources, directory, err));
    renderer->bos = rmj_tokenizer_bos(options->tokenizer);
    renderer->eos = rmj_tokenizer_eos(options->tokenizer);
    // A tokenizer that says null has no BOS, whatever config.json says (Qwen).
    if (json_is_null(json_object_get(sources.tokenizer_config, "bos_token"))) {
        renderer->bos = -1;
    }
    RMJ_GO(check_ids(renderer, directory, err));
    renderer->bos_text = renderer->bos < 0 ? strdup("") : token_text(options->tokenizer, renderer->bos);
    renderer->eos_text = token_text(options->tokenizer, renderer->eos);
    if (renderer->bos_text == NULL || renderer->eos_text == NULL) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s: the %s token %d is not found again by its text: mark it special in tokenizer.json",
                          directory, renderer->bos_text == NULL ? "bos" : "eos",
                          renderer->bos_text == NULL ? renderer->bos : renderer->eos);
        goto out;
    }
    RMJ_GO(mark_special(renderer, directory, err));
    RMJ_GO(choose_pad(renderer, &sources, err));
    make_variables(renderer, &sources);
out:
    unload(&sources);
    return status;
}

void rmj_renderer_describe_pad(const struct rmj_renderer *renderer, struct rmj_buf *out)
{
    static const char *const texts[] = {
        [RMJ_PAD_OWN] = "the tokenizer's own",
        [RMJ_PAD_SPARE] = "new, on a row of the embedding that no token uses",
        [RMJ_PAD_GROWN] = "new, on a new row of the embedding",
    };
    rmj_buf_printf(out, "%s (id %d): %s", renderer->pad_text, renderer->pad, texts[renderer->pad_origin]);
    if (renderer->pad_refused != NULL) {
        rmj_buf_printf(out, "; its own cannot pad: %s", renderer->pad_refused);
    }
}
