#include "trainer/data/parquet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/data/parquet_library.h"

#define QUERY_SIZE_MAX ((size_t)1 << 20)
#define COLUMNS_MAX 1000u
#define DEPTH_MAX 32u

// One thread gives rows in the file's order; the bounds keep a damaged or hostile file from taking the machine; nothing
// is fetched and nothing is written.
static const char *const settings[][2] = {
    {"threads", "1"},
    {"memory_limit", "384MB"},
    {"preserve_insertion_order", "true"},
    {"temp_directory", ""},
    {"autoinstall_known_extensions", "false"},
    {"autoload_known_extensions", "false"},
};

// What a column holds, children included.
struct shape {
    int type; // enum rmj_duck_type
    char *name;
    uint64_t array_size;
    struct shape *children;
    uint64_t child_count;
};

struct rmj_parquet {
    const struct rmj_duck *duck;
    void *database, *connection, *statement;
    struct rmj_duck_result result;
    int running; // result is to be destroyed
    struct shape *columns;
    uint64_t column_count;
    void *chunk;
    uint64_t at, count; // rows of the chunk
    char file[32];      // what the reader calls the file
};

enum rmj_status rmj_parquet_check(struct rmj_error *err)
{
    const struct rmj_duck *duck;
    return rmj_duck_load(&duck, err);
}

// The reader's message, its first line and without its name of the file.
static enum rmj_status refuse(const struct rmj_parquet *parquet, const char *message, struct rmj_error *err)
{
    char text[400];
    snprintf(text, sizeof text, "%.*s", message == NULL ? 0 : (int)strcspn(message, "\n"),
             message == NULL ? "" : message);
    char *name = strstr(text, parquet->file);
    if (name != NULL) {
        size_t length = strlen(parquet->file);
        int quoted = name > text && name[-1] == '\'' && name[length] == '\'';
        name -= quoted;
        memmove(name, name + length + 2 * (size_t)quoted, strlen(name + length + 2 * (size_t)quoted) + 1);
    }
    return rmj_fail(err, RMJ_DATA, "cannot read the file as Parquet (%s): write it again", text);
}

static void shape_deinit(struct shape *shape)
{
    for (uint64_t i = 0; i < shape->child_count; i++) {
        shape_deinit(&shape->children[i]);
    }
    free(shape->children);
    free(shape->name);
}

static void shape_init(const struct rmj_parquet *parquet, struct shape *shape, void *type, unsigned depth);

// Takes the type and gives it back.
static void add_child(const struct rmj_parquet *parquet, struct shape *shape, void *type, const char *name,
                      unsigned depth)
{
    shape->children = realloc(shape->children, (shape->child_count + 1) * sizeof *shape->children);
    RMJ_ASSERT(shape->children != NULL);
    struct shape *child = &shape->children[shape->child_count++];
    *child = (struct shape){.name = strdup(name)};
    shape_init(parquet, child, type, depth + 1);
    parquet->duck->destroy_logical_type(&type);
}

static void shape_init(const struct rmj_parquet *parquet, struct shape *shape, void *type, unsigned depth)
{
    const struct rmj_duck *duck = parquet->duck;
    shape->type = duck->get_type_id(type);
    if (depth > DEPTH_MAX) {
        shape->type = 0;
    } else if (shape->type == RMJ_DUCK_LIST) {
        add_child(parquet, shape, duck->list_type_child_type(type), "", depth);
    } else if (shape->type == RMJ_DUCK_ARRAY) {
        shape->array_size = duck->array_type_array_size(type);
        add_child(parquet, shape, duck->array_type_child_type(type), "", depth);
    } else if (shape->type == RMJ_DUCK_MAP) {
        add_child(parquet, shape, duck->map_type_key_type(type), "key", depth);
        add_child(parquet, shape, duck->map_type_value_type(type), "value", depth);
    } else if (shape->type == RMJ_DUCK_STRUCT) {
        uint64_t count = duck->struct_type_child_count(type);
        for (uint64_t i = 0; i < count; i++) {
            char *name = duck->struct_type_child_name(type, i);
            add_child(parquet, shape, duck->struct_type_child_type(type, i), name == NULL ? "" : name, depth);
            duck->free(name);
        }
    }
}

static void append_identifier(struct rmj_buf *out, const char *name)
{
    rmj_buf_putc(out, '"');
    for (; *name != '\0'; name++) {
        rmj_buf_puts(out, *name == '"' ? "\"" : "");
        rmj_buf_putc(out, *name);
    }
    rmj_buf_putc(out, '"');
}

// 1 when values of the type can be written as JSON from their vectors.
static int is_written(const struct shape *shape)
{
    static const uint8_t leaves[] = {
        [RMJ_DUCK_BOOLEAN] = 1, [RMJ_DUCK_TINYINT] = 1,  [RMJ_DUCK_SMALLINT] = 1,  [RMJ_DUCK_INTEGER] = 1,
        [RMJ_DUCK_BIGINT] = 1,  [RMJ_DUCK_UTINYINT] = 1, [RMJ_DUCK_USMALLINT] = 1, [RMJ_DUCK_UINTEGER] = 1,
        [RMJ_DUCK_UBIGINT] = 1, [RMJ_DUCK_FLOAT] = 1,    [RMJ_DUCK_DOUBLE] = 1,    [RMJ_DUCK_VARCHAR] = 1,
        [RMJ_DUCK_SQLNULL] = 1,
    };
    int written =
        shape->child_count > 0 && (shape->type != RMJ_DUCK_MAP || shape->children[0].type == RMJ_DUCK_VARCHAR);
    for (uint64_t i = 0; i < shape->child_count; i++) {
        written = written && is_written(&shape->children[i]);
    }
    return written || (shape->type > 0 && (size_t)shape->type < sizeof leaves && leaves[shape->type]);
}

// The nearest type that is written: numbers as doubles, all else (times, decimals in lists, ...) as text.
static void append_type(struct rmj_buf *out, const struct shape *shape)
{
    if (shape->type == RMJ_DUCK_LIST || shape->type == RMJ_DUCK_ARRAY) {
        append_type(out, &shape->children[0]);
        rmj_buf_puts(out, "[]");
    } else if (shape->type == RMJ_DUCK_STRUCT && shape->child_count > 0) {
        rmj_buf_puts(out, "STRUCT(");
        for (uint64_t i = 0; i < shape->child_count; i++) {
            rmj_buf_puts(out, i > 0 ? ", " : "");
            append_identifier(out, shape->children[i].name);
            rmj_buf_putc(out, ' ');
            append_type(out, &shape->children[i]);
        }
        rmj_buf_putc(out, ')');
    } else if (shape->type == RMJ_DUCK_BOOLEAN || shape->type == RMJ_DUCK_BIGINT || shape->type == RMJ_DUCK_DOUBLE) {
        rmj_buf_puts(out, shape->type == RMJ_DUCK_BOOLEAN  ? "BOOLEAN"
                          : shape->type == RMJ_DUCK_BIGINT ? "BIGINT"
                                                           : "DOUBLE");
    } else if (shape->type >= RMJ_DUCK_TINYINT && shape->type <= RMJ_DUCK_UINTEGER) {
        rmj_buf_puts(out, "BIGINT");
    } else if (shape->type == RMJ_DUCK_FLOAT || shape->type == RMJ_DUCK_DECIMAL || shape->type == RMJ_DUCK_UBIGINT ||
               shape->type == RMJ_DUCK_HUGEINT || shape->type == RMJ_DUCK_UHUGEINT) {
        rmj_buf_puts(out, "DOUBLE");
    } else {
        rmj_buf_puts(out, "VARCHAR");
    }
}

static enum rmj_status prepare(struct rmj_parquet *parquet, const char *query, struct rmj_error *err)
{
    const struct rmj_duck *duck = parquet->duck;
    duck->destroy_prepare(&parquet->statement);
    parquet->statement = NULL;
    if (duck->prepare(parquet->connection, query, &parquet->statement) != 0) {
        return refuse(parquet, duck->prepare_error(parquet->statement), err);
    }
    return RMJ_OK;
}

static void describe(struct rmj_parquet *parquet)
{
    const struct rmj_duck *duck = parquet->duck;
    for (uint64_t i = 0; i < parquet->column_count; i++) {
        shape_deinit(&parquet->columns[i]);
    }
    uint64_t count = duck->prepared_statement_column_count(parquet->statement);
    parquet->columns = realloc(parquet->columns, (count + 1) * sizeof *parquet->columns);
    RMJ_ASSERT(parquet->columns != NULL);
    for (uint64_t i = 0; i < count; i++) {
        const char *name = duck->prepared_statement_column_name(parquet->statement, i);
        void *type = duck->prepared_statement_column_logical_type(parquet->statement, i);
        parquet->columns[i] = (struct shape){.name = strdup(name == NULL ? "" : name)};
        shape_init(parquet, &parquet->columns[i], type, 0);
        duck->free((void *)(uintptr_t)name);
        duck->destroy_logical_type(&type);
    }
    parquet->column_count = count;
}

// The query again, with casts where a column holds what is not written as it is.
static enum rmj_status prepare_casts(struct rmj_parquet *parquet, struct rmj_error *err)
{
    struct rmj_buf query;
    enum rmj_status status = RMJ_OK;
    int casts = 0;
    rmj_buf_init(&query, QUERY_SIZE_MAX);
    rmj_buf_puts(&query, "SELECT ");
    for (uint64_t i = 0; i < parquet->column_count; i++) {
        const struct shape *column = &parquet->columns[i];
        int cast = !is_written(column);
        casts |= cast;
        rmj_buf_puts(&query, i > 0 ? ", " : "");
        rmj_buf_puts(&query, cast ? "CAST(" : "");
        append_identifier(&query, column->name);
        if (cast) {
            rmj_buf_puts(&query, " AS ");
            append_type(&query, column);
            rmj_buf_puts(&query, ") AS ");
            append_identifier(&query, column->name);
        }
    }
    rmj_buf_printf(&query, " FROM read_parquet('%s', binary_as_string=true)", parquet->file);
    if (casts) {
        RMJ_GO(rmj_buf_check(&query, err));
        RMJ_GO(prepare(parquet, rmj_buf_text(&query), err));
        describe(parquet);
        for (uint64_t i = 0; status == RMJ_OK && i < parquet->column_count; i++) {
            const struct shape *column = &parquet->columns[i];
            status = is_written(column) ? RMJ_OK
                                        : rmj_fail(err, RMJ_DATA,
                                                   "column '%s' is of a type that is not read: leave it "
                                                   "out of the file",
                                                   column->name);
        }
    }
out:
    rmj_buf_deinit(&query);
    return status;
}

static enum rmj_status begin(struct rmj_parquet *parquet, struct rmj_error *err)
{
    const struct rmj_duck *duck = parquet->duck;
    void *pending = NULL;
    char query[128];
    snprintf(query, sizeof query, "SELECT * FROM read_parquet('%s', binary_as_string=true)", parquet->file);
    RMJ_TRY(prepare(parquet, query, err));
    describe(parquet);
    if (parquet->column_count > COLUMNS_MAX) {
        return rmj_fail(err, RMJ_DATA, "the file has %llu columns; at most %u are read",
                        (unsigned long long)parquet->column_count, COLUMNS_MAX);
    }
    RMJ_TRY(prepare_casts(parquet, err));
    enum rmj_status status = RMJ_OK;
    if (duck->pending_prepared_streaming(parquet->statement, &pending) != 0) {
        status = refuse(parquet, duck->pending_error(pending), err);
    } else {
        parquet->running = 1;
        if (duck->execute_pending(pending, &parquet->result) != 0) {
            status = refuse(parquet, duck->result_error(&parquet->result), err);
        }
    }
    duck->destroy_pending(&pending);
    return status;
}

static enum rmj_status open_database(struct rmj_parquet *parquet, struct rmj_error *err)
{
    const struct rmj_duck *duck = parquet->duck;
    void *config = NULL;
    char *message = NULL;
    int failed = duck->create_config(&config);
    for (size_t i = 0; !failed && i < RMJ_COUNT(settings); i++) {
        failed = duck->set_config(config, settings[i][0], settings[i][1]);
    }
    failed = failed || duck->open_ext(NULL, &parquet->database, config, &message) ||
             duck->connect(parquet->database, &parquet->connection);
    enum rmj_status status = failed ? rmj_fail(err, RMJ_INTERNAL, "cannot start the reader of Parquet files: %s",
                                               message == NULL ? "a setting was refused" : message)
                                    : RMJ_OK;
    duck->free(message);
    duck->destroy_config(&config);
    return status;
}

enum rmj_status rmj_parquet_open(struct rmj_parquet **out, int fd, struct rmj_error *err)
{
    *out = NULL;
    const struct rmj_duck *duck;
    RMJ_TRY(rmj_duck_load(&duck, err));
    struct rmj_parquet *parquet = calloc(1, sizeof *parquet);
    RMJ_ASSERT(parquet != NULL);
    parquet->duck = duck;
    // By its number: the same file that is hashed, and no character of its name means anything to the reader.
    snprintf(parquet->file, sizeof parquet->file, "/proc/self/fd/%d", fd);
    enum rmj_status status = RMJ_OK;
    RMJ_GO(open_database(parquet, err));
    RMJ_GO(begin(parquet, err));
    *out = parquet;
    parquet = NULL;
out:
    rmj_parquet_close(parquet);
    return status;
}

void rmj_parquet_close(struct rmj_parquet *parquet)
{
    if (parquet == NULL) {
        return;
    }
    const struct rmj_duck *duck = parquet->duck;
    duck->destroy_data_chunk(&parquet->chunk);
    if (parquet->running) {
        duck->destroy_result(&parquet->result);
    }
    duck->destroy_prepare(&parquet->statement);
    duck->disconnect(&parquet->connection);
    duck->close(&parquet->database);
    for (uint64_t i = 0; i < parquet->column_count; i++) {
        shape_deinit(&parquet->columns[i]);
    }
    free(parquet->columns);
    free(parquet);
}

static void write_text(struct rmj_buf *line, const char *text, size_t size)
{
    rmj_buf_putc(line, '"');
    size_t begin = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        rmj_buf_append(line, text + begin, i - begin);
        begin = i + 1;
        if (c < 0x20) {
            rmj_buf_printf(line, "\\u%04x", c);
        } else {
            rmj_buf_printf(line, "\\%c", c);
        }
    }
    rmj_buf_append(line, text + begin, size - begin);
    rmj_buf_putc(line, '"');
}

static void write_string(struct rmj_buf *line, const struct rmj_duck_string *string)
{
    const char *text = string->value.inlined;
    if (string->length > sizeof string->value.inlined) {
        memcpy(&text, string->value.far.pointer, sizeof text);
    }
    write_text(line, text, string->length);
}

// JSON has no word for what is not finite: absent, or text, which no column of numbers takes.
static void write_real(struct rmj_buf *line, double value, int digits)
{
    char text[40];
    if (isfinite(value)) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        rmj_buf_puts(line, text);
        rmj_buf_puts(line, strpbrk(text, ".e") == NULL ? ".0" : ""); // a real stays one
    } else {
        rmj_buf_puts(line, isnan(value) ? "null" : "\"infinity\"");
    }
}

static void write_leaf(struct rmj_buf *line, int type, const void *data, uint64_t row)
{
    switch (type) {
    case RMJ_DUCK_BOOLEAN:
        rmj_buf_puts(line, ((const uint8_t *)data)[row] ? "true" : "false");
        break;
    case RMJ_DUCK_TINYINT:
        rmj_buf_printf(line, "%d", ((const int8_t *)data)[row]);
        break;
    case RMJ_DUCK_SMALLINT:
        rmj_buf_printf(line, "%d", ((const int16_t *)data)[row]);
        break;
    case RMJ_DUCK_INTEGER:
        rmj_buf_printf(line, "%d", ((const int32_t *)data)[row]);
        break;
    case RMJ_DUCK_BIGINT:
        rmj_buf_printf(line, "%lld", (long long)((const int64_t *)data)[row]);
        break;
    case RMJ_DUCK_UTINYINT:
        rmj_buf_printf(line, "%u", ((const uint8_t *)data)[row]);
        break;
    case RMJ_DUCK_USMALLINT:
        rmj_buf_printf(line, "%u", ((const uint16_t *)data)[row]);
        break;
    case RMJ_DUCK_UINTEGER:
        rmj_buf_printf(line, "%u", ((const uint32_t *)data)[row]);
        break;
    case RMJ_DUCK_UBIGINT: {
        uint64_t value = ((const uint64_t *)data)[row];
        rmj_buf_printf(line, value > INT64_MAX ? "%llu.0" : "%llu", (unsigned long long)value);
        break;
    }
    case RMJ_DUCK_FLOAT:
        write_real(line, (double)((const float *)data)[row], 9);
        break;
    case RMJ_DUCK_DOUBLE:
        write_real(line, ((const double *)data)[row], 17);
        break;
    case RMJ_DUCK_VARCHAR:
        write_string(line, (const struct rmj_duck_string *)data + row);
        break;
    default:
        rmj_buf_puts(line, "null");
    }
}

static int is_null(const struct rmj_duck *duck, const struct shape *shape, void *vector, uint64_t row)
{
    const uint64_t *valid = duck->vector_get_validity(vector);
    return shape->type == RMJ_DUCK_SQLNULL || (valid != NULL && !(valid[row / 64] >> (row % 64) & 1));
}

static void write_value(const struct rmj_duck *duck, struct rmj_buf *line, const struct shape *shape, void *vector,
                        uint64_t row);

static void write_struct(const struct rmj_duck *duck, struct rmj_buf *line, const struct shape *shape, void *vector,
                         uint64_t row)
{
    int first = 1;
    rmj_buf_putc(line, '{');
    for (uint64_t i = 0; i < shape->child_count; i++) {
        const struct shape *child = &shape->children[i];
        void *values = duck->struct_vector_get_child(vector, i);
        if (is_null(duck, child, values, row)) {
            continue;
        }
        rmj_buf_puts(line, first ? "" : ",");
        first = 0;
        write_text(line, child->name, strlen(child->name));
        rmj_buf_putc(line, ':');
        write_value(duck, line, child, values, row);
    }
    rmj_buf_putc(line, '}');
}

// Values [begin, end) of a list, or keys and values of a map.
static void write_list(const struct rmj_duck *duck, struct rmj_buf *line, const struct shape *shape, void *values,
                       uint64_t begin, uint64_t end)
{
    int map = shape->type == RMJ_DUCK_MAP;
    rmj_buf_putc(line, map ? '{' : '[');
    for (uint64_t i = begin; i < end && !line->failed; i++) {
        rmj_buf_puts(line, i > begin ? "," : "");
        if (map) {
            write_value(duck, line, &shape->children[0], duck->struct_vector_get_child(values, 0), i);
            rmj_buf_putc(line, ':');
            write_value(duck, line, &shape->children[1], duck->struct_vector_get_child(values, 1), i);
        } else {
            write_value(duck, line, &shape->children[0], values, i);
        }
    }
    rmj_buf_putc(line, map ? '}' : ']');
}

static void write_value(const struct rmj_duck *duck, struct rmj_buf *line, const struct shape *shape, void *vector,
                        uint64_t row)
{
    if (is_null(duck, shape, vector, row)) {
        rmj_buf_puts(line, "null");
    } else if (shape->type == RMJ_DUCK_STRUCT) {
        write_struct(duck, line, shape, vector, row);
    } else if (shape->type == RMJ_DUCK_ARRAY) {
        write_list(duck, line, shape, duck->array_vector_get_child(vector), row * shape->array_size,
                   (row + 1) * shape->array_size);
    } else if (shape->type == RMJ_DUCK_LIST || shape->type == RMJ_DUCK_MAP) {
        struct rmj_duck_entry entry = ((const struct rmj_duck_entry *)duck->vector_get_data(vector))[row];
        write_list(duck, line, shape, duck->list_vector_get_child(vector), entry.offset, entry.offset + entry.length);
    } else {
        write_leaf(line, shape->type, duck->vector_get_data(vector), row);
    }
}

static enum rmj_status fetch(struct rmj_parquet *parquet, struct rmj_error *err)
{
    const struct rmj_duck *duck = parquet->duck;
    parquet->at = parquet->count = 0;
    do {
        duck->destroy_data_chunk(&parquet->chunk);
        parquet->chunk = duck->fetch_chunk(parquet->result);
        if (parquet->chunk == NULL) {
            const char *message = duck->result_error(&parquet->result);
            return message == NULL || message[0] == '\0' ? RMJ_OK : refuse(parquet, message, err);
        }
        parquet->count = duck->data_chunk_get_size(parquet->chunk);
    } while (parquet->count == 0);
    return RMJ_OK;
}

enum rmj_status rmj_parquet_next(struct rmj_parquet *parquet, struct rmj_buf *line, int *end, struct rmj_error *err)
{
    *end = 0;
    if (parquet->at == parquet->count) {
        RMJ_TRY(fetch(parquet, err));
        if (parquet->count == 0) {
            *end = 1;
            return RMJ_OK;
        }
    }
    rmj_buf_putc(line, '{');
    for (uint64_t i = 0; i < parquet->column_count; i++) {
        const struct shape *column = &parquet->columns[i];
        rmj_buf_puts(line, i > 0 ? "," : "");
        write_text(line, column->name, strlen(column->name));
        rmj_buf_putc(line, ':');
        write_value(parquet->duck, line, column, parquet->duck->data_chunk_get_vector(parquet->chunk, i), parquet->at);
    }
    rmj_buf_putc(line, '}');
    parquet->at++;
    return RMJ_OK;
}
