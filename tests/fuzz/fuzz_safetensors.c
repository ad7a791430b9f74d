// A weight file of any bytes: its tensors tile what follows the header and can be read, or there is a message.
#include "tests/fuzz/fuzz.h"
#include "trainer/model/safetensors.h"

static void read_tensor(const struct rmj_safetensors *file, const struct rmj_safetensor *tensor)
{
    // Exactly as large as needed, so that a write past the end is seen.
    double *wide = malloc(tensor->element_count * sizeof *wide + 1);
    float *narrow = malloc(tensor->element_count * sizeof *narrow + 1);
    struct rmj_error err = {0};
    RMJ_ASSERT(wide != NULL && narrow != NULL);
    if (tensor->dtype != RMJ_DTYPE_OTHER) {
        enum rmj_status status = rmj_safetensors_read_double(file, tensor, wide, &err);
        RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
        if (tensor->dtype != RMJ_DTYPE_F64) {
            RMJ_ASSERT(rmj_safetensors_read(file, tensor, narrow, &err) == status);
            for (uint64_t i = 0; status == RMJ_OK && i < tensor->element_count; i++) {
                RMJ_ASSERT((double)narrow[i] == wide[i]);
            }
        }
    }
    free(wide);
    free(narrow);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char path[FUZZ_PATH_SIZE];
    struct rmj_safetensors file;
    struct rmj_error err = {0};
    int fd = fuzz_file(bytes, size, path);
    enum rmj_status status = rmj_safetensors_open(&file, path, &err);
    if (status == RMJ_OK) {
        uint64_t at = 0;
        for (size_t i = 0; i < file.tensor_count; i++) {
            const struct rmj_safetensor *tensor = &file.tensors[i];
            RMJ_ASSERT(tensor->begin == at && tensor->end >= at);
            RMJ_ASSERT(rmj_safetensors_find(&file, tensor->name) == tensor);
            at = tensor->end;
            read_tensor(&file, tensor);
        }
        RMJ_ASSERT(file.data_offset + at == size);
        rmj_safetensors_close(&file);
    } else {
        RMJ_ASSERT(status == RMJ_DATA && err.message[0] != '\0');
    }
    close(fd);
    return 0;
}
