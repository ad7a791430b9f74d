// Checkpoints: pages named by content, and one manifest, written last and conditionally, that makes a step visible.
//
//   <prefix>/page/<sha256 of the raw page>          encoded page (byte planes, zstd chunks)
//   <prefix>/state/<sha256>                         the trainer's small replicated state
//   <prefix>/manifest/<step, 8 digits>.json         the commit
//
// A page is named bytes: a list of sections, of which the float32 ones are split into byte planes before compression.
// What the numbers mean is not known here. Read storage/checkpoint/README.md for the layout of an encoded page.
#ifndef RMJ_STORAGE_CHECKPOINT_CHECKPOINT_H
#define RMJ_STORAGE_CHECKPOINT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "storage/digest.h"
#include "storage/object/store.h"

#define RMJ_PAGE_SECTION_COUNT_MAX 4

// One section of a page's raw bytes, in order.
struct rmj_page_section {
    const void *bytes;
    size_t size;
    int is_float32; // size is then a multiple of 4
};

// Digest of the raw (concatenated) bytes.
void rmj_page_digest(const struct rmj_page_section *sections, size_t count, struct rmj_digest *digest);
// Appends the encoded page to `out`. level: zstd's. Threads: any.
RMJ_MUST_USE enum rmj_status rmj_page_encode(const struct rmj_page_section *sections, size_t count, int level,
                                             struct rmj_buf *out, struct rmj_error *err);
// Decodes into the raw bytes (`raw_size` of them, exactly) and checks them against `digest`. RMJ_CORRUPT when anything
// is off; never reads or writes past its buffers, whatever the input.
RMJ_MUST_USE enum rmj_status rmj_page_decode(const void *encoded, size_t encoded_size, void *raw, size_t raw_size,
                                             const struct rmj_digest *digest, struct rmj_error *err);

// A page that is there already but older than this is made young again when it is put, so that it is safe from a
// collection under way until the manifest that names it is committed.
#define RMJ_PAGE_REFRESH_AGE_MS (15 * 60 * 1000)
// Uploads a page unless the store has it whole already: its size and header are looked at, and a damaged one is
// replaced. *stored_size: bytes of the object; *sent: 1 when it went up.
RMJ_MUST_USE enum rmj_status rmj_page_put(struct rmj_store *store, const char *prefix,
                                          const struct rmj_page_section *sections, size_t count,
                                          const struct rmj_digest *digest, uint64_t *stored_size, int *sent,
                                          struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_page_get(struct rmj_store *store, const char *prefix, const struct rmj_digest *digest,
                                          void *raw, size_t raw_size, struct rmj_error *err);

struct rmj_manifest_page {
    struct rmj_digest digest; // of the raw bytes
    uint64_t raw_size;
};

// Every field is deterministic: two committers of one step write the same bytes or there is a determinism violation.
struct rmj_manifest {
    char job_uid[64];
    char plan[RMJ_DIGEST_HEX_SIZE];
    char spec[RMJ_DIGEST_HEX_SIZE];
    uint32_t step;                          // optimizer steps done
    uint64_t pairs_consumed;                // data cursor
    char consumed_sum[RMJ_DIGEST_HEX_SIZE]; // proof, as in ConsumedProof
    char consumed_chain[RMJ_DIGEST_HEX_SIZE];
    struct rmj_digest state; // replicated trainer state, object state/<hex>
    uint64_t state_size;
    size_t page_count;
    struct rmj_manifest_page *pages; // by page number; owned by the manifest
};

void rmj_manifest_deinit(struct rmj_manifest *manifest);
// Canonical JSON: sorted keys, no spaces that vary.
RMJ_MUST_USE enum rmj_status rmj_manifest_encode(const struct rmj_manifest *manifest, struct rmj_buf *out,
                                                 struct rmj_error *err);
// RMJ_CORRUPT with the reason.
RMJ_MUST_USE enum rmj_status rmj_manifest_decode(struct rmj_manifest *manifest, const char *bytes, size_t size,
                                                 struct rmj_error *err);
// Writes it with If-None-Match. An equal one that is there already is success; a different one is RMJ_CONFLICT and
// names the first field or page that differs: a determinism violation. *digest: of the manifest's bytes.
RMJ_MUST_USE enum rmj_status rmj_manifest_commit(struct rmj_store *store, const char *prefix,
                                                 const struct rmj_manifest *manifest, struct rmj_digest *digest,
                                                 struct rmj_error *err);
RMJ_MUST_USE enum rmj_status rmj_manifest_read(struct rmj_store *store, const char *prefix, uint32_t step,
                                               struct rmj_manifest *manifest, struct rmj_digest *digest,
                                               struct rmj_error *err);
// Steps of committed manifests, ascending; free() *steps.
RMJ_MUST_USE enum rmj_status rmj_manifest_list(struct rmj_store *store, const char *prefix, uint32_t **steps,
                                               size_t *count, struct rmj_error *err);
// Deletes manifests but the newest `keep`, then pages and states that no manifest left names and that are older than
// grace_ms. Nothing is deleted when a kept manifest cannot be read: what it names is not known then. Never called by
// ranks. While ranks write below this prefix, grace_ms must exceed RMJ_PAGE_REFRESH_AGE_MS by the time a checkpoint
// takes from its first page to its manifest. *removed: objects deleted.
RMJ_MUST_USE enum rmj_status rmj_checkpoint_collect(struct rmj_store *store, const char *prefix, uint32_t keep,
                                                    int64_t grace_ms, uint64_t *removed, struct rmj_error *err);

#endif
