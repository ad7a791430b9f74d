// The S3 store against a server that misbehaves on purpose: a thread answers one request after another by a script and
// writes down what it was asked.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "storage/object/sigv4.h"
#include "storage/object/store.h"

#define ASKED_COUNT_MAX 64
#define REQUEST_SIZE_MAX (8u << 20)

#define XML "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"
#define EMPTY_LISTING "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
#define ERROR_BODY(code) "<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>planted</Message></Error>"

enum cut { WHOLE, RESET_AT_ONCE, RESET_AFTER_READING, CLOSE_AFTER_HALF, SAY_NOTHING };

struct step {
    const char *head; // status line and headers, without Content-Length
    const char *body;
    enum cut cut;
};

static struct {
    int listener;
    int port;
    pthread_t thread;
    pthread_mutex_t lock;
    const struct step *steps;
    size_t step_count;
    size_t step_at;
    char asked[ASKED_COUNT_MAX][2048]; // head of each request
    size_t asked_count;
    int stop;
} server;

static size_t read_request(int fd, char *bytes)
{
    size_t size = 0;
    size_t want = SIZE_MAX;
    while (size < want && size + 1 < REQUEST_SIZE_MAX) {
        ssize_t got = read(fd, bytes + size, REQUEST_SIZE_MAX - 1 - size);
        if (got <= 0) {
            return 0;
        }
        size += (size_t)got;
        bytes[size] = '\0';
        const char *end = strstr(bytes, "\r\n\r\n");
        if (end != NULL && want == SIZE_MAX) {
            const char *length = strcasestr(bytes, "\r\ncontent-length:");
            want = (size_t)(end - bytes) + 4 + (length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0);
        }
    }
    return size;
}

static void reset_connection(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void send_answer(int fd, const struct step *step, int is_head)
{
    char head[1024];
    size_t size = step->body == NULL ? 0 : strlen(step->body);
    int length = snprintf(head, sizeof head, "%sContent-Length: %zu\r\nConnection: close\r\n\r\n", step->head, size);
    size_t sent = step->cut == CLOSE_AFTER_HALF ? size / 2 : size;
    if (send(fd, head, (size_t)length, MSG_NOSIGNAL) < 0 ||
        (!is_head && sent > 0 && send(fd, step->body, sent, MSG_NOSIGNAL) < 0)) {
        return;
    }
    shutdown(fd, SHUT_WR);
}

static void answer(int fd, char *bytes)
{
    pthread_mutex_lock(&server.lock);
    // After the script's end the last step is repeated.
    const struct step *step =
        &server.steps[server.step_at < server.step_count ? server.step_at++ : server.step_count - 1];
    pthread_mutex_unlock(&server.lock);
    if (step->cut == RESET_AT_ONCE) {
        reset_connection(fd);
        return;
    }
    if (read_request(fd, bytes) == 0) {
        return;
    }
    pthread_mutex_lock(&server.lock);
    if (server.asked_count < ASKED_COUNT_MAX) {
        char *end = strstr(bytes, "\r\n\r\n");
        *end = '\0';
        snprintf(server.asked[server.asked_count++], sizeof server.asked[0], "%s", bytes);
    }
    pthread_mutex_unlock(&server.lock);
    if (step->cut == RESET_AFTER_READING) {
        reset_connection(fd);
    } else if (step->cut != SAY_NOTHING) {
        send_answer(fd, step, strncmp(bytes, "HEAD", 4) == 0);
    } else {
        char byte;
        while (read(fd, &byte, 1) > 0) { // until the client gives up
        }
    }
}

static void *serve(void *context)
{
    (void)context;
    char *bytes = malloc(REQUEST_SIZE_MAX);
    for (;;) {
        int fd = accept(server.listener, NULL, NULL);
        pthread_mutex_lock(&server.lock);
        int stop = server.stop;
        pthread_mutex_unlock(&server.lock);
        if (stop || fd < 0) {
            if (fd >= 0) {
                close(fd);
            }
            break;
        }
        answer(fd, bytes);
        close(fd);
    }
    free(bytes);
    return NULL;
}

static struct rmj_store *open_against(const struct rmj_store_options *options)
{
    static const struct step healthy[] = {{XML, EMPTY_LISTING, WHOLE}};
    pthread_mutex_lock(&server.lock);
    server.steps = healthy;
    server.step_count = 1;
    server.step_at = 0;
    pthread_mutex_unlock(&server.lock);
    struct rmj_store *store;
    struct rmj_error err = {0};
    if (rmj_store_open(&store, "s3://bucket/pre", 1, options, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return store;
}

static void play(const struct step *steps, size_t count)
{
    pthread_mutex_lock(&server.lock);
    server.steps = steps;
    server.step_count = count;
    server.step_at = 0;
    server.asked_count = 0;
    pthread_mutex_unlock(&server.lock);
}
#define PLAY(...)                                                                                                      \
    static const struct step steps_[] = {__VA_ARGS__};                                                                 \
    play(steps_, RMJ_COUNT(steps_))

static size_t asked_count(void)
{
    pthread_mutex_lock(&server.lock);
    size_t count = server.asked_count;
    pthread_mutex_unlock(&server.lock);
    return count;
}

static void assert_asked(size_t index, const char *text)
{
    assert_true(index < asked_count());
    if (strcasestr(server.asked[index], text) == NULL) {
        fail_msg("request %zu has no \"%s\":\n%s", index, text, server.asked[index]);
    }
}

static enum rmj_status put(struct rmj_store *store, enum rmj_put_condition condition, struct rmj_error *err)
{
    return rmj_store_put(store, "k", "hello", 5, condition, NULL, err);
}

#define OK_EMPTY                                                                                                       \
    {                                                                                                                  \
        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n", "", WHOLE                                                                \
    }
#define HEAD_FIVE                                                                                                      \
    {                                                                                                                  \
        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n", "hello", WHOLE                                                           \
    }
#define GET_HELLO                                                                                                      \
    {                                                                                                                  \
        "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\n", "hello", WHOLE                                              \
    }
#define GET_OTHER                                                                                                      \
    {                                                                                                                  \
        "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\n", "other", WHOLE                                              \
    }
#define FAULT(status, code)                                                                                            \
    {                                                                                                                  \
        "HTTP/1.1 " status "\r\n", ERROR_BODY(code), WHOLE                                                             \
    }

// ---- retries -------------------------------------------------------------------------------------------------------

static void passing_troubles_are_tried_again(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY(FAULT("500 Internal Server Error", "InternalError"), FAULT("503 Slow Down", "SlowDown"),
         {NULL, NULL, RESET_AT_ONCE}, {NULL, NULL, RESET_AFTER_READING}, {XML, ERROR_BODY("InternalError"), WHOLE},
         FAULT("409 Conflict", "ConditionalRequestConflict"), OK_EMPTY);
    struct rmj_error err = {0};
    assert_int_equal(put(store, RMJ_PUT_ANY, &err), RMJ_OK);
    assert_asked(0, "PUT /bucket/pre/k HTTP/1.1");
    assert_asked(0, "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    rmj_store_close(store);
}

static void lasting_trouble_ends_with_its_class_and_the_number_of_attempts(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&(struct rmj_store_options){.retry_max = 2});
    PLAY(FAULT("503 Slow Down", "SlowDown"));
    struct rmj_error err = {0};
    assert_int_equal(put(store, RMJ_PUT_ANY, &err), RMJ_AGAIN);
    assert_int_equal(asked_count(), 3);
    assert_int_equal(err.origin_code, 503);
    assert_non_null(strstr(err.message, "PUT s3://bucket/pre/k: 503 SlowDown: planted (3 attempts)"));
    rmj_store_close(store);
}

static void a_silent_server_is_given_up_at_the_deadline(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&(struct rmj_store_options){.deadline_ms = 300});
    PLAY({NULL, NULL, SAY_NOTHING});
    struct rmj_error err = {0};
    assert_int_equal(put(store, RMJ_PUT_ANY, &err), RMJ_TIMEOUT);
    rmj_store_close(store);
}

static void what_cannot_change_is_not_tried_again(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    static const struct {
        struct step step;
        enum rmj_status status;
        const char *says;
    } cases[] = {
        {FAULT("403 Forbidden", "AccessDenied"), RMJ_DENIED, "may not do that"},
        {FAULT("403 Forbidden", "ExpiredToken"), RMJ_DENIED, "renew the credentials"},
        {FAULT("404 Not Found", "NoSuchBucket"), RMJ_NOT_FOUND, "create the bucket"},
        {FAULT("507 Insufficient Storage", "XMinioStorageFull"), RMJ_FULL, "no space left"},
        {{"HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-central-1\r\n", ERROR_BODY("PermanentRedirect"),
          WHOLE},
         RMJ_INVALID,
         "(it is in eu-central-1)"},
        {FAULT("400 Bad Request", "InvalidArgument"), RMJ_IO, "InvalidArgument"},
        {{"HTTP/1.1 405 Method Not Allowed\r\n", "<html>not S3</html>", WHOLE}, RMJ_IO, "405"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct rmj_error err = {0};
        play(&cases[i].step, 1);
        assert_int_equal(put(store, RMJ_PUT_ANY, &err), cases[i].status);
        assert_int_equal(asked_count(), 1);
        if (strstr(err.message, cases[i].says) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
        }
        assert_null(strstr(err.message, "planted-secret"));
    }
    rmj_store_close(store);
}

static void a_wrong_clock_is_set_by_the_store_s(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY({"HTTP/1.1 403 Forbidden\r\nDate: Mon, 01 Mar 2038 10:00:00 GMT\r\n", ERROR_BODY("RequestTimeTooSkewed"),
          WHOLE},
         OK_EMPTY);
    assert_int_equal(put(store, RMJ_PUT_ANY, NULL), RMJ_OK);
    assert_asked(1, "x-amz-date: 20380301T1000");
    rmj_store_close(store);
}

// ---- conditional creation ------------------------------------------------------------------------------------------

static void a_retry_that_meets_its_own_success_succeeds(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY({NULL, NULL, RESET_AFTER_READING}, FAULT("412 Precondition Failed", "PreconditionFailed"), HEAD_FIVE,
         HEAD_FIVE, GET_HELLO);
    assert_int_equal(put(store, RMJ_PUT_IF_ABSENT, NULL), RMJ_OK);
    assert_asked(0, "if-none-match: *");
    assert_asked(4, "range: bytes=0-4");
    rmj_store_close(store);
}

static void a_retry_that_meets_another_s_object_is_a_conflict(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY({NULL, NULL, RESET_AFTER_READING}, FAULT("412 Precondition Failed", "PreconditionFailed"), HEAD_FIVE,
         HEAD_FIVE, GET_OTHER);
    assert_int_equal(put(store, RMJ_PUT_IF_ABSENT, NULL), RMJ_CONFLICT);
    rmj_store_close(store);
}

static void a_first_412_is_final(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY(FAULT("412 Precondition Failed", "PreconditionFailed"));
    assert_int_equal(put(store, RMJ_PUT_IF_ABSENT, NULL), RMJ_CONFLICT);
    assert_int_equal(asked_count(), 1);
    rmj_store_close(store);
}

static void a_409_is_a_race_and_not_an_object(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY(FAULT("409 Conflict", "ConditionalRequestConflict"), FAULT("409 Conflict", "ConditionalRequestConflict"),
         OK_EMPTY);
    assert_int_equal(put(store, RMJ_PUT_IF_ABSENT, NULL), RMJ_OK);
    assert_int_equal(asked_count(), 3);
    rmj_store_close(store);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static void a_short_body_is_fetched_again(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    PLAY({"HTTP/1.1 200 OK\r\n", "hello world", CLOSE_AFTER_HALF}, {"HTTP/1.1 200 OK\r\n", "hello world", WHOLE});
    struct rmj_buf out;
    rmj_buf_init(&out, 100);
    rmj_buf_puts(&out, ">");
    assert_int_equal(rmj_store_get(store, "k", &out, NULL), RMJ_OK);
    assert_string_equal(rmj_buf_text(&out), ">hello world");
    rmj_buf_deinit(&out);
    rmj_store_close(store);
}

static void a_body_that_stays_short_is_corrupt(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&(struct rmj_store_options){.retry_max = 1});
    PLAY({"HTTP/1.1 200 OK\r\n", "hello world", CLOSE_AFTER_HALF});
    struct rmj_buf out;
    rmj_buf_init(&out, 100);
    assert_int_equal(rmj_store_get(store, "k", &out, NULL), RMJ_CORRUPT);
    assert_int_equal(out.size, 0);
    rmj_buf_deinit(&out);
    rmj_store_close(store);
}

static void a_range_of_another_length_is_corrupt(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    char bytes[4];
    PLAY(GET_HELLO);
    assert_int_equal(rmj_store_get_range(store, "k", 0, bytes, 4, NULL), RMJ_CORRUPT);
    static const struct step short_answer[] = {{"HTTP/1.1 206 Partial Content\r\n", "he", WHOLE}};
    play(short_answer, 1);
    assert_int_equal(rmj_store_get_range(store, "k", 0, bytes, 4, NULL), RMJ_CORRUPT);
    rmj_store_close(store);
}

static enum rmj_status count_key(void *context, const char *key, uint64_t size, int64_t modified_unix_ms,
                                 struct rmj_error *err)
{
    (void)key;
    (void)size;
    (void)modified_unix_ms;
    (void)err;
    ++*(int *)context;
    return RMJ_OK;
}

#define ENTRY(key)                                                                                                     \
    "<Contents><Key>pre/" key "</Key><LastModified>2026-11-24T22:14:31.000Z</LastModified><Size>1</Size></Contents>"

static void listings_are_read_with_suspicion(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(NULL);
    static const struct {
        const char *body;
        enum rmj_status status;
        int count;
    } cases[] = {
        {"<ListBucketResult>" ENTRY("a&amp;b") ENTRY(".rmj-tmp/x") ENTRY("folder/") "</ListBucketResult>", RMJ_OK, 1},
        {"<html>hello</html>", RMJ_IO, 0},
        {"", RMJ_IO, 0},
        {"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", RMJ_IO, 0},
        {"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", RMJ_IO, 0},
        {"<ListBucketResult><Contents><Key>x&nonsense;</Key><Size>1</Size></Contents></ListBucketResult>", RMJ_IO, 0},
        {"<ListBucketResult><Contents><Key>never closed", RMJ_IO, 0},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct step step = {XML, cases[i].body, WHOLE};
        int count = 0;
        play(&step, 1);
        assert_int_equal(rmj_store_list(store, "", count_key, &count, NULL), cases[i].status);
        assert_int_equal(count, cases[i].count);
    }
    rmj_store_close(store);
}

// ---- parts ---------------------------------------------------------------------------------------------------------

#define CREATED                                                                                                        \
    {                                                                                                                  \
        XML, "<InitiateMultipartUploadResult><UploadId>up/1</UploadId></InitiateMultipartUploadResult>", WHOLE         \
    }
#define NOT_THERE                                                                                                      \
    {                                                                                                                  \
        "HTTP/1.1 404 Not Found\r\n", "", WHOLE                                                                        \
    }
#define DELETED                                                                                                        \
    {                                                                                                                  \
        "HTTP/1.1 204 No Content\r\n", "", WHOLE                                                                       \
    }
#define LARGE_SIZE ((5u << 20) + 7)

static enum rmj_status put_large(struct rmj_store *store, enum rmj_put_condition condition)
{
    char *bytes = calloc(1, LARGE_SIZE);
    enum rmj_status status = rmj_store_put(store, "k", bytes, LARGE_SIZE, condition, NULL, NULL);
    free(bytes);
    return status;
}

static const struct rmj_store_options parts = {.part_size = 5u << 20, .retry_max = 1};

static void a_failed_part_aborts_the_upload(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&parts);
    PLAY(CREATED, OK_EMPTY, FAULT("403 Forbidden", "AccessDenied"), DELETED);
    assert_int_equal(put_large(store, RMJ_PUT_ANY), RMJ_DENIED);
    assert_int_equal(asked_count(), 4);
    assert_asked(1, "PUT /bucket/pre/k?partNumber=1&uploadId=up%2F1");
    assert_asked(3, "DELETE /bucket/pre/k?uploadId=up%2F1");
    rmj_store_close(store);
}

static void an_error_inside_a_200_completion_is_an_error(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&parts);
    PLAY(CREATED, OK_EMPTY, OK_EMPTY, {XML, ERROR_BODY("AccessDenied"), WHOLE}, NOT_THERE, DELETED);
    assert_int_equal(put_large(store, RMJ_PUT_ANY), RMJ_DENIED);
    rmj_store_close(store);
}

static void a_409_at_completion_sends_everything_again(void **state)
{
    (void)state;
    struct rmj_store *store = open_against(&parts);
    PLAY(NOT_THERE, CREATED, OK_EMPTY, OK_EMPTY, FAULT("409 Conflict", "ConditionalRequestConflict"),
         FAULT("409 Conflict", "ConditionalRequestConflict"), DELETED, CREATED, OK_EMPTY, OK_EMPTY,
         {XML, "<CompleteMultipartUploadResult/>", WHOLE});
    assert_int_equal(put_large(store, RMJ_PUT_IF_ABSENT), RMJ_OK);
    assert_asked(4, "if-none-match: *");
    assert_int_equal(asked_count(), 11);
    rmj_store_close(store);
}

// ---- opening and signing -------------------------------------------------------------------------------------------

static void a_server_that_is_not_there_is_unreachable(void **state)
{
    (void)state;
    setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
    struct rmj_store *store;
    struct rmj_error err = {0};
    assert_int_equal(rmj_store_open(&store, "s3://bucket/pre", 1, NULL, &err), RMJ_UNREACHABLE);
    assert_non_null(strstr(err.message, "http://127.0.0.1:1"));
    setenv("AWS_ENDPOINT_URL", "not-a-url", 1);
    assert_int_equal(rmj_store_open(&store, "s3://bucket/pre", 1, NULL, NULL), RMJ_INVALID);
    setenv("AWS_ENDPOINT_URL", "http://user:planted-secret@host", 1);
    assert_int_equal(rmj_store_open(&store, "s3://bucket/pre", 1, NULL, &err), RMJ_INVALID);
    assert_null(strstr(err.message, "planted-secret"));
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", server.port);
    setenv("AWS_ENDPOINT_URL", url, 1);
}

// The examples of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
static void signatures_are_those_of_the_documentation(void **state)
{
    (void)state;
    const struct sigv4_identity identity = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                            "us-east-1"};
    const char *nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const struct sigv4_header get[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                       {"range", "bytes=0-9"},
                                       {"x-amz-content-sha256", nothing},
                                       {"x-amz-date", "20130524T000000Z"}};
    const struct sigv4_header list[] = {{"host", "examplebucket.s3.amazonaws.com"},
                                        {"x-amz-content-sha256", nothing},
                                        {"x-amz-date", "20130524T000000Z"}};
    const struct {
        struct sigv4_request request;
        const char *signature;
    } cases[] = {
        {{"GET", "/test.txt", "", get, 4, nothing}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {{"GET", "/", "max-keys=2&prefix=J", list, 3, nothing},
         "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
        {{"GET", "/", "lifecycle=", list, 3, nothing},
         "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        struct rmj_buf out;
        rmj_buf_init(&out, 1000);
        sigv4_authorization(&identity, &cases[i].request, "20130524T000000Z", &out);
        if (strstr(rmj_buf_text(&out), cases[i].signature) == NULL) {
            fail_msg("case %zu: %s", i, rmj_buf_text(&out));
        }
        rmj_buf_deinit(&out);
    }
    char time[SIGV4_TIME_SIZE];
    sigv4_time(1369353600000, time);
    assert_string_equal(time, "20130524T000000Z");
}

static int start_server(void **state)
{
    (void)state;
    pthread_mutex_init(&server.lock, NULL);
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(server.listener, (struct sockaddr *)&address, size) != 0 || listen(server.listener, 64) != 0 ||
        getsockname(server.listener, (struct sockaddr *)&address, &size) != 0) {
        return -1;
    }
    server.port = ntohs(address.sin_port);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", server.port);
    setenv("AWS_ENDPOINT_URL", url, 1);
    setenv("AWS_ACCESS_KEY_ID", "test", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "planted-secret", 1);
    unsetenv("AWS_ENDPOINT_URL_S3");
    unsetenv("AWS_SESSION_TOKEN");
    return pthread_create(&server.thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
    (void)state;
    pthread_mutex_lock(&server.lock);
    server.stop = 1;
    pthread_mutex_unlock(&server.lock);
    shutdown(server.listener, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.listener);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passing_troubles_are_tried_again),
        cmocka_unit_test(lasting_trouble_ends_with_its_class_and_the_number_of_attempts),
        cmocka_unit_test(a_silent_server_is_given_up_at_the_deadline),
        cmocka_unit_test(what_cannot_change_is_not_tried_again),
        cmocka_unit_test(a_wrong_clock_is_set_by_the_store_s),
        cmocka_unit_test(a_retry_that_meets_its_own_success_succeeds),
        cmocka_unit_test(a_retry_that_meets_another_s_object_is_a_conflict),
        cmocka_unit_test(a_first_412_is_final),
        cmocka_unit_test(a_409_is_a_race_and_not_an_object),
        cmocka_unit_test(a_short_body_is_fetched_again),
        cmocka_unit_test(a_body_that_stays_short_is_corrupt),
        cmocka_unit_test(a_range_of_another_length_is_corrupt),
        cmocka_unit_test(listings_are_read_with_suspicion),
        cmocka_unit_test(a_failed_part_aborts_the_upload),
        cmocka_unit_test(an_error_inside_a_200_completion_is_an_error),
        cmocka_unit_test(a_409_at_completion_sends_everything_again),
        cmocka_unit_test(a_server_that_is_not_there_is_unreachable),
        cmocka_unit_test(signatures_are_those_of_the_documentation),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
