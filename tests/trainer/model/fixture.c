#include "tests/trainer/model/fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

char *fixture_path_or_null(const char *name)
{
    const char *data = getenv("RMJOB_DATA"), *source = getenv("RMJOB_SOURCE");
    char *path = NULL;
    if (asprintf(&path, "%s%s/%s",
                 data != NULL     ? data
                 : source != NULL ? source
                                  : ".",
                 data != NULL ? "" : "/../shared/data", name) < 0) {
        abort();
    }
    if (!rmj_fs_exists(path)) {
        free(path);
        return NULL;
    }
    return path;
}

char *fixture_path(const char *name)
{
    char *path = fixture_path_or_null(name);
    if (path == NULL) {
        printf("SKIP: %s is not in $RMJOB_DATA nor beside the source\n", name);
        exit(77);
    }
    return path;
}

static size_t shared_prefix(const struct token_pair *pair, int share)
{
    size_t limit = (pair->counts[0] < pair->counts[1] ? pair->counts[0] : pair->counts[1]) - 1, p = 0;
    while (share && p < limit && pair->sides[0][p] == pair->sides[1][p]) {
        p++;
    }
    return p;
}

size_t pair_rows(const struct token_pair *pair, int share)
{
    return pair->counts[0] + pair->counts[1] - shared_prefix(pair, share);
}

static uint32_t lay_rows(struct owned_pack *out, uint32_t at, const int32_t *tokens, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        out->tokens[at] = tokens[i];
        out->positions[at++] = (int32_t)i;
    }
    return at;
}

void pack_build(struct owned_pack *out, const struct token_pair *pairs, size_t count, uint32_t row_count,
                int32_t pad_token, int share)
{
    *out = (struct owned_pack){.tokens = calloc(row_count, sizeof(int32_t)),
                               .positions = calloc(row_count, sizeof(int32_t)),
                               .items = calloc(count, sizeof(struct rmj_pack_item)),
                               .branch_counts = calloc(2 * count, sizeof(uint32_t)),
                               .branch_last_rows = calloc(2 * count, sizeof(uint32_t))};
    uint32_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t prefix = shared_prefix(&pairs[i], share);
        out->items[i] = (struct rmj_pack_item){.id = (uint32_t)i,
                                               .first_row = at,
                                               .prefix_count = (uint32_t)prefix,
                                               .first_branch = (uint32_t)(2 * i),
                                               .branch_count = 2,
                                               .margin = pairs[i].margin};
        RMJ_ASSERT(at + pair_rows(&pairs[i], share) <= row_count);
        at = lay_rows(out, at, pairs[i].sides[0], 0, prefix);
        for (size_t side = 0; side < 2; side++) {
            at = lay_rows(out, at, pairs[i].sides[side], prefix, pairs[i].counts[side]);
            out->branch_counts[2 * i + side] = (uint32_t)(pairs[i].counts[side] - prefix);
            out->branch_last_rows[2 * i + side] = at - 1;
        }
    }
    for (uint32_t r = at; r < row_count; r++) {
        out->tokens[r] = pad_token;
    }
    out->pack = (struct rmj_pack){.row_count = row_count,
                                  .used_row_count = at,
                                  .tokens = out->tokens,
                                  .positions = out->positions,
                                  .items = out->items,
                                  .item_count = (uint32_t)count,
                                  .branch_counts = out->branch_counts,
                                  .branch_last_rows = out->branch_last_rows,
                                  .branch_total = (uint32_t)(2 * count)};
}

void pack_free(struct owned_pack *pack)
{
    free(pack->tokens);
    free(pack->positions);
    free(pack->items);
    free(pack->branch_counts);
    free(pack->branch_last_rows);
}

uint32_t distinct_tokens(const struct token_pair *pairs, size_t count, uint32_t *rows, uint32_t vocabulary_size)
{
    char *seen = calloc(vocabulary_size, 1);
    for (size_t i = 0; i < count; i++) {
        for (size_t side = 0; side < 2; side++) {
            for (size_t t = 0; t < pairs[i].counts[side]; t++) {
                seen[pairs[i].sides[side][t]] = 1;
            }
        }
    }
    uint32_t n = 0;
    for (uint32_t t = 0; t < vocabulary_size; t++) {
        if (seen[t]) {
            rows[n++] = t;
        }
    }
    free(seen);
    return n;
}

double relative_distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

static void must(enum rmj_status status, const struct rmj_error *err)
{
    if (status != RMJ_OK) {
        fprintf(stderr, "fixture: %s\n", err->message);
        abort();
    }
}

void bench_open(struct bench *b, const struct bench_options *o)
{
    struct rmj_error err = {0};
    *b = (struct bench){0};
    must(rmj_model_config_read(&b->config, o->directory, &err), &err);
    uint32_t vocabulary = b->config.vocabulary_size + o->vocabulary_extra;
    must(rmj_layout_create_lora(&b->layout, &b->config, vocabulary, &o->lora, &err), &err);
    must(rmj_pool_create(&b->pool, o->thread_count, NULL, &err), &err);
    b->w = aligned_alloc(64, b->layout->weight_count * sizeof(float));
    b->m = calloc(b->layout->element_count, sizeof(float));
    b->v = calloc(b->layout->element_count, sizeof(float));
    must(rmj_weights_load(&(struct rmj_weights_options){.directory = o->directory,
                                                        .config = &b->config,
                                                        .layout = b->layout,
                                                        .head_init = o->head_init,
                                                        .seed = 7},
                          b->w, &err),
         &err);
    must(rmj_model_create(&b->model,
                          &(struct rmj_model_options){.config = &b->config,
                                                      .layout = b->layout,
                                                      .weights = b->w,
                                                      .pool = b->pool,
                                                      .row_count = o->row_count,
                                                      .item_count_max = o->row_count / 2,
                                                      .branch_count_max = o->row_count,
                                                      .training = 1},
                          &err),
         &err);
    must(rmj_sums_create(&b->sums,
                         &(struct rmj_sums_options){.layout = b->layout,
                                                    .pool = b->pool,
                                                    .packs_per_step_bound = o->packs_per_step_bound,
                                                    .embedding_row_count_max = vocabulary},
                         &err),
         &err);
    uint32_t count = rmj_sums_exponent_count(b->sums);
    b->exponents = calloc(count, sizeof *b->exponents);
    for (uint32_t i = 0; i < count; i++) {
        b->exponents[i] = RMJ_EXPONENT_ZERO;
    }
}

void bench_close(struct bench *b)
{
    rmj_sums_destroy(b->sums);
    rmj_model_destroy(b->model);
    rmj_pool_destroy(b->pool);
    rmj_layout_destroy(b->layout);
    free(b->w);
    free(b->m);
    free(b->v);
    free(b->exponents);
}

// Loss, margin and accuracy of a pack are added to the result, pair by pair.
static void add_pack(struct bench *b, const struct owned_pack *p, struct step_result *result)
{
    uint32_t branches = p->pack.branch_total;
    float *scores = calloc(branches, sizeof *scores), *grads = calloc(branches, sizeof *grads);
    float *losses = calloc(p->pack.item_count, sizeof *losses);
    rmj_model_forward(b->model, &p->pack, scores);
    rmj_bradley_terry(&p->pack, scores, losses, grads);
    struct rmj_gradient_sink sink = rmj_sums_sink(b->sums);
    rmj_model_backward(b->model, &p->pack, grads, &sink);
    for (uint32_t i = 0; i < p->pack.item_count; i++) {
        double margin = (double)scores[2 * i] - (double)scores[2 * i + 1];
        result->loss += (double)losses[i];
        result->margin += margin;
        result->accuracy += margin > 0;
    }
    free(scores);
    free(grads);
    free(losses);
}

struct pass {
    const struct owned_pack *packs;
    size_t pack_count;
    const uint32_t *rank_of;
    uint32_t rank_count;
    const uint32_t *rows;
    uint32_t row_count;
};

// All ranks in turn with the one set of buffers; the last one's sums receive the others', page by page.
static void run_pass(struct bench *b, const struct pass *pass, const int16_t *exponents, int headroom,
                     int16_t *observed, struct step_result *result)
{
    uint32_t count = rmj_sums_exponent_count(b->sums), pages = b->layout->page_count;
    void **sent = calloc((size_t)pass->rank_count * pages, sizeof *sent);
    *result = (struct step_result){0};
    for (uint32_t i = 0; i < count; i++) {
        observed[i] = RMJ_EXPONENT_ZERO;
    }
    for (uint32_t rank = 0; rank < pass->rank_count; rank++) {
        rmj_sums_begin(b->sums, exponents, headroom, pass->rows, pass->row_count);
        for (size_t i = 0; i < pass->pack_count; i++) {
            if (pass->rank_of == NULL || pass->rank_of[i] == rank) {
                add_pack(b, &pass->packs[i], result);
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            int16_t seen = rmj_sums_observed(b->sums)[i];
            observed[i] = seen > observed[i] ? seen : observed[i];
        }
        for (uint32_t p = 0; rank + 1 < pass->rank_count && p < pages; p++) {
            void *bytes = malloc(rmj_sums_page_bytes(b->sums, p) + 1);
            rmj_sums_page_export(b->sums, p, bytes);
            sent[rank * pages + p] = bytes;
        }
    }
    for (uint32_t i = 0; i + 1 < pass->rank_count; i++) {
        for (uint32_t p = 0; p < pages; p++) {
            rmj_sums_page_add(b->sums, p, sent[i * pages + p]);
            free(sent[i * pages + p]);
        }
    }
    free(sent);
}

struct step_result bench_step(struct bench *b, const struct owned_pack *packs, size_t pack_count,
                              const struct token_pair *pairs, size_t pair_count, const struct rmj_adamw *adamw,
                              double clip, const uint32_t *rank_of, uint32_t rank_count)
{
    uint32_t count = rmj_sums_exponent_count(b->sums), vocabulary = b->layout->tensors[b->layout->embedding].shape[0];
    uint32_t *rows = calloc(vocabulary, sizeof *rows);
    int16_t *observed = calloc(count, sizeof *observed);
    struct pass pass = {.packs = packs,
                        .pack_count = pack_count,
                        .rank_of = rank_of,
                        .rank_count = rank_count,
                        .rows = rows,
                        .row_count = distinct_tokens(pairs, pair_count, rows, vocabulary)};
    struct step_result result;
    run_pass(b, &pass, b->exponents, 6, observed, &result);
    if (rmj_sums_overflowed(b->sums, observed)) {
        b->second_passes++;
        int16_t *exact = calloc(count, sizeof *exact);
        memcpy(exact, observed, count * sizeof *exact);
        run_pass(b, &pass, exact, 0, observed, &result);
        RMJ_ASSERT(!rmj_sums_overflowed(b->sums, observed) && memcmp(exact, observed, count * sizeof *exact) == 0);
        free(exact);
    }
    RMJ_ASSERT(!rmj_sums_not_finite(b->sums));
    rmj_exponents_advance(b->exponents, observed, count);
    double square = 0;
    for (uint32_t p = 0; p < b->layout->page_count; p++) {
        square += rmj_sums_page_square(b->sums, p);
    }
    result.norm = sqrt(square) / (double)pair_count;
    struct rmj_adamw update = *adamw;
    update.gradient_scale = 1.0 / (double)pair_count;
    if (clip > 0 && result.norm > clip) {
        update.gradient_scale *= clip / (result.norm + 1e-6);
    }
    for (uint32_t p = 0; p < b->layout->page_count; p++) {
        uint64_t at = b->layout->pages[p].offset;
        rmj_adamw_page(b->sums, p, &update, b->w + at, b->m + at, b->v + at);
    }
    result.loss /= (double)pair_count;
    result.margin /= (double)pair_count;
    result.accuracy /= (double)pair_count;
    free(rows);
    free(observed);
    return result;
}
