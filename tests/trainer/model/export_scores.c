// export_scores BASE OUT: exports BASE with a seeded head and an added pad token to OUT, and prints as JSON the scores
// that our forward gives some texts' ids. transformers_scores.py compares them with a third-party loader's.
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tests/trainer/model/fixture.h"

#define PAIR_COUNT 4
#define ROW_COUNT 512

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: export_scores BASE OUT\n");
        return 2;
    }
    struct bench b;
    bench_open(&b, &(struct bench_options){.directory = argv[1],
                                           .head_init = RMJ_HEAD_NORMAL,
                                           .row_count = ROW_COUNT,
                                           .thread_count = 1,
                                           .packs_per_step_bound = 1,
                                           .vocabulary_extra = 1});
    struct rmj_error err = {0};
    if (rmj_model_export(&(struct rmj_export_options){.base_directory = argv[1],
                                                      .directory = argv[2],
                                                      .config = &b.config,
                                                      .layout = b.layout,
                                                      .weights = b.w,
                                                      .pad_token = (int32_t)b.config.vocabulary_size,
                                                      .vocabulary_grows = 1,
                                                      .chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"},
                         &err) != RMJ_OK) {
        fprintf(stderr, "export_scores: %s\n", err.message);
        return 1;
    }
    struct rmj_rng rng;
    rmj_rng_init(&rng, 3, 1);
    int32_t ids[PAIR_COUNT][2][64];
    struct token_pair pairs[PAIR_COUNT];
    for (size_t i = 0; i < PAIR_COUNT; i++) {
        for (size_t side = 0; side < 2; side++) {
            pairs[i].counts[side] = 5 + rmj_rng_below(&rng, 59);
            pairs[i].sides[side] = ids[i][side];
            for (size_t t = 0; t < 64; t++) {
                ids[i][side][t] = t < 4 && side == 1 ? ids[i][0][t] : 3 + (int32_t)rmj_rng_below(&rng, 400);
            }
        }
    }
    struct owned_pack pack;
    pack_build(&pack, pairs, PAIR_COUNT, ROW_COUNT, (int32_t)b.config.vocabulary_size, 1);
    float scores[2 * PAIR_COUNT];
    rmj_model_forward(b.model, &pack.pack, scores);
    printf("[");
    for (size_t i = 0; i < 2 * PAIR_COUNT; i++) {
        printf("%s{\"score\": %.9g, \"ids\": [", i > 0 ? ",\n" : "", (double)scores[i]);
        for (size_t t = 0; t < pairs[i / 2].counts[i % 2]; t++) {
            printf("%s%d", t > 0 ? ", " : "", pairs[i / 2].sides[i % 2][t]);
        }
        printf("]}");
    }
    printf("]\n");
    pack_free(&pack);
    bench_close(&b);
    return 0;
}
