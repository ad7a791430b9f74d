#include "tests/trainer/data/fixture.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/rng.h"

#define HIDDEN 16u
#define FEED_FORWARD 32u

char *fixture_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *directory = rmj_fs_join(base == NULL ? "/tmp" : base, "rmjob-test-XXXXXX");
    RMJ_ASSERT(mkdtemp(directory) != NULL);
    return directory;
}

void fixture_remove(char *directory)
{
    RMJ_ASSERT(rmj_fs_remove_tree(directory, NULL) == RMJ_OK);
    free(directory);
}

char *fixture_write(const char *directory, const char *name, const void *bytes, size_t size)
{
    char *path = rmj_fs_join(directory, name);
    RMJ_ASSERT(rmj_fs_write(path, bytes, size, 0600, NULL) == RMJ_OK);
    return path;
}

char *fixture_write_text(const char *directory, const char *name, const char *text)
{
    return fixture_write(directory, name, text, strlen(text));
}

// <unk> <s> </s>, the 256 bytes, the space mark, and printable ASCII: every text can be written down.
static void write_tokenizer(const char *directory)
{
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 20);
    rmj_buf_puts(&out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    const char *const special[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < 3; i++) {
        rmj_buf_printf(&out,
                       "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                       "\"normalized\":false,\"special\":true}",
                       i == 0 ? "" : ",", i, special[i]);
    }
    rmj_buf_puts(&out,
                 "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},"
                 "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]},"
                 "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
                 "{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},\"content\":\" \"},"
                 "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
                 "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
                 "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\","
                 "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":true,"
                 "\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2");
    int id = 3;
    for (int byte = 0; byte < 256; byte++) {
        rmj_buf_printf(&out, ",\"<0x%02X>\":%d", byte, id++);
    }
    rmj_buf_printf(&out, ",\"▁\":%d", id++);
    for (char c = 'a'; c <= 'z'; c++) {
        rmj_buf_printf(&out, ",\"%c\":%d", c, id++);
    }
    rmj_buf_puts(&out, "},\"merges\":[]}}");
    free(fixture_write_text(directory, "tokenizer.json", rmj_buf_text(&out)));
    rmj_buf_deinit(&out);
}

struct tensors {
    struct rmj_buf header, data;
    struct rmj_rng rng;
};

static void add_tensor(struct tensors *tensors, const char *name, uint32_t rows, uint32_t columns)
{
    size_t start = tensors->data.size, count = (size_t)(rows == 0 ? 1 : rows) * columns;
    for (size_t i = 0; i < count; i++) {
        float value = rows == 0 ? 1.0f : (float)(rmj_rng_normal(&tensors->rng) * 0.2);
        rmj_buf_append(&tensors->data, &value, sizeof value);
    }
    rmj_buf_printf(&tensors->header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", tensors->header.size > 1 ? "," : "",
                   name);
    if (rows > 0) {
        rmj_buf_printf(&tensors->header, "%u,", rows);
    }
    rmj_buf_printf(&tensors->header, "%u],\"data_offsets\":[%zu,%zu]}", columns, start, tensors->data.size);
}

static void write_weights(const char *directory, unsigned seed, int with_score, unsigned row_count)
{
    struct tensors tensors;
    rmj_buf_init(&tensors.header, 1 << 20);
    rmj_buf_init(&tensors.data, 1 << 24);
    rmj_rng_init(&tensors.rng, seed, 0);
    rmj_buf_putc(&tensors.header, '{');
    add_tensor(&tensors, "model.embed_tokens.weight", row_count, HIDDEN);
    const char *const square[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"};
    char name[96];
    for (size_t i = 0; i < RMJ_COUNT(square); i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", square[i]);
        add_tensor(&tensors, name, HIDDEN, HIDDEN);
    }
    add_tensor(&tensors, "model.layers.0.mlp.gate_proj.weight", FEED_FORWARD, HIDDEN);
    add_tensor(&tensors, "model.layers.0.mlp.up_proj.weight", FEED_FORWARD, HIDDEN);
    add_tensor(&tensors, "model.layers.0.mlp.down_proj.weight", HIDDEN, FEED_FORWARD);
    add_tensor(&tensors, "model.layers.0.input_layernorm.weight", 0, HIDDEN);
    add_tensor(&tensors, "model.layers.0.post_attention_layernorm.weight", 0, HIDDEN);
    add_tensor(&tensors, "model.norm.weight", 0, HIDDEN);
    if (with_score) {
        add_tensor(&tensors, "score.weight", 1, HIDDEN);
    }
    rmj_buf_putc(&tensors.header, '}');
    struct rmj_buf file;
    rmj_buf_init(&file, 1 << 25);
    uint64_t size = tensors.header.size;
    rmj_buf_append(&file, &size, sizeof size);
    rmj_buf_append(&file, tensors.header.bytes, tensors.header.size);
    rmj_buf_append(&file, tensors.data.bytes, tensors.data.size);
    free(fixture_write(directory, "model.safetensors", file.bytes, file.size));
    rmj_buf_deinit(&file);
    rmj_buf_deinit(&tensors.header);
    rmj_buf_deinit(&tensors.data);
}

char *fixture_model_with_rows(const char *directory, const char *name, unsigned seed, int with_score,
                              unsigned row_count)
{
    char *path = rmj_fs_join(directory, name);
    RMJ_ASSERT(rmj_fs_make_directories(path, 0700, NULL) == RMJ_OK);
    char config[1024];
    snprintf(config, sizeof config,
             "{\"architectures\":[\"%s\"],\"model_type\":\"llama\",\"hidden_size\":%u,\"intermediate_size\":%u,"
             "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":2,\"vocab_size\":%u,"
             "\"max_position_embeddings\":%u,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
             "\"tie_word_embeddings\":true,\"attention_bias\":false,\"mlp_bias\":false,%s\"bos_token_id\":1,"
             "\"eos_token_id\":2,\"torch_dtype\":\"float32\"}",
             with_score ? "LlamaForSequenceClassification" : "LlamaForCausalLM", HIDDEN, FEED_FORWARD, row_count,
             FIXTURE_POSITIONS, with_score ? "\"id2label\":{\"0\":\"LABEL_0\"},\"label2id\":{\"LABEL_0\":0}," : "");
    free(fixture_write_text(path, "config.json", config));
    write_tokenizer(path);
    write_weights(path, seed, with_score, row_count);
    return path;
}

char *fixture_model(const char *directory, const char *name, unsigned seed, int with_score)
{
    return fixture_model_with_rows(directory, name, seed, with_score, FIXTURE_VOCABULARY);
}

static Rmjob__V1__DataSource **one_source(const char *path)
{
    Rmjob__V1__DataSource **list = malloc(sizeof *list);
    RMJ_ASSERT(list != NULL);
    list[0] = malloc(sizeof *list[0]);
    RMJ_ASSERT(list[0] != NULL);
    rmjob__v1__data_source__init(list[0]);
    list[0]->path = strdup(path);
    return list;
}

Rmjob__V1__JobSpec *fixture_spec(const char *model, const char *train_path)
{
    Rmjob__V1__JobSpec *spec = malloc(sizeof *spec);
    RMJ_ASSERT(spec != NULL);
    rmjob__v1__job_spec__init(spec);
    spec->data = malloc(sizeof *spec->data);
    spec->train = malloc(sizeof *spec->train);
    RMJ_ASSERT(spec->data != NULL && spec->train != NULL);
    rmjob__v1__data_spec__init(spec->data);
    rmjob__v1__train_spec__init(spec->train);
    spec->base_model = strdup(model);
    spec->data->train = one_source(train_path);
    spec->data->n_train = 1;
    spec->data->has_max_length = 1;
    spec->data->max_length = 256;
    spec->train->has_global_batch_pairs = 1;
    spec->train->global_batch_pairs = 8;
    return spec;
}

void fixture_spec_free(Rmjob__V1__JobSpec *spec)
{
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

void fixture_set_heldout(Rmjob__V1__JobSpec *spec, const char *path)
{
    spec->data->heldout = one_source(path);
    spec->data->n_heldout = 1;
}

void fixture_set_benchmark(Rmjob__V1__JobSpec *spec, const char *path)
{
    spec->evaluate = malloc(sizeof *spec->evaluate);
    RMJ_ASSERT(spec->evaluate != NULL);
    rmjob__v1__evaluate_spec__init(spec->evaluate);
    spec->evaluate->rewardbench2 = strdup(path);
}

int fixture_has_finding(Rmjob__V1__Finding *const *findings, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strstr(findings[i]->message, text) != NULL) {
            return 1;
        }
    }
    fprintf(stderr, "no finding says '%s'; there are %zu:\n", text, count);
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "  %s: %s\n", findings[i]->field, findings[i]->message);
    }
    return 0;
}

size_t fixture_error_count(Rmjob__V1__Finding *const *findings, size_t count)
{
    size_t errors = 0;
    for (size_t i = 0; i < count; i++) {
        errors += !findings[i]->warning;
    }
    return errors;
}

char *fixture_data(void)
{
    const char *named = getenv("RMJOB_DATA"), *source = getenv("RMJOB_SOURCE");
    char *path = named != NULL ? strdup(named) : rmj_fs_join(source == NULL ? "." : source, "../shared/data");
    if (rmj_fs_exists(path)) {
        return path;
    }
    printf("SKIP: no real models and data at %s (set RMJOB_DATA)\n", path);
    free(path);
    return NULL;
}
