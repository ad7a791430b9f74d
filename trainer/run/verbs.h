// Verbs of the command line that run here, in rmjob-rank, because they need the trainer's code: `rmjob model verify`
// and `rmjob data show`. The command line passes its standard output, standard error and this exit code through.
#ifndef RMJ_TRAINER_RUN_VERBS_H
#define RMJ_TRAINER_RUN_VERBS_H

// model-verify DIRECTORY --batch FILE --expected FILE [--tolerance X] [--threads N] [--all] [--json] [--colour]
// Exit code: 0 equal, 6 not equal or a file that cannot be used, 2 usage.
int rmj_verb_model_verify(int argc, char **argv);
// data-show --spec FILE.json --rows LIST [--json] [--colour]
int rmj_verb_data_show(int argc, char **argv);

#endif
