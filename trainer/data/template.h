// How a row becomes tokens, for training, evaluation and export alike: one chat template, one decision on the marks
// around a sequence, and one pad token.
//
//   conversations   the chat template's text, encoded as it stands: ids equal `apply_chat_template(..., tokenize=True)`
//   texts           what the tokenizer's post-processor puts around a text, then EOS when it is not there:
//                   ids equal TRL's `tokenizer(text)`, but BOS is never doubled
//   token ids       as they are
//
// The template is the spec's, else the model's own, else the default one. Whichever it is, its text with the date
// frozen in it (rmj_renderer_template) is what is compiled here, what is exported, and what evaluation compiles again.
#ifndef RMJ_TRAINER_DATA_TEMPLATE_H
#define RMJ_TRAINER_DATA_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "trainer/model/config.h"
#include "trainer/tokenizer/tokenizer.h"

struct rmj_jinja;

// Jinja text of the template of a model that has none: "\n\nHuman: " and "\n\nAssistant: " before the turns, a system
// message first and without a mark, BOS and EOS around all.
const char *rmj_default_chat_template(void);

enum rmj_template_origin {
    RMJ_TEMPLATE_DEFAULT, // the model has none
    RMJ_TEMPLATE_MODEL,   // of the directory that the tokenizer comes from
    RMJ_TEMPLATE_SPEC,    // data.chat_template
};
enum rmj_pad_origin {
    RMJ_PAD_OWN,   // the tokenizer's own pad token, which ends no sequence
    RMJ_PAD_SPARE, // a new token on a row of the embedding that no token uses
    RMJ_PAD_GROWN, // a new token on a new row
};

// What training, evaluation and export must agree on about one model. Immutable once made; any thread.
struct rmj_renderer {
    const struct rmj_tokenizer *tokenizer; // must outlive it
    char *bos_text, *eos_text;             // bos_text is "" for a model without BOS
    char *pad_text;                        // as the exported tokenizer has it
    int32_t bos, eos;                      // bos -1 for none
    int32_t pad;                           // the tokenizer's own, or the first id that it does not use
    int vocabulary_grows;                  // pad is a new row after the base model's vocabulary
    uint32_t vocabulary_size;              // of the base model
    uint8_t *special;                      // [vocabulary_size] 1 for special tokens
    char **special_texts;                  // [special_count] of them, sorted: what a message must not hold unseen
    size_t special_count;
    enum rmj_template_origin template_origin;
    enum rmj_pad_origin pad_origin;
    const char *pad_refused; // why the tokenizer's own pad token is not used; NULL when it is, or when it has none
    char *template_text;
    struct rmj_jinja *jinja;
    char date[11];      // "YYYY-MM-DD" that is frozen in the template, "" when it prints none
    json_t *variables;  // what the template sees beside the row: bos_token, eos_token, ...
    int tools_template; // the tokenizer has another template for rows with tools
};

struct rmj_renderer_options {
    const struct rmj_tokenizer *tokenizer;
    const struct rmj_model_config *config;
    const char *directory;     // the tokenizer's
    const char *template_text; // of data.chat_template; NULL: the model's own, or the default one when it has none
    const char *template_name; // what messages call it; NULL: chat_template.jinja
    const char *date;          // data.template_date, what strftime_now says; NULL: a template that asks is refused
    const char **field;        // may be NULL: where the field of the spec that is at fault goes
};

// Compiles the template and decides BOS, EOS and pad. RMJ_DATA: a template that does not compile or that prints the
// date of a day unknown, no EOS, a tokenizer that does not fit the model; each with the mend.
RMJ_MUST_USE enum rmj_status rmj_renderer_init(struct rmj_renderer *renderer,
                                               const struct rmj_renderer_options *options, struct rmj_error *err);
void rmj_renderer_deinit(struct rmj_renderer *renderer);
// The text to export.
const char *rmj_renderer_template(const struct rmj_renderer *renderer);
// For people: "the model's own chat template" and the like; "own pad token <pad>" and the like.
const char *rmj_template_origin_text(enum rmj_template_origin origin);
void rmj_renderer_describe_pad(const struct rmj_renderer *renderer, struct rmj_buf *out);

// What one encoding needs beside the renderer. One a thread.
struct rmj_render_memory {
    struct rmj_buf text; // what was encoded
};
void rmj_render_memory_init(struct rmj_render_memory *memory);
void rmj_render_memory_deinit(struct rmj_render_memory *memory);

// Each replaces `tokens` by the ids of one whole sequence and verifies them: no BOS but the first, never the pad token,
// every id in the vocabulary. *special_count: special tokens inside what the row itself holds. RMJ_DATA shows the
// tokens around the fault.
RMJ_MUST_USE enum rmj_status rmj_renderer_encode_text(const struct rmj_renderer *renderer, const char *text,
                                                      size_t size, struct rmj_render_memory *memory,
                                                      struct rmj_tokens *tokens, uint32_t *special_count,
                                                      struct rmj_error *err);
// messages: array. tools: array or NULL. kwargs: object or NULL, variables of the template that win over ours.
RMJ_MUST_USE enum rmj_status rmj_renderer_encode_messages(const struct rmj_renderer *renderer, json_t *messages,
                                                          json_t *tools, json_t *kwargs,
                                                          struct rmj_render_memory *memory, struct rmj_tokens *tokens,
                                                          uint32_t *special_count, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_renderer_encode_ids(const struct rmj_renderer *renderer, const int32_t *ids,
                                                     size_t count, struct rmj_tokens *tokens, uint32_t *special_count,
                                                     struct rmj_error *err);

// Appends tokens, each in brackets.
void rmj_renderer_show(const struct rmj_renderer *renderer, const int32_t *ids, size_t count, struct rmj_buf *out);

#endif
