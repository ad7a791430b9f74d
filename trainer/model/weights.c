// The weight files of a model directory against the layout: checked by headers, then read into the flat space.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/rng.h"
#include "trainer/model/adapter.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/json_file.h"
#include "trainer/model/safetensors.h"

#define INDEX_SIZE_MAX ((size_t)64 << 20)
#define FILE_COUNT_MAX 1024u
#define HEAD_STREAM 0x68656164u // "head"

// The weight files of one directory.
struct weight_files {
    struct rmj_safetensors *files;
    size_t count;
    json_t *index; // parsed model.safetensors.index.json, NULL for a single file
    int bare;      // the body was saved alone: "layers.0..." in place of "model.layers.0..."
};

static const char body_prefix[] = "model.";
static const char embedding_name[] = "model.embed_tokens.weight";
static const char unembedding_name[] = "lm_head.weight";

static void close_files(struct weight_files *set)
{
    for (size_t i = 0; i < set->count; i++) {
        rmj_safetensors_close(&set->files[i]);
    }
    free(set->files);
    json_decref(set->index);
    *set = (struct weight_files){0};
}

static enum rmj_status open_one(struct weight_files *set, const char *directory, const char *name,
                                struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, name);
    enum rmj_status status = RMJ_OK;
    struct rmj_safetensors *files = realloc(set->files, (set->count + 1) * sizeof *files);
    if (path == NULL || files == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu weight files", set->count + 1);
    }
    set->files = files != NULL ? files : set->files;
    if (status == RMJ_OK) {
        status = rmj_safetensors_open(&set->files[set->count], path, err);
    }
    if (status == RMJ_OK) {
        set->count++;
    }
    free(path);
    return status == RMJ_NOT_FOUND ? rmj_error_set(err, __FILE__, __LINE__, RMJ_DATA, NULL, 0,
                                                   "%s/%s: missing; copy the whole model directory", directory, name)
                                   : status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Opens the distinct files that the index names, in name order.
static enum rmj_status open_shards(struct weight_files *set, const char *directory, const char *index_path,
                                   struct rmj_error *err)
{
    const json_t *map = json_object_get(set->index, "weight_map");
    size_t count = json_object_size(map);
    if (count == 0) {
        return rmj_fail(err, RMJ_DATA, "%s: \"weight_map\" names no tensor", index_path);
    }
    const char **names = calloc(count, sizeof *names);
    if (names == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu names", count);
    }
    enum rmj_status status = RMJ_OK;
    size_t at = 0;
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL) {
            status =
                rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\" is not mapped to a plain file name", index_path, tensor);
            goto out;
        }
        names[at++] = name;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(names[i], names[i - 1]) == 0) {
            continue;
        }
        if (set->count == FILE_COUNT_MAX) {
            status = rmj_fail(err, RMJ_DATA, "%s: over %u files", index_path, FILE_COUNT_MAX);
            goto out;
        }
        RMJ_GO(open_one(set, directory, names[i], err));
    }
out:
    free(names);
    return status;
}

static enum rmj_status open_index(struct weight_files *set, const char *directory, const char *path,
                                  struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, INDEX_SIZE_MAX);
    enum rmj_status status = rmj_fs_read(path, &text, err);
    json_error_t where = {0};
    if (status == RMJ_OK) {
        set->index = json_loadb(rmj_buf_text(&text), text.size, JSON_REJECT_DUPLICATES, &where);
        status = json_is_object(set->index)
                     ? open_shards(set, directory, path, err)
                     : rmj_fail(err, RMJ_DATA, "%s:%d: not a JSON object: %s", path, where.line, where.text);
    }
    rmj_buf_deinit(&text);
    return status;
}

static const struct rmj_safetensor *find_stored(const struct weight_files *set, const char *name,
                                                const struct rmj_safetensors **file)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct rmj_safetensor *found = rmj_safetensors_find(&set->files[i], name);
        if (found != NULL) {
            *file = &set->files[i];
            return found;
        }
    }
    return NULL;
}

static enum rmj_status open_files(struct weight_files *set, const char *directory, struct rmj_error *err)
{
    *set = (struct weight_files){0};
    char *single = rmj_fs_join(directory, "model.safetensors");
    char *index = rmj_fs_join(directory, "model.safetensors.index.json");
    enum rmj_status status;
    if (rmj_fs_exists(single)) {
        status = open_one(set, directory, "model.safetensors", err);
    } else if (rmj_fs_exists(index)) {
        status = open_index(set, directory, index, err);
    } else if (rmj_adapter_is(directory)) {
        status = rmj_fail(err, RMJ_DATA, "%s: is a PEFT adapter; merge it into its base model first", directory);
    } else {
        status = rmj_fail(err, RMJ_DATA,
                          "%s: has neither model.safetensors nor model.safetensors.index.json; convert the model to "
                          "safetensors",
                          directory);
    }
    free(single);
    free(index);
    if (status != RMJ_OK) {
        close_files(set);
    }
    const struct rmj_safetensors *file;
    set->bare = status == RMJ_OK && find_stored(set, embedding_name, &file) == NULL &&
                find_stored(set, embedding_name + sizeof body_prefix - 1, &file) != NULL;
    return status;
}

// The name in the files of a tensor of the layout.
static const char *stored_name(const struct weight_files *set, const char *name)
{
    size_t prefix = sizeof body_prefix - 1;
    return set->bare && strncmp(name, body_prefix, prefix) == 0 ? name + prefix : name;
}

// Finds a tensor of the layout in the one file that has it; with an index, in the file the index names. Some tools save
// a tied embedding under the other of its two names.
static const struct rmj_safetensor *find(const struct weight_files *set, const struct rmj_model_config *config,
                                         const char *name, const struct rmj_safetensors **file)
{
    const struct rmj_safetensor *found = find_stored(set, stored_name(set, name), file);
    return found == NULL && config->tied_embeddings && strcmp(name, embedding_name) == 0
               ? find_stored(set, unembedding_name, file)
               : found;
}

static enum rmj_status check_tensor(const struct weight_files *set, const struct rmj_model_config *config,
                                    const struct rmj_tensor *tensor, int optional, struct rmj_error *err)
{
    const struct rmj_safetensors *file = &set->files[0];
    const struct rmj_safetensor *found = find(set, config, tensor->name, &file);
    if (found == NULL) {
        return optional ? RMJ_OK
                        : rmj_fail(err, RMJ_DATA, "%s: tensor \"%s\" is missing; config.json asks for it", file->path,
                                   tensor->name);
    }
    if (found->dtype >= RMJ_DTYPE_F64) {
        return rmj_fail(err, RMJ_DATA, "%s: tensor \"%s\": dtype must be F32, BF16 or F16", file->path, tensor->name);
    }
    int same = found->dimension_count == tensor->dimension_count && found->element_count == tensor->element_count &&
               found->shape[found->dimension_count - 1] == tensor->shape[1];
    if (!same) {
        unsigned long long rows = found->dimension_count == 2 ? found->shape[0] : 1;
        unsigned long long columns = found->dimension_count > 0 ? found->shape[found->dimension_count - 1] : 0;
        return rmj_fail(err, RMJ_DATA, "%s: tensor \"%s\" has %u dimensions, [%llu, %llu]; config.json says [%u, %u]",
                        file->path, tensor->name, found->dimension_count, rows, columns, tensor->shape[0],
                        tensor->shape[1]);
    }
    return RMJ_OK;
}

// What a model directory may hold beside the reward model's own tensors: the language-model head, which a reward model
// does not have, and rotary tables that old versions saved and that follow from config.json.
static int skipped(const char *name)
{
    static const char suffix[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name);
    return strcmp(name, unembedding_name) == 0 || strcmp(name, "lm_head.bias") == 0 ||
           (length > strlen(suffix) && strcmp(name + length - strlen(suffix), suffix) == 0);
}

static const struct rmj_tensor *layout_find(const struct weight_files *set, const struct rmj_layout *layout,
                                            const char *name)
{
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (strcmp(stored_name(set, layout->tensors[i].name), name) == 0) {
            return &layout->tensors[i];
        }
    }
    return NULL;
}

static enum rmj_status check_extra(const struct weight_files *set, const struct rmj_layout *layout,
                                   struct rmj_error *err)
{
    for (size_t f = 0; f < set->count; f++) {
        for (size_t i = 0; i < set->files[f].tensor_count; i++) {
            const char *name = set->files[f].tensors[i].name;
            if (!skipped(name) && layout_find(set, layout, name) == NULL) {
                return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\" is none of a model with this config.json",
                                set->files[f].path, name);
            }
            const char *mapped = json_string_value(json_object_get(json_object_get(set->index, "weight_map"), name));
            const char *slash = strrchr(set->files[f].path, '/');
            if (set->index != NULL && (mapped == NULL || slash == NULL || strcmp(mapped, slash + 1) != 0)) {
                return rmj_fail(err, RMJ_DATA, "%s: tensor \"%.100s\" is in this file, but the index says %s",
                                set->files[f].path, name, mapped != NULL ? mapped : "nothing of it");
            }
        }
    }
    return RMJ_OK;
}

static enum rmj_status check_files(const struct weight_files *set, const struct rmj_model_config *config,
                                   struct rmj_error *err)
{
    struct rmj_layout *layout;
    RMJ_TRY(rmj_layout_create(&layout, config, config->vocabulary_size, err));
    enum rmj_status status = RMJ_OK;
    for (uint32_t i = 0; i < layout->tensor_count && status == RMJ_OK; i++) {
        status = check_tensor(set, config, &layout->tensors[i], i == layout->head, err);
    }
    if (status == RMJ_OK) {
        status = check_extra(set, layout, err);
    }
    rmj_layout_destroy(layout);
    return status;
}

enum rmj_status rmj_model_files_check(const char *directory, const struct rmj_model_config *config,
                                      struct rmj_error *err)
{
    struct weight_files set;
    RMJ_TRY(open_files(&set, directory, err));
    enum rmj_status status = check_files(&set, config, err);
    close_files(&set);
    return status;
}

static enum rmj_status missing_head(const char *directory, struct rmj_error *err)
{
    return rmj_fail(err, RMJ_DATA, "%s: has no score.weight to take as head; ask for train.head_init normal or zeros",
                    directory);
}

enum rmj_status rmj_model_head_check(const char *directory, struct rmj_error *err)
{
    struct weight_files set;
    RMJ_TRY(open_files(&set, directory, err));
    const struct rmj_safetensors *file;
    enum rmj_status status = find_stored(&set, "score.weight", &file) != NULL ? RMJ_OK : missing_head(directory, err);
    close_files(&set);
    return status;
}

static void fill_head(const struct rmj_weights_options *options, float *head, uint64_t count)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, options->seed, HEAD_STREAM);
    double std = 1.0 / sqrt((double)(count + 1));
    for (uint64_t i = 0; i < count; i++) {
        head[i] = options->head_init == RMJ_HEAD_NORMAL ? (float)(std * rmj_rng_normal(&rng)) : 0.0f;
    }
    rmj_log(RMJ_LOG_INFO, "weights", "event=new_head init=%s seed=%llu",
            options->head_init == RMJ_HEAD_NORMAL ? "normal" : "zeros", (unsigned long long)options->seed);
}

// The row of an added pad token: never read by a scored row, and harmless in size if it ever were.
static enum rmj_status fill_added_rows(const struct rmj_tensor *embedding, uint32_t file_rows, float *rows,
                                       struct rmj_error *err)
{
    uint32_t c = embedding->shape[1];
    double *mean = calloc(c, sizeof *mean);
    if (mean == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a mean of %u", c);
    }
    for (uint32_t r = 0; r < file_rows; r++) {
        for (uint32_t i = 0; i < c; i++) {
            mean[i] += (double)rows[(size_t)r * c + i];
        }
    }
    for (uint32_t r = file_rows; r < embedding->shape[0]; r++) {
        for (uint32_t i = 0; i < c; i++) {
            rows[(size_t)r * c + i] = (float)(mean[i] / file_rows);
        }
    }
    free(mean);
    return RMJ_OK;
}

static enum rmj_status load(const struct weight_files *set, const struct rmj_weights_options *options, float *weights,
                            struct rmj_error *err)
{
    const struct rmj_layout *layout = options->layout;
    RMJ_TRY(check_files(set, options->config, err));
    memset(weights, 0, layout->weight_count * sizeof *weights);
    rmj_lora_fill(layout, options->seed, weights);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        const struct rmj_tensor *tensor = &layout->tensors[i];
        float *out = weights + tensor->offset;
        if (tensor->is_adapter) {
            continue;
        }
        if (i == layout->head && options->head_init == RMJ_HEAD_LATER) {
            continue;
        }
        if (i == layout->head && options->head_init != RMJ_HEAD_BASE) {
            fill_head(options, out, tensor->element_count);
            continue;
        }
        const struct rmj_safetensors *file = NULL;
        const struct rmj_safetensor *found = find(set, options->config, tensor->name, &file);
        if (found == NULL) {
            return missing_head(options->directory, err);
        }
        RMJ_TRY(rmj_safetensors_read(file, found, out, err));
    }
    const struct rmj_tensor *embedding = &layout->tensors[layout->embedding];
    return fill_added_rows(embedding, options->config->vocabulary_size, weights + embedding->offset, err);
}

static enum rmj_status load_directory(const struct rmj_weights_options *options, float *weights, struct rmj_error *err)
{
    struct weight_files set;
    RMJ_TRY(open_files(&set, options->directory, err));
    enum rmj_status status = load(&set, options, weights, err);
    close_files(&set);
    return status;
}

// A published adapter carries the digest of the base that it was trained and judged on: it means nothing on another.
static enum rmj_status check_adapter_base(const char *directory, const char *base, struct rmj_error *err)
{
    static const char card_name[] = "rmjob.json";
    char *path = rmj_fs_join(directory, card_name), found[RMJ_DIGEST_HEX_SIZE];
    int published = path != NULL && rmj_fs_exists(path);
    struct rmj_digest digest;
    json_t *card;
    free(path);
    if (!published) {
        return RMJ_OK;
    }
    RMJ_TRY(rmj_json_file_read(directory, card_name, &card, err));
    const json_t *plan = json_object_get(json_object_get(card, "report"), "plan");
    const char *wanted = json_string_value(json_object_get(plan, "base_digest"));
    enum rmj_status status =
        wanted == NULL ? rmj_fail(err, RMJ_DATA, "%s/%s: does not say which base model it belongs to: pull it again",
                                  directory, card_name)
                       : rmj_model_files_digest(base, RMJ_MODEL_WHOLE, &digest, err);
    if (status == RMJ_OK) {
        rmj_digest_hex(&digest, found);
        if (strcmp(found, wanted) != 0) {
            status = rmj_fail(err, RMJ_DATA,
                              "%s: the base model is not the one that the adapter was trained on: its digest is %.12s, "
                              "%s/%s says %.12s; put that base model there",
                              base, found, directory, card_name, wanted);
        }
    }
    json_decref(card);
    return status;
}

enum rmj_status rmj_weights_load(const struct rmj_weights_options *options, float *weights, struct rmj_error *err)
{
    if (!rmj_adapter_is(options->directory)) {
        return load_directory(options, weights, err);
    }
    struct rmj_weights_options base = *options;
    char *directory;
    RMJ_TRY(rmj_adapter_base(options->directory, &directory, err));
    base.directory = directory;
    base.head_init = RMJ_HEAD_LATER;
    enum rmj_status status = check_adapter_base(options->directory, directory, err);
    if (status == RMJ_OK) {
        status = load_directory(&base, weights, err);
    }
    free(directory);
    return status == RMJ_OK ? rmj_adapter_apply(options->directory, options->config, options->layout, weights, err)
                            : status;
}

struct digest_walk {
    const char *directory;
    enum rmj_model_part part;
    struct rmj_sha256 sha;
};

static int is_model_file(const char *name, enum rmj_model_part part)
{
    static const char *const names[] = {"config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "model.safetensors.index.json",
                                        "rmjob-pairs.bin"};
    for (size_t i = 0; i < RMJ_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return 1;
        }
    }
    size_t length = strlen(name);
    return part == RMJ_MODEL_WHOLE && strchr(name, '/') == NULL && length > 12 &&
           strcmp(name + length - 12, ".safetensors") == 0;
}

static enum rmj_status add_file_digest(void *context, const char *name, uint64_t size, struct rmj_error *err)
{
    struct digest_walk *walk = context;
    (void)size;
    if (!is_model_file(name, walk->part)) {
        return RMJ_OK;
    }
    char *path = rmj_fs_join(walk->directory, name);
    if (path == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    struct rmj_digest digest;
    uint64_t file_size;
    enum rmj_status status = rmj_sha256_of_file(path, &digest, &file_size, err);
    free(path);
    if (status == RMJ_OK) {
        char line[512], hex[RMJ_DIGEST_HEX_SIZE];
        rmj_digest_hex(&digest, hex);
        int length = snprintf(line, sizeof line, "%s %s\n", hex, name);
        rmj_sha256_update(&walk->sha, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
    }
    return status;
}

enum rmj_status rmj_model_files_digest(const char *directory, enum rmj_model_part part, struct rmj_digest *digest,
                                       struct rmj_error *err)
{
    struct digest_walk walk = {.directory = directory, .part = part};
    rmj_sha256_init(&walk.sha);
    enum rmj_status status = rmj_fs_walk(directory, add_file_digest, &walk, err);
    rmj_sha256_final(&walk.sha, digest);
    return status;
}
