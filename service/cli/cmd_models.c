// models, pull, verify, doctor.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/version.h"
#include "service/cli/cli.h"
#include "storage/artifact/artifact.h"
#include "storage/object/store.h"

#define KEY_SIZE_MAX 16384

static void print_models(const Rmjob__V1__ListModelsResponse *response)
{
    size_t width = strlen("NAME");
    for (size_t i = 0; i < response->n_models; i++) {
        size_t length = response->models[i]->name == NULL ? 0 : strlen(response->models[i]->name);
        width = length > width ? length : width;
    }
    printf("%-*s  VERSION  JOB         DIGEST        ALIASES\n", (int)width, "NAME");
    for (size_t i = 0; i < response->n_models; i++) {
        const Rmjob__V1__Model *model = response->models[i];
        for (size_t v = 0; v < model->n_versions; v++) {
            const Rmjob__V1__ModelVersion *version = model->versions[v];
            printf("%-*s  %-7u  %-10s  %-12.12s ", (int)width, model->name == NULL ? "" : model->name, version->version,
                   version->job == NULL ? "" : version->job, version->digest == NULL ? "" : version->digest);
            for (size_t a = 0; a < model->n_aliases; a++) {
                if (model->aliases[a]->version == version->version) {
                    printf(" %s", model->aliases[a]->alias);
                }
            }
            printf("\n");
        }
    }
}

enum rmj_status rmj_cmd_models(struct rmj_cli *cli, struct rmj_error *err)
{
    Rmjob__V1__ListModelsRequest request = RMJOB__V1__LIST_MODELS_REQUEST__INIT;
    request.name = (char *)(cli->positional_count > 0 ? cli->positional[0] : NULL);
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Registry/ListModels", &request.base,
                         &rmjob__v1__list_models_response__descriptor, &reply, NULL, err));
    Rmjob__V1__ListModelsResponse *response = (Rmjob__V1__ListModelsResponse *)reply;
    if (cli->json) {
        rmj_cli_print_json(reply);
    } else if (response->n_models == 0) {
        fprintf(stderr, "nothing is published yet\n");
    } else {
        print_models(response);
    }
    protobuf_c_message_free_unpacked(reply, NULL);
    return RMJ_OK;
}

static enum rmj_status artifact_of(const Rmjob__V1__ModelVersion *version, struct rmj_artifact *artifact,
                                   struct rmj_error *err)
{
    for (size_t i = 0; i < version->n_files; i++) {
        const Rmjob__V1__ArtifactFile *file = version->files[i];
        struct rmj_digest digest;
        if (file->path == NULL || file->sha256 == NULL || !rmj_digest_from_hex(&digest, file->sha256)) {
            return rmj_fail(err, RMJ_CORRUPT, "%s version %u: file %zu of its list has no path or digest",
                            version->name, version->version, i + 1);
        }
        RMJ_TRY(rmj_artifact_add(artifact, file->path, file->size, &digest, err));
    }
    return RMJ_OK;
}

static enum rmj_status pull_version(struct rmj_cli *cli, const Rmjob__V1__ModelVersion *version, const char *directory,
                                    struct rmj_error *err)
{
    struct rmj_artifact artifact = {0};
    struct rmj_store *store = NULL;
    struct rmj_buf pem;
    rmj_buf_init(&pem, KEY_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    if (version->store == NULL || version->prefix == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s version %u: its record says no store or prefix", version->name,
                          version->version);
        goto out;
    }
    RMJ_GO(artifact_of(version, &artifact, err));
    RMJ_GO(rmj_store_open(&store, version->store, 0, NULL, err));
    RMJ_GO(rmj_cli_pinned_key(cli, &pem, err));
    RMJ_GO(rmj_artifact_download(store, version->prefix, &artifact, directory, rmj_buf_text(&pem), err));
out:
    rmj_buf_deinit(&pem);
    rmj_store_close(store);
    rmj_artifact_deinit(&artifact);
    return status;
}

enum rmj_status rmj_cmd_pull(struct rmj_cli *cli, struct rmj_error *err)
{
    const char *directory = cli->positional[1];
    Rmjob__V1__ResolveRequest request = RMJOB__V1__RESOLVE_REQUEST__INIT;
    request.reference = (char *)cli->positional[0];
    ProtobufCMessage *reply = NULL;
    RMJ_TRY(rmj_cli_call(cli, "/rmjob.v1.Registry/Resolve", &request.base, &rmjob__v1__model_version__descriptor,
                         &reply, NULL, err));
    Rmjob__V1__ModelVersion *version = (Rmjob__V1__ModelVersion *)reply;
    enum rmj_status status = pull_version(cli, version, directory, err);
    if (status == RMJ_OK && cli->json) {
        rmj_cli_print_json(reply);
    } else if (status == RMJ_OK) {
        printf("%s\n", directory);
        fprintf(stderr, "%s version %u, %zu files, root sha256:%.12s: digests and signature hold\n", version->name,
                version->version, version->n_files, version->digest == NULL ? "" : version->digest);
    }
    protobuf_c_message_free_unpacked(reply, NULL);
    return status;
}

enum rmj_status rmj_cmd_verify(struct rmj_cli *cli, struct rmj_error *err)
{
    const char *directory = cli->positional[0];
    struct rmj_buf pem;
    rmj_buf_init(&pem, KEY_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    if (!rmj_fs_exists(directory)) {
        status = rmj_fail(err, RMJ_INVALID, "%s does not exist", directory);
        goto out;
    }
    if (cli->key != NULL) {
        status = rmj_fs_read(cli->key, &pem, err);
        if (status != RMJ_OK) {
            err->status = status = RMJ_INVALID;
            goto out;
        }
    } else {
        RMJ_GO(rmj_cli_pinned_key(cli, &pem, err));
    }
    RMJ_GO(rmj_artifact_verify(directory, rmj_buf_text(&pem), err));
    if (cli->json) {
        printf("{\"verified\": true}\n");
    } else {
        printf("%s: signature and every file hold\n", directory);
    }
out:
    rmj_buf_deinit(&pem);
    return status;
}

// What doctor found: the lines as they come, or a list for one JSON object.
struct findings {
    json_t *list; // NULL: print
    int bad;
};

static void check(struct findings *findings, int good, const char *what, const char *mend)
{
    findings->bad += !good;
    if (findings->list != NULL) {
        json_t *entry = json_pack("{s:b, s:s}", "ok", good, "what", what);
        if (!good && mend != NULL) {
            json_object_set_new(entry, "mend", json_string(mend));
        }
        json_array_append_new(findings->list, entry);
        return;
    }
    printf("%-4s %s%s%s\n", good ? "ok" : "BAD", what, good || mend == NULL ? "" : "; ",
           good || mend == NULL ? "" : mend);
}

static void check_machine(struct findings *findings)
{
    char line[128];
#if defined(__x86_64__)
    check(findings, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), "the processor has AVX2 and FMA",
          "CPU ranks need both; use another machine");
#endif
    snprintf(line, sizeof line, "%ld cores, %.1f GiB of memory", sysconf(_SC_NPROCESSORS_ONLN),
             (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 30));
    check(findings, 1, line, NULL);
}

static enum rmj_status check_service(struct rmj_cli *cli, struct findings *findings)
{
    char line[512];
    struct rmj_error connection = {0};
    enum rmj_status status = rmj_cli_connect(cli, &connection);
    if (status != RMJ_OK) {
        check(findings, 0, connection.message, NULL);
        return status;
    }
    snprintf(line, sizeof line, "service at %s: version %s, %u job%s running", rmj_cli_server_address(cli),
             cli->info->version == NULL ? "unknown" : cli->info->version, cli->info->jobs_running,
             cli->info->jobs_running == 1 ? "" : "s");
    check(findings, 1, line, NULL);
    char *pin = rmj_cli_pin_path(cli);
    snprintf(line, sizeof line, "signing key pinned in %s", pin);
    check(findings, rmj_fs_exists(pin), line, "the service sent no key; is its state directory writable?");
    free(pin);
    return RMJ_OK;
}

// The room where the service keeps its state; without a service, where we stand.
static void check_disk(const struct rmj_cli *cli, struct findings *findings)
{
    char line[512];
    struct statvfs disk;
    const char *state = cli->info != NULL && cli->info->state_directory != NULL ? cli->info->state_directory : ".";
    if (statvfs(state, &disk) == 0) {
        double free_gib = (double)disk.f_bavail * (double)disk.f_frsize / (1 << 30);
        snprintf(line, sizeof line, "%.1f GiB free in %s", free_gib,
                 strcmp(state, ".") == 0 ? "this directory" : state);
        check(findings, free_gib >= 1, line, "checkpoints and artifacts need room");
    }
}

enum rmj_status rmj_cmd_doctor(struct rmj_cli *cli, struct rmj_error *err)
{
    struct findings findings = {.list = cli->json ? json_array() : NULL};
    check_machine(&findings);
    enum rmj_status status = check_service(cli, &findings);
    check_disk(cli, &findings);
    if (findings.list != NULL) {
        json_t *result = json_pack("{s:b, s:o}", "ok", findings.bad == 0, "checks", findings.list);
        json_dumpf(result, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(result);
    }
    if (findings.bad == 0) {
        return RMJ_OK;
    }
    return rmj_fail(err, status != RMJ_OK ? status : RMJ_IO, "%d of the checks failed", findings.bad);
}
