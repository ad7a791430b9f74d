// rmjob: the command line.
#include <fcntl.h>
#include <poll.h>
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

// A descriptor that was closed for us would be given to the next file or socket, and the result written into that. So
// each gets a stand-in that refuses: what is read or written there is an error, as it should be.
static int hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) {
            return 0;
        }
    }
    return 1;
}

// Whether standard output is a pipe that nobody reads any more.
static int reader_is_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
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
    if (!hold_standard_descriptors()) {
        return rmj_status_exit_code(RMJ_INTERNAL);
    }
    // A reader that closes the pipe (head, less) is met as a write error at the end, not as a signal half-way.
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
    if ((fflush(stdout) != 0 || ferror(stdout)) && (status == RMJ_OK || status == RMJ_IO)) {
        if (reader_is_gone()) {
            return rmj_status_exit_code(status); // it has what it wanted
        }
        status = rmj_fail(&err, RMJ_IO, "cannot write the result to standard output");
    }
    if (status != RMJ_OK && err.message[0] != '\0') {
        fprintf(stderr, "%srmjob: %s%s\n", cli.colour_err ? "\033[31m" : "", cli.colour_err ? "\033[0m" : "",
                err.message);
    }
    return rmj_status_exit_code(status);
}
