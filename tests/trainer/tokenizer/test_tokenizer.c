// Every part of tokenizer.json on vocabularies that a reader can hold in mind. The expected ids are those of the public
// library (tests/peers/tokenizer_equal.py compares the same parts with it on random texts).
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tests/trainer/tokenizer/small.h"

#define BYTE_LEVEL_MODEL                                                                                               \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"\\u00c3\":4,\"\\u00a9\":5,"        \
    "\"ab\":6,\"\\u0120a\":7,\"\\u0120ab\":8,\"\\u00c3\\u00a9\":9,\"1\":10,\"abc\":11},"                               \
    "\"merges\":[\"a b\",\"\\u0120 a\",[\"\\u0120\",\"ab\"],[\"\\u00c3\",\"\\u00a9\"]]"
#define PIECE_MODEL                                                                                                    \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,"    \
    "\"\\u2581\":3,\"ab\":4,\"\\u2581a\":5,\"\\u2581ab\":6,\"\\u2581\\u2581\":7,\"<0xC3>\":8,\"<0xA9>\":9,\"\\n\":10}" \
    ","                                                                                                                \
    "\"merges\":[\"\\u2581 a\",\"a b\",\"\\u2581 ab\",\"\\u2581a b\",\"\\u2581 \\u2581\"]"

static void byte_level_words_merge_within_themselves(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                                         "\"decoder\":{\"type\":\"ByteLevel\"}," BYTE_LEVEL_MODEL "}}");
    small_expect(t, "ab ab", "6 8");
    small_expect(t, "a b", "0 3 1");
    small_expect(t, "\xc3\xa9", "9");
    small_expect(t, "", "");
    small_expect(t, "zab", "6"); // a byte without a token and without unk vanishes
    const int32_t ids[] = {6, 8, 9, 4};
    char *text = rmj_tokenizer_decode(t, ids, 4);
    assert_string_equal(text, "ab ab\xc3\xa9\xef\xbf\xbd"); // half a character is shown as such
    free(text);
    assert_int_equal(rmj_tokenizer_size(t), 12);
    assert_int_equal(rmj_tokenizer_token_id(t, "ab"), 6);
    assert_int_equal(rmj_tokenizer_token_id(t, "ba"), -1);
    rmj_tokenizer_close(t);
}

static void byte_level_can_put_a_space_in_front(void **state)
{
    (void)state;
    struct rmj_tokenizer *t =
        small_open("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}," BYTE_LEVEL_MODEL "}}");
    small_expect(t, "ab", "8");
    small_expect(t, " ab", "8");
    rmj_tokenizer_close(t);
}

static void ignore_merges_takes_whole_words(void **state)
{
    (void)state;
    const char *chain = "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                        "{\"Regex\":\"\\\\s?\\\\p{L}+|\\\\p{N}\"},\"behavior\":\"Isolated\",\"invert\":false},"
                        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}," BYTE_LEVEL_MODEL;
    char json[2048];
    snprintf(json, sizeof json, "%s,\"ignore_merges\":true}}", chain);
    struct rmj_tokenizer *t = small_open(json);
    small_expect(t, "abc1abc", "11 10 11");
    rmj_tokenizer_close(t);
    snprintf(json, sizeof json, "%s}}", chain);
    t = small_open(json);
    small_expect(t, "abc1abc", "6 2 10 6 2");
    rmj_tokenizer_close(t);
}

static void sentencepiece_text_is_one_word(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open(
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]},"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},"
        "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \","
        "\"start\":1,\"stop\":0}]}," PIECE_MODEL ",\"byte_fallback\":true}}");
    small_expect(t, "ab a  b", "6 5 7 2");
    small_expect(t, "\xc3\xa9", "3 8 9");
    small_expect(t,
                 "\xc3\xaa\xc3\xaa"
                 "a",
                 "3 0 1"); // a byte has no token: one fused unk
    const int32_t ids[] = {6, 5, 8, 9, 8, 10};
    char *text = rmj_tokenizer_decode(t, ids, 6);
    assert_string_equal(text, "ab a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n"); // three bytes that are no text together
    free(text);
    rmj_tokenizer_close(t);
}

static void unks_stay_apart_without_fuse(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"a\":1},\"merges\":[]}}");
    small_expect(t, "xxa", "0 0 1");
    rmj_tokenizer_close(t);
}

static void neighbours_of_a_vanished_character_meet(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}");
    small_expect(t, "azb", "2");
    small_expect(t, "bza", "1 0");
    rmj_tokenizer_close(t);
}

static void characters_younger_than_the_libraries_are_known(void **state)
{
    (void)state;
    // U+2EC6A is a letter since Unicode 15.1.
    struct rmj_tokenizer *t = small_open(
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}\"},\"behavior\":\"Removed\"},"
        "\"model\":{\"unk_token\":\"u\",\"vocab\":{\"u\":0,\"1\":1},\"merges\":[]}}");
    small_expect(t,
                 "\xf0\xae\xb1\xaa"
                 "1",
                 "1");
    rmj_tokenizer_close(t);
    // U+1DF7 is a mark below since Unicode 10; the public normalization has Unicode 9 and leaves it where it is.
    t = small_open("{\"normalizer\":{\"type\":\"NFC\"},"
                   "\"model\":{\"vocab\":{\"\\u08da\":0,\"\\u1df7\":1},\"merges\":[]}}");
    small_expect(t, "\xe0\xa3\x9a\xe1\xb7\xb7", "0 1");
    rmj_tokenizer_close(t);
}

static void metaspace_marks_and_splits(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open(
        "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\"},"
        "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\"},"
        "\"added_tokens\":[{\"id\":11,\"content\":\"<x>\"}]," PIECE_MODEL "}}");
    small_expect(t, "ab  ab", "6 3 6");
    small_expect(t, "ab<x>ab", "6 11 4"); // first: no mark behind an added token
    const int32_t ids[] = {6, 5};
    char *text = rmj_tokenizer_decode(t, ids, 2);
    assert_string_equal(text, "ab a");
    free(text);
    rmj_tokenizer_close(t);
}

static void normalizers_do_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *normalizer;
        const char *text;
        const char *ids;
    } cases[] = {
        {"{\"type\":\"NFC\"}", "e\xcc\x81", "3"},
        {"{\"type\":\"NFD\"}", "\xc3\xa9", "1 2"},
        {"{\"type\":\"NFKC\"}", "\xef\xbd\x85", "1"},
        {"{\"type\":\"NFKD\"}", "\xef\xbd\x85\xc3\xa9", "1 1 2"},
        {"{\"type\":\"Lowercase\"}", "E\xc3\x89\xc4\xb0", "1 3 5 6"},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}",
         " \xe2\x80\x83"
         "e ",
         "1"},
        {"{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}", " e ", "4 1"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[ie]+\"},\"content\":\"e \"}", "iei", "1 4"},
        // No empty match right behind another one.
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"i*\"},\"content\":\"e\"}", "i", "1"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"i*\"},\"content\":\"e\"}", "E", "1 0 1"},
        {"{\"type\":\"Prepend\",\"prepend\":\"e\"}", "", ""},
        {"null", "e", "1"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char json[1024];
        snprintf(
            json, sizeof json,
            "{\"normalizer\":%s,\"model\":{\"type\":\"BPE\",\"vocab\":{\"E\":0,\"e\":1,\"\\u0301\":2,\"\\u00e9\":3,"
            "\" \":4,\"i\":5,\"\\u0307\":6},\"merges\":[]}}",
            cases[i].normalizer);
        struct rmj_tokenizer *t = small_open(json);
        small_expect(t, cases[i].text, cases[i].ids);
        rmj_tokenizer_close(t);
    }
}

static void splits_treat_matches_as_told(void **state)
{
    (void)state;
    // Vocabulary of words over "a-": whole words are taken by ignore_merges, so the ids show where it was split.
    static const struct {
        const char *behavior;
        const char *ids; // of a--a
    } cases[] = {
        {"Isolated", "0 1 1 0"},         {"Removed", "0 0"},          {"Contiguous", "0 2 0"},
        {"MergedWithPrevious", "3 1 0"}, {"MergedWithNext", "0 1 4"},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char json[1024];
        snprintf(
            json, sizeof json,
            "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"%s\"},\"model\":{"
            "\"vocab\":{\"a\":0,\"-\":1,\"--\":2,\"a-\":3,\"-a\":4},\"merges\":[],\"ignore_merges\":true}}",
            cases[i].behavior);
        struct rmj_tokenizer *t = small_open(json);
        small_expect(t, "a--a", cases[i].ids);
        rmj_tokenizer_close(t);
    }
}

static void added_tokens_are_found_first(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open(
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<l>\",\"lstrip\":true},{\"id\":4,\"content\":\"<r>\",\"rstrip\":"
        "true},"
        "{\"id\":5,\"content\":\"ab\",\"single_word\":true},{\"id\":6,\"content\":\"<l>a\",\"special\":true},"
        "{\"id\":7,\"content\":\"BIG\",\"normalized\":true},{\"id\":8,\"content\":\"RAW\",\"normalized\":false}],"
        "\"normalizer\":{\"type\":\"Lowercase\"},"
        "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\" \":2},\"merges\":[]}}");
    small_expect(t, "a  <l> b", "0 3 2 1"); // white space on the left is taken along
    small_expect(t, "a <r>  b", "0 2 4 1");
    small_expect(t, "a<r> <l>b", "0 4 3 1"); // the space belongs to the first
    small_expect(t, "<l>ab", "6 1");         // the longest of those that start there
    small_expect(t, "ab aba", "5 2 0 1 0");  // only as a word of its own
    small_expect(t, "bIG", "7");             // matched after normalization
    small_expect(t, "raw", "0");             // matched as given, and this is not it
    small_expect(t, "RAW", "8");
    const int32_t ids[] = {7, 8};
    char *text = rmj_tokenizer_decode(t, ids, 2);
    assert_string_equal(text, "big RAW"); // without decoder tokens stand apart
    free(text);
    rmj_tokenizer_close(t);
}

static void special_ids_come_from_the_files_beside(void **state)
{
    (void)state;
    const char *json = "{\"model\":{\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2,\"<p>\":3},\"merges\":[]}}";
    const char *config = "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"chat_template\":\"{{x}}\","
                         "\"model_max_length\":1000000000000000019884624838656}";
    struct rmj_tokenizer *t = small_open(json);
    assert_int_equal(rmj_tokenizer_bos(t), -1);
    assert_int_equal(rmj_tokenizer_eos(t), -1);
    assert_int_equal(rmj_tokenizer_pad(t), -1);
    assert_null(rmj_tokenizer_chat_template(t));
    rmj_tokenizer_close(t);
    small_write("tokenizer_config.json", config, strlen(config));
    config = "{\"pad_token\":\"<p>\",\"bos_token\":\"a\"}";
    small_write("special_tokens_map.json", config, strlen(config));
    config = "{\"eos_token_id\":[0,1],\"pad_token_id\":0}";
    small_write("config.json", config, strlen(config));
    t = small_open(json);
    assert_int_equal(rmj_tokenizer_bos(t), 1);
    assert_int_equal(rmj_tokenizer_eos(t), 2);
    assert_int_equal(rmj_tokenizer_pad(t), 3);
    assert_string_equal(rmj_tokenizer_chat_template(t), "{{x}}");
    rmj_tokenizer_close(t);
    small_remove("tokenizer_config.json");
    small_remove("special_tokens_map.json");
    t = small_open(json);
    assert_int_equal(rmj_tokenizer_eos(t), 0);
    assert_int_equal(rmj_tokenizer_pad(t), 0);
    rmj_tokenizer_close(t);
    small_remove("config.json");
}

// The rule itself, without any cleverness: lowest rank first, leftmost of equals.
static size_t merge_plainly(int32_t *ids, size_t count, const int32_t rules[][3], size_t rule_count)
{
    for (;;) {
        size_t best_rule = rule_count;
        size_t best = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (size_t r = 0; r < best_rule; r++) {
                if (ids[i] == rules[r][0] && ids[i + 1] == rules[r][1]) {
                    best_rule = r;
                    best = i;
                }
            }
        }
        if (best_rule == rule_count) {
            return count;
        }
        ids[best] = rules[best_rule][2];
        memmove(&ids[best + 1], &ids[best + 2], (count - best - 2) * sizeof *ids);
        count--;
    }
}

static void long_words_merge_by_the_same_rule(void **state)
{
    (void)state;
    // a 0, b 1, ab 2, ba 3, abab 4, aa 5, bab 6, aab 7
    static const int32_t rules[][3] = {{1, 0, 3}, {0, 1, 2}, {2, 2, 4}, {0, 0, 5}, {3, 1, 6}, {1, 2, 6}, {0, 2, 7}};
    struct rmj_tokenizer *t = small_open(
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"abab\":4,\"aa\":5,\"bab\":6,\"aab\":7},\"merges\":["
        "\"b a\",\"a b\",\"ab ab\",\"a a\",\"ba b\",\"b ab\",\"a ab\"]}}");
    struct rmj_rng rng;
    rmj_rng_init(&rng, 7, 0);
    for (size_t round = 0; round < 300; round++) {
        char text[400];
        int32_t ids[400];
        size_t count = 1 + rmj_rng_below(&rng, sizeof text - 1);
        for (size_t i = 0; i < count; i++) {
            ids[i] = (int32_t)rmj_rng_below(&rng, 2);
            text[i] = (char)('a' + ids[i]);
        }
        struct rmj_tokens tokens = {0};
        assert_int_equal(rmj_tokenizer_encode(t, text, count, &tokens, NULL), RMJ_OK);
        size_t expected = merge_plainly(ids, count, rules, RMJ_COUNT(rules));
        assert_int_equal(tokens.count, expected);
        assert_memory_equal(tokens.ids, ids, expected * sizeof *ids);
        rmj_tokens_deinit(&tokens);
    }
    rmj_tokenizer_close(t);
}

static void a_megabyte_without_a_space_is_no_trouble(void **state)
{
    (void)state;
    struct rmj_tokenizer *t =
        small_open("{\"model\":{\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2},\"merges\":[\"a a\",\"aa aa\"]}}");
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'a', size);
    struct rmj_tokens tokens = {0};
    assert_int_equal(rmj_tokenizer_encode(t, text, size, &tokens, NULL), RMJ_OK);
    assert_int_equal(tokens.count, size / 4);
    rmj_tokens_deinit(&tokens);
    free(text);
    rmj_tokenizer_close(t);
    t = small_open("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}," BYTE_LEVEL_MODEL "}}");
    text = malloc(size);
    assert_non_null(text);
    memset(text, ' ', size); // \s+(?!\S) over all of it
    assert_int_equal(rmj_tokenizer_encode(t, text, size, &tokens, NULL), RMJ_OK);
    assert_int_equal(tokens.count, size);
    rmj_tokens_deinit(&tokens);
    free(text);
    rmj_tokenizer_close(t);
}

static void text_that_is_not_utf8_is_refused_with_its_place(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}");
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    assert_int_equal(rmj_tokenizer_encode(t,
                                          "aaa\xff"
                                          "a",
                                          5, &tokens, &err),
                     RMJ_DATA);
    assert_string_equal(err.message, "text is not UTF-8 at byte 3");
    assert_int_equal(rmj_tokenizer_encode(t, "a\xed\xa0\x80", 4, &tokens, &err), RMJ_DATA); // a surrogate
    assert_string_equal(err.message, "text is not UTF-8 at byte 1");
    assert_int_equal(tokens.count, 0);
    assert_int_equal(rmj_tokenizer_encode(t, "a\0a", 3, &tokens, &err), RMJ_OK);
    assert_int_equal(tokens.count, 2);
    rmj_tokens_deinit(&tokens);
    rmj_tokenizer_close(t);
}

// NULL when every round gave the ids of "ab ab"; asserts belong to the main thread.
static void *encode_again_and_again(void *tokenizer)
{
    struct rmj_tokens tokens = {0};
    void *wrong = NULL;
    for (size_t i = 0; i < 500; i++) {
        tokens.count = 0;
        if (rmj_tokenizer_encode(tokenizer, "ab ab", 5, &tokens, NULL) != RMJ_OK || tokens.count != 2 ||
            tokens.ids[0] != 6 || tokens.ids[1] != 8) {
            wrong = tokenizer;
        }
    }
    rmj_tokens_deinit(&tokens);
    return wrong;
}

static void threads_share_one_tokenizer(void **state)
{
    (void)state;
    struct rmj_tokenizer *t =
        small_open("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}," BYTE_LEVEL_MODEL "}}");
    pthread_t threads[4];
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, encode_again_and_again, t), 0);
    }
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    rmj_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_words_merge_within_themselves),
        cmocka_unit_test(byte_level_can_put_a_space_in_front),
        cmocka_unit_test(ignore_merges_takes_whole_words),
        cmocka_unit_test(sentencepiece_text_is_one_word),
        cmocka_unit_test(unks_stay_apart_without_fuse),
        cmocka_unit_test(neighbours_of_a_vanished_character_meet),
        cmocka_unit_test(characters_younger_than_the_libraries_are_known),
        cmocka_unit_test(metaspace_marks_and_splits),
        cmocka_unit_test(normalizers_do_what_they_say),
        cmocka_unit_test(splits_treat_matches_as_told),
        cmocka_unit_test(added_tokens_are_found_first),
        cmocka_unit_test(special_ids_come_from_the_files_beside),
        cmocka_unit_test(long_words_merge_by_the_same_rule),
        cmocka_unit_test(a_megabyte_without_a_space_is_no_trouble),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_its_place),
        cmocka_unit_test(threads_share_one_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
