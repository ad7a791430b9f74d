// Shared by page*.c only: text and pictures of the page.
#ifndef RMJ_SERVICE_GATE_PAGE_INTERNAL_H
#define RMJ_SERVICE_GATE_PAGE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "proto/rmjob/v1/report.pb-c.h"

// Colours of lines that the style sheet knows; sources after them are in the table only.
#define RMJ_PAGE_LINES_MAX 8u

// page_text.c. Text from outside goes through rmj_page_text, always: it escapes what HTML gives a meaning to, and shows
// what is no text (control and direction characters, broken UTF-8) as U+FFFD.
void rmj_page_text(struct rmj_buf *out, const char *text);
// "12,345"
void rmj_page_count(struct rmj_buf *out, uint64_t count);
// "12.3 %"; a number that is none as a dash.
void rmj_page_percent(struct rmj_buf *out, double share);
// A cell of a table with a count, a share, or a text.
void rmj_page_count_cell(struct rmj_buf *out, uint64_t count);
void rmj_page_percent_cell(struct rmj_buf *out, int has, double share);
void rmj_page_text_cell(struct rmj_buf *out, const char *text);

// page_charts.c: inline SVG. label: what a picture shows, for those who cannot see it; not escaped yet.
struct rmj_page_part {
    const char *name, *style; // style: a class of the style sheet
    uint64_t count;
};
// One bar, cut into parts, and a legend with counts.
void rmj_page_parts(struct rmj_buf *out, const char *label, const struct rmj_page_part *parts, size_t count);
// Sides by length, chosen beside rejected.
void rmj_page_lengths(struct rmj_buf *out, const char *label, Rmjob__V1__DataLengthBucket *const *buckets,
                      size_t count);
// A share between 0 and 1 with a mark at one half.
void rmj_page_share(struct rmj_buf *out, const char *label, double share);
// The training stream, a line a source with its band: accuracy, or margin.
void rmj_page_stream(struct rmj_buf *out, const Rmjob__V1__TrainingReport *training, int margin);

#endif
