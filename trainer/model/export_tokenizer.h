// The tokenizer's part of an export. Private to trainer/model.
#ifndef RMJ_TRAINER_MODEL_EXPORT_TOKENIZER_H
#define RMJ_TRAINER_MODEL_EXPORT_TOKENIZER_H

#include "trainer/model/checkpoint_io.h"

// tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja into `directory`: the base
// model's own, with the pad token and the chat template of the options.
RMJ_MUST_USE enum rmj_status rmj_export_tokenizer(const struct rmj_export_options *options, const char *directory,
                                                  struct rmj_error *err);

#endif
