// The post-processor: ids that it puts before and after one text. Offsets and type ids, its other work, are not read.
#include <inttypes.h>
#include <string.h>

#include "trainer/tokenizer/internal.h"

static enum rmj_status check_id(const struct rmj_tokenizer *tokenizer, const json_t *value, const char *where,
                                int32_t *id, struct rmj_error *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) >= (json_int_t)rmj_tokenizer_size(tokenizer)) {
        return rmj_fail(err, RMJ_DATA, "%s: id of a special token has to be below the tokenizer's %" PRIu32, where,
                        rmj_tokenizer_size(tokenizer));
    }
    *id = (int32_t)json_integer_value(value);
    return RMJ_OK;
}

static enum rmj_status put(struct rmj_mark_list *list, int32_t id, const char *where, struct rmj_error *err)
{
    if (list->count == RMJ_TOKENIZER_MARK_COUNT_MAX) {
        return rmj_fail(err, RMJ_DATA, "%s puts more than %d ids on one side of a text", where,
                        RMJ_TOKENIZER_MARK_COUNT_MAX);
    }
    list->ids[list->count++] = id;
    return RMJ_OK;
}

// A later part of a chain puts its ids around those of the earlier ones.
static enum rmj_status wrap(struct rmj_tokenizer *tokenizer, const struct rmj_mark_list *before,
                            const struct rmj_mark_list *after, const char *where, struct rmj_error *err)
{
    struct rmj_mark_list joined = *before;
    for (size_t i = 0; i < tokenizer->before.count; i++) {
        RMJ_TRY(put(&joined, tokenizer->before.ids[i], where, err));
    }
    tokenizer->before = joined;
    for (size_t i = 0; i < after->count; i++) {
        RMJ_TRY(put(&tokenizer->after, after->ids[i], where, err));
    }
    return RMJ_OK;
}

// {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]}
static enum rmj_status read_pair(struct rmj_tokenizer *tokenizer, const json_t *part, const char *where,
                                 struct rmj_error *err)
{
    struct rmj_mark_list sides[2] = {0};
    const char *const keys[2] = {"cls", "sep"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *token = json_object_get(part, keys[i]);
        if (json_array_size(token) != 2) {
            return rmj_fail(err, RMJ_DATA, "%s: \"%s\" has to be a token and its id", where, keys[i]);
        }
        RMJ_TRY(check_id(tokenizer, json_array_get(token, 1), where, &sides[i].ids[0], err));
        sides[i].count = 1;
    }
    return wrap(tokenizer, &sides[0], &sides[1], where, err);
}

static enum rmj_status put_special(struct rmj_tokenizer *tokenizer, const json_t *part, const json_t *special,
                                   struct rmj_mark_list *list, const char *where, struct rmj_error *err)
{
    struct rmj_span name;
    RMJ_TRY(rmj_json_text(special, where, "id", &name, err));
    const json_t *ids =
        json_object_get(json_object_getn(json_object_get(part, "special_tokens"), name.text, name.size), "ids");
    if (!json_is_array(ids)) {
        return rmj_fail(err, RMJ_DATA, "%s: special_tokens has no ids for \"%.60s\"", where, name.text);
    }
    for (size_t i = 0; i < json_array_size(ids); i++) {
        int32_t id = -1;
        RMJ_TRY(check_id(tokenizer, json_array_get(ids, i), where, &id, err));
        RMJ_TRY(put(list, id, where, err));
    }
    return RMJ_OK;
}

// {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [1]}}}
static enum rmj_status read_template(struct rmj_tokenizer *tokenizer, const json_t *part, const char *where,
                                     struct rmj_error *err)
{
    struct rmj_mark_list sides[2] = {0};
    const json_t *single = json_object_get(part, "single");
    size_t texts = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *special = json_object_get(json_array_get(single, i), "SpecialToken");
        const json_t *sequence = json_object_get(json_array_get(single, i), "Sequence");
        if (special != NULL) {
            RMJ_TRY(put_special(tokenizer, part, special, &sides[texts > 0], where, err));
        } else if (json_is_string(json_object_get(sequence, "id")) &&
                   strcmp(json_string_value(json_object_get(sequence, "id")), "A") == 0) {
            texts++;
        } else {
            return rmj_fail(err, RMJ_DATA, "%s: single[%zu] has to be a SpecialToken or the Sequence A", where, i);
        }
    }
    if (texts != 1) {
        return rmj_fail(err, RMJ_DATA, "%s: \"single\" has to be a list that holds the Sequence A once", where);
    }
    return wrap(tokenizer, &sides[0], &sides[1], where, err);
}

static enum rmj_status read_nothing(struct rmj_tokenizer *tokenizer, const json_t *part, const char *where,
                                    struct rmj_error *err)
{
    (void)tokenizer;
    (void)part;
    (void)where;
    (void)err;
    return RMJ_OK;
}

static const struct {
    const char *type;
    const char *where;
    enum rmj_status (*read)(struct rmj_tokenizer *, const json_t *, const char *, struct rmj_error *);
} KINDS[] = {
    {"TemplateProcessing", "post_processor TemplateProcessing", read_template},
    {"BertProcessing", "post_processor BertProcessing", read_pair},
    {"RobertaProcessing", "post_processor RobertaProcessing", read_pair},
    {"ByteLevel", "post_processor ByteLevel", read_nothing}, // trims offsets
};

enum rmj_status rmj_processor_add(struct rmj_tokenizer *tokenizer, const json_t *part, const char *type,
                                  struct rmj_error *err)
{
    for (size_t i = 0; i < RMJ_COUNT(KINDS); i++) {
        if (strcmp(type, KINDS[i].type) == 0) {
            return KINDS[i].read(tokenizer, part, KINDS[i].where, err);
        }
    }
    return rmj_fail(err, RMJ_DATA,
                    "post_processor %.40s is not supported; supported are TemplateProcessing, ByteLevel, "
                    "BertProcessing, RobertaProcessing and Sequence",
                    type);
}

void rmj_tokenizer_marks(const struct rmj_tokenizer *tokenizer, struct rmj_tokenizer_marks *marks)
{
    *marks = (struct rmj_tokenizer_marks){.before = tokenizer->before.ids,
                                          .before_count = tokenizer->before.count,
                                          .after = tokenizer->after.ids,
                                          .after_count = tokenizer->after.count};
}
