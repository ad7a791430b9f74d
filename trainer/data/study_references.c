// Prompts that training must not contain: their 13-word grams and the prompts as a whole, in one open-addressing table.
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "trainer/data/rows.h"
#include "trainer/data/study_internal.h"

#define SIZE_LEAST ((size_t)1 << 10)
#define CANDIDATES_MAX 8u
// Entries of whole prompts; they are never sampled away.
#define COUNT_WHOLE 255u

void rmj_references_deinit(struct rmj_references *references)
{
    for (uint32_t i = 0; i < references->count; i++) {
        free(references->ids[i]);
    }
    free(references->ids);
    free(references->kinds);
    free(references->entries);
    *references = (struct rmj_references){0};
}

// Key of a gram in one kind of reference; 56 bits. The low bits decide over sampling, the others over the place.
static uint64_t key_of(uint64_t hash, unsigned kind, int whole)
{
    return rmj_study_mix(hash + kind * 2 + (uint64_t)whole) >> 8;
}

static size_t place_of(const struct rmj_reference_entry *entries, size_t size, uint64_t key)
{
    size_t at = (size_t)(key >> 20) & (size - 1);
    while (entries[at].count != 0 && entries[at].key != key) {
        at = (at + 1) & (size - 1);
    }
    return at;
}

static int is_sampled(const struct rmj_references *references, uint64_t key)
{
    return (key & (((uint64_t)1 << references->sample_shift) - 1)) == 0;
}

static enum rmj_status rehash(struct rmj_references *references, size_t size, struct rmj_error *err)
{
    struct rmj_reference_entry *entries = calloc(size, sizeof *entries);
    if (entries == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for %zu grams of held-out and benchmark rows", size);
    }
    size_t used = 0;
    for (size_t i = 0; i < references->size; i++) {
        const struct rmj_reference_entry *entry = &references->entries[i];
        if (entry->count == COUNT_WHOLE || (entry->count != 0 && is_sampled(references, entry->key))) {
            entries[place_of(entries, size, entry->key)] = *entry;
            used++;
        }
    }
    free(references->entries);
    references->entries = entries;
    references->size = size;
    references->used = used;
    return RMJ_OK;
}

// Room for one more. Over the bound, half of the grams go: those of one more bit.
static enum rmj_status make_room(struct rmj_references *references, struct rmj_error *err)
{
    if (references->size == 0) {
        return rehash(references, SIZE_LEAST, err);
    }
    while (references->used * 4 >= references->size * 3) {
        // While both tables stand, at most bytes_max is used.
        int fits = references->size * 3 * sizeof *references->entries <= references->bytes_max;
        if (!fits && references->sample_shift < 20) {
            references->sample_shift++;
            RMJ_TRY(rehash(references, references->size, err));
        } else {
            RMJ_TRY(rehash(references, 2 * references->size, err));
        }
    }
    return RMJ_OK;
}

static enum rmj_status add_key(struct rmj_references *references, uint64_t key, int whole, struct rmj_error *err)
{
    if (!whole && !is_sampled(references, key)) {
        return RMJ_OK;
    }
    RMJ_TRY(make_room(references, err));
    struct rmj_reference_entry *entry = &references->entries[place_of(references->entries, references->size, key)];
    if (entry->count == 0) {
        *entry = (struct rmj_reference_entry){.key = key, .count = whole ? COUNT_WHOLE : 1, .first = references->count};
        references->used++;
    } else if (entry->last != references->count && entry->count <= RMJ_BOILERPLATE_PROMPTS) {
        entry->count++;
    }
    entry->last = references->count;
    return RMJ_OK;
}

static enum rmj_status add_name(struct rmj_references *references, unsigned kind, const char *id, struct rmj_error *err)
{
    if (references->count == references->room) {
        uint32_t room = references->room == 0 ? 256 : 2 * references->room;
        char **ids = realloc(references->ids, room * sizeof *ids);
        references->ids = ids == NULL ? references->ids : ids;
        uint8_t *kinds = ids == NULL ? NULL : realloc(references->kinds, room);
        if (kinds == NULL) {
            return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the names of %u held-out and benchmark rows", room);
        }
        references->kinds = kinds;
        references->room = room;
    }
    char *copy = strdup(id);
    if (copy == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the names of held-out and benchmark rows");
    }
    references->kinds[references->count] = (uint8_t)kind;
    references->ids[references->count++] = copy;
    return RMJ_OK;
}

// The 13-word grams of a text, one after the other.
struct grams {
    const struct rmj_folded *text;
    uint64_t ring[RMJ_OVERLAP_WORDS];
    uint64_t words;
    size_t at;
};
static int next_gram(struct grams *grams, uint64_t *hash)
{
    size_t start, length;
    while (rmj_next_word(grams->text, &grams->at, &start, &length)) {
        uint32_t newest = (uint32_t)(grams->words % RMJ_OVERLAP_WORDS);
        grams->ring[newest] = XXH3_64bits(grams->text->bytes + start, length);
        grams->words++;
        if (grams->words >= RMJ_OVERLAP_WORDS) {
            *hash = rmj_gram_of(grams->ring, RMJ_OVERLAP_WORDS, newest, RMJ_OVERLAP_WORDS);
            return 1;
        }
    }
    return 0;
}

enum rmj_status rmj_references_add(struct rmj_references *references, enum rmj_reference_kind kind, const char *id,
                                   const char *prompt, size_t prompt_size, struct rmj_error *err)
{
    uint8_t bytes[RMJ_PROMPT_KEY_SIZE];
    uint64_t whole, hash;
    RMJ_TRY(add_name(references, kind, id, err));
    if (!rmj_prompt_key(prompt, prompt_size, bytes)) {
        return RMJ_OK;
    }
    memcpy(&whole, bytes, sizeof whole);
    whole = key_of(whole, kind, 1);
    if (references->size > 0 &&
        references->entries[place_of(references->entries, references->size, whole)].count != 0) {
        return RMJ_OK; // several rows of one prompt are one prompt, known by its first row
    }
    RMJ_TRY(add_key(references, whole, 1, err));
    struct rmj_folded folded;
    rmj_fold(&folded, prompt, prompt_size);
    struct grams grams = {.text = &folded};
    enum rmj_status status = RMJ_OK;
    while (status == RMJ_OK && next_gram(&grams, &hash)) {
        status = add_key(references, key_of(hash, kind, 0), 0, err);
    }
    rmj_folded_deinit(&folded);
    return status;
}

// References that share grams with a prompt: the first few.
struct candidates {
    uint32_t references[CANDIDATES_MAX], grams[CANDIDATES_MAX];
    uint32_t count;
};

static void look_for_gram(const struct rmj_references *references, uint64_t key, struct candidates *candidates)
{
    const struct rmj_reference_entry *entry =
        &references->entries[place_of(references->entries, references->size, key)];
    if (entry->count == 0 || entry->count > RMJ_BOILERPLATE_PROMPTS) {
        return;
    }
    uint32_t i = 0;
    while (i < candidates->count && candidates->references[i] != entry->first) {
        i++;
    }
    if (i == CANDIDATES_MAX) {
        return;
    }
    if (i == candidates->count) {
        candidates->references[i] = entry->first;
        candidates->count++;
    }
    candidates->grams[i]++;
}

static void finish_overlap(const struct rmj_references *references, uint64_t prompt_key, unsigned kind,
                           const struct candidates *candidates, struct rmj_sketch_overlap *overlap)
{
    for (uint32_t i = 0; i < candidates->count; i++) {
        if (candidates->grams[i] > overlap->grams) {
            overlap->reference = candidates->references[i];
            overlap->grams = candidates->grams[i];
        }
    }
    uint64_t whole = key_of(prompt_key, kind, 1);
    const struct rmj_reference_entry *entry =
        &references->entries[place_of(references->entries, references->size, whole)];
    if (prompt_key != 0 && entry->count == COUNT_WHOLE) {
        overlap->reference = entry->first;
        overlap->equal = 1;
    }
}

void rmj_references_look(const struct rmj_references *references, const struct rmj_folded *prompt,
                         struct rmj_sketch *sketch)
{
    if (references->size == 0) {
        return;
    }
    struct candidates candidates[RMJ_REFERENCE_KINDS] = {0};
    struct grams grams = {.text = prompt};
    uint64_t hash;
    while (next_gram(&grams, &hash)) {
        sketch->gram_count++;
        for (unsigned kind = 0; kind < RMJ_REFERENCE_KINDS; kind++) {
            uint64_t key = key_of(hash, kind, 0);
            if (is_sampled(references, key)) {
                look_for_gram(references, key, &candidates[kind]);
            }
        }
    }
    for (unsigned kind = 0; kind < RMJ_REFERENCE_KINDS; kind++) {
        finish_overlap(references, sketch->prompt_key, kind, &candidates[kind], &sketch->overlaps[kind]);
    }
}
