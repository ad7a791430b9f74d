// The files behind the paths of a spec: local paths and s3:// objects, '*' within names.
#ifndef RMJ_TRAINER_DATA_SOURCES_H
#define RMJ_TRAINER_DATA_SOURCES_H

#include <stddef.h>

#include "base/status.h"
#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/data/rows.h"

#define RMJ_SOURCE_FILES_MAX 4096u

struct rmj_source_file {
    char *name;  // as the spec names it, '*' expanded
    char *path;  // where it lies now; a temporary file for an s3:// object once it was fetched, NULL before
    char *field; // dotted path in the spec: "data.train[0].path"
    char *label; // the source's name, as reports show it; NULL: it has none
    struct rmj_row_format format; // the source's form and columns, which are the spec's
    int temporary;
    uint64_t device, inode; // of a local file, 0 where it is not there
    // Of an object, as a listing told them; 0 where none did.
    uint64_t object_size;
    int64_t object_unix_ms;
};

struct rmj_sources {
    struct rmj_source_file *files;
    size_t count;
    char *directory; // of temporary files, NULL when there is none
};

// Adds the files of one path, sorted by name. A pattern that matches nothing is RMJ_NOT_FOUND; a file that is there
// already, under whichever name, is RMJ_INVALID. A local file is not opened.
RMJ_MUST_USE enum rmj_status rmj_sources_add(struct rmj_sources *sources, const char *path, const char *field,
                                             struct rmj_error *err);
// The same for a source of the spec, which must outlive the files.
RMJ_MUST_USE enum rmj_status rmj_sources_add_source(struct rmj_sources *sources, const Rmjob__V1__DataSource *source,
                                                    const char *field, struct rmj_error *err);
// Makes sure that the file lies on this machine.
RMJ_MUST_USE enum rmj_status rmj_sources_fetch(struct rmj_sources *sources, size_t index, struct rmj_error *err);
// Whether the file is there, without reading it. 1 in *local when it lies on this machine.
RMJ_MUST_USE enum rmj_status rmj_sources_probe(const struct rmj_sources *sources, size_t index, int *local,
                                               struct rmj_error *err);
// What changes when a file does: size, time of change, number. Zeros where the file cannot be asked; reading says why.
struct rmj_source_stamp {
    int64_t size, seconds, nanoseconds, number;
};
struct rmj_source_stamp rmj_sources_stamp(const struct rmj_sources *sources, size_t index);
// Removes the temporary copy of a file again, if there is one.
void rmj_sources_release(struct rmj_sources *sources, size_t index);
void rmj_sources_deinit(struct rmj_sources *sources);

#endif
