#include "tests/trainer/tokenizer/small.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"

static char directory[64];

static void remove_directory(void)
{
    (void)!rmj_fs_remove_tree(directory, NULL);
}

const char *small_directory(void)
{
    if (directory[0] == '\0') {
        snprintf(directory, sizeof directory, "/tmp/rmjob-tokenizer-XXXXXX");
        assert_non_null(mkdtemp(directory));
        atexit(remove_directory);
    }
    return directory;
}

void small_write(const char *name, const char *bytes, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", small_directory(), name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void small_remove(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", small_directory(), name);
    remove(path);
}

struct rmj_tokenizer *small_open(const char *json)
{
    small_write("tokenizer.json", json, strlen(json));
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_error err = {0};
    if (rmj_tokenizer_open(&tokenizer, small_directory(), &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return tokenizer;
}

void small_expect(const struct rmj_tokenizer *tokenizer, const char *text, const char *ids)
{
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    if (rmj_tokenizer_encode(tokenizer, text, strlen(text), &tokens, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    struct rmj_buf got;
    rmj_buf_init(&got, 1 << 20);
    for (size_t i = 0; i < tokens.count; i++) {
        rmj_buf_printf(&got, i == 0 ? "%d" : " %d", (int)tokens.ids[i]);
    }
    assert_string_equal(rmj_buf_text(&got), ids);
    rmj_buf_deinit(&got);
    rmj_tokens_deinit(&tokens);
}
