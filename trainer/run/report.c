// What training finds wrong with the data, told with its source: what, where, likely, mend.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/run/trainer.h"

#define LINE_SIZE 512

void rmj_fail_not_finite(struct rmj_trainer *trainer, uint32_t step, uint32_t index)
{
    struct rmj_pack pack;
    char what[LINE_SIZE], where[LINE_SIZE];
    const char *first_path = "?", *last_path = "?";
    uint64_t first_row = 0, last_row = 0;
    rmj_plan_pack(trainer->plan, step, index, &pack);
    if (pack.item_count > 0) {
        rmj_plan_pair_source(trainer->plan, pack.items[0].id, &first_path, &first_row);
        rmj_plan_pair_source(trainer->plan, pack.items[pack.item_count - 1].id, &last_path, &last_row);
    }
    snprintf(what, sizeof what, "what   step %u: a score or gradient of pack %u is not a number or infinite", step,
             index);
    snprintf(where, sizeof where, "where  %u pairs of the pack, from %.150s row %llu to %.150s row %llu",
             pack.item_count, first_path, (unsigned long long)first_row, last_path, (unsigned long long)last_row);
    const char *lines[] = {
        what, where, "likely weights that overflow on these texts, or a learning rate that is too high",
        "mend   look at these rows; if they are sound, lower train.learning_rate and submit a new job"};
    char reason[LINE_SIZE];
    snprintf(reason, sizeof reason, "not a number in step %u, pack %u (%.200s row %llu and on)", step, index,
             first_path, (unsigned long long)first_row);
    rmj_link_fail_job(trainer->link, trainer->generation.number, RMJOB__V1__JOB_STATE__FAILED_DATA, reason, lines,
                      RMJ_COUNT(lines));
}

// A consumed pair at its place in the sources.
struct placed {
    const char *path;
    uint64_t row;
    float margin;
};

static int by_place(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order != 0 ? order : (x->row > y->row) - (x->row < y->row);
}

// The run of rows of one file whose negative margins weigh most (maximum subarray, Kadane).
static void worst_run(const struct placed *pairs, size_t count, size_t *first, size_t *end)
{
    double best = 0, sum = 0;
    size_t start = 0;
    *first = *end = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(pairs[i].path, pairs[i - 1].path) != 0) {
            sum = 0;
            start = i;
        }
        sum -= (double)pairs[i].margin;
        if (sum <= 0) {
            sum = 0;
            start = i + 1;
        } else if (sum > best) {
            best = sum;
            *first = start;
            *end = i + 1;
        }
    }
}

// The rows, as "FILE rows A-B: margin X over N pairs"; 0 when none stand out.
static int describe_run(struct rmj_trainer *trainer, char *rows, size_t size)
{
    size_t count = trainer->state->pairs_consumed, first, end;
    struct placed *pairs = calloc(count == 0 ? 1 : count, sizeof *pairs);
    if (pairs == NULL) {
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        rmj_plan_pair_source(trainer->plan, i, &pairs[i].path, &pairs[i].row);
        pairs[i].margin = isfinite(trainer->pair_margins[i]) ? trainer->pair_margins[i] : 0;
    }
    qsort(pairs, count, sizeof *pairs, by_place);
    worst_run(pairs, count, &first, &end);
    if (end > first) {
        double sum = 0;
        for (size_t i = first; i < end; i++) {
            sum += (double)pairs[i].margin;
        }
        snprintf(rows, size, "%.300s rows %llu-%llu: margin %.3f over %zu pairs", pairs[first].path,
                 (unsigned long long)pairs[first].row, (unsigned long long)pairs[end - 1].row,
                 sum / (double)(end - first), end - first);
    }
    free(pairs);
    return end > first;
}

static void tell(struct rmj_trainer *trainer, const char *reason, const char *const *lines, size_t count)
{
    rmj_link_fail_job(trainer->link, trainer->generation.number, RMJOB__V1__JOB_STATE__FAILED_DATA, reason, lines,
                      count);
}

static void fail_fall(struct rmj_trainer *trainer)
{
    const struct rmj_watch *watch = &trainer->state->watch;
    char what[LINE_SIZE], rows[LINE_SIZE], where[LINE_SIZE + 8], reason[2 * LINE_SIZE];
    uint32_t over = watch->steps - watch->rise_at;
    int found = describe_run(trainer, rows, sizeof rows);
    snprintf(what, sizeof what, "what   margin fell from %.3f to %.3f over %u steps", watch->from, watch->recent, over);
    snprintf(where, sizeof where, "where  %s", found ? rows : "no single range of rows stands out");
    snprintf(reason, sizeof reason, "margin fell from %.3f to %.3f by step %u: the data changed, not the training%s%s",
             watch->from, watch->recent, trainer->state->step, found ? "; " : "", found ? rows : "");
    const char *lines[] = {what, where, "likely chosen and rejected swapped, or labels without meaning, in that range",
                           "mend   fix the rows and submit a new job; train.margin_watch: false goes on regardless"};
    tell(trainer, reason, lines, RMJ_COUNT(lines));
}

static void describe_rows(const struct rmj_trainer *trainer, const struct rmj_scan_finding *finding, char *text,
                          size_t size)
{
    const char *first = rmj_plan_file_path(trainer->plan, finding->first.file);
    const char *last = rmj_plan_file_path(trainer->plan, finding->last.file);
    if (finding->first.file == finding->last.file) {
        snprintf(text, size, "%.200s rows %llu-%llu", first, (unsigned long long)finding->first.row,
                 (unsigned long long)finding->last.row);
    } else {
        snprintf(text, size, "%.100s row %llu to %.100s row %llu", first, (unsigned long long)finding->first.row, last,
                 (unsigned long long)finding->last.row);
    }
}

// From this share of the rows on, it may be the others that are wrong.
#define NEARLY_HALF 0.35

// The where line of a run that disagrees; its likely line.
static const char *describe_disagreement(const struct rmj_trainer *trainer, const struct rmj_scan_finding *finding,
                                         char *text, size_t size)
{
    char rows[LINE_SIZE - 100];
    describe_rows(trainer, finding, rows, sizeof rows);
    if (finding->pairs == 0) {
        snprintf(text, size, "where  %s", rows);
    } else {
        snprintf(text, size, "where  %s: margin %.3f over %llu pairs; other rows %.3f", rows, finding->margin,
                 (unsigned long long)finding->pairs, finding->other_margin);
    }
    return finding->share < NEARLY_HALF
               ? "likely chosen and rejected swapped in that range; not the learning rate"
               : "likely chosen and rejected swapped in that range, or, as it is nearly half, in all others";
}

static void fail_disagreement(struct rmj_trainer *trainer)
{
    struct rmj_scan_finding finding;
    struct rmj_error err = {0};
    uint32_t step = trainer->state->step;
    char what[LINE_SIZE], where[LINE_SIZE], reason[2 * LINE_SIZE];
    if (rmj_scan_pinpoint(trainer->scan, trainer->state->alarm_run, step, trainer->pair_margins, &finding, &err) !=
        RMJ_OK) {
        tell(trainer, "rows disagree with the rest of the data", (const char *[]){err.message}, 1);
        return;
    }
    const char *likely = describe_disagreement(trainer, &finding, where, sizeof where);
    snprintf(what, sizeof what, "what   by step %u, %.0f %% of the rows score the other way round than the rest", step,
             100 * finding.share);
    snprintf(reason, sizeof reason, "%s: the data, not the training", where + strlen("where  "));
    const char *lines[] = {what, where, likely,
                           "mend   fix the rows and submit a new job; train.margin_watch: false goes on regardless"};
    tell(trainer, reason, lines, RMJ_COUNT(lines));
}

static void fail_no_signal(struct rmj_trainer *trainer)
{
    const struct rmj_signal *signal = &trainer->state->signal;
    struct rmj_scan_finding finding;
    char what[LINE_SIZE], where[LINE_SIZE] = "where  all files; no range of rows stands out", reason[2 * LINE_SIZE];
    const char *likely =
        "likely labels shuffled, or answers joined to other prompts; else a model or learning rate too small";
    double percent = 50.0 * (double)signal->right_twice / (double)signal->pairs;
    int64_t run = rmj_scan_suspect(trainer->scan, rmj_state_scan(trainer->state));
    snprintf(what, sizeof what, "what   %.1f %% of the last %llu pairs were right before they were learnt: chance",
             percent, (unsigned long long)signal->pairs);
    int named = run >= 0 && rmj_scan_pinpoint(trainer->scan, (uint32_t)run, trainer->state->step, trainer->pair_margins,
                                              &finding, NULL) == RMJ_OK;
    if (named) {
        likely = describe_disagreement(trainer, &finding, where, sizeof where);
    }
    snprintf(reason, sizeof reason, "the labels carry no signal: %.1f %% of the last %llu pairs were right%s%s",
             percent, (unsigned long long)signal->pairs, named ? "; " : "", named ? where + strlen("where  ") : "");
    const char *lines[] = {what, where, likely,
                           "mend   look at some rows by eye, fix the labels, submit a new job; train.margin_watch: "
                           "false goes on regardless"};
    tell(trainer, reason, lines, RMJ_COUNT(lines));
}

void rmj_heed_watch(struct rmj_trainer *trainer)
{
    const struct rmj_state *state = trainer->state;
    int absent = state->step == trainer->info->step_count && rmj_signal_is_absent(&state->signal);
    if (!trainer->settings.margin_watch || (state->alarm == RMJ_ALARM_NONE && !absent)) {
        return;
    }
    trainer->generation.failed = 1;
    if (trainer->generation.rank != 0) {
        return;
    }
    if (state->alarm == RMJ_ALARM_FALL) {
        fail_fall(trainer);
    } else if (state->alarm == RMJ_ALARM_DISAGREEMENT) {
        fail_disagreement(trainer);
    } else {
        fail_no_signal(trainer);
    }
}
