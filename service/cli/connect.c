// Finding the service, speaking to it, and pinning its key.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/version.h"
#include "service/cli/cli.h"

#define KEY_SIZE_MAX 16384

// The embedded default lives in one directory; see rmjobd --state.
static void default_address(char *out, size_t size)
{
    const char *state = getenv("RMJOB_STATE");
    const char *home = getenv("HOME");
    if (state != NULL && *state != '\0') {
        snprintf(out, size, "unix:%s/rmjobd.sock", state);
    } else {
        snprintf(out, size, "unix:%s/.local/state/rmjob/rmjobd.sock", home == NULL ? "/root" : home);
    }
}

const char *rmj_cli_server_address(const struct rmj_cli *cli)
{
    static char fallback[4096];
    if (cli->server != NULL) {
        return cli->server;
    }
    const char *environment = getenv("RMJOB_SERVER");
    if (environment != NULL && *environment != '\0') {
        return environment;
    }
    default_address(fallback, sizeof fallback);
    return fallback;
}

static int64_t deadline_of(const struct rmj_cli *cli)
{
    return cli->timeout_ms > 0 ? cli->timeout_ms : RMJ_CLI_DEADLINE_MS;
}

char *rmj_cli_pin_path(const struct rmj_cli *cli)
{
    const char *address = rmj_cli_server_address(cli);
    if (strncmp(address, "unix:", 5) == 0) {
        // The socket's directory is private to its owner; the pin lives and dies with the service's state.
        const char *slash = strrchr(address, '/');
        char directory[4096];
        snprintf(directory, sizeof directory, "%.*s", slash == NULL ? 1 : (int)(slash - address - 5),
                 slash == NULL ? "." : address + 5);
        return rmj_fs_join(directory, "pinned-key.pem");
    }
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    char path[4096];
    int length = config != NULL && *config != '\0'
                     ? snprintf(path, sizeof path, "%s/rmjob/keys/", config)
                     : snprintf(path, sizeof path, "%s/.config/rmjob/keys/", home == NULL ? "/root" : home);
    RMJ_ASSERT(length >= 0);
    struct rmj_buf name;
    rmj_buf_init(&name, 2 * sizeof path);
    rmj_buf_append(&name, path, (size_t)length < sizeof path ? (size_t)length : sizeof path - 1);
    for (const char *c = address; *c != '\0'; c++) {
        rmj_buf_putc(&name, *c == '/' || *c == ':' ? '_' : *c);
    }
    rmj_buf_puts(&name, ".pem");
    return rmj_buf_detach(&name);
}

static enum rmj_status pin_key(const char *path, const char *pem, struct rmj_error *err)
{
    struct rmj_buf known;
    rmj_buf_init(&known, KEY_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    if (rmj_fs_exists(path)) {
        RMJ_GO(rmj_fs_read(path, &known, err));
        if (strcmp(rmj_buf_text(&known), pem) != 0) {
            status = rmj_fail(err, RMJ_DENIED,
                              "the service's signing key is not the one pinned in %s; when the change is meant, remove "
                              "that file",
                              path);
        }
        goto out;
    }
    char *directory = strdup(path);
    *strrchr(directory, '/') = '\0';
    status = rmj_fs_make_directories(directory, 0700, err);
    free(directory);
    if (status == RMJ_OK) {
        status = rmj_fs_write(path, pem, strlen(pem), 0600, err);
    }
out:
    rmj_buf_deinit(&known);
    return status;
}

enum rmj_status rmj_cli_connect(struct rmj_cli *cli, struct rmj_error *err)
{
    if (cli->client != NULL) {
        return RMJ_OK;
    }
    const char *address = rmj_cli_server_address(cli);
    RMJ_TRY(rmj_rpc_client_create(&cli->client, address, getenv("RMJOB_TOKEN"), err));
    Rmjob__V1__ServerInfoRequest request = RMJOB__V1__SERVER_INFO_REQUEST__INIT;
    request.client_version = RMJ_VERSION;
    ProtobufCMessage *reply = NULL;
    enum rmj_status status = rmj_rpc_call(cli->client, "/rmjob.v1.Jobs/GetServerInfo", &request.base,
                                          &rmjob__v1__server_info__descriptor, deadline_of(cli), &reply, NULL, err);
    if (status == RMJ_UNREACHABLE) {
        return rmj_fail(err, status, "no service at %s; start `rmjobd`, or name another with --server", address);
    }
    if (status != RMJ_OK) {
        return rmj_context(err, "%s", address);
    }
    cli->info = (Rmjob__V1__ServerInfo *)reply;
    if (cli->info->protocol != RMJ_PROTOCOL) {
        return rmj_fail(err, RMJ_INVALID,
                        "the service at %s is version %s (protocol %u), this rmjob is %s (protocol %d); use the same "
                        "version on both sides",
                        address, cli->info->version == NULL ? "unknown" : cli->info->version, cli->info->protocol,
                        RMJ_VERSION, RMJ_PROTOCOL);
    }
    if (cli->info->signing_key_pem != NULL) {
        char *path = rmj_cli_pin_path(cli);
        status = pin_key(path, cli->info->signing_key_pem, err);
        free(path);
    }
    return status;
}

enum rmj_status rmj_cli_pinned_key(struct rmj_cli *cli, struct rmj_buf *pem, struct rmj_error *err)
{
    char *path = rmj_cli_pin_path(cli);
    enum rmj_status status = RMJ_OK;
    if (!rmj_fs_exists(path)) {
        status = rmj_cli_connect(cli, err);
        if (status != RMJ_OK) {
            rmj_context(err, "no key is pinned yet; give one with --key");
        }
    }
    if (status == RMJ_OK) {
        status = rmj_fs_read(path, pem, err);
    }
    free(path);
    return status;
}

enum rmj_status rmj_cli_call(struct rmj_cli *cli, const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *reply_descriptor, ProtobufCMessage **reply,
                             ProtobufCMessage **findings, struct rmj_error *err)
{
    RMJ_TRY(rmj_cli_connect(cli, err));
    return rmj_rpc_call(cli->client, method, request, reply_descriptor, deadline_of(cli), reply, findings, err);
}
