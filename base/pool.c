// Workers spin briefly for the next loop, then sleep on a futex-backed condition: loops of a training step follow each
// other within microseconds.
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SPIN_COUNT 2000

struct worker {
    struct rmj_pool *pool;
    pthread_t thread;
    size_t number;
};

struct rmj_pool {
    // immutable
    size_t thread_count;
    void (*on_start)(void);
    struct worker *workers;
    // caller's thread writes, workers read after `round` moves
    void (*body)(void *context, size_t index, size_t thread);
    void *context;
    size_t count;
    // shared
    atomic_size_t next;
    atomic_size_t busy;
    atomic_size_t round;
    atomic_int stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

static void run_share(struct rmj_pool *pool, size_t thread)
{
    for (;;) {
        size_t index = atomic_fetch_add(&pool->next, 1);
        if (index >= pool->count) {
            return;
        }
        pool->body(pool->context, index, thread);
    }
}

static size_t await_round(struct rmj_pool *pool, size_t seen)
{
    for (int i = 0; i < SPIN_COUNT; i++) {
        size_t round = atomic_load(&pool->round);
        if (round != seen) {
            return round;
        }
        __builtin_ia32_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->round) == seen) {
        pthread_cond_wait(&pool->wake, &pool->mutex);
    }
    size_t round = atomic_load(&pool->round);
    pthread_mutex_unlock(&pool->mutex);
    return round;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct rmj_pool *pool = worker->pool;
    if (pool->on_start != NULL) {
        pool->on_start();
    }
    size_t seen = 0;
    for (;;) {
        seen = await_round(pool, seen);
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        run_share(pool, worker->number);
        atomic_fetch_sub(&pool->busy, 1);
    }
}

enum rmj_status rmj_pool_create(struct rmj_pool **out, size_t thread_count, void (*on_start)(void),
                                struct rmj_error *err)
{
    RMJ_ASSERT(thread_count >= 1);
    struct rmj_pool *pool = calloc(1, sizeof *pool);
    struct worker *workers = calloc(thread_count, sizeof *workers);
    if (pool == NULL || workers == NULL) {
        free(pool);
        free(workers);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu threads", thread_count);
    }
    pool->on_start = on_start;
    pool->workers = workers;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    if (on_start != NULL) {
        on_start();
    }
    pool->thread_count = 1;
    for (size_t i = 1; i < thread_count; i++) {
        workers[i] = (struct worker){.pool = pool, .number = i};
        int code = pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        if (code != 0) {
            rmj_pool_destroy(pool);
            return rmj_fail_origin(err, RMJ_NO_MEMORY, "errno", code, "cannot start thread %zu of %zu", i + 1,
                                   thread_count);
        }
        pool->thread_count++;
    }
    *out = pool;
    return RMJ_OK;
}

static void announce(struct rmj_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->round, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

void rmj_pool_destroy(struct rmj_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    atomic_store(&pool->stop, 1);
    announce(pool);
    for (size_t i = 1; i < pool->thread_count; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}

size_t rmj_pool_thread_count(const struct rmj_pool *pool)
{
    return pool->thread_count;
}

void rmj_pool_run(struct rmj_pool *pool, size_t count, void (*body)(void *context, size_t index, size_t thread),
                  void *context)
{
    if (pool->thread_count == 1 || count <= 1) {
        for (size_t i = 0; i < count; i++) {
            body(context, i, 0);
        }
        return;
    }
    pool->body = body;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->busy, pool->thread_count - 1);
    announce(pool);
    run_share(pool, 0);
    while (atomic_load(&pool->busy) != 0) {
        __builtin_ia32_pause();
        sched_yield();
    }
}
