// Which pairs were accepted already: by the key of their content, over a spool. Sixteen bytes a pair at most; the keys
// themselves are looked up in the spool when their hashes are equal.
#ifndef RMJ_TRAINER_DATA_SEEN_H
#define RMJ_TRAINER_DATA_SEEN_H

#include <stdint.h>

#include "trainer/data/spool.h"

struct rmj_seen {
    uint64_t *places; // open addressing: hash's upper half, pair number + 1; 0 is empty
    uint64_t size;    // a power of two
};
void rmj_seen_init(struct rmj_seen *seen);
void rmj_seen_deinit(struct rmj_seen *seen);
// Number + 1 of the pair with this key, 0 for none.
RMJ_MUST_USE enum rmj_status rmj_seen_find(const struct rmj_seen *seen, struct rmj_spool *spool,
                                           const uint8_t key[RMJ_DIGEST_SIZE], uint32_t *found, struct rmj_error *err);
// The spool's last pair. RMJ_NO_MEMORY when the table cannot grow.
RMJ_MUST_USE enum rmj_status rmj_seen_add(struct rmj_seen *seen, struct rmj_spool *spool,
                                          const uint8_t key[RMJ_DIGEST_SIZE], struct rmj_error *err);
// All pairs of a spool, after it was resumed.
RMJ_MUST_USE enum rmj_status rmj_seen_fill(struct rmj_seen *seen, struct rmj_spool *spool, struct rmj_error *err);

#endif
