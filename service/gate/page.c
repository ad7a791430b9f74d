// The sections of the page, from the verdict down to named rows.
#include "service/gate/page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "service/gate/page_internal.h"
#include "service/gate/page_style.h"

// Sources with pictures of their own; those after them are in the table.
#define SOURCE_BOXES_MAX 24u
#define LANGUAGES_SHOWN_MAX 6u

static void open_table(struct rmj_buf *out, const char *heads)
{
    // A head that starts with '#' stands over numbers.
    rmj_buf_puts(out, "<div class=\"scroll\"><table><thead><tr>");
    for (const char *head = heads; *head != '\0';) {
        size_t length = strcspn(head, "|");
        int number = *head == '#';
        rmj_buf_printf(out, "<th%s>%.*s</th>", number ? " class=\"n\"" : "", (int)length - number, head + number);
        head += length + (head[length] == '|');
    }
    rmj_buf_puts(out, "</tr></thead><tbody>\n");
}

static void close_table(struct rmj_buf *out)
{
    rmj_buf_puts(out, "</tbody></table></div>\n");
}

static void card_count(struct rmj_buf *out, const char *name, uint64_t count)
{
    rmj_buf_puts(out, "<div class=\"card\"><b>");
    rmj_page_count(out, count);
    rmj_buf_printf(out, "</b><span>%s</span></div>\n", name);
}

static void card_share(struct rmj_buf *out, const char *name, double share)
{
    rmj_buf_puts(out, "<div class=\"card\"><b>");
    rmj_page_percent(out, share);
    rmj_buf_printf(out, "</b><span>%s</span></div>\n", name);
}

static void put_head(struct rmj_buf *out, const Rmjob__V1__JobReport *report)
{
    const Rmjob__V1__JobSpec *spec = report->spec;
    const char *name = spec != NULL && spec->publish != NULL && spec->publish->name != NULL ? spec->publish->name
                       : spec != NULL && spec->name != NULL                                 ? spec->name
                                                                                            : "report";
    rmj_buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"
                      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                      "style-src 'unsafe-inline'\"/>\n<title>");
    rmj_page_text(out, name);
    rmj_buf_puts(out, ": data and training</title>\n<style>\n");
    rmj_buf_puts(out, page_style);
    rmj_buf_puts(out, "</style></head>\n<body>\n<h1>");
    rmj_page_text(out, name);
    rmj_buf_puts(out, "</h1>\n<p class=\"dim\">");
    if (report->job != NULL) {
        rmj_buf_puts(out, "job ");
        rmj_page_text(out, report->job);
    }
    if (spec != NULL && spec->base_model != NULL) {
        rmj_buf_puts(out, report->job != NULL ? ", from " : "from ");
        rmj_page_text(out, spec->base_model);
    }
    rmj_buf_puts(out, "</p>\n");
}

static void put_verdict_line(struct rmj_buf *out, const Rmjob__V1__GateVerdict *verdict)
{
    if (verdict == NULL) {
        rmj_buf_puts(out, "<p class=\"dim\">not judged yet</p>\n");
        return;
    }
    size_t failed = 0;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        failed += !verdict->checks[i]->passed;
    }
    if (verdict->passed) {
        rmj_buf_printf(out, "<p class=\"verdict good\">gate passed: all %zu checks</p>\n", verdict->n_checks);
    } else {
        rmj_buf_printf(out, "<p class=\"verdict bad\">gate failed: %zu of %zu checks</p>\n", failed, verdict->n_checks);
    }
    if (verdict->pattern != NULL) {
        rmj_buf_puts(out, "<p>");
        rmj_page_text(out, verdict->pattern);
        rmj_buf_puts(out, "</p>\n");
    }
}

static void put_totals(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    rmj_buf_puts(out, "<div class=\"cards\">\n");
    card_count(out, "pairs kept", data->pairs);
    card_count(out, "rows read", data->rows);
    card_count(out, data->n_files == 1 ? "file" : "files", data->n_files);
    if (data->has_chosen_longer_share) {
        card_share(out, "chosen is the longer side", data->chosen_longer_share);
    }
    if (data->has_length_rule_accuracy) {
        card_share(out, "right by \"longer wins\" alone", data->length_rule_accuracy);
    }
    if (data->has_near_duplicates) {
        card_count(out, "near duplicates", data->near_duplicates);
    }
    if (data->has_contradictions) {
        card_count(out, "pairs that contradict others", data->contradictions);
    }
    if (data->has_benchmark_overlap) {
        card_count(out, "overlap with RewardBench 2", data->benchmark_overlap);
    }
    if (data->has_heldout_overlap) {
        card_count(out, "overlap with held-out rows", data->heldout_overlap);
    }
    rmj_buf_puts(out, "</div>\n");
}

static void put_kept(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    const struct rmj_page_part parts[] = {
        {"kept", "kept", data->pairs},
        {"over length", "d0", data->dropped_over_length},
        {"exact duplicates", "d1", data->dropped_duplicate},
        {"identical sides", "d2", data->dropped_identical_sides},
    };
    rmj_buf_puts(out, "<h2>Read, kept, dropped</h2>\n");
    rmj_page_parts(out, "rows kept and dropped", parts, sizeof parts / sizeof parts[0]);
    if (data->truncated > 0) {
        rmj_buf_puts(out, "<p class=\"dim\">");
        rmj_page_count(out, data->truncated);
        rmj_buf_puts(out, " of the kept pairs were cut to the length bound.</p>\n");
    }
    open_table(out, "file|#rows|#kept|#over length|#duplicates|#identical sides|SHA-256");
    for (size_t i = 0; i < data->n_files; i++) {
        const Rmjob__V1__DataFileReport *file = data->files[i];
        rmj_buf_puts(out, "<tr><td>");
        if (file->name != NULL && *file->name != '\0') {
            rmj_buf_puts(out, "<b>");
            rmj_page_text(out, file->name);
            rmj_buf_puts(out, "</b><br/>");
        }
        rmj_page_text(out, file->path);
        rmj_buf_puts(out, "</td>");
        rmj_page_count_cell(out, file->rows);
        rmj_page_count_cell(out, file->accepted);
        rmj_page_count_cell(out, file->dropped_over_length);
        rmj_page_count_cell(out, file->dropped_duplicate);
        rmj_page_count_cell(out, file->dropped_identical_sides);
        char start[13];
        snprintf(start, sizeof start, "%.12s", file->sha256 == NULL ? "" : file->sha256);
        rmj_buf_puts(out, "<td><code>");
        rmj_page_text(out, start);
        rmj_buf_puts(out, "</code></td></tr>\n");
    }
    close_table(out);
}

static void put_languages(struct rmj_buf *out, const Rmjob__V1__DataSourceReport *source)
{
    rmj_buf_puts(out, "<h4>languages (a guess)</h4><ul class=\"legend\">");
    uint64_t rest = source->pairs;
    for (size_t i = 0; i < source->n_languages && i < LANGUAGES_SHOWN_MAX; i++) {
        const Rmjob__V1__DataLanguage *language = source->languages[i];
        rmj_buf_puts(out, "<li>");
        rmj_page_text(out, language->language);
        rmj_buf_puts(out, " <b>");
        rmj_page_percent(out, source->pairs == 0 ? 0 : (double)language->pairs / (double)source->pairs);
        rmj_buf_puts(out, "</b></li>");
        rest -= language->pairs < rest ? language->pairs : rest;
    }
    if (source->n_languages > LANGUAGES_SHOWN_MAX) {
        rmj_buf_puts(out, "<li>more <b>");
        rmj_page_percent(out, source->pairs == 0 ? 0 : (double)rest / (double)source->pairs);
        rmj_buf_puts(out, "</b></li>");
    }
    rmj_buf_puts(out, "</ul>");
}

static void put_source(struct rmj_buf *out, const Rmjob__V1__DataSourceReport *source)
{
    rmj_buf_puts(out, "<section class=\"box\"><h3>");
    rmj_page_text(out, source->name);
    rmj_buf_puts(out, " <small>");
    rmj_page_count(out, source->pairs);
    rmj_buf_printf(out, " pair%s</small></h3>\n", source->pairs == 1 ? "" : "s");
    rmj_page_lengths(out, "sides by length in tokens, chosen and rejected", source->lengths, source->n_lengths);
    rmj_buf_printf(out,
                   "<ul class=\"legend\"><li><i class=\"chosen\"></i>chosen <small>%.0f tokens on average</small></li>"
                   "<li><i class=\"rejected\"></i>rejected <small>%.0f</small></li></ul>\n",
                   source->mean_chosen_tokens, source->mean_rejected_tokens);
    rmj_buf_puts(out, "<h4>right by \"longer wins\" alone: ");
    rmj_page_percent(out, source->length_rule_accuracy);
    rmj_buf_puts(out, " in tokens, ");
    rmj_page_percent(out, source->length_rule_accuracy_characters);
    rmj_buf_puts(out, " in characters</h4>\n");
    rmj_page_share(out, "accuracy of the length rule; the mark is one half", source->length_rule_accuracy);
    put_languages(out, source);
    rmj_buf_puts(out, "</section>\n");
}

static void put_sources(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    rmj_buf_puts(out, "<h2>Sources</h2>\n<div class=\"wide\">\n");
    for (size_t i = 0; i < data->n_sources && i < SOURCE_BOXES_MAX; i++) {
        put_source(out, data->sources[i]);
    }
    rmj_buf_puts(out, "</div>\n<h4>by source</h4>\n");
    open_table(out,
               "source|#pairs|#chosen longer|#length rule|#near duplicates|#contradictions|#held out|#RewardBench 2");
    for (size_t i = 0; i < data->n_sources; i++) {
        const Rmjob__V1__DataSourceReport *source = data->sources[i];
        rmj_buf_puts(out, "<tr>");
        rmj_page_text_cell(out, source->name);
        rmj_page_count_cell(out, source->pairs);
        rmj_page_percent_cell(out, source->has_chosen_longer_share, source->chosen_longer_share);
        rmj_page_percent_cell(out, source->has_length_rule_accuracy, source->length_rule_accuracy);
        rmj_page_count_cell(out, source->near_duplicates);
        rmj_page_count_cell(out, source->contradictions);
        rmj_page_count_cell(out, source->heldout_overlap);
        rmj_page_count_cell(out, source->benchmark_overlap);
        rmj_buf_puts(out, "</tr>\n");
    }
    close_table(out);
}

static void finding_row(struct rmj_buf *out, const char *what, int has, uint64_t count, const char *meaning)
{
    if (has) {
        rmj_buf_printf(out, "<tr><td><b>%s</b></td>", what);
        rmj_page_count_cell(out, count);
        rmj_buf_printf(out, "<td>%s</td></tr>\n", meaning);
    }
}

static void put_swapped(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    if (data->n_swapped_between == 0) {
        return;
    }
    rmj_buf_puts(out, "<h4>sides exchanged between sources</h4>\n");
    open_table(out, "pairs of|whose opposite is in|#pairs");
    for (size_t i = 0; i < data->n_swapped_between; i++) {
        rmj_buf_puts(out, "<tr>");
        rmj_page_text_cell(out, data->swapped_between[i]->source);
        rmj_page_text_cell(out, data->swapped_between[i]->other);
        rmj_page_count_cell(out, data->swapped_between[i]->pairs);
        rmj_buf_puts(out, "</tr>\n");
    }
    close_table(out);
}

static void put_findings(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    rmj_buf_puts(out, "<h2>Duplicates, contradictions, contamination</h2>\n");
    open_table(out, "what|#pairs|what it means");
    finding_row(out, "exact duplicates", data->has_dropped_duplicate, data->dropped_duplicate,
                "the same tokens as an earlier pair: dropped, a second time would be a second epoch");
    finding_row(out, "near duplicates", data->has_near_duplicates, data->near_duplicates,
                "prompt and answers each alike in 0.8 of their three-word grams or more (estimated): kept");
    finding_row(
        out, "contradictions", data->has_contradictions, data->contradictions,
        "on a circle of preferences of one prompt, such as A over B and B over A: kept; no model can be right on all");
    finding_row(out, "mixed answers", data->has_mixed_answers, data->mixed_answers,
                "an answer chosen here and rejected there, for one prompt: rankings have them too");
    finding_row(out, "swapped", data->has_swapped, data->swapped,
                "the same tokens with the sides exchanged elsewhere in the set: kept");
    finding_row(out, "swapped across sources", data->has_swapped_across_sources, data->swapped_across_sources,
                "the opposite stands in another source: one of the two may have its labels turned");
    finding_row(out, "overlap with held-out rows", data->has_heldout_overlap, data->heldout_overlap,
                "the prompt is a held-out row's or shares a 13-word gram with one: they flatter held-out accuracy");
    finding_row(out, "of these with an equal prompt", data->has_heldout_same_prompt, data->heldout_same_prompt, "");
    finding_row(out, "overlap with RewardBench 2", data->has_benchmark_overlap, data->benchmark_overlap,
                "the same for the benchmark's prompts");
    finding_row(out, "of these with an equal prompt", data->has_benchmark_same_prompt, data->benchmark_same_prompt, "");
    finding_row(out, "already trained", data->has_lineage_overlap, data->lineage_overlap,
                "pairs that the base model or an ancestor of it has seen: refused");
    finding_row(out, "not compared", data->has_pairs_not_compared, data->pairs_not_compared,
                "pairs of a prompt that has too many of them to look for contradictions");
    close_table(out);
    if (data->has_gram_sample && data->gram_sample < 1) {
        rmj_buf_printf(
            out, "<p class=\"dim\">%.2g %% of the 13-word grams were looked for: overlaps are at least these.</p>\n",
            100 * data->gram_sample);
    }
    put_swapped(out, data);
}

static void put_issues(struct rmj_buf *out, const Rmjob__V1__DataReport *data)
{
    if (data->n_issues == 0) {
        return;
    }
    rmj_buf_puts(out, "<h2>Rows by name</h2>\n<p class=\"dim\">The first of each kind.</p>\n");
    open_table(out, "what|row|detail");
    for (size_t i = 0; i < data->n_issues; i++) {
        const Rmjob__V1__DataIssue *issue = data->issues[i];
        rmj_buf_puts(out, "<tr><td>");
        for (const char *c = issue->kind == NULL ? "" : issue->kind; *c != '\0'; c++) {
            rmj_page_text(out, (char[]){*c == '_' ? ' ' : *c, '\0'});
        }
        rmj_buf_puts(out, "</td><td><code>");
        rmj_page_text(out, issue->path);
        rmj_buf_printf(out, ":%llu</code></td>", (unsigned long long)issue->row);
        rmj_page_text_cell(out, issue->detail);
        rmj_buf_puts(out, "</tr>\n");
    }
    close_table(out);
}

static void put_stream_table(struct rmj_buf *out, const Rmjob__V1__TrainingReport *training)
{
    open_table(out, "source|#pairs|#accuracy|#95 % interval|#mean margin|#+-");
    for (size_t i = 0; i < training->n_sources; i++) {
        const Rmjob__V1__StreamSource *source = training->sources[i];
        const Rmjob__V1__StreamWindow *whole = source->whole;
        if (whole == NULL) {
            continue;
        }
        rmj_buf_puts(out, "<tr><td>");
        if (i < RMJ_PAGE_LINES_MAX) {
            rmj_buf_printf(out, "<i class=\"key s%zu\"></i>", i);
        }
        rmj_page_text(out, source->name != NULL ? source->name : source->path);
        rmj_buf_puts(out, "</td>");
        rmj_page_count_cell(out, whole->pairs);
        rmj_page_percent_cell(out, whole->has_accuracy, whole->accuracy);
        rmj_buf_printf(out, "<td class=\"n\">%.1f-%.1f</td><td class=\"n\">%.3f</td><td class=\"n\">%.3f</td></tr>\n",
                       100 * whole->low, 100 * whole->high, whole->mean_margin, 1.96 * whole->margin_error);
    }
    close_table(out);
}

static void put_training(struct rmj_buf *out, const Rmjob__V1__TrainingReport *training)
{
    rmj_buf_puts(out,
                 "<h2>Training stream</h2>\n<p class=\"dim\">Every pair was scored before it was learnt, so this is "
                 "an unbiased held-out estimate. Bands are 95 % intervals of a window; "
                 "windows of fewer than 8 pairs are not drawn.</p>\n<div class=\"two\">\n"
                 "<section class=\"box\"><h3>accuracy</h3>\n");
    rmj_page_stream(out, training, 0);
    rmj_buf_puts(out, "</section>\n<section class=\"box\"><h3>mean margin</h3>\n");
    rmj_page_stream(out, training, 1);
    rmj_buf_puts(out, "</section>\n</div>\n");
    put_stream_table(out, training);
    for (size_t i = 0; i < training->n_warnings; i++) {
        rmj_buf_puts(out, "<p class=\"warn\">warning: ");
        rmj_page_text(out, training->warnings[i]);
        rmj_buf_puts(out, "</p>\n");
    }
}

static void put_consumed(struct rmj_buf *out, const Rmjob__V1__PlanSummary *plan,
                         const Rmjob__V1__ConsumedProof *consumed)
{
    int equal = consumed->pairs_sum != NULL && plan->pairs_sum != NULL &&
                strcmp(consumed->pairs_sum, plan->pairs_sum) == 0 && consumed->pairs == plan->pairs;
    rmj_buf_puts(out, "<p>one epoch: ");
    rmj_page_count(out, consumed->pairs);
    rmj_buf_puts(out, " of ");
    rmj_page_count(out, plan->pairs);
    rmj_buf_printf(out, " pairs entered a step in %u steps, %s</p>\n", plan->steps,
                   equal ? "each exactly once" : "<b class=\"bad\">and the proof differs from the plan</b>");
}

// A number of a check: shares in percent, the standard deviation as it is.
static void check_cell(struct rmj_buf *out, const Rmjob__V1__GateCheck *check, int has, double value)
{
    if (strcmp(check->name == NULL ? "" : check->name, "score_std") != 0) {
        rmj_page_percent_cell(out, has, value);
    } else if (has && isfinite(value)) {
        rmj_buf_printf(out, "<td class=\"n\">%.3f</td>", value);
    } else {
        rmj_buf_puts(out, "<td class=\"n\">-</td>");
    }
}

static void put_checks(struct rmj_buf *out, const Rmjob__V1__GateVerdict *verdict)
{
    rmj_buf_puts(out, "<h2>Gate</h2>\n");
    open_table(out, "check|#score|#low|#high|#needs|verdict");
    for (size_t i = 0; i < verdict->n_checks; i++) {
        const Rmjob__V1__GateCheck *check = verdict->checks[i];
        rmj_buf_puts(out, "<tr>");
        rmj_page_text_cell(out, check->name);
        check_cell(out, check, check->has_value, check->value);
        check_cell(out, check, check->has_low, check->low);
        check_cell(out, check, check->has_high, check->high);
        check_cell(out, check, check->has_needs, check->needs);
        rmj_buf_printf(out, "<td class=\"%s\">%s", check->passed ? "good" : "bad", check->passed ? "pass" : "fail");
        if (check->note != NULL && *check->note != '\0') {
            rmj_buf_puts(out, ", ");
            rmj_page_text(out, check->note);
        }
        rmj_buf_puts(out, "</td></tr>\n");
    }
    close_table(out);
}

static void put_evaluation(struct rmj_buf *out, const Rmjob__V1__EvalReport *evaluation)
{
    if (evaluation->n_categories > 0) {
        rmj_buf_puts(out, "<h2>RewardBench 2</h2>\n");
        open_table(out, "category|#rows|#score|#low|#high");
        for (size_t i = 0; i < evaluation->n_categories; i++) {
            const Rmjob__V1__CategoryResult *result = evaluation->categories[i];
            rmj_buf_puts(out, "<tr>");
            rmj_page_text_cell(out, result->category);
            rmj_page_count_cell(out, result->rows);
            rmj_page_percent_cell(out, result->has_score, result->score);
            rmj_page_percent_cell(out, result->has_low, result->low);
            rmj_page_percent_cell(out, result->has_high, result->high);
            rmj_buf_puts(out, "</tr>\n");
        }
        close_table(out);
    }
    const Rmjob__V1__HeldoutResult *heldout = evaluation->heldout;
    if (heldout != NULL) {
        rmj_buf_puts(out, "<h2>Held out</h2>\n<div class=\"cards\">\n");
        card_share(out, "accuracy", heldout->accuracy);
        card_count(out, "pairs", heldout->pairs);
        card_share(out, "where the chosen side is longer",
                   heldout->has_accuracy_chosen_longer ? heldout->accuracy_chosen_longer : NAN);
        card_share(out, "where the chosen side is shorter",
                   heldout->has_accuracy_chosen_shorter ? heldout->accuracy_chosen_shorter : NAN);
        rmj_buf_puts(out, "</div>\n");
    }
}

void rmj_report_page(const Rmjob__V1__JobReport *report, struct rmj_buf *out)
{
    put_head(out, report);
    put_verdict_line(out, report->verdict);
    if (report->data != NULL) {
        put_totals(out, report->data);
        put_kept(out, report->data);
        if (report->data->n_sources > 0) {
            put_sources(out, report->data);
        }
        put_findings(out, report->data);
    }
    if (report->training != NULL && report->training->n_sources > 0) {
        put_training(out, report->training);
    }
    if (report->plan != NULL && report->consumed != NULL) {
        put_consumed(out, report->plan, report->consumed);
    }
    if (report->verdict != NULL && report->verdict->n_checks > 0) {
        put_checks(out, report->verdict);
    }
    if (report->evaluation != NULL) {
        put_evaluation(out, report->evaluation);
    }
    if (report->data != NULL) {
        put_issues(out, report->data); // last: it may be long
    }
    rmj_buf_puts(out, "</body></html>\n");
}
