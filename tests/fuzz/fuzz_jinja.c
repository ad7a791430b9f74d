// A chat template of any bytes: refused with a message, or rendered within its bounds over conversations, twice with
// the same text. After the first NUL, variables of its own as JSON.
#include <jansson.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/jinja/jinja.h"

// Small, for many inputs a second; the bounds themselves are what is tested.
#define STEP_COUNT_MAX 20000u
#define OUTPUT_SIZE_MAX ((size_t)1 << 20)

static const char *const variables[] = {
    "{\"messages\":[],\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":false}",
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":\"hi <b>\"},"
    "{\"role\":\"assistant\",\"content\":\"d\\u00e9j\\u00e0 vu\\n\"}],\"bos_token\":\"<s>\",\"eos_token\":\"</s>\","
    "\"add_generation_prompt\":true,\"x\":[3,1.5,null,true,\"a\",{\"k\":[1]}],\"n\":-7}",
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]},{\"role\":\"assistant\","
    "\"content\":null,\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
    "{\"role\":\"tool\",\"content\":\"{}\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\","
    "\"description\":\"d\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}],\"bos_token\":\"\"}",
};

static enum rmj_status render(const struct rmj_jinja *jinja, const json_t *values, struct rmj_buf *out,
                              struct rmj_error *err)
{
    struct rmj_jinja_input input = {
        .variables = values, .year = 2026, .month = 2, .day = 28, .step_count_max = STEP_COUNT_MAX};
    struct rmj_jinja_span *spans = NULL;
    size_t span_count = 0;
    enum rmj_status status = rmj_jinja_render(jinja, &input, out, &spans, &span_count, err);
    for (size_t i = 0; status == RMJ_OK && i < span_count; i++) {
        RMJ_ASSERT(spans[i].begin <= spans[i].end && spans[i].end <= out->size);
    }
    free(spans);
    return status;
}

static void check(const struct rmj_jinja *jinja, const json_t *values)
{
    struct rmj_buf first, second;
    struct rmj_error err = {0};
    rmj_buf_init(&first, OUTPUT_SIZE_MAX);
    rmj_buf_init(&second, OUTPUT_SIZE_MAX);
    enum rmj_status status = render(jinja, values, &first, &err);
    RMJ_ASSERT(status == RMJ_OK || err.message[0] != '\0');
    RMJ_ASSERT(render(jinja, values, &second, &err) == status);
    RMJ_ASSERT(status != RMJ_OK ||
               (first.size == second.size && memcmp(rmj_buf_text(&first), rmj_buf_text(&second), first.size) == 0));
    rmj_buf_deinit(&first);
    rmj_buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *source = (const char *)bytes;
    size_t length = fuzz_part(&bytes, &size);
    struct rmj_jinja *jinja = NULL;
    struct rmj_error err = {0};
    enum rmj_status status = rmj_jinja_compile(&jinja, "fuzz.jinja", source, length, &err);
    RMJ_ASSERT((status == RMJ_OK) == (jinja != NULL));
    if (status != RMJ_OK) {
        RMJ_ASSERT(status == RMJ_DATA && strncmp(err.message, "fuzz.jinja:", 11) == 0);
        return 0;
    }
    (void)rmj_jinja_uses_date(jinja);
    (void)rmj_jinja_reads(jinja, "tools");
    json_t *own = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(own)) {
        check(jinja, own);
    }
    json_decref(own);
    for (size_t i = 0; i < RMJ_COUNT(variables); i++) {
        json_t *values = json_loads(variables[i], 0, NULL);
        RMJ_ASSERT(values != NULL);
        check(jinja, values);
        json_decref(values);
    }
    rmj_jinja_free(jinja);
    return 0;
}
