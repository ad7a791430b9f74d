// The life of a trainer: fetch the work, prove the device class, attach, and run one generation after another until
// told to leave.
#include "trainer/run/trainer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "kernels/cpu/cpu.h"
#include "trainer/run/exit_codes.h"

#define STORE_AWAY_MS (4 * 60 * 1000) // under what the service waits for a rank to attach
#define STORE_PAUSE_MS 1000
#define WAIT_MS 1000
#define LEAVE_WAIT_MS 3000 // for the service's word after this rank said that it leaves
#define FAILED_WAIT_MS 60000

static int exit_code_of(enum rmj_status status)
{
    switch (status) {
    case RMJ_OK:
        return RMJ_RANK_FINISHED;
    case RMJ_DATA:
    case RMJ_INVALID:
    case RMJ_CORRUPT:
    case RMJ_NOT_FOUND:
        return RMJ_RANK_DATA;
    case RMJ_DENIED:
    case RMJ_DEVICE:
        return RMJ_RANK_REFUSED;
    case RMJ_UNREACHABLE:
    case RMJ_TIMEOUT:
        return RMJ_RANK_SERVICE_GONE;
    case RMJ_NO_MEMORY:
        return RMJ_RANK_NO_MEMORY;
    default:
        return RMJ_RANK_INTERNAL;
    }
}

// Before the link's threads run, a notice only waits to be taken.
static int told_to_leave(void)
{
    sigset_t pending;
    sigemptyset(&pending);
    return sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT));
}

// A store that is away for a while is no fault of the rank: it waits, as it would in the middle of training.
static enum rmj_status open_store(struct rmj_store **store, const char *url, struct rmj_error *err)
{
    int64_t until = rmj_clock_mono_ms() + STORE_AWAY_MS;
    for (;;) {
        enum rmj_status status = rmj_store_open(store, url, 1, NULL, err);
        int may_pass = status == RMJ_UNREACHABLE || status == RMJ_TIMEOUT || status == RMJ_AGAIN || status == RMJ_IO ||
                       status == RMJ_FULL;
        if (!may_pass || rmj_clock_mono_ms() >= until || told_to_leave()) {
            return status;
        }
        rmj_clock_sleep_ms(STORE_PAUSE_MS);
    }
}

static enum rmj_status open_work(struct rmj_trainer *trainer, struct rmj_error *err)
{
    RMJ_TRY(rmj_link_task(trainer->link, &trainer->task, err));
    const Rmjob__V1__TaskSpec *task = trainer->task;
    if (task->spec == NULL || task->spec->base_model == NULL || task->checkpoint_store == NULL ||
        task->publish_store == NULL || task->job_uid == NULL || strlen(task->job_uid) > 63) {
        return rmj_fail(err, RMJ_INTERNAL, "the service gave job %s without spec, stores or uid",
                        trainer->options->job);
    }
    trainer->spec = task->spec;
    trainer->prefix = task->job_uid;
    rmj_settings_read(&trainer->settings, trainer->spec);
    RMJ_TRY(rmj_cpu_check(err));
    RMJ_TRY(rmj_pool_create(&trainer->pool, trainer->settings.thread_count, rmj_cpu_thread_start, err));
    RMJ_TRY(open_store(&trainer->checkpoint_store, task->checkpoint_store, err));
    RMJ_TRY(open_store(&trainer->publish_store, task->publish_store, err));
    return rmj_model_config_read(&trainer->config, trainer->spec->base_model, err);
}

static enum rmj_status open_rank(struct rmj_trainer *trainer, struct rmj_error *err)
{
    char probe[RMJ_DIGEST_HEX_SIZE];
    RMJ_TRY(rmj_slots_open(&trainer->slots, trainer->options->slot_fds, trainer->prefix, err));
    RMJ_TRY(rmj_probe(&trainer->config, trainer->pool, probe, err));
    RMJ_TRY(rmj_comm_listen(&trainer->listener, getenv("RMJOB_COMM_HOST"), err));
    RMJ_TRY(rmj_copier_start(trainer, err));
    RMJ_TRY(rmj_uploader_start(trainer, err));
    rmj_link_inventory(trainer->link, &trainer->slots);
    return rmj_link_start(trainer->link, rmj_comm_listener_address(trainer->listener), probe, err);
}

// This rank's word after a generation, if the service waits for one.
static void answer(struct rmj_trainer *trainer, uint32_t generation, enum rmj_status status, int suspect,
                   const struct rmj_error *err)
{
    int told = status == RMJ_OK || status == RMJ_CANCELLED;
    struct rmj_ready ready = {.generation = generation,
                              .problem = told ? NULL : err->message,
                              .suspect = told ? -1 : suspect,
                              .bad_manifest =
                                  trainer->generation.bad_manifest[0] ? trainer->generation.bad_manifest : NULL,
                              .leaving = rmj_link_notice(trainer->link)};
    if (!told) {
        char reason[RMJ_ERROR_MESSAGE_SIZE];
        rmj_log(RMJ_LOG_WARN, "rank", "event=generation_broke job=%s generation=%u suspect=%d reason=%s",
                trainer->options->job, generation, suspect, rmj_log_quote(reason, sizeof reason, err->message));
    }
    if (told) {
        rmj_link_flush(trainer->link, RMJ_NOTICE_MS / 5); // the service decides by the manifest it knows of
    }
    rmj_link_ready(trainer->link, &ready, ready.leaving ? RMJ_NOTICE_MS / 5 : RMJ_SERVICE_GONE_MS);
}

// Faults of the job itself, which every next generation would meet again.
static int is_hopeless(enum rmj_status status)
{
    return status == RMJ_DATA || status == RMJ_NO_MEMORY || status == RMJ_INVALID;
}

static void fail_hopeless(struct rmj_trainer *trainer, uint32_t generation, enum rmj_status status,
                          const struct rmj_error *err)
{
    char what[RMJ_ERROR_MESSAGE_SIZE + 8];
    snprintf(what, sizeof what, "what   %s", err->message);
    const char *lines[] = {what, status == RMJ_NO_MEMORY ? "mend   give the ranks more memory, or fewer pairs a step"
                                                         : "mend   put the input right and submit a new job"};
    rmj_link_fail_job(trainer->link, generation,
                      status == RMJ_NO_MEMORY ? RMJOB__V1__JOB_STATE__FAILED_INFRASTRUCTURE
                                              : RMJOB__V1__JOB_STATE__FAILED_DATA,
                      err->message, lines, RMJ_COUNT(lines));
}

struct life {
    uint32_t unanswered; // generation whose end this rank has not answered yet
    int64_t leave_by;    // mono ms, 0: no end in sight
    int exit_code;       // -1: goes on
};

static void run_generation(struct rmj_trainer *trainer, Rmjob__V1__Assignment *assignment, struct life *life)
{
    struct rmj_error err = {0};
    int suspect = -1;
    uint32_t generation = assignment->generation;
    enum rmj_status status = rmj_generation_run(trainer, assignment, &suspect, &err);
    life->unanswered = 0;
    if (is_hopeless(status)) {
        fail_hopeless(trainer, generation, status, &err);
        life->exit_code = exit_code_of(status);
    } else if (status == RMJ_OK && (trainer->generation.finished || trainer->generation.failed)) {
        life->unanswered = generation; // done for now; the service may still end it
        life->leave_by = trainer->generation.failed ? rmj_clock_mono_ms() + FAILED_WAIT_MS : 0;
    } else {
        answer(trainer, generation, status, suspect, &err);
    }
    if (rmj_link_notice(trainer->link)) {
        life->leave_by = rmj_clock_mono_ms() + LEAVE_WAIT_MS;
    }
}

static void follow(struct rmj_trainer *trainer, struct rmj_directive *directive, struct life *life)
{
    struct rmj_error none = {0};
    switch (directive->kind) {
    case RMJ_DIRECTIVE_ASSIGN:
        // A rank that is leaving takes no new place.
        if (!rmj_link_notice(trainer->link)) {
            life->leave_by = 0;
            run_generation(trainer, directive->assignment, life);
        }
        protobuf_c_message_free_unpacked(&directive->assignment->base, NULL);
        break;
    case RMJ_DIRECTIVE_END:
        answer(trainer, life->unanswered, RMJ_OK, -1, &none);
        life->unanswered = 0;
        break;
    case RMJ_DIRECTIVE_LEAVE:
        life->exit_code = (int)directive->exit_code;
        break;
    case RMJ_DIRECTIVE_NOTICE:
        // Told while idle, or after the generation in which it came has been answered.
        if (life->leave_by == 0) {
            answer(trainer, life->unanswered, RMJ_OK, -1, &none);
            life->leave_by = rmj_clock_mono_ms() + LEAVE_WAIT_MS;
        }
        break;
    case RMJ_DIRECTIVE_REFUSED: {
        char reason[RMJ_ERROR_MESSAGE_SIZE];
        rmj_log(RMJ_LOG_ERROR, "rank", "event=refused job=%s reason=%s", trainer->options->job,
                rmj_log_quote(reason, sizeof reason, directive->err.message));
        life->exit_code = RMJ_RANK_REFUSED;
        break;
    }
    case RMJ_DIRECTIVE_NONE:
        break;
    }
}

static int live(struct rmj_trainer *trainer)
{
    struct life life = {.exit_code = -1};
    while (life.exit_code < 0) {
        struct rmj_directive directive;
        rmj_link_wait(trainer->link, life.unanswered, WAIT_MS, &directive);
        follow(trainer, &directive, &life);
        if (life.exit_code < 0 && life.leave_by != 0 && rmj_clock_mono_ms() > life.leave_by) {
            life.exit_code = rmj_link_notice(trainer->link) ? RMJ_RANK_LEFT : RMJ_RANK_DATA;
        }
    }
    return life.exit_code;
}

int rmj_trainer_main(const struct rmj_trainer_options *options)
{
    struct rmj_trainer trainer = {.options = options};
    struct rmj_error err = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (options->supervisor_pid != (uint32_t)getppid()) {
        return RMJ_RANK_INTERNAL; // the supervisor died before the line above
    }
    struct rmj_link_options link = {.server = options->server,
                                    .token = options->token,
                                    .job = options->job,
                                    .rank_uid = options->rank_uid,
                                    .incarnation = options->incarnation,
                                    .supervisor_pid = options->supervisor_pid};
    enum rmj_status status = rmj_link_create(&trainer.link, &link, &err);
    if (status == RMJ_OK) {
        status = open_work(&trainer, &err);
    }
    if (status == RMJ_OK) {
        status = open_rank(&trainer, &err);
    }
    int code = exit_code_of(status);
    if (status == RMJ_OK) {
        code = live(&trainer);
        rmj_link_flush(trainer.link, 1000);
    } else {
        // What the job names and is not there, or is wrong, will not be there at the next try either.
        if (trainer.task != NULL && (is_hopeless(status) || status == RMJ_NOT_FOUND)) {
            fail_hopeless(&trainer, 0, status, &err);
        }
        char reason[RMJ_ERROR_MESSAGE_SIZE];
        rmj_log(RMJ_LOG_ERROR, "rank", "event=cannot_start job=%s reason=%s", options->job,
                rmj_log_quote(reason, sizeof reason, err.message));
    }
    rmj_uploader_stop(&trainer);
    rmj_copier_stop(&trainer);
    rmj_link_destroy(trainer.link);
    rmj_comm_listener_close(trainer.listener);
    rmj_trainer_teardown(&trainer);
    rmj_slots_close(&trainer.slots);
    rmj_store_close(trainer.publish_store);
    rmj_store_close(trainer.checkpoint_store);
    rmj_pool_destroy(trainer.pool);
    if (trainer.task != NULL) {
        protobuf_c_message_free_unpacked(&trainer.task->base, NULL);
    }
    return code;
}
