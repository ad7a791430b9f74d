// What a person reads: the gate's table and the report.
#include <stdio.h>
#include <string.h>

#include "service/gate/gate_internal.h"

#define RED "\033[31m"
#define GREEN "\033[32m"
#define BOLD "\033[1m"
#define PLAIN "\033[0m"
#define LANGUAGES_PRINTED 3u

static const char *paint(int colour, const char *code)
{
    return colour ? code : "";
}

// Shares print in percent, standard deviations and scores as they are.
static int is_share(const char *name)
{
    return strcmp(name, "score_std") != 0;
}

static void print_value(struct rmj_buf *out, const char *name, int has, double value)
{
    if (!has) {
        rmj_buf_printf(out, "%7s ", "-");
    } else if (is_share(name)) {
        rmj_buf_printf(out, "%5.1f %% ", 100 * value);
    } else {
        rmj_buf_printf(out, "%7.3f ", value);
    }
}

static void print_check(const Rmjob__V1__GateCheck *check, size_t width, int colour, struct rmj_buf *out)
{
    rmj_buf_printf(out, "%-*s ", (int)width, check->name);
    print_value(out, check->name, check->has_value, check->value);
    if (check->has_low && check->has_high) {
        char interval[32];
        snprintf(interval, sizeof interval, "%.1f-%.1f", 100 * check->low, 100 * check->high);
        rmj_buf_printf(out, " %-14s ", interval);
    } else {
        rmj_buf_printf(out, " %-14s ", "");
    }
    rmj_buf_printf(out, is_share(check->name) ? "%6.1f  " : "%6.3f  ",
                   (is_share(check->name) ? 100 : 1) * check->needs);
    const char *note = check->note == NULL ? "" : check->note;
    if (check->passed) {
        rmj_buf_printf(out, "%spass%s%s%s\n", paint(colour, GREEN), paint(colour, PLAIN), *note ? ", " : "", note);
    } else {
        rmj_buf_printf(out, "%sFAIL%s%s%s\n", paint(colour, RED), paint(colour, PLAIN), *note ? ": " : "", note);
    }
}

void rmj_gate_print(const Rmjob__V1__GateVerdict *verdict, const char *model, const char *job, int colour,
                    struct rmj_buf *out)
{
    size_t failed = 0, width = strlen("category");
    for (size_t i = 0; i < verdict->n_checks; i++) {
        failed += !verdict->checks[i]->passed;
        size_t length = strlen(verdict->checks[i]->name);
        width = length > width ? length : width;
    }
    rmj_buf_printf(out, "%s%sGATE %s%s %s", paint(colour, BOLD), paint(colour, verdict->passed ? GREEN : RED),
                   verdict->passed ? "PASSED" : "FAILED", paint(colour, PLAIN), model);
    if (job != NULL && *job != '\0') {
        rmj_buf_printf(out, " (%s)", job);
    }
    if (verdict->n_checks == 0) {
        rmj_buf_puts(out, ": no thresholds were given, so nothing was decided\n");
        return;
    }
    if (verdict->passed) {
        rmj_buf_printf(out, ": all %zu checks\n", verdict->n_checks);
    } else {
        rmj_buf_printf(out, ": %zu of %zu checks; nothing published\n", failed, verdict->n_checks);
    }
    rmj_buf_printf(out, "%-*s   score  95 %% interval   needs\n", (int)width, "category");
    for (size_t i = 0; i < verdict->n_checks; i++) {
        print_check(verdict->checks[i], width, colour, out);
    }
    if (verdict->pattern != NULL) {
        rmj_buf_printf(out, "pattern: %s\n", verdict->pattern);
    }
}

static void print_overlap(const char *with, uint64_t pairs, uint64_t equal, struct rmj_buf *out)
{
    rmj_buf_printf(out, "; overlap with %s %llu (%llu by the whole prompt)", with, (unsigned long long)pairs,
                   (unsigned long long)equal);
}

static void print_findings(const Rmjob__V1__DataReport *data, struct rmj_buf *out)
{
    rmj_buf_printf(out,
                   "  near duplicates %llu (%.1f %%), contradictions %llu, swapped across sources %llu; the rule "
                   "\"longer wins\" is right in %.1f %%",
                   (unsigned long long)data->near_duplicates, 100 * data->near_duplicate_share,
                   (unsigned long long)data->contradictions, (unsigned long long)data->swapped_across_sources,
                   100 * data->length_rule_accuracy);
    if (data->has_heldout_overlap) {
        print_overlap("held-out rows", data->heldout_overlap, data->heldout_same_prompt, out);
    }
    if (data->has_benchmark_overlap) {
        print_overlap("RewardBench 2", data->benchmark_overlap, data->benchmark_same_prompt, out);
    }
    if (data->has_lineage_overlap) {
        rmj_buf_printf(out, "; in the base model's lineage %llu", (unsigned long long)data->lineage_overlap);
    }
    rmj_buf_puts(out, "\n");
}

static void print_source(const Rmjob__V1__DataSourceReport *source, struct rmj_buf *out)
{
    rmj_buf_printf(out, "  source %s: pairs %llu, chosen longer %.1f %%, length rule %.1f %%, near duplicates %llu; ",
                   source->name, (unsigned long long)source->pairs, 100 * source->chosen_longer_share,
                   100 * source->length_rule_accuracy, (unsigned long long)source->near_duplicates);
    for (size_t i = 0; i < source->n_languages && i < LANGUAGES_PRINTED; i++) {
        rmj_buf_printf(out, "%s%s %.1f %%", i > 0 ? ", " : "", source->languages[i]->language,
                       source->pairs == 0 ? 0 : 100 * (double)source->languages[i]->pairs / (double)source->pairs);
    }
    rmj_buf_printf(out, "%s\n", source->n_languages > LANGUAGES_PRINTED ? ", ..." : "");
}

static void print_data(const Rmjob__V1__DataReport *data, struct rmj_buf *out)
{
    rmj_buf_puts(out, "\ndata\n");
    for (size_t i = 0; i < data->n_files; i++) {
        const Rmjob__V1__DataFileReport *file = data->files[i];
        rmj_buf_printf(out, "  %s%s%s%s  rows %llu, accepted %llu  sha256:%.12s\n",
                       file->name != NULL ? file->name : file->path, file->name != NULL ? " (" : "",
                       file->name != NULL ? file->path : "", file->name != NULL ? ")" : "",
                       (unsigned long long)file->rows, (unsigned long long)file->accepted,
                       file->sha256 == NULL ? "" : file->sha256);
    }
    rmj_buf_printf(
        out,
        "  pairs %llu of %llu rows; dropped: over length %llu, duplicates %llu, identical sides %llu; truncated "
        "%llu; swapped elsewhere %llu; in the benchmark %llu\n",
        (unsigned long long)data->pairs, (unsigned long long)data->rows, (unsigned long long)data->dropped_over_length,
        (unsigned long long)data->dropped_duplicate, (unsigned long long)data->dropped_identical_sides,
        (unsigned long long)data->truncated, (unsigned long long)data->swapped, (unsigned long long)data->contaminated);
    rmj_buf_printf(
        out,
        "  tokens: chosen %.1f, rejected %.1f on average, longest %u; chosen is the longer side in %.1f %%; shared "
        "prefix saves %.1f %%\n",
        data->mean_chosen_tokens, data->mean_rejected_tokens, data->longest_side_tokens,
        100 * data->chosen_longer_share, 100 * data->shared_token_share);
    if (data->n_sources > 0) {
        print_findings(data, out);
        for (size_t i = 0; i < data->n_sources; i++) {
            print_source(data->sources[i], out);
        }
    }
}

static void print_training(const Rmjob__V1__TrainingReport *training, struct rmj_buf *out)
{
    rmj_buf_puts(out, "\ntraining stream: every pair as it was scored before it was learnt\n");
    rmj_buf_puts(out, "  steps          pairs  accuracy  95 % interval   margin   +-\n");
    for (size_t i = 0; i < training->n_sources; i++) {
        const Rmjob__V1__StreamSource *source = training->sources[i];
        rmj_buf_printf(out, "  %s%s%s%s\n", source->name != NULL ? source->name : source->path,
                       source->name != NULL ? " (" : "", source->name != NULL ? source->path : "",
                       source->name != NULL ? ")" : "");
        for (size_t k = 0; k <= source->n_windows; k++) {
            const Rmjob__V1__StreamWindow *w = k < source->n_windows ? source->windows[k] : source->whole;
            char steps[32], interval[32];
            snprintf(steps, sizeof steps, "%u-%u", w->first_step, w->last_step);
            snprintf(interval, sizeof interval, "%.1f-%.1f", 100 * w->low, 100 * w->high);
            rmj_buf_printf(out, "  %-12s %7llu  %6.1f %%  %-14s %7.3f  %.3f\n", k < source->n_windows ? steps : "all",
                           (unsigned long long)w->pairs, 100 * w->accuracy, interval, w->mean_margin,
                           1.96 * w->margin_error);
        }
    }
    for (size_t i = 0; i < training->n_warnings; i++) {
        rmj_buf_printf(out, "  warning: %s\n", training->warnings[i]);
    }
}

static void print_plan(const Rmjob__V1__PlanSummary *plan, const Rmjob__V1__ConsumedProof *consumed,
                       struct rmj_buf *out)
{
    rmj_buf_puts(out, "\ntraining\n");
    rmj_buf_printf(out, "  %llu pairs in %u steps, packs of %u tokens, %.1f %% full; %llu parameters in %u pages\n",
                   (unsigned long long)plan->pairs, plan->steps, plan->pack_tokens, 100 * plan->fill,
                   (unsigned long long)plan->parameters, plan->pages);
    if (consumed != NULL) {
        int equal = consumed->pairs_sum != NULL && plan->pairs_sum != NULL &&
                    strcmp(consumed->pairs_sum, plan->pairs_sum) == 0 && consumed->pairs == plan->pairs;
        rmj_buf_printf(out, "  one epoch: %llu of %llu pairs entered a step, %s\n", (unsigned long long)consumed->pairs,
                       (unsigned long long)plan->pairs,
                       equal ? "each exactly once (the proof equals the plan)" : "and the proof DIFFERS from the plan");
    }
}

static void print_evaluation(const Rmjob__V1__EvalReport *report, struct rmj_buf *out)
{
    rmj_buf_puts(out, "\nRewardBench 2\n");
    for (size_t i = 0; i < report->n_categories; i++) {
        const Rmjob__V1__CategoryResult *result = report->categories[i];
        rmj_buf_printf(out, "  %-11s ", result->category);
        print_value(out, result->category, result->has_score, result->score);
        if (result->has_low && result->has_high) {
            rmj_buf_printf(out, "  %.1f-%.1f", 100 * result->low, 100 * result->high);
        }
        rmj_buf_printf(out, "  %u rows\n", result->rows);
    }
    if (report->has_average) {
        rmj_buf_printf(out, "  %-11s %5.1f %%\n", "average", 100 * report->average);
    }
    if (report->heldout != NULL) {
        rmj_buf_printf(out, "\nheld out\n  accuracy %.1f %% (%.1f-%.1f) over %llu pairs, mean margin %.3f\n",
                       100 * report->heldout->accuracy, 100 * report->heldout->low, 100 * report->heldout->high,
                       (unsigned long long)report->heldout->pairs, report->heldout->mean_margin);
    }
    const Rmjob__V1__ScoreDistribution *d = report->distribution;
    if (d != NULL && d->has_std) {
        rmj_buf_printf(out, "  scores: mean %.3f, std %.3f, min %.3f, 5 %% %.3f, median %.3f, 95 %% %.3f, max %.3f\n",
                       d->mean, d->std, d->min, d->p05, d->p50, d->p95, d->max);
    }
}

void rmj_report_print(const Rmjob__V1__JobReport *report, int colour, struct rmj_buf *out)
{
    const char *name = report->spec != NULL && report->spec->name != NULL ? report->spec->name : "";
    const char *job = report->job == NULL ? "" : report->job;
    if (report->verdict != NULL) {
        const char *model = report->spec != NULL && report->spec->publish != NULL && report->spec->publish->name != NULL
                                ? report->spec->publish->name
                                : name;
        rmj_gate_print(report->verdict, model, job, colour, out);
    } else {
        rmj_buf_printf(out, "%s (%s): not judged yet\n", name, job);
    }
    if (report->data != NULL) {
        print_data(report->data, out);
    }
    if (report->plan != NULL) {
        print_plan(report->plan, report->consumed, out);
    }
    if (report->training != NULL && report->training->n_sources > 0) {
        print_training(report->training, out);
    }
    if (report->evaluation != NULL) {
        print_evaluation(report->evaluation, out);
    }
}

void rmj_report_categories_json(const Rmjob__V1__EvalReport *report, struct rmj_buf *out)
{
    rmj_buf_puts(out, "{\"categories\":{");
    for (size_t i = 0; i < report->n_categories; i++) {
        const Rmjob__V1__CategoryResult *result = report->categories[i];
        rmj_buf_printf(out, "%s\"%s\":{\"score\":", i > 0 ? "," : "", result->category);
        if (result->has_score) {
            rmj_buf_printf(out, "%.17g}", result->score);
        } else {
            rmj_buf_puts(out, "null}");
        }
    }
    rmj_buf_puts(out, "}}");
}
