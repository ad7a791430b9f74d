// Shared by the fuzzers: an input as a file, or as files of a directory.
#ifndef RMJ_TESTS_FUZZ_FUZZ_H
#define RMJ_TESTS_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"

#define FUZZ_PATH_SIZE 256

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

// A file in memory with its path; close() it.
static inline int fuzz_file(const uint8_t *bytes, size_t size, char path[FUZZ_PATH_SIZE])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    RMJ_ASSERT(fd >= 0);
    RMJ_ASSERT(size == 0 || write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, FUZZ_PATH_SIZE, "/proc/self/fd/%d", fd);
    return fd;
}

// Those of this process, removed when it ends well; tests/fuzz/run removes what a finding leaves.
static char fuzz_directories[4][FUZZ_PATH_SIZE];
static size_t fuzz_directory_count;

static inline void fuzz_remove_directories(void)
{
    while (fuzz_directory_count > 0) {
        (void)!rmj_fs_remove_tree(fuzz_directories[--fuzz_directory_count], NULL);
    }
}

// An empty directory, in memory where the machine has such a place.
static inline const char *fuzz_directory(void)
{
    const char *parent = getenv("RMJOB_FUZZ_DIRECTORY");
    RMJ_ASSERT(fuzz_directory_count < RMJ_COUNT(fuzz_directories));
    if (fuzz_directory_count == 0) {
        RMJ_ASSERT(atexit(fuzz_remove_directories) == 0);
    }
    char *path = fuzz_directories[fuzz_directory_count++];
    snprintf(path, FUZZ_PATH_SIZE, "%s/rmjob-fuzz-XXXXXX", parent != NULL ? parent : "/dev/shm");
    RMJ_ASSERT(mkdtemp(path) != NULL);
    return path;
}

static inline void fuzz_write(const char *directory, const char *name, const void *bytes, size_t size)
{
    char path[2 * FUZZ_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    RMJ_ASSERT(fd >= 0);
    RMJ_ASSERT(size == 0 || write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

// Takes the bytes up to the next NUL off the front; all of them when there is none.
static inline size_t fuzz_part(const uint8_t **bytes, size_t *size)
{
    const uint8_t *end = *size == 0 ? NULL : memchr(*bytes, 0, *size);
    size_t part = end != NULL ? (size_t)(end - *bytes) : *size, whole = end != NULL ? part + 1 : part;
    *bytes += whole;
    *size -= whole;
    return part;
}

#endif
