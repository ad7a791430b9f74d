#include <string.h>

#include "proto/grpc/health/v1/health.pb-c.h"
#include "proto/rpc/internal.h"

// Every service this program has is served from start to stop, so the state is known by the name alone.
static Grpc__Health__V1__HealthCheckResponse__ServingStatus state_of(const struct rmj_rpc_server *server,
                                                                     const ProtobufCMessage *request)
{
    const char *service = ((const Grpc__Health__V1__HealthCheckRequest *)request)->service;
    if (service[0] != '\0' && !rmj_rpc_server_has_service(server, service)) {
        return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    }
    return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
}

void rmj_rpc_health_check(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = state_of(context, request);
    if (response.status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_NOT_FOUND, "this server has no service %.200s",
                       ((const Grpc__Health__V1__HealthCheckRequest *)request)->service);
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &response.base);
}

static void release_watch(void *context, struct rmj_call *call)
{
    (void)context;
    rmj_call_release(call);
}

void rmj_rpc_health_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = state_of(context, request);
    (void)rmj_call_send(call, &response.base); // a client that is gone is released below
    rmj_call_retain(call);
    rmj_call_on_cancel(call, release_watch, NULL);
}

void rmj_rpc_health_stopping(struct rmj_call *call)
{
    if (call->entry->handler == rmj_rpc_health_watch) {
        Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
        response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
        (void)rmj_call_send(call, &response.base);
    }
}
