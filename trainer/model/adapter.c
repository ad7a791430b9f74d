#include "trainer/model/adapter.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "trainer/model/json_file.h"
#include "trainer/model/safetensors.h"
#include "trainer/model/safetensors_write.h"

static const char config_name[] = "adapter_config.json";
static const char weights_name[] = "adapter_model.safetensors";
static const char prefix[] = "base_model.model.";

// Keys that change nothing here: how an adapter is found, was made, or is trained.
static const char *const harmless[] = {"auto_mapping",       "base_model_name_or_path",
                                       "inference_mode",     "init_lora_weights",
                                       "lora_dropout",       "revision",
                                       "peft_version",       "task_type",
                                       "qalora_group_size",  "megatron_core",
                                       "eva_config",         "corda_config",
                                       "ensure_weight_tying"};
// Keys that are read.
static const char *const understood[] = {"peft_type", "r", "lora_alpha", "target_modules", "modules_to_save"};

static int has_file(const char *directory, const char *name)
{
    char *path = rmj_fs_join(directory, name);
    int there = path != NULL && rmj_fs_exists(path);
    free(path);
    return there;
}

int rmj_adapter_is(const char *directory)
{
    return has_file(directory, config_name) && !has_file(directory, "config.json");
}

enum rmj_status rmj_adapter_base(const char *directory, char **base, struct rmj_error *err)
{
    json_t *root;
    RMJ_TRY(rmj_json_file_read(directory, config_name, &root, err));
    const char *name = json_string_value(json_object_get(root, "base_model_name_or_path"));
    enum rmj_status status = RMJ_OK;
    *base = NULL;
    if (name == NULL || !has_file(name, "config.json")) {
        status = rmj_fail(err, RMJ_DATA,
                          "%s/%s: base_model_name_or_path is \"%.300s\", where no model directory is; put the base "
                          "model there, or name where it is",
                          directory, config_name, name != NULL ? name : "");
    } else if ((*base = strdup(name)) == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    json_decref(root);
    return status;
}

static int is_listed(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], key) == 0) {
            return 1;
        }
    }
    return 0;
}

// null, false, "none", {} and [] ask for nothing.
static int is_neutral(const json_t *value)
{
    const char *text = json_string_value(value);
    return json_is_null(value) || json_is_false(value) || (text != NULL && strcmp(text, "none") == 0) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static enum rmj_status check_config(const char *directory, json_t *root, struct rmj_error *err)
{
    const char *key, *type = json_string_value(json_object_get(root, "peft_type"));
    json_t *value;
    if (type == NULL || strcmp(type, "LORA") != 0) {
        return rmj_fail(err, RMJ_DATA, "%s/%s: peft_type is \"%.40s\"; only LORA is read", directory, config_name,
                        type != NULL ? type : "");
    }
    // PiSSA, OLoRA, CorDA, LoftQ take what they put into A and B out of the base model's own matrices.
    static const char *const starts[] = {"gaussian", "eva", "orthogonal"};
    const char *start = json_string_value(json_object_get(root, "init_lora_weights"));
    if (start != NULL && !is_listed(start, starts, RMJ_COUNT(starts))) {
        return rmj_fail(err, RMJ_DATA,
                        "%s/%s: init_lora_weights is \"%.40s\", whose adapters do not go onto the base model as it is; "
                        "convert them with peft's path_initial_model_for_weight_conversion",
                        directory, config_name, start);
    }
    json_object_foreach(root, key, value)
    {
        if (!is_listed(key, harmless, RMJ_COUNT(harmless)) && !is_listed(key, understood, RMJ_COUNT(understood)) &&
            !is_neutral(value)) {
            return rmj_fail(err, RMJ_DATA, "%s/%s: \"%.80s\" asks for something that is not computed here", directory,
                            config_name, key);
        }
    }
    const json_t *saved = json_object_get(root, "modules_to_save");
    for (size_t i = 0; i < json_array_size(saved); i++) {
        const char *name = json_string_value(json_array_get(saved, i));
        // peft names both heads that it knows for this task.
        if (name == NULL || (strcmp(name, "score") != 0 && strcmp(name, "classifier") != 0)) {
            return rmj_fail(err, RMJ_DATA, "%s/%s: modules_to_save holds \"%.80s\"; only the head, score, is read",
                            directory, config_name, name != NULL ? name : "");
        }
    }
    return RMJ_OK;
}

static enum rmj_status read_config(const char *directory, const struct rmj_model_config *config, struct rmj_lora *lora,
                                   struct rmj_error *err)
{
    json_t *root;
    RMJ_TRY(rmj_json_file_read(directory, config_name, &root, err));
    const json_t *targets = json_object_get(root, "target_modules");
    size_t count = json_array_size(targets);
    const char **names = calloc(count + 1, sizeof *names);
    enum rmj_status status = RMJ_OK;
    struct rmj_error own = {0};
    if (names == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu names", count);
        goto out;
    }
    RMJ_GO(check_config(directory, root, err));
    for (size_t i = 0; i < count; i++) {
        names[i] = json_string_value(json_array_get(targets, i));
        names[i] = names[i] != NULL ? names[i] : "";
    }
    json_int_t rank = json_integer_value(json_object_get(root, "r"));
    if (count == 0 ||
        rmj_lora_init(lora, config, rank > 0 && rank <= RMJ_LORA_RANK_MAX ? (uint32_t)rank : 0,
                      json_number_value(json_object_get(root, "lora_alpha")), names, count, &own) != RMJ_OK) {
        status = rmj_fail(err, RMJ_DATA, "%s/%s: %s", directory, config_name,
                          count == 0 ? "target_modules is no list of names" : own.message);
    }
out:
    free(names);
    json_decref(root);
    return status;
}

static enum rmj_status read_tensor(const struct rmj_safetensors *file, const struct rmj_tensor *tensor, float *out,
                                   struct rmj_error *err)
{
    char name[sizeof tensor->name + sizeof prefix];
    snprintf(name, sizeof name, "%s%s", prefix, tensor->name);
    const struct rmj_safetensor *found = rmj_safetensors_find(file, name);
    if (found == NULL || found->dimension_count != 2 || found->shape[0] != tensor->shape[0] ||
        found->shape[1] != tensor->shape[1]) {
        return rmj_fail(err, RMJ_DATA,
                        "%s: tensor \"%s\" is %s; adapter_config.json and the base model ask for [%u, %u]", file->path,
                        name, found == NULL ? "missing" : "of another shape", tensor->shape[0], tensor->shape[1]);
    }
    return rmj_safetensors_read(file, found, out, err);
}

// `adapted` is the layout with adapters, of the same model as `plain`, where the weights are.
static enum rmj_status apply_file(const struct rmj_safetensors *file, const struct rmj_layout *adapted,
                                  const struct rmj_layout *plain, float *weights, float *scratch, struct rmj_error *err)
{
    uint32_t at = 0;
    size_t used = 1; // the head
    for (uint32_t i = 0; i < adapted->tensor_count; i++) {
        const struct rmj_tensor *tensor = &adapted->tensors[i];
        if (tensor->is_adapter) {
            continue;
        }
        float *weight = weights + plain->tensors[at].offset;
        RMJ_ASSERT(strcmp(tensor->name, plain->tensors[at].name) == 0);
        at++;
        if (tensor->adapter != RMJ_NO_ADAPTER) {
            const struct rmj_tensor *a = &adapted->tensors[tensor->adapter], *b = a + 1;
            RMJ_TRY(read_tensor(file, a, scratch, err));
            RMJ_TRY(read_tensor(file, b, scratch + a->element_count, err));
            struct rmj_lora_matrix matrix = {.row_count = tensor->shape[0],
                                             .column_count = tensor->shape[1],
                                             .rank = adapted->lora.rank,
                                             .scale = adapted->lora.alpha / adapted->lora.rank,
                                             .weight = weight,
                                             .a = scratch,
                                             .b = scratch + a->element_count};
            enum rmj_status status = rmj_lora_merge(&matrix, weight, err);
            if (status != RMJ_OK) {
                (void)rmj_context(err, "%s: tensor \"%s\"", file->path, tensor->name);
                return status;
            }
            used += 2;
        }
    }
    const struct rmj_tensor *head = &plain->tensors[plain->head];
    RMJ_TRY(read_tensor(file, head, weights + head->offset, err));
    if (used != file->tensor_count) {
        return rmj_fail(err, RMJ_DATA, "%s: has %zu tensors; adapter_config.json asks for %zu", file->path,
                        file->tensor_count, used);
    }
    return RMJ_OK;
}

static uint64_t largest_adapter(const struct rmj_layout *layout)
{
    uint64_t largest = 1;
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        uint32_t adapter = layout->tensors[i].adapter;
        if (adapter != RMJ_NO_ADAPTER) {
            uint64_t both = layout->tensors[adapter].element_count + layout->tensors[adapter + 1].element_count;
            largest = both > largest ? both : largest;
        }
    }
    return largest;
}

enum rmj_status rmj_adapter_apply(const char *directory, const struct rmj_model_config *config,
                                  const struct rmj_layout *layout, float *weights, struct rmj_error *err)
{
    struct rmj_lora lora;
    struct rmj_layout *adapted = NULL;
    struct rmj_safetensors file;
    float *scratch = NULL;
    int opened = 0;
    enum rmj_status status = RMJ_OK;
    char *path = rmj_fs_join(directory, weights_name);
    RMJ_ASSERT(layout->lora.rank == 0);
    RMJ_GO(read_config(directory, config, &lora, err));
    RMJ_GO(rmj_layout_create_lora(&adapted, config, layout->tensors[layout->embedding].shape[0], &lora, err));
    scratch = malloc(largest_adapter(adapted) * sizeof *scratch);
    if (path == NULL || scratch == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to read the adapters of %s", directory);
        goto out;
    }
    RMJ_GO(rmj_safetensors_open(&file, path, err));
    opened = 1;
    RMJ_GO(apply_file(&file, adapted, layout, weights, scratch, err));
out:
    if (opened) {
        rmj_safetensors_close(&file);
    }
    rmj_layout_destroy(adapted);
    free(scratch);
    free(path);
    return status;
}

static enum rmj_status write_config(const struct rmj_export_options *o, const char *directory, struct rmj_error *err)
{
    const struct rmj_lora *lora = &o->layout->lora;
    json_t *targets = json_array();
    for (uint32_t i = 0; rmj_lora_module(i) != NULL; i++) {
        if ((lora->targets >> i & 1) != 0) {
            json_array_append_new(targets, json_string(rmj_lora_module(i)));
        }
    }
    int whole = floor(lora->alpha) == lora->alpha;
    json_t *alpha = whole ? json_integer((json_int_t)lora->alpha) : json_real(lora->alpha);
    json_t *root =
        json_pack("{s:{}, s:n, s:s, s:s, s:b, s:b, s:b, s:o, s:f, s:[s], s:s, s:i, s:{}, s:n, s:o, s:s, s:b, s:b}",
                  "alpha_pattern", "auto_mapping", "base_model_name_or_path", o->adapter_base, "bias", "none",
                  "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1, "lora_alpha", alpha, "lora_dropout",
                  0.0, "modules_to_save", "score", "peft_type", "LORA", "r", (int)lora->rank, "rank_pattern",
                  "revision", "target_modules", targets, "task_type", "SEQ_CLS", "use_dora", 0, "use_rslora", 0);
    enum rmj_status status = root != NULL ? rmj_json_write(directory, config_name, root, err)
                                          : rmj_fail(err, RMJ_NO_MEMORY, "no memory for %s", config_name);
    json_decref(root);
    return status;
}

static int is_written(const struct rmj_layout *layout, uint32_t tensor)
{
    return layout->tensors[tensor].is_adapter || tensor == layout->head;
}

static void write_header(const struct rmj_layout *layout, struct rmj_buf *header)
{
    uint64_t at = 0;
    rmj_safetensors_header_begin(header);
    for (uint32_t i = 0; i < layout->tensor_count; i++) {
        if (is_written(layout, i)) {
            char name[sizeof layout->tensors[i].name + sizeof prefix];
            snprintf(name, sizeof name, "%s%s", prefix, layout->tensors[i].name);
            rmj_safetensors_header_add(header, name, &layout->tensors[i], &at);
        }
    }
    rmj_safetensors_header_end(header);
}

static enum rmj_status write_weights(const struct rmj_export_options *o, const char *path, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    struct rmj_buf header;
    rmj_buf_init(&header, RMJ_SAFETENSORS_HEADER_MAX);
    write_header(o->layout, &header);
    FILE *file;
    int good = 0;
    RMJ_GO(rmj_safetensors_file_begin(&file, path, &header, &good, err));
    for (uint32_t i = 0; good && i < o->layout->tensor_count; i++) {
        const struct rmj_tensor *t = &o->layout->tensors[i];
        good = !is_written(o->layout, i) ||
               fwrite(o->weights + t->offset, sizeof(float), t->element_count, file) == t->element_count;
    }
out:
    status = rmj_safetensors_file_end(file, path, good, status, err);
    rmj_buf_deinit(&header);
    return status;
}

enum rmj_status rmj_adapter_write(const struct rmj_export_options *options, const char *directory,
                                  struct rmj_error *err)
{
    RMJ_ASSERT(options->layout->lora.rank > 0 && !options->vocabulary_grows);
    RMJ_TRY(write_config(options, directory, err));
    char *path = rmj_fs_join(directory, weights_name);
    enum rmj_status status =
        path != NULL ? write_weights(options, path, err) : rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    free(path);
    return status;
}
