#include <string.h>
#include <yaml.h>

#include "base/text.h"
#include "proto/text/node.h"

struct reader {
    yaml_parser_t parser;
    const char *text;
    size_t size;
    struct rmj_node_pool *pool;
    struct rmj_text_result *result;
};

static int line_of(yaml_mark_t mark)
{
    return (int)mark.line + 1;
}

static int column_of(yaml_mark_t mark)
{
    return (int)mark.column + 1;
}

static void report_syntax(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    int line = line_of(parser->problem_mark);
    int column = column_of(parser->problem_mark);
    if (parser->error == YAML_READER_ERROR) { // it has no mark, only an offset
        size_t offset = parser->problem_offset < reader->size ? parser->problem_offset : reader->size;
        rmj_text_locate(reader->text, offset, &line, &column);
    }
    rmj_text_report(reader->result, line, column, "", "not YAML: %s%s%s",
                    parser->context == NULL ? "" : parser->context, parser->context == NULL ? "" : ": ",
                    parser->problem == NULL ? "out of memory" : parser->problem);
}

// 0 after a report. The event is the caller's to delete.
static int next_event(struct reader *reader, yaml_event_t *event)
{
    if (!yaml_parser_parse(&reader->parser, event)) {
        report_syntax(reader);
        return 0;
    }
    return 1;
}

static struct rmj_node *read_node(struct reader *reader, const yaml_event_t *event, int depth);

static void refuse_properties(struct reader *reader, const yaml_event_t *event, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
    yaml_mark_t at = event->start_mark;
    if (anchor != NULL) {
        rmj_text_report(reader->result, line_of(at), column_of(at), "",
                        "the anchor &%.60s is not supported; write the value where it is used", (const char *)anchor);
    }
    if (tag != NULL) {
        rmj_text_report(reader->result, line_of(at), column_of(at), "",
                        "the tag %.60s is not supported; types follow from the fields", (const char *)tag);
    }
}

static struct rmj_node *read_scalar(struct reader *reader, const yaml_event_t *event)
{
    refuse_properties(reader, event, event->data.scalar.anchor, event->data.scalar.tag);
    struct rmj_node *node =
        rmj_node_make(reader->pool, RMJ_NODE_SCALAR, line_of(event->start_mark), column_of(event->start_mark));
    node->size = event->data.scalar.length;
    node->text = rmj_node_text(reader->pool, (const char *)event->data.scalar.value, node->size);
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return node;
}

static struct rmj_node *read_list(struct reader *reader, const yaml_event_t *start, int depth)
{
    refuse_properties(reader, start, start->data.sequence_start.anchor, start->data.sequence_start.tag);
    struct rmj_node *list =
        rmj_node_make(reader->pool, RMJ_NODE_LIST, line_of(start->start_mark), column_of(start->start_mark));
    for (;;) {
        yaml_event_t event;
        if (!next_event(reader, &event)) {
            return NULL;
        }
        int at_end = event.type == YAML_SEQUENCE_END_EVENT;
        struct rmj_node *child = at_end ? NULL : read_node(reader, &event, depth + 1);
        yaml_event_delete(&event);
        if (at_end) {
            return list;
        }
        if (child == NULL) {
            return NULL;
        }
        rmj_node_add(list, child);
    }
}

// The key is in `key`; its value's node comes back with the name set. NULL after a fatal report.
static struct rmj_node *read_entry(struct reader *reader, const struct rmj_node *key, int depth)
{
    yaml_event_t event;
    if (!next_event(reader, &event)) {
        return NULL;
    }
    struct rmj_node *value = read_node(reader, &event, depth + 1);
    yaml_event_delete(&event);
    if (value == NULL) {
        return NULL;
    }
    value->name = key->text == NULL ? "" : key->text;
    value->name_line = key->line;
    value->name_column = key->column;
    if (key->kind == RMJ_NODE_REFUSED) {
        value->kind = RMJ_NODE_REFUSED;
    } else if (key->kind != RMJ_NODE_SCALAR || strlen(key->text) != key->size) {
        rmj_text_report(reader->result, key->line, key->column, "", "a field's name is a plain word");
        value->kind = RMJ_NODE_REFUSED;
    } else if (strcmp(key->text, "<<") == 0 && !key->quoted) {
        rmj_text_report(reader->result, key->line, key->column, "",
                        "merge keys (<<) are not supported; write the fields out");
        value->kind = RMJ_NODE_REFUSED;
    }
    return value;
}

static struct rmj_node *read_map(struct reader *reader, const yaml_event_t *start, int depth)
{
    refuse_properties(reader, start, start->data.mapping_start.anchor, start->data.mapping_start.tag);
    struct rmj_node *map =
        rmj_node_make(reader->pool, RMJ_NODE_MAP, line_of(start->start_mark), column_of(start->start_mark));
    for (;;) {
        yaml_event_t event;
        if (!next_event(reader, &event)) {
            return NULL;
        }
        int at_end = event.type == YAML_MAPPING_END_EVENT;
        struct rmj_node *key = at_end ? NULL : read_node(reader, &event, depth + 1);
        yaml_event_delete(&event);
        if (at_end) {
            return map;
        }
        struct rmj_node *value = key == NULL ? NULL : read_entry(reader, key, depth);
        if (value == NULL) {
            return NULL;
        }
        rmj_node_add(map, value);
    }
}

static struct rmj_node *read_node(struct reader *reader, const yaml_event_t *event, int depth)
{
    int line = line_of(event->start_mark);
    int column = column_of(event->start_mark);
    if (depth > RMJ_TEXT_DEPTH_MAX) {
        rmj_text_report(reader->result, line, column, "", "nested deeper than %d levels", RMJ_TEXT_DEPTH_MAX);
        return NULL;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return read_scalar(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return read_list(reader, event, depth);
    case YAML_MAPPING_START_EVENT:
        return read_map(reader, event, depth);
    default: // what may stand for a node otherwise is an alias
        rmj_text_report(reader->result, line, column, "",
                        "the alias *%.60s is not supported; write the value where it is used",
                        (const char *)event->data.alias.anchor);
        return rmj_node_make(reader->pool, RMJ_NODE_REFUSED, line, column);
    }
}

// The stream's frame around the one document.
static struct rmj_node *read_stream(struct reader *reader)
{
    struct rmj_node *root = NULL;
    for (;;) {
        yaml_event_t event;
        if (!next_event(reader, &event)) {
            return NULL;
        }
        yaml_event_type_t type = event.type;
        int failed = 0;
        if (type == YAML_DOCUMENT_START_EVENT && root != NULL) {
            rmj_text_report(reader->result, line_of(event.start_mark), column_of(event.start_mark), "",
                            "a second document starts here; one file holds one");
            failed = 1;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT &&
                   type != YAML_DOCUMENT_END_EVENT && type != YAML_STREAM_END_EVENT) {
            root = read_node(reader, &event, 1);
            failed = root == NULL;
        }
        yaml_event_delete(&event);
        if (failed) {
            return NULL;
        }
        if (type == YAML_STREAM_END_EVENT) {
            return root;
        }
    }
}

struct rmj_node *rmj_yaml_read(const char *text, size_t size, struct rmj_node_pool *pool,
                               struct rmj_text_result *result)
{
    struct reader reader = {.text = text, .size = size, .pool = pool, .result = result};
    if (!yaml_parser_initialize(&reader.parser)) {
        rmj_text_report(result, 1, 1, "", "out of memory");
        return NULL;
    }
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
    struct rmj_node *root = read_stream(&reader);
    yaml_parser_delete(&reader.parser);
    if (root == NULL && rmj_text_error_count(result) == 0) {
        rmj_text_report(result, 1, 1, "", "the file is empty");
    }
    return root;
}
