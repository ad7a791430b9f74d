// Chat templates: the part of Jinja that they use, as the field's engine (Jinja 2 with trim_blocks, lstrip_blocks and
// loop controls, inside transformers' sandbox) renders it. A template is compiled once and rendered from any thread.
#ifndef RMJ_TRAINER_JINJA_JINJA_H
#define RMJ_TRAINER_JINJA_JINJA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

// Bounds of one template and of one rendering: a template is outside input.
#define RMJ_JINJA_SOURCE_SIZE_MAX ((size_t)1 << 20)
#define RMJ_JINJA_OUTPUT_SIZE_MAX ((size_t)64 << 20)

struct rmj_jinja;

// Compiles `source`. name: what messages call it ("chat_template.jinja"). RMJ_DATA with "name:line: ..." for syntax
// that is wrong, and for syntax, filters, tests or functions that are not supported, each by its name: a template is
// refused here, never half rendered later.
RMJ_MUST_USE enum rmj_status rmj_jinja_compile(struct rmj_jinja **jinja, const char *name, const char *source,
                                               size_t size, struct rmj_error *err);
void rmj_jinja_free(struct rmj_jinja *jinja);

// 1 when the template calls strftime_now anywhere: what it prints depends on the day.
int rmj_jinja_uses_date(const struct rmj_jinja *jinja);
// 1 when a free variable of this name is read anywhere ("tools", "date_string", "documents", ...).
int rmj_jinja_reads(const struct rmj_jinja *jinja, const char *variable);

// Byte range of the text that this rendering appended, which stood between {% generation %} and {% endgeneration %}.
struct rmj_jinja_span {
    size_t begin, end;
};

struct rmj_jinja_input {
    const json_t *variables; // object: messages, tools, bos_token, eos_token, add_generation_prompt, ...
    int year, month, day;    // what strftime_now formats; 0: strftime_now fails, saying that a date must be given
    uint64_t step_count_max; // evaluation steps after which a rendering is given up; 0: a default of 10 million
};
// Appends the text to `out`. spans (may be NULL): generation blocks, free() it. RMJ_DATA: raise_exception("why") gives
// exactly "why" in the message, an undefined value that is used, a type error; each with "name:line:". Threads: any.
RMJ_MUST_USE enum rmj_status rmj_jinja_render(const struct rmj_jinja *jinja, const struct rmj_jinja_input *input,
                                              struct rmj_buf *out, struct rmj_jinja_span **spans, size_t *span_count,
                                              struct rmj_error *err);

#endif
