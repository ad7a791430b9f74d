// Files: whole reads with a bound, whole-or-absent writes, directories.
#ifndef RMJ_BASE_FS_H
#define RMJ_BASE_FS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// Appends the whole file to `out`. Errors: RMJ_NOT_FOUND, RMJ_DENIED, RMJ_IO, RMJ_FULL (over out->size_max).
RMJ_MUST_USE enum rmj_status rmj_fs_read(const char *path, struct rmj_buf *out, struct rmj_error *err);
// Temporary file, fsync, rename, fsync of the directory: the old or the new content, never a mix. mode as in chmod.
RMJ_MUST_USE enum rmj_status rmj_fs_write(const char *path, const void *bytes, size_t size, unsigned mode,
                                          struct rmj_error *err);
// mkdir -p. Errors: RMJ_DENIED, RMJ_FULL, RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_fs_make_directories(const char *path, unsigned mode, struct rmj_error *err);
// rm -rf. Absent is success.
RMJ_MUST_USE enum rmj_status rmj_fs_remove_tree(const char *path, struct rmj_error *err);
// Calls `each` with the path relative to `root` ('/'-separated) of every regular file below it, sorted by bytes.
// Symbolic links are reported as RMJ_INVALID. Stops at the first failure of `each` and returns it.
typedef enum rmj_status (*rmj_fs_each_fn)(void *context, const char *relative_path, uint64_t size,
                                          struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_fs_walk(const char *root, rmj_fs_each_fn each, void *context, struct rmj_error *err);
int rmj_fs_exists(const char *path);
// Joins with one '/'; free() the result.
char *rmj_fs_join(const char *directory, const char *name);
// Where the program `name` should be: in the folder that the environment variable names, else beside this program;
// free() the result. Whether it is there is not looked at.
char *rmj_fs_program(const char *variable, const char *name);
// Status class for an errno of a file operation: ENOENT, EACCES, ENOSPC, ...
enum rmj_status rmj_fs_errno_status(int code);

#ifdef __cplusplus
}
#endif
#endif
