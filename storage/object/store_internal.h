// What a kind of store implements. store.c checks keys, runs the fault points and calls these.
#ifndef RMJ_STORAGE_OBJECT_STORE_INTERNAL_H
#define RMJ_STORAGE_OBJECT_STORE_INTERNAL_H

#include "storage/object/store.h"

// Bounds of the folder.
#define STORE_KEY_SIZE_MAX 900            // S3 allows 1,024 with the prefix
#define STORE_NAME_SIZE_MAX 255           // one component, as file systems have it
#define STORE_PIECE_SIZE_BYTES (1u << 20) // local reads and writes
#define STORE_LIST_COUNT_MAX 10000000     // keys of one listing
#define STORE_TEMPORARY_AGE_S_MAX 86400   // then a leftover of a killed process goes
#define STORE_PART_SIZE_DEFAULT (8u << 20)
#define STORE_PART_SIZE_MIN (5u << 20) // S3's
#define STORE_PART_COUNT_MAX 10000     // S3's
#define STORE_RETRY_MAX_DEFAULT 8
#define STORE_DEADLINE_MS_DEFAULT 60000

// Reserved component: temporaries of a directory store and probe objects live below it; no listing shows it.
#define STORE_RESERVED_NAME ".rmj-tmp"

// The bytes of a put: in memory, or in an open file. Reading at an offset, so that a retry can read again.
struct store_source {
    const uint8_t *bytes; // NULL: fd
    int fd;
    uint64_t size;
    const char *name; // of the file, for messages
};

struct store_put {
    const char *key;
    const struct store_source *source;
    enum rmj_put_condition condition;
    const struct rmj_digest *digest; // NULL: not known
};

// Takes the next piece of an object that is streamed.
typedef enum rmj_status (*store_piece_fn)(void *context, const void *bytes, size_t size, struct rmj_error *err);

struct store_ops {
    void (*close)(struct rmj_store *store);
    enum rmj_status (*put)(struct rmj_store *store, const struct store_put *put, struct rmj_error *err);
    enum rmj_status (*get)(struct rmj_store *store, const char *key, struct rmj_buf *out, struct rmj_error *err);
    enum rmj_status (*get_range)(struct rmj_store *store, const char *key, uint64_t offset, void *bytes, size_t size,
                                 struct rmj_error *err);
    // One version of the object from first to last byte, whoever replaces it meanwhile.
    enum rmj_status (*stream)(struct rmj_store *store, const char *key, store_piece_fn piece, void *context,
                              struct rmj_error *err);
    enum rmj_status (*head)(struct rmj_store *store, const char *key, uint64_t *size, int64_t *modified_unix_ms,
                            struct rmj_error *err);
    enum rmj_status (*remove)(struct rmj_store *store, const char *key, struct rmj_error *err);
    enum rmj_status (*copy)(struct rmj_store *store, const char *from_key, const char *to_key, struct rmj_error *err);
    // Sorted by bytes, without reserved keys.
    enum rmj_status (*list)(struct rmj_store *store, const char *prefix, rmj_store_each_fn each, void *context,
                            struct rmj_error *err);
};

// Immutable after open.
struct rmj_store {
    const struct store_ops *ops;
    char *url;
    struct rmj_store_options options; // defaults filled in
    int writable;
};

// They make the store in *store and leave url and options to the caller, which has filled `options`.
enum rmj_status store_local_open(struct rmj_store **store, const char *path, int writable, struct rmj_error *err);
enum rmj_status store_s3_open(struct rmj_store **store, const char *bucket_and_prefix, int writable,
                              const struct rmj_store_options *options, struct rmj_error *err);

// Reads exactly `size` bytes at `offset`. RMJ_CORRUPT when the file became shorter.
enum rmj_status store_source_read(const struct store_source *source, uint64_t offset, void *bytes, size_t size,
                                  struct rmj_error *err);
// Compares the digest of what was read with the one that the caller gave. RMJ_CORRUPT.
enum rmj_status store_check_digest(const struct store_put *put, const struct rmj_digest *found, struct rmj_error *err);
// What is wrong with a key, or NULL. A prefix may be empty, and may end in '/'.
const char *store_key_fault(const char *key, int is_prefix);
// 1 when the key or listing entry has a reserved component.
int store_key_is_reserved(const char *key);

#endif
