// init, validate, spec explain, submit: everything about a spec.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "service/cli/cli.h"

#define EXPLAIN_SIZE_MAX (1u << 20)
// A submit checks everything that the spec names: longer than an ordinary call.
#define SUBMIT_DEADLINE_MS 120000
#define SUBMIT_RETRY_MS 10000
#define SUBMIT_RETRY_PAUSE_MS 200

static const char spec_template[] =
    "# A reward-model training job. Every field: `rmjob spec explain FIELD`.\n"
    "# Relative paths are relative to this file. Stores: a directory, or s3://bucket/prefix.\n"
    "api_version: rmjob/v1\n"
    "name: my-reward-model\n"
    "base_model: ./base-model              # a Hugging Face directory: config.json, *.safetensors, tokenizer.json\n"
    "policy_model: {family: llama, parameters: 8030261248}   # what it will judge: same family, not smaller\n"
    "project: default\n"
    "data:\n"
    "  train:   [{path: ./train-*.jsonl}]  # {chosen, rejected} or {prompt, chosen, rejected}; .jsonl, .gz, .zst\n"
    "  heldout: [{path: ./heldout.jsonl}]  # pairs of your own domain, never trained on\n"
    "  max_length: 1024                    # tokens of the longer side\n"
    "  order: shuffled                     # by train.seed; as_given keeps the files' order\n"
    "  over_length: drop                   # drop | truncate_prompt | error; always counted\n"
    "train:\n"
    "  epochs: 1                           # the only value there is\n"
    "  global_batch_pairs: 128\n"
    "  learning_rate: 3.0e-6\n"
    "  schedule: linear                    # constant | linear | cosine, after warmup_ratio of the steps\n"
    "  warmup_ratio: 0.03\n"
    "  max_grad_norm: 1.0\n"
    "  precision: float32\n"
    "  head_init: normal                   # normal | zeros | base\n"
    "  seed: 7\n"
    "elastic: {min_ranks: 1, max_ranks: 2} # the weights do not depend on it\n"
    "resources: {device: cpu, memory: 8Gi}\n"
    "checkpoint: {interval: auto, keep: 2} # store: the service's own unless given\n"
    "evaluate: {rewardbench2: ./reward-bench-2.jsonl}\n"
    "gate:                                 # may only tighten the project's policy: `rmjob policy get`\n"
    "  rewardbench2: {factuality: 0.60, precise_if: 0.35, math: 0.55, safety: 0.75, focus: 0.60, ties: 0.50}\n"
    "  decision: point                     # or lower95\n"
    "  score_std_min: 0.05\n"
    "  heldout_accuracy_min: 0.65\n"
    "  max_regression: 0.02                # against what the alias serves now\n"
    "budget: {rank_hours: 40, deadline: 24h}\n"
    "publish: {name: my-reward-model, alias: candidate}\n";

const char *rmj_cli_spec_template(void)
{
    return spec_template;
}

// As JSON it has no comments, and is a spec just the same.
static enum rmj_status print_template(const struct rmj_cli *cli, struct rmj_error *err)
{
    if (!cli->json) {
        fputs(spec_template, stdout);
        return RMJ_OK;
    }
    ProtobufCMessage *spec = NULL;
    RMJ_TRY(rmj_yaml_parse(&rmjob__v1__job_spec__descriptor, "template", spec_template, sizeof spec_template - 1, &spec,
                           NULL, err));
    rmj_cli_print_json(spec);
    protobuf_c_message_free_unpacked(spec, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_init(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->positional_count == 0 || strcmp(cli->positional[0], "-") == 0) {
        return print_template(cli, err);
    }
    const char *path = cli->positional[0];
    if (rmj_fs_exists(path)) {
        return rmj_fail(err, RMJ_INVALID, "%s is there already; it was left as it is", path);
    }
    RMJ_TRY(rmj_fs_write(path, spec_template, sizeof spec_template - 1, 0644, err));
    if (cli->json) {
        rmj_cli_print_json_texts("file", path, NULL);
    }
    fprintf(stderr, "%s written; next: fill in the paths, then `rmjob validate %s`\n", path, path);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_spec_explain(struct rmj_cli *cli, struct rmj_error *err)
{
    struct rmj_buf out;
    rmj_buf_init(&out, EXPLAIN_SIZE_MAX);
    const char *field = cli->positional_count > 0 ? cli->positional[0] : "";
    enum rmj_status status = rmj_spec_explain(field, &out, err);
    if (status == RMJ_OK && cli->json) {
        rmj_cli_print_json_texts("field", field, "text", rmj_buf_text(&out), NULL);
    } else if (status == RMJ_OK) {
        fputs(rmj_buf_text(&out), stdout);
    } else if (status == RMJ_NOT_FOUND) {
        err->status = status = RMJ_INVALID;
    }
    rmj_buf_deinit(&out);
    return status;
}

// A refusal carries its findings; print them where they stand in the file.
static enum rmj_status refused(const char *file, const struct rmj_text_result *positions, ProtobufCMessage *findings,
                               enum rmj_status status, struct rmj_error *err)
{
    Rmjob__V1__ValidateResponse *reply = (Rmjob__V1__ValidateResponse *)findings;
    if (reply != NULL && reply->n_findings > 0) {
        enum rmj_status worst = rmj_cli_print_findings(file, positions, reply->findings, reply->n_findings, err);
        status = worst == RMJ_OK ? status : worst;
    }
    if (findings != NULL) {
        protobuf_c_message_free_unpacked(findings, NULL);
    }
    return status;
}

enum rmj_status rmj_cmd_validate(struct rmj_cli *cli, struct rmj_error *err)
{
    const char *file = cli->positional[0];
    struct rmj_text_result *positions = rmj_text_result_create();
    Rmjob__V1__JobSpec *spec = NULL;
    ProtobufCMessage *reply = NULL, *findings = NULL;
    cli->timeout_ms = cli->timeout_ms > 0 ? cli->timeout_ms : SUBMIT_DEADLINE_MS;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_cli_read_spec(file, &spec, positions, err));
    Rmjob__V1__ValidateRequest request = RMJOB__V1__VALIDATE_REQUEST__INIT;
    request.spec = spec;
    status = rmj_cli_call(cli, "/rmjob.v1.Jobs/Validate", &request.base, &rmjob__v1__validate_response__descriptor,
                          &reply, &findings, err);
    if (status != RMJ_OK) {
        // The findings are what validate is asked for.
        if (cli->json && findings != NULL) {
            rmj_cli_print_json(findings);
        }
        status = refused(file, positions, findings, status, err);
        goto out;
    }
    Rmjob__V1__ValidateResponse *response = (Rmjob__V1__ValidateResponse *)reply;
    if (cli->json) {
        rmj_cli_print_json(reply);
    }
    RMJ_GO(rmj_cli_print_findings(file, positions, response->findings, response->n_findings, err));
    if (!cli->json) {
        printf("%s: ok\n", file);
    }
    rmj_cli_print_pinned(response->pinned, stderr);
    if (response->sample_row != NULL) {
        fprintf(stderr, "sample   %s\n", response->sample_row);
    }
out:
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    if (spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
    }
    rmj_text_result_destroy(positions);
    return status;
}

static void print_submitted(const struct rmj_cli *cli, const Rmjob__V1__SubmitResponse *response,
                            const Rmjob__V1__JobSpec *spec)
{
    if (cli->json) {
        rmj_cli_print_json(&response->base);
    } else {
        printf("%s\n", response->job);
    }
    fflush(stdout);
    fprintf(stderr, "spec     ok  %s  project %s%s\n", spec->name == NULL ? "" : spec->name,
            spec->project == NULL ? "default" : spec->project,
            response->existing ? "  (submitted before under this request id)" : "");
    rmj_cli_print_pinned(response->pinned, stderr);
    if (response->memory_bytes > 0) {
        fprintf(stderr, "estimate peak %.1f MiB a rank, %u-%u ranks\n", (double)response->memory_bytes / 1048576,
                spec->elastic != NULL && spec->elastic->has_min_ranks ? spec->elastic->min_ranks : 1,
                spec->elastic != NULL && spec->elastic->has_max_ranks ? spec->elastic->max_ranks : 1);
    }
    if (!cli->wait) {
        fprintf(stderr, "next     rmjob watch %s\n", response->job);
    }
}

// A service that breaks off in the middle may have taken the job. The request id makes asking again harmless, so ask
// until a service that restarts has had time to come back.
static enum rmj_status submit_until_answered(struct rmj_cli *cli, const Rmjob__V1__SubmitRequest *request,
                                             ProtobufCMessage **reply, ProtobufCMessage **findings,
                                             struct rmj_error *err)
{
    RMJ_TRY(rmj_cli_connect(cli, err));
    int64_t until = rmj_clock_mono_ms() + SUBMIT_RETRY_MS;
    for (;;) {
        enum rmj_status status = rmj_cli_call(cli, "/rmjob.v1.Jobs/Submit", &request->base,
                                              &rmjob__v1__submit_response__descriptor, reply, findings, err);
        if (status != RMJ_UNREACHABLE || rmj_clock_mono_ms() >= until) {
            return status;
        }
        rmj_clock_sleep_ms(SUBMIT_RETRY_PAUSE_MS);
    }
}

enum rmj_status rmj_cmd_submit(struct rmj_cli *cli, struct rmj_error *err)
{
    const char *file = cli->positional[0];
    struct rmj_text_result *positions = rmj_text_result_create();
    Rmjob__V1__JobSpec *spec = NULL;
    ProtobufCMessage *reply = NULL, *findings = NULL;
    char request_id[40];
    enum rmj_status status = RMJ_OK;
    int64_t timeout_ms = cli->timeout_ms;
    RMJ_GO(rmj_cli_read_spec(file, &spec, positions, err));
    if (cli->project != NULL) {
        free(spec->project);
        spec->project = strdup(cli->project);
    }
    rmj_text_make_id(request_id, sizeof request_id, "req-", 32);
    Rmjob__V1__SubmitRequest request = RMJOB__V1__SUBMIT_REQUEST__INIT;
    request.spec = spec;
    request.request_id = (char *)(cli->request_id != NULL ? cli->request_id : request_id);
    request.spec_file = (char *)file;
    cli->timeout_ms = timeout_ms > 0 ? timeout_ms : SUBMIT_DEADLINE_MS;
    status = submit_until_answered(cli, &request, &reply, &findings, err);
    cli->timeout_ms = timeout_ms;
    if (status != RMJ_OK) {
        status = refused(file, positions, findings, status, err);
        goto out;
    }
    Rmjob__V1__SubmitResponse *response = (Rmjob__V1__SubmitResponse *)reply;
    if (response->job == NULL) {
        status = rmj_fail(err, RMJ_INTERNAL, "the service took the job but named no id; see `rmjob list`");
        goto out;
    }
    RMJ_GO(rmj_cli_print_findings(file, positions, response->findings, response->n_findings, err));
    print_submitted(cli, response, spec);
    if (cli->wait) {
        status = rmj_cli_follow(cli, response->job, stderr, err);
    }
out:
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    if (spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
    }
    rmj_text_result_destroy(positions);
    return status;
}
