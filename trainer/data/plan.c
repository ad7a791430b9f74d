// Reading a plan object: every number is checked before it is used, then all packs are laid out in one arena.
#include "trainer/data/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "trainer/data/packer.h"
#include "trainer/data/plan_format.h"

struct step_index {
    uint64_t first_pack;
    uint64_t token_count;
    const uint32_t *embedding_rows;
    uint32_t embedding_row_count;
};

struct rmj_plan {
    struct rmj_arena arena;
    struct rmj_plan_header header;
    struct rmj_plan_info info;
    void *sections[RMJ_PLAN_SECTION_COUNT]; // raw
    const char **paths;
    uint64_t *first_tokens; // of each pair, and the total
    struct step_index *steps;
    struct rmj_pack *packs;
};

static const struct rmj_plan_pair *pairs_of(const struct rmj_plan *plan)
{
    return plan->sections[RMJ_PLAN_PAIRS];
}

static const struct rmj_plan_step_record *records_of(const struct rmj_plan *plan)
{
    return plan->sections[RMJ_PLAN_STEPS];
}

static enum rmj_status corrupt(struct rmj_error *err, const char *what)
{
    return rmj_fail(err, RMJ_CORRUPT, "the plan is damaged: %s", what);
}

static int header_holds(const struct rmj_plan_header *header)
{
    uint32_t bound = header->packs_per_step_bound;
    return header->pair_count > 0 && header->pair_count <= UINT32_MAX && header->step_count > 0 &&
           header->step_count <= header->pair_count && header->pack_count >= header->step_count &&
           header->pack_count <= header->pair_count && header->row_count > 0 &&
           header->row_count <= RMJ_PLAN_ROW_COUNT_MAX && header->row_count % RMJ_PACK_ROW_MULTIPLE == 0 && bound > 0 &&
           (bound & (bound - 1)) == 0 && bound <= RMJ_PLAN_PACKS_PER_STEP_MAX && header->pack_count_max <= bound &&
           (bound == 1 || header->pack_count_max > bound / 2) && header->vocabulary_size > 0 &&
           header->vocabulary_size <= RMJ_PLAN_VOCABULARY_SIZE_MAX && header->file_count > 0 &&
           header->attention_divisor > 0 && header->vocabulary_grows <= 1 &&
           (header->vocabulary_grows ? header->pad_token == (int32_t)header->vocabulary_size
                                     : header->pad_token >= 0 && header->pad_token < (int32_t)header->vocabulary_size);
}

static enum rmj_status check_sections(const struct rmj_plan_header *header, const uint8_t *bytes, size_t size,
                                      struct rmj_error *err)
{
    const struct rmj_plan_section *sections = header->sections;
    uint64_t offset = sizeof *header;
    for (int i = 0; i < RMJ_PLAN_SECTION_COUNT; i++) {
        if (sections[i].offset != offset || sections[i].stored_size > size - offset ||
            sections[i].size > RMJ_PLAN_SECTION_SIZE_MAX ||
            ZSTD_getFrameContentSize(bytes + offset, sections[i].stored_size) != sections[i].size) {
            return corrupt(err, "a section is not where the header says, or not as long");
        }
        offset += sections[i].stored_size;
    }
    uint64_t tokens = sections[RMJ_PLAN_TOKENS].size / sizeof(int32_t);
    if (offset != size || sections[RMJ_PLAN_PAIRS].size != header->pair_count * sizeof(struct rmj_plan_pair) ||
        sections[RMJ_PLAN_STEPS].size != header->step_count * sizeof(struct rmj_plan_step_record) ||
        sections[RMJ_PLAN_PACKS].size != header->pack_count * sizeof(uint32_t) ||
        sections[RMJ_PLAN_ITEMS].size != header->pair_count * sizeof(uint32_t) ||
        sections[RMJ_PLAN_TOKENS].size % sizeof(int32_t) != 0 || sections[RMJ_PLAN_PATHS].size < header->file_count) {
        return corrupt(err, "a section has not the size that the counts ask for");
    }
    // Two packs of a step together hold more than one pack's rows, else first fit would have made them one.
    if (header->row_count * header->pack_count > 2 * tokens + (uint64_t)header->row_count * header->step_count) {
        return corrupt(err, "more packs than its tokens can need");
    }
    return RMJ_OK;
}

static size_t arena_size(const struct rmj_plan_header *header)
{
    size_t size = 0;
    for (int i = 0; i < RMJ_PLAN_SECTION_COUNT; i++) {
        size += rmj_arena_need(header->sections[i].size);
    }
    size_t pairs = header->pair_count, packs = header->pack_count;
    size += rmj_arena_need(header->file_count * sizeof(char *));
    size += rmj_arena_need((pairs + 1) * sizeof(uint64_t));
    size += rmj_arena_need(header->step_count * sizeof(struct step_index));
    size += rmj_arena_need(packs * sizeof(struct rmj_pack));
    size += 2 * rmj_arena_need(packs * header->row_count * sizeof(int32_t));
    size += rmj_arena_need(pairs * sizeof(struct rmj_pack_item));
    size += 2 * rmj_arena_need(2 * pairs * sizeof(uint32_t));
    // Distinct tokens of all steps are at most all tokens; pages that are never touched cost nothing.
    size += rmj_arena_need(header->sections[RMJ_PLAN_TOKENS].size);
    return size;
}

static enum rmj_status unpack_sections(struct rmj_plan *plan, const uint8_t *bytes, struct rmj_error *err)
{
    for (int i = 0; i < RMJ_PLAN_SECTION_COUNT; i++) {
        const struct rmj_plan_section *section = &plan->header.sections[i];
        plan->sections[i] = rmj_arena_take(&plan->arena, section->size);
        size_t got = ZSTD_decompress(plan->sections[i], section->size, bytes + section->offset, section->stored_size);
        if (ZSTD_isError(got) || got != section->size) {
            return corrupt(err, "a section does not decompress");
        }
    }
    const char *text = plan->sections[RMJ_PLAN_PATHS];
    size_t left = plan->header.sections[RMJ_PLAN_PATHS].size;
    plan->paths = rmj_arena_take(&plan->arena, plan->header.file_count * sizeof *plan->paths);
    for (uint32_t i = 0; i < plan->header.file_count; i++) {
        size_t length = strnlen(text, left);
        if (length == left) {
            return corrupt(err, "a path does not end");
        }
        plan->paths[i] = text;
        text += length + 1;
        left -= length + 1;
    }
    return left == 0 ? RMJ_OK : corrupt(err, "more paths than files");
}

static enum rmj_status check_pairs(struct rmj_plan *plan, struct rmj_error *err)
{
    const struct rmj_plan_header *header = &plan->header;
    uint64_t total = header->sections[RMJ_PLAN_TOKENS].size / sizeof(int32_t);
    plan->first_tokens = rmj_arena_take(&plan->arena, (header->pair_count + 1) * sizeof *plan->first_tokens);
    uint64_t at = 0;
    for (uint64_t i = 0; i < header->pair_count; i++) {
        const struct rmj_plan_pair *pair = &pairs_of(plan)[i];
        uint64_t rows = (uint64_t)pair->prefix_count + pair->chosen_count + pair->rejected_count;
        if (pair->chosen_count == 0 || pair->rejected_count == 0 || rows > header->row_count || rows > total - at ||
            pair->file >= header->file_count || pair->row == 0 || pair->zero != 0 || !isfinite(pair->margin)) {
            return corrupt(err, "a pair's record is out of range");
        }
        plan->first_tokens[i] = at;
        at += rows;
    }
    plan->first_tokens[header->pair_count] = at;
    if (at != total) {
        return corrupt(err, "tokens that belong to no pair");
    }
    const int32_t *tokens = plan->sections[RMJ_PLAN_TOKENS];
    for (uint64_t i = 0; i < total; i++) {
        if (tokens[i] < 0 || tokens[i] >= (int32_t)header->vocabulary_size) {
            return corrupt(err, "a token outside the vocabulary");
        }
    }
    return RMJ_OK;
}

// Steps are consecutive, and each step's packs hold each of its pairs once and fit.
static enum rmj_status check_packs(struct rmj_plan *plan, uint8_t *seen, struct rmj_error *err)
{
    const struct rmj_plan_header *header = &plan->header;
    const uint32_t *packs = plan->sections[RMJ_PLAN_PACKS], *items = plan->sections[RMJ_PLAN_ITEMS];
    uint64_t pair = 0, pack = 0;
    uint32_t pack_count_max = 0, item_count_max = 0;
    for (uint32_t step = 0; step < header->step_count; step++) {
        const struct rmj_plan_step_record *record = &records_of(plan)[step];
        if (record->first_pair != pair || record->pair_count == 0 || record->pair_count > header->pair_count - pair ||
            record->pack_count == 0 || record->pack_count > header->pack_count - pack) {
            return corrupt(err, "a step's record is out of range");
        }
        uint64_t item = pair, end = pair + record->pair_count;
        for (uint32_t i = 0; i < record->pack_count; i++) {
            uint32_t count = packs[pack + i];
            uint64_t rows = 0;
            if (count == 0 || count > end - item) {
                return corrupt(err, "a pack without pairs, or with those of another step");
            }
            for (uint32_t j = 0; j < count; j++, item++) {
                if (items[item] < pair || items[item] >= end || seen[items[item]]++ != 0) {
                    return corrupt(err, "a pair in two packs or in another step");
                }
                rows += plan->first_tokens[items[item] + 1] - plan->first_tokens[items[item]];
            }
            if (rows > header->row_count) {
                return corrupt(err, "a pack over its rows");
            }
            item_count_max = count > item_count_max ? count : item_count_max;
        }
        if (item != end) {
            return corrupt(err, "a pair in no pack");
        }
        pack_count_max = record->pack_count > pack_count_max ? record->pack_count : pack_count_max;
        pair = end;
        pack += record->pack_count;
    }
    if (pair != header->pair_count || pack != header->pack_count || pack_count_max != header->pack_count_max ||
        item_count_max != header->item_count_max || header->branch_count_max != 2 * item_count_max) {
        return corrupt(err, "counts in the header that the steps do not have");
    }
    return RMJ_OK;
}

// Distinct tokens of every step, ascending. A row that occurs only as padding has no gradient and is not listed.
static enum rmj_status index_steps(struct rmj_plan *plan, uint8_t *occurs, struct rmj_error *err)
{
    const struct rmj_plan_header *header = &plan->header;
    const int32_t *tokens = plan->sections[RMJ_PLAN_TOKENS];
    plan->steps = rmj_arena_take(&plan->arena, header->step_count * sizeof *plan->steps);
    uint32_t *rows = rmj_arena_take(&plan->arena, header->sections[RMJ_PLAN_TOKENS].size);
    uint32_t row_count_max = 0;
    uint64_t pack = 0;
    for (uint32_t step = 0; step < header->step_count; step++) {
        const struct rmj_plan_step_record *record = &records_of(plan)[step];
        uint64_t first = plan->first_tokens[record->first_pair];
        uint64_t end = plan->first_tokens[record->first_pair + record->pair_count];
        for (uint64_t i = first; i < end; i++) {
            occurs[tokens[i]] = 1;
        }
        uint32_t count = 0;
        for (uint32_t token = 0; token < header->vocabulary_size; token++) {
            if (occurs[token]) {
                rows[count++] = token;
                occurs[token] = 0;
            }
        }
        plan->steps[step] = (struct step_index){
            .first_pack = pack, .token_count = end - first, .embedding_rows = rows, .embedding_row_count = count};
        rows += count;
        row_count_max = count > row_count_max ? count : row_count_max;
        pack += record->pack_count;
    }
    if (row_count_max != header->embedding_row_count_max) {
        return corrupt(err, "the header's count of embedding rows");
    }
    return RMJ_OK;
}

static void lay_out_packs(struct rmj_plan *plan)
{
    const struct rmj_plan_header *header = &plan->header;
    const uint32_t *packs = plan->sections[RMJ_PLAN_PACKS], *items = plan->sections[RMJ_PLAN_ITEMS];
    size_t pairs = header->pair_count, rows = header->pack_count * header->row_count;
    plan->packs = rmj_arena_take(&plan->arena, header->pack_count * sizeof *plan->packs);
    struct rmj_pack_memory memory = {
        .tokens = rmj_arena_take(&plan->arena, rows * sizeof(int32_t)),
        .positions = rmj_arena_take(&plan->arena, rows * sizeof(int32_t)),
        .items = rmj_arena_take(&plan->arena, pairs * sizeof(struct rmj_pack_item)),
        .branch_counts = rmj_arena_take(&plan->arena, 2 * pairs * sizeof(uint32_t)),
        .branch_last_rows = rmj_arena_take(&plan->arena, 2 * pairs * sizeof(uint32_t)),
    };
    const int32_t *tokens = plan->sections[RMJ_PLAN_TOKENS];
    for (uint64_t i = 0; i < header->pack_count; i++) {
        struct rmj_pack *pack = &plan->packs[i];
        rmj_pack_begin(pack, &memory, header->row_count, header->pad_token);
        for (uint32_t j = 0; j < packs[i]; j++, items++) {
            const struct rmj_plan_pair *pair = &pairs_of(plan)[*items];
            uint32_t branches[2] = {pair->chosen_count, pair->rejected_count};
            struct rmj_pack_source source = {
                .id = *items,
                .margin = pair->margin,
                .prefix_count = pair->prefix_count,
                .branch_count = 2,
                .branch_counts = branches,
                .tokens = tokens + plan->first_tokens[*items],
            };
            rmj_pack_add(pack, &memory, &source);
        }
        memory.tokens += header->row_count;
        memory.positions += header->row_count;
        memory.items += pack->item_count;
        memory.branch_counts += pack->branch_total;
        memory.branch_last_rows += pack->branch_total;
    }
}

static void fill_info(struct rmj_plan *plan)
{
    const struct rmj_plan_header *header = &plan->header;
    plan->info = (struct rmj_plan_info){
        .pair_count = header->pair_count,
        .file_count = header->file_count,
        .step_count = header->step_count,
        .row_count = header->row_count,
        .packs_per_step_bound = header->packs_per_step_bound,
        .pack_count_max = header->pack_count_max,
        .embedding_row_count_max = header->embedding_row_count_max,
        .item_count_max = header->item_count_max,
        .branch_count_max = header->branch_count_max,
        .pad_token = header->pad_token,
        .vocabulary_grows = (int)header->vocabulary_grows,
    };
    memcpy(plan->info.pairs_sum.bytes, header->pairs_sum, sizeof header->pairs_sum);
    memcpy(plan->info.base_digest.bytes, header->base_digest, sizeof header->base_digest);
    memcpy(plan->info.companions_digest.bytes, header->companions_digest, sizeof header->companions_digest);
    memcpy(plan->info.benchmark_digest.bytes, header->benchmark_digest, sizeof header->benchmark_digest);
    memcpy(plan->info.heldout_digest.bytes, header->heldout_digest, sizeof header->heldout_digest);
    struct rmj_digest spec;
    memcpy(spec.bytes, header->spec_digest, sizeof spec.bytes);
    rmj_digest_hex(&spec, plan->info.spec_digest);
}

enum rmj_status rmj_plan_parse(struct rmj_plan **out, const void *bytes, size_t size, struct rmj_error *err)
{
    *out = NULL;
    struct rmj_plan_header header;
    if (size < sizeof header) {
        return corrupt(err, "shorter than its header");
    }
    memcpy(&header, bytes, sizeof header);
    if (memcmp(header.magic, RMJ_PLAN_MAGIC, sizeof header.magic) != 0 || header.header_size != sizeof header) {
        return corrupt(err, "not a plan");
    }
    if (header.version != RMJ_PLAN_VERSION) {
        return rmj_fail(err, RMJ_CORRUPT, "the plan has version %u; this build reads %u: submit the job again",
                        header.version, RMJ_PLAN_VERSION);
    }
    if (!header_holds(&header)) {
        return corrupt(err, "a count in its header is out of range");
    }
    RMJ_TRY(check_sections(&header, bytes, size, err));
    struct rmj_plan *plan = calloc(1, sizeof *plan);
    uint8_t *scratch =
        calloc(1, header.pair_count > header.vocabulary_size ? header.pair_count : (size_t)header.vocabulary_size);
    enum rmj_status status = RMJ_OK;
    if (plan == NULL || scratch == NULL) {
        status =
            rmj_fail(err, RMJ_NO_MEMORY, "no memory for a plan of %llu pairs", (unsigned long long)header.pair_count);
        goto out;
    }
    plan->header = header;
    RMJ_GO(rmj_arena_create(&plan->arena, "plan", arena_size(&header), err));
    RMJ_GO(unpack_sections(plan, bytes, err));
    RMJ_GO(check_pairs(plan, err));
    RMJ_GO(check_packs(plan, scratch, err));
    memset(scratch, 0, header.pair_count);
    RMJ_GO(index_steps(plan, scratch, err));
    lay_out_packs(plan);
    fill_info(plan);
    *out = plan;
    plan = NULL;
out:
    free(scratch);
    rmj_plan_close(plan);
    return status;
}

enum rmj_status rmj_plan_open(struct rmj_plan **plan, struct rmj_store *store, const char *prefix,
                              const char *digest_hex, struct rmj_error *err)
{
    *plan = NULL;
    struct rmj_digest want, got;
    if (!rmj_digest_from_hex(&want, digest_hex)) {
        return rmj_fail(err, RMJ_INVALID, "'%s' is not the digest of a plan", digest_hex);
    }
    struct rmj_buf bytes, key;
    rmj_buf_init(&bytes, RMJ_PLAN_OBJECT_SIZE_MAX);
    rmj_buf_init(&key, 4096);
    size_t length = strlen(prefix);
    rmj_buf_printf(&key, "%s%splan/%s", prefix, length > 0 && prefix[length - 1] != '/' ? "/" : "", digest_hex);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_buf_check(&key, err));
    RMJ_GO(rmj_store_get(store, key.bytes, &bytes, err));
    rmj_sha256_of(bytes.bytes, bytes.size, &got);
    if (!rmj_digest_equal(&want, &got)) {
        status =
            rmj_fail(err, RMJ_CORRUPT, "%s does not match its digest: remove it and submit the job again", key.bytes);
        goto out;
    }
    RMJ_GO(rmj_plan_parse(plan, bytes.bytes, bytes.size, err));
out:
    rmj_buf_deinit(&bytes);
    rmj_buf_deinit(&key);
    return status;
}

void rmj_plan_close(struct rmj_plan *plan)
{
    if (plan != NULL) {
        rmj_arena_destroy(&plan->arena);
        free(plan);
    }
}

const struct rmj_plan_info *rmj_plan_info(const struct rmj_plan *plan)
{
    return &plan->info;
}

void rmj_plan_step(const struct rmj_plan *plan, uint32_t step, struct rmj_plan_step *out)
{
    RMJ_ASSERT(step >= 1 && step <= plan->header.step_count);
    const struct rmj_plan_step_record *record = &records_of(plan)[step - 1];
    const struct step_index *index = &plan->steps[step - 1];
    *out = (struct rmj_plan_step){
        .first_pair = record->first_pair,
        .pair_count = record->pair_count,
        .token_count = index->token_count,
        .pack_count = record->pack_count,
        .embedding_rows = index->embedding_rows,
        .embedding_row_count = index->embedding_row_count,
    };
}

static const struct rmj_pack *pack_at(const struct rmj_plan *plan, uint32_t step, uint32_t index)
{
    RMJ_ASSERT(step >= 1 && step <= plan->header.step_count && index < records_of(plan)[step - 1].pack_count);
    return &plan->packs[plan->steps[step - 1].first_pack + index];
}

void rmj_plan_pack(const struct rmj_plan *plan, uint32_t step, uint32_t index, struct rmj_pack *out)
{
    *out = *pack_at(plan, step, index);
}

double rmj_plan_pack_cost(const struct rmj_plan *plan, uint32_t step, uint32_t index)
{
    const struct rmj_pack *pack = pack_at(plan, step, index);
    double attended = 0;
    for (uint32_t i = 0; i < pack->item_count; i++) {
        const struct rmj_pack_item *item = &pack->items[i];
        double prefix = item->prefix_count;
        attended += prefix * prefix / 2;
        for (uint32_t branch = 0; branch < item->branch_count; branch++) {
            double rows = pack->branch_counts[item->first_branch + branch];
            attended += rows * (prefix + rows / 2);
        }
    }
    return pack->row_count + attended / plan->header.attention_divisor;
}

void rmj_plan_pair_digest(const struct rmj_plan *plan, uint64_t pair, struct rmj_digest *digest)
{
    RMJ_ASSERT(pair < plan->header.pair_count);
    const int32_t *tokens = plan->sections[RMJ_PLAN_TOKENS];
    rmj_plan_digest_pair(&pairs_of(plan)[pair], tokens + plan->first_tokens[pair], digest);
}

uint64_t rmj_plan_pair_lineage_id(const struct rmj_plan *plan, uint64_t pair)
{
    RMJ_ASSERT(pair < plan->header.pair_count);
    return pairs_of(plan)[pair].lineage_id;
}

void rmj_plan_pair_source(const struct rmj_plan *plan, uint64_t pair, const char **path, uint64_t *row)
{
    RMJ_ASSERT(pair < plan->header.pair_count);
    *path = plan->paths[pairs_of(plan)[pair].file];
    *row = pairs_of(plan)[pair].row;
}

uint32_t rmj_plan_pair_file(const struct rmj_plan *plan, uint64_t pair)
{
    RMJ_ASSERT(pair < plan->header.pair_count);
    return pairs_of(plan)[pair].file;
}

const char *rmj_plan_file_path(const struct rmj_plan *plan, uint32_t file)
{
    RMJ_ASSERT(file < plan->header.file_count);
    return plan->paths[file];
}
