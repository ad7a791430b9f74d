// Texts as they are compared: folding, words, and the sketch of a pair.
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/data/rows.h"
#include "trainer/data/study_internal.h"

// Folding by hand where utf8proc would do the same for thirty times the price.
static int fold_ascii(struct rmj_folded *folded, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] >= 0x80) {
            return 0;
        }
    }
    folded->bytes = malloc(size + 1);
    RMJ_ASSERT(folded->bytes != NULL);
    for (size_t i = 0; i < size; i++) {
        folded->bytes[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i]);
    }
    folded->size = size;
    return 1;
}

static void squeeze_white_space(struct rmj_folded *folded)
{
    size_t count = 0;
    int space = 0;
    for (size_t i = 0; i < folded->size; i++) {
        char c = folded->bytes[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            space = count > 0;
            continue;
        }
        if (space) {
            folded->bytes[count++] = ' ';
            space = 0;
        }
        folded->bytes[count++] = c;
    }
    folded->size = count;
}

void rmj_fold(struct rmj_folded *folded, const char *text, size_t size)
{
    if (!fold_ascii(folded, text, size)) {
        utf8proc_uint8_t *bytes = NULL;
        utf8proc_ssize_t length =
            utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &bytes,
                         UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
        if (length < 0) {
            // Not UTF-8: rows are checked for it, so this is no text of a row. Compared as it is.
            bytes = malloc(size + 1);
            RMJ_ASSERT(bytes != NULL);
            memcpy(bytes, text, size);
            length = (utf8proc_ssize_t)size;
        }
        folded->bytes = (char *)bytes;
        folded->size = (size_t)length;
    }
    squeeze_white_space(folded);
}

void rmj_folded_deinit(struct rmj_folded *folded)
{
    free(folded->bytes);
    *folded = (struct rmj_folded){0};
}

// Scripts that put no space between words: each character is a word.
static int is_unspaced(int32_t c)
{
    static const struct {
        int32_t first, last;
    } ranges[] = {
        {0x0e00, 0x0eff}, {0x1000, 0x109f}, {0x1780, 0x17ff}, {0x3040, 0x30ff},
        {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfaff}, {0x20000, 0x3ffff},
    };
    for (size_t i = 0; c >= ranges[0].first && i < RMJ_COUNT(ranges); i++) {
        if (c >= ranges[i].first && c <= ranges[i].last) {
            return 1;
        }
    }
    return 0;
}

static int is_word_character(int32_t c)
{
    if (c < 0x80) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
    }
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO);
}

// The character at `at`; bytes that are no UTF-8 are characters of their own.
static size_t character_at(const struct rmj_folded *text, size_t at, int32_t *c)
{
    unsigned char byte = (unsigned char)text->bytes[at];
    if (byte < 0x80) {
        *c = byte;
        return 1;
    }
    utf8proc_ssize_t length =
        utf8proc_iterate((const utf8proc_uint8_t *)text->bytes + at, (utf8proc_ssize_t)(text->size - at), c);
    if (length <= 0) {
        *c = ' ';
        return 1;
    }
    return (size_t)length;
}

int rmj_next_word(const struct rmj_folded *text, size_t *at, size_t *start, size_t *length)
{
    int32_t c;
    while (*at < text->size) {
        size_t step = character_at(text, *at, &c);
        *start = *at;
        *at += step;
        if (!is_word_character(c)) {
            continue;
        }
        *length = step;
        if (is_unspaced(c)) {
            return 1;
        }
        while (*at < text->size) {
            step = character_at(text, *at, &c);
            if (!is_word_character(c) || is_unspaced(c)) {
                break;
            }
            *at += step;
            *length += step;
        }
        return 1;
    }
    return 0;
}

static void take_gram(uint32_t *least, uint64_t gram)
{
    for (uint32_t k = 0; k < RMJ_SKETCH_HASHES; k++) {
        // Multiply-shift (Dietzfelbinger et al. 1997), one odd multiplier a hash.
        uint32_t hash = (uint32_t)((gram * (rmj_study_mix(k + 1) | 1)) >> 32);
        least[k] = hash < least[k] ? hash : least[k];
    }
}

// Minimum hashes of a text's grams; part tells apart the same words of prompt, chosen and rejected. A text of fewer
// words than a gram is one gram, one without words is a gram by its key.
static void take_text(uint32_t *least, const struct rmj_folded *text, uint64_t part)
{
    uint64_t ring[RMJ_SHINGLE_WORDS] = {0}, words = 0;
    size_t at = 0, start, length;
    while (rmj_next_word(text, &at, &start, &length)) {
        ring[words % RMJ_SHINGLE_WORDS] = XXH3_64bits(text->bytes + start, length);
        words++;
        if (words >= RMJ_SHINGLE_WORDS) {
            uint32_t newest = (uint32_t)((words - 1) % RMJ_SHINGLE_WORDS);
            take_gram(least, rmj_study_mix(part ^ rmj_gram_of(ring, RMJ_SHINGLE_WORDS, newest, RMJ_SHINGLE_WORDS)));
        }
    }
    if (words < RMJ_SHINGLE_WORDS) {
        uint64_t gram = words > 0 ? rmj_gram_of(ring, RMJ_SHINGLE_WORDS, (uint32_t)words - 1, (uint32_t)words)
                                  : XXH3_64bits(text->bytes, text->size);
        take_gram(least, rmj_study_mix(part ^ gram));
    }
}

static void finish_marks(struct rmj_sketch *sketch, const uint32_t *prompt, const uint32_t *answers)
{
    enum { ROWS = RMJ_SKETCH_HASHES / RMJ_SKETCH_BANDS };
    for (uint32_t band = 0; band < RMJ_SKETCH_BANDS; band++) {
        uint32_t rows[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            uint32_t k = band * ROWS + i;
            // The minimum over a union is the minimum of the minima.
            rows[i] = prompt[k] < answers[k] ? prompt[k] : answers[k];
            sketch->prompt_marks[k] = (uint8_t)prompt[k];
            sketch->answer_marks[k] = (uint8_t)answers[k];
        }
        sketch->bands[band] = (uint32_t)XXH3_64bits(rows, sizeof rows);
    }
}

static uint32_t characters_of(const char *text, size_t size)
{
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++) {
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return count;
}

// Of the chosen answer, or of the prompt where the answer does not tell.
static uint32_t language_of(const struct rmj_folded *prompt, const struct rmj_folded *chosen)
{
    uint32_t of_chosen = rmj_language_of(chosen);
    uint32_t of_prompt = rmj_language_is_known(of_chosen) ? of_chosen : rmj_language_of(prompt);
    return rmj_language_is_known(of_prompt) || of_chosen == RMJ_LANGUAGE_NONE ? of_prompt : of_chosen;
}

void rmj_sketch_make(struct rmj_sketch *sketch, const struct rmj_sketch_texts *texts)
{
    struct rmj_folded prompt, chosen, rejected;
    uint32_t of_prompt[RMJ_SKETCH_HASHES], of_answers[RMJ_SKETCH_HASHES];
    uint8_t key[RMJ_PROMPT_KEY_SIZE];
    *sketch = (struct rmj_sketch){0};
    rmj_fold(&prompt, texts->prompt, texts->prompt_size);
    rmj_fold(&chosen, texts->chosen, texts->chosen_size);
    rmj_fold(&rejected, texts->rejected, texts->rejected_size);
    if (rmj_prompt_key(texts->prompt, texts->prompt_size, key)) {
        memcpy(&sketch->prompt_key, key, sizeof sketch->prompt_key);
    }
    sketch->chosen_key = XXH3_64bits(chosen.bytes, chosen.size);
    sketch->rejected_key = XXH3_64bits(rejected.bytes, rejected.size);
    sketch->chosen_characters = characters_of(texts->chosen, texts->chosen_size);
    sketch->rejected_characters = characters_of(texts->rejected, texts->rejected_size);
    sketch->language = language_of(&prompt, &chosen);
    memset(of_prompt, 0xff, sizeof of_prompt);
    memset(of_answers, 0xff, sizeof of_answers);
    take_text(of_prompt, &prompt, 1);
    take_text(of_answers, &chosen, 2);
    take_text(of_answers, &rejected, 3);
    finish_marks(sketch, of_prompt, of_answers);
    if (texts->study != NULL) {
        rmj_references_look(&texts->study->references, &prompt, sketch);
    }
    rmj_folded_deinit(&prompt);
    rmj_folded_deinit(&chosen);
    rmj_folded_deinit(&rejected);
}
