#include "trainer/data/seen.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_FIRST 1024u
// Grows when over four fifths are taken.
#define FULL(count, size) ((uint64_t)(count)*5 > (size)*4)

void rmj_seen_init(struct rmj_seen *seen)
{
    seen->size = SIZE_FIRST;
    seen->places = calloc(seen->size, sizeof *seen->places);
    RMJ_ASSERT(seen->places != NULL);
}

void rmj_seen_deinit(struct rmj_seen *seen)
{
    free(seen->places);
    *seen = (struct rmj_seen){0};
}

// A key is a piece of SHA-256, so any eight bytes of it are a hash.
static uint64_t hash_of(const uint8_t key[RMJ_DIGEST_SIZE])
{
    uint64_t hash, other;
    memcpy(&hash, key, sizeof hash);
    memcpy(&other, key + RMJ_DIGEST_SIZE / 2, sizeof other);
    return hash ^ (other * 0x9e3779b97f4a7c15u);
}

static uint64_t entry_of(uint64_t hash, uint32_t pair)
{
    return (hash & 0xffffffff00000000u) | (pair + 1u);
}

static void place(struct rmj_seen *seen, uint64_t hash, uint32_t pair)
{
    uint64_t at = hash & (seen->size - 1);
    while (seen->places[at] != 0) {
        at = (at + 1) & (seen->size - 1);
    }
    seen->places[at] = entry_of(hash, pair);
}

enum rmj_status rmj_seen_find(const struct rmj_seen *seen, struct rmj_spool *spool, const uint8_t key[RMJ_DIGEST_SIZE],
                              uint32_t *found, struct rmj_error *err)
{
    uint64_t hash = hash_of(key);
    *found = 0;
    for (uint64_t at = hash & (seen->size - 1); seen->places[at] != 0; at = (at + 1) & (seen->size - 1)) {
        uint32_t pair = (uint32_t)seen->places[at] - 1u;
        if (seen->places[at] != entry_of(hash, pair)) {
            continue;
        }
        struct rmj_spool_record record;
        RMJ_TRY(rmj_spool_records(spool, pair, 1, &record, err));
        if (memcmp(record.key, key, sizeof record.key) == 0) {
            *found = pair + 1;
            return RMJ_OK;
        }
    }
    return RMJ_OK;
}

static enum rmj_status place_record(void *context, uint32_t index, const struct rmj_spool_record *record,
                                    struct rmj_error *err)
{
    (void)err;
    place(context, hash_of(record->key), index);
    return RMJ_OK;
}

enum rmj_status rmj_seen_fill(struct rmj_seen *seen, struct rmj_spool *spool, struct rmj_error *err)
{
    uint64_t size = SIZE_FIRST;
    while (FULL(rmj_spool_pair_count(spool), size)) {
        size *= 2;
    }
    free(seen->places);
    seen->size = size;
    seen->places = calloc(size, sizeof *seen->places);
    if (seen->places == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory to remember %u pairs", rmj_spool_pair_count(spool));
    }
    return rmj_spool_each(spool, place_record, seen, err);
}

enum rmj_status rmj_seen_add(struct rmj_seen *seen, struct rmj_spool *spool, const uint8_t key[RMJ_DIGEST_SIZE],
                             struct rmj_error *err)
{
    uint32_t count = rmj_spool_pair_count(spool);
    if (FULL(count, seen->size)) {
        return rmj_seen_fill(seen, spool, err);
    }
    place(seen, hash_of(key), count - 1);
    return RMJ_OK;
}
