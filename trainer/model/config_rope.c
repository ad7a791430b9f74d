// Rotary positions in config.json. Two spellings: rope_theta beside rope_scaling (type or rope_type inside), and
// rope_parameters, which holds both, or a set for each layer type.
#include <stdio.h>
#include <string.h>

#include "trainer/model/config_reader.h"
#include "trainer/model/families.h"
#include "trainer/model/rope.h"

// One set of rope parameters while it is read.
struct rope_reader {
    const struct rmj_config_reader *r;
    const json_t *object; // NULL: no scaling is asked for
    const char *name;     // its key in config.json
    struct rmj_model_config *config;
    struct rmj_rope *rope;
};

static enum rmj_status read_positive(const struct rope_reader *s, const char *key, double fallback, double *out)
{
    return rmj_config_read_positive(s->r, s->object, key, fallback, out);
}

// The length before stretching: at the top of config.json, which counts more and where a family may have a default; or
// in the set, or the model's longest.
static enum rmj_status read_original(const struct rope_reader *s)
{
    static const char key[] = "original_max_position_embeddings";
    const struct rmj_config_reader *r = s->r;
    const json_t *value = rmj_config_value(r->root, key);
    value = value != NULL ? value : rmj_config_value(s->object, key);
    s->rope->original_position_count = s->config->position_count_max;
    if (rmj_config_value(r->root, key) == NULL && r->family->original_position_count > 0) {
        s->rope->original_position_count = r->family->original_position_count;
        return RMJ_OK;
    }
    if (value == NULL) {
        return RMJ_OK;
    }
    double count = json_number_value(value);
    if (!(count >= 2) || count > 1u << 24 || count != (double)(uint32_t)count) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be a whole number from 2 to %u", r->path, key, 1u << 24);
    }
    s->rope->original_position_count = (uint32_t)count;
    return RMJ_OK;
}

static enum rmj_status read_linear(const struct rope_reader *s)
{
    return read_positive(s, "factor", 0, &s->rope->factor);
}

static enum rmj_status read_llama3(const struct rope_reader *s)
{
    struct rmj_rope *rope = s->rope;
    RMJ_TRY(read_positive(s, "factor", 0, &rope->factor));
    RMJ_TRY(read_positive(s, "low_freq_factor", 0, &rope->low_frequency_factor));
    RMJ_TRY(read_positive(s, "high_freq_factor", 0, &rope->high_frequency_factor));
    RMJ_TRY(read_original(s));
    if (rope->high_frequency_factor <= rope->low_frequency_factor) {
        return rmj_fail(s->r->err, RMJ_DATA, "%s: \"high_freq_factor\" must be over \"low_freq_factor\"", s->r->path);
    }
    return RMJ_OK;
}

// factor, or the ratio of the two lengths where it is absent.
static enum rmj_status read_stretch(const struct rope_reader *s, double *factor)
{
    RMJ_TRY(read_original(s));
    double ratio = (double)s->config->position_count_max / s->rope->original_position_count;
    return read_positive(s, "factor", ratio, factor);
}

// A scale of yarn: zero means that it is not given.
static enum rmj_status read_scale(const struct rope_reader *s, const char *key, double *out)
{
    const json_t *value = rmj_config_value(s->object, key);
    *out = 0;
    return value == NULL || (json_is_number(value) && json_number_value(value) == 0) ? RMJ_OK
                                                                                     : read_positive(s, key, 0, out);
}

static enum rmj_status read_yarn(const struct rope_reader *s)
{
    struct rmj_rope *rope = s->rope;
    double scale, scale_all;
    RMJ_TRY(read_stretch(s, &rope->factor));
    RMJ_TRY(read_positive(s, "beta_fast", 32, &rope->beta_fast));
    RMJ_TRY(read_positive(s, "beta_slow", 1, &rope->beta_slow));
    RMJ_TRY(read_scale(s, "mscale", &scale));
    RMJ_TRY(read_scale(s, "mscale_all_dim", &scale_all));
    const json_t *truncate = rmj_config_value(s->object, "truncate");
    if (truncate != NULL && !json_is_boolean(truncate)) {
        return rmj_fail(s->r->err, RMJ_DATA, "%s: \"truncate\" must be true or false", s->r->path);
    }
    rope->truncate = truncate == NULL || json_is_true(truncate);
    if (rope->theta <= 1) {
        return rmj_fail(s->r->err, RMJ_DATA, "%s: \"rope_theta\" must be over 1 for rope type \"yarn\"", s->r->path);
    }
    return read_positive(s, "attention_factor", rmj_rope_yarn_attention_factor(rope->factor, scale, scale_all),
                         &rope->attention_factor);
}

static void bound_length(const struct rope_reader *s, const char *key)
{
    if (s->config->length_max == 0 || s->rope->original_position_count < s->config->length_max) {
        s->config->length_max = s->rope->original_position_count;
        s->config->length_max_key = key;
    }
}

static enum rmj_status read_dynamic(const struct rope_reader *s)
{
    s->rope->original_position_count = s->config->position_count_max;
    bound_length(s, "max_position_embeddings");
    return read_positive(s, "factor", 0, &s->rope->factor);
}

static enum rmj_status read_factors(const struct rope_reader *s, const char *key, float *out)
{
    const json_t *list = rmj_config_value(s->object, key);
    uint32_t count = s->config->rotary_width / 2;
    int good = json_is_array(list) && json_array_size(list) == count;
    for (uint32_t i = 0; good && i < count; i++) {
        const json_t *value = json_array_get(list, i);
        good = json_is_number(value) && json_number_value(value) > 0 && json_number_value(value) < 1e30;
        if (good && out != NULL) {
            out[i] = (float)json_number_value(value);
        }
    }
    return good ? RMJ_OK
                : rmj_fail(s->r->err, RMJ_DATA, "%s: \"%s\" must list %u numbers over zero, one a rotated pair",
                           s->r->path, key, count);
}

static enum rmj_status read_longrope(const struct rope_reader *s)
{
    struct rmj_rope *rope = s->rope;
    RMJ_TRY(read_stretch(s, &rope->factor));
    RMJ_TRY(read_factors(s, "short_factor", rope->short_factors));
    RMJ_TRY(read_factors(s, "long_factor", NULL));
    bound_length(s, "original_max_position_embeddings");
    return read_positive(s, "attention_factor",
                         rmj_rope_longrope_attention_factor(rope->factor, rope->original_position_count),
                         &rope->attention_factor);
}

static enum rmj_status read_default(const struct rope_reader *s)
{
    (void)s;
    return RMJ_OK;
}

static const struct rope_type {
    const char *name;
    enum rmj_rope_kind kind;
    enum rmj_status (*read)(const struct rope_reader *s);
    const char *keys[8]; // beside those of every kind
} rope_types[] = {
    {"default", RMJ_ROPE_DEFAULT, read_default, {NULL}},
    {"linear", RMJ_ROPE_LINEAR, read_linear, {"factor"}},
    {"llama3",
     RMJ_ROPE_LLAMA3,
     read_llama3,
     {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}},
    {"yarn",
     RMJ_ROPE_YARN,
     read_yarn,
     {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
      "mscale_all_dim", "truncate"}},
    {"dynamic", RMJ_ROPE_DYNAMIC, read_dynamic, {"factor"}},
    {"longrope",
     RMJ_ROPE_LONGROPE,
     read_longrope,
     {"factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}},
};

static int is_rope_key(const struct rope_type *type, const char *key)
{
    // finetuned: how some models tell that they were trained at the stretched length.
    static const char *const every[] = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "finetuned"};
    for (size_t i = 0; i < RMJ_COUNT(every); i++) {
        if (strcmp(key, every[i]) == 0) {
            return 1;
        }
    }
    for (size_t i = 0; i < RMJ_COUNT(type->keys) && type->keys[i] != NULL; i++) {
        if (strcmp(key, type->keys[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static enum rmj_status find_type(const struct rope_reader *s, const struct rope_type **type)
{
    const json_t *value = rmj_config_value(s->object, "rope_type");
    value = value != NULL ? value : rmj_config_value(s->object, "type");
    const char *name = value == NULL ? "default" : json_string_value(value);
    // How the first Phi-3 files call longrope.
    if (name != NULL && s->r->family->partial_rotary && (strcmp(name, "su") == 0 || strcmp(name, "yarn") == 0)) {
        name = "longrope";
    }
    for (size_t i = 0; i < RMJ_COUNT(rope_types); i++) {
        if (name != NULL && strcmp(name, rope_types[i].name) == 0) {
            *type = &rope_types[i];
            return RMJ_OK;
        }
    }
    return rmj_fail(s->r->err, RMJ_DATA,
                    "%s: \"%s\" asks for rope type \"%.40s\"; supported are default, linear, llama3, yarn, dynamic, "
                    "longrope",
                    s->r->path, s->name, name != NULL ? name : "?");
}

// partial_rotary_factor, in the set or at the top: how much of a head is rotated.
static enum rmj_status read_rotary_width(const struct rope_reader *s)
{
    const struct rmj_config_reader *r = s->r;
    struct rmj_model_config *config = s->config;
    double partial;
    RMJ_TRY(rmj_config_read_positive(r, r->root, "partial_rotary_factor", 1, &partial));
    RMJ_TRY(read_positive(s, "partial_rotary_factor", partial, &partial));
    config->rotary_width = (uint32_t)(config->head_width * (partial < 1 ? partial : 1));
    if (partial > 1 || (partial != 1 && !r->family->partial_rotary)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"partial_rotary_factor\" must be 1%s", r->path,
                        r->family->partial_rotary ? " at most" : " for this family");
    }
    if (config->rotary_width < 2 || config->rotary_width % 2 != 0) {
        return rmj_fail(r->err, RMJ_DATA,
                        "%s: a head is %u wide and %u of it are rotated; rotary positions need an even width", r->path,
                        config->head_width, config->rotary_width);
    }
    return RMJ_OK;
}

static enum rmj_status read_set(const struct rope_reader *s, double theta)
{
    const struct rope_type *type = NULL;
    const char *key;
    json_t *value;
    if (s->object != NULL && !json_is_object(s->object)) {
        return rmj_fail(s->r->err, RMJ_DATA, "%s: \"%s\" must be an object", s->r->path, s->name);
    }
    RMJ_TRY(find_type(s, &type));
    json_object_foreach((json_t *)s->object, key, value)
    {
        if (!json_is_null(value) && !is_rope_key(type, key)) {
            return rmj_fail(s->r->err, RMJ_DATA, "%s: \"%s\": key \"%.60s\" is not known for rope type \"%s\"",
                            s->r->path, s->name, key, type->name);
        }
    }
    s->rope->kind = type->kind;
    s->rope->factor = 1;
    s->rope->attention_factor = 1;
    RMJ_TRY(read_rotary_width(s));
    RMJ_TRY(read_positive(s, "rope_theta", theta, &s->rope->theta));
    return type->read(s);
}

static enum rmj_status check_spellings(const struct rmj_config_reader *r, const json_t *old, const json_t *new)
{
    if (old != NULL && new != NULL && !json_equal(old, new)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"rope_scaling\" and \"rope_parameters\" differ; keep one", r->path);
    }
    return RMJ_OK;
}

enum rmj_status rmj_config_read_rope(const struct rmj_config_reader *r, struct rmj_model_config *config)
{
    const json_t *old = rmj_config_value(r->root, "rope_scaling");
    const json_t *new = rmj_config_value(r->root, "rope_parameters");
    double theta = r->family->rope_theta > 0 ? r->family->rope_theta : 10000;
    RMJ_TRY(check_spellings(r, old, new));
    RMJ_TRY(rmj_config_read_positive(r, r->root, "rope_theta", theta, &theta));
    struct rope_reader s = {.r = r,
                            .object = new != NULL ? new : old,
                            .name = new != NULL ? "rope_parameters" : "rope_scaling",
                            .config = config,
                            .rope = &config->ropes[0]};
    return read_set(&s, theta);
}

enum rmj_status rmj_config_read_rope_by_layer_type(const struct rmj_config_reader *r, double full_theta,
                                                   double window_theta, struct rmj_model_config *config)
{
    const json_t *old = rmj_config_value(r->root, "rope_scaling");
    const json_t *new = rmj_config_value(r->root, "rope_parameters");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)new, key, value)
    {
        if (strcmp(key, "full_attention") != 0 && strcmp(key, "sliding_attention") != 0) {
            return rmj_fail(r->err, RMJ_DATA,
                            "%s: \"rope_parameters\": key \"%.60s\" is not a layer type of this family; put it into "
                            "full_attention and sliding_attention",
                            r->path, key);
        }
    }
    RMJ_TRY(check_spellings(r, old, new));
    RMJ_TRY(rmj_config_read_positive(r, r->root, "rope_theta", full_theta, &full_theta));
    RMJ_TRY(rmj_config_read_positive(r, r->root, "rope_local_base_freq", window_theta, &window_theta));
    struct rope_reader full = {.r = r,
                               .object = new != NULL ? rmj_config_value(new, "full_attention") : old,
                               .name = new != NULL ? "rope_parameters.full_attention" : "rope_scaling",
                               .config = config,
                               .rope = &config->ropes[0]};
    struct rope_reader window = {.r = r,
                                 .object = rmj_config_value(new, "sliding_attention"),
                                 .name = "rope_parameters.sliding_attention",
                                 .config = config,
                                 .rope = &config->ropes[1]};
    RMJ_TRY(read_set(&full, full_theta));
    RMJ_TRY(read_set(&window, window_theta));
    for (uint32_t i = 0; i < config->layer_count; i++) {
        config->layers[i].rope = config->layers[i].window > 0;
    }
    return RMJ_OK;
}
