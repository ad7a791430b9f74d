// What comm/mesh.c (making the connections) and comm/tcp.c (using them) share.
#ifndef RMJ_TRAINER_COMM_INTERNAL_H
#define RMJ_TRAINER_COMM_INTERNAL_H

#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>

#include "trainer/comm/comm.h"
#include "trainer/comm/wire.h"

// Bytes of max-reduction scratch a peer.
#define RMJ_COMM_SCRATCH_BYTES 65536u

struct rmj_comm_listener {
    int fd;
    char address[80];
};

// One direction of one peer within a collective.
struct rmj_comm_flow {
    char *bytes; // piece in progress
    size_t size, done;
    int header; // the collective header is what goes first
    int finished;
};

struct rmj_comm {
    // Immutable once the mesh stands.
    uint32_t rank, world;
    uint32_t generation;
    int fds[RMJ_COMM_WORLD_MAX]; // -1 for itself
    int own_abort_fd;            // eventfd
    int abort_fd;                // of the caller, or -1
    int16_t *scratch;            // [world * RMJ_COMM_SCRATCH_BYTES / 2]

    // Owner thread.
    int64_t deadline_ms;
    int broken; // a collective failed: connections are in the middle of something
    struct rmj_comm_flow send[RMJ_COMM_WORLD_MAX], receive[RMJ_COMM_WORLD_MAX];
    struct rmj_wire_collective header_out;
    struct rmj_wire_collective header_in[RMJ_COMM_WORLD_MAX];

    // Any thread.
    atomic_int suspect;
    atomic_ullong sequence;
};

// Makes every connection of the mesh. RMJ_PEER_LOST, RMJ_TIMEOUT, RMJ_CANCELLED, RMJ_DENIED.
RMJ_MUST_USE enum rmj_status rmj_comm_mesh_connect(struct rmj_comm *comm, const struct rmj_comm_options *options,
                                                   struct rmj_error *err);
// Waits for any of fds or for an abort, until deadline (rmj_clock_mono_ms). Puts the abort descriptors behind the
// given ones: pfds has room for count + 2. RMJ_CANCELLED, RMJ_TIMEOUT; RMJ_OK also when nothing happened.
RMJ_MUST_USE enum rmj_status rmj_comm_wait(struct rmj_comm *comm, struct pollfd *pfds, size_t count, int64_t deadline,
                                           struct rmj_error *err);

#endif
