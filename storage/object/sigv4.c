#include "storage/object/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "storage/digest.h"

#define CANONICAL_SIZE_MAX (64u << 10)
#define DATE_SIZE 8

void sigv4_time(int64_t unix_ms, char out[SIGV4_TIME_SIZE])
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(out, SIGV4_TIME_SIZE, "%Y%m%dT%H%M%SZ", &parts);
    RMJ_ASSERT(length == SIGV4_TIME_SIZE - 1);
}

void sigv4_encode(struct rmj_buf *out, const char *text, int keep_slash)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *text != '\0'; text++) {
        if (strchr(plain, *text) != NULL || (keep_slash && *text == '/')) {
            rmj_buf_putc(out, *text);
        } else {
            rmj_buf_printf(out, "%%%02X", (unsigned char)*text);
        }
    }
}

static void hmac(const void *key, size_t key_size, const char *text, uint8_t out[RMJ_DIGEST_SIZE])
{
    unsigned size = 0;
    unsigned char *done = HMAC(EVP_sha256(), key, (int)key_size, (const unsigned char *)text, strlen(text), out, &size);
    RMJ_ASSERT(done != NULL && size == RMJ_DIGEST_SIZE);
}

static void signing_key(const struct sigv4_identity *identity, const char *date, uint8_t key[RMJ_DIGEST_SIZE])
{
    struct rmj_buf secret;
    rmj_buf_init(&secret, CANONICAL_SIZE_MAX);
    rmj_buf_printf(&secret, "AWS4%s", identity->secret_key);
    hmac(rmj_buf_text(&secret), secret.size, date, key);
    if (secret.bytes != NULL) {
        OPENSSL_cleanse(secret.bytes, secret.size);
    }
    rmj_buf_deinit(&secret);
    hmac(key, RMJ_DIGEST_SIZE, identity->region, key);
    hmac(key, RMJ_DIGEST_SIZE, "s3", key);
    hmac(key, RMJ_DIGEST_SIZE, "aws4_request", key);
}

static void signed_names(const struct sigv4_request *request, struct rmj_buf *out)
{
    for (size_t i = 0; i < request->header_count; i++) {
        rmj_buf_printf(out, "%s%s", i == 0 ? "" : ";", request->headers[i].name);
    }
}

static void canonical_digest(const struct sigv4_request *request, char hex[RMJ_DIGEST_HEX_SIZE])
{
    struct rmj_buf canonical;
    rmj_buf_init(&canonical, CANONICAL_SIZE_MAX);
    rmj_buf_printf(&canonical, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (size_t i = 0; i < request->header_count; i++) {
        rmj_buf_printf(&canonical, "%s:%s\n", request->headers[i].name, request->headers[i].value);
    }
    rmj_buf_putc(&canonical, '\n');
    signed_names(request, &canonical);
    rmj_buf_printf(&canonical, "\n%s", request->payload_sha256);
    struct rmj_digest digest;
    rmj_sha256_of(rmj_buf_text(&canonical), canonical.size, &digest);
    rmj_digest_hex(&digest, hex);
    rmj_buf_deinit(&canonical);
}

void sigv4_authorization(const struct sigv4_identity *identity, const struct sigv4_request *request,
                         const char time[SIGV4_TIME_SIZE], struct rmj_buf *out)
{
    char date[DATE_SIZE + 1];
    memcpy(date, time, DATE_SIZE);
    date[DATE_SIZE] = '\0';
    char canonical[RMJ_DIGEST_HEX_SIZE];
    canonical_digest(request, canonical);

    struct rmj_buf text;
    rmj_buf_init(&text, CANONICAL_SIZE_MAX);
    rmj_buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", time, date, identity->region, canonical);
    uint8_t key[RMJ_DIGEST_SIZE], signature[RMJ_DIGEST_SIZE];
    signing_key(identity, date, key);
    hmac(key, sizeof key, rmj_buf_text(&text), signature);
    OPENSSL_cleanse(key, sizeof key);
    rmj_buf_deinit(&text);

    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_text_hex(hex, signature, sizeof signature);
    rmj_buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request, SignedHeaders=", identity->access_key,
                   date, identity->region);
    signed_names(request, out);
    rmj_buf_printf(out, ", Signature=%s", hex);
}
