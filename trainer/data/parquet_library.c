#include "trainer/data/parquet_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

#define PATH_SIZE_MAX 4096

static const char file_name[] = "libduckdb.so";

#define FUNCTION(name)                                                                                                 \
    {                                                                                                                  \
        "duckdb_" #name, offsetof(struct rmj_duck, name)                                                               \
    }
static const struct {
    const char *symbol;
    size_t offset;
} functions[] = {
    FUNCTION(create_config),
    FUNCTION(set_config),
    FUNCTION(destroy_config),
    FUNCTION(open_ext),
    FUNCTION(close),
    FUNCTION(connect),
    FUNCTION(disconnect),
    FUNCTION(free),
    FUNCTION(prepare),
    FUNCTION(prepare_error),
    FUNCTION(destroy_prepare),
    FUNCTION(prepared_statement_column_count),
    FUNCTION(prepared_statement_column_name),
    FUNCTION(prepared_statement_column_logical_type),
    FUNCTION(pending_prepared_streaming),
    FUNCTION(pending_error),
    FUNCTION(destroy_pending),
    FUNCTION(execute_pending),
    FUNCTION(result_error),
    FUNCTION(destroy_result),
    FUNCTION(fetch_chunk),
    FUNCTION(destroy_data_chunk),
    FUNCTION(data_chunk_get_size),
    FUNCTION(data_chunk_get_vector),
    FUNCTION(vector_get_data),
    FUNCTION(vector_get_validity),
    FUNCTION(list_vector_get_child),
    FUNCTION(array_vector_get_child),
    FUNCTION(struct_vector_get_child),
    FUNCTION(get_type_id),
    FUNCTION(list_type_child_type),
    FUNCTION(array_type_child_type),
    FUNCTION(array_type_array_size),
    FUNCTION(map_type_key_type),
    FUNCTION(map_type_value_type),
    FUNCTION(struct_type_child_count),
    FUNCTION(struct_type_child_name),
    FUNCTION(struct_type_child_type),
    FUNCTION(destroy_logical_type),
};
_Static_assert(RMJ_COUNT(functions) * sizeof(void *) == sizeof(struct rmj_duck), "a symbol for every function");

static struct rmj_duck loaded;
static struct rmj_error load_error;
static enum rmj_status load_status;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// The first of: $RMJOB_PARQUET_LIBRARY; ../lib/rmjob beside the program; the cache that scripts/parquet
// fills. NULL when there is none.
static char *find_library(void)
{
    const char *given = getenv("RMJOB_PARQUET_LIBRARY");
    if (given != NULL && given[0] != '\0') {
        return strdup(given);
    }
    char program[PATH_SIZE_MAX], path[PATH_SIZE_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) {
        program[length] = '\0';
        *strrchr(program, '/') = '\0';
        snprintf(path, sizeof path, "%s/../lib/rmjob/%s", program, file_name);
        if (rmj_fs_exists(path)) {
            return strdup(path);
        }
    }
    const char *cache = getenv("RMJOB_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && cache[0] != '\0') {
        snprintf(path, sizeof path, "%s/parquet/%s", cache, file_name);
    } else if (xdg != NULL && xdg[0] != '\0') {
        snprintf(path, sizeof path, "%s/rmjob/parquet/%s", xdg, file_name);
    } else {
        snprintf(path, sizeof path, "%s/.cache/rmjob/parquet/%s", home == NULL ? "/root" : home, file_name);
    }
    return rmj_fs_exists(path) ? strdup(path) : NULL;
}

static enum rmj_status load(struct rmj_error *err)
{
    char *path = find_library();
    void *library = NULL;
    enum rmj_status status = RMJ_OK;
    if (path == NULL) {
        return rmj_fail(err, RMJ_INVALID,
                        "reading Parquet needs %s, which is not here: run scripts/parquet, or name the file "
                        "in $RMJOB_PARQUET_LIBRARY, or convert the data to .jsonl",
                        file_name);
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *why = dlerror();
        status = rmj_fail(err, RMJ_INVALID, "cannot load %s: %s", path, why == NULL ? "no reason is given" : why);
        goto out;
    }
    for (size_t i = 0; i < RMJ_COUNT(functions); i++) {
        void *function = dlsym(library, functions[i].symbol);
        if (function == NULL) {
            status = rmj_fail(err, RMJ_INVALID, "%s has no %s: it is of another version; run scripts/parquet", path,
                              functions[i].symbol);
            goto out;
        }
        memcpy((char *)&loaded + functions[i].offset, &function, sizeof function);
    }
    library = NULL; // stays loaded
out:
    if (library != NULL) {
        dlclose(library);
    }
    free(path);
    return status;
}

static void load_once(void)
{
    load_status = load(&load_error);
}

enum rmj_status rmj_duck_load(const struct rmj_duck **duck, struct rmj_error *err)
{
    *duck = &loaded;
    pthread_once(&once, load_once);
    if (load_status != RMJ_OK && err != NULL) {
        *err = load_error;
    }
    return load_status;
}
