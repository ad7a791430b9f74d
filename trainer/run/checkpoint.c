// Checkpoints: every rank uploads the pages of its pinned slot in the background; when the votes say that all have,
// the digests are gathered and rank 0 writes the manifest, in the background too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "trainer/run/collective.h"
#include "trainer/run/trainer.h"

// interval: auto. A checkpoint may take up to a twentieth of the time (in the background), and none is made more often
// than this: snapshots in memory cover what is younger.
#define AUTO_SECONDS_MIN 15.0
#define AUTO_COST_TIMES 20.0

static int cancelled(struct rmj_uploader *uploader)
{
    pthread_mutex_lock(&uploader->lock);
    int cancel = uploader->cancel || uploader->closing;
    pthread_mutex_unlock(&uploader->lock);
    return cancel;
}

static enum rmj_status upload(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    const struct rmj_slot_header *header = rmj_slot_header(uploader->slot);
    const struct rmj_slot_page *table = rmj_slot_pages(uploader->slot);
    RMJ_ASSERT(header != NULL && header->step == uploader->step);
    uploader->bytes_stored = uploader->bytes_raw = 0;
    for (uint32_t i = 0; i < header->page_count; i++) {
        if (cancelled(uploader)) {
            return rmj_fail(err, RMJ_CANCELLED, "the generation ended");
        }
        size_t size = table[i].element_count * sizeof(float);
        const float *w = rmj_slot_data(uploader->slot, i);
        struct rmj_page_section sections[] = {
            {w, size, 1}, {w + table[i].element_count, size, 1}, {w + 2 * table[i].element_count, size, 1}};
        struct rmj_digest *digest = &uploader->digests[table[i].page];
        uint64_t stored = 0;
        int sent = 0;
        rmj_page_digest(sections, 3, digest);
        if (rmj_fault_point("upload")) {
            return rmj_fail(err, RMJ_IO, "upload of page %u failed by order", table[i].page);
        }
        RMJ_TRY(rmj_page_put(trainer->checkpoint_store, trainer->prefix, sections, 3, digest, &stored, &sent, err));
        uploader->bytes_stored += stored;
        uploader->bytes_raw += 3 * size;
    }
    return RMJ_OK;
}

// The state object first: a manifest names only what is there.
static enum rmj_status upload_state(struct rmj_trainer *trainer, struct rmj_error *err)
{
    const struct rmj_slot_header *header = rmj_slot_header(trainer->uploader.slot);
    const void *state = rmj_slot_state(trainer->uploader.slot);
    struct rmj_digest digest;
    char hex[RMJ_DIGEST_HEX_SIZE], key[160];
    rmj_sha256_of(state, header->state_size, &digest);
    rmj_digest_hex(&digest, hex);
    snprintf(key, sizeof key, "%.64s/state/%s", trainer->prefix, hex);
    return rmj_store_put(trainer->checkpoint_store, key, state, header->state_size, RMJ_PUT_ANY, &digest, err);
}

static enum rmj_status commit(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    struct rmj_digest digest;
    (void)rmj_fault_point("commit");
    RMJ_TRY(rmj_manifest_commit(trainer->checkpoint_store, trainer->prefix, &uploader->manifest, &digest, err));
    double seconds = rmj_clock_mono_seconds() - uploader->commit_began;
    pthread_mutex_lock(&uploader->lock);
    uploader->seconds = seconds;
    pthread_mutex_unlock(&uploader->lock);
    struct rmj_manifest_report report = {.generation = trainer->generation.number,
                                         .step = uploader->manifest.step,
                                         .bytes_stored = uploader->bytes_stored,
                                         .bytes_raw = uploader->bytes_raw,
                                         .seconds = seconds};
    rmj_digest_hex(&digest, report.digest);
    rmj_link_report_manifest(trainer->link, &report);
    return RMJ_OK;
}

static void serve_upload(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    struct rmj_copier *copier = &trainer->copier;
    struct rmj_error err = {0};
    pthread_mutex_lock(&copier->lock);
    while (copier->busy && copier->slot == uploader->slot) {
        pthread_cond_wait(&copier->changed, &copier->lock);
    }
    pthread_mutex_unlock(&copier->lock);
    enum rmj_status status = upload(trainer, &err);
    if (status == RMJ_OK && trainer->generation.rank == 0) {
        status = upload_state(trainer, &err);
    }
    if (status != RMJ_OK && status != RMJ_CANCELLED) {
        char reason[RMJ_ERROR_MESSAGE_SIZE];
        rmj_log(RMJ_LOG_WARN, "rank", "event=upload_failed job=%s step=%u reason=%s", trainer->options->job,
                uploader->step, rmj_log_quote(reason, sizeof reason, err.message));
    }
    if (status != RMJ_CANCELLED) {
        rmj_link_checkpoint_problem(trainer->link, status == RMJ_OK ? "" : err.message);
    }
    pthread_mutex_lock(&uploader->lock);
    uploader->upload_wanted = 0;
    uploader->state = status == RMJ_OK ? RMJ_UPLOAD_DONE : RMJ_UPLOAD_FAILED;
    pthread_cond_broadcast(&uploader->changed);
    pthread_mutex_unlock(&uploader->lock);
}

static void serve_commit(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    struct rmj_error err = {0};
    enum rmj_status status = commit(trainer, &err);
    if (status != RMJ_OK) {
        char reason[RMJ_ERROR_MESSAGE_SIZE];
        rmj_log(RMJ_LOG_ERROR, "rank", "event=commit_failed job=%s step=%u reason=%s", trainer->options->job,
                uploader->manifest.step, rmj_log_quote(reason, sizeof reason, err.message));
        rmj_link_checkpoint_problem(trainer->link, err.message);
    }
    pthread_mutex_lock(&uploader->lock);
    uploader->commit_wanted = 0;
    uploader->commit_status = status;
    uploader->commit_error = err;
    pthread_cond_broadcast(&uploader->changed);
    pthread_mutex_unlock(&uploader->lock);
}

static void *uploader_main(void *context)
{
    struct rmj_trainer *trainer = context;
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_lock(&uploader->lock);
    while (!uploader->closing) {
        int commit_wanted = uploader->commit_wanted, upload_wanted = uploader->upload_wanted;
        if (!commit_wanted && !upload_wanted) {
            pthread_cond_wait(&uploader->changed, &uploader->lock);
            continue;
        }
        pthread_mutex_unlock(&uploader->lock);
        if (commit_wanted) {
            serve_commit(trainer);
        } else {
            serve_upload(trainer);
        }
        pthread_mutex_lock(&uploader->lock);
    }
    pthread_mutex_unlock(&uploader->lock);
    return NULL;
}

enum rmj_status rmj_uploader_start(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_init(&uploader->lock, NULL);
    pthread_cond_init(&uploader->changed, NULL);
    uploader->began = rmj_clock_mono_seconds();
    if (pthread_create(&uploader->thread, NULL, uploader_main, trainer) != 0) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no thread for uploads");
    }
    uploader->started = 1;
    return RMJ_OK;
}

void rmj_uploader_stop(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    if (!uploader->started) {
        return;
    }
    pthread_mutex_lock(&uploader->lock);
    uploader->closing = 1;
    pthread_cond_broadcast(&uploader->changed);
    pthread_mutex_unlock(&uploader->lock);
    pthread_join(uploader->thread, NULL);
    uploader->started = 0;
    rmj_manifest_deinit(&uploader->manifest);
}

static void unpin(struct rmj_uploader *uploader)
{
    if (uploader->slot != NULL) {
        uploader->slot->pinned = 0;
    }
    uploader->slot = NULL;
    uploader->state = RMJ_UPLOAD_IDLE;
}

void rmj_uploader_quiesce(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_lock(&uploader->lock);
    uploader->cancel = 1;
    while (uploader->upload_wanted || uploader->commit_wanted) {
        pthread_cond_wait(&uploader->changed, &uploader->lock);
    }
    uploader->cancel = 0;
    unpin(uploader);
    pthread_mutex_unlock(&uploader->lock);
}

void rmj_checkpoint_start(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_lock(&uploader->lock);
    RMJ_ASSERT(uploader->slot == NULL);
    uploader->slot = trainer->copier.slot;
    uploader->slot->pinned = 1;
    uploader->step = trainer->copier.step;
    uploader->state = RMJ_UPLOAD_RUNNING;
    uploader->upload_wanted = 1;
    uploader->began = rmj_clock_mono_seconds();
    pthread_cond_broadcast(&uploader->changed);
    pthread_mutex_unlock(&uploader->lock);
}

static int is_due(struct rmj_trainer *trainer)
{
    const struct rmj_generation *gen = &trainer->generation;
    const struct rmj_uploader *uploader = &trainer->uploader;
    if (trainer->settings.checkpoint_off) {
        return 0;
    }
    if (gen->checkpoint_every > 0) {
        return (trainer->state->step + 1) % gen->checkpoint_every == 0;
    }
    double wait = uploader->seconds * AUTO_COST_TIMES;
    return rmj_clock_mono_seconds() - uploader->began > (wait > AUTO_SECONDS_MIN ? wait : AUTO_SECONDS_MIN);
}

uint32_t rmj_checkpoint_vote_flags(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_lock(&uploader->lock);
    uint32_t flags = uploader->state == RMJ_UPLOAD_DONE     ? RMJ_VOTE_UPLOADED
                     : uploader->state == RMJ_UPLOAD_FAILED ? RMJ_VOTE_UPLOADED | RMJ_VOTE_UPLOAD_FAILED
                                                            : 0u;
    flags |= is_due(trainer) ? RMJ_VOTE_CHECKPOINT : 0u; // only rank 0's counts
    pthread_mutex_unlock(&uploader->lock);
    return flags;
}

// Every page's digest from the rank that owns it.
static enum rmj_status gather_digests(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_uploader *uploader = &trainer->uploader;
    uint32_t pages = trainer->layout->page_count;
    rmj_collective_note(trainer);
    RMJ_TRY(
        rmj_comm_all_gather(gen->comm, uploader->digests, pages * sizeof(struct rmj_digest), gen->all_digests, err));
    for (uint32_t page = 0; page < pages; page++) {
        uploader->digests[page] = gen->all_digests[(size_t)trainer->page_owners[page] * pages + page];
    }
    return RMJ_OK;
}

// Rank 0: the manifest from the slot's state and the digests. The last commit is over: see settle.
static enum rmj_status fill_manifest(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    struct rmj_manifest *manifest = &uploader->manifest;
    const struct rmj_slot_header *header = rmj_slot_header(uploader->slot);
    const struct rmj_state *state = rmj_slot_state(uploader->slot);
    rmj_manifest_deinit(manifest);
    *manifest = (struct rmj_manifest){.step = state->step, .pairs_consumed = state->pairs_consumed};
    snprintf(manifest->job_uid, sizeof manifest->job_uid, "%s", trainer->task->job_uid);
    memcpy(manifest->plan, trainer->plan_digest, sizeof manifest->plan);
    memcpy(manifest->spec, trainer->info->spec_digest, sizeof manifest->spec);
    rmj_digest_hex(&state->consumed_sum, manifest->consumed_sum);
    rmj_digest_hex(&state->chain, manifest->consumed_chain);
    rmj_sha256_of(state, header->state_size, &manifest->state);
    manifest->state_size = header->state_size;
    manifest->page_count = trainer->layout->page_count;
    manifest->pages = calloc(manifest->page_count, sizeof *manifest->pages);
    if (manifest->pages == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a manifest");
    }
    for (size_t page = 0; page < manifest->page_count; page++) {
        manifest->pages[page].digest = uploader->digests[page];
        manifest->pages[page].raw_size = trainer->layout->pages[page].element_count * 3 * sizeof(float);
    }
    return RMJ_OK;
}

static void wait_commit(struct rmj_uploader *uploader)
{
    pthread_mutex_lock(&uploader->lock);
    while (uploader->commit_wanted) {
        pthread_cond_wait(&uploader->changed, &uploader->lock);
    }
    pthread_mutex_unlock(&uploader->lock);
}

static enum rmj_status finish_uploads(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    RMJ_TRY(gather_digests(trainer, err));
    if (trainer->generation.rank == 0) {
        wait_commit(uploader); // of the checkpoint before; long over in all but a starved store
        RMJ_TRY(fill_manifest(trainer, err));
    }
    pthread_mutex_lock(&uploader->lock);
    unpin(uploader);
    uploader->commit_began = uploader->began;
    uploader->commit_wanted = trainer->generation.rank == 0;
    pthread_cond_broadcast(&uploader->changed);
    pthread_mutex_unlock(&uploader->lock);
    return RMJ_OK;
}

enum rmj_status rmj_checkpoint_settle(struct rmj_trainer *trainer, uint32_t flags_any, uint32_t flags_all,
                                      struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    if (gen->checkpoint_step == 0 || !(flags_all & RMJ_VOTE_UPLOADED)) {
        return RMJ_OK;
    }
    gen->checkpoint_step = 0;
    if (flags_any & RMJ_VOTE_UPLOAD_FAILED) {
        pthread_mutex_lock(&trainer->uploader.lock);
        unpin(&trainer->uploader);
        pthread_mutex_unlock(&trainer->uploader.lock);
        return RMJ_OK;
    }
    return finish_uploads(trainer, err);
}

// Waits for this rank's upload, then hears how everyone's went and finishes or drops it.
static enum rmj_status drain(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    struct rmj_uploader *uploader = &trainer->uploader;
    uint32_t all[RMJ_COMM_WORLD_MAX], any = 0;
    pthread_mutex_lock(&uploader->lock);
    while (uploader->upload_wanted) {
        pthread_cond_wait(&uploader->changed, &uploader->lock);
    }
    pthread_mutex_unlock(&uploader->lock);
    uint32_t own = rmj_checkpoint_vote_flags(trainer);
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_all_gather(gen->comm, &own, sizeof own, all, err));
    for (uint32_t rank = 0; rank < gen->world; rank++) {
        any |= all[rank];
    }
    return rmj_checkpoint_settle(trainer, any, RMJ_VOTE_UPLOADED, err);
}

enum rmj_status rmj_checkpoint_now(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    uint32_t step = trainer->state->step;
    rmj_comm_set_deadline(gen->comm, RMJ_COLLECTIVE_MS_LONG);
    rmj_snapshot_fence(trainer);
    if (gen->checkpoint_step != 0) {
        int newest = gen->checkpoint_step == step;
        RMJ_TRY(drain(trainer, err));
        if (newest) {
            step = 0;
        }
    }
    if (step != 0) {
        gen->checkpoint_step = step;
        rmj_checkpoint_start(trainer);
        RMJ_TRY(drain(trainer, err));
    }
    if (gen->rank == 0) {
        wait_commit(&trainer->uploader);
    }
    // Nobody goes on before the manifest is there (or known to have failed).
    uint8_t done = 1, all[RMJ_COMM_WORLD_MAX];
    rmj_collective_note(trainer);
    return rmj_comm_all_gather(gen->comm, &done, sizeof done, all, err);
}

int rmj_checkpoint_violated(struct rmj_trainer *trainer)
{
    struct rmj_uploader *uploader = &trainer->uploader;
    pthread_mutex_lock(&uploader->lock);
    int violated = uploader->commit_status == RMJ_CONFLICT;
    uploader->commit_status = RMJ_OK;
    struct rmj_error err = uploader->commit_error;
    pthread_mutex_unlock(&uploader->lock);
    if (violated) {
        const char *lines[] = {"what   a committed checkpoint of the same step has other content", err.message,
                               "likely ranks of different builds or device classes took part",
                               "mend   keep the store as it is and report this with the rank's log"};
        rmj_link_fail_job(trainer->link, trainer->generation.number, RMJOB__V1__JOB_STATE__FAILED_INTERNAL,
                          "determinism violation: a checkpoint differs from the committed one", lines,
                          RMJ_COUNT(lines));
    }
    return violated;
}
