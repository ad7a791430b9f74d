// Which template a model is trained with: its text, compiled once.
#include "trainer/data/template.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/data/template_internal.h"
#include "trainer/jinja/jinja.h"

#define TRIAL_STEPS 1000000u

const char *rmj_default_chat_template(void)
{
    return "{{ bos_token }}{% for message in messages %}"
           "{% if message['role'] == 'system' %}"
           "{% if not loop.first %}{{ raise_exception('a system message must be the first') }}{% endif %}"
           "{{ message['content'] }}"
           "{% elif message['role'] in ['user', 'human'] %}{{ '\\n\\nHuman: ' + message['content'] }}"
           "{% elif message['role'] in ['assistant', 'gpt'] %}{{ '\\n\\nAssistant: ' + message['content'] }}"
           "{% else %}{{ raise_exception('unknown role ' + message['role']) }}{% endif %}"
           "{% endfor %}{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% else %}{{ eos_token }}{% endif %}";
}

const char *rmj_template_origin_text(enum rmj_template_origin origin)
{
    static const char *const texts[] = {
        [RMJ_TEMPLATE_DEFAULT] = "the default chat template, as the model has none",
        [RMJ_TEMPLATE_MODEL] = "the model's own chat template",
        [RMJ_TEMPLATE_SPEC] = "data.chat_template",
    };
    return texts[origin];
}

static void fault(const struct rmj_renderer_options *options, const char *field)
{
    if (options->field != NULL) {
        *options->field = field;
    }
}

static const char *choose(struct rmj_renderer *renderer, const struct rmj_renderer_options *options)
{
    const char *own = rmj_tokenizer_chat_template(options->tokenizer);
    if (options->template_text != NULL) {
        renderer->template_origin = RMJ_TEMPLATE_SPEC;
        return options->template_text;
    }
    if (own != NULL && strcmp(own, rmj_default_chat_template()) != 0) {
        renderer->template_origin = RMJ_TEMPLATE_MODEL;
        return own;
    }
    renderer->template_origin = RMJ_TEMPLATE_DEFAULT;
    return rmj_default_chat_template();
}

// The day that the template is to say, in renderer->date; "" where it says none.
static enum rmj_status choose_date(struct rmj_renderer *renderer, const struct rmj_renderer_options *options,
                                   const char *text, const char *name, struct rmj_error *err)
{
    int frozen = rmj_template_frozen_date(text, renderer->date);
    if (options->date != NULL && !rmj_template_date_valid(options->date)) {
        fault(options, "data.template_date");
        return rmj_fail(err, RMJ_INVALID, "data.template_date is '%.40s'; write a day as YYYY-MM-DD", options->date);
    }
    if (!frozen && !rmj_jinja_uses_date(renderer->jinja)) {
        return RMJ_OK;
    }
    if (options->date != NULL) {
        memcpy(renderer->date, options->date, sizeof renderer->date);
    } else if (!frozen) {
        fault(options, "data.template_date");
        return rmj_fail(err, RMJ_DATA,
                        "%s:%zu: the template prints today's date (strftime_now), so that the same pair would be "
                        "another text tomorrow: set data.template_date to the day it shall say, as YYYY-MM-DD",
                        name, rmj_template_date_line(text));
    }
    return RMJ_OK;
}

// The text that counts, compiled. A fault in the template is told by the line of the file as it was given.
static enum rmj_status compile(struct rmj_renderer *renderer, const struct rmj_renderer_options *options,
                               struct rmj_error *err)
{
    const char *text = choose(renderer, options);
    const char *name = renderer->template_origin == RMJ_TEMPLATE_DEFAULT ? "the default chat template"
                       : options->template_name != NULL                  ? options->template_name
                                                                         : "chat_template.jinja";
    fault(options, renderer->template_origin == RMJ_TEMPLATE_SPEC ? "data.chat_template" : "base_model");
    RMJ_TRY(rmj_jinja_compile(&renderer->jinja, name, text, strlen(text), err));
    RMJ_TRY(choose_date(renderer, options, text, name, err));
    if (renderer->date[0] == '\0') {
        renderer->template_text = strdup(text);
        RMJ_ASSERT(renderer->template_text != NULL);
        return RMJ_OK;
    }
    RMJ_TRY(rmj_template_freeze(text, renderer->date, &renderer->template_text, err));
    rmj_jinja_free(renderer->jinja);
    renderer->jinja = NULL;
    return rmj_jinja_compile(&renderer->jinja, name, renderer->template_text, strlen(renderer->template_text), err);
}

// A template that goes round for ever, or grows for ever, is found with two short messages, before every row would do
// the same. Whatever else it says of them does not count: they may not be to its taste.
static enum rmj_status try_template(const struct rmj_renderer *renderer, struct rmj_error *err)
{
    struct rmj_buf text;
    struct rmj_error own = {0};
    rmj_buf_init(&text, RMJ_JINJA_OUTPUT_SIZE_MAX);
    json_t *variables = json_copy(renderer->variables);
    json_object_set_new(variables, "tools", json_null());
    json_object_set_new(
        variables, "messages",
        json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "hi", "role", "assistant", "content", "hello"));
    struct rmj_jinja_input input = {.variables = variables, .step_count_max = TRIAL_STEPS};
    enum rmj_status status = rmj_jinja_render(renderer->jinja, &input, &text, NULL, NULL, &own);
    const char *why = status == RMJ_OK                                 ? NULL
                      : strstr(own.message, "gave up after") != NULL   ? "the template does not end"
                      : strstr(own.message, "bytes of memory") != NULL ? "the template makes ever longer texts or lists"
                                                                       : NULL;
    json_decref(variables);
    rmj_buf_deinit(&text);
    return why == NULL ? RMJ_OK : rmj_fail(err, RMJ_DATA, "%s for a conversation of two words: %s", own.message, why);
}

enum rmj_status rmj_renderer_init(struct rmj_renderer *renderer, const struct rmj_renderer_options *options,
                                  struct rmj_error *err)
{
    *renderer = (struct rmj_renderer){
        .tokenizer = options->tokenizer,
        .vocabulary_size = options->config->vocabulary_size,
    };
    enum rmj_status status = compile(renderer, options, err);
    if (status == RMJ_OK) {
        fault(options, "base_model");
        status = rmj_renderer_read_tokens(renderer, options, err);
    }
    if (status == RMJ_OK) {
        fault(options, renderer->template_origin == RMJ_TEMPLATE_SPEC ? "data.chat_template" : "base_model");
        status = try_template(renderer, err);
    }
    if (status != RMJ_OK) {
        rmj_renderer_deinit(renderer);
    }
    return status;
}

void rmj_renderer_deinit(struct rmj_renderer *renderer)
{
    for (size_t i = 0; i < renderer->special_count; i++) {
        free(renderer->special_texts[i]);
    }
    free(renderer->special_texts);
    free(renderer->bos_text);
    free(renderer->eos_text);
    free(renderer->pad_text);
    free(renderer->special);
    free(renderer->template_text);
    rmj_jinja_free(renderer->jinja);
    json_decref(renderer->variables);
    *renderer = (struct rmj_renderer){0};
}

const char *rmj_renderer_template(const struct rmj_renderer *renderer)
{
    return renderer->template_text;
}
