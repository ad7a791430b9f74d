// The budget of restarts.
//
// An incident is one accident, however many words arrive about it: a loss belongs to a new incident only when the
// process lost had begun something (launched, attached, assigned) after the incident before. So 64 ranks killed at
// once are one incident.
//
// An incident is fruitless when no new step (further than any before) was committed since the incident before, or
// since the launch. Only fruitless incidents are charged, and a new step sets the charges back to none: a job that is
// killed a thousand times and moves on between finishes, and one that dies at once every time stops after max_restarts.
// Preemptions (exit code 10, a rank that said it is leaving) are never charged. Every fruitless incident, charged or
// not, doubles the back-off, so that nothing turns in a tight loop; the first is not delayed.
#include <stdarg.h>
#include <stdio.h>

#include "service/scheduler/state.h"

const char *rmj_incident_words(const struct rmj_job *job, char words[RMJ_REASON_SIZE])
{
    words[0] = '\0';
    if (job->record.restarts_charged > 0) {
        snprintf(words, RMJ_REASON_SIZE, "; restart %u of at most %u without a new step, last: %s",
                 job->record.restarts_charged, job->record.max_restarts, job->trouble);
    }
    return words;
}

static void charge(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (!job->incident_fruitless || job->incident_charged) {
        return;
    }
    job->incident_charged = 1;
    job->record.restarts_charged++;
    job->dirty = 1;
    if (job->record.restarts_charged > job->record.max_restarts) {
        rmj_job_move(
            scheduler, job, RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE,
            "stopped after %u restarts without a new step (budget.max_restarts is %u); last: %.255s; mend that "
            "(see the logs of the ranks) and submit again",
            job->record.restarts_charged, job->record.max_restarts, job->trouble);
    } else if (job->record.state == RMJOB__V1__JOB_STATE__LAUNCHING) {
        char words[RMJ_REASON_SIZE];
        snprintf(job->record.reason, sizeof job->record.reason, "starting %u rank processes%s", job->grant,
                 rmj_incident_words(job, words));
    }
}

static void open_incident(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    job->incident_fruitless = !job->progressed;
    job->incident_charged = 0;
    job->incident_kind = RMJ_INCIDENT_NONE;
    job->incidents++;
    job->progressed = 0;
    if (!job->incident_fruitless) {
        return;
    }
    job->fruitless++;
    if (job->fruitless >= 2) {
        uint32_t doublings = job->fruitless - 2 < 20 ? job->fruitless - 2 : 20;
        int64_t delay_ms = (int64_t)RMJ_BACKOFF_MS_MIN << doublings;
        if (delay_ms > scheduler->options.backoff_ms_max) {
            delay_ms = scheduler->options.backoff_ms_max;
        }
        job->not_before_ms = scheduler->now_ms + delay_ms;
    }
}

void rmj_incident(struct rmj_scheduler *scheduler, struct rmj_job *job, uint32_t epoch, enum rmj_incident_kind kind,
                  const char *format, ...)
{
    if (rmj_job_ended(job)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(job->trouble, sizeof job->trouble, format, arguments);
    va_end(arguments);
    if (epoch == job->incidents) {
        open_incident(scheduler, job);
    }
    if (kind > job->incident_kind) {
        job->incident_kind = kind;
    }
    rmj_act_note(scheduler, job, "%s%s", job->trouble,
                 kind == RMJ_INCIDENT_PREEMPTION ? "; not charged"
                 : kind == RMJ_INCIDENT_FAULT && !job->incident_fruitless
                     ? "; not charged: steps were made since the last"
                     : "");
    if (kind == RMJ_INCIDENT_FAULT) {
        charge(scheduler, job);
    }
}

// A generation is about to start: what is still unclear stays so. Somebody suspected a peer, or a stream broke, and
// nobody says it was a preemption: charged, so that ranks which cannot talk to each other do not try for ever.
void rmj_incident_resolve(struct rmj_scheduler *scheduler, struct rmj_job *job)
{
    if (job->incident_kind == RMJ_INCIDENT_UNCLEAR) {
        job->incident_kind = RMJ_INCIDENT_FAULT;
        charge(scheduler, job);
    }
}

void rmj_incident_progress(struct rmj_job *job)
{
    job->progressed = 1;
    job->fruitless = 0;
    job->not_before_ms = 0;
    job->record.restarts_charged = 0;
}
