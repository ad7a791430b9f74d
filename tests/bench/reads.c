// Reads a job's status again and again through one connection and prints reads a second: for service.py.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rpc/client.h"

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: rmjob-bench-reads ADDRESS JOB COUNT\n");
        return 2;
    }
    struct rmj_rpc_client *client = NULL;
    struct rmj_error err = {0};
    if (rmj_rpc_client_create(&client, argv[1], NULL, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return rmj_status_exit_code(err.status);
    }
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = argv[2];
    long count = strtol(argv[3], NULL, 10);
    double begin = 0;
    for (long i = -10; i < count; i++) {
        begin = i == 0 ? rmj_clock_mono_seconds() : begin;
        ProtobufCMessage *reply = NULL;
        if (rmj_rpc_call(client, "/rmjob.v1.Jobs/Get", &request.base, &rmjob__v1__job__descriptor, 5000, &reply, NULL,
                         &err) != RMJ_OK) {
            fprintf(stderr, "%s\n", err.message);
            return rmj_status_exit_code(err.status);
        }
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    printf("%.1f\n", (double)count / (rmj_clock_mono_seconds() - begin));
    rmj_rpc_client_destroy(client);
    return 0;
}
