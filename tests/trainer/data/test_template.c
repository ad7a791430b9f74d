// What a row becomes: templates of the model and of the spec, texts, ids, the marks around them, and the pad token.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/rendering.h"

#define TURNS                                                                                                          \
    "{{ bos_token }}{% for m in messages %}\n[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{{ eos_token }}\n"
#define DATED "{{ bos_token }}{{ strftime_now('%d %b %Y, %j%%') }}\n{{ messages[0]['content'] }}{{ eos_token }}"
#define ADDED(id, text, special)                                                                                       \
    ",{\"id\":" #id ",\"content\":\"" text                                                                             \
    "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"                                       \
    "false,\"special\":" special "}"

static char *directory;
static unsigned made;

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

// A model with its own template (NULL: none) and 290 rows.
static char *model_with(const char *template)
{
    char name[32];
    snprintf(name, sizeof name, "model-%u", made++);
    char *model = fixture_model_with_rows(directory, name, 1, 0, 290);
    if (template != NULL) {
        free(fixture_write_text(model, "chat_template.jinja", template));
    }
    return model;
}

static void replace_in(const char *model, const char *file, const char *from, const char *to)
{
    char *path = rmj_fs_join(model, file);
    struct rmj_buf text, changed;
    rmj_buf_init(&text, 1 << 20);
    rmj_buf_init(&changed, 1 << 20);
    assert_int_equal(rmj_fs_read(path, &text, NULL), RMJ_OK);
    char *at = strstr(text.bytes, from);
    assert_non_null(at);
    rmj_buf_append(&changed, text.bytes, (size_t)(at - text.bytes));
    rmj_buf_puts(&changed, to);
    rmj_buf_puts(&changed, at + strlen(from));
    free(fixture_write_text(model, file, rmj_buf_text(&changed)));
    rmj_buf_deinit(&text);
    rmj_buf_deinit(&changed);
    free(path);
}

struct opened {
    Rmjob__V1__JobSpec *spec;
    struct rmj_model_config config;
    struct rmj_rendering rendering;
    struct rmj_render_memory memory;
    struct rmj_tokens tokens;
    uint32_t special;
    struct rmj_error err;
    const char *field;
};

static Rmjob__V1__JobSpec *spec_of(char *model)
{
    Rmjob__V1__JobSpec *spec = fixture_spec(model, "train.jsonl");
    free(model);
    return spec;
}

static enum rmj_status open_spec(struct opened *o, Rmjob__V1__JobSpec *spec)
{
    *o = (struct opened){.spec = spec, .field = ""};
    rmj_render_memory_init(&o->memory);
    assert_int_equal(rmj_model_config_read(&o->config, spec->base_model, &o->err), RMJ_OK);
    return rmj_rendering_open(&o->rendering, spec, &o->config, &o->field, &o->err);
}

static void must_open(struct opened *o, Rmjob__V1__JobSpec *spec)
{
    if (open_spec(o, spec) != RMJ_OK) {
        fail_msg("%s: %s", o->field, o->err.message);
    }
}

static void close_spec(struct opened *o)
{
    rmj_rendering_close(&o->rendering);
    rmj_render_memory_deinit(&o->memory);
    rmj_tokens_deinit(&o->tokens);
    fixture_spec_free(o->spec);
}

static void refused(Rmjob__V1__JobSpec *spec, const char *field, const char *text)
{
    struct opened o;
    assert_int_not_equal(open_spec(&o, spec), RMJ_OK);
    assert_string_equal(o.field, field);
    if (strstr(o.err.message, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, o.err.message);
    }
    close_spec(&o);
}

static enum rmj_status encode(struct opened *o, const char *json)
{
    json_t *root = json_loads(json, 0, NULL);
    assert_non_null(root);
    json_t *messages = json_is_array(root) ? root : json_object_get(root, "messages");
    enum rmj_status status =
        rmj_renderer_encode_messages(&o->rendering.renderer, messages, json_object_get(root, "tools"),
                                     json_object_get(root, "kwargs"), &o->memory, &o->tokens, &o->special, &o->err);
    json_decref(root);
    return status;
}

static void renders(struct opened *o, const char *json, const char *text)
{
    if (encode(o, json) != RMJ_OK) {
        fail_msg("%s", o->err.message);
    }
    assert_string_equal(rmj_buf_text(&o->memory.text), text);
}

static void row_refused(struct opened *o, const char *json, const char *text)
{
    assert_int_equal(encode(o, json), RMJ_DATA);
    if (strstr(o->err.message, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, o->err.message);
    }
}

static enum rmj_status encode_text(struct opened *o, const char *text)
{
    return rmj_renderer_encode_text(&o->rendering.renderer, text, strlen(text), &o->memory, &o->tokens, &o->special,
                                    &o->err);
}

static size_t count_of(const struct opened *o, int32_t id)
{
    size_t count = 0;
    for (size_t i = 0; i < o->tokens.count; i++) {
        count += o->tokens.ids[i] == id;
    }
    return count;
}

#define HI "[{\"role\":\"user\",\"content\":\"hi\"}]"

static void the_models_own_template_is_used_and_the_specs_wins(void **state)
{
    (void)state;
    struct opened o;
    must_open(&o, spec_of(model_with(TURNS)));
    assert_int_equal(o.rendering.renderer.template_origin, RMJ_TEMPLATE_MODEL);
    assert_string_equal(rmj_renderer_template(&o.rendering.renderer), TURNS);
    renders(&o, HI, "<s>[user] hi\n</s>");
    assert_int_equal(o.tokens.ids[0], 1);
    assert_int_equal(o.tokens.ids[o.tokens.count - 1], 2);
    close_spec(&o);
    Rmjob__V1__JobSpec *spec = spec_of(model_with(TURNS));
    spec->data->chat_template = fixture_write_text(directory, "other.jinja", "{{ bos_token }}{{ messages|length }}");
    must_open(&o, spec);
    assert_int_equal(o.rendering.renderer.template_origin, RMJ_TEMPLATE_SPEC);
    renders(&o, HI, "<s>1");
    close_spec(&o);
    must_open(&o, spec_of(model_with(NULL)));
    assert_int_equal(o.rendering.renderer.template_origin, RMJ_TEMPLATE_DEFAULT);
    renders(&o, HI, "<s>\n\nHuman: hi</s>");
    row_refused(&o, "[{\"role\":\"tool\",\"content\":\"x\"}]", "unknown role tool");
    close_spec(&o);
}

static void a_broken_template_is_refused_with_its_line(void **state)
{
    (void)state;
    refused(spec_of(model_with("{{ bos_token }}\n{% for m in messages %}\n{{ m. }}{% endfor %}")), "base_model",
            "chat_template.jinja:3:");
    Rmjob__V1__JobSpec *spec = spec_of(model_with(NULL));
    spec->data->chat_template = fixture_write_text(directory, "broken.jinja", "{{ bos_token }}\n{% if %}");
    refused(spec, "data.chat_template", "broken.jinja:2:");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = fixture_write_text(directory, "empty.jinja", "");
    refused(spec, "data.chat_template", "the file is empty");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = fixture_write_text(directory, "latin.jinja", "{{ 'a\xe9' }}");
    refused(spec, "data.chat_template", "byte 6 is not UTF-8");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = strdup("/nowhere/chat.jinja");
    refused(spec, "data.chat_template", "/nowhere/chat.jinja");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = strdup(directory);
    refused(spec, "data.chat_template", ": not a file");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = fixture_write_text(
        directory, "grows.jinja",
        "{% set n = namespace(l=[1]) %}{% for i in range(60) %}{% set n.l = n.l + n.l %}{% endfor %}");
    refused(spec, "data.chat_template", "makes ever longer texts or lists");
    spec = spec_of(model_with(NULL));
    spec->data->chat_template = fixture_write_text(directory, "filter.jinja", "\n\n{{ 'x' | frobnicate }}");
    refused(spec, "data.chat_template", "frobnicate");
}

static void a_template_that_prints_the_day_says_the_one_that_is_given(void **state)
{
    (void)state;
    struct opened o;
    refused(spec_of(model_with(DATED)), "data.template_date",
            "chat_template.jinja:1: the template prints today's date");
    Rmjob__V1__JobSpec *spec = spec_of(model_with(DATED));
    spec->data->template_date = strdup("2023-02-29");
    refused(spec, "data.template_date", "write a day as YYYY-MM-DD");
    spec = spec_of(model_with(DATED));
    spec->data->template_date = strdup("2024-07-06");
    must_open(&o, spec);
    renders(&o, HI, "<s>06 Jul 2024, 188%\nhi</s>");
    // The exported text needs no date, says the same, and can be given another.
    char *exported = strdup(rmj_renderer_template(&o.rendering.renderer));
    close_spec(&o);
    must_open(&o, spec_of(model_with(exported)));
    assert_string_equal(o.rendering.renderer.date, "2024-07-06");
    assert_string_equal(rmj_renderer_template(&o.rendering.renderer), exported);
    renders(&o, HI, "<s>06 Jul 2024, 188%\nhi</s>");
    close_spec(&o);
    spec = spec_of(model_with(exported));
    spec->data->template_date = strdup("2025-12-31");
    must_open(&o, spec);
    renders(&o, HI, "<s>31 Dec 2025, 365%\nhi</s>");
    assert_true(strlen(rmj_renderer_template(&o.rendering.renderer)) <= strlen(exported) + 40);
    close_spec(&o);
    free(exported);
}

static void freezing_keeps_the_white_space_around_the_template(void **state)
{
    (void)state;
    static const char *const heads[] = {"\n", "\n\n", "  ", "  {% if true %}", "\n{% if true %}\n"};
    for (size_t i = 0; i < RMJ_COUNT(heads); i++) {
        char plain[200], dated[200];
        const char *end = strstr(heads[i], "if") != NULL ? "{% endif %}" : "";
        snprintf(plain, sizeof plain, "%sx{{ '2024' }}%s", heads[i], end);
        snprintf(dated, sizeof dated, "%sx{{ strftime_now('%%Y') }}%s", heads[i], end);
        struct opened a, b;
        must_open(&a, spec_of(model_with(plain)));
        Rmjob__V1__JobSpec *spec = spec_of(model_with(dated));
        spec->data->template_date = strdup("2024-07-06");
        must_open(&b, spec);
        assert_int_equal(encode(&a, HI), RMJ_OK);
        renders(&b, HI, rmj_buf_text(&a.memory.text));
        close_spec(&a);
        close_spec(&b);
    }
}

static void a_sequence_begins_once(void **state)
{
    (void)state;
    struct opened o;
    must_open(&o, spec_of(model_with("<s>" TURNS)));
    row_refused(&o, HI, "begins twice, with a second <s> at token 2: [<s>] [<s>]");
    close_spec(&o);
    must_open(&o, spec_of(model_with(TURNS)));
    row_refused(&o, "[{\"role\":\"user\",\"content\":\"a <s> b\"}]", "the text holds <s>");
    close_spec(&o);
    // A template may begin every turn with it: that is how it puts it.
    must_open(&o, spec_of(model_with("{% for m in messages %}{{ bos_token }}{{ m['content'] }}{% endfor %}")));
    renders(&o, "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"}]", "<s>a<s>b");
    assert_int_equal(count_of(&o, 1), 2);
    close_spec(&o);
}

static void texts_get_one_bos_and_one_eos(void **state)
{
    (void)state;
    static const char *const texts[] = {"abc", "<s>abc", "abc</s>", "<s>abc</s>"};
    struct opened o;
    must_open(&o, spec_of(model_with(NULL)));
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        if (encode_text(&o, texts[i]) != RMJ_OK) {
            fail_msg("%s: %s", texts[i], o.err.message);
        }
        assert_int_equal(o.tokens.ids[0], 1);
        assert_int_equal(o.tokens.ids[o.tokens.count - 1], 2);
        assert_true(count_of(&o, 1) == 1 && count_of(&o, 2) == 1);
        assert_int_equal(o.special, 0);
    }
    assert_int_equal(encode_text(&o, "a<s>b"), RMJ_DATA);
    assert_int_equal(encode_text(&o, "a</s>b"), RMJ_OK);
    assert_int_equal(o.special, 1);
    close_spec(&o);
    // With a template of its own, the tokenizer's post-processor alone says what stands around a text.
    must_open(&o, spec_of(model_with(TURNS)));
    assert_int_equal(encode_text(&o, "abc"), RMJ_OK);
    assert_int_equal(count_of(&o, 1), 0);
    assert_int_equal(count_of(&o, 2), 1);
    close_spec(&o);
}

static void ids_are_taken_as_they_are(void **state)
{
    (void)state;
    struct opened o;
    const int32_t good[] = {1, 40, 50, 2}, pad[] = {1, 286, 2}, outside[] = {1, 4000}, twice[] = {1, 1, 40};
    must_open(&o, spec_of(model_with(NULL)));
    struct rmj_renderer *renderer = &o.rendering.renderer;
    assert_int_equal(renderer->pad, 286);
    assert_int_equal(rmj_renderer_encode_ids(renderer, good, 4, &o.tokens, &o.special, &o.err), RMJ_OK);
    assert_memory_equal(o.tokens.ids, good, sizeof good);
    assert_int_equal(rmj_renderer_encode_ids(renderer, pad, 3, &o.tokens, &o.special, &o.err), RMJ_DATA);
    assert_non_null(strstr(o.err.message, "the row holds the pad token"));
    assert_int_equal(rmj_renderer_encode_ids(renderer, outside, 2, &o.tokens, &o.special, &o.err), RMJ_DATA);
    assert_int_equal(rmj_renderer_encode_ids(renderer, twice, 3, &o.tokens, &o.special, &o.err), RMJ_DATA);
    assert_int_equal(rmj_renderer_encode_ids(renderer, good, 0, &o.tokens, &o.special, &o.err), RMJ_DATA);
    close_spec(&o);
}

static void what_a_template_sees_is_what_transformers_gives_it(void **state)
{
    (void)state;
    struct opened o;
    must_open(&o, spec_of(model_with("{{ messages[0].keys()|list|join(',') }} {{ tools is none }} {{ x is defined }} "
                                     "{{ add_generation_prompt }} {{ unk_token is defined }}")));
    renders(&o, "[{\"role\":\"user\",\"content\":\"hi\",\"name\":null}]", "role,content True False False False");
    renders(&o, "[{\"role\":\"user\",\"content\":\"hi\",\"reasoning\":\"r\"}]",
            "thinking,role,content,reasoning,reasoning_content True False False False");
    renders(&o,
            "{\"messages\":[{\"role\":\"user\"}],\"tools\":[{}],\"kwargs\":{\"x\":1,\"add_generation_prompt\":true}}",
            "role False True True False");
    row_refused(&o, "{\"messages\":[{\"role\":\"user\"}],\"kwargs\":{\"continue_final_message\":true}}",
                "chat_template_kwargs.continue_final_message");
    row_refused(&o, "[]", "a conversation without messages");
    row_refused(&o, "[1]", "message 1 is no object");
    close_spec(&o);
    must_open(&o, spec_of(model_with("{{ raise_exception('only odd days') }}")));
    row_refused(&o, HI, "only odd days");
    close_spec(&o);
}

static void pad_is(const char *files, const char *template, int32_t id, enum rmj_pad_origin origin, const char *why)
{
    char *model = model_with(template);
    struct opened o;
    replace_in(model, "tokenizer.json", "],\"normalizer\"",
               ADDED(286, "<pad>", "true") ADDED(287, "<word>", "false") "],\"normalizer\"");
    free(fixture_write_text(model, "tokenizer_config.json", files));
    free(fixture_write_text(model, "generation_config.json", "{\"eos_token_id\":[2,0]}"));
    must_open(&o, spec_of(model));
    const struct rmj_renderer *renderer = &o.rendering.renderer;
    assert_int_equal(renderer->pad, id);
    assert_int_equal(renderer->pad_origin, origin);
    assert_true((why == NULL) == (renderer->pad_refused == NULL));
    assert_true(why == NULL || strstr(renderer->pad_refused, why) != NULL);
    close_spec(&o);
}

static void the_pad_token_ends_no_sequence_and_is_never_inside_one(void **state)
{
    (void)state;
    pad_is("{\"pad_token\":\"<pad>\"}", NULL, 286, RMJ_PAD_OWN, NULL);
    pad_is("{}", NULL, 288, RMJ_PAD_SPARE, NULL);
    pad_is("{\"pad_token\":\"</s>\"}", NULL, 288, RMJ_PAD_SPARE, "it is the EOS token");
    pad_is("{\"pad_token\":{\"content\":\"<s>\"}}", NULL, 288, RMJ_PAD_SPARE, "it is the BOS token");
    pad_is("{\"pad_token\":\"<unk>\"}", NULL, 288, RMJ_PAD_SPARE,
           "ends a sequence"); // of generation_config.json's list
    pad_is("{\"pad_token\":\"<word>\"}", NULL, 288, RMJ_PAD_SPARE, "text can hold it");
    pad_is("{\"pad_token\":\"<pad>\"}", "{{ messages[0]['content'] }}<pad>{{ eos_token }}", 288, RMJ_PAD_SPARE,
           "the chat template writes it");
    pad_is("{\"pad_token\":\"<pad>\",\"unk_token\":\"<pad>\"}", NULL, 288, RMJ_PAD_SPARE, "the unknown token");
    char *model = fixture_model(directory, "full", 1, 0);
    struct opened o;
    must_open(&o, spec_of(model));
    assert_int_equal(o.rendering.renderer.pad, FIXTURE_VOCABULARY);
    assert_int_equal(o.rendering.renderer.pad_origin, RMJ_PAD_GROWN);
    close_spec(&o);
}

static void a_null_bos_is_none(void **state)
{
    (void)state;
    char *model = model_with(NULL);
    struct opened o;
    free(fixture_write_text(model, "tokenizer_config.json",
                            "{\"bos_token\":null,\"model_max_length\":1000000000000000019884624838656}"));
    must_open(&o, spec_of(model));
    assert_int_equal(o.rendering.renderer.bos, -1);
    renders(&o, HI, "\n\nHuman: hi</s>");
    close_spec(&o);
}

static void another_tokenizer_must_fit_the_model(void **state)
{
    (void)state;
    struct opened o;
    char *other = model_with(TURNS);
    Rmjob__V1__JobSpec *spec = spec_of(model_with(NULL));
    spec->data->tokenizer = strdup(other);
    must_open(&o, spec);
    assert_int_equal(o.rendering.renderer.template_origin, RMJ_TEMPLATE_MODEL);
    close_spec(&o);
    spec = spec_of(fixture_model_with_rows(directory, "short", 1, 0, 280));
    spec->data->tokenizer = other;
    refused(spec, "data.tokenizer", "the tokenizer has ids up to 285, the model's embedding 280 rows");
    spec = spec_of(model_with(NULL));
    spec->data->tokenizer = strdup("/nowhere/tokenizer");
    refused(spec, "data.tokenizer", "/nowhere/tokenizer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_models_own_template_is_used_and_the_specs_wins),
        cmocka_unit_test(a_broken_template_is_refused_with_its_line),
        cmocka_unit_test(a_template_that_prints_the_day_says_the_one_that_is_given),
        cmocka_unit_test(freezing_keeps_the_white_space_around_the_template),
        cmocka_unit_test(a_sequence_begins_once),
        cmocka_unit_test(texts_get_one_bos_and_one_eos),
        cmocka_unit_test(ids_are_taken_as_they_are),
        cmocka_unit_test(what_a_template_sees_is_what_transformers_gives_it),
        cmocka_unit_test(the_pad_token_ends_no_sequence_and_is_never_inside_one),
        cmocka_unit_test(a_null_bos_is_none),
        cmocka_unit_test(another_tokenizer_must_fit_the_model),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
