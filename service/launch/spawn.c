#include "service/launch/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENVIRONMENT_MAX 64
#define ARGUMENTS_MAX 24

extern char **environ;

// A rank gets these and no more: whatever else rmjobd was started with (tokens, other people's credentials) stays here.
static const char *const passed[] = {
    "PATH=",
    "HOME=",
    "TMPDIR=",
    "LANG=",
    "LC_ALL=",
    "TZ=",
    "RMJOB_FAULT=",
    "RMJOB_FAULT_",
    "RMJOB_LOG=",
    "AWS_",
    "SSL_CERT_FILE=",
    "SSL_CERT_DIR=",
    "CURL_CA_BUNDLE=",
    "ASAN_OPTIONS=",
    "UBSAN_OPTIONS=",
    "LSAN_OPTIONS=",
    "TSAN_OPTIONS=",
    "LD_LIBRARY_PATH=",
    "RMJOB_PARQUET_LIBRARY=",
    "RMJOB_CACHE=",
    "XDG_CACHE_HOME=",
};

static size_t build_environment(char **environment, const char *token, char *token_variable, size_t token_size)
{
    size_t count = 0;
    int has_path = 0;
    for (char **variable = environ; *variable != NULL && count < ENVIRONMENT_MAX; variable++) {
        for (size_t i = 0; i < RMJ_COUNT(passed); i++) {
            if (strncmp(*variable, passed[i], strlen(passed[i])) == 0) {
                has_path |= i == 0;
                environment[count++] = *variable;
                break;
            }
        }
    }
    static char default_path[] = "PATH=/usr/bin:/bin";
    if (!has_path) {
        environment[count++] = default_path;
    }
    if (token != NULL) {
        snprintf(token_variable, token_size, "RMJOB_RANK_TOKEN=%s", token);
        environment[count++] = token_variable;
    }
    environment[count] = NULL;
    return count;
}

static int set_up(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions,
                  const struct spawn_request *request)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int code =
        posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    code = code != 0 ? code : posix_spawnattr_setsigmask(attributes, &none);
    code = code != 0 ? code : posix_spawnattr_setsigdefault(attributes, &all);
    code = code != 0 ? code : posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    code = code != 0 ? code : posix_spawn_file_actions_adddup2(actions, request->output_fd, STDOUT_FILENO);
    return code != 0 ? code : posix_spawn_file_actions_adddup2(actions, request->error_fd, STDERR_FILENO);
}

enum rmj_status spawn(const struct spawn_request *request, pid_t *pid, struct rmj_error *err)
{
    char *arguments[ARGUMENTS_MAX + 2];
    char *environment[ENVIRONMENT_MAX + 3];
    char token_variable[160];
    char program[4096];
    snprintf(program, sizeof program, "%s", request->program);
    arguments[0] = program;
    size_t count = 1;
    for (; request->arguments[count - 1] != NULL; count++) {
        RMJ_ASSERT(count <= ARGUMENTS_MAX);
        // posix_spawn takes char *const but does not write.
        memcpy(&arguments[count], &request->arguments[count - 1], sizeof arguments[count]);
    }
    arguments[count] = NULL;
    build_environment(environment, request->token, token_variable, sizeof token_variable);
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
    int code = set_up(&attributes, &actions, request);
    code = code != 0 ? code : posix_spawn(pid, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0) {
        enum rmj_status status = code == ENOENT ? RMJ_NOT_FOUND : code == EACCES ? RMJ_DENIED : RMJ_IO;
        return rmj_fail_origin(err, status, "errno", code, "cannot start %s: %s; set RMJOB_BIN to the folder it is in",
                               program, strerror(code));
    }
    return RMJ_OK;
}

int spawn_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

unsigned long long spawn_start_time(pid_t pid)
{
    char path[40], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, line, sizeof line - 1);
    close(fd);
    if (size <= 0) {
        return 0;
    }
    line[size] = '\0';
    // The name (field 2) may hold anything, so count from its closing bracket: field 3 comes next.
    char *field = strrchr(line, ')');
    for (int number = 2; field != NULL && number < 22; number++) {
        field = strchr(field + 1, ' ');
    }
    return field == NULL ? 0 : strtoull(field + 1, NULL, 10);
}
