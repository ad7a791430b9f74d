// The numbers that training takes from the spec, with the defaults that spec.proto documents.
#ifndef RMJ_TRAINER_RUN_SETTINGS_H
#define RMJ_TRAINER_RUN_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/rmjob/v1/spec.pb-c.h"
#include "trainer/model/checkpoint_io.h"
#include "trainer/optim/optim.h"

struct rmj_settings {
    double learning_rate, warmup_ratio, end_ratio, weight_decay, beta1, beta2, epsilon, max_grad_norm;
    enum rmj_schedule schedule;
    enum rmj_head_init head_init;
    uint64_t seed;
    int margin_watch; // Rmjob__V1__MarginWatch
    int checkpoint_off;
    size_t thread_count;
};
void rmj_settings_read(struct rmj_settings *settings, const Rmjob__V1__JobSpec *spec);

#endif
