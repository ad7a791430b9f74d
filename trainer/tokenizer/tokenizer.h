// tokenizer.json: text to token ids, equal to the public implementation.
#ifndef RMJ_TRAINER_TOKENIZER_TOKENIZER_H
#define RMJ_TRAINER_TOKENIZER_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct rmj_tokenizer;

// Reads directory/tokenizer.json (and the files beside it for bos, eos, pad and the chat template). RMJ_DATA names the
// file, the part of it and the mend; a part of the format that is not supported is refused by name. What the file says
// of truncation and padding is not applied.
RMJ_MUST_USE enum rmj_status rmj_tokenizer_open(struct rmj_tokenizer **tokenizer, const char *directory,
                                                struct rmj_error *err);
void rmj_tokenizer_close(struct rmj_tokenizer *tokenizer);

// Growable ids, reused between calls.
struct rmj_tokens {
    int32_t *ids;
    size_t count;
    size_t capacity;
};
void rmj_tokens_deinit(struct rmj_tokens *tokens);

// Appends the ids of `text` (UTF-8), special tokens in the text recognised, none added. Threads: any, each with its own
// `tokens`. RMJ_DATA for text that is not UTF-8 (with the byte where it stops being it) or over 64 MiB; `tokens` is
// then as before.
RMJ_MUST_USE enum rmj_status rmj_tokenizer_encode(const struct rmj_tokenizer *tokenizer, const char *text, size_t size,
                                                  struct rmj_tokens *tokens, struct rmj_error *err);
// Text of ids as the public decoder gives it, special tokens kept, ids that are no token left out; free() it. A NUL in
// the text ends it. NULL when memory runs out.
char *rmj_tokenizer_decode(const struct rmj_tokenizer *tokenizer, const int32_t *ids, size_t count);
uint32_t rmj_tokenizer_size(const struct rmj_tokenizer *tokenizer);                         // largest id + 1
int32_t rmj_tokenizer_token_id(const struct rmj_tokenizer *tokenizer, const char *content); // -1 when absent
// What the file's post-processor puts around one text: marks.before, the ids of rmj_tokenizer_encode and marks.after
// are what `tokenizer(text)` of transformers gives. As there (seen in 5.23), add_bos_token and add_eos_token of
// tokenizer_config.json do not count beside a tokenizer.json: its post-processor alone decides, and none adds nothing.
// The ids belong to the tokenizer.
struct rmj_tokenizer_marks {
    const int32_t *before;
    size_t before_count;
    const int32_t *after;
    size_t after_count;
};
void rmj_tokenizer_marks(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_marks *marks);
// From tokenizer_config.json / special_tokens_map.json / config.json, -1 when absent.
int32_t rmj_tokenizer_bos(const struct rmj_tokenizer *tokenizer);
int32_t rmj_tokenizer_eos(const struct rmj_tokenizer *tokenizer);
int32_t rmj_tokenizer_pad(const struct rmj_tokenizer *tokenizer);
// The model's own chat template (chat_template.jinja, else of tokenizer_config.json), NULL when it has none.
const char *rmj_tokenizer_chat_template(const struct rmj_tokenizer *tokenizer);

#endif
