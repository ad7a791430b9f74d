// Expectations here were written down from the public engine's output (tests/peers/jinja_equal.py compares at length).
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "trainer/jinja/jinja.h"

#define VARIABLES                                                                                                      \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\" h\xC3\xA9 \"},"          \
    "{\"role\":\"assistant\",\"content\":\"ok\"}],\"tools\":null,\"n\":7,\"list\":[3,1,2],"                            \
    "\"d\":{\"a\":1,\"b\":{\"c\":[1,null,true,1.5]}},\"text\":\"Hello World\"}"

static char *render(const char *source, const char *variables, struct rmj_jinja_input input, struct rmj_error *err)
{
    struct rmj_jinja *jinja;
    struct rmj_buf out;
    json_t *json = json_loads(variables, 0, NULL);
    assert_non_null(json);
    input.variables = json;
    rmj_buf_init(&out, RMJ_JINJA_OUTPUT_SIZE_MAX);
    char *text = NULL;
    if (rmj_jinja_compile(&jinja, "chat.jinja", source, strlen(source), err) == RMJ_OK) {
        if (rmj_jinja_render(jinja, &input, &out, NULL, NULL, err) == RMJ_OK) {
            text = strdup(rmj_buf_text(&out));
        } else {
            assert_int_equal(out.size, 0);
        }
        rmj_jinja_free(jinja);
    }
    rmj_buf_deinit(&out);
    json_decref(json);
    return text;
}

static void expect(const char *source, const char *wanted)
{
    struct rmj_error err = {0};
    char *text = render(source, VARIABLES, (struct rmj_jinja_input){.year = 2024, .month = 7, .day = 26}, &err);
    if (!text) {
        fail_msg("%s: %s", source, err.message);
    }
    assert_string_equal(text, wanted);
    free(text);
}

static void expect_error(const char *source, const char *message)
{
    struct rmj_error err = {0};
    char *text = render(source, VARIABLES, (struct rmj_jinja_input){0}, &err);
    if (text) {
        fail_msg("%s gave %s", source, text);
    }
    assert_int_equal(err.status, RMJ_DATA);
    assert_string_equal(err.message, message);
}

static void values_print_as_python_prints_them(void **state)
{
    (void)state;
    expect("{{ d }}", "{'a': 1, 'b': {'c': [1, None, True, 1.5]}}");
    expect("{{ [1e16, 0.00001, 1e15, -0.0, 100.0, (1,), 'it\\'s', \"q\\\"\"] }}",
           "[1e+16, 1e-05, 1000000000000000.0, -0.0, 100.0, (1,), \"it's\", 'q\"']");
    expect("{{ 7 // -2 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 0.1 + 0.2 }} {{ 1 ~ none }}",
           "-4 -2 3.5 1024 0.30000000000000004 1None");
    expect("{{ d | tojson }}|{{ list | tojson(indent=1) }}|{{ '<\xC3\xA9>' | tojson }}",
           "{\"a\": 1, \"b\": {\"c\": [1, null, true, 1.5]}}|[\n 3,\n 1,\n 2\n]|\"<\xC3\xA9>\"");
}

static void texts_are_ordered_by_their_characters(void **state)
{
    (void)state;
    expect("{% for c in 'abcdez' %}{{ 'b' < c }}{{ ['b', c] | max }} {% endfor %}",
           "Falseb Falseb Truec Trued Truee Truez ");
}

static void text_is_counted_and_cut_in_characters(void **state)
{
    (void)state;
    expect(
        "{{ 'h\xC3\xA9llo' | length }}{{ 'h\xC3\xA9llo'[1] }}{{ 'h\xC3\xA9'[::-1] }}{{ text[-5:] }}{{ text[1:8:2] }}",
        "5\xC3\xA9\xC3\xA9hWorldel o");
    expect("{{ text.split('o', 1) }}{{ text.upper().replace('L', '') }}{{ ' x '.strip() }}{{ text.startswith(('x', "
           "'He')) }}",
           "['Hell', ' World']HEO WORDxTrue");
}

static void white_space_around_tags_goes_as_in_the_fields_settings(void **state)
{
    (void)state;
    expect("a\n  {% if n %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
    expect("a\n  {%- if n -%}  \nb{%+ endif +%}\nc", "ab\nc");
    expect("a {{- n -}} b\n{# x #}\nc {% raw %}{{ x }}{% endraw %}", "a7b\nc {{ x }}");
}

static void loops_know_where_they_are(void **state)
{
    (void)state;
    expect("{% for x in list %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}"
           "{{ ',' if not loop.last }}{% endfor %}",
           "121,2132,301");
    expect("{% for x in list if x > 1 %}{{ x }}{{ loop.last }}{{ loop.length }}{% else %}E{% endfor %}",
           "3False22True2");
    expect("{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% else %}E{% endfor %}", "32");
    expect("{% for x in [[1, [2, [3]]]] recursive %}{{ x if x is number else '(' ~ loop(x) ~ ')' }}{% endfor %}",
           "(1(2(3)))");
}

static void names_belong_to_the_scope_that_sets_them(void **state)
{
    (void)state;
    expect("{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "4231");
    expect("{% set ns = namespace(x=0) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "6");
    expect("{% macro m() %}{{ x }}{% endmacro %}{% set x = 3 %}{{ m() }}{% set x = 4 %}{{ m() }}", "34");
    expect("{% macro m() %}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}", "");
    expect("{% if not n %}{% set n = 1 %}{% endif %}{{ n }}", "7");
    expect("{% with n = 1, m = n %}{{ n }}{{ m }}{% endwith %}{{ n }}", "177");
}

static void macros_take_arguments_and_callers(void **state)
{
    (void)state;
    expect("{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4, z=5) }}",
           "12(){}13(4,){'z': 5}");
    expect("{% macro m() %}<{{ caller(1) }}>{% endmacro %}{% call(x) m() %}{{ x + n }}{% endcall %}", "<8>");
    expect("{% set x | upper %}a{{ n }}{% endset %}{{ x }}{% filter replace('a', 'b') %}aa{% endfilter %}", "A7bb");
}

static void filters_and_tests_work_on_items(void **state)
{
    (void)state;
    expect("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join }}",
           "h\xC3\xA9");
    expect("{{ list | sort | join('<') }}{{ list | select('odd') | list }}{{ ['b', 'A'] | sort }}{{ d | dictsort | "
           "length }}",
           "1<2<3[3, 1]['A', 'b']2");
    expect("{{ nope | default('x') }}{{ none | default('x') }}{{ '' | default('x', true) }}", "xNonex");
    expect("{{ 'a\\nb' | indent }}|{{ 2.5 | round }}|{{ '12' | int + 1 }}|{{ tools is none }}", "a\n    b|2.0|13|True");
}

static void the_date_is_the_given_one(void **state)
{
    (void)state;
    expect("{{ strftime_now('%d %b %Y, %A') }}", "26 Jul 2024, Friday");
    expect_error("x\n{{ strftime_now('%d') }}",
                 "chat.jinja:2: the template prints today's date, so a date must be given");
}

static void errors_name_the_line(void **state)
{
    (void)state;
    expect_error("a\n\n{{ raise_exception('Roles must alternate!') }}", "chat.jinja:3: Roles must alternate!");
    expect_error("\n{{ nope.x }}", "chat.jinja:2: 'nope' is undefined");
    expect_error("{{ d.nope.x }}", "chat.jinja:1: 'dict object' has no attribute 'nope'");
    expect_error("{{ d.update({}) }}", "chat.jinja:1: access to attribute 'update' of 'dict' object is unsafe");
    expect_error("{{ 1 + 'a' }}", "chat.jinja:1: unsupported operand type(s) for +: 'int' and 'str'");
}

static void what_is_not_supported_is_refused_by_name(void **state)
{
    (void)state;
    expect_error("a\n{% include 'x' %}", "chat.jinja:2: the tag 'include' is not supported");
    expect_error("{% if false %}\n{{ n | xmlattr }}{% endif %}", "chat.jinja:2: filter 'xmlattr' is not supported");
    expect_error("{{ n is prime }}", "chat.jinja:1: test 'prime' is not supported");
    expect_error("{{ list | map('nope') | list }}", "chat.jinja:1: filter 'nope' is not supported");
    expect_error("{{ lipsum() }}", "chat.jinja:1: 'lipsum' is not supported");
    expect_error("{% for x in list %}\n", "chat.jinja:1: the template ends; the tag of line 1 waits for 'endfor'");
    expect_error("\n{% frobnicate %}", "chat.jinja:2: unknown tag 'frobnicate'");
    expect_error("{{ (1 }}", "chat.jinja:1: unexpected '}', expected ')'");
}

static void work_is_bounded(void **state)
{
    (void)state;
    const char *const endless[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{% set ns = namespace(l=[]) %}{% for a in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    };
    for (size_t i = 0; i < RMJ_COUNT(endless); i++) {
        struct rmj_error err = {0};
        char *text = render(endless[i], "{}", (struct rmj_jinja_input){.step_count_max = 1000000}, &err);
        assert_null(text);
        assert_int_equal(err.status, RMJ_DATA);
    }
    char deep[20000];
    memset(deep, '(', sizeof(deep));
    memcpy(deep, "{{", 2);
    deep[sizeof(deep) - 1] = '\0';
    struct rmj_error err = {0};
    assert_null(render(deep, "{}", (struct rmj_jinja_input){0}, &err));
}

static void generation_blocks_are_reported_in_bytes(void **state)
{
    (void)state;
    const char *source = "\xC3\xA9{% generation %}a\xC3\xA9{% endgeneration %}b{% generation %}c{% endgeneration %}";
    struct rmj_error err = {0};
    struct rmj_jinja *jinja;
    struct rmj_jinja_span *spans;
    size_t count;
    struct rmj_buf out;
    json_t *variables = json_object();
    struct rmj_jinja_input input = {.variables = variables};
    rmj_buf_init(&out, 100);
    assert_int_equal(rmj_jinja_compile(&jinja, "t", source, strlen(source), &err), RMJ_OK);
    assert_int_equal(rmj_jinja_render(jinja, &input, &out, &spans, &count, &err), RMJ_OK);
    assert_int_equal(count, 2);
    assert_memory_equal(out.bytes + spans[0].begin, "a\xC3\xA9", spans[0].end - spans[0].begin);
    assert_int_equal(spans[1].begin, 6);
    assert_int_equal(spans[1].end, 7);
    free(spans);
    rmj_jinja_free(jinja);
    rmj_buf_deinit(&out);
    json_decref(variables);
}

static void a_template_tells_what_it_reads(void **state)
{
    (void)state;
    const char *source =
        "{% for m in messages %}{{ m }}{% if m.x %}{{ tools }}{% endif %}{% endfor %}{% set q = 1 %}{{ q }}";
    const char *dated = "{% macro m() %}{{ strftime_now('%d') }}{% endmacro %}";
    struct rmj_error err = {0};
    struct rmj_jinja *jinja;
    assert_int_equal(rmj_jinja_compile(&jinja, "t", source, strlen(source), &err), RMJ_OK);
    assert_true(rmj_jinja_reads(jinja, "messages"));
    assert_true(rmj_jinja_reads(jinja, "tools"));
    assert_false(rmj_jinja_reads(jinja, "m"));
    assert_false(rmj_jinja_reads(jinja, "documents"));
    assert_false(rmj_jinja_uses_date(jinja));
    rmj_jinja_free(jinja);
    assert_int_equal(rmj_jinja_compile(&jinja, "t", dated, strlen(dated), &err), RMJ_OK);
    assert_true(rmj_jinja_uses_date(jinja));
    rmj_jinja_free(jinja);
}

struct worker {
    const struct rmj_jinja *jinja;
    json_t *variables;
    int is_same;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    worker->is_same = 1;
    for (int i = 0; i < 200; i++) {
        struct rmj_error err = {0};
        struct rmj_buf out;
        struct rmj_jinja_input input = {.variables = worker->variables};
        rmj_buf_init(&out, 1000);
        enum rmj_status status = rmj_jinja_render(worker->jinja, &input, &out, NULL, NULL, &err);
        worker->is_same &= status == RMJ_OK && strcmp(rmj_buf_text(&out), "system:S user:h\xC3\xA9 assistant:ok ") == 0;
        rmj_buf_deinit(&out);
    }
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    const char *source = "{% macro m(x) %}{{ x.role }}:{{ x.content | trim }} {% endmacro %}"
                         "{% for x in messages %}{{ m(x) }}{% endfor %}";
    struct rmj_error err = {0};
    struct rmj_jinja *jinja;
    json_t *variables = json_loads(VARIABLES, 0, NULL);
    pthread_t threads[4];
    struct worker workers[4];
    assert_int_equal(rmj_jinja_compile(&jinja, "t", source, strlen(source), &err), RMJ_OK);
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        workers[i] = (struct worker){.jinja = jinja, .variables = variables};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < RMJ_COUNT(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].is_same);
    }
    rmj_jinja_free(jinja);
    json_decref(variables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_print_as_python_prints_them),
        cmocka_unit_test(texts_are_ordered_by_their_characters),
        cmocka_unit_test(text_is_counted_and_cut_in_characters),
        cmocka_unit_test(white_space_around_tags_goes_as_in_the_fields_settings),
        cmocka_unit_test(loops_know_where_they_are),
        cmocka_unit_test(names_belong_to_the_scope_that_sets_them),
        cmocka_unit_test(macros_take_arguments_and_callers),
        cmocka_unit_test(filters_and_tests_work_on_items),
        cmocka_unit_test(the_date_is_the_given_one),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(generation_blocks_are_reported_in_bytes),
        cmocka_unit_test(a_template_tells_what_it_reads),
        cmocka_unit_test(threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
