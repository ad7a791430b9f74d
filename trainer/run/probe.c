// The device class: SHA-256 of the scores and gradients of a small fixed pack through one layer of the job's widths.
// Ranks whose bits differ must not train together (reference, "Device class").
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "trainer/run/trainer.h"

#define PROBE_ROWS 64u
#define PROBE_VOCABULARY 256u
#define PROBE_SEED 0x70726f6265ull

struct hash {
    const struct rmj_layout *layout;
    struct rmj_sha256 sha;
};

static void hash_gradient(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows,
                          uint32_t row_count)
{
    struct hash *hash = context;
    const struct rmj_tensor *t = &hash->layout->tensors[tensor];
    size_t count = rows == NULL ? t->element_count : (size_t)row_count * t->shape[1];
    rmj_sha256_update(&hash->sha, &tensor, sizeof tensor);
    rmj_sha256_update(&hash->sha, gradient, count * sizeof(float));
}

// One pair: prefix, chosen, rejected; the rest is padding.
static void fill_pack(struct rmj_pack *pack, int32_t *tokens, int32_t *positions)
{
    static const struct rmj_pack_item item = {.prefix_count = PROBE_ROWS / 4, .branch_count = 2};
    static const uint32_t branches[] = {PROBE_ROWS / 4, PROBE_ROWS / 4 + 3};
    static const uint32_t last[] = {PROBE_ROWS / 2 - 1, 3 * PROBE_ROWS / 4 + 2};
    struct rmj_rng rng;
    rmj_rng_init(&rng, PROBE_SEED, 1);
    for (uint32_t i = 0; i < PROBE_ROWS; i++) {
        int used = i <= last[1];
        tokens[i] = used ? (int32_t)rmj_rng_below(&rng, PROBE_VOCABULARY) : 0;
        positions[i] = !used ? 0 : (int32_t)(i <= last[0] ? i : i - branches[0]);
    }
    *pack = (struct rmj_pack){.row_count = PROBE_ROWS,
                              .used_row_count = last[1] + 1,
                              .tokens = tokens,
                              .positions = positions,
                              .items = &item,
                              .item_count = 1,
                              .branch_counts = branches,
                              .branch_last_rows = last,
                              .branch_total = 2};
}

static float *random_weights(const struct rmj_layout *layout)
{
    struct rmj_rng rng;
    float *weights = calloc(layout->element_count, sizeof(float));
    rmj_rng_init(&rng, PROBE_SEED, 0);
    for (uint32_t t = 0; weights != NULL && t < layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &layout->tensors[t];
        for (uint64_t i = 0; i < tensor->element_count; i++) {
            weights[tensor->offset + i] = (float)(rmj_rng_uniform(&rng) - 0.5) * 0.25f;
        }
    }
    return weights;
}

enum rmj_status rmj_probe(const struct rmj_model_config *config, struct rmj_pool *pool, char hex[RMJ_DIGEST_HEX_SIZE],
                          struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    struct rmj_model_config small = *config;
    struct rmj_layout *layout = NULL;
    struct rmj_model *model = NULL;
    struct rmj_pack pack;
    int32_t tokens[PROBE_ROWS], positions[PROBE_ROWS];
    float scores[2], loss, gradients[2], *weights = NULL;
    struct rmj_digest digest;
    small.layer_count = 1;
    small.vocabulary_size = PROBE_VOCABULARY;
    RMJ_GO(rmj_layout_create(&layout, &small, PROBE_VOCABULARY, err));
    weights = random_weights(layout);
    if (weights == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for the probe");
        goto out;
    }
    struct rmj_model_options options = {.config = &small,
                                        .layout = layout,
                                        .weights = weights,
                                        .pool = pool,
                                        .row_count = PROBE_ROWS,
                                        .item_count_max = 1,
                                        .branch_count_max = 2,
                                        .training = 1};
    RMJ_GO(rmj_model_create(&model, &options, err));
    struct hash hash = {.layout = layout};
    struct rmj_gradient_sink sink = {&hash, hash_gradient};
    fill_pack(&pack, tokens, positions);
    rmj_sha256_init(&hash.sha);
    rmj_model_forward(model, &pack, scores);
    rmj_bradley_terry(&pack, scores, &loss, gradients);
    rmj_sha256_update(&hash.sha, scores, sizeof scores);
    rmj_model_backward(model, &pack, gradients, &sink);
    rmj_sha256_final(&hash.sha, &digest);
    rmj_digest_hex(&digest, hex);
out:
    rmj_model_destroy(model);
    rmj_layout_destroy(layout);
    free(weights);
    return status;
}
