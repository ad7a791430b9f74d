// Preloaded into rmjob-rank: the training thread (a trainer's first thread) polls several times in every step, for its
// peers and for an abort. The longest series of polls without an allocation between them is appended to
// RMJOB_ALLOC_FILE when the process ends: over a whole training, if a step allocates nothing.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static unsigned long quiet, longest; // training thread

static void allocated(void)
{
    if (gettid() == getpid()) {
        quiet = 0;
    }
}

void *malloc(size_t size)
{
    allocated();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    allocated();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    allocated();
    return __libc_realloc(old, size);
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    static int (*real)(struct pollfd *, nfds_t, int);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "poll");
    }
    if (gettid() == getpid()) {
        quiet++;
        longest = quiet > longest ? quiet : longest;
    }
    return real(fds, count, timeout);
}

__attribute__((destructor)) static void tell(void)
{
    char line[64] = "";
    const char *path = getenv("RMJOB_ALLOC_FILE");
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (path == NULL || size < 20 || memcmp(line, "rmjob-rank\0--trainer", 20) != 0) {
        return;
    }
    int n = snprintf(line, sizeof line, "%lu\n", longest);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t written = write(fd, line, (size_t)n);
        (void)written;
        close(fd);
    }
}
