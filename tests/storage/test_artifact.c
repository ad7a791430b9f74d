// Artifacts: order, root, signature, and a verifier that takes nothing but what was signed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rng.h"
#include "storage/artifact/artifact.h"
#include "storage/artifact/artifact_internal.h"

#define MUTATION_COUNT 3000
#define SEED 5

static char work[64];
static char model[128]; // a signed directory, made anew for each test
static struct rmj_signing_key *key;
static struct rmj_buf pem;

#define assert_status(expected, call)                                                                                  \
    do {                                                                                                               \
        struct rmj_error err_ = {0};                                                                                   \
        struct rmj_error *err = &err_;                                                                                 \
        enum rmj_status got_ = (call);                                                                                 \
        if (got_ != (expected)) {                                                                                      \
            fail_msg("%s: %s, not %s: %s", #call, rmj_status_name(got_), rmj_status_name(expected), err_.message);     \
        }                                                                                                              \
    } while (0)

static void write_at(const char *path, const char *text)
{
    char *whole = rmj_fs_join(model, path);
    char *slash = strrchr(whole, '/');
    *slash = '\0';
    assert_status(RMJ_OK, rmj_fs_make_directories(whole, 0755, err));
    *slash = '/';
    assert_status(RMJ_OK, rmj_fs_write(whole, text, strlen(text), 0644, err));
    free(whole);
}

static void sign_model(void)
{
    struct rmj_artifact artifact;
    assert_status(RMJ_OK, rmj_artifact_scan(&artifact, model, err));
    struct rmj_buf signature;
    rmj_buf_init(&signature, 1u << 20);
    assert_status(RMJ_OK, rmj_artifact_sign(&artifact, "support-rm", key, &signature, err));
    write_at("model.sig", signature.bytes);
    rmj_buf_deinit(&signature);
    rmj_artifact_deinit(&artifact);
}

static int make_model(void **state)
{
    (void)state;
    if (rmj_fs_remove_tree(model, NULL) != RMJ_OK || rmj_fs_make_directories(model, 0755, NULL) != RMJ_OK) {
        return -1;
    }
    write_at("config.json", "{\"num_labels\": 1}");
    write_at("model.safetensors", "pretend weights");
    write_at("a/b", "1");
    write_at("a.b", "2");
    write_at("a-b/c", "3");
    write_at("empty", "");
    sign_model();
    return 0;
}

// Verifies the model; the message must contain `says`.
static void assert_verdict(enum rmj_status expected, const char *says)
{
    struct rmj_error err = {0};
    enum rmj_status got = rmj_artifact_verify(model, rmj_buf_text(&pem), &err);
    if (got != expected || strstr(err.message, says) == NULL) {
        fail_msg("%s: \"%s\", not %s: \"%s\"", rmj_status_name(got), err.message, rmj_status_name(expected), says);
    }
}

// ---- order and root ------------------------------------------------------------------------------------------------

static void files_are_sorted_by_path_components(void **state)
{
    (void)state;
    const char *paths[] = {"b", "a/b", "a.b", "a-b/c", "a/b.c", "a/B", "ab", "a/c/d"};
    const char *sorted[] = {"a/B", "a/b", "a/b.c", "a/c/d", "a-b/c", "a.b", "ab", "b"};
    struct rmj_artifact artifact = {0};
    struct rmj_digest digest;
    rmj_sha256_of("", 0, &digest);
    for (size_t i = 0; i < RMJ_COUNT(paths); i++) {
        assert_status(RMJ_OK, rmj_artifact_add(&artifact, paths[i], 0, &digest, err));
    }
    for (size_t i = 0; i < RMJ_COUNT(sorted); i++) {
        assert_string_equal(artifact.files[i].path, sorted[i]);
    }
    assert_status(RMJ_CONFLICT, rmj_artifact_add(&artifact, "a/b", 0, &digest, err));
    const char *bad[] = {"", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\nb", "a\\b", "\xff", "model.sig"};
    for (size_t i = 0; i < RMJ_COUNT(bad); i++) {
        assert_status(RMJ_INVALID, rmj_artifact_add(&artifact, bad[i], 0, &digest, err));
    }
    rmj_artifact_deinit(&artifact);
}

static void the_root_is_the_digest_of_the_digests(void **state)
{
    (void)state;
    struct rmj_artifact artifact = {0};
    struct rmj_digest a, b, root, expected;
    rmj_sha256_of("a", 1, &a);
    rmj_sha256_of("b", 1, &b);
    assert_status(RMJ_OK, rmj_artifact_add(&artifact, "b", 1, &b, err));
    assert_status(RMJ_OK, rmj_artifact_add(&artifact, "a", 1, &a, err));
    rmj_artifact_root(&artifact, &root);
    uint8_t both[2 * RMJ_DIGEST_SIZE];
    memcpy(both, a.bytes, RMJ_DIGEST_SIZE);
    memcpy(both + RMJ_DIGEST_SIZE, b.bytes, RMJ_DIGEST_SIZE);
    rmj_sha256_of(both, sizeof both, &expected);
    assert_true(rmj_digest_equal(&root, &expected));
    rmj_artifact_deinit(&artifact);
}

// ---- keys ----------------------------------------------------------------------------------------------------------

static void a_key_is_made_once_and_only_its_owner_can_read_it(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/made.pem", work);
    struct rmj_signing_key *made;
    assert_status(RMJ_NOT_FOUND, rmj_signing_key_open(&made, path, 0, err));
    assert_status(RMJ_OK, rmj_signing_key_open(&made, path, 1, err));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    struct rmj_buf first, second;
    rmj_buf_init(&first, 4096);
    rmj_buf_init(&second, 4096);
    assert_status(RMJ_OK, rmj_signing_key_public_pem(made, &first, err));
    rmj_signing_key_close(made);
    assert_status(RMJ_OK, rmj_signing_key_open(&made, path, 1, err));
    assert_status(RMJ_OK, rmj_signing_key_public_pem(made, &second, err));
    rmj_signing_key_close(made);
    assert_string_equal(first.bytes, second.bytes);
    assert_non_null(strstr(first.bytes, "BEGIN PUBLIC KEY"));
    assert_int_equal(chmod(path, 0644), 0);
    assert_status(RMJ_DENIED, rmj_signing_key_open(&made, path, 0, err));
    assert_status(RMJ_OK, rmj_fs_write(path, "not a key", 9, 0600, err));
    assert_status(RMJ_INVALID, rmj_signing_key_open(&made, path, 0, err));
    rmj_buf_deinit(&first);
    rmj_buf_deinit(&second);
}

// ---- verification --------------------------------------------------------------------------------------------------

static void what_was_signed_verifies(void **state)
{
    (void)state;
    assert_verdict(RMJ_OK, "");
}

static void a_tampered_byte_is_found(void **state)
{
    (void)state;
    write_at("model.safetensors", "pretend Weights");
    assert_verdict(RMJ_CORRUPT, "model.safetensors is not what was signed");
}

static void missing_extra_and_linked_files_are_found(void **state)
{
    (void)state;
    char path[200];
    write_at("a/extra", "x");
    assert_verdict(RMJ_CORRUPT, "a/extra is not signed for");
    snprintf(path, sizeof path, "%s/a/extra", model);
    unlink(path);
    write_at(".gitattributes", "x");
    assert_verdict(RMJ_CORRUPT, ".gitattributes is not signed for");
    snprintf(path, sizeof path, "%s/.gitattributes", model);
    unlink(path);
    snprintf(path, sizeof path, "%s/empty", model);
    unlink(path);
    assert_verdict(RMJ_CORRUPT, "empty is signed for and missing");
    assert_int_equal(symlink("a.b", path), 0);
    assert_verdict(RMJ_CORRUPT, "neither a regular file nor a directory");
}

static void another_key_is_denied(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/other.pem", work);
    struct rmj_signing_key *other;
    struct rmj_buf other_pem;
    rmj_buf_init(&other_pem, 4096);
    assert_status(RMJ_OK, rmj_signing_key_open(&other, path, 1, err));
    assert_status(RMJ_OK, rmj_signing_key_public_pem(other, &other_pem, err));
    assert_status(RMJ_DENIED, rmj_artifact_verify(model, other_pem.bytes, err));
    assert_status(RMJ_INVALID, rmj_artifact_verify(model, "no key", err));
    rmj_signing_key_close(other);
    rmj_buf_deinit(&other_pem);
}

static void a_missing_or_large_signature_is_said(void **state)
{
    (void)state;
    char path[200];
    snprintf(path, sizeof path, "%s/model.sig", model);
    assert_int_equal(truncate(path, (16 << 20) + 1), 0);
    assert_verdict(RMJ_CORRUPT, "is over");
    unlink(path);
    assert_verdict(RMJ_CORRUPT, "is not signed");
}

static void public_verifiers_ignored_names_are_refused_at_signing(void **state)
{
    (void)state;
    write_at(".gitattributes", "*.safetensors filter=lfs");
    struct rmj_artifact artifact;
    struct rmj_buf out;
    rmj_buf_init(&out, 1u << 20);
    assert_status(RMJ_OK, rmj_artifact_scan(&artifact, model, err));
    assert_status(RMJ_INVALID, rmj_artifact_sign(&artifact, "m", key, &out, err));
    rmj_artifact_deinit(&artifact);
    rmj_buf_deinit(&out);
}

// ---- statements that a holder of the key could not have meant ------------------------------------------------------

static json_t *read_bundle(void)
{
    char path[200];
    snprintf(path, sizeof path, "%s/model.sig", model);
    json_t *bundle = json_load_file(path, 0, NULL);
    assert_non_null(bundle);
    return bundle;
}

static void write_bundle(json_t *bundle)
{
    char *text = json_dumps(bundle, 0);
    write_at("model.sig", text);
    free(text);
    json_decref(bundle);
}

// Signs any payload with the right key, as a careless or hostile signer would.
static void sign_payload(const char *payload)
{
    struct rmj_buf pae;
    rmj_buf_init(&pae, 1u << 20);
    artifact_pae(payload, strlen(payload), &pae);
    unsigned char signature[ECDSA_SIGNATURE_SIZE_MAX];
    size_t size = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key->pair), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &size, (unsigned char *)pae.bytes, pae.size), 1);
    EVP_MD_CTX_free(context);
    rmj_buf_deinit(&pae);

    char *payload_text = calloc(1, strlen(payload) * 2 + 8);
    char signature_text[2 * ECDSA_SIGNATURE_SIZE_MAX];
    EVP_EncodeBlock((unsigned char *)payload_text, (const unsigned char *)payload, (int)strlen(payload));
    EVP_EncodeBlock((unsigned char *)signature_text, signature, (int)size);
    json_t *bundle = read_bundle();
    json_t *envelope = json_object_get(bundle, "dsseEnvelope");
    json_object_set_new(envelope, "payload", json_string(payload_text));
    json_object_set_new(json_array_get(json_object_get(envelope, "signatures"), 0), "sig", json_string(signature_text));
    write_bundle(bundle);
    free(payload_text);
}

static char *read_payload(void)
{
    json_t *bundle = read_bundle();
    const char *text = json_string_value(json_object_get(json_object_get(bundle, "dsseEnvelope"), "payload"));
    char *payload = calloc(1, strlen(text) + 4);
    EVP_DecodeBlock((unsigned char *)payload, (const unsigned char *)text, (int)strlen(text));
    json_decref(bundle);
    return payload;
}

static char *replace(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *out;
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    return out;
}

static void a_signed_statement_is_still_not_trusted(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        const char *says;
    } cases[] = {
        {"\"name\":\"a/b\"", "\"name\":\"../b\"", "leaves the artifact"},
        {"\"name\":\"a/b\"", "\"name\":\"/etc/passwd\"", "leaves the artifact"},
        {"\"name\":\"a/b\"", "\"name\":\"a.b\"", "twice"},
        {"\"name\":\"a/b\"", "\"name\":\"a/z\"", "a/b is not signed for"},
        {"\"algorithm\":\"sha256\"", "\"algorithm\":\"blake3\"", "a resource is not"},
        {"\"algorithm\":\"sha256\"", "\"algorithm\":\"sha256\",\"extra\":1", "do not belong there"},
        {"\"allow_symlinks\":false", "\"allow_symlinks\":true", "symbolic links"},
        {"\"method\":\"files\"", "\"method\":\"shards\"", "one by one"},
        {"Statement/v1", "Statement/v0", "another kind"},
        {"{\"_type\"", "{\"extra\":1,\"_type\"", "do not belong there"},
        {"{\"_type\"", "{\"_type\":\"x\",\"_type\"", "not JSON"},
        {"\"subject\":[", "\"subject\":[{\"name\":\"x\",\"digest\":{}},", "exactly one subject"},
        {"\"digest\":{\"sha256\":\"", "\"digest\":{\"sha256\":\"0", "not a SHA-256"},
        {"{\"_type\"", "\"_type\"", "not JSON"},
    };
    char *payload = read_payload();
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char *bad = replace(payload, cases[i].from, cases[i].to);
        sign_payload(bad);
        assert_verdict(RMJ_CORRUPT, cases[i].says);
        free(bad);
    }
    // Unknown fields of the predicate are the public format's room for more.
    char *more = replace(payload, "\"resources\":", "\"job\":\"rm-1\",\"resources\":");
    sign_payload(more);
    assert_verdict(RMJ_OK, "");
    free(more);
    free(payload);
}

static void a_malformed_bundle_is_said_to_be(void **state)
{
    (void)state;
    static const struct {
        const char *from;
        const char *to;
        const char *says;
    } cases[] = {
        {"{", "", "not JSON"},
        {"{", "{\"extra\":1,", "do not belong there"},
        {"bundle.v0.3", "bundle.v0.9", "mediaType"},
        {"\"tlogEntries\":[]", "\"tlogEntries\":[1]", "not that of a key signature"},
        {"\"tlogEntries\":[]", "\"tlogEntries\":[],\"certificate\":{}", "do not belong there"},
        {"vnd.in-toto", "vnd.other", "payloadType"},
        {"\"signatures\":[", "\"signatures\":[{},", "exactly one signature"},
        {"\"payload\":\"", "\"payload\":\"A", "not base64"},
        {"\"payload\":\"", "\"payload\":\"****", "not base64"},
        {"\"sig\":\"", "\"sig\":\"AAAA", "signature does not hold"},
        {"\"sig\":\"", "\"sog\":\"", "no \"sig\""},
        {"\"keyid\":\"\"", "\"keyid\":1", "keyid"},
    };
    json_t *bundle = read_bundle();
    char *text = json_dumps(bundle, JSON_COMPACT);
    json_decref(bundle);
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char *bad = replace(text, cases[i].from, cases[i].to);
        write_at("model.sig", bad);
        assert_verdict(RMJ_CORRUPT, cases[i].says);
        free(bad);
    }
    free(text);
}

static void no_mutation_of_a_signature_verifies(void **state)
{
    (void)state;
    char path[200];
    snprintf(path, sizeof path, "%s/model.sig", model);
    struct rmj_buf good;
    rmj_buf_init(&good, 1u << 20);
    assert_status(RMJ_OK, rmj_fs_read(path, &good, err));
    json_t *original = json_loads(good.bytes, 0, NULL);
    json_object_del(json_object_get(json_object_get(original, "verificationMaterial"), "publicKey"), "hint");
    struct rmj_rng rng;
    rmj_rng_init(&rng, SEED, 0);
    print_message("seed %d\n", SEED);
    for (size_t i = 0; i < MUTATION_COUNT; i++) {
        char *bad = strdup(good.bytes);
        bad[rmj_rng_below(&rng, good.size)] = (char)(1 + rmj_rng_below(&rng, 255));
        FILE *file = fopen(path, "w");
        fputs(bad, file);
        fclose(file);
        enum rmj_status got = rmj_artifact_verify(model, pem.bytes, NULL);
        if (got == RMJ_OK) {
            // Only what nobody relies on may differ: the hint and the key id.
            json_t *changed = json_loads(bad, 0, NULL);
            json_object_del(json_object_get(json_object_get(changed, "verificationMaterial"), "publicKey"), "hint");
            json_t *signatures = json_object_get(json_object_get(changed, "dsseEnvelope"), "signatures");
            json_object_set_new(json_array_get(signatures, 0), "keyid", json_string(""));
            assert_true(json_equal(changed, original));
            json_decref(changed);
        } else {
            assert_true(got == RMJ_CORRUPT || got == RMJ_DENIED);
        }
        free(bad);
    }
    json_decref(original);
    rmj_buf_deinit(&good);
}

// ---- transfer ------------------------------------------------------------------------------------------------------

static void an_artifact_travels_whole_or_not_at_all(void **state)
{
    (void)state;
    char store_path[128], pulled[128], path[256];
    snprintf(store_path, sizeof store_path, "%s/store", work);
    snprintf(pulled, sizeof pulled, "%s/pulled/here/", work);
    struct rmj_store *store;
    struct rmj_artifact artifact;
    assert_status(RMJ_OK, rmj_store_open(&store, store_path, 1, NULL, err));
    assert_status(RMJ_OK, rmj_artifact_scan(&artifact, model, err));
    assert_status(RMJ_OK, rmj_artifact_upload(store, "models/m/1", model, &artifact, err));
    assert_status(RMJ_OK, rmj_artifact_download(store, "models/m/1", &artifact, pulled, NULL, err));
    struct rmj_artifact again;
    assert_status(RMJ_OK, rmj_artifact_scan(&again, pulled, err));
    struct rmj_digest a, b;
    rmj_artifact_root(&artifact, &a);
    rmj_artifact_root(&again, &b);
    assert_true(rmj_digest_equal(&a, &b));
    assert_status(RMJ_CONFLICT, rmj_artifact_download(store, "models/m/1", &artifact, pulled, NULL, err));

    // A file that changed since the scan does not go up, and one that changed in the store does not come down.
    write_at("config.json", "{\"num_labels\": 2}");
    assert_status(RMJ_CORRUPT, rmj_artifact_upload(store, "models/m/2", model, &artifact, err));
    snprintf(path, sizeof path, "%s/models/m/1/model.safetensors", store_path);
    assert_status(RMJ_OK, rmj_fs_write(path, "pretend Weights", 15, 0644, err));
    snprintf(pulled, sizeof pulled, "%s/damaged/x", work);
    struct rmj_error err = {0};
    assert_int_equal(rmj_artifact_download(store, "models/m/1", &artifact, pulled, NULL, &err), RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "model.safetensors"));
    snprintf(path, sizeof path, "%s/damaged", work);
    assert_int_equal(rmdir(path), 0); // no neighbour is left behind

    // Asked for with a key, what is not signed does not come down at all.
    snprintf(pulled, sizeof pulled, "%s/unsigned", work);
    snprintf(path, sizeof path, "%s/models/m/1/model.safetensors", store_path);
    assert_int_equal(rmj_fs_write(path, "pretend weights", 15, 0644, &err), RMJ_OK);
    assert_int_equal(rmj_artifact_download(store, "models/m/1", &artifact, pulled, "no key", &err), RMJ_CORRUPT);
    assert_non_null(strstr(err.message, "not signed"));
    assert_false(rmj_fs_exists(pulled));
    rmj_artifact_deinit(&artifact);
    rmj_artifact_deinit(&again);
    rmj_store_close(store);
}

static int open_work(void **state)
{
    (void)state;
    snprintf(work, sizeof work, "/tmp/rmjob-artifact-XXXXXX");
    if (mkdtemp(work) == NULL) {
        return -1;
    }
    char path[128];
    snprintf(path, sizeof path, "%s/key.pem", work);
    snprintf(model, sizeof model, "%s/model", work);
    rmj_buf_init(&pem, 4096);
    return rmj_signing_key_open(&key, path, 1, NULL) != RMJ_OK || rmj_signing_key_public_pem(key, &pem, NULL) != RMJ_OK;
}

static int close_work(void **state)
{
    (void)state;
    rmj_signing_key_close(key);
    rmj_buf_deinit(&pem);
    return rmj_fs_remove_tree(work, NULL) != RMJ_OK;
}

// `test_artifact write DIR` leaves a signed model in DIR/model and its public key in DIR/key.pub, for other verifiers.
static int write_sample(const char *directory)
{
    snprintf(model, sizeof model, "%s/model", directory);
    char path[200];
    snprintf(path, sizeof path, "%s/key.pem", directory);
    rmj_buf_init(&pem, 4096);
    if (rmj_signing_key_open(&key, path, 1, NULL) != RMJ_OK || rmj_signing_key_public_pem(key, &pem, NULL) != RMJ_OK ||
        make_model(NULL) != 0) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/key.pub", directory);
    int failed = rmj_fs_write(path, pem.bytes, pem.size, 0644, NULL) != RMJ_OK;
    rmj_signing_key_close(key);
    rmj_buf_deinit(&pem);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        return write_sample(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_sorted_by_path_components),
        cmocka_unit_test(the_root_is_the_digest_of_the_digests),
        cmocka_unit_test(a_key_is_made_once_and_only_its_owner_can_read_it),
        cmocka_unit_test_setup(what_was_signed_verifies, make_model),
        cmocka_unit_test_setup(a_tampered_byte_is_found, make_model),
        cmocka_unit_test_setup(missing_extra_and_linked_files_are_found, make_model),
        cmocka_unit_test_setup(another_key_is_denied, make_model),
        cmocka_unit_test_setup(a_missing_or_large_signature_is_said, make_model),
        cmocka_unit_test_setup(public_verifiers_ignored_names_are_refused_at_signing, make_model),
        cmocka_unit_test_setup(a_signed_statement_is_still_not_trusted, make_model),
        cmocka_unit_test_setup(a_malformed_bundle_is_said_to_be, make_model),
        cmocka_unit_test_setup(no_mutation_of_a_signature_verifies, make_model),
        cmocka_unit_test_setup(an_artifact_travels_whole_or_not_at_all, make_model),
    };
    return cmocka_run_group_tests(tests, open_work, close_work);
}
