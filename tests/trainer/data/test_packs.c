// Packs and plans: every pair once, one shape, the same bytes every time, and no damage goes unseen.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "trainer/data/packer.h"
#include "trainer/data/plan_format.h"
#include "trainer/data/spool.h"

#define VOCABULARY 97

struct world {
    struct rmj_plan_pair *pairs;
    uint64_t *first_tokens;
    int32_t *tokens;
    uint32_t *order;
    struct rmj_spool *spool;
    struct rmj_plan_input input;
};

static const char *const paths[] = {"a.jsonl", "b.jsonl.gz"};

// The pairs as they stand now go to the writer.
static void spool_world(struct world *world, uint32_t count)
{
    const uint8_t key[RMJ_DIGEST_SIZE] = {0};
    rmj_spool_close(world->spool);
    assert_int_equal(rmj_spool_create(&world->spool, NULL, NULL), RMJ_OK);
    for (uint32_t i = 0; i < count; i++) {
        const int32_t *tokens = world->tokens + world->first_tokens[i];
        assert_int_equal(rmj_spool_add(world->spool, &world->pairs[i], key, tokens, NULL), RMJ_OK);
    }
    world->input.spool = world->spool;
}

static void make_world(struct world *world, uint64_t seed, uint32_t count, uint32_t batch, uint32_t length_max)
{
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 1);
    world->pairs = calloc(count, sizeof *world->pairs);
    world->first_tokens = calloc(count, sizeof *world->first_tokens);
    world->tokens = malloc((size_t)count * 3 * length_max * sizeof *world->tokens);
    world->order = malloc(count * sizeof *world->order);
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct rmj_plan_pair *pair = &world->pairs[i];
        *pair = (struct rmj_plan_pair){
            .row = i + 1,
            .file = i % 2,
            .prefix_count = (uint32_t)rmj_rng_below(&rng, length_max),
            .chosen_count = 1 + (uint32_t)rmj_rng_below(&rng, length_max),
            .rejected_count = 1 + (uint32_t)rmj_rng_below(&rng, length_max),
            .margin = (float)rmj_rng_uniform(&rng),
        };
        world->first_tokens[i] = at;
        for (uint32_t j = 0; j < pair->prefix_count + pair->chosen_count + pair->rejected_count; j++) {
            world->tokens[at++] = (int32_t)rmj_rng_below(&rng, VOCABULARY);
        }
        world->order[i] = i;
    }
    rmj_rng_shuffle(&rng, world->order, count);
    world->spool = NULL;
    world->input = (struct rmj_plan_input){
        .order = world->order,
        .paths = paths,
        .file_count = 2,
        .global_batch_pairs = batch,
        .vocabulary_size = VOCABULARY,
        .attention_divisor = 96,
        .pad_token = VOCABULARY,
        .vocabulary_grows = 1,
    };
    spool_world(world, count);
}

static void free_world(struct world *world)
{
    rmj_spool_close(world->spool);
    free(world->pairs);
    free(world->first_tokens);
    free(world->tokens);
    free(world->order);
}

static void write_world(const struct world *world, struct rmj_buf *out)
{
    struct rmj_error err = {0};
    struct rmj_plan_header header;
    struct rmj_digest digest, again;
    int fd = memfd_create("plan", 0);
    rmj_buf_init(out, (size_t)64 << 20);
    assert_int_equal(rmj_plan_write(&world->input, fd, &header, &digest, &err), RMJ_OK);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, rmj_buf_extend(out, (size_t)size), (size_t)size, 0), size);
    rmj_sha256_of(out->bytes, out->size, &again);
    assert_true(rmj_digest_equal(&digest, &again) && memcmp(out->bytes, &header, sizeof header) == 0);
    close(fd);
}

static void check_item(const struct world *world, const struct rmj_pack *pack, const struct rmj_pack_item *item,
                       uint32_t first_row, uint8_t *listed)
{
    const struct rmj_plan_pair *pair = &world->pairs[world->order[item->id]];
    const int32_t *tokens = world->tokens + world->first_tokens[world->order[item->id]];
    assert_int_equal(item->first_row, first_row);
    assert_int_equal(item->prefix_count, pair->prefix_count);
    assert_int_equal(item->branch_count, 2);
    assert_true(item->margin == pair->margin);
    assert_int_equal(pack->branch_counts[item->first_branch], pair->chosen_count);
    assert_int_equal(pack->branch_counts[item->first_branch + 1], pair->rejected_count);
    uint32_t rows = pair->prefix_count + pair->chosen_count + pair->rejected_count;
    assert_int_equal(pack->branch_last_rows[item->first_branch],
                     first_row + pair->prefix_count + pair->chosen_count - 1);
    assert_int_equal(pack->branch_last_rows[item->first_branch + 1], first_row + rows - 1);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t position = row < pair->prefix_count + pair->chosen_count ? row : row - pair->chosen_count;
        assert_int_equal(pack->tokens[first_row + row], tokens[row]);
        assert_int_equal(pack->positions[first_row + row], position);
        assert_true(listed[tokens[row]]);
        listed[tokens[row]] = 2;
    }
}

static void check_step(const struct world *world, const struct rmj_plan *plan, uint32_t number, uint8_t *seen)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    struct rmj_plan_step step;
    uint8_t listed[VOCABULARY + 1] = {0};
    rmj_plan_step(plan, number, &step);
    assert_true(step.pack_count <= info->packs_per_step_bound && step.pack_count >= 1);
    for (uint32_t i = 0; i < step.embedding_row_count; i++) {
        assert_true(i == 0 || step.embedding_rows[i - 1] < step.embedding_rows[i]);
        listed[step.embedding_rows[i]] = 1;
    }
    assert_false(listed[VOCABULARY]);
    uint64_t tokens = 0;
    for (uint32_t index = 0; index < step.pack_count; index++) {
        struct rmj_pack pack;
        rmj_plan_pack(plan, number, index, &pack);
        assert_int_equal(pack.row_count, info->row_count);
        assert_true(pack.item_count > 0 && pack.item_count <= info->item_count_max);
        assert_true(pack.branch_total <= info->branch_count_max);
        uint32_t row = 0;
        for (uint32_t i = 0; i < pack.item_count; i++) {
            const struct rmj_pack_item *item = &pack.items[i];
            assert_true(item->id >= step.first_pair && item->id < step.first_pair + step.pair_count);
            assert_int_equal(seen[item->id]++, 0);
            check_item(world, &pack, item, row, listed);
            row = pack.branch_last_rows[item->first_branch + 1] + 1;
        }
        assert_int_equal(row, pack.used_row_count);
        tokens += row;
        for (; row < pack.row_count; row++) {
            assert_int_equal(pack.tokens[row], VOCABULARY);
            assert_int_equal(pack.positions[row], 0);
        }
        assert_true(rmj_plan_pack_cost(plan, number, index) >= info->row_count);
    }
    assert_int_equal(tokens, step.token_count);
    for (int token = 0; token < VOCABULARY; token++) {
        assert_int_not_equal(listed[token], 1); // listed, so it occurred
    }
}

static void check_plan(const struct world *world, const struct rmj_plan *plan)
{
    const struct rmj_plan_info *info = rmj_plan_info(plan);
    uint8_t *seen = calloc(rmj_spool_pair_count(world->spool), 1);
    uint64_t next = 0;
    struct rmj_digest sum = {0};
    assert_int_equal(info->row_count % RMJ_PACK_ROW_MULTIPLE, 0);
    for (uint32_t number = 1; number <= info->step_count; number++) {
        struct rmj_plan_step step;
        rmj_plan_step(plan, number, &step);
        assert_int_equal(step.first_pair, next);
        assert_true(number == info->step_count || step.pair_count == world->input.global_batch_pairs);
        next += step.pair_count;
        check_step(world, plan, number, seen);
    }
    assert_int_equal(next, rmj_spool_pair_count(world->spool));
    for (uint32_t i = 0; i < rmj_spool_pair_count(world->spool); i++) {
        struct rmj_digest digest;
        const char *path;
        uint64_t row;
        assert_int_equal(seen[i], 1);
        rmj_plan_pair_digest(plan, i, &digest);
        rmj_pairs_sum_add(&sum, &digest);
        rmj_plan_pair_source(plan, i, &path, &row);
        assert_int_equal(row, world->pairs[world->order[i]].row);
        assert_string_equal(path, paths[world->pairs[world->order[i]].file]);
    }
    assert_true(rmj_digest_equal(&sum, &info->pairs_sum));
    free(seen);
}

static void every_pair_is_in_exactly_one_pack_of_its_step(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world world;
        struct rmj_buf object;
        struct rmj_plan *plan;
        struct rmj_error err = {0};
        make_world(&world, seed, 1 + (uint32_t)(seed * 37 % 300), 1 + (uint32_t)(seed * 13 % 64),
                   1 + (uint32_t)(seed * 29 % 200));
        write_world(&world, &object);
        if (rmj_plan_parse(&plan, object.bytes, object.size, &err) != RMJ_OK) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
        }
        check_plan(&world, plan);
        rmj_plan_close(plan);
        rmj_buf_deinit(&object);
        free_world(&world);
    }
}

static void equal_inputs_give_equal_bytes(void **state)
{
    (void)state;
    struct world world;
    struct rmj_buf first, second;
    make_world(&world, 7, 200, 32, 100);
    write_world(&world, &first);
    write_world(&world, &second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.bytes, second.bytes, first.size);
    rmj_buf_deinit(&first);
    rmj_buf_deinit(&second);
    free_world(&world);
}

static void a_step_over_2048_packs_is_refused(void **state)
{
    (void)state;
    // Pairs of 129 to 256 rows with T 256: each is a pack of its own.
    struct world world;
    struct rmj_error err = {0};
    make_world(&world, 3, 2049, 2049, 1);
    for (uint32_t i = 0; i < 2049; i++) {
        world.pairs[i].prefix_count = 0;
        world.pairs[i].chosen_count = RMJ_PLAN_STEP_ROWS_CAP;
        world.first_tokens[i] = 0;
    }
    free(world.tokens);
    world.tokens = calloc(RMJ_PLAN_STEP_ROWS_CAP + 2, sizeof *world.tokens);
    spool_world(&world, 2049);
    struct rmj_plan_header header;
    struct rmj_digest digest;
    int fd = memfd_create("plan", 0);
    assert_int_equal(rmj_plan_write(&world.input, fd, &header, &digest, &err), RMJ_DATA);
    close(fd);
    assert_non_null(strstr(err.message, "lower train.global_batch_pairs"));
    free_world(&world);
}

static void first_fit_is_deterministic_and_tight(void **state)
{
    (void)state;
    uint32_t rows[] = {100, 200, 56, 156, 256, 100}, order[6], counts[6], packs;
    assert_int_equal(rmj_pack_first_fit(rows, 6, 256, order, counts, &packs, NULL), RMJ_OK);
    // 256 | 200+56 | 156+100 | 100
    const uint32_t expected[] = {4, 1, 2, 3, 0, 5};
    assert_int_equal(packs, 4);
    assert_memory_equal(order, expected, sizeof expected);
    assert_int_equal(counts[1], 2);
}

static void a_common_prefix_leaves_a_row_to_every_branch(void **state)
{
    (void)state;
    const int32_t a[] = {1, 5, 6, 2}, b[] = {1, 5, 6, 2, 7};
    assert_int_equal(rmj_pack_common_prefix(a, 4, b, 5), 3);
    assert_int_equal(rmj_pack_common_prefix(a, 1, b, 5), 0);
    assert_int_equal(rmj_pack_common_prefix(a, 0, b, 5), 0);
}

// Damage in every byte region: refused or, where it does not matter to the structure, read without a fault.
static void a_damaged_plan_never_crashes(void **state)
{
    (void)state;
    struct world world;
    struct rmj_buf object;
    make_world(&world, 11, 60, 16, 40);
    write_world(&world, &object);
    struct rmj_rng rng;
    rmj_rng_init(&rng, 1234, 0);
    char *copy = malloc(object.size);
    int refused = 0, rounds = 6000;
    for (int round = 0; round < rounds; round++) {
        memcpy(copy, object.bytes, object.size);
        size_t size = object.size;
        int edits = 1 + (int)rmj_rng_below(&rng, 3);
        for (int i = 0; i < edits; i++) {
            size_t span = round % 2 == 0 ? sizeof(struct rmj_plan_header) : size;
            copy[rmj_rng_below(&rng, span)] = (char)rmj_rng_next(&rng);
        }
        if (round % 5 == 0) {
            size = rmj_rng_below(&rng, size);
        }
        struct rmj_plan *plan = NULL;
        if (rmj_plan_parse(&plan, copy, size, NULL) != RMJ_OK) {
            refused++;
            assert_null(plan);
        }
        rmj_plan_close(plan);
    }
    assert_true(refused > rounds / 2);
    free(copy);
    rmj_buf_deinit(&object);
    free_world(&world);
}

// Sections rewritten so that they decompress but lie.
static void a_plan_whose_records_lie_is_refused(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    for (int lie = 0; lie < 3; lie++) {
        struct world world;
        struct rmj_buf object;
        struct rmj_plan *plan = NULL;
        make_world(&world, 5, 20, 8, 30);
        switch (lie) {
        case 0:
            world.pairs[3].file = 2;
            break;
        case 1:
            world.pairs[7].row = 0;
            break;
        default:
            world.pairs[9].zero = 1;
            break;
        }
        spool_world(&world, 20);
        write_world(&world, &object);
        assert_int_equal(rmj_plan_parse(&plan, object.bytes, object.size, &err), RMJ_CORRUPT);
        rmj_plan_close(plan);
        rmj_buf_deinit(&object);
        free_world(&world);
    }
}

// Each step is indexed over the whole vocabulary; found by tests/fuzz/fuzz_plan.c as minutes for a few bytes.
static void a_plan_of_a_vocabulary_that_no_model_has_is_refused(void **state)
{
    (void)state;
    struct world world;
    struct rmj_buf object;
    struct rmj_plan *plan = NULL;
    struct rmj_error err = {0};
    struct rmj_plan_header header;
    make_world(&world, 5, 20, 8, 30);
    spool_world(&world, 20);
    write_world(&world, &object);
    memcpy(&header, object.bytes, sizeof header);
    header.vocabulary_size = RMJ_PLAN_VOCABULARY_SIZE_MAX + 1;
    header.pad_token = header.vocabulary_grows ? (int32_t)header.vocabulary_size : header.pad_token;
    memcpy(object.bytes, &header, sizeof header);
    assert_int_equal(rmj_plan_parse(&plan, object.bytes, object.size, &err), RMJ_CORRUPT);
    rmj_plan_close(plan);
    rmj_buf_deinit(&object);
    free_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_in_exactly_one_pack_of_its_step),
        cmocka_unit_test(equal_inputs_give_equal_bytes),
        cmocka_unit_test(a_step_over_2048_packs_is_refused),
        cmocka_unit_test(first_fit_is_deterministic_and_tight),
        cmocka_unit_test(a_common_prefix_leaves_a_row_to_every_branch),
        cmocka_unit_test(a_damaged_plan_never_crashes),
        cmocka_unit_test(a_plan_whose_records_lie_is_refused),
        cmocka_unit_test(a_plan_of_a_vocabulary_that_no_model_has_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
