// A data file of any bytes, under any name: rows within the bound, or a message. The first byte picks the ending.
//
// clang -fsanitize=fuzzer,address,undefined with the sources of base/, storage/digest.c, trainer/data/lines*.c and
// trainer/data/parquet*.c.
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trainer/data/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_file(const char *path, const char *name)
{
    struct rmj_lines *lines = NULL;
    struct rmj_error err = {0};
    const char *line = NULL;
    size_t size;
    int ended;
    uint64_t rows = 0;
    RMJ_ASSERT(rmj_lines_open(&lines, path, name, &err) == RMJ_OK);
    enum rmj_status status;
    while ((status = rmj_lines_next(lines, &line, &size, &ended, &err)) == RMJ_OK && line != NULL) {
        RMJ_ASSERT(size <= RMJ_LINE_SIZE_MAX && line[size] == '\0' && rmj_lines_row(lines) == ++rows);
    }
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    if (status == RMJ_OK) {
        struct rmj_digest digest;
        rmj_lines_digest(lines, &digest);
    }
    rmj_lines_close(lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const names[] = {"f.json",  "f.json",      "f.json",     "f.jsonl",
                                        "f.jsonl", "f.jsonl.zst", "f.json.zst", "f.json.gz"};
    if (size == 0) {
        return 0;
    }
    char path[64];
    int fd = memfd_create("rows", MFD_CLOEXEC);
    RMJ_ASSERT(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    RMJ_ASSERT(write(fd, bytes + 1, size - 1) == (ssize_t)(size - 1));
    read_file(path, names[bytes[0] % 8]);
    close(fd);
    return 0;
}
