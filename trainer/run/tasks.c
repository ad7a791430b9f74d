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

static enum rmj_status read_spec(const char *file, ProtobufCMessage **spec, struct rmj_error *err)
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
    if (read_spec(spec_file, &spec, &err) != RMJ_OK ||
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

static enum rmj_status render(const json_t *messages, size_t number, struct rmj_buf *out, struct rmj_error *err)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i), *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        if (role == NULL || !json_is_string(content)) {
            return rmj_fail(err, RMJ_DATA, "stdin:%zu: message %zu has no role or no content", number, i);
        }
        RMJ_TRY(rmj_render_message(out, i, role, json_string_value(content), json_string_length(content), err));
    }
    return rmj_buf_check(out, err);
}

static enum rmj_status text_of_line(const char *line, size_t number, char **text, struct rmj_error *err)
{
    json_error_t bad;
    json_t *value = json_loads(line, 0, &bad);
    const char *plain = json_string_value(json_object_get(value, "text"));
    json_t *messages = json_object_get(value, "messages");
    enum rmj_status status = RMJ_OK;
    if (plain != NULL) {
        *text = strdup(plain);
    } else if (json_is_array(messages)) {
        struct rmj_buf out;
        rmj_buf_init(&out, LINE_BYTES_MAX);
        status = render(messages, number, &out, err);
        *text = status == RMJ_OK ? rmj_buf_detach(&out) : NULL;
        rmj_buf_deinit(&out);
    } else {
        status = rmj_fail(err, RMJ_DATA, "stdin:%zu: expected {\"text\": ...} or {\"messages\": [...]}", number);
    }
    json_decref(value);
    return status;
}

struct texts {
    char **items;
    size_t count;
};

static enum rmj_status read_texts(struct texts *texts, struct rmj_error *err)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    enum rmj_status status = RMJ_OK;
    texts->items = calloc(TEXTS_MAX, sizeof *texts->items);
    if (texts->items == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for the texts");
    }
    while (status == RMJ_OK && (size = getline(&line, &capacity, stdin)) >= 0) {
        if ((size_t)size > LINE_BYTES_MAX || texts->count == TEXTS_MAX) {
            status = rmj_fail(err, RMJ_FULL, "stdin:%zu: more than %u lines, or a line over %u bytes", texts->count + 1,
                              TEXTS_MAX, LINE_BYTES_MAX);
        } else {
            status = text_of_line(line, texts->count + 1, &texts->items[texts->count], err);
            texts->count += status == RMJ_OK;
        }
    }
    free(line);
    return status;
}

int rmj_task_score(const char *model_directory)
{
    struct rmj_error err = {0};
    struct texts texts = {0};
    struct rmj_settings settings;
    struct rmj_pool *pool = NULL;
    Rmjob__V1__JobSpec spec = RMJOB__V1__JOB_SPEC__INIT;
    rmj_settings_read(&settings, &spec);
    enum rmj_status status = read_texts(&texts, &err);
    float *scores = calloc(texts.count + 1, sizeof(float));
    if (status == RMJ_OK && scores == NULL) {
        status = rmj_fail(&err, RMJ_NO_MEMORY, "no memory for %zu scores", texts.count);
    }
    if (status == RMJ_OK) {
        status = rmj_pool_create(&pool, settings.thread_count, rmj_cpu_thread_start, &err);
    }
    if (status == RMJ_OK) {
        status =
            rmj_eval_score_texts(model_directory, (const char *const *)texts.items, texts.count, pool, scores, &err);
    }
    for (size_t i = 0; status == RMJ_OK && i < texts.count; i++) {
        printf("%.9g\n", (double)scores[i]);
    }
    rmj_pool_destroy(pool);
    for (size_t i = 0; i < texts.count; i++) {
        free(texts.items[i]);
    }
    free(texts.items);
    free(scores);
    return status == RMJ_OK && fflush(stdout) == 0 ? RMJ_RANK_FINISHED : fail(&err);
}
