#include "trainer/model/config_reader.h"

#include <math.h>
#include <string.h>

const json_t *rmj_config_value(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int rmj_config_present(const struct rmj_config_reader *r, const char *key)
{
    return json_object_get(r->root, key) != NULL;
}

enum rmj_status rmj_config_read_count(const struct rmj_config_reader *r, const char *key, uint32_t max,
                                      uint32_t fallback, uint32_t *out)
{
    const json_t *value = rmj_config_value(r->root, key);
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

enum rmj_status rmj_config_read_flag(const struct rmj_config_reader *r, const char *key, int *out)
{
    const json_t *value = rmj_config_value(r->root, key);
    if (value != NULL && !json_is_boolean(value)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be true or false", r->path, key);
    }
    *out = json_is_true(value);
    return RMJ_OK;
}

enum rmj_status rmj_config_read_token(const struct rmj_config_reader *r, const char *key, int32_t *out)
{
    const json_t *value = rmj_config_value(r->root, key);
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

enum rmj_status rmj_config_read_positive(const struct rmj_config_reader *r, const json_t *object, const char *key,
                                         double fallback, double *out)
{
    const json_t *value = rmj_config_value(object, key);
    if (value == NULL && fallback > 0) {
        *out = fallback;
        return RMJ_OK;
    }
    // Most become float32, where the smallest numbers are zero and the largest infinite.
    if (!json_is_number(value) || !((float)json_number_value(value) > 0) ||
        !isfinite((float)json_number_value(value))) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" must be a number over zero that float32 holds", r->path, key);
    }
    *out = json_number_value(value);
    return RMJ_OK;
}

enum rmj_status rmj_config_check_activation(const struct rmj_config_reader *r, const char *key, const char *name)
{
    const json_t *value = rmj_config_value(r->root, key);
    if (value != NULL && (!json_is_string(value) || strcmp(json_string_value(value), name) != 0)) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"%s\" is not \"%s\", the only one supported for this family", r->path,
                        key, name);
    }
    return RMJ_OK;
}

enum rmj_status rmj_config_read_window(const struct rmj_config_reader *r, uint32_t fallback, uint32_t *window)
{
    if (!rmj_config_present(r, "sliding_window")) {
        *window = fallback;
        return RMJ_OK;
    }
    *window = 0;
    return rmj_config_value(r->root, "sliding_window") == NULL
               ? RMJ_OK
               : rmj_config_read_count(r, "sliding_window", 1u << 30, 0, window);
}

enum rmj_status rmj_config_read_layer_types(const struct rmj_config_reader *r, uint32_t window, const char *why,
                                            struct rmj_model_config *config, int *found)
{
    const json_t *list = rmj_config_value(r->root, "layer_types");
    *found = list != NULL;
    if (list == NULL) {
        return RMJ_OK;
    }
    if (!json_is_array(list) || json_array_size(list) != config->layer_count) {
        return rmj_fail(r->err, RMJ_DATA, "%s: \"layer_types\" must list one type for each of %u layers", r->path,
                        config->layer_count);
    }
    for (uint32_t i = 0; i < config->layer_count; i++) {
        const char *type = json_string_value(json_array_get(list, i));
        int sliding = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!sliding && (type == NULL || strcmp(type, "full_attention") != 0)) {
            return rmj_fail(r->err, RMJ_DATA,
                            "%s: \"layer_types\": layer %u is \"%.40s\"; supported are full_attention and "
                            "sliding_attention",
                            r->path, i, type != NULL ? type : "?");
        }
        if (sliding && window == 0) {
            return rmj_fail(r->err, RMJ_DATA, "%s: \"layer_types\": layer %u is \"sliding_attention\", but %s", r->path,
                            i, why);
        }
        config->layers[i].window = sliding ? window : 0;
    }
    return RMJ_OK;
}
