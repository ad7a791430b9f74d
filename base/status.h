// Status codes and error reports: how every fallible function in rmjob fails.
//
// A fallible function returns enum rmj_status and takes a `struct rmj_error *err` last. The function that meets the
// cause fills `err` with a whole message (what, where, the mend; lower case, no full stop); callers above may add
// context in front with rmj_context and never replace it. `err` may be NULL where the caller does not care.
#ifndef RMJ_BASE_STATUS_H
#define RMJ_BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Classes that a caller can act on.
enum rmj_status {
    RMJ_OK = 0,
    RMJ_INVALID,     // input is wrong: spec, flags, arguments
    RMJ_DATA,        // training or evaluation data, model or tokenizer is wrong
    RMJ_NOT_FOUND,   // the named thing does not exist
    RMJ_CONFLICT,    // it exists already and differs
    RMJ_DENIED,      // no permission or wrong credentials
    RMJ_AGAIN,       // would succeed later: throttled, busy
    RMJ_TIMEOUT,     // a deadline passed
    RMJ_CANCELLED,   // asked to stop
    RMJ_CORRUPT,     // bytes do not match their digest or layout
    RMJ_FULL,        // no space, over a quota or a bound
    RMJ_NO_MEMORY,   // memory
    RMJ_IO,          // the operating system or the store failed
    RMJ_UNREACHABLE, // the other side cannot be reached
    RMJ_PEER_LOST,   // a rank of this generation is gone
    RMJ_DEVICE,      // an accelerator failed
    RMJ_GATE,        // the gate said no
    RMJ_INTERNAL,    // a fault of ours
    RMJ_STATUS_COUNT
};

#define RMJ_ERROR_MESSAGE_SIZE 1024

// Fixed size, no allocation; may live on the stack. Zero-initialise: `struct rmj_error err = {0};`
struct rmj_error {
    enum rmj_status status;
    int origin_code;         // errno, HTTP, curl, gRPC, ... code of the cause; 0 when there is none
    const char *origin;      // "errno", "http", "curl", "sqlite", ...; NULL when there is none
    const char *source_file; // where the cause was set
    int source_line;
    char message[RMJ_ERROR_MESSAGE_SIZE];
};

// Name of a status for logs, for instance "not_found". Never NULL.
const char *rmj_status_name(enum rmj_status status);

// Process exit code of a status, as DESIGN section 12 lists them.
int rmj_status_exit_code(enum rmj_status status);

enum rmj_status rmj_error_set(struct rmj_error *err, const char *file, int line, enum rmj_status status,
                              const char *origin, int origin_code, const char *format, ...)
    __attribute__((format(printf, 7, 8)));

// Puts "text: " in front of the message, keeps everything else, returns err's status (RMJ_INTERNAL when err is NULL).
enum rmj_status rmj_context(struct rmj_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

void rmj_error_clear(struct rmj_error *err);

// `return rmj_fail(err, RMJ_INVALID, "%s:%d: ...", ...)`
#define rmj_fail(err, status, ...) rmj_error_set((err), __FILE__, __LINE__, (status), NULL, 0, __VA_ARGS__)
// The same with errno as origin; call right after the failing call. Appends ": strerror".
#define rmj_fail_errno(err, status, ...) rmj_error_set((err), __FILE__, __LINE__, (status), "errno", errno, __VA_ARGS__)
// The same with another origin, for instance ("http", 503).
#define rmj_fail_origin(err, status, origin, code, ...)                                                                \
    rmj_error_set((err), __FILE__, __LINE__, (status), (origin), (code), __VA_ARGS__)

// Return on failure. For functions that hold nothing.
#define RMJ_TRY(expression)                                                                                            \
    do {                                                                                                               \
        enum rmj_status rmj_try_status_ = (expression);                                                                \
        if (rmj_try_status_ != RMJ_OK) {                                                                               \
            return rmj_try_status_;                                                                                    \
        }                                                                                                              \
    } while (0)

// Go to `out` on failure. The function has `enum rmj_status status = RMJ_OK;` and one label `out:`.
#define RMJ_GO(expression)                                                                                             \
    do {                                                                                                               \
        status = (expression);                                                                                         \
        if (status != RMJ_OK) {                                                                                        \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

// What the programmer believes; stays on in release and never looks at outside input.
#define RMJ_ASSERT(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            rmj_assert_failed(__FILE__, __LINE__, #condition);                                                         \
        }                                                                                                              \
    } while (0)

__attribute__((noreturn)) void rmj_assert_failed(const char *file, int line, const char *condition);

#define RMJ_MUST_USE __attribute__((warn_unused_result))
#define RMJ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#ifdef __cplusplus
}
#endif
#endif
