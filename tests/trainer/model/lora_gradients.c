// rmjob-test-lora-gradients MODEL OUT COUNT TOKENS... : adapters of rank 4, alpha 8 on every matrix, moved off their
// start, and the gradients of A, B and head over pairs of token ids (chosen, rejected, ...), as one safetensors file.
// For tests/peers/peft_equal.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/trainer/model/fixture.h"
#include "trainer/model/safetensors_write.h"

#define PAIRS_MAX 16
#define ROWS 128

struct kept {
    const struct rmj_layout *layout;
    float *gradient;
};

static void keep(void *context, uint32_t tensor, const float *gradient, const uint32_t *rows, uint32_t row_count)
{
    struct kept *kept = context;
    const struct rmj_tensor *t = &kept->layout->tensors[tensor];
    (void)rows;
    (void)row_count;
    memcpy(kept->gradient + t->offset, gradient, t->element_count * sizeof *gradient);
}

static size_t read_pairs(int argc, char **argv, int32_t *tokens, struct token_pair *pairs)
{
    size_t count = 0, at = 0;
    for (int i = 3; i < argc && count < 2 * PAIRS_MAX; count++) {
        size_t length = (size_t)atoi(argv[i++]);
        pairs[count / 2].sides[count % 2] = tokens + at;
        pairs[count / 2].counts[count % 2] = length;
        for (size_t t = 0; t < length && i < argc; t++) {
            tokens[at++] = atoi(argv[i++]);
        }
    }
    return count / 2;
}

static int write_file(const char *path, const struct rmj_layout *layout, const float *weights, const float *gradient)
{
    struct rmj_buf header;
    uint64_t at = 0;
    rmj_buf_init(&header, 1 << 20);
    rmj_safetensors_header_begin(&header);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        const struct rmj_tensor *t = &layout->tensors[i];
        char name[128];
        if (!t->frozen) {
            rmj_safetensors_header_add(&header, t->name, t, &at);
            snprintf(name, sizeof name, "%s.gradient", t->name);
            rmj_safetensors_header_add(&header, name, t, &at);
        }
    }
    rmj_safetensors_header_end(&header);
    FILE *file = fopen(path, "wb");
    int good = file != NULL && fwrite(header.bytes, 1, header.size, file) == header.size;
    for (uint32_t i = 0; good && i < layout->tensor_count; i++) {
        const struct rmj_tensor *t = &layout->tensors[i];
        good = t->frozen || (fwrite(weights + t->offset, sizeof(float), t->element_count, file) == t->element_count &&
                             fwrite(gradient + t->offset, sizeof(float), t->element_count, file) == t->element_count);
    }
    rmj_buf_deinit(&header);
    return file != NULL && fclose(file) == 0 && good;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: %s MODEL OUT COUNT TOKENS...\n", argv[0]);
        return 2;
    }
    static int32_t tokens[4096];
    struct token_pair pairs[PAIRS_MAX] = {0};
    size_t count = read_pairs(argc < 4096 ? argc : 4096, argv, tokens, pairs);
    struct bench bench;
    struct bench_options options = {.directory = argv[1],
                                    .head_init = RMJ_HEAD_NORMAL,
                                    .row_count = ROWS,
                                    .thread_count = 1,
                                    .packs_per_step_bound = 1,
                                    .lora = {.rank = 4, .alpha = 8, .targets = (1u << 9) - 1}};
    bench_open(&bench, &options);
    for (uint32_t t = 0; t < bench.layout->tensor_count; t++) {
        const struct rmj_tensor *tensor = &bench.layout->tensors[t];
        for (uint64_t i = 0; tensor->is_adapter && i < tensor->element_count; i++) {
            bench.w[tensor->offset + i] += (float)((i * 7) % 23) * 2e-3f - 2e-2f;
        }
    }
    struct owned_pack pack;
    pack_build(&pack, pairs, count, ROWS, 0, 1);
    float scores[2 * PAIRS_MAX], losses[PAIRS_MAX], slopes[2 * PAIRS_MAX];
    struct kept kept = {bench.layout, calloc(bench.layout->weight_count, sizeof(float))};
    struct rmj_gradient_sink sink = {.context = &kept, .take = keep};
    rmj_model_forward(bench.model, &pack.pack, scores);
    rmj_bradley_terry(&pack.pack, scores, losses, slopes);
    rmj_model_backward(bench.model, &pack.pack, slopes, &sink);
    int good = write_file(argv[2], bench.layout, bench.w, kept.gradient);
    free(kept.gradient);
    pack_free(&pack);
    bench_close(&bench);
    return good ? 0 : 1;
}
