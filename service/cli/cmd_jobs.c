// get, list, watch, logs, explain, cancel, resize: everything about a job.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "service/cli/cli.h"

#define LIST_LIMIT_DEFAULT 50
#define CHUNK_JSON_SIZE_MAX (16u << 20)

static enum rmj_status call_for_job(struct rmj_cli *cli, const char *method, const ProtobufCMessage *request,
                                    Rmjob__V1__Job **job, struct rmj_error *err)
{
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, method, request, &rmjob__v1__job__descriptor, &reply, NULL, err));
    *job = (Rmjob__V1__Job *)reply;
    return RMJ_OK;
}

static enum rmj_status show_job(struct rmj_cli *cli, const char *method, const ProtobufCMessage *request,
                                struct rmj_error *err)
{
    Rmjob__V1__Job *job = NULL;
    RMJ_TRY(call_for_job(cli, method, request, &job, err));
    if (cli->json) {
        rmj_cli_print_json(&job->base);
    } else {
        rmj_cli_print_job(job, stdout, cli->colour_out);
    }
    rmjob__v1__job__free_unpacked(job, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_get(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    return show_job(cli, "/rmjob.v1.Jobs/Get", &request.base, err);
}

static const char *name_of(const Rmjob__V1__Job *job)
{
    return job->spec != NULL && job->spec->name != NULL ? job->spec->name : "";
}

static const char *project_of(const Rmjob__V1__Job *job)
{
    return job->spec != NULL && job->spec->project != NULL ? job->spec->project : "default";
}

static int wider(int width, const char *text)
{
    int length = (int)strlen(text);
    return length > width ? length : width;
}

// Columns are as wide as what stands in them: most jobs fit a window of 80.
static void print_jobs(const Rmjob__V1__ListJobsResponse *response)
{
    int id = 3, state = 5, name = 4, project = 7;
    for (size_t i = 0; i < response->n_jobs; i++) {
        const Rmjob__V1__Job *job = response->jobs[i];
        id = wider(id, job->id == NULL ? "" : job->id);
        state = wider(state, rmj_cli_state_name(job->state));
        name = wider(name, name_of(job));
        project = wider(project, project_of(job));
    }
    printf("%-*s  %-*s  %-*s  %-*s  %-16s  STEP\n", id, "JOB", state, "STATE", name, "NAME", project, "PROJECT",
           "SUBMITTED");
    for (size_t i = 0; i < response->n_jobs; i++) {
        const Rmjob__V1__Job *job = response->jobs[i];
        char submitted[32];
        time_t seconds = (time_t)(job->submitted_unix_ms / 1000);
        struct tm local;
        localtime_r(&seconds, &local);
        strftime(submitted, sizeof submitted, "%Y-%m-%d %H:%M", &local);
        printf("%-*s  %-*s  %-*s  %-*s  %-16s  ", id, job->id == NULL ? "" : job->id, state,
               rmj_cli_state_name(job->state), name, name_of(job), project, project_of(job), submitted);
        if (job->progress != NULL && job->progress->steps > 0) {
            printf("%u/%u", job->progress->step, job->progress->steps);
        } else {
            printf("-");
        }
        printf("\n");
    }
}

enum rmj_status rmj_cmd_list(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__ListJobsRequest request = RMJOB__V1__LIST_JOBS_REQUEST__INIT;
    request.project = (char *)cli->project;
    request.has_limit = 1;
    request.limit = cli->limit > 0 ? (uint32_t)cli->limit : LIST_LIMIT_DEFAULT;
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Jobs/List", &request.base, &rmjob__v1__list_jobs_response__descriptor, &reply,
                         NULL, err));
    Rmjob__V1__ListJobsResponse *response = (Rmjob__V1__ListJobsResponse *)reply;
    if (cli->json) {
        rmj_cli_print_json(reply);
    } else if (response->n_jobs == 0 && cli->project != NULL) {
        fprintf(stderr, "no jobs in project %s\n", cli->project);
    } else if (response->n_jobs == 0) {
        fprintf(stderr, "no jobs yet; start with `rmjob init job.yaml`\n");
    } else {
        print_jobs(response);
        if (response->n_jobs == request.limit) {
            fprintf(stderr, "the newest %u; more with --limit N\n", request.limit);
        }
    }
    protobuf_c_message_free_unpacked(reply, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_watch(struct rmj_cli *cli, struct rmj_error *err)
{
    return rmj_cli_follow(cli, cli->positional[0], stdout, err);
}

static void print_chunk(const struct rmj_cli *cli, const Rmjob__V1__LogChunk *chunk, char *last_rank, size_t size)
{
    if (cli->json) {
        struct rmj_buf line;
        rmj_buf_init(&line, CHUNK_JSON_SIZE_MAX);
        rmj_json_print(&chunk->base, 0, &line);
        printf("%s\n", rmj_buf_text(&line));
        rmj_buf_deinit(&line);
    } else {
        if (chunk->rank != NULL && strcmp(chunk->rank, last_rank) != 0 && cli->rank == NULL) {
            snprintf(last_rank, size, "%s", chunk->rank);
            printf("==> %s <==\n", last_rank);
        }
        fwrite(chunk->data.data, 1, chunk->data.len, stdout);
    }
    fflush(stdout);
}

enum rmj_status rmj_cmd_logs(struct rmj_cli *cli, struct rmj_error *err)
{
    RMJ_TRY(rmj_cli_connect(cli, err));
    Rmjob__V1__LogsRequest request = RMJOB__V1__LOGS_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    request.rank = (char *)cli->rank;
    request.has_follow = 1;
    request.follow = cli->follow;
    struct rmj_rpc_stream *stream = NULL;
    RMJ_TRY(rmj_rpc_stream_open(&stream, cli->client, "/rmjob.v1.Jobs/Logs", &request.base,
                                &rmjob__v1__log_chunk__descriptor, cli->timeout_ms, err));
    enum rmj_status status = RMJ_OK;
    char last_rank[80] = "";
    for (;;) {
        ProtobufCMessage *message = NULL;
        status = rmj_rpc_stream_next(stream, -1, &message, err);
        if (status != RMJ_OK || message == NULL) {
            break;
        }
        print_chunk(cli, (Rmjob__V1__LogChunk *)message, last_rank, sizeof last_rank);
        protobuf_c_message_free_unpacked(message, NULL);
        if (ferror(stdout)) {
            break; // main says it
        }
    }
    rmj_rpc_stream_close(stream);
    return status;
}

// Every check that failed, what the pattern of them means, and where the rows are to be seen.
static void explain_verdict(const char *job, const Rmjob__V1__GateVerdict *verdict)
{
    const char *category = NULL;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        const Rmjob__V1__GateCheck *check = verdict->checks[i];
        if (check->passed || check->name == NULL) {
            continue;
        }
        // The spread of the scores is in their own unit; everything else is a share.
        int share = strcmp(check->name, "score_std") != 0;
        printf("what   %s is ", check->name);
        if (check->has_value) {
            printf(share ? "%.1f %%" : "%.3f", share ? 100 * check->value : check->value);
        } else {
            printf("undefined");
        }
        printf(share ? ", needs %.1f %%" : ", needs %.3f", share ? 100 * check->needs : check->needs);
        printf("%s%s\n", check->note != NULL && *check->note != '\0' ? ": " : "",
               check->note == NULL ? "" : check->note);
        category = category == NULL && rmj_cli_is_category(check->name) ? check->name : category;
    }
    if (verdict->pattern != NULL) {
        printf("likely %s\n", verdict->pattern);
    }
    printf("see    rmjob report %s%s%s\n", job, category != NULL ? " --failures " : "",
           category != NULL ? category : "");
}

enum rmj_status rmj_cmd_explain(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__GetJobRequest request = RMJOB__V1__GET_JOB_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    Rmjob__V1__Job *job = NULL;
    RMJ_TRY(call_for_job(cli, "/rmjob.v1.Jobs/Get", &request.base, &job, err));
    if (cli->json) {
        rmj_cli_print_json(&job->base);
    } else {
        printf("%s %s", job->id, rmj_cli_state_name(job->state));
        if (job->progress != NULL && job->progress->steps > 0) {
            printf(" at step %u of %u", job->progress->step, job->progress->steps);
        }
        printf("\nwhy    %s\n", job->reason == NULL ? "" : job->reason);
        for (size_t i = 0; i < job->n_explanation; i++) {
            printf("%s\n", job->explanation[i]);
        }
        if (job->verdict != NULL && !job->verdict->passed) {
            explain_verdict(job->id, job->verdict);
        }
    }
    rmjob__v1__job__free_unpacked(job, NULL);
    return RMJ_OK;
}

enum rmj_status rmj_cmd_cancel(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__CancelRequest request = RMJOB__V1__CANCEL_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    request.reason = (char *)(cli->reason == NULL ? "cancelled by the user" : cli->reason);
    Rmjob__V1__Job *job = NULL;
    RMJ_TRY(call_for_job(cli, "/rmjob.v1.Jobs/Cancel", &request.base, &job, err));
    if (cli->json) {
        rmj_cli_print_json(&job->base);
    } else {
        rmj_cli_print_job(job, stdout, cli->colour_out);
    }
    // Judged and half published is past the point where stopping leaves nothing behind.
    enum rmj_status status = job->state == RMJOB__V1__JOB_STATE__PUBLISHING
                                 ? rmj_fail(err, RMJ_CONFLICT, "%s is being published: too late to cancel", job->id)
                                 : RMJ_OK;
    rmjob__v1__job__free_unpacked(job, NULL);
    return status;
}

enum rmj_status rmj_cmd_resize(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->ranks_max == 0 && cli->ranks_min == 0) {
        return rmj_fail(err, RMJ_INVALID, "nothing to change; give --max-ranks N, --min-ranks N or both");
    }
    Rmjob__V1__ResizeRequest request = RMJOB__V1__RESIZE_REQUEST__INIT;
    request.job = (char *)cli->positional[0];
    request.has_max_ranks = cli->ranks_max > 0;
    request.max_ranks = (uint32_t)cli->ranks_max;
    request.has_min_ranks = cli->ranks_min > 0;
    request.min_ranks = (uint32_t)cli->ranks_min;
    return show_job(cli, "/rmjob.v1.Jobs/Resize", &request.base, err);
}
