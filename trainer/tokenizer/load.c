// Opening a tokenizer directory.
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/tokenizer/internal.h"

// Adjacent to what the public implementation calls a word in single_word.
#define WORD_CHARACTER "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"

// The mark of Metaspace "first" is for the piece whose first character stems from the text's first. After one character
// has become several, of which some are then taken away, that is more than rmj_normalize keeps track of.
static enum rmj_status check_first(const struct rmj_tokenizer *tokenizer, struct rmj_error *err)
{
    bool first = false;
    for (size_t i = 0; i < tokenizer->pretokenizer_count; i++) {
        first = first || tokenizer->pretokenizers[i].prepend == RMJ_PREPEND_FIRST;
    }
    bool expanded = false;
    for (size_t i = 0; first && i < tokenizer->normalizer_count; i++) {
        const struct rmj_normalizer *step = &tokenizer->normalizers[i];
        bool takes_away = step->kind == RMJ_NORMALIZE_STRIP_ACCENTS ||
                          (step->kind == RMJ_NORMALIZE_STRIP && step->strip_left) ||
                          (step->kind == RMJ_NORMALIZE_REPLACE && step->content_size == 0);
        if (expanded && takes_away) {
            return rmj_fail(
                err, RMJ_DATA,
                "pre_tokenizer Metaspace with prepend_scheme first is not supported behind a normalizer that "
                "takes characters away after another has expanded some");
        }
        expanded = expanded || step->kind == RMJ_NORMALIZE_UNICODE || step->kind == RMJ_NORMALIZE_PRECOMPILED;
    }
    return RMJ_OK;
}

static enum rmj_status read_document(struct rmj_tokenizer *tokenizer, const json_t *document, struct rmj_error *err)
{
    RMJ_TRY(rmj_regex_compile(&tokenizer->word_character, WORD_CHARACTER, strlen(WORD_CHARACTER), "added_tokens", err));
    RMJ_TRY(rmj_json_chain(tokenizer, json_object_get(document, "normalizer"), "normalizer", "normalizers",
                           rmj_normalizer_add, err));
    RMJ_TRY(rmj_json_chain(tokenizer, json_object_get(document, "pre_tokenizer"), "pre_tokenizer", "pretokenizers",
                           rmj_pretokenizer_add, err));
    RMJ_TRY(check_first(tokenizer, err));
    RMJ_TRY(
        rmj_json_chain(tokenizer, json_object_get(document, "decoder"), "decoder", "decoders", rmj_decoder_add, err));
    RMJ_TRY(rmj_vocab_load(tokenizer, json_object_get(document, "model"), err));
    RMJ_TRY(rmj_added_load(tokenizer, json_object_get(document, "added_tokens"), err));
    return rmj_json_chain(tokenizer, json_object_get(document, "post_processor"), "post_processor", "processors",
                          rmj_processor_add, err);
}

static enum rmj_status read_file(struct rmj_tokenizer *tokenizer, const char *directory, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, "tokenizer.json");
    json_t *document = NULL;
    enum rmj_status status = RMJ_OK;
    if (path == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
        goto out;
    }
    status = rmj_json_load(path, 0, &document, err);
    if (status == RMJ_NOT_FOUND || status == RMJ_FULL) {
        status = rmj_fail(err, RMJ_DATA, "%s %s", path,
                          status == RMJ_NOT_FOUND ? "is missing; the model directory has to hold its tokenizer.json"
                                                  : "is over 256 MiB, larger than any tokenizer");
    }
    if (status == RMJ_OK) {
        status = read_document(tokenizer, document, err);
        if (status != RMJ_OK) {
            rmj_context(err, "%s", path);
        }
    }
out:
    json_decref(document);
    free(path);
    return status;
}

static struct rmj_tokenizer *create(struct rmj_error *err)
{
    struct rmj_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        (void)rmj_fail(err, RMJ_NO_MEMORY, "no memory for a tokenizer");
        return NULL;
    }
    tokenizer->bos_id = tokenizer->eos_id = tokenizer->pad_id = -1;
    pthread_mutex_init(&tokenizer->lock, NULL);
    return tokenizer;
}

enum rmj_status rmj_tokenizer_open_bytes(struct rmj_tokenizer **tokenizer, struct rmj_span bytes, struct rmj_error *err)
{
    *tokenizer = NULL;
    struct rmj_tokenizer *opened = create(err);
    json_t *document = NULL;
    if (opened == NULL) {
        return RMJ_NO_MEMORY;
    }
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_tokenizer_json_parse(bytes, 0, "tokenizer.json", &document, err));
    RMJ_GO(read_document(opened, document, err));
    *tokenizer = opened;
    opened = NULL;
out:
    json_decref(document);
    rmj_tokenizer_close(opened);
    return status;
}

enum rmj_status rmj_tokenizer_open(struct rmj_tokenizer **tokenizer, const char *directory, struct rmj_error *err)
{
    *tokenizer = NULL;
    struct rmj_tokenizer *opened = create(err);
    if (opened == NULL) {
        return RMJ_NO_MEMORY;
    }
    enum rmj_status status = RMJ_OK;
    RMJ_GO(read_file(opened, directory, err));
    RMJ_GO(rmj_special_load(opened, directory, err));
    *tokenizer = opened;
    opened = NULL;
out:
    rmj_tokenizer_close(opened);
    return status;
}

void rmj_tokenizer_close(struct rmj_tokenizer *tokenizer)
{
    if (tokenizer == NULL) {
        return;
    }
    while (tokenizer->idle != NULL) {
        struct rmj_tokenizer_scratch *scratch = tokenizer->idle;
        tokenizer->idle = scratch->next;
        rmj_scratch_destroy(scratch);
    }
    for (size_t i = 0; i < tokenizer->normalizer_count; i++) {
        rmj_regex_deinit(&tokenizer->normalizers[i].pattern);
        free(tokenizer->normalizers[i].content);
        free(tokenizer->normalizers[i].charsmap.bytes);
    }
    for (size_t i = 0; i < tokenizer->pretokenizer_count; i++) {
        rmj_regex_deinit(&tokenizer->pretokenizers[i].pattern);
        free(tokenizer->pretokenizers[i].replacement);
    }
    for (size_t i = 0; i < tokenizer->decoder_count; i++) {
        rmj_regex_deinit(&tokenizer->decoders[i].pattern);
        free(tokenizer->decoders[i].content);
    }
    rmj_regex_deinit(&tokenizer->word_character);
    rmj_vocab_deinit(&tokenizer->vocab);
    rmj_added_deinit(&tokenizer->added);
    free(tokenizer->chat_template);
    pthread_mutex_destroy(&tokenizer->lock);
    free(tokenizer);
}

uint32_t rmj_tokenizer_size(const struct rmj_tokenizer *tokenizer)
{
    uint32_t added = tokenizer->added.id_end;
    return added > tokenizer->vocab.id_end ? added : tokenizer->vocab.id_end;
}

int32_t rmj_tokenizer_token_id(const struct rmj_tokenizer *tokenizer, const char *content)
{
    int32_t id = rmj_added_by_content(&tokenizer->added, content, strlen(content));
    return id >= 0 ? id : rmj_text_map_find(&tokenizer->vocab.map, content, strlen(content));
}

int32_t rmj_tokenizer_bos(const struct rmj_tokenizer *tokenizer)
{
    return tokenizer->bos_id;
}

int32_t rmj_tokenizer_eos(const struct rmj_tokenizer *tokenizer)
{
    return tokenizer->eos_id;
}

int32_t rmj_tokenizer_pad(const struct rmj_tokenizer *tokenizer)
{
    return tokenizer->pad_id;
}

const char *rmj_tokenizer_chat_template(const struct rmj_tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}
