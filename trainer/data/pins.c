#include "trainer/data/pins.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "trainer/data/sources.h"
#include "trainer/model/checkpoint_io.h"

static void add_line(struct rmj_sha256 *sha, const char *what, const struct rmj_digest *digest)
{
    char line[RMJ_DIGEST_HEX_SIZE + 32], hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(digest, hex);
    int length = snprintf(line, sizeof line, "%s %s\n", hex, what);
    RMJ_ASSERT(length > 0 && (size_t)length < sizeof line);
    rmj_sha256_update(sha, line, (size_t)length);
}

// Adds one file's digest; an absent file adds nothing when it is optional.
static enum rmj_status add_file(struct rmj_sha256 *sha, const char *what, const char *path, int optional,
                                struct rmj_error *err)
{
    struct rmj_digest digest;
    uint64_t size;
    if (optional && !rmj_fs_exists(path)) {
        return RMJ_OK;
    }
    RMJ_TRY(rmj_sha256_of_file(path, &digest, &size, err));
    add_line(sha, what, &digest);
    return RMJ_OK;
}

enum rmj_status rmj_pins_companions(const Rmjob__V1__JobSpec *spec, struct rmj_digest *digest, struct rmj_error *err)
{
    const Rmjob__V1__DataSpec *data = spec->data;
    const char *tokenizer = data == NULL ? NULL : data->tokenizer;
    const char *template = data == NULL ? NULL : data->chat_template;
    tokenizer = tokenizer != NULL && tokenizer[0] != '\0' ? tokenizer : NULL;
    template = template != NULL &&template[0] != '\0' ? template : NULL;
    // Which ids end a sequence, and so whether the pad token is safe, is also said there.
    char *generation = rmj_fs_join(tokenizer != NULL ? tokenizer : spec->base_model, "generation_config.json");
    struct rmj_sha256 sha;
    struct rmj_digest one, all;
    enum rmj_status status = RMJ_OK;
    int alone = tokenizer == NULL && template == NULL && !rmj_fs_exists(generation);
    rmj_sha256_init(&sha);
    RMJ_GO(rmj_model_files_digest(spec->base_model, RMJ_MODEL_COMPANIONS, digest, err));
    add_line(&sha, "base", digest);
    RMJ_GO(add_file(&sha, "generation", generation, 1, err));
    if (template != NULL) {
        RMJ_GO(add_file(&sha, "template", template, 0, err));
    }
    if (tokenizer != NULL) {
        RMJ_GO(rmj_model_files_digest(tokenizer, RMJ_MODEL_COMPANIONS, &one, err));
        add_line(&sha, "tokenizer", &one);
    }
out:
    rmj_sha256_final(&sha, &all); // frees, too
    if (status == RMJ_OK && !alone) {
        *digest = all;
    }
    free(generation);
    return status;
}

// SHA-256 of one file's stored bytes, wherever it lies.
static enum rmj_status digest_file(struct rmj_sources *sources, size_t index, struct rmj_digest *digest,
                                   struct rmj_error *err)
{
    uint64_t size;
    RMJ_TRY(rmj_sources_fetch(sources, index, err));
    enum rmj_status status = rmj_sha256_of_file(sources->files[index].path, digest, &size, err);
    rmj_sources_release(sources, index);
    return status;
}

static enum rmj_status digest_benchmark(const Rmjob__V1__JobSpec *spec, struct rmj_digest *digest,
                                        struct rmj_error *err)
{
    struct rmj_sources sources = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_sources_add(&sources, spec->evaluate->rewardbench2, "evaluate.rewardbench2", err));
    RMJ_GO(digest_file(&sources, 0, digest, err));
out:
    rmj_sources_deinit(&sources);
    return status;
}

// SHA-256 over the files' digests in order, as prepare makes it.
static enum rmj_status digest_heldout(const Rmjob__V1__DataSpec *data, struct rmj_digest *digest, struct rmj_error *err)
{
    struct rmj_sources sources = {0};
    struct rmj_sha256 sha;
    enum rmj_status status = RMJ_OK;
    rmj_sha256_init(&sha);
    for (size_t i = 0; i < data->n_heldout; i++) {
        RMJ_GO(rmj_sources_add(&sources, data->heldout[i]->path, "data.heldout", err));
    }
    for (size_t i = 0; i < sources.count; i++) {
        struct rmj_digest one;
        RMJ_GO(digest_file(&sources, i, &one, err));
        rmj_sha256_update(&sha, one.bytes, sizeof one.bytes);
    }
out:
    rmj_sha256_final(&sha, digest);
    rmj_sources_deinit(&sources);
    return status;
}

static enum rmj_status compare(const char *what, enum rmj_status status, const struct rmj_digest *found,
                               const struct rmj_digest *pinned, struct rmj_error *err)
{
    if (status == RMJ_NOT_FOUND) {
        return rmj_fail(err, RMJ_DATA, "%s is gone since the job was prepared: %s", what, err->message);
    }
    RMJ_TRY(status);
    return rmj_digest_equal(found, pinned)
               ? RMJ_OK
               : rmj_fail(err, RMJ_DATA,
                          "%s changed after the job was prepared; put it back and submit again, or submit a new job",
                          what);
}

enum rmj_status rmj_pins_check_evaluation(const Rmjob__V1__JobSpec *spec, const struct rmj_plan_info *info,
                                          struct rmj_error *err)
{
    struct rmj_digest found;
    struct rmj_error own = {0};
    err = err == NULL ? &own : err;
    if (spec->evaluate != NULL && spec->evaluate->rewardbench2 != NULL) {
        enum rmj_status status = digest_benchmark(spec, &found, err);
        RMJ_TRY(compare(spec->evaluate->rewardbench2, status, &found, &info->benchmark_digest, err));
    }
    if (spec->data != NULL && spec->data->n_heldout > 0) {
        enum rmj_status status = digest_heldout(spec->data, &found, err);
        RMJ_TRY(compare("the held-out set (data.heldout)", status, &found, &info->heldout_digest, err));
    }
    return RMJ_OK;
}
