// Time, passed in so that tests can be the clock.
#ifndef RMJ_BASE_CLOCK_H
#define RMJ_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Milliseconds of CLOCK_MONOTONIC, for deadlines and durations.
int64_t rmj_clock_mono_ms(void);
// Seconds of CLOCK_MONOTONIC with nanosecond grain, for measurements.
double rmj_clock_mono_seconds(void);
// Milliseconds since 1970, for people and records.
int64_t rmj_clock_unix_ms(void);
void rmj_clock_sleep_ms(int64_t ms);

#ifdef __cplusplus
}
#endif
#endif
