// rmjobd as a library: everything but the command line, so that tests can run it in their own process.
//
//   gRPC workers --\                                     /--> directives to ranks, replies, processes
//   chores thread --> bounded queue --> owner thread ---+
//   process exits -/     (messages)    scheduler, batch   \--> one SQLite transaction, before any of these
//
// The owner thread alone holds the scheduler and what is live; others send messages and hold ids. Read owner.c first.
#ifndef RMJ_SERVICE_API_SERVICE_H
#define RMJ_SERVICE_API_SERVICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct rmj_service;

struct rmj_service_options {
    const char *state_directory;
    const char *const *addresses; // besides unix:<state>/rmjobd.sock, which is always there
    size_t address_count;
    const char *token; // bearer token that network callers must have; NULL only without network addresses
    uint32_t slots;    // rank processes at once; 0: the machine's cores
    int64_t grace_ms;
    int stop_fd;               // becomes readable when the service is to stop (a signalfd); -1: none
    const char *rank_program;  // NULL: rmj_launcher_find_rank
    int64_t check_deadline_ms; // 0: 10,000
};

// Makes or opens the state directory (0700), takes its lock, recovers every job, and listens. Errors: RMJ_CONFLICT
// (another rmjobd has the directory, or the address is in use), RMJ_INVALID, RMJ_DENIED, RMJ_FULL, RMJ_IO.
// Block SIGTERM and SIGINT before.
RMJ_MUST_USE enum rmj_status rmj_service_start(struct rmj_service **service, const struct rmj_service_options *options,
                                               struct rmj_error *err);
size_t rmj_service_address_count(const struct rmj_service *service);
const char *rmj_service_address(const struct rmj_service *service, size_t index);
// The owner's loop, in the calling thread, until asked to stop. Fails when the state can no longer be written in a way
// that waiting does not mend; ranks go on then, and a new rmjobd picks them up.
RMJ_MUST_USE enum rmj_status rmj_service_run(struct rmj_service *service, struct rmj_error *err);
// From any thread.
void rmj_service_request_stop(struct rmj_service *service);
// After run: stops the server within grace, leaves ranks running, frees everything. 0 when a chore (an upload, say) did
// not end in time: the caller should end the process then, nothing was freed.
int rmj_service_stop(struct rmj_service *service);

#endif
