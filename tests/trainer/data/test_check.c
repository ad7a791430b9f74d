// The check at submit: each thing that is wrong with a spec's inputs, under the field that is at fault.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/prepare.h"
#include "trainer/data/template.h"

static char *directory, *model, *train, *benchmark;

#define GOOD                                                                                                           \
    "{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: yes\",\"rejected\":\"\\n\\nHuman: hi\\n\\nAssistant: no\"}\n"
#define RB2_ROW(id, subset, correct, chosen)                                                                           \
    "{\"id\":\"" id "\",\"prompt\":\"Hi\",\"chosen\":" chosen                                                          \
    ",\"rejected\":[\"x\",\"y\",\"z\"],\"num_correct\":" #correct ",\"subset\":\"" subset "\"}\n"
#define RB2_FIVE                                                                                                       \
    RB2_ROW("0", "Factuality", 1, "[\"a\"]")                                                                           \
    RB2_ROW("1", "Precise IF", 1, "[\"a\"]")                                                                           \
    RB2_ROW("2", "Math", 1, "[\"a\"]")                                                                                 \
    RB2_ROW("3", "Safety", 1, "[\"a\"]")                                                                               \
    RB2_ROW("4", "Focus", 1, "[\"a\"]")
#define RB2_TIES RB2_ROW("tied:0", "Ties", 2, "[\"a\",\"b\"]") RB2_ROW("ref:0", "Ties", 1, "[\"a\"]")

static int set_up(void **state)
{
    (void)state;
    setenv("RMJOB_PARQUET_LIBRARY", "/nowhere/libduckdb.so", 1);
    directory = fixture_directory();
    model = fixture_model(directory, "model", 1, 0);
    train = fixture_write_text(directory, "train.jsonl", GOOD);
    benchmark = fixture_write_text(directory, "rb2.jsonl", RB2_FIVE RB2_TIES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(model);
    free(train);
    free(benchmark);
    fixture_remove(directory);
    return 0;
}

static Rmjob__V1__ValidateResponse *check(const Rmjob__V1__JobSpec *spec)
{
    Rmjob__V1__ValidateResponse *reply = NULL;
    struct rmj_error err = {0};
    if (rmj_check_spec(spec, &reply, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return reply;
}

// Checks the spec, wants one error with this field, class and text, and frees the spec.
static void refused(Rmjob__V1__JobSpec *spec, const char *field, unsigned exit_code, const char *text)
{
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_true(fixture_has_finding(reply->findings, reply->n_findings, text));
    int found = 0;
    for (size_t i = 0; i < reply->n_findings; i++) {
        const Rmjob__V1__Finding *finding = reply->findings[i];
        found |= !finding->warning && strstr(finding->message, text) != NULL && strcmp(finding->field, field) == 0 &&
                 finding->exit_code == exit_code;
    }
    if (!found) {
        fail_msg("'%s' is not an error of %s with exit code %u", text, field, exit_code);
    }
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
}

static Rmjob__V1__JobSpec *good_spec(void)
{
    Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
    fixture_set_benchmark(spec, benchmark);
    fixture_set_heldout(spec, train);
    return spec;
}

static void a_good_spec_has_no_errors_and_is_pinned(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_int_equal(fixture_error_count(reply->findings, reply->n_findings), 0);
    assert_int_equal(reply->pinned->benchmark_rows, 7);
    assert_int_equal(strlen(reply->pinned->benchmark_digest), 64);
    assert_int_equal(strlen(reply->pinned->template_digest), 64);
    assert_true(reply->pinned->parameters > 0 && reply->pinned->memory_bytes > 0);
    assert_int_equal(reply->sample->pairs, 1);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
}

static void the_base_model_must_be_there_and_whole(void **state)
{
    (void)state;
    refused(fixture_spec("/nowhere/model", train), "base_model", 2, "/nowhere/model does not exist");
    refused(fixture_spec("", train), "base_model", 2, "base_model is missing");
    refused(fixture_spec("s3://bucket/model", train), "base_model", 2, "s3:// comes with a later version");
    refused(fixture_spec(directory, train), "base_model", 2, "config.json");
    char *broken = fixture_model(directory, "cut", 1, 0);
    char *weights = rmj_fs_join(broken, "model.safetensors");
    struct rmj_buf bytes;
    rmj_buf_init(&bytes, 1 << 24);
    assert_int_equal(rmj_fs_read(weights, &bytes, NULL), RMJ_OK);
    free(fixture_write(broken, "model.safetensors", bytes.bytes, bytes.size - 100));
    refused(fixture_spec(broken, train), "base_model", 6, "model.safetensors");
    rmj_buf_deinit(&bytes);
    free(weights);
    free(broken);
}

static void the_template_the_pad_token_and_a_row_are_told(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_string_equal(reply->pinned->template_origin, "the default chat template, as the model has none");
    assert_string_equal(reply->pinned->pad_token, "<|rmjob_pad|> (id 286): new, on a new row of the embedding");
    assert_null(reply->pinned->template_date);
    assert_non_null(strstr(reply->sample_row, "train.jsonl:1 chosen, "));
    assert_non_null(strstr(reply->sample_row, ": [<s>] ["));
    char *digest = strdup(reply->pinned->template_digest);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
    char *other = fixture_model(directory, "template", 1, 0);
    free(fixture_write_text(other, "chat_template.jinja",
                            "{{ bos_token }}{{ strftime_now('%Y') }}{{ messages[0]['content'] }}{{ eos_token }}"));
    refused(fixture_spec(other, train), "data.template_date", 6,
            "chat_template.jinja:1: the template prints today's date");
    spec = fixture_spec(other, train);
    spec->data->template_date = strdup("2024-07-06");
    reply = check(spec);
    assert_int_equal(fixture_error_count(reply->findings, reply->n_findings), 0);
    assert_string_equal(reply->pinned->template_origin, "the model's own chat template");
    assert_string_equal(reply->pinned->template_date, "2024-07-06");
    assert_string_not_equal(reply->pinned->template_digest, digest);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
    free(digest);
    free(other);
}

static void what_the_template_cannot_do_is_refused_at_its_field(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    spec->data->chat_template = fixture_write_text(directory, "bad.jinja", "\n{% for %}");
    refused(spec, "data.chat_template", 6, "bad.jinja:2:");
    spec = good_spec();
    spec->data->chat_template = strdup("/nowhere.jinja");
    refused(spec, "data.chat_template", 2, "/nowhere.jinja");
    spec = good_spec();
    spec->data->chat_template = strdup("s3://bucket/t.jinja");
    refused(spec, "data.chat_template", 2, "a chat template is read from a local file");
    spec = good_spec();
    spec->data->tokenizer = strdup("s3://bucket/tokenizer");
    refused(spec, "data.tokenizer", 2, "s3:// comes with a later version");
    spec = good_spec();
    spec->data->template_date = strdup("06/07/2024");
    refused(spec, "data.template_date", 2, "write a day as YYYY-MM-DD");
    spec = good_spec();
    spec->data->chat_template = fixture_write_text(directory, "raises.jinja", "{{ raise_exception('never') }}");
    refused(spec, "evaluate.rewardbench2", 6, "never");
}

static char *model_with_config(const char *name, const char *from, const char *to)
{
    char *path = fixture_model(directory, name, 1, 0), *config = rmj_fs_join(path, "config.json");
    struct rmj_buf text, changed;
    rmj_buf_init(&text, 1 << 16);
    rmj_buf_init(&changed, 1 << 16);
    assert_int_equal(rmj_fs_read(config, &text, NULL), RMJ_OK);
    char *at = strstr(text.bytes, from);
    assert_non_null(at);
    rmj_buf_append(&changed, text.bytes, (size_t)(at - text.bytes));
    rmj_buf_puts(&changed, to);
    rmj_buf_puts(&changed, at + strlen(from));
    free(fixture_write_text(path, "config.json", rmj_buf_text(&changed)));
    rmj_buf_deinit(&text);
    rmj_buf_deinit(&changed);
    free(config);
    return path;
}

static void the_end_of_a_sequence_must_be_marked(void **state)
{
    (void)state;
    char *other = model_with_config("no-eos", "\"eos_token_id\":2,", "");
    refused(fixture_spec(other, train), "base_model", 6, "cannot mark the end of a sequence");
    free(other);
    other = model_with_config("small", "\"vocab_size\":286", "\"vocab_size\":200");
    refused(fixture_spec(other, train), "base_model", 6, "");
    free(other);
}

static void set_policy(Rmjob__V1__JobSpec *spec, const char *path, const char *family, uint64_t parameters)
{
    spec->policy_model = malloc(sizeof *spec->policy_model);
    assert_non_null(spec->policy_model);
    rmjob__v1__policy_model__init(spec->policy_model);
    spec->policy_model->path = path == NULL ? NULL : strdup(path);
    spec->policy_model->family = family == NULL ? NULL : strdup(family);
    spec->policy_model->has_parameters = parameters > 0;
    spec->policy_model->parameters = parameters;
}

static void the_policy_model_bounds_family_and_size(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    set_policy(spec, NULL, "qwen2", 8000000000u);
    refused(spec, "policy_model", 2, "the policy model is of family qwen2, the base model of family llama");
    spec = good_spec();
    set_policy(spec, NULL, "llama", 1000);
    refused(spec, "policy_model", 2, "it must not be larger");
    spec = good_spec();
    set_policy(spec, "/nowhere/policy", NULL, 0);
    refused(spec, "policy_model.path", 2, "/nowhere/policy does not exist");
    spec = good_spec();
    set_policy(spec, model, NULL, 0);
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_int_equal(fixture_error_count(reply->findings, reply->n_findings), 0);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
}

static void what_comes_later_is_refused_by_name(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    spec->train->has_precision = 1;
    spec->train->precision = RMJOB__V1__PRECISION__bf16;
    refused(spec, "train.precision", 2, "bf16 comes with a later version; set train.precision: float32");
    spec = good_spec();
    spec->train->has_head_init = 1;
    spec->train->head_init = RMJOB__V1__HEAD_INIT__base;
    refused(spec, "train.head_init", 6, "score.weight");
    spec = good_spec();
    spec->resources = malloc(sizeof *spec->resources);
    assert_non_null(spec->resources);
    rmjob__v1__resource_spec__init(spec->resources);
    spec->resources->has_device = 1;
    spec->resources->device = RMJOB__V1__DEVICE__cuda;
    refused(spec, "resources.device", 2, "cuda comes with a later version");
}

// Dynamic rope is computed up to the original length alone.
static void a_length_over_the_original_one_is_refused_by_the_config_s_key(void **state)
{
    (void)state;
    char *base = fixture_model(directory, "dynamic", 1, 0), *path = rmj_fs_join(base, "config.json");
    struct rmj_buf config;
    rmj_buf_init(&config, 4096);
    assert_int_equal(rmj_fs_read(path, &config, NULL), RMJ_OK);
    config.size--; // the closing brace
    rmj_buf_puts(&config, ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}");
    free(fixture_write_text(base, "config.json", rmj_buf_text(&config)));
    Rmjob__V1__JobSpec *spec = good_spec();
    free(spec->base_model);
    spec->base_model = base;
    spec->data->max_length = 513;
    refused(spec, "data.max_length", 2, "over 512 (max_position_embeddings of the base model's config.json)");
    rmj_buf_deinit(&config);
    free(path);
}

static void a_head_that_is_replaced_is_told(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    free(spec->base_model);
    spec->base_model = fixture_model(directory, "scored", 1, 1);
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_true(
        fixture_has_finding(reply->findings, reply->n_findings, "the base model has a head, and a new one is made"));
    assert_int_equal(fixture_error_count(reply->findings, reply->n_findings), 0);
    size_t count = reply->n_findings;
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    spec->train->has_head_init = 1;
    spec->train->head_init = RMJOB__V1__HEAD_INIT__base;
    reply = check(spec);
    assert_int_equal(reply->n_findings, count - 1);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
}

static void lengths_batches_and_memory_are_checked(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec();
    spec->data->max_length = 513;
    refused(spec, "data.max_length", 2, "data.max_length is 513, but the base model has 512 positions");
    spec = good_spec();
    spec->data->max_length = 0;
    refused(spec, "data.max_length", 2, "data.max_length is 0; the least is 8");
    spec = good_spec();
    spec->train->global_batch_pairs = 0;
    refused(spec, "train.global_batch_pairs", 2, "train.global_batch_pairs is 0");
    static const char *const memory[] = {"1Ki", "lots"}, *const texts[] = {"one rank needs", "write a size like 8Gi"};
    for (int i = 0; i < 2; i++) {
        spec = good_spec();
        spec->resources = malloc(sizeof *spec->resources);
        assert_non_null(spec->resources);
        rmjob__v1__resource_spec__init(spec->resources);
        spec->resources->memory = strdup(memory[i]);
        refused(spec, "resources.memory", 2, texts[i]);
    }
}

static void the_data_must_be_named_and_readable(void **state)
{
    (void)state;
    refused(fixture_spec(model, "/nowhere/a.jsonl"), "data.train[0].path", 2, "cannot open /nowhere/a.jsonl");
    refused(fixture_spec(model, "a.parquet"), "data.train[0].path", 2, "cannot load /nowhere/libduckdb.so");
    refused(fixture_spec(model, ""), "data.train[0].path", 2, "data.train[0].path is missing");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
    fixture_set_heldout(spec, "/nowhere/h.jsonl");
    refused(spec, "data.heldout[0].path", 2, "cannot open /nowhere/h.jsonl");
    char *bad = fixture_write_text(directory, "bad.jsonl", GOOD "{\"chosen\":1}\n");
    refused(fixture_spec(model, bad), "data.train[0].path", 6, "bad.jsonl:2: no column 'rejected'");
    spec = fixture_spec(model, train);
    fixture_set_heldout(spec, bad);
    refused(spec, "data.heldout[0].path", 6, "bad.jsonl:2: no column 'rejected'");
    free(bad);
    char *odd = fixture_write_text(directory, "odd.jsonl", "");
    assert_int_equal(unlink(odd), 0);
    assert_int_equal(mkfifo(odd, 0600), 0);
    refused(fixture_spec(model, odd), "data.train[0].path", 6, "odd.jsonl: not a file");
    assert_int_equal(unlink(odd), 0);
    assert_int_equal(symlink("odd.jsonl", odd), 0);
    refused(fixture_spec(model, odd), "data.train[0].path", 2, "odd.jsonl: Too many levels of symbolic links");
    free(odd);
}

static const struct {
    const char *rows, *message;
} broken_benchmarks[] = {
    {RB2_FIVE, "no row of subset 'Ties': all six must be there"},
    {RB2_TIES, "no row of subset 'Factuality'"},
    {RB2_FIVE RB2_ROW("tied:0", "Ties", 2, "[\"a\",\"b\"]"), "tied:0 has no ref:0: Ties prompts come in pairs"},
    {RB2_FIVE RB2_TIES RB2_ROW("ref:1", "Ties", 1, "[\"a\"]"), "ref:1 has no tied:1"},
    {RB2_FIVE RB2_TIES RB2_ROW("ref:0", "Ties", 1, "[\"a\"]"), "id ref:0 occurs twice"},
    {RB2_FIVE RB2_ROW("7", "Ties", 1, "[\"a\"]"), "id '7' of a Ties row is neither tied:N nor ref:N"},
    {RB2_FIVE RB2_ROW("tied:1", "Ties", 1, "[\"a\"]"), "tied:1 has one correct completion"},
    {RB2_ROW("0", "Factualty", 1, "[\"a\"]"), "did you mean 'Factuality'?"},
    {RB2_ROW("0", "Math", 2, "[\"a\"]"), "num_correct is not the number of chosen completions, 1"},
    {RB2_ROW("0", "Math", 1, "\"a\""), "column 'chosen' must be a list of texts"},
    {RB2_ROW("0", "Math", 1, "[]"), "column 'chosen' must be a list of texts"},
    {RB2_ROW("0", "Math", 1, "[7]"), "chosen[0] is not text"},
    {"{\"id\":0}\n", "rb2-bad.jsonl:1: column 'id' is of another type"},
    {"{\"id\":\"0\",\"subset\":\"Math\"}\n", "rb2-bad.jsonl:1: column 'prompt' is missing"},
    {"", "rb2-bad.jsonl: the file is empty"},
    {"nonsense\n", "rb2-bad.jsonl:1: column"},
};

static void the_benchmark_must_be_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(broken_benchmarks); i++) {
        char *path = fixture_write_text(directory, "rb2-bad.jsonl", broken_benchmarks[i].rows);
        Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
        fixture_set_benchmark(spec, path);
        refused(spec, "evaluate.rewardbench2", 6, broken_benchmarks[i].message);
        free(path);
    }
    Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
    fixture_set_benchmark(spec, "/nowhere/rb2.jsonl");
    refused(spec, "evaluate.rewardbench2", 2, "cannot open /nowhere/rb2.jsonl");
}

static void prompts_of_the_benchmark_are_counted(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = good_spec(); // the training prompt is "hi", the benchmark's "Hi"
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_int_equal(reply->sample->contaminated, 1);
    assert_string_equal(reply->sample->issues[0]->kind, "contamination");
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    fixture_spec_free(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_spec_has_no_errors_and_is_pinned),
        cmocka_unit_test(the_base_model_must_be_there_and_whole),
        cmocka_unit_test(the_template_the_pad_token_and_a_row_are_told),
        cmocka_unit_test(what_the_template_cannot_do_is_refused_at_its_field),
        cmocka_unit_test(the_end_of_a_sequence_must_be_marked),
        cmocka_unit_test(the_policy_model_bounds_family_and_size),
        cmocka_unit_test(what_comes_later_is_refused_by_name),
        cmocka_unit_test(a_length_over_the_original_one_is_refused_by_the_config_s_key),
        cmocka_unit_test(a_head_that_is_replaced_is_told),
        cmocka_unit_test(lengths_batches_and_memory_are_checked),
        cmocka_unit_test(the_data_must_be_named_and_readable),
        cmocka_unit_test(the_benchmark_must_be_whole),
        cmocka_unit_test(prompts_of_the_benchmark_are_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
