// Every form in which preference rows come, as one canonical row; and what is refused, each with its message.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fs.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/lines.h"
#include "trainer/data/rows.h"

// A file's own names, for the tables below; quotes are written as ' there.
struct names {
    const char *prompt, *chosen, *rejected, *margin, *system, *instruction, *input, *label;
};

static void make_columns(Rmjob__V1__Columns *columns, const struct names *names)
{
    rmjob__v1__columns__init(columns);
    columns->prompt = (char *)names->prompt;
    columns->chosen = (char *)names->chosen;
    columns->rejected = (char *)names->rejected;
    columns->margin = (char *)names->margin;
    columns->system = (char *)names->system;
    columns->instruction = (char *)names->instruction;
    columns->input = (char *)names->input;
    columns->label = (char *)names->label;
}

static char *with_double_quotes(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    for (char *at = copy; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at == '"' ? '\'' : *at;
    }
    return copy;
}

static void print_json(struct rmj_buf *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    assert_non_null(text);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '"' ? '\'' : *at;
    }
    rmj_buf_puts(out, text);
    free(text);
}

static void print_side(struct rmj_buf *out, const struct rmj_row *row, const struct rmj_row_side *side)
{
    if (row->kind == RMJ_ROW_TEXT) {
        json_t *text = json_stringn(rmj_buf_text(&side->text), side->text.size);
        print_json(out, text);
        json_decref(text);
    } else if (row->kind == RMJ_ROW_MESSAGES) {
        print_json(out, side->messages);
    }
    for (size_t i = 0; i < side->id_count; i++) {
        rmj_buf_printf(out, "%s%d", i > 0 ? "," : "", side->ids[i]);
    }
    rmj_buf_puts(out, side->empty ? " empty" : "");
}

// "form: chosen / rejected / rejected" and then what else the row has.
static void print_row(struct rmj_buf *out, const struct rmj_row *row)
{
    rmj_buf_printf(out, "%s: ", rmj_row_form_name(row->form, row->prompt_apart));
    print_side(out, row, &row->chosen);
    for (uint32_t i = 0; i < row->rejected_count; i++) {
        rmj_buf_puts(out, " / ");
        print_side(out, row, &row->rejected[i]);
    }
    if (row->tools != NULL) {
        rmj_buf_puts(out, " tools ");
        print_json(out, row->tools);
    }
    if (row->template_kwargs != NULL) {
        rmj_buf_puts(out, " kwargs ");
        print_json(out, row->template_kwargs);
    }
    if (row->has_margin) {
        rmj_buf_printf(out, " margin %g", (double)row->margin);
    }
    if (row->ignored.size > 0) {
        rmj_buf_printf(out, " ignored %s", rmj_buf_text(&row->ignored));
    }
}

static void parse(struct rmj_row *row, Rmjob__V1__DataForm form, const struct names *names, int has_template,
                  const char *text, struct rmj_buf *out)
{
    Rmjob__V1__Columns columns;
    struct rmj_error err = {0};
    make_columns(&columns, names);
    const struct rmj_row_format format = {.form = form, .columns = &columns, .model_has_template = has_template};
    char *line = with_double_quotes(text);
    rmj_buf_init(out, 1 << 20);
    if (rmj_row_parse(row, &format, line, strlen(line), 1, &err) == RMJ_OK) {
        print_row(out, row);
    } else {
        assert_int_equal(err.status, RMJ_DATA);
        rmj_buf_printf(out, "refused: %s", err.message);
    }
    free(line);
}

#define FORM(name) RMJOB__V1__DATA_FORM__##name
#define U(text) "{'content':'" text "','role':'user'}"
#define A(text) "{'content':'" text "','role':'assistant'}"
#define S(text) "{'content':'" text "','role':'system'}"

static const struct {
    Rmjob__V1__DataForm form;
    int has_template;
    struct names names;
    const char *row, *expected;
} rows[] = {
    // TRL's forms.
    {0, 1, {0}, "{'chosen':'ab','rejected':'ac'}", "text: 'ab' / 'ac'"},
    {0, 1, {0}, "{'prompt':'p ','chosen':'a','rejected':'b'}", "text, prompt apart: 'p a' / 'p b'"},
    {0,
     1,
     {0},
     "{'chosen':[" U("p") "," A("a") "],'rejected':[" U("p") "," A("b") "]}",
     "messages: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    {0,
     0,
     {0},
     "{'prompt':[" S("s") "," U("p") "],'chosen':[" A("a") "],'rejected':[" A("b") "]}",
     "messages, prompt apart: [" S("s") "," U("p") "," A("a") "] / [" S("s") "," U("p") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[" A("") "],'margin':0.5,'id':7}",
     "messages, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("") "] empty margin 0.5 ignored id"},
    {0,
     1,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[" A("b") "],'tools':[{'name':'f'}],"
                                                                        "'chat_template_kwargs':{'thinking':false}}",
     "messages, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "] tools [{'name':'f'}] kwargs "
                                                                             "{'thinking':false}"},
    // Keys beside role and content stay; those that are null do not.
    {0,
     1,
     {0},
     "{'prompt':[" U(
         "p") "],'chosen':[{'role':'assistant','content':null,'tool_calls':[{'id':'1'}],"
              "'name':null,'reasoning_content':'r'},{'role':'tool','content':[{'type':'text','text':'t'}]}],"
              "'rejected':[" A("b") "]}",
     "messages, prompt apart: [" U("p") ",{'reasoning_content':'r','role':'assistant','tool_calls':[{'id':'1'}]},"
                                        "{'content':[{'text':'t','type':'text'}],'role':'tool'}] / [" U("p") "," A(
                                            "b") "]"},
    {0, 1, {0}, "{'chosen_ids':[1,2],'rejected_ids':[1,3,4],'margin':null}", "token_ids: 1,2 / 1,3,4"},
    {0,
     1,
     {0},
     "{'chosen':'a','rejected':'b','chosen_input_ids':[1],'rejected_input_ids':[2],"
     "'chosen_attention_mask':[1],'rejected_attention_mask':[1]}",
     "token_ids: 1 / 2 ignored chosen\nrejected"},
    {0,
     1,
     {.chosen = "input_ids_j", .rejected = "input_ids_k"},
     "{'input_ids_j':[5],'input_ids_k':[6,7]}",
     "token_ids: 5 / 6,7"},
    // Texts of turns: as they stand for the default template, which writes just these marks; else conversations.
    {0,
     0,
     {0},
     "{'chosen':'\\n\\nHuman: p\\n\\nAssistant: a','rejected':'\\n\\nHuman: p\\n\\nAssistant: b'}",
     "text: '\\n\\nHuman: p\\n\\nAssistant: a' / '\\n\\nHuman: p\\n\\nAssistant: b'"},
    {0,
     1,
     {0},
     "{'chosen':'\\n\\nHuman: p\\n\\nAssistant: a','rejected':'\\n\\nHuman: p\\n\\nAssistant: '}",
     "hh: [" U("p") "," A("a") "] / [" U("p") "," A("") "] empty"},
    {FORM(hh),
     0,
     {0},
     "{'prompt':'\\n\\nHuman: p\\n\\nAssistant:','chosen':' a','rejected':' b'}",
     "hh, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    {FORM(text),
     1,
     {0},
     "{'chosen':'\\n\\nHuman: p','rejected':'\\n\\nHuman: q'}",
     "text: '\\n\\nHuman: p' / '\\n\\nHuman: q'"},
    // ShareGPT.
    {0,
     1,
     {0},
     "{'conversations':[{'from':'system','value':'s'},{'from':'human','value':'p'}],"
     "'chosen':{'from':'gpt','value':'a'},'rejected':{'from':'gpt','value':'b'}}",
     "sharegpt, prompt apart: [" S("s") "," U("p") "," A("a") "] / [" S("s") "," U("p") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'system':'s','chosen':[{'from':'human','value':'p'},{'from':'gpt','value':'a'}],"
     "'rejected':[{'from':'human','value':'p'},{'from':'gpt','value':'b'}]}",
     "sharegpt: [" S("s") "," U("p") "," A("a") "] / [" S("s") "," U("p") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'conversations':[" U("p") "],'chosen':" A("a") ",'rejected':" A("b") "}",
     "messages, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    // Alpaca and pairs of outputs.
    {0,
     1,
     {0},
     "{'instruction':'p','input':'','chosen':'a','rejected':'b'}",
     "alpaca: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'instruction':'p','input':'q','output':['a','b'],'system':'s','history':[['x','y']]}",
     "alpaca: [" S("s") "," U("x") "," A("y") "," U("p\\nq") "," A("a") "] / [" S("s") "," U("x") "," A("y") "," U(
         "p\\nq") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'input':'p','output_1':'a','output_2':'b','label':2}",
     "alpaca: [" U("p") "," A("b") "] / [" U("p") "," A("a") "]"},
    {0,
     1,
     {0},
     "{'input':'p','output':['a','b'],'label':1}",
     "alpaca: [" U("p") "," A("b") "] / [" U("p") "," A("a") "]"},
    {FORM(alpaca),
     1,
     {.instruction = "prompt", .chosen = "response_0", .rejected = "response_1", .label = "better"},
     "{'prompt':'p','response_0':'a','response_1':'b','better':1}",
     "alpaca: [" U("p") "," A("b") "] / [" U("p") "," A("a") "]"},
    // One good answer and several bad ones; RewardBench 2's rows.
    {0,
     1,
     {0},
     "{'prompt':'p','chosen':['a'],'rejected':['b','c'],'num_correct':1}",
     "best_of_n, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "] / [" U("p") "," A("c") "] ignored "
                                                                                                        "num_correct"},
    {0,
     1,
     {0},
     "{'prompt':[" U("p") "],'chosen':'a','rejected':['b']}",
     "best_of_n, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    {0,
     1,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[[" A("b") "],[" A("c") "]]}",
     "best_of_n, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "] / [" U("p") "," A("c") "]"},
    {0,
     0,
     {0},
     "{'prompt':'\\n\\nHuman: p\\n\\nAssistant:','chosen':' a','rejected':[' b',' c']}",
     "best_of_n, prompt apart: '\\n\\nHuman: p\\n\\nAssistant: a' / '\\n\\nHuman: p\\n\\nAssistant: b' / "
     "'\\n\\nHuman: p\\n\\nAssistant: c'"},
    {0,
     1,
     {0},
     "{'prompt':'\\n\\nHuman: p\\n\\nAssistant:','chosen':' a','rejected':[' b']}",
     "best_of_n, prompt apart: [" U("p") "," A("a") "] / [" U("p") "," A("b") "]"},
    {0, 1, {0}, "{'chosen':'pa','rejected':['pb','pc']}", "best_of_n: 'pa' / 'pb' / 'pc'"},
    // A question that both conversations hold already.
    {0,
     1,
     {0},
     "{'prompt':'p','messages':[],'chosen':[" U("p") "," A("a") "],'rejected':[" U("p") "," A("b") "]}",
     "messages: [" U("p") "," A("a") "] / [" U("p") "," A("b") "] ignored messages"},
    // Own names.
    {0,
     1,
     {.prompt = "question", .chosen = "good", .rejected = "bad", .margin = "by"},
     "{'question':'p','good':'a','bad':'b','by':2}",
     "text, prompt apart: 'pa' / 'pb' margin 2"},
    {0, 1, {.chosen = "rejected", .rejected = "chosen"}, "{'chosen':'a','rejected':'b'}", "text: 'b' / 'a'"},
};

static void every_form_gives_one_canonical_row(void **state)
{
    (void)state;
    struct rmj_row row;
    rmj_row_init(&row);
    for (size_t i = 0; i < RMJ_COUNT(rows); i++) {
        struct rmj_buf out;
        parse(&row, rows[i].form, &rows[i].names, rows[i].has_template, rows[i].row, &out);
        if (strcmp(rmj_buf_text(&out), rows[i].expected) != 0) {
            fail_msg("row %s\n gives %s\n not   %s", rows[i].row, rmj_buf_text(&out), rows[i].expected);
        }
        rmj_buf_deinit(&out);
    }
    rmj_row_deinit(&row);
}

static const struct {
    Rmjob__V1__DataForm form;
    struct names names;
    const char *row, *message;
} refused[] = {
    {0,
     {.prompt = "question"},
     "{'chosen':'a','rejected':'b','q':1}",
     "no column 'question', which columns.prompt names; found: chosen, rejected, q"},
    {0,
     {.label = "best"},
     "{'chosen':'a','rejected':'b','best':1}",
     "columns.label names 'best', but a row of the form text has no use for it"},
    {0, {0}, "{'prompt':'p','chosen':'a','rejected':'b','tools':[{}]}", "column 'tools' is for a chat template"},
    {0, {0}, "{'chosen':'a','rejected':'b','system':'s'}", "column 'system' is for a chat template"},
    {0, {0}, "{'chosen':'a','rejected':'b','images':['x']}", "column 'images': rows with images"},
    {0,
     {0},
     "{'question':'p','chosen':'a','rejected':'b'}",
     "the sides show no prompt, and column 'question' would be left aside: set columns.prompt to it"},
    {0, {0}, "{'chosen':[" A("a") "],'rejected':[" A("b") "],'messages':[" U("p") "]}", "the sides show no prompt"},
    {0,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[" A("b") "],'tools':'nothing'}",
     "tools must be a list of objects"},
    {0,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[" A("b") "],'tools':['f']}",
     "tools must be a list of objects"},
    {0,
     {0},
     "{'prompt':[" U("p") "],'chosen':[" A("a") "],'rejected':[" A("b") "],'chat_template_kwargs':[]}",
     "chat_template_kwargs must be an object"},
    {0,
     {0},
     "{'prompt':[" S("s") "],'chosen':[" A("a") "],'rejected':[" A("b") "],'system':'t'}",
     "column 'system' and the first message are two system messages"},
    {0,
     {0},
     "{'prompt':'other','chosen':[" U("p") "," A("a") "],'rejected':[" U("p") "," A("b") "]}",
     "prompt is text, but chosen is a list of messages"},
    {0, {0}, "{'chosen_ids':[1],'rejected_ids':[]}", "rejected_ids is empty"},
    {0, {0}, "{'chosen_ids':[1,-2],'rejected_ids':[1]}", "chosen_ids[1] is no token id"},
    {0, {0}, "{'chosen_ids':[1.5],'rejected_ids':[1]}", "chosen_ids[0] is no token id"},
    {0, {0}, "{'chosen_ids':[4294967296],'rejected_ids':[1]}", "chosen_ids[0] is no token id"},
    {0, {0}, "{'chosen_ids':[1],'rejected_ids':[2],'prompt_ids':[3]}", "column 'prompt_ids': the ids of a side"},
    {0,
     {0},
     "{'chosen_input_ids':[1,0],'rejected_input_ids':[2],'chosen_attention_mask':[1,0]}",
     "chosen_attention_mask is not 1 for each of the 2 ids"},
    {0, {0}, "{'chosen_ids':[1],'chosen':'a','rejected':'b'}", "column 'chosen_ids' stands without its other side"},
    {FORM(hh),
     {0},
     "{'chosen':'x\\n\\nHuman: p\\n\\nAssistant: a','rejected':'b'}",
     "chosen: the text does not begin with"},
    {FORM(hh),
     {0},
     "{'chosen':'\\n\\nHuman: p\\n\\nAssistant:a','rejected':'b'}",
     "chosen: turn 2 has no space after \"Assistant:\""},
    {FORM(hh),
     {0},
     "{'chosen':'\\n\\nHuman: p\\n\\nAssistant: a','rejected':'\\n\\nHuman: p'}",
     "rejected: the last of 1 turns is Human's"},
    {0,
     {0},
     "{'conversations':[{'from':'bot','value':'x'}],'chosen':{'from':'gpt','value':'a'},'rejected':{'from':"
     "'gpt','value':'b'}}",
     "conversations[0]: from 'bot': it is human, gpt"},
    {0,
     {0},
     "{'conversations':[{'from':'function_call','value':'f(x)'}],'chosen':{'from':'gpt','value':'a'},"
     "'rejected':{'from':'gpt','value':'b'}}",
     "conversations[0]: the value of a function_call must be JSON"},
    {0, {0}, "{'input':'p','output_1':'a','output_2':'b','label':0}", "label says neither 'output_1' nor 'output_2'"},
    {0, {0}, "{'input':'p','output_1':'a','output_2':'b'}", "no column 'label'"},
    {0, {0}, "{'input':'p','output':['a','b','c']}", "output is a list; it must be a list of two texts"},
    {0, {0}, "{'instruction':'','chosen':'a','rejected':'b'}", "there is no question"},
    {0, {0}, "{'prompt':'p','chosen':['a','b'],'rejected':['c']}", "chosen has 2 answers; a row takes one"},
    {0, {0}, "{'prompt':'p','chosen':'a','rejected':['c',[]]}", "rejected[1] is a list, chosen text"},
    {FORM(best_of_n), {0}, "{'prompt':'p','chosen':'a','rejected':[]}", "rejected has 0 answers"},
    {FORM(messages), {0}, "{'chosen':'a','rejected':'b'}", "chosen is text; it must be a list of messages"},
    {FORM(text), {0}, "{'chosen':[" A("a") "],'rejected':[" A("b") "]}", "chosen is a list; it must be text"},
    {FORM(token_ids), {0}, "{'chosen':'a','rejected':'b'}", "chosen is text; it must be a list of token ids"},
    {FORM(sharegpt),
     {0},
     "{'chosen':[" U("p") "],'rejected':[" U("p") "]}",
     "chosen[0] is an object without from and value"},
};

static void odd_rows_are_refused_with_what_is_odd(void **state)
{
    (void)state;
    struct rmj_row row;
    rmj_row_init(&row);
    for (size_t i = 0; i < RMJ_COUNT(refused); i++) {
        struct rmj_buf out;
        parse(&row, refused[i].form, &refused[i].names, 1, refused[i].row, &out);
        if (strncmp(rmj_buf_text(&out), "refused: ", 9) != 0 ||
            strstr(rmj_buf_text(&out), refused[i].message) == NULL) {
            fail_msg("row %s\n gives %s\n not   %s", refused[i].row, rmj_buf_text(&out), refused[i].message);
        }
        rmj_buf_deinit(&out);
    }
    rmj_row_deinit(&row);
}

static void function_calls_of_sharegpt_become_tool_calls(void **state)
{
    (void)state;
    static const char line[] =
        "{\"conversations\":[{\"from\":\"human\",\"value\":\"p\"},{\"from\":\"function_call\",\"value\":"
        "\"{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"x\\\":1}}\"},{\"from\":\"observation\",\"value\":\"o\"}],"
        "\"chosen\":{\"from\":\"gpt\",\"value\":\"a\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"b\"},"
        "\"tools\":\"[{\\\"name\\\":\\\"f\\\"}]\"}";
    const struct rmj_row_format format = {.form = RMJOB__V1__DATA_FORM__automatic};
    struct rmj_row row;
    struct rmj_buf out;
    rmj_buf_init(&out, 1 << 16);
    rmj_row_init(&row);
    assert_int_equal(rmj_row_parse(&row, &format, line, sizeof line - 1, 1, NULL), RMJ_OK);
    print_json(&out, json_array_get(row.chosen.messages, 1));
    assert_string_equal(rmj_buf_text(&out),
                        "{'content':'','role':'assistant','tool_calls':[{'function':{'arguments':{'x':1},'name':'f'},"
                        "'type':'function'}]}");
    assert_string_equal(json_string_value(json_object_get(json_array_get(row.chosen.messages, 2), "role")), "tool");
    assert_int_equal(json_array_size(row.tools), 1);
    rmj_buf_deinit(&out);
    rmj_row_deinit(&row);
}

// Rebuilds the text of a conversation as the default template writes it.
static void write_turns(struct rmj_buf *out, const json_t *messages)
{
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message)
    {
        int user = strcmp(json_string_value(json_object_get(message, "role")), "user") == 0;
        rmj_buf_puts(out, user ? "\n\nHuman: " : "\n\nAssistant: ");
        rmj_buf_puts(out, json_string_value(json_object_get(message, "content")));
    }
}

static void real_hh_texts_survive_the_way_through_conversations(void **state)
{
    (void)state;
    char *data = fixture_data();
    if (data == NULL) {
        skip();
        return;
    }
    char *path = rmj_fs_join(data, "preferences/harmless-base-test.jsonl.gz");
    const struct rmj_row_format as_text = {.form = RMJOB__V1__DATA_FORM__text};
    const struct rmj_row_format as_turns = {.form = RMJOB__V1__DATA_FORM__automatic, .model_has_template = 1};
    struct rmj_row text, turns;
    struct rmj_lines *lines;
    struct rmj_error err = {0};
    const char *line;
    size_t size, rows_read = 0;
    int ended;
    rmj_row_init(&text);
    rmj_row_init(&turns);
    assert_int_equal(rmj_lines_open(&lines, path, path, &err), RMJ_OK);
    while (rmj_lines_next(lines, &line, &size, &ended, &err) == RMJ_OK && line != NULL) {
        assert_int_equal(rmj_row_parse(&text, &as_text, line, size, ended, &err), RMJ_OK);
        if (rmj_row_parse(&turns, &as_turns, line, size, ended, &err) != RMJ_OK) {
            fail_msg("row %zu: %s", rows_read + 1, err.message);
        }
        assert_int_equal(turns.form, RMJOB__V1__DATA_FORM__hh);
        const struct rmj_row_side *from[] = {&text.chosen, &text.rejected[0]};
        const struct rmj_row_side *to[] = {&turns.chosen, &turns.rejected[0]};
        for (int i = 0; i < 2; i++) {
            struct rmj_buf back;
            rmj_buf_init(&back, 1 << 24);
            write_turns(&back, to[i]->messages);
            assert_string_equal(rmj_buf_text(&back), rmj_buf_text(&from[i]->text));
            assert_int_equal(from[i]->empty, to[i]->empty);
            rmj_buf_deinit(&back);
        }
        assert_string_equal(rmj_buf_text(&text.prompt), rmj_buf_text(&turns.prompt));
        rows_read++;
    }
    assert_int_equal(rows_read, 2312);
    rmj_lines_close(lines);
    rmj_row_deinit(&text);
    rmj_row_deinit(&turns);
    free(path);
    free(data);
}

// Real files as they come: ShareGPT, and outputs with a label.
static void real_lists_are_read_whole(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t rows;
        Rmjob__V1__DataForm form;
    } files[] = {
        {"preferences/dpo_en_demo.json", 300, FORM(sharegpt)},
        {"preferences/llmbar_natural.json", 100, FORM(alpaca)},
        {"preferences/llmbar_adversarial_manual.json", 46, FORM(alpaca)},
        {"rb2/reward_bench_2_sample_25.jsonl", 1, FORM(best_of_n)}, // those of Ties have several good answers
    };
    char *data = fixture_data();
    if (data == NULL) {
        skip();
        return;
    }
    for (size_t i = 0; i < RMJ_COUNT(files); i++) {
        char *path = rmj_fs_join(data, files[i].name);
        const struct rmj_row_format format = {.form = RMJOB__V1__DATA_FORM__automatic, .model_has_template = 1};
        struct rmj_row row;
        struct rmj_lines *lines;
        struct rmj_error err = {0};
        const char *line;
        size_t size, rows_read = 0;
        int ended;
        rmj_row_init(&row);
        assert_int_equal(rmj_lines_open(&lines, path, path, &err), RMJ_OK);
        while (rmj_lines_next(lines, &line, &size, &ended, &err) == RMJ_OK && line != NULL) {
            if (rmj_row_parse(&row, &format, line, size, ended, &err) != RMJ_OK) {
                assert_non_null(strstr(err.message, "answers; a row takes one"));
                continue;
            }
            assert_int_equal(row.form, files[i].form);
            assert_int_equal(row.kind, RMJ_ROW_MESSAGES);
            assert_true(row.prompt.size > 0 && !row.chosen.empty);
            rows_read++;
        }
        assert_true(rows_read == files[i].rows || (rows_read > 0 && files[i].form == FORM(best_of_n)));
        rmj_lines_close(lines);
        rmj_row_deinit(&row);
        free(path);
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_gives_one_canonical_row),
        cmocka_unit_test(odd_rows_are_refused_with_what_is_odd),
        cmocka_unit_test(function_calls_of_sharegpt_become_tool_calls),
        cmocka_unit_test(real_lists_are_read_whole),
        cmocka_unit_test(real_hh_texts_survive_the_way_through_conversations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
