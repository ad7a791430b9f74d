// Screens: jobs, their state and progress. Following a job is follow.c.
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "service/cli/cli.h"
#include "service/gate/gate.h"

#define JSON_SIZE_MAX ((size_t)256 << 20)

void rmj_cli_print_json(const ProtobufCMessage *message)
{
    struct rmj_buf out;
    rmj_buf_init(&out, JSON_SIZE_MAX);
    rmj_json_print(message, 1, &out);
    printf("%s\n", rmj_buf_text(&out));
    rmj_buf_deinit(&out);
}

void rmj_cli_print_json_texts(const char *name, ...)
{
    json_t *object = json_object();
    RMJ_ASSERT(object != NULL);
    va_list arguments;
    va_start(arguments, name);
    for (; name != NULL; name = va_arg(arguments, const char *)) {
        // A text that is not UTF-8 (a path may be anything) is no JSON; it is left out.
        (void)json_object_set_new(object, name, json_string(va_arg(arguments, const char *)));
    }
    va_end(arguments);
    json_dumpf(object, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(object);
}

const char *rmj_cli_state_name(Rmjob__V1__JobState state)
{
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&rmjob__v1__job_state__descriptor, (int)state);
    return value == NULL ? "UNKNOWN" : value->name;
}

int rmj_cli_state_is_final(Rmjob__V1__JobState state)
{
    return state >= RMJOB__V1__JOB_STATE__SUCCEEDED;
}

enum rmj_status rmj_cli_state_status(const Rmjob__V1__Job *job, struct rmj_error *err)
{
    static const enum rmj_status statuses[] = {
        [RMJOB__V1__JOB_STATE__FAILED_GATE] = RMJ_GATE,         [RMJOB__V1__JOB_STATE__FAILED_DATA] = RMJ_DATA,
        [RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE] = RMJ_IO, [RMJOB__V1__JOB_STATE__FAILED_INTERNAL] = RMJ_INTERNAL,
        [RMJOB__V1__JOB_STATE__CANCELLED] = RMJ_CANCELLED,
    };
    if (job->state <= RMJOB__V1__JOB_STATE__SUCCEEDED || (size_t)job->state >= RMJ_COUNT(statuses)) {
        return RMJ_OK;
    }
    return rmj_fail(err, statuses[job->state], "%s %s: %s", job->id, rmj_cli_state_name(job->state),
                    job->reason == NULL ? "" : job->reason);
}

void rmj_cli_format_time(char *out, size_t size, int64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    strftime(out, size, "%H:%M:%S", &local);
}

static void format_duration(char *out, size_t size, double seconds)
{
    const double minute = 60, hour = 3600, day = 86400;
    if (seconds < 90) {
        snprintf(out, size, "%.0f s", seconds);
    } else if (seconds < 90 * minute) {
        snprintf(out, size, "%.0f min", seconds / minute);
    } else if (seconds < 2 * day) {
        snprintf(out, size, "%.1f h", seconds / hour);
    } else {
        snprintf(out, size, "%.0f days", seconds / day);
    }
}

static void print_thousands(struct rmj_buf *out, uint64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    for (int i = 0; i < length; i++) {
        rmj_buf_printf(out, "%s%c", i > 0 && (length - i) % 3 == 0 ? "," : "", digits[i]);
    }
}

int rmj_cli_is_category(const char *name)
{
    for (size_t i = 0; i < RMJ_CATEGORY_COUNT; i++) {
        if (strcmp(rmj_categories[i].key, name) == 0) {
            return 1;
        }
    }
    return 0;
}

void rmj_cli_print_progress(const Rmjob__V1__Job *job, struct rmj_buf *out)
{
    const Rmjob__V1__Progress *p = job->progress;
    rmj_buf_printf(out, "%s %s", job->id, rmj_cli_state_name(job->state));
    if (p != NULL && job->state == RMJOB__V1__JOB_STATE__PREPARING && p->has_prepared_rows) {
        rmj_buf_printf(out, "  read %llu rows, file %u of %u\n", (unsigned long long)p->prepared_rows, p->prepared_file,
                       p->prepared_files);
        return;
    }
    if (p == NULL || p->steps == 0) {
        rmj_buf_printf(out, "  %s\n", job->reason == NULL ? "" : job->reason);
        return;
    }
    // Before the first generation and after the last there are no ranks to speak of.
    if (p->generation > 0 && !rmj_cli_state_is_final(job->state)) {
        rmj_buf_printf(out, "  generation %u  ranks %u/%u", p->generation, p->ranks, p->ranks_wanted);
    }
    rmj_buf_printf(out, "  step %u/%u", p->step, p->steps);
    if (job->state == RMJOB__V1__JOB_STATE__TRAINING && p->pairs_per_second > 0) {
        char eta[24];
        format_duration(eta, sizeof eta, (double)(p->pairs - p->pairs_consumed) / p->pairs_per_second);
        rmj_buf_printf(out, "  ETA %s", eta);
    }
    if (job->state == RMJOB__V1__JOB_STATE__EVALUATING && p->eval_total > 0) {
        rmj_buf_printf(out, "  scored %u/%u packs", p->eval_done, p->eval_total);
    }
    rmj_buf_puts(out, "\n");
    if (p->step > 0) {
        rmj_buf_printf(out, "loss %.3f  margin %.2f  accuracy %.2f  %.0f tok/s  %.1f pairs/s  stall %.1f %%\n", p->loss,
                       p->margin, p->accuracy, p->tokens_per_second, p->pairs_per_second, 100 * p->stall_share);
        rmj_buf_puts(out, "checkpoint ");
        if (p->checkpoint_step > 0) {
            double age = (double)(rmj_clock_unix_ms() - p->checkpoint_unix_ms) / 1000;
            char text[24];
            format_duration(text, sizeof text, age < 0 ? 0 : age);
            rmj_buf_printf(out, "%u committed %s ago", p->checkpoint_step, text);
        } else {
            rmj_buf_puts(out, "none yet");
        }
        rmj_buf_puts(out, " | pairs ");
        print_thousands(out, p->pairs_consumed);
        rmj_buf_puts(out, " of ");
        print_thousands(out, p->pairs);
        rmj_buf_printf(out, " once, 0 twice | %u steps replayed\n", p->replayed_steps);
    }
}

// A digest by its first twelve digits, as everywhere on the screens.
static void print_digest(FILE *out, const char *what, const char *digest)
{
    if (digest != NULL && *digest != '\0') {
        fprintf(out, "  %s %.12s", what, digest);
    }
}

static void print_rendering(const Rmjob__V1__PlanSummary *pinned, FILE *out)
{
    int dated = pinned->template_date != NULL && *pinned->template_date != '\0';
    if (pinned->template_origin != NULL) {
        fprintf(out, "template %s (%.12s)%s%s\n", pinned->template_origin,
                pinned->template_digest == NULL ? "" : pinned->template_digest, dated ? ", which says " : "",
                dated ? pinned->template_date : "");
    }
    if (pinned->pad_token != NULL) {
        fprintf(out, "pad      %s\n", pinned->pad_token);
    }
    if (pinned->use_margin) {
        fprintf(out, "loss     with the rows' margins (train.use_margin)\n");
    }
}

void rmj_cli_print_pinned(const Rmjob__V1__PlanSummary *pinned, FILE *out)
{
    if (pinned != NULL) {
        print_rendering(pinned, out);
    }
    if (pinned == NULL || (pinned->base_digest == NULL && pinned->data_digest == NULL &&
                           pinned->heldout_digest == NULL && pinned->benchmark_digest == NULL)) {
        return;
    }
    fprintf(out, "pinned ");
    print_digest(out, "base", pinned->base_digest);
    print_digest(out, "data", pinned->data_digest);
    print_digest(out, "held out", pinned->heldout_digest);
    print_digest(out, "benchmark", pinned->benchmark_digest);
    if (pinned->benchmark_rows > 0) {
        fprintf(out, " (%llu rows)", (unsigned long long)pinned->benchmark_rows);
    }
    fprintf(out, "\n");
}

void rmj_cli_print_job(const Rmjob__V1__Job *job, FILE *out, int colour)
{
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 20);
    rmj_cli_print_progress(job, &text);
    fputs(rmj_buf_text(&text), out);
    rmj_buf_clear(&text);
    if (job->progress != NULL && job->progress->steps > 0 && job->reason != NULL) {
        fprintf(out, "%s\n", job->reason);
    }
    rmj_cli_print_pinned(job->plan, out);
    if (job->verdict != NULL) {
        const char *model = job->spec != NULL && job->spec->publish != NULL && job->spec->publish->name != NULL
                                ? job->spec->publish->name
                                : "";
        rmj_gate_print(job->verdict, model, job->id, colour, &text);
        fputs(rmj_buf_text(&text), out);
    }
    if (job->published_name != NULL && *job->published_name != '\0') {
        fprintf(out, "next     rmjob pull %s@%u DIR\n", job->published_name, job->published_version);
    }
    for (size_t i = 0; i < job->n_explanation; i++) {
        fprintf(out, "%s\n", job->explanation[i]);
    }
    rmj_buf_deinit(&text);
}
