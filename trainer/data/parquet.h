// Rows of a Parquet file, one JSON object each, in the file's order and with bounded memory. An optional part: the
// reader is DuckDB's library (parquet_library.h).
#ifndef RMJ_TRAINER_DATA_PARQUET_H
#define RMJ_TRAINER_DATA_PARQUET_H

#include "base/buf.h"
#include "base/status.h"

struct rmj_parquet;

// RMJ_INVALID with the mend when the library is not on this machine.
RMJ_MUST_USE enum rmj_status rmj_parquet_check(struct rmj_error *err);
// fd: the file, which must stay open. RMJ_DATA for a file that is none.
RMJ_MUST_USE enum rmj_status rmj_parquet_open(struct rmj_parquet **parquet, int fd, struct rmj_error *err);
void rmj_parquet_close(struct rmj_parquet *parquet);
// Appends the next row to `line`; *end is 1 after the last. Fields of a struct that are null are left out, since
// Parquet has no other way to say that they are absent. RMJ_DATA for damage; the row counts from where the caller is.
RMJ_MUST_USE enum rmj_status rmj_parquet_next(struct rmj_parquet *parquet, struct rmj_buf *line, int *end,
                                              struct rmj_error *err);

#endif
