// The tokenizer and the renderer that a spec asks for: the base model's own, or those that data.tokenizer,
// data.chat_template and data.template_date name. Prepare, the export and `data show` open the same.
#ifndef RMJ_TRAINER_DATA_RENDERING_H
#define RMJ_TRAINER_DATA_RENDERING_H

#include "base/buf.h"
#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/template.h"
#include "trainer/model/config.h"
#include "trainer/tokenizer/tokenizer.h"

struct rmj_rendering {
    const char *directory; // where the tokenizer comes from; the spec's text
    struct rmj_tokenizer *tokenizer;
    struct rmj_renderer renderer;
    struct rmj_buf text; // of data.chat_template
};

// config: of the base model. *field (may be NULL): the field of the spec that is at fault. Errors: RMJ_NOT_FOUND,
// RMJ_DATA, RMJ_INVALID and those of reading.
RMJ_MUST_USE enum rmj_status rmj_rendering_open(struct rmj_rendering *rendering, const Rmjob__V1__JobSpec *spec,
                                                const struct rmj_model_config *config, const char **field,
                                                struct rmj_error *err);
void rmj_rendering_close(struct rmj_rendering *rendering);

#endif
