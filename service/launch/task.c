// A short task whose answer is its standard output.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "service/launch/launch.h"
#include "service/launch/spawn.h"

#define COMPLAINT_SIZE_MAX 4096
#define READ_SIZE 16384

// Appends what is there; 0 at the end of the stream. Past the bound the rest is read and dropped, so that the writer
// does not block.
static int drain(int fd, struct rmj_buf *out)
{
    char chunk[READ_SIZE];
    ssize_t size = read(fd, chunk, sizeof chunk);
    if (size < 0) {
        return errno == EINTR || errno == EAGAIN;
    }
    rmj_buf_append(out, chunk, (size_t)size);
    return size > 0;
}

// 1 when both streams ended in time.
static int read_until_end(int output_fd, int error_fd, int64_t until_ms, struct rmj_buf *out, struct rmj_buf *complaint)
{
    struct pollfd fds[2] = {{.fd = output_fd, .events = POLLIN}, {.fd = error_fd, .events = POLLIN}};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int64_t left = until_ms - rmj_clock_mono_ms();
        if (left <= 0) {
            return 0;
        }
        if (poll(fds, 2, (int)left) <= 0) {
            continue;
        }
        for (size_t i = 0; i < 2; i++) {
            if (fds[i].fd >= 0 && fds[i].revents != 0 && !drain(fds[i].fd, i == 0 ? out : complaint)) {
                fds[i].fd = -1;
            }
        }
    }
    return 1;
}

// Waits for the exit; kills the whole session at the deadline.
static int wait_exit(pid_t pid, int64_t until_ms, int *code)
{
    int pidfd = spawn_pidfd(pid);
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};
    int64_t left = until_ms - rmj_clock_mono_ms();
    int done = left > 0 && poll(&fd, 1, (int)left) == 1;
    kill(-pid, SIGKILL);
    while (waitpid(pid, code, 0) < 0 && errno == EINTR) {
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    return done;
}

static enum rmj_status judge(const char *program, int in_time, int code, int64_t deadline_ms, struct rmj_buf *complaint,
                             struct rmj_error *err)
{
    if (!in_time) {
        return rmj_fail(err, RMJ_TIMEOUT, "%s was not done within %lld ms", program, (long long)deadline_ms);
    }
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) {
        return RMJ_OK;
    }
    // A task ends with the exit code of its error's class and says on standard error what it was.
    static const enum rmj_status classes[] = {
        [2] = RMJ_INVALID, [4] = RMJ_UNREACHABLE, [5] = RMJ_DENIED, [6] = RMJ_DATA, [7] = RMJ_IO};
    size_t exit_code = WIFEXITED(code) ? (size_t)WEXITSTATUS(code) : 0;
    enum rmj_status status = exit_code < RMJ_COUNT(classes) ? classes[exit_code] : RMJ_OK;
    char words[601];
    snprintf(words, sizeof words, "%s", rmj_buf_text(complaint));
    words[strcspn(words, "\n")] = '\0';
    if (status != RMJ_OK && words[0] != '\0') {
        return rmj_fail(err, status, "%s", words);
    }
    return rmj_fail(err, RMJ_INTERNAL, "%s failed (%s %d): %s", program, WIFSIGNALED(code) ? "signal" : "exit code",
                    WIFSIGNALED(code) ? WTERMSIG(code) : (int)exit_code, words);
}

enum rmj_status rmj_launch_wait_task(const char *program, const char *const *arguments, int64_t deadline_ms,
                                     struct rmj_buf *out, struct rmj_error *err)
{
    int output[2] = {-1, -1}, error[2] = {-1, -1};
    struct rmj_buf complaint;
    rmj_buf_init(&complaint, COMPLAINT_SIZE_MAX);
    enum rmj_status status = RMJ_OK;
    if (pipe2(output, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0) {
        status = rmj_fail_errno(err, RMJ_IO, "cannot make a pipe");
        goto out;
    }
    struct spawn_request how = {
        .program = program, .arguments = arguments, .output_fd = output[1], .error_fd = error[1]};
    pid_t pid = 0;
    RMJ_GO(spawn(&how, &pid, err));
    close(output[1]);
    close(error[1]);
    output[1] = error[1] = -1;
    int64_t until_ms = rmj_clock_mono_ms() + deadline_ms;
    int code = 0;
    int in_time = read_until_end(output[0], error[0], until_ms, out, &complaint);
    in_time = wait_exit(pid, until_ms, &code) && in_time;
    RMJ_GO(judge(program, in_time, code, deadline_ms, &complaint, err));
    status = rmj_buf_check(out, err);
out:
    for (size_t i = 0; i < 2; i++) {
        if (output[i] >= 0) {
            close(output[i]);
        }
        if (error[i] >= 0) {
            close(error[i]);
        }
    }
    rmj_buf_deinit(&complaint);
    return status;
}
