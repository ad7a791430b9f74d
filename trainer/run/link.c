#include "trainer/run/link.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/link_internal.h"

#define BACKOFF_MS_MIN 50
#define BACKOFF_MS_MAX 1000

void rmj_link_cond_wait(struct rmj_link *link, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&link->changed, &link->lock, &until);
}

static void fire_abort(struct rmj_link *link)
{
    uint64_t one = 1;
    ssize_t n = write(link->abort_fd, &one, sizeof one);
    (void)n; // it can only fail when it is readable already
}

static void take_directive(struct rmj_link *link, Rmjob__V1__Directive *directive)
{
    pthread_mutex_lock(&link->lock);
    switch (directive->kind_case) {
    case RMJOB__V1__DIRECTIVE__KIND_ASSIGNMENT: {
        Rmjob__V1__Assignment *assignment = directive->assignment;
        if (link->assignment != NULL) {
            protobuf_c_message_free_unpacked(&link->assignment->base, NULL);
        }
        link->assignment = assignment;
        directive->assignment = NULL; // taken over
        directive->kind_case = RMJOB__V1__DIRECTIVE__KIND__NOT_SET;
        if (link->running != 0 && assignment->generation > link->running) {
            link->ended = link->running > link->ended ? link->running : link->ended;
            fire_abort(link);
        }
        break;
    }
    case RMJOB__V1__DIRECTIVE__KIND_END_GENERATION: {
        uint32_t generation = directive->end_generation->generation;
        if (directive->end_generation->kind == RMJOB__V1__END_KIND__AT_STEP) {
            link->stop_at_step = generation > link->stop_at_step ? generation : link->stop_at_step;
        } else {
            link->ended = generation > link->ended ? generation : link->ended;
            if (link->running != 0 && link->running <= generation) {
                fire_abort(link);
            }
        }
        break;
    }
    case RMJOB__V1__DIRECTIVE__KIND_LEAVE:
        link->leave = 1;
        link->leave_exit_code = directive->leave->exit_code;
        fire_abort(link);
        break;
    default:
        break; // a ping; or a word of a newer service
    }
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

static enum rmj_status open_stream(struct rmj_link *link, struct rmj_rpc_stream **stream, struct rmj_error *err)
{
    Rmjob__V1__AttachRequest request = RMJOB__V1__ATTACH_REQUEST__INIT;
    request.job = link->job;
    request.rank_uid = link->rank_uid;
    request.has_incarnation = 1;
    request.incarnation = link->incarnation;
    request.comm_address = link->comm_address;
    request.probe = link->probe;
    request.has_pid = request.has_supervisor_pid = 1;
    request.pid = (uint32_t)getpid();
    request.supervisor_pid = link->supervisor_pid;
    pthread_mutex_lock(&link->lock);
    request.has_running_generation = request.has_running_rank = request.has_running_step = 1;
    request.running_generation = link->running;
    request.running_rank = link->running_rank;
    request.running_step = atomic_load(&link->progress.step);
    request.snapshots = rmj_link_snapshots(link, &request.n_snapshots);
    pthread_mutex_unlock(&link->lock);
    enum rmj_status status = rmj_rpc_stream_open(stream, link->client, "/rmjob.v1.Ranks/Attach", &request.base,
                                                 &rmjob__v1__directive__descriptor, 0, err);
    rmj_link_free_snapshots(request.snapshots, request.n_snapshots);
    return status;
}

// Reads directives until the stream ends.
static enum rmj_status read_stream(struct rmj_link *link, struct rmj_rpc_stream *stream, struct rmj_error *err)
{
    for (;;) {
        ProtobufCMessage *message = NULL;
        enum rmj_status status = rmj_rpc_stream_next(stream, -1, &message, err);
        if (status != RMJ_OK || message == NULL) {
            return status;
        }
        take_directive(link, (Rmjob__V1__Directive *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static int is_refusal(enum rmj_status status)
{
    return status == RMJ_DENIED || status == RMJ_INVALID || status == RMJ_NOT_FOUND || status == RMJ_CONFLICT;
}

static void *attach_main(void *context)
{
    struct rmj_link *link = context;
    int64_t backoff = BACKOFF_MS_MIN;
    for (;;) {
        struct rmj_error err = {0};
        struct rmj_rpc_stream *stream = NULL;
        int64_t began = rmj_clock_mono_ms();
        enum rmj_status status = open_stream(link, &stream, &err);
        pthread_mutex_lock(&link->lock);
        link->stream = stream;
        int closing = link->closing;
        pthread_mutex_unlock(&link->lock);
        if (status == RMJ_OK && !closing) {
            status = read_stream(link, stream, &err);
        }
        pthread_mutex_lock(&link->lock);
        link->stream = NULL;
        pthread_mutex_unlock(&link->lock);
        rmj_rpc_stream_close(stream);
        backoff = rmj_clock_mono_ms() - began > BACKOFF_MS_MAX ? BACKOFF_MS_MIN : backoff * 2;
        backoff = backoff > BACKOFF_MS_MAX ? BACKOFF_MS_MAX : backoff;
        pthread_mutex_lock(&link->lock);
        if (is_refusal(status)) {
            link->refused = 1;
            link->refusal = err;
            pthread_cond_broadcast(&link->changed);
        }
        int64_t until = rmj_clock_mono_ms() + backoff;
        while (!link->closing && !link->refused && rmj_clock_mono_ms() < until) {
            rmj_link_cond_wait(link, until - rmj_clock_mono_ms() + 1);
        }
        int done = link->closing || link->refused;
        pthread_mutex_unlock(&link->lock);
        if (done) {
            return NULL;
        }
    }
}

void rmj_link_checkpoint_problem(struct rmj_link *link, const char *problem)
{
    pthread_mutex_lock(&link->lock);
    snprintf(link->checkpoint_problem, sizeof link->checkpoint_problem, "%s", problem);
    pthread_mutex_unlock(&link->lock);
}

static uint64_t resident_bytes(void)
{
    unsigned long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void beat(struct rmj_link *link)
{
    Rmjob__V1__HeartbeatRequest request = RMJOB__V1__HEARTBEAT_REQUEST__INIT;
    struct rmj_progress *progress = &link->progress;
    request.job = link->job;
    request.rank_uid = link->rank_uid;
    request.has_incarnation = request.has_generation = request.has_step = request.has_pack = 1;
    request.has_collective = request.has_stall_seconds = request.has_resident_bytes = request.has_owned_bytes = 1;
    request.has_eval_done = request.has_eval_total = 1;
    request.incarnation = link->incarnation;
    char problem[RMJ_ERROR_MESSAGE_SIZE];
    pthread_mutex_lock(&link->lock);
    request.generation = link->running;
    memcpy(problem, link->checkpoint_problem, sizeof problem);
    pthread_mutex_unlock(&link->lock);
    request.checkpoint_problem = problem[0] == '\0' ? NULL : problem;
    request.step = atomic_load(&progress->step);
    request.pack = atomic_load(&progress->pack);
    request.collective = atomic_load(&progress->collective);
    request.stall_seconds = (double)atomic_load(&progress->stall_us) * 1e-6;
    request.resident_bytes = resident_bytes();
    request.owned_bytes = atomic_load(&progress->owned_bytes);
    request.eval_done = atomic_load(&progress->eval_done);
    request.eval_total = atomic_load(&progress->eval_total);
    ProtobufCMessage *reply = NULL;
    // A heartbeat that does not arrive is made up for by the next.
    if (rmj_rpc_call(link->client, "/rmjob.v1.Ranks/Heartbeat", &request.base, &rmjob__v1__ack__descriptor, 1000,
                     &reply, NULL, NULL) == RMJ_OK) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
}

// Sleeps between heartbeats in sigtimedwait, so that a notice is seen at once.
static void *heartbeat_main(void *context)
{
    struct rmj_link *link = context;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    int64_t noticed = 0;
    struct timespec pause = {0, RMJ_HEARTBEAT_MS * 1000000L};
    for (;;) {
        int got = sigtimedwait(&signals, NULL, &pause);
        pthread_mutex_lock(&link->lock);
        if ((got == SIGTERM || got == SIGINT) && !link->closing) {
            link->notice = 1;
            noticed = noticed == 0 ? rmj_clock_mono_ms() : noticed;
            pthread_cond_broadcast(&link->changed);
        }
        int closing = link->closing;
        pthread_mutex_unlock(&link->lock);
        if (closing) {
            return NULL;
        }
        if (noticed != 0 && rmj_clock_mono_ms() - noticed > RMJ_NOTICE_MS) {
            rmj_log(RMJ_LOG_WARN, "rank", "event=left_late job=%s rank_uid=%s", link->job, link->rank_uid);
            _exit(RMJ_RANK_LEFT); // the machine is about to go: what is not handed over by now stays behind
        }
        beat(link);
    }
}

enum rmj_status rmj_link_create(struct rmj_link **out, const struct rmj_link_options *options, struct rmj_error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct rmj_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the link to the service");
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&link->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&link->lock, NULL);
    link->job = strdup(options->job);
    link->rank_uid = strdup(options->rank_uid);
    link->incarnation = options->incarnation;
    link->supervisor_pid = options->supervisor_pid;
    link->abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum rmj_status status = link->job == NULL || link->rank_uid == NULL || link->abort_fd < 0
                                 ? rmj_fail(err, RMJ_NO_MEMORY, "no memory for the link to the service")
                                 : rmj_rpc_client_create(&link->client, options->server, options->token, err);
    if (status != RMJ_OK) {
        rmj_link_destroy(link);
        return status;
    }
    *out = link;
    return RMJ_OK;
}

void rmj_link_destroy(struct rmj_link *link)
{
    if (link == NULL) {
        return;
    }
    pthread_mutex_lock(&link->lock);
    link->closing = 1;
    if (link->stream != NULL) {
        rmj_rpc_stream_cancel(link->stream);
    }
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
    if (link->started) {
        pthread_kill(link->heartbeat_thread, SIGTERM);
        pthread_join(link->attach_thread, NULL);
        pthread_join(link->heartbeat_thread, NULL);
        pthread_join(link->report_thread, NULL);
    }
    if (link->assignment != NULL) {
        protobuf_c_message_free_unpacked(&link->assignment->base, NULL);
    }
    if (link->client != NULL) {
        rmj_rpc_client_destroy(link->client);
    }
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        free(link->snapshots[i].ranges);
    }
    if (link->abort_fd >= 0) {
        close(link->abort_fd);
    }
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    free(link->job);
    free(link->rank_uid);
    free(link);
}

enum rmj_status rmj_link_start(struct rmj_link *link, const char *comm_address, const char *probe,
                               struct rmj_error *err)
{
    snprintf(link->comm_address, sizeof link->comm_address, "%s", comm_address);
    snprintf(link->probe, sizeof link->probe, "%s", probe);
    if (pthread_create(&link->attach_thread, NULL, attach_main, link) != 0 ||
        pthread_create(&link->heartbeat_thread, NULL, heartbeat_main, link) != 0 ||
        pthread_create(&link->report_thread, NULL, rmj_link_report_main, link) != 0) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no threads for the link to the service");
    }
    link->started = 1;
    return RMJ_OK;
}

// The next thing to do, if there is one; lock held.
static int next_directive(struct rmj_link *link, uint32_t generation, struct rmj_directive *directive)
{
    if (link->leave) {
        directive->kind = RMJ_DIRECTIVE_LEAVE;
        directive->exit_code = link->leave_exit_code;
    } else if (link->refused) {
        directive->kind = RMJ_DIRECTIVE_REFUSED;
        directive->err = link->refusal;
    } else if (link->notice && !link->notice_told) {
        link->notice_told = 1;
        directive->kind = RMJ_DIRECTIVE_NOTICE;
    } else if (link->assignment != NULL && link->assignment->generation > link->ended) {
        directive->kind = RMJ_DIRECTIVE_ASSIGN;
        directive->assignment = link->assignment;
        link->assignment = NULL;
    } else if (generation != 0 && (link->ended >= generation || link->stop_at_step >= generation)) {
        directive->kind = RMJ_DIRECTIVE_END;
    }
    return directive->kind != RMJ_DIRECTIVE_NONE;
}

void rmj_link_wait(struct rmj_link *link, uint32_t generation, int64_t wait_ms, struct rmj_directive *directive)
{
    *directive = (struct rmj_directive){.kind = RMJ_DIRECTIVE_NONE};
    int64_t deadline = rmj_clock_mono_ms() + wait_ms;
    pthread_mutex_lock(&link->lock);
    while (!next_directive(link, generation, directive)) {
        int64_t left = deadline - rmj_clock_mono_ms();
        if (left <= 0) {
            break;
        }
        rmj_link_cond_wait(link, left);
    }
    pthread_mutex_unlock(&link->lock);
}

int rmj_link_begin(struct rmj_link *link, uint32_t generation, uint32_t rank)
{
    pthread_mutex_lock(&link->lock);
    uint64_t drained;
    ssize_t n = read(link->abort_fd, &drained, sizeof drained);
    (void)n; // nothing to drain is fine
    int overtaken = link->leave || link->ended >= generation ||
                    (link->assignment != NULL && link->assignment->generation > generation);
    if (!overtaken) {
        link->running = generation;
        link->running_rank = rank;
    }
    pthread_mutex_unlock(&link->lock);
    return !overtaken;
}

void rmj_link_end(struct rmj_link *link)
{
    pthread_mutex_lock(&link->lock);
    link->running = 0;
    link->running_rank = 0;
    pthread_mutex_unlock(&link->lock);
}

int rmj_link_abort_fd(const struct rmj_link *link)
{
    return link->abort_fd;
}

int rmj_link_aborted(struct rmj_link *link)
{
    struct pollfd pfd = {.fd = link->abort_fd, .events = POLLIN};
    return poll(&pfd, 1, 0) == 1;
}

int rmj_link_stop_wanted(struct rmj_link *link)
{
    pthread_mutex_lock(&link->lock);
    int wanted = link->notice || (link->running != 0 && link->stop_at_step >= link->running);
    pthread_mutex_unlock(&link->lock);
    return wanted;
}

int rmj_link_notice(struct rmj_link *link)
{
    pthread_mutex_lock(&link->lock);
    int notice = link->notice;
    pthread_mutex_unlock(&link->lock);
    return notice;
}

struct rmj_progress *rmj_link_progress(struct rmj_link *link)
{
    return &link->progress;
}
