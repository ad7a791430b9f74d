// The communicator's promises: exact collectives in any world, and every way in which a peer can fail is seen by all
// others within the deadline. Ranks are threads, or processes where one must die by kill -9. Seeds are printed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "trainer/comm/comm.h"

enum { WORLD_MAX = 8, CONNECT_MS = 10000, DEADLINE_MS = 20000, SHORT_MS = 1500 };

struct world {
    uint32_t size;
    uint64_t seed;
    struct rmj_comm_listener *listeners[WORLD_MAX];
    const char *addresses[WORLD_MAX];
};

static void world_open(struct world *world, uint32_t size, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    world->size = size;
    world->seed = seed;
    for (uint32_t i = 0; i < size; i++) {
        assert_int_equal(rmj_comm_listen(&world->listeners[i], NULL, NULL), RMJ_OK);
        world->addresses[i] = rmj_comm_listener_address(world->listeners[i]);
    }
}

static void world_close(struct world *world)
{
    for (uint32_t i = 0; i < world->size; i++) {
        rmj_comm_listener_close(world->listeners[i]);
    }
}

static struct rmj_comm_options options_of(const struct world *world, uint32_t rank)
{
    return (struct rmj_comm_options){.listener = world->listeners[rank],
                                     .rank = rank,
                                     .world = world->size,
                                     .addresses = world->addresses,
                                     .generation = 7,
                                     .secret = "shared",
                                     .secret_size = 6,
                                     .connect_deadline_ms = CONNECT_MS,
                                     .deadline_ms = DEADLINE_MS,
                                     .abort_fd = -1};
}

// ---- work of a rank: exact collectives, checked against what everyone can compute ----

static uint8_t byte_of(uint64_t seed, uint32_t from, uint32_t to, size_t i)
{
    return (uint8_t)((seed * 31 + from * 7 + to * 13 + i * 3) ^ (i >> 8));
}

// Sizes of the pieces from one rank to another; both sides compute them.
static uint32_t pieces_of(uint64_t seed, uint32_t from, uint32_t to, size_t sizes[16])
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, from * 64 + to);
    uint32_t count = (uint32_t)rmj_rng_below(&rng, 6);
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = rmj_rng_below(&rng, 4) == 0 ? rmj_rng_below(&rng, 1 << 19) : rmj_rng_below(&rng, 300);
    }
    return count;
}

struct pieces {
    uint64_t seed;
    uint32_t rank;
    uint8_t *out[WORLD_MAX], *in[WORLD_MAX];
    uint32_t sent[WORLD_MAX], asked[WORLD_MAX], whole[WORLD_MAX];
    size_t in_size[WORLD_MAX];
    int wrong;
};

static int next_send(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct pieces *pieces = context;
    size_t sizes[16];
    uint32_t index = pieces->sent[to];
    if (index == pieces_of(pieces->seed, pieces->rank, to, sizes)) {
        return 0;
    }
    pieces->sent[to]++;
    for (size_t i = 0; i < sizes[index]; i++) {
        pieces->out[to][i] = byte_of(pieces->seed + index, pieces->rank, to, i);
    }
    *bytes = pieces->out[to];
    *size = sizes[index];
    return 1;
}

static int next_receive(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct pieces *pieces = context;
    size_t sizes[16];
    if (pieces->asked[from] == pieces_of(pieces->seed, from, pieces->rank, sizes)) {
        return 0;
    }
    *bytes = pieces->in[from];
    *size = pieces->in_size[from] = sizes[pieces->asked[from]++];
    return 1;
}

static void received(void *context, uint32_t from)
{
    struct pieces *pieces = context;
    for (size_t i = 0; i < pieces->in_size[from]; i++) {
        pieces->wrong |= pieces->in[from][i] != byte_of(pieces->seed + pieces->whole[from], from, pieces->rank, i);
    }
    pieces->whole[from]++;
}

static enum rmj_status exchange_round(struct rmj_comm *comm, uint64_t seed, struct rmj_error *err)
{
    struct pieces pieces = {.seed = seed, .rank = rmj_comm_rank(comm)};
    for (uint32_t i = 0; i < rmj_comm_world(comm); i++) {
        pieces.out[i] = malloc(1 << 19);
        pieces.in[i] = malloc(1 << 19);
    }
    struct rmj_comm_exchange exchange = {&pieces, next_send, next_receive, received};
    enum rmj_status status = rmj_comm_exchange(comm, &exchange, err);
    for (uint32_t i = 0; i < rmj_comm_world(comm); i++) {
        size_t sizes[16];
        if (status == RMJ_OK && i != pieces.rank && pieces.whole[i] != pieces_of(seed, i, pieces.rank, sizes)) {
            pieces.wrong = 1;
        }
        free(pieces.out[i]);
        free(pieces.in[i]);
    }
    return pieces.wrong ? rmj_fail(err, RMJ_CORRUPT, "pieces differ") : status;
}

static enum rmj_status gather_round(struct rmj_comm *comm, uint64_t seed, struct rmj_error *err)
{
    size_t size = seed * 7919 % 70000;
    uint32_t world = rmj_comm_world(comm);
    uint8_t *mine = malloc(size + 1), *all = malloc(size * world + 1);
    for (size_t i = 0; i < size; i++) {
        mine[i] = byte_of(seed, rmj_comm_rank(comm), 0, i);
    }
    enum rmj_status status = rmj_comm_all_gather(comm, mine, size, all, err);
    for (uint32_t r = 0; status == RMJ_OK && r < world; r++) {
        for (size_t i = 0; i < size; i++) {
            if (all[r * size + i] != byte_of(seed, r, 0, i)) {
                status = rmj_fail(err, RMJ_CORRUPT, "gathered bytes differ");
            }
        }
    }
    free(mine);
    free(all);
    return status;
}

static int16_t value_of(uint64_t seed, uint32_t rank, size_t i)
{
    return (int16_t)(((seed + 1) * 2654435761u + rank * 40503u + i * 9973u) & 0xffff);
}

static enum rmj_status maximum_round(struct rmj_comm *comm, uint64_t seed, struct rmj_error *err)
{
    size_t count = seed * 104729 % 90000;
    int16_t *values = malloc((count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = value_of(seed, rmj_comm_rank(comm), i);
    }
    enum rmj_status status = rmj_comm_all_max_i16(comm, values, count, err);
    for (size_t i = 0; status == RMJ_OK && i < count; i++) {
        int16_t most = INT16_MIN;
        for (uint32_t r = 0; r < rmj_comm_world(comm); r++) {
            most = value_of(seed, r, i) > most ? value_of(seed, r, i) : most;
        }
        if (values[i] != most) {
            status = rmj_fail(err, RMJ_CORRUPT, "maximum differs");
        }
    }
    free(values);
    return status;
}

typedef enum rmj_status (*round_fn)(struct rmj_comm *, uint64_t, struct rmj_error *);
static const round_fn rounds[] = {exchange_round, gather_round, maximum_round};

// ---- ranks as threads ----

struct rank {
    const struct world *world;
    uint32_t number;
    struct rmj_comm_options options;
    uint32_t rounds;     // to run
    uint32_t stall_at;   // round before which it waits, UINT32_MAX for never
    atomic_int *release; // what a stalled rank waits for
    struct rmj_comm *_Atomic *publish;
    enum rmj_status status;
    int suspect;
    struct rmj_error err;
    int64_t took_ms;
};

static void *rank_main(void *context)
{
    struct rank *rank = context;
    struct rmj_comm *comm = NULL;
    int64_t began = rmj_clock_mono_ms();
    rank->suspect = -1;
    rank->status = rmj_comm_create(&comm, &rank->options, &rank->err);
    if (rank->status == RMJ_OK && rank->publish != NULL) {
        atomic_store(rank->publish, comm);
    }
    for (uint32_t i = 0; rank->status == RMJ_OK && i < rank->rounds; i++) {
        while (i == rank->stall_at && !atomic_load(rank->release)) {
            rmj_clock_sleep_ms(5);
        }
        rank->status = rounds[(rank->world->seed + i) % RMJ_COUNT(rounds)](comm, rank->world->seed + i, &rank->err);
    }
    rank->took_ms = rmj_clock_mono_ms() - began;
    if (comm != NULL) {
        rank->suspect = rmj_comm_suspect(comm);
    }
    if (rank->publish != NULL) {
        atomic_store(rank->publish, NULL);
    } else {
        rmj_comm_destroy(comm);
    }
    return NULL;
}

static void ranks_init(struct rank *ranks, const struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < world->size; i++) {
        ranks[i] = (struct rank){
            .world = world, .number = i, .options = options_of(world, i), .rounds = count, .stall_at = UINT32_MAX};
    }
}

static void ranks_start(struct rank *ranks, pthread_t *threads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, rank_main, &ranks[i]), 0);
    }
}

static void ranks_join(pthread_t *threads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void collectives_are_exact_in_every_world(void **state)
{
    (void)state;
    for (uint32_t size = 1; size <= WORLD_MAX; size++) {
        struct world world;
        struct rank ranks[WORLD_MAX];
        pthread_t threads[WORLD_MAX];
        world_open(&world, size, 100 + size);
        ranks_init(ranks, &world, 12);
        ranks_start(ranks, threads, size);
        ranks_join(threads, size);
        for (uint32_t i = 0; i < size; i++) {
            if (ranks[i].status != RMJ_OK) {
                fail_msg("world %u seed %llu rank %u: %s", size, (unsigned long long)world.seed, i,
                         ranks[i].err.message);
            }
        }
        world_close(&world);
    }
}

static void a_stalled_peer_is_a_timeout_that_names_it(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < RMJ_COUNT(rounds); kind++) {
        struct world world;
        struct rank ranks[WORLD_MAX];
        pthread_t threads[WORLD_MAX];
        atomic_int release = 0;
        world_open(&world, 4, 3 * 50 + kind); // round 3 is of this kind
        ranks_init(ranks, &world, 4);
        ranks[2].stall_at = 3;
        ranks[2].release = &release;
        for (uint32_t i = 0; i < 4; i++) {
            ranks[i].options.deadline_ms = i == 2 ? DEADLINE_MS : SHORT_MS;
        }
        ranks_start(ranks, threads, 4);
        for (uint32_t i = 0; i < 4; i++) {
            if (i != 2) {
                pthread_join(threads[i], NULL);
            }
        }
        atomic_store(&release, 1);
        pthread_join(threads[2], NULL);
        int named = 0;
        for (uint32_t i = 0; i < 4; i++) {
            if (i != 2) {
                // The first to run out of time names it; others may see that one leave.
                assert_true(ranks[i].status == RMJ_TIMEOUT || ranks[i].status == RMJ_PEER_LOST);
                named += ranks[i].status == RMJ_TIMEOUT && ranks[i].suspect == 2;
            }
        }
        assert_true(named >= 1);
        assert_int_equal(ranks[2].status, RMJ_PEER_LOST);
        world_close(&world);
    }
}

static void an_abort_ends_a_call_in_progress(void **state)
{
    (void)state;
    struct world world;
    struct rank ranks[2];
    pthread_t threads[2];
    atomic_int release = 0;
    struct rmj_comm *_Atomic published = NULL;
    world_open(&world, 2, 5);
    ranks_init(ranks, &world, 3);
    ranks[1].stall_at = 1;
    ranks[1].release = &release;
    ranks[0].publish = &published;
    ranks_start(ranks, threads, 2);
    struct rmj_comm *comm;
    while ((comm = atomic_load(&published)) == NULL || rmj_comm_sequence(comm) < 2) {
        rmj_clock_sleep_ms(2);
    }
    rmj_comm_abort(comm);
    pthread_join(threads[0], NULL);
    assert_int_equal(ranks[0].status, RMJ_CANCELLED);
    // And it stays unusable.
    uint8_t byte = 0, all[2];
    assert_int_equal(rmj_comm_all_gather(comm, &byte, 1, all, NULL), RMJ_CANCELLED);
    rmj_comm_destroy(comm);
    atomic_store(&release, 1);
    pthread_join(threads[1], NULL);
    assert_int_equal(ranks[1].status, RMJ_PEER_LOST);
    world_close(&world);
}

static void an_abort_descriptor_ends_joining(void **state)
{
    (void)state;
    struct world world;
    struct rank rank;
    pthread_t thread;
    world_open(&world, 2, 5);
    struct rank ranks[2];
    ranks_init(ranks, &world, 0);
    rank = ranks[1]; // rank 0 never comes
    rank.options.abort_fd = eventfd(0, EFD_CLOEXEC);
    ranks_start(&rank, &thread, 1);
    rmj_clock_sleep_ms(30);
    uint64_t one = 1;
    assert_int_equal(write(rank.options.abort_fd, &one, sizeof one), sizeof one);
    pthread_join(thread, NULL);
    assert_int_equal(rank.status, RMJ_CANCELLED);
    close(rank.options.abort_fd);
    world_close(&world);
}

static void a_rank_that_never_joins_is_named(void **state)
{
    (void)state;
    struct world world;
    struct rank ranks[3];
    pthread_t threads[3];
    world_open(&world, 3, 5);
    ranks_init(ranks, &world, 1);
    ranks[0].options.connect_deadline_ms = ranks[1].options.connect_deadline_ms = SHORT_MS;
    ranks_start(ranks, threads, 2);
    ranks_join(threads, 2);
    int named = 0;
    for (int i = 0; i < 2; i++) {
        assert_true(ranks[i].status == RMJ_TIMEOUT || ranks[i].status == RMJ_PEER_LOST);
        named += ranks[i].status == RMJ_TIMEOUT && strstr(ranks[i].err.message, "rank 2") != NULL;
    }
    assert_true(named >= 1);
    world_close(&world);
}

static void a_wrong_secret_is_denied(void **state)
{
    (void)state;
    struct world world;
    struct rank ranks[2];
    pthread_t threads[2];
    world_open(&world, 2, 5);
    ranks_init(ranks, &world, 1);
    ranks[1].options.secret = "guess!";
    ranks[0].options.connect_deadline_ms = SHORT_MS;
    ranks_start(ranks, threads, 2);
    ranks_join(threads, 2);
    assert_int_equal(ranks[1].status, RMJ_DENIED);
    assert_int_equal(ranks[0].status, RMJ_TIMEOUT);
    world_close(&world);
}

static void another_generation_never_joins(void **state)
{
    (void)state;
    for (uint32_t other = 6; other <= 8; other += 2) {
        struct world world;
        struct rank ranks[2];
        pthread_t threads[2];
        world_open(&world, 2, 5);
        ranks_init(ranks, &world, 1);
        ranks[1].options.generation = other;
        ranks[0].options.connect_deadline_ms = ranks[1].options.connect_deadline_ms = SHORT_MS;
        ranks_start(ranks, threads, 2);
        ranks_join(threads, 2);
        assert_int_equal(ranks[0].status, RMJ_TIMEOUT);
        assert_true(ranks[1].status == RMJ_TIMEOUT || ranks[1].status == RMJ_PEER_LOST);
        world_close(&world);
    }
}

// ---- strangers ----

struct strangers {
    const struct world *world;
    atomic_int stop;
    int count;
};

static int call_port(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void *strangers_main(void *context)
{
    struct strangers *strangers = context;
    struct rmj_rng rng;
    int open_fds[16], held = 0;
    rmj_rng_init(&rng, strangers->world->seed, 1);
    while (!atomic_load(&strangers->stop)) {
        int fd = call_port(strangers->world->addresses[rmj_rng_below(&rng, strangers->world->size)]);
        uint8_t noise[100];
        for (size_t i = 0; i < sizeof noise; i++) {
            noise[i] = (uint8_t)rmj_rng_next(&rng);
        }
        if (rmj_rng_below(&rng, 2) == 0) {
            memcpy(noise, "\x52\x4a\x43\x31\x07\0\0\0\1\0\0\0\0\0\0\0", 16); // a hello of this generation, and no proof
        }
        if (fd >= 0 && send(fd, noise, rmj_rng_below(&rng, sizeof noise), MSG_NOSIGNAL) < 0) {
            close(fd);
            fd = -1;
        }
        if (fd >= 0 && held < 16) {
            open_fds[held++] = fd; // says nothing more and stays
        } else if (fd >= 0) {
            close(fd);
        }
        strangers->count++;
        rmj_clock_sleep_ms(1);
    }
    while (held > 0) {
        close(open_fds[--held]);
    }
    return NULL;
}

static void strangers_on_the_port_disturb_nobody(void **state)
{
    (void)state;
    struct world world;
    struct rank ranks[4];
    pthread_t threads[4], stranger;
    world_open(&world, 4, 77);
    struct strangers strangers = {.world = &world};
    pthread_create(&stranger, NULL, strangers_main, &strangers);
    rmj_clock_sleep_ms(30);
    ranks_init(ranks, &world, 9);
    ranks_start(ranks, threads, 4);
    ranks_join(threads, 4);
    atomic_store(&strangers.stop, 1);
    pthread_join(stranger, NULL);
    for (int i = 0; i < 4; i++) {
        if (ranks[i].status != RMJ_OK) {
            fail_msg("rank %d: %s", i, ranks[i].err.message);
        }
    }
    assert_true(strangers.count > 3);
    world_close(&world);
}

// ---- ranks as processes, one killed ----

struct shared {
    atomic_int victim_round; // rounds the victim has begun
};

static int process_rank(const struct world *world, uint32_t number, uint32_t victim, struct shared *shared)
{
    struct rmj_comm *comm = NULL;
    struct rmj_comm_options options = options_of(world, number);
    struct rmj_error err = {0};
    enum rmj_status status = rmj_comm_create(&comm, &options, &err);
    for (uint32_t i = 0; status == RMJ_OK && i < 100000; i++) {
        if (number == victim) {
            atomic_store(&shared->victim_round, (int)i);
        }
        status = rounds[i % RMJ_COUNT(rounds)](comm, world->seed + i, &err);
    }
    return status == RMJ_PEER_LOST ? 0 : 100 + (int)status;
}

static void kill_9_of_a_peer_is_seen_by_everyone(void **state)
{
    (void)state;
    for (uint32_t trial = 0; trial < 6; trial++) {
        struct world world;
        pid_t pids[4];
        uint32_t victim = trial % 4;
        struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        world_open(&world, 4, 1000 + trial);
        for (uint32_t i = 0; i < 4; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                _exit(process_rank(&world, i, victim, shared));
            }
        }
        while (atomic_load(&shared->victim_round) < (int)(3 + trial)) {
            rmj_clock_sleep_ms(0);
        }
        kill(pids[victim], SIGKILL);
        for (uint32_t i = 0; i < 4; i++) {
            int status;
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            if (i != victim) {
                assert_true(WIFEXITED(status));
                assert_int_equal(WEXITSTATUS(status), 0);
            }
        }
        world_close(&world);
        munmap(shared, sizeof *shared);
    }
}

static void nonsense_options_are_refused(void **state)
{
    (void)state;
    struct world world;
    struct rmj_comm *comm = NULL;
    world_open(&world, 2, 1);
    struct rmj_comm_options options = options_of(&world, 0);
    options.rank = 2;
    assert_int_equal(rmj_comm_create(&comm, &options, NULL), RMJ_INVALID);
    options = options_of(&world, 0);
    options.world = 0;
    assert_int_equal(rmj_comm_create(&comm, &options, NULL), RMJ_INVALID);
    options = options_of(&world, 0);
    options.secret_size = 0;
    assert_int_equal(rmj_comm_create(&comm, &options, NULL), RMJ_INVALID);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kill_9_of_a_peer_is_seen_by_everyone), // first: it forks
        cmocka_unit_test(collectives_are_exact_in_every_world),
        cmocka_unit_test(a_stalled_peer_is_a_timeout_that_names_it),
        cmocka_unit_test(an_abort_ends_a_call_in_progress),
        cmocka_unit_test(an_abort_descriptor_ends_joining),
        cmocka_unit_test(a_rank_that_never_joins_is_named),
        cmocka_unit_test(a_wrong_secret_is_denied),
        cmocka_unit_test(another_generation_never_joins),
        cmocka_unit_test(strangers_on_the_port_disturb_nobody),
        cmocka_unit_test(nonsense_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
