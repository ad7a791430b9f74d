// The data contract: what is kept, dropped, counted and refused, each with its message; and one plan for one set.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/text.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/parquet.h"
#include "trainer/data/plan.h"
#include "trainer/data/prepare_internal.h"
#include "trainer/data/template.h"

static char *directory, *model;
static struct rmj_store *store;

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    model = fixture_model(directory, "model", 1, 0);
    char *path = rmj_fs_join(directory, "store");
    struct rmj_error err = {0};
    if (rmj_store_open(&store, path, 1, NULL, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    free(path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rmj_store_close(store);
    free(model);
    fixture_remove(directory);
    return 0;
}

static Rmjob__V1__PreparedRequest *prepare(const Rmjob__V1__JobSpec *spec, size_t threads)
{
    Rmjob__V1__PreparedRequest *result = NULL;
    struct rmj_error err = {0};
    if (rmj_prepare(spec, store, "job", &(struct rmj_prepare_options){.thread_count = threads}, &result, &err) !=
        RMJ_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(result->plan == NULL, fixture_error_count(result->findings, result->n_findings) > 0);
    return result;
}

static void free_result(Rmjob__V1__PreparedRequest *result)
{
    rmjob__v1__prepared_request__free_unpacked(result, NULL);
}

static Rmjob__V1__PreparedRequest *prepare_text(const char *text)
{
    char *path = fixture_write_text(directory, "train.jsonl", text);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    fixture_spec_free(spec);
    free(path);
    return result;
}

#define GOOD                                                                                                           \
    "{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: yes\",\"rejected\":\"\\n\\nHuman: hi\\n\\nAssistant: no\"}\n"

#define GOOD_APART "{\"prompt\":\"\\n\\nHuman: hi\\n\\nAssistant: \",\"chosen\":\"yes\",\"rejected\":\"no\"}\n"
#define GOOD_MESSAGES                                                                                                  \
    "{\"chosen\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"yes\"}],"               \
    "\"rejected\":[{\"role\":\"human\",\"content\":\"hi\"},{\"role\":\"gpt\",\"content\":\"no\"}]}\n"

// A broken row after a good one of its form, and what is said about it.
static const struct {
    const char *row, *message;
} broken_rows[] = {
    {"\n", "train.jsonl:2: an empty line: remove it"},
    {"   \r\n", "train.jsonl:2: an empty line: remove it"},
    {"{\"chosen\":\"a\",\"rejected\":\"\xff\"}\n", "train.jsonl:2: byte 27 (0xff) is not UTF-8"},
    {"{\"chosen\":\"a\",\"rejected\":\"\xed\xa0\x80\"}\n", "train.jsonl:2: byte 27 (0xed) is not UTF-8"},
    {"{\"chosen\":\"a\",\"reje", "train.jsonl:2: the last line is cut off: the file was not written whole"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\"\n", "train.jsonl:2: column 28: not JSON"},
    {"{\"chosen\":\"a\\u0000\",\"rejected\":\"b\"}\n", "train.jsonl:2: a text holds a NUL character"},
    {"[1,2]\n", "train.jsonl:2: a list, not an object"},
    {"7\n", "train.jsonl:2: a number, not an object"},
    {"\"x\"\n", "train.jsonl:2: text, not an object"},
    {"null\n", "train.jsonl:2: null, not an object"},
    {"true\n", "train.jsonl:2: true or false, not an object"},
    {"{\"chosen\":\"a\"}\n", "train.jsonl:2: no column 'rejected'; found: chosen"},
    {"{\"rejected\":\"a\",\"id\":3}\n", "train.jsonl:2: no column 'chosen'; found: rejected, id"},
    {"{}\n", "train.jsonl:2: no column 'chosen'; found: no columns"},
    {"{\"chosen\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n", "train.jsonl:2: column 2"},
    {"{\"chosen\":1,\"rejected\":\"b\"}\n", "train.jsonl:2: chosen is a number; it must be"},
    {"{\"chosen\":\"a\",\"rejected\":null}\n", "train.jsonl:2: rejected is null"},
    {"{\"chosen\":{\"role\":\"gpt\"},\"rejected\":\"b\"}\n", "train.jsonl:2: rejected is text"},
    {"{\"chosen\":\"a\",\"rejected\":[]}\n", "train.jsonl:2: rejected is a list; it must be text like chosen"},
    {"{\"prompt\":[],\"chosen\":\"a\",\"rejected\":\"b\"}\n", "train.jsonl:2: prompt is a list; it must be text"},
    {"{\"prompt\":7,\"chosen\":\"a\",\"rejected\":\"b\"}\n", "train.jsonl:2: prompt is a number"},
    {"{\"chosen\":\"\",\"rejected\":\"\"}\n", "train.jsonl:2: chosen and rejected are both empty"},
    {"{\"chosen\":[],\"rejected\":[]}\n", "train.jsonl:2: chosen and rejected are both empty"},
    {"{\"chosen\":[null],\"rejected\":[]}\n", "train.jsonl:2: chosen[0] is null; a message is"},
    {"{\"chosen\":[{\"role\":\"gpt\",\"value\":\"x\"}],\"rejected\":[]}\n",
     "train.jsonl:2: chosen[0] is an object without role and content"},
    {"{\"chosen\":[{\"role\":\"tool\",\"content\":\"x\"}],\"rejected\":[]}\n", "unknown role tool"},
    {"{\"chosen\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"system\",\"content\":\"x\"}],\"rejected\":[]}\n",
     "a system message must be the first"},
    {"{\"chosen\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}],\"rejected\":[]}\n",
     "train.jsonl:2: chosen[0].content[0] is not {\"type\": \"text\""},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"margin\":\"1\"}\n", "train.jsonl:2: margin is text; it must be a number"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"margin\":1e300}\n", "train.jsonl:2: margin 1e+300 is too large"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"margin\":1e999}\n", "train.jsonl:2: column"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"margin\":NaN}\n", "train.jsonl:2: column"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"tools\":[1]}\n", "train.jsonl:2: column 'tools' is for a chat template"},
    {"{\"chosen\":\"a\",\"rejected\":\"b\",\"chosen_ids\":[1]}\n",
     "train.jsonl:2: column 'chosen_ids' stands without its other side"},
    {"{\"chosen\":\"a<s>\",\"rejected\":\"b\"}\n", "train.jsonl:2: the text holds <s> at token 4: [<s>]"},
};

static void broken_rows_are_refused_by_file_and_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(broken_rows); i++) {
        char text[1024];
        int apart = strstr(broken_rows[i].row, "\"prompt\"") != NULL,
            texts = strstr(broken_rows[i].row, "\"chosen\":\"") != NULL;
        int conversations = !texts && strstr(broken_rows[i].row, "\"chosen\":") != NULL &&
                            strstr(broken_rows[i].row, "\"rejected\":") != NULL;
        snprintf(text, sizeof text, "%s%s",
                 apart           ? GOOD_APART
                 : conversations ? GOOD_MESSAGES
                                 : GOOD,
                 broken_rows[i].row);
        Rmjob__V1__PreparedRequest *result = prepare_text(text);
        assert_true(fixture_has_finding(result->findings, result->n_findings, broken_rows[i].message));
        assert_int_equal(result->findings[0]->exit_code, 6);
        assert_string_equal(result->findings[0]->field, "data.train[0].path");
        free_result(result);
    }
}

static void a_raw_nul_and_a_byte_order_mark_are_refused(void **state)
{
    (void)state;
    static const char nul[] = "{\"chosen\":\"a\0\",\"rejected\":\"b\"}\n";
    static const char mark[] = "\xef\xbb\xbf{\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    const char *const bytes[] = {nul, mark};
    const size_t sizes[] = {sizeof nul - 1, sizeof mark - 1};
    const char *const messages[] = {"train.jsonl:1: byte 13 is NUL", "train.jsonl:1: begins with a byte order mark"};
    for (int i = 0; i < 2; i++) {
        char *path = fixture_write(directory, "train.jsonl", bytes[i], sizes[i]);
        Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
        Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
        assert_true(fixture_has_finding(result->findings, result->n_findings, messages[i]));
        free_result(result);
        fixture_spec_free(spec);
        free(path);
    }
}

static void a_row_over_the_bound_is_refused_with_its_size(void **state)
{
    (void)state;
    size_t size = (size_t)10 << 20;
    char *text = malloc(size + 64);
    int head = snprintf(text, 64, "%s", "{\"chosen\":\"");
    memset(text + head, 'x', size);
    snprintf(text + head + size, 40, "\",\"rejected\":\"b\"}\n");
    Rmjob__V1__PreparedRequest *result = prepare_text(text);
    assert_true(fixture_has_finding(result->findings, result->n_findings,
                                    "train.jsonl:1: the row has 10485788 bytes; at most 8388608 are read"));
    free_result(result);
    free(text);
}

static void messages_carry_no_control_characters(void **state)
{
    (void)state;
    // A column whose name clears the screen, and one that is cut in the middle of a character.
    Rmjob__V1__PreparedRequest *result = prepare_text("{\"\\u001b[2J\":1,\""
                                                      "xééééééééééééééééééééééééééééééé"
                                                      "\":2}\n");
    assert_true(fixture_has_finding(result->findings, result->n_findings, "found: ?[2J, xéé"));
    const char *message = result->findings[0]->message;
    assert_int_equal(rmj_text_utf8_valid(message, strlen(message)), strlen(message));
    free_result(result);
}

static void files_as_a_whole_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *content, *message;
    } files[] = {
        {"empty.jsonl", "", "empty.jsonl: the file is empty"},
        {"a.json", "[]", "a.json: the file is empty"},
        {"b.json", "{\"chosen\":[\"a\",\"b\"],\"rejected\":[\"c\",\"d\"]}",
         "b.json:1: the file is one object, not a list of rows"},
        {"a.csv", "x", "a.csv: a data file's name ends in .jsonl, .json"},
        {"a.jsonl.gz", GOOD, "a.jsonl.gz:1: the gzip stream is broken"},
        {"a.jsonl.zst", GOOD, "a.jsonl.zst:1: the zstd stream is broken"},
    };
    for (size_t i = 0; i < RMJ_COUNT(files); i++) {
        char *path = fixture_write_text(directory, files[i].name, files[i].content);
        Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
        Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
        assert_true(fixture_has_finding(result->findings, result->n_findings, files[i].message));
        free_result(result);
        fixture_spec_free(spec);
        free(path);
    }
    Rmjob__V1__JobSpec *spec = fixture_spec(model, "/nowhere/a.jsonl");
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "cannot open /nowhere/a.jsonl"));
    assert_int_equal(result->findings[0]->exit_code, 2);
    free_result(result);
    fixture_spec_free(spec);
    spec = fixture_spec(model, "/nowhere/*.jsonl");
    result = prepare(spec, 1);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "no file matches /nowhere/*.jsonl"));
    free_result(result);
    fixture_spec_free(spec);
}

static void many_pairs(struct rmj_buf *out, int count)
{
    rmj_buf_init(out, 1 << 22);
    for (int i = 0; i < count; i++) {
        rmj_buf_printf(
            out,
            "{\"prompt\":\"\\n\\nHuman: question %d\\n\\nAssistant:\",\"chosen\":\" answer %d%.*s\",\"rejected\":"
            "\" other %d\"}\n",
            i, i * 7, i % 40, "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm", i * 3);
    }
}

static size_t gzip(const struct rmj_buf *in, char *out, size_t room)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)in->bytes;
    z.avail_in = (unsigned)in->size;
    z.next_out = (unsigned char *)out;
    z.avail_out = (unsigned)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t size = room - z.avail_out;
    deflateEnd(&z);
    return size;
}

// Digest of the pairs of one file; the same whatever it is packed in.
static char *pairs_sum_of(const char *path)
{
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    char *sum = result->plan == NULL ? NULL : strdup(result->plan->pairs_sum);
    free_result(result);
    fixture_spec_free(spec);
    return sum;
}

static void plain_gzip_and_zstd_give_the_same_pairs(void **state)
{
    (void)state;
    struct rmj_buf text;
    many_pairs(&text, 700);
    size_t room = text.size + 4096;
    char *packed = malloc(2 * room);
    char *plain = fixture_write(directory, "a.jsonl", text.bytes, text.size);
    // Two gzip members one after another, as `cat a.gz b.gz` makes them: the same rows twice, so the second are
    // dropped.
    size_t size = gzip(&text, packed, room);
    size += gzip(&text, packed + size, room);
    char *zipped = fixture_write(directory, "a.jsonl.gz", packed, size);
    char *cut = fixture_write(directory, "cut.jsonl.gz", packed, size - 300);
    size = ZSTD_compress(packed, 2 * room, text.bytes, text.size, 3);
    char *zstd = fixture_write(directory, "a.jsonl.zst", packed, size);
    char *cut_zstd = fixture_write(directory, "cut.jsonl.zst", packed, size - 20);
    char *one = pairs_sum_of(plain), *two = pairs_sum_of(zipped), *three = pairs_sum_of(zstd);
    assert_string_equal(one, two);
    assert_string_equal(one, three);
    assert_null(pairs_sum_of(cut));
    assert_null(pairs_sum_of(cut_zstd));
    char *const all[] = {plain, zipped, cut, zstd, cut_zstd, one, two, three, packed};
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        free(all[i]);
    }
    rmj_buf_deinit(&text);
}

// tests/trainer/data/parquet/make.py wrote both files.
static void parquet_and_lines_give_the_same_pairs(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    if (rmj_parquet_check(&err) != RMJ_OK) {
        printf("SKIP: %s\n", err.message);
        skip();
        return;
    }
    char *folder = rmj_fs_join(getenv("RMJOB_SOURCE"), "tests/trainer/data/parquet");
    char *lines = rmj_fs_join(folder, "pairs.jsonl"), *parquet = rmj_fs_join(folder, "pairs.parquet");
    char *one = pairs_sum_of(lines), *two = pairs_sum_of(parquet);
    assert_non_null(one);
    assert_string_equal(one, two);
    char *const all[] = {folder, lines, parquet, one, two};
    for (size_t i = 0; i < RMJ_COUNT(all); i++) {
        free(all[i]);
    }
}

static void a_set_of_repeated_rows_is_refused(void **state)
{
    (void)state;
    // Some pairs, then another one again and again: more than half of the rows must be repeats.
    static const struct {
        int pairs, repeats, refused;
        const char *message;
    } sets[] = {
        {8, 10, 0, NULL}, // 9 of 18
        {7, 11, 1, "10 of 18 rows repeat an earlier row, the first at "},
        {7, 11, 1, "train.jsonl:9, the same pair as "},
        {4, 2, 0, "the 5 pairs are fewer than one batch of 8"},
    };
    for (size_t i = 0; i < RMJ_COUNT(sets); i++) {
        struct rmj_buf text;
        many_pairs(&text, sets[i].pairs);
        for (int n = 0; n < sets[i].repeats; n++) {
            rmj_buf_puts(&text, GOOD_APART);
        }
        Rmjob__V1__PreparedRequest *result = prepare_text(rmj_buf_text(&text));
        assert_int_equal(fixture_error_count(result->findings, result->n_findings), sets[i].refused);
        assert_int_equal(result->plan == NULL, sets[i].refused);
        if (sets[i].message != NULL) {
            assert_true(fixture_has_finding(result->findings, result->n_findings, sets[i].message));
        }
        free_result(result);
        rmj_buf_deinit(&text);
    }
}

static void what_is_dropped_is_counted(void **state)
{
    (void)state;
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 20);
    rmj_buf_puts(&text, GOOD GOOD);                                       // a duplicate
    rmj_buf_puts(&text, "{\"chosen\":\"same\",\"rejected\":\"same\"}\n"); // identical sides
    rmj_buf_puts(&text, "{\"chosen\":\"a b\",\"rejected\":\"c\"}\n");
    rmj_buf_puts(&text, "{\"chosen\":\"c\",\"rejected\":\"a b\"}\n");         // swapped
    rmj_buf_puts(&text, "{\"chosen\":\"x</s>y\",\"rejected\":\"z\"}\n");      // special inside
    rmj_buf_printf(&text, "{\"chosen\":\"%0300d\",\"rejected\":\"z\"}\n", 0); // over length
    rmj_buf_puts(&text,
                 "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant:\",\"rejected\":\"\\n\\nHuman: q\\n\\nAssistant: r\"}\n");
    Rmjob__V1__PreparedRequest *result = prepare_text(rmj_buf_text(&text));
    const Rmjob__V1__DataReport *report = result->data;
    assert_int_equal(fixture_error_count(result->findings, result->n_findings), 0);
    assert_int_equal(report->rows, 8);
    assert_int_equal(report->pairs, 5);
    assert_int_equal(report->dropped_duplicate, 1);
    assert_int_equal(report->dropped_identical_sides, 1);
    assert_int_equal(report->dropped_over_length, 1);
    assert_int_equal(report->swapped, 1);
    assert_int_equal(result->plan->pairs, 5);
    assert_int_equal(report->n_files, 1);
    assert_int_equal(strlen(report->files[0]->sha256), 64);
    static const char *const kinds[] = {"duplicate",   "identical_sides", "swapped",       "special_in_text",
                                        "over_length", "empty_side",      "contradiction", "contradiction"};
    static const int rows[] = {2, 3, 5, 6, 7, 8, 4, 5};
    assert_int_equal(report->n_issues, RMJ_COUNT(kinds));
    for (size_t i = 0; i < RMJ_COUNT(kinds); i++) {
        assert_string_equal(report->issues[i]->kind, kinds[i]);
        assert_int_equal(report->issues[i]->row, rows[i]);
    }
    free_result(result);
    rmj_buf_deinit(&text);
}

static void over_length_may_cut_the_prompt_or_refuse(void **state)
{
    (void)state;
    struct rmj_buf text;
    rmj_buf_init(&text, 1 << 20);
    rmj_buf_printf(&text, "{\"prompt\":\"%0300d\",\"chosen\":\"aa\",\"rejected\":\"b\"}\n", 0);
    char *path = fixture_write(directory, "train.jsonl", text.bytes, text.size);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    spec->data->has_over_length = 1;
    spec->data->over_length = RMJOB__V1__OVER_LENGTH__truncate_prompt;
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_int_equal(result->data->truncated, 1);
    assert_int_equal(result->data->pairs, 1);
    assert_int_equal(result->data->longest_side_tokens, 256);
    struct rmj_plan *plan;
    struct rmj_pack pack;
    assert_int_equal(rmj_plan_open(&plan, store, "job", result->plan->digest, NULL), RMJ_OK);
    rmj_plan_pack(plan, 1, 0, &pack);
    // BOS stays first, EOS last.
    assert_int_equal(pack.tokens[0], 1);
    assert_int_equal(pack.tokens[pack.branch_last_rows[0]], 2);
    assert_int_equal(pack.tokens[pack.branch_last_rows[1]], 2);
    rmj_plan_close(plan);
    free_result(result);
    spec->data->over_length = RMJOB__V1__OVER_LENGTH__error;
    result = prepare(spec, 1);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "train.jsonl:1: chosen has 305 tokens"));
    free_result(result);
    fixture_spec_free(spec);
    free(path);
    rmj_buf_deinit(&text);
}

static void no_pair_left_is_refused(void **state)
{
    (void)state;
    Rmjob__V1__PreparedRequest *result = prepare_text("{\"chosen\":\"same\",\"rejected\":\"same\"}\n");
    assert_true(fixture_has_finding(result->findings, result->n_findings, "no pair is left of 1 rows"));
    free_result(result);
}

static void a_margin_that_is_used_must_be_everywhere(void **state)
{
    (void)state;
    char *path = fixture_write_text(directory, "train.jsonl",
                                    "{\"chosen\":\"a\",\"rejected\":\"b\",\"margin\":0.5}\n"
                                    "{\"chosen\":\"a\",\"rejected\":\"c\"}\n");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    spec->train->has_use_margin = spec->train->use_margin = 1;
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "train.jsonl:2: no margin"));
    free_result(result);
    fixture_spec_free(spec);
    free(path);
}

static void a_margin_that_nobody_asked_for_is_refused(void **state)
{
    (void)state;
    Rmjob__V1__PreparedRequest *result = prepare_text(GOOD "{\"chosen\":\"a b\",\"rejected\":\"c\",\"margin\":1}\n");
    assert_true(fixture_has_finding(result->findings, result->n_findings, "1 rows have a margin, which would change"));
    assert_null(result->plan);
    free_result(result);
}

static void texts_and_conversations_render_alike(void **state)
{
    (void)state;
    // Implicit text, explicit text, implicit messages, explicit messages: all but the first are duplicates.
    static const char *const contents[] = {
        GOOD, GOOD_APART, GOOD_MESSAGES,
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"hi\"}],\"chosen\":[{\"role\":\"assistant\",\"content\":"
        "\"yes\"}],\"rejected\":[{\"role\":\"assistant\",\"content\":\"no\",\"name\":null}]}\n"};
    for (size_t i = 0; i < RMJ_COUNT(contents); i++) {
        char name[32];
        snprintf(name, sizeof name, "alike-%zu.jsonl", i);
        free(fixture_write_text(directory, name, contents[i]));
    }
    char *pattern = rmj_fs_join(directory, "alike-*.jsonl");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, pattern);
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_int_equal(result->data->rows, 4);
    assert_int_equal(result->data->dropped_duplicate, 3);
    free_result(result);
    fixture_spec_free(spec);
    free(pattern);
}

static void a_file_has_one_form(void **state)
{
    (void)state;
    static const struct {
        const char *content, *message;
    } files[] = {
        {GOOD GOOD_APART, "train.jsonl:2: reads as text, prompt apart, row 1 as text: a file has one form"},
        {GOOD GOOD_MESSAGES, "train.jsonl:2: reads as messages, row 1 as text: a file has one form; set the form"},
        {"{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":[\"b\"]}\n{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":"
         "\"c\"}\n",
         "train.jsonl:2: reads as text, prompt apart, row 1 as best_of_n, prompt apart"},
    };
    for (size_t i = 0; i < RMJ_COUNT(files); i++) {
        Rmjob__V1__PreparedRequest *result = prepare_text(files[i].content);
        assert_true(fixture_has_finding(result->findings, result->n_findings, files[i].message));
        free_result(result);
    }
}

static void columns_that_nothing_reads_are_told_once(void **state)
{
    (void)state;
    Rmjob__V1__PreparedRequest *result =
        prepare_text("{\"id\":1,\"chosen\":\"a\",\"rejected\":\"b\",\"source\":\"x\"}\n"
                     "{\"id\":2,\"chosen\":\"a\",\"rejected\":\"c\",\"source\":\"x\"}\n");
    assert_int_equal(fixture_error_count(result->findings, result->n_findings), 0);
    assert_true(fixture_has_finding(result->findings, result->n_findings, "columns that are not read: id, source"));
    free_result(result);
}

static void sources_are_read_by_their_own_names_and_forms(void **state)
{
    (void)state;
    char *path = fixture_write_text(directory, "own.jsonl", "{\"question\":\"hi\",\"good\":\"yes\",\"bad\":\"no\"}\n");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__DataSource *source = spec->data->train[0];
    source->name = strdup("vendor-b");
    source->has_form = 1;
    source->form = RMJOB__V1__DATA_FORM__alpaca;
    source->columns = malloc(sizeof *source->columns);
    assert_non_null(source->columns);
    rmjob__v1__columns__init(source->columns);
    source->columns->instruction = strdup("question");
    source->columns->chosen = strdup("good");
    source->columns->rejected = strdup("bad");
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_int_equal(fixture_error_count(result->findings, result->n_findings), 0);
    assert_int_equal(result->data->pairs, 1);
    assert_string_equal(result->data->files[0]->name, "vendor-b");
    assert_string_equal(result->data->files[0]->path, path);
    free_result(result);
    fixture_spec_free(spec);
    free(path);
}

static void a_file_that_is_named_twice_would_be_a_second_epoch(void **state)
{
    (void)state;
    free(fixture_write_text(directory, "twice-1.jsonl", GOOD));
    char *path = rmj_fs_join(directory, "twice-1.jsonl"), *link = rmj_fs_join(directory, "twice-2.jsonl");
    assert_int_equal(symlink(path, link), 0);
    char *pattern = rmj_fs_join(directory, "twice-*.jsonl");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, pattern);
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_true(fixture_has_finding(result->findings, result->n_findings,
                                    "twice-2.jsonl is also a file of data.train[0].path, as "));
    assert_true(fixture_has_finding(result->findings, result->n_findings, "a second time would be a second epoch"));
    free_result(result);
    fixture_spec_free(spec);
    free(pattern);
    free(path);
    free(link);
}

static void one_set_gives_one_plan(void **state)
{
    (void)state;
    struct rmj_buf text;
    many_pairs(&text, 900);
    char *path = fixture_write(directory, "train.jsonl", text.bytes, text.size);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    Rmjob__V1__PreparedRequest *first = prepare(spec, 1);
    for (size_t threads = 1; threads <= 4; threads++) {
        Rmjob__V1__PreparedRequest *again = prepare(spec, threads);
        assert_string_equal(first->plan->digest, again->plan->digest);
        assert_int_equal(protobuf_c_message_get_packed_size(&first->base),
                         protobuf_c_message_get_packed_size(&again->base));
        free_result(again);
    }
    spec->data->has_order = 1;
    spec->data->order = RMJOB__V1__DATA_ORDER__as_given;
    Rmjob__V1__PreparedRequest *given = prepare(spec, 2);
    assert_string_not_equal(first->plan->digest, given->plan->digest);
    assert_string_equal(first->plan->pairs_sum, given->plan->pairs_sum);
    struct rmj_plan *plan;
    assert_int_equal(rmj_plan_open(&plan, store, "job", given->plan->digest, NULL), RMJ_OK);
    for (uint64_t i = 0; i < 900; i++) {
        const char *from;
        uint64_t row;
        rmj_plan_pair_source(plan, i, &from, &row);
        assert_int_equal(row, i + 1);
        assert_string_equal(from, path);
    }
    assert_int_equal(rmj_plan_info(plan)->vocabulary_grows, 1);
    assert_int_equal(rmj_plan_info(plan)->pad_token, FIXTURE_VOCABULARY);
    rmj_plan_close(plan);
    free_result(first);
    free_result(given);
    fixture_spec_free(spec);
    free(path);
    rmj_buf_deinit(&text);
}

static char *digest_of(const Rmjob__V1__JobSpec *spec)
{
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_non_null(result->plan);
    char *digest = strdup(result->plan->digest);
    free_result(result);
    return digest;
}

// The plan's digest after a file changed; differs from *digest, which it replaces.
static void changes_the_plan(const Rmjob__V1__JobSpec *spec, char **digest)
{
    char *now = digest_of(spec);
    assert_string_not_equal(now, *digest);
    free(*digest);
    *digest = now;
}

static void another_template_tokenizer_or_day_is_another_plan(void **state)
{
    (void)state;
    char *path = fixture_write_text(directory, "train.jsonl", GOOD);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, path);
    char *digest = digest_of(spec), *again = digest_of(spec);
    assert_string_equal(digest, again);
    spec->data->chat_template =
        fixture_write_text(directory, "t.jinja", "{{ bos_token }}{{ messages[-1]['content'] }}{{ eos_token }}");
    changes_the_plan(spec, &digest);
    // The same text on every row, but not the same file: what is exported differs.
    free(fixture_write_text(directory, "t.jinja", "{{ bos_token }}{{ messages[-1]['content'] }}{{ eos_token }}{# #}"));
    changes_the_plan(spec, &digest);
    free(fixture_write_text(directory, "t.jinja", "{{ strftime_now('%Y') }}{{ messages[-1]['content'] }}"));
    spec->data->template_date = strdup("2024-07-06");
    changes_the_plan(spec, &digest);
    strcpy(spec->data->template_date, "2024-07-07"); // renders alike
    changes_the_plan(spec, &digest);
    spec->data->tokenizer = fixture_model(directory, "tokenizer", 1, 0);
    changes_the_plan(spec, &digest);
    free(fixture_write_text(spec->data->tokenizer, "tokenizer_config.json", "{}"));
    changes_the_plan(spec, &digest);
    free(fixture_write_text(spec->data->tokenizer, "generation_config.json", "{\"eos_token_id\":[2,1]}"));
    changes_the_plan(spec, &digest);
    fixture_spec_free(spec);
    free(digest);
    free(again);
    free(path);
}

static void a_row_with_several_rejected_answers_is_several_pairs(void **state)
{
    (void)state;
    Rmjob__V1__PreparedRequest *result =
        prepare_text("{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":[\"bad\",\"good\",\"worse\"]}\n");
    assert_non_null(result->plan);
    assert_int_equal(result->plan->pairs, 2);
    assert_int_equal(result->data->rows, 1);
    assert_int_equal(result->data->dropped_identical_sides, 1);
    assert_int_equal(result->data->n_issues, 1);
    assert_int_equal(result->data->issues[0]->row, 1);
    assert_string_equal(result->data->issues[0]->detail, "chosen and rejected are the same (rejected answer 2 of 3)");
    free_result(result);
}

static void patterns_take_files_in_name_order(void **state)
{
    (void)state;
    free(fixture_write_text(directory, "part-2.jsonl", "{\"chosen\":\"a\",\"rejected\":\"b\"}\n"));
    free(fixture_write_text(directory, "part-10.jsonl", "{\"chosen\":\"a\",\"rejected\":\"c\"}\n"));
    char *pattern = rmj_fs_join(directory, "part-*.jsonl");
    Rmjob__V1__JobSpec *spec = fixture_spec(model, pattern);
    Rmjob__V1__PreparedRequest *result = prepare(spec, 1);
    assert_int_equal(result->data->n_files, 2);
    assert_non_null(strstr(result->data->files[0]->path, "part-10.jsonl"));
    free_result(result);
    fixture_spec_free(spec);
    free(pattern);
}

static void a_damaged_plan_object_is_not_opened(void **state)
{
    (void)state;
    Rmjob__V1__PreparedRequest *result = prepare_text(GOOD);
    char key[128];
    struct rmj_plan *plan = NULL;
    snprintf(key, sizeof key, "job/plan/%s", result->plan->digest);
    assert_int_equal(rmj_store_put(store, key, "RMJPLAN1", 8, RMJ_PUT_ANY, NULL, NULL), RMJ_OK);
    assert_int_equal(rmj_plan_open(&plan, store, "job", result->plan->digest, NULL), RMJ_CORRUPT);
    assert_int_equal(rmj_store_delete(store, key, NULL), RMJ_OK);
    assert_int_equal(rmj_plan_open(&plan, store, "job", result->plan->digest, NULL), RMJ_NOT_FOUND);
    assert_int_equal(rmj_plan_open(&plan, store, "job", "xyz", NULL), RMJ_INVALID);
    free_result(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_rows_are_refused_by_file_and_row),
        cmocka_unit_test(a_raw_nul_and_a_byte_order_mark_are_refused),
        cmocka_unit_test(a_row_over_the_bound_is_refused_with_its_size),
        cmocka_unit_test(messages_carry_no_control_characters),
        cmocka_unit_test(files_as_a_whole_are_refused_by_name),
        cmocka_unit_test(plain_gzip_and_zstd_give_the_same_pairs),
        cmocka_unit_test(parquet_and_lines_give_the_same_pairs),
        cmocka_unit_test(what_is_dropped_is_counted),
        cmocka_unit_test(a_set_of_repeated_rows_is_refused),
        cmocka_unit_test(over_length_may_cut_the_prompt_or_refuse),
        cmocka_unit_test(no_pair_left_is_refused),
        cmocka_unit_test(a_margin_that_is_used_must_be_everywhere),
        cmocka_unit_test(a_margin_that_nobody_asked_for_is_refused),
        cmocka_unit_test(texts_and_conversations_render_alike),
        cmocka_unit_test(a_file_has_one_form),
        cmocka_unit_test(columns_that_nothing_reads_are_told_once),
        cmocka_unit_test(sources_are_read_by_their_own_names_and_forms),
        cmocka_unit_test(a_file_that_is_named_twice_would_be_a_second_epoch),
        cmocka_unit_test(one_set_gives_one_plan),
        cmocka_unit_test(another_template_tokenizer_or_day_is_another_plan),
        cmocka_unit_test(a_row_with_several_rejected_answers_is_several_pairs),
        cmocka_unit_test(patterns_take_files_in_name_order),
        cmocka_unit_test(a_damaged_plan_object_is_not_opened),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
