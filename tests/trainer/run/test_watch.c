// The margin watch on simulated runs, by seed: quiet on healthy ones, awake on falls.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "base/status.h"
#include "trainer/run/watch.h"

enum { STEPS = 1000, RUNS = 3000, PAIRS = 32, FALL_AT = 500 };

// Mean margin of the data at a step; noise is added by the run.
typedef double (*curve_fn)(int step);

static double saturating(double x)
{
    return 1.2 * (1 - exp(-x / 120));
}

static double learning(int step)
{
    return saturating(step);
}

static double plateau(int step)
{
    (void)step;
    return 0.8;
}

static double never_learns(int step)
{
    (void)step;
    return 0;
}

// A plateau whose level wanders a little, as sources of different difficulty make it.
static double wandering(int step)
{
    return saturating(step) * (1 + 0.08 * sin(step / 40.0));
}

static double collapse(int step)
{
    return step < FALL_AT ? saturating(step) : 0.1;
}

static double reversal(int step)
{
    return step < FALL_AT ? saturating(step) : -saturating(step);
}

static double slow_fall(int step)
{
    return step < FALL_AT ? saturating(step) : saturating(FALL_AT) - 0.83 * fmin(1, (step - FALL_AT) / 40.0);
}

// Step of the first alarm, or -1. spread: standard deviation of one pair's margin.
static int run(curve_fn curve, double spread, uint64_t seed)
{
    struct rmj_watch watch = {0};
    struct rmj_rng rng;
    rmj_rng_init(&rng, seed, 0);
    for (int step = 0; step < STEPS; step++) {
        double mean = curve(step) + spread * rmj_rng_normal(&rng) / sqrt(PAIRS);
        if (rmj_watch_step(&watch, mean, spread * spread, PAIRS)) {
            return step;
        }
    }
    return -1;
}

static void expect_quiet(const char *name, curve_fn curve, double spread)
{
    int alarms = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        alarms += run(curve, spread, seed) >= 0;
    }
    printf("%-14s spread %.2f: %d alarms in %d runs of %d steps\n", name, spread, alarms, RUNS, STEPS);
    assert_true(alarms * 1000 < RUNS);
}

static void healthy_runs_raise_no_alarm(void **state)
{
    (void)state;
    const double spreads[] = {0.3, 1.5};
    for (size_t i = 0; i < 2; i++) {
        expect_quiet("learning", learning, spreads[i]);
        expect_quiet("plateau", plateau, spreads[i]);
        expect_quiet("never learns", never_learns, spreads[i]);
        expect_quiet("wandering", wandering, spreads[i]);
    }
}

static void expect_seen(const char *name, curve_fn curve, double spread, int within)
{
    int worst = 0, early = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        int step = run(curve, spread, seed);
        assert_true(step >= 0);
        early += step < FALL_AT;
        worst = step - FALL_AT > worst ? step - FALL_AT : worst;
    }
    printf("%-14s spread %.2f: seen within %d steps\n", name, spread, worst);
    assert_int_equal(early, 0);
    assert_true(worst <= within);
}

static void falls_are_seen_within_sixty_steps(void **state)
{
    (void)state;
    const double spreads[] = {0.3, 1.5};
    for (size_t i = 0; i < 2; i++) {
        expect_seen("collapse", collapse, spreads[i], 60);
        expect_seen("reversal", reversal, spreads[i], 60);
        expect_seen("slow fall", slow_fall, spreads[i], 60);
    }
}

static void one_wild_step_is_no_alarm(void **state)
{
    (void)state;
    struct rmj_watch watch = {0};
    for (int step = 0; step < 200; step++) {
        assert_int_equal(rmj_watch_step(&watch, step == 150 ? -5 : 0.8 + 0.01 * (step % 3), 0.09, PAIRS), 0);
    }
}

// Runs, of `runs`, in which the labels seem to carry no signal.
static int absent(uint32_t pairs, double right, int ties, int runs)
{
    int found = 0;
    for (int seed = 1; seed <= runs; seed++) {
        struct rmj_signal signal = {0};
        struct rmj_rng rng;
        float margins[PAIRS];
        rmj_rng_init(&rng, (uint64_t)seed, 1);
        for (uint32_t at = 0; at < pairs; at += PAIRS) {
            uint32_t count = pairs - at < PAIRS ? pairs - at : PAIRS;
            for (uint32_t i = 0; i < count; i++) {
                double sign = rmj_rng_uniform(&rng) < right ? 1 : -1;
                margins[i] = ties ? 0 : (float)(sign * fabs(rmj_rng_normal(&rng)));
            }
            rmj_signal_take(&signal, margins, count);
        }
        assert_int_equal(signal.pairs, pairs);
        found += rmj_signal_is_absent(&signal);
    }
    return found;
}

static void labels_without_signal_are_told_from_weak_ones(void **state)
{
    (void)state;
    static const struct {
        uint32_t pairs;
        double right;
        double least, most; // share of runs in which the signal is absent
    } cases[] = {
        {799, 0.5, 0, 0},        {800, 0.5, 0.62, 1},   {800, 0.55, 0, 0.02},   {800, 0.6, 0, 0},
        {1000, 0.5, 0.75, 1},    {1500, 0.5, 0.9, 1},   {4000, 0.5, 0.95, 1},   {20000, 0.5, 0.95, 1},
        {1000, 0.55, 0, 0.02},   {2000, 0.55, 0, 0.02}, {3000, 0.55, 0, 0.002}, {20000, 0.55, 0, 0},
        {20000, 0.52, 0, 0.001}, {1000, 0.65, 0, 0},    {4000, 0.4, 1, 1},
    };
    for (size_t i = 0; i < RMJ_COUNT(cases); i++) {
        double share = absent(cases[i].pairs, cases[i].right, 0, 1000) / 1000.0;
        printf("%5u pairs, %2.0f %% right: no signal in %.1f %% of runs\n", cases[i].pairs, 100 * cases[i].right,
               100 * share);
        assert_true(share >= cases[i].least && share <= cases[i].most);
    }
    assert_int_equal(absent(2000, 1, 1, 1), 1); // a model that scores everything alike
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(healthy_runs_raise_no_alarm),
        cmocka_unit_test(falls_are_seen_within_sixty_steps),
        cmocka_unit_test(one_wild_step_is_no_alarm),
        cmocka_unit_test(labels_without_signal_are_told_from_weak_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
