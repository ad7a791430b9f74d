// One row of any bytes under any form: a canonical row that holds what its kind promises, or a message. The first byte
// picks the form, whether the model has a chat template, and whether columns are mapped.
//
// clang -fsanitize=fuzzer,address,undefined with the sources of base/, storage/digest.c and trainer/data/rows*.c.
#include <string.h>

#include "trainer/data/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_side(const struct rmj_row *row, const struct rmj_row_side *side)
{
    RMJ_ASSERT(row->kind != RMJ_ROW_IDS || (side->id_count > 0 && side->ids != NULL));
    if (row->kind != RMJ_ROW_MESSAGES) {
        return;
    }
    size_t i;
    json_t *message;
    RMJ_ASSERT(json_is_array(side->messages));
    json_array_foreach(side->messages, i, message)
    {
        RMJ_ASSERT(json_is_string(json_object_get(message, "role")));
        RMJ_ASSERT(!json_is_null(json_object_get(message, "content")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0) {
        return 0;
    }
    Rmjob__V1__Columns columns;
    rmjob__v1__columns__init(&columns);
    columns.chosen = (char *)"a";
    columns.rejected = (char *)"b";
    columns.label = bytes[0] & 64 ? (char *)"label" : NULL;
    struct rmj_row_format format = {.form = (Rmjob__V1__DataForm)((bytes[0] & 15) % 8),
                                    .columns = bytes[0] & 32 ? &columns : NULL,
                                    .model_has_template = bytes[0] >> 4 & 1};
    struct rmj_row row;
    struct rmj_error err = {0};
    rmj_row_init(&row);
    // Twice: a row is reused, and the second reading must not see the first.
    for (int i = 0; i < 2; i++) {
        enum rmj_status status = rmj_row_parse(&row, &format, (const char *)bytes + 1, size - 1, bytes[0] >> 7, &err);
        RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
        if (status == RMJ_OK) {
            RMJ_ASSERT(row.form != RMJOB__V1__DATA_FORM__automatic);
            RMJ_ASSERT(row.rejected_count >= 1 && row.rejected_count <= RMJ_ROW_REJECTED_MAX);
            check_side(&row, &row.chosen);
            for (uint32_t j = 0; j < row.rejected_count; j++) {
                check_side(&row, &row.rejected[j]);
            }
            uint8_t key[RMJ_PROMPT_KEY_SIZE];
            (void)rmj_prompt_key(rmj_buf_text(&row.prompt), row.prompt.size, key);
        }
    }
    rmj_row_deinit(&row);
    return 0;
}
