// batch.json, strictly: a key that is not known inside a pair or the optimizer changes the numbers, so it is refused;
// at the top it is said. Nothing is taken for another thing than it is.
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "trainer/run/verify_internal.h"

void rmj_verify_note(struct rmj_verify_result *result, const char *format, ...)
{
    result->note_total++;
    if (result->note_count == RMJ_VERIFY_NOTES_MAX) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->notes[result->note_count++], RMJ_VERIFY_TEXT_SIZE, format, arguments);
    va_end(arguments);
}

static enum rmj_status known_keys(const json_t *object, const char *where, const char *const *known, size_t count,
                                  struct rmj_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (i < count && strcmp(known[i], key) != 0) {
            i++;
        }
        if (i == count) {
            return rmj_fail(err, RMJ_DATA, "%s: key \"%.60s\" is not known, and what it asks for is not computed",
                            where, key);
        }
    }
    return RMJ_OK;
}

static enum rmj_status read_number(const json_t *object, const char *where, const char *key, double least, double most,
                                   double *out, struct rmj_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL) {
        return rmj_fail(err, RMJ_DATA, "%s: key \"%s\" is missing", where, key);
    }
    *out = json_number_value(value);
    if (!json_is_number(value) || !(*out >= least && *out <= most)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" must be a number from %g to %g", where, key, least, most);
    }
    return RMJ_OK;
}

// One list of ids.
static enum rmj_status read_side(const json_t *pair, const char *where, const char *key,
                                 const struct rmj_model_config *config, int32_t **ids, uint32_t *count,
                                 struct rmj_error *err)
{
    const json_t *list = json_object_get(pair, key);
    size_t size = json_array_size(list);
    if (!json_is_array(list)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" is %s; it must be a list of token ids", where, key,
                        list == NULL ? "missing" : "no list");
    }
    if (size == 0 || size > RMJ_VERIFY_LENGTH_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" has %zu ids; it must have 1 to %u", where, key, size,
                        RMJ_VERIFY_LENGTH_MAX);
    }
    if (config->length_max > 0 && size > config->length_max) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: \"%s\" has %zu ids, but over %u (%s in config.json) the rotary positions change with the "
                        "length of a batch, which is not computed",
                        where, key, size, config->length_max, config->length_max_key);
    }
    *ids = malloc(size * sizeof **ids);
    if (*ids == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu ids", size);
    }
    *count = (uint32_t)size;
    for (size_t i = 0; i < size; i++) {
        const json_t *value = json_array_get(list, i);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= (json_int_t)config->vocabulary_size) {
            char text[40];
            snprintf(text, sizeof text, "%lld", (long long)id);
            return rmj_fail(err, RMJ_DATA, "%s: \"%s\"[%zu] is %s; ids are whole numbers from 0 to %u", where, key, i,
                            json_is_integer(value) ? text : "no whole number", config->vocabulary_size - 1);
        }
        (*ids)[i] = (int32_t)id;
    }
    return RMJ_OK;
}

int rmj_verify_same_sides(const struct rmj_verify_pair *pair)
{
    return pair->counts[0] == pair->counts[1] &&
           memcmp(pair->sides[0], pair->sides[1], pair->counts[0] * sizeof *pair->sides[0]) == 0;
}

// transformers scores the last token that is not the pad token, and the first where all are: what stands after it has
// no say.
static void cut_pads(struct rmj_verify_batch *batch, const struct rmj_model_config *config,
                     struct rmj_verify_result *result)
{
    uint32_t cut = 0;
    for (uint32_t i = 0; i < 2 * batch->pair_count; i++) {
        const int32_t *ids = batch->pairs[i / 2].sides[i % 2];
        uint32_t *count = &batch->pairs[i / 2].counts[i % 2], before = *count;
        while (*count > 1 && ids[*count - 1] == config->pad_token) {
            --*count;
        }
        cut += before != *count;
    }
    if (cut > 0) {
        rmj_verify_note(result,
                        "%u sides end in pad_token_id (%d); as in transformers, the last token before it is scored",
                        cut, config->pad_token);
    }
}

static enum rmj_status read_pair(struct rmj_verify_batch *batch, const char *path, uint32_t index, const json_t *value,
                                 const struct rmj_model_config *config, struct rmj_error *err)
{
    static const char *const known[] = {"chosen_ids", "rejected_ids", "margin"};
    struct rmj_verify_pair *pair = &batch->pairs[index];
    char where[RMJ_VERIFY_TEXT_SIZE];
    snprintf(where, sizeof where, "%.200s: pairs[%u]", path, index);
    if (!json_is_object(value)) {
        return rmj_fail(err, RMJ_DATA, "%s is no object with chosen_ids, rejected_ids and margin", where);
    }
    RMJ_TRY(known_keys(value, where, known, RMJ_COUNT(known), err));
    for (int side = 0; side < 2; side++) {
        RMJ_TRY(read_side(value, where, known[side], config, &pair->sides[side], &pair->counts[side], err));
        batch->token_count += pair->counts[side];
        batch->longest = pair->counts[side] > batch->longest ? pair->counts[side] : batch->longest;
    }
    const json_t *margin = json_object_get(value, "margin");
    if (margin != NULL && !json_is_null(margin)) {
        double number = 0;
        RMJ_TRY(read_number(value, where, "margin", -1e6, 1e6, &number, err));
        pair->margin = (float)number;
    }
    return RMJ_OK;
}

static enum rmj_status read_pairs(struct rmj_verify_batch *batch, const char *path, const json_t *root,
                                  const struct rmj_model_config *config, struct rmj_error *err)
{
    const json_t *list = json_object_get(root, "pairs");
    size_t count = json_array_size(list);
    if (!json_is_array(list)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"pairs\" is %s; it must be a list of {chosen_ids, rejected_ids, margin}",
                        path, list == NULL ? "missing" : "no list");
    }
    if (count == 0 || count > RMJ_VERIFY_PAIRS_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s: \"pairs\" has %zu; there must be 1 to %u", path, count,
                        RMJ_VERIFY_PAIRS_MAX);
    }
    batch->pairs = calloc(count, sizeof *batch->pairs);
    if (batch->pairs == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu pairs", count);
    }
    batch->pair_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        RMJ_TRY(read_pair(batch, path, (uint32_t)i, json_array_get(list, i), config, err));
    }
    return RMJ_OK;
}

static enum rmj_status read_text(const json_t *object, const char *where, const char *key, const char *only,
                                 struct rmj_error *err)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    if (value != NULL && (text == NULL || strcmp(text, only) != 0)) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" is \"%.60s\"; only \"%s\" is computed", where, key,
                        text == NULL ? "no text" : text, only);
    }
    return RMJ_OK;
}

static enum rmj_status read_optimizer(struct rmj_verify_batch *batch, const char *path, const json_t *root,
                                      struct rmj_error *err)
{
    static const char *const known[] = {
        "name", "lr", "beta1", "beta2", "eps", "weight_decay", "decay_applies_to", "clip_global_norm", "steps"};
    const json_t *optimizer = json_object_get(root, "optimizer");
    char where[RMJ_VERIFY_TEXT_SIZE];
    snprintf(where, sizeof where, "%.200s: optimizer", path);
    if (optimizer == NULL || json_is_null(optimizer)) {
        return RMJ_OK;
    }
    if (!json_is_object(optimizer)) {
        return rmj_fail(err, RMJ_DATA, "%s is no object", where);
    }
    RMJ_TRY(known_keys(optimizer, where, known, RMJ_COUNT(known), err));
    RMJ_TRY(read_text(optimizer, where, "name", "AdamW", err));
    RMJ_TRY(read_text(optimizer, where, "decay_applies_to", "every parameter", err));
    RMJ_TRY(read_number(optimizer, where, "lr", 0, 1e6, &batch->learning_rate, err));
    RMJ_TRY(read_number(optimizer, where, "beta1", 0, 0.999999999, &batch->beta1, err));
    RMJ_TRY(read_number(optimizer, where, "beta2", 0, 0.999999999, &batch->beta2, err));
    RMJ_TRY(read_number(optimizer, where, "eps", 0, 1, &batch->epsilon, err));
    RMJ_TRY(read_number(optimizer, where, "weight_decay", 0, 1e6, &batch->weight_decay, err));
    const json_t *clip = json_object_get(optimizer, "clip_global_norm");
    if (clip != NULL && !json_is_null(clip)) {
        RMJ_TRY(read_number(optimizer, where, "clip_global_norm", 0, 1e9, &batch->clip, err));
    }
    double steps = 0;
    RMJ_TRY(read_number(optimizer, where, "steps", 0, RMJ_VERIFY_STEPS_MAX, &steps, err));
    batch->step_count = (uint32_t)steps;
    return (double)batch->step_count == steps ? RMJ_OK
                                              : rmj_fail(err, RMJ_DATA, "%s: \"steps\" must be a whole number", where);
}

// A list of one number a step.
static enum rmj_status read_series(const struct rmj_verify_batch *batch, const char *path, const json_t *root,
                                   const char *key, double **out, struct rmj_error *err)
{
    const json_t *list = json_object_get(root, key);
    size_t count = json_array_size(list), wanted = batch->step_count > 0 ? batch->step_count : 1;
    if (!json_is_array(list) || count != wanted) {
        return rmj_fail(err, RMJ_DATA, "%s: \"%s\" %s; it must be a list of %zu, one a step", path, key,
                        list == NULL           ? "is missing"
                        : !json_is_array(list) ? "is no list"
                                               : "has another length",
                        wanted);
    }
    *out = calloc(count, sizeof **out);
    if (*out == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu numbers", count);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(list, i);
        (*out)[i] = json_number_value(value);
        if (!json_is_number(value)) {
            return rmj_fail(err, RMJ_DATA, "%s: \"%s\"[%zu] is no number", path, key, i);
        }
    }
    return RMJ_OK;
}

static void note_unknown(const json_t *root, const char *path, struct rmj_verify_result *result)
{
    static const char *const known[] = {"pairs", "losses", "grad_norms", "optimizer", "margin_note", "made_by"};
    static const char formula[] = "loss = mean(-logsigmoid(chosen - rejected - margin))";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        size_t i = 0;
        while (i < RMJ_COUNT(known) && strcmp(known[i], key) != 0) {
            i++;
        }
        if (i == RMJ_COUNT(known)) {
            rmj_verify_note(result, "%.160s: key \"%.60s\" is not known and not used", path, key);
        }
    }
    const char *note = json_string_value(json_object_get(root, "margin_note"));
    if (note != NULL && strcmp(note, formula) != 0) {
        rmj_verify_note(result, "%.80s: margin_note says \"%.100s\"; computed is %s", path, note, formula);
    }
}

enum rmj_status rmj_verify_batch_read(struct rmj_verify_batch *batch, const char *path,
                                      const struct rmj_model_config *config, struct rmj_verify_result *result,
                                      struct rmj_error *err)
{
    struct rmj_buf text;
    json_t *root = NULL;
    enum rmj_status status = RMJ_OK;
    *batch = (struct rmj_verify_batch){0};
    rmj_buf_init(&text, RMJ_VERIFY_BATCH_SIZE_MAX);
    RMJ_GO(rmj_fs_read(path, &text, err));
    json_error_t where;
    root = json_loadb(text.bytes, text.size, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(root)) {
        status = root != NULL
                     ? rmj_fail(err, RMJ_DATA, "%s: not a JSON object", path)
                     : rmj_fail(err, RMJ_DATA, "%s:%d:%d: not JSON: %s", path, where.line, where.column, where.text);
        goto out;
    }
    note_unknown(root, path, result);
    RMJ_GO(read_pairs(batch, path, root, config, err));
    cut_pads(batch, config, result);
    RMJ_GO(read_optimizer(batch, path, root, err));
    RMJ_GO(read_series(batch, path, root, "losses", &batch->losses, err));
    if (json_object_get(root, "grad_norms") != NULL) {
        RMJ_GO(read_series(batch, path, root, "grad_norms", &batch->norms, err));
    } else {
        rmj_verify_note(result, "%.160s has no grad_norms; the gradient's norm is not compared", path);
    }
out:
    json_decref(root);
    rmj_buf_deinit(&text);
    return status;
}

void rmj_verify_batch_free(struct rmj_verify_batch *batch)
{
    for (uint32_t i = 0; i < batch->pair_count; i++) {
        free(batch->pairs[i].sides[0]);
        free(batch->pairs[i].sides[1]);
    }
    free(batch->pairs);
    free(batch->losses);
    free(batch->norms);
}
