// Reads the files that RewardBench 2's own scripts write: scores by row (eval-set-scores) and one number a subset
// (eval-set). Python writes NaN, Infinity and -Infinity bare, which JSON does not know: they are quoted first.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/statistics.h"
#include "proto/text/text_format.h"
#include "service/gate/gate_internal.h"

#define FILE_SIZE_MAX ((size_t)1 << 30)

static void quote_bare_numbers(const char *text, size_t size, struct rmj_buf *out)
{
    static const char *const words[] = {"NaN", "-Infinity", "Infinity"};
    int in_string = 0;
    size_t i = 0, copied = 0;
    while (i < size) {
        char c = text[i];
        if (in_string) {
            i += c == '\\' && i + 1 < size ? 2 : 1;
            in_string = c != '"';
            continue;
        }
        size_t word_length = 0;
        for (size_t w = 0; w < RMJ_COUNT(words) && word_length == 0; w++) {
            size_t length = strlen(words[w]);
            word_length = size - i >= length && memcmp(text + i, words[w], length) == 0 ? length : 0;
        }
        if (word_length > 0) {
            rmj_buf_append(out, text + copied, i - copied);
            rmj_buf_printf(out, "\"%.*s\"", (int)word_length, text + i);
            i += word_length;
            copied = i;
        } else {
            in_string = c == '"';
            i++;
        }
    }
    rmj_buf_append(out, text + copied, size - copied);
}

static int read_number(const json_t *value, double *number)
{
    // A score may be a list of one.
    if (json_is_array(value) && json_array_size(value) == 1) {
        value = json_array_get(value, 0);
    }
    if (json_is_number(value)) {
        *number = json_number_value(value);
        return 1;
    }
    const char *word = json_string_value(value);
    if (word != NULL && strcmp(word, "NaN") == 0) {
        *number = NAN;
    } else if (word != NULL && strcmp(word, "Infinity") == 0) {
        *number = INFINITY;
    } else if (word != NULL && strcmp(word, "-Infinity") == 0) {
        *number = -INFINITY;
    } else {
        return 0;
    }
    return 1;
}

struct columns {
    const char *file;
    const json_t *id, *subset, *num_correct, *scores, *results;
    size_t count;
};

static enum rmj_status find_columns(const json_t *root, struct columns *columns, struct rmj_error *err)
{
    columns->id = json_object_get(root, "id");
    columns->subset = json_object_get(root, "subset");
    columns->num_correct = json_object_get(root, "num_correct");
    columns->scores = json_object_get(root, "scores");
    columns->results = json_object_get(root, "results");
    columns->count = json_array_size(columns->subset);
    if (!json_is_array(columns->subset) || !json_is_array(columns->id) ||
        json_array_size(columns->id) != columns->count) {
        return rmj_fail(err, RMJ_DATA, "%s: 'id' and 'subset' must be lists of one length", columns->file);
    }
    const struct {
        const char *name;
        const json_t *list;
    } optional[] = {{"num_correct", columns->num_correct}, {"scores", columns->scores}, {"results", columns->results}};
    for (size_t i = 0; i < RMJ_COUNT(optional); i++) {
        if (optional[i].list != NULL && json_array_size(optional[i].list) != columns->count) {
            return rmj_fail(err, RMJ_DATA, "%s: '%s' has %zu entries and 'subset' %zu", columns->file, optional[i].name,
                            json_array_size(optional[i].list), columns->count);
        }
    }
    if (columns->scores == NULL && columns->results == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s: neither 'scores' nor 'results' is there", columns->file);
    }
    return RMJ_OK;
}

// Double scores of one row; scores in a ScoredRow are float32, so files are scored from here without it.
struct file_row {
    char id[64];
    const char *subset;
    size_t correct_count, count;
    double *scores;
    int has_result;
    double result;
};

static enum rmj_status read_row(const struct columns *columns, size_t index, struct file_row *row,
                                struct rmj_error *err)
{
    const json_t *id = json_array_get(columns->id, index);
    const char *subset = json_string_value(json_array_get(columns->subset, index));
    if (json_is_string(id)) {
        snprintf(row->id, sizeof row->id, "%s", json_string_value(id));
    } else if (json_is_integer(id)) {
        snprintf(row->id, sizeof row->id, "%lld", (long long)json_integer_value(id));
    } else {
        return rmj_fail(err, RMJ_DATA, "%s: entry %zu of 'id' is neither text nor a whole number", columns->file,
                        index);
    }
    if (subset == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s: prompt '%s': 'subset' is not text", columns->file, row->id);
    }
    row->subset = subset;
    row->correct_count = 1;
    const json_t *correct = json_array_get(columns->num_correct, index);
    if (correct != NULL) {
        if (!json_is_integer(correct) || json_integer_value(correct) < 0) {
            return rmj_fail(err, RMJ_DATA, "%s: prompt '%s': 'num_correct' is not a count", columns->file, row->id);
        }
        row->correct_count = (size_t)json_integer_value(correct);
    }
    const json_t *result = json_array_get(columns->results, index);
    row->has_result = result != NULL && read_number(result, &row->result);
    const json_t *scores = json_array_get(columns->scores, index);
    if (scores == NULL || json_is_null(scores)) {
        if (!row->has_result) {
            return rmj_fail(err, RMJ_DATA, "%s: prompt '%s' has neither scores nor a result", columns->file, row->id);
        }
        return RMJ_OK;
    }
    row->count = json_array_size(scores);
    if (row->count == 0) {
        return rmj_fail(err, RMJ_DATA, "%s: prompt '%s': 'scores' is not a list of numbers", columns->file, row->id);
    }
    row->scores = rmj_new_zeroed(sizeof *row->scores * row->count);
    for (size_t k = 0; k < row->count; k++) {
        if (!read_number(json_array_get(scores, k), &row->scores[k])) {
            return rmj_fail(err, RMJ_DATA, "%s: prompt '%s': score %zu is not a number", columns->file, row->id, k + 1);
        }
    }
    return RMJ_OK;
}

static enum rmj_status score_category(const struct rmj_category *category, const struct file_row *rows, size_t count,
                                      Rmjob__V1__EvalReport *report, const char *file, struct rmj_error *err)
{
    struct rmj_rb2_ties_row *ties = rmj_new_zeroed(sizeof *ties * (count + 1));
    size_t found = 0;
    double sum = 0;
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].subset, category->subset) != 0) {
            continue;
        }
        if (category->is_ties && rows[i].count == 0) {
            status = rmj_fail(err, RMJ_DATA, "%s: ties prompt '%s' has no scores", file, rows[i].id);
            goto out;
        }
        ties[found++] = (struct rmj_rb2_ties_row){rows[i].id, rows[i].correct_count, rows[i].count, rows[i].scores};
        sum += rows[i].count > 0 ? rmj_rb2_row_credit(rows[i].scores, rows[i].count) : rows[i].result;
    }
    if (found == 0) {
        goto out;
    }
    Rmjob__V1__CategoryResult *result = rmj_new_category(category, found);
    rmj_repeat((void ***)&report->categories, &report->n_categories, result);
    double score = sum / (double)found;
    if (category->is_ties) {
        RMJ_GO(rmj_rb2_ties(ties, found, &score, err));
        result->has_low = result->has_high = rmj_ties_interval(ties, found, &result->low, &result->high);
    } else if (!isnan(score)) {
        result->has_low = result->has_high = 1;
        rmj_wilson(score, (double)found, &result->low, &result->high);
    }
    result->has_score = !isnan(score);
    result->score = score;
out:
    free(ties);
    return status;
}

static enum rmj_status report_from_scores(const json_t *root, const char *file, Rmjob__V1__EvalReport *report,
                                          struct rmj_error *err)
{
    struct columns columns = {.file = file};
    RMJ_TRY(find_columns(root, &columns, err));
    struct file_row *rows = rmj_new_zeroed(sizeof *rows * (columns.count + 1));
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < columns.count; i++) {
        RMJ_GO(read_row(&columns, i, &rows[i], err));
    }
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        RMJ_GO(score_category(&rmj_categories[c], rows, columns.count, report, file, err));
    }
    if (report->n_categories == 0) {
        status =
            rmj_fail(err, RMJ_DATA,
                     "%s: none of the six subsets (Factuality, Precise IF, Math, Safety, Focus, Ties) is in it", file);
    }
out:
    for (size_t i = 0; i < columns.count; i++) {
        free(rows[i].scores);
    }
    free(rows);
    return status;
}

static enum rmj_status report_from_metrics(const json_t *root, const char *file, Rmjob__V1__EvalReport *report,
                                           struct rmj_error *err)
{
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        const json_t *value = json_object_get(root, rmj_categories[c].subset);
        if (value == NULL) {
            continue;
        }
        double score;
        if (!read_number(value, &score)) {
            return rmj_fail(err, RMJ_DATA, "%s: '%s' is not a number", file, rmj_categories[c].subset);
        }
        Rmjob__V1__CategoryResult *result = rmj_new_category(&rmj_categories[c], 0);
        result->has_score = !isnan(score);
        result->score = score;
        rmj_repeat((void ***)&report->categories, &report->n_categories, result);
    }
    if (report->n_categories == 0) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: neither a report of rmjob nor a score file of RewardBench 2 (no 'scores', no subset)",
                        file);
    }
    return RMJ_OK;
}

// Our own files: a JobReport or an EvalReport, as `rmjob report --output json` prints them.
static enum rmj_status report_from_ours(const ProtobufCMessageDescriptor *descriptor, const char *text, size_t size,
                                        const char *file, Rmjob__V1__EvalReport **out, struct rmj_error *err)
{
    struct rmj_text_result *result = rmj_text_result_create();
    ProtobufCMessage *message = NULL;
    enum rmj_status status = rmj_json_parse(descriptor, file, text, size, &message, result, err);
    rmj_text_result_destroy(result);
    if (status != RMJ_OK) {
        if (err != NULL && status == RMJ_INVALID) {
            err->status = RMJ_DATA;
        }
        return RMJ_DATA;
    }
    if (descriptor == &rmjob__v1__eval_report__descriptor) {
        *out = (Rmjob__V1__EvalReport *)message;
        return RMJ_OK;
    }
    Rmjob__V1__JobReport *report = (Rmjob__V1__JobReport *)message;
    *out = report->evaluation;
    report->evaluation = NULL;
    protobuf_c_message_free_unpacked(message, NULL);
    if (*out == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s: the report has no evaluation; the job has not come that far", file);
    }
    return RMJ_OK;
}

enum rmj_status rmj_report_from_rb2_file(const char *text, size_t size, const char *file, Rmjob__V1__EvalReport **out,
                                         struct rmj_error *err)
{
    struct rmj_buf quoted;
    rmj_buf_init(&quoted, FILE_SIZE_MAX);
    quote_bare_numbers(text, size, &quoted);
    json_error_t where;
    json_t *root =
        quoted.failed ? NULL : json_loadb(rmj_buf_text(&quoted), quoted.size, JSON_REJECT_DUPLICATES, &where);
    Rmjob__V1__EvalReport *report = rmj_new_zeroed(sizeof *report);
    rmjob__v1__eval_report__init(report);
    enum rmj_status status = rmj_buf_check(&quoted, err);
    if (status == RMJ_OK && root == NULL) {
        status = rmj_fail(err, RMJ_DATA, "%s:%d:%d: not JSON: %s", file, where.line, where.column, where.text);
    } else if (status == RMJ_OK && !json_is_object(root)) {
        status = rmj_fail(err, RMJ_DATA, "%s: the file must hold one JSON object", file);
    }
    if (status != RMJ_OK) {
        goto out;
    }
    if (json_object_get(root, "subset") != NULL) {
        RMJ_GO(report_from_scores(root, file, report, err));
    } else if (json_object_get(root, "evaluation") != NULL || json_object_get(root, "categories") != NULL) {
        rmjob__v1__eval_report__free_unpacked(report, NULL);
        report = NULL;
        const ProtobufCMessageDescriptor *descriptor = json_object_get(root, "evaluation") != NULL
                                                           ? &rmjob__v1__job_report__descriptor
                                                           : &rmjob__v1__eval_report__descriptor;
        RMJ_GO(report_from_ours(descriptor, text, size, file, &report, err));
    } else {
        RMJ_GO(report_from_metrics(root, file, report, err));
    }
    rmj_set_average(report);
    *out = report;
    report = NULL;
out:
    if (report != NULL) {
        rmjob__v1__eval_report__free_unpacked(report, NULL);
    }
    json_decref(root);
    rmj_buf_deinit(&quoted);
    return status;
}
