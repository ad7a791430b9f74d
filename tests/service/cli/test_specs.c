// Specs as the command line reads them: every field is known, paths become absolute, the template is a good spec, and
// findings are printed where they stand in the file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "service/cli/cli.h"

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rmjob-cli-XXXXXX");
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int remove_directory(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    return rmj_fs_remove_tree(directory, &err) == RMJ_OK ? 0 : -1;
}

static char *write_file(const char *name, const char *text)
{
    char *path = rmj_fs_join(directory, name);
    struct rmj_error err = {0};
    if (rmj_fs_write(path, text, strlen(text), 0644, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return path;
}

typedef void (*visit_fn)(const char *path, const ProtobufCFieldDescriptor *field);

static void walk(const ProtobufCMessageDescriptor *descriptor, const char *prefix, visit_fn visit)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        char path[160];
        int length = snprintf(path, sizeof path, "%s%s%s", prefix, *prefix == '\0' ? "" : ".", field->name);
        assert_true(length > 0 && (size_t)length < sizeof path);
        visit(path, field);
        if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
            walk(field->descriptor, path, visit);
        }
    }
}

static size_t strings_seen, paths_seen;

static void check_path_field(const char *path, const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_STRING) {
        assert_int_equal(rmj_cli_is_path_field(path), -1);
        return;
    }
    int is_path = rmj_cli_is_path_field(path);
    if (is_path < 0) {
        fail_msg("the command line does not know whether %s is a path", path);
    }
    // A repeated string could not be made absolute: no path is one, and this says so when one comes.
    assert_true(field->label != PROTOBUF_C_LABEL_REPEATED || !is_path);
    strings_seen++;
    paths_seen += (size_t)is_path;
}

static void every_text_field_is_known_as_a_path_or_not(void **state)
{
    (void)state;
    strings_seen = paths_seen = 0;
    walk(&rmjob__v1__job_spec__descriptor, "", check_path_field);
    assert_true(strings_seen >= 10);
    assert_true(paths_seen >= 5);
    assert_int_equal(rmj_cli_is_path_field("no.such.field"), -1);
}

static void check_explained(const char *path, const ProtobufCFieldDescriptor *field)
{
    (void)field;
    struct rmj_buf out;
    struct rmj_error err = {0};
    rmj_buf_init(&out, 1 << 20);
    if (rmj_spec_explain(path, &out, &err) != RMJ_OK || out.size == 0) {
        fail_msg("%s: %s", path, err.message);
    }
    rmj_buf_deinit(&out);
}

static void the_template_is_a_spec_and_every_field_is_explained(void **state)
{
    (void)state;
    ProtobufCMessage *message = NULL;
    struct rmj_error err = {0};
    struct rmj_text_result *result = rmj_text_result_create();
    const char *text = rmj_cli_spec_template();
    if (rmj_yaml_parse(&rmjob__v1__job_spec__descriptor, "job.yaml", text, strlen(text), &message, result, &err) !=
        RMJ_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(rmj_text_error_count(result), 0);
    const Rmjob__V1__JobSpec *spec = (const Rmjob__V1__JobSpec *)message;
    assert_int_equal(spec->train->epochs, 1);
    assert_non_null(spec->gate->rewardbench2);
    protobuf_c_message_free_unpacked(message, NULL);
    rmj_text_result_destroy(result);
    walk(&rmjob__v1__job_spec__descriptor, "", check_explained);
}

static Rmjob__V1__JobSpec *read_spec(const char *path)
{
    struct rmj_text_result *positions = rmj_text_result_create();
    struct rmj_error err = {0};
    Rmjob__V1__JobSpec *spec = NULL;
    if (rmj_cli_read_spec(path, &spec, positions, &err) != RMJ_OK) {
        fail_msg("%s", err.message);
    }
    rmj_text_result_destroy(positions);
    return spec;
}

static void assert_in_directory(const char *path, const char *name)
{
    char *real = realpath(directory, NULL);
    char *joined = rmj_fs_join(real, name);
    assert_string_equal(path, joined);
    free(joined);
    free(real);
}

static const char paths_spec[] = "api_version: rmjob/v1\n"
                                 "name: base\n"
                                 "base_model: base\n"
                                 "data:\n"
                                 "  train: [part-*.jsonl, {path: /abs/b.jsonl}, 's3://b/c-*.jsonl']\n"
                                 "checkpoint: {store: s3://ckpt/x}\n"
                                 "publish: {name: base, store: ./out}\n";

static void relative_paths_are_relative_to_the_spec(void **state)
{
    (void)state;
    char *path = write_file("paths.yaml", paths_spec);
    char *base = write_file("base", "");
    Rmjob__V1__JobSpec *spec = read_spec(path);
    assert_in_directory(spec->base_model, "base");
    assert_string_equal(spec->name, "base"); // no path, whatever stands in the directory
    assert_string_equal(spec->publish->name, "base");
    assert_in_directory(spec->data->train[0]->path, "part-*.jsonl");
    assert_string_equal(spec->data->train[1]->path, "/abs/b.jsonl");
    assert_string_equal(spec->data->train[2]->path, "s3://b/c-*.jsonl");
    assert_string_equal(spec->checkpoint->store, "s3://ckpt/x");
    assert_true(spec->publish->store[0] == '/');
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
    free(base);
    free(path);
}

static void a_spec_named_without_a_directory_or_on_stdin_is_relative_to_here(void **state)
{
    (void)state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    int keep = dup(STDIN_FILENO);
    assert_int_equal(chdir(directory), 0);
    free(write_file("here.yaml", paths_spec));
    Rmjob__V1__JobSpec *named = read_spec("here.yaml");
    assert_non_null(freopen("here.yaml", "r", stdin));
    Rmjob__V1__JobSpec *standard = read_spec("-");
    assert_in_directory(named->data->train[0]->path, "part-*.jsonl");
    assert_in_directory(standard->data->train[0]->path, "part-*.jsonl");
    rmjob__v1__job_spec__free_unpacked(named, NULL);
    rmjob__v1__job_spec__free_unpacked(standard, NULL);
    assert_int_equal(dup2(keep, STDIN_FILENO), STDIN_FILENO);
    close(keep);
    assert_int_equal(chdir(here), 0);
}

// Standard error of one call, as text; free() it.
static char *capture;
static size_t capture_size;
static FILE *saved_stderr;

static void begin_capture(void)
{
    fflush(stderr);
    saved_stderr = stderr;
    stderr = open_memstream(&capture, &capture_size);
    assert_non_null(stderr);
}

static char *end_capture(void)
{
    fclose(stderr);
    stderr = saved_stderr;
    return capture;
}

static void what_does_not_parse_is_told_line_by_line(void **state)
{
    (void)state;
    char *path = write_file("bad.yaml", "name: x\ntrian: {epochs: 1}\ntrain:\n  epochs: many\n");
    struct rmj_text_result *positions = rmj_text_result_create();
    struct rmj_error err = {0};
    Rmjob__V1__JobSpec *spec = NULL;
    begin_capture();
    enum rmj_status status = rmj_cli_read_spec(path, &spec, positions, &err);
    char *said = end_capture();
    assert_int_equal(status, RMJ_INVALID);
    assert_null(spec);
    assert_non_null(strstr(said, "bad.yaml:2:1: "));
    assert_non_null(strstr(said, "did you mean"));
    assert_non_null(strstr(said, "bad.yaml:4:11: "));
    assert_non_null(strstr(err.message, "2 errors"));
    free(said);
    rmj_text_result_destroy(positions);
    free(path);
}

static Rmjob__V1__Finding finding(const char *field, const char *message, int warning, uint32_t exit_code)
{
    Rmjob__V1__Finding one = RMJOB__V1__FINDING__INIT;
    one.field = (char *)(uintptr_t)field;
    one.message = (char *)(uintptr_t)message;
    one.has_warning = 1;
    one.warning = warning;
    one.has_exit_code = exit_code != 0;
    one.exit_code = exit_code;
    return one;
}

static void findings_are_printed_where_they_stand_and_class_the_exit(void **state)
{
    (void)state;
    char *path = write_file("paths.yaml", paths_spec);
    struct rmj_text_result *positions = rmj_text_result_create();
    struct rmj_error err = {0};
    Rmjob__V1__JobSpec *spec = NULL;
    assert_int_equal(rmj_cli_read_spec(path, &spec, positions, &err), RMJ_OK);
    Rmjob__V1__Finding all[] = {
        finding("data.train[1].path", "/abs/b.jsonl is not there", 0, 6),
        finding("checkpoint.store", "checkpoint.store cannot be reached", 0, 7),
        finding("publish.alias", "no alias", 1, 0), // stands at its nearest parent that was given
        finding(NULL, "something about the whole", 1, 0),
    };
    Rmjob__V1__Finding *const list[] = {&all[0], &all[1], &all[2], &all[3]};
    begin_capture();
    enum rmj_status status = rmj_cli_print_findings("paths.yaml", positions, list, 4, &err);
    char *said = end_capture();
    assert_int_equal(status, RMJ_DATA);
    assert_non_null(strstr(err.message, "2 errors"));
    assert_non_null(strstr(said, "paths.yaml:5:32: data.train[1].path: /abs/b.jsonl is not there\n"));
    assert_non_null(strstr(said, "paths.yaml:6:21: checkpoint.store cannot be reached\n"));
    assert_non_null(strstr(said, "paths.yaml:7:"));
    assert_non_null(strstr(said, "warning: publish.alias: no alias\n"));
    assert_non_null(strstr(said, "paths.yaml: warning: something about the whole\n"));
    free(said);
    // A wrong spec is told before wrong data, and warnings alone are no error.
    all[1].exit_code = 2;
    begin_capture();
    assert_int_equal(rmj_cli_print_findings("paths.yaml", positions, list, 2, &err), RMJ_INVALID);
    assert_int_equal(rmj_cli_print_findings("paths.yaml", positions, list + 2, 2, &err), RMJ_OK);
    free(end_capture());
    rmjob__v1__job_spec__free_unpacked(spec, NULL);
    rmj_text_result_destroy(positions);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_field_is_known_as_a_path_or_not),
        cmocka_unit_test(the_template_is_a_spec_and_every_field_is_explained),
        cmocka_unit_test(relative_paths_are_relative_to_the_spec),
        cmocka_unit_test(a_spec_named_without_a_directory_or_on_stdin_is_relative_to_here),
        cmocka_unit_test(what_does_not_parse_is_told_line_by_line),
        cmocka_unit_test(findings_are_printed_where_they_stand_and_class_the_exit),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
