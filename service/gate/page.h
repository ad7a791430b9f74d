// The report as one page for a browser: a file without scripts and without anything from elsewhere.
#ifndef RMJ_SERVICE_GATE_PAGE_H
#define RMJ_SERVICE_GATE_PAGE_H

#include "base/buf.h"
#include "proto/rmjob/v1/report.pb-c.h"

// What is not known yet is left out. Everything from outside (names, rows, details) is escaped.
void rmj_report_page(const Rmjob__V1__JobReport *report, struct rmj_buf *out);

#endif
