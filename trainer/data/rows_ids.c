// Rows that were tokenized before.
#include <stdlib.h>
#include <string.h>

#include "trainer/data/rows_internal.h"

static enum rmj_status read_side(struct rmj_row_side *side, const json_t *list, const char *name, struct rmj_error *err)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count == 0) {
        return rmj_fail(err, RMJ_DATA, "%s is %s; it must be a list of token ids, at least one", name,
                        json_is_array(list) ? "empty" : rmj_json_type_name(list));
    }
    if (count > side->id_room) {
        int32_t *ids = realloc(side->ids, count * sizeof *ids);
        RMJ_ASSERT(ids != NULL);
        side->ids = ids;
        side->id_room = count;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) {
            return rmj_fail(err, RMJ_DATA, "%s[%zu] is no token id", name, i);
        }
        side->ids[i] = (int32_t)json_integer_value(id);
    }
    side->id_count = count;
    return RMJ_OK;
}

// Sequences are used whole, so a mask may only say so.
static enum rmj_status check_mask(struct rmj_row_columns *columns, enum rmj_column column, size_t count,
                                  struct rmj_error *err)
{
    const json_t *mask = rmj_row_columns_take(columns, column), *value;
    size_t i;
    if (mask == NULL) {
        return RMJ_OK;
    }
    int right = json_array_size(mask) == count;
    json_array_foreach(mask, i, value)
    {
        right = right && (json_is_true(value) || (json_is_integer(value) && json_integer_value(value) == 1));
    }
    return right ? RMJ_OK
                 : rmj_fail(err, RMJ_DATA,
                            "%s is not 1 for each of the %zu ids: leave padding out of the ids, and the mask too",
                            columns->names[column], count);
}

enum rmj_status rmj_row_read_ids(struct rmj_row *row, struct rmj_row_columns *columns, struct rmj_error *err)
{
    static const enum rmj_column pairs[][2] = {
        {RMJ_COLUMN_CHOSEN_IDS, RMJ_COLUMN_REJECTED_IDS},
        {RMJ_COLUMN_CHOSEN_INPUT_IDS, RMJ_COLUMN_REJECTED_INPUT_IDS},
        {RMJ_COLUMN_CHOSEN, RMJ_COLUMN_REJECTED}, // where the spec names them, or that hold numbers
    };
    size_t last = RMJ_COUNT(pairs) - 1;
    size_t pair = columns->mapped[RMJ_COLUMN_CHOSEN] || columns->mapped[RMJ_COLUMN_REJECTED] ? last : 0;
    while (pair < last && (columns->values[pairs[pair][0]] == NULL || columns->values[pairs[pair][1]] == NULL)) {
        pair++;
    }
    json_t *chosen, *rejected;
    RMJ_TRY(rmj_row_columns_need(columns, pairs[pair][0], &chosen, err));
    RMJ_TRY(rmj_row_columns_need(columns, pairs[pair][1], &rejected, err));
    RMJ_TRY(read_side(&row->chosen, chosen, columns->names[pairs[pair][0]], err));
    RMJ_TRY(read_side(&row->rejected[0], rejected, columns->names[pairs[pair][1]], err));
    RMJ_TRY(check_mask(columns, RMJ_COLUMN_CHOSEN_ATTENTION_MASK, row->chosen.id_count, err));
    return check_mask(columns, RMJ_COLUMN_REJECTED_ATTENTION_MASK, row->rejected[0].id_count, err);
}
