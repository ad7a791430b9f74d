#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "storage/object/s3_internal.h"
#include "storage/object/s3_xml.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGNED_HEADER_COUNT_MAX (S3_HEADER_COUNT_MAX + 4)

// ---- handles -------------------------------------------------------------------------------------------------------

static CURL *take_handle(struct s3_store *s3)
{
    pthread_mutex_lock(&s3->lock);
    CURL *curl = s3->idle_count > 0 ? s3->idle[--s3->idle_count] : NULL;
    pthread_mutex_unlock(&s3->lock);
    if (curl == NULL) {
        curl = curl_easy_init();
        RMJ_ASSERT(curl != NULL);
    } else {
        curl_easy_reset(curl); // keeps its connection
    }
    return curl;
}

static void give_handle(struct s3_store *s3, CURL *curl)
{
    pthread_mutex_lock(&s3->lock);
    int kept = s3->idle_count < S3_IDLE_HANDLE_COUNT_MAX;
    if (kept) {
        s3->idle[s3->idle_count++] = curl;
    }
    pthread_mutex_unlock(&s3->lock);
    if (!kept) {
        curl_easy_cleanup(curl);
    }
}

// ---- one attempt ---------------------------------------------------------------------------------------------------

void s3_answer_deinit(struct s3_answer *answer)
{
    rmj_buf_deinit(&answer->body);
}

void s3_add_header(struct s3_request *request, const char *name, const char *value)
{
    RMJ_ASSERT(request->header_count < S3_HEADER_COUNT_MAX);
    request->headers[request->header_count++] = (struct sigv4_header){.name = name, .value = value};
}

void s3_add_query(struct rmj_buf *query, const char *name, const char *value)
{
    rmj_buf_puts(query, query->size == 0 ? "" : "&");
    sigv4_encode(query, name, 0);
    rmj_buf_putc(query, '=');
    sigv4_encode(query, value, 0);
}

struct attempt {
    const struct s3_request *request;
    struct s3_answer *answer;
    CURL *curl;
    size_t out_start; // size of request->out before the call
    size_t into_size; // bytes received
    int overflow;     // the body did not fit its place
    struct curl_slist *headers;
    char curl_message[CURL_ERROR_SIZE];
    CURLcode code;
};

static size_t on_body(char *bytes, size_t one, size_t size, void *context)
{
    (void)one;
    struct attempt *attempt = context;
    const struct s3_request *request = attempt->request;
    long http = 0;
    curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &http);
    int wanted = http == 200 || http == 206;
    if (wanted && request->into != NULL) {
        if (size > request->into_size - attempt->into_size) {
            attempt->overflow = 1;
            return 0;
        }
        memcpy((char *)request->into + attempt->into_size, bytes, size);
        attempt->into_size += size;
        return size;
    }
    struct rmj_buf *out = wanted && request->out != NULL ? request->out : &attempt->answer->body;
    rmj_buf_append(out, bytes, size);
    attempt->overflow = out->failed;
    return out->failed ? 0 : size;
}

static int header_value(const char *line, size_t size, const char *name, char *out, size_t out_size)
{
    size_t length = strlen(name);
    if (size <= length || strncasecmp(line, name, length) != 0 || line[length] != ':') {
        return 0;
    }
    const char *at = line + length + 1;
    const char *end = line + size;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    while (end > at && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    if ((size_t)(end - at) >= out_size) {
        return 0;
    }
    memcpy(out, at, (size_t)(end - at));
    out[end - at] = '\0';
    return 1;
}

static size_t on_header(char *line, size_t one, size_t size, void *context)
{
    (void)one;
    struct s3_answer *answer = ((struct attempt *)context)->answer;
    char value[200];
    if (header_value(line, size, "etag", value, sizeof value) && strlen(value) < sizeof answer->etag) {
        memcpy(answer->etag, value, strlen(value) + 1);
    } else if (header_value(line, size, "content-length", value, sizeof value)) {
        answer->content_length = strtoull(value, NULL, 10);
    } else if (header_value(line, size, "last-modified", value, sizeof value)) {
        answer->modified_unix_ms = (int64_t)curl_getdate(value, NULL) * 1000;
    } else if (header_value(line, size, "date", value, sizeof value)) {
        answer->date_unix_ms = (int64_t)curl_getdate(value, NULL) * 1000;
    } else if (header_value(line, size, "x-amz-bucket-region", value, sizeof value) &&
               strlen(value) < sizeof answer->region) {
        memcpy(answer->region, value, strlen(value) + 1);
    }
    return size;
}

static int compare_headers(const void *a, const void *b)
{
    return strcmp(((const struct sigv4_header *)a)->name, ((const struct sigv4_header *)b)->name);
}

static void object_path(const struct s3_store *s3, const struct s3_request *request, struct rmj_buf *out)
{
    sigv4_encode(out, s3->path_prefix, 1);
    rmj_buf_putc(out, '/');
    if (request->key != NULL) {
        sigv4_encode(out, s3->prefix, 1);
        rmj_buf_puts(out, s3->prefix[0] == '\0' ? "" : "/");
        sigv4_encode(out, request->key, 1);
    }
}

static void add_line(struct curl_slist **list, const char *name, const char *value)
{
    struct rmj_buf line;
    rmj_buf_init(&line, 16u << 10);
    // curl sends a header without a value only when it ends in ';', and drops one that ends in ':'.
    rmj_buf_printf(&line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(*list, rmj_buf_text(&line));
    RMJ_ASSERT(longer != NULL && !line.failed);
    *list = longer;
    rmj_buf_deinit(&line);
}

// Signs the request as of now and hangs all its headers on the attempt.
static void sign(struct s3_store *s3, struct attempt *attempt, const char *path, const char *payload_sha256)
{
    const struct s3_request *request = attempt->request;
    pthread_mutex_lock(&s3->lock);
    int64_t now = rmj_clock_unix_ms() + s3->clock_offset_ms;
    pthread_mutex_unlock(&s3->lock);
    char time[SIGV4_TIME_SIZE];
    sigv4_time(now, time);

    struct sigv4_header headers[SIGNED_HEADER_COUNT_MAX];
    size_t count = request->header_count;
    memcpy(headers, request->headers, count * sizeof headers[0]);
    headers[count++] = (struct sigv4_header){"host", s3->host};
    headers[count++] = (struct sigv4_header){"x-amz-content-sha256", payload_sha256};
    headers[count++] = (struct sigv4_header){"x-amz-date", time};
    if (s3->session_token != NULL) {
        headers[count++] = (struct sigv4_header){"x-amz-security-token", s3->session_token};
    }
    qsort(headers, count, sizeof headers[0], compare_headers);

    struct sigv4_request to_sign = {.method = request->method,
                                    .path = path,
                                    .query = request->query == NULL ? "" : request->query,
                                    .headers = headers,
                                    .header_count = count,
                                    .payload_sha256 = payload_sha256};
    struct sigv4_identity identity = {.access_key = s3->access_key, .secret_key = s3->secret_key, .region = s3->region};
    struct rmj_buf authorization;
    rmj_buf_init(&authorization, 8u << 10);
    sigv4_authorization(&identity, &to_sign, time, &authorization);
    for (size_t i = 0; i < count; i++) {
        add_line(&attempt->headers, headers[i].name, headers[i].value);
    }
    add_line(&attempt->headers, "authorization", rmj_buf_text(&authorization));
    rmj_buf_deinit(&authorization);
    // What curl would add on its own.
    attempt->headers = curl_slist_append(attempt->headers, "Expect:");
    attempt->headers = curl_slist_append(attempt->headers, "Content-Type:");
    attempt->headers = curl_slist_append(attempt->headers, "Accept:");
    RMJ_ASSERT(attempt->headers != NULL);
}

static void set_options(const struct s3_store *s3, struct attempt *attempt, const char *url, int64_t left_ms)
{
    const struct s3_request *request = attempt->request;
    CURL *curl = attempt->curl;
    long timeout_ms = (long)(left_ms > 1 ? left_ms : 1);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     timeout_ms < S3_CONNECT_TIMEOUT_MS ? timeout_ms : (long)S3_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)S3_STALL_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, attempt->curl_message);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "rmjob/" RMJ_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, attempt->headers);
    if (s3->ca_bundle != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, s3->ca_bundle);
    }
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body == NULL ? "" : request->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_size);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    } else {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

// Sends once. Fills the answer; attempt->code is curl's verdict.
static void send_once(struct s3_store *s3, struct attempt *attempt, const char *payload_sha256, int64_t left_ms)
{
    const struct s3_request *request = attempt->request;
    struct s3_answer *answer = attempt->answer;
    answer->http = 0;
    answer->code[0] = answer->message[0] = answer->etag[0] = '\0';
    answer->content_length = 0;
    answer->date_unix_ms = answer->modified_unix_ms = 0;
    rmj_buf_clear(&answer->body);
    if (request->out != NULL) {
        request->out->size = attempt->out_start;
        request->out->failed = 0;
    }
    struct rmj_buf path, url;
    rmj_buf_init(&path, 3 * S3_KEY_SIZE + 1024);
    rmj_buf_init(&url, 16u << 10);
    object_path(s3, request, &path);
    rmj_buf_printf(&url, "%s%s%s%s", s3->origin, rmj_buf_text(&path), request->query == NULL ? "" : "?",
                   request->query == NULL ? "" : request->query);
    attempt->curl = take_handle(s3);
    sign(s3, attempt, rmj_buf_text(&path), payload_sha256);
    set_options(s3, attempt, rmj_buf_text(&url), left_ms);
    attempt->code = curl_easy_perform(attempt->curl);
    curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &answer->http);
    give_handle(s3, attempt->curl);
    curl_slist_free_all(attempt->headers);
    attempt->headers = NULL;
    rmj_buf_deinit(&path);
    rmj_buf_deinit(&url);
}

// ---- verdict -------------------------------------------------------------------------------------------------------

struct verdict {
    enum rmj_status status;
    int retry;
    const char *mend; // appended to the message; NULL: none
};

static const struct {
    const char *code;
    struct verdict verdict;
} by_code[] = {
    {"NoSuchKey", {RMJ_NOT_FOUND, 0, NULL}},
    {"NoSuchUpload", {RMJ_NOT_FOUND, 0, NULL}},
    {"NoSuchBucket", {RMJ_NOT_FOUND, 0, "create the bucket, or correct its name"}},
    {"AccessDenied", {RMJ_DENIED, 0, "these credentials may not do that here"}},
    {"InvalidAccessKeyId", {RMJ_DENIED, 0, "set AWS_ACCESS_KEY_ID to a key that the store knows"}},
    {"XAdminUserNotFound", {RMJ_DENIED, 0, "set AWS_ACCESS_KEY_ID to a key that the store knows"}}, // versitygw's 404
    {"SignatureDoesNotMatch", {RMJ_DENIED, 0, "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID"}},
    {"ExpiredToken", {RMJ_DENIED, 0, "AWS_SESSION_TOKEN has expired; renew the credentials"}},
    {"InvalidToken", {RMJ_DENIED, 0, "AWS_SESSION_TOKEN is not valid; renew the credentials"}},
    {"RequestTimeTooSkewed", {RMJ_DENIED, 0, "this machine's clock is wrong; set it by NTP"}},
    {"PermanentRedirect", {RMJ_INVALID, 0, "the bucket is in another region; set AWS_REGION to it"}},
    {"AuthorizationHeaderMalformed", {RMJ_INVALID, 0, "the bucket is in another region; set AWS_REGION to it"}},
    {"IllegalLocationConstraintException", {RMJ_INVALID, 0, "the bucket is in another region; set AWS_REGION to it"}},
    {"QuotaExceeded", {RMJ_FULL, 0, "the store's quota is used up"}},
    {"XMinioStorageFull", {RMJ_FULL, 0, "the store has no space left"}},
    {"XMinioAdminBucketQuotaExceeded", {RMJ_FULL, 0, "the store's quota is used up"}},
    {"EntityTooLarge", {RMJ_FULL, 0, "the object is larger than the store takes"}},
    // The bytes were damaged on their way: they are ours to send again.
    {"BadDigest", {RMJ_CORRUPT, 1, NULL}},
    {"InvalidDigest", {RMJ_CORRUPT, 1, NULL}},
    {"XAmzContentSHA256Mismatch", {RMJ_CORRUPT, 1, NULL}},
    {"XAmzContentChecksumMismatch", {RMJ_CORRUPT, 1, NULL}},
    {"IncompleteBody", {RMJ_CORRUPT, 1, NULL}},
    {"PreconditionFailed", {RMJ_CONFLICT, 0, NULL}},
    {"InvalidRange", {RMJ_CORRUPT, 0, "the object is shorter than expected"}},
    {"ConditionalRequestConflict", {RMJ_AGAIN, 1, NULL}},
    {"OperationAborted", {RMJ_AGAIN, 1, NULL}},
    {"SlowDown", {RMJ_AGAIN, 1, NULL}},
    {"SlowDownRead", {RMJ_AGAIN, 1, NULL}},
    {"SlowDownWrite", {RMJ_AGAIN, 1, NULL}},
    {"ServiceUnavailable", {RMJ_AGAIN, 1, NULL}},
    {"TooManyRequests", {RMJ_AGAIN, 1, NULL}},
    {"RequestTimeout", {RMJ_AGAIN, 1, NULL}},
    {"InternalError", {RMJ_IO, 1, NULL}},
};

static struct verdict judge_http(long http)
{
    switch (http) {
    case 301:
    case 307:
    case 308:
        return (struct verdict){RMJ_INVALID, 0,
                                "the bucket is elsewhere; set AWS_REGION or AWS_ENDPOINT_URL to its place"};
    case 401:
    case 403:
        return (struct verdict){RMJ_DENIED, 0, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and their rights"};
    case 404:
        return (struct verdict){RMJ_NOT_FOUND, 0, NULL};
    case 409:
    case 408:
    case 429:
    case 503:
        return (struct verdict){RMJ_AGAIN, 1, NULL};
    case 412:
        return (struct verdict){RMJ_CONFLICT, 0, NULL};
    case 413:
    case 507:
        return (struct verdict){RMJ_FULL, 0, "the store takes no more"};
    case 416:
        return (struct verdict){RMJ_CORRUPT, 0, "the object is shorter than expected"};
    default:
        return (struct verdict){RMJ_IO, http >= 500, http >= 400 ? NULL : "this is not the answer of an S3 server"};
    }
}

static struct verdict judge_curl(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return (struct verdict){RMJ_UNREACHABLE, 1, "is AWS_ENDPOINT_URL right and the server up?"};
    case CURLE_OPERATION_TIMEDOUT:
        return (struct verdict){RMJ_TIMEOUT, 1, NULL};
    case CURLE_PARTIAL_FILE:
        return (struct verdict){RMJ_CORRUPT, 1, NULL};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return (struct verdict){RMJ_UNREACHABLE, 0, "set AWS_CA_BUNDLE to the certificate authority of the store"};
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return (struct verdict){RMJ_INVALID, 0, "correct AWS_ENDPOINT_URL"};
    default: // resets, empty answers, broken TLS or chunks
        return (struct verdict){RMJ_IO, 1, NULL};
    }
}

static void read_error_body(struct s3_answer *answer)
{
    struct xml_span span = {.at = rmj_buf_text(&answer->body), .size = answer->body.size};
    if (!xml_text(span, "Code", answer->code, sizeof answer->code)) {
        answer->code[0] = '\0';
    }
    if (!xml_text(span, "Message", answer->message, sizeof answer->message)) {
        answer->message[0] = '\0';
    }
    if (answer->region[0] == '\0' && !xml_text(span, "Region", answer->region, sizeof answer->region)) {
        answer->region[0] = '\0';
    }
}

static int body_is_error(const struct s3_answer *answer)
{
    struct xml_span span = {.at = rmj_buf_text(&answer->body), .size = answer->body.size};
    struct xml_span error;
    return xml_next(&span, "Error", &error);
}

static struct verdict judge_answer(struct attempt *attempt)
{
    struct s3_answer *answer = attempt->answer;
    int success = answer->http >= 200 && answer->http < 300;
    if (success && attempt->request->into != NULL && attempt->into_size != attempt->request->into_size) {
        snprintf(answer->message, sizeof answer->message, "%zu bytes came, %zu were asked for", attempt->into_size,
                 attempt->request->into_size);
        // A whole answer that is too short is the object's length; 206 with another length is a damaged answer.
        return (struct verdict){RMJ_CORRUPT, 0, NULL};
    }
    if (success && !(attempt->request->body_may_be_error && body_is_error(answer))) {
        return (struct verdict){RMJ_OK, 0, NULL};
    }
    read_error_body(answer);
    for (size_t i = 0; i < RMJ_COUNT(by_code); i++) {
        if (strcmp(by_code[i].code, answer->code) == 0) {
            return by_code[i].verdict;
        }
    }
    // An unknown error inside a 200 is worth another try: the documented ones are the store's own trouble.
    return success ? (struct verdict){RMJ_IO, 1, NULL} : judge_http(answer->http);
}

static struct verdict judge(struct attempt *attempt)
{
    struct s3_answer *answer = attempt->answer;
    if (attempt->overflow) {
        snprintf(answer->message, sizeof answer->message, "the answer is longer than expected");
        return (struct verdict){attempt->request->into != NULL ? RMJ_CORRUPT : RMJ_FULL, 0, NULL};
    }
    if (attempt->code != CURLE_OK) {
        const char *said = attempt->curl_message[0] != '\0' ? attempt->curl_message : curl_easy_strerror(attempt->code);
        snprintf(answer->message, sizeof answer->message, "%s", said);
        return judge_curl(attempt->code);
    }
    return judge_answer(attempt);
}

static enum rmj_status fail_call(const struct s3_store *s3, const struct attempt *attempt, struct verdict verdict,
                                 struct rmj_error *err)
{
    const struct s3_request *request = attempt->request;
    const struct s3_answer *answer = attempt->answer;
    char where[S3_KEY_SIZE + 80];
    snprintf(where, sizeof where, "s3://%s%s%s%s%s", s3->bucket, s3->prefix[0] == '\0' ? "" : "/", s3->prefix,
             request->key == NULL ? "" : "/", request->key == NULL ? "" : request->key);
    char tries[48] = "";
    if (answer->attempts > 1) {
        snprintf(tries, sizeof tries, " (%u attempts)", answer->attempts);
    }
    char region[128] = "";
    if (answer->region[0] != '\0' && verdict.status == RMJ_INVALID) {
        snprintf(region, sizeof region, " (it is in %s)", answer->region);
    }
    const char *mend_mark = verdict.mend == NULL ? "" : "; ";
    const char *mend = verdict.mend == NULL ? "" : verdict.mend;
    if (attempt->code != CURLE_OK && !attempt->overflow) {
        return rmj_fail_origin(err, verdict.status, "curl", (int)attempt->code, "%s %.600s at %s: %s%s%s%s",
                               request->method, where, s3->origin, answer->message, tries, mend_mark, mend);
    }
    const char *space = answer->code[0] == '\0' ? "" : " ";
    const char *colon = answer->message[0] == '\0' ? "" : ": ";
    return rmj_fail_origin(err, verdict.status, "http", (int)answer->http, "%s %.600s: %ld%s%s%s%s%s%s%s%s",
                           request->method, where, answer->http, space, answer->code, colon, answer->message, tries,
                           mend_mark, mend, region);
}

// ---- retries -------------------------------------------------------------------------------------------------------

// 1 when the store's purse still pays for a retry; *delay_ms by full jitter.
static int pay_retry(struct s3_store *s3, uint32_t attempt, int64_t *delay_ms)
{
    int64_t cap = S3_BACKOFF_FIRST_MS;
    for (uint32_t i = 0; i < attempt && cap < S3_BACKOFF_MAX_MS; i++) {
        cap *= 2;
    }
    cap = cap < S3_BACKOFF_MAX_MS ? cap : S3_BACKOFF_MAX_MS;
    pthread_mutex_lock(&s3->lock);
    int paid = s3->retry_purse >= S3_RETRY_PRICE;
    s3->retry_purse -= paid ? S3_RETRY_PRICE : 0;
    *delay_ms = (int64_t)rmj_rng_below(&s3->jitter, (uint64_t)cap + 1);
    pthread_mutex_unlock(&s3->lock);
    return paid;
}

static void refund(struct s3_store *s3, uint32_t retries)
{
    pthread_mutex_lock(&s3->lock);
    s3->retry_purse += retries > 0 ? (int)retries * S3_RETRY_PRICE : 1;
    s3->retry_purse = s3->retry_purse < S3_RETRY_PURSE ? s3->retry_purse : S3_RETRY_PURSE;
    pthread_mutex_unlock(&s3->lock);
}

// A refused time: sign by the store's clock from now on. 1 when that changes anything.
static int adopt_clock(struct s3_store *s3, const struct s3_answer *answer)
{
    if (strcmp(answer->code, "RequestTimeTooSkewed") != 0 || answer->date_unix_ms == 0) {
        return 0;
    }
    int64_t offset_ms = answer->date_unix_ms - rmj_clock_unix_ms();
    pthread_mutex_lock(&s3->lock);
    int changes = llabs(offset_ms - s3->clock_offset_ms) > 60000;
    s3->clock_offset_ms = changes ? offset_ms : s3->clock_offset_ms;
    pthread_mutex_unlock(&s3->lock);
    if (changes) {
        rmj_log(RMJ_LOG_WARN, "store", "event=clock_skew store_ahead_ms=%lld", (long long)offset_ms);
    }
    return changes;
}

// The request may have been carried out although this attempt failed.
static int leaves_outcome_unknown(const struct attempt *attempt)
{
    if (attempt->code == CURLE_COULDNT_CONNECT || attempt->code == CURLE_COULDNT_RESOLVE_HOST) {
        return 0;
    }
    long http = attempt->answer->http;
    return attempt->code != CURLE_OK || http >= 500 || http == 200;
}

static void log_attempt(const struct attempt *attempt, int64_t start_ms)
{
    if (!rmj_log_enabled(RMJ_LOG_DEBUG, "store")) {
        return;
    }
    char key[256];
    rmj_log_quote(key, sizeof key, attempt->request->key == NULL ? "" : attempt->request->key);
    rmj_log(RMJ_LOG_DEBUG, "store", "event=request method=%s key=\"%s\" http=%ld curl=%d attempt=%u ms=%lld",
            attempt->request->method, key, attempt->answer->http, (int)attempt->code, attempt->answer->attempts,
            (long long)(rmj_clock_mono_ms() - start_ms));
}

enum rmj_status s3_call(struct s3_store *s3, const struct s3_request *request, struct s3_answer *answer,
                        struct rmj_error *err)
{
    *answer = (struct s3_answer){0};
    rmj_buf_init(&answer->body, S3_ANSWER_SIZE_MAX);
    char payload_sha256[RMJ_DIGEST_HEX_SIZE] = EMPTY_SHA256;
    if (request->body_size > 0) {
        struct rmj_digest digest;
        rmj_sha256_of(request->body, request->body_size, &digest);
        rmj_digest_hex(&digest, payload_sha256);
    }
    uint32_t retry_max = request->retry_max > 0 ? request->retry_max : s3->retry_max;
    int64_t deadline_ms = rmj_clock_mono_ms() + s3->deadline_ms;
    size_t out_start = request->out == NULL ? 0 : request->out->size;
    for (;;) {
        struct attempt attempt = {.request = request, .answer = answer, .out_start = out_start};
        int64_t start_ms = rmj_clock_mono_ms();
        answer->attempts++;
        send_once(s3, &attempt, payload_sha256, deadline_ms - start_ms);
        log_attempt(&attempt, start_ms);
        struct verdict verdict = judge(&attempt);
        if (verdict.status == RMJ_OK) {
            refund(s3, answer->attempts - 1);
            return RMJ_OK;
        }
        answer->outcome_unknown |= leaves_outcome_unknown(&attempt);
        int64_t delay_ms = 0;
        int retry = adopt_clock(s3, answer) || verdict.retry;
        if (!retry || answer->attempts > retry_max || !pay_retry(s3, answer->attempts - 1, &delay_ms) ||
            rmj_clock_mono_ms() + delay_ms >= deadline_ms) {
            return fail_call(s3, &attempt, verdict, err);
        }
        rmj_clock_sleep_ms(delay_ms);
    }
}
