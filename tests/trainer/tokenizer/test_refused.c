// What cannot be read is refused with a message that names the file, the part and the mend; and nothing crashes.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "tests/trainer/tokenizer/small.h"

#define GOOD_MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define WITH(parts) "{" parts "," GOOD_MODEL "}"
#define MODEL(parts) "{\"model\":{\"type\":\"BPE\"," parts "}}"

#define UNIGRAM(vocab) "{\"model\":{\"type\":\"Unigram\",\"vocab\":" vocab "}}"

#define SEQUENCE_A "{\"Sequence\":{\"id\":\"A\"}}"
#define TEMPLATE(single, tokens)                                                                                       \
    WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"special_tokens\":" tokens "}")

struct refusal {
    const char *json;
    const char *message; // a part of it
};

static const struct refusal REFUSALS[] = {
    {"", "not valid JSON"},
    {"not json", "tokenizer.json:1:3: not valid JSON"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0", "not valid JSON"},
    {"[]", "has to be a JSON object"},
    {"{\"a\":\"\xff\"}", "not valid JSON"},
    {"{\"model\":1}", "\"model\" is missing or has no type"},
    {"{}", "\"model\" is missing or has no type"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "model type WordPiece is not supported; use a model whose"},
    {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", "model type WordLevel is not supported"},
    {"{\"model\":{\"vocab\":{\"a\":0}}}", "model type unknown is not supported"},
    {"{\"model\":{\"vocab\":[]}}", "model.vocab has to be a list of 1 to 4194304 tokens and scores"},
    {UNIGRAM("[]"), "model.vocab has to be a list of 1 to 4194304 tokens and scores"},
    {UNIGRAM("{\"a\":0}"), "model.vocab has to be a list of 1 to"},
    {UNIGRAM("[3]"), "model.vocab[0] has to be [\"token\", score]"},
    {UNIGRAM("[[\"a\",0],[\"b\"]]"), "model.vocab[1] has to be [\"token\", score]"},
    {UNIGRAM("[[\"a\",\"b\"]]"), "model.vocab[0] has to be [\"token\", score]"},
    {UNIGRAM("[[1,2]]"), "model.vocab[0] has to be [\"token\", score]"},
    {UNIGRAM("[[\"a\",-1e999]]"), "not valid JSON"},
    {UNIGRAM("[[\"a\",-1]],\"unk_id\":1"), "model: \"unk_id\" has to be a whole number from 0 to 0"},
    {UNIGRAM("[[\"a\",-1]],\"unk_id\":-1"), "model: \"unk_id\" has to be a whole number from 0 to 0"},
    {UNIGRAM("[[\"a\",-1]],\"byte_fallback\":\"x\""), "model: \"byte_fallback\" has to be true or false"},
    {MODEL("\"merges\":[]"), "model.vocab has to be an object"},
    {MODEL("\"vocab\":{},\"merges\":[]"), "model.vocab has to be an object of tokens and ids, and not empty"},
    {MODEL("\"vocab\":{\"a\":\"x\"},\"merges\":[]"), "id of token \"a\" has to be a whole number from 0 to 4194303"},
    {MODEL("\"vocab\":{\"a\":-1},\"merges\":[]"), "id of token \"a\" has to be"},
    {MODEL("\"vocab\":{\"a\":4194304},\"merges\":[]"), "id of token \"a\" has to be"},
    {MODEL("\"vocab\":{\"a\":99999999999999999999},\"merges\":[]"), "too big integer"},
    {MODEL("\"vocab\":{\"a\":0.5},\"merges\":[]"), "id of token \"a\" has to be"},
    {MODEL("\"vocab\":{\"a\":7,\"b\":7},\"merges\":[]"), "tokens \"a\" and \"b\" have the same id 7"},
    {MODEL("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), "duplicate object key"},
    {MODEL("\"vocab\":{\"a\\u0000\":0},\"merges\":[]"), "not valid JSON: NUL byte in object key"},
    {MODEL("\"vocab\":{\"a\":0}"), "model.merges has to be a list"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[1]"), "model.merges[0] has to be \"left right\""},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"aa\"]"), "model.merges[0] has to be \"left right\""},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]"), "model.merges[0] has to be \"left right\""},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"), "model.merges[0] has to be \"left right\""},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a z\"]"), "model.merges[0] names \"z\", which is not in model.vocab"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[\"a a\"]"), "model.merges[0] names \"aa\", which is not in model.vocab"},
    {MODEL("\"vocab\":{\"a\":0,\"\":1},\"merges\":[[\"\",\"a\"]]"), "model.merges[0] has an empty side"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\""), "model.unk_token \"u\" is not in model.vocab"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":3"), "model: \"unk_token\" is not a text"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), "model.dropout makes ids random"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":1"), "\"byte_fallback\" has to be true or false"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\""),
     "model.end_of_word_suffix is not supported"},
    {MODEL("\"vocab\":{\"a\":0},\"merges\":[],\"continuing_subword_prefix\":\"##\""),
     "model.continuing_subword_prefix is not supported"},
    {WITH("\"normalizer\":{\"type\":\"BertNormalizer\"}"),
     "normalizer BertNormalizer is not supported; supported are NFC"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"ByteLevel\"}]}"),
     "normalizer ByteLevel is not supported"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\"}"), "normalizer Precompiled: \"precompiled_charsmap\" is missing"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"), "cut short or not base64"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}"), "cut short or not base64"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA!AAAAAAA\"}"),
     "cut short or not base64"},
    // A tree of 16 MiB in a map of 9 bytes; a tree of no units.
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAAQAAAAAA\"}"), "cut short"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAAAAAAAAAA\"}"), "cut short"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\"}"), "not UTF-8"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"}]},"
          "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}"),
     "Metaspace with prepend_scheme first is not supported behind"},
    {WITH("\"post_processor\":{\"type\":\"Sideways\"}"),
     "post_processor Sideways is not supported; supported are Temp"},
    {WITH("\"post_processor\":{\"type\":\"Sequence\",\"processors\":3}"), "\"processors\" has to be a list"},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",0]}"),
     "\"sep\" has to be a token and its id"},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",3],\"sep\":[\"b\",1]}"),
     "id of a special token has to be below the tokenizer's 3"},
    {TEMPLATE("", "{}"), "\"single\" has to be a list that holds the Sequence A once"},
    {TEMPLATE(SEQUENCE_A "," SEQUENCE_A, "{}"), "\"single\" has to be a list that holds the Sequence A once"},
    {TEMPLATE("{\"Sequence\":{\"id\":\"B\"}}", "{}"), "single[0] has to be a SpecialToken or the Sequence A"},
    {TEMPLATE(SEQUENCE_A ",{\"SpecialToken\":{}}", "{}"), "\"id\" is missing"},
    {TEMPLATE(SEQUENCE_A ",{\"SpecialToken\":{\"id\":\"b\"}}", "{}"), "special_tokens has no ids for \"b\""},
    {TEMPLATE(SEQUENCE_A ",{\"SpecialToken\":{\"id\":\"b\"}}", "{\"b\":{\"ids\":[7]}}"),
     "id of a special token has to be below the tokenizer's 3"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\"}"), "normalizer Sequence: \"normalizers\" has to be a list"},
    {WITH("\"normalizer\":{\"kind\":\"NFC\"}"), "normalizer has no type"},
    {WITH("\"normalizer\":[]"), "normalizer has no type"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), "normalizer Prepend: \"prepend\" is missing"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\"}"), "normalizer Replace: pattern has to be"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}"),
     "pattern is an empty text"},
    {WITH("\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"), "pre_tokenizer BertPreTokenizer is not supported"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}"),
     "pre_tokenizer Split: regular expression does not compile: missing closing parenthesis"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}"),
     "regular expression uses && inside [ ]"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]]\"},\"behavior\":\"Isolated\"}"),
     "regular expression uses a set inside [ ]"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h\"},\"behavior\":\"Isolated\"}"),
     "regular expression uses \\h"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}"),
     "behavior Sideways is unknown"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}}"), "\"behavior\" is missing"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "replacement has to be one character"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"),
     "prepend_scheme has to be never, first or always"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]"
          "}"),
     "pre_tokenizer Digits comes after ByteLevel"},
    {WITH("\"decoder\":{\"type\":\"CTC\"}"), "decoder CTC is not supported"},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"),
     "decoder Strip: \"start\" has to be"},
    {WITH("\"added_tokens\":3"), "added_tokens has to be a list"},
    {WITH("\"added_tokens\":[3]"), "added_tokens[0]: \"content\" is missing"},
    {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "added_tokens[0]: \"id\" has to be a whole number"},
    {WITH("\"added_tokens\":[{\"content\":\"\",\"id\":3}]"), "added_tokens[0]: content has 0 bytes"},
    {WITH("\"added_tokens\":[{\"content\":\"x\",\"id\":3000000000}]"), "added_tokens[0]: \"id\" has to be"},
    {WITH("\"added_tokens\":[{\"content\":\"x\",\"id\":9}]"),
     "added token \"x\" has id 9, but counting on from the vocabulary"},
    {WITH("\"added_tokens\":[{\"content\":\"a\",\"id\":1}]"), "added token \"a\" has id 1, but model.vocab gives it 0"},
    {WITH("\"added_tokens\":[{\"content\":\"x\",\"id\":3},{\"content\":\"x\",\"id\":3}]"),
     "added token \"x\" has id 3, but"},
    {WITH("\"normalizer\":{\"type\":\"Strip\"},\"added_tokens\":[{\"content\":\" \",\"id\":3}]"),
     "is empty after normalization"},
};

static void every_broken_file_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(REFUSALS); i++) {
        small_write("tokenizer.json", REFUSALS[i].json, strlen(REFUSALS[i].json));
        struct rmj_tokenizer *tokenizer = NULL;
        struct rmj_error err = {0};
        if (rmj_tokenizer_open(&tokenizer, small_directory(), &err) != RMJ_DATA ||
            strstr(err.message, REFUSALS[i].message) == NULL || strstr(err.message, "tokenizer.json") == NULL) {
            fail_msg("%s\ngave: %s\nwanted: %s", REFUSALS[i].json, err.message, REFUSALS[i].message);
        }
        assert_null(tokenizer);
    }
}

static void deep_and_long_files_are_refused(void **state)
{
    (void)state;
    static char json[1 << 17];
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_error err = {0};
    memset(json, '[', sizeof json);
    small_write("tokenizer.json", json, sizeof json);
    assert_int_equal(rmj_tokenizer_open(&tokenizer, small_directory(), &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "maximum parsing depth"));
    memset(json, 'x', sizeof json);
    int head = snprintf(json, sizeof json, "{\"model\":{\"merges\":[],\"vocab\":{\"");
    json[head] = 'x';
    const char tail[] = "\":0}}}";
    memcpy(json + sizeof json - strlen(tail), tail, strlen(tail));
    small_write("tokenizer.json", json, sizeof json);
    assert_int_equal(rmj_tokenizer_open(&tokenizer, small_directory(), &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "bytes, the most is 65536"));
    size_t used = (size_t)snprintf(json, sizeof json, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 17; i++) {
        used += (size_t)snprintf(json + used, sizeof json - used, "%s{\"type\":\"NFC\"}", i == 0 ? "" : ",");
    }
    used += (size_t)snprintf(json + used, sizeof json - used, "]}," GOOD_MODEL "}");
    small_write("tokenizer.json", json, used);
    assert_int_equal(rmj_tokenizer_open(&tokenizer, small_directory(), &err), RMJ_DATA);
    assert_non_null(strstr(err.message, "normalizer has more than 16 parts"));
}

static void a_missing_tokenizer_is_named(void **state)
{
    (void)state;
    small_remove("tokenizer.json");
    struct rmj_tokenizer *tokenizer = NULL;
    struct rmj_error err = {0};
    assert_int_equal(rmj_tokenizer_open(&tokenizer, small_directory(), &err), RMJ_DATA);
    assert_non_null(
        strstr(err.message, "tokenizer.json is missing; the model directory has to hold its tokenizer.json"));
}

static void files_beside_are_checked_too(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *json;
        const char *message;
    } cases[] = {
        {"tokenizer_config.json", "{\"eos_token\":\"zz\"}",
         "tokenizer_config.json: eos_token \"zz\" is not in tokenizer.json"},
        {"tokenizer_config.json", "{\"eos_token\":3}", "tokenizer_config.json: eos_token has to be a text"},
        {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"x\"}]}", "a list with a template named \"default\""},
        {"tokenizer_config.json", "{", "tokenizer_config.json:1:1: not valid JSON"},
        {"special_tokens_map.json", "{\"pad_token\":\"zz\"}", "special_tokens_map.json: pad_token \"zz\" is not in"},
        {"config.json", "{\"bos_token_id\":3}", "config.json: bos_token_id has to be an id below the tokenizer's 3"},
        {"config.json", "{\"bos_token_id\":\"a\"}", "config.json: bos_token_id has to be an id below"},
    };
    small_write("tokenizer.json", "{" GOOD_MODEL "}", strlen("{" GOOD_MODEL "}"));
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        small_write(cases[i].name, cases[i].json, strlen(cases[i].json));
        struct rmj_tokenizer *tokenizer = NULL;
        struct rmj_error err = {0};
        assert_int_equal(rmj_tokenizer_open(&tokenizer, small_directory(), &err), RMJ_DATA);
        if (strstr(err.message, cases[i].message) == NULL) {
            fail_msg("%s\ngave: %s\nwanted: %s", cases[i].json, err.message, cases[i].message);
        }
        small_remove(cases[i].name);
    }
}

static const char SEED_FILE[] =
    "{\"added_tokens\":[{\"id\":12,\"content\":\"<x>\",\"lstrip\":true,\"rstrip\":true,\"special\":true},"
    "{\"id\":13,\"content\":\"wo\",\"single_word\":true,\"normalized\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Prepend\",\"prepend\":\"_\"}"
    ","
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\"_\"},{\"type\":\"Lowercase\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},"
    "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"},{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":\"\\\\p{L}+|[^\\\\s\\\\p{N}]?\"},\"behavior\":\"MergedWithNext\",\"invert\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},\"content\":"
    "\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"ByteLevel\"},{\"type\":\"Strip\",\"content\":\" "
    "\",\"start\":1,\"stop\":1}]},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"u\",\"fuse_unk\":false,\"byte_fallback\":true,\"ignore_merges\":true,"
    "\"vocab\":{\"u\":0,\"a\":1,\"b\":2,\"_\":3,\"\\u0120\":4,\"ab\":5,\"\\u0120a\":6,\"<0xC3>\":7,\"aa\":8,\"1\":9,"
    "\"\\u00c3\":10,\"abab\":11},\"merges\":[\"a b\",\"\\u0120 a\",[\"a\",\"a\"],\"ab ab\"]}}";

// Bytes flipped, cut out, doubled, or replaced by digits and brackets.
static size_t mutate(struct rmj_rng *rng, char *json, size_t size, size_t capacity)
{
    for (uint64_t change = 1 + rmj_rng_below(rng, 4); change > 0 && size > 1; change--) {
        size_t at = rmj_rng_below(rng, size);
        size_t span = 1 + rmj_rng_below(rng, 12);
        span = span > size - at ? size - at : span;
        switch (rmj_rng_below(rng, 5)) {
        case 0:
            json[at] = (char)rmj_rng_below(rng, 256);
            break;
        case 1:
            memmove(json + at, json + at + span, size - at - span);
            size -= span;
            break;
        case 2:
            if (size + span <= capacity) {
                memmove(json + at + span, json + at, size - at);
                size += span;
            }
            break;
        case 3:
            json[at] = "0123456789{}[]\",:\\ntf"[rmj_rng_below(rng, 21)];
            break;
        default:
            size = rmj_rng_below(rng, 20) == 0 ? at : size;
            break;
        }
    }
    return size;
}

// The same for the other model and its parts.
static const char UNIGRAM_SEED_FILE[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<u>\",\"special\":true},{\"id\":9,\"content\":\"<x>\"}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"},{\"type\":\"Precompiled\","
    "\"precompiled_charsmap\":\"DAAAAAAAAQBBDQAAAAAAgGJjAA==\"},{\"type\":\"StripAccents\"},{\"type\":\"Replace\","
    "\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\",\"split\":false},"
    "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
    "\"TemplateProcessing\","
    "\"single\":[{\"SpecialToken\":{\"id\":\"<x>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
    "\"special_tokens\":{\"<x>\":{\"id\":\"<x>\",\"ids\":[9]}}}]},"
    "\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"},"
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":[[\"<u>\",0],[\"a\",-1.5],[\"b\",-1."
    "25],"
    "[\"ab\",-2.7500000000000004],[\"_\",-3],[\"_a\",-4.125],[\"<0xC3>\",-9],[\"<0xA9>\",-9.5],[\"aa\",-3]]}}";

static void mutate_and_open(const char *seed_file, size_t seed_size)
{
    static const char *const texts[] = {"", "ab abab\xc3\xa9 12", "a<x> wo _\n\n\xf0\x9f\x98\x80 e\xcc\x81",
                                        "  <x>  <x>aaaa"};
    struct rmj_rng rng;
    rmj_rng_init(&rng, 20261124, 0);
    size_t opened = 0;
    for (size_t round = 0; round < 2000; round++) {
        char json[4096];
        memcpy(json, seed_file, seed_size);
        size_t size = round == 0 ? seed_size : mutate(&rng, json, seed_size, sizeof json);
        small_write("tokenizer.json", json, size);
        struct rmj_tokenizer *tokenizer = NULL;
        struct rmj_error err = {0};
        if (rmj_tokenizer_open(&tokenizer, small_directory(), &err) != RMJ_OK) {
            assert_true(err.message[0] != '\0');
            assert_null(tokenizer);
            continue;
        }
        opened++;
        for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
            struct rmj_tokens tokens = {0};
            if (rmj_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &tokens, &err) == RMJ_OK) {
                for (size_t k = 0; k < tokens.count; k++) {
                    assert_in_range(tokens.ids[k], 0, rmj_tokenizer_size(tokenizer) - 1);
                }
                free(rmj_tokenizer_decode(tokenizer, tokens.ids, tokens.count));
            }
            rmj_tokens_deinit(&tokens);
        }
        rmj_tokenizer_close(tokenizer);
    }
    print_message("seed 20261124: %zu of 2000 mutations opened\n", opened);
    assert_in_range(opened, 50, 1950);
}

static void two_thousand_mutations_crash_nothing(void **state)
{
    (void)state;
    mutate_and_open(SEED_FILE, sizeof SEED_FILE - 1);
    mutate_and_open(UNIGRAM_SEED_FILE, sizeof UNIGRAM_SEED_FILE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_file_is_refused_by_name), cmocka_unit_test(deep_and_long_files_are_refused),
        cmocka_unit_test(a_missing_tokenizer_is_named),         cmocka_unit_test(files_beside_are_checked_too),
        cmocka_unit_test(two_thousand_mutations_crash_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
