#include "trainer/run/tasks.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "kernels/cpu/cpu.h"
#include "proto/text/text_format.h"
#include "trainer/data/prepare.h"
#include "trainer/data/template.h"
#include "trainer/eval/eval.h"
#include "trainer/run/exit_codes.h"
#include "trainer/run/link.h"
#include "trainer/run/settings.h"

#define SPEC_BYTES_MAX (4u << 20)
#define REPLY_BYTES_MAX (64u << 20)
#define TEXTS_MAX 1000000u
#define LINE_BYTES_MAX (16u << 20)

static int fail(const struct rmj_error *err)
{
    fprintf(stderr, "rmjob-rank: %s\n", err->message);
    return err->status == RMJ_OK ? RMJ_RANK_INTERNAL : rmj_status_exit_code(err->status);
}

enum rmj_status rmj_task_read_spec(const char *file, ProtobufCMessage **spec, struct rmj_error *err)
{
    struct rmj_buf text;
    rmj_buf_init(&text, SPEC_BYTES_MAX);
    struct rmj_text_result *result = rmj_text_result_create();
    enum rmj_status status =
        result == NULL ? rmj_fail(err, RMJ_NO_MEMORY, "no memory to read a spec") : rmj_fs_read(file, &text, err);
    if (status == RMJ_OK) {
        status = rmj_json_parse(&rmjob__v1__job_spec__descriptor, file, text.bytes, text.size, spec, result, err);
    }
    rmj_text_result_destroy(result);
    rmj_buf_deinit(&text);
    return status;
}

int rmj_task_check(const char *spec_file)
{
    struct rmj_error err = {0};
    ProtobufCMessage *spec = NULL;
    Rmjob__V1__ValidateResponse *reply = NULL;
    struct rmj_buf out;
    int code = RMJ_RANK_FINISHED;
    rmj_buf_init(&out, REPLY_BYTES_MAX);
    if (rmj_task_read_spec(spec_file, &spec, &err) != RMJ_OK ||
        rmj_check_spec((const Rmjob__V1__JobSpec *)spec, &reply, &err) != RMJ_OK) {
        code = fail(&err);
    } else {
        rmj_json_print(&reply->base, 0, &out);
        if (rmj_buf_check(&out, &err) != RMJ_OK || printf("%s\n", rmj_buf_text(&out)) < 0 || fflush(stdout) != 0) {
            code = fail(&err);
        }
    }
    if (reply != NULL) {
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    if (spec != NULL) {
        protobuf_c_message_free_unpacked(spec, NULL);
    }
    rmj_buf_deinit(&out);
    return code;
}

// {"text": ...} or {"messages": [...]}; what it borrows lives in *value.
static enum rmj_status input_of_line(const char *line, size_t number, json_t **value, struct rmj_eval_input *input,
                                     struct rmj_error *err)
{
    json_error_t bad;
    *value = json_loads(line, 0, &bad);
    input->text = json_string_value(json_object_get(*value, "text"));
    input->messages = json_object_get(*value, "messages");
    if (input->text == NULL && !json_is_array(input->messages)) {
        return rmj_fail(err, RMJ_DATA, "stdin:%zu: expected {\"text\": ...} or {\"messages\": [...]}", number);
    }
    return RMJ_OK;
}

struct inputs {
    struct rmj_eval_input *items;
    json_t **values; // that the items borrow from
    size_t count;
};

static enum rmj_status read_inputs(struct inputs *inputs, struct rmj_error *err)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    enum rmj_status status = RMJ_OK;
    inputs->items = calloc(TEXTS_MAX, sizeof *inputs->items);
    inputs->values = calloc(TEXTS_MAX, sizeof(json_t *));
    if (inputs->items == NULL || inputs->values == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the texts");
    }
    while (status == RMJ_OK && (size = getline(&line, &capacity, stdin)) >= 0) {
        if ((size_t)size > LINE_BYTES_MAX || inputs->count == TEXTS_MAX) {
            status = rmj_fail(err, RMJ_FULL, "stdin:%zu: more than %u lines, or a line over %u bytes",
                              inputs->count + 1, TEXTS_MAX, LINE_BYTES_MAX);
        } else {
            status = input_of_line(line, inputs->count + 1, &inputs->values[inputs->count],
                                   &inputs->items[inputs->count], err);
            inputs->count++;
        }
    }
    free(line);
    return status;
}

int rmj_task_score(const char *model_directory)
{
    struct rmj_error err = {0};
    struct inputs inputs = {0};
    struct rmj_settings settings;
    struct rmj_pool *pool = NULL;
    Rmjob__V1__JobSpec spec = RMJOB__V1__JOB_SPEC__INIT;
    rmj_settings_read(&settings, &spec);
    enum rmj_status status = read_inputs(&inputs, &err);
    float *scores = calloc(inputs.count + 1, sizeof(float));
    if (status == RMJ_OK && scores == NULL) {
        status = rmj_fail(&err, RMJ_NO_MEMORY, "no memory for %zu scores", inputs.count);
    }
    if (status == RMJ_OK) {
        status = rmj_pool_create(&pool, settings.thread_count, rmj_cpu_thread_start, &err);
    }
    if (status == RMJ_OK) {
        status = rmj_eval_score_inputs(model_directory, inputs.items, inputs.count, pool, scores, &err);
    }
    for (size_t i = 0; status == RMJ_OK && i < inputs.count; i++) {
        printf("%.9g\n", (double)scores[i]);
    }
    rmj_pool_destroy(pool);
    for (size_t i = 0; i < inputs.count; i++) {
        json_decref(inputs.values[i]);
    }
    free(inputs.items);
    free(inputs.values);
    free(scores);
    return status == RMJ_OK && fflush(stdout) == 0 ? RMJ_RANK_FINISHED : fail(&err);
}
