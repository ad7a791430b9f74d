// Prints the rows of data files, one JSON object a line, for comparison with other readers
// (tests/peers/parquet_equal.py).
//
//   rmjob-test-lines FILE...    exit 6 for a file that is refused, with the message on standard error
#include <stdio.h>

#include "trainer/data/lines.h"

static enum rmj_status print_file(const char *path, struct rmj_error *err)
{
    struct rmj_lines *lines = NULL;
    enum rmj_status status = RMJ_OK;
    const char *line;
    size_t size;
    int ended;
    RMJ_TRY(rmj_lines_open(&lines, path, path, err));
    while ((status = rmj_lines_next(lines, &line, &size, &ended, err)) == RMJ_OK && line != NULL) {
        fwrite(line, 1, size, stdout);
        putchar('\n');
    }
    if (status == RMJ_OK) {
        struct rmj_digest digest;
        char hex[RMJ_DIGEST_HEX_SIZE];
        rmj_lines_digest(lines, &digest);
        rmj_digest_hex(&digest, hex);
        fprintf(stderr, "%s\n", hex);
    }
    rmj_lines_close(lines);
    return status;
}

int main(int argc, char **argv)
{
    int code = 0;
    for (int i = 1; i < argc; i++) {
        struct rmj_error err = {0};
        if (print_file(argv[i], &err) != RMJ_OK) {
            fprintf(stderr, "%s\n", err.message);
            code = 6;
        }
    }
    return code;
}
