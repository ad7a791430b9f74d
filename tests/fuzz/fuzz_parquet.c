// What is ours of reading Parquet (trainer/data/parquet.c): types to a query, vectors to JSON. The library is replaced
// by one that makes types, vectors and failures out of the input's bytes, each allocated exactly as long as its
// promise, so that a read past it is seen. Every row must be a JSON object.
#include <jansson.h>

#include "tests/fuzz/fuzz.h"
#include "trainer/data/parquet.h"
#include "trainer/data/parquet_library.h"

#define DEPTH_MAX 40u
#define CHUNK_ROWS_MAX 3u
#define CHUNKS_MAX 2u
#define VALUES_MAX 64u // of one vector
#define VECTORS_MAX 2000u
#define LINE_SIZE_MAX ((size_t)1 << 20)

// What is left of the input; zeros after its end.
static const uint8_t *left;
static size_t left_size;
static unsigned vector_count, chunk_count;

static uint8_t take(void)
{
    uint8_t byte = left_size > 0 ? *left : 0;
    left += left_size > 0;
    left_size -= left_size > 0;
    return byte;
}

struct type {
    int id;
    unsigned size; // of an array; children of a struct
    char name[4];
    struct type *children;
    unsigned child_count;
};

struct vector {
    struct type *type; // borrowed
    void *data;
    uint64_t *valid;
    char **texts;
    unsigned count;
    struct vector *children;
    unsigned child_count;
};

struct statement {
    struct type *columns;
    unsigned count;
    int failed;
};

struct chunk {
    struct vector *columns;
    unsigned count, rows;
};

static struct statement *current; // what is being read

static void *make(size_t size)
{
    void *memory = calloc(1, size == 0 ? 1 : size);
    RMJ_ASSERT(memory != NULL);
    return memory;
}

// values: of one row, which arrays in arrays multiply.
static void type_read(struct type *type, unsigned depth, unsigned values, int is_key)
{
    static const int ids[] = {
        RMJ_DUCK_BOOLEAN,   RMJ_DUCK_TINYINT,  RMJ_DUCK_SMALLINT, RMJ_DUCK_INTEGER, RMJ_DUCK_BIGINT,  RMJ_DUCK_UTINYINT,
        RMJ_DUCK_USMALLINT, RMJ_DUCK_UINTEGER, RMJ_DUCK_UBIGINT,  RMJ_DUCK_FLOAT,   RMJ_DUCK_DOUBLE,  RMJ_DUCK_HUGEINT,
        RMJ_DUCK_VARCHAR,   RMJ_DUCK_DECIMAL,  RMJ_DUCK_LIST,     RMJ_DUCK_STRUCT,  RMJ_DUCK_MAP,     RMJ_DUCK_UHUGEINT,
        RMJ_DUCK_ARRAY,     RMJ_DUCK_SQLNULL,  RMJ_DUCK_LIST,     RMJ_DUCK_STRUCT,  RMJ_DUCK_VARCHAR, 12 /* a time */,
        39 /* not known */, RMJ_DUCK_LIST};
    uint8_t byte = take();
    type->id = is_key ? (byte & 1 ? RMJ_DUCK_INTEGER : RMJ_DUCK_VARCHAR) : ids[byte % RMJ_COUNT(ids)];
    for (size_t i = 0; i + 1 < sizeof type->name; i++) {
        type->name[i] = (char)(take() & 0x7f);
    }
    if (depth == DEPTH_MAX) {
        type->id = RMJ_DUCK_BOOLEAN;
    }
    if (type->id == RMJ_DUCK_LIST || type->id == RMJ_DUCK_ARRAY) {
        type->child_count = 1;
        type->size = type->id == RMJ_DUCK_ARRAY ? take() % 4 : 0;
        type->size = values * type->size > VALUES_MAX ? 1 : type->size;
        values *= type->size > 0 ? type->size : 1;
    } else if (type->id == RMJ_DUCK_MAP) {
        type->child_count = 2;
    } else if (type->id == RMJ_DUCK_STRUCT) {
        type->child_count = take() % 4;
    }
    type->children = make(type->child_count * sizeof *type->children);
    for (unsigned i = 0; i < type->child_count; i++) {
        type_read(&type->children[i], depth + 1, values, type->id == RMJ_DUCK_MAP && i == 0);
    }
}

static void type_drop(struct type *type)
{
    for (unsigned i = 0; i < type->child_count; i++) {
        type_drop(&type->children[i]);
    }
    free(type->children);
}

static size_t value_size(int id)
{
    switch (id) {
    case RMJ_DUCK_BOOLEAN:
    case RMJ_DUCK_TINYINT:
    case RMJ_DUCK_UTINYINT:
        return 1;
    case RMJ_DUCK_SMALLINT:
    case RMJ_DUCK_USMALLINT:
        return 2;
    case RMJ_DUCK_INTEGER:
    case RMJ_DUCK_UINTEGER:
    case RMJ_DUCK_FLOAT:
        return 4;
    case RMJ_DUCK_BIGINT:
    case RMJ_DUCK_UBIGINT:
    case RMJ_DUCK_DOUBLE:
        return 8;
    case RMJ_DUCK_VARCHAR:
    case RMJ_DUCK_LIST:
    case RMJ_DUCK_MAP:
        return 16;
    default:
        return 0;
    }
}

// ASCII, all of it, and keys without NUL: what else a row must be is the row reader's to say.
static void texts_fill(struct vector *vector, int is_key)
{
    struct rmj_duck_string *strings = vector->data;
    vector->texts = make(vector->count * sizeof *vector->texts);
    for (unsigned i = 0; i < vector->count; i++) {
        unsigned length = take() % 20;
        char *text = make(length);
        for (unsigned j = 0; j < length; j++) {
            text[j] = (char)(take() & 0x7f);
            text[j] = text[j] == '\0' && is_key ? '0' : text[j];
        }
        vector->texts[i] = text;
        strings[i].length = length;
        if (length <= sizeof strings[i].value.inlined) {
            memcpy(strings[i].value.inlined, text, length);
        } else {
            memcpy(strings[i].value.far.pointer, &text, sizeof text);
        }
    }
}

static void vector_fill(struct vector *vector, struct type *type, unsigned count, int is_key);

static void children_fill(struct vector *vector, const unsigned *counts, unsigned count)
{
    vector->child_count = count;
    vector->children = make(count * sizeof *vector->children);
    for (unsigned i = 0; i < count; i++) {
        vector_fill(&vector->children[i], &vector->type->children[i], counts[i], 0);
    }
}

static void entries_fill(struct vector *vector)
{
    struct rmj_duck_entry *entries = vector->data;
    unsigned total = 0;
    for (unsigned i = 0; i < vector->count; i++) {
        unsigned length = take() % 4;
        length = total + length <= VALUES_MAX && vector_count < VECTORS_MAX ? length : 0;
        entries[i] = (struct rmj_duck_entry){.offset = total, .length = length};
        total += length;
    }
    vector->child_count = 1;
    vector->children = make(sizeof *vector->children);
    struct vector *child = &vector->children[0];
    if (vector->type->id == RMJ_DUCK_LIST) {
        vector_fill(child, &vector->type->children[0], total, 0);
        return;
    }
    // A map's child is a struct of keys, which are never null, and values.
    child->type = vector->type;
    child->count = total;
    child->child_count = 2;
    child->children = make(2 * sizeof *child->children);
    vector_fill(&child->children[0], &vector->type->children[0], total, 1);
    vector_fill(&child->children[1], &vector->type->children[1], total, 0);
}

static void vector_fill(struct vector *vector, struct type *type, unsigned count, int is_key)
{
    size_t size = value_size(type->id);
    vector_count++;
    vector->type = type;
    vector->count = count;
    vector->data = make(count * size);
    if (!is_key && (take() & 1)) {
        vector->valid = make((count + 63) / 64 * sizeof *vector->valid);
        for (unsigned i = 0; i < count; i++) {
            vector->valid[i / 64] |= (uint64_t)(take() & 1) << (i % 64);
        }
    }
    if (type->id == RMJ_DUCK_VARCHAR) {
        texts_fill(vector, is_key);
    } else if (type->id == RMJ_DUCK_LIST || type->id == RMJ_DUCK_MAP) {
        entries_fill(vector);
    } else if (type->id == RMJ_DUCK_STRUCT) {
        unsigned counts[4] = {count, count, count, count};
        children_fill(vector, counts, type->child_count);
    } else if (type->id == RMJ_DUCK_ARRAY) {
        unsigned counts[1] = {count * type->size};
        children_fill(vector, counts, 1);
    } else {
        for (size_t i = 0; i < count * size; i++) {
            ((uint8_t *)vector->data)[i] = take();
        }
    }
}

static void vector_drop(struct vector *vector)
{
    for (unsigned i = 0; i < vector->child_count; i++) {
        vector_drop(&vector->children[i]);
    }
    for (unsigned i = 0; vector->texts != NULL && i < vector->count; i++) {
        free(vector->texts[i]);
    }
    free(vector->children);
    free(vector->texts);
    free(vector->data);
    free(vector->valid);
}

static int make_config(void **config)
{
    *config = make(1);
    return take() % 16 == 15;
}

static int set_config(void *config, const char *name, const char *option)
{
    RMJ_ASSERT(config != NULL && name != NULL && option != NULL);
    return 0;
}

static void drop(void **memory)
{
    free(*memory);
    *memory = NULL;
}

static int open_ext(const char *path, void **database, void *config, char **error)
{
    RMJ_ASSERT(path == NULL && config != NULL);
    int failed = take() % 16 == 15;
    if (failed) {
        *error = strdup("no");
    } else {
        *database = make(1);
    }
    return failed;
}

static int connect_to(void *database, void **connection)
{
    RMJ_ASSERT(database != NULL);
    *connection = make(1);
    return 0;
}

// A query is text in which every name is quoted.
static int prepare(void *connection, const char *query, void **out)
{
    struct statement *statement = make(sizeof *statement);
    unsigned quotes = 0;
    RMJ_ASSERT(connection != NULL && strncmp(query, "SELECT ", 7) == 0);
    for (const char *at = query; *at != '\0'; at++) {
        quotes += *at == '"';
    }
    RMJ_ASSERT(quotes % 2 == 0);
    statement->failed = take() % 16 == 15;
    statement->count = statement->failed ? 0 : take() % 4;
    statement->columns = make(statement->count * sizeof *statement->columns);
    for (unsigned i = 0; i < statement->count; i++) {
        type_read(&statement->columns[i], 0, 1, 0);
    }
    *out = current = statement;
    return statement->failed;
}

static const char *prepare_error(void *statement)
{
    static char text[400];
    RMJ_ASSERT(((struct statement *)statement)->failed);
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        text[i] = (char)take();
    }
    return take() & 1 ? NULL : text;
}

static void destroy_prepare(void **out)
{
    struct statement *statement = *out;
    if (statement != NULL) {
        for (unsigned i = 0; i < statement->count; i++) {
            type_drop(&statement->columns[i]);
        }
        free(statement->columns);
    }
    drop(out);
}

static uint64_t column_count(void *statement)
{
    return ((struct statement *)statement)->count;
}

static const char *column_name(void *statement, uint64_t column)
{
    return strdup(((struct statement *)statement)->columns[column].name);
}

static void *column_type(void *statement, uint64_t column)
{
    return &((struct statement *)statement)->columns[column];
}

static int pending_streaming(void *statement, void **pending)
{
    RMJ_ASSERT(statement != NULL);
    *pending = make(1);
    return take() % 16 == 15;
}

static const char *pending_error(void *pending)
{
    return pending != NULL ? "no\nat all" : NULL;
}

static int execute_pending(void *pending, struct rmj_duck_result *result)
{
    RMJ_ASSERT(pending != NULL);
    result->internal_data = make(1);
    result->error_message = take() % 16 == 15 ? strdup("the file '/proc/self/fd/0' is broken") : NULL;
    return result->error_message != NULL;
}

static const char *result_error(struct rmj_duck_result *result)
{
    return result->error_message;
}

static void destroy_result(struct rmj_duck_result *result)
{
    free(result->internal_data);
    free(result->error_message);
    *result = (struct rmj_duck_result){0};
}

static void *fetch_chunk(struct rmj_duck_result result)
{
    RMJ_ASSERT(result.internal_data != NULL);
    if (chunk_count++ == CHUNKS_MAX) {
        return NULL;
    }
    struct chunk *chunk = make(sizeof *chunk);
    chunk->rows = take() % (CHUNK_ROWS_MAX + 1);
    chunk->count = current->count;
    chunk->columns = make(chunk->count * sizeof *chunk->columns);
    for (unsigned i = 0; i < chunk->count; i++) {
        vector_fill(&chunk->columns[i], &current->columns[i], chunk->rows, 0);
    }
    return chunk;
}

static void destroy_chunk(void **out)
{
    struct chunk *chunk = *out;
    for (unsigned i = 0; chunk != NULL && i < chunk->count; i++) {
        vector_drop(&chunk->columns[i]);
    }
    if (chunk != NULL) {
        free(chunk->columns);
    }
    drop(out);
}

static uint64_t chunk_size(void *chunk)
{
    return ((struct chunk *)chunk)->rows;
}

static void *chunk_vector(void *chunk, uint64_t column)
{
    RMJ_ASSERT(column < ((struct chunk *)chunk)->count);
    return &((struct chunk *)chunk)->columns[column];
}

static void *vector_data(void *vector)
{
    return ((struct vector *)vector)->data;
}

static uint64_t *vector_valid(void *vector)
{
    return ((struct vector *)vector)->valid;
}

static void *vector_child(void *vector)
{
    return &((struct vector *)vector)->children[0];
}

static void *struct_child(void *vector, uint64_t index)
{
    RMJ_ASSERT(index < ((struct vector *)vector)->child_count);
    return &((struct vector *)vector)->children[index];
}

static int type_id(void *type)
{
    return ((struct type *)type)->id;
}

static void *type_child(void *type)
{
    return &((struct type *)type)->children[0];
}

static void *type_second_child(void *type)
{
    return &((struct type *)type)->children[1];
}

static uint64_t array_size(void *type)
{
    return ((struct type *)type)->size;
}

static uint64_t struct_child_count(void *type)
{
    return ((struct type *)type)->child_count;
}

static char *struct_child_name(void *type, uint64_t index)
{
    return strdup(((struct type *)type)->children[index].name);
}

static void *struct_child_type(void *type, uint64_t index)
{
    return &((struct type *)type)->children[index];
}

// Types belong to their statement.
static void forget_type(void **type)
{
    *type = NULL;
}

static const struct rmj_duck fake = {
    .create_config = make_config,
    .set_config = set_config,
    .destroy_config = drop,
    .open_ext = open_ext,
    .close = drop,
    .connect = connect_to,
    .disconnect = drop,
    .free = free,
    .prepare = prepare,
    .prepare_error = prepare_error,
    .destroy_prepare = destroy_prepare,
    .prepared_statement_column_count = column_count,
    .prepared_statement_column_name = column_name,
    .prepared_statement_column_logical_type = column_type,
    .pending_prepared_streaming = pending_streaming,
    .pending_error = pending_error,
    .destroy_pending = drop,
    .execute_pending = execute_pending,
    .result_error = result_error,
    .destroy_result = destroy_result,
    .fetch_chunk = fetch_chunk,
    .destroy_data_chunk = destroy_chunk,
    .data_chunk_get_size = chunk_size,
    .data_chunk_get_vector = chunk_vector,
    .vector_get_data = vector_data,
    .vector_get_validity = vector_valid,
    .list_vector_get_child = vector_child,
    .array_vector_get_child = vector_child,
    .struct_vector_get_child = struct_child,
    .get_type_id = type_id,
    .list_type_child_type = type_child,
    .array_type_child_type = type_child,
    .array_type_array_size = array_size,
    .map_type_key_type = type_child,
    .map_type_value_type = type_second_child,
    .struct_type_child_count = struct_child_count,
    .struct_type_child_name = struct_child_name,
    .struct_type_child_type = struct_child_type,
    .destroy_logical_type = forget_type,
};

// In the place of the one in trainer/data/parquet_library.c, which loads the library.
enum rmj_status rmj_duck_load(const struct rmj_duck **duck, struct rmj_error *err)
{
    (void)err;
    *duck = &fake;
    return RMJ_OK;
}

static void check_line(const struct rmj_buf *line)
{
    json_error_t where;
    json_t *row = json_loadb(rmj_buf_text(line), line->size, JSON_ALLOW_NUL, &where);
    if (!json_is_object(row)) {
        fprintf(stderr, "%s in: %.*s\n", where.text, (int)line->size, rmj_buf_text(line));
    }
    RMJ_ASSERT(json_is_object(row));
    json_decref(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    left = bytes;
    left_size = size;
    vector_count = chunk_count = 0;
    struct rmj_parquet *parquet = NULL;
    struct rmj_error err = {0};
    struct rmj_buf line;
    rmj_buf_init(&line, LINE_SIZE_MAX);
    enum rmj_status status = rmj_parquet_open(&parquet, 0, &err);
    RMJ_ASSERT((status == RMJ_OK) == (parquet != NULL));
    int end = status != RMJ_OK;
    for (uint64_t rows = 0; !end && status == RMJ_OK; rows++) {
        rmj_buf_clear(&line);
        status = rmj_parquet_next(parquet, &line, &end, &err);
        RMJ_ASSERT(rows <= (uint64_t)CHUNK_ROWS_MAX * CHUNKS_MAX);
        if (status == RMJ_OK && !end && !line.failed) {
            check_line(&line);
        }
    }
    RMJ_ASSERT(status == RMJ_OK || err.message[0] != '\0');
    rmj_parquet_close(parquet);
    rmj_buf_deinit(&line);
    return 0;
}
