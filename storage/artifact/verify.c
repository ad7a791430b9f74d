#include <jansson.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "storage/artifact/artifact_internal.h"

// ---- strict JSON ---------------------------------------------------------------------------------------------------

static enum rmj_status malformed(struct rmj_error *err, const char *what)
{
    return rmj_fail(err, RMJ_CORRUPT, "model.sig: %s", what);
}

// Fails unless `object` is an object with exactly the named keys.
static enum rmj_status expect_keys(const json_t *object, const char *where, const char *const *names, size_t count,
                                   struct rmj_error *err)
{
    if (!json_is_object(object)) {
        return rmj_fail(err, RMJ_CORRUPT, "model.sig: %s is missing or not an object", where);
    }
    for (size_t i = 0; i < count; i++) {
        if (json_object_get(object, names[i]) == NULL) {
            return rmj_fail(err, RMJ_CORRUPT, "model.sig: %s has no \"%s\"", where, names[i]);
        }
    }
    if (json_object_size(object) != count) {
        return rmj_fail(err, RMJ_CORRUPT, "model.sig: %s has keys that do not belong there", where);
    }
    return RMJ_OK;
}
#define EXPECT_KEYS(object, where, err, ...)                                                                           \
    RMJ_TRY(expect_keys((object), (where), (const char *const[]){__VA_ARGS__},                                         \
                        RMJ_COUNT(((const char *const[]){__VA_ARGS__})), (err)))

static int is_text(const json_t *object, const char *name, const char *value)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && strcmp(text, value) == 0;
}

// A text without NUL characters, or NULL.
static const char *text_of(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    const char *text = json_string_value(value);
    return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

// Appends the decoded bytes; only the one canonical spelling is taken.
static enum rmj_status decode_base64(const char *text, const char *what, struct rmj_buf *out, struct rmj_error *err)
{
    size_t length = text == NULL ? 0 : strlen(text);
    if (length == 0 || length % 4 != 0 || length > ARTIFACT_SIGNATURE_SIZE_MAX) {
        return rmj_fail(err, RMJ_CORRUPT, "model.sig: %s is not base64", what);
    }
    size_t start = out->size;
    char *bytes = rmj_buf_extend(out, length / 4 * 3);
    char *again = malloc(length + 1);
    enum rmj_status status = RMJ_OK;
    if (bytes == NULL || again == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to read model.sig");
        goto out;
    }
    int size = EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text, (int)length);
    size -= (text[length - 1] == '=') + (text[length - 2] == '=');
    if (size >= 0) {
        out->size = start + (size_t)size;
        EVP_EncodeBlock((unsigned char *)again, (const unsigned char *)bytes, size);
    }
    if (size < 0 || strcmp(again, text) != 0) {
        status = rmj_fail(err, RMJ_CORRUPT, "model.sig: %s is not base64", what);
    }
out:
    free(again);
    return status;
}

// ---- envelope ------------------------------------------------------------------------------------------------------

struct envelope {
    const char *hint; // owned by the JSON
    struct rmj_buf payload;
    struct rmj_buf signature;
};

static enum rmj_status read_envelope(const json_t *bundle, struct envelope *envelope, struct rmj_error *err)
{
    EXPECT_KEYS(bundle, "the bundle", err, "mediaType", "verificationMaterial", "dsseEnvelope");
    if (!is_text(bundle, "mediaType", BUNDLE_MEDIA_TYPE)) {
        return malformed(err, "mediaType is not " BUNDLE_MEDIA_TYPE);
    }
    const json_t *material = json_object_get(bundle, "verificationMaterial");
    EXPECT_KEYS(material, "verificationMaterial", err, "publicKey", "tlogEntries");
    const json_t *public_key = json_object_get(material, "publicKey");
    EXPECT_KEYS(public_key, "publicKey", err, "hint");
    envelope->hint = text_of(public_key, "hint");
    const json_t *log = json_object_get(material, "tlogEntries");
    if (envelope->hint == NULL || !json_is_array(log) || json_array_size(log) != 0) {
        return malformed(err, "verificationMaterial is not that of a key signature");
    }
    const json_t *dsse = json_object_get(bundle, "dsseEnvelope");
    EXPECT_KEYS(dsse, "dsseEnvelope", err, "payload", "payloadType", "signatures");
    if (!is_text(dsse, "payloadType", PAYLOAD_TYPE)) {
        return malformed(err, "payloadType is not " PAYLOAD_TYPE);
    }
    const json_t *signatures = json_object_get(dsse, "signatures");
    if (!json_is_array(signatures) || json_array_size(signatures) != 1) {
        return malformed(err, "there is not exactly one signature");
    }
    const json_t *signature = json_array_get(signatures, 0);
    EXPECT_KEYS(signature, "the signature", err, "sig", "keyid");
    if (text_of(signature, "keyid") == NULL) {
        return malformed(err, "keyid is not a text");
    }
    RMJ_TRY(decode_base64(text_of(signature, "sig"), "the signature", &envelope->signature, err));
    return decode_base64(text_of(dsse, "payload"), "the payload", &envelope->payload, err);
}

static enum rmj_status read_public_key(const char *pem, EVP_PKEY **key, struct rmj_error *err)
{
    size_t length = strlen(pem);
    BIO *bio = length > ARTIFACT_PEM_SIZE_MAX ? NULL : BIO_new_mem_buf(pem, (int)length);
    *key = bio == NULL ? NULL : PEM_read_bio_PUBKEY(bio, NULL, NULL, (void *)"");
    BIO_free(bio);
    ERR_clear_error();
    if (*key == NULL) {
        return rmj_fail(err, RMJ_INVALID, "the key to verify with is not a public key in PEM form");
    }
    if (!artifact_key_is_p256(*key)) {
        EVP_PKEY_free(*key);
        *key = NULL;
        return rmj_fail(err, RMJ_INVALID, "the key to verify with is not an EC key on P-256");
    }
    return RMJ_OK;
}

static int signature_holds(EVP_PKEY *key, const struct rmj_buf *pae, const struct rmj_buf *signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int holds = context != NULL && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(context, (const unsigned char *)rmj_buf_text(signature), signature->size,
                                 (const unsigned char *)pae->bytes, pae->size) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return holds;
}

static enum rmj_status check_signature(const struct envelope *envelope, const char *pem, struct rmj_error *err)
{
    EVP_PKEY *key = NULL;
    struct rmj_buf pae;
    rmj_buf_init(&pae, 2 * ARTIFACT_SIGNATURE_SIZE_MAX);
    char hint[RMJ_DIGEST_HEX_SIZE];
    enum rmj_status status = RMJ_OK;
    RMJ_GO(read_public_key(pem, &key, err));
    RMJ_GO(artifact_key_hint(key, hint, NULL, err));
    artifact_pae(rmj_buf_text(&envelope->payload), envelope->payload.size, &pae);
    RMJ_GO(rmj_buf_check(&pae, err));
    if (signature_holds(key, &pae, &envelope->signature)) {
        goto out;
    }
    status =
        strcmp(hint, envelope->hint) == 0
            ? malformed(err, "the signature does not hold: the list of files or the signature was changed")
            : rmj_fail(err, RMJ_DENIED, "model.sig: signed by another key (SHA-256 %.64s), not by the given one (%s)",
                       envelope->hint, hint);
out:
    EVP_PKEY_free(key);
    rmj_buf_deinit(&pae);
    return status;
}

// ---- statement -----------------------------------------------------------------------------------------------------

static enum rmj_status read_resource(const json_t *resource, struct rmj_artifact *listed, struct rmj_sha256 *root,
                                     struct rmj_error *err)
{
    EXPECT_KEYS(resource, "a resource", err, "name", "algorithm", "digest");
    const char *name = text_of(resource, "name");
    const char *hex = text_of(resource, "digest");
    struct rmj_digest digest;
    if (name == NULL || hex == NULL || !is_text(resource, "algorithm", "sha256") ||
        !rmj_digest_from_hex(&digest, hex)) {
        return malformed(err, "a resource is not a name with a SHA-256");
    }
    rmj_sha256_update(root, digest.bytes, RMJ_DIGEST_SIZE);
    enum rmj_status status = rmj_artifact_add(listed, name, 0, &digest, err);
    if (status != RMJ_OK) {
        rmj_context(err, "model.sig");
        return err == NULL ? RMJ_CORRUPT : (err->status = RMJ_CORRUPT);
    }
    return RMJ_OK;
}

static enum rmj_status read_resources(const json_t *resources, struct rmj_artifact *listed, struct rmj_digest *root,
                                      struct rmj_error *err)
{
    if (!json_is_array(resources)) {
        return malformed(err, "resources is not a list");
    }
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    enum rmj_status status = RMJ_OK;
    for (size_t i = 0; i < json_array_size(resources) && status == RMJ_OK; i++) {
        status = read_resource(json_array_get(resources, i), listed, &sha, err);
    }
    rmj_sha256_final(&sha, root);
    return status;
}

static enum rmj_status read_statement(const json_t *statement, struct rmj_artifact *listed, struct rmj_error *err)
{
    EXPECT_KEYS(statement, "the statement", err, "_type", "subject", "predicateType", "predicate");
    if (!is_text(statement, "_type", STATEMENT_TYPE) || !is_text(statement, "predicateType", PREDICATE_TYPE)) {
        return malformed(err, "the statement is of another kind");
    }
    const json_t *subjects = json_object_get(statement, "subject");
    if (!json_is_array(subjects) || json_array_size(subjects) != 1) {
        return malformed(err, "there is not exactly one subject");
    }
    const json_t *subject = json_array_get(subjects, 0);
    EXPECT_KEYS(subject, "the subject", err, "name", "digest");
    const json_t *subject_digest = json_object_get(subject, "digest");
    EXPECT_KEYS(subject_digest, "the subject's digest", err, "sha256");
    struct rmj_digest claimed;
    const char *claimed_hex = text_of(subject_digest, "sha256");
    if (claimed_hex == NULL || !rmj_digest_from_hex(&claimed, claimed_hex)) {
        return malformed(err, "the subject's digest is not a SHA-256");
    }
    // The public rule for a predicate is to ignore what one does not know; the serialization decides what was hashed.
    const json_t *predicate = json_object_get(statement, "predicate");
    const json_t *serialization = json_object_get(predicate, "serialization");
    if (!is_text(serialization, "method", "files") || !is_text(serialization, "hash_type", "sha256") ||
        !json_is_false(json_object_get(serialization, "allow_symlinks"))) {
        return malformed(err, "the files were not hashed one by one with SHA-256 and without symbolic links");
    }
    struct rmj_digest root;
    RMJ_TRY(read_resources(json_object_get(predicate, "resources"), listed, &root, err));
    return rmj_digest_equal(&root, &claimed) ? RMJ_OK
                                             : malformed(err, "the root digest is not that of the files listed");
}

// ---- files ---------------------------------------------------------------------------------------------------------

static enum rmj_status compare_files(const struct rmj_artifact *listed, const struct rmj_artifact *found,
                                     struct rmj_error *err)
{
    size_t i = 0;
    size_t k = 0;
    while (i < listed->file_count || k < found->file_count) {
        int order = i == listed->file_count  ? 1
                    : k == found->file_count ? -1
                                             : artifact_path_compare(listed->files[i].path, found->files[k].path);
        if (order < 0) {
            return rmj_fail(err, RMJ_CORRUPT, "%s is signed for and missing", listed->files[i].path);
        }
        if (order > 0) {
            return rmj_fail(err, RMJ_CORRUPT, "%s is not signed for", found->files[k].path);
        }
        if (!rmj_digest_equal(&listed->files[i].digest, &found->files[k].digest)) {
            return rmj_fail(err, RMJ_CORRUPT, "%s is not what was signed: its SHA-256 differs", listed->files[i].path);
        }
        i++;
        k++;
    }
    return RMJ_OK;
}

static enum rmj_status scan_to_verify(struct rmj_artifact *found, const char *directory, struct rmj_error *err)
{
    enum rmj_status status = rmj_artifact_scan(found, directory, err);
    if (status == RMJ_INVALID) {
        // A symbolic link, a device, a name that no artifact can have.
        status = RMJ_CORRUPT;
        if (err != NULL) {
            err->status = RMJ_CORRUPT;
        }
    }
    return status;
}

static enum rmj_status verify_bundle(const char *directory, const char *pem, const struct rmj_buf *text,
                                     struct rmj_error *err)
{
    struct envelope envelope = {0};
    rmj_buf_init(&envelope.payload, ARTIFACT_SIGNATURE_SIZE_MAX);
    rmj_buf_init(&envelope.signature, ECDSA_SIGNATURE_SIZE_MAX * 2);
    struct rmj_artifact listed = {0};
    struct rmj_artifact found = {0};
    json_t *statement = NULL;
    json_error_t parse;
    enum rmj_status status = RMJ_OK;
    json_t *bundle = json_loadb(rmj_buf_text(text), text->size, JSON_REJECT_DUPLICATES, &parse);
    if (bundle == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "model.sig: not JSON at byte %d: %s", parse.position, parse.text);
        goto out;
    }
    RMJ_GO(read_envelope(bundle, &envelope, err));
    // Nothing of the payload is looked at before its signature held.
    RMJ_GO(check_signature(&envelope, pem, err));
    statement = json_loadb(rmj_buf_text(&envelope.payload), envelope.payload.size, JSON_REJECT_DUPLICATES, &parse);
    if (statement == NULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "model.sig: the statement is not JSON: %s", parse.text);
        goto out;
    }
    RMJ_GO(read_statement(statement, &listed, err));
    RMJ_GO(scan_to_verify(&found, directory, err));
    RMJ_GO(compare_files(&listed, &found, err));
out:
    json_decref(statement);
    json_decref(bundle);
    rmj_artifact_deinit(&listed);
    rmj_artifact_deinit(&found);
    rmj_buf_deinit(&envelope.payload);
    rmj_buf_deinit(&envelope.signature);
    return status;
}

enum rmj_status rmj_artifact_verify(const char *directory, const char *pem, struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, ARTIFACT_SIGNATURE_SIZE_MAX);
    char *path = rmj_fs_join(directory, ARTIFACT_SIGNATURE_NAME);
    enum rmj_status status = rmj_fs_read(path, &text, err);
    if (status == RMJ_OK) {
        status = verify_bundle(directory, pem, &text, err);
    } else if (status == RMJ_NOT_FOUND && rmj_fs_exists(directory)) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s is not signed: it holds no %s", directory, ARTIFACT_SIGNATURE_NAME);
    } else if (status == RMJ_FULL) {
        status = rmj_fail(err, RMJ_CORRUPT, "%s is over %u bytes", path, ARTIFACT_SIGNATURE_SIZE_MAX);
    }
    free(path);
    rmj_buf_deinit(&text);
    return status;
}
