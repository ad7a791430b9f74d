// Snapshot slots outlive their writer, and the shares of pages and packs are the same on every rank.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rng.h"
#include "trainer/run/share.h"
#include "trainer/run/slots.h"

enum { PAGES = 5 };

static struct rmj_page pages[PAGES] = {{0, 2048}, {2048, 1024}, {3072, 1024}, {4096, 3072}, {7168, 1024}};
static const struct rmj_layout layout = {.element_count = 8192, .pages = pages, .page_count = PAGES};
static int fds[RMJ_SLOT_COUNT];

static int make_fds(void **state)
{
    (void)state;
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        fds[i] = memfd_create("slot", MFD_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    return 0;
}

static int drop_fds(void **state)
{
    (void)state;
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        close(fds[i]);
    }
    return 0;
}

static void write_slot(struct rmj_slots *slots, struct rmj_slot *slot, uint32_t step, const uint32_t *own,
                       uint32_t count, int finish)
{
    uint32_t state = step * 10;
    assert_int_equal(rmj_slot_begin(slots, slot, step, &layout, own, count, sizeof state, NULL), RMJ_OK);
    memcpy(rmj_slot_state(slot), &state, sizeof state);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = pages[own[i]].element_count * 3;
        for (uint64_t k = 0; k < n; k++) {
            rmj_slot_data(slot, i)[k] = (float)(step * 100 + own[i]);
        }
    }
    slot->current = 1;
    if (finish) {
        rmj_slot_finish(slot);
    }
}

static void a_complete_snapshot_outlives_its_writer(void **state)
{
    (void)state;
    struct rmj_slots slots;
    const uint32_t own[] = {1, 3};
    assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
    write_slot(&slots, &slots.slots[0], 4, own, 2, 1);
    write_slot(&slots, &slots.slots[1], 5, own, 2, 0); // its writer dies while copying
    rmj_slots_close(&slots);

    assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
    const float *page = rmj_slots_find(&slots, 4, 3, pages[3].element_count);
    assert_non_null(page);
    assert_true(page[0] == 403 && page[3 * 3072 - 1] == 403);
    assert_int_equal(*(const uint32_t *)rmj_slots_find_state(&slots, 4, 4), 40);
    assert_null(rmj_slots_find(&slots, 4, 0, pages[0].element_count));
    assert_null(rmj_slots_find(&slots, 5, 1, pages[1].element_count));
    assert_null(rmj_slots_find(&slots, 4, 3, 77));
    rmj_slots_close(&slots);
}

static void another_jobs_snapshot_is_not_taken(void **state)
{
    (void)state;
    struct rmj_slots slots;
    const uint32_t own[] = {0};
    assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
    write_slot(&slots, &slots.slots[0], 1, own, 1, 1);
    rmj_slots_close(&slots);
    assert_int_equal(rmj_slots_open(&slots, fds, "other", NULL), RMJ_OK);
    assert_null(rmj_slots_find(&slots, 1, 0, pages[0].element_count));
    rmj_slots_close(&slots);
}

static void nonsense_in_a_slot_counts_as_empty(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rmj_slots slots;
        struct rmj_rng rng;
        const uint32_t own[] = {0, 2, 4};
        rmj_rng_init(&rng, seed, 0);
        assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
        write_slot(&slots, &slots.slots[0], 2, own, 3, 1);
        for (int i = 0; i < 4; i++) { // damage in header and table
            slots.slots[0].bytes[72 + rmj_rng_below(&rng, i % 2 ? 40 : 4100)] = (char)rmj_rng_next(&rng);
        }
        rmj_slots_close(&slots);
        assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
        for (uint32_t page = 0; page < PAGES; page++) {
            const float *found = rmj_slots_find(&slots, 2, page, pages[page].element_count);
            if (found != NULL) { // then all of it must be there to read
                volatile float last = found[3 * pages[page].element_count - 1];
                (void)last;
            }
        }
        rmj_slots_close(&slots);
    }
}

static void a_slot_takes_what_its_pages_need(void **state)
{
    (void)state;
    struct rmj_slots slots;
    const uint32_t all[] = {0, 1, 2, 3, 4}, one[] = {1};
    assert_int_equal(rmj_slots_open(&slots, fds, "job", NULL), RMJ_OK);
    write_slot(&slots, &slots.slots[0], 1, all, PAGES, 1);
    size_t whole = slots.slots[0].size;
    write_slot(&slots, &slots.slots[0], 2, one, 1, 1);
    assert_true(slots.slots[0].size * 4 < whole);
    rmj_slots_close(&slots);
}

// The rule of the reference: kept until a newer one is complete everywhere, or pinned.
static void the_newest_whole_snapshot_is_never_overwritten(void **state)
{
    (void)state;
    struct rmj_slots slots;
    const uint32_t own[] = {0};
    assert_int_equal(rmj_slots_open(&slots, fds, "fresh", NULL), RMJ_OK);
    for (uint32_t step = 1; step < 40; step++) {
        uint32_t everywhere = step - 1;
        struct rmj_slot *slot = rmj_slots_pick(&slots, everywhere, 0);
        assert_non_null(slot);
        write_slot(&slots, slot, step, own, 1, 1);
        if (everywhere > 0) {
            assert_non_null(rmj_slots_find(&slots, everywhere, 0, pages[0].element_count));
        }
        if (step % 7 == 0) {
            slot->pinned = 1; // an upload takes five steps
        }
        if (step % 7 == 5 && step > 7) {
            uint32_t pinned = step - 5;
            assert_non_null(rmj_slots_find(&slots, pinned, 0, pages[0].element_count));
            for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
                slots.slots[i].pinned = 0;
            }
        }
    }
    // A new generation resumes at 39: the old copy stays until the new owners have theirs.
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        slots.slots[i].current = slots.slots[i].pinned = 0;
    }
    const struct rmj_slot *old = NULL;
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        old = rmj_slot_header(&slots.slots[i])->step == 39 ? &slots.slots[i] : old;
    }
    struct rmj_slot *slot = rmj_slots_pick(&slots, 0, 39);
    assert_ptr_not_equal(slot, old);
    write_slot(&slots, slot, 39, own, 1, 1);
    assert_ptr_not_equal(rmj_slots_pick(&slots, 0, 39), old);
    struct rmj_slot *next = rmj_slots_pick(&slots, 39, 39);
    assert_ptr_not_equal(next, slot);
    rmj_slots_close(&slots);
}

// Generations that end without a step leave a copy of the resume step in every slot; the next one still gets a slot,
// and the pages that only one slot holds are not the ones to go.
static void three_copies_of_one_step_still_leave_room(void **state)
{
    (void)state;
    struct rmj_slots slots;
    const uint32_t first[] = {0, 1}, second[] = {0}, third[] = {1, 2};
    assert_int_equal(rmj_slots_open(&slots, fds, "restless", NULL), RMJ_OK);
    write_slot(&slots, &slots.slots[0], 41, first, 2, 1);
    write_slot(&slots, &slots.slots[1], 41, second, 1, 1);
    write_slot(&slots, &slots.slots[2], 41, third, 2, 1);
    for (int i = 0; i < RMJ_SLOT_COUNT; i++) {
        slots.slots[i].current = slots.slots[i].pinned = 0;
    }
    struct rmj_slot *slot = rmj_slots_pick(&slots, 0, 41);
    assert_non_null(slot);
    assert_ptr_not_equal(slot, &slots.slots[2]); // the only copy of page 2
    rmj_slots_close(&slots);
}

static void shares_are_even_and_cover_everything(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rmj_rng rng;
        double costs[100], loads[8] = {0}, total = 0, most = 0, heaviest = 0;
        uint32_t order[100], owners[100];
        rmj_rng_init(&rng, seed, 0);
        uint32_t count = 1 + (uint32_t)rmj_rng_below(&rng, 100), world = 1 + (uint32_t)rmj_rng_below(&rng, 8);
        for (uint32_t i = 0; i < count; i++) {
            costs[i] = 1 + (double)rmj_rng_below(&rng, 50);
            total += costs[i];
            heaviest = costs[i] > heaviest ? costs[i] : heaviest;
        }
        rmj_share(costs, count, world, order, owners);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(owners[i] < world);
            loads[owners[i]] += costs[i];
            most = loads[owners[i]] > most ? loads[owners[i]] : most;
        }
        // Graham (1969): within a heaviest item of the mean.
        assert_true(most <= total / world + heaviest);
    }
}

static void equal_costs_are_dealt_out_by_index(void **state)
{
    (void)state;
    const double costs[] = {1, 1, 1, 1, 1};
    uint32_t order[5], owners[5];
    const uint32_t expected[] = {0, 1, 2, 0, 1};
    rmj_share(costs, 5, 3, order, owners);
    assert_memory_equal(owners, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_complete_snapshot_outlives_its_writer, make_fds, drop_fds),
        cmocka_unit_test_setup_teardown(another_jobs_snapshot_is_not_taken, make_fds, drop_fds),
        cmocka_unit_test_setup_teardown(nonsense_in_a_slot_counts_as_empty, make_fds, drop_fds),
        cmocka_unit_test_setup_teardown(a_slot_takes_what_its_pages_need, make_fds, drop_fds),
        cmocka_unit_test_setup_teardown(the_newest_whole_snapshot_is_never_overwritten, make_fds, drop_fds),
        cmocka_unit_test_setup_teardown(three_copies_of_one_step_still_leave_room, make_fds, drop_fds),
        cmocka_unit_test(shares_are_even_and_cover_everything),
        cmocka_unit_test(equal_costs_are_dealt_out_by_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
