// Elements of .json files one at a time: lists, lines under another name, and everything that is neither.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/rng.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/lines.h"

static char *directory;

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

// The rows of a file with '|' between them, then "!" and the message if it is refused.
static void read_all(const char *path, struct rmj_buf *out)
{
    struct rmj_lines *lines = NULL;
    struct rmj_error err = {0};
    const char *line;
    size_t size;
    int ended;
    rmj_buf_init(out, 1 << 24);
    enum rmj_status status = rmj_lines_open(&lines, path, path, &err);
    while (status == RMJ_OK) {
        status = rmj_lines_next(lines, &line, &size, &ended, &err);
        if (status != RMJ_OK || line == NULL) {
            break;
        }
        rmj_buf_append(out, line, size);
        rmj_buf_putc(out, '|');
    }
    if (status != RMJ_OK) {
        assert_int_equal(status, RMJ_DATA);
        rmj_buf_printf(out, "!%s", strrchr(err.message, '/') + 1);
    }
    rmj_lines_close(lines);
}

static const struct {
    const char *content, *expected;
} files[] = {
    {"[]", ""},
    {"", ""},
    {" [ ]\n", ""},
    {"[{\"a\":1}]", "{\"a\":1}|"},
    {" [\n {\"a\":1},\n\t{\"b\":[{}, \"]}\\\"\"]}\n]\n", "{\"a\":1}|{\"b\":[{}, \"]}\\\"\"]}|"},
    {"[{\n \"a\": {}\n},[1,[2]],\"x\",7,null]", "{\n \"a\": {}\n}|[1,[2]]|\"x\"|7|null|"},
    {"{\"a\":1}\n{\"a\":2}\n", "{\"a\":1}|{\"a\":2}|"},
    {"{\"a\":1}\n{\"a\":2}", "{\"a\":1}|{\"a\":2}|"},
    {"{\"chosen\":[1],\"rejected\":[2]}\n",
     "!f.json:1: the file is one object, not a list of rows: write [{...}, {...}]"},
    {"[{\"a\":1},{\"a\":", "{\"a\":1}|!f.json:2: the list is not closed: the file was not written whole"},
    {"[{\"a\":1},", "{\"a\":1}|!f.json:2: the list is not closed"},
    {"[{\"a\":1}", "{\"a\":1}|!f.json:2: the list is not closed"},
    {"[", "!f.json:1: the list is not closed"},
    {"[{\"a\":1} {\"a\":2}]", "{\"a\":1}|!f.json:2: no comma between this row and the one before"},
    {"[{\"a\":1},]", "{\"a\":1}|!f.json:2: ']' stands where a row should begin"},
    {"[,{}]", "!f.json:1: ',' stands where a row should begin"},
    {"[{}] x", "{}|!f.json:2: something follows the list: remove it"},
    {"[{}]]", "{}|!f.json:2: something follows the list"},
    {"{\"a\":1},{\"a\":2}", "{\"a\":1}|!f.json:2: ',' stands where"},
    {"\xef\xbb\xbf[{}]", "!f.json:1: begins with a byte order mark"},
};

static void json_files_give_their_elements(void **state)
{
    (void)state;
    for (size_t i = 0; i < RMJ_COUNT(files); i++) {
        struct rmj_buf out;
        char *path = fixture_write_text(directory, "f.json", files[i].content);
        read_all(path, &out);
        size_t length = strlen(files[i].expected);
        const char *text = rmj_buf_text(&out);
        int refusal = strchr(files[i].expected, '!') != NULL;
        if (strncmp(text, files[i].expected, length) != 0 || (!refusal && text[length] != '\0')) {
            fail_msg("%s\n gives %s\n not   %s", files[i].content, text, files[i].expected);
        }
        rmj_buf_deinit(&out);
        free(path);
    }
}

// More rows than a piece of the file holds, with marks, quotes and backslashes where pieces meet.
static void elements_do_not_depend_on_where_pieces_end(void **state)
{
    (void)state;
    struct rmj_buf list, expected, out;
    struct rmj_rng rng;
    rmj_buf_init(&list, 1 << 24);
    rmj_buf_init(&expected, 1 << 24);
    rmj_rng_init(&rng, 7, 0);
    static const char *const pieces[] = {"\\\"", "\\\\", "{", "]", "[", "}", ",", "x", " ", "\\n"};
    rmj_buf_putc(&list, '[');
    for (int i = 0; i < 30000; i++) {
        struct rmj_buf row;
        rmj_buf_init(&row, 1 << 16);
        rmj_buf_printf(&row, "{\"n\":%d,\"t\":\"", i);
        for (uint64_t n = rmj_rng_below(&rng, 60); n > 0; n--) {
            rmj_buf_puts(&row, pieces[rmj_rng_below(&rng, RMJ_COUNT(pieces))]);
        }
        rmj_buf_puts(&row, "\"}");
        rmj_buf_printf(&list, "%s%s", i > 0 ? ",\n  " : "\n  ", rmj_buf_text(&row));
        rmj_buf_printf(&expected, "%s|", rmj_buf_text(&row));
        rmj_buf_deinit(&row);
    }
    rmj_buf_puts(&list, "\n]\n");
    size_t room = ZSTD_compressBound(list.size);
    char *packed = malloc(room);
    size_t size = ZSTD_compress(packed, room, list.bytes, list.size, 1);
    char *paths[] = {fixture_write(directory, "p.json", list.bytes, list.size),
                     fixture_write(directory, "p.json.zst", packed, size)};
    for (int i = 0; i < 2; i++) {
        read_all(paths[i], &out);
        assert_string_equal(rmj_buf_text(&out), rmj_buf_text(&expected));
        rmj_buf_deinit(&out);
        free(paths[i]);
    }
    free(packed);
    rmj_buf_deinit(&list);
    rmj_buf_deinit(&expected);
}

static void an_element_over_the_bound_is_refused(void **state)
{
    (void)state;
    size_t size = RMJ_LINE_SIZE_MAX + 100;
    char *text = malloc(size + 32);
    static const char *const heads[] = {"[{\"a\":\"", "{\"chosen\":\""},
                             *const messages[] = {"!f.json:1: the row has more than 8388608 bytes",
                                                  "!f.json:1: the file is one object"};
    for (int i = 0; i < 2; i++) {
        struct rmj_buf out;
        memset(text, 'x', size);
        memcpy(text, heads[i], strlen(heads[i]));
        memcpy(text + size, "\"}]", 3);
        char *path = fixture_write(directory, "f.json", text, size + 3);
        read_all(path, &out);
        assert_memory_equal(rmj_buf_text(&out), messages[i], strlen(messages[i]));
        rmj_buf_deinit(&out);
        free(path);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_files_give_their_elements),
        cmocka_unit_test(elements_do_not_depend_on_where_pieces_end),
        cmocka_unit_test(an_element_over_the_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
