// Long words of a byte-level vocabulary are cut where no token reaches across (joins.c). The ids are those of merging
// the word whole, by the plainest reading of the rule, for vocabularies whose tokens hold parts of characters too.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "tests/trainer/tokenizer/small.h"
#include "trainer/tokenizer/internal.h"

#define MERGES 120
#define CHARACTERS 50

static const char *const ALPHABET[] = {"a",
                                       "b",
                                       "\xc3\xa9",
                                       "\xc3\xa8",
                                       "\xe4\xb8\xad",
                                       "\xe4\xb8\xae",
                                       "\xe6\x96\x87",
                                       "\xf0\x9f\x98\x80",
                                       "\xf0\x9f\x98\x81"};

struct bpe {
    char bytes[256 + MERGES][16];
    size_t sizes[256 + MERGES];
    int32_t merges[MERGES][2];
    size_t merge_count;
};

static size_t random_text(struct rmj_rng *rng, char *text)
{
    size_t size = 0;
    for (uint64_t left = 1 + rmj_rng_below(rng, CHARACTERS); left > 0; left--) {
        const char *character = ALPHABET[rmj_rng_below(rng, RMJ_COUNT(ALPHABET))];
        memcpy(text + size, character, strlen(character));
        size += strlen(character);
    }
    text[size] = '\0';
    return size;
}

// Of all pairs the one of lowest rank, the leftmost of equals, until none is left.
static size_t merge_plainly(const struct bpe *bpe, const char *text, size_t size, int32_t *ids)
{
    for (size_t i = 0; i < size; i++) {
        ids[i] = (uint8_t)text[i];
    }
    for (size_t rank = 0; rank < bpe->merge_count;) {
        size_t at = 0;
        while (at + 1 < size && (ids[at] != bpe->merges[rank][0] || ids[at + 1] != bpe->merges[rank][1])) {
            at++;
        }
        if (at + 1 >= size) {
            rank++;
            continue;
        }
        ids[at] = 256 + (int32_t)rank;
        memmove(&ids[at + 1], &ids[at + 2], (size - at - 2) * sizeof *ids);
        size--;
        rank = 0;
    }
    return size;
}

// Rules learnt from random places of random texts, so that parts of characters become tokens.
static void learn(struct bpe *bpe, struct rmj_rng *rng)
{
    for (size_t byte = 0; byte < 256; byte++) {
        bpe->bytes[byte][0] = (char)byte;
        bpe->sizes[byte] = 1;
    }
    while (bpe->merge_count < MERGES) {
        char text[4 * CHARACTERS + 1];
        int32_t ids[4 * CHARACTERS];
        size_t count = merge_plainly(bpe, text, random_text(rng, text), ids);
        size_t at = rmj_rng_below(rng, count);
        size_t made = 256 + bpe->merge_count;
        if (at + 1 >= count || bpe->sizes[ids[at]] + bpe->sizes[ids[at + 1]] > sizeof bpe->bytes[0]) {
            continue;
        }
        size_t left = bpe->sizes[ids[at]], right = bpe->sizes[ids[at + 1]];
        memcpy(bpe->bytes[made], bpe->bytes[ids[at]], left);
        memcpy(bpe->bytes[made] + left, bpe->bytes[ids[at + 1]], right);
        bpe->sizes[made] = left + right;
        size_t same = 0;
        while (same < made &&
               (bpe->sizes[same] != left + right || memcmp(bpe->bytes[same], bpe->bytes[made], left + right) != 0)) {
            same++;
        }
        if (same == made) {
            memcpy(bpe->merges[bpe->merge_count++], &ids[at], 2 * sizeof *ids);
        }
    }
}

static void put_token(struct rmj_buf *json, const struct bpe *bpe, size_t id)
{
    rmj_buf_putc(json, '"');
    for (size_t i = 0; i < bpe->sizes[id]; i++) {
        rmj_buf_printf(json, "\\u%04x", (unsigned)rmj_byte_rune((uint8_t)bpe->bytes[id][i]));
    }
    rmj_buf_putc(json, '"');
}

static struct rmj_tokenizer *open_bpe(const struct bpe *bpe)
{
    struct rmj_buf json;
    rmj_buf_init(&json, 1 << 20);
    rmj_buf_puts(&json, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
                        "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (size_t id = 0; id < 256 + MERGES; id++) {
        rmj_buf_puts(&json, id == 0 ? "" : ",");
        put_token(&json, bpe, id);
        rmj_buf_printf(&json, ":%zu", id);
    }
    rmj_buf_puts(&json, "},\"merges\":[");
    for (size_t rank = 0; rank < MERGES; rank++) {
        rmj_buf_puts(&json, rank == 0 ? "[" : ",[");
        put_token(&json, bpe, (size_t)bpe->merges[rank][0]);
        rmj_buf_putc(&json, ',');
        put_token(&json, bpe, (size_t)bpe->merges[rank][1]);
        rmj_buf_putc(&json, ']');
    }
    rmj_buf_puts(&json, "]}}");
    struct rmj_tokenizer *tokenizer = small_open(rmj_buf_text(&json));
    rmj_buf_deinit(&json);
    return tokenizer;
}

static void long_words_are_cut_without_a_trace(void **state)
{
    (void)state;
    size_t cut_count = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rmj_rng rng;
        struct bpe bpe = {0};
        rmj_rng_init(&rng, seed, 0);
        learn(&bpe, &rng);
        struct rmj_tokenizer *tokenizer = open_bpe(&bpe);
        for (int i = 0; i < 300; i++) {
            char text[4 * CHARACTERS + 1];
            int32_t ids[4 * CHARACTERS];
            struct rmj_tokens tokens = {0};
            struct rmj_error err = {0};
            size_t size = random_text(&rng, text);
            size_t count = merge_plainly(&bpe, text, size, ids);
            assert_int_equal(rmj_tokenizer_encode(tokenizer, text, size, &tokens, &err), RMJ_OK);
            if (tokens.count != count || memcmp(tokens.ids, ids, count * sizeof *ids) != 0) {
                fail_msg("seed %d: other ids than by plain merging for %s", (int)seed, text);
            }
            rmj_tokens_deinit(&tokens);
            for (size_t at = rmj_utf8_size((unsigned char)text[0]), left = at; at < size; at += left) {
                size_t right = rmj_utf8_size((unsigned char)text[at]);
                cut_count += !rmj_joins_has_bytes(&tokenizer->vocab, text + at, left, right);
                left = right;
            }
        }
        rmj_tokenizer_close(tokenizer);
    }
    assert_true(cut_count > 1000); // else nothing was tried
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(long_words_are_cut_without_a_trace)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
