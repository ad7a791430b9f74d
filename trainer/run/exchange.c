// Page sums to their owners, updated weights to everyone, and a broadcast.
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "trainer/run/collective.h"
#include "trainer/run/trainer.h"

void rmj_collective_note(struct rmj_trainer *trainer)
{
    atomic_store(&rmj_link_progress(trainer->link)->collective, ++trainer->generation.collectives);
}

// Next page from *at on that `owner` owns; page_count when there is none.
static uint32_t next_owned(const struct rmj_trainer *trainer, uint32_t owner, uint32_t at)
{
    while (at < trainer->layout->page_count && trainer->page_owners[at] != owner) {
        at++;
    }
    return at;
}

// Cursors of an exchange by pages, one a peer.
struct by_page {
    struct rmj_trainer *trainer;
    uint32_t next_out[RMJ_COMM_WORLD_MAX], next_in[RMJ_COMM_WORLD_MAX];
    uint32_t page_in[RMJ_COMM_WORLD_MAX];
};

static int sums_out(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct by_page *cursor = context;
    struct rmj_trainer *trainer = cursor->trainer;
    struct rmj_generation *gen = &trainer->generation;
    uint32_t page = next_owned(trainer, to, cursor->next_out[to]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    cursor->next_out[to] = page + 1;
    char *staging = gen->staging_out + to * gen->page_bytes_max;
    rmj_sums_page_export(trainer->sums, page, staging);
    *bytes = staging;
    *size = rmj_sums_page_bytes(trainer->sums, page);
    RMJ_ASSERT(*size <= gen->page_bytes_max);
    return 1;
}

static int sums_in(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct by_page *cursor = context;
    struct rmj_trainer *trainer = cursor->trainer;
    struct rmj_generation *gen = &trainer->generation;
    uint32_t page = next_owned(trainer, gen->rank, cursor->next_in[from]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    cursor->next_in[from] = page + 1;
    cursor->page_in[from] = page;
    *bytes = gen->staging_in + from * gen->page_bytes_max;
    *size = rmj_sums_page_bytes(trainer->sums, page);
    return 1;
}

static void sums_add(void *context, uint32_t from)
{
    struct by_page *cursor = context;
    struct rmj_generation *gen = &cursor->trainer->generation;
    rmj_sums_page_add(cursor->trainer->sums, cursor->page_in[from], gen->staging_in + from * gen->page_bytes_max);
}

enum rmj_status rmj_exchange_sums(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct by_page cursor = {.trainer = trainer};
    struct rmj_comm_exchange exchange = {&cursor, sums_out, sums_in, sums_add};
    (void)rmj_fault_point("reduce");
    rmj_collective_note(trainer);
    return rmj_comm_exchange(trainer->generation.comm, &exchange, err);
}

static int weights_out(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct by_page *cursor = context;
    struct rmj_trainer *trainer = cursor->trainer;
    uint32_t page = next_owned(trainer, trainer->generation.rank, cursor->next_out[to]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    cursor->next_out[to] = page + 1;
    *bytes = trainer->weights + trainer->layout->pages[page].offset;
    *size = trainer->layout->pages[page].element_count * sizeof(float);
    return 1;
}

static int weights_in(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct by_page *cursor = context;
    struct rmj_trainer *trainer = cursor->trainer;
    uint32_t page = next_owned(trainer, from, cursor->next_in[from]);
    if (page == trainer->layout->page_count) {
        return 0;
    }
    cursor->next_in[from] = page + 1;
    *bytes = trainer->weights + trainer->layout->pages[page].offset;
    *size = trainer->layout->pages[page].element_count * sizeof(float);
    return 1;
}

static void in_place(void *context, uint32_t from)
{
    (void)context;
    (void)from;
}

enum rmj_status rmj_exchange_weights(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct by_page cursor = {.trainer = trainer};
    struct rmj_comm_exchange exchange = {&cursor, weights_out, weights_in, in_place};
    rmj_collective_note(trainer);
    return rmj_comm_exchange(trainer->generation.comm, &exchange, err);
}

// Rank 0 is the root of every broadcast.
struct broadcast {
    int is_root;
    char *bytes;
    size_t size;
    int sent[RMJ_COMM_WORLD_MAX], taken;
};

static int broadcast_out(void *context, uint32_t to, const void **bytes, size_t *size)
{
    struct broadcast *cast = context;
    *bytes = cast->bytes;
    *size = cast->size;
    return cast->is_root && cast->sent[to]++ == 0;
}

static int broadcast_in(void *context, uint32_t from, void **bytes, size_t *size)
{
    struct broadcast *cast = context;
    *bytes = cast->bytes;
    *size = cast->size;
    return from == 0 && cast->taken++ == 0;
}

enum rmj_status rmj_broadcast(struct rmj_trainer *trainer, const void *mine, size_t mine_size, char **bytes,
                              size_t *size, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    uint64_t sizes[RMJ_COMM_WORLD_MAX], own = mine_size;
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_all_gather(gen->comm, &own, sizeof own, sizes, err));
    struct broadcast cast = {.is_root = gen->rank == 0, .size = sizes[0]};
    cast.bytes = malloc(cast.size + 1);
    if (cast.bytes == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu bytes from rank 0", cast.size);
    }
    if (cast.is_root) {
        memcpy(cast.bytes, mine, mine_size);
    }
    struct rmj_comm_exchange exchange = {&cast, broadcast_out, broadcast_in, in_place};
    rmj_collective_note(trainer);
    enum rmj_status status = rmj_comm_exchange(gen->comm, &exchange, err);
    if (status != RMJ_OK) {
        free(cast.bytes);
        return status;
    }
    *bytes = cast.bytes;
    *size = cast.size;
    return RMJ_OK;
}
