// Rows of a data file as text of one JSON object each, one at a time and bounded, with the digest of the bytes as
// stored: lines of .jsonl, elements of .json (both also .gz and .zst), rows of .parquet.
#ifndef RMJ_TRAINER_DATA_LINES_H
#define RMJ_TRAINER_DATA_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"

#define RMJ_LINE_SIZE_MAX ((size_t)8 << 20)

struct rmj_lines;

// 1 when the name ends as a file that can be read here; else 0 and a sentence that says why not (Parquet needs a
// library that may be missing).
int rmj_lines_name_check(const char *name, struct rmj_error *err);
// name: what messages call it, and by whose ending it is read; path: where it lies. RMJ_INVALID for a name of another
// kind, RMJ_DATA for a file of another kind, else as open(2).
RMJ_MUST_USE enum rmj_status rmj_lines_open(struct rmj_lines **lines, const char *path, const char *name,
                                            struct rmj_error *err);
void rmj_lines_close(struct rmj_lines *lines);
// The next row without its end, valid until the next call; *line is NULL after the last. *ended is 0 when the last
// line has no newline. RMJ_DATA for a row over RMJ_LINE_SIZE_MAX or a broken file, naming file and row.
RMJ_MUST_USE enum rmj_status rmj_lines_next(struct rmj_lines *lines, const char **line, size_t *size, int *ended,
                                            struct rmj_error *err);
// 1-based number of the row that was last given: its line, its place in the list, or its place in the Parquet file.
uint64_t rmj_lines_row(const struct rmj_lines *lines);
// After the last row: SHA-256 of the file's bytes as stored.
void rmj_lines_digest(struct rmj_lines *lines, struct rmj_digest *digest);

#endif
