// The decision, and the check of thresholds at submit.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "service/gate/gate_internal.h"

const double *rmj_threshold_of(const Rmjob__V1__CategoryThresholds *t, size_t category)
{
    if (t == NULL) {
        return NULL;
    }
    const double *values[RMJ_CATEGORY_COUNT] = {&t->factuality, &t->precise_if, &t->math,
                                                &t->safety,     &t->focus,      &t->ties};
    const int present[RMJ_CATEGORY_COUNT] = {t->has_factuality, t->has_precise_if, t->has_math,
                                             t->has_safety,     t->has_focus,      t->has_ties};
    return present[category] ? values[category] : NULL;
}

// The stricter of two optional numbers.
static const double *stricter(const double *a, const double *b)
{
    return a == NULL ? b : b == NULL ? a : *a >= *b ? a : b;
}

static const double *optional(int has, const double *value)
{
    return has ? value : NULL;
}

static void add_finding(Rmjob__V1__ValidateResponse *reply, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_finding(Rmjob__V1__ValidateResponse *reply, const char *field, const char *format, ...)
{
    char text[RMJ_ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    Rmjob__V1__Finding *finding = rmj_new_zeroed(sizeof *finding);
    rmjob__v1__finding__init(finding);
    finding->field = rmj_new_string(field);
    finding->message = rmj_new_string(text);
    finding->has_exit_code = 1;
    finding->exit_code = 2;
    rmj_repeat((void ***)&reply->findings, &reply->n_findings, finding);
}

static void check_threshold(const char *field, const double *value, const double *floor, int has_chance, int required,
                            Rmjob__V1__ValidateResponse *reply)
{
    if (value == NULL) {
        if (floor == NULL && required) {
            add_finding(reply, field,
                        "%s is not set, and the project's policy sets none; give a threshold between 0 and 1", field);
        }
        return;
    }
    if (!(*value >= 0 && *value <= 1)) {
        add_finding(reply, field, "%s is %g; a threshold is a share between 0 and 1 (60 %% is 0.60)", field, *value);
    } else if (has_chance && *value <= RMJ_CHANCE) {
        add_finding(reply, field, "%s is %g, at or under chance: guessing one of four reaches 0.25; set it above",
                    field, *value);
    } else if (floor != NULL && *value < *floor) {
        add_finding(reply, field, "%s is %g, under the project's floor of %g; a spec may only tighten the policy",
                    field, *value, *floor);
    }
}

void rmj_gate_check_spec(const Rmjob__V1__GateSpec *gate, const Rmjob__V1__GateSpec *floors,
                         Rmjob__V1__ValidateResponse *reply)
{
    static const Rmjob__V1__GateSpec none = RMJOB__V1__GATE_SPEC__INIT;
    gate = gate == NULL ? &none : gate;
    floors = floors == NULL ? &none : floors;
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        char field[64];
        snprintf(field, sizeof field, "gate.rewardbench2.%s", rmj_categories[c].key);
        check_threshold(field, rmj_threshold_of(gate->rewardbench2, c), rmj_threshold_of(floors->rewardbench2, c),
                        !rmj_categories[c].is_ties, 1, reply);
    }
    check_threshold("gate.heldout_accuracy_min", optional(gate->has_heldout_accuracy_min, &gate->heldout_accuracy_min),
                    optional(floors->has_heldout_accuracy_min, &floors->heldout_accuracy_min), 0, 0, reply);
    if (gate->has_score_std_min && !(gate->score_std_min >= 0 && isfinite(gate->score_std_min))) {
        add_finding(reply, "gate.score_std_min", "gate.score_std_min is %g; it must be 0 or more", gate->score_std_min);
    } else if (gate->has_score_std_min && floors->has_score_std_min && gate->score_std_min < floors->score_std_min) {
        add_finding(reply, "gate.score_std_min", "gate.score_std_min is %g, under the project's floor of %g",
                    gate->score_std_min, floors->score_std_min);
    }
    if (gate->has_max_regression && !(gate->max_regression >= 0 && gate->max_regression <= 1)) {
        add_finding(reply, "gate.max_regression", "gate.max_regression is %g; it is a share between 0 and 1",
                    gate->max_regression);
    } else if (gate->has_max_regression && floors->has_max_regression &&
               gate->max_regression > floors->max_regression) {
        add_finding(reply, "gate.max_regression", "gate.max_regression is %g, over the %g that the project allows",
                    gate->max_regression, floors->max_regression);
    }
    if (floors->has_decision && floors->decision == RMJOB__V1__GATE_DECISION__lower95 && gate->has_decision &&
        gate->decision == RMJOB__V1__GATE_DECISION__point) {
        add_finding(reply, "gate.decision", "gate.decision is point, and the project's policy asks for lower95");
    }
}

static Rmjob__V1__GateCheck *add_check(Rmjob__V1__GateVerdict *verdict, const char *name, double needs)
{
    Rmjob__V1__GateCheck *check = rmj_new_zeroed(sizeof *check);
    rmjob__v1__gate_check__init(check);
    check->name = rmj_new_string(name);
    check->has_needs = check->has_passed = 1;
    check->needs = needs;
    rmj_repeat((void ***)&verdict->checks, &verdict->n_checks, check);
    return check;
}

static void set_note(Rmjob__V1__GateCheck *check, const char *note)
{
    check->note = rmj_new_string(note);
}

static void set_value(Rmjob__V1__GateCheck *check, double value)
{
    check->has_value = 1;
    check->value = value;
}

// Decides a measured share with its interval.
static void decide_share(Rmjob__V1__GateCheck *check, double value, int has_interval, double low, double high,
                         int lower95, int has_chance)
{
    set_value(check, value);
    if (has_interval) {
        check->has_low = check->has_high = 1;
        check->low = low;
        check->high = high;
    }
    if (lower95 && !has_interval) {
        check->passed = 0;
        set_note(check, "no interval in this report, and the decision is lower95");
        return;
    }
    check->passed = (lower95 ? low : value) >= check->needs;
    if (!check->passed && has_chance && (has_interval ? low : value) <= RMJ_CHANCE) {
        set_note(check, "not above chance (25 %)");
    } else if (!check->passed && lower95 && value >= check->needs) {
        set_note(check, "the lower end of the interval is under it");
    } else if (check->passed && has_interval && low < check->needs) {
        set_note(check, "uncertain");
    }
}

static const Rmjob__V1__CategoryResult *find_category(const Rmjob__V1__EvalReport *report, const char *key)
{
    for (size_t i = 0; report != NULL && i < report->n_categories; i++) {
        if (strcmp(report->categories[i]->category, key) == 0) {
            return report->categories[i];
        }
    }
    return NULL;
}

static void check_category(const Rmjob__V1__EvalReport *report, size_t c, double needs, int lower95,
                           Rmjob__V1__GateVerdict *verdict)
{
    Rmjob__V1__GateCheck *check = add_check(verdict, rmj_categories[c].key, needs);
    const Rmjob__V1__CategoryResult *result = find_category(report, rmj_categories[c].key);
    check->passed = 0;
    if (result == NULL) {
        set_note(check, "not measured");
    } else if (!result->has_score) {
        set_note(check, "undefined");
    } else {
        decide_share(check, result->score, result->has_low && result->has_high, result->low, result->high, lower95,
                     !rmj_categories[c].is_ties);
    }
}

static void check_heldout(const Rmjob__V1__EvalReport *report, const double *accuracy, const double *std_min,
                          int lower95, Rmjob__V1__GateVerdict *verdict)
{
    if (accuracy != NULL) {
        Rmjob__V1__GateCheck *check = add_check(verdict, "heldout_accuracy", *accuracy);
        if (report->heldout == NULL) {
            check->passed = 0;
            set_note(check, "not measured");
        } else {
            decide_share(check, report->heldout->accuracy, report->heldout->has_low, report->heldout->low,
                         report->heldout->high, lower95, 0);
        }
    }
    if (std_min != NULL) {
        Rmjob__V1__GateCheck *check = add_check(verdict, "score_std", *std_min);
        if (report->distribution == NULL || !report->distribution->has_std) {
            check->passed = 0;
            set_note(check, "not measured");
        } else {
            set_value(check, report->distribution->std);
            check->passed = report->distribution->std >= *std_min;
            if (!check->passed) {
                set_note(check, "the scalar head has collapsed");
            }
        }
    }
}

static void check_regression(const Rmjob__V1__EvalReport *report, const Rmjob__V1__EvalReport *previous, double most,
                             Rmjob__V1__GateVerdict *verdict)
{
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        const Rmjob__V1__CategoryResult *before = find_category(previous, rmj_categories[c].key);
        const Rmjob__V1__CategoryResult *now = find_category(report, rmj_categories[c].key);
        if (before == NULL || !before->has_score || now == NULL || !now->has_score) {
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "max_regression.%s", rmj_categories[c].key);
        Rmjob__V1__GateCheck *check = add_check(verdict, name, before->score - most);
        set_value(check, now->score);
        check->passed = before->score - now->score <= most;
        if (!check->passed) {
            set_note(check, "falls too far behind the model that the alias serves now");
        }
    }
}

static int check_state(const Rmjob__V1__GateVerdict *verdict, const char *name, const char *note)
{
    for (size_t i = 0; i < verdict->n_checks; i++) {
        const Rmjob__V1__GateCheck *check = verdict->checks[i];
        if (strcmp(check->name, name) == 0) {
            return note == NULL ? check->passed : check->note != NULL && strcmp(check->note, note) == 0;
        }
    }
    return 0;
}

// Measured and under its threshold: not merely absent or undefined.
static int ties_fell_short(const Rmjob__V1__GateVerdict *verdict)
{
    for (size_t i = 0; i < verdict->n_checks; i++) {
        const Rmjob__V1__GateCheck *check = verdict->checks[i];
        if (strcmp(check->name, "ties") == 0) {
            return check->has_value && !check->passed;
        }
    }
    return 0;
}

// What the failures say together.
static const char *pattern_of(const Rmjob__V1__GateVerdict *verdict)
{
    static const char at_chance[] = "not above chance (25 %)";
    size_t failed = 0, chance = 0;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        failed += !verdict->checks[i]->passed;
        chance += check_state(verdict, verdict->checks[i]->name, at_chance);
    }
    if (failed == 0) {
        return NULL;
    }
    if (check_state(verdict, "score_std", "the scalar head has collapsed")) {
        return "the scores hardly differ: the head has collapsed; look at the margins of the training stream";
    }
    if (chance == 5) {
        return "no category is above chance: nothing that generalises was learnt";
    }
    if (check_state(verdict, "safety", NULL) && check_state(verdict, "factuality", at_chance)) {
        return "safety passes while factuality is at chance: tone, not truth";
    }
    if (check_state(verdict, "heldout_accuracy", NULL) && chance > 0) {
        return "your own held-out pairs pass while parts of the benchmark are at chance: the domain was learnt, not "
               "the "
               "judgement";
    }
    if (failed == 1 && ties_fell_short(verdict) && check_state(verdict, "math", NULL)) {
        return "only ties fails: equally right answers are rated further apart than right and wrong ones";
    }
    return NULL;
}

Rmjob__V1__GateVerdict *rmj_gate_decide(const Rmjob__V1__EvalReport *report, const Rmjob__V1__GateSpec *gate,
                                        const Rmjob__V1__GateSpec *floors, const Rmjob__V1__EvalReport *previous)
{
    static const Rmjob__V1__GateSpec none = RMJOB__V1__GATE_SPEC__INIT;
    gate = gate == NULL ? &none : gate;
    floors = floors == NULL ? &none : floors;
    int lower95 = (gate->has_decision && gate->decision == RMJOB__V1__GATE_DECISION__lower95) ||
                  (floors->has_decision && floors->decision == RMJOB__V1__GATE_DECISION__lower95);
    Rmjob__V1__GateVerdict *verdict = rmj_new_zeroed(sizeof *verdict);
    rmjob__v1__gate_verdict__init(verdict);
    for (size_t c = 0; c < RMJ_CATEGORY_COUNT; c++) {
        const double *needs =
            stricter(rmj_threshold_of(gate->rewardbench2, c), rmj_threshold_of(floors->rewardbench2, c));
        if (needs != NULL) {
            check_category(report, c, *needs, lower95, verdict);
        }
    }
    check_heldout(report,
                  stricter(optional(gate->has_heldout_accuracy_min, &gate->heldout_accuracy_min),
                           optional(floors->has_heldout_accuracy_min, &floors->heldout_accuracy_min)),
                  stricter(optional(gate->has_score_std_min, &gate->score_std_min),
                           optional(floors->has_score_std_min, &floors->score_std_min)),
                  lower95, verdict);
    if (previous != NULL && (gate->has_max_regression || floors->has_max_regression)) {
        double most = !gate->has_max_regression     ? floors->max_regression
                      : !floors->has_max_regression ? gate->max_regression
                                                    : fmin(gate->max_regression, floors->max_regression);
        check_regression(report, previous, most, verdict);
    }
    // A gate without a single check has decided nothing, and nothing is published undecided.
    verdict->has_passed = 1;
    verdict->passed = verdict->n_checks > 0;
    for (size_t i = 0; i < verdict->n_checks; i++) {
        verdict->passed = verdict->passed && verdict->checks[i]->passed;
    }
    const char *pattern = pattern_of(verdict);
    verdict->pattern = pattern == NULL ? NULL : rmj_new_string(pattern);
    return verdict;
}
