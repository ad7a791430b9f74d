// Jobs.Watch: events from the database, so that nothing is told before it is durable and a reader that comes back with
// its last number misses nothing.
#include <stdio.h>
#include <string.h>

#include "service/api/internal.h"

#define EVENTS_PER_READ 64

static enum rmj_status send_event(void *context, const Rmjob__V1__Event *event, struct rmj_error *err)
{
    struct watcher *watcher = context;
    enum rmj_status status = rmj_call_send(watcher->call, &event->base);
    if (status == RMJ_OK) {
        watcher->after = event->sequence;
        return RMJ_OK;
    }
    watcher->behind = status == RMJ_FULL;
    return rmj_fail(err, status == RMJ_FULL ? RMJ_AGAIN : RMJ_CANCELLED, "the watcher is slow or gone");
}

// 1 when the watcher is done with.
static int pump(struct rmj_service *service, struct watcher *watcher)
{
    struct rmj_error err = {0};
    struct rmj_job_places places = {0};
    watcher->behind = 0;
    if (rmj_call_cancelled(watcher->call)) {
        return 1;
    }
    // The state first: whatever is told after it was read is told in the next round.
    enum rmj_status status = rmj_db_places(service->db, watcher->job, &places, &err);
    uint64_t before;
    do {
        before = watcher->after;
        if (status == RMJ_OK) {
            status =
                rmj_db_events(service->db, watcher->job, watcher->after, EVENTS_PER_READ, send_event, watcher, &err);
        }
    } while (status == RMJ_OK && watcher->after != before);
    if (status == RMJ_AGAIN && watcher->behind) {
        return 0;
    }
    if (status == RMJ_OK && !rmj_job_state_final(places.state)) {
        return 0;
    }
    if (status != RMJ_CANCELLED) {
        rmj_call_finish(watcher->call, status == RMJ_OK ? NULL : &err);
    }
    return 1;
}

static void drop(struct rmj_service *service, size_t index)
{
    rmj_call_release(service->watchers[index].call);
    service->watchers[index] = service->watchers[--service->watcher_count];
}

void watchers_pump(struct rmj_service *service, int all)
{
    for (size_t i = 0; i < service->watcher_count;) {
        struct watcher *watcher = &service->watchers[i];
        if ((all || watcher->behind || rmj_call_cancelled(watcher->call)) && pump(service, watcher)) {
            drop(service, i);
        } else {
            i++;
        }
    }
}

int watchers_behind(const struct rmj_service *service)
{
    for (size_t i = 0; i < service->watcher_count; i++) {
        if (service->watchers[i].behind) {
            return 1;
        }
    }
    return 0;
}

void watchers_close_all(struct rmj_service *service)
{
    while (service->watcher_count > 0) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_AGAIN, "the service is stopping; watch again when it is back");
        rmj_call_finish(service->watchers[0].call, &err);
        drop(service, 0);
    }
}

static void run_watch(struct rmj_service *service, struct message *message)
{
    const Rmjob__V1__WatchRequest *request = (const Rmjob__V1__WatchRequest *)message->request;
    if (service->watcher_count == WATCHERS_MAX) {
        call_fail(message->call, RMJ_AGAIN, "%d watchers are connected already", WATCHERS_MAX);
        return;
    }
    struct watcher *watcher = &service->watchers[service->watcher_count++];
    memset(watcher, 0, sizeof *watcher);
    snprintf(watcher->job, sizeof watcher->job, "%s", request->job);
    watcher->after = request->after_sequence;
    watcher->call = rmj_call_retain(message->call);
    watcher->behind = 1; // pumped after this turn
}

void on_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    struct rmj_service *service = context;
    struct rmj_job_places places = {0};
    struct rmj_error err = {0};
    const char *job = ((const Rmjob__V1__WatchRequest *)request)->job;
    if (rmj_db_places(service->db, job == NULL ? "" : job, &places, &err) != RMJ_OK) {
        rmj_call_fail(call, &err, NULL);
        return;
    }
    service_post(service, message_make(run_watch, call, request));
}
