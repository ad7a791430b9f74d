#include "trainer/run/watch.h"

#include <math.h>

// Chosen on simulated series (tests/trainer/run/test_watch.c): under unit noise the sum reaches THRESHOLD with drift
// ALLOWANCE about once in 10^7 steps, and a fall by two standard deviations of a step margin reaches it in 15.
#define LEVEL_SHARE (1.0 / 32)
#define RECENT_SHARE (1.0 / 6)
#define VARIANCE_SHARE (1.0 / 32)
#define ALLOWANCE 0.5
#define THRESHOLD 16.0
// The sum stops here, so that a fall that was made good is forgotten.
#define SUM_MAX (2 * THRESHOLD)
#define WARM_UP_STEPS 12u
// A fall must also matter: the recent margin under this share of the best level there was.
#define FALL_SHARE 0.6
// No signal: too few pairs to say so, errors over a half, and the weak signal that must pass with its errors.
#define SIGNAL_PAIRS_MIN 800u
#define SIGNAL_ERRORS 2.0
#define SIGNAL_WEAK 0.55
#define SIGNAL_WEAK_ERRORS 2.33

static double larger(double a, double b)
{
    return a > b ? a : b;
}

// Noise of one step margin: what its own pairs say, or what successive steps say, whichever is more.
static double noise(const struct rmj_watch *watch, double variance, uint32_t pair_count)
{
    double within = pair_count > 1 ? variance / pair_count : 0;
    return sqrt(larger(larger(within, watch->variance), 1e-24));
}

static void track(struct rmj_watch *watch, double mean)
{
    double n = watch->steps + 1.0;
    double difference = mean - watch->previous;
    if (watch->steps == 0) {
        watch->level = watch->recent = mean;
        watch->peak = 0;
    } else {
        double half = difference * difference / 2;
        watch->variance += larger(VARIANCE_SHARE, 1 / n) * (half - watch->variance);
        watch->level += larger(LEVEL_SHARE, 1 / n) * (mean - watch->level);
        watch->recent += larger(RECENT_SHARE, 1 / n) * (mean - watch->recent);
    }
    watch->peak = larger(watch->peak, watch->level);
    watch->previous = mean;
    watch->steps++;
}

int rmj_watch_step(struct rmj_watch *watch, double mean, double variance, uint32_t pair_count)
{
    double z = (watch->level - mean) / noise(watch, variance, pair_count) - ALLOWANCE;
    int warm = watch->steps >= WARM_UP_STEPS;
    if (warm) {
        // One wild step must not decide: a step counts at most half the threshold.
        double step = z > THRESHOLD / 2 ? THRESHOLD / 2 : z;
        if (watch->sum == 0 && step > 0) {
            watch->from = watch->level;
            watch->rise_at = watch->steps;
        }
        watch->sum = larger(0, watch->sum + step);
        watch->sum = watch->sum < SUM_MAX ? watch->sum : SUM_MAX;
    }
    track(watch, mean);
    return warm && watch->sum > THRESHOLD && watch->peak > 0 && watch->recent < FALL_SHARE * watch->peak;
}

void rmj_signal_take(struct rmj_signal *signal, const float *margins, uint32_t pair_count)
{
    for (uint32_t i = 0; i < pair_count; i++) {
        signal->right_twice += margins[i] > 0 ? 2 : margins[i] == 0 ? 1 : 0;
    }
    signal->pairs += pair_count;
}

int rmj_signal_is_absent(const struct rmj_signal *signal)
{
    if (signal->pairs < SIGNAL_PAIRS_MIN) {
        return 0;
    }
    double right = (double)signal->right_twice / 2 / (double)signal->pairs;
    double error = sqrt(0.25 / (double)signal->pairs);
    return right < 0.5 + SIGNAL_ERRORS * error && right + SIGNAL_WEAK_ERRORS * error < SIGNAL_WEAK;
}
