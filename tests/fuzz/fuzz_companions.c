// The files beside tokenizer.json, one after another with a NUL between them: tokenizer_config.json,
// special_tokens_map.json, config.json and chat_template.jinja; an empty part is a file that is not there. Refused with
// a message, or bos, eos and pad are ids of the tokenizer.
#include "tests/fuzz/fuzz.h"
#include "trainer/tokenizer/tokenizer.h"

static const char tokenizer_text[] = "{\"added_tokens\":[{\"id\":2,\"content\":\"<s>\",\"special\":true},{\"id\":3,"
                                     "\"content\":\"</s>\",\"special\":true}],"
                                     "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "config.json",
                                        "chat_template.jinja"};
    static const char *directory;
    if (directory == NULL) {
        directory = fuzz_directory();
        fuzz_write(directory, "tokenizer.json", tokenizer_text, strlen(tokenizer_text));
    }
    for (size_t i = 0; i < RMJ_COUNT(names); i++) {
        const uint8_t *part = bytes;
        size_t part_size = fuzz_part(&bytes, &size);
        if (part_size > 0) {
            fuzz_write(directory, names[i], part, part_size);
        } else {
            char path[2 * FUZZ_PATH_SIZE];
            snprintf(path, sizeof path, "%s/%s", directory, names[i]);
            (void)remove(path);
        }
    }
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_error err = {0};
    enum rmj_status status = rmj_tokenizer_open(&tokenizer, directory, &err);
    RMJ_ASSERT((status == RMJ_OK) == (tokenizer != NULL));
    if (status != RMJ_OK) {
        RMJ_ASSERT((status == RMJ_DATA || status == RMJ_FULL) && err.message[0] != '\0');
        return 0;
    }
    const int32_t ids[] = {rmj_tokenizer_bos(tokenizer), rmj_tokenizer_eos(tokenizer), rmj_tokenizer_pad(tokenizer)};
    for (size_t i = 0; i < RMJ_COUNT(ids); i++) {
        RMJ_ASSERT(ids[i] >= -1 && ids[i] < (int32_t)rmj_tokenizer_size(tokenizer));
    }
    const char *chat_template = rmj_tokenizer_chat_template(tokenizer);
    RMJ_ASSERT(chat_template == NULL || strlen(chat_template) < (size_t)1 << 21);
    rmj_tokenizer_close(tokenizer);
    return 0;
}
