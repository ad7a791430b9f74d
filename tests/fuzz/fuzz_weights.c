// Weight files against a model, in two kinds by the first byte. An index ("model.safetensors.index.json", up to the
// first NUL) with the shard "a.safetensors"; or an adapter ("adapter_config.json", up to the first NUL) with
// "adapter_model.safetensors", over a base model that is whole. Refused with a message, or finite weights.
#include <math.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/safetensors_write.h"

static const char config_text[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":4,\"intermediate_size\":4,"
    "\"num_attention_heads\":2,\"num_hidden_layers\":1,\"vocab_size\":4,\"max_position_embeddings\":8}";

static struct rmj_model_config config;
static struct rmj_layout *layout;
static float *weights;
static const char *base, *sharded, *adapter;

static void write_base_weights(void)
{
    static const float zeros[64];
    struct rmj_buf file;
    uint64_t at = 0;
    rmj_buf_init(&file, 1 << 20);
    rmj_safetensors_header_begin(&file);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        rmj_safetensors_header_add(&file, layout->tensors[i].name, &layout->tensors[i], &at);
    }
    rmj_safetensors_header_end(&file);
    for (; at > 0; at -= at < sizeof zeros ? at : sizeof zeros) {
        rmj_buf_append(&file, zeros, at < sizeof zeros ? at : sizeof zeros);
    }
    fuzz_write(base, "model.safetensors", file.bytes, file.size);
    rmj_buf_deinit(&file);
}

static void set_up(void)
{
    base = fuzz_directory();
    sharded = fuzz_directory();
    adapter = fuzz_directory();
    fuzz_write(base, "config.json", config_text, strlen(config_text));
    fuzz_write(sharded, "config.json", config_text, strlen(config_text));
    RMJ_ASSERT(rmj_model_config_read(&config, base, NULL) == RMJ_OK);
    RMJ_ASSERT(rmj_layout_create(&layout, &config, config.vocabulary_size, NULL) == RMJ_OK);
    weights = malloc(layout->weight_count * sizeof *weights);
    RMJ_ASSERT(weights != NULL);
    write_base_weights();
}

static void load(const char *directory)
{
    struct rmj_error err = {0};
    struct rmj_weights_options options = {
        .directory = directory, .config = &config, .layout = layout, .head_init = RMJ_HEAD_ZEROS};
    memset(weights, 0, layout->weight_count * sizeof *weights);
    enum rmj_status status = rmj_weights_load(&options, weights, &err);
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    for (uint64_t i = 0; status == RMJ_OK && i < layout->weight_count; i++) {
        RMJ_ASSERT(isfinite(weights[i]));
    }
}

// The base model's place is this process's own: "BASE" stands for it in a corpus.
static void write_adapter_config(const uint8_t *text, size_t size)
{
    static const char mark[] = "BASE";
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 20);
    const uint8_t *found = memmem(text, size, mark, strlen(mark));
    size_t before = found != NULL ? (size_t)(found - text) : size;
    rmj_buf_append(&out, text, before);
    if (found != NULL) {
        rmj_buf_puts(&out, base);
        rmj_buf_append(&out, found + strlen(mark), size - before - strlen(mark));
    }
    fuzz_write(adapter, "adapter_config.json", rmj_buf_text(&out), out.size);
    rmj_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (layout == NULL) {
        set_up();
    }
    if (size == 0) {
        return 0;
    }
    int is_adapter = bytes[0] == 'A';
    const uint8_t *text = ++bytes;
    size--;
    size_t text_size = fuzz_part(&bytes, &size);
    struct rmj_error err = {0};
    if (is_adapter) {
        struct rmj_model_config found;
        write_adapter_config(text, text_size);
        fuzz_write(adapter, "adapter_model.safetensors", bytes, size);
        if (rmj_model_config_read(&found, adapter, &err) == RMJ_OK) {
            load(adapter);
        } else {
            RMJ_ASSERT(err.status == RMJ_DATA && err.message[0] != '\0');
        }
        return 0;
    }
    fuzz_write(sharded, "model.safetensors.index.json", text, text_size);
    fuzz_write(sharded, "a.safetensors", bytes, size);
    enum rmj_status status = rmj_model_files_check(sharded, &config, &err);
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    (void)!rmj_model_head_check(sharded, &err);
    load(sharded);
    return 0;
}
