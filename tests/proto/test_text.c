// Text formats: what is read, what is refused with which words and where, and that nothing is lost on the way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rmjob/v1/jobs.pb-c.h"
#include "proto/rmjob/v1/ranks.pb-c.h"
#include "proto/rmjob/v1/registry.pb-c.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "proto/text/text_format.h"

static enum rmj_status parse(int json, const ProtobufCMessageDescriptor *descriptor, const char *text, size_t size,
                             ProtobufCMessage **message, struct rmj_text_result *result, struct rmj_error *err)
{
    return json ? rmj_json_parse(descriptor, "spec.json", text, size, message, result, err)
                : rmj_yaml_parse(descriptor, "spec.yaml", text, size, message, result, err);
}

static Rmjob__V1__JobSpec *parse_spec(int json, const char *text, struct rmj_text_result *result)
{
    ProtobufCMessage *message = NULL;
    struct rmj_error err = {0};
    if (parse(json, &rmjob__v1__job_spec__descriptor, text, strlen(text), &message, result, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return (Rmjob__V1__JobSpec *)message;
}

static const char design_spec[] =
    "apiVersion: rmjob/v1\n"
    "name: llama3-8b-rm\n"
    "base_model: s3://models/Llama-3.1-8B-Instruct      # a directory\n"
    "policy_model: {family: llama, parameters: 8030261248}\n"
    "project: align\n"
    "data:\n"
    "  train:   [{path: s3://prefs/train-*.jsonl}, b.jsonl]\n"
    "  heldout: [{path: s3://prefs/ours-heldout.jsonl}]\n"
    "  max_length: 4096\n"
    "  order: shuffled\n"
    "  over_length: truncate_prompt\n"
    "train:\n"
    "  epochs: 1\n"
    "  learning_rate: 3.0e-6\n"
    "  use_margin: false\n"
    "  seed: 0x10\n"
    "checkpoint: {store: s3://ckpt/llama3-8b-rm, interval: 20, keep: 2}\n"
    "gate:\n"
    "  rewardbench2: {factuality: 0.60, precise_if: 0.35, math: 0.55, safety: 0.75, focus: 0.60, ties: 0.50}\n"
    "  heldoutAccuracyMin: 1\n"
    "budget: {rank_hours: 40, deadline: 24h}\n";

static void the_designs_spec_is_read(void **state)
{
    (void)state;
    struct rmj_text_result *result = rmj_text_result_create();
    Rmjob__V1__JobSpec *spec = parse_spec(0, design_spec, result);
    assert_string_equal(spec->api_version, "rmjob/v1");
    assert_int_equal(spec->policy_model->parameters, 8030261248);
    assert_int_equal(spec->data->n_train, 2);
    assert_string_equal(spec->data->train[0]->path, "s3://prefs/train-*.jsonl");
    assert_string_equal(spec->data->train[1]->path, "b.jsonl"); // a bare text is the path
    assert_int_equal(spec->data->over_length, RMJOB__V1__OVER_LENGTH__truncate_prompt);
    assert_true(spec->data->has_order);
    assert_int_equal(spec->train->epochs, 1);
    assert_true(spec->train->learning_rate == 3.0e-6);
    assert_true(spec->train->has_use_margin && !spec->train->use_margin);
    assert_false(spec->train->has_beta1); // absent is not zero
    assert_int_equal(spec->train->seed, 16);
    assert_string_equal(spec->checkpoint->interval, "20"); // a number for a text is its text
    assert_true(spec->gate->heldout_accuracy_min == 1.0);
    assert_null(spec->publish);
    protobuf_c_message_free_unpacked(&spec->base, NULL);

    int line = 0;
    int column = 0;
    assert_true(rmj_text_position(result, "train.learning_rate", &line, &column));
    assert_int_equal(line, 14);
    assert_int_equal(column, 18);
    assert_true(rmj_text_position(result, "data.train[1].path", &line, &column));
    assert_int_equal(line, 7);
    assert_int_equal(column, 47);
    assert_true(rmj_text_position(result, "data.template_date", &line, &column)); // absent: its parent
    assert_int_equal(line, 6);
    assert_int_equal(column, 1);
    assert_false(rmj_text_position(result, "publish", &line, &column));
    rmj_text_result_destroy(result);
}

// ---- broken inputs ----

#define RAW                                                                                                            \
    "scores are published raw: nothing stands between the scalar head and whoever reads it, no normalization, "        \
    "scaling, clipping or sigmoid; mean and spread are in the report"

struct broken {
    const char *text;
    int line, column;
    const char *message; // the whole of it
};

static const struct broken broken_yaml[] = {
    {"", 1, 1, "the file is empty"},
    {"# only a comment\n", 1, 1, "the file is empty"},
    {"- a\n", 1, 1,
     "the file is a list; it wants the fields api_version, name, base_model, policy_model, project, data, train, "
     "elastic, resources, checkpoint, evaluate, gate, budget, publish"},
    {"train: {normalize_rewards: true}\n", 1, 9, "unknown field train.normalize_rewards: " RAW},
    {"publish: {output: sigmoid}\n", 1, 11, "unknown field publish.output: " RAW},
    {"train: {rewardScaling: 2}\n", 1, 9, "unknown field train.rewardScaling: " RAW},
    {"train: {num_train_epochs: 3}\n", 1, 9,
     "unknown field train.num_train_epochs: reward models are trained for exactly one epoch, so there is nothing to "
     "set beside train.epochs: 1"},
    {"name: a\ntrian: {epochs: 1}\n", 2, 1, "unknown field trian; did you mean train"},
    {"train:\n  epoch: 1\n", 2, 3, "unknown field train.epoch; did you mean epochs"},
    {"budget:\n  zzzzzzzz: 1\n", 2, 3, "unknown field budget.zzzzzzzz; budget has rank_hours, deadline, max_restarts"},
    {"train:\n  epochs: three\n", 2, 11,
     "train.epochs is the text \"three\"; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs: 1.5\n", 2, 11, "train.epochs is 1.5; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs: -1\n", 2, 11, "train.epochs is -1; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs: 4294967296\n", 2, 11,
     "train.epochs is 4294967296; it wants a whole number from 0 to 4294967295"},
    {"train:\n  seed: 18446744073709551616\n", 2, 9,
     "train.seed is 18446744073709551616; it wants a whole number from 0 to 18446744073709551615"},
    {"train:\n  epochs: \"1\"\n", 2, 11,
     "train.epochs is the text \"1\"; it wants a whole number from 0 to 4294967295; take the quotes off"},
    {"train:\n  epochs: true\n", 2, 11, "train.epochs is true; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs: [1]\n", 2, 11, "train.epochs is a list; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs: {a: 1}\n", 2, 11, "train.epochs is a mapping; it wants a whole number from 0 to 4294967295"},
    {"train:\n  epochs:\n", 2, 10,
     "train.epochs has no value; give it a whole number from 0 to 4294967295 or leave the line out"},
    {"train:\n  epochs: ~\n", 2, 11,
     "train.epochs has no value; give it a whole number from 0 to 4294967295 or leave the line out"},
    {"train:\n  learning_rate: fast\n", 2, 18, "train.learning_rate is the text \"fast\"; it wants a number"},
    {"train:\n  learning_rate: 1e999\n", 2, 18,
     "train.learning_rate is 1e999; it wants a number that is not too large to be held"},
    {"train:\n  learning_rate: '1e-6'\n", 2, 18,
     "train.learning_rate is the text \"1e-6\"; it wants a number; take the quotes off"},
    {"train:\n  use_margin: yes\n", 2, 15, "train.use_margin is the text \"yes\"; it wants true or false"},
    {"train:\n  use_margin: 1\n", 2, 15, "train.use_margin is 1; it wants true or false"},
    {"name: true\n", 1, 7, "name is true; it wants a text; put it in quotes"},
    {"name: null\n", 1, 7, "name has no value; give it a text or leave the line out"},
    {"name: [a]\n", 1, 7, "name is a list; it wants a text"},
    {"name: \"a\\0b\"\n", 1, 7, "name holds a NUL character"},
    {"data:\n  order: sorted\n", 2, 10, "data.order is the text \"sorted\"; it wants one of shuffled, as_given"},
    {"data:\n  order: shufled\n", 2, 10,
     "data.order is the text \"shufled\"; it wants one of shuffled, as_given; did you mean shuffled"},
    {"data:\n  order: 0\n", 2, 10, "data.order is 0; it wants one of shuffled, as_given"},
    {"data:\n  train: a.jsonl\n", 2, 10, "data.train is the text \"a.jsonl\"; it wants a list"},
    {"data:\n  train:\n  - 3\n", 3, 5, "data.train[0] is 3; it wants a path, or the fields path, name, form, columns"},
    {"data:\n  train:\n  - path: a\n  - pth: b\n", 4, 5, "unknown field data.train[1].pth; did you mean path"},
    {"train: 3\n", 1, 8, NULL},
    {"name: a\nname: b\n", 2, 1, "name is given twice; the first is on line 1"},
    {"name: a\nbase_model: x\nbaseModel: y\n", 3, 1, "base_model is given twice; the first is on line 2"},
    {"name: &a b\n", 1, 7, "the anchor &a is not supported; write the value where it is used"},
    {"name: *a\n", 1, 7, "the alias *a is not supported; write the value where it is used"},
    {"name: !!str b\n", 1, 7, "the tag tag:yaml.org,2002:str is not supported; types follow from the fields"},
    {"train:\n  <<: {epochs: 1}\n", 2, 3, "merge keys (<<) are not supported; write the fields out"},
    {"name: a\n---\nname: b\n", 2, 1, "a second document starts here; one file holds one"},
    {"? [a]\n: b\n", 1, 3, "a field's name is a plain word"},
    {"name: a\n bad: b\n", 2, 5, "not YAML: mapping values are not allowed in this context"},
    {"name: [a\n", 2, 1, "not YAML: while parsing a flow sequence: did not find expected ',' or ']'"},
    {"name: \"a\n", 2, 1, "not YAML: while scanning a quoted scalar: found unexpected end of stream"},
    {"name: a\n\tb: 1\n", 2, 1, NULL},
    {"name: \xc3\xa9\xff\n", 1, 8, "the byte 0xff is not UTF-8; save the file as UTF-8"},
    {"name: a\x01\n", 1, 8, "not YAML: control characters are not allowed"},
    {"name: \xc3\xa9\xc3\xa9\nn\xc3\xa9me: b\n", 2, 1, "unknown field n\xc3\xa9me; did you mean name"},
    {"a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 1, 35, "nested deeper than 32 levels"},
};

static const struct broken broken_json[] = {
    {"", 1, 1, "the file is empty"},
    {"[]", 1, 1, NULL},
    {"{\"name\": \"a\",\n \"trian\": {}}", 2, 2, "unknown field trian; did you mean train"},
    {"{\"name\": \"a\",}", 1, 14, "not JSON: string or '}' expected near '}'"},
    {"{\"train\": {\"epochs\": \"1\"}}", 1, 22,
     "train.epochs is the text \"1\"; it wants a whole number from 0 to 4294967295; take the quotes off"},
    {"{\"train\":\n{\"seed\":\t-1}}", 2, 10,
     "train.seed is -1; it wants a whole number from 0 to 18446744073709551615"},
    {"{\"train\": {\"use_margin\": \"true\"}}", 1, 26,
     "train.use_margin is the text \"true\"; it wants true or false; take the quotes off"},
    {"{\"name\": \"\xc3\xa9\", \"project\": null}", 1, 26,
     "project has no value; give it a text or leave the line out"},
    {"{\"name\": \"a\", \"name\": \"b\"}", 1, 15, "name is given twice; the first is on line 1"},
    {"{\"name\": \"a\"} x", 1, 15, "not JSON: end of file expected near 'x'"},
    {"{\"data\": {\"order\": 1}}", 1, 20, "data.order is 1; it wants one of shuffled, as_given"},
    {"{\"name\": \"\\ud83d\\ude00\", \"data\": {\"train\": [\"a\", 7]}}", 1, 50,
     "data.train[1] is 7; it wants a path, or the fields path, name, form, columns"},
    {"{\"name\": \"\xff\"}", 1, 11, "the byte 0xff is not UTF-8; save the file as UTF-8"},
    {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", 1, 33,
     "nested deeper than 32 levels"},
};

static void check_broken(int json, const struct broken *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rmj_text_result *result = rmj_text_result_create();
        struct rmj_error err = {0};
        ProtobufCMessage *message = NULL;
        enum rmj_status status =
            parse(json, &rmjob__v1__job_spec__descriptor, cases[i].text, strlen(cases[i].text), &message, result, &err);
        if (status != RMJ_INVALID || message != NULL || rmj_text_error_count(result) == 0) {
            fail_msg("case %zu was not refused: %s", i, cases[i].text);
        }
        const struct rmj_text_error *first = rmj_text_error_at(result, 0);
        if (first->line != cases[i].line || first->column != cases[i].column ||
            (cases[i].message != NULL && strcmp(first->message, cases[i].message) != 0)) {
            fail_msg("case %zu: %s\ngot  %d:%d: %s\nwant %d:%d: %s", i, cases[i].text, first->line, first->column,
                     first->message, cases[i].line, cases[i].column, cases[i].message);
        }
        char front[64];
        snprintf(front, sizeof front, "spec.%s:%d:%d: ", json ? "json" : "yaml", first->line, first->column);
        assert_int_equal(strncmp(err.message, front, strlen(front)), 0);
        assert_string_equal(err.message + strlen(front), first->message);
        rmj_text_result_destroy(result);
    }
}

static void broken_yaml_is_refused_with_place_and_mend(void **state)
{
    (void)state;
    check_broken(0, broken_yaml, RMJ_COUNT(broken_yaml));
}

static void broken_json_is_refused_with_place_and_mend(void **state)
{
    (void)state;
    check_broken(1, broken_json, RMJ_COUNT(broken_json));
}

// jansson takes a NUL after a number for nothing; a fuzzer found that the walk then left the text.
static void a_nul_byte_is_refused_with_its_place(void **state)
{
    (void)state;
    static const char text[] = "{\"data\":\n {\"max_length\": 512\0}}";
    struct rmj_text_result *result = rmj_text_result_create();
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(parse(1, &rmjob__v1__job_spec__descriptor, text, sizeof text - 1, &message, result, &err),
                     RMJ_INVALID);
    assert_null(message);
    assert_string_equal(err.message, "spec.json:2:20: not JSON: a NUL byte: remove it");
    rmj_text_result_destroy(result);
}

static void several_errors_come_in_one_go_in_order(void **state)
{
    (void)state;
    const char text[] = "name: [a]\n"
                        "train:\n"
                        "  epochs: x\n"
                        "  wamup_ratio: 0.1\n"
                        "  seed: &s 3\n"
                        "data:\n"
                        "  order: up\n";
    static const int lines[] = {1, 3, 4, 5, 7};
    static const char *const fields[] = {"name", "train.epochs", "train.wamup_ratio", "", "data.order"};
    struct rmj_text_result *result = rmj_text_result_create();
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_yaml_parse(&rmjob__v1__job_spec__descriptor, "s", text, strlen(text), &message, result, NULL),
                     RMJ_INVALID);
    assert_int_equal(rmj_text_error_count(result), RMJ_COUNT(lines));
    for (size_t i = 0; i < RMJ_COUNT(lines); i++) {
        assert_int_equal(rmj_text_error_at(result, i)->line, lines[i]);
        assert_string_equal(rmj_text_error_at(result, i)->field, fields[i]);
    }
    rmj_text_result_destroy(result);
}

static void errors_are_bounded(void **state)
{
    (void)state;
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        rmj_buf_printf(&text, "field%d: 1\n", i);
    }
    struct rmj_text_result *result = rmj_text_result_create();
    ProtobufCMessage *message = NULL;
    assert_int_equal(
        rmj_yaml_parse(&rmjob__v1__job_spec__descriptor, "s", text.bytes, text.size, &message, result, NULL),
        RMJ_INVALID);
    assert_int_equal(rmj_text_error_count(result), 50);
    rmj_buf_deinit(&text);
    rmj_text_result_destroy(result);
}

static void an_oversized_file_is_refused(void **state)
{
    (void)state;
    size_t size = 1024 * 1024 + 1;
    char *text = malloc(size);
    memset(text, '#', size);
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_yaml_parse(&rmjob__v1__job_spec__descriptor, "s", text, size, &message, NULL, &err),
                     RMJ_INVALID);
    assert_string_equal(err.message, "s:1:1: the file has 1048577 bytes; at most 1048576 are read");
    free(text);
}

static void damage_everywhere(int json, const char *whole)
{
    size_t size = strlen(whole);
    for (size_t i = 0; i < size; i++) {
        char *text = malloc(size); // exactly as long, so that a read past the end is seen
        for (int cut = 0; cut < 2; cut++) {
            memcpy(text, whole, size);
            text[i] ^= (char)(1 << (i % 8));
            ProtobufCMessage *message = NULL;
            struct rmj_error err = {0};
            if (parse(json, &rmjob__v1__job_spec__descriptor, text, cut ? i : size, &message, NULL, &err) == RMJ_OK) {
                protobuf_c_message_free_unpacked(message, NULL);
            }
        }
        free(text);
    }
}

// Cut or changed anywhere, a spec is read or refused; it never crashes and never leaks.
static void every_prefix_and_every_flipped_byte_is_survived(void **state)
{
    (void)state;
    damage_everywhere(0, design_spec);
    Rmjob__V1__JobSpec *spec = parse_spec(0, design_spec, NULL);
    struct rmj_buf json;
    rmj_buf_init(&json, 1 << 16);
    rmj_json_print(&spec->base, 1, &json);
    damage_everywhere(1, json.bytes);
    rmj_buf_deinit(&json);
    protobuf_c_message_free_unpacked(&spec->base, NULL);
}

static void two_of_a_oneof_are_refused(void **state)
{
    (void)state;
    const char text[] = "{\"ping\": true, \"leave\": {}}";
    struct rmj_error err = {0};
    ProtobufCMessage *message = NULL;
    assert_int_equal(rmj_json_parse(&rmjob__v1__directive__descriptor, "d", text, strlen(text), &message, NULL, &err),
                     RMJ_INVALID);
    assert_string_equal(err.message, "d:1:16: ping and leave are both given; only one of them may be");
}

static void json_reads_what_protobufs_own_printers_write(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse_spec(
        1, "{\"apiVersion\": \"rmjob/v1\", \"policyModel\": {\"parameters\": \"18446744073709551615\"}}", NULL);
    assert_true(spec->policy_model->parameters == UINT64_MAX);
    protobuf_c_message_free_unpacked(&spec->base, NULL);
}

// ---- round trips ----

static const ProtobufCMessageDescriptor *const all_messages[] = {
    &rmjob__v1__job_spec__descriptor,
    &rmjob__v1__policy__descriptor,
    &rmjob__v1__data_report__descriptor,
    &rmjob__v1__plan_summary__descriptor,
    &rmjob__v1__scored_rows__descriptor,
    &rmjob__v1__eval_report__descriptor,
    &rmjob__v1__gate_verdict__descriptor,
    &rmjob__v1__job_report__descriptor,
    &rmjob__v1__consumed_proof__descriptor,
    &rmjob__v1__job__descriptor,
    &rmjob__v1__event__descriptor,
    &rmjob__v1__submit_request__descriptor,
    &rmjob__v1__submit_response__descriptor,
    &rmjob__v1__validate_response__descriptor,
    &rmjob__v1__list_jobs_request__descriptor,
    &rmjob__v1__list_jobs_response__descriptor,
    &rmjob__v1__watch_request__descriptor,
    &rmjob__v1__logs_request__descriptor,
    &rmjob__v1__log_chunk__descriptor,
    &rmjob__v1__cancel_request__descriptor,
    &rmjob__v1__resize_request__descriptor,
    &rmjob__v1__get_report_response__descriptor,
    &rmjob__v1__set_policy_request__descriptor,
    &rmjob__v1__server_info__descriptor,
    &rmjob__v1__model_version__descriptor,
    &rmjob__v1__alias__descriptor,
    &rmjob__v1__list_models_response__descriptor,
    &rmjob__v1__attach_request__descriptor,
    &rmjob__v1__directive__descriptor,
    &rmjob__v1__ready_request__descriptor,
    &rmjob__v1__heartbeat_request__descriptor,
    &rmjob__v1__step_request__descriptor,
    &rmjob__v1__manifest_request__descriptor,
    &rmjob__v1__evaluated_request__descriptor,
    &rmjob__v1__fail_job_request__descriptor,
    &rmjob__v1__task_spec__descriptor,
    &rmjob__v1__prepared_request__descriptor,
    &rmjob__v1__ack__descriptor,
};

static uint64_t random_state;

static uint64_t random_bits(void)
{
    // splitmix64; the tests need variety, not quality.
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static char *random_text(void)
{
    static const char *const pieces[] = {"a",
                                         "Z",
                                         "0",
                                         "1.5",
                                         "-",
                                         " ",
                                         ": ",
                                         " #",
                                         "\n",
                                         "\t",
                                         "\"",
                                         "\\",
                                         "'",
                                         "yes",
                                         "null",
                                         "~",
                                         "{",
                                         "]",
                                         ",",
                                         "&",
                                         "*",
                                         "!",
                                         "%",
                                         "|",
                                         ">",
                                         "@",
                                         "`",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "\x01",
                                         "\x7f",
                                         "\xc2\x85",
                                         "\xe2\x80\xa8",
                                         "\xef\xbb\xbf",
                                         "\xef\xbf\xbf",
                                         "\r",
                                         "/",
                                         "=",
                                         "?",
                                         "0x1"};
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 16);
    for (uint64_t count = random_bits() % 8; count > 0; count--) {
        rmj_buf_puts(&text, pieces[random_bits() % RMJ_COUNT(pieces)]);
    }
    return rmj_buf_detach(&text);
}

static double random_double(void)
{
    switch (random_bits() % 6) {
    case 0:
        return (double)(int64_t)(random_bits() % 2000) - 1000;
    case 1:
        return INFINITY;
    case 2:
        return -0.0;
    case 3:
        return (double)(random_bits() % 1000) / 1000;
    default: {
        uint64_t bits = random_bits();
        double value;
        memcpy(&value, &bits, sizeof value);
        return isnan(value) ? 5e-324 : value;
    }
    }
}

static ProtobufCMessage *random_message(const ProtobufCMessageDescriptor *descriptor, int depth);

static void random_value(const ProtobufCFieldDescriptor *field, char *out, int depth)
{
    uint64_t bits = random_bits() >> random_bits() % 64;
    uint32_t half = (uint32_t)bits;
    double number = random_double();
    float narrow = isfinite(number) && !isfinite((float)number) ? 1e-45f : (float)number;
    ProtobufCBinaryData bytes = {0};
    const ProtobufCEnumDescriptor *values = field->descriptor;
    void *pointer = NULL;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        pointer = random_text();
        memcpy(out, &pointer, sizeof pointer);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        pointer = random_message(field->descriptor, depth + 1);
        memcpy(out, &pointer, sizeof pointer);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        bytes.len = random_bits() % 9;
        bytes.data = malloc(bytes.len + 1);
        for (size_t i = 0; i < bytes.len; i++) {
            bytes.data[i] = (uint8_t)random_bits();
        }
        memcpy(out, &bytes, sizeof bytes);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        memcpy(out, &narrow, sizeof narrow);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(out, &number, sizeof number);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        half &= 1;
        memcpy(out, &half, sizeof half);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        half = (uint32_t)values->values[half % values->n_values].value;
        memcpy(out, &half, sizeof half);
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
        memcpy(out, &half, sizeof half);
        break;
    default:
        memcpy(out, &bits, sizeof bits);
        break;
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    default:
        return 8;
    }
}

static void random_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, int depth)
{
    char *member = (char *)message + field->offset;
    char *quantifier = (char *)message + field->quantifier_offset;
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        if (*(uint32_t *)quantifier == 0) {
            random_value(field, member, depth);
            *(uint32_t *)quantifier = field->id;
        }
    } else if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = random_bits() % 3 + 1;
        char *array = calloc(count, size_of(field->type));
        for (size_t i = 0; i < count; i++) {
            random_value(field, array + i * size_of(field->type), depth);
        }
        memcpy(member, &array, sizeof array);
        *(size_t *)quantifier = count;
    } else {
        random_value(field, member, depth);
        if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
            *(protobuf_c_boolean *)quantifier = 1;
        }
    }
}

static ProtobufCMessage *random_message(const ProtobufCMessageDescriptor *descriptor, int depth)
{
    ProtobufCMessage *message = calloc(1, descriptor->sizeof_message);
    descriptor->message_init(message);
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        if (random_bits() % 4 > 0 && depth < 6) {
            random_field(message, &descriptor->fields[i], depth);
        }
    }
    return message;
}

static void assert_same(const ProtobufCMessage *a, const ProtobufCMessage *b, const char *text)
{
    size_t size = protobuf_c_message_get_packed_size(a);
    uint8_t *left = malloc(size + 1);
    uint8_t *right = malloc(protobuf_c_message_get_packed_size(b) + 1);
    protobuf_c_message_pack(a, left);
    size_t other = protobuf_c_message_pack(b, right);
    if (size != other || memcmp(left, right, size) != 0) {
        fail_msg("%s changed on the way through\n%s", a->descriptor->name, text);
    }
    free(left);
    free(right);
}

static void round_trip(const ProtobufCMessage *message, int json, int pretty)
{
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 24);
    if (json) {
        rmj_json_print(message, pretty, &text);
        assert_true(pretty || strchr(text.bytes, '\n') == NULL);
    } else {
        rmj_yaml_print(message, &text);
    }
    struct rmj_error err = {0};
    ProtobufCMessage *back = NULL;
    if (parse(json, message->descriptor, text.bytes, text.size, &back, NULL, &err) != RMJ_OK) {
        fail_msg("%s: %s\n%s", message->descriptor->name, err.message, text.bytes);
    }
    assert_same(message, back, text.bytes);
    protobuf_c_message_free_unpacked(back, NULL);
    rmj_buf_deinit(&text);
}

static void every_message_survives_both_formats(void **state)
{
    (void)state;
    const char *given = getenv("RMJOB_SEED");
    uint64_t seed = given == NULL ? 20240607 : strtoull(given, NULL, 10);
    printf("seed %llu (RMJOB_SEED)\n", (unsigned long long)seed);
    random_state = seed;
    for (int round = 0; round < 30; round++) {
        for (size_t i = 0; i < RMJ_COUNT(all_messages); i++) {
            ProtobufCMessage *message = random_message(all_messages[i], round % 3 == 0 ? 4 : 2);
            round_trip(message, 0, 0);
            round_trip(message, 1, 0);
            round_trip(message, 1, 1);
            ProtobufCMessage *copy = rmj_message_copy(message);
            assert_same(message, copy, "copy");
            protobuf_c_message_free_unpacked(copy, NULL);
            protobuf_c_message_free_unpacked(message, NULL);
        }
    }
}

static void printing_is_readable(void **state)
{
    (void)state;
    Rmjob__V1__JobSpec *spec = parse_spec(0,
                                          "name: a b\nproject: 'no'\ndata: {train: [x.jsonl], order: as_given}\n"
                                          "train: {learning_rate: 0.1, seed: 7}\nelastic: {}\n",
                                          NULL);
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_yaml_print(&spec->base, &out);
    assert_string_equal(out.bytes, "name: \"a b\"\nproject: \"no\"\ndata:\n  train:\n    - path: x.jsonl\n"
                                   "  order: as_given\ntrain:\n  learning_rate: 0.1\n  seed: 7\nelastic: {}\n");
    rmj_buf_clear(&out);
    rmj_json_print(&spec->base, 0, &out);
    assert_string_equal(out.bytes,
                        "{\"name\": \"a b\", \"project\": \"no\", \"data\": {\"train\": [{\"path\": \"x.jsonl\"}], "
                        "\"order\": \"as_given\"}, \"train\": {\"learning_rate\": 0.1, \"seed\": 7}, \"elastic\": {}}");
    rmj_buf_clear(&out);
    rmj_json_print(&spec->data->base, 1, &out);
    assert_string_equal(
        out.bytes, "{\n  \"train\": [\n    {\n      \"path\": \"x.jsonl\"\n    }\n  ],\n  \"order\": \"as_given\"\n}");
    rmj_buf_deinit(&out);
    protobuf_c_message_free_unpacked(&spec->base, NULL);
}

static void not_finite_numbers_and_broken_text_print_as_valid_json(void **state)
{
    (void)state;
    Rmjob__V1__ScoredRow row = RMJOB__V1__SCORED_ROW__INIT;
    row.id = "a\xff\xc3";
    float scores[] = {NAN, INFINITY, -INFINITY, 0.1f};
    row.n_scores = 4;
    row.scores = scores;
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_json_print(&row.base, 0, &out);
    assert_string_equal(out.bytes, "{\"id\": \"a\xef\xbf\xbd\xef\xbf\xbd\", \"scores\": [\"NaN\", \"Infinity\", "
                                   "\"-Infinity\", 0.1]}");
    ProtobufCMessage *back = NULL;
    assert_int_equal(rmj_json_parse(row.base.descriptor, "r", out.bytes, out.size, &back, NULL, NULL), RMJ_OK);
    assert_true(isnan(((Rmjob__V1__ScoredRow *)back)->scores[0]));
    protobuf_c_message_free_unpacked(back, NULL);
    rmj_buf_deinit(&out);
}

// ---- explain ----

static void explain_prints_the_comments_of_the_proto(void **state)
{
    (void)state;
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    struct rmj_error err = {0};
    assert_int_equal(rmj_spec_explain("train.learning_rate", &out, &err), RMJ_OK);
    assert_string_equal(out.bytes, "train.learning_rate: number\n  Peak learning rate of AdamW. Default 3.0e-6.\n");
    rmj_buf_clear(&out);
    assert_int_equal(rmj_spec_explain("data.order", &out, &err), RMJ_OK);
    assert_string_equal(out.bytes, "data.order: one of shuffled, as_given\n  Order of the pairs. Default shuffled.\n"
                                   "\n  shuffled\n    Shuffled by train.seed.\n"
                                   "\n  as_given\n    The order of the files, then of their rows.\n");
    rmj_buf_clear(&out);
    assert_int_equal(rmj_spec_explain("data.train[0].path", &out, &err), RMJ_OK);
    assert_non_null(strstr(out.bytes, ".jsonl"));
    rmj_buf_clear(&out);
    assert_int_equal(rmj_spec_explain("gate", &out, &err), RMJ_OK);
    assert_non_null(strstr(out.bytes, "gate: fields\n  What it must reach to be published."));
    assert_non_null(strstr(out.bytes, "\n  decision: one of point, lower95\n    point or lower95. Default point.\n"));
    rmj_buf_clear(&out);
    assert_int_equal(rmj_spec_explain("", &out, &err), RMJ_OK);
    assert_non_null(strstr(out.bytes, "One reward-model training job."));
    assert_non_null(strstr(out.bytes, "\n  publish: fields\n"));
    rmj_buf_clear(&out);
    assert_int_equal(rmj_spec_explain("train.epoch", &out, &err), RMJ_NOT_FOUND);
    assert_string_equal(err.message, "train.epoch: TrainSpec has no field epoch; did you mean epochs");
    assert_int_equal(rmj_spec_explain("name.first", &out, &err), RMJ_NOT_FOUND);
    assert_string_equal(err.message, "name.first: name has no fields of its own");
    rmj_buf_deinit(&out);
}

// Every field a user may write has its sentence, down to the values of enumerations.
static void check_explained(const ProtobufCMessageDescriptor *message, const char *prefix)
{
    for (unsigned i = 0; i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->fields[i];
        char path[200];
        snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", field->name);
        struct rmj_buf out;
        rmj_buf_init(&out, 1 << 16);
        struct rmj_error err = {0};
        assert_int_equal(rmj_spec_explain(path, &out, &err), RMJ_OK);
        if (strstr(out.bytes, "\n  ") == NULL && field->type != PROTOBUF_C_TYPE_DOUBLE) {
            fail_msg("%s has no comment", path);
        }
        rmj_buf_deinit(&out);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            check_explained(field->descriptor, path);
        }
    }
}

static void every_field_is_explained(void **state)
{
    (void)state;
    check_explained(&rmjob__v1__job_spec__descriptor, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_designs_spec_is_read),
        cmocka_unit_test(broken_yaml_is_refused_with_place_and_mend),
        cmocka_unit_test(broken_json_is_refused_with_place_and_mend),
        cmocka_unit_test(a_nul_byte_is_refused_with_its_place),
        cmocka_unit_test(several_errors_come_in_one_go_in_order),
        cmocka_unit_test(errors_are_bounded),
        cmocka_unit_test(an_oversized_file_is_refused),
        cmocka_unit_test(every_prefix_and_every_flipped_byte_is_survived),
        cmocka_unit_test(two_of_a_oneof_are_refused),
        cmocka_unit_test(json_reads_what_protobufs_own_printers_write),
        cmocka_unit_test(every_message_survives_both_formats),
        cmocka_unit_test(printing_is_readable),
        cmocka_unit_test(not_finite_numbers_and_broken_text_print_as_valid_json),
        cmocka_unit_test(explain_prints_the_comments_of_the_proto),
        cmocka_unit_test(every_field_is_explained),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
