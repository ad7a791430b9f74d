// The report of a comparison: by default the worst of each group and all that is over; everything as JSON.
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/run/verify_internal.h"

#define WORST_SHOWN 5

static const struct {
    const char *title, *key;
    size_t shown; // rows when not all are asked for
} groups[RMJ_VERIFY_GROUP_COUNT] = {
    [RMJ_VERIFY_SCORES] = {"scores", "scores", 3},
    [RMJ_VERIFY_LOSS] = {"loss", "loss", 3},
    [RMJ_VERIFY_NORM] = {"gradient norm", "gradient_norm", 3},
    [RMJ_VERIFY_GRADIENT] = {"gradients", "gradient", WORST_SHOWN},
    [RMJ_VERIFY_PARAMETER] = {"parameters after the steps", "parameter", WORST_SHOWN},
};

// Not-a-number is over every limit.
static int is_over(const struct rmj_verify_row *row)
{
    return row->judged && !(row->distance <= row->limit);
}

size_t rmj_verify_over_count(const struct rmj_verify_result *result)
{
    size_t count = 0;
    for (size_t i = 0; i < result->row_count; i++) {
        count += (size_t)is_over(&result->rows[i]);
    }
    return count;
}

static size_t judged_count(const struct rmj_verify_result *result)
{
    size_t count = 0;
    for (size_t i = 0; i < result->row_count; i++) {
        count += (size_t)result->rows[i].judged;
    }
    return count;
}

// Most of its limit first; equal ones by name.
static int compare_rows(const void *a, const void *b)
{
    const struct rmj_verify_row *x = *(const struct rmj_verify_row *const *)a;
    const struct rmj_verify_row *y = *(const struct rmj_verify_row *const *)b;
    double share_x = x->distance / x->limit, share_y = y->distance / y->limit;
    return share_x != share_y ? (share_x > share_y ? -1 : 1) : strcmp(x->name, y->name);
}

static void print_row(const struct rmj_verify_row *row, int colour, FILE *out)
{
    int over = is_over(row);
    fprintf(out, "  %s%-9.2e %-9.1e %-4s%s %s%s%s%s%s\n", over && colour ? "\033[31m" : "", row->distance, row->limit,
            over ? "OVER" : "", over && colour ? "\033[0m" : "", row->name, row->judged ? "" : " (not judged)",
            row->remark[0] != '\0' ? " (" : "", row->remark, row->remark[0] != '\0' ? ")" : "");
}

static void print_group(const struct rmj_verify_options *options, const struct rmj_verify_result *result,
                        const struct rmj_verify_row **sorted, enum rmj_verify_group group, FILE *out)
{
    size_t count = 0, shown = 0;
    for (size_t i = 0; i < result->row_count; i++) {
        if (result->rows[i].group == group) {
            sorted[count++] = &result->rows[i];
        }
    }
    if (count == 0) {
        return;
    }
    qsort(sorted, count, sizeof *sorted, compare_rows);
    for (size_t i = 0; i < count; i++) {
        shown += options->all || i < groups[group].shown || is_over(sorted[i]);
    }
    fprintf(out, "%s (%zu%s)\n", groups[group].title, count, shown < count ? ", the worst" : "");
    for (size_t i = 0; i < count; i++) {
        if (options->all || i < groups[group].shown || is_over(sorted[i])) {
            print_row(sorted[i], options->colour, out);
        }
    }
}

static void print_head(const struct rmj_verify_options *options, const struct rmj_verify_result *r, FILE *out)
{
    fprintf(out, "%s: %s, %u tensors, %llu parameters\n", options->directory, r->architecture, r->tensor_count,
            (unsigned long long)r->parameter_count);
    fprintf(out, "%u pairs of %llu tokens in %u packs of %u rows, %u with a shared prefix; %u steps\n\n", r->pair_count,
            (unsigned long long)r->token_count, r->pack_count, r->row_count_of_pack, r->shared_prefix_count,
            r->step_count);
    fprintf(out, "  %-9s %-9s\n", "distance", "at most");
}

static void print_verdict(const struct rmj_verify_options *options, const struct rmj_verify_result *r, FILE *out)
{
    size_t over = rmj_verify_over_count(r);
    for (size_t i = 0; i < r->note_count; i++) {
        fprintf(out, "note: %s\n", r->notes[i]);
    }
    if (r->note_total > r->note_count) {
        fprintf(out, "note: and %zu more\n", r->note_total - r->note_count);
    }
    for (size_t i = 0; i < r->problem_count; i++) {
        fprintf(out, "cannot be compared: %s\n", r->problems[i]);
    }
    if (over == 0 && r->problem_count == 0) {
        fprintf(out, "%sequal%s: %zu comparisons within tolerance %g\n", options->colour ? "\033[32m" : "",
                options->colour ? "\033[0m" : "", judged_count(r), options->tolerance);
        return;
    }
    fprintf(out, "%snot equal%s: %zu of %zu comparisons over tolerance %g, %zu tensors cannot be compared\n",
            options->colour ? "\033[31m" : "", options->colour ? "\033[0m" : "", over, judged_count(r),
            options->tolerance, r->problem_count);
}

// JSON has no infinity and no not-a-number; both are null there.
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *texts(char (*list)[RMJ_VERIFY_TEXT_SIZE], size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_string(list[i]));
    }
    return array;
}

static void print_json(const struct rmj_verify_options *options, const struct rmj_verify_result *r, FILE *out)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < r->row_count; i++) {
        const struct rmj_verify_row *row = &r->rows[i];
        json_t *remark = row->remark[0] != '\0' ? json_string(row->remark) : NULL;
        json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:o, s:b, s:b, s:o*}", "name", row->name, "group",
                                              groups[row->group].key, "distance", number(row->distance), "limit",
                                              number(row->limit), "judged", row->judged, "over", is_over(row), "remark",
                                              remark));
    }
    size_t over = rmj_verify_over_count(r);
    json_t *root = json_pack("{s:o*, s:s, s:i, s:i, s:I, s:i, s:i, s:f, s:b, s:I, s:o, s:o, s:o}", "model",
                             json_string(options->directory), "architecture", r->architecture, "tensors",
                             (int)r->tensor_count, "pairs", (int)r->pair_count, "tokens", (json_int_t)r->token_count,
                             "packs", (int)r->pack_count, "steps", (int)r->step_count, "tolerance", options->tolerance,
                             "equal", over == 0 && r->problem_count == 0, "over", (json_int_t)over, "comparisons", rows,
                             "problems", texts(r->problems, r->problem_count), "notes", texts(r->notes, r->note_count));
    json_dumpf(root, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(root);
}

void rmj_verify_print(const struct rmj_verify_options *options, const struct rmj_verify_result *result, FILE *out)
{
    if (options->json) {
        print_json(options, result, out);
        return;
    }
    const struct rmj_verify_row **sorted = calloc(result->row_count + 1, sizeof *sorted);
    RMJ_ASSERT(sorted != NULL);
    print_head(options, result, out);
    for (int group = 0; group < RMJ_VERIFY_GROUP_COUNT; group++) {
        print_group(options, result, sorted, (enum rmj_verify_group)group, out);
    }
    free(sorted);
    print_verdict(options, result, out);
}
