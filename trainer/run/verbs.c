#include "trainer/run/verbs.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "trainer/data/show.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/tasks.h"
#include "trainer/run/verify.h"

#define THREADS_MAX 1024

// One flag of a verb: a switch when `set` is given, else it takes a value.
struct flag {
    const char *name;
    const char **value;
    int *set;
};

static enum rmj_status parse_flags(int argc, char **argv, const struct flag *flags, size_t count,
                                   const char **positional, struct rmj_error *err)
{
    for (int i = 2; i < argc; i++) {
        size_t f = 0;
        while (f < count && strcmp(flags[f].name, argv[i]) != 0) {
            f++;
        }
        if (f == count && positional != NULL && *positional == NULL && strncmp(argv[i], "--", 2) != 0) {
            *positional = argv[i];
        } else if (f == count) {
            return rmj_fail(err, RMJ_INVALID, "%s: '%s' is not known here", argv[1], argv[i]);
        } else if (flags[f].set != NULL) {
            *flags[f].set = 1;
        } else if (i + 1 == argc) {
            return rmj_fail(err, RMJ_INVALID, "%s: %s needs a value", argv[1], argv[i]);
        } else {
            *flags[f].value = argv[++i];
        }
    }
    return RMJ_OK;
}

// What a verb ends with. A file that is not there or cannot be read is unusable data for the one who named it.
static int finish(enum rmj_status status, const struct rmj_error *err)
{
    if (status == RMJ_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        fprintf(stderr, "rmjob: cannot write the result to standard output\n");
        return rmj_status_exit_code(RMJ_IO);
    }
    fflush(stdout);
    if (status != RMJ_OK && err->message[0] != '\0') {
        fprintf(stderr, "rmjob: %s\n", err->message);
    }
    int unreadable = status == RMJ_NOT_FOUND || status == RMJ_DENIED || status == RMJ_IO || status == RMJ_FULL;
    return rmj_status_exit_code(unreadable ? RMJ_DATA : status);
}

static enum rmj_status parse_tolerance(const char *text, double *tolerance, struct rmj_error *err)
{
    char *end;
    *tolerance = text == NULL ? RMJ_VERIFY_TOLERANCE : strtod(text, &end);
    if (text != NULL && (end == text || *end != '\0' || !isfinite(*tolerance) || !(*tolerance > 0))) {
        return rmj_fail(err, RMJ_INVALID, "--tolerance is '%s'; it must be a number over 0, such as 1e-5", text);
    }
    return RMJ_OK;
}

static enum rmj_status parse_threads(const char *text, size_t *threads, struct rmj_error *err)
{
    char *end;
    long number = text == NULL ? 0 : strtol(text, &end, 10);
    if (text != NULL && (end == text || *end != '\0' || number < 1 || number > THREADS_MAX)) {
        return rmj_fail(err, RMJ_INVALID, "--threads is '%s'; it must be a whole number from 1 to %d", text,
                        THREADS_MAX);
    }
    *threads = (size_t)number;
    return RMJ_OK;
}

int rmj_verb_model_verify(int argc, char **argv)
{
    struct rmj_error err = {0};
    struct rmj_verify_options options = {0};
    const char *tolerance = NULL, *threads = NULL;
    const struct flag flags[] = {{"--batch", &options.batch, NULL},  {"--expected", &options.expected, NULL},
                                 {"--tolerance", &tolerance, NULL},  {"--threads", &threads, NULL},
                                 {"--all", NULL, &options.all},      {"--json", NULL, &options.json},
                                 {"--colour", NULL, &options.colour}};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setenv("RMJOB_LOG", "warn", 0); // this is no service: what is to be said is in the report
    enum rmj_status status = parse_flags(argc, argv, flags, RMJ_COUNT(flags), &options.directory, &err);
    if (status == RMJ_OK && (options.directory == NULL || options.batch == NULL || options.expected == NULL)) {
        status = rmj_fail(&err, RMJ_INVALID, "model-verify needs DIRECTORY, --batch FILE and --expected FILE");
    }
    if (status == RMJ_OK) {
        status = parse_tolerance(tolerance, &options.tolerance, &err);
    }
    if (status == RMJ_OK) {
        status = parse_threads(threads, &options.thread_count, &err);
    }
    if (status == RMJ_OK) {
        status = rmj_verify(&options, stdout, &err);
    }
    return finish(status, &err);
}

int rmj_verb_data_show(int argc, char **argv)
{
    struct rmj_error err = {0};
    struct rmj_data_show_options options = {0};
    const char *spec_file = NULL;
    ProtobufCMessage *spec = NULL;
    const struct flag flags[] = {{"--spec", &spec_file, NULL},
                                 {"--rows", &options.rows, NULL},
                                 {"--json", NULL, &options.json},
                                 {"--colour", NULL, &options.colour}};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setenv("RMJOB_LOG", "warn", 0);
    enum rmj_status status = parse_flags(argc, argv, flags, RMJ_COUNT(flags), NULL, &err);
    if (status == RMJ_OK && (spec_file == NULL || options.rows == NULL)) {
        status = rmj_fail(&err, RMJ_INVALID, "data-show needs --spec FILE.json and --rows LIST");
    }
    if (status == RMJ_OK) {
        status = rmj_task_read_spec(spec_file, &spec, &err);
    }
    if (status == RMJ_OK) {
        options.spec = (const Rmjob__V1__JobSpec *)spec;
        status = rmj_data_show(&options, stdout, &err);
    }
    if (spec != NULL) {
        protobuf_c_message_free_unpacked(spec, NULL);
    }
    return finish(status, &err);
}
