// Making the mesh: rank i connects to every lower rank and accepts every higher one, all in one poll loop, each
// connection a small state machine (wire.h draws the words). Whoever cannot prove that it knows the secret, or speaks
// of another generation, is dropped and disturbs nobody.
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "trainer/comm/internal.h"

#define STRANGERS_MAX 32  // accepted connections that have not proven themselves yet, beyond the world
#define HANDSHAKE_MS 5000 // an accepted connection must prove itself within this
#define RETRY_MS 20       // between attempts to reach a peer
#define REFUSED_MS 1000   // a peer that refuses connections for as long is gone
#define HANDSHAKES_MAX (RMJ_COMM_WORLD_MAX + STRANGERS_MAX)

enum handshake_state {
    IDLE,       // slot is free, or waits for retry_at
    CONNECTING, // connector: TCP
    CHALLENGE,  // connector: hello sent, waits for the challenge
    WELCOME,    // connector: proof sent, waits for the welcome
    HELLO,      // acceptor: waits for the hello
    PROOF,      // acceptor: challenge sent, waits for the proof
};

struct handshake {
    enum handshake_state state;
    int fd;
    int64_t deadline;
    struct rmj_wire_hello hello;
    uint8_t accept_nonce[RMJ_WIRE_NONCE_SIZE];
    uint8_t in[64];
    size_t in_size, in_done;
};

// Outgoing ones are at [peer] for peer < rank; incoming ones behind them.
struct mesh {
    struct rmj_comm *comm;
    const struct rmj_comm_options *options;
    struct rmj_wire_key key;
    struct handshake shakes[HANDSHAKES_MAX];
    int64_t retry_at[RMJ_COMM_WORLD_MAX];
    int64_t refused_since[RMJ_COMM_WORLD_MAX];
    int denied; // a peer that does not know our secret, or -1
};

static int parse_address(const char *address, struct sockaddr_storage *out, socklen_t *size)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
        return 0;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        return 0;
    }
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *size = found->ai_addrlen;
    freeaddrinfo(found);
    return 1;
}

enum rmj_status rmj_comm_listen(struct rmj_comm_listener **out, const char *host, struct rmj_error *err)
{
    char address[96];
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage;
    snprintf(address, sizeof address, "%s:0", host == NULL ? "127.0.0.1" : host);
    if (!parse_address(address, &storage, &size)) {
        return rmj_fail(err, RMJ_INVALID, "cannot listen on host \"%s\": it has no address", host);
    }
    struct rmj_comm_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a listener");
    }
    listener->fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *)&storage, size) != 0 ||
        listen(listener->fd, SOMAXCONN) != 0 || getsockname(listener->fd, (struct sockaddr *)&storage, &size) != 0) {
        enum rmj_status status = rmj_fail_errno(err, RMJ_IO, "cannot listen on %s", address);
        rmj_comm_listener_close(listener);
        return status;
    }
    uint16_t port = storage.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&storage)->sin6_port
                                                  : ((struct sockaddr_in *)&storage)->sin_port;
    snprintf(listener->address, sizeof listener->address, "%.64s:%u", host == NULL ? "127.0.0.1" : host, ntohs(port));
    *out = listener;
    return RMJ_OK;
}

void rmj_comm_listener_close(struct rmj_comm_listener *listener)
{
    if (listener != NULL) {
        if (listener->fd >= 0) {
            close(listener->fd);
        }
        free(listener);
    }
}

const char *rmj_comm_listener_address(const struct rmj_comm_listener *listener)
{
    return listener->address;
}

static void drop(struct handshake *shake)
{
    if (shake->fd >= 0) {
        close(shake->fd);
    }
    *shake = (struct handshake){.state = IDLE, .fd = -1};
}

static void expect(struct handshake *shake, enum handshake_state state, size_t size)
{
    shake->state = state;
    shake->in_size = size;
    shake->in_done = 0;
}

// Words of a handshake are far smaller than a socket's buffer: a short write means a dead connection.
static int say(struct handshake *shake, const void *bytes, size_t size)
{
    return send(shake->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

// The connection to `peer` stands. A newer one takes the place of an older: the peer has given that up.
static void settle(struct mesh *mesh, struct handshake *shake, uint32_t peer)
{
    int one = 1;
    (void)setsockopt(shake->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (mesh->comm->fds[peer] >= 0) {
        close(mesh->comm->fds[peer]);
    }
    mesh->comm->fds[peer] = shake->fd;
    *shake = (struct handshake){.state = IDLE, .fd = -1};
}

static void retry_later(struct mesh *mesh, uint32_t peer)
{
    drop(&mesh->shakes[peer]);
    mesh->retry_at[peer] = rmj_clock_mono_ms() + RETRY_MS;
}

static int start_connect(struct mesh *mesh, uint32_t peer)
{
    struct handshake *shake = &mesh->shakes[peer];
    struct sockaddr_storage storage;
    socklen_t size;
    if (!parse_address(mesh->options->addresses[peer], &storage, &size)) {
        return 0;
    }
    shake->fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (shake->fd < 0) {
        return 0;
    }
    shake->state = CONNECTING;
    if (connect(shake->fd, (struct sockaddr *)&storage, size) != 0 && errno != EINPROGRESS) {
        return 0;
    }
    return 1;
}

static int connected(struct mesh *mesh, uint32_t peer)
{
    struct handshake *shake = &mesh->shakes[peer];
    int code = 0;
    socklen_t size = sizeof code;
    if (getsockopt(shake->fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0 || code != 0) {
        if (code == ECONNREFUSED && mesh->refused_since[peer] == 0) {
            mesh->refused_since[peer] = rmj_clock_mono_ms();
        }
        return 0;
    }
    mesh->refused_since[peer] = 0;
    shake->hello = (struct rmj_wire_hello){
        .magic = RMJ_WIRE_MAGIC, .generation = mesh->comm->generation, .from = mesh->comm->rank, .to = peer};
    RMJ_ASSERT(rmj_random_bytes(shake->hello.nonce, sizeof shake->hello.nonce));
    expect(shake, CHALLENGE, sizeof(struct rmj_wire_challenge));
    return say(shake, &shake->hello, sizeof shake->hello);
}

static int answer_challenge(struct mesh *mesh, struct handshake *shake)
{
    struct rmj_wire_challenge challenge;
    struct rmj_wire_proof proof;
    uint8_t mac[RMJ_WIRE_MAC_SIZE];
    memcpy(&challenge, shake->in, sizeof challenge);
    rmj_wire_mac(&mesh->key, "accept", &shake->hello, challenge.nonce, mac);
    if (CRYPTO_memcmp(mac, challenge.mac, sizeof mac) != 0) {
        mesh->denied = (int)shake->hello.to;
        return 0;
    }
    rmj_wire_mac(&mesh->key, "connect", &shake->hello, challenge.nonce, proof.mac);
    expect(shake, WELCOME, sizeof(struct rmj_wire_welcome));
    return say(shake, &proof, sizeof proof);
}

static int answer_hello(struct mesh *mesh, struct handshake *shake)
{
    struct rmj_wire_challenge challenge;
    memcpy(&shake->hello, shake->in, sizeof shake->hello);
    const struct rmj_wire_hello *hello = &shake->hello;
    if (hello->magic != RMJ_WIRE_MAGIC || hello->generation != mesh->comm->generation ||
        hello->to != mesh->comm->rank || hello->from <= mesh->comm->rank || hello->from >= mesh->comm->world) {
        return 0;
    }
    RMJ_ASSERT(rmj_random_bytes(shake->accept_nonce, sizeof shake->accept_nonce));
    memcpy(challenge.nonce, shake->accept_nonce, sizeof challenge.nonce);
    rmj_wire_mac(&mesh->key, "accept", hello, shake->accept_nonce, challenge.mac);
    expect(shake, PROOF, sizeof(struct rmj_wire_proof));
    return say(shake, &challenge, sizeof challenge);
}

static int check_proof(struct mesh *mesh, struct handshake *shake)
{
    uint8_t mac[RMJ_WIRE_MAC_SIZE];
    struct rmj_wire_welcome welcome = {RMJ_WIRE_MAGIC};
    rmj_wire_mac(&mesh->key, "connect", &shake->hello, shake->accept_nonce, mac);
    if (CRYPTO_memcmp(mac, shake->in, sizeof mac) != 0 || !say(shake, &welcome, sizeof welcome)) {
        return 0;
    }
    settle(mesh, shake, shake->hello.from);
    return 1;
}

// 0: the connection is to be dropped.
static int advance(struct mesh *mesh, struct handshake *shake)
{
    ssize_t n = recv(shake->fd, shake->in + shake->in_done, shake->in_size - shake->in_done, MSG_DONTWAIT);
    if (n <= 0) {
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    }
    shake->in_done += (size_t)n;
    if (shake->in_done < shake->in_size) {
        return 1;
    }
    switch (shake->state) {
    case CHALLENGE:
        return answer_challenge(mesh, shake);
    case WELCOME:
        if (memcmp(shake->in, &(uint32_t){RMJ_WIRE_MAGIC}, sizeof(uint32_t)) != 0) {
            return 0;
        }
        settle(mesh, shake, shake->hello.to);
        return 1;
    case HELLO:
        return answer_hello(mesh, shake);
    case PROOF:
        return check_proof(mesh, shake);
    case IDLE:
    case CONNECTING:
        break;
    }
    return 0;
}

static void accept_some(struct mesh *mesh)
{
    for (size_t i = mesh->comm->rank; i < HANDSHAKES_MAX; i++) {
        struct handshake *shake = &mesh->shakes[i];
        if (shake->state != IDLE) {
            continue;
        }
        int fd = accept4(mesh->options->listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            return; // nothing more, or a connection that died in the queue
        }
        shake->fd = fd;
        shake->deadline = rmj_clock_mono_ms() + HANDSHAKE_MS;
        expect(shake, HELLO, sizeof(struct rmj_wire_hello));
    }
}

static uint32_t missing_peer(const struct rmj_comm *comm)
{
    for (uint32_t peer = 0; peer < comm->world; peer++) {
        if (peer != comm->rank && comm->fds[peer] < 0) {
            return peer;
        }
    }
    return comm->world;
}

static enum rmj_status lost(struct rmj_comm *comm, enum rmj_status status, uint32_t peer, const char *what,
                            struct rmj_error *err)
{
    atomic_store(&comm->suspect, (int)peer);
    return rmj_fail(err, status, "rank %u of generation %u: %s", peer, comm->generation, what);
}

// Connections that are due to be tried, and those that took too long.
static enum rmj_status tend(struct mesh *mesh, struct rmj_error *err)
{
    int64_t now = rmj_clock_mono_ms();
    struct rmj_comm *comm = mesh->comm;
    for (uint32_t peer = 0; peer < comm->rank; peer++) {
        if (comm->fds[peer] >= 0 || mesh->shakes[peer].state != IDLE) {
            continue;
        }
        if (mesh->refused_since[peer] != 0 && now - mesh->refused_since[peer] > REFUSED_MS) {
            return lost(comm, RMJ_PEER_LOST, peer, "refuses connections", err);
        }
        if (now >= mesh->retry_at[peer] && !start_connect(mesh, peer)) {
            retry_later(mesh, peer);
        }
    }
    for (size_t i = comm->rank; i < HANDSHAKES_MAX; i++) {
        if (mesh->shakes[i].state != IDLE && now > mesh->shakes[i].deadline) {
            drop(&mesh->shakes[i]);
        }
    }
    return RMJ_OK;
}

// pfds: listener, standing connections, handshakes. The index behind the standing ones is *first_shake.
static size_t watch(struct mesh *mesh, struct pollfd *pfds, size_t *owners, size_t *first_shake)
{
    size_t count = 0;
    pfds[count++] = (struct pollfd){.fd = mesh->options->listener->fd, .events = POLLIN};
    for (uint32_t peer = 0; peer < mesh->comm->world; peer++) {
        if (mesh->comm->fds[peer] >= 0) {
            owners[count] = peer;
            pfds[count++] = (struct pollfd){.fd = mesh->comm->fds[peer], .events = POLLRDHUP};
        }
    }
    *first_shake = count;
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        if (mesh->shakes[i].state != IDLE) {
            owners[count] = i;
            pfds[count++] = (struct pollfd){.fd = mesh->shakes[i].fd,
                                            .events = mesh->shakes[i].state == CONNECTING ? POLLOUT : POLLIN};
        }
    }
    return count;
}

static void serve(struct mesh *mesh, size_t index)
{
    struct handshake *shake = &mesh->shakes[index];
    int alive = shake->state == CONNECTING ? connected(mesh, (uint32_t)index) : advance(mesh, shake);
    if (!alive && index < mesh->comm->rank) {
        retry_later(mesh, (uint32_t)index);
    } else if (!alive) {
        drop(shake);
    }
}

static enum rmj_status turn(struct mesh *mesh, int64_t deadline, struct rmj_error *err)
{
    struct pollfd pfds[1 + RMJ_COMM_WORLD_MAX + HANDSHAKES_MAX + 2];
    size_t owners[1 + RMJ_COMM_WORLD_MAX + HANDSHAKES_MAX];
    size_t first_shake;
    RMJ_TRY(tend(mesh, err));
    size_t count = watch(mesh, pfds, owners, &first_shake);
    int64_t until = rmj_clock_mono_ms() + RETRY_MS;
    enum rmj_status status = rmj_comm_wait(mesh->comm, pfds, count, until < deadline ? until : deadline, err);
    if (status == RMJ_TIMEOUT) {
        return rmj_clock_mono_ms() < deadline
                   ? RMJ_OK
                   : lost(mesh->comm, RMJ_TIMEOUT, missing_peer(mesh->comm), "did not join within the deadline", err);
    }
    RMJ_TRY(status);
    for (size_t i = 1; i < count; i++) {
        if (pfds[i].revents == 0) {
            continue;
        }
        if (i < first_shake) {
            return lost(mesh->comm, RMJ_PEER_LOST, (uint32_t)owners[i], "closed its connection while others joined",
                        err);
        }
        serve(mesh, owners[i]);
    }
    if (pfds[0].revents != 0) {
        accept_some(mesh);
    }
    if (mesh->denied >= 0) {
        return lost(mesh->comm, RMJ_DENIED, (uint32_t)mesh->denied, "does not know the secret of this generation", err);
    }
    return RMJ_OK;
}

enum rmj_status rmj_comm_mesh_connect(struct rmj_comm *comm, const struct rmj_comm_options *options,
                                      struct rmj_error *err)
{
    int64_t deadline = rmj_clock_mono_ms() + options->connect_deadline_ms;
    struct mesh *mesh = calloc(1, sizeof *mesh);
    if (mesh == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for making connections");
    }
    mesh->comm = comm;
    mesh->options = options;
    mesh->key = (struct rmj_wire_key){options->secret, options->secret_size};
    mesh->denied = -1;
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        mesh->shakes[i].fd = -1;
    }
    enum rmj_status status = RMJ_OK;
    while (status == RMJ_OK && missing_peer(comm) < comm->world) {
        status = turn(mesh, deadline, err);
    }
    for (size_t i = 0; i < HANDSHAKES_MAX; i++) {
        drop(&mesh->shakes[i]);
    }
    free(mesh);
    return status;
}
