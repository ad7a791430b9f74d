// The last phase of a generation: the final weights are exported and staged, every rank loads the staged bytes and
// scores its share, rank 0 stores the scores and tells the service.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/fs.h"
#include "storage/artifact/artifact.h"
#include "trainer/data/lineage.h"
#include "trainer/data/lora_spec.h"
#include "trainer/data/pins.h"
#include "trainer/data/rendering.h"
#include "trainer/eval/eval.h"
#include "trainer/run/collective.h"
#include "trainer/run/trainer.h"

#define PATH_SIZE 600

static enum rmj_status export_weights(struct rmj_trainer *trainer, const char *directory, struct rmj_error *err)
{
    struct rmj_rendering rendering;
    (void)rmj_fault_point("export");
    RMJ_TRY(rmj_check_base(trainer, RMJ_MODEL_COMPANIONS, err)); // tokenizer and lineage go into the artifact
    RMJ_TRY(rmj_rendering_open(&rendering, trainer->spec, &trainer->config, NULL, err));
    const struct rmj_renderer *renderer = &rendering.renderer;
    struct rmj_export_options options = {.base_directory = trainer->spec->base_model,
                                         .tokenizer_directory = rendering.directory,
                                         .directory = directory,
                                         .config = &trainer->config,
                                         .layout = trainer->layout,
                                         .weights = trainer->weights,
                                         .bos_token = renderer->bos,
                                         .eos_token = renderer->eos,
                                         .pad_token = trainer->info->pad_token,
                                         .pad_text = renderer->pad_text,
                                         .vocabulary_grows = trainer->info->vocabulary_grows,
                                         .chat_template = rmj_renderer_template(renderer),
                                         .adapter_base =
                                             rmj_publishes_adapter(trainer->spec) ? trainer->spec->base_model : NULL};
    enum rmj_status status = RMJ_OK;
    if (renderer->pad != options.pad_token) {
        status = rmj_fail(err, RMJ_INTERNAL, "the pad token is %d, the plan was made with %d", renderer->pad,
                          options.pad_token);
        goto out;
    }
    RMJ_GO(rmj_model_export(&options, err));
    RMJ_GO(rmj_lineage_write(trainer->plan, options.base_directory, directory, err));
out:
    rmj_rendering_close(&rendering);
    return status;
}

// The list of staged files as a message: what EvaluatedRequest carries, and what the other ranks download by.
static enum rmj_status pack_listing(const struct rmj_artifact *artifact, const char *prefix, struct rmj_buf *out,
                                    struct rmj_error *err)
{
    Rmjob__V1__EvaluatedRequest listing = RMJOB__V1__EVALUATED_REQUEST__INIT;
    size_t count = artifact->file_count;
    Rmjob__V1__StagedFile *files = calloc(count + 1, sizeof *files);
    Rmjob__V1__StagedFile **pointers = calloc(count + 1, sizeof(Rmjob__V1__StagedFile *));
    char(*hex)[RMJ_DIGEST_HEX_SIZE] = calloc(count + 1, sizeof *hex);
    enum rmj_status status = RMJ_OK;
    if (files == NULL || pointers == NULL || hex == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for the list of staged files");
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        rmjob__v1__staged_file__init(&files[i]);
        rmj_digest_hex(&artifact->files[i].digest, hex[i]);
        files[i].path = artifact->files[i].path;
        files[i].has_size = 1;
        files[i].size = artifact->files[i].size;
        files[i].sha256 = hex[i];
        pointers[i] = &files[i];
    }
    listing.staged_prefix = (char *)(uintptr_t)prefix;
    listing.files = pointers;
    listing.n_files = count;
    char *bytes = rmj_buf_extend(out, protobuf_c_message_get_packed_size(&listing.base));
    if (bytes != NULL) {
        protobuf_c_message_pack(&listing.base, (uint8_t *)bytes);
    }
    status = rmj_buf_check(out, err);
out:
    free(files);
    free(pointers);
    free(hex);
    return status;
}

// Rank 0: exports, stages, and says what was staged.
static enum rmj_status stage(struct rmj_trainer *trainer, struct rmj_buf *listing, struct rmj_error *err)
{
    struct rmj_artifact artifact = {0};
    char directory[PATH_SIZE], prefix[160];
    enum rmj_status status = RMJ_OK;
    snprintf(directory, sizeof directory, "%s/export-g%u", trainer->options->work, trainer->generation.number);
    snprintf(prefix, sizeof prefix, "staged/%s/g%u", trainer->options->job, trainer->generation.number);
    RMJ_GO(rmj_fs_remove_tree(directory, err));
    RMJ_GO(export_weights(trainer, directory, err));
    RMJ_GO(rmj_artifact_scan(&artifact, directory, err));
    RMJ_GO(rmj_artifact_upload(trainer->publish_store, prefix, directory, &artifact, err));
    RMJ_GO(pack_listing(&artifact, prefix, listing, err));
out:
    rmj_artifact_deinit(&artifact);
    if (rmj_fs_remove_tree(directory, NULL) != RMJ_OK) {
        // The supervisor removes the whole work directory in the end.
    }
    return status;
}

static enum rmj_status share_listing(struct rmj_trainer *trainer, Rmjob__V1__EvaluatedRequest **listing,
                                     struct rmj_error *err)
{
    struct rmj_buf own;
    char *bytes = NULL;
    size_t size = 0;
    rmj_buf_init(&own, 16 << 20);
    enum rmj_status status = RMJ_OK;
    if (trainer->generation.rank == 0) {
        RMJ_GO(stage(trainer, &own, err));
    }
    RMJ_GO(rmj_broadcast(trainer, own.bytes, own.size, &bytes, &size, err));
    *listing = (Rmjob__V1__EvaluatedRequest *)protobuf_c_message_unpack(&rmjob__v1__evaluated_request__descriptor, NULL,
                                                                        size, (const uint8_t *)bytes);
    if (*listing == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "rank 0 sent no list of staged files");
    }
out:
    free(bytes);
    rmj_buf_deinit(&own);
    return status;
}

// Everyone scores what lies in the store, rank 0 too: what is published is what was evaluated (P5).
static enum rmj_status fetch(struct rmj_trainer *trainer, const Rmjob__V1__EvaluatedRequest *listing,
                             const char *directory, struct rmj_digest *root, struct rmj_error *err)
{
    struct rmj_artifact artifact = {0};
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < listing->n_files; i++) {
        struct rmj_digest digest;
        if (!rmj_digest_from_hex(&digest, listing->files[i]->sha256)) {
            status = rmj_fail(err, RMJ_CORRUPT, "list of staged files holds no digest for %s", listing->files[i]->path);
            goto out;
        }
        RMJ_GO(rmj_artifact_add(&artifact, listing->files[i]->path, listing->files[i]->size, &digest, err));
    }
    rmj_artifact_root(&artifact, root);
    RMJ_GO(rmj_fs_remove_tree(directory, err));
    RMJ_GO(rmj_artifact_download(trainer->publish_store, listing->staged_prefix, &artifact, directory, NULL, err));
out:
    rmj_artifact_deinit(&artifact);
    return status;
}

static int eval_progress(void *context, uint32_t done)
{
    struct rmj_trainer *trainer = context;
    atomic_store(&rmj_link_progress(trainer->link)->eval_done, done);
    return rmj_link_aborted(trainer->link);
}

// This rank's share, then everyone's: scores of pack p come from rank p mod world.
static enum rmj_status score(struct rmj_trainer *trainer, struct rmj_eval *eval, float *scores, float *all,
                             struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    uint32_t count = rmj_eval_score_count(eval);
    atomic_store(&rmj_link_progress(trainer->link)->eval_total, rmj_eval_pack_count(eval));
    (void)rmj_fault_point("evaluate");
    RMJ_TRY(rmj_eval_run(eval, trainer->pool, gen->rank, gen->world, scores, eval_progress, trainer, err));
    rmj_collective_note(trainer);
    RMJ_TRY(rmj_comm_all_gather(gen->comm, scores, count * sizeof(float), all, err));
    for (uint32_t pack = 0; pack < rmj_eval_pack_count(eval); pack++) {
        uint32_t first, of_pack;
        rmj_eval_pack_scores(eval, pack, &first, &of_pack);
        memcpy(scores + first, all + (size_t)(pack % gen->world) * count + first, of_pack * sizeof(float));
    }
    return RMJ_OK;
}

static enum rmj_status store_rows(struct rmj_trainer *trainer, const struct rmj_eval *eval, const float *scores,
                                  char hex[RMJ_DIGEST_HEX_SIZE], struct rmj_error *err)
{
    Rmjob__V1__ScoredRows *rows = rmj_eval_rows(eval, scores);
    size_t size = rows == NULL ? 0 : protobuf_c_message_get_packed_size(&rows->base);
    uint8_t *bytes = malloc(size + 1);
    if (rows == NULL || bytes == NULL) {
        free(bytes);
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the scored rows");
    }
    struct rmj_digest digest;
    char key[160];
    protobuf_c_message_pack(&rows->base, bytes);
    rmj_sha256_of(bytes, size, &digest);
    rmj_digest_hex(&digest, hex);
    snprintf(key, sizeof key, "%.64s/rows/%s", trainer->prefix, hex);
    enum rmj_status status = rmj_store_put(trainer->checkpoint_store, key, bytes, size, RMJ_PUT_ANY, &digest, err);
    protobuf_c_message_free_unpacked(&rows->base, NULL);
    free(bytes);
    return status;
}

static enum rmj_status tell(struct rmj_trainer *trainer, const Rmjob__V1__EvaluatedRequest *listing,
                            const struct rmj_digest *root, char *rows_hex, struct rmj_error *err)
{
    const struct rmj_state *state = trainer->state;
    Rmjob__V1__EvaluatedRequest request = *listing; // borrows prefix and files
    Rmjob__V1__EvalReport report = RMJOB__V1__EVAL_REPORT__INIT;
    Rmjob__V1__ConsumedProof proof = RMJOB__V1__CONSUMED_PROOF__INIT;
    char root_hex[RMJ_DIGEST_HEX_SIZE], sum[RMJ_DIGEST_HEX_SIZE], chain[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(root, root_hex);
    rmj_digest_hex(&state->consumed_sum, sum);
    rmj_digest_hex(&state->chain, chain);
    report.artifact_digest = root_hex;
    report.rows_digest = rows_hex;
    proof.has_pairs = proof.has_steps = 1;
    proof.pairs = state->pairs_consumed;
    proof.steps = state->step;
    proof.pairs_sum = sum;
    proof.chain = chain;
    request.job = (char *)(uintptr_t)trainer->options->job;
    request.has_generation = 1;
    request.generation = trainer->generation.number;
    request.report = &report;
    request.consumed = &proof;
    struct rmj_training_report training;
    rmj_training_report_init(&training, trainer);
    request.training = &training.message;
    rmj_link_flush(trainer->link, RMJ_SERVICE_GONE_MS); // steps and manifests are known before the job moves on
    enum rmj_status status =
        rmj_link_call(trainer->link, "/rmjob.v1.Ranks/Evaluated", &request.base, RMJ_SERVICE_GONE_MS, err);
    rmj_training_report_deinit(&training);
    return status;
}

static enum rmj_status check_proof(const struct rmj_trainer *trainer, struct rmj_error *err)
{
    if (trainer->state->pairs_consumed != trainer->info->pair_count ||
        !rmj_digest_equal(&trainer->state->consumed_sum, &trainer->info->pairs_sum)) {
        return rmj_fail(err, RMJ_INTERNAL, "%llu pairs were consumed, and their sum is not that of the plan's %llu",
                        (unsigned long long)trainer->state->pairs_consumed,
                        (unsigned long long)trainer->info->pair_count);
    }
    return RMJ_OK;
}

enum rmj_status rmj_evaluate(struct rmj_trainer *trainer, struct rmj_error *err)
{
    struct rmj_generation *gen = &trainer->generation;
    Rmjob__V1__EvaluatedRequest *listing = NULL;
    struct rmj_eval *eval = NULL;
    struct rmj_digest root;
    float *scores = NULL, *all = NULL;
    char directory[PATH_SIZE], rows_hex[RMJ_DIGEST_HEX_SIZE];
    enum rmj_status status = RMJ_OK;
    snprintf(directory, sizeof directory, "%s/staged-g%u", trainer->options->work, gen->number);
    rmj_comm_set_deadline(gen->comm, RMJ_COLLECTIVE_MS_LONG);
    RMJ_GO(check_proof(trainer, err));
    RMJ_GO(share_listing(trainer, &listing, err));
    RMJ_GO(fetch(trainer, listing, directory, &root, err));
    // What is scored is what was pinned: the report names the pins.
    RMJ_GO(rmj_pins_check_evaluation(trainer->spec, trainer->info, err));
    RMJ_GO(rmj_eval_open(&eval, trainer->spec, directory, err));
    scores = calloc(rmj_eval_score_count(eval) + 1u, sizeof(float));
    all = calloc((size_t)rmj_eval_score_count(eval) * gen->world + 1u, sizeof(float));
    if (scores == NULL || all == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for the scores of the evaluation");
        goto out;
    }
    RMJ_GO(score(trainer, eval, scores, all, err));
    if (rmj_publishes_adapter(trainer->spec)) {
        RMJ_GO(rmj_check_base(trainer, RMJ_MODEL_WHOLE, err)); // the other half of what was scored
    }
    if (gen->rank == 0) {
        RMJ_GO(store_rows(trainer, eval, scores, rows_hex, err));
        RMJ_GO(tell(trainer, listing, &root, rows_hex, err));
    }
    gen->finished = 1;
out:
    rmj_eval_close(eval);
    free(scores);
    free(all);
    if (listing != NULL) {
        protobuf_c_message_free_unpacked(&listing->base, NULL);
    }
    if (rmj_fs_remove_tree(directory, NULL) != RMJ_OK) {
        // The supervisor removes the whole work directory in the end.
    }
    return status;
}
