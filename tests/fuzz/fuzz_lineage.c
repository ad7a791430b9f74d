// rmjob-pairs.bin of any bytes: refused, or a set in which each of its ids is found.
#include "tests/fuzz/fuzz.h"
#include "trainer/data/lineage.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *directory;
    directory = directory != NULL ? directory : fuzz_directory();
    struct rmj_lineage lineage;
    struct rmj_error err = {0};
    fuzz_write(directory, RMJ_LINEAGE_FILE, bytes, size);
    enum rmj_status status = rmj_lineage_open(&lineage, directory, &err);
    RMJ_ASSERT(status == RMJ_OK || (status == RMJ_DATA && err.message[0] != '\0'));
    for (uint64_t i = 0; status == RMJ_OK && i < lineage.count; i++) {
        RMJ_ASSERT(rmj_lineage_has(&lineage, lineage.ids[i]));
        RMJ_ASSERT(i == 0 || lineage.ids[i] > lineage.ids[i - 1]);
    }
    rmj_lineage_deinit(&lineage);
    return 0;
}
