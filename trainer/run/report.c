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

// A finding as it is told: what, where, likely, mend, and one line of all.
struct words {
    char what[LINE_SIZE], where[LINE_SIZE + 8], reason[2 * LINE_SIZE];
    const char *likely, *mend;
};

static const char mend_rows[] = "mend   fix the rows and submit a new job; train.margin_watch: warn goes on regardless";

static void describe_fall(struct rmj_trainer *trainer, struct words *words)
{
    const struct rmj_watch *watch = &rmj_state_monitor(trainer->state)->watch;
    char rows[LINE_SIZE];
    uint32_t over = watch->steps - watch->rise_at;
    int found = describe_run(trainer, rows, sizeof rows);
    snprintf(words->what, sizeof words->what, "what   margin fell from %.3f to %.3f over %u steps", watch->from,
             watch->recent, over);
    snprintf(words->where, sizeof words->where, "where  %s", found ? rows : "no single range of rows stands out");
    snprintf(words->reason, sizeof words->reason,
             "margin fell from %.3f to %.3f by step %u: the data changed, not the training%s%s", watch->from,
             watch->recent, trainer->state->step, found ? "; " : "", found ? rows : "");
    words->likely = "likely chosen and rejected swapped, or labels without meaning, in that range";
    words->mend = mend_rows;
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

static void describe_alarm_run(struct rmj_trainer *trainer, struct words *words)
{
    struct rmj_scan_finding finding;
    uint32_t step = trainer->state->step;
    words->mend = mend_rows;
    words->likely = "likely chosen and rejected swapped in a range of rows";
    if (rmj_scan_pinpoint(trainer->monitor.scan, rmj_state_monitor(trainer->state)->alarm_run, step,
                          trainer->pair_margins, &finding, NULL) != RMJ_OK) {
        snprintf(words->what, sizeof words->what, "what   by step %u, rows score the other way round than the rest",
                 step);
        snprintf(words->where, sizeof words->where, "where  not known: no memory to look at the pairs");
        snprintf(words->reason, sizeof words->reason, "rows disagree with the rest of the data");
        return;
    }
    words->likely = describe_disagreement(trainer, &finding, words->where, sizeof words->where);
    snprintf(words->what, sizeof words->what,
             "what   by step %u, %.0f %% of the rows score the other way round than the rest", step,
             100 * finding.share);
    snprintf(words->reason, sizeof words->reason, "%s: the data, not the training", words->where + strlen("where  "));
}

static void describe_no_signal(struct rmj_trainer *trainer, struct words *words)
{
    struct rmj_monitor_state *state = rmj_state_monitor(trainer->state);
    const struct rmj_signal *signal = &state->signal;
    struct rmj_scan_finding finding;
    double percent = 50.0 * (double)signal->right_twice / (double)signal->pairs;
    int64_t run = rmj_scan_suspect(trainer->monitor.scan, rmj_monitor_scan_state(state));
    snprintf(words->what, sizeof words->what,
             "what   %.1f %% of the last %llu pairs were right before they were learnt: chance", percent,
             (unsigned long long)signal->pairs);
    snprintf(words->where, sizeof words->where, "where  all files; no range of rows stands out");
    words->likely =
        "likely labels shuffled, or answers joined to other prompts; else a model or learning rate too small";
    words->mend = "mend   look at some rows by eye, fix the labels, submit a new job; train.margin_watch: warn goes "
                  "on regardless";
    int named = run >= 0 && rmj_scan_pinpoint(trainer->monitor.scan, (uint32_t)run, trainer->state->step,
                                              trainer->pair_margins, &finding, NULL) == RMJ_OK;
    if (named) {
        words->likely = describe_disagreement(trainer, &finding, words->where, sizeof words->where);
    }
    snprintf(words->reason, sizeof words->reason,
             "the labels carry no signal: %.1f %% of the last %llu pairs were right%s%s", percent,
             (unsigned long long)signal->pairs, named ? "; " : "", named ? words->where + strlen("where  ") : "");
}

// First and last file that share a source's cells.
static void source_files(const struct rmj_trainer *trainer, uint32_t source, const char **first, const char **last)
{
    uint32_t files = trainer->monitor.file_count;
    *first = *last = NULL;
    for (uint32_t file = 0; file < files; file++) {
        if (rmj_stream_source(files, file) == source) {
            *last = rmj_plan_file_path(trainer->plan, file);
            *first = *first == NULL ? *last : *first;
        }
    }
}

// Rows of a source in a range of steps: where a fall lies, when the order is that of the files.
static int rows_of_steps(const struct rmj_trainer *trainer, uint32_t source, uint32_t first_step, uint32_t last_step,
                         uint64_t *first_row, uint64_t *last_row)
{
    const struct rmj_monitor *monitor = &trainer->monitor;
    uint64_t inside = 0, outside = 0;
    *first_row = UINT64_MAX;
    *last_row = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t number = 1; number <= trainer->state->step; number++) {
            struct rmj_plan_step step;
            rmj_plan_step(trainer->plan, number, &step);
            for (uint64_t i = step.first_pair; i < step.first_pair + step.pair_count; i++) {
                const char *path;
                uint64_t row;
                rmj_plan_pair_source(trainer->plan, i, &path, &row);
                if (rmj_monitor_source(monitor, i) != source) {
                    continue;
                }
                int in = number >= first_step && number <= last_step;
                if (pass == 0 && in) {
                    *first_row = row < *first_row ? row : *first_row;
                    *last_row = row > *last_row ? row : *last_row;
                    inside++;
                } else if (pass == 1 && !in && row >= *first_row && row <= *last_row) {
                    outside++;
                }
            }
        }
    }
    return inside > 0 && outside * 4 < inside;
}

static void describe_source(struct rmj_trainer *trainer, struct words *words)
{
    struct rmj_monitor_state *state = rmj_state_monitor(trainer->state);
    const struct rmj_stream_cell *cells = rmj_monitor_cells(&trainer->monitor, state);
    uint32_t step_count = trainer->info->step_count, from, to, unused;
    uint64_t first_row, last_row;
    const char *first, *last;
    struct rmj_stream_estimate before = rmj_stream_estimate(cells, state->fall_source, 1, state->fall_split);
    struct rmj_stream_estimate after =
        rmj_stream_estimate(cells, state->fall_source, state->fall_split, state->fall_end);
    rmj_stream_window_steps(state->fall_split, step_count, &from, &unused);
    rmj_stream_window_steps(state->fall_end - 1, step_count, &unused, &to);
    source_files(trainer, state->fall_source, &first, &last);
    char rows[64] = "";
    if (first == last && rows_of_steps(trainer, state->fall_source, from, to, &first_row, &last_row)) {
        snprintf(rows, sizeof rows, " rows %llu-%llu", (unsigned long long)first_row, (unsigned long long)last_row);
    }
    const char *others = state->fall_others_hold ? "; other sources did not fall" : "";
    snprintf(words->what, sizeof words->what, "what   accuracy fell from %.1f %% to %.1f %% in steps %u-%u%s",
             100 * before.accuracy, 100 * after.accuracy, from, to, others);
    snprintf(words->where, sizeof words->where, "where  %.200s%s: %.1f-%.1f %% of %llu pairs, before %.1f-%.1f %%",
             first, rows, 100 * after.low, 100 * after.high, (unsigned long long)after.pairs, 100 * before.low,
             100 * before.high);
    snprintf(words->reason, sizeof words->reason, "accuracy of %.200s%s fell from %.1f %% to %.1f %%%s", first, rows,
             100 * before.accuracy, 100 * after.accuracy, others);
    words->likely = state->fall_others_hold
                        ? "likely labels swapped or without meaning in that part of the source"
                        : "likely labels swapped or without meaning from there on; or rows sorted from easy to hard";
    words->mend = mend_rows;
}

static void describe_range(struct rmj_trainer *trainer, struct words *words)
{
    struct rmj_monitor_state *state = rmj_state_monitor(trainer->state);
    const struct rmj_monitor *monitor = &trainer->monitor;
    const char *first, *last;
    source_files(trainer, state->fall_source, &first, &last);
    uint64_t rows = monitor->source_rows[state->fall_source];
    uint64_t from = ((uint64_t)state->fall_split * rows + RMJ_STREAM_BLOCKS - 1) / RMJ_STREAM_BLOCKS + 1;
    uint64_t to = ((uint64_t)state->fall_end * rows + RMJ_STREAM_BLOCKS - 1) / RMJ_STREAM_BLOCKS;
    // Those rows' numbers by now: in a report at the end, another run may stand out more, or none.
    struct rmj_stream_range range =
        rmj_stream_range_of(rmj_monitor_blocks(monitor, state), rmj_stream_source_count(monitor->file_count),
                            state->fall_source, state->fall_split, state->fall_end);
    snprintf(words->what, sizeof words->what,
             "what   %.1f %% of %llu pairs were right before they were learnt; of the others %.1f %%",
             100 * range.accuracy, (unsigned long long)range.pairs, 100 * range.other_accuracy);
    snprintf(words->where, sizeof words->where, "where  %.200s%s rows %llu-%llu", first,
             first == last ? "" : " and the files after it,", (unsigned long long)from, (unsigned long long)to);
    snprintf(words->reason, sizeof words->reason,
             "%s: right less often than chance, %.1f %%: the data, not the training", words->where + strlen("where  "),
             100 * range.accuracy);
    words->likely = "likely chosen and rejected swapped in that range; not the learning rate";
    words->mend = mend_rows;
}

static void describe(struct rmj_trainer *trainer, struct words *words)
{
    switch ((enum rmj_alarm)rmj_state_monitor(trainer->state)->alarm) {
    case RMJ_ALARM_FALL:
        describe_fall(trainer, words);
        break;
    case RMJ_ALARM_DISAGREEMENT:
        describe_alarm_run(trainer, words);
        break;
    case RMJ_ALARM_RANGE:
        describe_range(trainer, words);
        break;
    case RMJ_ALARM_SOURCE:
        describe_source(trainer, words);
        break;
    default:
        describe_no_signal(trainer, words);
        break;
    }
}

void rmj_heed_watch(struct rmj_trainer *trainer)
{
    const struct rmj_monitor_state *state = rmj_state_monitor(trainer->state);
    int mode = trainer->settings.margin_watch;
    if (mode == RMJOB__V1__MARGIN_WATCH__off || state->alarm == RMJ_ALARM_NONE) {
        return;
    }
    int stop = mode == RMJOB__V1__MARGIN_WATCH__stop;
    if (!stop && state->alarm_step != trainer->state->step) {
        return; // told at its step
    }
    trainer->generation.failed = stop;
    if (trainer->generation.rank != 0) {
        return;
    }
    struct words words;
    describe(trainer, &words);
    const char *lines[] = {words.what, words.where, words.likely, words.mend};
    if (!stop) {
        rmj_link_warn_job(trainer->link, trainer->generation.number, words.reason, lines, RMJ_COUNT(lines));
        return;
    }
    struct rmj_training_report report;
    rmj_training_report_init(&report, trainer);
    rmj_link_fail_data(trainer->link, trainer->generation.number, words.reason, lines, RMJ_COUNT(lines),
                       &report.message);
    rmj_training_report_deinit(&report);
}

static void fill_window(Rmjob__V1__StreamWindow *window, const struct rmj_stream_estimate *estimate, uint32_t first,
                        uint32_t last)
{
    rmjob__v1__stream_window__init(window);
    window->has_first_step = window->has_last_step = window->has_pairs = window->has_accuracy = 1;
    window->has_low = window->has_high = window->has_mean_margin = window->has_margin_error = 1;
    window->first_step = first;
    window->last_step = last;
    window->pairs = estimate->pairs;
    window->accuracy = estimate->accuracy;
    window->low = estimate->low;
    window->high = estimate->high;
    window->mean_margin = estimate->margin;
    window->margin_error = estimate->margin_error;
}

static void fill_source(struct rmj_stream_words *words, struct rmj_trainer *trainer, uint32_t source)
{
    const struct rmj_stream_cell *cells = rmj_monitor_cells(&trainer->monitor, rmj_state_monitor(trainer->state));
    const char *first, *last;
    struct rmj_stream_estimate estimate = rmj_stream_estimate(cells, source, 0, RMJ_STREAM_WINDOWS);
    source_files(trainer, source, &first, &last);
    snprintf(words->path, sizeof words->path, first == last ? "%.900s" : "%.450s ... %.450s", first, last);
    rmjob__v1__stream_source__init(&words->message);
    fill_window(&words->whole, &estimate, 1, trainer->state->step);
    words->message.path = words->path;
    words->message.whole = &words->whole;
    words->message.windows = words->list;
    for (uint32_t window = 0; window < RMJ_STREAM_WINDOWS; window++) {
        uint32_t from, to;
        estimate = rmj_stream_estimate(cells, source, window, window + 1);
        rmj_stream_window_steps(window, trainer->info->step_count, &from, &to);
        if (estimate.pairs > 0) {
            Rmjob__V1__StreamWindow *message = &words->windows[words->message.n_windows];
            fill_window(message, &estimate, from, to);
            words->list[words->message.n_windows++] = message;
        }
    }
}

void rmj_training_report_init(struct rmj_training_report *report, struct rmj_trainer *trainer)
{
    uint32_t sources = rmj_stream_source_count(trainer->monitor.file_count);
    *report = (struct rmj_training_report){0};
    rmjob__v1__training_report__init(&report->message);
    report->words = calloc(sources, sizeof *report->words);
    report->list = calloc(sources, sizeof(Rmjob__V1__StreamSource *));
    if (report->words == NULL || report->list == NULL) {
        return; // a report without its sources
    }
    for (uint32_t source = 0; source < sources; source++) {
        fill_source(&report->words[source], trainer, source);
        report->list[source] = &report->words[source].message;
    }
    report->message.n_sources = sources;
    report->message.sources = report->list;
    if (trainer->settings.margin_watch == RMJOB__V1__MARGIN_WATCH__warn &&
        rmj_state_monitor(trainer->state)->alarm != RMJ_ALARM_NONE) {
        struct words words;
        describe(trainer, &words);
        snprintf(report->warning, sizeof report->warning, "%s", words.reason);
        report->warnings[0] = report->warning;
        report->message.n_warnings = 1;
        report->message.warnings = report->warnings;
    }
}

void rmj_training_report_deinit(struct rmj_training_report *report)
{
    free(report->words);
    free(report->list);
}
