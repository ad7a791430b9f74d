// config.json, strictly: a key is understood, known not to touch the arithmetic, accepted at the one value that changes
// nothing, or refused by its name.
#include "trainer/model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "trainer/model/adapter.h"
#include "trainer/model/config_reader.h"
#include "trainer/model/families.h"
#include "trainer/model/json_file.h"

// Keys that are read here or in config_rope.c, whatever the family.
static const char *const understood_keys[] = {
    "architectures",
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "id2label",
    "num_labels",
    "problem_type",
    "is_decoder",
};

// Accepted at one value for every family.
static const struct rmj_neutral_key neutral_keys[] = {
    {"quantization_config", "null"},
    {"compression_config", "null"},
    {"cross_attention_hidden_size", "null"},
    {"add_cross_attention", "false"},
    {"rope_interleaved", "false"},
    {"use_mrope", "false"},
    {"pruned_heads", "{}"},
    {NULL, NULL},
};

// Keys that change nothing in what is computed here. attention_dropout and its like are regularisers of somebody
// else's training run: reward models are trained without dropout, so their value is not used. final_logit_softcapping
// and lm_head_bias belong to the language-model head, which a reward model does not have; pretraining_tp tells how the
// base model was spread over devices; what a length, a beam or a token is suppressed by is of text generation.
static const char *const harmless_keys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "final_logit_softcapping",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "initializer_range",
    "is_composition",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "lm_head_bias",
    "mask_token_id",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "name",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "pretraining_tp",
    "remove_invalid_values",
    "renormalize_logits",
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
    "tie_encoder_decoder",
    "tie_last_hidden_states",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

static int listed(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count && keys[i] != NULL; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static const struct rmj_neutral_key *find_neutral(const struct rmj_neutral_key *keys, const char *key)
{
    for (; keys != NULL && keys->key != NULL; keys++) {
        if (strcmp(keys->key, key) == 0) {
            return keys;
        }
    }
    return NULL;
}

static int same_value(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
}

static enum rmj_status check_neutral(const struct rmj_config_reader *r, const struct rmj_neutral_key *neutral,
                                     const json_t *value)
{
    json_t *wanted = json_loads(neutral->value, JSON_DECODE_ANY, NULL);
    int same = wanted != NULL && same_value(value, wanted);
    json_decref(wanted);
    if (same) {
        return RMJ_OK;
    }
    return strcmp(neutral->value, "null") == 0
               ? rmj_fail(r->err, RMJ_DATA,
                          "%s: \"%s\" is not supported for family %s; remove it if the model does not "
                          "need it",
                          r->path, neutral->key, r->family->model_type)
               : rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be %s for family %s: nothing else is computed", r->path,
                          neutral->key, neutral->value, r->family->model_type);
}

static enum rmj_status unknown_key(const struct rmj_config_reader *r, const char *key)
{
    const char *near = rmj_text_nearest(key, understood_keys, RMJ_COUNT(understood_keys));
    return rmj_fail(
        r->err, RMJ_DATA,
        "%s: key \"%.80s\" is not known for family %s%s%s%s, and may change what the model computes; remove "
        "it if it does not",
        r->path, key, r->family->model_type, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
        near != NULL ? "\"" : "");
}

static enum rmj_status check_keys(const struct rmj_config_reader *r)
{
    const char *key;
    json_t *value;
    json_object_foreach(r->root, key, value)
    {
        const struct rmj_neutral_key *neutral = find_neutral(r->family->neutral, key);
        neutral = neutral != NULL ? neutral : find_neutral(neutral_keys, key);
        if (json_is_null(value)) {
            continue;
        }
        if (neutral != NULL) {
            RMJ_TRY(check_neutral(r, neutral, value));
        } else if (!listed(key, understood_keys, RMJ_COUNT(understood_keys)) &&
                   !listed(key, harmless_keys, RMJ_COUNT(harmless_keys)) && !listed(key, r->family->keys, SIZE_MAX)) {
            return unknown_key(r, key);
        }
    }
    return RMJ_OK;
}

static enum rmj_status unknown_architecture(const struct rmj_config_reader *r, const char *name)
{
    // Wrappers around a language model that is one of ours.
    static const char suffix[] = "ForConditionalGeneration";
    size_t length = strlen(name), end = strlen(suffix);
    if ((length > end && strcmp(name + length - end, suffix) == 0) ||
        strcmp(name, "Gemma3ForSequenceClassification") == 0) {
        return rmj_fail(r->err, RMJ_DATA,
                        "%s: architecture \"%.60s\" takes more than text; save its language model alone (for Gemma 3: "
                        "Gemma3ForCausalLM.from_pretrained, then save_pretrained) and name that directory",
                        r->path, name);
    }
    char list[512];
    rmj_family_list(list, sizeof list);
    return rmj_fail(r->err, RMJ_DATA, "%s: architecture \"%.60s\" is not supported; use one of %s", r->path, name,
                    list);
}

static enum rmj_status read_architecture(struct rmj_config_reader *r, struct rmj_model_config *config)
{
    const json_t *list = rmj_config_value(r->root, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (name == NULL || json_array_size(list) != 1) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"architectures\" must name one architecture", r->path);
    }
    r->family = rmj_family_of_architecture(name);
    if (r->family == NULL) {
        return unknown_architecture(r, name);
    }
    snprintf(config->architecture, sizeof config->architecture, "%s", name);
    snprintf(config->family, sizeof config->family, "%s", r->family->model_type);
    const char *type = json_string_value(rmj_config_value(r->root, "model_type"));
    if (type == NULL || strcmp(type, r->family->model_type) != 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"model_type\" must be \"%s\" for architecture %s", r->path,
                        r->family->model_type, name);
    }
    const json_t *labels = rmj_config_value(r->root, "num_labels"), *names = rmj_config_value(r->root, "id2label");
    int classifier = strcmp(name, r->family->classifier) == 0;
    if ((labels != NULL && json_integer_value(labels) != 1) ||
        (classifier && names != NULL && json_object_size(names) != 1)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"num_labels\" must be 1: a reward model has one score", r->path);
    }
    return RMJ_OK;
}

// A token that the vocabulary does not hold is none: small models keep the numbers of the large one they are cut from,
// and the public implementation, which only pads with these, does not mind.
static void drop_outside(const struct rmj_model_config *config, int32_t *token)
{
    *token = *token >= 0 && (uint32_t)*token >= config->vocabulary_size ? -1 : *token;
}

static enum rmj_status check_shape(const struct rmj_config_reader *r, const struct rmj_model_config *config)
{
    if (config->head_count % config->kv_head_count != 0) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"num_attention_heads\" %u is no multiple of \"num_key_value_heads\" %u",
                        r->path, config->head_count, config->kv_head_count);
    }
    if (config->pad_token >= 0 && (uint32_t)config->pad_token >= config->vocabulary_size) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"pad_token_id\" %d is outside the vocabulary of %u", r->path,
                        config->pad_token, config->vocabulary_size);
    }
    return RMJ_OK;
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value > 0 ? value : fallback;
}

// null is "one a query head", absence is the family's default.
static enum rmj_status read_kv_heads(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t fallback = rmj_config_present(r, "num_key_value_heads")
                            ? config->head_count
                            : or_default(r->family->kv_head_count, config->head_count);
    return rmj_config_read_count(r, "num_key_value_heads", 4096, fallback, &config->kv_head_count);
}

static enum rmj_status read_head_width(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    uint32_t fallback = r->family->head_width;
    if (fallback == 0 && rmj_config_value(r->root, "head_dim") == NULL) {
        if (config->hidden_width % config->head_count != 0) {
            return rmj_fail(r->err, RMJ_DATA,
                            "%s: \"hidden_size\" %u is no multiple of \"num_attention_heads\" %u and there is no "
                            "\"head_dim\"",
                            r->path, config->hidden_width, config->head_count);
        }
        fallback = config->hidden_width / config->head_count;
        if (fallback > RMJ_HEAD_WIDTH_MAX) {
            return rmj_fail(
                r->err, RMJ_DATA,
                "%s: \"hidden_size\" %u over \"num_attention_heads\" %u is %u; heads are read up to %u wide", r->path,
                config->hidden_width, config->head_count, fallback, RMJ_HEAD_WIDTH_MAX);
        }
    }
    return rmj_config_read_count(r, "head_dim", RMJ_HEAD_WIDTH_MAX, fallback, &config->head_width);
}

static enum rmj_status read_shape(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    RMJ_TRY(rmj_config_read_count(r, "num_hidden_layers", RMJ_LAYER_COUNT_MAX, 0, &config->layer_count));
    RMJ_TRY(rmj_config_read_count(r, "hidden_size", 1u << 17, 0, &config->hidden_width));
    RMJ_TRY(rmj_config_read_count(r, "num_attention_heads", 4096, 0, &config->head_count));
    RMJ_TRY(read_kv_heads(r, config));
    RMJ_TRY(rmj_config_read_count(r, "intermediate_size", 1u << 19, 0, &config->feed_forward_width));
    RMJ_TRY(rmj_config_read_count(r, "vocab_size", 1u << 22, 0, &config->vocabulary_size));
    RMJ_TRY(rmj_config_read_count(r, "max_position_embeddings", 1u << 24,
                                  or_default(r->family->position_count_max, 2048), &config->position_count_max));
    RMJ_TRY(read_head_width(r, config));
    double epsilon;
    RMJ_TRY(rmj_config_read_positive(r, r->root, "rms_norm_eps",
                                     r->family->norm_epsilon > 0 ? r->family->norm_epsilon : 1e-6, &epsilon));
    config->norm_epsilon = (float)epsilon;
    RMJ_TRY(rmj_config_read_flag(r, "tie_word_embeddings", &config->tied_embeddings));
    if (rmj_config_value(r->root, "tie_word_embeddings") == NULL) {
        config->tied_embeddings = r->family->tied_embeddings;
    }
    RMJ_TRY(rmj_config_read_token(r, "bos_token_id", &config->bos_token));
    RMJ_TRY(rmj_config_read_token(r, "eos_token_id", &config->eos_token));
    RMJ_TRY(rmj_config_read_token(r, "pad_token_id", &config->pad_token));
    drop_outside(config, &config->bos_token);
    drop_outside(config, &config->eos_token);
    config->embedding_scale = 1;
    config->attention_scale = (float)(1.0 / sqrt((double)config->head_width));
    return check_shape(r, config);
}

static enum rmj_status read_model_config(struct rmj_model_config *config, const char *directory, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    char *path = rmj_fs_join(directory, "config.json");
    struct rmj_config_reader r = {.path = path, .err = err};
    memset(config, 0, sizeof *config);
    RMJ_GO(rmj_json_file_read(directory, "config.json", &r.root, err));
    RMJ_GO(read_architecture(&r, config));
    RMJ_GO(check_keys(&r));
    RMJ_GO(read_shape(&r, config));
    RMJ_GO(r.family->read(&r, config));
    RMJ_ASSERT(config->rotary_width > 0);
out:
    json_decref(r.root);
    free(path);
    return status;
}

enum rmj_status rmj_model_config_read(struct rmj_model_config *config, const char *directory, struct rmj_error *err)
{
    if (!rmj_adapter_is(directory)) {
        return read_model_config(config, directory, err);
    }
    char *base;
    RMJ_TRY(rmj_adapter_base(directory, &base, err));
    enum rmj_status status = read_model_config(config, base, err);
    free(base);
    return status;
}

const char *rmj_model_classifier_name(const struct rmj_model_config *config)
{
    const struct rmj_family *family = rmj_family_of_type(config->family);
    RMJ_ASSERT(family != NULL);
    return family->classifier;
}

uint64_t rmj_model_parameter_count(const struct rmj_model_config *config)
{
    uint64_t c = config->hidden_width, f = config->feed_forward_width, d = config->head_width;
    uint64_t q = config->head_count * d, kv = config->kv_head_count * d;
    uint64_t layer = 2 * q * c + 2 * kv * c + 3 * f * c;
    layer += config->norm_placement == RMJ_NORM_BOTH ? 4 * c : 2 * c;
    layer += config->qk_norm == RMJ_QK_NORM_HEAD ? 2 * d : config->qk_norm == RMJ_QK_NORM_ROW ? q + kv : 0;
    layer += config->qkv_bias ? q + 2 * kv : 0;
    layer += config->output_bias ? c : 0;
    layer += config->mlp_bias ? 2 * f + c : 0;
    return config->vocabulary_size * c + config->layer_count * layer + 2 * c;
}
