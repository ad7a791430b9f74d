// A manifest as canonical JSON: sorted keys, no spaces, integers as integers. One manifest has one spelling, so two
// committers agree when their bytes do, and a decoder refuses any other spelling.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checkpoint/checkpoint.h"
#include "storage/checkpoint/keys.h"

#define MANIFEST_FORMAT "rmjob.checkpoint.v1"
#define PAGE_COUNT_MAX 400000 // about what MANIFEST_SIZE_BYTES_MAX holds

void rmj_manifest_deinit(struct rmj_manifest *manifest)
{
    if (manifest != NULL) {
        free(manifest->pages);
        *manifest = (struct rmj_manifest){0};
    }
}

// ---- encode --------------------------------------------------------------------------------------------------------

static int set_digest(json_t *object, const char *name, const struct rmj_digest *digest)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    rmj_digest_hex(digest, hex);
    return json_object_set_new(object, name, json_string(hex));
}

static json_t *encode_pages(const struct rmj_manifest *manifest)
{
    json_t *pages = json_array();
    for (size_t i = 0; i < manifest->page_count; i++) {
        json_t *page = json_object();
        int failed = set_digest(page, "sha256", &manifest->pages[i].digest) |
                     json_object_set_new(page, "size", json_integer((json_int_t)manifest->pages[i].raw_size));
        if (failed || json_array_append_new(pages, page) != 0) {
            json_decref(pages);
            return NULL;
        }
    }
    return pages;
}

static int append_json(const char *bytes, size_t size, void *context)
{
    rmj_buf_append(context, bytes, size);
    return 0;
}

static enum rmj_status check_numbers(const struct rmj_manifest *manifest, struct rmj_error *err)
{
    int fits = manifest->pairs_consumed <= INT64_MAX && manifest->state_size <= INT64_MAX;
    for (size_t i = 0; i < manifest->page_count && fits; i++) {
        fits = manifest->pages[i].raw_size <= INT64_MAX;
    }
    if (!fits || manifest->page_count > PAGE_COUNT_MAX) {
        return rmj_fail(err, RMJ_INVALID, "a number in the manifest of step %u is over its bound", manifest->step);
    }
    return RMJ_OK;
}

enum rmj_status rmj_manifest_encode(const struct rmj_manifest *manifest, struct rmj_buf *out, struct rmj_error *err)
{
    RMJ_TRY(check_numbers(manifest, err));
    json_t *root = json_object();
    int failed = json_object_set_new(root, "consumedChain", json_string(manifest->consumed_chain)) |
                 json_object_set_new(root, "consumedSum", json_string(manifest->consumed_sum)) |
                 json_object_set_new(root, "format", json_string(MANIFEST_FORMAT)) |
                 json_object_set_new(root, "jobUid", json_string(manifest->job_uid)) |
                 json_object_set_new(root, "pages", encode_pages(manifest)) |
                 json_object_set_new(root, "pairsConsumed", json_integer((json_int_t)manifest->pairs_consumed)) |
                 json_object_set_new(root, "plan", json_string(manifest->plan)) |
                 json_object_set_new(root, "spec", json_string(manifest->spec)) |
                 set_digest(root, "state", &manifest->state) |
                 json_object_set_new(root, "stateSize", json_integer((json_int_t)manifest->state_size)) |
                 json_object_set_new(root, "step", json_integer(manifest->step));
    enum rmj_status status = RMJ_OK;
    if (failed || json_dump_callback(root, append_json, out, JSON_SORT_KEYS | JSON_COMPACT) != 0) {
        status = rmj_fail(err, RMJ_INVALID, "the manifest of step %u cannot be written: a text is not UTF-8",
                          manifest->step);
    } else {
        status = rmj_buf_check(out, err);
    }
    json_decref(root);
    return status;
}

// ---- decode --------------------------------------------------------------------------------------------------------

static enum rmj_status get_text(const json_t *root, const char *name, char *out, size_t size, struct rmj_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!json_is_string(value)) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is %s", name, value == NULL ? "missing" : "not a text");
    }
    size_t length = json_string_length(value);
    if (length >= size || strlen(json_string_value(value)) != length) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is over %zu characters", name, size - 1);
    }
    memcpy(out, json_string_value(value), length + 1);
    return RMJ_OK;
}

static enum rmj_status get_hex(const json_t *root, const char *name, char out[RMJ_DIGEST_HEX_SIZE],
                               struct rmj_error *err)
{
    RMJ_TRY(get_text(root, name, out, RMJ_DIGEST_HEX_SIZE, err));
    return strspn(out, "0123456789abcdef") == strlen(out)
               ? RMJ_OK
               : rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is not lower-case hex", name);
}

static enum rmj_status get_digest(const json_t *root, const char *name, struct rmj_digest *digest,
                                  struct rmj_error *err)
{
    char hex[RMJ_DIGEST_HEX_SIZE];
    RMJ_TRY(get_hex(root, name, hex, err));
    return rmj_digest_from_hex(digest, hex) ? RMJ_OK
                                            : rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is not a SHA-256", name);
}

static enum rmj_status get_number(const json_t *root, const char *name, uint64_t number_max, uint64_t *out,
                                  struct rmj_error *err)
{
    const json_t *value = json_object_get(root, name);
    if (!json_is_integer(value)) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is %s", name, value == NULL ? "missing" : "not an integer");
    }
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number > number_max) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: \"%s\" is %lld, not in 0..%llu", name, (long long)number,
                        (unsigned long long)number_max);
    }
    *out = (uint64_t)number;
    return RMJ_OK;
}

static enum rmj_status get_pages(const json_t *root, struct rmj_manifest *manifest, struct rmj_error *err)
{
    const json_t *pages = json_object_get(root, "pages");
    size_t count = json_array_size(pages);
    if (!json_is_array(pages) || count > PAGE_COUNT_MAX) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: \"pages\" is missing, not a list, or over %d entries",
                        PAGE_COUNT_MAX);
    }
    manifest->pages = calloc(count + 1, sizeof *manifest->pages);
    if (manifest->pages == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a manifest of %zu pages", count);
    }
    manifest->page_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *page = json_array_get(pages, i);
        enum rmj_status status = get_digest(page, "sha256", &manifest->pages[i].digest, err);
        if (status == RMJ_OK) {
            status = get_number(page, "size", INT64_MAX, &manifest->pages[i].raw_size, err);
        }
        if (status != RMJ_OK) {
            rmj_context(err, "page %zu", i);
            return status;
        }
    }
    return RMJ_OK;
}

static enum rmj_status read_fields(const json_t *root, struct rmj_manifest *manifest, struct rmj_error *err)
{
    char format[sizeof MANIFEST_FORMAT + 32];
    uint64_t step;
    if (!json_is_object(root)) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: not a JSON object");
    }
    RMJ_TRY(get_text(root, "format", format, sizeof format, err));
    if (strcmp(format, MANIFEST_FORMAT) != 0) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: format \"%s\" is not known, only " MANIFEST_FORMAT, format);
    }
    RMJ_TRY(get_text(root, "jobUid", manifest->job_uid, sizeof manifest->job_uid, err));
    RMJ_TRY(get_hex(root, "plan", manifest->plan, err));
    RMJ_TRY(get_hex(root, "spec", manifest->spec, err));
    RMJ_TRY(get_number(root, "step", UINT32_MAX, &step, err));
    manifest->step = (uint32_t)step;
    RMJ_TRY(get_number(root, "pairsConsumed", INT64_MAX, &manifest->pairs_consumed, err));
    RMJ_TRY(get_hex(root, "consumedSum", manifest->consumed_sum, err));
    RMJ_TRY(get_hex(root, "consumedChain", manifest->consumed_chain, err));
    RMJ_TRY(get_digest(root, "state", &manifest->state, err));
    RMJ_TRY(get_number(root, "stateSize", INT64_MAX, &manifest->state_size, err));
    return get_pages(root, manifest, err);
}

// Any byte that the fields do not explain (an unknown key, a space, another order) shows here.
static enum rmj_status check_canonical(const struct rmj_manifest *manifest, const char *bytes, size_t size,
                                       struct rmj_error *err)
{
    struct rmj_buf again;
    rmj_buf_init(&again, MANIFEST_SIZE_BYTES_MAX);
    enum rmj_status status = rmj_manifest_encode(manifest, &again, err);
    if (status == RMJ_OK && (again.size != size || memcmp(again.bytes, bytes, size) != 0)) {
        size_t at = 0;
        while (at < size && at < again.size && again.bytes[at] == bytes[at]) {
            at++;
        }
        status = rmj_fail(err, RMJ_CORRUPT, "manifest: not in canonical form from byte %zu on", at);
    }
    rmj_buf_deinit(&again);
    return status;
}

enum rmj_status rmj_manifest_decode(struct rmj_manifest *manifest, const char *bytes, size_t size,
                                    struct rmj_error *err)
{
    *manifest = (struct rmj_manifest){0};
    if (size > MANIFEST_SIZE_BYTES_MAX) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: %zu bytes are over %u", size, MANIFEST_SIZE_BYTES_MAX);
    }
    json_error_t parse;
    json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &parse);
    if (root == NULL) {
        return rmj_fail(err, RMJ_CORRUPT, "manifest: not JSON at byte %d: %s", parse.position, parse.text);
    }
    enum rmj_status status = read_fields(root, manifest, err);
    json_decref(root);
    if (status == RMJ_OK) {
        status = check_canonical(manifest, bytes, size, err);
    }
    if (status != RMJ_OK) {
        rmj_manifest_deinit(manifest);
    }
    return status;
}
