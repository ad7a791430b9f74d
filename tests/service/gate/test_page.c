// The page of a report: everything known is on it, nothing on it can act, and whatever a name holds stays text.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/text/text_format.h"
#include "service/gate/page.h"
#include "service/gate/page_internal.h"

static const char known[] =
    "{\"job\":\"rm-1\",\"spec\":{\"base_model\":\"/models/base\",\"publish\":{\"name\":\"support-rm\"}},"
    "\"data\":{\"files\":[{\"path\":\"a.jsonl\",\"name\":\"tickets\",\"rows\":\"1200\",\"accepted\":\"1100\","
    "\"dropped_duplicate\":\"60\",\"dropped_over_length\":\"30\",\"dropped_identical_sides\":\"10\",\"sha256\":"
    "\"00aa\"}],"
    "\"rows\":\"1200\",\"pairs\":\"1100\",\"dropped_duplicate\":\"60\",\"dropped_over_length\":\"30\","
    "\"dropped_identical_sides\":\"10\",\"near_duplicates\":\"17\",\"contradictions\":\"4\",\"heldout_overlap\":\"3\","
    "\"benchmark_overlap\":\"2\",\"length_rule_accuracy\":0.625,"
    "\"sources\":[{\"name\":\"tickets\",\"pairs\":\"1100\",\"length_rule_accuracy\":0.625,"
    "\"languages\":[{\"language\":\"German\",\"pairs\":\"1100\"}],"
    "\"lengths\":[{\"up_to_tokens\":\"64\",\"chosen\":\"600\",\"rejected\":\"900\"},"
    "{\"up_to_tokens\":\"2048\",\"chosen\":\"500\",\"rejected\":\"200\"}]}],"
    "\"swapped_between\":[{\"source\":\"tickets\",\"other\":\"chat\",\"pairs\":\"5\"}],"
    "\"issues\":[{\"kind\":\"near_duplicate\",\"path\":\"a.jsonl\",\"row\":\"77\",\"detail\":\"nearly repeats "
    "a.jsonl:5\"}]},"
    "\"training\":{\"sources\":[{\"path\":\"a.jsonl\",\"whole\":{\"first_step\":1,\"last_step\":20,\"pairs\":\"1100\","
    "\"accuracy\":0.6,\"low\":0.57,\"high\":0.63,\"mean_margin\":0.4,\"margin_error\":0.02},"
    "\"windows\":[{\"first_step\":1,\"last_step\":10,\"pairs\":\"550\",\"accuracy\":0.55,\"low\":0.5,\"high\":0.6,"
    "\"mean_margin\":0.1,\"margin_error\":0.02},{\"first_step\":11,\"last_step\":20,\"pairs\":\"550\",\"accuracy\":0."
    "65,"
    "\"low\":0.6,\"high\":0.7,\"mean_margin\":0.7,\"margin_error\":0.02}]}],\"warnings\":[\"rows 3 to 9 look odd\"]},"
    "\"verdict\":{\"passed\":false,\"checks\":[{\"name\":\"math\",\"value\":0.4,\"needs\":0.5,\"passed\":false,"
    "\"note\":\"uncertain\"}]}}";

static Rmjob__V1__JobReport *parse(const char *text)
{
    ProtobufCMessage *message = NULL;
    struct rmj_error err = {0};
    if (rmj_json_parse(&rmjob__v1__job_report__descriptor, "report", text, strlen(text), &message, NULL, &err) !=
        RMJ_OK) {
        fail_msg("%s", err.message);
    }
    return (Rmjob__V1__JobReport *)message;
}

static void page_of(const Rmjob__V1__JobReport *report, struct rmj_buf *out)
{
    struct rmj_error err = {0};
    rmj_buf_init(out, 64 << 20);
    rmj_report_page(report, out);
    assert_int_equal(rmj_buf_check(out, &err), RMJ_OK);
}

// Every tag is closed in its order, as in XML; attributes are quoted. Returns how many tags there are.
static size_t check_tags(const char *page)
{
    char open[64][16];
    size_t depth = 0, count = 0;
    const char *at = strstr(page, "<html");
    assert_non_null(at);
    for (; (at = strchr(at, '<')) != NULL; count++) {
        const char *end = strchr(at, '>');
        char name[16] = "";
        assert_non_null(end);
        int closing = at[1] == '/';
        size_t length = strcspn(at + 1 + closing, " />");
        assert_true(length > 0 && length < sizeof name);
        memcpy(name, at + 1 + closing, length);
        size_t quotes = 0;
        for (const char *c = at; c < end; c++) {
            quotes += *c == '"';
        }
        assert_int_equal(quotes % 2, 0);
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            memcpy(open[depth++], name, sizeof name);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
    return count;
}

static void all_that_is_known_is_on_the_page(void **state)
{
    (void)state;
    struct rmj_buf page;
    Rmjob__V1__JobReport *report = parse(known);
    page_of(report, &page);
    const char *const expected[] = {"<h1>support-rm</h1>",
                                    "gate failed: 1 of 1 checks",
                                    "uncertain",
                                    "1,200",
                                    "exact duplicates <b>60</b>",
                                    "near duplicates</b></td><td class=\"n\">17",
                                    "German <b>100.0 %",
                                    "62.5 %",
                                    "a.jsonl:77",
                                    "nearly repeats a.jsonl:5",
                                    "900 rejected sides of up to 64 tokens",
                                    ">2k</text>",
                                    "accuracy by step and source",
                                    "steps 11 to 20: 65.0 % (60.0 to 70.0)",
                                    "mean margin by step and source",
                                    "57.0-63.0",
                                    "rows 3 to 9 look odd",
                                    "prefers-color-scheme:dark",
                                    "sides exchanged between sources"};
    for (size_t i = 0; i < RMJ_COUNT(expected); i++) {
        if (strstr(rmj_buf_text(&page), expected[i]) == NULL) {
            fail_msg("'%s' is not on the page", expected[i]);
        }
    }
    assert_true(check_tags(rmj_buf_text(&page)) > 200);
    rmj_buf_deinit(&page);
    rmjob__v1__job_report__free_unpacked(report, NULL);
}

static void the_page_is_of_one_piece(void **state)
{
    (void)state;
    struct rmj_buf page;
    Rmjob__V1__JobReport *report = parse(known);
    page_of(report, &page);
    const char *const absent[] = {"<script", "http:", "https:", "url(", "src=", "href=", "@import", "onload"};
    for (size_t i = 0; i < RMJ_COUNT(absent); i++) {
        assert_null(strstr(rmj_buf_text(&page), absent[i]));
    }
    assert_non_null(strstr(rmj_buf_text(&page), "default-src 'none'"));
    rmj_buf_deinit(&page);
    rmjob__v1__job_report__free_unpacked(report, NULL);
}

static void texts_stay_text(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"},
        {"a\" onload='x' & b", "a&quot; onload=&#39;x&#39; &amp; b"},
        {"&amp;", "&amp;amp;"},
        {"naïve 好 🎉", "naïve 好 🎉"},
        {"a\x01"
         "b\x7f"
         "c\x1b[31m",
         "a&#xfffd;b&#xfffd;c&#xfffd;[31m"},
        {"evil\xe2\x80\xaegpj.exe", "evil&#xfffd;gpj.exe"},
        {"\xff\xc3(\xed\xa0\x80", "&#xfffd;&#xfffd;(&#xfffd;&#xfffd;&#xfffd;"},
        {"cut \xe2\x80", "cut &#xfffd;&#xfffd;"},
        {"\xc2\x85", "&#xfffd;"},
    };
    for (size_t i = 0; i < RMJ_COUNT(texts); i++) {
        struct rmj_buf out;
        rmj_buf_init(&out, 1 << 20);
        rmj_page_text(&out, texts[i][0]);
        assert_string_equal(rmj_buf_text(&out), texts[i][1]);
        rmj_buf_deinit(&out);
    }
}

// Puts the text into every text field of a message and of those in it.
static void poison(ProtobufCMessage *message, const char *text)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        char *at = (char *)message + field->offset;
        int repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t count = repeated ? *(size_t *)((char *)message + field->quantifier_offset) : 1;
        void **items = repeated ? *(void ***)at : (void **)at;
        for (size_t k = 0; items != NULL && k < count; k++) {
            if (field->type == PROTOBUF_C_TYPE_STRING && items[k] != NULL && items[k] != field->default_value) {
                free(items[k]);
                items[k] = strdup(text);
            } else if (field->type == PROTOBUF_C_TYPE_MESSAGE && items[k] != NULL) {
                poison(items[k], text);
            }
        }
    }
}

static void hostile_names_do_not_act(void **state)
{
    (void)state;
    struct rmj_buf page;
    Rmjob__V1__JobReport *report = parse(known);
    poison(&report->base, "\"'></svg></style><script>alert(1)</script>\x01\xff<!--");
    page_of(report, &page);
    assert_null(strstr(rmj_buf_text(&page), "<script"));
    assert_null(strstr(rmj_buf_text(&page), "<!--"));
    assert_non_null(strstr(rmj_buf_text(&page), "&lt;script&gt;"));
    assert_true(check_tags(rmj_buf_text(&page)) > 200);
    rmj_buf_deinit(&page);
    rmjob__v1__job_report__free_unpacked(report, NULL);
}

static void odd_numbers_make_a_page_too(void **state)
{
    (void)state;
    static const double odd[] = {NAN, INFINITY, -INFINITY, 1e308, -1e308, 0, 1e-300};
    for (size_t i = 0; i < RMJ_COUNT(odd); i++) {
        struct rmj_buf page;
        Rmjob__V1__JobReport *report = parse(known);
        Rmjob__V1__StreamWindow *window = report->training->sources[0]->windows[i % 2];
        window->accuracy = window->mean_margin = window->margin_error = odd[i];
        report->data->sources[0]->length_rule_accuracy = odd[i];
        report->data->sources[0]->lengths[0]->chosen = i % 2 ? UINT64_MAX : 0;
        report->data->pairs = i % 2 ? UINT64_MAX : 0;
        report->verdict->checks[0]->value = odd[i];
        page_of(report, &page);
        (void)check_tags(rmj_buf_text(&page));
        // Not a number is no place in a picture.
        const char *at = rmj_buf_text(&page);
        while ((at = strstr(at, "<svg")) != NULL) {
            const char *end = strstr(at, "</svg>");
            char *picture = strndup(at, (size_t)(end - at));
            assert_null(strstr(picture, "\"nan"));
            assert_null(strstr(picture, "\"-nan"));
            assert_null(strstr(picture, "inf\""));
            free(picture);
            at = end;
        }
        rmj_buf_deinit(&page);
        rmjob__v1__job_report__free_unpacked(report, NULL);
    }
}

static void windows_of_a_few_pairs_are_not_drawn(void **state)
{
    (void)state;
    for (uint64_t pairs = 7; pairs <= 8; pairs++) {
        struct rmj_buf page;
        Rmjob__V1__JobReport *report = parse(known);
        report->training->sources[0]->windows[1]->pairs = pairs;
        page_of(report, &page);
        assert_int_equal(strstr(rmj_buf_text(&page), "steps 11 to 20") != NULL, pairs == 8);
        assert_non_null(strstr(rmj_buf_text(&page), "steps 1 to 10"));
        rmj_buf_deinit(&page);
        rmjob__v1__job_report__free_unpacked(report, NULL);
    }
}

static void an_empty_report_is_a_page(void **state)
{
    (void)state;
    const char *const reports[] = {"{}",
                                   "{\"data\":{}}",
                                   "{\"data\":{\"sources\":[{}],\"issues\":[{}],\"files\":[{}]}}",
                                   "{\"training\":{\"sources\":[{}]}}",
                                   "{\"verdict\":{\"checks\":[{}]}}",
                                   "{\"evaluation\":{\"categories\":[{}],\"heldout\":{}}}",
                                   "{\"plan\":{},\"consumed\":{}}"};
    for (size_t i = 0; i < RMJ_COUNT(reports); i++) {
        struct rmj_buf page;
        Rmjob__V1__JobReport *report = parse(reports[i]);
        page_of(report, &page);
        assert_true(check_tags(rmj_buf_text(&page)) >= 10);
        rmj_buf_deinit(&page);
        rmjob__v1__job_report__free_unpacked(report, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_is_known_is_on_the_page),
        cmocka_unit_test(the_page_is_of_one_piece),
        cmocka_unit_test(texts_stay_text),
        cmocka_unit_test(hostile_names_do_not_act),
        cmocka_unit_test(odd_numbers_make_a_page_too),
        cmocka_unit_test(windows_of_a_few_pairs_are_not_drawn),
        cmocka_unit_test(an_empty_report_is_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
