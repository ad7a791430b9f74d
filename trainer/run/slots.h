// Snapshot slots: memfds that the supervisor owns and the trainer fills, so that a snapshot outlives the trainer.
//
//   header page (4 KiB) | page table | state | page a: w m v | page b: w m v | ...
//
// A slot describes itself. `complete` is stored last (release), so a trainer killed while it copies leaves a slot that
// reads as absent.
#ifndef RMJ_TRAINER_RUN_SLOTS_H
#define RMJ_TRAINER_RUN_SLOTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "trainer/model/layout.h"

#define RMJ_SLOT_COUNT 3

struct rmj_slot_page {
    uint32_t page;
    uint32_t zero;
    uint64_t element_count;
    uint64_t offset; // of w; m and v follow
};

struct rmj_slot_header {
    char magic[8];
    char job[64];
    uint32_t step;
    uint32_t page_count;
    uint64_t state_offset, state_size;
    uint64_t total_size;
    _Atomic uint32_t complete;
};

// Owner: the training thread; `pinned` is also read by it alone. The copier writes a slot's bytes between begin and
// finish.
struct rmj_slot {
    int fd;
    char *bytes; // the mapping
    size_t size;
    int pinned;  // being uploaded
    int current; // made by the running generation
};

struct rmj_slots {
    char job[64];
    struct rmj_slot slots[RMJ_SLOT_COUNT];
};

// Maps what is there. A slot that holds nothing of this job, or nonsense, counts as empty.
RMJ_MUST_USE enum rmj_status rmj_slots_open(struct rmj_slots *slots, const int fds[RMJ_SLOT_COUNT], const char *job,
                                            struct rmj_error *err);
void rmj_slots_close(struct rmj_slots *slots);
// NULL when the slot is not complete.
const struct rmj_slot_header *rmj_slot_header(const struct rmj_slot *slot);
const struct rmj_slot_page *rmj_slot_pages(const struct rmj_slot *slot);
// Marks the slot incomplete and lays it out; pages' elements are then written through rmj_slot_data. The slot takes
// exactly the size it needs, so memory follows what a rank owns; after a generation's first snapshots nothing is
// mapped.
RMJ_MUST_USE enum rmj_status rmj_slot_begin(struct rmj_slots *slots, struct rmj_slot *slot, uint32_t step,
                                            const struct rmj_layout *layout, const uint32_t *pages, uint32_t page_count,
                                            size_t state_size, struct rmj_error *err);
void *rmj_slot_state(struct rmj_slot *slot);
float *rmj_slot_data(struct rmj_slot *slot, uint32_t index); // w of the index-th page; m and v follow
void rmj_slot_finish(struct rmj_slot *slot);
// w of `page` at `step` (m and v follow), in any complete slot; NULL when no slot holds it.
const float *rmj_slots_find(const struct rmj_slots *slots, uint32_t step, uint32_t page, uint64_t element_count);
// Replicated state of `step`, NULL when no slot has it.
const void *rmj_slots_find_state(const struct rmj_slots *slots, uint32_t step, size_t size);
// The slot to overwrite next. `everywhere`: newest step that is complete on every rank of the running generation; its
// slot and newer ones are kept, and so is the resume step's older copy until then.
struct rmj_slot *rmj_slots_pick(struct rmj_slots *slots, uint32_t everywhere, uint32_t resume_step);
size_t rmj_slot_bytes(const struct rmj_layout *layout, const uint32_t *pages, uint32_t page_count, size_t state_size);

#endif
