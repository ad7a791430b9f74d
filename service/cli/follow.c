// Following a job to its end: events as lines, and under them a few lines of progress that a terminal rewrites in
// place.
//
//   14:02:11 rank 5 preempted; going on ...      events scroll
//   rm-7f3a2 TRAINING  generation 3  ...       \.
//   loss 0.412  margin 1.08  ...                | the block: erased and drawn again, cut to the window
//   checkpoint 208 committed ...               /
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/cli/cli.h"

#define STREAM_RETRY_MS_MAX 30000
#define STREAM_RETRY_PAUSE_MS 200
// A log file gets a line of progress so often, not one a step.
#define PLAIN_PROGRESS_MS 5000
#define BLOCK_LINES_MAX 8
#define BLOCK_SIZE_MAX (1u << 16)
#define EVENT_JSON_SIZE_MAX (1u << 20)
#define JOB_JSON_SIZE_MAX ((size_t)256 << 20)

struct screen {
    FILE *out;
    int is_terminal;
    struct rmj_buf block; // text of the progress
    size_t columns[BLOCK_LINES_MAX];
    size_t lines_shown;
    uint32_t step_printed;
    int64_t printed_ms;
};

struct follow {
    struct rmj_cli *cli;
    const char *job;
    struct screen screen;
    uint64_t sequence;    // of the newest event seen
    Rmjob__V1__Job view;  // id and state, as far as the events told
    int64_t deadline_ms;  // 0: none
    int64_t broken_since; // 0 while the stream lives
    Rmjob__V1__EventKind last_kind;
};

static size_t window_width(const struct screen *screen)
{
    struct winsize size;
    return ioctl(fileno(screen->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

// Bytes of the line that fit into so many columns; *columns is how many they take. Never cuts a character.
static size_t cut_line(const char *line, size_t length, size_t columns_max, size_t *columns)
{
    size_t used = 0;
    *columns = 0;
    while (used < length) {
        int is_start = ((unsigned char)line[used] & 0xC0) != 0x80;
        if (is_start && *columns == columns_max) {
            break;
        }
        *columns += (size_t)is_start;
        used++;
    }
    return used;
}

static void erase_block(struct screen *screen)
{
    // A window that became narrower since has folded the lines: they stand on more rows now.
    size_t width = window_width(screen), rows = 0;
    for (size_t i = 0; i < screen->lines_shown; i++) {
        rows += screen->columns[i] <= width ? 1 : (screen->columns[i] + width - 1) / width;
    }
    for (; rows > 0; rows--) {
        fputs("\033[A\033[2K", screen->out);
    }
    screen->lines_shown = 0;
}

static void draw_block(struct screen *screen)
{
    size_t width = window_width(screen);
    for (const char *line = rmj_buf_text(&screen->block); *line != '\0' && screen->lines_shown < BLOCK_LINES_MAX;) {
        size_t length = strcspn(line, "\n");
        size_t shown = cut_line(line, length, width - 1, &screen->columns[screen->lines_shown]);
        fprintf(screen->out, "%.*s\n", (int)shown, line);
        screen->lines_shown++;
        line += length + (line[length] == '\n');
    }
}

static void show_progress(struct screen *screen, const Rmjob__V1__Job *job)
{
    int64_t now = rmj_clock_mono_ms();
    uint32_t step = job->progress->step;
    if (!screen->is_terminal && (step == screen->step_printed || now - screen->printed_ms < PLAIN_PROGRESS_MS)) {
        return;
    }
    rmj_buf_clear(&screen->block);
    rmj_cli_print_progress(job, &screen->block);
    if (screen->is_terminal) {
        erase_block(screen);
        draw_block(screen);
    } else {
        fputs(rmj_buf_text(&screen->block), screen->out);
    }
    fflush(screen->out);
    screen->step_printed = step;
    screen->printed_ms = now;
}

static void show_line(struct screen *screen, int64_t unix_ms, const char *text)
{
    char time_text[16];
    rmj_cli_format_time(time_text, sizeof time_text, unix_ms);
    erase_block(screen);
    fprintf(screen->out, "%s %s\n", time_text, text);
    if (screen->is_terminal) {
        draw_block(screen);
    }
    fflush(screen->out);
}

static void print_json_line(FILE *out, const ProtobufCMessage *message, size_t size_max)
{
    struct rmj_buf line;
    rmj_buf_init(&line, size_max);
    rmj_json_print(message, 0, &line);
    fprintf(out, "%s\n", rmj_buf_text(&line));
    fflush(out);
    rmj_buf_deinit(&line);
}

// Steps, evaluation and, on a terminal, checkpoints show in the block. The start of a generation is told by the state
// that it brings.
static int is_worth_a_line(const struct follow *follow, const Rmjob__V1__Event *event)
{
    switch (event->kind) {
    case RMJOB__V1__EVENT_KIND__STEP:
    case RMJOB__V1__EVENT_KIND__EVAL:
        return 0;
    case RMJOB__V1__EVENT_KIND__CHECKPOINT:
        return !follow->screen.is_terminal;
    case RMJOB__V1__EVENT_KIND__GENERATION:
        return follow->last_kind != RMJOB__V1__EVENT_KIND__STATE;
    default:
        return event->text != NULL;
    }
}

static void take_event(struct follow *follow, Rmjob__V1__Event *event)
{
    follow->sequence = event->sequence > follow->sequence ? event->sequence : follow->sequence;
    if (event->has_state) {
        follow->view.has_state = 1;
        follow->view.state = event->state;
    }
    if (follow->cli->json) {
        print_json_line(follow->screen.out, &event->base, EVENT_JSON_SIZE_MAX);
        return;
    }
    if (rmj_cli_state_is_final(follow->view.state)) {
        rmj_buf_clear(&follow->screen.block);
    }
    if (is_worth_a_line(follow, event)) {
        show_line(&follow->screen, event->unix_ms, event->text == NULL ? "" : event->text);
    }
    follow->last_kind = event->kind;
    if (event->progress != NULL && !rmj_cli_state_is_final(follow->view.state)) {
        follow->view.progress = event->progress;
        show_progress(&follow->screen, &follow->view);
        follow->view.progress = NULL;
    }
}

static int deadline_passed(const struct follow *follow)
{
    return follow->deadline_ms != 0 && rmj_clock_mono_ms() >= follow->deadline_ms;
}

// One stream until it ends or breaks.
static enum rmj_status follow_once(struct follow *follow, struct rmj_error *err)
{
    Rmjob__V1__WatchRequest request = RMJOB__V1__WATCH_REQUEST__INIT;
    request.job = (char *)follow->job;
    request.has_after_sequence = 1;
    request.after_sequence = follow->sequence;
    struct rmj_rpc_stream *stream = NULL;
    RMJ_TRY(rmj_rpc_stream_open(&stream, follow->cli->client, "/rmjob.v1.Jobs/Watch", &request.base,
                                &rmjob__v1__event__descriptor, 0, err));
    enum rmj_status status = RMJ_OK;
    for (;;) {
        ProtobufCMessage *message = NULL;
        int64_t left = follow->deadline_ms == 0 ? -1 : follow->deadline_ms - rmj_clock_mono_ms();
        status = deadline_passed(follow) ? RMJ_AGAIN : rmj_rpc_stream_next(stream, left, &message, err);
        if (status == RMJ_AGAIN && deadline_passed(follow)) {
            status = rmj_fail(err, RMJ_TIMEOUT, "%s has not ended in time; it goes on, see `rmjob watch %s`",
                              follow->job, follow->job);
        }
        if (status != RMJ_OK || message == NULL) {
            break;
        }
        if (follow->broken_since != 0 && !follow->cli->json) {
            show_line(&follow->screen, rmj_clock_unix_ms(), "the service answers again");
        }
        follow->broken_since = 0;
        take_event(follow, (Rmjob__V1__Event *)message);
        protobuf_c_message_free_unpacked(message, NULL);
        if (ferror(follow->screen.out)) {
            // Nobody reads any more; the job goes on by itself.
            status = rmj_fail(err, RMJ_IO, "cannot write what happens to %s", follow->job);
            break;
        }
    }
    rmj_rpc_stream_close(stream);
    return status;
}

// Streams, again and again while the service restarts: jobs go on meanwhile, and so do we.
static enum rmj_status follow_events(struct follow *follow, struct rmj_error *err)
{
    for (;;) {
        enum rmj_status status = follow_once(follow, err);
        int64_t now = rmj_clock_mono_ms();
        // A service that stops says "cancelled" or "again", one that is gone nothing.
        if (status != RMJ_UNREACHABLE && status != RMJ_CANCELLED && status != RMJ_AGAIN) {
            return status;
        }
        if (follow->broken_since == 0) {
            follow->broken_since = now;
            if (!follow->cli->json) {
                show_line(&follow->screen, rmj_clock_unix_ms(), "the service does not answer; waiting for it");
            }
        }
        if (now - follow->broken_since > STREAM_RETRY_MS_MAX) {
            return status;
        }
        if (deadline_passed(follow)) {
            return rmj_fail(err, RMJ_TIMEOUT, "%s has not ended in time, and the service does not answer", follow->job);
        }
        rmj_clock_sleep_ms(STREAM_RETRY_PAUSE_MS);
    }
}

static enum rmj_status show_end(struct follow *follow, struct rmj_error *err)
{
    struct rmj_cli *cli = follow->cli;
    FILE *out = follow->screen.out;
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = (char *)follow->job;
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor, &reply, NULL, err));
    if (cli->json) {
        print_json_line(out, reply, JOB_JSON_SIZE_MAX);
    } else {
        rmj_cli_print_job((Rmjob__V1__Job *)reply, out, out == stdout ? cli->colour_out : cli->colour_err);
    }
    enum rmj_status status = rmj_cli_state_status((Rmjob__V1__Job *)reply, err);
    protobuf_c_message_free_unpacked(reply, NULL);
    return status;
}

enum rmj_status rmj_cli_follow(struct rmj_cli *cli, const char *job, FILE *out, struct rmj_error *err)
{
    struct follow follow = {
        .cli = cli,
        .job = job,
        .screen = {.out = out, .is_terminal = isatty(fileno(out)) && !cli->json},
        .view = RMJOB__V1__JOB__INIT,
        .deadline_ms = cli->timeout_ms > 0 ? rmj_clock_mono_ms() + cli->timeout_ms : 0,
    };
    follow.view.id = (char *)job;
    rmj_buf_init(&follow.screen.block, BLOCK_SIZE_MAX);
    enum rmj_status status = rmj_cli_connect(cli, err);
    if (status == RMJ_OK) {
        status = follow_events(&follow, err);
    }
    if (status == RMJ_OK) {
        erase_block(&follow.screen);
        status = show_end(&follow, err);
    }
    rmj_buf_deinit(&follow.screen.block);
    return status;
}
