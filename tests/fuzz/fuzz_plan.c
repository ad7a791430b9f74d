// A plan object of any bytes: refused as damaged, or packs that hold every pair once. A first byte that is odd says
// that the sections follow raw, as long as the header says; they are packed here, so that the fuzzer needs not write
// zstd.
#include <zstd.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/data/plan_format.h"

#define OBJECT_SIZE_MAX ((size_t)1 << 20)
#define PAIRS_MAX 4096u

static size_t pack_sections(const uint8_t *bytes, size_t size, uint8_t *object)
{
    struct rmj_plan_header header;
    if (size < sizeof header) {
        return 0;
    }
    memcpy(&header, bytes, sizeof header);
    size_t from = sizeof header, to = sizeof header;
    for (int i = 0; i < RMJ_PLAN_SECTION_COUNT; i++) {
        struct rmj_plan_section *section = &header.sections[i];
        size_t raw = section->size < size - from ? (size_t)section->size : size - from;
        size_t stored = ZSTD_compress(object + to, OBJECT_SIZE_MAX - to, bytes + from, raw, 1);
        RMJ_ASSERT(!ZSTD_isError(stored));
        section->offset = to;
        section->stored_size = stored;
        section->size = raw;
        from += raw;
        to += stored;
    }
    memcpy(object, &header, sizeof header);
    return to;
}

static void check_pack(const struct rmj_plan *plan, const struct rmj_pack *pack, uint8_t *seen)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    RMJ_ASSERT(pack->row_count == info->row_count && pack->item_count <= info->item_count_max);
    for (uint32_t i = 0; i < pack->item_count; i++) {
        uint64_t id = pack->items[i].id, row;
        const char *path;
        struct rmj_digest digest;
        RMJ_ASSERT(id < info->pair_count);
        if (info->pair_count <= PAIRS_MAX) {
            RMJ_ASSERT(!seen[id]);
            seen[id] = 1;
        }
        rmj_plan_pair_source(plan, id, &path, &row);
        RMJ_ASSERT(strlen(path) < OBJECT_SIZE_MAX);
        rmj_plan_pair_digest(plan, id, &digest);
    }
}

static void check_plan(const struct rmj_plan *plan)
{
    static uint8_t seen[PAIRS_MAX];
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    memset(seen, 0, sizeof seen);
    for (uint32_t step = 1; step <= info->step_count; step++) {
        struct rmj_plan_step record = {0};
        rmj_plan_step(plan, step, &record);
        RMJ_ASSERT(record.pack_count <= info->pack_count_max);
        RMJ_ASSERT(record.embedding_row_count <= info->embedding_row_count_max);
        for (uint32_t i = 0; i < record.pack_count; i++) {
            struct rmj_pack pack;
            rmj_plan_pack(plan, step, i, &pack);
            RMJ_ASSERT(rmj_plan_pack_cost(plan, step, i) > 0);
            check_pack(plan, &pack, seen);
        }
    }
    for (uint64_t i = 0; i < info->pair_count && info->pair_count <= PAIRS_MAX; i++) {
        RMJ_ASSERT(seen[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t object[OBJECT_SIZE_MAX];
    if (size == 0 || size > OBJECT_SIZE_MAX / 2) {
        return 0;
    }
    size_t object_size = size - 1;
    if (bytes[0] & 1) {
        object_size = pack_sections(bytes + 1, size - 1, object);
    } else {
        memcpy(object, bytes + 1, object_size);
    }
    // On the heap, exactly as long as it is, so that a read past the end is seen.
    uint8_t *exact = malloc(object_size + 1);
    struct rmj_plan *plan = NULL;
    struct rmj_error err = {0};
    RMJ_ASSERT(exact != NULL);
    memcpy(exact, object, object_size);
    enum rmj_status status = rmj_plan_parse(&plan, exact, object_size, &err);
    RMJ_ASSERT((status == RMJ_OK) == (plan != NULL));
    RMJ_ASSERT(status == RMJ_OK || (err.message[0] != '\0' && (status == RMJ_CORRUPT || status == RMJ_NO_MEMORY)));
    if (status == RMJ_OK) {
        check_plan(plan);
        rmj_plan_close(plan);
    }
    free(exact);
    return 0;
}
