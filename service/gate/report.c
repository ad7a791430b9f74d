// From raw scores to the report.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/statistics.h"
#include "service/gate/gate_internal.h"

void *rmj_new_zeroed(size_t size)
{
    void *memory = calloc(1, size);
    RMJ_ASSERT(memory != NULL);
    return memory;
}

char *rmj_new_string(const char *text)
{
    char *copy = strdup(text);
    RMJ_ASSERT(copy != NULL);
    return copy;
}

void rmj_repeat(void ***items, size_t *count, void *item)
{
    void **grown = realloc(*items, sizeof *grown * (*count + 1));
    RMJ_ASSERT(grown != NULL);
    grown[(*count)++] = item;
    *items = grown;
}

static int by_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(const float *sorted, size_t count, double q)
{
    // Linear between order statistics (type 7 of Hyndman and Fan 1996).
    double position = q * (double)(count - 1);
    size_t below = (size_t)position;
    size_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (position - (double)below) * ((double)sorted[above] - (double)sorted[below]);
}

Rmjob__V1__ScoreDistribution *rmj_distribution(const float *scores, size_t count)
{
    Rmjob__V1__ScoreDistribution *distribution = rmj_new_zeroed(sizeof *distribution);
    rmjob__v1__score_distribution__init(distribution);
    distribution->has_count = 1;
    distribution->count = count;
    if (count == 0) {
        return distribution;
    }
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += scores[i];
    }
    double mean = sum / (double)count;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += (scores[i] - mean) * (scores[i] - mean);
    }
    float *sorted = rmj_new_zeroed(sizeof *sorted * count);
    memcpy(sorted, scores, sizeof *sorted * count);
    qsort(sorted, count, sizeof *sorted, by_float);
#define SET(field, value) (distribution->has_##field = 1, distribution->field = (value))
    SET(mean, mean);
    SET(std, count > 1 ? sqrt(squares / (double)(count - 1)) : 0);
    SET(min, sorted[0]);
    SET(p05, quantile(sorted, count, 0.05));
    SET(p50, quantile(sorted, count, 0.50));
    SET(p95, quantile(sorted, count, 0.95));
    SET(max, sorted[count - 1]);
#undef SET
    free(sorted);
    return distribution;
}

Rmjob__V1__CategoryResult *rmj_new_category(const struct rmj_category *category, size_t rows)
{
    Rmjob__V1__CategoryResult *result = rmj_new_zeroed(sizeof *result);
    rmjob__v1__category_result__init(result);
    result->category = rmj_new_string(category->key);
    result->has_rows = rows > 0;
    result->rows = (uint32_t)rows;
    return result;
}

static void set_interval(Rmjob__V1__CategoryResult *result, double low, double high)
{
    result->has_low = result->has_high = 1;
    result->low = low;
    result->high = high;
}

static double row_credit(const Rmjob__V1__ScoredRow *row)
{
    if (row->n_scores == 0) {
        return row->has_result ? row->result : 0;
    }
    double *scores = rmj_new_zeroed(sizeof *scores * row->n_scores);
    for (size_t i = 0; i < row->n_scores; i++) {
        scores[i] = row->scores[i];
    }
    double credit = rmj_rb2_row_credit(scores, row->n_scores);
    free(scores);
    return credit;
}

static Rmjob__V1__CategoryResult *accuracy_category(const struct rmj_category *category,
                                                    const Rmjob__V1__ScoredRows *rows)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 0; i < rows->n_rows; i++) {
        if (strcmp(rows->rows[i]->subset, category->subset) == 0) {
            sum += row_credit(rows->rows[i]);
            count++;
        }
    }
    if (count == 0) {
        return NULL;
    }
    Rmjob__V1__CategoryResult *result = rmj_new_category(category, count);
    result->has_score = 1;
    result->score = sum / (double)count;
    double low, high;
    rmj_wilson(result->score, (double)count, &low, &high);
    set_interval(result, low, high);
    return result;
}

static enum rmj_status ties_category(const struct rmj_category *category, const Rmjob__V1__ScoredRows *rows,
                                     Rmjob__V1__CategoryResult **out, struct rmj_error *err)
{
    struct rmj_rb2_ties_row *ties = rmj_new_zeroed(sizeof *ties * (rows->n_rows + 1));
    size_t count = 0;
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < rows->n_rows; i++) {
        const Rmjob__V1__ScoredRow *row = rows->rows[i];
        if (strcmp(row->subset, category->subset) != 0) {
            continue;
        }
        double *scores = rmj_new_zeroed(sizeof *scores * (row->n_scores + 1));
        for (size_t k = 0; k < row->n_scores; k++) {
            scores[k] = row->scores[k];
        }
        ties[count++] = (struct rmj_rb2_ties_row){row->id, row->num_correct, row->n_scores, scores};
    }
    *out = NULL;
    if (count > 0) {
        double score;
        RMJ_GO(rmj_rb2_ties(ties, count, &score, err));
        *out = rmj_new_category(category, count);
        if (!isnan(score)) {
            (*out)->has_score = 1;
            (*out)->score = score;
        }
        double low, high;
        if (rmj_ties_interval(ties, count, &low, &high)) {
            set_interval(*out, low, high);
        }
    }
out:
    for (size_t i = 0; i < count; i++) {
        free((double *)ties[i].scores);
    }
    free(ties);
    return status;
}

void rmj_set_average(Rmjob__V1__EvalReport *report)
{
    double sum = 0;
    size_t defined = 0;
    for (size_t i = 0; i < report->n_categories; i++) {
        defined += report->categories[i]->has_score != 0;
        sum += report->categories[i]->has_score ? report->categories[i]->score : 0;
    }
    if (defined == RMJ_CATEGORY_COUNT) {
        report->has_average = 1;
        report->average = sum / RMJ_CATEGORY_COUNT;
    }
}

static Rmjob__V1__HeldoutResult *heldout_result(const float *scores, size_t pair_count)
{
    Rmjob__V1__HeldoutResult *result = rmj_new_zeroed(sizeof *result);
    rmjob__v1__heldout_result__init(result);
    size_t right = 0;
    double margin = 0;
    for (size_t i = 0; i < pair_count; i++) {
        right += scores[2 * i] > scores[2 * i + 1];
        margin += (double)scores[2 * i] - (double)scores[2 * i + 1];
    }
    result->has_pairs = result->has_accuracy = result->has_low = result->has_high = result->has_mean_margin = 1;
    result->pairs = pair_count;
    result->accuracy = (double)right / (double)pair_count;
    rmj_wilson(result->accuracy, (double)pair_count, &result->low, &result->high);
    result->mean_margin = margin / (double)pair_count;
    return result;
}

enum rmj_status rmj_report_from_rows(const Rmjob__V1__ScoredRows *rows, Rmjob__V1__EvalReport **out,
                                     struct rmj_error *err)
{
    Rmjob__V1__EvalReport *report = rmj_new_zeroed(sizeof *report);
    rmjob__v1__eval_report__init(report);
    enum rmj_status status = RMJ_OK;
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        Rmjob__V1__CategoryResult *result = NULL;
        if (rmj_categories[c].is_ties) {
            RMJ_GO(ties_category(&rmj_categories[c], rows, &result, err));
        } else {
            result = accuracy_category(&rmj_categories[c], rows);
        }
        if (result != NULL) {
            rmj_repeat((void ***)&report->categories, &report->n_categories, result);
        }
    }
    rmj_set_average(report);
    if (rows->n_heldout >= 2) {
        report->heldout = heldout_result(rows->heldout, rows->n_heldout / 2);
        report->distribution = rmj_distribution(rows->heldout, rows->n_heldout);
    }
    *out = report;
    report = NULL;
out:
    if (report != NULL) {
        rmjob__v1__eval_report__free_unpacked(report, NULL);
    }
    return status;
}
