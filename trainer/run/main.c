// rmjob-rank: one rank of a job (supervisor and trainer), and the CPU-only tasks that come before and beside ranks.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/run/exit_codes.h"
#include "trainer/run/supervisor.h"
#include "trainer/run/tasks.h"
#include "trainer/run/trainer.h"
#include "trainer/run/verbs.h"

static const char usage[] =
    "usage: rmjob-rank --server ADDRESS --job ID --rank-uid UID    one rank of a job\n"
    "       rmjob-rank check --spec FILE.json                     check a spec's inputs\n"
    "       rmjob-rank prepare --server ADDRESS --job ID          read the data, make the plan\n"
    "       rmjob-rank score DIRECTORY                            score JSON lines from stdin\n"
    "       rmjob-rank model-verify DIRECTORY --batch FILE --expected FILE [flags]\n"
    "                                                             for `rmjob model verify`\n"
    "       rmjob-rank data-show --spec FILE.json --rows LIST [flags]\n"
    "                                                             for `rmjob data show`\n"
    "the rank's token is taken from RMJOB_RANK_TOKEN\n";

static const char *flag(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return NULL;
}

static unsigned number(const char *text)
{
    return text == NULL ? 0 : (unsigned)strtoul(text, NULL, 10);
}

static int complain(void)
{
    fputs(usage, stderr);
    return RMJ_RANK_USAGE;
}

static int run_trainer(int argc, char **argv)
{
    struct rmj_trainer_options options = {.server = flag(argc, argv, "--server"),
                                          .token = getenv("RMJOB_RANK_TOKEN"),
                                          .job = flag(argc, argv, "--job"),
                                          .rank_uid = flag(argc, argv, "--rank-uid"),
                                          .incarnation = number(flag(argc, argv, "--incarnation")),
                                          .supervisor_pid = number(flag(argc, argv, "--supervisor")),
                                          .work = flag(argc, argv, "--work")};
    const char *slots = flag(argc, argv, "--slots");
    if (options.server == NULL || options.job == NULL || options.rank_uid == NULL || options.work == NULL ||
        slots == NULL ||
        sscanf(slots, "%d,%d,%d", &options.slot_fds[0], &options.slot_fds[1], &options.slot_fds[2]) != RMJ_SLOT_COUNT) {
        return complain();
    }
    return rmj_trainer_main(&options);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    const char *server = flag(argc, argv, "--server"), *job = flag(argc, argv, "--job");
    if (strcmp(mode, "--trainer") == 0) {
        return run_trainer(argc, argv);
    }
    if (strcmp(mode, "check") == 0) {
        const char *spec = flag(argc, argv, "--spec");
        return spec == NULL ? complain() : rmj_task_check(spec);
    }
    if (strcmp(mode, "prepare") == 0) {
        return server == NULL || job == NULL ? complain() : rmj_task_prepare(server, job);
    }
    if (strcmp(mode, "score") == 0 && argc == 3) {
        return rmj_task_score(argv[2]);
    }
    if (strcmp(mode, "model-verify") == 0) {
        return rmj_verb_model_verify(argc, argv);
    }
    if (strcmp(mode, "data-show") == 0) {
        return rmj_verb_data_show(argc, argv);
    }
    struct rmj_supervisor_options options = {server, job, flag(argc, argv, "--rank-uid")};
    if (server == NULL || job == NULL || options.rank_uid == NULL) {
        return complain();
    }
    return rmj_supervisor_main(&options);
}
