// The reader of Parquet files: DuckDB's C interface, from a shared library that is loaded when the first Parquet file
// is read. Only the part that parquet.c calls is declared here, for version 1.2 and later.
#ifndef RMJ_TRAINER_DATA_PARQUET_LIBRARY_H
#define RMJ_TRAINER_DATA_PARQUET_LIBRARY_H

#include <stdint.h>

#include "base/status.h"

// duckdb_type
enum rmj_duck_type {
    RMJ_DUCK_BOOLEAN = 1,
    RMJ_DUCK_TINYINT = 2,
    RMJ_DUCK_SMALLINT = 3,
    RMJ_DUCK_INTEGER = 4,
    RMJ_DUCK_BIGINT = 5,
    RMJ_DUCK_UTINYINT = 6,
    RMJ_DUCK_USMALLINT = 7,
    RMJ_DUCK_UINTEGER = 8,
    RMJ_DUCK_UBIGINT = 9,
    RMJ_DUCK_FLOAT = 10,
    RMJ_DUCK_DOUBLE = 11,
    RMJ_DUCK_HUGEINT = 16,
    RMJ_DUCK_VARCHAR = 17,
    RMJ_DUCK_DECIMAL = 19,
    RMJ_DUCK_LIST = 24,
    RMJ_DUCK_STRUCT = 25,
    RMJ_DUCK_MAP = 26,
    RMJ_DUCK_UHUGEINT = 32,
    RMJ_DUCK_ARRAY = 33,
    RMJ_DUCK_SQLNULL = 36,
};

// duckdb_string_t: up to 12 bytes stand in it, longer ones elsewhere.
struct rmj_duck_string {
    uint32_t length;
    union {
        char inlined[12];
        struct {
            char prefix[4];
            uint32_t pointer[2]; // not aligned for a pointer by the declaration alone
        } far;
    } value;
};
_Static_assert(sizeof(struct rmj_duck_string) == 16, "duckdb_string_t");
// duckdb_list_entry
struct rmj_duck_entry {
    uint64_t offset, length;
};
// duckdb_result
struct rmj_duck_result {
    uint64_t counts[3];
    void *columns;
    char *error_message;
    void *internal_data;
};
_Static_assert(sizeof(struct rmj_duck_result) == 48, "duckdb_result");

// Calls return 0 when all is well. Handles are pointers; *_destroy take the address of one.
struct rmj_duck {
    int (*create_config)(void **config);
    int (*set_config)(void *config, const char *name, const char *option);
    void (*destroy_config)(void **config);
    int (*open_ext)(const char *path, void **database, void *config, char **error);
    void (*close)(void **database);
    int (*connect)(void *database, void **connection);
    void (*disconnect)(void **connection);
    void (*free)(void *memory);
    int (*prepare)(void *connection, const char *query, void **statement);
    const char *(*prepare_error)(void *statement);
    void (*destroy_prepare)(void **statement);
    uint64_t (*prepared_statement_column_count)(void *statement);
    const char *(*prepared_statement_column_name)(void *statement, uint64_t column);
    void *(*prepared_statement_column_logical_type)(void *statement, uint64_t column);
    int (*pending_prepared_streaming)(void *statement, void **pending);
    const char *(*pending_error)(void *pending);
    void (*destroy_pending)(void **pending);
    int (*execute_pending)(void *pending, struct rmj_duck_result *result);
    const char *(*result_error)(struct rmj_duck_result *result);
    void (*destroy_result)(struct rmj_duck_result *result);
    void *(*fetch_chunk)(struct rmj_duck_result result);
    void (*destroy_data_chunk)(void **chunk);
    uint64_t (*data_chunk_get_size)(void *chunk);
    void *(*data_chunk_get_vector)(void *chunk, uint64_t column);
    void *(*vector_get_data)(void *vector);
    uint64_t *(*vector_get_validity)(void *vector);
    void *(*list_vector_get_child)(void *vector);
    void *(*array_vector_get_child)(void *vector);
    void *(*struct_vector_get_child)(void *vector, uint64_t index);
    int (*get_type_id)(void *type);
    void *(*list_type_child_type)(void *type);
    void *(*array_type_child_type)(void *type);
    uint64_t (*array_type_array_size)(void *type);
    void *(*map_type_key_type)(void *type);
    void *(*map_type_value_type)(void *type);
    uint64_t (*struct_type_child_count)(void *type);
    char *(*struct_type_child_name)(void *type, uint64_t index);
    void *(*struct_type_child_type)(void *type, uint64_t index);
    void (*destroy_logical_type)(void **type);
};

// Loads it the first time; any thread. RMJ_INVALID when it is not there, with the mend.
RMJ_MUST_USE enum rmj_status rmj_duck_load(const struct rmj_duck **duck, struct rmj_error *err);

#endif
