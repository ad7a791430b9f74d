// A server with two methods for public clients to try: example_server ADDRESS...; prints each bound address and serves
// until it is terminated.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/server.h"

static void handle_get(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    (void)context;
    Rmjob__V1__Job job = RMJOB__V1__JOB__INIT;
    job.id = ((const Rmjob__V1__GetJobRequest *)request)->job;
    if (job.id != NULL && strcmp(job.id, "none") == 0) {
        struct rmj_error err = {0};
        (void)rmj_fail(&err, RMJ_NOT_FOUND, "no job none");
        rmj_call_fail(call, &err, NULL);
        return;
    }
    rmj_call_reply(call, &job.base);
}

static void handle_watch(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    (void)context;
    (void)request;
    for (uint64_t i = 1; i <= 3; i++) {
        Rmjob__V1__Event event = RMJOB__V1__EVENT__INIT;
        event.has_sequence = 1;
        event.sequence = i;
        if (rmj_call_send(call, &event.base) != RMJ_OK) {
            break;
        }
    }
    rmj_call_finish(call, NULL);
}

int main(int argc, char **argv)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    const struct rmj_rpc_method methods[] = {
        {.service = "rmjob.v1.Jobs",
         .method = "Get",
         .request = &rmjob__v1__get_job_request__descriptor,
         .response = &rmjob__v1__job__descriptor,
         .handler = handle_get},
        {.service = "rmjob.v1.Jobs",
         .method = "Watch",
         .request = &rmjob__v1__watch_request__descriptor,
         .response = &rmjob__v1__event__descriptor,
         .server_streaming = 1,
         .handler = handle_watch},
    };
    const struct rmj_rpc_server_options options = {
        .addresses = (const char *const *)(argv + 1),
        .address_count = (size_t)(argc - 1),
        .methods = methods,
        .method_count = RMJ_COUNT(methods),
    };
    struct rmj_rpc_server *server = NULL;
    struct rmj_error err = {0};
    if (rmj_rpc_server_start(&server, &options, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < options.address_count; i++) {
        printf("%s\n", rmj_rpc_server_address(server, i));
    }
    fflush(stdout);
    int signal_number = 0;
    sigwait(&mask, &signal_number);
    rmj_rpc_server_stop(server, 1000);
    return 0;
}
