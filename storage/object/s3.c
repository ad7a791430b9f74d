// S3 and servers that speak it, through libcurl. What is relied on: PUT and CompleteMultipartUpload are atomic, and
// honour If-None-Match: * (412 exists, 409 a race to try again). What is not: ETags, listing order, a 200 being
// success.
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/fs.h"
#include "base/text.h"
#include "storage/object/s3_internal.h"

// ---- reading -------------------------------------------------------------------------------------------------------

enum rmj_status s3_head(struct s3_store *s3, const char *key, struct s3_answer *answer, struct rmj_error *err)
{
    struct s3_request request = {.method = "HEAD", .key = key};
    return s3_call(s3, &request, answer, err);
}

enum rmj_status s3_read(struct s3_store *s3, const char *key, const char *etag, uint64_t offset, void *bytes,
                        size_t size, struct rmj_error *err)
{
    char range[64];
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)(offset + size - 1));
    struct s3_request request = {.method = "GET", .key = key, .into = bytes, .into_size = size};
    if (etag != NULL && etag[0] != '\0') {
        s3_add_header(&request, "if-match", etag);
    }
    s3_add_header(&request, "range", range);
    struct s3_answer answer;
    enum rmj_status status = s3_call(s3, &request, &answer, err);
    s3_answer_deinit(&answer);
    if (status == RMJ_CONFLICT) {
        status = rmj_fail(err, RMJ_CORRUPT, "s3://%s: %s was replaced while it was read", s3->bucket, key);
    }
    return status;
}

static enum rmj_status s3_get(struct rmj_store *store, const char *key, struct rmj_buf *out, struct rmj_error *err)
{
    struct s3_request request = {.method = "GET", .key = key, .out = out};
    struct s3_answer answer;
    size_t before = out->size;
    enum rmj_status status = s3_call(s3_of(store), &request, &answer, err);
    if (status != RMJ_OK) {
        out->size = before;
        out->failed = 0;
    }
    s3_answer_deinit(&answer);
    return status;
}

static enum rmj_status s3_get_range(struct rmj_store *store, const char *key, uint64_t offset, void *bytes, size_t size,
                                    struct rmj_error *err)
{
    return s3_read(s3_of(store), key, NULL, offset, bytes, size, err);
}

// Reads piece by piece, each with its own retries and deadline, all of one version.
static enum rmj_status s3_stream(struct rmj_store *store, const char *key, store_piece_fn piece, void *context,
                                 struct rmj_error *err)
{
    struct s3_store *s3 = s3_of(store);
    struct s3_answer head;
    enum rmj_status status = s3_head(s3, key, &head, err);
    uint64_t total = head.content_length;
    uint8_t *scratch = NULL;
    if (status != RMJ_OK) {
        goto out;
    }
    scratch = malloc(s3->part_size);
    RMJ_ASSERT(scratch != NULL);
    for (uint64_t offset = 0; offset < total;) {
        uint64_t left = total - offset;
        size_t size = left < s3->part_size ? (size_t)left : s3->part_size;
        RMJ_GO(s3_read(s3, key, head.etag, offset, scratch, size, err));
        RMJ_GO(piece(context, scratch, size, err));
        offset += size;
    }
out:
    free(scratch);
    s3_answer_deinit(&head);
    return status;
}

static enum rmj_status s3_head_op(struct rmj_store *store, const char *key, uint64_t *size, int64_t *modified_unix_ms,
                                  struct rmj_error *err)
{
    struct s3_answer answer;
    enum rmj_status status = s3_head(s3_of(store), key, &answer, err);
    *size = answer.content_length;
    *modified_unix_ms = answer.modified_unix_ms;
    s3_answer_deinit(&answer);
    return status;
}

struct comparison {
    const struct store_source *source;
    uint64_t offset;
    int same;
};

static enum rmj_status compare_piece(void *context, const void *bytes, size_t size, struct rmj_error *err)
{
    struct comparison *comparison = context;
    uint8_t *ours = malloc(size);
    if (ours == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to compare an object");
    }
    enum rmj_status status = store_source_read(comparison->source, comparison->offset, ours, size, err);
    comparison->same = comparison->same && status == RMJ_OK && memcmp(ours, bytes, size) == 0;
    comparison->offset += size;
    free(ours);
    return status;
}

enum rmj_status s3_same_content(struct s3_store *s3, const struct store_put *put, int *same, struct rmj_error *err)
{
    struct comparison comparison = {.source = put->source, .same = 1};
    uint64_t size;
    int64_t modified_unix_ms;
    *same = 0;
    RMJ_TRY(s3_head_op(&s3->base, put->key, &size, &modified_unix_ms, err));
    if (size != put->source->size) {
        return RMJ_OK;
    }
    RMJ_TRY(s3_stream(&s3->base, put->key, compare_piece, &comparison, err));
    *same = comparison.same;
    return RMJ_OK;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static enum rmj_status put_whole(struct s3_store *s3, const struct store_put *put, const void *bytes,
                                 struct rmj_error *err)
{
    size_t size = (size_t)put->source->size;
    char checksum[64];
    struct s3_request request = {
        .method = "PUT", .key = put->key, .body = bytes, .body_size = size, .body_may_be_error = 1};
    if (put->condition == RMJ_PUT_IF_ABSENT) {
        s3_add_header(&request, "if-none-match", "*");
    }
    if (put->digest != NULL) {
        struct rmj_digest found;
        rmj_sha256_of(bytes, size, &found);
        RMJ_TRY(store_check_digest(put, &found, err));
        EVP_EncodeBlock((unsigned char *)checksum, found.bytes, RMJ_DIGEST_SIZE);
        s3_add_header(&request, "x-amz-checksum-sha256", checksum);
    }
    if (rmj_fault_point("store.put.before_visible")) {
        return rmj_fail(err, RMJ_IO, "put of %s: injected fault", put->key);
    }
    struct s3_answer answer;
    enum rmj_status status = s3_call(s3, &request, &answer, err);
    if (status != RMJ_OK && answer.outcome_unknown && put->condition == RMJ_PUT_IF_ABSENT) {
        // A retry met 412, or nothing was heard of any attempt: an earlier one may have made the object.
        int same = 0;
        struct rmj_error ignored = {0};
        if (s3_same_content(s3, put, &same, &ignored) == RMJ_OK && same) {
            rmj_error_clear(err);
            status = RMJ_OK;
        }
    }
    s3_answer_deinit(&answer);
    if (status == RMJ_CONFLICT) {
        status = rmj_fail(err, RMJ_CONFLICT, "s3://%s: %s exists already", s3->bucket, put->key);
    }
    return status;
}

static enum rmj_status s3_put(struct rmj_store *store, const struct store_put *put, struct rmj_error *err)
{
    struct s3_store *s3 = s3_of(store);
    const struct store_source *source = put->source;
    if (source->size > s3->part_size) {
        return s3_put_parts(s3, put, err);
    }
    if (source->bytes != NULL) {
        return put_whole(s3, put, source->bytes, err);
    }
    void *bytes = malloc((size_t)source->size + 1);
    RMJ_ASSERT(bytes != NULL);
    enum rmj_status status = store_source_read(source, 0, bytes, (size_t)source->size, err);
    if (status == RMJ_OK) {
        status = put_whole(s3, put, bytes, err);
    }
    free(bytes);
    return status;
}

static enum rmj_status s3_remove(struct rmj_store *store, const char *key, struct rmj_error *err)
{
    struct s3_request request = {.method = "DELETE", .key = key};
    struct s3_answer answer;
    enum rmj_status status = s3_call(s3_of(store), &request, &answer, err);
    if (status == RMJ_NOT_FOUND && strcmp(answer.code, "NoSuchBucket") != 0) {
        rmj_error_clear(err);
        status = RMJ_OK;
    }
    s3_answer_deinit(&answer);
    return status;
}

void s3_copy_source(const struct s3_store *s3, const char *key, struct rmj_buf *out)
{
    rmj_buf_printf(out, "/%s/", s3->bucket);
    sigv4_encode(out, s3->prefix, 1);
    rmj_buf_puts(out, s3->prefix[0] == '\0' ? "" : "/");
    sigv4_encode(out, key, 1);
}

static enum rmj_status copy_inside(struct s3_store *s3, const char *from_key, const char *to_key, struct rmj_error *err)
{
    struct rmj_buf source;
    rmj_buf_init(&source, 4 * S3_KEY_SIZE);
    s3_copy_source(s3, from_key, &source);
    struct s3_request request = {.method = "PUT", .key = to_key, .body_may_be_error = 1};
    s3_add_header(&request, "x-amz-copy-source", rmj_buf_text(&source));
    // Onto itself an object is copied to make it young, which is allowed only when its metadata are set anew.
    s3_add_header(&request, "x-amz-metadata-directive", "REPLACE");
    struct s3_answer answer;
    enum rmj_status status = s3_call(s3, &request, &answer, err);
    s3_answer_deinit(&answer);
    rmj_buf_deinit(&source);
    return status;
}

static enum rmj_status piece_to_file(void *context, const void *bytes, size_t size, struct rmj_error *err)
{
    return fwrite(bytes, 1, size, context) == size
               ? RMJ_OK
               : rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write a temporary file to copy an object");
}

static enum rmj_status rewrite(struct s3_store *s3, const char *key, struct rmj_error *err)
{
    FILE *file = tmpfile();
    if (file == NULL) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot make a temporary file to copy an object");
    }
    enum rmj_status status = s3_stream(&s3->base, key, piece_to_file, file, err);
    if (status == RMJ_OK && fflush(file) != 0) {
        status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot write a temporary file to copy an object");
    }
    if (status == RMJ_OK) {
        struct store_source source = {.fd = fileno(file), .size = (uint64_t)ftello(file), .name = key};
        struct store_put put = {.key = key, .source = &source, .condition = RMJ_PUT_ANY};
        status = s3_put(&s3->base, &put, err);
    }
    fclose(file);
    return status;
}

static enum rmj_status s3_copy(struct rmj_store *store, const char *from_key, const char *to_key, struct rmj_error *err)
{
    struct s3_store *s3 = s3_of(store);
    uint64_t size;
    int64_t before, after;
    RMJ_TRY(s3_head_op(store, from_key, &size, &before, err));
    if (size > S3_COPY_SIZE_MAX) {
        return s3_copy_parts(s3, from_key, to_key, size, S3_COPY_SIZE_MAX / 4, err);
    }
    RMJ_TRY(copy_inside(s3, from_key, to_key, err));
    if (strcmp(from_key, to_key) != 0) {
        return RMJ_OK;
    }
    // versitygw takes a copy onto itself for a change of metadata and leaves the object as old as it was.
    RMJ_TRY(s3_head_op(store, to_key, &size, &after, err));
    return after > before ? RMJ_OK : rewrite(s3, to_key, err);
}

// ---- open ----------------------------------------------------------------------------------------------------------

static void s3_close(struct rmj_store *store)
{
    struct s3_store *s3 = s3_of(store);
    for (size_t i = 0; i < s3->idle_count; i++) {
        curl_easy_cleanup(s3->idle[i]);
    }
    pthread_mutex_destroy(&s3->lock);
    char *texts[] = {s3->origin, s3->host,       s3->path_prefix, s3->bucket,       s3->prefix,
                     s3->region, s3->access_key, s3->ca_bundle,   s3->session_token};
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        free(texts[i]);
    }
    if (s3->secret_key != NULL) {
        OPENSSL_cleanse(s3->secret_key, strlen(s3->secret_key));
    }
    free(s3->secret_key);
    free(s3);
}

static const struct store_ops s3_ops = {
    .close = s3_close,
    .put = s3_put,
    .get = s3_get,
    .get_range = s3_get_range,
    .stream = s3_stream,
    .head = s3_head_op,
    .remove = s3_remove,
    .copy = s3_copy,
    .list = s3_list,
};

// First of the named variables that is set and not empty, else `otherwise` (may be NULL).
static const char *setting(const char *name, const char *second_name, const char *otherwise)
{
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        value = second_name == NULL ? NULL : getenv(second_name);
    }
    return value == NULL || value[0] == '\0' ? otherwise : value;
}

static char *copy_text(const char *text)
{
    char *copy = text == NULL ? NULL : strdup(text);
    RMJ_ASSERT(text == NULL || copy != NULL);
    return copy;
}

static char *print_text(const char *format, const char *a, const char *b)
{
    char *text;
    int length = asprintf(&text, format, a, b);
    RMJ_ASSERT(length >= 0);
    return text;
}

static enum rmj_status set_bucket(struct s3_store *s3, const char *bucket_and_prefix, struct rmj_error *err)
{
    size_t length = strcspn(bucket_and_prefix, "/");
    const char *prefix = bucket_and_prefix + length + (bucket_and_prefix[length] == '/');
    size_t plain = strspn(bucket_and_prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
    if (length < 3 || length > 63 || plain < length) {
        return rmj_fail(err, RMJ_INVALID, "s3://: a bucket's name has 3 to 63 letters, digits, dots and hyphens");
    }
    s3->bucket = strndup(bucket_and_prefix, length);
    s3->prefix = copy_text(prefix);
    RMJ_ASSERT(s3->bucket != NULL);
    for (size_t size = strlen(prefix); size > 0 && prefix[size - 1] == '/'; size--) {
        s3->prefix[size - 1] = '\0';
    }
    const char *fault = s3->prefix[0] == '\0' ? NULL : store_key_fault(s3->prefix, 0);
    if (fault != NULL || strlen(s3->prefix) > S3_PREFIX_SIZE_MAX) {
        return rmj_fail(err, RMJ_INVALID, "s3://%s/%.160s: the prefix %s", s3->bucket, s3->prefix,
                        fault == NULL ? "is over 120 bytes" : fault);
    }
    return RMJ_OK;
}

// A named endpoint is addressed by path, AWS itself by host name unless a dot in the bucket would break its
// certificate.
static enum rmj_status set_endpoint(struct s3_store *s3, struct rmj_error *err)
{
    const char *endpoint = setting("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL);
    s3->region = copy_text(setting("AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1"));
    if (endpoint == NULL) {
        int by_path = strpbrk(s3->bucket, "._") != NULL;
        s3->host = by_path ? print_text("s3.%s.amazonaws.com%s", s3->region, "")
                           : print_text("%s.s3.%s.amazonaws.com", s3->bucket, s3->region);
        s3->origin = print_text("https://%s%s", s3->host, "");
        s3->path_prefix = by_path ? print_text("/%s%s", s3->bucket, "") : copy_text("");
        return RMJ_OK;
    }
    const char *host = strncmp(endpoint, "http://", 7) == 0    ? endpoint + 7
                       : strncmp(endpoint, "https://", 8) == 0 ? endpoint + 8
                                                               : NULL;
    if (host == NULL || host[0] == '\0' || strpbrk(host, "@?# ") != NULL) {
        return rmj_fail(err, RMJ_INVALID,
                        "AWS_ENDPOINT_URL is not of the form http://host:port or https://host, without user or query");
    }
    size_t host_size = strcspn(host, "/");
    s3->host = strndup(host, host_size);
    s3->origin = strndup(endpoint, (size_t)(host - endpoint) + host_size);
    RMJ_ASSERT(s3->host != NULL && s3->origin != NULL);
    size_t base_size = strlen(host + host_size);
    while (base_size > 0 && host[host_size + base_size - 1] == '/') {
        base_size--;
    }
    char *base = strndup(host + host_size, base_size);
    RMJ_ASSERT(base != NULL);
    s3->path_prefix = print_text("%s/%s", base, s3->bucket);
    free(base);
    return RMJ_OK;
}

static enum rmj_status set_credentials(struct s3_store *s3, struct rmj_error *err)
{
    s3->access_key = copy_text(setting("AWS_ACCESS_KEY_ID", NULL, NULL));
    s3->secret_key = copy_text(setting("AWS_SECRET_ACCESS_KEY", NULL, NULL));
    s3->session_token = copy_text(setting("AWS_SESSION_TOKEN", NULL, NULL));
    s3->ca_bundle = copy_text(setting("AWS_CA_BUNDLE", NULL, NULL));
    if (s3->access_key == NULL || s3->secret_key == NULL) {
        return rmj_fail(err, RMJ_DENIED, "s3://%s needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
                        s3->bucket);
    }
    return RMJ_OK;
}

static enum rmj_status probe_write(struct s3_store *s3, struct rmj_error *err)
{
    char key[64];
    rmj_text_make_id(key, sizeof key, STORE_RESERVED_NAME "/probe-", 16);
    struct s3_request request = {
        .method = "PUT", .key = key, .body = key, .body_size = strlen(key), .retry_max = S3_OPEN_RETRY_MAX};
    struct s3_answer answer;
    enum rmj_status status = s3_call(s3, &request, &answer, err);
    s3_answer_deinit(&answer);
    if (status != RMJ_OK) {
        rmj_context(err, "the store cannot be written");
        return status;
    }
    return s3_remove(&s3->base, key, err);
}

static void start_curl(void)
{
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    RMJ_ASSERT(code == CURLE_OK);
}

enum rmj_status store_s3_open(struct rmj_store **store, const char *bucket_and_prefix, int writable,
                              const struct rmj_store_options *options, struct rmj_error *err)
{
    static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
    pthread_once(&curl_once, start_curl);
    struct s3_store *s3 = calloc(1, sizeof *s3);
    RMJ_ASSERT(s3 != NULL);
    s3->base.ops = &s3_ops;
    s3->deadline_ms = options->deadline_ms;
    s3->retry_max = options->retry_max;
    s3->part_size = options->part_size > STORE_PART_SIZE_MIN ? options->part_size : STORE_PART_SIZE_MIN;
    s3->retry_purse = S3_RETRY_PURSE;
    pthread_mutex_init(&s3->lock, NULL);
    uint64_t seed = 0;
    RMJ_ASSERT(rmj_random_bytes(&seed, sizeof seed)); // delays only; no result depends on it
    rmj_rng_init(&s3->jitter, seed, 0);

    enum rmj_status status = RMJ_OK;
    RMJ_GO(set_bucket(s3, bucket_and_prefix, err));
    RMJ_GO(set_endpoint(s3, err));
    RMJ_GO(set_credentials(s3, err));
    RMJ_GO(s3_list_probe(s3, err));
    if (writable) {
        RMJ_GO(probe_write(s3, err));
    }
out:
    if (status != RMJ_OK) {
        s3_close(&s3->base);
        return status;
    }
    *store = &s3->base;
    return RMJ_OK;
}
