// Screens: jobs, progress, and following a job to its end.
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/cli/cli.h"
#include "service/gate/gate.h"

#define JSON_SIZE_MAX ((size_t)256 << 20)
#define STREAM_RETRY_MS_MAX 30000

void rmj_cli_print_json(const ProtobufCMessage *message)
{
    struct rmj_buf out;
    rmj_buf_init(&out, JSON_SIZE_MAX);
    rmj_json_print(message, 1, &out);
    printf("%s\n", rmj_buf_text(&out));
    rmj_buf_deinit(&out);
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
    if (seconds < 90) {
        snprintf(out, size, "%.0fs", seconds);
    } else if (seconds < 5400) {
        snprintf(out, size, "%.0fm", seconds / 60);
    } else {
        snprintf(out, size, "%.1fh", seconds / 3600);
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

void rmj_cli_print_progress(const Rmjob__V1__Job *job, struct rmj_buf *out)
{
    const Rmjob__V1__Progress *p = job->progress;
    rmj_buf_printf(out, "%s %s", job->id, rmj_cli_state_name(job->state));
    if (p == NULL || p->steps == 0) {
        rmj_buf_printf(out, "  %s\n", job->reason == NULL ? "" : job->reason);
        return;
    }
    rmj_buf_printf(out, "  generation %u  ranks %u/%u  step %u/%u", p->generation, p->ranks, p->ranks_wanted, p->step,
                   p->steps);
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
            rmj_buf_printf(out, "%u committed %.0f s ago", p->checkpoint_step, age < 0 ? 0 : age);
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
    if (job->verdict != NULL) {
        const char *model = job->spec != NULL && job->spec->publish != NULL && job->spec->publish->name != NULL
                                ? job->spec->publish->name
                                : "";
        rmj_gate_print(job->verdict, model, job->id, colour, &text);
        fputs(rmj_buf_text(&text), out);
    }
    if (job->published_name != NULL && *job->published_name != '\0') {
        fprintf(out, "published %s version %u; next: rmjob pull %s@%u DIR\n", job->published_name,
                job->published_version, job->published_name, job->published_version);
    }
    for (size_t i = 0; i < job->n_explanation; i++) {
        fprintf(out, "%s\n", job->explanation[i]);
    }
    rmj_buf_deinit(&text);
}

// The lines of the terminal that show progress; rewritten in place.
struct screen {
    FILE *out;
    int is_terminal;
    int lines_shown;
    uint32_t step_printed;
    int64_t printed_ms;
};

static void erase_progress(struct screen *screen)
{
    for (; screen->lines_shown > 0; screen->lines_shown--) {
        fputs("\033[A\033[2K", screen->out);
    }
}

static void show_progress(struct screen *screen, const Rmjob__V1__Job *job)
{
    int64_t now = rmj_clock_mono_ms();
    uint32_t step = job->progress == NULL ? 0 : job->progress->step;
    if (!screen->is_terminal) {
        // A log file gets a line every few seconds, not one a step.
        if (step == screen->step_printed || now - screen->printed_ms < 5000) {
            return;
        }
    }
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 16);
    rmj_cli_print_progress(job, &text);
    if (screen->is_terminal) {
        erase_progress(screen);
        for (const char *c = rmj_buf_text(&text); *c != '\0'; c++) {
            screen->lines_shown += *c == '\n';
        }
    }
    fputs(rmj_buf_text(&text), screen->out);
    fflush(screen->out);
    rmj_buf_deinit(&text);
    screen->step_printed = step;
    screen->printed_ms = now;
}

static void show_event(struct screen *screen, const Rmjob__V1__Event *event)
{
    char time_text[16];
    erase_progress(screen);
    rmj_cli_format_time(time_text, sizeof time_text, event->unix_ms);
    fprintf(screen->out, "%s %s\n", time_text, event->text == NULL ? "" : event->text);
    fflush(screen->out);
}

// One stream until it ends or breaks; *sequence and *job_view move along.
static enum rmj_status follow_once(struct rmj_cli *cli, const char *job, struct screen *screen, uint64_t *sequence,
                                   Rmjob__V1__Job *view, int64_t deadline_ms, struct rmj_error *err)
{
    Rmjob__V1__WatchRequest request = RMJOB__V1__WATCH_REQUEST__INIT;
    request.job = (char *)job;
    request.has_after_sequence = 1;
    request.after_sequence = *sequence;
    struct rmj_rpc_stream *stream = NULL;
    RMJ_TRY(rmj_rpc_stream_open(&stream, cli->client, "/rmjob.v1.Jobs/Watch", &request.base,
                                &rmjob__v1__event__descriptor, 0, err));
    enum rmj_status status = RMJ_OK;
    for (;;) {
        ProtobufCMessage *message = NULL;
        int64_t left = deadline_ms == 0 ? -1 : deadline_ms - rmj_clock_mono_ms();
        status = deadline_ms != 0 && left <= 0 ? RMJ_AGAIN : rmj_rpc_stream_next(stream, left, &message, err);
        if (status == RMJ_AGAIN) {
            status = rmj_fail(err, RMJ_TIMEOUT, "%s has not ended in time; it goes on, see `rmjob watch %s`", job, job);
        }
        if (status != RMJ_OK || message == NULL) {
            break;
        }
        Rmjob__V1__Event *event = (Rmjob__V1__Event *)message;
        *sequence = event->sequence > *sequence ? event->sequence : *sequence;
        if (event->has_state) {
            view->has_state = 1;
            view->state = event->state;
        }
        if (cli->json) {
            struct rmj_buf line;
            rmj_buf_init(&line, 1 << 20);
            rmj_json_print(message, 0, &line);
            fprintf(screen->out, "%s\n", rmj_buf_text(&line));
            fflush(screen->out);
            rmj_buf_deinit(&line);
        } else if (event->kind != RMJOB__V1__EVENT_KIND__STEP && event->kind != RMJOB__V1__EVENT_KIND__EVAL) {
            show_event(screen, event);
        }
        if (!cli->json && event->progress != NULL && !rmj_cli_state_is_final(view->state)) {
            view->progress = event->progress;
            show_progress(screen, view);
            view->progress = NULL;
        }
        protobuf_c_message_free_unpacked(message, NULL);
    }
    rmj_rpc_stream_close(stream);
    return status;
}

enum rmj_status rmj_cli_follow(struct rmj_cli *cli, const char *id, FILE *out, struct rmj_error *err)
{
    struct screen screen = {.out = out, .is_terminal = isatty(fileno(out)) && !cli->json};
    Rmjob__V1__Job view = RMJOB__V1__JOB__INIT;
    view.id = (char *)id;
    uint64_t sequence = 0;
    int64_t deadline = cli->timeout_ms > 0 ? rmj_clock_mono_ms() + cli->timeout_ms : 0;
    int64_t broken_since = 0;
    RMJ_TRY(rmj_cli_connect(cli, err));
    for (;;) {
        enum rmj_status status = follow_once(cli, id, &screen, &sequence, &view, deadline, err);
        if (status == RMJ_OK) {
            break;
        }
        // The service may be restarting: jobs go on meanwhile, and so do we.
        int64_t now = rmj_clock_mono_ms();
        broken_since = broken_since == 0 ? now : broken_since;
        if ((status != RMJ_UNREACHABLE && status != RMJ_CANCELLED) || now - broken_since > STREAM_RETRY_MS_MAX ||
            (deadline != 0 && now >= deadline)) {
            return status;
        }
        rmj_clock_sleep_ms(200);
    }
    erase_progress(&screen);
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = (char *)id;
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor, &reply, NULL, err));
    Rmjob__V1__Job *job = (Rmjob__V1__Job *)reply;
    if (cli->json) {
        struct rmj_buf line;
        rmj_buf_init(&line, JSON_SIZE_MAX);
        rmj_json_print(reply, 0, &line);
        fprintf(out, "%s\n", rmj_buf_text(&line));
        rmj_buf_deinit(&line);
    } else {
        rmj_cli_print_job(job, out, out == stdout ? cli->colour_out : cli->colour_err);
    }
    enum rmj_status status = rmj_cli_state_status(job, err);
    protobuf_c_message_free_unpacked(reply, NULL);
    return status;
}
