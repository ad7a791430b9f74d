// Reading specs and other messages from files, and printing findings where they stand in them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "service/cli/cli.h"

#define SPEC_SIZE_MAX (1u << 20)

enum rmj_status rmj_cli_read_file(const char *path, size_t size_max, struct rmj_buf *out, struct rmj_error *err)
{
    rmj_buf_init(out, size_max);
    if (strcmp(path, "-") != 0) {
        enum rmj_status status = rmj_fs_read(path, out, err);
        // A file that the user named and that is not there is a usage error, whatever the class below says.
        return status == RMJ_OK ? RMJ_OK : rmj_fail(err, RMJ_INVALID, "%s", err->message);
    }
    char chunk[16384];
    ssize_t got;
    while ((got = read(STDIN_FILENO, chunk, sizeof chunk)) != 0) {
        if (got < 0 && errno != EINTR) {
            return rmj_fail_errno(err, RMJ_IO, "cannot read standard input");
        }
        rmj_buf_append(out, chunk, got > 0 ? (size_t)got : 0);
        RMJ_TRY(rmj_buf_check(out, err));
    }
    return rmj_buf_check(out, err);
}

static int looks_like_json(const char *path, const struct rmj_buf *text)
{
    const char *dot = strrchr(path, '.');
    if (dot != NULL && strcmp(dot, ".json") == 0) {
        return 1;
    }
    const char *first = rmj_buf_text(text) + strspn(rmj_buf_text(text), " \t\r\n");
    return strcmp(path, "-") == 0 && *first == '{';
}

static void print_text_errors(const char *path, const struct rmj_text_result *result, size_t skip)
{
    for (size_t i = skip; i < rmj_text_error_count(result); i++) {
        const struct rmj_text_error *error = rmj_text_error_at(result, i);
        fprintf(stderr, "%s:%d:%d: %s\n", path, error->line, error->column, error->message);
    }
}

enum rmj_status rmj_cli_read_message(const ProtobufCMessageDescriptor *descriptor, const char *path,
                                     ProtobufCMessage **message, struct rmj_text_result *positions,
                                     struct rmj_error *err)
{
    struct rmj_buf text;
    const char *shown = strcmp(path, "-") == 0 ? "stdin" : path;
    enum rmj_status status = rmj_cli_read_file(path, SPEC_SIZE_MAX, &text, err);
    if (status == RMJ_OK) {
        status = looks_like_json(path, &text)
                     ? rmj_json_parse(descriptor, shown, rmj_buf_text(&text), text.size, message, positions, err)
                     : rmj_yaml_parse(descriptor, shown, rmj_buf_text(&text), text.size, message, positions, err);
        if (status == RMJ_INVALID && rmj_text_error_count(positions) > 1) {
            size_t count = rmj_text_error_count(positions);
            print_text_errors(shown, positions, 0);
            rmj_fail(err, RMJ_INVALID, "%s: %zu errors", shown, count);
        }
    }
    rmj_buf_deinit(&text);
    return status;
}

// Every string field of a spec, and whether it is a path; a test holds this against the descriptors.
static const struct {
    const char *field;
    int is_path;
} string_fields[] = {
    {"api_version", 0},
    {"name", 0},
    {"base_model", 1},
    {"policy_model.path", 1},
    {"policy_model.family", 0},
    {"project", 0},
    {"data.train.path", 1},
    {"data.train.name", 0},
    {"data.train.columns.prompt", 0},
    {"data.train.columns.chosen", 0},
    {"data.train.columns.rejected", 0},
    {"data.train.columns.margin", 0},
    {"data.train.columns.tools", 0},
    {"data.train.columns.chat_template_kwargs", 0},
    {"data.train.columns.system", 0},
    {"data.train.columns.instruction", 0},
    {"data.train.columns.input", 0},
    {"data.train.columns.label", 0},
    {"data.heldout.path", 1},
    {"data.heldout.name", 0},
    {"data.heldout.columns.prompt", 0},
    {"data.heldout.columns.chosen", 0},
    {"data.heldout.columns.rejected", 0},
    {"data.heldout.columns.margin", 0},
    {"data.heldout.columns.tools", 0},
    {"data.heldout.columns.chat_template_kwargs", 0},
    {"data.heldout.columns.system", 0},
    {"data.heldout.columns.instruction", 0},
    {"data.heldout.columns.input", 0},
    {"data.heldout.columns.label", 0},
    {"data.chat_template", 1},
    {"data.tokenizer", 1},
    {"data.template_date", 0},
    {"train.lora.target_modules", 0},
    {"resources.memory", 0},
    {"checkpoint.store", 1},
    {"checkpoint.interval", 0},
    {"evaluate.rewardbench2", 1},
    {"budget.deadline", 0},
    {"publish.name", 0},
    {"publish.store", 1},
    {"publish.alias", 0},
};

int rmj_cli_is_path_field(const char *field)
{
    for (size_t i = 0; i < RMJ_COUNT(string_fields); i++) {
        if (strcmp(string_fields[i].field, field) == 0) {
            return string_fields[i].is_path;
        }
    }
    return -1;
}

static void make_absolute(char **value, const char *directory)
{
    const char *path = *value;
    if (path == NULL || *path == '\0' || *path == '/' || strstr(path, "://") != NULL) {
        return;
    }
    char *joined = rmj_fs_join(directory, path);
    // realpath fails for what does not exist yet or has a pattern in it; the joined path serves then.
    char *real = realpath(joined, NULL);
    free(*value);
    *value = real != NULL ? real : joined;
    if (real != NULL) {
        free(joined);
    }
}

static void absolutize(ProtobufCMessage *message, const char *prefix, const char *directory)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        char path[160];
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix != '\0' ? "." : "", field->name);
        char *at = (char *)message + field->offset;
        if (field->type == PROTOBUF_C_TYPE_STRING && field->label != PROTOBUF_C_LABEL_REPEATED) {
            if (rmj_cli_is_path_field(path) == 1) {
                make_absolute((char **)at, directory);
            }
        } else if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            size_t count = field->label == PROTOBUF_C_LABEL_REPEATED
                               ? *(size_t *)((char *)message + field->quantifier_offset)
                               : *(void **)at != NULL;
            for (size_t k = 0; k < count; k++) {
                ProtobufCMessage *child = field->label == PROTOBUF_C_LABEL_REPEATED ? (*(ProtobufCMessage ***)at)[k]
                                                                                    : *(ProtobufCMessage **)at;
                absolutize(child, path, directory);
            }
        }
    }
}

enum rmj_status rmj_cli_read_spec(const char *path, Rmjob__V1__JobSpec **spec, struct rmj_text_result *positions,
                                  struct rmj_error *err)
{
    ProtobufCMessage *message = NULL;
    RMJ_TRY(rmj_cli_read_message(&rmjob__v1__job_spec__descriptor, path, &message, positions, err));
    char directory[4096];
    const char *slash = strrchr(path, '/');
    char *real = strcmp(path, "-") == 0 || slash == NULL ? realpath(".", NULL) : NULL;
    if (real == NULL) {
        snprintf(directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
        real = realpath(directory, NULL);
    }
    if (real == NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
        return rmj_fail_errno(err, RMJ_INVALID, "cannot find the directory of %s", path);
    }
    absolutize(message, "", real);
    free(real);
    *spec = (Rmjob__V1__JobSpec *)message;
    return RMJ_OK;
}

static enum rmj_status status_of_exit_code(unsigned exit_code)
{
    return exit_code == 6 ? RMJ_DATA : exit_code == 7 ? RMJ_IO : exit_code == 5 ? RMJ_DENIED : RMJ_INVALID;
}

enum rmj_status rmj_cli_print_findings(const char *file, const struct rmj_text_result *positions,
                                       Rmjob__V1__Finding *const *findings, size_t count, struct rmj_error *err)
{
    size_t errors = 0;
    enum rmj_status worst = RMJ_OK;
    for (size_t i = 0; i < count; i++) {
        const Rmjob__V1__Finding *finding = findings[i];
        int line = 0, column = 0;
        const char *message = finding->message == NULL ? "" : finding->message;
        if (finding->field != NULL && rmj_text_position(positions, finding->field, &line, &column)) {
            fprintf(stderr, "%s:%d:%d: ", file, line, column);
        } else {
            fprintf(stderr, "%s: ", file);
        }
        // The field is named even where the message speaks of what is behind it.
        int names_field = finding->field == NULL || *finding->field == '\0' || strstr(message, finding->field) != NULL;
        fprintf(stderr, "%s%s%s%s\n", finding->warning ? "warning: " : "", names_field ? "" : finding->field,
                names_field ? "" : ": ", message);
        if (!finding->warning) {
            enum rmj_status status = status_of_exit_code(finding->has_exit_code ? finding->exit_code : 2);
            // A wrong spec is told before wrong data: it is what the user mends first.
            worst = worst == RMJ_OK || status == RMJ_INVALID ? status : worst;
            errors++;
        }
    }
    if (errors > 0) {
        return rmj_fail(err, worst, "%s: %zu error%s; nothing was done", file, errors, errors == 1 ? "" : "s");
    }
    return RMJ_OK;
}
