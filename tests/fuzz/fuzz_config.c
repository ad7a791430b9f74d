// config.json of any bytes: refused with a message, or a shape that everything downstream can use: a layout, with and
// without adapters, and finite rotary frequencies.
#include <math.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/model/config.h"
#include "trainer/model/layout.h"
#include "trainer/model/lora.h"
#include "trainer/model/rope.h"

// A larger shape has pages by the million, and takes the time of thousands of inputs.
#define PARAMETERS_MAX ((uint64_t)1 << 30)

static struct rmj_model_config config;

static void check_rope(void)
{
    float frequencies[RMJ_HEAD_WIDTH_MAX / 2];
    int used[RMJ_COUNT(config.ropes)] = {0};
    for (uint32_t i = 0; i < config.layer_count; i++) {
        RMJ_ASSERT(config.layers[i].rope < RMJ_COUNT(used) || config.layers[i].rope == RMJ_NO_ROPE);
        if (config.layers[i].rope != RMJ_NO_ROPE) {
            used[config.layers[i].rope] = 1;
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(used); i++) {
        if (used[i]) {
            rmj_rope_inverse_frequencies(frequencies, &config.ropes[i], config.rotary_width);
        }
        for (uint32_t j = 0; used[i] && j < config.rotary_width / 2; j++) {
            RMJ_ASSERT(isfinite(frequencies[j]));
        }
    }
}

static void check_layout(const struct rmj_lora *lora)
{
    struct rmj_layout *layout = NULL;
    RMJ_ASSERT(rmj_layout_create_lora(&layout, &config, config.vocabulary_size, lora, NULL) == RMJ_OK);
    uint64_t at = 0;
    for (uint32_t i = 0; i < layout->page_count; i++) {
        RMJ_ASSERT(layout->pages[i].offset == at && layout->pages[i].element_count > 0);
        at += layout->pages[i].element_count;
    }
    RMJ_ASSERT(at == layout->element_count && at <= layout->weight_count);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        RMJ_ASSERT(layout->tensors[i].offset + layout->tensors[i].element_count <= layout->weight_count);
    }
    rmj_layout_destroy(layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *directory;
    directory = directory != NULL ? directory : fuzz_directory();
    struct rmj_error err = {0};
    struct rmj_lora lora;
    fuzz_write(directory, "config.json", bytes, size);
    enum rmj_status status = rmj_model_config_read(&config, directory, &err);
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    if (status != RMJ_OK) {
        return 0;
    }
    RMJ_ASSERT(config.layer_count > 0 && config.layer_count <= RMJ_LAYER_COUNT_MAX);
    RMJ_ASSERT(config.kv_head_count > 0 && config.head_count % config.kv_head_count == 0);
    RMJ_ASSERT(config.rotary_width <= config.head_width && config.rotary_width % 2 == 0);
    RMJ_ASSERT(isfinite(config.norm_epsilon) && isfinite(config.attention_scale) && config.attention_scale > 0);
    RMJ_ASSERT(isfinite(config.attention_softcap) && isfinite(config.embedding_scale));
    RMJ_ASSERT((config.length_max == 0) == (config.length_max_key == NULL));
    RMJ_ASSERT(rmj_model_classifier_name(&config) != NULL);
    check_rope();
    if (rmj_model_parameter_count(&config) <= PARAMETERS_MAX) {
        check_layout(&(struct rmj_lora){0});
        RMJ_ASSERT(rmj_lora_init(&lora, &config, 2, 1.0, NULL, 0, &err) == RMJ_OK);
        check_layout(&lora);
    }
    return 0;
}
