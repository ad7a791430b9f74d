#include "trainer/run/slots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_SIZE 4096u
#define ALIGN 64u
#define PAGES_MAX 1000000u

static const char slot_magic[8] = "rmjslot1";

static size_t align(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static struct rmj_slot_header *raw_header(const struct rmj_slot *slot)
{
    return (struct rmj_slot_header *)slot->bytes;
}

static struct rmj_slot_page *raw_table(const struct rmj_slot *slot)
{
    return (struct rmj_slot_page *)(slot->bytes + HEADER_SIZE);
}

static enum rmj_status map_slot(struct rmj_slot *slot, size_t size, struct rmj_error *err)
{
    if (slot->bytes != NULL) {
        munmap(slot->bytes, slot->size);
        slot->bytes = NULL;
    }
    slot->size = size;
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, slot->fd, 0);
    if (bytes == MAP_FAILED) {
        return rmj_fail_errno(err, RMJ_NO_MEMORY, "no memory to map a snapshot slot of %zu bytes", size);
    }
    slot->bytes = bytes;
    return RMJ_OK;
}

static int slot_is_sound(const struct rmj_slot *slot, const char *job)
{
    const struct rmj_slot_header *header = raw_header(slot);
    if (memcmp(header->magic, slot_magic, sizeof slot_magic) != 0 ||
        strncmp(header->job, job, sizeof header->job) != 0 || header->page_count > PAGES_MAX ||
        header->total_size > slot->size ||
        HEADER_SIZE + header->page_count * sizeof(struct rmj_slot_page) > slot->size ||
        header->state_size > slot->size || header->state_offset > slot->size - header->state_size) {
        return 0;
    }
    const struct rmj_slot_page *table = raw_table(slot);
    for (uint32_t i = 0; i < header->page_count; i++) {
        if (table[i].element_count > slot->size / 12 || table[i].offset > slot->size - 12 * table[i].element_count) {
            return 0;
        }
    }
    return 1;
}

enum rmj_status rmj_slots_open(struct rmj_slots *slots, const int fds[RMJ_SLOT_COUNT], const char *job,
                               struct rmj_error *err)
{
    *slots = (struct rmj_slots){0};
    snprintf(slots->job, sizeof slots->job, "%s", job);
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        struct rmj_slot *slot = &slots->slots[i];
        struct stat status;
        slot->fd = fds[i];
        if (fstat(slot->fd, &status) != 0) {
            return rmj_fail_errno(err, RMJ_INTERNAL, "snapshot slot %d is no descriptor", i);
        }
        if (status.st_size < (off_t)HEADER_SIZE) {
            if (ftruncate(slot->fd, HEADER_SIZE) != 0) {
                return rmj_fail_errno(err, RMJ_NO_MEMORY, "snapshot slot %d cannot grow", i);
            }
            status.st_size = HEADER_SIZE;
        }
        RMJ_TRY(map_slot(slot, (size_t)status.st_size, err));
        if (!slot_is_sound(slot, slots->job)) {
            atomic_store_explicit(&raw_header(slot)->complete, 0, memory_order_release);
        }
    }
    return RMJ_OK;
}

void rmj_slots_close(struct rmj_slots *slots)
{
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        if (slots->slots[i].bytes != NULL) {
            munmap(slots->slots[i].bytes, slots->slots[i].size);
        }
        slots->slots[i].bytes = NULL;
    }
}

size_t rmj_slot_bytes(const struct rmj_layout *layout, const uint32_t *pages, uint32_t page_count, size_t state_size)
{
    size_t size = HEADER_SIZE + align(page_count * sizeof(struct rmj_slot_page)) + align(state_size);
    for (uint32_t i = 0; i < page_count; i++) {
        size += align(layout->pages[pages[i]].element_count * 3 * sizeof(float));
    }
    return size;
}

const struct rmj_slot_header *rmj_slot_header(const struct rmj_slot *slot)
{
    const struct rmj_slot_header *header = raw_header(slot);
    return atomic_load_explicit(&header->complete, memory_order_acquire) ? header : NULL;
}

const struct rmj_slot_page *rmj_slot_pages(const struct rmj_slot *slot)
{
    return raw_table(slot);
}

enum rmj_status rmj_slot_begin(struct rmj_slots *slots, struct rmj_slot *slot, uint32_t step,
                               const struct rmj_layout *layout, const uint32_t *pages, uint32_t page_count,
                               size_t state_size, struct rmj_error *err)
{
    atomic_store_explicit(&raw_header(slot)->complete, 0, memory_order_seq_cst);
    size_t size = rmj_slot_bytes(layout, pages, page_count, state_size);
    if (slot->size != size) {
        if (ftruncate(slot->fd, (off_t)size) != 0) {
            return rmj_fail_errno(err, RMJ_NO_MEMORY, "a snapshot slot cannot take %zu bytes", size);
        }
        RMJ_TRY(map_slot(slot, size, err));
    }
    struct rmj_slot_header *header = raw_header(slot);
    memcpy(header->magic, slot_magic, sizeof slot_magic);
    memcpy(header->job, slots->job, sizeof header->job);
    header->step = step;
    header->page_count = page_count;
    header->state_offset = HEADER_SIZE + align(page_count * sizeof(struct rmj_slot_page));
    header->state_size = state_size;
    size_t offset = header->state_offset + align(state_size);
    struct rmj_slot_page *table = raw_table(slot);
    for (uint32_t i = 0; i < page_count; i++) {
        uint64_t count = layout->pages[pages[i]].element_count;
        table[i] = (struct rmj_slot_page){.page = pages[i], .element_count = count, .offset = offset};
        offset += align(count * 3 * sizeof(float));
    }
    header->total_size = offset;
    RMJ_ASSERT(offset <= slot->size);
    return RMJ_OK;
}

void *rmj_slot_state(struct rmj_slot *slot)
{
    return slot->bytes + raw_header(slot)->state_offset;
}

float *rmj_slot_data(struct rmj_slot *slot, uint32_t index)
{
    return (float *)(slot->bytes + raw_table(slot)[index].offset);
}

void rmj_slot_finish(struct rmj_slot *slot)
{
    atomic_store_explicit(&raw_header(slot)->complete, 1, memory_order_release);
}

const float *rmj_slots_find(const struct rmj_slots *slots, uint32_t step, uint32_t page, uint64_t element_count)
{
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        const struct rmj_slot *slot = &slots->slots[i];
        const struct rmj_slot_header *header = rmj_slot_header(slot);
        const struct rmj_slot_page *table = raw_table(slot);
        for (uint32_t k = 0; header != NULL && header->step == step && k < header->page_count; k++) {
            if (table[k].page == page && table[k].element_count == element_count) {
                return (const float *)(slot->bytes + table[k].offset);
            }
        }
    }
    return NULL;
}

const void *rmj_slots_find_state(const struct rmj_slots *slots, uint32_t step, size_t size)
{
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        const struct rmj_slot_header *header = rmj_slot_header(&slots->slots[i]);
        if (header != NULL && header->step == step && header->state_size == size) {
            return slots->slots[i].bytes + header->state_offset;
        }
    }
    return NULL;
}

// How much a slot is worth: the least is overwritten first.
static int64_t slot_worth(const struct rmj_slot *slot, uint32_t everywhere, uint32_t resume_step)
{
    const struct rmj_slot_header *header = rmj_slot_header(slot);
    if (header == NULL) {
        return -2;
    }
    if (slot->current) {
        return header->step < everywhere ? (int64_t)header->step : INT64_MAX;
    }
    // Of an earlier generation: only its copy of the resume step matters, until the new owners have one each.
    return header->step == resume_step && everywhere < resume_step ? INT64_MAX : -1;
}

static int holds(const struct rmj_slot *slot, uint32_t step, uint32_t page)
{
    const struct rmj_slot_header *header = rmj_slot_header(slot);
    const struct rmj_slot_page *table = header == NULL || header->step != step ? NULL : rmj_slot_pages(slot);
    for (uint32_t i = 0; table != NULL && i < header->page_count; i++) {
        if (table[i].page == page) {
            return 1;
        }
    }
    return 0;
}

// Pages that no other slot of the same step holds.
static uint32_t count_unique(const struct rmj_slots *slots, int index)
{
    const struct rmj_slot_header *header = rmj_slot_header(&slots->slots[index]);
    const struct rmj_slot_page *table = rmj_slot_pages(&slots->slots[index]);
    uint32_t unique = 0;
    for (uint32_t i = 0; i < header->page_count; i++) {
        int elsewhere = 0;
        for (int k = 0; k < RMJ_SLOT_COUNT && !elsewhere; k++) {
            elsewhere = k != index && holds(&slots->slots[k], header->step, table[i].page);
        }
        unique += !elsewhere;
    }
    return unique;
}

// Generations that end one after another without a step leave every slot with a copy of one resume step, each for other
// owners. The one that holds least alone makes room; should a rank be lost just then, its pages come from the store.
static struct rmj_slot *pick_redundant(struct rmj_slots *slots)
{
    struct rmj_slot *best = NULL;
    uint32_t least = UINT32_MAX;
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        struct rmj_slot *slot = &slots->slots[i];
        uint32_t unique = slot->pinned || slot->current ? UINT32_MAX : count_unique(slots, i);
        if (unique < least) {
            best = slot;
            least = unique;
        }
    }
    return best;
}

struct rmj_slot *rmj_slots_pick(struct rmj_slots *slots, uint32_t everywhere, uint32_t resume_step)
{
    struct rmj_slot *best = NULL;
    int64_t best_worth = INT64_MAX;
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        struct rmj_slot *slot = &slots->slots[i];
        int64_t worth = slot_worth(slot, everywhere, resume_step);
        if (!slot->pinned && worth < best_worth) {
            best = slot;
            best_worth = worth;
        }
    }
    return best != NULL ? best : pick_redundant(slots);
}
