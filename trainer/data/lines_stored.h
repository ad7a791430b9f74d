// The bytes of a file as they are stored, unpacked piece by piece, with their digest.
#ifndef RMJ_TRAINER_DATA_LINES_STORED_H
#define RMJ_TRAINER_DATA_LINES_STORED_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "storage/digest.h"

struct rmj_stored {
    char *plain; // unpacked bytes [plain_at, plain_count)
    size_t plain_at, plain_count;
    struct rmj_unpacker *unpacker;
};

// fd stays the caller's. name: by whose ending (.gz, .zst) it is unpacked.
RMJ_MUST_USE enum rmj_status rmj_stored_init(struct rmj_stored *stored, int fd, const char *name,
                                             struct rmj_error *err);
void rmj_stored_deinit(struct rmj_stored *stored);
// The next piece; plain_count 0 afterwards means the end. RMJ_DATA for a broken or cut-off compressed stream.
RMJ_MUST_USE enum rmj_status rmj_stored_refill(struct rmj_stored *stored, struct rmj_error *err);
// After the end: SHA-256 of the file's bytes as stored.
void rmj_stored_digest(struct rmj_stored *stored, struct rmj_digest *digest);

#endif
