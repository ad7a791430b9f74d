// One fixed membership: who owns what, the mesh, where it starts from, and then steps until it is told to stop, a peer
// is lost, or the job is done.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/run/trainer.h"

static enum rmj_status connect_peers(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                     struct rmj_error *err)
{
    const char *addresses[RMJ_COMM_WORLD_MAX];
    for (size_t i = 0; i < assignment->n_peers; i++) {
        addresses[i] = assignment->peers[i]->comm_address == NULL ? "" : assignment->peers[i]->comm_address;
    }
    struct rmj_comm_options options = {.listener = trainer->listener,
                                       .rank = trainer->generation.rank,
                                       .world = trainer->generation.world,
                                       .addresses = addresses,
                                       .generation = trainer->generation.number,
                                       .secret = assignment->secret.data,
                                       .secret_size = assignment->secret.len,
                                       .connect_deadline_ms = RMJ_CONNECT_MS,
                                       .deadline_ms = RMJ_COLLECTIVE_MS_MIN,
                                       .abort_fd = rmj_link_abort_fd(trainer->link)};
    return rmj_comm_create(&trainer->generation.comm, &options, err);
}

static void start(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment)
{
    trainer->generation = (struct rmj_generation){.number = assignment->generation,
                                                  .rank = assignment->rank,
                                                  .world = (uint32_t)assignment->n_peers,
                                                  .checkpoint_every = assignment->checkpoint_every_steps};
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        trainer->slots.slots[i].current = 0;
    }
    trainer->copier.step = 0;
}

// Pages of the resume step under their new owners: from here on a lost rank costs no older step.
static enum rmj_status keep_resume_point(struct rmj_trainer *trainer, struct rmj_error *err)
{
    return trainer->state->step == 0 ? RMJ_OK : rmj_snapshot_begin(trainer, err);
}

static enum rmj_status train(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    rmj_heed_watch(trainer); // of the step that this generation resumes at: whoever saw it may not have lived to tell
    while (trainer->state->step < trainer->info->step_count && !gen->stop && !gen->failed) {
        RMJ_TRY(rmj_step(trainer, err));
        rmj_heed_watch(trainer);
    }
    if (gen->failed) {
        return RMJ_OK;
    }
    // The last step, also when this generation only resumed at it: whoever committed it may not have lived to tell. A
    // stop at a step may be the last a rank is seen of: ranks that leave take their memory with them.
    if (trainer->state->step > 0 && !trainer->settings.checkpoint_off) {
        RMJ_TRY(rmj_checkpoint_now(trainer, err));
        gen->failed = rmj_checkpoint_violated(trainer);
    }
    return RMJ_OK;
}

static enum rmj_status run(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    RMJ_TRY(rmj_trainer_setup(trainer, assignment->plan == NULL ? "" : assignment->plan, err));
    RMJ_TRY(rmj_generation_arena(trainer, err));
    RMJ_TRY(connect_peers(trainer, assignment, err));
    RMJ_TRY(rmj_resume(trainer, assignment, err));
    RMJ_TRY(keep_resume_point(trainer, err));
    RMJ_TRY(train(trainer, err));
    if (gen->stop || gen->failed) {
        return RMJ_OK;
    }
    return rmj_evaluate(trainer, err);
}

static void finish(struct rmj_trainer *trainer, int *suspect)
{
    struct rmj_generation *gen = &trainer->generation;
    *suspect = gen->comm == NULL ? -1 : rmj_comm_suspect(gen->comm);
    // Peers learn of it by their broken connections, so these go first.
    rmj_comm_destroy(gen->comm);
    gen->comm = NULL;
    rmj_snapshot_fence(trainer);
    rmj_uploader_quiesce(trainer);
    if (gen->arena.start != NULL) {
        rmj_arena_destroy(&gen->arena);
    }
    gen->arena = (struct rmj_arena){0};
}

enum rmj_status rmj_generation_run(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment, int *suspect,
                                   struct rmj_error *err)
{
    if (assignment->n_peers == 0 || assignment->n_peers > RMJ_COMM_WORLD_MAX ||
        assignment->rank >= assignment->n_peers) {
        return rmj_fail(err, RMJ_INVALID, "assignment of rank %u of %zu makes no sense", assignment->rank,
                        assignment->n_peers);
    }
    start(trainer, assignment);
    *suspect = -1;
    if (!rmj_link_begin(trainer->link, assignment->generation, assignment->rank)) {
        return rmj_fail(err, RMJ_CANCELLED, "generation %u has ended", assignment->generation);
    }
    enum rmj_status status = run(trainer, assignment, err);
    finish(trainer, suspect);
    rmj_link_end(trainer->link);
    if (status != RMJ_OK && rmj_link_aborted(trainer->link)) {
        status = RMJ_CANCELLED; // whatever broke, it broke because the generation ended
    }
    return status;
}
