#include "storage/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"

#define READ_SIZE_BYTES (1u << 18)

_Static_assert(RMJ_DIGEST_HEX_SIZE == 2 * RMJ_DIGEST_SIZE + 1, "hex of a digest and its NUL");

// libcrypto fails these calls only for want of memory or of SHA-256 itself; nothing can be named or verified then.
void rmj_sha256_init(struct rmj_sha256 *sha)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    RMJ_ASSERT(context != NULL);
    int done = EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    RMJ_ASSERT(done == 1);
    sha->context = context;
}

void rmj_sha256_update(struct rmj_sha256 *sha, const void *bytes, size_t size)
{
    if (size > 0) {
        int done = EVP_DigestUpdate(sha->context, bytes, size);
        RMJ_ASSERT(done == 1);
    }
}

void rmj_sha256_final(struct rmj_sha256 *sha, struct rmj_digest *digest)
{
    unsigned size = 0;
    int done = EVP_DigestFinal_ex(sha->context, digest->bytes, &size);
    RMJ_ASSERT(done == 1 && size == RMJ_DIGEST_SIZE);
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}

void rmj_sha256_of(const void *bytes, size_t size, struct rmj_digest *digest)
{
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    rmj_sha256_update(&sha, bytes, size);
    rmj_sha256_final(&sha, digest);
}

enum rmj_status rmj_sha256_of_file(const char *path, struct rmj_digest *digest, uint64_t *size, struct rmj_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot open %s", path);
    }
    uint8_t *chunk = malloc(READ_SIZE_BYTES);
    RMJ_ASSERT(chunk != NULL);
    enum rmj_status status = RMJ_OK;
    uint64_t total = 0;
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    for (;;) {
        ssize_t got = read(fd, chunk, READ_SIZE_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            status = rmj_fail_errno(err, rmj_fs_errno_status(errno), "cannot read %s", path);
        }
        if (got <= 0) {
            break;
        }
        rmj_sha256_update(&sha, chunk, (size_t)got);
        total += (uint64_t)got;
    }
    rmj_sha256_final(&sha, digest);
    if (size != NULL) {
        *size = total;
    }
    free(chunk);
    close(fd);
    return status;
}

void rmj_digest_hex(const struct rmj_digest *digest, char hex[RMJ_DIGEST_HEX_SIZE])
{
    rmj_text_hex(hex, digest->bytes, RMJ_DIGEST_SIZE);
}

int rmj_digest_from_hex(struct rmj_digest *digest, const char *hex)
{
    return rmj_text_unhex(digest->bytes, RMJ_DIGEST_SIZE, hex);
}

int rmj_digest_equal(const struct rmj_digest *a, const struct rmj_digest *b)
{
    return memcmp(a->bytes, b->bytes, RMJ_DIGEST_SIZE) == 0;
}
