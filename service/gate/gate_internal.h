// Shared by the files of this folder only.
#ifndef RMJ_SERVICE_GATE_GATE_INTERNAL_H
#define RMJ_SERVICE_GATE_GATE_INTERNAL_H

#include "service/gate/gate.h"

// Accuracy of guessing one of four.
#define RMJ_CHANCE 0.25

// 95 % percentile interval of the Ties score over resampled prompts (seeded). Returns 0 when it is undefined.
int rmj_ties_interval(const struct rmj_rb2_ties_row *rows, size_t count, double *low, double *high);
Rmjob__V1__ScoreDistribution *rmj_distribution(const float *scores, size_t count);
// A result without a score yet; rows 0: how many is not known (a file with one number a subset).
Rmjob__V1__CategoryResult *rmj_new_category(const struct rmj_category *category, size_t rows);
// Mean of the six categories, when all are defined.
void rmj_set_average(Rmjob__V1__EvalReport *report);
// Splits "tied:7" or "ref:7". Returns 0 when it is neither.
int rmj_ties_id(const char *id, int *is_ref, long *number);
void *rmj_new_zeroed(size_t size);
char *rmj_new_string(const char *text);
// Appends a pointer to a repeated message field.
void rmj_repeat(void ***items, size_t *count, void *item);
const double *rmj_threshold_of(const Rmjob__V1__CategoryThresholds *thresholds, size_t category);

#endif
