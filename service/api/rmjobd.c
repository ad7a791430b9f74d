// rmjobd: the service. Options, signals, and the loop of service.h.
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "service/api/service.h"

#define LISTEN_MAX 7
#define TOKEN_LENGTH_MIN 16
#define TOKEN_SIZE_MAX 4096
#define GRACE_MS 5000

static const char usage[] =
    "rmjobd: trains, judges and publishes reward models; rmjob talks to it\n"
    "\n"
    "  rmjobd [--state DIR] [--listen ADDR]... [--slots N] [--token-file FILE] [--grace 5s]\n"
    "\n"
    "  --state DIR        where it keeps everything (default: $RMJOB_STATE, else ~/.local/state/rmjob)\n"
    "  --listen ADDR      besides unix:DIR/rmjobd.sock, for instance 127.0.0.1:7443; needs --token-file\n"
    "  --slots N          rank processes at once (default: the machine's cores)\n"
    "  --token-file FILE  token that callers on a network address must send (RMJOB_TOKEN of rmjob)\n"
    "  --grace TIME       how long SIGTERM waits for calls to end; ranks go on running (default: 5s)\n"
    "  --version, --help\n";

struct settings {
    char *state;
    const char *addresses[LISTEN_MAX];
    size_t address_count;
    char *token;
    uint32_t slots;
    int64_t grace_ms;
    int done; // help or version was printed
};

static enum rmj_status read_token(const char *path, char **token, struct rmj_error *err)
{
    struct rmj_buf text;
    struct stat about;
    rmj_buf_init(&text, TOKEN_SIZE_MAX);
    enum rmj_status status = rmj_fs_read(path, &text, err);
    if (status == RMJ_OK && stat(path, &about) == 0 && (about.st_mode & 077) != 0) {
        status = rmj_fail(err, RMJ_DENIED, "%s can be read by others; chmod 600 it", path);
    }
    if (status == RMJ_OK) {
        size_t length = strcspn(rmj_buf_text(&text), "\r\n");
        *token = strndup(rmj_buf_text(&text), length);
        if (length < TOKEN_LENGTH_MIN) {
            status = rmj_fail(err, RMJ_INVALID, "the token in %s has %zu characters; use at least %d, random ones",
                              path, length, TOKEN_LENGTH_MIN);
        }
    }
    rmj_buf_deinit(&text);
    return status;
}

static enum rmj_status take_option(struct settings *settings, int option, const char *value, struct rmj_error *err)
{
    char *end = NULL;
    unsigned long number;
    switch (option) {
    case 's':
        free(settings->state);
        settings->state = strdup(value);
        return *value != '\0' ? RMJ_OK : rmj_fail(err, RMJ_INVALID, "--state needs a directory");
    case 'l':
        if (settings->address_count == LISTEN_MAX) {
            return rmj_fail(err, RMJ_INVALID, "--listen can be given %d times", LISTEN_MAX);
        }
        settings->addresses[settings->address_count++] = value;
        return RMJ_OK;
    case 'n':
        number = strtoul(value, &end, 10);
        settings->slots = (uint32_t)number;
        return *value >= '0' && *value <= '9' && *end == '\0' && number >= 1 && number <= 1024
                   ? RMJ_OK
                   : rmj_fail(err, RMJ_INVALID, "--slots is %s; 1 to 1024", value);
    case 't':
        return read_token(value, &settings->token, err);
    case 'g':
        return rmj_text_parse_duration(value, &settings->grace_ms)
                   ? RMJ_OK
                   : rmj_fail(err, RMJ_INVALID, "--grace is %s; a duration, for instance 5s", value);
    case 'v':
        settings->done = 1;
        printf("rmjobd %s (protocol %d)\n", RMJ_VERSION, RMJ_PROTOCOL);
        return RMJ_OK;
    case 'h':
        settings->done = 1;
        fputs(usage, stdout);
        return RMJ_OK;
    default:
        return rmj_fail(err, RMJ_INVALID, "see rmjobd --help");
    }
}

static enum rmj_status parse(int argc, char **argv, struct settings *settings, struct rmj_error *err)
{
    static const struct option options[] = {
        {"state", required_argument, NULL, 's'}, {"listen", required_argument, NULL, 'l'},
        {"slots", required_argument, NULL, 'n'}, {"token-file", required_argument, NULL, 't'},
        {"grace", required_argument, NULL, 'g'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    int option;
    while (!settings->done && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        RMJ_TRY(take_option(settings, option, optarg, err));
    }
    if (!settings->done && optind < argc) {
        return rmj_fail(err, RMJ_INVALID, "what is %s? see rmjobd --help", argv[optind]);
    }
    const char *state = getenv("RMJOB_STATE");
    const char *home = getenv("HOME");
    if (settings->state == NULL) {
        settings->state = state != NULL && *state != '\0'
                              ? strdup(state)
                              : rmj_fs_join(home == NULL ? "/root" : home, ".local/state/rmjob");
    }
    return RMJ_OK;
}

static enum rmj_status serve(const struct settings *settings, int stop_fd, int *clean, struct rmj_error *err)
{
    struct rmj_service_options options = {.state_directory = settings->state,
                                          .addresses = settings->addresses,
                                          .address_count = settings->address_count,
                                          .token = settings->token,
                                          .slots = settings->slots,
                                          .grace_ms = settings->grace_ms,
                                          .stop_fd = stop_fd};
    struct rmj_service *service = NULL;
    RMJ_TRY(rmj_service_start(&service, &options, err));
    printf("rmjobd %s ready:", RMJ_VERSION);
    for (size_t i = 0; i < rmj_service_address_count(service); i++) {
        printf(" %s", rmj_service_address(service, i));
    }
    printf("\n");
    fflush(stdout);
    enum rmj_status status = rmj_service_run(service, err);
    *clean = rmj_service_stop(service);
    return status;
}

// An address or a directory that somebody else holds is a matter of the machine, not of this command.
static int exit_code(enum rmj_status status)
{
    return rmj_status_exit_code(status == RMJ_CONFLICT ? RMJ_IO : status);
}

int main(int argc, char **argv)
{
    struct settings settings = {.grace_ms = GRACE_MS};
    struct rmj_error err = {0};
    enum rmj_status status = parse(argc, argv, &settings, &err);
    int clean = 1;
    if (status == RMJ_OK && !settings.done) {
        // Before the first call into gRPC, so that its threads inherit the mask.
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN);
        umask(077);
        int stop_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        status = serve(&settings, stop_fd, &clean, &err);
        if (stop_fd >= 0) {
            close(stop_fd);
        }
    }
    if (status != RMJ_OK) {
        fprintf(stderr, "rmjobd: %s\n", err.message);
    }
    if (!clean) {
        // An upload is under way in another thread, and cutting it is safe: it is done again at the next start.
        _exit(status == RMJ_OK ? 0 : exit_code(status));
    }
    free(settings.state);
    free(settings.token);
    return status == RMJ_OK ? 0 : exit_code(status);
}
