// report, gate, evaluate, policy: what was measured and what it must reach.
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "service/cli/cli.h"
#include "service/gate/gate.h"
#include "service/gate/page.h"

#define SCORES_SIZE_MAX ((size_t)1 << 30)
#define TEXT_SIZE_MAX ((size_t)64 << 20)

static void print_failures(const char *category, const Rmjob__V1__GetReportResponse *response)
{
    printf("\nrows of %s without full credit: %zu\n", category, response->n_failures);
    for (size_t i = 0; i < response->n_failures; i++) {
        const Rmjob__V1__FailedRow *row = response->failures[i];
        printf("  %-10s", row->id);
        for (size_t k = 0; k < row->n_scores; k++) {
            printf("%s%.4f", k == row->num_correct ? " | " : " ", row->scores[k]);
        }
        printf("\n");
    }
    if (response->n_failures > 0) {
        printf("  (right answers stand before the bar)\n");
    }
}

static enum rmj_status write_page(const Rmjob__V1__JobReport *report, const char *path, struct rmj_error *err)
{
    struct rmj_buf page;
    rmj_buf_init(&page, TEXT_SIZE_MAX);
    rmj_report_page(report, &page);
    enum rmj_status status = rmj_buf_check(&page, err);
    if (status == RMJ_OK) {
        status = rmj_fs_write(path, rmj_buf_text(&page), page.size, 0644, err);
    }
    rmj_buf_deinit(&page);
    return status == RMJ_OK ? RMJ_OK : rmj_context(err, "--html");
}

enum rmj_status rmj_cmd_report(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->failures != NULL && !rmj_cli_is_category(cli->failures)) {
        return rmj_fail(err, RMJ_INVALID,
                        "--failures is '%s'; it must be factuality, precise_if, math, safety, focus or ties",
                        cli->failures);
    }
    Rmjob__V1__GetReportRequest request = RMJOB__V1__GET_REPORT_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    request.failures_category = (char *)cli->failures;
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Jobs/GetReport", &request.base, &rmjob__v1__get_report_response__descriptor,
                         &reply, NULL, err));
    Rmjob__V1__GetReportResponse *response = (Rmjob__V1__GetReportResponse *)reply;
    if (cli->json) {
        // Without --failures the report alone, which `rmjob gate` reads.
        rmj_cli_print_json(cli->failures == NULL && response->report != NULL ? &response->report->base : reply);
    } else if (response->report != NULL) {
        struct rmj_buf out;
        rmj_buf_init(&out, TEXT_SIZE_MAX);
        rmj_report_print(response->report, cli->colour_out, &out);
        fputs(rmj_buf_text(&out), stdout);
        rmj_buf_deinit(&out);
        if (cli->failures != NULL) {
            print_failures(cli->failures, response);
        }
    }
    enum rmj_status status = RMJ_OK;
    if (cli->html != NULL && response->report != NULL) {
        status = write_page(response->report, cli->html, err);
    }
    protobuf_c_message_free_unpacked(reply, NULL);
    return status;
}

static enum rmj_status read_report(const char *path, Rmjob__V1__EvalReport **report, struct rmj_error *err)
{
    struct rmj_buf text;
    enum rmj_status status = rmj_cli_read_file(path, SCORES_SIZE_MAX, &text, err);
    if (status == RMJ_OK) {
        status = rmj_report_from_rb2_file(rmj_buf_text(&text), text.size, strcmp(path, "-") == 0 ? "stdin" : path,
                                          report, err);
    }
    rmj_buf_deinit(&text);
    return status;
}

enum rmj_status rmj_cmd_evaluate(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->scores == NULL) {
        return rmj_fail(err, RMJ_INVALID, "give --scores FILE, a score file of RewardBench 2");
    }
    Rmjob__V1__EvalReport *report = NULL;
    RMJ_TRY(read_report(cli->scores, &report, err));
    struct rmj_buf out;
    rmj_buf_init(&out, TEXT_SIZE_MAX);
    if (cli->json) {
        rmj_report_categories_json(report, &out);
        printf("%s\n", rmj_buf_text(&out));
    } else {
        Rmjob__V1__JobReport whole = RMJOB__V1__JOB_REPORT__INIT;
        whole.evaluation = report;
        rmj_report_print(&whole, cli->colour_out, &out);
        // The head line is about a job; there is none here.
        const char *body = strchr(rmj_buf_text(&out), '\n');
        fputs(body == NULL ? "" : body + 1 + strspn(body + 1, "\n"), stdout);
    }
    rmj_buf_deinit(&out);
    rmjob__v1__eval_report__free_unpacked(report, NULL);
    return RMJ_OK;
}

// Reads the thresholds: from a spec's gate section, from a policy's floors, or both.
static enum rmj_status read_thresholds(const struct rmj_cli *cli, Rmjob__V1__JobSpec **spec, Rmjob__V1__Policy **policy,
                                       struct rmj_error *err)
{
    struct rmj_text_result *positions = rmj_text_result_create();
    Rmjob__V1__ValidateResponse *findings = calloc(1, sizeof *findings);
    rmjob__v1__validate_response__init(findings);
    ProtobufCMessage *message = NULL;
    enum rmj_status status = RMJ_OK;
    if (cli->policy != NULL) {
        RMJ_GO(rmj_cli_read_message(&rmjob__v1__policy__descriptor, cli->policy, &message, positions, err));
        *policy = (Rmjob__V1__Policy *)message;
    }
    if (cli->spec != NULL) {
        RMJ_GO(rmj_cli_read_spec(cli->spec, spec, positions, err));
        rmj_gate_check_spec((*spec)->gate, *policy == NULL ? NULL : (*policy)->floors, findings);
        RMJ_GO(rmj_cli_print_findings(cli->spec, positions, findings->findings, findings->n_findings, err));
    }
out:
    rmjob__v1__validate_response__free_unpacked(findings, NULL);
    rmj_text_result_destroy(positions);
    return status;
}

enum rmj_status rmj_cmd_gate(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->spec == NULL && cli->policy == NULL) {
        return rmj_fail(err, RMJ_INVALID, "give the thresholds: --spec SPEC, --policy FILE or both");
    }
    Rmjob__V1__JobSpec *spec = NULL;
    Rmjob__V1__Policy *policy = NULL;
    Rmjob__V1__EvalReport *report = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(read_thresholds(cli, &spec, &policy, err));
    RMJ_GO(read_report(cli->positional[0], &report, err));
    Rmjob__V1__GateVerdict *verdict =
        rmj_gate_decide(report, spec == NULL ? NULL : spec->gate, policy == NULL ? NULL : policy->floors, NULL);
    const char *name = cli->name != NULL                                                      ? cli->name
                       : spec != NULL && spec->publish != NULL && spec->publish->name != NULL ? spec->publish->name
                                                                                              : cli->positional[0];
    if (cli->json) {
        rmj_cli_print_json(&verdict->base);
    } else {
        struct rmj_buf out;
        rmj_buf_init(&out, TEXT_SIZE_MAX);
        rmj_gate_print(verdict, name, NULL, cli->colour_out, &out);
        fputs(rmj_buf_text(&out), stdout);
        rmj_buf_deinit(&out);
    }
    // The table says why; the exit code says it to machines.
    status = verdict->n_checks == 0 ? rmj_fail(err, RMJ_INVALID, "no thresholds were given, so nothing was decided")
             : verdict->passed      ? RMJ_OK
                                    : RMJ_GATE;
    rmjob__v1__gate_verdict__free_unpacked(verdict, NULL);
out:
    if (spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
    }
    if (policy != NULL) {
        rmjob__v1__policy__free_unpacked(policy, NULL);
    }
    if (report != NULL) {
        rmjob__v1__eval_report__free_unpacked(report, NULL);
    }
    return status;
}

static void show_policy(const struct rmj_cli *cli, const ProtobufCMessage *policy)
{
    if (cli->json) {
        rmj_cli_print_json(policy);
        return;
    }
    struct rmj_buf out;
    rmj_buf_init(&out, TEXT_SIZE_MAX);
    rmj_yaml_print(policy, &out);
    fputs(rmj_buf_text(&out), stdout);
    rmj_buf_deinit(&out);
}

enum rmj_status rmj_cmd_policy_get(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__GetPolicyRequest request = RMJOB__V1__GET_POLICY_REQUEST__INIT;
    request.project = (char *)(cli->positional_count > 0 ? cli->positional[0]
                               : cli->project != NULL    ? cli->project
                                                         : "default");
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Jobs/GetPolicy", &request.base, &rmjob__v1__policy__descriptor, &reply, NULL,
                         err));
    show_policy(cli, reply);
    protobuf_c_message_free_unpacked(reply, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_policy_set(struct rmj_cli *cli, struct rmj_error *err)
{
    const char *file = cli->positional_count > 1 ? cli->positional[1] : "-";
    struct rmj_text_result *positions = rmj_text_result_create();
    ProtobufCMessage *message = NULL, *reply = NULL, *findings = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_cli_read_message(&rmjob__v1__policy__descriptor, file, &message, positions, err));
    Rmjob__V1__Policy *policy = (Rmjob__V1__Policy *)message;
    if (policy->project != NULL && strcmp(policy->project, cli->positional[0]) != 0) {
        status = rmj_fail(err, RMJ_INVALID, "%s is a policy of project '%s', not '%s'", file, policy->project,
                          cli->positional[0]);
        goto out;
    }
    free(policy->project);
    policy->project = strdup(cli->positional[0]);
    Rmjob__V1__SetPolicyRequest request = RMJOB__V1__SET_POLICY_REQUEST__INIT;
    request.policy = policy;
    status = rmj_cli_call(cli, "/rmjob.v1.Jobs/SetPolicy", &request.base, &rmjob__v1__policy__descriptor, &reply,
                          &findings, err);
    if (status == RMJ_OK) {
        show_policy(cli, reply);
    } else if (findings != NULL) {
        Rmjob__V1__ValidateResponse *response = (Rmjob__V1__ValidateResponse *)findings;
        (void)rmj_cli_print_findings(file, positions, response->findings, response->n_findings, err);
    }
out:
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    if (findings != NULL) {
        protobuf_c_message_free_unpacked(findings, NULL);
    }
    rmj_text_result_destroy(positions);
    return status;
}
