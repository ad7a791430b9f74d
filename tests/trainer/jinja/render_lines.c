// Reads JSON lines {"template", "variables", "date": [year, month, day], "repeat"} from standard input and answers each
// with {"text", "spans"} or {"refused"} (at compilation) or {"failed"} (while rendering), and "ns" for one rendering
// when "repeat" was given. tests/peers/jinja_equal.py compares the answers with the public engine's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "trainer/jinja/jinja.h"

static json_t *span_list(const struct rmj_jinja_span *spans, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, json_pack("[II]", (json_int_t)spans[i].begin, (json_int_t)spans[i].end));
    }
    return list;
}

static json_t *render(const struct rmj_jinja *jinja, const json_t *line)
{
    struct rmj_error err = {0};
    struct rmj_buf out;
    struct rmj_jinja_span *spans = NULL;
    size_t span_count = 0;
    const json_t *date = json_object_get(line, "date");
    struct rmj_jinja_input input = {.variables = json_object_get(line, "variables"),
                                    .year = (int)json_integer_value(json_array_get(date, 0)),
                                    .month = (int)json_integer_value(json_array_get(date, 1)),
                                    .day = (int)json_integer_value(json_array_get(date, 2))};
    rmj_buf_init(&out, RMJ_JINJA_OUTPUT_SIZE_MAX);
    enum rmj_status status = rmj_jinja_render(jinja, &input, &out, &spans, &span_count, &err);
    json_t *answer = status == RMJ_OK ? json_pack("{s:s%,s:o}", "text", rmj_buf_text(&out), out.size, "spans",
                                                  span_list(spans, span_count))
                                      : json_pack("{s:s}", "failed", err.message);
    json_int_t repeat = json_integer_value(json_object_get(line, "repeat"));
    double start = rmj_clock_mono_seconds();
    for (json_int_t i = 0; i < repeat && status == RMJ_OK; i++) {
        rmj_buf_clear(&out);
        status = rmj_jinja_render(jinja, &input, &out, NULL, NULL, &err);
    }
    if (repeat > 0) {
        double took = rmj_clock_mono_seconds() - start;
        json_object_set_new(answer, "ns", json_integer((json_int_t)(took * 1e9 / (double)repeat)));
    }
    free(spans);
    rmj_buf_deinit(&out);
    return answer;
}

static json_t *answer(const json_t *line)
{
    struct rmj_error err = {0};
    struct rmj_jinja *jinja;
    const json_t *source = json_object_get(line, "template");
    if (rmj_jinja_compile(&jinja, "t", json_string_value(source), json_string_length(source), &err) != RMJ_OK) {
        return json_pack("{s:s}", "refused", err.message);
    }
    json_t *result = render(jinja, line);
    rmj_jinja_free(jinja);
    return result;
}

int main(void)
{
    char *text = NULL;
    size_t capacity = 0;
    for (ssize_t size; (size = getline(&text, &capacity, stdin)) > 0;) {
        json_t *line = json_loadb(text, (size_t)size, JSON_ALLOW_NUL, NULL);
        if (!line) {
            fprintf(stderr, "jinja_render_lines: a line is not JSON\n");
            return 1;
        }
        json_t *result = answer(line);
        char *shown = result ? json_dumps(result, JSON_COMPACT) : NULL;
        puts(shown ? shown : "{\"failed\":\"the text is not UTF-8\"}");
        free(shown);
        json_decref(result);
        json_decref(line);
    }
    free(text);
    return 0;
}
