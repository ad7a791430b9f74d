// How a text or a conversation becomes tokens, for training, evaluation and export alike: one definition of the chat
// template, of the marks around a sequence, and of the pad token.
//
// A sequence is the tokens of BOS text EOS, encoded as one string, exactly as `apply_chat_template` does with the
// exported template. A conversation's text is its turns: "\n\nHuman: " or "\n\nAssistant: " and the content. A system
// message may only be the first and stands for itself, without a mark.
#ifndef RMJ_TRAINER_DATA_TEMPLATE_H
#define RMJ_TRAINER_DATA_TEMPLATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "trainer/model/config.h"
#include "trainer/tokenizer/tokenizer.h"

// Jinja text of the template that every exported model carries (rmj_export_options.chat_template).
const char *rmj_default_chat_template(void);

// Appends one turn. index: of the message in the conversation. RMJ_DATA for an unknown role or a late system message.
RMJ_MUST_USE enum rmj_status rmj_render_message(struct rmj_buf *out, size_t index, const char *role,
                                                const char *content, size_t content_size, struct rmj_error *err);

// What training and export must agree on about one model.
struct rmj_renderer {
    const struct rmj_tokenizer *tokenizer; // must outlive it
    char *bos_text, *eos_text;             // bos_text is "" for a model without BOS
    int32_t bos, eos;                      // bos -1 for none
    int32_t pad;                           // the tokenizer's own, or the first id that it does not use
    int vocabulary_grows;                  // pad is a new row after the base model's vocabulary
    uint32_t vocabulary_size;              // of the base model
    uint8_t *special;                      // [vocabulary_size] 1 for special tokens
};

// Decides BOS, EOS and pad. RMJ_DATA: no EOS, a chat template that is not the default one, a tokenizer that does not
// fit the model; each with the mend. directory: the model's.
RMJ_MUST_USE enum rmj_status rmj_renderer_init(struct rmj_renderer *renderer, const struct rmj_tokenizer *tokenizer,
                                               const char *directory, const struct rmj_model_config *config,
                                               struct rmj_error *err);
void rmj_renderer_deinit(struct rmj_renderer *renderer);

// Replaces `tokens` by BOS + text + EOS and verifies it: one BOS, EOS last (which pad
// never is), every id in the vocabulary.
// scratch: reused between calls. *special_count: special tokens inside the text. Threads: any, with their own scratch
// and tokens.
RMJ_MUST_USE enum rmj_status rmj_renderer_encode(const struct rmj_renderer *renderer, const char *text, size_t size,
                                                 struct rmj_buf *scratch, struct rmj_tokens *tokens,
                                                 uint32_t *special_count, struct rmj_error *err);

#endif
