// The trainer process: everything a rank holds, and the parts that work on it. All fields belong to the training thread
// unless said otherwise; the helpers (copier, uploader, link) have theirs.
//
//   trainer.c     life: work from the service, attach, generation after generation
//   setup.c       plan, layout, model, sums and arenas, before the first step
//   generation.c  one fixed membership: ownership, communicator, resume, training, evaluation
//   resume.c      weights and optimizer state from the base model, from memories, or from a manifest
//   step.c        one optimizer step
//   exchange.c    page sums to owners, weights to everyone
//   snapshot.c    the copier
//   checkpoint.c  the uploader, and the manifest
//   evaluate.c    export, scoring, report
#ifndef RMJ_TRAINER_RUN_TRAINER_H
#define RMJ_TRAINER_RUN_TRAINER_H

#include <pthread.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/pool.h"
#include "storage/checkpoint/checkpoint.h"
#include "storage/object/store.h"
#include "trainer/comm/comm.h"
#include "trainer/data/plan.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/config.h"
#include "trainer/model/layout.h"
#include "trainer/model/model.h"
#include "trainer/optim/optim.h"
#include "trainer/run/link.h"
#include "trainer/run/monitor.h"
#include "trainer/run/settings.h"
#include "trainer/run/slots.h"
#include "trainer/run/state.h"

#define RMJ_CONNECT_MS 20000
#define RMJ_COLLECTIVE_MS_MIN 30000   // least deadline of a collective in a step
#define RMJ_COLLECTIVE_MS_LONG 600000 // while one rank exports, uploads or scores
#define RMJ_HEADROOM_BITS 6

struct rmj_trainer_options {
    const char *server, *token, *job, *rank_uid;
    uint32_t incarnation;
    uint32_t supervisor_pid;
    int slot_fds[RMJ_SLOT_COUNT];
    const char *work; // directory for temporary files, removed by the supervisor
};
// Runs the trainer to its end; returns the exit code.
int rmj_trainer_main(const struct rmj_trainer_options *options);

// What every rank says before a step is committed (reference: the vote).
enum {
    RMJ_VOTE_STOP = 1,
    RMJ_VOTE_LEAVE = 2,
    RMJ_VOTE_CHECKPOINT = 4,
    RMJ_VOTE_UPLOADED = 8,
    RMJ_VOTE_UPLOAD_FAILED = 16
};
struct rmj_vote {
    uint32_t step;       // about to be committed
    uint32_t flags;      // RMJ_VOTE_*
    uint32_t newest;     // newest complete snapshot of this generation
    uint32_t pair_count; // pairs computed by this rank
    struct rmj_digest sum;
};

// Copies a committed step into a slot while the next one computes.
struct rmj_copier {
    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int busy, closing;             // locked
    struct rmj_slot *slot;         // being filled, or the newest filled
    uint32_t step;                 // of it
    const struct rmj_trainer *job; // set for the time of a copy: reads pages only
};

enum rmj_upload_state { RMJ_UPLOAD_IDLE, RMJ_UPLOAD_RUNNING, RMJ_UPLOAD_DONE, RMJ_UPLOAD_FAILED };

// Uploads a pinned slot's pages, and on rank 0 commits the manifest.
struct rmj_uploader {
    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int closing, cancel, upload_wanted, commit_wanted, commit_busy; // locked
    enum rmj_upload_state state;                                    // locked
    struct rmj_slot *slot;
    uint32_t step;
    struct rmj_digest *digests; // [page_count], own pages filled by an upload, all by the exchange before a commit
    struct rmj_manifest manifest;
    enum rmj_status commit_status; // of the last commit; locked
    struct rmj_error commit_error; // locked
    uint64_t bytes_stored, bytes_raw;
    double began;        // of the last upload; locked
    double commit_began; // began of the checkpoint that is being committed
    double seconds;      // of the last checkpoint, upload and commit; locked
};

// Everything that lives as long as one membership.
struct rmj_generation {
    uint32_t number, rank, world;
    struct rmj_comm *comm;
    struct rmj_arena arena;
    uint32_t *own_pages; // ascending
    uint32_t own_count;
    float **m, **v;    // [page_count], NULL for pages of others
    char *staging_out; // [world][page_bytes_max]
    char *staging_in;  // [world][page_bytes_max]
    size_t page_bytes_max;
    char *blob, *blobs; // [blob_size], [world][blob_size]: squares, scores, losses
    size_t blob_size;
    struct rmj_vote *votes;         // [world]
    struct rmj_digest *all_digests; // [world][page_count]
    uint32_t resume_step;
    uint32_t everywhere;      // newest snapshot complete on every rank
    uint32_t checkpoint_step; // checkpoint in progress, the same on every rank; 0 for none
    uint32_t checkpoint_every;
    uint64_t collectives;
    int stop, leaving; // agreed by the vote
    int finished;      // evaluated: waits for leave
    int failed;        // the job was failed: waits for leave
    char bad_manifest[RMJ_DIGEST_HEX_SIZE];
};

struct rmj_trainer {
    // Immutable after start.
    const struct rmj_trainer_options *options;
    struct rmj_link *link;
    Rmjob__V1__TaskSpec *task;
    const Rmjob__V1__JobSpec *spec;
    struct rmj_settings settings;
    const char *prefix; // of the job's objects in the checkpoint store
    struct rmj_store *checkpoint_store, *publish_store;
    struct rmj_pool *pool;
    struct rmj_comm_listener *listener;
    struct rmj_model_config config;

    // Made for the first assignment, kept over generations.
    struct rmj_plan *plan;
    char plan_digest[RMJ_DIGEST_HEX_SIZE];
    const struct rmj_plan_info *info;
    struct rmj_layout *layout;
    struct rmj_model *model;
    struct rmj_sums *sums;
    struct rmj_monitor monitor;
    struct rmj_arena arena;
    float *weights; // flat, [layout->weight_count]
    int has_frozen; // what of it is never trained was read, and is the pinned base model's
    struct rmj_state *state;
    size_t state_size;
    uint32_t exponent_count;
    uint32_t pairs_max; // of a step
    struct rmj_proof proof;
    int16_t *observed; // [exponent_count + 1]; the last is the not-finite flag
    double *costs;     // [max(pack_count_max, page_count)]
    uint32_t *order;
    uint32_t *pack_owners, *page_owners;
    float *branch_scores, *pack_losses, *score_gradients; // of one pack
    float *pair_scores;                                   // [2 * pairs_max] of a step, own packs'
    float *pair_losses;                                   // [pairs_max]
    float *pair_margins; // [pair_count] of the whole order, NaN where not known: what this process has seen
    double *squares;     // [page_count]
    double pack_seconds; // longest seen, for deadlines

    struct rmj_slots slots;
    struct rmj_copier copier;
    struct rmj_uploader uploader;
    struct rmj_generation generation;
    double stall_seconds; // of this step
};

// setup.c
RMJ_MUST_USE enum rmj_status rmj_trainer_setup(struct rmj_trainer *trainer, const char *plan, struct rmj_error *err);
void rmj_trainer_teardown(struct rmj_trainer *trainer);
RMJ_MUST_USE enum rmj_status rmj_generation_arena(struct rmj_trainer *trainer, struct rmj_error *err);
// generation.c
RMJ_MUST_USE enum rmj_status rmj_generation_run(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                                int *suspect, struct rmj_error *err);
// resume.c
RMJ_MUST_USE enum rmj_status rmj_resume(struct rmj_trainer *trainer, const Rmjob__V1__Assignment *assignment,
                                        struct rmj_error *err);
// The base model's files are those the plan pinned; RMJ_DATA when they changed since the job was prepared.
RMJ_MUST_USE enum rmj_status rmj_check_base(struct rmj_trainer *trainer, enum rmj_model_part part,
                                            struct rmj_error *err);
// step.c
RMJ_MUST_USE enum rmj_status rmj_step(struct rmj_trainer *trainer, struct rmj_error *err);
// exchange.c
RMJ_MUST_USE enum rmj_status rmj_exchange_sums(struct rmj_trainer *trainer, struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_exchange_weights(struct rmj_trainer *trainer, struct rmj_error *err);
// Every rank's `size` bytes at root to all; size is made known first. *bytes is malloc'ed, also at root.
RMJ_MUST_USE enum rmj_status rmj_broadcast(struct rmj_trainer *trainer, const void *mine, size_t mine_size,
                                           char **bytes, size_t *size, struct rmj_error *err);
// report.c: what is found in the data is told with its source.
void rmj_fail_not_finite(struct rmj_trainer *trainer, uint32_t step, uint32_t pack);
// Fails the job when the state holds an alarm, or, after the last step, when the labels had no signal. On every rank.
void rmj_heed_watch(struct rmj_trainer *trainer);

// Accuracy and margin by source and window, as a message; valid as long as the report is.
struct rmj_stream_words {
    char path[1024];
    Rmjob__V1__StreamSource message;
    Rmjob__V1__StreamWindow whole, windows[RMJ_STREAM_WINDOWS], *list[RMJ_STREAM_WINDOWS];
};
struct rmj_training_report {
    Rmjob__V1__TrainingReport message;
    struct rmj_stream_words *words;
    Rmjob__V1__StreamSource **list;
    char warning[1024], *warnings[1];
};
void rmj_training_report_init(struct rmj_training_report *report, struct rmj_trainer *trainer);
void rmj_training_report_deinit(struct rmj_training_report *report);
// snapshot.c
RMJ_MUST_USE enum rmj_status rmj_copier_start(struct rmj_trainer *trainer, struct rmj_error *err);
void rmj_copier_stop(struct rmj_trainer *trainer);
RMJ_MUST_USE enum rmj_status rmj_snapshot_begin(struct rmj_trainer *trainer, struct rmj_error *err);
void rmj_snapshot_fence(struct rmj_trainer *trainer); // waits; counts the stall
// checkpoint.c
RMJ_MUST_USE enum rmj_status rmj_uploader_start(struct rmj_trainer *trainer, struct rmj_error *err);
void rmj_uploader_stop(struct rmj_trainer *trainer);
void rmj_uploader_quiesce(struct rmj_trainer *trainer); // between generations: nothing is pinned after it
void rmj_checkpoint_start(struct rmj_trainer *trainer); // after the fence, when the checkpoint step's slot is whole
uint32_t rmj_checkpoint_vote_flags(struct rmj_trainer *trainer); // of this rank
// After a vote: finishes the checkpoint in progress once everyone has uploaded. Collective.
RMJ_MUST_USE enum rmj_status rmj_checkpoint_settle(struct rmj_trainer *trainer, uint32_t flags_any, uint32_t flags_all,
                                                   struct rmj_error *err);
// Makes the newest step a committed checkpoint before going on. Collective.
RMJ_MUST_USE enum rmj_status rmj_checkpoint_now(struct rmj_trainer *trainer, struct rmj_error *err);
// 1 after a commit that met different content: the job is failed.
int rmj_checkpoint_violated(struct rmj_trainer *trainer);
// evaluate.c
RMJ_MUST_USE enum rmj_status rmj_evaluate(struct rmj_trainer *trainer, struct rmj_error *err);
// probe.c: hash of the device class, hex.
RMJ_MUST_USE enum rmj_status rmj_probe(const struct rmj_model_config *config, struct rmj_pool *pool,
                                       char hex[RMJ_DIGEST_HEX_SIZE], struct rmj_error *err);

#endif
