// Small statistics that trainer and service both speak of.
#ifndef RMJ_BASE_STATISTICS_H
#define RMJ_BASE_STATISTICS_H

#ifdef __cplusplus
extern "C" {
#endif

// The 95 % interval of a share that was seen among `count` (Wilson 1927), within [0, 1].
void rmj_wilson(double mean, double count, double *low, double *high);

#ifdef __cplusplus
}
#endif
#endif
