// The copier: own pages of a committed step go into a slot while the next step's forward and backward run. They do not
// change before the next update, and the update waits at the fence.
#include <string.h>

#include "base/clock.h"
#include "trainer/run/trainer.h"

static void copy_pages(const struct rmj_trainer *trainer, struct rmj_slot *slot)
{
    const struct rmj_generation *gen = &trainer->generation;
    for (uint32_t i = 0; i < gen->own_count; i++) {
        uint32_t page = gen->own_pages[i];
        uint64_t count = trainer->layout->pages[page].element_count;
        float *to = rmj_slot_data(slot, i);
        memcpy(to, trainer->weights + trainer->layout->pages[page].offset, count * sizeof(float));
        memcpy(to + count, gen->m[page], count * sizeof(float));
        memcpy(to + 2 * count, gen->v[page], count * sizeof(float));
    }
}

static void *copier_main(void *context)
{
    struct rmj_copier *copier = context;
    pthread_mutex_lock(&copier->lock);
    while (!copier->closing) {
        if (!copier->busy) {
            pthread_cond_wait(&copier->changed, &copier->lock);
            continue;
        }
        pthread_mutex_unlock(&copier->lock);
        copy_pages(copier->job, copier->slot);
        rmj_slot_finish(copier->slot);
        pthread_mutex_lock(&copier->lock);
        copier->busy = 0;
        pthread_cond_broadcast(&copier->changed);
    }
    pthread_mutex_unlock(&copier->lock);
    return NULL;
}

enum rmj_status rmj_copier_start(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_copier *copier = &trainer->copier;
    pthread_mutex_init(&copier->lock, NULL);
    pthread_cond_init(&copier->changed, NULL);
    copier->job = trainer;
    if (pthread_create(&copier->thread, NULL, copier_main, copier) != 0) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no thread for snapshots");
    }
    copier->started = 1;
    return RMJ_OK;
}

void rmj_copier_stop(struct rmj_trainer *trainer)
{
    struct rmj_copier *copier = &trainer->copier;
    if (!copier->started) {
        return;
    }
    pthread_mutex_lock(&copier->lock);
    copier->closing = 1;
    pthread_cond_broadcast(&copier->changed);
    pthread_mutex_unlock(&copier->lock);
    pthread_join(copier->thread, NULL);
    copier->started = 0;
}

enum rmj_status rmj_snapshot_begin(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_copier *copier = &trainer->copier;
    struct rmj_generation *gen = &trainer->generation;
    double began = rmj_clock_mono_seconds();
    struct rmj_slot *slot = rmj_slots_pick(&trainer->slots, gen->everywhere, gen->resume_step);
    RMJ_ASSERT(slot != NULL); // three slots: one kept, one pinned, one to write
    RMJ_TRY(rmj_slot_begin(&trainer->slots, slot, trainer->state->step, trainer->layout, gen->own_pages, gen->own_count,
                           trainer->state_size, err));
    slot->current = 1;
    memcpy(rmj_slot_state(slot), trainer->state, trainer->state_size);
    pthread_mutex_lock(&copier->lock);
    copier->slot = slot;
    copier->step = trainer->state->step;
    copier->busy = 1;
    pthread_cond_broadcast(&copier->changed);
    pthread_mutex_unlock(&copier->lock);
    trainer->stall_seconds += rmj_clock_mono_seconds() - began;
    return RMJ_OK;
}

void rmj_snapshot_fence(struct rmj_trainer *trainer)
{
    struct rmj_copier *copier = &trainer->copier;
    double began = rmj_clock_mono_seconds();
    pthread_mutex_lock(&copier->lock);
    while (copier->busy) {
        pthread_cond_wait(&copier->changed, &copier->lock);
    }
    pthread_mutex_unlock(&copier->lock);
    double seconds = rmj_clock_mono_seconds() - began;
    trainer->stall_seconds += seconds;
    atomic_fetch_add(&rmj_link_progress(trainer->link)->stall_us, (unsigned long long)(seconds * 1e6));
    rmj_link_inventory(trainer->link, &trainer->slots);
}
