// Shared by the files of the S3 store.
//
//   s3.c            operations of the interface, open, configuration
//   s3_list.c       listings
//   s3_multipart.c  objects over one part
//   s3_request.c    one call: sign, send, judge the answer, try again
//   sigv4.c, s3_xml.c
#ifndef RMJ_STORAGE_OBJECT_S3_INTERNAL_H
#define RMJ_STORAGE_OBJECT_S3_INTERNAL_H

#include <curl/curl.h>
#include <pthread.h>

#include "base/rng.h"
#include "storage/object/sigv4.h"
#include "storage/object/store_internal.h"

#define S3_IDLE_HANDLE_COUNT_MAX 32
#define S3_HEADER_COUNT_MAX 6
#define S3_ETAG_SIZE 160
#define S3_ANSWER_SIZE_MAX (16u << 20) // XML of 1,000 listed keys is under 4 MiB
#define S3_PREFIX_SIZE_MAX 120
#define S3_KEY_SIZE (S3_PREFIX_SIZE_MAX + STORE_KEY_SIZE_MAX + 2)
#define S3_COPY_SIZE_MAX (5ull << 30) // CopyObject's
#define S3_OPEN_RETRY_MAX 3
#define S3_CONNECT_TIMEOUT_MS 5000
#define S3_STALL_TIMEOUT_S 15 // a connection that moves nothing for so long is dead
#define S3_BACKOFF_FIRST_MS 50
#define S3_BACKOFF_MAX_MS 5000
// Retries of a whole store are paid from one purse, so that an outage is not answered by a storm.
#define S3_RETRY_PURSE 500
#define S3_RETRY_PRICE 5

struct s3_store {
    struct rmj_store base;
    // immutable after open
    char *origin;      // scheme://host[:port]
    char *host;        // as in the Host header
    char *path_prefix; // before the key: "/bucket" or ""
    char *bucket;
    char *prefix; // of every key; "" or without '/' at its end
    char *region;
    char *access_key;
    char *secret_key;
    char *session_token; // NULL: none
    char *ca_bundle;     // NULL: the system's
    int64_t deadline_ms;
    uint32_t retry_max;
    size_t part_size;
    // locked
    pthread_mutex_t lock;
    CURL *idle[S3_IDLE_HANDLE_COUNT_MAX];
    size_t idle_count;
    struct rmj_rng jitter;
    int retry_purse;
    int64_t clock_offset_ms; // the store's clock less ours
};

struct s3_request {
    const char *method;
    const char *key;   // NULL: the bucket itself
    const char *query; // encoded, sorted; NULL: none
    struct sigv4_header headers[S3_HEADER_COUNT_MAX];
    size_t header_count;
    const void *body;
    size_t body_size;
    // Where the body of a success goes; with neither it goes to the answer's own buffer.
    struct rmj_buf *out;
    void *into;
    size_t into_size;
    int body_may_be_error; // a 200 may carry <Error>
    uint32_t retry_max;    // 0: the store's
};

struct s3_answer {
    long http;
    uint32_t attempts;
    int outcome_unknown; // an earlier or the last attempt may have done its work without our hearing of it
    char code[64];
    char message[256];
    char region[64];
    char etag[S3_ETAG_SIZE];
    uint64_t content_length;
    int64_t modified_unix_ms;
    int64_t date_unix_ms;
    struct rmj_buf body; // of an error, or of a success without another place
};

static inline struct s3_store *s3_of(struct rmj_store *store)
{
    return (struct s3_store *)store;
}

void s3_answer_deinit(struct s3_answer *answer);
void s3_add_header(struct s3_request *request, const char *name, const char *value);
// Appends name=value, encoded, to a query; names must be added in order.
void s3_add_query(struct rmj_buf *query, const char *name, const char *value);
// Sends with retries until the deadline. On failure *answer says what the store said last.
enum rmj_status s3_call(struct s3_store *s3, const struct s3_request *request, struct s3_answer *answer,
                        struct rmj_error *err);

enum rmj_status s3_head(struct s3_store *s3, const char *key, struct s3_answer *answer, struct rmj_error *err);
// RMJ_OK with *same when the object's bytes are those of the put.
enum rmj_status s3_same_content(struct s3_store *s3, const struct store_put *put, int *same, struct rmj_error *err);
// Reads [offset, offset + size); of the version `etag` when it is not NULL.
enum rmj_status s3_read(struct s3_store *s3, const char *key, const char *etag, uint64_t offset, void *bytes,
                        size_t size, struct rmj_error *err);

enum rmj_status s3_put_parts(struct s3_store *s3, const struct store_put *put, struct rmj_error *err);
// Copies in parts inside the store.
enum rmj_status s3_copy_parts(struct s3_store *s3, const char *from_key, const char *to_key, uint64_t size,
                              uint64_t part_size, struct rmj_error *err);
// Value of x-amz-copy-source for a key.
void s3_copy_source(const struct s3_store *s3, const char *key, struct rmj_buf *out);

enum rmj_status s3_list(struct rmj_store *store, const char *prefix, rmj_store_each_fn each, void *context,
                        struct rmj_error *err);
// One page of a listing of at most `count_max` keys, to see whether listing is possible.
enum rmj_status s3_list_probe(struct s3_store *s3, struct rmj_error *err);

#endif
