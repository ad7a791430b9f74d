// The object store: one interface over a local directory and S3. Whole objects by key; conditional creation is the only
// concurrency control there is, and everything in rmjob is built from it.
//
// URLs: a path or file:///path is a directory; s3://bucket/prefix is S3 (endpoint, region and credentials from the
// usual AWS_* environment, AWS_ENDPOINT_URL for other servers). Keys are '/'-separated, no "..", no leading '/'.
// Threads: a store may be used from any number of threads at once.
#ifndef RMJ_STORAGE_OBJECT_STORE_H
#define RMJ_STORAGE_OBJECT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "storage/digest.h"

struct rmj_store;

struct rmj_store_options {
    int64_t deadline_ms; // of one request, retries included; large objects move in parts, each its own; 0: 60,000
    uint32_t retry_max;  // attempts after the first; 0: 8
    size_t part_size;    // of objects sent or streamed in parts; 0: 8 MiB; S3 allows no less than 5 MiB
};

// Checks that the store can be reached and, when `writable`, that it can be written (a probe object is made and
// removed). Errors: RMJ_INVALID (no such scheme), RMJ_NOT_FOUND (no such bucket or directory), RMJ_DENIED,
// RMJ_UNREACHABLE, RMJ_FULL. A local directory is made when it is absent and `writable`. A store that was opened
// without `writable` refuses every change with RMJ_DENIED.
RMJ_MUST_USE enum rmj_status rmj_store_open(struct rmj_store **store, const char *url, int writable,
                                            const struct rmj_store_options *options, struct rmj_error *err);
void rmj_store_close(struct rmj_store *store);
// As given to open, without credentials.
const char *rmj_store_url(const struct rmj_store *store);

enum rmj_put_condition {
    RMJ_PUT_ANY,       // create or replace
    RMJ_PUT_IF_ABSENT, // create, else RMJ_CONFLICT (the store's 412); a retry that meets its own first success succeeds
};

// The object is visible whole or not at all. `digest` may be NULL; when given the bytes are checked against it before
// they become visible (RMJ_CORRUPT), and it is sent as checksum where the store checks one. Over part_size bytes go up
// in parts, which are aborted on failure. With RMJ_PUT_IF_ABSENT an attempt whose outcome was not heard of counts as
// this call's success when the object has exactly these bytes.
RMJ_MUST_USE enum rmj_status rmj_store_put(struct rmj_store *store, const char *key, const void *bytes, size_t size,
                                           enum rmj_put_condition condition, const struct rmj_digest *digest,
                                           struct rmj_error *err);
// The same from a file, streamed.
RMJ_MUST_USE enum rmj_status rmj_store_put_file(struct rmj_store *store, const char *key, const char *path,
                                                enum rmj_put_condition condition, const struct rmj_digest *digest,
                                                struct rmj_error *err);
// Appends the object to `out` (bounded by its size_max). RMJ_NOT_FOUND when absent.
RMJ_MUST_USE enum rmj_status rmj_store_get(struct rmj_store *store, const char *key, struct rmj_buf *out,
                                           struct rmj_error *err);
// Bytes [offset, offset + size) into `bytes`; RMJ_CORRUPT when the object is shorter.
RMJ_MUST_USE enum rmj_status rmj_store_get_range(struct rmj_store *store, const char *key, uint64_t offset, void *bytes,
                                                 size_t size, struct rmj_error *err);
// Streams the object into a new file at `path` (made whole or not at all), hashing it on the way.
RMJ_MUST_USE enum rmj_status rmj_store_get_file(struct rmj_store *store, const char *key, const char *path,
                                                struct rmj_digest *digest, uint64_t *size, struct rmj_error *err);
// RMJ_NOT_FOUND when absent.
RMJ_MUST_USE enum rmj_status rmj_store_head(struct rmj_store *store, const char *key, uint64_t *size,
                                            int64_t *modified_unix_ms, struct rmj_error *err);
// Absent is success.
RMJ_MUST_USE enum rmj_status rmj_store_delete(struct rmj_store *store, const char *key, struct rmj_error *err);
// Server-side copy inside one store where there is one, else through this machine. Whole or absent.
RMJ_MUST_USE enum rmj_status rmj_store_copy(struct rmj_store *store, const char *from_key, const char *to_key,
                                            struct rmj_error *err);
// Every key that begins with prefix, sorted by bytes. "a/" lists a folder; "a" would list "ab" too. Stops at the first
// failure of `each` and returns it.
typedef enum rmj_status (*rmj_store_each_fn)(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                             struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_store_list(struct rmj_store *store, const char *prefix, rmj_store_each_fn each,
                                            void *context, struct rmj_error *err);

#endif
