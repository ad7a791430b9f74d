#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/object/s3_internal.h"
#include "storage/object/s3_xml.h"

#define TOKEN_SIZE 2048

// Servers are meant to list in the order of bytes; those over a file system list folder by folder. So keys are taken in
// first, sorted when they must be, and handed out after: `each` may then delete or write without moving the listing.
struct entry {
    char *key;
    uint64_t size;
    int64_t modified_unix_ms;
};

struct entries {
    struct entry *items;
    size_t count;
    size_t room;
    int sorted;
};

static void entries_deinit(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->items[i].key);
    }
    free(entries->items);
}

static enum rmj_status add_entry(struct entries *entries, const char *key, uint64_t size, int64_t modified_unix_ms,
                                 struct rmj_error *err)
{
    if (entries->count >= STORE_LIST_COUNT_MAX) {
        return rmj_fail(err, RMJ_FULL, "a listing has over %d keys", STORE_LIST_COUNT_MAX);
    }
    if (entries->count == entries->room) {
        size_t room = entries->room == 0 ? 1024 : 2 * entries->room;
        struct entry *items = realloc(entries->items, room * sizeof *items);
        if (items == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a listing of %zu keys", entries->count);
        }
        entries->items = items;
        entries->room = room;
    }
    char *copy = strdup(key);
    if (copy == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a listing of %zu keys", entries->count);
    }
    if (entries->count > 0 && strcmp(entries->items[entries->count - 1].key, key) >= 0) {
        entries->sorted = 0;
    }
    entries->items[entries->count++] = (struct entry){.key = copy, .size = size, .modified_unix_ms = modified_unix_ms};
    return RMJ_OK;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static enum rmj_status read_contents(const struct s3_store *s3, struct xml_span contents, struct entries *entries,
                                     struct rmj_error *err)
{
    char key[2 * S3_KEY_SIZE], number[32], time[64] = "";
    if (!xml_text(contents, "Key", key, sizeof key) || !xml_text(contents, "Size", number, sizeof number)) {
        return rmj_fail(err, RMJ_IO, "s3://%s: a listing has an entry without key or size", s3->bucket);
    }
    size_t skip = strlen(s3->prefix) + (s3->prefix[0] != '\0');
    if (strlen(key) <= skip || key[strlen(key) - 1] == '/' || store_key_is_reserved(key + skip)) {
        return RMJ_OK; // a folder marker of some console, or not for others to see
    }
    int64_t modified = xml_text(contents, "LastModified", time, sizeof time) ? xml_time_ms(time) : 0;
    return add_entry(entries, key + skip, strtoull(number, NULL, 10), modified, err);
}

// Reads one page of a listing. token: in and out; empty at the end.
static enum rmj_status list_page(struct s3_store *s3, const char *prefix, char token[TOKEN_SIZE], const char *count_max,
                                 uint32_t retry_max, struct entries *entries, struct rmj_error *err)
{
    char whole_prefix[S3_KEY_SIZE];
    snprintf(whole_prefix, sizeof whole_prefix, "%s%s%s", s3->prefix, s3->prefix[0] == '\0' ? "" : "/", prefix);
    struct rmj_buf query;
    rmj_buf_init(&query, 4 * TOKEN_SIZE + 4 * S3_KEY_SIZE);
    if (token[0] != '\0') {
        s3_add_query(&query, "continuation-token", token);
    }
    s3_add_query(&query, "list-type", "2");
    s3_add_query(&query, "max-keys", count_max);
    s3_add_query(&query, "prefix", whole_prefix);
    struct s3_request request = {
        .method = "GET", .query = rmj_buf_text(&query), .retry_max = retry_max, .body_may_be_error = 1};
    struct s3_answer answer;
    enum rmj_status status = RMJ_OK;
    RMJ_GO(s3_call(s3, &request, &answer, err));

    struct xml_span whole = {.at = rmj_buf_text(&answer.body), .size = answer.body.size};
    struct xml_span result, contents;
    if (!xml_next(&whole, "ListBucketResult", &result)) {
        status = rmj_fail(err, RMJ_IO, "%s does not answer like an S3 server; is AWS_ENDPOINT_URL right?", s3->origin);
        goto out;
    }
    char truncated[8] = "";
    int more = xml_text(result, "IsTruncated", truncated, sizeof truncated) && strcmp(truncated, "true") == 0;
    token[0] = '\0';
    if (more && (!xml_text(result, "NextContinuationToken", token, TOKEN_SIZE) || token[0] == '\0')) {
        status = rmj_fail(err, RMJ_IO, "s3://%s: a listing is cut off without a token to go on", s3->bucket);
        goto out;
    }
    for (struct xml_span rest = result; xml_next(&rest, "Contents", &contents);) {
        RMJ_GO(read_contents(s3, contents, entries, err));
    }
out:
    s3_answer_deinit(&answer);
    rmj_buf_deinit(&query);
    return status;
}

enum rmj_status s3_list(struct rmj_store *store, const char *prefix, rmj_store_each_fn each, void *context,
                        struct rmj_error *err)
{
    struct s3_store *s3 = s3_of(store);
    struct entries entries = {.sorted = 1};
    char token[TOKEN_SIZE] = "";
    enum rmj_status status = RMJ_OK;
    do {
        RMJ_GO(list_page(s3, prefix, token, "1000", 0, &entries, err));
    } while (token[0] != '\0');
    if (!entries.sorted) {
        qsort(entries.items, entries.count, sizeof *entries.items, compare_entries);
    }
    for (size_t i = 0; i < entries.count; i++) {
        const struct entry *entry = &entries.items[i];
        RMJ_GO(each(context, entry->key, entry->size, entry->modified_unix_ms, err));
    }
out:
    entries_deinit(&entries);
    return status;
}

enum rmj_status s3_list_probe(struct s3_store *s3, struct rmj_error *err)
{
    struct entries entries = {.sorted = 1};
    char token[TOKEN_SIZE] = "";
    enum rmj_status status = list_page(s3, "", token, "1", S3_OPEN_RETRY_MAX, &entries, err);
    entries_deinit(&entries);
    return status;
}
