// Operator's log: one line an event, key=value, to standard error. Logged once, where the event is handled.
//
//   rmj_log(RMJ_LOG_INFO, "rank", "event=joined job=%s generation=%u rank=%u", job, generation, rank);
//
// Levels by how often a line can occur: error and warn rarely, info once a process or job, debug once a step or
// request. RMJOB_LOG=debug, or RMJOB_LOG=info,comm=debug for one part. Values with spaces go in double quotes: use
// rmj_log_quote.
#ifndef RMJ_BASE_LOG_H
#define RMJ_BASE_LOG_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rmj_log_level { RMJ_LOG_ERROR, RMJ_LOG_WARN, RMJ_LOG_INFO, RMJ_LOG_DEBUG };

// Threads: any. One write(2) a line, so lines of several processes do not mix.
void rmj_log(enum rmj_log_level level, const char *part, const char *format, ...) __attribute__((format(printf, 3, 4)));
int rmj_log_enabled(enum rmj_log_level level, const char *part);
// Escapes text for a quoted value: control characters, quotes and backslashes. Cuts to size. Returns out.
const char *rmj_log_quote(char *out, size_t size, const char *text);

#ifdef __cplusplus
}
#endif
#endif
