// Verbs that need the trainer's code run in its program, rmjob-rank, which is installed beside this one: model verify,
// data show.
// Its output, its messages and its exit code are this command's own. One posix_spawn and one wait.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "service/cli/cli.h"

#define ARGUMENTS_MAX 24
#define SPEC_SIZE_MAX ((size_t)16 << 20)

extern char **environ;

struct arguments {
    const char *list[ARGUMENTS_MAX + 1]; // NULL-terminated
    size_t count;
};

static void add(struct arguments *arguments, const char *text)
{
    RMJ_ASSERT(arguments->count < ARGUMENTS_MAX);
    arguments->list[arguments->count++] = text;
}

static void add_value(struct arguments *arguments, const char *flag, const char *value)
{
    if (value != NULL) {
        add(arguments, flag);
        add(arguments, value);
    }
}

static void add_switch(struct arguments *arguments, const char *flag, int on)
{
    if (on) {
        add(arguments, flag);
    }
}

// $RMJOB_BIN/rmjob-rank, else beside this program; free() it.
static enum rmj_status find_program(char **path, struct rmj_error *err)
{
    *path = rmj_fs_program("RMJOB_BIN", "rmjob-rank");
    if (access(*path, X_OK) == 0) {
        return RMJ_OK;
    }
    enum rmj_status status =
        rmj_fail_errno(err, RMJ_INTERNAL, "%s cannot be run; set RMJOB_BIN to the folder that holds rmjob-rank", *path);
    free(*path);
    *path = NULL;
    return status;
}

// Standard descriptors are shared; SIGPIPE, which this program ignores, is the child's own again.
static enum rmj_status start(const char *program, const struct arguments *arguments, pid_t *pid, struct rmj_error *err)
{
    char *argv[ARGUMENTS_MAX + 2] = {(char *)(uintptr_t)program};
    for (size_t i = 0; i < arguments->count; i++) {
        argv[i + 1] = (char *)(uintptr_t)arguments->list[i]; // posix_spawn does not write
    }
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    int code = posix_spawn(pid, program, NULL, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    return code == 0
               ? RMJ_OK
               : rmj_fail_origin(err, RMJ_INTERNAL, "errno", code, "cannot start %s: %s", program, strerror(code));
}

// RMJ_TIMEOUT after it was killed.
static enum rmj_status wait_until(pid_t pid, int64_t timeout_ms, int *state, struct rmj_error *err)
{
    int late = 0, fd = timeout_ms > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (fd >= 0) {
        struct pollfd end = {.fd = fd, .events = POLLIN};
        late = poll(&end, 1, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms) == 0;
        close(fd);
    }
    if (late) {
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, state, 0) < 0) {
        if (errno != EINTR) {
            return rmj_fail_errno(err, RMJ_INTERNAL, "cannot wait for rmjob-rank");
        }
    }
    return late ? rmj_fail(err, RMJ_TIMEOUT, "not done within --timeout") : RMJ_OK;
}

// The class whose exit code this is. The child has said why, so there is no message.
static enum rmj_status status_of(int exit_code)
{
    for (int status = RMJ_OK; status < RMJ_STATUS_COUNT; status++) {
        if (rmj_status_exit_code((enum rmj_status)status) == exit_code) {
            return (enum rmj_status)status;
        }
    }
    return RMJ_INTERNAL;
}

static enum rmj_status run_local(const struct rmj_cli *cli, struct arguments *arguments, struct rmj_error *err)
{
    char *program = NULL;
    pid_t pid;
    int state = 0;
    add_switch(arguments, "--json", cli->json);
    add_switch(arguments, "--colour", cli->colour_out && !cli->json);
    RMJ_TRY(find_program(&program, err));
    fflush(stdout);
    enum rmj_status status = start(program, arguments, &pid, err);
    free(program);
    RMJ_TRY(status);
    RMJ_TRY(wait_until(pid, cli->timeout_ms, &state, err));
    if (WIFSIGNALED(state) && WTERMSIG(state) == SIGPIPE) {
        return RMJ_OK; // the reader has what it wanted
    }
    if (WIFSIGNALED(state)) {
        return rmj_fail(err, RMJ_INTERNAL, "rmjob-rank was ended by signal %d (%s)", WTERMSIG(state),
                        strsignal(WTERMSIG(state)));
    }
    return status_of(WEXITSTATUS(state));
}

enum rmj_status rmj_cmd_model_verify(struct rmj_cli *cli, struct rmj_error *err)
{
    struct arguments arguments = {0};
    char threads[24];
    if (cli->batch == NULL || cli->expected == NULL) {
        return rmj_fail(err, RMJ_INVALID,
                        "%s is missing; usage: rmjob model verify DIR --batch batch.json --expected "
                        "expected.safetensors",
                        cli->batch == NULL ? "--batch" : "--expected");
    }
    add(&arguments, "model-verify");
    add(&arguments, cli->positional[0]);
    add_value(&arguments, "--batch", cli->batch);
    add_value(&arguments, "--expected", cli->expected);
    add_value(&arguments, "--tolerance", cli->tolerance);
    snprintf(threads, sizeof threads, "%ld", cli->threads);
    add_value(&arguments, "--threads", cli->threads > 0 ? threads : NULL);
    add_switch(&arguments, "--all", cli->all);
    return run_local(cli, &arguments, err);
}

// The spec with its local paths made absolute, in a temporary file; free() *path after unlinking it.
static enum rmj_status write_spec(const Rmjob__V1__JobSpec *spec, char **path, struct rmj_error *err)
{
    const char *folder = getenv("TMPDIR");
    struct rmj_buf text;
    rmj_buf_init(&text, SPEC_SIZE_MAX);
    rmj_json_print(&spec->base, 0, &text);
    *path = rmj_fs_join(folder == NULL || *folder == '\0' ? "/tmp" : folder, "rmjob-spec-XXXXXX");
    int fd = mkstemp(*path);
    enum rmj_status status = rmj_buf_check(&text, err);
    if (fd < 0) {
        status = rmj_fail_errno(err, RMJ_IO, "cannot make %s; set TMPDIR to a folder that can be written", *path);
        free(*path);
        *path = NULL;
    } else if (status == RMJ_OK && write(fd, text.bytes, text.size) != (ssize_t)text.size) {
        status = rmj_fail_errno(err, RMJ_IO, "cannot write %s", *path);
    }
    if (fd >= 0) {
        close(fd);
    }
    rmj_buf_deinit(&text);
    return status;
}

enum rmj_status rmj_cmd_data_show(struct rmj_cli *cli, struct rmj_error *err)
{
    struct rmj_text_result *positions = rmj_text_result_create();
    Rmjob__V1__JobSpec *spec = NULL;
    char *path = NULL;
    struct arguments arguments = {0};
    enum rmj_status status = RMJ_OK;
    if (cli->rows == NULL) {
        status = rmj_fail(err, RMJ_INVALID, "--rows is missing; usage: rmjob data show SPEC --rows 17");
        goto out;
    }
    RMJ_GO(rmj_cli_read_spec(cli->positional[0], &spec, positions, err));
    RMJ_GO(write_spec(spec, &path, err));
    add(&arguments, "data-show");
    add_value(&arguments, "--spec", path);
    add_value(&arguments, "--rows", cli->rows);
    status = run_local(cli, &arguments, err);
out:
    if (path != NULL) {
        unlink(path);
        free(path);
    }
    if (spec != NULL) {
        rmjob__v1__job_spec__free_unpacked(spec, NULL);
    }
    rmj_text_result_destroy(positions);
    return status;
}
