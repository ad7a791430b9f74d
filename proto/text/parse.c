#include <string.h>

#include "base/text.h"
#include "proto/text/node.h"

static struct rmj_node *read_tree(const char *text, size_t size, int is_json, struct rmj_node_pool *pool,
                                  struct rmj_text_result *result)
{
    size_t size_max = is_json ? RMJ_TEXT_JSON_BYTES_MAX : RMJ_TEXT_YAML_BYTES_MAX;
    if (size > size_max) {
        rmj_text_report(result, 1, 1, "", "the file has %zu bytes; at most %zu are read", size, size_max);
        return NULL;
    }
    size_t valid = rmj_text_utf8_valid(text, size);
    if (valid != size) {
        int line, column;
        rmj_text_locate(text, valid, &line, &column);
        rmj_text_report(result, line, column, "", "the byte 0x%02x is not UTF-8; save the file as UTF-8",
                        (unsigned char)text[valid]);
        return NULL;
    }
    return is_json ? rmj_json_read(text, size, pool, result) : rmj_yaml_read(text, size, pool, result);
}

static enum rmj_status parse(const ProtobufCMessageDescriptor *descriptor, const char *file, const char *text,
                             size_t size, int is_json, ProtobufCMessage **message, struct rmj_text_result *result,
                             struct rmj_error *err)
{
    *message = NULL;
    struct rmj_text_result *own = result == NULL ? rmj_text_result_create() : NULL;
    result = result == NULL ? own : result;
    rmj_text_result_clear(result);
    struct rmj_node_pool pool = {0};
    const struct rmj_node *root = read_tree(text, size, is_json, &pool, result);
    ProtobufCMessage *built = root == NULL ? NULL : rmj_text_build(descriptor, root, is_json, result);
    rmj_node_pool_free(&pool);
    enum rmj_status status = RMJ_OK;
    if (rmj_text_error_count(result) > 0) {
        if (built != NULL) {
            protobuf_c_message_free_unpacked(built, NULL);
        }
        rmj_text_result_sort(result);
        const struct rmj_text_error *first = rmj_text_error_at(result, 0);
        status = rmj_fail(err, RMJ_INVALID, "%s:%d:%d: %s", file, first->line, first->column, first->message);
    } else {
        RMJ_ASSERT(built != NULL);
        *message = built;
    }
    rmj_text_result_destroy(own);
    return status;
}

enum rmj_status rmj_yaml_parse(const ProtobufCMessageDescriptor *descriptor, const char *file, const char *text,
                               size_t size, ProtobufCMessage **message, struct rmj_text_result *result,
                               struct rmj_error *err)
{
    return parse(descriptor, file, text, size, 0, message, result, err);
}

enum rmj_status rmj_json_parse(const ProtobufCMessageDescriptor *descriptor, const char *file, const char *text,
                               size_t size, ProtobufCMessage **message, struct rmj_text_result *result,
                               struct rmj_error *err)
{
    return parse(descriptor, file, text, size, 1, message, result, err);
}
