// The learning rate of a step.
#include <math.h>

#include "kernels/cpu/math.h"
#include "trainer/optim/optim.h"

#define PI 0x1.921fb54442d18p+1

// Warm-up rises linearly over ceil(warmup_ratio * steps) steps, the first of which is not zero-sized; then the schedule
// falls from peak to peak * end_ratio at the step after the last.
double rmj_learning_rate(enum rmj_schedule schedule, double peak, double warmup_ratio, double end_ratio, uint32_t step,
                         uint32_t step_count)
{
    RMJ_ASSERT(step >= 1 && step <= step_count);
    double warmup = ceil(warmup_ratio * step_count), done = step - 1;
    if (done < warmup) {
        return peak * step / (warmup + 1);
    }
    double progress = (done - warmup) / (step_count - warmup);
    switch (schedule) {
    case RMJ_SCHEDULE_LINEAR:
        return peak * (1 - progress * (1 - end_ratio));
    case RMJ_SCHEDULE_COSINE:
        return peak * (end_ratio + (1 - end_ratio) * 0.5 * (1 + rmj_math_cos(PI * progress)));
    case RMJ_SCHEDULE_CONSTANT:
        break;
    }
    return peak;
}
