// Reads texts from standard input, each as a 32-bit little-endian length and its bytes; writes the ids that the
// post-processor puts before a text and after it (count, ids), then for each text its ids (count, ids) and the text
// decoded from them (length, bytes), all 32-bit little-endian. tests/peers/tokenizer_equal.py
// compares this with the public library. With a second argument, encodes everything so many times and prints the speed
// instead.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "trainer/tokenizer/tokenizer.h"

#define INPUT_SIZE_MAX ((size_t)1 << 30)

static int fail(const char *what)
{
    fprintf(stderr, "encode_texts: %s\n", what);
    return 1;
}

static int read_all(struct rmj_buf *input)
{
    char block[65536];
    size_t got;
    while ((got = fread(block, 1, sizeof block, stdin)) > 0) {
        rmj_buf_append(input, block, got);
    }
    return !input->failed && !ferror(stdin);
}

// The text at *offset, which moves behind it; NULL at the end or where the lengths do not add up.
static const char *next_text(const struct rmj_buf *input, size_t *offset, uint32_t *size)
{
    if (input->size - *offset < sizeof *size) {
        return NULL;
    }
    memcpy(size, input->bytes + *offset, sizeof *size);
    *offset += sizeof *size;
    if (*size > input->size - *offset) {
        return NULL;
    }
    const char *text = input->bytes + *offset;
    *offset += *size;
    return text;
}

static void write_ids(const int32_t *ids, size_t id_count)
{
    uint32_t count = (uint32_t)id_count;
    fwrite(&count, sizeof count, 1, stdout);
    if (count > 0) {
        fwrite(ids, sizeof *ids, count, stdout);
    }
}

static void write_marks(const struct rmj_tokenizer *tokenizer)
{
    struct rmj_tokenizer_marks marks;
    rmj_tokenizer_marks(tokenizer, &marks);
    write_ids(marks.before, marks.before_count);
    write_ids(marks.after, marks.after_count);
}

static int write_result(const struct rmj_tokenizer *tokenizer, const struct rmj_tokens *tokens)
{
    write_ids(tokens->ids, tokens->count);
    char *text = rmj_tokenizer_decode(tokenizer, tokens->ids, tokens->count);
    if (text == NULL) {
        return fail("decode failed");
    }
    uint32_t size = (uint32_t)strlen(text);
    fwrite(&size, sizeof size, 1, stdout);
    fwrite(text, 1, size, stdout);
    free(text);
    return 0;
}

static int encode_all(const struct rmj_tokenizer *tokenizer, const struct rmj_buf *input, int write,
                      size_t *token_count)
{
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    size_t offset = 0;
    uint32_t size;
    const char *text;
    int failed = 0;
    while (!failed && (text = next_text(input, &offset, &size)) != NULL) {
        tokens.count = 0;
        failed = rmj_tokenizer_encode(tokenizer, text, size, &tokens, &err) != RMJ_OK ? fail(err.message)
                 : write                                                              ? write_result(tokenizer, &tokens)
                                                                                      : 0;
        *token_count += tokens.count;
    }
    rmj_tokens_deinit(&tokens);
    return failed;
}

static int measure(const struct rmj_tokenizer *tokenizer, const struct rmj_buf *input, int repeats)
{
    for (int i = 0; i < repeats; i++) {
        size_t token_count = 0;
        struct timespec start;
        struct timespec end;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        if (encode_all(tokenizer, input, 0, &token_count)) {
            return 1;
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        double seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9;
        printf("%zu bytes, %zu tokens, %.3f s of CPU, %.1f MB/s\n", input->size, token_count, seconds,
               (double)input->size / seconds * 1e-6);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        return fail("usage: encode_texts DIRECTORY [REPEATS] < texts");
    }
    struct rmj_tokenizer *tokenizer;
    struct rmj_error err = {0};
    if (rmj_tokenizer_open(&tokenizer, argv[1], &err) != RMJ_OK) {
        return fail(err.message);
    }
    struct rmj_buf input;
    rmj_buf_init(&input, INPUT_SIZE_MAX);
    size_t token_count = 0;
    if (argc == 2) {
        write_marks(tokenizer);
    }
    int failed = !read_all(&input) ? fail("cannot read the texts")
                 : argc > 2        ? measure(tokenizer, &input, atoi(argv[2]))
                                   : encode_all(tokenizer, &input, 1, &token_count);
    rmj_buf_deinit(&input);
    rmj_tokenizer_close(tokenizer);
    return failed;
}
