// Objects over one part: create, send the parts, complete (the moment at which the object appears), or abort.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "storage/object/s3_internal.h"
#include "storage/object/s3_xml.h"

#define UPLOAD_ID_SIZE 1024
#define COMPLETE_BODY_SIZE_MAX (8u << 20)
// AWS asks that after a 409 on completion everything is sent again.
#define UPLOAD_COUNT_MAX 3

struct upload {
    struct s3_store *s3;
    const char *key;
    char id[UPLOAD_ID_SIZE];
    char (*etags)[S3_ETAG_SIZE];
    uint32_t part_count;
};

static enum rmj_status create_upload(struct upload *upload, struct rmj_error *err)
{
    struct s3_request request = {.method = "POST", .key = upload->key, .query = "uploads=", .body_may_be_error = 1};
    struct s3_answer answer;
    enum rmj_status status = s3_call(upload->s3, &request, &answer, err);
    struct xml_span span = {.at = rmj_buf_text(&answer.body), .size = answer.body.size};
    if (status == RMJ_OK && !xml_text(span, "UploadId", upload->id, sizeof upload->id)) {
        status = rmj_fail(err, RMJ_IO, "%s: the store answered CreateMultipartUpload without an UploadId", upload->key);
    }
    s3_answer_deinit(&answer);
    return status;
}

static void part_query(const struct upload *upload, uint32_t part, struct rmj_buf *query)
{
    char number[16];
    snprintf(number, sizeof number, "%u", part);
    rmj_buf_init(query, 4 * UPLOAD_ID_SIZE);
    s3_add_query(query, "partNumber", number);
    s3_add_query(query, "uploadId", upload->id);
}

static enum rmj_status keep_etag(struct upload *upload, uint32_t part, const char *etag, struct rmj_error *err)
{
    if (etag[0] == '\0') {
        return rmj_fail(err, RMJ_IO, "%s: the store took part %u without an ETag", upload->key, part);
    }
    memcpy(upload->etags[part - 1], etag, strlen(etag) + 1);
    return RMJ_OK;
}

static enum rmj_status send_part(struct upload *upload, uint32_t part, const void *bytes, size_t size,
                                 struct rmj_error *err)
{
    if (rmj_fault_point("store.put.part")) {
        return rmj_fail(err, RMJ_IO, "part %u of %s: injected fault", part, upload->key);
    }
    struct rmj_buf query;
    part_query(upload, part, &query);
    struct s3_request request = {
        .method = "PUT", .key = upload->key, .query = rmj_buf_text(&query), .body = bytes, .body_size = size};
    struct s3_answer answer;
    enum rmj_status status = s3_call(upload->s3, &request, &answer, err);
    if (status == RMJ_OK) {
        status = keep_etag(upload, part, answer.etag, err);
    }
    s3_answer_deinit(&answer);
    rmj_buf_deinit(&query);
    return status;
}

static enum rmj_status complete(struct upload *upload, enum rmj_put_condition condition, struct s3_answer *answer,
                                struct rmj_error *err)
{
    struct rmj_buf body, query;
    rmj_buf_init(&body, COMPLETE_BODY_SIZE_MAX);
    rmj_buf_init(&query, 4 * UPLOAD_ID_SIZE);
    s3_add_query(&query, "uploadId", upload->id);
    rmj_buf_puts(&body, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 0; i < upload->part_count; i++) {
        rmj_buf_printf(&body, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1, upload->etags[i]);
    }
    rmj_buf_puts(&body, "</CompleteMultipartUpload>");
    struct s3_request request = {.method = "POST",
                                 .key = upload->key,
                                 .query = rmj_buf_text(&query),
                                 .body = rmj_buf_text(&body),
                                 .body_size = body.size,
                                 .body_may_be_error = 1};
    if (condition == RMJ_PUT_IF_ABSENT) {
        s3_add_header(&request, "if-none-match", "*");
    }
    RMJ_ASSERT(!body.failed && !query.failed);
    enum rmj_status status = s3_call(upload->s3, &request, answer, err);
    rmj_buf_deinit(&body);
    rmj_buf_deinit(&query);
    return status;
}

static void abort_upload(struct upload *upload)
{
    struct rmj_buf query;
    rmj_buf_init(&query, 4 * UPLOAD_ID_SIZE);
    s3_add_query(&query, "uploadId", upload->id);
    struct s3_request request = {.method = "DELETE", .key = upload->key, .query = rmj_buf_text(&query)};
    struct s3_answer answer;
    struct rmj_error err = {0};
    enum rmj_status status = s3_call(upload->s3, &request, &answer, &err);
    if (status != RMJ_OK && status != RMJ_NOT_FOUND) {
        rmj_log(RMJ_LOG_WARN, "store", "event=parts_left_behind bucket=%s status=%s mend=\"%s\"", upload->s3->bucket,
                rmj_status_name(status), "set a lifecycle rule AbortIncompleteMultipartUpload");
    }
    s3_answer_deinit(&answer);
    rmj_buf_deinit(&query);
}

static enum rmj_status send_parts(struct upload *upload, const struct store_put *put, uint64_t part_size,
                                  uint8_t *scratch, struct rmj_error *err)
{
    const struct store_source *source = put->source;
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    enum rmj_status status = RMJ_OK;
    for (uint32_t part = 1; part <= upload->part_count && status == RMJ_OK; part++) {
        uint64_t offset = (part - 1) * part_size;
        uint64_t left = source->size - offset;
        size_t size = (size_t)(left < part_size ? left : part_size);
        const uint8_t *bytes = source->bytes == NULL ? scratch : source->bytes + offset;
        if (source->bytes == NULL) {
            status = store_source_read(source, offset, scratch, size, err);
        }
        if (status == RMJ_OK) {
            rmj_sha256_update(&sha, bytes, put->digest == NULL ? 0 : size);
            status = send_part(upload, part, bytes, size, err);
        }
    }
    struct rmj_digest found;
    rmj_sha256_final(&sha, &found);
    return status == RMJ_OK ? store_check_digest(put, &found, err) : status;
}

// After a completion that did not plainly succeed: is our object there after all?
static enum rmj_status settle(struct s3_store *s3, const struct store_put *put, enum rmj_status status,
                              struct rmj_error *err)
{
    int same = 0;
    struct rmj_error ignored = {0};
    if (s3_same_content(s3, put, &same, &ignored) == RMJ_OK && same) {
        rmj_error_clear(err);
        return RMJ_OK;
    }
    return status;
}

static enum rmj_status put_once(struct upload *upload, const struct store_put *put, uint64_t part_size,
                                uint8_t *scratch, int *send_again, struct rmj_error *err)
{
    *send_again = 0;
    RMJ_TRY(create_upload(upload, err));
    struct s3_answer answer = {0};
    enum rmj_status status = RMJ_OK;
    RMJ_GO(send_parts(upload, put, part_size, scratch, err));
    if (rmj_fault_point("store.put.before_visible")) {
        status = rmj_fail(err, RMJ_IO, "put of %s: injected fault", put->key);
        goto out;
    }
    status = complete(upload, put->condition, &answer, err);
    if (status != RMJ_OK && answer.outcome_unknown) {
        status = settle(upload->s3, put, status, err);
    }
    *send_again = status == RMJ_AGAIN && answer.http == 409;
out:
    s3_answer_deinit(&answer);
    if (status != RMJ_OK) {
        abort_upload(upload);
    }
    return status;
}

static uint64_t fit_part_size(uint64_t size, uint64_t part_size)
{
    uint64_t least = size / STORE_PART_COUNT_MAX + 1;
    return part_size > least ? part_size : least;
}

enum rmj_status s3_put_parts(struct s3_store *s3, const struct store_put *put, struct rmj_error *err)
{
    uint64_t part_size = fit_part_size(put->source->size, s3->part_size);
    if (put->condition == RMJ_PUT_IF_ABSENT) {
        // The completion decides; this only saves sending what would be refused.
        struct s3_answer answer;
        enum rmj_status found = s3_head(s3, put->key, &answer, err);
        s3_answer_deinit(&answer);
        if (found == RMJ_OK) {
            return rmj_fail(err, RMJ_CONFLICT, "s3://%s: %s exists already", s3->bucket, put->key);
        }
        if (found != RMJ_NOT_FOUND) {
            return found;
        }
        rmj_error_clear(err);
    }
    struct upload upload = {.s3 = s3, .key = put->key};
    upload.part_count = (uint32_t)((put->source->size + part_size - 1) / part_size);
    upload.etags = calloc(upload.part_count, sizeof *upload.etags);
    uint8_t *scratch = put->source->bytes == NULL ? malloc((size_t)part_size) : NULL;
    enum rmj_status status = RMJ_OK;
    if (upload.etags == NULL || (put->source->bytes == NULL && scratch == NULL)) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to send %s in parts", put->key);
        goto out;
    }
    int send_again = 1;
    for (int i = 0; i < UPLOAD_COUNT_MAX && send_again; i++) {
        status = put_once(&upload, put, part_size, scratch, &send_again, err);
    }
out:
    free(upload.etags);
    free(scratch);
    return status;
}

// ---- copy ----------------------------------------------------------------------------------------------------------

static enum rmj_status copy_part(struct upload *upload, uint32_t part, const char *source, uint64_t offset,
                                 uint64_t size, struct rmj_error *err)
{
    char range[64];
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)offset,
             (unsigned long long)(offset + size - 1));
    struct rmj_buf query;
    part_query(upload, part, &query);
    struct s3_request request = {
        .method = "PUT", .key = upload->key, .query = rmj_buf_text(&query), .body_may_be_error = 1};
    s3_add_header(&request, "x-amz-copy-source", source);
    s3_add_header(&request, "x-amz-copy-source-range", range);
    struct s3_answer answer;
    enum rmj_status status = s3_call(upload->s3, &request, &answer, err);
    if (status == RMJ_OK) {
        char etag[S3_ETAG_SIZE] = "";
        struct xml_span span = {.at = rmj_buf_text(&answer.body), .size = answer.body.size};
        if (!xml_text(span, "ETag", etag, sizeof etag)) {
            etag[0] = '\0';
        }
        status = keep_etag(upload, part, etag, err);
    }
    s3_answer_deinit(&answer);
    rmj_buf_deinit(&query);
    return status;
}

enum rmj_status s3_copy_parts(struct s3_store *s3, const char *from_key, const char *to_key, uint64_t size,
                              uint64_t part_size, struct rmj_error *err)
{
    part_size = fit_part_size(size, part_size);
    struct upload upload = {.s3 = s3, .key = to_key};
    upload.part_count = (uint32_t)((size + part_size - 1) / part_size);
    upload.etags = calloc(upload.part_count, sizeof *upload.etags);
    RMJ_ASSERT(upload.etags != NULL);
    struct rmj_buf source;
    rmj_buf_init(&source, 4 * S3_KEY_SIZE);
    s3_copy_source(s3, from_key, &source);
    enum rmj_status status = create_upload(&upload, err);
    if (status != RMJ_OK) {
        goto out;
    }
    for (uint32_t part = 1; part <= upload.part_count && status == RMJ_OK; part++) {
        uint64_t offset = (part - 1) * part_size;
        uint64_t left = size - offset;
        status = copy_part(&upload, part, rmj_buf_text(&source), offset, left < part_size ? left : part_size, err);
    }
    if (status == RMJ_OK) {
        struct s3_answer answer;
        status = complete(&upload, RMJ_PUT_ANY, &answer, err);
        s3_answer_deinit(&answer);
    }
    if (status != RMJ_OK) {
        abort_upload(&upload);
    }
out:
    rmj_buf_deinit(&source);
    free(upload.etags);
    return status;
}
