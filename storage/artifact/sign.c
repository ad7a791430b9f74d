#include <jansson.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "storage/artifact/artifact_internal.h"

const char *const artifact_ignored_names[] = {ARTIFACT_SIGNATURE_NAME, ".git", ".gitattributes", ".github",
                                              ".gitignore"};
const size_t artifact_ignored_name_count = RMJ_COUNT(artifact_ignored_names);

void artifact_pae(const void *payload, size_t size, struct rmj_buf *out)
{
    rmj_buf_printf(out, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE), PAYLOAD_TYPE, size);
    rmj_buf_append(out, payload, size);
}

// ---- statement -----------------------------------------------------------------------------------------------------

static json_t *encode_resources(const struct rmj_artifact *artifact)
{
    json_t *resources = json_array();
    for (size_t i = 0; i < artifact->file_count; i++) {
        char hex[RMJ_DIGEST_HEX_SIZE];
        rmj_digest_hex(&artifact->files[i].digest, hex);
        json_array_append_new(resources, json_pack("{s:s, s:s, s:s}", "name", artifact->files[i].path, "algorithm",
                                                   "sha256", "digest", hex));
    }
    return resources;
}

static json_t *encode_statement(const struct rmj_artifact *artifact, const char *subject_name)
{
    struct rmj_digest root;
    char root_hex[RMJ_DIGEST_HEX_SIZE];
    rmj_artifact_root(artifact, &root);
    rmj_digest_hex(&root, root_hex);
    json_t *ignored = json_array();
    for (size_t i = 0; i < artifact_ignored_name_count; i++) {
        json_array_append_new(ignored, json_string(artifact_ignored_names[i]));
    }
    return json_pack("{s:s, s:[{s:s, s:{s:s}}], s:s, s:{s:{s:s, s:s, s:b, s:o}, s:o}}", "_type", STATEMENT_TYPE,
                     "subject", "name", subject_name, "digest", "sha256", root_hex, "predicateType", PREDICATE_TYPE,
                     "predicate", "serialization", "method", "files", "hash_type", "sha256", "allow_symlinks", 0,
                     "ignore_paths", ignored, "resources", encode_resources(artifact));
}

// ---- envelope ------------------------------------------------------------------------------------------------------

static enum rmj_status sign_bytes(EVP_PKEY *pair, const void *bytes, size_t size, uint8_t *signature,
                                  size_t *signature_size, struct rmj_error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int done = context != NULL && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, pair) == 1 &&
               EVP_DigestSign(context, signature, signature_size, bytes, size) == 1;
    EVP_MD_CTX_free(context);
    if (!done) {
        ERR_clear_error();
        return rmj_fail(err, RMJ_INTERNAL, "libcrypto cannot sign the artifact");
    }
    return RMJ_OK;
}

static char *base64(const void *bytes, size_t size)
{
    char *text = malloc(4 * (size / 3 + 1) + 1);
    RMJ_ASSERT(text != NULL && size < INT32_MAX / 2);
    EVP_EncodeBlock((unsigned char *)text, bytes, (int)size);
    return text;
}

static json_t *encode_bundle(const char *payload, size_t payload_size, const char *hint, const uint8_t *signature,
                             size_t signature_size)
{
    char *payload_text = base64(payload, payload_size);
    char *signature_text = base64(signature, signature_size);
    json_t *bundle =
        json_pack("{s:s, s:{s:{s:s}, s:[]}, s:{s:s, s:s, s:[{s:s, s:s}]}}", "mediaType", BUNDLE_MEDIA_TYPE,
                  "verificationMaterial", "publicKey", "hint", hint, "tlogEntries", "dsseEnvelope", "payload",
                  payload_text, "payloadType", PAYLOAD_TYPE, "signatures", "sig", signature_text, "keyid", "");
    free(payload_text);
    free(signature_text);
    return bundle;
}

static enum rmj_status check_names(const struct rmj_artifact *artifact, struct rmj_error *err)
{
    for (size_t i = 0; i < artifact->file_count; i++) {
        const char *path = artifact->files[i].path;
        size_t top = strcspn(path, "/");
        for (size_t k = 0; k < artifact_ignored_name_count; k++) {
            if (strlen(artifact_ignored_names[k]) == top && strncmp(path, artifact_ignored_names[k], top) == 0) {
                return rmj_fail(err, RMJ_INVALID,
                                "%s cannot be part of a signed artifact: public verifiers leave it out; remove it",
                                path);
            }
        }
    }
    return RMJ_OK;
}

enum rmj_status rmj_artifact_sign(const struct rmj_artifact *artifact, const char *subject_name,
                                  const struct rmj_signing_key *key, struct rmj_buf *out, struct rmj_error *err)
{
    RMJ_TRY(check_names(artifact, err));
    struct rmj_buf pae;
    rmj_buf_init(&pae, ARTIFACT_SIGNATURE_SIZE_MAX);
    json_t *statement = encode_statement(artifact, subject_name);
    char *payload = statement == NULL ? NULL : json_dumps(statement, JSON_SORT_KEYS | JSON_COMPACT);
    json_t *bundle = NULL;
    char *text = NULL;
    char hint[RMJ_DIGEST_HEX_SIZE];
    uint8_t signature[ECDSA_SIGNATURE_SIZE_MAX];
    size_t signature_size = sizeof signature;
    enum rmj_status status = RMJ_OK;
    if (payload == NULL) {
        status = rmj_fail(err, RMJ_INVALID, "the artifact's statement cannot be written: its name is not UTF-8");
        goto out;
    }
    artifact_pae(payload, strlen(payload), &pae);
    RMJ_GO(rmj_buf_check(&pae, err));
    RMJ_GO(artifact_key_hint(key->pair, hint, NULL, err));
    RMJ_GO(sign_bytes(key->pair, pae.bytes, pae.size, signature, &signature_size, err));
    bundle = encode_bundle(payload, strlen(payload), hint, signature, signature_size);
    text = bundle == NULL ? NULL : json_dumps(bundle, JSON_SORT_KEYS | JSON_COMPACT);
    if (text == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a signature");
        goto out;
    }
    rmj_buf_puts(out, text);
    status = rmj_buf_check(out, err);
out:
    json_decref(statement);
    json_decref(bundle);
    free(payload);
    free(text);
    rmj_buf_deinit(&pae);
    return status;
}
