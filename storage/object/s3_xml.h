// Just enough XML to read an S3 answer: elements by name, texts with entities. Bounded by the span given; anything it
// does not understand is passed over.
#ifndef RMJ_STORAGE_OBJECT_S3_XML_H
#define RMJ_STORAGE_OBJECT_S3_XML_H

#include <stddef.h>
#include <stdint.h>

struct xml_span {
    const char *at;
    size_t size;
};

// Finds the next element `name` in *rest: its content goes to *element, and *rest moves behind it. 0 when there is
// none.
int xml_next(struct xml_span *rest, const char *name, struct xml_span *element);
// Text of the first element `name`, entities resolved, NUL-terminated. 0 when it is absent or does not fit.
int xml_text(struct xml_span span, const char *name, char *out, size_t size);
// "2026-11-24T22:14:31.000Z" in milliseconds since 1970; 0 when it is none.
int64_t xml_time_ms(const char *text);

#endif
