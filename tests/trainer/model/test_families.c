// The families: configs as public models have them, each with its meaning; what a config may not ask for; names of
// tensors; exports. Counts of parameters and windows, and factors of attention, in the first table are those that
// transformers 5.23 makes of the same files. The longrope factors in those files are made up.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/fs.h"
#include "base/rng.h"
#include "trainer/model/checkpoint_io.h"

static char scratch[64];

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static void write_json(const char *directory, const char *name, const json_t *root)
{
    char *path = rmj_fs_join(directory, name);
    if (!rmj_fs_exists(directory)) {
        assert_int_equal(rmj_fs_make_directories(directory, 0755, NULL), RMJ_OK);
    }
    assert_int_equal(json_dump_file(root, path, JSON_INDENT(1)), 0);
    free(path);
}

// One of the files beside this test.
static json_t *public_config(const char *name)
{
    const char *source = getenv("RMJOB_SOURCE");
    char path[512];
    snprintf(path, sizeof path, "%s/tests/trainer/model/configs/%s.json", source != NULL ? source : ".", name);
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL) {
        fail_msg("%s cannot be read", path);
    }
    return root;
}

static enum rmj_status read_config(const json_t *root, struct rmj_model_config *config, struct rmj_error *err)
{
    write_json(path_of("read"), "config.json", root);
    return rmj_model_config_read(config, path_of("read"), err);
}

static const struct {
    const char *name, *family;
    uint64_t parameter_count;
    uint32_t windowed_layer_count;
    uint32_t window;
    enum rmj_rope_kind rope;
    double theta, attention_factor;
    uint32_t length_max;
} public_configs[] = {
    {"llama-2-7b-chat", "llama", 6607347712u, 0, 0, RMJ_ROPE_DEFAULT, 1e4, 1, 0},
    {"longchat-7b-linear", "llama", 6607347712u, 0, 0, RMJ_ROPE_LINEAR, 1e4, 1, 0},
    {"yarn-llama-2-7b-64k", "llama", 6607347712u, 0, 0, RMJ_ROPE_YARN, 1e4, 1.2772588722239782, 0},
    {"llama-3-8b-instruct", "llama", 7504928768u, 0, 0, RMJ_ROPE_DEFAULT, 5e5, 1, 0},
    {"llama-3.1-8b-instruct", "llama", 7504928768u, 0, 0, RMJ_ROPE_LLAMA3, 5e5, 1, 0},
    {"llama-3.2-1b-instruct", "llama", 1235816448u, 0, 0, RMJ_ROPE_LLAMA3, 5e5, 1, 0},
    {"smollm2-135m-instruct", "llama", 134515584u, 0, 0, RMJ_ROPE_DEFAULT, 1e5, 1, 0},
    {"skywork-reward-llama-3.1-8b", "llama", 7504928768u, 0, 0, RMJ_ROPE_LLAMA3, 5e5, 1, 0},
    {"mistral-7b-v0.1", "mistral", 7110664192u, 32, 4096, RMJ_ROPE_DEFAULT, 1e4, 1, 0},
    {"mistral-7b-instruct-v0.3", "mistral", 7113809920u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"mistral-nemo-instruct-2407", "mistral", 11576698880u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"qwen2.5-0.5b-instruct", "qwen2", 494033664u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"qwen2.5-7b", "qwen2", 7070622720u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"qwen2.5-7b-yarn", "qwen2", 7070622720u, 0, 0, RMJ_ROPE_YARN, 1e6, 1.138629436111989, 0},
    {"qwen2-windowed", "qwen2", 1543715840u, 7, 4096, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"qwen3-0.6b", "qwen3", 596050944u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"qwen3-8b", "qwen3", 7568409600u, 0, 0, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"gemma-2-2b-it", "gemma2", 2614344192u, 13, 4096, RMJ_ROPE_DEFAULT, 1e4, 1, 0},
    {"gemma-2-27b-it", "gemma2", 27227132928u, 23, 4096, RMJ_ROPE_DEFAULT, 1e4, 1, 0},
    {"gemma-3-1b-it", "gemma3_text", 999887104u, 22, 512, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"gemma-3-270m-it", "gemma3_text", 268098816u, 15, 512, RMJ_ROPE_DEFAULT, 1e6, 1, 0},
    {"gemma-3-4b-it-text", "gemma3_text", 3880265728u, 29, 1024, RMJ_ROPE_LINEAR, 1e6, 1, 0},
    {"gemma-3-4b-it-text-v5", "gemma3_text", 3880265728u, 29, 1024, RMJ_ROPE_LINEAR, 1e6, 1, 0},
    {"olmo-2-0425-1b", "olmo2", 1279397888u, 0, 0, RMJ_ROPE_DEFAULT, 5e5, 1, 0},
    {"olmo-2-1124-7b-instruct", "olmo2", 6887579648u, 0, 0, RMJ_ROPE_DEFAULT, 5e5, 1, 0},
    {"olmo-2-0325-32b", "olmo2", 31720482816u, 0, 0, RMJ_ROPE_DEFAULT, 5e5, 1, 0},
    {"phi-3-mini-4k-instruct", "phi3", 3722582016u, 32, 2047, RMJ_ROPE_DEFAULT, 1e4, 1, 0},
    {"phi-3-mini-128k-instruct-su", "phi3", 3722582016u, 32, 262144, RMJ_ROPE_LONGROPE, 1e4, 1.1902380714238083, 4096},
    {"phi-3.5-mini-instruct", "phi3", 3722582016u, 32, 262144, RMJ_ROPE_LONGROPE, 1e4, 1.1902380714238083, 4096},
    {"phi-4-mini-instruct", "phi3", 3836024832u, 32, 262144, RMJ_ROPE_LONGROPE, 1e4, 1.1902380714238083, 4096},
    {"phi-4", "phi3", 14145710080u, 0, 0, RMJ_ROPE_DEFAULT, 250000, 1, 0},
    {"smollm3-3b", "smollm3", 3075100672u, 0, 0, RMJ_ROPE_DEFAULT, 5e6, 1, 0},
};

static uint64_t layout_parameter_count(const struct rmj_model_config *config)
{
    struct rmj_layout *layout;
    assert_int_equal(rmj_layout_create(&layout, config, config->vocabulary_size, NULL), RMJ_OK);
    uint64_t count = 0;
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        count += layout->tensors[i].element_count;
    }
    rmj_layout_destroy(layout);
    return count;
}

static void public_configs_are_read_with_their_meaning(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(public_configs); i++) {
        struct rmj_model_config config;
        struct rmj_error err = {0};
        json_t *root = public_config(public_configs[i].name);
        if (read_config(root, &config, &err) != RMJ_OK) {
            fail_msg("%s: %s", public_configs[i].name, err.message);
        }
        json_decref(root);
        print_message("%s\n", public_configs[i].name);
        assert_string_equal(config.family, public_configs[i].family);
        assert_int_equal(rmj_model_parameter_count(&config), public_configs[i].parameter_count);
        assert_int_equal(layout_parameter_count(&config), public_configs[i].parameter_count);
        uint32_t windowed = 0;
        for (uint32_t l = 0; l < config.layer_count; l++) {
            assert_true(config.layers[l].window == 0 || config.layers[l].window == public_configs[i].window);
            windowed += config.layers[l].window > 0;
        }
        assert_int_equal(windowed, public_configs[i].windowed_layer_count);
        assert_int_equal(config.ropes[0].kind, public_configs[i].rope);
        assert_true(config.ropes[0].theta == public_configs[i].theta);
        assert_true(fabs(config.ropes[0].attention_factor - public_configs[i].attention_factor) < 1e-14);
        assert_int_equal(config.length_max, public_configs[i].length_max);
        assert_true(config.length_max == 0 || strcmp(config.length_max_key, "original_max_position_embeddings") == 0);
    }
}

static struct rmj_model_config must_read(json_t *root)
{
    struct rmj_model_config config;
    struct rmj_error err = {0};
    if (read_config(root, &config, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    json_decref(root);
    return config;
}

static void what_sets_a_family_apart_is_read(void **state)
{
    (void)state;
    struct rmj_model_config gemma2 = must_read(public_config("gemma-2-27b-it"));
    assert_true(gemma2.attention_scale == 1.0f / 12 && gemma2.attention_softcap == 50);
    assert_true(gemma2.embedding_scale == (float)sqrt(4608) && gemma2.norm_weight_offset == 1);
    assert_int_equal(gemma2.norm_placement, RMJ_NORM_BOTH);
    assert_int_equal(gemma2.activation, RMJ_GELU_TANH);
    assert_true(gemma2.layers[0].window == 4096 && gemma2.layers[1].window == 0);
    assert_true(gemma2.tied_embeddings); // by default

    static const char *const spellings[] = {"gemma-3-4b-it-text", "gemma-3-4b-it-text-v5"};
    for (size_t i = 0; i < RMJ_COUNT(spellings); i++) {
        struct rmj_model_config gemma3 = must_read(public_config(spellings[i]));
        assert_true(gemma3.attention_softcap == 0 && gemma3.qk_norm == RMJ_QK_NORM_HEAD);
        assert_true(gemma3.ropes[0].factor == 8 && gemma3.ropes[1].kind == RMJ_ROPE_DEFAULT);
        assert_true(gemma3.ropes[1].theta == 1e4);
        assert_true(gemma3.layers[4].window == 1024 && gemma3.layers[4].rope == 1);
        assert_true(gemma3.layers[5].window == 0 && gemma3.layers[5].rope == 0);
    }

    struct rmj_model_config olmo2 = must_read(public_config("olmo-2-0325-32b"));
    assert_int_equal(olmo2.norm_placement, RMJ_NORM_AFTER);
    assert_int_equal(olmo2.qk_norm, RMJ_QK_NORM_ROW);
    struct rmj_model_config qwen2 = must_read(public_config("qwen2-windowed"));
    assert_true(qwen2.qkv_bias && !qwen2.output_bias);
    assert_true(qwen2.layers[20].window == 0 && qwen2.layers[21].window == 4096);
    struct rmj_model_config qwen3 = must_read(public_config("qwen3-0.6b"));
    assert_true(qwen3.qk_norm == RMJ_QK_NORM_HEAD && qwen3.head_width == 128 && !qwen3.qkv_bias);
    struct rmj_model_config phi4 = must_read(public_config("phi-4-mini-instruct"));
    assert_true(phi4.fused_qkv && phi4.fused_gate_up && phi4.head_width == 128 && phi4.rotary_width == 96);
    struct rmj_model_config smollm3 = must_read(public_config("smollm3-3b"));
    assert_true(smollm3.layers[2].rope == 0 && smollm3.layers[3].rope == RMJ_NO_ROPE);
    struct rmj_model_config longchat = must_read(public_config("longchat-7b-linear"));
    assert_true(longchat.ropes[0].factor == 4);
    struct rmj_model_config nemo = must_read(public_config("mistral-nemo-instruct-2407"));
    assert_int_equal(nemo.head_width, 128);
}

// What the public implementation takes for an absent key, where a null means something else or families differ.
static void absent_keys_have_the_family_s_defaults(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key, *value; // value NULL: the key is taken out
        uint32_t window;                // of layer 0
        uint32_t kv_head_count;
        double theta;
    } cases[] = {
        {"mistral-7b-v0.1", "sliding_window", NULL, 4096, 8, 1e4},
        {"mistral-7b-v0.1", "sliding_window", "null", 0, 8, 1e4},
        {"mistral-7b-v0.1", "num_key_value_heads", NULL, 4096, 8, 1e4},
        {"mistral-7b-v0.1", "num_key_value_heads", "null", 4096, 32, 1e4},
        {"llama-2-7b-chat", "num_key_value_heads", NULL, 0, 32, 1e4},
        {"phi-3-mini-4k-instruct", "sliding_window", NULL, 0, 32, 1e4},
        {"smollm3-3b", "rope_theta", NULL, 0, 4, 2e6},
        {"gemma-3-1b-it", "rope_theta", NULL, 512, 1, 1e6},
        {"gemma-3-1b-it", "sliding_window", NULL, 4096, 1, 1e6},
        {"gemma-3-1b-it", "sliding_window_pattern", "1", 0, 1, 1e6},
        {"qwen2-windowed", "max_window_layers", "0", 4096, 2, 1e6},
        {"qwen2-windowed", "sliding_window", "null", 0, 2, 1e6},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        json_t *root = public_config(cases[i].name);
        if (cases[i].value == NULL) {
            assert_int_equal(json_object_del(root, cases[i].key), 0);
        } else {
            json_object_set_new(root, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        }
        struct rmj_model_config config = must_read(root);
        assert_int_equal(config.layers[0].window, cases[i].window);
        assert_int_equal(config.kv_head_count, cases[i].kv_head_count);
        assert_true(config.ropes[0].theta == cases[i].theta);
    }
    json_t *root = public_config("gemma-2-2b-it");
    json_object_del(root, "attn_logit_softcapping");
    json_object_del(root, "head_dim");
    struct rmj_model_config config = must_read(root);
    assert_true(config.attention_softcap == 50 && config.head_width == 256);
    root = public_config("gemma-2-2b-it");
    json_object_set_new(root, "attn_logit_softcapping", json_null());
    config = must_read(root);
    assert_true(config.attention_softcap == 0);
}

static void anything_else_is_refused_by_its_key(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key, *value, *message;
    } cases[] = {
        {"llama-3-8b-instruct", "hidden_act", "\"gelu\"", "\"hidden_act\" is not \"silu\""},
        {"llama-3-8b-instruct", "rope_interleaved", "true", "\"rope_interleaved\" must be false"},
        {"llama-3-8b-instruct", "partial_rotary_factor", "0.5", "\"partial_rotary_factor\" must be 1 for this family"},
        {"llama-3-8b-instruct", "sliding_window", "4096", "\"sliding_window\" is not supported for family llama"},
        {"llama-3-8b-instruct", "quantization_config", "{}", "\"quantization_config\" is not supported"},
        {"llama-3-8b-instruct", "attention_multiplier", "0.5", "key \"attention_multiplier\" is not known"},
        {"llama-3-8b-instruct", "rope_parameters", "{\"full_attention\":{\"rope_type\":\"default\"}}",
         "\"rope_parameters\": key \"full_attention\" is not known for rope type \"default\""},
        {"llama-3.1-8b-instruct", "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}",
         "\"low_freq_factor\" must be"},
        {"llama-3-8b-instruct", "rope_scaling", "{\"type\":\"mrope\",\"mrope_section\":[1,2]}",
         "rope type \"mrope\"; supported are default, linear"},
        {"llama-3-8b-instruct", "rope_scaling", "{\"type\":\"yarn\",\"factor\":-1}",
         "\"factor\" must be a number over"},
        {"llama-3-8b-instruct", "rope_scaling", "{\"type\":\"yarn\",\"factor\":4,\"beta_fast\":0}",
         "\"beta_fast\" must be a number over zero"},
        {"llama-3-8b-instruct", "rope_scaling", "{\"type\":\"yarn\",\"factor\":4,\"truncate\":1}",
         "\"truncate\" must be true or false"},
        {"llama-3-8b-instruct", "rope_scaling", "[]", "\"rope_scaling\" must be an object"},
        {"llama-3-8b-instruct", "rope_scaling", "{\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]}",
         "\"short_factor\" must list 64 numbers over zero"},
        {"mistral-7b-v0.1", "layer_types", "[\"full_attention\"]",
         "\"layer_types\" is not supported for family mistral"},
        {"mistral-7b-v0.1", "attention_bias", "true", "\"attention_bias\" must be false for family mistral"},
        {"mistral-7b-v0.1", "sliding_window", "0", "\"sliding_window\" must be a whole number from 1"},
        {"qwen2.5-7b", "use_mrope", "true", "\"use_mrope\" must be false"},
        {"qwen2.5-7b", "dual_chunk_attention_config", "{}", "key \"dual_chunk_attention_config\" is not known"},
        {"qwen2.5-7b", "layer_types", "[\"full_attention\"]",
         "\"layer_types\" must list one type for each of 28 layers"},
        {"qwen2.5-7b", "max_window_layers", "-1", "\"max_window_layers\" must be a whole number"},
        {"gemma-2-2b-it", "use_bidirectional_attention", "true", "\"use_bidirectional_attention\" must be false"},
        {"gemma-2-2b-it", "hidden_activation", "\"gelu\"", "\"hidden_activation\" is not \"gelu_pytorch_tanh\""},
        {"gemma-2-2b-it", "sliding_window", "null", "\"sliding_window\" must be a number for family gemma2"},
        {"gemma-2-27b-it", "sliding_window_size", "2048", "\"sliding_window_size\" 2048 differs"},
        {"gemma-2-2b-it", "query_pre_attn_scalar", "0", "\"query_pre_attn_scalar\" must be a number over zero"},
        {"gemma-3-1b-it", "attn_logit_softcapping", "50.0", "\"attn_logit_softcapping\" is not supported"},
        {"gemma-3-1b-it", "_sliding_window_pattern", "2", "\"_sliding_window_pattern\" 2 needs \"layer_types\""},
        {"gemma-3-1b-it", "rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":10}",
         "\"rope_parameters\": key \"rope_type\" is not a layer type"},
        {"gemma-3-1b-it", "architectures", "[\"Gemma3ForConditionalGeneration\"]", "save its language model alone"},
        {"gemma-3-1b-it", "architectures", "[\"Gemma3ForSequenceClassification\"]", "save its language model alone"},
        {"llama-3-8b-instruct", "architectures", "[\"MllamaForConditionalGeneration\"]", "takes more than text"},
        {"llama-3-8b-instruct", "architectures", "[\"Qwen2MoeForCausalLM\"]",
         "is not supported; use one of LlamaForCausalLM, MistralForCausalLM"},
        {"olmo-2-0425-1b", "clip_qkv", "8.0", "\"clip_qkv\" is not supported"},
        {"phi-3-mini-4k-instruct", "rope_scaling", "{\"type\":\"linear\",\"factor\":2}",
         "the rope type of family phi3 must be default or longrope"},
        {"phi-3-mini-4k-instruct", "partial_rotary_factor", "1.5", "\"partial_rotary_factor\" must be 1 at most"},
        {"phi-3-mini-4k-instruct", "partial_rotary_factor", "0.01", "rotary positions need an even width"},
        {"phi-4-mini-instruct", "full_attn_mod", "2", "\"full_attn_mod\" must be 1"},
        {"phi-3.5-mini-instruct", "original_max_position_embeddings", "1.5",
         "\"original_max_position_embeddings\" must be a whole number"},
        {"smollm3-3b", "no_rope_layers", "[1]", "\"no_rope_layers\" must list a 0 or 1 for each of 36 layers"},
        {"smollm3-3b", "num_hidden_layers", "257", "\"num_hidden_layers\" must be a whole number from 1 to 256"},
        {"skywork-reward-llama-3.1-8b", "id2label", "{\"0\":\"a\",\"1\":\"b\"}", "\"num_labels\" must be 1"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        json_t *root = public_config(cases[i].name), *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(root, cases[i].key, value);
        struct rmj_model_config config;
        struct rmj_error err = {0};
        enum rmj_status status = read_config(root, &config, &err);
        if (status != RMJ_DATA || strstr(err.message, cases[i].message) == NULL) {
            fail_msg("%s with %s %s: %s: %s\n  wanted: %s", cases[i].name, cases[i].key, cases[i].value,
                     rmj_status_name(status), err.message, cases[i].message);
        }
        json_decref(root);
    }
}

// Any value under any key is read or refused, and never more.
static void any_value_under_any_key_is_read_or_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"null",  "true",    "-1", "0",  "1",   "7",           "2.5",
                                         "1e300", "1048576", "[]", "{}", "[1]", "\"default\"", "9223372036854775807"};
    struct rmj_rng rng;
    rmj_rng_init(&rng, 4, 1);
    size_t good = 0, refused = 0;
    for (int trial = 0; trial < 3000; trial++) {
        json_t *root = public_config(public_configs[rmj_rng_below(&rng, RMJ_COUNT(public_configs))].name);
        for (uint64_t n = 1 + rmj_rng_below(&rng, 3); n > 0; n--) {
            uint64_t skip = rmj_rng_below(&rng, json_object_size(root));
            void *at = json_object_iter(root);
            while (skip-- > 0) {
                at = json_object_iter_next(root, at);
            }
            const char *value = values[rmj_rng_below(&rng, RMJ_COUNT(values))];
            json_t *inner = json_object_iter_value(at), *new = json_loads(value, JSON_DECODE_ANY, NULL);
            void *inside = rmj_rng_below(&rng, 2) == 0 ? json_object_iter(inner) : NULL;
            if (inside != NULL) {
                json_object_set_new(inner, json_object_iter_key(inside), new);
            } else {
                json_object_set_new(root, json_object_iter_key(at), new);
            }
        }
        struct rmj_model_config config;
        struct rmj_error err = {0};
        enum rmj_status status = read_config(root, &config, &err);
        json_decref(root);
        assert_true(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
        refused += status != RMJ_OK;
        if (status == RMJ_OK) {
            good++;
            assert_true(config.rotary_width % 2 == 0 && config.rotary_width <= config.head_width);
            assert_int_equal(config.head_count % config.kv_head_count, 0);
            assert_int_equal(layout_parameter_count(&config), rmj_model_parameter_count(&config));
        }
    }
    assert_true(good > 300 && refused > 300);
}

static void a_window_in_a_layer_needs_one_in_the_config(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen2.5-7b", "qwen3-8b", "smollm3-3b"};
    for (size_t i = 0; i < RMJ_COUNT(names); i++) {
        json_t *root = public_config(names[i]), *types = json_array();
        json_int_t count = json_integer_value(json_object_get(root, "num_hidden_layers"));
        for (json_int_t l = 0; l < count; l++) {
            json_array_append_new(types, json_string(l == 1 ? "sliding_attention" : "full_attention"));
        }
        json_object_set_new(root, "layer_types", types);
        struct rmj_model_config config;
        struct rmj_error err = {0};
        assert_int_equal(read_config(root, &config, &err), RMJ_DATA);
        assert_non_null(strstr(err.message, "layer 1 is \"sliding_attention\", but"));
        json_object_set_new(root, "use_sliding_window", json_true());
        json_object_set_new(root, "sliding_window", json_integer(77));
        config = must_read(root);
        assert_true(config.layers[0].window == 0 && config.layers[1].window == 77);
    }
}

// A public config with a layer or two and narrow rows.
static json_t *small_config(const char *name)
{
    static const struct {
        const char *key;
        json_int_t value;
    } small[] = {{"hidden_size", 16},
                 {"intermediate_size", 24},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"vocab_size", 20},
                 {"head_dim", 8},
                 {"max_position_embeddings", 64},
                 {"sliding_window", 8}};
    static const char *const dropped[] = {"rope_scaling", "pad_token_id", "layer_types", "no_rope_layers",
                                          "original_max_position_embeddings"};
    json_t *root = public_config(name);
    for (size_t i = 0; i < RMJ_COUNT(small); i++) {
        if (json_is_integer(json_object_get(root, small[i].key)) || strcmp(small[i].key, "head_dim") == 0) {
            json_object_set_new(root, small[i].key, json_integer(small[i].value));
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(dropped); i++) {
        json_object_del(root, dropped[i]);
    }
    json_object_set_new(root, "bos_token_id", json_integer(1));
    json_object_set_new(root, "eos_token_id", json_integer(2));
    return root;
}

static void a_layer_s_tensors_have_the_family_s_names_and_order(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *tensors[16];
    } cases[] = {
        {"llama-3-8b-instruct",
         {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
          "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}},
        {"qwen3-8b",
         {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_norm",
          "self_attn.k_norm", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj",
          "mlp.down_proj"}},
        {"gemma-2-2b-it",
         {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
          "post_attention_layernorm", "pre_feedforward_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
          "post_feedforward_layernorm"}},
        {"olmo-2-0425-1b",
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_norm", "self_attn.k_norm",
          "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
          "post_feedforward_layernorm"}},
        {"phi-4",
         {"input_layernorm", "self_attn.qkv_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_up_proj",
          "mlp.down_proj"}},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct rmj_model_config config = must_read(small_config(cases[i].name));
        struct rmj_layout *layout;
        assert_int_equal(rmj_layout_create(&layout, &config, config.vocabulary_size, NULL), RMJ_OK);
        uint32_t at = 1;
        for (size_t t = 0; t < RMJ_COUNT(cases[i].tensors) && cases[i].tensors[t] != NULL; t++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.0.%s.weight", cases[i].tensors[t]);
            assert_string_equal(layout->tensors[at++].name, name);
        }
        assert_string_equal(strchr(layout->tensors[at].name, '.'), strstr(layout->tensors[at].name, ".layers.1."));
        rmj_layout_destroy(layout);
    }
}

static float *random_weights(const struct rmj_layout *layout)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, 11, 1);
    float *weights = calloc(layout->element_count, sizeof *weights);
    for (uint32_t t = 0; t < layout->tensor_count; t++) {
        for (uint64_t i = 0; i < layout->tensors[t].element_count; i++) {
            weights[layout->tensors[t].offset + i] = (float)rmj_rng_normal(&rng);
        }
    }
    return weights;
}

static void export_of(const char *base, const char *out, const struct rmj_model_config *config,
                      const struct rmj_layout *layout, const float *weights)
{
    struct rmj_error err = {0};
    struct rmj_export_options options = {.base_directory = base,
                                         .directory = out,
                                         .config = config,
                                         .layout = layout,
                                         .weights = weights,
                                         .pad_token = 3};
    if (rmj_model_export(&options, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
}

// The export of each family is read again: the same weights under the same names, the family's own keys, its classifier
// architecture.
static void exports_of_every_family_are_loaded_again_bit_for_bit(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"llama-3-8b-instruct", "LlamaForSequenceClassification"},
                                           {"mistral-7b-v0.1", "MistralForSequenceClassification"},
                                           {"qwen2.5-7b", "Qwen2ForSequenceClassification"},
                                           {"qwen3-8b", "Qwen3ForSequenceClassification"},
                                           {"gemma-2-2b-it", "Gemma2ForSequenceClassification"},
                                           {"gemma-3-1b-it", "Gemma3TextForSequenceClassification"},
                                           {"olmo-2-0425-1b", "Olmo2ForSequenceClassification"},
                                           {"phi-4", "Phi3ForSequenceClassification"},
                                           {"smollm3-3b", "SmolLM3ForSequenceClassification"}};
    for (size_t i = 0; i < RMJ_COUNT(names); i++) {
        char base[128], out[128];
        snprintf(base, sizeof base, "%s/base%zu", scratch, i);
        snprintf(out, sizeof out, "%s/out%zu", scratch, i);
        json_t *root = small_config(names[i][0]);
        struct rmj_model_config config = must_read(json_deep_copy(root)), again;
        write_json(base, "config.json", root);
        json_t *tokenizer = json_pack("{s:s,s:[],s:{s:s,s:{s:i},s:[]}}", "version", "1.0", "added_tokens", "model",
                                      "type", "BPE", "vocab", "a", 0, "merges");
        write_json(base, "tokenizer.json", tokenizer);
        json_decref(tokenizer);
        struct rmj_layout *layout;
        struct rmj_error err = {0};
        assert_int_equal(rmj_layout_create(&layout, &config, config.vocabulary_size, NULL), RMJ_OK);
        float *weights = random_weights(layout), *loaded = calloc(layout->element_count, sizeof *loaded);
        export_of(base, out, &config, layout, weights);

        if (rmj_model_config_read(&again, out, &err) != RMJ_OK) {
            fail_msg("%s", err.message);
        }
        assert_string_equal(again.architecture, names[i][1]);
        again.pad_token = config.pad_token;
        memcpy(again.architecture, config.architecture, sizeof again.architecture);
        assert_memory_equal(&again, &config, sizeof config);
        struct rmj_weights_options options = {
            .directory = out, .config = &again, .layout = layout, .head_init = RMJ_HEAD_BASE};
        assert_int_equal(rmj_weights_load(&options, loaded, &err), RMJ_OK);
        assert_memory_equal(weights, loaded, layout->element_count * sizeof *weights);
        char *path = rmj_fs_join(out, "config.json");
        json_t *exported = json_load_file(path, 0, NULL);
        const char *key;
        json_t *value;
        json_object_foreach(root, key, value)
        {
            // Every key of the base stays, but those that are about to change or of no use.
            static const char replaced[] = " architectures auto_map torch_dtype transformers_version _name_or_path ";
            char word[96];
            snprintf(word, sizeof word, " %s ", key);
            if (strstr(replaced, word) == NULL && !json_equal(value, json_object_get(exported, key))) {
                fail_msg("%s: key %s changed", names[i][0], key);
            }
        }
        json_decref(exported);
        json_decref(root);
        free(path);
        free(weights);
        free(loaded);
        rmj_layout_destroy(layout);
    }
}

// Changes the names in the header of a directory's weight file; both are of one length.
static void rename_in_header(const char *directory, const char *from, const char *to)
{
    char *path = rmj_fs_join(directory, "model.safetensors");
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &bytes, NULL), RMJ_OK);
    assert_int_equal(strlen(from), strlen(to));
    uint64_t header_size;
    memcpy(&header_size, bytes.bytes, sizeof header_size);
    for (char *at = bytes.bytes + 8;
         (at = memmem(at, (size_t)(bytes.bytes + 8 + header_size - at), from, strlen(from)));) {
        memcpy(at, to, strlen(to));
    }
    assert_int_equal(rmj_fs_write(path, bytes.bytes, bytes.size, 0644, NULL), RMJ_OK);
    rmj_buf_deinit(&bytes);
    free(path);
}

static void a_body_saved_alone_and_a_tied_embedding_by_its_other_name_are_read(void **state)
{
    (void)state;
    static const char *const renames[][2] = {{"\"model.", "      \""},
                                             {"\"model.embed_tokens.weight\"", "           \"lm_head.weight\""}};
    for (size_t i = 0; i < RMJ_COUNT(renames); i++) {
        char base[128], out[128];
        snprintf(base, sizeof base, "%s/bare-base%zu", scratch, i);
        snprintf(out, sizeof out, "%s/bare%zu", scratch, i);
        json_t *root = small_config("gemma-3-1b-it");
        struct rmj_model_config config = must_read(json_deep_copy(root));
        write_json(base, "config.json", root);
        json_decref(root);
        json_t *tokenizer = json_pack("{s:s,s:[],s:{s:s,s:{s:i},s:[]}}", "version", "1.0", "added_tokens", "model",
                                      "type", "BPE", "vocab", "a", 0, "merges");
        write_json(base, "tokenizer.json", tokenizer);
        json_decref(tokenizer);
        struct rmj_layout *layout;
        struct rmj_error err = {0};
        assert_int_equal(rmj_layout_create(&layout, &config, config.vocabulary_size, NULL), RMJ_OK);
        float *weights = random_weights(layout), *loaded = calloc(layout->element_count, sizeof *loaded);
        export_of(base, out, &config, layout, weights);
        rename_in_header(out, renames[i][0], renames[i][1]);
        struct rmj_weights_options options = {
            .directory = out, .config = &config, .layout = layout, .head_init = RMJ_HEAD_BASE};
        if (rmj_weights_load(&options, loaded, &err) != RMJ_OK) {
            fail_msg("%s", err.message);
        }
        assert_memory_equal(weights, loaded, layout->element_count * sizeof *weights);
        config.tied_embeddings = 0;
        assert_int_equal(rmj_weights_load(&options, loaded, &err), i == 0 ? RMJ_OK : RMJ_DATA);
        free(weights);
        free(loaded);
        rmj_layout_destroy(layout);
    }
}

static int set_up(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/rmjob-families-XXXXXX");
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
        cmocka_unit_test(public_configs_are_read_with_their_meaning),
        cmocka_unit_test(what_sets_a_family_apart_is_read),
        cmocka_unit_test(absent_keys_have_the_family_s_defaults),
        cmocka_unit_test(anything_else_is_refused_by_its_key),
        cmocka_unit_test(any_value_under_any_key_is_read_or_refused),
        cmocka_unit_test(a_window_in_a_layer_needs_one_in_the_config),
        cmocka_unit_test(a_layer_s_tensors_have_the_family_s_names_and_order),
        cmocka_unit_test(exports_of_every_family_are_loaded_again_bit_for_bit),
        cmocka_unit_test(a_body_saved_alone_and_a_tied_embedding_by_its_other_name_are_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
