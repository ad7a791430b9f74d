#include "trainer/model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/text.h"
#include "trainer/model/layout.h"

#define LORA_STREAM 0x6c6f7261u // "lora"
#define ALPHA_MAX 1e6

static const char *const modules[] = {"q_proj",    "k_proj",  "v_proj",       "qkv_proj", "o_proj",
                                      "gate_proj", "up_proj", "gate_up_proj", "down_proj"};

const char *rmj_lora_module(uint32_t index)
{
    return index < RMJ_COUNT(modules) ? modules[index] : NULL;
}

// Bits of the modules that a model of this config has.
static uint32_t modules_of(const struct rmj_model_config *config)
{
    uint32_t has = 0;
    for (uint32_t i = 0; i < RMJ_COUNT(modules); i++) {
        const char *name = modules[i];
        int fused = strcmp(name, "qkv_proj") == 0 || strcmp(name, "gate_up_proj") == 0;
        int in_attention = strchr("qkv", name[0]) != NULL;
        int in_gate_up = name[0] == 'g' || name[0] == 'u';
        int wants_fused = in_attention ? config->fused_qkv : in_gate_up ? config->fused_gate_up : 0;
        has |= (uint32_t)(fused == (wants_fused != 0)) << i;
    }
    return has;
}

static enum rmj_status unknown_module(const struct rmj_model_config *config, uint32_t has, const char *name,
                                      struct rmj_error *err)
{
    const char *names[RMJ_COUNT(modules)];
    char list[160];
    size_t count = 0, at = 0;
    for (uint32_t i = 0; i < RMJ_COUNT(modules); i++) {
        if ((has >> i & 1) != 0) {
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", count > 0 ? ", " : "", modules[i]);
            names[count++] = modules[i];
        }
    }
    const char *nearest = rmj_text_nearest(name, names, count);
    return rmj_fail(err, RMJ_INVALID,
                    "train.lora.target_modules names \"%.80s\"; matrices of a %s model are %s%s%s; the head is always "
                    "trained",
                    name, config->family, list, nearest != NULL ? "; did you mean " : "",
                    nearest != NULL ? nearest : "");
}

enum rmj_status rmj_lora_init(struct rmj_lora *lora, const struct rmj_model_config *config, uint32_t rank, double alpha,
                              const char *const *names, size_t name_count, struct rmj_error *err)
{
    if (rank == 0 || rank > RMJ_LORA_RANK_MAX) {
        return rmj_fail(err, RMJ_INVALID, "train.lora.rank is %u; 1 to %u", rank, RMJ_LORA_RANK_MAX);
    }
    if (!(alpha > 0 && alpha <= ALPHA_MAX)) {
        return rmj_fail(err, RMJ_INVALID, "train.lora.alpha is %.9g; over 0 and at most %.0f", alpha, ALPHA_MAX);
    }
    uint32_t has = modules_of(config);
    *lora = (struct rmj_lora){.rank = rank, .alpha = alpha, .targets = name_count == 0 ? has : 0};
    for (size_t n = 0; n < name_count; n++) {
        uint32_t i = 0;
        while (i < RMJ_COUNT(modules) && ((has >> i & 1) == 0 || strcmp(modules[i], names[n]) != 0)) {
            i++;
        }
        if (i == RMJ_COUNT(modules)) {
            return unknown_module(config, has, names[n], err);
        }
        lora->targets |= 1u << i;
    }
    return RMJ_OK;
}

int rmj_lora_is_target(const struct rmj_lora *lora, const char *name)
{
    const char *dot = strrchr(name, '.');
    for (uint32_t i = 0; lora->rank > 0 && dot != NULL && i < RMJ_COUNT(modules); i++) {
        if (strcmp(dot + 1, modules[i]) == 0) {
            return (lora->targets >> i & 1) != 0;
        }
    }
    return 0;
}

void rmj_lora_fill(const struct rmj_layout *layout, uint64_t seed, float *weights)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, LORA_STREAM);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        uint32_t adapter = layout->tensors[i].adapter;
        if (adapter == RMJ_NO_ADAPTER) {
            continue;
        }
        const struct rmj_tensor *a = &layout->tensors[adapter], *b = &layout->tensors[adapter + 1];
        double bound = 1 / sqrt((double)a->shape[1]);
        for (uint64_t k = 0; k < a->element_count; k++) {
            weights[a->offset + k] = (float)((2 * rmj_rng_uniform(&rng) - 1) * bound);
        }
        memset(weights + b->offset, 0, b->element_count * sizeof *weights);
    }
}

enum rmj_status rmj_lora_merge(const struct rmj_lora_matrix *matrix, float *out, struct rmj_error *err)
{
    uint32_t rank = matrix->rank, columns = matrix->column_count;
    double *sums = malloc(columns * sizeof *sums);
    if (sums == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to merge a row of %u", columns);
    }
    enum rmj_status status = RMJ_OK;
    for (uint32_t row = 0; row < matrix->row_count && status == RMJ_OK; row++) {
        memset(sums, 0, columns * sizeof *sums);
        for (uint32_t k = 0; k < rank; k++) {
            double factor = (double)matrix->b[(uint64_t)row * rank + k];
            const float *from = matrix->a + (uint64_t)k * columns;
            for (uint32_t c = 0; c < columns; c++) {
                sums[c] += factor * (double)from[c];
            }
        }
        const float *base = matrix->weight + (uint64_t)row * columns;
        for (uint32_t c = 0; c < columns; c++) {
            float merged = (float)((double)base[c] + matrix->scale * sums[c]);
            if (!isfinite(merged) && status == RMJ_OK) {
                status = rmj_fail(err, RMJ_DATA, "element [%u, %u] is not finite with its adapter merged", row, c);
            }
            out[(uint64_t)row * columns + c] = merged;
        }
    }
    free(sums);
    return status;
}
