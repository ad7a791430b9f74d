// Where the tests find real models and data, and how they skip aloud without them.
#ifndef RMJ_TESTS_SUPPORT_DATA_H
#define RMJ_TESTS_SUPPORT_DATA_H

#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"

#define RMJ_TEST_SKIPPED 77

// Path of a file of the data folder ($RMJOB_DATA, else ../shared/data beside the source), or NULL when it is absent.
// free() it.
static inline char *rmj_test_data(const char *name)
{
    const char *root = getenv("RMJOB_DATA");
    char fallback[4096];
    if (root == NULL) {
        const char *source = getenv("RMJOB_SOURCE");
        snprintf(fallback, sizeof fallback, "%s/../shared/data", source == NULL ? "." : source);
        root = fallback;
    }
    char *path = rmj_fs_join(root, name);
    if (rmj_fs_exists(path)) {
        return path;
    }
    free(path);
    return NULL;
}

#endif
