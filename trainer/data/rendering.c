#include "trainer/data/rendering.h"

#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/text.h"
#include "trainer/jinja/jinja.h"

static int given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static enum rmj_status read_template(struct rmj_rendering *rendering, const char *path, struct rmj_error *err)
{
    struct rmj_buf *text = &rendering->text;
    if (strncmp(path, "s3://", 5) == 0) {
        return rmj_fail(err, RMJ_INVALID,
                        "%s: a chat template is read from a local file; s3:// comes with a later version", path);
    }
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return rmj_fail(err, RMJ_DATA, "%s: not a file", path);
    }
    RMJ_TRY(rmj_fs_read(path, text, err));
    size_t valid = rmj_text_utf8_valid(rmj_buf_text(text), text->size);
    if (valid < text->size) {
        return rmj_fail(err, RMJ_DATA, "%s: byte %zu is not UTF-8: save the file as UTF-8", path, valid + 1);
    }
    if (text->size == 0 || strlen(rmj_buf_text(text)) != text->size) {
        return rmj_fail(err, RMJ_DATA, "%s: %s", path,
                        text->size == 0 ? "the file is empty" : "the file holds a NUL byte");
    }
    return RMJ_OK;
}

enum rmj_status rmj_rendering_open(struct rmj_rendering *rendering, const Rmjob__V1__JobSpec *spec,
                                   const struct rmj_model_config *config, const char **field, struct rmj_error *err)
{
    const Rmjob__V1__DataSpec *data = spec->data;
    int other = data != NULL && given(data->tokenizer), own_template = data != NULL && given(data->chat_template);
    const char *at = other ? "data.tokenizer" : "base_model";
    enum rmj_status status = RMJ_OK;
    *rendering = (struct rmj_rendering){.directory = other ? data->tokenizer : spec->base_model};
    rmj_buf_init(&rendering->text, RMJ_JINJA_SOURCE_SIZE_MAX);
    if (other && strncmp(rendering->directory, "s3://", 5) == 0) {
        status = rmj_fail(err, RMJ_INVALID,
                          "%s: a tokenizer is read from a local directory; s3:// comes with a later version",
                          rendering->directory);
        goto out;
    }
    RMJ_GO(rmj_tokenizer_open(&rendering->tokenizer, rendering->directory, err));
    if (own_template) {
        at = "data.chat_template";
        RMJ_GO(read_template(rendering, data->chat_template, err));
    }
    struct rmj_renderer_options options = {
        .tokenizer = rendering->tokenizer,
        .config = config,
        .directory = rendering->directory,
        .template_text = own_template ? rmj_buf_text(&rendering->text) : NULL,
        .template_name = own_template ? data->chat_template : NULL,
        .date = data != NULL && given(data->template_date) ? data->template_date : NULL,
        .field = &at,
    };
    RMJ_GO(rmj_renderer_init(&rendering->renderer, &options, err));
out:
    if (status != RMJ_OK) {
        rmj_rendering_close(rendering);
        if (field != NULL) {
            *field = other && strcmp(at, "base_model") == 0 ? "data.tokenizer" : at;
        }
    }
    return status;
}

void rmj_rendering_close(struct rmj_rendering *rendering)
{
    rmj_renderer_deinit(&rendering->renderer);
    rmj_tokenizer_close(rendering->tokenizer);
    rmj_buf_deinit(&rendering->text);
    *rendering = (struct rmj_rendering){0};
}
