#include "proto/rpc/status_map.h"

#include <string.h>

static const grpc_status_code code_of_status[RMJ_STATUS_COUNT] = {
    [RMJ_OK] = GRPC_STATUS_OK,
    [RMJ_INVALID] = GRPC_STATUS_INVALID_ARGUMENT,
    [RMJ_DATA] = GRPC_STATUS_FAILED_PRECONDITION,
    [RMJ_NOT_FOUND] = GRPC_STATUS_NOT_FOUND,
    [RMJ_CONFLICT] = GRPC_STATUS_ALREADY_EXISTS,
    [RMJ_DENIED] = GRPC_STATUS_PERMISSION_DENIED,
    [RMJ_AGAIN] = GRPC_STATUS_UNAVAILABLE,
    [RMJ_TIMEOUT] = GRPC_STATUS_DEADLINE_EXCEEDED,
    [RMJ_CANCELLED] = GRPC_STATUS_CANCELLED,
    [RMJ_CORRUPT] = GRPC_STATUS_DATA_LOSS,
    [RMJ_FULL] = GRPC_STATUS_RESOURCE_EXHAUSTED,
    [RMJ_NO_MEMORY] = GRPC_STATUS_RESOURCE_EXHAUSTED,
    [RMJ_IO] = GRPC_STATUS_INTERNAL,
    [RMJ_UNREACHABLE] = GRPC_STATUS_UNAVAILABLE,
    [RMJ_PEER_LOST] = GRPC_STATUS_ABORTED,
    [RMJ_DEVICE] = GRPC_STATUS_INTERNAL,
    [RMJ_GATE] = GRPC_STATUS_FAILED_PRECONDITION,
    [RMJ_INTERNAL] = GRPC_STATUS_INTERNAL,
};

// What a code means when no trailer says it more exactly.
static const struct {
    const char *name;
    enum rmj_status status;
} code_table[] = {
    [GRPC_STATUS_OK] = {"OK", RMJ_OK},
    [GRPC_STATUS_CANCELLED] = {"CANCELLED", RMJ_CANCELLED},
    [GRPC_STATUS_UNKNOWN] = {"UNKNOWN", RMJ_INTERNAL},
    [GRPC_STATUS_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", RMJ_INVALID},
    [GRPC_STATUS_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", RMJ_TIMEOUT},
    [GRPC_STATUS_NOT_FOUND] = {"NOT_FOUND", RMJ_NOT_FOUND},
    [GRPC_STATUS_ALREADY_EXISTS] = {"ALREADY_EXISTS", RMJ_CONFLICT},
    [GRPC_STATUS_PERMISSION_DENIED] = {"PERMISSION_DENIED", RMJ_DENIED},
    [GRPC_STATUS_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", RMJ_FULL},
    [GRPC_STATUS_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", RMJ_INVALID},
    [GRPC_STATUS_ABORTED] = {"ABORTED", RMJ_AGAIN},
    [GRPC_STATUS_OUT_OF_RANGE] = {"OUT_OF_RANGE", RMJ_INVALID},
    [GRPC_STATUS_UNIMPLEMENTED] = {"UNIMPLEMENTED", RMJ_INVALID},
    [GRPC_STATUS_INTERNAL] = {"INTERNAL", RMJ_INTERNAL},
    [GRPC_STATUS_UNAVAILABLE] = {"UNAVAILABLE", RMJ_UNREACHABLE},
    [GRPC_STATUS_DATA_LOSS] = {"DATA_LOSS", RMJ_CORRUPT},
    [GRPC_STATUS_UNAUTHENTICATED] = {"UNAUTHENTICATED", RMJ_DENIED},
};

grpc_status_code rmj_rpc_code_of(enum rmj_status status)
{
    RMJ_ASSERT((unsigned)status < RMJ_STATUS_COUNT);
    return code_of_status[status];
}

enum rmj_status rmj_rpc_status_of(grpc_status_code code, const char *name, size_t name_size)
{
    if (code == GRPC_STATUS_OK) {
        return RMJ_OK;
    }
    for (int s = RMJ_OK + 1; name != NULL && s < RMJ_STATUS_COUNT; s++) {
        const char *own = rmj_status_name((enum rmj_status)s);
        if (strlen(own) == name_size && memcmp(own, name, name_size) == 0) {
            return (enum rmj_status)s;
        }
    }
    return (unsigned)code < RMJ_COUNT(code_table) ? code_table[code].status : RMJ_INTERNAL;
}

const char *rmj_rpc_code_name(grpc_status_code code)
{
    return (unsigned)code < RMJ_COUNT(code_table) ? code_table[code].name : "code";
}
