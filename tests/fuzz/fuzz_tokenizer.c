// tokenizer.json of any bytes: it opens or is refused with a message, and what opens encodes and decodes any text.
//
// clang -fsanitize=fuzzer,address,undefined with the sources of base/ and trainer/tokenizer/.
#include <stdlib.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void encode(const struct rmj_tokenizer *tokenizer, const char *text, size_t size)
{
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    if (rmj_tokenizer_encode(tokenizer, text, size, &tokens, &err) == RMJ_OK) {
        for (size_t i = 0; i < tokens.count; i++) {
            RMJ_ASSERT(tokens.ids[i] >= 0 && (uint32_t)tokens.ids[i] < rmj_tokenizer_size(tokenizer));
        }
        free(rmj_tokenizer_decode(tokenizer, tokens.ids, tokens.count));
    } else {
        RMJ_ASSERT(err.message[0] != '\0' && tokens.count == 0);
    }
    rmj_tokens_deinit(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const texts[] = {
        "",
        "ab abab\xc3\xa9 12",
        "a<x> wo _\n\n\xf0\x9f\x98\x80 e\xcc\x81 A\xcc\x81",
        "  <x>  <x>aaaa\t<u>``\r\n\xe2\x96\x81\xe4\xb8\xad\xe6\x96\x87\xc2\xa8",
    };
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_error err = {0};
    enum rmj_status status = rmj_tokenizer_open_bytes(&tokenizer, (struct rmj_span){(const char *)bytes, size}, &err);
    RMJ_ASSERT((status == RMJ_OK) == (tokenizer != NULL));
    if (status != RMJ_OK) {
        RMJ_ASSERT(err.message[0] != '\0');
        return 0;
    }
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        encode(tokenizer, texts[i], strlen(texts[i]));
    }
    encode(tokenizer, (const char *)bytes, size < 4096 ? size : 4096);
    struct rmj_tokenizer_marks marks;
    rmj_tokenizer_marks(tokenizer, &marks);
    RMJ_ASSERT(marks.before_count <= RMJ_TOKENIZER_MARK_COUNT_MAX && marks.after_count <= RMJ_TOKENIZER_MARK_COUNT_MAX);
    rmj_tokenizer_close(tokenizer);
    return 0;
}
