// Random damage to rows, compressed files and benchmark rows: refused or read, never a crash (seeded).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/rng.h"
#include "tests/trainer/data/fixture.h"
#include "trainer/data/benchmark.h"
#include "trainer/data/lines.h"
#include "trainer/data/rows.h"

#define SEED 20260729u

static const char *const rows[] = {
    "{\"chosen\":\"\\n\\nHuman: hi\\n\\nAssistant: yes\",\"rejected\":\"\\n\\nHuman: hi\\n\\nAssistant: "
    "no\",\"margin\":1.5}",
    "{\"prompt\":[{\"role\":\"user\",\"content\":\"h\\u00e9\"}],\"chosen\":[{\"role\":\"assistant\",\"content\":\"a\"}]"
    ","
    "\"rejected\":[{\"role\":\"gpt\",\"content\":\"b\"}]}",
    "{\"prompt\":\"p\",\"chosen\":\"日本\",\"rejected\":\"\"}",
};

static void mutate(struct rmj_rng *rng, char *bytes, size_t *size)
{
    static const char interesting[] = "\"\\{}[],:\0\n\xff\x80u0";
    for (uint64_t edits = 1 + rmj_rng_below(rng, 4); edits > 0 && *size > 0; edits--) {
        size_t at = rmj_rng_below(rng, *size);
        switch (rmj_rng_below(rng, 3)) {
        case 0:
            bytes[at] = (char)rmj_rng_next(rng);
            break;
        case 1:
            bytes[at] = interesting[rmj_rng_below(rng, sizeof interesting - 1)];
            break;
        default:
            memmove(bytes + at, bytes + at + 1, *size - at - 1);
            (*size)--;
        }
    }
    bytes[*size] = '\0';
}

static void damaged_rows_are_refused_or_read(void **state)
{
    (void)state;
    struct rmj_rng rng;
    const struct rmj_row_format format = {.form = RMJOB__V1__DATA_FORM__automatic};
    struct rmj_row row;
    int refused = 0;
    printf("seed %u\n", SEED);
    rmj_rng_init(&rng, SEED, 1);
    rmj_row_init(&row);
    for (int round = 0; round < 30000; round++) {
        char line[512];
        struct rmj_error err = {0};
        size_t size = strlen(rows[round % 3]);
        memcpy(line, rows[round % 3], size);
        mutate(&rng, line, &size);
        enum rmj_status status = rmj_row_parse(&row, &format, line, size, round % 2, &err);
        assert_true(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
        refused += status != RMJ_OK;
        uint8_t key[RMJ_PROMPT_KEY_SIZE];
        (void)rmj_prompt_key(rmj_buf_text(&row.prompt), row.prompt.size, key);
    }
    assert_true(refused > 10000);
    rmj_row_deinit(&row);
}

static void read_to_the_end(const char *path, const char *name)
{
    struct rmj_lines *lines;
    struct rmj_error err = {0};
    const char *line;
    size_t size;
    int ended;
    assert_int_equal(rmj_lines_open(&lines, path, name, &err), RMJ_OK);
    enum rmj_status status;
    do {
        status = rmj_lines_next(lines, &line, &size, &ended, &err);
    } while (status == RMJ_OK && line != NULL);
    assert_true(status == RMJ_OK || status == RMJ_DATA);
    rmj_lines_close(lines);
}

static void damaged_streams_are_refused_or_read(void **state)
{
    (void)state;
    char *directory = fixture_directory();
    struct rmj_buf text;
    struct rmj_rng rng;
    rmj_rng_init(&rng, SEED, 2);
    rmj_buf_init(&text, 1 << 20);
    for (int i = 0; i < 500; i++) {
        rmj_buf_printf(&text, "%s\n", rows[i % 3]);
    }
    size_t room = ZSTD_compressBound(text.size) + 1;
    char *packed = malloc(room), *copy = malloc(room);
    size_t packed_size = ZSTD_compress(packed, room, text.bytes, text.size, 3);
    for (int round = 0; round < 300; round++) {
        size_t size = packed_size;
        memcpy(copy, packed, packed_size);
        mutate(&rng, copy, &size);
        char *path = fixture_write(directory, "a", copy, size);
        read_to_the_end(path, round % 3 == 0 ? "a.jsonl" : round % 3 == 1 ? "a.jsonl.zst" : "a.jsonl.gz");
        free(path);
    }
    free(packed);
    free(copy);
    rmj_buf_deinit(&text);
    fixture_remove(directory);
}

static void damaged_benchmark_rows_are_refused_or_read(void **state)
{
    (void)state;
    static const char row[] = "{\"id\":\"tied:3\",\"prompt\":\"p\",\"chosen\":[\"a\",\"b\"],\"rejected\":[\"c\"],"
                              "\"num_correct\":2,\"subset\":\"Ties\"}";
    char *directory = fixture_directory();
    struct rmj_rng rng;
    rmj_rng_init(&rng, SEED, 3);
    for (int round = 0; round < 300; round++) {
        struct rmj_buf text;
        struct rmj_benchmark benchmark;
        struct rmj_findings findings;
        rmj_buf_init(&text, 1 << 16);
        for (int i = 0; i < 10; i++) {
            char line[sizeof row + 8];
            size_t size = sizeof row - 1;
            memcpy(line, row, sizeof row);
            mutate(&rng, line, &size);
            rmj_buf_append(&text, line, size);
            rmj_buf_putc(&text, '\n');
        }
        char *path = fixture_write(directory, "rb2.jsonl", text.bytes, text.size);
        rmj_findings_init(&findings);
        assert_int_equal(rmj_benchmark_read(&benchmark, path, 1, "evaluate.rewardbench2", &findings, NULL), RMJ_OK);
        rmj_benchmark_deinit(&benchmark);
        rmj_findings_deinit(&findings);
        rmj_buf_deinit(&text);
        free(path);
    }
    fixture_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_rows_are_refused_or_read),
        cmocka_unit_test(damaged_streams_are_refused_or_read),
        cmocka_unit_test(damaged_benchmark_rows_are_refused_or_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
