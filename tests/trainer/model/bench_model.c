// pairs/s of forward, backward and sums on hh-like pairs: bench_model DIRECTORY [threads] [rows] [repeats].
// Lengths follow the hh pairs (mean 62 shared, 60 chosen, 58 rejected tokens); tokens are drawn by seed.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "tests/trainer/model/fixture.h"

#define PAIRS_MAX 512

static int32_t *draw(struct rmj_rng *rng, size_t count)
{
    int32_t *ids = calloc(count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        ids[i] = 3 + (int32_t)rmj_rng_below(rng, 400);
    }
    return ids;
}

static struct token_pair draw_pair(struct rmj_rng *rng)
{
    struct token_pair pair = {0};
    size_t prefix = 20 + rmj_rng_below(rng, 85);
    for (size_t side = 0; side < 2; side++) {
        size_t own = 10 + rmj_rng_below(rng, 100);
        int32_t *ids = draw(rng, prefix + own);
        for (size_t i = 0; side == 1 && i < prefix; i++) {
            ids[i] = pair.sides[0][i];
        }
        pair.sides[side] = ids;
        pair.counts[side] = prefix + own;
    }
    return pair;
}

static void one_pack(struct bench *b, const struct owned_pack *pack)
{
    static float scores[2 * PAIRS_MAX], grads[2 * PAIRS_MAX], losses[PAIRS_MAX];
    struct rmj_gradient_sink sink = rmj_sums_sink(b->sums);
    rmj_model_forward(b->model, &pack->pack, scores);
    rmj_bradley_terry(&pack->pack, scores, losses, grads);
    rmj_model_backward(b->model, &pack->pack, grads, &sink);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_model DIRECTORY [threads] [rows] [repeats]\n");
        return 2;
    }
    struct bench_options options = {.directory = argv[1],
                                    .head_init = RMJ_HEAD_NORMAL,
                                    .thread_count = argc > 2 ? (uint32_t)atoi(argv[2]) : 2,
                                    .row_count = argc > 3 ? (uint32_t)atoi(argv[3]) : 2560,
                                    .packs_per_step_bound = 16};
    int repeats = argc > 4 ? atoi(argv[4]) : 5;
    struct bench b;
    bench_open(&b, &options);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 1, 1);
    struct token_pair pairs[PAIRS_MAX];
    size_t count = 0, rows = 0;
    for (; count < PAIRS_MAX; count++) {
        pairs[count] = draw_pair(&rng);
        rows += pair_rows(&pairs[count], 1);
        if (rows > options.row_count) {
            break;
        }
    }
    struct owned_pack pack;
    pack_build(&pack, pairs, count, options.row_count, 0, 1);
    uint32_t *tokens = calloc(b.config.vocabulary_size, sizeof *tokens);
    uint32_t distinct = distinct_tokens(pairs, count, tokens, b.config.vocabulary_size);
    rmj_sums_begin(b.sums, b.exponents, 6, tokens, distinct);
    one_pack(&b, &pack);
    for (int i = 0; i < repeats; i++) {
        double start = rmj_clock_mono_seconds();
        one_pack(&b, &pack);
        double seconds = rmj_clock_mono_seconds() - start;
        printf("pairs=%zu rows=%u fill=%.2f seconds=%.3f pairs_per_second=%.1f\n", count, options.row_count,
               (double)pack.pack.used_row_count / options.row_count, seconds, (double)count / seconds);
    }
    pack_free(&pack);
    free(tokens);
    for (size_t i = 0; i <= count && i < PAIRS_MAX; i++) {
        free((void *)pairs[i].sides[0]);
        free((void *)pairs[i].sides[1]);
    }
    bench_close(&b);
    return 0;
}
