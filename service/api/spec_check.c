#include "service/api/spec_check.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "service/gate/gate.h"
#include "service/registry/publish.h"
#include "service/scheduler/scheduler.h"

#define PAIRS_MAX 65536u
#define LENGTH_MAX 131072u
#define SOURCES_MAX 4096u
#define SOURCE_NAME_SIZE_MAX 200u
#define LORA_RANK_MAX 1024u
#define FINDINGS_MAX 100u
#define PLACE_LENGTH_MAX 1000u
#define NUMBER_SIZE 32
#define NAME_RULE "a letter, then letters, digits, '-', '_' or '.', at most 63 characters"

void rmj_finding_add(Rmjob__V1__ValidateResponse *reply, const char *field, uint32_t exit_code, const char *format, ...)
{
    if (reply->n_findings >= FINDINGS_MAX) {
        return;
    }
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    Rmjob__V1__Finding *finding = malloc(sizeof *finding);
    reply->findings = realloc(reply->findings, (reply->n_findings + 1) * sizeof *reply->findings);
    RMJ_ASSERT(finding != NULL && reply->findings != NULL);
    rmjob__v1__finding__init(finding);
    finding->field = strdup(field);
    finding->message = strdup(message);
    finding->has_exit_code = 1;
    finding->exit_code = exit_code;
    reply->findings[reply->n_findings++] = finding;
}

int rmj_findings_refuse(const Rmjob__V1__ValidateResponse *reply)
{
    for (size_t i = 0; i < reply->n_findings; i++) {
        if (!reply->findings[i]->has_warning || !reply->findings[i]->warning) {
            return 1;
        }
    }
    return 0;
}

#define BAD(field, ...) rmj_finding_add(reply, (field), 2, __VA_ARGS__)

// Fields that this version does not know come from a newer client: refused, never ignored.
static void check_unknown(const ProtobufCMessage *message, const char *path, Rmjob__V1__ValidateResponse *reply)
{
    if (message->n_unknown_fields > 0) {
        BAD(path, "%s has %u fields that this service does not know; it is of another version than the client",
            *path == '\0' ? "the spec" : path, message->n_unknown_fields);
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED) {
            continue;
        }
        const ProtobufCMessage *child = NULL;
        memcpy(&child, (const char *)message + field->offset, sizeof child);
        if (child != NULL) {
            char below[256];
            snprintf(below, sizeof below, "%s%s%s", path, *path == '\0' ? "" : ".", field->name);
            check_unknown(child, below, reply);
        }
    }
}

static int is_blank(const char *text)
{
    return text == NULL || *text == '\0';
}

static void check_name(const char *field, const char *name, int required, Rmjob__V1__ValidateResponse *reply)
{
    if (is_blank(name)) {
        if (required) {
            BAD(field, "%s is missing; give it a name: " NAME_RULE, field);
        } else if (name != NULL) {
            BAD(field, "%s is empty; leave it out, or give it a name: " NAME_RULE, field);
        }
    } else if (!rmj_name_valid(name)) {
        BAD(field, "%s is \"%.80s\"; a name is " NAME_RULE, field, name);
    }
}

// 3 to 63 characters, as S3 itself rules (and stores like it allow '_').
static int bucket_valid(const char *name, size_t length)
{
    static const char inside[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
    return length >= 3 && length <= 63 && strspn(name, inside) >= length && isalnum((unsigned char)name[0]) &&
           isalnum((unsigned char)name[length - 1]);
}

static int has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            return 1;
        }
    }
    return 0;
}

// A local path or an s3:// prefix. What stands before an '@' or behind a '?' of a URL may be a secret: it is not
// repeated.
static void check_place(const char *field, const char *place, Rmjob__V1__ValidateResponse *reply)
{
    if (is_blank(place)) {
        BAD(field, "%s is missing; give a local path or an s3:// prefix", field);
        return;
    }
    if (strlen(place) >= PLACE_LENGTH_MAX) {
        BAD(field, "%s has %zu bytes; at most %u", field, strlen(place), PLACE_LENGTH_MAX);
        return;
    }
    if (has_control(place)) {
        BAD(field, "%s holds a control character; rename the file", field);
        return;
    }
    const char *scheme = strstr(place, "://");
    size_t host = scheme == NULL ? 0 : strcspn(scheme + 3, "/");
    if (scheme != NULL && (memchr(scheme + 3, '@', host) != NULL || strchr(scheme, '?') != NULL)) {
        BAD(field,
            "%s holds credentials or a query; give the plain place, and credentials to the service by the usual AWS_* "
            "variables",
            field);
    } else if (strncmp(place, "s3://", 5) == 0) {
        if (!bucket_valid(place + 5, host)) {
            BAD(field,
                "%s is \"%.200s\"; an s3 place is s3://bucket/prefix, and a bucket has 3 to 63 lower-case letters, "
                "digits, '.' and '-'",
                field, place);
        }
    } else if (scheme != NULL && strncmp(place, "file://", 7) != 0) {
        BAD(field, "%s is \"%.200s\"; only local paths and s3:// are known", field, place);
    } else if (scheme == NULL && place[0] != '/') {
        BAD(field, "%s is \"%.200s\", a relative path; the service has another working directory, give a whole path",
            field, place);
    }
}

static int ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text), tail = strlen(ending);
    return length >= tail && strcmp(text + length - tail, ending) == 0;
}

static void check_rows(const char *field, const char *path, Rmjob__V1__ValidateResponse *reply)
{
    static const char *const endings[] = {".jsonl",   ".jsonl.gz", ".jsonl.zst", ".json",
                                          ".json.gz", ".json.zst", ".parquet"};
    check_place(field, path, reply);
    int known = is_blank(path);
    for (size_t i = 0; i < RMJ_COUNT(endings); i++) {
        known |= !known && ends_with(path, endings[i]);
    }
    if (!known) {
        BAD(field,
            "%s is \"%.200s\"; rows are read from .jsonl and .json, either with .gz or .zst after it, and .parquet",
            field, path);
    }
}

// What a file's columns are called: every name says something, and says it once.
static void check_columns(const char *list, size_t index, const Rmjob__V1__Columns *columns,
                          Rmjob__V1__ValidateResponse *reply)
{
    if (columns == NULL) {
        return;
    }
    const ProtobufCMessageDescriptor *descriptor = columns->base.descriptor;
    const char *names[32];
    RMJ_ASSERT(descriptor->n_fields <= RMJ_COUNT(names));
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        char field[96];
        memcpy(&names[i], (const char *)columns + descriptor->fields[i].offset, sizeof names[i]);
        snprintf(field, sizeof field, "%s[%zu].columns.%s", list, index, descriptor->fields[i].name);
        if (names[i] != NULL && names[i][0] == '\0') {
            BAD(field, "%s is empty; give the column's name in the file, or leave it out", field);
        }
        for (unsigned j = 0; names[i] != NULL && j < i; j++) {
            if (names[j] != NULL && strcmp(names[i], names[j]) == 0) {
                BAD(field, "%s is \"%.100s\", which columns.%s is too", field, names[i], descriptor->fields[j].name);
            }
        }
    }
}

static void check_enum(const char *field, const ProtobufCEnumDescriptor *descriptor, int has, int value,
                       Rmjob__V1__ValidateResponse *reply)
{
    if (has && protobuf_c_enum_descriptor_get_value(descriptor, value) == NULL) {
        BAD(field, "%s is %d, which is no value of it", field, value);
    }
}

struct range {
    const char *field;
    int has;
    double value, low, high;
    int low_open, high_open;
    const char *mend;
};

// Counts in full, everything else as short as it is exact.
static const char *number(double value, char text[NUMBER_SIZE])
{
    snprintf(text, NUMBER_SIZE, fabs(value) < 1e15 && floor(value) == value ? "%.0f" : "%.9g", value);
    return text;
}

static void check_ranges(const struct range *ranges, size_t count, Rmjob__V1__ValidateResponse *reply)
{
    for (size_t i = 0; i < count; i++) {
        const struct range *r = &ranges[i];
        int low = r->low_open ? r->value > r->low : r->value >= r->low;
        int high = r->high_open ? r->value < r->high : r->value <= r->high;
        if (r->has && !(isfinite(r->value) && low && high)) {
            char text[NUMBER_SIZE];
            BAD(r->field, "%s is %s; %s", r->field, number(r->value, text), r->mend);
        }
    }
}

static void check_identity(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply)
{
    if (is_blank(spec->api_version)) {
        BAD("api_version", "api_version is missing; the only value is rmjob/v1");
    } else if (strcmp(spec->api_version, "rmjob/v1") != 0) {
        BAD("api_version", "api_version is \"%.80s\"; the only value is rmjob/v1", spec->api_version);
    }
    check_name("name", spec->name, 1, reply);
    check_name("project", spec->project, 0, reply);
    check_place("base_model", spec->base_model, reply);
    const Rmjob__V1__PolicyModel *policy = spec->policy_model;
    if (policy == NULL || (is_blank(policy->path) && is_blank(policy->family) && !policy->has_parameters)) {
        BAD("policy_model",
            "policy_model is missing; name the model that this reward model will judge, as a path or as "
            "family and parameters");
    } else if (!is_blank(policy->path)) {
        check_place("policy_model.path", policy->path, reply);
    } else {
        if (is_blank(policy->family)) {
            BAD("policy_model.family", "policy_model.family is missing; for instance llama");
        }
        if (!policy->has_parameters || policy->parameters == 0) {
            BAD("policy_model.parameters", "policy_model.parameters is %s; give the number of parameters",
                policy->has_parameters ? "0" : "missing");
        }
    }
}

// Reports print it on terminals.
static void check_source_name(const char *field, const char *name, Rmjob__V1__ValidateResponse *reply)
{
    if (name == NULL) {
        return;
    }
    if (is_blank(name)) {
        BAD(field, "%s is empty; name the source, or leave it out", field);
    } else if (has_control(name)) {
        BAD(field, "%s holds a control character; use letters and digits", field);
    } else if (strlen(name) > SOURCE_NAME_SIZE_MAX) {
        BAD(field, "%s has %zu bytes; at most %u", field, strlen(name), SOURCE_NAME_SIZE_MAX);
    }
}

static void check_sources(const char *list, size_t count, Rmjob__V1__DataSource *const *sources,
                          Rmjob__V1__ValidateResponse *reply)
{
    if (count > SOURCES_MAX) {
        BAD(list, "%s names %zu sources; at most %u, use '*' in a name", list, count, SOURCES_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        char field[64];
        snprintf(field, sizeof field, "%s[%zu].path", list, i);
        check_rows(field, sources[i]->path, reply);
        snprintf(field, sizeof field, "%s[%zu].form", list, i);
        check_enum(field, &rmjob__v1__data_form__descriptor, sources[i]->has_form, (int)sources[i]->form, reply);
        snprintf(field, sizeof field, "%s[%zu].name", list, i);
        check_source_name(field, sources[i]->name, reply);
        check_columns(list, i, sources[i]->columns, reply);
    }
}

static void check_data(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply)
{
    const Rmjob__V1__DataSpec *data = spec->data;
    if (data == NULL || data->n_train == 0) {
        BAD("data.train", "data.train is missing; name at least one file of pairs");
    }
    if (data == NULL) {
        return;
    }
    check_sources("data.train", data->n_train, data->train, reply);
    check_sources("data.heldout", data->n_heldout, data->heldout, reply);
    for (size_t h = 0; h < data->n_heldout; h++) {
        for (size_t t = 0; t < data->n_train; t++) {
            if (!is_blank(data->heldout[h]->path) && !is_blank(data->train[t]->path) &&
                strcmp(data->heldout[h]->path, data->train[t]->path) == 0) {
                char field[64];
                snprintf(field, sizeof field, "data.heldout[%zu].path", h);
                BAD(field, "%s is also data.train[%zu].path; held-out pairs are never trained on", field, t);
            }
        }
    }
    const struct range ranges[] = {
        {"data.max_length", data->has_max_length, data->max_length, 8, LENGTH_MAX, 0, 0, "8 to 131072 tokens"},
    };
    check_ranges(ranges, RMJ_COUNT(ranges), reply);
    check_enum("data.order", &rmjob__v1__data_order__descriptor, data->has_order, (int)data->order, reply);
    check_enum("data.duplicates", &rmjob__v1__duplicates__descriptor, data->has_duplicates, (int)data->duplicates,
               reply);
    check_enum("data.over_length", &rmjob__v1__over_length__descriptor, data->has_over_length, (int)data->over_length,
               reply);
}

// Names of matrices are judged with the base model at hand.
static void check_lora(const Rmjob__V1__LoraSpec *lora, Rmjob__V1__ValidateResponse *reply)
{
    if (lora == NULL) {
        return;
    }
    const struct range ranges[] = {
        {"train.lora.rank", lora->has_rank, lora->rank, 1, LORA_RANK_MAX, 0, 0, "1 to 1024"},
        {"train.lora.alpha", lora->has_alpha, lora->alpha, 0, 1e6, 1, 0, "over 0 and at most 1e6, for instance 32"},
    };
    check_ranges(ranges, RMJ_COUNT(ranges), reply);
    for (size_t i = 0; i < lora->n_target_modules; i++) {
        if (is_blank(lora->target_modules[i])) {
            BAD("train.lora.target_modules", "train.lora.target_modules[%zu] is empty; for instance q_proj", i);
        }
    }
}

static void check_train(const Rmjob__V1__TrainSpec *train, Rmjob__V1__ValidateResponse *reply)
{
    if (train == NULL) {
        return;
    }
    if (train->has_epochs && train->epochs != 1) {
        BAD("train.epochs", "train.epochs is %u; reward models are trained for exactly one epoch", train->epochs);
    }
    static const char share[] = "a share between 0 and 1", decay[] = "0 or more, less than 1";
    const struct range ranges[] = {
        {"train.global_batch_pairs", train->has_global_batch_pairs, train->global_batch_pairs, 1, PAIRS_MAX, 0, 0,
         "1 to 65536 pairs"},
        {"train.learning_rate", train->has_learning_rate, train->learning_rate, 0, 1, 1, 0,
         "over 0 and at most 1, for instance 3.0e-6"},
        {"train.warmup_ratio", train->has_warmup_ratio, train->warmup_ratio, 0, 1, 0, 0, share},
        {"train.min_learning_rate_ratio", train->has_min_learning_rate_ratio, train->min_learning_rate_ratio, 0, 1, 0,
         0, share},
        {"train.weight_decay", train->has_weight_decay, train->weight_decay, 0, 1, 0, 1, decay},
        {"train.beta1", train->has_beta1, train->beta1, 0, 1, 0, 1, decay},
        {"train.beta2", train->has_beta2, train->beta2, 0, 1, 0, 1, decay},
        {"train.epsilon", train->has_epsilon, train->epsilon, 0, 1, 1, 1, "over 0 and less than 1, for instance 1e-8"},
        {"train.max_grad_norm", train->has_max_grad_norm, train->max_grad_norm, 0, 1e9, 0, 0,
         "0 (no clipping) or more, for instance 1.0"},
    };
    check_ranges(ranges, RMJ_COUNT(ranges), reply);
    check_enum("train.margin_watch", &rmjob__v1__margin_watch__descriptor, train->has_margin_watch,
               (int)train->margin_watch, reply);
    check_enum("train.schedule", &rmjob__v1__schedule__descriptor, train->has_schedule, (int)train->schedule, reply);
    check_enum("train.precision", &rmjob__v1__precision__descriptor, train->has_precision, (int)train->precision,
               reply);
    check_enum("train.head_init", &rmjob__v1__head_init__descriptor, train->has_head_init, (int)train->head_init,
               reply);
    check_lora(train->lora, reply);
    if (train->has_precision && train->precision == RMJOB__V1__PRECISION__bf16) {
        BAD("train.precision", "train.precision is bf16; this version trains in float32 only");
    }
}

static void check_places_to_run(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply)
{
    const Rmjob__V1__ElasticSpec *elastic = spec->elastic;
    if (elastic != NULL) {
        const struct range ranges[] = {
            {"elastic.min_ranks", elastic->has_min_ranks, elastic->min_ranks, 1, RMJ_RANKS_MAX, 0, 0, "1 to 64 ranks"},
            {"elastic.max_ranks", elastic->has_max_ranks, elastic->max_ranks, 1, RMJ_RANKS_MAX, 0, 0, "1 to 64 ranks"},
        };
        check_ranges(ranges, RMJ_COUNT(ranges), reply);
        uint32_t min = elastic->has_min_ranks ? elastic->min_ranks : 1;
        uint32_t max = elastic->has_max_ranks ? elastic->max_ranks : 1;
        if (min > max) {
            BAD("elastic.min_ranks", "elastic.min_ranks is %u, more than elastic.max_ranks, which is %u", min, max);
        }
    }
    const Rmjob__V1__ResourceSpec *resources = spec->resources;
    if (resources == NULL) {
        return;
    }
    uint64_t bytes = 0;
    check_enum("resources.device", &rmjob__v1__device__descriptor, resources->has_device, (int)resources->device,
               reply);
    if (resources->has_device && resources->device == RMJOB__V1__DEVICE__cuda) {
        BAD("resources.device", "resources.device is cuda; this version trains on cpu only");
    }
    if (resources->memory != NULL && (!rmj_text_parse_bytes(resources->memory, &bytes) || bytes < (1u << 20))) {
        BAD("resources.memory", "resources.memory is \"%.80s\"; give an amount over 1Mi, for instance 8Gi",
            resources->memory);
    }
    if (resources->has_threads && (resources->threads == 0 || resources->threads > 1024)) {
        BAD("resources.threads", "resources.threads is %u; 1 to 1024", resources->threads);
    }
}

static void check_checkpoint(const Rmjob__V1__CheckpointSpec *checkpoint, Rmjob__V1__ValidateResponse *reply)
{
    if (checkpoint == NULL) {
        return;
    }
    if (checkpoint->store != NULL) {
        check_place("checkpoint.store", checkpoint->store, reply);
    }
    const char *interval = checkpoint->interval;
    if (interval != NULL && strcmp(interval, "auto") != 0 && strcmp(interval, "off") != 0) {
        char *end = NULL;
        errno = 0;
        unsigned long steps = interval[0] >= '0' && interval[0] <= '9' ? strtoul(interval, &end, 10) : 0;
        if (steps == 0 || errno != 0 || *end != '\0' || steps > 1000000000) {
            BAD("checkpoint.interval", "checkpoint.interval is \"%.80s\"; auto, off, or a number of steps", interval);
        }
    }
    if (checkpoint->has_keep && (checkpoint->keep == 0 || checkpoint->keep > RMJ_MANIFESTS_MAX)) {
        BAD("checkpoint.keep", "checkpoint.keep is %u; 1 to %d checkpoints", checkpoint->keep, RMJ_MANIFESTS_MAX);
    }
}

static void check_gate(const Rmjob__V1__JobSpec *spec, const Rmjob__V1__Policy *policy,
                       Rmjob__V1__ValidateResponse *reply)
{
    const char *benchmark = spec->evaluate == NULL ? NULL : spec->evaluate->rewardbench2;
    if (is_blank(benchmark)) {
        BAD("evaluate.rewardbench2",
            "evaluate.rewardbench2 is missing; a model is published only when it was measured");
    } else {
        check_rows("evaluate.rewardbench2", benchmark, reply);
    }
    const Rmjob__V1__GateSpec *floors = policy == NULL ? NULL : policy->floors;
    rmj_gate_check_spec(spec->gate, floors, reply);
    if (spec->gate != NULL) {
        check_enum("gate.decision", &rmjob__v1__gate_decision__descriptor, spec->gate->has_decision,
                   (int)spec->gate->decision, reply);
    }
    int has_heldout = spec->data != NULL && spec->data->n_heldout > 0;
    int wants_accuracy = (spec->gate != NULL && spec->gate->has_heldout_accuracy_min) ||
                         (floors != NULL && floors->has_heldout_accuracy_min);
    int wants_spread =
        (spec->gate != NULL && spec->gate->has_score_std_min) || (floors != NULL && floors->has_score_std_min);
    if (!has_heldout && (wants_accuracy || wants_spread)) {
        BAD("data.heldout", "data.heldout is missing, and %s is measured on it",
            wants_accuracy ? "gate.heldout_accuracy_min" : "gate.score_std_min");
    }
}

static void check_budget(const Rmjob__V1__BudgetSpec *budget, Rmjob__V1__ValidateResponse *reply)
{
    if (budget == NULL) {
        return;
    }
    int64_t ms = 0;
    if (budget->has_rank_hours && !(budget->rank_hours > 0 && budget->rank_hours <= 1e7)) {
        char text[NUMBER_SIZE];
        BAD("budget.rank_hours", "budget.rank_hours is %s; over 0, for instance 40", number(budget->rank_hours, text));
    }
    if (budget->deadline != NULL && (!rmj_text_parse_duration(budget->deadline, &ms) || ms <= 0)) {
        BAD("budget.deadline", "budget.deadline is \"%.80s\"; a duration, for instance 24h or 90m", budget->deadline);
    }
    if (budget->has_max_restarts && budget->max_restarts > 10000) {
        BAD("budget.max_restarts", "budget.max_restarts is %u; 0 to 10000", budget->max_restarts);
    }
}

static void check_publish(const Rmjob__V1__JobSpec *spec, Rmjob__V1__ValidateResponse *reply)
{
    const Rmjob__V1__PublishSpec *publish = spec->publish;
    check_name("publish.name", publish == NULL ? NULL : publish->name, 1, reply);
    if (publish == NULL) {
        return;
    }
    check_name("publish.alias", publish->alias, 0, reply);
    if (publish->store != NULL) {
        check_place("publish.store", publish->store, reply);
    }
    check_enum("publish.form", &rmjob__v1__publish_form__descriptor, publish->has_form, (int)publish->form, reply);
    int is_adapter = publish->has_form && publish->form == RMJOB__V1__PUBLISH_FORM__adapter;
    if (is_adapter && (spec->train == NULL || spec->train->lora == NULL)) {
        BAD("publish.form",
            "publish.form is adapter, and train.lora is missing: without it every parameter is trained");
    }
}

void rmj_spec_check(const Rmjob__V1__JobSpec *spec, const Rmjob__V1__Policy *policy, Rmjob__V1__ValidateResponse *reply)
{
    check_unknown(&spec->base, "", reply);
    check_identity(spec, reply);
    check_data(spec, reply);
    check_train(spec->train, reply);
    check_places_to_run(spec, reply);
    check_checkpoint(spec->checkpoint, reply);
    check_gate(spec, policy, reply);
    check_budget(spec->budget, reply);
    check_publish(spec, reply);
}
