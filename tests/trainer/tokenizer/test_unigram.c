// Unigram vocabularies with the parts that come with them, and what a post-processor puts around a text.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "tests/trainer/tokenizer/small.h"

#define UNIGRAM(options, vocab) "\"model\":{\"type\":\"Unigram\"," options "\"vocab\":[" vocab "]}"

static void the_cut_of_the_highest_sum_wins(void **state)
{
    (void)state;
    // ab cd: -2 - 2; a bcd: -1 - 4; abcd: -5.
    struct rmj_tokenizer *t = small_open(
        "{" UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"a\",-1],[\"b\",-3],[\"ab\",-2],[\"cd\",-2],[\"bcd\",-4],"
                                     "[\"abcd\",-5]") "}");
    small_expect(t, "abcd", "3 4");
    small_expect(t, "bcd", "5");
    small_expect(t, "", "");
    // No token reaches behind the c alone, so it is unknown, and so is the d after it; together they are one.
    small_expect(t, "acdd", "1 4 0");
    small_expect(t,
                 "axyz\xf0\x9f\x98\x80"
                 "a",
                 "1 0 1");
    rmj_tokenizer_close(t);
}

static void of_equal_sums_the_first_found_stays(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{" UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"a\",-1],[\"aa\",-2]") "}");
    small_expect(t, "aa", "2"); // the token that starts earlier is tried earlier
    small_expect(t, "aaa", "1 2");
    rmj_tokenizer_close(t);
}

static void scores_are_added_as_doubles(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{" UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"a\",-0.1],[\"aaa\",-0.3]") "}");
    small_expect(t, "aaa", "2"); // 0.1 + 0.1 + 0.1 is 0.30000000000000004
    rmj_tokenizer_close(t);
    // The public reader makes -15.77446746826172 of the left one, one unit in the last place lower, and both ways
    // equal.
    t = small_open("{" UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"ab\",-15.77446746826172],[\"a\",0],"
                                                "[\"b\",-15.774467468261719]") "}");
    small_expect(t, "ab", "1");
    rmj_tokenizer_close(t);
}

static void unknowns_fall_back_to_their_bytes(void **state)
{
    (void)state;
    const char *json = "{" UNIGRAM(
        "\"unk_id\":0,\"byte_fallback\":true,",
        "[\"<u>\",0],[\"a\",-1],[\"<0xC3>\",-9],[\"<0xA9>\",-9]") ","
                                                                  "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{"
                                                                  "\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}}";
    struct rmj_tokenizer *t = small_open(json);
    small_expect(t,
                 "a\xc3\xa9"
                 "a",
                 "1 2 3 1");
    small_expect(t, "a\xc3\xa9\xc3\xa8", "1 0"); // a run is its bytes only when all of them are tokens
    const int32_t ids[] = {1, 2, 3};
    char *text = rmj_tokenizer_decode(t, ids, 3);
    assert_string_equal(text, "a\xc3\xa9");
    free(text);
    rmj_tokenizer_close(t);
}

static void without_an_unknown_token_the_text_is_refused(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{" UNIGRAM("\"unk_id\":null,", "[\"a\",-1]") "}");
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    assert_int_equal(rmj_tokenizer_encode(t, "aab", 3, &tokens, &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "a character without a token at byte 2 of a word, and model.unk_id is null"));
    assert_int_equal(tokens.count, 0);
    small_expect(t, "aa", "0 0");
    rmj_tokens_deinit(&tokens);
    rmj_tokenizer_close(t);
}

static void of_two_pieces_with_one_text_the_later_counts(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{" UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"a\",-1],[\"a\",-2]") "}");
    small_expect(t, "a", "2");
    rmj_tokenizer_close(t);
}

// A map of one key, A, to "bc"; the others are the same tree with a damaged leaf or root.
static void character_maps_replace_and_damaged_ones_do_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *map;
        const char *text;
        const char *ids;
    } cases[] = {
        {"DAAAAAAAAQBBDQAAAAAAgGJjAA==", "aAa", "1 2 3 1"},
        {"DAAAAAAAAQBBDQAAAAAAgGJjAA==", "A\xcc\x81", "2 3"}, // the whole cluster goes with its first character
        {"DAAAAAAAAQBBDQAAAAAAgGJjAA==", "A\xcc\x81\xcc\x81\xcc\x81", "2 3 5"}, // over 5 bytes it does not
        {"DAAAAAAAAQBBDQAAAAAAgGJjAA==",
         "\xcc\x81"
         "A",
         "5 2 3"},
        {"DAAAAAAAAQBBDQAAAQAAgMOpAA==", "A", "4"}, // starts inside a character
        {"DAAAAAAAAQBBDQAA/////2JjAA==", "A", "4"}, // starts behind the texts
        {"BAAAAP////9iYwA=", "A", "4"},             // leaves the tree
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        char json[1024];
        snprintf(json, sizeof json,
                 "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%s\"}," UNIGRAM(
                     "\"unk_id\":5,", "[\"z\",0],[\"a\",-1],[\"b\",-1],[\"c\",-1],[\"A\",-1],[\"<u>\",0]") "}",
                 cases[i].map);
        struct rmj_tokenizer *t = small_open(json);
        small_expect(t, cases[i].text, cases[i].ids);
        rmj_tokenizer_close(t);
    }
}

static void accents_and_controls_are_taken_away(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open(
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"},"
        "{\"type\":\"Nmt\"}]}," UNIGRAM("\"unk_id\":0,", "[\"<u>\",0],[\"e\",-1],[\" \",-1]") "}");
    small_expect(t,
                 "\xc3\xa9\x01\t\xe2\x80\x8b"
                 "e",
                 "1 2 2 1");
    rmj_tokenizer_close(t);
}

static void expect_marks(const char *post_processor, const char *expected)
{
    char json[1024];
    snprintf(json, sizeof json,
             "{\"post_processor\":%s,\"model\":{\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2},\"merges\":[]}}",
             post_processor);
    struct rmj_tokenizer *t = small_open(json);
    struct rmj_tokenizer_marks marks;
    rmj_tokenizer_marks(t, &marks);
    char got[64] = "";
    size_t used = 0;
    for (size_t i = 0; i < marks.before_count; i++) {
        used += (size_t)snprintf(got + used, sizeof got - used, "%d ", (int)marks.before[i]);
    }
    used += (size_t)snprintf(got + used, sizeof got - used, "A");
    for (size_t i = 0; i < marks.after_count; i++) {
        used += (size_t)snprintf(got + used, sizeof got - used, " %d", (int)marks.after[i]);
    }
    assert_string_equal(got, expected);
    rmj_tokenizer_close(t);
}

static void post_processors_say_what_goes_around_a_text(void **state)
{
    (void)state;
    const char *plain =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"x\"}}],\"pair\":[],"
        "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]},"
        "\"x\":{\"id\":\"x\",\"ids\":[2,0]}}}";
    expect_marks("null", "A");
    expect_marks("{\"type\":\"ByteLevel\",\"trim_offsets\":false}", "A");
    expect_marks(plain, "1 A 2 0");
    expect_marks("{\"type\":\"BertProcessing\",\"sep\":[\"</s>\",2],\"cls\":[\"<s>\",1]}", "1 A 2");
    expect_marks("{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",2],\"cls\":[\"<s>\",1],\"trim_offsets\":true}",
                 "1 A 2");
    char chain[1024];
    snprintf(chain, sizeof chain,
             "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},%s,{\"type\":\"BertProcessing\","
             "\"sep\":[\"</s>\",2],\"cls\":[\"a\",0]}]}",
             plain);
    expect_marks(chain, "0 1 A 2 0 2"); // the later part goes around the earlier one
}

// As transformers 5.23 has it: beside a tokenizer.json these two keys are dropped.
static void add_bos_token_does_not_count_beside_a_post_processor(void **state)
{
    (void)state;
    const char *config = "{\"add_bos_token\":true,\"add_eos_token\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    small_write("tokenizer_config.json", config, strlen(config));
    expect_marks("null", "A");
    expect_marks("{\"type\":\"BertProcessing\",\"sep\":[\"a\",0],\"cls\":[\"a\",0]}", "0 A 0");
    small_remove("tokenizer_config.json");
}

static void truncation_and_padding_entries_do_not_count(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open(
        "{\"truncation\":{\"direction\":\"Right\",\"max_length\":1,\"strategy\":\"LongestFirst\",\"stride\":0},"
        "\"padding\":{\"strategy\":{\"Fixed\":9},\"direction\":\"Left\",\"pad_id\":0,\"pad_token\":\"<u>\"}," UNIGRAM(
            "\"unk_id\":0,", "[\"<u>\",0],[\"a\",-1],[\"b\",-1]") "}");
    small_expect(t, "abab", "1 2 1 2");
    rmj_tokenizer_close(t);
}

static void nul_bytes_are_characters_like_any_other(void **state)
{
    (void)state;
    struct rmj_tokenizer *t = small_open("{\"added_tokens\":[{\"id\":3,\"content\":\"x\\u0000y\"}]," UNIGRAM(
        "\"unk_id\":0,", "[\"<u>\",0],[\"a\\u0000\",-1],[\"a\",-2]") "}");
    struct rmj_tokens tokens = {0};
    struct rmj_error err = {0};
    assert_int_equal(rmj_tokenizer_encode(t, "a\0a\0\0x\0y", 8, &tokens, &err), RMJ_OK);
    const int32_t expected[] = {1, 1, 0, 3};
    assert_int_equal(tokens.count, RMJ_COUNT(expected));
    assert_memory_equal(tokens.ids, expected, sizeof expected);
    rmj_tokens_deinit(&tokens);
    rmj_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cut_of_the_highest_sum_wins),
        cmocka_unit_test(of_equal_sums_the_first_found_stays),
        cmocka_unit_test(scores_are_added_as_doubles),
        cmocka_unit_test(unknowns_fall_back_to_their_bytes),
        cmocka_unit_test(without_an_unknown_token_the_text_is_refused),
        cmocka_unit_test(of_two_pieces_with_one_text_the_later_counts),
        cmocka_unit_test(character_maps_replace_and_damaged_ones_do_nothing),
        cmocka_unit_test(accents_and_controls_are_taken_away),
        cmocka_unit_test(post_processors_say_what_goes_around_a_text),
        cmocka_unit_test(truncation_and_padding_entries_do_not_count),
        cmocka_unit_test(nul_bytes_are_characters_like_any_other),
        cmocka_unit_test(add_bos_token_does_not_count_beside_a_post_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
