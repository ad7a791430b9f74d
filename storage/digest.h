// SHA-256, the name of every immutable thing in rmjob.
#ifndef RMJ_STORAGE_DIGEST_H
#define RMJ_STORAGE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define RMJ_DIGEST_SIZE 32
#define RMJ_DIGEST_HEX_SIZE 65 // with the NUL

struct rmj_digest {
    uint8_t bytes[RMJ_DIGEST_SIZE];
};

// Streaming; heap-free for callers. init -> update* -> final (which also releases).
struct rmj_sha256 {
    void *context;
};
void rmj_sha256_init(struct rmj_sha256 *sha);
void rmj_sha256_update(struct rmj_sha256 *sha, const void *bytes, size_t size);
void rmj_sha256_final(struct rmj_sha256 *sha, struct rmj_digest *digest);

void rmj_sha256_of(const void *bytes, size_t size, struct rmj_digest *digest);
// Digest and size of a file. Errors: RMJ_NOT_FOUND, RMJ_DENIED, RMJ_IO.
RMJ_MUST_USE enum rmj_status rmj_sha256_of_file(const char *path, struct rmj_digest *digest, uint64_t *size,
                                                struct rmj_error *err);
void rmj_digest_hex(const struct rmj_digest *digest, char hex[RMJ_DIGEST_HEX_SIZE]);
int rmj_digest_from_hex(struct rmj_digest *digest, const char *hex); // 1 when it is a digest
int rmj_digest_equal(const struct rmj_digest *a, const struct rmj_digest *b);

#endif
