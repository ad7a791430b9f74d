// The ids of real texts under the Llama-2 vocabulary, as the golden run of stories15M recorded them with the public
// library (golden/hh_stories15M.json of the given data says what made it).
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <zlib.h>

#include "base/fs.h"
#include "trainer/tokenizer/tokenizer.h"

#define LINE_SIZE_MAX (1 << 20)

static char data[1024];
static struct rmj_tokenizer *tokenizer;
static json_t *golden;
static json_t *rows; // of the preference data, in file order

static int find_data(void)
{
    const char *named = getenv("RMJOB_DATA");
    const char *source = getenv("RMJOB_SOURCE");
    if (named != NULL) {
        snprintf(data, sizeof data, "%s", named);
    } else {
        snprintf(data, sizeof data, "%s/../shared/data", source == NULL ? "." : source);
    }
    return rmj_fs_exists(data);
}

static int load(void **state)
{
    (void)state;
    char path[1100];
    struct rmj_error err = {0};
    snprintf(path, sizeof path, "%s/models/stories15M", data);
    if (rmj_tokenizer_open(&tokenizer, path, &err) != RMJ_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    snprintf(path, sizeof path, "%s/golden/hh_stories15M.json", data);
    golden = json_load_file(path, 0, NULL);
    rows = json_array();
    snprintf(path, sizeof path, "%s/preferences/harmless-base-test.jsonl.gz", data);
    gzFile file = gzopen(path, "rb");
    char *line = malloc(LINE_SIZE_MAX);
    while (file != NULL && line != NULL && gzgets(file, line, LINE_SIZE_MAX) != NULL) {
        json_array_append_new(rows, json_loads(line, 0, NULL));
    }
    free(line);
    return file == NULL || gzclose(file) != Z_OK || golden == NULL ? -1 : 0;
}

static int unload(void **state)
{
    (void)state;
    rmj_tokenizer_close(tokenizer);
    json_decref(golden);
    json_decref(rows);
    return 0;
}

static void encode_row(size_t row, const char *side, struct rmj_tokens *tokens)
{
    const json_t *text = json_object_get(json_array_get(rows, row), side);
    struct rmj_error err = {0};
    assert_non_null(text);
    if (rmj_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), tokens, &err) != RMJ_OK) {
        fail_msg("row %zu: %s", row, err.message);
    }
}

static void the_first_pair_has_the_golden_ids(void **state)
{
    (void)state;
    const char *const sides[] = {"chosen", "rejected"};
    size_t row = (size_t)json_integer_value(json_array_get(json_object_get(golden, "rows_used"), 0));
    for (size_t s = 0; s < 2; s++) {
        char key[32];
        snprintf(key, sizeof key, "%s_ids", sides[s]);
        const json_t *ids = json_object_get(json_object_get(golden, "first_pair"), key);
        struct rmj_tokens tokens = {0};
        encode_row(row, sides[s], &tokens);
        assert_int_equal(json_array_size(ids), tokens.count + 2); // BOS in front, EOS behind
        for (size_t i = 0; i < tokens.count; i++) {
            assert_int_equal(tokens.ids[i], json_integer_value(json_array_get(ids, i + 1)));
        }
        rmj_tokens_deinit(&tokens);
    }
}

static void every_row_used_has_the_golden_token_counts(void **state)
{
    (void)state;
    const json_t *used = json_object_get(golden, "rows_used");
    const json_t *counts = json_object_get(golden, "token_counts");
    assert_true(json_array_size(used) > 0);
    struct rmj_tokens tokens = {0};
    for (size_t i = 0; i < json_array_size(used); i++) {
        size_t row = (size_t)json_integer_value(json_array_get(used, i));
        const json_t *pair = json_array_get(counts, i);
        tokens.count = 0;
        encode_row(row, "chosen", &tokens);
        assert_int_equal(tokens.count + 2, json_integer_value(json_array_get(pair, 0)));
        tokens.count = 0;
        encode_row(row, "rejected", &tokens);
        assert_int_equal(tokens.count + 2, json_integer_value(json_array_get(pair, 1)));
    }
    rmj_tokens_deinit(&tokens);
}

static void decoding_gives_every_text_back(void **state)
{
    (void)state;
    struct rmj_tokens tokens = {0};
    for (size_t row = 0; row < json_array_size(rows); row++) {
        tokens.count = 0;
        encode_row(row, "chosen", &tokens);
        char *text = rmj_tokenizer_decode(tokenizer, tokens.ids, tokens.count);
        assert_non_null(text);
        assert_string_equal(text, json_string_value(json_object_get(json_array_get(rows, row), "chosen")));
        free(text);
    }
    rmj_tokens_deinit(&tokens);
}

static void special_ids_come_from_config_json(void **state)
{
    (void)state;
    assert_int_equal(rmj_tokenizer_bos(tokenizer), 1);
    assert_int_equal(rmj_tokenizer_eos(tokenizer), 2);
    assert_int_equal(rmj_tokenizer_size(tokenizer), 32000);
    assert_null(rmj_tokenizer_chat_template(tokenizer));
}

int main(void)
{
    if (!find_data()) {
        printf("SKIP: no given data at %s; set RMJOB_DATA\n", data);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_pair_has_the_golden_ids),
        cmocka_unit_test(every_row_used_has_the_golden_token_counts),
        cmocka_unit_test(decoding_gives_every_text_back),
        cmocka_unit_test(special_ids_come_from_config_json),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
