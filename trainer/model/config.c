// config.json, strictly: a key is understood, known not to touch the arithmetic, or refused by its name.
#include "trainer/model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "trainer/model/json_file.h"

struct reader {
    json_t *root;
    const char *path;
    struct rmj_error *err;
};

// Keys that are read below.
static const char *const understood_keys[] = {
    "architectures",       "model_type",         "hidden_size",  "intermediate_size",   "num_hidden_layers",
    "num_attention_heads", "head_dim",           "vocab_size",   "num_key_value_heads", "max_position_embeddings",
    "rms_norm_eps",        "rope_theta",         "rope_scaling", "rope_parameters",     "hidden_act",
    "tie_word_embeddings", "attention_bias",     "mlp_bias",     "bos_token_id",        "eos_token_id",
    "pad_token_id",        "id2label",           "num_labels",   "pretraining_tp",      "partial_rotary_factor",
    "sliding_window",      "layer_types",        "is_decoder",   "add_cross_attention", "problem_type",
    "quantization_config", "use_sliding_window",
};

// Keys that change nothing in what is computed here. attention_dropout and its like are regularisers of somebody
// else's training run: reward models are trained without dropout, so their value is not used.
static const char *const harmless_keys[] = {
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "name",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

static int listed(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

// A key's value; an explicit null counts as absent.
static const json_t *value_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum rmj_status check_keys(const struct reader *r)
{
    const char *key;
    json_t *value;
    json_object_foreach(r->root, key, value)
    {
        if (listed(key, understood_keys, RMJ_COUNT(understood_keys)) ||
            listed(key, harmless_keys, RMJ_COUNT(harmless_keys)) || json_is_null(value)) {
            continue;
        }
        const char *near = rmj_text_nearest(key, understood_keys, RMJ_COUNT(understood_keys));
        return rmj_fail(r->err, RMJ_DATA,
                        "%s: key \"%.80s\" is not known%s%s%s, and may change what the model computes; remove it if it "
                        "does not",
                        r->path, key, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                        near != NULL ? "\"" : "");
    }
    return RMJ_OK;
}

static enum rmj_status read_count(const struct reader *r, const char *key, uint32_t max, uint32_t fallback,
                                  uint32_t *out)
{
    const json_t *value = value_of(r->root, key);
    if (value == NULL) {
        if (fallback == 0) {
            return rmj_fail(r->err, RMJ_DATA, "%s: key \"%s\" is missing", r->path, key);
        }
        *out = fallback;
        return RMJ_OK;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > (json_int_t)max) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be a whole number from 1 to %u", r->path, key, max);
    }
    *out = (uint32_t)json_integer_value(value);
    return RMJ_OK;
}

static enum rmj_status read_flag(const struct reader *r, const char *key, int *out)
{
    const json_t *value = value_of(r->root, key);
    if (value != NULL && !json_is_boolean(value)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be true or false", r->path, key);
    }
    *out = json_is_true(value);
    return RMJ_OK;
}

// One id; of a list (some models end a turn with several) the first.
static enum rmj_status read_token(const struct reader *r, const char *key, int32_t *out)
{
    const json_t *value = value_of(r->root, key);
    if (json_is_array(value) && json_array_size(value) > 0) {
        value = json_array_get(value, 0);
    }
    *out = -1;
    if (value == NULL) {
        return RMJ_OK;
    }
    // -1 is how old conversions write "none".
    if (!json_is_integer(value) || json_integer_value(value) < -1 || json_integer_value(value) > INT32_MAX) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be a token id", r->path, key);
    }
    *out = (int32_t)json_integer_value(value);
    return RMJ_OK;
}

static enum rmj_status read_positive(const struct reader *r, const json_t *object, const char *key, double fallback,
                                     double *out)
{
    const json_t *value = value_of(object, key);
    if (value == NULL && fallback > 0) {
        *out = fallback;
        return RMJ_OK;
    }
    if (!json_is_number(value) || !(json_number_value(value) > 0) || !isfinite(json_number_value(value))) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be a number over zero", r->path, key);
    }
    *out = json_number_value(value);
    return RMJ_OK;
}

static enum rmj_status read_llama3_rope(const struct reader *r, const json_t *rope, struct rmj_model_config *config)
{
    config->rope_kind = RMJ_ROPE_LLAMA3;
    double original;
    RMJ_TRY(read_positive(r, rope, "factor", 0, &config->rope_factor));
    RMJ_TRY(read_positive(r, rope, "low_freq_factor", 0, &config->rope_low_frequency_factor));
    RMJ_TRY(read_positive(r, rope, "high_freq_factor", 0, &config->rope_high_frequency_factor));
    RMJ_TRY(read_positive(r, rope, "original_max_position_embeddings", 0, &original));
    if (original != (double)(uint32_t)fmin(original, 1e9)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"original_max_position_embeddings\" must be a whole number", r->path);
    }
    config->rope_original_position_count = (uint32_t)original;
    if (config->rope_high_frequency_factor <= config->rope_low_frequency_factor) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"high_freq_factor\" must be over \"low_freq_factor\"", r->path);
    }
    return RMJ_OK;
}

// Two spellings: rope_theta beside rope_scaling (type or rope_type inside), and rope_parameters that holds both.
static enum rmj_status read_rope(const struct reader *r, struct rmj_model_config *config)
{
    const json_t *old = value_of(r->root, "rope_scaling");
    const json_t *rope = value_of(r->root, "rope_parameters");
    if (old != NULL && rope != NULL && !json_equal(old, rope)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"rope_scaling\" and \"rope_parameters\" differ; keep one", r->path);
    }
    RMJ_TRY(read_positive(r, r->root, "rope_theta", 10000.0, &config->rope_theta));
    const char *name = rope != NULL ? "rope_parameters" : "rope_scaling";
    rope = rope != NULL ? rope : old;
    config->rope_kind = RMJ_ROPE_DEFAULT;
    config->rope_factor = 1;
    if (rope == NULL) {
        return RMJ_OK;
    }
    if (!json_is_object(rope)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be an object", r->path, name);
    }
    RMJ_TRY(read_positive(r, rope, "rope_theta", config->rope_theta, &config->rope_theta));
    double partial;
    RMJ_TRY(read_positive(r, rope, "partial_rotary_factor", 1, &partial));
    if (partial != 1) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"partial_rotary_factor\" other than 1 is not supported", r->path);
    }
    const json_t *kind = value_of(rope, "rope_type");
    kind = kind != NULL ? kind : value_of(rope, "type");
    const char *text = kind == NULL ? "default" : json_string_value(kind);
    if (text != NULL && strcmp(text, "default") == 0) {
        return RMJ_OK;
    }
    if (text != NULL && strcmp(text, "linear") == 0) {
        config->rope_kind = RMJ_ROPE_LINEAR;
        return read_positive(r, rope, "factor", 0, &config->rope_factor);
    }
    if (text != NULL && strcmp(text, "llama3") == 0) {
        return read_llama3_rope(r, rope, config);
    }
    return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" asks for rope type \"%.40s\"; supported are default, linear, llama3",
                    r->path, name, text != NULL ? text : "?");
}

static enum rmj_status read_architecture(const struct reader *r, struct rmj_model_config *config)
{
    const json_t *list = value_of(r->root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (name == NULL || json_array_size(list) != 1) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"architectures\" must name one architecture", r->path);
    }
    if (strcmp(name, "LlamaForCausalLM") != 0 && strcmp(name, "LlamaForSequenceClassification") != 0) {
        return rmj_fail(
            r->err, RMJ_DATA,
            "%s: architecture \"%.60s\" is not supported; use LlamaForCausalLM or LlamaForSequenceClassification",
            r->path, name);
    }
    snprintf(config->architecture, sizeof config->architecture, "%s", name);
    snprintf(config->family, sizeof config->family, "llama");
    const char *type = json_string_value(value_of(r->root, "model_type"));
    if (type == NULL || strcmp(type, "llama") != 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"model_type\" must be \"llama\" for architecture %s", r->path, name);
    }
    return RMJ_OK;
}

// Keys whose usual value is nothing to compute, and any other value is something that is not computed here.
static enum rmj_status check_unsupported(const struct reader *r, const struct rmj_model_config *config)
{
    const json_t *act = value_of(r->root, "hidden_act");
    if (act != NULL && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"hidden_act\" is not \"silu\", the only one supported", r->path);
    }
    static const char *const must_be_absent[] = {"sliding_window", "layer_types", "quantization_config"};
    for (size_t i = 0; i < RMJ_COUNT(must_be_absent); i++) {
        if (value_of(r->root, must_be_absent[i]) != NULL) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" is not supported for this family; remove it", r->path,
                            must_be_absent[i]);
        }
    }
    static const char *const must_be_false[] = {"use_sliding_window", "add_cross_attention"};
    for (size_t i = 0; i < RMJ_COUNT(must_be_false); i++) {
        int flag;
        RMJ_TRY(read_flag(r, must_be_false[i], &flag));
        if (flag) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" is not supported", r->path, must_be_false[i]);
        }
    }
    static const char *const must_be_one[] = {"pretraining_tp", "partial_rotary_factor"};
    for (size_t i = 0; i < RMJ_COUNT(must_be_one); i++) {
        const json_t *value = value_of(r->root, must_be_one[i]);
        if (value != NULL && json_number_value(value) != 1) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be 1", r->path, must_be_one[i]);
        }
    }
    const json_t *labels = value_of(r->root, "num_labels");
    const json_t *names = value_of(r->root, "id2label");
    int classifier = strcmp(config->architecture, "LlamaForSequenceClassification") == 0;
    if ((labels != NULL && json_integer_value(labels) != 1) ||
        (classifier && names != NULL && json_object_size(names) != 1)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"num_labels\" must be 1: a reward model has one score", r->path);
    }
    return RMJ_OK;
}

static enum rmj_status check_heads(const struct reader *r, const struct rmj_model_config *config)
{
    if (config->head_count % config->kv_head_count != 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"num_attention_heads\" %u is no multiple of \"num_key_value_heads\" %u",
                        r->path, config->head_count, config->kv_head_count);
    }
    if (config->head_width % 2 != 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: a head is %u wide; rotary positions need an even width", r->path,
                        config->head_width);
    }
    const int32_t tokens[] = {config->bos_token, config->eos_token, config->pad_token};
    static const char *const names[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (size_t i = 0; i < RMJ_COUNT(tokens); i++) {
        if (tokens[i] >= 0 && (uint32_t)tokens[i] >= config->vocabulary_size) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" %d is outside the vocabulary of %u", r->path, names[i],
                            tokens[i], config->vocabulary_size);
        }
    }
    return RMJ_OK;
}

static enum rmj_status read_shape(const struct reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(read_count(r, "num_hidden_layers", 1024, 0, &config->layer_count));
    RMJ_TRY(read_count(r, "hidden_size", 1u << 17, 0, &config->hidden_width));
    RMJ_TRY(read_count(r, "num_attention_heads", 4096, 0, &config->head_count));
    RMJ_TRY(read_count(r, "num_key_value_heads", 4096, config->head_count, &config->kv_head_count));
    RMJ_TRY(read_count(r, "intermediate_size", 1u << 19, 0, &config->feed_forward_width));
    RMJ_TRY(read_count(r, "vocab_size", 1u << 22, 0, &config->vocabulary_size));
    RMJ_TRY(read_count(r, "max_position_embeddings", 1u << 24, 2048, &config->position_count_max));
    if (value_of(r->root, "head_dim") == NULL && config->hidden_width % config->head_count != 0) {
        return rmj_fail(r->err, RMJ_DATA,
                        "%s: \"hidden_size\" %u is no multiple of \"num_attention_heads\" %u and there is no "
                        "\"head_dim\"",
                        r->path, config->hidden_width, config->head_count);
    }
    RMJ_TRY(read_count(r, "head_dim", 1024, config->hidden_width / config->head_count, &config->head_width));
    double epsilon;
    RMJ_TRY(read_positive(r, r->root, "rms_norm_eps", 1e-6, &epsilon));
    config->norm_epsilon = (float)epsilon;
    RMJ_TRY(read_flag(r, "tie_word_embeddings", &config->tied_embeddings));
    RMJ_TRY(read_flag(r, "attention_bias", &config->attention_bias));
    RMJ_TRY(read_flag(r, "mlp_bias", &config->mlp_bias));
    RMJ_TRY(read_token(r, "bos_token_id", &config->bos_token));
    RMJ_TRY(read_token(r, "eos_token_id", &config->eos_token));
    RMJ_TRY(read_token(r, "pad_token_id", &config->pad_token));
    return check_heads(r, config);
}

enum rmj_status rmj_model_config_read(struct rmj_model_config *config, const char *directory, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    char *path = rmj_fs_join(directory, "config.json");
    struct reader r = {.path = path, .err = err};
    memset(config, 0, sizeof *config);
    RMJ_GO(rmj_json_file_read(directory, "config.json", &r.root, err));
    RMJ_GO(read_architecture(&r, config));
    RMJ_GO(check_unsupported(&r, config));
    RMJ_GO(check_keys(&r));
    RMJ_GO(read_shape(&r, config));
    RMJ_GO(read_rope(&r, config));
out:
    json_decref(r.root);
    free(path);
    return status;
}

uint64_t rmj_model_parameter_count(const struct rmj_model_config *config)
{
    uint64_t c = config->hidden_width, f = config->feed_forward_width;
    uint64_t q = (uint64_t)config->head_count * config->head_width;
    uint64_t kv = (uint64_t)config->kv_head_count * config->head_width;
    uint64_t layer = 2 * c + 2 * q * c + 2 * kv * c + 3 * f * c;
    layer += config->attention_bias ? q + 2 * kv + c : 0;
    layer += config->mlp_bias ? 2 * f + c : 0;
    return config->vocabulary_size * c + config->layer_count * layer + 2 * c;
}
