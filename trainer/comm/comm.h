// Communication between the ranks of one generation, with deadlines and abort. CPU ranks: a full mesh of TCP
// connections (comm/tcp.c). The contract is NCCL's non-blocking one, so that the GPU backend can stand beside it.
//
// All calls are collective, in the same order on every rank, from one thread. Any failure (peer gone, deadline, abort,
// wrong secret) leaves the communicator unusable: destroy it and go to the next generation. Integer sums are exact, so
// results do not depend on the order in which messages arrive.
#ifndef RMJ_TRAINER_COMM_COMM_H
#define RMJ_TRAINER_COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define RMJ_COMM_WORLD_MAX 64u

struct rmj_comm;
struct rmj_comm_listener;

// Listens on a free port of `host` (NULL: 127.0.0.1); one for the life of a trainer, over generations.
RMJ_MUST_USE enum rmj_status rmj_comm_listen(struct rmj_comm_listener **listener, const char *host,
                                             struct rmj_error *err);
void rmj_comm_listener_close(struct rmj_comm_listener *listener);
const char *rmj_comm_listener_address(const struct rmj_comm_listener *listener); // "127.0.0.1:40213"

struct rmj_comm_options {
    struct rmj_comm_listener *listener;
    uint32_t rank, world;
    const char *const *addresses; // [world]
    uint32_t generation;
    const void *secret; // a peer must prove that it knows it (HMAC over a challenge)
    size_t secret_size;
    int64_t connect_deadline_ms;
    int64_t deadline_ms; // of one collective; may be changed with rmj_comm_set_deadline
    // Aborts like rmj_comm_abort once it is readable, already while the mesh is being made; -1 for none. An eventfd of
    // the caller, never read here, so one write lasts.
    int abort_fd;
};
// Errors: RMJ_PEER_LOST (names the rank), RMJ_TIMEOUT, RMJ_CANCELLED (aborted), RMJ_DENIED.
RMJ_MUST_USE enum rmj_status rmj_comm_create(struct rmj_comm **comm, const struct rmj_comm_options *options,
                                             struct rmj_error *err);
void rmj_comm_destroy(struct rmj_comm *comm);
void rmj_comm_set_deadline(struct rmj_comm *comm, int64_t deadline_ms);
// From any thread, at any time: calls in progress and later ones fail with RMJ_CANCELLED at once.
void rmj_comm_abort(struct rmj_comm *comm);
uint32_t rmj_comm_rank(const struct rmj_comm *comm);
uint32_t rmj_comm_world(const struct rmj_comm *comm);
// Rank that the last failure points at, or -1.
int rmj_comm_suspect(const struct rmj_comm *comm);
// Number of the collective in progress or last done, for heartbeats. Threads: any.
uint64_t rmj_comm_sequence(const struct rmj_comm *comm);

// Everyone's `size` bytes to everyone: all is [world * size], in rank order.
RMJ_MUST_USE enum rmj_status rmj_comm_all_gather(struct rmj_comm *comm, const void *mine, size_t size, void *all,
                                                 struct rmj_error *err);
// Element-wise maximum of int16 values, in place.
RMJ_MUST_USE enum rmj_status rmj_comm_all_max_i16(struct rmj_comm *comm, int16_t *values, size_t count,
                                                  struct rmj_error *err);
// Pieces of unequal size between any two ranks. For each destination d != rank, `send(context, d, ...)` hands out the
// next piece to go there until it returns 0; for each source s, `receive(context, s, ...)` is asked for where the next
// piece goes and told when it is whole. Both sides know all piece sizes beforehand.
struct rmj_comm_exchange {
    void *context;
    // Next piece for rank `to`: 1 and *bytes, *size; 0 when there is none left. The memory stays valid until the next
    // call for the same rank, or until the exchange returns. Not asked again after a 0.
    int (*next_send)(void *context, uint32_t to, const void **bytes, size_t *size);
    // Where the next piece of rank `from` goes: 1 and *bytes, *size; 0 when nothing more comes.
    int (*next_receive)(void *context, uint32_t from, void **bytes, size_t *size);
    // The piece asked for last by next_receive is whole.
    void (*received)(void *context, uint32_t from);
};
RMJ_MUST_USE enum rmj_status rmj_comm_exchange(struct rmj_comm *comm, const struct rmj_comm_exchange *exchange,
                                               struct rmj_error *err);

#endif
