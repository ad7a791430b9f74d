// Artifacts: a directory of files with one root digest and one signature (OpenSSF Model Signing), staged while it is
// judged and published by one write.
//
//   staged:     <store>/staged/<job>/<attempt>/<path>...
//   published:  <store>/models/<name>/<version>/<path>...   and then, last, models/<name>/<version>.json
#ifndef RMJ_STORAGE_ARTIFACT_ARTIFACT_H
#define RMJ_STORAGE_ARTIFACT_ARTIFACT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "storage/digest.h"
#include "storage/object/store.h"

struct rmj_artifact_file {
    char *path; // POSIX, relative
    uint64_t size;
    struct rmj_digest digest;
};

// Sorted by path components, as the public signer sorts.
struct rmj_artifact {
    struct rmj_artifact_file *files;
    size_t file_count;
};

void rmj_artifact_deinit(struct rmj_artifact *artifact);
// Adds a file (copies path) at its place. RMJ_CONFLICT when the path is there already.
RMJ_MUST_USE enum rmj_status rmj_artifact_add(struct rmj_artifact *artifact, const char *path, uint64_t size,
                                              const struct rmj_digest *digest, struct rmj_error *err);
// Hashes every file below `directory` except model.sig.
RMJ_MUST_USE enum rmj_status rmj_artifact_scan(struct rmj_artifact *artifact, const char *directory,
                                               struct rmj_error *err);
// SHA-256 over the raw file digests in order: the signature's subject.
void rmj_artifact_root(const struct rmj_artifact *artifact, struct rmj_digest *root);

struct rmj_signing_key;
// Reads an EC P-256 key from a PEM file, or makes one (mode 0600) when the file is absent and `create`.
RMJ_MUST_USE enum rmj_status rmj_signing_key_open(struct rmj_signing_key **key, const char *path, int create,
                                                  struct rmj_error *err);
void rmj_signing_key_close(struct rmj_signing_key *key);
// Public half as PEM (SubjectPublicKeyInfo).
RMJ_MUST_USE enum rmj_status rmj_signing_key_public_pem(const struct rmj_signing_key *key, struct rmj_buf *out,
                                                        struct rmj_error *err);
// Appends the bytes of model.sig.
RMJ_MUST_USE enum rmj_status rmj_artifact_sign(const struct rmj_artifact *artifact, const char *subject_name,
                                               const struct rmj_signing_key *key, struct rmj_buf *out,
                                               struct rmj_error *err);
// Checks directory/model.sig with the public key `pem`: signature, every listed file, no unlisted file. RMJ_CORRUPT
// names the first file or part that does not hold; RMJ_DENIED for a signature by another key.
RMJ_MUST_USE enum rmj_status rmj_artifact_verify(const char *directory, const char *pem, struct rmj_error *err);

// Uploads the files of a directory below prefix. The artifact must be a scan of that directory.
RMJ_MUST_USE enum rmj_status rmj_artifact_upload(struct rmj_store *store, const char *prefix, const char *directory,
                                                 const struct rmj_artifact *artifact, struct rmj_error *err);
// Downloads into `directory`, which must be absent or empty, by way of a temporary neighbour that is renamed when every
// digest held: whole or absent. RMJ_CORRUPT names the file that did not match. With a public key `pem` the prefix's
// model.sig comes too and must verify before the rename; NULL for a staged artifact, which has none yet.
RMJ_MUST_USE enum rmj_status rmj_artifact_download(struct rmj_store *store, const char *prefix,
                                                   const struct rmj_artifact *artifact, const char *directory,
                                                   const char *pem, struct rmj_error *err);

#endif
