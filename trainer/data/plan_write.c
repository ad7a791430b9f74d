// Making the plan object: steps, T, packs, and the bytes.
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "trainer/data/packer.h"
#include "trainer/data/plan_format.h"

#define COMPRESSION_LEVEL 3

void rmj_pairs_sum_add(struct rmj_digest *sum, const struct rmj_digest *digest)
{
    unsigned carry = 0;
    for (size_t i = 0; i < RMJ_DIGEST_SIZE; i++) {
        carry += (unsigned)sum->bytes[i] + digest->bytes[i];
        sum->bytes[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

void rmj_plan_digest_pair(const struct rmj_plan_pair *pair, const int32_t *tokens, struct rmj_digest *digest)
{
    uint32_t head[3] = {pair->prefix_count + pair->chosen_count, pair->prefix_count + pair->rejected_count};
    memcpy(&head[2], &pair->margin, sizeof head[2]);
    const int32_t *rejected = tokens + pair->prefix_count + pair->chosen_count;
    struct rmj_sha256 sha;
    rmj_sha256_init(&sha);
    rmj_sha256_update(&sha, head, sizeof head);
    rmj_sha256_update(&sha, tokens, (size_t)head[0] * sizeof *tokens);
    rmj_sha256_update(&sha, tokens, (size_t)pair->prefix_count * sizeof *tokens);
    rmj_sha256_update(&sha, rejected, (size_t)pair->rejected_count * sizeof *tokens);
    rmj_sha256_final(&sha, digest);
}

static uint32_t pair_rows(const struct rmj_plan_pair *pair)
{
    return pair->prefix_count + pair->chosen_count + pair->rejected_count;
}

// What one plan is built in; everything in the plan's order.
struct building {
    const struct rmj_plan_input *input;
    struct rmj_plan_header header;
    uint32_t *row_counts; // of a pair
    struct rmj_plan_step_record *steps;
    uint32_t *packs;  // items of each, [pair_count] room
    uint32_t *items;  // [pair_count]
    uint32_t *stamps; // last step (from 1) in which a token occurred
};

static const struct rmj_plan_pair *pair_at(const struct building *building, uint64_t i)
{
    return &building->input->pairs[building->input->order[i]];
}

static const int32_t *tokens_at(const struct building *building, uint64_t i)
{
    return building->input->tokens + building->input->first_tokens[building->input->order[i]];
}

static void cut_steps(struct building *building)
{
    const struct rmj_plan_input *input = building->input;
    uint64_t longest = 0, step_rows_max = 0;
    uint32_t step = 0;
    for (uint32_t first = 0; first < input->pair_count; step++) {
        uint32_t left = input->pair_count - first;
        uint32_t count = left < input->global_batch_pairs ? left : input->global_batch_pairs;
        uint64_t rows = 0;
        for (uint32_t i = first; i < first + count; i++) {
            building->row_counts[i] = pair_rows(pair_at(building, i));
            rows += building->row_counts[i];
            longest = building->row_counts[i] > longest ? building->row_counts[i] : longest;
        }
        step_rows_max = rows > step_rows_max ? rows : step_rows_max;
        building->steps[step] = (struct rmj_plan_step_record){.first_pair = first, .pair_count = count};
        first += count;
    }
    building->header.step_count = step;
    building->header.row_count = (uint32_t)rmj_pack_row_count(longest, step_rows_max, RMJ_PLAN_STEP_ROWS_CAP);
}

static void count_embedding_rows(struct building *building, uint32_t step)
{
    const struct rmj_plan_step_record *record = &building->steps[step];
    uint32_t distinct = 0;
    for (uint64_t i = record->first_pair; i < record->first_pair + record->pair_count; i++) {
        const int32_t *tokens = tokens_at(building, i);
        for (uint32_t row = 0; row < building->row_counts[i]; row++) {
            uint32_t *stamp = &building->stamps[tokens[row]];
            distinct += *stamp != step + 1;
            *stamp = step + 1;
        }
    }
    if (distinct > building->header.embedding_row_count_max) {
        building->header.embedding_row_count_max = distinct;
    }
}

static enum rmj_status pack_step(struct building *building, uint32_t step, struct rmj_error *err)
{
    struct rmj_plan_header *header = &building->header;
    struct rmj_plan_step_record *record = &building->steps[step];
    uint32_t first = (uint32_t)record->first_pair;
    uint32_t *packs = building->packs + header->pack_count;
    RMJ_TRY(rmj_pack_first_fit(building->row_counts + first, record->pair_count, header->row_count,
                               building->items + first, packs, &record->pack_count, err));
    if (record->pack_count > RMJ_PLAN_PACKS_PER_STEP_MAX) {
        return rmj_fail(err, RMJ_DATA,
                        "step %u needs %u packs of %u tokens; the exact sums hold at most %u a step: lower "
                        "train.global_batch_pairs",
                        step + 1, record->pack_count, header->row_count, RMJ_PLAN_PACKS_PER_STEP_MAX);
    }
    for (uint32_t i = 0; i < record->pair_count; i++) {
        building->items[first + i] += first;
    }
    for (uint32_t pack = 0; pack < record->pack_count; pack++) {
        if (packs[pack] > header->item_count_max) {
            header->item_count_max = packs[pack];
        }
    }
    if (record->pack_count > header->pack_count_max) {
        header->pack_count_max = record->pack_count;
    }
    header->pack_count += record->pack_count;
    count_embedding_rows(building, step);
    return RMJ_OK;
}

static enum rmj_status append_section(struct building *building, struct rmj_buf *out, size_t start, int section,
                                      const void *bytes, size_t size, struct rmj_error *err)
{
    size_t bound = ZSTD_compressBound(size), at = out->size;
    char *room = rmj_buf_extend(out, bound);
    if (room == NULL) {
        return rmj_fail(err, RMJ_FULL, "the plan is over %zu bytes: cut the data set", out->size_max);
    }
    size_t stored = ZSTD_compress(room, bound, bytes, size, COMPRESSION_LEVEL);
    if (ZSTD_isError(stored)) {
        return rmj_fail(err, RMJ_INTERNAL, "cannot compress the plan: %s", ZSTD_getErrorName(stored));
    }
    out->size = at + stored;
    building->header.sections[section] =
        (struct rmj_plan_section){.offset = at - start, .stored_size = stored, .size = size};
    return RMJ_OK;
}

// Pairs and tokens in the plan's order, and the sum of their digests.
static enum rmj_status append_pairs(struct building *building, struct rmj_buf *out, size_t start, struct rmj_error *err)
{
    const struct rmj_plan_input *input = building->input;
    uint64_t token_count = 0;
    for (uint32_t i = 0; i < input->pair_count; i++) {
        token_count += building->row_counts[i];
    }
    struct rmj_plan_pair *pairs = malloc(input->pair_count * sizeof *pairs);
    int32_t *tokens = malloc(token_count * sizeof *tokens);
    enum rmj_status status = RMJ_OK;
    if (pairs == NULL || tokens == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a plan of %llu tokens", (unsigned long long)token_count);
        goto out;
    }
    struct rmj_digest sum = {0};
    int32_t *at = tokens;
    for (uint32_t i = 0; i < input->pair_count; i++) {
        struct rmj_digest digest;
        pairs[i] = *pair_at(building, i);
        memcpy(at, tokens_at(building, i), building->row_counts[i] * sizeof *at);
        rmj_plan_digest_pair(&pairs[i], at, &digest);
        rmj_pairs_sum_add(&sum, &digest);
        at += building->row_counts[i];
    }
    memcpy(building->header.pairs_sum, sum.bytes, sizeof sum.bytes);
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_PAIRS, pairs, input->pair_count * sizeof *pairs, err));
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_TOKENS, tokens, token_count * sizeof *tokens, err));
out:
    free(pairs);
    free(tokens);
    return status;
}

static enum rmj_status append_all(struct building *building, struct rmj_buf *out, struct rmj_error *err)
{
    struct rmj_plan_header *header = &building->header;
    size_t start = out->size;
    if (rmj_buf_extend(out, sizeof *header) == NULL) {
        return rmj_fail(err, RMJ_FULL, "no room for a plan");
    }
    struct rmj_buf paths;
    rmj_buf_init(&paths, (size_t)64 << 20);
    for (uint32_t i = 0; i < building->input->file_count; i++) {
        rmj_buf_append(&paths, building->input->paths[i], strlen(building->input->paths[i]) + 1);
    }
    enum rmj_status status = RMJ_OK;
    RMJ_GO(rmj_buf_check(&paths, err));
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_PATHS, paths.bytes, paths.size, err));
    RMJ_GO(append_pairs(building, out, start, err));
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_STEPS, building->steps,
                          header->step_count * sizeof *building->steps, err));
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_PACKS, building->packs,
                          header->pack_count * sizeof *building->packs, err));
    RMJ_GO(append_section(building, out, start, RMJ_PLAN_ITEMS, building->items,
                          header->pair_count * sizeof *building->items, err));
    memcpy(out->bytes + start, header, sizeof *header);
out:
    rmj_buf_deinit(&paths);
    return status;
}

static void begin_header(struct rmj_plan_header *header, const struct rmj_plan_input *input)
{
    *header = (struct rmj_plan_header){
        .version = RMJ_PLAN_VERSION,
        .header_size = sizeof *header,
        .pair_count = input->pair_count,
        .vocabulary_size = input->vocabulary_size,
        .file_count = input->file_count,
        .attention_divisor = input->attention_divisor,
        .pad_token = input->pad_token,
        .vocabulary_grows = input->vocabulary_grows != 0,
    };
    memcpy(header->magic, RMJ_PLAN_MAGIC, sizeof header->magic);
    memcpy(header->spec_digest, input->spec_digest.bytes, sizeof header->spec_digest);
    memcpy(header->base_digest, input->base_digest.bytes, sizeof header->base_digest);
    memcpy(header->companions_digest, input->companions_digest.bytes, sizeof header->companions_digest);
    memcpy(header->benchmark_digest, input->benchmark_digest.bytes, sizeof header->benchmark_digest);
    memcpy(header->heldout_digest, input->heldout_digest.bytes, sizeof header->heldout_digest);
}

enum rmj_status rmj_plan_write(const struct rmj_plan_input *input, struct rmj_buf *out, struct rmj_error *err)
{
    RMJ_ASSERT(input->pair_count > 0 && input->global_batch_pairs > 0 && input->attention_divisor > 0);
    size_t count = input->pair_count;
    struct building building = {
        .input = input,
        .row_counts = malloc(count * sizeof *building.row_counts),
        .steps = calloc(count / input->global_batch_pairs + 1, sizeof *building.steps),
        .packs = malloc(count * sizeof *building.packs),
        .items = malloc(count * sizeof *building.items),
        .stamps = calloc((size_t)input->vocabulary_size + 1, sizeof *building.stamps),
    };
    enum rmj_status status = RMJ_OK;
    if (building.row_counts == NULL || building.steps == NULL || building.packs == NULL || building.items == NULL ||
        building.stamps == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory for a plan of %zu pairs", count);
        goto out;
    }
    begin_header(&building.header, input);
    cut_steps(&building);
    for (uint32_t step = 0; step < building.header.step_count; step++) {
        RMJ_GO(pack_step(&building, step, err));
    }
    building.header.branch_count_max = 2 * building.header.item_count_max;
    building.header.packs_per_step_bound = 1;
    while (building.header.packs_per_step_bound < building.header.pack_count_max) {
        building.header.packs_per_step_bound *= 2;
    }
    RMJ_GO(append_all(&building, out, err));
out:
    free(building.row_counts);
    free(building.steps);
    free(building.packs);
    free(building.items);
    free(building.stamps);
    return status;
}
