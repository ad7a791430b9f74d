// A service that answers GetServerInfo with a version and protocol of one's choice, and nothing else.
//
//   cli_fake_server ADDRESS VERSION PROTOCOL     prints "ready", serves until standard input ends
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/server.h"

struct answer {
    char *version;
    uint32_t protocol;
};

static void get_server_info(void *context, struct rmj_call *call, const ProtobufCMessage *request)
{
    (void)request;
    const struct answer *answer = context;
    Rmjob__V1__ServerInfo info = RMJOB__V1__SERVER_INFO__INIT;
    info.version = answer->version;
    info.has_protocol = 1;
    info.protocol = answer->protocol;
    rmj_call_reply(call, &info.base);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: cli_fake_server ADDRESS VERSION PROTOCOL\n");
        return 2;
    }
    struct answer answer = {.version = argv[2], .protocol = (uint32_t)atoi(argv[3])};
    const struct rmj_rpc_method method = {
        .service = "rmjob.v1.Jobs",
        .method = "GetServerInfo",
        .request = &rmjob__v1__server_info_request__descriptor,
        .response = &rmjob__v1__server_info__descriptor,
        .handler = get_server_info,
        .context = &answer,
    };
    const char *const addresses[] = {argv[1]};
    const struct rmj_rpc_server_options options = {
        .addresses = addresses, .address_count = 1, .methods = &method, .method_count = 1};
    struct rmj_rpc_server *server = NULL;
    struct rmj_error err = {0};
    if (rmj_rpc_server_start(&server, &options, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    printf("ready\n");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    rmj_rpc_server_stop(server, 1000);
    return 0;
}
