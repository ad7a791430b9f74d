// `rmjob data show`: pairs as tokens, by row, for people and as JSON.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/trainer/data/fixture.h"
#include "trainer/data/show.h"

static char *directory, *model, *train, *heldout;

static const char rows[] = "{\"prompt\":\"ab \",\"chosen\":\"yes\\nno\",\"rejected\":\"no\"}\n"
                           "{\"prompt\":\"ab \",\"chosen\":\"x\"}\n"
                           "{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":[\"bad\",\"worse\"]}\n"
                           "{\"chosen\":\"same\",\"rejected\":\"same\"}\n";

static int set_up(void **state)
{
    (void)state;
    directory = fixture_directory();
    model = fixture_model(directory, "model", 1, 0);
    train = fixture_write_text(directory, "train.jsonl", rows);
    heldout = fixture_write_text(directory, "heldout.jsonl", "{\"chosen\":\"h c\",\"rejected\":\"h r\"}\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(model);
    free(train);
    free(heldout);
    fixture_remove(directory);
    return 0;
}

// What is printed; free it.
static char *show(const char *wanted, int json, int colour, enum rmj_status expected, struct rmj_error *err)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    Rmjob__V1__JobSpec *spec = fixture_spec(model, train);
    fixture_set_heldout(spec, heldout);
    struct rmj_data_show_options options = {.spec = spec, .rows = wanted, .json = json, .colour = colour};
    enum rmj_status status = rmj_data_show(&options, out, err);
    fclose(out);
    fixture_spec_free(spec);
    if (status != expected) {
        fail_msg("%s: status %s: %s", wanted, rmj_status_name(status), err->message);
    }
    return text;
}

static void a_pair_is_shown_token_by_token(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    char *text = show("1", 0, 0, RMJ_OK, &err);
    assert_non_null(strstr(text, "train.jsonl:1"));
    assert_non_null(strstr(text, "  «<s>»|·|a|b|·\n"));
    assert_non_null(strstr(text, "  y|e|s|⏎\n  n|o|«</s>» <- scored\n"));
    assert_non_null(strstr(text, "  n|o|«</s>» <- scored\n"));
    assert_non_null(strstr(text, "shared prefix: 5 tokens, computed once\n"));
    assert_non_null(strstr(text, "chosen: 7 tokens, 12 with the prefix\n"));
    assert_null(strchr(text, '\x1b'));
    free(text);
    text = show("1", 0, 1, RMJ_OK, &err);
    assert_non_null(strchr(text, '\x1b'));
    free(text);
}

static void json_has_the_ids(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    char *text = show("1", 1, 0, RMJ_OK, &err);
    json_t *all = json_loads(text, 0, NULL);
    assert_non_null(all);
    const json_t *line = json_array_get(json_object_get(all, "pairs"), 0);
    assert_int_equal(json_integer_value(json_object_get(line, "row")), 1);
    const json_t *prefix = json_object_get(line, "prefix"), *chosen = json_object_get(line, "chosen");
    assert_int_equal(json_array_size(prefix), 5);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(prefix, 0), "id")), 1);
    assert_true(json_is_true(json_object_get(json_array_get(prefix, 0), "special")));
    assert_int_equal(json_array_size(chosen), 7);
    assert_true(json_is_true(json_object_get(json_array_get(chosen, 6), "scored")));
    assert_null(json_object_get(json_array_get(chosen, 5), "scored"));
    json_decref(all);
    free(text);
}

static size_t pairs_of(const char *text)
{
    json_t *all = json_loads(text, 0, NULL);
    assert_non_null(all);
    size_t count = json_array_size(json_object_get(all, "pairs"));
    json_decref(all);
    return count;
}

static void rows_are_named_in_many_ways(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    char *text = show("3-4, heldout.jsonl:1 train.jsonl:1", 1, 0, RMJ_OK, &err);
    assert_int_equal(pairs_of(text), 5); // row 3 is two pairs
    assert_non_null(strstr(text, "\"rejected_answer\":2"));
    assert_non_null(strstr(text, "\"held_out\":true"));
    assert_non_null(strstr(text, "chosen and rejected are the same: not trained on"));
    free(text);
    free(show("", 0, 0, RMJ_INVALID, &err));
    free(show("0", 0, 0, RMJ_INVALID, &err));
    free(show("4-3", 0, 0, RMJ_INVALID, &err));
    free(show("3x", 0, 0, RMJ_INVALID, &err));
    free(show("other.jsonl:1", 0, 0, RMJ_INVALID, &err));
    assert_non_null(strstr(err.message, "other.jsonl is no file of data.train or data.heldout"));
    free(show("9", 0, 0, RMJ_INVALID, &err));
    assert_non_null(strstr(err.message, "has no row 9"));
}

static void a_row_that_cannot_be_used_is_told_after_the_others(void **state)
{
    (void)state;
    struct rmj_error err = {0};
    char *text = show("1-3", 1, 0, RMJ_DATA, &err);
    assert_int_equal(pairs_of(text), 3);
    assert_non_null(strstr(err.message, "train.jsonl:2: "));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_is_shown_token_by_token),
        cmocka_unit_test(json_has_the_ids),
        cmocka_unit_test(rows_are_named_in_many_ways),
        cmocka_unit_test(a_row_that_cannot_be_used_is_told_after_the_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
