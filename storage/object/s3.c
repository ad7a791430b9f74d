#include "storage/object/store_internal.h"

enum rmj_status store_s3_open(struct rmj_store **store, const char *bucket_and_prefix, int writable,
                              const struct rmj_store_options *options, struct rmj_error *err)
{
    (void)store;
    (void)writable;
    (void)options;
    return rmj_fail(err, RMJ_UNREACHABLE, "cannot reach s3://%s", bucket_and_prefix);
}
