// A job spec of any bytes, as YAML or JSON by the first byte: errors with places, or a message that prints and reads
// back equal in both.
#include "proto/rmjob/v1/spec.pb-c.h"
#include "proto/text/text_format.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_SIZE_MAX ((size_t)64 << 20)

static const ProtobufCMessageDescriptor *const descriptor = &rmjob__v1__job_spec__descriptor;

static enum rmj_status parse(int json, const char *text, size_t size, ProtobufCMessage **message,
                             struct rmj_text_result *result, struct rmj_error *err)
{
    return json ? rmj_json_parse(descriptor, "spec.json", text, size, message, result, err)
                : rmj_yaml_parse(descriptor, "spec.yaml", text, size, message, result, err);
}

static void check_round_trip(int json, const ProtobufCMessage *message, const struct rmj_buf *want)
{
    struct rmj_buf text, again;
    struct rmj_error err = {0};
    ProtobufCMessage *copy = NULL;
    rmj_buf_init(&text, TEXT_SIZE_MAX);
    rmj_buf_init(&again, TEXT_SIZE_MAX);
    if (json) {
        rmj_json_print(message, 1, &text);
    } else {
        rmj_yaml_print(message, &text);
    }
    // What is printed may pass the bound of what is read; nothing else may be wrong with it.
    if (!text.failed && text.size < 1 << 20) {
        RMJ_ASSERT(parse(json, rmj_buf_text(&text), text.size, &copy, NULL, &err) == RMJ_OK);
        rmj_json_print(copy, 0, &again);
        RMJ_ASSERT(again.size == want->size && memcmp(again.bytes, want->bytes, again.size) == 0);
        protobuf_c_message_free_unpacked(copy, NULL);
    }
    rmj_buf_deinit(&again);
    rmj_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct rmj_error err = {0};
    struct rmj_text_result *result = rmj_text_result_create();
    ProtobufCMessage *message = NULL;
    enum rmj_status status = parse(bytes[0] & 1, (const char *)bytes + 1, size - 1, &message, result, &err);
    RMJ_ASSERT((status == RMJ_OK) == (message != NULL));
    if (status == RMJ_OK) {
        struct rmj_buf text;
        rmj_buf_init(&text, TEXT_SIZE_MAX);
        rmj_json_print(message, 0, &text);
        check_round_trip(0, message, &text);
        check_round_trip(1, message, &text);
        rmj_buf_deinit(&text);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        RMJ_ASSERT(status == RMJ_INVALID && rmj_text_error_count(result) > 0 && err.message[0] != '\0');
        RMJ_ASSERT(rmj_text_error_at(result, 0)->line >= 1 && rmj_text_error_at(result, 0)->column >= 1);
    }
    rmj_text_result_destroy(result);
    return 0;
}
