// rmjob: the command line.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/cli/cli.h"

static int wants_colour(int fd)
{
    const char *no_colour = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    return isatty(fd) && (no_colour == NULL || *no_colour == '\0') &&
           (terminal == NULL || strcmp(terminal, "dumb") != 0);
}

static void close_connection(struct rmj_cli *cli)
{
    if (cli->info != NULL) {
        rmjob__v1__server_info__free_unpacked(cli->info, NULL);
    }
    rmj_rpc_client_destroy(cli->client);
}

int main(int argc, char **argv)
{
    // A reader that closes the pipe (head, less) ends us quietly through the write error, not through a signal
    // half-way.
    signal(SIGPIPE, SIG_IGN);
    struct rmj_cli cli = {
        .colour_out = wants_colour(STDOUT_FILENO),
        .colour_err = wants_colour(STDERR_FILENO),
    };
    struct rmj_error err = {0};
    const struct rmj_command *command = NULL;
    enum rmj_status status = rmj_cli_parse(&cli, argc, argv, &command, &err);
    if (status == RMJ_OK && command != NULL) {
        status = command->run(&cli, &err);
    }
    close_connection(&cli);
    if (fflush(stdout) != 0 && status == RMJ_OK) {
        status = rmj_fail(&err, RMJ_IO, "cannot write the result to standard output");
    }
    if (status != RMJ_OK && err.message[0] != '\0') {
        fprintf(stderr, "%srmjob: %s%s\n", cli.colour_err ? "\033[31m" : "", cli.colour_err ? "\033[0m" : "",
                err.message);
    }
    return rmj_status_exit_code(status);
}
