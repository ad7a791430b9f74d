// Collectives over a full mesh of TCP connections. One poll loop moves all flows at once; every collective starts with
// a header, so that ranks that disagree on where they are find out before any data is misread.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "trainer/comm/internal.h"

enum collective { COLLECTIVE_ALL_GATHER = 1, COLLECTIVE_ALL_MAX, COLLECTIVE_EXCHANGE };

static enum rmj_status fail_peer(struct rmj_comm *comm, enum rmj_status status, uint32_t peer, const char *what,
                                 struct rmj_error *err)
{
    atomic_store(&comm->suspect, (int)peer);
    return rmj_fail(err, status, "rank %u of generation %u: %s", peer, comm->generation, what);
}

enum rmj_status rmj_comm_wait(struct rmj_comm *comm, struct pollfd *pfds, size_t count, int64_t deadline,
                              struct rmj_error *err)
{
    pfds[count] = (struct pollfd){.fd = comm->own_abort_fd, .events = POLLIN};
    pfds[count + 1] = (struct pollfd){.fd = comm->abort_fd, .events = POLLIN};
    int64_t left = deadline - rmj_clock_mono_ms();
    int ready = poll(pfds, count + 2, left < 0 ? 0 : left > 60000 ? 60000 : (int)left);
    if (ready < 0 && errno != EINTR) {
        return rmj_fail_errno(err, RMJ_IO, "waiting for peers");
    }
    if (ready > 0 && (pfds[count].revents != 0 || pfds[count + 1].revents != 0)) {
        return rmj_fail(err, RMJ_CANCELLED, "communication of generation %u was aborted", comm->generation);
    }
    if (ready <= 0) {
        for (size_t i = 0; i < count; i++) {
            pfds[i].revents = 0;
        }
        if (rmj_clock_mono_ms() >= deadline) {
            return rmj_fail(err, RMJ_TIMEOUT, "deadline passed");
        }
    }
    return RMJ_OK;
}

// Asks for the next piece of a flow that has moved its last one whole.
static void next_piece(const struct rmj_comm_exchange *exchange, struct rmj_comm_flow *flow, uint32_t peer, int sending)
{
    while (!flow->finished && flow->done == flow->size) {
        int more;
        if (sending) {
            const void *bytes = NULL;
            more = exchange->next_send(exchange->context, peer, &bytes, &flow->size);
            flow->bytes = (char *)(uintptr_t)bytes; // never written through: it is a sending flow
        } else {
            void *bytes = NULL;
            more = exchange->next_receive(exchange->context, peer, &bytes, &flow->size);
            flow->bytes = bytes;
        }
        flow->done = 0;
        if (!more) {
            flow->finished = 1;
            flow->size = 0;
        } else if (flow->size == 0 && !sending) {
            exchange->received(exchange->context, peer);
        }
    }
}

static enum rmj_status check_header(struct rmj_comm *comm, uint32_t peer, struct rmj_error *err)
{
    const struct rmj_wire_collective *in = &comm->header_in[peer];
    if (memcmp(in, &comm->header_out, sizeof *in) != 0) {
        atomic_store(&comm->suspect, (int)peer);
        return rmj_fail(err, RMJ_INTERNAL, "rank %u is in collective %llu of kind %u, this rank in %llu of kind %u",
                        peer, (unsigned long long)in->sequence, in->kind, (unsigned long long)comm->header_out.sequence,
                        comm->header_out.kind);
    }
    return RMJ_OK;
}

static enum rmj_status move_out(struct rmj_comm *comm, const struct rmj_comm_exchange *exchange, uint32_t peer,
                                struct rmj_error *err)
{
    struct rmj_comm_flow *flow = &comm->send[peer];
    while (!flow->finished) {
        ssize_t n =
            send(comm->fds[peer], flow->bytes + flow->done, flow->size - flow->done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return RMJ_OK;
            }
            return fail_peer(comm, RMJ_PEER_LOST, peer, "connection broke while sending", err);
        }
        flow->done += (size_t)n;
        if (flow->done == flow->size) {
            next_piece(exchange, flow, peer, 1);
        }
    }
    return RMJ_OK;
}

static enum rmj_status move_in(struct rmj_comm *comm, const struct rmj_comm_exchange *exchange, uint32_t peer,
                               struct rmj_error *err)
{
    struct rmj_comm_flow *flow = &comm->receive[peer];
    while (!flow->finished) {
        ssize_t n = recv(comm->fds[peer], flow->bytes + flow->done, flow->size - flow->done, MSG_DONTWAIT);
        if (n == 0) {
            return fail_peer(comm, RMJ_PEER_LOST, peer, "closed its connection", err);
        }
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                return RMJ_OK;
            }
            return fail_peer(comm, RMJ_PEER_LOST, peer, "connection broke while receiving", err);
        }
        flow->done += (size_t)n;
        if (flow->done < flow->size) {
            continue;
        }
        if (flow->header) {
            flow->header = 0;
            RMJ_TRY(check_header(comm, peer, err));
        } else {
            exchange->received(exchange->context, peer);
        }
        next_piece(exchange, flow, peer, 0);
    }
    return RMJ_OK;
}

static void start_flows(struct rmj_comm *comm, enum collective kind)
{
    comm->header_out = (struct rmj_wire_collective){
        .magic = RMJ_WIRE_MAGIC, .kind = (uint32_t)kind, .sequence = atomic_load(&comm->sequence)};
    for (uint32_t peer = 0; peer < comm->world; peer++) {
        int self = peer == comm->rank;
        comm->send[peer] = (struct rmj_comm_flow){
            .bytes = (char *)&comm->header_out, .size = sizeof comm->header_out, .header = 1, .finished = self};
        comm->receive[peer] = (struct rmj_comm_flow){.bytes = (char *)&comm->header_in[peer],
                                                     .size = sizeof comm->header_in[peer],
                                                     .header = 1,
                                                     .finished = self};
    }
}

// Fills pfds with the peers that still have something to move; returns how many.
static size_t watch_peers(struct rmj_comm *comm, struct pollfd *pfds, uint32_t *peers)
{
    size_t count = 0;
    for (uint32_t peer = 0; peer < comm->world; peer++) {
        int out = !comm->send[peer].finished, in = !comm->receive[peer].finished;
        if (out || in) {
            peers[count] = peer;
            pfds[count++] = (struct pollfd){.fd = comm->fds[peer],
                                            .events = (short)(POLLRDHUP | (out ? POLLOUT : 0) | (in ? POLLIN : 0))};
        }
    }
    return count;
}

static enum rmj_status move_all(struct rmj_comm *comm, const struct rmj_comm_exchange *exchange, struct rmj_error *err)
{
    struct pollfd pfds[RMJ_COMM_WORLD_MAX + 2];
    uint32_t peers[RMJ_COMM_WORLD_MAX];
    int64_t deadline = rmj_clock_mono_ms() + comm->deadline_ms;
    for (;;) {
        size_t count = watch_peers(comm, pfds, peers);
        // Polled even with no peers left, so that an abort also ends a world of one.
        enum rmj_status status = rmj_comm_wait(comm, pfds, count, count == 0 ? 0 : deadline, err);
        if (count == 0) {
            return status == RMJ_TIMEOUT ? RMJ_OK : status;
        }
        if (status == RMJ_TIMEOUT) {
            // The first peer that owes data; one that only does not take ours is second choice.
            size_t late = 0;
            while (late < count - 1 && comm->receive[peers[late]].finished) {
                late++;
            }
            late = comm->receive[peers[late]].finished ? 0 : late;
            return fail_peer(comm, RMJ_TIMEOUT, peers[late], "does not answer within the deadline", err);
        }
        RMJ_TRY(status);
        for (size_t i = 0; i < count; i++) {
            uint32_t peer = peers[i];
            if (pfds[i].revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) {
                RMJ_TRY(move_in(comm, exchange, peer, err));
                // Nothing more is due from it, but it is gone before it took what is due to it.
                if ((pfds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) && !comm->send[peer].finished &&
                    comm->receive[peer].finished) {
                    return fail_peer(comm, RMJ_PEER_LOST, peer, "closed its connection", err);
                }
            }
            if (pfds[i].revents & POLLOUT) {
                RMJ_TRY(move_out(comm, exchange, peer, err));
            }
        }
    }
}

static enum rmj_status run(struct rmj_comm *comm, enum collective kind, const struct rmj_comm_exchange *exchange,
                           struct rmj_error *err)
{
    if (comm->broken) {
        return rmj_fail(err, RMJ_CANCELLED, "communication of generation %u has failed before", comm->generation);
    }
    atomic_fetch_add(&comm->sequence, 1);
    start_flows(comm, kind);
    enum rmj_status status = move_all(comm, exchange, err);
    comm->broken = status != RMJ_OK;
    return status;
}

enum rmj_status rmj_comm_exchange(struct rmj_comm *comm, const struct rmj_comm_exchange *exchange,
                                  struct rmj_error *err)
{
    return run(comm, COLLECTIVE_EXCHANGE, exchange, err);
}

struct gather {
    const char *mine;
    char *all;
    size_t size;
    uint8_t sent[RMJ_COMM_WORLD_MAX], taken[RMJ_COMM_WORLD_MAX];
};

static int gather_send(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct gather *gather = context;
    *bytes = gather->mine;
    *size = gather->size;
    return gather->sent[to]++ == 0;
}

static int gather_receive(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct gather *gather = context;
    *bytes = gather->all + from * gather->size;
    *size = gather->size;
    return gather->taken[from]++ == 0;
}

static void gather_received(void *context, uint32_t from)
{
    (void)context;
    (void)from;
}

enum rmj_status rmj_comm_all_gather(struct rmj_comm *comm, const void *mine, size_t size, void *all,
                                    struct rmj_error *err)
{
    struct gather gather = {.mine = mine, .all = all, .size = size};
    char *own = gather.all + comm->rank * size;
    if (own != mine && size != 0) {
        memmove(own, mine, size);
    }
    struct rmj_comm_exchange exchange = {&gather, gather_send, gather_receive, gather_received};
    return run(comm, COLLECTIVE_ALL_GATHER, &exchange, err);
}

// Values arrive in scratch-sized pieces and are folded into `values` in place, also while `values` is being sent: a
// maximum taken too early is still at most the result.
struct maximum {
    struct rmj_comm *comm;
    int16_t *values;
    size_t count;
    size_t taken[RMJ_COMM_WORLD_MAX]; // values folded in
    size_t piece[RMJ_COMM_WORLD_MAX];
    uint8_t sent[RMJ_COMM_WORLD_MAX];
};

static int16_t *maximum_scratch(struct maximum *maximum, uint32_t from)
{
    return maximum->comm->scratch + from * (RMJ_COMM_SCRATCH_BYTES / sizeof(int16_t));
}

static int maximum_send(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct maximum *maximum = context;
    *bytes = maximum->values;
    *size = maximum->count * sizeof(int16_t);
    return maximum->sent[to]++ == 0;
}

static int maximum_receive(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct maximum *maximum = context;
    size_t left = maximum->count - maximum->taken[from];
    size_t most = RMJ_COMM_SCRATCH_BYTES / sizeof(int16_t);
    maximum->piece[from] = left < most ? left : most;
    *bytes = maximum_scratch(maximum, from);
    *size = maximum->piece[from] * sizeof(int16_t);
    return left != 0;
}

static void maximum_received(void *context, uint32_t from)
{
    struct maximum *maximum = context;
    const int16_t *in = maximum_scratch(maximum, from);
    int16_t *out = maximum->values + maximum->taken[from];
    for (size_t i = 0; i < maximum->piece[from]; i++) {
        out[i] = in[i] > out[i] ? in[i] : out[i];
    }
    maximum->taken[from] += maximum->piece[from];
}

enum rmj_status rmj_comm_all_max_i16(struct rmj_comm *comm, int16_t *values, size_t count, struct rmj_error *err)
{
    struct maximum maximum = {.comm = comm, .values = values, .count = count};
    struct rmj_comm_exchange exchange = {&maximum, maximum_send, maximum_receive, maximum_received};
    return run(comm, COLLECTIVE_ALL_MAX, &exchange, err);
}

enum rmj_status rmj_comm_create(struct rmj_comm **out, const struct rmj_comm_options *options, struct rmj_error *err)
{
    if (options->world == 0 || options->world > RMJ_COMM_WORLD_MAX || options->rank >= options->world ||
        options->secret_size == 0) {
        return rmj_fail(err, RMJ_INVALID, "rank %u of %u is no place in a generation (at most %u ranks, with a secret)",
                        options->rank, options->world, RMJ_COMM_WORLD_MAX);
    }
    struct rmj_comm *comm = calloc(1, sizeof *comm);
    if (comm == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a communicator");
    }
    comm->rank = options->rank;
    comm->world = options->world;
    comm->generation = options->generation;
    comm->deadline_ms = options->deadline_ms;
    comm->abort_fd = options->abort_fd;
    comm->own_abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_store(&comm->suspect, -1);
    for (uint32_t i = 0; i < RMJ_COMM_WORLD_MAX; i++) {
        comm->fds[i] = -1;
    }
    comm->scratch = malloc((size_t)comm->world * RMJ_COMM_SCRATCH_BYTES);
    enum rmj_status status = comm->scratch == NULL || comm->own_abort_fd < 0
                                 ? rmj_fail(err, RMJ_NO_MEMORY, "no memory or descriptors for a communicator")
                                 : rmj_comm_mesh_connect(comm, options, err);
    if (status != RMJ_OK) {
        rmj_comm_destroy(comm);
        return status;
    }
    *out = comm;
    return RMJ_OK;
}

void rmj_comm_destroy(struct rmj_comm *comm)
{
    if (comm == NULL) {
        return;
    }
    for (uint32_t i = 0; i < comm->world; i++) {
        if (comm->fds[i] >= 0) {
            close(comm->fds[i]);
        }
    }
    if (comm->own_abort_fd >= 0) {
        close(comm->own_abort_fd);
    }
    free(comm->scratch);
    free(comm);
}

void rmj_comm_set_deadline(struct rmj_comm *comm, int64_t deadline_ms)
{
    comm->deadline_ms = deadline_ms;
}

void rmj_comm_abort(struct rmj_comm *comm)
{
    uint64_t one = 1;
    ssize_t n = write(comm->own_abort_fd, &one, sizeof one);
    (void)n; // it can only fail when it is readable already
}

uint32_t rmj_comm_rank(const struct rmj_comm *comm)
{
    return comm->rank;
}

uint32_t rmj_comm_world(const struct rmj_comm *comm)
{
    return comm->world;
}

int rmj_comm_suspect(const struct rmj_comm *comm)
{
    return atomic_load(&comm->suspect);
}

uint64_t rmj_comm_sequence(const struct rmj_comm *comm)
{
    return atomic_load(&comm->sequence);
}
