#include "trainer/data/benchmark.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "trainer/data/lines.h"
#include "trainer/data/sources.h"

static const char *const subsets[RMJ_SUBSET_COUNT] = {"Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties"};
#define TIES 5

static void row_deinit(struct rmj_benchmark_row *row)
{
    for (uint32_t i = 0; i < row->completion_count; i++) {
        free(row->completions[i]);
    }
    free(row->completions);
    free(row->id);
    free(row->subset);
    free(row->prompt);
}

void rmj_benchmark_deinit(struct rmj_benchmark *benchmark)
{
    for (size_t i = 0; i < benchmark->count; i++) {
        row_deinit(&benchmark->rows[i]);
    }
    free(benchmark->rows);
    *benchmark = (struct rmj_benchmark){0};
}

static enum rmj_status take_text(const json_t *root, const char *column, char **text, struct rmj_error *err)
{
    const json_t *value = json_object_get(root, column);
    if (!json_is_string(value)) {
        return rmj_fail(err, RMJ_DATA, "column '%s' is %s; it must be text", column,
                        value == NULL ? "missing" : "of another type");
    }
    *text = strdup(json_string_value(value));
    RMJ_ASSERT(*text != NULL);
    return RMJ_OK;
}

static enum rmj_status take_completions(struct rmj_benchmark_row *row, const json_t *root, const char *column,
                                        struct rmj_error *err)
{
    const json_t *list = json_object_get(root, column);
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0) {
        return rmj_fail(err, RMJ_DATA, "column '%s' must be a list of texts, at least one", column);
    }
    if (count > RMJ_BENCHMARK_COMPLETIONS_MAX - row->completion_count) {
        return rmj_fail(err, RMJ_DATA, "more than %u completions", RMJ_BENCHMARK_COMPLETIONS_MAX);
    }
    row->completions = realloc(row->completions, (row->completion_count + count) * sizeof *row->completions);
    RMJ_ASSERT(row->completions != NULL);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL) {
            return rmj_fail(err, RMJ_DATA, "%s[%zu] is not text", column, i);
        }
        row->completions[row->completion_count++] = strdup(text);
    }
    return RMJ_OK;
}

static int is_ties_id(const char *id)
{
    const char *number = strncmp(id, "tied:", 5) == 0 ? id + 5 : strncmp(id, "ref:", 4) == 0 ? id + 4 : "";
    size_t digits = strspn(number, "0123456789");
    return digits > 0 && digits <= 9 && number[digits] == '\0';
}

static enum rmj_status check_row(struct rmj_benchmark *benchmark, const struct rmj_benchmark_row *row,
                                 const json_t *num_correct, uint32_t correct, struct rmj_error *err)
{
    int subset = 0;
    while (subset < RMJ_SUBSET_COUNT && strcmp(row->subset, subsets[subset]) != 0) {
        subset++;
    }
    if (subset == RMJ_SUBSET_COUNT) {
        const char *near = rmj_text_nearest(row->subset, subsets, RMJ_SUBSET_COUNT);
        return rmj_fail(err, RMJ_DATA, "subset '%.60s' is none of the six%s%s%s", row->subset,
                        near == NULL ? "" : "; did you mean '", near == NULL ? "" : near, near == NULL ? "" : "'?");
    }
    if (!json_is_integer(num_correct) || json_integer_value(num_correct) != (json_int_t)correct) {
        return rmj_fail(err, RMJ_DATA, "num_correct is not the number of chosen completions, %u", correct);
    }
    if (subset == TIES) {
        if (!is_ties_id(row->id)) {
            return rmj_fail(err, RMJ_DATA, "id '%.60s' of a Ties row is neither tied:N nor ref:N", row->id);
        }
        if (row->id[0] == 't' && correct < 2) {
            return rmj_fail(err, RMJ_DATA, "%s has one correct completion; a tied prompt needs two or more", row->id);
        }
    }
    benchmark->subset_rows[subset]++;
    return RMJ_OK;
}

static enum rmj_status read_row(struct rmj_benchmark *benchmark, const char *line, size_t size, int ended,
                                struct rmj_error *err)
{
    json_t *root = NULL;
    struct rmj_benchmark_row *row = &benchmark->rows[benchmark->count];
    *row = (struct rmj_benchmark_row){0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_row_json(&root, line, size, ended, err));
    RMJ_GO(take_text(root, "id", &row->id, err));
    RMJ_GO(take_text(root, "subset", &row->subset, err));
    RMJ_GO(take_text(root, "prompt", &row->prompt, err));
    RMJ_GO(take_completions(row, root, "chosen", err));
    row->correct_count = row->completion_count;
    RMJ_GO(take_completions(row, root, "rejected", err));
    RMJ_GO(check_row(benchmark, row, json_object_get(root, "num_correct"), row->correct_count, err));
    benchmark->count++;
out:
    if (status != RMJ_OK) {
        row_deinit(row);
    }
    json_decref(root);
    return status;
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(const struct rmj_benchmark_row *const *)a)->id, (*(const struct rmj_benchmark_row *const *)b)->id);
}

// Every Ties id once, and every tied:N with its ref:N.
static void check_ties(const struct rmj_benchmark *benchmark, const char *name, const char *field,
                       struct rmj_findings *findings)
{
    const struct rmj_benchmark_row **ties = malloc((benchmark->count + 1) * sizeof *ties);
    RMJ_ASSERT(ties != NULL);
    size_t count = 0;
    for (size_t i = 0; i < benchmark->count; i++) {
        if (strcmp(benchmark->rows[i].subset, subsets[TIES]) == 0) {
            ties[count++] = &benchmark->rows[i];
        }
    }
    qsort(ties, count, sizeof *ties, by_id);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(ties[i - 1]->id, ties[i]->id) == 0) {
            rmj_findings_error(findings, field, RMJ_EXIT_DATA, "%s: id %s occurs twice", name, ties[i]->id);
        }
        char other[32];
        int tied = ties[i]->id[0] == 't';
        snprintf(other, sizeof other, "%s:%s", tied ? "ref" : "tied", strchr(ties[i]->id, ':') + 1);
        const struct rmj_benchmark_row wanted = {.id = other}, *key = &wanted;
        if (bsearch(&key, ties, count, sizeof *ties, by_id) == NULL) {
            rmj_findings_error(findings, field, RMJ_EXIT_DATA, "%s: %s has no %s: Ties prompts come in pairs", name,
                               ties[i]->id, other);
        }
    }
    free(ties);
}

static void check_complete(const struct rmj_benchmark *benchmark, const char *name, const char *field,
                           struct rmj_findings *findings)
{
    for (int i = 0; i < RMJ_SUBSET_COUNT; i++) {
        if (benchmark->subset_rows[i] == 0) {
            rmj_findings_error(findings, field, RMJ_EXIT_DATA, "%s: no row of subset '%s': all six must be there", name,
                               subsets[i]);
        }
    }
    check_ties(benchmark, name, field, findings);
}

static enum rmj_status read_rows(struct rmj_benchmark *benchmark, struct rmj_lines *lines, const char *name,
                                 const char *field, struct rmj_findings *findings, struct rmj_error *err)
{
    size_t room = 0;
    for (;;) {
        const char *line;
        size_t size;
        int ended;
        RMJ_TRY(rmj_lines_next(lines, &line, &size, &ended, err));
        if (line == NULL) {
            break;
        }
        if (benchmark->count == RMJ_BENCHMARK_ROWS_MAX) {
            return rmj_fail(err, RMJ_DATA, "%s: more than %u rows", name, RMJ_BENCHMARK_ROWS_MAX);
        }
        if (benchmark->count == room) {
            room = room == 0 ? 64 : 2 * room;
            benchmark->rows = realloc(benchmark->rows, room * sizeof *benchmark->rows);
            RMJ_ASSERT(benchmark->rows != NULL);
        }
        struct rmj_error row_err = {0};
        if (read_row(benchmark, line, size, ended, &row_err) != RMJ_OK) {
            (void)rmj_context(&row_err, "%s:%llu", name, (unsigned long long)rmj_lines_row(lines));
            if (findings == NULL) {
                return rmj_fail(err, RMJ_DATA, "%s", row_err.message);
            }
            rmj_findings_error(findings, field, RMJ_EXIT_DATA, "%s", row_err.message);
        }
    }
    if (rmj_lines_row(lines) == 0) {
        return rmj_fail(err, RMJ_DATA, "%s: the file is empty", name);
    }
    rmj_lines_digest(lines, &benchmark->digest);
    return RMJ_OK;
}

enum rmj_status rmj_benchmark_read(struct rmj_benchmark *benchmark, const char *path, int complete, const char *field,
                                   struct rmj_findings *findings, struct rmj_error *err)
{
    *benchmark = (struct rmj_benchmark){0};
    struct rmj_sources sources = {0};
    struct rmj_lines *lines = NULL;
    size_t errors_before = findings == NULL ? 0 : findings->error_count;
    enum rmj_status status = RMJ_OK;
    if (!rmj_lines_name_check(path, err)) {
        return RMJ_INVALID;
    }
    RMJ_GO(rmj_sources_add(&sources, path, field == NULL ? "" : field, err));
    if (sources.count != 1) {
        status = rmj_fail(err, RMJ_INVALID, "%s matches %zu files; the benchmark is one", path, sources.count);
        goto out;
    }
    RMJ_GO(rmj_sources_fetch(&sources, 0, err));
    RMJ_GO(rmj_lines_open(&lines, sources.files[0].path, sources.files[0].name, err));
    RMJ_GO(read_rows(benchmark, lines, sources.files[0].name, field, findings, err));
    if (complete && findings != NULL && findings->error_count == errors_before) {
        check_complete(benchmark, sources.files[0].name, field, findings);
    }
out:
    rmj_lines_close(lines);
    rmj_sources_deinit(&sources);
    if (status != RMJ_OK) {
        rmj_benchmark_deinit(benchmark);
    }
    return status;
}
