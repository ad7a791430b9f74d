#include "trainer/model/json_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

// Tokenizers of 256k tokens are about 35 MB.
#define JSON_SIZE_MAX ((size_t)256 << 20)

enum rmj_status rmj_json_file_read(const char *directory, const char *name, json_t **root, struct rmj_error *err)
{
    enum rmj_status status = RMJ_OK;
    struct rmj_buf text;
    rmj_buf_init(&text, JSON_SIZE_MAX);
    *root = NULL;
    char *path = rmj_fs_join(directory, name);
    if (path == NULL) {
        return rmj_fail(err, RMJ_NO_MEMORY, "no memory for a path");
    }
    RMJ_GO(rmj_fs_read(path, &text, err));
    json_error_t where;
    *root = json_loadb(rmj_buf_text(&text), text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (*root == NULL) {
        status = rmj_fail(err, RMJ_DATA, "%s:%d:%d: not JSON: %s", path, where.line, where.column, where.text);
    } else if (!json_is_object(*root)) {
        status = rmj_fail(err, RMJ_DATA, "%s:1:1: not a JSON object", path);
        json_decref(*root);
        *root = NULL;
    }
out:
    rmj_buf_deinit(&text);
    free(path);
    return status;
}

enum rmj_status rmj_json_write(const char *directory, const char *name, const json_t *root, struct rmj_error *err)
{
    char *path = rmj_fs_join(directory, name);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    enum rmj_status status = path != NULL && text != NULL ? rmj_fs_write(path, text, strlen(text), 0644, err)
                                                          : rmj_fail(err, RMJ_NO_MEMORY, "no memory for %s", name);
    free(text);
    free(path);
    return status;
}
