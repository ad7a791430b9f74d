// The trained model as a Hugging Face directory. Everything is written below DIRECTORY.partial, which is renamed at the
// end, so a directory that can be seen is whole.
//
//   config.json  model.safetensors | model-0000i-of-0000n.safetensors + index  tokenizer.json  tokenizer_config.json
//   special_tokens_map.json  chat_template.jinja
//
// An adapter directory has adapter_config.json and adapter_model.safetensors (adapter.c) in place of the first two.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "trainer/model/adapter.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/model/export_tokenizer.h"
#include "trainer/model/json_file.h"
#include "trainer/model/safetensors_write.h"

#define SHARD_SIZE_DEFAULT ((uint64_t)5 * 1000 * 1000 * 1000)

// Adapters go into their matrices: they have no place of their own.
static uint64_t tensor_bytes(const struct rmj_tensor *tensor)
{
    return tensor->is_adapter ? 0 : tensor->element_count * sizeof(float);
}

// One past the last tensor of the shard that begins at `first`: as many as fit, at least one.
static uint32_t shard_end(const struct rmj_export_options *o, uint32_t first)
{
    uint64_t most = o->shard_size_bytes_max > 0 ? o->shard_size_bytes_max : SHARD_SIZE_DEFAULT;
    uint64_t size = 0;
    uint32_t end = first;
    while (end < o->layout->tensor_count && (size == 0 || size + tensor_bytes(&o->layout->tensors[end]) <= most)) {
        size += tensor_bytes(&o->layout->tensors[end++]);
    }
    return end;
}

static uint32_t shard_count(const struct rmj_export_options *o)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < o->layout->tensor_count; count++) {
        at = shard_end(o, at);
    }
    return count;
}

static void shard_name(char *out, size_t size, uint32_t index, uint32_t count)
{
    if (count == 1) {
        snprintf(out, size, "model.safetensors");
    } else {
        snprintf(out, size, "model-%05u-of-%05u.safetensors", index + 1, count);
    }
}

// Tensors in the layout's order.
static void write_header(struct rmj_buf *out, const struct rmj_export_options *o, uint32_t first, uint32_t end)
{
    uint64_t at = 0;
    rmj_safetensors_header_begin(out);
    for (uint32_t i = first; i < end; i++) {
        if (!o->layout->tensors[i].is_adapter) {
            rmj_safetensors_header_add(out, o->layout->tensors[i].name, &o->layout->tensors[i], &at);
        }
    }
    rmj_safetensors_header_end(out);
}

// A tensor's bytes, with its adapter if it has one. *good: 0 with errno when the file took fewer.
static enum rmj_status write_tensor(const struct rmj_export_options *o, uint32_t tensor, FILE *file, int *good,
                                    struct rmj_error *err)
{
    const struct rmj_tensor *t = &o->layout->tensors[tensor];
    const float *data = o->weights + t->offset;
    if (t->is_adapter) {
        return RMJ_OK;
    }
    if (t->adapter == RMJ_NO_ADAPTER) {
        *good = fwrite(data, sizeof(float), t->element_count, file) == t->element_count;
        return RMJ_OK;
    }
    const struct rmj_tensor *a = &o->layout->tensors[t->adapter], *b = a + 1;
    struct rmj_lora_matrix matrix = {.row_count = t->shape[0],
                                     .column_count = t->shape[1],
                                     .rank = o->layout->lora.rank,
                                     .scale = o->layout->lora.alpha / o->layout->lora.rank,
                                     .weight = data,
                                     .a = o->weights + a->offset,
                                     .b = o->weights + b->offset};
    float *merged = malloc(t->element_count * sizeof *merged);
    enum rmj_status status = merged != NULL ? rmj_lora_merge(&matrix, merged, err)
                                            : rmj_fail(err, RMJ_NO_MEMORY, "no memory to merge %s", t->name);
    if (status == RMJ_OK) {
        *good = fwrite(merged, sizeof(float), t->element_count, file) == t->element_count;
    }
    free(merged);
    return status;
}

static enum rmj_status write_shard(const struct rmj_export_options *o, const char *path, uint32_t first, uint32_t end,
                                   struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    struct rmj_buf header;
    rmj_buf_init(&header, RMJ_SAFETENSORS_HEADER_MAX);
    write_header(&header, o, first, end);
    FILE *file;
    int good = 0;
    RMJ_GO(rmj_safetensors_file_begin(&file, path, &header, &good, err));
    for (uint32_t i = first; good && i < end; i++) {
        RMJ_GO(write_tensor(o, i, file, &good, err));
    }
out:
    status = rmj_safetensors_file_end(file, path, good, status, err);
    rmj_buf_deinit(&header);
    return status;
}

static enum rmj_status write_index(const struct rmj_export_options *o, const char *directory, uint32_t count,
                                   struct rmj_error *err)
{
    json_t *map = json_object(), *metadata = json_object(), *root = json_object();
    uint64_t total = 0;
    uint32_t shard = 0, end = shard_end(o, 0);
    for (uint32_t i = 0; i < o->layout->tensor_count; i++) {
        if (i == end) {
            shard++;
            end = shard_end(o, i);
        }
        if (o->layout->tensors[i].is_adapter) {
            continue;
        }
        char name[64];
        shard_name(name, sizeof name, shard, count);
        json_object_set_new(map, o->layout->tensors[i].name, json_string(name));
        total += tensor_bytes(&o->layout->tensors[i]);
    }
    json_object_set_new(metadata, "total_size", json_integer((json_int_t)total));
    json_object_set_new(root, "metadata", metadata);
    json_object_set_new(root, "weight_map", map);
    enum rmj_status status = rmj_json_write(directory, "model.safetensors.index.json", root, err);
    json_decref(root);
    return status;
}

static enum rmj_status write_weights(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    uint32_t count = shard_count(o), first = 0;
    for (uint32_t shard = 0; shard < count; shard++) {
        char name[64];
        shard_name(name, sizeof name, shard, count);
        char *path = rmj_fs_join(directory, name);
        uint32_t end = shard_end(o, first);
        enum rmj_status status =
            path != NULL ? write_shard(o, path, first, end, err) : rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
        free(path);
        RMJ_TRY(status);
        first = end;
    }
    return count > 1 ? write_index(o, directory, count, err) : RMJ_OK;
}

// The base model's config, as a scorer with one label. problem_type "regression" is how servers that would otherwise
// put a sigmoid on the score are told not to (promise P2).
static enum rmj_status write_config(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    json_t *root;
    RMJ_TRY(rmj_json_file_read(o->base_directory, "config.json", &root, err));
    static const char *const dropped[] = {"_name_or_path", "auto_map", "num_labels", "transformers_version"};
    for (size_t i = 0; i < RMJ_COUNT(dropped); i++) {
        json_object_del(root, dropped[i]);
    }
    json_object_set_new(root, "architectures", json_pack("[s]", rmj_model_classifier_name(o->config)));
    json_object_set_new(root, "id2label", json_pack("{s:s}", "0", "LABEL_0"));
    json_object_set_new(root, "label2id", json_pack("{s:i}", "LABEL_0", 0));
    json_object_set_new(root, "problem_type", json_string("regression"));
    if (o->tokenizer_directory != NULL && strcmp(o->tokenizer_directory, o->base_directory) != 0) {
        json_object_set_new(root, "bos_token_id", o->bos_token < 0 ? json_null() : json_integer(o->bos_token));
        json_object_set_new(root, "eos_token_id", json_integer(o->eos_token));
    }
    json_object_set_new(root, "pad_token_id", json_integer(o->pad_token));
    json_object_set_new(root, "vocab_size", json_integer(o->layout->tensors[o->layout->embedding].shape[0]));
    json_object_set_new(root, "torch_dtype", json_string("float32"));
    json_object_set_new(root, "dtype", json_string("float32"));
    enum rmj_status status = rmj_json_write(directory, "config.json", root, err);
    json_decref(root);
    return status;
}

enum rmj_status rmj_model_export(const struct rmj_export_options *options, struct rmj_error *err)
{
    uint32_t row_count = options->layout->tensors[options->layout->embedding].shape[0];
    RMJ_ASSERT(options->pad_token >= 0 && (uint32_t)options->pad_token < row_count);
    RMJ_ASSERT(!options->vocabulary_grows || (uint32_t)options->pad_token == row_count - 1);
    if (rmj_fs_exists(options->directory)) {
        return rmj_fail(err, RMJ_CONFLICT, "%s: exists already; name a new directory", options->directory);
    }
    char *partial = NULL;
    if (asprintf(&partial, "%s.partial", options->directory) < 0) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    enum rmj_status status = RMJ_OK;
    // What an export that was killed left behind.
    RMJ_GO(rmj_fs_remove_tree(partial, err));
    RMJ_GO(rmj_fs_make_directories(partial, 0755, err));
    RMJ_GO(rmj_export_tokenizer(options, partial, err));
    if (options->adapter_base != NULL) {
        RMJ_GO(rmj_adapter_write(options, partial, err));
    } else {
        RMJ_GO(write_config(options, partial, err));
        RMJ_GO(write_weights(options, partial, err));
    }
    if (rename(partial, options->directory) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "%s: cannot be made", options->directory);
    }
out:
    if (status != RMJ_OK && rmj_fs_remove_tree(partial, NULL) != RMJ_OK) {
        rmj_log(RMJ_LOG_WARN, "export", "event=left_behind path=%s", partial);
    }
    free(partial);
    return status;
}
