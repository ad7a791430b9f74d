#include "trainer/data/lineage.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"

#define LINEAGE_SIZE_MAX ((size_t)64 << 20)

static int has_file(const json_t *files, const char *sha256)
{
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file)
    {
        const char *known = json_string_value(json_object_get(file, "sha256"));
        if (known != NULL && sha256 != NULL && strcmp(known, sha256) == 0) {
            return 1;
        }
    }
    return 0;
}

static void compare(const json_t *root, const char *path, const Rmjob__V1__DataReport *data, const char *pairs_sum,
                    struct rmj_findings *findings)
{
    const json_t *report = json_object_get(root, "report");
    const json_t *files = json_object_get(json_object_get(report, "data"), "files");
    const char *sum = json_string_value(json_object_get(json_object_get(report, "plan"), "pairs_sum"));
    if (!json_is_array(files) || sum == NULL) {
        rmj_findings_error(findings, "base_model", RMJ_EXIT_DATA,
                           "%s does not say what the model was trained on: take the directory as it was pulled", path);
        return;
    }
    size_t before = findings->error_count;
    for (size_t i = 0; i < data->n_files; i++) {
        if (has_file(files, data->files[i]->sha256)) {
            rmj_findings_error(findings, "data.train", RMJ_EXIT_DATA,
                               "%s: the base model was trained on this very file already (%s); reward models are "
                               "trained for exactly one epoch",
                               data->files[i]->path, path);
        }
    }
    if (findings->error_count == before && pairs_sum != NULL && strcmp(sum, pairs_sum) == 0) {
        rmj_findings_error(findings, "data.train", RMJ_EXIT_DATA,
                           "the base model was trained on the same pairs already (%s); reward models are trained for "
                           "exactly one epoch",
                           path);
    }
}

void rmj_lineage_check(const char *directory, const Rmjob__V1__DataReport *data, const char *pairs_sum,
                       struct rmj_findings *findings)
{
    char *path = rmj_fs_join(directory, "rmjob.json");
    struct rmj_buf text;
    rmj_buf_init(&text, LINEAGE_SIZE_MAX);
    struct rmj_error err = {0};
    if (rmj_fs_exists(path)) {
        json_error_t error;
        json_t *root = NULL;
        if (rmj_fs_read(path, &text, &err) != RMJ_OK) {
            rmj_findings_error(findings, "base_model", RMJ_EXIT_DATA, "%s", err.message);
        } else if ((root = json_loadb(rmj_buf_text(&text), text.size, 0, &error)) == NULL) {
            rmj_findings_error(findings, "base_model", RMJ_EXIT_DATA, "%s:%d:%d: %s", path, error.line, error.column,
                               error.text);
        } else {
            compare(root, path, data, pairs_sum, findings);
        }
        json_decref(root);
    }
    rmj_buf_deinit(&text);
    free(path);
}
