// Prints the rows of a data file in their canonical shape, for comparison with other readers (tests/peers/rows_trl.py).
//
//   rmjob-test-rows FORM HAS_TEMPLATE FILE
//
// A line a row: {"kind", "form", "chosen", "rejected": [...], "tools", "kwargs", "margin"}; a side is a text, messages
// or ids.
#include <stdio.h>
#include <stdlib.h>

#include "trainer/data/lines.h"
#include "trainer/data/rows.h"

static json_t *side_json(const struct rmj_row *row, const struct rmj_row_side *side)
{
    if (row->kind == RMJ_ROW_MESSAGES) {
        return json_incref(side->messages);
    }
    if (row->kind == RMJ_ROW_TEXT) {
        return json_stringn(rmj_buf_text(&side->text), side->text.size);
    }
    json_t *ids = json_array();
    for (size_t i = 0; i < side->id_count; i++) {
        json_array_append_new(ids, json_integer(side->ids[i]));
    }
    return ids;
}

static void print_row(const struct rmj_row *row)
{
    static const char *const kinds[] = {"text", "messages", "ids"};
    json_t *rejected = json_array();
    for (uint32_t i = 0; i < row->rejected_count; i++) {
        json_array_append_new(rejected, side_json(row, &row->rejected[i]));
    }
    json_t *out = json_pack("{s:s,s:s,s:o,s:o,s:O?,s:O?}", "kind", kinds[row->kind], "form",
                            rmj_row_form_name(row->form, row->prompt_apart), "chosen", side_json(row, &row->chosen),
                            "rejected", rejected, "tools", row->tools, "kwargs", row->template_kwargs);
    if (row->has_margin) {
        json_object_set_new(out, "margin", json_real((double)row->margin));
    }
    char *text = json_dumps(out, JSON_COMPACT);
    puts(text);
    free(text);
    json_decref(out);
}

static enum rmj_status print_rows(const char *path, const struct rmj_row_format *format, struct rmj_error *err)
{
    struct rmj_lines *lines = NULL;
    struct rmj_row row;
    const char *line;
    size_t size;
    int ended;
    enum rmj_status status = RMJ_OK;
    rmj_row_init(&row);
    RMJ_GO(rmj_lines_open(&lines, path, path, err));
    for (;;) {
        RMJ_GO(rmj_lines_next(lines, &line, &size, &ended, err));
        if (line == NULL) {
            break;
        }
        status = rmj_row_parse(&row, format, line, size, ended, err);
        if (status != RMJ_OK) {
            (void)rmj_context(err, "%s:%llu", path, (unsigned long long)rmj_lines_row(lines));
            goto out;
        }
        print_row(&row);
    }
out:
    rmj_lines_close(lines);
    rmj_row_deinit(&row);
    return status;
}

int main(int argc, char **argv)
{
    struct rmj_error err = {0};
    if (argc != 4) {
        fputs("usage: rmjob-test-rows FORM HAS_TEMPLATE FILE\n", stderr);
        return 2;
    }
    const ProtobufCEnumValue *form =
        protobuf_c_enum_descriptor_get_value_by_name(&rmjob__v1__data_form__descriptor, argv[1]);
    if (form == NULL) {
        fprintf(stderr, "no form %s\n", argv[1]);
        return 2;
    }
    const struct rmj_row_format format = {.form = (Rmjob__V1__DataForm)form->value,
                                          .model_has_template = atoi(argv[2])};
    if (print_rows(argv[3], &format, &err) != RMJ_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 6;
    }
    return 0;
}
