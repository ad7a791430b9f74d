// Parts of a renderer. Private to template*.c.
#ifndef RMJ_TRAINER_DATA_TEMPLATE_INTERNAL_H
#define RMJ_TRAINER_DATA_TEMPLATE_INTERNAL_H

#include "trainer/data/template.h"

// Bos, eos, the special tokens, the variables a template sees, and the pad token. Needs template_text.
RMJ_MUST_USE enum rmj_status rmj_renderer_read_tokens(struct rmj_renderer *renderer,
                                                      const struct rmj_renderer_options *options,
                                                      struct rmj_error *err);

// Whether `date` is a day, as YYYY-MM-DD.
int rmj_template_date_valid(const char *date);
// The day frozen at the head of a template by rmj_template_freeze: 1 and its text, or 0.
int rmj_template_frozen_date(const char *text, char date[11]);
// The template with strftime_now defined as a macro at its head, so that it says that day wherever it is rendered. What
// an earlier freeze put there is replaced.
RMJ_MUST_USE enum rmj_status rmj_template_freeze(const char *text, const char *date, char **frozen,
                                                 struct rmj_error *err);
// Line of the first call of strftime_now, from 1; 0 when there is none.
size_t rmj_template_date_line(const char *text);

#endif
