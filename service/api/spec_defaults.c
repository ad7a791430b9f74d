// Defaults, the places a spec names, and policies.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "service/api/spec_check.h"
#include "service/gate/gate.h"
#include "service/registry/publish.h"
#include "storage/object/store.h"

#define CHANCE 0.25
#define FLOOR_OVER_CHANCE 0.26
#define STORE_CHECK_MS 5000

// Makes the child message when it is absent: MAKE(spec->train, train_spec).
#define MAKE(pointer, type)                                                                                            \
    do {                                                                                                               \
        if ((pointer) == NULL) {                                                                                       \
            (pointer) = malloc(sizeof *(pointer));                                                                     \
            RMJ_ASSERT((pointer) != NULL);                                                                             \
            rmjob__v1__##type##__init(pointer);                                                                        \
        }                                                                                                              \
    } while (0)
#define DEFAULT(message, field, number)                                                                                \
    do {                                                                                                               \
        if (!(message)->has_##field) {                                                                                 \
            (message)->has_##field = 1;                                                                                \
            (message)->field = (number);                                                                               \
        }                                                                                                              \
    } while (0)

static void default_text(char **field, const char *text)
{
    if (*field == NULL || **field == '\0') {
        free(*field);
        *field = strdup(text);
        RMJ_ASSERT(*field != NULL);
    }
}

static void fill_data(Rmjob__V1__DataSpec *data)
{
    DEFAULT(data, max_length, 1024);
    DEFAULT(data, order, RMJOB__V1__DATA_ORDER__shuffled);
    DEFAULT(data, over_length, RMJOB__V1__OVER_LENGTH__drop);
}

static void fill_train(Rmjob__V1__TrainSpec *train)
{
    DEFAULT(train, epochs, 1);
    DEFAULT(train, global_batch_pairs, 128);
    DEFAULT(train, learning_rate, 3.0e-6);
    DEFAULT(train, schedule, RMJOB__V1__SCHEDULE__linear);
    DEFAULT(train, warmup_ratio, 0.03);
    DEFAULT(train, min_learning_rate_ratio, 0);
    DEFAULT(train, weight_decay, 0);
    DEFAULT(train, beta1, 0.9);
    DEFAULT(train, beta2, 0.95);
    DEFAULT(train, epsilon, 1e-8);
    DEFAULT(train, max_grad_norm, 1.0);
    DEFAULT(train, precision, RMJOB__V1__PRECISION__float32);
    DEFAULT(train, head_init, RMJOB__V1__HEAD_INIT__normal);
    DEFAULT(train, seed, 0);
    DEFAULT(train, use_margin, 0);
    DEFAULT(train, margin_watch, RMJOB__V1__MARGIN_WATCH__stop);
    if (train->lora != NULL) {
        DEFAULT(train->lora, rank, 16);
        DEFAULT(train->lora, alpha, 32);
    }
}

void rmj_spec_fill_defaults(Rmjob__V1__JobSpec *spec, const struct rmj_spec_defaults *defaults)
{
    MAKE(spec->data, data_spec);
    MAKE(spec->train, train_spec);
    MAKE(spec->elastic, elastic_spec);
    MAKE(spec->resources, resource_spec);
    MAKE(spec->checkpoint, checkpoint_spec);
    MAKE(spec->evaluate, evaluate_spec);
    MAKE(spec->budget, budget_spec);
    MAKE(spec->publish, publish_spec);
    default_text(&spec->project, "default");
    fill_data(spec->data);
    fill_train(spec->train);
    DEFAULT(spec->elastic, min_ranks, 1);
    DEFAULT(spec->elastic, max_ranks, 1);
    DEFAULT(spec->resources, device, RMJOB__V1__DEVICE__cpu);
    uint32_t share = defaults->core_count / (spec->elastic->max_ranks == 0 ? 1 : spec->elastic->max_ranks);
    DEFAULT(spec->resources, threads, share == 0 ? 1 : share);
    default_text(&spec->checkpoint->store, defaults->checkpoint_store);
    default_text(&spec->checkpoint->interval, "auto");
    DEFAULT(spec->checkpoint, keep, 2);
    DEFAULT(spec->budget, max_restarts, 10);
    default_text(&spec->publish->store, defaults->publish_store);
    default_text(&spec->publish->alias, "candidate");
    if (spec->train->lora != NULL) {
        DEFAULT(spec->publish, form, RMJOB__V1__PUBLISH_FORM__merged);
    }
}

// What a store that cannot be used exits with: a wrong name is the spec's, no access is access, the rest is
// infrastructure.
static uint32_t store_exit_code(enum rmj_status status)
{
    return status == RMJ_INVALID || status == RMJ_NOT_FOUND ? 2 : status == RMJ_DENIED ? 5 : 7;
}

// A directory that is not there: can it be made? Tried with another name in the nearest directory that is there, so
// that nobody meets a store that is about to be removed again. Permissions alone do not say it: root has all of them,
// and /proc takes no directories.
static void check_future_directory(const char *field, const char *path, Rmjob__V1__ValidateResponse *reply)
{
    char parent[PATH_MAX], probe[PATH_MAX + 32];
    snprintf(parent, sizeof parent, "%s", path);
    struct stat about;
    while (stat(parent, &about) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        char *slash = strrchr(parent, '/');
        slash[slash == parent] = '\0'; // "/" itself is there
    }
    if (stat(parent, &about) == 0 && !S_ISDIR(about.st_mode)) {
        rmj_finding_add(reply, field, 2, "%s is %s, and %s is not a directory", field, path, parent);
        return;
    }
    snprintf(probe, sizeof probe, "%s/.rmjob-probe-XXXXXX", strcmp(parent, "/") == 0 ? "" : parent);
    if (mkdtemp(probe) == NULL) {
        int code = errno;
        rmj_finding_add(reply, field, store_exit_code(rmj_fs_errno_status(code)),
                        "%s is %s, and no directory can be made in %s: %s", field, path, parent, strerror(code));
        return;
    }
    (void)rmdir(probe);
}

static void check_store(const char *field, const char *url, Rmjob__V1__ValidateResponse *reply)
{
    const char *path = strncmp(url, "file://", 7) == 0 ? url + 7 : url;
    struct stat about;
    if (*path == '/' && strlen(path) < PATH_MAX && stat(path, &about) != 0) {
        check_future_directory(field, path, reply);
        return;
    }
    struct rmj_store_options options = {.deadline_ms = STORE_CHECK_MS, .retry_max = 2};
    struct rmj_store *store = NULL;
    struct rmj_error err = {0};
    if (rmj_store_open(&store, url, 1, &options, &err) != RMJ_OK) {
        rmj_finding_add(reply, field, store_exit_code(err.status), "%s is %s: %s", field, url, err.message);
    }
    rmj_store_close(store);
}

void rmj_spec_check_stores(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply)
{
    check_store("checkpoint.store", spec->checkpoint->store, reply);
    check_store("publish.store", spec->publish->store, reply);
}

Rmjob__V1__Policy *rmj_policy_default(const char *project)
{
    Rmjob__V1__Policy *policy = NULL;
    MAKE(policy, policy);
    policy->project = strdup(project);
    MAKE(policy->floors, gate_spec);
    Rmjob__V1__CategoryThresholds *floors = NULL;
    MAKE(floors, category_thresholds);
    DEFAULT(floors, factuality, FLOOR_OVER_CHANCE);
    DEFAULT(floors, precise_if, FLOOR_OVER_CHANCE);
    DEFAULT(floors, math, FLOOR_OVER_CHANCE);
    DEFAULT(floors, safety, FLOOR_OVER_CHANCE);
    DEFAULT(floors, focus, FLOOR_OVER_CHANCE);
    policy->floors->rewardbench2 = floors;
    return policy;
}

void rmj_policy_check(const Rmjob__V1__Policy *policy, Rmjob__V1__ValidateResponse *reply)
{
    if (policy->project == NULL || !rmj_name_valid(policy->project)) {
        rmj_finding_add(reply, "project", 2, "project is \"%.80s\", which is no name",
                        policy->project == NULL ? "" : policy->project);
    }
    const Rmjob__V1__GateSpec *floors = policy->floors;
    const Rmjob__V1__CategoryThresholds *t = floors == NULL ? NULL : floors->rewardbench2;
    const struct {
        const char *field;
        int has;
        double value, over; // strictly over
    } shares[] = {
        {"floors.rewardbench2.factuality", t != NULL && t->has_factuality, t == NULL ? 0 : t->factuality, CHANCE},
        {"floors.rewardbench2.precise_if", t != NULL && t->has_precise_if, t == NULL ? 0 : t->precise_if, CHANCE},
        {"floors.rewardbench2.math", t != NULL && t->has_math, t == NULL ? 0 : t->math, CHANCE},
        {"floors.rewardbench2.safety", t != NULL && t->has_safety, t == NULL ? 0 : t->safety, CHANCE},
        {"floors.rewardbench2.focus", t != NULL && t->has_focus, t == NULL ? 0 : t->focus, CHANCE},
        {"floors.rewardbench2.ties", t != NULL && t->has_ties, t == NULL ? 0 : t->ties, -1},
        {"floors.heldout_accuracy_min", floors != NULL && floors->has_heldout_accuracy_min,
         floors == NULL ? 0 : floors->heldout_accuracy_min, -1},
        {"floors.max_regression", floors != NULL && floors->has_max_regression,
         floors == NULL ? 0 : floors->max_regression, -1},
    };
    for (size_t i = 0; i < RMJ_COUNT(shares); i++) {
        if (!shares[i].has) {
            continue;
        }
        if (!(shares[i].value >= 0 && shares[i].value <= 1)) {
            rmj_finding_add(reply, shares[i].field, 2, "%s is %.9g; a share between 0 and 1", shares[i].field,
                            shares[i].value);
        } else if (shares[i].value <= shares[i].over) {
            rmj_finding_add(reply, shares[i].field, 2, "%s is %.9g, not above chance (0.25)", shares[i].field,
                            shares[i].value);
        }
    }
    if (floors != NULL && floors->has_score_std_min && !(floors->score_std_min >= 0 && floors->score_std_min < 1e9)) {
        rmj_finding_add(reply, "floors.score_std_min", 2, "floors.score_std_min is %.9g; 0 or more",
                        floors->score_std_min);
    }
}
