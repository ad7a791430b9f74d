// Text that a builtin puts together in the rendering's memory.
#ifndef RMJ_TRAINER_JINJA_WRITER_H
#define RMJ_TRAINER_JINJA_WRITER_H

#include "trainer/jinja/value.h"

struct jinja_writer {
    struct jinja_state *state;
    char *bytes;
    size_t size, capacity;
};

void jinja_put(struct jinja_writer *writer, const char *bytes, size_t size);
void jinja_puts(struct jinja_writer *writer, const char *text);
struct jinja_value jinja_written(struct jinja_writer *writer);

// Stable; pairs are sorted by their first part. Fails where two keys have no order.
void jinja_sort(struct jinja_state *state, struct jinja_value *pairs, size_t count, int is_descending);
// json.dumps, with the arguments of the field's tojson filter.
struct jinja_value jinja_to_json(struct jinja_state *state, struct jinja_call *call);
// "%s" % values, and "{}".format(values).
struct jinja_value jinja_percent(struct jinja_state *state, const struct jinja_string *format,
                                 struct jinja_value values);
struct jinja_value jinja_format(struct jinja_state *state, struct jinja_call *call);
// &amp; &lt; &gt; &#39; &#34; in a text that is then marked as escaped.
struct jinja_value jinja_escape(struct jinja_state *state, struct jinja_value value);

#endif
