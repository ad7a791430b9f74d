#include "trainer/run/settings.h"

#include <string.h>
#include <unistd.h>

#define GIVEN(message, field, fallback) ((message) != NULL && (message)->has_##field ? (message)->field : (fallback))

static size_t thread_count(const Rmjob__V1__JobSpec *spec)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t ranks = GIVEN(spec->elastic, max_ranks, 1);
    uint32_t threads = GIVEN(spec->resources, threads, 0);
    if (threads == 0) {
        threads = (uint32_t)(cores < 1 ? 1 : cores) / (ranks == 0 ? 1 : ranks);
    }
    return threads == 0 ? 1 : threads;
}

void rmj_settings_read(struct rmj_settings *settings, const Rmjob__V1__JobSpec *spec)
{
    static const enum rmj_schedule schedules[] = {[RMJOB__V1__SCHEDULE__constant] = RMJ_SCHEDULE_CONSTANT,
                                                  [RMJOB__V1__SCHEDULE__linear] = RMJ_SCHEDULE_LINEAR,
                                                  [RMJOB__V1__SCHEDULE__cosine] = RMJ_SCHEDULE_COSINE};
    static const enum rmj_head_init heads[] = {[RMJOB__V1__HEAD_INIT__normal] = RMJ_HEAD_NORMAL,
                                               [RMJOB__V1__HEAD_INIT__zeros] = RMJ_HEAD_ZEROS,
                                               [RMJOB__V1__HEAD_INIT__base] = RMJ_HEAD_BASE};
    const Rmjob__V1__TrainSpec *train = spec->train;
    *settings = (struct rmj_settings){
        .learning_rate = GIVEN(train, learning_rate, 3.0e-6),
        .warmup_ratio = GIVEN(train, warmup_ratio, 0.03),
        .end_ratio = GIVEN(train, min_learning_rate_ratio, 0),
        .weight_decay = GIVEN(train, weight_decay, 0),
        .beta1 = GIVEN(train, beta1, 0.9),
        .beta2 = GIVEN(train, beta2, 0.95),
        .epsilon = GIVEN(train, epsilon, 1e-8),
        .max_grad_norm = GIVEN(train, max_grad_norm, 1.0),
        .seed = GIVEN(train, seed, 0),
        .margin_watch = GIVEN(train, margin_watch, RMJOB__V1__MARGIN_WATCH__stop),
        .thread_count = thread_count(spec),
    };
    unsigned schedule = (unsigned)GIVEN(train, schedule, RMJOB__V1__SCHEDULE__linear);
    unsigned head = (unsigned)GIVEN(train, head_init, RMJOB__V1__HEAD_INIT__normal);
    settings->schedule = schedules[schedule < RMJ_COUNT(schedules) ? schedule : RMJOB__V1__SCHEDULE__linear];
    settings->head_init = heads[head < RMJ_COUNT(heads) ? head : RMJOB__V1__HEAD_INIT__normal];
    const char *interval = spec->checkpoint == NULL ? NULL : spec->checkpoint->interval;
    settings->checkpoint_off = interval != NULL && strcmp(interval, "off") == 0;
}
