// The bounded queue between whoever has something to say and the owner thread.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service/api/internal.h"

void call_fail(struct rmj_call *call, enum rmj_status status, const char *format, ...)
{
    struct rmj_error err = {0};
    char message[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    (void)rmj_fail(&err, status, "%s", message);
    rmj_call_fail(call, &err, NULL);
}

struct message *message_make(void (*run)(struct rmj_service *, struct message *), struct rmj_call *call,
                             const ProtobufCMessage *request)
{
    struct message *message = calloc(1, sizeof *message);
    RMJ_ASSERT(message != NULL);
    message->run = run;
    message->call = call == NULL ? NULL : rmj_call_retain(call);
    message->request = request == NULL ? NULL : rmj_message_copy(request);
    return message;
}

void message_free(struct message *message)
{
    if (message->call != NULL) {
        rmj_call_release(message->call);
    }
    if (message->request != NULL) {
        protobuf_c_message_free_unpacked(message->request, NULL);
    }
    if (message->extra != NULL) {
        (message->free_extra == NULL ? free : message->free_extra)(message->extra);
    }
    free(message);
}

static void wake(struct rmj_service *service)
{
    uint64_t one = 1;
    ssize_t written = write(service->wake_fd, &one, sizeof one);
    (void)written; // it can only fail when it is readable already
}

int service_post(struct rmj_service *service, struct message *message)
{
    pthread_mutex_lock(&service->queue_lock);
    while (service->queue_count >= QUEUE_MAX && !service->closed) {
        pthread_cond_wait(&service->queue_room, &service->queue_lock);
    }
    int closed = service->closed;
    if (!closed) {
        if (service->last == NULL) {
            service->first = message;
        } else {
            service->last->next = message;
        }
        service->last = message;
        service->queue_count++;
    }
    pthread_mutex_unlock(&service->queue_lock);
    if (closed) {
        if (message->call != NULL) {
            call_fail(message->call, RMJ_AGAIN, "the service is stopping; try again");
        }
        message_free(message);
        return 0;
    }
    wake(service);
    return 1;
}

struct message *service_take_messages(struct rmj_service *service, size_t max)
{
    pthread_mutex_lock(&service->queue_lock);
    struct message *list = service->first, *end = NULL;
    size_t count = 0;
    for (struct message *next = list; next != NULL && count < max; next = next->next) {
        end = next;
        count++;
    }
    if (end != NULL) {
        service->first = end->next;
        service->last = end->next == NULL ? NULL : service->last;
        end->next = NULL;
        service->queue_count -= count;
        pthread_cond_broadcast(&service->queue_room);
    }
    int more = service->first != NULL;
    pthread_mutex_unlock(&service->queue_lock);
    if (more) {
        wake(service);
    }
    return list;
}

void service_close_queue(struct rmj_service *service)
{
    pthread_mutex_lock(&service->queue_lock);
    service->closed = 1;
    struct message *list = service->first;
    service->first = service->last = NULL;
    service->queue_count = 0;
    pthread_cond_broadcast(&service->queue_room);
    pthread_mutex_unlock(&service->queue_lock);
    while (list != NULL) {
        struct message *next = list->next;
        if (list->call != NULL) {
            call_fail(list->call, RMJ_AGAIN, "the service is stopping; try again");
        }
        message_free(list);
        list = next;
    }
}

void rmj_service_request_stop(struct rmj_service *service)
{
    pthread_mutex_lock(&service->queue_lock);
    service->stop_wanted = 1;
    pthread_mutex_unlock(&service->queue_lock);
    wake(service);
}
