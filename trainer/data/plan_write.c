// Making the plan object: steps, T, packs, and the bytes.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "trainer/data/packer.h"
#include "trainer/data/plan_format.h"
#include "trainer/data/spool.h"

#define COMPRESSION_LEVEL 3
#define BUFFER_SIZE ((size_t)1 << 20)

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
    uint32_t pair_count;
    uint32_t *row_counts; // of a pair
    struct rmj_plan_step_record *steps;
    uint32_t *packs;  // items of each, [pair_count] room
    uint32_t *items;  // [pair_count]
    uint32_t *stamps; // last step (from 1) in which a token occurred
};

static enum rmj_status note_rows(void *context, uint32_t index, const struct rmj_spool_record *record,
                                 struct rmj_error *err)
{
    uint32_t *row_counts = context;
    (void)err;
    row_counts[index] = pair_rows(&record->pair);
    return RMJ_OK;
}

// Row counts in reading order, then in the plan's; items are free to hold the first until they are needed.
static enum rmj_status order_rows(struct building *building, struct rmj_error *err)
{
    RMJ_TRY(rmj_spool_each(building->input->spool, note_rows, building->items, err));
    for (uint32_t i = 0; i < building->pair_count; i++) {
        building->row_counts[i] = building->items[building->input->order[i]];
    }
    return RMJ_OK;
}

static void cut_steps(struct building *building)
{
    uint64_t longest = 0, step_rows_max = 0;
    uint32_t step = 0;
    for (uint32_t first = 0; first < building->pair_count; step++) {
        uint32_t left = building->pair_count - first, batch = building->input->global_batch_pairs;
        uint32_t count = left < batch ? left : batch;
        uint64_t rows = 0;
        for (uint32_t i = first; i < first + count; i++) {
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
    return RMJ_OK;
}

// One section after the other into the file, each a frame; what is given piece by piece gives the same frame as at
// once.
struct writer {
    struct building *building;
    int fd;
    uint64_t offset;
    ZSTD_CCtx *context;
    char *in, *out;
    size_t in_count;
    uint64_t size; // of the section, so far
};

static enum rmj_status write_out(struct writer *w, const char *bytes, size_t size, struct rmj_error *err)
{
    while (size > 0) {
        ssize_t count = pwrite(w->fd, bytes, size, (off_t)w->offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            int code = errno;
            return rmj_error_set(err, __FILE__, __LINE__, code == ENOSPC ? RMJ_FULL : RMJ_IO, "errno", code,
                                 "cannot write the plan, make room where TMPDIR points");
        }
        w->offset += (size_t)count;
        bytes += count;
        size -= (size_t)count;
    }
    return RMJ_OK;
}

static enum rmj_status press(struct writer *w, ZSTD_EndDirective end, struct rmj_error *err)
{
    ZSTD_inBuffer in = {w->in, w->in_count, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {w->out, BUFFER_SIZE, 0};
        left = ZSTD_compressStream2(w->context, &out, &in, end);
        if (ZSTD_isError(left)) {
            return rmj_fail(err, RMJ_INTERNAL, "cannot compress the plan: %s", ZSTD_getErrorName(left));
        }
        RMJ_TRY(write_out(w, w->out, out.pos, err));
    } while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
    w->in_count = 0;
    return RMJ_OK;
}

static enum rmj_status section_begin(struct writer *w, int section, uint64_t size, struct rmj_error *err)
{
    w->building->header.sections[section] = (struct rmj_plan_section){.offset = w->offset, .size = size};
    w->size = 0;
    ZSTD_CCtx_reset(w->context, ZSTD_reset_session_only);
    size_t failed = ZSTD_CCtx_setParameter(w->context, ZSTD_c_compressionLevel, COMPRESSION_LEVEL);
    failed = ZSTD_isError(failed) ? failed : ZSTD_CCtx_setPledgedSrcSize(w->context, size);
    return ZSTD_isError(failed) ? rmj_fail(err, RMJ_INTERNAL, "cannot compress: %s", ZSTD_getErrorName(failed))
                                : RMJ_OK;
}

static enum rmj_status section_add(struct writer *w, const void *bytes, size_t size, struct rmj_error *err)
{
    const char *at = bytes;
    w->size += size;
    while (size > 0) {
        size_t count = size < BUFFER_SIZE - w->in_count ? size : BUFFER_SIZE - w->in_count;
        memcpy(w->in + w->in_count, at, count);
        w->in_count += count;
        at += count;
        size -= count;
        if (w->in_count == BUFFER_SIZE) {
            RMJ_TRY(press(w, ZSTD_e_continue, err));
        }
    }
    return RMJ_OK;
}

static enum rmj_status section_end(struct writer *w, int section, struct rmj_error *err)
{
    struct rmj_plan_section *record = &w->building->header.sections[section];
    RMJ_ASSERT(w->size == record->size);
    RMJ_TRY(press(w, ZSTD_e_end, err));
    record->stored_size = w->offset - record->offset;
    return RMJ_OK;
}

static enum rmj_status write_section(struct writer *w, int section, const void *bytes, size_t size,
                                     struct rmj_error *err)
{
    RMJ_TRY(section_begin(w, section, size, err));
    RMJ_TRY(section_add(w, bytes, size, err));
    return section_end(w, section, err);
}

static enum rmj_status write_paths(struct writer *w, struct rmj_error *err)
{
    const struct rmj_plan_input *input = w->building->input;
    struct rmj_buf paths;
    rmj_buf_init(&paths, (size_t)64 << 20);
    for (uint32_t i = 0; i < input->file_count; i++) {
        rmj_buf_append(&paths, input->paths[i], strlen(input->paths[i]) + 1);
    }
    enum rmj_status status = rmj_buf_check(&paths, err);
    if (status == RMJ_OK) {
        status = write_section(w, RMJ_PLAN_PATHS, paths.bytes, paths.size, err);
    }
    rmj_buf_deinit(&paths);
    return status;
}

static enum rmj_status write_pairs(struct writer *w, struct rmj_error *err)
{
    const struct rmj_plan_input *input = w->building->input;
    RMJ_TRY(section_begin(w, RMJ_PLAN_PAIRS, w->building->pair_count * sizeof(struct rmj_plan_pair), err));
    for (uint32_t i = 0; i < w->building->pair_count; i++) {
        struct rmj_spool_record record;
        RMJ_TRY(rmj_spool_records(input->spool, input->order[i], 1, &record, err));
        RMJ_TRY(section_add(w, &record.pair, sizeof record.pair, err));
    }
    return section_end(w, RMJ_PLAN_PAIRS, err);
}

// Distinct tokens of a step, as its pairs come by.
static void count_distinct(struct building *building, uint32_t step, const int32_t *tokens, uint32_t rows,
                           uint32_t *distinct)
{
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t *stamp = &building->stamps[tokens[row]];
        *distinct += *stamp != step + 1;
        *stamp = step + 1;
    }
}

// Tokens in the plan's order, and what follows from them: the sum of the pairs' digests, the most embedding rows.
static enum rmj_status write_tokens(struct writer *w, int32_t *tokens, struct rmj_error *err)
{
    struct building *building = w->building;
    const struct rmj_plan_input *input = building->input;
    struct rmj_plan_header *header = &building->header;
    struct rmj_digest sum = {0};
    RMJ_TRY(section_begin(w, RMJ_PLAN_TOKENS, rmj_spool_token_count(input->spool) * sizeof *tokens, err));
    for (uint32_t step = 0; step < header->step_count; step++) {
        const struct rmj_plan_step_record *of_step = &building->steps[step];
        uint32_t distinct = 0;
        for (uint64_t i = of_step->first_pair; i < of_step->first_pair + of_step->pair_count; i++) {
            struct rmj_spool_record record;
            struct rmj_digest digest;
            RMJ_TRY(rmj_spool_records(input->spool, input->order[i], 1, &record, err));
            RMJ_TRY(rmj_spool_tokens(input->spool, &record, tokens, err));
            rmj_plan_digest_pair(&record.pair, tokens, &digest);
            rmj_pairs_sum_add(&sum, &digest);
            count_distinct(building, step, tokens, building->row_counts[i], &distinct);
            RMJ_TRY(section_add(w, tokens, building->row_counts[i] * sizeof *tokens, err));
        }
        if (distinct > header->embedding_row_count_max) {
            header->embedding_row_count_max = distinct;
        }
    }
    memcpy(header->pairs_sum, sum.bytes, sizeof sum.bytes);
    return section_end(w, RMJ_PLAN_TOKENS, err);
}

static enum rmj_status write_all(struct building *building, int fd, struct rmj_error *err)
{
    struct rmj_plan_header *header = &building->header;
    struct writer w = {.building = building,
                       .fd = fd,
                       .offset = sizeof *header,
                       .context = ZSTD_createCCtx(),
                       .in = malloc(BUFFER_SIZE),
                       .out = malloc(BUFFER_SIZE)};
    int32_t *tokens = malloc((size_t)header->row_count * sizeof *tokens); // no pair has more rows
    enum rmj_status status = RMJ_OK;
    if (w.context == NULL || w.in == NULL || w.out == NULL || tokens == NULL) {
        status = rmj_fail(err, RMJ_NO_MEMORY, "no memory to write a plan");
        goto out;
    }
    RMJ_GO(write_paths(&w, err));
    RMJ_GO(write_pairs(&w, err));
    RMJ_GO(write_tokens(&w, tokens, err));
    RMJ_GO(write_section(&w, RMJ_PLAN_STEPS, building->steps, header->step_count * sizeof *building->steps, err));
    RMJ_GO(write_section(&w, RMJ_PLAN_PACKS, building->packs, header->pack_count * sizeof *building->packs, err));
    RMJ_GO(write_section(&w, RMJ_PLAN_ITEMS, building->items, header->pair_count * sizeof *building->items, err));
    w.offset = 0;
    RMJ_GO(write_out(&w, (const char *)header, sizeof *header, err));
out:
    ZSTD_freeCCtx(w.context);
    free(w.in);
    free(w.out);
    free(tokens);
    return status;
}

static enum rmj_status digest_file(int fd, struct rmj_digest *digest, struct rmj_error *err)
{
    char *bytes = malloc(BUFFER_SIZE);
    struct rmj_sha256 sha;
    enum rmj_status status = bytes == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory to read a plan") : RMJ_OK;
    rmj_sha256_init(&sha);
    for (off_t at = 0; status == RMJ_OK;) {
        ssize_t count = pread(fd, bytes, BUFFER_SIZE, at);
        if (count == 0) {
            break;
        }
        if (count > 0) {
            rmj_sha256_update(&sha, bytes, (size_t)count);
            at += count;
        } else if (errno != EINTR) {
            status = rmj_fail(err, RMJ_IO, "cannot read the plan again: %s", strerror(errno));
        }
    }
    rmj_sha256_final(&sha, digest);
    free(bytes);
    return status;
}

static void begin_header(struct rmj_plan_header *header, const struct rmj_plan_input *input)
{
    *header = (struct rmj_plan_header){
        .version = RMJ_PLAN_VERSION,
        .header_size = sizeof *header,
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

static enum rmj_status build(struct building *building, struct rmj_error *err)
{
    RMJ_TRY(order_rows(building, err));
    cut_steps(building);
    for (uint32_t step = 0; step < building->header.step_count; step++) {
        RMJ_TRY(pack_step(building, step, err));
    }
    building->header.branch_count_max = 2 * building->header.item_count_max;
    building->header.packs_per_step_bound = 1;
    while (building->header.packs_per_step_bound < building->header.pack_count_max) {
        building->header.packs_per_step_bound *= 2;
    }
    return RMJ_OK;
}

enum rmj_status rmj_plan_write(const struct rmj_plan_input *input, int fd, struct rmj_plan_header *header,
                               struct rmj_digest *digest, struct rmj_error *err)
{
    size_t count = rmj_spool_pair_count(input->spool);
    RMJ_ASSERT(count > 0 && input->global_batch_pairs > 0 && input->attention_divisor > 0);
    struct building building = {
        .input = input,
        .pair_count = (uint32_t)count,
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
    building.header.pair_count = count;
    RMJ_GO(build(&building, err));
    RMJ_GO(write_all(&building, fd, err));
    RMJ_GO(digest_file(fd, digest, err));
    *header = building.header;
out:
    free(building.row_counts);
    free(building.steps);
    free(building.packs);
    free(building.items);
    free(building.stamps);
    return status;
}
