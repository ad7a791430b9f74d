// AWS Signature Version 4 over headers, with a signed payload.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
#ifndef RMJ_STORAGE_OBJECT_SIGV4_H
#define RMJ_STORAGE_OBJECT_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct sigv4_identity {
    const char *access_key;
    const char *secret_key;
    const char *region;
};

struct sigv4_header {
    const char *name; // lower case
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path;  // encoded, as sent
    const char *query; // encoded and sorted by name, as sent; "" for none
    const struct sigv4_header *headers;
    size_t header_count; // sorted by name; every one is signed
    const char *payload_sha256;
};

#define SIGV4_TIME_SIZE 17 // "20130524T000000Z" and the NUL

void sigv4_time(int64_t unix_ms, char out[SIGV4_TIME_SIZE]);
// Percent-encodes everything but A-Z a-z 0-9 - . _ ~, and '/' when keep_slash.
void sigv4_encode(struct rmj_buf *out, const char *text, int keep_slash);
// Appends the value of the Authorization header.
void sigv4_authorization(const struct sigv4_identity *identity, const struct sigv4_request *request,
                         const char time[SIGV4_TIME_SIZE], struct rmj_buf *out);

#endif
