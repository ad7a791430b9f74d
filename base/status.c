#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} status_table[RMJ_STATUS_COUNT] = {
    [RMJ_OK] = {"ok", 0},
    [RMJ_INVALID] = {"invalid", 2},
    [RMJ_DATA] = {"data", 6},
    [RMJ_NOT_FOUND] = {"not_found", 2},
    [RMJ_CONFLICT] = {"conflict", 2},
    [RMJ_DENIED] = {"denied", 5},
    [RMJ_AGAIN] = {"again", 7},
    [RMJ_TIMEOUT] = {"timeout", 124},
    [RMJ_CANCELLED] = {"cancelled", 7},
    [RMJ_CORRUPT] = {"corrupt", 6},
    [RMJ_FULL] = {"full", 7},
    [RMJ_NO_MEMORY] = {"no_memory", 7},
    [RMJ_IO] = {"io", 7},
    [RMJ_UNREACHABLE] = {"unreachable", 4},
    [RMJ_PEER_LOST] = {"peer_lost", 7},
    [RMJ_DEVICE] = {"device", 7},
    [RMJ_GATE] = {"gate", 3},
    [RMJ_INTERNAL] = {"internal", 1},
};

const char *rmj_status_name(enum rmj_status status)
{
    RMJ_ASSERT((unsigned)status < RMJ_STATUS_COUNT);
    return status_table[status].name;
}

int rmj_status_exit_code(enum rmj_status status)
{
    RMJ_ASSERT((unsigned)status < RMJ_STATUS_COUNT);
    return status_table[status].exit_code;
}

enum rmj_status rmj_error_set(struct rmj_error *err, const char *file, int line, enum rmj_status status,
                              const char *origin, int origin_code, const char *format, ...)
{
    if (err == NULL) {
        return status;
    }
    // The message may quote err's own old one, so it is made aside.
    char message[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (origin != NULL && strcmp(origin, "errno") == 0 && length >= 0 && (size_t)length < sizeof message) {
        char text[128];
        // The GNU variant may return a static string instead of filling the buffer.
        const char *reason = strerror_r(origin_code, text, sizeof text);
        snprintf(message + length, sizeof message - (size_t)length, ": %s", reason);
    }
    *err = (struct rmj_error){
        .status = status,
        .origin_code = origin_code,
        .origin = origin,
        .source_file = file,
        .source_line = line,
    };
    memcpy(err->message, message, strlen(message) + 1);
    return status;
}

enum rmj_status rmj_context(struct rmj_error *err, const char *format, ...)
{
    if (err == NULL) {
        return RMJ_INTERNAL;
    }
    char context[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    char whole[2 * RMJ_ERROR_MESSAGE_SIZE + 4];
    snprintf(whole, sizeof whole, "%s: %s", context, err->message);
    whole[sizeof err->message - 1] = '\0';
    memcpy(err->message, whole, strlen(whole) + 1);
    return err->status;
}

void rmj_error_clear(struct rmj_error *err)
{
    if (err != NULL) {
        *err = (struct rmj_error){0};
    }
}

void rmj_assert_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
