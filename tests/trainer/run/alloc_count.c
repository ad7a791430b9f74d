// Preloaded into rmjob-rank: counts the allocations of the training thread (a trainer's first thread) and appends the
// number to RMJOB_ALLOC_FILE when the process ends.
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static unsigned long counted;

static void count(void)
{
    counted += gettid() == getpid();
}

void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count();
    return __libc_realloc(old, size);
}

__attribute__((destructor)) static void tell(void)
{
    char line[4096] = "";
    const char *path = getenv("RMJOB_ALLOC_FILE");
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (path == NULL || size < 12 || memcmp(line, "rmjob-rank\0--trainer", 20) != 0) {
        return;
    }
    int n = snprintf(line, sizeof line, "%lu\n", counted);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t written = write(fd, line, (size_t)n);
        (void)written;
        close(fd);
    }
}
