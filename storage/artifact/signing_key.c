#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "storage/artifact/artifact_internal.h"

int artifact_key_is_p256(const EVP_PKEY *key)
{
    char group[32];
    size_t length;
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group, sizeof group, &length) == 1 && strcmp(group, "prime256v1") == 0;
}

static enum rmj_status buf_from_bio(BIO *bio, struct rmj_buf *out, struct rmj_error *err)
{
    char *bytes;
    long size = BIO_get_mem_data(bio, &bytes);
    rmj_buf_append(out, bytes, size > 0 ? (size_t)size : 0);
    return rmj_buf_check(out, err);
}

enum rmj_status artifact_key_hint(EVP_PKEY *key, char hint[RMJ_DIGEST_HEX_SIZE], struct rmj_buf *pem,
                                  struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, ARTIFACT_PEM_SIZE_MAX);
    BIO *bio = BIO_new(BIO_s_mem());
    enum rmj_status status = RMJ_OK;
    if (bio == NULL || PEM_write_bio_PUBKEY(bio, key) != 1) {
        status = rmj_fail(err, RMJ_INTERNAL, "the public key cannot be written as PEM");
        goto out;
    }
    RMJ_GO(buf_from_bio(bio, &text, err));
    struct rmj_digest digest;
    rmj_sha256_of(text.bytes, text.size, &digest);
    rmj_digest_hex(&digest, hint);
    if (pem != NULL) {
        rmj_buf_append(pem, text.bytes, text.size);
        RMJ_GO(rmj_buf_check(pem, err));
    }
out:
    BIO_free(bio);
    rmj_buf_deinit(&text);
    return status;
}

static enum rmj_status read_key(EVP_PKEY **pair, const char *path, struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, ARTIFACT_PEM_SIZE_MAX);
    BIO *bio = NULL;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_fs_read(path, &text, err));
    bio = BIO_new_mem_buf(rmj_buf_text(&text), (int)text.size);
    // An empty pass phrase instead of a question on the terminal.
    *pair = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"");
    ERR_clear_error();
    if (*pair == NULL) {
        status = rmj_fail(err, RMJ_INVALID, "%s is not a private key in PEM form without a pass phrase", path);
    } else if (!artifact_key_is_p256(*pair)) {
        EVP_PKEY_free(*pair);
        *pair = NULL;
        status =
            rmj_fail(err, RMJ_INVALID,
                     "%s is not an EC key on P-256; make one with: openssl ecparam -name prime256v1 -genkey", path);
    }
out:
    BIO_free(bio);
    if (text.bytes != NULL) {
        OPENSSL_cleanse(text.bytes, text.capacity);
    }
    rmj_buf_deinit(&text);
    return status;
}

static enum rmj_status make_key(EVP_PKEY **pair, const char *path, struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, ARTIFACT_PEM_SIZE_MAX);
    BIO *bio = BIO_new(BIO_s_secmem());
    enum rmj_status status = RMJ_OK;
    *pair = EVP_EC_gen("P-256");
    if (bio == NULL || *pair == NULL || PEM_write_bio_PKCS8PrivateKey(bio, *pair, NULL, NULL, 0, NULL, NULL) != 1) {
        status = rmj_fail(err, RMJ_INTERNAL, "libcrypto cannot make a signing key");
        goto out;
    }
    RMJ_GO(buf_from_bio(bio, &text, err));
    RMJ_GO(rmj_fs_write(path, text.bytes, text.size, 0600, err));
out:
    BIO_free(bio);
    if (text.bytes != NULL) {
        OPENSSL_cleanse(text.bytes, text.capacity);
    }
    rmj_buf_deinit(&text);
    if (status != RMJ_OK) {
        EVP_PKEY_free(*pair);
        *pair = NULL;
    }
    return status;
}

static enum rmj_status check_mode(const char *path, struct rmj_error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 077) != 0) {
        return rmj_fail(err, RMJ_DENIED, "signing key %s can be read by others; run: chmod 600 %s", path, path);
    }
    return RMJ_OK;
}

enum rmj_status rmj_signing_key_open(struct rmj_signing_key **key, const char *path, int create, struct rmj_error *err)
{
    *key = NULL;
    EVP_PKEY *pair = NULL;
    if (create && !rmj_fs_exists(path)) {
        RMJ_TRY(make_key(&pair, path, err));
    } else {
        RMJ_TRY(check_mode(path, err));
        RMJ_TRY(read_key(&pair, path, err));
    }
    *key = calloc(1, sizeof **key);
    RMJ_ASSERT(*key != NULL);
    (*key)->pair = pair;
    return RMJ_OK;
}

void rmj_signing_key_close(struct rmj_signing_key *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->pair);
        free(key);
    }
}

enum rmj_status rmj_signing_key_public_pem(const struct rmj_signing_key *key, struct rmj_buf *out,
                                           struct rmj_error *err)
{
    char hint[RMJ_DIGEST_HEX_SIZE];
    return artifact_key_hint(key->pair, hint, out, err);
}
