// Every way a spec can be wrong that needs no model or data to see: field and message of each, all findings at once.
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/text/text_format.h"
#include "service/api/spec_check.h"

static const char sound[] =
    "{\"api_version\":\"rmjob/v1\",\"name\":\"a-job\",\"base_model\":\"/models/base\","
    "\"policy_model\":{\"family\":\"llama\",\"parameters\":8000000000},"
    "\"data\":{\"train\":[{\"path\":\"/data/train.jsonl\"}],\"heldout\":[{\"path\":\"/data/held.jsonl.gz\"}]},"
    "\"evaluate\":{\"rewardbench2\":\"s3://eval/rb2.jsonl.zst\"},"
    "\"gate\":{\"rewardbench2\":{\"ties\":0.5,\"math\":0.5},\"heldout_accuracy_min\":0.6},"
    "\"publish\":{\"name\":\"support-rm\"}}";

static Rmjob__V1__JobSpec *parse(const char *text)
{
    struct rmj_error err = {0};
    Rmjob__V1__JobSpec *spec = NULL;
    struct rmj_text_result *result = rmj_text_result_create();
    if (rmj_json_parse(&rmjob__v1__job_spec__descriptor, "spec.json", text, strlen(text), (ProtobufCMessage **)&spec,
                       result, &err) != RMJ_OK) {
        fail_msg("%s in %s", err.message, text);
    }
    rmj_text_result_destroy(result);
    return spec;
}

static Rmjob__V1__ValidateResponse *check(const Rmjob__V1__JobSpec *spec)
{
    Rmjob__V1__ValidateResponse *reply = malloc(sizeof *reply);
    Rmjob__V1__Policy *policy = rmj_policy_default("default");
    rmjob__v1__validate_response__init(reply);
    rmj_spec_check(spec, policy, reply);
    rmjob__v1__policy__free_unpacked(policy, NULL);
    return reply;
}

// The sound spec with one piece of its text replaced.
struct broken {
    const char *piece, *replacement, *field, *message;
};

static const struct broken cases[] = {
    {"\"api_version\":\"rmjob/v1\",", "", "api_version", "api_version is missing"},
    {"rmjob/v1", "rmjob/v2", "api_version", "the only value is rmjob/v1"},
    {"\"a-job\"", "\"1job\"", "name", "name is \"1job\""},
    {"\"a-job\"", "\"a job\"", "name", "a name is a letter"},
    {"\"name\":\"a-job\",", "", "name", "name is missing"},
    {"\"name\":\"a-job\"", "\"name\":\"a-job\",\"project\":\"../x\"", "project", "project is \"../x\""},
    {"\"/models/base\"", "\"models/base\"", "base_model", "a relative path"},
    {"\"/models/base\"", "\"hf://org/model\"", "base_model", "only local paths and s3://"},
    {"\"/models/base\"", "\"s3://\"", "base_model", "s3://bucket/prefix"},
    {"\"/models/base\"", "\"s3://b/p\"", "base_model", "a bucket has 3 to 63"},
    {"\"/models/base\"", "\"s3://Bucket/p\"", "base_model", "a bucket has 3 to 63"},
    {"\"/models/base\"", "\"s3://models-/p\"", "base_model", "a bucket has 3 to 63"},
    {"\"/models/base\"", "\"s3://models/p?X-Amz-Signature=PLANTED\"", "base_model", "holds credentials"},
    {"\"/data/train.jsonl\"", "\"s3://KEY:PLANTED@bucket/p.jsonl\"", "data.train[0].path", "holds credentials"},
    {"\"support-rm\"", "\"support-rm\",\"store\":\"http://me:PLANTED@host/p\"", "publish.store", "holds credentials"},
    {"\"support-rm\"", "\"support-rm\",\"store\":\"\"", "publish.store", "is missing"},
    {"\"support-rm\"", "\"support-rm\",\"alias\":\"\"", "publish.alias", "is empty"},
    {"\"publish\"", "\"train\":{\"global_batch_pairs\":4294967295},\"publish\"", "train.global_batch_pairs",
     "is 4294967295; 1 to 65536"},
    {"\"publish\"", "\"elastic\":{\"max_ranks\":1000000000},\"publish\"", "elastic.max_ranks", "is 1000000000;"},
    {"\"publish\"", "\"train\":{\"learning_rate\":1.5},\"publish\"", "train.learning_rate", "is 1.5; over 0"},
    {"\"base_model\":\"/models/base\",", "", "base_model", "base_model is missing"},
    {"\"policy_model\":{\"family\":\"llama\",\"parameters\":8000000000},", "", "policy_model",
     "policy_model is missing"},
    {",\"parameters\":8000000000", "", "policy_model.parameters", "is missing"},
    {"\"family\":\"llama\",", "", "policy_model.family", "is missing"},
    {"8000000000", "0", "policy_model.parameters", "is 0"},
    {"[{\"path\":\"/data/train.jsonl\"}]", "[]", "data.train", "data.train is missing"},
    {"{\"path\":\"/data/train.jsonl\"}", "{\"path\":\"/data/train.jsonl\",\"columns\":{\"prompt\":\"\"}}",
     "data.train[0].columns.prompt", "is empty"},
    {"{\"path\":\"/data/train.jsonl\"}",
     "{\"path\":\"/data/train.jsonl\",\"columns\":{\"prompt\":\"a\",\"chosen\":\"a\"}}", "data.train[0].columns.chosen",
     "is \"a\", which columns.prompt is too"},
    {"/data/train.jsonl", "/data/train.csv", "data.train[0].path", "rows are read from .jsonl"},
    {"/data/train.jsonl", "/data/train.csv", "data.train[0].path", "rows are read from .jsonl and .json"},
    {"/data/train.jsonl", "", "data.train[0].path", "is missing"},
    {"/data/train.jsonl", "/data/\\u001b[31m.jsonl", "data.train[0].path", "holds a control character"},
    {"/data/train.jsonl\"", "/data/train.jsonl\",\"name\":\"\"", "data.train[0].name", "is empty"},
    {"/data/train.jsonl\"", "/data/train.jsonl\",\"name\":\"a\\u001b[31m\"", "data.train[0].name",
     "holds a control character"},
    {"/data/held.jsonl.gz", "/data/train.jsonl", "data.heldout[0].path", "never trained on"},
    {",\"heldout\":[{\"path\":\"/data/held.jsonl.gz\"}]", "", "data.heldout",
     "gate.heldout_accuracy_min is measured on it"},
    {"\"data\":{", "\"data\":{\"max_length\":4,", "data.max_length", "8 to 131072"},
    {"\"publish\"", "\"train\":{\"epochs\":3},\"publish\"", "train.epochs",
     "train.epochs is 3; reward models are trained for exactly one epoch"},
    {"\"publish\"", "\"train\":{\"epochs\":0},\"publish\"", "train.epochs", "exactly one epoch"},
    {"\"publish\"", "\"train\":{\"global_batch_pairs\":0},\"publish\"", "train.global_batch_pairs", "1 to 65536"},
    {"\"publish\"", "\"train\":{\"learning_rate\":0},\"publish\"", "train.learning_rate", "over 0"},
    {"\"publish\"", "\"train\":{\"learning_rate\":-1.0},\"publish\"", "train.learning_rate", "over 0"},
    {"\"publish\"", "\"train\":{\"learning_rate\":\"NaN\"},\"publish\"", "train.learning_rate", "over 0"},
    {"\"publish\"", "\"train\":{\"warmup_ratio\":1.5},\"publish\"", "train.warmup_ratio", "between 0 and 1"},
    {"\"publish\"", "\"train\":{\"min_learning_rate_ratio\":-0.1},\"publish\"", "train.min_learning_rate_ratio",
     "between 0 and 1"},
    {"\"publish\"", "\"train\":{\"weight_decay\":1.0},\"publish\"", "train.weight_decay", "less than 1"},
    {"\"publish\"", "\"train\":{\"beta1\":1.0},\"publish\"", "train.beta1", "less than 1"},
    {"\"publish\"", "\"train\":{\"beta2\":-0.5},\"publish\"", "train.beta2", "0 or more"},
    {"\"publish\"", "\"train\":{\"epsilon\":0},\"publish\"", "train.epsilon", "over 0"},
    {"\"publish\"", "\"train\":{\"max_grad_norm\":-1},\"publish\"", "train.max_grad_norm", "0 (no clipping) or more"},
    {"\"publish\"", "\"train\":{\"precision\":\"bf16\"},\"publish\"", "train.precision", "float32 only"},
    {"\"publish\"", "\"elastic\":{\"min_ranks\":0},\"publish\"", "elastic.min_ranks", "1 to 64"},
    {"\"publish\"", "\"elastic\":{\"max_ranks\":65},\"publish\"", "elastic.max_ranks", "1 to 64"},
    {"\"publish\"", "\"elastic\":{\"min_ranks\":4,\"max_ranks\":2},\"publish\"", "elastic.min_ranks",
     "more than elastic.max_ranks"},
    {"\"publish\"", "\"resources\":{\"device\":\"cuda\"},\"publish\"", "resources.device", "cpu only"},
    {"\"publish\"", "\"resources\":{\"memory\":\"lots\"},\"publish\"", "resources.memory", "for instance 8Gi"},
    {"\"publish\"", "\"resources\":{\"threads\":0},\"publish\"", "resources.threads", "1 to 1024"},
    {"\"publish\"", "\"checkpoint\":{\"interval\":\"often\"},\"publish\"", "checkpoint.interval", "auto, off"},
    {"\"publish\"", "\"checkpoint\":{\"interval\":\"0\"},\"publish\"", "checkpoint.interval", "a number of steps"},
    {"\"publish\"", "\"checkpoint\":{\"keep\":0},\"publish\"", "checkpoint.keep", "1 to 16"},
    {"\"publish\"", "\"checkpoint\":{\"store\":\"gs://x\"},\"publish\"", "checkpoint.store",
     "only local paths and s3://"},
    {"\"evaluate\":{\"rewardbench2\":\"s3://eval/rb2.jsonl.zst\"},", "", "evaluate.rewardbench2", "is missing"},
    {"rb2.jsonl.zst", "rb2.arrow", "evaluate.rewardbench2", "rows are read from .jsonl and .json"},
    {"\"math\":0.5", "\"math\":0.25", "gate.rewardbench2.math", ""},
    {"\"math\":0.5", "\"math\":1.5", "gate.rewardbench2.math", ""},
    {"\"ties\":0.5,", "", "gate.rewardbench2.ties", ""},
    {"\"publish\"", "\"budget\":{\"rank_hours\":0},\"publish\"", "budget.rank_hours", "over 0"},
    {"\"publish\"", "\"budget\":{\"deadline\":\"soon\"},\"publish\"", "budget.deadline", "a duration"},
    {"\"publish\"", "\"budget\":{\"max_restarts\":99999},\"publish\"", "budget.max_restarts", "0 to 10000"},
    {",\"publish\":{\"name\":\"support-rm\"}", "", "publish.name", "publish.name is missing"},
    {"support-rm", "support/rm", "publish.name", "a name is"},
    {"\"support-rm\"", "\"support-rm\",\"alias\":\"3\"", "publish.alias", "a name is"},
    {"\"support-rm\"", "\"support-rm\",\"store\":\"artifacts\"", "publish.store", "a relative path"},
};

static char *replace(const char *text, const char *piece, const char *replacement)
{
    const char *at = strstr(text, piece);
    assert_non_null(at);
    char *out = NULL;
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, replacement, at + strlen(piece)) > 0);
    return out;
}

static void a_sound_spec_has_no_findings(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse(sound);
    Rmjob__V1__ValidateResponse *reply = check(spec);
    for (size_t i = 0; i < reply->n_findings; i++) {
        fail_msg("%s: %s", reply->findings[i]->field, reply->findings[i]->message);
    }
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

static void every_broken_spec_names_its_field_and_the_mend(void **state)
{
    (void)state;
    for (size_t c = 0; c < RMJ_COUNT(cases); c++) {
        char *text = replace(sound, cases[c].piece, cases[c].replacement);
        Rmjob__V1__JobSpec *spec = parse(text);
        Rmjob__V1__ValidateResponse *reply = check(spec);
        int found = 0;
        for (size_t i = 0; i < reply->n_findings; i++) {
            found |= strcmp(reply->findings[i]->field, cases[c].field) == 0 &&
                     strstr(reply->findings[i]->message, cases[c].message) != NULL;
            assert_null(strstr(reply->findings[i]->message, "PLANTED")); // no secret in an error
        }
        if (!found) {
            fail_msg("case %zu: no finding about %s that says \"%s\", first is: %s", c, cases[c].field,
                     cases[c].message, reply->n_findings == 0 ? "(none)" : reply->findings[0]->message);
        }
        assert_true(rmj_findings_refuse(reply));
        rmjob__v1__validate_response__free_unpacked(reply, NULL);
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
        free(text);
    }
}

static void a_place_longer_than_what_is_kept_is_refused(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse(sound);
    free(spec->publish->store);
    spec->publish->store = malloc(1001);
    memset(spec->publish->store, '/', 1000);
    spec->publish->store[1000] = '\0';
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_int_equal(reply->n_findings, 1);
    assert_non_null(strstr(reply->findings[0]->message, "publish.store has 1000 bytes"));
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

static void an_empty_spec_gets_all_its_findings_at_once(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse("{}");
    Rmjob__V1__ValidateResponse *reply = check(spec);
    assert_true(reply->n_findings >= 7);
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

static void defaults_fill_what_is_silent_and_change_nothing_else(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse("{\"train\":{\"learning_rate\":0.5},\"elastic\":{\"max_ranks\":4}}");
    struct rmj_spec_defaults defaults = {.checkpoint_store = "/c", .publish_store = "/p", .core_count = 8};
    rmj_spec_fill_defaults(spec, &defaults);
    assert_true(spec->train->learning_rate == 0.5);
    assert_int_equal(spec->train->epochs, 1);
    assert_int_equal(spec->train->global_batch_pairs, 128);
    assert_true(spec->train->beta2 == 0.95);
    assert_int_equal(spec->data->max_length, 1024);
    assert_int_equal(spec->elastic->min_ranks, 1);
    assert_int_equal(spec->resources->threads, 2);
    assert_string_equal(spec->checkpoint->store, "/c");
    assert_string_equal(spec->publish->store, "/p");
    assert_string_equal(spec->publish->alias, "candidate");
    assert_string_equal(spec->project, "default");
    assert_null(spec->gate);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
}

// The finding about checkpoint.store of a spec with this one, "" when there is none; the other store is always sound.
static uint32_t check_store(const char *store, char message[1024])
{
    Rmjob__V1__JobSpec *spec = parse(sound);
    Rmjob__V1__ValidateResponse reply = RMJOB__V1__VALIDATE_RESPONSE__INIT;
    struct rmj_spec_defaults defaults = {.checkpoint_store = store, .publish_store = "/tmp", .core_count = 1};
    rmj_spec_fill_defaults(spec, &defaults);
    rmj_spec_check_stores(spec, &reply);
    uint32_t exit_code = reply.n_findings == 0 ? 0 : reply.findings[0]->exit_code;
    snprintf(message, 1024, "%s", reply.n_findings == 0 ? "" : reply.findings[0]->message);
    assert_true(reply.n_findings <= 1);
    for (size_t i = 0; i < reply.n_findings; i++) {
        rmjob__v1__finding__free_unpacked(reply.findings[i], NULL);
    }
    free(reply.findings);
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
    return exit_code;
}

static void a_store_that_cannot_be_made_is_refused_and_one_that_can_is_not_made(void **state)
{
    (void)state;
    char message[1024], folder[] = "/tmp/rmj-spec-XXXXXX", path[PATH_MAX + 64], long_name[400];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    assert_int_equal(check_store(path, message), 0);
    assert_int_equal(rmdir(folder), 0); // nothing was left in it
    assert_int_equal(check_store("/proc/x/y", message), 2);
    assert_non_null(strstr(message, "no directory can be made in /proc"));
    assert_int_equal(check_store("/dev/null/x", message), 2);
    assert_non_null(strstr(message, "/dev/null is not a directory"));
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    snprintf(path, sizeof path, "/tmp/%s/x", long_name);
    assert_int_not_equal(check_store(path, message), 0);
    memset(path, '/', PATH_MAX + 16);
    snprintf(path + PATH_MAX, 16, "x");
    assert_int_not_equal(check_store(path, message), 0);
}

static void a_policy_under_chance_or_out_of_range_is_refused(void **state)
{
    (void)state;
    Rmjob__V1__Policy *policy = rmj_policy_default("align");
    Rmjob__V1__ValidateResponse *reply = malloc(sizeof *reply);
    rmjob__v1__validate_response__init(reply);
    rmj_policy_check(policy, reply);
    assert_int_equal(reply->n_findings, 0);
    policy->floors->rewardbench2->math = 0.25;
    policy->floors->has_max_regression = 1;
    policy->floors->max_regression = 2;
    rmj_policy_check(policy, reply);
    assert_int_equal(reply->n_findings, 2);
    assert_string_equal(reply->findings[0]->field, "floors.rewardbench2.math");
    assert_non_null(strstr(reply->findings[0]->message, "not above chance"));
    rmjob__v1__validate_response__free_unpacked(reply, NULL);
    rmjob__v1__policy__free_unpacked(policy, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_spec_has_no_findings),
        cmocka_unit_test(every_broken_spec_names_its_field_and_the_mend),
        cmocka_unit_test(a_place_longer_than_what_is_kept_is_refused),
        cmocka_unit_test(an_empty_spec_gets_all_its_findings_at_once),
        cmocka_unit_test(defaults_fill_what_is_silent_and_change_nothing_else),
        cmocka_unit_test(a_store_that_cannot_be_made_is_refused_and_one_that_can_is_not_made),
        cmocka_unit_test(a_policy_under_chance_or_out_of_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
