// Model directories that are wrong: each is refused with a message that says what and where, and none is read.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/rng.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/config.h"

static char scratch[64];

static void write_text(const char *name, const void *bytes, size_t size)
{
    char *path = rmj_fs_join(scratch, name);
    assert_int_equal(rmj_fs_write(path, bytes, size, 0644, NULL), RMJ_OK);
    free(path);
}

static void clear(void)
{
    assert_int_equal(rmj_fs_remove_tree(scratch, NULL), RMJ_OK);
    assert_int_equal(rmj_fs_make_directories(scratch, 0755, NULL), RMJ_OK);
}

#define CONFIG_START                                                                                                   \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,"                            \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"intermediate_size\":4,\"vocab_size\":6,"                      \
    "\"max_position_embeddings\":32"
static const char good_config[] = CONFIG_START ",\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\"}";

// Tensors of the good model, as (name, rows, columns); rows 0 is a vector.
static const struct {
    const char *name;
    unsigned rows, columns;
} good_tensors[] = {
    {"model.embed_tokens.weight", 6, 8},
    {"model.layers.0.input_layernorm.weight", 0, 8},
    {"model.layers.0.self_attn.q_proj.weight", 8, 8},
    {"model.layers.0.self_attn.k_proj.weight", 8, 8},
    {"model.layers.0.self_attn.v_proj.weight", 8, 8},
    {"model.layers.0.self_attn.o_proj.weight", 8, 8},
    {"model.layers.0.post_attention_layernorm.weight", 0, 8},
    {"model.layers.0.mlp.gate_proj.weight", 4, 8},
    {"model.layers.0.mlp.up_proj.weight", 4, 8},
    {"model.layers.0.mlp.down_proj.weight", 8, 4},
    {"model.norm.weight", 0, 8},
};

struct weights_change {
    const char *tensor;     // the one that is changed
    const char *dtype;      // instead of F32
    int extra_row;          // its shape gets a row more
    long begin_shift;       // its begin moves
    long end_shift;         // its end moves
    int drop;               // it is left out
    const char *rename;     // it has another name
    const char *extra_text; // goes into the header after it
    float first_value;      // of the whole file, where not 0
};

// A whole safetensors file in memory; free() it.
static char *make_weights(const struct weights_change *change, size_t *size)
{
    char *header = calloc(1, 16384), *at = header + sprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    size_t offset = 0;
    for (size_t i = 0; i < RMJ_COUNT(good_tensors); i++) {
        int hit = change->tensor != NULL && strcmp(change->tensor, good_tensors[i].name) == 0;
        unsigned rows = good_tensors[i].rows + (hit ? (unsigned)change->extra_row : 0);
        size_t bytes = 4u * (good_tensors[i].rows > 0 ? good_tensors[i].rows : 1) * good_tensors[i].columns;
        if (hit && change->drop) {
            offset += bytes;
            continue;
        }
        at += sprintf(at, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                      hit && change->rename ? change->rename : good_tensors[i].name,
                      hit && change->dtype ? change->dtype : "F32");
        at += good_tensors[i].rows > 0 ? sprintf(at, "%u,", rows) : 0;
        at += sprintf(at, "%u],\"data_offsets\":[%ld,%ld]}", good_tensors[i].columns,
                      (long)offset + (hit ? change->begin_shift : 0),
                      (long)(offset + bytes) + (hit ? change->end_shift : 0));
        at += hit && change->extra_text ? sprintf(at, "%s", change->extra_text) : 0;
        offset += bytes;
    }
    at += sprintf(at, "}");
    uint64_t header_size = (uint64_t)(at - header);
    *size = 8 + header_size + offset;
    char *file = calloc(1, *size);
    memcpy(file, &header_size, 8);
    memcpy(file + 8, header, header_size);
    for (size_t i = 0; i < offset / 4; i++) {
        float value = i == 0 && change->first_value != 0 ? change->first_value : 0.5f;
        memcpy(file + 8 + header_size + 4 * i, &value, 4);
    }
    free(header);
    return file;
}

static void write_good(void)
{
    clear();
    write_text("config.json", good_config, strlen(good_config));
    size_t size;
    char *weights = make_weights(&(struct weights_change){0}, &size);
    write_text("model.safetensors", weights, size);
    free(weights);
}

static enum rmj_status check(struct rmj_error *err)
{
    struct rmj_model_config config;
    RMJ_TRY(rmj_model_config_read(&config, scratch, err));
    return rmj_model_files_check(scratch, &config, err);
}

static void assert_refused(const char *what, const char *message, enum rmj_status expected)
{
    struct rmj_error err = {0};
    enum rmj_status status = check(&err);
    if (status != expected || strstr(err.message, message) == NULL) {
        print_error("case \"%s\": %s: %s\n  wanted: %s\n", what, rmj_status_name(status), err.message, message);
        fail();
    }
    assert_int_equal(err.status, status);
}

static void a_good_directory_is_accepted(void **state)
{
    (void)state;
    write_good();
    struct rmj_error err = {0};
    if (check(&err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
}

static void configs_that_ask_for_something_else_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "config.json:1:0: not JSON"},
        {"[1]", "config.json:1:1: not a JSON object"},
        {"{\"architectures\":[", "config.json:1:"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{\"model_type\":\"llama\"}", "\"architectures\" must name one architecture"},
        {"{\"architectures\":[\"GPT2LMHeadModel\"]}", "architecture \"GPT2LMHeadModel\" is not supported"},
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"mistral\"}", "\"model_type\" must be \"llama\""},
        // Found by tests/fuzz/fuzz_config.c: no head_dim, and wider than what is made room for.
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":2052,"
         "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"intermediate_size\":4,\"vocab_size\":6}",
         "is 1026; heads are read up to 1024 wide"},
        {CONFIG_START ",\"hidden_act\":\"gelu\"}", "\"hidden_act\" is not \"silu\""},
        {CONFIG_START ",\"sliding_window\":128}", "\"sliding_window\" is not supported"},
        {CONFIG_START ",\"quantization_config\":{\"bits\":4}}", "\"quantization_config\" is not supported"},
        {CONFIG_START ",\"num_labels\":2}", "\"num_labels\" must be 1"},
        {CONFIG_START ",\"logit_scale\":2}", "key \"logit_scale\" is not known"},
        {CONFIG_START ",\"rms_norm_epsilon\":2}", "did you mean \"rms_norm_eps\""},
        {CONFIG_START ",\"rope_scaling\":{\"type\":\"mrope\",\"factor\":2}}", "rope type \"mrope\""},
        {CONFIG_START ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"short_factor\":[]}}",
         "key \"short_factor\" is not known for rope type \"yarn\""},
        {CONFIG_START ",\"rope_scaling\":{\"type\":\"linear\"}}", "\"factor\" must be a number over zero"},
        {CONFIG_START ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{}}",
         "\"rope_scaling\" and \"rope_parameters\" differ"},
        {CONFIG_START ",\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8}}", "\"low_freq_factor\" must be"},
        {CONFIG_START ",\"rope_theta\":-1}", "\"rope_theta\" must be a number over zero"},
        {CONFIG_START ",\"num_key_value_heads\":3}", "is no multiple of"},
        {CONFIG_START ",\"head_dim\":3}", "rotary positions need an even width"},
        {CONFIG_START ",\"pad_token_id\":6}", "\"pad_token_id\" 6 is outside the vocabulary of 6"},
        {CONFIG_START ",\"attention_bias\":1}", "\"attention_bias\" must be true or false"},
        {CONFIG_START ",\"rms_norm_eps\":\"x\"}", "\"rms_norm_eps\" must be a number over zero"},
        // Found by tests/fuzz/fuzz_config.c: infinite and zero as a float32.
        {CONFIG_START ",\"rms_norm_eps\":1e305}", "\"rms_norm_eps\" must be a number over zero that float32 holds"},
        {CONFIG_START ",\"rms_norm_eps\":1e-60}", "\"rms_norm_eps\" must be a number over zero that float32 holds"},
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8}",
         "key \"num_hidden_layers\" is missing"},
        {"{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"num_hidden_layers\":100000}",
         "\"num_hidden_layers\" must be a whole number from 1 to 256"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        write_good();
        write_text("config.json", cases[i].text, strlen(cases[i].text));
        assert_refused(cases[i].text, cases[i].message, RMJ_DATA);
    }
    clear();
    assert_refused("no config", "config.json", RMJ_NOT_FOUND);
}

// As small models often have it, made from the large one's config with another vocab_size.
static void tokens_that_the_vocabulary_does_not_hold_are_none(void **state)
{
    (void)state;
    static const char text[] = CONFIG_START ",\"bos_token_id\":6,\"eos_token_id\":[128001,2]}";
    struct rmj_model_config config;
    struct rmj_error err = {0};
    write_text("config.json", text, strlen(text));
    assert_int_equal(rmj_model_config_read(&config, scratch, &err), RMJ_OK);
    assert_int_equal(config.bos_token, -1);
    assert_int_equal(config.eos_token, -1);
}

static void weights_that_lie_are_refused_by_tensor(void **state)
{
    (void)state;
    static const char q[] = "model.layers.0.self_attn.q_proj.weight";
    static const char norm[] = "model.norm.weight";
    static const struct {
        const char *what, *message;
        struct weights_change change;
    } cases[] = {
        {"missing", "tensor \"model.norm.weight\" is missing", {.tensor = norm, .rename = "lm_head.weight"}},
        {"unknown",
         "tensor \"model.extra\" is none of a model with this config.json",
         {.tensor = norm, .extra_text = ",\"model.extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"}},
        {"dtype", "dtype must be F32, BF16 or F16", {.tensor = q, .dtype = "I32"}},
        {"unknown dtype", "the dtype is not known", {.tensor = q, .dtype = "F4"}},
        {"dtype size", "do not span what dtype and shape need", {.tensor = q, .dtype = "F16"}},
        {"shape", "do not span what dtype and shape need", {.tensor = q, .extra_row = 1}},
        {"past the end", "past the end of the file", {.tensor = norm, .end_shift = 400}},
        {"overlap", "overlap another tensor's", {.tensor = q, .begin_shift = -4, .end_shift = -4}},
        {"hole", "there is a hole before it", {.tensor = q, .drop = 1}},
        {"reversed", "data_offsets is not [begin, end]", {.tensor = q, .begin_shift = 100000}},
        {"negative", "data_offsets is not [begin, end]", {.tensor = "model.embed_tokens.weight", .begin_shift = -4}},
        {"duplicate",
         "duplicate",
         {.tensor = norm,
          .extra_text = ",\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[0],"
                        "\"data_offsets\":[0,0]}"}},
        {"head shape",
         "\"score.weight\" has 2 dimensions, [0, 8]",
         {.tensor = norm,
          .extra_text = ",\"score.weight\":{\"dtype\":\"F32\",\"shape\":[0,8],\"data_offsets\":[0,0]}"}},
        {"shape list",
         "the shape is not a list",
         {.tensor = norm,
          .extra_text = ",\"x\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],"
                        "\"data_offsets\":[0,4]}"}},
        {"huge shape",
         "the shape is not a list",
         {.tensor = norm,
          .extra_text = ",\"x\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
                        "\"data_offsets\":[0,0]}"}},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        write_good();
        size_t size;
        char *weights = make_weights(&cases[i].change, &size);
        write_text("model.safetensors", weights, size);
        free(weights);
        assert_refused(cases[i].what, cases[i].message, RMJ_DATA);
    }
}

static void files_cut_short_anywhere_are_refused(void **state)
{
    (void)state;
    size_t size;
    char *weights = make_weights(&(struct weights_change){0}, &size);
    for (size_t cut = 0; cut < size; cut += cut < 32 || size - cut < 32 ? 1 : 97) {
        write_good();
        write_text("model.safetensors", weights, cut);
        assert_refused("cut", "model.safetensors", RMJ_DATA);
    }
    uint64_t huge = UINT64_MAX - 3;
    memcpy(weights, &huge, 8);
    write_text("model.safetensors", weights, size);
    assert_refused("header size", "the header claims", RMJ_DATA);
    free(weights);
    write_text("model.safetensors", "\x02\0\0\0\0\0\0\0[]", 10);
    assert_refused("header array", "not a JSON object", RMJ_DATA);
    clear();
    write_text("config.json", good_config, strlen(good_config));
    assert_refused("no weights", "convert the model to safetensors", RMJ_DATA);
}

// Bytes of the header changed at random: refused or, rarely, still right; never a crash (the sanitizer builds look).
static void damaged_headers_never_crash(void **state)
{
    (void)state;
    write_good();
    size_t size;
    char *weights = make_weights(&(struct weights_change){0}, &size), *path = rmj_fs_join(scratch, "model.safetensors");
    uint64_t header_size;
    memcpy(&header_size, weights, 8);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 77, 1);
    int refused = 0;
    for (int trial = 0; trial < 1500; trial++) {
        char *copy = malloc(size);
        memcpy(copy, weights, size);
        for (uint64_t n = 1 + rmj_rng_below(&rng, 3); n > 0; n--) {
            static const char digits[] = "0123456789[]{},:\"-eE";
            uint64_t at = trial % 8 == 0 ? rmj_rng_below(&rng, 8) : 8 + rmj_rng_below(&rng, header_size);
            copy[at] = trial % 2 == 0 ? (char)rmj_rng_below(&rng, 256) : digits[rmj_rng_below(&rng, sizeof digits - 1)];
        }
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(copy, 1, size, file), size);
        fclose(file);
        struct rmj_error err = {0};
        enum rmj_status status = check(&err);
        assert_true(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
        refused += status != RMJ_OK;
        free(copy);
    }
    assert_true(refused > 1200);
    free(weights);
    free(path);
}

static void an_index_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *index, *message;
    } cases[] = {
        {"{}", "\"weight_map\" names no tensor"},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors: missing"},
        {"{\"weight_map\":{\"a\":\"../config.json\"}}", "is not mapped to a plain file name"},
        {"{\"weight_map\":{\"a\":7}}", "is not mapped to a plain file name"},
        {"{\"weight_map\":{\"a\":\"all.safetensors\"}}", "but the index says nothing of it"},
        {"nonsense", "index.json:1"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        write_good();
        char *from = rmj_fs_join(scratch, "model.safetensors"), *to = rmj_fs_join(scratch, "all.safetensors");
        assert_int_equal(rename(from, to), 0);
        free(from);
        free(to);
        write_text("model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        assert_refused(cases[i].index, cases[i].message, RMJ_DATA);
    }
}

static enum rmj_status load(enum rmj_head_init head, float *weights, struct rmj_error *err)
{
    struct rmj_model_config config;
    struct rmj_layout *layout;
    RMJ_TRY(rmj_model_config_read(&config, scratch, err));
    RMJ_TRY(rmj_layout_create(&layout, &config, config.vocabulary_size + 1, err));
    assert_true(layout->element_count <= 65536);
    enum rmj_status status = rmj_weights_load(
        &(struct rmj_weights_options){
            .directory = scratch, .config = &config, .layout = layout, .head_init = head, .seed = 7},
        weights, err);
    rmj_layout_destroy(layout);
    return status;
}

static void values_that_are_not_finite_are_refused_with_their_place(void **state)
{
    (void)state;
    float *weights = calloc(65536, sizeof *weights);
    const float bad[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        write_good();
        size_t size;
        char *file = make_weights(&(struct weights_change){.first_value = bad[i]}, &size);
        write_text("model.safetensors", file, size);
        free(file);
        struct rmj_error err = {0};
        assert_int_equal(load(RMJ_HEAD_ZEROS, weights, &err), RMJ_DATA);
        assert_non_null(strstr(err.message, "\"model.embed_tokens.weight\": element 0 is"));
    }
    free(weights);
}

static void heads_and_the_added_row_are_as_asked(void **state)
{
    (void)state;
    write_good();
    float *a = calloc(65536, sizeof *a), *b = calloc(65536, sizeof *b);
    struct rmj_error err = {0};
    assert_int_equal(load(RMJ_HEAD_BASE, a, &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "score.weight"));
    assert_int_equal(rmj_model_head_check(scratch, &err), RMJ_DATA);
    assert_int_equal(load(RMJ_HEAD_NORMAL, a, &err), RMJ_OK);
    assert_int_equal(load(RMJ_HEAD_NORMAL, b, &err), RMJ_OK);
    assert_memory_equal(a, b, 65536 * sizeof *a);
    assert_int_equal(load(RMJ_HEAD_ZEROS, b, &err), RMJ_OK);
    assert_memory_not_equal(a, b, 65536 * sizeof *a);
    for (size_t i = 0; i < 8; i++) {
        assert_true(a[6 * 8 + i] == 0.5f); // the mean of rows of 0.5
    }
    free(a);
    free(b);
}

static void halves_are_widened_exactly(void **state)
{
    (void)state;
    write_good();
    // The 6 x 8 embedding as F16 and as BF16, in a file whose other tensors follow it.
    static const struct {
        const char *dtype;
        uint16_t bits;
        float value;
    } cases[] = {{"F16", 0x3c00, 1.0f},         {"F16", 0xc500, -5.0f},    {"F16", 0x0001, 0x1p-24f},
                 {"F16", 0x03ff, 0x1.ff8p-15f}, {"F16", 0x0400, 0x1p-14f}, {"F16", 0x7bff, 65504.0f},
                 {"F16", 0x8000, -0.0f},        {"BF16", 0x3f80, 1.0f},    {"BF16", 0xc0a0, -5.0f},
                 {"BF16", 0x0001, 0x1p-133f}};
    float *weights = calloc(65536, sizeof *weights);
    for (size_t c = 0; c < RMJ_COUNT(cases); c++) {
        size_t size;
        char *file = make_weights(&(struct weights_change){0}, &size);
        uint64_t header_size;
        memcpy(&header_size, file, 8);
        // Halve the embedding: patch its dtype and shift every other tensor down by its 96 saved bytes.
        char *header = calloc(1, header_size + 64), *data = file + 8 + header_size;
        char *at = header + sprintf(header,
                                    "{\"model.embed_tokens.weight\":{\"dtype\":\"%s\",\"shape\":[6,8],"
                                    "\"data_offsets\":[0,96]}",
                                    cases[c].dtype);
        size_t offset = 96, old = 192;
        for (size_t i = 1; i < RMJ_COUNT(good_tensors); i++) {
            size_t bytes = 4u * (good_tensors[i].rows > 0 ? good_tensors[i].rows : 1) * good_tensors[i].columns;
            at += sprintf(at, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", good_tensors[i].name);
            at += good_tensors[i].rows > 0 ? sprintf(at, "%u,", good_tensors[i].rows) : 0;
            at += sprintf(at, "%u],\"data_offsets\":[%zu,%zu]}", good_tensors[i].columns, offset, offset + bytes);
            offset += bytes;
            old += bytes;
        }
        at += sprintf(at, "}");
        uint64_t new_size = (uint64_t)(at - header);
        char *out = calloc(1, 8 + new_size + offset);
        memcpy(out, &new_size, 8);
        memcpy(out + 8, header, new_size);
        for (size_t i = 0; i < 48; i++) {
            memcpy(out + 8 + new_size + 2 * i, &cases[c].bits, 2);
        }
        memcpy(out + 8 + new_size + 96, data + 192, old - 192);
        write_text("model.safetensors", out, 8 + new_size + offset);
        struct rmj_error err = {0};
        if (load(RMJ_HEAD_ZEROS, weights, &err) != RMJ_OK) {
            fail_msg("%s", err.message);
        }
        for (size_t i = 0; i < 48; i++) {
            assert_memory_equal(&weights[i], &cases[c].value, 4);
        }
        free(out);
        free(header);
        free(file);
    }
    free(weights);
}

static void assert_contains(const char *directory, const char *name, const char *wanted)
{
    struct rmj_buf text;
    rmj_buf_init(&text, 65536);
    char *path = rmj_fs_join(directory, name);
    assert_int_equal(rmj_fs_read(path, &text, NULL), RMJ_OK);
    if (strstr(rmj_buf_text(&text), wanted) == NULL) {
        fail_msg("%s lacks %s:\n%s", path, wanted, rmj_buf_text(&text));
    }
    free(path);
    rmj_buf_deinit(&text);
}

static void exports_are_whole_equal_and_loaded_again_bit_for_bit(void **state)
{
    (void)state;
    write_good();
    static const char tokenizer[] =
        "{\"version\":\"1.0\",\"added_tokens\":[],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<|rmjob_pad|>\":1},"
        "\"merges\":[]}}";
    write_text("tokenizer.json", tokenizer, strlen(tokenizer));
    struct rmj_model_config config;
    struct rmj_layout *layout;
    float *a = calloc(65536, sizeof *a), *b = calloc(65536, sizeof *b);
    struct rmj_error err = {0};
    assert_int_equal(rmj_model_config_read(&config, scratch, &err), RMJ_OK);
    assert_int_equal(rmj_layout_create(&layout, &config, 7, &err), RMJ_OK);
    assert_int_equal(load(RMJ_HEAD_NORMAL, a, &err), RMJ_OK);
    char base[64], one[128], two[128];
    snprintf(base, sizeof base, "%s", scratch);
    snprintf(one, sizeof one, "%s/one", base);
    snprintf(two, sizeof two, "%s/two", base);
    struct rmj_export_options options = {.base_directory = base,
                                         .directory = one,
                                         .config = &config,
                                         .layout = layout,
                                         .weights = a,
                                         .pad_token = 6,
                                         .vocabulary_grows = 1,
                                         .chat_template = "{{ x }}",
                                         .shard_size_bytes_max = 600};
    if (rmj_model_export(&options, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(rmj_model_export(&options, &err), RMJ_CONFLICT);
    options.directory = two;
    assert_int_equal(rmj_model_export(&options, &err), RMJ_OK);
    struct rmj_digest first, second;
    assert_int_equal(rmj_model_files_digest(one, RMJ_MODEL_WHOLE, &first, &err), RMJ_OK);
    assert_int_equal(rmj_model_files_digest(two, RMJ_MODEL_WHOLE, &second, &err), RMJ_OK);
    assert_memory_equal(&first, &second, sizeof first);
    // A pad token on a spare row of the embedding: the tokenizer still has to learn of it.
    char spare[128];
    snprintf(spare, sizeof spare, "%s/spare", base);
    options.directory = spare;
    options.pad_token = 2;
    options.vocabulary_grows = 0;
    assert_int_equal(rmj_model_export(&options, &err), RMJ_OK);
    assert_contains(spare, "tokenizer.json", "\"id\": 2");
    assert_contains(spare, "tokenizer_config.json", "\"pad_token\": \"<|pad|>\"");
    assert_contains(spare, "config.json", "\"pad_token_id\": 2");
    options.directory = "/proc/none/three";
    assert_int_not_equal(rmj_model_export(&options, &err), RMJ_OK);

    struct rmj_model_config again;
    snprintf(scratch, sizeof scratch, "%.55s/one", base);
    assert_int_equal(rmj_model_config_read(&again, scratch, &err), RMJ_OK);
    assert_string_equal(again.architecture, "LlamaForSequenceClassification");
    assert_int_equal(again.vocabulary_size, 7);
    assert_int_equal(again.pad_token, 6);
    assert_int_equal(rmj_model_files_check(scratch, &again, &err), RMJ_OK);
    assert_int_equal(rmj_weights_load(
                         &(struct rmj_weights_options){
                             .directory = scratch, .config = &again, .layout = layout, .head_init = RMJ_HEAD_BASE},
                         b, &err),
                     RMJ_OK);
    assert_memory_equal(a, b, layout->element_count * sizeof *a);
    assert_contains(scratch, "tokenizer.json", "\"content\": \"<|pad|>\""); // the first choice was taken
    snprintf(scratch, sizeof scratch, "%s", base);
    rmj_layout_destroy(layout);
    free(a);
    free(b);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/rmjob-model-XXXXXX");
    return mkdtemp(scratch) != NULL ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmj_fs_remove_tree(scratch, NULL) == RMJ_OK ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_directory_is_accepted),
        cmocka_unit_test(configs_that_ask_for_something_else_are_refused_by_key),
        cmocka_unit_test(tokens_that_the_vocabulary_does_not_hold_are_none),
        cmocka_unit_test(weights_that_lie_are_refused_by_tensor),
        cmocka_unit_test(files_cut_short_anywhere_are_refused),
        cmocka_unit_test(damaged_headers_never_crash),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(values_that_are_not_finite_are_refused_with_their_place),
        cmocka_unit_test(heads_and_the_added_row_are_as_asked),
        cmocka_unit_test(halves_are_widened_exactly),
        cmocka_unit_test(exports_are_whole_equal_and_loaded_again_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
